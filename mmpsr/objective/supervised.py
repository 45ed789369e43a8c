"""Supervised losses of one task: sums over known labels that are averaged late, and class weights.

Shape suffixes: B or N clips, C outputs of a task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.probabilities import LEAST_DEVIATION, at_least_single
from mmpsr.tasks import TaskSpec

__all__ = ["BRANCHES", "LossSum", "balanced_weights", "known_losses", "supervised_loss", "trained_targets"]

BRANCHES = ("supervised", "pseudo")


@dataclass(frozen=True)
class LossSum:
    """A loss before it is averaged.

    Attributes:
        total: scalar, summed over the rows or elements that count.
        count: scalar, how many those are, or the sum of their weights.
    """

    total: Tensor
    count: Tensor

    def mean(self) -> Tensor:
        """Average, zero (with a zero gradient) where nothing counts."""
        return self.total / self.count.clamp(min=1)


def trained_targets(labels_NC: Tensor, spec: TaskSpec) -> Tensor:
    """Turn known labels of a classification task into what its probabilities are trained to be, `[N, C]`.

    One-hot of the largest for `cross_entropy`, shares for `soft_cross_entropy`, 1 where positive and else 0 for
    `binary_cross_entropy`, and for `soft_binary_cross_entropy`, with f the task's `presence_floor`,

        t(0) = 0,   t(y) = f + (1 - f) y for intensities 0 < y <= 1

    so that a higher intensity is more surely present, and whoever decides at 0.5 decides for every presence.

    Example:
        >>> from mmpsr.tasks import EMOTION
        >>> spec = EMOTION.model_copy(update={"loss": "soft_binary_cross_entropy"})
        >>> trained_targets(torch.tensor([[0.0, 0.2, 1.0]]), spec)
        tensor([[0.0000, 0.6000, 1.0000]])
    """
    if spec.loss == "cross_entropy":
        return functional.one_hot(labels_NC.argmax(dim=1), spec.num_outputs).to(labels_NC.dtype)
    if spec.loss == "soft_cross_entropy":
        return labels_NC / labels_NC.sum(dim=1, keepdim=True).clamp(min=1e-6)
    present_NC = (labels_NC > 0).to(labels_NC.dtype)
    if spec.loss == "soft_binary_cross_entropy":
        return present_NC * (spec.presence_floor + (1 - spec.presence_floor) * labels_NC)
    return present_NC


def balanced_weights(labels_NC: Tensor, spec: TaskSpec) -> Tensor:
    """Compute class weights by inverse frequency over labelled rows, as scikit-learn's `balanced`.

        cross-entropies over classes: w_c = N / (C N_c)
        binary cross-entropies: w_c(absent) = N / (2 N_c(absent)),  w_c(present) = N / (2 N_c(present))

    Soft targets count as the shares that they are: N_c(present) = sum of t_c, N_c(absent) = sum of 1 - t_c.

    Returns:
        `[2, C]`: weights of absent and of present targets. For cross-entropies over classes only the second row is
        used. Classes without an example keep 1.
    """
    targets = trained_targets(labels_NC[torch.isfinite(labels_NC).all(dim=1)], spec)
    present, sides = targets.sum(dim=0), 2 if spec.is_binary else spec.num_outputs
    counts = torch.stack([len(targets) - present, present])
    return torch.where(counts > 0, len(targets) / (sides * counts.clamp(min=1)), torch.ones_like(counts))


def supervised_loss(
    predicted_BC: Tensor,
    labels_BC: Tensor,
    spec: TaskSpec,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    row_weights: Tensor | None = None,
    log_deviations_BC: Tensor | None = None,
    beta: float = 0.0,
) -> LossSum:
    """Sum the loss over known labels only.

    With z logits, s scores, y labels, t targets of `trained_targets`, q = (1 - smoothing) t + smoothing / C, w class
    weights, and d deviations, at least d_0 = 0.01:

        cross_entropy, soft_cross_entropy: -sum_c w_c q_c log softmax(z)_c
        binary_cross_entropy, soft_binary_cross_entropy: mean over c of
            t_c w_c(present) BCE(sigmoid(z_c), 1 - smoothing / 2)
            + (1 - t_c) w_c(absent) BCE(sigmoid(z_c), smoothing / 2)
        mae: |s_c - y_c|,   mse: (s_c - y_c)^2
        gaussian_nll: d_c^(2 beta) (log(d_c / d_0) + (s_c - y_c)^2 / (2 d_c^2)),   d_c^(2 beta) without a gradient
        laplace_nll: b_c^beta (log(b_c / b_0) + |s_c - y_c| / b_c),   b = d / sqrt(2)

    So a soft target is the share of a clip that counts as present. The negative log-likelihoods are those of the
    normal and of the Laplace distribution with standard deviation d, less a constant that keeps them from falling below
    0, which balancing by ratios of losses needs. With beta = 0 they are likelihoods proper, under which clips that are
    predicted badly count less and less; beta = 0.5 is advised against that, and 1 gives scores the gradients of
    (s - y)^2 / 2 or mae.

    Args:
        predicted_BC: logits, or scores in [0, 1] for regression.
        labels_BC: targets, NaN where unknown. Classification rows count when all their labels are known, regression
            elements one by one.
        spec: the task.
        class_weights: `[2, C]` of `balanced_weights`.
        label_smoothing: see `ObjectiveConfig`.
        row_weights: `[B]`, factors on the clips' losses, not on their count.
        log_deviations_BC: logarithms of d, which the negative log-likelihoods need.
        beta: in [0, 1], see above.

    Returns:
        Sum and count; rows for classification, elements for regression.

    Raises:
        ValueError: a negative log-likelihood without deviations.

    References:
        Nix, Weigend: Estimating the mean and variance of the target probability distribution. ICNN 1994. Kendall, Gal:
        What uncertainties do we need in Bayesian deep learning for computer vision? NeurIPS 2017. Seitzer et al.: On
        the pitfalls of heteroscedastic uncertainty estimation with probabilistic neural networks. ICLR 2022 (beta).
    """
    losses, known = known_losses(
        predicted_BC, labels_BC, spec, class_weights, label_smoothing, row_weights, log_deviations_BC, beta
    )
    return LossSum(losses.sum(), known.sum())


def known_losses(
    predicted_BC: Tensor,
    labels_BC: Tensor,
    spec: TaskSpec,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    row_weights: Tensor | None = None,
    log_deviations_BC: Tensor | None = None,
    beta: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Compute what `supervised_loss` sums: losses, 0 where unknown, and what is known, `[B]`, for regression `[B, C]`.

    Class weights may be of each clip, too, `[2, B, C]`.
    """
    known_BC = torch.isfinite(labels_BC)
    predicted_BC = at_least_single(predicted_BC)
    targets_BC = torch.where(known_BC, labels_BC, 0.0).to(predicted_BC.dtype)
    if spec.kind == "regression":
        if spec.is_heteroscedastic and log_deviations_BC is None:
            raise ValueError(f"loss {spec.loss!r} needs the deviations of the scores, which were not given")
        element = _regression(predicted_BC - targets_BC, log_deviations_BC, spec, beta)
        element = element if row_weights is None else element * row_weights.unsqueeze(1)
        return torch.where(known_BC, element, 0.0), known_BC
    rows_B = known_BC.all(dim=1)
    losses = _LOSSES[spec.loss]
    losses_B = losses(predicted_BC, trained_targets(targets_BC, spec), class_weights, label_smoothing)
    losses_B = losses_B if row_weights is None else losses_B * row_weights
    return torch.where(rows_B, losses_B, 0.0), rows_B


