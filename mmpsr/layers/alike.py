"""Alike layers of several tasks or modalities, computed as one product each, and their gradients from one product.

A step of a small model is mostly the start of kernels. The towers of a model's tasks have the same layers, so their
weights are laid one after another in memory, where each stays the parameter of its layer, and one product of stacks
stands for the tasks' products. Layers whose widths differ are padded with zeros in copies. Those of several models are
copied, too, since their parameters lie model by model.

Gradients are formed from those at the layers' outputs, with any weight for each row, see `mmpsr.layers.recorded`.

Shape suffixes: S layers, R rows, I and O widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AlikeLinears", "AlikeNorms", "AlikeVectors", "Padded", "add_gradient", "laid_together"]


def laid_together(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Lay parameters of one shape one after another in memory, and give them as one tensor `[S, *shape]`.

    The parameters keep their numbers, and share them with the tensor from then on.

    Example:
        >>> first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))
        >>> both = laid_together([first, second])
        >>> both[0] = 5.0
        >>> first.tolist()
        [5.0, 5.0]
    """
    stacked = torch.stack([parameter.detach() for parameter in parameters])
    for parameter, part in zip(parameters, stacked, strict=True):
        parameter.data = part
    return stacked


class Padded:
    """Parameters of one number of dimensions as one tensor: their own memory where shapes agree, else padded copies.

    Gradients are kept in memory that serves every step, for parameters that have none yet.

    Args:
        parameters: at least one.
        stay: whether parameters stay where they are, and gradients replace in place those that they have.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], stay: bool = False) -> None:
        self.parameters = list(parameters)
        shapes = [tuple(parameter.shape) for parameter in self.parameters]
        self.is_ragged, self.stay = len(set(shapes)) > 1, stay
        if self.is_ragged or stay:
            most = [max(sizes) for sizes in zip(*shapes, strict=True)]
            self.stacked = self.parameters[0].new_zeros(len(shapes), *most).detach()
        else:
            self.stacked = laid_together(self.parameters)
        self._places = [tuple(map(slice, shape)) for shape in shapes]
        self._own = self._parts(self.stacked)
        self._room: Tensor | None = None
        self._in_room: list[Tensor] = []
        self._copies: list[Tensor] = []

    def _parts(self, stacked: Tensor) -> list[Tensor]:
        return [part[place] for part, place in zip(stacked, self._places, strict=True)]

    def refresh(self) -> Tensor:
        """Give the stacked parameters as they are now; laid together again where something has moved them."""
        if self.is_ragged or self.stay:
            torch._foreach_copy_(self._own, [parameter.detach() for parameter in self.parameters])
        elif any(part.data_ptr() != own.data_ptr() for part, own in zip(self.parameters, self._own, strict=True)):
            self.stacked = laid_together(self.parameters)
            self._own = self._parts(self.stacked)
        return self.stacked

    def room(self) -> Tensor:
        """Give memory for gradients `[S, *shape]`, which `add_gradients` is then to be given."""
        if not self.stay and any(parameter.grad is not None for parameter in self.parameters):
            return torch.empty_like(self.stacked)
        if self._room is None:
            self._room = torch.empty_like(self.stacked)
            self._in_room = self._parts(self._room)
            self._copies = [torch.empty_like(part) for part in self._own] if self.is_ragged else self._in_room
        return self._room

    def add_gradients(self, gradients: Tensor) -> None:
        """Add gradients `[S, *shape]`, padded as the parameters are."""
        if self.stay:
            self._replace(self._in_room if gradients is self._room else self._parts(gradients))
            return
        if gradients is self._room:
            if self.is_ragged:
                torch._foreach_copy_(self._copies, self._in_room)
            for parameter, part in zip(self.parameters, self._copies, strict=True):
                if parameter.requires_grad:
                    parameter.grad = part
            return
        for parameter, part in zip(self.parameters, self._parts(gradients), strict=True):
            add_gradient(parameter, part.contiguous())

    def _replace(self, parts: list[Tensor]) -> None:
        pairs = [pair for pair in zip(self.parameters, parts, strict=True) if pair[0].requires_grad]
        for parameter, _ in pairs:
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
        torch._foreach_copy_([cast(Tensor, parameter.grad) for parameter, _ in pairs], [part for _, part in pairs])


def add_gradient(parameter: Tensor, gradient: Tensor) -> None:
    """Add to a trained parameter's gradient."""
    if parameter.requires_grad:
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


