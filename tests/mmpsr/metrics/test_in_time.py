"""Metrics of frames against oracles, scikit-learn's definitions, and what constant predictors give."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import trapezoid
from sklearn import metrics as sk

from mmpsr.metrics.bootstrap import bootstrap
from mmpsr.metrics.definitions import METRICS
from mmpsr.metrics.in_time import (
    FRAME_METRICS,
    THRESHOLDS,
    frame_metric_intervals,
    frame_metrics,
    frame_statistics,
    peak_window,
    video_metric_intervals,
    video_metrics,
    video_score,
)
from mmpsr.tasks import AMBIVALENCE

LABELS = [int(each) for each in "1010010010"]
PROBABILITIES = [0.9, 0.2, 0.8, 0.3, 0.1, 0.7, 0.65, 0.05, 0.4, 0.35]
TEST_FRAMES, TEST_PRESENT = 335_110, 65_756  # of BAH


def clips(seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Frames of nine clips of four people, with ties, unknown frames, and a clip of which nothing is known."""
    generator = np.random.default_rng(seed)
    labels = [generator.choice([-1, 0, 0, 0, 1], size=length) for length in generator.integers(3, 30, size=8)]
    labels.append(np.full(5, -1))
    probabilities = [generator.random(len(each)).round(2) for each in labels]
    return labels, probabilities, ["b", "a", "a", "c", "b", "c", "a", "d", "a"]


