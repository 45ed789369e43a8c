"""The training loop of several runs: every run has its own epochs, early stopping, best weights and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmpsr.batch import Predictions
from mmpsr.errors import Interrupted
from mmpsr.layers.dropout import MemberDraws
from mmpsr.models.base import FusionModel
from mmpsr.models.fused import FusedMCDM
from mmpsr.models.mcdm import MCDM
from mmpsr.stacked.model import NotStackableError, StackedModel, require_alike
from mmpsr.stacked.objective import StackedObjective
from training.fit.live import Watch, mean_stand
from training.fit.loop import Course, StopSignals
from training.fit.optimization import Schedule
from training.scoring.scores import BATCH, joined_outputs
from training.stacked.rows import RowOptimizer, Rows, row_of
from training.stacked.step import StackedStep, cut_clips

__all__ = ["train_stacked"]

SECONDS = 5.0
"""From a checkpoint of a run to the end of an epoch that is followed by the next one; epochs of a stack are short."""


def train_stacked(
    begin: Sequence[Callable[[], Course]],
    leaves: Callable[[int, Exception], bool] = lambda index, error: False,
    watch: Watch | None = None,
) -> Iterator[tuple[int, Course]]:
    """Train runs as one stack, each as it would be trained alone; one that ends early leaves the stack.

    Args:
        begin: begins or continues a run; torch's random state is then the run's.
        leaves: told the number of a run and what its epoch's end raised; whether it leaves the stack then, unfinished.
            The error is raised where it does not.
        watch: told where those stand that are left in the stack.

    Yields:
        Number and course of a run whose epochs are over, to be finished.

    Raises:
        NotStackableError: the models, or their losses, cannot be trained as one; no run was changed.
        Interrupted: SIGINT or SIGTERM came and a checkpoint of every run that is left was written.
    """
    members = [_Member.begin(index, first) for index, first in enumerate(begin)]
    stack: _Stack | None = None
    with StopSignals(enabled=True) as signals:
        while members:
            ending = [member for member in members if member.course.ends_epoch]
            is_shared = stack is not None and len(ending) == len(members) and stack.shares_dev
            predicted = stack.predict_dev() if stack is not None and is_shared else [None] * len(ending)
            for member, known in zip(ending, predicted, strict=True):
                try:
                    member.course.end_epoch(known)
                except Exception as error:
                    if not leaves(member.index, error):
                        raise
                    members, stack = [other for other in members if other is not member], None
                    continue
                if time.monotonic() - member.saved >= SECONDS:
                    member.save()
            over = [member for member in members if member.course.is_over]
            if over:
                members, stack = [member for member in members if not member.course.is_over], None
                for done, member in enumerate(over):
                    yield member.index, member.course
                    if signals.received and (left := [*over[done + 1 :], *members]):  # it came while that was finished
                        for other in left:
                            other.save()
                        raise left[0].course.interrupted()
                continue
            if not members:
                break
            if watch is not None:
                watch(mean_stand([member.course.stand for member in members]))
            stack = stack or _Stack(members)
            stack.take_step()
            is_stopped = signals.received
            for member in members:
                course = member.course
                if is_stopped or course.state.step % course.config.training.checkpoint_steps == 0:
                    member.save()
            if is_stopped:
                raise members[0].course.interrupted()
        if signals.received:
            raise Interrupted("stopped after the last step of all runs")


@dataclass
class _Member:
    """A run of a stack, with the generator that it draws from and the optimizer of its row of weights."""

    index: int
    course: Course
    generator: torch.Generator
    rows: Rows
    optimizer: RowOptimizer
    saved: float

    @classmethod
    def begin(cls, index: int, begin: Callable[[], Course]) -> _Member:
        course = begin()
        state, settings, device = course.state, course.config.training, course.joined.presence.device
        generator = torch.Generator(device)
        is_cpu = device.type == "cpu"
        generator.set_state(torch.get_rng_state() if is_cpu else torch.cuda.get_rng_state(device))
        rows = Rows(state.model, settings)
        optimizer = RowOptimizer(rows, settings, device)
        schedule = Schedule(optimizer.ordinary, settings, course.steps_per_epoch * settings.num_epochs)
        optimizer.load_state_dict(state.optimizer.state_dict())
        schedule.load_state_dict(state.schedule.state_dict())
        state.optimizer, state.schedule = optimizer, schedule  # type: ignore[assignment]
        return cls(index, course, generator, rows, optimizer, time.monotonic())

    def save(self) -> None:
        """Write a checkpoint, as the run alone would."""
        course, device = self.course, self.generator.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            if device.type == "cuda":
                torch.cuda.set_rng_state(self.generator.get_state(), device)
            else:
                torch.set_rng_state(self.generator.get_state())
            course.state.save(course.run.checkpoints, course.accelerator)
        self.saved = time.monotonic()


class _Stack:
    """Rows of the weights of runs, their gradients and averages, and the step of all."""

    def __init__(self, members: Sequence[_Member]) -> None:
        self.members, self.rows = members, members[0].rows
        self.courses = [member.course for member in members]
        states = [course.state for course in self.courses]
        require_alike([state.model for state in states])
        self.weights = torch.stack([row_of(self.rows, state.model) for state in states])
        self.gradients = torch.zeros_like(self.weights)
        self.averages: list[Tensor] = []
        for member, weights, gradients in zip(members, self.weights, self.gradients, strict=True):
            self.rows.bind(member.course.state.model, weights)
            member.optimizer.bind(weights, gradients)
        views = self.rows.views(self.weights)
        averages = None
        if states[0].average is not states[0].model:
            averages = StackedModel(
                [state.average for state in states], self._bind([state.average for state in states])
            )
        teachers = [state.teacher for state in states if isinstance(state.teacher, FusionModel)]
        draws = MemberDraws([member.generator for member in members])
        self.stack = StackedModel([state.model for state in states], views, draws)
        self.judged = averages or self.stack
        self.step = StackedStep(
            self.stack,
            StackedModel(teachers, self._bind(teachers)) if teachers else None,
            StackedObjective([state.objective for state in states]),
            [state.objective for state in states],
            [state.balancer for state in states],
            draws,
            [course.config.training.modality_dropout for course in self.courses],
            self._fused(draws),
        )
        self._is_bound = False

    def _fused(self, draws: MemberDraws) -> FusedMCDM | None:
        """Take the models in few products where each would be alone."""
        models = []
        for course in self.courses:
            model = course.state.model
            if course.state.fused is None or not isinstance(model, MCDM):
                return None
            model.zero_grad()  # of a stack before
            models.append(model)
        return FusedMCDM(models, cast(MCDM, self.stack.model), draws)

    def _bind(self, models: Sequence[FusionModel]) -> dict[str, Tensor]:
        """Let averaged models lie in rows that follow the weights'."""
        rows = torch.stack([row_of(self.rows, model) for model in models])
        self.averages.append(rows)
        for model, row in zip(models, rows, strict=True):
            self.rows.bind(model, row)
        return self.rows.views(rows)

    @property
    def shares_dev(self) -> bool:
        """Whether all runs are judged by the same dev clips."""
        first = self.courses[0]
        return all(
            course.joined is first.joined and torch.equal(course.dev_rows, first.dev_rows) for course in self.courses
        )

    @torch.no_grad()
    def predict_dev(self) -> list[dict[str, NDArray[np.float64]]]:
        """Predict the dev clips by every run's averaged model; in one pass, since they are few and layers many."""
        first, num_members = self.courses[0], len(self.courses)
        pieces: list[Predictions] = []
        self.judged.model.eval()
        for rows in first.dev_rows.split(BATCH):
            model = self.judged.arrange(len(rows))
            pieces.append(model(first.joined.batch(rows.repeat(num_members))))
        self.judged.model.train()
        return [
            {
                task: joined_outputs([each.of(task).unflatten(0, (num_members, -1))[index] for each in pieces], spec)
                for task, spec in first.tasks.items()
            }
            for index in range(num_members)
        ]

    def take_step(self) -> None:
        """Take the next optimizer step of every run."""
        clips = cut_clips(
            [course.joined for course in self.courses], [course.next_batches()[0] for course in self.courses]
        )
        results = self.step.take(clips, [course.state.step for course in self.courses])
        if not self._is_bound:
            self._bind_gradients()
        decays = []
        for member, result in zip(self.members, results, strict=True):
            state, settings = member.course.state, member.course.config.training
            state.totals.add(result)
            member.optimizer.step()
            state.count_step()
            decays.append([decay for _, decay in state.averages(settings)])
        with torch.no_grad():
            for average, of_runs in zip(self.averages, zip(*decays, strict=True), strict=True):
                if len(set(of_runs)) == 1:
                    average.lerp_(self.weights, 1.0 - of_runs[0])
                else:
                    shares = torch.tensor([1.0 - decay for decay in of_runs], device=average.device)
                    average.lerp_(self.weights, shares.unsqueeze(1))

    def _bind_gradients(self) -> None:
        """Take the first gradients, and let all later ones be set where the optimizers read them."""
        models = [dict(course.state.model.named_parameters()) for course in self.courses]
        for name, view in self.rows.views(self.gradients).items():
            parameter, of_members = self.stack.parameters[name], [parameters[name] for parameters in models]
            found = parameter.grad
            if found is None:  # of a fused step
                parts = [part.grad for part in of_members if part.grad is not None]
                if len(parts) < len(models):
                    raise NotStackableError(f"parameter {name} takes part in no loss")
                found = torch.stack(parts)
            view.copy_(found)
            parameter.grad = view
            for part, own in zip(of_members, view, strict=True):
                part.grad = own
        self._is_bound = True