class AlikeLinears:
    """Linear layers as one batched product, `[S, R, I] -> [S, R, O]`.

    Args:
        layers: of any widths; narrower ones are padded, so that outputs beyond a layer's width are 0.
        stay: see `Padded`.
    """

    def __init__(self, layers: Sequence[nn.Linear], stay: bool = False) -> None:
        self.weights = Padded([cast(nn.Parameter, layer.weight) for layer in layers], stay)
        biases = [cast(nn.Parameter, layer.bias) for layer in layers if layer.bias is not None]
        self.biases = Padded(biases, stay) if biases else None
        self.refresh()

    def refresh(self) -> None:
        """Follow the parameters, before a pass."""
        self.weight_SOI = self.weights.refresh()
        self.bias_SO = None if self.biases is None else self.biases.refresh()

    def __call__(self, inputs_SRI: Tensor) -> Tensor:
        """Apply each layer to its own rows."""
        if self.bias_SO is None:
            return torch.bmm(inputs_SRI, self.weight_SOI.mT)
        return torch.baddbmm(self.bias_SO.unsqueeze(1), inputs_SRI, self.weight_SOI.mT)

    def form(self, inputs_SRI: Tensor, gradients_SRO: Tensor) -> None:
        """Add the parameters' gradients, from those at the outputs."""
        self.weights.add_gradients(torch.bmm(gradients_SRO.mT, inputs_SRI, out=self.weights.room()))
        if self.biases is not None:
            self.biases.add_gradients(torch.sum(gradients_SRO, dim=1, out=self.biases.room()))


class AlikeNorms:
    """Layer normalisations over the last dimension, `[S, R, I] -> [S, R, I]`.

    Args:
        layers: of any widths; columns beyond a layer's width are 0, before and after.
        stay: see `Padded`.
    """

    def __init__(self, layers: Sequence[nn.LayerNorm], stay: bool = False) -> None:
        self.gains, self.biases = (
            Padded([getattr(layer, name) for layer in layers], stay) for name in ("weight", "bias")
        )
        self.eps = layers[0].eps
        widths = torch.tensor([layer.weight.shape[0] for layer in layers], device=layers[0].weight.device)
        self.widths_S11 = widths.view(-1, 1, 1)
        columns = torch.arange(self.gains.stacked.shape[1], device=widths.device)
        self.is_column_S1I = (columns < self.widths_S11).to(self.gains.stacked.dtype)
        self.refresh()

    def refresh(self) -> None:
        """Follow the parameters, before a pass."""
        self.gain_SI, self.bias_SI = self.gains.refresh(), self.biases.refresh()

    def normalize(self, inputs_SRI: Tensor) -> Tensor:
        """Give each row mean 0 and variance 1, over the columns of its layer."""
        if not self.gains.is_ragged:
            return functional.layer_norm(inputs_SRI, inputs_SRI.shape[-1:], eps=self.eps)
        centered = (inputs_SRI - inputs_SRI.sum(dim=2, keepdim=True) / self.widths_S11) * self.is_column_S1I
        variance = centered.square().sum(dim=2, keepdim=True) / self.widths_S11
        return centered * torch.rsqrt(variance + self.eps)

    def scale(self, normal_SRI: Tensor) -> Tensor:
        """Apply gain and bias."""
        return torch.addcmul(self.bias_SI.unsqueeze(1), normal_SRI, self.gain_SI.unsqueeze(1))

    def form(self, normal_SRI: Tensor, gradients_SRI: Tensor) -> None:
        """Add the parameters' gradients, from those at the outputs of `scale`."""
        self.gains.add_gradients(torch.sum(gradients_SRI * normal_SRI, dim=1, out=self.gains.room()))
        self.biases.add_gradients(torch.sum(gradients_SRI, dim=1, out=self.biases.room()))


class AlikeVectors:
    """Parameters of one kind that are no layer's, `[S, *shape]`.

    Args:
        parameters: of one number of dimensions; smaller ones are padded with 0.
        stay: see `Padded`.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], stay: bool = False) -> None:
        self._parameters = Padded(parameters, stay)
        self.refresh()

    def refresh(self) -> None:
        """Follow the parameters, before a pass."""
        self.values = self._parameters.refresh()

    def form(self, gradients: Tensor) -> None:
        """Add gradients `[S, *shape]`."""
        self._parameters.add_gradients(gradients)
