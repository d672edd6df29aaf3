"""The command line's entrance: its help, its version, its commands, what a terminal shows."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image
from rich.progress import Progress

import tadisr
from helpers.command_line import QUIET, RUN, child, noise, opened, tree
from helpers.encoded_images import encoded
from tadisr import cli


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help_loads_no_torch(arguments):
    done = child(
        "import sys, atexit\n"
        "from tadisr.cli import main\n"
        "atexit.register(lambda: print('loaded', {'torch', 'diffusers', 'cv2', 'rich'} & set(sys.modules)))\n"
        "main(sys.argv[1:])",
        *arguments,
    )
    assert done.returncode == 0 and done.stderr == ""
    assert "usage: tadisr" in done.stdout and "loaded set()" in done.stdout
    for name in cli.COMMANDS:
        assert len(arguments) > 1 or name in done.stdout


def test_import_loads_no_torch():
    done = child("import tadisr, sys; print(tadisr.__version__, 'torch' in sys.modules)")
    assert done.stdout == f"{tadisr.__version__} False\n"


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(capsys, option):
    with pytest.raises(SystemExit) as caught:
        cli.main([option])
    assert caught.value.code == 0 and capsys.readouterr().out == f"tadisr {tadisr.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "same"), [([], ["--help"]), (["help"], ["--help"]), (["help", "refine"], ["refine", "--help"])]
)
def test_help(capsys, arguments, same):
    said = []
    for given in (arguments, same):
        with pytest.raises(SystemExit) as caught:
            cli.main(given)
        assert caught.value.code == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["upscales"], "no command upscales: did you mean upscale? (see 'tadisr --help')"),
        (["evalute", "--data", "x"], "no command evalute: did you mean evaluate? (see 'tadisr --help')"),
        (["help", "xyz"], "no command xyz (see 'tadisr --help')"),
        (["--bogus"], "no option --bogus (see 'tadisr --help')"),
        (["upscale", "a", "--modle", "x"], "no option --modle: did you mean --model? (see 'tadisr upscale --help')"),
        (
            ["refine", "a", "--bxoes=x"],
            "no option --bxoes=x: did you mean --boxes? (see 'tadisr refine --help')",
        ),
        (["convert", "a", "b", "-o", "c"], "unexpected argument b (see 'tadisr convert --help')"),
        (["upscale", "a", "--dtype", "half"], "(see 'tadisr upscale --help')"),
    ],
)
def test_what_may_have_been_meant(capsys, arguments, message):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("tadisr: ") and err.endswith(f"{message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.pkl", "-o", "new"], "No file missing.pkl."),
        (["a.pkl", "-o", "."], ". exists already: name a new folder."),
        (["a.pkl", "-o", "a.pkl/new"], "cannot write in a.pkl: Not a directory"),
        (["a.pkl", "-o", "new", "--base-model", "nowhere"], "--base-model nowhere: No model nowhere"),
        (["a.pkl", "-o", "new", "--base-model", "base"], "--base-model base: holds no pipeline (model_index.json)"),
    ],
)
def test_convert_sees_mistakes_before_it_loads_torch(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_text("")
    (tmp_path / "base").mkdir()
    monkeypatch.setitem(sys.modules, "tadisr.loading.official", None)
    assert cli.main(["convert", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"tadisr: {message}") and len(err.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("arguments", [["--help"], ["upscale", "--help"], ["--version"]])
def test_nobody_reads_on(arguments):
    closed = "import os\nread, write = os.pipe()\nos.close(read)\nos.dup2(write, 1)\n"
    done = child(closed + RUN, *arguments)
    assert done.stderr == "" and done.returncode in (0, cli.BROKEN_PIPE)  # argparse passes over what it cannot write


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there(name):
    module = import_module(cli.COMMANDS[name][0])
    assert callable(module.register) and callable(module.run)


def test_progress_counts_images_and_tiles_and_tells_the_time_left(run, monkeypatch):
    name = "[bold]odd[1].png"  # rich would read this as markup
    Image.fromarray(noise(40, 30)).save(name)
    Image.fromarray(noise()).save("b.png")
    update = Progress.update

    def update_and_show(self, *arguments, **values):
        update(self, *arguments, **values)
        self.refresh()

    monkeypatch.setattr(Progress, "update", update_and_show)
    monkeypatch.setenv("FORCE_COLOR", "1")  # and so a terminal
    monkeypatch.setenv("COLUMNS", "120")
    code, lines = run(name, "b.png", "-o", "out", "--tile", 80)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", "\n".join(lines))
    assert code == 0
    for part in (r"images .* 0/2 0:00:0\d", r"images .* 1/2 ", r"\[bold\]odd\[1\]\.png .* 5/6 0:00:0\d"):
        assert re.search(part, shown), part
    assert lines[-1].endswith("tadisr: 2 of 2 restored, in out")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_pipe_gets_our_lines_alone(model, tmp_path):
    """No bars, no warnings, no chatter of libraries; a file name that is no text does not matter."""
    Image.fromarray(noise()).save(tmp_path / os.fsdecode(b"odd-\xff.png"))
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff garbage"  # Pillow warns
    (tmp_path / "warned.jpg").write_bytes(encoded("JPEG", exif=exif))
    (tmp_path / os.fsdecode(b"text-\xff.png")).write_text("text")
    done = child(RUN, "upscale", ".", "-o", os.fsdecode(b"out-\xff"), "--model", model, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    lines = [re.sub(r" \d+\.\d s$", "", line) for line in done.stderr.splitlines()]
    assert lines == [
        "tadisr: text-\\udcff.png is empty, damaged, or no image known here: check it or convert it to PNG",
        "tadisr: 1 of 2: odd-\\udcff.png: restored in",
        "tadisr: 2 of 2: warned.jpg: restored in",
        "tadisr: 2 of 3 restored, in out-\\udcff",
    ]
    assert len(tree(tmp_path / os.fsdecode(b"out-\xff"))) == 4


def test_ctrl_c_leaves_whole_files_and_skip_existing_goes_on(run, model):
    count = 60
    Path("in").mkdir()
    for i in range(count):
        Image.fromarray(noise(64, 64, seed=i)).save(f"in/{i:02d}.png")
    command = [sys.executable, "-c", RUN, "upscale", "in", "-o", "out", "--model", model]
    process = subprocess.Popen(command, env={**os.environ, **QUIET}, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(Path(".").glob("out/??.png")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    lines = [line for line in process.communicate(timeout=60)[1].splitlines() if "restored in" not in line]
    done = [path for path in tree("out") if not path.endswith("_mask.png")]
    assert process.returncode == 130 and 0 < len(done) < count
    counts = re.fullmatch(
        rf"tadisr: (\d+) of {count} restored.*; (\d+) left: the same command with --skip-existing goes on", lines[0]
    )
    # the signal may come between the last write and the count
    assert int(counts[1]) + int(counts[2]) == count and len(done) - int(counts[1]) in (0, 1)
    assert lines[1:] == ["tadisr: interrupted"]
    before = {name: os.stat(f"out/{name}").st_ino for name in done}
    for name in tree("out"):
        whole = opened(f"out/{name}", "L" if name.endswith("_mask.png") else "RGB")
        assert name.endswith(".png") and whole.shape[:2] == (256, 256)

    rest = count - len(done)
    code, lines = run("in", "-o", "out", "--skip-existing")
    assert (code, lines[-1]) == (0, f"tadisr: {rest} of {rest} restored, in out")
    assert len(tree("out")) == 2 * count
    assert {name: os.stat(f"out/{name}").st_ino for name in done} == before
