"""The frames of a span of a video file that are used, and as few others as their coding allows.

Seconds are counted from the beginning of the file, as in `decoding`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncodingError
from encoders.media.decoding import (
    SLACK,
    decoded,
    duration_of,
    opened,
    origin_of,
    packets_of,
    seconds_of,
    span_of,
    stream_of,
)

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["LONGEST_SIDE", "TOLERANCE", "image_of", "read_frames"]

LONGEST_SIDE = 1280
"""Frames whose longer side exceeds this many pixels are scaled down to it when they are read."""
TOLERANCE = 1e-4
"""Seconds that a moment may lie before a frame that is shown at it: time stamps are rational numbers, spans decimal."""

_REWIND = 0.25  # seconds; indices hold decoding times, which run ahead of presentation times by a few frames
_AHEAD = 0.5  # seconds past a moment that packets are read undecoded; decoders hold back fewer frames than that
_SKIPPING = "h264"  # the decoder that knows of every frame for certain whether others need it
_UNORDERED = "avi"  # the container that keeps no presentation times


class _LostError(Exception):
    """A shortcut that goes wrong in a file, `jump` or `skip`.

    A seek fails or lands past the moment, or a frame does not come although its packet was read.
    """


class _FrameReader:
    """Finds the frames shown at given moments; they must be asked for in rising order.

    It decodes forward, and jumps ahead only where a key frame lies between the frame it stands at and the moment
    asked for: then the jump skips work, otherwise it would repeat it. On the way it skips frames that are neither
    asked for nor needed to decode others (half of what libx264 writes, as a rule). Which frames are asked for is known
    before they are decoded: no later packet is shown before its decoding time, so once that has passed a moment, the
    frame shown at the moment is among the packets read.
    """

    def __init__(
        self, container: InputContainer, stream: Any, moments: Sequence[float], shortcuts: Collection[str]
    ) -> None:
        self._container, self._stream, self._moments = container, stream, moments
        self._may_jump = "jump" in shortcuts
        skippable = stream.codec_context.name == _SKIPPING and container.format.name != _UNORDERED
        self._may_skip = skippable and "skip" in shortcuts
        self._origin, self._time_base = origin_of(container), stream.time_base
        self._patience = 2.0  # without an index: seconds to decode before a jump is tried
        self.num_decoded = 0
        self._restart(0.0)

    def _restart(self, moment: float) -> None:
        self._packets = packets_of(self._container, self._stream)
        self._ahead: deque[Any] = deque()  # packets that were read and not decoded yet
        self._stamps: list[int] = []  # of all packets read, rising
        self._read_to = self._sure_to = -np.inf
        self._wanted: set[int | None] = set()  # stamps of the frames asked for, sure up to `_sure_to`
        self._look_ahead(moment)
        self._decoded: deque[Any] = deque()
        self._current: Any = None
        self._following: Any = self._next_frame()

    def _look_ahead(self, moment: float) -> None:
        """Read packets beyond a moment and find out which of them are asked for."""
        if not self._may_skip or self._sure_to >= moment:
            return
        self._sure_to = moment + _AHEAD
        while self._read_to <= self._sure_to + TOLERANCE and (packet := next(self._packets, None)) is not None:
            self._ahead.append(packet)
            if packet.size and packet.pts is None:
                self._may_skip = False
                return
            if packet.size and not packet.is_discard:
                insort(self._stamps, packet.pts)
            if packet.dts is not None:
                self._read_to = self._time(packet.dts)
        sure = [each for each in self._moments if moment <= each <= self._sure_to]
        self._wanted.update(self._shown(each) for each in [*sure, self._sure_to])  # the last may be shown for longer

    def _shown(self, moment: float) -> int | None:
        """Stamp of the last packet read that is shown at or before a moment, the first packet's where none is."""
        place = bisect_right(self._stamps, moment + TOLERANCE, key=self._time)
        return self._stamps[max(place - 1, 0)] if self._stamps else None

    def _next_frame(self) -> Any:
        """The next frame that the decoder gives, or None; it is told to pass over those that nobody needs."""
        while not self._decoded:
            packet = self._ahead.popleft() if self._ahead else next(self._packets, None)
            if packet is None:
                return None
            needless = self._may_skip and packet.pts is not None and packet.pts not in self._wanted
            needless = needless and self._time(packet.pts) <= self._sure_to
            self._stream.codec_context.skip_frame = "NONREF" if needless else "DEFAULT"
            self._decoded.extend(decoded(packet))
        self.num_decoded += 1
        return self._decoded.popleft()

    def _time(self, stamp: int) -> float:
        return seconds_of(stamp, self._time_base) - self._origin

    def _advance(self) -> None:
        self._current, self._following = self._following, self._next_frame()

    def seconds(self, frame: Any) -> float:
        """When a frame is shown, from the beginning of the file."""
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is None:
            return 0.0
        return self._time(stamp)

    def _position(self) -> float:
        frame = self._following if self._following is not None else self._current
        return 0.0 if frame is None else self.seconds(frame)

    def _key_frame(self, moment: float) -> float | None:
        """Time of the last key frame before a moment, where the container's index tells."""
        entries = getattr(self._stream, "index_entries", None)
        if entries is None or len(entries) < 2:
            return None
        found = entries.search_timestamp(int((moment + self._origin) / self._stream.time_base), backward=True)
        if found < 0:
            return None
        return float(entries[found].timestamp * self._stream.time_base) - self._origin

    def _jump(self, moment: float) -> None:
        from av.error import FFmpegError

        before = self._position()
        for earlier in (0.0, 1.0, 5.0):
            target = max(moment - earlier, 0.0)
            try:
                self._container.seek(int((target + self._origin) / self._stream.time_base), stream=self._stream)
            except FFmpegError as error:
                raise _LostError("jump") from error
            self._restart(moment)
            if self._following is not None and self.seconds(self._following) <= moment + TOLERANCE:
                if self.seconds(self._following) <= before:  # went back: key frames are rarer than thought
                    self._patience = max(self._patience, 2.0 * (moment - self.seconds(self._following)))
                return
        raise _LostError("jump")

    def at(self, moment: float) -> Any:
        """The last frame shown at or before a moment (the first frame where none is), or None at the file's end."""
        key_frame = self._key_frame(moment) if self._may_jump else None
        ahead = moment - self._position() > self._patience if key_frame is None else key_frame > self._position()
        if self._may_jump and ahead and moment - self._position() > _REWIND:
            self._jump(moment)
        self._look_ahead(moment)
        while self._following is not None and self.seconds(self._following) <= moment + TOLERANCE:
            self._advance()
        if self._current is None and self._following is not None:
            self._advance()
        if self._may_skip and self._current is not None and self._current.pts != self._shown(moment):
            raise _LostError("skip")
        return self._current

    def covers(self, frame: Any, moment: float) -> bool:
        """Whether a frame may still be shown at a moment although no later frame follows."""
        if self._following is not None:
            return True
        length = float(frame.duration * self._stream.time_base) if frame.duration else 0.0
        return moment <= self.seconds(frame) + max(SLACK, length)


