"""`tadisr fix-text`: another program's enlargement in, the same with legible text out."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from tadisr.commands.options import OVERLAP, check_folder, enough_memory, find_graph, find_model, load_restorer
from tadisr.io.images import ImageError, check_writable, read_image, write_image
from tadisr.io.messages import UserError, say
from tadisr.io.names import DEFAULT_FOLDER, output_paths
from tadisr.transplant import transplant

LEAST, MOST = 1.0, 16.0  # how many times as large as the LR image an enlargement can be


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("small", metavar="LR", type=Path, help="the image before it was enlarged")
    add("large", metavar="SR", type=Path, help="the same, enlarged by another program")
    add("-o", "--output", metavar="OUT", help="file or folder (default: tadisr-output/NAME_fixed.png)")
    add("--model", default="tadisr-tiny", help="bundled name, folder or Hub id (default: %(default)s)")
    add("--revision", help="revision of a Hub model")
    add("--base-model", metavar="BASE", help="an adapter's base, where the one it names is not here")
    add("--fidelity", type=float, metavar="0..1", help="of text: 0 faithful and soft, 1 sharp (default: the model's)")
    add("--quality", type=int, metavar="1..100", help="of jpg (default: 95), avif (90) and webp (lossless)")
    add("--runtime", default="auto", choices=["auto", "torch", "onnx"], help="(default: onnx on CPUs)")
    add("--device", default="auto", help="cpu, cuda, mps, ... (default: the fastest here)")
    add("--dtype", default="auto", choices=["auto", "int8", "float32", "float16", "bfloat16"])


def run(args: argparse.Namespace) -> int:
    """Write the enlargement with the text of ours; 0 when it is written."""
    if args.fidelity is not None and not 0 <= args.fidelity <= 1:
        raise UserError(f"--fidelity must be from 0 to 1, not {args.fidelity:g}")
    if args.quality is not None and not 1 <= args.quality <= 100:
        raise UserError(f"--quality must be from 1 to 100, not {args.quality}")
    try:
        lr, sr = read_image(args.small), read_image(args.large)
        place = args.output or DEFAULT_FOLDER / f"{args.large.stem}_fixed.png"
        output = output_paths([args.large], place)[0].image
        (height, width), size = lr.rgb.shape[:2], sr.rgb.shape[:2]
        check_writable(output, *size)
        check_folder(output.parent)
        if output.exists() and output.samefile(args.small):
            raise UserError(f"{output} would replace the input {args.small}: name another output")
        factor = size[1] / width
        if not LEAST <= factor <= MOST or abs(size[0] - factor * height) > max(1.0, factor):
            raise UserError(
                f"{args.large} ({size[1]} x {size[0]}) is no enlargement of {args.small} ({width} x {height}): "
                "give the image before and after, uncropped"
            )
        found = find_graph(args) or find_model(args.model, "TADiSRPipeline", args.revision)
        restorer = load_restorer(args, found)
        with enough_memory(args.small, "crop or shrink the images"):
            restored = restorer.restore(lr.rgb, scale=factor, tile="auto", overlap=OVERLAP, fidelity=args.fidelity)
            ours, mask = restored.image, restored.mask
            assert mask is not None  # a TADiSR model always gives one
            if mask.shape != size:  # by a pixel: programs round
                ours, mask = (np.asarray(Image.fromarray(x).resize(size[::-1])) for x in (ours, mask))
            fixed = transplant(sr.rgb, ours, mask, (height, width))
        share = float((fixed != sr.rgb).any(2).mean())
        write_image(output, sr.layers(fixed)[0], sr.alpha, sr.metadata, args.quality)
    except (ImageError, FloatingPointError) as error:
        raise UserError(str(error)) from None
    for path, loaded in ((args.small, lr), (args.large, sr)):
        for remark in loaded.remarks:
            say(f"{path}: {remark}")
    said = f"text rewritten on {share:.0%} of the image" if share else "no text found, written unchanged"
    say(f"{said}: {output}")
    return 0
