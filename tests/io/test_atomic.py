"""Files and folders appear whole or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor

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


def test_permissions(tmp_path):
    path, link = tmp_path / "a", tmp_path / "link"
    before = os.umask(0o027)
    try:
        write_atomically(path, b"1")
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)
        write_atomically(path, b"2")
        assert path.stat().st_mode & 0o777 == 0o604
        link.symlink_to(path)
        write_atomically(link, b"3")  # replaced, with the umask's permissions: a link has none of its own
        assert link.stat().st_mode & 0o777 == 0o640 and not link.is_symlink() and path.read_bytes() == b"2"
    finally:
        os.umask(before)


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    """Whoever foresees the temporary name gains nothing: the file is not written through it."""
    monkeypatch.setattr("tadisr.io.atomic.secrets.token_hex", lambda size: "foreseen")
    (tmp_path / ".tadisr-foreseen.part").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "a", b"data")
    assert not (tmp_path / "victim").exists() and not (tmp_path / "a").exists()


def test_two_writers_never_tear_a_file(tmp_path):
    path, contents = tmp_path / "a", [bytes([letter]) * 300_000 for letter in b"xyz"]
    write_atomically(path, contents[0])
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(lambda c=c: [write_atomically(path, c) for _ in range(60)]) for c in contents]
        while not all(writer.done() for writer in writers):
            assert path.read_bytes() in contents
        [writer.result() for writer in writers]
    assert names(tmp_path) == ["a"]
