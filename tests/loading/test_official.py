"""`tadisr convert`: what it writes, and what it refuses without running or leaving anything."""

import dataclasses
import hashlib
import os
import pickle
import re
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import tiny
from helpers.hub_server import HubServer
from helpers.official_checkpoints import SMALL, random_checkpoint, saved
from tadisr import cli
from tadisr.loading import official
from tadisr.loading.official_layouts import COGVIEW4, DECODER_GROUPS, KOLORS
from tadisr.loading.repositories import AdapterIndex, read_adapter_index
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.prompt import TextPrompt
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline

both = pytest.mark.parametrize("release", SMALL, ids=["kolors", "cogview4"])


# ---- the adapter


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@both
def test_what_is_written(release, tmp_path):
    path = saved(random_checkpoint(release), tmp_path / "official.pkl")
    genuine = dataclasses.replace(
        release, size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    out = tmp_path / "new" / "out"
    done = official.convert(path, out, releases=[genuine])
    assert done == (genuine, True, release.base_model, False)
    lora = "pytorch_lora_weights.safetensors"
    decoder = [f"joint_decoder/{name}" for name in ("config.json", "diffusion_pytorch_model.safetensors")]
    layers = ["unet_layers.safetensors"] if release.family.component == "unet" else []
    names = [
        "README.md",
        "tadisr_adapter.json",
        "model_index.json",
        "pipeline_adapter.py",
        "joint_decoder/tadisr_joint_decoder.py",
        *decoder,
        *layers,
        f"{release.family.component}_lora/{lora}",
        f"vae_lora/{lora}",
    ]
    assert tree(tmp_path / "new") == sorted(f"out/{name}" for name in names)
    assert read_adapter_index(out) == AdapterIndex(release.base_model, prompt=release.prompt)
    card = (out / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], front["license_name"]) == ("other", "research-use") and front["license_link"]
    assert (front["base_model"], front["base_model_relation"]) == (release.base_model, "adapter")
    for words in ("Qiming Hu", "research use", "2506.04641", genuine.sha256, release.prompt, release.file):
        assert words in card
    # The same bytes at another size, or other bytes of the same size: not the released file.
    for other in (dataclasses.replace(genuine, size=1), dataclasses.replace(genuine, sha256=release.sha256)):
        done = official.convert(path, tmp_path / other.sha256[:4] / str(other.size), releases=[other])
        assert not done.released
    assert "**not the released file**" in next(tmp_path.rglob("1/README.md")).read_text(encoding="utf-8")


@pytest.mark.parametrize("group", DECODER_GROUPS)
@pytest.mark.parametrize("zipped", [True, False])
def test_both_names_of_the_decoder_and_both_formats(group, zipped, tmp_path):
    """The authors' code reads "js_decoder" in either release, and `torch.save` once wrote plain pickles."""
    checkpoint = random_checkpoint(SMALL[0])
    checkpoint[group] = checkpoint.pop("mi_decoder")
    # and as a training on channels-last models would leave them
    checkpoint[group] = {k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v
                         for k, v in checkpoint[group].items()}  # fmt: skip
    path = saved(checkpoint, tmp_path / "official.pkl", _use_new_zipfile_serialization=zipped)
    official.convert(path, tmp_path / "out", releases=SMALL)
    decoder = JointSegmentationDecoder.from_pretrained(tmp_path / "out" / "joint_decoder")
    first = decoder.mask_decoder.up_blocks[0].resnets[0].conv1.weight
    assert torch.equal(first, checkpoint[group]["up_blocks.0.resnets.0.conv1.weight"])


@pytest.fixture(scope="module")
def kolors(tmp_path_factory):
    """A whole Kolors-class base in a folder, which the small release fits."""
    folder = tmp_path_factory.mktemp("kolors")
    base, release = tiny.kolors(folder), SMALL[0]
    torch.manual_seed(0)
    base.register_modules(unet=UNet2DConditionModel(**release.backbone_config), vae=AutoencoderKL(**release.vae_config))
    base.save_pretrained(folder / "base")
    return folder / "base"


def test_with_a_base_it_runs(kolors, tmp_path):
    path = saved(random_checkpoint(SMALL[0]), tmp_path / "official.pkl")
    done = official.convert(path, tmp_path / "out", str(kolors), releases=SMALL)
    assert done.has_prompt and read_adapter_index(tmp_path / "out") == AdapterIndex(str(kolors))
    assert "base_model" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    prompt = TextPrompt.from_pretrained(tmp_path / "out" / "prompt")
    assert prompt.config.prompt == SMALL[0].prompt and prompt.dtype == torch.float32
    assert prompt.config.text_positions[-1] == prompt.config.num_tokens - 1  # "text" ends the prompt: padding is left

    pipe = TADiSRPipeline.from_pretrained(tmp_path / "out")
    images, masks = pipe(tiny.photo(), output_type="pt", return_dict=False)
    assert images[0].shape == (3, 68, 96) and masks[0].isfinite().all() and images[0].std() > 0
    pipe.save_pretrained(tmp_path / "again")
    again = TADiSRPipeline.from_pretrained(tmp_path / "again")(tiny.photo(), output_type="pt", return_dict=False)
    assert torch.equal(images[0], again[0][0]) and torch.equal(masks[0], again[1][0])


