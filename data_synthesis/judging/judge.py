"""Everything before the first page: which photographs and crops are fit for use, and masks for crops without one.

Every decision is kept, so that a report can say how many items were dropped at each stage, and why. Work is cut into
chunks of each source; a chunk's result is written at once, so that an interrupted run loses little.
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tadisr.data_synthesis.backgrounds import crop_photo, shrink_photo
from tadisr.data_synthesis.judging import rules
from tadisr.data_synthesis.pages.compose import Crop, Materials
from tadisr.data_synthesis.parallel import run_tasks
from tadisr.data_synthesis.recipe import Recipe
from tadisr.data_synthesis.sources import READERS, Sample, Source, open_source, split_names
from tadisr.data_synthesis.text.corpus import Corpus, open_corpus
from tadisr.data_synthesis.text.fonts import Font, Fonts, discover_fonts
from tadisr.io.atomic import write_atomically
from tadisr.io.images import encode_png
from tadisr.ocr import load_engine

CHUNK = 16
MIN_CROP = 12  # pixels of a crop's short edge: less holds no text that could be read
STAGES = {  # in the order in which an item meets them
    "backgrounds": ("reading", "size", "text"),
    "crops": ("reading", "size", "segmentation", "OCR"),
}
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Decision:
    """What became of one item: dropped at `stage` for `reason`, or kept, where both are empty."""

    name: str
    stage: str = ""
    reason: str = ""
    enhanced: bool = False


@dataclass(frozen=True)
class Chunk:
    """Items [start, stop) of source `number` of the recipe's `kind` ("backgrounds" or "crops")."""

    kind: str
    number: int
    start: int
    stop: int

    def file(self, work: Path, suffix: str = "json") -> Path:
        """Where its result is kept."""
        return work / self.kind / f"{self.number}-{self.start:08d}.{suffix}"


@dataclass
class Prepared:
    """What each split is made of. They share no photograph, no crop and no font family where there are two."""

    backgrounds: dict[str, list[tuple[int, int]]]
    """Split: (number of the source among the recipe's, item)."""
    crops: dict[str, list[tuple[str, int]]]
    """Split: (file of prepared crops, row)."""
    families: dict[str, frozenset[str]]
    sources: list[dict] = field(default_factory=list)
    stages: list[dict] = field(default_factory=list)
    engine: dict = field(default_factory=dict)


# What a worker process needs again and again is opened once in it.


@lru_cache(maxsize=16)
def _source(spec: str) -> Source:
    return open_source(json.loads(spec))


def _spec(spec: dict) -> str:
    return json.dumps(spec, sort_keys=True)


def _open(spec: dict, kind: str) -> Source:
    if spec["kind"] in READERS and READERS[spec["kind"]].kind == "pairs":
        raise ValueError(f"{spec['kind']} holds pairs of HR and LR: it cannot be among the {kind}.")
    return _source(_spec(spec))


@lru_cache(maxsize=1)
def _engine(name: str) -> Any:
    return load_engine(name, threads=1)


@lru_cache(maxsize=1)
def _segmenter(name: str) -> Any:
    from tadisr.data_synthesis.judging.segment import TextSegmenter

    return TextSegmenter.from_pretrained(name)


@lru_cache(maxsize=1)
def _enhancer(name: str) -> Any:
    from diffusers.utils.logging import disable_progress_bar

    from tadisr.data_synthesis.judging.enhance import Enhancer

    disable_progress_bar()  # the data set's own bar is being shown
    return Enhancer.load(name)


@lru_cache(maxsize=16)
def _names(spec: str) -> list[str]:
    return _source(spec).names()


@lru_cache(maxsize=4)
def open_fonts(folders: tuple[str, ...], families: frozenset[str] | None = None) -> Fonts:
    """The installed fonts or those of `folders`, or of them those of `families`; discovered once."""
    if families is None:
        return discover_fonts(folders)
    fonts = open_fonts(folders)
    return Fonts([font for font in fonts if font.family in families], fonts.where)


