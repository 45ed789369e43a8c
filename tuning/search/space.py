"""Space of a search: the `[search]` section, its fields as dimensions over a run's configuration, and plans of trials.

A plan says which trials a search needs, given what those that are finished found.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optuna
from pydantic import Field, field_validator, model_validator

from mmpsr.config import Config, ConfigError, nearest, put, split_key, validate
from training.config import RunConfig

__all__ = [
    "Dimension", "GridPlan", "Plan", "Range", "SampledPlan", "SearchConfig", "Slot", "apply", "dimensions", "effective",
    "make_plan",
]  # fmt: skip

Label = bool | int | float | str

NOT_SEARCHED: Mapping[str, str] = {
    "output": "it changes no figure",
    "training.calibration": "it is fitted after training and changes no dev figure",
    "training.mixed_precision": "a worker has one precision; set it for the whole search",
    "training.monitor": "trials are compared by this figure; set it for the whole search",
    "training.seed": "search.seeds lists the seeds that every trial averages",
}
"""Field or section -> why no search goes over it."""


class Range(Config):
    """Numbers from `low` to `high`, both included."""

    low: int | float
    """Smallest value; whole numbers are tried where the field is one."""
    high: int | float
    """Largest value."""
    log: bool = False
    """Whether orders of magnitude are equally likely."""
    step: int | float | None = Field(default=None, gt=0)
    """Distance between values; `grid` and `greedy` need one for fields that are not whole numbers."""

    @model_validator(mode="after")
    def _consistent(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low must be less than high (found low = {self.low}, high = {self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0 (found {self.low})")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        if self.step is not None and not math.isclose(self._num_steps, round(self._num_steps), abs_tol=1e-6):
            raise ValueError(f"high must be low plus a multiple of step (found {self._num_steps:g} steps)")
        return self

    @property
    def _num_steps(self) -> float:
        return (self.high - self.low) / (self.step or 1)

    def values(self, whole: bool) -> list[Label]:
        """List all values, for a grid; none where they are not countable."""
        if self.log or (self.step is None and not whole):
            return []
        return [round(self.low + (self.step or 1) * index, 12) for index in range(round(self._num_steps) + 1)]


class SearchConfig(Config):
    """A search over a run's configuration; the rest of the file is that configuration."""

    base: str | None = None
    """Configuration that the search starts from, relative to this file; other sections of this file go over it."""
    method: Literal["tpe", "hyperband", "random", "grid", "greedy"] = "tpe"
    """`tpe` learns from finished trials, `hyperband` also ends the worse ones early, `random` draws, `grid` tries every
    combination, `greedy` one stage's combinations after the other, with the best of the earlier stages fixed."""
    num_trials: int | None = Field(default=None, ge=1)
    """Trials to finish; left out with `grid` and `greedy`, which end with their grid."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Training seeds of every trial; its figure is their mean."""
    stack: bool = True
    """Whether a worker trains trials of one shape, and seeds of a trial, together; on a CPU at most five. `tpe` and
    `hyperband` then choose so many at once, of which none has seen how the others end."""
    seed: int = Field(default=0, ge=0)
    """Seed of what `tpe`, `hyperband` and `random` try."""
    space: dict[str, Range | tuple[Any, ...]] = Field(min_length=1)
    """Field of the configuration (several, separated by commas, get one value) -> its values, or a range."""
    stages: tuple[tuple[str, ...], ...] = ()
    """Entries of the space that `greedy` searches together, stage by stage; each by itself in order where left out."""
    min_epochs: int = Field(default=1, ge=1)
    """Epochs before `hyperband` may end a trial."""
    storage: str | None = None
    """Where trials are kept: a database's URL, or the path of a journal file; SQLite in the output where left out."""
    heartbeat: int = Field(default=60, ge=1)
    """Seconds between signs of life of a trial in a database; after two without, it is tried again."""
    num_retries: int = Field(default=10, ge=0)
    """How often a trial whose worker was killed is tried again before it counts as failed."""

    @field_validator("space", mode="before")
    @classmethod
    def _flat(cls, space: Any) -> Any:
        return dict(_flatten(space)) if isinstance(space, Mapping) else space

    @field_validator("space")
    @classmethod
    def _distinct(cls, space: dict[str, Any]) -> dict[str, Any]:
        for name, values in space.items():
            if not isinstance(values, Range):
                texts = [json.dumps(value) for value in values]
                if len(texts) != len(set(texts)) or not texts:
                    raise ValueError(f"{name}: expected different values, at least one (found {list(values)})")
        return space

    @model_validator(mode="after")
    def _consistent(self) -> SearchConfig:
        counted = self.method not in ("grid", "greedy")
        if counted and self.num_trials is None:
            raise ValueError(f"num_trials is missing; method {self.method!r} needs it")
        if not counted and self.num_trials is not None:
            raise ValueError(f"num_trials: method {self.method!r} ends with its grid; take num_trials out")
        if self.stages:
            if self.method != "greedy":
                raise ValueError(f"stages: only method 'greedy' has stages (found {self.method!r})")
            named = [name for stage in self.stages for name in stage]
            for name in named:
                if name not in self.space:
                    raise ValueError(f"stages: {name!r} is not in the space; {nearest(name, self.space)}")
            if sorted(named) != sorted(self.space):
                raise ValueError("stages: every entry of the space must stand in exactly one stage")
        return self


