"""Tasks: what is predicted, how it is scored, trained and decoded, declared in one `TaskSpec` each.

A new task is a new entry here or in a configuration file (`[tasks.specs.<name>]`); no other code names a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from mmpsr.config import Config, ConfigError, nearest, validate

__all__ = ["AMBIVALENCE", "BUILTIN_TASKS", "EMOTION", "PERSONALITY", "TaskSpec", "TasksConfig"]

TaskKind = Literal["single_label", "multi_label", "regression"]
SupervisedLoss = Literal["cross_entropy", "soft_cross_entropy", "binary_cross_entropy", "mae", "mse"]


class TaskSpec(Config):
    """One prediction target.

    Targets are float arrays `[n, num_outputs]` with NaN where unknown: one-hot rows for `single_label`, intensities
    in [0, 1] for `multi_label`, values in [0, 1] for `regression`.
    """

    kind: TaskKind
    """What the targets are: one class, several graded classes, or numbers in [0, 1]."""
    classes: tuple[str, ...] = Field(min_length=1)
    """Names of the outputs, in the order of the target columns."""
    loss: SupervisedLoss
    """Supervised loss; `cross_entropy` takes the argmax of the target, `soft_cross_entropy` its distribution."""
    metrics: tuple[str, ...]
    """Metrics reported where a corpus does not name its own (names of `mmpsr.metrics.definitions.METRICS`)."""
    neutral: str | None = None
    """The class that is present exactly when no other is (multi-label tasks)."""
    threshold: float = Field(default=0.8, ge=0.5, lt=1.0)
    """Acceptance threshold of pseudo-labels: a class probability, or a score's distance past one side."""

    @property
    def num_outputs(self) -> int:
        """Width of the task's targets and predictions."""
        return len(self.classes)

    @model_validator(mode="after")
    def _consistent(self) -> TaskSpec:
        regression_losses = ("mae", "mse")
        if (self.kind == "regression") != (self.loss in regression_losses):
            raise ValueError(f"loss {self.loss!r} does not fit a {self.kind} task")
        if self.neutral is not None and self.neutral not in self.classes:
            raise ValueError(f"neutral class {self.neutral!r} is not among the classes {list(self.classes)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"a class is named twice in {list(self.classes)}")
        return self


EMOTION = TaskSpec(
    kind="multi_label",
    classes=("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise"),
    loss="cross_entropy",
    metrics=("multilabel_macro_f1", "multilabel_weighted_accuracy"),
    neutral="Neutral",
    threshold=0.8,
)
PERSONALITY = TaskSpec(
    kind="regression",
    classes=("openness", "conscientiousness", "extraversion", "agreeableness", "non-neuroticism"),
    loss="mae",
    metrics=("mean_accuracy", "mean_ccc"),
    threshold=0.5,
)
AMBIVALENCE = TaskSpec(
    kind="single_label",
    classes=("absent", "present"),
    loss="cross_entropy",
    metrics=("macro_f1", "uar"),
    threshold=0.8,
)
BUILTIN_TASKS: Mapping[str, TaskSpec] = {"emotion": EMOTION, "personality": PERSONALITY, "ambivalence": AMBIVALENCE}


class TasksConfig(Config):
    """Which tasks are trained, and how they differ from their declarations."""

    active: tuple[str, ...] = ("emotion", "personality", "ambivalence")
    """Tasks that the model predicts."""
    specs: dict[str, dict[str, object]] = Field(default_factory=dict)
    """Changes to built-in tasks, or whole declarations of new ones, by task name."""

    def resolve(self) -> dict[str, TaskSpec]:
        """Give the active tasks in order, with this configuration's changes applied.

        Raises:
            ConfigError: an active task is declared nowhere, or a declaration is incomplete.
        """
        resolved: dict[str, TaskSpec] = {}
        for name in self.active:
            changes = self.specs.get(name, {})
            base = BUILTIN_TASKS.get(name)
            if base is None and not changes:
                known = {*BUILTIN_TASKS, *self.specs}
                raise ConfigError(f"tasks.active: no task is named {name!r}; {nearest(name, known)}")
            values = {**(base.model_dump() if base else {}), **changes}
            resolved[name] = validate(TaskSpec, values, f"tasks.specs.{name}")
        if not resolved:
            raise ConfigError("tasks.active is empty; name at least one of " + ", ".join(BUILTIN_TASKS))
        return resolved
