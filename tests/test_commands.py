"""Every command of the documents: it can be given as it is written, and its marks say what it needs.

The commands are taken apart by the programs' own parsers: an option, a setting, a configuration or a file that does not
exist is noticed. Of the documents that a training follows, `RUN_BY` says which test runs what.
"""

import argparse
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from helpers.doc_commands import ROOT, Command, commands
from tadisr import cli
from tadisr.data_synthesis.recipe import load_recipe
from tadisr.training.engine.command_line import parse
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.textdiff.line_config import CRNNConfig, TextDiffConfig
from tadisr.training.train_segmenter import SegmenterConfig

PLACES = ("*.md", "docs/*.md", "benchmarks/*.md", "demo/*.md", "training/*.md", "tadisr/weights/*/*.md")
ALL = [
    pytest.param(command, id=f"{path.relative_to(ROOT)}: {command.text}")
    for place in PLACES
    for path in sorted(ROOT.glob(place))
    for command in commands(path)
]
CONFIGS = {
    "train_lora": TrainConfig, "train_textdiff": TextDiffConfig, "train_crnn": CRNNConfig,
    "train_segmenter": SegmenterConfig,
}  # fmt: skip
CONVERTED = {"tadisr-kolors", "tadisr-cogview4"}  # adapters whose base is still to be fetched
EXAMPLES, EMPTY_DISK = "test_worked_examples.py", "training/test_from_an_empty_disk.py"
FOLLOWED = ("README.md", *(f"docs/{name}.md" for name in ("train", "data", "textdiff", "convert", "bases", "cluster")))
RUN_BY = {
    r"pip|git|apt|npm|make|mkdir|cd|tensorboard|(TADISR_SLOW=1 )?pytest": None,  # installs, walks about, looks, tests
    r"tadisr convert|hf download|.*--model tadisr-|.*,tadisr-kolors": "loading/test_official_commands.py",
    r"accelerate .*(segmenter_sam|paper_kolors)|hf auth|python .*paper_kolors|.*lsdir=": EMPTY_DISK,
    r"accelerate .*BASE": "training/test_published_bases.py::test_readmes_command_trains_on_it",
    r"OMP_NUM_THREADS": "training/engine/test_processes.py::test_two_processes_equal_accumulation",
    r"tadisr upscale .*\.(pdf|cbz)": "commands/test_documents.py",
    r"tadisr fix-text": "commands/test_fix_text.py",
    r"tadisr app": "apps/test_page.py",
    r"tadisr plan": "training/restoration/test_plan.py::test_the_command",
    r"python -c": "test_commands.py::test_it_can_be_given",
    r"tadisr upscale .*--backend ray": "commands/test_cluster.py::test_the_same_files",
    r".*--backend ray": "data_synthesis/test_parallel.py::test_ray_gives_the_same",
    r".*realesrgan": "evaluation/test_report.py",  # and evaluation/test_methods.py, for Real-ESRGAN
    r".*scans/": "commands/test_upscale.py",
    r".*letter.jpg": "commands/test_upscale_report.py",
    r"tadisr (synthesize|evaluate|upscale|refine)|.*train_(lora|segmenter|crnn|textdiff)": EXAMPLES,
}  # the first that fits the beginning of a command
FETCHES = {"git", "apt", "pip", "npm", "hf", "make"}
ON_THE_HUB = re.compile(r"(Kwai-Kolors|zai-org|stabilityai|stable-diffusion-v1-5|Tongyi-MAI|facebook|user)/.*")


def program(command: Command) -> str:
    return Path(command.words[0]).name


def settings(words: list[str], script: str) -> object:
    """The settings of a training script, as it would parse them itself."""
    words = [word.replace("NAME", "wo_mask").replace("BASE", "user/base") for word in words]
    words = [str(ROOT / word) if word.endswith(".yaml") else word for word in words]
    if words:
        return parse(words, CONFIGS[script])
    return None  # `train_lora.py ...`: which settings is for the reader to say


