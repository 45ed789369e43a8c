from __future__ import annotations

import pytest
import torch
from torch import nn

from mmpsr.layers.dropout import Dropout, draw_kept

N = 400_000


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_is_kept_is_read_from_sixteen_bits_of_a_draw() -> None:
    """A rate of 0.4 keeps 39,322 of 65,536 values (0.6 x 65,536 = 39,321.6): those from -32,768 to 6,553."""
    kept = draw_kept(torch.empty(2, 11), 0.4, seeded())
    draws = torch.empty(6, dtype=torch.int64).random_(-(1 << 63), None, generator=seeded()).tolist()
    words = [(draw >> shift) & 0xFFFF for draw in draws for shift in (0, 16, 32, 48)]
    signed = [word - 0x10000 if word >= 0x8000 else word for word in words]
    expected = [65536 / 39322 if value <= 6553 else 0.0 for value in signed[:22]]
    torch.testing.assert_close(kept.flatten(), torch.tensor(expected), rtol=0, atol=0)
    assert 0 < (kept > 0).sum() < 22


@pytest.mark.parametrize("rate", [0.02, 0.4, 0.9])
def test_entries_are_dropped_at_the_rate_and_apart(rate: float) -> None:
    kept = draw_kept(torch.empty(N), rate, seeded())
    error = (rate * (1 - rate) / N) ** 0.5
    assert (kept == 0).float().mean().item() == pytest.approx(rate, abs=4 * error)
    assert kept.mean().item() == pytest.approx(1.0, abs=4 * error / (1 - rate))
    table = torch.corrcoef(kept.view(-1, 8).T)  # the four of a draw, and of the next one
    assert (table - torch.eye(8)).abs().max() < 5 / (N / 8) ** 0.5


def test_the_model_in_training_mode_and_a_generator_draw_alike() -> None:
    inputs = torch.randn(5, 7, requires_grad=True)
    layer = Dropout(0.3)
    torch.manual_seed(11)
    outputs = layer(inputs)
    kept = draw_kept(torch.empty(5, 7), 0.3, seeded(11))
    torch.testing.assert_close(outputs, inputs * kept, rtol=0, atol=0)
    wide = torch.full((5, 9), 8.0)
    draw_kept(wide[:, :7], 0.3, seeded(11))
    torch.testing.assert_close(wide[:, :7], kept, rtol=0, atol=0)
    assert (wide[:, 7:] == 8.0).all()
    outputs.sum().backward()
    torch.testing.assert_close(inputs.grad, kept, rtol=0, atol=0)
    assert layer.eval()(inputs) is inputs


def test_the_extremes_drop_nothing_and_all() -> None:
    before = torch.get_rng_state()
    assert (draw_kept(torch.empty(9), 0.0) == 1).all()
    inputs = torch.ones(9)
    assert Dropout(0.0)(inputs) is inputs
    torch.testing.assert_close(torch.get_rng_state(), before)  # nothing is drawn where nothing is dropped
    assert (draw_kept(torch.empty(9), 1.0) == 0).all()
    assert isinstance(Dropout(0.1), nn.Dropout)
