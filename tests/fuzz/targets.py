"""What is fuzzed. A target makes whole samples once, and of them and a seed the files of a case, which it uses."""

import contextlib
import json
import logging
import resource
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.mutate import changed, damaged, damaged_text
from fuzz.pictures import drawn, picture_files

from tadisr.io.images import MAX_PIXELS, image_size, read_header, read_image, write_image
from tadisr.io.messages import UserError

Case = Callable[[int, Path], None]
EXPECTED = (ValueError, FileNotFoundError, UserError, ImportError)


def open_target(name: str, samples: Path) -> Case:
    """`case(seed, folder)` of a target; it raises where a result or an error is not as it should be."""
    warnings.simplefilter("ignore")
    logging.disable()
    # what is still asked for beyond this is a MemoryError, and so a failure; address space counts, not memory
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (24 << 30), resource.RLIM_INFINITY))
    if name in ("models", "commands"):
        from fuzz import programs  # they take seconds to import

        return getattr(programs, name)(samples)
    return {"images": images, "databases": databases, "tables": tables, "settings": settings}[name](samples)


@contextlib.contextmanager
def one_line(*more: type[Exception]):
    """Within, errors of the expected kinds, and of `more`, are right if they are one line."""
    try:
        yield
    except (*EXPECTED, *more) as error:
        text = str(error)
        if isinstance(error, UnicodeError) or not text.strip() or len(text.splitlines()) > 1 or len(text) > 5000:
            raise AssertionError(f"not one line, or of a wrong kind: {error!r}") from error


def images(samples: Path) -> Case:
    """`read_header` and `read_image`, and whether what was read can be written and read again."""
    files = picture_files()

    def case(seed: int, folder: Path) -> None:
        chance = Random(seed)
        suffix = chance.choice(sorted({suffix for suffix, _ in files}))
        others = [data for other, data in files if other == suffix]
        data = chance.choice(others)
        path = folder / f"a{suffix if chance.random() < 0.9 else chance.choice(files)[0]}"
        path.write_bytes(damaged(data, chance, others))
        limit = chance.choice([MAX_PIXELS, 1 << 22, 1 << 22, 1 << 22, 100])
        size = None
        with one_line():
            header = read_header(path, limit)
            size = header.height, header.width
            assert size == image_size(path) and min(size) > 0 and size[0] * size[1] <= limit and header.frames > 0
        with one_line():
            read = read_image(path, limit)
            assert size == read.rgb.shape[:2], f"the header says {size}, the pixels {read.rgb.shape}"
            assert read.rgb.dtype == np.uint8 and read.rgb.shape[2] == 3 and read.rgb.flags.writeable
            assert read.alpha is None or (read.alpha.shape == size and read.alpha.dtype == np.uint8)
            if size[0] * size[1] < 10_000:
                kind = chance.choice([".png", ".jpg", ".webp", ".tif"])
                alpha = None if kind == ".jpg" else read.alpha
                write_image(folder / f"out{kind}", read.rgb, alpha, read.metadata)
                again = read_image(folder / f"out{kind}")
                assert kind == ".jpg" or (np.array_equal(again.rgb, read.rgb) and _same(again.alpha, alpha))

    return case


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """None stands for an opaque alpha, which WebP leaves out."""
    full = np.uint8(255)
    return bool(np.all((full if one is None else one) == (full if other is None else other)))


