"""Uniform random walks over the present modalities of a clip, and their anonymous form.

A walk has L nodes and never stays where it is, except at a node without present neighbours, where all its nodes are
that one. The anonymous form of a walk keeps, of each of its nodes, the rank of its first appearance: (3, 1, 3, 0)
becomes (0, 1, 0, 2).

Shape suffixes: B clips, M modalities (nodes), W walks, K walks from each node, L nodes of a walk.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

__all__ = ["all_walks", "anonymous_ranks", "sample_walks", "walk_probabilities"]


def anonymous_ranks(walks: Tensor) -> Tensor:
    """Rank of the first appearance of every node of a walk, `[..., L] -> [..., L]`.

    Example:
        >>> anonymous_ranks(torch.tensor([3, 1, 3, 0]))
        tensor([0, 1, 0, 2])
    """
    first = (walks.unsqueeze(-1) == walks.unsqueeze(-2)).int().argmax(dim=-1)
    is_new = first == torch.arange(walks.shape[-1], device=walks.device)
    return (is_new.long().cumsum(dim=-1) - 1).gather(-1, first)


def all_walks(num_nodes: int, length: int) -> Tensor:
    """Every walk from every node, `[M, W, L]`: the (M - 1)^(L - 1) that move, and last the one that stays.

    Walks of the same place W have the same anonymous form.

    Example:
        >>> all_walks(2, 3).tolist()
        [[[0, 1, 0], [0, 0, 0]], [[1, 0, 1], [1, 1, 1]]]
    """
    moving = [
        walk
        for walk in itertools.product(range(num_nodes), repeat=length)
        if walk[0] == 0 and all(now != after for now, after in itertools.pairwise(walk))
    ]
    from_zero = torch.tensor([*moving, (0,) * length])
    # From node i: every name moves up by i.
    return (from_zero + torch.arange(num_nodes).view(-1, 1, 1)) % num_nodes


def walk_probabilities(walks_WL: Tensor, mask_BM: Tensor, dtype: torch.dtype) -> Tensor:
    """Probability of each of `all_walks` from one node, `[B, W]`; zeros where the node is absent.

    Example:
        >>> mask = torch.tensor([[True, True, True], [True, False, True], [True, False, False]])
        >>> walk_probabilities(torch.tensor([[0, 1], [0, 2], [0, 0]]), mask, torch.float32)
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 1.0000, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """
    present_BWL = mask_BM[:, walks_WL]
    num_present_B1 = mask_BM.sum(dim=1, keepdim=True)
    stays_W = walks_WL[:, 0] == walks_WL[:, 1]
    # A node stays only where it is the only present one, and moves only where it is not.
    possible_BW = present_BWL.all(dim=2) & (stays_W == (num_present_B1 == 1))
    steps = walks_WL.shape[1] - 1
    return possible_BW.to(dtype) / (num_present_B1 - 1).clamp(min=1) ** steps


def sample_walks(scores: Tensor, mask_BM: Tensor) -> Tensor:
    """Walks that go, at each step, to the present neighbour of the highest score.

    Args:
        scores: independent and uniform in [0, 1), `[B or 1, L - 1, M, K, M]`: by step, start, walk and next node.
        mask_BM: bool, which nodes are present.

    Returns:
        K walks from each node, `[B, M, K, L]`.
    """
    _, _, num_nodes, num_walks, _ = scores.shape
    nodes = torch.arange(num_nodes, device=mask_BM.device)
    current = nodes.view(1, -1, 1).expand(mask_BM.shape[0], num_nodes, num_walks)
    walks = [current]
    for step_scores in scores.unbind(dim=1):
        allowed = mask_BM[:, None, None, :] & (nodes != current.unsqueeze(-1))
        chosen = step_scores.masked_fill(~allowed, -1.0).argmax(dim=-1)
        current = torch.where(allowed.any(dim=-1), chosen, current)
        walks.append(current)
    return torch.stack(walks, dim=-1)
