"""Norms, inner products and gradients of members against those of each member's own losses by autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmpsr.balancing.loss_gradients import Use, uses
from mmpsr.layers.recorded import LayerNorm, Linear, MemberParameter, Tape, per_clip
from mmpsr.stacked.gradients import form_member_gradients, member_gramian, member_squared_norms

MEMBERS, CLIPS, LOSSES = 2, 5, 2


class Layers(nn.Module):
    """A layer of each kind, with several rows a clip in the first two."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.norm, self.scale = Linear(4, width), LayerNorm(width), nn.Parameter(torch.randn(width))

    def forward(self, inputs_NRI: Tensor) -> Tensor:
        return self.norm(self.linear(inputs_NRI)).sum(dim=1) * per_clip(self.scale, len(inputs_NRI))


def stacked(members: list[Layers]) -> Layers:
    stack = Layers(members[0].norm.weight.shape[0])
    for name in ("linear.weight", "linear.bias", "norm.weight", "norm.bias", "scale"):
        owner, _, key = name.rpartition(".")
        values = torch.stack([member.get_parameter(name).detach() for member in members])
        stack.get_submodule(owner)._parameters[key] = MemberParameter(values)
    return stack


@pytest.mark.parametrize("width", [3, 40])  # weight gradients are formed, or done without
def test_members_have_the_gradients_of_their_own_losses(width: int) -> None:
    torch.manual_seed(0)
    members = [Layers(width) for _ in range(MEMBERS)]
    inputs = torch.randn(MEMBERS * CLIPS, 2, 4)
    targets = torch.randn(MEMBERS * CLIPS, width)
    masks_TLN = torch.zeros(1, LOSSES, MEMBERS * CLIPS, dtype=torch.bool)
    masks_TLN[0, 0, [0, 2, 3, 6]] = True
    masks_TLN[0, 1] = ~masks_TLN[0, 0]
    weights_SL = torch.rand(MEMBERS, LOSSES)

    stack = stacked(members)
    with Tape() as tape:
        losses_N = (stack(inputs) - targets).square().sum(dim=1)
    found = torch.autograd.grad(losses_N.sum(), [record.outputs for record in tape.records])
    layers: list[Use] = uses(tape.records, [found])
    norms = member_squared_norms(layers, masks_TLN, MEMBERS)
    products = member_gramian(layers, masks_TLN, MEMBERS)
    weights_TN = (weights_SL.T.unsqueeze(2) * masks_TLN[0].unflatten(1, (MEMBERS, CLIPS))).sum(dim=0).view(1, -1)
    form_member_gradients(layers, weights_TN, MEMBERS)

    for index, member in enumerate(members):
        own = slice(index * CLIPS, (index + 1) * CLIPS)
        clips = (member(inputs[own]) - targets[own]).square().sum(dim=1)
        gradients = []
        for mask in masks_TLN[0, :, own]:
            parts = torch.autograd.grad((clips * mask).sum(), list(member.parameters()), retain_graph=True)
            gradients.append(torch.cat([part.flatten() for part in parts]))
        rows = torch.stack(gradients)
        torch.testing.assert_close(norms[index, 0], rows.square().sum(dim=1), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(products[index], rows @ rows.T, rtol=1e-4, atol=1e-3)
        expected = weights_SL[index] @ rows
        formed = torch.cat([stack.get_parameter(name).grad[index].flatten() for name, _ in member.named_parameters()])  # type: ignore[index]
        torch.testing.assert_close(formed, expected, rtol=1e-4, atol=1e-4)
