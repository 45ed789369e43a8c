"""Searches finish exactly the trials that were asked for, whatever is killed, and never see a test clip."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import psutil
import pytest
import torch
from accelerate import Accelerator
from optuna.trial import TrialState
from rich.console import Console

import training.data.load
import tuning.search.objective
from corpora.clips import ClipTable
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError
from mmpsr.executors.base import Engine
from tests.support import joined as small
from tests.support import searched
from tests.support.warm_workers import warm_workers
from training.config import RunConfig
from training.data.joined import JoinedCorpora
from training.fit.live import Stand, Watch
from training.fit.loop import Course, DivergedError, train
from training.published_config import load_run_config
from training.runs.directory import RunDirectory
from tuning.search import trials
from tuning.search.objective import Search
from tuning.search.results import importances, search_table, trial_table, value_table, winner, write_results
from tuning.search.workers import SearchError, give_away, run_search


def silent(message: str) -> None:
    pass


def imitate(monkeypatch: pytest.MonkeyPatch, figure: Callable[[RunConfig, int], float]) -> list[RunConfig]:
    """Replace training by a formula of the configuration and the epoch; returns the configurations trained."""
    trained: list[RunConfig] = []

    def imitated(config: RunConfig, *others: Any, watch: Watch) -> None:
        run = others[3]  # after clips, tasks and the accelerator
        trained.append(config)
        for epoch in range(1, config.training.num_epochs + 1):
            run.log({"epoch": epoch, "dev_figure": figure(config, epoch)})

    monkeypatch.setattr(tuning.search.objective, "train", imitated)
    monkeypatch.setattr(tuning.search.objective, "most_together", lambda: 1)
    return trained


SPACES: dict[str, dict[str, object]] = {
    "tpe": {"num_trials": 3, "space": {"training.lr": {"low": 1e-4, "high": 1e-1, "log": True}}},
    "hyperband": {"num_trials": 3, "space": {"training.lr": {"low": 1e-4, "high": 1e-1, "log": True}}},
    "random": {"num_trials": 3, "space": {"model.dropout": {"low": 0.0, "high": 0.5, "step": 0.1}}},
    "grid": {"space": {"model.hidden_width": [8, 16], "model.dropout": [0.0]}},
    "greedy": {"space": {"model.hidden_width": [8, 16], "model.dropout": [0.0, 0.2]}},
}
# greedy: (8, .2) and (16, .2), then the better width with 0.0 (its 0.2 is tried already)
NUMBERS = {"tpe": 3, "hyperband": 3, "random": 3, "grid": 2, "greedy": 3}


@pytest.mark.slow
@pytest.mark.parametrize("method", list(SPACES))
def test_every_method_finishes_its_trials_and_writes_its_results(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imitate(monkeypatch, lambda config, epoch: config.training.lr + config.model.dropout + config.model.hidden_width)
    search = searched.search(tmp_path, method=method, **SPACES[method])
    optuna_study = run_search(search, 1, silent)
    assert len(trials.counted(optuna_study.trials)) == NUMBERS[method]
    assert write_results(search, optuna_study) == tmp_path / "searches" / "mine" / "best.toml"
    table = pd.read_csv(search.folder / "trials.csv")
    assert len(table) == NUMBERS[method]
    assert not (search.folder / "running").exists()
    run_search(search, 1, silent)  # the same command again has nothing left to do
    assert len(optuna_study.get_trials()) == NUMBERS[method]


@pytest.mark.slow
def test_the_best_configuration_loads_and_gives_its_trials_figure(tmp_path: Path) -> None:
    search = searched.search(
        tmp_path, method="random", num_trials=3, seeds=[4], space={"training.lr": {"low": 1e-3, "high": 1e-1}}
    )
    optuna_study = run_search(search, 1, silent)
    config, notes = load_run_config(write_results(search, optuna_study))
    assert notes == []
    assert config.training.lr == optuna_study.best_trial.params["training.lr"]
    assert config.training.seed == 4
    assert config.output.name == "mine-best"
    figures: list[float] = []

    class Kept(RunDirectory):
        def log(self, record: dict[str, Any]) -> None:
            figures.append(record["dev_figure"])

    (tmp_path / "run").mkdir()
    train(config, small.joined(), small.tasks(), Accelerator(cpu=True), Kept(tmp_path / "run"), silent)  # all splits
    assert max(figures) == pytest.approx(optuna_study.best_value, abs=1e-5)  # which a stack has trained


def test_the_figure_is_the_mean_over_seeds_of_their_best_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {(1, 1): 10.0, (1, 2): 30.0, (1, 3): 20.0, (2, 1): 50.0, (2, 2): float("nan"), (2, 3): 40.0}
    trained = imitate(monkeypatch, lambda config, epoch: values[config.training.seed, epoch])
    search = searched.search(tmp_path, {"training": {"num_epochs": 3}}, num_trials=1, seeds=[1, 2])
    optuna_study = run_search(search, 1, silent)
    assert [config.training.seed for config in trained] == [1, 2]
    assert optuna_study.best_value == 40.0  # (30 + 50) / 2
    assert optuna_study.trials[0].intermediate_values == {1: 10.0, 2: 30.0, 3: 20.0}  # of the first seed
    table = trial_table(optuna_study)
    assert table.loc[0, "deviation"] == pytest.approx(200**0.5)  # (10^2 + 10^2) / (2 - 1), its root


def test_greedy_goes_through_the_fields_in_order_with_the_best_before_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figure(config: RunConfig, epoch: int) -> float:
        return (
            -abs(config.model.hidden_width - 32)
            - 10 * abs(config.model.dropout - 0.1)
            + 5 * (config.training.lr == 1e-2)
        )

    trained = imitate(monkeypatch, figure)
    space = {"model.hidden_width": [8, 32, 64], "training.lr": [1e-2, 1e-3], "model.dropout": [0.0, 0.1]}
    search = searched.search(tmp_path, {"model": {"dropout": 0.2}}, method="greedy", space=space)
    run_search(search, 1, silent)
    found = [(config.model.hidden_width, config.training.lr, config.model.dropout) for config in trained]
    assert found == [
        (8, 3e-3, 0.2), (32, 3e-3, 0.2), (64, 3e-3, 0.2),  # widths with everything else as at the start: 32 wins
        (32, 1e-2, 0.2), (32, 1e-3, 0.2),  # 1e-2 wins
        (32, 1e-2, 0.0), (32, 1e-2, 0.1),  # 0.1 wins
    ]  # fmt: skip


def test_greedys_stages_may_hold_several_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = imitate(monkeypatch, lambda config, epoch: config.model.hidden_width * config.model.dropout)
    space = {"model.hidden_width": [8, 16], "model.dropout": [0.1, 0.3], "training.lr": [1e-2, 1e-3]}
    stages = [["training.lr"], ["model.dropout", "model.hidden_width"]]
    run_search(searched.search(tmp_path, method="greedy", space=space, stages=stages), 1, silent)
    found = [(config.training.lr, config.model.dropout, config.model.hidden_width) for config in trained]
    # equal figures at first: the first learning rate stays
    assert found[:2] == [(1e-2, 0.2, 16), (1e-3, 0.2, 16)]
    assert found[2:] == [(1e-2, 0.1, 8), (1e-2, 0.1, 16), (1e-2, 0.3, 8), (1e-2, 0.3, 16)]


@pytest.mark.slow
def test_a_random_search_tries_the_same_whoever_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"training.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "model.num_heads": [1, 2, 4]}
    settings: dict[str, Any] = {"method": "random", "space": space}
    trained = imitate(monkeypatch, lambda config, epoch: config.training.lr)
    run_search(searched.search(tmp_path / "whole", **settings, num_trials=4), 1, silent)
    whole = [(config.training.lr, config.model.num_heads) for config in trained]
    assert len(set(whole)) == 4
    assert all(1e-4 <= lr <= 1e-1 for lr, _ in whole)
    trained.clear()
    run_search(searched.search(tmp_path / "two", **settings, num_trials=2), 1, silent)
    run_search(searched.search(tmp_path / "two", **settings, num_trials=4), 1, silent)  # more may be asked for later
    assert [(config.training.lr, config.model.num_heads) for config in trained] == whole


@pytest.mark.slow
def test_hyperband_ends_the_worse_trials_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = imitate(monkeypatch, lambda config, epoch: config.model.dropout * epoch)
    search = searched.search(
        tmp_path,
        {"training": {"num_epochs": 9}},
        method="hyperband",
        num_trials=12,
        seeds=[0, 1],
        space={"model.dropout": {"low": 0.0, "high": 0.9}},
    )
    optuna_study = run_search(search, 1, silent)
    pruned = [trial for trial in optuna_study.trials if trial.state == TrialState.PRUNED]
    complete = [trial for trial in optuna_study.trials if trial.state == TrialState.COMPLETE]
    assert len(pruned) + len(complete) == 12
    assert pruned
    assert max(trial.last_step or 0 for trial in pruned) < 9
    assert np.mean([trial.params["model.dropout"] for trial in pruned]) < np.mean(
        [trial.params["model.dropout"] for trial in complete]
    )
    assert sum(config.training.seed == 1 for config in trained) == len(complete)  # a pruned one trains no other seed


def test_a_configuration_that_fails_is_a_failed_trial_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figure(config: RunConfig, epoch: int) -> float:
        if config.model.hidden_width == 8:
            raise DivergedError("the dev figure was not\na number")
        if config.model.hidden_width == 32:
            raise ConfigError("these do not fit")
        return 1.0

    imitate(monkeypatch, figure)
    said: list[str] = []
    search = searched.search(tmp_path, method="grid", space={"model.hidden_width": [8, 16, 32]})
    optuna_study = run_search(search, 1, said.append)
    table = trial_table(optuna_study)
    assert table["state"].tolist() == ["fail", "complete", "fail"]
    assert table["reason"].tolist() == ["the dev figure was not a number", "", "these do not fit"]
    assert [line.split("  ")[-2].strip() for line in said] == [
        "the dev figure was not a number", "1.00", "these do not fit",
    ]  # fmt: skip
    assert optuna_study.best_trial.params == {"model.hidden_width": 16}


def test_values_that_do_not_fit_together_fail_and_the_search_goes_on(tmp_path: Path) -> None:
    search = searched.search(tmp_path, method="grid", space={"model.hidden_width": [16], "model.num_heads": [3, 4]})
    table = trial_table(run_search(search, 1, silent))
    assert table["state"].tolist() == ["fail", "complete"]
    assert table.loc[0, "reason"] == "the number of heads (3) must divide the hidden width (16)"


def test_a_search_whose_trials_all_fail_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def figure(config: RunConfig, epoch: int) -> float:
        raise DivergedError("lower training.lr")

    imitate(monkeypatch, figure)
    with pytest.raises(SearchError, match=r"none of 2 trials has a figure; one says: lower training\.lr"):
        run_search(searched.search(tmp_path, method="grid"), 1, silent)


def test_an_error_that_is_no_configurations_stops_the_search_and_the_trial_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: RunConfig, epoch: int) -> float:
        raise OSError("the disk is full")

    search = searched.search(tmp_path, method="grid")
    imitate(monkeypatch, broken)
    with pytest.raises(OSError, match="the disk is full"):
        run_search(search, 1, silent)
    imitate(monkeypatch, lambda config, epoch: 1.0)
    assert trial_table(run_search(search, 1, silent))["state"].tolist() == ["complete", "complete"]


def test_an_encoder_that_cannot_run_stops_the_search(tmp_path: Path) -> None:
    def missing(*_: object) -> JoinedCorpora:
        calls.append(1)
        raise ExtractionError("its weights cannot be had")

    calls: list[int] = []
    search = replace(searched.search(tmp_path, method="grid"), load=missing)
    with pytest.raises(ExtractionError, match="its weights cannot be had"):
        run_search(search, 1, silent)
    assert calls == [1]  # no other trial tries, and none is counted as the configuration's fault


def test_another_search_in_the_same_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imitate(monkeypatch, lambda config, epoch: 1.0)
    run_search(searched.search(tmp_path, method="grid"), 1, silent)
    other = searched.search(tmp_path, {"model": {"dropout": 0.3}}, method="random", num_trials=1)
    with pytest.raises(ConfigError, match=r"'mine' of another configuration, which differs in model, search\.method;"):
        run_search(other, 1, silent)


def test_a_search_of_before_a_setting_came_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imitate(monkeypatch, lambda config, epoch: 1.0)
    search = searched.search(tmp_path, method="grid")
    optuna_study = run_search(search, 1, silent)
    contents = optuna_study.user_attrs["contents"]
    assert "transcriber" in contents["features"]
    del contents["features"]["transcriber"]
    optuna_study.set_user_attr("contents", contents)
    assert len(run_search(search, 1, silent).trials) == len(optuna_study.trials)


# -- trials that are trained together ----------------------------------------------------------------------------------


def stacks_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each stack has that is trained from now on."""
    sizes: list[int] = []
    whole = tuning.search.objective.train_stacked

    def watched(begin: Sequence[Callable[[], Course]], *others: Any, watch: Watch) -> Iterator[tuple[int, Course]]:
        sizes.append(len(begin))
        return whole(begin, *others, watch=watch)

    monkeypatch.setattr(tuning.search.objective, "train_stacked", watched)
    return sizes


