"""docs/convert.md and docs/bases.md, command by command as written, from an empty folder.

The Hub is a local server. It has checkpoints with the released files' keys and bases in the published repositories'
layout, both narrower, under the ids that the documents name.
"""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, CogView4Transformer2DModel, UNet2DConditionModel
from PIL import Image

from helpers import pages, published
from helpers.doc_commands import ROOT, blocks, commands
from helpers.hub_server import HubServer
from helpers.official_checkpoints import SMALL, random_checkpoint, saved
from helpers.reader import Reader

CONVERT, BASES = ROOT / "docs/convert.md", ROOT / "docs/bases.md"
SECTION = "From the authors' download to a restored photo"
PRELUDE = """
from helpers.official_checkpoints import SMALL
from tadisr.loading import official
official.RELEASES = SMALL
"""  # the layouts to expect: the released ones, narrower


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder, released = tmp_path_factory.mktemp("disk") / "reader", tmp_path_factory.mktemp("released")
    folder.mkdir()
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        for release, family, backbone in zip(
            SMALL, ("kolors", "cogview4"), (UNet2DConditionModel, CogView4Transformer2DModel), strict=True
        ):
            saved(random_checkpoint(release), released / release.file)
            torch.manual_seed(0)
            parts = {
                "vae": AutoencoderKL(**release.vae_config),
                release.family.component: backbone(**release.backbone_config),
            }
            server.publish(
                release.base_model, published.write(family, tmp_path_factory.mktemp(family) / "base", **parts)
            )
        server.publish("huqiming513/TADiSR-Models", released)
        rng = np.random.default_rng(0)
        Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).save(folder / "photo.jpg")
        pages.data_set(folder / "DATA", 10, 128, font_size=(18, 32))
        yield Reader(folder, server, PRELUDE)


@pytest.fixture(scope="module")
def walked(reader):
    """The section's commands, run in their order, and what of the bases each had fetched."""
    fetched = {}
    for command in commands(CONVERT, SECTION):
        if not command.text.startswith("pip"):
            reader.run(command.text)
            fetched[command.text] = {release.base_model: reader.fetched(release.base_model) for release in SMALL}
    return fetched


def folders(files: set[str]) -> set[str]:
    return {file.partition("/")[0] for file in files if file.endswith((".safetensors", ".model", ".msgpack"))}


def test_from_the_authors_download_to_a_restored_photo(reader, walked):
    assert Image.open(reader.folder / "restored/photo.png").size == (96, 64)
    assert {path.name for path in (reader.folder / "restored").iterdir()} >= {"photo_mask.png", "photo_report.json"}
    assert "tadisr-kolors" in (reader.folder / "report/report.md").read_text()
    for release, name in zip(SMALL, ("tadisr-kolors", "tadisr-cogview4"), strict=True):
        card = (reader.folder / name / "README.md").read_text()
        assert f"base_model: {release.base_model}" in card and (reader.folder / name / "prompt/config.json").is_file()


def test_each_command_fetches_what_the_page_says(walked):
    """Converting fetches the text encoder alone, restoring the rest, and of both nothing twice."""
    for release in SMALL:
        convert, upscale = (
            next(files[release.base_model] for text, files in walked.items() if text.startswith(start))
            for start in (
                f"tadisr convert {release.file}",
                f"tadisr upscale photo.jpg -o restored --model {adapter(release)}",
            )
        )
        assert folders(convert) <= {"text_encoder", "tokenizer"} and "text_encoder" in folders(convert)
        assert folders(upscale - convert) == {"vae", release.family.component}


def adapter(release) -> str:
    return f"tadisr-{'kolors' if release is SMALL[0] else 'cogview4'}"


def test_the_snippets_of_bases(reader, walked):
    for command in commands(BASES):
        reader.run(command.text)
    reader.run("cp -r tadisr-kolors adapter && rm -r adapter/prompt")
    without_it, make_prompt = blocks(BASES, "python")
    reader.run(f"python - <<'END'\n{make_prompt}\nEND")
    said = reader.run(f"python - <<'END'\n{without_it}\nprint(pipe.dtype, pipe.config.base_model)\nEND")
    assert said.split()[-2:] == ["torch.bfloat16", "models/Kolors-diffusers"]
