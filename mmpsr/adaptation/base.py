"""What a method of adaptation is, what it may see, and its settings; the values of the paper where it has them.

Shape suffixes: N rows (frames or clips), D width of a row's vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mmpsr.adaptation.network import AdaptedNetwork, Rows
from mmpsr.adaptation.pictures import NetworkConfig
from mmpsr.config import Config

__all__ = [
    "AdaptationConfig", "AfterEpoch", "LabeledTarget", "Method", "NrcConfig", "Places", "ShotConfig", "Source",
    "SourceConfig", "SourceFreeConfig", "SubjectConfig", "Target", "WithSourceConfig",
]  # fmt: skip

AfterEpoch = Callable[[int], None]
"""Takes the number of epochs that are done, after each; may read the network."""


class SourceConfig(Config):
    """How the network is fitted to the people with labels. The paper is silent; these values are ours."""

    num_epochs: int = Field(default=30, ge=1)
    """Passes over the training rows; the one with the highest average precision on dev people is kept."""
    lr: float = Field(default=1e-2, gt=0.0)
    """Learning rate at the first step; it falls as that of `source_free`."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Nesterov momentum."""
    weight_decay: float = Field(default=1e-3, ge=0.0)
    """Weight decay."""
    batch_size: int = Field(default=64, ge=2)
    """Rows of a batch."""
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of each label that is spread over all classes."""
    balanced: bool = True
    """Draw of each class, anew in every epoch, as many rows as the rarest has; so do methods that read source rows."""


class WithSourceConfig(Config):
    """How `mmd` and `subject`, which read source rows, are trained, and the oracle."""

    num_epochs: int = Field(default=10, ge=1)
    """Epochs; one ends with the shorter of both domains."""
    lr: float = Field(default=2e-4, gt=0.0)
    """Learning rate of the first epoch."""
    final_lr: float = Field(default=2e-5, ge=0.0)
    """Learning rate that a cosine over the epochs leads to."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Momentum."""
    weight_decay: float = Field(default=5e-4, ge=0.0)
    """Weight decay."""
    batch_size: int = Field(default=64, ge=2)
    """Rows of each domain in a batch."""
    mmd_weight: float = Field(default=1.0, ge=0.0)
    """Weight of the discrepancy beside the source rows' cross-entropy."""
    detached: bool = False
    """Take no gradient of the discrepancy, which then trains nothing: what the released code does."""


class SubjectConfig(Config):
    """What `subject` adds: a first stage on source people, and pseudo-labels (ACPL)."""

    num_epochs: int = Field(default=10, ge=1)
    """Epochs of the first stage, which aligns source people with each other."""
    pseudo_weight: float = Field(default=0.01, ge=0.0)
    """Weight of the cross-entropy of pseudo-labels."""
    threshold: float = Field(default=0.95, ge=0.0, le=1.0)
    """Score above which a pseudo-label is accepted at first."""
    lowered: float = Field(default=0.02, ge=0.0)
    """What every renewal takes off the threshold."""
    every: int = Field(default=4, ge=1)
    """Epochs from one renewal of the pseudo-labels to the next."""
    views_must_agree: bool = True
    """Accept only where both views name the same class."""
    view_noise: float = Field(default=0.0, ge=0.0)
    """Where rows have no vector of their mirrored picture: deviation of the normal noise, in units of standardised
    features, that makes a second view. A substitute of ours; 0 is one view alone."""


class SourceFreeConfig(Config):
    """How `shot` and `nrc`, which read no source row, are trained."""

    num_epochs: int = Field(default=30, ge=1)
    """Epochs."""
    lr: float = Field(default=1e-4, gt=0.0)
    """Learning rate at the first step; it falls by (1 + 10 step/steps)^-0.75."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Nesterov momentum."""
    weight_decay: float = Field(default=1e-3, ge=0.0)
    """Weight decay."""
    batch_size: int = Field(default=64, ge=2)
    """Rows of a batch."""


class ShotConfig(Config):
    """What `shot` adds."""

    pseudo_weight: float = Field(default=0.3, ge=0.0)
    """Weight of the cross-entropy of pseudo-labels."""
    num_renewals: int = Field(default=15, ge=1)
    """How often the pseudo-labels are made anew, evenly over all steps."""


