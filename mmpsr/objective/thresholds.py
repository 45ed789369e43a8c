"""Rules that follow the model: acceptance thresholds by class, and the distribution of its pseudo-labels.

Each reads one task's predictions as distributions `[B, P, K]`: a task with one class per clip is one distribution over
its classes (P = 1, K = C), a task of independent classes has two sides each, absent and present (P = C, K = 2).
Running averages are buffers, taken over the unlabelled clips of the global batch; without any they stay as they are.

Shape suffixes: B clips, P distributions of a clip, K classes or sides of one, N train clips, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmpsr.objective.supervised import trained_targets
from mmpsr.probabilities import has_one_class
from mmpsr.tasks import TaskSpec

__all__ = ["Alignment", "FlexMatch", "FreeMatch", "Total", "distributions", "identity", "marginal", "onehot"]

Total = Callable[[Tensor], Tensor]
"""Sums a tensor over processes."""


def identity(tensor: Tensor) -> Tensor:
    """Sum over a single process; a `Total`."""
    return tensor


def distributions(probabilities_BC: Tensor, spec: TaskSpec) -> Tensor:
    """Write probabilities or scores as distributions, `[B, C] -> [B, 1, C]` or, with two sides each, `[B, C, 2]`."""
    if has_one_class(spec):
        return probabilities_BC.unsqueeze(1)
    return torch.stack([1 - probabilities_BC, probabilities_BC], dim=-1)


def onehot(probs_BPK: Tensor) -> Tensor:
    """Mark each distribution's most probable class one-hot; the first of equals."""
    classes_K = torch.arange(probs_BPK.shape[-1], device=probs_BPK.device)
    return (probs_BPK.argmax(dim=-1, keepdim=True) == classes_K).to(probs_BPK.dtype)


def marginal(labels_NC: Tensor, spec: TaskSpec) -> Tensor:
    """Count how often each class, or each side of a class, is the train label, `[P, K]`; at least 1e-6.

    Labels are read as the supervised loss reads them, see `trained_targets`.

    Raises:
        ValueError: no clip is labelled.
    """
    labels = labels_NC[torch.isfinite(labels_NC).all(dim=1)].float()
    if len(labels) == 0:
        raise ValueError(
            f"align_distribution needs the distribution of train labels, and none of {len(labels_NC)} train clips "
            f"has labels of {list(spec.classes)}; switch it off or add a labelled corpus"
        )
    return distributions(trained_targets(labels, spec), spec).mean(dim=0).clamp(min=1e-6)


def _mean_of_candidates(values_BPK: Tensor, candidates_B: Tensor, total: Total) -> tuple[Tensor, Tensor]:
    """Average over the candidates of the global batch, and give 1.0 where it has any, else 0.0; one sum in all."""
    counted = torch.cat([values_BPK.flatten(1), torch.ones_like(values_BPK[:, 0, :1])], dim=1)
    sums = total((candidates_B.unsqueeze(1) * counted).sum(dim=0))
    count = sums[-1]
    return (sums[:-1] / count.clamp(min=1)).view(values_BPK.shape[1:]), (count > 0).float()


class FlexMatch(nn.Module):
    """Thresholds by learning status: classes that are rarely predicted with confidence are accepted earlier.

        s(k) <- momentum s(k) + (1 - momentum) mean_b [max p_b > tau and argmax p_b = k]
        beta(k) = s(k) / max(max_k s(k), 1 - sum_k s(k)),   T(k) = tau beta(k) / (2 - beta(k))

    The published s(k) is the share of all unlabelled clips whose latest confident prediction is k; a running average
    of the batches' shares stands for it, so that no clip is remembered by name. 1 - sum_k s(k), the clips without a
    confident prediction yet, lets all thresholds rise from 0 at the start.

    Args:
        shape: (P, K).
        threshold: tau.
        momentum: of the running average, in [0, 1).

    References:
        Zhang et al.: FlexMatch: Boosting Semi-Supervised Learning with Curriculum Pseudo Labeling. NeurIPS 2021.
    """

    learned: Tensor

    def __init__(self, shape: tuple[int, int], threshold: float, momentum: float) -> None:
        super().__init__()
        self.register_buffer("learned", torch.zeros(shape))
        self.threshold, self.momentum = threshold, momentum

    def forward(self, probs_BPK: Tensor, candidates_B: Tensor | None, total: Total) -> Tensor:
        """Give T, `[P, K]`, after this batch; nothing moves without `candidates_B` (1.0 where a clip may count)."""
        if candidates_B is not None:
            confident = onehot(probs_BPK) * (probs_BPK.amax(dim=-1, keepdim=True) > self.threshold)
            mean, has_any = _mean_of_candidates(confident, candidates_B, total)
            self.learned.lerp_(mean, (1 - self.momentum) * has_any)
        unused = 1 - self.learned.sum(dim=-1, keepdim=True)
        status = self.learned / torch.maximum(self.learned.amax(dim=-1, keepdim=True), unused)
        return self.threshold * status / (2 - status)


