"""Section 3 of docs/train.md, command by command as written, from an empty folder; and the bases that its table names.

Flags behind a command make it small: fewer steps, smaller crops, no LPIPS, whose weights are not here. Two processes
stand for four. The Hub is a local server with bases in the published repositories' layout, under their own ids.
"""

import json
import os

import pytest
import yaml

from helpers import published, source_samples
from helpers.doc_commands import ROOT, blocks, commands
from helpers.hub_server import TOKEN, HubServer
from helpers.reader import Reader
from helpers.segmenters import sam

TRAIN = ROOT / "docs/train.md"
SECTION = "3. From an empty disk to four GPUs and the Hub"
SMALL = "--max_train_steps 1 --gradient_accumulation_steps 1 --dataloader_num_workers 0"
SMALL_LORA = f"{SMALL} --resolution 64 --lpips 0 --num_validation_images 1"
SMALLER = {
    "train_segmenter.py": f"{SMALL} --resolution 128",
    "tadisr synthesize": "--num 10 --size 128 --num-proc 1 --enhancer tadisr-tiny",
    "hf auth login": f"--token {TOKEN}",
    "train_lora.py": SMALL_LORA,
}
CONFIGS = ("paper_sdxl", "sd15", "kolors_24gb", "sdxl_24gb", "sd15_12gb")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """In a clone, with the data sets that their authors give, and a Hub."""
    folder = tmp_path_factory.mktemp("disk") / "clone"
    folder.mkdir()
    (folder / "training").symlink_to(ROOT / "training")
    sources = folder / "data"
    for name, write in (
        ("LSDIR", source_samples.write_lsdir), ("CTR", source_samples.write_ctr), ("BTS", source_samples.write_bts),
        ("TextSeg", source_samples.write_textseg), ("Real-CE", source_samples.write_realce),
    ):  # fmt: skip
        write(sources / name, **({"size": (288, 288)} if name == "LSDIR" else {}))
    with HubServer(tmp_path_factory.mktemp("hub"), user="user") as server:
        for family in ("sd", "sdxl", "kolors"):
            base = published.write(family, tmp_path_factory.mktemp(family) / "base")
            server.publish(published.HUB_IDS[family], base)
        sam(side=128).save_pretrained(segmenter := tmp_path_factory.mktemp("sam"))
        server.publish("facebook/sam-vit-large", segmenter)
        yield Reader(folder, server)


@pytest.fixture(scope="module")
def walked(reader):
    """What each of the section's commands said, in their order."""
    said = {}
    for command in commands(TRAIN, SECTION):
        smaller = next(flags for part, flags in SMALLER.items() if part in command.text)
        text = command.text.replace("--num_processes 4", "--num_processes 2")
        said[command.text] = reader.run(f"{text} {smaller}")
    return said


def test_from_an_empty_disk_to_the_hub(reader, walked):
    run = reader.folder / "runs/kolors"
    settings = yaml.safe_load((run / "weights/train_config.yaml").read_text())
    assert settings["pretrained_model_name_or_path"] == published.HUB_IDS["kolors"] and settings["realce_mask_dir"]
    masks = reader.folder / settings["realce_mask_dir"]
    assert any(masks.rglob("*.png")), "made by SAM-TS"
    (snippet,) = blocks(TRAIN, "python", SECTION)
    said = reader.run(f"python - <<'END'\n{snippet}\nprint(pipe.config.base_model)\nEND")
    assert said.split()[-1] == published.HUB_IDS["kolors"]


CONFIGURED = """
import json, sys
from helpers import training_runs as runs
from tadisr.training import train_lora
for name in sys.argv[1:]:
    runs.fresh()
    train_lora.main(["--config", name, "--output_dir", f"runs/table/{name}", *FLAGS])
"""


@pytest.mark.skipif(not os.environ.get("TADISR_SLOW"), reason="a minute or two; set TADISR_SLOW=1")
def test_every_base_of_the_table_starts_by_its_id(reader, walked):
    table = TRAIN.read_text().partition(f"## {SECTION}")[2].partition("| from scratch |")[0]
    assert all(f"`{name}.yaml`" in table for name in CONFIGS)
    code = CONFIGURED.replace("FLAGS", repr(SMALL_LORA.split()))
    (reader.folder / "configured.py").write_text(code)
    reader.run(f"python configured.py {' '.join(CONFIGS)}")
    for name in CONFIGS:
        index = json.loads((reader.folder / f"runs/table/{name}/weights/tadisr_adapter.json").read_text())
        assert index["base_model"] in published.HUB_IDS.values()
