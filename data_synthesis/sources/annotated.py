"""Photographs with stroke masks and word annotations: TextSeg and BTS."""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from tadisr.data_synthesis.sources.source import (
    PHOTO_SUFFIXES,
    Sample,
    Source,
    image_size,
    open_gray,
    open_image,
)
from tadisr.io.structured import parse_json, read_json

PARTS = ("train", "val", "test")
MARGIN = 0.1  # around a word, in units of its box's short side
# TextSeg's labels, besides 0; the word-effect (a shadow, a glow) is no stroke, and what to ignore is illegible.
WORD, EFFECT, IGNORE = 100, 200, 255


def stroke_mask(labels: np.ndarray, coded: bool = False) -> np.ndarray:
    """(H, W) uint8, 255 where strokes are, from stored labels (H, W) uint8.

    TextSeg's coding (100 word, 200 word-effect, 255 ignore) is recognised by its values, or given by `coded`. Any other
    mask counts as text where it is not 0.
    """
    values = set(np.unique(labels).tolist())
    coded = coded or bool(values & {WORD, EFFECT} and values <= {0, WORD, EFFECT, IGNORE})
    return np.where(labels == WORD if coded else labels > 0, 255, 0).astype(np.uint8)


def read_words(path: Path) -> list[dict[str, Any]]:
    """The words of an annotation, {KEY: {"text": ..., "bbox": [x1, y1, ..., x4, y4], "char": ...}}, as `Sample.lines`.

    Polygons of other than four points become their tightest rotated rectangle. ValueError: missing, not JSON, or
    without text and polygon.
    """
    try:
        data = path.read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("gb18030")
        words = parse_json(text, "it")
        words = words.values() if isinstance(words, dict) else words
        return [{"text": str(word["text"]), "quad": _quad(word["bbox"])} for word in words]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not an annotation of words: {error!r}") from None


def _quad(polygon: list) -> list[list[float]]:
    points = np.asarray(polygon, np.float32).reshape(-1, 2)
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"{polygon} is no polygon")
    if len(points) != 4:
        points = cv2.boxPoints(cv2.minAreaRect(points))
        points = np.roll(points, -int(points.sum(1).argmin()), axis=0)  # the top left corner first, clockwise
    return points.tolist()


class Photo(NamedTuple):
    """Where the parts of an annotated photograph lie."""

    name: str
    image: Path
    mask: Path | None
    annotation: Path


class Word(NamedTuple):
    """A word of photograph `photo`; `quad` is None where the annotation cannot be read."""

    photo: int
    number: int
    text: str
    quad: list[list[float]] | None


class Place(NamedTuple):
    """Folders whose files belong together, and the split that their names tell."""

    images: Path
    masks: Path
    annotations: Path
    part: str | None


class Annotated(Source):
    """Whole photographs, or (`crops`) a crop around each annotated word with its mask and text.

    Layouts: image/, semantic_label/ and annotation/ or bpoly_label/, also once per split (TRAIN/, BTS_TRAIN/, ...),
    with or without a split.json; or, without annotations, {train,val,test}_images/ and {train,val,test}_gt/. Masks
    are NAME_maskfg.png or NAME.png.
    """

    kind = "crops"
    coded = False
    """Whether NAME_maskfg.png always has TextSeg's coding."""

    def __init__(self, path: str | None = None, split: str = "all", crops: bool = False):
        self.check_split(split, *PARTS, "all")
        root = self.find_root(path)
        self._photos = [photo for place in _places(root) for photo in _photos(root, place, split)]
        if not self._photos:
            raise self.missing(root)
        self._words = self._find_words(root) if crops else None

    def _find_words(self, root: Path) -> list[Word]:
        if not any(folder.is_dir() for folder in {photo.annotation.parent for photo in self._photos}):
            raise FileNotFoundError(
                f"{self.name} in {root} has no words to crop by: annotation/ (or bpoly_label/) is missing."
            )
        words = []
        for i, photo in enumerate(self._photos):
            try:
                lines = read_words(photo.annotation)
                words += [Word(i, number, line["text"], line["quad"]) for number, line in enumerate(lines)]
            except ValueError:
                words.append(Word(i, 0, "", None))  # whoever asks for it is told what is wrong with the file
        return words

    def __len__(self) -> int:
        return len(self._photos if self._words is None else self._words)

    def names(self) -> list[str]:
        if self._words is None:
            return [photo.name for photo in self._photos]
        return [f"{self._photos[word.photo].name}#{word.number}" for word in self._words]

    def __getitem__(self, i: int) -> Sample:
        if self._words is not None:
            return self._crop(self._words[i])
        photo = self._photos[i]
        image, mask = _read_photo(photo, self.coded)
        lines = read_words(photo.annotation) if photo.annotation.parent.is_dir() else []
        return Sample(image, photo.name, mask, lines=lines)

    def _crop(self, word: Word) -> Sample:
        photo = self._photos[word.photo]
        left, top, right, bottom = self._box(word)
        image, mask = _read_last(photo, self.coded)
        place = np.s_[top:bottom, left:right]
        line = {"text": word.text, "quad": [[x - left, y - top] for x, y in word.quad or ()]}
        return Sample(image[place].copy(), f"{photo.name}#{word.number}", mask[place].copy(), word.text, [line])

    def _box(self, word: Word) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of a word's crop within its photograph."""
        photo = self._photos[word.photo]
        if word.quad is None:
            read_words(photo.annotation)
        corners = np.array(word.quad)
        margin = MARGIN * (corners.max(0) - corners.min(0)).min()
        size = image_size(photo.mask or photo.image)[::-1]
        low = np.floor(np.clip(corners.min(0) - margin, 0, size)).astype(int)
        high = np.ceil(np.clip(corners.max(0) + margin, 0, size)).astype(int)
        if (high <= low).any():
            raise ValueError(f"{photo.annotation}: word {word.number} ({word.text!r}) lies outside of its image.")
        return (*low.tolist(), *high.tolist())

    def size(self, i: int) -> tuple[int, int]:
        if self._words is None:
            return image_size(self._photos[i].mask or self._photos[i].image)
        left, top, right, bottom = self._box(self._words[i])
        return bottom - top, right - left


