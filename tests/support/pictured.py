"""People whose frames are tiny pictures that a rule of everybody classifies, until a person's own light falls on them.

A picture is noise, lighter above than below in one class and darker in the other. The light of a shifted person comes
from above or below, and has a colour.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from mmpsr.adaptation.pictures import Pictures
from training.adaptation.material import Material, VideoFrames, of_videos
from training.adaptation.pictures import Backbone

SIDE, NUM_VIDEOS, NUM_FRAMES, NUM_BLOCK = 8, 5, 16, 4


class Tiny(nn.Module):
    """A convolution with BatchNorm over pictures as bytes, averaged over quarters of the height."""

    WIDTH = 16

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = torch.relu(self.norm(self.layer(pixels.float() / 64 - 2)))
        return maps.unflatten(2, (4, -1)).mean(dim=(3, 4)).flatten(1)


def backbone() -> Backbone:
    def make() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)  # pretrained: the same whenever it is made
            return Tiny()

    return Backbone(make, Tiny.WIDTH, "tiny")


def material(
    seed: int, *, num_train: int = 6, num_dev: int = 2, num_test: int = 4, shift: float = 0.0, contrast: float = 14.0
) -> Material:
    """Videos of people; blocks of `NUM_BLOCK` frames have one label.

    Args:
        seed: of everything.
        num_train: people of train.
        num_dev: people of dev.
        num_test: people of test.
        contrast: of the classes, in grey levels at the upper edge; the noise of a pixel has 25.
        shift: of the light of test people, in grey levels at the upper edge.
    """
    generator = np.random.default_rng(seed)
    slope = np.linspace(1, -1, SIDE)[:, None]
    pixels, videos = [], []
    for split, number in (("train", num_train), ("dev", num_dev), ("test", num_test)):
        for index in range(number):
            size = shift if split == "test" else 0.0
            light = size * generator.choice([-1.0, 1.0]) * slope + size / 2 * generator.normal(size=(3, 1, 1))
            for video in range(NUM_VIDEOS):
                blocks = generator.permutation(NUM_FRAMES // NUM_BLOCK) % 2
                labels = np.repeat(blocks, NUM_BLOCK).astype(np.int8)
                shown = 128 + light + contrast * (2 * labels[:, None, None, None] - 1) * slope
                shown = shown + 25 * generator.normal(size=(NUM_FRAMES, 3, SIDE, SIDE))
                numbers = len(pixels) * NUM_FRAMES + np.arange(NUM_FRAMES)[:, None].astype(np.float64)
                pixels.append(shown.clip(0, 255).astype(np.uint8))
                name = f"{split}{index}"
                videos.append(VideoFrames(f"{name}/{video}", name, split, numbers, labels, Fraction(24)))
    found = of_videos(videos)
    assert isinstance(found.features, Tensor)
    rows = Pictures(np.concatenate(pixels), found.features[:, 0].long())
    return Material(**{**found.__dict__, "features": rows, "mirrored": rows.mirrored()})
