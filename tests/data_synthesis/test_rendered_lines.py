"""Rendered text lines: aligned, repeatable, split without overlap, and the same from a database."""

import argparse
import json
import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from helpers.tiny_fonts import write_font
from tadisr import cli
from tadisr.data_synthesis import command_lines
from tadisr.data_synthesis.rendered_lines import (
    MAX_CHARS,
    SEVERITIES,
    SPLITS,
    RenderedLines,
    draw_label,
    export,
    label_split,
    line_materials,
)
from tadisr.data_synthesis.sources import open_source
from tadisr.data_synthesis.text.fonts import discover_fonts
from tadisr.datasets.line_items import mean_mask, to_tensors
from tadisr.datasets.textzoom import TextZoom
from tadisr.evaluation.text_lines import bicubic, squared_errors, str_filt

ASCII = string.ascii_letters + string.digits + string.punctuation


@pytest.fixture(scope="module")
def fonts(tmp_path_factory):
    """Twelve families: enough for the splits to be drawn by their hashes."""
    folder = tmp_path_factory.mktemp("fonts")
    for i in range(12):
        write_font(folder / f"{i}.ttf", ASCII, family=f"Tiny {i}")
    return folder


@pytest.fixture(scope="module")
def rendered(fonts):
    return lambda length, *args, photos=False, **kwargs: RenderedLines(
        length, *args, fonts=[fonts], photos=photos, **kwargs
    )


def same(one, other):
    return all(torch.equal(one[k], other[k]) if torch.is_tensor(one[k]) else one[k] == other[k] for k in one)


def test_items(rendered):
    lines = rendered(12)
    for i in range(12):
        item = lines[i]
        shapes = {key: tuple(value.shape) for key, value in item.items() if torch.is_tensor(value)}
        assert shapes == {"lr": (3, 16, 64), "hr": (3, 32, 128), "mask": (1, 32, 128)}
        assert all(value.dtype == torch.float32 for value in item.values() if torch.is_tensor(value))
        assert item["mask"].max() > 0.5 and item["mask"].min() < 0.1 and item["hr"].max() <= 1
        assert label_split(item["label"]) == "train"
    with pytest.raises(IndexError, match="There are 12 lines, not 12"):
        lines[12]


def test_a_line_depends_on_seed_split_and_index_alone(rendered):
    lines = rendered(6, seed=3)
    assert same(lines[4], rendered(600, seed=3)[4])
    loaded = [item for item in DataLoader(lines, None, num_workers=2)]
    assert all(same(lines[i], loaded[i]) for i in range(6))
    assert not torch.equal(lines[4]["hr"], lines[3]["hr"])
    assert not torch.equal(lines[4]["hr"], rendered(6, seed=4)[4]["hr"])
    assert not torch.equal(lines[4]["hr"], rendered(6, "test", seed=3)[4]["hr"])


def test_installed_photographs_and_fonts_serve_as_well():
    if len({font.family for font in discover_fonts()}) < 30:
        pytest.skip("too few fonts are installed")
    lines = RenderedLines(8, "test")
    assert same(lines[5], RenderedLines(8, "test")[5])
    if photographs := len(open_source("free")):
        numbers = {split: set(line_materials(split).photos) for split in SPLITS}
        assert numbers["train"] == numbers["validation"] and not numbers["train"] & numbers["test"]
        assert len(numbers["train"] | numbers["test"]) == photographs


def test_splits_share_no_font_family(fonts):
    families = {split: {font.family for font in line_materials(split, (str(fonts),), False).fonts} for split in SPLITS}
    assert all(families.values())
    assert set.union(*families.values()) == {f"Tiny {i}" for i in range(12)}
    assert sum(map(len, families.values())) == 12


def test_splits_are_those_of_the_synthesised_pages():
    """What pages for testing are set in, lines for training are not."""
    from tadisr.data_synthesis.opened import split_families
    from tadisr.data_synthesis.text.corpus import open_corpus

    fonts = discover_fonts()
    if len({font.family for font in fonts}) < 30:
        pytest.skip("too few fonts are installed")
    pages = split_families(fonts, [open_corpus(name, fonts) for name in ("latin",)])
    for split in ("train", "validation"):
        assert not {font.family for font in line_materials(split).fonts} & pages["test"]


