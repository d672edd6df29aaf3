"""The paper's stages on small samples of its sources: what is kept, what is dropped, and why."""

import json
import string
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from datasets import load_dataset
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN import ESRGAN

from helpers import tiny_fonts
from helpers.source_samples import (
    encoded,
    photograph,
    save,
    text_line,
    write_bts,
    write_lmdb,
    write_lsdir,
    write_textseg,
)
from tadisr import cli
from tadisr.data_synthesis.backgrounds import shrink_photo
from tadisr.data_synthesis.judging import judge
from tadisr.data_synthesis.judging.enhance import load_enhancer
from tadisr.data_synthesis.judging.judge import judge_sources
from tadisr.data_synthesis.judging.kept import read_crop
from tadisr.data_synthesis.opened import split_families
from tadisr.data_synthesis.recipe import Recipe, load_recipe
from tadisr.data_synthesis.sources import Sample, open_source
from tadisr.data_synthesis.text import corpus
from tadisr.data_synthesis.text.corpus import open_corpus
from tadisr.data_synthesis.text.fonts import Font, Fonts

WORDS = Path(corpus.__file__).with_name("corpus_latin.txt").read_text(encoding="utf-8")
LATIN = "".join(set(WORDS + string.printable) - set(string.whitespace)) + "€£¥²°"
KINDS = ("lsdir", "ctr", "bts", "textseg")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """LSDIR with a text photograph and a small one; CTR with a small, a wrongly labelled and an unreadable line."""
    root = tmp_path_factory.mktemp("sources")
    write_lsdir(root / "lsdir", count=6, size=(280, 300))
    files = sorted((root / "lsdir").rglob("*.png"))
    words = photograph(9, (280, 300))
    line, _ = text_line("NO PARKING", 48)
    words[100 : 100 + line.shape[0], 10 : 10 + line.shape[1]] = line[:, :280]
    save(files[0], words)
    save(files[1], photograph(3, (60, 60)))
    texts = ["OPEN", "Coffee", "Exit 7", "SALE", "Market", "Tickets"]
    entries = {"num-samples": str(len(texts) + 3).encode()}
    for i, text in enumerate(texts, 1):
        entries[f"image-{i:09d}"] = encoded(text_line(text, 56, i)[0])
        entries[f"label-{i:09d}"] = text.encode()
    extra = [
        (encoded(text_line("Bakery", 56)[0]), "Library"),
        (encoded(text_line("narrow words", 14)[0]), "narrow words"),
        (b"\x89PNG broken", "gone"),
    ]
    for i, (image, text) in enumerate(extra, len(texts) + 1):
        entries[f"image-{i:09d}"], entries[f"label-{i:09d}"] = image, text.encode()
    write_lmdb(root / "ctr/scene_train", entries)
    write_bts(root / "bts", size=(120, 200))
    write_textseg(root / "textseg", size=(120, 200))
    return root


