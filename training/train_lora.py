"""Train TADiSR (paper 4.1): LoRA on a pretrained base, or a small base from scratch.

    accelerate launch training/train_lora.py --config training/configs/paper_kolors.yaml --output_dir runs/kolors
    accelerate launch training/train_lora.py --config training/configs/tiny.yaml --output_dir runs/tiny

For several processes, add `--config_file training/accelerate/ddp.yaml --num_processes 4` after `launch` (or fsdp.yaml,
or deepspeed.yaml). Interrupt it at any time; `--resume_from_checkpoint latest` goes on from the last checkpoint. Every
setting is documented in `training/restoration/train_config.py`, the whole in `docs/train.md`.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from PIL import Image
from torch import nn

from tadisr.models.network import TADiSRNetwork
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.training.engine.command_line import mistakes_in_one_line, parse
from tadisr.training.engine.loop import fit
from tadisr.training.engine.task import Batch, Task, Terms, Validation
from tadisr.training.restoration.batches import Batches
from tadisr.training.restoration.build import build_network
from tadisr.training.restoration.hub import SHEET_FILE, create_repository, model_card, push
from tadisr.training.restoration.outline import check_settings, check_sides
from tadisr.training.restoration.terms import load_lpips, load_recognizers, loss_terms
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.restoration.validation import Validator


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


_CAST_ALL = (DistributedType.FSDP, DistributedType.DEEPSPEED)  # these halve all weights


class Restoration(Task[TrainConfig]):
    """TADiSR, learning to restore photographs that contain text."""

    network: TADiSRNetwork
    can_be_sharded = validates_together = True

    def __init__(self, config: TrainConfig, accelerator: Accelerator):
        super().__init__(config, accelerator)
        if config.mixed_precision == "fp16" and accelerator.distributed_type in _CAST_ALL:
            raise ValueError(
                "fp16 keeps the VAE in float32, FSDP and DeepSpeed do not: take bf16, or accelerate/ddp.yaml."
            )
        # The base comes last: whatever is wrong with the rest is known before its gigabytes are fetched. Its
        # configuration files, a few kilobytes, come first: they say what settings it can be trained with.
        if config.pretrained_model_name_or_path:
            with accelerator.main_process_first():
                check_settings(config)
        self.repository = create_repository(config) if config.push_to_hub and accelerator.is_main_process else None
        with torch.random.fork_rng(devices=[]):  # a network from scratch begins with the same weights, whatever is here
            self.data = Batches(config, accelerator)
            self.validator = Validator(config, accelerator) if config.validation_data_dir else None
            with accelerator.main_process_first():  # it downloads for all
                self.lpips = load_lpips(config)
            self.recognizer = load_recognizers(config)
        if self.recognizer is not None:
            self.recognizer.to(accelerator.device)
        with accelerator.main_process_first():  # it encodes the prompt, too
            self.network = build_network(config)
        if self.lpips is not None:
            self.lpips.to(accelerator.device)
        check_sides(config, self.network)

    def batches(self, step: int) -> Iterable[Batch]:
        return self.data.start(step)

    def terms(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Terms:
        """The losses of crops (Eq. 7 to 9), and of line strips what the recogniser reads."""
        return loss_terms(network, self.config, batch, batch.get("lines"), self.lpips, self.recognizer)

    def validate(self, network: nn.Module) -> Validation | None:
        return self.validator(network) if self.validator else None

    def running(self) -> AbstractContextManager:
        """Record the text attention. Gradient checkpointing runs the layers again in backward."""
        return self.network.recording()

    def gathered(self) -> AbstractContextManager:
        sharded = self.accelerator.distributed_type is DistributedType.FSDP
        return whole_parameters(self.network) if sharded else nullcontext()

    def save(self, folder: Path) -> None:
        """Write a pipeline, or an adapter on the pretrained base."""
        network, config = self.network, self.config
        backbone: dict[str, Any] = {network.component: network.backbone}
        pipe = TADiSRPipeline(
            vae=network.vae, **backbone, scheduler=network.scheduler,
            prompt=network.prompt, joint_decoder=network.joint_decoder, native_scale=config.scale,
            base_model=config.pretrained_model_name_or_path, base_revision=config.revision,
        )  # fmt: skip
        pipe.save_pretrained(folder)

    def describe(self, folder: Path, step: int, validation: Validation | None) -> None:
        """Write the settings, the sheet and a model card."""
        self.config.save(folder / "train_config.yaml")
        scores, _, sheet = validation or ({}, "", None)
        if sheet is not None:
            Image.fromarray(sheet).save(folder / SHEET_FILE, quality=92)
        card = model_card(self.config, step, scores, sheet is not None, self.accelerator.num_processes)
        (folder / "README.md").write_text(card, encoding="utf-8")

    def finish(self, folder: Path, step: int) -> None:
        if self.repository is not None:
            self.accelerator.print(f"Uploaded: {push(folder, self.repository, step)}")


def main(argv: list[str] | None = None) -> None:
    fit(parse(argv, TrainConfig), Restoration)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
