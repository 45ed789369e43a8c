from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk
from torchmetrics.functional import classification as tm

from mmpsr.decisions import decide_present
from mmpsr.metrics.definitions import METRICS, evaluate, labeled_rows
from mmpsr.tasks import AMBIVALENCE, EMOTION, PERSONALITY, TaskSpec

NAN = float("nan")
THREE = TaskSpec(kind="single_label", classes=("a", "b", "c"), loss="cross_entropy", metrics=())
MOODS = TaskSpec(kind="multi_label", classes=("calm", "joy", "fear"), loss="cross_entropy", metrics=(), neutral="calm")


def figure(name: str, targets: np.ndarray, predicted: np.ndarray, spec: TaskSpec) -> float:
    return evaluate(targets, predicted, spec, (name,))[name]


def single_label(num_classes: int, seed: int, num_clips: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """One-hot targets with unequal classes, and probabilities that know something of them."""
    generator = np.random.default_rng(seed)
    chances = np.arange(1, num_classes + 1) / np.arange(1, num_classes + 1).sum()
    targets = np.eye(num_classes)[generator.choice(num_classes, num_clips, p=chances)]
    predicted = generator.random((num_clips, num_classes)) + 0.4 * targets
    return targets, predicted / predicted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_classes", [2, 7])
def test_single_label_figures_are_torchmetrics(num_classes: int, seed: int) -> None:
    targets, predicted = single_label(num_classes, seed)
    spec = EMOTION if num_classes == 7 else AMBIVALENCE
    y, p = torch.from_numpy(targets.argmax(axis=1)), torch.from_numpy(predicted)
    expected = {
        "macro_f1": tm.multiclass_f1_score(p, y, num_classes, average="macro"),
        "weighted_f1": tm.multiclass_f1_score(p, y, num_classes, average="weighted"),
        "uar": tm.multiclass_recall(p, y, num_classes, average="macro"),
        "positive_f1": tm.binary_f1_score(p.argmax(dim=1) == num_classes - 1, y == num_classes - 1),
        "negative_f1": tm.binary_f1_score(p.argmax(dim=1) == 0, y == 0),
        "average_precision": tm.binary_average_precision(p[:, -1], (y == num_classes - 1).long()),
    }
    found = evaluate(targets, predicted, spec, tuple(expected))
    assert found == pytest.approx({name: 100 * value.item() for name, value in expected.items()}, rel=1e-5)
    assert len(set(found.values())) == 6


def test_single_label_figures_by_hand() -> None:
    # actual a a a b b, decided a a b b c.
    # F1: a 2*2/(3+2) = 0.8; b 2*1/(2+2) = 0.5; c 0. Macro 1.3/3, weighted (3*0.8 + 2*0.5)/5 = 0.68.
    # Recall a 2/3, b 1/2, c does not occur: UAR 7/12.
    targets, predicted = np.eye(3)[[0, 0, 0, 1, 1]], np.eye(3)[[0, 0, 1, 1, 2]]
    found = evaluate(targets, predicted, THREE, ("macro_f1", "weighted_f1", "uar", "positive_f1"))
    assert found == pytest.approx({"macro_f1": 130 / 3, "weighted_f1": 68.0, "uar": 700 / 12, "positive_f1": 0.0})


def test_a_class_that_nobody_names_is_left_out() -> None:
    # actual a b b, decided a b a: F1 of a 2/3, of b 2/3; c does not enter.
    targets, predicted = np.eye(3)[[0, 1, 1]], np.eye(3)[[0, 1, 0]]
    assert figure("macro_f1", targets, predicted, THREE) == pytest.approx(200 / 3)
    assert figure("macro_f1", targets, targets, THREE) == 100.0
    assert figure("uar", targets, targets, THREE) == 100.0


def test_bah_figures_by_hand() -> None:
    # TP 2, FN 1, FP 1, TN 1: F1 of present 4/6, of absent 2/4, AVGF1 their mean 7/12.
    targets = np.eye(2)[[1, 1, 1, 0, 0]]
    predicted = np.array([[0.2, 0.8], [0.1, 0.9], [0.7, 0.3], [0.4, 0.6], [0.8, 0.2]])
    assert figure("positive_f1", targets, predicted, AMBIVALENCE) == pytest.approx(200 / 3)
    assert figure("macro_f1", targets, predicted, AMBIVALENCE) == pytest.approx(700 / 12)


def graded(seed: int, num_clips: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Multi-label intensities and a softmax's probabilities."""
    generator = np.random.default_rng(seed)
    targets = generator.random((num_clips, 7))
    targets = np.where(targets > 0.7, targets, 0.0)
    targets[:, 0] = targets[:, 1:].sum(axis=1) == 0
    logits = 3 * targets + generator.normal(size=(num_clips, 7))
    return targets, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("num_clips", [1, 7, 300])
@pytest.mark.parametrize("seed", range(3))
def test_figures_are_scikit_learns_to_the_last_digit(seed: int, num_clips: int) -> None:
    targets, predicted = graded(seed, num_clips)
    present, decided = targets > 0, decide_present(predicted, EMOTION)
    columns = [(present[:, c], decided[:, c]) for c in range(1, 7)]
    macro = [sk.f1_score(*pair, labels=range(2), average="macro", zero_division=0) for pair in columns]
    weighted = [sk.f1_score(*pair, average="weighted", zero_division=0) for pair in columns]
    assert figure("multilabel_macro_f1", targets, predicted, EMOTION) == 100 * np.mean(macro)
    assert figure("multilabel_weighted_f1", targets, predicted, EMOTION) == 100 * np.mean(weighted)
    targets, predicted = single_label(7, seed, num_clips)
    predicted = predicted.round(1)  # equal probabilities
    actual, chosen = targets.argmax(axis=1), predicted.argmax(axis=1)
    expected = {
        "macro_f1": sk.f1_score(actual, chosen, labels=np.union1d(actual, chosen), average="macro", zero_division=0),
        "weighted_f1": sk.f1_score(actual, chosen, average="weighted", zero_division=0),
        "positive_f1": sk.f1_score(actual == 6, chosen == 6, zero_division=0),
        "negative_f1": sk.f1_score(actual == 0, chosen == 0, zero_division=0),
    }
    if (actual == 6).any():
        expected["average_precision"] = sk.average_precision_score(actual == 6, predicted[:, -1])
    found = evaluate(targets, predicted, EMOTION, tuple(expected))
    assert found == {name: 100 * value for name, value in expected.items()}


@pytest.mark.parametrize("seed", range(3))
def test_weighted_accuracy_is_scikit_learns_per_emotion(seed: int) -> None:
    targets, predicted = graded(seed)
    present, decided = targets > 0, decide_present(predicted, EMOTION)
    accuracy = [sk.balanced_accuracy_score(present[:, c], decided[:, c]) for c in range(1, 7)]
    assert figure("multilabel_weighted_accuracy", targets, predicted, EMOTION) == pytest.approx(100 * np.mean(accuracy))


@pytest.mark.parametrize("seed", range(3))
def test_mosei_weighted_f1_is_torchmetrics_per_emotion(seed: int) -> None:
    targets, predicted = graded(seed)
    targets[:, 5] = 0.0  # never present
    present, decided = targets > 0, decide_present(predicted, EMOTION)
    f1 = [
        tm.multiclass_f1_score(torch.tensor(decided[:, c]).long(), torch.tensor(present[:, c]).long(), 2, "weighted")
        for c in range(1, 7)
    ]
    assert figure("multilabel_weighted_f1", targets, predicted, EMOTION) == pytest.approx(100 * np.mean(f1), rel=1e-5)


def test_mosei_weighted_f1_by_hand() -> None:
    # joy, present in 3 of 5: F1 of presence 2/3 (TP 2, FN 1, FP 1), of absence 2/4 (TN 1): (3 * 2/3 + 2 * 1/2) / 5.
    # fear, present in none and decided in 1: F1 of absence 2 * 4 / (2 * 4 + 1) = 8/9, weight 5.
    targets = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]], dtype=float)
    predicted = np.array([[0.3, 0.4, 0.3], [0.3, 0.4, 0.3], [0.5, 0.2, 0.3], [0.3, 0.4, 0.3], [0.3, 0.2, 0.5]])
    assert figure("multilabel_weighted_f1", targets, predicted, MOODS) == pytest.approx(100 * (0.6 + 8 / 9) / 2)


