from __future__ import annotations

import pytest
import torch

from mmpsr.batch import Batch
from mmpsr.layers.prototype_bank import PrototypeBank
from mmpsr.models.prototype_teacher import PrototypeTeacher
from mmpsr.tasks import AMBIVALENCE, PERSONALITY

TRAIT = PERSONALITY.model_copy(update={"classes": ("openness",)})
CLASSES = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
POLES = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # high and low


def test_classes_are_told_by_the_nearness_of_their_texts_by_hand() -> None:
    # Seen from the middle, the classes lie opposite each other; a clip at (3, 0) lies as the first does, cosines 1 and
    # -1, one at (0, 2) as the second. Ten times that; the means over training clips are 0, since none were seen.
    bank = PrototypeBank({"ambivalence": {"text": CLASSES, "behavior": CLASSES}, "trait": {"text": POLES}})
    teacher = PrototypeTeacher(bank, {"ambivalence": AMBIVALENCE, "other": AMBIVALENCE, "trait": TRAIT})
    clips = torch.tensor([[3.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
    spoken, shown = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    opposite = clips.flip(1)
    predictions = teacher(Batch({"text": clips, "behavior": opposite}, torch.stack([spoken, shown], dim=1)))
    expected = torch.tensor([[0.0, 0.0], [-10.0, 10.0], [-10.0, 10.0], [0.0, 0.0]])  # of both, text, behavior, neither
    torch.testing.assert_close(predictions.logits["ambivalence"], expected)
    assert not predictions.logits["other"].any()  # which has no texts
    assert predictions.scores["trait"][3].item() == 0.5
    assert not list(teacher.parameters())


def test_of_traits_the_high_pole_is_above_a_half() -> None:
    teacher = PrototypeTeacher(PrototypeBank({"trait": {"text": POLES}}), {"trait": TRAIT})
    clips = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    scores = teacher(Batch({"text": clips}, torch.ones(3, 1, dtype=torch.bool))).scores["trait"].flatten()
    # the cosine to the high pole less that to the low one, 1 - -1, ten times; and (1, 1) is as near to both
    assert scores.logit().tolist()[1:] == [pytest.approx(-20, abs=1e-3), pytest.approx(0.0, abs=1e-5)]
    assert scores[0].item() > 1 - 1e-6
