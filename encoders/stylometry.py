"""Encoder `stylometry`: how a text is written, whatever it says, counted without a list of words or a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import Embeddings, Encoder, Pooling, read_each
from encoders.media.clip import ClipMedia
from encoders.models.text import SOURCES, text_of

__all__ = ["MEASURES", "Stylometry", "measure"]

MEASURES: tuple[str, ...] = (
    "words", "characters", "log_characters", "log_words", "log_sentences", "letters_of_a_word", "distinct_words",
    "commas", "sentences", "questions", "exclamations", "digits", "capitals", "repetitions", "letters_of_a_word.std",
)  # fmt: skip
"""What each column is, in order.

Words are runs of letters, with apostrophes between, or numbers; sentences are runs of `.`, `!`, `?` and `…`, at least
one. Logarithms are of one more than the number. `distinct_words` (types per token), `commas`, `sentences`, `questions`,
`exclamations`, `capitals` (words that begin so) and `repetitions` (of the word before) are for each word, `digits` for
each character.
"""
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,:]\d+)*")
_END = re.compile(r"[.!?…]+")


def measure(text: str) -> NDArray[np.float32]:
    """Measure how a text is written: `[len(MEASURES)]`.

    Args:
        text: in any language; where words stand without spaces between them, a run of letters counts as one.

    Example:
        >>> values = dict(zip(MEASURES, measure("No, no. Why?").tolist()))
        >>> values["words"], round(values["repetitions"], 2), round(values["questions"], 2)
        (3.0, 0.33, 0.33)

    References:
        Mairesse, Walker, Mehl and Moore, Using linguistic cues for the automatic recognition of personality in
        conversation and text, JAIR 30, 2007, doi:10.1613/jair.2349.
    """
    words = _WORD.findall(text)
    lower = [word.lower().replace("’", "'") for word in words]
    lengths = [len(word) for word in words]
    ends = _END.findall(text)
    num_words, num_sentences = max(len(words), 1), max(len(ends), 1)
    values = (
        len(words), len(text), np.log1p(len(text)), np.log1p(len(words)), np.log1p(num_sentences),
        sum(lengths) / num_words, len(set(lower)) / num_words, text.count(",") / num_words,
        num_sentences / num_words, text.count("?") / num_words, text.count("!") / num_words,
        sum(character.isdigit() for character in text) / max(len(text), 1),
        sum(word[0].isupper() for word in words) / num_words,
        sum(one == next_one for one, next_one in pairwise(lower)) / num_words, np.std(lengths or [0]),
    )  # fmt: skip
    return np.array(values, dtype=np.float32)


class Stylometry(Encoder):
    """Length, words, sentences and punctuation of a clip's transcript (`text`) or described behaviour (`behavior`).

    In clips of one duration the number of words is how fast somebody speaks. Where durations differ it is how long,
    too, and says as much about the corpus as about the person.

    Args:
        modality: `text` reads `clip.text`, `behavior` reads `clip.description`.

    References: see `measure`.
    """

    id: ClassVar[str] = "stylometry"
    pooling: Pooling = "none"

    def __init__(self, modality: str = "text") -> None:
        super().__init__(modality)
        if modality not in SOURCES:
            raise ValueError(f"stylometry reads {' or '.join(SOURCES)}, not {modality!r}")
        self.feature_names = MEASURES

    @property
    def width(self) -> int:
        """Number of measures, see `MEASURES`."""
        return len(MEASURES)

    def settings(self) -> Mapping[str, object]:
        """List the measures, and which of the clip's texts is read."""
        return {"features": list(MEASURES), "source": SOURCES[self.modality][0]}

    def encode(self, clips: Sequence[ClipMedia]) -> list[Embeddings]:
        """Measure clips, `[1, width]` each; a missing or blank text is `MissingModality`."""
        return list(read_each(clips, self._measure))

    def _measure(self, clip: ClipMedia) -> NDArray[np.float32]:
        return measure(text_of(clip, self.modality))[np.newaxis]
