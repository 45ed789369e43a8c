"""The sound of a span of a media file: one channel of samples on the clock of the file.

Second 0 is the file's beginning, as for its frames. Where time stamps leave a gap, or the sound begins after the
pictures, there is silence; so a moment of the sound and the frame shown then belong together, whatever lies before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.errors import EncodingError
from encoders.media.decoding import (
    ESTIMATED_DURATION,
    SLACK,
    duration_of,
    knows_its_places,
    opened,
    origin_of,
    packets_of,
    seconds_of,
    span_of,
    stream_of,
    streams_of,
    version_of,
)

__all__ = ["AUDIO_READING", "CHANNEL_WEIGHTS", "GAP", "LIVE_ENERGY", "SILENCE", "is_silent", "read_audio", "to_mono"]

SILENCE = 1e-3
"""Sound of which no sample reaches this, 60 dB below full scale, is silent: dither and coding noise, no voice."""
AUDIO_READING: Mapping[str, object] = {"channels": "live ones, never cancelled", "clock": "of the file"}
"""How sound is read, for the fingerprints of encoders that hear it."""
GAP = 0.05
"""Seconds that time stamps may differ from the number of samples before them: rounding and jitter, no gap."""
LIVE_ENERGY = 0.01
"""A channel with less of the loudest channel's energy (20 dB below it) is left out of the mean."""
CHANNEL_WEIGHTS = {"FC": 1.0, "FL": 0.5**0.5, "FR": 0.5**0.5, "LFE": 0.0}
"""Of the channels of a layout with a centre (ITU-R BS.775); all others weigh 0.5."""

_MOST = 100.0  # times full scale: floats beyond are no samples (damaged, not a number, or 16 bits written as floats)
_LEAST_SUM = 0.8  # of the energy that independent channels would leave in their mean; below, they cancel
_LONGEST_GAP = 600.0  # seconds; a jump of time stamps beyond it, or back by a second, is a clock set anew
_SET_BACK = 1.0
_LATEST = 86_400.0  # a day: no sound begins later in its file
_MOST_SAMPLES = 2**25  # of all channels that are decoded at once: 17 minutes of stereo at 16 kHz
_RUN_UP = 0.5  # seconds before a span that let a decoder settle


def is_silent(samples: NDArray[np.float32]) -> bool:
    """Whether no sample reaches `SILENCE`, or all stay as near to a constant level, which is no sound."""
    low, high = float(samples.min(initial=0.0)), float(samples.max(initial=0.0))
    if max(-low, high) < SILENCE:
        return True
    return len(samples) > 0 and float(np.ptp(samples)) < SILENCE


def to_mono(channels: NDArray[np.float32], names: Sequence[str] = ()) -> tuple[NDArray[np.float32], str | None]:
    """Mix channels to one, so that no voice is cancelled or buried.

    The mean of the channels within 20 dB of the loudest (of a layout with a centre: the weighted mean), as loud as
    the loudest of them (root mean square). Where channels of opposite phase would cancel, the loudest alone.

    Args:
        channels: samples `[C, N]`.
        names: of the channels, as in `FL`, `FR`, `FC`, `LFE`; none where the layout is unknown.

    Returns:
        Samples `[N]`, and what a reader should know of the mix: None where it is the plain mean.

    Example:
        >>> voice = np.array([0.5, -0.25], np.float32)
        >>> to_mono(np.stack([voice, -voice]))
        (array([ 0.5 , -0.25], dtype=float32), 'channel 1 of 2 alone, since their mean would cancel sound')
        >>> to_mono(np.stack([voice, 0 * voice]))
        (array([ 0.5 , -0.25], dtype=float32), 'channel 1 of 2 alone, the others are over 20 dB below it')
    """
    number = len(channels)
    if number == 1:
        return channels[0], None
    energy = np.square(channels, dtype=np.float64).mean(axis=1)
    loudest = int(energy.argmax())
    live = energy >= LIVE_ENERGY * energy[loudest]
    if number > 2 and "FC" in names:
        weights = np.array([CHANNEL_WEIGHTS.get(name, 0.5) for name in names]) * live
    else:
        weights = live.astype(np.float64)
    if not energy[loudest] or not weights.any():  # silence, or nothing but the deep effects of a film
        return channels[loudest], None
    weights /= weights.sum()
    mixed = (weights[:, None].astype(np.float32) * channels).sum(axis=0)
    remaining = np.square(mixed, dtype=np.float64).mean()
    if remaining < _LEAST_SUM * (weights**2 @ energy):
        return channels[loudest], f"channel {loudest + 1} of {number} alone, since their mean would cancel sound"
    mixed *= np.float32(np.sqrt(energy[loudest] / remaining))
    if live.all():
        return mixed, None
    kept = " and ".join(str(place + 1) for place in np.flatnonzero(live))
    return mixed, (
        f"channel {kept} of {number} alone, the others are over 20 dB below it"
        if live.sum() == 1
        else f"channels {kept} of {number} mixed, the others are over 20 dB below the loudest"
    )


