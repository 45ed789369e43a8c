"""A first configuration of a table or of a folder of recordings, as a TOML file whose comments say how it was told."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from corpora.audformat.database import HEADER
from corpora.clips import SPLIT_NAMES, SPLITS, CorpusError, Split
from corpora.reading.cells import USUAL_SEPARATORS, plain_numbers, read_cells
from corpora.splitting import split_by_group, working_shares
from corpora.table import TableCorpus
from mmpsr.config import toml_of
from mmpsr.delimited import decode_table
from training.drafting.columns import MISSING, Choices, Columns, Guess, guess_columns, plain
from training.drafting.labels import FOLDER, TaskDraft, guess_tasks
from training.drafting.recordings import TABLE_SUFFIXES, Recordings, kinds_of, require_no_sheet, splits_of_files

__all__ = ["Draft", "draft_of", "find_tables", "name_of", "table_of_recordings"]

FRACTIONS: Mapping[Split, float] = {"train": 0.6, "dev": 0.2, "test": 0.2}
EVERYDAY = ("clips", "labels", "data", "metadata", "annotations", "index", "table")
"""Names of tables that say nothing of what is in them."""
UTF_8, WINDOWS = "utf-8-sig", "cp1252"
FEW_CLIPS = 64
"""Up to this many clips are encoded by one worker: more would take longer to start."""
LABEL = "label"
"""Column that a table of recordings has for what nothing told."""
WIDTH, LONGEST = 46, 120


@dataclass(frozen=True)
class Draft:
    """What a first configuration says.

    Attributes:
        name: of the corpus.
        folder: of the table.
        files: the table, or a table a split, relative to `folder`.
        num_rows: of the table.
        columns: what columns are that are no labels.
        tasks: that are trained.
        others: columns that could be labels, too, and are not taken.
        modalities: by name, why it is taken.
        absent: likewise, why it is not.
        unread: columns that nothing reads.
    """

    name: str
    folder: Path
    files: str | Mapping[Split, str]
    num_rows: int
    columns: Columns
    tasks: Sequence[TaskDraft]
    others: Sequence[TaskDraft]
    modalities: Mapping[str, str]
    absent: Mapping[str, str]
    unread: Sequence[str]

    @property
    def notes(self) -> Iterator[str]:
        """What a user should check, a sentence each."""
        yield from self.columns.notes
        for task in self.tasks:
            yield from task.notes
        for task in self.others:
            columns = [name for each in (*self.tasks, task) for name in each.columns]
            yield (
                f"column {task.columns[0]!r} could be labels as well ({task.how}) and is not taken; to train it, say "
                f"all that are: {' '.join(f'--label {shlex.quote(name)}' for name in columns)}"
            )
        yield from self.absent.values()

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield each setting that was guessed, its value, and how it was told."""
        for guess in self.columns.guesses:
            yield guess.setting, toml_of(guess.value), guess.how
        for task in self.tasks:
            yield f"labels.{task.name}", ", ".join(task.columns), task.how
        for modality, why in self.modalities.items():
            yield f"modality {modality}", "used", why

    def toml(self, command: str, file: Path) -> str:
        """Write the configuration.

        Args:
            command: that made it.
            file: where it will be, for the next command.
        """
        return "\n".join(self._lines(command, file)) + "\n"

    def _lines(self, command: str, file: Path) -> Iterator[str]:
        rows = f"{self.num_rows:,} row{'s' * (self.num_rows != 1)}"
        yield f"# Drafted from {rows} by"
        yield f"#   {command}"
        yield "# Each comment says how a line was told. Change what is wrong, then"
        yield f"#   mmpsr doctor --config {file}"
        yield f"#   mmpsr train --config {file}"
        yield "# `mmpsr settings` lists all that can be set, with its meaning."
        for note in self.notes:
            yield f"# check: {note}"
        yield "\n[corpora]"
        yield _line("root", self.folder.as_posix(), "folder of the table, from where commands are run")
        yield f"\n[corpora.sources.{self.name}]"
        yield _line("adapter", "table", "")
        yield _line("files", self.files, "" if isinstance(self.files, str) else "their names differ in the split alone")
        for guess in self.columns.guesses:
            yield _line(guess.setting, guess.value, guess.how)
        for task in self.tasks:
            yield _line(f"labels.{task.name}", task.labels, task.how)
        if self.unread:
            yield f"# nothing reads: {', '.join(self.unread)}; keep = [...] takes columns along, for figures by them"
        yield "\n[tasks]"
        yield _line("active", [task.name for task in self.tasks], "")
        for task in self.tasks:
            if task.spec is not None:
                yield f"\n[tasks.specs.{task.name}]"
                yield from (_line(setting, value, "") for setting, value in task.spec.items())
        yield "\n[data]"
        yield _line("modalities", list(self.modalities), "; ".join(self.modalities.values()))
        if self.num_rows <= FEW_CLIPS:
            yield "\n[features]"
            yield _line("num_workers", 1, "few clips need no more")
        yield "\n# the recommended settings, those of configs/default.toml"
        yield "[model]"
        yield _line("dropout", 0.5, "")
        yield _line("guide_temperature", True, "")
        yield _line("predictor_norm", "none", "")
        yield _line("linear_path", {task.name: "fixed" for task in self.tasks}, "the network adds to a linear model")
        yield "\n[objective]"
        yield _line("class_weights", "balanced", "rare classes count as much as frequent ones")
        yield "\n[balancing]"
        yield _line("method", "equal", "")
        yield "\n[semi_supervision]"
        yield _line("method", "none", "")
        yield "\n[training]"
        yield _line("num_epochs", 40, "at most")
        yield _line("patience", 10, "epochs without a better dev figure after which training stops")
        yield _line("modality_dropout", 0.3, "")
        yield _line("weight_averaging", 0.99, "")


