"""CRNN (Shi et al., 2016): TextDiff's text prior generator, the feature network of its joint loss, and a judge.

Letters: N batch, T = 26 steps from left to right, class 0 the CTC blank, then 0-9 and a-z.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from tadisr.io.images import LUMA
from tadisr.io.messages import one_line
from tadisr.io.model_files import check_tensors, load_pickled
from tadisr.models.weights import load_network
from tadisr.weights import BUNDLED

BUNDLED_CRNN = "crnn-tiny"
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
HEIGHT, WIDTH = 32, 100  # pixels of the gray image that CRNN reads


class BidirectionalLSTM(nn.Module):
    """LSTM in both directions and a linear layer: (N, T, inputs) to (N, T, outputs)."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.rnn = nn.LSTM(inputs, hidden, bidirectional=True, batch_first=True)
        self.embedding = nn.Linear(2 * hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embedding(self.rnn(x)[0])


class CRNN(ModelMixin, ConfigMixin):
    """Seven convolutions, two bidirectional LSTMs: logits over characters for each of 26 steps.

    Parameters have the names of the widely used public checkpoint (`load_public_crnn`). Call `eval()` before reading:
    in training mode batch normalisation makes a reading depend on the other images of the batch. `hidden` is the width
    of each LSTM direction; the classes are the blank and the characters.
    """

    config: Any  # diffusers declares a dict, but its items are attributes, too

    @register_to_config
    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 256, 512, 512, 512),
        hidden: int = 256,
        num_classes: int = len(ALPHABET) + 1,
    ):
        super().__init__()
        if len(channels) != 7:
            raise ValueError(f"CRNN has seven convolutions: expected 7 channels, got {list(channels)}.")
        layers = OrderedDict()
        for i, (inputs, outputs) in enumerate(zip((1, *channels), channels, strict=False)):
            layers[f"conv{i}"] = nn.Conv2d(inputs, outputs, 2 if i == 6 else 3, padding=0 if i == 6 else 1)
            if i in (2, 4, 6):
                layers[f"batchnorm{i}"] = nn.BatchNorm2d(outputs)
            layers[f"relu{i}"] = nn.ReLU(inplace=True)
            if i in (0, 1):
                layers[f"pooling{i}"] = nn.MaxPool2d(2)
            if i in (3, 5):  # halve the height only: a column is a step in time
                layers[f"pooling{i // 2 + 1}"] = nn.MaxPool2d(2, stride=(2, 1), padding=(0, 1))
        self.cnn = nn.Sequential(layers)
        self.rnn = nn.Sequential(
            BidirectionalLSTM(channels[-1], hidden, hidden), BidirectionalLSTM(hidden, hidden, num_classes)
        )
        for convolution in (module for module in self.cnn if isinstance(module, nn.Conv2d)):
            weight, bias = convolution.parameters()
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
            nn.init.zeros_(bias)

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """RGB crops (N, 3, H, W) in [0, 1] of any size to CRNN's input (N, 1, 32, 100), differentiably.

        Bicubic without antialiasing and BT.601 gray without mean or deviation, as TATT does it; a crop more than
        twice as high or wide as CRNN's input is antialiased, for plain bicubic would skip pixels.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
            raise ValueError(f"Expected RGB images (N, 3, H, W), N, H and W at least 1, got {tuple(images.shape)}.")
        gray = (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)  # (N, 1, H, W)
        coarse = images.shape[2] > 2 * HEIGHT or images.shape[3] > 2 * WIDTH
        # in float32: on a CPU there is no antialiasing in half precision
        resized = F.interpolate(gray.float(), (HEIGHT, WIDTH), mode="bicubic", align_corners=False, antialias=coarse)
        return resized.to(images.dtype)

    @apply_forward_hook
    def features(self, gray: torch.Tensor) -> list[torch.Tensor]:
        """The maps after each of the seven ReLUs, for `gray` (N, 1, 32, 100) in [0, 1]; the last is (N, C, 1, 26)."""
        if gray.ndim != 4 or gray.shape[1:3] != (1, HEIGHT):
            raise ValueError(f"Expected gray images (N, 1, {HEIGHT}, {WIDTH}), got {tuple(gray.shape)}.")
        maps = []
        for layer in self.cnn:
            gray = layer(gray)
            if isinstance(layer, nn.ReLU):
                maps.append(gray)
        return maps

    @apply_forward_hook
    def classify(self, last: torch.Tensor) -> torch.Tensor:
        """The last of `features`, (N, C, 1, T), to logits (N, T, classes)."""
        return self.rnn(last.squeeze(2).transpose(1, 2))

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """`gray` (N, 1, 32, 100) in [0, 1] to logits (N, 26, classes)."""
        return self.classify(self.features(gray)[-1])

    @staticmethod
    def decode(logits: torch.Tensor) -> list[str]:
        """Greedy CTC of logits or probabilities (N, T, 37): the best class of each step, repeats and blanks dropped."""
        if logits.ndim != 3 or logits.shape[-1] != len(ALPHABET) + 1:
            raise ValueError(
                f"Expected (N, T, {len(ALPHABET) + 1}), the blank and {ALPHABET}, got {tuple(logits.shape)}."
            )
        best = logits.argmax(-1).tolist()
        return ["".join(ALPHABET[step - 1] for step, _ in groupby(steps) if step) for steps in best]

    @torch.no_grad()
    def read(self, images: torch.Tensor) -> list[str]:
        """The text of each RGB crop (N, 3, H, W) in [0, 1], lower case. The model should be in `eval()` mode."""
        return self.decode(self(self.prepare(images)))


def load_crnn(path: str | Path) -> CRNN:
    """A CRNN in eval mode, float32: the bundled "crnn-tiny", a folder, or a file of the public weights.

    FileNotFoundError if none of these is there, ValueError for anything else or a CRNN of another alphabet.
    """
    folder = BUNDLED / BUNDLED_CRNN if str(path) == BUNDLED_CRNN else Path(path)
    if folder.is_file():
        model = load_public_crnn(folder)
    elif (folder / "config.json").is_file():
        model = load_network(CRNN, folder)
    else:
        raise FileNotFoundError(
            f"No CRNN {path}: give {BUNDLED_CRNN}, a folder that training/train_crnn.py wrote, or a file of the public "
            "weights."
        )
    if model.config.num_classes != len(ALPHABET) + 1:
        raise ValueError(
            f"The CRNN in {path} has {model.config.num_classes} classes, of another alphabet than {ALPHABET}."
        )
    return model.eval()


def load_public_crnn(path: str | Path) -> CRNN:
    """A CRNN from a PyTorch checkpoint in the public layout, in eval mode.

    The file holds a state dict (`cnn.conv0.weight`, `cnn.batchnorm2.running_mean`, `rnn.0.rnn.weight_ih_l0`,
    `rnn.0.embedding.weight`, ...), each name possibly after `module.`; widths and classes follow from the shapes. Read
    with `weights_only`, so nothing in it is executed. Any other file is a ValueError.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"No CRNN checkpoint at {path}.")
    state = load_pickled(Path(path))
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} is not a state dict of tensors: save `model.state_dict()`.")
    state = {str(name).removeprefix("module."): value for name, value in state.items()}

    with torch.device("meta"):
        expected = CRNN().state_dict().keys()
    # PyTorch before 0.4.1 wrote the public file and counted no batches; nothing here reads the counts.
    missing = sorted(name for name in expected - state.keys() if not name.endswith("num_batches_tracked"))
    unknown = sorted(state.keys() - expected)
    if missing or unknown:
        problem, names = ("lacks", missing) if missing else ("has unknown", unknown)
        raise ValueError(f"{path} is not in the public CRNN layout: it {problem} {', '.join(names[:5])}.")

    try:
        size: dict[str, Any] = {
            "channels": [state[f"cnn.conv{i}.weight"].shape[0] for i in range(7)],
            "hidden": state["rnn.0.rnn.weight_hh_l0"].shape[-1],
            "num_classes": state["rnn.1.embedding.weight"].shape[0],
        }
        with torch.device("meta"):  # as large as the file's tensors only if they fit together
            wanted = CRNN(**size).state_dict()
        check_tensors(state, {name: wanted[name] for name in state}, path)
    except (IndexError, RuntimeError) as error:
        raise ValueError(f"The shapes in {path} do not fit together as a CRNN: {one_line(error)}") from None
    model = CRNN(**size)
    model.load_state_dict(state, strict=False)
    return model.eval()
