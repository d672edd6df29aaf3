"""Opening and splitting sources; photographs, each dataset on a sample in the layout in which it is distributed."""

import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import source_samples as samples
from helpers import workers
from tadisr.data_synthesis.sources import READERS, find_images, open_source, split_names, split_of
from tadisr.data_synthesis.sources.free import _licence, _matches


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The paper's sources, by kind; shared, so copy what you change."""
    return samples.write_paper_sources(tmp_path_factory.mktemp("paper"))


def test_sources_work_in_spawned_and_forked_workers(paper):
    sources = [open_source(f"{kind}:{path}") for kind, path in paper.items()]
    sources.append(open_source({"kind": "textseg", "path": str(paper["textseg"]), "crops": True}))
    expected = [workers.read_first(source) for source in sources]
    for method in {"spawn", "fork"} & {*multiprocessing.get_all_start_methods()}:
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.map(workers.read_first, sources) == expected


@pytest.mark.parametrize("kind", sorted(set(READERS) - {"free", "folder", "datasets"}))
def test_missing_sources_say_what_to_download(tmp_path, kind):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "readme.txt").write_text("")
    (tmp_path / "there" / "image_old").mkdir()
    origin = READERS[kind]
    for path, problem in {
        tmp_path / "nowhere": "which does not exist",
        tmp_path / "there": "which holds image_old/, readme.txt",
        None: "needs a path",
    }.items():
        with pytest.raises(FileNotFoundError) as error:
            open_source({"kind": kind, "path": None if path is None else str(path)})
        message = str(error.value)
        assert "\n" not in message and message.startswith(origin.name)
        for part in (problem, origin.home, origin.licence, origin.layout):
            assert part in message


def test_folders_without_the_asked_for_split_are_refused(tmp_path):
    samples.save(tmp_path / "0001000" / "0000001.png", samples.photograph(0, (8, 8)))
    with pytest.raises(FileNotFoundError, match="LSDIR is not in"):
        open_source({"kind": "lsdir", "path": str(tmp_path), "split": "val"})
    with pytest.raises(ValueError, match="LSDIR has no split 'valid': known are train, val, all"):
        open_source({"kind": "lsdir", "path": str(tmp_path), "split": "valid"})
    with pytest.raises(FileNotFoundError, match="Real-CE is not in .* which holds 0001000/"):
        open_source(f"realce:{tmp_path}")


def test_unknown_kinds_keys_and_values():
    with pytest.raises(ValueError, match="Unknown kind of source 'imagenet': known are free, folder, datasets, lsdir"):
        open_source("imagenet:/data")
    with pytest.raises(ValueError, match="Unknown kind of source '/data/photos'.*folder:PATH"):
        open_source("/data/photos")
    with pytest.raises(ValueError, match="Unknown keys for ctr: pth; known are path, split"):
        open_source({"kind": "ctr", "pth": "/data"})
    for spec in ({"path": "/data"}, 5, None):
        with pytest.raises(ValueError, match="has a kind among its keys"):
            open_source(spec)
    with pytest.raises(ValueError, match="textseg: crops cannot be 'yes'"):
        open_source({"kind": "textseg", "path": "/", "crops": "yes"})
    with pytest.raises(ValueError, match="div2k: path must be text, not 5"):
        open_source({"kind": "div2k", "path": 5})
    with pytest.raises(FileNotFoundError, match="A folder of images needs a path"):
        open_source("folder")


def test_optional_packages(paper, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"needs the package datasets: pip install 'tadisr\[synth\]'"):
        open_source(f"datasets:{tmp_path}")


def test_split_is_fixed_forever():
    """Expected values: a data set made today is split in the same way tomorrow."""
    names = [f"{i:07d}.png" for i in range(1, 61)]
    train, test = split_names(names, "LSDIR")
    assert test == ["0000041.png"]
    assert sorted(train + test) == names
    assert [name for name in names if split_of(name, "LSDIR") == "test"] == test
    assert split_names(names, "DIV2K")[1] != test  # the source's name counts too
    assert split_names(["b", "a", "c"]) == (["b", "a"], ["c"])
    assert split_names(["a"]) == (["a"], []) and split_names([]) == ([], [])


def test_one_in_ten_is_for_testing():
    names = [f"{i:07d}.png" for i in range(20000)]
    share = len(split_names(names)[1]) / len(names)
    assert abs(share - 0.1) < 4 * (0.1 * 0.9 / len(names)) ** 0.5


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=5), max_size=30), st.integers(1, 3))
def test_both_sides_have_one_and_crops_stay_with_their_photograph(photographs, crops):
    names = [f"{name}#{i}" for name in photographs for i in range(crops)]
    train, test = split_names(names)
    assert sorted(train + test) == sorted(names)
    photographs_of = [{name[: name.rindex("#")] for name in side} for side in (train, test)]
    assert not photographs_of[0] & photographs_of[1]
    different = len({*photographs})
    if different >= 2:
        assert train and test
    if 2 <= different < 10:
        assert len(photographs_of[1]) == 1
    assert split_names(names[::-1]) == (train[::-1], test[::-1])


