"""Prototypes kept with a model's weights against `mmpsr.prototypes.points.similarities`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mmpsr.layers.prototype_bank import SCALE, PrototypeBank, Prototypes, stored_points
from mmpsr.prototypes.points import similarities

POINTS = {
    "mood": {"text": torch.randn(1, 3, 5), "behavior": torch.randn(1, 3, 4)},
    "age": {"text": torch.randn(2, 2, 5)},
}
PRESENCE = torch.tensor([[True, True], [True, False], [False, True], [True, True]])


def features() -> dict[str, Tensor]:
    """Behavior stands first in the model, and text has columns past the mean over tokens."""
    generator = torch.Generator().manual_seed(1)
    return {"behavior": torch.randn(4, 4, generator=generator), "text": torch.randn(4, 10, generator=generator)}


@pytest.mark.parametrize("poles", [1, 2])
def test_similarities_are_those_of_numpy_on_the_mean_over_tokens(poles: int) -> None:
    points, vectors = torch.randn(poles, 3, 5), torch.randn(6, 10)
    layer = Prototypes(points)
    expected = similarities(vectors[:, :5].numpy(), points.numpy())
    np.testing.assert_allclose(layer.similarities(vectors).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(layer(vectors, torch.ones(6, dtype=torch.bool)).numpy(), 10 * expected, atol=1e-5)
    assert SCALE == 10


def test_means_are_those_of_present_rows_and_absent_rows_are_zero() -> None:
    layer, vectors, present = Prototypes(torch.randn(1, 3, 5)), torch.randn(6, 5), torch.arange(6) != 2
    vectors[2] = torch.nan
    layer.fit(vectors, present)
    columns = layer(vectors, present)
    torch.testing.assert_close(columns[present].mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    assert not columns[2].any()
    before = layer.means.clone()
    layer.fit(vectors, torch.zeros(6, dtype=torch.bool))  # nothing to learn from
    torch.testing.assert_close(layer.means, before)


def test_columns_are_in_the_order_of_names() -> None:
    bank = PrototypeBank(POINTS)
    assert [(task, name) for task, name, _ in bank.blocks()] == [
        ("age", "text"),
        ("mood", "behavior"),
        ("mood", "text"),
    ]
    assert bank.width == 2 + 3 + 3
    assert bank.places("mood", 10) == {"behavior": slice(12, 15), "text": slice(15, 18)}
    assert bank.places("age") == {"text": slice(0, 2)}
    assert bank.places("other") == {}
    rows = torch.tensor([0, 1, 2])
    bank.fit(features(), PRESENCE, rows)
    columns = bank(features(), PRESENCE)
    for task, names in POINTS.items():
        for name, place in bank.places(task).items():
            present = PRESENCE[:, list(features()).index(name)]
            found = 10 * similarities(features()[name][:, : names[name].shape[2]].numpy(), names[name].numpy())
            found -= found[present.numpy() & [True, True, True, False]].mean(axis=0)
            expected = np.where(present.numpy()[:, None], found, 0)
            np.testing.assert_allclose(columns[:, place].numpy(), expected, atol=1e-5)


def test_two_modalities_of_the_same_points_keep_them_apart() -> None:
    points = torch.randn(1, 3, 4)
    bank = PrototypeBank({"mood": {"text": points, "behavior": points}})
    before = points.clone()
    for _, _, part in bank.blocks():
        part.points.zero_()
        assert torch.equal(points, before)
    assert len({tensor.data_ptr() for tensor in bank.state_dict().values()}) == 4  # a file takes no tensor twice


def test_stored_points_make_the_same_columns() -> None:
    bank = PrototypeBank(POINTS)
    bank.fit(features(), PRESENCE, torch.arange(4))
    weights = dict(sorted({f"prototypes.{name}": tensor for name, tensor in bank.state_dict().items()}.items()))
    found = stored_points({**weights, "towers.mood.points": torch.zeros(1)})
    assert {task: set(names) for task, names in found.items()} == {"age": {"text"}, "mood": {"text", "behavior"}}
    again = PrototypeBank(found)
    again.load_state_dict(bank.state_dict())
    torch.testing.assert_close(again(features(), PRESENCE), bank(features(), PRESENCE), atol=0, rtol=0)
    assert stored_points({"towers.mood.points": torch.zeros(1)}) == {}
    assert not list(bank.parameters())  # kept, not trained
