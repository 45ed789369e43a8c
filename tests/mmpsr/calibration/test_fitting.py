from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax
from sklearn import metrics as sk

from mmpsr.calibration.calibration import Calibration, TaskCalibration
from mmpsr.calibration.fitting import fit_calibration, fit_temperature, fit_threshold
from mmpsr.decisions import decide_classes, decide_present, only_neutral
from mmpsr.metrics.definitions import evaluate
from mmpsr.tasks import AMBIVALENCE, EMOTION, PERSONALITY, TaskSpec

NAN = float("nan")
SIGMOID = EMOTION.model_copy(update={"loss": "binary_cross_entropy"})
SOFT = EMOTION.model_copy(update={"loss": "soft_cross_entropy"})
THREE = TaskSpec(kind="single_label", classes=("a", "b", "c"), loss="cross_entropy", metrics=())
MOODS = TaskSpec(kind="multi_label", classes=("calm", "joy", "fear"), loss="cross_entropy", metrics=(), neutral="calm")
CLASSIFICATION = {"emotion": EMOTION, "sigmoid": SIGMOID, "soft": SOFT, "ambivalence": AMBIVALENCE, "three": THREE}


def drawn(spec: TaskSpec, temperature: float, num_clips: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of logits that are `temperature` times too large, and labels drawn by the right ones."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(num_clips, spec.num_outputs)) - np.arange(spec.num_outputs) / 3
    if spec.loss == "binary_cross_entropy":
        targets = (generator.random(logits.shape) < expit(logits)).astype(float)
        return expit(temperature * logits), targets
    right = softmax(logits, axis=1)
    chosen = (generator.random((num_clips, 1)) > right.cumsum(axis=1)[:, :-1]).sum(axis=1)
    targets = np.eye(spec.num_outputs)[chosen]
    if spec.loss == "soft_cross_entropy":
        targets = right  # intensities in these shares
    return softmax(temperature * logits, axis=1), targets


def fitted(probabilities: np.ndarray, targets: np.ndarray, spec: TaskSpec) -> TaskCalibration:
    return fit_calibration({"task": probabilities}, {"task": targets}, {"task": spec}).tasks["task"]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("name", CLASSIFICATION)
def test_a_planted_temperature_is_found(name: str, temperature: float) -> None:
    spec = CLASSIFICATION[name]
    probabilities, targets = drawn(spec, temperature)
    assert fit_temperature(probabilities, targets, spec) == pytest.approx(temperature, rel=0.08)
    found = fitted(probabilities, targets, spec)
    assert found.losses is not None
    assert found.errors is not None
    assert found.losses[1] <= found.losses[0]
    # 3,000 clips in 15 bins; the outcome of soft targets is the top class' own share, which has no noise
    assert found.errors[1] < (0.01 if name == "soft" else 0.04)
    if temperature == 3.0:
        assert found.errors[0] > 3 * found.errors[1]


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_no_other_temperature_is_better(name: str) -> None:
    spec = CLASSIFICATION[name]
    probabilities, targets = drawn(spec, 2.0, 200, seed=3)
    found = fit_temperature(probabilities, targets, spec)
    grid = np.geomspace(0.1, 10, 200)
    if spec.loss == "binary_cross_entropy":
        odds = np.log(probabilities / (1 - probabilities))
        losses = [sk.log_loss(targets.ravel(), expit(odds / t).ravel()) for t in grid]
    else:
        # cross-entropy against one-hot or shares is scikit-learn's log loss with every class as a weighted clip
        weights = targets.ravel()
        labels = np.tile(np.arange(spec.num_outputs), len(targets))
        scaled = (softmax(np.log(probabilities) / t, axis=1).repeat(spec.num_outputs, axis=0) for t in grid)
        losses = [sk.log_loss(labels, p, sample_weight=weights) for p in scaled]
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=0.03)


def test_a_temperature_by_hand() -> None:
    # All clips have odds of 3 to 1 for the first class, and two thirds are of it: the best odds are 2 to 1,
    # 3^(1/T) = 2, T = ln 3 / ln 2.
    best = pytest.approx(np.log(3) / np.log(2), rel=1e-4)
    probabilities, targets = np.tile([0.75, 0.25], (300, 1)), np.eye(2)[[0, 0, 1] * 100]
    assert fit_temperature(probabilities, targets, AMBIVALENCE) == best
    # A clip loses -(2 ln 0.75 + ln 0.25)/3 = 0.65388 at T = 1 and 0.63651 at the best: 0.01737 less. To be beyond
    # chance at 5 % that needs 1.9207/0.01737 = 110.6 clips.
    assert stats.chi2.ppf(0.95, 1) / 2 == pytest.approx(1.9207, abs=1e-4)
    assert fit_temperature(probabilities[:108], targets[:108], AMBIVALENCE) == 1.0
    assert fit_temperature(probabilities[:111], targets[:111], AMBIVALENCE) == best
    # Sigmoids count every class: 3 classes at 0.75, present in two thirds of the clips, need a third of the clips.
    sigmoid = TaskSpec(kind="multi_label", classes=("a", "b", "c"), loss="binary_cross_entropy", metrics=())
    probabilities, targets = np.full((39, 3), 0.75), np.tile([[1.0], [1.0], [0.0]], (13, 3))
    assert fit_temperature(probabilities, targets, sigmoid) == best
    assert fit_temperature(probabilities[:36], targets[:36], sigmoid) == 1.0


