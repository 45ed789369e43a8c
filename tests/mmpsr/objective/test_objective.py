from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional

from mmpsr.batch import Batch, Predictions
from mmpsr.objective.config import ObjectiveConfig, SemiSupervisionConfig
from mmpsr.objective.objective import Objective
from mmpsr.objective.pseudo_labels import SemiSupervision
from mmpsr.objective.supervised import balanced_weights, supervised_loss
from mmpsr.tasks import AMBIVALENCE, BUILTIN_TASKS, EMOTION, PERSONALITY, TaskSpec
from tests.support.paper_loss import pseudo_label_loss

NAN = float("nan")
SOFT = EMOTION.model_copy(update={"loss": "soft_cross_entropy"})
BINARY = EMOTION.model_copy(update={"loss": "binary_cross_entropy"})
SQUARED = PERSONALITY.model_copy(update={"loss": "mse"})
SPECS = {
    "emotion": EMOTION,
    "soft": SOFT,
    "binary": BINARY,
    "personality": PERSONALITY,
    "squared": SQUARED,
    "ambivalence": AMBIVALENCE,
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def draw(spec: TaskSpec, num_rows: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions, targets (intensities sum to 1, some are 0) and targets with every third row unknown."""
    predicted = random(num_rows, spec.num_outputs)
    targets = random(num_rows, spec.num_outputs, seed=1)
    if spec.kind != "regression":
        predicted = 6 * predicted - 3
        targets = targets * (targets > 0.4)
        targets[:, 0] += 0.01
        targets = targets / targets.sum(dim=1, keepdim=True)
    if spec.kind == "single_label":
        targets = functional.one_hot(targets.argmax(dim=1), spec.num_outputs).float()
    partly = targets.clone()
    partly[::3] = NAN
    return predicted, targets, partly


def value(spec: TaskSpec, predicted: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Losses by torch, summed."""
    if spec.kind == "regression":
        loss = functional.l1_loss if spec.loss == "mae" else functional.mse_loss
        return loss(predicted, targets, reduction="sum")
    if spec.loss == "binary_cross_entropy":
        present = (targets > 0).to(predicted.dtype)
        sides = None if weights is None else torch.where(present > 0, weights[1], weights[0])
        smooth = present * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(predicted, smooth, sides, reduction="sum") / spec.num_outputs
    return functional.cross_entropy(
        predicted,
        targets.argmax(dim=1) if spec.loss == "cross_entropy" else targets,
        None if weights is None else weights[1],
        reduction="sum",
        label_smoothing=smoothing,
    )


@each_spec
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_supervised_losses_are_torchs_on_labelled_rows(spec: TaskSpec, weighted: bool, smoothing: float) -> None:
    predicted, targets, partly = draw(spec)
    weights = random(2, spec.num_outputs, seed=2) + 0.5 if weighted else None
    labelled = torch.isfinite(partly).all(dim=1)
    found = supervised_loss(predicted, partly, spec, weights, smoothing)
    expected = value(spec, predicted[labelled], targets[labelled], weights, smoothing)
    torch.testing.assert_close(found.total, expected)
    # 40 rows less those at 0, 3, ... 39: 26 remain.
    assert found.count.item() == 26 * (spec.num_outputs if spec.kind == "regression" else 1)


def test_cross_entropy_by_hand() -> None:
    # softmax (log 1, log 3) = (0.25, 0.75); targets 0.6 / 0.4 have their largest first: -log 0.25 = 1.386294.
    # Soft: -0.6 log 0.25 - 0.4 log 0.75 = 0.831777 + 0.115073 = 0.946850. The second row is unknown.
    spec = TaskSpec(kind="multi_label", classes=("a", "b"), loss="cross_entropy", metrics=())
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, -5.0]])
    labels = torch.tensor([[0.6, 0.4], [NAN, 0.4]])
    found = supervised_loss(logits, labels, spec)
    assert (found.total.item(), found.count.item()) == (pytest.approx(1.386294), 1)
    soft = spec.model_copy(update={"loss": "soft_cross_entropy"})
    assert supervised_loss(logits, labels, soft).mean().item() == pytest.approx(0.946850, abs=1e-6)
    # Intensities need not sum to 1.
    assert supervised_loss(logits, 0.5 * labels, soft).mean().item() == pytest.approx(0.946850, abs=1e-6)


