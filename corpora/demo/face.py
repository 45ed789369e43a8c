"""The demo's faces: one public-domain portrait, moved by smooth displacement fields.

Every cue (a smile, raised brows, a blink ...) is a displacement field around facial landmarks of
`skimage.data.astronaut()`. A frame is the sum of the fields times the cues' amplitudes, an affine head movement and
one `cv2.remap`: about a millisecond. No participant's face is needed, and none is stored here.

Arrays: T frames, H = W = `SIZE` pixels, K cues, C = `CANVAS` pixels of the portrait that fields may move.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CUES", "FPS", "SIZE", "FaceScript", "Look", "aligned_face", "cue_curves", "render", "render_wall"]

Floats = NDArray[np.float32]

SIZE = 192
FPS = 12
CANVAS = 256
_LEFT, _TOP = 97.0, 0.0
"""Corner of the canvas in the portrait, pixels (x, y)."""
_CORNER = np.array([_LEFT, _TOP], dtype=np.float32)
_CENTRE = (225.0, 126.0)
"""Middle of the face in the portrait; the middle of a frame."""
_ZOOM = SIZE / 176.0
"""Frame pixels per pixel of the portrait."""

CUES = (
    "smile", "mouth_open", "lip_press", "brow_raise", "brow_lower", "eye_close", "nose_wrinkle", "gaze_x", "gaze_y",
    "yaw", "pitch", "jaw", "length",
)  # fmt: skip
"""What moves. `smile`, `gaze_*`, `yaw`, `pitch`, `jaw`, `length` run in [-1, 1], `eye_close` in [-0.6, 1] (negative:
wide open), the others in [0, 1]; at 0 the face is the portrait's, which smiles. `jaw` and `length` are a person's
face shape, not an expression."""

_LOWEST: Mapping[str, float] = {
    "smile": -1.3, "eye_close": -0.6, "gaze_x": -1.2, "gaze_y": -1.2, "yaw": -1.2, "pitch": -1.2, "jaw": -1.0,
    "length": -1.0,
}  # fmt: skip

_EYES = ((204.3, 97.8, 104.3), (245.9, 100.0, 106.8))
"""Middle of each eye (x) and the heights of its upper and lower lid (y), in the portrait."""
_EYE_WIDTH = 9.0
_BROWS = ((187.9, 90.9, 205.8, 86.5, 217.1, 89.3), (262.3, 94.5, 252.5, 89.8, 235.1, 91.5))
"""Outer end, top and inner end of each brow (x, y)."""
_IRISES = ((203.6, 101.2), (246.5, 103.5))
_MOUTH_CORNERS = ((202.5, 139.3), (245.4, 140.5))
_MOUTH = (222.6, 147.0)
_NOSE = (222.8, 128.0)
_FACE = (225.0, 122.0)
_FACE_WIDTH = 150.0
"""Side of an aligned face in the portrait, pixels."""
_DARK_MOUTH = np.array([70.0, 30.0, 30.0], dtype=np.float32)
"""Colour of an open mouth (red, green, blue)."""


@dataclass(frozen=True)
class Look:
    """How a person looks and is filmed, whatever they feel: nuisances that no label depends on."""

    mirrored: bool = False
    """Swap left and right."""
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factor of red, green and blue."""
    gamma: float = 1.0
    """Exponent of the tone curve; above 1 is darker."""
    scale: float = 1.0
    """Size of the head."""
    roll: float = 0.0
    """Tilt of the head, degrees."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Place of the head, frame pixels (x, y)."""
    shape: Mapping[str, float] = field(default_factory=dict)
    """Constant amplitudes of cues: face shape and resting pose."""


@dataclass(frozen=True)
class FaceScript:
    """What a face does in one clip."""

    cues: Mapping[str, float] = field(default_factory=dict)
    """Amplitude by cue, reached after half a second and then held, a little unsteadily."""
    blink_rate: float = 0.3
    """Blinks per second."""
    gaze_away: float = 0.0
    """Share of the time that the eyes look aside."""
    shake: float = 0.0
    """Amplitude of shaking the head (no)."""
    nod: float = 0.0
    """Amplitude of nodding (yes)."""
    fidget: float = 0.0
    """Restlessness of the head."""
    speech: float = 0.4
    """How far the mouth opens while speaking."""


