"""Where the processor time of `tadisr synthesize` goes, one thread, and what the paper's 50,000 triplets would take.

python benchmarks/synthesis.py [--recipe free] [--size 512 1024] [--num 48]
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch

from tadisr.data_synthesis.backgrounds import procedural
from tadisr.data_synthesis.degrade import degrade
from tadisr.data_synthesis.judging.judge import judge_sources
from tadisr.data_synthesis.layouts import write_page
from tadisr.data_synthesis.pages.compose import open_materials
from tadisr.data_synthesis.recipe import load_recipe
from tadisr.data_synthesis.writing.shards import row_seed
from tadisr.io.images import encode_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="free")
    parser.add_argument("--size", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--num", type=int, default=48)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    recipe = load_recipe(args.recipe)
    recipe.text_free_backgrounds = False  # done once for each photograph, however many pages are made
    with tempfile.TemporaryDirectory() as work:
        materials = open_materials(recipe, judge_sources(recipe, Path(work), max(args.size)), "train")
    for size in args.size:
        for timed in (False, True):  # the first round fills the caches of photographs and glyphs
            seconds = measure(recipe, materials, size, args.num if timed else args.num // 2)
        total = sum(seconds.values())
        shares = {stage: f"{100 * spent / total:.0f} %" for stage, spent in seconds.items()}
        rate = args.num / total
        print(f"{size} px: {rate:.2f} triplets/s and core; {json.dumps(shares)}")
        print(f"  50,000 on 16 cores: {50_000 / rate / 16 / 3600:.1f} h")


def measure(recipe, materials, size: int, num: int) -> Counter:
    seconds = Counter()
    for index in range(num):
        rng = np.random.default_rng([row_seed(0, index), 0])
        began = time.process_time()
        if materials.photo and rng.random() < recipe.photos:
            image, _ = materials.photo(rng, size)
        else:
            image = procedural((size, size), rng)
        painted = time.process_time()
        mask, _ = write_page(image, recipe.text, materials.fonts, materials.corpora, rng)
        written = time.process_time()
        hr, mask = ((part * 255 + 0.5).clip(0, 255).astype(np.uint8) for part in (image, mask))
        lr = degrade(hr, recipe.degradation, np.random.default_rng([row_seed(0, index), 1]))
        degraded = time.process_time()
        for part in (hr, mask, lr):
            encode_png(part)
        seconds["background"] += painted - began
        seconds["text"] += written - painted
        seconds["degradation"] += degraded - written
        seconds["encoding"] += time.process_time() - degraded
    return seconds


if __name__ == "__main__":
    main()
