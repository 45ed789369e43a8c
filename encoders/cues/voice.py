"""Events of the voice: pauses, filled pauses, and stretches that are louder, quieter, higher or lower than the rest.

The voice is measured every 10 ms. Everything is relative to the clip itself, so the recording's level and the
speaker's own pitch do not matter.

Shape legend: N samples, W windows of 10 ms, B bands of the spectrum.

References:
    Goto, Itou, Hayamizu, A real-time filled pause detection system for spontaneous speech recognition, Eurospeech
    1999 (filled pauses are long vowels whose pitch and spectrum hardly move).
    Boersma, Accurate short-term analysis of the fundamental frequency, IFA Proceedings 17, 1993 (pitch).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from encoders.cues.events import CueEvent

__all__ = ["STEP", "Voice", "filler_events", "measure_voice", "resample", "voice_events"]

STEP = 0.01
"""Seconds between windows."""
_RATE = 8000  # samples per second at which pitch and spectrum are measured
_WINDOW = 320  # samples, 40 ms: two and a half periods of the lowest pitch
_LOWEST, _HIGHEST = 65.0, 420.0  # Hz of pitch
_VOICED = 0.5  # least autocorrelation of a voiced window, where 1 is perfectly periodic
_OCTAVE_COST = 0.02  # autocorrelation that an octave lower costs, against counting two periods as one
_LOUD_BELOW = 25.0  # decibels below the clip's loud parts (95th percentile) down to which there is voice
_PAUSE_SECONDS = 0.25  # shorter gaps are stops of the mouth, as in p, t and k
_LONG_PAUSE = 0.5  # seconds
_STEADY_SECONDS = 0.05  # seconds over which a steady voice hardly changes
_STEADY_PITCH = 0.6  # semitones
_STEADY_BANDS = 3.0  # decibels, root mean square over bands: another vowel or another loudness changes more
_FILLED_SECONDS = 0.3  # vowels of fluent speech last 0.05 to 0.2 s
_BANDS = np.geomspace(100.0, 3800.0, 13)  # Hz, edges
_SMOOTH_SECONDS = 0.5  # seconds over which loudness and pitch are averaged: more than a syllable
_LOUDER, _HIGHER = 6.0, 4.0  # decibels, semitones from the clip's own median
_LEAST_SECONDS = 0.3  # seconds of a louder, quieter, higher or lower stretch

_FILLER = re.compile(r"\b(?:u+h*m+|u+h+|e+h*m+|e+uh+m*|e+rm+|he+u+|h+m+|m{2,})\b", re.IGNORECASE)
"""um, uhm, uh, em, ehm, euh, erm, heu, hm, mm: fillers of English and French that are no words of either. Not `er` and
`eh`, which are words elsewhere, nor hedges such as `well` or `ben`, which often are what is meant."""


@dataclass(frozen=True)
class Voice:
    """Measures of a voice every 10 ms.

    Attributes:
        level: `[W]`, decibels.
        loud: `[W]`, whether there is voice.
        pitch: `[W]`, semitones over 1 Hz; not a number where the window is not voiced.
        bands: `[W, B]`, decibels in bands of the spectrum.
    """

    level: NDArray[np.float64]
    loud: NDArray[np.bool_]
    pitch: NDArray[np.float64]
    bands: NDArray[np.float64]


def measure_voice(samples: NDArray[np.float32], rate: int) -> Voice:
    """Measure level, pitch and spectrum in windows of 10 ms; pitch and spectrum look at 40 ms around each.

    Pitch is the largest peak of the normalised autocorrelation between 65 and 420 Hz, refined by a parabola.

    Args:
        samples: mono waveform `[N]` of any loudness.
        rate: samples per second.
    """
    from scipy.fft import irfft, rfft

    step = max(round(rate * STEP), 1)
    num_windows = len(samples) // step
    windows = np.asarray(samples[: num_windows * step], dtype=np.float64).reshape(num_windows, step)
    level = 10.0 * np.log10(np.mean(windows**2, axis=1) + 1e-12)
    if not num_windows:
        return Voice(level, np.zeros(0, dtype=bool), np.zeros(0), np.zeros((0, len(_BANDS) - 1)))
    loud = level > np.quantile(level, 0.95) - _LOUD_BELOW
    slow = resample(np.asarray(samples, dtype=np.float32), rate, _RATE)
    hop = round(_RATE * STEP)
    padded = np.pad(slow, (_WINDOW // 2 - hop // 2, _WINDOW))
    parts = sliding_window_view(padded, _WINDOW)[: num_windows * hop : hop]
    parts = parts - parts.mean(axis=1, keepdims=True)
    shape = np.hanning(_WINDOW).astype(np.float32)
    size = 2 * _WINDOW
    power = np.abs(rfft(parts * shape, size, axis=1)) ** 2
    edges = np.searchsorted(np.fft.rfftfreq(size, 1 / _RATE), _BANDS)
    bands = 10.0 * np.log10(np.add.reduceat(power, edges, axis=1)[:, :-1] + 1e-12)
    own = irfft(np.abs(rfft(shape, size)) ** 2)
    lags = np.arange(int(_RATE / _HIGHEST), int(_RATE / _LOWEST) + 1)
    correlation = irfft(power, axis=1)[:, : lags[-1] + 2]
    correlation = correlation / np.maximum(correlation[:, :1], 1e-12) / (own / own[0])[: lags[-1] + 2]
    best = lags[np.argmax(correlation[:, lags] - _OCTAVE_COST * np.log2(lags), axis=1)]
    rows = np.arange(num_windows)
    before, peak, after = (correlation[rows, best + offset] for offset in (-1, 0, 1))
    bend = np.minimum(before - 2.0 * peak + after, -1e-9)
    exact = best + np.clip((before - after) / (2.0 * bend), -0.5, 0.5)
    pitch = np.where(loud & (peak >= _VOICED), 12.0 * np.log2(_RATE / exact), np.nan)
    return Voice(level, loud, pitch.astype(np.float64), bands.astype(np.float64))


def resample(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """Resample by a polyphase filter: sinc in a Kaiser window of beta 5, ten of its zeros to either side.

    The samples are those of `scipy.signal.resample_poly`, bit for bit; its import takes longer than most clips.

    Args:
        samples: `[N]`.
        rate: samples per second.
        wanted: likewise, of the result `[ceil(N wanted / rate)]`.
    """
    from scipy.special import i0

    up, down = (each // math.gcd(rate, wanted) for each in (wanted, rate))
    if up == down:
        return samples.copy()
    half = 10 * max(up, down)
    places = np.arange(-half, half + 1.0)
    cutoff = 1.0 / max(up, down)
    taps = cutoff * np.sinc(cutoff * places)
    taps *= i0(5.0 * np.sqrt(1 - (places / half) ** 2)) / i0(5.0)
    filter_K = (taps / taps.sum()).astype(np.float32) * up
    num_out = -(-len(samples) * up // down)
    result = np.zeros(num_out, dtype=np.float32)
    for phase in range(up):  # outputs that use the same taps
        places_out = np.arange(phase, num_out, up)
        if not len(places_out):
            break
        newest, own = divmod(phase * down + half, up)
        taps_of = filter_K[own::up][::-1]
        padded = np.concatenate([np.zeros(len(taps_of), np.float32), samples, np.zeros(newest + down + 1, np.float32)])
        first = newest + 1
        for number, tap in enumerate(taps_of):
            values = padded[first + number :: down][: len(places_out)]
            result[phase::up] += values * tap
    return result


def voice_events(samples: NDArray[np.float32], rate: int) -> list[CueEvent]:
    """Find events of a clip's sound, in seconds from its first sample.

    A pause is a gap of at least 0.25 s between louder windows. A filled pause is at least 0.3 s of voice whose pitch
    and spectrum hardly change over 50 ms: a long steady vowel, whatever it was meant as.

    Args:
        samples: mono waveform `[N]` of any loudness.
        rate: samples per second.

    Example:
        >>> tone = np.sin(np.arange(16000) * 0.1) * (1 + np.sin(np.arange(16000) * 0.002))
        >>> [pause] = [event for event in voice_events(np.concatenate([tone, np.zeros(8000), tone]), 16000)
        ...            if event.cue == "pause"]
        >>> (round(pause.start, 1), round(pause.end, 1), pause.unit)
        (1.0, 1.5, 'seconds')
    """
    voice = measure_voice(samples, rate)
    loud = np.flatnonzero(voice.loud)
    if not len(loud):
        return []
    events = []
    for before, after in pairwise(map(int, loud)):
        length = (after - before - 1) * STEP
        if length >= _PAUSE_SECONDS - 1e-9:
            events.append(_event("pause", before + 1, after, length, "seconds", length / _PAUSE_SECONDS))
    for first, last in _stretches(_steady(voice), _FILLED_SECONDS):
        length = (last - first) * STEP
        events.append(_event("filled_pause", first, last, length, "seconds", length / _FILLED_SECONDS))
    return events + _changes(voice)


def _event(cue: str, first: int, last: int, value: float, unit: str, degree: float) -> CueEvent:
    """Return an event from the beginning of window `first` to that of window `last`."""
    return CueEvent(cue, round(first * STEP, 2), round(last * STEP, 2), float(value), unit, float(degree), STEP)


def _stretches(present_W: NDArray[np.bool_], least_seconds: float) -> list[tuple[int, int]]:
    """Find the first window of each long enough stretch, and the window after it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present_W, [False]]).astype(np.int8)))
    return [
        (int(first), int(last))
        for first, last in edges.reshape(-1, 2)
        if (last - first) * STEP >= least_seconds - 1e-9
    ]  # fmt: skip


