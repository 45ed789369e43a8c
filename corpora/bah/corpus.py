"""BAH, the corpus of behavioural ambivalence and hesitancy, in the layouts of its 2025 and 2026 releases.

References:
    González-González et al., BAH Dataset for Ambivalence/Hesitancy Recognition in Videos for Digital Behavioural
    Change, ICLR 2026.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd
from pydantic import Field, model_validator

from corpora.bah.annotation import (
    Facts,
    add_texts,
    annotation_columns,
    metadata_columns,
    read_annotations,
    read_transcripts,
)
from corpora.bah.files import ANNOTATIONS, LABELS, LISTS, BahFiles, find_files, read_labels_table, read_list
from corpora.bah.levels import frame_clips, segment_clips
from corpora.bah.timelines import video_timelines
from corpora.clips import SPLITS, CorpusError, Defects, Split, label_column
from corpora.source import OfficialCorpus
from mmpsr.tasks import TaskSpec

__all__ = ["QUESTIONS", "BahCorpus"]

Release = Literal["2026", "2025"]
CLASSES = ("absent", "present")
QUESTIONS = ("neutral", "positive", "negative", "ambivalent", "willing", "resistant", "hesitant")
"""What the questions 1 to 7 are meant to draw out."""
PUBLISHED_COUNTS: Mapping[str, Mapping[str, int]] = {
    "2026": {"train": 778, "dev": 124, "test": 525},
    "2025": {"train": 616, "dev": 110, "test": 392},
}
FEWEST_PLACEHOLDERS = 20
"""From so many videos on, a test list whose labels are all 0 holds placeholders."""


class BahCorpus(OfficialCorpus):
    """BAH; videos, segments or frames are labelled with whether ambivalence is present, grouped by participant."""

    adapter: Literal["bah"]
    """Chooses this adapter."""
    release: Release | None = None
    """Which release this is; left out, it is told by what is there."""
    level: Literal["video", "segment", "frame"] = "video"
    """What a clip is: a video, an annotated segment or the gap between two, or a frame's face picture."""
    frame_step: int = Field(default=1, ge=1)
    """At level `frame`, take every so manieth frame of each video."""
    timelines: bool = False
    """At level `video`, read the label of every frame of each video, for models in time."""
    unlabeled_splits: tuple[Split, ...] = ()
    """Splits whose labels are placeholders, and are not used."""
    tasks: ClassVar[tuple[str, ...]] = ("ambivalence",)

    @model_validator(mode="after")
    def _of_videos(self) -> BahCorpus:
        if self.timelines and self.level != "video":
            raise ValueError(
                f"`timelines` are of whole videos, but level is {self.level!r}; leave out one of the two settings"
            )
        return self

    def published_counts(self) -> Mapping[str, int]:
        """Report videos by split of the release, where it is set and a clip is a video."""
        return PUBLISHED_COUNTS.get(self.release or "", {}) if self.level == "video" else {}

    def collect(self, name: str, root: Path, tasks: Mapping[str, TaskSpec], defects: Defects) -> pd.DataFrame:
        """Read lists, annotation, transcripts and metadata, and index the media; see `CorpusSource.collect`."""
        if set(tasks["ambivalence"].classes) != set(CLASSES):
            raise CorpusError(
                f"corpora.sources.{name}: BAH labels the classes {' and '.join(CLASSES)}, but the task 'ambivalence' "
                f"has {', '.join(tasks['ambivalence'].classes)}"
            )
        files = find_files(root / self.path, root, defects)
        wanted = self.own_splits or SPLITS
        listed = _read_lists(name, files, self.own_splits, defects)
        listed["clip_id"] = _ids(listed)
        annotations = read_annotations(files, defects)
        _note_unlisted(files, annotations, set(listed["key"]), defects)
        listed["withheld"] = _withheld(listed, self.unlabeled_splits)
        videos = listed[listed["split"].isin(wanted)].reset_index(drop=True)
        reasons = videos["withheld"]
        for reason in reasons.dropna().unique():
            defects.add_rows("unlabeled", videos, reasons.eq(reason).fillna(False), reason)
        videos["withheld"] = reasons.notna()

        videos["corpus"], videos["release"] = name, self.release or _release(files)
        videos["group"] = videos["speaker"] = videos["participant"]
        videos["group_kind"] = "participant"
        question = videos["question"].astype("int64")
        videos["raw.question"], videos["raw.question_kind"] = (
            videos["question"],
            question.map(dict(enumerate(QUESTIONS, start=1))),
        )
        for column, files_by_key in {"media": files.media, "faces": files.faces}.items():
            paths = {key: str(files.tree.path(path)) for key, path in files_by_key.items()}
            videos[column] = videos["key"].map(paths).astype("string")
        if annotations:
            absent = ~videos["key"].isin(list(annotations)) & ~videos["withheld"]
            reason = "the annotation does not have it; its segments and cues are unknown"
            defects.add_rows("missing_annotation", videos, absent, reason)
        transcripts = read_transcripts(files, videos["key"], defects)
        videos = add_texts(videos, transcripts, annotations, defects)
        table = read_labels_table(files.tree, files.labels) if files.labels else {}
        videos = _with_labels(videos, table, annotations, defects)
        participants = metadata_columns(files, videos["participant"], defects)
        videos = _joined(videos, annotation_columns(annotations, videos["key"]), participants)
        if self.timelines:
            in_time = video_timelines(videos, files, annotations, set(listed["key"]), wanted, defects)
            videos = videos.assign(timelines=in_time)
        if self.level == "frame":
            clips = frame_clips(videos, files, set(listed["key"]), wanted, self.frame_step, defects)
        else:
            if files.media:
                reason = "no file of this video"
                defects.add_rows("missing_media", videos, videos["media"].isna(), reason)
            reason = "neither list nor transcript nor annotation says what is spoken"
            defects.add_rows("missing_text", videos, videos["text"].isna(), reason)
            clips = segment_clips(videos, annotations, defects) if self.level == "segment" else videos
        for value, class_name in enumerate(CLASSES):
            is_class = clips["label"].eq(value).astype("float64").mask(clips["label"].isna())
            clips[label_column("ambivalence", class_name)] = is_class
        return clips.drop(columns=["path", "key", "participant", "question", "label", "withheld"])


