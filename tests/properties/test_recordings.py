"""Recordings of every kind: read as the decoder gives them, on one clock, or refused with a reason."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from encoders.errors import EncodingError
from encoders.media import audio
from encoders.media.audio import read_audio
from encoders.media.frames import read_frames
from tests.support.recordings import Spec, decode_plainly, random_spec, write_recording

pytestmark = pytest.mark.slow
FIRST, NUM_RECORDINGS = int(os.environ.get("FIRST_RECORDING", "0")), int(os.environ.get("NUM_RECORDINGS", "125"))
"""Seeds of the recordings: others than the usual ones are tried by `NUM_RECORDINGS=5000 FIRST_RECORDING=125`."""
CHUNK = 25


def check_span_alone(path: Path, whole: NDArray[np.float32], rate: int, first: float = 1.2) -> None:
    """The end of a recording, read as that of a file too long to be read whole, is loud and silent where the whole is.

    Lossy decoders give other samples after a jump, and time stamps of milliseconds move them by a few.
    """
    with mock.patch.object(audio, "_MOST_SAMPLES", 0):
        alone = read_audio(path, first, None, rate)
    whole, block = whole[round(first * rate) :], rate // 50
    assert len(alone) / rate == pytest.approx(len(whole) / rate, abs=0.03)
    num_blocks = min(len(alone), len(whole)) // block
    loud = [
        np.square(samples[: num_blocks * block].reshape(num_blocks, block)).mean(axis=1) > 0.05**2
        for samples in (alone, whole)
    ]
    assert (loud[0] == loud[1]).mean() >= 0.9


def check_recording(path: Path, spec: Spec) -> str:
    """Read a recording as encoders do; what became of it."""
    frames: int | None = None
    seconds: float | None = None
    reasons: list[str] = []
    try:
        frames = len(read_frames(path, None, None, 5000)[0])
    except EncodingError as reason:
        reasons.append(str(reason))
    try:
        samples = read_audio(path, None, None, spec.rate)
        seconds = len(samples) / spec.rate
        assert np.isfinite(samples).all()
        middle = read_audio(path, 0.25, 0.5, spec.rate)
        np.testing.assert_array_equal(middle, samples[round(0.25 * spec.rate) : round(0.5 * spec.rate)])
    except EncodingError as reason:
        reasons.append(str(reason))
    assert all(str(path) in reason for reason in reasons), reasons
    if spec.damage == "none" and (seconds or 0.0) > 1.5:
        check_span_alone(path, samples, spec.rate)
    if spec.damage != "none":
        return "damaged, read" if frames or seconds else "damaged, refused"
    expected_frames, expected_seconds = decode_plainly(path)
    assert (frames or 0) == expected_frames, spec
    silent = spec.delay + spec.gap
    # the decoder gives whole packets (of up to 1536 samples); time stamps of some containers are milliseconds
    assert seconds is None if spec.audio is None else seconds is not None, spec
    assert (seconds or 0.0) == pytest.approx(expected_seconds + (silent if spec.audio else 0.0), abs=0.08), spec
    return "whole"


@pytest.mark.parametrize("seed", [2_000_665, 2_001_087], ids=["flac-in-ogg", "matroska-of-longer-sound"])
def test_recordings_that_were_refused_are_read_whole(tmp_path: Path, seed: int) -> None:
    """Of FLAC in Ogg time stamps after a jump are wrong; Matroska's pictures may end before its sound."""
    rng = np.random.default_rng(seed)
    spec = random_spec(rng)
    path = tmp_path / f"{seed}.{spec.suffix}"
    write_recording(path, spec, rng)
    assert check_recording(path, spec) == "whole"


@pytest.mark.parametrize("first", range(FIRST, FIRST + NUM_RECORDINGS, CHUNK))
def test_a_recording_is_read_whole_or_refused_with_a_reason(tmp_path: Path, first: int) -> None:
    for seed in range(first, min(first + CHUNK, FIRST + NUM_RECORDINGS)):
        rng = np.random.default_rng(seed)
        spec = random_spec(rng)
        path = tmp_path / f"{seed}.{spec.suffix}"
        write_recording(path, spec, rng)
        check_recording(path, spec)
        path.unlink()
