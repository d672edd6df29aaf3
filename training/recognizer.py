"""A frozen text recogniser as a loss: what is read in the SR line must be what is read in the HR line."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

HEIGHT, WIDTH = 48, 320  # PP-OCR's recognition input


class RecognizerLoss(nn.Module):
    """Cross-entropy between a PP-OCR recogniser's per-step distributions on HR and SR lines.

    Steps where the HR line shows a character weigh 1, blanks 0.1; lines that the recogniser is unsure of in HR (mean
    confidence of its characters below 0.6) are left out. Judge what is trained with this by *another* recogniser.
    """

    def __init__(self, onnx_file: str | Path):
        super().__init__()
        if not Path(onnx_file).is_file():
            raise FileNotFoundError(f"No recogniser at {onnx_file}: PP-OCR ONNX files come with the rapidocr wheels.")
        import onnx
        import onnx2torch

        graph = (model := onnx.load(str(onnx_file))).graph
        # Paddle's exporter writes weights as Constant nodes, onnx2torch looks for initializers ...
        for node in [node for node in graph.node if node.op_type == "Constant"]:
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
            graph.node.remove(node)
        # ... and it takes the rank of what is normalised from shapes, which the file does not state.
        for node in graph.node:
            if node.op_type == "BatchNormalization":
                shape = ["N", "C", "H", "W"]
                graph.value_info.append(
                    onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, shape)
                )
        self.model = onnx2torch.convert(model).eval().requires_grad_(False)

    def lines(self, images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Cut and scale lines: images (N, 3, H, W) RGB in [-1, 1], boxes (N, 4) to (N, 3, 48, 320) BGR."""
        out = images.new_zeros(len(images), 3, HEIGHT, WIDTH)
        for i, (top, bottom, left, right) in enumerate(boxes.tolist()):
            crop = images[i : i + 1, [2, 1, 0], top:bottom, left:right]
            width = min(WIDTH, max(1, round(HEIGHT * (right - left) / (bottom - top))))
            crop = F.interpolate(crop, size=(HEIGHT, width), mode="bilinear", align_corners=False, antialias=True)
            out[i, :, :, :width] = crop[0]
        return out

    def forward(self, image: torch.Tensor, target: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Both images (N, 3, H, W) in [-1, 1]; a scalar."""
        with torch.no_grad():
            wanted = self.model(self.lines(target, boxes))  # (N, T, classes), probabilities, class 0 is blank
            confidence, label = wanted.max(-1)
            is_char = label > 0
            sure = (confidence * is_char).sum(1) / is_char.sum(1).clamp_min(1) > 0.6
            weight = torch.where(is_char, 1.0, 0.1) * sure[:, None]
        read = self.model(self.lines(image.clamp(-1, 1), boxes))
        cross_entropy = -(wanted * read.clamp_min(1e-6).log()).sum(-1)
        return (cross_entropy * weight).sum() / weight.sum().clamp_min(1)
