"""What is to be predicted: recordings named as files, folders, globs or rows of a CSV file, with their transcripts.

A transcript comes from, in this order: what is given with the recording, the folder of transcripts, a file of the same
name beside the recording. What cannot be used is a defect with its reason; nothing is passed over silently.
"""

from __future__ import annotations

import csv
import glob
import math
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
    found = Inputs()
    for name in names:
        found.recordings += _named(Path(name), found)
    _tell_apart(found)
    if not found.recordings and not found.defects:
        raise InputError("nothing to predict: name files, folders, globs or a CSV file")
    if texts is not None:
        if len(texts) != len(found.recordings):
            raise InputError(f"{len(texts)} text(s) for {len(found.recordings)} recordings; give one for each")
        found.recordings = [
            each if text is None else replace(each, transcript=Transcript(text))
            for each, text in zip(found.recordings, texts, strict=True)
        ]
    found.recordings = [_with_transcript(each, transcripts) for each in found.recordings]
    return found


def _named(path: Path, found: Inputs) -> list[Recording]:
    """The recordings that one name stands for."""
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix.lower() in MEDIA_SUFFIXES and not each.is_dir())
        if not files:
            raise InputError(f"{path} holds no file that ends like a recording ({', '.join(sorted(MEDIA_SUFFIXES))})")
        return [Recording(each.relative_to(path).as_posix(), each) for each in files]
    if any(sign in str(path) for sign in "*?[") and not path.exists():
        files = sorted(Path(each) for each in glob.glob(str(path), recursive=True) if not Path(each).is_dir())
        if not files:
            raise InputError(f"no file matches {path}")
        return [recording for each in files for recording in _named(each, found)]
    if path.suffix.lower() == ".csv":
        return list(_rows(path, found))
    return [Recording(path.name, path)]


def _tell_apart(found: Inputs) -> None:
    """Leave out what is named twice, and give recordings of one name their paths as ids."""
    by_place: dict[tuple[Path, float | None, float | None], Recording] = {}
    for each in found.recordings:
        place = (each.path.absolute(), each.start, each.end)
        if place in by_place:
            found.notes.append(f"{each.path} is named twice and is predicted once")
        by_place.setdefault(place, each)
    ids: dict[str, int] = {}
    for each in by_place.values():
        ids[each.id] = ids.get(each.id, 0) + 1
    found.recordings = []
    for each in by_place.values():
        if ids[each.id] > 1:
            whole = each.start is None and each.end is None
            span = "" if whole else f" {each.start or 0:g}-{'end' if each.end is None else f'{each.end:g}'} s"
            each = replace(each, id=f"{each.path}{span}")
        found.recordings.append(each)


def _rows(path: Path, found: Inputs) -> Iterator[Recording]:
    """The recordings of a CSV file; rows that cannot be used are defects."""
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
        found.notes.append(f"{path}: columns {', '.join(map(repr, unread))} are not read ({', '.join(COLUMNS)} are)")
    for number, row in enumerate(rows, start=2):
        try:
            yield _row(row, path.parent)
        except ValueError as error:
            where = f"{path}, row {number}"
            found.defects.append(Defect(row.get("id") or where, row["path"], None, None, f"{where}: {error}"))


def _row(row: Mapping[str, str], folder: Path) -> Recording:
    """One row of a CSV file.

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
    """The recording with the transcript that lies in the folder or beside it, unless it has one."""
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
                found = read_transcript(path)
            except TranscriptError as error:
                return replace(recording, no_transcript=str(error))
            if found.text:
                return replace(recording, transcript=found)
            return replace(recording, no_transcript=f"{path}: is empty")
    return recording
