"""Tasks: what is predicted, how it is scored, trained and decoded, declared in one `TaskSpec` each.

A new task is a new entry here or in a configuration file (`[tasks.specs.<name>]`); no other code names a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from mmpsr.config import Config, ConfigError, nearest, validate
from mmpsr.prototypes.texts import SHIPPED, TaskTexts, read_task_texts

__all__ = [
    "AMBIVALENCE", "BUILTIN_TASKS", "EMOTION", "PERSONALITY", "TaskSpec", "TasksConfig", "task_name", "task_of_texts",
]  # fmt: skip

TaskKind = Literal["single_label", "multi_label", "regression"]
SupervisedLoss = Literal[
    "cross_entropy", "soft_cross_entropy", "binary_cross_entropy", "soft_binary_cross_entropy",
    "mae", "mse", "gaussian_nll", "laplace_nll",
]  # fmt: skip


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
    """Supervised loss; `cross_entropy` takes the argmax of the target, `soft_cross_entropy` its distribution. Classes
    that are each present or not: `binary_cross_entropy`, and `soft_binary_cross_entropy`, for which a higher intensity
    is more surely present. Numbers: `mae`, `mse`, and the negative log-likelihoods `gaussian_nll` and `laplace_nll`,
    with which the model learns a deviation of each clip's scores, too (heteroscedastic regression)."""
    metrics: tuple[str, ...]
    """Metrics reported where a corpus does not name its own (names of `mmpsr.metrics.definitions.METRICS`)."""
    neutral: str | None = None
    """The class that is present exactly when no other is (multi-label tasks)."""
    threshold: float = Field(default=0.8, ge=0.5, lt=1.0)
    """Acceptance threshold of pseudo-labels: a class probability, or a score's distance past one side."""
    texts: TaskTexts | None = None
    """What the classes mean in words: the name of texts that ship, a TOML file, or its content."""
    presence_floor: float = Field(default=0.5, ge=0.5, le=1.0)
    """Target of the faintest presence under `soft_binary_cross_entropy`: an intensity y > 0 is trained towards
    floor + (1 - floor) y; 1 makes every presence sure, as `binary_cross_entropy` does."""

    @property
    def num_outputs(self) -> int:
        """Width of the task's targets and predictions."""
        return len(self.classes)

    @field_validator("texts", mode="before")
    @classmethod
    def _read_texts(cls, texts: Any) -> Any:
        return _read(texts) if isinstance(texts, str) else texts

    @model_serializer(mode="wrap")
    def _without_no_texts(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if name != "texts" or value is not None}

    @property
    def is_binary(self) -> bool:
        """Whether every class has a probability of its own, present or absent, rather than all one distribution."""
        return self.loss in ("binary_cross_entropy", "soft_binary_cross_entropy")

    @property
    def is_heteroscedastic(self) -> bool:
        """Whether a deviation is learned beside every score."""
        return self.loss in ("gaussian_nll", "laplace_nll")

    @model_validator(mode="after")
    def _consistent(self) -> TaskSpec:
        regression_losses = ("mae", "mse", "gaussian_nll", "laplace_nll")
        if (self.kind == "regression") != (self.loss in regression_losses):
            raise ValueError(f"loss {self.loss!r} does not fit a {self.kind} task")
        if self.neutral is not None and self.neutral not in self.classes:
            raise ValueError(f"neutral class {self.neutral!r} is not among the classes {list(self.classes)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"a class is named twice in {list(self.classes)}")
        return self

    @model_validator(mode="after")
    def _texts_are_of_the_classes(self) -> TaskSpec:
        texts = self.texts
        if texts is None:
            return self
        try:
            texts.require_classes(self.classes, "texts")
        except ConfigError as error:
            raise ValueError(str(error)) from error
        for field, own, named in (("kind", self.kind, texts.kind), ("neutral", self.neutral, texts.neutral)):
            if named is not None and named != own:
                raise ValueError(f"texts.{field} is {named!r}, and the task's is {own!r}; say the same or leave it out")
        if self.kind == "regression":
            texts.require_poles()
        elif opposed := [name for name, meaning in texts.texts.items() if meaning.opposite is not None]:
            raise ValueError(f"[texts.{opposed[0]}.opposite] is of a regression, and this is a {self.kind} task")
        return self


def _read(source: str) -> TaskTexts:
    """Read texts by name or file, with a `ValueError` where there are none, which a configuration puts a place to."""
    try:
        return read_task_texts(source)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("texts: ")) from error


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


_LOSSES: Mapping[str, SupervisedLoss] = {
    "single_label": "cross_entropy", "multi_label": "binary_cross_entropy", "regression": "mae",
}  # fmt: skip
_METRICS: Mapping[str, tuple[str, ...]] = {
    "single_label": ("macro_f1", "uar"),
    "multi_label": ("multilabel_macro_f1", "multilabel_weighted_accuracy"),
    "regression": ("mean_accuracy", "mean_ccc"),
}


def task_name(source: str) -> str:
    """Name the task of texts that ship, or of a file: its stem.

    Example:
        >>> task_name("emotion"), task_name("own/boredom.toml")
        ('emotion', 'boredom')
    """
    return source if source in SHIPPED else Path(source).stem


def task_of_texts(source: str, place: str = "texts", declared: TaskSpec | None = None) -> TaskSpec:
    """Declare a task by texts alone: by the name of those that ship, or by a TOML file.

    Args:
        source: one of `mmpsr.prototypes.texts.SHIPPED`, whose task is the built-in one, or a file.
        place: what names it, for errors.
        declared: a declaration that the task has already, whose texts these shall be.

    Raises:
        ConfigError: the texts cannot be used, or are not those of the declared classes.

    Example:
        >>> task_of_texts("ambivalence").classes
        ('absent', 'present')
    """
    texts = read_task_texts(source, place)
    spec = declared or (BUILTIN_TASKS[source] if source in SHIPPED else None)
    if spec is not None:
        return validate(TaskSpec, {**spec.model_dump(), "texts": texts}, f"{place}: {source}")
    kind = texts.kind or "single_label"
    if kind != "regression" and len(texts.texts) < 2:
        raise ConfigError(
            f"{place}: {source} has the one class {next(iter(texts.texts))!r}, which nothing could be told from; add "
            'what is otherwise as a class, or say kind = "regression" and give [texts.<trait>.opposite]'
        )
    values = {
        "kind": kind, "classes": tuple(texts.texts), "loss": _LOSSES[kind], "metrics": texts.metrics or _METRICS[kind],
        "neutral": texts.neutral, "texts": texts,
    }  # fmt: skip
    return validate(TaskSpec, values, f"{place}: {source}")


class TasksConfig(Config):
    """Which tasks are trained, and how they differ from their declarations."""

    active: tuple[str, ...] = ("emotion", "personality", "ambivalence")
    """Tasks that the model predicts."""
    specs: dict[str, dict[str, object]] = Field(default_factory=dict)
    """Changes to built-in tasks, or whole declarations of new ones, by task name."""

    @field_validator("specs")
    @classmethod
    def _keep_texts_of_files(cls, specs: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
        """Put the content of files of texts in place of their names, so that what is stored says what was used."""
        kept = {}
        for name, values in specs.items():
            texts = values.get("texts")
            if isinstance(texts, str) and texts not in SHIPPED:
                values = {**values, "texts": _read(texts).model_dump(mode="json", exclude_defaults=True)}
            kept[name] = values
        return kept

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
