"""Small samples of the datasets that synthesis reads, in the layouts in which they are distributed; what all share.

Every writer makes the folder, returns it, and is deterministic. Text is drawn with Pillow's built-in font, so that it
can be read; `SIZE` and the counts can be changed where a test needs larger or more images.
"""

import io
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tadisr.data_synthesis.sources import Pair, Source

SIZE = (96, 128)  # height, width of a photograph
WORDS = ("OPEN", "Coffee", "Exit 7", "SALE")
CHINESE = ("营业中", "出口", "咖啡", "欢迎光临")


def photograph(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8: coloured shapes of every scale and no text, sharp to the pixel."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*size, 3), np.float32)
    for cell in (2, 4, 8, 16, 32):
        shape = (size[0] // cell + 2, size[1] // cell + 2)
        noise = rng.normal(0, 5, (*shape, 1)) + rng.normal(0, 2, (*shape, 3))  # mostly light and dark, some colour
        image += cv2.resize(np.float32(cell**0.5 * noise), size[::-1], interpolation=cv2.INTER_CUBIC)
    return (image + rng.uniform(90, 160, 3)).clip(0, 255).astype(np.uint8)


def text_line(text: str, height: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A cropped line (height, W, 3), dark on light with a little noise, and its stroke mask (0 or 255)."""
    rng = np.random.default_rng([seed, 1])
    font = ImageFont.load_default(round(height * 0.7))
    left, top, right, bottom = font.getbbox(text)
    mask = Image.new("L", (right - left + height // 2, height))
    corner = (height // 4 - left, (height - (bottom - top)) // 2 - top)
    ImageDraw.Draw(mask).text(corner, text, fill=255, font=font)
    ink = np.asarray(mask, np.float32)[..., None] / 255
    image = ink * rng.uniform(0, 70, 3) + (1 - ink) * rng.uniform(180, 255, 3)
    image += rng.normal(0, 3, image.shape)
    return image.clip(0, 255).astype(np.uint8), np.where(ink[..., 0] > 0.5, 255, 0).astype(np.uint8)


def scene(
    words: Sequence[str], seed: int, size: tuple[int, int] = SIZE
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, list[float]]]]:
    """A photograph with words below each other: image, stroke mask and (word, eight coordinates) of each."""
    image = photograph(seed, size)
    mask = np.zeros(size, np.uint8)
    annotations = []
    step = size[0] // (len(words) + 1)
    for number, word in enumerate(words):
        line, strokes = text_line(word, min(step - 2, 40), seed + number)
        line, strokes = line[:, : size[1] - 8], strokes[:, : size[1] - 8]
        y, x = step // 2 + number * step, 4
        bottom, right = y + line.shape[0], x + line.shape[1]
        image[y:bottom, x:right], mask[y:bottom, x:right] = line, strokes
        annotations.append((word, [x, y, right, y, right, bottom, x, bottom]))
    return image, mask, annotations


def save(path: Path, image: np.ndarray, **options: object) -> Path:
    """Write an image, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def write_lsdir(root: Path, count: int = 4, size: tuple[int, int] = SIZE) -> Path:
    """Unpacked shards, half of the images in the second thousand, val1 with its LR images, and both kinds of list."""
    names = []
    for i in range(count):
        number = i + 1 if i < (count + 1) // 2 else 1000 + i
        names.append(f"{-(-number // 1000) * 1000:07d}/{number:07d}.png")
        save(root / names[-1], photograph(i, size))
    for i in range(2):
        save(root / "val1" / "HR" / "val" / f"{i + 1:07d}.png", photograph(100 + i, size))
        save(root / "val1" / "X4" / "val" / f"{i + 1:07d}x4.png", photograph(100 + i, size)[::4, ::4])
    (root / "train.json").write_text(json.dumps([{"path_gt": f"HR/train/{name}"} for name in names]))
    (root / "train.txt").write_text("".join(f"LSDIR/HR/{name}\n" for name in names))
    return root


def write_div2k(root: Path, count: int = 3, size: tuple[int, int] = SIZE) -> Path:
    """DIV2K_train_HR, DIV2K_valid_HR and one of the LR folders that stand beside them."""
    for i in range(count):
        save(root / "DIV2K_train_HR" / f"{i + 1:04d}.png", photograph(i, size))
        save(root / "DIV2K_train_LR_bicubic" / "X4" / f"{i + 1:04d}x4.png", photograph(i, size)[::4, ::4])
    save(root / "DIV2K_valid_HR" / "0801.png", photograph(801, size))
    return root


def write_flickr2k(root: Path, count: int = 3, size: tuple[int, int] = SIZE) -> Path:
    """Flickr2K_HR beside its LR images."""
    for i in range(count):
        save(root / "Flickr2K_HR" / f"{i + 1:06d}.png", photograph(i, size))
        save(root / "Flickr2K_LR_bicubic" / "X4" / f"{i + 1:06d}x4.png", photograph(i, size)[::4, ::4])
    return root


def _annotation(words: list[tuple[str, list[float]]]) -> dict:
    """As in TextSeg's and BTS's _anno.json, the characters' boxes only roughly right."""
    entries, value = {}, 0
    for number, (text, box) in enumerate(words):
        characters = {}
        for k, character in enumerate(text):
            value += 1
            characters[f"{k:02d}"] = {"text": character, "bbox": box, "mask_value": value}
        entries[f"{number:02d}"] = {"text": text, "bbox": box, "char": characters}
    return entries


def write_textseg(root: Path, words: Sequence[str] = WORDS, size: tuple[int, int] = SIZE) -> Path:
    """image/, semantic_label/ (100 word, 200 effect, 255 ignore), annotation/, split.json: 2 train, 1 val, 1 test."""
    ids = [f"a{i:05d}" for i in range(1, 5)]
    for i, name in enumerate(ids):
        image, mask, found = scene((words[i % len(words)], words[(i + 1) % len(words)]), i, size)
        save(root / "image" / f"{name}.jpg", image, quality=95)
        labels = np.where(mask > 0, 100, 0).astype(np.uint8)
        shadow = np.roll(labels, 2, (0, 1)) > 0
        labels[shadow & (labels == 0)] = 200
        labels[:3, -12:] = 255  # illegible
        save(root / "semantic_label" / f"{name}_maskfg.png", labels)
        (root / "annotation").mkdir(exist_ok=True)
        (root / "annotation" / f"{name}_anno.json").write_text(json.dumps(_annotation(found)), encoding="utf-8")
    (root / "split.json").write_text(json.dumps({"train": ids[:2], "val": ids[2:3], "test": ids[3:]}))
    return root


def write_textseg_processed(root: Path, size: tuple[int, int] = SIZE) -> Path:
    """The layout in which segmentation code rearranges it: {train,val,test}_images/ and {train,val,test}_gt/."""
    for i, part in enumerate(("train", "val", "test")):
        image, mask, _ = scene(WORDS[i : i + 1], i, size)
        save(root / f"{part}_images" / f"a0000{i}.jpg", image, quality=95)
        save(root / f"{part}_gt" / f"a0000{i}.png", np.where(mask > 0, 100, 0).astype(np.uint8))
    return root


def write_bts(root: Path, size: tuple[int, int] = SIZE) -> Path:
    """BTS_TRAIN/, BTS_VAL/, BTS_TEST/, in each image/, semantic_label/ and bpoly_label/, the annotations in Chinese."""
    for i, part in enumerate(("TRAIN", "VAL", "TEST")):
        base, name = root / f"BTS_{part}", f"1_{i + 1}"
        image, mask, found = scene(WORDS[i : i + 2], 10 + i, size)
        save(base / "image" / f"{name}.jpg", image, quality=95)
        save(base / "semantic_label" / f"{name}_maskfg.png", mask)
        (base / "bpoly_label").mkdir(exist_ok=True)
        words = [(f"{CHINESE[i]} {text}", box) for text, box in found]
        (base / "bpoly_label" / f"{name}_anno.json").write_text(
            json.dumps(_annotation(words), ensure_ascii=False), encoding="utf-8"
        )
    return root


def write_lmdb(folder: Path, entries: dict[str, bytes]) -> Path:
    """An LMDB database of these keys."""
    import lmdb

    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    return folder


def write_ctr(root: Path, texts: Sequence[str] = WORDS, height: int = 32) -> Path:
    """scene_train, scene_test and web_train, keys counted from 1; the first label of each is followed by Chinese."""
    for number, name in enumerate(("scene_train", "scene_test", "web_train")):
        entries = {"num-samples": str(len(texts)).encode()}
        for i, text in enumerate(texts, 1):
            image, _ = text_line(text, height, 100 * number + i)
            entries[f"image-{i:09d}"] = encoded(image, "JPEG" if i % 2 else "PNG")
            entries[f"label-{i:09d}"] = (text if i > 1 else text + CHINESE[0]).encode()
        write_lmdb(root / name, entries)
    return root


def write_realce(root: Path, size: tuple[int, int] = SIZE) -> Path:
    """val (valid_list.txt, GBK annotations in annos/) and train (UTF-8 in trans_annos_52mm_renov/res_*.txt).

    Of three val scenes the list has two; the third one's 13 mm image is smaller than its 52 mm image.
    """
    for split, names in (("val", ("a_1.png", "a_2.png", "b_1.png")), ("train", ("t_1.png", "t_2.png"))):
        for i, name in enumerate(names):
            image, _, found = scene(WORDS[i : i + 2], 20 + i, size)
            for focal, strength in (("13mm", 4), ("26mm", 2), ("52mm", 1)):
                small = cv2.resize(image, None, fx=1 / strength, fy=1 / strength, interpolation=cv2.INTER_AREA)
                aligned = name != "b_1.png"
                save(root / split / focal / name, cv2.resize(small, size[::-1]) if aligned else small)
            lines = [",".join([*map(str, box), f"{CHINESE[i]}, {text}"]) for text, box in found]
            folder, prefix, encoding = (
                ("annos", "", "gbk") if split == "val" else ("trans_annos_52mm_renov", "res_", "utf-8")
            )
            (root / split / folder).mkdir(parents=True, exist_ok=True)
            path = root / split / folder / f"{prefix}{Path(name).stem}.txt"
            path.write_bytes("\n".join([*lines, ""]).encode(encoding))
    (root / "val" / "valid_list.txt").write_text("a_2.png\na_1.png\n")
    return root


def write_table(folder: Path, count: int = 3, parquet: bool = False) -> Path:
    """A `datasets` dataset of cropped lines: image, mask (0 or 1), text; saved to disk, or as Parquet."""
    from datasets import Dataset, Features, Value
    from datasets import Image as Column

    crops = [text_line(WORDS[i % len(WORDS)], seed=i) for i in range(count)]
    data = Dataset.from_dict(
        {
            "image": [{"bytes": encoded(image), "path": None} for image, _ in crops],
            "mask": [{"bytes": encoded(mask // 255), "path": None} for _, mask in crops],
            "text": [WORDS[i % len(WORDS)] for i in range(count)],
            "number": list(range(count)),
        },
        features=Features(image=Column(), mask=Column(), text=Value("string"), number=Value("int64")),
    )
    if parquet:
        folder.mkdir(parents=True)
        data.to_parquet(folder / "train-00000-of-00001.parquet")
    else:
        data.save_to_disk(folder)
    return folder


def write_paper_sources(root: Path, size: tuple[int, int] = SIZE) -> dict[str, Path]:
    """Every source that the paper's recipe names, by kind."""
    writers = {"lsdir": write_lsdir, "textseg": write_textseg, "bts": write_bts, "realce": write_realce}
    paths = {kind: write(root / kind, size=size) for kind, write in writers.items()}
    return {**paths, "ctr": write_ctr(root / "ctr")}


def check_contract(source: Source) -> None:
    """What every source promises, on one with at least one sample and nothing unreadable."""
    names = source.names()
    assert len(source) == len(names) == len(set(names)) > 0
    assert source.name and source.home and source.licence and source.version
    assert source.kind in ("backgrounds", "crops", "pairs")
    for i, name in enumerate(names):
        sample = source[i]
        assert sample.name == name
        image = sample.hr.image if isinstance(sample, Pair) else sample.image
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert source.size(i) == image.shape[:2]
        assert source.licence_of(i)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.names() == names
    with pytest.raises(IndexError):
        source[len(source)]
