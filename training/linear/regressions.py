"""Ridge and logistic regressions of many outputs and penalties at once, from one singular value decomposition.

Shape suffixes: N clips, D columns, R rank, P penalties, C outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Decomposed", "LinearMaps", "fit_logistic", "fit_ridge"]

MAX_STEPS = 1000
TOLERANCE = 1e-4


class LinearMaps(NamedTuple):
    """Linear maps of the same columns.

    Attributes:
        weights: `[P, C, D]`.
        biases: `[P, C]`.
    """

    weights: Tensor
    biases: Tensor


class Decomposed(NamedTuple):
    """Columns of clips in the coordinates of their singular vectors, X = scores @ basis.

    Attributes:
        scores: `[N, R]`.
        values: singular values `[R]`.
        basis: `[R, D]`.
    """

    scores: Tensor
    values: Tensor
    basis: Tensor

    @classmethod
    def of(cls, inputs_ND: Tensor) -> Decomposed:
        """Decompose columns, in double precision; directions that do not vary are left out."""
        gram = inputs_ND.double()
        tall = gram.shape[0] >= gram.shape[1]
        squares, vectors = torch.linalg.eigh(gram.T @ gram if tall else gram @ gram.T)
        kept = squares > squares.max().clamp(min=1e-12) * 1e-10
        values, vectors = squares[kept].sqrt(), vectors[:, kept]
        if tall:
            return cls(gram @ vectors, values, vectors.T)
        return cls(vectors * values, values, (vectors.T @ gram) / values.unsqueeze(1))


def fit_ridge(inputs: Decomposed, targets_NC: Tensor, penalties_P: Tensor) -> LinearMaps:
    """Fit a ridge regression for every penalty and output, intercepts free.

        argmin over w, b of sum_n (x_n w + b - y_n)^2 + penalty |w|^2

    Args:
        inputs: of columns whose mean is zero over these clips, so that the intercept is the targets' mean.
        targets_NC: all known.
        penalties_P: above 0.
    """
    biases_C = targets_NC.double().mean(dim=0)
    projected_RC = inputs.scores.T @ (targets_NC.double() - biases_C)
    shrunk_PRC = projected_RC / (inputs.values.square() + penalties_P.double().unsqueeze(1)).unsqueeze(2)
    weights_PCD = shrunk_PRC.transpose(1, 2) @ inputs.basis
    return LinearMaps(weights_PCD, biases_C.expand(len(penalties_P), -1))


def fit_logistic(
    inputs: Decomposed,
    targets_NC: Tensor,
    weights_NC: Tensor,
    penalties_P: Tensor,
    softmax: bool = False,
    tolerance: float = TOLERANCE,
) -> LinearMaps:
    """Fit a logistic regression for every penalty, one for each output or one over all, intercepts free.

        argmin over w, b of sum_n weight_n loss(x_n w + b, y_n) + penalty / 2 |w|^2

    where the loss is that of a sigmoid for each output, or of a softmax over all. Steps are those of an upper bound
    of the curvature, a diagonal one in the coordinates of singular vectors, with momentum. Where all clips have an
    output, or none has, no intercept is best, and what it has come to is given; so it is for all classes of a softmax.

    Args:
        inputs: columns of the clips.
        targets_NC: 0 and 1; with `softmax` one 1 a row.
        weights_NC: of each clip's loss, for a softmax the same in each row.
        penalties_P: above 0.
        softmax: whether the outputs exclude each other.
        tolerance: largest change of a coefficient in the last step, as a share of the largest coefficient, for every
            penalty by itself, which then rests; and of an intercept, in logits. Below 1e-4 steps are taken in double
            precision.

    References:
        Böhning and Lindsay: Monotonicity of quadratic-approximation algorithms. Annals of the Institute of Statistical
        Mathematics, 1988.
        O'Donoghue and Candès: Adaptive restart for accelerated gradient schemes. Foundations of Computational
        Mathematics, 2015.
    """
    dtype = torch.float32 if tolerance >= TOLERANCE else torch.float64
    targets, row_weights, penalties = targets_NC.to(dtype), weights_NC.to(dtype), penalties_P.to(dtype)
    scores_NR, values_R = inputs.scores.to(dtype), inputs.values.to(dtype)
    (num_clips, num_outputs), num_penalties = targets.shape, len(penalties)
    bound = 0.5 if softmax else 0.25
    # of scores and a column of ones: twice the bound of either holds for both together
    curvature_RC = 2 * bound * row_weights.max(dim=0).values * values_R.square().unsqueeze(1)
    steps_RPC = 1 / (curvature_RC.unsqueeze(1) + penalties.view(1, -1, 1))
    bias_steps_C = 1 / (2 * bound * row_weights.sum(dim=0).clamp(min=1e-12))
    varied_C = targets.amin(dim=0) < targets.amax(dim=0)
    fitted_C = (varied_C | (varied_C.any() & softmax)).to(dtype)
    resting_C = (varied_C & (varied_C.all() | (not softmax))).to(dtype)
    found = torch.zeros(len(values_R), num_penalties, num_outputs, dtype=dtype)
    found_biases = torch.zeros(num_penalties, num_outputs, dtype=dtype)
    left_P, maps, biases = torch.arange(num_penalties), found, found_biases  # penalties that have not settled
    last, last_biases, age_P = maps, biases, torch.ones(num_penalties, dtype=dtype)
    for _ in range(MAX_STEPS):
        next_age_P = (1 + (1 + 4 * age_P * age_P).sqrt()) / 2
        momentum_P1, age_P = ((age_P - 1) / next_age_P).unsqueeze(1), next_age_P
        ahead, biases_ahead = maps + momentum_P1 * (maps - last), biases + momentum_P1 * (biases - last_biases)
        outputs_NPC = (scores_NR @ ahead.flatten(1)).view(num_clips, -1, num_outputs) + biases_ahead
        predicted = torch.softmax(outputs_NPC, dim=2) if softmax else torch.sigmoid(outputs_NPC)
        errors_NPC = (predicted - targets.unsqueeze(1)) * row_weights.unsqueeze(1)
        slopes = (scores_NR.T @ errors_NPC.flatten(1)).view_as(maps) * fitted_C + penalties.view(1, -1, 1) * ahead
        last, last_biases = maps, biases
        maps, biases = ahead - steps_RPC * slopes, biases_ahead - bias_steps_C * errors_NPC.sum(dim=0)
        change = maps - last
        age_P = torch.where((change * slopes).sum(dim=(0, 2)) > 0, 1.0, age_P)
        settled_P = _largest(change) <= tolerance * _largest(maps)
        settled_P &= ((biases - last_biases).abs() * resting_C).amax(dim=1) <= tolerance
        if settled_P.any():
            found[:, left_P[settled_P]], found_biases[left_P[settled_P]] = maps[:, settled_P], biases[settled_P]
            goes_P = ~settled_P
            left_P, penalties, age_P, steps_RPC = left_P[goes_P], penalties[goes_P], age_P[goes_P], steps_RPC[:, goes_P]
            maps, last, biases, last_biases = maps[:, goes_P], last[:, goes_P], biases[goes_P], last_biases[goes_P]
            if not len(left_P):
                break
    found[:, left_P], found_biases[left_P] = maps, biases
    found, found_biases = found.double(), found_biases.double()
    return LinearMaps(torch.einsum("rpc,rd->pcd", found, inputs.basis), found_biases)


def _largest(coefficients_RPC: Tensor) -> Tensor:
    """Find the largest magnitude for every penalty, `[P]`; 0 where there is no coefficient."""
    return functional.pad(coefficients_RPC.abs(), (0, 0, 0, 0, 0, 1)).amax(dim=(0, 2))
