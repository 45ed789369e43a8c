"""Metrics of frames, pooled over all frames of all clips, and of clips judged by their frames. Percentages.

Frames of a clip are far from independent, so intervals come from resampling groups, such as participants. What a clip
adds to the sums that figures are made of is counted once, however often its group is drawn.

Shape suffixes: N clips, T frames of a clip, K sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from mmpsr.metrics.bootstrap import Interval, Statistic, bootstrap, of_sums
from mmpsr.metrics.sums import METRIC_SUMS

__all__ = [
    "FRAME_METRICS",
    "PEAK_FRAMES",
    "THRESHOLDS",
    "frame_metric_intervals",
    "frame_metrics",
    "frame_statistics",
    "group_intervals",
    "peak_window",
    "video_metric_intervals",
    "video_metrics",
    "video_score",
]

Array = NDArray[np.float64]

PEAK_FRAMES = 24
"""Frames, a second of BAH, whose mean is a video's score."""
THRESHOLDS: Array = np.arange(0, 1, 0.001)
"""1,000 of them, as BAH's code makes them; 144 differ from k / 1000 of `definitions` in the last bit, which matters to
probabilities that equal one exactly."""
CELLS = 4  # absent or present, times decided so
MOST_CELLS = 4_000_000  # of one array, which bounds memory


def threshold_average_precision(sums: Array) -> Array:
    """Compute BAH's own average precision of frames, from what clips add up to.

        AP = trapezoid over (R(t), P(t)), t = 0, 0.001 ... 0.999

    Decisions are `p >= t`; precision is 0 where nothing is decided; no point is added at either end. So a constant p
    below 0.999 gives half the prevalence, and a perfect model 0 if its p are 0 and 1, but 50 if they are 0.1 and 0.9:
    it rewards spread, not only order. Read `average_precision` beside it.

    Args:
        sums: `[..., 4 + 2001]`: cells of the confusion, then frames and present frames decided at each threshold, then
            present frames.

    References:
        González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for behavioural change.
        2025, arXiv:2505.19328.
    """
    figure = METRIC_SUMS["bah_average_precision"].figure(sums[..., CELLS:])
    return np.where(sums[..., -1] > 0, figure, np.nan)


def _of_confusion(name: str) -> Callable[[Array], Array]:
    figure = METRIC_SUMS[name].figure
    return lambda sums: figure(sums[..., :CELLS])


_FIGURES: Mapping[str, Callable[[Array], Array]] = {
    "positive_f1": _of_confusion("positive_f1"),
    "macro_f1": _of_confusion("macro_f1"),
    "weighted_f1": _of_confusion("weighted_f1"),
    "bah_average_precision": threshold_average_precision,
}
FRAME_METRICS = (*_FIGURES, "average_precision")
"""F1 of class present, AVGF1, WF1, average precision by BAH's thresholds, and the usual one (scikit-learn's); see
`definitions`."""


def frame_statistics(
    labels: Sequence[ArrayLike],
    probabilities: Sequence[ArrayLike],
    groups: Sequence[object] | NDArray,
    names: Iterable[str] = FRAME_METRICS,
    threshold: float = 0.5,
) -> dict[str, Statistic]:
    """Make metrics of frames statistics to resample, for intervals and for paired tests.

    Args:
        labels: of each clip `[T]`, 1 present, 0 absent, -1 unknown and left out.
        probabilities: of each clip `[T]`, that it is present.
        groups: of each clip, for example its participant.
        names: of `FRAME_METRICS`.
        threshold: present is decided where p is above it.

    Raises:
        ValueError: clips do not fit together, or a label or probability can be none.
        KeyError: a metric is unknown.
    """
    actual, predicted = checked(labels, probabilities, groups)
    groups_N = np.unique(np.asarray(groups), return_inverse=True)[1] if len(actual) else np.zeros(0, np.int64)
    if any(np.isnan(each).any() for each in predicted):  # nothing can be decided
        return {name: _undefined for name in names}
    sums_NK = np.stack([_sums(x, p, threshold) for x, p in zip(actual, predicted, strict=True)]) if actual else None
    found: dict[str, Statistic] = {}
    for name in names:
        if sums_NK is None:
            found[name] = _undefined
        elif name == "average_precision":
            found[name] = _ranked(groups_N, actual, predicted)
        else:
            found[name] = of_sums(_FIGURES[name], groups_N, sums_NK)
    return found


