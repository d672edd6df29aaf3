"""Before the first page: judge every photograph and crop, and make masks for crops without one.

Work is cut into chunks of each source. A chunk's decisions are written at once, so an interrupted run loses little.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tadisr.data_synthesis import opened
from tadisr.data_synthesis.backgrounds import shrink_photo
from tadisr.data_synthesis.judging import rules
from tadisr.data_synthesis.judging.kept import STAGES, Chunk, Crop, Decision, count_stages, cut_into_chunks, write_crops
from tadisr.data_synthesis.parallel import run_tasks
from tadisr.data_synthesis.recipe import Recipe
from tadisr.data_synthesis.sources import READERS, Sample, Source, split_names
from tadisr.ocr import load_engine

if TYPE_CHECKING:
    from tadisr.data_synthesis.judging.enhance import Enhancer
    from tadisr.data_synthesis.judging.segment import TextSegmenter

_MIN_CROP = 12  # pixels of a crop's short edge; smaller crops hold no text that could be read
_STAGES_OF_REASONS = {rules.EMPTY_MASK: "segmentation", rules.FULL_MASK: "segmentation", rules.SMALL_CHARACTERS: "size"}
Progress = Callable[[str, int, int], None]


@dataclass
class Selection:
    """What each split is made of. The splits share no photograph, no crop and no font family if there are two."""

    backgrounds: dict[str, list[tuple[int, int]]]
    """Split: (number of the source in the recipe, item)."""
    crops: dict[str, list[tuple[str, int]]]
    """Split: (file of crops, row)."""
    families: dict[str, frozenset[str]]
    """Split: font families; empty if no text is rendered."""
    sources: list[dict]
    """For the manifest, as `stages` and `engine`."""
    stages: list[dict]
    engine: dict


def judge_sources(
    recipe: Recipe,
    work: Path,
    num_proc: int = 1,
    backend: str = "local",
    progress: Progress = lambda kind, done, total: None,
) -> Selection:
    """Judge every photograph and crop of the recipe, and make what crops lack. An interrupted call is continued.

    Decisions and crops are kept in the folder `work`. For `num_proc` and `backend` see `run_tasks`. `progress` is
    called with "backgrounds" or "crops", the chunks done and their number.

    Raises:
        FileNotFoundError: a source is not there.
        ValueError: nothing in the sources can be used; no font draws a corpus.
        ImportError: a package that the recipe needs is not installed.
    """
    specs = {"backgrounds": recipe.backgrounds if recipe.photos else [], "crops": recipe.crops}
    # All sources are opened first: a missing source should show now, not after hours of judging photographs.
    sources = {kind: [_open(spec, kind) for spec in specs[kind]] for kind in STAGES}
    rendered = recipe.rendered > 0 or not recipe.crops
    fonts, corpora = (opened.fonts(tuple(recipe.fonts)), opened.corpora(recipe)) if rendered else ([], [])
    engine = _engine(recipe.engine).describe() if recipe.crops or recipe.text_free_backgrounds else {}
    kept, stages = {}, []
    for kind in STAGES:
        chunks = cut_into_chunks(kind, [len(source) for source in sources[kind]])
        _judge_chunks(chunks, recipe, work, num_proc, backend, progress)
        decisions = {chunk: chunk.read(work) for chunk in chunks}
        kept[kind] = {"train": [], "test": []}
        for number, source in enumerate(sources[kind]):
            own = [chunk for chunk in chunks if chunk.number == number]
            places = [place for chunk in own for place in _places(chunk, decisions[chunk], work)]
            made = [decision for chunk in own for decision in decisions[chunk]]
            names = [decision.name for decision in made if not decision.reason]
            test = set(split_names(names, source.name)[1])
            for name, place in zip(names, places, strict=True):
                kept[kind]["test" if name in test else "train"].append(place)
            stages += count_stages(kind, source.name, made)
        # Without photographs pages stand on procedural surfaces. Without crops there are no pages.
        needed = kind == "crops" or any(spec["kind"] != "free" for spec in specs[kind])
        if specs[kind] and needed and not kept[kind]["train"]:
            shutil.rmtree(work / kind, ignore_errors=True)  # the user may put other items there and repeat the command
            dropped = Counter(decision.reason for made in decisions.values() for decision in made)
            why = ", ".join(f"{items} {reason}" for reason, items in dropped.items()) or "they are empty"
            names = ", ".join(source.name for source in sources[kind])
            raise ValueError(f"None of the {kind} can be used ({names}): {why}.")
        kept[kind]["test"] = kept[kind]["test"] or kept[kind]["train"]  # a single item has to do for both
    described = [_describe(source) for kind in STAGES for source in sources[kind]]
    families = opened.split_families(fonts, corpora)
    return Selection(kept["backgrounds"], kept["crops"], families, described, stages, engine)


_engine = lru_cache(maxsize=1)(partial(load_engine, cores=1))


@lru_cache(maxsize=1)
def _segmenter(name: str) -> "TextSegmenter":
    from tadisr.data_synthesis.judging.segment import TextSegmenter

    return TextSegmenter.from_pretrained(name)


@lru_cache(maxsize=1)
def _enhancer(name: str) -> "Enhancer":
    from tadisr.data_synthesis.judging.enhance import load_enhancer

    return load_enhancer(name)


def _open(spec: dict, kind: str) -> Source:
    if spec["kind"] in READERS and READERS[spec["kind"]].kind == "pairs":
        raise ValueError(f"{spec['kind']} holds pairs of HR and LR: it cannot be among the {kind}.")
    return opened.source(spec)


def _places(chunk: Chunk, decisions: Sequence[Decision], work: Path) -> list[tuple]:
    """Where each kept item of a chunk is; see `Selection`."""
    items = [item for item, decision in enumerate(decisions, chunk.start) if not decision.reason]
    if chunk.kind == "backgrounds":
        return [(chunk.number, item) for item in items]
    file = str(chunk.file(work, "parquet").absolute())
    return [(file, row) for row in range(len(items))]


def _describe(source: Source) -> dict[str, Any]:
    """A source for the manifest. "names" is a checksum of the names of its items."""
    licences = Counter(map(source.licence_of, range(len(source))))
    return {
        "name": source.name,
        "items": len(source),
        "licence": "; ".join(f"{items} {name}" for name, items in licences.items()) or source.licence,
        "home": source.home,
        "version": source.version,
        "names": hashlib.sha256("\n".join(source.names()).encode()).hexdigest(),
    }


def _judge_chunks(
    chunks: Sequence[Chunk], recipe: Recipe, work: Path, num_proc: int, backend: str, progress: Progress
) -> None:
    """Judge the chunks that no earlier run has judged."""
    if not chunks:
        return
    todo = [chunk for chunk in chunks if not chunk.file(work).is_file()]
    done = len(chunks) - len(todo)
    progress(chunks[0].kind, done, len(chunks))
    for _ in run_tasks(partial(_judge_chunk, recipe=recipe, work=work.absolute()), todo, num_proc, backend):
        done += 1
        progress(chunks[0].kind, done, len(chunks))


def _judge_chunk(chunk: Chunk, recipe: Recipe, work: Path) -> None:
    """Judge the items of a chunk. Writes the crops that are kept and, after them, the decisions."""
    source = opened.source((recipe.backgrounds if chunk.kind == "backgrounds" else recipe.crops)[chunk.number])
    names = cache(source.names)
    decisions, crops = [], []
    for i in range(chunk.start, chunk.stop):
        try:
            sample = source[i]
        except ValueError as error:
            decisions.append(Decision(names()[i], "reading", "missing" if "no image" in str(error) else "unreadable"))
            continue
        assert isinstance(sample, Sample)  # `_open` refuses pairs
        if chunk.kind == "backgrounds":
            decisions.append(_judge_background(sample, recipe))
        else:
            decision, crop = _judge_crop(sample, recipe)
            decisions.append(decision)
            crops += [crop] if crop else []
    if chunk.kind == "crops":
        write_crops(chunk.file(work, "parquet"), crops)
    chunk.write(work, decisions)


def _judge_background(sample: Sample, recipe: Recipe) -> Decision:
    if min(sample.image.shape[:2]) < recipe.min_background:
        return Decision(sample.name, "size", f"smaller than {recipe.min_background} pixels")
    if recipe.text_free_backgrounds:
        small = shrink_photo(sample.image, 1280)  # text that is large enough to be seen on a page shows at this size
        if reason := rules.judge_background(_engine(recipe.engine).find(small), small.shape, recipe.filter):
            return Decision(sample.name, "text", reason)
    return Decision(sample.name)


def _judge_crop(sample: Sample, recipe: Recipe) -> tuple[Decision, Crop | None]:
    """The decision on a crop and, if it is kept, the crop as it will be used: restored and segmented where needed."""
    image, mask, config, enhanced = sample.image, sample.mask, recipe.filter, False
    if min(image.shape[:2]) < _MIN_CROP:
        return Decision(sample.name, "size", f"smaller than {_MIN_CROP} pixels"), None
    if sample.text and (reason := rules.judge_size(image.shape, sample.text, config)):
        if config.small == "drop":
            return Decision(sample.name, "size", reason), None
        image, enhanced = _enhancer(recipe.enhancer).enhance(image), True
        mask = None if mask is None else cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    if mask is not None:
        if reason := rules.judge_mask(mask, config):
            return Decision(sample.name, "segmentation", reason, enhanced), None
    else:
        while True:
            [probability] = _segmenter(recipe.segmenter).segment([image])
            mask = (probability * 255 + 0.5).astype(np.uint8)
            verdict = rules.filter_crop(image, mask, sample.text, _engine(recipe.engine), config)
            if verdict.action != "enhance" or enhanced:
                break
            # Without a label the characters are counted only after they were read.
            image, enhanced = _enhancer(recipe.enhancer).enhance(image), True
        if verdict.action != "keep":
            stage = _STAGES_OF_REASONS.get(verdict.reason, "OCR")
            return Decision(sample.name, stage, verdict.reason, enhanced), None
    height, width = image.shape[:2]
    scale = np.array([width / sample.image.shape[1], height / sample.image.shape[0]], np.float32)
    lines = [
        {"text": line["text"], "quad": (np.asarray(line["quad"], np.float32) * scale).tolist()} for line in sample.lines
    ]
    if not lines and sample.text:
        lines = [{"text": sample.text, "quad": [[0, 0], [width, 0], [width, height], [0, height]]}]
    return Decision(sample.name, enhanced=enhanced), Crop(image, mask, lines, sample.name)
