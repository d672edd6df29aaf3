"""The trained weights as a folder for `TADiSRPipeline.from_pretrained`, with a model card, and the way to the Hub."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from accelerate import Accelerator
from accelerate.utils import DistributedType
from PIL import Image
from torch import nn

from tadisr.models.network import TADiSRNetwork
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.training.checkpoints import replace_folder
from tadisr.training.config import TrainConfig

SHEET_FILE = "validation.jpg"
METRICS = {
    "psnr": "PSNR, dB (RGB)", "psnr_bicubic": "PSNR of bicubic", "ssim": "SSIM", "lpips": "LPIPS (AlexNet)",
    "ocr_accuracy": "OCR-A", "ocr_accuracy_bicubic": "OCR-A of bicubic", "ocr_lines": "lines of text",
    "mask_iou": "mask IoU", "images": "images",
}  # fmt: skip


def as_pipeline(network: TADiSRNetwork, config: TrainConfig) -> TADiSRPipeline:
    """The network's parts as a pipeline, sharing their weights."""
    return TADiSRPipeline(
        vae=network.vae,
        **{network.component: network.backbone},
        scheduler=network.scheduler,
        prompt=network.prompt,
        joint_decoder=network.joint_decoder,
        base_model=config.pretrained_model_name_or_path,
        base_revision=config.revision,
        native_scale=config.scale,
    )


@contextmanager
def whole_parameters(network: TADiSRNetwork) -> Iterator[None]:
    """Within, what is to be saved of a network sharded by FSDP2 is whole, in every process; called by all of them.

    A frozen base's shards stay where they are.
    """
    from torch.distributed.fsdp import FSDPModule  # PyTorch 2.6
    from torch.distributed.tensor import DTensor

    sharded = [(module, type(module)) for module in network.modules() if isinstance(module, FSDPModule)]
    for module, cls in sharded:
        module.reshard()  # after a forward pass some are still gathered, in storage that is not theirs
        module.__class__ = cls.__bases__[1]  # what FSDP2 made it from: FSDP's own would meddle with every `.to`
    replaced: list[tuple[nn.Module, str, nn.Parameter]] = []
    for part in (network.vae, network.backbone, network.prompt, network.joint_decoder):
        frozen_too = part is network.prompt or part is network.joint_decoder
        for module in part.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(parameter, DTensor) and (frozen_too or parameter.requires_grad):
                    replaced.append((module, name, parameter))
    for module, name, parameter in replaced:
        whole = nn.Parameter(parameter.detach().full_tensor().cpu(), requires_grad=parameter.requires_grad)
        module._parameters[name] = whole
    try:
        yield
    finally:
        for module, name, parameter in replaced:
            module._parameters[name] = parameter
        for module, cls in sharded:
            module.__class__ = cls


