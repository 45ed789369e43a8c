from __future__ import annotations

import struct
import wave
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from encoders.errors import EncodingError
from encoders.media import audio as audio_module
from encoders.media.audio import SILENCE, is_silent, read_audio, to_mono
from encoders.media.clip import ClipMedia
from encoders.media.frames import read_frames
from tests.support.media_files import grey, tone, write_media

RATE = 16_000
Samples = NDArray[np.float32]


def decibels(samples: Samples, reference: Samples) -> float:
    """Level of samples relative to a reference's, by their root mean squares."""
    return float(10 * np.log10(np.square(samples).mean() / np.square(reference).mean()))


def burst(second: float, seconds: float = 6.0) -> Samples:
    """Silence but for a tone of 0.2 s that begins at a second."""
    samples = np.zeros(round(seconds * RATE), np.float32)
    begin = round(second * RATE)
    samples[begin : begin + RATE // 5] = tone(440, 0.2)
    return samples


def heard_at(samples: Samples) -> float:
    """Second at which a burst begins."""
    return int(np.flatnonzero(np.abs(samples) > 0.1)[0]) / RATE


def write_timed(
    path: Path,
    pieces: Sequence[tuple[float, Samples]],
    stamps: Sequence[float] | None = None,
    bright: Sequence[int] = (),
    codec: str = "pcm_s16le",
    time_base: Fraction = Fraction(1, 16_000),
) -> Path:
    """Write pieces of sound at the seconds they begin, beside frames shown at `stamps`, those of `bright` white."""
    with av.open(str(path), "w") as container:
        video = None
        if stamps is not None:
            video = container.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
            video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream(codec, rate=48_000 if codec == "libopus" else RATE, layout="mono")
        sound.time_base = time_base
        packets = []
        for number, stamp in enumerate(stamps or ()):
            assert video is not None
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 255 * (number in bright), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(1000 * stamp), Fraction(1, 1000)
            packets += video.encode(frame)
        if video is not None:
            packets += video.encode(None)
        for begin, samples in pieces:
            for first in range(0, len(samples), 1024):
                block = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], "fltp", "mono")
                block.sample_rate, block.time_base = RATE, Fraction(1, RATE)
                block.pts = round(begin * RATE) + first
                packets += sound.encode(block)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def test_a_gap_of_the_time_stamps_is_silence_and_noted(tmp_path: Path) -> None:
    path = write_timed(tmp_path / "a.mkv", [(0.0, tone(220, 2.0)), (2.7, burst(0.3, 2.0))])
    notes: list[str] = []
    samples = read_audio(path, None, None, RATE, notes)
    assert len(samples) == pytest.approx(4.7 * RATE, abs=RATE // 1000)
    assert is_silent(samples[round(2.01 * RATE) : round(2.69 * RATE)])
    assert heard_at(samples[2 * RATE :]) == pytest.approx(1.0, abs=0.002)
    assert notes == ["0.70 s of silence where the time stamps of the sound leave a gap"]
    np.testing.assert_array_equal(read_audio(path, 2.5, 4.0, RATE), samples[round(2.5 * RATE) : 4 * RATE])
    notes.clear()
    read_audio(path, 0.5, 1.5, RATE, notes)
    assert not notes


def test_a_clip_of_a_gap_is_silent_and_not_damaged(tmp_path: Path) -> None:
    path = write_timed(tmp_path / "a.mkv", [(0.0, tone(220, 1.0)), (4.0, tone(220, 1.0))])
    with pytest.raises(EncodingError, match=r"audio is silent \(1\.5 s, peak 0"):
        ClipMedia(media=path, start=2.0, end=3.5).waveform(RATE)


@pytest.mark.parametrize("name", ["late.mkv", "late.mp4", "late.ts"])
def test_sound_that_begins_late_is_silent_before(tmp_path: Path, name: str) -> None:
    stamps = np.arange(0, 4, 0.04).tolist()
    codec = "pcm_s16le" if name.endswith("mkv") else "aac"
    path = write_timed(tmp_path / name, [(1.5, burst(0.5, 2.0))], stamps, codec=codec)
    samples = read_audio(path, None, None, RATE)
    assert heard_at(samples) == pytest.approx(2.0, abs=0.01)
    assert heard_at(read_audio(path, 1.75, None, RATE)) == pytest.approx(0.25, abs=0.01)


def test_sound_that_begins_days_late_has_damaged_stamps(tmp_path: Path) -> None:
    path = write_timed(tmp_path / "a.mkv", [(2e5, tone(220, 1.0))], np.arange(0, 1, 0.04).tolist())
    with pytest.raises(EncodingError, match=r"a\.mkv: its sound begins 56 hours late; its time stamps are damaged"):
        read_audio(path, None, None, RATE)


VARIABLE = np.cumsum([0.04, 0.2, 0.02, 0.05] * 30).tolist()


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
@pytest.mark.parametrize("stamps", [np.arange(0, 6, 0.04).tolist(), VARIABLE, (np.arange(0, 5, 0.04) + 0.8).tolist()])
def test_what_is_seen_and_heard_together_stays_together(tmp_path: Path, name: str, stamps: list[float]) -> None:
    flash = int(np.searchsorted(stamps, 4.0))
    codec = "pcm_s16le" if name.endswith("mkv") else "aac"
    pieces = [(0.3, 0.01 * tone(100, 1.5)), (2.5, burst(stamps[flash] - 2.5, 4.0))]
    path = write_timed(tmp_path / name, pieces, stamps, bright=[flash], codec=codec)
    frames, seconds = read_frames(path, None, None, 1000)
    seen = seconds[int(frames.mean(axis=(1, 2, 3)).argmax())]
    heard = heard_at(read_audio(path, None, None, RATE))
    assert heard == pytest.approx(seen, abs=0.025)
    span = read_audio(path, 3.5, 4.8, RATE)
    assert heard_at(span) + 3.5 == pytest.approx(seen, abs=0.025)


@pytest.mark.parametrize("codec", ["libopus", "aac", "pcm_s16le"])
def test_a_span_has_the_samples_of_the_whole(tmp_path: Path, codec: str) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(6 * RATE)).astype(np.float32)
    path = write_timed(tmp_path / "a.mkv", [(0.2, noise), (7.0, noise)], codec=codec)
    whole = read_audio(path, None, None, 22_050)
    for start, end in ((0.0, 1.0), (2.345, 3.21), (5.5, 8.25)):
        span = read_audio(path, start, end, 22_050)
        np.testing.assert_array_equal(span, whole[round(start * 22_050) : round(end * 22_050)])


