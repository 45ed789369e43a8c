from __future__ import annotations

import math

import pytest
import torch
from test_objective import BINARY, SOFT

from mmpsr.objective.supervised import LossSum
from mmpsr.probabilities import has_one_class, probabilities
from mmpsr.tasks import AMBIVALENCE, EMOTION, PERSONALITY


def test_probabilities() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert probabilities(logits, AMBIVALENCE)[0].tolist() == pytest.approx([0.25, 0.75])
    assert probabilities(logits, BINARY)[0].tolist() == pytest.approx([0.5, 0.75])
    assert probabilities(torch.tensor([[0.3]]), PERSONALITY)[0].tolist() == pytest.approx([0.3])


def test_outputs_are_one_distribution_unless_classes_are_independent() -> None:
    assert all(has_one_class(spec) for spec in (AMBIVALENCE, EMOTION, SOFT))
    assert not has_one_class(BINARY)
    assert not has_one_class(PERSONALITY)


def test_a_mean_of_nothing_is_zero() -> None:
    assert LossSum(torch.tensor(3.0), torch.tensor(4)).mean() == 0.75
    assert LossSum(torch.tensor(0.0), torch.tensor(0)).mean() == 0.0
