"""Media files opened with PyAV: streams, durations and spans (`audio` reads the sound, `frames` the pictures).

Seconds are counted from the beginning of the file (the container's own start time is subtracted), as in the clip
table. Every failure is an `EncodingError` whose message names the file, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from encoders.errors import EncodingError, NothingThere

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = [
    "ESTIMATED_DURATION",
    "SLACK",
    "decoded",
    "duration_of",
    "knows_its_places",
    "length_of",
    "opened",
    "origin_of",
    "packets_of",
    "seconds_of",
    "span_of",
    "stream_of",
    "streams_of",
    "version_of",
]

SLACK = 0.5
"""Seconds that a stream may end before the duration its container states."""
ESTIMATED_DURATION = frozenset({"aac", "ac3", "dts", "eac3", "loas", "mp3"})
"""Formats whose stated duration is a guess from the bit rate at their beginning."""
_TIMED = ("video", "audio")
_PLAIN = ("wav", "w64")
"""Formats without packets: after a jump, time stamps of blocks of compressed samples (ADPCM) are a guess."""
_MICROSECONDS = 1_000_000  # the unit of a container's own times, as fractions of a second


class _Numbers:
    """Numbers by what they belong to, the newest 64."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], float] = {}
        self._lock = Lock()

    def get(self, key: tuple[object, ...], compute: Callable[[], float]) -> float:
        """Return a number, computed where it is not known."""
        number = self._numbers.get(key)
        if number is None:
            number = compute()
            with self._lock:
                self._numbers[key] = number
                if len(self._numbers) > 64:
                    del self._numbers[next(iter(self._numbers))]
        return number


_ends, _lengths = _Numbers(), _Numbers()


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
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        reason = "truncated: moov atom not found" if _lacks_moov(path) else str(error.strerror or error)
        raise EncodingError(f"{path}: cannot be opened as media ({reason}; {size} bytes)") from None
    try:
        _lengths.get((path, version_of(path)), lambda: (container.duration or 0) / _MICROSECONDS)
        yield container
    finally:
        container.close()


def length_of(path: Path) -> float:
    """Seconds that a file lasts as its container states, 0 where it does not; it is opened if it was not lately."""

    def stated() -> float:
        with opened(path) as container:
            return (container.duration or 0) / _MICROSECONDS

    return _lengths.get((path, version_of(path)), stated)


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


def seconds_of(stamp: int, time_base: Fraction) -> float:
    """Compute the seconds of a time stamp: the same as by fractions, and ten times as fast.

    Example:
        >>> seconds_of(3, Fraction(1, 30)) == float(3 * Fraction(1, 30))
        True
    """
    return stamp * time_base.numerator / time_base.denominator


def origin_of(container: InputContainer) -> float:
    """The container's own start time in seconds, which counts as 0 everywhere else."""
    return 0.0 if container.start_time is None else container.start_time / _MICROSECONDS


def duration_of(container: InputContainer, stream: Any, path: Path, is_spent: bool = False) -> float:
    """Seconds from the file's beginning to the stream's end.

    As the stream's entry states it, or later where its last packet is shown until later; its packets alone where the
    container guesses. Where a stream has no entry, the container's length counts if the file is cut off before it.

    Args:
        container: of the file.
        stream: of the container.
        path: of the file.
        is_spent: whether nothing was read of the container and nothing will be, so that its packets may be read here.
    """
    changed = version_of(path)
    measured = _last_packet(path, changed, stream.index, container if is_spent else None)
    if container.format.name in ESTIMATED_DURATION and measured:
        return measured
    stated = _stated_duration(container, stream)
    if stated is not None:
        return max(stated, measured)
    longest = _length(container)
    last = max(_last_packet(path, changed, other.index) for other in container.streams if other.type in _TIMED)
    return measured if last >= longest - SLACK else max(longest, measured)  # else the file is cut off


def knows_its_places(container: InputContainer, stream: Any) -> bool:
    """Whether time stamps after a jump are those of reading on; of FLAC in Ogg they are a guess."""
    codec = "" if stream.codec_context is None else stream.codec_context.name
    if container.format.name in _PLAIN:
        return codec.startswith("pcm_")
    return (container.format.name, codec) != ("ogg", "flac")


