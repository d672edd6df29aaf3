"""The training configuration: one documented dataclass, read from YAML and from flags."""

import sys
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from diffusers.optimization import SchedulerType
from transformers import HfArgumentParser

from tadisr.models.losses import LossWeights

STORED = "stored"
LR_SCHEDULERS = tuple(kind.value for kind in SchedulerType if kind is not SchedulerType.PIECEWISE_CONSTANT)
T = TypeVar("T")


@dataclass
class LoopConfig:
    """What every training is told about its steps, and what is kept and reported of them."""

    output_dir: str = "runs/training"
    """Checkpoints, logs and the trained weights go here."""
    dataloader_num_workers: int = 1

    # The steps.
    train_batch_size: int = 1
    """Items per process."""
    max_train_steps: int = 100_000
    gradient_accumulation_steps: int = 1
    optimizer: str = "adamw"
    """adamw, or one of timm's (pip install timm), such as muon, whose steps are as large as AdamW's."""
    learning_rate: float = 1e-4
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
    mixed_precision: str = "no"
    """no, fp16 or bf16."""
    on_nan: str = "stop"
    """A loss that is not finite: stop (the batch's items are named in nan_batch.json) or skip the step."""
    seed: int = 0

    # What is kept and reported.
    resume_from_checkpoint: str | None = None
    """A checkpoint folder, or "latest"; with the latter a run that has none yet starts at step 0."""
    checkpointing_steps: int = 500
    checkpoints_total_limit: int = 2
    """Newest checkpoints to keep; the best one is kept besides."""
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
        """Raises ValueError where a setting is none of those named for it."""
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                named = ", ".join(choice for choice in choices if choice)
                raise ValueError(f"{name} is one of {named}, not {getattr(self, name)}.")

    def check_counts(self, *names: str) -> None:
        """Raises ValueError where a setting is below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")

    def save(self, path: Path) -> None:
        """Write the resolved values as YAML."""
        path.write_text(yaml.safe_dump(asdict(self), sort_keys=False), encoding="utf-8")


@dataclass
class TrainConfig(LossWeights, LoopConfig):
    """The paper's recipe (4.1) by default. Flags are named as in diffusers' own training scripts."""

    # The base.
    output_dir: str = "runs/tadisr"
    pretrained_model_name_or_path: str | None = None
    """Base pipeline, a folder or Hub id; its U-Net and VAE get LoRA adapters."""
    revision: str | None = None
    """Revision of the base on the Hub."""
    variant: str | None = None
    """Which of the base's weight files to read, such as fp16; None: those without a variant in their name."""
    base_config: str | None = None
    """JSON file describing a base to build and train from scratch instead (all its weights are trained)."""
    init_from: str | None = None
    """With base_config: a saved pipeline whose weights to start from (with fresh optimiser state)."""
    rank_unet: int = 4
    rank_vae: int = 2
    prompt: str = "best quality,highres,extremely detailed,text"
    encoder_skips: bool = False
    """Only with base_config; see JointSegmentationDecoder."""
    image_residual: bool = False
    """Likewise."""
    joint_decoder: bool = True
    """False: without joint segmentation decoders (Table 2, w/o JSD): neither mask stream nor mask losses."""
    text_attention: bool = True
    """False: without text-aware cross-attention (w/o TACA): the mask stream starts from the denoised latents."""

    # The data.
    train_data_dir: list[str] = field(default_factory=list)
    """FTSR data sets: folders that `tadisr synthesize` wrote, or Hub ids."""
    realce_data_dir: str | None = None
    """Folder of Real-CE, whose training pairs are mixed in."""
    realce_share: float = 0.1
    """Share of Real-CE's crops among all, where realce_data_dir is given; the paper does not state its own."""
    realce_aligned_list: str | None = None
    """Text file that names the pairs to use, an image a line; None: valid_list.txt, else all."""
    realce_mask_dir: str | None = None
    """PNG masks named as the 52 mm images. Crops without a mask train the image alone."""
    realce_segmenter: str | None = None
    """Text segmenter (folder, Hub id or text-segmenter-tiny) that makes the masks missing in realce_mask_dir."""
    streaming: bool = False
    """Read train_data_dir, Parquet in a folder or on the Hub, as a stream instead of downloading it first."""
    shuffle_buffer: int = 64
    """Pages that a stream is shuffled within."""
    cache_pages: bool = False
    """Keep every page decoded in memory, 1 MiB for one of 512 pixels, in each process: for small sets."""
    resolution: int = 512
    """Side of the square HR crops, pixels."""
    scale: int = 4
    degradation: str = "real-esrgan"
    """What makes the LR crops, anew each time: real-esrgan or mild; stored: the data set's own LR images."""
    text_share: float = 0.85
    """Share of crops that must hold text."""
    augmentation: bool = False
    """Photographic tones, swapped and inverted colours, zoom and turns; for bases trained from scratch."""

    # The steps.
    max_train_steps: int = 200_000
    gradient_checkpointing: bool = False
    learning_rate: float = 5e-5
    mixed_precision: str = "no"
    """no, fp16 or bf16. A pretrained base's frozen weights are then kept in that type."""
    lpips_weights: str | None = None
    """File of torchvision's vgg16 weights for the LPIPS loss, if they are not to be downloaded."""
    recognizer: list[str] = field(default_factory=list)
    """Text recognisers, PP-OCR's ONNX files or adapt_recognizer.py's; each step compares one's readings of SR and HR
    lines. None: no such term."""
    recognizer_weight: float = 0.012
    recognizer_lines: int = 6
    """Line strips per step and process that the recogniser reads."""
    recognizer_strength: float = 1.0
    """It reads the enlarged LR strips plus a share of what the network adds, drawn between this and 1: for weights that
    are released with less than full strength (training/release.py)."""

    # What is kept and reported.
    validation_data_dir: str | None = None
    """FTSR data set whose test split is validated on."""
    num_validation_images: int = 40
    validation_ocr: str | None = None
    """OCR engine (of `tadisr.ocr.ENGINES`) that judges the lines of text; not the one of the recogniser loss."""
    validation_lpips: str | None = None
    """Folder with torchvision's AlexNet weights; None: LPIPS is measured only if they are in torch.hub's cache."""
    best_metric: str | None = None
    """What "best" means: psnr, ssim, lpips, ocr_accuracy or mask_iou; None: ocr_accuracy where measured, else psnr."""
    push_to_hub: bool = False
    """Upload the best weights with a model card when training ends."""
    hub_model_id: str | None = None
    """Repository to upload to; None: one named as output_dir."""
    hub_private_repo: bool = False

    def __post_init__(self):
        if bool(self.pretrained_model_name_or_path) == bool(self.base_config):
            raise ValueError("Set exactly one of pretrained_model_name_or_path and base_config.")
        if not self.train_data_dir:
            raise ValueError("Set train_data_dir to at least one FTSR data set (make one with `tadisr synthesize`).")
        super().__post_init__()
        self.check_choices(
            degradation=("real-esrgan", "mild", STORED),
            best_metric=(None, "psnr", "ssim", "lpips", "ocr_accuracy", "mask_iou"),
        )
        self.check_counts("resolution", "scale", "num_validation_images", "recognizer_lines", "shuffle_buffer")
        if self.resolution % self.scale:
            raise ValueError(f"resolution must be a multiple of scale, not {self.resolution} of {self.scale}.")
        if not 0 <= self.recognizer_strength <= 1:
            raise ValueError(f"recognizer_strength is a share from 0 to 1, not {self.recognizer_strength}.")
        if not 0 <= self.realce_share < 1:
            raise ValueError(f"realce_share must be at least 0 and below 1, not {self.realce_share}.")
        if self.realce_segmenter and not self.realce_mask_dir:
            raise ValueError("realce_segmenter needs realce_mask_dir: the folder to keep its masks in.")
        if self.degradation == STORED and self.augmentation:
            raise ValueError("degradation: stored takes the LR images as they are: set augmentation to false.")
        if self.degradation == STORED and self.recognizer:
            raise ValueError(
                "The recogniser's strips are shrunk and degraded anew: set degradation to real-esrgan or mild."
            )
        if self.streaming and (self.recognizer or self.cache_pages):
            raise ValueError("With streaming neither recognizer nor cache_pages works: both need the whole data set.")
        if self.init_from and not self.base_config:
            raise ValueError("init_from starts a base from scratch (base_config), not adapters on a pretrained one.")
        if not self.base_config and (self.encoder_skips or self.image_residual):
            raise ValueError("encoder_skips and image_residual are for a base from scratch (base_config).")
        if self.best_metric and not self.validation_data_dir:
            raise ValueError("best_metric needs validation_data_dir: a data set to validate on.")
        if self.best_metric == "ocr_accuracy" and not self.validation_ocr:
            raise ValueError("best_metric ocr_accuracy needs validation_ocr: name an OCR engine.")


