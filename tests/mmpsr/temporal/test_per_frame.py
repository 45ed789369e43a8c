"""The plainest models in time are their formulas."""

from __future__ import annotations

import pytest
import torch

from mmpsr.temporal import TemporalConfig
from mmpsr.temporal.per_frame import FrameClassifier, TCNClassifier

MASK = torch.ones(2, 6, dtype=torch.bool)


def features() -> dict[str, torch.Tensor]:
    return {"a": torch.randn(2, 6, 3), "b": torch.randn(2, 6, 2)}


@torch.no_grad()
def test_a_frame_classifier_is_linear() -> None:
    model, values = FrameClassifier({"b": 2, "a": 3}, 4, TemporalConfig(kind="frame")).eval(), features()
    linear = model.head[1]
    expected = torch.cat([values["b"], values["a"]], dim=-1) @ linear.weight.T + linear.bias
    torch.testing.assert_close(model(values, MASK), expected)


@torch.no_grad()
def test_a_frame_classifier_drops_a_share_in_training() -> None:
    model = FrameClassifier({"a": 3}, 2, TemporalConfig(kind="frame", dropout=0.25)).train()
    model.head[1].weight.fill_(1.0)
    model.head[1].bias.zero_()
    torch.manual_seed(0)
    found = model({"a": torch.ones(50, 20, 3)}, torch.ones(50, 20, dtype=torch.bool))  # kept ones are 1 / 0.75
    assert found[..., 0].unique().tolist() == pytest.approx([0.0, 4 / 3, 8 / 3, 4.0])
    assert found.mean().item() == pytest.approx(3.0, abs=0.1)


@torch.no_grad()
def test_a_tcn_classifier_is_linear_after_its_networks() -> None:
    config = TemporalConfig(kind="tcn", channels={"a": (4,), "b": (5, 3)})
    model, values = TCNClassifier({"a": 3, "b": 2}, 2, config).eval(), features()
    encoded = model.branches(values, {"a": MASK, "b": MASK})
    expected = torch.cat([encoded["a"], encoded["b"]], dim=-1) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(values, MASK), expected)
    assert model.receptive_field == 25
