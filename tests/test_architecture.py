"""Three floors: `tadisr/`; on it `pipelines/` and `data_synthesis/`; on those `training/`. Imports go down only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tadisr

ROOT = Path(__file__).parent.parent
PIPELINES, SYNTHESIS, TRAINING = "tadisr.pipelines", "tadisr.data_synthesis", "tadisr.training"
# What `from tadisr import NAME` would fetch from above.
FROM_ABOVE = {f"tadisr.{name}" for name in tadisr._HOMES}
FORBIDDEN = {
    "tadisr": {PIPELINES, SYNTHESIS, TRAINING, *FROM_ABOVE},
    "pipelines": {SYNTHESIS, TRAINING},
    "data_synthesis": {PIPELINES, TRAINING, *FROM_ABOVE},
}


def imports(source: str, package: str) -> Iterator[str]:
    """Full names of all that `source`, a module of `package`, imports when it is itself imported."""
    waiting = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{name.name}" for name in node.names)
        waiting += ast.iter_child_nodes(node)


def climbs(source: str, package: str, forbidden: set[str]) -> list[str]:
    """Those of its imports that are forbidden."""
    return [name for name in imports(source, package) if any(f"{name}.".startswith(f"{top}.") for top in forbidden)]


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_down_only(folder):
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    found = {}
    for path in paths:
        parts = path.parent.relative_to(ROOT).parts
        package = ".".join(parts if folder == "tadisr" else ("tadisr", *parts))
        if names := climbs(path.read_text(encoding="utf-8"), package, FORBIDDEN[folder]):
            found[str(path.relative_to(ROOT))] = names
    assert not found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import tadisr.training.engine.loop", True),
        ("from tadisr import pipelines", True),
        ("from tadisr.pipelines import pipeline_tadisr", True),
        ("from tadisr import TADiSRPipeline", True),
        ("from .. import training", True),
        ("from ..pipelines.pipeline_tadisr import TADiSRPipeline", True),
        ("try:\n    import tadisr.data_synthesis\nexcept ImportError: pass", True),
        ("class A:\n    import tadisr.training", True),
        ("def f():\n    import tadisr.training", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tadisr.training", False),
        ("from tadisr.tiling import run_tiled", False),
        ("from tadisr import tiling", False),
        ("import tadisr.pipelines_of_another_kind", False),
        ("MODULE = 'tadisr.training'", False),
    ],
)
def test_the_check_sees(source, found):
    assert bool(climbs(source, "tadisr.models", FORBIDDEN["tadisr"])) == found
