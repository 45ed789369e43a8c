"""Clip tables and vectors joined into contiguous tensors that batches are cut from.

Shapes: N clips of all corpora, M modalities, D_m width of a modality's vectors, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from corpora.clips import CorpusError, label_columns
from corpora.registry import CorporaConfig
from encoders.config import FeaturesConfig
from encoders.extraction.read import read_sequences, read_vectors
from mmpsr.batch import Batch
from mmpsr.layers.standardizer import Standardizer
from mmpsr.tasks import TaskSpec
from training.data.material import without_modalities
from training.data.ragged import Ragged
from training.data.selection import training_errors

__all__ = [
    "JoinedCorpora", "gather", "join", "require_trainable",
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
