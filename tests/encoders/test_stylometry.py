from __future__ import annotations

import numpy as np
import pytest

from encoders.base import pool
from encoders.creation import CATALOGUE, can_run, create_encoder
from encoders.errors import MissingModality
from encoders.media.clip import ClipMedia
from encoders.stylometry import MEASURES, Stylometry, measure


def measures(text: str) -> dict[str, float]:
    return dict(zip(MEASURES, measure(text).tolist(), strict=True))


def test_measures_by_hand() -> None:
    text = "Well, well... I’m 20.5 and It's great! Right?"
    # words: Well well I’m 20.5 and It's great Right; lengths 4 4 3 4 3 4 5 5, sum 32, mean 4, squares off it sum 4
    # seven distinct ones; ends: "...", the point of 20.5, "!" and "?"; 45 characters, three of them digits
    expected = {
        "words": 8, "characters": 45, "log_characters": np.log(46), "log_words": np.log(9), "log_sentences": np.log(5),
        "letters_of_a_word": 4.0, "distinct_words": 7 / 8, "commas": 1 / 8, "sentences": 4 / 8, "questions": 1 / 8,
        "exclamations": 1 / 8, "digits": 3 / 45, "capitals": 4 / 8, "repetitions": 1 / 8,
        "letters_of_a_word.std": np.sqrt(4 / 8),
    }  # fmt: skip
    assert measures(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["...", "\u200b", "?", "你好 :-)", "7", "a" * 50_000])
def test_any_text_has_finite_measures(text: str) -> None:
    assert np.isfinite(measure(text)).all()


def test_said_twice_is_twice_as_long_and_written_alike() -> None:
    once, twice = measures("Maybe, I am not sure. "), measures("Maybe, I am not sure. " * 2)
    shares = ("letters_of_a_word", "commas", "sentences", "questions", "capitals", "digits", "letters_of_a_word.std")
    assert {name: twice[name] for name in shares} == pytest.approx({name: once[name] for name in shares})
    assert (once["words"], twice["words"]) == (5, 10)
    assert twice["distinct_words"] == once["distinct_words"] / 2


def test_transcript_and_description_are_measured_apart() -> None:
    clip = ClipMedia(text="So. What now?", description="A smile.")
    for modality, text in (("text", clip.text), ("behavior", clip.description)):
        encoder = create_encoder("stylometry", modality)
        (rows,) = encoder.encode([clip])
        assert text is not None
        assert isinstance(rows, np.ndarray)
        np.testing.assert_array_equal(pool(rows, encoder.pooling), measure(text))
        assert encoder.spec.vector_width == len(MEASURES)
    assert Stylometry("text").fingerprint() != Stylometry("behavior").fingerprint()
    assert can_run(CATALOGUE["stylometry"]) is None


def test_no_text_is_no_short_text() -> None:
    missing, blank = Stylometry("text").encode([ClipMedia(), ClipMedia(text=" ")])
    for result, reason in ((missing, "no transcript"), (blank, "empty transcript")):
        assert isinstance(result, MissingModality)
        assert str(result) == reason
    with pytest.raises(ValueError, match="stylometry reads text or behavior, not 'video'"):
        Stylometry("video")
