"""From a `TADiSRPipeline` to one ONNX file: the whole of `restore_tile`, the prompt folded in, compared with PyTorch.

Shapes: B batch, h, w LR pixels, H, W pixels of the output.
"""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import nn

from tadisr.io.atomic import write_atomically
from tadisr.io.messages import one_line
from tadisr.models.joint_decoder import vae_factor
from tadisr.runtime.graph import FIDELITY, GIVEN, PRECISIONS, TEXT_MASK, Graph, GraphInfo, metadata, sealed
from tadisr.tiling import MIN_SIDE

_LARGEST = 1_900_000_000  # bytes of weights: a file of more than 2 GiB cannot be one
_OPSET = 20
_FOLDED = 1 << 20  # values of a constant that stands for the operations that compute it
_LARGE = 1 << 16  # weights of a matrix: smaller ones, such as those of the attention, take no time
LEAST_PSNR = {"float32": 90.0, "float16": 50.0, "int8": 38.0}
"""dB between a graph's results and PyTorch's in float32; a graph that is further off is refused. Half a gray level is
54 dB."""
CALIBRATION = Path(__file__).parent / "calibration.png"
"""LR crops of drawn pages, of `CROP` pixels, side by side: what int8 ranges are measured on."""
CROP = 96
_Feeds = dict[str, Any]
"""A graph's inputs by name: "lr" (1, 3, h, w), the fidelity, and for models that take masks a prompt."""


