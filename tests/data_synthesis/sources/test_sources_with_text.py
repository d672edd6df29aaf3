"""Sources with text: TextSeg, BTS, CTR, Real-CE, each on a sample in the layout in which it is distributed."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from helpers import source_samples as samples
from tadisr.data_synthesis.sources import open_source
from tadisr.data_synthesis.sources.annotated import read_words, stroke_mask
from tadisr.data_synthesis.sources.source import open_gray


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The paper's sources, by kind; shared, so copy what you change."""
    return samples.write_paper_sources(tmp_path_factory.mktemp("paper"))


# --- TextSeg and BTS


def test_textseg_photographs_have_stroke_masks_and_words(paper):
    source = open_source(f"textseg:{paper['textseg']}")
    samples.check_contract(source)
    assert source.kind == "crops"
    assert source.names() == [f"a0000{i}.jpg" for i in range(1, 5)]
    image, mask, words = samples.scene(("OPEN", "Coffee"), 0)
    sample = source[0]
    assert (sample.mask == mask).all()  # 100 is text; neither 200 (effect) nor 255 (ignore) is
    assert np.abs(sample.image.astype(int) - image).mean() < 8  # JPEG
    assert [line["text"] for line in sample.lines] == ["OPEN", "Coffee"]
    assert sample.lines[0]["quad"] == np.reshape(words[0][1], (4, 2)).tolist()


def test_textseg_splits(paper, tmp_path):
    def names(path, split):
        return open_source({"kind": "textseg", "path": str(path), "split": split}).names()

    assert names(paper["textseg"], "train") == ["a00001.jpg", "a00002.jpg"]
    assert names(paper["textseg"], "val") == ["a00003.jpg"] and names(paper["textseg"], "test") == ["a00004.jpg"]
    shutil.copytree(paper["textseg"], tmp_path / "copy")
    (tmp_path / "copy" / "split.json").write_text("{}")
    with pytest.raises(ValueError, match="split.json does not say which images are for train"):
        names(tmp_path / "copy", "train")
    (tmp_path / "copy" / "split.json").unlink()
    assert len(names(tmp_path / "copy", "all")) == 4
    with pytest.raises(ValueError, match="has no split.json: its split 'train' is unknown"):
        names(tmp_path / "copy", "train")
    with pytest.raises(ValueError, match="TextSeg has no split 'dev': known are train, val, test, all"):
        names(paper["textseg"], "dev")


@pytest.mark.parametrize("kind", ["textseg", "bts"])
def test_crops_around_words(paper, kind):
    whole = open_source(f"{kind}:{paper[kind]}")
    source = open_source({"kind": kind, "path": str(paper[kind]), "crops": True})
    samples.check_contract(source)
    expected = [
        (f"{s.name}#{n}", s, line) for s in map(whole.__getitem__, range(len(whole))) for n, line in enumerate(s.lines)
    ]
    assert source.names() == [name for name, _, _ in expected]
    for i, (_, photo, line) in enumerate(expected):
        crop = source[i]
        assert crop.text == line["text"] and crop.lines[0]["text"] == line["text"]
        (left, top), (right, bottom) = np.min(line["quad"], 0).astype(int), np.max(line["quad"], 0).astype(int)
        x, y = (int(v) for v in crop.lines[0]["quad"][0])  # margin around the word, unless the edge is nearer
        assert 0 <= x <= 6 and 0 < y <= 6
        inner = np.s_[y : y + bottom - top, x : x + right - left]
        assert (crop.image[inner] == photo.image[top:bottom, left:right]).all()
        assert (crop.mask[inner] == photo.mask[top:bottom, left:right]).all() and crop.mask.any()


def test_bts_layouts_and_chinese(paper, tmp_path):
    source = open_source(f"bts:{paper['bts']}")
    samples.check_contract(source)
    assert source.names() == ["test/1_3.jpg", "train/1_1.jpg", "val/1_2.jpg"]
    assert source[1].lines[0]["text"] == "营业中 OPEN"
    assert set(np.unique(source[0].mask)) == {0, 255}
    only = open_source({"kind": "bts", "path": str(paper["bts"]), "split": "val"})
    assert only.names() == ["val/1_2.jpg"]
    # The variant of the authors' script: TRAIN/, masks NAME.png; and one part alone, named by its own folder.
    shutil.copytree(paper["bts"] / "BTS_TRAIN", tmp_path / "TRAIN")
    (mask := tmp_path / "TRAIN" / "semantic_label" / "1_1_maskfg.png").rename(mask.with_name("1_1.png"))
    for path in (tmp_path, tmp_path / "TRAIN"):
        variant = open_source({"kind": "bts", "path": str(path), "split": "train"})
        assert variant.names() == ["train/1_1.jpg"] and (variant[0].mask == source[1].mask).all()