def _line(setting: str, value: object, comment: str) -> str:
    """Write a setting, what it rests on behind it, or above it where both are long."""
    text = f"{setting} = {toml_of(value)}"
    beside = f"{text:<{WIDTH}} # {comment}"
    return text if not comment else beside if len(beside) <= LONGEST else f"# {comment}\n{text}"


def find_tables(source: Path) -> tuple[Path, str | dict[Split, str] | None, Recordings | None]:
    """Find the table of a source.

    Args:
        source: a table, or a folder.

    Returns:
        The folder, the table in it, or a table a split, or None where it holds recordings alone; and what lies in it,
        None where a table was named.

    Raises:
        CorpusError: there is nothing there, or several tables that could be meant.
    """
    if source.is_file():
        require_no_sheet(source)
        if source.suffix.lower() not in (*USUAL_SEPARATORS, *TABLE_SUFFIXES):
            raise CorpusError(f"{source} is no table; name a CSV, TSV, Parquet or JSON lines file, or a folder")
        return source.parent, source.name, None
    if not source.is_dir():
        raise CorpusError(f"there is no file or folder {source}; name a table, or the folder of your recordings")
    if (source / HEADER).exists():
        raise CorpusError(
            f"{source} is a database in audformat, which says itself what is in it; a corpus of "
            f'adapter = "audformat" and path = {toml_of(source.as_posix())} reads it (docs/corpora.md)'
        )
    below = Recordings.below(source)
    splits = splits_of_files(below.tables)
    if splits is not None:
        return source, splits, below
    if len(below.tables) == 1:
        return source, below.tables[0], below
    if below.tables:
        listed = ", ".join(below.tables[:6]) + (" ..." if len(below.tables) > 6 else "")
        raise CorpusError(
            f"{source} holds {len(below.tables)} tables ({listed}); say which has a row for each clip: "
            f"mmpsr init {source / below.tables[0]}"
        )
    if below.sheets:
        require_no_sheet(source / below.sheets[0])
    if not below.media:
        raise CorpusError(f"{source} holds neither a table nor a recording; name the folder that holds them")
    return source, None, below