LIKE_ALONE: dict[str, Any] = {
    "method": "random",
    "num_trials": 3,
    "seeds": [0, 1],
    "space": {"training.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "model.dropout": {"low": 0.0, "high": 0.5}},
}


def test_trials_and_seeds_that_are_trained_together_have_the_figures_of_each_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = stacks_of(monkeypatch)
    stands: list[tuple[str, Stand | None]] = []
    search = searched.search(tmp_path / "together", **LIKE_ALONE)
    together = run_search(search, 1, silent, lambda *shown: stands.append(shown)).trials
    assert sizes == [4, 2]  # two trials of two seeds each, and the third
    assert list(dict(stands)) == ["trials 0, 1", "trial 2"]
    assert [name for name, stand in stands if stand is None] == ["trials 0, 1", "trial 2"]
    assert {stand.num_runs for name, stand in stands if stand is not None and name == "trials 0, 1"} == {4}
    stands.clear()
    search = searched.search(tmp_path / "alone", **LIKE_ALONE, stack=False)
    alone = run_search(search, 1, silent, lambda *shown: stands.append(shown)).trials
    assert [name for name, stand in stands if stand is None] == [f"trial {number}" for number in (0, 0, 1, 1, 2, 2)]
    assert max(stand.epoch for _, stand in stands if stand is not None) == search.base.training.num_epochs
    assert sizes == [4, 2]
    for one, other in zip(together, alone, strict=True):
        assert one.params == other.params
        assert one.value == pytest.approx(other.value, abs=1e-5)
        assert one.user_attrs["figures"] == pytest.approx(other.user_attrs["figures"], abs=1e-5)
        assert one.intermediate_values == pytest.approx(other.intermediate_values, abs=1e-5)
    assert not (tmp_path / "together" / "searches" / "mine" / "running").exists()


@pytest.mark.slow
def test_slots_of_one_shape_are_taken_together_and_what_cannot_be_is_trained_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, alone = stacks_of(monkeypatch), []

    def one(config: RunConfig, *others: Any, watch: Watch) -> None:
        alone.append((config.model.hidden_width, config.training.batch_size))
        others[3].log({"epoch": 1, "dev_figure": 1.0})

    monkeypatch.setattr(tuning.search.objective, "train", one)
    space = {"model.hidden_width": [8, 16], "training.batch_size": [16, 32], "training.lr": [1e-2, 1e-3]}
    search = searched.search(tmp_path, {"training": {"num_epochs": 1}}, method="grid", space=space)
    table = trial_table(run_search(search, 1, silent))
    assert table["state"].tolist() == ["complete"] * 8
    assert sizes == [2, 2, 2, 2]
    assert not alone
    heads = {"model.num_heads": [3], "training.lr": [1e-2, 1e-3]}  # which do not divide the width: no model begins
    table = trial_table(run_search(searched.search(tmp_path / "heads", method="grid", space=heads), 1, silent))
    assert (sizes, len(alone)) == ([2] * 5, 2)


def test_a_trial_that_ends_early_or_fails_leaves_the_others_in_their_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, figures = stacks_of(monkeypatch), {1e-2: 3.0, 1e-3: float("nan"), 1e-4: 1.0, 1e-5: 2.0}
    logged: list[tuple[float, int]] = []
    whole = tuning.search.objective.TrialDirectory.log

    def log(run: Any, record: dict[str, Any]) -> None:
        lr = run.report.__self__.config.training.lr
        logged.append((lr, record["epoch"]))
        if lr == 1e-5:
            raise ConfigError("no such figure")
        whole(run, {**record, "dev_figure": figures[lr]})

    monkeypatch.setattr(tuning.search.objective.TrialDirectory, "log", log)
    monkeypatch.setattr(optuna.pruners.HyperbandPruner, "prune", lambda self, study, trial: trial.last_step == 1 and
                        trial.params["training.lr"] == 1e-4)  # fmt: skip
    settings: dict[str, Any] = {"num_trials": 4, "seeds": [0, 1], "space": {"training.lr": list(figures)}}
    search = searched.search(tmp_path, {"training": {"num_epochs": 2}}, method="hyperband", **settings)
    optuna_study = search.open_study()
    for number, lr in enumerate(figures):
        trials.queue(optuna_study, str(number), {"training.lr": lr})
    table = trial_table(run_search(search, 1, silent)).set_index("training.lr")
    assert table["state"].to_dict() == {1e-2: "complete", 1e-3: "complete", 1e-4: "pruned", 1e-5: "fail"}
    assert table.loc[1e-5, "reason"] == "no such figure"
    assert table.loc[1e-2, "dev_figure"] == 3.0
    assert sizes == [4, 2]  # the first seeds, and the second ones of what is left
    assert sorted(logged) == [(1e-5, 1), (1e-4, 1), *[(1e-3, 1), (1e-3, 1), (1e-3, 2), (1e-3, 2)],
                              *[(1e-2, 1), (1e-2, 1), (1e-2, 2), (1e-2, 2)]]  # fmt: skip


@pytest.mark.slow
def test_a_trial_whose_worker_was_killed_is_trained_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = stacks_of(monkeypatch)
    search = searched.search(tmp_path, method="grid", space={"training.lr": [1e-2, 1e-3, 1e-4]})
    optuna_study = search.open_study()
    trials.queue(optuna_study, '{"training.lr": 0.01}', {"training.lr": 1e-2})
    trial = optuna_study.ask()
    trial.set_user_attr("worker", worker_of_a_dead_process())
    trial.suggest_categorical("training.lr", [1e-2, 1e-3, 1e-4])
    for lr in (1e-3, 1e-4):
        trials.queue(optuna_study, json.dumps({"training.lr": lr}), {"training.lr": lr})
    table = trial_table(run_search(search, 1, silent))
    assert table["state"].tolist() == ["complete"] * 3
    assert sizes == [2]


# -- test clips --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loader_that_lets_test_clips_through_is_stopped(tmp_path: Path) -> None:
    search = replace(searched.search(tmp_path, method="grid"), load=lambda *_: small.joined())
    with pytest.raises(RuntimeError, match="test clips were loaded for a search"):
        run_search(search, 1, silent)


def test_test_clips_are_left_out_before_their_features_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small.joined()
    poisoned = whole.clips["split"].eq("test").to_numpy(dtype=bool)
    for values in (*whole.features.values(), *whole.labels.values()):
        values[poisoned] = torch.inf
    defects = pd.DataFrame()
    seen: list[pd.DataFrame] = []

    def extracted(clips: pd.DataFrame, *_: object) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        seen.append(clips)
        return clips, defects, pd.DataFrame()

    def joined(clips: pd.DataFrame, *_: object) -> JoinedCorpora:
        rows = torch.from_numpy(whole.clips.index[whole.clips["clip_id"].isin(clips["clip_id"])].to_numpy().copy())
        return JoinedCorpora(
            clips,
            {name: values[rows] for name, values in whole.features.items()},
            whole.presence[rows],
            {task: values[rows] for task, values in whole.labels.items()},
        )

    monkeypatch.setattr(training.data.load, "load_clips", lambda *_: ClipTable(whole.clips, defects))
    monkeypatch.setattr(training.data.load, "missing_material", lambda *_: iter(()))  # these clips are vectors alone
    monkeypatch.setattr(training.data.load, "extract_features", extracted)
    monkeypatch.setattr(training.data.load, "join", joined)
    settings: dict[str, Any] = {"method": "grid", "space": {"model.hidden_width": [16]}}
    clean = run_search(searched.search(tmp_path / "clean", **settings), 1, silent)
    search = replace(searched.search(tmp_path / "poisoned", **settings), load=tuning.search.objective.load_joined)
    optuna_study = run_search(search, 1, silent)
    assert not seen[0]["split"].eq("test").any()
    assert set(seen[0]["corpus"]) == {"mosei", "fiv2", "bah"}  # meld is zero-shot
    assert np.isfinite(optuna_study.best_value)
    assert optuna_study.trials[0].intermediate_values.keys() == clean.trials[0].intermediate_values.keys()


def test_clips_are_loaded_once_and_again_only_for_other_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, ...]] = []

    def load(config: RunConfig, accelerator: Accelerator, console: Console) -> JoinedCorpora:
        loaded.append(config.data.modalities)
        return searched.load(config, accelerator, console)

    imitate(monkeypatch, lambda config, epoch: 1.0)
    space = {"data.modalities": [["text", "audio"], ["text"]], "training.lr": [1e-2, 1e-3]}
    search = replace(searched.search(tmp_path, method="grid", space=space), load=load)
    optuna_study = run_search(search, 1, silent)
    assert loaded == [("text", "audio"), ("text",)]
    assert optuna_study.trials[0].params["data.modalities"] == 'json:["text", "audio"]'
    config, _ = load_run_config(write_results(search, optuna_study))
    assert config.data.modalities == ("text", "audio")


