"""What holds for every graph layer: absent modalities and other clips change nothing, and a tape sees every use."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmpsr.balancing.loss_gradients import form_gradients, uses
from mmpsr.layers.graph.build import NoGraph, create_graph
from mmpsr.layers.graph.config import GraphConfig
from mmpsr.layers.graph.edgnn import EDGNN
from mmpsr.layers.graph.gat import GAT
from mmpsr.layers.graph.hgnn import HGNN
from mmpsr.layers.graph.ncgnn import NCGNN
from mmpsr.layers.graph.ucgnn import UCGNN, LieUCGNN
from mmpsr.layers.nodes import masked_mean
from mmpsr.layers.recorded import Tape
from tests.support.graph_cases import LAYERS, all_masks, config_of, create, label, uniform

EVERY = pytest.mark.parametrize(("kind", "options"), LAYERS, ids=label)
# All but the layer that reads a sample of walks even at evaluation: other nodes give other walks.
EXACT = pytest.mark.parametrize(
    ("kind", "options"), [case for case in LAYERS if case[1].get("walk_length", 0) <= 4], ids=label
)
DEFERRED = pytest.mark.parametrize(
    ("kind", "options"),
    [case for case in LAYERS if case[1].get("form") != "lie" and not case[0].startswith("pyg:")],
    ids=label,
)
MASKS = all_masks(4)


@EVERY
@pytest.mark.parametrize("num_nodes", [1, 2, 4, 5])
def test_shapes_and_finite_values_for_any_presence(kind: str, options: dict[str, Any], num_nodes: int) -> None:
    layer, masks = create(kind, options, num_nodes=num_nodes), all_masks(num_nodes)
    nodes = uniform(len(masks), num_nodes, 8, dtype=torch.float64).requires_grad_()
    for mode in (True, False):
        found = layer.train(mode)(nodes, masks)
        assert found.shape == nodes.shape
        assert torch.isfinite(found).all()
        found.sum().backward()
        assert nodes.grad is not None
        assert torch.isfinite(nodes.grad).all()
        assert all(parameter.grad is None or torch.isfinite(parameter.grad).all() for parameter in layer.parameters())


@EVERY
def test_what_stands_in_an_absent_node_does_not_matter(kind: str, options: dict[str, Any]) -> None:
    layer, nodes = create(kind, options), uniform(16, 4, 8, dtype=torch.float64)
    garbage = torch.where(MASKS.unsqueeze(-1), nodes, 1e6 * uniform(16, 4, 8, dtype=torch.float64, seed=1))
    for mode in (True, False):
        layer.train(mode)
        torch.manual_seed(0)
        plain = layer(nodes, MASKS)
        torch.manual_seed(0)
        assert torch.equal(layer(garbage, MASKS)[MASKS], plain[MASKS])


def without(layer: nn.Module, kind: str, options: dict[str, Any], kept: list[int]) -> nn.Module:
    """The same layer for some of the nodes only."""
    smaller = create(kind, options, num_nodes=len(kept))
    state = {name: value for name, value in layer.state_dict().items() if name != "theta"}
    if isinstance(layer, EDGNN) and len(kept) > 1:
        rows, columns = torch.triu_indices(4, 4, offset=1)
        inside = torch.isin(rows, torch.tensor(kept)) & torch.isin(columns, torch.tensor(kept))
        state["theta"] = layer.theta[inside]
    smaller.load_state_dict(state, strict=len(kept) > 1)
    return smaller


@EXACT
@pytest.mark.parametrize("kept", [[0, 1, 3], [1, 2], [2]], ids=str)
def test_an_absent_node_is_as_if_removed(kind: str, options: dict[str, Any], kept: list[int]) -> None:
    layer, nodes = create(kind, options), uniform(5, 4, 8, dtype=torch.float64)
    mask = torch.zeros(5, 4, dtype=torch.bool)
    mask[:, kept] = True
    found = without(layer, kind, options, kept)(nodes[:, kept], mask[:, kept])
    torch.testing.assert_close(found, layer(nodes, mask)[:, kept])


@EXACT
def test_layers_commute_with_permutations(kind: str, options: dict[str, Any]) -> None:
    layer, nodes = create(kind, options), uniform(16, 4, 8, dtype=torch.float64)
    order = torch.tensor([2, 0, 3, 1])
    expected = layer(nodes, MASKS)[:, order]
    if isinstance(layer, EDGNN):
        # Theta_ij of the new order is that of the old: pi/2 - theta where a pair is turned round.
        angles = torch.zeros(4, 4, dtype=torch.float64)
        rows, columns = torch.triu_indices(4, 4, offset=1)
        angles[rows, columns] = layer.theta.detach()
        angles[columns, rows] = torch.pi / 2 - layer.theta.detach()
        layer.theta.data = angles[order][:, order][rows, columns]
    found = layer(nodes[:, order], MASKS[:, order])
    torch.testing.assert_close(found[MASKS[:, order]], expected[MASKS[:, order]])


@EVERY
def test_a_clip_does_not_depend_on_the_others(kind: str, options: dict[str, Any]) -> None:
    layer, nodes = create(kind, options, num_nodes=4), uniform(16, 4, 8, dtype=torch.float64)
    plain = layer(nodes, MASKS)
    for clip in range(16):
        torch.testing.assert_close(layer(nodes[clip : clip + 1], MASKS[clip : clip + 1]), plain[clip : clip + 1])
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(nodes[order], MASKS[order]), plain[order])
    others = torch.where(torch.arange(16)[:, None, None] == 11, nodes, uniform(16, 4, 8, dtype=torch.float64, seed=2))
    torch.testing.assert_close(layer(others, MASKS)[11], plain[11])


@EVERY
def test_gradients_by_differences(kind: str, options: dict[str, Any]) -> None:
    masks = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    layer = create(kind, options, width=4, num_nodes=3)
    names, values = zip(*layer.named_parameters(), strict=True) if list(layer.parameters()) else ((), ())
    nodes = uniform(3, 3, 4, dtype=torch.float64).requires_grad_()

    def run(nodes_BMH: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, named, (nodes_BMH, masks))[masks]

    inputs = (nodes, *(value.detach().requires_grad_() for value in values))
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@EVERY
def test_gradients_reach_all_weights_and_present_nodes_only(kind: str, options: dict[str, Any]) -> None:
    layer = create(kind, options)
    for mode in (True, False):
        layer.train(mode).zero_grad()
        nodes = uniform(16, 4, 8, dtype=torch.float64).requires_grad_()
        # The pooled output of each clip depends on its present nodes alone.
        masked_mean(layer(nodes, MASKS), MASKS).square().sum().backward()
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name
        assert nodes.grad is not None
        reached = (
            MASKS & (MASKS.sum(dim=1, keepdim=True) > 1) if kind == "edgnn" and layer.own is None else MASKS
        )  # without a self loop, a lone node gives a constant
        assert torch.equal(nodes.grad.abs().sum(dim=-1) > 0, reached)


@DEFERRED
@pytest.mark.parametrize("num_nodes", [1, 4])
@pytest.mark.parametrize("training", [True, False])
def test_a_tape_tells_each_clips_gradient(kind: str, options: dict[str, Any], num_nodes: int, training: bool) -> None:
    layer, masks = create(kind, options, num_nodes=num_nodes).train(training), all_masks(num_nodes)
    parameters = dict(layer.named_parameters())
    nodes = uniform(len(masks), num_nodes, 8, dtype=torch.float64)
    with Tape() as tape:
        losses = (layer(nodes, masks) * masks.unsqueeze(-1)).square().sum(dim=(1, 2))
    recorded = {id(parameter) for record in tape.records for parameter in record.parameters if parameter is not None}
    assert recorded == set(map(id, parameters.values()))
    if not parameters:
        return
    at_outputs = torch.autograd.grad(losses.sum(), [record.outputs for record in tape.records], retain_graph=True)
    weights = uniform(len(masks), dtype=torch.float64, seed=1)
    form_gradients(uses(tape.records, [at_outputs]), weights.unsqueeze(0))
    expected = torch.autograd.grad((weights * losses).sum(), list(parameters.values()))
    for (name, parameter), gradient in zip(parameters.items(), expected, strict=True):
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, gradient, msg=name)


@EVERY
def test_half_precision_is_near(kind: str, options: dict[str, Any]) -> None:
    layer, nodes = create(kind, options).float(), uniform(16, 4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(nodes, MASKS)
    torch.testing.assert_close(found.float(), layer(nodes, MASKS), rtol=0, atol=0.05)


def test_only_the_lie_form_and_torch_geometrics_classes_cannot_be_deferred() -> None:
    found = [getattr(create(kind, options), "undeferrable", False) for kind, options in LAYERS]
    assert found == [options.get("form") == "lie" or kind.startswith("pyg:") for kind, options in LAYERS]


def test_create_graph() -> None:
    for kind, expected in (("none", NoGraph), ("gat", GAT), ("hgnn", HGNN)):
        assert type(create_graph(kind, 3, 0.1)) is expected
    ucgnn = create_graph("ucgnn", 4, 0.1)
    assert type(ucgnn) is UCGNN
    assert ucgnn.dropout.p == 0.1
    assert type(create_graph("ucgnn", 4, 0.1, options=GraphConfig(form="lie"))) is LieUCGNN
    edgnn = create_graph("edgnn", 4, 0.1, 3, GraphConfig(alpha=0.25, self_loop=False))
    assert isinstance(edgnn, EDGNN)
    assert (edgnn.alpha, edgnn.own, len(edgnn.theta)) == (0.25, None, 3)
    hgnn = create_graph("hgnn", 4, 0.1, 3, GraphConfig(steps=7, step_size=0.125))
    assert isinstance(hgnn, HGNN)
    assert (hgnn.num_steps, hgnn.step_size) == (7, 0.125)
    ncgnn = create_graph("ncgnn", 4, 0.1, 3, GraphConfig(walk_length=6, num_walks=5, inner_width=2))
    assert isinstance(ncgnn, NCGNN)
    assert ncgnn.scores.shape == (1, 5, 3, 5, 3)
    assert ncgnn.dropout.p == 0.1
    assert ncgnn.cell.from_state.in_features == 2
    with pytest.raises(
        ValueError,
        match=r"'gcn'; known are ucgnn, gat, edgnn, hgnn, ncgnn, none, and pyg: with a convolution",
    ):
        create_graph("gcn", 4, 0.1)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("ucgnn", {}, 512 * 512 + 512),
        ("ucgnn", {"form": "lie"}, 512 * 512 + 512),
        ("gat", {}, 512 * 512 + 2 * 512),
        # Three linear maps with bias, or two, and 4 * 3 / 2 angles.
        ("edgnn", {}, 3 * (512 * 512 + 512) + 6),
        ("edgnn", {"self_loop": False}, 2 * (512 * 512 + 512) + 6),
        ("hgnn", {}, 2 * (512 * 512 + 512)),
        # Two cells that read 2 numbers, 3 * 512 * (2 + 512 + 2) = 792,576 each, and one that reads 512,
        # 3 * 512 * (512 + 512 + 2) = 1,575,936.
        ("ncgnn", {}, 3_161_088),
        # 2 * 3 * 128 * (2 + 128 + 2) + 3 * 128 * (512 + 128 + 2) + 128 * 512 + 512 = 101,376 + 246,528 + 66,048.
        ("ncgnn", {"inner_width": 128}, 413_952),
        ("none", {}, 0),
        # one map and its bias; two maps with biases for what receives and sends, 4 * 128 for attention, one bias
        ("pyg:GCNConv", {}, 512 * 512 + 512),
        ("pyg:GATv2Conv", {"heads": 4}, 2 * (512 * 512 + 512) + 512 + 512),
    ],
    ids=label,
)
def test_parameter_counts(kind: str, options: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        layer = create_graph(kind, 512, 0.0, 4, config_of(kind, options))
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected


@pytest.mark.parametrize(
    ("setting", "found"), [("alpha", 1.5), ("steps", 0), ("step_size", 2.0), ("walk_length", 1), ("inner_width", 0)]
)
def test_options_out_of_range(setting: str, found: float) -> None:
    with pytest.raises(ValueError, match=setting):
        GraphConfig(**{setting: found})
