"""From a clip's frames to pictures of faces, by the rules of the published system.

Faces smaller than 0.3 of the area of the largest in their frame are ignored; the others are averaged after embedding.
A frame without a face repeats the last one, frames before the first face are dropped. A clip without any face is left
to whoever asks: there are no crops of it.

Shape legend: K crops, T frames kept, S side of a crop in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.config import FacesConfig
from encoders.errors import EncodingError
from encoders.face.landmarks import detect_faces, eye_centres, face_settings, mesh_of, upright_frames
from encoders.face.shipped import shipped_pictures
from encoders.media.clip import ClipMedia
from encoders.media.decoding import opened, stream_of
from encoders.media.frames import LONGEST_SIDE
from encoders.visibility import FaceFigures

__all__ = [
    "NUM_FRAMES",
    "SMALLEST",
    "FaceCrops",
    "average_faces",
    "chosen_faces",
    "crop_settings",
    "cut_face",
    "distinct_faces",
    "face_crops",
    "follow",
    "read_picture",
    "resized",
    "shipped_faces",
]

NUM_FRAMES = 30
"""Frames read per clip, uniformly spaced."""
SMALLEST = 0.3
"""Faces with less than this share of the area of the largest face in their frame are ignored."""

_OVERLAP = 0.4  # of the smaller of two detections; more is the same face seen in two views
_MESH_MARGIN, _BOX_MARGIN = 1.1, 1.15  # sides of a crop, in those of the landmarks' or of the detection's box
_REACH = 1.5  # farthest a face may lie from where its track expects it, in face sides
_GROWTH = 2.0  # most that its side may change from one sight to the next, as a factor


@dataclass(frozen=True)
class FaceCrops:
    """Pictures of a clip's faces.

    Attributes:
        pixels: RGB `[K, S, S, 3]`.
        frames: `[K]`, rising: the frame that each crop was cut from.
        shown: `[T]`: for each frame kept, the frame whose crops stand for it (itself, or the last one with a face).
    """

    pixels: NDArray[np.uint8]
    frames: NDArray[np.int64]
    shown: NDArray[np.int64]


def crop_settings(config: FacesConfig, num_frames: int = NUM_FRAMES) -> dict[str, object]:
    """Tell what decides the crops besides the clip and their size; part of a fingerprint."""
    return {
        **config.model_dump(), "frames": num_frames, "sampling": "midpoints", "longest_side": LONGEST_SIDE,
        "smallest": SMALLEST, "overlap": _OVERLAP, "margin": [_MESH_MARGIN, _BOX_MARGIN],
        "missing": "repeat last, drop leading; none: whole frames",
        "mesh": face_settings()["detector"], "period": face_settings()["period"], "upright": face_settings()["upright"],
    }  # fmt: skip


def face_crops(
    clip: ClipMedia, config: FacesConfig, size: int, num_frames: int = NUM_FRAMES, follows_length: bool = True
) -> FaceCrops | None:
    """Cut the faces out of uniformly spaced frames, once per clip; None where no frame shows a face.

    The clip is left the figures of `encoders.visibility.FaceFigures`, unless face pictures are used.

    Args:
        clip: what to look at.
        config: which faces, and how they are cut out.
        size: side of a crop in pixels.
        num_frames: frames asked for.
        follows_length: give a longer clip more, as `upright_frames` does.

    Raises:
        MissingModality: the clip has no media file and no face pictures are used.
        EncodingError: the file, or a face picture that is used, cannot be decoded.
    """

    def compute() -> FaceCrops | None:
        pictures = list(shipped_faces(clip).values()) if config.source == "shipped" else []
        if pictures:
            taken = [pictures[int((k + 0.5) * len(pictures) / num_frames)] for k in range(num_frames)]
            pixels = np.stack([resized(read_picture(picture), size) for picture in dict.fromkeys(taken)])
            return FaceCrops(pixels, np.arange(len(pixels)), np.arange(len(pixels)))
        frames, _, is_turned = upright_frames(clip, num_frames, follows_length)
        boxes = [distinct_faces(frame, config) for frame in frames]
        kept = [faces[places] for faces, places in zip(boxes, chosen_faces(boxes, config), strict=True)]
        sides = [float(faces[:, 2:].min()) for faces in kept if len(faces)]
        smallest = round(min(sides), 1) if sides else None
        figures = FaceFigures(len(frames), len(sides), max(map(len, boxes)), None, smallest, is_turned)
        clip.measured(figures.to_dict())
        return _cut_out(frames, kept, config, size)

    return clip.cached(("face_crops", config, size, num_frames, follows_length), compute)


def average_faces(embeddings: NDArray[np.float32], crops: FaceCrops) -> NDArray[np.float32]:
    """Average over the faces of each frame kept, `[K, width] -> [T, width]`.

    Example:
        >>> crops = FaceCrops(np.zeros((3, 1, 1, 3), np.uint8), np.array([1, 1, 3]), np.array([1, 1, 3]))
        >>> average_faces(np.array([[0.0], [2.0], [5.0]], np.float32), crops).tolist()
        [[1.0], [1.0], [5.0]]
    """
    frames, first, counts = np.unique(crops.frames, return_index=True, return_counts=True)
    means = np.add.reduceat(embeddings.astype(np.float64), first) / counts[:, None]
    return means[np.searchsorted(frames, crops.shown)].astype(np.float32)


def _cut_out(
    frames: NDArray[np.uint8], kept: Sequence[NDArray[np.float64]], config: FacesConfig, size: int
) -> FaceCrops | None:
    seen = np.array([index for index, faces in enumerate(kept) if len(faces)], dtype=np.int64)
    if not len(seen):
        return None
    pixels = [cut_face(frame, box, config, size) for frame, faces in zip(frames, kept, strict=True) for box in faces]
    every = np.arange(seen[0], len(frames))
    owners = np.repeat(np.arange(len(frames)), [len(faces) for faces in kept])
    return FaceCrops(np.stack(pixels), owners, seen[np.searchsorted(seen, every, side="right") - 1])


def distinct_faces(frame: NDArray[np.uint8], config: FacesConfig) -> NDArray[np.float64]:
    """Find boxes `[N, 4]` of the faces in a frame, each once, the most certain first."""
    return _distinct(detect_faces(frame, config.detector))


def chosen_faces(boxes: Sequence[NDArray[np.float64]], config: FacesConfig) -> list[NDArray[np.int64]]:
    """Choose the faces that are looked at: of each frame all but small ones, or the one person seen most.

    Args:
        boxes: per frame `[N, 4]`.
        config: which faces.

    Returns:
        Per frame places of its boxes, perhaps none.
    """
    if config.several_faces == "track":
        return [np.array([] if index is None else [index], dtype=np.int64) for index in follow(boxes)]
    return [np.flatnonzero(_large(faces)) for faces in boxes]


def _distinct(detections: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return boxes `[N, 4]` of distinct faces, the most certain first."""
    kept: list[NDArray[np.float64]] = []
    for box in detections[np.argsort(-detections[:, 4], kind="stable"), :4]:
        if all(_common(box, other) <= _OVERLAP * min(box[2:].prod(), other[2:].prod()) for other in kept):
            kept.append(box)
    return np.array(kept).reshape(-1, 4)


