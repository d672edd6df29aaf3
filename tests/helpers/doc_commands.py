"""The commands and snippets of the documents, as a reader would copy them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"\[(network|GPUs)\]")


class Command(NamedTuple):
    """One command of a document, on one line."""

    text: str
    marks: set[str]
    """What the comment behind it says: "network", "GPUs"."""

    @property
    def words(self) -> list[str]:
        """What a shell makes of it, without settings of the environment, and without what stands for anything else."""
        words = shlex.split(self.text)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        return [word for word in words if word != "..."]


def blocks(path: Path, language: str = "sh", section: str = "") -> list[str]:
    """The fenced blocks of a language in a document, or in its section of that heading."""
    text = path.read_text(encoding="utf-8")
    if section:
        _, found, text = text.partition(f"\n## {section}\n")
        assert found, f"{path}: no section {section}"
        text = text.partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(path: Path, section: str = "") -> list[Command]:
    """The shell commands of a document, loops unrolled."""
    found = []
    for block in blocks(path, section=section):
        lines = re.sub(r"\\\n\s*", "", block)
        lines = re.sub(r"^for (\w+) in ([^;]*); do\n(.*?)^done\n", _unrolled, lines, flags=re.M | re.S)
        for line in lines.splitlines():
            code, _, comment = re.match(r"((?:'[^']*'|\"[^\"]*\"|[^#'\"])*)(#?)(.*)", line).groups()
            marks = set(MARK.findall(comment))
            found += [Command(part.strip(), marks) for part in re.split(r"&&|\|\s|\s>\s.*", code) if part.strip()]
    return found


def _unrolled(loop: re.Match) -> str:
    name, values, body = loop.groups()
    return "".join(body.replace(f"${name}", value) for value in values.split())
