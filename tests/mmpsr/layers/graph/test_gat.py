from __future__ import annotations

import torch
from torch_geometric.nn import DenseGATConv, GATConv

from mmpsr.layers.graph.gat import GAT
from tests.support.graph_cases import all_masks, uniform


def test_gat_is_torch_geometrics_on_every_subset() -> None:
    layer, oracle = GAT(8), GATConv(8, 8, heads=1, bias=False, negative_slope=0.2)
    oracle.load_state_dict(
        {
            "lin.weight": layer.linear.weight.detach(),
            "att_dst": layer.target.detach().view(1, 1, 8),
            "att_src": layer.source.detach().view(1, 1, 8),
        }
    )
    for num_nodes in range(1, 6):
        masks = all_masks(num_nodes)
        nodes = uniform(len(masks), num_nodes, 8)
        found = layer(nodes, masks)
        assert torch.equal(found[0], torch.zeros(num_nodes, 8))
        for clip in range(1, len(masks)):
            present = masks[clip].nonzero().squeeze(1)
            edges = torch.combinations(torch.arange(len(present)))
            expected = oracle(nodes[clip, present], torch.cat([edges, edges.flip(1)]).T)
            torch.testing.assert_close(found[clip, present], expected, rtol=1e-5, atol=1e-6)


def test_gat_is_torch_geometrics_dense_layer() -> None:
    layer, oracle = GAT(8), DenseGATConv(8, 8, heads=1, bias=False)
    oracle.lin.weight = layer.linear.weight
    oracle.att_dst.data.copy_(layer.target)
    oracle.att_src.data.copy_(layer.source)
    nodes, masks = uniform(16, 4, 8), all_masks(4)
    adjacency = (masks.unsqueeze(1) & masks.unsqueeze(2)).float()
    present = masks.unsqueeze(-1)
    # The dense layer gives NaN, times a mask, where nothing is present.
    expected = oracle(nodes, adjacency, masks).nan_to_num(0.0)
    torch.testing.assert_close(layer(nodes, masks) * present, expected, rtol=1e-5, atol=1e-6)


def test_gat_by_hand() -> None:
    # W = 1, h = (1, -2), a1 = 1 (target), a2 = 2 (source): scores of node 1 are 1 + 2 = 3 and 1 - 4 = -3 -> -0.6;
    # softmax (3, -0.6) = (0.973403, 0.026597); 0.973403 - 2 * 0.026597 = 0.920209.
    # Node 2: -2 + 2 = 0 and -2 - 4 = -6 -> -1.2; softmax (0.768525, 0.231475); 0.768525 - 0.462950 = 0.305575.
    layer = GAT(1)
    for parameter, value in ((layer.linear.weight, 1.0), (layer.target, 1.0), (layer.source, 2.0)):
        parameter.data.fill_(value)
    found = layer(torch.tensor([[[1.0], [-2.0]]]), torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(found, torch.tensor([[[0.920209], [0.305575]]]), rtol=0, atol=2e-6)