def known(labels: list[np.ndarray], probabilities: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    joined, predicted = np.concatenate(labels), np.concatenate(probabilities)
    return joined[joined >= 0], predicted[joined >= 0]


def test_average_precision_oracle() -> None:
    found = frame_metrics([LABELS], [PROBABILITIES])
    assert found["bah_average_precision"] == pytest.approx(81.875)
    assert found["average_precision"] == pytest.approx(100 * sk.average_precision_score(LABELS, PROBABILITIES))
    assert frame_metrics([LABELS[:4], LABELS[4:]], [PROBABILITIES[:4], PROBABILITIES[4:]]) == found


@pytest.mark.parametrize(
    ("present", "absent", "expected"), [(0.5, 0.5, 20.0), (0.998, 0.998, 20.0), (1.0, 0.0, 0.0), (0.9, 0.1, 50.0)]
)
def test_average_precision_of_constant_and_perfect_models(present: float, absent: float, expected: float) -> None:
    labels = [1] * 4 + [0] * 6
    found = frame_metrics([labels], [[present] * 4 + [absent] * 6])
    assert found["bah_average_precision"] == pytest.approx(expected)
    assert found["average_precision"] == pytest.approx(40.0 if present == absent else 100.0)


@pytest.mark.parametrize(
    ("constant", "macro_f1", "weighted_f1"), [(0.3, 44.561, 71.634), (0.7, 16.403, None)]
)  # fmt: skip
def test_constant_predictors_of_the_test_frames(constant: float, macro_f1: float, weighted_f1: float | None) -> None:
    labels = np.arange(TEST_FRAMES) < TEST_PRESENT
    found = frame_metrics([labels.astype(np.int8)], [np.full(TEST_FRAMES, constant)])
    assert found["macro_f1"] == pytest.approx(macro_f1, abs=5e-4)
    assert weighted_f1 is None or found["weighted_f1"] == pytest.approx(weighted_f1, abs=5e-4)
    assert found["bah_average_precision"] == pytest.approx(100 * TEST_PRESENT / TEST_FRAMES / 2)


def test_constant_predictors_of_the_test_videos() -> None:
    labels = np.arange(525) < 318
    assert video_metrics(labels, np.zeros(525))["macro_f1"] == pytest.approx(28.279, abs=5e-4)
    assert video_metrics(labels, np.ones(525))["macro_f1"] == pytest.approx(37.722, abs=5e-4)
    assert video_metrics(labels, np.full(525, 0.4))["bah_average_precision"] == pytest.approx(30.286, abs=5e-4)


def test_thresholds_are_those_of_the_code() -> None:
    assert len(THRESHOLDS) == 1000
    assert (np.arange(1000) / 1000 != THRESHOLDS).sum() == 144
    # A present frame of k / 1000 where the code's threshold lies a bit above, an absent one a thousandth below it, and
    # a present one at 0.9: by k / 1000 recall and precision are (1/2, 1), (1, 1), (1, 2/3), area 1/4 + 1/2; by the
    # code's no threshold parts the lower two: (1/2, 1), (1, 2/3), area 1/4 + 1/2 * 5/6
    above = np.arange(1000) / 1000 < THRESHOLDS
    place = int(np.flatnonzero(above[1:] & ~above[:-1])[0]) + 1
    labels, probabilities = [1, 0, 1], np.array([place / 1000, (place - 1) / 1000, 0.9])
    columns = np.stack([1 - probabilities, probabilities], axis=1)
    assert METRICS["bah_average_precision"](np.eye(2)[labels], columns, AMBIVALENCE) == pytest.approx(75.0)
    assert frame_metrics([labels], [probabilities])["bah_average_precision"] == pytest.approx(200 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_scikit_learn(seed: int) -> None:
    labels, probabilities, _ = clips(seed)
    found = frame_metrics(labels, probabilities)
    actual, predicted = known(labels, probabilities)
    decided = predicted > 0.5
    assert found["positive_f1"] == pytest.approx(100 * sk.f1_score(actual, decided))
    assert found["macro_f1"] == pytest.approx(100 * sk.f1_score(actual, decided, average="macro"))
    assert found["weighted_f1"] == pytest.approx(100 * sk.f1_score(actual, decided, average="weighted"))
    assert found["average_precision"] == pytest.approx(100 * sk.average_precision_score(actual, predicted))
    points = [(t, predicted >= t) for t in np.arange(0, 1, 0.001)]
    precision = [actual[chosen].mean() if chosen.any() else 0.0 for _, chosen in points]
    recall = [(actual[chosen] == 1).sum() / (actual == 1).sum() for _, chosen in points]
    area = trapezoid(precision[::-1], recall[::-1])
    assert found["bah_average_precision"] == pytest.approx(100 * area)


def test_a_half_is_not_present_and_a_threshold_of_ones_own() -> None:
    # at 0.5 only 0.6 is above: 1 TP, 1 FN, 1 TN; at 0.45 all but 0.2: 2 TP, 1 TN
    labels, probabilities = [[1, 1, 0]], [[0.5, 0.6, 0.2]]
    assert frame_metrics(labels, probabilities)["positive_f1"] == pytest.approx(200 / 3)
    assert frame_metrics(labels, probabilities, threshold=0.45)["positive_f1"] == pytest.approx(100.0)


@pytest.mark.parametrize("name", FRAME_METRICS)
def test_resampled_values_are_those_of_the_frames_repeated(name: str) -> None:
    labels, probabilities, groups = clips()
    statistic = frame_statistics(labels, probabilities, groups, [name])[name]
    counts = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 3, 0, 1], [0, 0, 4, 0.0]])
    for row, value in zip(counts, statistic(counts), strict=True):
        repeats = [int(row["abcd".index(group)]) for group in groups]
        rows = [clip for clip, number in enumerate(repeats) for _ in range(number)]
        actual, predicted = known([labels[clip] for clip in rows], [probabilities[clip] for clip in rows])
        targets = np.eye(2)[actual]
        expected = METRICS[name](targets, np.stack([1 - predicted, predicted], axis=1), AMBIVALENCE)
        assert value == pytest.approx(expected, abs=1e-9)


def test_ranking_in_pieces_is_ranking_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probabilities, groups = clips(1)
    counts = np.random.default_rng(0).integers(3, size=(50, 4)).astype(float)
    expected = frame_statistics(labels, probabilities, groups)["average_precision"](counts)
    monkeypatch.setattr("mmpsr.metrics.in_time.MOST_CELLS", 150)  # three ends at a time
    found = frame_statistics(labels, probabilities, groups)["average_precision"](counts)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_intervals_by_hand() -> None:
    # Two people: a has TP 1, FN 1 (F1 = 2 / 3), b has TP 1, FP 1 (F1 = 2 / 3), both together TP 2, FN 1, FP 1: all
    # resamples have F1 = 2 / 3, so that the interval is a point. AVGF1 needs true negatives: a has 1, b none.
    labels, probabilities, groups = [[1, 1, 0], [1], [0]], [[0.9, 0.1, 0.2], [0.8], [0.7]], ["a", "b", "b"]
    found = frame_metric_intervals(labels, probabilities, groups, ["positive_f1", "macro_f1"], num_resamples=300)
    assert [found["positive_f1"].low, found["positive_f1"].high] == pytest.approx([200 / 3, 200 / 3])
    statistic = frame_statistics(labels, probabilities, groups, ["macro_f1"])["macro_f1"]
    # a twice: F1 of absent 2 * 1 / (2 + 1) = 2 / 3; b twice: 0; both: 2 / (2 + 2) = 1 / 2
    expected = [50 * (2 / 3 + 2 / 3), 50 * 2 / 3, 50 * (2 / 3 + 1 / 2)]
    assert statistic(np.array([[2.0, 0], [0, 2], [1, 1]])).tolist() == pytest.approx(expected)
    assert found["macro_f1"] == bootstrap(statistic, 2, 300).interval(limits=(0.0, 100.0))
    assert found["macro_f1"].low < found["macro_f1"].estimate < found["macro_f1"].high


