"""Splits that a user asks for instead of a corpus' own: shares of the groups, held-out groups, folds.

Where chance decides, it is a hash of the corpus' name and the group, so that neither the order of the rows nor clips
that are added later move a group to another split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from corpora.clips import SPLITS, CorpusError, Split
from mmpsr.config import Config, nearest

__all__ = ["Fold", "Fraction", "HoldOut", "dealing", "dealing_advice", "resplit", "split_by_group", "working_shares"]

MOST_FOLDS = 10
"""Folds that are proposed at most."""

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
        fold, splits = settings.fold, _fold(name, groups, settings.fold)
        if not splits.eq("test").any():
            raise CorpusError(
                f"corpora.sources.{name}.fold: none of the {groups.nunique()} groups fell into fold {fold.number} of "
                f"{fold.of}; {_folds_advice(name, groups)}"
            )
        return splits
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


def dealing(groups: pd.Series, splits: pd.Series) -> str:
    """Describe how groups were dealt: groups and clips of train, dev and test.

    Args:
        groups: group by clip; a clip without one counts alone.
        splits: split by clip.

    Example:
        >>> dealing(pd.Series(["a", "a", "b"]), pd.Series(["train", "train", "dev"]))
        '2 groups: train 1 group (2 clips), dev 1 group (1 clip), test 0 groups (0 clips)'
    """
    parts = []
    for split in SPLITS:
        rows = splits.eq(split).fillna(False).astype(bool)
        parts.append(f"{split} {_count(_num_groups(groups[rows]), 'group')} ({_count(int(rows.sum()), 'clip')})")
    return f"{_count(_num_groups(groups), 'group')}: {', '.join(parts)}"


def dealing_advice(name: str, groups: pd.Series, splits: pd.Series, settings: SplitSettings) -> str:
    """Say how groups were dealt, and which settings give each split a group: shares of these groups, and folds.

    Shares and folds are tried on the groups before they are named.

    Args:
        name: the corpus' name in the configuration.
        groups: group by clip.
        splits: what became of them.
        settings: by which they were split, with `splits_anew`.
    """
    place = f"corpora.sources.{name}"
    parts = [f"dealt {dealing(groups, splits)}"]
    fractions = settings.fractions
    asked: Mapping[Split, float] = {"train": 0.6, "dev": 0.2, "test": 0.2} if fractions is None else fractions
    shares = working_shares(name, groups, asked)
    if shares is None:
        needed = len([split for split in SPLITS if split in asked])
        parts.append(
            f"{needed} splits need {needed} groups or more: name participants under {place}.group, or add clips"
        )
        return "; ".join(parts)
    drawn = split_by_group(name, groups, shares)
    counts = ", ".join(f"{_num_groups(groups[drawn.eq(split).fillna(False)])} {split}" for split in shares)
    values = ", ".join(f"{split} = {share:g}" for split, share in shares.items())
    way = "" if fractions is not None else f" in place of {'fold' if settings.fold is not None else 'hold_out'}"
    parts.append(f"{place}.fractions = {{ {values} }}{way} deals these groups {counts}")
    parts.append(_folds_advice(name, groups))
    return "; ".join(parts)


def _folds_advice(name: str, groups: pd.Series) -> str:
    """Propose the most folds of which each has groups in train, dev and test, or groups by name."""
    for number in range(min(MOST_FOLDS, _num_groups(groups)), 2, -1):
        dev = round(1 / (number - 1), 4)
        folds = [Fold(of=number, number=place, dev=dev) for place in range(number)]
        if all(_fold(name, groups, fold).nunique() == len(SPLITS) for fold in folds):
            return (
                f"a study with folds = {number} tests every group once, or set corpora.sources.{name}.fold = "
                f"{{ of = {number}, number = 0, dev = {dev:g} }}"
            )
    known = sorted(groups.dropna().unique())
    held = f"{{ test = {json.dumps(known[-1:])}, dev = {json.dumps(known[:1])} }}"
    example = f", for example corpora.sources.{name}.hold_out = {held}"
    return (
        "no number of folds gives each fold groups in train, dev and test (folds of a study are dealt by hash, too); "
        f"name the groups of dev and test under hold_out, in turn{example if len(known) > 2 else ''}"
    )


def working_shares(name: str, groups: pd.Series, asked: Mapping[Split, float]) -> dict[Split, float] | None:
    """Find shares by which each split asked for gets groups, in numbers near those asked for; None with too few."""
    present = [split for split in SPLITS if split in asked]
    chances = sorted(_chance(f"{name}/{group}") for group in groups.dropna().unique())
    if len(chances) < len(present):
        return None
    counts = dict.fromkeys(present, 1)
    for _ in range(len(chances) - len(present)):
        neediest = max(present, key=lambda split: asked[split] * len(chances) - counts[split])
        counts[neediest] += 1
    ends = np.cumsum(list(counts.values()))[:-1]
    for digits in range(1, 16):
        bounds = [round((chances[end - 1] + chances[end]) / 2, digits) for end in ends]
        shares = np.round(np.diff([0.0, *bounds, 1.0]), digits)
        proposal = dict(zip(present, shares.tolist(), strict=True))
        if shares.min() <= 0.0:
            continue
        drawn = split_by_group(name, groups, proposal)
        if all(_num_groups(groups[drawn.eq(split).fillna(False)]) == counts[split] for split in present):
            return proposal
    return None


def _num_groups(groups: pd.Series) -> int:
    return int(groups.nunique() + groups.isna().sum())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _chance(name: str) -> float:
    """Draw a number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _by_value(values: pd.Series, draw: Callable[[str], str]) -> pd.Series:
    return values.map({value: draw(value) for value in values.dropna().unique()}).astype("string")


def _fold(name: str, groups: pd.Series, fold: Fold) -> pd.Series:
    folds = _by_value(groups, lambda group: str(int(_chance(f"{name}/fold/{group}") * fold.of)))
    return _with_dev(name, groups, folds.eq(str(fold.number)).fillna(False), fold.dev)


def _with_dev(name: str, groups: pd.Series, test: pd.Series, dev: float) -> pd.Series:
    splits = _by_value(groups, lambda group: "dev" if _chance(f"{name}/dev/{group}") < dev else "train")
    return splits.mask(test.astype(bool), "test")
