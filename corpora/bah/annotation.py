"""The annotation, transcripts and metadata of BAH: what they say about each video and participant.

Nine tenths of the annotation are one entry per frame. It is cut at its videos, and their frames are left out by their
indentation, or read by their pattern; only a file that is not laid out so is parsed as a whole.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from corpora.bah.files import BahFiles, read_bytes, video_key
from corpora.clips import CorpusError, Defects
from corpora.reading.untrusted import ForbiddenTagError, as_text, load_yaml, read_yaml

__all__ = [
    "Facts",
    "add_texts",
    "annotation_columns",
    "metadata_columns",
    "number",
    "read_annotated_frames",
    "read_annotations",
    "read_transcripts",
]

FRAMES = "frame_annotation"
LANGUAGES = {"english": "en", "en": "en", "french": "fr", "fr": "fr"}
WINDOW_SECONDS = 30.0
"""Length of the windows that the speech recogniser transcribed one by one."""

_FRAME = re.compile(rb"frame-(\d+)\.jpg['\"]?\r?\n +- ([01])\r?\n")
_TOP_LEVEL = re.compile(rb"\n(?=[^\s#])")
_METADATA = {
    "age": "age", "agerange": "age_range", "birthcountry": "birth_country", "province": "province",
    "canadaprovince": "province", "ethnicity": "ethnicity", "ethnicitysimplified": "ethnicity_simplified",
    "simplifiedethnicity": "ethnicity_simplified", "gender": "gender", "student": "student", "isstudent": "student",
    "useinchallenges": "consent_challenges", "useinpublications": "consent_publications",
}  # fmt: skip
_YES, _NO = ("true", "yes", "oui", "1"), ("false", "no", "non", "0")
_ANNOTATION = {"time_detailed_ah": "segments", "all_cues": "cues", "fr_detailed_ah": "frame_segments"}


class Facts(NamedTuple):
    """What a file says about a video."""

    file: str
    said: dict[str, Any]


def read_transcripts(files: BahFiles, keys: Iterable[str], defects: Defects) -> dict[str, Facts]:
    """Read the transcripts of the videos `keys`; a damaged one is a defect.

    Raises:
        ForbiddenTagError: a transcript holds a tag other than a tuple.
    """
    transcripts = {}
    for key in dict.fromkeys(keys):
        if key not in files.transcripts:
            continue
        shown = files.tree.shown(files.transcripts[key])
        try:
            said = read_yaml(files.tree.path(files.transcripts[key]), shown)
            if not isinstance(said, dict):
                raise CorpusError(f"{shown}: expected a mapping with text and chunks")
            transcripts[key] = Facts(shown, said)
        except ForbiddenTagError:
            raise
        except CorpusError as error:
            reason = str(error).removeprefix(shown).lstrip(":, ")
            defects.add("unusable_row", shown, f"{reason}; this transcript is not used")
    return transcripts


def read_annotations(files: BahFiles, defects: Defects) -> dict[str, Facts]:
    """Read the annotation by key, without its frames.

    Raises:
        CorpusError: an annotation is damaged or no mapping of videos.
    """
    annotations: dict[str, Facts] = {}
    for file in files.annotations:
        shown = files.tree.shown(file)
        for path, said in _entries(read_bytes(files.tree, file), shown):
            key = video_key(str(path))
            if not isinstance(said, dict):
                defects.add("unusable_row", f"{shown}, {path!r}", "expected a mapping; this annotation is not used")
                continue
            said.pop(FRAMES, None)
            if annotations.setdefault(key, Facts(shown, said)).said != said:
                reason = f"{annotations[key].file} annotates this video otherwise, and is used"
                defects.add("disagreement", f"{shown}, {path!r}", reason)
    return annotations


def read_annotated_frames(
    files: BahFiles, keys: Container[str], defects: Defects
) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Read file, key, and numbers and labels of the annotated frames, of each video among `keys`.

    Raises:
        CorpusError: an annotation is damaged.
    """
    seen: set[str] = set()
    for file in files.annotations:
        shown, data = files.tree.shown(file), read_bytes(files.tree, file)
        blocks = _blocks(data)
        for line, block in blocks or [(1, data)]:
            section = block[slice(*_frame_section(block))] if blocks else b""
            pairs = [(number.decode(), label.decode()) for number, label in _FRAME.findall(section)]
            if pairs and len(pairs) == section.count(b"- - "):
                said: dict[object, object] = {
                    path: None for path in _mapping(load_yaml(block[: block.find(b"\n")], shown, line), shown)
                }
            else:
                said = _mapping(load_yaml(block, shown, line), shown)
            for path, facts in said.items():
                key, place = video_key(str(path)), f"{shown}, {path!r}"
                if key in keys and key not in seen:
                    seen.add(key)
                    yield place, key, pairs if facts is None else _frame_pairs(facts, place, defects)


