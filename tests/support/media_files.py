"""Small media files for tests, written with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

LEVELS = 60
"""Grey levels that frame numbers are written with; they repeat after this many frames."""


def grey(number: int, size: int = 32) -> NDArray[np.uint8]:
    """A frame whose grey level tells its number, 4 levels apart so that lossy coding cannot blur it."""
    return np.full((size, size, 3), 8 + 4 * (number % LEVELS), dtype=np.uint8)


def number_of(frame: NDArray[np.uint8]) -> int:
    """The number of a `grey` frame, modulo `LEVELS`."""
    return round((float(frame.mean()) - 8) / 4)


def write_media(
    path: Path,
    frames: Sequence[NDArray[np.uint8]] | None = None,
    samples: NDArray[np.float32] | None = None,
    *,
    fps: int = 25,
    key_frame_every: int = 25,
    b_frames: int = 2,
    rate: int = 16_000,
    codec: str = "libx264",
    audio_codec: str = "pcm_s16le",
    options: dict[str, str] | None = None,
    rotation: int = 0,
) -> Path:
    """Write RGB frames `[H, W, 3]` and samples `[N]` or `[channels, N]` to a file (`.mkv` takes exact PCM audio)."""
    with av.open(str(path), "w", options=options or {}) as container:
        video = audio = None
        if frames is not None:
            video = container.add_stream(codec, rate=fps)
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuv420p"
            video.gop_size = key_frame_every
            video.bit_rate = 4_000_000
            if codec == "libx264":
                video.options = {
                    "preset": "ultrafast", "qp": "10", "bf": str(b_frames), "sc_threshold": "0",
                    "keyint_min": str(key_frame_every),
                }  # fmt: skip
            if rotation:
                video.set_display_rotation(rotation)
        if samples is not None:
            samples = np.atleast_2d(samples)
            layout = {1: "mono", 2: "stereo"}[len(samples)]
            audio = container.add_stream(audio_codec, rate=rate, layout=layout)
        if video is not None and frames is not None:
            for number, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = number
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None and samples is not None:
            for first in range(0, samples.shape[1], 1024):
                block = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(samples[:, first : first + 1024], dtype=np.float32), "fltp", layout
                )
                block.sample_rate, block.pts = rate, first
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def tone(frequency: float, seconds: float, rate: int = 16_000, amplitude: float = 0.5) -> NDArray[np.float32]:
    """A sine."""
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)
