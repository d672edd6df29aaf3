"""Which files a command reads, and where its outputs go: no two outputs meet."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.encoded_images import NOISE
from tadisr.io.images import OTHER_SUFFIXES, ImageError, write_image
from tadisr.io.names import DEFAULT_FOLDER, Input, find_inputs, output_paths


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
    assert found(inputs) == expected


def found(inputs, **options):
    return [str(one.path) for one in find_inputs(inputs, **options).inputs]


@pytest.mark.parametrize(
    ("pattern", "folders"),
    [
        ("**", ["", "", "d[1]", "", "sub", "sub/deep"]),
        ("sub/**", ["", "deep"]),
        ("./sub/**/*.tiff", ["deep"]),
        ("su*/*", ["sub"]),
        ("sub/deep/*", [""]),
        ("sub/../sub/**", ["", "deep"]),
        ("sub/*/../*", [""]),  # a way that goes back has no place of its own
    ],
)
def test_folders_below_the_fixed_part_of_a_pattern_are_kept(photos, tmp_path, pattern, folders):
    assert [str(one.folder) for one in find_inputs([pattern]).inputs] == [folder or "." for folder in folders]
    absolute = find_inputs([tmp_path / pattern]).inputs
    assert [str(one.folder) for one in absolute] == [folder or "." for folder in folders]


def test_links_in_a_circle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tree/a/1.png", "tree/b/2.png", "elsewhere/3.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    for i in range(5):  # without care, thousands of ways
        for folder in ("tree", "tree/a", "tree/b"):
            os.symlink(tmp_path / "tree", f"{folder}/up{i}")
    os.symlink("../elsewhere", "tree/0")
    os.symlink("../b/2.png", "tree/a/0.png")
    os.symlink("loop.png", "tree/loop.png")
    result = find_inputs(["tree/**"])
    assert [str(one.path) for one in result.inputs] == ["tree/0/3.png", "tree/a/1.png", "tree/b/2.png"]
    assert result.twins == [] and result.left_out == [(Path("tree/loop.png"), "tree/loop.png is a link to nothing")]
    assert found(["tree/**/*.png"]) == found(["tree/**"]) == found(["tree/**/**"])
    assert found(["tree", "tree/*/*"]) == ["tree/0/3.png", "tree/a/1.png", "tree/b/2.png"]


def test_a_file_with_several_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(b"x")
    os.link("a.png", "b.png")
    os.symlink("a.png", "0.png")
    assert found(["."]) == ["a.png"]
    result = find_inputs(["b.png", "a.png", "./b.png", tmp_path / "b.png"])
    assert [one.path for one in result.inputs] == [Path("b.png")] and result.twins == [(Path("a.png"), Path("b.png"))]
    assert found(["0.png"]) == ["0.png"]


def test_patterns_do_not_enter_the_folder_of_outputs(photos):
    assert found(["**"], skip=Path("sub")) == ["a.PNG", "b.jpg", "d[1]/g.bmp", "odd[1].png"]
    assert found(["**"], skip=Path("not-there")) == found(["**"])
    assert found(["sub/**"], skip=Path("sub")) == ["sub/d.webp", "sub/deep/f.tiff"]


def test_pictures_that_are_not_read_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for suffix in (*OTHER_SUFFIXES, ".txt", ".PDF"):
        Path(f"in/x{suffix}").write_bytes(b"x")
    for inputs in (["in"], ["in/*"], ["**"]):
        left_out = dict(find_inputs(inputs).left_out)
        assert set(left_out) == {Path(f"in/x{suffix}") for suffix in (*OTHER_SUFFIXES, ".PDF")}
        assert all(str(path) in why for path, why in left_out.items())
    assert found(["in/x.pdf"]) == ["in/x.pdf"]  # named outright: reading it says why not


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


INPUTS = st.builds(
    Input,
    path=PATHS.map(Path),
    folder=st.sampled_from(["", "x", "X/y"]).map(Path),
    pages=st.sampled_from([1, 1, 2, 11]),
    suffix=st.sampled_from([".png", ".jpg", ".tif"]),
)


@settings(deadline=None, max_examples=50)
@given(inputs=st.lists(INPUTS, max_size=12, unique_by=lambda one: one.path), order=st.randoms(use_true_random=False))
def test_outputs_are_distinct_in_any_order(inputs, order):
    found = dict(zip(inputs, output_paths(inputs, "no-such-folder"), strict=True))
    every = []
    for one, outputs in found.items():
        pages = [outputs] if one.pages == 1 else [outputs.of_page(page, one.is_joined) for page in range(one.pages)]
        every += {str(path).casefold() for page in pages for path in page}  # the pages of a TIFF share one file
    assert len(every) == len(set(every))
    order.shuffle(inputs)
    assert output_paths(inputs, "no-such-folder") == [found[one] for one in inputs]


def test_outputs_of_pages_and_folders():
    one = Input(Path("tree/sub/scan.tif"), Path("sub"), 3, ".jpg")
    (outputs,) = output_paths([one], "out")
    assert outputs.image == Path("out/sub/scan.jpg")
    assert outputs.of_page(1) == (
        Path("out/sub/scan_002.jpg"), Path("out/sub/scan_002_mask.png"), Path("out/sub/scan_002_compare.png")
    )  # fmt: skip
    assert output_paths([one], "x.webp")[0].of_page(0).image == Path("x_001.webp")
    two = Input(Path("other/sub/scan_002.png"), Path("sub"))
    assert names(paths.image for paths in output_paths([one, two], "out")) == [
        "tree_sub_scan.tif.jpg", "other_sub_scan_002.png.png"
    ]  # fmt: skip
    three = Input(Path("other/scan.png"))  # in another folder
    assert names(paths.image for paths in output_paths([one, three], "out")) == ["scan.jpg", "scan.png"]


def test_pages_of_one_file():
    one = Input(Path("tree/scan.tif"), pages=3, suffix=".tif")
    (outputs,) = output_paths([one], "out")
    assert [outputs.of_page(page, True) for page in (0, 2)] == [
        (Path("out/scan.tif"), Path("out/scan_001_mask.png"), Path("out/scan_001_compare.png")),
        (Path("out/scan.tif"), Path("out/scan_003_mask.png"), Path("out/scan_003_compare.png")),
    ]
    two = Input(Path("tree/scan.jpg"), suffix=".tif")
    assert names(paths.image for paths in output_paths([one, two], "out")) == ["scan.tif.tif", "scan.jpg.tif"]


def test_an_output_never_replaces_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/a_002.png", "in/a.tif", "in/b.jpg", "in/b_mask.png"):
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
        ([Input(Path("in/a_002.png"), pages=2)], "in/a.png"),
        ([Input(Path("in/a.tif"), pages=2, suffix=".tif")], "in/a.tif"),
    ):
        with pytest.raises(ImageError, match="would replace the input in/|would replace the input linked/"):
            output_paths([name if isinstance(name, Input) else Path(name) for name in inputs], out)
    assert output_paths([Path("in/b.jpg")], "in")[0].image == Path("in/b.png")
