"""One pass over a data set: every image is decoded once and restored once by each method, every line read once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tadisr.datasets.folders import check_scale
from tadisr.evaluation.methods import HR_ANCHOR, Method, Restored
from tadisr.evaluation.pairs import ENGINE, Line, Pair, Pairs
from tadisr.evaluation.records import ImageRecord, LineRecord, Reading, Records
from tadisr.io.images import write_image
from tadisr.metrics.image import psnr, psnr_inside, ssim
from tadisr.metrics.segmentation import boundary_f, mask_counts
from tadisr.metrics.text import script_of
from tadisr.ocr import OCREngine, crop_line, is_box, line_height

if TYPE_CHECKING:
    from tadisr.metrics.perceptual import InceptionFeatures

READ_AT_ONCE = 1024  # lines whose crops are collected before the engines read them


class Runner:
    """Measures methods, the LR anchor first, on a data set; the HR anchor is added.

    The first engine judges. Unless the data set says what an engine read, the judge also finds the lines. Restored
    images are written to `out/images/METHOD/NAME.png`, masks to `out/masks/`. `distances`: perceptual ones by name.
    """

    def __init__(
        self,
        data: Pairs,
        methods: Sequence[Method],
        engines: Mapping[str, OCREngine],
        out: Path,
        distances: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] | None = None,
        inception: "InceptionFeatures | None" = None,
    ):
        self._data, self._methods, self._engines, self._out = data, methods, engines, out
        self._distances, self._inception = distances or {}, inception
        self._judge = next(iter(engines.values()))
        self._waiting: list[tuple[dict[str, Reading], np.ndarray]] = []  # where readings belong, and what is to be read

    def run(self, limit: int | None = None, progress: Callable[[int, int], None] = lambda done, total: None) -> Records:
        """Measure the first `limit` pairs, with `progress` as in `report.evaluate`.

        ValueError where no image can be read, or a method's output has a size that does not fit.
        """
        count = len(self._data) if limit is None else min(limit, len(self._data))
        records = Records(seconds={method.name: 0.0 for method in self._methods if method.timed})
        total = count * len(self._methods)
        progress(0, total)
        for i in range(count):
            try:
                pair = self._data[i]
            except ValueError as error:
                records.failed.append(str(error))
                continue
            versions: dict[str, Restored] = {}
            # What is timed comes first: other rows may use its results.
            for number, method in enumerate(sorted(self._methods, key=lambda method: not method.timed)):
                started = perf_counter()
                versions[method.name] = method(pair.lr, pair.name)
                if method.timed:
                    records.seconds[method.name] += perf_counter() - started
                self._keep(pair, method.name, versions[method.name])
                progress(i * len(self._methods) + number + 1, total)
            versions = {method.name: versions[method.name] for method in self._methods}
            versions[HR_ANCHOR] = Restored(pair.hr)
            lines = self._find_lines(pair)
            records.images.append(self._measure(pair, lines, versions, records))
            records.lines += self._queue(pair, lines, versions)
            if len(self._waiting) >= READ_AT_ONCE:
                self._read()
        self._read()
        if not records.images:
            raise ValueError(records.failed[0])
        return records

    def _keep(self, pair: Pair, method: str, version: Restored) -> None:
        small, large = pair.lr.shape[:2], version.image.shape[:2]
        check_scale(f"the LR image {pair.name}", small, f"what {method} made of it", large, self._data.scale)
        for folder, pixels in (("images", version.image), ("masks", version.mask)):
            if pixels is not None:
                path = self._out / folder / method / f"{pair.name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, pixels)

    def _find_lines(self, pair: Pair) -> list[Line]:
        found = self._judge.find(pair.hr) if self._data.find_lines else []
        return [Line(line.text, line.quad, ENGINE) for line in found if is_box(line.quad)] + pair.lines

    def _measure(
        self, pair: Pair, lines: Sequence[Line], versions: Mapping[str, Restored], records: Records
    ) -> ImageRecord:
        scores: dict[str, dict[str, float | None]] = {}
        boxes = np.zeros(pair.hr.shape[:2], np.uint8)
        for line in lines:
            cv2.fillPoly(boxes, [np.round(line.quad).astype(np.int32)], 1)
        text = boxes.astype(bool)
        try:
            for name, version in versions.items():
                image = version.image
                scores[name] = {
                    "psnr": psnr(image, pair.hr),
                    "ssim": ssim(image, pair.hr),
                    **({"psnr_text": psnr_inside(image, pair.hr, text)} if lines else {}),
                    **({"psnr_rest": psnr_inside(image, pair.hr, ~text)} if lines else {}),
                    **{name: distance(image, pair.hr) for name, distance in self._distances.items()},
                }
                if self._inception is not None:
                    records.features.setdefault(name, []).append(self._inception(image))
                if version.mask is not None and pair.mask is not None:
                    mask = version.mask.astype(np.float32) / 255
                    records.mask_counts.setdefault(name, []).append(mask_counts(mask, pair.mask))
                    if pair.mask.any():
                        records.boundary_f.setdefault(name, []).append(boundary_f(mask > 0.5, pair.mask))
        except ValueError as error:
            raise ValueError(f"{pair.path}: {error}") from None
        return {"name": pair.name, "hr": pair.path, "size": list(pair.hr.shape[:2]), "methods": scores}

    def _queue(self, pair: Pair, lines: Sequence[Line], versions: Mapping[str, Restored]) -> Iterator[LineRecord]:
        """Yield a record for every line of the pair; `_read` adds the readings."""
        for index, line in enumerate(lines):
            record: LineRecord = {
                "image": pair.name,
                "index": index,
                "quad": np.round(line.quad.astype(float), 2).tolist(),
                "text": line.text,
                "source": line.source,
                "script": script_of(line.text),
                "height": round(line.glyph_height or line_height(line.quad), 1),
                "read": {name: {} for name in versions},
                "ocr_a": {},
            }
            for name, version in versions.items():
                try:
                    self._waiting.append((record["read"][name], crop_line(version.image, line.quad)))
                except ValueError as error:
                    raise ValueError(f"{pair.path}, line {index} ({line.text!r}): {error}") from None
            yield record

    def _read(self) -> None:
        """Let every engine read the crops that are waiting."""
        places, crops = [place for place, _ in self._waiting], [crop for _, crop in self._waiting]
        for name, engine in self._engines.items():
            for place, reading in zip(places, engine.read(crops), strict=True):
                place[name] = {"text": reading.text, "score": round(reading.score, 4)}
        self._waiting.clear()