def _flatten(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield entries of the space by dotted name; TOML nests a name that is not quoted."""
    for key, value in space.items():
        if isinstance(value, Mapping) and not {"low", "high"} & set(value):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@dataclass(frozen=True)
class Dimension:
    """One entry of the space.

    Attributes:
        name: as the user wrote it.
        fields: those of the configuration that get the value.
        distribution: what values there are, in the form that trials store.
        grid: labels of the values that `grid` and `greedy` try, in order; empty where there are too many.
        base: label of the value that the search starts from, None where trials could not hold it.
    """

    name: str
    fields: tuple[str, ...]
    distribution: optuna.distributions.BaseDistribution
    grid: tuple[Label, ...]
    base: Label | None

    def suggest(self, trial: optuna.trial.Trial) -> Label:
        """Ask for this trial's label."""
        domain = self.distribution
        if isinstance(domain, optuna.distributions.CategoricalDistribution):
            return trial.suggest_categorical(self.name, domain.choices)  # type: ignore[return-value]
        if isinstance(domain, optuna.distributions.IntDistribution):
            return trial.suggest_int(self.name, domain.low, domain.high, step=domain.step, log=domain.log)
        assert isinstance(domain, optuna.distributions.FloatDistribution)
        return trial.suggest_float(self.name, domain.low, domain.high, step=domain.step, log=domain.log)

    def draw(self, generator: np.random.Generator) -> Label:
        """Draw a label at random."""
        domain = self.distribution
        if isinstance(domain, optuna.distributions.CategoricalDistribution):
            return domain.choices[int(generator.integers(len(domain.choices)))]  # type: ignore[return-value]
        assert isinstance(domain, (optuna.distributions.IntDistribution, optuna.distributions.FloatDistribution))
        if domain.step is not None and not domain.log:
            number = int(generator.integers(round((domain.high - domain.low) / domain.step) + 1))
            return type(domain.low)(min(domain.low + number * domain.step, domain.high))
        low, high = (math.log(domain.low), math.log(domain.high)) if domain.log else (domain.low, domain.high)
        value = generator.uniform(low, high)
        value = min(max(math.exp(value) if domain.log else value, domain.low), domain.high)
        return round(value) if isinstance(domain, optuna.distributions.IntDistribution) else value

    def value(self, label: Label) -> Any:
        """Read the configuration's value behind a label; lists and tables are stored as JSON."""
        return json.loads(label[len(_JSON) :]) if isinstance(label, str) and label.startswith(_JSON) else label


_JSON = "json:"


def _label(value: Any) -> Label:
    return value if isinstance(value, (bool, int, float, str)) else _JSON + json.dumps(value)


def dimensions(search: SearchConfig, base: RunConfig, source: str) -> list[Dimension]:
    """Check every field and value over the configuration that the search starts from.

    Args:
        search: the search.
        base: the configuration that it starts from.
        source: the search's file, for messages.

    Raises:
        ConfigError: a field is not one of the configuration (the nearest is named), a value is not allowed there, or
            a grid has a range without a step.
    """
    space, taken = [], set()
    for name, values in search.space.items():
        place = f"{source}: search.space: {name}"
        fields = tuple(field.strip() for field in name.split(","))
        for field in fields:
            for section, reason in NOT_SEARCHED.items():
                if field == section or field.startswith(section + "."):
                    raise ConfigError(f"{place}: {section} cannot be searched: {reason}")
            if field in taken:
                raise ConfigError(f"{place}: {field} stands twice in the space")
            taken.add(field)
        tried = [values.low, values.high] if isinstance(values, Range) else list(values)
        read = [_read(apply(base, {field: value for field in fields}, place), fields, place) for value in tried]
        start = _base_label(base, fields)
        if isinstance(values, Range):
            space.append(_ranged(name, fields, values, read, start, search.method, place))
        else:
            labels = tuple(
                _label(float(v) if type(v) is int and type(r) is float else v) for v, r in zip(tried, read, strict=True)
            )
            space.append(_categorical(name, fields, labels, start, search.method))
    return space


def _ranged(
    name: str, fields: tuple[str, ...], values: Range, read: Sequence[Any], start: Label | None, method: str, place: str
) -> Dimension:
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in read):
        raise ConfigError(f"{place}: a range is for numbers; list the values")
    whole = all(isinstance(value, int) for value in (*read, values.low, values.high, values.step or 1))
    grid = tuple(values.values(whole))
    if method in ("grid", "greedy"):
        grid = grid if whole else tuple(float(value) for value in grid)
        if not grid:
            raise ConfigError(f"{place}: method {method!r} needs a range with a step and without log, or listed values")
        return _categorical(name, fields, grid, start, method)
    distribution: optuna.distributions.BaseDistribution
    if whole:
        step = int(values.step or 1)
        distribution = optuna.distributions.IntDistribution(int(values.low), int(values.high), values.log, step)
    else:
        low, high = float(values.low), float(values.high)
        distribution = optuna.distributions.FloatDistribution(low, high, values.log, values.step)
    return Dimension(name, fields, distribution, grid, start)


