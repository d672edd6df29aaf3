"""How letters are made: paint and print, neon, carving, raised letters; their shadows, borders, wear and contrast."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from tadisr.data_synthesis.text.render import Glyphs, grow
from tadisr.io.images import LUMA

_LUMA = np.array(LUMA, np.float32)
VISIBLE = 0.9  # share of the strokes' pixels that must have the contrast asked for
_NEON = np.array(
    [(1, 0.1, 0.25), (1, 0.15, 0.6), (0.2, 0.5, 1), (0.1, 0.9, 1), (0.2, 1, 0.4), (1, 0.75, 0.2), (1, 0.35, 0.1),
     (0.75, 0.3, 1)], np.float32
)  # fmt: skip


@dataclass(frozen=True)
class Shadow:
    """What letters cast: offset and blur in em, strength 0-1."""

    x: float = 0.05
    y: float = 0.05
    blur: float = 0.04
    strength: float = 0.5


@dataclass(frozen=True)
class Ink:
    """What a text is made of. Lengths in em, colours RGB in [0, 1], shares in [0, 1]."""

    material: Literal["paint", "neon", "raised", "engraved"] = "paint"
    """`paint`: paint, print, film; `neon`: glowing tubes (on a bright surface: paint); `raised`: solid, with lit edges;
    `engraved`: cut into the surface and dark with shade, or, where `color` is given or the surface is dark, painted."""
    color: tuple[float, float, float] | None = None
    """None: chosen by `paint` to be seen. A colour that cannot be seen on what is beneath is replaced."""
    opacity: float = 1.0
    outline: float = 0.0
    """Width of a border in a contrasting colour."""
    shadow: Shadow | None = None
    gradient: float = 0.0
    """How much lighter (or, below 0, darker) the ink is at the bottom than at the top, -1 to 1."""
    texture: float = 0.0
    """Strength of mottling or brushing in the ink."""
    relief: float = 0.0
    """How far the surface's own light and shade show on the ink, as on a painted wall."""
    worn: float = 0.0
    """Share of the ink that has come off; less of thin strokes, of which nothing legible would be left."""
    softness: float = 0.0
    """Standard deviation of the camera's blur, pixels."""
    light: float = -2.2
    """Where light comes from: the angle in the image, radians, y downwards (-2.2: above, on the left)."""
    min_contrast: float = 0.16
    """Least difference in luminance between `VISIBLE` of the strokes' pixels and what they stand on, at most 0.4."""

    def __post_init__(self):
        if not 0 <= (least := self.min_contrast) <= 0.4:
            raise ValueError(f"min_contrast lies between 0 and 0.4, which every surface allows, not {least}.")


@dataclass(frozen=True)
class Effects:
    """How often inks have what: probabilities, and ranges of the values (as in `Ink`)."""

    neon: float = 0.05
    raised: float = 0.06
    engraved: float = 0.05
    outline: float = 0.1
    outline_width: tuple[float, float] = (0.02, 0.07)
    shadow: float = 0.15
    gradient: float = 0.15
    texture: float = 0.12
    relief: float = 0.6
    transparent: float = 0.15
    opacity: tuple[float, float] = (0.55, 0.95)
    worn: float = 0.1
    worn_share: tuple[float, float] = (0.02, 0.15)
    soft: float = 0.6
    softness: tuple[float, float] = (0.3, 0.7)
    min_contrast: float = 0.16

    def draw(self, rng: np.random.Generator) -> Ink:
        """A random ink."""

        def value(possible: bool, share: float, low: float, high: float, otherwise: float = 0.0) -> float:
            return float(rng.uniform(low, high)) if possible and rng.random() < share else otherwise

        kind, material = rng.random(), "paint"
        for name in ("neon", "raised", "engraved"):
            kind -= getattr(self, name)
            if kind < 0:
                material = name
                break
        painted, lit = material == "paint", material != "neon"
        light = float(rng.normal(-2.0, 0.4))
        shadow = None
        if material == "raised" or (painted and rng.random() < self.shadow):
            length = rng.uniform(0.03, 0.09)
            x, y = -length * np.cos(light), -length * np.sin(light)
            shadow = Shadow(float(x), float(y), float(rng.uniform(0.005, 0.06)), float(rng.uniform(0.35, 0.75)))
        return Ink(
            material=material,
            opacity=value(painted, self.transparent, *self.opacity, otherwise=1.0),
            outline=value(painted, self.outline, *self.outline_width),
            shadow=shadow,
            gradient=value(material in {"paint", "raised"}, self.gradient, -0.5, 0.5),
            texture=value(lit, self.texture, 0.03, 0.15),
            relief=value(lit, self.relief, 0.3, 0.9),
            worn=value(painted, self.worn, *self.worn_share),
            softness=value(True, self.soft, *self.softness),
            light=light,
            min_contrast=self.min_contrast,
        )


