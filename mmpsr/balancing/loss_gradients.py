"""Gradient norms of all losses, and the gradient of their weighted sum, from one backward pass over activations.

No layer mixes clips, and a clip counts for at most one loss of a task (a labelled clip for the supervised loss, any
other for the pseudo-label loss). So one backward pass of the plain sum of all losses, with a copy of the shared nodes
for every task, leaves at each layer's output the gradients D of all losses at once: loss k has the rows of its task
and of its clips. The weight gradient of loss k is D[k]^T X, of which only the norm is wanted:

    ||D^T X||^2 = sum_ij (D D^T)_ij (X X^T)_ij

which costs R^2 (d_in + d_out) multiplications on R rows instead of R d_in d_out. Weight gradients are formed once, when
the losses' weights are known: (w D)^T X with the weight w of each row's loss.

Shape suffixes: B clips, R rows of a clip in a layer, T tasks, K losses of a task (branches), I and O widths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.layers.recorded import Record

__all__ = ["Use", "form_gradients", "gramian", "squared_norms", "uses"]

LEAST_HALF = 64
"""Clips of half a batch from which multiplying it by halves pays."""


@dataclass(frozen=True)
class Use:
    """All uses of a layer's parameters in one pass, with the gradients at its output.

    Attributes:
        kind: `linear`, `norm` or `expanded`, see `mmpsr.layers.recorded.Record`.
        parameters: of the layer.
        inputs: `[B, R, I]`; None for `expanded`.
        gradients: `[T, B, R, O]`, by task.
    """

    kind: str
    parameters: tuple[Tensor | None, ...]
    inputs: Tensor | None
    gradients: Tensor

    def per_clip(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield parameters but a linear layer's weight, each with every clip's gradient `[T, B, size]`."""
        first, *rest = self.parameters
        if self.kind == "norm" and first is not None:
            assert self.inputs is not None
            normal_BRI = functional.layer_norm(self.inputs.to(self.gradients.dtype), self.inputs.shape[-1:])
            yield first, _over_rows(self.gradients * normal_BRI)
        if self.kind == "expanded" and first is not None:
            yield first, _over_rows(self.gradients)
        for bias in rest:
            if bias is not None:
                yield bias, _over_rows(self.gradients)


def uses(records: Sequence[Record], gradients: Sequence[Sequence[Tensor | None]]) -> list[Use]:
    """Group records by parameters.

    Args:
        records: of one tape.
        gradients: by task, the gradient at each record's output, None where the loss does not reach it.
    """
    grouped: dict[tuple[int, ...], list[int]] = {}
    for index, record in enumerate(records):
        if any(of_task[index] is not None for of_task in gradients):
            grouped.setdefault(tuple(map(id, record.parameters)), []).append(index)
    layers = []
    for indices in grouped.values():
        first = records[indices[0]]
        num_clips = first.outputs.shape[0]
        inputs, outputs = [], []
        for index in indices:
            record = records[index]
            width = record.outputs[0].numel() if record.kind == "expanded" else record.outputs.shape[-1]
            by_task = [
                torch.zeros_like(record.outputs) if gradient is None else gradient
                for gradient in (of_task[index] for of_task in gradients)
            ]
            stacked = torch.stack(by_task) if len(by_task) > 1 else by_task[0].unsqueeze(0)
            outputs.append(stacked.reshape(len(by_task), num_clips, -1, width))
            if record.inputs is not None:
                inputs.append(record.inputs.reshape(num_clips, -1, record.inputs.shape[-1]))
        layers.append(
            Use(
                first.kind,
                first.parameters,
                (torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]) if inputs else None,
                torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0],
            )
        )
    return layers


