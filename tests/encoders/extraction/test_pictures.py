"""Pictures of clips in one file: what stands where, what is written once, and what a kill leaves."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from corpora.clips import conform
from encoders.config import FacesConfig, FeaturesConfig
from encoders.creation import create_encoder
from encoders.extraction import pictures as module
from encoders.extraction.pictures import StoredPictures, store_pictures
from encoders.models.image import ImageEncoder
from encoders.timed import NONE
from tests.support.media_files import grey, write_media
from tests.support.tiny_images import write_resnet

NUM_FRAMES = 7


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeaturesConfig:
    weights = str(write_resnet(tmp_path_factory.mktemp("network")))
    return FeaturesConfig(
        encoders={"video": "microsoft/resnet-50"}, weights={"microsoft/resnet-50": weights},
        faces=FacesConfig(source="shipped"),
    )  # fmt: skip


@pytest.fixture
def clips(tmp_path: Path) -> pd.DataFrame:
    """Two videos with a face picture for every frame, whose grey tells the frame; one video without any face.

    Frame 0 of the first is no face but the whole frame, and its frame 3 repeats the one before.
    """
    rows = []
    for number, name in enumerate("abc"):
        media = write_media(tmp_path / f"{name}.mp4", [grey(index) for index in range(NUM_FRAMES)], fps=24)
        folder = tmp_path / "faces" / name
        folder.mkdir(parents=True)
        for index in range(NUM_FRAMES):
            shape = (40, 24) if name == "c" or (name == "a" and index == 0) else (32, 32)
            shown = 2 if name == "a" and index == 3 else index
            picture = np.full((*shape, 3), 100 * number + 10 * shown, np.uint8)
            cv2.imwrite(str(folder / f"frame-{index}.png"), picture)
        rows.append({"corpus": "own", "split": "test", "clip_id": name, "media": str(media), "faces": str(folder)})
    return conform(pd.DataFrame(rows))


def stored(clips: pd.DataFrame, features: FeaturesConfig, folder: Path, step: int = 1) -> StoredPictures:
    encoder = create_encoder("microsoft/resnet-50", "video", features)
    assert isinstance(encoder, ImageEncoder)
    return store_pictures(clips, encoder, features, folder, True, step)


def test_each_frame_has_its_picture(clips: pd.DataFrame, features: FeaturesConfig, tmp_path: Path) -> None:
    found = stored(clips, features, tmp_path / "kept")
    assert found.pixels.shape == (5 + 7, 3, 56, 56)  # of `a` without the first, and without the repeated one
    assert isinstance(found.pixels, np.memmap)
    assert found.numbers.frames(0)[:, 0].tolist() == [-1, 0, 1, 1, 2, 3, 4]
    assert found.numbers.state(0)[0] == NONE
    assert found.numbers.frames(1)[:, 0].tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert found.pixels[:, 0, 0, 0].tolist() == [10, 20, 40, 50, 60, *range(100, 170, 10)]
    assert found.numbers.rates[:2] == (Fraction(24), Fraction(24))
    assert list(found.failures) == [2]
    assert "0 of 7 frames" in found.failures[2]


def test_every_so_manieth_frame(clips: pd.DataFrame, features: FeaturesConfig, tmp_path: Path) -> None:
    found = stored(clips, features, tmp_path / "kept", step=3)
    assert found.pixels[:, 0, 0, 0].tolist() == [20, 60, 100, 130, 160]  # frames 0, 3, 6, the first of `a` without
    assert found.numbers.frames(0)[:, 0].tolist() == [-1, -1, -1, 0, -1, -1, 1]


def test_pictures_are_written_once_also_after_a_kill(
    clips: pd.DataFrame, features: FeaturesConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stored(clips, features, tmp_path / "whole")
    stored(clips[:1], features, tmp_path / "kept")
    (folder,) = (tmp_path / "kept").iterdir()
    with (folder / "pixels.uint8").open("ab") as file:  # of a clip that was being written
        file.write(b"\0" * 1000)
    with (folder / "clips.jsonl").open("a") as file:
        file.write('{"corpus": "own", "cli')
    again = stored(clips, features, tmp_path / "kept")
    assert np.array_equal(again.pixels, whole.pixels)
    assert again.numbers.frames(1).tolist() == whole.numbers.frames(1).tolist()
    assert [json.loads(line)["clip"] for line in (folder / "clips.jsonl").read_text().splitlines()] == ["a", "b"]
    monkeypatch.setattr(module, "encode_in_time", lambda *_: pytest.fail("they were there"))
    assert np.array_equal(stored(clips[:2], features, tmp_path / "kept").pixels, whole.pixels)


def test_a_clip_that_changed_is_read_again(clips: pd.DataFrame, features: FeaturesConfig, tmp_path: Path) -> None:
    stored(clips[:2], features, tmp_path / "kept")
    write_media(Path(clips["media"][0]), [grey(index, 48) for index in range(NUM_FRAMES)], fps=24)
    found = stored(clips[:2], features, tmp_path / "kept")
    assert found.numbers.frames(0)[:, 0].tolist() == [-1, 12, 13, 13, 14, 15, 16]
    assert found.numbers.frames(1)[0, 0] == 5