@pytest.fixture(scope="module")
def esrgan(tmp_path_factory):
    """A real model for 4 times, with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("enhancer") / "esrgan.safetensors"
    save_file(ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4).state_dict(), path)
    return path


def command(sources, out, *more):
    places = [f"--source={kind}={sources / kind}" for kind in KINDS]
    return ["synthesize", "-o", str(out), "--recipe", "paper", "--num", "12", "--size", "128", *places, *map(str, more)]


@pytest.fixture(scope="module")
def made(sources, tmp_path_factory):
    out = tmp_path_factory.mktemp("paper") / "ftsr"
    with (out.parent / "said").open("w") as said, redirect_stderr(said):
        assert cli.main(command(sources, out, "--num-proc", 1)) == 0
    return out


def stage(manifest, source, name):
    return next(s for s in manifest["stages"] if s["source"] == source and s["stage"] == name)


def test_every_stage_reports(made):
    manifest = json.loads((made / "manifest.json").read_text())
    assert stage(manifest, "LSDIR", "size")["dropped"] == {"smaller than 256 pixels": 1}
    assert stage(manifest, "LSDIR", "text")["dropped"] == {"there is text in the background": 1}
    assert stage(manifest, "LSDIR", "text")["kept"] == 4
    assert stage(manifest, "CTR", "reading") == {
        "source": "CTR", "stage": "reading", "seen": 9, "kept": 8, "dropped": {"unreadable": 1},
    }  # fmt: skip
    assert stage(manifest, "CTR", "size")["dropped"] == {"the characters are small": 1}
    assert not any("changed" in row for row in manifest["stages"])  # no enhancer
    dropped = stage(manifest, "CTR", "OCR")["dropped"]
    assert dropped.get("the mask reads differently from the label", 0) >= 1
    assert stage(manifest, "CTR", "OCR")["kept"] >= 3  # of six good ones
    assert stage(manifest, "BTS", "size")["dropped"] == {"the characters are small": 6}  # twice as many as are drawn
    assert stage(manifest, "TextSeg", "OCR")["kept"] >= 3 and not stage(manifest, "TextSeg", "OCR")["dropped"]
    assert len(manifest["engine"]["models"]) == 3  # what judged is on record
    card = (made / "README.md").read_text()
    assert "CTR: reading: kept 8 of 9 (dropped: 1 unreadable)" in card


def test_pages_are_pasted_crops_on_photographs(made, tmp_path):
    rows = list(load_dataset(str(made), split="train", cache_dir=str(tmp_path)))
    sources = {source for row in rows for source in row["sources"][1:]}
    assert any("scene_train" in name for name in sources)  # CTR
    assert {text for row in rows for text in row["text"]} & {"OPEN", "Coffee", "Exit 7", "SALE", "Market", "Tickets"}
    for row in rows:
        assert 1 <= len(row["sources"]) <= 6
        hr, mask = np.asarray(row["hr"], float).mean(2), np.asarray(row["mask"])
        for box in row["boxes"]:
            (left, top), (right, bottom) = (
                np.reshape(box, (4, 2)).min(0).astype(int),
                np.reshape(box, (4, 2)).max(0).astype(int),
            )
            part, strokes = hr[top:bottom, left:right], mask[top:bottom, left:right]
            if (strokes > 200).sum() > 20 and (strokes < 20).sum() > 20:
                assert part[strokes > 200].mean() < part[strokes < 20].mean()  # the samples are dark on light


def crops_recipe(sources, **settings):
    """The paper's recipe on CTR alone, without photographs."""
    crops = [{"kind": "ctr", "path": str(sources / "ctr")}]
    return replace(load_recipe("paper"), **{"crops": crops, "photos": 0, **settings})


def kept_crops(selection):
    return [read_crop(*place) for place in sorted({*selection.crops["train"], *selection.crops["test"]})]


@pytest.fixture(scope="module")
def plain(sources, tmp_path_factory):
    """The crops that are kept, without an enhancer."""
    return kept_crops(judge_sources(crops_recipe(sources), tmp_path_factory.mktemp("plain"), 256))


@pytest.fixture(scope="module")
def enhanced(sources, esrgan, tmp_path_factory):
    """The folder of judged work, and the selection."""
    folder = tmp_path_factory.mktemp("enhanced")
    return folder, judge_sources(crops_recipe(sources, enhancer=str(esrgan)), folder, 256)


@pytest.fixture(scope="module")
def originals(sources):
    """CTR's images and labels, by their names."""
    source = open_source({"kind": "ctr", "path": str(sources / "ctr")})
    return {name: source[i] for i, name in enumerate(source.names()[:-1])}  # the last one is broken


def test_without_an_enhancer_crops_stay_as_they_are_and_that_is_said(made, plain, originals):
    said = [line for line in (made.parent / "said").read_text().splitlines() if "super-resolved" in line]
    advice = "name a model with --enhancer, such as a file of HAT"
    assert said == [f"tadisr: the crops are not super-resolved, as the paper's are: {advice}"]
    for crop in plain:
        assert np.array_equal(crop.image, originals[crop.name].image)
        assert crop.lines[0]["quad"][2] == [crop.image.shape[1], crop.image.shape[0]]


