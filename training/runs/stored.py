"""A finished run as it lies on disk: its predictions and configuration, from which every figure can be made again.

No model and no feature is needed. `predictions.parquet` holds, besides what `prediction_table` writes, the columns
`uncalibrated.<task>.<class>` and `linear.<task>.<class>`: what the model and the linear baseline gave before
calibration, whose values are in `calibration.json` and `baseline.json`.

Shape suffixes: N clips, C classes or traits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.clips import SPLITS, label_columns
from mmpsr.calibration.calibration import Calibration
from mmpsr.config import validate
from mmpsr.metrics.bootstrap import Statistic
from mmpsr.metrics.definitions import evaluate, labeled_rows
from mmpsr.metrics.sums import metric_statistic
from mmpsr.tasks import TaskSpec
from training.config import RunConfig
from training.runs.directory import RunError, read_json

__all__ = ["RunPredictions", "System", "TaskSplit", "add_predictions", "groups_of"]

Array = NDArray[np.float64]
System = Literal["model", "uncalibrated", "linear"]

NUM_PERMUTATIONS = 20  # that chance is the mean of


def add_predictions(
    table: pd.DataFrame,
    prefix: System | Literal["deviation"],
    predicted: Mapping[str, Array],
    tasks: Mapping[str, TaskSpec],
) -> pd.DataFrame:
    """Add columns `<prefix>.<task>.<class>` to a prediction table, float64 so that figures stay what they were.

    Args:
        table: rows of `training.scoring.scores.prediction_table`.
        prefix: whose predictions, or `deviation` for the standard deviations of the model's scores.
        predicted: per task `[N, C]`, before calibration, in the order of the rows.
        tasks: specifications.
    """
    columns = {
        f"{prefix}.{column}": predicted[task][:, index]
        for task, spec in tasks.items()
        for index, column in enumerate(label_columns(task, spec))
    }
    return pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)


def groups_of(clips: pd.DataFrame) -> NDArray:
    """Name each clip's group, `[N]`; a clip without one is its own."""
    alone = pd.Series([f"clip {name}" for name in clips["clip_id"]], index=clips.index, dtype="string")
    return clips["group"].astype("string").fillna(alone).to_numpy(str)


@dataclass(frozen=True)
class TaskSplit:
    """Labelled clips of one task on one split of one corpus, and what one system says of them.

    Attributes:
        corpus: its name.
        split: train, dev or test.
        task: its name.
        spec: how probabilities are decoded.
        metrics: what the corpus reports of the task.
        clips: rows of the prediction table, index 0..N-1.
        targets: `[N, C]`.
        predicted: probabilities or scores `[N, C]`.
        thresholds: `[C]`, or None for the default.
    """

    corpus: str
    split: str
    task: str
    spec: TaskSpec
    metrics: tuple[str, ...]
    clips: pd.DataFrame
    targets: Array
    predicted: Array
    thresholds: Array | None

    @property
    def key(self) -> dict[str, str]:
        """Corpus, split and task."""
        return {"corpus": self.corpus, "split": self.split, "task": self.task}

    @property
    def place(self) -> tuple[str, str, str]:
        """Corpus, split and task, as a key."""
        return self.corpus, self.split, self.task

    @property
    def groups(self) -> NDArray:
        """Each clip's group; a clip without one is its own."""
        return groups_of(self.clips)

    def take(self, rows: NDArray) -> TaskSplit:
        """Take some of the clips, by number or mask."""
        clips = self.clips.iloc[rows if rows.dtype != bool else np.flatnonzero(rows)].reset_index(drop=True)
        return replace(self, clips=clips, targets=self.targets[rows], predicted=self.predicted[rows])

    def figures(self) -> dict[str, float]:
        """Compute the metrics, in percent."""
        return evaluate(self.targets, self.predicted, self.spec, self.metrics, self.thresholds)

    def chance(self, metric: str) -> float:
        """Average the metric over predictions dealt out to the clips at random (fixed seed)."""
        generator = np.random.default_rng(0)
        one_group = np.zeros(len(self.predicted))
        values = []
        for _ in range(NUM_PERMUTATIONS):
            dealt = self.predicted[generator.permutation(len(self.predicted))]
            figure = metric_statistic(metric, one_group, self.targets, dealt, self.spec, self.thresholds)
            values.append(figure(np.ones((1, 1)))[0])
        return float(np.mean(values))

    def statistic(self, metric: str) -> Statistic:
        """Make a metric that is resampled by groups."""
        return metric_statistic(metric, self.groups, self.targets, self.predicted, self.spec, self.thresholds)


