"""What is to be predicted: recordings named as files, folders, globs or rows of a table, with their transcripts.

A transcript comes from, in this order: what is given with the recording, the folder of transcripts, a file of the same
name beside the recording. What cannot be used is a defect with its reason; nothing is passed over silently.
"""

from __future__ import annotations

import glob
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.reading.numbers import read_numbers
from mmpsr.config import nearest
from mmpsr.delimited import SEPARATORS, decode_table, read_text_table, separator_of
from mmpsr.errors import UserError
from training.predict.transcripts import TRANSCRIPT_SUFFIXES, Transcript, TranscriptError, read_transcript

__all__ = ["MEDIA_SUFFIXES", "Defect", "InputError", "Inputs", "MissingInputError", "Recording", "find_inputs"]

MEDIA_SUFFIXES = frozenset(
    {
        ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm",
        ".wmv", ".aac", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav", ".wma",
    }
)  # fmt: skip
"""Files of a folder that count as recordings; a file that is named itself may end in anything."""
COLUMNS = ("path", "text", "start", "end", "id", "description")
"""Of a table; all but `path` may be left out."""
LISTS: Mapping[str, str] = {".csv": ",", ".tsv": "\t"}
"""Suffix of a table of recordings -> its separator where the head tells none."""


_LANGUAGE = re.compile(
    r"(.+)\.([a-z]{2}|eng|ger|deu|fra|fre|spa|ita|por|nld|dut|rus|zho|chi|jpn|kor|ara|hin|tur|pol|swe|dan|nor|fin|heb)"
    r"(?:[-_][A-Za-z0-9]+)*",
    re.IGNORECASE,
)


class InputError(UserError):
    """Inputs that cannot be understood as a whole; the message says what was found and what to do."""


