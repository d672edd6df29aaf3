"""Before the first page: judge every photograph and crop, and make masks for crops without one.

Work is cut into chunks of each source. A chunk's decisions are written at once, so an interrupted run loses little.
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tadisr.data_synthesis import opened
from tadisr.data_synthesis.backgrounds import shrink_photo
from tadisr.data_synthesis.judging import rules
from tadisr.data_synthesis.judging.kept import STAGES, Chunk, Crop, Decision, count_stages, cut_into_chunks, write_crops
from tadisr.data_synthesis.judging.networks import Networks, find_devices, serve
from tadisr.data_synthesis.parallel import run_tasks
from tadisr.data_synthesis.recipe import Recipe
from tadisr.data_synthesis.sources import READERS, Sample, Source, split_names
from tadisr.ocr import load_engine

_MIN_CROP = 12  # pixels of a crop's short edge; smaller crops hold no text that could be read
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
    size: int,
    num_proc: int = 1,
    backend: str = "local",
    progress: Progress = lambda kind, done, total: None,
    device: str = "auto",
) -> Selection:
    """Judge every photograph and crop of the recipe, and make what crops lack. An interrupted call is continued.

    Decisions and crops are kept in the folder `work`. `size` is the side of a page in pixels: photographs that would
    have to be enlarged to it are dropped. For `num_proc` and `backend` see `run_tasks`, for `device` `find_devices`.
    `progress` is called with "backgrounds" or "crops", the chunks done and their number.

    Raises:
        FileNotFoundError: a source or a model is not there.
        ValueError: nothing in the sources can be used; no font draws a corpus; a model or device cannot be used.
        ImportError: a package that the recipe needs is not installed.
    """
    specs = {"backgrounds": recipe.backgrounds if recipe.photos else [], "crops": recipe.crops}
    # All sources are opened first: a missing source should show now, not after hours of judging photographs.
    sources = {kind: [_open(spec, kind) for spec in specs[kind]] for kind in STAGES}
    rendered = recipe.rendered > 0 or not recipe.crops
    fonts, corpora = (opened.fonts(tuple(recipe.fonts)), opened.corpora(recipe)) if rendered else ([], [])
    engine = _engine(recipe.engine).describe() if recipe.crops or recipe.text_free_backgrounds else {}
    chunks = {kind: cut_into_chunks(kind, [len(source) for source in sources[kind]]) for kind in STAGES}
    kept, stages = {}, []
    with _networks(recipe, _left(chunks["crops"], work), device, backend) as servers:
        judge = partial(_judge_chunk, recipe=recipe, work=work.absolute(), size=size, servers=servers)
        for kind in STAGES:
            todo, count = _left(chunks[kind], work), len(chunks[kind])
            done = count - len(todo)
            if count:
                progress(kind, done, count)
            for _ in run_tasks(judge, todo, num_proc, backend):
                done += 1
                progress(kind, done, count)
            kept[kind], counted = _select(kind, sources[kind], chunks[kind], work)
            stages += counted
            # Without photographs pages stand on procedural surfaces. Without crops there are no pages.
            needed = kind == "crops" or any(spec["kind"] != "free" for spec in specs[kind])
            if specs[kind] and needed and not kept[kind]["train"]:
                shutil.rmtree(work / kind, ignore_errors=True)  # the user may add other items and repeat the command
                dropped = Counter()
                for stage in counted:
                    dropped.update(stage["dropped"])
                why = ", ".join(f"{items} {reason}" for reason, items in dropped.items()) or "they are empty"
                names = ", ".join(source.name for source in sources[kind])
                raise ValueError(f"None of the {kind} can be used ({names}): {why}.")
    described = [_describe(source) for kind in STAGES for source in sources[kind]]
    families = opened.split_families(fonts, corpora)
    return Selection(kept["backgrounds"], kept["crops"], families, described, stages, engine)


def _left(chunks: Sequence[Chunk], work: Path) -> list[Chunk]:
    """The chunks that no earlier run has judged."""
    return [chunk for chunk in chunks if not chunk.file(work).is_file()]


@contextmanager
def _networks(recipe: Recipe, todo: Sequence[Chunk], device: str, backend: str) -> Iterator[list[Networks]]:
    """The networks on the GPUs; none where no crop is left to judge, or where each worker has its own on the CPU.

    Either way the models are loaded once before it yields: a wrong name should show now, too.
    """
    devices = find_devices(device, backend) if todo else []
    if not devices or devices == ["cpu"]:
        if todo:
            Networks(recipe.segmenter, recipe.enhancer).load()
        yield []
        return
    with serve(recipe.segmenter, recipe.enhancer, devices) as servers:
        yield servers


def _select(
    kind: str, sources: Sequence[Source], chunks: Sequence[Chunk], work: Path
) -> tuple[dict[str, list[tuple]], list[dict]]:
    """The places of the items kept for each split (see `Selection`), and what each stage kept and dropped."""
    kept: dict[str, list[tuple]] = {"train": [], "test": []}
    stages = []
    for number, source in enumerate(sources):
        places, decisions = [], []
        for chunk in (chunk for chunk in chunks if chunk.number == number):
            made = chunk.read(work)
            decisions += made
            places += _places(chunk, made, work)
        names = [decision.name for decision in decisions if not decision.reason]
        test = set(split_names(names, source.name)[1])
        for name, place in zip(names, places, strict=True):
            kept["test" if name in test else "train"].append(place)
        stages += count_stages(kind, source.name, decisions)
    kept["test"] = kept["test"] or kept["train"]  # a single item has to do for both
    return kept, stages


_engine = lru_cache(maxsize=1)(partial(load_engine, cores=1))


@lru_cache(maxsize=1)
def _own_networks(segmenter: str, enhancer: str | None) -> Networks:
    """A worker's, on the CPU."""
    return Networks(segmenter, enhancer)


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


