"""ST-LPIPS, the shift-tolerant perceptual distance (Ghildyal and Liu, ECCV 2022), to train with and to measure with.

Its weights lie in the PyPI package `stlpips-pytorch`, under BSD-2, so they need no other download. The package's code
is not used: it needs packages that it does not name, and parts of it are under a non-commercial licence.
"""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from tadisr.io.messages import one_line
from tadisr.io.model_files import check_tensors, load_pickled

SMALLEST = 32  # pixels; smoothing leaves nothing of smaller images


class _Blur(nn.Module):
    """Halve a feature map after smoothing with a binomial filter, the borders mirrored by 2."""

    filt: torch.Tensor

    def __init__(self, channels: int):
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filt", torch.outer(line, line).repeat(channels, 1, 1, 1))  # (C, 1, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


_Net = tuple[list[nn.Module], list[int], list[int]]
"""Layers, the numbers of those whose features are compared, and the channels of these."""


def _alex() -> _Net:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, padding=2), _Blur(64), nn.ReLU()]
    for channels, width, side in ((64, 192, 5), (192, 384, 3)):
        layers += [nn.MaxPool2d(3, 1), _Blur(channels), nn.Conv2d(channels, width, side, padding=side // 2), nn.ReLU()]
    layers += [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()]
    return layers, [2, 6, 10, 12, 14], [64, 192, 384, 256, 256]


def _vgg() -> _Net:
    layers: list[nn.Module] = []
    ends, widths, channels = [], [64, 128, 256, 512, 512], 3
    for width, count in zip(widths, (2, 2, 3, 3, 3), strict=True):
        if layers:
            layers += [nn.MaxPool2d(2, 1), _Blur(channels)]
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        ends.append(len(layers) - 1)
    return layers, ends, widths


class STLPIPS(nn.Module):
    """Mean over pixels of weighted squared differences of normalised features, 0 for equal images.

    AlexNet or VGG-16 that smooth before they skip pixels, so that a shift by one pixel counts for little.

    Args:
        net: "alex" or "vgg". The weights are random: see `load_st_lpips`.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, net: str = "alex"):
        super().__init__()
        layers, self._ends, widths = {"alex": _alex, "vgg": _vgg}[net]()
        self.layers = nn.ModuleList(layers)
        widths = [
            next(x.out_channels for x in reversed(layers[:end]) if isinstance(x, nn.Conv2d)) for end in self._ends
        ]
        self.weights = nn.ParameterList(torch.ones(1, width, 1, 1) for width in widths)
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))

    def forward(self, image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Distances (B,) of images (B, 3, H, W) in [-1, 1].

        Raises:
            ValueError: a side of less than 32 pixels.
        """
        if min(image.shape[-2:]) < SMALLEST:
            raise ValueError(f"ST-LPIPS needs at least {SMALLEST} x {SMALLEST} pixels, got {tuple(image.shape)}.")
        features = zip(self._features(image), self._features(reference), self.weights, strict=True)
        return torch.stack([((x - y).square() * weights).sum(1).mean((1, 2)) for x, y, weights in features]).sum(0)

    def _features(self, image: torch.Tensor) -> Iterator[torch.Tensor]:
        x = (image - self.shift) / self.scale
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number in self._ends:
                yield F.normalize(x, eps=1e-10)  # its gradient is finite where no feature responds


def load_st_lpips(net: str = "alex") -> STLPIPS:
    """The published network, frozen.

    Args:
        net: "alex" or "vgg".

    Raises:
        ImportError: the package that holds the weights is not installed. ValueError: its file is damaged.
    """
    try:
        package = distribution("stlpips-pytorch")
    except PackageNotFoundError:
        raise ImportError("ST-LPIPS needs stlpips-pytorch: pip install 'tadisr[stlpips]'.") from None
    path = Path(str(package.locate_file(f"stlpips_pytorch/weights/vST0.0/{net}_shift_tolerant.pth")))
    try:
        state = {_ours(key): tensor for key, tensor in load_pickled(path).items()}
    except (OSError, AttributeError) as error:
        raise ValueError(f"stlpips-pytorch is damaged, install it anew: {one_line(error)}") from None
    network = STLPIPS(net)
    check_tensors(state, network.state_dict(), path)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _ours(key: str) -> str:
    """Our name of a tensor: "net.slice2.5.bias" is "layers.5.bias", "lin1.model.1.weight" is "weights.1"."""
    part, *rest = key.split(".")
    if part == "net":
        return ".".join(["layers", *rest[1:]])
    return rest[0] if part == "scaling_layer" else f"weights.{part.removeprefix('lin')}"
