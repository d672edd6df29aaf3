"""Toy bases in the layout of the published repositories: file names, variants, shards, schedulers, other files.

The facts are those of the repositories' file lists and configuration files; the weights are the toy bases' own.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, ModelMixin
from transformers import Qwen3ForCausalLM

from helpers import tiny

HUB_IDS = {
    "sd": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "kolors": "Kwai-Kolors/Kolors-diffusers",
    "cogview4": "zai-org/CogView4-6B",
    "zimage": "Tongyi-MAI/Z-Image-Turbo",
}
_LATENT_SCHEDULE = {
    "beta_start": 0.00085, "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
}  # fmt: skip
_SPACED = {
    **_LATENT_SCHEDULE, "_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear",
    "prediction_type": "epsilon", "sample_max_value": 1.0, "timestep_spacing": "leading", "use_karras_sigmas": False,
}  # fmt: skip
SCHEDULERS = {
    "sd": {**_LATENT_SCHEDULE, "_class_name": "PNDMScheduler", "beta_end": 0.012, "num_train_timesteps": 1000},
    "sdxl": {**_SPACED, "beta_end": 0.012, "num_train_timesteps": 1000},
    "kolors": {
        **_SPACED, "beta_end": 0.014, "num_train_timesteps": 1100, "dynamic_thresholding_ratio": 0.995, "eta": 0.0,
        "rescale_betas_zero_snr": False, "thresholding": False,
    },
    "cogview4": {
        "_class_name": "FlowMatchEulerDiscreteScheduler", "base_shift": 0.25, "max_shift": 0.75, "shift": 1.0,
        "base_image_seq_len": 256, "max_image_seq_len": 4096, "num_train_timesteps": 1000, "invert_sigmas": False,
        "use_dynamic_shifting": True, "time_shift_type": "linear", "shift_terminal": None,
    },
    "zimage": {
        "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "use_dynamic_shifting": False,
        "shift": 3.0,
    },
}  # fmt: skip
_SHARD = 20_000  # bytes: a toy's weights make two or more shards


def write(family: str, folder: Path, **parts: ModelMixin) -> Path:
    """A toy base of that family in `folder`, laid out as its repository on the Hub; `parts` instead of its own."""
    folder.mkdir(parents=True)
    (scratch := folder.with_name(f"{folder.name}-parts")).mkdir()
    pipe: DiffusionPipeline = getattr(tiny, family)(scratch)
    pipe.register_modules(**parts)
    if family == "kolors":  # half-precision files only; the text encoder's are in shards
        pipe.to(torch.float16).save_pretrained(folder, variant="fp16", max_shard_size=_SHARD)
        for part in ("unet", "vae"):
            _save_whole(pipe, part, folder, "fp16")
    elif family == "cogview4":
        pipe.to(torch.bfloat16).save_pretrained(folder, max_shard_size=_SHARD)
        _save_whole(pipe, "vae", folder)
    elif family == "zimage":  # the transformer in float32; of the language model the index names the part that is used
        pipe.save_pretrained(folder, max_shard_size=25 * _SHARD)
        pipe.to(torch.bfloat16)
        _save_whole(pipe, "vae", folder)
        encoder = tiny.qwen(pipe.tokenizer, Qwen3ForCausalLM).to(torch.bfloat16)
        encoder.model.load_state_dict(pipe.text_encoder.state_dict())
        shutil.rmtree(folder / "text_encoder")
        encoder.save_pretrained(folder / "text_encoder", max_shard_size=_SHARD // 2)
    else:  # both kinds, and files of other programs beside them
        for variant, dtype in ((None, torch.float32), ("fp16", torch.float16)):
            pipe.to(dtype).save_pretrained(folder, variant=variant)
        for name in ("unet", "vae", "text_encoder"):
            (folder / name / "flax_model.msgpack").write_bytes(b"not for PyTorch")
            (folder / name / "openvino_model.bin").write_bytes(b"not for PyTorch")
        if family == "sd":
            shutil.copy(
                folder / "unet/diffusion_pytorch_model.safetensors",
                folder / "unet/diffusion_pytorch_model.non_ema.safetensors",
            )
            _with_safety_checker(folder)
        else:
            shutil.copytree(folder / "vae", folder / "vae_1_0")
        (folder / "whole-model.safetensors").write_bytes(b"a single-file checkpoint")
    for tokenizer in folder.glob("tokenizer*"):
        if family in ("sd", "sdxl", "zimage"):
            _with_vocabulary_and_merges(tokenizer)
        if family in ("sd", "sdxl"):
            (tokenizer / "tokenizer.json").unlink()
        if family == "zimage":
            _with_chat_template_in_config(tokenizer)
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULERS[family]))
    (folder / "README.md").write_text("A card.\n")
    shutil.rmtree(scratch)
    return folder


def _save_whole(pipe: DiffusionPipeline, part: str, folder: Path, variant: str | None = None) -> None:
    shutil.rmtree(folder / part)
    getattr(pipe, part).save_pretrained(folder / part, variant=variant)


def _with_vocabulary_and_merges(folder: Path) -> None:
    """The tokenizer's vocab.json and merges.txt, as OpenAI's and Qwen's have them."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))


def _with_chat_template_in_config(folder: Path) -> None:
    """Where repositories of before transformers 5 keep it."""
    path = folder / "tokenizer_config.json"
    template = folder / "chat_template.jinja"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template.read_text()}))
    template.unlink()


def _with_safety_checker(folder: Path) -> None:
    """What the repository has and nobody here needs: named by the index, so that diffusers would load it."""
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index.pop("requires_safety_checker", None)
    path.write_text(json.dumps(index))
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker/config.json").write_text('{"architectures": ["StableDiffusionSafetyChecker"]}')
    (folder / "feature_extractor").mkdir()
    (folder / "feature_extractor/preprocessor_config.json").write_text('{"crop_size": 224}')
