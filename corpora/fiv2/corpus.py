"""First Impressions V2 in its official layout: pickled scores and transcripts, and one mp4 per clip in any folder.

The annotation of the first release (V1, 2016), one CSV per split, is read where a split has no pickle.

References:
    Escalante et al., Modeling, Recognizing, and Explaining Apparent Personality from Videos, IEEE Transactions on
    Affective Computing, 2022.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from corpora.clips import SPLITS, CorpusError, Defects, Split, label_column
from corpora.reading.cells import Cells, read_cells
from corpora.reading.numbers import read_numbers
from corpora.reading.paths import Tree, walk
from corpora.reading.untrusted import load_pickle
from corpora.source import OfficialCorpus
from mmpsr.config import nearest
from mmpsr.tasks import TaskSpec

__all__ = ["FirstImpressionsCorpus"]

OFFICIAL: Mapping[Split, str] = {"train": "training", "dev": "validation", "test": "test"}
TRAIT_OF: Mapping[str, str] = {
    "openness": "openness", "conscientiousness": "conscientiousness", "extraversion": "extraversion",
    "agreeableness": "agreeableness", "non-neuroticism": "neuroticism",
}  # fmt: skip
"""Class of the task -> trait of the annotation, whose `neuroticism` is high for people who seem calm."""
FIRST_COLUMNS: Mapping[str, str] = {
    "extraversion": "ValueExtraversion", "neuroticism": "ValueNeurotisicm", "agreeableness": "ValueAgreeableness",
    "conscientiousness": "ValueConscientiousness", "openness": "ValueOpenness",
}  # fmt: skip
"""Trait, which every annotation file has -> column of the first release, one of which is misspelt there."""
ETHNICITIES = {"1": "Asian", "2": "Caucasian", "3": "African-American"}
GENDERS = {"1": "male", "2": "female"}

_ETHNICITY_FILE = re.compile(r"eth_gender_annotations?_.*\.csv")
_AGE_FILE = re.compile(r"(?:.*[_-])?ages?[_-](?:.*[_-])?anno.*\.csv")
_MISSING = ("nan", "NaN", "NA")
_SPLIT_FOLDER = re.compile(r"(?:(train(?:ing)?)|(val(?:id(?:ation)?)?|dev)|(test))(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class _Files:
    """What lies below the corpus' folder.

    Attributes:
        tree: the walked folder.
        videos: clip -> its file.
        packed: name of a file that is nowhere but in a zip -> the zip as messages name it.
    """

    tree: Tree
    videos: dict[str, str]
    packed: dict[str, str]

    @property
    def place(self) -> str:
        return os.path.abspath(self.tree.folder)

    def hint(self, *names: str) -> str:
        """Say what to unpack to have one of the files."""
        packed = [self.packed[name] for name in names if name in self.packed]
        return f"; {packed[0]} is still packed" if packed else ""


class FirstImpressionsCorpus(OfficialCorpus):
    """ChaLearn First Impressions V2: apparent personality; clips are grouped by the YouTube video they are cut from."""

    adapter: Literal["fiv2"]
    """Chooses this adapter."""
    tasks: ClassVar[tuple[str, ...]] = ("personality",)
    groups_overlap: ClassVar[bool] = True

    def published_counts(self) -> Mapping[str, int]:
        """Report clips by split, the same in both releases."""
        return {"train": 6000, "dev": 2000, "test": 2000}

    def collect(self, name: str, root: Path, tasks: Mapping[str, TaskSpec], defects: Defects) -> pd.DataFrame:
        """Read the annotation and the transcripts, and index the videos; see `CorpusSource.collect`."""
        tree = walk(root / self.path, root, defects)
        files = _Files(tree, _videos(tree, defects), _packed(tree, defects))
        parts = {split: _read_split(files, split, defects) for split in self.own_splits or SPLITS}
        tables = [part for part in parts.values() if part is not None]
        if self.own_splits is None and not any(part["annotated"].any() for part in tables):
            raise _no_annotation(name, files, *SPLITS)
        for split in self.own_splits or ():
            if parts[split] is None:
                raise _no_annotation(name, files, split)
        clips = pd.concat(tables, ignore_index=True)
        clips = clips.astype(dict.fromkeys(clips.filter(regex=r"^raw\."), "string"))
        clips["corpus"], clips["group_kind"], clips["language"] = name, "video", "en"
        if self.release is not None:
            clips["release"] = self.release
        videos = clips["clip_id"].map(files.videos).astype("string")
        clips["media"] = f"{tree.folder}{os.sep}" + videos
        dots = clips["clip_id"].str.rpartition(".")
        clips["group"] = dots[0].mask(dots[0].eq(""), clips["clip_id"])
        _add_labels(name, clips, tasks["personality"], defects)
        _add_people(clips, tree, defects)
        if files.videos:
            for clip, where in clips.loc[videos.isna(), ["clip_id", "where"]].itertuples(index=False):
                file = f"{clip}.mp4"
                reason = f"no {file} in or below {files.place}{files.hint(file)}"
                defects.add("missing_media", where, reason, clip)
        used = set(clips["clip_id"])
        for clip, file in files.videos.items():
            folder = _split_of(file)
            if clip not in used and (self.own_splits is None or folder in self.own_splits):
                reason = "a video that neither the annotation nor the transcripts know; not used"
                defects.add("missing_annotation", tree.shown(file), reason, clip)
        return clips.drop(columns="annotated")


def _no_annotation(name: str, files: _Files, *splits: Split) -> CorpusError:
    names = [f"annotation_{OFFICIAL[split]}.pkl" for split in splits]
    return CorpusError(
        f"corpora.sources.{name}: no file {' or '.join(names)} (or {OFFICIAL[splits[0]]}_gt.csv of the first release) "
        f"in or below {files.place} (corpora.root is {str(files.tree.root)!r}){files.hint(*names)}; unpack the "
        "annotation, set corpora.root or the corpus' path, or splits to those that are there"
    )


def _videos(tree: Tree, defects: Defects) -> dict[str, str]:
    """Index the videos by clip, the first one where there are several."""
    videos: dict[str, str] = {}
    for name, files in tree.by_name.items():
        if not name.endswith(".mp4"):
            continue
        videos[name.removesuffix(".mp4")] = files[0]
        for other in files[1:]:
            if tree.path(other).stat().st_size != tree.path(files[0]).stat().st_size:
                reason = f"is not as large as {tree.shown(files[0])}, which is used; remove one of them"
                defects.add("disagreement", tree.shown(other), reason, name.removesuffix(".mp4"))
    return videos


def _packed(tree: Tree, defects: Defects) -> dict[str, str]:
    """Map videos, pickles and zips that are nowhere but in a zip to the zip; note those that hold videos."""
    packed: dict[str, str] = {}
    folders = {part for file in tree.files for part in file.split("/")[:-1]}
    for file in tree.files:
        if not file.lower().endswith(".zip"):
            continue
        try:
            with zipfile.ZipFile(tree.path(file)) as archive:
                inside = [entry.rpartition("/")[2] for entry in archive.namelist() if "__MACOSX" not in entry]
        except Exception as error:  # damaged archives raise whatever they please
            defects.add("ignored", tree.shown(file), f"cannot be opened ({error}); unpack or download it again")
            continue
        absent = [entry for entry in inside if entry.endswith((".mp4", ".pkl", ".zip"))
                  and entry not in tree.by_name and entry.removesuffix(".zip") not in folders]  # fmt: skip
        if any(not entry.endswith(".pkl") for entry in absent):
            reason = f"is still packed: {len(absent)} of its files, such as {absent[0]}, are nowhere else; unpack it"
            defects.add("missing_media", tree.shown(file), reason)
        packed |= dict.fromkeys(absent, tree.shown(file))
    return packed


def _split_of(file: str) -> Split | None:
    """Tell the split by the nearest folder above a file that names one: `test`, `val-1` or `training80_07`."""
    for folder in reversed(file.split("/")[:-1]):
        if match := _SPLIT_FOLDER.match(folder):
            return SPLITS[(match.lastindex or 1) - 1]
    return None


def _read_split(files: _Files, split: Split, defects: Defects) -> pd.DataFrame | None:
    """Read the clips of a split, with text, `raw.` scores and whether it is annotated; None where nothing is there."""
    tree, official = files.tree, OFFICIAL[split]
    scores, table, spoken = f"annotation_{official}.pkl", f"{official}_gt.csv", f"transcription_{official}.pkl"
    words: dict[str, str | None] = {}
    transcripts = tree.one([spoken], "transcription") if spoken in tree.by_name else None
    if transcripts is not None:
        words = _read_transcripts(tree, transcripts, defects)
    annotation = next((name for name in (scores, table) if name in tree.by_name), None)
    if annotation is not None:
        read_scores = _from_pickle if annotation == scores else _from_table
        clips = read_scores(tree, tree.one([annotation], "annotation"), defects)
    else:
        of_folders = {clip: tree.shown(file) for clip, file in files.videos.items() if _split_of(file) == split}
        where = {**dict.fromkeys(words, tree.shown(transcripts or "")), **of_folders}
        if not where:
            return None
        clips = pd.DataFrame({"clip_id": sorted(where)}, dtype="string").reindex(
            columns=["clip_id", "where", *(f"raw.{trait}" for trait in FIRST_COLUMNS)]
        )
        clips["where"] = clips["clip_id"].map(where)
        reason = f"no {scores} in or below {files.place}: its {len(clips)} clips are unlabelled{files.hint(scores)}"
        defects.add("unlabeled", tree.shown("."), reason)
    clips["split"], clips["annotated"] = split, annotation is not None
    clips["text"] = clips["clip_id"].map(words).astype("string")
    if transcripts is not None:
        defects.add_rows("missing_text", clips, clips["text"].isna(), f"no words in {tree.shown(transcripts)}")
        for clip in sorted(set(words) - set(clips["clip_id"])):
            reason = "a transcript of a clip that the annotation does not know; not used"
            defects.add("missing_annotation", tree.shown(transcripts), reason, clip)
    elif annotation != table:
        reason = f"no {spoken} in or below {files.place}: its {len(clips)} clips have no text{files.hint(spoken)}"
        defects.add("missing_text", tree.shown("."), reason)
    return clips


def _add_labels(name: str, clips: pd.DataFrame, spec: TaskSpec, defects: Defects) -> None:
    for label in spec.classes:
        if label not in TRAIT_OF:
            raise CorpusError(
                f"corpora.sources.{name}: its clips have no score for {label!r}; {nearest(label, TRAIT_OF)}"
            )
        trait = TRAIT_OF[label]
        text = clips[f"raw.{trait}"]
        numbers, _ = read_numbers(text.str.strip())
        wrong = text.notna().to_numpy(bool) & ~((numbers >= 0.0) & (numbers <= 1.0))
        for score, clip, where in clips.loc[wrong, [f"raw.{trait}", "clip_id", "where"]].itertuples(index=False):
            defects.add("bad_label", where, f"{trait} is {score[:40]!r}, expected a number in [0, 1]", clip)
        clips[label_column("personality", label)] = np.where(wrong, np.nan, numbers)
        defects.add_rows("missing_label", clips, text.isna() & clips["annotated"], f"no score of {trait}")


def _read_transcripts(tree: Tree, file: str, defects: Defects) -> dict[str, str | None]:
    """Read what is said by clip, None where nothing is.

    Raises:
        CorpusError: the file is damaged or holds no dictionary.
    """
    shown = tree.shown(file)
    content = load_pickle(tree.path(file), shown)
    if not isinstance(content, dict):
        raise CorpusError(f"{shown} holds a {type(content).__name__}, expected a transcript by file name")
    spoken: dict[str, str | None] = {}
    num_mended = 0
    for key in _file_names(content.keys(), shown, defects):
        text = content[key]
        words = _mended(text) if isinstance(text, str) else None
        num_mended += words is not None and words != text
        spoken[key.removesuffix(".mp4")] = words if words and words.strip() else None
    if num_mended:
        defects.add("mended", shown, f"{num_mended} transcripts were UTF-8 read as Latin-1")
    return spoken


def _mended(text: str) -> str:
    """Decode a text of which a Python 2 pickle held the UTF-8 bytes."""
    try:
        return text.encode("latin1").decode("utf-8")
    except UnicodeError:
        return text


def _file_names(keys: Set[object], shown: str, defects: Defects) -> list[str]:
    """Sort the keys that name a file; note the others."""
    names = [key for key in keys if isinstance(key, str) and key.removesuffix(".mp4").strip()]
    for _ in range(len(keys) - len(names)):
        defects.add("unusable_row", shown, "a key that is no file name; not used")
    return sorted(names)


def _from_pickle(tree: Tree, file: str, defects: Defects) -> pd.DataFrame:
    """Read the scores of a split: `clip_id`, `where` and `raw.<trait>`, missing where there is no score.

    Raises:
        CorpusError: the file is damaged, has another shape, or lacks a trait.
    """
    shown = tree.shown(file)
    content = load_pickle(tree.path(file), shown)
    traits: dict[Any, Any] = content if isinstance(content, dict) else {"": content}
    if not all(isinstance(trait, str) and isinstance(scores, dict) for trait, scores in traits.items()):
        raise CorpusError(f"{shown} holds something else than scores by trait and file name")
    for trait in FIRST_COLUMNS:
        if trait not in traits:
            raise CorpusError(f"{shown} has no trait {trait!r}; {nearest(trait, traits)}")
    names = _file_names(set().union(*traits.values()), shown, defects)
    clips = pd.DataFrame({"clip_id": [name.removesuffix(".mp4") for name in names]}, dtype="string")
    clips["where"] = [f"{shown}, {name}" for name in names]
    for trait, scores in traits.items():
        clips[f"raw.{trait}"] = pd.Series([_raw(scores.get(name)) for name in names], dtype="string")
    return clips


def _raw(score: object) -> str | None:
    """Write a score as text."""
    if score is None or (isinstance(score, float) and np.isnan(score)):
        return None
    if isinstance(score, (str, float)) or (isinstance(score, int) and abs(score) < 2**53):
        return str(score)
    return f"a {type(score).__name__}"


def _from_table(tree: Tree, file: str, defects: Defects) -> pd.DataFrame:
    """Read the annotation of the first release (`release` is V1), which has no transcripts and no interview score."""
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
    """Read a table file, separated by `;` as some are published, or as its head tells."""
    with tree.path(file).open("rb") as lines:
        separator = ";" if b";" in lines.readline() else None
    return read_cells(tree.path(file), tree.root, separator, defects=defects)


def _add_people(clips: pd.DataFrame, tree: Tree, defects: Defects) -> None:
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
        for fact, words in facts.items():
            column = f"raw.{fact}"
            by_clip = dict(zip(clip_of[words.ne("")], words[words.ne("")], strict=True))
            values = clips["clip_id"].map(by_clip).astype("string")
            known = clips[column] if column in clips else pd.Series(pd.NA, clips.index, dtype="string")
            for row in np.flatnonzero((known.ne(values) & known.notna() & values.notna()).to_numpy(bool)):
                reason = f"{fact} is {values[row]!r}, another file says {known[row]!r}, which is used"
                defects.add("disagreement", cells.file, reason, clips["clip_id"].iloc[row])
            clips[column] = known.fillna(values)
