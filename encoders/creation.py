"""The models that a configuration can name, and how they are made. Importing this imports none of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from encoders.base import Encoder
from encoders.catalogue import entries
from encoders.catalogue.checkpoint import Checkpoint, is_cached, is_offline
from encoders.catalogue.entry import EMBEDDED, CatalogueEntry, Entry, WriterEntry
from encoders.config import FeaturesConfig
from mmpsr.config import ConfigError, base_of, nearest
from mmpsr.extras import extra_of

__all__ = ["CATALOGUE", "WRITERS", "can_run", "create_encoder", "writer_checkpoint"]

CATALOGUE: Mapping[str, CatalogueEntry] = {entry.id: entry for entry in entries.ENTRIES}
"""Encoders by id."""
WRITERS: Mapping[str, WriterEntry] = {entry.id: entry for entry in entries.WRITERS}
"""Models that write transcripts and descriptions, by id."""
_READS: Mapping[str, tuple[str, ...]] = {"video": ("av", "cv2", "mediapipe"), "audio": ("av",)}
"""Modality -> what its media are read with."""


def create_encoder(encoder_id: str, modality: str, features: FeaturesConfig | None = None) -> Encoder:
    """Make an encoder of the catalogue; its weights wait for `load()`.

    Args:
        encoder_id: id in `CATALOGUE`.
        modality: what it shall describe, or what the view of it is called.
        features: where local copies of weights are, and whose code may run; None is the defaults: nowhere, nobody's.

    Raises:
        ConfigError: no encoder has this id, it does not describe this modality, its width is not the one that the
            catalogue promises, it runs code that was not allowed, or its local weights are not there.

    Example:
        >>> create_encoder("egemap", "audio")
        Traceback (most recent call last):
        mmpsr.config.ConfigError: features.encoders.audio: no encoder is named 'egemap'; did you mean 'egemaps'?
    """
    entry = CATALOGUE.get(encoder_id)
    if entry is None:
        raise ConfigError(
            f"features.encoders.{modality}: no encoder is named {encoder_id!r}; {nearest(encoder_id, CATALOGUE)}"
        )
    base = base_of(modality)
    if base not in entry.modalities:
        able = [other.id for other in CATALOGUE.values() if base in other.modalities]
        others = f"; {base} is described by {', '.join(able)}" if able else ""
        raise ConfigError(
            f"features.encoders.{modality}: {encoder_id!r} describes {' and '.join(entry.modalities)}, "
            f"not {base}{others}"
        )
    return _made(entry, modality, features or FeaturesConfig())


def _made(entry: CatalogueEntry, modality: str, features: FeaturesConfig) -> Encoder:
    base = base_of(modality)
    module, _, name = entry.factory_of(base).partition(":")
    if entry.family == EMBEDDED:
        encoder: Encoder = getattr(importlib.import_module(module), name)(base)
        if encoder.width != entry.width:
            raise ConfigError(
                f"encoder {entry.id!r} gives embeddings {encoder.width} wide, the catalogue says {entry.width}; "
                "an installed library or its weights differ from the ones this version was made for"
            )
        return encoder
    weights, trusted = features.weights.get(entry.home), entry.home in features.trust_remote_code
    section = f"features.encoders.{modality}"
    reason = Checkpoint(section, entry.home, entry.revision, weights, trusted).why_no_code()
    if entry.remote_code and reason is not None:
        raise ConfigError(f"{section}: {entry.id!r} {reason}")
    options: dict[str, Any] = {"faces": features.faces} if base == "video" else {}
    options |= {"vggish": features.vggish} if entry.id == "vggish" else {}
    made: Any = getattr(importlib.import_module(module), name)(entry, base, weights, **options)
    if features.precision != "auto":
        made.dtype = features.precision  # known to the fingerprint, see `encoders.models.hub`
    return made  # type: ignore[no-any-return]


def writer_checkpoint(section: str, model: str, revision: str | None, features: FeaturesConfig) -> Checkpoint:
    """Tell where the weights of a model that writes texts are.

    Args:
        section: of the configuration that names it: `features.transcriber` or `features.describer`.
        model: id on the hub, of the catalogue or not.
        revision: commit; None is the one that the catalogue pins, or the newest.
        features: where local copies are, and whose code may run.

    Raises:
        ConfigError: only a converted local copy can be used, and none is named.
    """
    entry, weights = WRITERS.get(model), features.weights.get(model)
    if entry is not None and entry.foreign and weights is None:
        raise ConfigError(
            f"{section}: the repository {model} is not laid out for transformers; convert it and name the copy: "
            f'features.weights = {{ "{model}" = "path" }}'
        )
    if entry is not None:
        revision = revision or entry.revision
    trusted, download_mb = model in features.trust_remote_code, 0 if entry is None else entry.download_mb
    return Checkpoint(section, model, revision, weights, trusted, download_mb)


def can_run(entry: Entry, features: FeaturesConfig | None = None) -> str | None:
    """Tell why a model cannot run here as things are, or None where it can; nothing is fetched or loaded.

    Args:
        entry: of the catalogue, an encoder or a writer.
        features: as for `create_encoder`.
    """
    features = features or FeaturesConfig()
    reads = (entry.reads,) if isinstance(entry, WriterEntry) else getattr(entry, "modalities", ())
    family = () if entry.family == EMBEDDED or entry.libraries else ("transformers",)
    libraries = [*(name for modality in reads for name in _READS.get(modality, ())), *family, *entry.libraries]
    missing = [library for library in dict.fromkeys(libraries) if importlib.util.find_spec(library) is None]
    if missing:
        return f"not installed: {', '.join(missing)}" + "".join(
            f'; in the repository: pip install ".[{extra}]"'
            for extra in dict.fromkeys(map(extra_of, missing))
            if extra is not None
        )
    try:
        if isinstance(entry, WriterEntry):  # raises what using it would raise
            config = features.transcriber if entry.section == "features.transcriber" else features.describer
            revision = config.revision if config is not None and config.model == entry.id else None
            checkpoint = writer_checkpoint(entry.section, entry.id, revision, features)
            checkpoint.identity  # noqa: B018  reads the local copy
            if entry.remote_code and (reason := checkpoint.why_no_code()) is not None:
                return f"{entry.section}: {entry.id} {reason}"
        elif isinstance(entry, CatalogueEntry) and (entry.remote_code or entry.home in features.weights):
            _made(entry, entry.modalities[0], features)
    except ConfigError as error:
        return str(error)
    if entry.family == EMBEDDED or entry.home in features.weights or is_cached(entry) or not is_offline():
        return None
    return f"its weights (about {entry.download_mb} MB) are not in the local cache, and HF_HUB_OFFLINE is set"