class MissingInputError(InputError, FileNotFoundError):
    """Recordings that are named and are not there."""


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
        has_media: whether there is a file at all, or words alone.
    """

    id: str
    path: Path
    start: float | None = None
    end: float | None = None
    transcript: Transcript | None = None
    no_transcript: str | None = None
    description: str | None = None
    has_media: bool = True


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
    separator: str | None = None,
    quoting: bool | None = None,
    words_alone: bool = False,
) -> Inputs:
    """Find the recordings that files, folders, globs and tables name.

    A folder is searched with all folders below it. A file that is named but not there is kept: reading it says why it
    gives nothing.

    Args:
        names: files, folders, globs such as `talks/**/*.mp4`, or tables (`.csv`, `.tsv`) with a column `path`
            (relative to the table) and, if wished, `text`, `start` and `end` (seconds, or times such as `1:02:03.5`),
            `id` and `description`.
        texts: what is said in each recording, where it is known; one per recording.
        transcripts: folder with files named like the recordings, `.srt`, `.vtt` or `.txt`.
        separator: what separates the cells of tables; None tells it from their heads.
        words_alone: whether tables need no column `path`, where they have `text` or `description`.
        quoting: whether a quotation mark that begins a cell quotes it, see `mmpsr.delimited.read_text_table`.

    Raises:
        InputError: nothing is named, a folder or glob holds no recording, a table cannot be read, or there are not
            as many texts as recordings.

    Example:
        >>> found = find_inputs(["talk.mp4"], texts=["Well, I do not know."])
        >>> found.recordings[0].id, found.recordings[0].transcript.text
        ('talk.mp4', 'Well, I do not know.')
    """
    if transcripts is not None and not transcripts.is_dir():
        raise InputError(f"{transcripts} is no folder; name one with transcripts {', '.join(TRANSCRIPT_SUFFIXES)}")
    read = Inputs()
    for name in names:
        read.recordings += _named(Path(name), read, separator, quoting, words_alone)
    _tell_apart(read)
    if not read.recordings and not read.defects:
        raise InputError("nothing to predict: name files, folders, globs or a CSV file")
    if texts is not None:
        if len(texts) != len(read.recordings):
            raise InputError(f"{len(texts)} text(s) for {len(read.recordings)} recordings; give one for each")
        read.recordings = [
            recording if text is None else replace(recording, transcript=Transcript(text))
            for recording, text in zip(read.recordings, texts, strict=True)
        ]
    listed = _Transcripts()
    read.recordings = [_with_transcript(recording, transcripts, listed, read) for recording in read.recordings]
    return read


def _named(path: Path, read: Inputs, separator: str | None, quoting: bool | None, words_alone: bool) -> list[Recording]:
    """List the recordings that one name stands for."""
    if path.is_dir():
        named = sorted(file for file in path.rglob("*") if file.suffix.lower() in MEDIA_SUFFIXES and not file.is_dir())
        hidden = {file for file in named if any(part.startswith(".") for part in file.relative_to(path).parts)}
        files = [file for file in named if file not in hidden]
        if left := [file for file in sorted(hidden) if not file.name.startswith("._")]:  # other than what a Mac leaves
            read.notes.append(f"{path}: {len(left)} hidden files are passed over, such as {left[0].relative_to(path)}")
        if not files:
            raise InputError(f"{path} holds no file that ends like a recording ({', '.join(sorted(MEDIA_SUFFIXES))})")
        return [Recording(file.relative_to(path).as_posix(), file) for file in files]
    if any(sign in str(path) for sign in "*?[") and not path.exists():
        files = sorted(Path(file) for file in glob.glob(str(path), recursive=True) if not Path(file).is_dir())
        if not files:
            raise InputError(f"no file matches {path}")
        return [recording for file in files for recording in _named(file, read, separator, quoting, words_alone)]
    if path.suffix.lower() in LISTS:
        return list(_rows(path, read, separator, quoting, words_alone))
    return [Recording(path.name, path)]


def _tell_apart(read: Inputs) -> None:
    """Leave out what is named twice, and give recordings of one name their paths as ids."""
    by_place: dict[tuple[Path, float | None, float | None], Recording] = {}
    for recording in read.recordings:
        place = (recording.path.absolute(), recording.start, recording.end)
        if place in by_place:
            read.notes.append(f"{recording.path} is named twice and is predicted once")
        by_place.setdefault(place, recording)
    counts = Counter(recording.id for recording in by_place.values())
    read.recordings = []
    for recording in by_place.values():
        if counts[recording.id] > 1:
            start, end = recording.start or 0.0, "end" if recording.end is None else f"{recording.end:g}"
            is_whole = recording.start is None and recording.end is None
            recording = replace(recording, id=f"{recording.path}{'' if is_whole else f' {start:g}-{end} s'}")
        read.recordings.append(recording)


def _rows(
    path: Path, read: Inputs, separator: str | None, quoting: bool | None, words_alone: bool
) -> Iterator[Recording]:
    """Read the recordings of a table; rows that cannot be used are defects."""
    usual = LISTS[path.suffix.lower()]
    try:
        given = None if separator is None else separator_of(separator)
        table = read_text_table(decode_table(path.read_bytes()), usual, given, quoting, ("--quoting", "--no-quoting"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a CSV file in UTF-8 ({error})") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    names = [name.strip() for name in table.head]
    if repeated := [name for name in COLUMNS if names.count(name) > 1]:
        raise InputError(f"{path}: has several columns {repeated[0]!r}; keep one")
    has_media = "path" in names
    if not has_media and not (words_alone and {"text", "description"} & set(names)):
        shown = SEPARATORS.get(table.separator, repr(table.separator))
        raise InputError(
            f"{path}: has no column 'path' ({nearest('path', names)}); columns are {', '.join(COLUMNS)}; its cells are "
            f"taken as separated by {shown}, --separator says otherwise"
        )
    read.notes += [
        f"{path}: {reason}" if number == 1 else f"{path}, row {number}: {reason}"
        for number, reason in sorted([*table.notes, *table.short])
    ]
    unread = [name for name in names if name not in COLUMNS]
    if unread:
        read.notes.append(f"{path}: columns {', '.join(map(repr, unread))} are not read ({', '.join(COLUMNS)} are)")
    columns = {name: [row[place].strip() for row in table.rows] for place, name in enumerate(names) if name in COLUMNS}
    columns.setdefault("path", [f"{path.name}, row {number}" for number in table.numbers])
    seconds = {name: _seconds(columns[name]) for name in ("start", "end") if name in columns}
    place = f"{path}, row"
    defects = {number: Defect(f"{place} {number}", str(path), None, None, reason) for number, reason in table.faults}
    recordings: dict[int, Recording] = {}
    for index, number in enumerate(table.numbers):
        row = {name: cells[index] for name, cells in columns.items()}
        try:
            spans = {
                name: _second(name, values[index], reasons.get(index)) for name, (values, reasons) in seconds.items()
            }
            found = _row(row, spans.get("start"), spans.get("end"), path.parent)
            recordings[number] = replace(found, has_media=has_media)
        except ValueError as error:
            name = row.get("id") or f"{place} {number}"
            defects[number] = Defect(name, row["path"], None, None, str(error))
    for number in sorted(defects):
        defect = defects[number]
        read.defects.append(defect._replace(reason=f"{place} {number}: {defect.reason}"))
    yield from recordings.values()


def _row(row: Mapping[str, str], start: float | None, end: float | None, folder: Path) -> Recording:
    """Read one row of a table.

    Raises:
        ValueError: it names no file, or a span that cannot be.
    """
    if not row["path"]:
        raise ValueError("path is empty")
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"runs from {start or 0.0:g} s to {end:g} s; an end must come after the start")
    text, description = row.get("text"), row.get("description")
    return Recording(
        row.get("id") or row["path"], folder / row["path"], start, end, Transcript(text) if text else None, None,
        description or None,
    )  # fmt: skip


def _seconds(cells: Sequence[str]) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Read the seconds of a column, NaN where there are none, and by row why not."""
    text = pd.Series(list(cells), dtype="string")
    values, reasons = read_numbers(text.mask(text.eq("")), clock=True)
    negative = {int(row): f"{cells[row]!r} lies before the beginning" for row in np.flatnonzero(values < 0.0)}
    return values, reasons | negative


