"""Does a bundle still predict what its run stored? Tried on the run's own clips, where their features are at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from corpora.clips import CorpusError, label_columns
from corpora.registry import read_corpora
from encoders.errors import ExtractionError, StoreError
from mmpsr.config import ConfigError
from training.data.joined import JoinedCorpora, gather, used_clips
from training.runs.directory import RunError
from training.runs.trained import TrainedModel

__all__ = ["Repeated", "compare_predictions", "repeat_predictions"]


@dataclass(frozen=True)
class Repeated:
    """What came of predicting stored clips again.

    Attributes:
        num_stored: clips that the run predicted.
        num_clips: those whose vectors are at hand, which were predicted again.
        difference: largest difference from a stored probability or score; NaN without clips.
        reason: why there are no vectors at all, or an empty text.
    """

    num_stored: int
    num_clips: int
    difference: float
    reason: str = ""


def repeat_predictions(trained: TrainedModel, run: Path) -> Repeated:
    """Predict a run's dev and test clips from the feature store that its configuration names.

    Args:
        trained: read from a bundle of the run.
        run: run directory; paths in its configuration are relative to the working directory.
    """
    own = TrainedModel.read(run)
    stored = pd.read_parquet(run / "predictions.parquet")
    if own.features.transcriber is not None or own.features.describer is not None:
        reason = "its texts were written by a model, which would have to run again"
        return Repeated(len(stored), 0, float("nan"), reason)
    try:
        clips = used_clips(read_corpora(own.config.corpora, own.tasks).clips, own.config.corpora)
        joined = gather(clips, own.features, own.tasks, own.config.model.reads_sequences)
    except (CorpusError, ConfigError, ExtractionError, StoreError, RunError, OSError) as error:
        return Repeated(len(stored), 0, float("nan"), str(error))
    return compare_predictions(trained, joined, stored)


def compare_predictions(trained: TrainedModel, joined: JoinedCorpora, stored: pd.DataFrame) -> Repeated:
    """Predict stored clips, as far as the very modalities that they had are there.

    Args:
        trained: the model.
        joined: clips with vectors, on the model's device.
        stored: rows of `predictions.parquet`.
    """
    keys = pd.MultiIndex.from_frame(stored[["corpus", "clip_id"]])
    place = pd.Series(np.arange(len(joined.clips)), pd.MultiIndex.from_frame(joined.clips[["corpus", "clip_id"]]))
    rows = place.reindex(keys).to_numpy()
    there = np.flatnonzero(~np.isnan(rows))
    presence = joined.presence.cpu().numpy()[rows[there].astype(np.int64)]
    had = stored[[f"present.{name}" for name in joined.features]].to_numpy(dtype=bool)[there]
    there = there[(presence == had).all(axis=1)]
    if not len(there):
        return Repeated(len(stored), 0, float("nan"), "no stored clip has the vectors that it had")
    predicted = trained.predict(joined, torch.from_numpy(rows[there].astype(np.int64)).to(joined.presence.device))
    difference = 0.0
    for task, spec in trained.tasks.items():
        columns = [f"predicted.{column}" for column in label_columns(task, spec)]
        expected = stored[columns].to_numpy(dtype=np.float64)[there]
        difference = max(difference, float(np.abs(predicted[task] - expected).max()))
    return Repeated(len(stored), len(there), difference)
