"""Masked batch normalisation against that of torch on the frames that there are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmpsr.temporal.batch_norm import MaskedBatchNorm


def clips(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(4, 9, 3, generator=generator, dtype=torch.float64) * 3 + 2
    mask = torch.arange(9) < torch.tensor([9, 4, 1, 6]).unsqueeze(1)
    return torch.where(mask.unsqueeze(-1), values, 1e3), mask


def test_is_torchs_on_unpadded_frames() -> None:
    own, torchs = MaskedBatchNorm(3).double(), nn.BatchNorm1d(3).double()
    with torch.no_grad():
        for norm in (own, torchs):
            norm.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
            norm.bias.copy_(torch.tensor([1.0, 0.0, -2.0]))
    for seed in range(3):
        values, mask = clips(seed)
        values.requires_grad_()
        rows = values[mask].detach().requires_grad_()
        found, expected = own(values, mask), torchs(rows)
        torch.testing.assert_close(found[mask], expected, rtol=1e-12, atol=1e-12)
        weights = torch.linspace(-1, 2, expected.numel(), dtype=torch.float64).view_as(expected)
        found[mask].mul(weights).sum().backward()
        expected.mul(weights).sum().backward()
        torch.testing.assert_close(values.grad[mask], rows.grad, rtol=1e-9, atol=1e-9)
        assert not values.grad[~mask].any()
    for name, buffer in torchs.state_dict().items():
        torch.testing.assert_close(own.state_dict()[name], buffer, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own.weight.grad, torchs.weight.grad, rtol=1e-9, atol=1e-9)
    values, mask = clips(7)
    torch.testing.assert_close(own.eval()(values, mask)[mask], torchs.eval()(values[mask]), rtol=1e-12, atol=1e-12)


def test_by_hand() -> None:
    # frames 1, 3 of one clip and 5 of another: mean 3, population variance 8/3, unbiased 4; 0.9 and 0.1 of old and new
    norm = MaskedBatchNorm(1)
    mask = torch.tensor([[True, True], [True, False]])
    found = norm(torch.tensor([[[1.0], [3.0]], [[5.0], [1e6]]]), mask)
    assert found[mask].flatten().tolist() == pytest.approx([-2 / (8 / 3) ** 0.5, 0.0, 2 / (8 / 3) ** 0.5], abs=1e-4)
    assert norm.running_mean.item() == pytest.approx(0.3)
    assert norm.running_var.item() == pytest.approx(0.9 + 0.4)
    assert norm.num_batches_tracked.item() == 1


def test_a_single_frame_and_none() -> None:
    norm = MaskedBatchNorm(2)
    values = torch.tensor([[[4.0, 8.0], [9.0, 9.0]]])
    assert norm(values, torch.tensor([[True, False]]))[0, 0].tolist() == [0.0, 0.0]
    before = norm.state_dict()["running_mean"].clone()
    assert before.tolist() == pytest.approx([0.4, 0.8])
    assert norm(values, torch.zeros(1, 2, dtype=torch.bool)).isfinite().all()
    assert norm.running_mean.tolist() == before.tolist()
