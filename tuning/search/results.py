"""What a search leaves: every trial as CSV, what each field is worth, the winning configuration, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from mmpsr.files import write_whole
from training.config import RunConfig
from tuning.search import trials
from tuning.search.config import toml_text
from tuning.search.objective import Search, configured
from tuning.search.space import apply, dimensions

__all__ = ["best_trial", "importances", "search_table", "trial_table", "value_table", "winner", "write_results"]


def best_trial(study: optuna.Study) -> FrozenTrial:
    """The complete trial with the highest figure, of equal ones the earliest."""
    return max(_complete(study), key=lambda trial: (trial.value, -trial.number))


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in trials.counted(study.get_trials(deepcopy=False)) if trial.state == TrialState.COMPLETE]


def winner(search: Search, study: optuna.Study) -> RunConfig:
    """The best trial's whole configuration, with the first of its seeds."""
    found = dimensions(search.config, search.base, search.source)
    config = configured(search.base, found, best_trial(study).params, search.source)
    changes = {"training.seed": search.config.seeds[0], "output.name": f"{search.name}-best"}
    return apply(config, changes, search.source)


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of the figures' variation that each entry of the space accounts for, the highest first.

    Empty where fewer than four trials are complete, or all have one figure.

    References:
        Hutter et al. An efficient approach for assessing hyperparameter importance. ICML 2014.
    """
    complete = _complete(study)
    if len(complete) < 4 or np.ptp([trial.value for trial in complete]) == 0:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def trial_table(study: optuna.Study) -> pd.DataFrame:
    """One row per trial that counts: number, state, dev figure, its deviation over seeds, and the values."""
    rows = []
    for trial in trials.counted(study.get_trials(deepcopy=False)):
        figures = trial.user_attrs.get("figures", [])
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "dev_figure": trial.value if trial.state == TrialState.COMPLETE else None,
                "deviation": float(np.std(figures, ddof=1)) if len(figures) > 1 else None,
                "num_epochs": trial.last_step,
                "seconds": trial.duration.total_seconds() if trial.duration else None,
                **trial.params,
                "reason": trial.user_attrs.get("reason", ""),
            }
        )
    return pd.DataFrame(rows)


def value_table(study: optuna.Study) -> pd.DataFrame:
    """One row per field and value tried: complete trials that had it, their mean figure, and their best."""
    complete = _complete(study)
    rows = []
    for name in dict.fromkeys(name for trial in complete for name in trial.params):
        figures: dict[object, list[float]] = {}
        for trial in complete:
            if name in trial.params:
                figures.setdefault(trial.params[name], []).append(float(trial.value or 0.0))
        for value, found in figures.items():
            rows.append((name, value, len(found), float(np.mean(found)), max(found)))
    return pd.DataFrame(rows, columns=["field", "value", "num_trials", "mean", "best"], dtype=object)


def write_results(search: Search, study: optuna.Study) -> Path:
    """Write `trials.csv`, `values.csv`, `importances.csv` and `best.toml`; returns the last one's path."""
    shares = importances(study)
    _write_csv(trial_table(study), search.folder / "trials.csv")
    _write_csv(value_table(study), search.folder / "values.csv")
    _write_csv(pd.DataFrame(shares.items(), columns=["field", "importance"]), search.folder / "importances.csv")
    best, path = best_trial(study), search.folder / "best.toml"
    head = f"# Best of {len(trials.counted(study.get_trials()))} trials of {search.name}: dev figure {best.value:.4f}"
    write_whole(path, head + f" (mean over training.seed {_joined(search.config.seeds)})\n\n" + _text(search, study))
    return path


def _text(search: Search, study: optuna.Study) -> str:
    return toml_text(winner(search, study).model_dump(mode="json"))


def _joined(seeds: Sequence[int]) -> str:
    return ", ".join(str(seed) for seed in seeds)


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    write_whole(path, table.to_csv(index=False))


def search_table(study: optuna.Study, most: int = 10) -> Table:
    """The best trials, and above each field the share of the variation that it accounts for."""
    complete = sorted(_complete(study), key=lambda trial: (-float(trial.value or 0.0), trial.number))
    finished, shares = trials.counted(study.get_trials(deepcopy=False)), importances(study)
    num_pruned = sum(trial.state == TrialState.PRUNED for trial in finished)
    num_failed = sum(trial.state == TrialState.FAIL for trial in finished)
    title = f"Best of {len(finished)} trials ({num_pruned} pruned, {num_failed} failed); dev figure, higher is better"
    table = Table(title=title, title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("dev", justify="right")
    names = list(dict.fromkeys([*shares, *(name for trial in complete for name in trial.params)]))
    for name in names:
        table.add_column(name + (f"\n{shares[name]:.0%} of variation" if name in shares else ""), overflow="fold")
    for trial in complete[:most]:
        figures = trial.user_attrs["figures"]
        spread = f" ± {np.std(figures, ddof=1):.2f}" if len(figures) > 1 else ""
        values = [_shown(trial.params[name]) if name in trial.params else "-" for name in names]
        table.add_row(str(trial.number), f"{trial.value:.2f}{spread}", *values)
    return table


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
