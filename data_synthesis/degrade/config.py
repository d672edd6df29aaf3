"""What a degradation draws from: every probability and range, published values, a milder set, a mixture."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tadisr.data_synthesis.degrade.steps import MODES

Range = tuple[float, float]
_PUBLISHED_KERNELS = {
    "iso": 0.45, "aniso": 0.25, "generalized_iso": 0.12, "generalized_aniso": 0.03, "plateau_iso": 0.12,
    "plateau_aniso": 0.03,
}  # fmt: skip
KINDS = (*_PUBLISHED_KERNELS, "disk", "motion")


@dataclass
class Order:
    """One round of blur, resize, noise and JPEG. Values are drawn uniformly; the defaults are the first round's."""

    blur_prob: float = 1.0
    kernels: dict[str, float] = field(default_factory=_PUBLISHED_KERNELS.copy)
    """Relative frequency of each kind of kernel (see `KINDS`) among kernels that are not sinc. Kinds not named: 0."""
    kernel_sizes: tuple[int, ...] | None = (7, 9, 11, 13, 15, 17, 19, 21)
    """Odd sides to which kernels are cut. None: three sigmas to each side, and no sinc kernels."""
    sinc_prob: float = 0.1
    sigma: Range = (0.2, 3.0)
    """Width of kernels along either axis, in pixels of the image at this point. Disks and lines are 2.5 sigma wide, at
    least 2 pixels."""
    beta_generalized: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)
    beta_below_one_prob: float = 0.5
    """How often a beta is drawn between the range's low end and 1; otherwise it is drawn between 1 and the high end."""
    sinc_cutoff: Range = (math.pi / 3, math.pi)
    """Of sinc kernels with sides below 13, radians per pixel."""
    sinc_cutoff_large: Range = (math.pi / 5, math.pi)
    """Of sinc kernels with sides of 13 and above."""
    resize_weights: tuple[float, float, float] = (0.2, 0.7, 0.1)
    """Relative frequency of enlarging, of shrinking, of neither."""
    resize_range: Range = (0.15, 1.5)
    """Smallest and largest factor: on the HR size in the first round, on the LR size in the second round."""
    resize_modes: tuple[str, ...] = MODES
    """One of them is drawn, all with equal chances."""
    gaussian_prob: float = 0.5
    """Share of images with Gaussian noise; the other images have Poisson noise."""
    noise_sigma: Range = (1.0, 30.0)
    """Standard deviation of Gaussian noise, in 1/255."""
    poisson_scale: Range = (0.05, 3.0)
    """Factor on Poisson noise: the noise of 256 photons at full brightness, or of fewer if the image has few levels."""
    gray_prob: float = 0.4
    """How often the noise is the same on the three channels."""
    jpeg_prob: float = 1.0
    jpeg_quality: tuple[int, int] = (30, 95)

    def __post_init__(self):
        _check(self)
        if not isinstance(self.kernels, Mapping):
            raise ValueError(f"kernels must map kinds to frequencies; got {self.kernels!r}.")
        if unknown := sorted(map(str, set(self.kernels) - set(KINDS))):
            raise ValueError(f"Unknown kernels: {', '.join(unknown)}. Known: {', '.join(KINDS)}.")
        _check_weights("kernels", tuple(self.kernels.values()))
        _check_weights("resize_weights", self.resize_weights, 3)
        if not isinstance(self.resize_modes, tuple) or not self.resize_modes or set(self.resize_modes) - set(MODES):
            raise ValueError(f"resize_modes needs some of {', '.join(MODES)}; got {self.resize_modes!r}.")
        if self.kernel_sizes is not None:
            _check_sizes("kernel_sizes", self.kernel_sizes)
        elif self.sinc_prob:
            raise ValueError("sinc_prob needs kernel_sizes: a sinc has no width of its own.")
        for name in ("sigma", "beta_generalized", "beta_plateau", "sinc_cutoff", "sinc_cutoff_large", "resize_range"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name} must lie above 0; got {getattr(self, name)}.")
        for name in ("beta_generalized", "beta_plateau", "resize_range"):
            if not getattr(self, name)[0] <= 1 <= getattr(self, name)[1]:
                raise ValueError(f"{name} must include 1; got {getattr(self, name)}.")
        if not all(isinstance(bound, int) and 1 <= bound <= 100 for bound in self.jpeg_quality):
            raise ValueError(f"jpeg_quality needs whole numbers from 1 to 100; got {self.jpeg_quality}.")


