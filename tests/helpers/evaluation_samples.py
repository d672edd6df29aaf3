"""Small pairs with legible text, in the layouts that the evaluation reads."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXTS = (("Exit 2047", "North gate"), ("PLATFORM 9",), ())
SIZE = (128, 256)  # height, width of an HR image


def scene(texts, seed=0, size=36):
    """(HR, its text's mask, [(text, quad)]): dark words on a light, uneven ground."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.uniform(190, 240, (4, 8, 3)).astype(np.float32), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    ink = Image.new("L", SIZE[::-1])
    draw, lines = ImageDraw.Draw(ink), []
    for row, text in enumerate(texts):
        corner, font = (16, 12 + 60 * row), ImageFont.load_default(size)
        draw.text(corner, text, fill=255, font=font, anchor="lt")
        left, top, right, bottom = draw.textbbox(corner, text, font=font, anchor="lt")
        lines.append(
            (text, [[left - 4, top - 4], [right + 4, top - 4], [right + 4, bottom + 4], [left - 4, bottom + 4]])
        )
    alpha = np.asarray(ink, np.float32)[..., None] / 255
    image = ground * (1 - alpha) + np.float32([60, 20, 30]) * alpha
    return np.rint(image.clip(0, 255)).astype(np.uint8), np.asarray(ink) > 127, lines


def reduced(hr, scale=4):
    return cv2.resize(hr, (hr.shape[1] // scale, hr.shape[0] // scale), interpolation=cv2.INTER_AREA)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def encode(pixels):
    """As the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(root: Path, texts=TEXTS, annotated=False, scale=4) -> Path:
    """hr/, lr/ and truth.json."""
    truth = []
    for i, words in enumerate(texts):
        hr, _, lines = scene(words, i)
        save(root / "hr" / f"{i:03d}.png", hr)
        save(root / "lr" / f"{i:03d}.png", reduced(hr, scale))
        flag = {"annotated": True} if annotated else {}
        truth.append({"name": f"{i:03d}", "text": [{"box": quad, "text": text, **flag} for text, quad in lines]})
    (root / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return root


def write_ftsr_folders(root: Path) -> Path:
    """As `tadisr synthesize --layout folders` writes it: test/hr, lr, mask, metadata.jsonl."""
    rows = []
    for i, words in enumerate(TEXTS):
        hr, mask, lines = scene(words, i)
        for kind, pixels in (("hr", hr), ("lr", reduced(hr)), ("mask", (255 * mask).astype(np.uint8))):
            save(root / "test" / kind / f"{i:07d}.png", pixels)
        lines = [{"text": text, "quad": quad} for text, quad in lines]
        rows.append(json.dumps({"file_name": f"{i:07d}.png", "lines": lines, "seed": i, "sources": []}))
    (root / "test" / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def write_ftsr_parquet(root: Path) -> Path:
    """As `tadisr synthesize` writes it: data/test-*.parquet, here in two shards."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    rows = []
    for i, words in enumerate(TEXTS):
        hr, mask, lines = scene(words, i)
        pictures = {"lr": reduced(hr), "hr": hr, "mask": (255 * mask).astype(np.uint8)}
        encoded = {kind: {"bytes": encode(pixels), "path": None} for kind, pixels in pictures.items()}
        boxes = [np.float32(quad).ravel().tolist() for _, quad in lines]
        rows.append({**encoded, "text": [text for text, _ in lines], "boxes": boxes, "seed": i, "sources": []})
    (root / "data").mkdir(parents=True)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("lr", image), ("hr", image), ("mask", image), ("text", pa.list_(pa.string())),
         ("boxes", pa.list_(pa.list_(pa.float32(), 8))), ("seed", pa.int64()), ("sources", pa.list_(pa.string()))]
    )  # fmt: skip
    for number, part in enumerate((rows[:2], rows[2:])):
        write_table(pa.Table.from_pylist(part, schema), root / "data" / f"test-{number:05d}-of-00002.parquet")
    return root
