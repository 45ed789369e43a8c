"""Base of the models in time: features of the frames of a clip in, logits of every frame out.

Modalities share one grid of frames, and are told apart by name; their configured order matters where one leads the
others. A clip is alone in its result: padding changes nothing, and neither do the other clips of the batch, except in
training through batch normalisation (over all frames that there are).

Shape suffixes: B clips, T frames, M modalities, D width of a modality's features, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmpsr.layers.by_modality import ByModality
from mmpsr.layers.standardizer import Standardizer

__all__ = ["TemporalModel"]


class TemporalModel(nn.Module, ABC):
    """Base of the models in time.

    Every modality has a standardiser, which passes features unchanged until it is fitted.

    Args:
        widths: of each modality's features, by modality; their order is the model's.
        num_classes: C.

    Attributes:
        whole_clip: whether the model is applied to a whole clip at once, else to windows whose logits are averaged.
        receptive_field: frames that a frame's logits depend on, none of them later; None for all of the clip.

    Raises:
        ValueError: no modality, or fewer than one class.
    """

    whole_clip: ClassVar[bool]
    receptive_field: int | None

    def __init__(self, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        if not widths or num_classes < 1:
            raise ValueError(f"a model needs modalities and classes; found {list(widths)} and {num_classes} classes")
        self.modalities = tuple(widths)
        self.widths = dict(widths)
        self.num_classes = num_classes
        self.standardizers = ByModality({name: Standardizer(width) for name, width in widths.items()})

    @abstractmethod
    def classify(self, values: Mapping[str, Tensor], there: Mapping[str, Tensor], mask_BT: Tensor) -> Tensor:
        """Give the logits of every frame, `[B, T, C]`, those outside the mask of any value.

        Args:
            values: standardised features `[B, T, D_m]`, zero where the modality is not there.
            there: bool `[B, T]`, at which frames of the mask a modality is there.
            mask_BT: bool, which frames there are.
        """

    def forward(self, features: Mapping[str, Tensor], mask_BT: Tensor, presence_BM: Tensor | None = None) -> Tensor:
        """Predict the logits of every frame, `[B, T, C]`; zero outside the mask.

        A modality that a clip lacks is 0 after its own layers, is left out of attention and of the statistics of
        batch normalisation, and what stands in its features never matters. Zeros in the features of a modality that
        is there are values like others, such as those of text where nobody speaks.

        Args:
            features: float `[B, T, D_m]` by modality, in any order; outside the mask of any value.
            mask_BT: bool, which frames there are, at least one of a clip.
            presence_BM: bool, which modalities each clip has, in the model's order; all, where left out.

        Raises:
            ValueError: modalities or shapes are not the model's.
        """
        self._check(features, mask_BT, presence_BM)
        values, there = {}, {}
        for index, name in enumerate(self.modalities):
            there[name] = mask_BT if presence_BM is None else mask_BT & presence_BM[:, index].unsqueeze(1)
            rows = self.standardizers[name](features[name].flatten(0, 1), there[name].flatten())
            values[name] = rows.view(features[name].shape)
        return torch.where(mask_BT.unsqueeze(-1), self.classify(values, there, mask_BT), 0.0)

    def _check(self, features: Mapping[str, Tensor], mask_BT: Tensor, presence_BM: Tensor | None) -> None:
        if features.keys() != set(self.modalities):
            raise ValueError(f"the model takes modalities {list(self.modalities)}, found {sorted(features)}")
        expected: tuple[int, ...]
        for name, width in self.widths.items():
            expected = (*mask_BT.shape, width)
            if tuple(features[name].shape) != expected:
                raise ValueError(
                    f"features of {name!r} are {list(features[name].shape)}, expected {list(expected)}: "
                    "clips, frames of the mask, width of the model"
                )
        expected = (mask_BT.shape[0], len(self.modalities))
        if presence_BM is not None and tuple(presence_BM.shape) != expected:
            raise ValueError(f"presence is {list(presence_BM.shape)}, expected {list(expected)}: clips, modalities")
