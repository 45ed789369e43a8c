"""Pretrained weights: where they are, how they are fetched and loaded safely, and what to do where they are not here.

Weights are safetensors, or read with `torch.load(weights_only=True)`; code that comes with them never runs, except
where the configuration allows it for the model by name.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import Any

from encoders.catalogue.entry import Entry
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError

__all__ = ["Checkpoint", "is_cached", "is_offline", "weights_digest"]

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_UNUSED = re.compile(r"(^|\.)pooler\.|(^|\.)masked_spec_embed$")
"""Weights that heads and training need, and what is taken here does not."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WHOLE, _BLOCK, _NUM_BLOCKS = 1 << 20, 1 << 12, 64


def is_offline() -> bool:
    """Tell whether `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) forbids the network."""
    from huggingface_hub.constants import is_offline_mode

    return bool(is_offline_mode())


def is_cached(entry: Entry) -> bool:
    """Tell whether the weights of an entry have been fetched before, at its revision."""
    if entry.address is not None:
        caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
        home = Path(os.environ.get("TORCH_HOME", os.path.join(caches, "torch"))).expanduser()  # as torch, unimported
        return (home / "hub" / "checkpoints" / (entry.weights_file or "")).exists()
    from huggingface_hub import try_to_load_from_cache

    names = _WEIGHTS if entry.weights_file is None else (entry.weights_file,)
    return any(isinstance(try_to_load_from_cache(entry.home, name, revision=entry.revision), str) for name in names)