def _over_rows(values_TBRO: Tensor) -> Tensor:
    return values_TBRO.squeeze(2) if values_TBRO.shape[2] == 1 else values_TBRO.sum(dim=2)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _weight_gradients(inputs_BRI: Tensor, gradients_TBRO: Tensor, masks_TKB: Tensor) -> Tensor:
    """Form D[k]^T X of every loss, `[T, K, O, I]`."""
    num_tasks, num_losses, _ = masks_TKB.shape
    width_in, width_out = inputs_BRI.shape[-1], gradients_TBRO.shape[-1]
    inputs_BRI = inputs_BRI.to(gradients_TBRO.dtype)
    if inputs_BRI.device.type == "cpu":  # where a loss may take its own clips without anything waiting
        products = []
        for gradients_BRO, masks_KB in zip(gradients_TBRO, masks_TKB, strict=True):
            for mask_B in masks_KB:
                own = gradients_BRO[mask_B].reshape(-1, width_out)
                products.append(own.T @ inputs_BRI[mask_B].reshape(-1, width_in))
        return torch.stack(products).view(num_tasks, num_losses, width_out, width_in)
    masked_TKBRO = gradients_TBRO.unsqueeze(1) * masks_TKB[..., None, None].to(gradients_TBRO.dtype)
    flat = masked_TKBRO.reshape(num_tasks * num_losses, -1, width_out).transpose(1, 2).flatten(0, 1)
    return (flat @ inputs_BRI.reshape(-1, width_in)).view(num_tasks, num_losses, width_out, width_in)


def squared_norms(
    layers: Sequence[Use],
    masks_TKB: Tensor,
    gather: Callable[[Tensor], Tensor] | None = None,
    total: Callable[[Tensor], Tensor] | None = None,
    num_processes: int = 1,
    formed: dict[int, Tensor] | None = None,
) -> Tensor:
    """Compute squared gradient norms of all losses over the layers' parameters.

    Args:
        layers: uses of the shared parameters, with gradients by task.
        masks_TKB: bool, the clips of each loss.
        gather: clips of all processes, joined along the first dimension; None for one process.
        total: sum over processes.
        num_processes: how many there are.
        formed: takes, by number of the layer, the weight gradients `[T, K, O, I]` of the losses in this process, where
            it was cheaper to form them than to do without; `form_gradients` need not form these again.

    Returns:
        `[T, K]`, at least float32.
    """
    masks = masks_TKB.to(_wide(layers[0].gradients).dtype)
    everywhere = masks if gather is None else gather(masks.permute(2, 0, 1)).permute(1, 2, 0)
    squares = torch.zeros(masks.shape[:2], dtype=masks.dtype, device=masks.device)
    summed: list[Tensor] = []
    for index, use in enumerate(layers):
        summed += [masks @ _wide(values) for _, values in use.per_clip()]
        if use.kind != "linear":
            continue
        inputs, gradients = use.inputs, use.gradients
        assert inputs is not None
        num_tasks, num_clips, num_rows, width_out = gradients.shape
        width_in, all_rows = inputs.shape[-1], num_clips * num_rows * num_processes
        if all_rows * (width_in + num_tasks * width_out) > masks.shape[1] * num_tasks * width_in * width_out:
            products = _weight_gradients(inputs, gradients, masks_TKB)
            summed.append(_wide(products.flatten(2)))
            if formed is not None:
                formed[index] = products
            continue
        if gather is not None:
            inputs, gradients = gather(inputs), gather(gradients.transpose(0, 1).contiguous()).transpose(0, 1)
        squares += _norms_of_sums(inputs.to(gradients.dtype), gradients, everywhere)
    joined = torch.cat(summed, dim=2)
    joined = joined if total is None else total(joined)
    return squares + joined.square().sum(dim=2)


def _norms_of_sums(inputs_BRI: Tensor, gradients_TBRO: Tensor, masks_TKB: Tensor) -> Tensor:
    """Compute |sum_b D_b^T X_b|^2 over each loss's clips, `[T, K]`, from the products of every two clips' rows.

    These are symmetric, so that of a large batch's second half with its first, one side is enough.
    """
    half = len(inputs_BRI) // 2
    if half < LEAST_HALF:
        return _cross_products(*2 * [(inputs_BRI, gradients_TBRO, masks_TKB)])
    halves = [
        (inputs_BRI[part], gradients_TBRO[:, part], masks_TKB[..., part]) for part in (slice(half), slice(half, None))
    ]
    first, second = halves
    return _norms_of_sums(*first) + _norms_of_sums(*second) + 2 * _cross_products(first, second)