def test_splits_share_no_label(fonts):
    words = line_materials("train", (str(fonts),), False).words
    drawn = {
        split: {str_filt(draw_label(split, words, np.random.default_rng(i))) for i in range(400)} for split in SPLITS
    }
    assert not drawn["train"] & drawn["test"] and not drawn["train"] & drawn["validation"]
    assert not drawn["validation"] & drawn["test"]
    shares = [np.mean([label_split(f"w{i}") == split for i in range(4000)]) for split in SPLITS]
    np.testing.assert_allclose(shares, [0.81, 0.09, 0.1], atol=0.02)
    assert label_split("Exit 7") == label_split("EXIT-7!")


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(SPLITS), st.integers(0, 2**32), st.booleans())
def test_labels_survive_the_protocol(split, seed, dictionary):
    words = ("harbour", "lighthouse", "x" * 40, "naïve") if dictionary else ()
    label = draw_label(split, words, np.random.default_rng(seed))
    assert 1 <= len(label) <= MAX_CHARS and label.isascii() and label.isprintable()
    assert str_filt(label) and label_split(label) == split


def test_what_labels_are():
    words = ("harbour", "lighthouse", "quay", "anchor", "Sailor", "mast", "rope", "compass", "lantern", "NASA")
    labels = [draw_label("train", words, np.random.default_rng(i)) for i in range(1000)]
    words, digits = (np.mean([test(label) for label in labels]) for test in (str.isalpha, lambda t: t.isdigit()))
    marks = np.mean([any(c in string.punctuation + " " for c in label) for label in labels])
    assert 0.6 < words < 0.85 and 0.03 < digits < 0.15 and 0.05 < marks < 0.3
    assert any("compass" in label.lower() for label in labels) and len({len(label) for label in labels}) > 10
    cases = [sum(map(case, labels)) for case in (str.isupper, str.islower, str.istitle)]
    assert min(cases) > 100


def test_lr_and_mask_are_aligned_with_hr(rendered):
    lines, shifted = rendered(40, severity="easy"), []
    for i in range(40):
        item = lines[i]
        small = torch.nn.functional.interpolate(item["hr"][None], size=(16, 64), mode="area")[0]
        ink = (item["hr"] - item["hr"].median()).abs().mean(0)
        overlap = [float((torch.roll(item["mask"][0], s, dims=-1) * ink).mean()) for s in (-4, 0, 4)]
        shifted.append([float((torch.roll(item["lr"], s, dims=-1) - small).abs().mean()) for s in (-1, 0, 1)] + overlap)
    left, still, right, mask_left, mask_still, mask_right = np.mean(shifted, 0)
    assert still < min(left, right) and mask_still > 1.1 * max(mask_left, mask_right)


def test_text_stands_out_where_the_mask_says(rendered):
    """Pixels inside the strokes differ from those around them, on nearly every line."""
    lines, steps = rendered(60), []
    for i in range(60):
        item = lines[i]
        luma, mask = item["hr"].mean(0), item["mask"][0]
        near = torch.nn.functional.max_pool2d(mask[None], 7, 1, 3)[0] > 0.5
        around = near & (mask < 0.1)
        if around.any():
            steps.append(float((luma[mask > 0.7].mean() - luma[around].mean()).abs()))
    assert len(steps) > 50 and np.mean(np.array(steps) > 0.1) > 0.9


def test_severities_blur_more_and_change_nothing_else(rendered):
    sets = {severity: rendered(30, severity=severity, seed=1) for severity in (*SEVERITIES, "mixed")}
    psnr = {}
    for severity, lines in sets.items():
        items = [lines[i] for i in range(30)]
        assert all(torch.equal(item["hr"], sets["easy"][i]["hr"]) for i, item in enumerate(items))
        lr, hr = (torch.stack([item[part] for item in items]) for part in ("lr", "hr"))
        psnr[severity] = -10 * np.log10(squared_errors(bicubic(lr, (32, 128)), hr).mean())
    assert psnr["easy"] > psnr["medium"] + 0.3 > psnr["hard"] + 0.6
    assert psnr["easy"] > psnr["mixed"] > psnr["hard"]