def table_of_recordings(recordings: Recordings) -> tuple[pd.DataFrame, bool]:
    """Make a table of recordings that have none: a row each, and a column for each folder above them.

    Returns:
        The table, and whether a folder may be a label; else it has an empty column to fill in.
    """
    parts = [PurePosixPath(file).parts[:-1] for file in recordings.media]
    frame = pd.DataFrame({"file": [(recordings.folder / file).as_posix() for file in recordings.media]}, dtype="string")
    depth = min(map(len, parts))
    for level in range(depth):
        names = pd.Series([own[level] for own in parts], dtype="string")
        if names.nunique() < 2:
            continue
        if names.str.casefold().isin(list(SPLIT_NAMES)).all():
            frame["split"] = names
        else:
            frame[FOLDER if FOLDER not in frame else f"{FOLDER}{level + 1}"] = names
    is_labelled = any(column.startswith(FOLDER) for column in frame.columns)
    if not is_labelled:
        frame[LABEL] = pd.Series("", index=frame.index, dtype="string")
    return frame, is_labelled


def draft_of(source: Path, choices: Choices) -> Draft:
    """Draft a configuration of a table, or of the tables in a folder.

    Args:
        source: as it was named, relative to where commands are run.
        choices: what the user says.

    Raises:
        CorpusError: a table cannot be read, or a guess would be a blind one; the message says what to name.
    """
    folder, files, below = find_tables(source)
    assert files is not None  # of recordings alone a table is made first
    names = [files] if isinstance(files, str) else list(files.values())
    encoding = _encoding_of([folder / name for name in names])
    tables = [read_cells(folder / name, folder, encoding=encoding) for name in names]
    frame = pd.concat([table.frame for table in tables], ignore_index=True).fillna("")
    if frame.empty:
        raise CorpusError(f"{folder / names[0]} has no row below its head; a clip is a row")
    recordings = below if below is not None and below.media else Recordings.named_in(frame, folder)
    places = pd.concat([table.places() for table in tables], ignore_index=True)
    columns = guess_columns(frame, choices, recordings, not isinstance(files, str), places)
    tasks, others = guess_tasks(frame, columns, choices)
    if encoding != UTF_8:
        letters = next((word for word in _words_of(frame) if not word.isascii()), "")
        how = f"its bytes are not UTF-8; so read, it says {letters}"
        columns.guesses.insert(0, Guess("encoding", encoding, how))
    name = name_of(source)
    _add_fractions(columns, frame, name, files)
    modalities, absent = _modalities(columns, recordings)
    if not modalities:
        raise CorpusError(
            f"{folder / names[0]} names no recording that is there, and no column holds what is said; name the column: "
            "--media COLUMN, or --text COLUMN"
        )
    _add_missing(columns, frame, tasks)
    used = {*columns.used, *(column for task in tasks for column in task.columns)}
    unread = [str(column) for column in frame.columns if column not in used]
    return Draft(name, folder, files, len(frame), columns, tasks, others, modalities, absent, unread)


def _encoding_of(tables: Sequence[Path]) -> str:
    """Tell whether text tables are UTF-8; else they are taken for what Windows writes in the west of Europe."""
    for table in tables:
        if table.suffix.lower() in USUAL_SEPARATORS:
            try:
                decode_table(table.read_bytes(), UTF_8)
            except UnicodeDecodeError:
                return WINDOWS
    return UTF_8


