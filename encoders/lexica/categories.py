"""Shares of a text's words that belong to Empath's categories; its list is read, not its code."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.errors import ExtractionError
from encoders.lexica.scores import Text

__all__ = ["category_names", "count_categories"]


@lru_cache(maxsize=1)
def _lists() -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Read the names of the categories, in order of the alphabet, and those of each word."""
    spec = find_spec("empath")
    if spec is None or spec.origin is None:
        raise ExtractionError("encoder 'empath' needs the package empath")
    path = Path(spec.origin).parent / "data" / "categories.tsv"
    if not path.is_file():
        raise ExtractionError(f"encoder 'empath' finds no word list at {path}; reinstall the package empath")
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = tuple(sorted(line[0] for line in lines))
    of_word: dict[str, set[int]] = {}
    for name, *words in lines:
        for word in words:
            of_word.setdefault(word.strip().lower(), set()).add(names.index(name))
    return names, {word: tuple(sorted(found)) for word, found in of_word.items() if word}


def category_names() -> tuple[str, ...]:
    """List the categories in the order of the columns."""
    return _lists()[0]


def count_categories(text: Text) -> NDArray[np.float32]:
    """Compute the share of a text's words that each category holds, between 0 and 1.

    Args:
        text: of at least one word.

    References:
        Fast, Chen and Bernstein: Empath: understanding topic signals in large-scale text. CHI 2016, arXiv:1602.06979.
    """
    names, of_word = _lists()
    counts = np.zeros(len(names), dtype=np.float32)
    for word in text.words:
        counts[list(of_word.get(word, ()))] += 1
    return counts / np.float32(len(text.words))
