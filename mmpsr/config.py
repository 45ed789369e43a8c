"""Typed configuration: TOML files and `section.key=value` settings, checked by pydantic models.

Every package declares its own `Config` models beside the code that reads them. A run composes them into one
model, and `load_config` fills it from a file and the command line. All errors name the place and the nearest
right name.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["Config", "ConfigError", "load_config", "nearest", "parse_setting"]


class ConfigError(ValueError):
    """A configuration that cannot be used; the message says what was found, where, and what to do."""


class Config(BaseModel):
    """Base of every configuration model: unknown keys are errors, values are checked, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


ConfigT = TypeVar("ConfigT", bound=Config)


def nearest(name: str, known: Iterable[str]) -> str:
    """Sentence part that points from a wrong name to right ones.

    Example:
        >>> nearest("emotoin", ["emotion", "personality"])
        "did you mean 'emotion'?"
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known names are {', '.join(sorted(known))}" if known else "nothing may stand here"


def parse_setting(setting: str) -> tuple[list[str], Any]:
    """Split `section.key=value` and read the value as TOML, or as a plain string where it is not TOML.

    Example:
        >>> parse_setting("training.lr=3e-4")
        (['training', 'lr'], 0.0003)
        >>> parse_setting("model.graph=gat")
        (['model', 'graph'], 'gat')
    """
    key, separator, text = setting.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {setting!r}: expected section.key=value, for example --set training.lr=3e-4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return [part.strip() for part in key.split(".")], value


def _nested_keys(model: object, path: Sequence[Any]) -> list[str]:
    """Keys that are allowed at `path` of a configuration model (empty where they are free)."""
    models: list[Any] = [model]
    for part in path:
        following: list[Any] = []
        for candidate in models:
            following.extend(_children(candidate, str(part)))
        models = following or models
    names: list[str] = []
    for candidate in models:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            names.extend(candidate.model_fields)
    return names


def _children(model: Any, part: str) -> list[Any]:
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    field = model.model_fields.get(part)
    return [] if field is None else _models_in(field.annotation)


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def _explain(error: ValidationError, model: type[Config], source: str) -> str:
    lines = []
    for item in error.errors():
        location = [str(part) for part in item["loc"]]
        where = ".".join(location)
        if item["type"] == "extra_forbidden":
            hint = nearest(location[-1], _nested_keys(model, location[:-1]))
            lines.append(f"{where} is not a setting; {hint}")
        elif item["type"] == "missing":
            lines.append(f"{where} is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {message} (found {item['input']!r})")
    return f"{source}: " + "; ".join(lines)


def _merge(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for depth, part in enumerate(path[:-1]):
        branch = tree.setdefault(part, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"--set {'.'.join(path)}: {'.'.join(path[: depth + 1])} is a value, not a section")
        tree = branch
    tree[path[-1]] = value


def load_config(
    model: type[ConfigT], path: str | Path | None = None, settings: Iterable[str] = (), **defaults: Mapping[str, Any]
) -> ConfigT:
    """Read a TOML file, apply `section.key=value` settings over it, and validate.

    Args:
        model: the configuration model to fill.
        path: TOML file; `None` starts from the model's own defaults.
        settings: repeatable command-line settings, applied in order.
        **defaults: sections used where the file has none.

    Returns:
        The validated configuration.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown (the nearest right key is named), or a
            value is not allowed.
    """
    tree: dict[str, Any] = {name: dict(section) for name, section in defaults.items()}
    source = "configuration"
    if path is not None:
        source = str(path)
        try:
            tree.update(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ConfigError(f"{path}: there is no such configuration file; configs/ holds those that ship") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for setting in settings:
        keys, value = parse_setting(setting)
        _merge(tree, keys, value)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, model, source)) from None
