"""A reader who copies commands out of the documents, into a folder, with a local server for a Hub."""

import os
import subprocess
import sys
from pathlib import Path

from helpers.doc_commands import ROOT
from helpers.hub_server import HubServer

NOWHERE = "http://127.0.0.1:9"
PROGRAMS = {
    "python": "",
    "accelerate": "-m accelerate.commands.accelerate_cli",
    "hf": "-m huggingface_hub.cli.hf",
    "tadisr": "-m tadisr",
}  # of this environment, wherever their scripts lie


class Reader:
    """`run` gives a command to bash, in `folder`; `prelude` is Python that every `tadisr` begins with."""

    def __init__(self, folder: Path, server: HubServer, prelude: str = ""):
        self.folder, self.server = folder, server
        programs = folder.with_name(f"{folder.name}-programs")
        programs.mkdir()
        for name, start in PROGRAMS.items():
            arguments = start
            if name == "tadisr" and prelude:
                (programs / "begin.py").write_text(
                    f"{prelude}\nimport sys\nfrom tadisr import cli\nsys.exit(cli.main())"
                )
                arguments = str(programs / "begin.py")
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
            (programs / name).chmod(0o755)
        self.environment = {
            **os.environ, **server.environment(folder.with_name(f"{folder.name}-home")), "OMP_NUM_THREADS": "1",
            "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "tests"), "CUDA_VISIBLE_DEVICES": "",
            "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "http_proxy": NOWHERE, "https_proxy": NOWHERE,
        }  # fmt: skip

    def run(self, command: str) -> str:
        """What the command said on both streams; an AssertionError where it failed."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, text=True, timeout=600,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
        return done.stdout

    def fetched(self, repo: str) -> set[str]:
        """The files of a repository that were asked for so far."""
        start = f"GET /{repo}/resolve/"
        requests = [request.removeprefix(start) for request in self.server.requests if request.startswith(start)]
        return {request.partition("/")[2] for request in requests}