def test_worthless_probabilities_are_flattened_and_faultless_ones_kept() -> None:
    probabilities, targets = np.tile([0.9, 0.1], (8, 1)), np.eye(2)[[0, 1, 1, 1] * 2]
    assert fit_temperature(probabilities, targets, AMBIVALENCE) == pytest.approx(10.0, rel=1e-3)
    right, labels = np.tile([[0.9, 0.1], [0.2, 0.8]], (100, 1)), np.tile(np.eye(2), (100, 1))
    assert fit_temperature(right, labels, AMBIVALENCE) == 1.0
    labels[0] = labels[1]  # one error, and sharper is better up to some temperature
    assert 0.1 < fit_temperature(right, labels, AMBIVALENCE) < 0.9


@pytest.mark.parametrize("name", CLASSIFICATION)
@pytest.mark.parametrize("seed", range(5))
def test_dev_is_never_worse(name: str, seed: int) -> None:
    spec = CLASSIFICATION[name]
    generator = np.random.default_rng(seed)
    probabilities, targets = drawn(spec, generator.uniform(0.2, 6), int(generator.integers(3, 60)), seed)
    found = fitted(probabilities, targets, spec)
    assert found.losses is not None
    assert found.losses[1] <= found.losses[0]
    calibration = Calibration(tasks={"task": found})
    metric = ("multilabel_macro_f1",) if spec.kind == "multi_label" else ("macro_f1",)
    values = calibration.apply("task", probabilities)
    plain, chosen = (evaluate(targets, values, spec, metric, t) for t in (None, calibration.thresholds("task")))
    assert chosen[metric[0]] >= plain[metric[0]] - 1e-9


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_one_class_only(name: str) -> None:
    spec = CLASSIFICATION[name]
    probabilities = drawn(spec, 1.0, 20)[0]
    targets = np.ones((20, 7)) if name == "sigmoid" else np.eye(spec.num_outputs)[np.zeros(20, dtype=int)]
    found = fitted(probabilities, targets, spec)
    assert found.temperature == 1.0
    assert found.losses is not None
    assert found.losses[0] == found.losses[1]
    assert "dev has one class only: the temperature stays 1" in found.notes
    stays = {
        "emotion": (1 / 7,) * 7,
        "soft": (1 / 7,) * 7,
        "sigmoid": (0.5,) * 7,
        "ambivalence": (0.5, 0.5),
        "three": None,
    }
    assert found.thresholds == stays[name]


def labelled_and_not(seed: int = 0) -> Iterator[tuple[str, TaskSpec, np.ndarray, np.ndarray]]:
    for name, spec in CLASSIFICATION.items():
        yield name, spec, *drawn(spec, 2.0, 80, seed)
    generator = np.random.default_rng(seed)
    yield "personality", PERSONALITY, generator.random((80, 5)), generator.random((80, 5))


def test_rows_without_a_label_or_a_number_change_nothing() -> None:
    order = np.random.default_rng(1).permutation(160)
    for name, spec, probabilities, targets in labelled_and_not():
        plain = fitted(probabilities, targets, spec)
        more_targets = np.concatenate([targets, np.full_like(targets, NAN)])[order]
        other = np.concatenate([probabilities, drawn(spec, 9.0, 80, 5)[0]])[order]
        found = fitted(other, more_targets, spec)
        assert found.num_clips == 80
        as_before(found, plain, name)
        if spec.kind != "regression":  # classification rows with one unknown class are unlabelled
            partly = targets.copy()
            partly[:, 0] = NAN
            as_before(fitted(other, np.concatenate([targets, partly])[order], spec), plain, name)
        broken = np.concatenate([probabilities, np.full_like(probabilities, NAN)])[order]
        found = fitted(broken, np.concatenate([targets, targets])[order], spec)
        assert found.notes[0] == "80 labelled dev clips have predictions that are no numbers"
        as_before(found, plain, name)


def as_before(found: TaskCalibration, plain: TaskCalibration, name: str) -> None:
    assert found.temperature == pytest.approx(plain.temperature, rel=1e-5), name
    assert found.thresholds == (None if plain.thresholds is None else pytest.approx(plain.thresholds, rel=1e-4)), name
    assert found.deviations == (None if plain.deviations is None else pytest.approx(plain.deviations)), name


