"""Faces in every frame of a clip, found as the frames pass, and the face pictures that a corpus ships for every frame.

A frame without a face repeats the last one found; before the first there is none.

Shape legend: P pictures looked at, K crops, T frames of the clip, S side of a crop in pixels.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from encoders.config import FacesConfig
from encoders.errors import EncodingError
from encoders.face.crops import (
    FaceCrops,
    chosen_faces,
    cut_face,
    distinct_faces,
    read_picture,
    resized,
    shipped_faces,
)
from encoders.face.landmarks import NUM_FRAMES, FaceTrack, faces_of
from encoders.media.clip import ClipMedia
from encoders.timed import MEASURED, NONE, REPEATED, Grid, hold_last

__all__ = ["CropWatcher", "LandmarkWatcher", "no_face_note", "shipped_in_time"]


def no_face_note(state: NDArray[np.int8]) -> str | None:
    """Say in how many frames there was no face; None where each has its own."""
    missing = int((state != MEASURED).sum())
    if not missing:
        return None
    none = int((state == NONE).sum())
    return f"a face in {len(state) - missing} of {len(state)} frames, {missing - none} repeated, {none} without any"


class LandmarkWatcher:
    """Landmarks of the largest face of each frame.

    Args:
        num_frames: that the encoder reads for its vector.
    """

    def __init__(self, num_frames: int = NUM_FRAMES) -> None:
        self.sampling = num_frames, True
        self.landmarks: list[NDArray[np.float64]] = []
        self.found: list[bool] = []
        self.frame_size = (1, 1)

    def see(self, frame: NDArray[np.uint8]) -> None:
        """Look for the largest face."""
        faces = faces_of(frame)
        self.found.append(bool(faces))
        self.landmarks += faces[:1]
        self.frame_size = (frame.shape[1], frame.shape[0])

    def track(self, grid: Grid) -> tuple[FaceTrack | None, NDArray[np.int64], NDArray[np.int8]]:
        """Give the faces found, one after the other, and which of them stands for each frame.

        Returns:
            The faces found (None without any), for each frame the place of its face among them `[T]` (0 where there is
            none), and states `[T]`.
        """
        found = np.array(self.found, dtype=np.bool_)
        rows, state = hold_last(found)
        places = np.maximum(np.cumsum(found) - 1, 0)[rows]
        track = None
        if found.any():
            seconds = grid.picture_seconds[found]
            track = FaceTrack(np.stack(self.landmarks), np.ones(len(seconds), np.bool_), seconds, self.frame_size)
        return track, grid.of_pictures(places), grid.of_pictures(state)


class CropWatcher:
    """Faces cut out of each frame.

    Args:
        config: which faces, and how they are cut out.
        size: side of a crop in pixels.
        sampling: frames that the encoder reads for its vector, see `encoders.base.Watcher`.
    """

    def __init__(self, config: FacesConfig, size: int, sampling: tuple[int, bool]) -> None:
        self.sampling = sampling
        self._config, self._size = config, size
        self._boxes: list[NDArray[np.float64]] = []
        self._crops: list[list[NDArray[np.uint8]]] = []

    def see(self, frame: NDArray[np.uint8]) -> None:
        """Cut out every face that may be chosen."""
        boxes = distinct_faces(frame, self._config)
        if self._config.several_faces != "track":  # which is chosen is known at the end of the clip only
            boxes = boxes[chosen_faces([boxes], self._config)[0]]
        self._boxes.append(boxes)
        self._crops.append([cut_face(frame, box, self._config, self._size) for box in boxes])

    def crops(self, grid: Grid) -> tuple[FaceCrops | None, NDArray[np.int8]]:
        """Give the faces of all frames; `shown` is `[T]`, and means nothing where the state is `NONE`."""
        chosen = chosen_faces(self._boxes, self._config)
        found = np.array([len(places) > 0 for places in chosen], dtype=np.bool_)
        rows, state = hold_last(found)
        state = grid.of_pictures(state)
        if not found.any():
            return None, state
        pixels = [crops[place] for crops, places in zip(self._crops, chosen, strict=True) for place in places]
        owners = np.repeat(np.arange(len(chosen)), [len(places) for places in chosen])
        shown = np.where(found[rows], rows, np.flatnonzero(found)[0])
        return FaceCrops(np.stack(pixels), owners, grid.of_pictures(shown)), state


def shipped_in_time(clip: ClipMedia, grid: Grid, size: int) -> tuple[FaceCrops | None, NDArray[np.int8]] | None:
    """Read the face pictures that a corpus ships, one for every frame of the video; None where it ships none.

    Picture `frame-N` is that of frame N of the file. Pictures of faces have one size, square; one of another size is
    the whole frame in which no face was found, and it counts as none, as does a picture that is not there. A picture
    that repeats the one before byte for byte is a repeated face.

    Args:
        clip: with a folder of pictures.
        grid: its frames.
        size: side of a crop in pixels.

    Raises:
        EncodingError: a picture cannot be read, or the pictures go on long after the video's last frame.
    """
    paths = shipped_faces(clip)
    if not paths:
        return None
    if grid.pictures is not None:
        raise EncodingError(
            f"{clip.faces}: holds a picture for every frame of the video; leave out features.timed_rate"
        )
    first, last = round(grid.start * float(grid.rate)), max(paths)
    if last - first >= grid.length + max(2, grid.length // 50):
        raise EncodingError(
            f"{clip.faces}: pictures go up to frame-{last}, and the video's frames to {first + grid.length - 1}"
        )
    sizes: Counter[tuple[int, ...]] = Counter()
    pictures: dict[int, tuple[tuple[int, ...], NDArray[np.uint8], bool]] = {}
    before: bytes | None = None
    for index in range(grid.length):
        path = paths.get(first + index)
        content = None if path is None else path.read_bytes()
        if path is not None:
            if content == before:
                shape, pixels, _ = pictures[index - 1]
                pictures[index] = shape, pixels, True
            else:
                picture = read_picture(path)
                pictures[index] = picture.shape, resized(picture, size), False
                if picture.shape[0] == picture.shape[1]:
                    sizes[picture.shape] += 1
        before = content
    common = sizes.most_common(1)[0][0] if sizes else None
    found = np.array([index in pictures and pictures[index][0] == common for index in range(grid.length)])
    rows, state = hold_last(found)
    if not found.any():
        return None, state
    for index in np.flatnonzero(found):
        if pictures[index][2]:
            state[index] = REPEATED
    kept = np.flatnonzero(found & (state == MEASURED))
    owner = kept[np.maximum(np.searchsorted(kept, rows, side="right") - 1, 0)]
    return FaceCrops(np.stack([pictures[index][1] for index in kept]), kept, owner), state