def checked(
    labels: Sequence[ArrayLike], probabilities: Sequence[ArrayLike], groups: Sequence[object] | NDArray
) -> tuple[list[NDArray[np.bool_]], list[Array]]:
    """Give of each clip's known frames whether they are present, and their probabilities.

    Raises:
        ValueError: clips do not fit together, or a label or probability can be none.
    """
    if not len(labels) == len(probabilities) == len(groups):
        raise ValueError(
            f"labels are of {len(labels)} clips, probabilities of {len(probabilities)}, groups of {len(groups)}; "
            "give one of each for every clip"
        )
    actual, predicted = [], []
    for clip, (each, values) in enumerate(zip(labels, probabilities, strict=True)):
        labels_T, probabilities_T = np.asarray(each), np.asarray(values, dtype=np.float64)
        if labels_T.ndim != 1 or labels_T.shape != probabilities_T.shape:
            raise ValueError(
                f"clip {clip}: labels are {list(labels_T.shape)}, probabilities {list(probabilities_T.shape)}; "
                "expected one of each for every frame"
            )
        if not np.isin(labels_T, (-1, 0, 1)).all():
            wrong = labels_T[~np.isin(labels_T, (-1, 0, 1))][0]
            raise ValueError(f"clip {clip}: a frame's label is {wrong}, expected 1, 0, or -1 for unknown")
        known = labels_T >= 0
        if ((probabilities_T[known] < 0) | (probabilities_T[known] > 1)).any():
            raise ValueError(f"clip {clip}: probabilities lie outside [0, 1]; logits are made probabilities by softmax")
        actual.append(labels_T[known] == 1)
        predicted.append(probabilities_T[known])
    return actual, predicted


def _undefined(counts_BG: Array) -> Array:
    return np.full(len(counts_BG), np.nan)


def _sums(actual_T: NDArray[np.bool_], predicted_T: Array, threshold: float) -> Array:
    """Count a clip's frames in each cell (actual, decided), and those decided at each threshold, `[K]`."""
    cells = np.bincount(2 * actual_T + (predicted_T > threshold), minlength=CELLS)
    reached = np.searchsorted(THRESHOLDS, predicted_T, side="right")  # how many thresholds lie at p or below
    size = len(THRESHOLDS) + 1
    decided = np.stack([np.bincount(chosen, minlength=size) for chosen in (reached, reached[actual_T])])
    at_threshold = decided[:, ::-1].cumsum(axis=1)[:, -2::-1]
    return np.concatenate([cells, at_threshold.ravel(), [actual_T.sum()]]).astype(np.float64)


