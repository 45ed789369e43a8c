"""The method that is named; the only module that knows them all."""

from __future__ import annotations

from collections.abc import Mapping

from mmpsr.adaptation.base import AdaptationConfig, Method
from mmpsr.adaptation.mmd import Mmd
from mmpsr.adaptation.nrc import Nrc
from mmpsr.adaptation.shot import Shot
from mmpsr.adaptation.source import Oracle, SourceOnly
from mmpsr.adaptation.subject import SubjectBased
from mmpsr.config import ConfigError, nearest

__all__ = ["METHODS", "SECTIONS", "create_method"]

METHODS: Mapping[str, type[Method]] = {
    "source": SourceOnly, "mmd": Mmd, "subject": SubjectBased, "shot": Shot, "nrc": Nrc, "oracle": Oracle,
}  # fmt: skip
"""Name -> method, in the order of tables."""

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "source": (), "mmd": ("with_source",), "subject": ("with_source", "subject"), "shot": ("source_free", "shot"),
    "nrc": ("source_free", "nrc"), "oracle": ("with_source",),
}  # fmt: skip
"""Name -> sections of the settings that it reads, besides `form`, `network`, `source` and `width`, which all read."""


def create_method(name: str, config: AdaptationConfig) -> Method:
    """Create a method.

    Raises:
        ConfigError: there is none of this name; the nearest is named.
    """
    if name not in METHODS:
        raise ConfigError(f"no method of adaptation is named {name!r}; {nearest(name, METHODS)}")
    return METHODS[name](config)
