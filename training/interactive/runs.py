"""Training and evaluation as functions, for a notebook or a script.

```python
from mmpsr import evaluate, train

run = train("mine.toml", {"training.num_epochs": 20})
run                                                    # a table of figures
evaluate(run, split="dev")
run.predictor().predict("talk.mp4")
```
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from mmpsr.config import resolve, toml_of
from training.config import InTimeConfig, RunConfig, is_in_time
from training.estimator.estimator import own_randomness
from training.evaluation import evaluate as evaluation
from training.in_time.figures import results_of
from training.in_time.pipeline import run_in_time
from training.in_time.recordings import InTimePredictor
from training.pipeline import run_training
from training.predict.predictor import Predictor
from training.published_config import load_any_config
from training.runs.accelerator import create_accelerator
from training.runs.directory import MissingRunError, RunError, is_run_in_time, read_json
from training.runs.newest import newest_run
from training.scoring.shown import ShownAsTable
from training.scoring.tables import metric_name

__all__ = ["Evaluation", "TrainedRun", "evaluate", "train"]

Settings = Mapping[str, object] | Sequence[str]


@dataclass(frozen=True, repr=False)
class TrainedRun(ShownAsTable):
    """A finished run; shows its figures, the linear baseline's and chance, in percent.

    Attributes:
        path: its folder, which all commands take.
        results: rows of its `results.json`.
        notes: settings that were not read, a sentence each.
    """

    path: Path
    results: Sequence[Mapping[str, Any]]
    notes: tuple[str, ...] = field(default=())

    def to_frame(self) -> pd.DataFrame:
        """Make a row of each figure, unrounded."""
        return pd.DataFrame(list(self.results))

    def to_table(self) -> pd.DataFrame:
        """Make the table that is shown."""
        return _shown(self.to_frame(), ("model", "linear", "chance"))

    def predictor(self, num_processes: int = 0) -> Predictor | InTimePredictor:
        """Open its model for recordings, see `Predictor`, and `InTimePredictor` for a model in time."""
        if is_run_in_time(self.path):
            return InTimePredictor.from_run(self.path)
        return Predictor.from_run(self.path, num_processes)

    def __fspath__(self) -> str:
        return str(self.path)

    def _heading(self) -> str:
        return f"{self.path}: percent, higher is better"


@dataclass(frozen=True, repr=False)
class Evaluation(ShownAsTable):
    """Figures with intervals; shows the main ones.

    Attributes:
        path: the run's folder.
        figures: rows of figures.
        document: all that `mmpsr evaluate --json` gives; empty for a model in time.
    """

    path: Path
    figures: Sequence[Mapping[str, Any]]
    document: Mapping[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """Make a row of each figure, unrounded, with the ends `low` and `high` of its 95 % interval."""
        return pd.DataFrame(list(self.figures))

    def to_table(self) -> pd.DataFrame:
        """Make the table that is shown."""
        frame = self.to_frame()
        if not frame.empty:
            ends = zip(frame["low"], frame["high"], strict=True)
            frame["95 %"] = [f"[{low:.1f}, {high:.1f}]" if pd.notna(low) else "" for low, high in ends]
        return _shown(frame, ("model", "95 %", "linear", "chance"))

    def _heading(self) -> str:
        return f"{self.path}: percent, higher is better"


def train(
    config: str | Path | Mapping[str, Any], settings: Settings = (), *, resume: bool = False, verbose: bool = True
) -> TrainedRun:
    """Train and evaluate, as `mmpsr train` does.

    Args:
        config: TOML file, the name of a configuration that ships, or sections as nested tables.
        settings: over it, by path (`{"training.lr": 3e-4}`), or as on the command line (`["training.lr=3e-4"]`).
        resume: continue the newest run of this configuration; one that is finished is given back.
        verbose: print how it goes.

    Raises:
        MissingConfigError: there is no such file (also a FileNotFoundError).
        ConfigError: a setting is not known, or not allowed.
        CorpusError: a corpus cannot be read, or holds nothing to learn from.
        ExtractionError: an encoder cannot be loaded.
    """
    resolved: RunConfig | InTimeConfig
    lines, notes = _lines(settings), list[str]()
    if isinstance(config, Mapping):
        tree: dict[str, Any] = copy.deepcopy(dict(config))
        model: type[RunConfig | InTimeConfig] = InTimeConfig if is_in_time(tree, lines) else RunConfig
        resolved, name = resolve(model, tree, lines, "config"), "python"
    else:
        resolved, notes = load_any_config(Path(config), lines)
        name = Path(config).stem
    name = resolved.output.name or name
    console = Console() if verbose else Console(file=io.StringIO())
    with own_randomness():
        accelerator = create_accelerator(resolved, True)
        for note in notes:
            console.print(note, highlight=False, markup=False)
        if isinstance(resolved, InTimeConfig):
            path = run_in_time(resolved, name, resume, accelerator, console)
        else:
            path = run_training(resolved, name, resume, accelerator, console)
    return TrainedRun(path, read_json(path, "results.json"), tuple(notes))


def evaluate(
    run: str | Path | TrainedRun,
    config: str | Path | None = None,
    settings: Settings = (),
    *,
    split: str | None = None,
    by: str | None = None,
    corpora: Iterable[str] = (),
    subsets: bool = False,
    adapt: bool = False,
    allow_trained: bool = False,
) -> Evaluation:
    """Evaluate a finished run, on its own corpora or on others, as `mmpsr evaluate` does.

    Args:
        run: its folder, the folder of runs whose newest finished one is meant, or what `train` gave.
        config: TOML file of other corpora, which the model has never seen.
        settings: over that file, see `train`.
        split: `train`, `dev` or `test`; test where left out, and dev of corpora without it.
        by: column of the clip table by whose values figures are told apart, in `document["by"]`.
        corpora: only these.
        subsets: also with every subset of the modalities, in `document["subsets"]`.
        adapt: also fitted to corpora that were not trained on, without their labels, in `document["adapted"]`.
        allow_trained: evaluate clips that the model was trained on all the same.

    Raises:
        MissingRunError: there is no such folder (also a FileNotFoundError).
        RunError: it is no finished run, or clips were trained on.
        ConfigError: the configuration cannot be used.
    """
    path = newest_run(run.path if isinstance(run, TrainedRun) else run)
    if not path.exists():
        raise MissingRunError(f"there is no run {path}; name the folder of a finished run, or of runs")
    if is_run_in_time(path):
        if config is not None or settings or by is not None or corpora or subsets or adapt or allow_trained:
            raise RunError(
                f"{path} is a run of a model in time; its own dev and test figures are all that is evaluated"
            )
        rows = [row for row in results_of(path) if row["split"] == (split or "test")]
        return Evaluation(path, rows)
    options = evaluation.EvaluationOptions(
        split=split, by=by, config=None if config is None else Path(config), settings=tuple(_lines(settings)),
        corpora=tuple(corpora), subsets=subsets, adapt=adapt, allow_trained=allow_trained,
    )  # fmt: skip
    document = evaluation.evaluate(path, options)
    rows = [
        {
            "corpus": row.corpus, "split": row.split, "task": row.task, "metric": row.metric,
            "num_clips": row.num_clips, "num_groups": row.num_groups, "model": row.model.value, "low": row.model.low,
            "high": row.model.high, "linear": None if row.linear is None else row.linear.value, "chance": row.chance,
        }
        for row in document["figures"]
    ]  # fmt: skip
    return Evaluation(path, rows, document)


def _lines(settings: Settings) -> list[str]:
    """Write settings as the command line does."""
    if isinstance(settings, Mapping):
        return [f"{place}={toml_of(value)}" for place, value in settings.items()]
    return [settings] if isinstance(settings, str) else list(settings)


def _shown(frame: pd.DataFrame, figures: Sequence[str]) -> pd.DataFrame:
    """Keep what is read at a glance, in percent with one decimal."""
    shown = pd.DataFrame({name: frame[name] for name in ("corpus", "split", "task", "level") if name in frame})
    if "metric" in frame:
        shown["metric"] = frame["metric"].map(metric_name)
    for name in ("num_clips", *figures):
        if name in frame:
            cells = frame[name]
            is_text = name == "num_clips" or cells.map(lambda cell: isinstance(cell, str)).any()
            shown[name.removeprefix("num_")] = cells if is_text else cells.map(_percent)
    return shown


def _percent(value: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:.1f}"
