"""LMDB: values by key, shared within a process and across forks; what is damaged is named."""

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller

import pytest

from helpers.source_samples import write_lmdb
from tadisr.datasets.databases import Database, find_databases, write_database

ENTRIES = {"num-samples": b"1", "label-000000001": "Café".encode()}


@pytest.fixture
def folder(tmp_path):
    return write_lmdb(tmp_path / "set", ENTRIES)


def test_values(folder):
    data = Database(folder, "our")
    assert data.count == 1 and data.text("label-000000001") == "Café"
    assert data.find("label-000000002") is None
    with pytest.raises(ValueError, match="set has no key label-000000002: it is not of our layout, or not whole"):
        data.get("label-000000002")
    assert find_databases(folder.parent) == find_databases(folder) == [folder]


def test_reading_leaves_nothing_behind(folder):
    (folder / "lock.mdb").unlink()
    assert Database(folder, "our").count == 1
    assert os.listdir(folder) == ["data.mdb"]


def test_threads_share_a_database(folder):
    data = Database(folder, "our")
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(data.text, ["label-000000001"] * 400)) == {"Café"}


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_readers_share_a_database_with_each_other_and_other_processes(folder, context):
    one, other = Database(folder, "our"), Database(folder, "our")
    assert one.count == other.count == pickle.loads(pickle.dumps(one)).count
    with multiprocessing.get_context(context).Pool(2) as pool:  # which pickle the readers
        assert pool.map(methodcaller("text", "label-000000001"), [one, other, one]) == ["Café"] * 3
    assert other.text("label-000000001") == "Café"  # the workers closed their copies only


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num-samples": None}, "set has no key num-samples: it is not of our layout"),
        ({"num-samples": b"many"}, "set: num-samples is b'many', not a number"),
        ({"num-samples": b"-1"}, "set: num-samples is b'-1', not a number"),
        ({"label-000000001": "出口".encode("gbk")}, "set: label-000000001 is not UTF-8"),
    ],
)
def test_damaged_databases(tmp_path, changes, message):
    entries = {key: value for key, value in (ENTRIES | changes).items() if value is not None}
    folder = write_lmdb(tmp_path / "set", entries)
    with pytest.raises(ValueError, match=message):
        Database(folder, "our").text("label-000000001")


def test_what_is_no_database(tmp_path):
    (tmp_path / "other").mkdir()
    (file := tmp_path / "other" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match="other is not an LMDB, or damaged: it does not begin with LMDB's two headers"):
        Database(file.parent, "our")
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="other is not an LMDB, or damaged: it ends after 0 bytes"):
        Database(file.parent, "our")


def test_a_count_that_nothing_stands_behind(tmp_path):
    with pytest.raises(ValueError, match="num-samples is 999999999, but there is no label-999999999"):
        Database(write_lmdb(tmp_path / "set", ENTRIES | {"num-samples": b"9" * 9}), "our")
    with pytest.raises(ValueError, match="num-samples is .*, not a number"):
        Database(write_lmdb(tmp_path / "other", ENTRIES | {"num-samples": b"9" * 5000}), "our")


def test_a_file_that_is_cut_off_while_it_is_read(folder):
    data = Database(folder, "our")
    os.truncate(folder / "data.mdb", 9000)
    with pytest.raises(ValueError, match="set is not an LMDB, or damaged: it ends after 9000 bytes"):
        data.text("label-000000001")


def test_writing(tmp_path, folder):
    samples = [{f"label-{i:09d}": str(i).encode()} for i in range(1, 2500)]  # more than one transaction
    write_database(tmp_path / "new", [*samples, {"num-samples": b"2499"}], 1 << 24)
    data = Database(tmp_path / "new", "our")
    assert data.count == 2499 and [data.text(f"label-{i:09d}") for i in (1, 1000, 2499)] == ["1", "1000", "2499"]
    with pytest.raises(FileExistsError, match="a database in .*set already: name another folder"):
        write_database(folder, samples, 1 << 24)
    with pytest.raises(OSError, match=r"full.data.mdb cannot be written: "):
        write_database(tmp_path / "full", samples, 1 << 14)
    assert not (tmp_path / "full" / "data.mdb").exists()
