"""Conformal sets and intervals: quantiles by hand, the guarantee over groups, what naive pooling does to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import norm

from mmpsr.calibration.calibration import Calibration
from mmpsr.calibration.conformal import (
    ConformalFit,
    class_sets,
    conformal_scores,
    covered,
    fit_conformal,
    groups_needed,
    is_level,
    label_sets,
    promise,
    score_intervals,
    set_sizes,
)
from mmpsr.config import ConfigError
from mmpsr.tasks import AMBIVALENCE, EMOTION, TaskSpec

Array = NDArray[np.float64]
SCORE = TaskSpec(kind="regression", classes=("openness",), loss="mae", metrics=("mean_accuracy",))
MOOD = TaskSpec(kind="single_label", classes=("a", "b", "c", "d"), loss="cross_entropy", metrics=("macro_f1",))
LABELS = TaskSpec(kind="multi_label", classes=("x", "y"), loss="binary_cross_entropy", metrics=("macro_f1",))
EASY, HARD = (40, 1.0), (2, 3.0)  # clips of a group, and the scale of its errors


def pooled_quantile(scores_N: Array, level: float) -> float:
    """Split conformal prediction as if clips were exchangeable."""
    rank = math.ceil((len(scores_N) + 1) * level)
    return float(np.sort(scores_N)[rank - 1]) if rank <= len(scores_N) else math.inf


def test_quantiles_worked_by_hand() -> None:
    # Two groups: of 1 and of 2 clips, so masses 1/3, 1/6, 1/6, and 1/3 of the new group.
    fit = ConformalFit.of(np.array([0.5, 0.1, 0.9, np.nan]), np.array(["a", "b", "b", "c"]))
    assert (fit.num_groups, fit.num_clips) == (2, 3)  # the clip without a score is nobody's
    assert fit.quantile(0.5) == 0.5  # 1/6 at 0.1, 1/2 at 0.5
    assert fit.quantile(0.51) == fit.quantile(0.66) == 0.9
    assert fit.quantile(0.67) == math.inf  # K / (K + 1) = 2/3
    assert len(fit.quantiles) == 17  # 0.50 to 0.66


def test_a_group_counts_the_same_however_many_clips_it_has() -> None:
    scores, groups = np.array([0.1, 0.2, 0.3]), np.array(["a", "b", "c"])
    fit = ConformalFit.of(scores, groups)
    many = ConformalFit.of(np.repeat(scores, [1, 50, 3]), np.repeat(groups, [1, 50, 3]))
    assert many.quantiles == fit.quantiles
    order = np.random.default_rng(0).permutation(54)
    shuffled = ConformalFit.of(np.repeat(scores, [1, 50, 3])[order], np.repeat(groups, [1, 50, 3])[order])
    assert shuffled == many


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_a_level_is_reached_with_exactly_the_groups_that_it_needs(level: float) -> None:
    num_groups = groups_needed(level)
    scores = np.linspace(0.1, 0.9, num_groups)
    assert ConformalFit.of(scores, np.arange(num_groups)).quantile(level) == scores[-1]
    assert ConformalFit.of(scores[1:], np.arange(num_groups - 1)).quantile(level) == math.inf


def test_a_level_between_those_kept_takes_the_next_higher() -> None:
    fit = ConformalFit.of(np.linspace(0, 1, 199), np.arange(199))
    assert fit.quantile(0.805) == fit.quantile(0.81) > fit.quantile(0.8)
    assert (is_level(0.5), is_level(0.99), is_level(0.49), is_level(0.995)) == (True, True, False, False)


@pytest.mark.parametrize("level", [0.5, 0.75, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_groups_left_out_in_turn_are_held_as_often_as_asked(level: float, seed: int) -> None:
    """The theorem without chance: over groups left out in turn, the mean share of clips held is at least the level."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(12), generator.integers(1, 30, 12))
    scores = generator.normal(size=12)[groups] * 2 + generator.normal(size=len(groups))
    shares = [
        np.mean(
            scores[groups == left] <= ConformalFit.of(scores[groups != left], groups[groups != left]).quantile(level)
        )
        for left in range(12)
    ]
    assert np.mean(shares) >= level - 1e-12


