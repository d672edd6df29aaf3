"""The settings of TextDiff's and CRNN's trainings: documented dataclasses, read from YAML and from flags."""

from dataclasses import dataclass, field

from tadisr.data_synthesis.rendered_lines import SEVERITIES
from tadisr.models.textdiff.network import TRAIN_TIMESTEPS
from tadisr.models.textdiff.objective import TextDiffLossWeights
from tadisr.training.engine.loop_config import LoopConfig

MASK_RULES = ("mean", "mean_polarity", "exact")
BEST = ("accuracy", "psnr", "ssim")


@dataclass
class LineConfig(LoopConfig):
    """The settings that both trainings share: their text lines. Flags are named as in diffusers' own scripts."""

    output_dir: str = "runs/textdiff"

    # The data.
    train_data_dir: list[str] = field(default_factory=list)
    """Databases of TextZoom's layout (TextZoom's train1 and train2; `tadisr synthesize-lines` writes
    others). None: lines are rendered as they are needed, about 15 ms each on one core, and none comes twice."""
    cache_lines: bool = False
    """Decode the databases once and keep them in memory, 20 kB a line."""
    degradation: str = "stored"
    """The LR images: those in the databases (stored), or made of the HR images anew each time (fresh)."""
    severity: str = "mixed"
    """Of fresh and rendered LR images: easy, medium, hard or mixed."""
    mask_rule: str = "mean"
    """Mask to be learned: mean, the paper's; mean_polarity; exact, the strokes of rendered lines."""
    fonts: list[str] = field(default_factory=list)
    """Folders of fonts that lines are rendered with. None: the installed ones."""
    photos: bool = True
    """Render a quarter of the lines on free photographs."""
    train_batch_size: int = 16
    """Lines per process."""
    max_train_steps: int = 1_000_000

    # What is kept and reported.
    checkpointing_steps: int = 5000
    validation_data_dir: list[str] = field(default_factory=list)
    """Databases to validate on. None: rendered lines."""
    validation_split: str = "validation"
    """Of rendered lines: validation or test. No line for training has one of their fonts or labels."""
    num_validation_lines: int = 500
    """At most so many lines of each database, or so many rendered ones."""
    validation_steps: int = 5000
    tracker_project_name: str = "textdiff"

    def __post_init__(self):
        super().__post_init__()
        self.check_choices(
            degradation=("stored", "fresh"),
            severity=(*SEVERITIES, "mixed"),
            mask_rule=MASK_RULES,
            validation_split=("validation", "test"),
        )
        self.check_counts("num_validation_lines")


@dataclass
class CRNNConfig(LineConfig):
    """Training of the recogniser."""

    output_dir: str = "runs/crnn"
    init_from: str | None = None
    """CRNN to start from: crnn-tiny, a folder, or a file of the public PyTorch weights. None: random weights."""
    channels: list[int] = field(default_factory=lambda: [64, 128, 256, 256, 512, 512, 512])
    """See CRNN, as for the next one."""
    hidden: int = 256
    hr_share: float = 0.35
    """Share of lines that are read as HR."""
    lr_share: float = 0.35
    """Share of lines that are read as LR. All other lines are a mixture of the HR and the LR image."""
    augmentation: bool = True
    """Turn, shift, stretch and shear each line a little, anew each time."""
    train_batch_size: int = 64
    learning_rate: float = 1e-3

    def __post_init__(self):
        super().__post_init__()
        if min(self.hr_share, self.lr_share) < 0 or self.hr_share + self.lr_share > 1:
            raise ValueError(f"hr_share and lr_share are shares of one whole, not {self.hr_share} and {self.lr_share}.")


@dataclass
class TextDiffConfig(TextDiffLossWeights, LineConfig):
    """Training of TextDiff: the paper's recipe by default, its loss weights among the settings."""

    # The networks. The lists and numbers are those of CRNN, TextEnhancementModule and ResidualUNet.
    recognizer: str | None = None
    """CRNN: crnn-tiny, a folder, or a file of the public weights. The prior generator starts from it, and a frozen copy
    is the teacher of the text prior and the feature network of the joint loss."""
    init_from: str | None = None
    """Folder of saved TextDiff weights to start from (with fresh optimiser state). Their sizes replace those below."""
    tem_channels: int = 64
    tem_blocks: int = 5
    prior_channels: int = 64
    heads: int = 4
    mask_channels: int = 32
    unet_channels: list[int] = field(default_factory=lambda: [64, 128, 256, 256])
    unet_attention: bool = True
    unet_attention_from: int = 2
    dropout: float = 0.1
    mask_branch: bool = True
    """False: no mask is predicted, and the U-Net reads none (Table 3, w/o B_M)."""
    prediction_type: str = "sample"
    """sample: the U-Net predicts the residual; epsilon: the noise (Table 3, NP)."""
    residual_diffusion: bool = True
    """False: the U-Net adds its residual in one pass without noise (Table 3, NU)."""
    corrected_schedule: bool = False
    """Scale the betas by 1000 / 200, so that training sees pure noise as sampling does."""
    detach_condition: bool = False
    """Keep the gradient of the U-Net's inputs from the enhancement module."""
    foreign: float = 0.0
    """Share of lines whose U-Net sharpens a mixture of the enhancement module's image and the bicubic one, so that it
    helps other methods, too (`TextDiffPipeline.refine`)."""

    # Legibility to others than CRNN, a term of ours.
    readers: list[str] = field(default_factory=list)
    """ONNX text recognisers (PP-OCR), as in train_lora.py. At each step one of them compares its readings of coarse and
    final images with its readings of HR."""
    reading: float = 1.0
    """Weight of that term."""
    reading_lines: int = 6
    """Lines of each batch that are read."""

    # Validation.
    num_inference_steps: int = 5
    """Sampling steps in validation."""
    temperature: float = 1.0
    """Noise of the sampling, 0 to 1, in validation and as the saved pipeline's default."""
    validation_ocr: str | None = None
    """A second judge beside the frozen CRNN, as `tadisr.evaluation.line_recognizers` names them, such as rapidocr."""
    best_metric: str = "accuracy"
    """The score that chooses the best weights: accuracy (the second judge's if there is one, else CRNN's), psnr or
    ssim."""

    def __post_init__(self):
        super().__post_init__()
        if not self.recognizer and not self.init_from:
            raise ValueError("Set recognizer to a CRNN (train one with training/train_crnn.py), or init_from.")
        if (self.joint or self.text_prior or self.best_metric == "accuracy") and not self.recognizer:
            raise ValueError(
                "The joint and text prior losses and the accuracy in validation need a recogniser: set recognizer."
            )
        self.check_shares("foreign", "temperature")
        if not 1 <= self.num_inference_steps <= TRAIN_TIMESTEPS:
            raise ValueError(f"num_inference_steps is from 1 to {TRAIN_TIMESTEPS}, not {self.num_inference_steps}.")
        self.check_choices(prediction_type=("sample", "epsilon"), best_metric=BEST)
        self.check_counts("heads", "reading_lines")