def _frame_pairs(facts: object, place: str, defects: Defects) -> list[tuple[str, str]]:
    """Read numbers and labels of `frame_annotation: [[path, label], ...]`."""
    frames = (facts.get(FRAMES) if isinstance(facts, dict) else None) or []
    pairs = []
    for frame in frames if isinstance(frames, list) else [frames]:
        number = re.fullmatch(r".*frame-(\d+)\.jpg", str(frame[0])) if isinstance(frame, list) and frame else None
        if number is None or len(frame) != 2:
            defects.add("unusable_row", f"{place}, {FRAMES}", "an entry is no [.../frame-N.jpg, label]; it is not used")
        else:
            pairs.append((number[1], str(frame[1])))
    return pairs


def _entries(data: bytes, file: str) -> Iterator[tuple[object, object]]:
    """Read the videos of an annotation, block by block and without their frames where the layout allows it."""
    for line, block in _blocks(data) or [(1, data)]:
        start, end = _frame_section(block)
        if b"!" in block[start:end]:  # a tag, which has to be seen
            start = end
        blank = b"\n" * block.count(b"\n", start, end)
        try:
            said = load_yaml(block[:start] + blank + block[end:], file, line)
        except CorpusError:
            if b"*" not in block or block is data:
                raise
            yield from _mapping(load_yaml(data, file), file).items()  # an alias that refers to another block
            return
        yield from _mapping(said, file).items()


def _mapping(said: object, file: str, keys: str = "videos") -> dict[object, object]:
    if not isinstance(said, dict):
        raise CorpusError(f"{file}: expected a mapping of {keys}, found {type(said).__name__}")
    return said


def _blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Cut a YAML mapping at its top-level keys, each with its line; [] where it is not laid out in blocks."""
    starts = [0, *(match.end() for match in _TOP_LEVEL.finditer(data)), len(data)]
    blocks, line = [], 1
    for start, end in itertools.pairwise(starts):
        block = data[start:end]
        blocks.append((line, block))
        line += block.count(b"\n")
    in_blocks = all(block[: block.find(b"\n")].rstrip().endswith(b":") for _, block in blocks)
    return blocks if in_blocks else []


def _frame_section(block: bytes) -> tuple[int, int]:
    """Find where the lines of `frame_annotation` begin and end; (0, 0) where there are none."""
    indentation = re.match(rb"[^\n]*\n( +)", block)
    if indentation is None:
        return 0, 0
    start = block.find(b"\n%s%s:" % (indentation[1], FRAMES.encode()))
    if start < 0:
        return 0, 0
    lines = re.compile(rb"[^\n]*\n(?:%s[- ][^\n]*(?:\n|$)|[ \r]*\n)*" % indentation[1])
    match = lines.match(block, start + 1)
    return (start + 1, match.end()) if match else (0, 0)


def metadata_columns(files: BahFiles, participants: pd.Series, defects: Defects) -> pd.DataFrame:
    """Read `raw.<name>` and both consents of each row's participant.

    Args:
        files: where the metadata lie.
        participants: participant by row.
        defects: notes participants without metadata, and consents that are neither yes nor no.

    Raises:
        CorpusError: a file is damaged, or no mapping of participants.
    """
    metadata: dict[str, tuple[str, dict[object, object]]] = {}
    for file in files.metadata:
        shown = files.tree.shown(file)
        for participant, facts in _mapping(read_yaml(files.tree.path(file), shown), shown, "participants").items():
            place = f"{shown}, participant {participant!r}"
            if not isinstance(facts, dict):
                defects.add("unusable_row", place, "expected a mapping; these metadata are not used")
            elif metadata.setdefault(str(participant), (place, facts))[1] != facts:
                reason = f"differs from {metadata[str(participant)][0]}, which is used"
                defects.add("disagreement", place, reason)
    if not files.metadata:
        reason = "there is no meta_data.yml: participants and their consent are unknown"
        defects.add("missing_metadata", str(files.tree.folder), reason)
    rows = {}
    for participant in participants.unique():
        if participant in metadata:
            rows[participant] = _participant(*metadata[participant], defects)
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
    """Write as `raw.<name>` what each row's video is annotated with: cues, segments and so on, lists as JSON."""
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


