from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import DirGNNConv, MessagePassing
from torch_geometric.utils import degree

from mmpsr.layers.graph.edgnn import EDGNN
from tests.support.graph_cases import all_masks, uniform


def create(num_nodes: int = 4, alpha: float = 0.5, self_loop: bool = True) -> EDGNN:
    torch.manual_seed(0)
    layer = EDGNN(6, num_nodes, alpha, self_loop).double()
    nn.init.uniform_(layer.theta, 0.1, 1.4)
    return layer


def by_edges(layer: EDGNN, nodes_MH: Tensor, mask_M: Tensor) -> Tensor:
    """The layer's formula, one edge at a time."""
    present = mask_M.nonzero().flatten().tolist()
    angle = {}
    pairs = [(i, j) for i in range(len(mask_M)) for j in range(i + 1, len(mask_M))]
    for (i, j), theta in zip(pairs, layer.theta.tolist(), strict=False):
        angle[i, j], angle[j, i] = theta, math.pi / 2 - theta
    weight = {(i, j): math.cos(angle[i, j]) ** 2 for i in present for j in present if i != j}
    leaving = {i: sum(weight[i, j] for j in present if j != i) for i in present}
    entering = {j: sum(weight[i, j] for i in present if i != j) for j in present}
    incoming, outgoing = torch.zeros_like(nodes_MH), torch.zeros_like(nodes_MH)
    for (i, j), value in weight.items():
        share = value / math.sqrt(leaving[i] * entering[j])
        incoming[j] += share * nodes_MH[i]
        outgoing[i] += share * nodes_MH[j]
    mixed = layer.alpha * (incoming @ layer.incoming.weight.T + layer.incoming.bias)
    mixed = mixed + (1 - layer.alpha) * (outgoing @ layer.outgoing.weight.T + layer.outgoing.bias)
    return mixed if layer.own is None else mixed + nodes_MH @ layer.own.weight.T + layer.own.bias


@pytest.mark.parametrize(("alpha", "self_loop"), [(0.5, True), (0.2, False)])
@pytest.mark.parametrize("num_nodes", [1, 2, 4, 5])
def test_the_formula_edge_by_edge_on_every_subset(num_nodes: int, alpha: float, self_loop: bool) -> None:
    layer, masks = create(num_nodes, alpha, self_loop), all_masks(num_nodes)
    nodes = uniform(len(masks), num_nodes, 6, dtype=torch.float64)
    found = layer(nodes, masks)
    for clip, mask in enumerate(masks):
        torch.testing.assert_close(found[clip, mask], by_edges(layer, nodes[clip], mask)[mask])


class DirectedConvolution(MessagePassing):
    """D_in^{-1/2} A^T D_out^{-1/2} X W + b on the edges of a directed graph."""

    def __init__(self) -> None:
        super().__init__(aggr="add")
        self.in_channels = self.out_channels = 6
        self.linear = nn.Linear(6, 6).double()

    def reset_parameters(self) -> None:
        self.linear.reset_parameters()

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        leaving = degree(edges[0], len(nodes), torch.float64)[edges[0]]
        entering = degree(edges[1], len(nodes), torch.float64)[edges[1]]
        return self.linear(self.propagate(edges, x=nodes, weight=(leaving * entering).rsqrt()))

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return weight.unsqueeze(-1) * x_j


def test_at_the_bounds_it_is_torch_geometrics_convolution_of_the_directed_graph() -> None:
    # Its alpha is the share of messages against the edges.
    layer, oracle = create(5, alpha=0.3), DirGNNConv(DirectedConvolution(), alpha=0.7).double()
    for mine, other in (
        (layer.incoming, oracle.conv_in.linear),
        (layer.outgoing, oracle.conv_out.linear),
        (layer.own, oracle.lin),
    ):
        assert mine is not None
        mine.load_state_dict(other.state_dict())
    forward = torch.tensor([True, False, False, True, True, True, False, True, False, False])
    layer.theta.data = torch.where(forward, 0.0, torch.pi / 2).double()
    pairs = torch.triu_indices(5, 5, offset=1)
    edges = torch.where(forward, pairs, pairs.flip(0))
    nodes = uniform(1, 5, 6, dtype=torch.float64)
    found = layer(nodes, torch.ones(1, 5, dtype=torch.bool))
    torch.testing.assert_close(found[0], oracle(nodes[0], edges))


