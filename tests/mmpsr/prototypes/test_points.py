from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from mmpsr.config import ConfigError
from mmpsr.prototypes.points import default_wordings, embed_prototypes, similarities
from mmpsr.prototypes.texts import TaskTexts

VECTORS = {"a": (3.0, 0.0), "b": (0.0, 2.0), "c": (0.0, 5.0), "d": (1.0, 0.0)}


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.array([VECTORS[text] for text in texts], dtype=np.float32)


def texts_of(**classes: dict[str, object]) -> TaskTexts:
    return TaskTexts.model_validate({"texts": classes})


def test_a_wording_counts_once_however_many_texts_it_has() -> None:
    texts = texts_of(x={"name": "a", "phrases": ["b", "c"]}, y={"name": "b", "phrases": ["b", "d"]})
    points = embed_prototypes(texts, ("x", "y"), ("names", "phrases"), embed)
    # x: ((1, 0) + (0, 1)) / 2;  y: ((0, 1) + unit((1, 1) / 2)) / 2
    half = 0.5**0.5
    np.testing.assert_allclose(points, [[[0.5, 0.5], [half / 2, (1 + half) / 2]]], atol=1e-7)


def test_similarity_is_seen_from_the_middle_and_of_traits_high_minus_low() -> None:
    prototypes = np.array([[[1.0, 0.0], [0.0, 1.0]]])  # the middle is (0.5, 0.5): the two are opposite to each other
    vectors = np.array([[2.0, 0.0], [0.0, 0.1], [0.0, 0.0]])
    np.testing.assert_allclose(similarities(vectors, prototypes), [[1, -1], [-1, 1], [0, 0]], atol=1e-12)
    trait = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(similarities(vectors, trait), [[2], [-2], [0]], atol=1e-12)


def test_poles_stand_high_first() -> None:
    texts = texts_of(x={"name": "a", "opposite": {"name": "b"}})
    assert embed_prototypes(texts, ("x",), ("names",), embed, regression=True).tolist() == [[[1, 0]], [[0, 1]]]


def test_what_is_missing_is_said() -> None:
    texts = texts_of(x={"name": "a", "phrases": ["b"]}, y={"name": "b"})
    with pytest.raises(ConfigError, match=r"\[texts.y\] has no phrases, which other classes have"):
        embed_prototypes(texts, ("x", "y"), ("phrases",), embed)
    with pytest.raises(ConfigError, match="there is no text of behaviors"):
        embed_prototypes(texts, ("x", "y"), ("behaviors",), embed)
    with pytest.raises(ConfigError, match=r"\[texts.x.opposite\] is missing"):
        embed_prototypes(texts, ("x", "y"), ("names",), embed, regression=True)
    both = embed_prototypes(texts_of(x={"name": "a"}, y={"name": "b"}), ("x", "y"), ("names", "behaviors"), embed)
    assert both.tolist() == [[[1, 0], [0, 1]]]  # a wording that no class has is left out


def test_described_behavior_is_compared_with_behavior() -> None:
    assert default_wordings("behavior")[-1] == "behaviors"
    assert default_wordings("text")[-1] == "phrases"
