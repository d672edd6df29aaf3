"""For `mkdocs`: pages that lie outside docs/, links between all of them, and the package as it is installed.

The documents are written for a reader of the repository: a link is relative to its file. In the site it leads to the
page that the file became; a file that is no page is only named.
"""

import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changes.md": "CHANGELOG.md",
    "training.md": "training/README.md",
    "benchmarks.md": "benchmarks/README.md",
    "models/limits.jpg": "tadisr/weights/tadisr-tiny/limits.jpg",
    **{
        f"models/{name}.md": f"tadisr/weights/{name}/README.md"
        for name in ("tadisr-tiny", "textdiff-tiny", "crnn-tiny", "text-segmenter-tiny")
    },
}
"""A page of the site: the file that it is made of, from the repository's root."""
LINK = re.compile(r"(?<!`)\[([^\]]*)\]\(([^)\s]+)\)")


@event_priority(100)  # before mkdocstrings looks for it
def on_config(config: Any) -> None:
    """Lay the package out as it is installed: `pipelines/` and two others are parts of `tadisr`."""
    package = ROOT / "build" / "api" / "tadisr"
    shutil.rmtree(package, ignore_errors=True)
    for folder in ("tadisr", "pipelines", "data_synthesis", "training"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            target = package / path.relative_to(ROOT / folder if folder == "tadisr" else ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for uri, path in OUTSIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links to the pages that files became."""
    uris = {path: uri for uri, path in OUTSIDE.items()} | {f"docs/{file.src_uri}": file.src_uri for file in files}
    here = OUTSIDE.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def lead(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, sign, anchor = target.partition("#")
        if not path or re.match(r"\w+:", path):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        if path not in uris:
            return f"{text} (`{path}`)" if path != text else f"`{path}`"
        return f"[{text}]({posixpath.relpath(uris[path], posixpath.dirname(page.file.src_uri) or '.')}{sign}{anchor})"

    return LINK.sub(lead, markdown)
