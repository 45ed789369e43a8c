from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import astronaut

from encoders.errors import EncodingError, MissingModality
from encoders.face.landmarks import FaceTrack, align, eye_centres, face_track, largest_face
from encoders.face.measures import CUE_NAMES, NEUTRAL, measure_cues
from encoders.face.mesh import SHAPE_POINTS, FaceMesh
from encoders.media.clip import ClipMedia
from tests.support.media_files import write_media

FACE = (224.0, 110.0)
"""Middle of the portrait's face, pixels."""
INVARIANT = [
    index
    for index, name in enumerate(CUE_NAMES)
    if name not in ("roll", "speed", "approach", "shift_x", "shift_y", "found")
]


def portrait(
    angle: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0, 0), mirrored: bool = False
) -> NDArray[np.uint8]:
    """The public-domain portrait, turned counterclockwise about the face by degrees, scaled, moved."""
    image = astronaut()
    matrix = cv2.getRotationMatrix2D(FACE, angle, scale)
    matrix[:, 2] += shift
    moved = cv2.warpAffine(image, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)
    return np.ascontiguousarray(moved[:, ::-1]) if mirrored else moved


@lru_cache(maxsize=32)
def landmarks(
    angle: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0, 0), mirrored: bool = False
) -> NDArray[np.float64]:
    found = largest_face(portrait(angle, scale, shift, mirrored))
    assert found is not None
    return found


def track(*faces: NDArray[np.float64], seconds: list[float] | None = None) -> FaceTrack:
    times = np.arange(len(faces), dtype=float) if seconds is None else np.array(seconds)
    return FaceTrack(np.stack(faces), np.ones(len(faces), dtype=bool), times, (512, 512))


def cues(*faces: NDArray[np.float64], seconds: list[float] | None = None) -> dict[str, NDArray[np.float64]]:
    return dict(zip(CUE_NAMES, measure_cues(track(*faces, seconds=seconds)).T, strict=True))


def synthetic(**moved: tuple[float, float, float]) -> NDArray[np.float64]:
    """A schematic face, 100 pixels between the eye centres; `p13=(0, 5, 0)` moves landmark 13 by that much."""
    face = np.zeros((478, 3))
    places = {
        33: (-65, 0), 133: (-35, 0), 362: (35, 0), 263: (65, 0),  # eye corners: eyes 30 wide, centres at -50 and 50
        160: (-58, -4), 159: (-50, -4), 158: (-42, -4), 144: (-58, 4), 145: (-50, 4), 153: (-42, 4),
        387: (58, -4), 386: (50, -4), 385: (42, -4), 373: (58, 4), 374: (50, 4), 380: (42, 4),
        55: (-20, -25), 107: (-20, -35), 285: (20, -25), 336: (20, -35),
        46: (-70, -20), 70: (-75, -24), 276: (70, -20), 300: (75, -24),
        61: (-40, 100), 291: (40, 100), 0: (0, 88), 13: (0, 99), 14: (0, 101), 17: (0, 112),
        10: (0, -90), 152: (0, 170),
    }  # fmt: skip
    for index, place in places.items():
        face[index, :2] = place
    face[468:473, :2], face[473:478, :2] = (-50, 0), (50, 0)
    for name, change in moved.items():
        indices = slice(468, 473) if name == "iris_right" else slice(473, 478) if name == "iris_left" else int(name[1:])
        face[indices] += change
    return face


def one(**moved: tuple[float, float, float]) -> dict[str, float]:
    return {name: float(values[0]) for name, values in cues(synthetic(**moved)).items()}


def test_measures_of_a_schematic_face_by_hand() -> None:
    measured = one()
    expected = {
        "eye_open_left": 8 / 30, "eye_open_right": 8 / 30, "blink": 0,
        "mouth_open": 0.02, "mouth_width": 0.8, "mouth_corner_height": 0.0, "lip_thickness": (11 + 11) / 80,
        "brow_inner_left": 0.30, "brow_inner_right": 0.30, "brow_outer_left": 0.22, "brow_outer_right": 0.22,
        "brow_distance": 0.4, "gaze_x": 0, "gaze_y": 0, "yaw": 0, "pitch": 0, "roll": 0,
        "shift_x": 0, "shift_y": 0, "speed": 0, "approach": 0, "found": 1,
    }  # fmt: skip
    assert list(measured) == list(CUE_NAMES)
    assert measured == pytest.approx(expected, abs=1e-9)


