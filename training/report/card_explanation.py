"""Why a task is predicted what it is, as a card draws it: contributions, interactions, conflict, attention, prototypes.

Of several windows everything is the mean over them; contributions are linear, so means add up as those of one do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Chart", "Contribution", "Share", "TaskWhy", "explain_task"]

NUM_CHARTS = 3
"""Most classes with a chart of their own; the table has all."""
NUM_PROTOTYPES = 3
SMALLEST_SCALE = 0.05
"""Of a chart's axis, so that contributions near nothing look so."""


@dataclass(frozen=True)
class Contribution:
    """A modality's bar, from the middle of the track at 50 to `left + width`, in percent of it.

    Attributes:
        modality: its name.
        shown: what it adds, with its sign.
        left: where the bar begins.
        width: of the bar.
        raises: whether it adds and does not take away.
        absent: no clip has the modality, so it adds nothing.
    """

    modality: str
    shown: str
    left: float
    width: float
    raises: bool
    absent: bool


@dataclass(frozen=True)
class Chart:
    """From the prediction without any modality to the one with all, for one class or trait.

    Attributes:
        name: of the class or trait.
        baseline: without any modality.
        prediction: with those that are there.
        unit: of what the modalities add.
        rows: by modality.
    """

    name: str
    baseline: str
    prediction: str
    unit: str
    rows: tuple[Contribution, ...]


@dataclass(frozen=True)
class Share:
    """A labelled bar, `width` in percent of its track."""

    name: str
    shown: str
    width: float


@dataclass(frozen=True)
class TaskWhy:
    """All of one task.

    Attributes:
        charts: of the classes decided for, or of the likeliest; of the trait that is farthest from its baseline.
        table: by class or trait its cells: without any modality, by modality, with all.
        conflicts: of pairs of modalities, the largest first.
        mean_conflict: over pairs, or None with fewer than two modalities.
        attention: by modality, or None.
        prototypes: the nearest and their cosines, or None.
        notes: why there is no attention or no prototype.
        interactions: of pairs of modalities with what they add together to the class of each chart, the largest of the
            first chart first; None in documents from before they were stored.
    """

    charts: tuple[Chart, ...]
    table: Mapping[str, Sequence[str]]
    conflicts: tuple[Share, ...]
    mean_conflict: str | None
    attention: tuple[Share, ...] | None
    prototypes: tuple[tuple[str, str], ...] | None
    notes: tuple[str, ...]
    interactions: tuple[tuple[str, tuple[str, ...]], ...] | None = None


def explain_task(task: str, clips: Sequence[Mapping[str, Any]]) -> TaskWhy:
    """Prepare what to draw of one task.

    Args:
        task: its name.
        clips: of a document's recording, at least one, all with an `explanation`.
    """
    results = [clip["tasks"][task] for clip in clips]
    reasons = [clip["explanation"]["tasks"][task] for clip in clips]
    is_score = results[0]["kind"] == "regression"
    present = {name for clip in clips for name in clip["explanation"]["present"]}
    baseline, prediction = (_means(reason[key] for reason in reasons) for key in ("baseline", "prediction"))
    added = {name: _means(reason["shapley"][name] for reason in reasons) for name in reasons[0]["shapley"]}
    pairs, shown = _pair_means(reasons), _shown_classes(results, baseline, prediction)
    return TaskWhy(
        _charts(shown, baseline, prediction, added, present, is_score),
        {
            name: [
                _value(baseline[name], is_score), *(_signed(by_name[name], is_score) for by_name in added.values()),
                _value(prediction[name], is_score),
            ]
            for name in prediction
        },
        tuple(Share(name, _value(value, is_score), 100 * value) for name, value in pairs),
        _value(_mean([value for _, value in pairs]), is_score) if pairs else None,
        _attention(reasons),
        _prototypes(reasons),
        tuple(reasons[0]["notes"]),
        _interactions(reasons, shown, is_score),
    )  # fmt: skip


