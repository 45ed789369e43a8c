"""Figures of one corpus' clip table: what there is, split by split and class by class. Unknown figures are None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from corpora.checks.findings import MEDIA_COLUMNS, known_rows, positive
from corpora.clips import SPLITS, Split, label_columns
from corpora.source import CorpusSource
from corpora.timeline import Timeline
from mmpsr.tasks import TaskSpec

__all__ = [
    "ClassFigures", "ConsentFigures", "CorpusFigures", "LabelFigures", "SplitFigures", "TimeFigures", "corpus_figures",
]  # fmt: skip

ANNOTATED_SECONDS = "raw.annotated_seconds"
"""Column by which an adapter tells how long a clip is that has a file of its own."""


@dataclass(frozen=True)
class SplitFigures:
    """One split.

    Attributes:
        clips: how many there are.
        published: how many the corpus' authors report.
        groups: participants, videos or dialogues.
        speakers: different speakers, where the corpus names them.
        seconds: annotated, of all clips together.
        media, audio_media, fallback_media: clips whose file exists.
        faces, text, description: clips that have it.
    """

    clips: int
    published: int | None
    groups: int
    speakers: int
    seconds: float | None
    media: int
    audio_media: int
    fallback_media: int
    faces: int
    text: int
    description: int


@dataclass(frozen=True)
class ClassFigures:
    """Labels of one class in one split; `positive` counts clips where it is present, None for regression."""

    labeled: int
    min: float | None
    mean: float | None
    max: float | None
    positive: int | None
    share: float | None


@dataclass(frozen=True)
class LabelFigures:
    """Labels of one task in one split.

    Attributes:
        labeled: clips with a label of at least one class.
        imbalance: how many times more often the most frequent class occurs than the rarest that occurs.
        classes: figures by class.
    """

    labeled: int
    imbalance: float | None
    classes: dict[str, ClassFigures]


@dataclass(frozen=True)
class ConsentFigures:
    """Answers to one question about use."""

    clips: dict[str, int]
    groups: dict[str, int]


@dataclass(frozen=True)
class TimeFigures:
    """Labels in time of one task in one split.

    Attributes:
        clips: clips that have such.
        frames: labelled frames by class, of clips whose frames are labelled one by one.
        segments: segments by class, of the others.
        seconds: their seconds by class.
    """

    clips: int
    frames: dict[str, int]
    segments: dict[str, int]
    seconds: dict[str, float]


@dataclass(frozen=True)
class CorpusFigures:
    """What a corpus holds.

    Attributes:
        splits: figures by split.
        num_files: media files that exist.
        num_bytes: their size together.
        releases, languages: number of clips by release and language; "unknown" where it is not said.
        labels: by annotated task and split.
        unannotated: active tasks that the corpus has no label of.
        consent: by use (`challenges`, `publications`): clips and groups that say yes, no, or were not asked.
        in_time: labels in time by task and split, where there are such.
    """

    splits: dict[str, SplitFigures]
    num_files: int
    num_bytes: int
    releases: dict[str, int]
    languages: dict[str, int]
    labels: dict[str, dict[str, LabelFigures]]
    unannotated: list[str]
    consent: dict[str, ConsentFigures]
    in_time: dict[str, dict[str, TimeFigures]] = field(default_factory=dict)


def corpus_figures(
    source: CorpusSource,
    clips: pd.DataFrame,
    annotated: Mapping[str, TaskSpec],
    active: Mapping[str, TaskSpec],
    sizes: Mapping[str, int],
    timelines: Mapping[tuple[str, str], Mapping[str, Timeline]] | None = None,
) -> CorpusFigures:
    """Count what a corpus holds.

    Args:
        source: its entry in the configuration.
        clips: its clip table.
        annotated: tasks that it is annotated for.
        active: tasks that are trained.
        sizes: bytes of the media files that exist, see `corpora.checks.findings.file_sizes`.
        timelines: labels in time by corpus and clip id, by task.
    """
    exists = pd.DataFrame({column: clips[column].isin(sizes) for column in MEDIA_COLUMNS})
    parts = {split: part for split in SPLITS if len(part := clips[clips["split"].eq(split)])}
    published = {} if source.splits_anew else source.published_counts()
    labels: dict[str, dict[str, LabelFigures]] = {
        task: {split: _label_figures(part, task, spec) for split, part in parts.items()}
        for task, spec in annotated.items()
    }
    labeled = {task for task, by_split in labels.items() if any(figures.labeled for figures in by_split.values())}
    return CorpusFigures(
        splits={
            split: _split_figures(part, published.get(split), exists.loc[part.index]) for split, part in parts.items()
        },
        num_files=len(sizes),
        num_bytes=sum(sizes.values()),
        releases=_counts(clips["release"]),
        languages=_counts(clips["language"]),
        labels=labels,
        unannotated=[task for task in active if task not in labeled],
        consent={use: _consent(clips, f"consent_{use}") for use in ("challenges", "publications")},
        in_time=_time_figures(parts, timelines or {}, annotated),
    )


def _time_figures(
    parts: Mapping[Split, pd.DataFrame],
    timelines: Mapping[tuple[str, str], Mapping[str, Timeline]],
    annotated: Mapping[str, TaskSpec],
) -> dict[str, dict[str, TimeFigures]]:
    figures: dict[str, dict[str, TimeFigures]] = {}
    for split, clips in parts.items() if timelines else ():
        keys = list(zip(clips["corpus"], clips["clip_id"], strict=True))
        for task, spec in annotated.items():
            own = [timelines[key][task] for key in keys if task in timelines.get(key, {})]
            frames = [timeline.frames for timeline in own if timeline.frames is not None]
            segments = [segment for timeline in own for segment in timeline.segments]
            if own:
                figures.setdefault(task, {})[split] = TimeFigures(
                    clips=len(own),
                    frames={
                        name: sum(int((labels == value).sum()) for labels in frames)
                        for value, name in enumerate(spec.classes if frames else ())
                    },
                    segments={
                        name: sum(segment.label == value for segment in segments)
                        for value, name in enumerate(spec.classes if segments else ())
                    },
                    seconds={
                        name: round(sum(part.end - part.start for part in segments if part.label == value), 3)
                        for value, name in enumerate(spec.classes if segments else ())
                    },
                )
    return figures


def _split_figures(clips: pd.DataFrame, published: int | None, exists: pd.DataFrame) -> SplitFigures:
    seconds = clips["end"] - clips["start"].fillna(0.0)
    if ANNOTATED_SECONDS in clips:
        seconds = seconds.fillna(pd.to_numeric(clips[ANNOTATED_SECONDS], errors="coerce").astype("float64"))
    return SplitFigures(
        clips=len(clips),
        published=published,
        groups=int(clips["group"].nunique()),
        speakers=int(clips["speaker"].nunique()),
        seconds=round(float(seconds.sum()), 3) if seconds.notna().any() else None,
        **{column: int(exists[column].sum()) for column in MEDIA_COLUMNS},
        **{column: int(clips[column].notna().sum()) for column in ("faces", "text", "description")},
    )


def _label_figures(clips: pd.DataFrame, task: str, spec: TaskSpec) -> LabelFigures:
    columns = dict(zip(spec.classes, label_columns(task, spec), strict=True))
    classes = {
        name: _class_figures(clips[column].dropna().to_numpy(np.float64), spec) for name, column in columns.items()
    }
    counts = [figures.positive for figures in classes.values() if figures.positive]
    return LabelFigures(
        labeled=int(known_rows(clips, task, spec).sum()),
        imbalance=round(max(counts) / min(counts), 3) if len(counts) > 1 else None,
        classes=classes,
    )


def _class_figures(values: np.ndarray, spec: TaskSpec) -> ClassFigures:
    if not len(values):
        return ClassFigures(0, None, None, None, None, None)
    lowest, mean, highest = (round(float(value), 6) for value in (values.min(), values.mean(), values.max()))
    if spec.kind == "regression":
        return ClassFigures(len(values), lowest, mean, highest, None, None)
    num_positive = int(positive(values, spec).sum())
    return ClassFigures(len(values), lowest, mean, highest, num_positive, round(num_positive / len(values), 6))


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(value): int(number) for value, number in values.fillna("unknown").value_counts().items()}


def _consent(clips: pd.DataFrame, column: str) -> ConsentFigures:
    answers = clips[column].map({True: "yes", False: "no"}).astype("string").fillna("unknown")
    names = ("yes", "no", "unknown")
    return ConsentFigures(
        clips={answer: int(answers.eq(answer).sum()) for answer in names},
        groups={answer: int(clips.loc[answers.eq(answer), "group"].nunique()) for answer in names},
    )
