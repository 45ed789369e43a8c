"""The annotation files of First Impressions V2, and those of its first release: scores, transcripts, people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import pandas as pd

from corpora.clips import CorpusError, Defects
from corpora.reading.cells import Cells, read_cells
from corpora.reading.paths import Tree
from corpora.reading.untrusted import load_pickle
from mmpsr.config import nearest

__all__ = ["TRAITS", "add_people", "read_scores", "read_transcripts"]

TRAITS = ("extraversion", "neuroticism", "agreeableness", "conscientiousness", "openness")
"""The traits that every annotation file has."""
FIRST_COLUMNS: Mapping[str, str] = {
    "extraversion": "ValueExtraversion", "neuroticism": "ValueNeurotisicm", "agreeableness": "ValueAgreeableness",
    "conscientiousness": "ValueConscientiousness", "openness": "ValueOpenness",
}  # fmt: skip
"""Trait -> column of the first release, one of which is misspelt there."""
ETHNICITIES = {"1": "Asian", "2": "Caucasian", "3": "African-American"}
GENDERS = {"1": "male", "2": "female"}

_ETHNICITY_FILE = re.compile(r"eth_gender_annotations?_.*\.csv")
_AGE_FILE = re.compile(r"(?:.*[_-])?ages?[_-](?:.*[_-])?anno.*\.csv")
_MISSING = ("nan", "NaN", "NA")


def read_scores(tree: Tree, file: str, defects: Defects) -> pd.DataFrame:
    """Scores of a split.

    Args:
        tree: the corpus' files.
        file: `annotation_*.pkl`, or `*_gt.csv` of the first release.
        defects: notes rows that name no clip.

    Returns:
        `clip_id`, `where` and `raw.<trait>` (missing where there is no score), and `release` for the first release.

    Raises:
        CorpusError: the file is damaged, has another shape, or lacks a trait.
    """
    return _from_pickle(tree, file, defects) if file.endswith(".pkl") else _from_table(tree, file, defects)


def read_transcripts(tree: Tree, file: str, defects: Defects) -> dict[str, str | None]:
    """Clip -> what is said, None where nothing is.

    Raises:
        CorpusError: the file is damaged or holds no dictionary.
    """
    shown = tree.shown(file)
    content = load_pickle(tree.path(file), shown)
    if not isinstance(content, dict):
        raise CorpusError(f"{shown} holds a {type(content).__name__}, expected a transcript by file name")
    spoken: dict[str, str | None] = {}
    mended = 0
    for key in _file_names(content.keys(), shown, defects):
        text = content[key]
        said = _mended(text) if isinstance(text, str) else None
        mended += said is not None and said != text
        spoken[key.removesuffix(".mp4")] = said if said and said.strip() else None
    if mended:
        defects.add("mended", shown, f"{mended} transcripts were UTF-8 read as Latin-1")
    return spoken


def _mended(text: str) -> str:
    """Text of which a Python 2 pickle held the UTF-8 bytes."""
    try:
        return text.encode("latin1").decode("utf-8")
    except UnicodeError:
        return text


def _file_names(keys: Set[object], shown: str, defects: Defects) -> list[str]:
    """Those keys that name a file, sorted; the others are noted."""
    names = [key for key in keys if isinstance(key, str) and key.removesuffix(".mp4").strip()]
    for _ in range(len(keys) - len(names)):
        defects.add("unusable_row", shown, "a key that is no file name; not used")
    return sorted(names)


def _from_pickle(tree: Tree, file: str, defects: Defects) -> pd.DataFrame:
    shown = tree.shown(file)
    content = load_pickle(tree.path(file), shown)
    traits: dict[Any, Any] = content if isinstance(content, dict) else {"": content}
    if not all(isinstance(trait, str) and isinstance(scores, dict) for trait, scores in traits.items()):
        raise CorpusError(f"{shown} holds something else than scores by trait and file name")
    for trait in TRAITS:
        if trait not in traits:
            raise CorpusError(f"{shown} has no trait {trait!r}; {nearest(trait, traits)}")
    names = _file_names(set().union(*traits.values()), shown, defects)
    clips = pd.DataFrame({"clip_id": [name.removesuffix(".mp4") for name in names]}, dtype="string")
    clips["where"] = [f"{shown}, {name}" for name in names]
    for trait, scores in traits.items():
        clips[f"raw.{trait}"] = pd.Series([_raw(scores.get(name)) for name in names], dtype="string")
    return clips


def _raw(score: object) -> str | None:
    """A score as text."""
    if score is None or (isinstance(score, float) and np.isnan(score)):
        return None
    if isinstance(score, (str, float)) or (isinstance(score, int) and abs(score) < 2**53):
        return str(score)
    return f"a {type(score).__name__}"


def _from_table(tree: Tree, file: str, defects: Defects) -> pd.DataFrame:
    """The annotation of the first release, which has no transcripts and no interview score."""
    cells = _cells(tree, file, defects)
    names = cells.column("VideoName").str.strip()
    clips = pd.DataFrame({"clip_id": names.str.removesuffix(".mp4"), "where": cells.places(), "release": "V1"})
    for trait, column in FIRST_COLUMNS.items():
        text = cells.column(column).str.strip()
        clips[f"raw.{trait}"] = text.mask(text.isin(["", *_MISSING]))
    unnamed = clips["clip_id"].eq("")
    defects.add_rows("unusable_row", clips.assign(clip_id=None), unnamed, "names no video; not used")
    return clips[~unnamed]


def _cells(tree: Tree, file: str, defects: Defects) -> Cells:
    """A table file, separated by `;` as some are published, or as its head tells."""
    with tree.path(file).open("rb") as lines:
        separator = ";" if b";" in lines.readline() else None
    return read_cells(tree.path(file), tree.root, separator, defects=defects)


def add_people(clips: pd.DataFrame, tree: Tree, defects: Defects) -> None:
    """Add the ethnicity, gender and age of the clips' people, from whatever files of these there are."""
    for name in tree.by_name:
        if _ETHNICITY_FILE.fullmatch(name):
            cells = _cells(tree, tree.one([name], "annotation of ethnicity and gender"), defects)
            facts = {"ethnicity": cells.column("Ethnicity").str.strip().replace(ETHNICITIES),
                     "gender": cells.column("Gender").str.strip().replace(GENDERS)}  # fmt: skip
        elif _AGE_FILE.fullmatch(name):
            cells = _cells(tree, tree.one([name], "annotation of ages"), defects)
            ages = [column for column in map(str, cells.frame) if column.lower().startswith("age")]
            if not ages or "VideoName" not in cells.frame:
                defects.add("ignored", cells.file, "has no columns 'VideoName' and 'AgeGroup'; not used")
                continue
            facts = {"age": cells.column(ages[0]).str.strip()}
        else:
            continue
        clip_of = cells.column("VideoName").str.strip().str.removesuffix(".mp4")
        for fact, said in facts.items():
            column = f"raw.{fact}"
            by_clip = dict(zip(clip_of[said.ne("")], said[said.ne("")], strict=True))
            found = clips["clip_id"].map(by_clip).astype("string")
            known = clips[column] if column in clips else pd.Series(pd.NA, clips.index, dtype="string")
            for row in np.flatnonzero((known.ne(found) & known.notna() & found.notna()).to_numpy(bool)):
                reason = f"{fact} is {found[row]!r}, another file says {known[row]!r}, which is used"
                defects.add("disagreement", cells.file, reason, clips["clip_id"].iloc[row])
            clips[column] = known.fillna(found)
