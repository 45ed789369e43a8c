"""Media files opened with PyAV: streams, durations and spans, and the samples of a span (`frames` has the pictures).

Seconds are counted from the beginning of the file (the container's own start time is subtracted), as in the clip
table. Every failure is an `EncodingError` whose message names the file, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncodingError

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = [
    "SLACK",
    "decode",
    "decoded",
    "duration_of",
    "opened",
    "origin_of",
    "packets_of",
    "read_audio",
    "span_of",
    "stream_of",
]

SLACK = 0.5
"""Seconds that a stream may end before the duration its container states."""
_MICROSECONDS = 1_000_000  # the unit of a container's own times, as fractions of a second
_ESTIMATED = frozenset({"mp3", "aac"})  # formats whose stated duration is a guess from the bit rate


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file and close it afterwards; an `EncodingError` says why it cannot be opened."""
    if not path.exists():
        raise EncodingError(f"{path}: file does not exist")
    if path.is_dir():
        raise EncodingError(f"{path}: is a folder, expected a media file")
    size = path.stat().st_size
    if size == 0:
        raise EncodingError(f"{path}: file is empty (0 bytes)")
    import av

    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        reason = "truncated: moov atom not found" if _lacks_moov(path) else str(error.strerror or error)
        raise EncodingError(f"{path}: cannot be opened as media ({reason}; {size} bytes)") from None
    try:
        yield container
    finally:
        container.close()


def _lacks_moov(path: Path) -> bool:
    """Whether a file starts as MP4 but holds no `moov` box, the table without which nothing can be decoded."""
    size, names = path.stat().st_size, []
    with path.open("rb") as stream:
        position = 0
        while position + 8 <= size:
            stream.seek(position)
            header = stream.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            names.append(header[4:8])
            if length < 8:
                break
            position += length
    return b"ftyp" in names and b"moov" not in names


def origin_of(container: InputContainer) -> float:
    """The container's own start time in seconds, which counts as 0 everywhere else."""
    return 0.0 if container.start_time is None else container.start_time / _MICROSECONDS


def duration_of(container: InputContainer, stream: Any, path: Path) -> float:
    """Seconds from the file's beginning to the stream's end, as the container states it, or measured."""
    if stream.duration is not None:
        begins = (
            0.0 if stream.start_time is None else float(stream.start_time * stream.time_base) - origin_of(container)
        )
        return float(stream.duration * stream.time_base) + begins
    stated = stream.metadata.get("DURATION")  # Matroska: 00:00:03.200000000
    if stated is not None:
        try:
            hours, minutes, seconds = stated.split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        except ValueError:
            pass
    return _measured_duration(path, stream.index) if container.duration is None else container.duration / _MICROSECONDS


def _measured_duration(path: Path, index: int) -> float:
    """Duration of a stream whose container states none (live recordings): the end of its last packet."""
    with opened(path) as container:
        last = 0.0
        for packet in container.demux(container.streams[index]):
            if packet.pts is not None:
                last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        return last - origin_of(container)


def span_of(
    path: Path, start: float | None, end: float | None, duration: float, kind: Literal["video", "audio"]
) -> tuple[float, float]:
    """The part of the clip that the stream covers: a later end is cut, as long as half of the clip is left."""
    first = 0.0 if start is None else start
    if end is not None and end <= first:
        raise EncodingError(f"{path}: the clip's span is empty (starts at {first:g} s, ends at {end:g} s)")
    if first >= duration:
        raise EncodingError(
            f"{path}: span outside the file (its {kind} lasts {duration:.1f} s, the clip starts at {first:g} s)"
        )
    last = duration if end is None else min(end, duration)
    if end is not None and last - first < 0.5 * (end - first):
        raise EncodingError(
            f"{path}: most of the span lies outside the file (its {kind} lasts {duration:.1f} s, "
            f"the clip runs from {first:g} s to {end:g} s)"
        )
    return first, last


def stream_of(container: InputContainer, path: Path, kind: Literal["video", "audio"]) -> Any:
    """The file's first stream of a kind, ready to be decoded by one thread; cover pictures are no video."""
    streams = [stream for stream in getattr(container.streams, kind) if not _is_cover(stream)]
    if not streams:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream at all"
        raise EncodingError(f"{path}: no {kind} stream (found: {found})")
    stream = streams[0]
    if stream.codec_context is None:
        raise EncodingError(f"{path}: no decoder for its {kind} stream")
    stream.codec_context.thread_count = 1  # workers are processes
    return stream


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def packets_of(container: InputContainer, stream: Any) -> Iterator[Any]:
    """Packets from the current position to the end, an empty one last; reading errors end it."""
    from av.error import FFmpegError

    try:
        yield from container.demux(stream)
    except FFmpegError:
        return


def decoded(packet: Any) -> list[Any]:
    """Frames that a decoder gives on a packet; none where it is damaged."""
    from av.error import FFmpegError

    try:
        return list(packet.decode())
    except FFmpegError:
        return []


def decode(container: InputContainer, stream: Any) -> Iterator[Any]:
    """Decoded frames from the current position to the end; damaged packets are skipped, reading errors end it."""
    for packet in packets_of(container, stream):
        yield from decoded(packet)


def read_audio(path: Path, start: float | None, end: float | None, rate: int) -> NDArray[np.float32]:
    """Read the samples of a span: the mean of all channels, resampled, as loud as they are in the file.

    Args:
        path: media file.
        start: seconds; None is the beginning of the file.
        end: seconds; None is the end of the audio stream, and a later end is cut to it.
        rate: samples per second of the result.

    Returns:
        Samples `[N]`; full scale of the file's format is 1.

    Raises:
        EncodingError: the file is missing, empty, cannot be opened or has no audio; the span lies outside it; or its
            samples end before the span does (truncated or damaged).
    """
    return _read_audio(path, start, end, rate, may_jump=True)


def _read_audio(path: Path, start: float | None, end: float | None, rate: int, may_jump: bool) -> NDArray[np.float32]:
    from av import AudioResampler

    with opened(path) as container:
        stream = stream_of(container, path, "audio")
        first, last = span_of(path, start, end, duration_of(container, stream, path), "audio")
        origin = origin_of(container)
        jumps = may_jump and first > 1.0
        if jumps:  # half a second of run-up lets the decoder settle
            container.seek(int((first - 0.5 + origin) / stream.time_base), stream=stream)
        resampler = AudioResampler(format="fltp", rate=rate)
        chunks: list[NDArray[np.float32]] = []
        begins: float | None = None
        for frame in decode(container, stream):
            time = float((frame.pts or 0) * frame.time_base) - origin
            if time + frame.samples / frame.sample_rate <= first:
                continue
            if time >= last:
                break
            begins = time if begins is None else begins
            chunks.extend(piece.to_ndarray().mean(axis=0) for piece in resampler.resample(frame))
        if begins is None:
            raise EncodingError(
                f"{path}: no audio could be decoded from {first:g} s to {last:g} s; the file is damaged"
            )
        chunks.extend(piece.to_ndarray().mean(axis=0) for piece in resampler.resample(None))
        estimated = container.format.name in _ESTIMATED
    skipped = max(0, round((first - begins) * rate))
    kept = round((last - max(first, begins)) * rate)
    samples = np.concatenate(chunks)[skipped : skipped + kept].astype(np.float32)
    if not estimated and len(samples) < kept - max(SLACK, 0.1 * (last - first)) * rate:
        raise EncodingError(
            f"{path}: only {len(samples) / rate:.1f} s of {kept / rate:.1f} s of audio could be decoded; "
            "the file is truncated or damaged"
        )
    return samples