def test_clips_are_loaded_anew_where_other_labels_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[int, int]] = []

    def load(config: RunConfig, accelerator: Accelerator, console: Console) -> JoinedCorpora:
        loaded.append((config.data.num_labeled.get("emotion", 0), config.training.seed))
        return searched.load(config, accelerator, console)

    imitate(monkeypatch, lambda config, epoch: 1.0)
    space = {"data.num_labeled": [{"emotion": 5}, {}], "training.lr": [1e-2, 1e-3]}
    search = replace(searched.search(tmp_path, method="grid", space=space, seeds=[0, 1]), load=load)
    run_search(search, 1, silent)
    assert loaded.count((0, 0)) == 1  # without hidden labels seeds and rates share clips
    assert sorted(set(loaded)) == [(0, 0), (5, 0), (5, 1)]


# -- killed workers ----------------------------------------------------------------------------------------------------


def kill_at_random(search: Search, num_kills: int, stop: threading.Event, killed: list[int]) -> None:
    """Kill workers of this machine in the middle of a trial, one after the other."""
    chosen = random.Random(0)
    while len(killed) < num_kills and not stop.wait(0.1 + 0.7 * chosen.random()):
        running = [trial for trial in search.open_study().get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
        found = [int(trial.user_attrs["worker"].split()[1]) for trial in running if "worker" in trial.user_attrs]
        alive = [process for process in found if process not in killed and psutil.pid_exists(process)]
        if alive:
            killed.append(chosen.choice(alive))
            os.kill(killed[-1], signal.SIGKILL)


def check_killed(search: Search, num_workers: int, num_kills: int) -> None:
    """A search whose workers are killed finishes every slot once, and says that it replaced them."""
    search.open_study()
    stop, killed, said = threading.Event(), [], []
    killer = threading.Thread(target=kill_at_random, args=(search, num_kills, stop, killed))
    killer.start()
    try:
        optuna_study = run_search(search, num_workers, said.append)
    finally:
        stop.set()
        killer.join()
    finished = trials.counted(optuna_study.get_trials())
    assert sorted(int(trial.user_attrs["slot"]) for trial in finished) == list(range(search.config.num_trials or 0))
    assert all(trial.state == TrialState.COMPLETE for trial in finished)
    assert len(killed) == num_kills
    assert sum("killed by signal 9 and is replaced" in line for line in said) == num_kills
    assert len(trial_table(optuna_study)) == search.config.num_trials


LONG = {"training": {"num_epochs": 20, "batch_size": 8, "patience": 20}}


@pytest.fixture(scope="module")
def ready() -> Iterator[None]:
    """Workers are ready at once."""
    with warm_workers("tuning.search.workers", "tests.support.searched", "torch._dynamo"):
        yield


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ready")
def test_killed_workers_cost_no_trial_on_sqlite(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"space": {"training.lr": {"low": 1e-4, "high": 1e-2}}, "heartbeat": 5}
    check_killed(searched.search(tmp_path, LONG, num_trials=4, **settings), num_workers=3, num_kills=2)


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server started for the test."""
    pytest.importorskip("psycopg", reason="PostgreSQL's driver psycopg is not installed")
    places = [*map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), os.environ.get("PATH", "")]
    control = shutil.which("pg_ctl", path=os.pathsep.join(places))
    if control is None:
        pytest.skip("PostgreSQL's server is not installed")
    folder = Path(tempfile.mkdtemp(prefix="mmpsr-"))
    command = [control, "-D", str(folder / "data")]
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
        command = ["runuser", "-u", "postgres", "--", *command]
    options = f"-c listen_addresses= -c unix_socket_directories={folder}"

    def run(*arguments: str) -> None:
        subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=120, cwd=folder)

    try:
        run("init", "-o", "-A trust -U postgres")
        run("start", "-w", "-l", str(folder / "log"), "-o", options)
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        run("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ready")
def test_killed_workers_cost_no_trial_on_postgresql(tmp_path: Path, postgresql: str) -> None:
    settings: dict[str, Any] = {"space": {"training.lr": {"low": 1e-4, "high": 1e-2}}, "heartbeat": 5}
    search = searched.search(tmp_path / "out", LONG, num_trials=4, storage=postgresql, **settings)
    check_killed(search, num_workers=2, num_kills=1)


KILLED = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
import tuning.search.objective, tuning.search.workers
from tests.support import searched
def stuck(*arguments, **named):
    print("training", flush=True)
    import time
    time.sleep(600)
tuning.search.objective.train = stuck
tuning.search.objective.most_together = lambda: 1
search = searched.search(Path({folder!r}), method="random", num_trials=2, storage={storage!r}, **{settings!r})
tuning.search.workers.run_search(search, 1, print)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_the_same_command_continues_after_a_kill_with_the_same_values(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = str(tmp_path / "trials.journal") if kind == "journal" else None
    settings: dict[str, Any] = {"space": {"training.lr": {"low": 1e-4, "high": 1e-2}}}
    root = str(Path(__file__).parents[3])
    program = KILLED.format(root=root, folder=str(tmp_path), storage=storage, settings=settings)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        process.kill()
    imitate(monkeypatch, lambda config, epoch: config.training.lr)
    optuna_study = run_search(
        searched.search(tmp_path, method="random", num_trials=2, storage=storage, **settings), 1, silent
    )
    states = [trial.state for trial in optuna_study.trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert optuna_study.trials[1].params == optuna_study.trials[0].params  # at once, though its last heartbeat is new
    assert len(trial_table(optuna_study)) == 2


def started(search: Search, worker: str, slot: str = "0") -> optuna.Study:
    """A study with a trial that runs in the worker."""
    optuna_study = search.open_study()
    trials.queue(optuna_study, slot, {"model.hidden_width": 16})
    trial = optuna_study.ask()
    trial.set_user_attr("worker", worker)
    trial.suggest_categorical("model.hidden_width", [8, 16])
    return optuna_study


@pytest.mark.slow
def test_a_trial_of_another_machine_is_left_alone_until_its_heartbeat_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imitate(monkeypatch, lambda config, epoch: 1.0)
    search = searched.search(tmp_path, num_trials=1, heartbeat=1)
    optuna_study = started(search, "elsewhere 1 0.0")
    storage = optuna_study._storage
    storage.record_heartbeat(0 if not optuna_study.trials else optuna_study.trials[0]._trial_id)  # type: ignore[attr-defined]
    trials.release(optuna_study, {})
    assert optuna_study.trials[0].state == TrialState.RUNNING
    start = time.monotonic()
    run_search(search, 1, silent)  # waits for it, in vain
    assert time.monotonic() - start > 1.0
    assert [trial.state for trial in optuna_study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert optuna_study.trials[1].params == {"model.hidden_width": 16}


def test_a_trial_whose_worker_died_before_it_could_say_its_name_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optuna_study = searched.search(tmp_path, num_trials=1).open_study()
    trials.queue(optuna_study, "0", {"model.hidden_width": 16})
    optuna_study.ask()
    seen: dict[int, float] = {}
    trials.release(optuna_study, seen)
    assert [trial.state for trial in optuna_study.trials] == [TrialState.RUNNING]
    monkeypatch.setattr(trials, "NAMELESS_SECONDS", -1.0)
    trials.release(optuna_study, seen)
    assert [trial.state for trial in optuna_study.trials] == [TrialState.FAIL, TrialState.WAITING]
    trials.claim(optuna_study.ask())
    trials.release(optuna_study, seen)
    assert optuna_study.trials[1].state == TrialState.RUNNING
    assert optuna_study.trials[1].user_attrs["slot"] == "0"


def test_a_trial_that_always_kills_its_worker_fails_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imitate(monkeypatch, lambda config, epoch: 1.0)
    search = searched.search(tmp_path, method="grid", num_retries=0)
    optuna_study = started(search, worker_of_a_dead_process(), '{"model.hidden_width": 8}')
    run_search(search, 1, silent)
    table = trial_table(optuna_study)
    assert sorted(table["state"]) == ["complete", "fail"]
    assert "its worker was killed 1 times" in table["reason"].tolist()


def worker_of_a_dead_process() -> str:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        pass
    host = trials.worker_name().split()[0]
    return f"{host} {process.pid} 1.0"


def test_a_slot_that_was_queued_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = imitate(monkeypatch, lambda config, epoch: 1.0)
    search = searched.search(tmp_path, num_trials=2)
    optuna_study = search.open_study()
    for slot in ("0", "0", "1"):
        trials.queue(optuna_study, slot, None)
    optuna_study.enqueue_trial({})  # and one without a slot
    run_search(search, 1, silent)
    assert len(trained) == 2
    assert [trial.user_attrs["slot"] for trial in trials.counted(optuna_study.trials)] == ["0", "1"]


def test_importances_and_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imitate(monkeypatch, lambda config, epoch: config.model.hidden_width + config.model.dropout)
    space = {"model.hidden_width": [8, 16], "model.dropout": [0.0, 0.5]}
    optuna_study = run_search(searched.search(tmp_path, method="grid", space=space), 1, silent)
    shares = importances(optuna_study)
    assert list(shares) == ["model.hidden_width", "model.dropout"]
    assert shares["model.hidden_width"] > 0.8
    rows = value_table(optuna_study).itertuples(index=False, name=None)
    assert [row for row in rows if row[0] == "model.hidden_width"] == [
        ("model.hidden_width", 8, 2, 8.25, 8.5), ("model.hidden_width", 16, 2, 16.25, 16.5),
    ]  # fmt: skip
    console = Console(width=200)
    with console.capture() as shown:
        console.print(search_table(optuna_study))
    lines = shown.get().splitlines()
    assert "Best of 4 trials (0 pruned, 0 failed); dev figure, higher" in lines[0]
    best = next(line for line in lines if "16.50" in line)
    assert [cell.strip() for cell in best.split("│")[2:5]] == ["16.50", "16", "0.5"]


# -- executors ---------------------------------------------------------------------------------------------------------


def by_threads(search: Search) -> Search:
    features = search.base.features.model_copy(update={"executor": "tests.support.executors:threads"})
    return replace(search, base=search.base.model_copy(update={"features": features}))


def outcomes(optuna_study: optuna.Study) -> dict[str, tuple[object, ...]]:
    return {
        trial.user_attrs["slot"]: (trial.params, trial.value, trial.intermediate_values, trial.user_attrs.get("reason"))
        for trial in trials.counted(optuna_study.get_trials())
    }


def test_trials_by_an_executor_are_those_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def figure(config: RunConfig, epoch: int) -> float:
        if config.model.hidden_width == 16:
            raise ValueError("heads do not\nfit")
        return config.model.dropout + epoch

    imitate(monkeypatch, figure)
    space = {"model.hidden_width": [8, 16], "model.dropout": [0.0, 0.2]}
    settings: dict[str, Any] = {"method": "greedy", "space": space, "seeds": [0, 1]}
    own = outcomes(run_search(searched.search(tmp_path / "own", **settings), 1, silent))
    said: list[str] = []
    search = by_threads(searched.search(tmp_path / "there", **settings))
    there = run_search(search, 1, said.append)
    assert outcomes(there) == own
    assert winner(search, there).features.executor == "local"  # whoever trains it need not have the cluster
    assert {reason for *_, reason in own.values()} == {None, "heads do not fit"}
    assert sum("heads do not fit" in line for line in said) == sum(reason is not None for *_, reason in own.values())
    assert len(said) == len(own)
    run_search(searched.search(tmp_path / "there", **settings), 1, silent)  # and by no executor it is the same search


def test_hyperband_is_no_executors(tmp_path: Path) -> None:
    search = by_threads(searched.search(tmp_path, method="hyperband", num_trials=2))
    with pytest.raises(ConfigError, match=r"'hyperband' ends trials by the epochs of others, .* one search\.storage"):
        run_search(search, 1, silent)


def test_a_trial_that_kills_an_executors_workers_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledWorker(Exception):  # noqa: N818  Dask's name
        """A job was given up."""

    class Cluster(Engine):
        name, num_workers = "dask://node7:8786", 1

        def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
            future: Future[Any] = Future()
            (group,) = arguments
            if any(configs[0].model.hidden_width == 16 for *_, configs in group.members):
                future.set_exception(KilledWorker())
            else:
                future.set_result(function(group))
            return future

        def has_killed(self, error: BaseException | None) -> bool:
            return isinstance(error, KilledWorker)

    imitate(monkeypatch, lambda config, epoch: 1.0)
    search = searched.search(tmp_path, method="grid")
    give_away(search, Cluster(), silent)
    found = {params["model.hidden_width"]: rest for params, *rest in outcomes(search.open_study()).values()}
    assert found == {8: [1.0, {1: 1.0, 2: 1.0}, None], 16: [None, {}, "its workers died, one after another"]}