def weights_digest(weights: Path) -> str:
    """Compute twelve hexadecimal digits over a local copy of weights: names, sizes and contents, wherever it lies.

    Of files above one megabyte, 64 blocks of 4096 bytes spread evenly over the file stand for their contents.
    """
    digest = hashlib.sha256()
    files = [weights] if weights.is_file() else sorted(path for path in weights.iterdir() if path.is_file())
    for path in files:
        size = path.stat().st_size
        digest.update(f"{'' if path is weights else path.name} {size} ".encode())
        with path.open("rb") as file:
            if size <= _WHOLE:
                digest.update(file.read())
                continue
            for block in range(_NUM_BLOCKS):
                file.seek(block * (size - _BLOCK) // (_NUM_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Checkpoint:
    """Pretrained weights on the hub or at an address, or a local copy of them.

    Attributes:
        user: what asks for them, for messages: a section of the configuration, or an encoder.
        model: repository on the hub.
        revision: commit of the repository, or None for the newest.
        weights: local copy used in place of the hub, as `save_pretrained` writes it or one file, or None.
        is_trusted: `features.trust_remote_code` names the model.
        download_mb: roughly, in millions of bytes; 0 where it is not known.
        address: where the one file with the weights is fetched from, if not from the hub.
        home: what `features.weights` calls the model, if not by its repository.
    """

    user: str
    model: str
    revision: str | None = None
    weights: str | None = None
    is_trusted: bool = False
    download_mb: int = 0
    address: str | None = None
    home: str | None = None

    @cached_property
    def identity(self) -> str:
        """What a model's output depends on: id and revision, or the contents of the local copy.

        Raises:
            ConfigError: there is no such local copy.
        """
        if self.weights is None:
            return f"{self.model} {self.revision or 'main'}"
        if not (Path(self.weights) / "config.json").is_file():
            raise ConfigError(
                f'features.weights."{self.model}": {self.weights} is not a folder with a model; it must hold '
                "config.json, model.safetensors, and the files of processor and tokenizer"
            )
        return f"local {weights_digest(Path(self.weights))}"

    def fetch(self, get: Callable[..., Any]) -> Any:
        """Tell what `get(revision=..., local_files_only=...)` gives, for which a local copy has no revision.

        Raises:
            ExtractionError: it is not here and cannot be fetched, or cannot be read.
        """
        from safetensors import SafetensorError

        revision = None if self.weights is not None else self.revision
        try:
            return get(revision=revision or "main", local_files_only=is_offline())
        except (OSError, ValueError, KeyError, RuntimeError, UnpicklingError, SafetensorError) as error:
            first = str(error).strip().partition("\n")[0]
            raise ExtractionError(self._missing(f"{type(error).__name__}: {first}")) from error

    def open(self, loader: Any, **options: Any) -> Any:
        """Open `loader.from_pretrained` on this checkpoint: a configuration, a processor, a tokenizer or a model.

        Raises:
            ExtractionError: as for `fetch`.
        """
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "true")  # asks the hub to convert weights, in a thread
        return self.fetch(lambda **where: loader.from_pretrained(self.weights or self.model, **where, **options))

    def open_model(self, loader: Any, dtype: str = "float32", **options: Any) -> Any:
        """Open A model of transformers with all of its weights, on the CPU, in a precision named as in torch.

        Raises:
            ExtractionError: as for `fetch`, or the weights lack tensors that would otherwise be random.
        """
        import torch
        from transformers.utils import logging as transformers_logging

        verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()  # a table of the heads that are not loaded; what lacks is said below
        try:
            model, report = self.open(
                loader, output_loading_info=True, weights_only=True, dtype=getattr(torch, dtype), **options
            )
        finally:
            transformers_logging.set_verbosity(verbosity)
        lacking = sorted(key for key in report["missing_keys"] if not _UNUSED.search(key))
        if lacking:
            raise ExtractionError(
                f"{self.user}: {self.weights or self.model} lacks {len(lacking)} tensors of {type(model).__name__}, "
                f"the first of them {lacking[0]}; it holds another architecture"
            )
        return model.eval().requires_grad_(False)

    def file(self, name: str) -> Path:
        """Find one file of the repository or at the address, fetched where it is not here; or the local copy itself.

        Raises:
            ExtractionError: it is not here and cannot be fetched.
        """
        if self.weights is not None:
            return Path(self.weights)
        if self.address is None:
            from huggingface_hub import hf_hub_download

            return Path(self.fetch(lambda **where: hf_hub_download(self.model, name, **where)))
        import torch

        path = Path(torch.hub.get_dir()) / "checkpoints" / name
        if path.exists():
            return path
        if is_offline():
            raise ExtractionError(self._missing("HF_HUB_OFFLINE is set"))
        path.parent.mkdir(parents=True, exist_ok=True)
        digits = re.search(r"-([0-9a-f]{8,})\.", path.name)
        try:
            torch.hub.download_url_to_file(self.address, str(path), digits and digits[1], progress=False)
        except (OSError, RuntimeError) as error:
            raise ExtractionError(self._missing(f"{type(error).__name__}: {error}")) from error
        return path

    def code(self) -> Mapping[str, str]:
        """Classes of transformers -> code that comes with the model; empty where transformers itself has the model.

        Raises:
            ConfigError: the model needs code of its own, and that is not allowed or not pinned to a commit.
        """
        from transformers import PretrainedConfig
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        def plain_values(source: str, **options: Any) -> Any:
            return PretrainedConfig.get_config_dict(source, **options)[0]

        values = self.open(SimpleNamespace(from_pretrained=plain_values))  # without looking for classes that it names
        code: Mapping[str, str] = values.get("auto_map") or {}
        if not code or values.get("model_type") in CONFIG_MAPPING:
            return {}
        if (reason := self.why_no_code()) is not None:
            raise ConfigError(f"{self.user}: {self.model} {reason}")
        elsewhere = [name for name in code.values() if isinstance(name, str) and "--" in name]
        if elsewhere:
            raise ConfigError(
                f"{self.user}: {self.model} runs code that comes with its weights, and takes {elsewhere[0]} from "
                "another repository, which cannot be pinned"
            )
        return code

    def why_no_code(self) -> str | None:
        """Tell why code that comes with the weights may not run, or None where it may: allowed, and pinned or local."""
        pinned = _COMMIT.fullmatch(self.revision or "") is not None
        if not self.is_trusted:
            which = f" (revision {self.revision} is used)" if pinned else ""
            which = which or f", and pin the commit that you read with {self.user}.revision"
            return (
                "runs code that comes with its weights; to allow that, read the code and set "
                f'features.trust_remote_code = ["{self.model}"]{"" if self.weights else which}'
            )
        if pinned or self.weights is not None:
            return None
        return (
            f"runs code that comes with its weights, which is only run at a pinned commit; set {self.user}.revision to "
            f"its 40 hexadecimal digits (found {self.revision or 'none'})"
        )

    def _missing(self, reason: str) -> str:
        """Tell what to do where weights or their preprocessing cannot be had."""
        home = self.home or self.model
        if self.weights is not None:
            return f'{self.user}: features.weights."{home}" names {self.weights}, which cannot be loaded: {reason}'
        size = f" (about {self.download_mb} MB)" if self.download_mb else ""
        pinned = f" --revision {self.revision}" if self.revision else ""
        how = f"run `hf download {self.model}{pinned}`" if self.address is None else f"download {self.address}"
        return (
            f"{self.user}: {self.model}{size} is not in the local cache and cannot be fetched: {reason}. To work "
            f"offline, {how} where there is a network and bring the cache along (HF_HOME; HF_HUB_OFFLINE=1 keeps to "
            f'it), or name a local copy: features.weights = {{ "{home}" = "path" }}'
        )
