"""LMDB read page by page: the package lmdb's own answers, and one line for every damage."""

import os
import random
import re
import struct

import lmdb
import pytest

from tadisr.datasets.lmdb_pages import PageReader


def build(folder, seed, sizes=(0, 10, 500, 2000, 3000, 9000, 40_000), per_time=300, **options):
    """A database after a few transactions that add, change and delete; the file, and what it holds by lmdb."""
    chance = random.Random(seed)
    keys = [chance.randbytes(chance.choice([1, 2, 20, 500])) for _ in range(100)] + [b"%09d" % i for i in range(900)]
    with lmdb.open(str(folder), map_size=1 << 26, sync=False, metasync=False, **options) as environment:
        for _ in range(chance.randint(1, 4)):
            with environment.begin(write=True) as transaction:
                for key in chance.choices(keys, k=per_time):
                    if chance.random() < 0.8:
                        transaction.put(key, chance.randbytes(chance.choice(sizes)))
                    else:
                        transaction.delete(key)
        with environment.begin() as transaction:
            return folder / "data.mdb", dict(transaction.cursor()), keys


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("writemap", [True, False])
def test_every_value_is_lmdb_s(tmp_path, seed, writemap):
    file, right, keys = build(tmp_path / "set", seed, writemap=writemap)
    reader = PageReader(file)
    assert len(right) > 100 and reader._depth > 1
    for key in [*keys, b"", b"nothing", b"\xff" * 600]:
        assert reader.get(key) == right.get(key)


def test_an_empty_database(tmp_path):
    lmdb.open(str(tmp_path / "set")).close()
    assert PageReader(tmp_path / "set" / "data.mdb").get(b"a") is None


def test_a_database_in_the_database_is_no_value(tmp_path):
    with lmdb.open(str(tmp_path / "set"), max_dbs=1) as environment:
        environment.open_db(b"inner", dupsort=True)
        with environment.begin(write=True) as transaction:
            transaction.put(b"plain", b"1")
    reader = PageReader(tmp_path / "set" / "data.mdb")
    assert reader.get(b"plain") == b"1"
    with pytest.raises(ValueError, match="page [0-9]+ is damaged"):
        reader.get(b"inner")


def _cut(data, chance):
    return data[: chance.randrange(len(data))]


def _flip(data, chance):
    for _ in range(chance.choice([1, 1, 4, 40])):
        page = chance.randrange(len(data) // 4096) * 4096
        data[page + chance.randrange(200)] ^= 1 << chance.randrange(8)
    return data


def _number(data, chance):
    """A number of a page's head or of a node becomes another one."""
    at = chance.randrange(len(data) // 4096) * 4096 + chance.randrange(0, 64)
    struct.pack_into("<H", data, at, chance.choice([0, 1, 15, 16, 17, 4095, 4096, 65535, chance.randrange(65536)]))
    return data


def _swap(data, chance):
    one, other = (slice(at * 4096, at * 4096 + 4096) for at in chance.choices(range(len(data) // 4096), k=2))
    data[one], data[other] = data[other], data[one]
    return data


def _zero(data, chance):
    at = chance.randrange(len(data) // 4096) * 4096
    data[at : at + 4096] = bytes(4096)
    return data


@pytest.mark.parametrize("damage", [_cut, _flip, _number, _swap, _zero])
def test_damage_is_one_line_or_a_value(tmp_path, damage):
    """Values have no checksums; all other damage is found or does not matter."""
    file, right, _ = build(tmp_path / "set", 1, sizes=(0, 1, 10, 100, 3000), per_time=40)
    whole, refused = file.read_bytes(), 0
    for seed in range(60):
        file.write_bytes(damage(bytearray(whole), random.Random(seed)))
        try:
            reader = PageReader(file)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        for key, value in right.items():
            try:
                found = reader.get(key)
            except ValueError as error:
                refused += 1
                assert re.search(r"it ends after|is damaged|it refers to page", str(error))
            else:
                assert damage is not _cut or found == value
    assert refused


def test_a_cut_file_gives_whole_values_or_none(tmp_path):
    file, right, _ = build(tmp_path / "set", 2, per_time=60)
    reader, size = PageReader(file), file.stat().st_size
    os.truncate(file, size // 2)
    outcomes = set()
    for key, value in right.items():
        try:
            assert reader.get(key) == value
            outcomes.add("right")
        except ValueError as error:
            assert f"it ends after {size // 2} bytes" in str(error)
            outcomes.add("cut")
    assert outcomes == {"right", "cut"} or outcomes == {"cut"}