def _cross_products(first: tuple[Tensor, Tensor, Tensor], second: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Compute inner products of the losses' weight gradients over some clips with those over others, `[T, K]`."""
    (inputs, gradients, masks), (other_inputs, other_gradients, other_masks) = first, second
    flat, other_flat = gradients.flatten(1, 2), other_gradients.flatten(1, 2)
    products = flat @ other_flat.transpose(1, 2)
    products = _wide(products.mul_(inputs.flatten(0, 1) @ other_inputs.flatten(0, 1).T))
    if (num_rows := inputs.shape[1]) > 1:
        products = products.view(len(products), len(inputs), num_rows, len(other_inputs), num_rows).sum(dim=(2, 4))
    return ((masks @ products) * other_masks).sum(dim=2)


def gramian(layers: Sequence[Use], masks_TKB: Tensor, total: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Compute inner products of the gradients of all losses over the layers' parameters.

    Args:
        layers: uses of the shared parameters, with gradients by task.
        masks_TKB: bool, the clips of each loss.
        total: sum over processes; None for one.

    Returns:
        `[T * K, T * K]`, task by task, at least float32.
    """
    size = masks_TKB.shape[0] * masks_TKB.shape[1]
    products = torch.zeros(size, size, dtype=_wide(layers[0].gradients).dtype, device=masks_TKB.device)
    for use in layers:
        pieces = [masks_TKB.to(products.dtype) @ _wide(values) for _, values in use.per_clip()]
        if use.kind == "linear":
            assert use.inputs is not None
            pieces.append(_wide(_weight_gradients(use.inputs, use.gradients, masks_TKB).flatten(2)))
        flat = torch.cat([piece.reshape(size, -1) for piece in pieces], dim=1)
        flat = flat if total is None else total(flat)
        products += flat @ flat.T
    return products


def form_gradients(
    layers: Sequence[Use],
    weights_TB: Tensor,
    weights_TK: Tensor | None = None,
    formed: Mapping[int, Tensor] | None = None,
) -> None:
    """Set `grad` of the layers' parameters to that of the weighted sum of losses.

    Args:
        layers: uses of parameters.
        weights_TB: weight of each clip's loss, by task.
        weights_TK: weight of each loss; needed with `formed`.
        formed: what `squared_norms` has formed already.
    """
    for index, use in enumerate(layers):
        weight, *biases = use.parameters
        weights_TB11 = weights_TB[..., None, None].to(use.gradients.dtype)
        inputs = None if use.inputs is None else use.inputs.to(use.gradients.dtype)
        if formed is not None and weights_TK is not None and index in formed:
            of_weight = torch.einsum("tk,tkoi->oi", weights_TK.to(formed[index].dtype), formed[index])
            of_bias = (use.gradients.sum(dim=2) * weights_TB11.squeeze(-1)).sum(dim=(0, 1))
        elif (
            use.kind == "linear"
            and inputs is not None
            and len(weights_TB) == 1
            and inputs.shape[-1] < use.gradients.shape[-1]
        ):
            own_BRO, flat_in = use.gradients[0], (inputs * weights_TB11[0]).flatten(0, 1)  # the narrower side
            of_weight = own_BRO.flatten(0, 1).T @ flat_in
            of_bias = weights_TB11.view(1, -1) @ own_BRO.sum(dim=1)
        else:
            scaled_BRO = use.gradients[0] * weights_TB11[0]
            for gradients_BRO, weights_B11 in zip(use.gradients[1:], weights_TB11[1:], strict=True):
                scaled_BRO.addcmul_(gradients_BRO, weights_B11)
            flat = scaled_BRO.flatten(0, 1)
            of_weight = of_bias = flat.sum(dim=0)  # of an expanded parameter, too
            if inputs is not None and use.kind == "linear":
                of_weight = flat.T @ inputs.flatten(0, 1)
            elif inputs is not None:
                normal = functional.layer_norm(inputs, inputs.shape[-1:])
                of_weight = (flat * normal.reshape(flat.shape)).sum(dim=0)
        _add(weight, of_weight)
        for bias in biases:
            _add(bias, of_bias)


def _add(parameter: Tensor | None, gradient: Tensor) -> None:
    if parameter is None or not parameter.requires_grad:
        return
    gradient = gradient.view_as(parameter).to(parameter.dtype)
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
