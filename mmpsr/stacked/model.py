"""The stack of models: layers that every member's clips pass with its own weights and its own dropout.

Shape suffixes: S members, B clips of a member (as many of each; a member with fewer is padded), C outputs of a task.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmpsr.errors import UserError
from mmpsr.layers.attention.build import NoAttention
from mmpsr.layers.attention.cross import FA, MTA, CrossAttention
from mmpsr.layers.attention.two_stream import BiCA, CrossMPT
from mmpsr.layers.by_modality import ByModality
from mmpsr.layers.dropout import Dropout, MemberDraws
from mmpsr.layers.graph.build import NoGraph
from mmpsr.layers.graph.edgnn import EDGNN
from mmpsr.layers.graph.gat import GAT
from mmpsr.layers.graph.hgnn import HGNN
from mmpsr.layers.graph.ucgnn import UCGNN
from mmpsr.layers.prototype_bank import PrototypeBank, Prototypes
from mmpsr.layers.recorded import LayerNorm, Linear, MemberParameter
from mmpsr.layers.standardizer import Standardizer
from mmpsr.models.base import FusionModel
from mmpsr.models.mcdm import MCDM, Adapter, Projector, TaskTower, Trunk

__all__ = ["NotStackableError", "StackedModel", "require_alike"]

CLIPWISE = (
    Dropout, nn.GELU, nn.Identity, nn.ModuleDict, nn.ReLU, nn.Sequential, ByModality, Linear, LayerNorm,
    Standardizer, PrototypeBank, Prototypes, NoGraph, UCGNN, GAT, EDGNN, HGNN, NoAttention, CrossAttention, MTA, FA,
    CrossMPT, BiCA, MCDM, Trunk, TaskTower, Projector, Adapter,
)  # fmt: skip
"""Layers that use parameters through `mmpsr.layers.recorded` alone, and draw nothing but dropout."""
OF_CLIPS = {(Standardizer, "mean"), (Standardizer, "std"), (Prototypes, "means"), (TaskTower, "center")}
"""Buffers that are compared with clips row by row, so that each clip can have those of its member."""


class NotStackableError(UserError):
    """Models that cannot be trained as one; the message says which part of them."""


def require_alike(models: Sequence[FusionModel]) -> None:
    """See that models can be stacked.

    Raises:
        NotStackableError: a layer is not known to work on the clips of several members, or they differ in more than
            weights, statistics of features and dropout.
    """
    for places in zip(*(model.named_modules() for model in models), strict=True):
        (name, first), *others = places
        if type(first) not in CLIPWISE:
            raise NotStackableError(f"layer {type(first).__name__} ({name}) is not one that can be stacked")
        for other_name, other in others:
            if other_name != name or type(other) is not type(first):
                raise NotStackableError(
                    f"one model has {type(first).__name__} where another has {type(other).__name__}"
                )
            _require_alike_layers(name, first, other)


def _require_alike_layers(name: str, first: nn.Module, other: nn.Module) -> None:
    for kind, own, others in (
        ("parameter", first._parameters, other._parameters), ("buffer", first._buffers, other._buffers),
    ):  # fmt: skip
        for key, tensor in own.items():
            shape, other_shape = (None if part is None else tuple(part.shape) for part in (tensor, others.get(key)))
            if shape != other_shape:
                raise NotStackableError(f"{kind} {name}.{key} is {shape} in one model and {other_shape} in another")
            must_equal = kind == "buffer" and tensor is not None and (type(first), key) not in OF_CLIPS
            if must_equal and not torch.equal(tensor, others[key]):  # type: ignore[arg-type]
                raise NotStackableError(f"buffer {name}.{key} differs between the models")


class MemberDropout(nn.Module):
    """Dropout at each member's rate, drawn by each member's generator.

    Args:
        rates: of the members.
        draws: their generators.
    """

    def __init__(self, rates: Sequence[float], draws: MemberDraws) -> None:
        super().__init__()
        self.rates, self.draws = tuple(rates), draws

    def forward(self, inputs: Tensor) -> Tensor:
        """Drop entries in training, `[S B, ...] -> [S B, ...]`."""
        if not self.training or not any(self.rates):
            return inputs
        return inputs * self.draws.kept(inputs, self.rates)


class StackedModel:
    """The members' model on the clips of all of them, member after member.

    Args:
        models: of one shape, see `require_alike`; they stay as they are.
        views: by name of a trained parameter, `[S, *shape]`, which the stack then uses without a copy; others are
            copied.
        draws: of the members; None for models that are only evaluated.
    """

    def __init__(
        self, models: Sequence[FusionModel], views: Mapping[str, Tensor], draws: MemberDraws | None = None
    ) -> None:
        self.model = copy.deepcopy(models[0])
        self.num_members = len(models)
        self._of_clips: list[tuple[nn.Module, str, Tensor]] = []
        self._num_clips = 0
        self.parameters: dict[str, MemberParameter] = {}
        for places in zip(self.model.named_modules(), *(model.named_modules() for model in models), strict=True):
            (name, module), *layers = places
            self._stack_parameters(name, module, [layer for _, layer in layers], views)
            self._stack_buffers(module, [layer for _, layer in layers])
            for key, child in list(module.named_children()):
                if isinstance(child, Dropout) and draws is not None:
                    rates = [cast(Dropout, layer._modules[key]).p for _, layer in layers]
                    module._modules[key] = MemberDropout(rates, draws)

    def _stack_parameters(
        self, name: str, module: nn.Module, layers: Sequence[nn.Module], views: Mapping[str, Tensor]
    ) -> None:
        for key, own in module._parameters.items():
            if own is None:
                continue
            path = f"{name}.{key}" if name else key
            values = views.get(path)
            if values is None:
                values = torch.stack([layer.get_parameter(key).detach() for layer in layers])
            module._parameters[key] = self.parameters[path] = MemberParameter(values, own.requires_grad)

    def _stack_buffers(self, module: nn.Module, layers: Sequence[nn.Module]) -> None:
        for key, own in module._buffers.items():
            of_members = [layer._buffers[key] for layer in layers]
            if own is not None and not all(torch.equal(own, other) for other in of_members):  # type: ignore[arg-type]
                self._of_clips.append((module, key, torch.stack(of_members)))  # type: ignore[arg-type]

    def arrange(self, num_clips: int) -> FusionModel:
        """Make the model ready for so many clips of each member, B, and give it."""
        if num_clips != self._num_clips:
            self._num_clips = num_clips
            for module, key, values in self._of_clips:
                module._buffers[key] = values.repeat_interleave(num_clips, dim=0)
        return self.model
