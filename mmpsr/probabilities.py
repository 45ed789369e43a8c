"""Logits, probabilities and decisions: from a model's outputs to what a user reads, and averages of them.

Shape suffixes: N or B clips, C outputs of a task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.tasks import TaskSpec

__all__ = [
    "LEAST_DEVIATION",
    "at_least_single",
    "blend",
    "has_one_class",
    "log_deviations",
    "mixture",
    "probabilities",
]


LEAST_DEVIATION = 0.01
"""Least standard deviation that a score may have; the most is 1, the range of scores."""


def at_least_single(tensor: Tensor) -> Tensor:
    """Convert a tensor to float32, or leave it in float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def has_one_class(spec: TaskSpec) -> bool:
    """Tell whether a clip's outputs are one distribution over the classes, rather than a number each."""
    return spec.kind != "regression" and not spec.is_binary


def probabilities(predicted_BC: Tensor, spec: TaskSpec) -> Tensor:
    """Turn outputs into what a user reads: class probabilities, or a regression's scores as they are.

    Softmax where the task's loss is a cross-entropy over classes, sigmoid per class for binary cross-entropies.
    """
    if spec.kind == "regression":
        return predicted_BC
    return torch.softmax(predicted_BC, dim=-1) if has_one_class(spec) else torch.sigmoid(predicted_BC)


def log_deviations(outputs_BC: Tensor) -> Tensor:
    """Turn outputs of a variance head into logarithms of standard deviations of scores.

        log d = (1 - sigmoid(z)) log 0.01,   0.01 < d < 1

    A head that gives 0 says 0.1, about what scores of personality deviate by; the bounds keep the loss finite without
    cutting a gradient off.

    Example:
        >>> log_deviations(torch.tensor([-100.0, 0.0, 100.0])).exp()
        tensor([0.0100, 0.1000, 1.0000])
    """
    return torch.sigmoid(-at_least_single(outputs_BC)) * math.log(LEAST_DEVIATION)


def mixture(outputs: Sequence[Tensor], weights: Sequence[float], spec: TaskSpec) -> Tensor:
    """Take the weighted mean of several predictions: of probabilities, expressed as logits, or of scores.

        softmax: log sum_k w_k p_k,   sigmoid: logit(sum_k w_k p_k),   scores: sum_k w_k s_k

    Under a softmax these are log-probabilities, under a sigmoid log p - log(1 - p), both from logarithms of the parts,
    so that sure predictions stay finite.

    Args:
        outputs: logits, or scores for regression, `[B, C]` each.
        weights: one for each, positive, with sum 1.
        spec: the task.

    Returns:
        `[B, C]`, at least float32.

    Example:
        >>> from mmpsr.tasks import AMBIVALENCE
        >>> even, sure = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(9.0)]])
        >>> mixture([even, sure], [0.5, 0.5], AMBIVALENCE).exp()  # (0.5 + 0.1) / 2 and (0.5 + 0.9) / 2
        tensor([[0.3000, 0.7000]])
    """
    parts = [at_least_single(output) for output in outputs]
    if spec.kind == "regression":
        return torch.stack([weight * part for weight, part in zip(weights, parts, strict=True)]).sum(dim=0)
    if has_one_class(spec):
        return _log_mean([torch.log_softmax(part, dim=1) for part in parts], weights)
    present = _log_mean([functional.logsigmoid(part) for part in parts], weights)
    return present - _log_mean([functional.logsigmoid(-part) for part in parts], weights)


def _log_mean(logs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Take the logarithm of the weighted mean of what these are logarithms of."""
    shifted = [log + math.log(weight) for log, weight in zip(logs, weights, strict=True)]
    return torch.logsumexp(torch.stack(shifted), dim=0)


def blend(main_BC: Tensor, auxiliary_BC: Tensor, rows_B: Tensor, share: float, spec: TaskSpec) -> Tensor:
    """Mix share * auxiliary + (1 - share) * main on some clips, `main` on the others.

    Args:
        main_BC: logits, or scores for regression.
        auxiliary_BC: likewise.
        rows_B: bool, clips that have an auxiliary prediction.
        share: of the auxiliary prediction, between 0 and 1.
        spec: the task.
    """
    mixed_BC = mixture([auxiliary_BC, main_BC], [share, 1 - share], spec)
    return torch.where(rows_B.unsqueeze(1), mixed_BC, main_BC.to(mixed_BC.dtype))