def test_no_labelled_clip_at_all() -> None:
    for _, spec, probabilities, targets in labelled_and_not():
        for values, labels in ((probabilities, np.full_like(targets, NAN)), (probabilities[:0], targets[:0])):
            found = fitted(values, labels, spec)
            assert found.num_clips == 0
            assert found.temperature == 1.0
            assert found.thresholds is None
            assert found.notes == ("no labelled dev clip with a prediction: stays uncalibrated",)
            calibration = Calibration(tasks={"task": found})
            assert np.array_equal(calibration.apply("task", probabilities), probabilities)
            json.dumps(calibration.to_dict(), allow_nan=False)


def test_deviations_by_hand() -> None:
    # Residuals of openness 0.1 and -0.3: sqrt((0.01 + 0.09)/2); of the next only -0.2 is known; the others have none.
    scores, targets = np.full((2, 5), 0.5), np.full((2, 5), NAN)
    targets[:, 0], targets[0, 1] = [0.4, 0.8], 0.7
    found = fitted(scores, targets, PERSONALITY)
    assert found.form == "score"
    assert found.deviations is not None
    assert found.deviations[:2] == pytest.approx((np.sqrt(0.05), 0.2))
    assert found.deviations[2:] == (None, None, None)


def macro_f1(scores: np.ndarray, present: np.ndarray, threshold: float) -> float:
    return sk.f1_score(present, scores >= threshold, average="macro", labels=[0, 1], zero_division=0)


def best_macro_f1(scores: np.ndarray, present: np.ndarray) -> float:
    """Over a fine grid of thresholds."""
    decided = scores >= np.linspace(0, 1, 2001)[:, None]
    right = [(decided == side)[:, present == side].sum(axis=1) for side in (False, True)]
    sizes = [(decided == side).sum(axis=1) + (present == side).sum() for side in (False, True)]
    return float(np.mean([2 * both / size for both, size in zip(right, sizes, strict=True)], axis=0).max())


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_is_better(seed: int) -> None:
    generator = np.random.default_rng(seed)
    num_clips = int(generator.integers(2, 40))
    present = generator.random(num_clips) < 0.4
    scores = (0.3 * present + generator.random(num_clips)).clip(max=1)
    if seed % 2:
        scores = scores.round(1)  # with equal scores
    found = fit_threshold(scores, present, 0.5)
    values = np.unique(scores)
    tried = [*(values[1:] + values[:-1]) / 2, 0.5]
    best = max(macro_f1(scores, present, t) for t in tried)
    assert macro_f1(scores, present, found) == pytest.approx(best)
    equal = [t for t in tried if macro_f1(scores, present, t) > best - 1e-9]
    assert abs(found - 0.5) == pytest.approx(min(abs(t - 0.5) for t in equal))


def test_a_threshold_by_hand() -> None:
    # Present at 0.1, 0.3, 0.4, absent at 0.2. F1 of presence and of absence:
    #   from 0.15: 2*2/(3+3) and 0; from 0.25: 2*2/(3+2) and 2*1/(1+2); from 0.35: 2*1/(3+1) and 2*1/(1+3);
    #   from 0.5: 0 and 2*1/(1+4).
    scores, present = np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, False, True, True])
    assert fit_threshold(scores, present, 0.5) == pytest.approx(0.25)
    # Presence at 0.7 and 0.9: from 0.5 on (0.1, 0.7) all thresholds are as good; the default lies among them.
    assert fit_threshold(np.array([0.1, 0.7, 0.9]), np.array([False, True, True]), 0.5) == 0.5
    assert fit_threshold(np.array([0.1, 0.7, 0.9]), np.array([False, True, True]), 0.8) == pytest.approx(0.4)
    # Silenced clips are absent and give no midpoint: from 0.35, presence 2*1/(2+1) and absence 2*2/(2+3).
    silenced = np.array([-1.0, -1.0, 0.3, 0.4])
    assert fit_threshold(silenced, np.array([False, False, True, True]), 0.5) == pytest.approx(0.35)
    # A score that says nothing keeps the default.
    assert fit_threshold(np.full(4, 0.7), present, 0.3) == 0.3


def test_a_rare_class_keeps_its_threshold_and_says_so() -> None:
    probabilities, targets = drawn(SIGMOID, 1.0, 60)
    targets[:, 3] = 0.0
    targets[:4, 3] = 0.5
    found = fitted(probabilities, targets, SIGMOID)
    assert found.thresholds is not None
    assert found.thresholds[3] == 0.5
    assert found.notes == (
        "Fear is present in 4 and absent in 56 dev clips, fewer than 5 of either: its threshold stays 0.5",
    )
    targets[4, 3] = 0.1
    found = fitted(probabilities, targets, SIGMOID)
    assert found.thresholds is not None
    assert found.thresholds[3] != 0.5
    assert found.notes == ()
    # absence is as necessary
    targets[:, 3] = 1.0
    targets[:4, 3] = 0.0
    assert "present in 56 and absent in 4" in fitted(probabilities, targets, SIGMOID).notes[0]