def read_frames(
    path: Path, start: float | None, end: float | None, num_frames: int, notes: list[str] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read frames that are uniformly spaced over a span.

    The span is cut into `num_frames` equal parts and the frame shown at the middle of each part is taken,
    `t_k = start + (k + 1/2) (end - start) / num_frames`. A span that holds fewer frames gives each of them once.

    Args:
        path: media file.
        start: seconds; None is the beginning of the file.
        end: seconds; None is the end of the video stream, and a later end is cut to it.
        num_frames: number of frames asked for, at least 1.
        notes: list to which sentences are added about what was done to the frames.

    Returns:
        RGB frames `[T, H, W, 3]`, upright (a rotation stated by the file is applied), square pixels, the longer side
        at most `LONGEST_SIDE`, and the seconds `[T]` at which they are shown; 1 <= T <= num_frames.

    Raises:
        EncodingError: the file is missing, empty, cannot be opened or has no video; the span lies outside it; or its
            frames end before the span does (truncated or damaged).
    """
    shortcuts = {"jump", "skip"}
    while True:
        try:
            return _read_frames(path, start, end, num_frames, shortcuts, notes)
        except _LostError as lost:
            shortcuts.remove(str(lost))


def _read_frames(
    path: Path,
    start: float | None,
    end: float | None,
    num_frames: int,
    shortcuts: Collection[str],
    notes: list[str] | None,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    with opened(path) as container:
        stream = stream_of(container, path, "video")
        first, last = span_of(path, start, end, duration_of(container, stream, path), "video")
        moments = (first + (np.arange(num_frames) + 0.5) * (last - first) / num_frames).tolist()
        reader = _FrameReader(container, stream, moments, shortcuts)
        images: list[NDArray[np.uint8]] = []
        seconds: list[float] = []
        num_missing = 0
        for moment in moments:
            frame = reader.at(moment)
            if frame is None or not reader.covers(frame, moment):
                num_missing += 1
                continue
            shown = reader.seconds(frame)
            if not seconds or shown > seconds[-1]:
                images.append(image_of(frame, stream))
                seconds.append(shown)
        if num_missing:
            reached = f"the last at {seconds[-1]:.1f} s of {last:.1f} s" if seconds else "none at all"
            raise EncodingError(
                f"{path}: only {num_frames - num_missing} of {num_frames} frames could be decoded ({reached}); "
                "the file is truncated or damaged"
            )
    if len({image.shape for image in images}) > 1:
        images = _one_size(images)
        if notes is not None:
            notes.append("its frames change size: all are brought to the largest, with black edges")
    return np.stack(images), np.asarray(seconds, dtype=np.float64)


def _one_size(images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Images scaled to fit the largest of them, whole and undistorted, in the middle of a black one."""
    from av import VideoFrame

    height, width = max((image.shape[:2] for image in images), key=lambda shape: shape[0] * shape[1])
    fitted = []
    for image in images:
        scale = min(height / image.shape[0], width / image.shape[1])
        size = [min(round(side * scale), most) for side, most in zip(image.shape[:2], (height, width), strict=True)]
        frame = VideoFrame.from_ndarray(image, format="rgb24").reformat(width=size[1], height=size[0])
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        fitted.append(np.zeros((height, width, 3), np.uint8))
        fitted[-1][top : top + size[0], left : left + size[1]] = frame.to_ndarray()
    return fitted


def image_of(frame: Any, stream: Any) -> NDArray[np.uint8]:
    """Turn a decoded frame into RGB `[H, W, 3]`: upright, square pixels, the longer side at most `LONGEST_SIDE`."""
    aspect = float(stream.sample_aspect_ratio or 1.0)
    width, height = frame.width * aspect, float(frame.height)
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    image: NDArray[np.uint8] = frame.reformat(width=size[0], height=size[1], format="rgb24", threads=1).to_ndarray()
    quarter_turns = round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image