def _words_of(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the words of the head, then of the cells."""
    for text in (*map(str, frame.columns), *map(str, frame.to_numpy(dtype=object).ravel())):
        yield from text.split()


def name_of(source: Path) -> str:
    """Name the corpus of a table or folder: its stem, or that of its folder where many tables are called so.

    Example:
        >>> name_of(Path("Talks 2024")), name_of(Path("mine/clips.csv")), name_of(Path("mine/talks.csv"))
        ('talks_2024', 'mine', 'talks')
    """
    path = source.resolve()
    own = path.stem if path.suffix.lower() in (*USUAL_SEPARATORS, *TABLE_SUFFIXES) else path.name
    return plain(path.parent.name if plain(own) in EVERYDAY else own) or "mine"


def _add_fractions(columns: Columns, frame: pd.DataFrame, name: str, files: str | Mapping[Split, str]) -> None:
    """Deal clips out where the table does not, so that no split is empty where that can be."""
    column = columns.value("split")
    if not isinstance(files, str) or column is not None:
        splits = frame[str(column)].str.strip().str.casefold().map(SPLIT_NAMES) if column in frame else files
        for split, use in {"dev": "by which epochs are chosen", "test": "on which figures are reported"}.items():
            if split not in set(splits):
                columns.notes.append(
                    f"no clip is in the split {split}, {use}; mark some, whole groups of them, or deal all out anew by "
                    "fractions = { train = 0.6, dev = 0.2, test = 0.2 }"
                )
        return
    selector = str(columns.value("group") or columns.value("id"))
    groups = _filled(selector, frame)
    shares: Mapping[Split, float] = FRACTIONS
    drawn = split_by_group(name, groups, FRACTIONS)
    if drawn.nunique() < len(SPLITS):
        shares = working_shares(name, groups, FRACTIONS) or FRACTIONS
        drawn = split_by_group(name, groups, shares)
    of = "clips" if columns.value("group") is None else "groups"
    dealt = ", ".join(f"{groups[drawn.eq(split)].nunique()} {split}" for split in SPLITS)
    how = f"no column says which clip is in which split; a hash of their names deals the {of}: {dealt}"
    columns.guesses.append(Guess("fractions", dict(shares), how))


def _add_missing(columns: Columns, frame: pd.DataFrame, tasks: Sequence[TaskDraft]) -> None:
    """Say which cells of labels mean that nothing is known, where a table corpus does not know them itself."""
    cells = pd.concat([frame[column].str.strip() for task in tasks for column in task.columns])
    usual = TableCorpus.model_fields["missing"].default
    found = [cell for cell in MISSING if cell and cell not in usual and cells.eq(cell).any()]
    codes = {code: task for task in tasks for code in task.codes}
    for code, task in codes.items():
        for other in tasks:
            others = pd.concat([frame[column].str.strip() for column in other.columns])
            if code not in other.codes and plain_numbers(others).eq(code).any():
                raise CorpusError(
                    f"{code} in column {task.columns[0]!r} lies far outside its other numbers, and would say that "
                    f"nothing is known, but in column {other.columns[0]!r} it is a number like others; leave those "
                    f"cells of {task.columns[0]!r} blank, then type the same command"
                )
    found += codes
    if found:
        columns.guesses.append(
            Guess("missing", [*usual, *found], f"cells of labels that say nothing: {' '.join(found)}")
        )


def _filled(selector: str, frame: pd.DataFrame) -> pd.Series:
    """Fill a column or template."""
    if "{" not in selector:
        return frame[selector].astype("string")
    text = pd.Series("", index=frame.index, dtype="string")
    for literal, field in re.findall(r"([^{}]*)(?:\{([^{}]+)\})?", selector):
        text = text + literal + (frame[field] if field else "")
    return text


def _modalities(columns: Columns, recordings: Recordings) -> tuple[dict[str, str], dict[str, str]]:
    """Tell which modalities there is material for."""
    has_pictures, has_sound = False, False
    if columns.value("media") is not None:
        has_pictures, has_sound = kinds_of(columns.media.files) if columns.media is not None else (True, True)
    there: dict[str, str] = {}
    absent: dict[str, str] = {}
    if has_pictures:
        there["video"] = "recordings have pictures"
    if has_sound:
        there["audio"] = "recordings have sound"
    if columns.value("text") is not None:
        there["text"] = f"what is said is in column {columns.value('text')}"
    elif has_sound:
        absent["text"] = (
            "no column holds what is said, so that text is left out; name it with --text COLUMN, or let a speech model "
            'write it: add "text" to data.modalities and a section [features.transcriber] (mmpsr settings transcriber)'
        )
    if columns.value("description") is not None or has_pictures:
        there["behavior"] = "behaviour is described in words, from what faces do" if has_pictures else "descriptions"
    return there, absent
