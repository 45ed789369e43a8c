"""A clip table's vectors and sequences, read from the feature store row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from encoders.base import Encoder
from encoders.config import MODALITIES, FeaturesConfig
from encoders.errors import StoreError
from encoders.extraction.encode import make_encoder
from encoders.extraction.precomputed import close_files
from encoders.sequences import Sequences
from encoders.spec import EncoderSpec, SequenceSpec
from encoders.store.queue import CLIP_COLUMNS, records_of
from encoders.store.sequence_store import SequenceStore
from encoders.store.vector_store import FeatureStore
from mmpsr.config import ConfigError, nearest

__all__ = ["clip_records", "encoder_specs", "make_encoders", "read_sequences", "read_vectors", "sequence_specs"]


def encoder_specs(config: FeaturesConfig) -> dict[str, EncoderSpec]:
    """Specify each modality's encoder as `make_encoders` makes it; raises as that does."""
    return {name: encoder.spec for name, encoder in make_encoders(config).items()}


def sequence_specs(config: FeaturesConfig, encoders: Mapping[str, EncoderSpec]) -> dict[str, SequenceSpec]:
    """Return the specification of each modality's sequences, where they are kept.

    Args:
        config: how long sequences may be.
        encoders: specification of each modality's encoder; modalities that keep none are left out.
    """
    return {name: spec.sequences(config.sequences[name]) for name, spec in encoders.items() if name in config.sequences}


def make_encoders(config: FeaturesConfig) -> dict[str, Encoder]:
    """Make the encoder of each modality, in the order of `MODALITIES`; no weights are loaded.

    Raises:
        ConfigError: a modality or an encoder is not known, or an encoder has no sequences although some are asked for.
        ExtractionError: an encoder cannot be imported, or there are no precomputed features to describe.
    """
    for modality in config.encoders:
        if modality not in MODALITIES:
            raise ConfigError(f"features.encoders: no modality is named {modality!r}; {nearest(modality, MODALITIES)}")
    names = [name for name in MODALITIES if name in config.encoders]
    encoders = {name: make_encoder(config.encoders[name], name, config) for name in names}
    if config.precomputed:
        close_files()  # this process has seen what is in them; workers open them for themselves
    for name, encoder in encoders.items():
        if name in config.sequences and encoder.pooling == "none":
            raise ConfigError(
                f"features.sequences.{name}: {encoder.id!r} gives one vector for a clip, without time, so there is no "
                f"sequence to keep; take {name} out of features.sequences or choose another encoder"
            )
    return encoders


def read_vectors(
    clips: pd.DataFrame, config: FeaturesConfig
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.float32]]]:
    """Read vectors of a clip table, row by row.

    Args:
        clips: clip table of any number of corpora.
        config: encoders and store that the vectors were extracted with.

    Returns:
        By modality: presence `[n]` and vectors `[n, 2 * width]` (without pooling `[n, width]`), zeros where absent.
    """
    store = FeatureStore(config.store)
    records = clip_records(clips, config)
    result = {}
    for modality, encoder in make_encoders(config).items():
        spec = encoder.spec
        present = np.zeros(len(clips), dtype=np.bool_)
        vectors = np.zeros((len(clips), spec.vector_width), dtype=np.float32)
        for corpus, rows, ids, sources in _keys(clips, records, encoder):
            present[rows], vectors[rows] = store.read(corpus, spec, ids, sources)
        result[modality] = present, vectors
    return result


def read_sequences(clips: pd.DataFrame, config: FeaturesConfig) -> dict[str, Sequences]:
    """Read sequences of a clip table, row by row, for the modalities in `config.sequences`.

    What is read is held once, in float16: 25,000 clips of 64 frames, 512 wide, are 1.6 GB.

    Args:
        clips: clip table of any number of corpora.
        config: encoders, caps and store that the sequences were extracted with.
    """
    store = SequenceStore(config.store)
    records = clip_records(clips, config)
    encoders = make_encoders(config)
    specs = sequence_specs(config, {name: encoder.spec for name, encoder in encoders.items()})
    result = {}
    for modality, spec in specs.items():
        offsets = np.zeros(len(clips) + 1, dtype=np.int64)
        located = []
        for corpus, rows, ids, sources in _keys(clips, records, encoders[modality]):
            places = store.locate(corpus, spec, ids, sources)
            located.append((rows, places))
            offsets[rows + 1] = places.lengths
        present = offsets[1:] > 0
        np.cumsum(offsets, out=offsets)
        values = np.empty((offsets[-1], spec.width), dtype=np.float16)
        for rows, places in located:
            store.fill(spec, places, offsets[rows], values)
        result[modality] = Sequences(present, offsets, values)
    return result


def _keys(
    clips: pd.DataFrame, records: Sequence[dict[str, Any]], encoder: Encoder
) -> Iterator[tuple[str, NDArray[np.int64], list[str], list[str]]]:
    """By corpus, the rows of its clips, their ids and sources."""
    for corpus, rows in clips.groupby("corpus", sort=False).indices.items():
        of_corpus = [records[row] for row in rows]
        ids = [record["clip_id"] for record in of_corpus]
        yield str(corpus), np.asarray(rows), ids, [encoder.source(record) for record in of_corpus]


def clip_records(clips: pd.DataFrame, config: FeaturesConfig) -> list[dict[str, Any]]:
    """Rows of the clip table as plain dictionaries, `None` where missing; columns the table lacks are missing.

    They have the columns that encoders read, and those that paths of precomputed features name.
    """
    repeated = clips[clips.duplicated(["corpus", "clip_id"])]
    if len(repeated):
        corpus, clip_id = repeated[["corpus", "clip_id"]].iloc[0]
        raise StoreError(f"clip {clip_id!r} of corpus {corpus!r} occurs twice; ids must be unique within a corpus")
    names = dict.fromkeys(CLIP_COLUMNS)
    for encoder_id in config.encoders.values():
        for column in config.precomputed[encoder_id].columns if encoder_id in config.precomputed else ():
            if column not in clips:
                raise ConfigError(
                    f"features.precomputed.{encoder_id}: the clip table has no column {column!r}; "
                    f"{nearest(column, clips.columns)}"
                )
            names[column] = None
    return records_of(clips, names)
