"""A clip table's vectors, sequences and values in time, read from the feature store row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from encoders.base import Encoder
from encoders.config import FeaturesConfig, in_order, wrong_modality
from encoders.errors import StoreError
from encoders.extraction.encode import make_encoder
from encoders.extraction.precomputed import close_files
from encoders.sequences import Sequences
from encoders.spec import EncoderSpec, SequenceSpec, TimedSpec, source_of
from encoders.store.queue import CLIP_COLUMNS, Records, records_of
from encoders.store.sequence_store import SequenceStore
from encoders.store.timed_store import TimedStore
from encoders.store.vector_store import FeatureStore
from encoders.timed import TimedSequences
from mmpsr.config import ConfigError, nearest
from mmpsr.files import sha256_of

__all__ = [
    "clip_records",
    "encoder_specs",
    "make_encoders",
    "read_sequences",
    "read_timed",
    "read_vectors",
    "sequence_specs",
    "timed_source",
    "timed_specs",
]

_CHUNKS = "raw.chunks"
"""Column with the times of phrases, of corpora that have none of words."""


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


def timed_specs(config: FeaturesConfig, encoders: Mapping[str, Encoder]) -> dict[str, TimedSpec]:
    """Return the specification of what each modality gives in time, where that is kept.

    Args:
        config: which modalities, and how many frames a second.
        encoders: of each modality.
    """
    return {
        name: encoder.spec.in_time(config.timed_rate, _timed_settings(encoder, config))
        for name, encoder in encoders.items()
        if name in config.timed
    }


def _timed_settings(encoder: Encoder, config: FeaturesConfig) -> dict[str, object]:
    words = {"text": config.timed_text} if encoder.timed_form == "words" else {}
    return {"form": encoder.timed_form, "grid": 1, **words, **encoder.timed_settings()}


def timed_source(encoder: Encoder, record: Mapping[str, Any]) -> str:
    """Hash what a clip's values in time are made from: the vector's source, the pictures, and when words were said."""
    parts = [encoder.source(record), source_of(record, "video"), source_of(record, "audio")]
    if encoder.timed_form == "words":
        parts += [str(record.get(name)) for name in ("words", _CHUNKS)]
    return sha256_of(" ".join(parts))[:12]


def make_encoders(config: FeaturesConfig) -> dict[str, Encoder]:
    """Make the encoder of each modality, in the order of `in_order`; no weights are loaded.

    Raises:
        ConfigError: a modality or an encoder is not known, two views are the same, or an encoder has no sequences
            although some are asked for.
        ExtractionError: an encoder cannot be imported, or there are no precomputed features to describe.
    """
    for modality in config.encoders:
        if (wrong := wrong_modality(modality)) is not None:
            raise ConfigError(f"features.encoders: {wrong}")
    encoders = {name: make_encoder(config.encoders[name], name, config) for name in in_order(config.encoders)}
    if config.precomputed:
        close_files()  # this process has seen what is in them; workers open them for themselves
    seen: dict[tuple[str, str], str] = {}
    for name, encoder in encoders.items():
        if (other := seen.setdefault((encoder.modality, encoder.spec.key), name)) != name:
            raise ConfigError(
                f"features.encoders: {other!r} and {name!r} are both {encoder.id!r}, the same vectors twice; take "
                f"{name!r} out, or choose another encoder for this view"
            )
        if name in config.sequences and encoder.pooling == "none":
            raise ConfigError(
                f"features.sequences.{name}: {encoder.id!r} gives one vector for a clip, without time, so there is no "
                f"sequence to keep; take {name} out of features.sequences or choose another encoder"
            )
        if name in config.timed and encoder.timed_form is None:
            raise ConfigError(
                f"features.timed: {encoder.id!r} ({name}) cannot say what it gives at which moment of a clip; take "
                f"{name} out of features.timed (of data.modalities for a model in time) or choose another encoder, see "
                "docs/in_time.md"
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
        for corpus, rows, ids, sources in _keys(clips, records, encoder.source):
            store.read_into(corpus, spec, ids, sources, rows, present, vectors)
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
        for corpus, rows, ids, sources in _keys(clips, records, encoders[modality].source):
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


def read_timed(clips: pd.DataFrame, config: FeaturesConfig) -> dict[str, TimedSequences]:
    """Open what a clip table's modalities in `config.timed` give in time, row by row; values stay on the disk.

    Args:
        clips: clip table of any number of corpora.
        config: encoders, rate and store that they were extracted with.

    Returns:
        By modality, in the order of `in_order`. All modalities of a clip that are present have one length, rate and
        start.

    Raises:
        StoreError: they have not, or a part cannot be read.
    """
    store = TimedStore(config.store)
    records = clip_records(clips, config)
    encoders = make_encoders(config)
    result = {}
    for modality, spec in timed_specs(config, encoders).items():
        source = partial(timed_source, encoders[modality])
        parts = [
            (rows, store.open_timed(corpus, spec, ids, sources))
            for corpus, rows, ids, sources in _keys(clips, records, source)
        ]
        result[modality] = TimedSequences.joined(len(clips), spec.width, parts)
    _check_grids(records, result)
    return result


def _check_grids(records: Sequence[Mapping[str, Any]], sequences: Mapping[str, TimedSequences]) -> None:
    """See that a clip has the same frames in all modalities."""
    for row, record in enumerate(records):
        grids = {
            name: (int(timed.lengths[row]), timed.rates[row], float(timed.starts[row]))
            for name, timed in sequences.items()
            if timed.present[row]
        }
        if len(set(grids.values())) > 1:
            found = ", ".join(
                f"{name} {length} from {start:g} s at {rate}" for name, (length, rate, start) in grids.items()
            )
            raise StoreError(
                f"clip {record['clip_id']!r} of corpus {record['corpus']!r} has different frames in time: {found}; "
                "its media changed between two extractions, remove the older folder and extract again"
            )


def _keys(
    clips: pd.DataFrame, records: Sequence[dict[str, Any]], source: Callable[[Mapping[str, Any]], str]
) -> Iterator[tuple[str, NDArray[np.int64], list[str], list[str]]]:
    """By corpus, the rows of its clips, their ids and sources."""
    for corpus, rows in clips.groupby("corpus", sort=False).indices.items():
        of_corpus = [records[row] for row in rows]
        ids = [record["clip_id"] for record in of_corpus]
        yield str(corpus), np.asarray(rows), ids, [source(record) for record in of_corpus]


def clip_records(clips: pd.DataFrame, config: FeaturesConfig) -> Records:
    """Rows of the clip table as plain dictionaries, `None` where missing; columns the table lacks are missing.

    They have the columns that encoders read, and those that paths of precomputed features name.
    """
    repeated = clips[clips.duplicated(["corpus", "clip_id"])]
    if len(repeated):
        corpus, clip_id = repeated[["corpus", "clip_id"]].iloc[0]
        raise StoreError(f"clip {clip_id!r} of corpus {corpus!r} occurs twice; ids must be unique within a corpus")
    names = dict.fromkeys(CLIP_COLUMNS)
    if config.timed:
        names[_CHUNKS] = None
    for encoder_id in config.encoders.values():
        for column in config.precomputed[encoder_id].columns if encoder_id in config.precomputed else ():
            if column not in clips:
                raise ConfigError(
                    f"features.precomputed.{encoder_id}: the clip table has no column {column!r}; "
                    f"{nearest(column, clips.columns)}"
                )
            names[column] = None
    return records_of(clips, names)
