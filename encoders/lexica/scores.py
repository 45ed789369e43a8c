"""Scores of a text by VADER and by TextBlob's lexicon, none of which grows with the text's length.

Both are English. Neither needs a file that does not come with its package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEATURES", "LARGEST_VALENCE", "Text", "read_text", "score"]

LARGEST_VALENCE = 4.0
"""VADER's raters called words between -4 and 4."""
_OF_ALL = ("min", "mean", "max")
FEATURES: tuple[str, ...] = (
    *(f"vader.{name}" for name in ("neg", "neu", "pos", "compound")),
    *(f"vader.sentences.compound.{name}" for name in _OF_ALL),
    *(f"vader.words.valence.{name}" for name in _OF_ALL),
    *(f"vader.words.{name}" for name in ("boosters", "dampeners", "negations")),
    *(f"sentences.{name}" for name in ("exclaiming", "asking")),
    *(f"textblob.{name}" for name in ("polarity", "subjectivity")),
    *(f"textblob.sentences.polarity.{name}" for name in _OF_ALL),
    *(f"textblob.sentences.subjectivity.{name}" for name in _OF_ALL),
    *(f"textblob.phrases.polarity.{name}" for name in ("min", "max")),
    "textblob.phrases",
)
"""What each column is, in order.

`vader.*` and `textblob.*` of the whole text are what the packages give; `sentences.*` are over sentences, and
`words.valence.*` over words, divided by `LARGEST_VALENCE`, where a word that is not in the list counts 0. Boosters
("very"), dampeners ("somewhat") and negations are shares of the words, exclaiming and asking sentences shares of the
sentences. Phrases are what TextBlob's lexicon judges, a word with what intensifies or negates it: their most negative
and most positive one, 0 where there is none, and how many there are for each word.
"""
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_END = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|\n{2,}")


class Text(NamedTuple):
    """A text in parts.

    Attributes:
        whole: with plain apostrophes.
        sentences: that hold a word.
        words: in lower case.
    """

    whole: str
    sentences: tuple[str, ...]
    words: tuple[str, ...]


def read_text(text: str) -> Text:
    """Cut a text into sentences, at points and signs before a space and at empty lines, and into words.

    Example:
        >>> read_text("It isn’t bad! Is it?").sentences
        ("It isn't bad!", 'Is it?')
        >>> read_text("It isn’t bad! Is it?").words
        ('it', "isn't", 'bad', 'is', 'it')
    """
    whole = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").strip()
    sentences = tuple(part.strip() for part in _END.split(whole) if _WORD.search(part))
    return Text(whole, sentences, tuple(word.lower() for word in _WORD.findall(whole)))


def score(text: Text) -> NDArray[np.float32]:
    """Score a text of at least one word: `[len(FEATURES)]`, each between -1 and 1.

    Example:
        >>> values = dict(zip(FEATURES, score(read_text("Not good.")).tolist()))
        >>> round(values["vader.compound"], 4), round(values["vader.words.valence.max"], 4)
        (-0.3412, 0.475)

    References:
        Hutto and Gilbert, VADER: a parsimonious rule-based model for sentiment analysis of social media text, ICWSM
        2014.
        De Smedt and Daelemans, Pattern for Python, JMLR 13, 2012.
    """
    return np.array([*_by_vader(text), *_by_textblob(text)], dtype=np.float32)


def _by_vader(text: Text) -> list[float]:
    analyzer, boosts, negations = _vader()
    whole = analyzer.polarity_scores(text.whole)
    compounds = [analyzer.polarity_scores(sentence)["compound"] for sentence in text.sentences]
    valences = [analyzer.lexicon.get(word, 0.0) / LARGEST_VALENCE for word in text.words]
    return [
        *(whole[name] for name in ("neg", "neu", "pos", "compound")),
        *_of_all(compounds),
        *_of_all(valences),
        _share(boosts.get(word, 0.0) > 0 for word in text.words),
        _share(boosts.get(word, 0.0) < 0 for word in text.words),
        _share(word in negations or word.endswith("n't") for word in text.words),
        _share("!" in sentence for sentence in text.sentences),
        _share("?" in sentence for sentence in text.sentences),
    ]


def _by_textblob(text: Text) -> list[float]:
    judge = _textblob()
    whole, sentences = judge(text.whole), [judge(sentence) for sentence in text.sentences]
    polarities = [polarity for _, polarity, _, _ in whole.assessments]
    return [
        *whole,
        *_of_all([polarity for polarity, _ in sentences]),
        *_of_all([subjectivity for _, subjectivity in sentences]),
        min(polarities, default=0.0),
        max(polarities, default=0.0),
        min(1.0, len(polarities) / len(text.words)),  # emoticons are phrases without being words
    ]


def _of_all(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), sum(values) / len(values), max(values)


def _share(found: Iterable[bool]) -> float:
    return float(np.mean(list(found)))


@lru_cache(maxsize=1)
def _vader() -> tuple[Any, Mapping[str, float], frozenset[str]]:
    """Read VADER's list: what scores a text, what boosts (positive) or dampens, and the negations."""
    from vaderSentiment.vaderSentiment import BOOSTER_DICT, NEGATE, SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer(), BOOSTER_DICT, frozenset(NEGATE)


@lru_cache(maxsize=1)
def _textblob() -> Any:
    """Read TextBlob's lexicon: polarity and subjectivity of a text, with its `assessments`."""
    from textblob.en import sentiment

    return sentiment
