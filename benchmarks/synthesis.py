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
from tadisr.data_synthesis.degrade import degrade_batch
from tadisr.data_synthesis.files import encode_png
from tadisr.data_synthesis.ftsr import DEGRADED_AT_ONCE, row_seed
from tadisr.data_synthesis.layouts import write_page
from tadisr.data_synthesis.prepare import open_materials, prepare
from tadisr.data_synthesis.recipe import load_recipe


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
        materials = open_materials(recipe, prepare(recipe, Path(work)), "train")
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
    for start in range(0, num, DEGRADED_AT_ONCE):
        pages, masks, rngs = [], [], []
        for index in range(start, min(start + DEGRADED_AT_ONCE, num)):
            rng = np.random.default_rng([row_seed(0, index), 0])
            began = time.process_time()
            if materials.photo and rng.random() < recipe.photos:
                image, _ = materials.photo(rng, size)
            else:
                image = procedural((size, size), rng)
            painted = time.process_time()
            mask, _ = write_page(image, recipe.text, materials.fonts, materials.corpora, rng)
            seconds["background"] += painted - began
            seconds["text"] += time.process_time() - painted
            pages.append((image * 255 + 0.5).clip(0, 255).astype(np.uint8))
            masks.append((mask * 255 + 0.5).astype(np.uint8))
            rngs.append(np.random.default_rng([row_seed(0, index), 1]))
        began = time.process_time()
        hr = torch.from_numpy(np.stack(pages)).permute(0, 3, 1, 2)
        lr = degrade_batch(hr, recipe.degradation, rngs).permute(0, 2, 3, 1).numpy()
        degraded = time.process_time()
        for images in zip(pages, masks, lr, strict=True):
            for image in images:
                encode_png(image)
        seconds["degradation"] += degraded - began
        seconds["encoding"] += time.process_time() - degraded
    return seconds


if __name__ == "__main__":
    main()
