from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from mmpsr.objective.config import SemiSupervisionConfig
from mmpsr.objective.pseudo_labels import SemiSupervision, pseudo_label_quality
from mmpsr.tasks import AMBIVALENCE, PERSONALITY, TaskSpec
from tests.mmpsr.objective.test_objective import BINARY, NAN


def quality(sure: Tensor, labels: Tensor, spec: TaskSpec, other: Tensor | None = None, **values: Any) -> dict:
    semi = SemiSupervision({"task": spec}, SemiSupervisionConfig(**values), {})
    return pseudo_label_quality(sure, labels, spec, partial(semi.pseudo_labels, "task", other=other))


def test_classes_by_hand() -> None:
    # Predicted 0: rows 0 (sure, right), 1 (sure, wrong), 2 (not sure). Predicted 1: row 3 (sure, right), 4 (not sure),
    # 5 (sure; its label is unknown and it counts nowhere).
    sure = torch.tensor([[0.9, 0.1], [0.85, 0.15], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [NAN, 1.0]])
    found = quality(sure, labels, AMBIVALENCE, method="paper")
    assert found == pytest.approx(
        {
            "acceptance": 3 / 5, "acceptance/absent": 2 / 3, "acceptance/present": 1 / 2,
            "accuracy": 2 / 3, "accuracy/absent": 1 / 2, "accuracy/present": 1.0,
        }
    )  # fmt: skip
    # Soft: weights 0.8, 0.7, 0.2 | 0.8, 0.4; right are 0.8 and 0.8.
    found = quality(sure, labels, AMBIVALENCE, method="soft")
    assert found["acceptance"] == pytest.approx(2.9 / 5)
    assert found["acceptance/present"] == pytest.approx(1.2 / 2)
    assert found["accuracy"] == pytest.approx(1.6 / 2.9)
    assert found["accuracy/absent"] == pytest.approx(0.8 / 1.7)
    # Graded labels: the largest is right.
    graded = torch.where(labels == 0, 0.4, labels)
    assert quality(sure, graded, AMBIVALENCE, method="paper")["accuracy"] == pytest.approx(2 / 3)


def test_independent_classes_by_hand() -> None:
    # First class: sides 1 (sure, right), 0 (sure, wrong), unsure. Second: 0 (sure, right), 1 (sure, right: any positive
    # intensity is present), 1 (sure, wrong). Row 3 is partly known and does not count.
    spec = BINARY.model_copy(update={"classes": ("a", "b")})
    sure = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.6, 0.9], [0.9, 0.9]])
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.2], [0.0, 0.0], [NAN, 1.0]])
    found = quality(sure, labels, spec, method="paper")
    assert found == pytest.approx(
        {
            "acceptance": 5 / 6, "acceptance/a": 2 / 3, "acceptance/b": 1.0,
            "accuracy": 3 / 5, "accuracy/a": 1 / 2, "accuracy/b": 2 / 3,
        }
    )  # fmt: skip


def test_scores_by_hand() -> None:
    spec = PERSONALITY.model_copy(update={"classes": ("a", "b"), "threshold": 0.6})
    sure = torch.tensor([[0.7, 0.3], [0.8, 0.5], [0.1, 0.9]])
    labels = torch.tensor([[0.6, 0.6], [0.4, 0.5], [NAN, 0.8]])
    # Sides: a 1, 1, of which one is right; b 0 (wrong), unsure, 1 (right). Distances 0.1, 0.4 | 0.3, 0.1.
    found = quality(sure, labels, spec, method="paper")
    assert found == pytest.approx(
        {
            "acceptance": 4 / 5, "acceptance/a": 1.0, "acceptance/b": 2 / 3,
            "accuracy": 2 / 4, "accuracy/a": 1 / 2, "accuracy/b": 1 / 2,
            "mean_absolute_error": 0.9 / 4, "mean_absolute_error/a": 0.25, "mean_absolute_error/b": 0.2,
        }
    )  # fmt: skip
    # Agreement within 0.05 with another view: row 0 both, row 1 b. Sides of the scores: right, wrong, right (0.5 is not
    # above 0.5). Distances 0.1, 0.3, 0.
    other = torch.tensor([[0.72, 0.28], [0.9, 0.52], [0.5, 0.5]])
    found = quality(sure, labels, spec, other, method="mean_teacher", regression="agreement")
    assert (found["acceptance"], found["acceptance/a"]) == (pytest.approx(3 / 5), pytest.approx(1 / 2))
    assert (found["accuracy"], found["accuracy/b"]) == (pytest.approx(2 / 3), pytest.approx(1 / 2))
    assert found["mean_absolute_error"] == pytest.approx(0.4 / 3)


def test_what_nothing_is_known_of_is_not_a_number() -> None:
    unsure = torch.tensor([[0.4, 0.6]])
    found = quality(unsure, torch.tensor([[0.0, 1.0]]), AMBIVALENCE, method="paper")
    assert (found["acceptance"], found["acceptance/present"]) == (0.0, 0.0)
    assert all(math.isnan(found[name]) for name in ("accuracy", "acceptance/absent", "accuracy/present"))
    unknown = quality(unsure, torch.full((1, 2), NAN), AMBIVALENCE, method="paper")
    assert all(math.isnan(value) for value in unknown.values())
