"""The training loop: epochs over mixed batches, dev figures after each, early stopping, checkpoints anywhere."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from numpy.typing import NDArray
from torch import Tensor

from mmpsr.config import ConfigError
from mmpsr.errors import Interrupted, UserError
from mmpsr.models.base import FusionModel
from mmpsr.models.build import create_model
from mmpsr.models.config import ModelConfig
from mmpsr.models.conflict_aware import ConflictAware
from mmpsr.objective.pseudo_labels import pseudo_label_quality
from mmpsr.tasks import TaskSpec
from training.class_texts.points import class_points
from training.config import RunConfig, TrainingConfig
from training.data.joined import JoinedCorpora
from training.data.sampling import epoch_batches
from training.fit.callbacks import Callback, Callbacks, CheckpointWritten, EpochEnd
from training.fit.checkpoint import latest_checkpoint, save_tensors
from training.fit.live import Stand, Watch
from training.fit.optimization import clip_gradients
from training.fit.progress import epoch_record, monitor, require_monitor, track
from training.fit.state import TrainState
from training.fit.step import sum_gradients, training_step
from training.linear.baseline import Blend, LinearBaseline, choose_blends
from training.linear.late import create_baseline
from training.runs.directory import RunDirectory, read_tensors
from training.scoring.scores import embed, evaluate_rows, predict

__all__ = ["Course", "DivergedError", "StopSignals", "build_model", "train"]

QUIET = 8.0
"""Seconds without a line after which an epoch is told that is not the best so far."""


class DivergedError(UserError):
    """No epoch gave dev figures that are numbers."""


def build_model(
    config: RunConfig, joined: JoinedCorpora, tasks: Mapping[str, TaskSpec], baseline: LinearBaseline | None = None
) -> FusionModel:
    """Make a model with initial weights from the seed, the training clips' feature statistics and its linear path."""
    set_seed(config.training.seed)
    train_rows = joined.rows(config.corpora.trained(), "train")
    is_late = bool(config.model.linear_path) and config.linear.fusion == "late"
    has_text_guides = isinstance(config.model, ModelConfig) and config.model.guides != "learned"
    points = class_points(config.features, config.data.modalities, tasks) if is_late or has_text_guides else None
    if has_text_guides and not points:
        raise ConfigError(
            f"model.guides compares words with texts of classes, and none of the tasks {', '.join(tasks)} has both; "
            f"found modalities {', '.join(config.data.modalities)}: add text, give a task `texts`, or leave guides out"
        )
    model = create_model(
        config.model, joined.widths, tasks, joined.sequence_widths,
        points if is_late else None, is_late, points if has_text_guides else None,
    )  # fmt: skip
    model.to(joined.presence.device)
    joined.fit_standardizers(model.standardizers, train_rows)
    if model.prototypes is not None:
        model.prototypes.fit(joined.features, joined.presence, train_rows)
    if isinstance(model, ConflictAware):
        joined.fit_sequence_standardizers(model.sequence_standardizers, train_rows)
    if model.linear_paths:
        baseline = baseline or create_baseline(config, joined, tasks)
        for task in model.linear_paths:
            weight, bias = baseline.path(task)
            center = torch.from_numpy(baseline.center(task)) if tasks[task].kind == "regression" else None
            model.set_linear_path(task, torch.from_numpy(weight), torch.from_numpy(bias), center)
    return model