def _ranked(groups_N: NDArray[np.int64], actual: list[NDArray[np.bool_]], predicted: list[Array]) -> Statistic:
    """Make the usual average precision a statistic, sum over k of (R_k - R_{k-1}) P_k, over distinct probabilities k.

    Only those k count at which a present frame lies. What each group has between one and the next is counted once;
    products with how often groups are drawn, and their sums over k, give all resamples.
    """
    probabilities_F, present_F = np.concatenate(predicted), np.concatenate(actual)
    order = np.argsort(-probabilities_F, kind="stable")
    present_F = present_F[order]
    groups_F = np.repeat(groups_N, [len(each) for each in actual])[order]
    places_F = np.cumsum(np.diff(probabilities_F[order], prepend=np.inf) != 0)  # of distinct probabilities
    ends = np.unique(places_F[present_F])
    slots_F = np.searchsorted(ends, places_F)  # frames behind the last present one have none

    def values(counts_BG: Array) -> Array:
        num_resamples, num_groups = counts_BG.shape
        right_B, all_B, area_B = (np.zeros((num_resamples, 1)) for _ in range(3))
        step = max(1, MOST_CELLS // max(num_resamples, num_groups))
        for start in range(0, len(ends), step):
            size = min(step, len(ends) - start)
            chosen = slice(*np.searchsorted(slots_F, (start, start + size)))
            cells, is_present = groups_F[chosen] * size + slots_F[chosen] - start, present_F[chosen]
            more_BE, every_BE = (
                counts_BG @ np.bincount(each, minlength=num_groups * size).reshape(num_groups, size)
                for each in (cells[is_present], cells)
            )
            reached_BE = right_B + np.cumsum(more_BE, axis=1)
            total_BE = all_B + np.cumsum(every_BE, axis=1)
            area_B += (more_BE * reached_BE / np.maximum(total_BE, 1)).sum(axis=1, keepdims=True)
            right_B, all_B = reached_BE[:, -1:], total_BE[:, -1:]
        with np.errstate(invalid="ignore"):
            return (100 * area_B / right_B)[:, 0]

    return values


def frame_metrics(
    labels: Sequence[ArrayLike],
    probabilities: Sequence[ArrayLike],
    names: Iterable[str] = FRAME_METRICS,
    threshold: float = 0.5,
) -> dict[str, float]:
    """Compute metrics pooled over all known frames of all clips; NaN where there are none, or a probability is none.

    Args as of `frame_statistics`.

    Example:
        >>> labels, probabilities = [[1, 0, 1, 0], [-1, 0]], [[0.9, 0.2, 0.6, 0.7], [0.5, 0.1]]
        >>> found = frame_metrics(labels, probabilities)  # of five known frames 2 TP, 1 FP, 2 TN
        >>> found["positive_f1"], found["macro_f1"]
        (80.0, 80.0)
    """
    statistics = frame_statistics(labels, probabilities, np.zeros(len(labels)), names, threshold)
    return {name: float(statistic(np.ones((1, 1)))[0]) for name, statistic in statistics.items()}


def frame_metric_intervals(
    labels: Sequence[ArrayLike],
    probabilities: Sequence[ArrayLike],
    groups: Sequence[object] | NDArray,
    names: Iterable[str] = FRAME_METRICS,
    threshold: float = 0.5,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Compute metrics pooled over all known frames, with intervals from resampling groups.

    Args:
        labels: of each clip `[T]`, 1 present, 0 absent, -1 unknown and left out.
        probabilities: of each clip `[T]`, that it is present.
        groups: of each clip, for example its participant.
        names: of `FRAME_METRICS`.
        threshold: present is decided where p is above it.
        num_resamples: see `mmpsr.metrics.bootstrap.bootstrap`.
        seed: of the draws.
        level: of the intervals.

    Raises:
        ValueError: clips do not fit together, or a label or probability can be none.
    """
    statistics = frame_statistics(labels, probabilities, groups, names, threshold)
    return group_intervals(statistics, groups, num_resamples, seed, level)


def group_intervals(
    statistics: Mapping[str, Statistic],
    groups: Sequence[object] | NDArray,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Give figures in percent their intervals from resampling groups; args as of `frame_metric_intervals`."""
    num_groups = len(np.unique(np.asarray(groups)))
    return {
        name: bootstrap(statistic, num_groups, num_resamples, seed).interval(level, (0.0, 100.0))
        for name, statistic in statistics.items()
    }


def peak_window(frame_step: int = 1) -> int:
    """Give the frames of a peak where only every k-th is kept, round(24 / k), at least 1.

    Raises:
        ValueError: the step is below 1.

    Example:
        >>> [peak_window(step) for step in (1, 2, 5, 48)]
        [24, 12, 5, 1]
    """
    if frame_step < 1:
        raise ValueError(f"a frame step is at least 1, found {frame_step}")
    return max(1, round(PEAK_FRAMES / frame_step))


def video_score(probabilities_T: ArrayLike, window: int = PEAK_FRAMES) -> float:
    """Score a video by its frames: how present the class is where it is most so.

        s = max over t of mean(p_t, ..., p_{t + W - 1}),   mean(p_1, ..., p_T) where T < W

    The video is decided present where s > 0.5. The more windows a video has the higher its maximum, so that long videos
    are found present more often; a threshold chosen on validation is another rule than this one.

    Args:
        probabilities_T: of all frames of a video, windows merged; at least one.
        window: W, of `peak_window`.

    Raises:
        ValueError: there is no frame, or the window is empty.

    References:
        González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for behavioural change.
        2025, arXiv:2505.19328.

    Example:
        >>> video_score([0.0] * 30 + [1.0] * 12 + [0.0] * 30)
        0.5
    """
    values_T = np.asarray(probabilities_T, dtype=np.float64)
    if values_T.ndim != 1 or not len(values_T) or window < 1:
        raise ValueError(f"a score needs frames and a window; found probabilities {list(values_T.shape)}, {window}")
    return float(sliding_window_view(values_T, min(window, len(values_T))).mean(axis=1).max())


def video_metrics(
    labels_N: ArrayLike, scores_N: ArrayLike, names: Iterable[str] = FRAME_METRICS, threshold: float = 0.5
) -> dict[str, float]:
    """Compute the metrics of `frame_metrics` of videos, with the scores of `video_score`.

    Args:
        labels_N: official labels of the videos, -1 for unknown.
        scores_N: their scores.
        names: of `FRAME_METRICS`.
        threshold: present is decided where a score is above it; figures at another one than 0.5 need a name of their
            own.
    """
    return frame_metrics(
        [[each] for each in np.asarray(labels_N)], [[s] for s in np.asarray(scores_N)], names, threshold
    )


def video_metric_intervals(
    labels_N: ArrayLike,
    scores_N: ArrayLike,
    groups: Sequence[object] | NDArray,
    names: Iterable[str] = FRAME_METRICS,
    threshold: float = 0.5,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Compute the metrics of `video_metrics`, with intervals from resampling groups; args as of both."""
    labels, scores = [[each] for each in np.asarray(labels_N)], [[each] for each in np.asarray(scores_N)]
    return frame_metric_intervals(labels, scores, groups, names, threshold, num_resamples, seed, level)
