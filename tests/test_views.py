"""The views of a batch in a training step."""

from __future__ import annotations

import joined as small
import pytest
import torch

from training.fit.views import hide_modalities


def test_hidden_modalities_leave_at_least_one_and_hide_at_the_rate() -> None:
    torch.manual_seed(0)
    clips = small.joined()
    batch = clips.batch(torch.arange(170).repeat(50))
    hidden = hide_modalities(batch, 0.4)
    assert hidden.presence.any(dim=1).all()
    assert not (hidden.presence & ~batch.presence).any()
    both = batch.presence.all(dim=1)
    # Of two present modalities both stay with 0.6^2, or because both fell (0.4^2): 0.36 + 0.16 = 0.52.
    assert float(hidden.presence[both].all(dim=1).float().mean()) == pytest.approx(0.52, abs=0.02)
    assert hide_modalities(batch, 0.0) is batch
