"""Facial cues that a person can read, measured from landmarks: what `face-mesh` encodes and `cue-narrative` words.

All distances are in inter-ocular distances (IOD) of the aligned face, so the cues do not change when a face is moved,
scaled or turned in the image plane (except `roll`, which measures just that). Left and right are the subject's own.

Shape legend: T frames, C cues.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from encoders.face.landmarks import EYE_CORNERS, FaceTrack, align, eye_centres

__all__ = ["CUES", "CUE_NAMES", "NEUTRAL", "measure_cues"]

CUES: Mapping[str, str] = {
    "eye_open_left": "distance of the lids / width of the eye, 0 closed to about 0.4 wide open",
    "eye_open_right": "as eye_open_left",
    "blink": "1 where the eyes are less than 0.6 as open as this clip's open eyes (80th percentile, at least 0.15)",
    "mouth_open": "distance of the inner lips, IOD; 0 closed",
    "mouth_width": "distance of the mouth corners, IOD",
    "mouth_corner_height": "height of the mouth corners over the middle of the lips, IOD; above 0 in a smile",
    "lip_thickness": "visible red of both lips / mouth width; small where the lips are pressed",
    "brow_inner_left": "height of the brow's inner end over the eye's inner corner, IOD",
    "brow_inner_right": "as brow_inner_left",
    "brow_outer_left": "height of the brow's outer end over the eye's outer corner, IOD",
    "brow_outer_right": "as brow_outer_left",
    "brow_distance": "distance of the brows' inner ends, IOD; small in a frown",
    "gaze_x": "iris from the middle of the eye along its width, half eye widths; above 0 towards the image's right",
    "gaze_y": "iris below the line of the eye corners, half eye widths; above 0 downwards",
    "yaw": "radians; above 0 where the nose points to the image's right",
    "pitch": "radians; above 0 where the nose points down; its zero varies by person",
    "roll": "radians; above 0 where the head is tilted clockwise in the image",
    "shift_x": "place of the middle of the eyes along the eye line, from the clip's median place, IOD",
    "shift_y": "as shift_x, across the eye line; above 0 downwards",
    "speed": "movement of the middle of the eyes since the frame before, IOD per second",
    "approach": "growth of the inter-ocular distance since the frame before, natural logarithm per second",
    "found": "1 where the frame itself showed a face, 0 where the last face is repeated",
}
"""Cue -> what it measures, in the order of `measure_cues`' columns."""
CUE_NAMES = tuple(CUES)

NEUTRAL: Mapping[str, float] = {
    "eye_open_left": 0.24, "eye_open_right": 0.24, "mouth_width": 0.78, "mouth_corner_height": 0.01,
    "lip_thickness": 0.37, "brow_inner_left": 0.32, "brow_inner_right": 0.32, "brow_outer_left": 0.22,
    "brow_outer_right": 0.22, "brow_distance": 0.39,
}  # fmt: skip
"""The cues of MediaPipe's canonical neutral face (`canonical_face_model.obj`), as anatomical reference."""

_LIDS = {"right": ((160, 144), (159, 145), (158, 153)), "left": ((387, 373), (386, 374), (385, 380))}
_IRIS = {"right": slice(468, 473), "left": slice(473, 478)}
_BROW_INNER = {"right": (55, 107), "left": (285, 336)}
_BROW_OUTER = {"right": (46, 70), "left": (276, 300)}
_MOUTH_CORNERS = (61, 291)
_UPPER_LIP, _LOWER_LIP = (0, 13), (17, 14)  # outer and inner edge
_FOREHEAD, _CHIN = 10, 152


