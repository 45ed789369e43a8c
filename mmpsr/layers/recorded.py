"""Layers that can tell what each clip contributes to their gradient.

A training step that balances losses needs the gradient norm of every loss, and then the gradient of their weighted
sum. No layer of a model mixes clips, so both follow from one backward pass over activations: while a `Tape` is open,
these layers keep their input and output, and a parameter's gradient is formed later, from the gradient at the output,
with any weight per clip. See `mmpsr.balancing.loss_gradients`.

The first dimension of every recorded input is the clips.

Several models of one shape can run as one: where parameters are `MemberParameter`s, the clips are those of all members,
member after member and as many of each, and a member's clips meet its own parameters (see `mmpsr.stacked`).

Shape suffixes: B clips, R rows of a clip (all inner dimensions together), S members.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LayerNorm", "Linear", "MemberParameter", "Record", "Tape", "is_narrow", "per_clip"]

NARROW = 16


class MemberParameter(nn.Parameter):
    """A parameter of several models of one shape, `[S, *shape]`."""


@dataclass(frozen=True)
class Record:
    """One use of parameters.

    Attributes:
        kind: `linear` (weight, bias), `norm` (gain, bias), or `expanded` (one parameter, repeated for each clip).
        parameters: those of the layer, None for a missing bias.
        inputs: what the layer took; for `norm` before normalisation, for `expanded` None.
        outputs: what it gave, `[B, ..., width]`, part of the graph.
    """

    kind: str
    parameters: tuple[Tensor | None, ...]
    inputs: Tensor | None
    outputs: Tensor


class Tape:
    """Uses of parameters in the order of the forward pass, kept while open as a context manager."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._tokens: list[Token[Tape | None]] = []

    def __enter__(self) -> Tape:
        self._tokens.append(_TAPE.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _TAPE.reset(self._tokens.pop())


_TAPE: ContextVar[Tape | None] = ContextVar("tape", default=None)


def _record(kind: str, parameters: tuple[Tensor | None, ...], inputs: Tensor | None, outputs: Tensor) -> None:
    if torch.compiler.is_compiling():  # no tape is open around a compiled model, and a look at it would split the graph
        return
    tape = _TAPE.get()
    if tape is not None and any(part is not None and part.requires_grad for part in parameters):
        tape.records.append(Record(kind, parameters, None if inputs is None else inputs.detach(), outputs))


def is_narrow(weight: Tensor) -> bool:
    """Tell whether a matrix is too narrow for products of many to be those of each to the last bit."""
    return min(weight.shape[-2:]) <= NARROW


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not isinstance(weight, MemberParameter):
        return functional.linear(inputs, weight, bias)
    flat_SRI = inputs.reshape(weight.shape[0], -1, inputs.shape[-1])
    if is_narrow(weight):
        biases = [None] * len(weight) if bias is None else bias.unbind()
        outputs = torch.stack(
            [functional.linear(*parts) for parts in zip(flat_SRI.unbind(), weight.unbind(), biases, strict=True)]
        )
    elif bias is None:
        outputs = torch.bmm(flat_SRI, weight.mT)
    else:
        outputs = torch.baddbmm(bias.unsqueeze(1), flat_SRI, weight.mT)
    return outputs.view(*inputs.shape[:-1], weight.shape[1])


def _norm(inputs: Tensor, layer: nn.LayerNorm) -> Tensor:
    parts = zip(inputs.chunk(len(layer.weight)), layer.weight.unbind(), layer.bias.unbind(), strict=True)
    shape = inputs.shape[-1:]
    return torch.cat([functional.layer_norm(part, shape, gain, bias, layer.eps) for part, gain, bias in parts])


class Linear(nn.Linear):
    """`torch.nn.Linear` on `[B, ..., width_in]`, whose use a tape records."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer, `[B, ..., width_in] -> [B, ..., width_out]`."""
        outputs = _linear(inputs, self.weight, self.bias)
        _record("linear", (self.weight, self.bias), inputs, outputs)
        return outputs


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the last dimension of `[B, ..., width]`, whose use a tape records."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer, `[B, ..., width] -> [B, ..., width]`."""
        outputs = _norm(inputs, self) if isinstance(self.weight, MemberParameter) else super().forward(inputs)
        _record("norm", (self.weight, self.bias), inputs, outputs)
        return outputs


def per_clip(parameter: nn.Parameter, num_clips: int) -> Tensor:
    """Repeat a parameter for each clip, `[B, *shape]`, for small parameters used in other ways than the layers here.

    Its gradient is then kept for each clip, B times its size, while a tape is open; without one it is a view.

    Example:
        >>> per_clip(nn.Linear(3, 1).bias, 2).shape
        torch.Size([2, 1])
    """
    if isinstance(parameter, MemberParameter):
        num_members, *shape = parameter.shape
        expanded = parameter.unsqueeze(1).expand(num_members, num_clips // num_members, *shape).flatten(0, 1)
    else:
        expanded = parameter.expand(num_clips, *parameter.shape)
    _record("expanded", (parameter,), None, expanded)
    return expanded
