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
        found: of a pass, with gradients by task.
        masks_TKB: bool, the clips of each loss.
    """
    vectors_MBB = found.hidden.new_empty(len(found.vectors), *2 * [masks_TKB.shape[2]])
    for index, vectors_BD in enumerate(found.vectors):
        torch.mm(vectors_BD, vectors_BD.T, out=vectors_MBB[index])
    products_TBB = _gram(found.at_norm) + _gram(found.at_norm * found.normal.unsqueeze(1))
    for gradients, inputs_MBB in (
        (found.at_first, vectors_MBB),
        (found.at_down, found.hidden @ found.hidden.mT),
        (found.at_up, found.narrow @ found.narrow.mT),
    ):
        products_TBB += (torch.matmul(gradients, gradients.mT) * (inputs_MBB + 1).unsqueeze(1)).sum(dim=0)
    products_TBB += _of_rows(found.at_graph, found.nodes)
    summed_TBH = found.at_bias.sum(dim=2)
    products_TBB += summed_TBH @ summed_TBH.mT
    masks = masks_TKB.to(products_TBB.dtype)
    return ((masks @ products_TBB) * masks).sum(dim=2)


def trunk_uses(trunk: Trunk, found: TrunkGradients) -> list[Use]:
    """List the layers of a trunk one by one, for `squared_norms` and `form_gradients`."""
    layers = []
    for index, (projector, vectors_BD) in enumerate(zip(trunk.projectors, found.vectors, strict=True)):
        first, adapter = cast(nn.Linear, projector[0]), projector.adapter
        norm, at_norm = cast(nn.LayerNorm, adapter.norm), found.at_norm[index]
        for layer, inputs_BI, gradients_TBO in (
            (first, vectors_BD, found.at_first[index]),
            (adapter.down, found.hidden[index], found.at_down[index]),
            (adapter.up, found.narrow[index], found.at_up[index]),
        ):
            layers.append(Use("linear", (layer.weight, layer.bias), inputs_BI.unsqueeze(1), gradients_TBO.unsqueeze(2)))
        for parameter, gradients_TBH in ((norm.weight, at_norm * found.normal[index]), (norm.bias, at_norm)):
            layers.append(Use("expanded", (parameter,), None, gradients_TBH.unsqueeze(2)))
    nodes_BMH = found.nodes.view(found.at_graph.shape[1:])
    layers.append(Use("linear", (trunk.graph.linear.weight, None), nodes_BMH, found.at_graph))
    return [*layers, Use("expanded", (trunk.graph.bias,), None, found.at_bias)]


def _gram(gradients_MTBH: Tensor) -> Tensor:
    return torch.matmul(gradients_MTBH, gradients_MTBH.mT).sum(dim=0)


def _of_rows(gradients_TBMO: Tensor, inputs_RI: Tensor) -> Tensor:
    num_tasks, num_clips, num_rows, _ = gradients_TBMO.shape
    flat = gradients_TBMO.flatten(1, 2)
    products = torch.bmm(flat, flat.mT).mul_(inputs_RI @ inputs_RI.T)
    return products.view(num_tasks, num_clips, num_rows, num_clips, num_rows).sum(dim=(2, 4))
