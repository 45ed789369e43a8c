"""Facial landmarks of a clip: found once, shared by the encoders that read faces.

MediaPipe FaceMesh looks for a face in the whole frame first. Its own detector sees faces that fill a fifth of the
frame or more; where it finds none, the long-range BlazeFace detector looks for smaller ones (down to about a
fifteenth of the frame's shorter side) and FaceMesh reads the square around the largest. Both models are inside the
MediaPipe wheel. Every frame is treated alone (no tracking), so a frame's landmarks never depend on the frames before.

Shape legend: T frames, 478 landmarks (468 of the face mesh, 468-472 and 473-477 the two irises), 3 coordinates.

References:
    Bazarevsky et al., BlazeFace: sub-millisecond neural face detection on mobile GPUs, 2019, arXiv:1907.05047.
    Grishchenko et al., Attention Mesh: high-fidelity face mesh prediction in real-time, 2020, arXiv:2006.10962.
"""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncodingError
from encoders.media.clip import ClipMedia
from encoders.media.frames import LONGEST_SIDE
from encoders.visibility import MIN_FACE_SHARE, FaceFigures

__all__ = [
    "NUM_FRAMES",
    "NUM_LANDMARKS",
    "FaceTrack",
    "Reach",
    "align",
    "count_of",
    "detect_faces",
    "eye_centres",
    "face_frames",
    "face_settings",
    "face_track",
    "is_turned",
    "largest_face",
    "mesh_of",
    "start_model",
    "upright_frames",
]

NUM_FRAMES = 12
"""Frames read per clip of up to `PERIOD` seconds, uniformly spaced."""
PERIOD = 15.0
"""Seconds beyond which a clip is given more frames, in proportion to its length, so that their spacing stays."""
MOST_FRAMES = 240
"""No clip is given more frames than this; those of a clip longer than 5 minutes lie further apart."""
SMALLEST_EYES = 8.0
"""Pixels between the eyes, below which a face is none: landmarks are off by a twentieth of that distance and more."""
NUM_LANDMARKS = 478

EYE_CORNERS = {"right": (33, 133), "left": (263, 362)}
"""Outer and inner corner of the subject's own right and left eye (the right eye is left in an unmirrored image)."""

Reach = Literal["long", "short"]
"""Range of a BlazeFace detector: `long` was trained for faces up to five metres away, `short` for up to two."""

_Detection = tuple[float, float, float, float, float]
_CONFIDENCE = 0.5
_MAX_FACES = 4
_WARM: Counter[str] = Counter()  # frames handled so far, by what was asked
_TURNED = 0.2  # of detection confidence (both detectors together) by which upside down must be the likelier
_UPRIGHT = 0.87  # short-range confidence that no face on its head or side reaches (0.86 at most seen)
_ON_ITS_SIDE = 45.0  # degrees; from about 60 on mouths are a quarter too narrow, smiles and open eyes half as large
_CROP = 2.0  # side of the square around a long-range detection, in detection box sides


@dataclass(frozen=True)
class FaceTrack:
    """The largest face over a clip's frames.

    Attributes:
        landmarks: `[T, 478, 3]` in pixels: x to the right, y down, z away from the camera (same unit, 0 at the head's
            centre). Frames before the first face are left out; a later frame without a face repeats the last one.
        found: `[T]`, whether the frame itself showed a face.
        seconds: `[T]`, when the frames are shown, from the beginning of the file.
        frame_size: width and height in pixels.
    """

    landmarks: NDArray[np.float64]
    found: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    frame_size: tuple[int, int]


def face_settings(num_frames: int = NUM_FRAMES) -> dict[str, object]:
    """Tell what decides the landmarks besides the clip; part of the fingerprint of every encoder that uses them."""
    return {
        "frames": num_frames, "period": [PERIOD, MOST_FRAMES], "sampling": "midpoints", "longest_side": LONGEST_SIDE,
        "detector": "mediapipe 0.10.21 FaceMesh, static, refined; BlazeFace long range", "views": "whole, 3 squares",
        "confidence": _CONFIDENCE, "crop": _CROP, "least": [MIN_FACE_SHARE, SMALLEST_EYES],
        "upright": [_UPRIGHT, _TURNED], "face": "largest", "missing": "repeat last, drop leading",
    }  # fmt: skip