def add_texts(
    videos: pd.DataFrame, transcripts: Mapping[str, Facts], annotations: Mapping[str, Facts], defects: Defects
) -> pd.DataFrame:
    """Give videos the first text that is not blank of list, transcript and annotation, and its languages."""
    keys = videos["key"]
    sources = {
        "transcript": {key: _transcript_of(facts.said) for key, facts in transcripts.items()},
        "annotation": {key: _transcript_of(facts.said.get("transcript")) for key, facts in annotations.items()},
    }
    first, texts = videos["text"], {}
    for source, contents in sources.items():
        by_key = {key: text.strip() for key, (text, _) in contents.items() if text and text.strip()}
        texts[source] = keys.map(by_key).astype("string")
        first = first.fillna(texts[source])
    for source, text in texts.items():
        differs = _plain(text).ne(_plain(first)).fillna(False)
        defects.add_rows("disagreement", videos, differs, f"the text of its {source} differs from the one used")
    languages = []
    for key in keys:
        facts = transcripts.get(key) or annotations.get(key)
        chunks = next((part[key][1] for part in sources.values() if key in part and part[key][1]), [])
        languages.append(language_columns(chunks_of(chunks, facts.file if facts else "", defects)))
    columns = ["language", "raw.languages", "raw.chunks"]
    return videos.assign(text=first).join(pd.DataFrame(languages, index=videos.index, columns=columns))


def _plain(texts: pd.Series) -> pd.Series:
    """Even out the spaces of texts."""
    return texts.str.replace(r"\s+", " ", regex=True).str.strip()


def _transcript_of(said: object) -> tuple[str | None, list[Any]]:
    """Take text and chunks from a transcript, which is a text or a mapping of both."""
    if not isinstance(said, dict):
        return (said if isinstance(said, str) else None), []
    text, chunks = said.get("text"), said.get("chunks")
    return (text if isinstance(text, str) else None), (chunks if isinstance(chunks, list) else [])


def chunks_of(chunks: Iterable[object], place: str, defects: Defects) -> list[dict[str, Any]]:
    """Place chunks `{start, end, language, text}` in seconds of the whole video.

    Times begin anew in every window of the recogniser: a start that is not after the one of the chunk before (which
    had a length) tells a new window, which begins where the last chunk ended, or 30 s after the last window did where
    that end is unknown. An end that is missing, or before the start, is None.
    """
    pieces: list[dict[str, Any]] = []
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
        pieces.append({
            "start": None if start is None else round(offset + start, 3),
            "end": None if start is None or end is None or end < start else reached,
            "language": chunk.get("language") if isinstance(chunk.get("language"), str) else None,
            "text": chunk.get("text") if isinstance(chunk.get("text"), str) else None,
        })  # fmt: skip
    return pieces


def language_columns(chunks: list[dict[str, Any]]) -> dict[str, str | None]:
    """Tell `language`, that of most of the text, all `raw.languages` as found, and `raw.chunks` as JSON."""
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
    """Take a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
