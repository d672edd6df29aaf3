"""Photos for the command line, what it should make of them, and `tadisr` in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
RUN = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); " + (
    "from tadisr.cli import main; sys.exit(main(sys.argv[1:]))"
)

PROGRESS = re.compile(r"tadisr: \d+ of \d+: .* (restored in|failed after) \d+\.\d s")
"""What `tadisr upscale` says of each of several images."""


def noise(height=9, width=13, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8).squeeze()


def bicubic(pixels, scale=4):
    """What the model answers. Not Pillow's own for bytes, which clips between the two axes."""
    size = (pixels.shape[1] * scale, pixels.shape[0] * scale)
    planes = [Image.fromarray(x).resize(size, Image.Resampling.BICUBIC) for x in np.float32(np.moveaxis(pixels, 2, 0))]
    return np.dstack(planes).clip(0, 255)


def pillows(pixels, scale=4):
    """What alpha and comparisons get."""
    size = (pixels.shape[1] * scale, pixels.shape[0] * scale)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def opened(path, mode="RGB"):
    with Image.open(path) as image:
        assert image.mode == mode
        return np.asarray(image).astype(int)


def tree(folder="."):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def child(code, *arguments, **kwargs):
    env = {**os.environ, **QUIET}
    return subprocess.run([sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, **kwargs)


def never(*_args, **_kwargs):
    raise AssertionError("this was not to be reached")


def three(folder="in"):
    Path(folder).mkdir()
    for name in "abc":
        Image.fromarray(noise()).save(f"{folder}/{name}.png")
