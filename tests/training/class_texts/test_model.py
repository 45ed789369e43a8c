from __future__ import annotations

import math

import numpy as np
import torch

from mmpsr.batch import Batch
from mmpsr.models.build import create_model
from mmpsr.models.config import ModelConfig
from mmpsr.tasks import AMBIVALENCE, TaskSpec
from training.class_texts.model import NearestTexts, TrainedAndNearest

TRAIT = TaskSpec(kind="regression", classes=("warm",), loss="mae", metrics=())


def near() -> NearestTexts:
    """Points of two classes at right angles, and of a trait's poles likewise."""
    corners = np.array([[[1.0, 0.0], [0.0, 1.0]]], dtype=np.float32)
    points = {"ambivalence": {"text": corners, "behavior": corners}, "trait": {"text": corners.reshape(2, 1, 2)}}
    return NearestTexts({"text": 4, "behavior": 4}, points, {"ambivalence": AMBIVALENCE, "trait": TRAIT})


def batch_of(text: list[list[float]], behavior: list[list[float]], presence: list[list[bool]]) -> Batch:
    features = {"text": torch.tensor(text), "behavior": torch.tensor(behavior)}
    labels = {"ambivalence": torch.full((len(text), 2), torch.nan), "trait": torch.full((len(text), 1), torch.nan)}
    return Batch(features, torch.tensor(presence), labels)


def test_logits_are_mean_similarities_over_the_temperature() -> None:
    text = [[2.0, 0.0, 9.0, 9.0]] * 4  # the last two are standard deviations, which say nothing here
    behavior = [[0.0, 3.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]]
    presence = [[True, False], [True, True], [True, True], [False, False]]
    found = near()(batch_of(text, behavior, presence))
    # seen from the middle (1/2, 1/2) the corners are opposite: similarities 1 and -1, over 0.1
    expected = [[10.0, -10.0], [10.0, -10.0], [0.0, 0.0], [0.0, 0.0]]
    torch.testing.assert_close(found.logits["ambivalence"], torch.tensor(expected))
    # 1 - -1 = 2 to the high pole where there are words; nothing else is compared with a trait's texts here
    high = 1 / (1 + math.exp(-20))
    torch.testing.assert_close(found.scores["trait"], torch.tensor([[high], [high], [high], [0.5]]))


def test_beside_a_trained_model_both_say_what_they_say_alone() -> None:
    config = ModelConfig(hidden_width=8, head_width=8, num_heads=2)
    widths = {"video": 3, "text": 4, "behavior": 4}
    trained = create_model(config, widths, {"stress": AMBIVALENCE}, {}).eval()
    both = TrainedAndNearest(trained, near())
    assert both.modalities == ("video", "text", "behavior")
    assert list(both.tasks) == ["stress", "ambivalence", "trait"]
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.randn(5, width, generator=generator) for name, width in widths.items()}
    presence = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    labels = {"stress": torch.full((5, 2), torch.nan)}
    found, alone = both(Batch(features, presence, labels)), trained(Batch(features, presence, labels))
    torch.testing.assert_close(found.logits["stress"], alone.logits["stress"])
    words = {name: features[name] for name in ("text", "behavior")}
    nearest = near()(Batch(words, presence[:, 1:], labels))
    torch.testing.assert_close(found.logits["ambivalence"], nearest.logits["ambivalence"])
    torch.testing.assert_close(found.scores["trait"], nearest.scores["trait"])
    assert (found.logits["ambivalence"][1] == 0).all()