def test_traits_count_one_by_one() -> None:
    # |0.5 - 0.25| + |0.5 - 1.0| = 0.75 over 2 known traits; squared 0.0625 + 0.25 = 0.3125.
    scores, labels = torch.full((2, 3), 0.5), torch.tensor([[0.25, NAN, 1.0], [NAN, NAN, NAN]])
    found = supervised_loss(scores, labels, PERSONALITY)
    assert (found.total.item(), found.count.item(), found.mean().item()) == (0.75, 2, 0.375)
    assert supervised_loss(scores, labels, SQUARED).total.item() == 0.3125


@each_spec
def test_losses_of_half_precision_predictions_are_computed_in_float(spec: TaskSpec) -> None:
    predicted, _, partly = draw(spec)
    half = predicted.bfloat16()
    for loss in (supervised_loss, pseudo_label_loss):
        found = loss(half, partly, spec).total
        assert found.dtype == torch.float32
        assert torch.equal(found, loss(half.float(), partly, spec).total)


@each_spec
def test_losses_of_double_predictions_are_computed_in_double(spec: TaskSpec) -> None:
    predicted, targets, _ = draw(spec)
    weights = random(2, spec.num_outputs, seed=2).double()
    shares = targets.double() if spec.kind == "regression" else targets / targets.double().sum(dim=1, keepdim=True)
    found = supervised_loss(predicted.double(), targets, spec, weights, 0.1).total
    expected = value(spec, predicted.double(), shares, weights, 0.1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@each_spec
def test_sums_over_rows_add_up(spec: TaskSpec) -> None:
    predicted, _, partly = draw(spec)
    sure = spec.model_copy(update={"threshold": 0.6})
    for loss in (supervised_loss, pseudo_label_loss):
        whole, parts = loss(predicted, partly, sure), [slice(0, 1), slice(1, 17), slice(17, 40)]
        pieces = [loss(predicted[rows], partly[rows], sure) for rows in parts]
        assert whole.count > 0
        assert sum(piece.count.item() for piece in pieces) == whole.count
        torch.testing.assert_close(torch.stack([piece.total for piece in pieces]).sum(), whole.total)


def test_balanced_weights_are_scikit_learns() -> None:
    classes = np.array([0, 0, 0, 0, 2, 2, 1])
    labels = functional.one_hot(torch.from_numpy(classes), 3).float()
    labels = torch.cat([labels, torch.full((3, 3), NAN)])
    spec = TaskSpec(kind="single_label", classes=("a", "b", "c"), loss="cross_entropy", metrics=())
    expected = compute_class_weight("balanced", classes=np.arange(3), y=classes)
    np.testing.assert_allclose(balanced_weights(labels, spec)[1], expected, rtol=1e-6)
    # 7 rows, 3 classes: 7 / (3 * 4), 7 / (3 * 1), 7 / (3 * 2).
    np.testing.assert_allclose(expected, [7 / 12, 7 / 3, 7 / 6])


def test_balanced_weights_of_graded_labels_count_the_largest() -> None:
    spec = TaskSpec(kind="multi_label", classes=("a", "b"), loss="cross_entropy", metrics=())
    labels = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [NAN, 0.9]])
    # 4 / (2 * 3), 4 / (2 * 1); the last row is not known.
    torch.testing.assert_close(balanced_weights(labels, spec)[1], torch.tensor([2 / 3, 2.0]))
    # Soft: the shares add up to 1.9 and 2.1, whatever the rows' own sums are: 4 / (2 * 1.9), 4 / (2 * 2.1).
    soft = spec.model_copy(update={"loss": "soft_cross_entropy"})
    expected = torch.tensor([4 / 3.8, 4 / 4.2])
    torch.testing.assert_close(balanced_weights(labels, soft)[1], expected)
    rescaled = labels * torch.tensor([[0.2], [0.5], [1.0], [0.9], [1.0]])
    torch.testing.assert_close(balanced_weights(rescaled, soft)[1], expected)