@dataclass
class _Run:
    """Samples without a gap, of all channels."""

    begin: float  # seconds
    names: tuple[str, ...]
    pieces: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass
class _Track:
    """One sound stream of a file, or a part of it."""

    samples: NDArray[np.float32]  # [N]
    begin: float  # second of the first sample
    decoded: list[tuple[float, float]]  # seconds from and to which there are samples
    end: float  # second of the last sample, or at which sound goes on after a gap
    damaged: list[tuple[float, float]]  # and those of packets that could not be decoded
    beyond: float  # the largest of the floats that are no samples, 0 where there is none
    stated: float  # second at which the container says that it ends
    note: str | None


def read_audio(
    path: Path, start: float | None, end: float | None, rate: int, notes: list[str] | None = None
) -> NDArray[np.float32]:
    """Read the samples of a span, mixed to one channel by `to_mono` and resampled, as loud as they are in the file.

    The stream is the one that players take (the default one, else the best); where that is silent from beginning to
    end, the first other that is not. A span has the same samples as that part of the whole file, if the file's
    sound is at most `2 ** 25` samples of all channels; of a longer one only the span is decoded and mixed.

    Args:
        path: media file.
        start: seconds; None is the beginning of the file.
        end: seconds; None is the end of the audio stream, and a later end is cut to it.
        rate: samples per second of the result.
        notes: list to which sentences are added about what was done to the sound.

    Returns:
        Samples `[N]`; full scale of the file's format is 1, and lossy formats may exceed it.

    Raises:
        EncodingError: the file is missing, empty, cannot be opened or has no audio; the span lies outside it; its
            samples end before the span does (truncated); or a tenth of it, at least `SLACK`, is damaged.
    """
    track = _first_heard(path, start, end, rate)
    first, last = span_of(path, start, end, max(track.stated, track.end), "audio")
    allowed = max(SLACK, 0.1 * (last - first))
    if track.end <= first:
        raise EncodingError(f"{path}: no audio could be decoded from {first:g} s to {last:g} s; the file is damaged")
    if track.end < last - allowed:
        raise EncodingError(
            f"{path}: only {track.end - first:.1f} s of {last - first:.1f} s of audio could be decoded; "
            "the file is truncated or damaged"
        )
    damaged = _overlap(track.damaged, first, last)
    if damaged > allowed:
        what = f", with values up to {track.beyond:.0f} where full scale is 1" if track.beyond else ""
        raise EncodingError(f"{path}: {damaged:.1f} s of {last - first:.1f} s of audio are damaged{what}")
    if notes is not None:
        until = min(last, track.end)
        silent = until - first - _overlap(track.decoded, first, until)
        if silent > GAP:
            notes.append(f"{silent:.2f} s of silence where the time stamps of the sound leave a gap")
        if damaged:
            notes.append(f"{damaged:.2f} s of the sound are damaged and silent")
        if track.note is not None:
            notes.append(track.note)
    begin = round((first - track.begin) * rate)
    return track.samples[max(begin, 0) : round((last - track.begin) * rate)]


def _overlap(spans: Sequence[tuple[float, float]], first: float, last: float) -> float:
    """Seconds of ordered, disjoint spans that lie from `first` to `last`."""
    return sum(max(0.0, min(end, last) - max(begin, first)) for begin, end in spans)


def _first_heard(path: Path, start: float | None, end: float | None, rate: int) -> _Track:
    """The stream that players take, or the first other one where it is silent throughout."""
    with opened(path) as container:
        streams = streams_of(container, path, "audio")
        default = stream_of(container, path, "audio")
        best, numbers = container.streams.best("audio"), {each.index: n for n, each in enumerate(streams, start=1)}
        lacks = "has no decoder" if best is not None and best.codec_context is None else None
        order = sorted((each.index for each in streams if each.codec_context), key=lambda index: index != default.index)
        most_channels = max(1, max(container.streams[index].channels for index in order))
        whole = duration_of(container, default, path, is_spent=True) * rate * most_channels <= _MOST_SAMPLES
        changed = version_of(path)

    def read(index: int) -> _Track:
        return _whole_track(path, changed, index, rate) if whole else _read_track(path, index, rate, start, end)

    track = read(order[0])
    for index in order:
        heard = track if index == order[0] else read(index)
        why = lacks or ("is silent" if index != order[0] else None)
        if not is_silent(heard.samples):
            note = f"sound stream {numbers[index]} of {len(streams)}, since the default one {why}" if why else None
            return replace(heard, note="; ".join(filter(None, (note, heard.note))) or None)
    return track


@lru_cache(maxsize=2)
def _whole_track(path: Path, changed: tuple[int, int], index: int, rate: int) -> _Track:
    """A stream from beginning to end; the clips of a recording come one after the other, and share it."""
    return _read_track(path, index, rate, None, None)


