"""Which crops, masks and photographs the filter lets through, and what it says of the others."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from tadisr.data_synthesis.judging.rules import (
    EMPTY_MASK,
    FULL_MASK,
    LABEL_DIFFERS,
    MASK_DIFFERS,
    SMALL_CHARACTERS,
    TEXT_IN_BACKGROUND,
    UNREADABLE,
    FilterConfig,
    filter_crop,
    judge_background,
    judge_mask,
    judge_reading,
    judge_size,
    mask_image,
)
from tadisr.ocr import Reading, TextLine, load_engine

CONFIG = FilterConfig()


class CountingEngine:
    """The real engine, and how many images it was given to read."""

    def __init__(self):
        self._engine = load_engine("rapidocr", cores=1)
        self.read_count = 0

    def read(self, lines):
        self.read_count += len(lines)
        return self._engine.read(lines)

    def find(self, image):
        return self._engine.find(image)


class Speller:
    """Reads the pixel at the top left: its red value is an index into `texts`."""

    def __init__(self, *texts):
        self.texts = texts

    def read(self, lines):
        return [Reading(self.texts[line[0, 0, 0]], 1.0) for line in lines]


@pytest.fixture(scope="module")
def engine():
    return CountingEngine()


def text_mask(text: str, size: int = 40) -> np.ndarray:
    """Anti-aliased text on a (h, w) uint8 mask, 6 pixels from its borders."""
    font = ImageFont.load_default(size)
    width, height = font.getbbox(text, anchor="lt")[2:]
    image = Image.new("L", (width + 12, height + 12))
    ImageDraw.Draw(image).text((6, 6), text, fill=255, font=font, anchor="lt")
    return np.asarray(image)


def on_photo(mask: np.ndarray, color: tuple = (250, 250, 240), dim: float = 0.35) -> np.ndarray:
    """The text of a mask on a darkened photograph, uint8 RGB."""
    photo = data.chelsea()[20 : 20 + mask.shape[0], 30 : 30 + mask.shape[1]] * dim
    alpha = mask[..., None] / 255
    return (photo * (1 - alpha) + np.array(color) * alpha).astype(np.uint8)


def filter_spelled(
    speller: Speller, i: int, j: int, shape: tuple = (20, 100), label: str | None = None, config: FilterConfig = CONFIG
) -> str | None:
    """`filter_crop` of a crop in whose image and mask `speller` reads its texts i and j."""
    mask = np.zeros(shape, np.uint8)
    mask[5:10] = 255
    mask[0, 0] = 255 - j  # read on the negative
    return filter_crop(np.full((*shape, 3), i, np.uint8), mask, label, speller, config)


# The decisions alone.


@pytest.mark.parametrize(
    ("share", "reason"), [(0, EMPTY_MASK), (0.009, EMPTY_MASK), (0.02, None), (0.59, None), (0.61, FULL_MASK)]
)
def test_masks_are_judged_by_what_they_cover(share, reason):
    mask = np.zeros((20, 50), np.uint8)
    mask.flat[: round(share * 1000)] = 255
    assert judge_mask(mask, CONFIG) == reason
    soft = np.full((20, 50), round(share * 255), np.uint8)  # gray counts by its value
    assert judge_mask(soft, CONFIG) == reason


def test_size_is_the_long_edge_per_character():
    assert judge_size((20, 80, 3), "abcde", CONFIG) is None  # 16 each
    assert judge_size((20, 79, 3), "abcde", CONFIG) == SMALL_CHARACTERS
    assert judge_size((80, 20), "a b c d e", CONFIG) is None  # vertical; spaces are no characters
    assert judge_size((79, 20), "abcde", FilterConfig(min_edge_per_character=15)) is None


@pytest.mark.parametrize(
    ("image", "mask", "label", "reason"),
    [
        ("Exit 2047", "exit2047", None, None),
        ("Exit 2047", "Exit 2047", "EXIT 2047", None),
        ("", "Exit", None, UNREADABLE),
        (" ", " ", None, UNREADABLE),  # two blanks agree, and show nothing
        ("Exit 2047", "Exit 20", None, MASK_DIFFERS),
        ("Exit 2047", "", None, MASK_DIFFERS),
        ("Exit 2047", "Exit 2047", "Exlt 2041", LABEL_DIFFERS),
        ("Exit 2047", "Exit 2047", "", LABEL_DIFFERS),
        ("二等座", "二等庄", None, MASK_DIFFERS),
    ],
)
def test_readings_are_compared(image, mask, label, reason):
    assert judge_reading(image, mask, label, CONFIG) == reason


def test_agreement_has_its_own_threshold_for_labels():
    loose = FilterConfig(min_agreement=0.5, min_label_agreement=1)
    assert judge_reading("abcdefgh", "abcdef", "abcdef", loose) is None
    assert judge_reading("abcdefgh", "abcdefgh", "abcdef", loose) == LABEL_DIFFERS


def test_masks_are_read_dark_on_white():
    mask = np.uint8([[0, 255, 100]])
    np.testing.assert_array_equal(mask_image(mask), np.repeat(np.uint8([[255, 0, 155]])[..., None], 3, axis=2))


def quad(width, height):
    return np.float32([[5, 5], [5 + width, 5], [5 + width, 5 + height], [5, 5 + height]])


@pytest.mark.parametrize(
    ("lines", "area", "reason"),
    [
        ([], 0, None),
        ([TextLine("exit", quad(40, 10), 0.9)], 0, TEXT_IN_BACKGROUND),
        ([TextLine("exit", quad(40, 10), 0.5)], 0, None),  # unsure
        ([TextLine("8 ", quad(90, 90), 0.98)], 0, None),  # one letter
        ([TextLine("exit", quad(40, 10), 0.9)], 0.05, None),  # 4 % of the photograph
        ([TextLine("exit", quad(40, 10), 0.9)] * 2, 0.05, TEXT_IN_BACKGROUND),  # 8 % together
    ],
)
def test_backgrounds_are_judged_by_the_text_that_can_be_read(lines, area, reason):
    assert judge_background(lines, (50, 200, 3), FilterConfig(background_area=area)) == reason


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_agreement": 1.1}, "min_agreement must be between 0 and 1, not 1.1"),
        ({"min_label_agreement": -0.1}, "min_label_agreement must be between 0 and 1"),
        ({"min_coverage": -1}, "min_coverage must be between 0 and 1"),
        ({"max_coverage": 2}, "max_coverage must be between 0 and 1"),
        ({"background_score": 60}, "background_score must be between 0 and 1"),
        ({"background_area": -1}, "background_area must be between 0 and 1"),
        ({"min_coverage": 0.7}, "min_coverage must be below max_coverage, not 0.7 and 0.6"),
        ({"min_edge_per_character": -1}, "min_edge_per_character must be at least 0"),
        ({"background_characters": 0}, "background_characters at least 1, not 16.0 and 0"),
        ({"small": "keep"}, "small must be one of drop, enhance, not 'keep'"),
    ],
)
def test_impossible_thresholds_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        FilterConfig(**wrong)


# What happens to crops.


@pytest.mark.parametrize(
    ("image", "mask", "label", "reason"),
    [
        (0, 0, None, None),
        (0, 1, None, MASK_DIFFERS),
        (2, 0, None, UNREADABLE),
        (1, 1, "exit", LABEL_DIFFERS),
    ],
)
def test_crops_are_read_and_judged(image, mask, label, reason):
    assert filter_spelled(Speller("exit", "exlt", ""), image, mask, label=label) == reason


@pytest.mark.parametrize("small", ["drop", "enhance"])
@pytest.mark.parametrize("label", [None, "a longer text"])
def test_small_crops_are_dropped_or_kept_to_be_enhanced(small, label):
    speller, config = Speller("a longer text", "nothing"), FilterConfig(small=small)
    assert filter_spelled(speller, 0, 0, (20, 100), label, config) == (SMALL_CHARACTERS if small == "drop" else None)
    reason = SMALL_CHARACTERS if small == "drop" and label else MASK_DIFFERS
    assert filter_spelled(speller, 0, 1, (20, 100), label, config) == reason
    assert filter_spelled(speller, 0, 0, (20, 400), label, config) is None


def test_a_label_knows_how_many_characters_there_are():
    speller = Speller("abcdefgh")  # one character more than the label has
    assert filter_spelled(speller, 0, 0, (20, 16 * 7), "abcdefg") is None
    assert filter_spelled(speller, 0, 0, (20, 16 * 7), None) == SMALL_CHARACTERS


def test_nothing_is_read_in_vain(engine):
    mask = text_mask("Exit 2047")
    image = on_photo(mask)
    engine.read_count = 0
    for other, label, reason in (
        (np.zeros_like(mask), None, EMPTY_MASK),
        (np.full_like(mask, 255), None, FULL_MASK),
        (mask, "far too many characters for an image as small as this one", SMALL_CHARACTERS),
    ):
        assert filter_crop(image, other, label, engine, CONFIG) == reason
    assert engine.read_count == 0
    filter_crop(image, mask, None, engine, CONFIG)
    assert engine.read_count == 2


@pytest.mark.parametrize("text", ["Exit 2047", "North gate", "PLATFORM 9"])
def test_exact_masks_pass_and_broken_ones_do_not(engine, text):
    mask = text_mask(text)
    image = on_photo(mask)
    assert filter_crop(image, mask, text, engine, CONFIG) is None
    assert filter_crop(image, mask, "Way out", engine, CONFIG) == LABEL_DIFFERS
    lost, upper = mask.copy(), mask.copy()
    lost[:, mask.shape[1] // 2 :] = 0  # the second half of the line
    upper[mask.shape[0] // 2 :] = 0  # every letter's lower half
    for broken in (lost, upper):
        assert filter_crop(image, broken, None, engine, CONFIG) == MASK_DIFFERS


def test_vertical_crops_are_turned(engine):
    """A line that runs down the page, turned by a quarter, is read as the level line that it is."""
    mask = text_mask("Exit 2047")
    image, mask = np.rot90(on_photo(mask), -1), np.rot90(mask, -1)
    assert filter_crop(image, mask, "Exit 2047", engine, CONFIG) is None


def test_images_without_text_are_unreadable(engine):
    mask = text_mask("Exit 2047")
    smooth = np.full((*mask.shape, 3), 120, np.uint8)
    assert filter_crop(smooth, mask, None, engine, CONFIG) == UNREADABLE


# Photographs.


def test_photographs_with_text_are_dropped(engine):
    photo = data.coffee()[:, :400]
    assert judge_background(engine.find(photo), photo.shape, CONFIG) is None
    image = Image.fromarray(photo)
    ImageDraw.Draw(image).text((120, 60), "OPEN 24 HOURS", fill="white", font=ImageFont.load_default(28))
    assert judge_background(engine.find(np.asarray(image)), np.asarray(image).shape, CONFIG) == TEXT_IN_BACKGROUND
