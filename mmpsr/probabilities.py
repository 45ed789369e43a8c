"""Logits, probabilities and decisions: from a model's outputs to what a user reads, and averages of them.

Shape suffixes: N or B clips, C outputs of a task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mmpsr.tasks import TaskSpec

__all__ = [
    "LEAST_DEVIATION",
    "Array",
    "at_least_single",
    "blend",
    "decide_classes",
    "decide_present",
    "default_thresholds",
    "has_one_class",
    "log_deviations",
    "mixture",
    "only_neutral",
    "probabilities",
]

Array = NDArray[np.float64]

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


def default_thresholds(spec: TaskSpec) -> Array:
    """Give the probabilities from which a class is decided, `[C]`: 1/C of a softmax over several labels, else 0.5."""
    is_shared = spec.kind == "multi_label" and not spec.is_binary
    return np.full(spec.num_outputs, 1.0 / spec.num_outputs if is_shared else 0.5)


def decide_present(probabilities_NC: Array, spec: TaskSpec, thresholds_C: Array | None = None) -> NDArray[np.bool_]:
    """Decide which classes of a multi-label task are present: those that reach their threshold.

    By default, softmax probabilities (they sum to 1) have the threshold 1/C, sigmoid probabilities (binary
    cross-entropy) 0.5. Of a softmax, every other class is absent where the neutral class has at least (C - 1)/C.

    Args:
        probabilities_NC: of `mmpsr.probabilities.probabilities`.
        spec: the task.
        thresholds_C: in place of the default ones.

    Returns:
        bool `[N, C]`.
    """
    present = probabilities_NC >= (default_thresholds(spec) if thresholds_C is None else thresholds_C)
    if spec.neutral is not None:
        others = np.arange(spec.num_outputs) != spec.classes.index(spec.neutral)
        present[np.ix_(only_neutral(probabilities_NC, spec), others)] = False
    return present


def only_neutral(probabilities_NC: Array, spec: TaskSpec) -> NDArray[np.bool_]:
    """Mark clips whose neutral class has at least (C - 1)/C of a softmax, `[N, C] -> [N]`; then no other is present."""
    if spec.neutral is None or spec.is_binary:
        return np.zeros(len(probabilities_NC), dtype=bool)
    neutral = spec.classes.index(spec.neutral)
    return probabilities_NC[:, neutral] >= (spec.num_outputs - 1) / spec.num_outputs


def decide_classes(probabilities_NC: Array, thresholds_C: Array | None = None) -> NDArray[np.int64]:
    """Decide for the most probable class, `[N, C] -> [N]`.

        argmax_c p_c / t_c, all t_c alike without thresholds

    With thresholds, it is the class that is most probable in proportion to its threshold. Two classes with
    the thresholds (1 - t, t) are so decided by p_1 > t.

    Example:
        >>> decide_classes(np.array([[0.7, 0.3]])).tolist()
        [0]
        >>> decide_classes(np.array([[0.7, 0.3]]), np.array([0.75, 0.25])).tolist()
        [1]
    """
    return (probabilities_NC if thresholds_C is None else probabilities_NC / thresholds_C).argmax(axis=1)
