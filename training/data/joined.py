"""Clip tables and vectors joined into contiguous tensors that batches are cut from.

Shapes: N clips of all corpora, M modalities, D_m width of a modality's vectors, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from corpora.clips import CorpusError, label_columns
from corpora.registry import CorporaConfig
from corpora.splitting import dealing_advice
from encoders.config import FeaturesConfig
from encoders.extraction.read import read_sequences, read_vectors
from mmpsr.batch import Batch
from mmpsr.config import ConfigError, nearest
from mmpsr.layers.standardizer import Standardizer
from mmpsr.metrics.definitions import METRICS
from mmpsr.tasks import TaskSpec
from training.data.material import without_modalities
from training.data.ragged import Ragged

__all__ = [
    "JoinedCorpora", "active_features", "gather", "join", "require_metrics", "require_trainable", "training_errors",
    "used_clips",
]  # fmt: skip


@dataclass
class JoinedCorpora:
    """All clips of a run on one device.

    Attributes:
        clips: the clip table, row i of which is row i of every tensor.
        features: per modality float32 `[N, D_m]`, zeros where absent.
        presence: bool `[N, M]`.
        labels: per task float32 `[N, C]`, NaN where unknown.
        sequences: of the modalities that are kept over time, for models that pool them.
    """

    clips: pd.DataFrame
    features: dict[str, Tensor]
    presence: Tensor
    labels: dict[str, Tensor]
    sequences: dict[str, Ragged] = field(default_factory=dict)

    @property
    def widths(self) -> dict[str, int]:
        """Width of each modality's vectors."""
        return {name: tensor.shape[1] for name, tensor in self.features.items()}

    @property
    def sequence_widths(self) -> dict[str, int]:
        """Width of the elements of each modality's sequences."""
        return {name: ragged.width for name, ragged in self.sequences.items()}

    def to(self, device: torch.device | str) -> JoinedCorpora:
        """Move the clips to another device."""
        return self._mapped(self.clips, lambda part: part.to(device))

    def rows(self, corpora: Sequence[str], split: str) -> Tensor:
        """Number the rows of a split of the corpora, int64 on the clips' device."""
        is_in = self.clips["corpus"].isin(list(corpora)) & self.clips["split"].eq(split)
        return torch.from_numpy(np.flatnonzero(is_in.to_numpy(dtype=bool))).to(self.presence.device)

    def select(self, rows: Tensor) -> JoinedCorpora:
        """Take some of the clips, int64 `[n]`, in this order."""
        return self._mapped(self.clips.iloc[rows.numpy()].reset_index(drop=True), lambda part: part[rows])

    def _mapped(self, clips: pd.DataFrame, change: Callable[[Any], Any]) -> JoinedCorpora:
        """Change every tensor, and every `Ragged`, in the same way."""
        features, labels, sequences = (
            {name: change(part) for name, part in parts.items()}
            for parts in (self.features, self.labels, self.sequences)
        )
        return JoinedCorpora(clips, features, change(self.presence), labels, sequences)

    def fit_standardizers(self, standardizers: nn.ModuleDict, rows: Tensor) -> None:
        """Give each modality's `Standardizer` the statistics of the rows that have the modality."""
        for index, (name, vectors) in enumerate(self.features.items()):
            cast(Standardizer, standardizers[name]).fit(vectors[rows], self.presence[rows, index])

    def fit_sequence_standardizers(self, standardizers: nn.ModuleDict, rows: Tensor) -> None:
        """Give each `Standardizer` the statistics of about 130,000 elements of the rows' sequences, or of all."""
        for name, standardizer in standardizers.items():
            elements = self.sequences[name].sample(rows)
            present = torch.ones(len(elements), dtype=torch.bool, device=elements.device)
            cast(Standardizer, standardizer).fit(elements, present)

    def batch(self, rows: Tensor) -> Batch:
        """Cut out rows (int64 `[B]`)."""
        return Batch(
            {name: tensor.index_select(0, rows) for name, tensor in self.features.items()},
            self.presence.index_select(0, rows),
            {name: tensor.index_select(0, rows) for name, tensor in self.labels.items()},
            rows,
            {name: ragged.batch(rows) for name, ragged in self.sequences.items()},
        )


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


