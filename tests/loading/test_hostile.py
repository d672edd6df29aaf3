"""Models from strangers: nothing in them is run or imported, and each is refused in one line."""

import io
import json
import os
import pickle
import random
import resource
import shutil
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tadisr
from helpers import tiny, tiny_textdiff
from tadisr import TADiSRPipeline
from tadisr.io.model_files import load_pickled, read_config, read_header, runs_code
from tadisr.loading.load import load_model_file
from tadisr.loading.official import read_checkpoint
from tadisr.models.prompt import TextPrompt
from tadisr.models.textdiff.recognizer import load_public_crnn
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"
DEEP = "[" * 100_000
PROGRAM = "import pathlib\npathlib.Path({!r}).touch()\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.lean().save_pretrained(folder / "lean")
    tiny_textdiff.textdiff().save_pretrained(folder / "textdiff")
    base = tiny.sd(folder)
    base.save_pretrained(folder / "base")
    tiny.on_base(base, base_model=str(folder / "base")).save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def copy(models, tmp_path, monkeypatch):
    """Copies of saved models by name; the working folder is elsewhere, and holds a module to be imported by mistake."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "evil.py").write_text(PROGRAM.format(str(tmp_path / "was_run")))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "here")

    def copied(name):
        shutil.copytree(models / name, tmp_path / name)
        return tmp_path / name

    yield copied
    assert not (tmp_path / "was_run").exists()


def refused(load, *errors, within=30):
    """Its message: one line, soon, and without much memory."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(errors or (ValueError, FileNotFoundError)) as caught:
        load()
    message = str(caught.value)
    assert message and "\n" not in message and len(message) < 900, message
    assert time.monotonic() - start < within
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    return message


def edited(path, **values):
    """Write an object with other values; those that are `...` are left out."""
    held = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in held.items() if value is not ...}))


def restorer(folder):
    """As a command loads it, so that all doors are the same."""
    return lambda: tadisr.load(folder, "cpu", "float32")


# ---- model_index.json


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"vae": ["os", "system"]}, "names as vae ['os', 'system'], which is not loaded: known are AutoencoderKL"),
        ({"vae": ["evil", "AutoencoderKL"]}, "which is not loaded"),
        ({"scheduler": ["evil", "DDPMScheduler"]}, "which is not loaded"),
        ({"prompt": ["diffusers", "StableDiffusionPipeline"]}, "which is not loaded: known are TextPrompt"),
        ({"joint_decoder": ["subprocess", "Popen"]}, "which is not loaded"),
        ({"unet": ["tadisr.models.scratch", "UNet2DConditionModel"]}, "which is not loaded"),
        ({"unet": ["diffusers"]}, "which is not loaded"),
        ({"unet": "diffusers.UNet2DConditionModel"}, "which is not loaded"),
        ({"unet": [["diffusers"], {"a": 1}]}, "which is not loaded"),
        ({"unet": {"diffusers": "UNet2DConditionModel"}}, "which is not loaded"),
        ({"vae": None}, "names as vae [None, None], which is not loaded"),
        ({"vae": [None, None]}, "which is not loaded"),
        ({"scheduler": ...}, "which is not loaded"),
        ({"_class_name": ["evil", "TADiSRPipeline"]}, "not a TADiSRPipeline or a TextDiffPipeline"),
        ({"_class_name": "StableDiffusionPipeline"}, "not a TADiSRPipeline or a TextDiffPipeline"),
        ({"_class_name": "\x1b[31mred\n"}, r"holds a '\x1b[31mred\n', not a"),
        ({"_class_name": {"a": []}}, "not a TADiSRPipeline or a TextDiffPipeline"),
        ({"_class_name": ...}, "not a TADiSRPipeline or a TextDiffPipeline"),
        ({"unet": [None, None]}, "Give either unet or transformer"),
        ({"native_scale": -1}, "native_scale must be a whole number from 1 to 64"),
        ({"native_scale": 2.5}, "native_scale must be"),
        ({"native_scale": "4"}, "native_scale must be"),
        ({"native_scale": True}, "native_scale must be"),
        ({"native_scale": [4]}, "native_scale must be"),
        ({"native_scale": 10**5}, "native_scale must be"),
        ({"native_scale": 10**20}, "is no value of a config"),
    ],
)
def test_an_index(copy, values, said):
    folder = copy("lean")
    edited(folder / "model_index.json", **values)
    assert said in refused(restorer(folder))


