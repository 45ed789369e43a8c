"""A study and a search on a Dask cluster of two processes: what this process computes, also where workers die."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import executors, searched
from tests.support.executors import killed_at_random, two_processes
from tests.tuning.search.test_workers import outcomes, silent
from tests.tuning.study.test_fill import STUDY, figures, num_logged, quiet, write, write_inputs
from tuning.search.objective import Search
from tuning.search.workers import run_search
from tuning.study.config import load_study
from tuning.study.fill import run_study


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, executors.LocalCluster]]:
    with two_processes(allowed_failures=10) as found:
        yield found


@pytest.mark.slow
def test_a_study_on_a_cluster_has_the_cells_of_this_process(
    cluster: tuple[str, executors.LocalCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    write(STUDY.rpartition("[[rows]]")[0].replace("[0, 1]", "[0]"))  # two cells
    run_study(load_study("study.toml"), 1, quiet())
    own, text = figures(load_study("study.toml")), Path("runs/study/table.csv").read_text()
    shutil.rmtree("runs")
    study = load_study("study.toml", [f"features.executor={json.dumps(cluster[0])}"])
    with killed_at_random(cluster[1], 1, (0.0, 0.1), has_begun=lambda: num_logged() > 0) as killed:  # in training
        run_study(study, 1, quiet())
    assert len(killed) == 1
    assert figures(study) == own
    assert Path("runs/study/table.csv").read_text() == text
    assert "compute_there" in cluster[1].scheduler.task_prefixes


@pytest.mark.slow
def test_a_search_on_a_cluster_has_the_trials_of_this_process(
    cluster: tuple[str, executors.LocalCluster], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    space = {"training.lr": {"low": 1e-4, "high": 1e-2}}
    settings: dict[str, Any] = {"method": "random", "num_trials": 4, "space": space, "stack": False}
    own = outcomes(run_search(searched.search(tmp_path / "own", **settings), 1, silent))
    search = on(cluster[0], searched.search(tmp_path / "there", **settings))
    assert outcomes(run_search(search, 1, silent)) == own
    assert len(own) == 4
    assert "train_there" in cluster[1].scheduler.task_prefixes


def on(executor: str, search: Search) -> Search:
    features = search.base.features.model_copy(update={"executor": executor})
    return replace(search, base=search.base.model_copy(update={"features": features}))
