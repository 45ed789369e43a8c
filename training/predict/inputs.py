"""What is to be predicted: recordings named as files, folders, globs or rows of a CSV file, with their transcripts.

A transcript comes from, in this order: what is given with the recording, the folder of transcripts, a file of the same
name beside the recording. What cannot be used is a defect with its reason; nothing is passed over silently.
"""

from __future__ import annotations

import csv
import glob
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from mmpsr.config import nearest
from mmpsr.errors import UserError
from training.predict.transcripts import TRANSCRIPT_SUFFIXES, Transcript, TranscriptError, read_transcript

__all__ = ["MEDIA_SUFFIXES", "Defect", "InputError", "Inputs", "Recording", "find_inputs"]

MEDIA_SUFFIXES = frozenset(
    {
        ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm",
        ".wmv", ".aac", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav", ".wma",
    }
)  # fmt: skip
"""Files of a folder that count as recordings; a file that is named itself may end in anything."""
COLUMNS = ("path", "text", "start", "end", "id", "description")
"""Of a CSV file; all but `path` may be left out."""


class InputError(UserError):
    """Inputs that cannot be understood as a whole; the message says what was found and what to do."""


class Defect(NamedTuple):
    """A recording, or a window of one, without a prediction, and why.

    Attributes:
        id: of the recording, or where it is named.
        path: of its file.
        start: seconds into the file; None where all of it is meant.
        end: as `start`.
        reason: a sentence.
    """

    id: str
    path: str
    start: float | None
    end: float | None
    reason: str


@dataclass(frozen=True)
class Recording:
    """A media file, or a part of one.

    Attributes:
        id: unique among the inputs.
        path: of the file, which need not exist.
        start: seconds into the file; None is its beginning.
        end: seconds into the file; None is its end.
        transcript: what is said, in seconds of the file where it has seconds.
        no_transcript: why there is none, where more is known than that none was found.
        description: of behaviour, for encoders that read one.
    """

    id: str
    path: Path
    start: float | None = None
    end: float | None = None
    transcript: Transcript | None = None
    no_transcript: str | None = None
    description: str | None = None


@dataclass
class Inputs:
    """Recordings, what could not be used, and sentences on what was not read."""

    recordings: list[Recording] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_inputs(
    names: Iterable[str | Path],
    *,
    texts: Sequence[str | None] | None = None,
    transcripts: Path | None = None,
) -> Inputs:
    """Find the recordings that files, folders, globs and CSV files name.

    A folder is searched with all folders below it. A file that is named but not there is kept: reading it says why it
    gives nothing.

    Args:
        names: files, folders, globs such as `talks/**/*.mp4`, or CSV files with a column `path` (relative to the CSV
            file) and, if wished, `text`, `start` and `end` (seconds), `id` and `description`.
        texts: what is said in each recording, where it is known; one per recording.
        transcripts: folder with files named like the recordings, `.srt`, `.vtt` or `.txt`.

    Raises:
        InputError: nothing is named, a folder or glob holds no recording, a CSV file cannot be read, or there are not
            as many texts as recordings.

    Example:
        >>> found = find_inputs(["talk.mp4"], texts=["Well, I do not know."])
        >>> found.recordings[0].id, found.recordings[0].transcript.text
        ('talk.mp4', 'Well, I do not know.')
    """
    if transcripts is not None and not transcripts.is_dir():
        raise InputError(f"{transcripts} is no folder; name one with transcripts {', '.join(TRANSCRIPT_SUFFIXES)}")
    inputs = Inputs()
    for name in names:
        inputs.recordings += _named(Path(name), inputs)
    _tell_apart(inputs)
    if not inputs.recordings and not inputs.defects:
        raise InputError("nothing to predict: name files, folders, globs or a CSV file")
    if texts is not None:
        if len(texts) != len(inputs.recordings):
            raise InputError(f"{len(texts)} text(s) for {len(inputs.recordings)} recordings; give one for each")
        inputs.recordings = [
            recording if text is None else replace(recording, transcript=Transcript(text))
            for recording, text in zip(inputs.recordings, texts, strict=True)
        ]
    inputs.recordings = [_with_transcript(recording, transcripts) for recording in inputs.recordings]
    return inputs


