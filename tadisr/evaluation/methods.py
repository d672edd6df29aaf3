"""What is evaluated: super-resolution methods by name.

A method is named as `WHAT` or `NAME=WHAT`, where `WHAT` is

- nearest, bicubic or lanczos: Pillow's interpolation; realesrgan: Real-ESRGAN x4plus;
  realesr-animevideov3: its compact network, made for animation and speed;
- a .pth, .pt, .ckpt or .safetensors file that `spandrel` loads (Real-ESRGAN, HAT, SwinIR and some forty others);
- a folder of images made elsewhere, named as the data set's;
- what `TADiSRPipeline.from_pretrained` takes: a bundled name, a folder, a Hub id.

`NAME=WHAT:KEY=VALUE;...` sets options of a TADiSR pipeline: runtime and dtype, as `tadisr.load` takes them, fidelity,
abstain and retrace, as `Restorer.restore` does. `NAME=WHAT:fix=MODEL` puts the text of a TADiSR pipeline into the
images of any method, as `tadisr fix-text` does.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from tadisr.datasets.folders import check_scale, list_images
from tadisr.evaluation.pairs import Pairs
from tadisr.io.hashing import hashes
from tadisr.io.images import image_size, read_image
from tadisr.io.messages import one_line
from tadisr.loading.load import MODEL_SUFFIXES, Restored, Restorer, import_spandrel, load, load_model_file
from tadisr.loading.repositories import ADAPTER_FILE, bundled_names, pipeline_kind, resolve
from tadisr.transplant import transplant

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

INTERPOLATIONS = {name: Image.Resampling[name.upper()] for name in ("nearest", "bicubic", "lanczos")}
REAL_ESRGAN, COMPACT = "realesrgan", "realesr-animevideov3"
TADISR = "TADiSRPipeline"
LR_ANCHOR, HR_ANCHOR = "bicubic", "hr"
OVERLAP = 64  # of tiles, in output pixels


class Method(Protocol):
    name: str
    timed: bool
    """Whether the time of a call says anything."""

    def __call__(self, lr: np.ndarray, name: str) -> Restored:
        """Restore the pair called `name`; lr: uint8 RGB (h, w, 3)."""
        ...

    def describe(self) -> dict[str, Any]:
        """What the result depends on, in plain JSON values."""
        ...


@dataclass(frozen=True)
class Options:
    """What methods are loaded with."""

    device: str = "cpu"
    tile: int | None = 1024
    """Side of a tile in output pixels. Fixed, since what fits the memory would make results depend on the machine."""
    weights: Path | None = None
    """Folder with weights that are otherwise downloaded."""


@dataclass
class Interpolation:
    """Pillow's resize."""

    name: str
    kind: str
    scale: int
    timed = True

    def __call__(self, lr: np.ndarray, name: str) -> Restored:
        size = (lr.shape[1] * self.scale, lr.shape[0] * self.scale)
        return Restored(np.asarray(Image.fromarray(lr).resize(size, INTERPOLATIONS[self.kind])))

    def describe(self) -> dict[str, Any]:
        return {"kind": "interpolation", "filter": self.kind, "library": "Pillow"}


class ImageFolder:
    """Images made elsewhere; ValueError for a missing one or a wrong size, before anything is read."""

    timed = False

    def __init__(self, name: str, folder: Path, data: Pairs):
        self.name, self._folder = name, folder
        self._files = list_images(folder)
        if not self._files:
            raise ValueError(f"{folder} holds neither a model nor images.")
        for i, wanted in enumerate(data.names()):
            if wanted not in self._files:
                raise ValueError(f"{folder} has no image {wanted}.")
            file = self._files[wanted]
            check_scale(f"the LR image {wanted}", data.size(i), file, image_size(file), data.scale)

    def __call__(self, lr: np.ndarray, name: str) -> Restored:
        return Restored(read_image(self._files[name]).rgb)

    def describe(self) -> dict[str, Any]:
        return {"kind": "images made elsewhere", "folder": str(self._folder)}


