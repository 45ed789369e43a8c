"""Gradients of the members of a stack from one backward pass over activations, see `mmpsr.balancing.loss_gradients`.

Shape suffixes: S members, B clips of a member, N = S B clips, R rows of a clip in a layer, T tasks, L losses of a task
(branches), I and O widths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.balancing.loss_gradients import Use
from mmpsr.layers.recorded import is_narrow

__all__ = ["form_member_gradients", "member_gramian", "member_squared_norms", "set_gradient", "set_linear_gradients"]


def member_squared_norms(layers: Sequence[Use], masks_TLN: Tensor, num_members: int) -> Tensor:
    """Compute squared gradient norms of all losses of every member over its layers' parameters, `[S, T, L]`.

    Args:
        layers: uses of the shared parameters, with gradients by task.
        masks_TLN: bool, the clips of each loss.
        num_members: S.
    """
    masks_STLB = _masks(masks_TLN, num_members, layers[0].gradients.dtype)
    squares = torch.zeros(masks_STLB.shape[:3], dtype=masks_STLB.dtype, device=masks_STLB.device)
    for use in layers:
        for values in _summed(use, masks_STLB):
            squares += values.square().sum(dim=3)
        if use.kind == "linear":
            squares += _linear_norms(use, masks_STLB)
    return squares


def member_gramian(layers: Sequence[Use], masks_TLN: Tensor, num_members: int) -> Tensor:
    """Compute inner products of the gradients of all losses of every member, `[S, T L, T L]`, task by task."""
    masks_STLB = _masks(masks_TLN, num_members, layers[0].gradients.dtype)
    size = masks_STLB.shape[1] * masks_STLB.shape[2]
    products = torch.zeros(num_members, size, size, dtype=masks_STLB.dtype, device=masks_STLB.device)
    for use in layers:
        pieces = list(_summed(use, masks_STLB))
        if use.kind == "linear":
            pieces.append(_weight_gradients(use, masks_STLB).flatten(3))
        flat = torch.cat(pieces, dim=3).flatten(1, 2)
        products.baddbmm_(flat, flat.mT)
    return products


def form_member_gradients(layers: Sequence[Use], weights_TN: Tensor, num_members: int) -> None:
    """Set `grad` of the layers' parameters to that of every member's weighted sum of losses.

    Args:
        layers: uses of parameters.
        weights_TN: weight of each clip's loss, by task.
        num_members: S.
    """
    for use in layers:
        first, *biases = use.parameters
        weights_TN11 = weights_TN[..., None, None].to(use.gradients.dtype)
        inputs = use.inputs
        if use.kind == "linear" and inputs is not None and _weighs_inputs(use):
            own_NRO, weights_N11 = use.gradients[0], weights_TN11[0]
            flat_SRO, inputs = own_NRO.reshape(num_members, -1, own_NRO.shape[-1]), inputs * weights_N11
            weights_S1B = weights_N11.view(num_members, 1, -1)
            of_bias = torch.bmm(weights_S1B, own_NRO.sum(dim=1).unflatten(0, (num_members, -1))).squeeze(1)
        else:
            scaled_NRO = use.gradients[0] * weights_TN11[0]
            for gradients_NRO, weights_N11 in zip(use.gradients[1:], weights_TN11[1:], strict=True):
                scaled_NRO.addcmul_(gradients_NRO, weights_N11)
            flat_SRO = scaled_NRO.view(num_members, -1, scaled_NRO.shape[-1])
            of_bias = flat_SRO.sum(dim=1)
        if use.kind == "linear" and inputs is not None:
            _set_product(first, flat_SRO, inputs.reshape(num_members, -1, inputs.shape[-1]))
        elif use.kind == "norm" and inputs is not None:
            normal = functional.layer_norm(inputs, inputs.shape[-1:])
            set_gradient(first, (flat_SRO * normal.reshape(flat_SRO.shape)).sum(dim=1))
        else:
            set_gradient(first, of_bias)
        for bias in biases:
            set_gradient(bias, of_bias)


def set_linear_gradients(layers: Sequence[Use], num_members: int) -> None:
    """Set `grad` of linear layers from the gradients of one loss of every member at their outputs."""
    for use in layers:
        weight, bias = use.parameters
        assert use.inputs is not None
        flat_SRO = use.gradients[0].reshape(num_members, -1, use.gradients.shape[-1])
        _set_product(weight, flat_SRO, use.inputs.reshape(num_members, -1, use.inputs.shape[-1]))
        set_gradient(bias, flat_SRO.sum(dim=1))


def _weighs_inputs(use: Use) -> bool:
    """Tell whether weights of a single task's losses are cheaper to put on the inputs than on the gradients."""
    return len(use.gradients) == 1 and use.inputs is not None and use.inputs.shape[-1] < use.gradients.shape[-1]


