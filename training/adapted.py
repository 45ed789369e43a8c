"""Figures of corpora that a model was not trained on, with predictions fitted to their clips without labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmpsr.calibration.calibration import form_of
from mmpsr.calibration.label_shift import LabelShift
from training.detailed_evaluation import figure_rows
from training.stored_predictions import Part

__all__ = ["MIN_CLIPS", "adapted_rows"]

MIN_CLIPS = 30  # below which shifts and shares are mostly noise
_SEVERAL = "multilabel_"  # metrics that decide several classes per clip


def adapted_rows(
    parts: Sequence[Part], linear: Mapping[tuple[str, ...], Part], trained: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Metrics of one class per clip after a label shift (see `LabelShift`), of corpora that were not trained on.

    The shift is fitted to the very clips that are evaluated; no label is read. Intervals hold what other clips would
    change, with the shift as it is.

    Args:
        parts: labelled clips and what the model says of them.
        linear: the same by the linear baseline, which is fitted likewise; by corpus, split and task.
        trained: corpora that were trained on.

    Yields:
        Rows as of `figure_rows`, with `before` (the metric without the shift) and `shares` (by class, as estimated);
        or `reason` in place of figures where there are too few clips.
    """
    for part in parts:
        metrics = tuple(name for name in part.metrics if not name.startswith(_SEVERAL))
        if part.corpus in trained or part.spec.kind == "regression" or not metrics:
            continue
        if len(part.clips) < MIN_CLIPS:
            yield {**part.key, "reason": f"{len(part.clips)} clips, fewer than {MIN_CLIPS}"}
            continue
        before = part.figures()
        shifted, shift = _shifted(replace(part, metrics=metrics))
        beside = linear.get(tuple(part.key.values()))
        shares = dict(zip(part.spec.classes, shift.shares.tolist(), strict=True))
        for row in figure_rows(shifted, None if beside is None else _shifted(beside)[0]):
            yield {**row, "before": before[row["metric"]], "shares": shares}


def _shifted(part: Part) -> tuple[Part, LabelShift]:
    shift = LabelShift.fit(part.predicted, form_of(part.spec))
    return replace(part, predicted=shift.apply(part.predicted), thresholds=None), shift
