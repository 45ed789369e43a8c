"""The linear baseline of models in time: logistic regression on single frames, all modalities side by side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from corpora.timeline import UNKNOWN
from mmpsr.metrics.in_time import frame_metrics
from training.in_time.data import FrameData, Window
from training.in_time.fit import MONITOR

__all__ = ["MOST_FRAMES", "FrameBaseline"]

PENALTIES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
MOST_FRAMES = 100_000
"""Of training; of more, every k-th of each clip and class is read, since neighbours in time say nearly the same."""


class FrameBaseline:
    """A logistic regression on the standardised features of one frame.

    Classes are weighed alike (the smaller counts as much as the larger), and the penalty is the one with the highest
    average precision on dev frames.

    Args:
        data: clips with fitted scales.
        train: rows of the training clips.
        dev: rows of the dev clips.

    Attributes:
        penalty: the chosen one.
        step: every how manieth training frame was read, of each clip and class, so that short segments are not missed.
    """

    def __init__(self, data: FrameData, train: NDArray[np.int64], dev: NDArray[np.int64]) -> None:
        self.data = data
        self.step = max(1, -(-int(data.lengths[train].sum()) // MOST_FRAMES))
        chosen = [self._chosen(data.labels[row]) for row in train]
        inputs = np.concatenate([self._inputs(int(row))[frames] for row, frames in zip(train, chosen, strict=True)])
        labels = np.concatenate([data.labels[row][frames] for row, frames in zip(train, chosen, strict=True)])
        dev_labels = [data.labels[row] for row in dev]
        best = -np.inf
        for penalty in PENALTIES:
            model = LogisticRegression(C=1.0 / penalty, class_weight="balanced", max_iter=300)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(inputs, labels)
            value = frame_metrics(dev_labels, [self._of(model, int(row)) for row in dev], [MONITOR])[MONITOR]
            if value > best:
                best, self.penalty, self.model = value, penalty, model

    def probabilities(self, rows: Sequence[int] | NDArray[np.int64]) -> list[NDArray[np.float32]]:
        """Predict the probability of the last class for each frame of some clips, `[T]` each."""
        return [self._of(self.model, int(row)) for row in rows]

    def _chosen(self, labels: NDArray[np.int8]) -> NDArray[np.int64]:
        """Number the frames of a clip that are read: of each known class every k-th, the first among them."""
        classes = np.unique(labels[labels != UNKNOWN])
        parts = [np.flatnonzero(labels == label)[:: self.step] for label in classes]
        return np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *parts]))

    def _of(self, model: LogisticRegression, row: int) -> NDArray[np.float32]:
        return model.predict_proba(self._inputs(row))[:, -1].astype(np.float32)

    def _inputs(self, row: int) -> NDArray[np.float32]:
        """Read the frames of a clip, standardised, modalities side by side, `[T, sum of D]`."""
        window = Window(row, 0, int(self.data.lengths[row]))
        scales = self.data.scales
        parts = [(self.data.frames(name, window) - scales[name].mean) / scales[name].std for name in self.data.features]
        return np.concatenate(parts, axis=1)
