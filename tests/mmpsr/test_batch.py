from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmpsr.batch import Batch, Predictions

NAN = float("nan")


def make(**changes: object) -> Batch:
    values: dict = {
        "features": {"text": torch.ones(3, 4), "audio": torch.ones(3, 2)},
        "presence": torch.tensor([[True, True], [True, False], [False, False]]),
        "labels": {"traits": torch.tensor([[0.5, NAN], [NAN, NAN], [0.1, 0.2]])},
        "rows": torch.tensor([7, 8, 9]),
        "sequences": {"text": (torch.arange(12.0).view(3, 2, 2), torch.ones(3, 2, dtype=torch.bool))},
    }
    return Batch(**{**values, **changes})


def test_known_are_elements_and_labeled_are_rows() -> None:
    batch = make()
    assert len(batch) == 3
    assert batch.known("traits").tolist() == [[True, False], [False, False], [True, True]]
    assert batch.labeled("traits").tolist() == [True, False, True]


def test_a_label_of_infinity_is_unknown() -> None:
    batch = make(labels={"traits": torch.tensor([[float("inf")], [-float("inf")], [0.0]])})
    assert batch.labeled("traits").tolist() == [False, False, True]


def test_other_presence_leaves_all_else_and_the_original() -> None:
    batch = make()
    presence = torch.zeros(3, 2, dtype=torch.bool)
    hidden = batch.with_presence(presence)
    assert hidden.presence is presence
    assert batch.presence.any()
    assert hidden.features is batch.features
    assert hidden.labels is batch.labels
    assert hidden.rows is batch.rows
    assert hidden.sequences is batch.sequences


def test_clips_of_two_batches_follow_one_another_with_sequences_as_long_as_the_longest() -> None:
    longer = torch.full((3, 3, 2), 5.0), torch.tensor([[True] * 3, [True, False, False], [False] * 3])
    both = make().followed_by(make(sequences={"text": longer}, rows=torch.tensor([1, 2, 3])))
    assert len(both) == 6
    assert both.rows is not None
    assert both.rows.tolist() == [7, 8, 9, 1, 2, 3]
    assert torch.equal(both.features["audio"], torch.ones(6, 2))
    values, mask = both.sequences["text"]
    assert values[:, :, 0].tolist() == [[0, 2, 0], [4, 6, 0], [8, 10, 0], *[[5, 5, 5]] * 3]
    assert mask.tolist() == [*[[True, True, False]] * 3, [True] * 3, [True, False, False], [False] * 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"presence": torch.ones(3, 3, dtype=torch.bool)},
            r"presence has shape \(3, 3\), expected \[B, 2\] for the modalities \['text', 'audio'\]",
        ),
        ({"presence": torch.ones(3, dtype=torch.bool)}, r"presence has shape \(3,\), expected \[B, 2\]"),
        (
            {"features": {"text": torch.ones(3, 4), "audio": torch.ones(2, 2)}},
            r"features\['audio'\] has shape \(2, 2\), expected \[3, width\]",
        ),
        (
            {"features": {"text": torch.ones(3, 5, 4), "audio": torch.ones(3, 2)}},
            r"features\['text'\] has shape \(3, 5, 4\)",
        ),
        ({"labels": {"traits": torch.ones(3)}}, r"labels\['traits'\] has shape \(3,\), expected \[3, width\]"),
        (
            {"sequences": {"text": (torch.ones(3, 2, 4), torch.ones(3, 3, dtype=torch.bool))}},
            r"sequences\['text'\] has values of shape \(3, 2, 4\) and a mask of shape \(3, 3\), expected \[3, L,",
        ),
    ],
)
def test_wrong_shapes_are_errors(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_predictions_of_a_task() -> None:
    logits, scores = torch.zeros(1, 2), torch.ones(1, 5)
    predictions = Predictions({"mood": logits}, {"traits": scores})
    found: list[Tensor] = [predictions.of("mood"), predictions.of("traits")]
    assert found[0] is logits
    assert found[1] is scores
    with pytest.raises(KeyError, match="stress"):
        predictions.of("stress")
