from __future__ import annotations

import math

import numpy as np
import pytest

from encoders.lexica.scores import FEATURES, read_text, score

TEXTS = (
    "Very good! Is it?",
    "I don't think it was terrible, but somewhat boring… never again",
    '(I said: "no!") And then, well, we LOVED it :) 😀',
    "so",
    "!?! wow",
)


def scores(text: str) -> dict[str, float]:
    return dict(zip(FEATURES, score(read_text(text)).tolist(), strict=True))


def over_15(valence: float) -> float:
    """VADER's compound of a sum of valences."""
    return valence / math.sqrt(valence**2 + 15)


def test_values_by_hand() -> None:
    # VADER's list: good 1.9, booster +0.293, an exclamation mark +0.292. TextBlob's lexicon: good has polarity 0.7 and
    # subjectivity 0.6, very multiplies by 1.3, an exclamation mark the polarity by 1.25, and 1.1375 is cut to 1.
    heated = over_15(1.9 + 0.293 + 0.292)
    expected = {
        "vader.compound": over_15(1.9 + 0.293 + 0.292 + 0.0),  # one question mark adds nothing
        "vader.sentences.compound.min": 0.0, "vader.sentences.compound.mean": heated / 2,
        "vader.sentences.compound.max": heated,
        "vader.words.valence.min": 0.0, "vader.words.valence.mean": 1.9 / 4 / 4, "vader.words.valence.max": 1.9 / 4,
        "vader.words.boosters": 1 / 4, "vader.words.dampeners": 0.0, "vader.words.negations": 0.0,
        "sentences.exclaiming": 1 / 2, "sentences.asking": 1 / 2,
        "textblob.polarity": 1.0, "textblob.subjectivity": 0.78,
        "textblob.sentences.polarity.min": 0.0, "textblob.sentences.polarity.mean": 0.5,
        "textblob.sentences.polarity.max": 1.0,
        "textblob.sentences.subjectivity.min": 0.0, "textblob.sentences.subjectivity.mean": 0.39,
        "textblob.sentences.subjectivity.max": 0.78,
        "textblob.phrases.polarity.min": 1.0, "textblob.phrases.polarity.max": 1.0, "textblob.phrases": 1 / 4,
    }  # fmt: skip
    found = scores("Very good! Is it?")
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)  # VADER rounds to 4 digits
    # neg, neu, pos: 1 + 2.193 (with the exclamation mark's 0.292 on the positive side) beside three neutral words
    whole = 1 + 2.193 + 0.292 + 3
    assert found["vader.pos"] == pytest.approx((1 + 2.193 + 0.292) / whole, abs=1e-3)
    assert found["vader.neu"] == pytest.approx(3 / whole, abs=1e-3)
    assert found["vader.neg"] == 0.0


def test_negations_and_dampeners_by_hand() -> None:
    found = scores("It isn’t bad, never somewhat bad")
    assert found["vader.words.negations"] == pytest.approx(2 / 6)  # isn't, never
    assert found["vader.words.dampeners"] == pytest.approx(1 / 6)  # somewhat
    assert found["vader.words.valence.min"] == pytest.approx(-2.5 / 4)  # bad


@pytest.mark.parametrize("text", TEXTS)
def test_of_the_whole_they_are_what_the_packages_give(text: str) -> None:
    from textblob import TextBlob
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    found, valence = scores(text), SentimentIntensityAnalyzer().polarity_scores(text)
    assert [found[f"vader.{name}"] for name in ("neg", "neu", "pos", "compound")] == pytest.approx(
        [valence[name] for name in ("neg", "neu", "pos", "compound")]
    )
    sentiment = TextBlob(text).sentiment
    assert [found["textblob.polarity"], found["textblob.subjectivity"]] == pytest.approx(list(sentiment))


def test_a_text_said_again_and_again_scores_alike() -> None:
    text = "She looks very good. Nobody hates a somewhat sad day, do they? "
    once, often = scores(text), scores(text * 40)
    assert often.pop("vader.compound") != once.pop("vader.compound")  # VADER's is of the sum of all words
    assert often == pytest.approx(once, abs=2e-3)  # it rounds to 3 digits


@pytest.mark.parametrize("text", [*TEXTS, "good! " * 99, "very very bad " * 99])
def test_scores_lie_between_minus_one_and_one(text: str) -> None:
    assert np.abs(list(scores(text).values())).max() <= 1.0


def test_one_word() -> None:
    found = scores("good")
    assert found["vader.words.valence.min"] == found["vader.words.valence.max"] == pytest.approx(1.9 / 4)
    assert found["vader.sentences.compound.mean"] == pytest.approx(over_15(1.9), abs=1e-4)
    assert scores("chair") == {**dict.fromkeys(FEATURES, 0.0), "vader.neu": 1.0}


def test_sentences_and_words() -> None:
    text = read_text('He said "Stop!" Then - 3.5 times... Nothing.\n\nA heading\n\n42!')
    assert text.sentences == ('He said "Stop!', "Then - 3.5 times...", "Nothing.", "A heading")
    assert text.words == ("he", "said", "stop", "then", "times", "nothing", "a", "heading")
    assert read_text("...").words == ()
