"""`tadisr app`: a web page of one's own, or the files of a Hugging Face Space that shows it."""

import argparse
from pathlib import Path

from tadisr.commands.options import check_folder
from tadisr.io.images import ImageError, write_file
from tadisr.io.messages import UserError, one_line, say
from tadisr.weights import BUNDLED

PORT = 7860
APP = """\"""The page of tadisr, as a Hugging Face Space.\"""

from tadisr.apps.page import Page, launch

launch(Page({model!r}), host="0.0.0.0").block_thread()
"""
README = """---
title: Sharper text in pictures
emoji: 🔎
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {gradio}
app_file: app.py
license: apache-2.0
models: {models}
---

Text-aware super-resolution: a blurred photo with text in, a sharp, legible, faithful one and its text mask out.
"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--port", type=int, help=f"of the page's address (default: {PORT}, or the next that is free)")
    add("--model", default="tadisr-tiny", help="bundled name, folder or Hub id (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda, mps, ... (default: the fastest here)")
    add("--runtime", default="auto", choices=["auto", "torch", "onnx"], help="(default: onnx on CPUs)")
    add("--share", action="store_true", help="also by a public address, through Gradio's servers: anybody can use it")
    add("--export-space", metavar="DIR", type=Path, help="write the files of a Hugging Face Space instead")


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, or write a Space's files; 0 in both cases."""
    if args.port is not None and not 1 <= args.port <= 65535:
        raise UserError(f"--port must be from 1 to 65535, not {args.port}")
    try:
        from tadisr.apps import page
    except ImportError as error:
        raise UserError(str(error)) from None
    if args.export_space is not None:
        return _export(args.export_space, args.model)
    shown = page.Page(args.model, args.device, args.runtime)
    try:
        _ = shown.restorer  # what is wrong with the model is known before there is a page
    except Exception as error:  # an incomplete, damaged or foreign model raises nearly anything
        raise UserError(f"cannot load {args.model}: {one_line(error)}") from None
    try:
        served = page.launch(shown, args.port, share=args.share)
    except OSError:
        raise UserError(f"port {args.port or PORT} is taken: name another with --port") from None
    public = f", and for everybody {served.share_url}" if args.share and served.share_url else ""
    say(f"the page is at {served.local_url}{public}; Ctrl-C ends it")
    served.block_thread()
    return 0


def _export(folder: Path, model: str) -> int:
    """Write app.py, README.md and requirements.txt."""
    import gradio

    bundled = (BUNDLED / model).is_dir()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is no empty folder: name a new one")
    if not bundled and Path(model).exists():
        raise UserError(f"a Space has no {model}: push the model to the Hub, and name it as it is called there")
    check_folder(folder)
    extras = "app,documents,ocr" if bundled else "app,documents,ocr,torch"
    on_hub = "[]" if bundled else f"[{model}]"
    files = {
        "app.py": APP.format(model=model),
        "README.md": README.format(gradio=gradio.__version__, models=on_hub),
        "requirements.txt": f"tadisr[{extras}]\n",
    }
    try:
        for name, text in files.items():
            write_file(folder / name, text)
    except ImageError as error:
        raise UserError(str(error)) from None
    say(f"{folder}: a Space's files; put tadisr's own wheel or address into requirements.txt where PyPI has it not")
    return 0
