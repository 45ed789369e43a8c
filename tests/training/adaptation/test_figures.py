from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score

from training.adaptation.figures import average_f1, comparisons, figures_of, summaries

LABELS = np.array([1, 0, 1, 0, 0, 1, 0, 0, 1, 0])
PRESENT = np.array([0.9, 0.2, 0.8, 0.3, 0.1, 0.7, 0.65, 0.05, 0.4, 0.35])


def test_figures_of_a_known_case() -> None:
    found = figures_of(LABELS, PRESENT)
    assert found["bah_average_precision"] == pytest.approx(81.875)
    assert found["average_precision"] == pytest.approx(100 * average_precision_score(LABELS, PRESENT))
    assert found["average_f1"] == pytest.approx(100 * f1_score(LABELS, PRESENT > 0.5, average="macro"))
    assert found["share_predicted"] == pytest.approx(40.0)


def test_without_a_positive_row_there_is_no_average_precision_and_half_of_f1() -> None:
    found = figures_of(np.zeros(4, dtype=np.int64), np.array([0.1, 0.2, 0.3, 0.4]))
    assert found["bah_average_precision"] is None
    assert found["average_precision"] is None
    assert found["average_f1"] == 50.0  # not 100, as of the one class that there is
    assert average_f1(np.array([0, 1]), np.array([0.1, 0.9])) == 100.0


def rows(**methods: list[float | None]) -> pd.DataFrame:
    """AVGF1 and AP by participant, one seed."""
    return pd.DataFrame(
        [
            {
                "participant": f"p{number}", "seed": 0, "method": method, "average_f1": value or 0.0,
                "bah_average_precision": value, "average_precision": value, "share_predicted": 10.0,
                "share_present": 20.0,
            }
            for method, values in methods.items()
            for number, value in enumerate(values)
        ]
    )  # fmt: skip


def test_summaries_by_hand() -> None:
    table = rows(source=[40.0, 50.0, 60.0], shot=[41.0, None, 63.0])
    found = {(row["method"], row["figure"]): row for row in summaries(table)}
    assert found["source", "average_f1"]["mean"] == 50.0
    assert found["source", "average_f1"]["deviation"] == 10.0  # sqrt((100 + 0 + 100) / 2), of a sample
    assert found["shot", "average_precision"]["num_participants"] == 2
    assert found["shot", "average_precision"]["num_without"] == 1
    assert found["shot", "average_precision"]["mean"] == 52.0
    assert found["shot", "share_present"]["mean"] == 20.0


def test_a_participant_counts_once_whatever_the_number_of_seeds() -> None:
    table = pd.concat([rows(source=[40.0, 60.0]), rows(source=[50.0, 60.0]).assign(seed=1)])
    found = {row["figure"]: row for row in summaries(table)}["average_f1"]
    assert (found["mean"], found["num_participants"]) == (52.5, 2)  # of 45 and 60


def test_comparisons_are_of_pairs() -> None:
    spread = [10.0 * number for number in range(1, 9)]
    table = rows(source=spread, shot=[value + 2.0 + 0.1 * (value % 3) for value in spread], nrc=[*spread[:-1], None])
    found = {(row["method"], row["figure"]): row for row in comparisons(table)}
    row = found["shot", "average_f1"]
    assert row["num_participants"] == row["better"] == 8
    assert row["difference"]["low"] > 1.9  # though people differ by 25 points
    assert row["wilcoxon_p"] == pytest.approx(2 / 2**8)
    assert row["corrected_p"] >= row["p"]
    same = found["nrc", "average_precision"]
    assert (same["num_participants"], same["better"], same["worse"], same["wilcoxon_p"]) == (7, 0, 0, 1.0)
    assert ("source", "average_f1") not in found


def test_a_single_participant_has_no_interval() -> None:
    row = comparisons(rows(source=[40.0], shot=[50.0]))[0]
    assert row["difference"] == {"value": 10.0, "low": None, "high": None}
    assert row["p"] is None
    assert row["wilcoxon_p"] is None