def face_track(clip: ClipMedia, num_frames: int = NUM_FRAMES) -> FaceTrack:
    """Find the landmarks of the clip's largest face, computed once per clip.

    The clip is left the figures of `encoders.visibility.FaceFigures`, also where too few frames show a face.

    Raises:
        MissingModality: the clip has no media file.
        EncodingError: the file cannot be decoded, or fewer than `MIN_FACE_SHARE` of its frames show a face.
    """

    def compute() -> FaceTrack:
        frames, seconds, is_turned = upright_frames(clip, num_frames)
        several = [faces_of(frame) for frame in frames]
        faces = [found[0] if found else None for found in several]
        found = np.array([face is not None for face in faces])
        taken = [face for face in faces if face is not None]
        figures = FaceFigures(
            len(frames), len(taken), max(map(len, several)),
            round(min(map(_eye_distance, taken)), 1) if taken else None,
            round(min(float(np.ptp(face[:, :2], axis=0).min()) for face in taken), 1) if taken else None, is_turned,
        )  # fmt: skip
        clip.measured(figures.to_dict())
        if not found.any():
            raise EncodingError(f"{clip.media}: no face found in {len(frames)} frames")
        if found.mean() < MIN_FACE_SHARE:
            raise EncodingError(
                f"{clip.media}: a face in {found.sum()} of {len(frames)} frames, expected at least {MIN_FACE_SHARE:.0%}"
            )
        if not found.all():
            clip.remark(f"a face in {found.sum()} of {len(frames)} frames")
        crowded = sum(len(found) > 1 for found in several)
        if crowded:
            clip.remark(f"several faces in {crowded} of {len(frames)} frames, the largest is taken")
        first = int(found.argmax())
        landmarks: list[NDArray[np.float64]] = []
        for face in faces[first:]:
            landmarks.append(landmarks[-1] if face is None else face)
        tilt = _tilt(np.stack([face for face in faces if face is not None]))
        if tilt > _ON_ITS_SIDE:
            clip.remark(
                f"the face lies on its side ({tilt:.0f} degrees), where landmarks and what is measured on them are "
                "unsure; turn the recording if it is not the head that lies"
            )
        height, width = frames.shape[1:3]
        return FaceTrack(np.stack(landmarks), found[first:], seconds[first:], (width, height))

    return clip.cached(("faces", num_frames), compute)