# --- photographs


def test_lsdir_reads_shards_lists_and_validation(paper):
    source = open_source(f"lsdir:{paper['lsdir']}")
    samples.check_contract(source)
    assert source.kind == "backgrounds"
    train = ["0001000/0000001.png", "0001000/0000002.png", "0002000/0001002.png", "0002000/0001003.png"]
    assert source.names() == train
    assert (source[2].image == samples.photograph(2)).all()
    val = open_source({"kind": "lsdir", "path": str(paper["lsdir"]), "split": "val"})
    assert val.names() == ["val/0000001.png", "val/0000002.png"]  # and none of X4
    assert len(open_source({"kind": "lsdir", "path": str(paper["lsdir"]), "split": "all"})) == 6
    for file in ("train.json", "train.txt"):
        listed = {"kind": "lsdir", "path": str(paper["lsdir"]), "list_file": str(paper["lsdir"] / file)}
        assert open_source(listed).names() == train


@pytest.mark.parametrize("place", ["shard-00/0001000", "HR/train/0001000", "0001000"])
def test_lsdir_names_are_the_same_in_every_layout(tmp_path, place):
    samples.save(tmp_path / place / "0000007.png", samples.photograph(0))
    assert open_source(f"lsdir:{tmp_path}").names() == ["0001000/0000007.png"]


def test_div2k_and_flickr2k_read_hr_folders_only(tmp_path):
    div2k = samples.write_div2k(tmp_path / "DIV2K")
    train = open_source(f"div2k:{div2k}")
    samples.check_contract(train)
    assert train.names() == ["0001.png", "0002.png", "0003.png"]
    assert open_source({"kind": "div2k", "path": str(div2k), "split": "valid"}).names() == ["0801.png"]
    assert open_source(f"div2k:{div2k / 'DIV2K_train_HR'}").names() == train.names()
    assert open_source(f"div2k:{tmp_path}").names() == train.names()
    flickr2k = open_source(f"flickr2k:{samples.write_flickr2k(tmp_path / 'Flickr2K')}")
    samples.check_contract(flickr2k)
    assert flickr2k.names() == ["000001.png", "000002.png", "000003.png"]


def test_merged_div2k_is_split_by_number(tmp_path):
    for number in (799, 800, 801):
        samples.save(tmp_path / "HR" / f"{number:04d}.png", samples.photograph(number))
    assert open_source(f"div2k:{tmp_path}").names() == ["0799.png", "0800.png"]
    assert open_source({"kind": "div2k", "path": str(tmp_path), "split": "valid"}).names() == ["0801.png"]


def test_folders_and_single_files(tmp_path):
    samples.save(tmp_path / "b.PNG", samples.photograph(0))
    samples.save(tmp_path / "sub" / "a.jpg", samples.photograph(1))
    samples.save(tmp_path / "sub" / "._a.jpg", samples.photograph(2))  # macOS puts such files into archives
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source({"kind": "folder", "path": tmp_path, "licence": "CC0-1.0"})
    samples.check_contract(source)
    assert source.names() == ["b.PNG", "sub/a.jpg"] and source.licence == "CC0-1.0"
    assert find_images([tmp_path]) == [tmp_path / "b.PNG", tmp_path / "sub" / "a.jpg"]
    assert open_source(f"folder:{tmp_path / 'b.PNG'}").names() == ["b.PNG"]
    with pytest.raises(FileNotFoundError, match="No images in .*empty: name a folder"):
        open_source(f"folder:{tmp_path / 'empty'}")