def join(
    clips: pd.DataFrame,
    features: FeaturesConfig,
    tasks: Mapping[str, TaskSpec],
    corpora: CorporaConfig,
    with_sequences: bool = False,
    ledger: str = "the ledger",
) -> JoinedCorpora:
    """Read vectors and labels into tensors and check that there is something to learn.

    Args:
        clips: validated clip table.
        features: encoders of the modalities in use, with vectors in its store.
        tasks: active tasks.
        corpora: the corpora, some of them perhaps zero-shot.
        with_sequences: whether to read sequences, too, of the modalities that `features.sequences` names.
        ledger: file that says which clip has no vector, and why, for errors.

    Raises:
        CorpusError: a corpus that is trained on lacks a train or dev split, no corpus is trained on, a task has no
            labelled training or dev clip, or a modality has no vector or no sequence for any training clip.
    """
    joined = gather(clips, features, tasks, with_sequences)
    require_trainable(joined, corpora, features.sequences if with_sequences else (), ledger=ledger)
    return joined


def gather(
    clips: pd.DataFrame, features: FeaturesConfig, tasks: Mapping[str, TaskSpec], with_sequences: bool = False
) -> JoinedCorpora:
    """Read vectors and labels as `join` does, of clips that need not be fit for training."""
    vectors = read_vectors(clips, features)
    sequences = read_sequences(clips, features) if with_sequences else {}
    return JoinedCorpora(
        clips=clips,
        features={name: torch.from_numpy(values) for name, (_, values) in vectors.items()},
        presence=torch.from_numpy(np.stack([present for present, _ in vectors.values()], axis=1)),
        labels={
            task: torch.from_numpy(clips[label_columns(task, spec)].to_numpy(dtype=np.float32))
            for task, spec in tasks.items()
        },
        sequences={name: Ragged.of(kept) for name, kept in sequences.items() if len(kept.values)},
    )


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


def require_trainable(
    joined: JoinedCorpora,
    corpora: CorporaConfig,
    with_sequences: Collection[str] = (),
    mend: str | None = None,
    ledger: str = "the ledger",
) -> None:
    """Check that there is something to learn: what `training_errors` looks for, and vectors of every modality.

    Args:
        joined: clips with vectors and labels.
        corpora: the corpora, some of them perhaps zero-shot.
        with_sequences: modalities that the model reads over time.
        mend: what to say of a modality without a vector, `{0}`; left out, the setting to type.
        ledger: file that says which clip has no vector, and why, for errors.

    Raises:
        CorpusError: there is not.
    """
    labeled = {task: torch.isfinite(labels).any(dim=1).cpu().numpy() for task, labels in joined.labels.items()}
    for reason in training_errors(joined.clips, labeled, corpora):
        raise CorpusError(reason)
    train = joined.rows(corpora.trained(), "train")
    present = joined.presence[train].any(dim=0)
    absent = [name for name, is_there in zip(joined.features, present.tolist(), strict=True) if not is_there]
    if absent and mend is not None:
        raise CorpusError(mend.format(absent[0]))
    if absent:
        names = " or ".join(absent)
        advice = without_modalities(list(joined.features), absent)
        raise CorpusError(
            f"none of the {len(train):,} training clips has a vector of {names} ({ledger} says why); {advice}"
        )
    for name in with_sequences:
        if name not in joined.sequences or not joined.sequences[name].lengths[train].any():
            raise CorpusError(
                f"no training clip has a {name} sequence ({ledger} says why); mend that or take {name} out of "
                "features.sequences, which leaves the model its vectors"
            )
