"""Late fusion: folds that keep groups together, weights by hand, and what never sees a held-out label."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, log_softmax
from sklearn.linear_model import LogisticRegression, Ridge

from mmpsr.tasks import TaskSpec
from training.linear.fusion import ALL, PENALTIES, ViewModels, class_weights, deal_folds, weigh_views

LABELS = TaskSpec(kind="multi_label", classes=("x", "y"), loss="binary_cross_entropy", metrics=())
LABEL = TaskSpec(kind="single_label", classes=("x", "y", "z"), loss="cross_entropy", metrics=())
TRAITS = TaskSpec(kind="regression", classes=("x", "y"), loss="mae", metrics=())
SPECS = (LABELS, LABEL, TRAITS)
VIEWS = {"text": slice(0, 4), "audio": slice(4, 7)}
GROUPS = np.array([f"g{place // 3}" for place in range(36)])


def inputs() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(36, 7))


def targets(spec: TaskSpec) -> NDArray[np.float64]:
    generator = np.random.default_rng(1)
    signal = inputs() @ generator.normal(size=(7, spec.num_outputs)) + generator.normal(size=(36, spec.num_outputs))
    if spec.kind == "regression":
        return expit(signal / 3)
    return np.eye(3)[signal.argmax(axis=1)] if spec.kind == "single_label" else (signal > 1).astype(np.float64)


def models(spec: TaskSpec, values: NDArray | None = None, labels: NDArray | None = None) -> ViewModels:
    return ViewModels(
        inputs() if values is None else values, targets(spec) if labels is None else labels, GROUPS, VIEWS, spec
    )


def test_folds_keep_groups_together_and_are_filled_from_the_largest_group() -> None:
    groups = [*"aaaaa", *"bbb", *"cc", *"dd", *"e"]
    folds = deal_folds(groups, 3)
    of_group = {group: set(folds[np.array(groups) == group].tolist()) for group in "abcde"}
    assert of_group == {"a": {0}, "b": {1}, "c": {2}, "d": {2}, "e": {1}}
    assert Counter(folds.tolist()) == {0: 5, 1: 4, 2: 4}


def test_fewer_groups_than_folds_and_one_group() -> None:
    assert deal_folds(["a", "b", "a"], 5).tolist() == [0, 1, 0]
    assert deal_folds(["a"] * 7, 5).tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert deal_folds(["a"] * 2, 5).tolist() == [0, 1]
    assert deal_folds(["a"], 5).tolist() == [0]


def test_class_weights_are_those_of_balanced_classes() -> None:
    labels = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(class_weights(labels, LABELS), [[2, 0.5], [2 / 3, 0.5], [2 / 3, 0.5], [2 / 3, 0.5]])
    one_hot = np.eye(3)[[0, 0, 0, 1]]  # no third class
    np.testing.assert_allclose(class_weights(one_hot, LABEL)[:, 0], [2 / 3, 2 / 3, 2 / 3, 2])
    assert (class_weights(one_hot, LABEL).std(axis=1) == 0).all()
    assert (class_weights(np.full((2, 2), np.nan), TRAITS) == 1).all()


def test_weights_of_a_regression_by_hand() -> None:
    """The truth is a first view plus 2; the second is the first's negative, and may not count below zero."""
    first = np.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0]])
    truth = 3 * first + [[2.0, -1.0]]
    truth[1, 1] = np.nan
    shares, bias, loss = weigh_views(np.stack([first, -first]), truth, np.ones_like(truth), TRAITS)
    np.testing.assert_allclose(shares, [3, 0])
    np.testing.assert_allclose(bias, [2, -1])
    assert loss == pytest.approx(0.0, abs=1e-12)
    shares, bias, loss = weigh_views(-first[None], truth, np.ones_like(truth), TRAITS)
    assert shares.tolist() == [0]
    np.testing.assert_allclose(bias, [8, 3.5])  # the means of what is known
    assert loss == pytest.approx((6**2 + 3**2 + 9**2) + 2 * 1.5**2)


def test_weights_of_classes_by_hand() -> None:
    """Of two clips that say yes 3 of 4 times, and two that do 1 of 4: log odds of log 3 and -log 3."""
    scores = np.array([1.0] * 4 + [-1.0] * 4)[:, None]
    truth = np.array([1.0, 1, 1, 0, 0, 0, 0, 1])[:, None]
    one = TaskSpec(kind="multi_label", classes=("x",), loss="binary_cross_entropy", metrics=())
    noise = np.zeros_like(scores)
    shares, bias, loss = weigh_views(np.stack([scores, noise]), truth, np.ones_like(truth), one)
    np.testing.assert_allclose(shares, [np.log(3), 0], atol=1e-4)
    np.testing.assert_allclose(bias, 0, atol=1e-4)
    assert loss == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    # a weight of two is two clips
    doubled = np.where(np.arange(8)[:, None] == 3, 2.0, 1.0)
    longer = np.append(scores, [[1.0]], axis=0)[None], np.append(truth, [[0.0]], axis=0)
    twice = weigh_views(*longer, np.ones((9, 1)), one)
    once = weigh_views(scores[None], truth, doubled, one)
    np.testing.assert_allclose(once[0], twice[0], atol=1e-4)
    np.testing.assert_allclose(once[1], twice[1], atol=1e-4)


