"""The table of a study: means over seeds with intervals, beside the linear baseline.

Deviations and intervals are over seeds: they say how far training is decided by chance, not how far the clips are. In a
cross-validation they are over folds, too, and say both.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from mmpsr.metrics.ranking import friedman_ranks
from mmpsr.metrics.seeds import SeedSummary, seed_summary
from mmpsr.metrics.sums import metric_limits
from training.config import RunConfig
from training.fit.cost import COST
from training.runs.directory import RunDirectory
from training.runs.origin import GENERATED, CorpusOrigin, sources_of
from training.scoring.tables import metric_name
from tuning.study.config import Cell, ColumnsConfig, Study

__all__ = ["COSTS", "LINEAR", "Beside", "Column", "Published", "StudyTable", "read_table"]

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
        return f"{self.corpus} {metric_name(self.metric)}{dev}"


@dataclass(frozen=True)
class Published:
    """Printed figures that stand beside a study's own.

    Attributes:
        title: where they were printed.
        values: by row and figure, in percent.
        notes: what a reader must know of them: other features, other data, what has no place.
    """

    title: str
    values: dict[str, dict[Column, float]]
    notes: list[str]


@dataclass(frozen=True)
class Beside:
    """A row beside the printed one.

    Attributes:
        own: means, in the order of the columns; NaN where there is none.
        printed: the same figures as printed.
        own_rank: mean rank over the figures that both have, among the rows that have a printed one.
        printed_rank: the same of the printed figures.
    """

    own: NDArray[np.float64]
    printed: NDArray[np.float64]
    own_rank: float
    printed_rank: float


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
        published: printed figures, None where the study names none.
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
    published: Published | None = None

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
        """Summarise a figure over seeds by row, the baseline last."""
        seeds = {row: list(values.get(column, {}).values()) for row, values in self.values.items()}
        alone = [self.linear[column]] if column in self.linear else []
        seeds[LINEAR] = list(self.linear_by_seed.get(column, {}).values()) or alone
        limits = metric_limits(column.metric)
        return {row: seed_summary(values, self.overlap, limits=limits) for row, values in seeds.items()}

    def best(self, column: Column) -> set[str]:
        """Find the rows with the highest mean, as printed; the baseline counts."""
        means = {row: round(summary.mean, 2) for row, summary in self.estimates(column).items() if summary.num_seeds}
        return {row for row, mean in means.items() if mean == max(means.values())}

    @property
    def means(self) -> NDArray[np.float64]:
        """Means by row and figure, without the baseline, NaN where absent."""
        cells = [
            [seed_summary(list(self.values[row].get(c, {}).values())).mean for c in self.columns] for row in self.values
        ]
        return np.array(cells, dtype=np.float64).reshape(len(self.values), len(self.columns))

    def ranks(self) -> dict[str, float]:
        """Average the rank of each row over the figures that it has, 1 for the best; see `friedman_ranks`."""
        return dict(zip(self.values, friedman_ranks(self.means).tolist(), strict=True))

    def beside(self) -> tuple[list[Column], dict[str, Beside]]:
        """Put rows beside the printed ones: the figures that any of them has in print, and each row's."""
        printed = {} if self.published is None else self.published.values
        rows = [row for row in self.values if printed.get(row)]
        columns = [column for column in self.columns if any(column in printed[row] for row in rows)]
        cells = [[printed[row].get(column, np.nan) for column in columns] for row in rows]
        printed_RK = np.array(cells, dtype=np.float64).reshape(len(rows), len(columns))
        chosen = [self.columns.index(column) for column in columns]
        own_RK = self.means[[list(self.values).index(row) for row in rows]][:, chosen]
        both_RK = np.isfinite(own_RK) & np.isfinite(printed_RK)
        ranks = (friedman_ranks(np.where(both_RK, values, np.nan)) for values in (own_RK, printed_RK))
        of_rows = zip(rows, own_RK, printed_RK, *(each.tolist() for each in ranks), strict=True)
        return columns, {row: Beside(*parts) for row, *parts in of_rows}

    def compared_with(self, row: str | None) -> list[str]:
        """List what rows are compared with, seed by seed: a row if one is named, and the baseline of folds."""
        return [*([] if row is None else [row]), *([LINEAR] if self.linear_by_seed else [])]

    def differences(self, other: str) -> dict[str, list[SeedSummary]]:
        """Compare every other row with one in each figure; see `difference`."""
        return {
            row: [self.difference(row, other, column) for column in self.columns] for row in self.values if row != other
        }

    def difference(self, row: str, other: str, column: Column) -> SeedSummary:
        """Summarise a row minus another, or minus the baseline of folds, over the seeds that both have."""
        ours = self.values[row].get(column, {})
        theirs = (self.linear_by_seed if other == LINEAR else self.values[other]).get(column, {})
        differences = [value - theirs[seed] for seed, value in ours.items() if seed in theirs]
        return seed_summary(differences, self.overlap, limits=metric_limits(column.metric, is_difference=True))

    def to_json(self) -> str:
        """Write the content of `table.json`: all attributes; what is by figure is a list in the order of `columns`."""
        tree = {
            **vars(self),
            "columns": [asdict(column) for column in self.columns],
            "values": {row: [figures.get(column) for column in self.columns] for row, figures in self.values.items()},
            "linear": [self.linear.get(column) for column in self.columns],
            "linear_by_seed": [self.linear_by_seed.get(column) for column in self.columns],
            "published": None if self.published is None else self._published_tree(self.published),
        }
        return json.dumps(tree, indent=2) + "\n"

    def _published_tree(self, published: Published) -> dict[str, Any]:
        """Lay out the printed figures in the order of `columns`, and what is computed of them."""
        columns, rows = self.beside()
        differences = {
            row: dict(zip(columns, (each.own - each.printed).tolist(), strict=True)) for row, each in rows.items()
        }
        return {
            **vars(published),
            "values": {row: [of.get(column) for column in self.columns] for row, of in published.values.items()},
            "differences": {
                row: [of[column] if column in of and np.isfinite(of[column]) else None for column in self.columns]
                for row, of in differences.items()
            },
            "ranks": {
                row: [rank if np.isfinite(rank) else None for rank in (each.own_rank, each.printed_rank)]
                for row, each in rows.items()
            },
        }

    @classmethod
    def from_json(cls, text: str) -> StudyTable:
        """Read the content of `table.json`.

        Raises:
            ValueError: it is no JSON, or a value is not of its kind.
            KeyError: an attribute is missing.
        """
        tree = json.loads(text)
        columns = [Column(**column) for column in tree["columns"]]

        def by_column(figures: list[Any]) -> dict[Column, Any]:
            return {column: figure for column, figure in zip(columns, figures, strict=True) if figure is not None}

        values = {row: by_column(figures) for row, figures in tree["values"].items()}
        parts: dict[str, Any] = {name: by_column(tree[name]) for name in ("linear", "linear_by_seed")}
        if tree.get("published") is not None:
            printed = tree["published"]
            beside = {row: by_column(figures) for row, figures in printed["values"].items()}
            parts["published"] = Published(printed["title"], beside, printed["notes"])  # the rest follows from these
        return TypeAdapter(cls).validate_python({**tree, "columns": columns, "values": values, **parts})


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
        if not cell.is_done:
            missing.setdefault(cell.row, {})[cell.seed] = failed.get((cell.row, cell.seed), "not computed yet")
            continue
        run = RunDirectory(cell.path)
        for result in _wanted(run.read_json("results.json"), study.config.columns):
            column = Column(result["corpus"], result["split"], result["task"], result["metric"])
            values[cell.row].setdefault(column, {})[cell.seed] = result["model"]
            linear.setdefault(cell.row, {}).setdefault(column, {})[cell.seed] = result["linear"]
        if study.config.columns.cost:
            for name, value in _cost(run).items():
                costs.setdefault(cell.row, {}).setdefault(name, []).append(value)
        hashes = run.read_json("inputs.json")
        first = inputs.setdefault(cell.data_key, hashes)
        differing = [name for name, digest in first.items() if hashes[name] != digest]
        if differing:
            warnings.append(
                f"row {cell.row!r}, seed {cell.seed}, was computed from other {', '.join(differing)} than the rows "
                "above it, which share its configuration of corpora and features; remove its folder to compute it again"
            )
    compare_to = study.config.compare_to
    reference = compare_to if compare_to in linear else next(iter(linear), None)
    columns = dict.fromkeys(column for row in study.rows for column in values[row])
    order = {name: i for i, name in enumerate(dict.fromkeys(n for c in study.cells for n in c.config.corpora.sources))}
    by_seed = linear.get(reference or "", {})
    baseline = {column: seed_summary(list(figures.values())).mean for column, figures in by_seed.items()}
    return StudyTable(
        sorted(columns, key=lambda column: order[column.corpus]), values, baseline, reference, missing,
        len(study.config.seeds), study.inapplicable, costs, warnings, study.config.folds,
        by_seed if study.config.folds else {}, _published(study, list(columns)),
    )  # fmt: skip


