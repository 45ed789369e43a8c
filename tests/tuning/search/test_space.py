"""The `[search]` section: every field and value is checked before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from mmpsr.config import ConfigError, load_config, validate
from tests.support import joined as small
from training.config import RunConfig
from tuning.search.objective import load_search
from tuning.search.results import toml_text
from tuning.search.space import Dimension, GridPlan, SampledPlan, SearchConfig, apply, dimensions, make_plan

SHIPPED = Path(__file__).parents[3] / "configs" / "searches"


def section(**settings: Any) -> SearchConfig:
    return validate(SearchConfig, {"method": "grid", **settings}, "mine.toml: search")


def found(space: dict[str, Any], base: RunConfig | None = None, **settings: Any) -> list[Dimension]:
    return dimensions(section(space=space, **settings), base or small.config(), "mine.toml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": {}}, "mine.toml: search: space"),
        ({"space": {"a": [1]}, "metod": "grid"}, "metod is not a setting; did you mean 'method'?"),
        ({"space": {"a": [1]}, "method": "tpe"}, "num_trials is missing; method 'tpe' needs it"),
        ({"space": {"a": [1]}, "num_trials": 3}, "num_trials: method 'grid' ends with its grid; take num_trials out"),
        ({"space": {"a": [1, 1]}}, "a: expected different values, at least one (found [1, 1])"),
        ({"space": {"a": []}}, "a: expected different values, at least one (found [])"),
        ({"space": {"a": {"low": 2, "high": 1}}}, "low must be less than high (found low = 2, high = 1)"),
        ({"space": {"a": {"low": 0, "high": 1, "log": True}}}, "log needs a low above 0 (found 0)"),
        ({"space": {"a": {"low": 1, "high": 2, "log": True, "step": 1}}}, "log and step exclude each other"),
        (
            {"space": {"a": {"low": 0.0, "high": 1.0, "step": 0.3}}},
            "high must be low plus a multiple of step (found 3.33333 steps)",
        ),
        ({"space": {"a": [1]}, "stages": [["a"]]}, "stages: only method 'greedy' has stages (found 'grid')"),
        (
            {"space": {"model.dropout": [0.1]}, "method": "greedy", "stages": [["model.dropuot"]]},
            "stages: 'model.dropuot' is not in the space; did you mean 'model.dropout'?",
        ),
        (
            {"space": {"a": [1], "b": [1]}, "method": "greedy", "stages": [["a"]]},
            "stages: every entry of the space must stand in exactly one stage",
        ),
    ],
)
def test_a_wrong_section_says_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section(**settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"training.lrr": [1e-3]}, "training.lrr is not a setting; did you mean 'lr'?"),
        ({"trainig.lr": [1e-3]}, "trainig is not a setting; did you mean 'training'?"),
        ({"training.lr": [1e-3, "fast"]}, "search.space: training.lr: training.lr: Input should be a valid number"),
        ({"training.lr": {"low": 0.0, "high": 1.0, "step": 0.5}}, "greater than 0 (found 0.0)"),
        ({"training.lr.first": [1e-3]}, "training.lr is a value, not a section"),
        ({"model.graph": ["gat", "gatt"]}, "model.graph: Input should be 'none', 'gat', 'ucgnn'"),
        ({"model.graph": {"low": 0, "high": 1}}, "(found 0)"),
        ({"tasks.specs.emotion.treshold": [0.6]}, "treshold is not a setting; did you mean 'threshold'?"),
        (
            {"tasks.specs.emotoin.threshold": [0.6]},
            "no run would read tasks.specs.emotoin.threshold: 'emotoin' is not there; did you mean 'emotion'?",
        ),
        ({"training.seed": [1]}, "training.seed cannot be searched: search.seeds lists the seeds"),
        ({"output.name": ["a"]}, "output cannot be searched: it changes no figure"),
        ({"training.monitor": ["emotion"]}, "trials are compared by this figure"),
        ({"training.lr": {"low": 1e-4, "high": 1e-2}}, "method 'grid' needs a range with a step and without log"),
        ({"model.dropout, training.lr": [0.1], "training.lr": [0.1]}, "training.lr stands twice in the space"),
    ],
)
def test_a_wrong_field_or_value_is_named_before_the_first_trial(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        found(space)
    assert message in str(caught.value)
    assert str(caught.value).startswith("mine.toml: search.space: ")


def test_dimensions_of_values_and_ranges() -> None:
    settings: dict[str, Any] = {"method": "tpe", "num_trials": 1}
    space = {
        "training": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}},
        "model.hidden_width": {"low": 8, "high": 32, "step": 8},
        "model.dropout": {"low": 0, "high": 0.5},
        "model.graph": ["gat", "none"],
    }
    lr, width, dropout, graph = found(space, **settings)
    assert lr.distribution == optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)
    assert width.distribution == optuna.distributions.IntDistribution(8, 32, step=8)
    assert dropout.distribution == optuna.distributions.FloatDistribution(0.0, 0.5)  # a whole low is no whole field
    assert graph.distribution == optuna.distributions.CategoricalDistribution(["gat", "none"])
    assert width.base == 16
    assert graph.base == "ucgnn"


def test_a_range_with_a_step_is_a_grid() -> None:
    dropout, heads = found(
        {"model.dropout": {"low": 0, "high": 0.3, "step": 0.1}, "model.num_heads": {"low": 1, "high": 3}}
    )
    assert dropout.grid == (0.0, 0.1, 0.2, 0.3)
    assert heads.grid == (1, 2, 3)


def test_draws_stay_in_their_range_and_reach_its_ends() -> None:
    settings: dict[str, Any] = {"method": "tpe", "num_trials": 1}
    space = {
        "training.lr": {"low": 1e-4, "high": 1.0, "log": True},
        "model.dropout": {"low": 0.0, "high": 0.3, "step": 0.1},
        "model.num_heads": {"low": 1, "high": 4},
    }
    lr, dropout, heads = found(space, **settings)
    generator = np.random.default_rng(0)
    rates = np.array([lr.draw(generator) for _ in range(2000)])
    assert rates.min() >= 1e-4
    assert rates.max() <= 1.0
    # half below the geometric mean, 1e-2, give or take four deviations of 0.011
    assert abs((rates < 1e-2).mean() - 0.5) < 0.045
    assert sorted({round(float(dropout.draw(generator)), 9) for _ in range(200)}) == [0.0, 0.1, 0.2, 0.3]
    assert {heads.draw(generator) for _ in range(200)} == {1, 2, 3, 4}


def test_one_value_for_several_fields() -> None:
    (both,) = found({"tasks.specs.emotion.threshold, tasks.specs.ambivalence.threshold": [0.5, 0.6]})
    assert both.base == 0.8  # as both are declared
    config = apply(small.config(), {field: both.value(0.6) for field in both.fields}, "test")
    assert [config.tasks.resolve()[task].threshold for task in ("emotion", "ambivalence", "personality")] == [
        0.6,
        0.6,
        0.5,
    ]


def test_a_grid_tries_every_combination_once_and_greedy_stage_by_stage() -> None:
    space = {"model.hidden_width": [8, 16, 32], "model.dropout": [0.0, 0.1]}
    grid = make_plan(section(space=space), found(space))
    assert isinstance(grid, GridPlan)
    needed = dict(grid.needed({}))
    assert len(needed) == 6
    first = next(iter(needed))
    assert first not in dict(grid.needed({first: 1.0}))
    assert list(grid.needed(dict.fromkeys(needed, 1.0))) == []
    greedy = make_plan(section(space=space, method="greedy"), found(space, method="greedy"))
    figures: dict[str, float | None] = {}
    tried = []
    while batch := list(greedy.needed(figures)):
        for slot, labels in batch:
            assert labels is not None
            tried.append((labels["model.hidden_width"], labels["model.dropout"]))
            figures[slot] = None if labels["model.hidden_width"] == 32 else float(labels["model.hidden_width"])
    assert tried == [(8, 0.2), (16, 0.2), (32, 0.2), (16, 0.0), (16, 0.1)]


def test_a_huge_grid_is_never_written_out() -> None:
    values = tuple(float(value) for value in range(100))
    choice = optuna.distributions.CategoricalDistribution(values)
    plan = GridPlan([[Dimension(f"d{i}", (f"d{i}",), choice, values, None) for i in range(8)]])  # 10^16
    assert next(iter(plan.needed({})))[1] == {f"d{i}": 0.0 for i in range(8)}


def test_a_sampled_plan_counts_slots() -> None:
    assert list(SampledPlan(3).needed({"1": 2.0})) == [("0", None), ("2", None)]


def test_a_search_starts_from_its_base_with_its_own_sections_over_it(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[training]\nlr = 0.5\nnum_epochs = 7\n[model]\nhidden_width = 8\n")
    path = tmp_path / "searches" / "mine.toml"
    path.parent.mkdir()
    text = '[search]\nbase = "../base.toml"\nmethod = "grid"\n[search.space]\nmodel.dropout = [0.1]\n'
    path.write_text(text + "[training]\nlr = 0.25\n")
    search, base, notes = load_search(path, ["training.patience=3", "search.seeds=[1, 2]"])
    assert (base.training.lr, base.training.num_epochs, base.training.patience, base.model.hidden_width) == (
        0.25,
        7,
        3,
        8,
    )
    assert search.seeds == (1, 2)
    assert search.space == {"model.dropout": (0.1,)}
    assert notes == []
    (tmp_path / "other.toml").write_text("[training]\nnum_epochs = 9\n")
    assert load_search(path, base=tmp_path / "other.toml")[1].training.num_epochs == 9


def test_a_file_without_a_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[training]\nlr = 0.5\n")
    with pytest.raises(ConfigError, match=r"run\.toml: there is no \[search\] section; configs/searches/ holds"):
        load_search(path)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_searches_fit_their_base(path: Path) -> None:
    search, base, _ = load_search(path)
    assert [each.name for each in dimensions(search, base, str(path))] == list(search.space)


def test_the_published_grids_are_whole() -> None:
    search, base, _ = load_search(SHIPPED / "published.toml")
    sizes = [len(each.grid) for each in dimensions(search, base, "published.toml")]
    assert sizes == [4, 4, 4, 6, 4, 3, 5, 5, 4, 4, 5, 3, 3, 4, 3]
    assert search.method == "greedy"


def test_a_configuration_survives_toml(tmp_path: Path) -> None:
    base = small.config(
        balancing={"weights": {"a b": 1.0, 'q"\n': 2.0}}, training={"lr": 1e-5, "monitor": "mosei/emotion/ü"}
    )
    path = tmp_path / "whole.toml"
    path.write_text(toml_text(base.model_dump(mode="json")), encoding="utf-8")
    assert load_config(RunConfig, path) == base
