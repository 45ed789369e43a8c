"""What a configuration uses of a feature store: which folders, and of which clips."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from encoders.config import FeaturesConfig
from encoders.errors import StoreError
from encoders.extraction.read import make_encoders, sequence_specs
from encoders.spec import EncoderSpec
from encoders.writers.build import text_writers
from encoders.writers.work import TextWork

__all__ = ["Usage", "usage_of"]


@dataclass(frozen=True)
class Usage:
    """What a configuration uses.

    Attributes:
        folders: below the store's root, with the encoder's id.
        clips: ids by corpus; corpora that cannot be read are not in it.
        sources: by folder what each clip's vector or sequence is made from now, see `encoders.base.Encoder.source`.
    """

    folders: Mapping[str, str]
    clips: Mapping[str, frozenset[str]]
    sources: Mapping[str, Mapping[str, str]]

    def clips_of(self, folder: str, corpus: str) -> Mapping[str, str | None] | None:
        """Clips of a folder's corpus and their sources, None where not known; None where the clips are not known."""
        if folder in self.sources:
            return self.sources[folder]
        return dict.fromkeys(self.clips[corpus]) if corpus in self.clips else None


def usage_of(features: FeaturesConfig, tables: Mapping[str, pd.DataFrame | None]) -> Usage:
    """What encoders and writers of texts use of the store; no weights are loaded and nothing is written.

    Args:
        features: encoders of the modalities in use, writers of texts, and the store.
        tables: clip table of each corpus, None where it cannot be read.

    Raises:
        ConfigError: an encoder is not known, cannot be made as configured, or has no sequences as asked for.
        ExtractionError: an encoder cannot be imported, or precomputed features are not there.
        StoreError: a file of corrected texts cannot be used.
    """
    folders: dict[str, str] = {}
    sources: dict[str, dict[str, str]] = {}
    encoders = make_encoders(features)
    vectors = {name: EncoderSpec.of(encoder) for name, encoder in encoders.items()}
    specs = [*vectors.values(), *sequence_specs(features, vectors).values()]
    writers = text_writers(features)
    for corpus, clips in tables.items():
        for spec in [*specs, *(writer.spec for writer in writers)]:
            folders[_folder(corpus, spec)] = spec.id
        if clips is None:
            continue
        for writer in writers:
            work = TextWork(clips, writer, features)
            sources[_folder(corpus, writer.spec)] = {item.clip_id: item.source for item in work.items.values()}
            with suppress(StoreError):  # a damaged part, which the inventory reports
                clips = work.filled(clips)
        columns = clips.astype(object)
        rows = cast(list[dict[str, Any]], columns.where(columns.notna(), None).to_dict("records"))
        made_from = {
            name: {str(row["clip_id"]): encoder.source(row) for row in rows} for name, encoder in encoders.items()
        }
        sources |= {_folder(corpus, spec): made_from[spec.modality] for spec in specs}
    known = {name: frozenset(clips["clip_id"]) for name, clips in tables.items() if clips is not None}
    return Usage(folders, known, sources)


def _folder(corpus: str, spec: EncoderSpec) -> str:
    return f"{corpus}/{spec.modality}/{spec.key}"
