"""What the golden test makes: models' images, trainings, data sets and reports, each as a hash and a tolerant form.

`record.py` makes each section in a process of its own, with an environment that pins the processor's instructions.
Everything goes through the command line, the training scripts and the pipelines, so that modules may move.
"""

import hashlib
import io
import json
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import yaml
from PIL import Image
from pyarrow import parquet

from helpers import evaluation_samples, source_samples, textdiff_runs, tiny, tiny_fonts, tiny_textdiff, training_runs
from tadisr import TADiSRPipeline, TextDiffPipeline, cli
from tadisr.loading import load as loading
from tadisr.training import train_crnn, train_lora, train_segmenter, train_textdiff

ROOT = Path(__file__).resolve().parents[2]
SAVED = Path(__file__).resolve().parent / "saved"
STEPS = 20
BOTH_WAYS = ("tiny",)  # recipes that even a test makes by one worker and by two
CTR = ("OPEN", "Coffee", "Exit 7", "SALE", "Market", "Tickets")
VOLATILE = {"tadisr", "engines", "packages", "seconds", "notes"}  # of reports: versions, times, what is not here
GRID = 6  # of means, each way, that stand for an image
Items = dict[str, dict[str, Any]]


# ---- what is kept of a result


def item(exact: bytes | Iterable[bytes], tolerant: Any, tolerance: float) -> dict[str, Any]:
    """A result: the SHA-256 of its bytes, and numbers that may differ by `tolerance`, relative and absolute."""
    digest = hashlib.sha256()
    for part in [exact] if isinstance(exact, bytes) else exact:
        digest.update(len(part).to_bytes(8, "little") + part)
    return {"sha256": digest.hexdigest(), "tolerance": tolerance, "tolerant": tolerant}


def rounded(value: Any, digits: int = 5) -> Any:
    """JSON values with floats to `digits` significant digits; what is not finite as a string."""
    if isinstance(value, dict):
        return {key: rounded(part, digits) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part, digits) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else str(value)
    return value


def array_bytes(array: np.ndarray) -> bytes:
    """Type, shape and values."""
    return f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()


def image_form(array: np.ndarray) -> dict[str, Any]:
    """An image's (C, H, W) shape, mean and deviation of each channel, and the means over a coarse grid."""
    array = array.astype(np.float64)
    parts = [part for rows in np.array_split(array, GRID, 1) for part in np.array_split(rows, GRID, 2)]
    form = {"shape": list(array.shape), "mean": array.mean((1, 2)).tolist(), "std": array.std((1, 2)).tolist()}
    return rounded({**form, "grid": [float(part.mean()) for part in parts]}, 4)


def images(tensors: Iterable[torch.Tensor]) -> dict[str, Any]:
    """Restored images or masks, in [0, 1]."""
    arrays = [tensor.numpy() for tensor in tensors]
    assert all(array.dtype == np.float32 for array in arrays)
    return item(map(array_bytes, arrays), [image_form(array) for array in arrays], 0.01)


def pixels(*files: Path) -> dict[str, Any]:
    """Image files, decoded."""
    arrays = [np.atleast_3d(np.asarray(Image.open(file))) for file in files]
    return item(map(array_bytes, arrays), [image_form(np.moveaxis(array, 2, 0) / 255) for array in arrays], 0.01)


def restored(result: Any) -> Items:
    """Images and masks of a pipeline's output."""
    parts = {"images": result.images, "masks": result.text_masks, "coarse": getattr(result, "coarse_images", None)}
    return {name: images(tensors) for name, tensors in parts.items() if tensors is not None}


def run_of(out: Path) -> Items:
    """A training's weights, bit for bit, and its log without times."""
    weights = dict(sorted(training_runs.weights(out).items()))
    exact = (part for name, x in weights.items() for part in (name.encode(), array_bytes(x.numpy())))
    norms = {name: rounded(float(x.double().norm())) for name, x in weights.items()}
    log = training_runs.records(out)
    return {
        "weights": item(exact, norms, 0.05),
        "log": item(json.dumps(log, sort_keys=True).encode(), rounded(log), 0.05),
    }


def named(prefix: str, items: Items) -> Items:
    """The items with longer names."""
    return {f"{prefix}: {name}": value for name, value in items.items()}


