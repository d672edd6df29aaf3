"""Make the bundled form of a trained pipeline: half precision, named as it is bundled.

    python training/tiny/release.py runs/tiny_reader/weights tadisr/weights/tadisr-tiny [--strength 0.9] \\
        [--fidelity 0.5] [--average DIR ...] [--before DIR --share 0.3]

Other files in the target folder, such as its model card, stay.

--strength scales the network's correction of the enlarged input, inside its last layer (in TextDiff it is a setting).
Drawn pages are more regular than photographs, so a network that learned from them is a little too sure of itself.
--fidelity is the default of the pipeline's dial: how much of the correction text keeps, see `tadisr.models.softening`.
TextDiff's
--residual-strength, also a setting, scales the diffusion's part of the correction. --average names more pipelines of
the same run, or of runs that went on from it: the mean of their weights is steadier than each one's. --before names the
pipeline that a run went on from, and --share how much of the way to its result is taken: a short run on new data may
win what it was for at once, and lose some of what the weights could do before. What is new in the run stays whole.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from tadisr.io.messages import quiet
from tadisr.loading.custom_code import own_index
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline
from tadisr.training.engine.command_line import mistakes_in_one_line

OLDER = {"text_strength": 1.0, "clear_text_strength": None, "coarse_text_strength": None}
"""What the joint decoder's config says where the dial alone decides."""


def average(pipe: DiffusionPipeline, others: Sequence[Path]) -> None:
    """Give `pipe` the mean of its own weights and those of pipelines of the same architecture, in place."""
    pipes = [pipe, *(type(pipe).from_pretrained(other) for other in others)]
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            states = [getattr(one, name).state_dict() for one in pipes]
            shapes = [{key: value.shape for key, value in state.items()} for state in states]
            for other, found in zip(others, shapes[1:], strict=True):
                if found != shapes[0]:
                    raise ValueError(f"{other} has a {name} of another architecture: they have no mean.")
            part.load_state_dict({key: sum(state[key] for state in states) / len(states) for key in states[0]})


def go_part_of_the_way(pipe: DiffusionPipeline, before: Path, share: float) -> None:
    """Give `pipe` the weights between those of `before`, at 0, and its own, at 1, in place; parts that it adds stay."""
    earlier = type(pipe).from_pretrained(before)
    for name, part in pipe.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        own, old = part.state_dict(), getattr(earlier, name).state_dict()
        if any(key not in own or value.shape != own[key].shape for key, value in old.items()):
            raise ValueError(f"{before} has a {name} of another architecture: there is no way between them.")
        part.load_state_dict(own | {key: value + share * (own[key] - value) for key, value in old.items()})


@quiet()  # on casting, diffusers names the modules to be kept in float32, of which there are none
def release(
    source: Path, target: Path, others: Sequence[Path] = (), before: Path | None = None, share: float = 1.0,
    **strengths: float | None,
) -> None:  # fmt: skip
    """Write `source`, a whole pipeline, as float16 to `target`: averaged with `others`, on the way from `before`.

    `strengths` are named as the flags. A strength that is None or not given stays.

    Raises:
        FileNotFoundError: there is no whole pipeline in `source`.
        ValueError: another kind of pipeline; a strength that it does not have, or that cannot be.
    """
    index = source / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{source} holds no whole pipeline: there is no model_index.json.")
    kinds = {kind.__name__: kind for kind in (TADiSRPipeline, TextDiffPipeline)}
    name = own_index(json.loads(index.read_text(encoding="utf-8")))["_class_name"]
    if name not in [*kinds]:
        raise ValueError(f"{source} holds a {name}: only {' and '.join(kinds)} are bundled.")
    pipe = kinds[name].from_pretrained(source)
    average(pipe, others)
    if not 0 <= share <= 1 or (share < 1 and before is None):
        raise ValueError(f"share is a share from 0 to 1 of the way from --before, got {share}.")
    if before is not None:
        go_part_of_the_way(pipe, before, share)
    given = {name: value for name, value in strengths.items() if value is not None}
    if isinstance(pipe, TextDiffPipeline):
        has = {"strength", "residual_strength"}
    else:
        has = {"fidelity", *(["strength"] if pipe.joint_decoder.config.image_residual else [])}
    if wrong := sorted(set(given) - has):
        raise ValueError(
            f"{source} has no {wrong[0]}: only pipelines that add to an enlarged input have a strength; fidelity is "
            "TADiSR's, residual_strength is TextDiff's."
        )
    for name, value in given.items():
        if not 0 <= value <= (2 if name == "strength" else 1):  # undoing a strength takes one above 1
            raise ValueError(f"{name} is a share from 0 to 1, got {value}.")
    if isinstance(pipe, TextDiffPipeline):
        pipe.check_inputs(1, 1, "pt", **given)
        pipe.register_to_config(**given)
    else:
        factor = given.pop("strength", 1.0)
        with torch.no_grad():
            for parameter in pipe.vae.decoder.conv_out.parameters():
                parameter.mul_(factor)
        if given:
            pipe.register_to_config(default_fidelity=given["fidelity"])
            pipe.joint_decoder.register_to_config(**OLDER)
    pipe.to(torch.float16).save_pretrained(target)
    for path in target.rglob("*.json"):  # diffusers notes the folder that it loaded from
        values = json.loads(path.read_text(encoding="utf-8"))
        if "_name_or_path" in values:
            path.write_text(json.dumps(values | {"_name_or_path": target.name}, indent=2) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make the bundled form of a trained pipeline.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    for name in ("strength", "fidelity", "residual_strength"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float)
    parser.add_argument("--before", type=Path, metavar="FOLDER")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--average", type=Path, nargs="+", default=[], metavar="FOLDER", dest="others")
    release(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