def test_groups_widen_intervals() -> None:
    generator = np.random.default_rng(0)
    labels, probabilities = [], []
    for _ in range(30):  # every clip is alike throughout, so that its frames are no independent ones
        labels.append(np.full(20, generator.random() < 0.5).astype(int))
        probabilities.append(np.full(20, generator.random()))
    alone = frame_metric_intervals(labels, probabilities, np.arange(30), ["macro_f1"], num_resamples=300)["macro_f1"]
    frames = frame_metric_intervals(
        [[each] for each in np.concatenate(labels)], [[p] for p in np.concatenate(probabilities)], np.arange(600),
        ["macro_f1"], num_resamples=300,
    )["macro_f1"]  # fmt: skip
    assert alone.estimate == pytest.approx(frames.estimate)
    assert alone.high - alone.low > 2.5 * (frames.high - frames.low)


def test_nothing_known_and_no_numbers() -> None:
    for labels, probabilities in (([], []), ([[-1, -1]], [[0.1, 0.2]]), ([[1, 0]], [[np.nan, 0.2]])):
        found = frame_metrics(labels, probabilities)
        assert {name: np.isnan(found[name]) for name in ("macro_f1", "average_precision", "bah_average_precision")} == {
            "macro_f1": True, "average_precision": True, "bah_average_precision": True,
        }  # fmt: skip
    found = frame_metrics([[0, 0]], [[0.1, 0.7]])
    assert np.isnan(found["average_precision"])
    assert np.isnan(found["bah_average_precision"])
    assert frame_metrics([[1, -1]], [[0.7, np.nan]])["positive_f1"] == 100.0  # of an unknown frame


@pytest.mark.parametrize(
    ("labels", "probabilities", "groups", "found"),
    [
        ([[1]], [], ["a"], "labels are of 1 clips, probabilities of 0, groups of 1"),
        ([[1], [1, 0]], [[0.5], [0.5]], ["a", "b"], r"clip 1: labels are \[2\], probabilities \[1\]"),
        ([[1, 2]], [[0.5, 0.5]], ["a"], "clip 0: a frame's label is 2, expected 1, 0, or -1"),
        ([[1, 0]], [[0.5, -3.0]], ["a"], r"clip 0: probabilities lie outside \[0, 1\]; logits are made"),
    ],
)
def test_what_is_refused(labels: list, probabilities: list, groups: list, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        frame_statistics(labels, probabilities, groups)


def test_a_videos_score() -> None:
    assert video_score([0.0] * 30 + [1.0] * 12 + [0.0] * 30) == 0.5
    assert video_score([0.2] * 10) == pytest.approx(0.2)
    assert video_score([0.0] * 5 + [1.0] * 5) == 0.5  # fewer than 24: the mean of all
    assert video_score([0.0] * 30 + [1.0] * 24) == 1.0
    assert video_score([1.0] * 12 + [0.0] * 30) == 0.5  # full windows only, at the ends as well
    assert video_score([0.0, 1.0, 1.0, 0.0], window=peak_window(12)) == 1.0
    assert video_metrics([1, 0], [0.5, 0.2])["positive_f1"] == 0.0  # a half is not present
    with pytest.raises(ValueError, match=r"a score needs frames and a window; found probabilities \[0\], 24"):
        video_score([])
    with pytest.raises(ValueError, match="a frame step is at least 1, found 0"):
        peak_window(0)


def test_intervals_of_videos_are_those_of_clips_of_one_frame() -> None:
    labels, scores, groups = [1, 0, 1, -1, 0], [0.9, 0.4, 0.3, 0.9, 0.6], [1, 2, 2, 3, 1]
    found = video_metric_intervals(labels, scores, groups, num_resamples=50)
    assert found == frame_metric_intervals([[x] for x in labels], [[x] for x in scores], groups, num_resamples=50)
    assert found["macro_f1"].estimate == pytest.approx(video_metrics(labels, scores)["macro_f1"])