# ---- inputs, from NumPy alone: no font and no resampling of a library is in them


def picture(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(height, width, 3) and its mask, uint8: bars in rows like letters, on an uneven ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    slope = rng.uniform(-40, 40, (2, 3))
    ground = rng.uniform(120, 210, 3) + y[..., None] / height * slope[0] + x[..., None] / width * slope[1]
    ground += 12 * np.sign(np.sin(x / 7.0 + seed) * np.sin(y / 5.0))[..., None]
    mask = np.zeros((height, width), np.uint8)
    letter = max(4, height // 8)
    for top in range(letter // 2, height - letter, 2 * letter):
        for left in range(letter // 2, width - letter, letter):
            code = int(rng.integers(0, 32))
            for bit in range(5):
                if code >> bit & 1:
                    upright = bit % 2
                    at = bit * letter // 6
                    if upright:
                        mask[top : top + letter, left + at : left + at + max(1, letter // 6)] = 255
                    else:
                        mask[top + at : top + at + max(1, letter // 6), left : left + letter * 4 // 5] = 255
    ink = rng.uniform(0, 60, 3)
    image = np.where(mask[..., None] > 0, ink, ground)
    return np.rint(image.clip(0, 255)).astype(np.uint8), mask


def smaller(image: np.ndarray, factor: int = 4) -> np.ndarray:
    """Means over squares of pixels."""
    height, width = (side // factor for side in image.shape[:2])
    means = image.reshape(height, factor, width, factor, -1).mean((1, 3))
    return np.rint(means).astype(np.uint8)


def tensor(image: np.ndarray) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]


def photo(seed: int, height: int, width: int) -> torch.Tensor:
    """(1, 3, height, width): a picture of four times the size, reduced."""
    return tensor(smaller(picture(seed, 4 * height, 4 * width)[0]))


def save(path: Path, image: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


def fill(*models: torch.nn.Module) -> None:
    """Weights from their names alone: a library that initialises in another order changes nothing."""
    for model in models:
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(parameter.shape)
                values = values / math.sqrt(values[0].size)
                parameter.data.copy_(torch.from_numpy(np.float32(values)))


def toy_base(family: str, folder: Path) -> Any:
    """A base pipeline at toy size."""
    folder.mkdir(parents=True, exist_ok=True)
    base = tiny.FAMILIES[family](folder)
    fill(*(part for part in base.components.values() if isinstance(part, torch.nn.Module)))
    return base


def adapter(base: Any, place: str) -> TADiSRPipeline:
    """An adapter on a base, as if trained; `place` is what it says of where its base is."""
    pipe = tiny.on_base(base, base_model=place)
    fill(*pipe.convolutional())
    return pipe


# ---- sections


def restore(folder: Path, thorough: bool) -> Items:
    """Bundled models, and an adapter on a toy base of each family, written and read."""
    made = {}
    lr = photo(0, 48, 72)
    pipe = TADiSRPipeline.from_pretrained("tadisr-tiny")
    options = {
        "plain": {"tile": None}, "tiled": {"tile": 128}, "3 times, wavelet": {"scale": 3, "color_fix": "wavelet"},
        "adain": {"color_fix": "adain"},
    }  # fmt: skip
    for name, chosen in options.items():
        made |= named(f"tadisr-tiny, {name}", restored(pipe(lr, output_type="pt", **chosen)))
    several = [photo(seed, 12, 20) for seed in (1, 2)] + [photo(3, 17, 9)]
    made |= named("tadisr-tiny, several", restored(pipe([x[0] for x in several], output_type="pt")))

    lines = TextDiffPipeline.from_pretrained("textdiff-tiny")
    crops = [photo(seed, *size)[0] for seed, size in ((4, (16, 64)), (5, (20, 90)), (6, (16, 64)))]
    made |= named("textdiff-tiny, call", restored(lines(crops, output_type="pt")))
    chosen = {"num_inference_steps": 3, "temperature": 1.0, "strength": 1.0, "residual_strength": 1.0}
    made |= named("textdiff-tiny, all of it", restored(lines(crops, output_type="pt", **chosen)))
    line = photo(7, 32, 128)
    made |= named("textdiff-tiny, refine", restored(lines.refine(line, output_type="pt")))
    mask = torch.from_numpy(smaller(picture(7, 128, 512)[1])[None, ..., 0] / np.float32(255))
    made |= named("textdiff-tiny, refine by masks", restored(lines.refine(line, masks=mask, output_type="pt")))

    for family in ("sd", "sdxl", "kolors", "cogview4"):
        base = toy_base(family, folder / family)
        base.save_pretrained(folder / family / "base")
        adapter(base, str(folder / family / "base")).save_pretrained(folder / family / "adapter")
        loaded = TADiSRPipeline.from_pretrained(folder / family / "adapter")
        made |= named(f"{family} adapter", restored(loaded(photo(8, 17, 24), output_type="pt")))
        if family in ("sd", "cogview4"):
            fused = TADiSRPipeline.from_pretrained(folder / family / "adapter", fuse_lora=True)
            made |= named(
                f"{family} adapter, fused", restored(fused(photo(8, 17, 24), tile=64, overlap=16, output_type="pt"))
            )
    return made


def load(folder: Path, thorough: bool) -> Items:
    """Models that an earlier version of the code saved."""
    made = {}
    loaded = {
        "adapter": TADiSRPipeline.from_pretrained(SAVED / "adapter", base_model=SAVED / "base"),
        "whole pipeline": TADiSRPipeline.from_pretrained(SAVED / "pipeline"),
    }
    for name, pipe in loaded.items():
        made |= named(name, restored(pipe(photo(9, 15, 22), output_type="pt")))
    lines = TextDiffPipeline.from_pretrained(SAVED / "textdiff")
    made |= named("lines", restored(lines(photo(10, 16, 64), output_type="pt")))
    return made


def save_models() -> None:
    """Write the models that `load` reads, whole ones in half precision, as the bundled ones are."""
    shutil.rmtree(SAVED, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:
        base = tiny.sd(Path(place))
    small = {"norm_num_groups": 2, "block_out_channels": [4, 8]}
    base.register_modules(vae=tiny.vae(2, scaling_factor=0.18215, **small), unet=tiny.unet(**small))
    fill(base.vae, base.unet, base.text_encoder)
    adapter(base, "base").save_pretrained(SAVED / "adapter")
    base.to(torch.float16).save_pretrained(SAVED / "base")
    for part in ("text_encoder", "tokenizer"):  # a saved adapter holds its prompt
        shutil.rmtree(SAVED / "base" / part)
    pipe = tiny.lean()
    fill(*pipe.convolutional(), pipe.prompt)
    pipe.to(torch.float16).save_pretrained(SAVED / "pipeline")
    lines = tiny_textdiff.textdiff()
    fill(lines.enhancement, lines.prior, lines.residual)
    lines.to(torch.float16).save_pretrained(SAVED / "textdiff")


def pages(folder: Path) -> Path:
    """A set of triplets as plain folders: eight for training, two for testing."""
    for split, seeds in (("train", range(8)), ("test", range(8, 10))):
        rows = []
        for seed in seeds:
            hr, mask = picture(seed, 96, 128)
            for kind, image in (("hr", hr), ("lr", smaller(hr)), ("mask", mask)):
                save(folder / split / kind / f"{seed:07d}.png", image)
            quad = [[6, 6], [122, 6], [122, 18], [6, 18]]
            row = {
                "file_name": f"{seed:07d}.png",
                "lines": [{"text": "a b", "quad": quad}],
                "seed": seed,
                "sources": [],
            }
            rows.append(json.dumps(row))
        (folder / split / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def train_tadisr(folder: Path, thorough: bool) -> Items:
    """train_lora.py from nothing, and by adapters on toy bases."""
    data = pages(folder / "pages")
    often = {"max_train_steps": STEPS, "checkpointing_steps": STEPS, "validation_data_dir": data, "ema_decay": 0.9}
    made = {}
    for name, changes in {"adamw": {}, "muon": {"optimizer": "muon", "augmentation": True}}.items():
        out = training_runs.train(data, folder / name / "run", **often, validation_steps=STEPS // 2, **changes)
        made |= named(f"from nothing, {name}", run_of(out))
    for family in ("sd", "cogview4"):
        toy_base(family, folder / family).save_pretrained(folder / family / "base")
        settings = {
            **often, "train_data_dir": data, "output_dir": folder / family / "run", "resolution": 32, "lpips": 0,
            "pretrained_model_name_or_path": folder / family / "base", "learning_rate": 1e-2, "train_batch_size": 2,
            "dataloader_num_workers": 0, "logging_steps": 1, "validation_steps": STEPS, "max_grad_norm": 1.0,
            "mixed_precision": "no", "gradient_checkpointing": False, "validation_tile": 1024,
        }  # fmt: skip
        training_runs.fresh()
        train_lora.main(textdiff_runs.flags(settings))
        made |= named(f"LoRA on {family}", run_of(folder / family / "run"))
    return made


def train_others(folder: Path, thorough: bool) -> Items:
    """train_crnn.py, train_textdiff.py and train_segmenter.py."""
    data = textdiff_runs.databases(folder / "lines")
    reader = textdiff_runs.save_reader(folder / "reader")
    often = {"max_train_steps": STEPS, "checkpointing_steps": STEPS, "validation_steps": STEPS // 2, "ema_decay": 0.9}
    out = textdiff_runs.train(train_crnn, folder / "crnn", data, **often)
    made = named("crnn", run_of(out))
    out = textdiff_runs.train(train_textdiff, folder / "textdiff", data, reader, **often, max_grad_norm=1.0)
    made |= named("textdiff", run_of(out))
    return made | named("segmenter", run_of(train_segmenter_on(folder)))


def train_segmenter_on(folder: Path) -> Path:
    """The small segmenter, on plain folders and a photograph behind some pages."""
    data = folder / "masks"
    for seed in range(3):
        image, mask = picture(seed, 96, 96)
        save(data / "hr" / f"{seed}.png", image)
        save(data / "mask" / f"{seed}.png", mask)
    save(folder / "photo.png", picture(30, 90, 120)[0])
    (folder / "photos.txt").write_text(f"{folder / 'photo.png'}\n")
    settings = {
        "output_dir": str(folder / "segmenter"), "train_data_dir": [str(data)], "validation_data_dir": str(data),
        "photo_list": str(folder / "photos.txt"), "photo_share": 0.3, "widths": [8, 8], "resolution": 64, "bce": 1.0,
        "focal": 1.0, "train_batch_size": 2, "learning_rate": 1e-2, "lr_warmup_steps": 2, "ema_decay": 0.9,
        "max_train_steps": STEPS, "checkpointing_steps": STEPS, "validation_steps": STEPS // 2,
        "dataloader_num_workers": 0, "logging_steps": 1,
    }  # fmt: skip
    config = folder / "segmenter.yaml"
    config.write_text(yaml.safe_dump(settings))
    training_runs.fresh()
    try:
        train_segmenter.main(["--config", str(config)])
    finally:
        torch.set_flush_denormal(False)
    return folder / "segmenter"


def characters() -> str:
    """ASCII, Latin with accents, punctuation, kana, and all of GB 2312."""
    ranges = ((0x21, 0x7F), (0xA1, 0x250), (0x2010, 0x2060), (0x20A0, 0x20C0), (0x2190, 0x2200), (0x3000, 0x3100))
    chars = [chr(code) for first, end in (*ranges, (0xFF01, 0xFFF0)) for code in range(first, end)]
    cells = (bytes((row, cell)) for row in range(0xA1, 0xF8) for cell in range(0xA1, 0xFF))
    return "".join(dict.fromkeys([*chars, *"".join(pair.decode("gb2312", "ignore") for pair in cells)]))


def materials(folder: Path) -> Path:
    """What stands in for installed fonts, photographs and downloaded sources."""
    font = tiny_fonts.build_font(characters())
    (folder / "fonts").mkdir()
    for family in ("Aleph", "Beth", "Gimel", "Daleth"):
        for record in font["name"].names:
            if record.nameID == 1:
                record.string = family
        font.save(folder / "fonts" / f"{family}.ttf")
    for seed in range(5):
        save(folder / "photos" / f"{seed}.jpg", source_samples.photograph(seed, (280, 300)), quality=95)
    save(folder / "photos" / "bars.jpg", picture(0, 280, 300)[0], quality=95)  # is taken for text, and left out
    (folder / "english.txt").write_text("Nothing ventured\nOne of three\nThe last train leaves at 9\nOpen\n")
    (folder / "chinese.txt").write_text("营业中\n出口在前方\n欢迎光临，请进\n", encoding="utf-8")
    return folder


SHIPPED = {
    **{name: f"data_synthesis/recipes/{name}.yaml" for name in ("free", "tiny", "tiny_lines", "paper")},
    **{name: f"training/tiny/recipes/{name}.yaml" for name in ("tiny_words", "tiny_words_lines")},
}


def recipe(name: str, folder: Path) -> Path:
    """A shipped recipe on the materials in `folder`."""
    values = yaml.safe_load((ROOT / SHIPPED[name]).read_text(encoding="utf-8"))
    values["fonts"] = [str(folder / "fonts")]
    if name == "paper":
        for spec in [*values["backgrounds"], *values["crops"]]:
            spec["path"] = str(folder / "sources" / spec["kind"])
    else:
        values["backgrounds"] = [{"kind": "free", "roots": [str(folder / "photos")], "scikit_image": False}]
    if "corpora" in values:
        values["corpora"] = {
            str(folder / Path(corpus).name) if corpus.endswith(".txt") else corpus: share
            for corpus, share in values["corpora"].items()
        }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return file


def run(*arguments: Any) -> None:
    """A command that succeeds."""
    if code := cli.main([*map(str, arguments)]):
        raise RuntimeError(f"tadisr {' '.join(map(str, arguments))} ended with {code}")


def paper_sources(folder: Path) -> None:
    """Every source of the paper's recipe; CTR has a label that is wrong, a small line and a file that is broken."""
    source_samples.write_lsdir(folder / "lsdir", count=3, size=(260, 280))
    source_samples.write_bts(folder / "bts", size=(120, 200))
    source_samples.write_textseg(folder / "textseg", size=(120, 200))
    lines = [(text, source_samples.encoded(source_samples.text_line(text, 56, i)[0])) for i, text in enumerate(CTR)]
    lines.append(("Library", source_samples.encoded(source_samples.text_line("Bakery", 56)[0])))
    lines.append(("narrow words", source_samples.encoded(source_samples.text_line("narrow words", 14)[0])))
    lines.append(("gone", b"no image"))
    entries = {"num-samples": str(len(lines)).encode()}
    for number, (text, image) in enumerate(lines, 1):
        entries |= {f"image-{number:09d}": image, f"label-{number:09d}": text.encode()}
    source_samples.write_lmdb(folder / "ctr" / "scene_train", entries)


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Every row of a data set's shards, train before test, in their order."""
    files = [file for split in ("train", "test") for file in sorted((out / "data").glob(f"{split}-*.parquet"))]
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def manifest_of(out: Path, folder: Path) -> dict[str, Any]:
    """A data set's manifest without versions, and without the place where it was made."""
    text = (out / "manifest.json").read_text(encoding="utf-8").replace(str(folder), "FOLDER")
    return {key: value for key, value in json.loads(text).items() if key not in ("versions", "engine")}


def data_set(out: Path, folder: Path, steady: bool) -> Items:
    """What `tadisr synthesize` wrote. `steady`: nothing but what is drawn decides it, so even others are alike."""
    rows = rows_of(out)
    exact, pixel_bytes, forms = [], [], []
    for row in rows:
        pictures = {kind: np.asarray(Image.open(io.BytesIO(row[kind]["bytes"]))) for kind in ("lr", "hr", "mask")}
        exact += [row[kind]["bytes"] for kind in pictures]
        exact.append(json.dumps({key: row[key] for key in ("text", "boxes", "seed", "sources")}).encode())
        pixel_bytes += map(array_bytes, pictures.values())
        form = {"seed": row["seed"], "shapes": [list(picture.shape) for picture in pictures.values()]}
        means = {kind: rounded(float(picture.mean() / 255), 4) for kind, picture in pictures.items()}
        forms.append({**form, **means} if steady else form)
    manifest = manifest_of(out, folder)
    sheet = (out / "contact_sheet.jpg").read_bytes()
    sound = {"rows": len(rows), "recipe's keys": sorted(manifest["job"]["recipe"])}
    return {
        "rows": item(exact, forms, 0.05),
        "pixels": item(pixel_bytes, forms, 0.05),
        "manifest and files": item([json.dumps(manifest, sort_keys=True).encode(), sheet], sound, 0.05),
    }


def quick_workers() -> None:
    """Worker processes come from one that has imported what they need, instead of importing it each.

    They are otherwise as fresh as those that a user's command starts. Without it this section takes three times as
    long.
    """
    multiprocessing.set_forkserver_preload(["tadisr.data_synthesis.writing.shards", "datasets", "rapidocr"])
    own = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: own("forkserver" if method == "spawn" else method)


def synthesize(folder: Path, thorough: bool) -> Items:
    """Every shipped recipe, on toy materials, by two workers and, where it is recorded, also by one."""
    quick_workers()
    materials(folder)
    paper_sources(folder / "sources")
    made = {}
    for name in SHIPPED:
        found = []
        for workers in (1, 2) if thorough or name in BOTH_WAYS else (2,):
            out = folder / str(workers) / name
            size = 128 if name == "paper" else 160
            place = recipe(name, folder)
            run("synthesize", "-o", out, "--recipe", place, "--num", 12, "--size", size, "--num-proc", workers)
            found.append(data_set(out, folder, steady=name != "paper"))
        if found[0] != found[-1]:
            raise RuntimeError(f"{name}: two workers made something else than one did")
        made |= named(name, found[0])
    return made


def report_of(out: Path, folder: Path, scores: Callable[[dict], Any]) -> dict[str, Any]:
    """report.json without versions, paths and times; `scores` are the numbers that another processor also gives."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8").replace(str(folder), "FOLDER"))
    return item(json.dumps(steady(report), sort_keys=True).encode(), rounded(scores(report), 4), 0.05)


def steady(value: Any) -> Any:
    """JSON values without what changes from place to place."""
    if isinstance(value, dict):
        return {key: steady(part) for key, part in value.items() if key not in VOLATILE}
    return [steady(part) for part in value] if isinstance(value, list) else value


def evaluate(folder: Path, thorough: bool) -> Items:
    """The commands that restore, and those that measure; by PyTorch, since the bits of graphs are the processor's."""
    made = {}
    loading.graph_to_run = lambda *_, **__: None
    data = evaluation_samples.write_folder(folder / "set")
    photo = data / "lr" / "000.png"
    run("upscale", photo, "-o", folder / "up", "--device", "cpu", "--tile", 128, "--runtime", "torch")
    made["upscale"] = pixels(folder / "up" / "000.png", folder / "up" / "000_mask.png")
    run("refine", folder / "up" / "000.png", "-o", folder / "refined.png", "--device", "cpu")
    made["refine"] = pixels(folder / "refined.png")

    out = folder / "report"
    chosen = ["--device", "cpu", "--weights", folder]
    methods = ["bicubic", "tadisr-tiny"]
    run("evaluate", "--data", data, "--methods", *methods, "-o", out, "--workers", 1, *chosen)
    made["evaluate"] = report_of(out, folder, lambda report: {
        name: {metric: values[metric] for metric in ("psnr", "ssim")} for name, values in report["methods"].items()
    })  # fmt: skip

    out = folder / "lines report"
    sets, judges = [data, textdiff_runs.databases(folder / "lines") / "validation"], ["crnn:crnn-tiny", "rapidocr"]
    run("evaluate-lines", "--data", *sets, "--methods", "textdiff-tiny", "--judges", *judges, "-o", out, *chosen)
    made["evaluate-lines"] = report_of(out, folder, lambda report: {
        name: {metric: values[metric]["value"] for metric in ("psnr", "ssim") if metric in values}
        for name, sets in report["scores"].items() for values in [sets["average"]]
    })  # fmt: skip
    return made


SECTIONS: dict[str, Callable[[Path, bool], Items]] = {
    "restore": restore,
    "load": load,
    "train_tadisr": train_tadisr,
    "train_others": train_others,
    "synthesize": synthesize,
    "evaluate": evaluate,
}


def main(section: str, out: str, thorough: bool) -> None:
    """Make one section in this process, and write its items to `out`; `thorough`: with checks that take longer."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    # Commands take bfloat16 where the processor is faster in it, and would so give other images on other ones.
    torch.cpu.get_capabilities = dict
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        made = SECTIONS[section](Path(folder), thorough)
    Path(out).write_text(json.dumps(made))