def test_an_index_may_have_keys_that_are_not_known_here(copy):
    folder = copy("lean")
    edited(folder / "model_index.json", safety=["evil", "Checker"], later=1, auto_map={"x": "evil--y"})
    restorer(folder)()


@pytest.mark.parametrize("library", ["diffusers", "tadisr.models.scratch"])
def test_a_program_beside_the_weights(copy, tmp_path, library):
    folder = copy("lean")
    part = {"diffusers": "scheduler", "tadisr.models.scratch": "vae"}[library]
    (folder / part / f"{library}.py").write_text(PROGRAM.format(str(tmp_path / "was_run")))
    assert "is a program" in refused(restorer(folder))


@pytest.mark.parametrize(
    "options", [{"trust_remote_code": True}, {"custom_pipeline": "evil"}, {"use_safetensors": False}]
)
def test_options_that_would_run_what_files_hold(models, options):
    for load, name in ((TADiSRPipeline, "lean"), (TextDiffPipeline, "textdiff")):
        assert "would run what files hold: leave it out" in refused(
            lambda load=load, name=name: load.from_pretrained(models / name, **options)
        )
    assert "is not loaded with" in refused(lambda: TADiSRPipeline.from_pretrained(models / "adapter", **options))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"crop_size": 5}, "crop_size must be"),
        ({"crop_size": ["a", "b"]}, "crop_size must be"),
        ({"crop_size": [64, 16]}, "crop_size must be"),
        ({"crop_size": [10, 100_000]}, "crop_size must be"),
        ({"diffusion": "no"}, "diffusion must be True or False"),
        ({"strength": -1}, "strength"),
        ({"temperature": "hot"}, "cannot be loaded: "),
        ({"prior": ["evil", "CRNN"]}, "which is not loaded"),
        ({"enhancement": None}, "which is not loaded"),
    ],
)
def test_textdiffs_index(copy, values, said):
    folder = copy("textdiff")
    edited(folder / "model_index.json", **values)
    assert said in refused(restorer(folder))


