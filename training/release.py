"""Make the bundled form of a trained pipeline: half precision, named as it is bundled.

    python training/release.py runs/tiny_reader/weights tadisr/weights/tadisr-tiny [--strength 0.75]

What else lies in the target folder, such as its model card, stays. `--strength` scales what the network adds to the
enlarged input, inside its last layer: pages are drawn more regularly than photographs look, and what is learned on them
is a little too sure of itself.
"""

import argparse
import json
from pathlib import Path

import torch
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline


def release(source: Path, target: Path, strength: float = 1.0) -> None:
    """Write `source`, a whole pipeline, as float16 to `target`.

    Raises:
        FileNotFoundError: there is no whole pipeline in `source`.
        ValueError: a strength for a pipeline whose output is not added to its input.
    """
    index = source / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{source} holds no whole pipeline: there is no model_index.json.")
    kinds = {kind.__name__: kind for kind in (TADiSRPipeline, TextDiffPipeline)}
    kind = kinds[json.loads(index.read_text(encoding="utf-8"))["_class_name"]]
    pipe = kind.from_pretrained(source)
    if strength != 1:
        if kind is not TADiSRPipeline or not pipe.joint_decoder.config.image_residual:
            raise ValueError(f"{source} adds nothing to an enlarged input: it has no strength to change.")
        last = pipe.vae.decoder.conv_out
        with torch.no_grad():
            last.weight.mul_(strength)
            last.bias.mul_(strength)
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
    arguments = parser.parse_args()
    release(arguments.source, arguments.target, arguments.strength)
