"""Dev splits that cannot choose: each reason at its limit, and none for a dev split that can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from corpora.checks.dev_choice import CLASSES, WHOLE, weak_dev
from mmpsr.tasks import AMBIVALENCE, TaskSpec

MOODS = TaskSpec(kind="multi_label", classes=("joy", "fear"), loss="binary_cross_entropy", metrics=("macro_f1",))
TRAIT = TaskSpec(kind="regression", classes=("warmth",), loss="mae", metrics=("macc",))


def reasons(
    task: str, spec: TaskSpec, dev: Sequence[Sequence[float]], train: Sequence[Sequence[float]] = (), groups: int = 99
) -> list[str]:
    """Cases of a corpus whose clips have these labels."""
    names = [f"{task}.{name}" for name in spec.classes]
    clips = pd.DataFrame([*dev, *train], columns=names, dtype="float64")
    clips["split"] = ["dev"] * len(dev) + ["train"] * len(train)
    clips["clip_id"] = [f"c{number}" for number in range(len(clips))]
    clips["group"] = pd.array([f"g{number % groups}" for number in range(len(clips))], dtype="string")
    return [case.reason for finding in weak_dev("mine", clips, {task: spec}) for case in finding.cases]


ABSENT, PRESENT, UNKNOWN = (1.0, 0.0), (0.0, 1.0), (float("nan"), float("nan"))
BOTH = [ABSENT] * 5 + [PRESENT] * 5


@pytest.mark.parametrize(
    ("dev", "changes", "expected"),
    [
        (BOTH, {}, None),
        (BOTH, {"groups": 2}, None),
        (BOTH, {"groups": 1}, "all 10 of one group"),
        (
            [*BOTH[:9], UNKNOWN],
            {},
            "9 labelled dev clips (fewer than 10); fewer than 5 dev clips with a class: present 4",
        ),
        (BOTH[:5] * 2, {}, "one class only (absent)"),
        ([ABSENT], {}, "1 labelled dev clip (fewer than 10); of one group; one class only (absent)"),
        ([UNKNOWN] * 10, {}, None),  # `unlabeled_split` says it
        ([], {"train": BOTH}, None),
    ],
)
def test_single_label(dev: Any, changes: dict[str, Any], expected: str | None) -> None:
    assert reasons("ambivalence", AMBIVALENCE, dev, **changes) == (
        [] if expected is None else [f"task 'ambivalence': {expected}"]
    )


def test_multi_label_needs_clips_with_and_without_a_class() -> None:
    dev = [(1.0, 0.0)] * 6 + [(0.0, 0.0)] * 6
    assert reasons("moods", MOODS, dev) == []  # fear occurs nowhere: dev need not tell it
    [reason] = reasons("moods", MOODS, dev, train=[(0.0, 1.0)])
    assert reason == "task 'moods': fewer than 5 dev clips with a class: fear 0 (1 of 2 classes have enough)"
    [reason] = reasons("moods", MOODS, [(1.0, 1.0)] * 8 + [(0.0, 0.0)] * 4)
    assert reason == "task 'moods': fewer than 5 dev clips without a class: joy 4, fear 4"


def test_regression_needs_values_that_differ() -> None:
    assert reasons("trait", TRAIT, [(0.1 * number,) for number in range(10)]) == []
    assert reasons("trait", TRAIT, [(0.5,)] * 10) == ["task 'trait': the same value in every dev clip: warmth"]


def test_the_finding_says_what_dev_is_for() -> None:
    clips = pd.DataFrame({"split": ["dev"], "clip_id": ["a"], "group": ["p"], "ambivalence.absent": [1.0],
                          "ambivalence.present": [0.0]})  # fmt: skip
    [finding] = weak_dev("mine", clips, {"ambivalence": AMBIVALENCE})
    assert (finding.corpus, finding.kind, finding.severity) == ("mine", "weak_dev", "warning")
    assert "epoch, thresholds, calibration, settings" in finding.sentence
    assert finding.sentence.endswith("task 'ambivalence': 1 labelled dev clip (fewer than 10); of one group; "
                                     "one class only (absent)")  # fmt: skip


def findings(spec: TaskSpec, dev: Sequence[Sequence[float]], train: Sequence[Sequence[float]] = ()) -> list[str]:
    """Messages of a corpus whose clips have these labels of the task `moods`."""
    clips = pd.DataFrame([*dev, *train], columns=[f"moods.{name}" for name in spec.classes], dtype="float64")
    clips["split"] = ["dev"] * len(dev) + ["train"] * len(train)
    clips["clip_id"] = clips["group"] = [f"c{number}" for number in range(len(clips))]
    return [finding.message for finding in weak_dev("mine", clips, {"moods": spec})]


def test_one_rare_class_is_not_said_of_the_task() -> None:
    joyful, neither, both = (1.0, 0.0), (0.0, 0.0), (1.0, 1.0)
    assert findings(MOODS, [joyful] * 6 + [neither] * 6, [both]) == [CLASSES]  # joy can be told, fear cannot
    assert findings(MOODS, [both] * 2 + [neither] * 10) == [WHOLE]  # neither can
    assert findings(MOODS, [joyful] * 4 + [neither] * 4, [both]) == [WHOLE]  # 8 clips, too few for anything
    three = MOODS.model_copy(update={"kind": "single_label", "classes": ("a", "b", "c")})
    a, b, c = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
    assert findings(three, [a] * 6 + [b] * 6 + [c]) == [CLASSES]
    assert findings(three, [a] * 11 + [b] + [c]) == [WHOLE]  # one class alone cannot be told from anything


def test_the_demo_is_told_which_class_is_rare() -> None:
    spec = MOODS.model_copy(update={"classes": ("joy", "fear", "Neutral")})
    clips = pd.DataFrame([(1.0, 0.0, 0.0)] * 6 + [(0.0, 1.0, 0.0)] * 6 + [(0.0, 0.0, 1.0)] * 2,
                         columns=[f"emotion.{name}" for name in spec.classes])  # fmt: skip
    clips["split"], clips["clip_id"] = "dev", [str(number) for number in range(14)]
    clips["group"] = clips["clip_id"]
    [finding] = weak_dev("mosei", clips, {"emotion": spec})
    assert finding.sentence == (
        "dev has few clips of some classes: their thresholds and their figures on dev are chance; other classes are "
        "not affected, but a mean over classes, which chooses epochs and settings, gives each of them any other's "
        "weight: task 'emotion': fewer than 5 dev clips with a class: Neutral 2 (2 of 3 classes have enough)"
    )
