"""PP-OCR on ONNX Runtime: the `rapidocr` package, whose models come inside its wheel, so it works offline."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tadisr.ocr.engine import Reading, TextLine, describe_files, to_bgr, to_lines, to_readings
from tadisr.ocr.lines import clip_quad, crop_line, is_box, pad_strip


class RapidOCREngine:
    """The `rapidocr` package.

    Args:
        threads: threads of each model; None: one per core.
        batch_size: lines in one call of the network. Only lines of equal padded width share a call, so a reading does
            not depend on the lines beside it. On a CPU one line a call is as fast as many (20 ms a line on one core).
        workers: calls that run at the same time. On a CPU this is faster than more `threads`.
        params: RapidOCR's own settings by dotted name, such as {"EngineConfig.onnxruntime.use_cuda": True}.
    """

    def __init__(
        self, threads: int | None = None, batch_size: int = 1, workers: int = 1, params: Mapping[str, Any] | None = None
    ):
        if min(batch_size, workers) < 1:
            raise ValueError(f"batch_size and workers must be at least 1, not {batch_size} and {workers}.")
        try:
            import onnxruntime  # noqa: F401  rapidocr imports it only at the first image
            from rapidocr import RapidOCR
        except ImportError:
            raise ImportError("Reading text needs RapidOCR: pip install 'tadisr[ocr]'.") from None
        settings = {"Global.log_level": "error", "Global.text_score": 0.0, "Rec.rec_batch_num": batch_size}
        if threads is not None:
            settings |= {f"EngineConfig.onnxruntime.{kind}_op_num_threads": threads for kind in ("intra", "inter")}
        self._engine: Any = RapidOCR(params=settings | dict(params or {}))
        self._batch_size, self._workers = batch_size, workers

    def read(self, lines: Sequence[np.ndarray]) -> list[Reading]:
        images = [to_bgr(line) for line in lines]
        height, least = self._engine.cfg.Rec.rec_img_shape[1:]
        groups = defaultdict(list)  # by the width to which RapidOCR pads
        for i, image in enumerate(images):
            groups[int(height * max(least / height, image.shape[1] / image.shape[0]))].append(i)
        batches = [
            groups[width][start : start + self._batch_size]
            for width in sorted(groups, reverse=True)
            for start in range(0, len(groups[width]), self._batch_size)
        ]

        def read_batch(batch: list[int]) -> Iterator[tuple[int, Reading]]:
            # Not `self._engine(...)`, which rounds the sides of lines under 30 pixels to multiples of 32.
            result = self._engine.recognize_txt([images[i] for i in batch])
            return zip(batch, to_readings(result.txts, result.scores), strict=True)

        with ThreadPoolExecutor(self._workers) as pool:
            readings = dict(chain.from_iterable(pool.map(read_batch, batches)))
        return [readings[i] for i in range(len(images))]

    def find(self, image: np.ndarray) -> list[TextLine]:
        # Detection alone: RapidOCR reads lines from an image reduced to 2000 pixels, and it turns lines that are upside
        # down without turning their boxes.
        boxes = self._engine(pad_strip(to_bgr(image)), use_det=True, use_cls=False, use_rec=False).boxes
        quads = [clip_quad(box, image) for box in ([] if boxes is None else boxes)]
        quads = [quad for quad in quads if is_box(quad)]
        if not quads:
            return []
        lines = [crop_line(image, quad) for quad in quads]
        angles = self._engine.cls_and_rotate([to_bgr(line) for line in lines])[1].cls_res
        for i, (angle, score) in enumerate(angles):
            if angle == "180" and score > self._engine.cfg.Cls.cls_thresh:
                quads[i], lines[i] = np.roll(quads[i], 2, axis=0), np.ascontiguousarray(lines[i][::-1, ::-1])
        readings = self.read(lines)
        return to_lines((r.text for r in readings), quads, (r.score for r in readings), image)

    def describe(self) -> dict[str, Any]:
        from rapidocr.inference_engine.base import FileInfo, InferSession

        config, files = self._engine.cfg, []
        for net in (config.Det, config.Cls, config.Rec):
            path = net.model_path
            if path is None:
                info = FileInfo(net.engine_type, net.ocr_version, net.task_type, net.lang_type, net.model_type)
                path = Path(config.Global.model_root_dir, Path(InferSession.get_model_url(info)["model_dir"]).name)
            files.append(Path(path))
        return describe_files("rapidocr", ("rapidocr", "onnxruntime"), files)
