"""The demo's voices: glottal pulses through vowel resonances, with pauses, fillers and breath.

It is no speech: the syllables say nothing. Its loudness, pitch, pitch range, rate, pauses and unsteadiness are what a
script asks for, so that acoustic features can find them. N samples at `SAMPLE_RATE`, S syllables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FILLER", "FILLER_SECONDS", "SAMPLE_RATE", "VOWELS", "VoiceScript", "pulses", "resonances", "slow_noise", "smooth",
    "speak",
]  # fmt: skip

SAMPLE_RATE = 16_000

VOWELS = (
    (730, 1090, 2440), (530, 1840, 2480), (300, 2250, 3000), (570, 840, 2410), (330, 900, 2240), (500, 1450, 2450),
)  # fmt: skip
"""Formant frequencies in Hz of a, e, i, o, u and of the neutral vowel, which fillers use."""
_BANDWIDTHS = (80.0, 100.0, 140.0)
FILLER = len(VOWELS) - 1
"""Which of the vowels fillers use."""
FILLER_SECONDS = 0.42


@dataclass(frozen=True)
class VoiceScript:
    """How a voice sounds in one clip."""

    seconds: float = 2.3
    """Length of the sound."""
    pitch: float = 170.0
    """Median fundamental frequency, Hz."""
    pitch_range: float = 1.5
    """Standard deviation of the pitch, semitones."""
    loudness: float = -20.0
    """Root mean square of the voiced parts, decibels below full scale."""
    rate: float = 4.5
    """Syllables per second while speaking."""
    pauses: float = 0.15
    """Share of the time that is silent."""
    fillers: int = 0
    """Number of long steady vowels (um)."""
    tremor: float = 0.0
    """Unsteadiness of pitch and loudness in [0, 1]."""
    breath: float = 0.02
    """Breath noise relative to the voice."""
    effort: float = 0.5
    """Vocal effort in [0, 1]: flat spectra at 1, dull ones at 0."""
    tract: float = 1.0
    """Factor of all formants: a person's vocal tract."""


