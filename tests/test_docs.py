"""The documents: links lead somewhere, files that they name are there, and quoted messages are still said."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("tadisr", "pipelines", "training", "data_synthesis")
PLACES = (
    "*.md",
    "docs/**/*.md",
    "training/**/*.md",
    "benchmarks/*.md",
    "demo/*.md",
    "integrations/**/*.md",
    "tadisr/weights/**/*.md",
)
DOCUMENTS = sorted(path for place in PLACES for path in ROOT.glob(place))
USERS = [path for path in DOCUMENTS if "log" not in path.parts]  # a log names files as they were
FOLDERS = "tadisr|pipelines|training|data_synthesis|tests|docs|benchmarks|demo|integrations"
NAMED = re.compile(rf"(?<![\w/.\-])((?:{FOLDERS})/[\w./\-]*\w/?)(?![\w*{{<])")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.M)}


@cache
def said() -> list[str]:
    """Every string of the source; NUL stands for what is filled in."""
    found = []
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(re.sub(r"%[ds]", "\0", node.value))
    return found


def is_said(message: str) -> bool:
    """Whether every part between colons and what is filled in stands in a string: messages are put together of some."""
    parts = (part.strip() for part in re.split(r"\.\.\.|: ", message))
    return all(any(part in string for string in said()) for part in parts)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        assert other.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(other), f"{target}: no such heading"


@pytest.mark.parametrize("path", USERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_are_there(path):
    text = path.read_text(encoding="utf-8")
    named = {name for name in NAMED.findall(text) if name != "demo/output" and "NAME" not in name}
    assert not sorted(name for name in named if not (ROOT / name).exists())


def quoted() -> list[str]:
    """The first code of each table row of errors.md, but Python's own messages."""
    rows = re.findall(r"^\| `([^|]+?)`([^|`]*)\|", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), re.M)
    return [message for message, remark in rows if "Python's own" not in remark]


def test_quoted_messages_are_still_said():
    assert len(quoted()) > 80
    assert [message for message in quoted() if not is_said(message)] == []


def test_a_message_that_nobody_says_is_noticed():
    assert is_said("No OCR engine ...: choose one of ....") and not is_said("No OCR engine ...: choose none of ....")
