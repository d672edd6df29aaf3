"""The `paddleocr` package, 3.0 or later."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tadisr.io.structured import read_yaml
from tadisr.ocr.engine import Reading, TextLine, describe_files, to_bgr, to_lines, to_readings
from tadisr.ocr.lines import pad_strip


class PaddleOCREngine:
    """The `paddleocr` package, 3.0 or later.

    Args:
        detection: the detector: an official model's name, which PaddleOCR downloads, or a folder that holds
            `inference.yml` and the model's files, which works offline.
        recognition: the recogniser, named in the same way.
        device: as PaddleOCR names it: "cpu", "gpu", "gpu:0".
        threads: threads of each model on a CPU; None: PaddleOCR's default.
        batch_size: lines in one call of the network; see `RapidOCREngine`.
        mkldnn: use oneDNN on a CPU. With paddlepaddle 3.3 and oneDNN, PP-OCRv4's detector fails.

    Raises FileNotFoundError for a folder without a model, ValueError where its `inference.yml` names none.
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
            import paddle  # noqa: F401  paddleocr imports it only at the first image
            from paddleocr import PaddleOCR  # pyright: ignore[reportMissingImports]  it has an environment of its own
        except ImportError:
            raise ImportError(
                "This engine needs PaddleOCR 3: pip install 'tadisr[paddle]', in an environment of its own, because "
                "it brings another OpenCV and an older NumPy."
            ) from None
        self._batch_size = batch_size
        self._pipeline = PaddleOCR(
            **_paddle_model("detection", detection),
            **_paddle_model("recognition", recognition),
            text_recognition_batch_size=batch_size,
            use_doc_orientation_classify=False,  # these three need further models
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
        results = list(self._recognizer.predict([to_bgr(line) for line in lines], batch_size=self._batch_size))
        return to_readings([result["rec_text"] for result in results], [result["rec_score"] for result in results])

    def find(self, image: np.ndarray) -> list[TextLine]:
        result = self._pipeline.predict(pad_strip(to_bgr(image)))[0]
        return to_lines(result["rec_texts"], result["rec_polys"], result["rec_scores"], image)

    def describe(self) -> dict[str, Any]:
        folders = [Path(model.model_dir) for model in (self._detector, self._recognizer)]
        files = [path for folder in folders for path in sorted(folder.glob("inference.*")) if path.suffix != ".info"]
        return describe_files("paddleocr", ("paddleocr", "paddlepaddle"), files)


def _paddle_model(kind: str, model: str | Path) -> dict[str, str | None]:
    """PaddleOCR's options for a model: its name, and its folder unless `model` is a name."""
    folder = Path(model)
    if not folder.exists() and len(folder.parts) == 1:
        return {f"text_{kind}_model_name": str(model), f"text_{kind}_model_dir": None}
    config = folder / "inference.yml"
    if not config.is_file():
        raise FileNotFoundError(f"{folder} is no folder of a PaddleOCR model: there is no {config}.")
    try:
        name = str(read_yaml(config)["Global"]["model_name"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{config} does not name its model: it needs Global: model_name.") from None
    return {f"text_{kind}_model_name": name, f"text_{kind}_model_dir": str(folder)}