def measure_cues(track: FaceTrack) -> NDArray[np.float64]:
    """Measure every cue in every frame.

    Head angles come from two axes of the levelled face: `a` from the right to the left eye centre and `b` from the
    forehead (landmark 10) to the chin (152); the nose points along `n = b x a`, and
    `yaw = atan2(n_x, -n_z)`, `pitch = atan2(n_y, hypot(n_x, n_z))`.

    Args:
        track: landmarks in pixels.

    Returns:
        `[T, C]`, columns in the order of `CUE_NAMES`, finite.
    """
    face = align(track.landmarks)
    columns: dict[str, NDArray[np.float64]] = {}
    gaze = []
    for side in ("left", "right"):
        outer, inner = EYE_CORNERS[side]
        width = np.maximum(_distance(face, outer, inner), 1e-9)
        columns[f"eye_open_{side}"] = np.mean([_distance(face, *pair) for pair in _LIDS[side]], axis=0) / width
        offset = face[:, _IRIS[side]].mean(axis=1) - (face[:, outer] + face[:, inner]) / 2
        gaze.append(offset[:, :2] / (width[:, None] / 2))
        columns[f"brow_inner_{side}"] = face[:, inner, 1] - face[:, _BROW_INNER[side], 1].mean(axis=1)
        columns[f"brow_outer_{side}"] = face[:, outer, 1] - face[:, _BROW_OUTER[side], 1].mean(axis=1)
    openness = (columns["eye_open_left"] + columns["eye_open_right"]) / 2
    columns["blink"] = (openness < 0.6 * max(float(np.quantile(openness, 0.8)), 0.15)).astype(np.float64)
    columns["gaze_x"], columns["gaze_y"] = np.mean(gaze, axis=0).T
    width = _distance(face, *_MOUTH_CORNERS)
    columns["mouth_open"] = _distance(face, _UPPER_LIP[1], _LOWER_LIP[1])
    columns["mouth_width"] = width
    middle = (face[:, _UPPER_LIP[0], 1] + face[:, _LOWER_LIP[0], 1]) / 2
    columns["mouth_corner_height"] = middle - face[:, _MOUTH_CORNERS, 1].mean(axis=1)
    thickness = _distance(face, *_UPPER_LIP) + _distance(face, *_LOWER_LIP)
    columns["lip_thickness"] = thickness / np.maximum(width, 1e-9)
    columns["brow_distance"] = _distance(face, _BROW_INNER["right"][0], _BROW_INNER["left"][0])
    columns |= _head_angles(face, track.landmarks)
    columns |= _movement(track)
    columns["found"] = track.found.astype(np.float64)
    return np.stack([columns[name] for name in CUE_NAMES], axis=1)


def _distance(face: NDArray[np.float64], one: int, other: int) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(face[:, one] - face[:, other], axis=1))


def _head_angles(face: NDArray[np.float64], landmarks: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    right, left = eye_centres(face)
    nose = np.cross(face[:, _CHIN] - face[:, _FOREHEAD], left - right)
    right, left = eye_centres(landmarks)
    return {
        "yaw": np.arctan2(nose[:, 0], -nose[:, 2]),
        "pitch": np.arctan2(nose[:, 1], np.hypot(nose[:, 0], nose[:, 2])),
        "roll": np.arctan2(left[:, 1] - right[:, 1], left[:, 0] - right[:, 0]),
    }


def _movement(track: FaceTrack) -> dict[str, NDArray[np.float64]]:
    """Place and speeds of the head; the first frame takes the second's speeds, a single frame has 0."""
    right, left = eye_centres(track.landmarks)
    distance = np.maximum(np.linalg.norm(left - right, axis=1), 1e-9)
    place = (right + left)[:, :2] / 2
    across = (left - right)[:, :2].mean(axis=0)
    across /= max(float(np.linalg.norm(across)), 1e-9)
    along = np.stack([across, np.array([-across[1], across[0]])], axis=1)  # columns: eye line, and downwards
    shift = (place - np.median(place, axis=0)) @ along / np.median(distance)
    speed, approach = np.zeros(len(place)), np.zeros(len(place))
    if len(place) > 1:
        elapsed = np.maximum(np.diff(track.seconds), 1e-3)
        speed[1:] = np.linalg.norm(np.diff(place, axis=0), axis=1) / distance[1:] / elapsed
        approach[1:] = np.diff(np.log(distance)) / elapsed
        speed[0], approach[0] = speed[1], approach[1]
    return {"shift_x": shift[:, 0], "shift_y": shift[:, 1], "speed": speed, "approach": approach}
