"""Random recordings as people have them: containers, codecs, rates, channels, gaps, delays, damage."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CONTAINERS = {
    "mp4": (("libx264", "mpeg4"), ("aac", "libmp3lame")),
    "mov": (("libx264", "mjpeg"), ("aac", "pcm_s16le")),
    "mkv": (("libx264", "libvpx", "mpeg4"), ("aac", "flac", "pcm_s16le", "libopus", "ac3")),
    "webm": (("libvpx",), ("libopus",)),
    "avi": (("mpeg4", "mjpeg"), ("libmp3lame", "pcm_s16le")),
    "ts": (("libx264", "mpeg2video"), ("aac", "libmp3lame", "ac3")),
    "flv": (("flv1", "libx264"), ("aac", "libmp3lame")),
    "wav": ((), ("pcm_s16le", "pcm_f32le", "pcm_u8")),
    "mp3": ((), ("libmp3lame",)),
    "flac": ((), ("flac",)),
    "ogg": ((), ("libopus", "flac")),
    "m4a": ((), ("aac",)),
}
"""By suffix, codecs of pictures and of sound."""
RATES = {
    "libopus": (48_000,), "libmp3lame": (16_000, 44_100, 48_000), "aac": (16_000, 22_050, 44_100, 48_000),
    "ac3": (32_000, 44_100, 48_000), "flv": (44_100,),
}  # fmt: skip
"""By codec or suffix, samples per second that it takes; others take any."""
LAYOUTS = {"libmp3lame": ("mono", "stereo"), "pcm_f32le": ("mono", "5.1", "hexadecagonal")}
DAMAGES = ("none", "cut", "flipped", "emptied")


@dataclass(frozen=True)
class Spec:
    """What a recording is made of.

    Attributes:
        suffix: of the file.
        video: codec, or None.
        audio: codec, or None.
        rate: samples per second.
        layout: of the channels.
        fps: frames per second.
        seconds: of sound and pictures.
        delay: seconds by which the sound begins later than the pictures.
        gap: seconds that the sound's time stamps leave out in the middle.
        damage: one of `DAMAGES`.
    """

    suffix: str
    video: str | None
    audio: str | None
    rate: int
    layout: str
    fps: int
    seconds: float
    delay: float
    gap: float
    damage: str


def random_spec(rng: np.random.Generator) -> Spec:
    """Draw what a recording is made of."""
    suffix = str(rng.choice(list(CONTAINERS)))
    videos, audios = CONTAINERS[suffix]
    audio = str(rng.choice(audios)) if not videos or rng.random() < 0.85 else None
    video = str(rng.choice(videos)) if videos and (audio is None or rng.random() < 0.8) else None
    timed = suffix in ("mp4", "mov", "mkv", "webm", "ts") and audio is not None
    gaps = timed and (suffix, audio) != ("mov", "pcm_s16le")  # which keeps no time stamp by packet
    return Spec(
        suffix, video, audio,
        int(rng.choice(RATES.get(suffix, RATES.get(audio or "", (8_000, 16_000, 44_100, 48_000))))),
        str(rng.choice(LAYOUTS.get(audio or "", ("mono", "stereo", "5.1")))) if suffix != "flv" else "mono",
        int(rng.choice([5, 10, 15, 25, 30])), float(rng.uniform(0.6, 3.0)),
        float(rng.choice([0.0, 0.0, 0.3])) if timed and video else 0.0,
        float(rng.choice([0.0, 0.0, 0.4])) if gaps else 0.0, str(rng.choice(DAMAGES, p=[0.55, 0.15, 0.2, 0.1])),
    )  # fmt: skip


def write_recording(path: Path, spec: Spec, rng: np.random.Generator) -> None:
    """Write a recording of noise and moving stripes; packets of both streams in the order of their time."""
    with av.open(str(path), "w", format={"ts": "mpegts", "m4a": "ipod", "mkv": "matroska"}.get(spec.suffix)) as file:
        packets = []
        if spec.video is not None:
            video = file.add_stream(spec.video, rate=spec.fps)
            video.width, video.height = 64, 48
            video.pix_fmt = "yuvj420p" if spec.video == "mjpeg" else "yuv420p"
            if spec.video == "libx264":
                video.options = {"preset": "ultrafast", "bf": str(int(rng.integers(0, 3)))}
            for number in range(max(2, round(spec.seconds * spec.fps))):
                picture = np.roll(np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3), 3 * number, axis=1)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, spec.fps)
                packets += video.encode(frame)
            packets += video.encode(None)
        if spec.audio is not None:
            audio = file.add_stream(spec.audio, rate=spec.rate, layout=spec.layout)
            channels = len(av.AudioLayout(spec.layout).channels)
            length = round(spec.seconds * spec.rate)
            noise = (0.2 * rng.standard_normal((channels, length))).astype(np.float32)
            for first in range(0, length, 1024):
                packed = noise[:, first : first + 1024].T.reshape(1, -1)
                block = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), "flt", spec.layout)
                block.sample_rate, block.time_base = spec.rate, Fraction(1, spec.rate)
                later = spec.delay + (spec.gap if first >= length / 2 else 0.0)
                block.pts = first + round(later * spec.rate)
                packets += audio.encode(block)
            packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            file.mux(packet)
    damage(path, spec.damage, rng)


def damage(path: Path, kind: str, rng: np.random.Generator) -> None:
    """Cut a file off, flip bytes of it, or empty a stretch."""
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    if kind == "cut":
        content = content[: int(rng.uniform(0.05, 1.0) * len(content))]
    elif kind == "flipped":
        places = rng.integers(0, len(content), int(rng.integers(1, 60)))
        content[places] = rng.integers(0, 256, len(places))
    elif kind == "emptied":
        first = int(rng.uniform(0, 0.9) * len(content))
        content[first : first + int(0.1 * len(content))] = 0
    path.write_bytes(content.tobytes())


def decode_plainly(path: Path) -> tuple[int, float]:
    """Frames shown at different times, and seconds of samples, as the decoder gives them from beginning to end."""
    stamps, seconds = set(), 0.0
    with av.open(str(path)) as file:
        for frame in file.decode():
            if isinstance(frame, av.VideoFrame):
                stamps.add(frame.pts)
            else:
                seconds += frame.samples / frame.sample_rate
    return len(stamps), seconds
