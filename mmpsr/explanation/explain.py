"""Why a clip is predicted what it is: contributions of modalities, conflict between them, attention and prototypes.

Everything comes from one pass of masked copies of the clips, see `mmpsr.explanation.shapley`.

Shape suffixes: B clips, M modalities, P pairs of them, N attention heads, H hidden width, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.batch import Batch
from mmpsr.calibration.calibration import Calibration
from mmpsr.explanation.shapley import Array, Attribution, attribute, subset_predictions
from mmpsr.layers.attention.cross import CrossAttention
from mmpsr.layers.attention.two_stream import BiCA
from mmpsr.layers.nodes import conflicts, masked_mean
from mmpsr.models.base import FusionModel
from mmpsr.models.mcdm import MCDM, TaskTower
from mmpsr.probabilities import has_one_class
from mmpsr.tasks import TaskSpec

__all__ = ["Explanation", "PairConflict", "Prototype", "TaskExplanation", "explain", "prediction_conflicts"]


@dataclass(frozen=True)
class PairConflict:
    """How far two modalities, each alone, are from saying the same, in [0, 1]; see `prediction_conflicts`."""

    first: str
    second: str
    value: float


@dataclass(frozen=True)
class Prototype:
    """A guide's class, and the cosine in [-1, 1] between it and the clip's pooled representation."""

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
    """

    prediction: dict[str, float]
    baseline: dict[str, float]
    shapley: dict[str, dict[str, float]]
    alone: dict[str, dict[str, float]]
    conflicts: tuple[PairConflict, ...]
    attention: dict[str, float] | None
    guides: tuple[Prototype, ...] | None
    notes: tuple[str, ...]

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
        """JSON values."""
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
        found = subset_predictions(model, batch, calibration)
    attributions = {task: attribute(values_SBC, task) for task, values_SBC in found.items()}
    presence_BM = batch.presence.cpu()
    alone = {task: values_SBC[[1 << i for i in range(len(model.modalities))]] for task, values_SBC in found.items()}
    pairs = {
        task: prediction_conflicts(alone[task].swapaxes(0, 1), presence_BM, model.tasks[task]).tolist()
        for task in model.tasks
    }
    inner = {task: _look(model, task, sights.get(task, _Sight()), batch.presence) for task in model.tasks}
    explanations = []
    for row, present_M in enumerate(presence_BM.tolist()):
        present = tuple(name for name, there in zip(model.modalities, present_M, strict=True) if there)
        tasks = {
            task: _task(row, model, task, attributions[task], alone[task], pairs[task][row], inner[task], present)
            for task in model.tasks
        }
        explanations.append(Explanation(model.modalities, present, tasks))
    return explanations


def prediction_conflicts(alone_BMC: Array, mask_BM: Tensor, spec: TaskSpec) -> Tensor:
    """How far apart the predictions from each pair of modalities alone are, `[B, P]` in [0, 1], pairs in order i < j.

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
    """What a task's attention was seen to do: its weights in the order of calls, and the tokens it gave."""

    weights: list[Tensor] = field(default_factory=list)
    tokens: list[Tensor] = field(default_factory=list)


@contextmanager
def _watched(model: FusionModel) -> Iterator[dict[str, _Sight]]:
    """What each task's attention does while open."""
    sights: dict[str, _Sight] = {}
    hooks = []
    for task, tower in model.towers.items() if isinstance(model, MCDM) else ():
        sight, attention = sights.setdefault(task, _Sight()), cast(nn.Module, tower.attention)
        hooks.append(attention.register_forward_hook(lambda _, __, output, sight=sight: sight.tokens.append(output)))
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


@dataclass(frozen=True)
class _Inner:
    """By clip, the attention's share of each modality and the cosine to each prototype, and why there are none."""

    attention: list[list[float]] | None
    cosines: list[list[float]] | None
    notes: tuple[str, ...]


def _look(model: FusionModel, task: str, sight: _Sight, mask_BM: Tensor) -> _Inner:
    """Attention and cosines of the unmasked copies, which are the last of the batch."""
    num_clips, notes = mask_BM.shape[0], []
    attention_BM: Tensor | None = None
    cosines_BC: Tensor | None = None
    if sight.weights:
        shares = [masked_mean(weights[-num_clips:].mean(dim=1), mask_BM) for weights in sight.weights]
        attention_BM = torch.stack(shares).mean(dim=0)
    else:
        what = "its cross-attention is switched off" if sight.tokens else "it fuses without attending over modalities"
        notes.append(f"no attention: {what}")
    guides = cast(TaskTower, model.towers[task]).guides if sight.tokens else None
    if guides is None:
        notes.append("no prototypes: the model has no guide bank")
    else:
        pooled_B1H = masked_mean(sight.tokens[0][-num_clips:], mask_BM).unsqueeze(1)
        cosines_BC = functional.cosine_similarity(pooled_B1H, guides.detach(), dim=-1)
    return _Inner(_numbers(attention_BM), _numbers(cosines_BC), tuple(notes))


def _numbers(tensor: Tensor | None) -> list[list[float]] | None:
    return None if tensor is None else tensor.tolist()


def _task(
    row: int,
    model: FusionModel,
    task: str,
    found: Attribution,
    alone_MBC: Array,
    pairs_P: Sequence[float],
    inner: _Inner,
    present: tuple[str, ...],
) -> TaskExplanation:
    classes, names = model.tasks[task].classes, model.modalities

    def by_class(values_C: Array | Sequence[float]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(classes, values_C, strict=True)}

    between = zip(combinations(names, 2), pairs_P, strict=True)
    pairs = [PairConflict(*pair, value) for pair, value in between if set(pair) <= set(present)]
    guides: Mapping[str, float] = {} if inner.cosines is None else by_class(inner.cosines[row])
    ordered = sorted(guides.items(), key=lambda item: -item[1])
    return TaskExplanation(
        by_class(found.prediction[row]),
        by_class(found.baseline[row]),
        {name: by_class(values_C) for name, values_C in zip(names, found.values[row], strict=True)},
        {name: by_class(alone_MBC[i, row]) for i, name in enumerate(names) if name in present},
        tuple(sorted(pairs, key=lambda pair: -pair.value)),
        None if inner.attention is None else dict(zip(names, inner.attention[row], strict=True)),
        None if inner.cosines is None else tuple(Prototype(name, cosine) for name, cosine in ordered),
        inner.notes,
    )