def _common(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Measure area that two boxes share."""
    sides = np.minimum(one[:2] + one[2:], other[:2] + other[2:]) - np.maximum(one[:2], other[:2])
    return float(np.maximum(sides, 0).prod())


def _large(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    areas = boxes[:, 2:].prod(axis=1)
    return np.asarray(areas >= SMALLEST * areas.max(initial=0.0))


def cut_face(frame: NDArray[np.uint8], box: NDArray[np.float64], config: FacesConfig, size: int) -> NDArray[np.uint8]:
    """Cut out a face, `[size, size, 3]`, black outside the frame; as detected where FaceMesh fails."""
    import cv2

    mesh = mesh_of(frame, box) if config.align or config.remove_background else None
    centre, side, angle = box[:2] + box[2:] / 2, _BOX_MARGIN * float(box[2:].max()), 0.0
    if mesh is not None:
        right, left = (eye[0, :2] for eye in eye_centres(mesh[None]))
        angle = float(np.degrees(np.arctan2(*(left - right)[::-1]))) if config.align else 0.0
        turned = _turn(mesh[:, :2], angle)
        low, high = turned.min(axis=0), turned.max(axis=0)
        centre, side = _turn((low + high)[None] / 2, -angle)[0], _MESH_MARGIN * float((high - low).max())
    natural = max(size, round(side))  # never fewer pixels than the frame has, so that shrinking can average them
    middle = (float(centre[0]), float(centre[1]))
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, angle, natural / side), dtype=np.float64)
    matrix[:, 2] += natural / 2 - centre
    picture = cv2.warpAffine(frame, matrix, (natural, natural), flags=cv2.INTER_LINEAR)
    if mesh is not None and config.remove_background:
        hull = cv2.convexHull((mesh[:, :2] @ matrix[:, :2].T + matrix[:, 2]).round().astype(np.int32))
        picture[cv2.fillConvexPoly(np.zeros((natural, natural), np.uint8), hull, (1,)) == 0] = 0
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _turn(points: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Return points `[N, 2]` turned counterclockwise as seen in an image (y down) about the origin."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.asarray(points @ np.array([[cosine, -sine], [sine, cosine]]))


def shipped_faces(clip: ClipMedia) -> dict[int, Path]:
    """Return the corpus' face pictures of the clip, `frame-N` by N, in the order of N; none where it ships none.

    N counts the frames of the video; of a clip that is a part of it only its own frames are taken.
    """
    if clip.faces is None or not clip.faces.is_dir():
        return {}
    pictures = shipped_pictures(clip.faces)
    if clip.media is not None and (clip.start is not None or clip.end is not None):
        with opened(clip.media) as container:  # frames per second of the video
            rate = float(stream_of(container, clip.media, "video").average_rate or 0) or 25.0
        first, last = (clip.start or 0.0) * rate, np.inf if clip.end is None else clip.end * rate
        pictures = {number: path for number, path in pictures.items() if first <= number < last}
    return pictures


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture, `[H, W, 3]` with blue first, or raise `EncodingError`."""
    import cv2

    picture = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if picture is None:
        raise EncodingError(f"{path}: not a picture that can be read")
    return np.asarray(picture, dtype=np.uint8)


def resized(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize a picture with blue first to `[size, size, 3]` with red first."""
    import cv2

    height, width = picture.shape[:2]
    shrinks = max(height, width) > size
    scaled = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.ascontiguousarray(scaled[:, :, ::-1])


@dataclass
class _Track:
    """Sights of one face: the frame's index, the box' index in that frame, and the box."""

    frames: list[int]
    indices: list[int]
    boxes: list[NDArray[np.float64]]

    def expected(self, frame: int) -> NDArray[np.float64]:
        """Centre in a later frame if the face keeps the velocity of its last two sights."""
        last = _centre(self.boxes[-1])
        if len(self.boxes) == 1:
            return last
        velocity = (last - _centre(self.boxes[-2])) / (self.frames[-1] - self.frames[-2])
        return last + velocity * (frame - self.frames[-1])

    def cost(self, frame: int, box: NDArray[np.float64]) -> float:
        """Distance of a box from where the face is expected, in face sides; infinite where it cannot be the face."""
        side, other = np.sqrt(self.boxes[-1][2:].prod()), np.sqrt(box[2:].prod())
        distance = float(np.linalg.norm(_centre(box) - self.expected(frame)) / max(side, other))
        grown = max(side, other) / min(side, other)
        return distance + float(np.log(grown)) if distance <= _REACH and grown <= _GROWTH else np.inf


def follow(boxes: Sequence[NDArray[np.float64]]) -> list[int | None]:
    """Find the person seen most: of all tracks the one whose boxes have the largest area in sum.

    In every frame the boxes are given to the tracks so that the sum of distances is smallest; a track expects its
    face where the velocity of its last two sights takes it, so that two people who cross keep their tracks.

    Args:
        boxes: per frame `[N, 4]` left, top, width and height of its faces; N may be 0.

    Returns:
        Per frame the index of the person's box, or None where the person is not seen.

    Example:
        >>> large, small = [0.0, 0.0, 9.0, 9.0], [50.0, 0.0, 5.0, 5.0]
        >>> follow([np.array([small, large]), np.array([small]), np.array([large, small])])
        [1, None, 0]
    """
    tracks: list[_Track] = []
    for frame, faces in enumerate(boxes):
        costs = np.array([[track.cost(frame, box) for box in faces] for track in tracks])
        given = dict(_pairs(costs)) if costs.size else {}
        for index, box in enumerate(faces):
            if index not in given:
                tracks.append(_Track([], [], []))
            track = tracks[given.get(index, -1)]
            track.frames.append(frame)
            track.indices.append(index)
            track.boxes.append(box)
    if not tracks:
        return [None] * len(boxes)
    person = max(tracks, key=lambda track: sum(float(box[2:].prod()) for box in track.boxes))
    seen = dict(zip(person.frames, person.indices, strict=True))
    return [seen.get(frame) for frame in range(len(boxes))]


def _pairs(costs: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return column and row of the cheapest assignment, without the impossible."""
    from scipy.optimize import linear_sum_assignment

    possible = np.isfinite(costs)
    rows, columns = linear_sum_assignment(np.where(possible, costs, 1e6))
    return [(int(column), int(row)) for row, column in zip(rows, columns, strict=True) if possible[row, column]]


def _centre(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(box[:2] + box[2:] / 2)
