"""Explanations of many clips, a piece at a time: by this process, or by an executor of elsewhere.

Workers of elsewhere read the model from its folder once for all pieces of a predictor, and see only vectors of clips.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from encoders.workers import Workers
from mmpsr.batch import Batch
from mmpsr.executors.base import Engine, works_away
from mmpsr.explanation.explain import Explanation, explain
from training.bundle.bundle import read_bundle
from training.bundle.files import CONTENT
from training.class_texts.model import TrainedAndNearest
from training.data.joined import JoinedCorpora
from training.runs.trained import TrainedModel

__all__ = ["PIECE", "explain_by", "explain_clips", "pieces"]

PIECE = 32
"""Clips explained at a time: memory is that of 2^M times as many."""
_FEWEST = 8  # clips that are worth a job


@dataclass(frozen=True)
class _Piece:
    """Clips that are explained together.

    Attributes:
        folder: of the run or bundle.
        command: who asks; the model is read once for it.
        number: place among the pieces.
        batch: the clips' vectors.
    """

    folder: Path
    command: str
    number: int
    batch: Batch

    @property
    def names(self) -> list[str]:
        return [f"{len(self.batch.presence)} clips to be explained"]

    @property
    def culprits(self) -> tuple[()]:
        return ()

    def parts(self) -> list[_Piece]:
        return [self]

    def dead(self) -> None:
        return None


def pieces(joined: JoinedCorpora, num_workers: int = 1) -> Iterator[Batch]:
    """Cut clips into batches whose masked copies memory holds, for each of some workers one where there are few."""
    size = PIECE if num_workers == 1 else min(PIECE, max(_FEWEST, math.ceil(len(joined.clips) / num_workers)))
    for first in range(0, len(joined.clips), size):
        rows = torch.arange(first, min(first + size, len(joined.clips)), device=joined.presence.device)
        yield joined.batch(rows)


def explain_clips(trained: TrainedModel, batch: Batch) -> list[Explanation]:
    """Explain clips; of a model with class texts beside it, its own tasks as without them."""
    explanations = explain(trained.model, batch, trained.calibration)
    if not isinstance(trained.model, TrainedAndNearest):
        return explanations
    own = explain(trained.model.trained, batch, trained.calibration)
    return [replace(both, tasks={**both.tasks, **alone.tasks}) for both, alone in zip(explanations, own, strict=True)]


def explain_by(
    engine: Engine, folder: Path, command: str, trained: TrainedModel, batches: Sequence[Batch]
) -> list[Explanation]:
    """Have an executor explain clips; a piece that its workers die of is explained by this process.

    Args:
        engine: who does it.
        folder: of the run or bundle, which all workers see.
        command: name of the predictor, other than of any before it.
        trained: the same model.
        batches: of `pieces`, on the CPU.

    Returns:
        In the order of the clips.

    Raises:
        ExtractionError: the connection is lost, or a worker lacks a library.
    """
    waiting = [_Piece(folder.resolve(), command, number, batch) for number, batch in enumerate(batches)][::-1]
    by_piece: dict[int, list[Explanation]] = {}
    with Workers[_Piece, list[Explanation] | None](engine, explain_there) as workers:
        while waiting or workers.in_flight:
            while waiting and len(workers.jobs) < workers.limit:
                workers.submit(waiting.pop())
            for piece, explanations in workers.completed(1.0):
                by_piece[piece.number] = explanations or explain_clips(trained, piece.batch)
    return [explanation for number in sorted(by_piece) for explanation in by_piece[number]]


# What follows runs in the worker processes.

_models: dict[str, TrainedModel] = {}


def explain_there(piece: _Piece) -> list[Explanation]:
    """Explain the clips of a piece; the model stays in memory for the next one of the same predictor."""
    if works_away():
        torch.set_num_threads(1)
    if piece.command not in _models:
        _models.clear()
        is_bundle = (piece.folder / CONTENT).exists()  # whose encoders nobody imports here
        _models[piece.command] = (
            read_bundle(piece.folder, allow_custom_encoders=True) if is_bundle else TrainedModel.read(piece.folder)
        )
    return explain_clips(_models[piece.command], piece.batch)
