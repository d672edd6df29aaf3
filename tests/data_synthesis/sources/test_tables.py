"""Tables of the `datasets` library as sources."""

import numpy as np
import pytest
from PIL import Image

from helpers import source_samples as samples
from tadisr.data_synthesis.sources import open_source


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory):
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.mark.parametrize("parquet", [False, True])
def test_tables(tmp_path, parquet):
    path = samples.write_table(tmp_path / "table", parquet=parquet)
    source = open_source({"kind": "datasets", "path": str(path), "mask": "mask", "text": "text"})
    samples.check_contract(source)
    assert source.kind == "crops" and source.names()[1] == "train/0000001"
    image, mask = samples.text_line("Coffee", seed=1)
    sample = source[1]
    assert (sample.image == image).all() and (sample.mask == mask).all() and sample.text == "Coffee"
    plain = open_source(f"datasets:{path}")
    assert plain.kind == "backgrounds" and plain[0].mask is None and plain[0].text is None


def test_tables_of_image_files_respect_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = samples.photograph(0, (16, 24))
    samples.save(tmp_path / "images" / "1.png", image, exif=exif)
    source = open_source(f"datasets:{tmp_path / 'images'}")
    assert (source[0].image == np.rot90(image, -1)).all() and source.size(0) == (24, 16)


def test_table_errors(tmp_path):
    path = str(samples.write_table(tmp_path / "table"))
    for options, message in {
        ("image", "text"): "has no column of images 'text', but image, mask",
        ("mask", "number"): "has no column of images 'number'",
        ("text", "number"): "has no column of strings 'number'; its columns are image, mask, text, number",
        ("text", "nothing"): "has no column of strings 'nothing'",
    }.items():
        with pytest.raises(ValueError, match=message):
            open_source({"kind": "datasets", "path": path, options[0]: options[1]})
    from datasets import Dataset, DatasetDict
    from datasets import Image as Column

    DatasetDict(a=Dataset.from_dict({"x": [1]})).save_to_disk(tmp_path / "dict")
    with pytest.raises(ValueError, match="has no split 'train': known are a"):
        open_source(f"datasets:{tmp_path / 'dict'}")
    with pytest.raises(ValueError, match="has no column of images; its columns are x"):
        open_source({"kind": "datasets", "path": str(tmp_path / "dict"), "split": "a"})
    with pytest.raises(FileNotFoundError, match="No dataset .*nowhere: it must be a folder that datasets loads"):
        open_source(f"datasets:{tmp_path / 'nowhere'}")
    with pytest.raises(FileNotFoundError, match="A dataset needs a path"):
        open_source("datasets")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="broken cannot be loaded as a dataset"):
        open_source(f"datasets:{tmp_path / 'broken'}")
    rows = [{"bytes": b"no image", "path": None}, None, {"bytes": samples.encoded(samples.photograph(0)), "path": None}]
    table = (
        Dataset.from_dict({"image": rows, "mask": rows[::-1]})
        .cast_column("image", Column())
        .cast_column("mask", Column())
    )
    table.save_to_disk(tmp_path / "bad")
    source = open_source(f"datasets:{tmp_path / 'bad'}")
    with pytest.raises(ValueError, match="row 0, column image cannot be read as an image"):
        source[0]
    with pytest.raises(ValueError, match="row 1, column image is empty"):
        source[1]


def test_table_masks_must_fit(tmp_path):
    from datasets import Dataset
    from datasets import Image as Column

    rows = [[{"bytes": samples.encoded(samples.photograph(0, size)), "path": None}] for size in ((8, 8), (8, 9))]
    table = Dataset.from_dict({"image": rows[0], "mask": rows[1]})
    table.cast_column("image", Column()).cast_column("mask", Column()).save_to_disk(tmp_path / "table")
    with pytest.raises(ValueError, match=r"row 0: the image is \(8, 8\), its mask \(8, 9\)"):
        open_source({"kind": "datasets", "path": str(tmp_path / "table"), "mask": "mask"})[0]
