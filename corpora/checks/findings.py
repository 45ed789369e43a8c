"""What is wrong with one corpus' clip table: findings with a severity, each with the clips that it is about.

A finding names clips, files and numbers, never a transcript.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from corpora.clips import DEFECT_KINDS, SPLITS, ClipTable, Severity, label_columns
from corpora.source import CorpusSource
from mmpsr.tasks import TaskSpec

__all__ = [
    "MEDIA_COLUMNS",
    "MIN_WORDS",
    "Case",
    "Finding",
    "cases",
    "check_corpus",
    "file_sizes",
    "known_rows",
    "positive",
    "text_keys",
    "without_texts",
]

MIN_WORDS = 8
"""Words from which on two equal transcripts are no coincidence."""

_QUOTED = re.compile(r"""(?<![\w'"])('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?![\w'"])""")
_QUOTED_WORDS = 4  # the most that a label, an id or a file's name has
MEDIA_COLUMNS = ("media", "audio_media", "fallback_media")


@dataclass(frozen=True)
class Case:
    """One place where something was found.

    Attributes:
        clip: id of the clip, where it is about one.
        where: file and row, or split.
        reason: a sentence.
    """

    clip: str | None
    where: str | None
    reason: str


@dataclass(frozen=True)
class Finding:
    """One kind of thing that is wrong with a corpus, or with the run (`corpus` is None)."""

    corpus: str | None
    kind: str
    severity: Severity
    message: str
    cases: tuple[Case, ...] = ()

    @property
    def count(self) -> int:
        """Places where it was found."""
        return max(1, len(self.cases))


def check_corpus(
    name: str,
    source: CorpusSource,
    table: ClipTable,
    used: pd.DataFrame,
    tasks: Mapping[str, TaskSpec],
    sizes: Mapping[str, int],
) -> list[Finding]:
    """Examine one corpus by itself.

    Args:
        name: the corpus' name in the configuration.
        source: its entry there.
        table: what was read.
        used: those of its clips that a run would use.
        tasks: specifications of the tasks that it is annotated for.
        sizes: see `file_sizes`.
    """
    return [
        *_defects(name, table.defects),
        *_counts(name, source, table.clips),
        *_labels(name, source, used, table.defects, tasks),
        *_empty_files(name, table.clips, sizes),
        *_repeated_media(name, used),
        *_consent(name, used),
    ]


def file_sizes(clips: pd.DataFrame) -> dict[str, int]:
    """Bytes of every media file that exists, by its path."""
    sizes = {}
    for path in pd.unique(pd.concat([clips[column] for column in MEDIA_COLUMNS]).dropna()):
        try:
            sizes[path] = os.stat(path).st_size
        except OSError:  # the adapter has noted that it is missing
            continue
    return sizes


def without_texts(reason: str) -> str:
    """A reason without what could be a transcript: longer quotations become their number of words.

    Example:
        >>> without_texts("row 3: 'we went home and slept' is no number, 'Sadness' is no column")
        "row 3: '...' (5 words) is no number, 'Sadness' is no column"
    """

    def shorten(found: re.Match[str]) -> str:
        num_words = len(found[0].split())
        return f"'...' ({num_words} words)" if num_words > _QUOTED_WORDS else found[0]

    return _QUOTED.sub(shorten, reason)


def known_rows(clips: pd.DataFrame, task: str, spec: TaskSpec) -> pd.Series:
    """Which clips have a label of a task."""
    return clips[label_columns(task, spec)].notna().any(axis=1)


def text_keys(clips: pd.DataFrame) -> pd.Series:
    """Transcripts to compare: case and spaces made even, missing where they have fewer than `MIN_WORDS` words."""
    keys = clips["text"].astype("string").str.casefold().str.split().str.join(" ")
    return keys.where(keys.str.count(" ") >= MIN_WORDS - 1).astype("string")


def cases(clips: pd.DataFrame, reasons: Iterable[str]) -> tuple[Case, ...]:
    """A case per clip, its split as the place."""
    rows = zip(clips["clip_id"], clips["split"], reasons, strict=True)
    return tuple(Case(clip, split, reason) for clip, split, reason in rows)


def _defects(name: str, defects: pd.DataFrame) -> Iterator[Finding]:
    plain = defects.astype(object).where(defects.notna(), None)
    for kind in (kind for kind in DEFECT_KINDS if plain["kind"].eq(kind).any()):
        rows = plain.loc[plain["kind"].eq(kind), ["clip_id", "where", "reason"]]
        found = tuple(Case(clip, where, without_texts(reason)) for clip, where, reason in rows.itertuples(index=False))
        yield Finding(name, kind, DEFECT_KINDS[kind], "noted while the corpus was read", found)


def _counts(name: str, source: CorpusSource, clips: pd.DataFrame) -> Iterator[Finding]:
    published, counts = source.published_counts(), clips["split"].value_counts().to_dict()
    if source.splits is not None:
        published = {} if source.splits_anew else {split: published[split] for split in source.splits if published}
    elif source.splits_anew and published:
        published, counts = {"all splits": sum(published.values())}, {"all splits": len(clips)}
    found = tuple(
        Case(None, split, f"{counts.get(split, 0):,} of {expected:,} published clips")
        for split, expected in published.items()
        if counts.get(split, 0) != expected
    )
    if found:
        yield Finding(name, "count_differs", "warning", "other numbers of clips than were published", found)


def _labels(
    name: str, source: CorpusSource, used: pd.DataFrame, defects: pd.DataFrame, tasks: Mapping[str, TaskSpec]
) -> Iterator[Finding]:
    withheld = used["clip_id"].isin(defects.loc[defects["kind"].eq("unlabeled"), "clip_id"])
    for task, spec in tasks.items():
        known = known_rows(used, task, spec)
        for split in SPLITS:
            rows = used["split"].eq(split)
            if rows.any() and not known[rows].any():
                severity: Severity = "note" if withheld[rows].all() else "warning"
                reason = f"none of {int(rows.sum()):,} {split} clips has a label of task {task!r}"
                yield Finding(name, "unlabeled_split", severity, reason, (Case(None, split, reason),))
        train = used.loc[used["split"].eq("train"), label_columns(task, spec)]
        found = tuple(
            Case(None, "train", f"{column} {constant}")
            for column in train
            if (constant := _constant(train[column].dropna().to_numpy(np.float64), spec))
        )
        if found:
            message = f"{len(found)} of {spec.num_outputs} classes of task {task!r} cannot be learned from train"
            yield Finding(name, "constant_label", "warning", message, found)


def _constant(values: np.ndarray, spec: TaskSpec) -> str | None:
    if not len(values):
        return None
    if spec.kind == "regression":
        return f"is {values[0]:g} for all {len(values):,} clips" if values.min() == values.max() else None
    num_positive = int(positive(values, spec).sum())
    if num_positive in (0, len(values)):
        return f"is {'present' if num_positive else 'absent'} in all {len(values):,} clips"
    return None


def positive(values: np.ndarray, spec: TaskSpec) -> np.ndarray:
    """Where a class is present: above 0, in single-label tasks above 0.5."""
    return values > (0.5 if spec.kind == "single_label" else 0.0)


def _empty_files(name: str, clips: pd.DataFrame, sizes: Mapping[str, int]) -> Iterator[Finding]:
    empty = {path for path, size in sizes.items() if size == 0}
    found = tuple(
        Case(clip, path, "the file is empty (0 bytes)")
        for column in MEDIA_COLUMNS
        for clip, path in clips.loc[clips[column].isin(empty), ["clip_id", column]].itertuples(index=False)
    )
    if found:
        yield Finding(name, "empty_media", "warning", "empty files", found)


def _repeated_media(name: str, used: pd.DataFrame) -> Iterator[Finding]:
    """Clips cut from one file that are the same, overlap across splits, or say the same."""
    clips = used[used["media"].notna() & used["media"].duplicated(keep=False)]
    if clips.empty:
        return
    clips = clips.assign(start=clips["start"].fillna(0.0), end=clips["end"].fillna(np.inf), words=text_keys(clips))
    clips = clips.sort_values(["media", "start", "end"], kind="stable")
    same_span = clips.duplicated(["media", "start", "end"])
    spoken = clips[clips["words"].notna() & ~same_span]
    for kind, rows, key, what in (
        ("repeated_media", clips, ["media", "start", "end"], "file and span"),
        ("repeated_text", spoken, ["media", "words"], "file and transcript"),
    ):
        again = rows.duplicated(key)
        if again.any():
            first = rows.groupby(key, sort=False)[["clip_id", "split"]].transform("first")[again]
            reasons = [f"the same {what} as clip {clip!r} ({split})" for clip, split in first.itertuples(index=False)]
            yield _finding(name, kind, "warning", f"the {what} of another clip", rows[again], reasons)
    yield from _overlapping_spans(name, clips[~same_span])


def _overlapping_spans(name: str, clips: pd.DataFrame) -> Iterator[Finding]:
    """Clips, ordered by file and start, that begin before an earlier clip of their file ends."""

    def overlap(ends: pd.Series) -> pd.Series:
        latest = ends.groupby(clips["media"], sort=False).cummax()
        return clips["start"] < latest.groupby(clips["media"], sort=False).shift().fillna(-np.inf)

    across = pd.Series(False, index=clips.index)
    for split in clips["split"].unique():
        here = clips["split"].eq(split)
        across |= here & overlap(clips["end"].mask(here, -np.inf))
    within = overlap(clips["end"]) & ~across
    grades: tuple[tuple[pd.Series, Severity, str], ...] = (
        (across, "warning", "an earlier clip of the same file in another split"),
        (within, "note", "an earlier clip of the same file"),
    )
    for rows, severity, what in grades:
        if rows.any():
            reasons = [f"begins before the end of {what}"] * int(rows.sum())
            yield _finding(name, "overlapping_spans", severity, f"an overlap with {what}", clips[rows], reasons)


def _finding(
    name: str, kind: str, severity: Severity, what: str, clips: pd.DataFrame, reasons: Sequence[str]
) -> Finding:
    return Finding(name, kind, severity, what, cases(clips, reasons))


def _consent(name: str, used: pd.DataFrame) -> Iterator[Finding]:
    denied = used[used["consent_challenges"].eq(False).fillna(False)]
    if len(denied):
        what = f"in use, though use in challenges is denied (groups: {denied['group'].nunique():,})"
        reasons = ["use in challenges is denied"] * len(denied)
        yield _finding(name, "consent_denied", "warning", what, denied, reasons)
