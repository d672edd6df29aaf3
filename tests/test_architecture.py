"""The floors of the house: imports go down only, those inside functions too, and in no circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tadisr
from tadisr.weights import BUNDLED

ROOT = Path(__file__).parent.parent
# A part may import from its own floor and from those below.
FLOORS = [
    {"io", "metrics", "weights"},
    {
        "models",
        "runtime",
        "tiling",
        "transparency",
        "arrays",
        "transplant",
        "detail",
        "lettering",
        "text_masks",
        "ocr",
        "datasets",
    },
    {"loading", "trust"},
    {"pipelines"},
    {"data_synthesis", "evaluation"},
    {"training", "commands", "apps", "ray"},
    {"cli", "__main__"},
]
FLOOR_OF = {part: number for number, parts in enumerate(FLOORS) for part in parts}
AT_THE_ROOT = ("pipelines", "data_synthesis", "training")  # folders of the repository, parts of the package
# Imports upwards that are made when a function is called. `load` makes a pipeline, whose class stands above it.
ALLOWED = {
    ("tadisr.loading.load", "tadisr.pipelines"),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "tadisr" else ("tadisr", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, package: str, always: bool = False) -> Iterator[str]:
    """Full names of what `source`, a module of `package`, imports; `always`: without what functions import."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if always and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
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


def home(name: str) -> str:
    """Where `tadisr.NAME`, a public name of the package, is from; any other name as it is."""
    parts = name.split(".")
    return tadisr._MODULES.get(parts[1], name) if parts[0] == "tadisr" and len(parts) == 2 else name


def climbs(source: str, module: str) -> list[str]:
    """What `source`, the module of that name, imports from floors above its own."""
    floor = FLOOR_OF[module.split(".")[1]]
    found = []
    for name in map(home, imports(source, module.rpartition(".")[0])):
        parts = name.split(".")
        above = parts[0] == "tadisr" and len(parts) > 1 and FLOOR_OF.get(parts[1], 0) > floor
        if above and (module, ".".join(parts[:2])) not in ALLOWED:
            found.append(name)
    return found


def product() -> dict[str, Path]:
    """{module: file} of all that is installed."""
    folders = (ROOT / name for name in ("tadisr", *AT_THE_ROOT))
    files = (path for folder in folders for path in sorted(folder.rglob("*.py")))
    # Programs beside weights are for diffusers alone, and no part of the package.
    return {module_of(path): path for path in files if path.parent == BUNDLED or BUNDLED not in path.parents}


def test_every_part_has_a_floor():
    assert {module.split(".")[1] for module in product() if module != "tadisr"} == set(FLOOR_OF)


def test_imports_go_down_only():
    found = {
        module: names
        for module, path in product().items()
        if module != "tadisr" and (names := climbs(path.read_text(encoding="utf-8"), module))
    }
    assert not found


def test_no_circles():
    """Following the imports of a module, those in functions too, nobody comes back to it."""
    modules = product()
    arrows = {}
    for module, path in modules.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        names = {home(name) for name in imports(path.read_text(encoding="utf-8"), package)}
        found = {name if name in modules else name.rpartition(".")[0] for name in names}
        arrows[module] = {
            name for name in found if name in modules and (module, ".".join(name.split(".")[:2])) not in ALLOWED
        }
    arrows["tadisr"] = set()  # its names are fetched when they are asked for
    while leaves := [module for module, below in arrows.items() if not below & arrows.keys()]:
        for leaf in leaves:
            del arrows[leaf]
    assert not arrows


def test_below_models_nothing_imports_torch_at_once():
    parts = {"io", "tiling", "transparency", "arrays", "transplant", "detail", "lettering", "text_masks", "ocr"}
    lowest = [path for module, path in product().items() if parts & set(module.split(".")[1:2])]
    assert len(lowest) > 5
    for path in lowest:
        assert not {"torch", "diffusers", "transformers"} & {
            name.split(".")[0] for name in imports(path.read_text(encoding="utf-8"), "tadisr", always=True)
        }, path


@pytest.mark.parametrize(
    ("source", "module", "found"),
    [
        ("import tadisr.training.engine", "tadisr.models.x", True),
        ("from tadisr import pipelines", "tadisr.models.x", True),
        ("from tadisr.pipelines import pipeline_tadisr", "tadisr.trust.x", True),
        ("from tadisr import TADiSRPipeline", "tadisr.models.x", True),
        ("from tadisr import load", "tadisr.data_synthesis.x", False),
        ("from .. import training", "tadisr.models.x", True),
        ("from ..pipelines.pipeline_tadisr import TADiSRPipeline", "tadisr.models.x", True),
        ("try:\n    import tadisr.data_synthesis\nexcept ImportError: pass", "tadisr.pipelines.x", True),
        ("class A:\n    import tadisr.training", "tadisr.models.x", True),
        ("def f():\n    import tadisr.training", "tadisr.models.x", True),
        ("def f():\n    from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline", "tadisr.loading.load", False),
        ("def f():\n    from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline", "tadisr.loading.memory", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tadisr.training", "tadisr.models.x", False),
        ("from tadisr.tiling import run_tiled", "tadisr.models.x", False),
        ("from tadisr.io import images", "tadisr.training.x", False),
        ("import tadisr.pipelines_of_another_kind", "tadisr.models.x", False),
        ("MODULE = 'tadisr.training'", "tadisr.models.x", False),
    ],
)
def test_the_check_sees(source, module, found):
    assert bool(climbs(source, module)) == found


def test_the_tests_that_are_not_quick_are_there(pytestconfig):
    (plugin,) = (plugin for plugin in pytestconfig.pluginmanager.get_plugins() if hasattr(plugin, "LONG"))
    for place in plugin.LONG:
        file, _, test = place.partition("::")
        found = sorted((ROOT / "tests").glob(f"{file}*"))
        assert found and (not test or f"def {test}" in found[0].read_text(encoding="utf-8")), place
