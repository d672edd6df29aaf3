"""Pages of text: what the masks cover, where the lines are, what a style may say."""

from functools import cache
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadisr.data_synthesis.backgrounds import procedural
from tadisr.data_synthesis.layouts import LAYOUT_NAMES, PageStyle, write_page
from tadisr.data_synthesis.layouts.camera import bend, finish, take_by_phone, view
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.interface import fringe
from tadisr.data_synthesis.layouts.palette import DARK, WHITE, luma, readable
from tadisr.data_synthesis.layouts.typesetting import Setter
from tadisr.data_synthesis.text.corpus import open_corpus
from tadisr.data_synthesis.text.fonts import Font, Fonts, discover_fonts
from tadisr.data_synthesis.text.render import draw_block

BUILT_IN = Fonts([Font("")])


def rng(seed=0):
    return np.random.default_rng(seed)


@cache
def latin():
    return open_corpus("latin")


def only(layout, **values):
    return PageStyle(**{name: float(name == layout) for name in LAYOUT_NAMES}, **values)


def make_page(layout, size, seed, **values):
    """A page's image, mask and lines."""
    image = procedural(size, rng(seed))
    mask, lines = write_page(image, only(layout, **values), BUILT_IN, [latin()], rng([seed, 1]))
    return image, mask, lines


def setter(canvas, **values):
    return Setter(PageStyle(**values), BUILT_IN, [latin()], rng(), canvas.image)


def blank(h=60, w=200, tone=1.0):
    return Canvas.of(h, w, np.full(3, tone, np.float32))


def region(quad, shape, margin=0):
    """The pixels of a quad, and `margin` pixels around it, as bool."""
    inside = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(inside, np.round(np.asarray(quad) * 16).astype(np.int32), 1, shift=4)
    return cv2.dilate(inside, np.ones((2 * margin + 1,) * 2)) > 0 if margin else inside > 0


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_masks_lie_within_quads_and_quads_hold_ink(layout):
    for seed, size in enumerate([(256, 256), (160, 340), (340, 160), (400, 400)]):
        image, mask, lines = make_page(layout, size, seed)
        assert image.shape == (*size, 3) and mask.shape == size and mask.dtype == np.float32
        assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1
        assert mask.min() >= 0 and mask.max() <= 1
        assert lines
        elsewhere = np.ones(size, bool)
        for line in lines:
            assert set(line) == {"text", "quad", "font"}
            quad = line["quad"]
            assert quad.shape == (4, 2) and (quad >= 0).all() and (quad <= [size[1], size[0]]).all()
            elsewhere &= ~region(quad, size, margin=3)
            if line["text"]:
                assert mask[region(quad, size)].max() > 0.4, line["text"]
        assert mask[elsewhere].max(initial=0) < 0.1


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_text_never_overlaps_text(layout):
    for seed in range(4):
        _, _, lines = make_page(layout, (320, 320), seed)
        quads = [line["quad"] for line in lines if line["text"]]
        for one, other in combinations(quads, 2):
            shared, _ = cv2.intersectConvexConvex(one, other)
            smaller = min(cv2.contourArea(one), cv2.contourArea(other))
            assert shared <= 0.05 * smaller + 1


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_pages_depend_on_their_seed_alone(layout):
    first, again, other = make_page(layout, 160, 3), make_page(layout, 160, 3), make_page(layout, 160, 4)
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all()
    for one, same in zip(first[2], again[2], strict=True):
        assert one["text"] == same["text"] and (one["quad"] == same["quad"]).all()
    assert not (first[0] == other[0]).all()


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_tiny_and_narrow_pages_hold_text_too(layout):
    for seed, size in enumerate([(64, 64), (64, 64), (64, 200), (200, 64)]):
        _, mask, lines = make_page(layout, size, seed)
        assert lines and mask.max() > 0.3


def test_all_layouts_are_drawn_as_often_as_they_weigh(monkeypatch):
    from tadisr.data_synthesis.layouts import page

    seen = []
    for name, layout in page.LAYOUTS.items():
        monkeypatch.setitem(page.LAYOUTS, name, lambda *args, n=name, f=layout: (seen.append(n), f(*args)))
    style = PageStyle(**dict.fromkeys(LAYOUT_NAMES, 0.0) | {"caption": 3.0, "sign": 1.0})
    for seed in range(40):
        write_page(np.full((64, 64, 3), 0.5, np.float32), style, BUILT_IN, [latin()], rng(seed))
    assert set(seen) == {"caption", "sign"} and 20 <= seen.count("caption") <= 38


