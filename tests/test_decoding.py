from __future__ import annotations

import numpy as np
import pytest
import torch

from mmpsr.decoding import decide_classes, decide_present
from mmpsr.tasks import EMOTION, TaskSpec

BINARY = EMOTION.model_copy(update={"loss": "binary_cross_entropy"})


def spread(**shares: float) -> np.ndarray:
    """Probabilities by emotion; the rest is shared by the emotions not named."""
    rest = (1 - sum(shares.values())) / (7 - len(shares))
    return np.array([[shares.get(name, rest) for name in EMOTION.classes]])


def decided(probabilities: np.ndarray, spec: TaskSpec = EMOTION) -> list[str]:
    (row,) = decide_present(probabilities, spec)
    return [name for name, there in zip(spec.classes, row, strict=True) if there]


def test_an_emotion_is_present_from_one_seventh() -> None:
    # 1/7 = 0.142857; the others hold (1 - 0.4 - 0.143) / 5 = 0.0914.
    assert decided(spread(Anger=0.4, Fear=0.143)) == ["Anger", "Fear"]
    assert decided(spread(Anger=0.4, Fear=0.1428)) == ["Anger"]
    assert decided(spread(Anger=0.4, Fear=1 / 7)) == ["Anger", "Fear"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_probabilities_are_all_present(dtype: torch.dtype) -> None:
    assert decide_present(torch.zeros(1, 7, dtype=dtype).softmax(dim=1).double().numpy(), EMOTION).all()


def test_everything_is_absent_when_neutral_holds_six_sevenths() -> None:
    # Probabilities of a softmax cannot reach both 6/7 and, elsewhere, more than 1/7: the rule bites at the boundary
    # and for scores that do not add up to 1.
    others = np.array([[6 / 7, 1 / 7, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert decided(others) == ["Neutral"]
    assert decided(np.array([[0.85, 0.15, 0.0, 0.0, 0.0, 0.0, 0.0]])) == ["Neutral", "Anger"]
    assert decided(np.array([[0.9, 0.5, 0.5, 0.0, 0.0, 0.0, 0.2]])) == ["Neutral"]
    # Only Neutral silences the others.
    assert decided(np.array([[0.2, 0.9, 0.0, 0.0, 0.0, 0.0, 0.2]])) == ["Neutral", "Anger", "Surprise"]


def test_clips_are_decided_one_by_one() -> None:
    both = np.concatenate([np.array([[0.9, 0.5, 0, 0, 0, 0, 0.2]]), spread(Anger=0.4, Fear=0.2), spread(Sadness=0.9)])
    found = decide_present(both, EMOTION)
    assert found.tolist() == [decide_present(both[i : i + 1], EMOTION)[0].tolist() for i in range(3)]
    assert found.sum(axis=1).tolist() == [1, 2, 1]


def test_thresholds_follow_the_number_of_classes_and_the_place_of_neutral() -> None:
    spec = TaskSpec(
        kind="multi_label", classes=("joy", "grief", "calm"), loss="cross_entropy", metrics=(), neutral="calm"
    )
    # 1/3 and 2/3.
    assert decided(np.array([[0.34, 0.06, 0.6]]), spec) == ["joy", "calm"]
    assert decided(np.array([[0.34, 0.06, 0.67]]), spec) == ["calm"]
    plain = spec.model_copy(update={"neutral": None})
    assert decided(np.array([[0.34, 0.06, 0.67]]), plain) == ["joy", "calm"]


def test_sigmoid_probabilities_are_present_from_one_half() -> None:
    assert decided(np.array([[0.9, 0.5, 0.49, 0.0, 0.6, 0.2, 0.3]]), BINARY) == ["Neutral", "Anger", "Happiness"]


def test_no_clips() -> None:
    assert decide_present(np.zeros((0, 7)), EMOTION).shape == (0, 7)


def test_decide_classes() -> None:
    assert decide_classes(np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.0, 0.0, 0.1]])).tolist() == [1, 0, 2]