def _steady(voice: Voice) -> NDArray[np.bool_]:
    """Find windows within 50 ms of steady voice."""
    ahead = round(_STEADY_SECONDS / STEP)
    if len(voice.pitch) <= ahead:
        return np.zeros(len(voice.pitch), dtype=bool)
    pitch = np.abs(voice.pitch[ahead:] - voice.pitch[:-ahead])
    change = voice.bands[ahead:] - voice.bands[:-ahead]
    weight = np.maximum(voice.bands[ahead:] - voice.bands[ahead:].max(axis=1, keepdims=True) + 30.0, 0.0)
    bands = np.sqrt((change**2 * weight).sum(axis=1) / weight.sum(axis=1))  # bands 30 dB below the loudest: noise
    calm = (pitch <= _STEADY_PITCH) & (bands <= _STEADY_BANDS)
    steady = np.zeros(len(voice.pitch), dtype=bool)
    for offset in range(ahead + 1):
        steady[offset : offset + len(calm)] |= calm
    return steady


def _changes(voice: Voice) -> list[CueEvent]:
    """Find stretches whose average over half a second leaves the clip's own median."""
    from scipy.ndimage import median_filter, uniform_filter1d

    size = round(_SMOOTH_SECONDS / STEP)
    events = []
    energy = np.where(voice.loud, 10.0 ** (voice.level / 10.0), np.nan)
    for values, cues, unit, least in (
        (energy, ("louder", "quieter"), "decibels", _LOUDER),
        (median_filter(voice.pitch, size=5, mode="nearest"), ("higher", "lower"), "semitones", _HIGHER),
    ):
        known = np.isfinite(values)
        share = uniform_filter1d(known.astype(np.float64), size, mode="constant")
        smooth = uniform_filter1d(np.where(known, values, 0.0), size, mode="constant") / np.maximum(share, 1e-9)
        there = share >= 0.25  # a quarter of the half second has voice
        if not there.any():
            continue
        if unit == "decibels":
            smooth = 10.0 * np.log10(np.maximum(smooth, 1e-12))
        own = smooth - np.median(smooth[there])
        for cue, sign in zip(cues, (1, -1), strict=True):
            for first, last in _stretches(there & (sign * own >= least), _LEAST_SECONDS):
                value = float(sign * (sign * own[first:last]).max())
                events.append(_event(cue, first, last, value, unit, abs(value) / least))
    return events


def filler_events(
    text: str | None, seconds: float, words: Sequence[tuple[str, float, float]] | None = None
) -> list[CueEvent]:
    """Fillers of a transcript such as "um" or "euh".

    Args:
        text: transcript, or None.
        seconds: length of the clip.
        words: word, start and end in seconds from the clip's beginning, where they are known; else all fillers are
            one event over the whole clip, since the text does not say when they come.

    Example:
        >>> [event] = filler_events("Um, I don't know, euh, maybe.", 4.0)
        >>> (event.start, event.end, event.value)
        (0.0, 4.0, 2.0)
    """
    if words:
        spans = [(start, end) for word, start, end in words if _FILLER.search(word)]
        return [CueEvent("filler", start, end, 1.0, "words", 1.0, STEP) for start, end in spans]
    count = len(_FILLER.findall(text or ""))
    return [CueEvent("filler", 0.0, seconds, float(count), "words", float(count), seconds)] if count else []