def _corpora(recipe: Recipe, families: frozenset[str] | None = None) -> list[Corpus]:
    """The recipe's corpora, each as often as its weight says."""
    # absolute, so that what is kept is of this file and no other
    places = [str(Path(name).absolute()) if Path(name).is_file() else name for name in recipe.corpora]
    return _read_corpora(tuple(zip(places, recipe.corpora.values(), strict=True)), tuple(recipe.fonts), families)


@lru_cache(maxsize=4)
def _read_corpora(
    weights: tuple[tuple[str, int], ...], folders: tuple[str, ...], families: frozenset[str] | None
) -> list[Corpus]:
    fonts = open_fonts(folders, families)
    return [corpus for name, weight in weights for corpus in [open_corpus(name, fonts)] * weight]


def prepare(
    recipe: Recipe,
    work: Path,
    num_proc: int = 1,
    backend: str = "local",
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Prepared:
    """Judge every photograph and crop, and make what crops lack. Goes on where an interrupted call left off.

    Raises:
        FileNotFoundError: a source that is not there.
        ValueError: sources with nothing usable; a script that no font draws.
        ImportError: a package that the recipe needs.
    """
    kept: dict[str, dict[str, list]] = {kind: {split: [] for split in SPLITS} for kind in STAGES}
    sources, stages = [], []
    wanted = {"backgrounds": recipe.backgrounds if recipe.photos else [], "crops": recipe.crops}
    # What is not there should show now, not after hours of judging photographs.
    open_all = {kind: [_open(spec, kind) for spec in specs] for kind, specs in wanted.items()}
    drawn = bool(recipe.rendered) or not recipe.crops
    fonts, corpora = (open_fonts(tuple(recipe.fonts)), _corpora(recipe)) if drawn else ([], [])
    engine = _engine(recipe.engine).describe() if recipe.crops or recipe.text_free_backgrounds else {}
    for kind, specs in wanted.items():
        opened = open_all[kind]
        chunks = [
            Chunk(kind, number, start, min(start + CHUNK, len(source)))
            for number, source in enumerate(opened)
            for start in range(0, len(source), CHUNK)
        ]
        _run_chunks(chunks, recipe, work, num_proc, backend, progress)
        for number, source in enumerate(opened):
            decisions: list[Decision] = []
            places = []
            for chunk in (c for c in chunks if c.number == number):
                rows = [Decision(**row) for row in json.loads(chunk.file(work).read_text(encoding="utf-8"))]
                good = [i for i, row in enumerate(rows) if not row.reason]
                if kind == "crops":
                    file = str(chunk.file(work, "parquet").absolute())
                    places += [(file, row) for row in range(len(good))]
                else:
                    places += [(number, chunk.start + i) for i in good]
                decisions += rows
            names = [row.name for row in decisions if not row.reason]
            test = set(split_names(names, source.name)[1])
            for name, place in zip(names, places, strict=True):
                kept[kind]["test" if name in test else "train"].append(place)
            stages += _count(kind, source.name, decisions)
            sources.append(describe(source))
        if specs and not kept[kind]["train"]:
            dropped = Counter(row["reason"] for chunk in chunks for row in json.loads(chunk.file(work).read_text()))
            why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "they are empty"
            # without photographs pages stand on procedural surfaces; without crops there are no pages
            if kind == "crops" or any(spec["kind"] != "free" for spec in specs):
                shutil.rmtree(work / kind, ignore_errors=True)  # they may be others when the command is repeated
                raise ValueError(f"None of the {kind} can be used ({', '.join(s.name for s in opened)}): {why}.")
        if specs and kept[kind]["train"] and not kept[kind]["test"]:
            kept[kind]["test"] = kept[kind]["train"]  # a single one has to do for both
    return Prepared(kept["backgrounds"], kept["crops"], split_families(fonts, corpora), sources, stages, engine)


def describe(source: Source) -> dict[str, Any]:
    """A source for the manifest; `names` is a checksum over the names of its items."""
    names = hashlib.sha256("\n".join(source.names()).encode()).hexdigest()
    licence = "; ".join(
        f"{count} {name}" for name, count in Counter(map(source.licence_of, range(len(source)))).items()
    )
    return {
        "name": source.name, "items": len(source), "licence": licence or source.licence, "home": source.home,
        "version": source.version, "names": names,
    }  # fmt: skip


def split_families(fonts: Sequence[Font], corpora: Sequence[Corpus]) -> dict[str, frozenset[str]]:
    """Font families of each split, so that each can draw every corpus; families that alone draw one are in both."""
    drawing = [
        {_design(font.family) for font in fonts if font.covers(corpus.sample)} for corpus in dict.fromkeys(corpora)
    ]
    apart = [split_names(sorted(designs), "fonts")[1] for designs in drawing]
    test = set().union(*apart)
    shared = set().union(*(designs for designs, some in zip(drawing, apart, strict=True) if not some))
    alone = set().union(*(designs for designs in drawing if designs <= test))
    families = {font.family for font in fonts}
    return {
        "train": frozenset(family for family in families if _design(family) not in test - alone),
        "test": frozenset(family for family in families if _design(family) in test | shared),
    }


def _design(family: str) -> str:
    """A family's name without the region: "Noto Sans CJK SC" and "Noto Sans CJK JP" share most of their outlines."""
    return re.sub(r" (SC|TC|HK|JP|KR)$", "", family)


def _count(kind: str, name: str, decisions: Sequence[Decision]) -> list[dict]:
    """For each stage: how many came, how many went on, why not."""
    stages, seen = [], len(decisions)
    for stage in STAGES[kind]:
        dropped = Counter(row.reason for row in decisions if row.stage == stage)
        row = {"source": name, "stage": stage, "seen": seen, "kept": seen - dropped.total(), "dropped": dict(dropped)}
        if stage == "size" and (enhanced := sum(row.enhanced for row in decisions)):
            row["changed"] = {"enhanced": enhanced}
        stages.append(row)
        seen -= dropped.total()
    return stages


def _run_chunks(
    chunks: Sequence[Chunk],
    recipe: Recipe,
    work: Path,
    num_proc: int,
    backend: str,
    progress: Callable[[str, int, int], None],
) -> None:
    todo = [chunk for chunk in chunks if not chunk.file(work).is_file()]
    if not chunks:
        return
    done = len(chunks) - len(todo)
    progress(chunks[0].kind, done, len(chunks))
    for _ in run_tasks(partial(prepare_chunk, recipe=recipe, work=work.absolute()), todo, num_proc, backend):
        done += 1
        progress(chunks[0].kind, done, len(chunks))


def prepare_chunk(chunk: Chunk, recipe: Recipe, work: Path) -> None:
    """Judge the items of a chunk; writes its decisions and, before them, the crops that are kept."""
    spec = _spec((recipe.backgrounds if chunk.kind == "backgrounds" else recipe.crops)[chunk.number])
    source, names = _source(spec), _names(spec)
    decisions, crops = [], []
    for i in range(chunk.start, chunk.stop):
        try:
            sample = source[i]
        except ValueError as error:
            decisions.append(Decision(names[i], "reading", _reason(error)))
            continue
        if chunk.kind == "backgrounds":
            decisions.append(_judge_background(sample, recipe))
        else:
            decision, crop = _prepare_crop(sample, recipe)
            decisions.append(decision)
            crops += [crop] if crop else []
    if chunk.kind == "crops":
        _write_crops(chunk.file(work, "parquet"), crops)
    write_atomically(chunk.file(work), json.dumps([asdict(row) for row in decisions], ensure_ascii=False).encode())


def _reason(error: ValueError) -> str:
    return "missing" if "no image" in str(error) else "unreadable"


def _judge_background(sample: Sample, recipe: Recipe) -> Decision:
    if min(sample.image.shape[:2]) < recipe.min_background:
        return Decision(sample.name, "size", f"smaller than {recipe.min_background} pixels")
    if recipe.text_free_backgrounds:
        # text that is large enough to be seen on a page shows at this size, too
        small = shrink_photo(sample.image, 1280)
        if reason := rules.filter_background(small, _engine(recipe.engine), recipe.filter):
            return Decision(sample.name, "text", reason)
    return Decision(sample.name)


def _prepare_crop(sample: Sample, recipe: Recipe) -> tuple[Decision, Crop | None]:
    """Restore, segment and judge one crop, as far as it needs each of them."""
    image, mask, enhanced = sample.image, sample.mask, False
    config = recipe.filter
    if min(image.shape[:2]) < MIN_CROP:
        return Decision(sample.name, "size", f"smaller than {MIN_CROP} pixels"), None
    if sample.text and (reason := rules.judge_size(image.shape, sample.text, config)):
        if config.small == "drop":
            return Decision(sample.name, "size", reason), None
        image = _enhancer(recipe.enhancer).enhance(image)
        mask = None if mask is None else cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        enhanced = True
    if mask is not None:
        if reason := rules.judge_mask(mask, config):
            return Decision(sample.name, "segmentation", reason, enhanced), None
    else:
        while True:
            [probability] = _segmenter(recipe.segmenter).segment([image])
            mask = (probability * 255 + 0.5).astype(np.uint8)
            [verdict] = rules.filter_crops([rules.Crop(image, mask, sample.text)], _engine(recipe.engine), config)
            if verdict.action != "enhance" or enhanced:
                break
            # without a label the characters are counted only after they were read
            image, enhanced = _enhancer(recipe.enhancer).enhance(image), True
        if verdict.action != "keep":
            stage = {rules.EMPTY_MASK: "segmentation", rules.FULL_MASK: "segmentation", rules.SMALL_CHARACTERS: "size"}
            return Decision(sample.name, stage.get(verdict.reason, "OCR"), verdict.reason, enhanced), None
    height, width = image.shape[:2]
    scale = np.float32([width / sample.image.shape[1], height / sample.image.shape[0]])
    lines = [{"text": line["text"], "quad": (np.float32(line["quad"]) * scale).tolist()} for line in sample.lines]
    if not lines and sample.text:
        lines = [{"text": sample.text, "quad": [[0, 0], [width, 0], [width, height], [0, height]]}]
    return Decision(sample.name, enhanced=enhanced), Crop(image, mask, lines, sample.name)


def _write_crops(path: Path, crops: Sequence[Crop]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "image": [encode_png(crop.image) for crop in crops],
        "mask": [encode_png(crop.mask) for crop in crops],
        "lines": [json.dumps(crop.lines, ensure_ascii=False) for crop in crops],
        "name": [crop.name for crop in crops],
    }
    types = {"image": pa.binary(), "mask": pa.binary(), "lines": pa.string(), "name": pa.string()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=pa.schema(types)), sink)
    write_atomically(path, sink.getvalue().to_pybytes())