def test_text_is_seen_on_every_page():
    """Without effects and camera, strokes differ in luma from what surrounds them by about what the style asks."""
    for layout in LAYOUT_NAMES:
        for seed in range(3):
            image, mask, lines = make_page(layout, 300, seed, effects=0.0, finish=0.0)
            for line in lines:
                around = region(line["quad"], mask.shape, margin=2)
                strokes, ground = image[around & (mask > 0.9)], image[around & (mask < 0.01)]
                if len(strokes) > 20 and len(ground) > 20:
                    assert abs(luma(np.median(strokes, 0)) - luma(np.median(ground, 0))) > 0.1, (layout, line["text"])


def test_lines_that_the_border_cuts_have_no_text():
    cut = [line for seed in range(6) for line in make_page("document", 200, seed)[2] if not line["text"]]
    assert cut
    for line in cut:
        (x0, y0), (x1, y1) = line["quad"][0], line["quad"][2]
        assert 0 in (x0, y0) or 200 in (x1, y1)


def test_mounted_canvases_take_their_exact_mask_along():
    """Black on white, seen at an angle: the ink that is on the page is what the mask says."""
    panel, page = blank(), blank(240, 320, tone=0.5)
    assert setter(panel).line(panel, setter(panel).body, 10, 190, 44, 36, np.zeros(3, np.float32), text="Hamburg")
    corners = view((50, 60, 270, 150), rng(5), turn=20, tilt=0.2)
    page.mount(panel, corners)
    inside = cv2.erode(region(corners, page.size).astype(np.uint8), np.ones((5, 5))) > 0
    np.testing.assert_allclose(page.image[inside][:, 0], 1 - page.mask[inside], atol=0.02)
    assert page.mask.max() > 0.95 and not page.mask[~inside].any()
    (line,) = page.lines
    assert line["text"] == "Hamburg"
    assert page.mask[~region(line["quad"], page.size, 2)].max() < 0.1
    assert not page.is_free(corners)


def test_bent_pages_take_their_exact_mask_along():
    sheet = blank(200, 300)
    s = setter(sheet)
    for y in (50, 100, 150):
        assert s.line(sheet, s.body, 20, 280, y, 24, np.zeros(3, np.float32))
    bent = bend(sheet, s, 14.0)
    assert (bent.mask != sheet.mask).any()
    dark = bent.mask > 0.9
    assert bent.image[dark].max() < 0.15  # strokes are where the mask is, whatever the shade of the paper
    assert bent.image[bent.mask < 0.01].min() > 0.5
    held = np.any([region(line["quad"], bent.size, 2) for line in bent.lines], axis=0)
    assert bent.mask[~held].max() < 0.15


def test_what_covers_text_takes_it_out_of_the_mask():
    canvas = blank()
    s = setter(canvas)
    s.line(canvas, s.body, 10, 190, 44, 36, np.zeros(3, np.float32), text="Hamburg")
    assert canvas.mask[:, :90].max() == 1
    canvas.box(0, 0, 90, 60, WHITE)
    assert canvas.mask[:, :90].max() == 0 and canvas.mask[:, 91:].max() == 1
    assert [line["text"] for line in canvas.lines] == [""]
    canvas.polygon(np.float32([[0, 0], [200, 0], [200, 60], [0, 60]]), WHITE, 0.5)
    assert canvas.mask.max() == pytest.approx(0.5, abs=0.01)


def test_text_that_a_panel_cuts_is_not_whole_on_the_page_either():
    panel, page = blank(), blank(100, 240)
    glyphs = draw_block(["Hamburg"], Font(""), 36)
    assert panel.put(glyphs, 20, 10, DARK, Font("")) and panel.put(glyphs, 170, 10, DARK, Font(""))
    assert panel.put(glyphs, -400, 10, DARK, Font("")) is False
    page.mount(panel, np.float32([[10, 10], [210, 10], [210, 70], [10, 70]]))
    assert [line["text"] for line in page.visible_lines()] == ["Hamburg", ""]
    assert page.lines[1]["quad"].max(axis=0)[0] == pytest.approx(210, abs=0.01)


