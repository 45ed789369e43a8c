from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmpsr.objective.thresholds import Alignment, FlexMatch, FreeMatch, distributions, identity, marginal, onehot
from mmpsr.tasks import AMBIVALENCE, EMOTION, PERSONALITY, TaskSpec
from tests.mmpsr.objective.test_objective import BINARY, NAN, SOFT

SHAPES = [(1, 4), (3, 2)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=["classes", "sides"])


def steps(shape: tuple[int, int], num_steps: int = 12) -> list[tuple[Tensor, Tensor]]:
    """Distributions that grow surer, classes of unequal frequency, and which of 10 clips may count (none at step 4)."""
    generator = torch.Generator().manual_seed(0)
    tilt = torch.linspace(1.0, -1.0, shape[1])
    batches = []
    for step in range(num_steps):
        logits = (1 + step / 2) * (torch.randn((10, *shape), generator=generator) + tilt)
        candidates = (torch.rand(10, generator=generator) < 0.6).float()
        batches.append((torch.softmax(logits, dim=-1), candidates * (step != 4)))
    return batches


def flexmatch(batches: list[tuple[Tensor, Tensor]], threshold: float, momentum: float) -> NDArray[np.float64]:
    """Thresholds clip by clip, class by class."""
    num_distributions, num_classes = batches[0][0].shape[1:]
    learned = np.zeros((num_distributions, num_classes))
    for sure, candidates in batches:
        rows = [row for row in range(len(sure)) if candidates[row]]
        if not rows:
            continue
        for p in range(num_distributions):
            for k in range(num_classes):
                hits = [sure[b, p].max() > threshold and sure[b, p].argmax() == k for b in rows]
                learned[p, k] = momentum * learned[p, k] + (1 - momentum) * sum(map(bool, hits)) / len(rows)
    thresholds = np.zeros_like(learned)
    for p in range(num_distributions):
        for k in range(num_classes):
            beta = learned[p, k] / max(learned[p].max(), 1 - learned[p].sum())
            thresholds[p, k] = threshold * beta / (2 - beta)
    return thresholds


def freematch(batches: list[tuple[Tensor, Tensor]], momentum: float) -> NDArray[np.float64]:
    """Thresholds distribution by distribution."""
    num_distributions, num_classes = batches[0][0].shape[1:]
    thresholds = np.zeros((num_distributions, num_classes))
    for p in range(num_distributions):
        overall, local = 1 / num_classes, np.full(num_classes, 1 / num_classes)
        for sure, candidates in batches:
            rows = sure[candidates > 0, p].double().numpy()
            if len(rows):
                overall = momentum * overall + (1 - momentum) * rows.max(axis=1).mean()
                local = momentum * local + (1 - momentum) * rows.mean(axis=0)
        thresholds[p] = local / local.max() * overall
    return thresholds


@each_shape
def test_flexmatch_is_the_loop(shape: tuple[int, int]) -> None:
    batches, rule = steps(shape), FlexMatch(shape, 0.7, 0.6)
    for number, (sure, candidates) in enumerate(batches, start=1):
        found = rule(sure, candidates, identity)
        np.testing.assert_allclose(found, flexmatch(batches[:number], 0.7, 0.6), rtol=1e-4, atol=1e-6)
    assert (found <= 0.7).all()
    assert found.max() > 1.5 * found.min()


@each_shape
def test_freematch_is_the_loop(shape: tuple[int, int]) -> None:
    batches, rule = steps(shape), FreeMatch(shape, 0.6)
    for number, (sure, candidates) in enumerate(batches, start=1):
        found = rule(sure, candidates, identity)
        np.testing.assert_allclose(found, freematch(batches[:number], 0.6), rtol=1e-5)
    assert found.max() > 1.5 * found.min()


def test_flexmatch_by_hand() -> None:
    # Of four clips 0.9 and 0.8 are surely class 0, 0.75 is surely class 1, 0.6 is not sure; the fifth does not count.
    # From 0 with momentum 0.5: s = (0.25, 0.125), unused 0.625, beta = (0.4, 0.2), T = 0.7 (0.4/1.6, 0.2/1.8).
    sure = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.25, 0.75], [0.6, 0.4], [0.0, 1.0]]).unsqueeze(1)
    rule = FlexMatch((1, 2), 0.7, 0.5)
    assert rule(sure, None, identity).tolist() == [[0.0, 0.0]]  # nothing is learnt yet: everything is accepted
    found = rule(sure, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]), identity)
    torch.testing.assert_close(found, torch.tensor([[0.7 * 0.25, 0.7 / 9]]))