@lru_cache(maxsize=64)
def _crop_table(path: str) -> list[dict]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def _read_crop(path: str, row: int) -> Crop:
    stored = _crop_table(path)[row]
    image, mask = (
        cv2.imdecode(np.frombuffer(stored[part], np.uint8), flag)
        for part, flag in (("image", cv2.IMREAD_COLOR_RGB), ("mask", cv2.IMREAD_GRAYSCALE))
    )
    return Crop(image, mask, json.loads(stored["lines"]), stored["name"])


@lru_cache(maxsize=48)
def _photo(spec: str, item: int, size: int) -> tuple[np.ndarray, str]:
    """A photograph of at most 2048 pixels on the long side (48 of them, 0.6 GB, stay in memory), and its name.

    It is larger where its short side would become less than a page's `size`.
    """
    sample = _source(spec)[item]
    height, width = sample.image.shape[:2]
    return shrink_photo(sample.image, max(2048, -(-size * max(height, width) // min(height, width)))), sample.name


def open_materials(recipe: Recipe, prepared: Prepared, split: str) -> Materials:
    """What the pages of a split are drawn from."""
    backgrounds, crops = prepared.backgrounds[split], prepared.crops[split]

    def photo(rng: np.random.Generator, size: int) -> tuple[np.ndarray, str]:
        number, item = backgrounds[rng.integers(len(backgrounds))]
        image, name = _photo(_spec(recipe.backgrounds[number]), item, size)
        return crop_photo(image, (size, size), rng), name

    def crop(rng: np.random.Generator) -> Crop:
        return _read_crop(*crops[rng.integers(len(crops))])

    families = prepared.families[split]
    drawn = (open_fonts(tuple(recipe.fonts), families), _corpora(recipe, families)) if families else (Fonts([]), [])
    return Materials(photo if backgrounds else None, crop if crops else None, *drawn)
