from __future__ import annotations

import pytest
import torch
from sklearn.preprocessing import StandardScaler

from mmpsr.layers.standardizer import Standardizer

NAN = float("nan")


def test_by_hand() -> None:
    # Present rows (1, 10), (3, 30): means 2, 20; population deviations 1, 10. The absent row does not count.
    standardizer = Standardizer(2)
    present = torch.tensor([True, True, False])
    standardizer.fit(torch.tensor([[1.0, 10.0], [3.0, 30.0], [NAN, 1e30]]), present)
    assert standardizer.mean.tolist() == [2.0, 20.0]
    assert standardizer.std.tolist() == [1.0, 10.0]
    found = standardizer(torch.tensor([[4.0, 20.0], [2.0, 0.0], [NAN, 1e38]]), present)
    assert found.tolist() == [[2.0, 0.0], [0.0, -2.0], [0.0, 0.0]]


def test_is_scikit_learns() -> None:
    features = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 5 + 3
    features[:, 2] = 0.1
    standardizer = Standardizer(7)
    standardizer.fit(features, torch.ones(50, dtype=torch.bool))
    expected = torch.from_numpy(StandardScaler().fit_transform(features.double().numpy()))
    found = standardizer(features, torch.ones(50, dtype=torch.bool))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert standardizer.std[2] == 1.0


@pytest.mark.parametrize("value", [0.0, 0.1, -1e8])
def test_constant_columns_become_zero(value: float) -> None:
    features, present = torch.full((30, 1), value), torch.ones(30, dtype=torch.bool)
    standardizer = Standardizer(1)
    standardizer.fit(features, present)
    assert standardizer.std.tolist() == [1.0]
    assert standardizer(features, present).abs().max() == 0.0


def test_small_columns_are_not_constant() -> None:
    features, present = torch.tensor([[1e-8], [3e-8]]), torch.ones(2, dtype=torch.bool)
    standardizer = Standardizer(1)
    standardizer.fit(features, present)
    torch.testing.assert_close(standardizer(features, present), torch.tensor([[-1.0], [1.0]]))


def test_unchanged_before_fit_and_where_no_clip_has_the_modality() -> None:
    features = torch.tensor([[5.0, -7.0]])
    standardizer = Standardizer(2)
    assert torch.equal(standardizer(features, torch.tensor([True])), features)
    standardizer.fit(features, torch.tensor([False]))
    assert torch.equal(standardizer(features, torch.tensor([True])), features)


def test_statistics_are_saved_and_not_trained() -> None:
    standardizer, restored = Standardizer(1), Standardizer(1)
    standardizer.fit(torch.tensor([[1.0], [5.0]]), torch.tensor([True, True]))
    assert not list(standardizer.parameters())
    restored.load_state_dict(standardizer.state_dict())
    assert (restored.mean.item(), restored.std.item()) == (3.0, 2.0)


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_a_present_row_that_is_not_finite_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="present row of features holds NaN or infinity; extract it again"):
        Standardizer(1).fit(torch.tensor([[1.0], [value]]), torch.tensor([True, True]))


def test_another_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="features are 3 wide, the standardizer 2"):
        Standardizer(2).fit(torch.ones(1, 3), torch.tensor([True]))
