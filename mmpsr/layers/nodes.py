"""Modalities as nodes of a small graph: means and softmax over those present, a spectral filter, conflict."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

__all__ = ["conflicts", "masked_mean", "masked_softmax", "mean_conflict", "present_pairs", "spectral_filter"]


def masked_mean(nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
    """Average over present nodes, `[B, M, H] -> [B, H]`; zero where none is present.

    Example:
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    weights_BM1 = mask_BM.to(nodes_BMH.dtype).unsqueeze(-1)
    return (nodes_BMH * weights_BM1).sum(dim=1) / weights_BM1.sum(dim=1).clamp(min=1)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Take the softmax over the last dimension where `mask` (broadcast) is true; zeros where nothing is.

    Example:
        >>> masked_softmax(torch.zeros(2, 2), torch.tensor([[True, False], [False, False]]))
        tensor([[1., 0.],
                [0., 0.]])
    """
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(filled, dim=-1) * mask.to(scores.dtype)


def spectral_filter(
    nodes_BMH: Tensor, mask_BM: Tensor, at_one: float, at_deviations: Tensor | float, at_zero: float
) -> Tensor:
    """Apply f(A) to nodes, for an analytic f of A = (J - I)/(n - 1) on the n present nodes, `[B, M, H] -> [B, M, H]`.

        f(A) x = f(1) mean + f(-1/(n - 1)) (x - mean)

    for present nodes of a clip with at least two; all others become f(0) x.

    Args:
        nodes_BMH: x.
        mask_BM: bool, which nodes are present.
        at_one: f(1).
        at_deviations: f(-1/(n - 1)), `[B, 1, 1]` or one value; unused where n < 2.
        at_zero: f(0).

    Example:
        >>> nodes, mask = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])
        >>> spectral_filter(nodes, mask, 1.0, 0.5, 0.0).flatten().tolist()
        [1.5, 2.5, 0.0]
    """
    active_BM1 = (mask_BM & (mask_BM.sum(dim=1, keepdim=True) >= 2)).unsqueeze(-1)
    mean_B1H = masked_mean(nodes_BMH, mask_BM).unsqueeze(1)
    return torch.where(active_BM1, at_one * mean_B1H + at_deviations * (nodes_BMH - mean_B1H), at_zero * nodes_BMH)


def conflicts(nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
    """Measure the distances of every pair i < j, in the modalities' order, `[B, P, H]`; zero where either is absent.

        c_ij = |x_i - x_j|, by component

    Args:
        nodes_BMH: x; what stands in an absent node never matters.
        mask_BM: bool, which nodes are present.

    Example:
        >>> nodes = torch.tensor([[[1.0], [4.0], [9.0]]])
        >>> conflicts(nodes, torch.tensor([[True, True, False]])).flatten().tolist()
        [3.0, 0.0, 0.0]
    """
    nodes_BMH = torch.where(mask_BM.unsqueeze(-1), nodes_BMH, 0.0)
    first, second = _pairs(nodes_BMH)
    return (first - second).abs() * present_pairs(mask_BM).unsqueeze(-1).to(nodes_BMH.dtype)


def mean_conflict(nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
    """Average `conflicts` over pairs that are present, `[B, H]`; zero with fewer than two modalities.

    Example:
        >>> nodes = torch.tensor([[[1.0], [4.0], [9.0]]])
        >>> mean_conflict(nodes, torch.ones(1, 3, dtype=torch.bool)).item()  # (3 + 8 + 5) / 3
        5.333333492279053
    """
    count_B1 = present_pairs(mask_BM).sum(dim=1, keepdim=True).clamp(min=1)
    return conflicts(nodes_BMH, mask_BM).sum(dim=1) / count_B1


def present_pairs(mask_BM: Tensor) -> Tensor:
    """Mark pairs i < j of which both are present, bool `[B, P]`."""
    first, second = _pairs(mask_BM)
    return first & second


def _pairs(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Take the first and the second of every pair along dimension 1."""
    pairs = list(combinations(range(nodes.shape[1]), 2))
    if not pairs:
        return nodes[:, :0], nodes[:, :0]
    columns = nodes.unbind(dim=1)
    return torch.stack([columns[i] for i, _ in pairs], dim=1), torch.stack([columns[j] for _, j in pairs], dim=1)