def version_of(path: Path) -> tuple[int, int]:
    """Tell one content of a file from another by its change time and size, for what is kept of it in memory."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _stated_duration(container: InputContainer, stream: Any) -> float | None:
    """Read the second at which a stream ends, as its own entry states it.

    Matroska states it in words; the number that stands in its place may be the length of the whole file.
    """
    if stream.duration is not None and "DURATION" not in stream.metadata:
        begins = (
            0.0 if stream.start_time is None else float(stream.start_time * stream.time_base) - origin_of(container)
        )
        return float(stream.duration * stream.time_base) + begins
    stated = stream.metadata.get("DURATION")  # Matroska: 00:00:03.200000000, from the clock's zero
    if stated is not None:
        try:
            hours, minutes, seconds = stated.split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds) - max(0.0, origin_of(container))
        except ValueError:
            pass
    return None


def _length(container: InputContainer) -> float:
    """Read the second at which the container ends, as it states it; Matroska counts from its clock's zero."""
    length = (container.duration or 0) / _MICROSECONDS
    return length - max(0.0, origin_of(container)) if "matroska" in container.format.name else length


def _last_packet(path: Path, changed: tuple[int, int], index: int, unread: InputContainer | None = None) -> float:
    """Second at which the last packet of a stream ends, kept by file; `unread` may be read in place of a new container.

    0 where packets tell nothing.
    """

    def find() -> float:
        if unread is not None:
            return _find_last_packet(unread, index)
        with opened(path) as container:
            return _find_last_packet(container, index)

    return _ends.get((path, changed, index), find)


def _find_last_packet(container: InputContainer, index: int) -> float:
    """Read the end of a file for `_last_packet`; all of it, where there is no index or places are guesses."""
    from av.error import FFmpegError

    if index >= len(container.streams):  # in some formats streams come to light as packets are read
        return 0.0
    stream: Any = container.streams[index]
    shown = 1 / float(stream.average_rate) if stream.type == "video" and stream.average_rate else 0.0
    stated = _stated_duration(container, stream) or _length(container)
    is_sure = container.format.name not in ESTIMATED_DURATION and knows_its_places(container, stream)
    seeks = [stated + origin_of(container)] if stated and is_sure else []
    for second in [*seeks, 0.0]:  # from the beginning, where nothing comes after a jump to the end
        with suppress(FFmpegError):
            container.seek(int(second / stream.time_base), stream=stream)
        ends = [
            seconds_of(packet.pts, packet.time_base) + (seconds_of(packet.duration or 0, packet.time_base) or shown)
            for packet in packets_of(container, stream)
            if packet.pts is not None
        ]
        if ends:
            return max(ends) - origin_of(container)
    return 0.0


def span_of(
    path: Path, start: float | None, end: float | None, duration: float, kind: Literal["video", "audio"]
) -> tuple[float, float]:
    """The part of the clip that the stream covers: a later end is cut, as long as half of the clip is left."""
    first = 0.0 if start is None else start
    if end is not None and end <= first:
        raise EncodingError(f"{path}: the clip's span is empty (starts at {first:g} s, ends at {end:g} s)")
    if duration <= 0:
        raise EncodingError(
            f"{path}: its {kind} lasts 0 s: it is empty, or a raw stream without time stamps, which belongs into a "
            "container such as MP4 or Matroska"
        )
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


def streams_of(container: InputContainer, path: Path, kind: Literal["video", "audio"]) -> list[Any]:
    """The file's streams of a kind, at least one; cover pictures are no video."""
    streams = [stream for stream in getattr(container.streams, kind) if not _is_cover(stream)]
    if not streams:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream at all"
        raise NothingThere(f"{path}: no {kind} stream (found: {found})")
    return streams


def stream_of(container: InputContainer, path: Path, kind: Literal["video", "audio"]) -> Any:
    """The file's stream of a kind that players take (the default, else the best, if there is a decoder for it).

    It is decoded by one thread.
    """
    streams = [stream for stream in streams_of(container, path, kind) if stream.codec_context is not None]
    if not streams:
        raise EncodingError(f"{path}: no decoder for its {kind} stream")
    best = container.streams.best(kind)
    stream = next((stream for stream in streams if best is not None and stream.index == best.index), streams[0])
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
    except (FFmpegError, IndexError):  # the latter of a stream that comes to light on the way
        return


def decoded(packet: Any) -> list[Any]:
    """Frames that a decoder gives on a packet; none where it is damaged."""
    from av.error import FFmpegError

    try:
        return list(packet.decode())
    except FFmpegError:
        return []
