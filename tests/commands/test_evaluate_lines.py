"""`tadisr evaluate-lines`: methods by name, databases and photographs, reports, mistakes in one line."""

import json
import shutil
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml

from helpers import tiny_textdiff
from helpers.textdiff_runs import databases
from tadisr import cli
from tadisr.evaluation.line_methods import load_line_methods
from tadisr.evaluation.text_lines import bicubic
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "textdiff"
    tiny_textdiff.textdiff().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "crnn"
    torch.manual_seed(0)
    tiny_textdiff.recognizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    return databases(tmp_path_factory.mktemp("lines")) / "validation"


def run(*arguments):
    return cli.main(["evaluate-lines", *map(str, arguments)])


def test_a_table_by_its_config(model, reader, lines, tmp_path, capsys):
    config = tmp_path / "table.yaml"
    methods = [f"five={model}:steps=5", f"one={model}:steps=1", f"coarse={model}:output=coarse",
               f"bicubic+MRD=bicubic:refine={model};steps=2"]  # fmt: skip
    config.write_text(
        yaml.safe_dump({"data": [str(lines)], "judges": [f"crnn:{reader}"], "methods": methods}), encoding="utf-8"
    )
    assert run("--config", config, "-o", tmp_path / "out", "--limit", 2, "--weights", tmp_path) == 0
    printed = capsys.readouterr()
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert list(report["scores"]) == ["bicubic", "five", "one", "coarse", "bicubic+MRD", "HR"]
    assert all(n <= 2 for name, n in report["n"].items() if name != "average")
    assert report["settings"]["methods"] == methods and report["settings"]["limit"] == 2
    values = [report["scores"][name]["average"]["psnr"]["value"] for name in report["scores"] if name != "HR"]
    assert len(set(values)) == 5  # each is another method
    assert (tmp_path / "out" / "report.md").read_text(encoding="utf-8") == printed.out
    assert printed.err.splitlines()[-1] == f"tadisr: report.md and report.json in {tmp_path / 'out'}"


def test_options_override_the_config(model, reader, lines, tmp_path):
    config = tmp_path / "table.yaml"
    config.write_text("data: [nowhere]\njudges: [tesseract]\n", encoding="utf-8")
    arguments = ["--data", lines, "--judges", f"crnn:{reader}", "--methods", f"a={model}", "--limit", 1]
    assert run("--config", config, *arguments, "-o", tmp_path / "out", "--weights", tmp_path) == 0