def _published(study: Study, columns: Sequence[Column]) -> Published | None:
    """Put printed figures beside the study's rows and figures, and say what sets them apart."""
    tables = study.published
    if tables is None:
        return None
    places: dict[tuple[str, str], Column] = {}
    for column in columns:
        own_title = f"{column.corpus} {metric_name(column.metric)}".lower()
        address = f"{column.corpus}/{column.task}/{column.metric}"
        for head in tables.heads:
            named = study.config.published_columns.get(head)
            if address == named or (named is None and own_title == head.lower()):
                places[head, column.split] = column
    values: dict[str, dict[Column, float]] = {}
    homeless: dict[str, None] = {}
    features: Counter[str] = Counter()
    data: dict[str, dict[str, None]] = {}
    cells = {cell.row: cell for cell in reversed(study.cells)}
    for row in study.config.rows:
        if row.name not in cells:
            continue
        cell = cells[row.name]
        generated = {origin.name for origin in _origins(cell) if origin.generated}
        found: dict[Column, float] = {}
        for printed in tables.joined(row.published_rows):
            for head, value in printed.figures.items():
                if (head, printed.split) in places:
                    found[places[head, printed.split]] = value
                    other = _other_data(cell, generated, places[head, printed.split].corpus, head)
                    if other:
                        data.setdefault(other, {})[head.partition(" ")[0]] = None
                else:
                    homeless[head if printed.split == "test" else f"{head} ({printed.split})"] = None
            features.update(_other_features(cell.config, printed.encoders))
        if found:
            values[row.name] = found
    notes = []
    if values and (features or data):
        differing = [f"{what} ({number} of {len(values)} rows)" for what, number in features.items()]
        notes.append(
            "The printed figures are of other features or data, so that a difference says nothing of the method: "
            + "; ".join([*(f"{what} in place of {', '.join(printed)}" for what, printed in data.items()), *differing])
        )
    if homeless:
        notes.append(f"Printed, but no figure of this table: {', '.join(homeless)}")
    gaps = [row for row in study.config.rows if row.name in cells and row.name not in values]
    if apart := [repr(row.name) for row in gaps if row.published_rows]:
        notes.append(
            f"Nothing that was printed for {', '.join(apart)} has the title of a figure of this table; "
            "`published_columns` of the study says which is which, as corpus/task/metric"
        )
    if without := [repr(row.name) for row in gaps if not row.published_rows]:
        notes.append(f"Nothing was printed for {', '.join(without)}")
    return Published(tables.title, values, notes)


