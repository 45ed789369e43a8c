"""Views of a batch that a step takes, and the compiled model that may stand in for it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from mmpsr.batch import Batch, Predictions
from mmpsr.config import ConfigError, base_of
from mmpsr.models.base import FusionModel
from mmpsr.models.prototype_teacher import PrototypeTeacher
from mmpsr.objective.objective import Objective

__all__ = [
    "StepResult", "StepViews", "compile_model", "hide_drawn", "hide_modalities", "make_views", "num_bases",
    "sum_over_processes",
]  # fmt: skip

COMPILERS = {"darwin": "clang++", "win32": "cl"}


@dataclass(frozen=True)
class StepResult:
    """What a step found, over the global batch; all tensors stay on the device.

    Attributes:
        losses: `[branches, tasks]` means.
        counts: `[branches, tasks]` rows or elements that counted.
        weights: `[branches, tasks]` after balancing.
        accepted: by task `[C]`, pseudo-labels that counted (`mmpsr.objective.pseudo_labels.PseudoLoss`); empty without
            any.
        candidates: likewise, those that could have.
        cosines: `[K, K]` between the losses' gradients over shared parameters, branch by branch, NaN for a loss without
            a row or gradient; None at steps that do not look (`CONFLICT_STEPS`).
    """

    losses: Tensor
    counts: Tensor
    weights: Tensor
    accepted: dict[str, Tensor]
    candidates: dict[str, Tensor]
    cosines: Tensor | None = None


@dataclass(frozen=True)
class StepViews:
    """The clips of a step as the model sees them, and what the losses compare them with.

    Attributes:
        batch: what the losses are taken on.
        rows: what the model predicts: the batch, followed by its strong view where the method has one.
        weak: the model's predictions of the clips with all modalities, where the batch has lost some and a strong view
            is to be taught.
        teacher: predictions of the averaged model, or of class texts, of the clips with all modalities.
    """

    batch: Batch
    rows: Batch
    weak: Predictions | None
    teacher: Predictions | None

    @property
    def is_double(self) -> bool:
        """Whether the strong view follows the batch."""
        return len(self.rows) > len(self.batch)

    def losses(self, objective: Objective, outputs: Predictions, accelerator: Accelerator) -> tuple[Tensor, StepResult]:
        """Compute this process' share of every mean loss `[K]`, and the global means and counts."""
        size = len(self.batch)
        strong = outputs.slice(size, 2 * size) if self.is_double else None
        total = partial(sum_over_processes, accelerator=accelerator)
        own = outputs.slice(0, size) if self.is_double else outputs
        terms = objective.terms(own, self.batch, weak=self.weak, strong=strong, teacher=self.teacher, total=total)
        losses = [terms.losses[key] for key in objective.keys]
        shape = (len(objective.branches), len(objective.tasks))
        counts = total(torch.stack([term.count.to(term.total.dtype) for term in losses]))
        shares = torch.stack([term.total for term in losses]) / counts.clamp(min=1)
        means = total(shares.detach().clone()).view(shape)
        pseudo = [{name: total(each) for name, each in found.items()} for found in (terms.accepted, terms.candidates)]
        return shares, StepResult(means, counts.view(shape), torch.ones_like(means), pseudo[0], pseudo[1])

    def masks(self, task: str) -> Tensor:
        """Mark which rows count for the supervised and for the pseudo-label loss of a task, bool `[2, rows]`."""
        labeled_B = self.batch.labeled(task)
        if not self.is_double:
            return torch.stack([labeled_B, ~labeled_B])
        none_B = torch.zeros_like(labeled_B)
        return torch.stack([torch.cat([labeled_B, none_B]), torch.cat([none_B, ~labeled_B])])


@torch.no_grad()
def make_views(
    model: FusionModel,
    objective: Objective,
    batch: Batch,
    hide_rate: float,
    teacher: FusionModel | PrototypeTeacher | None,
) -> StepViews:
    """Make what a step predicts and compares: modalities hidden, the strong view made, a teacher asked."""
    hidden = hide_modalities(batch, hide_rate)
    semi, rows, weak = objective.semi_supervision, hidden, None
    if semi is not None and semi.needs_strong_view:
        rows = hidden.followed_by(semi.strong_view(batch))
        weak = model(batch) if hidden is not batch else None
    return StepViews(hidden, rows, weak, None if teacher is None else teacher(batch))


def hide_modalities(batch: Batch, rate: float) -> Batch:
    """Hide each present modality, with all its views, with the given probability; a clip that would lose all keeps all.

    Args:
        batch: presence `[B, M]`.
        rate: in [0, 1).
    """
    if rate == 0.0:
        return batch
    drawn = torch.rand((len(batch), num_bases(batch)), device=batch.presence.device)
    return hide_drawn(batch, drawn >= rate)


def num_bases(batch: Batch) -> int:
    """Count the modalities of a batch, each with all its views."""
    return len({base_of(name) for name in batch.features})


def hide_drawn(batch: Batch, stays: Tensor) -> Batch:
    """Hide what does not stay, bool `[B, num_bases]`; a clip that would lose all keeps all."""
    bases = [base_of(name) for name in batch.features]
    column = {base: number for number, base in enumerate(dict.fromkeys(bases))}
    kept = batch.presence & stays[:, [column[base] for base in bases]]
    return batch.with_presence(torch.where(kept.any(dim=1, keepdim=True), kept, batch.presence))


def sum_over_processes(tensor: Tensor, accelerator: Accelerator) -> Tensor:
    """Sum every process' tensor."""
    return accelerator.reduce(tensor, reduction="sum") if accelerator.num_processes > 1 else tensor


def compile_model(model: FusionModel) -> Callable[[Batch], Predictions]:
    """Compile the model to one function of a batch, with the same parameters and state.

    It is compiled when it is first called, and again when batches of another size come. Dropout draws other numbers
    than uncompiled.

    Raises:
        ConfigError: on a CPU without a C++ compiler.
    """
    if next(model.parameters()).device.type == "cpu":
        name = os.environ.get("CXX") or COMPILERS.get(sys.platform, "g++")
        if shutil.which(name) is None:
            raise ConfigError(
                f"training.compile needs a C++ compiler on a CPU, and there is no {name!r} here; install one, "
                "name it by the environment variable CXX, or leave training.compile out"
            )
    return torch.compile(model)