def test_both_f1_of_two_classes_by_hand() -> None:
    # TP 2, FN 1, FP 1, TN 1: F1 of present 4/6, of absent 2/4; one class that nobody names has 0.
    targets, predicted = np.eye(2)[[1, 1, 1, 0, 0]], np.eye(2)[[1, 1, 0, 1, 0]]
    assert figure("negative_f1", targets, predicted, AMBIVALENCE) == pytest.approx(50.0)
    assert figure("negative_f1", targets[:2], predicted[:2], AMBIVALENCE) == 0.0
    assert figure("positive_f1", targets[4:], predicted[4:], AMBIVALENCE) == 0.0


def test_the_usual_average_precision_by_hand() -> None:
    # 0.9 true; 0.6 twice, one of them true; 0.1 false. Recall 1/2 at precision 1, then 1 at 2/3: 1/2 + 1/2 * 2/3.
    targets, positive = np.eye(2)[[1, 0, 1, 0]], np.array([0.9, 0.6, 0.6, 0.1])
    predicted = np.stack([1 - positive, positive], axis=1)
    assert figure("average_precision", targets, predicted, AMBIVALENCE) == pytest.approx(100 * 5 / 6)
    assert np.isnan(figure("average_precision", np.eye(2)[[0, 0]], predicted[:2], AMBIVALENCE))
    assert figure("average_precision", np.eye(2)[[1, 1]], predicted[:2], AMBIVALENCE) == 100.0


