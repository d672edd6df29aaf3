"""Methods that restore text lines, by name, for `evaluate_lines`.

A method is `WHAT` or `NAME=WHAT`, with options as `WHAT:KEY=VALUE;KEY=VALUE`. WHAT is

- a TextDiff model: a bundled name, a folder, a Hub id. `steps=N` of the sampling (5), `temperature=T` of its noise,
  `strength=S` of what it adds, `residual_strength=R` of MRD's part in that (the model's own); `output=coarse`: TEM
  alone;
- a TADiSR pipeline, likewise: what it makes at 4 times the size is reduced to the wanted one;
- bicubic, on which only `refine` makes sense, since that row is always there;
- a file that spandrel loads (.pth), or, where `allow_code` allows its program to run, a TorchScript file (.pt), lines
  (N, 3, h, w) in [0, 1] to (N, 3, 2h, 2w).

On any of them `refine=MODEL` puts the residual diffusion of a TextDiff model (the paper's cascade), with `steps=N`,
`temperature=T`, `strength=S` and `residual_strength=R`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadisr.evaluation.line_recognizers import load_script
from tadisr.evaluation.methods import parse_spec
from tadisr.evaluation.text_lines import BICUBIC, bicubic
from tadisr.io.model_files import runs_code
from tadisr.loading.load import MODEL_SUFFIXES, load, load_model_file
from tadisr.loading.repositories import most_steps, pipeline_kind, resolve
from tadisr.models.textdiff.shares import Shares

if TYPE_CHECKING:
    import torch

LineMethod = Callable[["torch.Tensor"], "torch.Tensor"]
OUTPUTS, TEXTDIFF = ("image", "coarse"), "TextDiffPipeline"
_SHARES = tuple(field.name for field in fields(Shares))
SCALE = 2  # of HR to LR lines
TADISR_SCALE = 4


def load_line_methods(specs: Sequence[str], device: str = "cpu", allow_code: bool = False) -> dict[str, LineMethod]:
    """The methods that `specs` name; each model is loaded once. `allow_code`: TorchScript files may run their programs.

    ValueError for an unknown method or option, a name twice, or a model that cannot be loaded; FileNotFoundError
    without the model.
    """
    loaded = cache(partial(_load, device=device, allow_code=allow_code))
    parsed = check_line_methods(specs)
    return {name: _method(name, what, options, device, loaded) for name, (what, options) in parsed.items()}


def check_line_methods(specs: Sequence[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """{name: (what, options)}; errors as `load_line_methods`, as far as they show before a model is loaded."""
    parsed: dict[str, tuple[str, dict[str, str]]] = {}
    for spec in specs:
        spec, _, rest = spec.partition(":")
        name, what = parse_spec(spec)
        if name in parsed:
            raise ValueError(f"Two methods are called {name}: name one of them, as NAME={what}.")
        options = _options(spec, rest)
        if what == BICUBIC and "refine" not in options:
            raise ValueError(f"{name}: the row {BICUBIC} is always there; only with refine=MODEL is it another method.")
        diffuses, refine = _kind(what) == TEXTDIFF, options.get("refine")
        if "output" in options and not diffuses:
            raise ValueError(f"{name}: only TextDiff models have an output to choose, not {what}.")
        if unused := {"steps", *_SHARES} & set(options) if not (diffuses or refine) else set():
            raise ValueError(f"{name}: {what} takes no {min(unused)}.")
        if refine and _kind(refine) != TEXTDIFF:
            raise ValueError(f"{name}: refine takes a TextDiff model, not {refine}.")
        steps = int(options.get("steps", "5"))
        for model in (what, refine):
            if model and _kind(model) == TEXTDIFF and not 1 <= steps <= most_steps(resolve(model, "")):
                raise ValueError(f"{name}: steps must be from 1 to {most_steps(resolve(model, ''))}, not {steps}.")
        parsed[name] = (what, options)
    return parsed


def _kind(what: str) -> str:
    """The class of a pipeline, which is fetched if it is not here; "" for what is none."""
    if what == BICUBIC:
        return ""
    if Path(what).suffix not in MODEL_SUFFIXES:
        return pipeline_kind(resolve(what, ""))
    if not Path(what).is_file():
        raise FileNotFoundError(f"No model file {what}.")
    return ""


def _options(spec: str, rest: str) -> dict[str, str]:
    options = {key: value for key, _, value in (option.partition("=") for option in rest.split(";") if option)}
    if unknown := set(options) - {"steps", *_SHARES, "output", "refine"}:
        raise ValueError(
            f"{spec} has no option {sorted(unknown)[0]!r}: there are steps, {', '.join(_SHARES)}, output and refine."
        )
    if not options.get("steps", "5").isdecimal():
        raise ValueError(f"{spec}: steps must be a number, not {options['steps']!r}.")
    for share in _SHARES:
        if not re.fullmatch(r"0|0?\.\d+|1(\.0*)?|0\.", options.get(share, "1")):
            raise ValueError(f"{spec}: {share} must be a number from 0 to 1, not {options[share]!r}.")
    if options.get("output", "image") not in OUTPUTS:
        raise ValueError(f"{spec}: output must be {' or '.join(OUTPUTS)}, not {options['output']!r}.")
    return options


def _method(name: str, what: str, options: dict[str, str], device: str, loaded: Callable[[str], Any]) -> LineMethod:
    refine = options.get("refine")
    sampling = {name: float(options[name]) for name in _SHARES if name in options}
    sampling["num_inference_steps"] = int(options.get("steps", "5"))
    model = None if what == BICUBIC else loaded(what)
    diffuses = type(model).__name__ == TEXTDIFF

    def plain(lr: "torch.Tensor") -> "torch.Tensor":
        import torch

        size = (lr.shape[-2] * SCALE, lr.shape[-1] * SCALE)
        if model is None:
            return bicubic(lr, size)
        if diffuses:
            result = model(lr, **sampling, output_type="pt")
            return result.coarse_images if options.get("output") == "coarse" else result.images
        if type(model).__name__ == "TADiSRPipeline":
            return bicubic(model(lr, scale=TADISR_SCALE, tile=None, output_type="pt").images, size)
        with torch.inference_mode():
            return model(lr.to(device)).float().cpu()

    if refine is None:
        return plain
    sharpener = loaded(refine)

    def refined(lr: "torch.Tensor") -> "torch.Tensor":
        return sharpener.refine(plain(lr).clamp(0, 1), **sampling, output_type="pt").images

    return refined


def _load(what: str, device: str, allow_code: bool) -> Any:
    """A pipeline, or a module of another's."""
    if Path(what).suffix not in MODEL_SUFFIXES:
        return load(what, device, runtime="torch").pipe
    if Path(what).is_file() and runs_code(Path(what)):
        return load_script(what, device, allow_code)
    return load_model_file(Path(what), SCALE).to(device)
