"""The fixed prompt, encoded once, so that no text encoder is needed afterwards."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from transformers import PreTrainedModel

from tadisr.io.messages import quiet
from tadisr.io.model_files import not_finite, refuse
from tadisr.models.families import family_by_pipeline

DEFAULT_PROMPT = "best quality,highres,extremely detailed,text"
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "kolors")  # where a base's parts come from
_WORD_BORDERS = ("</w>", "▁", "Ġ", "Ċ")  # as CLIP, sentencepiece and byte-level BPE write spaces and line ends


class TextPrompt(ModelMixin, ConfigMixin):
    """Cached embeddings of the fixed prompt y, and where in it the word "text" stands.

    Parameters `prompt_embeds` (1, T, D) and, for SDXL-class bases, `pooled_prompt_embeds` (1, P). Both are frozen for
    a base with a text encoder and learned for a base trained from scratch.

    Args:
        num_tokens, embed_dim: T and D.
        text_positions: indices of the word's tokens in the padded sequence.
        pooled_dim: P, or None where the backbone takes no pooled embedding.
        time_ids: SDXL's (original height, width, crop top, left, target height, width), or None.
        prompt: the words, for the record.
    """

    config: Any

    @register_to_config
    def __init__(
        self,
        num_tokens: int,
        embed_dim: int,
        text_positions: Sequence[int],
        pooled_dim: int | None = None,
        time_ids: Sequence[int] | None = None,
        prompt: str = DEFAULT_PROMPT,
    ):
        super().__init__()
        where = list(text_positions) if isinstance(text_positions, (list, tuple)) else []
        if not where or len(where) > num_tokens or not all(type(i) is int and 0 <= i < num_tokens for i in where):
            raise ValueError(f"text_positions must be within the prompt's {num_tokens} tokens, got {text_positions}.")
        if time_ids is not None and (len(time_ids) != 6 or not all(type(i) is int for i in time_ids)):
            raise ValueError(f"time_ids are six whole numbers, got {time_ids}.")
        self.prompt_embeds = nn.Parameter(torch.randn(1, num_tokens, embed_dim))
        self.pooled_prompt_embeds = nn.Parameter(torch.randn(1, pooled_dim)) if pooled_dim else None

    def forward(self, batch_size: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The text embeddings (B, T, D) and the pooled embeddings (B, P), or None, for `batch_size` images."""
        pooled = self.pooled_prompt_embeds
        return self.prompt_embeds.expand(batch_size, -1, -1), None if pooled is None else pooled.expand(batch_size, -1)

    @classmethod
    def from_base(
        cls, base: str | Path, prompt: str = DEFAULT_PROMPT, keyword: str = "text", size: int = 1024, **options: Any
    ) -> "TextPrompt":
        """As `from_pipeline`, with the text encoders of a base, a folder or Hub id; nothing else of it is loaded.

        Args:
            options: `dtype`, `revision`, `variant`, ... as in `DiffusionPipeline.from_pretrained`. Without `variant`,
                fp16 files are taken where there are no plain ones, as in Kolors' repository.

        Raises:
            ImportError: a package that the tokenizer needs is not installed, as for Kolors.
            OSError: no such base, or no weights of its text encoders.
            ValueError: a base of another kind, or text encoders that are damaged or incomplete.
        """
        hub = {key: options[key] for key in ("revision", "token", "cache_dir", "local_files_only") if key in options}
        index = cast(dict[str, Any], DiffusionPipeline.load_config(base, **hub))
        _check_libraries(index, base)
        family = family_by_pipeline(index["_class_name"])
        if family.needs and find_spec(family.needs[0]) is None:
            raise ImportError(f"{family.name} needs {family.needs[0]}: pip install '{family.needs[1]}'.")
        parts = [name for name, origin in index.items() if isinstance(origin, list)]
        left_out: dict[str, Any] = {
            part: None for part in parts if not part.startswith(("text_encoder", "tokenizer", "scheduler"))
        }
        if "safety_checker" in left_out:
            left_out["requires_safety_checker"] = False  # or leaving it out would be warned of
        options["use_safetensors"] = True
        pipe = _load(base, **left_out, **options)
        _check_text_encoders(pipe, base, options.get("variant"), hub)
        return cls.from_pipeline(pipe, prompt, keyword, size)

    @classmethod
    @torch.no_grad()
    def from_pipeline(
        cls, pipe: DiffusionPipeline, prompt: str = DEFAULT_PROMPT, keyword: str = "text", size: int = 1024
    ) -> "TextPrompt":
        """Encode `prompt` with a base's own pipeline.

        Args:
            pipe: of a family in `tadisr.models.families`.
            keyword: the word whose position is recorded.
            size: the side, in pixels, that SDXL and Kolors are told the image has.

        Raises:
            ValueError: the pipeline is of no known family or has no text encoder, or the prompt has no keyword.
        """
        name = type(pipe).__name__
        family = family_by_pipeline(name)
        if pipe.text_encoder is None or pipe.tokenizer is None:
            raise ValueError(f"This {name} was loaded without its text encoder or tokenizer: the prompt needs both.")
        embeds, pooled, tokens = family.encode(pipe, prompt)
        model = cls(
            num_tokens=embeds.shape[1],
            embed_dim=embeds.shape[2],
            text_positions=find_keyword(tokens, keyword),
            pooled_dim=None if pooled is None else pooled.shape[1],
            time_ids=None if pooled is None else [size, size, 0, 0, size, size],
            prompt=prompt,
        )
        model.prompt_embeds.copy_(embeds)
        if model.pooled_prompt_embeds is not None and pooled is not None:
            model.pooled_prompt_embeds.copy_(pooled)
        return model.requires_grad_(False)