def test_balanced_weights_of_binary_targets_are_scikit_learns_per_class() -> None:
    _, targets, partly = draw(BINARY)
    found = balanced_weights(partly, BINARY)
    present = (targets[torch.isfinite(partly).all(dim=1)] > 0).int().numpy()
    assert 0 < present[:, 1:].mean() < 1
    for c in range(1, 7):
        expected = compute_class_weight("balanced", classes=np.arange(2), y=present[:, c])
        np.testing.assert_allclose(found[:, c], expected, rtol=1e-6)
    # Class 0 is present everywhere: no absent example, N / (2 N) = 0.5 for the present ones.
    assert found[:, 0].tolist() == [1.0, 0.5]


def test_classes_without_an_example_keep_one() -> None:
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert balanced_weights(labels, AMBIVALENCE)[1].tolist() == [0.5, 1.0]
    assert balanced_weights(torch.full((2, 2), NAN), AMBIVALENCE)[1].tolist() == [1.0, 1.0]


@each_spec
def test_nothing_labelled_and_nothing_sure_is_zero_with_a_zero_gradient(spec: TaskSpec) -> None:
    predicted, targets, _ = draw(spec)
    for loss, labels in ((supervised_loss, torch.full_like(targets, NAN)), (pseudo_label_loss, targets)):
        leaf = predicted.clone().requires_grad_()
        found = loss(leaf, labels, spec)
        found.mean().backward()
        assert (found.total.item(), found.count.item(), found.mean().item()) == (0.0, 0, 0.0)
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, torch.zeros_like(predicted))


@each_spec
def test_unlabelled_rows_never_reach_the_supervised_loss_nor_labelled_the_pseudo(spec: TaskSpec) -> None:
    predicted, _, partly = draw(spec)
    sure = spec.model_copy(update={"threshold": 0.5})
    unlabelled = ~torch.isfinite(partly).any(dim=1)
    for loss, rows in ((supervised_loss, ~unlabelled), (pseudo_label_loss, unlabelled)):
        leaf = predicted.clone().requires_grad_()
        loss(leaf, partly, sure).total.backward()
        assert leaf.grad is not None
        touched = leaf.grad.abs().sum(dim=1) > 0
        assert not (touched & ~rows).any()
        assert touched.any()


def objective_inputs() -> tuple[Predictions, Batch]:
    logits, scores, labels = {}, {}, {}
    for name, spec in BUILTIN_TASKS.items():
        (scores if spec.kind == "regression" else logits)[name], _, labels[name] = draw(spec)
    return Predictions(logits, scores), Batch({"text": torch.zeros(40, 1)}, torch.ones(40, 1, dtype=torch.bool), labels)


@pytest.mark.parametrize("pseudo", [True, False])
def test_objective_has_every_term_in_order(pseudo: bool) -> None:
    predictions, batch = objective_inputs()
    objective = Objective(
        BUILTIN_TASKS, ObjectiveConfig(), {}, pseudo_labels=SemiSupervisionConfig(method="paper" if pseudo else "none")
    )
    terms = objective(predictions, batch)
    assert tuple(terms) == objective.keys
    names = ["emotion", "personality", "ambivalence"]
    assert [key[1] for key in terms] == names * (2 if pseudo else 1)
    assert [key[0] for key in terms] == ["supervised"] * 3 + ["pseudo"] * 3 * pseudo
    for (branch, task), found in terms.items():
        loss = supervised_loss if branch == "supervised" else pseudo_label_loss
        assert found == loss(predictions.of(task), batch.labels[task], BUILTIN_TASKS[task])
        assert branch == "pseudo" or found.count > 0


