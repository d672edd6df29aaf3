"""The loss terms of one TADiSR batch."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tadisr.io.messages import one_line
from tadisr.io.model_files import check_tensors, load_pickled
from tadisr.metrics.st_lpips import load_st_lpips
from tadisr.models.losses import tadisr_loss
from tadisr.training.recognizer.recognizer_loss import RecognizerLoss
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.restoration.validation import network_input


def load_lpips(config: TrainConfig) -> nn.Module | None:
    """The perceptual distance of Eq. 7 that `config.lpips_net` names; None where its weight is 0.

    Raises:
        FileNotFoundError: the weights are not there and cannot be downloaded. ValueError: a file of another kind.
        ImportError: the package of ST-LPIPS' weights is not installed.
    """
    if not config.lpips:
        return None
    if config.lpips_net != "vgg":
        return load_st_lpips(config.lpips_net.removeprefix("st_"))
    import lpips
    from torchvision.models import vgg16

    file = config.lpips_weights
    if file and not Path(file).is_file():
        raise FileNotFoundError(f"No LPIPS backbone at {file}: give a copy of torchvision's vgg16 weights.")
    try:
        network = lpips.LPIPS(net="vgg", pnet_rand=bool(file), verbose=False)
    except OSError as error:
        raise FileNotFoundError(
            f"LPIPS' VGG weights cannot be downloaded ({error}): set --lpips_weights to a local copy, or "
            "--lpips_net st_vgg, whose weights are a package's."
        ) from None
    if file:
        backbone = vgg16()
        try:
            state = load_pickled(Path(file))
            check_tensors(state, backbone.state_dict(), file)
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{file} is no copy of torchvision's vgg16 weights ({one_line(error, 100)}).") from None
        backbone.load_state_dict(state)
        for part in (getattr(network.net, f"slice{i}") for i in range(1, 6)):
            for name, module in part.named_children():  # named by their index in vgg16().features
                module.load_state_dict(backbone.features[int(name)].state_dict())
    return network.eval().requires_grad_(False)


def load_recognizers(config: TrainConfig) -> RecognizerLoss | None:
    """The recognisers that `config.recognizer` names, for the terms that have a weight; None where it names none.

    Raises:
        FileNotFoundError, ValueError, ImportError: see `load_onnx` and `alphabet`.
    """
    if not config.recognizer:
        return None
    return RecognizerLoss(config.recognizer, ctc=config.recognizer_ctc > 0, features=config.recognizer_features > 0)


def loss_terms(
    network: nn.Module,
    config: TrainConfig,
    batch: dict[str, torch.Tensor],
    lines: dict[str, Any] | None = None,
    lpips: nn.Module | None = None,
    recognizer: RecognizerLoss | None = None,
) -> dict[str, torch.Tensor]:
    """Named, weighted loss terms of a `TADiSRNetwork`, recording.

    A batch of crops holds hr, lr, mask and has_mask, and mask_prompt where the network takes one; `lines`, strips of
    text lines, hold hr, lr, mask, box and text. With a recogniser, each term is the mean of crops and strips.
    """

    def distance(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        assert lpips is not None
        return lpips(image[: config.lpips_crops], target[: config.lpips_crops])

    def losses(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x, prompt = network_input(batch["lr"], config.scale), batch.get("mask_prompt")
        if config.mask_prompt and prompt is None:  # for DDP every weight has a gradient, here of zeros
            prompt = x.new_zeros(len(x), 2, *x.shape[2:])
        image, mask_logits = network(x, prompt)
        mask_logits = mask_logits if config.joint_decoder else None
        target = batch["hr"] * 2 - 1
        compared = None if lpips is None else distance
        return image, tadisr_loss(image, target, mask_logits, batch["mask"], config, compared, batch.get("has_mask"))

    _, terms = losses(batch)
    if recognizer is not None and lines is not None:
        image, line_terms = losses(lines)
        terms = {name: (value + line_terms[name]) / 2 for name, value in terms.items()}
        image, least = image.float(), config.recognizer_strength
        if least < 1:
            start = network_input(lines["lr"], config.scale)
            image = torch.lerp(start, image, least + (1 - least) * float(torch.rand(())))
        reading = recognizer(image, lines["hr"] * 2 - 1, lines["box"], lines["text"])
        weights = {
            "recognizer": config.recognizer_weight,
            "recognizer_ctc": config.recognizer_ctc,
            "recognizer_features": config.recognizer_features,
        }
        terms |= {name: weights[name] * value for name, value in reading.items() if weights[name]}
    return terms