def test_shadows_darken_beside_a_mounted_panel():
    page = blank(100, 100)
    corners = np.float32([[30, 30], [70, 30], [70, 70], [30, 70]])
    page.mount(blank(40, 40), corners, shade=0.5, fall=(6, 6))
    assert page.image[73, 73].max() < 0.8 < page.image[10, 10].min()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(-60, 200), st.integers(-30, 120)), min_size=2, max_size=12))
def test_canvas_refuses_text_upon_text(places):
    canvas, glyphs = blank(120, 200), draw_block(["Words"], Font(""), 30)
    for x, y in places:
        before = canvas.mask.copy()
        if not canvas.put(glyphs, x, y, DARK, Font("")):
            assert (canvas.mask == before).all()
    for one, other in combinations(canvas.lines, 2):
        seen = [line["quad"].clip(0, [200, 120]) for line in (one, other)]
        width, height = np.min([quad.max(0) for quad in seen], 0) - np.max([quad.min(0) for quad in seen], 0)
        assert width <= 0 or height <= 0


@settings(deadline=None, max_examples=50)
@given(st.tuples(*[st.floats(0, 1)] * 3), st.tuples(*[st.floats(0, 1)] * 3), st.floats(0, 0.49))
def test_readable_colours_have_the_contrast_asked_for(color, ground, contrast):
    color, ground = np.float32(color), np.float32(ground)
    made = readable(color, ground, contrast)
    assert abs(luma(made) - luma(ground)) >= contrast - 1e-5
    assert made.min() >= 0 and made.max() <= 1


def test_ink_that_could_not_be_read_is_replaced_and_busy_grounds_get_a_border():
    canvas = blank()
    s = setter(canvas, min_contrast=0.3)
    assert s.line(canvas, s.body, 10, 190, 44, 36, WHITE, text="White")
    assert canvas.image[canvas.mask > 0.95].max() < 0.5
    busy = Canvas((rng().random((60, 200, 1), np.float32) > 0.5).astype(np.float32).repeat(3, axis=2))
    before = busy.image.copy()
    assert s.line(busy, s.body, 10, 190, 44, 36, WHITE, text="Busy")
    beside = (cv2.dilate(busy.mask, np.ones((3, 3))) > 0.5) & (busy.mask < 0.1)
    assert (busy.image[beside] != before[beside]).mean() > 0.5  # a border or a shadow


def test_lines_fit_their_room_or_are_not_written():
    canvas = blank(80, 400)
    s = setter(canvas, font_size=[20, 60])
    end = s.line(canvas, s.body, 10, 390, 40, 60, DARK, text="Wide words in a line")  # set smaller, so that it fits
    assert 300 < end <= 391 and canvas.lines[0]["quad"].max() <= 392
    assert s.line(canvas, s.body, 10, 60, 75, 30, DARK, text="This needs more room") is None
    assert s.line(canvas, s.body, 10, 390, 75, 30, DARK, text="汉字") is None  # the face does not have them
    assert s.line(canvas, s.body, 10, 390, 42, 30, DARK, text="On top") is None
    assert len(canvas.lines) == 1
    right = s.line(canvas, s.body, 200, 390, 76, 22, DARK, align=1.0, text="Flush")
    assert right == pytest.approx(390, abs=3)


def test_upright_characters_run_down():
    canvas = blank(300, 60)
    s = setter(canvas)
    end = s.down(canvas, s.body, 30, 10, 290, 30, DARK, text="ABCD")
    quad = canvas.lines[0]["quad"]
    assert np.ptp(quad[:, 1]) > 3 * np.ptp(quad[:, 0]) and end == pytest.approx(quad[:, 1].max(), abs=2)
    assert quad[:, 0].mean() == pytest.approx(30, abs=1)


def test_pages_hold_no_more_lines_than_the_style_allows():
    assert max(len(make_page("form", 400, seed, max_lines=3)[2]) for seed in range(5)) <= 3


