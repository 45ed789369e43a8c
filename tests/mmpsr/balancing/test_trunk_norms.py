"""Gradient norms over the trunk, at once and layer by layer, against the formed gradients of each loss."""

from __future__ import annotations

import torch
from torch import nn

from mmpsr.balancing.loss_gradients import squared_norms
from mmpsr.balancing.trunk_norms import trunk_squared_norms, trunk_uses
from mmpsr.batch import Batch
from mmpsr.models.fused import FusedMCDM
from mmpsr.models.mcdm import MCDM, ModelConfig
from mmpsr.tasks import BUILTIN_TASKS


def test_norms_are_those_of_formed_gradients() -> None:
    torch.manual_seed(0)
    tasks = {name: BUILTIN_TASKS[name] for name in ("emotion", "ambivalence")}
    model = MCDM({"text": 5, "audio": 3}, tasks, ModelConfig(hidden_width=8, head_width=8, num_heads=2)).double()
    features = {"text": torch.randn(6, 5).double(), "audio": torch.randn(6, 3).double()}
    passed = FusedMCDM([model.train()])(Batch(features, torch.rand(6, 2) < 0.8))
    passed.gradients(sum((logits.square().sum() for logits in passed.predictions.logits.values()), torch.zeros(())))
    trunk, found = passed.fused.trunk, passed.trunk_gradients(by_task=True)
    masks = torch.stack([torch.stack([chosen, ~chosen]) for chosen in torch.rand(2, 6) < 0.5])
    expected = torch.zeros(2, 2, dtype=torch.float64)
    for task in range(2):
        for branch in range(2):
            model.zero_grad()
            alone = torch.zeros(2, 6, dtype=torch.float64)
            alone[task] = masks[task, branch]
            trunk.form(found.weighted(alone.unsqueeze(0)))
            flat = nn.utils.parameters_to_vector(parameter.grad for parameter in model.shared_parameters())
            expected[task, branch] = flat.square().sum()
    torch.testing.assert_close(trunk_squared_norms(found, masks), expected)
    torch.testing.assert_close(squared_norms(trunk_uses(trunk, found), masks), expected)
    assert (expected > 0).all()
