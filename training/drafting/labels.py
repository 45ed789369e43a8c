"""Columns of a table that are labels, told by names and cells: tasks that ship, or tasks of a user's own."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from corpora.clips import CorpusError
from corpora.reading.cells import plain_numbers
from mmpsr.tasks import BUILTIN_TASKS
from training.drafting.columns import NUMBERED, Choices, Columns, columns_in, is_known, numbers_of, plain

__all__ = ["FOLDER", "TaskDraft", "guess_tasks"]

EMOTIONS: Mapping[str, tuple[str, ...]] = {
    "Neutral": ("neutral", "neu", "ne"),
    "Anger": ("anger", "angry", "ang", "an"),
    "Disgust": ("disgust", "disgusted", "dis", "di"),
    "Fear": ("fear", "fearful", "afraid", "scared", "fea", "fe"),
    "Happiness": ("happiness", "happy", "joy", "joyful", "hap", "ha"),
    "Sadness": ("sadness", "sad", "sa"),
    "Surprise": ("surprise", "surprised", "sur", "su"),
}  # fmt: skip
"""Class of the task emotion -> words for it, in small letters."""
TRAITS: Mapping[str, tuple[str, ...]] = {
    "openness": ("openness", "open", "o", "ope"),
    "conscientiousness": ("conscientiousness", "c", "con"),
    "extraversion": ("extraversion", "extroversion", "e", "ext"),
    "agreeableness": ("agreeableness", "a", "agr"),
    "non-neuroticism": ("non_neuroticism", "emotional_stability", "stability"),
}
HESITANCY = re.compile(r"ambivalen|hesita")
YES, NO = ("present", "yes", "true", "1", "y"), ("absent", "no", "false", "0", "n")
FEELING = re.compile(r"emotion|feeling|affect|mood")
LABEL = re.compile(r"label|class|category|target|rating|score|valence|arousal|dominance|sentiment|annotation|^y$")
GRADES = re.compile(r"rating|score|valence|arousal|dominance|intensity|level|strength")
ABOUT_PEOPLE = ("age", "gender", "sex", "ethnicity", "race", "country", "education", "height", "weight")
MOST_CLASSES = 12
CODES = ("-8", "-9", *(sign + digit * num for digit in "789" for num in (2, 3, 4) for sign in ("", "-")))
"""Numbers that surveys write where nothing is known."""
SEPARATORS = ("|", ";", ",")
"""What stands between classes that one cell names."""
FOLDER = "folder"
"""Beginning of the name of columns that folders were made."""


@dataclass(frozen=True)
class TaskDraft:
    """A task, where its labels stand, and how that was told.

    Attributes:
        name: of the task.
        labels: what stands under `labels.<name>` of the corpus.
        spec: declaration of a task of one's own, None of one that ships.
        how: it was told.
        columns: that it reads.
        is_sure: whether names say that these are labels; otherwise the cells alone do.
        notes: what a user should check.
        codes: numbers in its cells that say that nothing is known.
    """

    name: str
    labels: Mapping[str, Any]
    spec: Mapping[str, Any] | None
    how: str
    columns: tuple[str, ...]
    is_sure: bool
    notes: tuple[str, ...] = field(default=())
    codes: tuple[str, ...] = field(default=())


def guess_tasks(frame: pd.DataFrame, told: Columns, choices: Choices) -> tuple[list[TaskDraft], list[TaskDraft]]:
    """Tell which columns are labels, of which tasks.

    Args:
        frame: cells as text.
        told: columns that are something else.
        choices: what the user says.

    Returns:
        Tasks that are taken, and those that a column could be, too, which are not.

    Raises:
        CorpusError: no column looks like labels, or several could be and no name says which.
    """
    if choices.labels:
        for name in choices.labels:
            columns_in(name, frame, "--label")
        drafts = _families(frame, list(choices.labels), told)
        drafts += _single(frame, [name for name in choices.labels if name not in _columns_of(drafts)], drafts)
        named = _columns_of(drafts)
        for name in choices.labels:
            if name not in named:
                raise CorpusError(
                    f"--label: column {name!r} has {_described(frame[name])}, from which no classes or numbers can be "
                    "learned; label another"
                )
        return drafts, []
    free = [name for name in map(str, frame.columns) if name not in told.used and not NUMBERED.search(plain(name))]
    drafts = _families(frame, free, told)
    free = [name for name in free if name not in told.used]
    drafts += _single(frame, [name for name in free if name not in _columns_of(drafts)], drafts)
    sure = [draft for draft in drafts if draft.is_sure]
    others = [draft for draft in drafts if not draft.is_sure]
    about = [draft for draft in others if plain(draft.columns[0]) in ABOUT_PEOPLE]
    likely = [draft for draft in others if draft not in about]
    if not sure and len(likely) == 1 and not likely[0].columns[0].startswith(FOLDER):
        sure, others = likely, about
        told.notes.append(f"column {likely[0].columns[0]!r} is taken as labels since no other can be; else --label")
    if sure:
        return sure, others
    if others:
        listed = "; ".join(f"{draft.columns[0]} ({_described(frame[draft.columns[0]])})" for draft in others)
        first = (likely or others)[0].columns[0]
        if len(others) == 1 and first.startswith(FOLDER):
            raise CorpusError(
                f"folders could be classes or people: {listed}; say what they are by the same command with "
                f"--label {first}, or --group {first} and a table with labels"
            )
        raise CorpusError(
            f"no name of a column says that it is labels, and these could be: {listed}; say which by the "
            f"same command with --label {shlex.quote(first)}, once for each"
        )
    listed = "; ".join(f"{name} ({_described(frame[name])})" for name in free) or "none is left"
    taken = ", ".join(f"{guess.setting} = {guess.value}" for guess in told.guesses)
    raise CorpusError(
        f"no column looks like labels. Read as something else: {taken}. Others: {listed}. Fill one in, or say which "
        "it is: --label COLUMN"
    )


def _columns_of(drafts: Sequence[TaskDraft]) -> set[str]:
    return {name for draft in drafts for name in draft.columns}


def _described(cells: pd.Series) -> str:
    known = cells[is_known(cells)]
    if known.empty:
        return "no cell filled in"
    return f"{known.nunique()} value{'s' * (known.nunique() != 1)}, such as {known.iloc[0].strip()[:30]!r}"


def _families(frame: pd.DataFrame, names: Sequence[str], told: Columns) -> list[TaskDraft]:
    """Find columns that are classes of one task each: traits, and emotions that are each present or not."""
    drafts = []
    for task, words in (("personality", TRAITS), ("emotion", EMOTIONS)):
        found: dict[str, str] = {}
        for name in names:
            short = plain(name)
            for trait, usual in words.items():
                if short in usual and trait not in found and numbers_of(frame[name]) is not None:
                    found[trait] = name
                    break
        letters = all(len(plain(name)) == 1 for name in found.values())
        if len(found) < (4 if letters else 2):
            continue
        columns = {trait: found[trait] for trait in words if trait in found}
        cells, codes, said = _without_codes(
            pd.concat([plain_numbers(frame[name][is_known(frame[name])].str.strip()) for name in columns.values()]),
            f"columns {', '.join(columns.values())}",
        )
        numbers = numbers_of(cells)
        assert numbers is not None  # each of the columns is
        scale, notes = _scale(numbers, f"columns {', '.join(columns.values())}")
        notes += said
        if task == "personality" and (
            anxious := [name for name in names if plain(name) in ("neuroticism", "n", "neu")]
        ):
            told.used.add(anxious[0])
            notes.append(
                f"column {anxious[0]!r} is not read: the trait here is non-neuroticism, high for calm people; turn the "
                "column's numbers round in the table and name it under labels.personality, or leave it"
            )
        labels: dict[str, Any] = {"columns": columns} | ({} if scale is None else {"scale": scale})
        drafts.append(
            TaskDraft(task, labels, None, f"columns named like its classes: {', '.join(columns.values())}",
                      tuple(columns.values()), True, tuple(notes), codes)
        )  # fmt: skip
    return drafts


def _without_codes(cells: pd.Series, of: str) -> tuple[pd.Series, tuple[str, ...], list[str]]:
    """Leave out numbers of `CODES` that lie far outside the others: three times their range, or clearly below zero.

    Args:
        cells: as `plain_numbers` writes them, none blank.
        of: whose they are, for a sentence.

    Returns:
        The others, what was left out, and a sentence on it.
    """
    numbers, suspects = numbers_of(cells), cells.isin(CODES)
    if numbers is None or not suspects.any() or suspects.all():
        return cells, (), []
    low, high = numbers[~suspects].min(), numbers[~suspects].max()
    span = max(high - low, 1.0)
    far = suspects & (np.maximum(low - numbers, numbers - high) > 3 * span)
    if low >= 0:
        far |= suspects & (numbers < low - span / 2)
    codes = tuple(sorted(cells[far].unique()))
    if not codes:
        return cells, (), []
    said = (
        f"{', '.join(codes)} in {of} lies far outside the other numbers ({low:g} to {high:g}), and is taken to say "
        "that nothing is known; if it is a label, remove it from missing"
    )
    return cells[~far], codes, [said]


def _scale(numbers: pd.Series, of: str) -> tuple[list[float] | None, list[str]]:
    """Tell the ends of a scale: none where numbers are from 0 to 1, else those of usual scales, or the numbers' own."""
    low, high = float(numbers.min()), float(numbers.max())
    if low >= 0.0 and high <= 1.0:
        return None, []
    usual = [(0, 3), (1, 5), (-1, 1), (1, 7), (-3, 3), (1, 9), (0, 10), (0, 100)]
    fitting = [(a, b) for a, b in usual if a <= low and high <= b and (high - low) > 0.6 * (b - a)]
    ends = fitting[0] if fitting else (low, high)
    said = f"{of}: numbers run from {low:g} to {high:g}, so that the scale is taken to be {ends[0]:g} to {ends[1]:g}"
    return [float(end) if end % 1 else int(end) for end in ends], [f"{said}; if it is another, set scale"]


