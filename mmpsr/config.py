"""Typed configuration: TOML files and `section.key=value` settings, checked by pydantic models.

Every package declares its own `Config` models beside the code that reads them. A run composes them into one
model, and `load_config` fills it from a file and the command line. All errors name the place and the nearest
right name.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo

from mmpsr.errors import UserError

__all__ = [
    "Config",
    "ConfigError",
    "MissingConfigError",
    "alternatives",
    "base_of",
    "find_config",
    "flat",
    "lines_under_fields",
    "load_config",
    "nearest",
    "parse_setting",
    "put",
    "read_toml",
    "resolve",
    "shipped_configs",
    "shipped_file",
    "split_key",
    "toml_of",
    "validate",
]

_HERE = Path(__file__).resolve().parent
_SHIPPED = _HERE / "configs" if (_HERE / "configs").is_dir() else _HERE.parent / "configs"
"""In an installed wheel beside this file, in a checkout beside the packages."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KEY_PART = re.compile(r"""[^."']+|"[^"]*"|'[^']*'""")


class ConfigError(UserError):
    """A configuration that cannot be used; the message says what was found, where, and what to do."""


class MissingConfigError(ConfigError, FileNotFoundError):
    """A configuration file that is not there."""


class Config(BaseModel):
    """Base of every configuration model: unknown keys are errors, values are checked, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe each field by the lines under it, which nothing but a schema asks for: they take long to read."""
        made = handler(schema)
        properties = handler.resolve_ref_schema(made)["properties"]
        for name, text in lines_under_fields(cls).items():
            field = properties.get(name)  # None of a class variable
            if field is not None and handler.resolve_ref_schema(field).get("description") != text:
                field["description"] = text
        return made


@cache
def lines_under_fields(model: type[Config]) -> dict[str, str]:
    """Read the string under each field, also of the classes that a model derives from."""
    lines = {}
    for part in reversed(model.__mro__[: model.__mro__.index(Config)]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in pairwise(tree.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                lines[field.target.id] = inspect.cleandoc(ast.literal_eval(below.value))
    return lines


ConfigT = TypeVar("ConfigT", bound=Config)


def nearest(name: str, known: Iterable[str]) -> str:
    """Word the part of a sentence that points from a wrong name to right ones.

    Example:
        >>> nearest("emotoin", ["emotion", "personality"])
        "did you mean 'emotion'?"
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known names are {', '.join(sorted(known))}" if known else "nothing may stand here"


def base_of(modality: str) -> str:
    """Return the modality that a view is of, what stands before the dot; a modality is its own.

    Example:
        >>> base_of("text.lexica"), base_of("text")
        ('text', 'text')
    """
    return modality.partition(".")[0]


def split_key(key: str) -> list[str]:
    """Split the path of a setting at its dots; a name that has a dot itself stands in quotes, as in TOML.

    Example:
        >>> split_key("training.lr"), split_key('features.encoders."text.lexica"')
        (['training', 'lr'], ['features', 'encoders', 'text.lexica'])
    """
    parts = _KEY_PART.findall(key)
    if not parts or ".".join(parts) != key:  # a quote that is not closed, or something beside one
        return [""]
    return [part[1:-1] if part[:1] in ("'", '"') else part.strip() for part in parts]


def parse_setting(setting: str) -> tuple[list[str], Any]:
    """Split `section.key=value` and read the value as TOML, or as a plain string where it is not TOML.

    Example:
        >>> parse_setting("training.lr=3e-4")
        (['training', 'lr'], 0.0003)
        >>> parse_setting("model.graph=gat")
        (['model', 'graph'], 'gat')
        >>> parse_setting('features.encoders."text.lexica"=lexica')[0]
        ['features', 'encoders', 'text.lexica']
    """
    key, separator, text = setting.partition("=")
    keys = split_key(key)
    if not separator or not all(keys):
        raise ConfigError(f"--set {setting!r}: expected section.key=value, for example --set training.lr=3e-4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return keys, value


def alternatives(annotation: Any) -> list[Any]:
    """List the types that an annotation admits: unions and `Annotated` opened, containers kept."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return alternatives(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [member for argument in get_args(annotation) for member in alternatives(argument)]
    return [annotation]


def _fields(annotation: Any) -> Mapping[str, FieldInfo]:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation.model_fields if is_model else {}


def _children(annotation: Any, part: Any) -> list[Any]:
    """List types that may stand at the key or position `part` of a value of type `annotation`."""
    if part in _fields(annotation):
        return alternatives(_fields(annotation)[part].annotation)
    arguments = get_args(annotation)
    if get_origin(annotation) in (list, tuple) and arguments:
        return alternatives(arguments[0])
    return alternatives(arguments[-1]) if get_origin(annotation) is dict else []


def _is_tagged(annotation: Any, tag: Any) -> bool:
    literals = (get_args(field.annotation) for field in _fields(annotation).values())
    return getattr(annotation, "__name__", None) == tag or any(tag in values for values in literals)


def _locate(model: type[Config], tree: object, location: Sequence[Any]) -> tuple[tuple[str, ...], list[str], list[Any]]:
    """Find what a user wrote of a pydantic location, the names allowed where it ends, and the types expected there.

    Pydantic puts the tag of a union's member (`table`, `str`) into its locations; these are left out, and only the
    member's names are offered.
    """
    types: list[Any] = [model]
    shown: list[str] = []
    names: list[str] = []
    for part in location:
        fields = [name for annotation in types for name in _fields(annotation)]
        is_key = isinstance(tree, Mapping) and part in tree
        if not (is_key or part in fields or (isinstance(tree, list) and isinstance(part, int))):
            types = [annotation for annotation in types if _is_tagged(annotation, part)] or types
            continue
        shown.append(str(part))
        names = fields
        types = [child for annotation in types for child in _children(annotation, part)]
        tree = tree[part] if isinstance(tree, (Mapping, list)) and (is_key or isinstance(part, int)) else None
    return tuple(shown), names, types


def _explain(error: ValidationError, model: type[Config], tree: Mapping[str, Any], source: str) -> str:
    messages: dict[tuple[str, ...], list[str]] = {}
    values: dict[tuple[str, ...], str] = {}
    for item in error.errors():
        kind, context = item["type"], item.get("ctx", {})
        discriminator = (context["discriminator"].strip("'"),) if kind.startswith("union_tag") else ()
        place, names, types = _locate(model, tree, (*item["loc"], *discriminator))
        known = [str(value) for annotation in types for value in get_args(annotation)]
        if kind == "extra_forbidden":
            message = f"is not a setting; {nearest(place[-1], names)}"
        elif kind == "missing":
            message = "is missing"
        elif kind == "union_tag_invalid":
            message = f"{context['tag']!r} is not known; {nearest(context['tag'], known)}"
        elif kind == "union_tag_not_found":
            message = f"is missing; {nearest('', known)}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            if not isinstance(item["input"], dict):
                values[place] = f" (found {item['input']!r})"
        messages.setdefault(place, []).append(message)
    deepest = [place for place in messages if not any(other[: len(place)] == place != other for other in messages)]
    lines = []
    for place in deepest:
        message = " or ".join(dict.fromkeys(messages[place]))
        separator = "" if not place else " " if message.startswith("is ") else ": "
        lines.append(".".join(place) + separator + message + values.get(place, ""))
    return f"{source}: " + "; ".join(lines)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name the settings of a nested table by their path.

    Example:
        >>> flat({"training": {"seed": 0, "lr": 0.1}})
        {'training.seed': 0, 'training.lr': 0.1}
    """
    settings: dict[str, Any] = {}
    for key, value in tree.items():
        settings |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return settings


def toml_of(value: object) -> str:
    """Write a value in one line of TOML: a string, number, list or truth as in JSON, a table in braces.

    Example:
        >>> toml_of({"column": "feeling", "values": {"so so": "Neutral"}})
        '{ column = "feeling", values = { "so so" = "Neutral" } }'
    """
    if isinstance(value, Mapping):
        pairs = (f"{key if _BARE.fullmatch(key) else json.dumps(key)} = {toml_of(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_of, value))}]"
    return json.dumps(value, ensure_ascii=False)


def put(tree: dict[str, Any], path: Sequence[str], value: Any, source: str) -> None:
    """Set a value in a nested table, whose sections are made where they are not there.

    Args:
        tree: the table, which is changed.
        path: names of the sections, and of the value.
        value: of the setting.
        source: names the place in errors.

    Raises:
        ConfigError: what should be a section is a value.

    Example:
        >>> tree = {"training": {"seed": 0}}
        >>> put(tree, ["training", "lr"], 0.1, "a.toml")
        >>> tree
        {'training': {'seed': 0, 'lr': 0.1}}
    """
    for depth, part in enumerate(path[:-1]):
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{source}: {'.'.join(path[: depth + 1])} is a value, not a section")
    tree[path[-1]] = value


def shipped_configs() -> dict[str, Path]:
    """List configurations that ship, by the name that `--config` takes, such as `demo` and `studies/table1`."""
    files = sorted(_SHIPPED.rglob("*.toml"))
    return {path.relative_to(_SHIPPED).with_suffix("").as_posix(): path for path in files}


def shipped_file(name: str) -> Path:
    """Give the place of a file beside the configurations that ship; it need not be there.

    Example:
        >>> shipped_file("published/table01.csv").is_file()
        True
    """
    return _SHIPPED / name


def find_config(path: str | Path) -> Path:
    """Find the file of a path or of a shipped configuration's name; a file that exists comes before a name.

    `configs/demo.toml` is understood as the name `demo` where there is no such file, as outside a checkout.

    Example:
        >>> find_config("demo").name, find_config("studies/table1").name
        ('demo.toml', 'table1.toml')
        >>> find_config("nowhere/mine.toml").as_posix()
        'nowhere/mine.toml'
    """
    if Path(path).is_file():
        return Path(path)
    name = Path(path).as_posix().removeprefix("configs/").removesuffix(".toml")
    return shipped_configs().get(name, Path(path))


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file, or a shipped one by its name, see `find_config`.

    Raises:
        MissingConfigError: there is no such file.
        ConfigError: it is not TOML.
    """
    try:
        return tomllib.loads(find_config(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        name = Path(path).with_suffix("").as_posix()
        raise MissingConfigError(
            f"{path}: there is no such configuration file, and none that ships is named {name!r}; "
            f"{nearest(name, shipped_configs())}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def load_config(model: type[ConfigT], path: str | Path | None = None, settings: Iterable[str] = ()) -> ConfigT:
    """Read a TOML file, apply `section.key=value` settings over it, and validate.

    Args:
        model: the configuration model to fill.
        path: TOML file; `None` starts from the model's own defaults.
        settings: repeatable command-line settings, applied in order.

    Returns:
        The validated configuration.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown (the nearest right key is named), or a
            value is not allowed.
    """
    if path is None:
        return resolve(model, {}, settings, "configuration")
    return resolve(model, read_toml(path), settings, str(path))


def resolve(model: type[ConfigT], tree: dict[str, Any], settings: Iterable[str], source: str) -> ConfigT:
    """Apply `section.key=value` settings over plain values, which are changed, and validate; see `load_config`."""
    for setting in settings:
        keys, value = parse_setting(setting)
        put(tree, keys, value, f"--set {'.'.join(keys)}")
    return validate(model, tree, source)


def validate(model: type[ConfigT], tree: Mapping[str, Any], source: str) -> ConfigT:
    """Fill a configuration model from plain values.

    Args:
        model: the configuration model to fill.
        tree: sections and values.
        source: where they come from, for messages.

    Raises:
        ConfigError: a key is unknown (the nearest right key is named), or a value is not allowed.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, model, tree, source)) from None
