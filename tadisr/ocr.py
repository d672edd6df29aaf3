"""Text detection and recognition behind one small protocol.

Images are uint8 RGB, (H, W, 3); quads are four (x, y) corners in pixels. Engines, by name: "rapidocr" (PP-OCR on ONNX
Runtime; its models come inside its wheel, so it works offline), "paddleocr" (the package of that name) and "tesseract"
(the program of that name).
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np


class Reading(NamedTuple):
    """What one line says; `score` is the mean confidence of its characters, in [0, 1], 0 where nothing was read."""

    text: str
    score: float


class TextLine(NamedTuple):
    """A line found in an image: text, quad (4, 2) float32 from its top left clockwise, score as in `Reading`."""

    text: str
    quad: np.ndarray
    score: float


class OCREngine(Protocol):
    """Finds and reads text."""

    def read(self, lines: Sequence[np.ndarray]) -> list[Reading]:
        """What each image says, an upright line filling it."""
        ...

    def find(self, image: np.ndarray) -> list[TextLine]:
        """The lines of a whole image in reading order, without those in which nothing could be read."""
        ...

    def describe(self) -> dict[str, Any]:
        """Name, package versions, and SHA-256 of each model file: what a reading depends on. Plain JSON values."""
        ...


class RapidOCREngine:
    """The `rapidocr` package.

    Args:
        threads: of each model; None: one per core. Give 1 in worker processes.
        batch_size: lines in one call of the network. Only lines of equal padded width share one, so that a reading does
            not depend on the lines beside it. On a CPU one is as fast as many (20 ms a line on one core).
        workers: calls side by side; on a CPU better than more `threads`.
        params: RapidOCR's own settings by dotted name, such as {"EngineConfig.onnxruntime.use_cuda": True}.

    Raises:
        ImportError: the package is not installed.
    """

    def __init__(
        self,
        threads: int | None = None,
        batch_size: int = 1,
        workers: int = 1,
        params: Mapping[str, Any] | None = None,
    ):
        if min(batch_size, workers) < 1:
            raise ValueError(f"batch_size and workers must be at least 1, not {batch_size} and {workers}.")
        try:
            import onnxruntime  # noqa: F401  rapidocr itself would only miss it at the first image
            from rapidocr import RapidOCR
        except ImportError:
            raise ImportError("Reading text needs RapidOCR: pip install 'tadisr[ocr]'.") from None
        settings = {"Global.log_level": "error", "Global.text_score": 0.0, "Rec.rec_batch_num": batch_size}
        if threads is not None:
            settings["EngineConfig.onnxruntime.intra_op_num_threads"] = threads
            settings["EngineConfig.onnxruntime.inter_op_num_threads"] = threads
        self._engine = RapidOCR(params=settings | dict(params or {}))
        self._batch_size, self._workers = batch_size, workers

    def read(self, lines: Sequence[np.ndarray]) -> list[Reading]:
        images = [_to_bgr(line) for line in lines]
        height, least = self._engine.cfg.Rec.rec_img_shape[1:]
        groups = defaultdict(list)  # by the width to which RapidOCR pads
        for i, image in enumerate(images):
            groups[int(height * max(least / height, image.shape[1] / image.shape[0]))].append(i)
        batches = [
            groups[width][start : start + self._batch_size]
            for width in sorted(groups, reverse=True)
            for start in range(0, len(groups[width]), self._batch_size)
        ]

        def read_batch(batch: list[int]) -> list[Reading]:
            # not through __call__: that rounds the sides of lines under 30 pixels to multiples of 32
            result = self._engine.recognize_txt([images[i] for i in batch])
            return _readings(result.txts, result.scores)

        readings: dict[int, Reading] = {}
        with ThreadPoolExecutor(self._workers) as pool:
            for batch, results in zip(batches, pool.map(read_batch, batches), strict=True):
                readings.update(zip(batch, results, strict=True))
        return [readings[i] for i in range(len(images))]

    def find(self, image: np.ndarray) -> list[TextLine]:
        # Detection alone: RapidOCR would read the lines of an image reduced to 2000 pixels, and turn those that are
        # upside down without their boxes telling.
        boxes = self._engine(_fill_out(_to_bgr(image)), use_det=True, use_cls=False, use_rec=False).boxes
        corner = np.float32([image.shape[1], image.shape[0]])
        quads = [
            quad
            for quad in (np.float32(box).clip(0, corner) for box in ([] if boxes is None else boxes))
            if is_box(quad)
        ]
        if not quads:
            return []
        lines = [crop_line(image, quad) for quad in quads]
        verdicts = self._engine.cls_and_rotate([_to_bgr(line) for line in lines])[1].cls_res
        for i, (angle, sure) in enumerate(verdicts):
            if angle == "180" and sure > self._engine.cfg.Cls.cls_thresh:
                quads[i], lines[i] = np.roll(quads[i], 2, axis=0), np.ascontiguousarray(lines[i][::-1, ::-1])
        readings = self.read(lines)
        return _found((r.text for r in readings), quads, (r.score for r in readings), image)

    def describe(self) -> dict[str, Any]:
        from rapidocr.inference_engine.base import FileInfo, InferSession

        files = []
        for part in (self._engine.cfg.Det, self._engine.cfg.Cls, self._engine.cfg.Rec):
            path = part.model_path
            if path is None:
                info = FileInfo(part.engine_type, part.ocr_version, part.task_type, part.lang_type, part.model_type)
                name = Path(InferSession.get_model_url(info)["model_dir"]).name
                path = Path(self._engine.cfg.Global.model_root_dir) / name
            files.append(Path(path))
        return _description("rapidocr", ("rapidocr", "onnxruntime"), files)


class PaddleOCREngine:
    """The `paddleocr` package, 3.0 or later.

    Args:
        detection, recognition: an official model's name, which PaddleOCR fetches, or a folder with `inference.yml`
            and the model's files, which works offline.
        device: as PaddleOCR names it: "cpu", "gpu", "gpu:0".
        threads: of each model on a CPU; None: PaddleOCR's default.
        batch_size: lines read at once; see `RapidOCREngine`.
        mkldnn: use oneDNN on a CPU. Off, since with paddlepaddle 3.3 PP-OCRv4's detector then fails.

    Raises:
        ImportError: the packages are not installed.
        FileNotFoundError, ValueError: a folder that holds no model.
    """

    def __init__(
        self,
        detection: str | Path = "PP-OCRv5_mobile_det",
        recognition: str | Path = "PP-OCRv5_mobile_rec",
        device: str = "cpu",
        threads: int | None = None,
        batch_size: int = 1,
        mkldnn: bool = False,
    ):
        try:
            import paddle  # noqa: F401  paddleocr itself would only miss it at the first image
            from paddleocr import PaddleOCR
        except ImportError:
            raise ImportError(
                "This engine needs PaddleOCR 3: pip install 'tadisr[paddle]', in an environment of its own, because "
                "it brings another OpenCV and an older NumPy."
            ) from None
        detection_name, detection_folder = _paddle_model(detection)
        recognition_name, recognition_folder = _paddle_model(recognition)
        self._batch_size = batch_size
        self._pipeline = PaddleOCR(
            text_detection_model_name=detection_name,
            text_detection_model_dir=detection_folder,
            text_recognition_model_name=recognition_name,
            text_recognition_model_dir=recognition_folder,
            text_recognition_batch_size=batch_size,
            use_doc_orientation_classify=False,  # these three would fetch more models
            use_doc_unwarping=False,
            use_textline_orientation=False,
            device=device,
            enable_mkldnn=mkldnn,
            **({} if threads is None else {"cpu_threads": threads}),
        )
        models = self._pipeline.paddlex_pipeline
        self._detector, self._recognizer = models.text_det_model, models.text_rec_model

    def read(self, lines: Sequence[np.ndarray]) -> list[Reading]:
        if not lines:
            return []
        results = list(self._recognizer.predict([_to_bgr(line) for line in lines], batch_size=self._batch_size))
        return _readings([result["rec_text"] for result in results], [result["rec_score"] for result in results])

    def find(self, image: np.ndarray) -> list[TextLine]:
        result = self._pipeline.predict(_fill_out(_to_bgr(image)))[0]
        return _found(result["rec_texts"], result["rec_polys"], result["rec_scores"], image)

    def describe(self) -> dict[str, Any]:
        folders = [Path(model.model_dir) for model in (self._detector, self._recognizer)]
        files = [path for folder in folders for path in sorted(folder.glob("inference.*")) if path.suffix != ".info"]
        return _description("paddleocr", ("paddleocr", "paddlepaddle"), files)


def _tesseract(**options: Any) -> OCREngine:
    from tadisr.tesseract import TesseractEngine  # which needs this module

    return TesseractEngine(**options)


ENGINES: dict[str, Callable[..., OCREngine]] = {
    "rapidocr": RapidOCREngine,
    "paddleocr": PaddleOCREngine,
    "tesseract": _tesseract,
}


def load_engine(name: str = "rapidocr", **options: Any) -> OCREngine:
    """An engine by name; `options` as its class takes them.

    Raises:
        ValueError: an unknown name.
        ImportError: its package or program is not installed.
    """
    if name not in ENGINES:
        raise ValueError(f"No OCR engine {name!r}: choose one of {', '.join(ENGINES)}.")
    return ENGINES[name](**options)


def is_tall(line: np.ndarray) -> bool:
    """Whether it is taken for a vertical one: at least 1.5 times taller than wide, as in PP-OCR's pipeline."""
    return line.shape[0] >= 1.5 * line.shape[1]


