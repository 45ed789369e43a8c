"""`save_pretrained`, `from_pretrained` and `push_to_hub` of what is kept as a bundle, in a folder or on the hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from training.bundle.files import FILES, OPTIONAL, BundleError

__all__ = ["HUB_ID", "MissingBundleError", "Pretrained", "bundle_folder"]

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""Ids on the hub: an owner and a name."""


class MissingBundleError(BundleError, FileNotFoundError):
    """A bundle that is no folder here, and can be none on the hub."""


class Pretrained:
    """What goes to the hub and comes back: `huggingface_hub.ModelHubMixin`, which takes half a second to import."""

    _hub_mixin_config = None  # a bundle needs no config.json beside its own content

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Open a bundle.

        Args:
            pretrained_model_name_or_path: folder, or id on the hub.
            options: of the hub `revision`, `cache_dir`, `force_download`, `local_files_only` and `token`; others as of
                `_from_pretrained`.

        Raises:
            BundleError: it cannot be read, or asks to run code.
        """
        return cls._from_pretrained(str(pretrained_model_name_or_path), **options)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write a bundle into a folder, see `huggingface_hub.ModelHubMixin.save_pretrained`."""
        from huggingface_hub import ModelHubMixin

        return ModelHubMixin.save_pretrained(self, save_directory, **options)  # type: ignore[arg-type]

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the bundle to the hub, see `huggingface_hub.ModelHubMixin.push_to_hub`."""
        from huggingface_hub import ModelHubMixin

        return ModelHubMixin.push_to_hub(self, repo_id, **options)  # type: ignore[arg-type]

    @classmethod
    def _from_pretrained(cls, model_id: str, **options: Any) -> Self:
        raise NotImplementedError

    def _save_pretrained(self, save_directory: Path) -> None:
        raise NotImplementedError


def bundle_folder(model_id: str, files: Sequence[str] = (*FILES, *OPTIONAL), **options: Any) -> Path:
    """Find a bundle's folder; one on the hub is fetched.

    Args:
        model_id: folder, or id on the hub.
        files: names of the files that are fetched.
        options: of `huggingface_hub.snapshot_download`.

    Raises:
        MissingBundleError: there is no such folder, and it is no id.
    """
    folder = Path(model_id)
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(model_id):
        raise MissingBundleError(f"{model_id} is no folder, and no id of a bundle on the hub (owner/name)")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model_id, allow_patterns=list(files), **options))
