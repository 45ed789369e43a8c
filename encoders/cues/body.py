"""Hands and shoulders of a clip, in some of its frames; models of the MediaPipe wheel, built once per process.

Hands are looked for in a square around the face, where they are large enough for the palm detector. Shoulders take
the pose model on the whole frame, and only where the frame reaches far enough below the eyes to show them. Every
frame is treated alone (no tracking), so what is found never depends on the frames or clips before.

Both models cost more than all else that is measured of a clip. So some frames are looked at first, and those beside
them only where they show something: a hand at the face, or shoulders that leave their usual place.

Shape legend: B frames looked at for hands, S for shoulders, T frames of the face track, 478 landmarks of a face, 21
of a hand.

References:
    Zhang et al., MediaPipe Hands: on-device real-time hand tracking, 2020, arXiv:2006.10214.
    Bazarevsky et al., BlazePose: on-device real-time body pose tracking, 2020, arXiv:2006.10204.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.cues.events import CueEvent, events_where, spacing
from encoders.face.landmarks import FaceTrack, eye_centres, face_frames, face_track, start_model
from encoders.face.measures import CUE_NAMES, measure_cues
from encoders.media.clip import ClipMedia

__all__ = ["BodyTrack", "body_events", "body_settings", "body_track", "share_at_face", "shoulder_degrees"]

_SPACING = 0.75
"""Least seconds between frames that are looked at: a hand at the face and raised shoulders last a second or more."""
_FIRST = {"hands": 2, "shoulders": 3}
"""Of so many frames that far apart one is looked at first, but of at least `_LEAST_FRAMES`."""
_AROUND = 11.0  # IOD, side of the square in which hands are looked for: the head is 3.5 high, an open hand 2.5 to 3
_SIDE = 320  # pixels of that square at most; the palm detector sees 192
_BELOW_EYES = 3.5  # IOD that the frame must show below the eyes to look for shoulders (they are 3.5 to 4.5 below)
_CONFIDENCE = 0.5
_VISIBLE = 0.5  # least visibility of a shoulder
_SHOULDERS = (12, 11)  # landmarks of the pose: the subject's right and left
_AT_FACE = 0.15  # IOD by which a hand's landmark may lie outside the face and still count as at it
_HAND_SHARE = 3 / 21  # a finger's last three joints
_RAISED = 0.5  # IOD by which the shoulders come nearer to the eyes than their own median
_NODDING = 10.0  # degrees of pitch from the clip's own median beyond which the eyes themselves went up or down
_UNEVEN = 8.0  # degrees from the shoulders' own median line
_LEAST_FRAMES = 4  # frames with shoulders from which a median says how they usually are


@dataclass(frozen=True)
class BodyTrack:
    """Hands and shoulders in some frames of a face track.

    Attributes:
        hand_frames: `[B]`, in which frames of the track hands were looked for.
        at_face: `[B]`, largest share of a hand's landmarks that lie at the face; 0 without a hand.
        shoulder_frames: `[S]`, in which frames shoulders were looked for.
        shoulders: `[S, 2, 2]`, x and y in pixels of the right and left shoulder; not a number where they are unseen.
    """

    hand_frames: NDArray[np.intp]
    at_face: NDArray[np.float64]
    shoulder_frames: NDArray[np.intp]
    shoulders: NDArray[np.float64]


def body_settings() -> dict[str, object]:
    """Tell what decides the body track besides the face track; part of the fingerprint of who uses it."""
    return {
        "detector": "mediapipe 0.10.21 Hands lite, Pose full; static", "confidence": _CONFIDENCE, "spacing": _SPACING,
        "around": _AROUND, "side": _SIDE, "below_eyes": _BELOW_EYES, "first": _FIRST,
    }  # fmt: skip


def body_track(clip: ClipMedia, num_frames: int) -> BodyTrack:
    """Find hands at the face and shoulders, computed once per clip; raises as `face_track` does."""

    def compute() -> BodyTrack:
        track = face_track(clip, num_frames)
        pictures = face_frames(clip, num_frames)[0][-len(track.found) :]  # the track leaves leading frames out
        right, left = eye_centres(track.landmarks)
        distances = np.linalg.norm(left - right, axis=1)
        stride = max(1, math.ceil(_SPACING / spacing(track.seconds)))
        frames = np.arange(min(stride // 2, len(track.found) - 1), len(track.found), stride)

        def at_face(index: int) -> float:
            face, distance = track.landmarks[index], float(distances[index])
            hands = _hands(pictures[index], face, distance)
            return max((share_at_face(hand, face, distance) for hand in hands), default=0.0)

        def shoulders(index: int) -> NDArray[np.float64]:
            below = pictures[index].shape[0] - (right[index] + left[index])[1] / 2
            if below < _BELOW_EYES * distances[index]:
                return np.full((2, 2), np.nan)
            return _find_shoulders(pictures[index])

        def leave_their_place(frames: NDArray[np.intp], shoulders: NDArray[np.float64]) -> NDArray[np.bool_]:
            degrees = [degree for degree, _ in shoulder_degrees(track, frames, shoulders).values()]
            return np.max(degrees, axis=0) >= 1.0 if degrees else np.zeros(len(frames), np.bool_)

        return BodyTrack(
            *_look(frames, _FIRST["hands"], at_face, lambda _, shares: shares > 0),
            *_look(frames, _FIRST["shoulders"], shoulders, leave_their_place),
        )

    return clip.cached(("body", num_frames), compute)


def _look(
    frames: NDArray[np.intp],
    step: int,
    measure: Callable[[int], float | NDArray[np.float64]],
    shows: Callable[[NDArray[np.intp], NDArray[np.float64]], NDArray[np.bool_]],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Measure every `step`-th frame, then the others between one that shows something and the next that was measured.

    Returns:
        Which frames were measured, in order, and what was measured in them.
    """
    step = max(1, min(step, (len(frames) - 1) // (_LEAST_FRAMES - 1)))
    first = list(range((len(frames) - 1) % step // 2, len(frames), step))
    measured = {place: measure(int(frames[place])) for place in first}
    shown = shows(frames[first], np.array([measured[place] for place in first]))
    for place in np.array(first)[shown].tolist():
        for beside in range(max(place - step + 1, 0), min(place + step, len(frames))):
            if beside not in measured:
                measured[beside] = measure(int(frames[beside]))
    places = sorted(measured)
    return frames[places], np.array([measured[place] for place in places])


def _hands(picture: NDArray[np.uint8], face: NDArray[np.float64], distance: float) -> list[NDArray[np.float64]]:
    """Find landmarks `[21, 2]` in pixels of up to two hands around a face."""
    import cv2

    middle, half = face[:, :2].mean(axis=0), _AROUND * distance / 2
    left, top = np.maximum(middle - half, 0).astype(int)
    right, bottom = np.ceil(middle + half).astype(int)
    part = picture[top:bottom, left:right]
    scale = min(1.0, _SIDE / max(max(part.shape[:2]), 1))
    size = max(round(part.shape[1] * scale), 1), max(round(part.shape[0] * scale), 1)
    hands = _hand_model().process(cv2.resize(part, size, interpolation=cv2.INTER_AREA)).multi_hand_landmarks
    extent = np.array([part.shape[1], part.shape[0]])
    corner = np.array([left, top])
    return [np.array([(point.x, point.y) for point in hand.landmark]) * extent + corner for hand in hands or ()]


def share_at_face(hand: NDArray[np.float64], face: NDArray[np.float64], distance: float) -> float:
    """Measure share of a hand's landmarks inside the face's outline or at most 0.15 IOD outside.

    Pictures have no depth: a hand held before the face counts as at it.

    Args:
        hand: `[21, 2]` in pixels.
        face: `[478, 3]` in pixels.
        distance: inter-ocular, in pixels.
    """
    from scipy.spatial import ConvexHull, QhullError

    try:
        outline = ConvexHull(face[:, :2]).equations  # rows (n, d): n . p + d is the distance outside an edge
    except QhullError:
        return 0.0
    outside = (hand @ outline[:, :2].T + outline[:, 2]).max(axis=1)
    return float((outside <= _AT_FACE * distance).mean())


def _find_shoulders(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Find the right and left shoulder `[2, 2]` in pixels, or not a number where one is not visible inside it."""
    pose = _pose_model().process(picture).pose_landmarks
    points = [pose.landmark[index] for index in _SHOULDERS] if pose else []
    if not points or any(not (0 <= p.x <= 1 and 0 <= p.y <= 1 and p.visibility >= _VISIBLE) for p in points):
        return np.full((2, 2), np.nan)
    extent = np.array([picture.shape[1], picture.shape[0]], dtype=np.float64)
    return np.array([(point.x, point.y) for point in points]) * extent


@lru_cache(maxsize=1)
def _hand_model() -> Any:
    return start_model(
        lambda solutions: solutions.hands.Hands(
            static_image_mode=True, max_num_hands=2, model_complexity=0, min_detection_confidence=_CONFIDENCE
        )
    )


@lru_cache(maxsize=1)
def _pose_model() -> Any:
    return start_model(
        lambda solutions: solutions.pose.Pose(
            static_image_mode=True, model_complexity=1, min_detection_confidence=_CONFIDENCE
        )
    )


def body_events(track: FaceTrack, body: BodyTrack, begin: float = 0.0) -> list[CueEvent]:
    """Find hands at the face, and shoulders that are raised or uneven compared with their own median.

    Args:
        track: landmarks in pixels.
        body: hands and shoulders in some of its frames.
        begin: second of the file at which the clip begins.
    """
    seconds = track.seconds - begin
    shares, hand_seconds = body.at_face, seconds[body.hand_frames]
    events = events_where("hand_at_face", shares / _HAND_SHARE, shares, "share of the hand", hand_seconds)
    units = {"shoulders_raised": "IOD", "shoulders_uneven": "degrees"}
    for cue, (degrees, values) in shoulder_degrees(track, body.shoulder_frames, body.shoulders).items():
        events += events_where(cue, degrees, values, units[cue], seconds[body.shoulder_frames])
    return events


def shoulder_degrees(
    track: FaceTrack, frames: NDArray[np.intp], shoulders: NDArray[np.float64]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Tell how far shoulders are raised and uneven: by cue, degrees and values `[S]`; nothing of too few frames."""
    seen = np.isfinite(shoulders).all(axis=(1, 2)) & track.found[frames]
    if seen.sum() < _LEAST_FRAMES:
        return {}
    right, left = eye_centres(track.landmarks[frames])
    distance = float(np.median(np.linalg.norm(left - right, axis=1)[seen]))
    shoulders = np.where(seen[:, None, None], shoulders, 0.0)
    depth = (shoulders[:, :, 1].mean(axis=1) - (right + left)[:, 1] / 2) / distance
    rise = np.median(depth[seen]) - depth
    pitch = np.degrees(measure_cues(track)[frames, CUE_NAMES.index("pitch")])
    level = np.abs(pitch - np.median(pitch[seen])) <= _NODDING
    across = shoulders[:, 1] - shoulders[:, 0]
    slope = np.degrees(np.arctan2(across[:, 1], across[:, 0]))
    off = np.abs(slope - np.median(slope[seen]))
    return {
        "shoulders_raised": (np.where(seen & level, rise / _RAISED, 0.0), rise),
        "shoulders_uneven": (np.where(seen, off / _UNEVEN, 0.0), off),
    }
