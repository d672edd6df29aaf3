"""An adapter's repository in plain diffusers."""

from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from tadisr.loading.repositories import complete_snapshot
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.prompt import TextPrompt
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline


class TADiSRAdapterPipeline(DiffusionPipeline):
    """What `DiffusionPipeline.from_pretrained` makes of an adapter: the whole `TADiSRPipeline`, on the adapter's base.

    The work is done by `TADiSRPipeline.from_pretrained`: no instance of this class is ever made. diffusers has loaded
    the adapter's own parts by then, which say where the adapter is, and in which precision and on which device.

    Args:
        joint_decoder: loaded from the adapter.
        prompt: loaded from the adapter, or another one.
        base_model: as in `TADiSRPipeline.from_pretrained`.

    Raises:
        FileNotFoundError, ValueError: as in `TADiSRPipeline.from_pretrained`.
    """

    _optional_components = ["prompt"]

    def __new__(
        cls, joint_decoder: JointSegmentationDecoder, prompt: TextPrompt | None = None, base_model: str | None = None
    ) -> Any:
        given = Path(joint_decoder.config["_name_or_path"]).parent
        if prompt is not None and prompt.config.get("_name_or_path") == str(given / "prompt"):
            prompt = None  # the adapter's own, which is read with all its checks
        pipe = TADiSRPipeline.from_pretrained(
            complete_snapshot(given), dtype=joint_decoder.dtype, prompt=prompt, base_model=base_model
        )
        return pipe.to(joint_decoder.device)

    def __init__(
        self, joint_decoder: JointSegmentationDecoder, prompt: TextPrompt | None = None, base_model: str | None = None
    ):
        """Read by diffusers, not run."""