def read_yaml(path: Path, kind: type = TrainConfig) -> dict[str, Any]:
    """The values of a config file; `extends: FILE`, relative to it, names one whose values it changes.

    Raises:
        ValueError: no such file, not YAML, or keys that the dataclass `kind` does not have.
    """
    if not path.is_file():
        raise ValueError(f"No config file {path}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no `key: value` lines.")
    base = values.pop("extends", None)
    if base and (path.parent / base).resolve() == path.resolve():
        raise ValueError(f"{path} extends itself.")
    inherited = read_yaml(path.parent / base, kind) if base else {}
    if unknown := sorted(set(values) - {f.name for f in fields(kind)}):
        raise ValueError(f"{path}: unknown keys {', '.join(unknown)}.")
    if empty := [f.name for f in fields(kind) if f.default not in (None, MISSING) and values.get(f.name, f) is None]:
        raise ValueError(f"{path}: {', '.join(empty)} must have a value.")
    if values.get("mixed_precision") is False:  # what YAML makes of an unquoted no
        values["mixed_precision"] = "no"
    return inherited | values


def parse_config(argv: list[str] | None = None) -> TrainConfig:
    """The flags of `train_lora.py`; see `parse`."""
    return parse(argv, TrainConfig)


def parse(argv: list[str] | None, kind: type[T]) -> T:
    """`--config FILE.yaml` first, then flags on top. Unknown keys and flags end the program with one line."""
    argv = sys.argv[1:] if argv is None else argv
    argv = [part for arg in argv for part in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    try:
        if "--config" in argv:
            at = argv.index("--config")
            if at + 1 == len(argv):
                raise ValueError("--config needs a file.")
            from_file = []
            for key, value in read_yaml(Path(argv[at + 1]), kind).items():
                if value not in (None, []) and f"--{key}" not in argv:
                    from_file += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
            argv = from_file + argv[:at] + argv[at + 2 :]
        parser = HfArgumentParser(kind, allow_abbrev=False)
        (config,) = parser.parse_args_into_dataclasses(argv)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    return config
