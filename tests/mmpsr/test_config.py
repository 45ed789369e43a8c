from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from mmpsr.config import (
    Config,
    ConfigError,
    find_config,
    load_config,
    nearest,
    parse_setting,
    put,
    read_toml,
    shipped_configs,
)


class TaskSplit(Config):
    column: str
    """A name."""


class Cat(Config):
    kind: Literal["cat"]
    """Chooses this member."""
    whiskers: int = 12
    """A number."""
    source: str | TaskSplit | None = None
    """A name or a part."""


class Dog(Config):
    kind: Literal["dog"]
    """Chooses this member."""
    whisper: int = 0
    """A number."""


class Section(Config):
    rate: float = Field(default=0.1, gt=0)
    """A number."""
    names: tuple[str, ...] = ()
    """Names."""


class Root(Config):
    section: Section = Section()
    """A section."""
    animals: dict[str, Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(default_factory=dict)
    """Members of a union by name."""


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("setting", "keys", "value"),
    [
        ("training.lr=3e-4", ["training", "lr"], 3e-4),
        ("a.b.c=true", ["a", "b", "c"], True),
        ("model.graph=gat", ["model", "graph"], "gat"),
        ('names=["x", "y"]', ["names"], ["x", "y"]),
        ("query = a=b ", ["query"], "a=b"),
        ("a={x = 1}", ["a"], {"x": 1}),
    ],
)
def test_parse_setting(setting: str, keys: list[str], value: object) -> None:
    assert parse_setting(setting) == (keys, value)


@pytest.mark.parametrize("setting", ["lr", "=3", " =3", "a..b=1", "a.=1"])
def test_parse_setting_without_a_key_is_an_error(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section\.key=value"):
        parse_setting(setting)


def test_nearest() -> None:
    assert nearest("emotoin", ["emotion", "personality"]) == "did you mean 'emotion'?"
    assert nearest("zzz", ["b", "a"]) == "known names are a, b"
    assert nearest("zzz", []) == "nothing may stand here"


def test_settings_override_the_file_in_order_and_the_file_overrides_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "[section]\nrate = 0.2\n")
    assert load_config(Root).section.rate == 0.1
    assert load_config(Root, path).section.rate == 0.2
    config = load_config(Root, path, ["section.rate=0.3", "section.rate=0.4", 'section.names=["a"]'])
    assert (config.section.rate, config.section.names) == (0.4, ("a",))


def test_instances_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config(Root).section.rate = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["secton.rate=1"], "secton is not a setting; did you mean 'section'?"),
        (["section.rat=1"], "section.rat is not a setting; did you mean 'rate'?"),
        (["section.rate=-1"], "section.rate: Input should be greater than 0 (found -1)"),
        (["section.rate=fast"], "section.rate: Input should be a valid number"),
        (["section=1"], "section: Input should be a valid dictionary"),
        (["section.names=[1]"], "section.names.0: Input should be a valid string (found 1)"),
        # a union's tag stands in pydantic's location, not in what the user wrote
        (["animals.tom={kind='cat'}", "animals.tom.whiskrs=1"], "animals.tom.whiskrs is not a setting; did you mean"),
        (["animals.tom={kind='cat', whiskers='x'}"], "animals.tom.whiskers: Input should be a valid integer"),
        (["animals.tom={kind='cot'}"], "animals.tom.kind: 'cot' is not known; did you mean 'cat'?"),
        (["animals.tom={kind='cow!'}"], "animals.tom.kind: 'cow!' is not known; known names are cat, dog"),
        (["animals.tom.whiskers=1"], "animals.tom.kind is missing; known names are cat, dog"),
        (
            ["animals.tom={kind='cat', source={column='x', colum='x'}}"],
            "animals.tom.source.colum is not a setting; did you mean",
        ),
        (["animals.tom={kind='cat', source=3}"], "animals.tom.source: Input should be a valid string or Input should"),
    ],
)
def test_errors_name_the_place_and_the_nearest_key(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Root, None, settings)
    assert str(error.value).startswith(f"configuration: {message}")


def test_only_the_keys_of_the_chosen_member_are_offered() -> None:
    with pytest.raises(ConfigError, match="did you mean 'whisper'"):
        load_config(Root, None, ["animals.rex={kind='dog', whiskers=1}"])
    # a source named like a field is still a name
    with pytest.raises(ConfigError, match=r"animals\.source\.whiskes is not a setting; did you mean 'whiskers'"):
        load_config(Root, None, ["animals.source={kind='cat', whiskes=1}"])


def test_a_wrong_key_inside_a_union_is_told_once() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Root, None, ["animals.tom={kind='cat', source={column='x', row=1}}"])
    assert str(error.value) == "configuration: animals.tom.source.row is not a setting; known names are column"


def test_a_setting_below_a_value_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set section.rate.x: section.rate is a value, not a section"):
        load_config(Root, write(tmp_path, "[section]\nrate = 1.0"), ["section.rate.x=1"])


def test_a_name_with_a_dot_stands_in_quotes() -> None:
    tree: dict[str, Any] = {}
    for setting in ('a."b.c".d=1', "a.'b.c'.e=x", "a.f=[2]"):
        keys, value = parse_setting(setting)
        put(tree, keys, value, setting)
    assert tree == {"a": {"b.c": {"d": 1, "e": "x"}, "f": [2]}}
    for wrong in ('a."b.c=1', 'a."b"c=1', "a..b=1", '"".b=1', "=1"):
        with pytest.raises(ConfigError, match=r"expected section\.key=value"):
            parse_setting(wrong)


def test_file_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: there is no such configuration file"):
        load_config(Root, tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="there is no such configuration file"):
        load_config(Root, tmp_path)
    with pytest.raises(ConfigError, match=r"run\.toml: not valid TOML: .*line 1"):
        load_config(Root, write(tmp_path, "section = ="))
    with pytest.raises(ConfigError, match=r"run\.toml: section\.rat is not a setting"):
        load_config(Root, write(tmp_path, "[section]\nrat = 1"))


def test_shipped_configurations_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = shipped_configs()
    assert {"demo", "default", "paper", "studies/table1", "searches/demo"} <= set(shipped)
    for name in ("demo", "demo.toml", "configs/demo.toml"):
        assert find_config(name) == shipped["demo"]
        assert read_toml(name)["corpora"]["build"] == "demo"
    (tmp_path / "demo").write_text("")  # a file of one's own comes first
    assert find_config("demo") == Path("demo")
    with pytest.raises(ConfigError, match=r"dmo: there is no such configuration file, .*did you mean 'demo'\?"):
        read_toml("dmo")
