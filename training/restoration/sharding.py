"""Weights that FSDP deals out, made whole for saving."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from tadisr.models.network import TADiSRNetwork


@contextmanager
def whole_parameters(network: TADiSRNetwork) -> Iterator[None]:
    """Within, the saved weights of a network that FSDP2 shards are whole, in every process; called by all of them.

    The shards of a frozen base stay where they are: nobody saves them.
    """
    from torch.distributed.fsdp import FSDPModule  # PyTorch 2.6
    from torch.distributed.tensor import DTensor

    sharded = [(module, type(module)) for module in network.modules() if isinstance(module, FSDPModule)]
    for module, cls in sharded:
        module.reshard()  # after a forward pass some weights are still gathered, in storage that is not theirs
        module.__class__ = cls.__bases__[1]  # the class before FSDP2: FSDP's own would meddle with every `.to`
    replaced: list[tuple[nn.Module, str, nn.Parameter]] = []
    for part in (network.vae, network.backbone, network.prompt, network.joint_decoder):
        frozen_too = part is network.prompt or part is network.joint_decoder
        for module in part.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(parameter, DTensor) and (frozen_too or parameter.requires_grad):
                    replaced.append((module, name, parameter))
    for module, name, parameter in replaced:
        whole = nn.Parameter(parameter.detach().full_tensor().cpu(), requires_grad=parameter.requires_grad)
        module._parameters[name] = whole
    try:
        yield
    finally:
        for module, name, parameter in replaced:
            module._parameters[name] = parameter
        for module, cls in sharded:
            module.__class__ = cls
