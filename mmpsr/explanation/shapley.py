"""Shapley values of modalities and interactions of pairs of them, exact from one batch of masked copies.

The players are a clip's modalities, the value of a subset is what the model predicts of the clip with all others
masked. The value of the empty subset is what it predicts of a clip without any modality.

A subset of modalities is a number: modality i belongs to it where bit i is set.

Shape suffixes: S = 2^M subsets, B clips, M modalities, C outputs of a task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from mmpsr.batch import Batch
from mmpsr.calibration.calibration import Calibration
from mmpsr.decisions import Array
from mmpsr.models.base import FusionModel
from mmpsr.probabilities import probabilities

__all__ = [
    "INTERACTION_MEANS", "MAX_MODALITIES", "Attribution", "attribute", "interaction_indices", "shapley_values",
    "subset_predictions",
]  # fmt: skip

MAX_MODALITIES = 10  # 1024 masked copies of every clip
TOLERANCE = 1e-6
INTERACTION_MEANS = (
    "Interaction of two modalities: above 0 they add more together than each by itself, so that one gives the other "
    "its weight; below 0 they add less, because they say the same or one makes up for the other; 0 adds as if alone"
)
"""What users are told that an interaction is."""


@dataclass(frozen=True)
class Attribution:
    """The Shapley values of one task; over modalities they sum to `prediction - baseline`.

    Attributes:
        values: by clip, modality and class or trait, `[B, M, C]`; zero for absent modalities.
        baseline: prediction without any modality, `[B, C]`.
        prediction: prediction with the clip's modalities, `[B, C]`.
    """

    values: Array
    baseline: Array
    prediction: Array


def attribute(values_SBC: Array, task: str = "the task") -> Attribution:
    """Compute Shapley values of the predictions of all subsets, checked for adding up.

    Args:
        values_SBC: of `subset_predictions`.
        task: name, for the error.

    Raises:
        ArithmeticError: they do not add up to within 1e-6, because a prediction is not finite.
    """
    baseline_BC, prediction_BC = values_SBC[0], values_SBC[-1]
    values_BMC = shapley_values(values_SBC).swapaxes(0, 1)
    excess_BC = np.abs(values_BMC.sum(axis=1) - (prediction_BC - baseline_BC))
    wrong_B = ~(excess_BC <= TOLERANCE).all(axis=1)
    if wrong_B.any():
        raise ArithmeticError(
            f"{task}: the attributions of {wrong_B.sum()} of {len(wrong_B)} clips do not add up to prediction - "
            f"baseline; the first is clip {wrong_B.argmax()} of the batch, off by {excess_BC[wrong_B.argmax()].max()}. "
            "Its features or the model's weights are not finite, or are huge"
        )
    return Attribution(values_BMC, baseline_BC, prediction_BC)


def shapley_values(values_S: Array) -> Array:
    """Compute the Shapley values of a game's players, `[S, ...] -> [M, ...]`.

        phi_i = sum over subsets S without i of |S|! (M - |S| - 1)! / M! (v(S + i) - v(S))

    A player whose presence never changes the value gets exactly zero.

    Args:
        values_S: v by subset.

    References:
        Shapley: A value for n-person games. 1953.

    Example:
        >>> shapley_values(np.array([0.0, 1.0, 2.0, 5.0])).tolist()  # (1 + 3)/2 and (2 + 4)/2
        [2.0, 3.0]
    """
    num_players = len(values_S).bit_length() - 1
    subsets = np.arange(len(values_S))
    shares = [
        math.factorial(size) * math.factorial(num_players - size - 1) / math.factorial(num_players)
        for size in range(num_players)
    ]
    values = []
    for player in range(num_players):
        without = subsets[subsets >> player & 1 == 0]
        weights = np.array([shares[int(subset).bit_count()] for subset in without])
        values.append(np.tensordot(weights, values_S[without | 1 << player] - values_S[without], axes=1))
    return np.stack(values)


def interaction_indices(values_S: Array) -> Array:
    """Compute the Shapley interaction index of each pair of a game's players, `[S, ...] -> [P, ...]`, pairs as i < j.

        I_ij = sum over subsets S without i and j of |S|! (M - |S| - 2)! / (M - 1)!
               (v(S + i + j) - v(S + i) - v(S + j) + v(S))

    It is what j changes of the contribution of i, averaged over the orders in which i and j come as one: above 0 where
    they add more together than each by itself, below 0 where they add less. It is exactly zero where either never
    changes the value. For two players it is v(ij) - v(i) - v(j) + v().

    Args:
        values_S: v by subset.

    References:
        Grabisch, Roubens: An axiomatic approach to the concept of interaction among players in cooperative games.
        International Journal of Game Theory 28, 1999.

    Example:
        >>> interaction_indices(np.array([0.0, 1.0, 2.0, 5.0])).tolist()  # 5 - 2 - 1 + 0
        [2.0]
    """
    num_players = len(values_S).bit_length() - 1
    subsets = np.arange(len(values_S))
    shares = [
        math.factorial(size) * math.factorial(num_players - size - 2) / math.factorial(num_players - 1)
        for size in range(num_players - 1)
    ]
    indices = np.zeros((math.comb(num_players, 2), *values_S.shape[1:]))
    for place, (one, other) in enumerate(combinations(range(num_players), 2)):
        first, second = 1 << one, 1 << other
        without = subsets[subsets & (first | second) == 0]
        weights = np.array([shares[int(subset).bit_count()] for subset in without])
        with_second = values_S[without | first | second] - values_S[without | second]
        differences = with_second - (values_S[without | first] - values_S[without])
        indices[place] = np.tensordot(weights, differences, axes=1)
    return indices


@torch.no_grad()
def subset_predictions(model: FusionModel, batch: Batch, calibration: Calibration | None = None) -> dict[str, Array]:
    """Predict every clip with only the modalities of each subset, in one pass.

    Subsets that differ in modalities which the clip lacks have the same prediction, bit for bit.

    Args:
        model: in any mode, predicts as in evaluation.
        batch: clips on the model's device.
        calibration: applied to every prediction.

    Returns:
        Calibrated probabilities, or scores, by task, `[2^M, B, C]`.

    Raises:
        ValueError: the model has more than 10 modalities.
    """
    num_clips, num_modalities = batch.presence.shape
    if num_modalities > MAX_MODALITIES:
        raise ValueError(
            f"exact attribution takes 2^M masked copies of a clip, for up to {MAX_MODALITIES} modalities; the model "
            f"has {num_modalities}: {list(batch.features)}"
        )
    calibration = calibration or Calibration()
    num_subsets = 2**num_modalities
    bits_M = 2 ** torch.arange(num_modalities, device=batch.presence.device)
    members_SM = (torch.arange(num_subsets, device=bits_M.device).unsqueeze(1) & bits_M) > 0
    presence_SBM = members_SM.unsqueeze(1) & batch.presence
    training = model.training
    copies = Batch(
        {name: tensor.repeat(num_subsets, 1) for name, tensor in batch.features.items()},
        presence_SBM.flatten(0, 1),
        sequences={
            name: (values.repeat(num_subsets, 1, 1), mask.repeat(num_subsets, 1))
            for name, (values, mask) in batch.sequences.items()
        },
    )
    predictions = model.eval()(copies)
    model.train(training)
    reached_SB = (presence_SBM * bits_M).sum(dim=2).cpu().numpy()  # the subset that is left of each, by clip
    by_task = {}
    for task, spec in model.tasks.items():
        values = probabilities(predictions.of(task).float(), spec).cpu().double().numpy()
        values_SBC = calibration.apply(task, values).reshape(num_subsets, num_clips, -1)
        by_task[task] = values_SBC[reached_SB, np.arange(num_clips)]
    return by_task