def _read_photo(photo: Photo, coded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 RGB and stroke mask (H, W)."""
    if photo.mask is None:
        stem = photo.image.stem
        raise ValueError(f"{photo.image} has no mask: neither {stem}_maskfg.png nor {stem}.png is there.")
    mask = stroke_mask(open_gray(photo.mask), coded and photo.mask.stem.endswith("_maskfg"))
    image = open_image(photo.image)
    if image.shape[:2] != mask.shape:  # drawn on the pixels as they are stored?
        image = open_image(photo.image, rotate=False)
    if image.shape[:2] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        raise ValueError(f"{photo.mask} is {mask_width}x{mask_height} pixels, its image {width}x{height}.")
    return image, mask


_read_last = lru_cache(maxsize=1)(_read_photo)  # the words of one photograph follow each other


def _places(root: Path) -> list[Place]:
    places = []
    depths = ([path for path in root.glob(f"{depth}image") if path.is_dir()] for depth in ("", "*/", "*/*/"))
    for images in sorted(next(filter(None, depths), [])):
        base = images.parent
        folders = base.relative_to(root).parts or (root.resolve().name,)
        part = next((name for folder in folders if (name := folder.lower().removeprefix("bts_")) in PARTS), None)
        words = base / ("bpoly_label" if (base / "bpoly_label").is_dir() else "annotation")
        places.append(Place(images, base / "semantic_label", words, part))
    if len(places) > 1 and any(place.part is None for place in places):
        found = ", ".join(str(place.images.parent) for place in places)
        raise ValueError(f"{root} holds several datasets ({found}): give the path of one.")
    for part in PARTS:
        if (root / f"{part}_images").is_dir():
            places.append(Place(root / f"{part}_images", root / f"{part}_gt", root / "annotation", part))
    return places


def _photos(root: Path, place: Place, split: str) -> list[Photo]:
    images = [p for p in place.images.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.startswith(".")]
    if split != "all" and place.part is None:
        chosen = _official_split(root, place, split)
        images = [image for image in images if image.stem in chosen]
    elif split not in ("all", place.part):
        return []
    masks = {path.name for path in place.masks.iterdir()} if place.masks.is_dir() else set()
    photos = []
    for image in sorted(images):
        mask = next((name for name in (f"{image.stem}_maskfg.png", f"{image.stem}.png") if name in masks), None)
        name = f"{place.part}/{image.name}" if place.part else image.name
        annotation = place.annotations / f"{image.stem}_anno.json"
        photos.append(Photo(name, image, place.masks / mask if mask else None, annotation))
    return photos


def _official_split(root: Path, place: Place, split: str) -> set[str]:
    for path in (place.images.parent / "split.json", root / "split.json"):
        if path.is_file():
            try:
                return set(read_json(path)[split])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} does not say which images are for {split}: {error!r}") from None
    raise ValueError(f"{place.images.parent} has no split.json: its split {split!r} is unknown, take 'all'.")


class TextSeg(Annotated):
    """4,024 posters and scenes with English text."""

    name = "TextSeg"
    home = "https://github.com/SHI-Labs/Rethinking-Text-Segmentation"
    licence = "academic use only, on request to textseg.dataset@gmail.com"
    version = "2"
    layout = "image/a00001.jpg, semantic_label/a00001_maskfg.png, annotation/a00001_anno.json and split.json"
    coded = True


class BTS(Annotated):
    """14,250 scenes with Chinese and English text."""

    name = "BTS"
    home = "https://github.com/TencentARC/BTS"
    licence = "non-commercial research only"
    version = "2022"
    layout = "BTS_TRAIN/, BTS_VAL/, BTS_TEST/ (or TRAIN/, ...), in each image/, semantic_label/ and bpoly_label/"