def _read_lists(name: str, files: BahFiles, own: tuple[Split, ...] | None, defects: Defects) -> pd.DataFrame:
    """Put all lists of videos one below the other, with `split` and `raw.list`; splits besides `own` note nothing."""
    splits = {LISTS.get(stem, "test") for stem in files.lists}
    for split in own or (() if splits else ("train",)):
        if split not in splits:
            stem = next(stem for stem, of in LISTS.items() if of == split)
            raise CorpusError(
                f"corpora.sources.{name}: no list split/{stem}.txt of the videos in split {split!r} in or below "
                f"{os.path.abspath(files.tree.folder)}; set its path, or splits to those that are there"
            )
    parts = []
    for stem, file in files.lists.items():
        split = LISTS.get(stem, "test")
        part = read_list(files.tree, file, defects if split in (own or SPLITS) else Defects(name))
        parts.append(part.assign(**{"split": split, "raw.list": stem}))
    listed = pd.concat(parts, ignore_index=True)
    return listed.sort_values("split", key=lambda split: split.map(SPLITS.index), kind="stable", ignore_index=True)


def _ids(listed: pd.DataFrame) -> pd.Series:
    """Name videos by the file's stem, or by participant, visit and stem where several videos share it."""
    stems = listed["path"].str.replace(r"^.*[/\\]", "", regex=True).str.removesuffix(".mp4")
    shared = listed["key"].groupby(stems).transform("nunique") > 1
    return stems.mask(shared, listed["key"].str.removesuffix(".mp4"))


def _withheld(listed: pd.DataFrame, declared: tuple[Split, ...]) -> pd.Series:
    """Give the reason why the label of each row is not used; missing where it is."""
    reasons = pd.Series(pd.NA, index=listed.index, dtype="string")
    official = listed["raw.list"].eq("test")
    labels = listed.loc[official, "label"]
    if len(labels) >= FEWEST_PLACEHOLDERS and labels.eq("0").fillna(False).all():
        reasons[official] = f"all {len(labels)} labels of the test list are 0, so they are placeholders; not used"
    reasons[~listed["raw.list"].isin(list(LISTS))] = "the labels of a private test are placeholders; not used"
    for split in declared:
        reasons[listed["split"].eq(split)] = f"unlabeled_splits says that the labels of {split!r} are placeholders"
    return reasons


def _release(files: BahFiles) -> str:
    names = {file.rpartition("/")[2] for file in files.annotations}
    return next((release for name, release in ANNOTATIONS.items() if name in names), "2026")


def _note_unlisted(files: BahFiles, annotations: Mapping[str, Facts], listed: set[str], defects: Defects) -> None:
    shown = {key: files.tree.shown(file) for key, file in (*files.transcripts.items(), *files.media.items())}
    for key in sorted(shown.keys() - listed):
        defects.add("missing_annotation", shown[key], "no list of videos names it; it is not used")
    for key in sorted(annotations.keys() - listed):
        reason = "no list of videos names this video; it is not used"
        defects.add("unusable_row", f"{annotations[key].file}, {key!r}", reason)


def _with_labels(
    videos: pd.DataFrame, table: Mapping[str, str], annotations: Mapping[str, Facts], defects: Defects
) -> pd.DataFrame:
    """Set `label` as a number: that of list, table or annotation, the first that is there."""
    said = {key: str(facts.said["global_ah"]) for key, facts in annotations.items() if "global_ah" in facts.said}
    label, known = videos["label"], ~videos["withheld"]
    sources = {LABELS: table, "the annotation": said}
    for labels in sources.values():
        label = label.fillna(videos["key"].map(labels).astype("string"))
    is_label = label.isin(["0", "1"])
    for source, labels in sources.items():
        differs = known & is_label & videos["key"].map(labels).astype("string").ne(label).fillna(False)
        defects.add_rows("disagreement", videos, differs, f"{source} has another label than the one used")
    defects.add_rows("missing_label", videos, known & label.isna(), "no file has its label")
    reason = "the label is neither 0 (absent) nor 1 (present)"
    defects.add_rows("bad_label", videos, known & label.notna() & ~is_label, reason)
    return videos.assign(**{"raw.label": label, "label": label.eq("1").astype("float64").where(is_label & known)})


def _joined(videos: pd.DataFrame, said: pd.DataFrame, participants: pd.DataFrame) -> pd.DataFrame:
    """Join all columns, those of the annotation and the participants renamed where the name is taken."""
    for kind, frame in {"annotation": said, "participant": participants}.items():
        taken = {name: name.replace("raw.", f"raw.{kind}_", 1) for name in map(str, frame) if name in videos}
        videos = videos.join(frame.rename(columns=taken))
    return videos.astype({name: "string" for name in videos if str(name).startswith("raw.")})