def test_mask_rules(rendered):
    exact, mean, polarity = (rendered(5, mask=rule).line(2) for rule in ("stroke", "mean", "mean_polarity"))
    np.testing.assert_array_equal(mean.mask, mean_mask(exact.hr))
    np.testing.assert_array_equal(polarity.mask, mean_mask(exact.hr, polarity=True))
    assert len(np.unique(exact.mask)) > 5  # coverage, not a threshold


def test_export_is_read_back_as_it_was_drawn(rendered, tmp_path):
    lines = rendered(7, "test", seed=5)
    export(lines, tmp_path / "one")
    export(lines, tmp_path / "two", num_proc=2)
    stored = [TextZoom(tmp_path / name) for name in ("one", "two")]
    assert all(same(lines[i], to_tensors(data[i])) for data in stored for i in range(7))
    info = json.loads((tmp_path / "one" / "info.json").read_text())
    families = info.pop("font_families")
    info.pop("dictionary_words")
    assert info == {
        "num": 7, "split": "test", "seed": 5, "severity": "mixed", "mask": "stroke", "photographs": 0,
    }  # fmt: skip
    assert families and all(name.startswith("Tiny") for name in families)


def test_command_line(fonts, tmp_path, capsys):
    command = ["synthesize-lines", "-o", str(tmp_path / "set"), "--num", "3", "--seed", "2", "--no-photos"]
    command += ["--fonts", str(fonts)]
    assert cli.main(command) == 0
    assert f"tadisr: 3 lines in {tmp_path / 'set'}" in capsys.readouterr().err
    wanted = RenderedLines(3, "test", 2, fonts=[fonts], photos=False)
    assert [line.label for line in TextZoom(tmp_path / "set")] == [wanted[i]["label"] for i in range(3)]
    for wrong, message in (
        (command, "tadisr: There is a database in"),
        ([*command, "--num", "0"], "tadisr: length must be at least 1"),
        ([*command, "--fonts", str(tmp_path / "none")], "tadisr: No folder"),
        ([*command, "--severity", "awful"], "tadisr: argument --severity: invalid choice: 'awful' (choose from "),
    ):
        assert cli.main(wrong) == 2
        err = capsys.readouterr().err
        assert err.startswith(message) and err.count("\n") == 1


def test_the_command_knows_all_splits_and_severities():
    parser = argparse.ArgumentParser()
    command_lines.register(parser)
    for split in SPLITS:
        for severity in (*SEVERITIES, "mixed"):
            parser.parse_args(["-o", "x", "--split", split, "--severity", severity])


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"split": "all"}, "No split 'all': choose one of train, validation, test"),
        ({"severity": "awful"}, "No severity 'awful': choose one of easy, medium, hard, mixed"),
        ({"mask": "stored"}, "No mask 'stored': choose one of stroke, mean, mean_polarity"),
        ({"seed": -1}, "seed at least 0, not 1 and -1"),
    ],
)
def test_wrong_settings(rendered, settings_, message):
    with pytest.raises(ValueError, match=message):
        rendered(1, **settings_)


def test_too_few_fonts(tmp_path):
    for folder, families, empty in (("none", (), SPLITS), ("one", ("A",), SPLITS[1:]), ("three", ("A", "B", "C"), ())):
        (tmp_path / folder).mkdir()
        write_font(tmp_path / folder / "hanzi.ttf", "出口", family="Other")
        for family in families:
            write_font(tmp_path / folder / f"{family}.ttf", ASCII, family=family)
        for split in SPLITS:
            if split in empty:
                with pytest.raises(ValueError, match=f"No font family .* is left for {split}.*install at least three"):
                    RenderedLines(1, split, fonts=[tmp_path / folder], photos=False)
            else:
                RenderedLines(1, split, fonts=[tmp_path / folder], photos=False)
