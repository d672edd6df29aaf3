"""The protocol of scene text super-resolution: recognisers read restored lines, which are compared with the HR lines.

A data set's items are {"lr" (3, h, w), "hr" (3, H, W), "label"}, as `TextZoomLines` gives them; a method turns
(N, 3, h, w) RGB in [0, 1] into (N, 3, H, W); a recogniser turns (N, 3, H, W) into N strings. Everything is measured
line by line, so that results do not depend on the batch size; only `psnr_per_batch` does, by its definition.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tadisr.evaluation.line_recognizers import Recognizer
from tadisr.evaluation.markdown import plain
from tadisr.evaluation.statistics import PERMUTATIONS, ROUNDS, Resampler

if TYPE_CHECKING:
    import torch

    from tadisr.metrics.perceptual import LPIPS

ALPHABET = frozenset("0123456789abcdefghijklmnopqrstuvwxyz")
BICUBIC, HR, AVERAGE = "bicubic", "HR", "average"
_FORMS = {  # head, format, factor
    "psnr": ("PSNR ↑", "{:.2f}", 1.0),
    "psnr_per_batch": ("PSNR per batch ↑", "{:.2f}", 1.0),
    "ssim": ("SSIM ↑", "{:.4f}", 1.0),
    "lpips": ("LPIPS ↓", "{:.4f}", 1.0),
}
FIDELITY = tuple(_FORMS)
DEFINITIONS = {
    "accuracy": "share of lines read exactly, after both texts are lower-cased and all but 0-9 and a-z dropped",
    "psnr": "dB, RGB in [0, 1], one mean squared error per image; mean over images",
    "psnr_per_batch": "as the reference code: one mean squared error per batch, mean over batches; depends on the "
    "batch size",
    "ssim": "11x11 Gaussian window, sigma 1.5, zero padding, on each channel of RGB in [0, 1]; mean over images",
    "lpips": "LPIPS 0.1 with AlexNet on 8-bit images; mean over images",
    AVERAGE: "of the subsets, weighted by their numbers of lines",
    "interval": f"95 % percentile bootstrap over lines, {ROUNDS} rounds",
    "p": f"two-sided sign-flip test over lines, {PERMUTATIONS} permutations",
    BICUBIC: "the LR image enlarged with Catmull-Rom's kernel (a = -0.5), as Pillow and MATLAB do",
}


def str_filt(text: str) -> str:
    """The text as it is compared.

    >>> str_filt("Rent-a-Fence 24h!")
    'rentafence24h'
    """
    return "".join(char for char in text.lower() if char in ALPHABET)


def bicubic(lr: "torch.Tensor", size: tuple[int, int]) -> "torch.Tensor":
    """(N, 3, h, w) to (N, 3, *size) in [0, 1]."""
    import torch.nn.functional as F

    # with antialias torch takes the kernel that Pillow and MATLAB take
    return F.interpolate(lr, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


def squared_errors(images: "torch.Tensor", references: "torch.Tensor") -> np.ndarray:
    """Mean squared error of each image, (N,) float64; both (N, C, H, W) in [0, 1]."""
    return (images.double() - references.double()).square().mean((1, 2, 3)).cpu().numpy()


def ssim(images: "torch.Tensor", references: "torch.Tensor") -> np.ndarray:
    """Structural similarity of each image, (N,) float64, see `DEFINITIONS`; both (N, C, H, W) in [0, 1]."""
    import torch
    import torch.nn.functional as F

    x, y = images.double(), references.double()
    taps = torch.exp(-((torch.arange(11, dtype=x.dtype, device=x.device) - 5) ** 2) / (2 * 1.5**2))
    channels = x.shape[1]
    row = (taps / taps.sum()).expand(channels, 1, 1, 11)
    maps = [x, y, x * x, y * y, x * y]
    for window, padding in ((row, (0, 5)), (row.mT, (5, 0))):
        maps = [F.conv2d(values, window, padding=padding, groups=channels) for values in maps]
    mx, my, mxx, myy, mxy = maps
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * (mxy - mx * my) + c2) / (mxx - mx * mx + myy - my * my + c2)
    return ((2 * mx * my + c1) / (mx * mx + my * my + c1) * structure).mean((1, 2, 3)).cpu().numpy()


@dataclass(frozen=True)
class Score:
    """A mean and its interval; None for a mean that was not measured or is infinite, and for an unknown interval."""

    value: float | None
    interval: list[float] | None = None

    def show(self, form: str, factor: float) -> str:
        if self.value is None:
            return "–"
        ends = ", ".join(form.format(factor * end) for end in self.interval or [])
        return form.format(factor * self.value) + (f" [{ends}]" if ends else "")


@dataclass(frozen=True)
class LineReport:
    """What `evaluate_lines` measured.

    n: number of lines of each subset and of "average". scores: by method, subset and measure; measures are `FIDELITY`
    and "accuracy/RECOGNISER". against_bicubic: by method and recogniser, {"difference", "interval", "p"} of all lines.
    """

    n: dict[str, int]
    scores: dict[str, dict[str, dict[str, Score]]]
    against_bicubic: dict[str, dict[str, dict[str, Any]]]
    batch_size: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the definitions."""
        return asdict(self) | {"definitions": DEFINITIONS}

    def to_markdown(self) -> str:
        """A table for each measure: a row per method, a column per subset; brackets hold 95 % intervals."""
        parts = []
        for measure in self.scores[BICUBIC][AVERAGE]:
            head, form, factor = _FORMS.get(measure) or (f"accuracy ↑, {measure.split('/', 1)[1]}, %", "{:.1f}", 100.0)
            head += f", batches of {self.batch_size}" if measure == "psnr_per_batch" else ""
            lines = [f"| {head} | " + " | ".join(f"{plain(name)} (n = {n})" for name, n in self.n.items()) + " |"]
            lines.append("|---|" + "---:|" * len(self.n))
            for method, scores in self.scores.items():
                cells = (scores[name][measure].show(form, factor) for name in self.n)
                lines.append(f"| {plain(method)} | " + " | ".join(cells) + " |")
            parts.append("\n".join(lines))
        notes = [
            f"- {plain(method)} – {BICUBIC}, {reader}: {100 * one['difference']:+.1f} points, p = {one['p']:.4f}"
            for method, readers in self.against_bicubic.items()
            for reader, one in readers.items()
            if one["p"] is not None
        ]
        return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])]) + "\n"


