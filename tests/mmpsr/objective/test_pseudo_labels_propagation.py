"""Pseudo-labels that come from neighbours: how they count, where they are kept, and what they need."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mmpsr.batch import Batch, Predictions
from mmpsr.config import ConfigError, validate
from mmpsr.objective.config import ObjectiveConfig, SemiSupervisionConfig
from mmpsr.objective.objective import Objective
from mmpsr.objective.propagation import affinities, propagate
from mmpsr.objective.pseudo_labels import SemiSupervision, pseudo_label_quality
from mmpsr.objective.supervised import balanced_weights
from mmpsr.tasks import AMBIVALENCE, PERSONALITY, TaskSpec
from tests.mmpsr.objective.test_objective import BINARY, NAN, draw
from tests.mmpsr.objective.test_supervised import GRADED

ROWS = torch.tensor([3, 5, 8, 9])  # of four training clips in the joined corpora


def create(spec: TaskSpec, labels: Tensor, propagated: Tensor | None = None, **values: Any) -> SemiSupervision:
    config = SemiSupervisionConfig(method="propagation", **values)
    semi = SemiSupervision({"task": spec}, config, {"task": labels}, ROWS[: len(labels)])
    if propagated is not None:
        semi.get_buffer("propagated_task").copy_(propagated)
    return semi


def test_a_class_counts_by_how_sure_it_is_by_hand() -> None:
    # Propagated (0.9, 0.1), (0.5, 0.5), nothing, and one for a labelled clip. Weights 1 - H / ln 2:
    # H(0.9) = 0.325083, so 0.531004; 0; 0; the labelled one does not count. CE of even logits is ln 2 for any target.
    unknown = torch.full((4, 2), NAN)
    unknown[3] = torch.tensor([0.0, 1.0])
    propagated = torch.tensor([[0.9, 0.1], [0.5, 0.5], [NAN, NAN], [0.0, 1.0]])
    semi = create(AMBIVALENCE, unknown, propagated)
    order = torch.tensor([2, 0, 3, 1])  # rows of a batch come in any order
    logits = torch.zeros(4, 2).requires_grad_()
    term = semi.loss("task", logits, torch.full((4, 2), NAN), unknown[order], rows=ROWS[order])
    assert term.loss.count.item() == pytest.approx(0.531004, abs=1e-5)
    assert term.loss.total.item() == pytest.approx(0.531004 * math.log(2), abs=1e-5)
    assert term.accepted.tolist() == pytest.approx([0.531004, 0.0], abs=1e-5)
    (gradient,) = torch.autograd.grad(term.loss.total, logits)
    # softmax less target, times the weight: (0.5 - 0.9, 0.5 - 0.1) * 0.531004
    torch.testing.assert_close(gradient[1], torch.tensor([-0.212402, 0.212402]), atol=1e-5, rtol=0)
    assert not gradient[[0, 2, 3]].any()


def test_scores_are_taught_themselves_or_their_side_or_not_at_all() -> None:
    unknown, propagated = torch.full((2, 5), NAN), torch.tensor([[0.9, 0.1, 0.6, NAN, 0.5], [NAN] * 5])
    scores = torch.full((2, 5), 0.4)
    semi = create(PERSONALITY, unknown, propagated, regression="propagated")
    term = semi.loss("task", scores, scores, unknown, rows=ROWS[:2])
    # |0.4 - 0.9| + |0.4 - 0.1| + |0.4 - 0.6| + |0.4 - 0.5| over four
    assert (term.loss.total.item(), term.loss.count.item()) == (pytest.approx(1.1), 4)
    side = create(PERSONALITY.model_copy(update={"threshold": 0.8}), unknown, propagated)
    term = side.loss("task", scores, scores, unknown, rows=ROWS[:2])
    # 0.9 and 0.1 lie beyond 0.8: -ln 0.4 - ln 0.6
    assert (term.loss.total.item(), term.loss.count.item()) == (pytest.approx(-math.log(0.24)), 2)
    none = create(PERSONALITY, unknown, propagated, regression="none")
    assert none.loss("task", scores, scores, unknown, rows=ROWS[:2]).loss.count == 0


def test_labels_are_propagated_by_task_with_the_weights_of_the_loss_and_kept_in_the_checkpoint() -> None:
    vectors = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).abs()
    labels = {"a": torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [NAN, NAN]]), "b": torch.rand(4, 5)}
    labels["b"][1:3] = NAN
    specs = {"a": AMBIVALENCE, "b": PERSONALITY}
    config = SemiSupervisionConfig(method="propagation", num_neighbors=2, propagation_alpha=0.7)
    objective = Objective(specs, ObjectiveConfig(class_weights="balanced"), labels, config, ROWS)
    semi = objective.semi_supervision
    assert semi is not None
    semi.refresh(vectors)
    graph = affinities(vectors, 2)
    stored = objective.state_dict()
    weights = balanced_weights(labels["a"], AMBIVALENCE)
    expected = propagate(graph, labels["a"], AMBIVALENCE, 0.7, weights)
    torch.testing.assert_close(stored["semi_supervision.propagated_a"], expected)
    assert not torch.allclose(expected, propagate(graph, labels["a"], AMBIVALENCE, 0.7))
    expected = propagate(graph, labels["b"], PERSONALITY, 0.7)
    torch.testing.assert_close(stored["semi_supervision.propagated_b"], expected)
    other = Objective(specs, ObjectiveConfig(class_weights="balanced"), labels, config, ROWS)
    other.load_state_dict(stored)
    batch = Batch({"text": vectors}, torch.ones(4, 1, dtype=torch.bool), labels, ROWS)
    predictions = Predictions({"a": torch.zeros(4, 2)}, {"b": torch.full((4, 5), 0.4)})
    terms = other.terms(predictions, batch)
    spread = stored["semi_supervision.propagated_a"][3]
    sure = 1 + float(torch.xlogy(spread, spread).sum()) / math.log(2)
    assert terms.losses["pseudo", "a"].count.item() == pytest.approx(sure)
    induced = semi.induced("b", vectors[:1], vectors)
    assert induced.shape == (1, 5)


def test_before_anything_was_propagated_nothing_counts() -> None:
    unknown = torch.full((4, 7), NAN)
    semi = create(BINARY, unknown)
    term = semi.loss("task", torch.zeros(4, 7), torch.zeros(4, 7), unknown, rows=ROWS)
    assert (term.loss.total.item(), term.loss.count.item()) == (0.0, 0.0)


def test_what_is_missing_is_named() -> None:
    labels = torch.full((4, 2), NAN)
    with pytest.raises(ValueError, match="method 'propagation' needs the rows of the training clips"):
        SemiSupervision({"task": AMBIVALENCE}, SemiSupervisionConfig(method="propagation"), {"task": labels})
    with pytest.raises(ValueError, match="found by the rows of the batch's clips"):
        create(AMBIVALENCE, labels).loss("task", labels, labels, labels)
    with pytest.raises(ConfigError, match='regression = "propagated" is for method "propagation", and method is'):
        validate(SemiSupervisionConfig, {"method": "soft", "regression": "propagated"}, "test")


def test_quality_of_clips_that_no_label_reaches() -> None:
    semi = create(PERSONALITY, torch.full((4, 5), NAN), regression="propagated")
    probs = torch.tensor([[0.6] * 5, [NAN] * 5])
    found = pseudo_label_quality(probs, torch.full((2, 5), 0.8), PERSONALITY, lambda p: semi.pseudo_labels("task", p))
    assert (found["acceptance"], found["mean_absolute_error"]) == (0.5, pytest.approx(0.2))


def test_soft_presence_is_pseudo_labelled_as_hard_presence_is() -> None:
    predicted, _, partly = draw(BINARY)
    found = []
    for spec in (BINARY, GRADED):
        semi = SemiSupervision({"task": spec}, SemiSupervisionConfig(method="soft"), {"task": partly})
        found.append(semi.loss("task", predicted, predicted, partly).loss)
    assert found[0].count > 0
    assert torch.equal(found[0].total, found[1].total)
