"""Write an FTSR data set: hr/, mask/, lr/ and one line of metadata per image."""

import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from tadisr.data_synthesis.compose import PageStyle, compose_page
from tadisr.data_synthesis.degrade import Degradation, degrade
from tadisr.data_synthesis.fonts import Font, discover_fonts
from tadisr.data_synthesis.sources import find_images


def synthesize_one(
    index: int,
    out: Path,
    seed: int,
    style: PageStyle,
    degradation: Degradation,
    fonts: Sequence[Font],
    photos: Sequence[Path],
) -> dict:
    """Make and write triplet `index`. It depends on `seed` and `index` alone, whatever the number of workers."""
    rng = np.random.default_rng([seed, index])
    name = f"{index:07d}.png"
    page = compose_page(style, fonts, photos, rng)
    lr = degrade(page.image, degradation, rng)
    for folder, image in (("hr", page.image[..., ::-1]), ("mask", page.mask), ("lr", lr[..., ::-1])):
        if not cv2.imwrite(str(out / folder / name), image, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise OSError(f"cannot write {out / folder / name}: is the disk full?")
    return {"file_name": name, "lines": page.lines}


def synthesize(
    out: Path,
    count: int,
    seed: int = 0,
    photos: Sequence[Path] = (),
    style: PageStyle | None = None,
    degradation: Degradation | None = None,
    workers: int = 1,
) -> None:
    """Write `count` triplets below `out` and `metadata.jsonl` with every line's text and quad."""
    style, degradation = style or PageStyle(), degradation or Degradation()
    cv2.setNumThreads(1)
    for folder in ("hr", "mask", "lr"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    fonts = discover_fonts()
    job = partial(
        synthesize_one,
        out=out,
        seed=seed,
        style=style,
        degradation=degradation,
        fonts=fonts,
        photos=find_images(photos),
    )
    with (
        multiprocessing.get_context("spawn").Pool(workers) as pool,
        (out / "metadata.jsonl").open("w", encoding="utf-8") as log,
    ):
        for record in track(
            pool.imap(job, range(count), chunksize=8), "Synthesising", total=count, console=Console(stderr=True)
        ):
            log.write(json.dumps(record, ensure_ascii=False) + "\n")
    manifest = {
        "seed": seed,
        "count": count,
        "style": asdict(style),
        "degradation": asdict(degradation),
        "fonts": len(fonts),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