def train(
    config: RunConfig,
    joined: JoinedCorpora,
    tasks: Mapping[str, TaskSpec],
    accelerator: Accelerator,
    run: RunDirectory,
    say: Callable[[str], None],
    baseline: LinearBaseline | None = None,
    callbacks: Sequence[Callback] = (),
    watch: Watch | None = None,
) -> FusionModel:
    """Train until the monitored dev figure stops rising, and return the model with its best weights.

    Args:
        config: the run's configuration.
        joined: clips on the accelerator's device.
        tasks: active tasks.
        accelerator: device, precision, processes and trackers.
        run: where checkpoints, best weights and figures go; training continues from its newest checkpoint.
        say: takes progress messages.
        baseline: the linear models of `model.linear_path`; fitted here where left out.
        callbacks: told of epochs and checkpoints, after those that `output.callbacks` names.
        watch: told where training stands, in place of messages about epochs.

    Raises:
        CallbackError: a callback has failed; it is named.
        ConfigError: `training.monitor` names no dev figure, or another setting does not fit the data.
        DivergedError: no epoch gave a dev figure that is a number.
        Interrupted: SIGINT or SIGTERM came and a checkpoint was written.
    """
    course = Course.begin(config, joined, tasks, accelerator, run, say, baseline, callbacks)
    course.watch = watch
    course.show()
    with StopSignals(accelerator.num_processes == 1) as signals:
        while not course.is_over:
            if course.begins_epoch:
                _propagate(course.state, joined)
            while not course.ends_epoch:
                _take_step(course.state, course.next_batches(), joined, config.training, accelerator)
                course.show()
                if signals.received or course.state.step % config.training.checkpoint_steps == 0:
                    course.save()
                if signals.received:
                    raise course.interrupted()
            course.end_epoch()
            course.show()
            course.save()
    return course.finish()


