"""Decisions from probabilities: which emotions are present, or which single class.

Shape suffixes: N clips, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmpsr.tasks import TaskSpec

__all__ = ["decide_classes", "decide_present"]


def decide_present(probabilities_NC: NDArray[np.float64], spec: TaskSpec) -> NDArray[np.bool_]:
    """Which classes of a multi-label task are present.

    Softmax probabilities (they sum to 1): a class is present when its probability is at least 1/C; where the neutral
    class has at least (C - 1)/C, every other is absent. Sigmoid probabilities (binary cross-entropy): present at 0.5.

    Args:
        probabilities_NC: of `mmpsr.objective.probabilities`.
        spec: the task.

    Returns:
        bool `[N, C]`.
    """
    num_classes = spec.num_outputs
    if spec.loss == "binary_cross_entropy":
        return probabilities_NC >= 0.5
    present = probabilities_NC >= 1.0 / num_classes
    if spec.neutral is not None:
        neutral = spec.classes.index(spec.neutral)
        only_neutral = probabilities_NC[:, neutral] >= (num_classes - 1) / num_classes
        others = np.arange(num_classes) != neutral
        present[np.ix_(only_neutral, others)] = False
    return present


def decide_classes(probabilities_NC: NDArray[np.float64]) -> NDArray[np.int64]:
    """The most probable class, `[N, C] -> [N]`."""
    return probabilities_NC.argmax(axis=1)