# ---- config.json


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("vae", {"block_out_channels": [10**9]}, "1000000000 is no value of a config"),
        ("vae", {"block_out_channels": [900_000]}, "is (8, "),
        ("vae", {"block_out_channels": [-8]}, "does not describe a LeanAutoencoderKL"),
        ("vae", {"block_out_channels": []}, "does not describe a LeanAutoencoderKL"),
        ("vae", {"block_out_channels": ["8"]}, "block_out_channels cannot be ['8']"),
        ("vae", {"block_out_channels": {"0": 8}}, "block_out_channels cannot be"),
        ("vae", {"layers_per_block": 900_000}, "more layers than any network has"),
        ("vae", {"layers_per_block": "1"}, "layers_per_block cannot be '1'"),
        ("vae", {"layers_per_block": -3}, "is unknown"),
        ("vae", {"latent_channels": 2.5}, "does not describe a LeanAutoencoderKL"),
        ("vae", {"latent_channels": True}, "latent_channels cannot be True"),
        ("vae", {"act_fn": "evil"}, "does not describe a LeanAutoencoderKL"),
        ("vae", {"act_fn": ["silu"]}, "act_fn cannot be"),
        ("vae", {"down_block_types": ["evil.Block"]}, "does not describe a LeanAutoencoderKL"),
        ("vae", {"scaling_factor": 0}, "no VAE of RGB images does"),
        ("vae", {"scaling_factor": "1"}, "scaling_factor cannot be '1'"),
        ("vae", {"shift_factor": "1"}, "no VAE of RGB images does"),
        ("unet", {"transformer_layers_per_block": [[999_999], 1]}, "more layers than any network has"),
        ("unet", {"layers_per_block": [200, 200], "transformer_layers_per_block": 500}, "more layers than any network"),
        ("unet", {"norm_num_groups": 0}, "does not describe a"),
        ("unet", {"attention_head_dim": 0}, "does not describe a"),
        ("unet", {"cross_attention_dim": 900_000}, "expected ("),
        ("unet", {"in_channels": 5}, "expected (8, 5, 3, 3)"),
        ("unet", {"num_class_embeds": 1_000_000, "class_embed_type": None}, "is missing"),
        ("joint_decoder", {"attention_layers": [1, 2, 3]}, "cannot be|reads attention that"),
        ("joint_decoder", {"attention_heads": [900_000, 4, 4]}, "expected ("),
        ("joint_decoder", {"mask_layers_per_block": 999_999}, "more layers than any network has"),
        ("joint_decoder", {"interaction": "evil"}, "does not describe a JointSegmentationDecoder"),
        ("joint_decoder", {"patch": 0}, "is (16, "),
        ("joint_decoder", {"text_strength": "all"}, "text_strength cannot be"),
        ("prompt", {"num_tokens": 10**6, "embed_dim": 10**6}, "expected (1, 1000000, 1000000)"),
        ("prompt", {"num_tokens": -1}, "does not describe a TextPrompt"),
        ("prompt", {"text_positions": [4]}, "must be within the prompt's 4 tokens, got [4]"),
        ("prompt", {"text_positions": [-1]}, "must be within the prompt's 4 tokens"),
        ("prompt", {"text_positions": [1.5]}, "must be within"),
        ("prompt", {"text_positions": ["3"]}, "must be within"),
        ("prompt", {"text_positions": []}, "must be within"),
        ("prompt", {"text_positions": 3}, "must be within"),
        ("prompt", {"text_positions": [3] * 5}, "must be within"),
        ("prompt", {"time_ids": [1, 2]}, "time_ids are six whole numbers"),
        ("prompt", {"time_ids": "abcdef"}, "time_ids are six whole numbers"),
        ("prompt", {"__class__": "x"}, "no config has the key __class__"),
        ("unet", {"self": 1}, "no config has the key self"),
        ("prompt", {"quantization_config": {"quant_method": "evil"}}, "holds quantised weights"),
    ],
)
def test_a_config(copy, part, values, said):
    folder = copy("lean")
    edited(folder / part / "config.json", **values)
    message = refused(restorer(folder))
    assert any(words in message for words in said.split("|")), message


def test_keys_of_a_config_that_name_programs_have_no_effect(copy):
    folder = copy("lean")
    edited(folder / "unet" / "config.json", auto_map={"AutoModel": "evil.Model"}, _class_name="evil")
    restorer(folder)()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_train_timesteps": 10}, "no usable noise level among 10 steps"),
        ({"num_train_timesteps": -10}, "does not describe a DDPMScheduler"),
        ({"num_train_timesteps": 10**9}, "is no value of a config"),
        ({"num_train_timesteps": "1000"}, "does not describe a DDPMScheduler"),
        ({"num_train_timesteps": [1000]}, "does not describe a DDPMScheduler"),
        ({"beta_schedule": "evil"}, "does not describe a DDPMScheduler"),
        ({"beta_start": -1.0}, "does not describe a DDPMScheduler"),
        ({"beta_end": 1e300}, "does not describe a DDPMScheduler"),
        ({"beta_start": 2.0, "beta_end": 3.0}, "no usable noise level"),
        ({"trained_betas": [2.0] * 300}, "no usable noise level"),
        ({"prediction_type": "sample"}, "only epsilon and v_prediction are known"),
        ({"prediction_type": ["epsilon"]}, "only epsilon and v_prediction are known"),
    ],
)
@pytest.mark.parametrize("where", ["lean", "base"])
def test_a_schedule(copy, where, values, said):
    folder = copy(where)
    edited(folder / "scheduler" / "scheduler_config.json", **values)
    load = restorer(folder)
    if where == "base":
        adapter = copy("adapter")
        load = lambda: TADiSRPipeline.from_pretrained(adapter, base_model=folder)  # noqa: E731
    assert said in refused(load)


