from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from skimage.data import astronaut

from corpora.demo.clip import ClipPlan, write_clip
from encoders.errors import EncodingError, MissingModality
from encoders.face.mesh import FaceMesh
from encoders.maintenance import inspection
from encoders.maintenance.inspection import MEDIA_KINDS, inspect_clip, inspect_media
from encoders.media.clip import ClipMedia
from tests.support import fake_inspectors
from tests.support.media_files import tone, write_media

SECONDS = 1.2
FACE = np.ascontiguousarray(astronaut()[:240, 100:340])
WALL = np.tile(np.linspace(60, 180, 96, dtype=np.uint8)[:, None, None], (1, 96, 3))


def video(path: Path, *images: NDArray[np.uint8], sound: float | None = 0.5, seconds: float = SECONDS) -> Path:
    """25 frames a second that show the images one after the other, and a tone of that amplitude."""
    num_frames = round(25 * seconds)
    frames = [images[number * len(images) // num_frames] for number in range(num_frames)]
    samples = None if sound is None else tone(220, num_frames / 25, amplitude=sound)
    return write_media(path, frames, samples)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Small media files by what is wrong with them."""
    root = tmp_path_factory.mktemp("media")
    black = np.zeros((96, 96, 3), np.uint8)
    noise = [np.random.default_rng(n).integers(0, 255, (96, 96, 3), dtype=np.uint8) for n in range(100)]
    files = {
        "clean": video(root / "clean.mkv", FACE),
        "one_face": video(root / "one_face.mkv", *[np.zeros_like(FACE)] * 4, FACE),  # in the last of five frames
        "no_audio": video(root / "no_audio.mkv", FACE, sound=None),
        "silent": video(root / "silent.mkv", FACE, sound=0.0),
        "hushed": video(root / "hushed.mkv", FACE, sound=9e-4),
        "quiet": video(root / "quiet.mkv", FACE, sound=1.2e-3),
        "black": video(root / "black.mkv", black),
        "wall": video(root / "wall.mkv", WALL),
        "short": video(root / "short.mkv", FACE, seconds=0.4),
        "two_frames": write_media(root / "two.mkv", [FACE, FACE], tone(220, 1.0), fps=2),
        "three_frames": write_media(root / "three.mkv", [FACE] * 3, tone(220, 1.0), fps=3),
        "sound": write_media(root / "sound.wav", samples=tone(220, SECONDS)),
        "hum": write_media(root / "hum.wav", samples=tone(220, SECONDS, amplitude=9e-4)),
        "truncated": write_media(root / "t.mp4", noise, tone(220, 4.0), audio_codec="aac",
                                 options={"movflags": "faststart"}),
        "garbage": root / "garbage.mp4",
        "missing": root / "missing.mp4",
        "folder": root,
    }  # fmt: skip
    content = files["truncated"].read_bytes()
    files["truncated"].write_bytes(content[: len(content) // 2])
    files["garbage"].write_text("no video " * 50)
    return files


def kinds(row: Mapping[str, object]) -> dict[str, str]:
    found = inspect_clip({name: str(value) if isinstance(value, Path) else value for name, value in row.items()})
    assert found is not None
    assert [kind for kind, _ in found] == [kind for kind in MEDIA_KINDS if kind in dict(found)]
    return dict(found)


@pytest.mark.parametrize("name", ["clean", "one_face", "quiet", "three_frames", "sound"])
def test_nothing_is_found_in_clean_media(media: Mapping[str, Path], name: str) -> None:
    assert kinds({"media": media[name]}) == {}


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("garbage", "unreadable", "cannot be opened as media (Invalid data found when processing input; 450 bytes)"),
        ("folder", "unreadable", "is a folder, expected a media file"),
        ("no_audio", "no_audio", "no sound stream"),
        ("silent", "silent", "no sample of 1.2 s reaches 0.001 (peak 0.0e+00)"),
        ("hushed", "silent", "no sample of 1.2 s reaches 0.001 (peak 8.9e-04)"),  # 9e-4 in steps of 2 ** -15
        ("black", "black", "all of 5 frames are black"),
        ("wall", "no_face", "no face found in 5 frames"),
        ("short", "too_short", "lasts 0.40 s"),
        ("two_frames", "too_short", "holds 2 frames"),
        ("hum", "silent", "no sample of 1.2 s reaches 0.001 (peak 8.9e-04)"),
    ],
)
def test_each_kind_is_found_alone(media: Mapping[str, Path], name: str, kind: str, reason: str) -> None:
    assert kinds({"media": media[name]}) == {kind: f"{media[name]}: {reason}"}


def test_a_truncated_file_is_unreadable_in_pictures_and_sound(media: Mapping[str, Path]) -> None:
    found = kinds({"media": media["truncated"]})
    assert list(found) == ["unreadable"]
    pictures, sound = found["unreadable"].split(f"; {media['truncated']}: ")
    assert pictures.startswith(f"{media['truncated']}: only ")
    assert " of 5 frames could be decoded" in pictures
    assert " s of audio could be decoded" in sound


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.1, 1.7, {}),  # half a second beyond the end is tolerated
        (0.1, 1.71, {"span_outside": "the file lasts 1.20 s, the clip runs from 0.1 s to 1.71 s"}),
        (0.1, 9.0, {"span_outside": "the file lasts 1.20 s, the clip runs from 0.1 s to 9 s"}),
        (1.2, None, {"span_outside": "the file lasts 1.20 s, the clip runs from 1.2 s to its end"}),
        (0.9, None, {"too_short": "lasts 0.30 s"}),
        (0.1, 0.5, {"too_short": "lasts 0.40 s"}),
        (0.5, 0.5, {"too_short": "lasts 0.00 s"}),
        (None, 0.5, {}),
    ],
)
def test_spans(media: Mapping[str, Path], start: float | None, end: float | None, expected: dict[str, str]) -> None:
    found = kinds({"media": media["clean"], "start": start, "end": end, "raw.annotated_seconds": 60.0})
    assert found == {kind: f"{media['clean']}: {reason}" for kind, reason in expected.items()}


def test_a_file_is_as_long_as_its_longest_stream(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", [FACE] * 25, tone(220, 2.0))
    assert kinds({"media": path, "start": 0.1, "end": 1.6}) == {}
    assert list(kinds({"media": path, "start": 0.1, "end": 2.6})) == ["span_outside"]


@pytest.mark.parametrize(
    ("annotated", "differs"), [(None, False), (1.2, False), (0.25, False), (2.15, False), (0.19, True), (2.25, True)]
)
def test_a_short_file_and_its_annotation_may_differ_by_a_second(
    media: Mapping[str, Path], annotated: float | None, differs: bool
) -> None:
    found = kinds({"media": media["sound"], "raw.annotated_seconds": annotated})
    reason = f"{media['sound']}: the file lasts 1.20 s, the annotation says {annotated or 0:.2f} s"
    assert found == ({"span_disagrees": reason} if differs else {})


@pytest.mark.parametrize(("annotated", "differs"), [(8.4, False), (8.3, True), (12.4, False), (12.6, True)])
def test_a_long_file_and_its_annotation_may_differ_by_a_fifth(tmp_path: Path, annotated: float, differs: bool) -> None:
    """10 s less 8.4 s is less than 0.2 * 8.4 s = 1.68 s, 10 s less 8.3 s more than 1.66 s; above, 2.48 s and 2.52 s."""
    path = write_media(tmp_path / "a.wav", samples=tone(220, 10.0))
    found = kinds({"media": path, "raw.annotated_seconds": annotated})
    assert list(found) == (["span_disagrees"] if differs else [])


def test_several_kinds_of_one_clip(media: Mapping[str, Path]) -> None:
    found = kinds({"media": media["no_audio"], "start": 0.1, "end": 9.0})
    assert list(found) == ["no_audio", "span_outside"]
    found = kinds({"media": media["wall"], "end": 0.2, "raw.annotated_seconds": 9.0})
    assert list(found) == ["no_face", "too_short"]


def test_the_next_file_is_looked_at_where_the_first_cannot_be_used(media: Mapping[str, Path]) -> None:
    clean, black, wall = media["clean"], media["black"], media["wall"]
    assert kinds({"media": black, "fallback_media": clean}) == {"black": f"{black}: all of 5 frames are black"}
    assert kinds({"media": clean, "fallback_media": wall}) == {}
    assert kinds({"media": media["missing"], "fallback_media": wall, "fallback_end": 0.4}) == {
        "no_face": f"{wall}: no face found in 5 frames",
        "too_short": f"{wall}: lasts 0.40 s",
    }
    assert list(kinds({"media": media["garbage"], "fallback_media": wall})) == ["unreadable", "no_face"]
    assert list(kinds({"media": black, "fallback_media": wall})) == ["black", "no_face"]
    assert list(kinds({"media": clean, "start": 9.0, "fallback_media": wall})) == ["no_face", "span_outside"]
    assert kinds({"media": black, "fallback_media": black})["black"] == f"{black}: all of 5 frames are black"


def test_a_sound_file_takes_the_place_of_the_videos_sound(media: Mapping[str, Path]) -> None:
    mute, sound, hum, clean = media["no_audio"], media["sound"], media["hum"], media["clean"]
    assert kinds({"media": mute, "audio_media": sound}) == {}
    assert list(kinds({"media": mute, "audio_media": hum})) == ["no_audio", "silent"]
    assert list(kinds({"media": clean, "audio_media": hum})) == ["silent"]
    assert kinds({"media": clean, "audio_media": media["missing"]}) == {}
    assert list(kinds({"media": clean, "audio_media": sound, "audio_start": 5.0})) == ["span_outside"]
    assert list(kinds({"media": mute, "fallback_media": clean})) == ["no_audio"]
    assert kinds({"audio_media": sound}) == {}


def test_files_that_do_not_exist_are_passed_over(media: Mapping[str, Path]) -> None:
    missing = str(media["missing"])
    assert inspect_clip({"media": missing, "fallback_media": missing, "audio_media": missing}) is None
    assert inspect_clip({"text": "no media"}) is None


def test_an_unforeseen_error_costs_one_clip_and_a_missing_library_all(
    media: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("strange stream")

    monkeypatch.setattr(inspection, "read_audio", fail)
    assert kinds({"media": media["sound"]}) == {"unreadable": f"{media['sound']}: ValueError: strange stream"}

    def lack(_: object) -> None:
        raise ModuleNotFoundError("No module named 'mediapipe'")

    monkeypatch.setattr(inspection, "largest_face", lack)
    with pytest.raises(ModuleNotFoundError, match="mediapipe"):
        inspect_clip({"media": str(media["clean"])})


@pytest.mark.parametrize(("position", "kind"), [(0, None), (3, "no_face"), (4, "unreadable")])
def test_demo_clips_agree_with_the_face_mesh(tmp_path: Path, position: int, kind: str | None) -> None:
    clip = ClipPlan("meld", "train", 0, position)
    path = tmp_path / "meld" / clip.media
    path.parent.mkdir(parents=True)
    write_clip(tmp_path, clip)
    assert list(kinds({"media": path})) == ([] if kind is None else [kind])
    (rows,) = FaceMesh("video").encode([ClipMedia(media=path)])
    assert isinstance(rows, (EncodingError, MissingModality)) == (kind is not None)


def table(*rows: Mapping[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame([{"corpus": "a", "clip_id": str(n), **row} for n, row in enumerate(rows)])
    for name in frame.columns.intersection(["media", "audio_media", "fallback_media", "raw.annotated_seconds"]):
        frame[name] = frame[name].map(lambda value: None if pd.isna(value) else str(value)).astype("string")
    return frame


def test_a_table_is_inspected_in_order(media: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_CHUNK_SIZE", 2)
    clips = table(
        {"media": media["no_audio"], "start": 0.1, "end": 9.0},
        {"media": media["clean"], "corpus": "b"},
        {"media": None},
        {"media": media["missing"]},
        {"media": media["sound"], "raw.annotated_seconds": 9.0},
        {"media": media["garbage"], "fallback_media": media["sound"], "corpus": "b"},
    )
    found = inspect_media(clips, 2, False)
    assert found.columns.tolist() == ["corpus", "clip_id", "kind", "reason"]
    assert found[["corpus", "clip_id", "kind"]].to_numpy().tolist() == [
        ["a", "0", "no_audio"], ["a", "0", "span_outside"], ["a", "4", "span_disagrees"], ["b", "5", "unreadable"],
    ]  # fmt: skip
    assert found["reason"].iloc[2] == f"{media['sound']}: the file lasts 1.20 s, the annotation says 9.00 s"
    assert {str(dtype) for dtype in found.dtypes} == {"string"}
    assert found.attrs["num_inspected"] == 4
    assert 0.1 < found.attrs["seconds"] < 60


def test_a_table_without_media_starts_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "start_engine", lambda *_, **__: pytest.fail("a worker was started"))
    found = inspect_media(pd.DataFrame({"corpus": ["a"], "clip_id": ["1"], "text": ["hello"]}), 2, False)
    assert found.columns.tolist() == ["corpus", "clip_id", "kind", "reason"]
    assert (len(found), found.attrs["num_inspected"]) == (0, 0)


@pytest.mark.slow
def test_a_worker_that_dies_costs_one_clip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, but no progress is wanted
    monkeypatch.setattr(inspection, "_CHUNK_SIZE", 3)
    monkeypatch.setattr(inspection, "inspect_there", fake_inspectors.mortal)
    names = ["a", "b", "c", "d", "die", "f", "g", "h", "i", "j"]
    found = inspect_media(table(*({"media": name} for name in names)), 1, False)
    assert found["clip_id"].tolist() == [str(number) for number in range(10)]
    reasons = [f"{name} in 3" for name in names[:3]] + ["d in 1", "die: its decoder crashed", "f in 1"]
    assert found["reason"].tolist() == reasons + [f"{name} in 3" for name in names[6:9]] + ["j in 1"]
    assert found["kind"].iloc[4] == "unreadable"
    assert found.attrs["num_inspected"] == 10
    assert capsys.readouterr().err == ""


def test_an_error_of_the_installation_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "inspect_there", fake_inspectors.unfit)
    with pytest.raises(ModuleNotFoundError, match="mediapipe"):
        inspect_media(table({"media": "a"}), 1, False)


def test_an_interrupt_stops_at_once_and_ends_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "inspect_there", fake_inspectors.slow)
    told = tmp_path / "pid"
    interrupted: list[float] = []

    def interrupt() -> None:
        while not (told.exists() and told.read_text()):
            time.sleep(0.02)
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        inspect_media(table({"media": told}), 1, False)
    thread.join()
    while time.monotonic() - interrupted[0] < 5:
        try:
            os.kill(int(told.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("the worker lives on")


def test_progress_is_told_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(inspection, "inspect_there", fake_inspectors.mortal)
    inspect_media(table({"media": "a"}, {"media": "b"}), 1, True)
    shown = capsys.readouterr().err
    assert "media" in shown
    assert "2/2" in shown
    assert "2 with defects" in shown