@pytest.mark.parametrize("settings", [{"class_weights": "balanced"}, {"label_smoothing": 0.2}])
def test_objective_passes_its_settings_on(settings: dict[str, Any]) -> None:
    predictions, batch = objective_inputs()
    objective = Objective(BUILTIN_TASKS, ObjectiveConfig(**settings), batch.labels)
    terms, plain = objective(predictions, batch), Objective(BUILTIN_TASKS, ObjectiveConfig(), {})(predictions, batch)
    for task, spec in BUILTIN_TASKS.items():
        labels = batch.labels[task]
        weights = balanced_weights(labels, spec) if "class_weights" in settings and task != "personality" else None
        smoothing = settings.get("label_smoothing", 0.0)
        expected = supervised_loss(predictions.of(task), labels, spec, weights, smoothing)
        torch.testing.assert_close(terms["supervised", task].total, expected.total)
        same = torch.equal(terms["supervised", task].total, plain["supervised", task].total)
        assert same == (task == "personality")
        assert terms["pseudo", task] == plain["pseudo", task]
    assert list(objective.state_dict()) == ["semi_supervision.num_steps"]


def views() -> tuple[Predictions, Predictions, Batch]:
    predictions, batch = objective_inputs()
    other = Predictions(
        {task: 0.5 * logits for task, logits in predictions.logits.items()},
        {task: scores + 0.01 for task, scores in predictions.scores.items()},
    )
    return predictions, other, batch


@pytest.mark.parametrize(("method", "view"), [("paper", ""), ("consistency", "strong"), ("mean_teacher", "teacher")])
def test_terms_give_each_method_its_views(method: Any, view: str) -> None:
    predictions, other, batch = views()
    specs = {task: spec.model_copy(update={"threshold": 0.5}) for task, spec in BUILTIN_TASKS.items()}
    config = SemiSupervisionConfig(method=method, regression="agreement" if view else "paper")
    objective = Objective(specs, ObjectiveConfig(), {}, config)
    terms = objective.terms(predictions, batch, **{view: other} if view else {})
    semi = SemiSupervision(specs, config, {})
    for task in specs:
        trained = other if view == "strong" else predictions
        source = other if view == "teacher" else predictions
        expected = semi.loss(task, trained.of(task), source.of(task), batch.labels[task])
        assert terms.losses["pseudo", task] == expected.loss
        assert torch.equal(terms.accepted[task], expected.accepted)
        assert torch.equal(terms.candidates[task], expected.candidates)
        supervised = supervised_loss(predictions.of(task), batch.labels[task], specs[task])
        assert terms.losses["supervised", task] == supervised
        assert expected.loss.count > 0
    assert tuple(terms.losses) == objective.keys
    assert objective.semi_supervision is not None
    assert objective.semi_supervision.num_steps == 1


def test_running_averages_are_summed_over_processes() -> None:
    predictions, batch = objective_inputs()
    states = []
    for total in (lambda tensor: tensor, lambda tensor: tensor * torch.arange(1.0, len(tensor) + 1)):
        objective = Objective(BUILTIN_TASKS, ObjectiveConfig(), {}, SemiSupervisionConfig(method="adaptive"))
        objective.terms(predictions, batch, total=total)
        states.append(objective.state_dict()["semi_supervision.thresholds.emotion.expected"])
    assert not torch.equal(*states)


def test_missing_and_needless_views_are_named() -> None:
    predictions, other, batch = views()
    strong = Objective(BUILTIN_TASKS, ObjectiveConfig(), {}, SemiSupervisionConfig(method="consistency"))
    with pytest.raises(ValueError, match="method 'consistency' needs predictions `strong`, found none"):
        strong(predictions, batch)
    with pytest.raises(ValueError, match="method 'paper' has no use for predictions `teacher`, found some"):
        Objective(BUILTIN_TASKS, ObjectiveConfig(), {}).terms(predictions, batch, teacher=other)


def test_without_semi_supervision_there_is_no_pseudo_branch() -> None:
    predictions, batch = objective_inputs()
    objective = Objective(BUILTIN_TASKS, ObjectiveConfig(), {}, SemiSupervisionConfig(method="none"))
    terms = objective.terms(predictions, batch)
    assert [branch for branch, _ in terms.losses] == ["supervised"] * 3
    assert (objective.branches, objective.semi_supervision, terms.accepted) == (("supervised",), None, {})
