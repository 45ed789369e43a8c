"""What is measured of a recording over time, as a table: every frame, or the frames that encoders look at.

Nothing is measured here: face, gaze and head come from `encoders.face`, hands, shoulders, voice and events from the
modules beside this one, by the same calls as the vectors of `face-mesh` and the paragraph of `cue-narrative`.

Shape legend: T frames of the recording, K frames that show a face, W windows of 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoders.cues.body import BodyTrack, body_events, body_track, shoulder_degrees
from encoders.cues.columns import COLUMNS, EVENT, columns_of
from encoders.cues.encoder import clip_begin, seen_events
from encoders.cues.events import CueEvent
from encoders.cues.face import FaceSeries, face_series, gaze_angles
from encoders.cues.head import hidden_events
from encoders.cues.narration import WORDING
from encoders.cues.voice import STEP, Voice, filler_events, measure_voice, voice_events
from encoders.errors import EncodingError, MissingModality
from encoders.face.landmarks import NUM_FRAMES, FaceTrack, count_of, face_frames, face_track, is_turned
from encoders.face.watching import LandmarkWatcher
from encoders.media.clip import ClipMedia
from encoders.media.decoding import opened, stream_of
from encoders.media.every_frame import See, rate_of
from encoders.models.egemaps import RATE

__all__ = ["Measured", "by_second", "measure_clip", "num_frames_of"]

_SLACK = 1e-6  # seconds
Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Measured:
    """Measures of a recording over time.

    Attributes:
        seconds: `[T]`, from the clip's beginning, when each frame is shown.
        steps: `[T]`, seconds that each frame stands for: until the next one.
        values: by column `[T]`, not a number where a cell is empty; without `recording`, `time` and `failure`.
        voice: every 10 ms, or None without sound.
        events: what was found, as the behaviour description names it.
        notes: sentences on what could not be measured, or was done to pictures and sound.
    """

    seconds: NDArray[np.float64]
    steps: NDArray[np.float64]
    values: Values
    voice: Voice | None
    events: Sequence[CueEvent]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Sight:
    """Which frames there are, `[T]`, what of them shows a face, and which of its K rows each frame has; -1: none."""

    seconds: NDArray[np.float64]
    steps: NDArray[np.float64]
    found: NDArray[np.float64]
    series: FaceSeries | None
    rows: NDArray[np.int64]
    events: Sequence[CueEvent]


def measure_clip(
    clip: ClipMedia,
    rate: float | None = None,
    as_encoded: bool = False,
    on_frame: Callable[[], None] = lambda: None,
) -> Measured:
    """Measure a clip over time.

    Args:
        clip: with pictures, sound or both.
        rate: frames per second; None is the file's own, and 25 of a recording that has sound alone.
        as_encoded: measure those frames alone in which `face-mesh` and `cue-narrative` look for faces, 12 of up to 15
            seconds, in place of every frame.
        on_frame: called for each frame that is looked at.

    Raises:
        MissingModality: the clip has no file.
        EncodingError: neither pictures nor sound can be used; all reasons are named.
    """
    notes: dict[str, None] = {}
    voice, samples, reason = _hear(clip)
    sight = None
    try:
        sight = _sampled(clip, notes) if as_encoded else _every_frame(clip, rate, on_frame)
    except (EncodingError, MissingModality) as error:
        if samples is None:
            raise EncodingError("; then ".join(dict.fromkeys([str(error), reason]))) from None
        notes[f"no pictures: {error}"] = None
        sight = _unseen(len(samples) / RATE, rate or 25.0)
    if samples is None:
        notes[f"no sound: {reason}"] = None
    if sight.series is None and np.isfinite(sight.found).all():
        notes[f"no face in any of {len(sight.found)} frames"] = None
    body, events = _body(clip, sight, notes), [*sight.events]
    if body is not None:
        events += body[1]
    if samples is not None:
        events += voice_events(samples, RATE)
    has_times = bool(clip.words)
    if has_times:
        events += filler_events(clip.text, 0.0, clip.words)
    row = {
        "frame": np.arange(len(sight.seconds), dtype=np.float64), "num_frames": np.ones(len(sight.seconds)),
        "found": sight.found, "heard": np.full(len(sight.seconds), float(samples is not None)),
    }  # fmt: skip
    of_body = dict.fromkeys(columns_of("body"), np.full(len(sight.seconds), np.nan)) if body is None else body[0]
    known = {
        "face": sight.series is not None, "eyes": sight.series is not None, "head": sight.series is not None,
        "voice": samples is not None, "filler": has_times,
        **{name: bool(np.isfinite(column).any()) for name, column in of_body.items()},
    }  # fmt: skip
    values = {
        **row, **_face(sight), **of_body,
        **_voice(voice, sight.seconds, sight.steps), **_events(events, sight, known),
    }  # fmt: skip
    note = clip.take_note("measure")
    notes |= dict.fromkeys(note.splitlines() if note else ())
    return Measured(sight.seconds, sight.steps, values, voice, events, tuple(notes))


def num_frames_of(clip: ClipMedia, rate: float | None = None, as_encoded: bool = False) -> int:
    """Estimate how many frames `measure_clip` looks at, as the file states them; 1 where it cannot be opened."""
    for path, _, _ in clip.videos:
        with suppress(EncodingError), opened(path) as container:
            if as_encoded:
                return count_of(clip, NUM_FRAMES)
            return max(1, round(clip.video_seconds() * (rate or rate_of(stream_of(container, path, "video"), path))))
    return 1


def _hear(clip: ClipMedia) -> tuple[Voice | None, NDArray[np.float32] | None, str]:
    """Measure the voice, or tell why not."""
    try:
        samples = clip.waveform(RATE)
    except (EncodingError, MissingModality) as error:
        return None, None, str(error)
    return measure_voice(samples, RATE), samples, ""


def _steps(seconds: NDArray[np.float64], last: float) -> NDArray[np.float64]:
    return np.append(np.diff(seconds), last)


def _unseen(length: float, rate: float) -> _Sight:
    """Make rows of a recording that has sound alone."""
    seconds = np.arange(max(1, int(np.ceil(length * rate - _SLACK)))) / rate
    nothing = np.full(len(seconds), np.nan)
    return _Sight(seconds, _steps(seconds, 1 / rate), nothing, None, np.full(len(seconds), -1), ())


def _sampled(clip: ClipMedia, notes: dict[str, None]) -> _Sight:
    """Look at the frames that encoders look at."""
    times = face_frames(clip, NUM_FRAMES)[1]
    begin = clip_begin(clip, times[0])
    found, series, events = np.zeros(len(times), np.bool_), None, list[CueEvent]()
    try:
        track = face_track(clip, NUM_FRAMES)
    except EncodingError as error:  # too few frames show a face
        notes[str(error)] = None
    else:
        begin = clip_begin(clip, track.seconds[0])
        series = face_series(track, begin)
        found[-len(track.found) :] = track.found
        events = [*seen_events(series), *hidden_events(track, begin)]
    seconds = times - begin
    last = float(np.median(np.diff(seconds))) if len(seconds) > 1 else clip.video_seconds() or 1.0
    rows = np.where(found, np.cumsum(found) - 1, -1)
    return _Sight(seconds, _steps(seconds, last), found.astype(np.float64), series, rows, events)


class _Looked(LandmarkWatcher):
    """Landmarks of each frame, that tells of each."""

    def __init__(self, on_frame: Callable[[], None], is_turned: bool) -> None:
        super().__init__(NUM_FRAMES)
        self.on_frame, self.is_turned = on_frame, is_turned

    def see(self, frame: NDArray[np.uint8]) -> None:
        """Look for the largest face."""
        super().see(np.ascontiguousarray(frame[::-1, ::-1]) if self.is_turned else frame)
        self.on_frame()


def _every_frame(clip: ClipMedia, rate: float | None, on_frame: Callable[[], None]) -> _Sight:
    """Look at every frame as it passes, as features in time do; the frames that encoders look at are kept."""
    watchers: list[_Looked] = []
    turned = False

    def make() -> list[See]:
        watchers.append(_Looked(on_frame, turned))
        return [watchers[-1].see]

    grid = clip.show_frames(rate, make, {count_of(clip, NUM_FRAMES)})
    turned = is_turned(clip, NUM_FRAMES)
    if turned:
        grid = clip.show_frames(rate, make, ())
    watcher = watchers[-1]
    seen = np.array(watcher.found, np.bool_)
    track, _, _ = watcher.track(grid)
    found = grid.of_pictures(seen)
    rows = np.where(found, grid.of_pictures(np.cumsum(seen) - 1), -1)
    series, events = None, list[CueEvent]()
    if track is not None:
        series = face_series(track)
        first = int(seen.argmax())
        whole = FaceTrack(track.landmarks[:0], seen[first:], grid.picture_seconds[first:], track.frame_size)
        events = [*seen_events(series), *hidden_events(whole)]
    steps = _steps(grid.seconds, 1 / float(grid.rate))
    return _Sight(grid.seconds, steps, found.astype(np.float64), series, rows, events)


def _face(sight: _Sight) -> Values:
    """Put the measures of faces on the frames that show them."""
    columns = columns_of("face")
    if sight.series is None:
        return dict.fromkeys(columns, np.full(len(sight.seconds), np.nan))
    aside, down = gaze_angles(sight.series)
    measured = {**sight.series.values, "gaze_aside": aside, "gaze_down": down}
    has = sight.rows >= 0
    return {name: np.where(has, measured[name.removeprefix("head_")][sight.rows], np.nan) for name in columns}


def _body(clip: ClipMedia, sight: _Sight, notes: dict[str, None]) -> tuple[Values, list[CueEvent]] | None:
    """Put hands and shoulders on the frames nearest to those in which they were looked for; None without a face."""
    if sight.series is None:
        return None
    try:
        track, body = face_track(clip, NUM_FRAMES), body_track(clip, NUM_FRAMES)
    except EncodingError as error:
        notes[f"hands and shoulders are not measured: {error}"] = None
        return None
    begin = clip_begin(clip, track.seconds[0])
    values = {name: np.full(len(sight.seconds), np.nan) for name in columns_of("body")}

    def put(name: str, frames: NDArray[np.intp], measured: NDArray[np.float64]) -> None:
        moments = track.seconds[frames] - begin
        middles = (sight.seconds[1:] + sight.seconds[:-1]) / 2
        values[name][np.searchsorted(middles, moments)] = measured

    put("hand_at_face", body.hand_frames, body.at_face)
    seen = _are_seen(track, body)
    for name, (_, measured) in shoulder_degrees(track, body.shoulder_frames, body.shoulders).items():
        put(name, body.shoulder_frames[seen], measured[seen])
    return values, body_events(track, body, begin)


def _are_seen(track: FaceTrack, body: BodyTrack) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(body.shoulders).all(axis=(1, 2)) & track.found[body.shoulder_frames])


def _voice(voice: Voice | None, starts: NDArray[np.float64], lengths: NDArray[np.float64]) -> dict[str, NDArray]:
    """Sum up the windows of 10 ms that begin in each stretch; one that is shorter has the window it lies in."""
    values = {name: np.full(len(starts), np.nan) for name in columns_of("voice")}
    if voice is None:
        return values
    firsts = np.floor(starts / STEP + _SLACK).astype(int)
    lasts = np.maximum(np.floor((starts + lengths) / STEP + _SLACK).astype(int), firsts + 1)
    for row, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        windows = slice(max(first, 0), max(last, 0))
        level, pitch = voice.level[windows], voice.pitch[windows]
        if not len(level):
            continue
        known = pitch[np.isfinite(pitch)]
        values["loudness"][row] = 10.0 * np.log10(np.mean(10.0 ** (level / 10.0)))
        values["voice"][row] = voice.loud[windows].mean()
        values["voiced"][row] = len(known) / len(pitch)
        if len(known):
            values["pitch"][row] = 2.0 ** (np.median(known) / 12.0)
    return values


def _events(events: Sequence[CueEvent], sight: _Sight, known: Mapping[str, bool]) -> Values:
    """Tell in which frames each event lasts; nothing of events, or parts of them, for which there is nothing to see."""
    starts, ends = sight.seconds, sight.seconds + sight.steps
    values = {}
    for cue, wording in WORDING.items():
        is_known = known[cue] if cue in known else known[wording.part]
        values[f"{EVENT}{cue}"] = np.full(len(starts), 0.0 if is_known else np.nan)
    for event in events:
        is_heard = WORDING[event.cue].part == "voice"  # its end is the beginning of the first window without it
        lasts = (event.start < ends - _SLACK) & (
            event.end > starts + _SLACK if is_heard else event.end >= starts - _SLACK
        )
        values[f"{EVENT}{event.cue}"][lasts] = 1.0
    return values


def by_second(measured: Measured) -> tuple[NDArray[np.float64], Values]:
    """Sum up frames by second: means over the frames that have a value, and the voice of the whole second.

    Args:
        measured: of a clip.

    Returns:
        Seconds `[S]` from the clip's beginning at which rows begin, and by column `[S]`.
    """
    numbers = np.floor(measured.seconds + _SLACK).astype(int)
    seconds = np.unique(numbers)
    values: dict[str, NDArray[np.float64]] = {}
    for name, column in measured.values.items():
        has = np.isfinite(column)
        sums, counts = np.zeros(seconds[-1] + 1), np.zeros(seconds[-1] + 1)
        np.add.at(sums, numbers[has], column[has])
        np.add.at(counts, numbers[has], 1.0)
        with np.errstate(invalid="ignore"):
            values[name] = (sums / counts)[seconds]
        if name == "num_frames":
            values[name] = counts[seconds]
    values |= _voice(measured.voice, seconds.astype(np.float64), np.ones(len(seconds)))
    values["frame"] = seconds.astype(np.float64)
    return seconds.astype(np.float64), {name: values[name] for name in COLUMNS if name in values}
