"""Functions for notebooks: results that show their figures, arguments that are checked, missing files that raise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmpsr.config import ConfigError
from tests.support import stored_run
from training.config import RunConfig
from training.interactive import runs
from training.interactive.runs import evaluate, train
from training.runs.directory import RunError, read_json

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> Path:
    return stored_run.finish(tmp_path_factory.mktemp("runs"))


def test_figures_show_as_a_table_with_intervals(run: Path) -> None:
    found = evaluate(run.parent, split="dev", corpora=["bah"])
    assert found.path == run
    stored = [row for row in read_json(run, "results.json") if (row["corpus"], row["split"]) == ("bah", "dev")]
    frame = found.to_frame()
    assert frame["model"].tolist() == pytest.approx([row["model"] for row in stored])
    assert ((frame["low"] <= frame["model"]) & (frame["model"] <= frame["high"])).all()
    first = found.to_table().iloc[0]
    assert (first["metric"], first["clips"]) == ("MF1", stored[0]["num_clips"])
    assert float(first["model"]) == pytest.approx(stored[0]["model"], abs=0.051)  # one decimal
    assert f"{run}: percent, higher is better" in repr(found)
    assert "<td>MF1</td>" in found._repr_html_()
    assert found.document["classes"]


def test_training_gives_the_run_with_the_settings_that_were_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, Any] = {}

    def take(config: RunConfig, name: str, resume: bool, *_: object) -> Path:
        taken.update(config=config, name=name, resume=resume)
        return run

    monkeypatch.setattr(runs, "run_training", take)
    made = train({"training": {"num_epochs": 3}}, {"training.lr": 0.5, "data.modalities": ["text"]}, resume=True)
    config = taken["config"]
    assert (config.training.num_epochs, config.training.lr, config.data.modalities) == (3, 0.5, ("text",))
    assert (taken["name"], taken["resume"]) == ("python", True)
    assert train("demo", "training.lr=0.25", verbose=False).path == run
    assert (taken["name"], taken["config"].training.lr) == ("demo", 0.25)
    assert len(made.to_table()) == len(made.results)
    assert {"model", "linear", "chance"} <= set(made.to_table())
    assert not any(math.isnan(float(cell)) for cell in made.to_table()["model"] if cell != "-")
    with pytest.raises(ConfigError, match=r"config: training\.epochs is not a setting; did you mean 'num_epochs'"):
        train({"training": {"epochs": 3}})
    with pytest.raises(ConfigError, match="did you mean 'lr'"):
        train("demo", {"training.lrr": 1})


def test_figures_of_a_model_in_time_show_their_level(tmp_path: Path) -> None:
    source = {"adapter": "table", "files": "a.csv", "id": "id", "split": "split"}
    tree = {"corpora": {"sources": {"own": source}}, "model": {"kind": "tcn"}}
    (tmp_path / "config.json").write_text(json.dumps(tree), encoding="utf-8")
    pd.DataFrame({
        "corpus": "own", "split": "test", "clip_id": list("ab"), "group": list("pq"), "rate": "2",
        "label": np.array([1, 0], np.int8), "labels": [[0, 1, 1], [0, 0, 0]],
        "model": [[0.1, 0.6, 0.8], [0.2, 0.3, 0.2]], "linear": [[0.9, 0.4, 0.4], [0.7, 0.7, 0.2]],
    }).to_parquet(tmp_path / "predictions.parquet")  # fmt: skip
    table = evaluate(tmp_path).to_table().set_index(["level", "metric"])
    assert table.loc[("frame", "F1+"), "model"] == "100.0"  # both present frames are found, and no other
    assert table.loc[("frame", "F1+"), "linear"] == "0.0"
    with pytest.raises(RunError, match="is a run of a model in time"):
        evaluate(tmp_path, subsets=True)
    assert len(evaluate(tmp_path, split="dev").to_table()) == 0


def test_what_is_missing_is_a_missing_file_and_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no run .*nowhere; name the folder of a finished run"):
        evaluate(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="there is no such configuration file"):
        train(tmp_path / "nowhere.toml")
    with pytest.raises(RunError, match=r"has no .*name the folder of a finished run"):
        evaluate(tmp_path)
