"""Model cards: the README.md of a folder with weights, whose front matter the Hub reads."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tadisr.io.atomic import write_atomically
from tadisr.loading.repositories import PIPELINES, is_hub_id

CARD_FILE = "README.md"
_SUMMARIES = {
    "TADiSRPipeline": "Text-aware super-resolution (TADiSR)",
    "TextDiffPipeline": "Super-resolution of text lines (TextDiff)",
}


def front_matter(
    pipeline: str = PIPELINES[0],
    base_model: str | None = None,
    license: str | Mapping[str, str] | None = None,
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
    model_name: str | None = None,
    eval_results: Sequence[EvalResult] = (),
) -> str:
    """What the Hub reads, in YAML between two lines `---`. What is empty is left out.

    No card of an adapter has the tag "lora": for those the Hub shows code that puts them on the base by
    `load_lora_weights`, which does not know a joint decoder.

    Args:
        pipeline: the class of the pipeline.
        base_model: of an adapter, the base; a folder is not named, since nobody else has it.
        license: as the Hub calls it, such as apache-2.0; or, of one that it has no name for, a dictionary with license
            (other), license_name and license_link.
        datasets: what it was trained on; folders are not named.
        metrics, model_name, eval_results: as in `ModelCardData`.
    """
    base = base_model if _on_hub(base_model) else None
    terms: dict[str, Any] = dict(license) if isinstance(license, Mapping) else {"license": license}
    data = ModelCardData(
        **terms,
        library_name="diffusers",
        pipeline_tag="image-to-image",
        tags=["super-resolution", "text", "ocr", "tadisr", *(["textdiff"] if pipeline == PIPELINES[1] else [])],
        base_model=base,
        base_model_relation="adapter" if base else None,
        datasets=[name for name in datasets if _on_hub(name)] or None,
        metrics=[*metrics] or None,
        model_name=model_name if eval_results else None,
        eval_results=[*eval_results] or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _on_hub(name: str | None) -> bool:
    """Whether `name` can be a Hub id, and is no folder here."""
    return bool(name) and is_hub_id(str(name)) and not Path(str(name)).exists()


def snippet(name: str, pipeline: str = PIPELINES[0]) -> str:
    """How to use the weights, `name` being what `from_pretrained` takes: by this package, and by plain diffusers."""
    picture = "line.png" if pipeline == PIPELINES[1] else "photo.png"
    call = f'pipe(Image.open("{picture}")).images[0].save("sharp.png")'
    return f"""```python
from PIL import Image
from tadisr import {pipeline}  # pip install tadisr

pipe = {pipeline}.from_pretrained("{name}")
{call}
```

With plain diffusers the same, where tadisr is installed, too: a file of this repository imports it.

```python
from diffusers import DiffusionPipeline
from PIL import Image

pipe = DiffusionPipeline.from_pretrained("{name}", trust_remote_code=True)
{call}
```
"""


def write_card(folder: Path, name: str, pipeline: str, base_model: str | None = None, license: Any = None) -> None:
    """Write a card with what is known of any weights of ours, unless there is a card in `folder`."""
    if (folder / CARD_FILE).exists():
        return
    on = f": an adapter for {base_model}" if _on_hub(base_model) else ": an adapter" if base_model else ""
    title = f"# {name.rsplit('/', 1)[-1]}\n\n{_SUMMARIES.get(pipeline, pipeline)}{on}.\n\n"
    write_atomically(folder / CARD_FILE, front_matter(pipeline, base_model, license) + title + snippet(name, pipeline))


def license_in(folder: str | Path) -> dict[str, str] | None:
    """The licence that the card in `folder` names, as `front_matter` takes it; None where there is none."""
    with suppress(OSError, ValueError, TypeError, yaml.YAMLError):
        data = ModelCard((Path(folder) / CARD_FILE).read_text(encoding="utf-8")).data.to_dict()
        return {key: data[key] for key in ("license", "license_name", "license_link") if key in data} or None
    return None