class NrcConfig(Config):
    """What `nrc` adds."""

    num_neighbors: int = Field(default=3, ge=1)
    """K, nearest rows of a row."""
    num_second: int = Field(default=2, ge=1)
    """M, nearest rows of each of these."""
    far_weight: float = Field(default=0.1, ge=0.0)
    """Weight of neighbours that are not mutual, and of neighbours' neighbours."""
    min_gap: float = Field(default=0.0, ge=0.0)
    """Seconds within which rows of one video are no neighbours; at 24 frames a second the next ones are near copies."""


class AdaptationConfig(Config):
    """Settings of all methods; each reads its own sections."""

    form: Literal["features", "network"] = "features"
    """Adapt a bottleneck and a classifier upon stored vectors, or on pictures the encoder with them."""
    network: NetworkConfig = NetworkConfig()
    """What form `network` adds."""
    width: int = Field(default=256, ge=1)
    """Width of the bottleneck."""
    statistics: Literal["target", "source"] = "target"
    """Whether BatchNorm's averages follow the rows that are adapted to, as published, or stay those of the source.
    Following a person who shows a class more rarely than the batches of the source moves the decision."""
    source: SourceConfig = SourceConfig()
    """The network that everybody begins from."""
    with_source: WithSourceConfig = WithSourceConfig()
    """Training of `mmd`, `subject` and `oracle`."""
    subject: SubjectConfig = SubjectConfig()
    """What `subject` adds."""
    source_free: SourceFreeConfig = SourceFreeConfig()
    """Training of `shot` and `nrc`."""
    shot: ShotConfig = ShotConfig()
    """What `shot` adds."""
    nrc: NrcConfig = NrcConfig()
    """What `nrc` adds."""


@dataclass(frozen=True)
class Source:
    """Rows of people with labels.

    Attributes:
        features: float32 `[N, D]`, or pictures.
        labels: int64 `[N]` in [0, C).
        subjects: int64 `[N]`, number of each row's person.
    """

    features: Rows
    labels: Tensor
    subjects: Tensor


@dataclass(frozen=True)
class Places:
    """Where rows are in time.

    Attributes:
        videos: int64 `[N]`, number of each row's video.
        seconds: float64 `[N]`, of each row in its video; NaN where unknown.
    """

    videos: Tensor
    seconds: Tensor

    def near(self, rows_B: Tensor, gap: float) -> Tensor:
        """Mark what lies less than `gap` seconds from each of some rows, in the same video, bool `[B, N]`."""
        same = self.videos[rows_B].unsqueeze(1) == self.videos.unsqueeze(0)
        return same & ((self.seconds[rows_B].unsqueeze(1) - self.seconds.unsqueeze(0)).abs() < gap)


@dataclass(frozen=True)
class Target:
    """Rows of one person, without labels: there is no field for them.

    Attributes:
        features: float32 `[N, D]`, or pictures.
        mirrored: likewise, of the mirrored pictures; None where there are none.
        places: where rows are in time; None where it is not known.
    """

    features: Rows
    mirrored: Rows | None = None
    places: Places | None = None

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class LabeledTarget(Target):
    """Rows of one person with labels, which the oracle alone is given.

    Attributes:
        labels: int64 `[N]` in [0, C).
    """

    labels: Tensor = field(kw_only=True)


class Method(ABC):
    """A method of adaptation.

    Args:
        config: settings of all methods.
    """

    uses_source: ClassVar[bool] = False
    """Whether source rows are needed; the others are given none."""
    uses_labels: ClassVar[bool] = False
    """Whether it is given a `LabeledTarget`."""

    def __init__(self, config: AdaptationConfig) -> None:
        self.config = config

    def prepare(  # noqa: B027  most methods need nothing
        self, network: AdaptedNetwork, source: Source, generator: torch.Generator
    ) -> None:
        """Change the source network, in place, before any person is seen; most methods do not.

        Args:
            network: of `mmpsr.adaptation.source.fit_source`.
            source: what it was fitted to.
            generator: of batches, on the CPU.
        """

    @abstractmethod
    def adapt(
        self,
        network: AdaptedNetwork,
        target: Target,
        source: Source | None,
        generator: torch.Generator,
        after_epoch: AfterEpoch,
    ) -> None:
        """Adapt a network to one person, in place.

        Args:
            network: a copy of what `prepare` left.
            target: the person's rows to adapt to; fewer than two change nothing.
            source: where the method uses it.
            generator: of batches and noise, on the CPU.
            after_epoch: called after each epoch.
        """
