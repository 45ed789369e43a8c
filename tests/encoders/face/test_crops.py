from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from encoders.config import FacesConfig
from encoders.errors import EncodingError, MissingModality
from encoders.face import crops as module
from encoders.face.crops import FaceCrops, average_faces, chosen_faces, crop_settings, face_crops
from encoders.media.clip import ClipMedia
from tests.support.face_scenes import WALL, clip_of, head, scene
from tests.support.media_files import write_media

PLAIN = FacesConfig(align=False, remove_background=False)
SIZE = 64


def crops_of(*frames: NDArray[np.uint8], config: FacesConfig = PLAIN, size: int = SIZE) -> FaceCrops:
    crops = face_crops(clip_of(*frames), config, size)
    assert crops is not None
    return crops


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def test_leading_frames_are_dropped_and_missing_faces_repeat_the_last() -> None:
    left, right = scene((20, 60, 240)), scene((360, 60, 240))
    crops = crops_of(WALL, WALL, left, WALL, WALL, right, WALL)
    assert crops.pixels.shape == (2, SIZE, SIZE, 3)
    assert crops.pixels.dtype == np.uint8
    assert crops.frames.tolist() == [2, 5]
    assert crops.shown.tolist() == [2, 2, 2, 5, 5]  # frames 2 to 6
    embeddings = average_faces(np.array([[1.0], [7.0]], np.float32), crops)
    assert embeddings.tolist() == [[1], [1], [1], [7], [7]]
    assert embeddings.dtype == np.float32


def test_no_face_at_all_gives_no_crops() -> None:
    assert face_crops(clip_of(WALL, WALL), PLAIN, SIZE) is None


def test_a_clip_without_media_is_absent() -> None:
    with pytest.raises(MissingModality, match="no media file"):
        face_crops(ClipMedia(), PLAIN, SIZE)


def test_faces_far_smaller_than_the_largest_are_ignored() -> None:
    # sides 240 and 120: a quarter of the area; 240 and 160: 0.44 of it
    assert crops_of(scene((20, 60, 240), (400, 100, 120))).frames.tolist() == [0]
    assert crops_of(scene((20, 60, 240), (400, 100, 160))).frames.tolist() == [0, 0]
    boxes = np.array([[0.0, 0, 10, 10], [50, 0, 5, 6], [80, 0, 5, 5.9]])  # areas 100, 30, 29.5
    assert chosen_faces([boxes], FacesConfig())[0].tolist() == [0, 1]


def test_two_faces_of_a_frame_are_averaged_and_keep_their_frame() -> None:
    both, one = scene((20, 60, 240), (380, 60, 240)), scene((200, 60, 240))
    crops = crops_of(one, both, WALL, one)
    assert crops.frames.tolist() == [0, 1, 1, 3]
    embedded = np.array([[1, 0], [2, 4], [4, 10], [9, 9]], np.float32)
    assert average_faces(embedded, crops).tolist() == [[1, 0], [3, 7], [3, 7], [9, 9]]


def test_views_of_the_same_face_are_one_face() -> None:
    detections = np.array(
        [[0.0, 0, 10, 10, 0.6], [1, 1, 10, 10, 0.9], [5, 0, 10, 10, 0.8], [8, 0, 10, 10, 0.7]]
    )  # the first shares 9 x 9 with the second; the third 6 x 9 of 100 with it; the fourth 3 x 9
    assert module._distinct(detections).tolist() == [[1, 1, 10, 10], [8, 0, 10, 10]]
    assert module._distinct(np.zeros((0, 5))).shape == (0, 4)


def test_the_crop_holds_the_face_wherever_and_however_large_it_is() -> None:
    reference = crops_of(scene((20, 60, 240))).pixels[0]
    moved = crops_of(scene((371, 93, 240))).pixels[0]
    smaller = crops_of(scene((371, 93, 160))).pixels[0]
    assert difference(reference, moved) < 8
    assert difference(reference, smaller) < 14
    assert difference(reference, np.roll(reference, 8, axis=1)) > 25  # an eighth of the crop aside is far off
    # as many pixels as asked for, and eyes in the upper half at both sides
    assert crops_of(scene((20, 60, 240)), size=90).pixels.shape == (1, 90, 90, 3)


@pytest.mark.parametrize("angle", [-25.0, 25.0])
def test_alignment_levels_the_eyes(angle: float) -> None:
    straight, turned = scene((100, 60, 240)), scene((100, 60, 240), angle=angle)
    aligned = FacesConfig(align=True, remove_background=False)
    assert difference(crops_of(straight, config=aligned).pixels, crops_of(turned, config=aligned).pixels) < 12
    assert difference(crops_of(straight).pixels, crops_of(turned).pixels) > 24


