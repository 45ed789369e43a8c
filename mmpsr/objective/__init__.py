"""The objective: loss terms by task and branch.

    supervised: sum over labelled clips of loss(prediction, label)
    pseudo:     sum over unlabelled clips of [confidence >= threshold] loss(prediction, pseudo-label)

Sums and counts stay apart until every process has added its own.
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.objective.config import ObjectiveConfig, SemiSupervisionConfig
    from mmpsr.objective.objective import Objective, Terms
    from mmpsr.objective.pseudo_labels import SemiSupervision
    from mmpsr.objective.supervised import BRANCHES, LossSum, balanced_weights, supervised_loss
else:
    __getattr__ = on_demand(__name__, "config", "objective", "pseudo_labels", "supervised")

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