def test_a_base_whose_prompts_do_not_fit_leaves_nothing(kolors, tmp_path):
    release = dataclasses.replace(SMALL[0], backbone_config=SMALL[0].backbone_config | {"encoder_hid_dim": 24})
    path = saved(random_checkpoint(release), tmp_path / "official.pkl")
    with pytest.raises(ValueError, match=r"encodes prompts with \(16, 16\) values, and .* needs \(24, 16\)"):
        official.convert(path, tmp_path / "out", str(kolors), releases=[release])
    assert tree(tmp_path) == ["official.pkl"] and not (tmp_path / "out").exists()


# ---- what is refused


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Runs `tadisr convert PATH -o out ...` on the small releases: its exit code and lines."""
    monkeypatch.setattr(official, "RELEASES", SMALL)
    monkeypatch.chdir(tmp_path)

    def run(path, *args):
        code = cli.main(["convert", str(path), "-o", "out", *args])
        return code, capsys.readouterr().err.splitlines()

    return run


def refused(command, path):
    """The one line that it is refused with; nothing is left behind."""
    before = tree(".")
    code, lines = command(path)
    assert code == 2 and len(lines) == 1 and tree(".") == before and not Path("out").exists()
    return lines[0]


@pytest.mark.parametrize("form", ["zip", "old", "plain", "nested"])
def test_a_malicious_pickle_is_not_executed(command, form):
    bad = Malicious("executed")
    if form == "plain":
        Path("bad.pkl").write_bytes(pickle.dumps(bad, protocol=2))
    elif form == "nested":
        checkpoint = random_checkpoint(SMALL[0])
        checkpoint["state_dict_unet"]["conv_in.weight"] = bad
        saved(checkpoint, "bad.pkl")
    else:
        saved(bad, "bad.pkl", _use_new_zipfile_serialization=form == "zip")
    assert re.search(r"bad\.pkl would call \w+\.mkdir when loaded.*nothing of it was run", refused(command, "bad.pkl"))
    assert not Path("executed").exists()
    with suppress(RuntimeError):  # the plain one is no checkpoint, but that shows too late
        torch.load("bad.pkl", weights_only=False)
    assert Path("executed").exists()


def test_files_that_are_no_checkpoints(command):
    saved(random_checkpoint(SMALL[0]), "whole.pkl")
    data = Path("whole.pkl").read_bytes()
    for name, content in {"half": data[: len(data) // 2], "short": data[:-1], "empty": b"", "text": b"hello"}.items():
        Path(name).write_bytes(content)
        assert "is no PyTorch checkpoint, or damaged" in refused(command, name)
    with zipfile.ZipFile("archive", "w") as archive:
        archive.writestr("readme", "hello")
    assert "is no PyTorch checkpoint, or damaged" in refused(command, "archive")
    assert "holds a list, not a checkpoint's groups" in refused(command, saved([torch.ones(1)], "list"))
    line = refused(command, saved({"state_dict": {}, "epoch": 3}, "other"))
    assert "has the entries state_dict; epoch; known are" in line and "(state_dict_unet)" in line
    assert "No file missing" in refused(command, "missing")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a checkpoint that fits."""
    return saved(random_checkpoint(SMALL[1]), tmp_path_factory.mktemp("whole") / "whole.pkl").read_bytes()


@settings(deadline=None, max_examples=20)
@given(place=st.integers(0, 2**31), byte=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_still_fits(whole, place, byte):
    """One byte changed anywhere: a weight, or something that is refused in words."""
    data = bytearray(whole)
    data[place % len(data)] = byte
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "damaged.pkl").write_bytes(data)
        try:
            official.convert(folder / "damaged.pkl", folder / "out", releases=SMALL)
        except ValueError:
            assert tree(folder) == ["damaged.pkl"]
        else:
            assert JointSegmentationDecoder.from_pretrained(folder / "out" / "joint_decoder")


TWIN = "interaction_blocks.2.0.block1.0.seq_{}.1.bias"