def contrast(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> float:
    """The luminance step by which ink stands out, exceeded by `VISIBLE` of the strokes' pixels.

    before, after: (H, W, 3) without and with the ink; mask: (H, W) coverage. Pixels covered less than half as much as
    the best covered one are left out, and the others' steps are divided by their coverage.
    """
    strokes = mask >= max(0.5 * float(mask.max()), 1e-3)
    steps = np.abs((after[strokes] - before[strokes]) @ _LUMA) / mask[strokes]
    return float(np.quantile(steps, 1 - VISIBLE))


def paint(
    image: np.ndarray, glyphs: Glyphs, ink: Ink, rng: np.random.Generator, at: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Draw text onto `image`, (H, W, 3) float32 RGB in [0, 1], in place; its array's top left goes to `at` (y, x).

    Returns the mask, (h, w) float32, of the size of `glyphs.fill`: the coverage with which ink was blended, worn places
    and the camera's blur included, opacity not. Shadows, borders and glow reach beyond it, as far as the image does.
    The ink stands out from what is under it, shadow, border and glow included, by `ink.min_contrast` (see `contrast`).
    Where no colour can do that, on a chequered surface, the letters get a border. ValueError where the glyphs do not
    lie inside the image, or hold no ink.
    """
    h, w = glyphs.fill.shape
    y, x = at
    if y < 0 or x < 0 or y + h > image.shape[0] or x + w > image.shape[1]:
        raise ValueError(f"{h} x {w} pixels of text at {at} do not fit into an image of {image.shape[:2]}.")
    if not glyphs.fill.any():
        raise ValueError("There is no ink in these glyphs.")
    em = glyphs.em or float(h)
    widest = max(ink.outline, 1.2 if ink.material == "neon" else 0.06)  # letters may need a border that ink has not
    if ink.shadow:
        widest = max(widest, max(abs(ink.shadow.x), abs(ink.shadow.y)) + 3 * ink.shadow.blur)
    reach = int(np.ceil(widest * em)) + 2  # pixels around the letters that may change
    top, left = max(0, y - reach), max(0, x - reach)
    area = image[top : y + h + reach, left : x + w + reach]
    inner = np.s_[y - top : y - top + h, x - left : x - left + w]
    letters = np.zeros(area.shape[:2], np.float32)  # as they were made; `cover` is what is left of them
    letters[inner] = _blur(glyphs.fill, ink.softness) if ink.softness else glyphs.fill
    cover = letters
    if ink.worn:
        cover = np.zeros_like(letters)
        worn = glyphs.fill * _wear(glyphs.fill, ink.worn, em, rng)
        cover[inner] = _blur(worn, ink.softness) if ink.softness else worn
    strokes = cover >= max(0.5 * float(cover.max()), 1e-3)
    if ink.material == "neon" and np.quantile(area[strokes] @ _LUMA, VISIBLE) < 0.45:
        _shine(area, cover, em, ink, rng)
    else:
        if shadow := ink.shadow:
            shift = np.array([[1, 0, shadow.x * em], [0, 1, shadow.y * em]], np.float32)
            dark = _blur(cv2.warpAffine(letters, shift, letters.shape[::-1]), shadow.blur * em)
            area *= 1 - _threefold(dark * np.float32(shadow.strength * ink.opacity))
        if ink.material != "engraved" or ink.color is not None or not _carve(area, cover, strokes, em, ink):
            _lay(area, cover, letters, strokes, em, ink, rng)
    return cover[inner].copy()


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur. A wide blur is made at a lower resolution: that is cheap and looks the same."""
    shrink = int(sigma // 3)
    if shrink < 2:
        return cv2.GaussianBlur(image, (0, 0), max(sigma, 0.3), borderType=cv2.BORDER_CONSTANT)
    h, w = image.shape[:2]
    small = cv2.resize(image, (-(-w // shrink), -(-h // shrink)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink, borderType=cv2.BORDER_CONSTANT)
    return cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)


def _noise(shape: tuple[int, int], grain: float, rng: np.random.Generator, stretch: float = 1.0) -> np.ndarray:
    """(H, W) float32 smooth noise of about unit variance; blobs of `grain` pixels, `stretch` times as long as high."""
    h, w = shape
    rows, columns = (int(np.ceil(n / max(1.0, g))) + 1 for n, g in ((h, grain), (w, grain * stretch)))
    return cv2.resize(rng.standard_normal((rows, columns), np.float32), (w, h), interpolation=cv2.INTER_CUBIC)


def _wear(fill: np.ndarray, share: float, em: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in [0, 1]: 0 where paint has flaked off, in patches and specks; less of strokes below 5 pixels."""
    slopes = np.abs(np.diff(fill, axis=0)).sum() + np.abs(np.diff(fill, axis=1)).sum()
    share *= min(1.0, 2 * float(fill.sum() / slopes) / 5)  # twice a stroke's area by its outline is its width
    noise = 0.8 * _noise(fill.shape, em / 3, rng) + 0.7 * _noise(fill.shape, em / 12, rng)
    noise += 0.5 * _noise(fill.shape, 1, rng)
    return np.clip((noise - np.quantile(noise, share)) / 0.4 + 0.5, 0, 1)


def _threefold(field: np.ndarray) -> np.ndarray:
    return cv2.merge([field, field, field])


def _blend(area: np.ndarray, cover: np.ndarray, ink: np.ndarray, opacity: float = 1.0) -> np.ndarray:
    """`area` (H, W, 3) with `ink` (3,) or (H, W, 3) on it where `cover` (H, W) says."""
    return area + _threefold(cover * np.float32(opacity)) * (ink - area)


def _random_color(rng: np.random.Generator) -> np.ndarray:
    """Black, white and the colours of signs and print."""
    kind = rng.random()
    if kind < 0.3:
        return np.asarray(rng.uniform(0, 0.12) + rng.uniform(0, 0.06, 3), np.float32)
    if kind < 0.6:
        return np.asarray(1 - rng.uniform(0, 0.1) - rng.uniform(0, 0.06, 3), np.float32)
    saturation = rng.uniform(0.6, 1) if kind < 0.9 else rng.uniform(0.15, 0.5)
    hsv = np.array([[[rng.uniform(0, 360), saturation, rng.uniform(0.35, 1)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]


def _choose_color(
    area: np.ndarray, strokes: np.ndarray, ink: Ink, opacity: float, rng: np.random.Generator
) -> np.ndarray | None:
    """The wanted colour or a random colour that stands out from the area under the strokes; None if no colour does."""
    lumas = area[strokes] @ _LUMA
    lumas = lumas[:: max(1, len(lumas) // 2000)]
    colors = [] if ink.color is None else [np.asarray(ink.color, np.float32)]
    colors += [_random_color(rng) for _ in range(8)] + [np.full(3, v, np.float32) for v in (0.03, 0.97, 0, 1)]
    steps = ((color, np.abs(float(color @ _LUMA) - lumas) * opacity) for color in colors)
    return next((c for c, step in steps if np.quantile(step, 1 - VISIBLE) >= 1.05 * ink.min_contrast), None)


def _lay(
    area: np.ndarray, cover: np.ndarray, letters: np.ndarray, strokes: np.ndarray, em: float, ink: Ink,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Letters of paint or film, or solid letters, with a border if it is wanted or needed."""
    opacity, color, width = ink.opacity, None, ink.outline * em
    if not width:
        color = _choose_color(area, strokes, ink, opacity, rng)
        if color is None and opacity < 1:
            opacity, color = 1.0, _choose_color(area, strokes, ink, 1.0, rng)
    if color is None:
        width = width or max(1.5, 0.05 * em)
        border = _random_color(rng)
        if ink.color is not None:
            own = np.asarray(ink.color, np.float32)
            if abs(float((border - own) @ _LUMA)) < 1.1 * ink.min_contrast:
                border = np.full(3, 0.03 if float(own @ _LUMA) > 0.5 else 0.97, np.float32)
        area[:] = _blend(area, np.maximum(grow(letters, width), strokes), border)
        opacity, color = 1.0, _choose_color(area, strokes, ink, 1.0, rng)
    assert color is not None  # some colour stands out from any border
    lighter, pattern = _finish(area, cover, em, ink, rng)
    for strength in (1.0, 0.5, 0.0):  # as much of the finish as the contrast allows
        fill = color * (1 + strength * pattern) + strength * lighter
        result = _blend(area, cover, fill.clip(0, 1), opacity)
        if ink.material != "paint":
            result = _bevel(result, cover, em, ink, strength)
        if contrast(area, result, cover) >= ink.min_contrast:
            break
    area[:] = result


def _finish(
    area: np.ndarray, cover: np.ndarray, em: float, ink: Ink, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What is added to an ink, and by what share it is brightened, both (H, W, 1) or scalars."""
    lighter, pattern = np.zeros((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32)
    if ink.gradient:
        rows = np.flatnonzero(cover.any(axis=1))
        ramp = np.interp(np.arange(len(cover)), (rows[0], rows[-1]), (-0.5, 0.5))
        lighter = np.asarray(ink.gradient * ramp, np.float32)[:, None, None]
    if ink.texture:
        stretch = rng.choice([1.0, 1.0, 24.0])  # mottled, or brushed
        pattern = pattern + ink.texture * _noise(cover.shape, 0.04 * em, rng, stretch)[..., None]
    if ink.relief:
        luma = area @ _LUMA
        detail = (luma + 0.05) / (_blur(luma, 0.4 * em) + 0.05) - 1
        pattern = pattern + ink.relief * detail.clip(-0.4, 0.4)[..., None]
    return lighter, pattern


def _bevel(area: np.ndarray, cover: np.ndarray, em: float, ink: Ink, strength: float) -> np.ndarray:
    """Light and shade on the slopes along the strokes' edges."""
    engraved = ink.material == "engraved"
    width = max(0.7, (0.02 if engraved else 0.03) * em)
    height = _blur(cover, width)
    slope = cv2.Sobel(height, -1, 1, 0, scale=0.125) * np.float32(np.cos(ink.light))
    slope += cv2.Sobel(height, -1, 0, 1, scale=0.125) * np.float32(np.sin(ink.light))
    # towards the light the surface falls where letters are raised, and rises where they are cut in
    lit = np.clip(slope * np.float32((4 if engraved else -2.5) * width * strength), -1, 1)
    light, shade = np.maximum(lit, 0) * cover, np.minimum(lit, 0) * cover
    if engraved:  # the wall towards the light is dark, and the rim on the other side catches the light
        light = np.maximum(lit, 0) * (1 - cover)
    return (area + _threefold(light) * (0.2 + 0.4 * area) + _threefold(shade) * 0.7 * area).clip(0, 1)


def _carve(area: np.ndarray, cover: np.ndarray, strokes: np.ndarray, em: float, ink: Ink) -> bool:
    """Letters cut into the surface and dark with shade; False, and nothing done, where the surface is too dark."""
    dim = float(np.quantile(area[strokes] @ _LUMA, 1 - VISIBLE))
    depth = max(0.25, 1.4 * ink.min_contrast / max(dim, 1e-3))
    if depth > 0.7:
        return False
    cut = area * (1 - _threefold(cover * np.float32(depth)))
    for strength in (1.0, 0.5, 0.0):
        result = _bevel(cut, cover, em, ink, strength)
        if contrast(area, result, cover) >= ink.min_contrast:
            break
    area[:] = result
    return True


def _shine(area: np.ndarray, cover: np.ndarray, em: float, ink: Ink, rng: np.random.Generator) -> None:
    """Tubes, white-hot along their middle, and the light they shed around them."""
    hue = _NEON[rng.integers(len(_NEON))] if ink.color is None else np.asarray(ink.color, np.float32)
    light = 0.5 * _blur(cover, 0.05 * em) + 0.45 * _blur(cover, 0.15 * em) + 0.5 * _blur(cover, 0.4 * em)
    light = _threefold(light) * hue
    middle = (_blur(cover, 0.025 * em) * cover)[..., None] ** 2
    for strength, white in ((1.0, 0.8), (0.6, 0.9), (0.3, 1.0), (0.0, 1.0)):
        around = 1 - (1 - area) * (1 - (strength * light).clip(0, 1))
        hot = middle * white if strength else 0.9
        result = _blend(around, cover, hue + hot * (1 - hue))
        if contrast(around, result, cover) >= ink.min_contrast:
            break
    area[:] = result
