from __future__ import annotations

import torch
from graph_cases import all_masks, normalized_adjacency, uniform

from mmpsr.layers.nodes import masked_mean, masked_softmax, spectral_filter


def test_masked_mean() -> None:
    # Present 1 and 5: mean 3. Only 2: 2. None: 0.
    nodes = torch.tensor([[1.0, 5.0, 9.0], [1.0, 2.0, 9.0], [1.0, 5.0, 9.0]]).unsqueeze(-1)
    mask = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    assert masked_mean(nodes, mask).tolist() == [[3.0], [2.0], [0.0]]


def test_masked_softmax_takes_extreme_scores() -> None:
    scores = torch.tensor([[1e30, 1e30, 0.0], [-1e30, -1e30, 0.0]])
    mask = torch.tensor([True, True, False])
    assert masked_softmax(scores, mask).tolist() == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]


def test_spectral_filter_is_the_function_of_the_matrix() -> None:
    # f(A) = 2 I - A + 3 A^2: f(1) = 4, f(0) = 2, f(-s) = 2 + s + 3 s^2 with s = 1/(n - 1).
    masks = all_masks(5)
    nodes = uniform(32, 5, 3, dtype=torch.float64)
    share = 1 / (masks.sum(dim=1) - 1).clamp(min=1).double()[:, None, None]
    found = spectral_filter(nodes, masks, 4.0, 2 + share + 3 * share**2, 2.0)
    for clip in range(32):
        adjacency = normalized_adjacency(masks[clip])
        function = 2 * torch.eye(5) - adjacency + 3 * adjacency @ adjacency
        torch.testing.assert_close(found[clip], function @ nodes[clip])
