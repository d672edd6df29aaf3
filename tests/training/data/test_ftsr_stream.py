"""FTSR's pages as a stream: dealt out to processes and workers, and resumed where it was."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers import training_runs as runs
from helpers.training_runs import same_items
from tadisr.training.data.ftsr_stream import FTSRStream
from tadisr.training.data.page_crops import Cropping
from tadisr.training.data.realce_crops import RealCECrops
from tadisr.training.engine.command_line import parse
from tadisr.training.engine.processes import start_accelerator
from tadisr.training.restoration.batches import Batches
from tadisr.training.restoration.train_config import TrainConfig


def take(stream, count):
    return [item for item, _ in zip(iter(stream), range(count), strict=False)]


def test_streams_go_on_where_they_were(data, realce):
    real = RealCECrops(realce, 32, 3)
    options = {"seed": 3, "shuffle_buffer": 4, "realce": real, "realce_share": 0.3, "batch_size": 2}
    whole = take(FTSRStream([data], Cropping(32), **options), 24)  # more than the 9 pages: several passes
    later = take(FTSRStream([data], Cropping(32), skip=5, **options), 14)
    assert all(same_items(a, b) for a, b in zip(whole[10:], later, strict=True))
    kinds = {item["name"].split()[0] for item in whole}
    assert kinds == {"Real-CE", "page"}
    first, second = (torch.stack([item["hr"] for item in whole[i : i + 9]]) for i in (0, 9))
    assert not torch.equal(first, second)


@pytest.fixture(scope="module")
def two_shards(data, tmp_path_factory):
    """Eight pages in two shards."""
    folder = tmp_path_factory.mktemp("shards") / "data"
    folder.mkdir()
    table = pa.concat_tables([pq.read_table(file) for file in sorted((data / "data").glob("train-*.parquet"))])
    for i in range(2):
        pq.write_table(table.slice(4 * i, 4), folder / f"train-0000{i}-of-00002.parquet")
    return folder.parent


def test_streams_of_processes_share_the_pages(two_shards):
    cropping = Cropping(256, degradation=None, text_share=0)  # whole pages, to tell them apart
    seen = [
        {item["hr"].numpy().tobytes() for item in take(FTSRStream([two_shards], cropping, rank=rank, processes=2), 4)}
        for rank in (0, 1)
    ]
    assert len(seen[0]) == len(seen[1]) == 4 and not seen[0] & seen[1]


@pytest.mark.parametrize("step", [2, 3])
def test_streams_through_data_workers_resume(two_shards, tmp_path, step):
    """From a step at which the first worker's turn has come, and from one at which it has not."""
    runs.fresh()
    settings = {"streaming": True, "dataloader_num_workers": 2, "shuffle_buffer": 2}
    config = parse(runs.flags(two_shards, tmp_path / "run", **settings), TrainConfig)
    accelerator = start_accelerator(config)
    whole, later = (
        [batch["hr"] for batch, _ in zip(Batches(config, accelerator).start(at), range(count), strict=False)]
        for at, count in ((0, 6), (step, 6 - step))
    )
    assert all(torch.equal(a, b) for a, b in zip(whole[step:], later, strict=True))


def test_training_on_a_stream_resumes_exactly(data, tmp_path):
    whole = runs.train(data, tmp_path / "whole", streaming=True)
    shutil.copytree(whole, resumed := tmp_path / "resumed")
    shutil.rmtree(resumed / "checkpoint-6")
    runs.train(data, resumed, streaming=True, resume_from_checkpoint="latest")
    runs.assert_same(whole, resumed)


def test_a_damaged_page_is_named(two_shards, tmp_path):
    (tmp_path / "data").mkdir()
    table = pq.read_table(two_shards / "data" / "train-00000-of-00002.parquet")
    bad = pa.array([{"bytes": b"no", "path": None}] * len(table), table["hr"].type)
    table = table.set_column(table.column_names.index("hr"), "hr", bad)
    pq.write_table(table, tmp_path / "data" / "train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match="page 0 of process 0's stream: hr is not an image"):
        take(FTSRStream([tmp_path], Cropping(32)), 1)