class Network:
    """A model that spandrel runs."""

    timed = True

    def __init__(self, name: str, model: "ImageModelDescriptor", options: Options, files: Sequence[Path]):
        self.name, self._model, self._options = name, model.to(options.device), options
        self._files = hashes(files)

    def __call__(self, lr: np.ndarray, name: str) -> Restored:
        import torch

        from tadisr.models.tensors import on_arrays, to_images
        from tadisr.tiling import run_tiled

        scale, tile = self._model.scale, self._options.tile
        x = lr.transpose(2, 0, 1)[None].astype(np.float32) / 255  # (1, 3, h, w)
        model = on_arrays(lambda part: (self._model(part),), self._options.device)
        with torch.inference_mode():
            side = max(lr.shape[:2]) if tile is None else tile // scale
            (y,) = run_tiled(model, x, side, min(OVERLAP // scale, side // 2), scale)
        return Restored(to_images(torch.from_numpy(y).clamp(0, 1), "uint8")[0])

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "network",
            "architecture": self._model.architecture.name,
            "tile": self._options.tile,
            "files": self._files,
        }


class Model:
    """What `tadisr.load` loads: a TADiSR pipeline, as `tadisr upscale` uses it."""

    timed = True

    def __init__(self, name: str, restorer: Restorer, scale: int, options: Options, **arguments: Any):
        self.name, self._restorer = name, restorer
        self._arguments: dict[str, Any] = {"scale": scale, "tile": options.tile, **arguments}
        if options.tile is not None:
            self._arguments["overlap"] = min(OVERLAP, options.tile // 2)

    def __call__(self, lr: np.ndarray, name: str) -> Restored:
        return self._restorer.restore(lr, **self._arguments)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "TADiSR", "runtime": self._restorer.runtime, "dtype": self._restorer.dtype,
            **self._arguments, "files": self._restorer.files,
        }  # fmt: skip


class Fixed:
    """Another method's images with the text of a TADiSR pipeline."""

    timed = False  # both may have been run for rows of their own

    def __init__(self, name: str, base: Method, model: Method):
        self.name, self._base, self._model = name, base, model

    def __call__(self, lr: np.ndarray, name: str) -> Restored:
        image, ours = self._base(lr, name).image, self._model(lr, name)
        assert ours.mask is not None
        return Restored(transplant(image, ours.image, ours.mask, (lr.shape[0], lr.shape[1])))

    def describe(self) -> dict[str, Any]:
        return {"kind": "fix-text", "image": self._base.describe(), "text": self._model.describe()}


class _Once:
    """A method that restores a pair once for several rows."""

    def __init__(self, method: Method):
        self._method, self.name, self.timed, self.describe = method, method.name, method.timed, method.describe
        self._last: tuple[str, Restored] | None = None

    def __call__(self, lr: np.ndarray, name: str) -> Restored:
        if self._last is None or self._last[0] != name:
            self._last = (name, self._method(lr, name))
        return self._last[1]


def load_methods(specs: Sequence[str], data: Pairs, options: Options) -> list[Method]:
    """The methods that `specs` name, the LR anchor (bicubic) always first.

    ValueError for an unknown or doubled name, or a model that cannot be loaded or has another scale; FileNotFoundError
    without its file, ImportError without a package that it needs.
    """
    named = {LR_ANCHOR: ""}
    for spec in specs:
        name, what = parse_spec(spec)
        if (name == LR_ANCHOR) != (what == LR_ANCHOR) or name == HR_ANCHOR:
            raise ValueError(f"{spec}: {name} is the name of an anchor row: give the method another, as NAME={what}.")
        if named.get(name):
            raise ValueError(f"Two methods are called {name}: name one of them, as NAME={what}.")
        named[name] = what
    named[LR_ANCHOR] = LR_ANCHOR
    fixed = {name: split for name, what in named.items() if "fix" in (split := split_options(what))[1]}
    for base, chosen in fixed.values():
        if set(chosen) != {"fix"}:
            raise ValueError(f"{base}: fix stands alone, without {', '.join(sorted(set(chosen) - {'fix'}))}.")
    # What is fixed, and with what, is loaded once, for a row of its own as well.
    wanted = dict.fromkeys(what for name, what in named.items() if name not in fixed)
    wanted |= dict.fromkeys(what for base, chosen in fixed.values() for what in (base, chosen["fix"]))
    rows = {what: name for name, what in reversed(named.items()) if name not in fixed}
    networks = [what for what in wanted if _is_network(split_options(what)[0])]
    # What is not there is said before the first network is loaded.
    methods = {what: load_method(rows.get(what, what), what, data, options) for what in wanted if what not in networks}
    for what in networks:
        _check_network(split_options(what)[0])
    methods |= {what: load_method(rows.get(what, what), what, data, options) for what in networks}
    shared = {what: _Once(method) for what, method in methods.items()} if fixed else methods
    return [
        _fix(name, fixed[name], shared)
        if name in fixed
        else shared[what]
        if rows[what] == name
        else load_method(name, what, data, options)  # one method under two names
        for name, what in named.items()
    ]


def _fix(name: str, fix: tuple[str, dict[str, str]], methods: Mapping[str, Method]) -> Method:
    base, model = methods[fix[0]], methods[fix[1]["fix"]]
    if model.describe()["kind"] != "TADiSR":
        raise ValueError(f"{name}: fix takes a TADiSR model, not {fix[1]['fix']}.")
    return Fixed(name, base, model)


def split_options(what: str) -> tuple[str, dict[str, str]]:
    """(what, options) of `WHAT:KEY=VALUE;...`.

    >>> split_options("tadisr-tiny:runtime=torch;fidelity=1")
    ('tadisr-tiny', {'runtime': 'torch', 'fidelity': '1'})
    """
    head, colon, tail = what.rpartition(":")
    pairs = [pair.partition("=") for pair in tail.split(";")]
    if not colon or not all(key.isidentifier() and equals for key, equals, _ in pairs):
        return what, {}
    return head, {key: value for key, _, value in pairs}


def _is_network(what: str) -> bool:
    """Whether a method is a model file or a pipeline."""
    path = Path(what)
    index = any((path / file).is_file() for file in ("model_index.json", ADAPTER_FILE))
    return what not in INTERPOLATIONS and (index or not path.is_dir())


def _check_network(what: str) -> None:
    """Raise what `load_method` would, as far as it shows without loading; fetches what comes from the Hub."""
    if what in (REAL_ESRGAN, COMPACT) or Path(what).suffix in MODEL_SUFFIXES:
        if what not in (REAL_ESRGAN, COMPACT) and not Path(what).is_file():
            raise FileNotFoundError(f"No model file {what}.")
        import_spandrel()
        return
    if not Path(what).is_dir() and what not in bundled_names(TADISR) and not re.fullmatch(r"[\w.-]+/[\w.-]+", what):
        names = ", ".join([*INTERPOLATIONS, REAL_ESRGAN, COMPACT, *bundled_names(TADISR)])
        raise ValueError(
            f"No method {what}: give {names}, a model file, a folder of images, or a pipeline's folder or Hub id."
        )
    try:
        pipeline_kind(resolve(what, TADISR), TADISR)
    except Exception as error:  # of the network, the Hub, or a damaged index
        raise ValueError(f"{what} cannot be loaded: {one_line(error)}") from None


def parse_spec(spec: str) -> tuple[str, str]:
    """(name, what) of `WHAT` or `NAME=WHAT`.

    >>> parse_spec("weights/HAT.pth")
    ('HAT', 'weights/HAT.pth')
    """
    name, equals, what = spec.partition("=")
    if not equals:
        what = spec
        name = Path(spec).stem if spec.endswith(MODEL_SUFFIXES) else Path(spec).name
    if not what or not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(f"{spec!r} names no method: expected WHAT or NAME=WHAT, NAME of letters, digits and . + - _.")
    return name, what


def load_method(name: str, what: str, data: Pairs, options: Options) -> Method:
    """One method; see the module and `load_methods`."""
    what, chosen = split_options(what)
    path = Path(what)
    if chosen and (what in (*INTERPOLATIONS, REAL_ESRGAN, COMPACT) or path.suffix in MODEL_SUFFIXES):
        raise ValueError(f"{what} takes no options but fix: leave out {', '.join(chosen)}.")
    if what in INTERPOLATIONS:
        return Interpolation(name, what, data.scale)
    if what in (REAL_ESRGAN, COMPACT):
        return _load_real_esrgan(name, what, data.scale, options)
    if path.suffix in MODEL_SUFFIXES:
        return Network(name, load_model_file(path, data.scale), options, [path])
    if not _is_network(what):
        return ImageFolder(name, path, data)
    _check_network(what)
    loading, arguments = _options_of_a_model(what, chosen)
    try:
        return Model(name, load(what, options.device, pipeline=TADISR, **loading), data.scale, options, **arguments)
    except Exception as error:  # an incomplete, damaged or foreign model raises nearly anything
        raise ValueError(f"{what} cannot be loaded: {one_line(error)}") from None


def _options_of_a_model(what: str, chosen: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Arguments of `tadisr.load` and of `Restorer.restore`."""
    known = ("runtime", "dtype", "fidelity", "abstain", "retrace")
    if unknown := sorted(set(chosen) - set(known)):
        raise ValueError(f"{what} has no option {unknown[0]}: it has {', '.join(known)}.")
    arguments: dict[str, Any] = {}
    for key in set(known[2:]) & set(chosen):
        value = chosen[key]
        try:
            arguments[key] = float(value) if key == "fidelity" else {"true": True, "false": False}[value.lower()]
        except (ValueError, KeyError):
            raise ValueError(f"{what}: {key} cannot be {value}.") from None
    return {key: chosen[key] for key in known[:2] if key in chosen}, arguments


def _load_real_esrgan(name: str, what: str, scale: int, options: Options) -> Network:
    import_spandrel()
    from tadisr.evaluation import real_esrgan

    files = real_esrgan.FILES if what == REAL_ESRGAN else real_esrgan.COMPACT_FILES
    folder = real_esrgan.find_weights(options.weights, files)
    model = (real_esrgan.load_real_esrgan if what == REAL_ESRGAN else real_esrgan.load_compact)(folder)
    if model.scale != scale:
        raise ValueError(f"{what} makes images {model.scale} times larger: expected a method for {scale} times.")
    return Network(name, model, options, [folder / file for file in files])
