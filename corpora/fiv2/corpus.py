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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from corpora.clips import SPLITS, CorpusError, Defects, Split, label_column
from corpora.fiv2.annotation import TRAITS, add_people, read_scores, read_transcripts
from corpora.reading.numbers import read_numbers
from corpora.reading.paths import Tree, walk
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

_SPLIT_FOLDER = re.compile(r"(?:(train(?:ing)?)|(val(?:id(?:ation)?)?|dev)|(test))(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class _Found:
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
        """What to unpack to have one of the files."""
        packed = [self.packed[name] for name in names if name in self.packed]
        return f"; {packed[0]} is still packed" if packed else ""


class FirstImpressionsCorpus(OfficialCorpus):
    """ChaLearn First Impressions V2: apparent personality; clips are grouped by the YouTube video they are cut from."""

    adapter: Literal["fiv2"]
    """Chooses this adapter."""
    tasks: ClassVar[tuple[str, ...]] = ("personality",)
    groups_overlap: ClassVar[bool] = True

    def published_counts(self) -> Mapping[str, int]:
        """Clips by split, the same in both releases."""
        return {"train": 6000, "dev": 2000, "test": 2000}

    def collect(self, name: str, root: Path, tasks: Mapping[str, TaskSpec], defects: Defects) -> pd.DataFrame:
        """Read the annotation and the transcripts, and index the videos; see `CorpusSource.collect`."""
        tree = walk(root / self.path, root, defects)
        found = _Found(tree, _videos(tree, defects), _packed(tree, defects))
        parts = {split: _read_split(found, split, defects) for split in self.own_splits or SPLITS}
        there = [part for part in parts.values() if part is not None]
        if self.own_splits is None and not any(part["annotated"].any() for part in there):
            raise _no_annotation(name, found, *SPLITS)
        for split in self.own_splits or ():
            if parts[split] is None:
                raise _no_annotation(name, found, split)
        clips = pd.concat(there, ignore_index=True)
        clips = clips.astype(dict.fromkeys(clips.filter(regex=r"^raw\."), "string"))
        clips["corpus"], clips["group_kind"], clips["language"] = name, "video", "en"
        if self.release is not None:
            clips["release"] = self.release
        videos = clips["clip_id"].map(found.videos).astype("string")
        clips["media"] = f"{tree.folder}{os.sep}" + videos
        dots = clips["clip_id"].str.rpartition(".")
        clips["group"] = dots[0].mask(dots[0].eq(""), clips["clip_id"])
        _add_labels(name, clips, tasks["personality"], defects)
        add_people(clips, tree, defects)
        if found.videos:
            for clip, where in clips.loc[videos.isna(), ["clip_id", "where"]].itertuples(index=False):
                file = f"{clip}.mp4"
                reason = f"no {file} in or below {found.place}{found.hint(file)}"
                defects.add("missing_media", where, reason, clip)
        used = set(clips["clip_id"])
        for clip, file in found.videos.items():
            folder = _split_of(file)
            if clip not in used and (self.own_splits is None or folder in self.own_splits):
                reason = "a video that neither the annotation nor the transcripts know; not used"
                defects.add("missing_annotation", tree.shown(file), reason, clip)
        return clips.drop(columns="annotated")


def _no_annotation(name: str, found: _Found, *splits: Split) -> CorpusError:
    files = [f"annotation_{OFFICIAL[split]}.pkl" for split in splits]
    return CorpusError(
        f"corpora.sources.{name}: no file {' or '.join(files)} (or {OFFICIAL[splits[0]]}_gt.csv of the first release) "
        f"in or below {found.place} (corpora.root is {str(found.tree.root)!r}){found.hint(*files)}; unpack the "
        "annotation, set corpora.root or the corpus' path, or splits to those that are there"
    )


def _videos(tree: Tree, defects: Defects) -> dict[str, str]:
    """Clip -> file, the first one where there are several."""
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
    """Videos, pickles and zips that are nowhere but in a zip -> the zip; those that hold videos are noted."""
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
    """The split that the nearest telling folder above a file names, whether `test`, `val-1` or `training80_07`."""
    for folder in reversed(file.split("/")[:-1]):
        if match := _SPLIT_FOLDER.match(folder):
            return SPLITS[(match.lastindex or 1) - 1]
    return None


def _read_split(found: _Found, split: Split, defects: Defects) -> pd.DataFrame | None:
    """Clips of a split with text and `raw.` scores, and whether it is annotated; None where nothing is there."""
    tree, official = found.tree, OFFICIAL[split]
    scores, table, spoken = f"annotation_{official}.pkl", f"{official}_gt.csv", f"transcription_{official}.pkl"
    words: dict[str, str | None] = {}
    transcripts = tree.one([spoken], "transcription") if spoken in tree.by_name else None
    if transcripts is not None:
        words = read_transcripts(tree, transcripts, defects)
    annotation = next((name for name in (scores, table) if name in tree.by_name), None)
    if annotation is not None:
        clips = read_scores(tree, tree.one([annotation], "annotation"), defects)
    else:
        of_folders = {clip: tree.shown(file) for clip, file in found.videos.items() if _split_of(file) == split}
        where = {**dict.fromkeys(words, tree.shown(transcripts or "")), **of_folders}
        if not where:
            return None
        clips = pd.DataFrame({"clip_id": sorted(where)}, dtype="string").reindex(
            columns=["clip_id", "where", *(f"raw.{trait}" for trait in TRAITS)]
        )
        clips["where"] = clips["clip_id"].map(where)
        reason = f"no {scores} in or below {found.place}: its {len(clips)} clips are unlabelled{found.hint(scores)}"
        defects.add("unlabeled", tree.shown("."), reason)
    clips["split"], clips["annotated"] = split, annotation is not None
    clips["text"] = clips["clip_id"].map(words).astype("string")
    if transcripts is not None:
        defects.add_rows("missing_text", clips, clips["text"].isna(), f"no words in {tree.shown(transcripts)}")
        for clip in sorted(set(words) - set(clips["clip_id"])):
            reason = "a transcript of a clip that the annotation does not know; not used"
            defects.add("missing_annotation", tree.shown(transcripts), reason, clip)
    elif annotation != table:
        reason = f"no {spoken} in or below {found.place}: its {len(clips)} clips have no text{found.hint(spoken)}"
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