@dataclass
class Course:
    """A run on its way from its first step, or its newest checkpoint, to its best weights.

    Attributes:
        config: the run's configuration.
        joined: clips on the accelerator's device.
        tasks: active tasks.
        accelerator: device, precision, processes and trackers.
        run: where checkpoints, best weights and figures go.
        say: takes progress messages.
        baseline: the linear models of `model.linear_path`; None where they are to be fitted.
        state: what steps change.
        train_rows: of each corpus that is trained on.
        dev_rows: of all of them.
        steps_per_epoch: optimizer steps.
        callbacks: told of epochs and checkpoints.
        watch: told where training stands; None where messages about epochs are enough.
        value: the dev figure of the last epoch, NaN before the first is over.
    """

    config: RunConfig
    joined: JoinedCorpora
    tasks: Mapping[str, TaskSpec]
    accelerator: Accelerator
    run: RunDirectory
    say: Callable[[str], None]
    baseline: LinearBaseline | None
    state: TrainState
    train_rows: list[NDArray[np.int64]]
    dev_rows: Tensor
    steps_per_epoch: int
    callbacks: Callbacks = field(default_factory=Callbacks)
    watch: Watch | None = None
    value: float = math.nan
    _batches: tuple[int, list[NDArray[np.int64]]] = (-1, [])
    _said: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(
        cls,
        config: RunConfig,
        joined: JoinedCorpora,
        tasks: Mapping[str, TaskSpec],
        accelerator: Accelerator,
        run: RunDirectory,
        say: Callable[[str], None],
        baseline: LinearBaseline | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Course:
        """Begin or continue a run, whose random state torch then has; arguments and errors are those of `train`."""
        settings, trained = config.training, config.corpora.trained()
        told = Callbacks.of(config.output.callbacks, callbacks)
        model = build_model(config, joined, tasks, baseline)
        train_rows = [joined.rows([name], "train").cpu().numpy() for name in trained]
        dev_rows = joined.rows(trained, "dev")
        require_monitor(settings.monitor, joined, dev_rows, tasks, config.corpora)
        num_batches = len(epoch_batches(train_rows, settings.batch_size, config.data, settings.seed, 0))
        steps_per_epoch = math.ceil(num_batches / settings.accumulation)
        state = TrainState.create(model, config, joined, steps_per_epoch * settings.num_epochs)
        if state.compiled is not None:
            say("the model is compiled at its first step, which takes up to a minute")
        set_seed(settings.seed + 1 + accelerator.process_index)
        checkpoint = latest_checkpoint(run.checkpoints)
        if checkpoint is not None:
            state.restore(checkpoint, accelerator)
            say(f"continuing at epoch {state.progress.epoch + 1}, step {state.step}")
        if accelerator.is_main_process:
            run.rewind(state.progress.epoch)
        model.train()
        return cls(
            config, joined, tasks, accelerator, run, say, baseline, state, train_rows, dev_rows, steps_per_epoch, told
        )

    @property
    def is_over(self) -> bool:
        """Whether all epochs are trained, or none was better for too long."""
        progress, settings = self.state.progress, self.config.training
        return progress.epoch >= settings.num_epochs or progress.epoch - progress.best_epoch > settings.patience

    @property
    def begins_epoch(self) -> bool:
        """Whether no step of the epoch is taken yet."""
        return self.state.progress.batch == 0

    @property
    def ends_epoch(self) -> bool:
        """Whether all steps of the epoch are taken."""
        return self.state.progress.batch >= self.steps_per_epoch

    @property
    def stand(self) -> Stand:
        """Where training stands; this waits for no device."""
        progress, settings = self.state.progress, self.config.training
        best = progress.best if progress.best_epoch >= 0 else math.nan
        epoch = progress.epoch + progress.batch / (self.steps_per_epoch + 1)  # dev figures count as a step
        return Stand(epoch, settings.num_epochs, self.figure, self.value, best, progress.best_epoch + 1)

    @property
    def figure(self) -> str:
        """Name of the dev figure that epochs are chosen by."""
        return f"dev {self.config.training.monitor}"

    def show(self) -> None:
        """Tell who watches where training stands."""
        if self.watch is not None:
            self.watch(self.stand)

    def next_batches(self) -> list[NDArray[np.int64]]:
        """Give the batches of the next optimizer step."""
        settings, progress = self.config.training, self.state.progress
        if self._batches[0] != progress.epoch:
            self._batches = (
                progress.epoch,
                epoch_batches(self.train_rows, settings.batch_size, self.config.data, settings.seed, progress.epoch),
            )
        start = progress.batch * settings.accumulation
        return self._batches[1][start : start + settings.accumulation]

    def save(self) -> None:
        """Write a checkpoint, and tell callbacks of it."""
        state = self.state
        path = state.save(self.run.checkpoints, self.accelerator)
        if self.accelerator.is_main_process:
            self.callbacks.checkpoint_written(CheckpointWritten(self.run.path, path, state.progress.epoch, state.step))

    def interrupted(self) -> Interrupted:
        """Make the error of a run that a signal has stopped."""
        return Interrupted(f"stopped after step {self.state.step}; repeat the command with --resume to continue")

    def end_epoch(self, predicted: Mapping[str, NDArray[np.float64]] | None = None) -> None:
        """Judge the epoch by its dev figures, keep the weights where they are the best, and begin the next one.

        Args:
            predicted: what the averaged model predicts of dev clips, where that is known.
        """
        settings, state, progress = self.config.training, self.state, self.state.progress
        trained = self.config.corpora.trained()
        predicted = predict(state.average, self.joined, self.dev_rows) if predicted is None else predicted
        figures = evaluate_rows(predicted, self.joined, self.dev_rows, self.tasks, self.config.corpora)
        self.value = value = _from_main(monitor(figures, trained, settings.monitor))
        if value > progress.best:
            progress.best, progress.best_epoch = value, progress.epoch
            if self.accelerator.is_main_process:
                save_tensors(dict(state.average.state_dict()), self.run.best)
        if self.accelerator.is_main_process:
            record = epoch_record(state, value, figures, _quality(state, predicted, self.joined, self.dev_rows))
            self.run.log(record)
            track(self.accelerator, record, state.step)
            is_best = progress.best_epoch == progress.epoch
            self.callbacks.epoch_ended(
                EpochEnd(self.run.path, progress.epoch + 1, state.step, value, is_best, record, state.average)
            )
            is_quiet = time.monotonic() - self._said > QUIET
            if self.watch is None and (is_best or is_quiet or (progress.epoch + 1) % 10 == 0):
                self._said = time.monotonic()
                star = " *" if is_best else ""
                self.say(f"epoch {progress.epoch + 1:3d}  {self.figure} {value:6.2f}  best {progress.best:6.2f}{star}")
        state.end_epoch(value)

    def require_figure(self) -> None:
        """Check that an epoch gave a dev figure.

        Raises:
            DivergedError: none gave one that is a number.
        """
        if self.state.progress.best_epoch < 0:
            raise DivergedError(
                f"the dev figure was not a number in any of {self.state.progress.epoch} epochs, so there are no best "
                "weights; training diverged: lower training.lr"
            )

    def finish(self) -> FusionModel:
        """Give the model with its best weights, and choose the network's share beside linear paths.

        Raises:
            DivergedError: no epoch gave a dev figure that is a number.
        """
        self.accelerator.wait_for_everyone()
        model, baseline = self.state.model, self.baseline
        self.require_figure()
        model.load_state_dict(read_tensors(self.run.best))
        blends: dict[str, Blend] = {}
        if model.linear_paths:
            baseline = baseline or create_baseline(self.config, self.joined, self.tasks)
            blends = choose_blends(model, self.joined, self.config, baseline)
        self.accelerator.wait_for_everyone()
        if blends and self.accelerator.is_main_process:
            save_tensors(dict(model.state_dict()), self.run.best)
            shares = (
                f"{task} {blend.share:g}" + (f" (spread {blend.spread:g})" if blend.spread != 1.0 else "")
                for task, blend in blends.items()
            )
            self.say("the network's share beside the linear path: " + ", ".join(shares))
        return model.eval()


def _take_step(
    state: TrainState,
    batches: Sequence[NDArray[np.int64]],
    joined: JoinedCorpora,
    settings: TrainingConfig,
    accelerator: Accelerator,
) -> None:
    """Take one optimizer step by the mean gradient of batches, of which this process has every n-th clip."""
    state.optimizer.zero_grad(set_to_none=True)
    for numbers in batches:
        rows = numbers[accelerator.process_index :: accelerator.num_processes]
        batch = joined.batch(torch.from_numpy(rows).to(accelerator.device))
        result = training_step(
            state.model, state.objective, state.balancer, batch, accelerator, step=state.step,
            hide_rate=settings.modality_dropout, teacher=state.teacher, compiled=state.compiled, fused=state.fused,
        )  # fmt: skip
        state.totals.add(result)
    sum_gradients(state.model, accelerator, 1 / len(batches))
    clip_gradients(state.model, settings)
    state.optimizer.step()
    state.advance(settings)


def _propagate(state: TrainState, joined: JoinedCorpora) -> None:
    """Propagate labels over the training clips before an epoch, where the method does; alike in every process."""
    semi = state.objective.semi_supervision
    if semi is not None and semi.needs_neighbors:
        semi.refresh(embed(state.average, joined, semi.train_rows, semi.config.propagation_space))


def _quality(
    state: TrainState, predicted: Mapping[str, NDArray[np.float64]], joined: JoinedCorpora, rows: Tensor
) -> dict[str, dict[str, float]]:
    """Weigh pseudo-labels of dev clips by task, made by the teacher, neighbours or the model; empty without any."""
    semi = state.objective.semi_supervision
    if semi is None:
        return {}
    source = predicted if state.teacher is None else predict(state.teacher, joined, rows)
    if semi.needs_neighbors:
        vectors, queries = (
            embed(state.average, joined, numbers, semi.config.propagation_space) for numbers in (semi.train_rows, rows)
        )
        source = {task: semi.induced(task, queries, vectors).cpu().numpy() for task in state.model.tasks}
    other = predicted
    if semi.needs_strong_view and semi.config.regression == "agreement":
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the same modalities are hidden in every epoch, and training draws what it would
            fewer = semi.strong_view(joined.batch(rows)).presence
        hidden = replace(joined, presence=joined.presence.index_copy(0, rows, fewer))
        other = predict(state.average, hidden, rows)
    quality = {}
    for task, spec in state.model.tasks.items():
        probs, scores = (torch.from_numpy(values[task]).float().to(rows.device) for values in (source, other))
        accept = partial(semi.pseudo_labels, task, other=scores)
        quality[task] = pseudo_label_quality(probs, joined.labels[task][rows], spec, accept)
    return quality


def _from_main(value: float) -> float:
    """Take the main process' figure, so that all processes decide alike."""
    return broadcast_object_list([value])[0]


class StopSignals:
    """Turns SIGINT and SIGTERM into a flag that the loop reads between steps; a second one stops at once.

    With several processes the flag would be read at different steps, so signals keep their meaning there. So they do
    where a thread trains that is not the first, as in a cluster's workers: only that one receives them.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.received = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if self.enabled and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
