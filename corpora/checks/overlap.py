"""What splits share that they must not: groups, names of clips and files, and transcripts; in a corpus and between."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.checks.findings import MIN_WORDS, Finding, cases, text_keys
from corpora.clips import Severity, Split
from corpora.source import CorpusSource

__all__ = ["between_corpora", "between_splits"]

_PAIRS: tuple[tuple[Split, Split], ...] = (("dev", "train"), ("test", "train"), ("test", "dev"))
_TELLING = r"[A-Z]|[0-9]{5}"  # names without, and those shorter than 8, recur by chance: s001, video_0012
_STEM = r"([^/\\]*?)(?:\.[^./\\]*)?$"
_EQUAL_TEXT = f"the same transcript of at least {MIN_WORDS} words"


def between_splits(name: str, source: CorpusSource, used: pd.DataFrame) -> Iterator[Finding]:
    """Groups and transcripts that occur in several splits of a corpus.

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
            f"{_told(groups, used, 'a group')}; {groups['group'].nunique():,} groups are in several splits: {known}"
            "figures on dev and test profit from what was seen in train; "
            f"corpora.sources.{name}.fractions = {{ train = 0.6, dev = 0.2, test = 0.2 }} splits by group"
        )
        reasons = [f"group {group!r} is also in {other}" for group, other in groups[["group", "other"]].to_numpy()]
        yield Finding(name, "shared_group", severity, message, cases(groups, reasons))
    texts = _shared(used, text_keys(used))
    if len(texts):
        reasons = [f"{_EQUAL_TEXT} as {twin!r} in {other}" for twin, other in texts[["twin", "other"]].to_numpy()]
        yield Finding(name, "shared_text", "warning", f"{_told(texts, used, _EQUAL_TEXT)}", cases(texts, reasons))


def between_corpora(used: Mapping[str, pd.DataFrame], trained: Collection[str]) -> Iterator[Finding]:
    """Names (ids, groups, files) and transcripts that train of one corpus shares with dev and test of another.

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
    """Clips of dev and test whose key occurs in train, or in dev: `other`; `twin` is the first clip there with it."""
    parts = []
    for split, other in _PAIRS:
        there = keys[clips["split"].eq(other) & keys.notna()].drop_duplicates()
        rows = clips["split"].eq(split) & keys.isin(there)
        twins = dict(zip(there, clips.loc[there.index, "clip_id"], strict=True))
        parts.append(clips[rows].assign(other=other, twin=keys[rows].map(twins)))
    return pd.concat(parts)


def _told(shared: pd.DataFrame, clips: pd.DataFrame, what: str) -> str:
    sizes = clips["split"].value_counts()
    counts = shared.groupby(["split", "other"], sort=False).size().reset_index()
    return ", ".join(
        f"{number:,} of {sizes[split]:,} {split} clips share {what} with {other}"
        for split, other, number in counts.itertuples(index=False)
    )


def _names(clips: pd.DataFrame) -> pd.DataFrame:
    """Names by which a clip may be known elsewhere; those that recur by chance are missing."""
    names = pd.DataFrame(
        {
            "id": clips["clip_id"],
            "group": clips["group"],
            "file name": clips["media"].str.extract(_STEM, expand=False),
        }
    )
    telling = names.apply(lambda column: column.str.len().ge(8) & column.str.contains(_TELLING))
    names = names.where(telling.fillna(False).astype(bool)).assign(file=clips["media"]).astype(object)
    return names.where(names.notna(), None)
