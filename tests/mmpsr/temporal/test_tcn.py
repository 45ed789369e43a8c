"""Temporal convolutions: sizes, what a frame sees, and an independent computation of a block."""

from __future__ import annotations

import pytest
import torch

from mmpsr.temporal.tcn import Branches, TemporalBlock, TemporalConvNet, receptive_field


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("width", "channels", "expected"),
    [
        (512, (256, 256, 128, 128), 2_215_296),
        (512, (256, 256, 128, 128, 128), 2_379_648),
        (128, (64, 64, 32, 32), 139_104),
        (128, (128, 128, 64, 64), 439_872),
        (768, (256, 256, 128, 128), 2_608_512),
    ],
)
def test_parameters_are_the_published_ones(width: int, channels: tuple[int, ...], expected: int) -> None:
    with torch.device("meta"):
        assert count(TemporalConvNet(width, channels, 5, 0.1)) == expected


@pytest.mark.parametrize(("width", "channels"), [(3, 4), (4, 4)])
def test_parameters_of_a_block(width: int, channels: int) -> None:
    expected = channels * width * 5 + 2 * channels + channels**2 * 5 + 2 * channels
    assert count(TemporalBlock(width, channels, 5, 1, 0.0)) == expected + (16 if width != channels else 0)


@pytest.mark.parametrize(("blocks", "expected"), [(1, 9), (4, 121), (5, 249)])
def test_receptive_field_by_gradient(blocks: int, expected: int) -> None:
    torch.manual_seed(0)
    network = TemporalConvNet(2, (3,) * blocks, 5, 0.0).double()
    values = torch.randn(1, 300, 2, dtype=torch.float64, requires_grad=True)
    network(values, torch.ones(1, 300, dtype=torch.bool))[0, 270].sum().backward()
    seen = values.grad[0].abs().sum(dim=1).nonzero().flatten().tolist()
    assert seen == list(range(270 - expected + 1, 271))
    assert network.receptive_field == receptive_field(blocks, 5) == expected


def test_a_block_is_its_formula() -> None:
    torch.manual_seed(1)
    block = TemporalBlock(2, 3, 2, dilation=2, dropout=0.0).double()
    values = torch.randn(1, 2, 7, dtype=torch.float64)

    def leaky(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, 0.01 * x)

    def convolve(x: torch.Tensor, layer: torch.nn.Module) -> torch.Tensor:
        gain, direction = (part.detach() for part in layer.parametrizations.weight.parameters())
        weight = gain * direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1)
        columns = [
            layer.bias + weight[:, :, 1] @ x[:, t] + (weight[:, :, 0] @ x[:, t - 2] if t >= 2 else 0.0)
            for t in range(x.shape[1])
        ]
        return leaky(torch.stack(columns, dim=1))

    with torch.no_grad():
        around = block.around.weight[:, :, 0] @ values[0] + block.around.bias.unsqueeze(1)
        expected = leaky(convolve(convolve(values[0], block.first), block.second) + around)
        torch.testing.assert_close(block(values, torch.ones(1, 1, 7, dtype=torch.float64))[0], expected)


def test_initial_weights() -> None:
    torch.manual_seed(2)
    block = TemporalBlock(50, 400, 5, 1, 0.0)
    bound = (50 * 5) ** -0.5  # of torch's default, uniform in +-1 / sqrt(fan in)
    assert block.first.weight.abs().max() <= bound
    assert block.first.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    bound = 2**0.5 * (6 / (50 + 400)) ** 0.5  # Xavier uniform with gain sqrt 2
    assert 0.99 * bound < block.around.weight.abs().max() <= bound


@torch.no_grad()
def test_a_later_frame_changes_nothing_before_it() -> None:
    torch.manual_seed(3)
    network, mask = TemporalConvNet(2, (4, 3), 5, 0.0), torch.ones(1, 40, dtype=torch.bool)
    values = torch.randn(1, 40, 2)
    changed = values.clone()
    changed[0, 20] += 5
    before, after = network(values, mask), network(changed, mask)
    assert torch.equal(before[0, :20], after[0, :20])
    assert (before[0, 20:45] != after[0, 20:45]).any(dim=1).all()


@torch.no_grad()
@pytest.mark.parametrize("front", [0, 3])
def test_padding_at_either_end_changes_nothing(front: int) -> None:
    torch.manual_seed(4)
    network = TemporalConvNet(2, (4, 3), 5, 0.0)
    values, mask = torch.zeros(1, 40, 2), torch.zeros(1, 40, dtype=torch.bool)
    alone = torch.randn(1, 30, 2)
    values[:, front : front + 30], mask[:, front : front + 30] = alone, True
    found = network(values, mask)
    expected = network(alone, torch.ones(1, 30, dtype=torch.bool))
    torch.testing.assert_close(found[:, front : front + 30], expected)
    assert not found[~mask].any()


def test_branches_hold_a_network_of_each_modality() -> None:
    branches = Branches({"a": 2, "b": 3}, {"a": (4, 5), "b": (6,)}, 5, 0.0)
    there = {"a": torch.ones(2, 9, dtype=torch.bool), "b": torch.tensor([[True], [False]]).expand(2, 9)}
    found = branches({"b": torch.randn(2, 9, 3), "a": torch.randn(2, 9, 2)}, there)
    assert {name: tuple(x.shape) for name, x in found.items()} == {"a": (2, 9, 5), "b": (2, 9, 6)}
    assert branches.widths == {"a": 5, "b": 6}
    assert branches.receptive_field == 25
    assert not found["b"][1].any()
    assert found["b"][0].any()
