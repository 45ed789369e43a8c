"""What can be set: every field of configuration models with its type, default and meaning, told by the models."""

from __future__ import annotations

import fnmatch
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from mmpsr.config import Config, alternatives, lines_under_fields, toml_of
from mmpsr.tasks import TaskSpec

__all__ = ["Setting", "matching", "settings_of"]

OPENED: Mapping[str, type[Config]] = {"tasks.specs": TaskSpec}
"""Tables whose values are read later, as these models."""
BY: Mapping[str, str] = {"labels": "<task>", "specs": "<task>", "metrics": "<task>", "precomputed": "<name>"}
"""Field -> what the names of its table are; else `<name>`."""
_BASES = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    object: "any value",
    Any: "any value",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class Setting:
    """One field.

    Attributes:
        place: its path, with `<name>` where a user names something.
        type: in words.
        default: as TOML, `required`, or `-` where it is left out.
        meaning: the line under the field.
        when: settings on which it is one, of which one has to hold; none where it always is.
    """

    place: str
    type: str
    default: str
    meaning: str
    when: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The meaning, and of which kinds of a section it is one."""
        return self.meaning if not self.when else f"{self.meaning} Where {' or '.join(self.when)}."


def settings_of(model: type[Config], prefix: str = "") -> list[Setting]:
    """List all fields of a model and of the models in it, in their order.

    Args:
        model: of a configuration file, or of a section.
        prefix: path of the section, with its last dot.

    Example:
        >>> from training.config import OutputConfig
        >>> next(iter(settings_of(OutputConfig, "output.")))
        Setting(place='output.directory', type='text', default='"runs"', meaning='Folder of all runs, ...', when=())
    """
    return _settings_of(model, prefix, {})


def _settings_of(model: type[Config], prefix: str, seen: dict[type[Config], str]) -> list[Setting]:
    """List fields; those of a section that may stand in place of a plain value stand once, where it is first met."""
    found: list[Setting] = []
    lines = lines_under_fields(model)
    for name, field in model.model_fields.items():
        place, meaning = f"{prefix}{name}", " ".join(lines.get(name, field.description or "").split())
        kinds = [kind for kind in alternatives(field.annotation) if kind is not type(None)]
        opened = OPENED.get(place)
        inside = [(end, part) for kind in kinds for end, part in _models_in(kind, name)] if opened is None else []
        inside += [] if opened is None else [(f".{BY.get(name, '<name>')}", opened)]
        words = _type_of(field.annotation, field.metadata)
        if any(not _is_model(kind) for kind in kinds) and any(map(_is_model, kinds)):
            again = [seen[part] for _, part in inside if part in seen]
            inside = [(end, part) for end, part in inside if part not in seen]
            seen |= {part: place for _, part in inside}
            words = words.replace("section", f"section as `{again[0]}`" if again else "section")
        if not kinds or not all(map(_is_model, kinds)) or type(None) in alternatives(field.annotation):
            found.append(Setting(place, words, _default_of(field), meaning))
        found += _merged([(part, _settings_of(part, f"{place}{end}.", seen)) for end, part in inside])
    return found


def matching(settings: Iterable[Setting], pattern: str) -> list[Setting]:
    """Choose settings by a part of their path, a pattern with stars, or, where no path has it, a word of their meaning.

    Example:
        >>> each = Setting("training.lr", "number", "1e-4", "Learning rate.")
        >>> [matching([each], pattern) == [each] for pattern in ("lr", "training.*", "RATE", "epoch")]
        [True, True, True, False]
    """
    settings, text = list(settings), pattern.casefold()
    if any(sign in text for sign in "*?["):
        return [setting for setting in settings if fnmatch.fnmatchcase(setting.place.casefold(), text)]
    by_place = [setting for setting in settings if text in setting.place.casefold()]
    return by_place or [setting for setting in settings if text in setting.meaning.casefold()]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Config)


def _models_in(kind: Any, name: str) -> Iterator[tuple[str, type[Config]]]:
    """Yield the models that a type holds, and what follows the field's name before their own fields."""
    if _is_model(kind):
        yield "", kind
    elif get_origin(kind) is dict:
        for value in alternatives(get_args(kind)[1]):
            yield from ((f".{BY.get(name, '<name>')}{end}", part) for end, part in _models_in(value, name))
    elif get_origin(kind) in (list, tuple) and get_args(kind):
        for value in alternatives(get_args(kind)[0]):
            yield from ((f"[]{end}", part) for end, part in _models_in(value, name))


def _merged(parts: Sequence[tuple[type[Config], list[Setting]]]) -> list[Setting]:
    """Write settings once that several kinds of a section share; those of some say of which."""
    if len(parts) == 1:
        return parts[0][1]
    kinds: dict[Setting, list[str]] = {}
    for model, settings in parts:
        for setting in settings:
            kinds.setdefault(setting, []).append(_kind_of(model))
    merged = []
    for setting, names in kinds.items():
        own = () if len(names) == len(parts) or not all(names) else tuple(dict.fromkeys(names))
        merged.append(replace(setting, when=(*setting.when, *own)))
    return merged


def _kind_of(model: type[Config]) -> str:
    """Say by which field and value a kind of a section is chosen; nothing where it is told otherwise."""
    for name in ("kind", "adapter", "method"):
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is Literal:
            return f"{name} = {' or '.join(map(toml_of, get_args(field.annotation)))}"
    return ""


def _default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return "-"
    return toml_of(default.model_dump(mode="json") if isinstance(default, Config) else default)


def _type_of(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Say in words what a value may be."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    bounds = _bounds(metadata)
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _type_of(arguments[0], [*annotation.__metadata__, *metadata])
    if origin in (Union, types.UnionType):
        words = [_type_of(each, metadata) for each in arguments if each is not type(None)]
        return " or ".join(dict.fromkeys(words))
    if origin is Literal:
        return ", ".join(map(toml_of, arguments))
    if origin is dict:
        return f"table by name: {_type_of(arguments[1])}"
    if origin in (list, tuple):
        if origin is tuple and arguments[-1] is not Ellipsis:
            return f"list of {len(arguments)}: {_type_of(arguments[0])}"
        return f"list: {_type_of(arguments[0])}{bounds}"
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return "section"
    return f"{_BASES.get(annotation, getattr(annotation, '__name__', str(annotation)))}{bounds}"


def _bounds(metadata: Iterable[Any]) -> str:
    words = []
    for each in metadata:
        if isinstance(each, FieldInfo):
            words.append(_bounds(each.metadata).removeprefix(", "))
            continue
        words += [f"{word} {getattr(each, name):g}" for name, word in _BOUNDS.items() if hasattr(each, name)]
        if least := getattr(each, "min_length", 0):
            words.append(f"{least} or more" if least > 1 else "not empty")
    return "".join(f", {word}" for word in words if word)
