"""What is fuzzed. A target makes whole samples once, and from them and a seed the files of a case, which it then uses."""

import contextlib
import io
import json
import logging
import resource
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from fuzz.mutate import changed, damaged, damaged_tensors, damaged_text
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
    return {
        "images": images, "databases": databases, "tables": tables, "settings": settings, "models": models,
        "commands": commands,
    }[name](samples)  # fmt: skip


@contextlib.contextmanager
def one_line():
    """Within, errors of the expected kinds are right if they are one line."""
    try:
        yield
    except EXPECTED as error:
        text = str(error)
        if isinstance(error, UnicodeError) or not text.strip() or len(text.splitlines()) > 1 or len(text) > 3000:
            raise AssertionError(f"not one line, or of a wrong kind: {error!r}") from error


def drawn(chance: Random, height: int = 0, width: int = 0) -> np.ndarray:
    """A small picture (H, W, 3) uint8: edges, a gradient and noise."""
    height, width = height or chance.choice([1, 5, 16, 33]), width or chance.choice([1, 7, 16, 40])
    rng = np.random.default_rng(chance.randrange(1 << 30))
    image = np.add.outer(np.arange(height) * 3, np.arange(width) * 5)[..., None] % 256 + rng.integers(
        0, 30, (height, width, 3)
    )
    image[height // 3 :, width // 3 : width // 2 + 1] = chance.randrange(256)
    return image.clip(0, 255).astype(np.uint8)


def picture_files() -> list[tuple[str, bytes]]:
    """Small files of every format that is read, and many of their kinds: (suffix, bytes)."""
    chance, found = Random(0), []
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    icc = (
        __import__("PIL.ImageCms", fromlist=["_"])
        .ImageCmsProfile(__import__("PIL.ImageCms", fromlist=["_"]).createProfile("sRGB"))
        .tobytes()
    )
    kinds: list[tuple[str, str, str, dict[str, Any]]] = [
        *((".png", "PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        (".png", "PNG", "RGB", {"exif": exif, "icc_profile": icc, "dpi": (300, 300)}), (".png", "PNG", "P", {"transparency": 3}),
        (".jpg", "JPEG", "L", {}), (".jpg", "JPEG", "CMYK", {}), (".jpg", "JPEG", "RGB", {"progressive": True, "exif": exif}),
        (".jpg", "JPEG", "RGB", {"icc_profile": icc, "dpi": (72, 72), "comment": "hello"}),
        (".webp", "WEBP", "RGB", {}), (".webp", "WEBP", "RGBA", {"lossless": True, "exif": exif, "icc_profile": icc}),
        *((".bmp", "BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")), (".gif", "GIF", "P", {}), (".gif", "GIF", "L", {}),
        (".ppm", "PPM", "RGB", {}), (".pgm", "PPM", "L", {}), (".jp2", "JPEG2000", "RGB", {}), (".jp2", "JPEG2000", "RGBA", {}),
        (".avif", "AVIF", "RGB", {"exif": exif}), (".avif", "AVIF", "RGBA", {}),
        *((".tif", "TIFF", mode, {"compression": way}) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")
          for way in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")),
        (".tif", "TIFF", "1", {"compression": "group4"}), (".tif", "TIFF", "RGB", {"compression": "jpeg"}),
        (".tif", "TIFF", "RGB", {"exif": exif, "icc_profile": icc, "dpi": (200, 200)}),
    ]  # fmt: skip
    for suffix, name, mode, options in kinds:
        image = Image.fromarray(drawn(chance)).convert("L" if mode in ("I;16", "I", "F") else mode)
        image = (
            Image.fromarray(np.asarray(image).astype({"I;16": "u2", "I": "i4", "F": "f4"}[mode]))
            if mode in ("I;16", "I", "F")
            else image
        )
        with contextlib.suppress(OSError, KeyError):  # a Pillow without this format
            image.save(buffer := io.BytesIO(), name, **options)
            found.append((suffix, buffer.getvalue()))
    frames = [Image.fromarray(drawn(chance, 9, 12)) for _ in range(3)]
    for suffix, name in ((".gif", "GIF"), (".png", "PNG"), (".webp", "WEBP"), (".tif", "TIFF"), (".mpo", "MPO")):
        frames[0].save(buffer := io.BytesIO(), name, save_all=True, append_images=frames[1:])
        found.append((suffix, buffer.getvalue()))
    with contextlib.suppress(ImportError):
        import tifffile

        for array, options in (
            (drawn(chance), {"planarconfig": "separate", "photometric": "rgb"}), (drawn(chance).astype("u2") * 257, {"photometric": "rgb"}),
            (drawn(chance, 40, 40), {"tile": (16, 16), "photometric": "rgb"}), (drawn(chance)[..., 0].astype("f4"), {}),
            (drawn(chance)[..., 0], {"photometric": "miniswhite"}), (drawn(chance)[..., 0].astype("i2"), {}), (drawn(chance), {"bigtiff": True}),
        ):  # fmt: skip
            tifffile.imwrite(buffer := io.BytesIO(), array, **options)
            found.append((".tif", buffer.getvalue()))
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.from_pillow(Image.fromarray(drawn(chance, 16, 40))).save(buffer := io.BytesIO(), quality=80)
        found.append((".heic", buffer.getvalue()))
    return found


def images(samples: Path) -> Case:
    """`read_header` and `read_image`, and whether what was read can be written and read again."""
    files = picture_files()

    def case(seed: int, folder: Path) -> None:
        chance = Random(seed)
        suffix, data = files[chance.randrange(len(files))]
        others = [data for other, data in files if other == suffix or chance.random() < 0.05]
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
    return (one is None or one.min() == 255) if other is None else one is not None and np.array_equal(one, other)


def databases(samples: Path) -> Case:
    """Databases of TextZoom's and CTR's layout: right values or one line."""
    from tadisr.data_synthesis.sources import open_source
    from tadisr.datasets.textzoom import Line, TextZoom, write_textzoom

    chance = Random(0)
    lines = [
        Line(drawn(chance, 16, 64), drawn(chance, 32, 128), f"word {i}", drawn(chance, 32, 128)[..., 0])
        for i in range(40)
    ]
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
                    assert (
                        line.lr.shape == (16, 64, 3) and line.hr.shape == (32, 128, 3) and isinstance(line.label, str)
                    )
                    assert kind or all(map(_same, (line.lr, line.hr), lines[i][:2]))
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
            odd = chance.random() < 0.3
            path = folder / "train-0.parquet"
            if odd:  # a whole file of odd values
                with contextlib.suppress(Exception):  # values that no table holds
                    pq.write_table(pa.Table.from_pylist([changed(chance.choice(rows), chance) for _ in range(2)]), path)
            if not path.exists():
                path.write_bytes(damaged(chance.choice(shards), chance, shards))
            with one_line():
                check(Shards([path]))
            return
        for name in ("lr", "hr", "mask"):
            (folder / name).mkdir()
            (folder / name / "a.png").write_bytes(
                damaged(rows[0][name]["bytes"], chance) if chance.random() < 0.5 else rows[0][name]["bytes"]
            )
        text = "".join(json.dumps(record) + "\n" for _ in range(2)).encode()
        (folder / "metadata.jsonl").write_bytes(
            chance.choice([damaged_text, damaged])(text.splitlines()[0], chance) + b"\n"
        )
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
    recipes = [
        path.read_bytes()
        for folder in ("data_synthesis", "training/tiny")
        for path in sorted((home / folder / "recipes").glob("*.yaml"))
    ]
    recipes.append(
        b"filter: {small: enhance}\nenhancer: x\npaste: {count: [1, 2]}\ntext: {font_size: [20, 40]}\ndegradation: {preset: mild}\ncrops: [{kind: ctr, path: x}]\n"
    )
    configs = [path.read_bytes() for path in sorted((home / "training/configs").glob("*.yaml"))]
    quad = [[1, 2], [30, 2], [30, 12], [1, 12]]
    boxes = json.dumps([{"quad": quad, "text": "a"}, {"quad": quad}]).encode()
    truth = json.dumps([{"name": "a", "text": [{"box": quad, "text": "a", "annotated": True}]}]).encode()
    words = json.dumps({"0": {"text": "a", "bbox": sum(quad, []), "char": {}}}).encode()
    aliases = b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(
        b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9)) for i in range(97, 105)
    )

    def yaml_of(files: list[bytes], chance: Random) -> bytes:
        data = chance.choice(files)
        kind = chance.random()
        if kind < 0.6:
            with contextlib.suppress(yaml.YAMLError, RecursionError, UnicodeError):
                return yaml.safe_dump(
                    changed(yaml.safe_load(data), chance), allow_unicode=chance.random() < 0.5
                ).encode("utf-8", "surrogatepass")
        if kind < 0.7:
            return data + chance.choice(
                [
                    aliases,
                    b"[" * 3000,
                    b"x: 0x" + b"f" * 3000,
                    b"a: 2001-13-45",
                    b"? " * 2000,
                    b"<<: *x",
                    data,
                    b"x: !!int a",
                ]
            )
        return damaged(data, chance, files)

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


def _toy_models(samples: Path) -> dict[str, Path]:
    """A TADiSR pipeline, a TextDiff pipeline, and an adapter beside its base, all of toy size."""
    from helpers import tiny, tiny_textdiff

    folders = {name: samples / name for name in ("lean", "textdiff", "base", "adapter")}
    tiny.lean().save_pretrained(folders["lean"])
    tiny_textdiff.textdiff().save_pretrained(folders["textdiff"])
    base = tiny.sd(samples)
    base.save_pretrained(folders["base"])
    tiny.on_base(base, base_model="../base").save_pretrained(folders["adapter"])
    return folders


def models(samples: Path) -> Case:
    """Model folders of which one file is damaged: a model that restores, or one line."""
    import shutil

    import torch

    import tadisr

    torch.set_num_threads(1)
    folders = _toy_models(samples)
    image = drawn(Random(0), 8, 8)

    def case(seed: int, folder: Path) -> None:
        chance = Random(seed)
        name = chance.choice(["lean", "lean", "textdiff", "adapter", "adapter"])
        place = folder / name
        shutil.copytree(folders[name], place)
        files = sorted(path for path in place.rglob("*") if path.suffix in (".json", ".safetensors"))
        path = chance.choice(files)
        data = path.read_bytes()
        kind = chance.randrange(12)
        if kind == 0:
            path.unlink()
        elif kind == 1:
            other = chance.choice(files)
            path.write_bytes(other.read_bytes())
        else:
            path.write_bytes(
                damaged_tensors(data, chance) if path.suffix == ".safetensors" else damaged_text(data, chance)
            )
        options = {"base_model": str(folders["base"])} if name == "adapter" else {}
        with one_line():
            if name == "textdiff":
                from tadisr import TextDiffPipeline

                pipe = TextDiffPipeline.from_pretrained(place)
                result = pipe(
                    Image.fromarray(drawn(Random(0), 16, 64)), num_inference_steps=1, output_type="np"
                ).images[0]
                assert np.isfinite(result).all()
            else:
                restored = tadisr.load(place, "cpu", **options).restore(image).image
                assert restored.dtype == np.uint8 and restored.shape[2] == 3

    return case


def commands(samples: Path) -> Case:
    """Whole commands: an exit code that is documented, one line for each thing said, outputs that can be read."""
    import os

    import torch

    from tadisr import cli

    torch.set_num_threads(1)
    folders, files = _toy_models(samples), picture_files()

    def case(seed: int, folder: Path) -> None:
        chance = Random(seed)
        os.chdir(folder)
        (folder / "in" / "sub").mkdir(parents=True)
        names = []
        for i in range(chance.choice([1, 1, 2, 3])):
            suffix, data = chance.choice(files)
            stem = chance.choice(["a", "a b", "é", "x\ny", "-o", "\u202eb", "*", "a" * 200, "[z]"]) + str(i)
            names.append(f"{chance.choice(['in', 'in/sub', '.'])}/{stem}{suffix}")
            Path(names[-1]).write_bytes(damaged(data, chance) if chance.random() < 0.5 else data)
        Path("boxes.json").write_bytes(
            damaged_text(b'[{"quad": [[1, 1], [9, 1], [9, 6], [1, 6]]}]', chance)
            if chance.random() < 0.5
            else b'[{"quad": [[0, 0], [4, 0], [4, 3], [0, 3]]}]'
        )
        odd = [
            "0",
            "-1",
            "1",
            "2",
            "3",
            "64",
            "1e9",
            "nan",
            "auto",
            "none",
            "",
            "x" * 300,
            "\u202e",
            "in",
            "out.png",
            "a.webp",
            "png",
            "same",
        ]
        kind = chance.choice(
            ["upscale"] * 6
            + ["refine", "refine", "evaluate", "evaluate-lines", "convert", "synthesize", "synthesize-lines"]
        )
        flags = [flag for option in _options(kind) for flag in option]
        out = chance.choice(["out", "out", "out/o.png", "o.jpg", "o.webp", "o.tif", "in", ".", names[0], "boxes.json"])
        argv = [kind, "-o", out]
        if kind == "upscale":
            argv += [
                *chance.choice([["in"], names, names, ["in/**"], ["none.png"], ["."]]),
                "--model",
                str(folders["lean"]),
            ]
        elif kind == "refine":
            argv += [names[0], "--boxes", "boxes.json", "--model", str(folders["textdiff"])]
        elif kind == "evaluate":
            argv += [
                "--data",
                chance.choice(["in", "."]),
                "--methods",
                chance.choice(["bicubic", "x", str(folders["lean"])]),
            ]
        elif kind in ("synthesize", "synthesize-lines"):
            argv += ["--num", chance.choice(["0", "-1", "x"])]  # only mistakes: making data takes long
        argv += ["--device", "cpu"] if "--device" in flags else []
        for _ in range(chance.choice([0, 0, 1, 2, 3])):
            argv += [flag := chance.choice(flags)]
            argv += [chance.choice(odd)] if chance.random() < 0.8 else []
            if flag in ("--help", "-h", "--push-to-hub", "--model", "--base-model", "--config") or flag == "--num":
                argv = argv[:-1] if argv[-1] == flag else argv[:-2]
        (folder / "argv.json").write_text(json.dumps(argv))
        told, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said):
            code = cli.main(argv)
        assert code in (0, 1, 2), code
        lines = said.getvalue().splitlines()
        assert all(line.startswith("tadisr: ") and "Traceback" not in line for line in lines), lines
        assert code == 0 or lines, "a failure without a word"
        if kind == "upscale":
            assert not list(folder.rglob(".*.part"))
            for path in Path("out").rglob("*.png") if code == 0 else ():
                read_image(path)

    return case


def _options(command: str) -> list[list[str]]:
    """The flags of a subcommand."""
    import argparse
    from importlib import import_module

    from tadisr.cli import COMMANDS

    import_module(COMMANDS[command][0]).register(parser := argparse.ArgumentParser())
    return [action.option_strings for action in parser._actions if action.option_strings]
