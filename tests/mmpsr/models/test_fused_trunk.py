"""The trunk of a fused pass: exponentials of all sets of modalities."""

from __future__ import annotations

import pytest
import torch

from mmpsr.layers.dropout import Dropout, draw_kept
from mmpsr.layers.graph.ucgnn import UCGNN
from mmpsr.models.fused_trunk import MOST_PATTERNS, Exponentials


@pytest.mark.parametrize("num_nodes", [1, 3, MOST_PATTERNS + 1])
def test_exponentials_are_those_of_the_graph_layer(num_nodes: int) -> None:
    torch.manual_seed(0)
    graph = UCGNN(6)
    nodes, mask = torch.randn(9, num_nodes, 6), torch.rand(9, num_nodes) < 0.6
    turned = torch.bmm(Exponentials(graph, num_nodes).of(mask, torch.float32), nodes.reshape(9, 2 * num_nodes, 3))
    torch.testing.assert_close(turned.view_as(nodes), graph.propagate(nodes, mask))


def test_what_dropout_keeps_is_drawn_as_dropout_draws() -> None:
    layer, kept = Dropout(0.3), torch.full((2, 4, 8), torch.nan)
    torch.manual_seed(0)
    expected = [layer(torch.ones(4, 8)), layer(torch.ones(4, 5))]
    torch.manual_seed(0)
    draw_kept(kept[0], 0.3)
    draw_kept(kept[1, :, :5], 0.3)  # a part of wider rows
    torch.testing.assert_close(kept[0], expected[0], rtol=0, atol=0)
    torch.testing.assert_close(kept[1, :, :5], expected[1], rtol=0, atol=0)
    assert torch.isnan(kept[1, :, 5:]).all()
    draw_kept(kept, 0.0)
    assert (kept == 1.0).all()