TEXTS = {
    "a list": "[1, 2]",
    "a number": "5",
    "null": "null",
    "nothing": "",
    "no JSON": "vae: AutoencoderKL",
    "cut off": '{"a": ',
    "deep": DEEP,
    "deep objects": '{"a":' * 50_000,
    "not finite": '{"scaling_factor": NaN}',
    "infinite": '{"scaling_factor": 1e999}',
    "huge": '{"a": 1%s}' % ("0" * 5000),
    "a mark": '\ufeff{"a": 1}',
    "twice": '{"a": 1, "a": 2}',
    "long": '{"a": [%s0]}' % ("0," * 60_000),
    "large": '{"a": "%s"}' % ("x" * 5_000_000),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    "file", ["model_index.json", "vae/config.json", "scheduler/scheduler_config.json", "tadisr_adapter.json"]
)
def test_a_file_that_holds_no_object(copy, file, text):
    folder = copy("lean")
    (folder / file).write_text(TEXTS[text])
    assert file in refused(restorer(folder))


@pytest.mark.parametrize("data", [b"\xff\xfe{\x00}\x00", b"\x00" * 100, random.Random(0).randbytes(64)])
def test_bytes_instead_of_json(copy, data):
    folder = copy("lean")
    (folder / "unet" / "config.json").write_bytes(data)
    assert "config.json" in refused(restorer(folder))


# ---- links, pipes, sizes


@pytest.mark.parametrize("file", ["model_index.json", "vae/config.json", f"unet/{WEIGHTS}"])
@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "nowhere", "pipe"])
def test_links_out_of_the_folder(copy, tmp_path, file, target):
    """They are followed, as the Hub's cache is made of them; what is there is not shown."""
    folder = copy("lean")
    (folder / file).unlink()
    os.mkfifo(tmp_path / "pipe")
    (folder / file).symlink_to(tmp_path / target)
    message = refused(restorer(folder))
    assert "root:" not in message


def test_a_folder_instead_of_a_file(copy):
    folder = copy("lean")
    (folder / "unet" / WEIGHTS).unlink()
    (folder / "unet" / WEIGHTS).mkdir()
    refused(restorer(folder))


def header(text, claimed=None):
    data = text if isinstance(text, bytes) else text.encode()
    return (len(data) if claimed is None else claimed).to_bytes(8, "little") + data


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x01", header("{}", 2**63), header("{}", 99_000_000), header(DEEP),
        header('{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}'),
        header('{"a": {"dtype": "F32", "shape": [18446744073709551615, 2], "data_offsets": [0, 8]}}') + b"12345678",
        header('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}') + b"1234",
        header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}') + b"1234",
        header('{"a": {"dtype": "EVIL", "shape": [1], "data_offsets": [0, 4]}}') + b"1234",
        header('{"__metadata__": {"a": {"b": 1}}}'), header(b"\xff\xfe\x00"),
        header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
               '"b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}') + b"1234",
    ],
)  # fmt: skip
def test_safetensors(copy, data):
    folder = copy("lean")
    (folder / "vae" / WEIGHTS).write_bytes(data)
    assert WEIGHTS in refused(restorer(folder), ValueError)


def test_too_many_tensors(tmp_path):
    save_file({str(i): torch.zeros(0) for i in range(50_001)}, tmp_path / "many.safetensors")
    assert "has 50001 tensors" in refused(lambda: read_header(tmp_path / "many.safetensors"))


# ---- adapters


