"""The plan of the 300 images, and the work: `python -m tadisr.data_synthesis.board.make OUT SOURCES`, Pillow pinned."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from tadisr.data_synthesis.board.dice import Dice
from tadisr.data_synthesis.board.kinds import KINDS, Setter
from tadisr.data_synthesis.board.reduction import PIPELINES, SCALE, reduce_image
from tadisr.data_synthesis.board.sources import SCRIPTS, Sources

BUCKETS = ((6, 8), (8, 11), (11, 15), (15, 20), (20, 28), (28, 40))
"""Heights of glyphs in LR pixels: 50 images and 200 lines each."""
LINES = 4
_HARSHNESS = (1.0, 1.25, 1.5, 1.9, 2.5, 3.2)  # of blur and noise, by bucket: or large text would be read by anyone
_SIDES = (96, 96, 112, 144, 200, 272)  # of LR images, by bucket
_SHARES = {"Latin": 18, "Chinese": 12, "Japanese": 5, "Korean": 5, "Cyrillic": 5, "Greek": 5}  # images of a bucket


class Plan(NamedTuple):
    """What one image is to be."""

    name: str
    bucket: int
    kind: str
    script: str
    pipeline: str
    seed: int


def plans() -> Iterator[Plan]:
    """The 300, in order."""
    kinds = list(KINDS)
    number = 0
    for bucket in range(len(BUCKETS)):
        dice = Dice(1000 + bucket)
        scripts = dice.shuffled([script for script in SCRIPTS for _ in range(_SHARES[script])])
        pipelines = dice.shuffled([*PIPELINES] * (len(scripts) // 2))
        for i, (script, pipeline) in enumerate(zip(scripts, pipelines, strict=True)):
            kind = kinds[(i + 5 * bucket) % len(kinds)]
            yield Plan(f"{number:03d}", bucket, kind, script, pipeline, 7919 * number + 17)
            number += 1


def draw(plan: Plan, sources: Sources) -> tuple[Image.Image, Image.Image, list[dict[str, Any]]]:
    """(HR image, LR image, lines as truth.json has them)."""
    dice = Dice(plan.seed)
    low, high = BUCKETS[plan.bucket]
    heights = [SCALE * dice.between(low * 1.04, high * 0.96) for _ in range(LINES)]
    sheet = KINDS[plan.kind](Setter(dice, sources, plan.script, heights, SCALE * _SIDES[plan.bucket]))
    lines = [
        {
            "text": line.text,
            "box": [[round(x, 2), round(y, 2)] for x, y in line.quad],
            "annotated": True,
            "glyph_height": round(line.height, 1),
        }
        for line in sheet.lines
    ]
    return sheet.image, reduce_image(sheet.image, plan.pipeline, _HARSHNESS[plan.bucket], dice), lines


def make(out: Path, sources: Sources) -> None:
    """Write hr/, lr/ and truth.json, and a line on stdout for each image."""
    truth = []
    for folder in ("hr", "lr"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for plan in plans():
        hr, lr, lines = draw(plan, sources)
        hr.save(out / "hr" / f"{plan.name}.png")
        lr.save(out / "lr" / f"{plan.name}.png")
        about = {
            "kind": plan.kind,
            "script": plan.script,
            "pipeline": plan.pipeline,
            "bucket": list(BUCKETS[plan.bucket]),
        }
        truth.append({"name": plan.name, **about, "text": lines})
        print(plan.name, flush=True)  # noqa: T201
    (out / "truth.json").write_text(json.dumps(truth, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of each image pair's pixels and lines by name; "all" is that of these."""
    found = {}
    for item in json.loads((out / "truth.json").read_text(encoding="utf-8")):
        one = hashlib.sha256(json.dumps(item, ensure_ascii=False, sort_keys=True).encode())
        for folder in ("hr", "lr"):
            with Image.open(out / folder / f"{item['name']}.png") as image:
                one.update(str(image.size).encode() + image.convert("RGB").tobytes())
        found[item["name"]] = one.hexdigest()
    found["all"] = hashlib.sha256("".join(found.values()).encode()).hexdigest()
    return found


if __name__ == "__main__":
    make(Path(sys.argv[1]), Sources(Path(sys.argv[2])))