def test_each_cue_follows_what_moves_it() -> None:
    rest = one()
    smile = one(p61=(-5, -10, 0), p291=(5, -10, 0))
    assert smile["mouth_corner_height"] == pytest.approx(0.10)  # 10 of 100 pixels
    assert smile["mouth_width"] == pytest.approx(0.90)
    assert one(p14=(0, 18, 0))["mouth_open"] == pytest.approx(0.20)
    assert one(p55=(6, 0, 0), p285=(-6, 0, 0))["brow_distance"] == pytest.approx(0.28)
    raised = one(p285=(0, -10, 0), p336=(0, -10, 0))
    assert raised["brow_inner_left"] == pytest.approx(0.40)
    assert raised["brow_inner_right"] == rest["brow_inner_right"]
    gaze = one(iris_left=(6, 3, 0), iris_right=(6, 3, 0))
    assert gaze["gaze_x"] == pytest.approx(6 / 15)  # half an eye is 15 pixels wide
    assert gaze["gaze_y"] == pytest.approx(3 / 15)
    assert one(p13=(0, -8, 0))["lip_thickness"] == pytest.approx((3 + 11) / 80)


def test_blink_is_relative_to_the_clips_own_open_eyes() -> None:
    closed = {f"p{index}": (0, 4 - 0.5, 0) for index in (160, 159, 158, 387, 386, 385)}
    measured = cues(synthetic(), synthetic(), synthetic(**closed), synthetic())
    assert measured["blink"].tolist() == [0, 0, 1, 0]
    assert measured["eye_open_left"][2] == pytest.approx(4.5 / 30)


@pytest.mark.parametrize("degrees", [-30.0, 20.0])
def test_head_angles_of_a_turned_face(degrees: float) -> None:
    face = synthetic()
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    # the nose (0, 0, -1) turns to the image's right (+x), down (+y), and the head clockwise in the image
    yaw = face @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]).T
    pitch = face @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T
    roll = face @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T
    measured = cues(yaw, pitch, roll)
    assert np.degrees(measured["yaw"]) == pytest.approx([degrees, 0, 0], abs=1e-6)
    assert np.degrees(measured["pitch"]) == pytest.approx([0, degrees, 0], abs=1e-6)
    assert np.degrees(measured["roll"]) == pytest.approx([0, 0, degrees], abs=1e-6)


def test_sign_of_yaw_points_where_the_nose_points() -> None:
    face = synthetic()
    face[1] = (0, 40, -50)  # tip of the nose, towards the camera
    angle = np.radians(25)
    turned = face @ np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]).T
    assert (turned[1, 0] > 10) == (cues(turned)["yaw"][0] > 0)


def test_movement_in_inter_ocular_distances_per_second() -> None:
    face = synthetic()
    measured = cues(
        face,
        face + np.array((50, 0, 0)),
        face + np.array((50, 0, 0)),
        (face + np.array((50, 0, 0))) * 1.1,
        seconds=[0, 0.5, 1, 2],
    )
    assert measured["speed"][:3] == pytest.approx([1.0, 1.0, 0.0])  # 50 / 100 in half a second
    assert measured["approach"] == pytest.approx([0, 0, 0, np.log(1.1)])
    assert measured["shift_x"][:3] == pytest.approx(np.array([-50, 0, 0]) / 100, abs=1e-9)
    assert cues(face, face + np.array((0, 30, 0)), face + np.array((0, 60, 0)))["shift_y"] == pytest.approx(
        [-0.3, 0, 0.3]
    )


@pytest.mark.parametrize(
    "change", [{"angle": 12.0}, {"angle": -20.0}, {"scale": 1.4, "shift": (20, 60)}, {"shift": (40, 90)}]
)
def test_geometry_of_a_real_face_survives_moving_turning_and_scaling(change: dict[str, float]) -> None:
    still, moved = track(landmarks()), track(landmarks(**change))  # type: ignore[arg-type]
    difference = np.abs(measure_cues(moved) - measure_cues(still))[0, INVARIANT]
    assert difference.max() < 0.05, dict(zip(np.array(CUE_NAMES)[INVARIANT], difference.round(3), strict=True))
    points = list(SHAPE_POINTS.values())
    assert np.abs(align(moved.landmarks) - align(still.landmarks))[0, points, :2].max() < 0.08
    assert np.abs(moved.landmarks - still.landmarks).max() > 10  # pixels: the picture did change


def test_roll_follows_the_turned_picture() -> None:
    roll = [cues(landmarks(angle))["roll"][0] for angle in (0.0, 12.0, -20.0)]
    assert np.degrees(np.diff(roll)) == pytest.approx([-12, 32], abs=1.5)  # OpenCV turns counterclockwise


def test_a_mirrored_face_flips_signs_and_swaps_sides() -> None:
    plain, mirrored = cues(landmarks(12.0)), cues(landmarks(12.0, mirrored=True))
    for name in ("yaw", "roll", "gaze_x"):
        assert mirrored[name][0] == pytest.approx(-plain[name][0], abs=0.03), name
    assert abs(plain["roll"][0]) > 0.1
    for name in ("eye_open", "brow_inner", "brow_outer"):
        assert mirrored[f"{name}_left"][0] == pytest.approx(plain[f"{name}_right"][0], abs=0.04), name
    assert mirrored["mouth_corner_height"][0] == pytest.approx(plain["mouth_corner_height"][0], abs=0.03)


