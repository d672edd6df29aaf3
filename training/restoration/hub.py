"""The model card of trained weights, and their way to the Hub."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, upload_folder

from tadisr.io.messages import one_line
from tadisr.loading.cards import front_matter, snippet
from tadisr.loading.hub import writable_repository
from tadisr.training.restoration.train_config import TrainConfig

SHEET_FILE = "validation.jpg"
METRICS = {
    "psnr": "PSNR, dB (RGB)", "psnr_bicubic": "PSNR of bicubic", "ssim": "SSIM", "lpips": "LPIPS (AlexNet)",
    "ocr_accuracy": "OCR-A", "ocr_accuracy_bicubic": "OCR-A of bicubic", "ocr_lines": "lines of text",
    "mask_iou": "mask IoU", "images": "images",
}  # fmt: skip


def command_line(argv: Sequence[str] | None = None, processes: int = 1) -> str:
    """The command that trains this, as far as this process knows it."""
    several = f" --num_processes {processes}" if processes > 1 else ""
    arguments = (sys.argv if argv is None else argv)[1:]
    return " ".join([f"accelerate launch{several} training/train_lora.py", *arguments])


def model_card(
    config: TrainConfig, step: int, scores: dict[str, float], has_sheet: bool = False, processes: int = 1
) -> str:
    """The text of README.md: the metrics for the Hub, how to use the weights, how they were trained."""
    name = config.hub_model_id or Path(config.output_dir).name
    title, base = name.rsplit("/", 1)[-1], config.pretrained_model_name_or_path
    shown = {METRICS[key]: value for key, value in scores.items() if key in METRICS}
    results = [
        EvalResult(
            task_type="image-to-image", task_name="text-aware super-resolution",
            dataset_type=Path(config.validation_data_dir or "").name, dataset_name="FTSR test split",
            metric_type=key, metric_name=METRICS[key], metric_value=round(value, 4),
        )
        for key, value in scores.items()
        if key in METRICS and key not in ("images", "ocr_lines") and not key.endswith("_bicubic")
    ]  # fmt: skip
    front = front_matter(
        base_model=base, license=config.hub_license, datasets=config.train_data_dir,
        metrics=[result.metric_type for result in results], model_name=title, eval_results=results,
    )  # fmt: skip
    lines = [
        front, f"# {title}", "",
        f"Text-aware super-resolution (TADiSR), x{config.scale}"
        + (f": adapters for {base}." if base else ", trained from scratch."), "",
        snippet(name),
    ]  # fmt: skip
    if shown:
        lines += [f"## Scores after {step} steps", "", "| | |", "|---|---:|"]
        lines += [f"| {label} | {value:.4g} |" for label, value in shown.items()]
        lines += ["", f"Validated in the training loop, on {config.validation_data_dir}."]
        lines += ["", f"![LR, bicubic, SR, HR, mask, true mask]({SHEET_FILE})"] if has_sheet else []
    lines += [
        "", "## Training", "", "```sh", command_line(processes=processes), "```", "",
        f"Step {step} of {config.max_train_steps}. All settings (`train_config.yaml`):", "",
        "```yaml", str(yaml.safe_dump(asdict(config), sort_keys=False)).strip(), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def create_repository(config: TrainConfig) -> str:
    """The id of the repository to push to, opened before the training so that a mistake shows early.

    Raises ValueError as `writable_repository` does, and for a base that nobody else has.
    """
    base = config.pretrained_model_name_or_path
    if base and Path(base).is_dir():
        raise ValueError(
            f"An adapter on the folder {base} can be loaded by nobody else: name the base by its Hub id, or leave "
            "push_to_hub off."
        )
    return writable_repository(config.hub_model_id or Path(config.output_dir).resolve().name, config.hub_private_repo)


def push(folder: Path, repo_id: str, step: int) -> str:
    """Upload the folder of weights that were made at `step`; returns the commit's address, or raises ValueError."""
    try:
        return str(upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"Step {step}"))
    except Exception as error:
        raise ValueError(
            f"{folder} could not be uploaded ({one_line(error, 200)}). It is complete; try again with "
            f"`hf upload {repo_id} {folder}`."
        ) from None
