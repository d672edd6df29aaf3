import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Tests that train, start processes, or take a model's whole way again and again, by the beginnings of their names.
# `make test-quick` leaves them out; with `--durations 10` it shows what should join them.
LONG = (
    "apps/",
    "benchmarks/test_gpu_quarter_hour.py",
    "commands/test_cli.py::test_a_pipe_gets_our_lines_alone",
    "commands/test_cli.py::test_ctrl_c_leaves_whole_files",
    "commands/test_export.py",
    "data_synthesis/judging/test_judge.py",
    "data_synthesis/judging/test_segment.py::test_from_the_hub",
    "data_synthesis/judging/test_segment.py::test_learns_one_picture",
    "data_synthesis/test_parallel.py",
    "data_synthesis/test_rendered_lines.py::test_export_is_read_back",
    "data_synthesis/text/test_effects.py::test_masks_are_the_coverage",
    "data_synthesis/writing/",
    "datasets/test_line_items.py::test_data_workers",
    "datasets/test_textzoom.py::test_a_full_disk",
    "evaluation/test_methods.py",
    "evaluation/test_pairs.py::test_what_synthesize_writes",
    "evaluation/test_report.py",
    "fuzz/",
    "golden/",
    "loading/test_custom_code.py::test_without_the_package",
    "loading/test_hostile.py",
    "loading/test_hub.py",
    "loading/test_low_memory.py",
    "loading/test_official.py",
    "loading/test_official_commands.py",
    "loading/test_tensors.py",
    "models/test_inference_layers.py",
    "pipelines/test_precision.py",
    "pipelines/test_sharing.py",
    "runtime/test_export.py",
    "training/engine/test_adamw_8bit.py",
    "training/engine/test_processes.py",
    "training/engine/test_resume.py",
    "training/restoration/test_build.py",
    "training/restoration/test_report.py",
    "training/test_from_an_empty_disk.py",
    "training/test_published_bases.py",
    "test_worked_examples.py",
    "training/test_train_",
    "training/tiny/",
    "web/",
)

# Tests of programs that give up where a machine is too busy: Ray, and Chromium. They are run again if they fail.
BUSY = (
    "apps/test_page",
    "commands/test_cluster.py",
    "data_synthesis/test_parallel.py::test_ray",
    "data_synthesis/writing/test_synthesize.py::test_ray",
    "evaluation/test_html_browser.py",
    "test_ray.py",
    "web/",
)

# The tests run side by side: a thread per core in each of them would only make them wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


with suppress(ImportError):  # not in PaddleOCR's environment
    from hypothesis import settings

    settings.register_profile("same", derandomize=True, deadline=None)
    settings.load_profile("same")

_terminal = None


def pytest_configure(config):
    """GPUs have their own tests, `-m gpu`: the others compare to the bit, which only a CPU's arithmetic allows."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if source := os.environ.get("DIFFUSERS_SOURCE"):  # its tests have marks of their own: test_diffusers_mixin.py
        files = [path.read_text(encoding="utf-8") for path in Path(source, "tests").rglob("*.py")]
        for mark in set(re.findall(r"pytest\.mark\.(\w+)", "".join(files))):
            config.addinivalue_line("markers", f"{mark}: of diffusers' own tests")
    global _terminal
    _terminal = config.pluginmanager.get_plugin("terminalreporter")  # None in xdist's workers


def pytest_collection_modifyitems(items):
    """Mark the tests that `make test-quick` leaves out, and begin with them: then no process waits for the last."""
    long, busy = (tuple(str(HERE / place) for place in places) for places in (LONG, BUSY))
    for item in items:
        name = f"{item.path}::{item.name}"  # a test in a class is known by its file
        if name.startswith(long):
            item.add_marker("long")
        if name.startswith(busy):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=2))
    last = {item.path for item in items} - {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path in last)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    """Name a failure at once, not only at the end."""
    if report.failed and _terminal is not None:
        reason = getattr(getattr(report.longrepr, "reprcrash", None), "message", "")
        _terminal.write_line(f"\nFAILED {report.nodeid}: {reason.partition(chr(10))[0]}", red=True)


@pytest.fixture(autouse=True)
def denormal_numbers():
    """Training has its process flush them, and the next test may need them."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session", params=["sd", "sdxl", "kolors"])
def base(request, tmp_path_factory):
    """A base pipeline of each family; shared, so copy what you change."""
    from helpers import tiny  # slow: other tests need no diffusers

    return tiny.FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


# A shell's background jobs ignore Ctrl-C, and so would the processes that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
