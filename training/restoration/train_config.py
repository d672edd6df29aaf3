"""The settings of TADiSR's training: one documented dataclass, read from YAML and from flags."""

from dataclasses import dataclass, field
from typing import ClassVar

from tadisr.models.losses import LossWeights
from tadisr.training.engine.loop_config import LoopConfig

STORED = "stored"


@dataclass
class TrainConfig(LossWeights, LoopConfig):
    """The paper's recipe (4.1) by default. Flags are named as in diffusers' own training scripts."""

    FILES: ClassVar[tuple[str, ...]] = ("base_config",)

    # The base.
    output_dir: str = "runs/tadisr"
    pretrained_model_name_or_path: str | None = None
    """Base pipeline, a folder or Hub id; its U-Net and VAE get LoRA adapters."""
    revision: str | None = None
    """Revision of the base on the Hub."""
    variant: str | None = None
    """The kind of the base's weight files to read, such as fp16; None: files without a variant in their name."""
    base_config: str | None = None
    """JSON file that describes a base to build and train from scratch instead (all its weights are trained)."""
    init_from: str | None = None
    """With base_config: a saved pipeline whose weights to start from (with fresh optimiser state)."""
    rank_unet: int = 4
    rank_vae: int = 2
    lora_alpha: int | None = None
    """What adapters add counts `lora_alpha / rank` times; None: once. The authors' code has 8: twice in the U-Net, four
    times in the VAE. The paper does not say."""
    prompt: str = "best quality,highres,extremely detailed,text"
    encoder_skips: bool = False
    """Only with base_config; see JointSegmentationDecoder, as for the next one."""
    image_residual: bool = False
    interaction_resblocks: int = 1
    """ResBlocks in each branch of a CDIB. The paper's figure can be read as 1 or as 2."""
    mask_block_out_channels: list[int] = field(default_factory=list)
    """Widths of the mask decoder, the one at full resolution first; none: the VAE's, as in the paper."""
    mask_prompt: bool = False
    """Train the network to be told where text is: a person's mask, for all of an image or parts of it."""
    mask_prompt_blocks: int = 0
    """With mask_prompt: ResBlocks that draw the prompt into the image, see MaskPromptFollower."""
    train_only: list[str] = field(default_factory=list)
    """With base_config: what the names of the weights to train begin with, such as joint_decoder.prompt_follower; all
    others stay as they are. None: all are trained."""
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
    """Share of Real-CE's crops among all, with realce_data_dir. The paper does not state its own."""
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
    device_pages: bool = False
    """Keep every page on the GPU, 1 MiB for one of 512 pixels, which then cuts and degrades the crops by itself: for
    small networks, which a processor cannot feed. All pages must be of one size. cache_pages is then of no effect."""
    resolution: int = 512
    """Side of the square HR crops, pixels."""
    scale: int = 4
    degradation: str = "real-esrgan"
    """What makes the LR crops, anew each time (real-esrgan, mild, wide), or stored: the data set's LR images."""
    text_share: float = 0.85
    """Share of crops that must hold text."""
    mask_prompt_share: float = 0.3
    """With mask_prompt: the share of crops that are given their own mask as a prompt, drawn badly."""
    augmentation: bool = False
    """Photographic tones, swapped and inverted colours, zoom and turns; for bases trained from scratch."""

    # The steps.
    max_train_steps: int = 200_000
    gradient_checkpointing: bool = True
    """Run the network's blocks again in backward instead of keeping what they computed: half the memory or less."""
    compile_blocks: bool = False
    """Compile the ResBlocks with `torch.compile`, for small networks on a GPU. The first steps take minutes."""
    learning_rate: float = 5e-5
    mixed_precision: str = "auto"
    """no, fp16 or bf16. A pretrained base's frozen weights are then kept in that type. auto: bf16 on a pretrained base,
    else no."""
    lpips_net: str = "vgg"
    """The distance that `lpips` weighs. vgg: LPIPS with VGG-16, as in the authors' code; the paper names none. st_alex
    or st_vgg: ST-LPIPS, whose weights come with pip install 'tadisr[stlpips]', without another download."""
    lpips_crops: int | None = None
    """Measure `lpips` on so many crops of each batch. None: on all. ST-LPIPS takes longer than a small network does."""
    lpips_weights: str | None = None
    """With lpips_net vgg: file of torchvision's vgg16 weights, if they are not to be downloaded."""
    recognizer: list[str] = field(default_factory=list)
    """Text recognisers: PP-OCR's ONNX files, or files of tiny/adapt_recognizer.py. Each step compares the readings of
    SR and HR lines by one of them. None: no such term."""
    recognizer_weight: float = 0.012
    """Of the SR line's being read as the HR line is."""
    recognizer_ctc: float = 0.0
    """Weight of the SR line's being read as the text that was drawn (CTC), in [0, 2] before it. Lines that fit into a
    strip as a whole are then drawn."""
    recognizer_features: float = 0.0
    """Weight of the difference of SR and HR line in a map of the recogniser that still shows strokes."""
    recognizer_lines: int = 6
    """Line strips per step and process that the recogniser reads."""
    recognizer_width: int = 256
    """Width of these strips, HR pixels. They are 64 high, with lines of 18 to 50 pixels."""
    recognizer_strength: float = 1.0
    """The recogniser reads the enlarged LR strips plus a share of the network's correction, drawn between this and 1:
    for weights that are released with less than full strength (tiny/release.py)."""

    # What is kept and reported.
    validation_data_dir: str | None = None
    """FTSR data set whose test split is validated on."""
    num_validation_images: int = 40
    validation_tile: int | None = None
    """Side of the tiles that validation restores, pixels; None: as large as the crops on a pretrained base, where a
    whole page would need more memory than a training step, else whole pages."""
    validation_ocr: str | None = None
    """OCR engine (of `tadisr.ocr.ENGINES`) that judges the lines of text; not the one of the recogniser loss."""
    validation_lpips: str | None = None
    """Folder with torchvision's AlexNet weights; None: LPIPS is measured only if they are in torch.hub's cache."""
    best_metric: str | None = None
    """The score that chooses the best weights: psnr, ssim, lpips, ocr_accuracy or mask_iou; None: ocr_accuracy where
    measured, else psnr."""
    push_to_hub: bool = False
    """Upload the best weights with a model card when training ends."""
    hub_model_id: str | None = None
    """Repository to upload to; None: one named as output_dir."""
    hub_private_repo: bool = False
    hub_license: str | None = None
    """Licence of the weights in the model card, as the Hub calls it, such as apache-2.0; None: the card names none."""

    def __post_init__(self):
        if bool(self.pretrained_model_name_or_path) == bool(self.base_config):
            raise ValueError("Set exactly one of pretrained_model_name_or_path and base_config.")
        if not self.train_data_dir:
            raise ValueError("Set train_data_dir to at least one FTSR data set (make one with `tadisr synthesize`).")
        if self.mixed_precision == "auto":
            self.mixed_precision = "no" if self.base_config else "bf16"
        super().__post_init__()
        self.check_choices(
            degradation=("real-esrgan", "mild", "wide", STORED),
            lpips_net=("vgg", "st_alex", "st_vgg"),
            best_metric=(None, "psnr", "ssim", "lpips", "ocr_accuracy", "mask_iou"),
        )
        if self.validation_tile is None and not self.base_config:
            self.validation_tile = self.resolution
        self.check_counts(
            "resolution", "scale", "num_validation_images", "recognizer_lines", "shuffle_buffer",
            "interaction_resblocks", "rank_unet", "rank_vae",
        )  # fmt: skip
        if self.lora_alpha is not None:
            self.check_counts("lora_alpha")
        self.check_shares("recognizer_strength", "mask_prompt_share")
        if self.mask_prompt_blocks and not self.mask_prompt:
            raise ValueError("mask_prompt_blocks draw mask prompts: set mask_prompt to true.")
        if self.train_only and not self.base_config:
            raise ValueError("train_only is for base_config: of a pretrained base, adapters alone are trained.")
        if self.mask_prompt and not self.joint_decoder:
            raise ValueError("mask_prompt is for the joint decoder's mask stream: set joint_decoder to true.")
        if self.validation_tile and self.validation_tile < self.scale:
            raise ValueError(f"validation_tile must be at least {self.scale} pixels, not {self.validation_tile}.")
        if self.resolution % self.scale:
            raise ValueError(f"resolution must be a multiple of scale, not {self.resolution} of {self.scale}.")
        if not 0 <= self.realce_share < 1:
            raise ValueError(f"realce_share must be at least 0 and below 1, not {self.realce_share}.")
        if self.realce_segmenter and not self.realce_mask_dir:
            raise ValueError("realce_segmenter needs realce_mask_dir: the folder to keep its masks in.")
        if self.degradation == STORED and self.augmentation:
            raise ValueError("degradation: stored takes the LR images as they are: set augmentation to false.")
        if self.degradation == STORED and self.recognizer:
            raise ValueError(
                "The recogniser's strips are shrunk and degraded anew: set degradation to real-esrgan, mild or wide."
            )
        if not self.recognizer and (self.recognizer_ctc or self.recognizer_features):
            raise ValueError("recognizer_ctc and recognizer_features need recognizer: name PP-OCR's ONNX files.")
        if self.recognizer_width < 64 or self.recognizer_width % self.scale:
            raise ValueError(
                f"recognizer_width must be at least 64 and a multiple of scale, not {self.recognizer_width}."
            )
        if self.lpips_weights and self.lpips_net != "vgg":
            raise ValueError(f"lpips_weights are of vgg: {self.lpips_net} brings its own.")
        if self.streaming and (self.recognizer or self.cache_pages):
            raise ValueError("With streaming neither recognizer nor cache_pages works: both need the whole data set.")
        if self.device_pages and (self.streaming or self.realce_data_dir or self.degradation == STORED):
            raise ValueError(
                "device_pages keeps FTSR's pages and degrades them anew: leave out streaming, realce_data_dir and "
                "degradation stored."
            )
        if self.init_from and not self.base_config:
            raise ValueError("init_from starts a base from scratch (base_config), not adapters on a pretrained one.")
        if not self.base_config and (self.encoder_skips or self.image_residual):
            raise ValueError("encoder_skips and image_residual are for a base from scratch (base_config).")
        if self.best_metric and not self.validation_data_dir:
            raise ValueError("best_metric needs validation_data_dir: a data set to validate on.")
        if self.best_metric == "ocr_accuracy" and not self.validation_ocr:
            raise ValueError("best_metric ocr_accuracy needs validation_ocr: name an OCR engine.")