def adapter_load(copy):
    folder = copy("adapter")
    return folder, lambda: TADiSRPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"base_model": "../../etc"}, "missing or incomplete"),
        ({"base_model": "/etc"}, "missing or incomplete"),
        ({"base_model": "https://example.org/a/b"}, "a folder or a Hub id, not the address"),
        ({"base_model": "file:///etc"}, "a folder or a Hub id, not the address"),
        ({"base_model": 5}, "base_model cannot be 5"),
        ({"base_model": None}, "base_model cannot be None"),
        ({"base_model": ""}, "base_model cannot be ''"),
        ({"base_model": ["a", "b"]}, "base_model cannot be"),
        ({"base_model": {"a": "b"}}, "base_model cannot be"),
        ({"base_model": "a\x1b[31m/b"}, "base_model cannot be"),
        ({"base_model": "a\n/b"}, "base_model cannot be"),
        ({"base_model": "a\u202e/b"}, "base_model cannot be"),
        ({"base_model": "x" * 100_000}, "base_model cannot be"),
        ({"base_model": "a\x00b"}, "base_model cannot be"),
        ({"base_revision": ["main"]}, "base_revision cannot be"),
        ({"prompt": 3}, "prompt cannot be 3"),
        ({"native_scale": 0}, "native_scale must be"),
        ({"native_scale": "4"}, "native_scale must be"),
        ({"evil": 1}, "tadisr_adapter.json is damaged or of another version"),
    ],
)
def test_an_adapters_index(copy, values, said):
    folder, load = adapter_load(copy)
    edited(folder / "tadisr_adapter.json", **values)
    assert said in refused(load)


LORA = "unet_lora/pytorch_lora_weights.safetensors"
KEY = "lora_adapter_metadata"


def change_lora(folder, **values):
    tensors, held = load_file(folder / LORA), read_header(folder / LORA)[1]
    config = json.loads(held[KEY]) | values
    save_file(tensors, folder / LORA, held | {KEY: json.dumps({k: v for k, v in config.items() if v is not ...})})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"target_modules": "(a+)+$"}, "otherwise than by a list of plain names"),
        ({"target_modules": "(.*)*(.*)*(.*)*x"}, "otherwise than by a list of plain names"),
        ({"target_modules": "all-linear"}, "otherwise than by a list of plain names"),
        ({"target_modules": ["to_q", "(a+)+$"]}, "otherwise than by a list of plain names"),
        ({"target_modules": [".*"]}, "otherwise than by a list of plain names"),
        ({"target_modules": [3]}, "otherwise than by a list of plain names"),
        ({"target_modules": []}, "otherwise than by a list of plain names"),
        ({"target_modules": ["x"] * 3000}, "otherwise than by a list of plain names"),
        ({"target_modules": None}, "otherwise than by a list of plain names"),
        ({"target_modules": {"to_q": 1}}, "otherwise than by a list of plain names"),
        ({"target_modules": ["to_q"]}, "is not among the target_modules"),
        ({"exclude_modules": "(a+)+$"}, "set 'exclude_modules', which is not known here"),
        ({"exclude_modules": ["to_q"]}, "set 'exclude_modules'"),
        ({"modules_to_save": ["conv_in"]}, "set 'modules_to_save'"),
        ({"modules_to_save": "(a+)+"}, "set 'modules_to_save'"),
        ({"layers_to_transform": [1, 2]}, "set 'layers_to_transform'"),
        ({"layers_to_transform": 1}, "set 'layers_to_transform'"),
        ({"layers_pattern": "(a+)+"}, "set 'layers_pattern'"),
        ({"rank_pattern": {"(a+)+$": 4}}, "set 'rank_pattern'"),
        ({"rank_pattern": {"to_q": 10**6}}, "set 'rank_pattern'"),
        ({"alpha_pattern": {"(a+)+$": 4}}, "set 'alpha_pattern'"),
        ({"target_parameters": ["conv_in.weight"]}, "set 'target_parameters'"),
        ({"trainable_token_indices": [1]}, "set 'trainable_token_indices'"),
        ({"layer_replication": [[0, 10**6]]}, "set 'layer_replication'"),
        ({"megatron_config": {"a": 1}}, "set 'megatron_config'"),
        ({"megatron_core": "evil"}, "set 'megatron_core'"),
        ({"loftq_config": {"loftq_bits": 4}}, "set 'loftq_config'"),
        ({"eva_config": {"rho": 2}}, "set 'eva_config'"),
        ({"use_dora": True}, "set 'use_dora'"),
        ({"use_rslora": True}, "set 'use_rslora'"),
        ({"bias": "all"}, "set 'bias'"),
        ({"lora_bias": True}, "set 'lora_bias'"),
        ({"fan_in_fan_out": True}, "set 'fan_in_fan_out'"),
        ({"runtime_config": {"ephemeral_gpu_offload": True}}, "set 'runtime_config'"),
        ({"evil": "x"}, "set 'evil'"),
        ({"r": 0}, "r must be a whole number from 1 to 4096"),
        ({"r": -4}, "r must be"),
        ({"r": 10**12}, "r must be"),
        ({"r": 2.5}, "r must be"),
        ({"r": "4"}, "r must be"),
        ({"r": True}, "r must be"),
        ({"r": 8}, "expected (8, "),
        ({"lora_alpha": 0}, "lora_alpha must be"),
        ({"lora_alpha": -1}, "lora_alpha must be"),
        ({"lora_alpha": 1e30}, "lora_alpha must be"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be"),
        ({"lora_alpha": "1"}, "lora_alpha must be"),
    ],
)
def test_a_loras_metadata(copy, values, said):
    folder, load = adapter_load(copy)
    change_lora(folder, **values)
    assert said in refused(load, ValueError)


