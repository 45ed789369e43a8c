"""Ridge and logistic regressions against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from training.linear.regressions import Decomposed, LinearMaps, fit_logistic, fit_ridge

PENALTIES = torch.tensor([0.5, 10.0, 1000.0])


def columns(num_clips: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """Centred columns of deviations between 1 and 5, the last of them constant."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(num_clips, width)) * np.linspace(1, 5, width)
    values[:, -1] = 0.0
    return values - values.mean(axis=0)


def decomposed(values: NDArray[np.float64]) -> Decomposed:
    return Decomposed.of(torch.from_numpy(values))


def labels(values: NDArray[np.float64], num_outputs: int) -> NDArray[np.int64]:
    generator = np.random.default_rng(1)
    signal = values @ generator.normal(size=(values.shape[1], num_outputs)) / 5 + generator.normal(
        size=(len(values), num_outputs)
    )
    return signal.argmax(axis=1) if num_outputs > 1 else (signal[:, 0] > 0.5).astype(np.int64)


def require(found: LinearMaps, place: int, output: int, weights: NDArray, bias: float, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(found.weights[place, output].numpy(), weights, atol=atol)
    assert float(found.biases[place, output]) == pytest.approx(bias, abs=atol)


@pytest.mark.parametrize("shape", [(40, 6), (8, 30)])
def test_singular_vectors_give_the_columns_back(shape: tuple[int, int]) -> None:
    values = columns(*shape)
    found = decomposed(values)
    np.testing.assert_allclose((found.scores @ found.basis).numpy(), values, atol=1e-9)
    singular = np.linalg.svd(values, compute_uv=False)
    np.testing.assert_allclose(found.values.flip(0).numpy(), singular[singular > 1e-9])
    np.testing.assert_allclose((found.basis @ found.basis.T).numpy(), np.eye(len(found.values)), atol=1e-9)


@pytest.mark.parametrize("shape", [(40, 6), (8, 30)])
def test_ridge_is_that_of_scikit_learn(shape: tuple[int, int]) -> None:
    values = columns(*shape)
    targets = np.random.default_rng(2).normal(size=(shape[0], 2)) + values[:, :1]
    found = fit_ridge(decomposed(values), torch.from_numpy(targets), PENALTIES)
    for place, penalty in enumerate(PENALTIES.tolist()):
        for output in range(2):
            model = Ridge(alpha=penalty).fit(values, targets[:, output])
            require(found, place, output, model.coef_, model.intercept_)


@pytest.mark.parametrize("shape", [(40, 6), (12, 30)])
def test_logistic_is_that_of_scikit_learn_with_weights_of_clips(shape: tuple[int, int]) -> None:
    values = columns(*shape)
    targets = np.stack([labels(values, 1), 1 - labels(values[:, ::-1], 1)], axis=1)
    weights = np.random.default_rng(3).uniform(0.2, 3.0, size=targets.shape)
    pair = torch.from_numpy(targets.astype(np.float64)), torch.from_numpy(weights)
    found = fit_logistic(decomposed(values), *pair, PENALTIES, tolerance=1e-9)
    rough = fit_logistic(decomposed(values), *pair, PENALTIES, tolerance=1e-3)
    for place, penalty in enumerate(PENALTIES.tolist()):
        for output in range(2):
            model = LogisticRegression(C=1 / penalty, tol=1e-9, max_iter=5000)
            model.fit(values, targets[:, output], sample_weight=weights[:, output])
            require(found, place, output, model.coef_[0], model.intercept_[0])
            np.testing.assert_allclose(rough.weights[place, output].numpy(), model.coef_[0], atol=0.015)


def test_softmax_is_multinomial_regression_with_weights_of_clips() -> None:
    values = columns(60, 6)
    classes, weights = labels(values, 3), np.random.default_rng(3).uniform(0.2, 3.0, size=60)
    of_clips = torch.from_numpy(np.repeat(weights[:, None], 3, axis=1))
    found = fit_logistic(
        decomposed(values), torch.from_numpy(np.eye(3)[classes]), of_clips, PENALTIES, softmax=True, tolerance=1e-9
    )
    for place, penalty in enumerate(PENALTIES.tolist()):
        model = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=5000).fit(values, classes, weights)
        for output in range(3):
            intercept = model.intercept_[output] - model.intercept_.mean() + float(found.biases[place].mean())
            require(found, place, output, model.coef_[output], intercept)


@pytest.mark.parametrize("tolerance", [1e-8, 1e-3])
def test_a_penalty_settles_by_itself(tolerance: float) -> None:
    """Each of many penalties is fitted as if it were alone, and rests when it has settled."""
    values = columns(40, 6)
    pair = torch.from_numpy(labels(values, 1)[:, None].astype(np.float64)), torch.ones(40, 1)
    together = fit_logistic(decomposed(values), *pair, PENALTIES, tolerance=tolerance)
    for place in range(len(PENALTIES)):
        alone = fit_logistic(decomposed(values), *pair, PENALTIES[place : place + 1], tolerance=tolerance)
        require(together, place, 0, alone.weights[0, 0].numpy(), float(alone.biases[0, 0]), atol=1e-6)


@pytest.mark.parametrize("softmax", [False, True])
def test_columns_that_do_not_vary_get_no_weight_and_the_intercept_is_that_of_the_frequencies(softmax: bool) -> None:
    targets = torch.eye(2)[[0, 0, 0, 1]]
    nothing = decomposed(np.zeros((4, 3)))
    found = fit_logistic(nothing, targets, torch.ones(4, 2), PENALTIES, softmax, tolerance=1e-8)
    assert found.weights.shape == (3, 2, 3)
    assert not found.weights.any()
    odds = found.biases[:, 0] - found.biases[:, 1] if softmax else found.biases[:, 0]
    np.testing.assert_allclose(odds, np.log(3), atol=1e-6)
    ridge = fit_ridge(nothing, targets, PENALTIES)
    assert not ridge.weights.any()
    np.testing.assert_allclose(ridge.biases, [[0.75, 0.25]] * 3)


@pytest.mark.parametrize("softmax", [False, True])
def test_outputs_without_an_example_end(softmax: bool) -> None:
    values = columns(30, 4)
    targets = torch.zeros(30, 3, dtype=torch.float64)
    targets[:, :2] = torch.eye(2, dtype=torch.float64)[labels(values, 1)]
    found = fit_logistic(decomposed(values), targets, torch.ones_like(targets), PENALTIES, softmax, tolerance=1e-6)
    outputs_NPC: Tensor = torch.einsum("nd,pcd->npc", torch.from_numpy(values), found.weights) + found.biases
    chances = torch.softmax(outputs_NPC, dim=2) if softmax else torch.sigmoid(outputs_NPC)
    assert float(chances[..., 2].max()) < 0.03
    if not softmax:
        assert not found.weights[:, 2].any()
        model = LogisticRegression(C=0.1, tol=1e-9).fit(values, labels(values, 1))
        require(found, 1, 1, model.coef_[0], model.intercept_[0], atol=1e-4)