def save_weights(
    accelerator: Accelerator,
    network: TADiSRNetwork,
    config: TrainConfig,
    folder: Path,
    step: int,
    scores: dict[str, float],
    sheet: np.ndarray | None,
) -> None:
    """Write the pipeline or adapter and its model card; called by all processes. `folder` is never half-written."""
    sharded = accelerator.distributed_type is DistributedType.FSDP
    with whole_parameters(network) if sharded else nullcontext():
        if accelerator.is_main_process:
            part = folder.with_name(f".{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            as_pipeline(network, config).save_pretrained(part)
            config.save(part / "train_config.yaml")
            if sheet is not None:
                Image.fromarray(sheet).save(part / SHEET_FILE, quality=92)
            (part / "README.md").write_text(
                model_card(config, step, scores, sheet is not None, accelerator.num_processes), encoding="utf-8"
            )
            replace_folder(part, folder)
    accelerator.wait_for_everyone()


def command_line(argv: Sequence[str] | None = None, processes: int = 1) -> str:
    """The command that trains this, as far as the process knows it."""
    argv = sys.argv if argv is None else argv
    script = "training/train_lora.py"
    several = f" --num_processes {processes}" if processes > 1 else ""
    return " ".join([f"accelerate launch{several} {script}", *argv[1:]])


def model_card(
    config: TrainConfig, step: int, scores: dict[str, float], has_sheet: bool = False, processes: int = 1
) -> str:
    """README.md: the Hub's front matter with the metrics, how to use it, how it was trained."""
    name = config.hub_model_id or Path(config.output_dir).name
    front: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": ["tadisr", "super-resolution", "text", *(["lora"] if config.pretrained_model_name_or_path else [])],
    }
    base = config.pretrained_model_name_or_path
    if base and not Path(base).exists():
        front["base_model"] = base
    shown = {key: value for key, value in scores.items() if key in METRICS}
    measured = [
        {"type": key, "name": METRICS[key], "value": round(value, 4)}
        for key, value in shown.items()
        if key not in ("images", "ocr_lines") and not key.endswith("_bicubic")
    ]
    if measured:
        result = {
            "task": {"type": "image-to-image", "name": "text-aware super-resolution"},
            "dataset": {"type": Path(config.validation_data_dir).name, "name": "FTSR test split"},
            "metrics": measured,
        }
        front["model-index"] = [{"name": name.rsplit("/", 1)[-1], "results": [result]}]
    lines = [
        "---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "",
        f"# {name.rsplit('/', 1)[-1]}", "",
        f"Text-aware super-resolution (TADiSR), x{config.scale}"
        + (f": adapters for {base}." if base else ", trained from scratch."), "",
        "```python",
        "from PIL import Image",
        "from tadisr import TADiSRPipeline", "",
        f'pipe = TADiSRPipeline.from_pretrained("{name}")',
        'pipe(Image.open("photo.png")).images[0].save("sharp.png")',
        "```", "",
    ]  # fmt: skip
    if shown:
        lines += [f"## Scores after {step} steps", "", "| | |", "|---|---:|"]
        lines += [f"| {METRICS[key]} | {value:.4g} |" for key, value in shown.items()]
        lines += ["", f"Validated in the training loop, on {config.validation_data_dir}."]
        lines += ["", f"![LR, bicubic, SR, HR, mask, true mask]({SHEET_FILE})"] if has_sheet else []
    lines += [
        "", "## Training", "", "```sh", command_line(processes=processes), "```", "",
        f"Step {step} of {config.max_train_steps}. All settings (`train_config.yaml`):", "",
        "```yaml", yaml.safe_dump(asdict(config), sort_keys=False).strip(), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def create_repository(config: TrainConfig) -> str:
    """The id of the repository to push to, created if need be, so that a mistake shows before training.

    Raises:
        ValueError: not logged in, no such user, no connection; a base that nobody else has.
    """
    from huggingface_hub import create_repo

    if config.pretrained_model_name_or_path and Path(config.pretrained_model_name_or_path).is_dir():
        raise ValueError(
            f"An adapter on the folder {config.pretrained_model_name_or_path} can be loaded by nobody else: name the "
            "base by its Hub id, or leave push_to_hub off."
        )
    name = config.hub_model_id or Path(config.output_dir).resolve().name
    try:
        return create_repo(name, private=config.hub_private_repo, exist_ok=True).repo_id
    except Exception as error:  # the client's errors have no common base: HTTP, validation, connection
        raise ValueError(
            f"{name} cannot be created on the Hub ({' '.join(str(error).split())[:200]}): log in with `hf auth login`, "
            "or leave push_to_hub off."
        ) from None


def push(folder: Path, repo_id: str, step: int) -> str:
    """Upload the folder that `save_weights` wrote; returns the commit's address.

    Raises:
        ValueError: the upload failed; the weights are where they were.
    """
    from huggingface_hub import upload_folder

    try:
        return str(upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"Step {step}"))
    except Exception as error:
        raise ValueError(
            f"{folder} could not be uploaded ({' '.join(str(error).split())[:200]}). It is complete; try again with "
            f"`hf upload {repo_id} {folder}`."
        ) from None
