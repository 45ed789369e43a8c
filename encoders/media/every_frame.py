"""Every frame of a span of a video file, shown once as it is decoded; nothing but what others keep is held.

The frames are counted. The uniformly spaced ones that `encoders.media.frames.read_frames` would read are kept on the
way: what needs all frames and what needs a few share one decoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncodingError
from encoders.media.decoding import SLACK, decoded, duration_of, opened, origin_of, packets_of, span_of, stream_of
from encoders.media.frames import TOLERANCE, image_of
from encoders.timed import Grid

__all__ = ["Sampled", "See", "rate_of", "show_every_frame"]

See = Callable[[NDArray[np.uint8]], None]
"""Looks at a frame, RGB `[H, W, 3]`, read-only."""
Sampled = dict[int, tuple[NDArray[np.uint8], NDArray[np.float64]]]
"""By number of frames asked for, what `read_frames` gives."""

_RATE_TOLERANCE = 0.05  # part by which time stamps may contradict the rate that the container states
_FRAMES_ASTRAY = 2.0  # and frames; short files have single late ones
_LATE = 1.5  # frames by which a time stamp may differ from where its frame is counted
_RUN_UP = (0.0, 1.0, 5.0)  # seconds before a span to which is jumped, until a frame at or before its start is found


class _Frame:
    """A decoded frame, its second, and its picture once somebody looks."""

    def __init__(self, frame: Any, stream: Any, second: float) -> None:
        self.second, self.length = second, float((frame.duration or 0) * stream.time_base)
        self._frame, self._stream = frame, stream
        self._image: NDArray[np.uint8] | None = None

    @property
    def image(self) -> NDArray[np.uint8]:
        if self._image is None:
            self._image = image_of(self._frame, self._stream)
            self._image.setflags(write=False)
        return self._image

    def covers(self, moment: float) -> bool:
        """Whether it may still be shown at a moment although no frame follows."""
        return moment <= self.second + max(SLACK, self.length)


class _Moments:
    """Moments in rising order, and the frame shown at each."""

    def __init__(self, moments: Sequence[float]) -> None:
        self.moments, self.served = moments, 0

    def pass_by(self, shown: _Frame | None, following: _Frame | None) -> int:
        """Tell at how many further moments the frame `shown` is shown, before the one that follows."""
        before = self.served
        while self.served < len(self.moments):
            moment = self.moments[self.served]
            if shown is None or (following is not None and following.second <= moment + TOLERANCE):
                break
            if following is None and not shown.covers(moment):
                break
            self.served += 1
        return self.served - before

    @property
    def is_complete(self) -> bool:
        return self.served == len(self.moments)


class _Sample(_Moments):
    """Frames at the middles of equal parts of a span, each once."""

    def __init__(self, first: float, last: float, num_frames: int) -> None:
        super().__init__([first + (index + 0.5) * (last - first) / num_frames for index in range(num_frames)])
        self.images: list[NDArray[np.uint8]] = []
        self.seconds: list[float] = []

    def keep(self, shown: _Frame | None, following: _Frame | None) -> None:
        if self.pass_by(shown, following) and shown is not None:
            self.images.append(shown.image)
            self.seconds.append(shown.second)

    @property
    def is_whole(self) -> bool:
        """Whether `read_frames` would give just these."""
        return self.is_complete and len({image.shape for image in self.images}) == 1


def show_every_frame(
    path: Path,
    start: float | None,
    end: float | None,
    rate: float | None,
    sees: Sequence[See],
    sampled: Collection[int],
    notes: list[str],
) -> tuple[Grid, Sampled]:
    """Decode a span once, show its frames, and count them.

    Without a rate every decoded frame at or after `start` and before `end` is one of the clip's, and the rate is the
    file's own, a rational as the container states it. Frame i is counted to be shown `i / rate` after the first, as
    labels by frame number are; where time stamps disagree there is a note. With a rate the clip's frames are those
    shown at `start + i / rate`, and a frame that is shown at several of them is looked at once.

    Args:
        path: media file.
        start: seconds; None is the beginning of the file.
        end: seconds; None is the end of the video stream.
        rate: frames per second, or None.
        sees: what looks at the frames.
        sampled: numbers of uniformly spaced frames to keep, as `read_frames` would read them.
        notes: list to which sentences are added about rate and time stamps.

    Returns:
        The clip's frames, and the samples; those are left out that only `read_frames` can tell of.

    Raises:
        EncodingError: the file is missing, empty, cannot be opened or has no video; the span lies outside it or holds
            no frame; its rate is not known; or its frames end before the span does (truncated or damaged).
    """
    with opened(path) as container:
        stream = stream_of(container, path, "video")
        duration = duration_of(container, stream, path)
        first, last = span_of(path, start, end, duration, "video")
        own = rate_of(stream, path)
        samples = [_Sample(first, last, number) for number in sampled]
        wanted = Fraction(str(rate)) if rate is not None else None
        length = 0 if wanted is None else max(1, math.ceil((last - first) * float(wanted) - 1e-6))
        moments = _Moments([] if wanted is None else [first + float(index / wanted) for index in range(length)])
        seconds: list[float] = []  # of frames shown
        repeats: list[int] = []  # at how many of the moments
        origin = origin_of(container)
        begins = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base) - origin
        shown: _Frame | None = None
        for following in _frames(container, stream, origin, first, float(own)):
            _pass(shown, following, moments, samples, sees, seconds, repeats)
            shown = following
            begun = start is None or following.second >= start - TOLERANCE
            if wanted is None and begun and (end is None or following.second < end - TOLERANCE):
                seconds.append(following.second)
                for see in sees:
                    see(following.image)
            if following.second > last + TOLERANCE and end is not None:
                break
        else:
            _pass(shown, None, moments, samples, sees, seconds, repeats)
    if not seconds or shown is None:
        raise EncodingError(f"{path}: no frame from {first:g} s to {last:g} s could be decoded; the file is damaged")
    if not moments.is_complete or not shown.covers(last - 1 / float(own)):
        raise EncodingError(
            f"{path}: the last frame that could be decoded is at {shown.second:.1f} s of {last:.1f} s; "
            "the file is truncated or damaged"
        )
    kept = {len(each.moments): (np.stack(each.images), np.asarray(each.seconds)) for each in samples if each.is_whole}
    if wanted is not None:
        pictures = np.repeat(np.arange(len(repeats)), repeats)
        return Grid(length, wanted, first, 0.0, pictures), kept
    return _own_grid(seconds, own, begins, start, notes), kept


def _pass(
    shown: _Frame | None, following: _Frame | None, moments: _Moments, samples: Sequence[_Sample],
    sees: Sequence[See], seconds: list[float], repeats: list[int],
) -> None:  # fmt: skip
    """Serve the moments between a frame and the next."""
    for sample in samples:
        sample.keep(shown, following)
    count = moments.pass_by(shown, following)
    if count and shown is not None:
        seconds.append(shown.second)
        repeats.append(count)
        for see in sees:
            see(shown.image)


def rate_of(stream: Any, path: Path) -> Fraction:
    """Return frames per second as the container states them."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate:
            return Fraction(rate)
    raise EncodingError(f"{path}: its container states no frames per second; set features.timed_rate")


