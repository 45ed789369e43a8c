"""Modalities that no training clip can have, told from the clip table and the streams of its files before extraction.

An encoder of the catalogue needs a column of the clip table; where that names files, at least one of them needs a
stream of its kind. Only the files up to the first that has one are opened.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from encoders.creation import CATALOGUE
from encoders.errors import EncodingError
from mmpsr.config import base_of
from mmpsr.extras import MissingExtraError, require_extra
from training.config import InTimeConfig, RunConfig

__all__ = ["missing_material", "without_modalities"]

_MATERIAL: Mapping[str, tuple[str, ...]] = {
    "video": ("media", "fallback_media", "faces"),
    "audio": ("audio_media", "media", "fallback_media"),
    "text": ("text",),
    "behavior": ("media", "fallback_media", "text", "description"),
}
"""Modality -> columns of the clip table of which an encoder of the catalogue needs at least one."""
_STREAMS: Mapping[str, Literal["video", "audio"]] = {"video": "video", "audio": "audio"}
_FILES = ("audio_media", "media", "fallback_media")


def missing_material(train: pd.DataFrame, config: RunConfig | InTimeConfig) -> Iterator[tuple[str, str]]:
    """Yield each modality in use that no training clip can have, with the reason and the first file's own.

    Encoders that are not of the catalogue, and vectors made elsewhere, know themselves what they need.

    Args:
        train: training clips; none of them, nothing is said.
        config: the run's configuration.
    """
    for modality in config.data.modalities if len(train) else ():
        base = base_of(modality)
        columns = _MATERIAL[base]
        if base == "text" and config.features.transcriber is not None:
            columns = ("text", *_MATERIAL["audio"])
        if config.features.encoders.get(modality) not in CATALOGUE:
            continue
        given = [column for column in columns if train[column].notna().any()]
        if not given:
            yield modality, f"no training clip has what {modality} is made from ({', '.join(columns)})"
        elif base in _STREAMS and set(given) <= set(_FILES):
            files = list(dict.fromkeys(path for column in given for path in train[column].dropna()))
            reason = _no_stream(files, _STREAMS[base])
            if reason is not None:
                if len(files) == 1:
                    yield modality, f"the one file of the training clips has no {base}: {reason}"
                else:
                    many = f"none of the {len(files):,} files of the training clips has {base}"
                    yield modality, f"{many}; the first: {reason}"


def without_modalities(modalities: Sequence[str], absent: Collection[str]) -> str:
    r"""Say how to train without modalities: the setting to type, or that none would be left.

    Example:
        >>> without_modalities(["text", "audio"], ["audio"])
        'mend that, or train without: --set \'data.modalities=["text"]\''
    """
    left = [modality for modality in modalities if modality not in absent]
    if not left:
        return "mend that; no other modality is left to train on"
    return f"mend that, or train without: --set 'data.modalities={json.dumps(left, separators=(',', ':'))}'"


def _no_stream(files: Sequence[str], kind: Literal["video", "audio"]) -> str | None:
    """Say of the first file why it has no stream of a kind; None where any has one, or none can be looked at."""
    try:
        require_extra("media")  # whoever extracts nothing need not have it
    except MissingExtraError:
        return None
    from encoders.media.decoding import opened, stream_of

    first: str | None = None
    for file in files:
        try:
            with opened(Path(file)) as container:
                stream_of(container, Path(file), kind)
            return None
        except EncodingError as error:
            first = first or str(error)
    return first
