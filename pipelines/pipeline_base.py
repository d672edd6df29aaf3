"""What our pipelines share: how they are written, so that plain diffusers loads them, and how they go to the Hub."""

import os
import tempfile
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from huggingface_hub import create_repo, file_exists

from tadisr.io.model_files import read_config
from tadisr.loading.cards import CARD_FILE, license_in, write_card
from tadisr.loading.custom_code import INDEX_FILE, add_custom_code, own_index

UNUSED_PROMPT = "The prompt is not followed: what is restored is what the image shows."


class HubPipeline(DiffusionPipeline):
    """A pipeline that is saved completely: safetensors, a card, and what plain diffusers needs to load it."""

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """As in `DiffusionPipeline`, with the classes of this package, and no programs of the repository."""
        loaded = super().load_config(*args, **kwargs)
        return (own_index(loaded[0]), *loaded[1:]) if isinstance(loaded, tuple) else own_index(loaded)

    def save_config(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Write model_index.json, and the programs that it names for plain diffusers."""
        super().save_config(save_directory, **kwargs)
        folder = Path(save_directory)
        add_custom_code(folder, read_config(folder / INDEX_FILE))

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the pipeline to a folder, with a model card unless it has one; of adapters on a base, these alone.

        Args:
            save_directory: the folder.
            push_to_hub: also upload it, to `repo_id` or a repository named as the folder. Where the folder had no card,
                that of the repository stays.
            kwargs: `variant` and `max_shard_size`, as in `DiffusionPipeline.save_pretrained`; `repo_id`, `private`,
                `token`, `commit_message` and `create_pr` for the Hub. `safe_serialization` is not followed: weights are
                always written as safetensors, the only kind that is read.
        """
        folder = Path(save_directory)
        hub = {key: kwargs.pop(key) for key in ("private", "token", "commit_message", "create_pr") if key in kwargs}
        repo_id = kwargs.pop("repo_id", folder.resolve().name)
        self._write(folder, **kwargs | {"safe_serialization": True})
        if push_to_hub:
            self._upload(folder, repo_id, **hub)
        self._write_card(folder, repo_id)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
    ) -> str:
        """As in `DiffusionPipeline`; a card that is in the repository already stays."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            self._write(folder, variant=variant, safe_serialization=True)
            return self._upload(
                folder, repo_id, commit_message=commit_message, private=private, token=token, create_pr=create_pr,
                subfolder=subfolder,
            )  # fmt: skip

    def _write(self, folder: Path, **kwargs: Any) -> None:
        """Write all but the card; `kwargs` as in `DiffusionPipeline.save_pretrained`."""
        DiffusionPipeline.save_pretrained(self, folder, **kwargs)

    def _write_card(self, folder: Path, name: str) -> None:
        source = self.config.get("_name_or_path")
        base = self.config.get("base_model")
        write_card(folder, name, type(self).__name__, base, license_in(source) if source else None)

    def _upload(
        self, folder: Path, repo_id: str, private: bool | None = None, token: str | None = None, **options: Any
    ) -> str:
        """Upload what is in `folder`, with a card if the repository has none; returns the commit's address."""
        repo_id = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
        if not (folder / CARD_FILE).exists() and not file_exists(repo_id, CARD_FILE, token=token):
            self._write_card(folder, repo_id)
        return self._upload_folder(folder, repo_id, token=token, **options)
