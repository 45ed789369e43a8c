"""The table of a study: means over seeds with intervals, beside the linear baseline.

Deviations and intervals are over seeds: they say how far training is decided by chance, not how far the clips are. In a
cross-validation they are over folds, too, and say both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpsr.metrics.ranking import friedman_ranks
from mmpsr.metrics.seeds import SeedSummary, seed_summary
from training.fit.cost import COST
from training.runs.directory import RunDirectory
from training.scoring.tables import SHORT_NAMES
from tuning.study.cells import is_done
from tuning.study.config import ColumnsConfig, Study

__all__ = ["COSTS", "LINEAR", "Column", "StudyTable", "baseline_row", "read_table"]

LINEAR = "linear baseline"

COSTS = {
    "num_parameters": "parameters",
    "seconds_per_epoch": "s per epoch",
    "seconds_per_step": "s per step",
    "peak_megabytes": "peak MB",
}
"""Titles of what `cost.json` holds of training's cost."""


@dataclass(frozen=True, order=True)
class Column:
    """One figure."""

    corpus: str
    split: str
    task: str
    metric: str

    @property
    def title(self) -> str:
        """What the table calls it, for example `mosei mMF1`; dev is marked."""
        dev = " (dev)" if self.split == "dev" else ""
        return f"{self.corpus} {SHORT_NAMES.get(self.metric, self.metric)}{dev}"


@dataclass
class StudyTable:
    """All figures of a study.

    Attributes:
        columns: figures in order.
        values: by row and figure, the value of every seed that is done, in percent.
        linear: by figure, the baseline's value on the features of the row that others are compared with, its mean over
            the folds of a cross-validation.
        linear_row: that row, None where none is done.
        missing: by row, seeds that are not done, and why.
        num_seeds: seeds of every row.
        inapplicable: rows that make no sense on the study's base, and why.
        cost: by row and name in `COSTS`, the value of every seed that is done and has one; empty where not asked for.
        warnings: what a reader must know.
        folds: of a cross-validation, None without one.
        linear_by_seed: by figure, the baseline's value of every seed; empty without folds, where it is the same.
    """

    columns: list[Column]
    values: dict[str, dict[Column, dict[int, float]]]
    linear: dict[Column, float]
    linear_row: str | None
    missing: dict[str, dict[int, str]]
    num_seeds: int
    inapplicable: Mapping[str, str] = field(default_factory=dict)
    cost: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    folds: int | None = None
    linear_by_seed: dict[Column, dict[int, float]] = field(default_factory=dict)

    @property
    def overlap(self) -> float:
        """Test clips for each training clip of a cross-validation, 0 without one; see `seed_summary`."""
        return 1 / (self.folds - 2) if self.folds else 0.0

    @property
    def note(self) -> str:
        """What the table's numbers are."""
        over = f"seeds, each of them one of {self.folds} folds of the groups" if self.folds else "seeds"
        hold = (
            "They hold the chance of training and of clips, by Nadeau and Bengio's correction for the training clips "
            "that folds share, and are not corrected for many comparisons."
            if self.folds
            else "They are over seeds, not over clips, and not corrected for many comparisons."
        )
        return (
            f"Percent, higher is better; mean ± standard deviation over {over} [95 % interval of the mean], best in "
            f"bold; rank is the mean rank over figures, n the number of seeds. {hold}"
        )

    def estimates(self, column: Column) -> dict[str, SeedSummary]:
        """By row, and the baseline last."""
        seeds = {row: list(values.get(column, {}).values()) for row, values in self.values.items()}
        alone = [self.linear[column]] if column in self.linear else []
        seeds[LINEAR] = list(self.linear_by_seed.get(column, {}).values()) or alone
        return {row: seed_summary(values, self.overlap) for row, values in seeds.items()}

    def best(self, column: Column) -> set[str]:
        """Rows with the highest mean, as printed; the baseline counts."""
        means = {row: round(each.mean, 2) for row, each in self.estimates(column).items() if each.num_seeds}
        return {row for row, mean in means.items() if mean == max(means.values())}

    @property
    def means(self) -> NDArray[np.float64]:
        """Means by row and figure, without the baseline, NaN where absent."""
        cells = [
            [seed_summary(list(self.values[row].get(c, {}).values())).mean for c in self.columns] for row in self.values
        ]
        return np.array(cells, dtype=np.float64).reshape(len(self.values), len(self.columns))

    def ranks(self) -> dict[str, float]:
        """Mean rank of each row over the figures that it has, 1 for the best; see `friedman_ranks`."""
        return dict(zip(self.values, friedman_ranks(self.means).tolist(), strict=True))

    def compared_with(self, row: str | None) -> list[str]:
        """What rows are compared with, seed by seed: a row if one is named, and the baseline of folds."""
        return [*([] if row is None else [row]), *([LINEAR] if self.linear_by_seed else [])]

    def difference(self, row: str, other: str, column: Column) -> SeedSummary:
        """Mean of a row minus another, or minus the baseline of folds, over the seeds that both have."""
        ours = self.values[row].get(column, {})
        theirs = (self.linear_by_seed if other == LINEAR else self.values[other]).get(column, {})
        return seed_summary([value - theirs[seed] for seed, value in ours.items() if seed in theirs], self.overlap)


