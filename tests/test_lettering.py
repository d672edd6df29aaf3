"""What a person says that a line reads, drawn as a text mask."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from helpers import tiny
from helpers.tiny_fonts import write_font
from tadisr.lettering import draw_lines

TEXT, SIZE = "Invoice 4711, May 3", (640, 120)


def written(text=TEXT, slant=0.0, angle=0.0, font=None):
    """Sharp strokes (H, W), and the quad around them."""
    font, picture = font or ImageFont.load_default(44), Image.new("L", SIZE)
    middle = (SIZE[0] / 2, SIZE[1] / 2)
    draw = ImageDraw.Draw(picture)
    draw.text(middle, text, fill=255, font=font, anchor="mm")
    left, top, right, bottom = draw.textbbox(middle, text, font=font, anchor="mm")
    turn = cv2.getRotationMatrix2D(middle, angle, 1)
    lean = np.array([[1, -slant, slant * middle[1]], [0, 1, 0], [0, 0, 1]])
    strokes = cv2.warpAffine(np.asarray(picture), turn @ lean, SIZE)
    corners = [(left - 6, top - 8), (right + 9, top - 8), (right + 9, bottom + 6), (left - 6, bottom + 6)]
    return strokes, np.array(corners) @ turn[:, :2].T + turn[:, 2]


def likeness(drawn, strokes):
    return np.corrcoef(drawn[..., 0].ravel(), strokes.ravel())[0, 1]


def paper(strokes):
    """What a photo shows of them: a fourth of the size, dark on light."""
    small = cv2.resize(strokes, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return np.stack([230 - (small * 0.5).astype(np.uint8)] * 3, -1)


NOTHING = np.full((SIZE[1] // 4, SIZE[0] // 4, 3), 255, np.uint8)


@pytest.mark.parametrize(("slant", "angle"), [(0, 0), (0.2, 0), (0, 5), (0.1, -8)])
def test_it_is_drawn_where_the_mask_shows_it(slant, angle):
    strokes, quad = written(slant=slant, angle=angle)
    drawn = draw_lines([(quad, f" {TEXT}\n")], cv2.GaussianBlur(strokes, (0, 0), 3), NOTHING, faces=())
    assert drawn.shape == (*SIZE[::-1], 2) and drawn.dtype == np.uint8
    assert likeness(drawn, strokes) > 0.9
    inside = cv2.fillConvexPoly(np.zeros(SIZE[::-1], np.uint8), np.rint(quad).astype(np.int32), 255)
    assert np.array_equal(drawn[..., 1], inside) and not drawn[inside == 0].any()


@pytest.mark.parametrize("part", [0.0, 0.5])
def test_where_the_mask_shows_too_little_the_photo_says_where(part):
    strokes, quad = written()
    mask = strokes.copy()
    mask[:, int(part * SIZE[0]) :] = 0
    assert likeness(draw_lines([(quad, TEXT)], mask, paper(strokes), faces=()), strokes) > 0.8


def test_the_letters_are_those_that_are_said():
    """Other letters in the place of those that the mask shows."""
    wrong, quad = written("Involce 4777, Mey 8")
    right, _ = written()
    drawn = draw_lines([(quad, TEXT)], wrong, NOTHING, faces=())
    assert likeness(drawn, right) > likeness(wrong[..., None], right) + 0.05


def test_the_nearest_face(tmp_path):
    path = str(write_font(tmp_path / "bars.ttf", "Invoice4711,May3 "))
    for font, faces in ((ImageFont.truetype(path, 30), [path]), (ImageFont.load_default(44), [path])):
        strokes, quad = written(font=font)
        assert likeness(draw_lines([(quad, TEXT)], strokes, NOTHING, faces), strokes) > 0.9


def test_a_line_that_reads_from_below():
    strokes, quad = written()
    turned = np.ascontiguousarray(np.rot90(strokes, -1))  # clockwise; `upright` turns it back
    corners = np.stack([SIZE[1] - 1 - quad[:, 1], quad[:, 0]], 1)
    box = np.roll(corners, 1, axis=0)  # clockwise from the top left of the tall box
    drawn = draw_lines([(box, TEXT)], turned, np.ascontiguousarray(np.rot90(NOTHING)), faces=())
    assert likeness(drawn, turned) > 0.9


def test_several_lines_and_a_pipeline():
    strokes, quad = written()
    mask = np.concatenate([strokes, strokes])
    drawn = draw_lines([(quad, TEXT), (quad + [0, SIZE[1]], TEXT)], mask, np.concatenate([NOTHING] * 2), faces=())
    assert likeness(drawn, mask) > 0.9
    photo, pipe = np.concatenate([paper(strokes)] * 2), tiny.lean(mask_prompt=True)
    without, asserted = (pipe(photo, output_type="np", **given) for given in ({}, {"text_mask": drawn}))
    assert (without.text_masks != asserted.text_masks).any()


@pytest.mark.parametrize(
    ("text", "quad", "message"),
    [
        ("\U000104a0", None, r"No installed font draws '.*': install one that does"),
        (" \n", None, "A line without letters cannot be drawn: leave it out"),
        (TEXT, [[5, 5]] * 4, "The box .* has no area"),
    ],
)
def test_what_cannot_be_drawn(text, quad, message):
    strokes, around = written()
    with pytest.raises(ValueError, match=message) as caught:
        draw_lines([(around if quad is None else quad, text)], strokes, NOTHING, faces=())
    assert "\n" not in str(caught.value)
