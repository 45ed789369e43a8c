"""Features and labels of clips in time, from which windows are cut; the features stay on the disk.

Shape suffixes: N clips, T frames of a clip, L frames of a window, B windows of a batch, D width, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from corpora.clips import ClipTable, CorpusError, label_columns
from corpora.timeline import UNKNOWN
from encoders.timed import NONE, TimedSequences, timed_statistics
from mmpsr.tasks import TaskSpec
from mmpsr.temporal.windows import window_starts
from training.data.timelines import grid_labels

__all__ = ["FrameBatch", "FrameData", "Scale", "Window", "gather_frames"]

LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class Scale:
    """Statistics of a modality over the training frames; the mean stands in for frames without a measurement.

    Attributes:
        mean: float32 `[D]`.
        std: float32 `[D]`, above 0.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A span of a clip's frames.

    Attributes:
        clip: its row.
        begin: first frame.
        end: frame after the last.
    """

    clip: int
    begin: int
    end: int


class FrameBatch(NamedTuple):
    """Windows of one batch.

    Attributes:
        features: by modality float32 `[B, L, D]`, zeros after a window's end.
        mask: bool `[B, L]`, frames that are there.
        presence: bool `[B, M]`, modalities that the clip has.
    """

    features: dict[str, Tensor]
    mask: Tensor
    presence: Tensor

    def to(self, device: torch.device) -> FrameBatch:
        """Move the batch to a device."""
        return FrameBatch(
            {name: values.to(device) for name, values in self.features.items()},
            self.mask.to(device),
            self.presence.to(device),
        )


@dataclass(frozen=True)
class FrameData:
    """Clips with features and labels in time.

    Attributes:
        clips: N rows of the clip table.
        features: by modality, in the model's order.
        lengths: int64 `[N]`, T of each clip.
        rates: frames per second of each clip; None of clips without frames.
        labels: int8 `[T]` of each clip, -1 where unknown.
        clip_labels: int8 `[N]`, the clip's own label, -1 where unknown; never made from its frames.
        scales: by modality; empty until they are fitted or given.
    """

    clips: pd.DataFrame
    features: Mapping[str, TimedSequences]
    lengths: NDArray[np.int64]
    rates: tuple[Fraction | None, ...]
    labels: tuple[NDArray[np.int8], ...]
    clip_labels: NDArray[np.int8]
    scales: dict[str, Scale] = field(default_factory=dict)

    @property
    def widths(self) -> dict[str, int]:
        """D of each modality."""
        return {name: sequences.width for name, sequences in self.features.items()}

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Whether any frame of the clip has a label, `[N]`."""
        return np.array([bool((labels != UNKNOWN).any()) for labels in self.labels], dtype=np.bool_)

    def rows(self, corpora: Sequence[str], split: str) -> NDArray[np.int64]:
        """Number the clips with frames in a split of corpora."""
        inside = self.clips["corpus"].isin(list(corpora)) & self.clips["split"].eq(split)
        return np.flatnonzero(inside.to_numpy(dtype=bool) & (self.lengths > 0))

    def fit_scales(self, rows: NDArray[np.int64]) -> None:
        """Take mean and standard deviation of each modality from the frames of some clips, read piece by piece.

        Constant components keep the deviation 1, so that another value elsewhere is not blown up.
        """
        for name, sequences in self.features.items():
            mean, std = timed_statistics(sequences, rows.tolist(), with_none=False)
            std = np.where(std > LEAST_DEVIATION, std, 1.0)
            self.scales[name] = Scale(mean.astype(np.float32), std.astype(np.float32))

    def windows(self, rows: Sequence[int] | NDArray[np.int64], length: int, stride: int) -> list[Window]:
        """Cut clips into windows, see `mmpsr.temporal.windows.window_starts`; a shorter clip is one window."""
        return [
            Window(int(row), start, min(start + length, int(self.lengths[row])))
            for row in rows
            for start in window_starts(int(self.lengths[row]), length, stride)
        ]

    def frames(self, name: str, window: Window) -> NDArray[np.float32]:
        """Read the frames of a modality, `[L, D]`; the training mean where there is no measurement."""
        sequences, mean = self.features[name], self.scales[name].mean
        if not sequences.present[window.clip]:
            return np.tile(mean, (window.end - window.begin, 1))
        values = sequences.frames(window.clip, window.begin, window.end).astype(np.float32)
        values[sequences.state(window.clip)[window.begin : window.end] == NONE] = mean
        return values

    def batch(self, windows: Sequence[Window]) -> FrameBatch:
        """Read windows, padded with zeros to the longest of them."""
        lengths = np.array([window.end - window.begin for window in windows])
        mask = np.arange(lengths.max()) < lengths[:, np.newaxis]
        features = {}
        for name, sequences in self.features.items():
            padded = np.zeros((*mask.shape, sequences.width), dtype=np.float32)
            for row, window in enumerate(windows):
                padded[row, : lengths[row]] = self.frames(name, window)
            features[name] = torch.from_numpy(padded)
        clips = [window.clip for window in windows]
        presence = np.stack([sequences.present[clips] for sequences in self.features.values()], axis=1)
        return FrameBatch(features, torch.from_numpy(mask), torch.from_numpy(presence))

    def targets(self, windows: Sequence[Window]) -> Tensor:
        """Pad the labels of windows to the longest of them with -1, int64 `[B, L]`."""
        length = max(window.end - window.begin for window in windows)
        padded = np.full((len(windows), length), UNKNOWN, dtype=np.int64)
        for row, window in enumerate(windows):
            padded[row, : window.end - window.begin] = self.labels[window.clip][window.begin : window.end]
        return torch.from_numpy(padded)


