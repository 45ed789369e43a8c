"""Metrics and what can be said of them: definitions, intervals, paired tests, ranks.

targets and predictions -> value -> bootstrap over groups [low, high] -> paired test -> Holm -> ranks over tables

`in_time` has those of frames, and of clips judged by their frames, `segments` those of what is found in a clip.
"""

from typing import TYPE_CHECKING

from mmpsr.extras import on_demand

if TYPE_CHECKING:
    from mmpsr.metrics.bootstrap import Bootstrap, Interval, Statistic
    from mmpsr.metrics.definitions import METRICS, evaluate, labeled_rows
    from mmpsr.metrics.in_time import frame_metric_intervals, frame_metrics, video_metrics, video_score
    from mmpsr.metrics.paired_tests import holm, mcnemar, paired_bootstrap, wilcoxon
    from mmpsr.metrics.ranking import friedman_test, nemenyi_difference
    from mmpsr.metrics.seeds import SeedSummary, seed_summary
    from mmpsr.metrics.segments import SegmentRule, find_segments, segment_metrics
    from mmpsr.metrics.sums import metric_statistic
else:
    __getattr__ = on_demand(
        __name__, "bootstrap", "definitions", "in_time", "paired_tests", "ranking", "seeds", "segments", "sums"
    )

__all__ = [
    "METRICS",
    "Bootstrap",
    "Interval",
    "SeedSummary",
    "SegmentRule",
    "Statistic",
    "evaluate",
    "find_segments",
    "frame_metric_intervals",
    "frame_metrics",
    "friedman_test",
    "holm",
    "labeled_rows",
    "mcnemar",
    "metric_statistic",
    "nemenyi_difference",
    "paired_bootstrap",
    "seed_summary",
    "segment_metrics",
    "video_metrics",
    "video_score",
    "wilcoxon",
]
