"""Pictures as rows, and the network that is adapted on them: an image encoder with a classifier upon it.

N rows, B of a batch, P stored pictures, C channels, S side of a picture in pixels, D width of the encoder's output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from mmpsr.adaptation.network import AdaptedNetwork, bottleneck_of, classifier_of
from mmpsr.config import Config
from mmpsr.layers.dropout import Dropout

__all__ = ["NetworkConfig", "PictureNetwork", "Pictures", "augment"]

_HIDDEN, _DROPOUT = 1024, 0.5
_HASHED = 64  # pictures at a time


class NetworkConfig(Config):
    """What form `network` adds: the encoder that is adapted, and how."""

    encoder: str | None = None
    """Image encoder of the catalogue that is adapted; left out, the run's own of the modality."""
    head: Literal["bottleneck", "perceptron"] = "bottleneck"
    """What stands upon the encoder: a bottleneck and a weight-normed classifier (published for SHOT and NRC), or a
    layer of 1024 with ReLU and dropout, the discrepancy being of the encoder's output (published for the others)."""
    head_factor: float = Field(default=10.0, gt=0.0)
    """Factor of the learning rate of what stands upon the encoder, in methods that read source rows and the oracle."""
    backbone_factor: float = Field(default=0.1, ge=0.0)
    """Factor of the learning rate of the encoder, where the source network is fitted and in source-free methods."""
    shift: float = Field(default=6 / 112, ge=0.0, lt=0.5)
    """Most by which a training picture is moved each way, as a share of its side: a crop of 112 from 124 pixels."""
    flip: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability that a training picture is mirrored."""


@dataclass(frozen=True)
class Pictures:
    """Rows that are pictures, of which only those asked for are in memory.

    Attributes:
        pixels: uint8 `[P, C, S, S]`, of a file that is mapped or in memory.
        numbers: int64 `[N]`, picture of each row.
        device: where pictures that are asked for go.
        is_mirrored: whether they are mirrored then.

    Example:
        >>> pictures = Pictures(np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2), torch.tensor([2, 2, 0]))
        >>> pictures[torch.tensor([0, 2])].flatten(1).tolist()
        [[8, 9, 10, 11], [0, 1, 2, 3]]
        >>> pictures.take(torch.tensor([2])).mirrored()[torch.tensor([0])].flatten().tolist()
        [1, 0, 3, 2]
    """

    pixels: NDArray[np.uint8]
    numbers: Tensor
    device: torch.device = torch.device("cpu")  # noqa: RUF009  a device cannot be changed
    is_mirrored: bool = False

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Tensor) -> Tensor:
        read = torch.from_numpy(np.ascontiguousarray(self.pixels[self.numbers[rows.cpu()].numpy()]))
        return (read.flip(3) if self.is_mirrored else read).to(self.device)

    def split(self, split_size: int) -> Iterator[Tensor]:
        """Read all rows, so many at a time."""
        for rows in torch.arange(len(self)).split(split_size):
            yield self[rows]

    def take(self, rows: Tensor) -> Pictures:
        """Take some of the rows, in this order; nothing is read."""
        return replace(self, numbers=self.numbers[rows.cpu()])

    def mirrored(self) -> Pictures:
        """Give the same rows mirrored; nothing is read."""
        return replace(self, is_mirrored=not self.is_mirrored)

    def contents(self) -> Iterator[bytes]:
        """Read the bytes of all rows, some at a time."""
        for part in self.split(_HASHED):
            yield part.cpu().numpy().tobytes()


def augment(pictures_BCSS: Tensor, shift: float, flip: float) -> Tensor:
    """Move each picture by whole pixels, its edge repeated, and mirror some, by torch's own random numbers.

    A crop of 112 pixels at random from 124 is the centre's crop moved by up to 6; here what lies beyond the picture is
    its edge.

    Args:
        pictures_BCSS: any type.
        shift: most that a picture is moved each way, as a share of S.
        flip: probability to be mirrored.
    """
    num, channels, side, _ = pictures_BCSS.shape
    reach = round(shift * side)
    moved = torch.randint(-reach, reach + 1, (2, num, 1)) + torch.arange(side)
    down, across = moved.clamp(0, side - 1)
    across = torch.where(torch.rand(num, 1) < flip, across.flip(1), across)
    places = (torch.arange(num).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1),
              down.view(num, 1, side, 1), across.view(num, 1, 1, side))  # fmt: skip
    return pictures_BCSS[tuple(place.to(pictures_BCSS.device) for place in places)]


class PictureNetwork(AdaptedNetwork):
    """Form `network`: the image encoder is adapted with what stands upon it.

        x = encoder(picture)
        bottleneck:   z = BatchNorm(W x + b),   logits = g v / |v| z + c
        perceptron:   z = x,                    logits = W_2 dropout(relu(W_1 x + b_1)) + b_2

    In training pictures are moved and mirrored, see `augment`. The head learns ten times as fast as the encoder: in
    methods that read source rows it has ten times the rate, in the others the encoder a tenth.

    Args:
        backbone: pictures as bytes `[B, C, S, S]` to `[B, D]`.
        width: D.
        config: head, factors of learning rates, and how pictures are changed.
        bottleneck: H; of a perceptron H is D.
        num_classes: number of classes.

    References:
        González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for digital behavioural
        change. ICLR 2026.
        Liang, Hu, Feng: Do we really need to access the source data? Source hypothesis transfer for unsupervised domain
        adaptation. ICML 2020.

    Example:
        >>> network = PictureNetwork(nn.Flatten(), 512, NetworkConfig(head="perceptron"))
        >>> sum(p.numel() for p in network.classifier.parameters())  # 512 x 1024 + 1024 + 1024 x 2 + 2
        527362
    """

    most_rows = 64

    def __init__(
        self, backbone: nn.Module, width: int, config: NetworkConfig, bottleneck: int = 256, num_classes: int = 2
    ) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone
        self.bottleneck: nn.Module = nn.Identity()
        if config.head == "bottleneck":
            self.bottleneck, self.classifier = bottleneck_of(width, bottleneck), classifier_of(bottleneck, num_classes)
        else:
            self.classifier = nn.Sequential(
                nn.Linear(width, _HIDDEN), nn.ReLU(), Dropout(_DROPOUT), nn.Linear(_HIDDEN, num_classes)
            )

    def embed(self, rows: Tensor) -> Tensor:
        """Compute z, `[B, H]`, of pictures `[B, C, S, S]`."""
        pictures = augment(rows, self.config.shift, self.config.flip) if self.training else rows
        embedded: Tensor = self.bottleneck(self.backbone(pictures))
        return embedded

    def groups(self, reads_source: bool) -> list[tuple[float, list[nn.Parameter]]]:
        """Train the encoder at a tenth of the rate of what stands upon it."""
        heads = [*self.bottleneck.parameters(), *self.classifier.parameters()]
        of_backbone, of_heads = (1.0, self.config.head_factor) if reads_source else (self.config.backbone_factor, 1.0)
        return [(of_backbone, list(self.backbone.parameters())), (of_heads, heads)]
