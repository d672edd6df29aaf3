"""Targets that run a network: model folders, and whole commands on toy models."""

import argparse
import contextlib
import io
import json
import os
import shutil
from importlib import import_module
from pathlib import Path
from random import Random

import numpy as np
import torch
from fuzz.mutate import damaged, damaged_tensors, damaged_text
from fuzz.pictures import drawn, picture_files
from fuzz.targets import Case, one_line
from PIL import Image

import tadisr
from helpers import tiny, tiny_textdiff
from tadisr import TextDiffPipeline, cli
from tadisr.datasets.textzoom import Line, write_textzoom
from tadisr.io.images import encode_png, read_image
from tadisr.weights import BUNDLED

STEMS = ("a", "a b", "\u00e9", "x\ny", "-o", "\u202eb", "*", "a" * 200, "[z]", "..")
OUTPUTS = ("out", "out", "out", "out", "out/o.png", "o.jpg", "o.webp", "o.tif", "in", ".", "boxes.json")
VALUES = ("0", "-1", "1", "2", "2", "3", "2.5", "0.5", "64", "64", "1e9", "nan", "auto", "none", "", "in", "png")
KINDS = ["upscale"] * 8 + ["refine"] * 3 + ["evaluate", "evaluate", "evaluate-lines", "convert", "synthesize"]
LEFT_OUT = {"--help", "-h", "--push-to-hub", "--model", "--base-model", "--config", "--num", "--device"}
"""Flags that end the program, reach out, or make a case take minutes."""


def toy_models(samples: Path) -> dict[str, Path]:
    """A TADiSR pipeline, a TextDiff pipeline, and an adapter beside its base, all of toy size."""
    torch.set_num_threads(1)
    folders = {name: samples / name for name in ("lean", "textdiff", "base", "adapter")}
    base = tiny.sd(samples)
    pipes = (tiny.lean(), tiny_textdiff.textdiff(), base, tiny.on_base(base, base_model="../base"))
    for folder, pipe in zip(folders.values(), pipes, strict=True):
        pipe.save_pretrained(folder)
    return folders


def models(samples: Path) -> Case:
    """Model folders of which one file is damaged: a model that restores, or one line."""
    folders = toy_models(samples)
    image, line = drawn(Random(0), 8, 8), Image.fromarray(drawn(Random(0), 16, 64))

    def case(seed: int, folder: Path) -> None:
        chance = Random(seed)
        name = chance.choice(["lean", "lean", "textdiff", "adapter", "adapter"])
        shutil.copytree(folders[name], place := folder / name)
        files = sorted(path for path in place.rglob("*") if path.suffix in (".json", ".safetensors"))
        path, kind = chance.choice(files), chance.randrange(12)
        data = path.read_bytes()
        if kind == 0:
            path.unlink()
        elif kind == 1:
            path.write_bytes(chance.choice(files).read_bytes())
        else:
            change = damaged_tensors if path.suffix == ".safetensors" else damaged_text
            path.write_bytes(change(data, chance))
        with one_line(FloatingPointError):  # of finite weights that are too large
            if name == "textdiff":
                pipe = TextDiffPipeline.from_pretrained(place)
                assert np.isfinite(pipe(line, num_inference_steps=1, output_type="np").images[0]).all()
            else:
                base = {"base_model": str(folders["base"])} if name == "adapter" else {}
                restored = tadisr.load(place, "cpu", **base).restore(image).image
                assert restored.dtype == np.uint8 and restored.shape[2] == 3
        left, _ = torch.get_default_dtype(), torch.set_default_dtype(torch.float32)
        assert left == torch.float32, "a failed load left the default type of new tensors changed"

    return case


def commands(samples: Path) -> Case:
    """Whole commands: an exit code that is documented, one line for each thing said, outputs that can be read."""
    folders, files = toy_models(samples), picture_files()
    write_textzoom(
        samples / "lines", [Line(drawn(Random(i), 16, 64), drawn(Random(i), 32, 128), "a") for i in (1, 2)], 2
    )
    judge = f"crnn:{BUNDLED / 'crnn-tiny'}"
    actions = {kind: _actions(kind) for kind in dict.fromkeys(KINDS)}

    def case(seed: int, folder: Path) -> None:
        chance = Random(seed)
        os.chdir(folder)
        Path("in/sub").mkdir(parents=True)
        names = []
        for i in range(chance.choice([1, 1, 2, 3])):
            suffix, data = chance.choice(files)
            names.append(f"{chance.choice(['in', 'in', 'in/sub'])}/{chance.choice(STEMS)}{i}{suffix}")
            Path(names[-1]).write_bytes(damaged(data, chance) if chance.random() < 0.3 else data)
        boxes = b'[{"quad": [[0, 0], [4, 0], [4, 3], [0, 3]]}]'
        Path("boxes.json").write_bytes(damaged_text(boxes, chance) if chance.random() < 0.3 else boxes)
        for name, side in (("hr", 32), ("lr", 8)):
            Path("pairs", name).mkdir(parents=True)
            data = encode_png(drawn(chance, side, side))
            Path("pairs", name, "a.png").write_bytes(damaged(data, chance) if chance.random() < 0.2 else data)
        kind, lean, line_set = chance.choice(KINDS), str(folders["lean"]), str(samples / "lines")
        argv = [kind, "-o", chance.choice([*OUTPUTS, names[0]])]
        argv += {
            "upscale": [*chance.choice([["in"], names, names, ["in/**"]]), "--model", lean],
            "refine": [names[0], "--boxes", "boxes.json", "--model", str(folders["textdiff"])],
            "evaluate": [
                "--data",
                chance.choice(["in", *["pairs"] * 4]),
                "--methods",
                chance.choice(["bicubic", lean]),
            ],
            "evaluate-lines": ["--data", line_set, "--methods", str(folders["textdiff"]), "--judges", judge],
            "convert": [names[0]],
            "synthesize": ["--num", chance.choice(["0", "-1", "x"])],  # only mistakes: making data takes long
        }[kind]
        argv += ["--device", "cpu"] if kind in ("upscale", "refine", "evaluate", "evaluate-lines") else []
        for action in chance.choices(actions[kind], k=chance.choice([0, 0, 0, 1, 1, 2])):
            argv += [chance.choice(action.option_strings), *([] if action.nargs == 0 else [_value(action, chance)])]
        Path("argv.json").write_text(json.dumps(argv))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said := io.StringIO()):
            code = cli.main(argv)
        lines = said.getvalue().splitlines()
        assert code in (0, 1, 2), code
        assert all(line.startswith("tadisr: ") and "Traceback" not in line for line in lines), lines
        assert code == 0 or lines, "a failure without a word"
        assert not list(folder.rglob(".*.part"))
        for path in Path("out").rglob("*.png") if (kind, code) == ("upscale", 0) else ():
            read_image(path)

    return case


def _actions(command: str) -> list[argparse.Action]:
    import_module(cli.COMMANDS[command][0]).register(parser := argparse.ArgumentParser())
    return [action for action in parser._actions if action.option_strings and not LEFT_OUT & set(action.option_strings)]


def _value(action: argparse.Action, chance: Random) -> str:
    """Mostly one that the option takes."""
    if action.choices and chance.random() < 0.9:
        return str(chance.choice(list(action.choices)))
    numbers = [value for value in VALUES if value.replace(".", "", action.type is float).isdecimal()]
    return chance.choice(numbers if action.type in (int, float) and chance.random() < 0.8 else VALUES)