def test_weights_of_exclusive_classes_are_the_best_of_a_grid() -> None:
    generator, truth = np.random.default_rng(4), targets(LABEL)
    scores = truth + generator.normal(size=(2, *truth.shape))
    weights = class_weights(truth, LABEL)
    shares, bias, loss = weigh_views(scores, truth, weights, LABEL)

    def loss_of(shares: NDArray, bias: NDArray) -> float:
        logits = np.einsum("v,vnc->nc", shares, scores) + bias
        return float(-(weights * truth * log_softmax(logits, axis=1)).sum() / weights.sum())

    assert loss_of(shares, bias) == pytest.approx(loss)
    steps = np.stack(np.meshgrid(*[[-0.05, 0.0, 0.05]] * 5), axis=-1).reshape(-1, 5)
    assert min(loss_of(shares + step[:2], bias + step[2:]) for step in steps) >= loss - 1e-9


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_the_scale_of_scores_means_nothing(spec: TaskSpec) -> None:
    scores = targets(spec) + np.random.default_rng(4).normal(size=(2, 36, spec.num_outputs))
    weights = class_weights(targets(spec), spec)
    shares, bias, loss = weigh_views(scores, targets(spec), weights, spec)
    tiny = weigh_views(scores * [[[1e-6]], [[1.0]]], targets(spec), weights, spec)
    np.testing.assert_allclose(tiny[0] * [1e-6, 1], shares, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(tiny[1], bias, atol=1e-3)
    assert tiny[2] == pytest.approx(loss, rel=1e-6)


def test_a_class_that_all_clips_have_or_none_ends_at_ten() -> None:
    labels = np.tile([1.0, 0.0], (36, 1))
    found = models(LABELS, labels=labels)
    weight, bias = found.fit(found.weigh())
    assert not weight.any()
    np.testing.assert_allclose(bias, [10, -10], atol=0.5)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_out_of_fold_scores_of_a_group_know_nothing_of_its_labels(spec: TaskSpec) -> None:
    folds = deal_folds(GROUPS)
    out = folds == 2
    labels = targets(spec)
    labels[out] = np.roll(1 - labels, 1, axis=1)[out] if spec.kind != "single_label" else np.eye(3)[[0] * out.sum()]
    before, after = models(spec).by_penalty, models(spec, labels=labels).by_penalty
    np.testing.assert_array_equal(after[:, out], before[:, out])
    assert not np.allclose(after[:, ~out], before[:, ~out])
    # nor does anybody else know of its vectors
    values = inputs()
    values[out] *= -3
    moved = models(spec, values=values).by_penalty
    assert not np.allclose(moved[:, ~out], before[:, ~out])  # they were trained on it
    values = inputs()
    place = int(np.flatnonzero(out)[0])
    values[place] += 7
    moved = models(spec, values=values).by_penalty
    others = out & (np.arange(36) != place)
    np.testing.assert_array_equal(moved[:, others], before[:, others])


def test_out_of_fold_scores_are_those_of_scikit_learn_without_the_fold() -> None:
    folds, labels = deal_folds(GROUPS), targets(TRAITS)
    found = models(TRAITS).by_penalty
    weights = class_weights(targets(LABELS)[folds != 1], LABELS)
    of_classes = models(LABELS).by_penalty
    values, out = inputs(), folds == 1
    for place in (0, 4):
        ridge = Ridge(alpha=PENALTIES[place]).fit(values[~out], labels[~out])
        expected = (values[out] - values[~out].mean(axis=0)) @ ridge.coef_.T
        np.testing.assert_allclose(found[place, out], expected, atol=1e-8)
        logistic = LogisticRegression(C=1 / PENALTIES[place], tol=1e-8)
        logistic.fit(values[~out], targets(LABELS)[~out, 0], sample_weight=weights[:, 0])
        expected = (values[out] - values[~out].mean(axis=0)) @ logistic.coef_[0]
        np.testing.assert_allclose(of_classes[place, out, 0], expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_the_map_is_the_weighted_sum_of_the_views(spec: TaskSpec) -> None:
    found = models(spec)
    assert found.names == ["text", "audio", ALL]
    weighed = found.weigh()
    weight, bias = found.fit(weighed)
    values, labels = inputs(), targets(spec)
    scores = np.zeros_like(labels) + weighed.bias
    for (view, place), share in zip({**VIEWS, ALL: slice(0, 7)}.items(), weighed.shares, strict=True):
        part, penalty = values[:, place], found.penalties[view]
        for output in range(spec.num_outputs):
            if spec.kind == "regression":
                coefficients = Ridge(alpha=penalty).fit(part, labels[:, output]).coef_
            elif spec.kind == "multi_label":
                logistic = LogisticRegression(C=1 / penalty, class_weight="balanced", tol=1e-9)
                coefficients = logistic.fit(part, labels[:, output]).coef_[0]
            else:
                logistic = LogisticRegression(C=1 / penalty, class_weight="balanced", tol=1e-9, max_iter=1000)
                coefficients = logistic.fit(part, labels.argmax(axis=1)).coef_[output]
            scores[:, output] += share * (part - part.mean(axis=0)) @ coefficients
    np.testing.assert_allclose(values @ weight.T + bias, scores, atol=2e-3)
    assert (weighed.shares >= 0).all()
    assert weighed.shares.any()


def test_labels_of_one_trait_may_be_missing() -> None:
    labels = targets(TRAITS)
    labels[::4, 1] = np.nan
    found = models(TRAITS, labels=labels)
    assert np.isfinite(found.by_penalty).all()
    known = np.isfinite(labels[:, 1])
    weight, _ = found.fit(found.weigh())
    shares = found.weigh().shares
    expected = np.zeros(7)
    for (view, place), share in zip({**VIEWS, ALL: slice(0, 7)}.items(), shares, strict=True):
        ridge = Ridge(alpha=found.penalties[view]).fit(inputs()[known, place], labels[known, 1])
        expected[place] += share * ridge.coef_
    np.testing.assert_allclose(weight[1], expected, atol=1e-8)


def test_a_view_that_is_given_counts_out_of_fold_and_is_not_in_the_map() -> None:
    labels = targets(LABEL)
    given = {"told": labels + np.random.default_rng(5).normal(size=labels.shape)}
    found = ViewModels(inputs(), labels, GROUPS, VIEWS, LABEL, given)
    assert found.names == ["text", "audio", ALL, "told"]
    assert set(found.penalties) == {"text", "audio", ALL}
    weighed = found.weigh()
    assert weighed.shares[3] > 0.5
    np.testing.assert_allclose(weighed.out_of_fold, np.einsum("v,vnc->nc", weighed.shares, found.scores) + weighed.bias)
    without = weighed.__class__(np.append(weighed.shares[:3], 0.0), weighed.bias, weighed.out_of_fold)
    np.testing.assert_array_equal(found.fit(weighed)[0], found.fit(without)[0])


@pytest.mark.parametrize("spec", [LABEL, LABELS], ids=lambda spec: spec.kind)
def test_what_is_given_is_raised_to_a_share_of_what_is_fitted(spec: TaskSpec) -> None:
    labels, generator = targets(spec), np.random.default_rng(6)
    given = {name: labels + generator.normal(size=labels.shape) for name in ("told", "shown")}
    found = ViewModels(inputs(), labels, GROUPS, VIEWS, spec, given)
    weighed = found.weigh(0.8)
    raised = found.raise_given(weighed, 4.0, 0.8)
    parts = raised.shares[:, None, None] * found.scores
    fitted, told = ((part - part.mean(axis=0)).std() for part in (parts[:3].sum(axis=0), parts[3:].sum(axis=0)))
    assert told == pytest.approx(4 * fitted)
    first, second = (each.shares / each.shares.max() for each in (weighed, raised))
    np.testing.assert_allclose(first[:3] / first[:3].sum(), second[:3] / second[:3].sum())  # among themselves as before
    np.testing.assert_allclose(raised.out_of_fold, parts.sum(axis=0) + raised.bias)
    again = weigh_views(parts.sum(axis=0)[None], labels, class_weights(labels, spec) ** 0.8, spec)
    assert again[0] == pytest.approx(1.0, abs=1e-3)  # scale and intercepts are the best
    np.testing.assert_allclose(again[1], raised.bias, atol=1e-3)
    assert found.raise_given(raised, 3.9) is raised  # says enough
    none = weighed.__class__(np.array([1.0, 0.0, 0.0, 0.0, 0.0]), weighed.bias, weighed.out_of_fold)
    counted = found.raise_given(none, 5.0).shares
    assert counted[3] == counted[4] > 0  # alike, where none counted before


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("num_clips", [1, 2])
def test_a_clip_or_two_give_a_constant(spec: TaskSpec, num_clips: int) -> None:
    labels = targets(spec)[:num_clips]
    found = ViewModels(inputs()[:num_clips], labels, GROUPS[:num_clips], VIEWS, spec)
    weight, bias = found.fit(found.weigh())
    assert np.isfinite([*weight.flat, *bias]).all()
    if spec.kind == "regression":
        np.testing.assert_allclose(inputs()[:1] @ weight.T + bias, labels.mean(axis=0, keepdims=True))


def test_one_view_has_no_view_of_all_beside_it() -> None:
    found = ViewModels(inputs(), targets(LABELS), GROUPS, {"text": slice(0, 7)}, LABELS)
    assert found.names == ["text"]
    assert len(found.scores) == 1


def test_a_view_of_constants_counts_nothing() -> None:
    values = inputs()
    values[:, 4:] = 0.3
    for spec in SPECS:
        found = models(spec, values=values)
        weighed = found.weigh()
        assert weighed.shares[1] == 0
        np.testing.assert_allclose(found.fit(weighed)[0][:, 4:], 0, atol=1e-9)