@pytest.mark.parametrize(
    ("place", "change", "said"),
    [
        ("state_dict_unet conv_in.weight", lambda x: x[:, :3],
         "state_dict_unet: conv_in.weight is (8, 3, 3, 3) torch.float32, expected (8, 4, 3, 3) floats"),
        ("state_dict_unet conv_in.bias", lambda x: x.int(),
         "state_dict_unet: conv_in.bias is (8,) torch.int32, expected (8,) floats"),
        ("state_dict_vae encoder.conv_in.lora_A.vae_skip.weight", None,
         "missing state_dict_vae: encoder.conv_in.lora_A.vae_skip.weight"),
        ("state_dict_vae encoder.conv_in.weight", lambda _: torch.ones(1),
         "unknown state_dict_vae: encoder.conv_in.weight"),
        ("mi_decoder out_block.2.bias", lambda _: 3, "missing mi_decoder: out_block.2.bias"),
        (f"mi_decoder {TWIN.format('r')}", lambda x: x + 1,
         f"mi_decoder: {TWIN.format('l')} and {TWIN.format('r')} are one layer, but differ"),
        ("optimizer", lambda _: {}, "unknown entry optimizer"),
        ("mi_decoder", None, "no group mi_decoder"),
        ("state_dict_vae", lambda _: 3, "no group state_dict_vae"),
    ],
)  # fmt: skip
def test_another_layout_is_refused(place, change, said, tmp_path):
    checkpoint = random_checkpoint(SMALL[0])
    *group, key = place.split()
    entries = checkpoint[group[0]] if group else checkpoint
    entries[key] = change(entries.get(key)) if change else None
    if change is None:
        del entries[key]
    path = saved(checkpoint, tmp_path / "official.pkl")
    with pytest.raises(ValueError) as error:
        official.convert(path, tmp_path / "out", releases=SMALL)
    assert str(error.value) == f"{path} has not the layout of {KOLORS.file}: {said}."
    assert tree(tmp_path) == ["official.pkl"] and not (tmp_path / "out").exists()


def test_many_differences_are_counted(command, tmp_path):
    checkpoint = random_checkpoint(SMALL[0])
    count = len(checkpoint["state_dict_unet"])
    checkpoint["state_dict_unet"] = {}
    path = saved(checkpoint, tmp_path / "official.pkl")
    with pytest.raises(ValueError, match=f"(missing state_dict_unet: [^;]*; ){{5}}and {count - 5} more.$"):
        official.convert(path, tmp_path / "out", releases=SMALL)
    assert len(refused(command, path)) < 320


# ---- the command


def test_the_command(command, tmp_path):
    saved(random_checkpoint(SMALL[1]), "official.pkl")
    assert command("official.pkl") == (0, [
        f"tadisr: warning: official.pkl is not the released file {COGVIEW4.file}: its layout fits, its bytes differ",
        "tadisr: out: adapter for zai-org/CogView4-6B",
        "tadisr: it needs the prompt's embeddings to run: convert with --base-model zai-org/CogView4-6B, or a copy",
    ])  # fmt: skip
    assert command("official.pkl") == (2, ["tadisr: out exists already: name a new folder."])
    code, lines = command("official.pkl", "--base-model", ".", "--push-to-hub", "tester/x")
    assert code == 2 and "--push-to-hub: others cannot load a base from your folder" in lines[0]


def test_the_command_with_the_released_file_and_a_base(command, kolors, monkeypatch):
    path = saved(random_checkpoint(SMALL[0]), Path("official.pkl"))
    genuine = dataclasses.replace(
        SMALL[0], size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    monkeypatch.setattr(official, "RELEASES", [genuine])
    Path("out").mkdir()  # empty, so not in the way
    assert command(path, "--base-model", str(kolors)) == (0, [
        f"tadisr: official.pkl is the released file {KOLORS.file}", f"tadisr: out: adapter for {kolors}",
    ])  # fmt: skip
    code, lines = command(path, "--base-model", "nowhere")
    assert code == 2 and len(lines) == 1


PUSH = """
import sys
sys.path.insert(0, sys.argv[1])
from helpers import official_checkpoints
from huggingface_hub import HfApi
from tadisr import cli
from tadisr.loading import official
official.RELEASES = official_checkpoints.SMALL
for out, repository in (("out", "tester/official"), ("other", "not a repository")):
    paths = [f"{sys.argv[2]}/official.pkl", "-o", f"{sys.argv[2]}/{out}"]
    print(cli.main(["convert", *paths, "--push-to-hub", repository]))
print(*HfApi().list_repo_files("tester/official"))
"""


def test_push_to_the_hub(tmp_path):
    saved(random_checkpoint(SMALL[1]), tmp_path / "official.pkl")
    with HubServer(tmp_path / "hub") as server:
        pushed, refused, *files = server.run(PUSH, Path(__file__).parents[1], tmp_path).split()
    assert (pushed, refused) == ("0", "2")
    assert set(tree(tmp_path / "out")) <= set(files)
    assert not (tmp_path / "other").exists(), "refused at once"