def _single(frame: pd.DataFrame, names: Sequence[str], before: Sequence[TaskDraft]) -> list[TaskDraft]:
    """Find columns that are a task each."""
    drafts: list[TaskDraft] = []
    taken = {draft.name for draft in before}
    for name in names:
        draft = _of_column(frame[name], name, taken)
        if draft is not None:
            drafts.append(draft)
            taken.add(draft.name)
    return drafts


def _of_column(cells: pd.Series, column: str, taken: set[str]) -> TaskDraft | None:
    known, codes, said = _without_codes(plain_numbers(cells[is_known(cells)].str.strip()), f"column {column!r}")
    if known.nunique() < 2:
        return None
    short = plain(column)
    folded = known.str.casefold()
    words = {cell: _emotion_of(cell) for cell in known.unique()}
    is_named = bool(FEELING.search(short) or LABEL.search(short) or HESITANCY.search(short))
    if all(words.values()) and "emotion" not in taken:
        labels: dict[str, Any] = {"column": column, "values": {str(cell): str(word) for cell, word in words.items()}}
        if all(cell == word for cell, word in words.items()):
            del labels["values"]
        how = "its cells are words for emotions"
        return TaskDraft("emotion", labels, None, how, (column,), True, tuple(_rare(known)))
    if HESITANCY.search(short) and folded.isin([*YES, *NO]).all() and "ambivalence" not in taken:
        values = {str(cell): "present" if cell.casefold() in YES else "absent" for cell in known.unique()}
        how = "its name, and yes or no in its cells"
        return TaskDraft("ambivalence", {"column": column, "values": values}, None, how, (column,), True)
    usual = short if short and short not in BUILTIN_TASKS else f"own_{short or 'task'}"
    task = next(name for name in (usual, *(f"{usual}_{n}" for n in range(2, 1000))) if name not in taken)
    numbers = numbers_of(known)
    joining = [sign for sign in SEPARATORS if numbers is None and _joins(known, sign)]
    if joining and (several := _several(known, column, task, is_named, joining)) is not None:
        return several
    few = known.nunique() <= MOST_CLASSES and known.nunique() <= len(known) / 2
    graded = numbers is not None and not (few and (known.nunique() == 2 or (is_named and not GRADES.search(short))))
    if numbers is not None and graded:
        if known.nunique() == len(known) and (numbers % 1 == 0).all() and not is_named:
            return None  # a number of a row
        scale, notes = _scale(numbers, f"column {column!r}")
        notes += said
        if few and (numbers % 1 == 0).all():
            notes.append(
                f"column {column!r} has {known.nunique()} whole numbers, taken as grades of a scale; if they are "
                "names of classes, see docs/new_task.md, kind single_label"
            )
        spec = {"kind": "regression", "classes": [task], "loss": "mae", "metrics": ["mean_accuracy", "mean_ccc"]}
        labels = {"columns": [column]} | ({} if scale is None else {"scale": scale})
        return TaskDraft(task, labels, spec, "its cells are numbers", (column,), is_named, tuple(notes), codes)
    if few:
        classes = sorted(known.unique(), key=_order)
        spec = {"kind": "single_label", "classes": classes, "loss": "cross_entropy", "metrics": ["macro_f1", "uar"]}
        notes = [*_rare(known), *said]
        unlike = [cell for cell, word in words.items() if word is None]
        if FEELING.search(short) and len(unlike) < len(words):
            notes.append(
                f"{', '.join(map(repr, unlike[:3]))} in column {column!r} is none of the emotions "
                f"{', '.join(BUILTIN_TASKS['emotion'].classes)}, so that {task!r} is a task of its own; to train "
                "with other corpora's emotions, translate its cells with values = { ... }"
            )
        how = f"its cells are {len(classes)} words" if numbers is None else f"its cells are {len(classes)} numbers"
        if numbers is not None and len(classes) > 2:
            notes.append(
                f"numbers in column {column!r} are taken as names of classes; if they are grades of a scale, see "
                "docs/new_task.md, kind regression"
            )
        return TaskDraft(task, {"column": column}, spec, how, (column,), is_named, tuple(notes), codes)
    return _several(known, column, task, is_named)


