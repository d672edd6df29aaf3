"""Check the types of all that is installed (`make style` runs this): pyright's basic rules, by basedpyright.

The folders pipelines/, training/ and data_synthesis/ are parts of the package `tadisr` only once it is installed, and a
type checker reads no such mapping. So it reads a copy of them, laid out as installed.

A part without a limit has no errors. A limit only goes down: with fewer errors than it says, lower it.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
AT_THE_ROOT = ("pipelines", "training", "data_synthesis")
LIMITS = {"training": 20}
SETTINGS = {
    "include": ["tadisr"],
    "extraPaths": ["."],
    "typeCheckingMode": "basic",
    "reportPrivateImportUsage": False,  # diffusers' public names are made when they are asked for
}


def errors_by_part(folder: Path) -> dict[str, list[str]]:
    """What is wrong in each part, as FILE:LINE: MESSAGE."""
    python = Path(sys.executable)
    command = [python.with_name("basedpyright"), "-p", folder, "--pythonpath", python, "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        raise SystemExit(f"basedpyright did not run: {done.stderr}")
    found = defaultdict(list)
    for item in json.loads(done.stdout)["generalDiagnostics"]:
        if item["severity"] == "error":
            file = Path(item["file"]).resolve().relative_to(folder.resolve())
            part = file.parts[1]
            file = Path(*file.parts[1:]) if part in AT_THE_ROOT else file
            line, message = item["range"]["start"]["line"] + 1, item["message"].splitlines()[0]
            found[part].append(f"{file}:{line}: {message}")
    return found


def main() -> int:
    ignore = shutil.ignore_patterns("weights", "__pycache__")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "tadisr", folder / "tadisr", ignore=ignore)
        shutil.copytree(
            ROOT / "tadisr" / "weights", folder / "tadisr" / "weights", ignore=shutil.ignore_patterns("*-*")
        )
        for part in AT_THE_ROOT:
            shutil.copytree(ROOT / part, folder / "tadisr" / part, ignore=ignore)
        (folder / "pyrightconfig.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
        found = errors_by_part(folder)
    wrong = False
    for part in sorted({*found, *LIMITS}):
        count, limit = len(found[part]), LIMITS.get(part, 0)
        if count > limit:
            wrong = True
            print("\n".join(found[part]))
        if count != limit:
            print(f"{part}: {count} errors of types, and the limit is {limit}{': lower it' if count < limit else ''}")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