def test_a_loras_metadata_without_effect(copy):
    folder, load = adapter_load(copy)
    expected = load()(tiny.photo(), output_type="pt").images[0]
    change_lora(
        folder, auto_mapping={"base_model_class": "evil"}, base_model_name_or_path="https://example.org", task_type="X",
        inference_mode=True, init_lora_weights="pissa", revision="evil", lora_dropout=0.5, later=None, other=[],
    )  # fmt: skip
    assert torch.equal(load()(tiny.photo(), output_type="pt").images[0], expected)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({KEY: DEEP}, "nested too deeply"),
        ({KEY: "[]"}, "they hold no object"),
        ({KEY: '{"r": 4, "r": 4}'}, "twice"),
        ({KEY: "x" * (1 << 21)}, "they have 2097152 characters"),
        ({"replaced_layers": DEEP}, "nested too deeply"),
        ({"replaced_layers": "{}"}, "replaced_layers is no list of names"),
        ({"replaced_layers": "[[1]]"}, "replaced_layers is no list of names"),
        ({"replaced_layers": '["conv_in.weight"]'}, "no .*unet_layers.safetensors"),
        ({"replaced_layers": '["../../x"]'}, "unet_layers.safetensors"),
    ],
)
def test_metadata_of_another_form(copy, metadata, said):
    folder, load = adapter_load(copy)
    save_file(load_file(folder / LORA), folder / LORA, read_header(folder / LORA)[1] | metadata)
    message = refused(load)
    assert said.split(".*")[-1] in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, n: t.pop(n), "is missing, expected"),
        (lambda t, n: [t.pop(x) for x in (n, n.replace("lora_A", "lora_B"))], "has no LoRA weights"),
        (lambda t, n: t.update({n: t[n].to(torch.int8)}), "holds torch.int8"),
        (lambda t, n: t[n].fill_(float("nan")), "is not finite"),
        (lambda t, n: t.update({n.replace("lora_A", "lokr_w1"): t[n]}), "it has no linear or convolutional layer"),
        (lambda t, n: t.update({"\x1b[31m" + "x" * 9999: torch.ones(1)}), r"layer '\x1b[31mxxx"),
        (lambda t, n: t.update({"lora_controlnet": torch.ones(1)}), "it has no linear or convolutional layer"),
        (lambda t, n: t.update({n.replace("lora_A", "lora_E"): t[n]}), "expected none"),
    ],
)
def test_a_loras_tensors(copy, change, said):
    folder, load = adapter_load(copy)
    tensors, metadata = load_file(folder / LORA), read_header(folder / LORA)[1]
    change(tensors, next(name for name in sorted(tensors) if "lora_A" in name))
    save_file({name: value.clone() for name, value in tensors.items()}, folder / LORA, metadata)
    assert said in refused(load, ValueError)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.full((8,), float("inf")), "conv_in.bias is not finite"),
        (torch.ones(8, dtype=torch.int64), "conv_in.bias holds torch.int64"),
        (torch.ones(9), "conv_in.bias is (9,), expected (8,)"),
    ],
)
def test_a_replaced_layer(copy, tensor, said):
    folder, load = adapter_load(copy)
    metadata = read_header(folder / LORA)[1] | {"replaced_layers": '["conv_in.bias"]'}
    save_file(load_file(folder / LORA), folder / LORA, metadata)
    save_file({"conv_in.bias": tensor}, folder / "unet_layers.safetensors")
    assert said in refused(load, ValueError)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"unet": ["os", "system"]}, "not supported as a base"),
        ({"unet": [[], []]}, None),
        ({"unet": [1]}, None),
        ({"vae": "x"}, None),
        ({"_class_name": ["a"]}, None),
    ],
)
def test_an_index_of_a_base(copy, values, said):
    """Its classes are those of its family, whatever it says."""
    base, (folder, _) = copy("base"), adapter_load(copy)
    edited(base / "model_index.json", **values)
    load = lambda: TADiSRPipeline.from_pretrained(folder, base_model=base)  # noqa: E731
    if said:
        assert said in refused(load)
    else:
        load()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"text_encoder": ["os", "system"]}, "names as text_encoder ['os', 'system'], which is not loaded"),
        ({"tokenizer": ["evil", "Tokenizer"]}, "which is not loaded"),
        ({"text_encoder": ["evil"]}, "which is not loaded"),
        ({"_class_name": ["evil", "StableDiffusionPipeline"]}, "is of no known kind"),
        ({"_class_name": "evil"}, "No prompt can be made with a evil"),
    ],
)
def test_a_base_for_a_prompt(copy, values, said):
    base = copy("base")
    edited(base / "model_index.json", **values)
    assert said in refused(lambda: TextPrompt.from_base(base))