def _set_product(weight: Tensor | None, gradients_SRO: Tensor, inputs_SRI: Tensor) -> None:
    """Set the gradient of a linear layer's weight."""
    if weight is None or not weight.requires_grad:
        return
    if is_narrow(weight):
        set_gradient(weight, torch.stack([of.T @ x for of, x in zip(gradients_SRO, inputs_SRI, strict=True)]))
    elif weight.grad is None:
        weight.grad = torch.bmm(gradients_SRO.mT, inputs_SRI)
    else:
        torch.bmm(gradients_SRO.mT, inputs_SRI, out=weight.grad)


def _masks(masks_TLN: Tensor, num_members: int, dtype: torch.dtype) -> Tensor:
    return masks_TLN.unflatten(2, (num_members, -1)).permute(2, 0, 1, 3).to(dtype)


def _summed(use: Use, masks_STLB: Tensor) -> list[Tensor]:
    """Sum every loss's gradients of the parameters but a linear layer's weight over its clips, `[S, T, L, size]`."""
    num_members = len(masks_STLB)
    return [masks_STLB @ values_TNO.unflatten(1, (num_members, -1)).transpose(0, 1) for _, values_TNO in use.per_clip()]


def _linear_norms(use: Use, masks_STLB: Tensor) -> Tensor:
    """Compute squared norms of a linear layer's weight gradients, `[S, T, L]`, by the cheaper of two ways."""
    assert use.inputs is not None
    num_members, num_tasks, num_losses, num_clips = masks_STLB.shape
    (num_rows, width_out), width_in = use.gradients.shape[2:], use.inputs.shape[-1]
    if num_clips * num_rows * (width_in + num_tasks * width_out) > num_losses * num_tasks * width_in * width_out:
        return _weight_gradients(use, masks_STLB).flatten(3).square().sum(dim=3)
    flat_TSRO = use.gradients.reshape(num_tasks, num_members, num_clips * num_rows, width_out)
    flat_SRI = use.inputs.reshape(num_members, num_clips * num_rows, width_in)
    of_inputs_SRR = torch.bmm(flat_SRI, flat_SRI.mT)
    products_TSRR = (flat_TSRO @ flat_TSRO.mT).mul_(of_inputs_SRR)
    if num_rows > 1:
        shape = (num_tasks, num_members, num_clips, num_rows, num_clips, num_rows)
        products_TSRR = products_TSRR.view(shape).sum(dim=(3, 5))
    return ((masks_STLB @ products_TSRR.transpose(0, 1)) * masks_STLB).sum(dim=3)


def _weight_gradients(use: Use, masks_STLB: Tensor) -> Tensor:
    """Form every loss's gradient of a linear layer's weight, `[S, T, L, O, I]`."""
    assert use.inputs is not None
    num_members, num_tasks, num_losses, num_clips = masks_STLB.shape
    num_rows, width_out = use.gradients.shape[2:]
    gradients_STBRO = use.gradients.unflatten(1, (num_members, num_clips)).transpose(0, 1)
    masked = gradients_STBRO.unsqueeze(2) * masks_STLB[..., None, None]  # [S, T, L, B, R, O]
    flat = masked.permute(0, 1, 2, 5, 3, 4).reshape(num_members, -1, num_clips * num_rows)
    inputs_SRI = use.inputs.reshape(num_members, num_clips * num_rows, -1)
    return torch.bmm(flat, inputs_SRI).view(num_members, num_tasks, num_losses, width_out, -1)


def set_gradient(parameter: Tensor | None, gradient: Tensor) -> None:
    """Set the gradient of a parameter that is trained, in place where it has one."""
    if parameter is None or not parameter.requires_grad:
        return
    if parameter.grad is None:
        parameter.grad = gradient.view_as(parameter)
    else:
        parameter.grad.copy_(gradient.view_as(parameter))
