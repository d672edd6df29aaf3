"""Which files a command reads, and where its outputs go: no two outputs meet."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.encoded_images import NOISE
from tadisr.io.images import ImageError, write_image
from tadisr.io.names import DEFAULT_FOLDER, find_inputs, output_paths


@pytest.fixture
def photos(tmp_path, monkeypatch):
    names = [
        "b.jpg",
        "a.PNG",
        "odd[1].png",
        "c.txt",
        ".hidden.png",
        "sub/d.webp",
        "sub/e.doc",
        "sub/deep/f.tiff",
        "d[1]/g.bmp",
    ]
    for name in [*names, "empty/readme"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], []),
        (["b.jpg"], ["b.jpg"]),
        (["."], ["a.PNG", "b.jpg", "odd[1].png"]),
        (["sub/"], ["sub/d.webp"]),
        (["d[1]"], ["d[1]/g.bmp"]),
        (["c.txt"], ["c.txt"]),  # named outright
        (["odd[1].png"], ["odd[1].png"]),
        (["*.jpg", "a.*"], ["b.jpg", "a.PNG"]),
        (["**"], ["a.PNG", "b.jpg", "d[1]/g.bmp", "odd[1].png", "sub/d.webp", "sub/deep/f.tiff"]),
        (["sub/**/*.tiff"], ["sub/deep/f.tiff"]),
        (["b.jpg", "./b.jpg", "sub/../b.jpg", ".", Path("b.jpg")], ["b.jpg", "a.PNG", "odd[1].png"]),
    ],
)
def test_find_inputs(photos, inputs, expected):
    assert find_inputs(inputs) == [Path(name) for name in expected]


@pytest.mark.parametrize(
    "name", ["", "missing.png", "empty", "*.doc", "sub/*.png", "dangling.png", "x\0.png", "n" * 999]
)
def test_an_input_that_names_nothing(photos, name):
    with pytest.raises(ImageError, match="no image at"):
        find_inputs(["b.jpg", name])


def names(outputs):
    return [path.name for path in outputs]


def test_output_folder():
    assert output_paths([Path("in/a.jpg")], "out") == [
        (Path("out/a.png"), Path("out/a_mask.png"), Path("out/a_compare.png"))
    ]
    assert output_paths([Path("a.jpg")], None)[0].image == DEFAULT_FOLDER / "a.png"
    assert output_paths([Path("a.jpg")], "v1.2")[0].image == Path("v1.2/a.png")


def test_single_output_file(tmp_path):
    assert output_paths([Path("a.jpg")], "out/x.webp") == [
        (Path("out/x.webp"), Path("out/x_mask.png"), Path("out/x_compare.png"))
    ]
    with pytest.raises(ImageError, match="there are 2 inputs"):
        output_paths([Path("a.jpg"), Path("b.jpg")], "x.png")
    with pytest.raises(ImageError, match="ending in .png"):
        output_paths([Path("a.jpg")], "x.gif")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="name a folder"):
        output_paths([Path("a.jpg")], tmp_path / "file")
    (tmp_path / "folder.png").mkdir()
    assert output_paths([Path("a.jpg")], tmp_path / "folder.png")[0].image == tmp_path / "folder.png" / "a.png"


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["a.jpg", "b.jpg"], ["a.png", "b.png"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg.png", "a.png.png", "b.png"]),
        (["A.jpg", "a.png"], ["A.jpg.png", "a.png.png"]),  # one file where letter case does not count
        (["a.jpg", "a_mask.jpg"], ["a.jpg.png", "a_mask.jpg.png"]),
        (["a.jpg", "a_compare.jpg", "c.jpg"], ["a.jpg.png", "a_compare.jpg.png", "c.png"]),
        (["2023/a.jpg", "2024/a.jpg"], ["2023_a.jpg.png", "2024_a.jpg.png"]),
        (["a.jpg", "a.png", "a.jpg.gif"], ["a.jpg-2.png", "a.png.png", "a.jpg.png"]),
    ],
)
def test_outputs_that_would_meet(inputs, expected):
    paths = [Path("in") / name for name in inputs]
    assert names(output.image for output in output_paths(paths, "out")) == expected
    assert names(output.image for output in output_paths(paths[::-1], "out")) == expected[::-1]


STEMS = st.sampled_from(
    ["a", "A", "b", "a_mask", "a_mask_mask", "a_compare", "a.jpg", "a.jpg-2", "x_a", "x_a.jpg", "ß", "ss"]
)
PATHS = st.builds("{}{}{}".format, st.sampled_from(["", "x/", "y/x/"]), STEMS, st.sampled_from([".jpg", ".png", ""]))


@settings(deadline=None, max_examples=50)
@given(inputs=st.lists(PATHS, max_size=12, unique=True), order=st.randoms(use_true_random=False))
def test_outputs_are_distinct_in_any_order(inputs, order):
    found = dict(zip(inputs, output_paths([Path(name) for name in inputs], "no-such-folder"), strict=True))
    every = [str(path).casefold() for outputs in found.values() for path in outputs]
    assert len(every) == len(set(every))
    order.shuffle(inputs)
    assert output_paths([Path(name) for name in inputs], "no-such-folder") == [found[name] for name in inputs]


def test_an_output_never_replaces_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/b.jpg", "in/b_mask.png"):
        write_image(name, NOISE)
    os.symlink("in", "linked")
    os.mkdir("out")
    os.symlink("../in/a.png", "out/a.png")
    os.link("in/a.png", "hard.png")
    for inputs, out in (
        (["in/a.png"], "in"),
        (["in/a.png"], tmp_path / "in"),
        (["in/a.png"], "out/../in/a.png"),
        (["in/a.png"], "linked"),
        (["linked/a.png"], "in"),
        (["in/a.png"], "out"),
        (["in/a.png"], "hard.png"),
        (["in/b_mask.png"], "in/b.png"),  # whose mask it would be
    ):
        with pytest.raises(ImageError, match="would replace the input in/|would replace the input linked/"):
            output_paths([Path(name) for name in inputs], out)
    assert output_paths([Path("in/b.jpg")], "in")[0].image == Path("in/b.png")
