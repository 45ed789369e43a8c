"""Calibration: probabilities that mean what they say, and thresholds chosen on dev.

p = softmax(z / temperature), decided where p >= threshold; under shifted labels p' ~ p pi'/pi
"""

from mmpsr.calibration.calibration import Calibration, TaskCalibration
from mmpsr.calibration.fitting import fit_calibration
from mmpsr.calibration.label_shift import LabelShift
from mmpsr.calibration.reliability import confidences, reliability_curve

__all__ = ["Calibration", "LabelShift", "TaskCalibration", "confidences", "fit_calibration", "reliability_curve"]
