"""Arguments of the estimator: tables and arrays made into joined corpora, and parameters into a run's configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from corpora.clips import ClipTable, CorpusError, Split, conform, label_columns
from corpora.registry import CorporaConfig
from corpora.splitting import split_by_group
from encoders.config import in_order, wrong_modality
from mmpsr.config import ConfigError, nearest, read_toml, shipped_configs, validate
from mmpsr.tasks import BUILTIN_TASKS, TasksConfig, TaskSpec
from training.config import RunConfig
from training.data.joined import JoinedCorpora

__all__ = [
    "OWN_SECTIONS",
    "RECOMMENDED",
    "Features",
    "Labels",
    "Vectors",
    "clip_table",
    "corpora_configuration",
    "index_of",
    "join_clips",
    "kind_of",
    "modalities_of",
    "require_mappings",
    "run_configuration",
    "vectors_of",
]

Vectors = Any
"""`[N, D]` of a modality: an array, or a DataFrame whose rows are clips."""
Features = Mapping[str, Vectors]
"""Vectors by modality; rows of NaN are clips without it."""
Labels = Mapping[str, str | Mapping[str, str]]
"""By task: the column with the class of each clip, or a column by class."""
OWN_SECTIONS = ("corpora", "features", "output")  # that follow from what `fit` is given
RECOMMENDED: dict[str, dict[str, Any]] = {
    name: section for name, section in read_toml(shipped_configs()["default"]).items() if name not in OWN_SECTIONS
}
"""The settings of `configs/default.toml`, but for class texts: what made the vectors is not here to embed them."""
RECOMMENDED["tasks"]["specs"] = {
    task: {key: value for key, value in spec.items() if key != "texts"}
    for task, spec in RECOMMENDED["tasks"]["specs"].items()
}


def require_mappings(method: str, tables: object, features: object) -> None:
    """See that tables and features are given by corpus, not as X and y.

    Raises:
        TypeError: they are not; one sentence says what `method` takes, and who takes X and y.
    """
    if not (isinstance(tables, Mapping) and isinstance(features, Mapping)):
        raise TypeError(
            f"MultiTaskEstimator.{method} takes tables, {{corpus: DataFrame with a row per clip}}, and features, "
            f"{{corpus: {{modality: array [n, D]}}}}, and found {kind_of(tables)} and {kind_of(features)}; "
            "FusionClassifier and FusionRegressor of training.estimator take X and y"
        )


def kind_of(given: object) -> str:
    """Name a type, and a shape where there is one.

    Example:
        >>> kind_of(np.zeros((3, 2))), kind_of(None)
        ('ndarray [3, 2]', 'None')
    """
    if given is None:
        return "None"
    shape = getattr(given, "shape", None)
    return type(given).__name__ + (f" {list(shape)}" if isinstance(shape, tuple) else "")


def modalities_of(features: Mapping[str, Features]) -> tuple[str, ...]:
    """List the modalities and views that any corpus has vectors of, in the order of `in_order`.

    Raises:
        ValueError: a name is not one, or there is none at all.
    """
    given = {name for vectors in features.values() for name in vectors}
    for wrong in filter(None, map(wrong_modality, sorted(given))):
        raise ValueError(f"features: {wrong}")
    if not given:
        raise ValueError("features are empty; give vectors of at least one modality")
    return in_order(dict.fromkeys(name for vectors in features.values() for name in vectors))


def clip_table(
    name: str,
    table: pd.DataFrame,
    tasks: Mapping[str, TaskSpec],
    labels: Labels,
    fractions: Mapping[Split, float],
) -> pd.DataFrame:
    """Make one corpus' rows of the clip table; without a column `split`, groups are dealt out by a hash.

    Args:
        name: the corpus.
        table: column `clip_id`, perhaps `split` and `group`, and labels.
        tasks: active tasks.
        labels: which columns hold the labels of a task, where they are not named `<task>.<class>`.
        fractions: share of the groups in each split, where the table has no splits.

    Raises:
        CorpusError: a column is missing, or a cell is not what it must be.
    """
    if "clip_id" not in table:
        raise CorpusError(f"tables[{name!r}] has no column 'clip_id'; {nearest('clip_id', map(str, table.columns))}")
    clips = pd.DataFrame({"clip_id": table["clip_id"].astype("string").to_numpy()})
    clips.insert(0, "corpus", name)
    group = table["group"] if "group" in table else table["clip_id"]
    clips["group"] = group.astype("string").fillna(table["clip_id"].astype("string")).to_numpy()
    if "split" in table:
        clips["split"] = table["split"].astype("string").to_numpy()
    else:
        clips["split"] = split_by_group(name, clips["group"], fractions)
    for task, spec in tasks.items():
        for column in map(str, table.columns):
            if column.startswith(f"{task}.") and column not in label_columns(task, spec):
                known = nearest(column, label_columns(task, spec))
                raise CorpusError(f"tables[{name!r}]: {column!r} is no label of {task}; {known}")
        clips[label_columns(task, spec)] = _labels(name, table, task, spec, labels.get(task))
    return clips


def _labels(
    name: str, table: pd.DataFrame, task: str, spec: TaskSpec, source: str | Mapping[str, str] | None
) -> NDArray[np.float64]:
    """Read labels `[N, C]`, NaN where unknown."""
    if isinstance(source, str):
        return _one_hot(name, table, task, spec, source)
    columns = dict(zip(spec.classes, label_columns(task, spec), strict=True)) if source is None else dict(source)
    for unknown in columns.keys() - set(spec.classes):
        raise CorpusError(f"labels[{task!r}]: no class is named {unknown!r}; {nearest(unknown, spec.classes)}")
    values = np.full((len(table), spec.num_outputs), np.nan)
    for index, label in enumerate(spec.classes):
        column = columns.get(label)
        if column in table:
            try:
                values[:, index] = pd.to_numeric(table[column]).to_numpy(np.float64, na_value=np.nan)
            except (ValueError, TypeError) as error:
                raise CorpusError(f"tables[{name!r}], column {column!r}: expected numbers ({error})") from None
    return values


def _one_hot(name: str, table: pd.DataFrame, task: str, spec: TaskSpec, column: str) -> NDArray[np.float64]:
    if spec.kind == "regression":
        raise CorpusError(f"labels[{task!r}] is one column, {column!r}; a regression takes a column by trait")
    values = np.full((len(table), spec.num_outputs), np.nan)
    if column not in table:
        return values
    for row, cell in enumerate(table[column]):
        if pd.isna(cell):
            continue
        if cell not in spec.classes:
            place = f"tables[{name!r}], row {row}, column {column!r}"
            raise CorpusError(f"{place}: {cell!r} is no class of {task}; {nearest(str(cell), spec.classes)}")
        values[row] = np.array(spec.classes) == cell
    return values


def join_clips(
    clips: Mapping[str, pd.DataFrame],
    features: Mapping[str, Features],
    tasks: Mapping[str, TaskSpec],
    modalities: Sequence[str],
    widths: Mapping[str, int] | None = None,
) -> JoinedCorpora:
    """Join clip tables and vectors of all corpora as tensors.

    Args:
        clips: rows of `clip_table` by corpus.
        features: vectors by corpus and modality, rows as in the tables; a DataFrame whose index is not 0, 1, 2 ... has
            clip ids there instead.
        tasks: active tasks.
        modalities: in the model's order; those that a corpus lacks are absent.
        widths: of vectors by modality; left out, the first corpus that has them tells.

    Raises:
        CorpusError: a clip occurs twice, a split is unknown, or a label lies outside its task's range.
        ValueError: vectors are of an unknown corpus, have another width or number of rows, or are not finite.
    """
    for name in features.keys() - clips.keys():
        raise ValueError(f"features have a corpus {name!r}, tables do not; {nearest(name, clips)}")
    known = dict(widths or {})
    table = conform(pd.concat(clips.values(), ignore_index=True))
    table = ClipTable(table).validate(tasks).clips
    presence, vectors = [], {}
    for modality in modalities:
        parts: dict[str, tuple[NDArray[np.bool_], NDArray[np.float32]]] = {}
        for corpus, rows in clips.items():
            given = features.get(corpus, {}).get(modality)
            if given is not None:
                place = f"features[{corpus!r}][{modality!r}]"
                parts[corpus] = vectors_of(given, place, rows["clip_id"].tolist(), known.get(modality))
                known[modality] = parts[corpus][1].shape[1]
        for corpus, rows in clips.items():
            shape = (len(rows), known[modality])
            parts.setdefault(corpus, (np.zeros(len(rows), dtype=bool), np.zeros(shape, dtype=np.float32)))
        presence.append(torch.from_numpy(np.concatenate([parts[corpus][0] for corpus in clips])))
        vectors[modality] = torch.from_numpy(np.concatenate([parts[corpus][1] for corpus in clips]))
    return JoinedCorpora(
        table,
        vectors,
        torch.stack(presence, dim=1),
        {
            task: torch.from_numpy(table[label_columns(task, spec)].to_numpy(dtype=np.float32, copy=True))
            for task, spec in tasks.items()
        },
    )


def vectors_of(
    given: Vectors, place: str, ids: Collection[str], width: int | None
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Check presence `[N]` and vectors `[N, D]`, zeros where absent.

    Args:
        given: array, or DataFrame with rows in the order of `ids` or with ids as its index.
        place: where it was given, for messages.
        ids: of the clips.
        width: D, or None where it is not known yet.

    Raises:
        ValueError: the shape is another, an id is unknown, or a number is infinite or missing beside others.
    """
    if isinstance(given, pd.DataFrame) and not isinstance(given.index, pd.RangeIndex):
        index = given.index.astype("string")
        wrong_ids = [*index.difference(pd.Index(list(ids), dtype="string")), *index[index.duplicated()]]
        if wrong_ids:
            raise ValueError(
                f"{place}: its index must hold ids of the table's clips, each once; found {wrong_ids[0]!r} "
                f"(of {len(wrong_ids)})"
            )
        given = given.set_axis(index).reindex(list(ids))
    values = np.asarray(given, dtype=np.float64)
    expected = f"[{len(ids)}, {'D' if width is None else width}]"
    if values.ndim != 2 or len(values) != len(ids) or values.shape[1] != (width or values.shape[1]):
        raise ValueError(f"{place}: shape {list(values.shape)}, expected {expected}, a row for each clip")
    missing = np.isnan(values)
    present = ~missing.all(axis=1)
    wrong = np.flatnonzero(present & ~np.isfinite(values).all(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"{place}: row {row} (clip {list(ids)[row]!r}) holds {int((~np.isfinite(values[row])).sum())} numbers "
            "that are not finite; fill them, or make the whole row NaN where the clip lacks the modality"
        )
    return present, np.where(present[:, None], values, 0.0).astype(np.float32)


def index_of(features: Features) -> pd.Index:
    """Name the clips: the index that all DataFrames share, else their numbers."""
    named = [(name, values.index) for name, values in features.items() if isinstance(values, pd.DataFrame)]
    for name, index in named[1:]:
        if not index.equals(named[0][1]):
            raise ValueError(f"features[{name!r}] and features[{named[0][0]!r}] have other rows; give both the same")
    return named[0][1] if named else pd.RangeIndex(len(next(iter(features.values()))))


def corpora_configuration(names: Iterable[str]) -> CorporaConfig:
    """Declare corpora that are tables in memory.

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
    """Resolve what a run on these tables is told.

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
    """List the tasks that a table has a label column of."""
    known = TasksConfig(active=tuple(dict.fromkeys([*BUILTIN_TASKS, *specs])), specs=dict(specs)).resolve()
    columns = {str(column) for table in tables.values() for column in table}
    for task in labels:
        if task not in known:
            raise ConfigError(f"labels: no task is named {task!r}; {nearest(task, known)}")
    tasks = [task for task, spec in known.items() if task in labels or columns & {*label_columns(task, spec)}]
    if not tasks:
        raise CorpusError(
            f"no table of {', '.join(tables)} has a label column such as 'emotion.Anger'; name columns so, or say in "
            "labels which they are"
        )
    return tasks
