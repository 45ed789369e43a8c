"""Classes as points of a run's text encoder: which tasks and modalities have some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from encoders.config import FeaturesConfig
from mmpsr.config import validate
from mmpsr.prototypes.points import default_wordings, embed_prototypes
from mmpsr.tasks import BUILTIN_TASKS, task_of_texts
from training.class_texts import points

TASKS = {
    "ambivalence": task_of_texts("ambivalence"),
    "personality": task_of_texts("personality"),
    "emotion": BUILTIN_TASKS["emotion"],
}


def embed(texts: Sequence[str], features: object = None) -> NDArray[np.float32]:
    """Count letters."""
    del features
    return np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], dtype=np.float32) + 0.1


@pytest.fixture(autouse=True)
def _letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "embed_texts", embed)


def features(**changes: Any) -> FeaturesConfig:
    tree = {"encoders": {"audio": "egemaps", "text": "minilm", "behavior": "minilm"}, **changes}
    return validate(FeaturesConfig, tree, "test")


def test_texts_are_embedded_for_text_and_for_behavior_of_the_same_encoder() -> None:
    found = points.class_points(features(), ["audio", "behavior", "text"], TASKS)
    assert {task: set(names) for task, names in found.items()} == {
        "ambivalence": {"text", "behavior"}, "personality": {"text", "behavior"},
    }  # fmt: skip
    assert found["personality"]["text"].shape == (2, 5, 8)
    for task in found:
        spec = TASKS[task]
        assert spec.texts is not None
        for name, tensor in found[task].items():
            wordings = default_wordings(name)
            expected = embed_prototypes(spec.texts, spec.classes, wordings, embed, spec.kind == "regression")
            np.testing.assert_array_equal(tensor.numpy(), expected)
    assert not np.array_equal(found["ambivalence"]["text"], found["ambivalence"]["behavior"])


def test_modalities_that_are_not_of_the_encoder_have_none() -> None:
    other = features(encoders={"text": "minilm", "behavior": "cue-narrative"})
    assert set(points.class_points(other, ["text", "behavior"], TASKS)["ambivalence"]) == {"text"}
    assert set(points.class_points(features(), ["audio", "text"], TASKS)["ambivalence"]) == {"text"}
    assert points.class_points(features(), ["audio"], TASKS) == {}
    assert points.class_points(features(encoders={"audio": "egemaps"}), ["audio"], TASKS) == {}
    assert points.class_points(features(), ["text"], {"emotion": TASKS["emotion"]}) == {}


def test_vectors_that_were_made_elsewhere_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "embed_texts", None)
    elsewhere = features(encoders={"text": "words"}, precomputed={"words": {"path": "words.npz"}})
    assert points.class_points(elsewhere, ["text"], TASKS) == {}
    given = features().model_copy(update={"encoders": {"text": "vectors", "behavior": "vectors"}})
    assert points.class_points(given, ["text", "behavior"], TASKS) == {}