def _named(path: Path, inputs: Inputs) -> list[Recording]:
    """List the recordings that one name stands for."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in MEDIA_SUFFIXES and not file.is_dir())
        if not files:
            raise InputError(f"{path} holds no file that ends like a recording ({', '.join(sorted(MEDIA_SUFFIXES))})")
        return [Recording(file.relative_to(path).as_posix(), file) for file in files]
    if any(sign in str(path) for sign in "*?[") and not path.exists():
        files = sorted(Path(file) for file in glob.glob(str(path), recursive=True) if not Path(file).is_dir())
        if not files:
            raise InputError(f"no file matches {path}")
        return [recording for file in files for recording in _named(file, inputs)]
    if path.suffix.lower() == ".csv":
        return list(_rows(path, inputs))
    return [Recording(path.name, path)]


def _tell_apart(inputs: Inputs) -> None:
    """Leave out what is named twice, and give recordings of one name their paths as ids."""
    by_place: dict[tuple[Path, float | None, float | None], Recording] = {}
    for recording in inputs.recordings:
        place = (recording.path.absolute(), recording.start, recording.end)
        if place in by_place:
            inputs.notes.append(f"{recording.path} is named twice and is predicted once")
        by_place.setdefault(place, recording)
    counts = Counter(recording.id for recording in by_place.values())
    inputs.recordings = []
    for recording in by_place.values():
        if counts[recording.id] > 1:
            start, end = recording.start or 0.0, "end" if recording.end is None else f"{recording.end:g}"
            is_whole = recording.start is None and recording.end is None
            span = "" if is_whole else f" {start:g}-{end} s"
            recording = replace(recording, id=f"{recording.path}{span}")
        inputs.recordings.append(recording)


def _rows(path: Path, inputs: Inputs) -> Iterator[Recording]:
    """Read the recordings of a CSV file; rows that cannot be used are defects."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows, names = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a CSV file in UTF-8 ({error})") from None
    if "path" not in names:
        raise InputError(f"{path}: has no column 'path' ({nearest('path', names)}); columns are {', '.join(COLUMNS)}")
    unread = [name for name in names if name not in COLUMNS]
    if unread:
        inputs.notes.append(f"{path}: columns {', '.join(map(repr, unread))} are not read ({', '.join(COLUMNS)} are)")
    for number, row in enumerate(rows, start=2):
        try:
            yield _row(row, path.parent)
        except ValueError as error:
            where = f"{path}, row {number}"
            inputs.defects.append(Defect(row.get("id") or where, row["path"], None, None, f"{where}: {error}"))


def _row(row: Mapping[str, str], folder: Path) -> Recording:
    """Read one row of a CSV file.

    Raises:
        ValueError: it names no file, or a span that cannot be.
    """
    if not row["path"].strip():
        raise ValueError("path is empty")
    start, end = (_seconds(row, name) for name in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"runs from {start or 0.0:g} s to {end:g} s; an end must come after the start")
    text, description = ((row.get(name) or "").strip() for name in ("text", "description"))
    return Recording(
        (row.get("id") or "").strip() or row["path"], folder / row["path"], start, end,
        Transcript(text) if text else None, None, description or None,
    )  # fmt: skip


def _seconds(row: Mapping[str, str], name: str) -> float | None:
    cell = (row.get(name) or "").strip()
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} {cell!r} is no number of seconds")
    return value


def _with_transcript(recording: Recording, folder: Path | None) -> Recording:
    """Give a recording the transcript that lies in the folder or beside it, unless it has one."""
    if recording.transcript is not None:
        return recording
    name = Path(recording.id)
    named = name.with_suffix("") if name.suffix.lower() in MEDIA_SUFFIXES else name
    stems = [recording.path.with_suffix("")] if folder is None else [folder / named, folder / recording.path.stem]
    for stem in [*stems, recording.path.with_suffix("")]:
        for suffix in TRANSCRIPT_SUFFIXES:
            path = stem.with_name(stem.name + suffix)
            if not path.exists():
                continue
            try:
                transcript = read_transcript(path)
            except TranscriptError as error:
                return replace(recording, no_transcript=str(error))
            if transcript.text:
                return replace(recording, transcript=transcript)
            return replace(recording, no_transcript=f"{path}: is empty")
    return recording
