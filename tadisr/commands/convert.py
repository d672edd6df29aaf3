"""`tadisr convert`: a checkpoint that the authors of TADiSR released, as an adapter for this package."""

import argparse
from pathlib import Path

from tadisr.commands.options import check_folder, find_base
from tadisr.io.messages import UserError, one_line, quiet, say


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add(
        "checkpoint",
        metavar="CHECKPOINT",
        type=Path,
        help="tadisr_kolors_ftsr_526000.pkl or tadisr_cogview4_realce_17500.pkl; nothing in it is executed",
    )
    add("-o", "--output", metavar="DIR", type=Path, required=True, help="new folder for the adapter")
    add(
        "--base-model",
        metavar="BASE",
        help="folder or Hub id of the base pipeline, to be named by the adapter; its text encoder makes the embeddings "
        "of the prompt, which the adapter needs to run (default: the authors' base is named, and none are made)",
    )
    add("--push-to-hub", metavar="ID", help="also upload the adapter to this Hub repository")


def run(args: argparse.Namespace) -> int:
    """Convert the checkpoint; 0 when the adapter is written, and uploaded where asked for."""
    if args.push_to_hub and args.base_model and Path(args.base_model).exists():
        raise UserError("--push-to-hub: others cannot load a base from your folder: give --base-model its Hub id")
    if not args.checkpoint.is_file():
        raise UserError(f"No file {args.checkpoint}.")
    if args.output.is_file() or (args.output.is_dir() and any(args.output.iterdir())):
        raise UserError(f"{args.output} exists already: name a new folder.")
    check_folder(args.output.parent)
    if args.base_model is not None:
        find_base(args.base_model)
    repository = None
    if args.push_to_hub:
        from tadisr.loading.hub import writable_repository

        try:
            repository = writable_repository(args.push_to_hub)
        except ValueError as error:
            raise UserError(f"--push-to-hub: {error}") from None
    from tadisr.loading.official import convert  # and torch

    try:
        with quiet():
            done = convert(args.checkpoint, args.output, args.base_model, name=args.push_to_hub)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(one_line(error)) from None
    file = done.release.file
    if done.released:
        say(f"{args.checkpoint} is the released file {file}")
    else:
        say(f"warning: {args.checkpoint} is not the released file {file}: its layout fits, its bytes differ")
    say(f"{args.output}: adapter for {done.base_model}")
    if not done.has_prompt:
        say(f"it needs the prompt's embeddings to run: convert with --base-model {done.base_model}, or a copy")
    if repository is not None:
        from huggingface_hub import upload_folder

        try:
            upload_folder(repo_id=repository, folder_path=args.output)
        except Exception as error:  # of the network or the Hub
            said = f"{one_line(error)} ({args.output} is written all the same)"
            raise UserError(f"--push-to-hub: {said}") from None
        say(f"uploaded to {repository}")
    return 0
