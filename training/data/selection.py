"""What of a configuration and of clips a run uses, and why clips cannot be trained on: told without any vector."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.registry import CorporaConfig
from corpora.splitting import dealing_advice
from encoders.config import FeaturesConfig
from mmpsr.config import ConfigError, nearest
from mmpsr.metrics.definitions import METRICS
from mmpsr.tasks import TaskSpec

__all__ = ["active_features", "require_metrics", "training_errors", "used_clips"]


def active_features(features: FeaturesConfig, modalities: Sequence[str]) -> FeaturesConfig:
    """Keep the encoders of the modalities in use.

    Raises:
        ConfigError: a modality has no encoder.
    """
    for name in modalities:
        if name not in features.encoders:
            raise ConfigError(
                f"data.modalities names {name!r}, which has no encoder; add {_setting(name)} or take it out"
            )
    sequences = {name: cap for name, cap in features.sequences.items() if name in modalities}
    encoders = {name: features.encoders[name] for name in modalities}
    timed = tuple(name for name in features.timed if name in modalities)
    return features.model_copy(update={"encoders": encoders, "sequences": sequences, "timed": timed})


def _setting(name: str) -> str:
    return f'features.encoders."{name}"' if "." in name else f"features.encoders.{name}"


def require_metrics(corpora: CorporaConfig, tasks: Mapping[str, TaskSpec]) -> None:
    """Raise a `ConfigError` where a corpus or a task names a metric that does not exist."""
    named = [name for spec in tasks.values() for name in spec.metrics]
    named += [name for source in corpora.sources.values() for names in source.metrics.values() for name in names]
    for name in named:
        if name not in METRICS:
            raise ConfigError(f"no metric is named {name!r}; {nearest(name, METRICS)}")


def used_clips(clips: pd.DataFrame, corpora: CorporaConfig) -> pd.DataFrame:
    """Leave out the clips that no run uses: the train split of zero-shot corpora."""
    unused = ~clips["corpus"].isin(corpora.trained()) & clips["split"].eq("train")
    return clips[~unused].reset_index(drop=True)


def training_errors(
    clips: pd.DataFrame,
    labeled: Mapping[str, NDArray[np.bool_]],
    corpora: CorporaConfig,
    open_tasks: Collection[str] = (),
) -> Iterator[str]:
    """Say why these clips cannot be trained on: a sentence per reason, none where they can.

    Args:
        clips: clip table of the corpora.
        labeled: by active task, which clips have a label `[N]`.
        corpora: the corpora, some of them perhaps zero-shot.
        open_tasks: tasks that clips which are not here may be labelled for.
    """
    trained = corpora.trained()
    if not trained:
        yield "every corpus is zero_shot, so there is none to train on; set zero_shot = false for one"
    for name in trained:
        own = clips["corpus"].eq(name)
        splits = clips.loc[own, "split"].value_counts().to_dict()
        annotated = any(known[own.to_numpy(dtype=bool)].any() for known in labeled.values())
        for split in ("train", "dev") if annotated else ("train",):  # without labels it serves for pseudo-labels
            if not splits.get(split):
                source, advice = corpora.sources[name], "give it one, declare fractions by group"
                if source.splits_anew and own.any():
                    advice = dealing_advice(name, clips.loc[own, "group"], clips.loc[own, "split"], source)
                yield (
                    f"corpus {name!r} has no clip in split {split!r} (found {splits}); {advice}, or set "
                    "zero_shot = true to only evaluate on it"
                )
    for split in ("train", "dev") if trained else ():
        rows = (clips["corpus"].isin(trained) & clips["split"].eq(split)).to_numpy(dtype=bool)
        for task, known in labeled.items():
            if task not in open_tasks and not known[rows].any():
                yield (
                    f"no {split} clip of {', '.join(trained)} has a label for task {task!r}; take it out of "
                    "tasks.active or add a corpus that is annotated for it"
                )
