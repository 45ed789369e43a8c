"""Rows of metric values: what evaluation makes, tables and reports show, and documents hold as JSON.

Values are in percent, higher is better, differences in percentage points; what is undefined is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["AdaptedRow", "Difference", "Estimate", "LeakageEffect", "MetricRow", "NotAdapted", "SeedRow", "plain"]


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference with its p, and p corrected over all rows of a table (Holm)."""

    p: float | None = None
    corrected_p: float | None = None


@dataclass(frozen=True)
class MetricRow:
    """One metric of one task on one split of one corpus.

    Attributes:
        corpus: its name.
        split: train, dev or test.
        task: its name.
        metric: its name.
        num_clips: labelled clips.
        num_groups: participants, videos or dialogues that they come from.
        model: the metric of the model.
        num_undefined: resamples in which the metric is undefined.
        linear: of the linear baseline, where its predictions are stored.
        over_linear: model less linear baseline, likewise.
        chance: when the predictions are dealt out to the clips at random.
        part: of which class or trait, modalities or value of a column the row is; empty for all.
        num_without: clips left out since they have none of the modalities.
        num_wholes: what the clips were averaged to.
    """

    corpus: str
    split: str
    task: str
    metric: str
    num_clips: int
    num_groups: int
    model: Estimate
    num_undefined: int = 0
    linear: Estimate | None = None
    over_linear: Difference | None = None
    chance: float | None = None
    part: str = ""
    num_without: int = 0
    num_wholes: int = 0

    @property
    def place(self) -> tuple[str, str, str]:
        """Corpus, split and task."""
        return self.corpus, self.split, self.task

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Corpus, split, task and metric."""
        return *self.place, self.metric


@dataclass(frozen=True)
class AdaptedRow(MetricRow):
    """A metric after label-shift adaptation.

    Attributes:
        before: the metric without it.
        shares: by class, as estimated.
    """

    before: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NotAdapted:
    """A task of a corpus that label-shift adaptation leaves alone, and why."""

    corpus: str
    split: str
    task: str
    reason: str


@dataclass(frozen=True)
class LeakageEffect:
    """What clips shared with training are worth.

    Attributes:
        kind: what is shared, of `training.runs.identities.KINDS`.
        row: of all clips.
        unseen: of those that share nothing of the kind; None where every clip does.
    """

    kind: str
    row: MetricRow
    unseen: MetricRow | None


@dataclass(frozen=True)
class SeedRow(MetricRow):
    """A metric over runs that differ in their seed; `model` is the mean with its t interval.

    Attributes:
        values: by run, None where one lacks the metric.
        deviation: standard deviation.
        least: smallest value.
        most: largest value.
        num_seeds: runs that have the metric.
    """

    values: Sequence[float | None] = ()
    deviation: float | None = None
    least: float | None = None
    most: float | None = None
    num_seeds: int = 0


_PLACE = ("corpus", "split", "task")
_VALUE = ("value", "low", "high")
_METRIC = (*_PLACE, "metric", "num_clips", "num_groups", *_VALUE, "num_undefined", "linear", "over_linear")
_SEEDS = ("num_clips", "values", "mean", "deviation", "low", "high", "least", "most", "num_seeds")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "figures": (*_METRIC, "chance"),
    "classes": (*_PLACE, "metric", "class", "num_clips", *_VALUE),
    "presence": (*_METRIC, "modalities"),
    "novelty": (*_METRIC, "novelty"),
    "by": (*_METRIC, "value_of_column"),
    "aggregated": (*_METRIC, "num_wholes"),
    "subsets": (*_PLACE, "modalities", "num_without", "metric", "num_clips", *_VALUE),
    "adapted": (*_METRIC, "before", "shares", "reason"),
    "over_seeds": (*_PLACE, "metric", *_SEEDS),
    "adapted_over_seeds": (*_PLACE, "metric", *_SEEDS),
    "subsets_over_seeds": (*_PLACE, "metric", "modalities", *_SEEDS),
}
"""Keys of a document's rows as JSON, by section."""
_EFFECT = (*_VALUE, "num_clips", "num_groups")


def plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the rows of a document into JSON values.

    Args:
        document: of `training.evaluation.evaluate.evaluate`, or of several runs that differ in their seed.
    """
    values = dict(document)
    for name, columns in COLUMNS.items():
        if name in values:
            values[name] = [_cells(row, columns) for row in values[name]]
    if "leakage" in values:
        effects = [
            {
                "kind": effect.kind,
                **_cells(effect.row, (*_PLACE, "metric", *_EFFECT)),
                "unseen": None if effect.unseen is None else _cells(effect.unseen, _EFFECT),
            }
            for effect in values["leakage"]["effects"]
        ]
        values["leakage"] = {**values["leakage"], "effects": effects}
    if "evaluations" in values:
        values["evaluations"] = [plain(evaluation) for evaluation in values["evaluations"]]
    return values


def _cells(row: MetricRow | NotAdapted, columns: Sequence[str]) -> dict[str, Any]:
    """Pick a row's values of these columns, without those that it has not."""
    values = asdict(row)
    if isinstance(row, MetricRow):
        values |= {**asdict(row.model), "mean": row.model.value}
        values |= dict.fromkeys(("class", "modalities", "novelty", "value_of_column"), row.part)
    absent = {name for name in ("linear", "over_linear") if values.get(name) is None}
    return {name: values[name] for name in columns if name in values and name not in absent}