def _second() -> Order:
    return Order(
        blur_prob=0.8, sigma=(0.2, 1.5), resize_weights=(0.3, 0.4, 0.3), resize_range=(0.3, 1.2),
        noise_sigma=(1.0, 25.0), poisson_scale=(0.05, 2.5),
    )  # fmt: skip


@dataclass
class Degradation:
    """What HR images go through. The defaults are the published training options of Real-ESRGAN x4plus."""

    scale: int = 4
    first_prob: float = 1.0
    """Share of images that go through the first round; the other images begin with the second round."""
    first: Order = field(default_factory=Order)
    second: Order = field(default_factory=_second)
    second_strength: float = 1.0
    """Factor on the blur and noise of the second round for images that went through the first."""
    second_sigma_in_hr_pixels: bool = False
    """Whether the second round's blur shrinks with an image that the first round made smaller."""
    final_sinc_prob: float = 0.8
    final_sinc_sizes: tuple[int, ...] = (7, 9, 11, 13, 15, 17, 19, 21)
    final_sinc_cutoff: Range = (math.pi / 3, math.pi)
    jpeg_last_prob: float = 0.5
    """How often the final resize and sinc come before the second round's JPEG, not after it."""

    def __post_init__(self):
        _check(self)
        _check_sizes("final_sinc_sizes", self.final_sinc_sizes)
        _check_scale(self.scale)
        strength, cutoff = self.second_strength, self.final_sinc_cutoff
        if not strength > 0 or not cutoff[0] > 0:
            raise ValueError(f"second_strength and final_sinc_cutoff must be above 0; got {strength} and {cutoff}.")

    @classmethod
    def preset(cls, name: str) -> "AnyDegradation":
        """`real-esrgan`: the published values. `mild`: photographs a little soft, noisy and compressed. `wide`: mostly
        `mild`, and the rest from nearly sharp over phones to unreadable."""
        if not isinstance(name, str) or name not in _PRESETS:
            raise ValueError(f"No degradation is called {str(name)[:50]!r}; there are {', '.join(_PRESETS)}.")
        return _PRESETS[name]()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AnyDegradation":
        """From the values of a YAML file: fields of this class; `first` and `second` map fields of `Order`.

        Fields that are not given are those of the preset that `preset` names (default: real-esrgan). Of a mixture only
        `scale` can be given. ValueError: an unknown key, or a value that does not fit.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"degradation must be a preset's name or map names to values; got {values!r}.")
        values = dict(values)
        base = cls.preset(values.pop("preset", "real-esrgan"))
        if isinstance(base, Mixture) and (other := sorted(map(str, set(values) - {"scale"}))):
            raise ValueError(f"A preset that mixes degradations takes scale alone; got {', '.join(other)}.")
        for name in ("first", "second"):
            if name in values:
                values[name] = _replace(getattr(base, name), values[name], name)
        return _replace(base, values, "degradation")


def _mild() -> Degradation:
    """One pass of blur, reduction, noise and JPEG; for one image in ten, a lighter pass before it."""
    only = Order(
        kernels={"aniso": 0.9, "disk": 0.05, "motion": 0.05}, kernel_sizes=None, sinc_prob=0.0, sigma=(0.5, 2.3),
        resize_weights=(0, 0, 1), gaussian_prob=1.0, noise_sigma=(0.3, 7.0), gray_prob=0.3, jpeg_prob=0.95,
        jpeg_quality=(45, 95),
    )  # fmt: skip
    lighter = replace(
        only, sigma=(0.3, 1.38), resize_weights=(0, 1, 0), resize_range=(0.5, 1.0), noise_sigma=(0.21, 4.9)
    )
    return Degradation(
        first_prob=0.1, first=lighter, second=only, second_strength=0.6, second_sigma_in_hr_pixels=True,
        final_sinc_prob=0.0,
    )  # fmt: skip


@dataclass
class Phone:
    """What a phone does to what it sees: blur of the lens or the hand, a noisy sensor, sharpening, and two files."""

    motion_prob: float = 0.4
    """How often the hand moved; the other images are out of focus."""
    motion: tuple[int, int] = (2, 10)
    """Length of the movement, HR pixels."""
    defocus: Range = (0.7, 3.6)
    """Radius of the disk, HR pixels."""
    linear_prob: float = 0.5
    """How often the blur is one of light, in which bright things spread over dark ones, not one of sRGB values."""
    sensor: Range = (1.0, 2.0)
    """Size of the image that the sensor sees, in units of the LR size."""
    poisson_scale: Range = (0.1, 1.1)
    chroma: Range = (0.0, 9.0)
    """Standard deviation of blotches of colour, in 1/255."""
    halo: Range = (0.1, 0.9)
    """Strength of the sharpening, and so of the halo around edges."""
    halo_sigma: Range = (0.7, 1.5)
    """Width of the halo, pixels of the sensor's image."""
    webp_prob: float = 0.3
    """How often the file is one WebP; the others are a JPEG of a JPEG, whose blocks do not coincide."""
    webp_quality: tuple[int, int] = (30, 85)
    jpeg_quality: tuple[int, int] = (45, 95)

    def __post_init__(self):
        _check(self)


