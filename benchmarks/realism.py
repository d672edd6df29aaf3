"""How far synthetic pages look from photographed text: a table of statistics, and how well classifiers tell them apart.

    python benchmarks/realism.py REAL NAME=DATA:DEGRADATION [NAME=DATA:DEGRADATION ...] [--crops 240]

REAL is a folder of real pairs: hr/NAME.png, lr/NAME.png, and truth.json with the lines of each. DATA is an FTSR data
set; a crop as large as the real ones is cut from each page around a random line, and made LR by DEGRADATION (mild,
wide). The first classifier is a logistic regression on the statistics of HR and LR, the second one a small
convolutional network on parts of the HR crops, the third one the same on the LR crops. Each is cross-validated, and no
picture is in both parts. The area under the curve (AUC) is that of the pictures' mean scores: 0.5 is chance.
"""

import argparse
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from tadisr.data_synthesis.degrade import Degradation, degrade
from tadisr.data_synthesis.text.wrapping import is_wide
from tadisr.datasets.ftsr import open_pages
from tadisr.io.images import LUMA, decode
from tadisr.io.structured import read_json

SIDE, SCALE, FOLDS = 384, 4, 5


class Crop(NamedTuple):
    """A pair, uint8 RGB, and its lines: corners (4, 2) in HR pixels, and text."""

    hr: np.ndarray
    lr: np.ndarray
    lines: list[tuple[np.ndarray, str]]


def real_crops(folder: Path) -> list[Crop]:
    """All pairs of the folder."""

    def image(part: str, name: str) -> np.ndarray:
        return decode((folder / part / f"{name}.png").read_bytes(), cv2.IMREAD_COLOR)[..., ::-1]

    return [
        Crop(image("hr", crop["name"]), image("lr", crop["name"]),
             [(np.float32(line["box"]), line["text"]) for line in crop["text"]])
        for crop in read_json(folder / "truth.json")
    ]  # fmt: skip


def synthetic_crops(data: str, degradation: str, count: int) -> list[Crop]:
    """A crop around a random line of each of `count` pages that are spread over the data set."""
    pages, config = open_pages(data), Degradation.preset(degradation)
    crops = []
    for number in np.linspace(0, len(pages) - 1, min(count, len(pages))).astype(int):
        rng = np.random.default_rng([zlib.crc32(data.encode()), number])
        hr, lines = pages.hr(int(number)), [(np.float32(x["quad"]), x["text"]) for x in pages.lines(int(number))]
        if not lines:
            continue
        middle = lines[int(rng.integers(len(lines)))][0].mean(axis=0) - SIDE * rng.uniform(0.25, 0.75, 2)
        x, y = (int(np.clip(at, 0, side - SIDE)) for at, side in zip(middle, hr.shape[1::-1], strict=True))
        part = np.ascontiguousarray(hr[y : y + SIDE, x : x + SIDE])
        inside = [(quad - [x, y], text) for quad, text in lines]
        inside = [(quad, text) for quad, text in inside if (quad > -2).all() and (quad < SIDE + 2).all()]
        if inside:
            crops.append(Crop(part, degrade(part, config, rng), inside))
    return crops


def _luma(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) @ np.array(LUMA, np.float32)


def _noise(luma: np.ndarray) -> float:
    """Deviation of what a Laplacian leaves in the flattest fifth of the image's blocks of 8 pixels."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    left = cv2.filter2D(luma, -1, kernel) / 6
    h, w = (side // 8 * 8 for side in luma.shape)
    blocks = left[:h, :w].reshape(h // 8, 8, w // 8, 8).std(axis=(1, 3))
    return float(np.quantile(blocks, 0.2))


def _blocking(luma: np.ndarray) -> float:
    """Steps between JPEG's blocks beside steps within them, as a ratio."""
    steps = np.abs(np.diff(luma, axis=1)).mean(axis=0), np.abs(np.diff(luma, axis=0)).mean(axis=1)
    edge = np.concatenate([s[7::8] for s in steps]).mean()
    within = np.concatenate([np.delete(s, np.arange(7, len(s), 8)) for s in steps]).mean()
    return float((edge + 0.1) / (within + 0.1))


