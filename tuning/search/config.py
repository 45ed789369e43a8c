"""A search's file: the `[search]` section, and the run's configuration that it starts from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmpsr.config import ConfigError, find_config, read_toml, resolve
from training.config import RunConfig
from training.published_config import is_published, translate
from tuning.search.space import SearchConfig

__all__ = ["load_search", "toml_text"]


def load_search(
    path: Path, settings: Iterable[str] = (), base: Path | None = None
) -> tuple[SearchConfig, RunConfig, list[str]]:
    """Load a search and the configuration that it starts from.

    Args:
        path: TOML file with a `[search]` section.
        settings: `section.key=value` over the file, `search.key=value` included.
        base: configuration to start from in place of `search.base`.

    Returns:
        The search, the configuration, and what to tell about settings that were not carried over.

    Raises:
        ConfigError: a file is missing or not TOML, there is no `[search]` section, or a key or value is wrong.
    """
    path, base = find_config(path), None if base is None else find_config(base)
    tree = read_toml(path)
    if not isinstance(tree.get("search"), dict):
        raise ConfigError(f"{path}: there is no [search] section; configs/searches/ holds files that have one")
    settings = list(settings)
    own = [each.removeprefix("search.") for each in settings if each.startswith("search.")]
    search = resolve(SearchConfig, tree.pop("search"), own, f"{path}: search")
    if base is None and search.base is not None:
        base = path.parent / search.base
    notes: list[str] = []
    if base is not None:
        start = read_toml(base)
        if is_published(start):
            start, notes = translate(start, base)
            notes = [f"{base} has the published form; of its settings these are not carried over:", *notes]
        tree = _over(start, tree)
    rest = [each for each in settings if not each.startswith("search.")]
    source = str(path) if base is None else f"{path} over {base}"
    return search, resolve(RunConfig, tree, rest, source), notes


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged, the second's values counting."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _over(merged[key], value) if both else value
    return merged


def toml_text(tree: Mapping[str, Any], prefix: str = "") -> str:
    """Plain values as a TOML document; None, which TOML has not, is left out.

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
    plain = [f"{_key(key)} = {_value(value)}" for key, value in tree.items() if _is_plain(value)]
    parts = []
    if plain or (prefix and not tree):
        parts.append("\n".join([*([f"[{prefix}]"] if prefix else []), *plain, ""]))
    for key, value in tree.items():
        if isinstance(value, Mapping):
            parts.append(toml_text(value, f"{prefix}.{_key(key)}" if prefix else _key(key)))
    return "\n".join(part for part in parts if part)


def _is_plain(value: Any) -> bool:
    return value is not None and not isinstance(value, Mapping)


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
