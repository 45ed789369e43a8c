"""Findings: what is wrong with one corpus' clip table, and what its splits share that they must not.

A finding has a severity and the clips that it is about. It names clips, files and numbers, never a transcript. Splits
share groups, names of clips and files, and transcripts, within a corpus and between corpora.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.clips import DEFECT_KINDS, SPLITS, ClipTable, Severity, Split, label_columns
from corpora.source import CorpusSource
from corpora.splitting import dealing
from mmpsr.tasks import TaskSpec

__all__ = [
    "MEDIA_COLUMNS",
    "Case",
    "Finding",
    "between_corpora",
    "between_splits",
    "check_corpus",
    "file_sizes",
    "known_rows",
    "positive",
    "text_keys",
    "without_texts",
]

MIN_WORDS = 8
"""Words from which on two equal transcripts are no coincidence."""

FEW_GROUPS = 30
"""Groups from which on their dealing is not shown one by one."""
_QUOTED = re.compile(r"""(?<![\w'"])('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?![\w'"])""")
_QUOTED_WORDS = 4  # the most that a label, an id or a file's name has
MEDIA_COLUMNS = ("media", "audio_media", "fallback_media")
_PAIRS: tuple[tuple[Split, Split], ...] = (("dev", "train"), ("test", "train"), ("test", "dev"))
_TELLING = r"[A-Z]|[0-9]{5}"  # names without, and those shorter than 8, recur by chance: s001, video_0012
_STEM = r"([^/\\]*?)(?:\.[^./\\]*)?$"
_EQUAL_TEXT = f"the same transcript of at least {MIN_WORDS} words"


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

    @property
    def sentence(self) -> str:
        """Message and the reasons of all cases, in one line."""
        return ": ".join(part for part in (self.message, "; ".join(case.reason for case in self.cases)) if part)


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
        *_dealt(source, table.clips, name),
        *_labels(name, source, used, table.defects, tasks),
        *_empty_files(name, table.clips, sizes),
        *_repeated_media(name, used),
        *_consent(name, used),
    ]


def file_sizes(clips: pd.DataFrame) -> dict[str, int]:
    """Measure every media file that exists: bytes by its path."""
    sizes = {}
    for path in pd.unique(pd.concat([clips[column] for column in MEDIA_COLUMNS]).dropna()):
        try:
            sizes[path] = os.stat(path).st_size
        except OSError:  # the adapter has noted that it is missing
            continue
    return sizes


def without_texts(reason: str) -> str:
    """Strip a reason of what could be a transcript: longer quotations become their number of words.

    Example:
        >>> without_texts("row 3: 'we went home and slept' is no number, 'Sadness' is no column")
        "row 3: '...' (5 words) is no number, 'Sadness' is no column"
    """

    def shorten(match: re.Match[str]) -> str:
        num_words = len(match[0].split())
        return f"'...' ({num_words} words)" if num_words > _QUOTED_WORDS else match[0]

    return _QUOTED.sub(shorten, reason)


def known_rows(clips: pd.DataFrame, task: str, spec: TaskSpec) -> pd.Series:
    """Mark the clips that have a label of a task."""
    return clips[label_columns(task, spec)].notna().any(axis=1)


def text_keys(clips: pd.DataFrame) -> pd.Series:
    """Even out case and spaces of transcripts, to compare them; missing with fewer than `MIN_WORDS` words."""
    keys = clips["text"].astype("string").str.casefold().str.split().str.join(" ")
    return keys.where(keys.str.count(" ") >= MIN_WORDS - 1).astype("string")


def cases(clips: pd.DataFrame, reasons: Iterable[str]) -> tuple[Case, ...]:
    """Make a case per clip, its split as the place."""
    rows = zip(clips["clip_id"], clips["split"], reasons, strict=True)
    return tuple(Case(clip, split, reason) for clip, split, reason in rows)


def _defects(name: str, defects: pd.DataFrame) -> Iterator[Finding]:
    plain = defects.astype(object).where(defects.notna(), None)
    for kind in (kind for kind in DEFECT_KINDS if plain["kind"].eq(kind).any()):
        rows = plain.loc[plain["kind"].eq(kind), ["clip_id", "where", "reason"]]
        places = tuple(Case(clip, where, without_texts(reason)) for clip, where, reason in rows.itertuples(index=False))
        yield Finding(name, kind, DEFECT_KINDS[kind], "noted while the corpus was read", places)


def _counts(name: str, source: CorpusSource, clips: pd.DataFrame) -> Iterator[Finding]:
    published, counts = source.published_counts(), clips["split"].value_counts().to_dict()
    if source.splits is not None:
        published = {} if source.splits_anew else {split: published[split] for split in source.splits if published}
    elif source.splits_anew and published:
        published, counts = {"all splits": sum(published.values())}, {"all splits": len(clips)}
    places = tuple(
        Case(None, split, f"{counts.get(split, 0):,} of {expected:,} published clips")
        for split, expected in published.items()
        if counts.get(split, 0) != expected
    )
    if places:
        yield Finding(name, "count_differs", "warning", "other numbers of clips than were published", places)


def _dealt(source: CorpusSource, clips: pd.DataFrame, name: str) -> Iterator[Finding]:
    """Show how few groups were dealt into splits."""
    if source.splits_anew and 0 < clips["group"].nunique() < FEW_GROUPS:
        message = f"dealt {dealing(clips['group'], clips['split'])}; with so few, the shares are rough"
        places = []
        for split in SPLITS:
            own = clips.loc[clips["split"].eq(split).fillna(False), "group"].value_counts(sort=False)
            groups = ", ".join(f"{group} ({number:,})" for group, number in own.items())
            places.append(Case(None, split, f"groups (clips): {groups}" if groups else "no group"))
        yield Finding(name, "few_groups", "note", message, tuple(places))


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
        places = tuple(
            Case(None, "train", f"{column} {constant}")
            for column in train
            if (constant := _constant(train[column].dropna().to_numpy(np.float64), spec))
        )
        if places:
            message = f"{len(places)} of {spec.num_outputs} classes of task {task!r} cannot be learned from train"
            yield Finding(name, "constant_label", "warning", message, places)


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
    """Mark where a class is present: above 0, in single-label tasks above 0.5."""
    return values > (0.5 if spec.kind == "single_label" else 0.0)


def _empty_files(name: str, clips: pd.DataFrame, sizes: Mapping[str, int]) -> Iterator[Finding]:
    empty = {path for path, size in sizes.items() if size == 0}
    places = tuple(
        Case(clip, path, "the file is empty (0 bytes)")
        for column in MEDIA_COLUMNS
        for clip, path in clips.loc[clips[column].isin(empty), ["clip_id", column]].itertuples(index=False)
    )
    if places:
        yield Finding(name, "empty_media", "warning", "empty files", places)


def _repeated_media(name: str, used: pd.DataFrame) -> Iterator[Finding]:
    """Find clips cut from one file that are the same, overlap across splits, or say the same."""
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
            yield Finding(name, kind, "warning", f"the {what} of another clip", cases(rows[again], reasons))
    yield from _overlapping_spans(name, clips[~same_span])


def _overlapping_spans(name: str, clips: pd.DataFrame) -> Iterator[Finding]:
    """Find clips, ordered by file and start, that begin before an earlier clip of their file ends."""

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
            yield Finding(name, "overlapping_spans", severity, f"an overlap with {what}", cases(clips[rows], reasons))


def _consent(name: str, used: pd.DataFrame) -> Iterator[Finding]:
    denied = used[used["consent_challenges"].eq(False).fillna(False)]
    if len(denied):
        what = f"in use, though use in challenges is denied (groups: {denied['group'].nunique():,})"
        reasons = ["use in challenges is denied"] * len(denied)
        yield Finding(name, "consent_denied", "warning", what, cases(denied, reasons))


def between_splits(name: str, source: CorpusSource, used: pd.DataFrame) -> Iterator[Finding]:
    """Find groups and transcripts that occur in several splits of a corpus.

    Args:
        name: the corpus' name in the configuration.
        source: its entry there.
        used: those of its clips that a run would use.
    """
    groups = _shared(used, used["group"])
    if len(groups) and not source.splits_anew:
        severity: Severity = "warning" if source.groups_overlap else "error"
        known = "the official splits are known for that; " if source.groups_overlap else ""
        message = (
            f"{_describe(groups, used, 'a group')}; {groups['group'].nunique():,} groups are in several splits: {known}"
            "figures on dev and test profit from what was seen in train; "
            f"corpora.sources.{name}.fractions = {{ train = 0.6, dev = 0.2, test = 0.2 }} splits by group"
        )
        reasons = [f"group {group!r} is also in {other}" for group, other in groups[["group", "other"]].to_numpy()]
        yield Finding(name, "shared_group", severity, message, cases(groups, reasons))
    texts = _shared(used, text_keys(used))
    if len(texts):
        reasons = [f"{_EQUAL_TEXT} as {twin!r} in {other}" for twin, other in texts[["twin", "other"]].to_numpy()]
        yield Finding(name, "shared_text", "warning", _describe(texts, used, _EQUAL_TEXT), cases(texts, reasons))


def between_corpora(used: Mapping[str, pd.DataFrame], trained: Collection[str]) -> Iterator[Finding]:
    """Find names (ids, groups, files) and transcripts that train of one corpus shares with dev and test of another.

    Args:
        used: clips that a run would use, by corpus.
        trained: corpora that are trained on.
    """
    held_out = {name: clips[clips["split"].ne("train")] for name, clips in used.items()}
    names = {name: (_names(clips), text_keys(clips)) for name, clips in held_out.items()}
    for trainer in (name for name in trained if name in used):
        train = used[trainer][used[trainer]["split"].eq("train")]
        seen, said = set(_names(train).to_numpy().ravel()) - {None}, text_keys(train).dropna()
        for name, clips in held_out.items():
            if name == trainer or not len(clips):
                continue
            known = names[name][0].isin(seen).to_numpy()
            rows = known.any(axis=1)
            if rows.any():
                columns = known[rows].argmax(axis=1)  # the first that is known
                values = names[name][0].to_numpy()[rows, columns]
                reasons = [
                    f"{names[name][0].columns[column]} {value!r} is also in train of {trainer!r}"
                    for column, value in zip(columns, values, strict=True)
                ]
                yield _between(name, "shared_name", trainer, clips, rows, "an id, a group or a file's name", reasons)
            rows = names[name][1].isin(said).to_numpy(dtype=bool)
            if rows.any():
                reasons = [f"{_EQUAL_TEXT} as a clip in train of {trainer!r}"] * int(rows.sum())
                yield _between(name, "shared_text", trainer, clips, rows, _EQUAL_TEXT, reasons)


def _between(
    name: str, kind: str, trainer: str, clips: pd.DataFrame, rows: NDArray[np.bool_], what: str, reasons: list[str]
) -> Finding:
    message = f"{int(rows.sum()):,} of {len(clips):,} dev and test clips share {what} with train of {trainer!r}"
    return Finding(name, kind, "warning", message, cases(clips[rows], reasons))


def _shared(clips: pd.DataFrame, keys: pd.Series) -> pd.DataFrame:
    """Choose clips of dev and test whose key is in train, or dev: `other`; `twin` is the first clip there with it."""
    first: dict[tuple[str, str], str] = {}
    rows = list(zip(clips["split"], keys, clips["clip_id"], keys.notna(), strict=True))
    for split, key, clip, is_known in rows:
        if is_known:
            first.setdefault((split, key), clip)
    places, others, twins = [], [], []
    for wanted, other in _PAIRS:
        for place, (split, key, _, is_known) in enumerate(rows):
            if split == wanted and is_known and (other, key) in first:
                places.append(place)
                others.append(other)
                twins.append(first[other, key])
    return clips.iloc[places].assign(other=others, twin=twins)


def _describe(shared: pd.DataFrame, clips: pd.DataFrame, what: str) -> str:
    sizes = clips["split"].value_counts()
    counts = shared.groupby(["split", "other"], sort=False).size().reset_index()
    return ", ".join(
        f"{number:,} of {sizes[split]:,} {split} clips share {what} with {other}"
        for split, other, number in counts.itertuples(index=False)
    )


def _names(clips: pd.DataFrame) -> pd.DataFrame:
    """Collect names by which a clip may be known elsewhere; those that recur by chance are missing."""

    def texts(column: str) -> list[str | None]:
        return [text if isinstance(text, str) else None for text in clips[column]]

    files = texts("media")
    stems = [None if file is None else re.search(_STEM, file)[1] for file in files]  # type: ignore[index]
    columns: dict[str, list[str | None]] = {
        name: [text if text is not None and len(text) >= 8 and re.search(_TELLING, text) else None for text in own]
        for name, own in (("id", texts("clip_id")), ("group", texts("group")), ("file name", stems))
    }
    return pd.DataFrame({**columns, "file": files}, index=clips.index, dtype=object)