def evaluate_lines(
    methods: Mapping[str, Callable[["torch.Tensor"], "torch.Tensor"]],
    subsets: Mapping[str, Any],
    recognizers: Mapping[str, Recognizer],
    batch_size: int = 64,
    lpips: "LPIPS | None" = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LineReport:
    """Measure methods on subsets. The rows "bicubic" and "HR" are always there; HR is not compared with itself.

    Args:
        methods: by name. Each gets a batch on the CPU and may return images on any device, which are clipped to [0, 1].
            A method that draws noise must draw it image by image, or its results depend on the batch size.
        subsets: data sets by name, see the module.
        recognizers: by name, see `line_recognizers`.
        batch_size: number of lines in a batch; a data set whose lines differ in size has an attribute `batch_size` = 1.
        lpips: None: the column stays empty.
        seed: of the bootstrap and the tests.
        progress: called with the number of restored lines so far, each method's counted, and with that of all.

    Raises:
        ValueError: a name is reserved, there is nothing to measure, or an output has a wrong size, number or value.
    """
    import torch
    from torch.utils.data import DataLoader

    check_sets(methods, subsets, batch_size)
    named, measures = [BICUBIC, *methods, HR], [f"accuracy/{name}" for name in recognizers]
    # by (subset, method, measure): a value for each line; for psnr_per_batch one for each batch
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    done, total = 0, len(named) * sum(map(len, subsets.values()))
    for subset, data in subsets.items():
        for batch in DataLoader(data, getattr(data, "batch_size", None) or batch_size):
            lr, hr, labels = batch["lr"], batch["hr"], [str_filt(label) for label in batch["label"]]
            for method in named:
                with torch.inference_mode():
                    sr = _restore(method, methods, lr, hr)
                row = {f"accuracy/{name}": _read(name, reader, sr, labels) for name, reader in recognizers.items()}
                if method != HR:
                    row |= _fidelity(sr, hr, lpips)
                for measure, found in row.items():
                    values[subset, method, measure] += found
                    values[AVERAGE, method, measure] += found
                done += len(labels)
                progress(done, total)
    n = {name: len(data) for name, data in subsets.items()}
    return _report(values, named, measures, {**n, AVERAGE: sum(n.values())}, batch_size, seed)


def check_sets(methods: Mapping[str, Any], subsets: Mapping[str, Any], batch_size: int) -> None:
    """Raise ValueError for names, sets or a size of batches that `evaluate_lines` does not take."""
    if taken := {BICUBIC, HR} & set(methods):
        raise ValueError(f"The row {taken.pop()} is always there: give that method another name.")
    if not subsets or AVERAGE in subsets:
        raise ValueError(f"Expected subsets by name, none of them called {AVERAGE!r}; got {sorted(subsets)}.")
    if empty := [name for name, data in subsets.items() if not len(data)]:
        raise ValueError(f"The subset {empty[0]} holds no lines.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")


def _restore(name: str, methods: Mapping[str, Callable], lr: "torch.Tensor", hr: "torch.Tensor") -> "torch.Tensor":
    """What a method makes of a batch, in [0, 1], on the HR images' device."""
    import torch

    if name == HR:
        return hr
    if name == BICUBIC:
        return bicubic(lr, (hr.shape[-2], hr.shape[-1]))
    sr = methods[name](lr)
    if not torch.is_tensor(sr) or sr.shape != hr.shape:
        got = tuple(sr.shape) if torch.is_tensor(sr) else type(sr).__name__
        raise ValueError(f"{name} made {got} of {tuple(lr.shape)}: expected {tuple(hr.shape)}.")
    if not sr.isfinite().all():
        raise ValueError(f"{name} returned values that are not finite.")
    return sr.float().clamp(0, 1).to(hr.device)


def _read(name: str, reader: Recognizer, images: "torch.Tensor", labels: Sequence[str]) -> list[float]:
    texts = reader(images)
    if len(texts) != len(labels):
        raise ValueError(f"The recogniser {name} returned {len(texts)} texts for {len(labels)} images.")
    return [float(str_filt(text) == label) for text, label in zip(texts, labels, strict=True)]


def _fidelity(sr: "torch.Tensor", hr: "torch.Tensor", lpips: "LPIPS | None") -> dict[str, list[float]]:
    errors = squared_errors(sr, hr)
    with np.errstate(divide="ignore"):  # inf where there is no error
        psnr, per_batch = -10 * np.log10(errors), -10 * np.log10(errors.mean(keepdims=True))
    found = {"psnr": psnr, "psnr_per_batch": per_batch, "ssim": ssim(sr, hr)}
    if lpips is not None:
        pixels = [(x.permute(0, 2, 3, 1).cpu() * 255).round().byte().numpy() for x in (sr, hr)]
        found["lpips"] = np.array([lpips(image, reference) for image, reference in zip(*pixels, strict=True)])
    return {measure: array.tolist() for measure, array in found.items()}


def _report(
    values: Mapping[tuple[str, str, str], list[float]],
    methods: Sequence[str],
    accuracies: Sequence[str],
    n: dict[str, int],
    batch_size: int,
    seed: int,
) -> LineReport:
    resamplers = {subset: Resampler(count, seed) for subset, count in n.items()}
    ones = {subset: np.ones(count) for subset, count in n.items()}

    def score(subset: str, method: str, measure: str) -> Score:
        if subset == AVERAGE and measure == "psnr_per_batch":
            parts = [name for name in n if name != AVERAGE]
            known = [(mean, n[name]) for name in parts if (mean := score(name, method, measure).value) is not None]
            return Score(sum(mean * count for mean, count in known) / n[AVERAGE] if len(known) == len(parts) else None)
        found = np.array(values[subset, method, measure])
        if not len(found) or not np.isfinite(found).all():
            return Score(None)
        if measure == "psnr_per_batch":
            return Score(float(found.mean()))
        return Score(float(found.mean()), resamplers[subset].interval(found, ones[subset]))

    def compare(method: str, measure: str) -> dict[str, Any]:
        differences = np.subtract(values[AVERAGE, method, measure], values[AVERAGE, BICUBIC, measure])
        return {
            "difference": float(differences.mean()),
            "interval": resamplers[AVERAGE].interval(differences, ones[AVERAGE]),
            "p": resamplers[AVERAGE].p_value(differences, ones[AVERAGE]),
        }

    measures = (*accuracies, *FIDELITY)
    scores = {
        method: {subset: {measure: score(subset, method, measure) for measure in measures} for subset in n}
        for method in methods
    }
    against = {
        method: {measure.split("/", 1)[1]: compare(method, measure) for measure in accuracies}
        for method in methods
        if method not in (BICUBIC, HR)
    }
    return LineReport(n, scores, against, batch_size, seed)