def _other_features(config: RunConfig, encoders: Mapping[str, str]) -> list[str]:
    """Say which encoders stand in place of printed ones."""
    used = {name: config.features.encoders[name] for name in config.data.modalities if name in encoders}
    return [
        f"{modality} by {encoder} in place of {encoders[modality]}"
        for modality, encoder in used.items()
        if encoder != encoders[modality]
    ]


def _origins(cell: Cell) -> tuple[CorpusOrigin, ...]:
    """Describe the corpora that a cell was computed from."""
    run = RunDirectory(cell.path)
    return sources_of(cell.config.corpora, run.read_json("data.json") if (run.path / "data.json").exists() else None)


def _other_data(cell: Cell, generated: Collection[str], corpus: str, head: str) -> str | None:
    """Name what is in place of the printed corpus, None where it is that corpus."""
    source = cell.config.corpora.sources[corpus]
    if corpus in generated:
        return GENERATED
    return None if source.adapter == head.partition(" ")[0].lower() else f"{corpus}, read as {source.adapter},"


def _cost(run: RunDirectory) -> dict[str, float]:
    """Read what was measured of a cell's cost; nothing for one computed before costs were kept."""
    costs = run.read_json(COST) if (run.path / COST).exists() else {}
    return {name: costs[name] for name in COSTS if costs.get(name) is not None}


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