def test_by_hand() -> None:
    # theta_12 = pi/3, theta_13 = 0, theta_23 = pi/2: A_12 = 1/4, A_21 = 3/4, A_13 = 1, A_31 = 0, A_23 = 0, A_32 = 1.
    # D_out = (5/4, 3/4, 1), D_in = (3/4, 5/4, 1).
    layer, present = EDGNN(1, 3), torch.ones(1, 3, dtype=torch.bool)
    layer.theta.data = torch.tensor([torch.pi / 3, 0.0, torch.pi / 2])
    expected = torch.tensor(
        [
            [0.0, 0.25 / math.sqrt(1.25 * 1.25), 1 / math.sqrt(1.25 * 1.0)],
            [0.75 / math.sqrt(0.75 * 0.75), 0.0, 0.0],
            [0.0, 1 / math.sqrt(1.0 * 1.25), 0.0],
        ]
    )
    torch.testing.assert_close(layer.propagation(present)[0], expected)


def test_at_the_start_it_is_the_undirected_graph() -> None:
    # All weights are 1/2, degrees (n - 1)/2: P = A = (J - I)/(n - 1).
    layer = EDGNN(4, 4)
    expected = (torch.ones(4, 4) - torch.eye(4)) / 3
    torch.testing.assert_close(layer.propagation(torch.ones(1, 4, dtype=torch.bool))[0], expected)


def test_a_lone_node_keeps_only_its_own_part() -> None:
    mask, nodes = torch.tensor([[False, True, False, False]]), uniform(1, 4, 6, dtype=torch.float64)
    layer = create(alpha=0.25)
    assert layer.own is not None
    biases = 0.25 * layer.incoming.bias + 0.75 * layer.outgoing.bias
    torch.testing.assert_close(layer(nodes, mask)[0, 1], biases + layer.own(nodes)[0, 1])
    layer.own = None
    torch.testing.assert_close(layer(nodes, mask)[0, 1], biases)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_nodes", [2, 4])
def test_angles_at_their_bounds_have_finite_gradients(dtype: torch.dtype, num_nodes: int) -> None:
    layer, masks = EDGNN(6, num_nodes).to(dtype), all_masks(num_nodes)
    for bound in (0.0, torch.pi / 2):
        layer.theta.data.fill_(bound)
        layer.zero_grad()
        layer(uniform(len(masks), num_nodes, 6, dtype=dtype), masks).square().sum().backward()
        assert layer.theta.grad is not None
        assert (layer.theta.grad.abs() < 1e3).all()


def test_constrain_clamps_the_angles_only() -> None:
    layer = EDGNN(2, 3)
    weights = {name: parameter.clone() for name, parameter in layer.named_parameters()}
    layer.theta.data = torch.tensor([-0.1, 0.5, 2.0])
    layer.constrain_()
    assert layer.theta.tolist() == [0.0, 0.5, pytest.approx(math.pi / 2)]
    assert layer.theta.requires_grad
    assert all(torch.equal(parameter, weights[name]) for name, parameter in layer.named_parameters() if name != "theta")


def test_angles_learn_which_way_an_edge_runs() -> None:
    # Node 2 should repeat node 0 and hear nothing of node 1; the layer itself passes messages unchanged.
    layer, present = EDGNN(1, 3, alpha=1.0, self_loop=False), torch.ones(64, 3, dtype=torch.bool)
    layer.requires_grad_(False).theta.requires_grad_()
    layer.incoming.weight.fill_(1.0)
    layer.incoming.bias.zero_()
    optimizer = torch.optim.Adam([layer.theta], lr=0.05)
    nodes = uniform(64, 3, 1)
    for _ in range(200):
        optimizer.zero_grad()
        (layer(nodes, present)[:, 2] - nodes[:, 0]).square().mean().backward()
        optimizer.step()
        layer.constrain_()
        assert (layer.theta >= 0).all()
        assert (layer.theta <= torch.pi / 2 + 1e-6).all()
    # 0 -> 2 is open and 1 -> 2 closed.
    propagation = layer.propagation(present[:1])[0]
    assert propagation[0, 2] > 0.9
    assert propagation[1, 2] < 0.1


def test_own_learning_rate_names_a_parameter() -> None:
    assert EDGNN.learning_rates == {"theta": 0.01}
    assert set(EDGNN.learning_rates) <= {name for name, _ in EDGNN(2, 3).named_parameters()}


def test_wrong_numbers_of_nodes() -> None:
    with pytest.raises(ValueError, match="needs their number; found 0"):
        EDGNN(4, 0)
    with pytest.raises(ValueError, match="made for 3 modalities; found 4"):
        EDGNN(4, 3)(torch.zeros(1, 4, 4), torch.ones(1, 4, dtype=torch.bool))
