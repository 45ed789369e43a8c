from __future__ import annotations

from pathlib import Path

import numpy as np
import opensmile
import pytest

from encoders.errors import EncodingError, MissingModality
from encoders.media.clip import ClipMedia
from encoders.models import egemaps
from encoders.models.egemaps import EGeMAPS
from tests.support.media_files import grey, tone, write_media


@pytest.fixture(scope="module")
def encoder() -> EGeMAPS:
    encoder = EGeMAPS("audio")
    encoder.load()
    return encoder


def voice(frequency: float, seconds: float, amplitude: float = 0.3) -> np.ndarray:
    """Harmonics that fall by 1 / k, which a pitch tracker takes for a voice."""
    total = sum(tone(k * frequency, seconds, amplitude=1.0) / k for k in range(1, 15))
    return (amplitude * total / np.abs(total).max()).astype(np.float32)


def test_width_is_what_the_library_says(encoder: EGeMAPS) -> None:
    assert encoder.width == len(encoder.feature_names) == 25
    assert encoder.feature_names[0] == "Loudness_sma3"


def test_equals_opensmile_on_the_same_samples(encoder: EGeMAPS, tmp_path: Path) -> None:
    samples = voice(140, 2.0) * np.linspace(0.2, 1.0, 32_000, dtype=np.float32)
    path = write_media(tmp_path / "a.wav", samples=samples)
    (rows,) = encoder.encode([ClipMedia(media=path, start=0.5, end=1.5)])
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    expected = smile.process_file(str(path), start=0.5, end=1.5)
    assert isinstance(rows, np.ndarray)
    assert rows.dtype == np.float32
    assert rows.shape == expected.shape
    np.testing.assert_allclose(rows, expected.to_numpy(), rtol=2e-3, atol=2e-3)


def test_leaving_out_what_functionals_need_changes_no_bit(encoder: EGeMAPS) -> None:
    samples = (32_000 * voice(140, 1.0) * np.linspace(0.2, 1.0, 16_000)).astype(np.int16)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    assert encoder.feature_names == tuple(smile.feature_names)
    expected = smile.process_signal(samples.astype(np.float32) / 32_768, 16_000)
    np.testing.assert_array_equal(egemaps._measure(samples), expected.to_numpy())


def test_a_configuration_of_another_layout_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("[lldconcat:cVectorConcat]\nreader.dmLevel = b\nwriter.dmLevel = lld\n")
    with pytest.raises(ValueError, match=r"a\.conf: nothing writes the level 'b'"):
        egemaps._descriptors_only(tmp_path / "a.conf")


@pytest.mark.parametrize("frequency", [110.0, 220.0])
def test_pitch_of_a_known_tone(encoder: EGeMAPS, tmp_path: Path, frequency: float) -> None:
    (rows,) = encoder.encode([ClipMedia(media=write_media(tmp_path / "a.wav", samples=voice(frequency, 1.0)))])
    assert isinstance(rows, np.ndarray)
    pitch = rows[20:-20, encoder.feature_names.index("F0semitoneFrom27.5Hz_sma3nz")]
    assert np.median(pitch) == pytest.approx(12 * np.log2(frequency / 27.5), abs=0.2)  # 24 and 36 semitones
    assert len(rows) == pytest.approx(100, abs=5)  # a row every 10 ms


def test_loudness_is_kept(encoder: EGeMAPS, tmp_path: Path) -> None:
    clips = [
        ClipMedia(media=write_media(tmp_path / f"{amplitude}.wav", samples=voice(140, 1.0, amplitude)))
        for amplitude in (0.05, 0.5)
    ]
    soft, loud = (np.asarray(rows)[:, 0].mean() for rows in encoder.encode(clips))
    assert loud > 2 * soft


def test_samples_beyond_full_scale_are_clipped_and_do_not_wrap_around(encoder: EGeMAPS) -> None:
    sound = voice(140, 1.0, 0.9)
    loud, clipped, fits = (ClipMedia() for _ in range(3))
    for clip, samples in ((loud, 3.3 * sound), (clipped, np.clip(3.3 * sound, -1, 1 - 2**-15)), (fits, sound)):
        clip.cached(("waveform", 16_000), lambda samples=samples: samples.astype(np.float32))
    rows = [np.asarray(result) for result in encoder.encode([loud, clipped, fits])]
    np.testing.assert_array_equal(rows[0], rows[1])
    pitch = list(encoder.feature_names).index("F0semitoneFrom27.5Hz_sma3nz")
    voiced = [(result[:, pitch] > 0).mean() for result in rows]
    assert voiced[0] > 0.9 * voiced[2]  # wrapped around, half of the frames would lose their pitch


def test_failures_say_why(encoder: EGeMAPS, tmp_path: Path) -> None:
    clips = [
        ClipMedia(media=write_media(tmp_path / "short.wav", samples=voice(140, 0.03))),
        ClipMedia(media=write_media(tmp_path / "silent.wav", samples=np.zeros(16_000, np.float32))),
        ClipMedia(media=write_media(tmp_path / "mute.mp4", [grey(0)] * 5)),
        ClipMedia(text="no media"),
        ClipMedia(media=write_media(tmp_path / "good.wav", samples=voice(140, 0.5))),
    ]
    short, silent, mute, absent, good = encoder.encode(clips)
    assert isinstance(short, EncodingError)
    assert str(short).endswith("short.wav: 30 ms of audio, too short for eGeMAPS (at least 60 ms)")
    assert "silent.wav: audio is silent" in str(silent)
    assert "mute.mp4: no audio stream" in str(mute)
    assert isinstance(absent, MissingModality)
    assert isinstance(good, np.ndarray)


def test_sixty_milliseconds_are_enough(encoder: EGeMAPS, tmp_path: Path) -> None:
    (rows,) = encoder.encode([ClipMedia(media=write_media(tmp_path / "a.wav", samples=voice(140, 0.06)))])
    assert isinstance(rows, np.ndarray)
    assert np.isfinite(rows).all()