def _frames(container: Any, stream: Any, origin: float, first: float, rate: float) -> Any:
    """Decode frames from the last one shown at or before a second on, or an earlier one."""
    from av.error import FFmpegError

    for earlier in (*_RUN_UP, None):
        target = 0.0 if earlier is None else first - earlier
        jumps = target > _RUN_UP[1]
        if jumps:
            try:
                container.seek(int((target + origin) / stream.time_base), stream=stream)
            except FFmpegError:
                continue
        elif earlier != _RUN_UP[0]:
            container.seek(0)
        number, landed = 0, not jumps
        for packet in packets_of(container, stream):
            for frame in decoded(packet):
                stamp = frame.pts if frame.pts is not None else frame.dts
                second = number / rate if stamp is None else float(stamp * stream.time_base) - origin
                if not landed and second > first + TOLERANCE:
                    break  # key frames are rarer than thought
                landed = True
                number += 1
                yield _Frame(frame, stream, second)
            else:
                continue
            break
        if landed:
            return


def _own_grid(seconds: list[float], rate: Fraction, begins: float, start: float | None, notes: list[str]) -> Grid:
    """Count the frames of a clip by the file's own rate."""
    lasted = seconds[-1] - seconds[0]
    astray = abs(lasted * float(rate) - (len(seconds) - 1))
    if lasted > 0 and astray > max(_FRAMES_ASTRAY, _RATE_TOLERANCE * (len(seconds) - 1)):
        measured = Fraction((len(seconds) - 1) / lasted).limit_denominator(1001)
        notes.append(
            f"it states {float(rate):.6g} frames per second, its time stamps say {float(measured):.6g}, which counts"
        )
        rate = measured
    begins = 0.0 if abs(begins) < 0.5 / float(rate) else begins
    number = 0 if start is None else max(0, round((seconds[0] - begins) * float(rate)))
    counted = begins + (number + np.arange(len(seconds))) / float(rate)
    late = float(np.abs(np.asarray(seconds) - counted).max())
    if late > _LATE / float(rate):
        notes.append(
            f"time stamps of its frames differ by up to {late:.2f} s from {float(rate):.6g} frames per second; "
            "features.timed_rate follows them"
        )
    lead = begins + number / float(rate) - (start or 0.0)
    return Grid(len(seconds), rate, float(number / rate), max(0.0, round(lead, 9)))
