"""A data set's card, its contact sheet, and the way to the Hub."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tadisr.data_synthesis.writing.shards import IMAGES, Job
from tadisr.io.atomic import write_atomically
from tadisr.io.images import decode
from tadisr.io.messages import one_line, visible

_SHEET = "contact_sheet.jpg"
_SIDE = 192  # of a picture on the contact sheet, pixels
_COLUMNS, _ROWS = 4, 5  # of triplets


def table(manifest: dict[str, Any]) -> Iterator[str]:
    """What every stage kept and dropped, one line a stage."""
    for stage in manifest["stages"]:
        dropped = ", ".join(f"{count} {reason}" for reason, count in stage["dropped"].items())
        changed = "".join(f", {count} {what}" for what, count in stage.get("changed", {}).items())
        yield f"{stage['source']}: {stage['stage']}: kept {stage['kept']} of {stage['seen']}{changed}" + (
            f" (dropped: {dropped})" if dropped else ""
        )


def write_card(out: Path, job: Job, manifest: dict[str, Any]) -> None:
    """README.md with the Hub's front matter, and the contact sheet."""
    write_atomically(out / _SHEET, _contact_sheet(out, job))
    splits = Counter(shard.split for shard in job.shards() for _ in shard.indices)
    front = {"pretty_name": "FTSR", "license": "other", "task_categories": ["image-to-image", "image-segmentation"]}
    lines = [
        "---",
        # No `configs`: the shards' names suffice, and with it `datasets` takes folders of one name for one set.
        *(f"{key}: {json.dumps(value)}" for key, value in front.items()),
        "---",
        "",
        "# Full-image text super-resolution triplets",
        "",
        f"{job.num} triplets ({', '.join(f'{count} {split}' for split, count in splits.items())}): `lr` "
        f"{job.size // 4}x{job.size // 4}, `hr` {job.size}x{job.size}, `mask` of the text (255: ink), `text` and "
        "`boxes` of each line (x, y of four corners, clockwise from the text's own top left, HR pixels), `seed` and "
        "`sources`.",
        "",
        f"![triplets: LR, HR, mask]({_SHEET})",
        "",
        f"Made by `tadisr synthesize --num {job.num} --seed {job.seed} --size {job.size}` and the recipe in "
        "`manifest.json`. Train and test share no photograph, no text crop and no font family where there are two.",
        "",
        "## Sources",
        "| source | items | licence | from |",
        "|---|---:|---|---|",
        *(
            f"| {_cell(s['name'])} | {s['items']} | {_cell(s['licence'])} | {_cell(s['home'])} |"
            for s in manifest["sources"]
        ),
        "",
        "Every photograph, crop and font that was used is counted in `manifest.json`.",
        "",
        "## Stages",
        *(f"- {line}" for line in table(manifest)),
        "",
    ]
    write_atomically(out / "README.md", "\n".join(lines).encode())


def _cell(text: Any) -> str:
    return visible(str(text)).replace("|", "\\|").replace("<", "&lt;")


def _contact_sheet(out: Path, job: Job) -> bytes:
    """A JPEG of the first triplets side by side: LR, HR, mask."""
    sheet = np.full((_ROWS * (_SIDE + 4), _COLUMNS * (3 * _SIDE + 16), 3), 255, np.uint8)
    for number, (lr, hr, mask) in enumerate(islice(_triplets(out, job), _COLUMNS * _ROWS)):
        row, column = divmod(number, _COLUMNS)
        ways = (lr, cv2.INTER_NEAREST), (hr, cv2.INTER_AREA), (mask, cv2.INTER_AREA)
        parts = [cv2.resize(image, (_SIDE, _SIDE), interpolation=way) for image, way in ways]
        y, x = row * (_SIDE + 4), column * (3 * _SIDE + 16)
        sheet[y : y + _SIDE, x : x + 3 * _SIDE] = np.hstack(parts)
    ok, data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not ok:
        raise RuntimeError("OpenCV could not write a JPEG.")
    return data.tobytes()


def _triplets(out: Path, job: Job) -> Iterator[list[np.ndarray]]:
    """Yield each triplet's LR, HR and mask, BGR. Not by `datasets`, which would copy the data set into its cache."""
    import pyarrow.parquet as pq

    for shard in job.shards():
        if job.layout == "parquet":
            rows = pq.read_table(out / shard.parquet, columns=list(IMAGES)).to_pylist()
            files = ([row[kind]["bytes"] for kind in IMAGES] for row in rows)
        else:
            files = ([(out / shard.image(kind, i)).read_bytes() for kind in IMAGES] for i in shard.indices)
        for images in files:
            yield [decode(data, cv2.IMREAD_COLOR) for data in images]


def push_to_hub(out: Path, repo_id: str, private: bool = False) -> str:
    """Upload the folder as a data set; returns its address. RuntimeError: the Hub refused."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        address = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, repo_type="dataset", folder_path=out, ignore_patterns=[".*"])
    except Exception as error:  # refused, no such account, no network: every library raises its own
        raise RuntimeError(f"The Hub did not take {repo_id}: {one_line(error, None)}") from None
    return str(address)