def speak(script: VoiceScript, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Synthesise one clip's sound.

    Args:
        script: how the voice sounds.
        rng: source of syllables, timing and noise.

    Returns:
        Samples in [-1, 1], `[N]`, and the envelope of the voice in [0, 1], `[N]`, which mouths can follow.
    """
    from scipy.signal import lfilter, sosfilt

    num_samples = round(script.seconds * SAMPLE_RATE)
    time = np.arange(num_samples) / SAMPLE_RATE
    starts, lengths, vowels = _syllables(script, rng)
    envelope, accents = np.zeros(num_samples), np.zeros(num_samples)
    weights = np.zeros((len(VOWELS), num_samples))
    for start, length, vowel in zip(starts, lengths, vowels, strict=True):
        first, last = int(start * SAMPLE_RATE), min(int((start + length) * SAMPLE_RATE), num_samples)
        if last - first < 2:
            continue
        steady = vowel == FILLER
        arc = np.sin(np.pi * np.linspace(0.0, 1.0, last - first)) ** (0.25 if steady else 0.7)
        envelope[first:last] = arc * (0.9 if steady else rng.uniform(0.75, 1.0))
        accents[first:last] = 0.0 if steady else rng.normal(0.0, 1.0)
        weights[vowel, first:last] = 1.0
    contour = smooth(accents, 0.03) + 0.8 * (0.5 - time / script.seconds)
    voiced = envelope > 0.2
    contour = (contour - contour[voiced].mean()) * script.pitch_range / max(float(contour[voiced].std()), 0.25)
    vibrato = np.sin(2.0 * np.pi * 6.3 * time + rng.uniform(0.0, 2.0 * np.pi))
    wobble = script.tremor * (1.1 * vibrato + 0.5 * slow_noise(time, 25.0, rng))
    pitch = script.pitch * 2.0 ** ((contour + wobble + 0.08 * slow_noise(time, 30.0, rng)) / 12.0)
    source = pulses(np.clip(pitch, 60.0, 600.0)) + script.breath * rng.normal(0.0, 1.0, num_samples)
    dullness = 0.985 - 0.3 * float(np.clip(script.effort, 0.0, 1.0))
    source = lfilter([1.0 - dullness], [1.0, -dullness], source)
    spoken = np.zeros(num_samples)
    for vowel, weight in enumerate(weights):
        if weight.any():
            spoken += smooth(weight, 0.012) * sosfilt(resonances(vowel, round(script.tract, 2)), source)
    spoken *= envelope * (1.0 + 0.5 * script.tremor * slow_noise(time, 9.0, rng)).clip(0.2, 2.0)
    level = float(np.sqrt(np.mean(spoken[voiced] ** 2)))
    spoken *= 10.0 ** (script.loudness / 20.0) / max(level, 1e-9)
    room = 10.0 ** (-62.0 / 20.0) * lfilter([0.3], [1.0, -0.7], rng.normal(0.0, 1.0, num_samples))
    sound = np.tanh(spoken + room)
    return sound.astype(np.float32), np.clip(envelope, 0.0, 1.0).astype(np.float32)


def _syllables(
    script: VoiceScript, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Draw starts and lengths in seconds and vowels of the syllables, `[S]` each."""
    filling = script.fillers * FILLER_SECONDS
    silent = float(np.clip(script.pauses, 0.0, 0.7)) * script.seconds
    talking = max(script.seconds - filling - silent, 0.35)
    num_spoken = max(round(talking * script.rate), 2)
    lengths = rng.uniform(0.75, 1.25, num_spoken)
    lengths = np.concatenate([lengths * talking / lengths.sum(), np.full(script.fillers, FILLER_SECONDS)])
    vowels = np.concatenate([rng.integers(0, len(VOWELS) - 1, num_spoken), np.full(script.fillers, FILLER)])
    order = rng.permutation(len(lengths)) if script.fillers else np.arange(len(lengths))
    lengths, vowels = lengths[order], vowels[order]
    gaps = np.zeros(len(lengths))
    num_gaps = min(1 + int(silent / 0.45), len(gaps))
    gaps[rng.choice(len(gaps), num_gaps, replace=False)] = rng.uniform(0.6, 1.4, num_gaps)
    gaps *= silent / gaps.sum()
    return np.cumsum(gaps) + np.cumsum(lengths) - lengths, lengths * 0.94, vowels


def pulses(pitch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place one impulse per period of `pitch` (Hz), split over two samples so that periods need not be whole, `[N]`."""
    phase = np.cumsum(pitch) / SAMPLE_RATE
    at = np.flatnonzero(np.diff(np.floor(phase)) > 0)
    late = (phase[at + 1] - np.floor(phase[at + 1])) * SAMPLE_RATE / pitch[at + 1]
    late = np.clip(late, 0.0, 1.0)
    source = np.zeros(len(pitch))
    source[at + 1] += 1.0 - late
    source[at] += late
    return source * 10.0


def smooth(values: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
    """Take a running mean, `[N]`."""
    from scipy.ndimage import uniform_filter1d

    return uniform_filter1d(values, max(int(seconds * SAMPLE_RATE), 1), mode="nearest")


def slow_noise(time: NDArray[np.float64], hertz: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw slow noise of unit size with `hertz` free values per second, `[N]`."""
    knots = np.arange(-1.0, time[-1] * hertz + 3.0)
    return np.interp(time * hertz, knots, rng.normal(0.0, 1.0, len(knots)))


@cache
def resonances(vowel: int, tract: float) -> NDArray[np.float64]:
    """Make the second-order sections of a vowel's three formants, `[3, 6]`."""
    sections = []
    for formant, bandwidth in zip(VOWELS[vowel], _BANDWIDTHS, strict=True):
        radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
        angle = 2.0 * np.pi * min(formant * tract, 7000.0) / SAMPLE_RATE
        poles = (1.0, -2.0 * radius * np.cos(angle), radius**2)
        sections.append([sum(poles), 0.0, 0.0, *poles])
    return np.array(sections)
