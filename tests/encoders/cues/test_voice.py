from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from corpora.demo.voice import SAMPLE_RATE, VoiceScript, speak
from encoders.cues.events import CueEvent
from encoders.cues.voice import filler_events, measure_voice, resample, voice_events

RATE = 16_000


def voice(
    seconds: float, hertz: float | NDArray[np.float64] = 150.0, loudness: float | NDArray[np.float64] = 0.3
) -> NDArray[np.float32]:
    """A vowel-like tone: twelve harmonics, falling by 6 dB an octave."""
    count = round(seconds * RATE)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, count)) / RATE
    tone = sum(np.sin(number * phase) / number for number in range(1, 13))
    return np.asarray(loudness * tone, dtype=np.float32)


def speech(seconds: float, octaves: float = 0.25) -> NDArray[np.float32]:
    """Like speech: four syllables a second, whose pitch goes up and down by a quarter of an octave."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 150.0 * 2.0 ** (octaves * np.sin(2 * np.pi * 3.1 * time))
    return voice(seconds, pitch, 0.3 * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * time)))


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


def told(*parts: NDArray[np.float32], cue: str) -> list[CueEvent]:
    return [event for event in voice_events(np.concatenate(parts), RATE) if event.cue == cue]


@pytest.mark.parametrize("hertz", [80.0, 150.0, 240.0, 400.0])
def test_pitch_of_a_steady_tone(hertz: float) -> None:
    measured = measure_voice(voice(0.5, hertz), RATE).pitch[5:-5]
    assert measured == pytest.approx(12 * np.log2(hertz), abs=0.1)  # a tenth of a semitone


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert np.isnan(measure_voice(noise, RATE).pitch).mean() > 0.95
    assert voice_events(noise, RATE) == []
    assert voice_events(silence(1.0)[:50], RATE) == []


def test_pauses_by_hand_and_at_any_loudness() -> None:
    # 1 s voice, 0.4 s quiet, 1 s voice, 0.1 s quiet (too short), 0.5 s voice, quiet to the end
    parts = [speech(1.0), silence(0.4), speech(1.0), silence(0.1), speech(0.5), silence(0.5)]
    samples = np.concatenate(parts)
    for factor in (1.0, 0.01):
        (pause,) = [event for event in voice_events(samples * np.float32(factor), RATE) if event.cue == "pause"]
        assert (pause.start, pause.end) == (pytest.approx(1.0, abs=0.03), pytest.approx(1.4, abs=0.03))
        assert pause.value == pytest.approx(pause.end - pause.start)
        assert (pause.unit, pause.resolution) == ("seconds", 0.01)


def test_a_steady_vowel_is_a_filled_pause_and_speech_is_none() -> None:
    (held,) = told(speech(1.0), silence(0.3), voice(0.6), silence(0.3), speech(1.0), cue="filled_pause")
    assert (held.start, held.end) == (pytest.approx(1.3, abs=0.06), pytest.approx(1.9, abs=0.06))
    assert held.degree == pytest.approx(held.value / 0.3)
    assert told(speech(4.0), cue="filled_pause") == []
    assert told(speech(1.0), silence(0.3), voice(0.2), silence(0.3), speech(1.0), cue="filled_pause") == []


def test_a_gliding_vowel_is_no_filled_pause() -> None:
    glide = voice(0.6, 150.0 * 2.0 ** np.linspace(0, 1.0, round(0.6 * RATE)))  # 12 semitones in 0.6 s: 1 in 50 ms
    assert told(speech(1.0), silence(0.3), glide, cue="filled_pause") == []


def test_a_vowel_that_beats_or_changes_is_no_filled_pause() -> None:
    time = np.arange(RATE) / RATE
    syllables = voice(1.0, loudness=0.3 * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * time)))
    bright = np.diff(voice(1.0), prepend=np.float32(0.0)) * 8
    vowels = np.where(np.sin(2 * np.pi * 4 * time) > 0, bright, voice(1.0)).astype(np.float32)
    for sound in (syllables, vowels):
        assert told(speech(1.0), silence(0.3), sound, cue="filled_pause") == []


def test_louder_and_quieter_stretches() -> None:
    usual, loud = speech(2.0), np.float32(4.0) * speech(1.0)  # 12 dB
    (event,) = told(usual, loud, usual, cue="louder")
    assert (event.start, event.end) == (pytest.approx(2.0, abs=0.25), pytest.approx(3.0, abs=0.25))
    assert event.value == pytest.approx(12.0, abs=1.5)
    (event,) = told(usual, speech(1.0) / np.float32(4.0), usual, cue="quieter")
    assert event.value == pytest.approx(-12.0, abs=1.5)
    assert told(usual, usual, cue="louder") == []


def test_higher_and_lower_stretches() -> None:
    usual = speech(2.0, octaves=0.1)
    for octave, cue, value in ((1.0, "higher", 12.0), (-0.75, "lower", -9.0)):
        (event,) = told(usual, voice(1.0, 150.0 * 2.0**octave), usual, cue=cue)
        assert (event.start, event.end) == (pytest.approx(2.0, abs=0.25), pytest.approx(3.0, abs=0.25))
        assert event.value == pytest.approx(value, abs=1.0)
    assert told(usual, usual, cue="higher") == told(usual, usual, cue="lower") == []


def test_fillers_of_a_script_are_heard() -> None:
    counts: dict[int, list[int]] = {0: [], 2: []}
    for seed in range(12):
        for fillers, found in counts.items():
            sound, _ = speak(VoiceScript(seconds=3.0, fillers=fillers), np.random.default_rng(seed))
            found.append(sum(event.cue == "filled_pause" for event in voice_events(sound, SAMPLE_RATE)))
    assert np.mean(counts[0]) < 0.3
    assert np.mean(counts[2]) > 1.5


@pytest.mark.parametrize(
    ("text", "count"),
    [("Um, I don't know, uh, maybe.", 2), ("Euh, je ne sais pas, heu.", 2), ("Uhm... mmm, hmm?", 3), ("UMM", 1),
     ("The umbrella and the human hum.", 0), ("er sagt, eh bien", 0), ("", 0), (None, 0)],
)  # fmt: skip
def test_fillers_in_words(text: str | None, count: int) -> None:
    events = filler_events(text, 4.0)
    assert [(event.start, event.end, event.value) for event in events] == [(0.0, 4.0, float(count))] * bool(count)


def test_fillers_have_their_own_seconds_where_words_have() -> None:
    words = [("Um,", 0.3, 0.7), ("I", 0.8, 0.9), ("guess", 0.9, 1.3), ("uh", 1.5, 1.75)]
    events = filler_events("Um, I guess uh", 4.0, words)
    assert [(event.start, event.end) for event in events] == [(0.3, 0.7), (1.5, 1.75)]


@pytest.mark.parametrize(("rate", "count"), [(16_000, 4801), (44_100, 5000), (6_000, 700), (8_000, 10)])
def test_samples_are_resampled_as_scipy_does_bit_for_bit(rate: int, count: int) -> None:
    from scipy.signal import resample_poly

    samples = np.random.default_rng(0).normal(size=count).astype(np.float32)
    np.testing.assert_array_equal(resample(samples, rate, 8_000), resample_poly(samples, 8_000, rate))
