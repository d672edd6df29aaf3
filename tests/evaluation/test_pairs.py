"""Data sets to evaluate on: every layout gives the same pairs, and what does not fit is refused by name."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from helpers.evaluation_samples import TEXTS, reduced, save, scene, write_folder, write_ftsr_folders, write_ftsr_parquet
from helpers.source_samples import write_realce
from tadisr.evaluation.pairs import ANNOTATION, ENGINE, open_data


def check_scenes(data, source, masks):
    assert len(data) == 3 and data.scale == 4
    for i, words in enumerate(TEXTS):
        pair = data[i]
        hr, mask, lines = scene(words, i)
        assert pair.name == data.names()[i] and data.size(i) == pair.lr.shape[:2]
        np.testing.assert_array_equal(pair.hr, hr)
        np.testing.assert_array_equal(pair.lr, reduced(hr))
        assert [line.text for line in pair.lines] == list(words)
        for line, (_, quad) in zip(pair.lines, lines, strict=True):
            assert line.source == source and line.quad.dtype == np.float32
            np.testing.assert_array_equal(line.quad, quad)
        if masks:
            np.testing.assert_array_equal(pair.mask, mask)
        else:
            assert pair.mask is None


def test_folders_with_readings(tmp_path):
    data = open_data(write_folder(tmp_path / "photos"))
    check_scenes(data, ENGINE, masks=False)
    assert data.name == "photos" and data.names() == ["000", "001", "002"] and not data.find_lines
    assert data[1].path == str(tmp_path / "photos" / "hr" / "001.png")


def test_folders_with_annotations(tmp_path):
    data = open_data(write_folder(tmp_path, annotated=True))
    check_scenes(data, ANNOTATION, masks=False)
    assert data.find_lines


def test_folders_of_images_alone(tmp_path):
    (write_folder(tmp_path) / "truth.json").unlink()
    data = open_data(tmp_path)
    assert data.find_lines and data[0].lines == []


@pytest.mark.parametrize("write", [write_ftsr_folders, write_ftsr_parquet])
def test_synthesised_data(tmp_path, write):
    data = open_data(write(tmp_path))
    check_scenes(data, ANNOTATION, masks=True)
    assert data.find_lines and len(set(data.names())) == 3
    again = data[0]  # out of order, from another shard
    assert again.lines[0].text == TEXTS[0][0]


def test_what_synthesize_writes(tmp_path):
    """Both of its layouts, from its own writer."""
    from tadisr.data_synthesis.writing.shards import to_parquet
    from tadisr.io.images import encode_png

    rows = []
    for i, words in enumerate(TEXTS):
        hr, mask, lines = scene(words, i)
        pictures = {"lr": reduced(hr), "hr": hr, "mask": (255 * mask).astype(np.uint8)}
        row = {kind: encode_png(pixels) for kind, pixels in pictures.items()}
        boxes = [np.float32(quad).ravel().tolist() for _, quad in lines]
        rows.append(row | {"text": list(words), "boxes": boxes, "seed": i, "sources": ["free"]})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test-00000-of-00001.parquet").write_bytes(to_parquet(rows))
    check_scenes(open_data(tmp_path), ANNOTATION, masks=True)


def test_real_ce(tmp_path):
    data = open_data(write_realce(tmp_path))
    assert data.names() == ["a_1", "a_2"] and data.find_lines and "cubic" in data.note
    pair = data[0]
    assert pair.hr.shape == (96, 128, 3) and pair.lr.shape == (24, 32, 3) and data.size(0) == (24, 32)
    wide = np.asarray(Image.open(tmp_path / "val" / "13mm" / "a_1.png").convert("RGB"))
    np.testing.assert_array_equal(pair.lr, cv2.resize(wide, (32, 24), interpolation=cv2.INTER_CUBIC))
    assert pair.lines and all(line.source == ANNOTATION and "," in line.text for line in pair.lines)
    assert open_data(tmp_path, "train").names() == ["t_1", "t_2"]
    assert open_data(tmp_path, "train")[0].lines[0].quad.shape == (4, 2)
    assert open_data(tmp_path, scale=2)[0].lr.shape == (48, 64, 3)


def test_real_ce_is_cut_to_a_multiple(tmp_path):
    for focal in ("13mm", "52mm"):
        save(tmp_path / "val" / focal / "x.png", scene(("gate",))[0][:101, :123])
    pair = open_data(tmp_path)[0]
    assert pair.hr.shape == (100, 120, 3) and pair.lr.shape == (25, 30, 3) and pair.lines == []


def test_real_ce_with_a_wrong_list(tmp_path):
    (write_realce(tmp_path) / "val" / "valid_list.txt").write_text("a_1.png\nz.png\n")
    with pytest.raises(ValueError, match="names z, which is not in both"):
        open_data(tmp_path)


def test_real_ce_without_pairs_or_splits(tmp_path):
    write_realce(tmp_path)
    for file in (tmp_path / "train" / "52mm").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="No images that are both in 13mm/ and in 52mm/"):
        open_data(tmp_path, "train")
    with pytest.raises(ValueError, match="Real-CE has the splits val, train, not test"):
        open_data(tmp_path, "test")


def rename(path, name):
    path.rename(path.with_name(name))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: save(r / "lr" / "001.png", np.zeros((32, 63, 3), np.uint8)),
         r"hr/001.png has 256 x 128 pixels and .*lr/001.png 63 x 32: expected 4 times as many"),
        (lambda r: (r / "lr" / "001.png").unlink(), "lr has no image 001"),
        (lambda r: (r / "hr" / "001.png").unlink(), "hr has no image 001"),
        (lambda r: (r / "hr" / "001.png").write_bytes(b"no image"), "hr/001.png is empty, damaged"),
        (lambda r: save(r / "hr" / "001.jpg", scene(("x",))[0]), "have one name"),
        (lambda r: (r / "truth.json").write_text("{"), "truth.json is not JSON: Expecting property name"),
        (lambda r: (r / "truth.json").write_text('[{"name": "000"}]'), "truth.json is not .*KeyError: 'text'"),
        (lambda r: (r / "truth.json").write_text('[{"name": "000", "text": [{"text": "a", "box": [1]}]}]'),
         "expected a text and four"),
        (lambda r: (r / "truth.json").write_text('[{"name": "999", "text": []}]'), "there is text for 999"),
    ],
)  # fmt: skip
def test_damaged_folders_are_refused(tmp_path, damage, message):
    damage(write_folder(tmp_path))
    with pytest.raises(ValueError, match=message):
        open_data(tmp_path)


def test_an_image_that_is_cut_off_is_named(tmp_path):
    path = write_folder(tmp_path) / "hr" / "000.png"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"hr/000.png"):
        open_data(tmp_path)[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: save(r / "mask" / "0000001.png", np.zeros((5, 5), np.uint8)),
         "mask/0000001.png.* 5 x 5: expected the same"),
        (lambda r: (r / "metadata.jsonl").write_text('{"file_name": "0000000.png"}\n'), "line 1: KeyError: 'lines'"),
    ],
)  # fmt: skip
def test_damaged_synthesised_folders_are_refused(tmp_path, damage, message):
    damage(write_ftsr_folders(tmp_path) / "test")
    with pytest.raises(ValueError, match=message):
        data = open_data(tmp_path)
        [data[i] for i in range(3)]


def test_what_is_no_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="No folder"):
        open_data(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no data set known here: expected hr/ and lr/, data/test-\*"):
        open_data(tmp_path)
    for part in ("hr", "lr"):
        (tmp_path / part).mkdir()
    with pytest.raises(FileNotFoundError, match="No images in"):
        open_data(tmp_path)


def test_turned_photographs_are_measured_upright(tmp_path):
    """EXIF says how a photograph is to be held; sizes are compared as it is shown."""
    hr = scene(("gate",))[0]
    for part, pixels in (("hr", hr), ("lr", reduced(hr))):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn clockwise
        (tmp_path / part).mkdir()
        Image.fromarray(np.rot90(pixels)).save(tmp_path / part / "a.jpg", quality=95, exif=exif)
    data = open_data(tmp_path)
    assert data.size(0) == (32, 64) and data[0].hr.shape == (128, 256, 3)


def test_truth_may_be_about_some_images_only(tmp_path):
    root = write_folder(tmp_path)
    truth = json.loads((root / "truth.json").read_text())
    (root / "truth.json").write_text(json.dumps(truth[:1]))
    data = open_data(root)
    assert len(data) == 3 and data[1].lines == [] and not data.find_lines