def test_the_portrait_smiles_with_open_eyes_at_the_camera() -> None:
    measured = {name: float(values[0]) for name, values in cues(landmarks()).items()}
    assert measured["mouth_corner_height"] > NEUTRAL["mouth_corner_height"] + 0.1
    assert measured["mouth_width"] > NEUTRAL["mouth_width"] + 0.1
    assert measured["eye_open_left"] > 0.25
    assert abs(np.degrees(measured["yaw"])) < 5


def test_a_small_face_is_found_in_a_wide_frame() -> None:
    frame = np.full((720, 1280, 3), 90, np.uint8)
    frame[200:440, 900:1140] = cv2.resize(astronaut(), (240, 240))
    found = largest_face(frame)
    assert found is not None
    expected = np.array(FACE) * 240 / 512 + (900, 200)
    assert np.abs(found[:, :2].mean(axis=0) - expected).max() < 12
    difference = np.abs(measure_cues(track(found)) - measure_cues(track(landmarks())))[0, INVARIANT]
    assert difference.max() < 0.12


def test_the_largest_of_two_faces_is_taken() -> None:
    frame = np.full((512, 1024, 3), 90, np.uint8)
    frame[:, 512:] = astronaut()
    frame[100:400, 100:400] = cv2.resize(astronaut(), (300, 300))
    found = largest_face(frame)
    assert found is not None
    assert np.abs(found[:, 0].mean() - (512 + FACE[0])) < 15


def test_align_levels_and_scales_the_eyes() -> None:
    aligned = align(np.stack([landmarks(), landmarks(-20.0)]))
    right, left = eye_centres(aligned)
    assert (right + left) == pytest.approx(0, abs=1e-9)
    assert np.linalg.norm(left - right, axis=1) == pytest.approx(1)
    assert (left - right)[:, 1] == pytest.approx(0, abs=1e-9)


WALL = np.full((256, 256, 3), 120, np.uint8)


def small_portrait() -> NDArray[np.uint8]:
    return cv2.resize(portrait(), (256, 256))


def test_encode_a_clip_of_a_moving_face(tmp_path: Path) -> None:
    frames = [cv2.resize(portrait(shift=(2.0 * n, 0)), (256, 256)) for n in range(24)]
    path = write_media(tmp_path / "a.mp4", frames, fps=12)
    encoder = FaceMesh("video")
    clips = [ClipMedia(media=path), ClipMedia(media=path, start=1.0), ClipMedia()]
    whole, part, absent = encoder.encode(clips)
    assert isinstance(whole, np.ndarray)
    assert isinstance(part, np.ndarray)
    assert whole.shape == (12, encoder.width) == (12, 58)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    assert isinstance(absent, MissingModality)
    alone = encoder.encode([ClipMedia(media=path, start=1.0)])[0]
    np.testing.assert_array_equal(part, alone)
    # 1 pixel of the small picture per frame at 12 frames per second, in inter-ocular distances
    distance = np.linalg.norm(np.subtract(*eye_centres(landmarks()[None]))) / 2
    assert whole[:, CUE_NAMES.index("speed")].mean() == pytest.approx(12 / distance, rel=0.3)


def test_frames_without_a_face_repeat_the_last_and_leading_ones_are_dropped(tmp_path: Path) -> None:
    face = small_portrait()
    path = write_media(tmp_path / "a.mp4", [WALL, WALL, face, face, WALL, face], fps=6)
    clip = ClipMedia(media=path)
    seen = face_track(clip, 6)
    assert seen.found.tolist() == [True, True, False, True]
    np.testing.assert_allclose(seen.seconds, np.array([2, 3, 4, 5]) / 6, atol=1e-3)
    np.testing.assert_array_equal(seen.landmarks[2], seen.landmarks[1])
    assert measure_cues(seen)[:, CUE_NAMES.index("found")].tolist() == [1, 1, 0, 1]
    assert face_track(clip, 6) is seen


def test_no_face_in_any_frame(tmp_path: Path) -> None:
    path = write_media(tmp_path / "wall.mp4", [WALL] * 12, fps=12)
    (failure,) = FaceMesh("video").encode([ClipMedia(media=path)])
    assert isinstance(failure, EncodingError)
    assert str(failure).endswith("wall.mp4: no face found in 12 frames")


def test_fingerprint_follows_the_number_of_frames() -> None:
    assert FaceMesh("video").fingerprint() == FaceMesh("video").fingerprint()
    assert FaceMesh("video").fingerprint() != FaceMesh("video", num_frames=30).fingerprint()


def test_mediapipe_says_nothing_on_standard_error() -> None:
    program = (
        "from skimage.data import astronaut; from encoders.face.landmarks import largest_face; import numpy as np\n"
        "for _ in range(4): assert largest_face(astronaut()) is not None\n"
        "largest_face(np.zeros((64, 64, 3), np.uint8)); import sys; print('python is heard', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=Path(__file__).parents[3], capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    assert done.stderr == "python is heard\n"
