"""The encoders that a configuration can name, and how they are made. Importing this imports none of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from encoders.encoder import Encoder
from mmpsr.config import ConfigError, nearest

__all__ = ["CATALOGUE", "CatalogueEntry", "create_encoder"]


@dataclass(frozen=True)
class CatalogueEntry:
    """One encoder.

    Attributes:
        id: its name in configurations.
        modalities: what it can describe.
        width: of one embedding; a clip's vector (mean and standard deviation) is twice as wide.
        factory: `module:Class`, called with the modality.
        description: what it measures, in one line.
        citation: whom to cite.
        licence: of its weights and library.
    """

    id: str
    modalities: tuple[str, ...]
    width: int
    factory: str
    description: str
    citation: str
    licence: str


_ENTRIES = (
    CatalogueEntry(
        id="face-mesh", modalities=("video",), width=58, factory="encoders.face_mesh:FaceMesh",
        description="22 readable cues of face and head, and 18 aligned points, from 478 MediaPipe landmarks",
        citation="Kartynnik et al. 2019, arXiv:1907.06724; Grishchenko et al. 2020, arXiv:2006.10962",
        licence="Apache-2.0",
    ),
    CatalogueEntry(
        id="egemaps", modalities=("audio",), width=25, factory="encoders.egemaps:EGeMAPS",
        description="openSMILE eGeMAPSv02 low-level descriptors every 10 ms",
        citation="Eyben et al. 2016, doi:10.1109/TAFFC.2015.2457417",
        licence="openSMILE: free for research and private use; commercial use needs a licence from audEERING",
    ),
    CatalogueEntry(
        id="minilm", modalities=("text", "behavior"), width=384, factory="encoders.minilm:MiniLM",
        description="token embeddings of all-MiniLM-L6-v2 over the transcript or the described behaviour",
        citation="Reimers and Gurevych 2019, arXiv:1908.10084; Wang et al. 2020, arXiv:2002.10957",
        licence="Apache-2.0",
    ),
    CatalogueEntry(
        id="cue-narrative", modalities=("behavior",), width=384, factory="encoders.cue_narrative:CueNarrative",
        description="measured cues of face, gaze, head and voice put into a checkable paragraph, embedded with minilm",
        citation="vocabulary: González-González et al. 2025, arXiv:2505.19328; embedding as minilm",
        licence="Apache-2.0",
    ),
)  # fmt: skip

CATALOGUE: Mapping[str, CatalogueEntry] = {entry.id: entry for entry in _ENTRIES}
"""Encoders by id."""


def create_encoder(encoder_id: str, modality: str) -> Encoder:
    """Make an encoder of the catalogue; its weights wait for `load()`.

    Args:
        encoder_id: id in `CATALOGUE`.
        modality: what it shall describe.

    Raises:
        ConfigError: no encoder has this id, it does not describe this modality, or its width is not the one that the
            catalogue promises.

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
    if modality not in entry.modalities:
        able = [other.id for other in _ENTRIES if modality in other.modalities]
        others = f"; {modality} is described by {', '.join(able)}" if able else ""
        raise ConfigError(
            f"features.encoders.{modality}: {encoder_id!r} describes {' and '.join(entry.modalities)}, "
            f"not {modality}{others}"
        )
    module, _, name = entry.factory.partition(":")
    encoder: Encoder = getattr(importlib.import_module(module), name)(modality)
    if encoder.width != entry.width:
        raise ConfigError(
            f"encoder {encoder_id!r} gives embeddings {encoder.width} wide, the catalogue says {entry.width}; "
            "an installed library or its weights differ from the ones this version was made for"
        )
    return encoder
