from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmpsr.layers.graph.ucgnn import UCGNN, LieUCGNN, group_sort
from tests.support.graph_cases import all_masks, normalized_adjacency, uniform


def propagated(nodes_MH: Tensor, mask_M: Tensor) -> Tensor:
    """exp(iA) by torch's matrix exponential, `[M, H] -> [M, H]`."""
    real, imaginary = nodes_MH.double().chunk(2, dim=-1)
    moved = torch.matrix_exp(1j * normalized_adjacency(mask_M)) @ torch.complex(real, imaginary)
    return torch.cat([moved.real, moved.imag], dim=-1)


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


@pytest.mark.parametrize("kind", [UCGNN, LieUCGNN])
def test_dropout_defaults_to_the_published_rate(kind: type[UCGNN]) -> None:
    assert kind(4).dropout.p == 0.2


@pytest.mark.parametrize("kind", [UCGNN, LieUCGNN])
def test_an_odd_width(kind: type[UCGNN]) -> None:
    with pytest.raises(ValueError, match=r"even width.*found 5"):
        kind(5)


# ------------------------------------------------------------------------------------------ options that keep the norm


def test_group_sort_by_hand() -> None:
    # Pairs (1, 5), (4, 2), (-1, -3): (5, 1), (4, 2), (-1, -3).
    assert group_sort(torch.tensor([[1.0, 4.0, -1.0, 5.0, 2.0, -3.0]])).tolist() == [[5.0, 4.0, -1.0, 1.0, 2.0, -3.0]]


@pytest.mark.parametrize("kind", [UCGNN, LieUCGNN])
def test_orthogonal_weights_and_sorting_keep_the_norm_of_a_clip(kind: type[UCGNN]) -> None:
    layer = kind(8, dropout=0.0, activation="groupsort", orthogonal=True)
    torch.testing.assert_close(layer.linear.weight @ layer.linear.weight.T, torch.eye(8))
    nodes, masks = uniform(32, 5, 8), all_masks(5)
    present = masks.unsqueeze(-1)
    found = layer(nodes, masks)
    torch.testing.assert_close((found * present).norm(dim=(1, 2)), (nodes * present).norm(dim=(1, 2)))


@pytest.mark.parametrize("kind", [UCGNN, LieUCGNN])
def test_the_activation_is_the_only_difference_between_relu_and_groupsort(kind: type[UCGNN]) -> None:
    sorting, clipping = kind(8, dropout=0.0, activation="groupsort"), kind(8, dropout=0.0)
    nn.init.uniform_(sorting.bias, -1, 1)
    clipping.load_state_dict(sorting.state_dict())
    nodes, masks = uniform(16, 4, 8), all_masks(4)
    before = sorting.mix(nodes, masks) + sorting.bias
    assert torch.equal(sorting(nodes, masks), group_sort(before))
    assert torch.equal(clipping(nodes, masks), before.clamp(min=0))


# ------------------------------------------------------------------------------------------------------------- Lie form


# torch's matrix exponential of a small matrix is itself exact to 1e-11 only, and up to 60 of them are multiplied.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-8)])
@pytest.mark.parametrize("num_nodes", range(1, 7))
def test_lie_form_is_the_exponential_of_its_linear_map(num_nodes: int, dtype: torch.dtype, tolerance: float) -> None:
    layer, masks = LieUCGNN(4).to(dtype), all_masks(num_nodes)
    nn.init.normal_(layer.linear.weight)
    nodes = uniform(len(masks), num_nodes, 4, dtype=dtype)
    found = layer.mix(nodes, masks)
    weight = layer.linear.weight.detach().double()
    skew = (weight - weight.T) / 2
    for clip, mask in enumerate(masks):
        # Rows of A X S, joined, are X's rows, joined, times kron(A, S), A being symmetric.
        full = torch.matrix_exp(torch.kron(normalized_adjacency(mask), skew))
        expected = (nodes[clip].double().flatten() @ full).view(num_nodes, 4)
        torch.testing.assert_close(found[clip].double(), expected, rtol=0, atol=tolerance)
    assert torch.equal(found[~masks], nodes[~masks])


def test_lie_form_by_hand() -> None:
    # W = [[0, 2 t], [0, 0]] gives S = [[0, t], [-t, 0]], and a row times e^S turns by t: (1, 0) -> (cos t, sin t).
    # Two nodes (1, 0) and (-1, 0) have mean 0 and turn back by t; (1, 0) twice are their mean and turn by t.
    layer, angle = LieUCGNN(2), torch.tensor(0.3)
    layer.linear.weight.data = torch.tensor([[0.0, 0.6], [0.0, 0.0]])
    nodes = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    found = layer.mix(nodes, torch.ones(2, 2, dtype=torch.bool))
    back, forth = torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.cos(), angle.sin()])
    torch.testing.assert_close(found, torch.stack([torch.stack([back, -back]), torch.stack([forth, forth])]))


def test_lie_exponentials_stay_orthogonal_in_half_precision() -> None:
    layer = LieUCGNN(64)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer.exponentials(4)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found @ found.transpose(1, 2), torch.eye(64).expand(4, 64, 64), rtol=0, atol=1e-4)