@dataclass(frozen=True)
class RunPredictions:
    """What a finished run wrote.

    Attributes:
        path: its folder.
        config: its configuration.
        tasks: active tasks.
        table: `predictions.parquet`.
        calibration: of the model.
        linear_calibration: of the linear baseline.
    """

    path: Path
    config: RunConfig
    tasks: dict[str, TaskSpec]
    table: pd.DataFrame
    calibration: Calibration
    linear_calibration: Calibration

    @classmethod
    def read(cls, path: Path) -> RunPredictions:
        """Read a run directory.

        Raises:
            RunError: the run is not finished, or a file of it is missing or cannot be read.
            ConfigError: the configuration is not one of this version.
        """
        config = validate(RunConfig, read_json(path, "config.json"), str(path / "config.json"))
        tasks = config.tasks.resolve()
        calibration = Calibration.from_dict(read_json(path, "calibration.json"), str(path / "calibration.json"))
        baseline = read_json(path, "baseline.json").get("calibration", {})
        linear = Calibration.from_dict(baseline, str(path / "baseline.json"))
        try:
            table = pd.read_parquet(path / "predictions.parquet")
        except (OSError, ValueError) as error:
            raise RunError(f"{path / 'predictions.parquet'} cannot be read ({error}); finish the run first") from None
        needed = ["corpus", "split", "clip_id", "group"]
        for task, spec in tasks.items():
            needed += [name for column in label_columns(task, spec) for name in (column, f"uncalibrated.{column}")]
        missing = [name for name in needed if name not in table]
        if missing:
            raise RunError(
                f"{path / 'predictions.parquet'} has no column {missing[0]!r} ({len(missing)} are missing); its "
                "figures cannot be made again: train once more with this version"
            )
        return cls(path, config, tasks, table, calibration, linear)

    @property
    def has_linear(self) -> bool:
        """Whether the linear baseline's predictions are stored."""
        return any(str(name).startswith("linear.") for name in self.table)

    def parts(self, system: System = "model") -> Iterator[TaskSplit]:
        """Go through every corpus, split and task with labelled clips, in the configuration's order.

        Predictions are those of `results.json`: calibrated, but as they were on the dev clips that calibration was
        fitted on, and always for `uncalibrated`.
        """
        for corpus in self.config.corpora.sources:
            for split in SPLITS:
                is_here = self.table["corpus"].eq(corpus) & self.table["split"].eq(split)
                clips = self.table.iloc[np.flatnonzero(is_here.to_numpy(dtype=bool, na_value=False))]
                if not len(clips):
                    continue
                for task, spec in self.tasks.items():
                    part = self._part(clips, corpus, split, task, spec, system)
                    if part is not None:
                        yield part

    def _part(
        self, clips: pd.DataFrame, corpus: str, split: str, task: str, spec: TaskSpec, system: System
    ) -> TaskSplit | None:
        """Take the clips that are labelled for a task; None where none is."""
        columns = label_columns(task, spec)
        targets = _floats(clips, columns)
        labeled = np.flatnonzero(labeled_rows(targets, spec))
        if not len(labeled):
            return None
        is_fitted = split == "dev" and corpus in self.config.corpora.trained()
        calibration = self.linear_calibration if system == "linear" else self.calibration
        if is_fitted or system == "uncalibrated":
            calibration = Calibration()
        if system == "linear" and spec.kind == "multi_label":  # one logistic regression per class
            spec = spec.model_copy(update={"loss": "binary_cross_entropy"})
        prefix = "linear" if system == "linear" else "uncalibrated"
        predicted = calibration.apply(task, _floats(clips, [f"{prefix}.{column}" for column in columns]))
        return TaskSplit(
            corpus, split, task, spec, self.config.corpora.metrics(corpus, task, spec),
            clips.iloc[labeled].reset_index(drop=True), targets[labeled], predicted[labeled],
            calibration.thresholds(task),
        )  # fmt: skip

    def results(self) -> list[dict[str, Any]]:
        """Make the rows of `results.json`; `linear` only where its predictions are stored."""
        systems: list[System] = ["model", "uncalibrated", *(["linear"] if self.has_linear else [])]  # type: ignore[list-item]
        rows = []
        for parts in zip(*(self.parts(system) for system in systems), strict=True):
            figures = [part.figures() for part in parts]
            for metric in parts[0].metrics:
                values = {name: by_metric[metric] for name, by_metric in zip(systems, figures, strict=True)}
                row = {**parts[0].key, "metric": metric, "num_clips": len(parts[0].clips)}
                rows.append({**row, **values, "chance": parts[0].chance(metric)})
        return rows


def _floats(table: pd.DataFrame, columns: list[str]) -> Array:
    """Take columns as numbers, one by one: of small tables, pandas takes longest to choose several."""
    return np.stack([table[column].to_numpy(dtype=np.float64) for column in columns], axis=1)
