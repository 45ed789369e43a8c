"""Columns of a table that are not labels: ids, recordings, texts, splits, groups, times, told by names and cells."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import PurePosixPath

import pandas as pd

from corpora.clips import SPLIT_NAMES, CorpusError, GroupKind
from corpora.reading.numbers import read_numbers
from mmpsr.config import nearest
from training.drafting.recordings import MediaTemplate, Recordings

__all__ = ["MISSING", "NUMBERED", "Choices", "Columns", "Guess", "guess_columns", "is_known", "numbers_of", "plain"]

NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "clip_id", "clip", "utterance_id", "utt_id", "segment_id", "sample_id", "name", "key", "video_id",
           "filename", "file_name", "file", "path"),
    "media": ("path", "file", "filename", "file_name", "video", "media", "video_path", "clip", "audio", "wav",
              "recording", "video_id", "url"),
    "text": ("text", "transcript", "transcription", "utterance", "sentence", "said", "words", "caption", "subtitle",
             "speech", "content", "message"),
    "description": ("description", "behavior", "behaviour", "described"),
    "split": ("split", "set", "partition", "fold", "subset", "usage"),
    "start": ("start", "start_time", "begin", "onset", "start_s", "start_sec", "from", "t_start", "starttime"),
    "end": ("end", "end_time", "stop", "offset", "end_s", "end_sec", "to", "t_end", "endtime"),
    "language": ("language", "lang", "locale"),
}  # fmt: skip
"""Role -> names that such columns usually have, the likeliest first."""
GROUPS: Mapping[str, GroupKind] = {
    **dict.fromkeys(
        ("participant", "subject", "person", "patient", "speaker", "actor", "user", "respondent", "pid", "ppt", "subj",
         "proband", "versuchsperson", "vp", "teilnehmer", "sujet", "participante", "sujeto", "deelnemer"),
        "participant",
    ),
    "dyad": "dialogue", "dialogue": "dialogue", "conversation": "dialogue", "session": "dialogue",
    "group": "video", "video": "video", "recording_id": "video", "youtube_id": "video", "id": "participant",
}  # fmt: skip
"""Names of columns whose values no split may separate, the likeliest first -> what a group is."""
MISSING = ("", "nan", "NaN", "NA", "N/A", "n/a", "?", "-", "none", "None", "null")
FEWEST_GROUPS = 3
NUMBERED = re.compile(r"(?:^|_)(?:id|no|nr|num|number|index|clip|utterance|row)$")
"""Names of columns that count something, and are no labels."""
_COUNTED = re.compile(r"_(?:id|no|nr|num|number|code)$")
_NO_WORD = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Choices:
    """What a user says in place of guesses; None where they leave it to them.

    Attributes:
        labels: label columns.
        id: column or template; likewise the others.
    """

    labels: tuple[str, ...] = ()
    id: str | None = None
    media: str | None = None
    text: str | None = None
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Guess:
    """A setting of the corpus, its value, and how it was told."""

    setting: str
    value: object
    how: str


@dataclass
class Columns:
    """What was told of a table.

    Attributes:
        guesses: settings of the corpus, in the order of a configuration.
        used: columns that are taken.
        media: how recordings are named, or None where no file was found.
        naming: columns that name recordings, which may name clips as well.
        notes: sentences on what a user should know.
    """

    guesses: list[Guess] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    media: MediaTemplate | None = None
    naming: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def add(self, setting: str, value: object, how: str, *columns: str) -> None:
        """Take a guess, and the columns that it reads."""
        self.guesses.append(Guess(setting, value, how))
        self.used |= set(columns)

    def value(self, setting: str) -> object | None:
        """Give the value that was guessed of a setting, or None."""
        return next((guess.value for guess in self.guesses if guess.setting == setting), None)


def plain(name: str) -> str:
    """Write a column's name in small letters, digits and underscores.

    Example:
        >>> plain("Participant ID")
        'participant_id'
        >>> plain("Émotion")
        'emotion'
    """
    letters = (sign for sign in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(sign))
    return _NO_WORD.sub("_", "".join(letters)).strip("_")


def _group_of(name: str) -> str | None:
    """Give the name in `GROUPS` that a column bears, with or without a word that it counts; None where it has none."""
    short = plain(name)
    return next((known for known in (short, _COUNTED.sub("", short)) if known in GROUPS), None)


def is_known(cells: pd.Series) -> pd.Series:
    """Tell which cells say something."""
    return ~cells.str.strip().isin(MISSING)


def numbers_of(cells: pd.Series) -> pd.Series | None:
    """Read the cells that say something as numbers; None where one of them is none, or there is no cell."""
    known = cells[is_known(cells)].str.strip()
    numbers, reasons = read_numbers(known.reset_index(drop=True))
    return None if reasons or not len(known) else pd.Series(numbers, index=known.index)


def columns_in(selector: str, frame: pd.DataFrame, option: str) -> tuple[str, ...]:
    """List the columns of a selector that a user gave.

    Raises:
        CorpusError: there is no such column; the nearest is named.
    """
    names = tuple(re.findall(r"\{([^{}]+)\}", selector)) or (selector,)
    for name in names:
        if name not in frame:
            columns = list(map(str, frame.columns))
            near = nearest(name, columns)
            known = f"; columns are {', '.join(columns)}" if near.startswith("did") else ""
            raise CorpusError(f"{option}: the table has no column {name!r}; {near}{known}")
    return names


def guess_columns(
    frame: pd.DataFrame, choices: Choices, recordings: Recordings, own_splits: bool, places: pd.Series
) -> Columns:
    """Tell ids, recordings, texts, splits, groups and times.

    Args:
        frame: cells as text, "" where empty.
        choices: what the user says.
        recordings: what lies beside the table.
        own_splits: whether each split has a file of its own.
        places: of the rows, for messages.

    Raises:
        CorpusError: no column, and no two together, tell clips apart; or a column that was named is not there.
    """
    told = Columns()
    _media(told, frame, choices, recordings)
    _times(told, frame)
    _split(told, frame, choices, own_splits)
    _text(told, frame, choices)
    _id(told, frame, choices, places)
    _group(told, frame, choices)
    for name in _named(frame, "language", told.used):
        if frame[name].str.strip().str.fullmatch("[a-z]{2}").all():
            told.add("language", name, "its name, and codes of two letters", name)
            break
    order = (
        "id",
        "media",
        "start",
        "end",
        "text",
        "description",
        "group",
        "group_kind",
        "speaker",
        "language",
        "split",
    )
    told.guesses.sort(key=lambda guess: order.index(guess.setting))
    return told


def _named(frame: pd.DataFrame, role: str, used: set[str]) -> list[str]:
    """List columns that have a usual name of a role, the likeliest first."""
    names = NAMES[role]
    found = [str(name) for name in frame.columns if plain(str(name)) in names and name not in used]
    return sorted(found, key=lambda name: names.index(plain(name)))


def _media(told: Columns, frame: pd.DataFrame, choices: Choices, recordings: Recordings) -> None:
    if choices.media is not None:
        columns = columns_in(choices.media, frame, "--media")
        found = recordings.template(frame, columns[0]) if columns == (choices.media,) else None
        told.media, told.naming = found, columns
        selector = choices.media if found is None else found.selector
        told.add("media", selector, "you named it", *columns)
        return
    usual = NAMES["media"]
    found_by_column = {str(name): recordings.template(frame, str(name)) for name in frame.columns}
    likely = [name for name, found in found_by_column.items() if found is not None]
    if likely:

        def rank(name: str) -> tuple[float, int, int]:
            found = found_by_column[name]
            assert found is not None
            known = plain(name) in usual
            return *found.reach, -usual.index(plain(name)) if known else -len(usual)

        best = max(likely, key=rank)
        told.media = found_by_column[best]
        assert told.media is not None
        told.naming = told.media.columns
        how = f"files of that name are there for {told.media.num_found} of {len(frame)} rows"
        told.add("media", told.media.selector, how)
        return  # the columns may also be ids
    for name in _named(frame, "media", set()):
        if frame[name].str.contains(r"\.[A-Za-z0-9]{2,4}$", regex=True).mean() > 0.5:
            _refuse_other_computer(frame[name], recordings)
            told.add("media", name, "its name and cells, but none of these files was found")
            told.naming = (name,)
            told.notes.append(
                f"none of the files in column {name!r} was found below {recordings.folder}; set media_root in the file "
                "to the folder that holds them"
            )
            return


def _refuse_other_computer(cells: pd.Series, recordings: Recordings) -> None:
    """Refuse paths of another computer whose files are here, in other folders.

    Raises:
        CorpusError: most of the cells are such paths.
    """
    found = recordings.by_name(cells)
    if 2 * len(found) >= cells.str.strip().ne("").sum() > 0 and len(found):
        cell, file = next(iter(found.items()))
        raise CorpusError(
            f"column {cells.name!r} names files in folders that are not here, such as {cell}; {len(found)} of "
            f"{len(cells)} are here under their own names, such as {recordings.folder / file}: leave the names alone "
            f"in that column ({PurePosixPath(file).name}), then type the same command"
        )


def _times(told: Columns, frame: pd.DataFrame) -> None:
    if told.value("media") is None:
        return
    pair = [next(iter(_named(frame, role, told.used)), None) for role in ("start", "end")]
    for setting, name in zip(("start", "end"), pair, strict=True):
        if name is not None:
            cells = frame[name].str.strip()
            _, reasons = read_numbers(cells[is_known(cells)].reset_index(drop=True), clock=True)
            if not reasons:
                told.add(setting, name, "its name, and seconds or times in its cells", name)


def _split(told: Columns, frame: pd.DataFrame, choices: Choices, own_splits: bool) -> None:
    if choices.split is not None:
        told.add("split", choices.split, "you named it", *columns_in(choices.split, frame, "--split"))
        return
    if own_splits:
        return
    for name in map(str, frame.columns):
        cells = frame[name].str.strip().str.casefold()
        known = cells[is_known(cells)]
        if name not in told.used and len(known) and known.isin(list(SPLIT_NAMES)).all():
            splits = {SPLIT_NAMES[cell] for cell in known.unique()}
            if {"train"} < splits:
                told.add("split", name, f"its cells are {', '.join(sorted(known.unique()))}", name)
                return


def _text(told: Columns, frame: pd.DataFrame, choices: Choices) -> None:
    if choices.text is not None:
        told.add("text", choices.text, "you named it", *columns_in(choices.text, frame, "--text"))
        return
    words = {str(name): frame[name].str.count(r"\S+").mean() for name in frame.columns}
    named = [name for name in _named(frame, "text", told.used) if words[name] >= 1.5]
    others = [str(name) for name in frame.columns if plain(str(name)) in ("comment", "comments", "note", "notes")]
    described = _named(frame, "description", told.used)
    long = [
        name for name in words
        if name not in (*told.used, *others, *described) and words[name] >= 3 and frame[name].nunique() > len(frame) / 2
    ]  # fmt: skip
    if named or long:
        name = named[0] if named else max(long, key=lambda name: words[name])
        how = "its name" if named else f"its cells are sentences, {words[name]:.0f} words on average"
        told.add("text", name, how, name)
    for name in described:
        if words[name] >= 3:
            told.add("description", name, "its name, and sentences in its cells", name)
            break


def _tells_apart(cells: pd.Series) -> bool:
    return bool(is_known(cells).all() and cells.str.strip().is_unique)


def _id(told: Columns, frame: pd.DataFrame, choices: Choices, places: pd.Series) -> None:
    if choices.id is not None:
        told.add("id", choices.id, "you named it", *columns_in(choices.id, frame, "--id"))
        return
    free = [str(name) for name in frame.columns if name not in told.used]
    usual = [name for name in _named(frame, "id", told.used - set(told.naming)) if _tells_apart(frame[name])]
    of_media = [name for name in told.naming if _tells_apart(frame[name])]
    is_word = [
        name for name in free
        if _tells_apart(frame[name]) and (numbers_of(frame[name]) is None or NUMBERED.search(plain(name)))
    ]  # fmt: skip
    for names, how in ((usual, "its name, and no cell occurs twice"), (of_media, "it names the recording, each once"),
                       (is_word, "no cell occurs twice")):  # fmt: skip
        if names:
            told.add("id", names[0], how, names[0])
            return
    for pair in _pairs(told, frame, free):
        cells = frame[pair[0]].str.strip() + "-" + frame[pair[1]].str.strip()
        if _tells_apart(cells):
            told.add("id", f"{{{pair[0]}}}-{{{pair[1]}}}", "no pair of their cells occurs twice", *pair)
            return
    doubled = next(iter(_named(frame, "id", set())), None)
    example = ""
    if doubled is not None:
        again = frame[doubled][frame[doubled].duplicated()]
        if len(again):
            rows = places[frame[doubled].eq(again.iloc[0])]
            listed = ", ".join(rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
            example = f" (in {doubled!r} {again.iloc[0]!r} occurs more than once: {listed})"
    raise CorpusError(
        f"no column tells the clips apart, nor do two together{example}; remove a row that is there twice, or say what "
        "does, a column or a template of several, by the same command with --id COLUMN, or --id '{a}-{b}'"
    )


def _pairs(told: Columns, frame: pd.DataFrame, free: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of columns that may tell clips apart, likely ones first: a recording and a start, two ids."""
    start = told.value("start")
    if told.naming and start is not None:
        yield told.naming[-1], str(start)
    likely = [name for name in free if NUMBERED.search(plain(name))]
    yield from combinations(likely, 2)