def test_two_datasets_are_not_mixed(paper, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(paper["textseg"], tmp_path / name)
    with pytest.raises(ValueError, match=r"holds several datasets \(.*one, .*two\): give the path of one"):
        open_source(f"textseg:{tmp_path}")
    shutil.rmtree(tmp_path / "two")
    assert len(open_source(f"textseg:{tmp_path}")) == 4  # a folder around the dataset does no harm


def test_rearranged_textseg_has_masks_without_words(tmp_path):
    samples.write_textseg_processed(tmp_path)
    source = open_source({"kind": "textseg", "path": str(tmp_path), "split": "test"})
    samples.check_contract(source)
    assert source.names() == ["test/a00002.jpg"]
    assert (source[0].mask == samples.scene(samples.WORDS[2:3], 2)[1]).all() and source[0].lines == []
    with pytest.raises(FileNotFoundError, match="no words to crop by: annotation/"):
        open_source({"kind": "textseg", "path": str(tmp_path), "crops": True})


def test_damaged_annotations_spoil_only_their_own_image(paper, tmp_path):
    root = shutil.copytree(paper["textseg"], tmp_path / "copy")
    (root / "annotation" / "a00001_anno.json").write_text("{")
    (root / "annotation" / "a00002_anno.json").write_text(json.dumps({"0": {"text": "x", "bbox": [900, 5] * 4}}))
    (root / "semantic_label" / "a00003_maskfg.png").unlink()
    samples.save(root / "semantic_label" / "a00004_maskfg.png", np.zeros((5, 5), np.uint8))
    source = open_source({"kind": "textseg", "path": str(root), "crops": True})
    names = source.names()
    assert names[:2] == ["a00001.jpg#0", "a00002.jpg#0"]
    for name, message in {
        "a00001.jpg#0": "a00001_anno.json is not an annotation of words",
        "a00002.jpg#0": r"a00002_anno.json: word 0 \('x'\) lies outside of its image",
        "a00003.jpg#0": "a00003.jpg has no mask: neither a00003_maskfg.png nor a00003.png is there",
    }.items():
        with pytest.raises(ValueError, match=message):
            source[names.index(name)]
    with pytest.raises(ValueError, match="a00004_maskfg.png is 5x5 pixels, its image 128x96"):
        open_source(f"textseg:{root}")[3]
    with pytest.raises(ValueError, match="a00001_anno.json is not an annotation"):
        source.size(0)


def test_masks_drawn_on_stored_pixels_fit_rotated_photographs(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image, mask = samples.photograph(0, (16, 24)), np.zeros((16, 24), np.uint8)
    samples.save(tmp_path / "image" / "1.png", image, exif=exif)
    samples.save(tmp_path / "semantic_label" / "1.png", mask)
    source = open_source(f"bts:{tmp_path}")
    assert (source[0].image == image).all() and source.size(0) == (16, 24)
    samples.save(tmp_path / "semantic_label" / "1.png", mask.T)  # drawn on the upright photograph
    assert (source[0].image == np.rot90(image, -1)).all() and source.size(0) == (24, 16)


def test_mask_codings(tmp_path):
    coded = np.array([[0, 100, 200, 255]], np.uint8)
    assert stroke_mask(coded).tolist() == [[0, 255, 0, 0]]
    assert stroke_mask(np.array([[0, 255]], np.uint8)).tolist() == [[0, 255]]
    assert stroke_mask(np.array([[0, 255]], np.uint8), coded=True).tolist() == [[0, 0]]
    assert stroke_mask(np.array([[0, 1]], np.uint8)).tolist() == [[0, 255]]
    palette = Image.fromarray(coded)
    palette.putpalette([255 - i // 3 for i in range(768)])  # colours that are not the labels
    palette.save(tmp_path / "mask.png")
    assert Image.open(tmp_path / "mask.png").mode == "P"
    assert (open_gray(tmp_path / "mask.png", "mask") == coded).all()


def test_annotations_with_other_polygons_and_encodings(tmp_path):
    path = tmp_path / "anno.json"
    corners = [[10, 20], [50, 20], [50, 30], [30, 30], [10, 30]]
    path.write_bytes(json.dumps([{"text": "出口", "bbox": corners}], ensure_ascii=False).encode("gbk"))
    (word,) = read_words(path)
    assert word["text"] == "出口"
    np.testing.assert_allclose(word["quad"], [[10, 20], [50, 20], [50, 30], [10, 30]], atol=1e-3)
    for bbox in ([1, 2, 3, 4], [1, 2, 3], ["a"] * 8, None):
        path.write_text(json.dumps({"0": {"text": "", "bbox": bbox}}))
        with pytest.raises(ValueError, match="anno.json is not an annotation of words"):
            read_words(path)


# --- CTR


def test_ctr_reads_every_database_from_key_one(paper):
    source = open_source(f"ctr:{paper['ctr']}")
    samples.check_contract(source)
    assert source.kind == "crops" and len(source) == 12
    assert source.names()[:2] == ["scene_test/000000001", "scene_test/000000002"]
    assert source[0].text == "OPEN营业中" and source[1].text == "Coffee" and source[0].mask is None
    assert (source[1].image == samples.text_line("Coffee", 32, 102)[0]).all()
    assert source[-1].name == "web_train/000000004"
    train = open_source({"kind": "ctr", "path": str(paper["ctr"]), "split": "train"})
    assert {name.split("/")[0] for name in train.names()} == {"scene_train", "web_train"}
    alone = open_source(f"ctr:{paper['ctr'] / 'scene_train'}")  # while another source has it open
    assert alone.names()[0] == "scene_train/000000001" and len(alone) == 4


def test_damaged_ctr_databases(tmp_path):
    image, _ = samples.text_line("OPEN")
    entries = {"num-samples": b"3", "image-000000001": samples.encoded(image), "label-000000001": b"OPEN"}
    damaged = {"image-000000002": b"no image", "label-000000002": b"x", "label-000000003": b"x"}
    source = open_source(f"ctr:{samples.write_lmdb(tmp_path / 'a', entries | damaged)}")
    assert source[0].text == "OPEN"
    with pytest.raises(ValueError, match="a: image-000000002 cannot be read as an image"):
        source[1]
    with pytest.raises(ValueError, match="a has no key image-000000003: it is not of CTR's layout"):
        source[2]


# --- Real-CE


def test_realce_pairs(paper):
    source = open_source(f"realce:{paper['realce']}")
    samples.check_contract(source)
    assert source.kind == "pairs" and source.names() == ["a_2.png", "a_1.png"]  # valid_list.txt, in its order
    pair = source[1]
    assert pair.lr.image.shape == pair.hr.image.shape == (*samples.SIZE, 3)
    assert (pair.hr.image == samples.scene(samples.WORDS[:2], 20)[0]).all()
    assert [line["text"] for line in pair.lines] == ["营业中, OPEN", "营业中, Coffee"]  # GBK; commas belong to the text
    assert pair.lines[0]["quad"] == np.reshape(samples.scene(samples.WORDS[:2], 20)[2][0][1], (4, 2)).tolist()
    train = open_source({"kind": "realce", "path": str(paper["realce"]), "split": "train", "lr": "26mm"})
    assert train.names() == ["t_1.png", "t_2.png"] and train[1].lines[0]["text"] == "出口, Coffee"  # UTF-8


def test_realce_aligned_list_selects(paper, tmp_path):
    (aligned := tmp_path / "aligned.txt").write_text("b_1\n")
    spec = {"kind": "realce", "path": str(paper["realce"]), "aligned_list": str(aligned)}
    pair = open_source(spec)[0]
    assert pair.name == "b_1.png"
    assert pair.lr.image.shape == (24, 32, 3) and pair.hr.image.shape == (*samples.SIZE, 3)  # as they are
    aligned.write_text("a_1.png\nz_9.png\n")
    with pytest.raises(ValueError, match="aligned.txt: 1 of its 2 images are not there, such as z_9.png"):
        open_source(spec)


def test_realce_annotations_may_be_encoded_otherwise_or_missing(paper, tmp_path):
    root = shutil.copytree(paper["realce"], tmp_path / "copy")
    path = root / "val" / "annos" / "a_1.txt"
    path.write_text("0,0,9,0,9,9,0,9,咖啡\n", encoding="utf-8")  # 6 bytes: also valid GBK, but other characters
    assert open_source(f"realce:{root}")[1].lines[0]["text"] != "咖啡"
    reencoded = open_source({"kind": "realce", "path": str(root), "encoding": "utf-8"})
    assert reencoded[1].lines == [{"text": "咖啡", "quad": [[0, 0], [9, 0], [9, 9], [0, 9]]}]
    with pytest.raises(ValueError, match="a_2.txt is not encoded in utf-8"):
        reencoded[0]
    shutil.rmtree(root / "val" / "annos")
    assert open_source(f"realce:{root}")[1].lines == []
    with pytest.raises(ValueError, match="focal lengths 13mm, 26mm, 52mm, not 14mm"):
        open_source({"kind": "realce", "path": str(root), "lr": "14mm"})