def cue_curves(script: FaceScript, look: Look, loudness: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Compute the amplitude of every cue and the place of the head over time.

    Args:
        script: what the face does.
        look: the person's constant looks.
        loudness: envelope of the voice in [0, 1] at the frames, `[T]`; the mouth follows it.
        rng: source of timing and unsteadiness.

    Returns:
        Cues `[T, K]` in the order of `CUES`, and head `[T, 3]`: shift in frame pixels (x, y) and roll in degrees.
    """
    num_frames = len(loudness)
    time = np.arange(num_frames) / FPS
    onset = np.clip(0.35 + time / 0.5, 0.0, 1.0)
    curves = {name: np.full(num_frames, look.shape.get(name, 0.0)) for name in CUES}
    for name, amplitude in script.cues.items():
        curves[name] += amplitude * onset * (1.0 + 0.15 * _drift(num_frames, rng))
    curves["mouth_open"] += script.speech * loudness
    phase = rng.uniform(0.0, 2.0 * np.pi)
    curves["yaw"] += script.shake * np.sin(2.0 * np.pi * 1.4 * time + phase)
    curves["pitch"] += script.nod * np.sin(2.0 * np.pi * 1.6 * time + phase)
    away = _spells(num_frames, script.gaze_away, rng)
    curves["gaze_x"] += away * rng.choice([-1.0, 1.0])
    curves["gaze_y"] += away * rng.uniform(-0.3, 0.6)
    closing = np.zeros(num_frames)
    for _ in range(rng.poisson(script.blink_rate * num_frames / FPS)):
        at = rng.uniform(0, num_frames)
        closing = np.maximum(closing, np.clip(1.35 - np.abs(np.arange(num_frames) - at) / 1.3, 0.0, 1.0))
    curves["eye_close"] = np.maximum(curves["eye_close"], closing)
    for name in ("yaw", "pitch"):
        curves[name] += 0.35 * script.fidget * _drift(num_frames, rng)
    cues = np.stack([np.clip(curves[name], _LOWEST.get(name, 0.0), 1.2) for name in CUES], axis=1)
    wander = np.stack([_drift(num_frames, rng) for _ in range(3)], axis=1) * (0.5 + 4.0 * script.fidget)
    sway = np.stack([2.5 * curves["yaw"], 2.5 * curves["pitch"], 1.5 * curves["yaw"]], axis=1)
    return cues.astype(np.float32), (wander + sway).astype(np.float32)


def render(cues: Floats, head: Floats, look: Look, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Draw the frames of a clip.

    Args:
        cues: amplitudes `[T, K]` in the order of `CUES`.
        head: shift in frame pixels (x, y) and roll in degrees, `[T, 3]`.
        look: the person's constant looks.
        rng: source of the sensor noise.

    Yields:
        RGB frames `[SIZE, SIZE, 3]`.
    """
    import cv2

    portrait, (grid, fields), inside = _portrait(), _fields(), _inside_mouth()
    tones = _tones(look)
    nothing: Any = None
    noise = rng.integers(0, 7, (SIZE + 16, SIZE + 16, 3), dtype=np.uint8)
    moved = (cues @ fields).reshape(-1, CANVAS, CANVAS, 2)
    for displacement, amplitudes, (right, down, roll) in zip(moved, cues, head, strict=True):
        affine = _head_movement(look, float(right), float(down), float(roll))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        lookup = cv2.warpAffine(grid - displacement, affine, (SIZE, SIZE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        frame = cv2.remap(portrait, lookup, nothing, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        opened = float(np.clip(amplitudes[CUES.index("mouth_open")], 0.0, 1.0))
        if opened > 0.1:
            lower = frame[SIZE // 2 :]
            shade = cv2.remap(inside, lookup[SIZE // 2 :] - _CORNER, nothing, cv2.INTER_LINEAR)
            lower[:] = lower + np.float32(0.85 * opened) * shade[:, :, None] * (_DARK_MOUTH - lower)
        x, y = rng.integers(0, 16, 2)
        yield np.asarray(cv2.add(cv2.LUT(frame, tones), noise[y : y + SIZE, x : x + SIZE]), np.uint8)


def render_wall(num_frames: int, look: Look, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Draw frames without any face: the empty wall that the person would have stood before."""
    import cv2

    wall = cv2.GaussianBlur(_portrait()[8:56, 0:48], (0, 0), 6.0)
    wall = cv2.resize(wall, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    tones = _tones(look)
    for _ in range(num_frames):
        yield np.asarray(cv2.add(cv2.LUT(wall, tones), rng.integers(0, 7, wall.shape, dtype=np.uint8)), np.uint8)


def aligned_face(frame: NDArray[np.uint8], look: Look, head: Floats, side: int = 256) -> NDArray[np.uint8]:
    """Cut the face out of a frame, upright and of one size, as corpora ship cropped and aligned faces.

    Args:
        frame: RGB `[SIZE, SIZE, 3]`.
        look: the person's constant looks.
        head: shift in frame pixels (x, y) and roll in degrees at this frame, `[3]`.
        side: width and height of the picture, pixels.

    Returns:
        RGB `[side, side, 3]`.
    """
    import cv2

    to_canvas = np.vstack([_head_movement(look, *map(float, head)), [0.0, 0.0, 1.0]])
    zoom = _FACE_WIDTH / side
    turn = np.diag([-zoom if look.mirrored else zoom, zoom])
    centre = np.array([_FACE[0] - _LEFT, _FACE[1] - _TOP])
    from_picture = np.vstack([np.column_stack([turn, centre - turn @ [side / 2.0, side / 2.0]]), [0.0, 0.0, 1.0]])
    to_frame = (np.linalg.inv(to_canvas) @ from_picture)[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(frame, to_frame, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _head_movement(look: Look, right: float, down: float, roll: float) -> NDArray[np.float64]:
    """Make the affine map from frame pixels to canvas pixels, `[2, 3]`."""
    angle = np.deg2rad(look.roll + roll)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / (_ZOOM * look.scale)
    if look.mirrored:
        turn[:, 0] *= -1.0
    x, y = SIZE / 2.0 + look.shift[0] + right, SIZE / 2.0 + look.shift[1] + down
    offset = np.array([_CENTRE[0] - _LEFT, _CENTRE[1] - _TOP]) - x * turn[:, 0] - y * turn[:, 1]
    return np.concatenate([turn, offset[:, None]], axis=1)


def _drift(num_frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a slow random movement of about unit size, `[T]`."""
    knots = np.arange(-1, num_frames // 4 + 3)
    return np.interp(np.arange(num_frames) / 4.0, knots, rng.normal(0.0, 1.0, len(knots)))


def _spells(num_frames: int, share: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a 0/1 curve with one spell that covers `share` of the frames, `[T]`, with soft edges."""
    length = round(float(np.clip(share, 0.0, 1.0)) * num_frames)
    start = int(rng.integers(0, num_frames - length + 1))
    curve = np.zeros(num_frames + 2)
    curve[start + 1 : start + 1 + length] = 1.0
    return np.convolve(curve, [0.25, 0.5, 0.25], mode="same")[1:-1]


@cache
def _portrait() -> NDArray[np.uint8]:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[:420])


def _tones(look: Look) -> NDArray[np.uint8]:
    """Make the look-up table of the three colours, `[256, 1, 3]`; the top values are left for noise."""
    curve = np.linspace(0.0, 255.0, 256)[:, None] / 255.0
    return np.clip(255.0 * np.array(look.gains) * curve**look.gamma, 0, 248).astype(np.uint8)[:, None, :]


def _bump(x: Floats, y: Floats, at: tuple[float, float], width: float, height: Floats | float) -> Floats:
    """Draw a Gaussian bump of height 1."""
    return np.exp(-0.5 * (((x - at[0]) / width) ** 2 + ((y - at[1]) / height) ** 2))


def _step(values: Floats, at: Floats | float, width: float) -> Floats:
    """Draw a smooth step from 0 to 1 at `at`."""
    return 0.5 + 0.5 * np.tanh((values - at) / (2.0 * width))


@cache
def _fields() -> tuple[Floats, Floats]:
    """Make the canvas' coordinates `[C, C, 2]` and a displacement field per cue `[K, C * C * 2]`, portrait pixels."""
    y, x = np.mgrid[_TOP : _TOP + CANVAS, _LEFT : _LEFT + CANVAS].astype(np.float32)
    nothing = np.zeros_like(x)
    right_side = np.tanh((x - _MOUTH[0]) / 12.0)
    corners = sum((_bump(x, y, at, 11.0, 11.0) for at in _MOUTH_CORNERS), nothing)
    mouth = _bump(x, y, _MOUTH, 26.0, 9.0)
    jaw = _bump(x, y, (_MOUTH[0], 168.0), 34.0, 17.0)
    opening = np.clip((y - 144.0) / 17.0, 0.0, 1.0)
    chin = opening * (1.0 - _step(y, 190.0, 5.0)) * np.exp(-(((x - _MOUTH[0]) / 34.0) ** 4))
    chin *= np.maximum(np.exp(-(((x - _MOUTH[0]) / 20.0) ** 4)), _step(y, 165.0, 5.0))
    head = 1.0 - _step(np.hypot((x - _FACE[0]) / 62.0, (y - 105.0) / 85.0), 1.0, 1.0 / 9.0)
    lids, brows, inner = nothing.copy(), nothing.copy(), nothing.copy()
    for middle, upper, lower in _EYES:
        across = np.exp(-(((x - middle) / (_EYE_WIDTH * 1.25)) ** 4))
        rise, fall = _step(y, upper - 1.0, 1.6), 1.0 - _step(y, lower + 0.3, 0.45)
        lids += (lower - upper + 0.5) * across * rise * fall
    for outer_x, outer_y, top_x, top_y, inner_x, inner_y in _BROWS:
        for at_x, at_y, width, weight in ((top_x, top_y, 13.0, 1.0), (outer_x, outer_y, 6.0, 0.5)):
            height = np.where(y < at_y - 4.0, np.float32(10.0), np.float32(4.8))
            brows += weight * _bump(x, y, (at_x, at_y - 4.0), width, height)
        inner += _bump(x, y, (inner_x, inner_y + 3.0), 10.0, 6.5)
    irises = sum((_bump(x, y, at, 6.5, 3.8) for at in _IRISES), nothing)
    displacement = {
        "smile": (5.0 * corners * right_side, -7.5 * corners + 1.5 * _bump(x, y, _MOUTH, 9.0, 8.0)),
        "mouth_open": (-2.0 * corners * right_side, 10.0 * chin),
        "lip_press": (-3.0 * mouth * right_side, -4.0 * mouth * np.tanh((y - _MOUTH[1]) / 4.0)),
        "brow_raise": (nothing, -6.5 * np.minimum(brows, 1.2)),
        "brow_lower": (-4.0 * inner * np.tanh((x - _NOSE[0]) / 6.0), 6.0 * inner + 2.5 * np.minimum(brows, 1.0)),
        "eye_close": (nothing, lids),
        "nose_wrinkle": (
            nothing,
            -5.5 * _bump(x, y, (_NOSE[0], 131.0), 13.0, 8.0) - 3.5 * _bump(x, y, (_MOUTH[0], 141.0), 15.0, 5.0),
        ),
        "gaze_x": (6.0 * irises, nothing),
        "gaze_y": (nothing, 2.4 * irises),
        "yaw": (5.0 * head + 6.0 * _bump(x, y, _NOSE, 24.0, 34.0), nothing),
        "pitch": (nothing, 4.0 * head + 5.5 * _bump(x, y, _NOSE, 34.0, 22.0)),
        "jaw": (4.0 * jaw * np.tanh((x - _MOUTH[0]) / 14.0), nothing),
        "length": (nothing, 4.0 * jaw - 3.0 * _bump(x, y, (_FACE[0], 70.0), 40.0, 16.0)),
    }
    fields = np.stack([np.stack(displacement[name], axis=-1).ravel() for name in CUES])
    return np.stack([x, y], axis=-1), fields.astype(np.float32)


@cache
def _inside_mouth() -> Floats:
    """Measure how much each pixel of the canvas lies in the lower part between the lips, `[C, C]`."""
    y, x = np.mgrid[_TOP : _TOP + CANVAS, _LEFT : _LEFT + CANVAS].astype(np.float32)
    bend = ((x - _MOUTH[0]) / 21.0) ** 2
    inside = _step(y, 146.3 - 6.0 * bend, 0.7) * (1.0 - _step(y, 150.0 - 9.5 * bend, 0.5))
    return (inside * (1.0 - _step(np.abs(x - _MOUTH[0]), 16.0, 1.0))).astype(np.float32)