class _Tile(nn.Module):
    """`restore_tile` as a module of its own, of images that need no padding."""

    def __init__(self, pipe: Any, scale: int):
        super().__init__()
        self.parts = nn.ModuleList([pipe.vae, pipe.backbone, pipe.joint_decoder, pipe.prompt])
        self.pipe, self.scale = pipe, scale
        self.prompt_channels = 2 * vae_factor(pipe.vae) ** 2 if pipe.takes_masks else 0

    def forward(self, lr: torch.Tensor, fidelity: torch.Tensor, *prompt: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`prompt`: the inputs `TEXT_MASK` and `GIVEN` of a graph, see there."""
        x = self.pipe.prepare_image(lr, self.scale)
        image, mask_logits = self.pipe.decode(*self.pipe._denoised(x), x, fidelity, *prompt)
        return image / 2 + 0.5, mask_logits

    def defaults(self, fidelity: float) -> _Feeds:
        """What the inputs are that a caller leaves out. A prompt of nothing is as small as can be: it is broadcast."""
        given: _Feeds = {FIDELITY: np.asarray(fidelity, np.float32)}
        if self.prompt_channels:
            given[TEXT_MASK] = np.zeros((1, self.prompt_channels, 1, 1), np.float32)
            given[GIVEN] = np.zeros((1, 1, 1, 1), np.float32)
        return given


def export(
    pipe: Any,
    paths: Mapping[str, Path],
    tile: int | None = None,
    images: Sequence[np.ndarray] | None = None,
    **about: Any,
) -> dict[str, GraphInfo]:
    """Write a pipeline as graphs, and compare each with the pipeline.

    Args:
        pipe: a `TADiSRPipeline` in float32 on the CPU, adapters fused.
        paths: the ONNX files to write, by precision: "float32"; "float16"; "int8": weights and activations of
            convolutions, by their ranges on `images`. A file appears when it is complete and has been compared.
        tile: LR pixels of both sides, with B = 1; None: any size and batch.
        images: LR (h, w, 3) uint8; None: drawn pages that the package carries.
        about: `name`, `weights`, `license` and `card` of `GraphInfo`.

    Returns:
        What each file says of itself, by precision.

    Raises:
        ValueError: a model too large or of a kind that does not export, or a graph whose results are too far off.
        ImportError: without the packages of the extra "export".
    """
    _check_packages()
    if unknown := [precision for precision in paths if precision not in PRECISIONS]:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {unknown[0]!r}.")
    scale = pipe.config["native_scale"] or 4
    size = sum(value.numel() for part in pipe.convolutional() for value in part.parameters()) * 4
    if size > _LARGEST:
        raise ValueError(
            f"The model is too large to export: {size / 1e9:.1f} GB in float32, and an ONNX file holds 1.9. Run it by "
            "PyTorch."
        )
    factor = vae_factor(pipe.vae)
    multiple, least = factor // math.gcd(factor, scale), math.ceil(MIN_SIDE / scale)
    if tile is not None and (tile % multiple or tile < least):
        fitting = f"{least} or more" if multiple == 1 else f"a multiple of {multiple}, at least {least}"
        raise ValueError(f"A tile of {tile} LR pixels does not fit the model: take {fitting}.")
    widest = max(pipe.vae.config["block_out_channels"])
    module = _Tile(pipe, scale).eval().requires_grad_(False)
    defaults = module.defaults(pipe.default_fidelity)
    crops = [{"lr": _planes(image, tile or CROP), **defaults} for image in (images or calibration_images())]
    written = {}
    with TemporaryDirectory() as folder:
        raw, complete = Path(folder) / "float32.onnx", Path(folder) / "complete.onnx"
        _to_onnx(module, raw, tile, least, multiple)
        for precision, path in paths.items():
            info = GraphInfo(
                precision=precision, scale=scale, least_side=least, multiple=multiple, tile=tile, widest=widest,
                fidelity=float(defaults[FIDELITY]), **about,
            )  # fmt: skip
            made = _in_precision(raw, precision, crops)
            complete.write_bytes(_packed(made, info, defaults))
            psnr = _compare(complete, module, crops)
            if psnr < LEAST_PSNR[precision]:
                raise ValueError(
                    f"The {precision} graph is {psnr:.1f} dB from PyTorch's result, and at least "
                    f"{LEAST_PSNR[precision]:g} are wanted: take another precision."
                )
            written[precision] = replace(info, psnr=round(psnr, 2) if math.isfinite(psnr) else None)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _packed(made, written[precision], defaults))
    return written


def calibration_images() -> list[np.ndarray]:
    """The drawn LR crops that the package carries, (96, 96, 3) uint8."""
    strip = np.asarray(Image.open(CALIBRATION).convert("RGB"))
    return list(np.split(strip, strip.shape[1] // CROP, axis=1))


def _check_packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", "ml_dtypes"):
        if find_spec(package) is None:
            raise ImportError(f"Exporting needs {package}: pip install 'tadisr[export]'.")


def _planes(image: np.ndarray, side: int) -> np.ndarray:
    """The middle of (h, w, 3) uint8 as (1, 3, side, side) float32 in [0, 1]; what is smaller is repeated."""
    height, width = image.shape[:2]
    if height < side or width < side:
        image = np.pad(image, ((0, max(0, side - height)), (0, max(0, side - width)), (0, 0)), mode="symmetric")
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    crop = image[top : top + side, left : left + side]
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


@contextmanager
def _for_any_image(module: _Tile) -> Iterator[None]:
    """Within, U-Nets always say how large they upsample to, as they do for odd sizes: one graph then does for all.

    And they embed the time once, not for each image: what each block makes of it then folds to a constant.
    """
    backbone: Any = module.parts[1]
    if not isinstance(backbone, UNet2DConditionModel):
        yield
        return
    before, embed = backbone.num_upsamplers, backbone.get_time_embed
    backbone.num_upsamplers = 30  # "is the size a multiple of 2 ** this?"
    backbone.get_time_embed = lambda sample, timestep: embed(sample[:1], timestep)
    try:
        yield
    finally:
        backbone.num_upsamplers = before
        del backbone.get_time_embed  # the class's own remains


def _to_onnx(module: _Tile, path: Path, tile: int | None, least: int, multiple: int) -> None:
    height, width = (tile, tile) if tile else (least + 3 * multiple, least + 5 * multiple)
    height, width = (-(-side // multiple) * multiple for side in (height, width))
    fidelity, *prompt = (torch.as_tensor(value) for value in module.defaults(1).values())
    lr = torch.rand(1 if tile else 2, 3, height, width, generator=torch.Generator().manual_seed(0))
    example: tuple[Any, ...] = (lr, fidelity, *prompt)
    shapes: Any = None
    if tile is None:
        fixed = ({},) * len(prompt)
        shapes = (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC), {}, *([fixed] if prompt else []))
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        from onnxscript.optimizer import optimize_ir

        logger.setLevel(logging.ERROR)
        with torch.no_grad(), _for_any_image(module), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module(*example)  # Eq. 1's coefficients are plain numbers from now on
            program = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
            onnx_program: Any = torch.onnx.export(
                program, dynamo=True, optimize=True, verbose=False, opset_version=_OPSET,
                input_names=["lr", FIDELITY, TEXT_MASK, GIVEN][: len(example)], output_names=["image", "mask_logits"],
            )  # fmt: skip
            optimize_ir(onnx_program.model, input_size_limit=_LARGEST, output_size_limit=_FOLDED)
            onnx_program.save(path)
        _let_prompts_be_small(path)
    except Exception as error:  # whatever torch.export raises for control flow that it cannot follow
        how = "for tiles of one size: give --tile" if tile is None else "by PyTorch alone"
        raise ValueError(f"The model does not export ({one_line(error, 150)}): it can run {how}.") from None
    finally:
        logger.setLevel(level)


def _let_prompts_be_small(path: Path) -> None:
    """Have a graph's prompt be of any size: it was exported as one that is broadcast."""
    import onnx

    model = onnx.load(path)
    for value in model.graph.input:
        if value.name in (TEXT_MASK, GIVEN):
            for axis in (0, 2, 3):
                value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    del model.graph.value_info[:]  # sizes that are true of the small one alone
    onnx.save(model, path)


def _in_precision(source: Path, precision: str, crops: Sequence[_Feeds]) -> Path:
    """A graph that computes in that precision, beside the `source`, which computes in float32."""
    if precision == "float32":
        return source
    import onnx

    target = source.with_name(f"{precision}.onnx")
    if precision == "float16":  # input and outputs stay float32
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    else:
        _quantize(source, target, crops)
    return target


def _quantize(source: Path, target: Path, crops: Sequence[_Feeds]) -> None:
    """What takes time in int8: weights by channel, all else by its range on the crops."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Crops(CalibrationDataReader):
        def __init__(self) -> None:
            self.waiting = iter(crops)

        def get_next(self) -> _Feeds | None:
            return next(self.waiting, None)

    prepared = target.with_name("prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared, target, Crops(), quant_format=QuantFormat.QDQ, per_channel=True,
        op_types_to_quantize=["Conv", "MatMul"], nodes_to_quantize=_to_quantize(prepared),
        reduce_range=True,  # processors without VNNI add pairs of products in 16 bits
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def _to_quantize(path: Path) -> list[str]:
    """The names of what takes time in float: convolutions and feed-forward layers.

    The last convolutions stay in float: they cost little and are all seen. So do SiLUs: in int8 they take a tenth of
    the time off, and double the error. So does what reads a prompt alone: it is seldom run.
    """
    import onnx

    graph = onnx.load(path).graph
    large = {weight.name for weight in graph.initializer if math.prod(weight.dims) >= _LARGE}
    shown = {graph.input[0].name}  # what depends on the image
    for node in graph.node:
        if shown.intersection(_read_by(node)):
            shown.update(node.output)
    names, read = [], set()  # `read`: what a convolution is computed from
    for node in reversed([node for node in graph.node if shown.intersection(_read_by(node))]):
        last = not read.intersection(node.output)
        if not last or node.op_type == "Conv":
            read.update(_read_by(node))
        if node.op_type == "Conv" and not last or node.op_type == "MatMul" and large.intersection(node.input):
            names.append(node.name)
    return names


def _read_by(node: Any) -> set[str]:
    """The names of what a node reads, those that its subgraphs take from around them among them."""
    names = set(node.input)
    for branch in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
        names |= {name for inner in branch.node for name in _read_by(inner)} | {value.name for value in branch.output}
    return names


def _packed(path: Path, info: GraphInfo, defaults: _Feeds) -> bytes:
    """The file's bytes with what it says of itself, and its inputs' `defaults`; weights that float16 holds exactly are
    stored so."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    for index, weight in enumerate(list(model.graph.initializer)):
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < 256 or not np.array_equal(half.astype(np.float32), values):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        model.graph.node.insert(index, helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in defaults.items())
    del model.metadata_props[:]
    helper.set_model_props(model, metadata(info))
    model.producer_name, model.doc_string = "tadisr", ""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    return sealed(model.SerializeToString(deterministic=True))


def _compare(path: Path, module: _Tile, crops: Sequence[_Feeds]) -> float:
    """dB between the images of the graph and those of PyTorch, in gray levels of 8 bits."""
    graph, errors = Graph(path, "cpu"), []
    for crop in crops:
        with torch.no_grad():
            wanted, _ = module(*(torch.as_tensor(value) for value in crop.values()))
        found, _ = graph(crop["lr"])
        errors.append(float(np.square(found.clip(0, 1) - wanted.clamp(0, 1).numpy()).mean(dtype=np.float64)))
    error = sum(errors) / len(errors)
    return 10 * math.log10(1 / error) if error else math.inf
