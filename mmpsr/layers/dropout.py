"""Dropout whose numbers are drawn four at a time: on a CPU a Bernoulli draw for each entry costs more than the layer.

Every entry takes sixteen of the 64 bits of a draw, and is kept where they are among the first k of their 65,536 values,
k the whole number that is nearest to 65,536 (1 - p); what is kept is divided by k / 65,536, so that no expectation
changes, and the rate is met to 1 / 131,072. Entries are independent, as with `torch.nn.Dropout`, which is what runs
where there is a GPU, and in compiled models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Dropout", "MemberDraws", "draw_kept", "draw_rows"]

_VALUES, _PER_DRAW = 1 << 16, 4
_LOWEST = -(1 << 63)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` in less time on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop entries in training, `[...] -> [...]`."""
        if not self.training or self.p == 0.0:
            return input
        if self.inplace or input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        kept = torch.empty_like(input, memory_format=torch.contiguous_format)
        return input * draw_kept(kept, self.p)


def draw_kept(part: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Fill a tensor with what dropout multiplies by: 0, or 1 over the share that is kept.

    Args:
        part: of any shape and strides; changed in place, and returned.
        rate: in [0, 1], of entries that are dropped.
        generator: of the tensor's device; torch's own where left out.
    """
    if rate == 0.0:
        return part.fill_(1.0)
    if part.device.type != "cpu":
        if generator is None:
            ones = torch.ones_like(part, memory_format=torch.contiguous_format)
            return part.copy_(functional.dropout(ones, rate))
        return part.bernoulli_(1 - rate, generator=generator).div_(1 - rate)
    num_kept, size = round((1 - rate) * _VALUES), part.numel()
    if num_kept == 0:
        return part.zero_()
    draws = torch.empty(-(-size // _PER_DRAW), dtype=torch.int64).random_(_LOWEST, None, generator=generator)
    values = draws.view(torch.int16)[:size].view(part.shape)
    return torch.mul(values <= num_kept - _VALUES // 2 - 1, _VALUES / num_kept, out=part)


def draw_rows(part: Tensor, size: int, rate: float, generator: torch.Generator | None = None) -> None:
    """Fill the first rows as `draw_kept` does; those that follow are padding, and become 0."""
    if size < len(part):
        part[size:] = 0.0
        part = part[:size]
    draw_kept(part, rate, generator)


@dataclass
class MemberDraws:
    """Where members draw from, and how many of a stack's clips are theirs.

    Attributes:
        generators: one of each member.
        sizes: clips of each member in the batch at hand; what follows them, up to the most of any, is padding.
    """

    generators: Sequence[torch.Generator]
    sizes: Sequence[int] = ()

    @property
    def is_padded(self) -> bool:
        """Whether members have different numbers of clips."""
        return len(set(self.sizes)) > 1

    def uniform(self, width: int) -> Tensor:
        """Draw from [0, 1) as each member alone would, `[S B, width]`; zeros for padding."""
        most, device = max(self.sizes), self.generators[0].device
        drawn = torch.zeros(len(self.sizes), most, width, device=device)
        for part, size, generator in zip(drawn, self.sizes, self.generators, strict=True):
            part[:size].uniform_(generator=generator)
        return drawn.flatten(0, 1)

    def kept(self, inputs: Tensor, rates: Sequence[float]) -> Tensor:
        """Draw what dropout multiplies with as each member alone would, in the shape of `inputs`; zeros for padding."""
        factors = (torch.zeros_like if self.is_padded else torch.empty_like)(inputs)
        parts = factors.split(max(self.sizes))
        for part, size, rate, generator in zip(parts, self.sizes, rates, self.generators, strict=True):
            draw_kept(part[:size] if self.is_padded else part, rate, generator)
        return factors