def test_mosei_figures_by_hand() -> None:
    # Three classes: present from 1/3, calm alone from 2/3; calm itself is not scored. Decided, by clip:
    # joy, joy + fear, joy, none (calm 0.7), fear.
    predicted = np.array([[0.3, 0.5, 0.2], [0.2, 0.4, 0.4], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.3, 0.1, 0.6]])
    # Actual: joy, joy (intensity 0.1 counts), none, joy, fear.
    targets = np.array([[0, 1, 0], [0, 0.1, 0], [1, 0, 0], [0, 0.5, 0], [0, 0, 0.3]])
    # joy: TP 2, FN 1, FP 1, TN 1, P 3, N 2: (2 * 2/3 + 1) / 4 = 7/12. F1 4/6 and 2/4: 7/12.
    # fear: TP 1, FN 0, FP 1, TN 3, P 1, N 4: (1 * 4/1 + 3) / 8 = 7/8. F1 2/3 and 6/7: 16/21.
    accuracy = figure("multilabel_weighted_accuracy", targets, predicted, MOODS)
    assert accuracy == pytest.approx(100 * (7 / 12 + 7 / 8) / 2)
    assert figure("multilabel_macro_f1", targets, predicted, MOODS) == pytest.approx(100 * (7 / 12 + 16 / 21) / 2)


def test_an_emotion_always_or_never_present_has_no_weighted_accuracy() -> None:
    predicted = np.array([[0.3, 0.5, 0.2], [0.2, 0.4, 0.4], [0.7, 0.2, 0.1]])
    joy = np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0]])
    # joy: TP 1, FN 1, FP 1, TN 0, P 2, N 1: (1 * 1/2 + 0) / 2 = 0.25; fear never occurs.
    assert figure("multilabel_weighted_accuracy", joy, predicted, MOODS) == pytest.approx(25.0)
    # fear is decided once: F1 of its absence 2 * 2 / (3 + 2) = 0.8, of its presence 0; joy 2/4 and 0.
    assert figure("multilabel_macro_f1", joy, predicted, MOODS) == pytest.approx(100 * (0.25 + 0.4) / 2)
    always = joy + np.array([0, 0, 1])
    assert figure("multilabel_weighted_accuracy", always, predicted, MOODS) == pytest.approx(25.0)
    assert np.isnan(figure("multilabel_weighted_accuracy", np.eye(3)[[0, 0, 0]], predicted, MOODS))


