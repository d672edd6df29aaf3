"""PP-OCR's ONNX graphs as torch modules that train fast.

The exporter spells activations out in elementwise steps and leaves per-layer factors unmerged. Run as written, these
steps cost more than the convolutions between them, and in training each one keeps its input.
"""

import re
import tempfile
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from tadisr.io.messages import one_line
from tadisr.io.model_files import check_tensors, not_finite, read_header, refuse


def load_onnx(path: str | Path) -> fx.GraphModule:
    """A frozen, differentiable module that computes the same as an ONNX file.

    Given a safetensors file of `save_adapted`, the module has these weights and the graph of the ONNX file that the
    safetensors file names.

    Raises:
        FileNotFoundError: no such file. ImportError: the packages of the extra "recognizer" are missing. ValueError: a
            file of another kind, one that leads to other files or to operators of its own, or weights that do not fit.
    """
    path = Path(path)
    if (graph := graph_file(path)) != path:
        module = load_onnx(graph)
        read_header(path)
        weights = load_file(path)
        check_tensors(weights, module.state_dict(), path)
        module.load_state_dict(weights)
        return module
    if not path.is_file():
        raise FileNotFoundError(f"No recogniser at {path}: PP-OCR ONNX files come with the rapidocr wheels.")
    try:
        import onnx2torch
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"Recognisers need {error.name}: pip install 'tadisr[recognizer]'.") from None

    _check_graph(path)
    with tempfile.TemporaryDirectory() as folder:
        # Merges batch normalisations and constants, which onnx2torch cannot convert as Paddle's exporter writes them.
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "merged.onnx")
        options.log_severity_level = 3
        try:
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own types, one for each reason
            raise ValueError(f"{path} is no ONNX recogniser: {one_line(error, 200)}") from None
        module = onnx2torch.convert(options.optimized_model_filepath)
    fuse(module.eval().requires_grad_(False))
    refuse(path, (f"{name} is not finite" for name in not_finite(module.state_dict())))
    return module.to(memory_format=torch.channels_last)


def graph_file(path: Path) -> Path:
    """The ONNX file with a recogniser's graph: the one that a safetensors file names, or the file itself.

    Raises:
        ValueError: a safetensors file that names none.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return path
    name = read_header(path)[1].get("onnx")
    if name is None:
        raise ValueError(f"{path} names no ONNX file: training/tiny/adapt_recognizer.py writes files that do.")
    if not re.fullmatch(r"\w[\w.-]*\.onnx", name):
        raise ValueError(f"{path} names {name[:100]!r}, which is no ONNX file beside it.")
    return path.parent / name


def alphabet(path: str | Path) -> dict[str, int]:
    """The class of each character, as the ONNX file of a recogniser (see `load_onnx`) names them.

    Class 0 is CTC's blank. The space, which files do not name, is the last class.

    Raises:
        ValueError: a file without such a list.
    """
    path = graph_file(Path(path))
    named = [entry.value for entry in _parsed(path).metadata_props if entry.key == "character"]
    if not named:
        raise ValueError(f"{path} does not name its characters: take one that does, such as PP-OCRv3's or v4's.")
    characters = [*named[0].splitlines(), " "]
    return {character: number for number, character in reversed(list(enumerate(characters, 1)))}


def with_features(module: fx.GraphModule, height: int) -> fx.GraphModule:
    """The same module, returning (features, output).

    The features (N, C, h, w) come from the last convolution whose maps are at least an eighth as high as the lines
    (N, 3, height, W): they show strokes; after it the recogniser looks at whole characters.
    """
    ShapeProp(module).propagate(torch.zeros(1, 3, height, 2 * height))
    layers = (node for node in module.graph.nodes if node.op == "call_module")
    maps = (node for node in layers if isinstance(module.get_submodule(node.target), nn.Conv2d))
    last = [node for node in maps if node.meta["tensor_meta"].shape[2] >= height / 8][-1]
    graph, copies = fx.Graph(), {}
    output = graph.graph_copy(module.graph, copies)
    graph.output((copies[last], output))
    return fx.GraphModule(module, graph)


def _parsed(path: Path) -> Any:
    """The file's `onnx.ModelProto`; ValueError for a file that is none."""
    import onnx

    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's
        raise ValueError(f"{path} is no ONNX recogniser: {one_line(error, 200)}") from None


def _check_graph(path: Path) -> None:
    """Raise ValueError for a file that is no ONNX graph, or one with operators or tensors that are elsewhere."""
    import onnx

    model = _parsed(path)
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        tensors = [*getattr(graph, "initializer", [])]
        for sparse in getattr(graph, "sparse_initializer", []):
            tensors += [sparse.values, sparse.indices]
        for node in graph.node:
            if node.domain not in ("", "ai.onnx"):
                raise ValueError(
                    f"{path} has the operator {node.domain[:50]}.{node.op_type[:50]}, which is not ONNX's."
                )
            for attribute in node.attribute:
                waiting += [attribute.g, *attribute.graphs]
                tensors += [attribute.t, *attribute.tensors, attribute.sparse_tensor.values]
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in tensors):
            raise ValueError(f"{path} keeps tensors in other files: save it as one file.")


