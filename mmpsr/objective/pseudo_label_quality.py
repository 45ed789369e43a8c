"""What pseudo-labels are worth, on labelled clips whose labels they were made without.

Shape suffixes: N clips, C outputs of a task, P distributions of a clip (1 for a task with one class per clip, else C).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.objective.pseudo_labels import PseudoLabels
from mmpsr.probabilities import has_one_class
from mmpsr.tasks import TaskSpec

__all__ = ["pseudo_label_quality"]


def pseudo_label_quality(
    sure_NC: Tensor, labels_NC: Tensor, spec: TaskSpec, accept: Callable[[Tensor], PseudoLabels]
) -> dict[str, float]:
    """Acceptance rate and quality of the accepted pseudo-labels, overall and by class.

    Weights of pseudo-labels count as fractions of a clip. A class of a task with one class per clip holds the clips
    predicted as it; a pseudo-label is right where it is the class that the supervised loss would take (the largest
    target). Independent classes and scores count one by one, and are right where their side is: present or absent,
    above 0.5 or not.

    Args:
        sure_NC: probabilities or scores of dev clips.
        labels_NC: their targets; only known ones count, as in the supervised loss.
        spec: the task.
        accept: the rule, for example `partial(semi_supervision.pseudo_labels, "emotion")`.

    Returns:
        `acceptance` and `accuracy`, in [0, 1], and for regression `mean_absolute_error` of the accepted scores; each
        also by class, as `accuracy/Anger`. NaN where there is nothing to divide by.
    """
    found = accept(sure_NC)
    known_NC = torch.isfinite(labels_NC)
    if spec.kind != "regression":
        known_NC = known_NC & known_NC.all(dim=1, keepdim=True)
    targets_NC = torch.where(known_NC, labels_NC, 0.0)
    units_NC = known_NC.float()
    if has_one_class(spec):
        units_NC = units_NC * found.values
        right_NC = functional.one_hot(targets_NC.argmax(dim=1), spec.num_outputs) > 0
    else:
        right_NC = (found.values > 0.5) == (targets_NC > (0.5 if spec.kind == "regression" else 0.0))
    accepted_NC = units_NC * found.weights
    ratios = {"acceptance": (accepted_NC, units_NC), "accuracy": (accepted_NC * right_NC, accepted_NC)}
    if spec.kind == "regression":
        ratios["mean_absolute_error"] = (accepted_NC * (sure_NC - targets_NC).abs(), accepted_NC)
    quality = {name: float(part.sum() / whole.sum()) for name, (part, whole) in ratios.items()}
    for name, (part_NC, whole_NC) in ratios.items():
        shares = (part_NC.sum(dim=0) / whole_NC.sum(dim=0)).tolist()
        quality |= {f"{name}/{label}": share for label, share in zip(spec.classes, shares, strict=True)}
    return quality