def simulate(level: float, num_groups: int = 99, num_rounds: int = 60) -> tuple[float, float]:
    """Coverage of a score of a new group's clip, by group and pooled: half of the groups are small and hard.

    Errors are normal with the group's scale, so coverage of an interval is known and only the calibration is drawn.
    """
    generator = np.random.default_rng(1)
    coverages = []
    for _ in range(num_rounds):
        is_hard = generator.random(num_groups) < 0.5
        sizes, scales = np.where(is_hard, HARD[0], EASY[0]), np.where(is_hard, HARD[1], EASY[1])
        groups = np.repeat(np.arange(num_groups), sizes)
        errors = 0.02 * np.repeat(scales, sizes) * generator.normal(size=len(groups))
        targets, predicted = {"task": 0.5 + errors[:, None]}, {"task": np.full((len(groups), 1), 0.5)}
        fits = fit_conformal(predicted, targets, groups, np.full(len(groups), "mine"), {"task": SCORE})
        by_group = promise(fits, "task", SCORE, level).reaches
        pooled = np.array([pooled_quantile(np.abs(errors), level)])
        for reaches in (by_group, pooled):
            low, high = score_intervals(np.array([[0.5]]), reaches)
            held = [norm.cdf(high, 0.5, 0.02 * scale) - norm.cdf(low, 0.5, 0.02 * scale) for _, scale in (EASY, HARD)]
            coverages.append(float(np.mean(held)))
    return float(np.mean(coverages[::2])), float(np.mean(coverages[1::2]))


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_intervals_of_grouped_data_hold_the_truth_as_often_as_asked_and_pooled_ones_do_not(level: float) -> None:
    by_group, pooled = simulate(level)
    assert by_group == pytest.approx(level, abs=0.02)
    assert pooled < level - 0.1


def grouped_classes(generator: np.random.Generator, num_groups: int) -> tuple[Array, Array, NDArray[np.int64]]:
    """Probabilities of four classes, one-hot truths, and groups of which half are small and hard."""
    is_hard = generator.random(num_groups) < 0.5
    groups = np.repeat(np.arange(num_groups), np.where(is_hard, 2, 40))
    truths = np.eye(4)[generator.integers(4, size=len(groups))]
    strengths = np.where(is_hard, 0.5, 4.0)[groups][:, None]
    return softmax(strengths * truths + generator.normal(size=truths.shape), axis=1), truths, groups


def mean_of_groups(values: Array, groups: NDArray[np.int64]) -> float:
    return float(np.mean([values[groups == group].mean() for group in np.unique(groups)]))


def test_sets_of_grouped_clips_hold_the_truth_as_often_as_asked_and_pooled_ones_do_not() -> None:
    generator, level, by_group, pooled = np.random.default_rng(2), 0.9, [], []
    probs, truths, groups = grouped_classes(generator, 1500)
    for _ in range(40):
        dev_probs, dev_truths, dev_groups = grouped_classes(generator, 99)
        dev = ({"task": dev_probs}, {"task": dev_truths}, dev_groups, np.full(len(dev_groups), "mine"))
        found = promise(fit_conformal(*dev, {"task": MOOD}), "task", MOOD, level)
        scores = conformal_scores(dev_probs, dev_truths, MOOD)[:, 0]
        for reach, coverages in ((float(found.reaches[0]), by_group), (pooled_quantile(scores, level), pooled)):
            holds = (class_sets(probs, reach) & truths.astype(bool)).any(axis=1)
            is_group_end = np.flatnonzero(np.diff(groups, append=-1))
            sums = np.diff(np.cumsum(holds)[is_group_end], prepend=0)
            coverages.append(float(np.mean(sums / np.bincount(groups))))
    assert np.mean(by_group) == pytest.approx(level, abs=0.02)
    assert np.mean(pooled) < level - 0.1


def test_labels_have_a_guarantee_each() -> None:
    generator, level, coverages = np.random.default_rng(3), 0.9, []

    def draw(num_groups: int) -> tuple[Array, Array, NDArray[np.int64]]:
        probs, truths, groups = grouped_classes(generator, num_groups)
        return probs[:, :2], truths[:, :2], groups

    new = draw(400)
    for _ in range(10):
        probs, truths, groups = draw(99)
        dev = ({"task": probs}, {"task": truths}, groups, np.full(len(groups), "mine"))
        reaches = promise(fit_conformal(*dev, {"task": LABELS}), "task", LABELS, level).reaches
        states = label_sets(new[0], LABELS, reaches)
        holds = np.where(new[1] > 0, states[..., 1], states[..., 0]).astype(float)
        np.testing.assert_array_equal(holds, covered(new[0], new[1], LABELS, reaches))
        coverages.append([mean_of_groups(column, new[2]) for column in holds.T])
    # never below what was asked; above it where the likelier state, which is always kept, is right more often
    assert (np.mean(coverages, axis=0) > level - 0.02).all()