def test_bah_average_precision_by_hand() -> None:
    # Positives at 0.9 and 0.4, negatives at 0.6 and 0.1. Thresholds (>=) up to the score, from high to low:
    #   above 0.9: nothing predicted, recall 0, precision 0;   up to 0.9: recall 0.5, precision 1;
    #   up to 0.6: recall 0.5, precision 1/2;   up to 0.4: recall 1, precision 2/3;   up to 0.1: recall 1, 1/2.
    # Trapezoid: 0.5 * (0 + 1)/2 + 0.5 * (1/2 + 2/3)/2 = 0.25 + 7/24 = 13/24 (scikit-learn: 0.5 + 0.5 * 2/3 = 5/6).
    targets = np.eye(2)[[1, 0, 1, 0]]
    positive = np.array([0.9, 0.6, 0.4, 0.1])
    predicted = np.stack([1 - positive, positive], axis=1)
    assert figure("bah_average_precision", targets, predicted, AMBIVALENCE) == pytest.approx(1300 / 24)
    assert sk.average_precision_score(targets[:, 1], positive) == pytest.approx(5 / 6)


def test_bah_average_precision_has_a_thousand_thresholds() -> None:
    targets = np.eye(2)[[1, 0]]
    # The last threshold is 0.999: a positive above it is always predicted, so recall never falls to 0 and the area is
    # empty; at 0.9989 it does, and the step from (0, 0) to (1, 1) has the area 0.5.
    for positive, expected in ((0.9995, 0.0), (0.999, 0.0), (0.9989, 50.0)):
        predicted = np.array([[1 - positive, positive], [1.0, 0.0]])
        assert figure("bah_average_precision", targets, predicted, AMBIVALENCE) == pytest.approx(expected)
    # 0.3001 and 0.3009 lie between the same two thresholds: (0, 0) to (1, 1/2) at once.
    predicted = np.array([[0.6991, 0.3009], [0.6999, 0.3001]])
    assert figure("bah_average_precision", targets, predicted, AMBIVALENCE) == pytest.approx(25.0)