def test_the_camera_moves_nothing():
    image = np.full((80, 120, 3), 0.8, np.float32)
    image[30:50, 40:80] = 0.1
    for seed in range(10):
        seen = image.copy()
        finish(seen, 1.0, rng(seed))
        assert seen.min() >= 0 and seen.max() <= 1
        dark = seen.mean(axis=2) < 0.45
        assert dark[32:48, 42:78].all() and not dark[:28].any() and not dark[:, :38].any()
    seen = image.copy()
    finish(seen, 0.0, rng())
    assert (seen == image).all()


def test_a_phone_moves_nothing_and_changes_much():
    image = np.full((80, 120, 3), 0.9, np.float32)
    image[30:50, 40:80] = 0.05
    for seed in range(10):
        seen = image.copy()
        take_by_phone(seen, rng(seed))
        assert seen.min() >= 0 and seen.max() <= 1
        assert seen[34:46, 46:74].mean() < 0.6 * seen[:24].mean()
        edges = np.abs(np.diff(seen[40].mean(axis=1)))
        assert {int(at) for at in np.argsort(edges)[-2:]} <= {38, 39, 40, 78, 79, 80}
        assert np.abs(seen - image).mean() > 0.01
        again = image.copy()
        take_by_phone(again, rng(seed))
        assert (again == seen).all()


def test_phones_take_photographs_and_no_screenshots():
    for layout, changed in (("document", True), ("interface", False)):
        plain, taken = (make_page(layout, 160, 3, phone=share) for share in (0.0, 1.0))
        assert (plain[0] != taken[0]).any() == changed
        assert (plain[1] == taken[1]).all()


def test_sub_pixels_shift_red_and_blue_of_text_alone():
    canvas = blank(40, 60)
    canvas.image[5:10, 5:10] = 0.5  # no text: stays grey
    canvas.image[20:30, 30], canvas.mask[20:30, 30] = 0, 1
    fringe(canvas)
    assert (canvas.image[5:10, 4:11].std(axis=2) == 0).all()
    red, green, blue = (1 - canvas.image[25, 28:33, channel] for channel in range(3))
    np.testing.assert_allclose(red, [0, 1 / 3, 2 / 3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(green, [0, 0, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(blue, [0, 0, 2 / 3, 1 / 3, 0], atol=1e-6)


def test_chinese_pages_draw_hanzi():
    fonts = discover_fonts()
    if not fonts.covering("的一是不"):
        pytest.skip("no installed font has hanzi")
    image = np.full((300, 300, 3), 0.7, np.float32)
    _, lines = write_page(image, only("document"), fonts, [open_corpus("chinese")], rng(2))
    text = "".join(line["text"] for line in lines)
    assert sum(ord(char) > 0x2E80 for char in text) > 0.5 * len(text) > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"poster": -1.0}, "poster is a layout's weight and must be 0 or more, not -1.0"),
        (dict.fromkeys(LAYOUT_NAMES, 0.0), "At least one layout needs a weight above 0: scene, sign"),
        ({"phone": 2}, "phone must lie between 0 and 1, not 2"),
        ({"effects": 1.5}, "effects must lie between 0 and 1, not 1.5"),
        ({"finish": float("nan")}, "finish must lie between 0 and 1, not nan"),
        ({"font_size": [40, 20]}, r"font_size must be two sizes, 4 <= smallest <= largest, not \[40, 20\]"),
        ({"font_size": (20,)}, "font_size must be two sizes"),
        ({"max_lines": 0}, "max_lines must be at least 1, not 0"),
    ],
)
def test_impossible_styles_are_refused_in_one_line(values, message):
    with pytest.raises(ValueError, match=message) as error:
        PageStyle(**values)
    assert "\n" not in str(error.value)


def test_wrong_images_and_missing_scripts_are_refused():
    with pytest.raises(ValueError, match=r"Expected a float32 image \(H, W, 3\), got uint8 \(64, 64, 3\)"):
        write_page(np.zeros((64, 64, 3), np.uint8), PageStyle(), BUILT_IN, [latin()], rng())
    with pytest.raises(ValueError, match=r"No .*font .*draws"):
        write_page(np.zeros((64, 64, 3), np.float32), PageStyle(), BUILT_IN, [open_corpus("chinese")], rng())
