"""LFAN: its attention by hand, and which modality leads."""

from __future__ import annotations

import math

import pytest
import torch

from mmpsr.temporal import TemporalConfig
from mmpsr.temporal.lfan import LFAN, ModalityAttention


@torch.no_grad()
def test_attention_by_hand() -> None:
    # Two modalities of width 1, two heads of width 1: columns are q, k, v of head 0, then q, k, v of head 1.
    layer = ModalityAttention({"a": 1, "b": 1}, width=2, num_heads=2, dropout=0.0)
    layer.projections["a"].weight.copy_(torch.tensor([[1.0], [0.0], [2.0], [0.0], [1.0], [5.0]]))
    layer.projections["b"].weight.copy_(torch.tensor([[0.0], [1.0], [3.0], [2.0], [0.0], [7.0]]))
    # Head 0 of x_a = 1, x_b = ln 3: q = (1, 0), k = (0, ln 3), v = (2, 3 ln 3). a attends with e^0 : e^ln 3 = 1 : 3,
    # b alike: v' = (1/4 * 2 + 3/4 * 3 ln 3 + 2, (2 + 3 ln 3) / 2 + 3 ln 3).
    # Head 1: q = (0, 2 ln 3), k = (1, 0), v = (5, 7 ln 3). a alike; b with e^{2 ln 3} : 1 = 9 : 1:
    # v' = ((5 + 7 ln 3) / 2 + 5, (9 * 5 + 7 ln 3) / 10 + 7 ln 3).
    log = math.log(3.0)
    expected = [
        0.25 * 2 + 0.75 * 3 * log + 2, (2 + 3 * log) / 2 + 3 * log, (5 + 7 * log) / 2 + 5,
        (45 + 7 * log) / 10 + 7 * log,
    ]  # fmt: skip
    layer.output.weight.copy_(torch.eye(4))
    layer.norm = torch.nn.Identity()
    values, there = {"b": torch.tensor([[[log]]]), "a": torch.ones(1, 1, 1)}, torch.ones(1, 1, 2, dtype=torch.bool)
    assert layer(values, there).flatten().tolist() == pytest.approx(expected, rel=1e-5)
    # Without b: a attends to itself, v' = 2 v = 4 and 10, and b's places are 0.
    there[..., 1] = False
    assert layer(values, there).flatten().tolist() == pytest.approx([4.0, 0.0, 10.0, 0.0])


@torch.no_grad()
def test_output_is_normalised() -> None:
    layer = ModalityAttention({"a": 3, "b": 2}, width=4, num_heads=2, dropout=0.0)
    values = {"a": torch.randn(2, 5, 3), "b": torch.randn(2, 5, 2)}
    found = layer(values, torch.ones(2, 5, 2, dtype=torch.bool))
    torch.testing.assert_close(found.mean(dim=-1), torch.zeros(2, 5), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.var(dim=-1, unbiased=False), torch.ones(2, 5), rtol=0, atol=1e-2)
    assert found.shape == (2, 5, 8)


def test_initial_weights_are_xaviers_and_biases_zero() -> None:
    layer = ModalityAttention({"a": 128, "b": 32}, width=32, num_heads=2, dropout=0.1)
    for linear in (*layer.projections.values(), layer.output):
        bound = (6 / sum(linear.weight.shape)) ** 0.5
        assert 0.99 * bound < linear.weight.abs().max() <= bound
        assert not linear.bias.any()


@torch.no_grad()
@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_the_first_modality_leads(first: str, second: str) -> None:
    config = TemporalConfig(channels={"a": (3,), "b": (4,)}, width=4)
    widths = {"a": 2, "b": 2}
    model = LFAN({first: widths[first], second: widths[second]}, 2, config).eval()
    leading = {"a": 3, "b": 4}[first]
    model.head.weight[:, leading:] = 0.0  # what is left is the leader's own part
    features = {name: torch.randn(1, 6, 2) for name in widths}
    mask = torch.ones(1, 6, dtype=torch.bool)
    before = model(features, mask)
    assert torch.equal(before, model({**features, second: torch.randn(1, 6, 2)}, mask))
    assert not torch.equal(before, model({**features, first: torch.randn(1, 6, 2)}, mask))