def test_lists_select_by_name_and_by_folder_where_names_repeat(tmp_path):
    for folder in ("x", "y"):
        for name in ("1.png", "2.png"):
            samples.save(tmp_path / folder / name, samples.photograph(0, (8, 8)))
    listed = tmp_path / "list.txt"

    def names(text):
        listed.write_text(text)
        return open_source({"kind": "folder", "path": str(tmp_path), "list_file": str(listed)}).names()

    assert names("elsewhere/y/2.png\n\nx/1\ny/2.png\n") == ["y/2.png", "x/1.png"]
    with pytest.raises(ValueError, match="list.txt: 1 of its 2 images are not there, such as x/3.png"):
        names("x/1.png\nx/3.png\n")
    with pytest.raises(ValueError, match="names no image"):
        names("\n")
    (broken := tmp_path / "list.json").write_text('{"path_gt": 1}')
    with pytest.raises(ValueError, match="list.json is not a list of images"):
        open_source({"kind": "folder", "path": str(tmp_path), "list_file": str(broken)})
    with pytest.raises(FileNotFoundError, match="No list of images"):
        open_source({"kind": "folder", "path": str(tmp_path), "list_file": str(tmp_path / "none.txt")})


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_respected(tmp_path, orientation):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # bright where it is top left
    stored = {  # what EXIF says must be done to these gives the upright image
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    samples.save(tmp_path / "photo.png", np.ascontiguousarray(stored), exif=exif)
    source = open_source(f"folder:{tmp_path}")
    assert source.size(0) == (16, 24)
    assert (source[0].image == upright).all()


def test_unreadable_images_are_named(tmp_path):
    whole = samples.encoded(samples.photograph(0))
    (tmp_path / "1_text.png").write_text("no image")
    (tmp_path / "2_cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "3_empty.jpg").write_bytes(b"")
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "4_deep.png")
    (tmp_path / "5_good.png").write_bytes(whole)
    source = open_source(f"folder:{tmp_path}")
    for i, name in enumerate(("1_text.png", "2_cut.png", "3_empty.jpg")):
        with pytest.raises(ValueError, match=f"{name} cannot be read as an image: "):
            source[i]
    with pytest.raises(ValueError, match="4_deep.png .* more than 8 bits a channel"):
        source[3]
    with pytest.raises(ValueError, match="1_text.png cannot be read as an image"):
        source.size(0)
    assert source.size(1) == samples.SIZE  # the header is whole
    assert (source[4].image == samples.photograph(0)).all()
    (tmp_path / "5_good.png").unlink()
    with pytest.raises(ValueError, match="5_good.png cannot be read as an image: .*No such file"):
        source[4]


def test_gray_and_palette_images_become_rgb(tmp_path):
    gray = samples.photograph(0)[..., 0]
    samples.save(tmp_path / "gray.png", gray)
    Image.fromarray(gray).quantize(8).save(tmp_path / "palette.png")
    for sample in (open_source(f"folder:{tmp_path}")[i] for i in range(2)):
        assert sample.image.shape == (*gray.shape, 3) and (sample.image[..., 0] == sample.image[..., 2]).all()


# --- free photographs


def test_free_photographs_without_drawings_and_duplicates(tmp_path):
    root = tmp_path / "backgrounds"
    for name in ("lake.jpg", "drawing.png", "mate/nature/Dune.jpg", "Fossa_by_Jasper_Roks.jpg", "big.jpeg"):
        samples.save(root / name, samples.photograph(0))
    for size in ("640x480", "1920x1080", "1280x1024"):
        samples.save(root / "Path" / "contents" / "images" / f"{size}.jpg", samples.photograph(0))
        samples.save(root / "Path" / "contents" / "images_dark" / f"{size}.jpg", samples.photograph(0))
        samples.save(root / "Shell" / "contents" / "images" / f"{size}.jpg", samples.photograph(0))
    samples.save(root / "Path" / "contents" / "screenshot.jpg", samples.photograph(0))
    (root / "link.jpg").symlink_to(root / "lake.jpg")
    (root / "dangling.jpg").symlink_to(root / "nothing.jpg")
    source = open_source({"kind": "free", "roots": str(root), "scikit_image": False})
    samples.check_contract(source)
    assert source.names() == [
        "backgrounds/Path/contents/images/1920x1080.jpg",
        "backgrounds/big.jpeg",
        "backgrounds/lake.jpg",
        "backgrounds/mate/nature/Dune.jpg",
    ]
    assert {source.licence_of(i) for i in range(4)} == {"unknown"}  # no package installed them
    assert source.licence == "unknown (4)" and source.version == "unknown (4)"


def test_free_photographs_may_be_none(tmp_path):
    source = open_source({"kind": "free", "roots": [str(tmp_path)], "scikit_image": False})
    assert len(source) == 0 and source.names() == [] and source.licence == "none installed"


def test_free_photographs_of_this_machine():
    pytest.importorskip("skimage")
    source = open_source("free")
    names = source.names()
    assert "scikit-image/coffee.png" in names and not any("text" in name or "logo" in name for name in names)
    assert source.licence_of(names.index("scikit-image/coffee.png")) == "CC0-1.0"
    for i in range(len(names)):
        assert min(source.size(i)) >= 300
    assert "unknown" in source.version or "unknown" not in source.licence


def test_licences_out_of_debian_copyright_files(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "copyright").write_text(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
        "Files: *\nCopyright: A\nLicense: GPL-2+\n\n"
        "Files: debian/*\nCopyright: B\nLicense: MIT\n\n"
        "Files: nature/Dune.jpg\n       16.04/lake_*.jpg\nCopyright: C\nLicense: CC-BY-4.0\n text of it\n\n"
        "License: CC-BY-4.0\n text of it\n",
        encoding="utf-8",
    )
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "copyright").write_text("This package was debianized by somebody.\n\nLicenses:\n many\n")

    def licence(package, path):
        return _licence(package, Path("/usr/share/backgrounds", path), tmp_path)

    assert licence("pack", "mate/nature/Dune.jpg") == "CC-BY-4.0"
    assert licence("pack", "lake_by_C.jpg") == "CC-BY-4.0"  # the source package's folder is not the installed one
    assert licence("pack", "Dune.png") == "GPL-2+"
    assert licence("old", "Dune.jpg") == f"see {tmp_path / 'old' / 'copyright'}"
    assert licence("none", "Dune.jpg") == "unknown"
    assert not _matches("debian/*", Path("/usr/share/backgrounds/a.jpg"))
