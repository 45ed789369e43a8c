"""Figures of a run of a model in time, made from its stored predictions alone: of frames, and of whole clips.

`predictions.parquet` has a row for each clip: the labels, the probabilities of the model and of the linear baseline by
frame, and the clip's own label. Values are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.clips import SPLITS
from corpora.timeline import UNKNOWN
from mmpsr.config import validate
from mmpsr.metrics.bootstrap import Statistic, bootstrap
from mmpsr.metrics.in_time import frame_statistics, video_score
from mmpsr.metrics.paired_tests import paired_bootstrap
from mmpsr.metrics.seeds import seed_summary
from mmpsr.metrics.segments import SegmentRule, segment_statistics
from training.config import InTimeConfig, InTimeDataConfig
from training.runs.directory import RunError, read_json
from training.runs.verify import changed_files

if TYPE_CHECKING:
    from training.in_time.data import FrameData

__all__ = ["PREDICTIONS", "clip_window", "prediction_table", "results_of", "results_over_seeds", "verify_in_time"]

PREDICTIONS = "predictions.parquet"
NUM_RESAMPLES = 1000
LEVELS = ("frame", "clip")
PLACE = ("corpus", "split", "level", "metric")
NEEDED = ("config.json", "features.json", "baseline.json", PREDICTIONS, "results.json")
TOLERANCE = 1e-6  # percentage points, of figures made again on another machine


def clip_window(seconds: float, rate: Fraction | float) -> int:
    """Give the frames whose mean is a clip's probability, 24 for a second of BAH.

    Example:
        >>> clip_window(1.0, Fraction(24)), clip_window(1.0, Fraction(30000, 1001)), clip_window(0.01, 8)
        (24, 30, 1)
    """
    return max(1, round(seconds * float(rate)))


def segment_rule(settings: InTimeDataConfig) -> SegmentRule:
    """Give the rule by which a run makes segments of probabilities."""
    return SegmentRule(settings.segment_threshold, settings.segment_gap, settings.shortest_segment)


def prediction_table(
    data: FrameData,
    rows: Sequence[int],
    model: Sequence[NDArray[np.float32]],
    linear: Sequence[NDArray[np.float32]],
) -> pd.DataFrame:
    """Lay out what is stored of predictions: a row for each clip, with lists by frame.

    Columns: `corpus, split, clip_id, group, rate` (a fraction as text), `label` (the clip's own, -1 unknown), `labels`,
    `model` and `linear`.
    """
    clips = data.clips.iloc[list(rows)]
    return pd.DataFrame({
        **{name: clips[name].astype(str).to_numpy() for name in ("corpus", "split", "clip_id", "group")},
        "rate": [str(data.rates[row]) for row in rows],
        "label": data.clip_labels[list(rows)],
        "labels": [data.labels[row] for row in rows],
        "model": list(model),
        "linear": list(linear),
    })  # fmt: skip


def results_of(path: Path) -> list[dict[str, Any]]:
    """Make the figures of a run from its predictions.

    Returns:
        A row by corpus, split, level (`frame` or `clip`) and metric: `model` with `low` and `high` (95 %, groups such
        as participants resampled), `linear`, `over_linear` with its ends, and `chance`: the better of the two constant
        predictors. Undefined values are None.

    Raises:
        RunError: the run is not finished, or its predictions cannot be read.
    """
    config = validate(InTimeConfig, read_json(path, "config.json"), str(path / "config.json"))
    try:
        table = pd.read_parquet(path / PREDICTIONS)
    except (OSError, ValueError) as error:
        raise RunError(f"{path / PREDICTIONS} cannot be read ({error}); finish the run first") from None
    (task,) = config.tasks.active
    rows: list[dict[str, Any]] = []
    for corpus in config.corpora.sources:
        for split in SPLITS:
            clips = table[table["corpus"].eq(corpus) & table["split"].eq(split)]
            for level in LEVELS:
                rows += _level_rows(clips, {"corpus": corpus, "split": split, "task": task, "level": level}, config)
    return rows


def verify_in_time(path: Path) -> list[str]:
    """Compare a run's files with its manifest, and its figures with its predictions.

    Returns:
        A sentence for everything that is not what it should be.

    Raises:
        RunError: there is no finished run.
    """
    problems = list(changed_files(path, NEEDED))
    stated, made = (
        {tuple(row[name] for name in PLACE): row for row in rows}
        for rows in (read_json(path, "results.json"), results_of(path))
    )
    for place in sorted(stated.keys() ^ made.keys()):
        where = "does not follow from any prediction" if place in stated else "is missing"
        problems.append(f"results.json: {'/'.join(place)} {where}")
    for place in sorted(stated.keys() & made.keys()):
        for name, value in made[place].items():
            found = stated[place].get(name)
            numbers = isinstance(found, int | float) and isinstance(value, int | float)
            if abs(found - value) > TOLERANCE if numbers else found != value:
                problems.append(f"results.json: {name} of {'/'.join(place)} is {found}, the predictions give {value}")
    return problems


def _level_rows(clips: pd.DataFrame, place: Mapping[str, str], config: InTimeConfig) -> Iterator[dict[str, Any]]:
    if place["level"] == "frame":
        known = [bool((np.asarray(labels) != UNKNOWN).any()) for labels in clips["labels"]]
        clips = clips[np.array(known, dtype=bool)]
        labels = [np.asarray(each) for each in clips["labels"]]
        systems = {name: [np.asarray(each, np.float64) for each in clips[name]] for name in ("model", "linear")}
    else:
        clips = clips[clips["label"].ne(UNKNOWN)]
        labels = [np.array([label]) for label in clips["label"]]
        systems = {name: _clip_scores(clips, name, config.data.clip_seconds) for name in ("model", "linear")}
    if not len(clips):
        return
    groups = pd.factorize(clips["group"])[0]
    num_groups = len(set(groups))
    systems |= {
        name: [np.full(len(each), value) for each in labels] for name, value in (("absent", 0.0), ("present", 1.0))
    }
    statistics = {name: dict(frame_statistics(labels, probs, groups)) for name, probs in systems.items()}
    if place["level"] == "frame":
        rates, rule = [Fraction(rate) for rate in clips["rate"]], segment_rule(config.data)
        for name, probs in systems.items():
            statistics[name] |= segment_statistics(labels, probs, rates, groups, rule)
    num_known = sum(int((each != UNKNOWN).sum()) for each in labels)
    for metric in statistics["model"]:
        ours, linear = statistics["model"][metric], statistics["linear"][metric]
        interval = bootstrap(ours, num_groups, NUM_RESAMPLES).interval(limits=(0.0, 100.0))
        over = paired_bootstrap(linear, ours, num_groups, NUM_RESAMPLES).interval(limits=(-100.0, 100.0))
        chance = [_whole(statistics[name][metric], num_groups) for name in ("absent", "present")]
        yield {
            **place, "metric": metric, "num_clips": len(clips), "num_frames": num_known, "num_groups": num_groups,
            "model": _finite(interval.estimate), "low": _finite(interval.low), "high": _finite(interval.high),
            "linear": _finite(_whole(linear, num_groups)), "over_linear": _finite(over.estimate),
            "over_linear_low": _finite(over.low), "over_linear_high": _finite(over.high),
            "absent": _finite(chance[0]), "present": _finite(chance[1]),
            "chance": _finite(max(filter(math.isfinite, chance), default=math.nan)),
        }  # fmt: skip


def results_over_seeds(results: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Take means over runs that differ in their seed, with the 95 % t interval of the mean.

    Other fields are those of the first run.

    Args:
        results: rows of `results_of` of each run, at least two.
    """
    rows = []
    by_place = [{tuple(row[name] for name in PLACE): row for row in each} for each in results]
    for place, first in by_place[0].items():
        pairs = [(each[place]["model"], each[place]["linear"]) for each in by_place if place in each]
        values = [ours for ours, _ in pairs if ours is not None]
        linear = [theirs for _, theirs in pairs if theirs is not None]
        mean, low, high = _t_interval(values)
        over = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
        over_mean, over_low, over_high = _t_interval(over, (-100.0, 100.0))
        rows.append({
            **first, "model": mean, "low": low, "high": high, "values": values, "linear": _t_interval(linear)[0],
            "over_linear": over_mean, "over_linear_low": over_low, "over_linear_high": over_high,
        })  # fmt: skip
    return rows


def _t_interval(
    values: Sequence[float], limits: tuple[float, float] = (0.0, 100.0)
) -> tuple[float | None, float | None, float | None]:
    """Give the mean and the ends of its 95 % t interval within limits, None where there are too few values."""
    summary = seed_summary(values, limits=limits)
    return _finite(summary.mean), _finite(summary.low), _finite(summary.high)


def _clip_scores(clips: pd.DataFrame, system: str, seconds: float) -> list[NDArray[np.float64]]:
    windows = [clip_window(seconds, Fraction(rate)) for rate in clips["rate"]]
    return [np.array([video_score(probs, window)]) for probs, window in zip(clips[system], windows, strict=True)]


def _whole(statistic: Statistic, num_groups: int) -> float:
    """Compute the figure of all groups, each once."""
    return float(statistic(np.ones((1, num_groups)))[0])


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
