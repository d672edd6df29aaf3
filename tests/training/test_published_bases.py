"""The docs' commands on bases laid out as the published repositories; what is looked at before one is fetched."""

import json
import re
import subprocess
import sys

import pytest
import torch

from helpers import pages, published
from helpers import training_runs as runs
from helpers.hub_server import HubServer
from tadisr import TADiSRPipeline, TextPrompt
from tadisr.training import train_lora
from tadisr.training.restoration.train_config import TrainConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 10, 128, font_size=(18, 32))


@pytest.fixture(scope="module", params=published.HUB_IDS)
def base(request, tmp_path_factory):
    return published.write(request.param, tmp_path_factory.mktemp(request.param) / "base")


def test_readmes_command_trains_on_it(base, data, tmp_path):
    """As written, but for the size and number of the crops, and LPIPS, whose weights are not here."""
    runs.fresh()
    train_lora.main([
        "--pretrained_model_name_or_path", str(base), "--train_data_dir", str(data), "--degradation", "stored",
        "--output_dir", str(tmp_path / "run"), "--resolution", "64", "--max_train_steps", "2", "--lpips", "0",
        "--validation_data_dir", str(data), "--num_validation_images", "1", "--dataloader_num_workers", "0",
    ])  # fmt: skip
    saved = TrainConfig(**runs.settings(tmp_path / "run"))
    assert (saved.mixed_precision, saved.gradient_checkpointing, saved.validation_tile) == ("bf16", True, 64)
    assert runs.records(tmp_path / "run")[-1]["images"] == 1  # a page of 128 pixels, by tiles of 64
    pipe = TADiSRPipeline.from_pretrained(tmp_path / "run" / "weights", dtype=torch.bfloat16)
    assert pipe(torch.rand(1, 3, 16, 16), output_type="pt").images[0].shape == (3, 64, 64)


def test_the_docs_prompt_is_made_from_it(base, tmp_path):
    prompt = TextPrompt.from_base(str(base), dtype=torch.bfloat16)
    prompt.save_pretrained(tmp_path / "prompt")
    assert TextPrompt.from_pretrained(tmp_path / "prompt").config.text_positions == prompt.config.text_positions


def test_a_variant_that_is_not_there_is_not_replaced(base):
    with pytest.raises((OSError, ValueError), match="ema"):
        TextPrompt.from_base(str(base), variant="ema")


ELSEWHERE = [
    (["--train_data_dir", "nowhere"], "nowhere"),
    (["--resolution", "512"], r"crops of 512 need larger pages"),
    (["--validation_data_dir", "nowhere"], "nowhere"),
    (["--validation_data_dir", "DATA", "--validation_ocr", "none"], "none"),
    (["--validation_data_dir", "DATA", "--validation_lpips", "nowhere"], "nowhere"),
    (["--lpips", "5", "--lpips_weights", "nowhere.pth"], r"nowhere\.pth"),
    (["--realce_data_dir", "nowhere"], "nowhere"),
    (["--output_dir", "/proc/run"], "/proc/run"),
    (["--report_to", "comet_ml"], "comet_ml"),
    (["--optimizer", "none"], "No optimizer is called none"),
]
BY_ITS_CONFIGURATION = [
    (["--resolution", "68"], "With this base resolution must be a multiple of 8, not 68"),
    (["--validation_data_dir", "DATA", "--validation_tile", "60"], "validation_tile must be a multiple of 8, not 60"),
    (["--rank_unet", "0"], "rank_unet must be at least 1"),
    (["--pretrained_model_name_or_path", "user/inpainting"], "reads 9 channels and its VAE has 4, as in inpainting"),
    (["--pretrained_model_name_or_path", "user/damaged"], "unet/config.json does not describe a UNet2DConditionModel"),
    (["--pretrained_model_name_or_path", "user/flux"], "a FluxPipeline with .* is not supported as a base"),
    (["--pretrained_model_name_or_path", "user/sample"], "predicts sample, not epsilon or v"),
    (["--pretrained_model_name_or_path", "user/incomplete"], "user/incomplete is incomplete: .*vae/config.json"),
    (["--pretrained_model_name_or_path", "user/none"], "No diffusers pipeline user/none"),
]
HUB = ["--push_to_hub", "--hub_model_id"]
WITHOUT_RIGHTS = [
    ([*HUB, "other/sharp"], "the token may not write there", "local-test-token"),
    ([*HUB, "tester/sharp"], "nobody is logged in, or the token has expired", "expired"),
    ([*HUB, "tester/sharp"], "nobody is logged in, or the token has expired", ""),
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A Hub with a base, ones that do not fit, and somebody else's repository."""
    folder = tmp_path_factory.mktemp("bases")
    bases = {name: folder / name for name in ("base", "inpainting", "damaged", "flux", "sample", "incomplete")}
    for name, base in bases.items():
        published.write("sd", base)
        if name in ("inpainting", "damaged"):
            change(base / "unet/config.json", in_channels=9 if name == "inpainting" else -1)
    change(bases["flux"] / "model_index.json", _class_name="FluxPipeline", unet=None,
           transformer=["diffusers", "FluxTransformer2DModel"])  # fmt: skip
    change(bases["sample"] / "scheduler/scheduler_config.json", prediction_type="sample")
    (bases["incomplete"] / "vae/config.json").unlink()
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        for name, base in bases.items():
            server.publish(f"user/{name}", base)
        server.publish("other/sharp", bases["base"] / "scheduler")
        yield server


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


TRIES = """
import json, os, sys
from tadisr.training import train_lora
from tadisr.training.engine.command_line import mistakes_in_one_line
from helpers import training_runs as runs
for flags, token in json.loads(sys.argv[1]):
    runs.fresh()
    os.environ["HF_TOKEN"] = token
    try:
        with mistakes_in_one_line():
            train_lora.main(flags)
        print("trained")
    except SystemExit as error:
        print(str(error) or "nothing said")
"""


def test_no_weights_are_fetched_for_what_is_wrong(hub, data, tmp_path):
    """By the real client: of the base nothing is asked for but configuration files, of a few kilobytes."""
    given = {
        "--train_data_dir": str(data), "--output_dir": "run", "--resolution": "64", "--lpips": "0",
        "--degradation": "stored", "--dataloader_num_workers": "0", "--pretrained_model_name_or_path": "user/base",
    }  # fmt: skip
    cases = [(*case, "local-test-token") for case in ELSEWHERE + BY_ITS_CONFIGURATION] + WITHOUT_RIGHTS
    lines = []
    for flags, _, token in cases:
        flags = [str(data) if flag == "DATA" else flag for flag in flags]
        rest = [part for name, value in given.items() if name not in flags for part in (name, value)]
        lines.append([[*flags, *rest], token])
    hub.requests.clear()
    environment = {**runs.environment(), **hub.environment(), "PYTHONPATH": str(runs.ROOT / "tests")}
    command = [sys.executable, "-c", TRIES, json.dumps(lines)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(cases)
    for line, (flags, message, _) in zip(said, cases, strict=True):
        assert re.search(message, line), f"{flags}: {line}"
    fetched = {path for path in map(of_a_base, hub.requests) if path}
    assert {"unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"} <= fetched
    assert fetched <= {"model_index.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"}


def of_a_base(request: str) -> str | None:
    """The file of a base that a request is for."""
    found = re.fullmatch(r"(?:GET|HEAD) /user/\w+/resolve/\w+/(.+)", request)
    return found and found[1]
