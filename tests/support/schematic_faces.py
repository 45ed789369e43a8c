"""Landmarks of a schematic face whose measures can be computed by hand, over frames, and drawn hands.

The eye centres are 100 pixels apart, so a pixel is 0.01 inter-ocular distances; eyes are 30 wide and 8 open, the
mouth is 80 wide and 2 open.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from encoders.face.landmarks import FaceTrack

Moves = Mapping[str, tuple[float, float, float]]

_PLACES = {
    33: (-65, 0), 133: (-35, 0), 362: (35, 0), 263: (65, 0),
    160: (-58, -4), 159: (-50, -4), 158: (-42, -4), 144: (-58, 4), 145: (-50, 4), 153: (-42, 4),
    387: (58, -4), 386: (50, -4), 385: (42, -4), 373: (58, 4), 374: (50, 4), 380: (42, 4),
    55: (-20, -25), 107: (-20, -35), 285: (20, -25), 336: (20, -35),
    46: (-70, -20), 70: (-75, -24), 276: (70, -20), 300: (75, -24),
    61: (-40, 100), 291: (40, 100), 0: (0, 88), 13: (0, 99), 14: (0, 101), 17: (0, 112),
    10: (0, -90), 152: (0, 170),
}  # fmt: skip
_LIDS = {"upper": (160, 159, 158, 387, 386, 385), "lower": (144, 145, 153, 373, 374, 380)}
_BROWS = {"inner": (55, 107, 285, 336), "outer": (46, 70, 276, 300)}


def together(*indices: int, move: tuple[float, float, float]) -> dict[str, tuple[float, float, float]]:
    return {f"p{index}": move for index in indices}


SMILE: Moves = together(61, 291, move=(0, -10, 0))
RAISED_BROWS: Moves = together(*_BROWS["inner"], *_BROWS["outer"], move=(0, -10, 0))
LOWERED_BROWS: Moves = together(*_BROWS["inner"], move=(0, 10, 0))
DRAWN_BROWS: Moves = {"p55": (6, 0, 0), "p285": (-6, 0, 0)}
PRESSED_LIPS: Moves = {"p0": (0, 8, 0), "p17": (0, -8, 0)}
PURSED_LIPS: Moves = {"p61": (12, 0, 0), "p291": (-12, 0, 0)}
PARTED_LIPS: Moves = {"p14": (0, 7, 0), "p17": (0, 7, 0)}
OPEN_MOUTH: Moves = {"p14": (0, 18, 0), "p17": (0, 18, 0), **together(61, 291, move=(0, 6, 0))}  # corners by a third
ONE_SIDED: Moves = {"p61": (0, -4, 0), "p291": (0, -16, 0)}
CLOSED_EYES: Moves = together(*_LIDS["upper"], move=(0, 5, 0))
SQUINT: Moves = together(*_LIDS["upper"], move=(0, 3, 0))
WIDE_EYES: Moves = together(*_LIDS["upper"], move=(0, -5, 0))


def looking(right: float, down: float) -> Moves:
    return {"iris_right": (right, down, 0), "iris_left": (right, down, 0)}


def face(moves: Moves | None = None) -> NDArray[np.float64]:
    """The face with some landmarks moved by pixels."""
    points = np.zeros((478, 3))
    for index, place in _PLACES.items():
        points[index, :2] = place
    points[468:473, :2], points[473:478, :2] = (-50, 0), (50, 0)
    for name, move in (moves or {}).items():
        irises = {"iris_right": slice(468, 473), "iris_left": slice(473, 478)}
        points[irises[name] if name in irises else int(name[1:])] += move
    return points


def turned(points: NDArray[np.float64], axis: str, degrees: float) -> NDArray[np.float64]:
    """Rotated about the middle of the eyes: the nose goes right (yaw) or down (pitch), the head clockwise (roll)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = {"yaw": [[c, 0, -s], [0, 1, 0], [s, 0, c]], "pitch": [[1, 0, 0], [0, c, -s], [0, s, c]],
              "roll": [[c, -s, 0], [s, c, 0], [0, 0, 1]]}[axis]  # fmt: skip
    return points @ np.array(matrix).T


def track(faces: list[NDArray[np.float64]], fps: float, missing: tuple[int, ...] = ()) -> FaceTrack:
    """A face track whose frame n is shown at n / fps seconds."""
    found = np.array([index not in missing for index in range(len(faces))])
    return FaceTrack(np.stack(faces), found, np.arange(len(faces)) / fps, (640, 480))


def showing(moves: Moves, frames: range, num_frames: int = 40, fps: float = 10.0) -> FaceTrack:
    """A face at rest but in some frames."""
    return track([face(moves if index in frames else None) for index in range(num_frames)], fps)


def swinging(axis: str, degrees: list[float], fps: float = 10.0) -> FaceTrack:
    """A face turned by so many degrees per frame."""
    return track([turned(face(), axis, angle) for angle in degrees], fps)


def draw_hand(frame: NDArray[np.uint8], left: int, top: int, side: int = 140) -> NDArray[np.uint8]:
    """The frame with an open hand drawn over it, in a square."""
    skin, shade = (224, 172, 140), (168, 129, 105)
    drawn = frame.copy()

    def at(x: float, y: float) -> tuple[int, int]:
        return int(left + x * side / 240), int(top + y * side / 240)

    fingers = [((90, 120), (72, 50), 20), ((112, 110), (106, 30), 21), ((134, 110), (138, 36), 20),
               ((154, 120), (172, 60), 17), ((84, 165), (40, 118), 22)]  # fmt: skip
    cv2.line(drawn, at(120, 170), at(120, 240), skin, int(52 * side / 240), cv2.LINE_AA)
    for start, end, width in fingers:
        cv2.line(drawn, at(*start), at(*end), shade, int((width + 4) * side / 240), cv2.LINE_AA)
        cv2.line(drawn, at(*start), at(*end), skin, int(width * side / 240), cv2.LINE_AA)
    cv2.ellipse(drawn, at(120, 150), (46 * side // 240, 48 * side // 240), 0, 0, 360, skin, -1, cv2.LINE_AA)
    for start, end, _ in fingers:
        cv2.line(drawn, at(*start), at(*end), skin, int(15 * side / 240), cv2.LINE_AA)
    return np.asarray(drawn, dtype=np.uint8)
