"""Splits that a user asks for instead of a corpus' own: shares of the groups, held-out groups, folds.

Where chance decides, it is a hash of the corpus' name and the group, so that neither the order of the rows nor clips
that are added later move a group to another split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from corpora.clips import SPLITS, CorpusError, Split
from mmpsr.config import Config, nearest

__all__ = ["Fold", "Fraction", "HoldOut", "resplit", "split_by_group"]

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]


class HoldOut(Config):
    """Named groups as dev and test, for example one session or one participant; the rest is train."""

    column: str = "group"
    """What to hold out by: `group`, `speaker`, `language`, or a `raw.<name>` column of the clip table."""
    test: tuple[str, ...] = Field(min_length=1)
    """Values of the column that become test; with one group this is a fold of leave-one-group-out."""
    dev: tuple[str, ...] | Fraction = 0.1
    """Values of the column that become dev, or the share of the rest, by hash (of the group where a clip has none)."""

    @model_validator(mode="after")
    def _apart(self) -> HoldOut:
        both = set(self.test) & set(self.dev if isinstance(self.dev, tuple) else ())
        if both:
            raise ValueError(f"{sorted(both)[0]!r} is held out as dev and as test")
        return self


class Fold(Config):
    """One of several folds of the groups, dealt out by their hash."""

    of: int = Field(ge=2)
    """How many folds there are."""
    number: int = Field(ge=0)
    """Which of them is test, counted from 0."""
    dev: Fraction = 0.1
    """Share of the remaining groups that becomes dev."""

    @model_validator(mode="after")
    def _among(self) -> Fold:
        if self.number >= self.of:
            raise ValueError(f"fold number {self.number} does not exist; {self.of} folds count from 0")
        return self


class SplitSettings(Config):
    """The settings by which any corpus can be split anew."""

    fractions: dict[Split, Fraction] | None = None
    """Share of the groups in each split, decided by a hash of corpus name and group that no other row changes."""
    hold_out: HoldOut | None = None
    """Groups that become dev and test."""
    fold: Fold | None = None
    """Fold of a cross-validation over groups."""

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, fractions: dict[Split, float] | None) -> dict[Split, float] | None:
        if fractions is not None and not np.isclose(sum(fractions.values()), 1.0):
            raise ValueError(f"fractions must sum to 1, they sum to {sum(fractions.values()):g}")
        return fractions

    @model_validator(mode="after")
    def _one_way(self) -> SplitSettings:
        given = [name for name in ("fractions", "hold_out", "fold") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each say what the splits are; keep one")
        return self

    @property
    def splits_anew(self) -> bool:
        """Whether the corpus' own splits are not used."""
        return not (self.fractions is None and self.hold_out is None and self.fold is None)


def resplit(name: str, clips: pd.DataFrame, settings: SplitSettings) -> pd.Series:
    """Give each clip the split that the settings ask for.

    Args:
        name: the corpus' name in the configuration.
        clips: with the columns `group` and the one held out by.
        settings: with `splits_anew`.

    Raises:
        CorpusError: there is no such column, a group to hold out does not occur, or no group is in the fold.
    """
    groups = clips["group"].astype("string")
    if settings.fractions is not None:
        return split_by_group(name, groups, settings.fractions)
    if settings.fold is not None:
        fold = settings.fold
        folds = _by_value(groups, lambda group: str(int(_chance(f"{name}/fold/{group}") * fold.of)))
        test = folds.eq(str(fold.number)).fillna(False)
        if not test.any():
            raise CorpusError(
                f"corpora.sources.{name}.fold: none of the {groups.nunique()} groups fell into fold {fold.number} of "
                f"{fold.of}; set fewer folds, or name groups under hold_out"
            )
        return _with_dev(name, groups, test, fold.dev)
    assert settings.hold_out is not None  # splits_anew
    held = settings.hold_out
    if held.column not in clips:
        raise CorpusError(
            f"corpora.sources.{name}.hold_out.column: the clip table has no column {held.column!r}; "
            f"{nearest(held.column, map(str, clips.columns))}"
        )
    values = clips[held.column].astype("string")
    for value in (*held.test, *(held.dev if isinstance(held.dev, tuple) else ())):
        if not values.eq(value).any():
            known = values.dropna().unique().tolist()
            raise CorpusError(
                f"corpora.sources.{name}.hold_out: no clip has {value!r} in {held.column!r}; {nearest(value, known)}"
            )
    test = values.isin(list(held.test))
    if not isinstance(held.dev, tuple):
        return _with_dev(name, values.fillna(groups), test, held.dev)
    splits = pd.Series("train", index=clips.index, dtype="string")
    return splits.mask(values.isin(list(held.dev)), "dev").mask(test, "test")


def split_by_group(name: str, groups: pd.Series, fractions: Mapping[Split, float]) -> pd.Series:
    """Draw each group's split from a SHA-256 of `<corpus name>/<group>`: the same whatever else the table holds.

    Args:
        name: the corpus' name in the configuration; renaming a corpus draws anew.
        groups: group by row; missing stays missing.
        fractions: expected share of the groups by split, summing to 1.

    Example:
        >>> split_by_group("toy", pd.Series(["c", "d", "c"]), {"train": 0.5, "dev": 0.5}).tolist()
        ['dev', 'train', 'dev']
    """
    present = [split for split in SPLITS if split in fractions]
    bounds = np.cumsum([fractions[split] for split in present])[:-1]

    def draw(group: str) -> Split:
        return present[int(np.searchsorted(bounds, _chance(f"{name}/{group}"), side="right"))]

    return _by_value(groups, draw)


def _chance(name: str) -> float:
    """Draw a number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _by_value(values: pd.Series, draw: Callable[[str], str]) -> pd.Series:
    return values.map({value: draw(value) for value in values.dropna().unique()}).astype("string")


def _with_dev(name: str, groups: pd.Series, test: pd.Series, dev: float) -> pd.Series:
    splits = _by_value(groups, lambda group: "dev" if _chance(f"{name}/dev/{group}") < dev else "train")
    return splits.mask(test.astype(bool), "test")
