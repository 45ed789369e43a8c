"""Explanations of a clip's predictions: contributions of modalities, interactions, conflict, attention, prototypes.

Everything comes from one pass of masked copies of the clips, see `mmpsr.explanation.shapley`.

Shape suffixes: B clips, M modalities, P pairs of them, N attention heads, H hidden width, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import combinations, compress
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.batch import Batch
from mmpsr.calibration.calibration import Calibration
from mmpsr.decisions import Array
from mmpsr.explanation.shapley import attribute, interaction_indices, subset_predictions
from mmpsr.layers.attention.cross import CrossAttention
from mmpsr.layers.attention.two_stream import BiCA
from mmpsr.layers.nodes import conflicts, masked_mean
from mmpsr.layers.text_guides import TextGuides
from mmpsr.models.base import FusionModel
from mmpsr.models.mcdm import MCDM, TaskTower
from mmpsr.probabilities import has_one_class
from mmpsr.tasks import TaskSpec

__all__ = [
    "Explanation", "PairConflict", "PairInteraction", "Prototype", "TaskExplanation", "explain", "prediction_conflicts",
]  # fmt: skip


@dataclass(frozen=True)
class PairConflict:
    """How far two modalities, each alone, are from saying the same, in [0, 1]; see `prediction_conflicts`."""

    first: str
    second: str
    value: float


@dataclass(frozen=True)
class PairInteraction:
    """What two modalities add by being there together, see `mmpsr.explanation.shapley.interaction_indices`.

    Attributes:
        first: modality.
        second: modality.
        values: by class or trait, in the unit of the prediction; above 0 they add more than each by itself.
    """

    first: str
    second: str
    values: dict[str, float]


@dataclass(frozen=True)
class Prototype:
    """A class's prototype in the guide bank, and its cosine in [-1, 1] with the clip's pooled representation.

    Where it is a text, its similarity with the clip's words (`mmpsr.layers.text_guides`), for traits in [-2, 2].
    """

    name: str
    cosine: float


@dataclass(frozen=True)
class TaskExplanation:
    """One task's prediction of one clip, and where it comes from.

    Attributes:
        prediction: calibrated probability, or score, by class or trait.
        baseline: the same for a clip without any modality.
        shapley: by modality, absent ones (zero) included, and by class; these add up to prediction - baseline.
        alone: by present modality, what is predicted from it alone.
        conflicts: of each pair of present modalities, the largest first.
        attention: by modality, its share as a key of the task's cross-attention: the mean of its weights over heads and
            present queries, of CrossMPT and BiCA over both directions. None where the model has no such weights. They
            sum to 1 but in a multi-token attention, which mixes and gates them.
        guides: prototypes of the guide bank by falling cosine, or None without one.
        notes: why `attention` or `guides` is None.
        interactions: of each pair of present modalities, in the model's order.
    """

    prediction: dict[str, float]
    baseline: dict[str, float]
    shapley: dict[str, dict[str, float]]
    alone: dict[str, dict[str, float]]
    conflicts: tuple[PairConflict, ...]
    attention: dict[str, float] | None
    guides: tuple[Prototype, ...] | None
    notes: tuple[str, ...]
    interactions: tuple[PairInteraction, ...] = ()

    @property
    def mean_conflict(self) -> float | None:
        """Mean over pairs, None with fewer than two modalities."""
        values = [pair.value for pair in self.conflicts]
        return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Explanation:
    """One clip's predictions explained.

    Attributes:
        modalities: of the model, in its order.
        present: those that the clip has.
        tasks: by task.
    """

    modalities: tuple[str, ...]
    present: tuple[str, ...]
    tasks: dict[str, TaskExplanation]

    def to_dict(self) -> dict[str, Any]:
        """Give JSON values."""
        return asdict(self)


def explain(model: FusionModel, batch: Batch, calibration: Calibration | None = None) -> list[Explanation]:
    """Explain the predictions of clips, in one pass of 2^M masked copies of the batch.

    Args:
        model: in any mode, predicts as in evaluation.
        batch: clips on the model's device.
        calibration: applied to every prediction.

    Returns:
        One for each clip.

    Raises:
        ValueError: the model has more than 10 modalities.
        ArithmeticError: attributions do not add up, because a prediction is not finite.
    """
    with _watched(model) as sights:
        predictions = subset_predictions(model, batch, calibration)
    tasks = {
        task: _explain_task(model, task, values_SBC, sights[task], batch.presence)
        for task, values_SBC in predictions.items()
    }
    return [
        Explanation(
            model.modalities,
            tuple(compress(model.modalities, present_M)),
            {task: explanations[row] for task, explanations in tasks.items()},
        )
        for row, present_M in enumerate(batch.presence.tolist())
    ]


def prediction_conflicts(alone_BMC: Array, mask_BM: Tensor, spec: TaskSpec) -> Tensor:
    """Measure how far apart predictions from each pair of modalities alone are, `[B, P]` in [0, 1], pairs as i < j.

    With p_i the prediction from modality i alone:

        probabilities that sum to 1: 1/2 sum_c |p_ic - p_jc|,   sigmoids and scores: 1/C sum_c |p_ic - p_jc|

    The first is the total-variation distance, the second its mean over classes as distributions of two, or the mean
    distance of scores. Zero where either modality is absent.

    Args:
        alone_BMC: calibrated probabilities or scores.
        mask_BM: bool, which modalities are present.
        spec: the task.

    Example:
        >>> from mmpsr.tasks import AMBIVALENCE
        >>> import numpy as np
        >>> alone = np.array([[[0.9, 0.1], [0.3, 0.7]]])  # (0.6 + 0.6)/2
        >>> round(prediction_conflicts(alone, torch.ones(1, 2, dtype=torch.bool), AMBIVALENCE).item(), 6)
        0.6
    """
    distances_BPC = conflicts(torch.from_numpy(alone_BMC), mask_BM)
    return distances_BPC.sum(dim=2) / (2 if has_one_class(spec) else spec.num_outputs)


@dataclass
class _Sight:
    """What a task's attention and text guides did: weights in the order of calls, tokens, and similarities to texts."""

    weights: list[Tensor] = field(default_factory=list)
    tokens: list[Tensor] = field(default_factory=list)
    near: list[Tensor] = field(default_factory=list)


