import math

import pytest
import torch

from mmpsr.adaptation.base import WithSourceConfig
from mmpsr.adaptation.loops import balanced_rows, batches, cosine_rate, falling_rate


def test_batches_hold_each_row_once_but_for_a_last_one_alone() -> None:
    dealt = batches(torch.arange(10), 4, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(dealt).tolist()) == list(range(10))
    assert [len(batch) for batch in dealt] == [4, 4, 2]
    assert [len(batch) for batch in batches(torch.arange(9), 4, torch.Generator())] == [4, 4]
    assert batches(torch.arange(1), 4, torch.Generator()) == []


def test_as_many_rows_of_each_class_as_the_rarest_has() -> None:
    labels = torch.tensor([0] * 50 + [1] * 5)
    drawn = [balanced_rows(labels, torch.Generator().manual_seed(seed)) for seed in range(2)]
    for rows in drawn:
        assert labels[rows].bincount().tolist() == [5, 5]
        assert len(set(rows.tolist())) == 10
    assert set(drawn[0].tolist()) != set(drawn[1].tolist())
    assert balanced_rows(labels, torch.Generator(), balanced=False).tolist() == list(range(55))


def test_the_cosine_over_epochs() -> None:
    found = [cosine_rate(WithSourceConfig(num_epochs=4), epoch) for epoch in range(5)]
    half = math.sqrt(0.5) / 2  # cos(pi / 4) / 2
    expected = [2e-4, 2e-5 + 1.8e-4 * (0.5 + half), 1.1e-4, 2e-5 + 1.8e-4 * (0.5 - half), 2e-5]
    assert found == pytest.approx(expected)


def test_the_rate_of_source_free_methods() -> None:
    assert falling_rate(1e-4, 0, 100) == 1e-4
    assert falling_rate(1e-4, 50, 100) == pytest.approx(1e-4 * math.pow(6, -0.75))
    assert falling_rate(1e-4, 100, 100) == pytest.approx(1e-4 * math.pow(11, -0.75))
