"""Make the bundled form of a trained pipeline: half precision, named as it is bundled.

    python training/release.py runs/tiny_reader/weights tadisr/weights/tadisr-tiny [--strength 0.75] \\
        [--text-strength 0.25] [--clear-text-strength 1] [--average DIR ...]

What else lies in the target folder, such as its model card, stays. `--strength` scales what the network adds to the
enlarged input, inside its last layer (TextDiff keeps it as a setting): pages are drawn more regularly than photographs
look, and what is learned on them is a little too sure of itself. `--text-strength` scales it further on text, by the
network's own mask, and `--clear-text-strength` where that is sure of the strokes; TextDiff's `--residual-strength`, a
setting too, scales the diffusion's part in it. `--average` names further pipelines of the same run, or of runs that
went on from it: the mean of their weights is steadier than each.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline
from tadisr.training.data import one_line


def average(pipe: DiffusionPipeline, others: Sequence[Path]) -> None:
    """Give `pipe` the mean of its own weights and those of pipelines of the same architecture, in place.

    Raises:
        ValueError: another architecture.
    """
    pipes = [pipe, *(type(pipe).from_pretrained(other) for other in others)]
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            states = [getattr(one, name).state_dict() for one in pipes]
            shapes = [{key: value.shape for key, value in state.items()} for state in states]
            for other, found in zip(others, shapes[1:], strict=True):
                if found != shapes[0]:
                    raise ValueError(f"{other} has a {name} of another architecture: they have no mean.")
            part.load_state_dict({key: sum(state[key] for state in states) / len(states) for key in states[0]})


def release(
    source: Path,
    target: Path,
    strength: float = 1.0,
    text_strength: float = 1.0,
    clear_text_strength: float | None = None,
    residual_strength: float = 1.0,
    others: Sequence[Path] = (),
) -> None:
    """Write `source`, a whole pipeline, as float16 to `target`, averaged with others.

    Raises:
        FileNotFoundError: there is no whole pipeline in `source`.
        ValueError: a strength for a pipeline that has none of the kind.
    """
    index = source / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{source} holds no whole pipeline: there is no model_index.json.")
    kinds = {kind.__name__: kind for kind in (TADiSRPipeline, TextDiffPipeline)}
    kind = kinds[json.loads(index.read_text(encoding="utf-8"))["_class_name"]]
    pipe = kind.from_pretrained(source)
    average(pipe, others)
    on_text = text_strength, clear_text_strength
    if kind is TextDiffPipeline and on_text == (1, None):
        pipe.register_to_config(strength=strength, residual_strength=residual_strength)
    elif (strength, *on_text, residual_strength) != (1, 1, None, 1):
        if kind is TextDiffPipeline or residual_strength != 1 or not pipe.joint_decoder.config.image_residual:
            raise ValueError(
                f"{source} has no such strength: only pipelines that add to an enlarged input have any, those on "
                "text are TADiSR's, residual_strength is TextDiff's."
            )
        last = pipe.vae.decoder.conv_out
        with torch.no_grad():
            last.weight.mul_(strength)
            last.bias.mul_(strength)
        pipe.joint_decoder.register_to_config(text_strength=text_strength, clear_text_strength=clear_text_strength)
    pipe.to(torch.float16).save_pretrained(target)
    for path in target.rglob("*.json"):  # diffusers notes the folder that it loaded from
        values = json.loads(path.read_text(encoding="utf-8"))
        if "_name_or_path" in values:
            path.write_text(json.dumps(values | {"_name_or_path": target.name}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--text-strength", type=float, default=1.0)
    parser.add_argument("--clear-text-strength", type=float)
    parser.add_argument("--residual-strength", type=float, default=1.0)
    parser.add_argument("--average", type=Path, nargs="+", default=[], metavar="FOLDER", dest="others")
    try:
        release(**vars(parser.parse_args()))
    except (OSError, RuntimeError, ValueError) as error:
        raise SystemExit(one_line(error)) from None