def upright(line: np.ndarray) -> np.ndarray:
    """The line turned by 90 degrees if it is a vertical one."""
    return np.rot90(line) if is_tall(line) else line


def is_box(quad: np.ndarray) -> bool:
    """Whether there is anything to cut out: detectors also give boxes that are clipped to a line at the border."""
    return min(cv2.minAreaRect(quad)[1]) >= 1 and cv2.contourArea(quad) >= 1


def crop_line(image: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Cut a line out by its corners and make it upright; `cut_line` leaves it as it lies."""
    return upright(cut_line(image, quad))


def cut_line(image: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Cut a line out by its corners.

    image: (H, W, 3) uint8. quad: (4, 2) (x, y), clockwise from the text's top left.

    Raises:
        ValueError: a box without area.
    """
    quad = np.asarray(quad, np.float32)
    width = round(max(np.linalg.norm(quad[0] - quad[1]), np.linalg.norm(quad[2] - quad[3])))
    height = round(max(np.linalg.norm(quad[0] - quad[3]), np.linalg.norm(quad[1] - quad[2])))
    if width < 1 or height < 1:
        raise ValueError(f"The box {quad.tolist()} has no area.")
    target = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    return cv2.warpPerspective(
        image,
        cv2.getPerspectiveTransform(quad, target),
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _to_bgr(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"Expected a uint8 RGB image (H, W, 3), got {image.dtype} {image.shape}.")
    return np.ascontiguousarray(image[..., ::-1])


def _fill_out(image: np.ndarray) -> np.ndarray:
    """Strips more than 8 times longer than wide, their border repeated to the right or below to 4 times.

    Detectors enlarge the short side to hundreds of pixels: a strip of 300 x 4 pixels took 74 s and 5 GB. RapidOCR pads
    likewise, but only above and below.
    """
    height, width = image.shape[:2]
    if max(height, width) > 8 * min(height, width):
        least = max(height, width) // 4
        pad = [max(0, least - side) for side in (height, width)]
        image = cv2.copyMakeBorder(image, 0, pad[0], 0, pad[1], cv2.BORDER_REPLICATE)
    return image


def _readings(texts: Iterable[str], scores: Iterable[float]) -> list[Reading]:
    return [Reading(text, float(score) if text else 0.0) for text, score in zip(texts, scores, strict=True)]


def _found(
    texts: Iterable[str], quads: Iterable[np.ndarray], scores: Iterable[float], image: np.ndarray
) -> list[TextLine]:
    corner = np.float32([image.shape[1], image.shape[0]])
    return [
        TextLine(text, np.asarray(quad, np.float32).clip(0, corner), float(score))
        for text, quad, score in zip(texts, quads, scores, strict=True)
        if text.strip()
    ]


def _description(name: str, packages: Iterable[str], files: Iterable[Path]) -> dict[str, Any]:
    return {
        "engine": name,
        "packages": {package: version(package) for package in packages},
        "models": {f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }


def _paddle_model(model: str | Path) -> tuple[str, str | None]:
    """The name that PaddleOCR knows a model by, and its folder; None where `model` is a name already."""
    import yaml  # paddleocr depends on it

    folder = Path(model)
    if not folder.exists() and len(folder.parts) == 1:
        return str(model), None
    config = folder / "inference.yml"
    if not config.is_file():
        raise FileNotFoundError(f"{folder} is no folder of a PaddleOCR model: there is no {config}.")
    try:
        return str(yaml.safe_load(config.read_text(encoding="utf-8"))["Global"]["model_name"]), str(folder)
    except (yaml.YAMLError, KeyError, TypeError):
        raise ValueError(f"{config} does not name its model: it needs Global: model_name.") from None
