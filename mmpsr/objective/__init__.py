"""The objective: loss terms by task and branch.

    supervised: sum over labelled clips of loss(prediction, label)
    pseudo:     sum over unlabelled clips of [confidence >= threshold] loss(prediction, pseudo-label)

Sums and counts stay apart until every process has added its own.
"""

from mmpsr.objective.objective import Objective, ObjectiveConfig, Terms
from mmpsr.objective.pseudo_labels import SemiSupervision, SemiSupervisionConfig
from mmpsr.objective.supervised import BRANCHES, LossSum, balanced_weights, supervised_loss

__all__ = [
    "BRANCHES",
    "LossSum",
    "Objective",
    "ObjectiveConfig",
    "SemiSupervision",
    "SemiSupervisionConfig",
    "Terms",
    "balanced_weights",
    "supervised_loss",
]