def _second(name: str, value: float, reason: str | None) -> float | None:
    if reason is not None:
        raise ValueError(f"{name} {reason}")
    return None if math.isnan(value) else float(value)


def _with_transcript(recording: Recording, folder: Path | None, listed: _Transcripts, read: Inputs) -> Recording:
    """Give a recording the transcript that lies in the folder or beside it, unless it has one."""
    if recording.transcript is not None:
        return recording
    name = Path(recording.id)
    named = [] if folder is None else [folder / name, folder / recording.path.name]
    for media in [*named, recording.path]:
        paths = listed.of(media)
        if not paths:
            continue
        languages = {language for language, _ in paths}
        if len(languages) > 1:
            shown = " and ".join(path.name for _, path in paths)
            reason = f"{media.parent}: {shown} are transcripts in several languages"
            return replace(
                recording, no_transcript=f"{reason}; name one of them as the recording is, without a language"
            )
        path = paths[0][1]
        try:
            transcript = read_transcript(path)
        except TranscriptError as error:
            return replace(recording, no_transcript=str(error))
        if transcript.note is not None:
            read.notes.append(transcript.note)
        if transcript.text:
            return replace(recording, transcript=transcript)
        return replace(recording, no_transcript=f"{path}: is empty")
    return recording


class _Transcripts:
    """Transcripts by folder, each listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[tuple[str, int, str]]]] = {}

    def of(self, media: Path) -> list[tuple[str, Path]]:
        """Transcripts of a recording with their languages, the first to be taken.

        `talk.srt`, then `talk.wav.srt`, come before `talk.en.vtt` or `talk.wav.en-GB.srt`; where there is one without a
        language, the others do not count.
        """
        listed = self._listed(media.parent)
        stem = media.with_suffix("").name if media.suffix.lower() in MEDIA_SUFFIXES else media.name
        files = [file for whole in dict.fromkeys((stem, media.name)) for file in sorted(listed.get(whole, ()))]
        plain = [file for file in files if not file[0]]
        return [(language, media.with_name(name)) for language, _, name in plain[:1] or files]

    def _listed(self, folder: Path) -> dict[str, list[tuple[str, int, str]]]:
        """Language, rank of the suffix, and name of every transcript, by the name that its recording would have."""
        if folder not in self._folders:
            listed = self._folders[folder] = {}
            try:
                names = os.listdir(folder)
            except OSError:  # no such folder
                names = []
            for name in names:
                base, suffix = os.path.splitext(name)
                if suffix.lower() in TRANSCRIPT_SUFFIXES:
                    rank = TRANSCRIPT_SUFFIXES.index(suffix.lower())
                    listed.setdefault(base, []).append(("", rank, name))
                    if match := _LANGUAGE.fullmatch(base):
                        listed.setdefault(match[1], []).append((match[2].lower(), rank, name))
        return self._folders[folder]
