"""Files and folders appear whole or not at all."""

import os

import pytest

from tadisr.io.atomic import mend_folders, replacing_folder, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, "é\udcff")
    assert path.read_bytes() == "é".encode() + rb"\udcff"
    assert names(path.parent) == ["a.txt"]


def test_an_error_names_the_file(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError) as raised:
        write_atomically(tmp_path / "a", b"")
    assert raised.value.filename and names(tmp_path) == ["a"]


def test_a_folder_is_replaced_whole(tmp_path):
    place = tmp_path / "weights"
    for text in ("one", "two"):
        with replacing_folder(place) as part:
            (part / text).write_text(text)
    assert names(place) == ["two"]
    with pytest.raises(KeyError), replacing_folder(place) as part:
        (part / "three").write_text("half")
        raise KeyError
    assert names(place) == ["two"] and names(tmp_path) == ["weights"]


@pytest.mark.parametrize("killed_between_the_renames", [True, False])
def test_mending(tmp_path, killed_between_the_renames):
    for name in (".best.part", ".best.old", ".other.part"):
        (tmp_path / name).mkdir()
    if not killed_between_the_renames:
        (tmp_path / "best").mkdir()
    mend_folders(tmp_path, "best")
    assert names(tmp_path) == [".other.part", "best"]


def test_only_a_whole_file_is_ever_seen(tmp_path, monkeypatch):
    seen, replace = [], os.replace

    def look(source, target):
        seen.append((source.read_bytes(), target.exists()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    write_atomically(tmp_path / "a", b"all of it", sync=True)
    assert seen == [(b"all of it", False)] and (tmp_path / "a").read_bytes() == b"all of it"