def training(command: Command) -> tuple[object, int]:
    """The settings of a training and its number of processes; the command is one."""
    words = command.words
    if program(command) == "accelerate":
        args = launch_command_parser().parse_args(words[2:])
        if args.config_file:
            assert (ROOT / args.config_file).is_file()
        name, rest, processes = args.training_script, args.training_script_args, args.num_processes or 1
        if not args.module:
            assert (ROOT / name).is_file()
            name = Path(name).stem
    else:
        name, rest, processes = words[2], words[3:], 1
    return settings(rest, name.rsplit(".", 1)[-1]), processes


def is_training(command: Command) -> bool:
    return program(command) == "accelerate" or command.words[:2] == ["python", "-m"]


def check_tadisr(words: list[str]) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(cli.COMMANDS[words[0]][0]).register(parser)
    args, extras = parser.parse_known_args(words[1:])
    assert extras == [], f"no options {extras}"
    if config := getattr(args, "config", None):
        assert (ROOT / config).is_file()
    if recipe := getattr(args, "recipe", None):
        load_recipe(recipe)
    if words[0] == "plan":
        parse(["--config", str(ROOT / args.config)], TrainConfig)


def check_pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
        assert set(named.split(",")) <= extras.keys()


def check_pytest(words: list[str]) -> None:
    paths = [ROOT / word for word in words if word.startswith("tests")]
    assert all(path.exists() for path in paths)
    if "-k" in words:
        names = "".join(file.read_text() for path in paths for file in path.rglob("test_*.py"))
        assert re.search(rf"def test_\w*{words[words.index('-k') + 1]}", names)


def check_make(words: list[str]) -> None:
    rules = "".join((ROOT / name).read_text() for name in ("Makefile", "training/tiny/Makefile"))
    assert re.search(rf"^{words[0]}:", rules, re.M)


def check_python(words: list[str]) -> None:
    if words[0] == "-c":
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
        assert Path(done.stdout.strip()).is_dir()
    elif words[0] != "-m":
        done = subprocess.run([sys.executable, ROOT / words[0], "--help"], capture_output=True, text=True, check=True)
        assert [word for word in words if word.startswith("--") and f"{word} " not in done.stdout] == []


def check_hf(words: list[str]) -> None:
    from huggingface_hub.cli.hf import app

    with pytest.raises(SystemExit) as ended:
        app([*(word for word in words if re.fullmatch(r"[a-z]+", word)), "--help"])
    assert ended.value.code == 0


@pytest.mark.parametrize("command", ALL)
def test_it_can_be_given(command):
    words = command.words
    checks = {
        "tadisr": check_tadisr, "pip": check_pip, "pytest": check_pytest, "make": check_make, "python": check_python,
        "hf": check_hf,
    }  # fmt: skip
    if is_training(command):
        training(command)
    elif check := checks.get(program(command)):
        check(words[1:])
    else:
        assert program(command) in ("git", "cp", "ocrmypdf", "npm", "mkdir", "cd", "apt", "python3", "tensorboard")


@pytest.mark.parametrize("command", [param for param in ALL if program(param.values[0]) != "cd"])
def test_its_marks_say_what_it_needs(command):
    words, needs = command.words, set()
    named = [part for word in words for part in (word, *word.split(","))]
    if program(command) in FETCHES or any(ON_THE_HUB.fullmatch(word) for word in named) or "realesrgan" in named:
        needs.add("network")
    if is_training(command):
        config, processes = training(command)
        if getattr(config, "pretrained_model_name_or_path", None):
            needs |= {"network", "GPUs"}
        if processes > 2:
            needs.add("GPUs")
    if "cuda" in words or "--gpus-per-worker" in words or words[-2:] == ["-m", "gpu"]:
        needs.add("GPUs")
    if words[:2] == ["tadisr", "board"] or words[:2] == ["tadisr", "upscale"] and CONVERTED & {*words}:
        needs.add("network")
    assert command.marks == needs


@pytest.mark.parametrize("command", [param for param in ALL if param.id.startswith(FOLLOWED)])
def test_it_is_run_by_a_test(command):
    place = next((place for start, place in RUN_BY.items() if re.match(start, command.text)), "none")
    if place:
        file, _, function = place.partition("::")
        assert f"def {function or 'test_'}" in (ROOT / "tests" / file).read_text()