def test_freematch_by_hand() -> None:
    # From (0.5, 0.5) with momentum 0.5 by a batch of mean confidence 0.8 and mean prediction (0.6, 0.4): tau = 0.65,
    # q = (0.55, 0.45), T = (0.65, 0.65 * 0.45 / 0.55).
    sure = torch.tensor([[[0.8, 0.2]], [[0.8, 0.2]], [[0.2, 0.8]]])
    weights = torch.tensor([1.0, 1.0, 1.0])
    rule = FreeMatch((1, 2), 0.5)
    assert rule(sure, None, identity).tolist() == [[0.5, 0.5]]
    found = rule(sure, weights, identity)
    torch.testing.assert_close(found, torch.tensor([[0.65, 0.65 * 0.45 / 0.55]]))
    assert torch.equal(rule(sure, None, identity), found)


def test_alignment_by_hand() -> None:
    # a = (0.575, 0.425) after a mean prediction of (0.4, 0.6), see test_semi_supervision; with no candidate it stays.
    rule = Alignment(torch.tensor([[0.75, 0.25]]), 0.5)
    sure = torch.tensor([[[0.1, 0.9]], [[0.7, 0.3]], [[0.5, 0.5]]])
    torch.testing.assert_close(rule(sure, None, identity), sure)
    found = rule(sure, torch.tensor([1.0, 1.0, 0.0]), identity)
    torch.testing.assert_close(rule.average, torch.tensor([[0.575, 0.425]]))
    # 0.1 * 1.304348 : 0.9 * 0.588235 = 0.130435 : 0.529412; 0.913043 : 0.176471; 0.652174 : 0.294118.
    expected = torch.tensor([[0.197682, 0.802318], [0.838032, 0.161968], [0.689189, 0.310811]]).unsqueeze(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    rule(sure, torch.zeros(3), identity)
    torch.testing.assert_close(rule.average, torch.tensor([[0.575, 0.425]]))


@each_shape
def test_aligned_predictions_approach_the_marginal(shape: tuple[int, int]) -> None:
    wanted = torch.softmax(torch.linspace(0.0, 1.0, shape[0] * shape[1]).view(shape), dim=1)
    rule, sure = Alignment(wanted, 0.5), steps(shape)[3][0]
    for _ in range(40):
        found = rule(sure, torch.ones(10), identity)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(10, shape[0]))
    before, after = (sure.mean(dim=0) - wanted).abs().max(), (found.mean(dim=0) - wanted).abs().max()
    assert after < 0.8 * before
    certain = torch.eye(shape[1])[[0] * shape[0]].unsqueeze(0)
    assert torch.isfinite(rule(certain, None, identity)).all()


LABELS = torch.tensor([[0.6, 0.4], [0.3, 0.0], [0.1, 0.3], [0.4, 0.2], [NAN, 1.0]])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # The largest is first in rows 0, 1 and 3.
        (EMOTION, [[0.75, 0.25]]),
        # Shares of the first: 0.6, 1, 0.25, 2/3, mean 0.629167.
        (SOFT, [[0.629167, 0.370833]]),
        # Present: the first in 4 of 4, the second in 3 of 4. Absent never: 1e-6 stands for 0.
        (BINARY, [[1e-6, 1.0], [0.25, 0.75]]),
    ],
)
def test_marginals_read_labels_as_the_supervised_loss_does(spec: TaskSpec, expected: list[list[float]]) -> None:
    found = marginal(LABELS, spec.model_copy(update={"classes": ("a", "b"), "neutral": None}))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=0)


def test_a_marginal_of_no_label_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"none of 3 train clips has labels of \['absent', 'present'\]"):
        marginal(torch.full((3, 2), NAN), AMBIVALENCE)


def test_distributions_and_choices() -> None:
    chances = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    assert distributions(chances, AMBIVALENCE).tolist() == [[[0.25, 0.75]], [[0.5, 0.5]]]
    assert onehot(distributions(chances, AMBIVALENCE)).tolist() == [[[0.0, 1.0]], [[1.0, 0.0]]]
    for spec in (BINARY, PERSONALITY):
        sides = distributions(chances, spec)
        assert sides.tolist() == [[[0.75, 0.25], [0.25, 0.75]], [[0.5, 0.5], [0.5, 0.5]]]
        assert onehot(sides)[..., 1].tolist() == [[0.0, 1.0], [0.0, 0.0]]