def test_scores_and_sets_worked_by_hand() -> None:
    probs = np.array([[0.7, 0.2, 0.06, 0.04], [0.4, 0.3, 0.2, 0.1]])
    targets = np.array([[0.0, 1, 0, 0], [np.nan] * 4])
    np.testing.assert_allclose(conformal_scores(probs, targets, MOOD), [[0.8], [np.nan]])
    assert class_sets(probs, 0.8).tolist() == [[True, True, False, False], [True, True, True, False]]
    assert class_sets(probs, 0.1).tolist() == [[True, False, False, False]] * 2  # never empty
    assert class_sets(probs, math.inf).all()
    assert covered(probs, np.eye(4)[[0, 1]], MOOD, np.array([0.1])).tolist() == [[1.0], [0.0]]
    np.testing.assert_allclose(set_sizes(probs, MOOD, np.array([0.8]))[:, 0], [2, 3])
    low, high = score_intervals(np.array([[0.95, 0.5]]), np.array([0.1, math.inf]))
    np.testing.assert_allclose([low[0], high[0]], [[0.85, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(conformal_scores(np.array([[0.2]]), np.array([[0.5]]), SCORE), [[0.3]])
    np.testing.assert_allclose(set_sizes(np.array([[0.95]]), SCORE, np.array([0.1])), [[0.15]])


def test_labels_of_a_softmax_are_weighed_by_their_threshold() -> None:
    # of seven classes 1/7 is undecided: g(1/7) = 1/2; p = 0.4 has the odds (0.4/0.6) (6/1) = 4, so g = 0.8
    probs = np.array([[1 / 7, 0.4, *[(1 - 1 / 7 - 0.4) / 5] * 5]])
    targets = np.eye(7)[[1]]
    scores = conformal_scores(probs, targets, EMOTION)
    np.testing.assert_allclose(scores[0, :2], [0.5, 0.2])
    states = label_sets(probs, EMOTION, np.array([0.1, 0.1, *[0.9] * 5]))
    assert states[0, :2].tolist() == [[True, True], [False, True]]  # undecided is open; the likelier is kept
    assert states[0, 2:].all()
    assert np.isnan(conformal_scores(probs, np.full((1, 7), np.nan), EMOTION)).all()


def test_corpora_have_quantiles_of_their_own_and_the_widest_is_promised_to_all() -> None:
    corpora, groups = np.repeat(["a", "b", "few"], [12, 12, 3]), np.arange(27)
    errors = np.repeat([0.1, 0.3, 0.5], [12, 12, 3])[:, None]
    fits = fit_conformal({"t": np.full((27, 1), 0.5)}, {"t": 0.5 + errors}, groups, corpora, {"t": SCORE})
    assert {corpus: fit[0].num_groups for corpus, fit in fits["t"].items()} == {"a": 12, "b": 12, "few": 3}
    both = promise(fits, "t", SCORE, 0.9)
    assert both.reaches.tolist() == pytest.approx([0.3])
    assert both.sentence == (
        "90 % is promised for new groups like the dev groups of a (12), b (12), and for no other corpus: too few dev "
        "groups (few has 3, 9 are needed)"
    )
    assert promise(fits, "t", SCORE, 0.9, ["a"]).reaches.tolist() == pytest.approx([0.1])
    alone = promise(fits, "t", SCORE, 0.9, ["few"])
    assert alone.reaches.tolist() == [math.inf]
    assert alone.to_dict()["promised"] is False
    assert "too few dev groups (few has 3, 9 are needed), so nothing is ruled out" in alone.sentence
    assert promise(fits, "t", SCORE, 0.75, ["few"]).reaches.tolist() == pytest.approx([0.5])
    nothing = promise(fits, "other", AMBIVALENCE, 0.9)
    assert (nothing.stored, nothing.reaches.tolist()) == (False, [math.inf])


def test_a_corpus_is_promised_no_trait_that_it_has_too_few_groups_of() -> None:
    both = SCORE.model_copy(update={"classes": ("first", "second")})
    corpora, errors = np.repeat(["a", "b"], 12), np.full((24, 2), 0.1)
    errors[2:12, 1] = np.nan  # a has the second trait of two groups alone
    fits = fit_conformal({"t": np.full((24, 2), 0.5)}, {"t": 0.5 + errors}, np.arange(24), corpora, {"t": both})
    promised = promise(fits, "t", both, 0.9)
    assert (list(promised.groups), promised.reaches.tolist()) == (["a", "b"], [pytest.approx(0.1), math.inf])


def test_groups_of_training_do_not_count_and_clips_without_a_group_are_named() -> None:
    errors, groups = np.linspace(0.01, 0.24, 24)[:, None], np.repeat(np.arange(12), 2)
    seen, alone, corpora = groups < 2, groups == 5, np.repeat("a", 24)
    targets = {"t": 0.5 + errors}
    fits = fit_conformal({"t": np.full((24, 1), 0.5)}, targets, groups, corpora, {"t": SCORE}, seen, alone)
    unseen = ConformalFit.of(errors[4:, 0], groups[4:])
    assert fits["t"]["a"][0].quantiles == pytest.approx(unseen.quantiles)
    promised = promise(fits, "t", SCORE, 0.9).with_names({"a": "mine"})
    assert promised.sentence == (
        "90 % is promised for new groups like the dev groups of mine (10, of which 1 are clips without a group, as if "
        "each were of another person, and 2 that do not count, since training has clips of them)"
    )


def test_stored_with_the_calibration_and_read_as_it_was() -> None:
    fit = ConformalFit.of(np.linspace(0, 1, 10), np.arange(10))
    calibration = Calibration(conformal={"t": {"mine": (fit,)}})
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    assert calibration.without_thresholds().conformal == calibration.conformal
    assert Calibration.from_dict({"tasks": {}}).conformal == {}  # of before
    tree = calibration.to_dict()
    tree["conformal"]["t"]["mine"][0]["quantiles"] = [0.5, 0.4]
    with pytest.raises(ConfigError, match="rise with the level"):
        Calibration.from_dict(tree)
