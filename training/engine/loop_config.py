"""The settings that every training has: its steps, and what is kept and reported of them."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import yaml
from diffusers.optimization import SchedulerType

from tadisr.io.atomic import write_atomically

EIGHT_BIT = "adamw8bit"
LR_SCHEDULERS = tuple(kind.value for kind in SchedulerType if kind is not SchedulerType.PIECEWISE_CONSTANT)


@dataclass
class LoopConfig:
    """Settings of the training loop. Flags are named as in diffusers' own training scripts."""

    FILES: ClassVar[tuple[str, ...]] = ()
    """Settings that name a file. In a YAML file its place is relative to that file, else to the working directory."""

    output_dir: str = "runs/training"
    """Folder for checkpoints, logs and the trained weights."""
    dataloader_num_workers: int = 1

    # The steps.
    train_batch_size: int = 1
    """Items per process."""
    max_train_steps: int = 100_000
    gradient_accumulation_steps: int = 1
    optimizer: str = "adamw"
    """adamw; adamw8bit, which keeps a quarter of its state's bytes (pip install 'tadisr[8bit]'); or one of timm's (pip
    install timm), such as muon, whose steps are as large as AdamW's."""
    learning_rate: float = 1e-4
    faster_parts: list[str] = field(default_factory=list)
    """Beginnings of parameters' names: parts that start untrained among trained ones, such as
    joint_decoder.prompt_encoder in weights that took no mask prompt."""
    faster_rate: float = 8.0
    """The learning rate of faster_parts, in multiples of learning_rate."""
    lr_scheduler: str = "constant"
    """One of diffusers' schedules: constant, constant_with_warmup, cosine, linear, ..."""
    lr_warmup_steps: int = 0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 1e-2
    max_grad_norm: float | None = None
    """Clip the gradient to this norm; None: no clipping."""
    ema_decay: float | None = None
    """Keep an exponential moving average of the trained weights. It is validated and saved in their place."""
    mixed_precision: str = "no"
    """no, fp16 or bf16."""
    on_nan: str = "stop"
    """A loss that is not finite: stop (nan_batch.json names the batch's items) or skip the step."""
    seed: int = 0

    # What is kept and reported.
    resume_from_checkpoint: str | None = None
    """A checkpoint folder, or "latest". With "latest", a run that has no checkpoint yet starts at step 0."""
    checkpointing_steps: int = 500
    checkpoints_total_limit: int = 2
    """Newest checkpoints to keep. The best one is kept in addition."""
    validation_steps: int = 500
    logging_steps: int = 50
    report_to: str | None = None
    """Tracker: tensorboard, wandb, ..."""
    tracker_project_name: str = "tadisr"

    def __post_init__(self):
        self.check_choices(mixed_precision=("no", "fp16", "bf16"), on_nan=("stop", "skip"), lr_scheduler=LR_SCHEDULERS)
        self.check_counts(
            "train_batch_size", "max_train_steps", "gradient_accumulation_steps", "checkpointing_steps",
            "checkpoints_total_limit", "validation_steps", "logging_steps",
        )  # fmt: skip

    def check_choices(self, **known: tuple[str | None, ...]) -> None:
        """Raise ValueError unless each named setting is one of the values given for it."""
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                named = ", ".join(choice for choice in choices if choice)
                raise ValueError(f"{name} is one of {named}, not {getattr(self, name)}.")

    def check_counts(self, *names: str) -> None:
        """Raise ValueError unless each named setting is at least 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")

    def check_shares(self, *names: str) -> None:
        """Raise ValueError unless each named setting is from 0 to 1."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is from 0 to 1, not {getattr(self, name)}.")

    def save(self, path: Path) -> None:
        """Write all settings as YAML."""
        write_atomically(path, yaml.safe_dump(asdict(self), sort_keys=False))
