from __future__ import annotations

import socket
from typing import Any

import numpy as np
import pandas as pd
import pytest

from encoders.creation import CATALOGUE, can_run, create_encoder
from encoders.errors import EncodingError, ExtractionError, MissingModality
from encoders.lexica import encoder as module
from encoders.lexica import scores
from encoders.lexica.encoder import Empath, Lexica
from encoders.media.clip import ClipMedia


def clip(**columns: Any) -> ClipMedia:
    return ClipMedia.from_row(columns)


def test_transcript_and_description_are_scored_apart() -> None:
    (said,) = Lexica("text").encode([clip(text="Very good!", description="A sad face.")])
    (seen,) = Lexica("behavior").encode([clip(text="Very good!", description="A sad face.")])
    assert isinstance(said, np.ndarray)
    assert isinstance(seen, np.ndarray)
    np.testing.assert_array_equal(said[0], scores.score(scores.read_text("Very good!")))
    np.testing.assert_array_equal(seen[0], scores.score(scores.read_text("A sad face.")))
    assert said.shape == (1, len(scores.FEATURES))
    encoder = create_encoder("lexica", "text")
    assert encoder.spec.vector_width == CATALOGUE["lexica"].width == len(scores.FEATURES)
    assert Lexica("text").fingerprint() != Lexica("behavior").fingerprint()


def test_what_cannot_be_scored_says_why() -> None:
    missing, blank, wordless, foreign, english = Lexica("text").encode(
        [
            clip(), clip(text="  "), clip(text="... 3!"), clip(text="C'est bien.", language="fr"),
            clip(text="Good.", language="en-GB"),
        ]
    )  # fmt: skip
    for result, kind, reason in (
        (missing, MissingModality, "no transcript"),
        (blank, MissingModality, "no transcript"),
        (wordless, EncodingError, "the transcript has no words"),
        (foreign, MissingModality, "the transcript is in 'fr', and the lexica are English"),
    ):
        assert isinstance(result, kind)
        assert str(result) == reason
    assert isinstance(english, np.ndarray)
    (described,) = Lexica("behavior").encode([clip(description="A smile.", language="fr")])
    assert isinstance(described, np.ndarray)  # the language is the transcript's


def test_another_language_is_another_source() -> None:
    columns = ("media", "start", "end", "description")
    row = {**dict.fromkeys(columns), "text": "Gift"}
    sources = [Lexica("text").source({**row, "language": language}) for language in (None, pd.NA, "en", "EN_us", "de")]
    assert len(set(sources[:4])) == 1
    assert sources[4] != sources[0]


def test_the_fingerprint_follows_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Lexica("text").spec
    assert set(before.settings) == {"vaderSentiment", "textblob", "features", "source"}
    monkeypatch.setattr(module, "version", lambda name: "99" if name == "textblob" else "3.3.2")
    assert Lexica("text").settings()["textblob"] == "99"
    assert Lexica("text").fingerprint() != before.fingerprint


def test_without_the_packages_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "textblob" else object())
    with pytest.raises(ExtractionError, match=r"encoder 'lexica' \(text\) needs a library: .*\.\[lexica\]"):
        Lexica("text")
    monkeypatch.undo()
    assert can_run(CATALOGUE["lexica"]) is None


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for read in (scores._vader, scores._textblob):
        read.cache_clear()
    encoder = Lexica("text")
    encoder.load()
    (vector,) = encoder.encode([clip(text="I'm not sure that's good, is it?")])
    assert isinstance(vector, np.ndarray)


def test_empath_encodes_shares_of_words_and_refuses_what_lexica_refuses() -> None:
    encoder = create_encoder("empath", "text")
    assert encoder.spec.vector_width == CATALOGUE["empath"].width == len(Empath("text").feature_names)
    vector, foreign = encoder.encode([clip(text="We swim."), clip(text="Wir.", language="de")])
    assert isinstance(vector, np.ndarray)
    assert dict(zip(Empath("text").feature_names, vector[0], strict=True))["swimming"] == 0.5
    assert str(foreign) == "the transcript is in 'de', and the lexica are English"
    assert set(encoder.spec.settings) == {"empath", "features", "source"}