# ---- files of single networks


class Runs:
    """Its pickle writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (exec, (PROGRAM.format(str(self.path)),))


def script(path):
    """A TorchScript module."""
    torch.jit.script(torch.nn.Conv2d(3, 3, 1)).save(str(path))


def both(path):
    """Weights and a program in one archive."""
    torch.save({"weight": torch.ones(2)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        stem = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{stem}/constants.pkl", b"\x80\x02).")
        archive.writestr(f"{stem}/code/__torch__.py", "op_version_set = 1")


def flat(path):
    """A program in an archive without a folder."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("code/evil.py", "x")


def old_script(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/model.json", "{}")


def nested(path):
    inner = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), inner)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", inner.getvalue())
        archive.writestr("archive/version", "3\n")


def compressed(path):
    """A thousand times its size."""
    torch.save({"weight": torch.zeros(1 << 20)}, path)
    held = {}
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in held.items():
            archive.writestr(name, data)


def overlapping(path):
    """Many entries that are one and the same bytes."""
    torch.save({"weight": torch.zeros(1 << 16)}, path)
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    start = int.from_bytes(data[end + 16 : end + 20], "little")
    entries = data[start:end]
    if b"PK\x06\x06" in entries:  # torch writes 64-bit ends, too
        entries = entries[: entries.index(b"PK\x06\x06")]
    count = int.from_bytes(data[end + 10 : end + 12], "little")
    times = 4
    tail = bytearray(data[end : end + 22])
    tail[8:12] = (count * times).to_bytes(2, "little") * 2
    tail[12:16] = (len(entries) * times).to_bytes(4, "little")
    path.write_bytes(data[:start] + entries * times + bytes(tail))


def expanded(path):
    """One number that stands for ten thousand million."""
    torch.save({"weight": torch.zeros(1).expand(100_000, 100_000)}, path)


def shared(path):
    """One block of numbers under many names."""
    block = torch.zeros(1 << 18)
    torch.save({str(i): block for i in range(100)}, path)


def without_values(path):
    torch.save({"weight": torch.empty(10**6, 10**6, device="meta")}, path)


def sparse(path):
    torch.save({"weight": torch.sparse_coo_tensor(torch.zeros(2, 1), torch.ones(1), (10**6, 10**6))}, path)


def old_pickle(path):
    path.write_bytes(pickle.dumps(Runs(path.parent / "was_run")))


def new_pickle(path):
    torch.save({"weight": torch.ones(1), "x": Runs(path.parent / "was_run")}, path)


def legacy_pickle(path):
    torch.save({"x": Runs(path.parent / "was_run")}, path, _use_new_zipfile_serialization=False)


