"""Calibration: probabilities that mean what they say, thresholds chosen on dev, and sets that hold the truth.

p = softmax(z / temperature), decided where p >= threshold; under shifted labels p' ~ p pi'/pi. How unlike the training
clips a recording is, is its novelty: the share of dev clips whose distance from them is less out of line. Conformal
sets and intervals hold the truth of a new group's clip with at least the chance asked, as {c: 1 - p_c <= q} does
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.calibration.calibration import Calibration, TaskCalibration
    from mmpsr.calibration.conformal import ConformalFit, Promise, fit_conformal
    from mmpsr.calibration.fitting import fit_calibration
    from mmpsr.calibration.label_shift import LabelShift
    from mmpsr.calibration.novelty import Novelty
    from mmpsr.calibration.reliability import confidences, reliability_curve
else:
    __getattr__ = on_demand(__name__, "calibration", "conformal", "fitting", "label_shift", "novelty", "reliability")

__all__ = [
    "Calibration",
    "ConformalFit",
    "LabelShift",
    "Novelty",
    "Promise",
    "TaskCalibration",
    "confidences",
    "fit_calibration",
    "fit_conformal",
    "reliability_curve",
]