def test_spans_of_long_files_are_read_alone_and_lie_where_they_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(20 * RATE)).astype(np.float32)
    path = write_timed(tmp_path / "a.mkv", [(0.0, noise)])
    whole = read_audio(path, None, None, RATE)
    monkeypatch.setattr(audio_module, "_MOST_SAMPLES", 1000)
    asked: list[tuple[float | None, float | None]] = []
    read_track = audio_module._read_track
    monkeypatch.setattr(
        audio_module,
        "_read_track",
        lambda path, index, rate, start, end: asked.append((start, end)) or read_track(path, index, rate, start, end),
    )
    span = read_audio(path, 12.0, 13.0, RATE)
    assert asked == [(12.0, 13.0)]
    np.testing.assert_allclose(span, whole[12 * RATE : 13 * RATE], atol=1e-4)


def test_spans_that_end_in_a_gap_are_silent_there_in_long_files_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_timed(tmp_path / "a.mkv", [(0.0, tone(220, 1.0)), (4.0, tone(220, 1.0))])
    spans = [(0.2, 2.5), (0.9, 4.5), (1.5, 3.0), (3.5, 4.5)]
    whole = [read_audio(path, *span, RATE) for span in spans]
    monkeypatch.setattr(audio_module, "_MOST_SAMPLES", 0)
    for span, expected in zip(spans, whole, strict=True):
        np.testing.assert_array_equal(read_audio(path, *span, RATE), expected)
        assert len(expected) == round((span[1] - span[0]) * RATE)


