from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from encoders.errors import EncodingError, MissingModality, NothingThere
from encoders.media import clip as clip_module
from encoders.media import every_frame
from encoders.media.clip import ClipMedia
from encoders.media.frames import read_frames
from encoders.timed import Grid
from tests.support.media_files import grey, number_of, tone, write_media
from tests.support.recordings import random_spec, write_recording


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames at 24 per second that tell their number, a key frame every 12."""
    path = tmp_path_factory.mktemp("media") / "counted.mp4"
    return write_media(path, [grey(number) for number in range(50)], fps=24, key_frame_every=12)


def shown(clip: ClipMedia, rate: float | None = None, *sampled: int) -> tuple[Grid, list[int]]:
    numbers: list[list[int]] = []

    def make() -> list[every_frame.See]:
        numbers.append([])
        return [lambda frame: numbers[-1].append(number_of(frame))]

    return clip.show_frames(rate, make, sampled), numbers[-1]


def test_every_frame_is_shown_once(counted: Path) -> None:
    grid, numbers = shown(ClipMedia(media=counted))
    assert numbers == list(range(50))
    assert grid == Grid(50, Fraction(24))
    assert ClipMedia(media=counted).grid(None) == grid


@pytest.mark.parametrize(
    ("start", "end", "first", "length", "lead"),
    [
        (0.0, 1.0, 0, 24, 0.0),
        (1.0, 2.0, 24, 24, 0.0),
        (1.01, 1.5, 25, 11, 25 / 24 - 1.01),  # frames 25 to 35: 36 begins at 1.5
        (1.9, None, 46, 4, 46 / 24 - 1.9),
    ],
)
def test_a_part_has_its_own_frames(
    counted: Path, start: float, end: float | None, first: int, length: int, lead: float
) -> None:
    grid, numbers = shown(ClipMedia(media=counted, start=start, end=end))
    assert numbers == list(range(first, first + length))
    assert (grid.length, grid.rate, grid.start) == (length, Fraction(24), first / 24)
    assert grid.lead == pytest.approx(lead, abs=1e-8)


def test_a_part_far_into_a_file_begins_at_the_right_frame(tmp_path: Path) -> None:
    path = write_media(tmp_path / "long.mp4", [grey(number) for number in range(150)], key_frame_every=30)
    grid, numbers = shown(ClipMedia(media=path, start=4.4, end=5.0))
    assert (grid.start, grid.length) == (4.4, 15)
    assert numbers == [number % 60 for number in range(110, 125)]


def test_a_rate_of_its_own(counted: Path) -> None:
    grid, numbers = shown(ClipMedia(media=counted), 12)
    assert numbers == list(range(0, 50, 2))
    assert (grid.length, grid.rate) == (25, Fraction(12))
    grid, numbers = shown(ClipMedia(media=counted, start=1.0, end=1.25), 48)
    assert numbers == list(range(24, 30))  # each looked at once
    assert grid.pictures is not None
    assert grid.pictures.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert (grid.start, grid.lead) == (1.0, 0.0)


@pytest.mark.parametrize("span", [(None, None), (0.7, 1.8)])
def test_samples_are_those_that_would_be_read(counted: Path, span: tuple[float | None, float | None]) -> None:
    clip = ClipMedia(media=counted, start=span[0], end=span[1])
    shown(clip, None, 5, 12, 99)
    for number in (5, 12, 99):  # the last are more than there are
        frames, seconds = clip.frames(number)
        expected, expected_seconds = read_frames(counted, *span, number)
        np.testing.assert_array_equal(frames, expected)
        np.testing.assert_array_equal(seconds, expected_seconds)


def test_what_was_sampled_is_not_decoded_again(counted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(clip_module, "read_frames", refuse)
    clip = ClipMedia(media=counted)
    shown(clip, None, 12)
    assert len(clip.frames(12)[0]) == 12
    with pytest.raises(AssertionError):
        clip.frames(11)
    clip.release()
    with pytest.raises(AssertionError):
        clip.frames(12)


def test_the_fallback_is_shown_where_the_media_is_black(counted: Path, tmp_path: Path) -> None:
    black = write_media(tmp_path / "black.mp4", [np.zeros((32, 32, 3), np.uint8)] * 20)
    clip = ClipMedia(media=black, fallback_media=counted, fallback_end=1.0)
    grid, numbers = shown(clip)
    assert numbers == list(range(24))
    assert grid.rate == 24
    assert "every frame is black; taken from" in str(clip.take_note("x"))


def test_sound_alone_has_frames_of_its_own(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", samples=tone(200, 1.5))
    clip = ClipMedia(media=path, start=0.25)
    with pytest.raises(NothingThere, match="no video stream"):
        shown(clip)
    assert clip.grid(None) == Grid(32, Fraction(25), 0.25)  # 1.25 s * 25 = 31.25: the last begins at 31
    assert "no pictures: 25 frames per second of the sound" in str(clip.take_note("x"))
    assert clip.grid(10).length == 13
    assert ClipMedia(audio_media=path).grid(10) == Grid(15, Fraction(10))


def test_a_file_that_ends_too_early_is_an_error(counted: Path, tmp_path: Path) -> None:
    whole = write_media(tmp_path / "whole.mkv", [grey(number) for number in range(100)])
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(EncodingError, match=r"cut\.mkv: .*(truncated or damaged|is damaged)"):
        ClipMedia(media=cut).grid(None)
    with pytest.raises(EncodingError, match="file does not exist"):
        ClipMedia(media=tmp_path / "none.mp4").grid(None)
    with pytest.raises(MissingModality):
        ClipMedia().grid(None)


def test_time_stamps_that_contradict_the_rate_are_told(tmp_path: Path) -> None:
    path = tmp_path / "uneven.mkv"
    times = [*range(25), *range(50, 75)]  # a second without pictures, at 25 per second
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number, stamp in enumerate(times):
            frame = av.VideoFrame.from_ndarray(grey(number), format="rgb24")
            frame.pts = stamp
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = ClipMedia(media=path)
    assert shown(clip)[1] == list(range(50))
    note = str(clip.take_note("x"))
    assert "features.timed_rate follows them" in note
    by_time, numbers = shown(ClipMedia(media=path), 25)
    assert by_time.length == 75
    assert by_time.pictures is not None
    assert by_time.of_pictures(np.array(numbers))[[0, 24, 30, 49, 50, 74]].tolist() == [0, 24, 24, 24, 25, 49]


def test_a_rate_that_time_stamps_contradict_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_media(tmp_path / "a.mp4", [grey(number) for number in range(50)], fps=25)
    monkeypatch.setattr(every_frame, "rate_of", lambda *_: Fraction(1000))  # as some browsers write it
    clip = ClipMedia(media=path)
    grid, numbers = shown(clip)
    assert (grid.rate, grid.length, numbers) == (Fraction(25), 50, list(range(50)))
    assert "it states 1000 frames per second, its time stamps say 25, which counts" in str(clip.take_note("x"))
    monkeypatch.setattr(every_frame, "rate_of", lambda *_: Fraction(30000, 1201))  # 24.98: within a twentieth
    assert shown(ClipMedia(media=path))[0].rate == Fraction(30000, 1201)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_random_recordings_have_as_many_frames_as_their_decoder_gives(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng([seed, 77])
    num_checked = 0
    while num_checked < 4:
        spec = random_spec(rng)
        if spec.video is None or spec.damage != "none":
            continue
        num_checked += 1
        path = tmp_path / f"{num_checked}.{spec.suffix}"
        write_recording(path, spec, rng)
        grid, numbers = shown(ClipMedia(media=path))
        with av.open(str(path)) as file:
            assert grid.length == len(numbers) == sum(1 for _ in file.decode(video=0))
        assert float(grid.rate) == pytest.approx(spec.fps, rel=0.01)
        assert grid.start == 0.0
