"""A row of a study, and the configuration that it comes to."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from mmpsr.balancing.build import create_balancer
from mmpsr.config import Config, ConfigError, base_of, parse_setting, put, split_key, validate
from mmpsr.errors import UserError
from mmpsr.models.build import create_model
from mmpsr.objective.supervised import BRANCHES
from training.config import RunConfig
from training.data.selection import active_features, require_metrics

__all__ = ["InapplicableError", "RowConfig", "Settings", "resolve_row"]

Settings = dict[str, Any] | list[str]

_POSSIBLE_MODELS: set[tuple[object, ...]] = set()
"""That were created once, by configuration, modalities, tasks and sequences: most rows of a study share one."""


class InapplicableError(UserError):
    """The configuration lacks what a row is about."""


class RowConfig(Config):
    """One row of the table."""

    name: str = Field(min_length=1)
    """What the table calls it."""
    settings: Settings = Field(default_factory=dict)
    """What it changes: a table of dotted keys, or a list of section.key=value."""
    without: tuple[str, ...] = ()
    """Modalities (with their views), single views and tasks that it leaves out, and corpora that it does not train
    on."""
    only: tuple[str, ...] = ()
    """Modalities (with their views), single views, tasks and corpora: of each kind that is named here no other is used,
    or trained on."""
    swap: dict[str, dict[str, str]] = Field(default_factory=dict)
    """By modality: encoder -> the one that this row has in its place. One that the base does not have is passed over,
    so that a row fits several bases."""
    published: str | tuple[str, ...] = ()
    """Rows of the study's printed tables whose figures stand beside this one, `table:row` where it has several
    tables."""

    @property
    def published_rows(self) -> tuple[str, ...]:
        """Names of the printed rows."""
        return (self.published,) if isinstance(self.published, str) else self.published


def resolve_row(
    base: Mapping[str, Any], common: Settings, row: RowConfig, settings: Sequence[str], source: str
) -> RunConfig:
    """Make the configuration of a row.

    Args:
        base: tree that all rows start from.
        common: settings of all rows, before the row's own.
        row: the row.
        settings: `section.key=value` over all rows.
        source: names the row in errors.

    Raises:
        InapplicableError: the row takes away, or keeps alone, what is not there.
        ConfigError: a setting is wrong.
    """
    tree = copy.deepcopy(dict(base))
    for changes, is_own in ((common, False), (row.settings, True), (list(settings), False)):
        for keys, value in _pairs(changes):
            key = ".".join(keys)
            if key == "training.seed":
                raise ConfigError("training.seed is not a setting of a study; list its seeds in `seeds`")
            if is_own and keys[0] == "output":
                raise ConfigError(f"{key} cannot differ between rows; put it into the study's own settings")
            put(tree, keys, copy.deepcopy(value), key)
    config = validate(RunConfig, tree, source)
    if row.swap:
        swapped = {name: row.swap.get(name, {}).get(used, used) for name, used in config.features.encoders.items()}
        put(tree, ["features", "encoders"], swapped, source)
        config = validate(RunConfig, tree, source)
    if row.without or row.only:
        _narrow(tree, config, row, source)
        config = validate(RunConfig, tree, source)
    tasks = config.tasks.resolve()
    require_metrics(config.corpora, tasks)
    if not config.corpora.trained():
        raise ConfigError("every corpus is zero_shot, so there is none to train on")
    active = active_features(config.features, config.data.modalities)
    create_balancer([(branch, task) for branch in BRANCHES for task in tasks], config.balancing)
    described = tuple((task, spec.model_dump_json()) for task, spec in tasks.items())
    model = (config.model.model_dump_json(), tuple(config.data.modalities), described, tuple(active.sequences))
    if model not in _POSSIBLE_MODELS:
        widths = dict.fromkeys(config.data.modalities, 2)
        try:
            create_model(config.model, widths, tasks, dict.fromkeys(active.sequences, 2))
        except (ValueError, AssertionError) as error:
            raise ConfigError(f"model: {error}") from None
        _POSSIBLE_MODELS.add(model)
    return config


def _narrow(tree: dict[str, Any], config: RunConfig, row: RowConfig, source: str) -> None:
    """Take away what the row names, and of every kind of which it keeps some alone, all others."""
    has = {
        "modality": config.data.modalities,
        "task": config.tasks.active,
        "corpus": tuple(config.corpora.sources),
    }
    without, only = (_with_views(names, config.data.modalities) for names in (row.without, row.only))
    absent = [name for name in (*without, *only) if not any(name in names for names in has.values())]
    if absent:
        raise InapplicableError(f"there is no modality, task or corpus {' or '.join(absent)}")
    for kind, names in has.items():
        used = config.corpora.trained() if kind == "corpus" else names
        alone = [name for name in names if name in only]
        kept = [name for name in alone or used if name not in without]
        if not kept:
            raise InapplicableError(f"no {kind} would be left")
        if kind == "modality":
            put(tree, ["data", "modalities"], kept, source)
        elif kind == "task":
            put(tree, ["tasks", "active"], kept, source)
        else:
            for name in names:
                put(tree, ["corpora", "sources", name, "zero_shot"], name not in kept, source)


def _with_views(names: Sequence[str], modalities: Sequence[str]) -> list[str]:
    """Put what a row names, of a modality with its views, or these alone where the base has none but views."""
    named: list[str] = []
    for name in names:
        views = [other for other in modalities if other != name and base_of(other) == name]
        named += views if views and name not in modalities else [name, *views]
    return named


def _pairs(settings: Settings) -> Iterator[tuple[list[str], Any]]:
    """Yield keys and values in order; tables are opened down to values and empty tables.

    Keys of the table itself are paths; those of tables in it are names, which may have a dot.
    """
    if isinstance(settings, list):
        yield from map(parse_setting, settings)
        return
    for key, value in settings.items():
        yield from _leaves(split_key(key), value)


def _leaves(keys: list[str], value: Any) -> Iterator[tuple[list[str], Any]]:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _leaves([*keys, name], below)
    else:
        yield keys, value
