"""YAML and pickles that come with a corpus, read without trust."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from corpora.clips import CorpusError
from mmpsr import unpickling

__all__ = ["ForbiddenTagError", "as_text", "load_pickle", "load_yaml", "read_yaml"]

TUPLE = "tag:yaml.org,2002:python/tuple"


LARGEST = 10_000_000
"""Most values that a document may hold once its aliases are written out."""


DEEPEST = 100
"""Most levels of lists and mappings within each other; thousands would overrun the parser's stack."""


class ForbiddenTagError(CorpusError):
    """A YAML tag that is not admitted."""


def read_yaml(path: Path, file: str) -> Any:
    """Read a YAML file; see `load_yaml`.

    Raises:
        CorpusError: also where the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{file} cannot be read: {error.strerror}") from None
    return load_yaml(data, file)


def load_yaml(data: bytes, file: str, first_line: int = 1) -> Any:
    """Read a YAML document of mappings, lists, plain scalars and `!!python/tuple`.

    Args:
        data: the document.
        file: the file's path as a user knows it, for messages.
        first_line: line of the file where the document begins.

    Raises:
        ForbiddenTagError: a value has another tag; file, line and tag are named.
        CorpusError: the document is damaged, or would grow beyond `LARGEST` values; the file is named.

    Example:
        >>> load_yaml(b"span: !!python/tuple [0.0, null]", "a.yml")
        {'span': (0.0, None)}
    """
    loader = _loader_class()(data)
    try:
        _require_shallow(data)
        node = loader.get_single_node()
        if b"*" in data and node is not None:
            _require_modest(node)
        return None if node is None else loader.construct_document(node)
    except ForbiddenTagError as error:
        line, tag = error.args
        raise ForbiddenTagError(
            f"{file}, line {first_line + line}: the tag {tag!r} is not admitted, only plain values and {TUPLE!r}; "
            "get the file from its authors again"
        ) from None
    except Exception as error:  # damaged scalars raise whatever Python's int, float or date raise
        mark = getattr(error, "problem_mark", None)
        place = file if mark is None else f"{file}, line {first_line + mark.line}"
        reason = getattr(error, "problem", None) or " ".join(str(error).split()) or type(error).__name__
        raise CorpusError(f"{place}: cannot be read as YAML: {reason}") from None
    finally:
        loader.dispose()


def as_text(value: object, file: str) -> str | None:
    """Text of a value: scalars as they are, lists and mappings as JSON, None where there is nothing.

    Raises:
        CorpusError: the value has no text, for example a number of many thousand digits.
    """
    if value is None or isinstance(value, str):
        return value
    try:
        return (
            json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list, tuple)) else str(value)
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise CorpusError(f"{file}: holds a value that cannot be written as text: {error}") from None


@cache
def _loader_class() -> Any:
    import yaml

    class Loader(yaml.CSafeLoader):
        """A safe loader that also knows tuples, and refuses every other tag by name."""

    def construct_tuple(loader: Any, node: Any) -> tuple[Any, ...]:
        return tuple(loader.construct_sequence(node))

    def refuse(loader: Any, node: Any) -> None:
        raise ForbiddenTagError(node.start_mark.line, node.tag)

    Loader.add_constructor(TUPLE, construct_tuple)
    Loader.add_constructor(None, refuse)
    return Loader


def _require_shallow(data: bytes) -> None:
    """Refuse documents deeper than `DEEPEST`, before they are composed."""
    if sum(data.count(sign) for sign in b"[{-:?") <= DEEPEST:  # each list and each mapping has one of its own
        return
    import yaml

    too_deep = ValueError(f"lists and mappings lie more than {DEEPEST} deep within each other")
    depth = 0
    try:
        for event in yaml.parse(data, Loader=yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise too_deep
    except yaml.MarkedYAMLError as error:
        if "nesting" in (error.problem or ""):  # since 6.0.4 the scanner, which reads ahead, has a bound of its own
            raise too_deep from None
        raise


def _require_modest(root: Any) -> None:
    """Refuse documents whose aliases refer to themselves or multiply to more than `LARGEST` values."""
    sizes: dict[int, int | None] = {}

    def size(node: Any) -> int:
        known = sizes.setdefault(id(node), None)
        if known is None:
            children = [] if isinstance(node.value, str) else node.value
            parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
            if any(sizes.get(id(part), 0) is None for part in parts):
                raise ValueError("an alias refers to what holds it")
            known = sizes[id(node)] = 1 + sum(size(part) for part in parts)
        if known > LARGEST:
            raise ValueError(f"its aliases stand for more than {LARGEST} values")
        return known

    size(root)


def load_pickle(path: Path, shown: str, arrays: bool = False) -> object:
    """As `mmpsr.unpickling.load_pickle`.

    Raises:
        CorpusError: the pickle is not read.
    """
    try:
        return unpickling.load_pickle(path, shown, arrays)
    except unpickling.PickleError as error:
        raise CorpusError(f"{error}; get it from the corpus' owners") from None
