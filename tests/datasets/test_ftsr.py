"""FTSR: every way into a data set gives the same triplets; damaged data and data of another kind are named."""

import io

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from PIL import Image
from pyarrow.parquet import read_table, write_table

from helpers.evaluation_samples import TEXTS, reduced, scene, write_ftsr_folders, write_ftsr_parquet
from tadisr.datasets.ftsr import IMAGES, Shards, decode_column, open_pages, open_stream


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """`datasets` waits five seconds for its threads after every pass."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1, raising=False)  # since datasets 5


def shards(root):
    return Shards(sorted((root / "data").glob("test-*.parquet")))


def test_every_way_in_gives_the_same_triplets(tmp_path):
    folders, parquet = write_ftsr_folders(tmp_path / "folders"), write_ftsr_parquet(tmp_path / "parquet")
    ways = [open_pages(folders, "test"), open_pages(folders / "test"), open_pages(parquet, "test"), shards(parquet)]
    rows = list(open_stream([parquet], "test"))
    for i, words in enumerate(TEXTS):
        hr, mask, lines = scene(words, i)
        streamed = {column: decode_column(rows[i][column]["bytes"], column, "") for column in IMAGES}
        images = [(pages.lr(i), pages.hr(i), pages.mask(i)) for pages in ways]
        for found in [*images, tuple(streamed.values())]:
            for image, wanted in zip(found, (reduced(hr), hr, 255 * mask), strict=True):
                np.testing.assert_array_equal(image, wanted)
        for pages in ways:
            assert len(pages) == len(rows) == len(TEXTS)
            assert [line["text"] for line in pages.lines(i)] == list(words)
            np.testing.assert_array_equal([line["quad"] for line in pages.lines(i)], [quad for _, quad in lines])
    assert [pages.name(2) for pages in ways[1:]] == [
        str(folders / "test/hr/0000002.png"),
        f"{parquet} (test), row 2",
        f"{parquet / 'data/test-00001-of-00002.parquet'}, row 0",
    ]
    assert len(list(open_stream([parquet, parquet], "test"))) == 2 * len(TEXTS)


def test_what_is_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"empty has no train pages: make some with `tadisr synthesize -o .*empty`"
    ):
        open_pages(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="/nowhere/at/all has no test pages"):
        open_pages("/nowhere/at/all", "test")
    with pytest.raises(FileNotFoundError, match="nothing cannot be streamed"):
        open_stream([tmp_path / "nothing"])
    (tmp_path / "bare" / "hr").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"No hr/\*.png in .*bare"):
        open_pages(tmp_path / "bare")
    with pytest.raises(FileNotFoundError, match="bare has no train shards in data/: streaming needs the Parquet"):
        open_stream([tmp_path / "bare"])


def test_a_data_set_of_another_kind(tmp_path):
    (tmp_path / "data").mkdir()
    Dataset.from_dict({"hr": [1], "text": ["a"]}).to_parquet(tmp_path / "data/test-00000-of-00001.parquet")
    for way in (open_pages, lambda root, split: open_stream([root], split)):
        with pytest.raises(ValueError, match="which has lr, hr, mask, text, boxes: there is no column lr"):
            way(tmp_path, "test")
    with pytest.raises(ValueError, match=r"test-00000-of-00001.parquet has no column boxes"):
        shards(tmp_path)


def test_damaged_shards(tmp_path):
    shard = write_ftsr_parquet(tmp_path) / "data" / "test-00001-of-00002.parquet"
    table = read_table(shard)
    place = table.column_names.index("hr")
    for value in (b"none", b"", None):
        bad = pa.array([{"bytes": value, "path": None}], table["hr"].type)
        write_table(table.set_column(place, "hr", bad), shard)
        with pytest.raises(ValueError, match=r"test-00001-of-00002.parquet, row 0: hr is not an image"):
            shards(tmp_path).hr(2)
        with pytest.raises(ValueError, match=r"\(test\), row 2: hr is not an image"):
            open_pages(tmp_path, "test").hr(2)
    write_table(table.drop_columns(["mask"]), shard)  # the first one has it
    with pytest.raises(ValueError, match=r"test-00001-of-00002.parquet has no column mask"):
        shards(tmp_path)
    shard.write_bytes(b"PAR1 and no more PAR1")
    with pytest.raises(ValueError, match=r"test-00001-of-00002.parquet is damaged"):
        shards(tmp_path)


@pytest.mark.parametrize("text", ["\u2028one line for JSON", "two\u0085"])
def test_damaged_folders(tmp_path, text):
    folder = write_ftsr_folders(tmp_path) / "test"
    (folder / "mask/0000001.png").unlink()
    pages = open_pages(folder)
    with pytest.raises(FileNotFoundError, match="0000001.png is missing or not an image"):
        pages.mask(1)
    metadata = folder / "metadata.jsonl"
    row = f'{{"file_name": "0000000.png", "lines": [{{"text": "{text}", "quad": [[0,0],[9,0],[9,9],[0,9]]}}]}}\n'
    metadata.write_text(row, encoding="utf-8")
    assert [line["text"] for line in pages.lines(0)] == [text] and pages.lines(1) == []
    for damaged, message in (
        (row + '{"file_name": "0000001.png"}\n', "metadata.jsonl, line 2: KeyError: 'lines'"),
        (row.replace("[0,9]]", "[0]]"), "metadata.jsonl, line 1: ValueError"),
        (row.replace("[0,9]]", "[0,9],[0,8]]"), "line 1: ValueError: expected a text and four"),
        (row.encode("utf-16").decode("latin-1"), "metadata.jsonl, line 1, is not JSON: Expecting value"),
    ):
        metadata.write_text(damaged, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            open_pages(folder).lines(0)
    metadata.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="metadata.jsonl is not UTF-8"):
        open_pages(folder).lines(0)
    metadata.unlink()
    assert open_pages(folder).lines(0) == []


def test_an_image_of_a_few_bytes_and_many_pixels_is_refused():
    Image.new("1", (20_000, 20_000)).save(bomb := io.BytesIO(), "PNG")
    with pytest.raises(ValueError, match="row 3: hr is not an image"):
        decode_column(bomb.getvalue(), "hr", "row 3")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("text", [None], "row 0 is damaged or unreadable: expected a text and four"),
        ("text", None, "row 0 is damaged or unreadable"),
        ("boxes", [[1.0] * 7], "row 0 is damaged or unreadable: cannot reshape"),
        ("hr", None, "row 0 is damaged or unreadable"),
        ("hr", 5, "row 0 is damaged or unreadable"),
    ],
)
def test_cells_of_other_kinds(tmp_path, column, value, message):
    row = {name: {"bytes": b"x", "path": None} for name in ("lr", "hr", "mask")}
    row |= {"text": ["a"], "boxes": [[1.0] * 8], column: value}
    write_table(pa.Table.from_pylist([row]), tmp_path / "train-0.parquet")
    pages = Shards([tmp_path / "train-0.parquet"])
    with pytest.raises(ValueError, match=message):
        pages.lines(0) if column in ("text", "boxes") else pages.hr(0)


def test_data_that_end_in_the_middle(tmp_path):
    folder = write_ftsr_parquet(tmp_path)
    shard = sorted(folder.rglob("*.parquet"))[0]
    data = bytearray(shard.read_bytes())
    data[4:200] = bytes(196)  # the footer is whole
    shard.write_bytes(data)
    pages = Shards([shard])
    with pytest.raises(ValueError, match="row 0 is damaged or unreadable"):
        pages.lr(0)
