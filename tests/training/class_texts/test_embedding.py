from __future__ import annotations

import pytest

from mmpsr.config import ConfigError
from tests.support import worded
from tests.support.worded import worded_features
from training.class_texts.embedding import embed_texts


def test_texts_are_means_over_their_words_and_embedded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.class_texts.embedding._EMBEDDED", {})
    features = worded_features()
    worded.READ.clear()
    vectors = embed_texts(["joy joy calm grief", "tears", "tears"], features)
    # joy twice, grief and calm once, of four words; not followed by the standard deviations
    assert vectors.tolist() == [[0.5, 0.25, 0.25, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]
    assert sorted(worded.READ) == ["joy joy calm grief", "tears"]
    assert embed_texts(["tears"], features).tolist() == [[0, 0, 0, 0, 1]]
    assert len(worded.READ) == 2
    away = features.model_copy(update={"executor": "dask://node7:8786"})
    assert embed_texts(["joy"], away).tolist() == [[1, 0, 0, 0, 0]]  # here, whoever encodes clips


def test_what_cannot_be_embedded_is_an_error() -> None:
    with pytest.raises(ConfigError, match="the class text 'xyz' cannot be embedded: no known word"):
        embed_texts(["xyz"], worded_features())
    with pytest.raises(ConfigError, match="of video none is text; name a run with"):
        embed_texts(["joy"], worded_features(encoders={"video": "face-mesh"}))
    with pytest.raises(ConfigError, match="vectors of 'mine' were made elsewhere"):
        embed_texts(["joy"], worded_features(encoders={"text": "mine"}, precomputed={"mine": None}))
