"""A participant's rows cut into what is adapted to, a validation part, and what is judged.

N rows of the participant.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.adaptation.config import ProtocolConfig, SplitBy
from training.adaptation.material import Material

__all__ = ["Parts", "cut", "seed_of"]

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """Rows of a participant by what they are for, ascending.

    Attributes:
        train: adapted to, without labels.
        val: for `select = "labelled"`.
        test: judged.
        split_by: what stayed together.
        note: why that is not what was asked for; empty where it is.
    """

    train: Rows
    val: Rows
    test: Rows
    split_by: SplitBy
    note: str = ""


def seed_of(seed: int, *names: str) -> int:
    """Derive a seed that depends on names alone, and not on who else is there.

    Example:
        >>> seed_of(0, "anna") == seed_of(0, "anna"), seed_of(0, "anna") == seed_of(0, "bert")
        (True, False)
    """
    words = [seed, *(zlib.crc32(name.encode()) for name in names)]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) >> 1


def cut(person: Material, config: ProtocolConfig, seed: int) -> Parts:
    """Cut a participant's rows by `config.fractions`, class by class.

    Units are rows, segments or videos; a video with any row of the second class counts as one of it. In random order
    each unit goes to the part that lacks most rows, so that single rows are cut to within one row.

    Args:
        person: rows of one participant, at least one of each class.
        config: the protocol.
        seed: of the order, and of the draw of `classes = "equal"`.
    """
    generator = np.random.default_rng(seed)
    rows = np.arange(len(person))
    if config.classes == "equal":
        absent, present = (np.flatnonzero(person.labels == label) for label in (0, 1))
        drawn = generator.permutation(absent)[: len(present)]
        rows = np.sort(np.concatenate([drawn, present]))
    labels = person.labels[rows]
    units = {
        "frame": np.arange(len(rows)),
        "segment": person.segments()[rows],
        "video": np.unique(person.videos[rows], return_inverse=True)[1],
    }
    parts = _cut(labels, units[config.split_by], config.fractions, generator)
    split_by, note = config.split_by, ""
    if config.split_by == "video" and not _has_both(labels, parts):
        num_videos, num_present = (len(np.unique(units["video"][of])) for of in (labels >= 0, labels == 1))
        split_by = "segment"
        note = f"{num_videos} video(s), {num_present} with the second class: cut by segment"
        parts = _cut(labels, units["segment"], config.fractions, generator)
    train, val, test = (rows[part] for part in parts)
    return Parts(train, val, test, split_by, note)


def _has_both(labels: NDArray[np.int64], parts: Sequence[Rows]) -> bool:
    """Whether what is adapted to and what is judged have both classes."""
    return all(len(np.unique(labels[part])) == 2 for part in (parts[0], parts[2]))


def _cut(
    labels: NDArray[np.int64], units: NDArray[np.int64], fractions: Sequence[float], generator: np.random.Generator
) -> list[Rows]:
    """Give the rows of each part, ascending."""
    _, units, sizes = np.unique(units, return_inverse=True, return_counts=True)
    is_present = np.bincount(units, weights=labels, minlength=len(sizes)) > 0
    part_of = np.empty(len(sizes), dtype=np.int64)
    for value in (True, False):
        own = generator.permutation(np.flatnonzero(is_present == value))
        part_of[own] = list(_dealt(sizes[own], fractions))
    return [np.flatnonzero(part_of[units] == part) for part in range(3)]


def _dealt(sizes: NDArray[np.int64], fractions: Sequence[float]) -> Iterator[int]:
    """Deal units in order, each to the part that lacks most; of equals to what is judged before the others."""
    lacking = np.asarray(fractions) * sizes.sum()
    order = np.array([2, 0, 1])
    for size in sizes:
        part = int(order[np.argmax(np.round(lacking[order], 9))])
        lacking[part] -= size
        yield part
