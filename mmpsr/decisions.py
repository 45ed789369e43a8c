"""Decisions of probabilities: which class, or which classes, a clip has.

Shape suffixes: N clips, C outputs of a task.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmpsr.tasks import TaskSpec

__all__ = ["Array", "decide_classes", "decide_present", "default_thresholds", "only_neutral"]

Array = NDArray[np.float64]


def default_thresholds(spec: TaskSpec) -> Array:
    """Give the probabilities from which a class is decided, `[C]`: 1/C of a softmax over several labels, else 0.5."""
    is_shared = spec.kind == "multi_label" and not spec.is_binary
    return np.full(spec.num_outputs, 1.0 / spec.num_outputs if is_shared else 0.5)


def decide_present(probabilities_NC: Array, spec: TaskSpec, thresholds_C: Array | None = None) -> NDArray[np.bool_]:
    """Decide which classes of a multi-label task are present: those that reach their threshold.

    By default, softmax probabilities (they sum to 1) have the threshold 1/C, sigmoid probabilities (binary
    cross-entropy) 0.5. Of a softmax, every other class is absent where the neutral class has at least (C - 1)/C.

    Args:
        probabilities_NC: of `mmpsr.probabilities.probabilities`.
        spec: the task.
        thresholds_C: in place of the default ones.

    Returns:
        bool `[N, C]`.
    """
    present = probabilities_NC >= (default_thresholds(spec) if thresholds_C is None else thresholds_C)
    if spec.neutral is not None:
        others = np.arange(spec.num_outputs) != spec.classes.index(spec.neutral)
        present[np.ix_(only_neutral(probabilities_NC, spec), others)] = False
    return present


def only_neutral(probabilities_NC: Array, spec: TaskSpec) -> NDArray[np.bool_]:
    """Mark clips whose neutral class has at least (C - 1)/C of a softmax, `[N, C] -> [N]`; then no other is present."""
    if spec.neutral is None or spec.is_binary:
        return np.zeros(len(probabilities_NC), dtype=bool)
    neutral = spec.classes.index(spec.neutral)
    return probabilities_NC[:, neutral] >= (spec.num_outputs - 1) / spec.num_outputs


def decide_classes(probabilities_NC: Array, thresholds_C: Array | None = None) -> NDArray[np.int64]:
    """Decide for the most probable class, `[N, C] -> [N]`.

        argmax_c p_c / t_c, all t_c alike without thresholds

    With thresholds, it is the class that is most probable in proportion to its threshold. Two classes with
    the thresholds (1 - t, t) are so decided by p_1 > t.

    Example:
        >>> decide_classes(np.array([[0.7, 0.3]])).tolist()
        [0]
        >>> decide_classes(np.array([[0.7, 0.3]]), np.array([0.75, 0.25])).tolist()
        [1]
    """
    return (probabilities_NC if thresholds_C is None else probabilities_NC / thresholds_C).argmax(axis=1)
