"""Figures of adapted networks: of a participant, over participants, and differences from the source network by pairs.

N rows of a participant's judged part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmpsr.metrics.bootstrap import bootstrap, of_sums
from mmpsr.metrics.definitions import average_precision, bah_average_precision, negative_f1, positive_f1
from mmpsr.metrics.paired_tests import wilcoxon
from mmpsr.tasks import AMBIVALENCE
from training.evaluation.figures import add_holm_correction, estimate, finite

__all__ = ["FIGURES", "average_f1", "comparisons", "figures_of", "summaries"]

FIGURES: Mapping[str, str] = {"average_f1": "AVGF1", "bah_average_precision": "AP (BAH)", "average_precision": "AP"}
"""Figure -> the literature's name."""
NUM_RESAMPLES = 2000


def average_f1(labels_N: NDArray[np.int64], present_N: NDArray[np.float64]) -> float:
    """Average F1 of both classes, in percent; that of a class which neither occurs nor is predicted is 0.

    AVGF1 = (F1(present) + F1(absent)) / 2

    `macro_f1` leaves such a class out, by which a participant without the class would count double.

    Args:
        labels_N: 1 present.
        present_N: probabilities; present is decided above 0.5.
    """
    targets, predicted = _both(labels_N), np.stack([1 - present_N, present_N], axis=1)
    return (positive_f1(targets, predicted, AMBIVALENCE) + negative_f1(targets, predicted, AMBIVALENCE)) / 2


def figures_of(labels_N: NDArray[np.int64], present_N: NDArray[np.float64]) -> dict[str, float | None]:
    """Judge a participant's rows.

    Args:
        labels_N: 1 present.
        present_N: probabilities.

    Returns:
        Figures of `FIGURES` in percent, average precisions None where no row is present, and `share_predicted`, the
        percentage that is decided present.
    """
    targets, predicted = _both(labels_N), np.stack([1 - present_N, present_N], axis=1)
    return {
        "average_f1": average_f1(labels_N, present_N),
        "bah_average_precision": finite(bah_average_precision(targets, predicted, AMBIVALENCE)),
        "average_precision": finite(average_precision(targets, predicted, AMBIVALENCE)),
        "share_predicted": 100 * float((present_N > 0.5).mean()),
    }


def _both(labels_N: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.eye(2)[labels_N]


@dataclass(frozen=True)
class Summary:
    """A figure of a method over participants, in percent.

    Attributes:
        method: its name.
        figure: of `FIGURES`, or `share_predicted` or `share_present`.
        num_participants: that have the figure.
        num_without: that have none, since no judged row is present.
        mean: over participants.
        deviation: sample standard deviation over participants; None of fewer than two.
    """

    method: str
    figure: str
    num_participants: int
    num_without: int
    mean: float | None
    deviation: float | None


def summaries(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Summarise each figure of each method over participants, of whom each counts once, as the mean over seeds.

    Args:
        rows: `participant, seed, method`, figures of `figures_of`, and `share_present`.
    """
    for figure in (*FIGURES, "share_predicted", "share_present"):
        for method, means in _by_participant(rows, figure).items():
            known = means.dropna()
            mean = finite(float(known.mean())) if len(known) else None
            deviation = finite(float(known.std(ddof=1))) if len(known) > 1 else None
            yield asdict(Summary(method, figure, len(known), len(means) - len(known), mean, deviation))


def comparisons(rows: pd.DataFrame, reference: str = "source") -> list[dict[str, Any]]:
    """Compare every other method with the source network on the same participants.

    Returns:
        Of each method and figure: `num_participants`; `difference`, its `value` and 95 % interval (`low`, `high`) from
        resampled participants; `p` of that bootstrap and of Wilcoxon's signed-rank test; `better` and `worse`, numbers
        of participants; and `corrected_p`, Holm's, over all rows.
    """
    found: list[dict[str, Any]] = []
    for figure in FIGURES:
        by_method = _by_participant(rows, figure)
        for method, means in by_method.items():
            if method == reference or reference not in by_method:
                continue
            both = pd.concat([by_method[reference], means], axis=1, keys=["first", "second"]).dropna()
            first, second = (both[name].to_numpy(np.float64) for name in ("first", "second"))
            found.append({"method": method, "figure": figure, **_compared(first, second, figure)})
    add_holm_correction(found)
    return found


def _compared(first: NDArray[np.float64], second: NDArray[np.float64], figure: str) -> dict[str, Any]:
    difference = second - first
    people = np.arange(len(difference))
    sums = np.stack([difference, np.ones(len(difference))], axis=1)
    mean = of_sums(lambda of: of[..., 0] / of[..., 1], people, sums) if len(people) else None
    resampled = None if mean is None else bootstrap(mean, len(people), NUM_RESAMPLES)
    return {
        "num_participants": len(people),
        "difference": None if resampled is None else asdict(estimate(resampled, figure, is_difference=True)),
        "p": None if resampled is None else finite(resampled.p_value()),
        "wilcoxon_p": wilcoxon(first, second) if len(people) > 1 else None,
        "better": int((difference > 0).sum()),
        "worse": int((difference < 0).sum()),
    }


def _by_participant(rows: pd.DataFrame, figure: str) -> dict[str, pd.Series]:
    """Average over seeds: participant -> mean, of each method, in the order of the rows."""
    values = rows.assign(value=rows[figure].astype("float64"))
    return {
        str(method): part.groupby("participant", sort=False)["value"].mean()
        for method, part in values.groupby("method", sort=False)
    }