def baseline_row(compare_to: str | None, done: Collection[str]) -> str | None:
    """The row whose linear baseline stands beside all: that which rows are compared with, or the first that is done."""
    return compare_to if compare_to in done else next(iter(done), None)


def read_table(study: Study, failed: Mapping[tuple[str, int], str]) -> StudyTable:
    """Read the results of all cells that are done.

    Args:
        study: the study.
        failed: why cells failed, by row and seed.
    """
    values: dict[str, dict[Column, dict[int, float]]] = {row: {} for row in study.rows}
    linear: dict[str, dict[Column, dict[int, float]]] = {}
    missing: dict[str, dict[int, str]] = {}
    inputs: dict[str, dict[str, str]] = {}
    costs: dict[str, dict[str, list[float]]] = {}
    warnings = []
    for cell in study.cells:
        if not is_done(cell):
            missing.setdefault(cell.row, {})[cell.seed] = failed.get((cell.row, cell.seed), "not computed yet")
            continue
        run = RunDirectory(cell.path)
        for found in _wanted(run.read_json("results.json"), study.config.columns):
            column = Column(found["corpus"], found["split"], found["task"], found["metric"])
            values[cell.row].setdefault(column, {})[cell.seed] = found["model"]
            linear.setdefault(cell.row, {}).setdefault(column, {})[cell.seed] = found["linear"]
        if study.config.columns.cost:
            for name, value in _cost(run).items():
                costs.setdefault(cell.row, {}).setdefault(name, []).append(value)
        hashes = run.read_json("inputs.json")
        differing = [name for name, each in inputs.setdefault(cell.data_key, hashes).items() if hashes[name] != each]
        if differing:
            warnings.append(
                f"row {cell.row!r}, seed {cell.seed}, was computed from other {', '.join(differing)} than the rows "
                "above it, which share its configuration of corpora and features; remove its folder to compute it again"
            )
    reference = baseline_row(study.config.compare_to, linear)
    columns = dict.fromkeys(column for row in study.rows for column in values[row])
    order = {name: i for i, name in enumerate(dict.fromkeys(n for c in study.cells for n in c.config.corpora.sources))}
    by_seed = linear.get(reference or "", {})
    baseline = {column: seed_summary(list(found.values())).mean for column, found in by_seed.items()}
    return StudyTable(
        sorted(columns, key=lambda column: order[column.corpus]), values, baseline, reference, missing,
        len(study.config.seeds), study.inapplicable, costs, warnings, study.config.folds,
        by_seed if study.config.folds else {},
    )  # fmt: skip


def _cost(run: RunDirectory) -> dict[str, float]:
    """What was measured of a cell's cost; nothing for one computed before costs were kept."""
    found = run.read_json(COST) if (run.path / COST).exists() else {}
    return {name: found[name] for name in COSTS if found.get(name) is not None}


def _wanted(results: Sequence[Mapping[str, Any]], columns: ColumnsConfig) -> list[Mapping[str, Any]]:
    tested = {row["corpus"] for row in results if row["split"] == "test"}
    return [
        row
        for row in results
        if (not columns.corpora or row["corpus"] in columns.corpora)
        and (not columns.tasks or row["task"] in columns.tasks)
        and (not columns.metrics or row["metric"] in columns.metrics)
        and (
            row["split"] in columns.splits if columns.splits else row["split"] == "test" or row["corpus"] not in tested
        )
    ]
