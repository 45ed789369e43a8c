"""What a cue event is: something measured that has a name, seconds, a size and a unit.

Shape legend: T samples in time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CueEvent", "degrees_above", "events_where", "runs", "spacing"]

_BRIDGE = 2.5  # spacings between two samples beyond which nothing is known of the time between them
_HOLD = 0.75  # degrees down to which a cue that reached 1 goes on, so that it does not flicker about its threshold
_NOISE = 3.0  # standard deviations of the samples' noise that a change must exceed


@dataclass(frozen=True)
class CueEvent:
    """A cue from the first to the last sample that shows it.

    Attributes:
        cue: name, a key of `encoders.cues.narration.WORDING`.
        start: seconds from the clip's beginning of the first sample that shows the cue.
        end: seconds of the last; the same as `start` where one sample alone shows it.
        value: what was measured where the cue is strongest.
        unit: of the value; IOD is the inter-ocular distance.
        degree: the value in steps of its threshold: 1 slight, 2 clear, 3 strong.
        resolution: seconds between samples: how much earlier the cue may have begun, and how much later ended.
    """

    cue: str
    start: float
    end: float
    value: float
    unit: str
    degree: float
    resolution: float


def spacing(seconds_T: NDArray[np.float64]) -> float:
    """Measure seconds between samples, their median; infinite for fewer than two samples, which measure no change.

    Example:
        >>> spacing(np.array([0.0, 0.2, 0.4, 2.0]))
        0.2
    """
    return round(float(np.median(np.diff(seconds_T))), 6) if len(seconds_T) > 1 else math.inf


def runs(present_T: NDArray[np.bool_], seconds_T: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Find the first and last index of each stretch of true samples; where samples are missing between, a stretch ends.

    Example:
        >>> runs(np.array([True, True, False, True, True]), np.array([0.0, 0.1, 0.2, 0.3, 0.9]))
        [(0, 1), (3, 3), (4, 4)]
    """
    longest = _BRIDGE * spacing(seconds_T)
    stretches: list[tuple[int, int]] = []
    for index in map(int, np.flatnonzero(present_T)):
        if stretches and stretches[-1][1] == index - 1 and seconds_T[index] - seconds_T[index - 1] <= longest:
            stretches[-1] = (stretches[-1][0], index)
        else:
            stretches.append((index, index))
    return stretches


def degrees_above(
    values_T: NDArray[np.float64], neutral: float, step: float, own_step: float | None = None
) -> NDArray[np.float64]:
    r"""Tell how far values lie above a neutral value or, where that is more, above the clip's own median.

    `max((v - neutral) / step, (v - median(v)) / max(own_step, 3 sigma))`, with `sigma` the noise of the samples as
    their differences show it, `median |v_t - v_{t-1}| / 0.954` (exact for normal noise): a face that rests elsewhere
    than the neutral one still shows its own changes, and a shaky measurement shows none.

    Args:
        values_T: what was measured.
        neutral: of a face at rest.
        step: distance from `neutral` that makes one degree.
        own_step: least distance from the median that makes one degree; None leaves the median out.

    Example:
        >>> degrees_above(np.array([0.0, 0.0, 0.0, 0.2]), neutral=0.1, step=0.1, own_step=0.05).tolist()
        [0.0, 0.0, 0.0, 4.0]
    """
    fixed = (values_T - neutral) / step
    if own_step is None:
        return fixed
    noise = float(np.median(np.abs(np.diff(values_T)))) / 0.954 if len(values_T) > 1 else 0.0
    return np.maximum(fixed, (values_T - np.median(values_T)) / max(own_step, _NOISE * noise))


def events_where(
    cue: str,
    degrees_T: NDArray[np.float64],
    values_T: NDArray[np.float64],
    unit: str,
    seconds_T: NDArray[np.float64],
    least_seconds: float = 0.0,
) -> list[CueEvent]:
    """Find an event for each stretch of samples that reaches one degree, as long as it stays above 0.75 degrees.

    Args:
        cue: its name.
        degrees_T: strength in steps of the threshold; 0 where it is unknown.
        values_T: what was measured.
        unit: of the values.
        seconds_T: when.
        least_seconds: shortest stretch, from its first to its last sample.
    """
    resolution, events = spacing(seconds_T), []
    for first, last in runs(degrees_T >= _HOLD, seconds_T):
        top = first + int(np.argmax(degrees_T[first : last + 1]))
        if degrees_T[top] >= 1.0 and seconds_T[last] - seconds_T[first] >= least_seconds - 1e-9:
            start, end = float(seconds_T[first]), float(seconds_T[last])
            events.append(CueEvent(cue, start, end, float(values_T[top]), unit, float(degrees_T[top]), resolution))
    return events
