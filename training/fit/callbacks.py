"""Callbacks of training: code of yours that is told of every epoch and every checkpoint.

```python
class Stopwatch(Callback):
    def on_epoch_end(self, epoch: EpochEnd) -> None:
        print(epoch.epoch, epoch.value, epoch.record["dev"])

run_training(config, "mine", False, accelerator, console, callbacks=[Stopwatch()])
```

A configuration names classes that are made without arguments: `output.callbacks = ["my_package.watch:Stopwatch"]`.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmpsr.config import ConfigError
from mmpsr.errors import UserError

__all__ = ["Callback", "CallbackError", "Callbacks", "CheckpointWritten", "EpochEnd"]


class CallbackError(UserError):
    """A callback has raised an error, which is this one's cause."""


@dataclass(frozen=True)
class EpochEnd:
    """What is known at the end of an epoch, before its checkpoint.

    Attributes:
        run: folder of the run.
        epoch: from 1.
        step: optimizer steps so far.
        value: the dev figure that epochs are chosen by, in percent.
        is_best: whether no epoch before was better; its weights are then `best.safetensors`.
        record: the epoch's line of `metrics.jsonl`.
        model: in evaluation mode, with the weights that were evaluated; not to be changed.
    """

    run: Path
    epoch: int
    step: int
    value: float
    is_best: bool
    record: Mapping[str, Any]
    model: nn.Module


@dataclass(frozen=True)
class CheckpointWritten:
    """A checkpoint that training can continue from.

    Attributes:
        run: folder of the run.
        path: of the checkpoint, a folder that goes when two newer ones are written.
        epoch: epochs that are over.
        step: optimizer steps so far.
    """

    run: Path
    path: Path
    epoch: int
    step: int


class Callback:
    """A base whose methods do nothing; the main process alone calls them.

    Random numbers of torch that a method draws change nothing of the training. An error stops it, as `CallbackError`. A
    run that is continued from a checkpoint trains the epoch after it anew, and tells of it again.
    """

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        """Take note of an epoch that was evaluated on dev."""

    def on_checkpoint(self, checkpoint: CheckpointWritten) -> None:
        """Take note of a checkpoint that is complete on disk."""


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of one run, in the order in which they are called."""

    members: Sequence[Callback] = ()

    @classmethod
    def of(cls, names: Sequence[str], given: Sequence[Callback] = ()) -> Callbacks:
        """Make the callbacks that a configuration names, before those that are given.

        Args:
            names: `output.callbacks`, each `package.module:Class`.
            given: further ones.

        Raises:
            ConfigError: a name cannot be imported, or is no subclass of `Callback`.
            TypeError: something is given that is no `Callback`.
        """
        for index, callback in enumerate(given):
            if not isinstance(callback, Callback):
                hint = "give an object of it, with ()" if isinstance(callback, type) else "derive its class from it"
                raise TypeError(f"callbacks[{index}] is {callback!r}, which is no {Callback.__name__}; {hint}")
        return cls((*map(_made, names), *given))

    def epoch_ended(self, event: EpochEnd) -> None:
        """Tell all of an epoch."""
        if self.members:
            was_training = event.model.training
            event.model.eval()
            for callback in self.members:
                with _named(callback, "on_epoch_end", f"epoch {event.epoch}"):
                    callback.on_epoch_end(event)
            event.model.train(was_training)

    def checkpoint_written(self, event: CheckpointWritten) -> None:
        """Tell all of a checkpoint."""
        for callback in self.members:
            with _named(callback, "on_checkpoint", event.path.name):
                callback.on_checkpoint(event)


@contextmanager
def _named(callback: Callback, method: str, place: str) -> Iterator[None]:
    """Keep torch's random state, and name the callback in its errors."""
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
            yield
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind = type(callback)
        raise CallbackError(
            f"callback {kind.__module__}:{kind.__qualname__} failed in {method}, {place}: {type(error).__name__}: "
            f"{error} ({Path(frame.filename).name}, line {frame.lineno}); mend it, and training continues from its "
            "newest checkpoint (--resume)"
        ) from error


def _made(name: str) -> Callback:
    place, (module, _, attribute) = f"output.callbacks: {name!r}", name.partition(":")
    try:
        made: Any = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ConfigError(f"{place} cannot be imported ({error}); is its folder on PYTHONPATH?") from error
    except AttributeError:
        raise ConfigError(f"{place}: the module {module} has no {attribute!r}") from None
    if not (isinstance(made, type) and issubclass(made, Callback)):
        raise ConfigError(f"{place} is no subclass of training.fit.callbacks.Callback")
    try:
        return made()
    except TypeError as error:
        raise ConfigError(f"{place} must be made without arguments ({error})") from error