def _several(
    known: pd.Series, column: str, task: str, is_named: bool, separators: Sequence[str] = SEPARATORS
) -> TaskDraft | None:
    """Read cells that name several classes each."""
    for sign in separators:
        parts = known.str.split(sign, regex=False).explode().str.strip()
        if known.str.contains(sign, regex=False).any() and parts.nunique() <= min(MOST_CLASSES, len(known) / 2):
            labels = {"column": column, "separator": sign}
            classes = sorted(part for part in parts.unique() if part)
            spec = {
                "kind": "multi_label", "classes": classes, "loss": "binary_cross_entropy",
                "metrics": ["multilabel_macro_f1", "multilabel_weighted_accuracy"],
            }  # fmt: skip
            how = f"its cells name several of {len(classes)} words, {sign!r} between them"
            return TaskDraft(task, labels, spec, how, (column,), is_named)
    return None


def _joins(known: pd.Series, sign: str) -> bool:
    """Tell whether cells with a sign in them join words that other cells have as well, alone or joined otherwise."""
    words = [{word.strip() for word in cell.split(sign)} for cell in known.unique()]
    num_cells = Counter(word for own in words for word in own)
    joined = [own for own in words if len(own) > 1]
    return bool(joined) and all(num_cells[word] > 1 for own in joined for word in own)


def _emotion_of(cell: str) -> str | None:
    return next((name for name, words in EMOTIONS.items() if cell.strip().casefold() in words), None)


def _order(cell: str) -> tuple[float, str]:
    """Put numbers in their order, then words in theirs."""
    numbers = numbers_of(pd.Series([cell]))
    return (np.inf if numbers is None else float(numbers.iloc[0]), cell)


def _rare(known: pd.Series) -> list[str]:
    """Name cells that occur once, as misspelt ones do."""
    counts = known.value_counts()
    rare = [str(cell) for cell in counts.index[counts.eq(1)]]
    if not rare or len(known) < 2 * len(counts):
        return []
    return [f"{', '.join(map(repr, rare[:4]))} occurs once in column {known.name!r}: a class of one clip, or misspelt?"]
