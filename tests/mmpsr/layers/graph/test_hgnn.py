from __future__ import annotations

import math

import pytest
import torch

from mmpsr.layers.graph.hgnn import HGNN
from tests.support.graph_cases import all_masks, normalized_adjacency, uniform


@pytest.mark.parametrize(("steps", "size"), [(1, 0.25), (2, 1.9), (4, 0.25), (7, 0.6), (100, 0.01)])
@pytest.mark.parametrize("num_nodes", [1, 2, 3, 5])
def test_closed_form_is_the_recursion_on_every_subset(num_nodes: int, steps: int, size: float) -> None:
    layer, masks = HGNN(8, steps, size).double(), all_masks(num_nodes)
    nodes = uniform(len(masks), num_nodes, 8, dtype=torch.float64)
    found = layer(nodes, masks)
    for clip, mask in enumerate(masks):
        adjacency, identity = normalized_adjacency(mask), torch.eye(num_nodes, dtype=torch.float64)
        position, velocity = layer.position(nodes[clip : clip + 1])[0], layer.velocity(nodes[clip : clip + 1])[0]
        before, now = position, size * velocity + (identity + size**2 * adjacency / 2) @ position
        for _ in range(steps - 1):
            before, now = now, (2 * identity + size**2 * adjacency) @ now - before
        torch.testing.assert_close(found[clip], now, rtol=1e-10, atol=1e-10)


def test_by_hand() -> None:
    # phi0 = x = (1, 0), phi1 = 0 and dt = 1 on two nodes: Y = I + A/2 = [[1, 0.5], [0.5, 1]] and T_2(Y) = 2 Y^2 - I =
    # [[1.5, 2], [2, 1.5]], so that x becomes (1.5, 2). With phi1 = x and phi0 = 0: U_1(Y) x = 2 Y x = (2, 1).
    layer, present = HGNN(1, num_steps=2, step_size=1.0), torch.ones(1, 2, dtype=torch.bool)
    nodes = torch.tensor([[[1.0], [0.0]]])
    for position, velocity, expected in ((1.0, 0.0, [1.5, 2.0]), (0.0, 1.0, [2.0, 1.0])):
        for linear, value in ((layer.position, position), (layer.velocity, velocity)):
            linear.weight.data.fill_(value)
            linear.bias.data.zero_()
        torch.testing.assert_close(layer(nodes, present).flatten(), torch.tensor(expected))


def test_a_lone_node_moves_straight() -> None:
    layer, nodes = HGNN(4, 5, 0.2), uniform(1, 3, 4)
    found = layer(nodes, torch.tensor([[False, True, False]]))[:, 1]
    # A = 0: phi0 + k dt phi1 with k dt = 1.
    torch.testing.assert_close(found, layer.position(nodes[:, 1]) + layer.velocity(nodes[:, 1]))


def test_small_steps_lose_no_digits() -> None:
    # The wave equation itself: cosh(t) on the mean, cos(t/sqrt(n - 1)) on deviations, for t = 1.
    layer, nodes = HGNN(4, 100_000, 1e-5), uniform(1, 3, 4)
    for linear in (layer.position, layer.velocity):
        linear.weight.data.copy_(torch.eye(4))
        linear.bias.data.zero_()
    mean = nodes.mean(dim=1, keepdim=True)
    slow = 1 / math.sqrt(2)
    expected = (math.cosh(1) + math.sinh(1)) * mean
    expected = expected + (math.cos(slow) + math.sin(slow) / slow) * (nodes - mean)
    torch.testing.assert_close(layer(nodes, torch.ones(1, 3, dtype=torch.bool)), expected)