def gather_frames(
    table: ClipTable,
    features: Mapping[str, TimedSequences],
    task: str,
    spec: TaskSpec,
    modalities: Sequence[str],
    is_resampled: bool = False,
) -> FrameData:
    """Lay features in time and labels of frames side by side.

    Args:
        table: N clips with their timelines.
        features: by modality, of the same clips.
        task: whose labels.
        spec: its classes.
        modalities: in the model's order.
        is_resampled: whether the features have another rate than their files, whose frames labels count.

    Raises:
        EncodingError: a resampled file with labels of frames cannot be opened.
        CorpusError: two modalities of a clip do not share one grid of frames.
    """
    clips = table.clips
    lengths = np.zeros(len(clips), dtype=np.int64)
    rates: list[Fraction | None] = [None] * len(clips)
    starts = np.zeros(len(clips))
    for name in modalities:
        sequences = features[name]
        for row in np.flatnonzero(sequences.present):
            grid = int(sequences.lengths[row]), sequences.rates[row], float(sequences.starts[row])
            if lengths[row] and grid != (lengths[row], rates[row], starts[row]):
                raise CorpusError(
                    f"clip {clips['clip_id'].iloc[row]!r} of {clips['corpus'].iloc[row]!r}: {name} has {grid[0]} "
                    f"frames at {grid[1]} a second from {grid[2]:g} s, another modality {lengths[row]} at "
                    f"{rates[row]} from {starts[row]:g} s; delete its frames "
                    "from the feature store, and they are extracted again"
                )
            lengths[row], rates[row], starts[row] = grid
    labels = []
    for row, (corpus, clip_id) in enumerate(zip(clips["corpus"], clips["clip_id"], strict=True)):
        timeline = table.timelines.get((corpus, clip_id), {}).get(task)
        there = next((features[name] for name in modalities if features[name].present[row]), None)
        if timeline is None or there is None:
            labels.append(np.full(lengths[row], UNKNOWN, dtype=np.int8))
        else:
            labels.append(grid_labels(timeline, there, row, clips.iloc[row], is_resampled))
    own = clips.reindex(columns=label_columns(task, spec)).to_numpy(dtype=np.float64)  # recordings have no labels
    known = np.isfinite(own).all(axis=1)
    clip_labels = np.where(known, np.nan_to_num(own).argmax(axis=1), UNKNOWN).astype(np.int8)
    return FrameData(
        clips, {name: features[name] for name in modalities}, lengths, tuple(rates), tuple(labels), clip_labels
    )
