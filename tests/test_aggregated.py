"""Clips averaged to what they make up together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmpsr.tasks import AMBIVALENCE, BUILTIN_TASKS, TaskSpec
from training.evaluation.breakdowns import aggregate, aggregated_rows
from training.runs.directory import RunError
from training.runs.stored import Part

NAN = float("nan")


def part(spec: TaskSpec, targets: list[list[float]], predicted: list[list[float]], groups: list[str]) -> Part:
    clips = pd.DataFrame({"clip_id": [f"c{index}" for index in range(len(groups))], "group": groups})
    return Part("bah", "test", "task", spec, ("macro_f1",), clips, np.array(targets), np.array(predicted), None)


def test_videos_of_frames_by_hand() -> None:
    # Video b: frames absent, present: present; mean (0.6 + 0.3) / 2 = 0.45. Video a: one absent frame.
    frames = part(AMBIVALENCE, [[1, 0], [1, 0], [0, 1]], [[0.4, 0.6], [0.9, 0.1], [0.7, 0.3]], ["p1", "p2", "p1"])
    videos = aggregate(frames, pd.Series(["b", "a", "b"]))
    assert videos.clips[["clip_id", "group"]].to_numpy().tolist() == [["a", "p2"], ["b", "p1"]]
    assert videos.targets.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(videos.predicted, [[0.9, 0.1], [0.55, 0.45]])
    # a is right, b is decided absent: F1 of absent 2/3, of present 0.
    row = next(aggregated_rows(frames, pd.Series(["b", "a", "b"])))
    assert (row["value"], row["num_clips"], row["num_wholes"]) == (pytest.approx(100 / 3), 3, 2)


def test_labels_of_the_other_kinds() -> None:
    moods = BUILTIN_TASKS["emotion"].model_copy(
        update={"kind": "single_label", "classes": ("a", "b", "c"), "neutral": None}
    )
    whole = pd.Series(["v", "v", "v"])
    found = aggregate(part(moods, [[0, 1, 0], [0, 0, 1], [0, 1, 0]], [[0.2, 0.5, 0.3]] * 3, ["g"] * 3), whole)
    assert found.targets.tolist() == [[0, 1, 0]]  # most frequent
    several = moods.model_copy(update={"kind": "multi_label"})
    found = aggregate(part(several, [[0, 0.2, 0], [0, 0.5, 1], [0, 0, 0]], [[0.2, 0.5, 0.3]] * 3, ["g"] * 3), whole)
    assert found.targets.tolist() == [[0, 0.5, 1]]  # each at its strongest
    traits = BUILTIN_TASKS["personality"].model_copy(update={"classes": ("a", "b", "c")})
    found = aggregate(
        part(traits, [[0.2, NAN, NAN], [0.4, NAN, 0.5], [0.6, NAN, NAN]], [[0.5] * 3] * 3, ["g"] * 3), whole
    )
    np.testing.assert_allclose(found.targets, [[0.4, NAN, 0.5]])  # the mean of those that are known


def test_clips_without_a_whole_stay_for_themselves() -> None:
    frames = part(AMBIVALENCE, [[1, 0]] * 3, [[0.9, 0.1]] * 3, ["g"] * 3)
    found = aggregate(frames, pd.Series(["v", None, None]))
    assert found.clips["clip_id"].tolist() == ["c1", "c2", "v"]


def test_wholes_across_groups_are_refused() -> None:
    frames = part(AMBIVALENCE, [[1, 0]] * 2, [[0.9, 0.1]] * 2, ["g", "h"])
    with pytest.raises(RunError, match="--aggregate: 'v' of bah has clips of several groups"):
        aggregate(frames, pd.Series(["v", "v"]))