class FreeMatch(nn.Module):
    """Self-adaptive thresholds: the mean confidence, scaled by how often each class is expected.

        tau <- momentum tau + (1 - momentum) mean_b max p_b,   q(k) <- momentum q(k) + (1 - momentum) mean_b p_b(k)
        T(k) = tau q(k) / max_k q(k),   both from 1 / K

    The paper's fairness term compares a batch's mean prediction with q: it ties the clips of a batch together, and is
    left out.

    Args:
        shape: (P, K).
        momentum: of the running averages, in [0, 1).

    References:
        Wang et al.: FreeMatch: Self-adaptive Thresholding for Semi-supervised Learning. ICLR 2023.
    """

    confidence: Tensor
    expected: Tensor

    def __init__(self, shape: tuple[int, int], momentum: float) -> None:
        super().__init__()
        self.register_buffer("confidence", torch.full((shape[0], 1), 1 / shape[1]))
        self.register_buffer("expected", torch.full(shape, 1 / shape[1]))
        self.momentum = momentum

    def forward(self, probs_BPK: Tensor, candidates_B: Tensor | None, total: Total) -> Tensor:
        """Give T, `[P, K]`, after this batch; nothing moves without `candidates_B` (1.0 where a clip may count)."""
        if candidates_B is not None:
            both = torch.cat([probs_BPK.amax(dim=-1, keepdim=True), probs_BPK], dim=-1)
            mean, has_any = _mean_of_candidates(both, candidates_B, total)
            weight = (1 - self.momentum) * has_any
            self.confidence.lerp_(mean[:, :1], weight)
            self.expected.lerp_(mean[:, 1:], weight)
        return self.confidence * self.expected / self.expected.amax(dim=-1, keepdim=True)


class Alignment(nn.Module):
    """Distribution alignment: predictions rescaled so that on average they are spread as the train labels are.

        a(k) <- momentum a(k) + (1 - momentum) mean_b p_b(k), from m(k);   p'_b(k) ~ p_b(k) m(k) / a(k)

    It assumes that the unlabelled clips' classes are as frequent as the train labels', m.

    Args:
        marginal_PK: m, of `marginal`.
        momentum: of the running average, in [0, 1).

    References:
        Berthelot et al.: ReMixMatch: Semi-Supervised Learning with Distribution Alignment and Augmentation Anchoring.
        ICLR 2020.
    """

    marginal: Tensor
    average: Tensor

    def __init__(self, marginal_PK: Tensor, momentum: float) -> None:
        super().__init__()
        self.register_buffer("marginal", marginal_PK, persistent=False)
        self.register_buffer("average", marginal_PK.clone())
        self.momentum = momentum

    def forward(self, probs_BPK: Tensor, candidates_B: Tensor | None, total: Total) -> Tensor:
        """Give p', `[B, P, K]`, after this batch; nothing moves without `candidates_B` (1.0 where a clip may count)."""
        if candidates_B is not None:
            mean, has_any = _mean_of_candidates(probs_BPK, candidates_B, total)
            self.average.lerp_(mean, (1 - self.momentum) * has_any)
        scaled = probs_BPK * self.marginal / self.average.clamp(min=1e-6)
        return scaled / scaled.sum(dim=-1, keepdim=True)
