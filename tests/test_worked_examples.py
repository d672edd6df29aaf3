"""The examples of docs/train.md, docs/data.md and docs/textdiff.md, command by command as written, one after another.

Flags behind a command make it small: fewer steps, fewer and smaller pages. Each command is a process of its own, as a
reader's, so a section takes a minute of one core.
"""

import os

import pytest
from PIL import Image

from helpers import signs
from helpers.doc_commands import ROOT, blocks, commands
from helpers.hub_server import HubServer
from helpers.reader import Reader

pytestmark = pytest.mark.skipif(not os.environ.get("TADISR_SLOW"), reason="minutes; set TADISR_SLOW=1")
DOCS = ROOT / "docs"
STEPS = "--max_train_steps 1 --dataloader_num_workers 0 --mixed_precision no"
SMALLER = {
    "tadisr synthesize-lines": "--num 8",
    "tadisr synthesize": "--num 10 --size 128 --num-proc 1",
    "train_segmenter": f"{STEPS} --train_batch_size 2 --resolution 64 --photo_share 0",
    "train_lora": f"{STEPS} --train_batch_size 2 --resolution 64 --num_validation_images 1",
    "train_crnn": f"{STEPS} --train_batch_size 2 --num_validation_lines 4",
    "train_textdiff": f"{STEPS} --train_batch_size 2 --num_validation_lines 4",
}
NOT_HERE = ("apt", "pip", "tensorboard", "mkdir", "cd")  # from a network, or for the eyes


@pytest.fixture
def reader(tmp_path):
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "training").symlink_to(ROOT / "training")
    signs.sign("Quick 42", "brown fox").save(folder / "photo.png")
    with HubServer(tmp_path / "hub") as server:
        yield Reader(folder, server)


def follow(reader, path, section: str) -> None:
    for command in commands(path, section):
        if command.text.split()[0] not in NOT_HERE:
            smaller = next((flags for part, flags in SMALLER.items() if part in command.text), "")
            reader.run(f"{command.text.replace('NAME', 'wo_mask')} {smaller}")


def test_the_tiny_base_and_table_2(reader):
    follow(reader, DOCS / "train.md", "4. The worked example: the tiny base")
    assert {"log.jsonl", "weights", "best", "best.json", "validation"} <= names(reader, "runs/tiny")
    follow(reader, DOCS / "train.md", "9. The ablations (Table 2)")
    table = (reader.folder / "runs/table2/report.md").read_text()
    assert all(row in table for row in ("ours", "wo_jsd", "wo_taca", "wo_mf"))


def test_segmenters_and_lines(reader):
    follow(reader, DOCS / "train.md", "2. Data")
    for section in ("Text segmenters", "Text lines"):
        follow(reader, DOCS / "data.md", section)
    assert "weights" in names(reader, "runs/segmenter")
    (snippet,) = blocks(DOCS / "data.md", "python")
    reader.run(f"python - <<'END'\n{snippet}\nEND")


def test_textdiff(reader):
    follow(reader, DOCS / "data.md", "Text lines")
    for section in ("Train it", "Use it"):
        follow(reader, DOCS / "textdiff.md", section)
    assert "weights" in names(reader, "runs/textdiff_tiny") and "weights" in names(reader, "runs/crnn")
    assert Image.open(reader.folder / "sharp.png").size == Image.open(reader.folder / "photo.png").size
    follow(reader, DOCS / "textdiff.md", "Table 3's ablations")


def names(reader, folder: str) -> set[str]:
    return {path.name for path in (reader.folder / folder).iterdir()}
