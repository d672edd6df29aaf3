"""The training configuration: one documented dataclass, read from YAML and from flags."""

import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml
from transformers import HfArgumentParser

from tadisr.losses import LossWeights


@dataclass
class TrainConfig(LossWeights):
    """The paper's recipe (4.1) by default. Flags are named as in diffusers' own training scripts."""

    output_dir: str = "runs/tadisr"
    """Checkpoints, logs and the trained weights go here."""
    pretrained_model_name_or_path: str | None = None
    """Base pipeline, a folder or Hub id; its U-Net and VAE get LoRA adapters."""
    revision: str | None = None
    """Revision of the base on the Hub."""
    base_config: str | None = None
    """JSON file describing a base to build and train from scratch instead (all its weights are trained)."""
    train_data_dir: list[str] = field(default_factory=list)
    """FTSR data sets (folders that `tadisr synthesize` wrote, or Hub ids); LR images are made afresh for every crop."""
    validation_data_dir: str | None = None
    """FTSR data set whose test split is validated on."""
    resolution: int = 512
    """Side of the square HR crops, pixels."""
    scale: int = 4
    train_batch_size: int = 1
    """Crops per process."""
    max_train_steps: int = 200_000
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    learning_rate: float = 5e-5
    lr_scheduler: str = "constant"
    """One of diffusers' schedules: constant, constant_with_warmup, cosine, linear, ..."""
    lr_warmup_steps: int = 0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 1e-2
    max_grad_norm: float | None = None
    """Clip the gradient to this norm; None: no clipping."""
    ema_decay: float | None = None
    """Keep an exponential moving average of the trained weights; it is what is validated and saved."""
    rank_unet: int = 4
    rank_vae: int = 2
    encoder_skips: bool = False
    """Only with base_config; see JointSegmentationDecoder."""
    image_residual: bool = False
    prompt: str = "best quality,highres,extremely detailed,text"
    lpips_weights: str | None = None
    """Folder for LPIPS' VGG weights, if they are not to be downloaded."""
    recognizer: str | None = None
    """ONNX text recogniser (PP-OCR) whose readings of SR and HR lines are compared; None: no such term."""
    recognizer_weight: float = 0.012
    recognizer_lines: int = 6
    """Line strips per step and process that the recogniser reads."""
    text_share: float = 0.85
    """Share of crops that must hold text."""
    cache_pages: bool = False
    """Keep every page decoded in memory: for small sets and small machines."""
    seed: int = 0
    mixed_precision: str = "no"
    dataloader_num_workers: int = 1
    resume_from_checkpoint: str | None = None
    """A checkpoint folder, or "latest"."""
    init_from: str | None = None
    """Folder of a saved pipeline whose weights to start from (with fresh optimiser state)."""
    checkpointing_steps: int = 500
    checkpoints_total_limit: int = 2
    validation_steps: int = 500
    report_to: str | None = None
    """Tracker: tensorboard, wandb, ..."""

    def __post_init__(self):
        if bool(self.pretrained_model_name_or_path) == bool(self.base_config):
            raise ValueError("Set exactly one of pretrained_model_name_or_path and base_config.")
        if not self.train_data_dir:
            raise ValueError("Set train_data_dir to at least one FTSR data set (make one with `tadisr synthesize`).")

    def save(self, path: Path) -> None:
        """Write the resolved values as YAML."""
        path.write_text(yaml.safe_dump(asdict(self), sort_keys=False), encoding="utf-8")


def parse_config(argv: list[str] | None = None) -> TrainConfig:
    """`--config FILE.yaml` first, then flags on top. Unknown keys and flags end the program with one line."""
    argv = sys.argv[1:] if argv is None else argv
    if "--config" in argv:
        at = argv.index("--config")
        if at + 1 == len(argv):
            raise SystemExit("--config needs a file.")
        path = Path(argv[at + 1])
        if not path.is_file():
            raise SystemExit(f"No config file {path}.")
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        known = {f.name for f in fields(TrainConfig)}
        if unknown := sorted(set(values) - known):
            raise SystemExit(f"{path}: unknown keys {', '.join(unknown)}.")
        from_file = []
        for key, value in values.items():
            if value is not None and f"--{key}" not in argv:
                from_file += [f"--{key}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        argv = from_file + argv[:at] + argv[at + 2 :]
    try:
        (config,) = HfArgumentParser(TrainConfig).parse_args_into_dataclasses(argv)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    return config
