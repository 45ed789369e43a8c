"""What the classes of a task mean, in words: names, templates, definitions, spoken phrases, described behaviour.

Embedded by a text encoder they stand for the classes without a label: a clip is of the class whose texts it is nearest
to. Those of emotion, personality and ambivalence ship with the package.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mmpsr.config import Config, ConfigError, nearest, validate

__all__ = ["SHIPPED", "WORDINGS", "ClassTexts", "Meaning", "TaskTexts", "Wording", "read_task_texts"]

Wording = Literal["names", "templates", "definitions", "phrases", "behaviors"]
WORDINGS: tuple[Wording, ...] = ("names", "templates", "definitions", "phrases", "behaviors")
_FOLDER = Path(__file__).parent / "shipped"
SHIPPED = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
"""Tasks whose texts ship."""


class Meaning(Config):
    """A class, or a pole of a trait, in words."""

    name: str = Field(min_length=1)
    """A noun, for `{name}` of templates."""
    adjective: str | None = None
    """For `{adjective}` of templates; templates that want one are left out without it."""
    definitions: tuple[str, ...] = ()
    """What a dictionary would say."""
    phrases: tuple[str, ...] = ()
    """What someone says who feels or is like that."""
    behaviors: tuple[str, ...] = ()
    """How someone looks and moves; compared with described behaviour only."""

    def wording(self, kind: Wording, templates: tuple[str, ...]) -> tuple[str, ...]:
        """List the texts of a kind; empty where there is none."""
        if kind == "names":
            return (self.name,)
        if kind == "templates":
            words = {"name": self.name, "adjective": self.adjective}
            filled = (template.format(**words) for template in templates if self.adjective or "{adj" not in template)
            return tuple(text[:1].upper() + text[1:] for text in filled)
        return {"definitions": self.definitions, "phrases": self.phrases, "behaviors": self.behaviors}[kind]


class ClassTexts(Meaning):
    """The texts of an output: of a class, or of a trait's high pole beside its low one."""

    opposite: Meaning | None = None
    """The low pole of a trait; for regression."""


class TaskTexts(Config):
    """The texts of all classes of a task; with `kind`, `metrics` and `neutral` they declare one of their own."""

    templates: tuple[str, ...] = ()
    """Sentences with `{name}` or `{adjective}`, said of every class."""
    texts: dict[str, ClassTexts] = Field(min_length=1)
    """By name of the class, in the order of the outputs."""
    kind: Literal["single_label", "multi_label", "regression"] | None = None
    """What a task of these texts alone predicts; left out, one class. A declared task's own kind must be the same."""
    metrics: tuple[str, ...] = ()
    """Metrics of a task of these texts alone; left out, the usual ones of its kind. A declared task has its own."""
    neutral: str | None = None
    """The class that is present exactly when no other is; of several labels. A declared task's must be the same."""

    @model_validator(mode="after")
    def _templates_can_be_filled(self) -> TaskTexts:
        for template in self.templates:
            try:
                template.format(name="", adjective="")
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(
                    f"template {template!r} cannot be filled: it may hold {{name}} and {{adjective}} alone"
                ) from error
        return self

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> TaskTexts:
        if self.kind == "regression":
            self.require_poles()
        if self.neutral is not None and self.neutral not in self.texts:
            raise ValueError(f"neutral: no class is named {self.neutral!r}; {nearest(self.neutral, self.texts)}")
        return self

    def require_poles(self) -> None:
        """Raise a `ValueError` unless there are texts of both poles of every trait."""
        for name, meaning in self.texts.items():
            if meaning.opposite is None:
                raise ValueError(f"[texts.{name}.opposite] is missing: a trait needs the texts of both its poles")

    def require_classes(self, classes: tuple[str, ...], place: str) -> None:
        """Raise a `ConfigError` unless there are texts of exactly these classes."""
        missing = [name for name in classes if name not in self.texts]
        if missing:
            raise ConfigError(f"{place}: there is no text of {', '.join(map(repr, missing))}; found {list(self.texts)}")
        for name in self.texts:
            if name not in classes:
                raise ConfigError(f"{place}: no class is named {name!r}; {nearest(name, classes)}")


def read_task_texts(source: str | Path, place: str = "texts") -> TaskTexts:
    """Read the texts of a task by the name of shipped ones, or from a TOML file.

    Args:
        source: one of `SHIPPED`, or a file with `templates` and `[texts.<class>]`.
        place: what names it, for errors.

    Raises:
        ConfigError: there is neither, or the file is not what it should be.
    """
    path = _FOLDER / f"{source}.toml" if str(source) in SHIPPED else Path(source)
    if not path.is_file():
        raise ConfigError(
            f"{place}: {str(source)!r} is neither a file nor one of the tasks whose texts ship ({', '.join(SHIPPED)})"
        )
    try:
        tree: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: {path} is not TOML: {error}") from error
    return validate(TaskTexts, tree, f"{place}: {path}")