@contextmanager
def _watched(model: FusionModel) -> Iterator[dict[str, _Sight]]:
    """Note what each task's attention does while open."""
    sights = {task: _Sight() for task in model.tasks}
    hooks = []
    for task, tower in model.towers.items() if isinstance(model, MCDM) else ():
        sight, attention = sights[task], cast(nn.Module, tower.attention)
        hooks.append(attention.register_forward_hook(lambda _, __, output, sight=sight: sight.tokens.append(output)))
        if isinstance(tower.text_guides, TextGuides):
            hooks.append(
                tower.text_guides.register_forward_hook(lambda _, __, output, sight=sight: sight.near.append(output))
            )
        for layer in attention.modules():
            if isinstance(layer, CrossAttention | BiCA):  # what passes through their dropout are the weights
                hooks.append(
                    layer.dropout.register_forward_hook(lambda _, __, output, sight=sight: sight.weights.append(output))
                )
    try:
        yield sights
    finally:
        for hook in hooks:
            hook.remove()


def _explain_task(
    model: FusionModel, task: str, values_SBC: Array, sight: _Sight, mask_BM: Tensor
) -> list[TaskExplanation]:
    """Explain one task's predictions of every clip.

    Args:
        model: that made them.
        task: name.
        values_SBC: of `subset_predictions`.
        sight: of the task's attention; the unmasked copies are the last of the batch.
        mask_BM: bool, which modalities are present.
    """
    spec, names, num_clips = model.tasks[task], model.modalities, len(mask_BM)
    attribution, interactions_PBC = attribute(values_SBC, task), interaction_indices(values_SBC)
    alone_MBC = values_SBC[[1 << index for index in range(len(names))]]
    distances_BP = prediction_conflicts(alone_MBC.swapaxes(0, 1), mask_BM.cpu(), spec).tolist()
    attention, cosines, notes = None, None, []
    if sight.weights:
        shares = [masked_mean(weights[-num_clips:].mean(dim=1), mask_BM) for weights in sight.weights]
        attention = torch.stack(shares).mean(dim=0).tolist()
    else:
        reason = "its cross-attention is switched off" if sight.tokens else "it fuses without attending over modalities"
        notes.append(f"no attention: {reason}")
    prototypes = cast(TaskTower, model.towers[task]).guides if sight.tokens else None
    if sight.near:
        cosines = sight.near[0][-num_clips:].tolist()
    elif prototypes is None:
        notes.append("no prototypes: the model has no guide bank")
    else:
        pooled_B1H = masked_mean(sight.tokens[0][-num_clips:], mask_BM).unsqueeze(1)
        cosines = functional.cosine_similarity(pooled_B1H, prototypes.detach(), dim=-1).tolist()

    def by_class(values_C: Array | Sequence[float]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(spec.classes, values_C, strict=True)}

    explanations = []
    for row, present_M in enumerate(mask_BM.tolist()):
        present = set(compress(names, present_M))
        distances = zip(combinations(names, 2), distances_BP[row], strict=True)
        together = [
            PairInteraction(*pair, by_class(values_C))
            for pair, values_C in zip(combinations(names, 2), interactions_PBC[:, row], strict=True)
            if present.issuperset(pair)
        ]
        pairs = [PairConflict(*pair, distance) for pair, distance in distances if present.issuperset(pair)]
        guides = None if cosines is None else [Prototype(*item) for item in by_class(cosines[row]).items()]
        explanations.append(
            TaskExplanation(
                by_class(attribution.prediction[row]),
                by_class(attribution.baseline[row]),
                {name: by_class(values_C) for name, values_C in zip(names, attribution.values[row], strict=True)},
                {name: by_class(alone_MBC[index, row]) for index, name in enumerate(names) if name in present},
                tuple(sorted(pairs, key=lambda pair: -pair.value)),
                None if attention is None else dict(zip(names, attention[row], strict=True)),
                None if guides is None else tuple(sorted(guides, key=lambda guide: -guide.cosine)),
                tuple(notes),
                tuple(together),
            )
        )
    return explanations