def _categorical(
    name: str, fields: tuple[str, ...], labels: tuple[Label, ...], start: Label | None, method: str
) -> Dimension:
    """Make a choice of labels, and of the starting value, which greedy's trials hold where it is not in the grid."""
    extra = (start,) if method == "greedy" and start is not None and start not in labels else ()
    return Dimension(name, fields, optuna.distributions.CategoricalDistribution((*labels, *extra)), labels, start)


def _base_label(base: RunConfig, fields: Iterable[str]) -> Label | None:
    """Find the label that all fields have at the start, None where they differ or are not set."""
    labels = set()
    for field in fields:
        value: Any = effective(base)
        for part in split_key(field):
            value = value.get(part) if isinstance(value, dict) else None
        labels.add(_label(value) if value is not None else None)
    return labels.pop() if len(labels) == 1 else None


def _read(config: RunConfig, fields: Sequence[str], place: str) -> Any:
    """Read the value that a run would read of the last field, where all are read."""
    tree: Any = None
    for field in fields:
        tree = effective(config)
        for part in split_key(field):
            if not isinstance(tree, dict) or part not in tree:
                known = tree if isinstance(tree, dict) else ()
                raise ConfigError(f"{place}: no run would read {field}: {part!r} is not there; {nearest(part, known)}")
            tree = tree[part]
    return tree


def effective(config: RunConfig) -> dict[str, Any]:
    """Dump a configuration as plain values, with the active tasks' whole declarations."""
    tree = config.model_dump(mode="json")
    tree["tasks"]["specs"] = {name: spec.model_dump(mode="json") for name, spec in config.tasks.resolve().items()}
    return tree


def apply(base: RunConfig, values: Mapping[str, Any], source: str) -> RunConfig:
    """Set dotted fields of a configuration to values.

    Raises:
        ConfigError: a field or a value is not allowed.
    """
    tree = copy.deepcopy(base.model_dump(mode="json", exclude_unset=True))
    for field, value in values.items():
        put(tree, split_key(field), value, source)
    config = validate(RunConfig, tree, source)
    try:
        config.tasks.resolve()
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return config


Slot = tuple[str, dict[str, Label] | None]
"""Name of a trial that a search needs, and its labels by dimension; None where a sampler chooses them."""


@dataclass(frozen=True)
class SampledPlan:
    """So many trials, whose values are drawn, or left to a sampler.

    Attributes:
        num_trials: how many.
        drawn: what is drawn from; empty where a sampler chooses.
        seed: of the draws; a trial's depend on it and the trial's place alone.
    """

    num_trials: int
    drawn: Sequence[Dimension] = ()
    seed: int = 0

    def needed(self, figures: Mapping[str, float | None]) -> Iterator[Slot]:
        """Yield the slots that are not finished; see `GridPlan.needed`."""
        for number in range(self.num_trials):
            if str(number) not in figures:
                generator = np.random.default_rng([self.seed, number])
                labels = {dimension.name: dimension.draw(generator) for dimension in self.drawn}
                yield str(number), labels or None


@dataclass(frozen=True)
class GridPlan:
    """Stages, each the grid of some dimensions, with all others at the best found before, or where the search starts.

    A combination that an earlier stage has tried is not tried again; of equal figures the earlier combination is best.

    Attributes:
        stages: dimensions by stage.
    """

    stages: Sequence[Sequence[Dimension]]

    def needed(self, figures: Mapping[str, float | None]) -> Iterator[Slot]:
        """Yield the slots of the first stage that is not finished; none where all are.

        Args:
            figures: by finished slot its dev figure, None for one without.
        """
        best = {each.name: each.base for stage in self.stages for each in stage if each.base is not None}
        highest = -np.inf
        for stage in self.stages:
            is_finished, start = True, dict(best)
            for labels in itertools.product(*(dimension.grid for dimension in stage)):
                slot = {**start, **{each.name: label for each, label in zip(stage, labels, strict=True)}}
                name = json.dumps(slot, sort_keys=True)
                if name not in figures:
                    is_finished = False
                    yield name, slot
                    continue
                figure = figures[name]
                if figure is not None and figure > highest:
                    best, highest = slot, figure
            if not is_finished:
                return


Plan = SampledPlan | GridPlan


def make_plan(search: SearchConfig, space: Sequence[Dimension]) -> Plan:
    """Make the plan of a search over these dimensions."""
    if search.num_trials is not None:
        return SampledPlan(search.num_trials, space if search.method == "random" else (), search.seed)
    if search.method == "grid":
        return GridPlan([space])
    by_name = {dimension.name: dimension for dimension in space}
    return GridPlan([[by_name[name] for name in stage] for stage in search.stages or [(name,) for name in by_name]])