@dataclass
class Mixture:
    """Some degradations, of which each image goes through one."""

    parts: tuple[tuple[float, Degradation | Phone], ...]
    """How often each is drawn, relative to the others. The mixture's scale holds for all of them."""
    scale: int = 4

    def __post_init__(self):
        _check_scale(self.scale)
        _check_weights("parts", tuple(share for share, _ in self.parts))


AnyDegradation = Degradation | Mixture


def _wide() -> Mixture:
    """Damage of every strength, most of it mild: whoever trains on harsh damage alone pays for it on mild damage."""
    mild = _mild()
    one = replace(mild, first_prob=0.0)
    sharp = replace(mild.second, sigma=(0.3, 0.8), noise_sigma=(0.0, 2.0), jpeg_prob=0.8, jpeg_quality=(80, 95))
    blurred = {"aniso": 0.6, "disk": 0.2, "motion": 0.2}
    soft = replace(mild.second, kernels=blurred, sigma=(1.5, 4.0), noise_sigma=(0.3, 10.0), jpeg_quality=(25, 95))
    harsh = replace(soft, sigma=(2.5, 6.0), noise_sigma=(0.3, 15.0), jpeg_quality=(10, 70))
    before = replace(
        harsh, sigma=(0.5, 3.0), resize_weights=(0, 1, 0), resize_range=(0.4, 1.0), jpeg_quality=(10, 90),
        noise_sigma=(0.3, 10.0),
    )  # fmt: skip
    return Mixture((
        (0.62, mild),
        (0.06, replace(one, second=sharp)),
        (0.20, Phone()),
        (0.08, replace(one, second=soft)),
        (0.04, replace(mild, first_prob=0.5, first=before, second=harsh, second_strength=0.8)),
    ))  # fmt: skip


_PRESETS = {"real-esrgan": Degradation, "mild": _mild, "wide": _wide}


def _replace(config: Any, values: Mapping[str, Any], where: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must map names to values; got {values!r}.")
    if unknown := sorted(map(str, set(values) - {f.name for f in fields(config)})):
        raise ValueError(f"Unknown keys in {where}: {', '.join(unknown)}.")
    return replace(config, **values)


def _check(config: Any) -> None:
    """Turn lists (YAML has no tuples) into tuples, and refuse shares outside 0..1 and ranges out of order."""
    for f in fields(config):
        value: Any = getattr(config, f.name)
        if isinstance(value, list):
            setattr(config, f.name, value := tuple(value))
        is_number = isinstance(value, (int, float))
        if f.name.endswith("_prob") and not (is_number and 0 <= value <= 1):
            raise ValueError(f"{f.name} must lie between 0 and 1; got {value!r}.")
        if f.type in (Range, tuple[int, int]) and not (_numbers(value) and len(value) == 2 and value[0] <= value[1]):
            raise ValueError(f"{f.name} must be [low, high] with 0 <= low <= high; got {value!r}.")


def _numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(number, (int, float)) and number >= 0 for number in value)


def _check_weights(name: str, weights: Any, count: int | None = None) -> None:
    if not _numbers(weights) or not sum(weights) > 0 or (count and len(weights) != count):
        raise ValueError(f"{name} needs {count or 'some'} frequencies of at least 0, not all 0; got {weights!r}.")


def _check_scale(scale: Any) -> None:
    if not isinstance(scale, int) or scale < 1:
        raise ValueError(f"scale must be a whole number of at least 1; got {scale!r}.")


def _check_sizes(name: str, sizes: Any) -> None:
    if not (isinstance(sizes, tuple) and sizes and all(isinstance(n, int) and n > 0 and n % 2 for n in sizes)):
        raise ValueError(f"{name} needs odd sizes; got {sizes!r}.")