def _regression(error_BC: Tensor, log_deviations_BC: Tensor | None, spec: TaskSpec, beta: float) -> Tensor:
    if log_deviations_BC is None or not spec.is_heteroscedastic:
        return error_BC.square() if spec.loss == "mse" else error_BC.abs()
    logs_BC = log_deviations_BC.to(error_BC.dtype)
    above_BC, power = logs_BC - math.log(LEAST_DEVIATION), 2.0
    if spec.loss == "laplace_nll":
        logs_BC, power = logs_BC - math.log(2) / 2, 1.0
        likelihood_BC = above_BC + error_BC.abs() / logs_BC.exp()
    else:
        likelihood_BC = above_BC + error_BC.square() / (2 * (2 * logs_BC).exp())
    return likelihood_BC if beta == 0 else (power * beta * logs_BC.detach()).exp() * likelihood_BC


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    targets = (1 - smoothing) * targets + smoothing / logits.shape[1]
    if weights is not None:
        targets = targets * weights[1]
    return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)


def _binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    return _of_sides(logits, targets, weights, smoothing).mean(dim=1)


def _soft_binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    absent, present = (_of_sides(logits, torch.full_like(targets, side), weights, smoothing) for side in (0.0, 1.0))
    return torch.lerp(absent, present, targets).mean(dim=1)


def _of_sides(logits: Tensor, sides: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Compute the loss of every class, where it is present (1) or absent (0), `[B, C]`."""
    soft = (1 - smoothing) * sides + smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    return losses if weights is None else losses * torch.where(sides > 0, weights[1], weights[0])


_LOSSES = {
    "cross_entropy": _cross_entropy,
    "soft_cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "soft_binary_cross_entropy": _soft_binary_cross_entropy,
}
