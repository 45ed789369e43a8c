"""People whose frames are vectors that a rule of everybody classifies, until a person's own shift is laid over them.

A frame's vector is noise plus, in eight of its columns, a class' mean; each person adds a small offset. A shift of test
people is a rotation in planes that mix these columns with others, and a translation.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from training.adaptation.material import Material, VideoFrames, of_videos

WIDTH, SIGNAL = 32, 8
NUM_VIDEOS, NUM_FRAMES, NUM_BLOCK = 7, 60, 10
Matrix = NDArray[np.float64]


def rotation(generator: np.random.Generator, angle: float) -> Matrix:
    """Turn signal columns towards others by an angle, `[D, D]`."""
    turned = np.eye(WIDTH)
    others = generator.permutation(np.arange(SIGNAL, WIDTH))[:SIGNAL]
    for one, other in zip(range(SIGNAL), others, strict=True):
        turned[[one, other]] = (
            np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ turned[[one, other]]
        )
    return turned


def material(
    seed: int,
    *,
    num_train: int = 12,
    num_dev: int = 4,
    num_test: int = 8,
    separation: float = 0.9,
    angle: float = 0.0,
    translation: float = 0.0,
    share: float = 0.5,
    test_share: float | None = None,
) -> Material:
    """Videos of people; blocks of `NUM_BLOCK` frames have one label.

    Args:
        seed: of everything.
        num_train: people of train.
        num_dev: people of dev.
        num_test: people of test.
        separation: of the classes' means in each signal column, in standard deviations.
        angle: by which each test person is rotated, radians.
        translation: length of each test person's translation per square root of the width.
        share: of blocks that are present.
        test_share: likewise of test people; as `share` where left out.
    """
    generator = np.random.default_rng(seed)
    direction = np.zeros(WIDTH)
    direction[:SIGNAL] = generator.choice([-1.0, 1.0], SIGNAL) * separation
    videos = []
    for split, number in (("train", num_train), ("dev", num_dev), ("test", num_test)):
        for index in range(number):
            is_test = split == "test"
            offset = 0.2 * generator.normal(size=WIDTH)
            turned = rotation(generator, angle) if is_test else np.eye(WIDTH)
            moved = generator.normal(size=WIDTH) * (translation if is_test else 0.0)
            for video in range(NUM_VIDEOS):
                present = test_share if is_test and test_share is not None else share
                num_blocks = NUM_FRAMES // NUM_BLOCK
                blocks = generator.permutation(num_blocks) < round(present * num_blocks)
                labels = np.repeat(blocks, NUM_BLOCK).astype(np.int8)
                values = generator.normal(size=(NUM_FRAMES, WIDTH)) + np.outer(labels - 0.5, direction) + offset
                values = (values @ turned.T + moved).astype(np.float32)
                name = f"{split}{index}"
                videos.append(VideoFrames(f"{name}/{video}", name, split, values, labels, Fraction(24)))
    return of_videos(videos)