def _group(told: Columns, frame: pd.DataFrame, choices: Choices) -> None:
    if choices.group is not None:
        columns = columns_in(choices.group, frame, "--group")
        kind = next((GROUPS[known] for known in map(_group_of, columns) if known is not None), "participant")
        told.add("group", choices.group, "you named it", *columns)
        told.add("group_kind", kind, "what one of its values is: participant, video, dialogue or clip")
        return
    known = {str(name): _group_of(str(name)) for name in frame.columns}
    names = [name for name, group in known.items() if group is not None]
    repeated = [name for name in names if 1 < frame[name].nunique() < len(frame)]
    for name in sorted(repeated, key=lambda name: list(GROUPS).index(str(known[name]))):
        num = frame[name].nunique()
        if num < FEWEST_GROUPS and told.value("split") is None:
            told.notes.append(
                f"column {name!r} has {num} values, too few for train, dev and test, so that clips of one value stand "
                "in several splits: figures then say nothing of people that training has not seen"
            )
            told.used.add(name)
            continue
        told.add("group", name, f"its name, and {num} values in {len(frame)} rows", name)
        told.add(
            "group_kind", GROUPS[str(known[name])], "what one of its values is: participant, video, dialogue or clip"
        )
        if "speaker" in plain(name):
            told.add("speaker", name, "its name", name)
        return
    if told.value("split") is None and len(frame) > 1:
        told.notes.append(
            "no column says who is seen, so that clips of one person may stand in train and in test, which flatters "
            "figures; if there is one, name it: --group COLUMN"
        )