def _of_line(luma: np.ndarray, quad: np.ndarray) -> tuple[float, float, float] | None:
    """Stroke width in pixels, contrast of ink and ground, steepest slope as a share of the contrast."""
    (x0, y0), (x1, y1) = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)
    part = luma[max(0, y0) : y1, max(0, x0) : x1]
    if min(part.shape) < 4:
        return None
    _, ink = cv2.threshold(part.clip(0, 255).astype(np.uint8), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    ink = 1 - ink if ink.mean() > 0.5 else ink
    outline = np.abs(np.diff(ink.astype(int), axis=0)).sum() + np.abs(np.diff(ink.astype(int), axis=1)).sum()
    if not ink.any() or ink.all() or not outline:
        return None
    contrast = abs(float(np.median(part[ink > 0]) - np.median(part[ink == 0])))
    slope = np.hypot(cv2.Sobel(part, -1, 1, 0) / 8, cv2.Sobel(part, -1, 0, 1) / 8)
    return 2 * float(ink.sum()) / outline, contrast, float(np.quantile(slope, 0.98)) / max(contrast, 1)


def statistics(crop: Crop) -> dict[str, float]:
    """What the table shows, of one crop; NaN where no line can be measured."""
    luma, small = _luma(crop.hr), _luma(crop.lr)
    hsv = cv2.cvtColor(crop.hr, cv2.COLOR_RGB2HSV)
    away = np.ones(luma.shape, bool)
    for quad, _ in crop.lines:
        (x0, y0), (x1, y1) = quad.min(axis=0).astype(int).clip(0), quad.max(axis=0).astype(int) + 1
        away[y0:y1, x0:x1] = False
    texture = np.sqrt(np.maximum(cv2.blur(luma * luma, (9, 9)) - cv2.blur(luma, (9, 9)) ** 2, 0))
    measured = [found for quad, _ in crop.lines if (found := _of_line(luma, quad))]
    stroke, contrast, slope = np.median(measured, axis=0) if measured else (np.nan,) * 3
    heights = [np.linalg.norm(quad[3] - quad[0]) for quad, _ in crop.lines]
    text = "".join(text for _, text in crop.lines)
    steps = np.abs(np.diff(luma, axis=0)[:, 1:]) + np.abs(np.diff(luma, axis=1)[1:])
    return {
        "lines": len(crop.lines),
        "line height, px": float(np.median(heights)),
        "wide characters": float(np.mean([is_wide(char) for char in text])) if text else np.nan,
        "stroke width, px": stroke,
        "text contrast": contrast,
        "edge slope / contrast": slope,
        "luma, 5 %": float(np.quantile(luma, 0.05)),
        "luma, median": float(np.median(luma)),
        "luma, 95 %": float(np.quantile(luma, 0.95)),
        "saturation": float(hsv[..., 1].mean()),
        "flat pixels": float((steps == 0).mean()),
        "background texture": float(np.median(texture[away])) if away.any() else np.nan,
        "noise HR": _noise(luma),
        "blocking HR": _blocking(luma),
        "noise LR": _noise(small),
        "blocking LR": _blocking(small),
        "detail LR": float(np.abs(cv2.Laplacian(small, -1)).mean()),
    }


def auc(scores: np.ndarray, real: np.ndarray) -> float:
    """How often a real picture has the higher score, a tie counting half."""
    above = scores[real][:, None] - scores[~real][None]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def folds(real: np.ndarray) -> np.ndarray:
    """A fold for each picture, with the same share of real ones in each."""
    fold = np.zeros(len(real), int)
    for kind in (True, False):
        at = np.flatnonzero(real == kind)
        fold[np.random.default_rng(0).permutation(at)] = np.arange(len(at)) % FOLDS
    return fold


def cross_validate(
    parts: torch.Tensor, owner: np.ndarray, real: np.ndarray, build: Callable, epochs: int
) -> tuple[float, float]:
    """AUC, and accuracy with both kinds weighing the same, of the pictures' mean scores.

    parts: (N, ...) of the pictures `owner` (N,); real: of each picture.
    """
    fold, scores = folds(real), np.zeros(len(real))
    for number in range(FOLDS):
        torch.manual_seed(number)
        chosen = torch.from_numpy(fold[owner] != number)
        x, y = parts[chosen], torch.from_numpy(real[owner]).float()[chosen]
        network = build()
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
        rare = nn.BCEWithLogitsLoss(pos_weight=(1 - y).sum() / y.sum())
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                rare(network(x[batch])[:, 0], y[batch]).backward()
                optimizer.step()
        network.eval()
        with torch.no_grad():
            found = torch.cat([network(part)[:, 0] for part in parts.split(256)]).numpy()
        for picture in np.flatnonzero(fold == number):
            scores[picture] = found[owner == picture].mean()
    return auc(scores, real), ((scores[real] > 0).mean() + (scores[~real] <= 0).mean()) / 2


def network() -> nn.Module:
    """Three strided convolutions: it sees texture, edges and colours, and hardly reads."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 24), (24, 32)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 1))


def pieces(images: list[np.ndarray], side: int, count: int) -> tuple[torch.Tensor, np.ndarray]:
    """`count` random squares of each image, (N, 3, side, side) in [-0.5, 0.5], and the image that each is of."""
    rng, found = np.random.default_rng(1), []
    for image in images:
        for _ in range(count):
            y, x = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
            found.append(image[y : y + side, x : x + side])
    stack = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255 - 0.5
    return stack, np.repeat(np.arange(len(images)), count)


def compare(real: list[Crop], synthetic: list[Crop]) -> dict[str, tuple[float, float]]:
    """AUC and accuracy by classifier."""
    crops = real + synthetic
    is_real = np.arange(len(crops)) < len(real)
    rows = np.array([list(statistics(crop).values()) for crop in crops], np.float32)
    rows = np.where(np.isfinite(rows), rows, np.nanmedian(rows, axis=0))
    rows = np.log1p(rows.clip(0))
    table = torch.from_numpy((rows - rows.mean(0)) / (rows.std(0) + 1e-6))
    every = np.arange(len(crops))
    found = {
        "statistics": cross_validate(table, every, is_real, lambda: nn.Sequential(nn.Linear(table.shape[1], 1)), 60)
    }
    for name, images, side in (("HR", [c.hr for c in crops], 96), ("LR", [c.lr for c in crops], 48)):
        parts, owner = pieces(images, side, 6)
        found[name] = cross_validate(parts, owner, is_real, network, 8)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", metavar="REAL", type=Path)
    parser.add_argument("data", metavar="NAME=DATA:DEGRADATION", nargs="+")
    parser.add_argument("--crops", type=int, default=240, help="of each data set (default: %(default)s)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    real = real_crops(args.real)
    sets = {"real": real}
    for spec in args.data:
        name, _, place = spec.partition("=")
        data, _, degradation = place.rpartition(":")
        sets[name] = synthetic_crops(data, degradation, args.crops)
    measured = {name: [statistics(crop) for crop in crops] for name, crops in sets.items()}
    lines = ["quartiles of the crops | " + " | ".join(f"{name} ({len(crops)})" for name, crops in sets.items())]
    for key in measured["real"][0]:
        values = [np.nanquantile([row[key] for row in rows], (0.25, 0.5, 0.75)) for rows in measured.values()]
        lines.append(f"{key} | " + " | ".join(" / ".join(f"{v:.3g}" for v in three) for three in values))
    lines.append("told from real ones: AUC (accuracy) | " + " | ".join(["statistics", "HR", "LR"]))
    for name in list(sets)[1:]:
        found = compare(real, sets[name])
        lines.append(f"{name} | " + " | ".join(f"{area:.3f} ({share:.2f})" for area, share in found.values()))
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
