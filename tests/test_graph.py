from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import DenseGATConv, GATConv

from mmpsr.graph import GAT, UCGNN, NoGraph, create_graph, masked_mean, masked_softmax


def all_masks(num_nodes: int) -> Tensor:
    """Every subset of the nodes, `[2^M, M]`."""
    return torch.tensor(list(itertools.product([False, True], repeat=num_nodes)))


def normalized_adjacency(mask_M: Tensor) -> Tensor:
    """D^{-1/2} (J - I) D^{-1/2} of the complete graph on the present nodes, zero elsewhere, `[M, M]`."""
    present = mask_M.double()
    edges = torch.outer(present, present) * (1 - torch.eye(len(mask_M), dtype=torch.float64))
    scale = edges.sum(dim=1).clamp(min=1).rsqrt()
    return scale[:, None] * edges * scale


def propagated(nodes_MH: Tensor, mask_M: Tensor) -> Tensor:
    """exp(iA) by torch's matrix exponential, `[M, H] -> [M, H]`."""
    real, imaginary = nodes_MH.double().chunk(2, dim=-1)
    moved = torch.matrix_exp(1j * normalized_adjacency(mask_M)) @ torch.complex(real, imaginary)
    return torch.cat([moved.real, moved.imag], dim=-1)


def uniform(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator, dtype=torch.float64).mul(2).sub(1).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("num_nodes", range(1, 7))
def test_ucgnn_is_the_matrix_exponential_on_every_subset(num_nodes: int, dtype: torch.dtype, tolerance: float) -> None:
    masks = all_masks(num_nodes)
    nodes = uniform(len(masks), num_nodes, 8, dtype=dtype)
    found = UCGNN(8).propagate(nodes, masks)
    expected = torch.stack([propagated(*pair) for pair in zip(nodes, masks, strict=True)])
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)
    assert torch.equal(found[~masks], nodes[~masks])
    alone = masks.sum(dim=1) <= 1
    assert torch.equal(found[alone], nodes[alone])


def test_ucgnn_by_hand() -> None:
    # n = 2, A = [[0, 1], [1, 0]]: exp(iA) = cos(1) I + i sin(1) A. Node 1 is 1, node 2 is 0, so that node 1 becomes
    # cos 1 = 0.5403023 and node 2 becomes i sin 1 = 0.8414710 i.
    found = UCGNN(2).propagate(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(found, torch.tensor([[[0.5403023, 0.0], [0.0, 0.8414710]]]))


def test_ucgnn_keeps_the_norm() -> None:
    nodes, masks = uniform(64, 6, 8), all_masks(6)
    present = masks.unsqueeze(-1)
    found = UCGNN(8).propagate(nodes, masks)
    torch.testing.assert_close((found * present).norm(dim=(1, 2)), (nodes * present).norm(dim=(1, 2)))


def test_ucgnn_forward_adds_weights_bias_relu_and_dropout() -> None:
    layer, nodes, masks = UCGNN(8, dropout=0.5), uniform(16, 4, 8), all_masks(4)
    assert torch.equal(layer.bias, torch.zeros(8))
    nn.init.uniform_(layer.bias, -1, 1)
    transformed = nodes @ layer.linear.weight.T
    expected = torch.stack([propagated(*pair) for pair in zip(transformed, masks, strict=True)]) + layer.bias
    expected = expected.clamp(min=0).float()
    torch.testing.assert_close(layer.eval()(nodes, masks), expected)
    torch.manual_seed(0)
    dropped = layer.train()(nodes, masks)
    assert 0.3 < (dropped[expected > 0] == 0).float().mean() < 0.7
    torch.testing.assert_close(dropped[dropped > 0], 2 * expected[dropped > 0])


def test_ucgnn_dropout_defaults_to_the_published_rate() -> None:
    assert UCGNN(4).dropout.p == 0.2


def test_ucgnn_needs_an_even_width() -> None:
    with pytest.raises(ValueError, match=r"even width.*found 5"):
        UCGNN(5)


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


@pytest.mark.parametrize("kind", ["ucgnn", "gat", "none"])
def test_layers_commute_with_permutations_and_ignore_padding(kind: str) -> None:
    layer = create_graph(kind, 8, dropout=0.2).eval()
    nodes, masks = uniform(16, 4, 8), all_masks(4)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(layer(nodes[:, order], masks[:, order]), layer(nodes, masks)[:, order])
    padded = layer(torch.cat([nodes, 1e6 * uniform(16, 2, 8)], dim=1), nn.functional.pad(masks, (0, 2)))[:, :4]
    torch.testing.assert_close(padded, layer(nodes, masks))


@pytest.mark.parametrize("kind", ["ucgnn", "gat"])
def test_gradients_reach_weights_and_present_nodes_only(kind: str) -> None:
    layer, nodes, masks = create_graph(kind, 8, dropout=0.0).double(), uniform(16, 4, 8).double(), all_masks(4)
    nodes.requires_grad_()
    # The pooled output of each clip depends on its present nodes alone.
    masked_mean(layer(nodes, masks), masks).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert nodes.grad is not None
    assert torch.isfinite(nodes.grad).all()
    assert torch.equal(nodes.grad.abs().sum(dim=-1) > 0, masks)


def test_masked_mean() -> None:
    # Present 1 and 5: mean 3. Only 2: 2. None: 0.
    nodes = torch.tensor([[1.0, 5.0, 9.0], [1.0, 2.0, 9.0], [1.0, 5.0, 9.0]]).unsqueeze(-1)
    mask = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    assert masked_mean(nodes, mask).tolist() == [[3.0], [2.0], [0.0]]


def test_masked_softmax_takes_extreme_scores() -> None:
    scores = torch.tensor([[1e30, 1e30, 0.0], [-1e30, -1e30, 0.0]])
    mask = torch.tensor([True, True, False])
    assert masked_softmax(scores, mask).tolist() == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]


def test_create_graph() -> None:
    assert isinstance(create_graph("none", 3, 0.1), NoGraph)
    assert isinstance(create_graph("gat", 3, 0.1), GAT)
    ucgnn = create_graph("ucgnn", 4, 0.1)
    assert isinstance(ucgnn, UCGNN)
    assert ucgnn.dropout.p == 0.1
    with pytest.raises(ValueError, match="no graph layer is named 'gcn'; known are ucgnn, gat, none"):
        create_graph("gcn", 4, 0.1)


@pytest.mark.parametrize(("kind", "expected"), [("ucgnn", 16 * 16 + 16), ("gat", 16 * 16 + 2 * 16), ("none", 0)])
def test_parameter_counts(kind: str, expected: int) -> None:
    assert sum(parameter.numel() for parameter in create_graph(kind, 16, 0.0).parameters()) == expected