def face_frames(
    clip: ClipMedia, num_frames: int, follows_length: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read the frames in which faces are looked for, as `ClipMedia.frames`: more of a longer one, the right way up.

    Frames in which faces are found with more certainty upside down are turned, with a remark on the clip: detectors
    give an upright face, with wrong cues, for one that stands on its head.

    Args:
        clip: with frames.
        num_frames: for a clip of up to `PERIOD` seconds; at most `MOST_FRAMES` for any.
        follows_length: whether a longer clip is given more.
    """
    frames, seconds, _ = upright_frames(clip, num_frames, follows_length)
    return frames, seconds


def upright_frames(
    clip: ClipMedia, num_frames: int, follows_length: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.float64], bool]:
    """Read frames as `face_frames` does, and tell whether they were turned."""

    def compute() -> tuple[NDArray[np.uint8], NDArray[np.float64], bool]:
        frames, seconds = clip.frames(count_of(clip, num_frames, follows_length))
        turned = _turned(clip, frames, num_frames, follows_length)
        if turned:
            frames = np.ascontiguousarray(frames[:, ::-1, ::-1])
            frames.setflags(write=False)
        return frames, seconds, turned

    return clip.cached(("face frames", num_frames, follows_length), compute)


def count_of(clip: ClipMedia, num_frames: int, follows_length: bool = True) -> int:
    """Tell how many frames `face_frames` reads of a clip."""
    periods = clip.video_seconds() / PERIOD if follows_length else 1.0
    return max(num_frames, min(math.ceil(num_frames * periods), MOST_FRAMES))


def is_turned(clip: ClipMedia, num_frames: int, follows_length: bool = True) -> bool:
    """Tell whether a clip stands on its head, so that its frames are turned; there is a remark on the clip then."""
    return _turned(clip, clip.frames(count_of(clip, num_frames, follows_length))[0], num_frames, follows_length)


def _turned(clip: ClipMedia, frames: NDArray[np.uint8], num_frames: int, follows_length: bool) -> bool:
    def compute() -> bool:
        turned = _upside_down(frames)
        if turned:
            clip.remark("upside down: its frames are turned")
        return turned

    return clip.cached(("turned", num_frames, follows_length), compute)


def _upside_down(frames: NDArray[np.uint8]) -> bool:
    """Tell whether faces of three frames are found with most certainty when these are turned by half a circle.

    Faces on their side stay: their landmarks turn with them, and `align` levels these; `face_track` tells of them.
    """
    picked = [frames[index] for index in sorted({len(frames) // 6, len(frames) // 2, 5 * len(frames) // 6})]
    if _are_upright(picked):
        return False
    reaches: tuple[Reach, ...] = get_args(Reach)
    scores = []  # of each frame, by quarters of a turn
    for frame in picked:
        views = [np.ascontiguousarray(np.rot90(frame, quarters)) for quarters in range(4)]
        scores.append(
            [sum(float(detect_faces(view, reach)[:, 4].max(initial=0.0)) for reach in reaches) for view in views]
        )
    mean = np.mean(scores, axis=0)
    return bool(mean.argmax() == 2 and mean[2] > mean[0] + _TURNED)


def _are_upright(frames: Sequence[NDArray[np.uint8]]) -> bool:
    """Tell whether the median frame has a face of such confidence as only upright ones reach.

    Of three frames two are enough, and of each the first view that shows such a face.
    """
    if len(frames) % 2 == 0:
        return bool(np.median([detect_faces(frame, "short")[:, 4].max(initial=0.0) for frame in frames]) >= _UPRIGHT)
    detector, num_sure = _detector("short"), 0
    for number, frame in enumerate(frames, start=1):
        with _quiet("short"):
            num_sure += any(detection[4] >= _UPRIGHT for detection in _views(detector, frame))
        if 2 * num_sure > len(frames) or 2 * (num_sure + len(frames) - number) < len(frames):
            break
    return 2 * num_sure > len(frames)


def _tilt(faces: NDArray[np.float64]) -> float:
    """Median angle in degrees between the eye line of faces `[N, 478, 3]` and the horizontal, from 0 to 90."""
    right, left = eye_centres(faces)
    across = np.abs(left - right)
    return float(np.median(np.degrees(np.arctan2(across[:, 1], across[:, 0]))))


def largest_face(frame: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Find landmarks `[478, 3]` in pixels of the face whose bounding box is largest in an RGB frame, or None."""
    return next(iter(faces_of(frame)), None)


def faces_of(frame: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Find landmarks `[478, 3]` in pixels of the faces in an RGB frame, the one with the largest bounding box first.

    Small faces, which the long-range detector alone finds, are read until one is: then there is one. Faces whose eyes
    are less than `SMALLEST_EYES` apart are left out.
    """
    mesh, detector = _mesh_model(), _detector("long")
    with _quiet("faces_of"):
        faces = _meshes(mesh, frame)
        squares = set() if faces else {_square_around(*detection[:4]) for detection in _detections(detector, frame)}
        for left, top, side in sorted(squares, key=lambda square: (-square[2], square)):  # largest first
            faces = [face + np.array([left, top, 0.0]) for face in _meshes(mesh, _square(frame, left, top, side))]
            if faces:
                break
    faces = [face for face in faces if _eye_distance(face) >= SMALLEST_EYES]
    return sorted(faces, key=lambda face: -float(np.prod(np.ptp(face[:, :2], axis=0))))


def _eye_distance(face: NDArray[np.float64]) -> float:
    right, left = eye_centres(face[None])
    return float(np.linalg.norm(left - right))


def detect_faces(frame: NDArray[np.uint8], reach: Reach = "long") -> NDArray[np.float64]:
    """Tell what a BlazeFace detector takes for faces in an RGB frame.

    Args:
        frame: `[H, W, 3]`.
        reach: range of the detector.

    Returns:
        `[N, 5]`: left, top, width and height in pixels, and confidence. A face may be there several times, once per
        view that shows it.
    """
    detector = _detector(reach)
    with _quiet(reach):
        detections = _detections(detector, frame)
    return np.array(detections, dtype=np.float64).reshape(-1, 5)


def mesh_of(frame: NDArray[np.uint8], box: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Find landmarks `[478, 3]` in pixels of a detected face, or None where FaceMesh does not see it.

    Args:
        frame: `[H, W, 3]`.
        box: left, top, width and height of the detection; the landmarks' middle must lie inside.
    """
    mesh = _mesh_model()
    left, top, side = _square_around(*box[:4])
    with _quiet("mesh_of"):
        faces = _meshes(mesh, _square(frame, left, top, side))
    faces = [face + np.array([left, top, 0.0]) for face in faces]
    distances = [np.abs((face[:, :2].mean(axis=0) - box[:2]) / box[2:4] - 0.5).max() for face in faces]
    nearest = int(np.argmin(distances)) if faces else -1
    return faces[nearest] if faces and distances[nearest] <= 0.5 else None


def _meshes(mesh: Any, frame: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    faces = mesh.process(np.ascontiguousarray(frame)).multi_face_landmarks
    height, width = frame.shape[:2]
    scale = np.array([width, height, width], dtype=np.float64)
    return [np.array([(point.x, point.y, point.z) for point in face.landmark]) * scale for face in faces or ()]


def _square_around(left: float, top: float, width: float, height: float) -> tuple[int, int, int]:
    """Return left, top and side in pixels of the square around a detection."""
    side = max(round(_CROP * max(width, height)), 1)
    return round(left + width / 2 - side / 2), round(top + height / 2 - side / 2), side


def _detections(detector: Any, frame: NDArray[np.uint8]) -> list[_Detection]:
    """Find left, top, width, height in pixels and confidence of what a detector takes for faces."""
    return list(_views(detector, frame))


def _views(detector: Any, frame: NDArray[np.uint8]) -> Iterator[_Detection]:
    """Find what a detector takes for faces view by view, see `_detections`.

    It looks at the whole frame and then, since it sees 192 x 192 pixels or fewer, at three squares along the longer
    side.
    """
    height, width = frame.shape[:2]
    short = min(height, width)
    steps = (0.0, 0.5, 1.0) if max(height, width) > 1.2 * short else ()
    views = [(0, 0, width, height)]
    views += [(round(step * (width - short)), round(step * (height - short)), short, short) for step in steps]
    for left, top, wide, high in views:
        view = np.ascontiguousarray(frame[top : top + high, left : left + wide])
        for detection in detector.process(view).detections or ():
            box = detection.location_data.relative_bounding_box
            corner = left + box.xmin * wide, top + box.ymin * high
            yield (*corner, box.width * wide, box.height * high, float(detection.score[0]))


def _square(frame: NDArray[np.uint8], left: int, top: int, side: int) -> NDArray[np.uint8]:
    """Return a square of a frame, black where it lies outside."""
    square = np.zeros((side, side, 3), dtype=np.uint8)
    part = frame[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    square[max(-top, 0) : max(-top, 0) + part.shape[0], max(-left, 0) : max(-left, 0) + part.shape[1]] = part
    return square


def start_model(build: Callable[[Any], Any]) -> Any:
    """Build a model from `mediapipe.solutions` and let it see a blank frame, with standard error closed."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _stderr_closed():
        from encoders.face.solutions import solutions

        model = build(solutions)
        model.process(np.zeros((64, 64, 3), dtype=np.uint8))  # its threads log as they start; a frame waits for them
    return model


@lru_cache(maxsize=1)
def _mesh_model() -> Any:
    """FaceMesh, built once per process when the first clip needs it."""
    return start_model(
        lambda solutions: solutions.face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=_MAX_FACES, refine_landmarks=True,
            min_detection_confidence=_CONFIDENCE,
        )
    )  # fmt: skip


@lru_cache(maxsize=2)
def _detector(reach: Reach) -> Any:
    """Make a BlazeFace detector, built once per process."""
    return start_model(
        lambda solutions: solutions.face_detection.FaceDetection(
            model_selection=int(reach == "long"), min_detection_confidence=_CONFIDENCE
        )
    )


@contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Hide what MediaPipe's native code prints while it handles its first frames (each warning comes once)."""
    _WARM[what] += 1
    with _stderr_closed() if _WARM[what] <= 3 else nullcontext():
        yield


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Send the process' standard error, native code's included, to nowhere; Python's own is flushed before."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def eye_centres(landmarks: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centres `[T, 3]` of the subject's right and left eye, each the middle of its two corners."""
    right, left = (landmarks[:, EYE_CORNERS[side]].mean(axis=1) for side in ("right", "left"))
    return right, left


def align(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Find landmarks without position, in-plane rotation and size.

    `p' = R(-roll) (p - m) / d` with `m` the middle between the eye centres, `roll` the angle of the line between
    them in the image, and `d` their distance in three dimensions (so that turning the head does not stretch the
    face).

    Args:
        landmarks: `[T, 478, 3]` in any unit, x to the right, y down.

    Returns:
        `[T, 478, 3]` in inter-ocular distances: the eyes lie level, their middle is the origin.

    Example:
        >>> face = np.zeros((1, 478, 3))
        >>> face[0, [263, 362], 0] = 2.0  # both corners of the left eye 2 pixels right of those of the right eye
        >>> [round(float(x), 3) for x in align(face)[0, [33, 263], 0]]
        [-0.5, 0.5]
    """
    right, left = eye_centres(landmarks)
    across = left - right
    distance = np.maximum(np.linalg.norm(across, axis=1), 1e-9)
    roll = np.arctan2(across[:, 1], across[:, 0])
    cosine, sine = np.cos(roll)[:, None], np.sin(roll)[:, None]
    centred = landmarks - ((right + left) / 2)[:, None]
    x, y, z = np.moveaxis(centred, -1, 0)
    level = np.stack([cosine * x + sine * y, cosine * y - sine * x, z], axis=-1)
    return np.asarray(level / distance[:, None, None])