def save_adapted(module: fx.GraphModule, onnx_file: Path, path: Path) -> None:
    """Write the weights of a module that was loaded from `onnx_file` and trained. Keep both files in one folder."""
    weights = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(weights, path, {"onnx": onnx_file.name})


def fuse(module: fx.GraphModule) -> None:
    """Merge hard swishes into one operation each, and scalar factors and offsets into the convolutions beside them."""
    _Fusion(module).run()


class _Fusion:
    def __init__(self, module: fx.GraphModule):
        self.module, self.graph = module, module.graph

    def run(self) -> None:
        for step in (self.hard_sigmoid, self.hard_swish, self.affine_after_convolution, self.affine_before_convolution):
            for node in list(self.graph.nodes):
                step(node)
            self.graph.eliminate_dead_code()
        self.module.recompile()

    def hard_sigmoid(self, node: fx.Node) -> None:
        """`clamp(x / 6 + 1/2, 0, 1)`, which may be a hard swish's: `x` times it."""
        layer = self.layer(node)
        if type(layer).__name__ != "OnnxHardSigmoid" or abs(layer.alpha - 1 / 6) > 1e-4 or layer.beta != 0.5:
            return
        (x,), users = node.args, list(node.users)
        swish = len(users) == 1 and self.operation(users[0]) == "mul" and x in users[0].args
        with self.graph.inserting_before(node):
            new = self.graph.call_function(F.hardswish if swish else F.hardsigmoid, (x,))
        self.replace(users[0] if swish else node, new)

    def hard_swish(self, node: fx.Node) -> None:
        """`x * relu6(x + 3) / 6`"""
        product, six = self.operands(node, "div")
        if six != 6 or self.operands(product, "mul")[0] is None:
            return
        for x, clipped in (product.args, product.args[::-1]):
            if isinstance(self.layer(clipped), nn.ReLU6) and self.operands(clipped.args[0], "add") == (x, 3.0):
                with self.graph.inserting_before(node):
                    self.replace(node, self.graph.call_function(F.hardswish, (x,)))
                return

    def affine_after_convolution(self, node: fx.Node) -> None:
        """`factor * convolution(x)`, `convolution(x) + offset`: into its weights."""
        for name in ("mul", "add"):
            x, constant = self.operands(node, name)
            layer = self.convolution(x) if constant is not None and len(x.users) == 1 else None
            if layer is not None:
                if name == "mul":
                    layer.weight.mul_(constant)
                    layer.bias.mul_(constant)
                else:
                    layer.bias.add_(constant)
                self.replace(node, x)
                return

    def affine_before_convolution(self, node: fx.Node) -> None:
        """`factor * x + offset`: into the convolutions that read it, or one addition where these pad with zeros."""
        scaled, offset = self.operands(node, "add")
        x, factor = self.operands(scaled, "mul") if offset is not None else (None, None)
        if factor is None or len(scaled.users) > 1:
            return
        layers = [self.convolution(user) for user in node.users]
        if all(layer is not None and not any(layer.padding) for layer in layers):
            for layer in layers:
                layer.bias.add_(layer.weight.sum((1, 2, 3)), alpha=offset)
                layer.weight.mul_(factor)
            self.replace(node, x)
            return
        constant = next(argument for argument in node.args if argument is not scaled)
        with self.graph.inserting_before(node):
            self.replace(node, self.graph.call_function(torch.add, (constant, x), {"alpha": factor}))

    # In these graphs a node's arguments are nodes, which fx does not say.

    def layer(self, node: Any) -> Any:
        return self.module.get_submodule(node.target) if node.op == "call_module" else None

    def convolution(self, node: Any) -> Any:
        layer = self.layer(node)
        if not isinstance(layer, nn.Conv2d):
            return None
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros(layer.out_channels), requires_grad=False)
        return layer

    def operation(self, node: Any) -> str | None:
        """The name of an elementwise operation: add, mul, div."""
        function = getattr(self.layer(node), "math_op_function", None)
        return function and function.__name__.removeprefix("_onnx_")

    def operands(self, node: Any, name: str) -> tuple[Any, Any]:
        """(x, c) of an elementwise "add", "mul" or "div", c where the other operand is one constant; else two None."""
        if self.operation(node) != name:
            return None, None
        first, second = node.args
        if name != "div" and self.scalar(first) is not None:
            first, second = second, first
        return first, self.scalar(second)

    def scalar(self, node: Any) -> float | None:
        value = attrgetter(node.target)(self.module) if node.op == "get_attr" else None
        return float(value) if value is not None and value.numel() == 1 else None

    def replace(self, old: Any, new: Any) -> None:
        old.replace_all_uses_with(new)
        self.graph.erase_node(old)
