"""What a search leaves: every trial as CSV, what each field is worth, the winning configuration, and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from mmpsr.executors.base import LOCAL
from mmpsr.files import write_whole
from training.config import RunConfig
from tuning.search import trials
from tuning.search.objective import Search, configured
from tuning.search.space import apply, dimensions

__all__ = ["importances", "search_table", "toml_text", "trial_table", "value_table", "winner", "write_results"]


def best_trial(optuna_study: optuna.Study) -> FrozenTrial:
    """Find the complete trial with the highest figure, of equal ones the earliest."""
    return max(_complete(optuna_study), key=lambda trial: (trial.value, -trial.number))


def _complete(optuna_study: optuna.Study) -> list[FrozenTrial]:
    return [
        trial for trial in trials.counted(optuna_study.get_trials(deepcopy=False)) if trial.state == TrialState.COMPLETE
    ]


def winner(search: Search, optuna_study: optuna.Study) -> RunConfig:
    """Make the best trial's whole configuration, with the first of its seeds, for any machine."""
    space = dimensions(search.config, search.base, search.source)
    config = configured(search.base, space, best_trial(optuna_study).params, search.source)
    changes = {
        "training.seed": search.config.seeds[0], "output.name": f"{search.name}-best", "features.executor": LOCAL,
    }  # fmt: skip
    return apply(config, changes, search.source)


def importances(optuna_study: optuna.Study) -> dict[str, float]:
    """Share the figures' variation out to the entries of the space that account for it, the highest first.

    Empty where fewer than four trials are complete, or all have one figure.

    References:
        Hutter et al. An efficient approach for assessing hyperparameter importance. ICML 2014.
    """
    complete = _complete(optuna_study)
    if len(complete) < 4 or np.ptp([trial.value for trial in complete]) == 0:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(optuna_study, evaluator=evaluator)


def trial_table(optuna_study: optuna.Study) -> pd.DataFrame:
    """Make one row per trial that counts: number, state, dev figure, its deviation over seeds, and the values."""
    rows = []
    for trial in trials.counted(optuna_study.get_trials(deepcopy=False)):
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


def value_table(optuna_study: optuna.Study) -> pd.DataFrame:
    """Make one row per field and value tried: complete trials that had it, their mean figure, and their best."""
    complete = _complete(optuna_study)
    rows = []
    for name in dict.fromkeys(name for trial in complete for name in trial.params):
        figures: dict[object, list[float]] = {}
        for trial in complete:
            if name in trial.params:
                figures.setdefault(trial.params[name], []).append(float(trial.value or 0.0))
        for value, reached in figures.items():
            rows.append((name, value, len(reached), float(np.mean(reached)), max(reached)))
    return pd.DataFrame(rows, columns=["field", "value", "num_trials", "mean", "best"], dtype=object)


def write_results(search: Search, optuna_study: optuna.Study) -> Path:
    """Write `trials.csv`, `values.csv`, `importances.csv` and `best.toml`; returns the last one's path."""
    shares = pd.DataFrame(importances(optuna_study).items(), columns=["field", "importance"])
    tables = {"trials": trial_table(optuna_study), "values": value_table(optuna_study), "importances": shares}
    for name, table in tables.items():
        write_whole(search.folder / f"{name}.csv", table.to_csv(index=False))
    num_trials, best = len(trials.counted(optuna_study.get_trials())), best_trial(optuna_study)
    head = (
        f"# Best of {num_trials} trials of {search.name}: dev figure {best.value:.4f} "
        f"(mean over training.seed {', '.join(map(str, search.config.seeds))})"
    )
    path = search.folder / "best.toml"
    write_whole(path, f"{head}\n\n{toml_text(winner(search, optuna_study).model_dump(mode='json'))}")
    return path


def search_table(optuna_study: optuna.Study, most: int = 10) -> Table:
    """Lay out the best trials, and above each field the share of the variation that it accounts for."""
    complete = sorted(_complete(optuna_study), key=lambda trial: (-float(trial.value or 0.0), trial.number))
    finished, shares = trials.counted(optuna_study.get_trials(deepcopy=False)), importances(optuna_study)
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


def toml_text(tree: Mapping[str, Any], prefix: str = "") -> str:
    """Write plain values as a TOML document; None, which TOML has not, is left out.

    Example:
        >>> print(toml_text({"training": {"lr": 1e-4, "monitor": "mean", "seed": None}, "data": {"share": {"a b": 1}}}))
        [training]
        lr = 0.0001
        monitor = "mean"
        <BLANKLINE>
        [data.share]
        "a b" = 1
        <BLANKLINE>
    """
    plain = [
        f"{_key(key)} = {_value(value)}"
        for key, value in tree.items()
        if value is not None and not isinstance(value, Mapping)
    ]
    parts = []
    if plain or (prefix and not tree):
        parts.append("\n".join([*([f"[{prefix}]"] if prefix else []), *plain, ""]))
    for key, value in tree.items():
        if isinstance(value, Mapping):
            parts.append(toml_text(value, f"{prefix}.{_key(key)}" if prefix else _key(key)))
    return "\n".join(part for part in parts if part)


def _key(key: str) -> str:
    is_bare = key.replace("-", "").replace("_", "").isalnum() and key.isascii()
    return key if is_bare else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items() if each is not None)
        return "{ " + inner + " }" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return repr(value)
