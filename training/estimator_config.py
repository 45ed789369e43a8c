"""The configuration of a run on vectors that a program holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from corpora.clips import CorpusError, label_columns
from corpora.registry import CorporaConfig
from mmpsr.config import ConfigError, nearest, validate
from mmpsr.tasks import BUILTIN_TASKS, TasksConfig
from training.config import RunConfig
from training.estimator_inputs import Labels

__all__ = ["OWN_SECTIONS", "RECOMMENDED", "corpora_configuration", "run_configuration"]

RECOMMENDED: Mapping[str, Mapping[str, Any]] = {
    "tasks": {"specs": {"emotion": {"loss": "binary_cross_entropy"}}},
    "model": {
        "dropout": 0.5, "guide_temperature": True, "predictor_norm": "none",
        "linear_path": {"emotion": "trained", "personality": "fixed", "ambivalence": "fixed"},
    },
    "objective": {"class_weights": "balanced"},
    "balancing": {"method": "equal"},
    "semi_supervision": {"method": "none"},
    "training": {"num_epochs": 40, "patience": 10, "modality_dropout": 0.3, "weight_averaging": 0.99},
}  # fmt: skip
"""The settings of `configs/default.toml`."""
OWN_SECTIONS = ("corpora", "features", "output")  # that follow from what `fit` is given


def corpora_configuration(names: Iterable[str]) -> CorporaConfig:
    """Corpora that are tables in memory.

    Raises:
        ConfigError: a name is not made of letters, digits, dashes and underscores.
    """
    source = {"adapter": "table", "files": "in memory", "id": "clip_id", "split": "split"}
    return validate(CorporaConfig, {"sources": dict.fromkeys(names, source)}, "corpora")


def run_configuration(
    tables: Mapping[str, pd.DataFrame],
    modalities: Sequence[str],
    tasks: Sequence[str] | None,
    sections: Mapping[str, Mapping[str, Any]],
    labels: Labels,
) -> RunConfig:
    """What a run on these tables is told.

    Args:
        tables: by corpus.
        modalities: that there are vectors of.
        tasks: active tasks; None for those that the tables have labels of.
        sections: over `RECOMMENDED`.
        labels: columns of a task's labels, where they are not named `<task>.<class>`.

    Raises:
        ConfigError: a setting or a task is not known.
        CorpusError: no table has a label.
    """
    for name in OWN_SECTIONS:
        if name in sections:
            raise ConfigError(f"config.{name} follows from what fit is given; leave it out")
    tree: dict[str, Any] = {
        name: {**RECOMMENDED.get(name, {}), **sections.get(name, {})} for name in {**RECOMMENDED, **sections}
    }
    tree["tasks"]["specs"] = {**RECOMMENDED["tasks"]["specs"], **tree["tasks"]["specs"]}
    if tasks is not None:
        tree["tasks"]["active"] = list(tasks)
    elif "active" not in tree["tasks"]:
        tree["tasks"]["active"] = _labeled(tables, tree["tasks"]["specs"], labels)
    if "linear_path" not in sections.get("model", {}):
        paths = RECOMMENDED["model"]["linear_path"]
        tree["model"]["linear_path"] = {task: paths.get(task, "fixed") for task in tree["tasks"]["active"]}
    tree["corpora"] = corpora_configuration(tables).model_dump(mode="json")
    tree["features"] = {"encoders": dict.fromkeys(modalities, "vectors")}
    tree["data"] = {**tree.get("data", {}), "modalities": modalities}
    return validate(RunConfig, tree, "config")


def _labeled(tables: Mapping[str, pd.DataFrame], specs: Mapping[str, dict[str, object]], labels: Labels) -> list[str]:
    """Tasks that a table has a label column of."""
    known = TasksConfig(active=tuple(dict.fromkeys([*BUILTIN_TASKS, *specs])), specs=dict(specs)).resolve()
    columns = {str(column) for table in tables.values() for column in table}
    for task in labels:
        if task not in known:
            raise ConfigError(f"labels: no task is named {task!r}; {nearest(task, known)}")
    found = [task for task, spec in known.items() if task in labels or columns & {*label_columns(task, spec)}]
    if not found:
        raise CorpusError(
            f"no table of {', '.join(tables)} has a label column such as 'emotion.Anger'; name columns so, or say in "
            "labels which they are"
        )
    return found