@pytest.mark.parametrize("codec", ["adpcm_ima_wav", "adpcm_ms"])
def test_blocks_of_compressed_samples_lie_where_reading_on_finds_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, codec: str
) -> None:
    path = write_timed(tmp_path / "a.wav", [(0.0, burst(2.0) + burst(4.0))], codec=codec)
    samples = read_audio(path, None, None, RATE)
    assert len(samples) / RATE == pytest.approx(6.0, abs=0.13)  # blocks of up to 2036 samples, the last one filled up
    assert [heard_at(samples), heard_at(samples[3 * RATE :]) + 3] == pytest.approx([2.0, 4.0], abs=0.002)
    monkeypatch.setattr(audio_module, "_MOST_SAMPLES", 0)
    np.testing.assert_array_equal(read_audio(path, 3.5, 4.5, RATE), samples[round(3.5 * RATE) : round(4.5 * RATE)])


def test_a_file_whose_clock_does_not_begin_at_zero_is_whole(tmp_path: Path) -> None:
    stamps = (3.7 + np.arange(0, 4, 0.04)).tolist()
    path = write_timed(tmp_path / "a.mkv", [(3.7, burst(2.0, 4.0))], stamps, bright=range(50, 100))
    samples = read_audio(path, None, None, RATE)
    assert len(samples) / RATE == pytest.approx(4.0, abs=0.05)
    assert heard_at(samples) == pytest.approx(2.0, abs=0.002)
    frames, seconds = read_frames(path, None, None, 500)
    assert len(frames) == 100
    assert seconds[int((frames.mean(axis=(1, 2, 3)) > 128).argmax())] == pytest.approx(2.0, abs=0.002)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EncodingError, match=r"s of 4\.0 s of audio could be decoded; the file is truncated"):
        read_audio(path, None, None, RATE)


def test_a_clock_set_anew_goes_on(tmp_path: Path) -> None:
    for number, frequency in enumerate((220, 440)):
        write_timed(tmp_path / f"{number}.ts", [(0.0, tone(frequency, 3.0))], codec="aac")
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    samples = read_audio(joined, None, None, RATE)
    assert len(samples) == pytest.approx(6 * RATE, abs=RATE // 5)
    spectrum = np.abs(np.fft.rfft(samples[4 * RATE : 5 * RATE]))
    assert spectrum.argmax() == pytest.approx(440, abs=2)


def test_packets_are_believed_where_the_stated_duration_is_a_guess(tmp_path: Path) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(8 * 48_000)).astype(np.float32)
    for number, (seconds, bit_rate) in enumerate(((2, 256_000), (8, 32_000))):
        with av.open(
            str(tmp_path / f"{number}.mp3"), "w", options={"write_xing": "0", "id3v2_version": "0"}
        ) as container:
            stream = container.add_stream("libmp3lame", rate=48_000, layout="mono")
            stream.bit_rate = bit_rate
            block = av.AudioFrame.from_ndarray(noise[None, : seconds * 48_000], "fltp", "mono")
            block.sample_rate, block.pts = 48_000, 0
            for packet in [*stream.encode(block), *stream.encode(None)]:
                container.mux(packet)
    joined = tmp_path / "joined.mp3"
    joined.write_bytes((tmp_path / "0.mp3").read_bytes() + (tmp_path / "1.mp3").read_bytes())
    with av.open(str(joined)) as container:
        assert container.duration is not None
        assert container.duration / 1e6 < 5, "the guess is no longer wrong: choose another file"
    assert len(read_audio(joined, None, None, RATE)) / RATE == pytest.approx(10.0, abs=0.15)
    assert len(read_audio(joined, 5.0, 8.0, RATE)) == 3 * RATE


@pytest.mark.parametrize(("first", "last", "seconds"), [(1.0, 4.0, 3.0), (2.0, 2.3, 0.3)])
def test_packets_that_cannot_be_decoded_are_an_error_or_a_note(
    tmp_path: Path, first: float, last: float, seconds: float
) -> None:
    path = write_media(tmp_path / "a.mp4", samples=tone(220, 6.0), audio_codec="aac")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(audio=0):
            if packet.size and packet.pts is not None and first <= float(packet.pts * packet.time_base) < last:
                assert packet.pos is not None
                content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    if seconds > 0.1 * 6.0:
        with pytest.raises(EncodingError, match=rf"a\.mp4: {seconds:.1f} s of 6\.0 s of audio are damaged"):
            read_audio(path, None, None, RATE)
        assert len(read_audio(path, 4.5, 6.0, RATE)) == 1.5 * RATE  # what is asked for is whole
    else:
        notes: list[str] = []
        samples = read_audio(path, None, None, RATE, notes)
        assert len(notes) == 2
        assert float(notes[1].split()[0]) == pytest.approx(seconds, abs=0.1)
        assert notes[1].endswith("s of the sound are damaged and silent")
        assert is_silent(samples[round(2.15 * RATE) : round(2.2 * RATE)])
        expected = tone(220, 6.0)[3 * RATE : 5 * RATE]
        np.testing.assert_allclose(samples[3 * RATE : 5 * RATE], expected, atol=0.02)


