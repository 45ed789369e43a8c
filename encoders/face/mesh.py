"""Encoder `face-mesh`: geometry of the face that a person can read, and its shape at fixed points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import Embeddings, Encoder, TimedForm, Watcher, read_each
from encoders.face.landmarks import NUM_FRAMES, FaceTrack, align, face_settings, face_track
from encoders.face.measures import CUE_NAMES, measure_cues
from encoders.face.watching import LandmarkWatcher, no_face_note
from encoders.media.clip import ClipMedia
from encoders.timed import Grid, Timed

__all__ = ["SHAPE_POINTS", "FaceMesh"]

SHAPE_POINTS: Mapping[str, int] = {
    "brow_inner_right": 107, "brow_middle_right": 105, "brow_outer_right": 70,
    "brow_inner_left": 336, "brow_middle_left": 334, "brow_outer_left": 300,
    "cheek_right": 50, "cheek_left": 280, "nose_tip": 1, "nose_wing_right": 98, "nose_wing_left": 327,
    "mouth_corner_right": 61, "mouth_corner_left": 291, "lip_upper": 0, "lip_lower": 17,
    "jaw_right": 172, "jaw_left": 397, "chin": 152,
}  # fmt: skip
"""Point -> landmark of the face mesh. The shape is the aligned x and y of these points: a projection that depends on
neither data nor seeds."""


class FaceMesh(Encoder):
    """Per frame the cues of `CUE_NAMES` (22) and the aligned positions of `SHAPE_POINTS` (18 x 2), 58 in all.

    The face is the largest one; frames before the first face are dropped, later frames without one repeat the last.

    Args:
        modality: `video`.
        num_frames: frames per clip, uniformly spaced.

    References:
        Kartynnik et al., Real-time facial surface geometry from monocular video on mobile GPUs, 2019,
        arXiv:1907.06724.
    """

    id: ClassVar[str] = "face-mesh"
    libraries: ClassVar[tuple[str, ...]] = ("av", "encoders.face.solutions")
    timed_form: TimedForm | None = "pictures"

    def __init__(self, modality: str = "video", *, num_frames: int = NUM_FRAMES) -> None:
        super().__init__(modality)
        self.num_frames = num_frames

    @property
    def width(self) -> int:
        """Cues and shape coordinates per frame."""
        return len(CUE_NAMES) + 2 * len(SHAPE_POINTS)

    def settings(self) -> Mapping[str, object]:
        """List frames, detector and shape points."""
        return {**face_settings(self.num_frames), "cues": list(CUE_NAMES), "shape": list(SHAPE_POINTS.values())}

    def encode(self, clips: Sequence[ClipMedia]) -> list[Embeddings]:
        """Embed clips, `[T, 58]` each; a clip without any face is an `EncodingError`."""
        return list(read_each(clips, self._geometry))

    def _geometry(self, clip: ClipMedia) -> NDArray[np.float32]:
        return _measured(face_track(clip, self.num_frames))

    def timed_settings(self) -> Mapping[str, object]:
        """Tell which frames are looked at, and what stands where there is no face."""
        return {"frames": "every", "missing": "repeat last, none before the first"}

    def watcher(self, clip: ClipMedia) -> LandmarkWatcher:
        """Look for the largest face of every frame."""
        return LandmarkWatcher(self.num_frames)

    def encode_timed(self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False) -> Timed:
        """Give cues and shape of every frame; movement is measured since the frame before that showed a face."""
        assert isinstance(watcher, LandmarkWatcher)
        track, rows, state = watcher.track(grid)
        note = no_face_note(state)
        if note is not None:
            clip.notes[f"{self.id} in time"] = note
        return Timed.nothing(grid, self.width) if track is None else Timed.on(grid, _measured(track)[rows], state)


def _measured(track: FaceTrack) -> NDArray[np.float32]:
    """Measure cues and shape of a track, `[T, 58]`."""
    shape = align(track.landmarks)[:, list(SHAPE_POINTS.values()), :2].reshape(len(track.found), -1)
    return np.concatenate([measure_cues(track), shape], axis=1).astype(np.float32)
