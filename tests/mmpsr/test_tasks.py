from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mmpsr.config import ConfigError
from mmpsr.tasks import AMBIVALENCE, BUILTIN_TASKS, EMOTION, PERSONALITY, TasksConfig, TaskSpec

VALUES: dict[str, Any] = {"kind": "single_label", "classes": ("a", "b"), "loss": "cross_entropy", "metrics": ()}


def test_builtin_tasks() -> None:
    assert list(BUILTIN_TASKS) == ["emotion", "personality", "ambivalence"]
    assert (EMOTION.num_outputs, PERSONALITY.num_outputs, AMBIVALENCE.num_outputs) == (7, 5, 2)
    assert EMOTION.neutral == EMOTION.classes[0] == "Neutral"
    assert PERSONALITY.classes[-1] == "non-neuroticism"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "mae"}, "loss 'mae' does not fit a single_label task"),
        ({"kind": "regression"}, "loss 'cross_entropy' does not fit a regression task"),
        ({"neutral": "c"}, "neutral class 'c' is not among the classes"),
        ({"classes": ("a", "a")}, "a class is named twice"),
        ({"classes": ()}, "at least 1 item"),
        ({"threshold": 0.4}, "greater than or equal to 0.5"),
        ({"threshold": 1.0}, "less than 1"),
        ({"clases": ("a",)}, "Extra inputs"),
    ],
)
def test_inconsistent_specifications_are_errors(changes: dict[str, Any], message: str) -> None:
    TaskSpec(**VALUES)
    with pytest.raises(ValidationError, match=message):
        TaskSpec(**{**VALUES, **changes})


def test_resolve_keeps_the_order_and_applies_changes() -> None:
    config = TasksConfig(
        active=("stress", "emotion"), specs={"emotion": {"threshold": 0.9}, "stress": VALUES, "personality": {}}
    )
    resolved = config.resolve()
    assert list(resolved) == ["stress", "emotion"]
    assert resolved["emotion"] == EMOTION.model_copy(update={"threshold": 0.9})
    assert resolved["stress"] == TaskSpec(**VALUES)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TasksConfig(active=("emotoin",)), "no task is named 'emotoin'; did you mean 'emotion'"),
        (TasksConfig(active=("stres",), specs={"stress": VALUES}), "did you mean 'stress'"),
        (TasksConfig(active=("stress",), specs={"stress": {"kind": "regression"}}), r"tasks\.specs\.stress: "),
        (TasksConfig(active=("emotion",), specs={"emotion": {"loss": "mae"}}), r"(?s)tasks\.specs\.emotion: .*'mae'"),
        (TasksConfig(active=()), r"tasks\.active is empty; name at least one of emotion"),
    ],
)
def test_unresolvable_tasks_are_errors(config: TasksConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.resolve()