def test_the_background_is_black_and_only_the_background() -> None:
    frame = scene((100, 60, 240), angle=20.0)
    for align in (True, False):
        kept = crops_of(frame, config=FacesConfig(align=align, remove_background=False)).pixels[0]
        if not align:  # the detector's box decides a plain crop, the mesh' box one without background
            kept = kept_mesh_box(frame)
        removed = crops_of(frame, config=FacesConfig(align=align, remove_background=True)).pixels[0]
        black = (removed == 0).all(axis=2)
        assert black[[0, 0, -1, -1], [0, -1, 0, -1]].all()
        assert 0.2 < black.mean() < 0.6
        assert not black[SIZE // 4 : -SIZE // 4, SIZE // 3 : -SIZE // 3].any()
        inside = cv2.erode((~black).astype(np.uint8), np.ones((5, 5))) == 1
        assert difference(removed[inside], kept[inside]) < 4
        assert (kept[[0, 0, -1, -1], [0, -1, 0, -1]] > 0).any()


def kept_mesh_box(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture around the landmarks' box, upright, 1.1 times as large as its longer side."""
    mesh = module.mesh_of(frame, module.detect_faces(frame)[0])
    assert mesh is not None
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    centre, side = (low + high) / 2, 1.1 * (high - low).max()
    natural = round(side)
    matrix = np.array([[1.0, 0, 0], [0, 1, 0]]) * natural / side
    matrix[:, 2] = natural / 2 - centre * natural / side
    return cv2.resize(cv2.warpAffine(frame, matrix, (natural, natural)), (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def test_a_face_that_the_mesh_does_not_see_is_cut_out_as_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = scene((100, 60, 240), angle=20.0)
    plain = crops_of(frame).pixels
    monkeypatch.setattr(module, "mesh_of", lambda frame, box: None)
    np.testing.assert_array_equal(crops_of(frame, config=FacesConfig()).pixels, plain)


def test_the_short_range_detector_sees_what_fills_the_frame() -> None:
    close = cv2.resize(head()[60:165, 71:171], (100, 105))
    assert face_crops(clip_of(close), PLAIN, SIZE) is None
    assert crops_of(close, config=FacesConfig(detector="short")).frames.tolist() == [0]


def test_tracking_follows_one_person_past_another() -> None:
    # two heads cross between the frames 2 and 3, one above the other; the followed one is the larger, tinted without
    # red, at first at the left
    frames = [scene((70 * n, 5, 170), (350 - 70 * n, 200, 150), tints=(0, 2)) for n in range(6)]
    frames[4] = WALL
    crops = crops_of(*frames, config=FacesConfig(align=False, remove_background=False, several_faces="track"))
    assert crops.frames.tolist() == [0, 1, 2, 3, 5]
    assert crops.shown.tolist() == [0, 1, 2, 3, 3, 5]
    red, blue = crops.pixels[..., 0].mean(axis=(1, 2)), crops.pixels[..., 2].mean(axis=(1, 2))
    assert (red < blue).all()
    both = crops_of(*frames)
    assert both.frames.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 5, 5]


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """Face pictures whose red tells N times 20."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in (1, 2, 3, 10, 11, 12):
        cv2.imwrite(str(folder / f"frame-{number}.jpg"), np.full((48, 32, 3), (0, 0, number * 20), np.uint8))
    (folder / "notes.txt").write_text("frame-5.jpg")
    return folder


def numbers(crops: FaceCrops | None) -> list[int]:
    assert crops is not None
    assert crops.frames.tolist() == crops.shown.tolist() == list(range(len(crops.pixels)))
    assert (crops.pixels[..., 1:] < 12).all()  # RGB, not BGR
    return [round(float(value) / 20) for value in crops.pixels[..., 0].mean(axis=(1, 2))]


def test_shipped_faces_are_used_when_asked(shipped: Path) -> None:
    asked = FacesConfig(source="shipped")
    clip = ClipMedia(faces=shipped)
    assert numbers(face_crops(clip, asked, SIZE)) == [1, 2, 3, 10, 11, 12]
    # two frames of six: the middles of the halves, (k + 1/2) 6 / 2 = 1.5 and 4.5
    assert numbers(face_crops(clip, asked, SIZE, num_frames=2)) == [2, 11]
    found = face_crops(clip_of(scene((100, 60, 240)), faces=shipped), FacesConfig(), SIZE)
    assert found is not None
    assert found.pixels[..., 1].max() > 100


def test_shipped_faces_of_a_part_of_a_video(shipped: Path, tmp_path: Path) -> None:
    video = write_media(tmp_path / "a.mp4", [WALL[:64, :64]] * 20, fps=10)
    asked = FacesConfig(source="shipped")
    part = ClipMedia(media=video, start=0.2, end=1.1, faces=shipped)
    assert numbers(face_crops(part, asked, SIZE)) == [2, 3, 10]  # frames from 2 on, before 11
    assert numbers(face_crops(ClipMedia(media=video, end=0.3, faces=shipped), asked, SIZE)) == [1, 2]
    assert len(numbers(face_crops(ClipMedia(media=video, faces=shipped), asked, SIZE))) == 6


def test_where_none_are_shipped_faces_are_found(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (None, tmp_path / "nowhere", tmp_path / "empty"):
        clip = clip_of(scene((100, 60, 240)), faces=folder)
        crops = face_crops(clip, FacesConfig(source="shipped"), SIZE)
        assert crops is not None
        assert crops.frames.tolist() == [0]


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_a_broken_shipped_picture_is_named(shipped: Path, content: bytes) -> None:
    (shipped / "frame-3.jpg").write_bytes(content)
    with pytest.raises(EncodingError, match=r"frame-3\.jpg: not a picture that can be read"):
        face_crops(ClipMedia(faces=shipped), FacesConfig(source="shipped"), SIZE)


def test_crops_are_made_once_per_clip_and_setting() -> None:
    clip = clip_of(scene((100, 60, 240)))
    assert face_crops(clip, PLAIN, SIZE) is face_crops(clip, PLAIN, SIZE)
    assert face_crops(clip, PLAIN, SIZE) is not face_crops(clip, FacesConfig(), SIZE)


def test_every_setting_is_part_of_the_fingerprint() -> None:
    changes = [{"source": "shipped"}, {"detector": "short"}, {"align": False}, {"remove_background": False},
               {"several_faces": "track"}]  # fmt: skip
    assert {name for change in changes for name in change} == set(FacesConfig.model_fields)
    seen = [crop_settings(FacesConfig())] + [crop_settings(FacesConfig.model_validate(change)) for change in changes]
    seen.append(crop_settings(FacesConfig(), num_frames=16))
    assert all(one != other for index, one in enumerate(seen) for other in seen[:index])
