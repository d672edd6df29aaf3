"""A tiny recogniser's ONNX graph."""

import numpy as np
import onnx

CLASSES = 7
CHARACTERS = "abcde"  # between the blank and the space


def write_graph(path, rng):
    """A tiny recogniser as Paddle exports one: spelled-out hard swishes, lone factors, constants as nodes."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = []

    def constant(value):
        name = f"constant_{len(nodes)}"
        tensor = numpy_helper.from_array(np.asarray(value, np.float32), name)
        nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def node(kind, *inputs, **attributes):
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def convolution(x, inputs, outputs, kernel, groups=1, stride=(1, 1), bias=True):
        weight = constant(rng.normal(0, 0.5, (outputs, inputs // groups, kernel, kernel)))
        extra = [constant(rng.normal(0, 0.5, outputs))] if bias else []
        return node("Conv", x, weight, *extra, group=groups, strides=stride, pads=[kernel // 2] * 4)

    def affine(x):
        x = node("Mul", constant([rng.uniform(0.5, 2)]), x)
        return node("Add", x, constant([rng.uniform(-1, 1)]))

    def hard_swish(x):
        clipped = node("Clip", node("Add", x, constant(3)), constant(0), constant(6))
        return node("Div", node("Mul", x, clipped), constant(6))

    x = convolution("x", 3, 8, 3, stride=(4, 4), bias=False)
    statistics = [constant(rng.uniform(0.5, 1.5, 8)) for _ in range(4)]
    x = node("BatchNormalization", x, *statistics)
    x = affine(hard_swish(affine(convolution(x, 8, 8, 3, groups=8))))
    x = affine(hard_swish(affine(convolution(x, 8, 12, 1))))
    x = affine(hard_swish(affine(convolution(x, 12, 12, 3, groups=12))))
    x = node("Mul", x, node("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    x = node("Mul", x, node("HardSigmoid", node("ReduceMean", x, axes=[2, 3], keepdims=1), alpha=1 / 6, beta=0.5))
    x = convolution(x, 12, CLASSES, 1)
    x = node("ReduceMean", x, axes=[2], keepdims=0)  # (N, classes, T)
    x = node("Softmax", node("Transpose", x, perm=[0, 2, 1]), axis=2)
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 48, "W"])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", "T", CLASSES])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
    helper.set_model_props(model, {"character": "\n".join(CHARACTERS)})
    onnx.save(model, path)
    return path
