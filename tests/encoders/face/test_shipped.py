"""Face pictures that come with a corpus: which are faces."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from encoders.errors import EncodingError
from encoders.face.shipped import no_face_frames, shipped_pictures

cv2 = pytest.importorskip("cv2")


def write(folder: Path, name: str, width: int, height: int) -> None:
    _, data = cv2.imencode(Path(name).suffix.lower(), np.full((height, width, 3), 128, np.uint8))
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data.tobytes())


def test_pictures_of_another_size_show_no_face(tmp_path: Path) -> None:
    for number, size in enumerate([(640, 480), (640, 480), (256, 256), (256, 255), (256, 256)]):
        write(tmp_path / "faces", f"frame-{number}.jpg", *size)
    assert no_face_frames(tmp_path / "faces").tolist() == [True, True, False, True, False]
    assert no_face_frames(tmp_path / "faces", 128).all()


def test_frames_are_told_by_number_and_missing_ones_show_no_face(tmp_path: Path) -> None:
    for name in ("frame-10.jpg", "frame-2.JPG", "frame-0.png", "frame-x.jpg", "frame-3.jpg.txt"):
        write(tmp_path / "faces", name if not name.endswith("txt") else "other-3.jpg", 256, 256)
    assert list(shipped_pictures(tmp_path / "faces")) == [0, 2, 10]
    assert np.flatnonzero(~no_face_frames(tmp_path / "faces")).tolist() == [0, 2, 10]
    assert len(no_face_frames(tmp_path / "faces")) == 11


def test_what_is_no_picture_shows_no_face_and_only_heads_are_read(tmp_path: Path) -> None:
    write(tmp_path, "frame-0.jpg", 256, 256)
    write(tmp_path, "frame-1.jpg", 256, 256)
    os.truncate(tmp_path / "frame-1.jpg", 700)  # its head is whole
    (tmp_path / "frame-2.jpg").write_bytes(b"")
    (tmp_path / "frame-3.jpg").write_bytes(b"no picture")
    assert no_face_frames(tmp_path).tolist() == [False, False, True, True]


def test_an_empty_folder_and_none(tmp_path: Path) -> None:
    assert no_face_frames(tmp_path).shape == (0,)
    with pytest.raises(EncodingError, match="no folder of face pictures that can be read"):
        no_face_frames(tmp_path / "nowhere")
