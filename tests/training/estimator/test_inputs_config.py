"""What a run on vectors is told: the recommended settings, and the program's over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from corpora.clips import CorpusError
from mmpsr.config import ConfigError, load_config
from training.config import RunConfig
from training.estimator.inputs import OWN_SECTIONS, corpora_configuration, run_configuration

DEFAULT = Path(__file__).parents[3] / "configs" / "default.toml"
TABLES = {
    "a": pd.DataFrame(columns=["clip_id", "emotion.Anger", "personality.openness"]),
    "b": pd.DataFrame(columns=["clip_id", "ambivalence.present"]),
}


def test_are_the_recommended_settings() -> None:
    expected = load_config(RunConfig, DEFAULT)
    found = run_configuration(TABLES, ["text"], None, {}, {})
    for section in set(RunConfig.model_fields) - {*OWN_SECTIONS, "data"}:
        if section == "tasks":
            wordless = {
                task: spec.model_copy(update={"texts": None}) for task, spec in expected.tasks.resolve().items()
            }
            assert found.tasks.resolve() == wordless  # what made the vectors is not here to embed class texts
        else:
            assert getattr(found, section) == getattr(expected, section), section
    assert found.data.sampling == expected.data.sampling


def test_settings_go_over_them() -> None:
    sections: dict[str, dict[str, Any]] = {
        "training": {"num_epochs": 3},
        "data": {"sampling": "balanced"},
        "model": {"linear_path": {}},
    }
    found = run_configuration(TABLES, ["text"], ["emotion"], sections, {})
    assert (found.training.num_epochs, found.training.patience) == (3, 10)
    assert (found.data.sampling, found.data.modalities) == ("balanced", ("text",))
    assert found.model.linear_path == {}
    assert found.tasks.active == ("emotion",)


def test_tasks_are_those_with_labels() -> None:
    mood = {"kind": "single_label", "classes": ["low", "high"], "loss": "cross_entropy", "metrics": ["uar"]}
    sections = {"tasks": {"specs": {"mood": mood}}}
    tables = {"a": pd.DataFrame(columns=["clip_id", "said", "emotion.Anger"])}
    found = run_configuration(tables, ["text"], None, sections, {"mood": "said"})
    assert found.tasks.active == ("emotion", "mood")
    assert found.tasks.resolve()["emotion"].loss == "binary_cross_entropy"
    assert found.model.linear_path == {"emotion": "fixed", "mood": "fixed"}
    assert run_configuration(tables, ["text"], None, {"tasks": {"active": ["emotion"]}}, {}).tasks.active == (
        "emotion",
    )


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(CorpusError, match=r"no table of a has a label column such as 'emotion\.Anger'"):
        run_configuration({"a": pd.DataFrame(columns=["clip_id"])}, ["text"], None, {}, {})
    with pytest.raises(ConfigError, match="labels: no task is named 'emotions'; did you mean 'emotion'"):
        run_configuration(TABLES, ["text"], None, {}, {"emotions": "x"})
    with pytest.raises(ConfigError, match="no task is named 'emotions'"):
        run_configuration(TABLES, ["text"], ["emotions"], {}, {}).tasks.resolve()
    with pytest.raises(ConfigError, match="config: modle is not a setting; did you mean 'model'"):
        run_configuration(TABLES, ["text"], None, {"modle": {}}, {})
    with pytest.raises(ConfigError, match="corpora"):
        corpora_configuration(["a/b"])