def test_nothing_small_is_enlarged_into_a_page(made, originals, tmp_path):
    """A line is pasted with the pixels that it has in its source, or with fewer."""
    longest = {sample.text: max(sample.image.shape) for sample in originals.values()}
    rows = list(load_dataset(str(made), split="train", cache_dir=str(tmp_path)))
    pasted = [
        (longest[text], np.ptp(np.reshape(box, (4, 2)), 0).max())
        for row in rows
        for name, text, box in zip(row["sources"][1:], row["text"], row["boxes"], strict=True)
        if "scene_train" in name
    ]
    assert len(pasted) >= 5 and all(edge <= own for own, edge in pasted)


def test_every_crop_that_is_kept_is_super_resolved(enhanced, esrgan, plain, originals):
    """Into what the model makes of it, and never larger than a page, where no more of it could be seen."""
    selection, enhancer = enhanced[1], load_enhancer(esrgan)
    kept = kept_crops(selection)
    assert [crop.name for crop in kept] == [crop.name for crop in plain] and len(kept) >= 3
    assert stage({"stages": selection.stages}, "CTR", "OCR")["changed"] == {"super-resolved": len(kept)}
    for crop, before in zip(kept, plain, strict=True):
        [whole] = enhancer.enhance([originals[crop.name].image])
        assert max(whole.shape) > 256 == max(crop.image.shape)
        assert np.array_equal(crop.image, shrink_photo(whole, 256))
        assert crop.mask.shape == crop.image.shape[:2]
        mask = cv2.resize(before.mask, crop.mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        assert np.abs(mask.astype(int) - crop.mask).mean() < 6  # the mask goes with the image
        np.testing.assert_allclose(crop.lines[0]["quad"][2], crop.image.shape[1::-1], atol=0.01)


def test_servers_of_gpus_make_what_workers_make_themselves(sources, esrgan, enhanced, tmp_path, monkeypatch):
    """Two processes on the CPU stand for two GPUs."""
    monkeypatch.setattr(judge, "find_devices", lambda *names: ["cpu:0", "cpu:0"])
    recipe = crops_recipe(sources, enhancer=str(esrgan))
    assert judge_sources(recipe, tmp_path, 256).stages == enhanced[1].stages
    files = [{p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*")} for folder in (tmp_path, enhanced[0])]
    assert files[0] == files[1] and len(files[0]) == 2


@pytest.mark.parametrize(
    ("device", "wrong", "message"),
    [
        ("cpu", {"enhancer": "gone.pth"}, "No model file gone.pth"),
        ("cpu", {"segmenter": "gone"}, "No model gone: give text-segmenter-tiny"),
        ("cpu:0", {"enhancer": "gone.pth"}, "No model file gone.pth"),  # in a server
    ],
)
def test_a_wrong_model_is_named_before_anything_is_judged(sources, tmp_path, device, wrong, message, monkeypatch):
    monkeypatch.setattr(judge, "find_devices", lambda *names: [device])
    with pytest.raises(FileNotFoundError, match=message):
        judge_sources(crops_recipe(sources, **wrong), tmp_path, 128)
    assert not list(tmp_path.rglob("*.*"))


def test_photographs_smaller_than_a_page_are_left_out_and_counted(sources, tmp_path):
    recipe = Recipe([{"kind": "lsdir", "path": str(sources / "lsdir")}], photos=1, text_free_backgrounds=False)
    recipe.corpora = {"latin": 1}
    photo = Sample(np.zeros((280, 300, 3), np.uint8), "a")
    assert not judge._judge_background(photo, recipe, 280).reason
    assert judge._judge_background(photo, recipe, 281).reason == "smaller than 281 pixels"
    with pytest.raises(ValueError, match=r"None of the backgrounds can be used \(LSDIR\): 6 smaller than 284 pixels\."):
        judge_sources(recipe, tmp_path, 284)


def test_judged_work_is_kept_and_used(sources, tmp_path):
    recipe = load_recipe("paper")
    for spec in [*recipe.backgrounds, *recipe.crops]:
        spec["path"] = str(sources / spec["kind"])
    recipe.crops = recipe.crops[:1]
    first = judge_sources(recipe, tmp_path, 128)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert judge_sources(recipe, tmp_path, 128) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == files
    kept = {kind: sum(map(len, getattr(first, kind).values())) for kind in ("backgrounds", "crops")}
    assert kept["backgrounds"] == 4 and kept["crops"] >= 3
    assert first.crops["test"] and not set(first.crops["train"]) & set(first.crops["test"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "paper"], "LSDIR is not in data/sources/lsdir, which does not exist. Download it from http"),
        (["--recipe", "nothing"], "No recipe nothing"),
        (["--source", "lsdir"], "--source takes KIND=PATH, not lsdir"),
        (["--source", "moon=/x"], "--source moon: the recipe has no such source; it has free"),
        (["--photos", "gone"], "No images in gone"),
        (["--recipe", "latin.yaml", "--photos", "."], "None of the backgrounds can be used"),
        (["--recipe", "latin_fonts.yaml"], "No font in fonts draws Chinese"),
        (["--recipe", "empty_corpus.yaml"], "empty.txt is empty: a corpus has one item a line."),
        (["--recipe", "no_fonts.yaml"], "No usable fonts in bare"),
        (["--recipe", "pairs.yaml"], "realce holds pairs of HR and LR: it cannot be among the backgrounds."),
        (
            ["--device", "cuda", "--recipe", "paper", *(f"--source={kind}=SOURCES/{kind}" for kind in KINDS)],
            "--device cuda: PyTorch sees no CUDA GPU here",
        ),
        (
            [
                "--device",
                "cuda",
                "--backend",
                "ray",
                "--recipe",
                "paper",
                *(f"--source={kind}=SOURCES/{kind}" for kind in KINDS),
            ],
            "--backend ray judges on CPUs: leave",
        ),
        (["--recipe", "twice.yaml"], "data sets are made 4x: the recipe's degradation has scale 2"),
        (["--recipe", "no_fonts.yaml", "--photos", "gone"], "--photos: the recipe takes no photographs (photos: 0)"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, capsys, sources, arguments, message):
    arguments = [argument.replace("SOURCES", str(sources)) for argument in arguments]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.png").write_text("text")
    cv2.imwrite("small.png", np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "fonts").mkdir()
    tiny_fonts.write_font(tmp_path / "fonts/latin.ttf", string.ascii_letters + string.digits)
    (tmp_path / "bare").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.yaml").write_text("corpora: {latin: 1}\n")
    (tmp_path / "latin_fonts.yaml").write_text("backgrounds: []\nphotos: 0\nfonts: [fonts]\ncorpora: {chinese: 1}\n")
    (tmp_path / "empty_corpus.yaml").write_text("backgrounds: []\nphotos: 0\ncorpora: {empty.txt: 1}\n")
    (tmp_path / "no_fonts.yaml").write_text("backgrounds: []\nphotos: 0\nfonts: [bare]\n")
    (tmp_path / "pairs.yaml").write_text("backgrounds: [{kind: realce, path: Real-CE}]\n")
    (tmp_path / "twice.yaml").write_text("degradation: {preset: mild, scale: 2}\n")
    assert cli.main(["synthesize", "-o", "new", "--num", "2", "--num-proc", "1", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err.splitlines()[-1] and err.splitlines()[-1].startswith("tadisr: ")
    assert not (tmp_path / "new").exists()
    if "--photos" in arguments and "." in arguments:
        assert err.splitlines()[-1].endswith("1 unreadable, 1 smaller than 512 pixels.")


def test_scripts_that_no_font_draws_are_left_out_and_said(tmp_path, capsys):
    (tmp_path / "fonts").mkdir()
    tiny_fonts.write_font(tmp_path / "fonts/latin.ttf", LATIN)
    recipe = "photos: 0\nbackgrounds: []\ntext_free_backgrounds: false\nfonts: [FONTS]\n".replace(
        "FONTS", str(tmp_path / "fonts")
    )
    for name, corpora in (("all.yaml", ""), ("latin.yaml", "corpora: {latin: 12}\n")):
        (tmp_path / name).write_text(recipe + corpora)
        arguments = ["--recipe", str(tmp_path / name), "--num", "2", "--size", "64", "--num-proc", "1"]
        assert cli.main(["synthesize", "-o", str(tmp_path / name[:-5]), *arguments]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "without" in line]
    assert len(said) == 1
    assert (
        said[0].startswith("tadisr: the pages are without chinese and kana: No font in ")
        and "fonts-noto-cjk" in said[0]
    )
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("all", "latin")]
    assert f"tadisr: {manifests[0]['without']}" == said[0] and "without" not in manifests[1]
    assert manifests[0]["files"] == manifests[1]["files"]  # the same pages as where the recipe asks for no more


def test_families_are_apart_and_each_side_draws_every_corpus():
    latin, chinese = open_corpus("latin"), open_corpus("chinese")
    ascii_only = [Font(f"{i}.ttf", starts=(32,), ends=(126,), family=f"Latin {i}") for i in range(30)]
    both = [Font(f"cjk{i}.ttf", starts=(32, 0x4E00), ends=(126, 0x9FFF), family=f"Song {i}") for i in range(2)]
    families = split_families(Fonts([*ascii_only, *both]), [latin, latin, chinese])
    assert not families["train"] & families["test"]
    assert len(families["train"] & {"Song 0", "Song 1"}) == len(families["test"] & {"Song 0", "Song 1"}) == 1
    assert 1 <= len(families["test"]) <= 10
    alone = split_families(Fonts(both[:1]), [latin])
    assert alone["train"] == alone["test"] == {"Song 0"}


@pytest.mark.parametrize("number", range(12))
def test_a_family_that_alone_draws_one_corpus_is_in_both_whatever_another_says(number):
    latin, chinese = open_corpus("latin"), open_corpus("chinese")
    fonts = [Font("l.ttf", starts=(32,), ends=(126,), family="Latin")]
    fonts.append(Font("c.ttf", starts=(32, 0x4E00), ends=(126, 0x9FFF), family=f"Song {number}"))
    families = split_families(Fonts(fonts), [latin, chinese])
    assert f"Song {number}" in families["train"] & families["test"]
    assert "Latin" in families["train"] | families["test"]


def test_models_and_fonts_are_named_by_options(tmp_path):
    tiny_fonts.write_packages(tmp_path / "fonts", latin=LATIN, han="")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("photos: 0\nbackgrounds: []\ncorpora: {latin: 1}\ntext_free_backgrounds: false\n")
    arguments = ["--recipe", str(recipe), "--num", "1", "--size", "64", "--num-proc", "1"]
    named = ["--segmenter", "mine", "--enhancer", "ours", "--fonts", str(tmp_path / "fonts")]
    assert cli.main(["synthesize", "-o", str(tmp_path / "out"), *arguments, *named]) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    job = manifest["job"]["recipe"]
    assert (job["segmenter"], job["enhancer"], job["fonts"]) == ("mine", "ours", [str(tmp_path / "fonts")])
    assert {font["file"] for font in manifest["fonts"]} <= {
        "PipSerif[wght].ttf",
        "NpmSans_400Regular.ttf",
        "NpmSans_700Bold.ttf",
    }


def test_no_photographs_at_all_still_makes_pages(tmp_path):
    recipe = Recipe(backgrounds=[{"kind": "free", "roots": str(tmp_path), "scikit_image": False}], corpora={"latin": 1})
    assert len(open_source(recipe.backgrounds[0])) == 0
    selection = judge_sources(recipe, tmp_path / "work", 512)
    assert selection.backgrounds == {"train": [], "test": []}