def whole_module(path):
    torch.save(torch.nn.Conv2d(3, 3, 1), path)


def tar(path):
    with tarfile.open(path, "w") as archive:
        for name in ("pickle", "storages", "tensors"):
            data = pickle.dumps(Runs(path.parent / "was_run"))
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def behind_a_prefix(path):
    script(path)
    path.write_bytes(b"#!/bin/sh\nexit\n" + path.read_bytes())


def cut_off(path):
    script(path)
    path.write_bytes(path.read_bytes()[:-30])


def no_file(path):
    path.write_bytes(b"PK\x03\x04" + bytes(100))


HOSTILE = {
    script: "is a TorchScript archive", both: "is a TorchScript archive", flat: "is a TorchScript archive",
    old_script: "is a TorchScript archive", nested: "is no PyTorch checkpoint", compressed: "would unpack to more",
    overlapping: "would unpack to more", expanded: "larger than the file", shared: "larger than the file",
    without_values: "without values of their own", sparse: "without values of their own|would call|is no PyTorch",
    old_pickle: "would call|is no PyTorch checkpoint", new_pickle: "would call|is no PyTorch checkpoint",
    legacy_pickle: "would call|is no PyTorch checkpoint", whole_module: "would call torch.nn.modules.conv.Conv2d",
    tar: "the .tar format", behind_a_prefix: "is a TorchScript archive", cut_off: "is no PyTorch checkpoint",
    no_file: "is no PyTorch checkpoint",
}  # fmt: skip


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_file_of_a_network(tmp_path, make):
    """By whichever door, and whatever it is called."""
    doors = [load_pickled, read_checkpoint, load_public_crnn]
    for suffix in (".pth", ".pt", ".ckpt", ".safetensors"):
        path = tmp_path / f"model{suffix}"
        make(path)
        for door in (load_model_file, *(doors if suffix == ".pth" else ())):
            message = refused(lambda door=door, path=path: door(path), ValueError)
            said = HOSTILE[make].split("|")
            if suffix == ".safetensors":  # by whose name newer versions of PyTorch go
                said.append("is no PyTorch checkpoint")
            assert any(words in message for words in said), message
    assert not (tmp_path / "was_run").exists()


def test_safetensors_by_another_name(tmp_path):
    """By what it is; a model that spandrel does not know is refused all the same."""
    save_file({"weight": torch.ones(1)}, tmp_path / "model.pth")
    assert "holds no model that spandrel can load" in refused(lambda: load_model_file(tmp_path / "model.pth"))


def test_a_program_is_known_by_what_it_is(tmp_path):
    for suffix in ("pt", "pth", "ckpt", "bin", "png"):
        script(tmp_path / f"a.{suffix}")
        assert runs_code(tmp_path / f"a.{suffix}")
        torch.save({"code": torch.ones(1)}, tmp_path / f"b.{suffix}")
        assert not runs_code(tmp_path / f"b.{suffix}")


def test_weights_are_read_as_before(tmp_path):
    state = {"a": torch.randn(3, 4), "b": {"c": torch.arange(5)}, "d": 1.5, "e": torch.ones(2).half()}
    for zipped in (True, False):
        torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        again = load_pickled(tmp_path / "a.pth")
        assert (
            torch.equal(again["a"], state["a"]) and torch.equal(again["b"]["c"], torch.arange(5)) and again["d"] == 1.5
        )
    tied = torch.ones(4, 4)
    torch.save({"a": tied, "b": tied}, tmp_path / "tied.pth")
    assert torch.equal(load_pickled(tmp_path / "tied.pth")["b"], tied)


def test_read_config(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null, true], "b": {"c": "x"}}')
    assert read_config(tmp_path / "a.json") == {"a": [1, 2.5, None, True], "b": {"c": "x"}}
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path)


def test_all_is_well_without_changes(models):
    for name in ("lean", "textdiff", "adapter"):
        restored = tadisr.load(models / name, "cpu", "float32").restore(np.full((16, 32, 3), 90, np.uint8))
        assert restored.image.shape[2] == 3
    assert Path(models / "lean").is_dir()
