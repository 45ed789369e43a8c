"""Decisions of probabilities, against ones worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmpsr.decisions import decide_classes, decide_present, default_thresholds, only_neutral
from mmpsr.tasks import AMBIVALENCE, EMOTION, TaskSpec
from tests.mmpsr.objective.test_objective import BINARY


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


def test_default_thresholds_decide_as_none_do() -> None:
    assert default_thresholds(EMOTION) == pytest.approx(np.full(7, 1 / 7))
    assert default_thresholds(BINARY).tolist() == [0.5] * 7
    assert default_thresholds(AMBIVALENCE).tolist() == [0.5, 0.5]
    probabilities = np.random.default_rng(0).dirichlet(np.full(7, 0.5), size=50)
    for spec, values in ((EMOTION, probabilities), (BINARY, 2 * probabilities)):
        expected = decide_present(values, spec)
        assert np.array_equal(decide_present(values, spec, default_thresholds(spec)), expected)
    two = np.random.default_rng(0).dirichlet([1, 1], size=50)
    assert np.array_equal(decide_classes(two, default_thresholds(AMBIVALENCE)), decide_classes(two))


def test_thresholds_per_class_replace_the_default_and_keep_the_neutral_rule() -> None:
    thresholds = np.array([0.5, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1])
    probabilities = np.array([[0.4, 0.3, 0.1, 0.09, 0.05, 0.03, 0.03], [6 / 7, 0.01, 0.12, 0.0, 0.0, 0.0, 0.0]])
    assert decide_present(probabilities, EMOTION, thresholds).tolist() == [
        [False, True, True, False, False, False, False],
        [True, False, False, False, False, False, False],  # 0.12 would reach its 0.1
    ]
    assert only_neutral(probabilities, EMOTION).tolist() == [False, True]
    assert only_neutral(probabilities, BINARY).tolist() == [False, False]
    assert decide_present(probabilities, BINARY, thresholds)[1].tolist() == [True, False, True] + [False] * 4


def test_classes_are_decided_in_proportion_to_their_thresholds() -> None:
    # 0.6/0.9 < 0.4/0.1; 0.95/0.9 > 0.05/0.1; at 0.1 itself the first of equals.
    two = np.array([[0.6, 0.4], [0.95, 0.05], [0.9, 0.1]])
    assert decide_classes(two, np.array([0.9, 0.1])).tolist() == [1, 0, 0]
    # 0.5/0.5, 0.3/0.2, 0.2/0.3
    assert decide_classes(np.array([[0.5, 0.3, 0.2]]), np.array([0.5, 0.2, 0.3])).tolist() == [1]


def test_deciding_leaves_the_probabilities_alone() -> None:
    values = np.array([[0.9, 0.1]])
    decide_classes(values, np.array([0.95, 0.05]))
    assert values.tolist() == [[0.9, 0.1]]