def _judge_chunk(chunk: Chunk, recipe: Recipe, work: Path, size: int, servers: Sequence[Networks]) -> None:
    """Judge the items of a chunk. Writes the crops that are kept and, after them, the decisions.

    `servers`: the networks on the GPUs; without one they run here.
    """
    source = opened.source((recipe.backgrounds if chunk.kind == "backgrounds" else recipe.crops)[chunk.number])
    items = _read(source, range(chunk.start, chunk.stop))
    if chunk.kind == "backgrounds":
        decisions = [item if isinstance(item, Decision) else _judge_background(item, recipe, size) for item in items]
    else:
        # each worker keeps to one GPU
        networks = servers[os.getpid() % len(servers)] if servers else _own_networks(recipe.segmenter, recipe.enhancer)
        try:
            decisions, crops = _judge_crops(list(items), recipe, size, networks)
        except (EOFError, ConnectionError):
            raise RuntimeError(
                "The process with the models on the GPU died: run the same command again, on the CPU with --device cpu."
            ) from None
        write_crops(chunk.file(work, "parquet"), crops)
    chunk.write(work, decisions)


def _read(source: Source, items: range) -> Iterator[Sample | Decision]:
    """The samples in order; in the place of one that cannot be read, why."""
    names = cache(source.names)
    for i in items:
        try:
            sample = source[i]
        except ValueError as error:
            yield Decision(names()[i], "reading", "missing" if "no image" in str(error) else "unreadable")
            continue
        assert isinstance(sample, Sample)  # `_open` refuses pairs
        yield sample


def _judge_background(sample: Sample, recipe: Recipe, size: int) -> Decision:
    least = max(recipe.min_background, size)  # an HR page is never enlarged
    if min(sample.image.shape[:2]) < least:
        return Decision(sample.name, "size", f"smaller than {least} pixels")
    if recipe.text_free_backgrounds:
        small = shrink_photo(sample.image, 1280)  # text that is large enough to be seen on a page shows at this size
        if reason := rules.judge_background(_engine(recipe.engine).find(small), small.shape, recipe.filter):
            return Decision(sample.name, "text", reason)
    return Decision(sample.name)


def _judge_crops(
    items: Sequence[Sample | Decision], recipe: Recipe, size: int, networks: Networks
) -> tuple[list[Decision], list[Crop]]:
    """The decisions on crops in order, and those that are kept, segmented where needed and super-resolved.

    The networks see all crops of a call at once. What is dropped for its size is not segmented, and what is dropped for
    its mask or its text is not super-resolved.
    """
    decisions = [item if isinstance(item, Decision) else _judge_size(item, recipe) for item in items]
    left = [i for i, decision in enumerate(decisions) if not decision.reason]
    samples = {i: item for i in left if isinstance(item := items[i], Sample)}
    bare = [i for i in left if samples[i].mask is None]
    made = dict(zip(bare, networks.segment([samples[i].image for i in bare]), strict=True))
    crops = {}
    for i, sample in samples.items():
        mask = made[i] if sample.mask is None else sample.mask
        if reason := rules.judge_mask(mask, recipe.filter):
            decisions[i] = Decision(sample.name, "segmentation", reason)
        elif i in made and (
            reason := rules.filter_crop(sample.image, mask, sample.text, _engine(recipe.engine), recipe.filter)
        ):
            decisions[i] = Decision(sample.name, "size" if reason == rules.SMALL_CHARACTERS else "OCR", reason)
        else:
            crops[i] = Crop(sample.image, mask, _lines(sample), sample.name)
    if recipe.enhancer is not None:
        restored = networks.enhance([crop.image for crop in crops.values()], longest=size)  # no page shows more of it
        for i, image in zip(crops, restored, strict=True):
            crops[i] = _resized(crops[i], image)
            decisions[i] = Decision(crops[i].name, enhanced=True)
    return decisions, list(crops.values())


def _judge_size(sample: Sample, recipe: Recipe) -> Decision:
    if min(sample.image.shape[:2]) < _MIN_CROP:
        return Decision(sample.name, "size", f"smaller than {_MIN_CROP} pixels")
    reason = rules.judge_size(sample.image.shape, sample.text, recipe.filter) if sample.text else None
    return Decision(sample.name, "size", reason) if reason else Decision(sample.name)


def _lines(sample: Sample) -> list[dict]:
    """The lines of a crop; its text is one where the source knows no more."""
    if sample.lines or not sample.text:
        return sample.lines
    height, width = sample.image.shape[:2]
    return [{"text": sample.text, "quad": [[0, 0], [width, 0], [width, height], [0, height]]}]


def _resized(crop: Crop, image: np.ndarray) -> Crop:
    """The crop with another image of itself, of another size; mask and lines follow."""
    height, width = image.shape[:2]
    factor = np.array([width / crop.mask.shape[1], height / crop.mask.shape[0]], np.float32)
    how = cv2.INTER_AREA if factor.max() < 1 else cv2.INTER_CUBIC
    mask = cv2.resize(crop.mask, (width, height), interpolation=how)
    lines = [
        {"text": line["text"], "quad": (np.asarray(line["quad"], np.float32) * factor).tolist()} for line in crop.lines
    ]
    return Crop(image, mask, lines, crop.name)
