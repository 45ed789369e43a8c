"""Label columns of a table file -> the clip table's `<task>.<class>` columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from corpora.clips import CorpusError, Defects, label_columns
from corpora.reading.cells import Cells, plain_numbers
from mmpsr.config import Config, nearest
from mmpsr.tasks import TaskSpec

__all__ = ["LabelColumns", "one_hot", "read_labels"]


class LabelColumns(Config):
    """Where a task's labels stand in a table.

    Two short forms set `columns`: a list, and a mapping with none of this model's own keys.
    """

    columns: tuple[str, ...] | dict[str, str] | None = None
    """One column per class: in the task's class order, or by class name (classes left out are unknown)."""
    scale: tuple[float, float] | None = None
    """Lowest and highest value of `columns`, mapped linearly to 0 and 1."""
    column: str | None = None
    """The column that names the class, for tasks of one class per clip."""
    values: dict[str, str] | None = None
    """Class by cell of `column`; left out, cells are class names themselves."""
    separator: str | None = Field(default=None, min_length=1)
    """What separates the classes in a cell of `column` that names several, for multi-label tasks."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: object) -> object:
        is_short = isinstance(given, (list, tuple)) or (
            isinstance(given, Mapping) and not set(given) & set(cls.model_fields)
        )
        return {"columns": given} if is_short else given

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and not scale[0] < scale[1]:
            raise ValueError("the lowest value must be below the highest")
        return scale

    @model_validator(mode="after")
    def _one_form(self) -> LabelColumns:
        if (self.column is None) == (not self.columns):
            raise ValueError("give either `columns` (one per class) or `column` (that names the class)")
        if self.values is not None and self.column is None:
            raise ValueError("`values` translates cells of `column`; it has no use with `columns`")
        if self.separator is not None and self.column is None:
            raise ValueError("`separator` splits cells of `column`; it has no use with `columns`")
        if self.scale is not None and self.columns is None:
            raise ValueError("`scale` maps numbers in `columns`; it has no use with `column`")
        return self


def read_labels(
    cells: Cells,
    place: str,
    task: str,
    spec: TaskSpec,
    source: LabelColumns,
    missing: Collection[str],
    defects: Defects,
) -> pd.DataFrame:
    """Read one task's labels.

    Args:
        cells: the file.
        place: the setting that declares the labels, for messages.
        task: the task's name.
        spec: its specification.
        source: where the labels stand.
        missing: cells that mean "unknown" besides blank ones.
        defects: notes cells that are no label: not a number, out of range, no class, or several where one may be.

    Returns:
        Columns `<task>.<class>` (float64, NaN where unknown) and `raw.<column>` (the cells as found).

    Raises:
        CorpusError: a column is missing, or a class is unknown that the configuration names.
    """
    if source.column is not None:
        values = one_hot(cells, place, source.column, spec, source.values, missing, defects, source.separator)
        return _frame(cells, task, spec, values, [source.column])
    columns = _columns_by_class(place, task, spec, source)
    low, high = source.scale or (0.0, 1.0)
    values = np.full((len(cells.frame), spec.num_outputs), np.nan)
    for name, column in columns.items():
        numbers = cells.numbers(cells.column(column), f"column {column!r}", missing, defects, "bad_label")
        for row in np.flatnonzero((numbers < low) | (numbers > high)):
            advice = "correct the cell or `scale`" if source.scale else "set `scale = [lowest, highest]`"
            reason = f"label {numbers[row]:g} lies outside [{low:g}, {high:g}]; {advice}"
            defects.add("bad_label", f"{cells.where(int(row))}, column {column!r}", reason)
            numbers[row] = np.nan
        values[:, spec.classes.index(name)] = (numbers - low) / (high - low)
    if spec.kind == "multi_label" and spec.neutral is not None:
        _fill_neutral(values, spec.classes.index(spec.neutral))
    if spec.kind == "single_label":
        _require_one_class(cells, spec.classes, values, defects)
    return _frame(cells, task, spec, values, list(columns.values()))


def one_hot(
    cells: Cells,
    place: str,
    column: str,
    spec: TaskSpec,
    values: Mapping[str, str] | None,
    missing: Collection[str],
    defects: Defects,
    separator: str | None = None,
) -> NDArray[np.float64]:
    """Read targets `[n, num_outputs]` from a column that names the class, or the classes between separators.

    Rows whose cell is missing are NaN; so are rows whose cell is no class, which are noted as `bad_label`.
    """
    if spec.kind == "regression":
        raise CorpusError(f"{place}: `column` names a class, but this is a regression task; declare `columns`")
    if separator is not None and spec.kind != "multi_label":
        raise CorpusError(f"{place}: `separator` is for several classes in a cell, this task takes one class a clip")
    classes = dict(values) if values is not None else {name: name for name in spec.classes}
    for name in classes.values():
        _require_class(place, name, spec)
    advice = "; set `values` to translate cells to classes" if values is None else ""
    stripped = cells.column(column).str.strip()
    stripped = stripped.where(stripped.isin(list(classes)), plain_numbers(stripped))
    stripped = stripped.mask(cells.missing(stripped, missing))
    cases = Counter(name.casefold() for name in classes)
    folded = {name.casefold(): name for name in classes if cases[name.casefold()] == 1}
    read_as: dict[str, str] = {}
    targets = np.full((len(stripped), spec.num_outputs), np.nan)
    for cell in stripped.dropna().unique():
        named = [cell] if separator is None else [part.strip() for part in cell.split(separator) if part.strip()]
        rows = np.flatnonzero(stripped.eq(cell).fillna(False).to_numpy(dtype=bool))
        read_as |= {
            part: folded[part.casefold()] for part in named if part not in classes and part.casefold() in folded
        }
        named = [part if part in classes else read_as.get(part, part) for part in named]
        unknown = [part for part in named or [cell] if part not in classes]
        for row in rows if unknown else ():
            reason = f"unknown label {unknown[0]!r}; {nearest(unknown[0], classes)}{advice}"
            defects.add("bad_label", f"{cells.where(int(row))}, column {column!r}", reason)
        if not unknown:
            target = np.zeros(spec.num_outputs)
            target[[spec.classes.index(classes[part]) for part in named]] = 1.0
            targets[rows] = target
    if read_as:
        names = ", ".join(f"{part!r} as {name!r}" for part, name in read_as.items())
        defects.add("mended", f"{cells.file}, column {column!r}", f"labels are read in any case of letters: {names}")
    return targets


def _require_one_class(cells: Cells, classes: Sequence[str], values: NDArray[np.float64], defects: Defects) -> None:
    """Set aside rows of a single-label task without exactly one class of label 1, the others 0 or unknown."""
    known = ~np.isnan(values).all(axis=1)
    one = (np.nan_to_num(values) == 1.0).sum(axis=1) == 1
    clean = one & (np.nan_to_num(values).sum(axis=1) == 1.0)
    for row in np.flatnonzero(known & ~clean):
        labels = ", ".join(f"{name} = {value:g}" for name, value in zip(classes, values[row], strict=True))
        defects.add("bad_label", cells.where(int(row)), f"the task takes one class, found {labels}")
        values[row] = np.nan
    rows = known & clean
    values[rows] = np.nan_to_num(values[rows])


def _columns_by_class(place: str, task: str, spec: TaskSpec, source: LabelColumns) -> dict[str, str]:
    if isinstance(source.columns, dict):
        for name in source.columns:
            _require_class(place, name, spec)
        return source.columns
    columns = source.columns or ()
    if len(columns) != spec.num_outputs:
        raise CorpusError(
            f"{place}: task {task!r} has {spec.num_outputs} classes ({', '.join(spec.classes)}), found {len(columns)} "
            "columns; name columns by class to leave classes out"
        )
    return dict(zip(spec.classes, columns, strict=True))


def _require_class(place: str, name: str, spec: TaskSpec) -> None:
    if name not in spec.classes:
        raise CorpusError(f"{place}: unknown class {name!r}; {nearest(name, spec.classes)}")


def _fill_neutral(values: NDArray[np.float64], neutral: int) -> None:
    """Set neutral where it is unknown: 1 when all other classes are 0, 0 when one is present, else left unknown."""
    others = np.delete(values, neutral, axis=1)
    unknown = np.isnan(values[:, neutral])
    values[unknown & (others == 0.0).all(axis=1), neutral] = 1.0
    values[unknown & (others > 0.0).any(axis=1), neutral] = 0.0


def _frame(
    cells: Cells, task: str, spec: TaskSpec, values: NDArray[np.float64], columns: Collection[str]
) -> pd.DataFrame:
    labels = pd.DataFrame(values, columns=label_columns(task, spec))
    for column in columns:
        labels[f"raw.{column}"] = cells.column(column).astype("string")
    return labels