def _shown_classes(
    results: Sequence[Mapping[str, Any]], baseline: Mapping[str, float], prediction: Mapping[str, float]
) -> list[str]:
    """Choose the classes or the trait that have a chart."""
    if results[0]["kind"] == "regression":
        return [max(prediction, key=lambda name: abs(prediction[name] - baseline[name]))]
    likeliest = max(prediction, key=lambda name: prediction[name])
    if len(results) > 1 or results[0]["abstained"] or not results[0]["decided"]:
        return [likeliest]
    return sorted(results[0]["decided"], key=lambda name: -prediction[name])[:NUM_CHARTS]


def _charts(
    names: Sequence[str],
    baseline: Mapping[str, float],
    prediction: Mapping[str, float],
    added: Mapping[str, Mapping[str, float]],
    present: set[str],
    is_score: bool,
) -> tuple[Chart, ...]:
    """Prepare charts with one axis."""
    scale = max(SMALLEST_SCALE, *(abs(values[name]) for values in added.values() for name in names))

    def row(modality: str, value: float) -> Contribution:
        width = 50 * abs(value) / scale
        left = 50 - (width if value < 0 else 0)
        return Contribution(modality, _signed(value, is_score), left, width, value >= 0, modality not in present)

    return tuple(
        Chart(
            name, _value(baseline[name], is_score), _value(prediction[name], is_score),
            "score points" if is_score else "percentage points",
            tuple(row(modality, values[name]) for modality, values in added.items()),
        )
        for name in names
    )  # fmt: skip


def _pair_means(reasons: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Average the conflict of each pair over the clips that have both, the largest first."""
    values: dict[str, list[float]] = {}
    for reason in reasons:
        for pair in reason["conflicts"]:
            values.setdefault(f"{pair['first']} – {pair['second']}", []).append(pair["value"])
    return sorted(((name, _mean(of_pair)) for name, of_pair in values.items()), key=lambda pair: -pair[1])


def _interactions(
    reasons: Sequence[Mapping[str, Any]], shown: Sequence[str], is_score: bool
) -> tuple[tuple[str, tuple[str, ...]], ...] | None:
    """Average the interactions of each pair over the clips that have both."""
    if any("interactions" not in reason for reason in reasons):
        return None
    rows: dict[str, list[Mapping[str, float]]] = {}
    for reason in reasons:
        for pair in reason["interactions"]:
            rows.setdefault(f"{pair['first']} + {pair['second']}", []).append(pair["values"])
    means = sorted(((name, _means(values)) for name, values in rows.items()), key=lambda row: -abs(row[1][shown[0]]))
    return tuple((name, tuple(_signed(values[each], is_score) for each in shown)) for name, values in means)


def _attention(reasons: Sequence[Mapping[str, Any]]) -> tuple[Share, ...] | None:
    if reasons[0]["attention"] is None:
        return None
    shares = _means(reason["attention"] for reason in reasons)
    return tuple(Share(name, f"{100 * value:.0f} %", 100 * value) for name, value in shares.items())


def _prototypes(reasons: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...] | None:
    if reasons[0]["guides"] is None:
        return None
    cosines = _means({guide["name"]: guide["cosine"] for guide in reason["guides"]} for reason in reasons)
    nearest = sorted(cosines.items(), key=lambda pair: -pair[1])[:NUM_PROTOTYPES]
    return tuple((name, f"{cosine:+.2f}") for name, cosine in nearest)


def _means(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    table = list(rows)
    return {name: _mean([row[name] for row in table]) for name in table[0]}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _value(value: float, is_score: bool) -> str:
    return f"{value:.3f}" if is_score else f"{100 * value:.1f} %"


def _signed(value: float, is_score: bool) -> str:
    """Write a value with a sign but where it rounds to nothing."""
    shown = f"{value:+.3f}" if is_score else f"{100 * value:+.1f}"
    return shown if float(shown) else shown[1:]
