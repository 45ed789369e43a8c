"""Trained parameters of one run in one row of numbers, and the optimizer that steps them as one.

Groups of the optimizer follow each other, parameters within them. What is stored of the optimizer has the form of one
that steps parameters one by one, so that a run can continue either way.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from training.config import OptimizationConfig
from training.fit.optimization import build_optimizer, clip_gradients

__all__ = ["RowOptimizer", "Rows", "row_of"]

LANES = 16
"""Numbers that a processor steps at once, at most."""


class _Segment(nn.Module):
    """A group of the optimizer as one parameter; `learning_rates` as `build_optimizer` reads them."""

    def __init__(self, size: int, rate: float | None) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.zeros(size))
        self.learning_rates = {} if rate is None else {"row": rate}


class Rows:
    """Where a model's trained parameters lie in a row.

    Parameters that follow each other are stepped as one segment. Where a parameter's numbers do not come in whole
    `LANES`, it is a segment of its own: the last ones are then computed as they are for the parameter alone.

    Args:
        model: of the shape of all members.
        settings: of the optimizer, whose groups come one after another.
    """

    def __init__(self, model: nn.Module, settings: OptimizationConfig) -> None:
        names = {parameter: name for name, parameter in model.named_parameters()}
        self.segments: list[tuple[float | None, list[tuple[str, torch.Size]]]] = []
        self.num_groups: list[int] = []
        for number, group in enumerate(build_optimizer(model, settings).param_groups):
            rate, is_open = None if number == 0 else cast(float, group["lr"]), False
            for parameter in group["params"]:
                is_whole = parameter.numel() % LANES == 0
                if not (is_whole and is_open):
                    self.segments.append((rate, []))
                self.segments[-1][1].append((names[parameter], parameter.shape))
                is_open = is_whole
            self.num_groups.append(len(group["params"]))
        self.sizes = [sum(shape.numel() for _, shape in entries) for _, entries in self.segments]

    def __iter__(self) -> Iterator[tuple[str, torch.Size, slice]]:
        start = 0
        for name, shape in (entry for _, entries in self.segments for entry in entries):
            yield name, shape, slice(start, start + shape.numel())
            start += shape.numel()

    def views(self, rows_SP: Tensor) -> dict[str, Tensor]:
        """Give the parameters of all members, `[S, *shape]` by name, that lie in rows."""
        return {name: rows_SP[:, place].view(len(rows_SP), *shape) for name, shape, place in self}

    def bind(self, model: nn.Module, row_P: Tensor) -> None:
        """Let a model's trained parameters lie in a row, with the numbers that stand there."""
        parameters = dict(model.named_parameters())
        for name, shape, place in self:
            parameters[name].data = row_P[place].view(shape)


def row_of(rows: Rows, model: nn.Module) -> Tensor:
    """Copy the trained parameters of a model into a row, `[P]`."""
    parameters = dict(model.named_parameters())
    return torch.cat([parameters[name].detach().flatten() for name, _, _ in rows])


class RowOptimizer:
    """The optimizer of one run over its row; its state reads and writes as that of the ordinary optimizer.

    Args:
        rows: where parameters lie.
        settings: optimizer, learning rate, weight decay and momentum.
        device: of the row.
    """

    def __init__(self, rows: Rows, settings: OptimizationConfig, device: torch.device) -> None:
        self.rows, self.settings = rows, settings
        segments = (_Segment(size, rate) for size, (rate, _) in zip(rows.sizes, rows.segments, strict=True))
        self.segments = nn.ModuleList(segments).to(device)
        self.ordinary: Optimizer = build_optimizer(self.segments, settings)

    def bind(self, row_P: Tensor, gradient_P: Tensor) -> None:
        """Step these weights by these gradients from now on."""
        pieces = zip(row_P.split(self.rows.sizes), gradient_P.split(self.rows.sizes), strict=True)
        for segment, (weights, gradient) in zip(self.segments.parameters(), pieces, strict=True):
            segment.data, segment.grad = weights, gradient

    def step(self) -> None:
        """Clip the gradient where the settings say so, and take one step."""
        clip_gradients(self.segments, self.settings)
        self.ordinary.step()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups, which schedules change."""
        return self.ordinary.param_groups

    def state_dict(self) -> dict[str, Any]:
        """Give the state of an optimizer of the parameters one by one."""
        stored = self.ordinary.state_dict()
        state: dict[int, dict[str, Any]] = {}
        index = 0
        for number, ((_, entries), size) in enumerate(zip(self.rows.segments, self.rows.sizes, strict=True)):
            start = 0
            for _, shape in entries:
                place = slice(start, start + shape.numel())
                if values := stored["state"].get(number, {}):
                    state[index] = {
                        key: value[place].view(shape) if _is_row(value, size) else copy.deepcopy(value)
                        for key, value in values.items()
                    }
                index, start = index + 1, place.stop
        groups, first = [], 0
        for group, count in zip(stored["param_groups"], self.rows.num_groups, strict=True):
            groups.append({**group, "params": list(range(first, first + count))})
            first += count
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, stored: dict[str, Any]) -> None:
        """Continue from such a state."""
        state: dict[int, dict[str, Any]] = {}
        index = 0
        for number, (_, entries) in enumerate(self.rows.segments):
            own = [stored["state"].get(index + place, {}) for place in range(len(entries))]
            index += len(entries)
            if own[0]:
                state[number] = {
                    key: value if key == "step" else torch.cat([values[key].flatten() for values in own])
                    for key, value in own[0].items()
                }
        places = [group["params"] for group in self.ordinary.state_dict()["param_groups"]]
        pairs = zip(stored["param_groups"], places, strict=True)
        groups = [{**group, "params": own_places} for group, own_places in pairs]
        self.ordinary.load_state_dict({"state": state, "param_groups": groups})


def _is_row(value: Any, size: int) -> bool:
    return isinstance(value, Tensor) and value.shape == (size,)