def _read_track(path: Path, index: int, rate: int, start: float | None, end: float | None) -> _Track:
    with opened(path) as container:
        if index >= len(container.streams):
            raise EncodingError(f"{path}: its sound stream is not found again; the file is damaged")
        stream: Any = container.streams[index]
        stream.codec_context.thread_count = 1  # workers are processes
        stated = 0.0 if container.format.name in ESTIMATED_DURATION else duration_of(container, stream, path)
        first = 0.0 if start is None else max(start - _RUN_UP, 0.0)
        if not knows_its_places(container, stream):
            first = 0.0
        if first > 0.5:
            container.seek(int((first + origin_of(container)) / stream.time_base), stream=stream)
        runs, damaged = _decode(container, stream, rate, np.inf if end is None else end + GAP, stated or np.inf)
    if runs and runs[0].begin - first > _LATEST:
        hours = (runs[0].begin - first) / 3600
        raise EncodingError(f"{path}: its sound begins {hours:.0f} hours late; its time stamps are damaged")
    spans: list[tuple[float, float]] = []
    for run in runs:
        begin = max(run.begin, spans[-1][1] if spans else first)
        until = run.begin + sum(piece.shape[1] for piece in run.pieces) / rate
        if until > begin:
            spans.append((begin, until))
    lengths = Counter[int]()
    for run in runs:
        lengths[len(run.names)] += sum(piece.shape[1] for piece in run.pieces)
    number = max(lengths, key=lambda channels: (lengths[channels], channels), default=1)
    last = max([0.0, *(end for _, end in spans), *(run.begin for run in runs)])
    last = last if end is None else min(last, max(end, first))
    samples = np.zeros((number, max(0, round((last - first) * rate))), np.float32)
    for run in runs:
        joined = np.concatenate(run.pieces, axis=1) if run.pieces else np.zeros((len(run.names), 0), np.float32)
        place = round((run.begin - first) * rate)
        joined = joined[:, max(0, -place) :][:, : max(0, samples.shape[1] - max(0, place))]
        samples[:, max(0, place) : max(0, place) + joined.shape[1]] = (
            joined if len(joined) == number else to_mono(joined, run.names)[0]
        )
    beyond = 0.0
    if not -_MOST <= samples.min(initial=0.0) <= samples.max(initial=0.0) <= _MOST:  # or not a number
        strange = ~(np.abs(samples) <= _MOST)
        beyond = float(np.abs(samples[strange & np.isfinite(samples)]).max(initial=0.0))
        samples[strange] = 0.0
        edges = np.flatnonzero(np.diff(strange.any(axis=0), prepend=False, append=False))
        damaged += [(first + begin / rate, first + until / rate) for begin, until in edges.reshape(-1, 2).tolist()]
    names = next((run.names for run in runs if len(run.names) == number), ())
    mono, note = to_mono(samples, names)
    mono.setflags(write=False)
    return _Track(mono, first, spans, last, damaged, beyond, stated, note)


def _channels(piece: Any) -> NDArray[np.float32]:
    """Samples `[C, N]` of a packed frame; of planes that stand apart, PyAV reads beyond the last from nine on."""
    samples: NDArray[np.float32] = piece.to_ndarray()
    return samples.reshape(-1, piece.layout.nb_channels).T


def _decode(
    container: Any, stream: Any, rate: int, last: float, stated: float
) -> tuple[list[_Run], list[tuple[float, float]]]:
    """Decode runs of resampled samples from the current position to `last`; also the spans of damaged packets.

    Time stamps that jump back, far ahead, or beyond the end that the file states are a clock set anew: sound goes on.
    """
    from av import AudioResampler
    from av.error import FFmpegError

    origin = origin_of(container)
    runs: list[_Run] = []
    damaged: list[tuple[float, float]] = []
    resampler: Any = None
    settings: tuple[int, str] | None = None
    expected, shift = 0.0, 0.0  # second that follows the last sample; what a clock set anew is behind

    def flush() -> None:
        if resampler is not None:
            runs[-1].pieces += [_channels(piece) for piece in resampler.resample(None)]

    for packet in packets_of(container, stream):
        try:
            frames = list(packet.decode())
        except FFmpegError:
            if packet.pts is not None and packet.duration:
                begin = seconds_of(packet.pts, packet.time_base) - origin + shift
                damaged.append((begin, begin + seconds_of(packet.duration, packet.time_base)))
            continue
        for frame in frames:
            time = expected if frame.pts is None else seconds_of(frame.pts, frame.time_base) - origin + shift
            if runs and (
                time < expected - _SET_BACK or time > min(expected + _LONGEST_GAP, max(expected, stated) + SLACK)
            ):
                shift += expected - time
                time = expected
            given = (frame.sample_rate, frame.layout.name)
            if not runs or given != settings or abs(time - expected) > GAP:
                flush()
                resampler, settings = AudioResampler(format="flt", layout=frame.layout, rate=rate), given
                runs.append(_Run(time, tuple(channel.name for channel in frame.layout.channels)))
                expected = time
            if expected >= last:
                flush()
                return runs, damaged
            runs[-1].pieces += [_channels(piece) for piece in resampler.resample(frame)]
            expected += frame.samples / frame.sample_rate
    flush()
    return runs, damaged
