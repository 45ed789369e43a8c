"""What BAH says about a video besides its label, as columns: participant, annotation, what was said when."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from corpora.bah.annotation import Facts
from corpora.bah.files import BahFiles
from corpora.clips import CorpusError, Defects
from corpora.reading.untrusted import as_text, read_yaml

__all__ = ["annotation_columns", "chunks_of", "language_columns", "metadata_columns", "number", "transcript_of"]

LANGUAGES = {"english": "en", "en": "en", "french": "fr", "fr": "fr"}
WINDOW_SECONDS = 30.0
"""Length of the windows that the speech recogniser transcribed one by one."""

_METADATA = {
    "age": "age", "agerange": "age_range", "birthcountry": "birth_country", "province": "province",
    "canadaprovince": "province", "ethnicity": "ethnicity", "ethnicitysimplified": "ethnicity_simplified",
    "simplifiedethnicity": "ethnicity_simplified", "gender": "gender", "student": "student", "isstudent": "student",
    "useinchallenges": "consent_challenges", "useinpublications": "consent_publications",
}  # fmt: skip
_YES, _NO = ("true", "yes", "oui", "1"), ("false", "no", "non", "0")
_ANNOTATION = {"time_detailed_ah": "segments", "all_cues": "cues", "fr_detailed_ah": "frame_segments"}


def metadata_columns(files: BahFiles, participants: pd.Series, defects: Defects) -> pd.DataFrame:
    """`raw.<name>` and both consents of each row's participant.

    Args:
        files: where the metadata lie.
        participants: participant by row.
        defects: notes participants without metadata, and consents that are neither yes nor no.

    Raises:
        CorpusError: a file is damaged, or no mapping of participants.
    """
    found: dict[str, tuple[str, dict[object, object]]] = {}
    for file in files.metadata:
        shown = files.tree.shown(file)
        said = read_yaml(files.tree.path(file), shown)
        if not isinstance(said, dict):
            raise CorpusError(f"{shown}: expected a mapping of participants, found {type(said).__name__}")
        for participant, facts in said.items():
            place = f"{shown}, participant {participant!r}"
            if not isinstance(facts, dict):
                defects.add("unusable_row", place, "expected a mapping; these metadata are not used")
            elif found.setdefault(str(participant), (place, facts))[1] != facts:
                reason = f"differs from {found[str(participant)][0]}, which is used"
                defects.add("disagreement", place, reason)
    if not files.metadata:
        reason = "there is no meta_data.yml: participants and their consent are unknown"
        defects.add("missing_metadata", str(files.tree.folder), reason)
    rows = {}
    for participant in participants.unique():
        if participant in found:
            rows[participant] = _participant(*found[participant], defects)
        elif files.metadata:
            reason = "has no metadata; consent is unknown"
            defects.add(
                "missing_metadata", f"{files.tree.shown(files.metadata[0])}, participant {participant!r}", reason
            )
    columns = ["consent_challenges", "consent_publications"]
    by_participant = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
    by_participant = by_participant.reindex(columns=list(dict.fromkeys([*columns, *by_participant.columns])))
    return by_participant.reindex(participants).set_axis(participants.index)


def _participant(place: str, facts: Mapping[object, object], defects: Defects) -> dict[str, object]:
    row: dict[str, object] = {}
    for key, value in facts.items():
        words = str(key).replace("_", " ").replace("-", " ").split()
        name = _METADATA.get("".join(words).casefold(), "_".join(words).casefold())
        text = as_text(value, place)
        if not name.startswith("consent_"):
            row[f"raw.{name}"] = text
        elif text is not None and text.strip().casefold() in (*_YES, *_NO):
            row[name] = text.strip().casefold() in _YES
        elif text is not None and text.strip():
            reason = f"{text!r} is neither yes nor no; this consent is unknown"
            defects.add("missing_metadata", f"{place}, {key!r}", reason)
    return row


def annotation_columns(annotations: Mapping[str, Facts], keys: pd.Series) -> pd.DataFrame:
    """`raw.<name>` of each row's video: cues, segments and whatever else its annotation says, lists as JSON."""
    rows = {}
    for key in keys.unique():
        if key in annotations:
            file, said = annotations[key]
            rows[key] = {
                f"raw.{_ANNOTATION.get(str(name), name)}": as_text(value, f"{file}, {key!r}")
                for name, value in said.items()
                if name != "transcript"
            }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=object).reindex(keys).set_axis(keys.index)


def transcript_of(said: object) -> tuple[str | None, list[Any]]:
    """Text and chunks of a transcript, which is a text or a mapping of both."""
    if not isinstance(said, dict):
        return (said if isinstance(said, str) else None), []
    text, chunks = said.get("text"), said.get("chunks")
    return (text if isinstance(text, str) else None), (chunks if isinstance(chunks, list) else [])


def chunks_of(chunks: Iterable[object], place: str, defects: Defects) -> list[dict[str, Any]]:
    """Chunks `{start, end, language, text}` in seconds of the whole video.

    Times begin anew in every window of the recogniser: a start that is not after the one of the chunk before (which
    had a length) tells a new window, which begins where the last chunk ended, or 30 s after the last window did where
    that end is unknown. An end that is missing, or before the start, is None.
    """
    found: list[dict[str, Any]] = []
    offset, before = 0.0, -1.0
    reached: float | None = 0.0
    for chunk in chunks:
        if not isinstance(chunk, dict):
            defects.add("unusable_row", place, f"a chunk is no mapping: {str(chunk)[:40]!r}; it is not used")
            continue
        times = chunk.get("timestamp")
        start, end = map(number, times) if isinstance(times, (tuple, list)) and len(times) == 2 else (None, None)
        if start is not None:
            if start < before or (start == before and reached != round(offset + before, 3)):
                offset = offset + max(WINDOW_SECONDS, before) if reached is None else reached
            before, reached = start, None if end is None else round(offset + max(start, end), 3)
        found.append({
            "start": None if start is None else round(offset + start, 3),
            "end": None if start is None or end is None or end < start else reached,
            "language": chunk.get("language") if isinstance(chunk.get("language"), str) else None,
            "text": chunk.get("text") if isinstance(chunk.get("text"), str) else None,
        })  # fmt: skip
    return found


def language_columns(chunks: list[dict[str, Any]]) -> dict[str, str | None]:
    """`language` that most of the text is in, all `raw.languages` as found, and `raw.chunks` as JSON."""
    lengths: dict[str, int] = {}
    for chunk in chunks:
        if chunk["language"]:
            lengths[chunk["language"]] = lengths.get(chunk["language"], 0) + len(chunk["text"] or "")
    most = max(lengths, key=lengths.__getitem__) if lengths else ""
    return {
        "language": LANGUAGES.get(most.strip().casefold()),
        "raw.languages": ", ".join(lengths) or None,
        "raw.chunks": json.dumps(chunks, ensure_ascii=False) if chunks else None,
    }


def number(value: object) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
