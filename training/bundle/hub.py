"""`save_pretrained`, `from_pretrained` and `push_to_hub` of what is kept as a bundle, in a folder or on the hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from training.bundle.files import FILES, OPTIONAL, BundleError

__all__ = ["HUB_ID", "Pretrained", "bundle_folder"]

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""Owner and name of what lies on the hub."""


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
        BundleError: there is no such folder, and it cannot be an id.
    """
    folder = Path(model_id)
    if folder.is_dir():
        return folder
    if HUB_ID.fullmatch(model_id) is None:
        raise BundleError(f"{model_id} is no folder, and no id on the hub, as owner/name; name the folder of a bundle")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model_id, allow_patterns=list(files), **options))
