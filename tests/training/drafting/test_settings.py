"""Settings told by the models: paths, types, defaults, meanings, and kinds of a section."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field
from typer.testing import CliRunner

from mmpsr.config import Config
from training.config import RunConfig
from training.drafting.settings import Setting, matching, settings_of
from tuning.console import app, listed_settings


class Left(Config):
    """One kind."""

    kind: Literal["left"] = "left"
    """Goes left."""
    width: int = Field(default=3, ge=1)
    """How wide."""


class Right(Config):
    """The other."""

    kind: Literal["right"] = "right"
    """Goes right."""
    width: int = Field(default=3, ge=1)
    """How wide."""
    shares: dict[str, tuple[float, float]]
    """By name,
    two ends."""


class Whole(Config):
    """All."""

    way: Left | Right = Field(default_factory=Left, discriminator="kind")
    """Which."""
    steps: tuple[Left, ...] = ()
    """Steps."""
    note: str | Right | None = None
    """A text, or more."""
    other: str | Right = "x"
    """Likewise."""


def test_fields_are_listed_with_their_kinds_and_once_where_they_are_shared() -> None:
    shares = ("table by name: list of 2: number", "required", "By name, two ends.")
    left, right = 'kind = "left"', 'kind = "right"'
    assert settings_of(Whole) == [
        Setting("way.kind", '"left"', '"left"', "Goes left.", (left,)),
        Setting("way.width", "whole number, at least 1", "3", "How wide."),
        Setting("way.kind", '"right"', '"right"', "Goes right.", (right,)),
        Setting("way.shares", *shares, (right,)),
        Setting("steps", "list: section", "[]", "Steps."),
        Setting("steps[].kind", '"left"', '"left"', "Goes left."),
        Setting("steps[].width", "whole number, at least 1", "3", "How wide."),
        Setting("note", "text or section", "-", "A text, or more."),
        Setting("note.kind", '"right"', '"right"', "Goes right."),
        Setting("note.width", "whole number, at least 1", "3", "How wide."),
        Setting("note.shares", *shares),
        Setting("other", "text or section as `note`", '"x"', "Likewise."),
    ]
    assert settings_of(Whole)[0].sentence == 'Goes left. Where kind = "left".'


def test_every_field_of_a_run_has_a_meaning_and_a_type_in_words() -> None:
    settings = settings_of(RunConfig)
    assert {"training.lr", "corpora.sources.<name>.labels.<task>.scale", "tasks.specs.<task>.threshold"} <= {
        setting.place for setting in settings
    }
    for setting in settings:
        assert setting.meaning.endswith("."), setting
        assert not any(sign in setting.type for sign in ("Config", "typing", "<class", "~")), setting


def test_patterns_choose_by_path_then_by_meaning() -> None:
    settings = settings_of(RunConfig)
    assert [each.place for each in matching(settings, "training.l*")] == ["training.lr"]
    assert [each.place for each in matching(settings, "PATIENCE")] == ["training.patience"]
    assert "training.max_gradient_norm" in [each.place for each in matching(settings, "scaled down")]


def test_the_command_prints_a_table_or_json_or_the_nearest_name() -> None:
    output = CliRunner().invoke(app, ["settings", "training.lr"]).output
    assert "Learning rate" in output
    assert "number, above 0" in output
    document = json.loads(CliRunner().invoke(app, ["settings", "num_trials", "--json"]).stdout)
    assert list(document) == ["a search"]
    result = CliRunner().invoke(app, ["settings", "patiense"])
    assert (result.exit_code, "did you mean 'patience'?" in result.output) == (2, True)


def test_other_files_list_what_runs_have_not() -> None:
    listed = listed_settings()
    of_runs = set(listed.pop("a run"))
    assert len(listed) == 4
    for settings in listed.values():
        assert settings
        assert not set(settings) & of_runs