def _load(base: str | Path, variant: str | None = None, **options: Any) -> DiffusionPipeline:
    try:
        return DiffusionPipeline.from_pretrained(base, variant=variant, **options)
    except (OSError, ValueError):
        if variant is None:
            with suppress(OSError, ValueError):
                return DiffusionPipeline.from_pretrained(base, variant="fp16", **options)
        raise


def _check_libraries(index: Mapping[str, Any], base: str | Path) -> None:
    """Raise ValueError for an index of a base that names other modules, since diffusers would import them."""
    for name, found in index.items():
        if name.startswith("_class_name") and not isinstance(found, str):
            raise ValueError(f"{base} is of no known kind: {str(found)[:100]}.")
        if isinstance(found, list) and found != [None, None] and (len(found) != 2 or found[0] not in _LIBRARIES):
            raise ValueError(f"{base} names as {name} {str(found)[:100]}, which is not loaded.")


def _check_text_encoders(pipe: DiffusionPipeline, base: str | Path, variant: str | None, hub: dict[str, Any]) -> None:
    """Raise ValueError where a text encoder's files lack a tensor, which transformers makes up, or hold no numbers."""
    for part, model in pipe.components.items():
        if not part.startswith("text_encoder") or not isinstance(model, PreTrainedModel):
            continue
        for files in dict.fromkeys([variant, None, "fp16"]):
            place = {"subfolder": part, "variant": files, "use_safetensors": True, **hub}
            with quiet(), suppress(OSError):
                loaded: Any = type(model).from_pretrained(base, device_map="meta", output_loading_info=True, **place)
                missing = sorted(loaded[1]["missing_keys"])
                refuse(f"{base} ({part})", (f"{name} is missing" for name in missing))
                break
        refuse(f"{base} ({part})", (f"{name} is not finite" for name in not_finite(model.state_dict())))


def find_keyword(tokens: Sequence[str], keyword: str) -> list[int]:
    """Positions of the last word `keyword` in a padded token sequence, whichever side the padding is on.

    >>> find_keyword(["<pad>", "<pad>", "▁sharp", ",", "te", "xt"], "text")
    [4, 5]
    """
    text, owners = "", []  # the sequence as written, and the token that each of its characters belongs to
    for index, token in enumerate(tokens):
        for border in _WORD_BORDERS:
            token = token.replace(border, " ")
        text += token.lower()
        owners += [index] * len(token.lower())
    found = list(re.finditer(rf"\b{re.escape(keyword.lower())}\b", text))
    if not found:
        raise ValueError(f"The prompt has no word {keyword!r}: its tokens are {[t for t in tokens if t]}.")
    return sorted(set(owners[found[-1].start() : found[-1].end()]))