VOICE = (tone(220, 1.0, amplitude=0.4) + tone(330, 1.0, amplitude=0.2)).astype(np.float32)
HISS = (0.002 * np.random.default_rng(1).standard_normal(RATE)).astype(np.float32)
MUSIC = np.stack([tone(frequency, 1.0, amplitude=0.15) for frequency in (520, 610, 90, 700, 810)])
SURROUND = ("FL", "FR", "FC", "LFE", "BL", "BR")
CHANNELS: Mapping[str, tuple[list[Samples], tuple[str, ...]]] = {
    "mono": ([VOICE], ("FC",)),
    "the same twice": ([VOICE, VOICE], ("FL", "FR")),
    "opposite": ([VOICE, -VOICE], ("FL", "FR")),
    "nearly opposite": ([VOICE, -0.8 * VOICE + HISS], ("FL", "FR")),
    "left dead": ([0 * VOICE, VOICE], ("FL", "FR")),
    "right hisses": ([VOICE, HISS], ("FL", "FR")),
    "one of four": ([HISS, HISS, VOICE, HISS], ()),
    "eight, two of them opposite": ([VOICE, -VOICE, *[0 * VOICE] * 6], ()),
    "centre of 5.1": ([0 * VOICE, 0 * VOICE, VOICE, 0 * VOICE, HISS, HISS], SURROUND),
    "centre of 5.1 over music": ([MUSIC[0], MUSIC[1], VOICE, MUSIC[2], MUSIC[3], MUSIC[4]], SURROUND),
    "front of 5.1": ([VOICE, VOICE, 0 * VOICE, 0 * VOICE, 0 * VOICE, 0 * VOICE], SURROUND),
    "back of 5.1": ([0 * VOICE, 0 * VOICE, 0 * VOICE, 0 * VOICE, VOICE, -VOICE], SURROUND),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_no_voice_is_cancelled_or_buried(name: str) -> None:
    channels, names = CHANNELS[name]
    mono, note = to_mono(np.stack(channels), names)
    share = float(mono @ VOICE / (VOICE @ VOICE))  # how much of the voice is in it
    assert 20 * np.log10(abs(share)) == pytest.approx(0.0, abs=3.0), (share, note)
    assert abs(decibels(mono, VOICE)) < 3.0
    assert (note is None) == (name in {"mono", "the same twice", "centre of 5.1 over music"}), note


def test_equal_channels_are_their_mean_to_the_last_bit() -> None:
    mono, _ = to_mono(np.stack([VOICE, VOICE, VOICE, VOICE]))
    np.testing.assert_array_equal(mono, VOICE)


def test_two_speakers_on_a_microphone_each_are_both_heard() -> None:
    one, other = VOICE.copy(), np.roll(VOICE, 100)
    one[RATE // 2 :], other[: RATE // 2] = 0, 0
    mono, note = to_mono(np.stack([one, other]))
    assert note is None
    for voice in (one, other):
        assert float(mono @ voice / (voice @ voice)) == pytest.approx(0.5**0.5, abs=0.02)


@settings(max_examples=50)
@given(st.integers(1, 10), st.integers(0, 10_000), st.booleans())
def test_whatever_the_channels_the_mix_is_as_loud_as_the_loudest(number: int, seed: int, has_centre: bool) -> None:
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((3, 500))
    gains = rng.choice([0, 1, -1, 0.03, 0.5], (number, 3)) * rng.uniform(0.1, 1.0, (number, 3))
    channels = (gains @ sources).astype(np.float32)
    names = [f"c{place}" for place in range(number)]
    if has_centre and number > 2:
        names[2] = "FC"
    mono, _ = to_mono(channels, names)
    loudest = float(np.square(channels).mean(axis=1).max())
    assert float(np.square(mono).mean()) == pytest.approx(loudest, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("number", [8, 9, 16])
def test_files_of_many_channels_are_read(tmp_path: Path, number: int) -> None:
    channels = np.stack([(place + 1) / 20 * tone(200 + 40 * place, 0.5) for place in range(number)])
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(number)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(32768 * channels).astype("<i2").T.tobytes())
    read = read_audio(tmp_path / "a.wav", None, None, RATE)
    np.testing.assert_allclose(read, to_mono(channels.astype(np.float32))[0], atol=2e-4)


def test_where_channels_come_and_go_most_of_the_time_counts(tmp_path: Path) -> None:
    voice = tone(440, 3.0)
    for number, (layout, channels) in enumerate(
        (("mono", voice[None]), ("stereo", np.stack([voice, -voice])[:, :RATE]))
    ):
        with av.open(str(tmp_path / f"{number}.ts"), "w") as container:
            stream = container.add_stream("aac", rate=RATE, layout=layout, bit_rate=128_000)
            for first in range(0, channels.shape[1], 1024):
                piece = np.ascontiguousarray(channels[:, first : first + 1024])
                block = av.AudioFrame.from_ndarray(piece, "fltp", layout)
                block.sample_rate, block.pts, block.time_base = RATE, first, Fraction(1, RATE)
                container.mux(stream.encode(block))
            container.mux(stream.encode(None))
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join((tmp_path / f"{number}.ts").read_bytes() for number in range(2)))
    samples = read_audio(path, None, None, RATE)
    assert len(samples) / RATE == pytest.approx(4.0, abs=0.2)
    for first in (1.0, 3.4):  # the opposite channels of the last second do not cancel
        assert decibels(samples[round(first * RATE) :][: RATE // 3], voice[: RATE // 3]) == pytest.approx(0, abs=0.5)


def test_a_file_of_opposite_channels_says_what_was_done(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", samples=np.stack([tone(220, 2.0), -tone(220, 2.0)]))
    clip = ClipMedia(media=path)
    np.testing.assert_allclose(clip.waveform(RATE), tone(220, 2.0), atol=1e-3)
    assert clip.take_note("egemaps") == f"{path}: channel 1 of 2 alone, since their mean would cancel sound"
    assert clip.take_note("egemaps") is None
    clip.waveform(RATE)
    assert clip.take_note("another") is not None  # whoever hears the same sound is told the same


def write_tracks(path: Path, tracks: Sequence[Samples]) -> Path:
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in tracks]
        for stream, samples in zip(streams, tracks, strict=True):
            block = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            block.sample_rate, block.pts = RATE, 0
            for packet in [*stream.encode(block), *stream.encode(None)]:
                container.mux(packet)
    return path


def test_where_the_default_stream_is_silent_the_first_that_is_not_is_taken_and_named(tmp_path: Path) -> None:
    silence, voice = np.zeros(2 * RATE, np.float32), tone(220, 2.0)
    notes: list[str] = []
    path = write_tracks(tmp_path / "a.mkv", [silence, silence, voice])
    np.testing.assert_allclose(read_audio(path, 0.5, 1.0, RATE, notes), voice[RATE // 2 : RATE], atol=1e-3)
    assert notes == ["sound stream 3 of 3, since the default one is silent"]
    notes.clear()
    path = write_tracks(tmp_path / "b.mkv", [voice, 0.5 * tone(500, 2.0)])
    np.testing.assert_allclose(read_audio(path, None, None, RATE, notes), voice, atol=1e-3)
    assert not notes
    assert is_silent(read_audio(write_tracks(tmp_path / "c.mkv", [silence, silence]), None, None, RATE))


def flash_tag(codec: int) -> bytes:
    """Sound of a codec as a part of an FLV file: type, size, time, stream, content, size of all that."""
    content = bytes([codec << 4 | 3]) + bytes(40)
    tag = bytes([8]) + len(content).to_bytes(3, "big") + bytes(7) + content
    return tag + len(tag).to_bytes(4, "big")


def test_sound_that_nothing_decodes_is_no_choice(tmp_path: Path) -> None:
    voice, notes = tone(220, 2.0), list[str]()
    path = write_timed(tmp_path / "a.flv", [(0.0, voice)], codec="aac")
    whole = read_audio(path, None, None, RATE)
    content = path.read_bytes()
    path.write_bytes(content + flash_tag(15))
    np.testing.assert_array_equal(read_audio(path, None, None, RATE, notes), whole)
    assert not notes
    path.write_bytes(content[:13] + 50 * flash_tag(15))
    with pytest.raises(EncodingError, match=r"a\.flv: no decoder for its audio stream"):
        read_audio(path, None, None, RATE)


def test_silence_is_what_nothing_reaches_60_decibels_below_full_scale() -> None:
    assert is_silent(np.array([0.0, -0.99 * SILENCE], np.float32))
    assert not is_silent(np.array([0.0, -1.01 * SILENCE], np.float32))
    assert is_silent(np.zeros(0, np.float32))


def write_floats(path: Path, samples: Samples) -> Path:
    content = samples.astype("<f4").tobytes()
    form = struct.pack("<IHHIIHH", 16, 3, 1, RATE, 4 * RATE, 4, 32)
    path.write_bytes(
        b"RIFF" + struct.pack("<I", 36 + len(content)) + b"WAVEfmt " + form
        + b"data" + struct.pack("<I", len(content)) + content
    )  # fmt: skip
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30])
def test_floats_that_are_no_samples_are_damaged_and_silent(tmp_path: Path, value: float) -> None:
    voice, notes = tone(220, 2.0), list[str]()
    samples = voice.copy()
    samples[8000:9600] = value
    found = read_audio(write_floats(tmp_path / "a.wav", samples), None, None, RATE, notes)
    np.testing.assert_allclose(np.delete(found, slice(8000, 9600)), np.delete(voice, slice(8000, 9600)), atol=1e-6)
    assert not found[8000:9600].any()
    assert notes == ["0.10 s of the sound are damaged and silent"]
    with pytest.raises(EncodingError, match=r"b\.wav: 2\.0 s of 2\.0 s of audio are damaged"):
        read_audio(write_floats(tmp_path / "b.wav", np.full(2 * RATE, value, np.float32)), None, None, RATE)


def test_sixteen_bits_as_floats_are_refused_and_loud_ones_are_not(tmp_path: Path) -> None:
    voice = tone(220, 2.0)
    with pytest.raises(EncodingError, match=r"audio are damaged, with values up to \d{4,5} where full scale is 1"):
        read_audio(write_floats(tmp_path / "a.wav", 32768 * voice), None, None, RATE)
    loud = 3 * voice / np.abs(voice).max()
    np.testing.assert_allclose(read_audio(write_floats(tmp_path / "b.wav", loud), None, None, RATE), loud, atol=1e-5)


def test_a_constant_level_is_silent() -> None:
    assert is_silent(np.full(100, 0.3, np.float32))
    assert not is_silent(np.array([0.3, 0.3 + 1.01 * SILENCE], np.float32))


def test_frames_that_change_size_are_brought_to_one_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for width, height, first in ((64, 48, 0), (48, 64, 25), (32, 24, 50)):
            encoder = av.CodecContext.create("libvpx", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base = Fraction(1, 25)
            frames = [np.full((height, width, 3), 200, np.uint8)] * 25
            packets = []
            for number, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = first + number, Fraction(1, 25)
                packets += encoder.encode(frame)
            for packet in [*packets, *encoder.encode(None)]:
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                container.mux(packet)
    clip = ClipMedia(media=path)
    frames, seconds = clip.frames(6)
    assert frames.shape == (6, 48, 64, 3)
    assert np.diff(seconds) == pytest.approx(0.5, abs=0.05)
    assert frames[0].min() > 180
    assert frames[5].min() > 180  # the same shape, scaled up to the whole
    turned = frames[2].mean(axis=2)  # 48 x 64 is scaled to 36 x 48, in the middle
    assert turned[:, 14:50].min() > 180
    assert turned[:, :13].max() < 20 > turned[:, 51:].max()
    assert (
        clip.take_note("face-mesh")
        == f"{path}: its frames change size: all are brought to the largest, with black edges"
    )


def test_a_clip_as_short_as_a_frame_is_read(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", [grey(0)] * 3, tone(220, 0.12))
    assert len(read_audio(path, None, None, RATE)) == pytest.approx(0.12 * RATE, abs=20)
