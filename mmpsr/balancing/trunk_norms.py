"""Gradient norms of all losses over the trunk of a fused pass, from products of every two clips' rows.

    ||sum_b D_b^T X_b||^2 = sum_ij (D D^T)_ij (X X^T)_ij

over the clips of a loss, see `mmpsr.balancing.loss_gradients`; a bias adds 1 to X X^T. Layers add up before the clips
of losses are looked at. This pays for small batches: larger ones take the layers one by one, which may form gradients.

Shape suffixes: B clips, M modalities, R rows of all clips, T tasks, K losses of a task (branches).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mmpsr.balancing.loss_gradients import Use
from mmpsr.models.fused_trunk import Trunk, TrunkGradients

__all__ = ["MOST_CLIPS", "trunk_squared_norms", "trunk_uses"]

MOST_CLIPS = 128
"""Clips up to which all products of two are taken at once."""


def trunk_squared_norms(found: TrunkGradients, masks_TKB: Tensor) -> Tensor:
    """Compute squared gradient norms of all losses over the trunk's parameters, `[T, K]`.

    Args:
        found: of a pass of one model, with gradients by task.
        masks_TKB: bool, the clips of each loss.
    """
    num_nodes, num_clips, _ = found.hidden.shape
    inputs_MBB = found.hidden.new_empty(2, num_nodes, num_clips, num_clips)
    for index, vectors_1BD in enumerate(found.vectors):
        torch.bmm(vectors_1BD, vectors_1BD.mT, out=inputs_MBB[0, index : index + 1])
    torch.bmm(found.narrow, found.narrow.mT, out=inputs_MBB[1])
    products = torch.matmul(found.wide, found.wide.mT)
    products[:2].mul_(inputs_MBB.add_(1).unsqueeze(2))
    of_down = torch.matmul(found.at_down, found.at_down.mT)
    of_down.mul_(torch.bmm(found.hidden, found.hidden.mT).add_(1).unsqueeze(1))
    at_graph_TBMH, at_bias_TBMH = found.of_graph.squeeze(1)
    summed_TBH = at_bias_TBMH.sum(dim=2)
    products_TBB = torch.baddbmm(_of_rows(at_graph_TBMH, found.nodes[0]), summed_TBH, summed_TBH.mT)
    products_TBB += products.sum(dim=(0, 1))
    products_TBB += of_down.sum(dim=0)
    masks = masks_TKB.to(products_TBB.dtype)
    return ((masks @ products_TBB) * masks).sum(dim=2)


def trunk_uses(trunk: Trunk, found: TrunkGradients, member: int = 0) -> list[Use]:
    """List the layers of a trunk one by one, for `squared_norms` and `form_gradients`.

    Args:
        trunk: of one model or several.
        found: of one of them.
        member: its number.
    """
    layers, graph = [], trunk.graphs[member]
    at_graph_TBMH, at_bias_TBMH = found.of_graph.squeeze(1)
    for index, (projector, vectors_1BD) in enumerate(zip(trunk.projectors[member], found.vectors, strict=True)):
        first, adapter = cast(nn.Linear, projector[0]), projector.adapter
        norm, (at_first, at_up, at_norm, at_gain) = cast(nn.LayerNorm, adapter.norm), found.wide[:, index]
        for layer, inputs_BI, gradients_TBO in (
            (first, vectors_1BD[0], at_first),
            (adapter.down, found.hidden[index], found.at_down[index]),
            (adapter.up, found.narrow[index], at_up),
        ):
            layers.append(Use("linear", (layer.weight, layer.bias), inputs_BI.unsqueeze(1), gradients_TBO.unsqueeze(2)))
        for parameter, gradients_TBH in ((norm.weight, at_gain), (norm.bias, at_norm)):
            layers.append(Use("expanded", (parameter,), None, gradients_TBH.unsqueeze(2)))
    nodes_BMH = found.nodes.view(at_graph_TBMH.shape[1:])
    layers.append(Use("linear", (graph.linear.weight, None), nodes_BMH, at_graph_TBMH))
    return [*layers, Use("expanded", (graph.bias,), None, at_bias_TBMH)]


def _of_rows(gradients_TBMO: Tensor, inputs_RI: Tensor) -> Tensor:
    num_tasks, num_clips, num_rows, _ = gradients_TBMO.shape
    flat = gradients_TBMO.flatten(1, 2)
    products = torch.bmm(flat, flat.mT).mul_(inputs_RI @ inputs_RI.T)
    return products.view(num_tasks, num_clips, num_rows, num_clips, num_rows).sum(dim=(2, 4))
