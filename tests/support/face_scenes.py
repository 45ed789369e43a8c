"""Frames with real faces on a grey wall, and clips made of frames."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.data import astronaut

from encoders.media.clip import ClipMedia


@lru_cache(maxsize=8)
def head(angle: float = 0.0) -> NDArray[np.uint8]:
    """The public-domain portrait's head, 240 x 240, turned counterclockwise by degrees."""
    matrix = cv2.getRotationMatrix2D((224.0, 118.0), angle, 1.0)
    return cv2.warpAffine(astronaut(), matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)[0:240, 104:344]


def scene(*heads: tuple[int, int, int], angle: float = 0.0, tints: tuple[int, ...] = ()) -> NDArray[np.uint8]:
    """A grey wall 360 x 640 with heads (left, top, side); a tint is a colour channel that is taken away."""
    wall = np.full((360, 640, 3), 120, np.uint8)
    for index, (left, top, side) in enumerate(heads):
        picture = cv2.resize(head(angle), (side, side), interpolation=cv2.INTER_AREA)
        if index < len(tints):
            picture[:, :, tints[index]] = picture[:, :, tints[index]] // 3
        wall[top : top + side, left : left + side] = picture
    return wall


WALL = scene()


def clip_of(*frames: NDArray[np.uint8], num_frames: int = 30, **given: Any) -> ClipMedia:
    clip = ClipMedia(**given)
    clip.cached(("frames", num_frames), lambda: (np.stack(frames), np.arange(len(frames), dtype=float)))
    return clip