def test_two_classes_have_thresholds_that_add_up_to_one_and_decide_alike() -> None:
    generator = np.random.default_rng(0)
    present = generator.random(400) < 0.2
    log_odds = generator.normal(size=400) + 1.5 * present - 3
    probabilities = np.stack([expit(-log_odds), expit(log_odds)], axis=1)
    targets = np.eye(2)[present.astype(int)]
    calibration = fit_calibration({"a": probabilities}, {"a": targets}, {"a": AMBIVALENCE})
    thresholds, values = calibration.thresholds("a"), calibration.apply("a", probabilities)
    assert thresholds is not None
    assert thresholds.sum() == pytest.approx(1.0)
    assert thresholds[1] < 0.4
    assert np.array_equal(decide_classes(values, thresholds) == 1, values[:, 1] > thresholds[1])
    plain, chosen = (evaluate(targets, values, AMBIVALENCE, ("macro_f1", "uar"), t) for t in (None, thresholds))
    assert chosen["macro_f1"] > plain["macro_f1"] + 5
    assert chosen["macro_f1"] == pytest.approx(100 * best_macro_f1(values[:, 1], present))


def test_sigmoids_of_two_classes_are_decided_by_their_proportion() -> None:
    spec = AMBIVALENCE.model_copy(update={"loss": "binary_cross_entropy"})
    probabilities, targets = drawn(spec, 1.0, 300)
    targets = np.eye(2)[targets.argmax(axis=1)]
    calibration = fit_calibration({"a": probabilities}, {"a": targets}, {"a": spec})
    thresholds, values = calibration.thresholds("a"), calibration.apply("a", probabilities)
    assert thresholds is not None
    decided = decide_classes(values, thresholds) == 1
    present = targets[:, 1] == 1
    best = best_macro_f1(values[:, 1] / values.sum(axis=1), present)
    assert sk.f1_score(present, decided, average="macro") == pytest.approx(best)


def test_more_than_two_single_label_classes_have_no_thresholds() -> None:
    assert fitted(*drawn(THREE, 1.0, 50), THREE).thresholds is None


def test_thresholds_of_a_softmax_know_the_neutral_rule() -> None:
    # Calm has at least 2/3 in the first sixty clips, which silences joy there whatever its threshold: joy is told from
    # no joy among the other clips only, between 0.25 and 0.3, although the silenced clips have 0.32 of it.
    silenced = np.tile([0.67, 0.32, 0.01], (60, 1))
    others = np.concatenate([np.tile([0.4, 0.25, 0.35], (8, 1)), np.tile([0.35, 0.3, 0.35], (8, 1))])
    probabilities = np.concatenate([silenced, others])
    joy = np.repeat([0.0, 0.0, 1.0], [60, 8, 8])
    targets = np.stack([np.ones(76), joy / 2, np.zeros(76)], axis=1)  # calm prevails, so the temperature is 1
    calibration = fit_calibration({"m": probabilities}, {"m": targets}, {"m": MOODS})
    values, thresholds = calibration.apply("m", probabilities), calibration.thresholds("m")
    assert thresholds is not None
    assert only_neutral(values, MOODS).tolist() == [True] * 60 + [False] * 16
    assert thresholds[1] == pytest.approx(0.275)
    assert (decide_present(values, MOODS, thresholds)[:, 1] == joy).all()
    assert thresholds[2] == pytest.approx(1 / 3)  # nobody fears


def test_fitting_twice_gives_the_same() -> None:
    for _, spec, probabilities, targets in labelled_and_not():
        assert fitted(probabilities, targets, spec) == fitted(probabilities.copy(), targets.copy(), spec)


def test_inputs_are_left_as_they_are() -> None:
    for _, spec, probabilities, targets in labelled_and_not():
        before = probabilities.copy(), targets.copy()
        fitted(probabilities, targets, spec)
        assert np.array_equal(probabilities, before[0])
        assert np.array_equal(targets, before[1])


def test_every_task_is_fitted_by_itself() -> None:
    predicted, targets, tasks = {}, {}, {}
    for name, spec, probabilities, labels in labelled_and_not():
        predicted[name], targets[name], tasks[name] = probabilities, labels, spec
    found = fit_calibration(predicted, targets, tasks)
    assert list(found.tasks) == list(tasks)
    for name, spec in tasks.items():
        assert found.tasks[name] == fitted(predicted[name], targets[name], spec)
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
