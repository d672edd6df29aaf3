"""tadisr.ray: rows of Ray Data, restored by a model per worker."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from helpers import tiny
from helpers.command_line import child, noise
from tadisr import load
from tadisr.io.images import encode_png
from tadisr.ray import Restore


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny.lean().save_pretrained(folder)
    return str(folder)


def arrays(encoded):
    return [np.asarray(Image.open(io.BytesIO(data))) for data in encoded]


def column(*values):
    """Not an array of more dimensions where all values are alike."""
    filled = np.empty(len(values), object)
    filled[:] = values
    return filled


def test_every_kind_of_value(model, tmp_path):
    pixels = noise(8, 12).reshape(8, 12, 3)
    data = encode_png(pixels)
    (tmp_path / "photo.png").write_bytes(data)
    records = [{"bytes": data, "path": None}, {"bytes": None, "path": str(tmp_path / "photo.png")}]
    batch = {
        "photo": column(pixels, data, pixels / np.float32(255), *records),
        "id": np.arange(5),
    }
    made = Restore(model, "photo", device="cpu", dtype="float32", fidelity=1.0)(batch)
    expected = load(model, "cpu", "float32").restore(pixels, fidelity=1.0)
    assert list(made) == ["photo", "id", "restored", "text_mask", "error"] and list(made["error"]) == [""] * 5
    assert made["id"] is batch["id"]
    for name, wanted in (("restored", expected.image), ("text_mask", expected.mask)):
        assert all(np.array_equal(one, wanted) for one in arrays(made[name]))


def test_bad_rows_leave_the_others_whole(model):
    good = encode_png(noise(6, 6).reshape(6, 6, 3))
    bad = [b"no image", good[:60], {"bytes": None, "path": "gone.png"}, {"bytes": None, "path": None},
           np.zeros((3, 5, 7)), np.zeros((4, 4, 3), np.int64), None]  # fmt: skip
    made = Restore(model, device="cpu")({"image": column(*bad, good)})
    assert made["error"][-1] == "" and arrays(made["restored"][-1:])[0].shape == (24, 24, 3)
    assert list(made["restored"][:-1]) == list(made["text_mask"][:-1]) == [b""] * len(bad)
    assert all(error and "\n" not in error for error in made["error"][:-1])
    assert made["error"][2] == "cannot read gone.png: No such file or directory: check its name and permissions"
    assert "the image" in made["error"][0] and "/" not in made["error"][0]


def test_mistakes(model):
    with pytest.raises(KeyError, match="no column 'image'; it has 'photo'"):
        Restore(model, device="cpu")({"photo": column(b"")})
    with pytest.raises(ValueError, match="scale"):
        Restore(model, device="cpu", scale=0)({"image": column(np.zeros((4, 4, 3), np.uint8))})


def test_an_empty_batch(model):
    made = Restore(model, device="cpu")({"image": column()})
    assert {name: len(values) for name, values in made.items()} == dict.fromkeys(
        ("image", "restored", "text_mask", "error"), 0
    )


PROGRAM = """
import hashlib, json, logging, sys
import numpy as np, ray
from tadisr.ray import Restore
if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    given = ray.data.read_parquet(sys.argv[1])
    options = {"model": sys.argv[3], "device": "cpu", "dtype": "float32"}
    made = given.map_batches(Restore, fn_constructor_kwargs=options, batch_size=3, concurrency=2)
    made.write_parquet(sys.argv[2])
    print(json.dumps(sorted((row["name"], hashlib.sha256(row["restored"]).hexdigest(), row["error"])
                            for row in ray.data.read_parquet(sys.argv[2]).take_all())))
"""


def test_parquet_in_and_out(model, tmp_path):
    pytest.importorskip("ray")
    import hashlib

    from datasets import Dataset, Features, Value
    from datasets import Image as Picture

    data = [encode_png(noise(8, 5 + number).reshape(8, 5 + number, 3)) for number in range(8)]
    rows = {"name": [f"{number}" for number in range(8)], "image": [{"bytes": one, "path": None} for one in data]}
    (tmp_path / "in").mkdir()
    Dataset.from_dict(rows, Features(name=Value("string"), image=Picture())).to_parquet(tmp_path / "in" / "a.parquet")
    process = child(PROGRAM, str(tmp_path / "in"), str(tmp_path / "out"), model)
    assert process.returncode == 0, process.stderr
    restore = Restore(model, device="cpu", dtype="float32")
    here = restore({"image": column(*data)})["restored"]
    expected = [[str(number), hashlib.sha256(one).hexdigest(), ""] for number, one in enumerate(here)]
    assert json.loads(process.stdout.splitlines()[-1]) == expected
