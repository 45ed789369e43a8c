from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mmpsr.config import ConfigError, validate
from mmpsr.prototypes.texts import TaskTexts, read_task_texts
from mmpsr.tasks import (
    AMBIVALENCE,
    BUILTIN_TASKS,
    EMOTION,
    PERSONALITY,
    TasksConfig,
    TaskSpec,
    task_name,
    task_of_texts,
)

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


CALM = """
templates = ["I am {adjective}."]
texts.calm = { name = "calm", adjective = "calm" }
texts.tense = { name = "tension", adjective = "tense" }
"""


def test_texts_are_named_read_and_held_against_the_classes(tmp_path: Path) -> None:
    file = tmp_path / "calm.toml"
    file.write_text(CALM)
    stress = {**VALUES, "classes": ("tense", "calm")}
    spec = TaskSpec(**{**stress, "texts": str(file)})
    assert spec.texts is not None
    assert spec.texts.texts["tense"].name == "tension"
    assert TaskSpec(**spec.model_dump(mode="json")) == spec
    assert "texts" not in TaskSpec(**VALUES).model_dump()  # what was stored before stays byte for byte
    with pytest.raises(ValidationError, match="no text of 'a', 'b'; found"):
        TaskSpec(**{**VALUES, "texts": str(file)})
    with pytest.raises(ValidationError, match=r"'lost\.toml' is neither a file nor"):
        TaskSpec(**{**VALUES, "texts": "lost.toml"})
    file.write_text('kind = "multi_label"\n' + CALM)
    with pytest.raises(ValidationError, match=r"texts\.kind is 'multi_label', and the task's is 'single_label'"):
        TaskSpec(**{**stress, "texts": str(file)})


def test_a_configuration_keeps_the_content_of_a_file_of_texts(tmp_path: Path) -> None:
    file = tmp_path / "calm.toml"
    file.write_text(CALM)
    config = TasksConfig(active=("s",), specs={"s": {**VALUES, "classes": ("calm", "tense"), "texts": str(file)}})
    stored = config.model_dump(mode="json")
    file.unlink()
    assert TasksConfig(**stored).resolve() == config.resolve()
    assert config.resolve()["s"].texts == TaskTexts.model_validate(tomllib.loads(CALM))
    assert TasksConfig(specs={"emotion": {"texts": "emotion"}}).resolve()["emotion"].texts == read_task_texts("emotion")
    with pytest.raises(ConfigError, match=r"tasks: specs: .*'calm.toml' is neither"):
        validate(TasksConfig, {"specs": {"s": {"texts": "calm.toml"}}}, "tasks")


def test_texts_alone_are_a_task(tmp_path: Path) -> None:
    for name, spec in BUILTIN_TASKS.items():
        assert task_of_texts(name).model_copy(update={"texts": None}) == spec
    file = tmp_path / "calm.toml"
    file.write_text(CALM)
    assert task_name(str(file)) == "calm"
    spec = task_of_texts(str(file))
    assert (spec.kind, spec.classes, spec.loss, spec.metrics) == (
        "single_label", ("calm", "tense"), "cross_entropy", ("macro_f1", "uar"),
    )  # fmt: skip
    file.write_text('kind = "multi_label"\nmetrics = ["multilabel_weighted_f1"]\nneutral = "calm"\n' + CALM)
    spec = task_of_texts(str(file))
    assert (spec.loss, spec.metrics, spec.neutral) == ("binary_cross_entropy", ("multilabel_weighted_f1",), "calm")
    file.write_text('kind = "regression"\n' + CALM)
    with pytest.raises(ConfigError, match=r"calm.toml: .*\[texts.calm.opposite\] is missing"):
        task_of_texts(str(file))
    file.write_text('kind = "regression"\n[texts.calm]\nname = "calm"\n[texts.calm.opposite]\nname = "tension"\n')
    assert task_of_texts(str(file)).loss == "mae"
    file.write_text('[texts.calm]\nname = "calm"\n')
    with pytest.raises(ConfigError, match=r"--task-texts: .*has the one class 'calm', which nothing could be told"):
        task_of_texts(str(file), "--task-texts")
    file.write_text('[texts.a]\nname = "a"\n[texts.b]\nname = "b"\n[texts.b.opposite]\nname = "c"\n')
    with pytest.raises(ConfigError, match=r"\[texts.b.opposite\] is of a regression"):
        task_of_texts(str(file))
    with pytest.raises(ConfigError, match="there is no text of 'x'"):
        task_of_texts("ambivalence", declared=TaskSpec(**{**VALUES, "classes": ("x", "present")}))