def test_not_enough_memory_is_one_line(model, reader, lines, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tadisr.evaluation.text_lines.evaluate_lines", Mock(side_effect=MemoryError))
    arguments = ["--data", lines, "--judges", f"crnn:{reader}", "--methods", f"a={model}", "-o", tmp_path / "out"]
    assert run(*arguments, "--weights", tmp_path) == 2
    assert "tadisr: not enough memory: try a smaller --batch-size than 64" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_run_in_the_fastest_precision(model, monkeypatch, dtype):
    monkeypatch.setattr("tadisr.loading.memory.fast_dtype", lambda *_: dtype)
    lr = torch.rand(1, 3, 16, 64, generator=torch.Generator().manual_seed(0))
    pipe = TextDiffPipeline.from_pretrained(model, dtype=dtype)
    wanted = pipe(lr, num_inference_steps=1, output_type="pt").images
    (method,) = load_line_methods([f"a={model}:steps=1"]).values()
    torch.testing.assert_close(method(lr), wanted)


def test_methods_do_what_their_options_say(model, monkeypatch):
    monkeypatch.setattr("tadisr.loading.memory.fast_dtype", lambda *_: torch.float32)
    lr = torch.rand(2, 3, 16, 64, generator=torch.Generator().manual_seed(0))
    specs = [f"a={model}:steps=3", f"b={model}:output=coarse", f"c=bicubic:refine={model};steps=3", "d=tadisr-tiny"]
    methods = load_line_methods(specs)
    made = {name: method(lr) for name, method in methods.items()}
    assert all(image.shape == (2, 3, 32, 128) for image in made.values())
    pipe = tiny_textdiff.textdiff()
    whole = pipe(lr, num_inference_steps=3, output_type="pt")
    torch.testing.assert_close(made["a"], whole.images)
    torch.testing.assert_close(made["b"], whole.coarse_images)
    refined = pipe.refine(bicubic(lr, (32, 128)), num_inference_steps=3, output_type="pt").images
    torch.testing.assert_close(made["c"], refined)
    assert (made["d"] - bicubic(lr, (32, 128))).abs().mean() < 0.1


def test_torchscript_methods(tmp_path):
    class Nearest(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    torch.jit.script(Nearest()).save(str(tmp_path / "nearest.pt"))
    with pytest.raises(ValueError, match="nearest.pt is a TorchScript file, a program .*add --allow-code"):
        load_line_methods([str(tmp_path / "nearest.pt")])
    shutil.copy(tmp_path / "nearest.pt", tmp_path / "nearest.pth")
    with pytest.raises(ValueError, match="nearest.pth is a TorchScript file, a program .*add --allow-code"):
        load_line_methods([str(tmp_path / "nearest.pth")])
    (method,) = load_line_methods([str(tmp_path / "nearest.pt")], allow_code=True).values()
    lr = torch.rand(1, 3, 16, 64)
    assert torch.equal(method(lr)[..., ::2, ::2], lr)


def test_a_judge_that_is_a_program_needs_a_flag(model, lines, tmp_path, capsys):
    class Judge(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 2), 94)

    torch.jit.script(Judge()).save(str(tmp_path / "judge.pt"))
    arguments = ["--data", lines, "--judges", f"aster:{tmp_path / 'judge.pt'}", "--methods", f"a={model}", "--limit", 1]
    arguments += ["-o", tmp_path / "out", "--weights", tmp_path]
    assert run(*arguments) == 2
    assert "judge.pt is a TorchScript file, a program that would run here" in capsys.readouterr().err
    assert run(*arguments, "--allow-code") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--methods": ["a=nowhere/at/all"]}, "No model nowhere/at/all: give tadisr-tiny, textdiff-tiny, a folder"),
        ({"--methods": ["bicubic"]}, "the row bicubic is always there"),
        ({"--methods": ["a=bicubic:refine=tadisr-tiny"]}, "a: refine takes a TextDiff model, not tadisr-tiny."),
        ({"--methods": ["a=tadisr-tiny:output=coarse"]}, "a: only TextDiff models have an output to choose"),
        ({"--methods": ["a=tadisr-tiny:steps=3"]}, "a: tadisr-tiny takes no steps."),
        ({"--methods": ["a=MODEL:steps=many"]}, "steps must be a number, not 'many'."),
        ({"--methods": ["a=MODEL:output=mask"]}, "output must be image or coarse, not 'mask'."),
        ({"--methods": ["a=MODEL:speed=3"]}, "has no option 'speed': there are steps, temperature, strength,"),
        ({"--methods": ["a=MODEL:temperature=2"]}, "temperature must be a number from 0 to 1, not '2'."),
        ({"--methods": ["a=MODEL:strength=x"]}, "strength must be a number from 0 to 1, not 'x'."),
        ({"--methods": ["a=MODEL:strength=1.1"]}, "strength must be a number from 0 to 1, not '1.1'."),
        ({"--methods": ["a=MODEL:strength=1.0;temperature=0.;residual_strength=.5;output=best"]}, "output must be"),
        ({"--methods": ["a=tadisr-tiny:temperature=0.5"]}, "a: tadisr-tiny takes no temperature."),
        ({"--methods": ["a=MODEL", "a=MODEL"]}, "Two methods are called a"),
        ({"--methods": ["a=MODEL:steps=500"]}, "a: steps must be from 1 to 200, not 500."),
        ({"--methods": ["none.pt"]}, "No model file none.pt."),
        ({"--judges": ["ocrad"]}, "No recogniser 'ocrad'"),
        ({"--judges": ["rapidocr", "rapidocr"]}, "Two judges are called rapidocr"),
        ({"--data": ["nowhere"]}, "No LMDB in nowhere"),
        ({"--data": ["LINES", "LINES"]}, "Two sets of lines are called"),
        ({"--seed": ["-1"]}, "--seed must be at least 0, not -1"),
        ({"--limit": ["0"]}, "--limit must be at least 1, not 0"),
        ({"--batch-size": ["0"]}, "--batch-size must be at least 1, not 0"),
        ({"--methods": None}, "no methods: give --methods, or a --config that lists them"),
    ],
)  # fmt: skip
def test_mistakes_in_one_line(change, message, model, reader, lines, tmp_path, capsys):
    options = {"--data": ["LINES"], "--judges": [f"crnn:{reader}"], "--methods": ["a=MODEL"]} | change
    arguments = [part for name, values in options.items() if values is not None for part in (name, *values)]
    arguments = [part.replace("MODEL", str(model)).replace("LINES", str(lines)) for part in arguments]
    assert run(*arguments, "-o", tmp_path / "out", "--weights", tmp_path) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: [", "is not YAML"),
        ("- data", "may hold data, methods, judges; it holds list"),
        ("models: [a]", "may hold data, methods, judges; it holds models"),
        ("allow_code: true", "may hold data, methods, judges; it holds allow_code"),
        ("data: lines", "data must be a list"),
        ("methods: [{crnn: tiny}]", "methods must be a list of texts"),
    ],
)
def test_bad_configs(text, message, tmp_path, capsys):
    (tmp_path / "table.yaml").write_text(text, encoding="utf-8")
    assert run("--config", tmp_path / "table.yaml", "-o", tmp_path) == 2
    assert message in capsys.readouterr().err
    assert run("--config", tmp_path / "none.yaml", "-o", tmp_path) == 2
    assert "none.yaml: No such file" in capsys.readouterr().err


def test_the_tables_of_the_paper_can_be_read():
    from pathlib import Path

    from tadisr.commands.evaluate_lines import LISTS, _read

    files = sorted((Path(__file__).parents[2] / "training" / "configs" / "textdiff" / "tables").glob("*.yaml"))
    assert [file.stem for file in files] == ["table1", "table3", "table4", "table5"]
    for file in files:
        assert set(_read(file)) == set(LISTS)
    assert np.all([len(_read(file)["methods"]) > 1 for file in files])
