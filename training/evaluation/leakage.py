"""The leakage guard: what the clips of a figure share with those that the model was made from, and what that is worth.

It refuses to evaluate a model on its own training clips; of what splits share otherwise, groups above all, it tells how
much there is and what the figures are without it. (That nothing is chosen by test, `training.config` sees to.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from training.evaluation.figures import metric_rows
from training.runs.directory import RunError
from training.runs.identities import FILE, KINDS, same_clips, shared
from training.runs.stored import TaskSplit
from training.scoring.rows import LeakageEffect

__all__ = ["finding", "guard", "refuse_trained_clips"]

NUM_EXAMPLES = 3


def refuse_trained_clips(clips: pd.DataFrame, of_run: pd.DataFrame | None, allow: bool) -> list[dict[str, Any]]:
    """Refuse clips that the model was trained on, and those of test that it was chosen by.

    Args:
        clips: `identities` of the clips to evaluate.
        of_run: `identities` of the run's own, or None where it has none, so that nothing can be refused.
        allow: go on with a finding instead.

    Returns:
        Findings: `trained_clip` and `chosen_clip` where allowed.

    Raises:
        RunError: there are such clips.
    """
    if of_run is None:
        return []  # `guard` says so
    findings = []
    for kind, use, said in (
        ("trained_clip", "trained", "the model was trained on them"),
        ("chosen_clip", "chosen_by", "the model's epoch and calibration were chosen by them"),
    ):
        same = same_clips(clips, of_run[of_run["use"].eq(use)])
        if use == "chosen_by":
            same &= clips["split"].ne("dev")
        for corpus, split in clips.loc[same, ["corpus", "split"]].drop_duplicates().itertuples(index=False, name=None):
            place = clips["corpus"].eq(corpus) & clips["split"].eq(split)
            some = clips[place]
            message = (
                f"{int((same & place).sum()):,} of {len(some):,} {split} clips of {corpus} are known to the run: {said}"
            )
            findings.append(finding(kind, "error", some, same[place], message))
    if findings and not allow:
        examples = ", ".join(findings[0]["examples"])
        raise RunError(
            "; ".join(each["message"] for each in findings) + f" (for example {examples}). Figures on them say nothing "
            "of other clips: evaluate clips of another split, or see them all the same with --allow-trained"
        )
    return findings


def guard(parts: Sequence[TaskSplit], clips: pd.DataFrame | None, of_run: pd.DataFrame | None) -> dict[str, Any]:
    """Find what evaluated clips share with training, and what figures are on the clips that share nothing.

    Args:
        parts: what is evaluated.
        clips: `identities` of at least its clips.
        of_run: `identities` of the run's own; None of either where the run has none.

    Returns:
        `checked`; `findings` with `kind, severity, corpus, split, num_clips, num_seen, message, examples`; `effects`,
        a `LeakageEffect` per kind and metric.
    """
    if clips is None or of_run is None:
        message = (
            f"the run has no {FILE} (an earlier version trained it), so nobody can say what these clips share with "
            "those that it was trained on; train it once more to know"
        )
        unknown = {"kind": "unchecked", "severity": "warning", "corpus": None, "split": None, "message": message}
        return {"checked": False, "findings": [unknown], "effects": []}
    trained = of_run[of_run["use"].eq("trained")]
    own = set(of_run.loc[of_run["use"].eq("chosen_by"), ["corpus", "split"]].itertuples(index=False, name=None))
    findings: list[dict[str, Any]] = []
    effects: list[LeakageEffect] = []
    for place in dict.fromkeys((part.corpus, part.split) for part in parts):
        corpus, split = place
        some = clips[clips["corpus"].eq(corpus) & clips["split"].eq(split)]
        if place in own:
            message = f"{split} of {corpus} chose the model's epoch and calibration: its figures are no test"
            findings.append(finding("chosen_by", "warning", some, some["clip_id"].ne(""), message))
        seen_by_kind = {kind: shared(kind, some, trained) for kind in KINDS}
        seen_by_kind = {kind: seen for kind, seen in seen_by_kind.items() if seen.any()}
        for kind, seen in seen_by_kind.items():
            message = (
                f"{int(seen.sum()):,} of {len(some):,} {split} clips of {corpus} share {KINDS[kind]} with training"
            )
            findings.append(finding(kind, "warning", some, seen, message))
        for part in (part for part in parts if seen_by_kind and (part.corpus, part.split) == place):
            effects += _effects(part, {kind: set(some.loc[seen, "clip_id"]) for kind, seen in seen_by_kind.items()})
    return {"checked": True, "findings": findings, "effects": effects}


def _effects(part: TaskSplit, seen_by_kind: Mapping[str, set[str]]) -> Iterator[LeakageEffect]:
    """Evaluate all clips beside unseen ones, by kind and metric."""
    rows = list(metric_rows(part))
    for kind, seen in seen_by_kind.items():
        is_unseen = ~part.clips["clip_id"].isin(seen).to_numpy(dtype=bool)
        unseen = {row.metric: row for row in metric_rows(part.take(is_unseen))} if is_unseen.any() else {}
        for row in rows:
            yield LeakageEffect(kind, row, unseen.get(row.metric))


def finding(kind: str, severity: str, clips: pd.DataFrame, seen: pd.Series, message: str) -> dict[str, Any]:
    """Say of some of the clips, those that are seen, what a reader must know of them."""
    places = clips[["corpus", "split"]].drop_duplicates()
    corpus, split = places.iloc[0] if len(places) == 1 else (None, None)
    return {
        "kind": kind, "severity": severity, "corpus": corpus, "split": split, "num_clips": len(clips),
        "num_seen": int(seen.sum()), "message": message, "examples": list(clips.loc[seen, "clip_id"][:NUM_EXAMPLES]),
    }  # fmt: skip