def databases(samples: Path) -> Case:
    """Databases of TextZoom's and CTR's layout: right values or one line."""
    from tadisr.data_synthesis.sources import open_source
    from tadisr.datasets.textzoom import Line, TextZoom, write_textzoom

    chance = Random(0)
    shapes = ((16, 64), (32, 128), (32, 128))
    pictures = [[drawn(chance, *shape) for shape in shapes] for _ in range(40)]
    lines = [Line(lr, hr, f"word {i}", mask[..., 0]) for i, (lr, hr, mask) in enumerate(pictures)]
    write_textzoom(samples / "zoom", lines, len(lines))
    whole = (samples / "zoom" / "data.mdb").read_bytes()

    def case(seed: int, folder: Path) -> None:
        chance = Random(seed)
        data = bytearray(whole)
        page = 4096 * chance.randrange(len(data) // 4096)
        kind = chance.randrange(6)
        if kind == 0:
            del data[chance.randrange(len(data)) :]
        elif kind == 1:  # a number in a page's head
            data[page : page + 64] = damaged(bytes(data[page : page + 64]), chance)[:64].ljust(64, b"\0")
        elif kind == 2:
            other = 4096 * chance.randrange(len(data) // 4096)
            data[page : page + 4096], data[other : other + 4096] = data[other : other + 4096], data[page : page + 4096]
        elif kind == 3:  # the headers
            data[:8192] = damaged(bytes(data[:8192]), chance)[:8192].ljust(8192, b"\0")
        else:
            data = damaged(bytes(data), chance)
        (folder / "data.mdb").write_bytes(data)
        with one_line():
            found = TextZoom(folder)
            for i in range(min(len(found), 50)):
                with one_line():
                    line = found[i]
                    assert (line.lr.shape, line.hr.shape) == ((16, 64, 3), (32, 128, 3)) and isinstance(line.label, str)
                    assert kind or all(map(_same, (line.lr, line.hr), lines[i][:2]))  # of a cut file, what it was
        with one_line():
            source = open_source({"kind": "ctr", "path": str(folder)})
            for i in range(min(len(source), 3)):
                with one_line():
                    source[i]

    return case


def tables(samples: Path) -> Case:
    """FTSR data sets, as Parquet and as folders: rows of the right kinds or one line."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tadisr.datasets.ftsr import FolderPages, Shards
    from tadisr.io.images import encode_png

    chance = Random(0)
    rows = []
    for _ in range(4):
        hr = drawn(chance, 64, 64)
        pictures = {"lr": hr[::4, ::4], "hr": hr, "mask": hr[..., 0]}
        rows.append({name: {"bytes": encode_png(x), "path": None} for name, x in pictures.items()})
        rows[-1] |= {"text": ["a", "出口"], "boxes": [[1.0, 2.0, 3.0, 2.0, 3.0, 4.0, 1.0, 4.0]] * 2}
    for name in ("zstd", "none", "snappy"):
        pq.write_table(pa.Table.from_pylist(rows), samples / f"{name}.parquet", compression=name)
    shards = [path.read_bytes() for path in sorted(samples.glob("*.parquet"))]
    record = {"file_name": "a.png", "lines": [{"text": "a", "quad": [[0, 0], [9, 0], [9, 9], [0, 9]]}]}

    def check(pages: Any) -> None:
        for i in range(min(len(pages), 6)):
            for column in ("lr", "hr", "mask"):
                with one_line():
                    image = getattr(pages, column)(i)
                    assert image.dtype == np.uint8 and image.ndim == 2 + (column != "mask")
            with one_line():
                for line in pages.lines(i):
                    assert isinstance(line["text"], str) and np.shape(line["quad"]) == (4, 2)

    def case(seed: int, folder: Path) -> None:
        chance = Random(seed)
        if chance.random() < 0.7:
            path = folder / "train-0.parquet"
            if chance.random() < 0.3:  # a whole file of odd values
                with contextlib.suppress(Exception):  # values that no table holds
                    pq.write_table(pa.Table.from_pylist([changed(chance.choice(rows), chance) for _ in range(2)]), path)
            if not path.exists():
                path.write_bytes(damaged(chance.choice(shards), chance, shards))
            with one_line():
                check(Shards([path]))
            return
        for name in ("lr", "hr", "mask"):
            (folder / name).mkdir()
            data = rows[0][name]["bytes"]
            (folder / name / "a.png").write_bytes(damaged(data, chance) if chance.random() < 0.5 else data)
        (folder / "metadata.jsonl").write_bytes(damaged_text(json.dumps(record).encode(), chance) + b"\n")
        with one_line():
            check(FolderPages(folder))

    return case


def settings(samples: Path) -> Case:
    """YAML and JSON: recipes, trainings' configs, boxes, truths."""
    import yaml

    from tadisr.data_synthesis.recipe import load_recipe
    from tadisr.data_synthesis.sources.annotated import read_words
    from tadisr.data_synthesis.sources.photographs import select
    from tadisr.data_synthesis.writing.shards import Job
    from tadisr.evaluation.pairs import _read_truth
    from tadisr.models.textdiff.photo import read_boxes
    from tadisr.training.engine.command_line import parse
    from tadisr.training.restoration.train_config import TrainConfig
    from tadisr.training.textdiff.line_config import CRNNConfig

    home = Path(__file__).resolve().parents[2]
    recipes = [path.read_bytes() for path in sorted(home.glob("data_synthesis/recipes/*.yaml"))]
    recipes.append(
        b"filter: {small: enhance}\nenhancer: x\npaste: {count: [1, 2]}\ntext: {font_size: [20, 40]}\n"
        b"degradation: {preset: mild}\ncrops: [{kind: ctr, path: x}]\n"
    )
    configs = [path.read_bytes() for path in sorted(home.glob("training/configs/*.yaml"))]
    quad = [[1, 2], [30, 2], [30, 12], [1, 12]]
    boxes = json.dumps([{"quad": quad, "text": "a"}, {"quad": quad}]).encode()
    truth = json.dumps([{"name": "a", "text": [{"box": quad, "text": "a", "annotated": True}]}]).encode()
    words = json.dumps({"0": {"text": "a", "bbox": sum(quad, []), "char": {}}}).encode()
    nines = [b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9)) for i in range(97, 105)]
    tails = [b"a: &a [1]\n" + b"".join(nines), b"[" * 3000, b"? " * 2000, b"x: 0x" + b"f" * 3000, b"a: 2001-13-45"]
    tails += [b"<<: *x", b"x: !!int a", b"\xff"]

    def yaml_of(files: list[bytes], chance: Random) -> bytes:
        data, kind = chance.choice(files), chance.random()
        if kind < 0.6:
            with contextlib.suppress(yaml.YAMLError, RecursionError, UnicodeError):
                text = yaml.safe_dump(changed(yaml.safe_load(data), chance), allow_unicode=chance.random() < 0.5)
                return text.encode("utf-8", "surrogatepass")
        return data + chance.choice([*tails, data]) if kind < 0.7 else damaged(data, chance, files)

    def case(seed: int, folder: Path) -> None:
        chance = Random(seed)
        kind = chance.randrange(6)
        path = folder / ("a.yaml" if kind < 2 else "a.json")
        with one_line():
            if kind == 0:
                path.write_bytes(yaml_of(recipes, chance))
                Job(load_recipe(str(path)), 2, 0, 64, "parquet").describe()
            elif kind == 1:
                path.write_bytes(yaml_of(configs, chance))
                try:
                    parse(["--config", str(path)], chance.choice([TrainConfig, CRNNConfig]))
                except SystemExit as error:
                    raise ValueError(error.code) from None
            elif kind == 2:
                path.write_bytes(damaged_text(boxes, chance))
                assert all(quad.shape == (4, 2) for quad in read_boxes(path))
            elif kind == 3:
                path.write_bytes(damaged_text(truth, chance))
                _read_truth(path)
            elif kind == 4:
                path.write_bytes(damaged_text(words, chance))
                read_words(path)
            else:
                path.write_bytes(damaged_text(b'["a.png", {"path_gt": "HR/b.png"}]', chance))
                select(["a.png", "b.png"], path)

    return case
