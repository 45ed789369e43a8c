"""Sequences of all clips on one device, from which padded batches are cut.

Shapes: N clips, T elements of all sequences together, D width of an element, B clips of a batch, L elements of the
longest sequence in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoders.sequences import Sequences

__all__ = ["Ragged"]


@dataclass(frozen=True)
class Ragged:
    """Sequences one after the other.

    Attributes:
        values: float16 `[T, D]`, T at least 1.
        starts: int64 `[N]`, where each clip's sequence begins.
        lengths: int64 `[N]`, 0 for a clip without one; on the device of `values`, as `starts`.
        longest: the most elements of a clip, known without asking the device.
    """

    values: Tensor
    starts: Tensor
    lengths: Tensor
    longest: int

    @classmethod
    def of(cls, sequences: Sequences) -> Ragged:
        """Make tensors of sequences, on the CPU; `values` shares their memory."""
        lengths = sequences.lengths
        return cls(
            torch.from_numpy(sequences.values),
            torch.from_numpy(sequences.offsets[:-1]),
            torch.from_numpy(lengths),
            int(lengths.max()),
        )

    @property
    def width(self) -> int:
        """D."""
        return self.values.shape[1]

    def to(self, device: torch.device | str) -> Ragged:
        """Move the sequences to another device."""
        return Ragged(self.values.to(device), self.starts.to(device), self.lengths.to(device), self.longest)

    def __getitem__(self, rows: Tensor) -> Ragged:
        return Ragged(self.values, self.starts[rows], self.lengths[rows], self.longest)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pad the sequences of some clips.

        Args:
            rows: int64 `[B]` on the device of `values`.

        Returns:
            Float32 `[B, L, D]` with zeros after each sequence's end, and the bool mask `[B, L]` of elements that are
            there. On the CPU L is that of the longest of these clips (at least 1), elsewhere that of the longest of
            all, so that nothing waits for the device.
        """
        lengths_B = self.lengths.index_select(0, rows)
        longest = self.longest
        if rows.device.type == "cpu":
            longest = max(1, int(lengths_B.max())) if len(rows) else 1
        steps_L = torch.arange(longest, device=rows.device)
        mask_BL = steps_L < lengths_B.unsqueeze(1)
        places_BL = self.starts.index_select(0, rows).unsqueeze(1) + steps_L
        values = self.values.index_select(0, places_BL.clamp(max=len(self.values) - 1).flatten())
        values_BLD = values.view(*mask_BL.shape, self.width).float()
        return values_BLD.masked_fill_(~mask_BL.unsqueeze(-1), 0.0), mask_BL

    def sample(self, rows: Tensor, most: int = 2**17) -> Tensor:
        """Sample elements of the rows' sequences, evenly spaced over all of them, float32 `[at most 2 * most, D]`."""
        starts, lengths = self.starts[rows].cpu().numpy(), self.lengths[rows].cpu().numpy()
        places = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        sampled = torch.from_numpy(places[:: max(1, len(places) // most)]).to(self.values.device)
        return self.values.index_select(0, sampled).float()
