"""Which crops, masks and photographs the filter lets through, and what it says of the others."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
    Crop,
    FilterConfig,
    Verdict,
    agreement,
    filter_background,
    filter_crops,
    judge_background,
    judge_mask,
    judge_reading,
    judge_size,
    mask_image,
    normalize,
)
from tadisr.ocr import Reading, TextLine, load_engine

CONFIG = FilterConfig()


class CountingEngine:
    """The real engine, and how many images it was given to read."""

    def __init__(self):
        self._engine = load_engine("rapidocr", threads=1)
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


def spelled(i: int, j: int, shape: tuple = (20, 100), label: str | None = None) -> Crop:
    """A crop whose image and mask make `Speller` read its texts i and j."""
    mask = np.zeros(shape, np.uint8)
    mask[5:10] = 255
    mask[0, 0] = 255 - j  # read on the negative
    image = np.full((*shape, 3), i, np.uint8)
    return Crop(image, mask, label)


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


@given(st.text(), st.text())
@settings(deadline=None, max_examples=60)
def test_agreement_ignores_case_width_and_spaces(one, other):
    assert agreement(one, other) == agreement(other, one)
    assert 0 <= agreement(one, other) <= 1
    assert agreement(one, f" {one}　") == 1
    assert not any(c.isspace() for c in normalize(one))


def test_normalised_text():
    assert normalize("Ｅxit　１2 ：") == "exit12:"
    assert agreement("ＥＸＩＴ １２", "exit12") == 1
    assert agreement("二等座", "二等庄") == pytest.approx(2 / 3)


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


def test_crops_are_judged_in_order():
    speller = Speller("exit", "exlt", "")
    empty = Crop(np.zeros((20, 100, 3), np.uint8), np.zeros((20, 100), np.uint8))
    crops = [spelled(0, 0), empty, spelled(0, 1), spelled(2, 0), spelled(1, 1, label="exit"), spelled(0, 0)]
    verdicts = filter_crops(crops, speller, CONFIG)
    assert verdicts == [
        Verdict("keep", None, "exit", "exit"),
        Verdict("drop", EMPTY_MASK),
        Verdict("drop", MASK_DIFFERS, "exit", "exlt"),
        Verdict("drop", UNREADABLE, "", "exit"),
        Verdict("drop", LABEL_DIFFERS, "exlt", "exlt"),
        Verdict("keep", None, "exit", "exit"),
    ]
    assert Counter(verdict.reason for verdict in verdicts)[None] == 2
    assert filter_crops([], speller, CONFIG) == []


@pytest.mark.parametrize("small", ["drop", "enhance"])
@pytest.mark.parametrize("label", [None, "a longer text"])
def test_small_crops_are_dropped_or_enhanced(small, label):
    speller = Speller("a longer text", "nothing")
    config = FilterConfig(small=small)
    crops = [spelled(0, 0, (20, 100), label), spelled(0, 1, (20, 100), label), spelled(0, 0, (20, 400), label)]
    verdicts = filter_crops(crops, speller, config)
    assert verdicts[0][:2] == (small, SMALL_CHARACTERS)
    assert verdicts[1][:2] == ("drop", SMALL_CHARACTERS if small == "drop" and label else MASK_DIFFERS)
    assert verdicts[2][:2] == ("keep", None)


@pytest.mark.parametrize("small", ["drop", "enhance"])
def test_a_label_knows_how_many_characters_there_are(small):
    speller = Speller("abcdefgh")  # one more than the label has
    crops = [spelled(0, 0, (20, 16 * 7), "abcdefg"), spelled(0, 0, (20, 16 * 7))]
    assert [verdict.action for verdict in filter_crops(crops, speller, FilterConfig(small=small))] == ["keep", small]


def test_nothing_is_read_in_vain(engine):
    mask = text_mask("Exit 2047")
    good = Crop(on_photo(mask), mask)
    engine.read_count = 0
    verdicts = filter_crops(
        [
            Crop(good.image, np.zeros_like(mask)),
            Crop(good.image, np.full_like(mask, 255)),
            Crop(good.image, mask, "far too many characters for an image as small as this one"),
        ],
        engine,
        CONFIG,
    )
    assert [verdict.reason for verdict in verdicts] == [EMPTY_MASK, FULL_MASK, SMALL_CHARACTERS]
    assert engine.read_count == 0
    filter_crops([good] * 3, engine, CONFIG)
    assert engine.read_count == 6


def test_exact_masks_pass_and_broken_ones_do_not(engine):
    texts = ["Exit 2047", "North gate", "PLATFORM 9"]
    masks = [text_mask(text) for text in texts]
    broken = []
    for mask in masks:
        lost = mask.copy()
        lost[:, mask.shape[1] // 2 :] = 0  # the second half of the line
        upper = mask.copy()
        upper[mask.shape[0] // 2 :] = 0  # every letter's lower half
        broken += [lost, upper]
    exact = [Crop(on_photo(mask), mask, text) for mask, text in zip(masks, texts, strict=True)]
    for verdict, text in zip(filter_crops(exact, engine, CONFIG), texts, strict=True):
        assert verdict.action == "keep" and agreement(verdict.image_text, text) == 1
    wrong = [Crop(on_photo(masks[i // 2]), mask) for i, mask in enumerate(broken)]
    assert [verdict.reason for verdict in filter_crops(wrong, engine, CONFIG)] == [MASK_DIFFERS] * 6
    other = filter_crops([Crop(exact[0].image, masks[0], "Way out")], engine, CONFIG)
    assert other[0].reason == LABEL_DIFFERS


def test_vertical_crops_are_turned(engine):
    """A line that runs down the page, turned by a quarter, is read as the level line that it is."""
    mask = text_mask("Exit 2047")
    crop = Crop(np.rot90(on_photo(mask), -1), np.rot90(mask, -1))
    (verdict,) = filter_crops([crop], engine, CONFIG)
    assert verdict.action == "keep" and agreement(verdict.image_text, "Exit 2047") == 1


def test_images_without_text_are_unreadable(engine):
    mask = text_mask("Exit 2047")
    smooth = np.full((*mask.shape, 3), 120, np.uint8)
    assert filter_crops([Crop(smooth, mask)], engine, CONFIG)[0].reason == UNREADABLE


@pytest.mark.parametrize("mask", [np.zeros((20, 99), np.uint8), np.zeros((20, 100)), np.zeros((20, 100, 1), np.uint8)])
def test_masks_must_fit_their_images(mask):
    crops = [spelled(0, 0), Crop(np.zeros((20, 100, 3), np.uint8), mask)]
    with pytest.raises(ValueError, match=r"Crop 1: expected a uint8 mask \(20, 100\), got"):
        filter_crops(crops, Speller("exit"), CONFIG)


# Photographs.


def test_photographs_with_text_are_dropped(engine):
    photo = data.coffee()[:, :400]
    assert filter_background(photo, engine, CONFIG) is None
    image = Image.fromarray(photo)
    ImageDraw.Draw(image).text((120, 60), "OPEN 24 HOURS", fill="white", font=ImageFont.load_default(28))
    assert filter_background(np.asarray(image), engine, CONFIG) == TEXT_IN_BACKGROUND