def test_bah_average_precision_is_a_loop_over_thresholds() -> None:
    targets, predicted = single_label(2, seed=5)
    points = []
    for step in range(1000):
        positive = predicted[:, 1] >= step / 1000
        precision = targets[positive, 1].mean() if positive.any() else 0.0
        points.append((targets[positive, 1].sum() / targets[:, 1].sum(), precision))
    area = sum((a[0] - b[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))
    assert figure("bah_average_precision", targets, predicted, AMBIVALENCE) == pytest.approx(100 * area)
    assert np.isnan(figure("bah_average_precision", np.eye(2)[[0, 0]], predicted[:2], AMBIVALENCE))


def traits(seed: int, num_clips: int = 100) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.random((num_clips, 5))
    predicted = 0.6 * targets + 0.3 * generator.random((num_clips, 5)) + np.linspace(0, 0.3, 5)
    return targets, predicted


@pytest.mark.parametrize("seed", range(3))
def test_trait_figures_are_scipys_and_scikit_learns(seed: int) -> None:
    targets, predicted = traits(seed)
    known = np.random.default_rng(seed + 10).random(targets.shape) < 0.7
    errors, concordance = [], []
    for c in range(5):
        y, p = targets[known[:, c], c], predicted[known[:, c], c]
        errors.append(sk.mean_absolute_error(y, p))
        # CCC = rho * C_b, C_b = 2 / (v + 1/v + u^2), v the ratio of scales and u the shift over their geometric mean.
        v, u = y.std() / p.std(), (y.mean() - p.mean()) / np.sqrt(y.std() * p.std())
        concordance.append(stats.pearsonr(y, p).statistic * 2 / (v + 1 / v + u**2))
    targets = np.where(known, targets, NAN)
    assert figure("mean_accuracy", targets, predicted, PERSONALITY) == pytest.approx(100 * (1 - np.mean(errors)))
    assert figure("mean_ccc", targets, predicted, PERSONALITY) == pytest.approx(100 * np.mean(concordance))


def test_trait_figures_by_hand() -> None:
    # Trait 1: y 0, 0.4, p 0.2, 0.4: population variances 0.04 and 0.01, covariance 0.02, means 0.2 and 0.3:
    #   CCC 2 * 0.02 / (0.04 + 0.01 + 0.01) = 2/3 (sample moments: 0.08 / 0.11); MAE 0.1.
    # Trait 2: y 0.5, 0.9, p 0.9, 0.5: variances 0.04, covariance -0.04, equal means: CCC -1; MAE 0.4.
    targets = np.array([[0.0, 0.5], [0.4, 0.9]])
    predicted = np.array([[0.2, 0.9], [0.4, 0.5]])
    spec = PERSONALITY.model_copy(update={"classes": ("openness", "extraversion")})
    assert figure("mean_ccc", targets, predicted, spec) == pytest.approx(100 * (2 / 3 - 1) / 2)
    assert figure("mean_accuracy", targets, predicted, spec) == pytest.approx(75.0)


def test_traits_without_a_label_do_not_count() -> None:
    targets, predicted = traits(seed=0)
    targets[:, 3] = NAN
    targets[:10] = NAN
    targets[10:20, 0] = NAN
    rest = [0, 1, 2, 4]
    spec = PERSONALITY.model_copy(update={"classes": tuple("abde")})
    for name in ("mean_accuracy", "mean_ccc"):
        assert figure(name, targets, predicted, PERSONALITY) == figure(name, targets[:, rest], predicted[:, rest], spec)


def test_a_constant_trait_agrees_with_nothing() -> None:
    constant = np.full((4, 5), 0.5)
    assert figure("mean_ccc", constant, constant, PERSONALITY) == 0.0
    assert figure("mean_ccc", traits(0, 4)[0], constant, PERSONALITY) == 0.0


@pytest.mark.parametrize("name", ["mean_accuracy", "mean_ccc"])
def test_a_prediction_that_is_not_a_number_shows(name: str) -> None:
    targets, predicted = traits(seed=0)
    predicted[5, 2] = NAN
    assert np.isnan(figure(name, targets, predicted, PERSONALITY))


@pytest.mark.parametrize("name", [name for name in METRICS if not name.startswith("mean")])
def test_a_probability_that_is_not_a_number_shows(name: str) -> None:
    spec = EMOTION if name.startswith("multilabel") else AMBIVALENCE
    targets, predicted = graded(0) if spec is EMOTION else single_label(2, 0)
    assert np.isfinite(figure(name, targets, predicted, spec))
    predicted[5, 0] = NAN
    assert np.isnan(figure(name, targets, predicted, spec))
    targets[5] = NAN  # without a label it does not count
    assert np.isfinite(figure(name, targets, predicted, spec))


SPECS = {name: EMOTION if name.startswith("multilabel") else AMBIVALENCE for name in METRICS} | dict.fromkeys(
    ("mean_accuracy", "mean_ccc"), PERSONALITY
)


@pytest.mark.parametrize("name", METRICS)
def test_unlabelled_rows_and_the_order_of_clips_change_nothing(name: str) -> None:
    spec = SPECS[name]
    targets, predicted = {7: graded, 5: traits}.get(spec.num_outputs, lambda seed: single_label(2, seed))(0)
    plain = figure(name, targets, predicted, spec)
    unlabelled = np.full_like(targets, NAN)
    order = np.random.default_rng(0).permutation(2 * len(targets))
    both = np.concatenate([targets, unlabelled])[order], np.concatenate([predicted, predicted[::-1]])[order]
    assert figure(name, *both, spec) == pytest.approx(plain)
    assert np.isnan(figure(name, unlabelled, predicted, spec))
    assert figure(name, targets.astype(np.float32), predicted.astype(np.float32), spec) == pytest.approx(
        plain, rel=0.01
    )


@pytest.mark.parametrize("name", [name for name in METRICS if name != "bah_average_precision"])
def test_perfect_predictions_score_100(name: str) -> None:
    spec = SPECS[name]
    targets = {7: np.eye(7), 5: traits(0)[0], 2: np.eye(2)}[spec.num_outputs]
    assert figure(name, targets, targets, spec) == pytest.approx(100.0)


def test_labeled_rows() -> None:
    targets = np.array([[0.0, 1.0], [NAN, 1.0], [NAN, NAN]])
    assert labeled_rows(targets, AMBIVALENCE).tolist() == [True, False, False]
    assert labeled_rows(targets, PERSONALITY).tolist() == [True, True, False]


def test_unknown_metrics_are_errors() -> None:
    with pytest.raises(KeyError, match="accuracy"):
        evaluate(np.eye(2), np.eye(2), AMBIVALENCE, ("accuracy",))


def test_thresholds_of_two_classes_decide_single_label_figures() -> None:
    # Present from 0.3 (0.7 and 0.3): the third clip too, so TP 3, FP 1, TN 1: F1 of present 6/7, of absent 2/3.
    targets = np.eye(2)[[1, 1, 1, 0, 0]]
    predicted = np.array([[0.2, 0.8], [0.1, 0.9], [0.65, 0.35], [0.4, 0.6], [0.8, 0.2]])
    names = ("macro_f1", "weighted_f1", "uar", "positive_f1", "bah_average_precision")
    found = evaluate(targets, predicted, AMBIVALENCE, names, np.array([0.7, 0.3]))
    plain = evaluate(targets, predicted, AMBIVALENCE, names)
    assert found["macro_f1"] == pytest.approx(100 * (6 / 7 + 2 / 3) / 2)
    assert found["weighted_f1"] == pytest.approx(100 * (3 * 6 / 7 + 2 * 2 / 3) / 5)
    assert found["uar"] == pytest.approx(75.0)
    assert found["positive_f1"] == pytest.approx(600 / 7)
    assert plain["positive_f1"] == pytest.approx(200 / 3)
    assert found["bah_average_precision"] == plain["bah_average_precision"]  # has thresholds of its own


def test_thresholds_of_several_labels_say_what_is_present_but_not_what_is_most_probable() -> None:
    predicted = np.array([[0.2, 0.5, 0.3], [0.1, 0.5, 0.4], [0.3, 0.2, 0.5], [0.5, 0.3, 0.2]])
    targets = np.array([[0.0, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 1]])
    thresholds = np.array([0.9, 0.45, 0.15])
    names = ("multilabel_macro_f1", "multilabel_weighted_accuracy")
    # joy from 0.45: the first two, all right. fear from 0.15: all four, P 3, N 1: F1 6/7 and 0, accuracy 1/2.
    found = evaluate(targets, predicted, MOODS, names, thresholds)
    assert found == pytest.approx({names[0]: 100 * (1 + 3 / 7) / 2, names[1]: 75.0})
    assert found != pytest.approx(evaluate(targets, predicted, MOODS, names))
    single, names = np.eye(3)[[1, 2, 2, 0]], ("macro_f1", "weighted_f1", "uar", "positive_f1")
    assert evaluate(single, predicted, MOODS, names, thresholds) == evaluate(single, predicted, MOODS, names)


@pytest.mark.parametrize("name", ["mean_accuracy", "mean_ccc"])
def test_regression_has_no_thresholds(name: str) -> None:
    targets, predicted = traits(seed=0)
    found = evaluate(targets, predicted, PERSONALITY, (name,), np.full(5, 0.9))
    assert found[name] == figure(name, targets, predicted, PERSONALITY)
