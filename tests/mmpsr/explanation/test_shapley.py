"""Shapley values against brute force and axioms, and what models predict of masked clips."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from mmpsr.batch import Batch
from mmpsr.explanation.shapley import attribute, interaction_indices, shapley_values, subset_predictions
from mmpsr.models.build import create_model
from mmpsr.models.config import ModelConfig
from mmpsr.probabilities import probabilities
from tests.support import joined as small
from tests.support.four_modalities import AWARE_CONFIG, CALIBRATION, MCDM_CONFIG, PRESENCE, batch_of, model_of


def brute_force(values: np.ndarray) -> np.ndarray:
    """Mean over all orders of what each player adds when it joins."""
    num_players = len(values).bit_length() - 1
    found = np.zeros((num_players, *values.shape[1:]))
    orders = list(permutations(range(num_players)))
    for order in orders:
        there = 0
        for player in order:
            found[player] += values[there | 1 << player] - values[there]
            there |= 1 << player
    return found / len(orders)


@pytest.mark.parametrize("num_players", [1, 2, 3, 4, 5])
def test_equals_brute_force_over_all_orders(num_players: int) -> None:
    values = np.random.default_rng(num_players).normal(size=(2**num_players, 3, 2))
    np.testing.assert_allclose(shapley_values(values), brute_force(values), atol=1e-12)


def test_a_game_worked_by_hand() -> None:
    # Player 0 has a left glove, 1 and 2 have right ones; a pair is worth 1. Player 0 completes a pair in the 4 of 6
    # orders in which it is not first; each of the others in the one order that begins with 0 and then it.
    worth = np.array([float(subset & 1 and subset > 1) for subset in range(8)])
    np.testing.assert_allclose(shapley_values(worth), [4 / 6, 1 / 6, 1 / 6], atol=1e-15)


def test_symmetry_null_player_and_efficiency_of_a_game() -> None:
    """Players 0 and 2 are alike (the value depends on how many of them there are), 1 matters, 3 never does."""
    values = np.array(
        [np.exp((subset & 1) + (subset >> 2 & 1) + 3 * (subset >> 1 & 1)) for subset in range(16)]
    )  # fmt: skip
    found = shapley_values(values)
    assert found[0] == pytest.approx(found[2], abs=1e-12)
    assert found[3] == 0.0
    assert found.sum() == pytest.approx(values[15] - values[0], abs=1e-9)
    assert found[1] > found[0] > 0


def brute_force_interactions(values: np.ndarray) -> np.ndarray:
    """Mean over all orders in which a pair comes as one of what each changes of what the other adds."""
    num_players = len(values).bit_length() - 1
    found = []
    for pair in combinations(range(num_players), 2):
        one, other = (1 << player for player in pair)
        others = [player for player in range(num_players) if player not in pair]
        orders = list(permutations([*others, pair]))
        total = np.zeros(values.shape[1:])
        for order in orders:
            there = sum(1 << player for player in order[: order.index(pair)])
            total += values[there | one | other] - values[there | one] - values[there | other] + values[there]
        found.append(total / len(orders))
    return np.array(found)


@pytest.mark.parametrize("num_players", [2, 3, 4, 5])
def test_interactions_equal_brute_force_over_all_orders(num_players: int) -> None:
    values = np.random.default_rng(num_players).normal(size=(2**num_players, 3, 2))
    np.testing.assert_allclose(interaction_indices(values), brute_force_interactions(values), atol=1e-12)


def test_interactions_of_a_game_worked_by_hand() -> None:
    # The gloves above. 0 and 1 complete each other where 2 is not there yet: (1 - 0 - 0 + 0 and 1 - 1 - 0 + 0) / 2.
    # 1 and 2 make up for each other where 0 is there: (0 and 1 - 1 - 1 + 0) / 2.
    worth = np.array([float(subset & 1 and subset > 1) for subset in range(8)])
    np.testing.assert_allclose(interaction_indices(worth), [0.5, 0.5, -0.5], atol=1e-15)


def test_who_adds_alike_whoever_is_there_interacts_with_nobody() -> None:
    """Players 0 and 1 multiply, 2 is added, 3 changes nothing."""
    bits = [[subset >> player & 1 for player in range(4)] for subset in range(16)]
    values = np.array([4.0 * one * other + 0.3 * added for one, other, added, _ in bits])
    np.testing.assert_allclose(interaction_indices(values), [4.0, 0, 0, 0, 0, 0], atol=1e-12)
    assert (interaction_indices(values)[[2, 4, 5]] == 0.0).all()
    assert interaction_indices(np.array([0.2, 0.7])).shape == (0,)  # one player has nobody to interact with


@pytest.mark.parametrize("kind", ["mcdm", "conflict_aware"])
def test_contributions_to_predictions(kind: str) -> None:
    has_sequences = kind == "conflict_aware"
    model = model_of(AWARE_CONFIG, {"audio": 2}) if has_sequences else model_of(MCDM_CONFIG)
    batch = batch_of(with_sequences=has_sequences)
    found = subset_predictions(model, batch, CALIBRATION)
    nothing = batch.with_presence(torch.zeros_like(PRESENCE))
    for task, spec in model.tasks.items():
        values, outputs = attribute(found[task]), [model(each).of(task).detach() for each in (batch, nothing)]
        expected = [CALIBRATION.apply(task, probabilities(each, spec).double().numpy()) for each in outputs]
        np.testing.assert_allclose(values.prediction, expected[0], atol=1e-5)
        np.testing.assert_allclose(values.baseline, expected[1], atol=1e-5)
        np.testing.assert_allclose(values.values.sum(axis=1), values.prediction - values.baseline, atol=1e-12)
        assert (values.values[~PRESENCE.numpy()] == 0.0).all()
        assert np.abs(values.values[0]).min() > 1e-6


def test_equals_brute_force_on_a_model_masked_one_subset_at_a_time() -> None:
    model, batch = model_of(MCDM_CONFIG), batch_of()
    found = attribute(subset_predictions(model, batch)["personality"]).values
    one_by_one = []
    for subset in range(16):
        members = torch.tensor([bool(subset >> i & 1) for i in range(4)])
        one_by_one.append(model(batch.with_presence(PRESENCE & members)).of("personality").detach().double().numpy())
    np.testing.assert_allclose(found, brute_force(np.stack(one_by_one)).swapaxes(0, 1), atol=1e-6)


def test_a_clip_is_explained_alike_whatever_the_batch_and_the_mode() -> None:
    model, batch = model_of(MCDM_CONFIG).train(), batch_of()
    alone = Batch({name: vectors[1:2] for name, vectors in batch.features.items()}, PRESENCE[1:2])
    both = [attribute(subset_predictions(model, each)["emotion"]).values for each in (batch, alone)]
    np.testing.assert_allclose(both[0][1], both[1][0], atol=1e-6)
    assert model.training


@pytest.mark.parametrize("graph", ["none", "gat", "ucgnn", "edgnn", "hgnn", "ncgnn"])
@pytest.mark.parametrize("attention", ["none", "mha", "mta", "crossmpt", "bica", "fa"])
def test_without_any_modality_predictions_are_finite_and_the_same_for_all(graph: str, attention: str) -> None:
    config = ModelConfig(
        hidden_width=8, head_width=8, num_heads=2, graph=graph, attention=attention, conflict_features=True,
        linear_path={"emotion": "trained"},
    )  # fmt: skip
    model = model_of(config)
    predictions = model(batch_of(torch.zeros_like(PRESENCE)))
    for task in model.tasks:
        assert torch.isfinite(predictions.of(task)).all()
        torch.testing.assert_close(predictions.of(task), predictions.of(task)[:1].expand(3, -1), atol=1e-6, rtol=0)


def test_subsets_are_numbered_by_their_modalities() -> None:
    model, batch = model_of(MCDM_CONFIG), batch_of()
    values = subset_predictions(model, batch)["personality"]
    only_audio_and_text = batch.with_presence(PRESENCE & torch.tensor([False, True, True, False]))
    expected = model(only_audio_and_text).of("personality").detach()
    np.testing.assert_allclose(values[0b0110], expected, atol=1e-6)
    np.testing.assert_array_equal(values[0b0110][1], values[0b0100][1])  # that clip has no audio


def test_what_does_not_add_up_is_an_error() -> None:
    values = np.zeros((4, 3, 2))
    values[3, 1, 0] = np.nan
    with pytest.raises(ArithmeticError, match=r"mood: the attributions of 1 of 3 clips .* the first is clip 1"):
        attribute(values, "mood")


def test_too_many_modalities_are_refused() -> None:
    widths = {f"sensor{i}": 2 for i in range(11)}
    model = create_model(ModelConfig(hidden_width=4, num_heads=1, graph="none"), widths, small.tasks())
    batch = Batch({name: torch.zeros(1, 2) for name in widths}, torch.ones(1, 11, dtype=torch.bool))
    with pytest.raises(ValueError, match="up to 10 modalities; the model has 11"):
        subset_predictions(model, batch)
