"""What happens when in a video of the demo's corpus in time: spells of hesitation, and cues that mean nothing alone.

In a spell the face, the voice and the words hesitate together: brows move, lips press, the eyes look away; the voice
falls, breathes and wavers; fillers stand between short phrases. Outside, each of these comes alone and briefly, so that
neither a frame nor a modality suffices. How much anybody shows at rest is a shift of the person's own.

T frames at `FPS`, N samples at `SAMPLE_RATE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from corpora.demo import text as demo_text
from corpora.demo.face import CUES, FPS, FaceScript, cue_curves
from corpora.demo.script import Person
from corpora.demo.voice import FILLER, FILLER_SECONDS, SAMPLE_RATE, VOWELS, pulses, resonances, slow_noise, smooth

__all__ = ["FILLERS", "Chunk", "Scene", "face_of", "scene", "sound_of"]

Floats = NDArray[np.float64]

FILLERS = ("um", "well", "uh", "hm")
_MODALITIES = ("face", "voice", "words")
_RATE = 4.6  # syllables per second
_SHOWN = 0.8  # chance of each cue of a modality to be among those that come
_RISE = 0.2  # seconds in which a cue comes and goes
_APART = 0.4  # seconds between what happens and what happens next


class Chunk(NamedTuple):
    """What is said in a span of seconds."""

    text: str
    start: float
    end: float

    @property
    def is_filler(self) -> bool:
        """Whether it is a sound of hesitation and nothing else."""
        return self.text.strip(" ,.").lower() in FILLERS


class _Event(NamedTuple):
    """A spell, or a cue of one modality alone, between two times in seconds."""

    modality: str
    start: float
    end: float


@dataclass(frozen=True)
class Scene:
    """One video: its cause and what shows it.

    Attributes:
        num_frames: T.
        spells: first and last frame of each spell of hesitation, both in it.
        cues: what is added to each cue of the face, `[T]`.
        loudness: what is added to the voice, decibels, `[T]`.
        tremor: unsteadiness of the voice, `[T]`.
        breath: breath that is heard beside the voice, `[T]`.
        chunks: what is said when, one after the other.
        alone: cues that come alone, as modality, start and end in seconds.
    """

    num_frames: int
    spells: tuple[tuple[int, int], ...]
    cues: Mapping[str, Floats]
    loudness: Floats
    tremor: Floats
    breath: Floats
    chunks: tuple[Chunk, ...]
    alone: tuple[tuple[str, float, float], ...]

    @property
    def seconds(self) -> float:
        """Length."""
        return self.num_frames / FPS

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(chunk.text for chunk in self.chunks)

    def labels(self) -> NDArray[np.int8]:
        """Label every frame: 1 in a spell, else 0, `[T]`."""
        labels = np.zeros(self.num_frames, dtype=np.int8)
        for first, last in self.spells:
            labels[first : last + 1] = 1
        return labels


def scene(who: Person, is_present: bool, seconds: tuple[float, float], rng: np.random.Generator) -> Scene:
    """Write the script of one video.

    Args:
        who: the person.
        is_present: whether there is a spell of hesitation, or two.
        seconds: shortest and longest length.
        rng: source of everything else.
    """
    num_frames = round(rng.uniform(*seconds) * FPS)
    length = num_frames / FPS
    events: list[_Event] = []
    spells: list[tuple[int, int]] = []
    for _ in range(1 + int(rng.random() < 0.4) if is_present else 0):
        span = _free_span(events, length, rng.uniform(1.0, 3.0 if not spells else 2.0), rng)
        if span is not None:
            first, last = round(span[0] * FPS), round(span[1] * FPS) - 1
            spells.append((first, last))
            events.append(_Event("spell", first / FPS, (last + 1) / FPS))
    for modality in rng.permutation(np.array(_MODALITIES * 3)):
        span = _free_span(events, length, rng.uniform(0.5, 1.5), rng)
        if span is not None and rng.random() < 0.8:
            events.append(_Event(str(modality), *span))
    cues = {name: np.zeros(num_frames) for name in ("brow_raise", "brow_lower", "lip_press", "gaze_x", "gaze_y")}
    cues["brow_raise"] += 0.12 * abs(who.manner["fidget"])
    cues["lip_press"] += 0.12 * abs(who.manner["pauses"])
    loudness, breath = np.zeros(num_frames), np.full(num_frames, 0.1 + 0.1 * abs(who.manner["melody"]))
    tremor = np.full(num_frames, 0.1 + 0.1 * abs(who.manner["unsteady"]))
    brow = "brow_lower" if who.manner["smile"] > 0.0 else "brow_raise"
    for event in events:
        shown = rng.random(6) < _SHOWN
        parts = [_part(event, rng) for _ in range(6)]
        curves = [
            float(rng.uniform(0.55, 1.0)) * _curve(num_frames, *part) * is_shown
            for part, is_shown in zip(parts, shown, strict=True)
        ]
        if event.modality in ("spell", "face"):
            cues[brow] += 0.9 * curves[0]
            cues["lip_press"] += 0.9 * curves[1]
            cues["gaze_x"] += rng.choice([-1.0, 1.0]) * curves[2]
            cues["gaze_y"] += 0.5 * curves[2]
        if event.modality in ("spell", "voice"):
            loudness -= 8.0 * curves[3]
            tremor += 1.1 * curves[4]
            breath += 1.1 * curves[5]
    alone = tuple((event.modality, event.start, event.end) for event in events if event.modality != "spell")
    chunks = _chunks(events, length, rng)
    ordered = tuple(sorted(spells))
    return Scene(num_frames, ordered, cues, loudness, tremor, breath, chunks, alone)


def _free_span(
    events: Sequence[_Event], length: float, wanted: float, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Draw a span that keeps its distance from all events, and from both ends of the video; None where none is free."""
    for _ in range(20):
        start = rng.uniform(0.7, length - wanted - 0.5)
        end = start + wanted
        if all(end + _APART < event.start or start > event.end + _APART for event in events):
            return float(start), float(end)
    return None


def _part(event: _Event, rng: np.random.Generator) -> tuple[float, float]:
    """Draw the part of an event in which one cue shows it: two thirds of it at least."""
    length = (event.end - event.start) * rng.uniform(0.67, 1.0)
    start = event.start + rng.uniform(0.0, event.end - event.start - length)
    return float(start), float(start + length)


def _curve(num_frames: int, start: float, end: float) -> Floats:
    """Draw a cue that comes and goes with soft edges, half of it at both times, `[T]`."""
    time = np.arange(num_frames) / FPS
    rise, fall = (time - start) / _RISE + 0.5, (end - time) / _RISE + 0.5
    return np.clip(np.minimum(rise, fall), 0.0, 1.0)


def _chunks(events: Sequence[_Event], length: float, rng: np.random.Generator) -> tuple[Chunk, ...]:
    """Say something from beginning to end: phrases with short gaps, in spells fillers, short phrases and long gaps."""
    hesitant = sorted((event.start, event.end) for event in events if event.modality in ("spell", "words"))
    in_spell = {event.start: event.modality == "spell" for event in events}
    words: list[str] = []
    chunks: list[Chunk] = []
    time, filler_next = 0.25, True
    while time < length - 0.6:
        while len(words) < 5:
            templates = (
                demo_text.COMMITMENT[int(rng.choice([-1, 1]))]
                if rng.random() < 0.4
                else demo_text.EMOTION_SENTENCES["Neutral"]
            )
            words += demo_text.sentence(templates, rng).split()
        now = next((span for span in hesitant if span[0] - 0.1 <= time < span[1] - 0.2), None)
        following = min((start for start, _ in hesitant if start > time + 0.05), default=length - 0.2)
        if now is not None and filler_next:
            end = min(time + FILLER_SECONDS, now[1])
            chunks.append(Chunk(str(rng.choice(np.array(FILLERS))) + ",", time, end))
            time = end + (rng.uniform(0.2, 0.45) if in_spell[now[0]] else 0.08)
            filler_next = not in_spell[now[0]]
            if filler_next:  # a filler alone: speech goes on after it
                hesitant.remove(now)
            continue
        filler_next = True
        num_words = int(rng.integers(1, 3)) if now is not None else int(rng.integers(2, 5))
        said = words[:num_words]
        end = min(time + sum(_syllables_of(word) for word in said) / _RATE, following if now is None else now[1] + 0.3)
        if end - time < 0.2:  # too little time before a spell
            time = following
            continue
        del words[:num_words]
        chunks.append(Chunk(" ".join(said), time, end))
        time = end + (rng.uniform(0.25, 0.5) if now is not None else rng.uniform(0.06, 0.2))
    return tuple(Chunk(text, round(start, 3), round(min(end, length), 3)) for text, start, end in chunks)


def _syllables_of(word: str) -> int:
    """Count groups of vowels, at least one."""
    letters = [letter in "aeiouy" for letter in word.lower()]
    return max(sum(one and not before for before, one in zip([False, *letters], letters, strict=False)), 1)


def face_of(
    script: Scene, who: Person, envelope: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute cues `[T, K]` and head `[T, 3]` as `corpora.demo.face.cue_curves`, with what the script adds.

    Args:
        script: the video.
        who: the person.
        envelope: of the voice at the frames, `[T]`; the mouth follows it.
        rng: source of blinks, drift and other unsteadiness.
    """
    rest = FaceScript(cues={"smile": 0.1}, blink_rate=who.blink_rate, fidget=0.1, gaze_away=0.0)
    cues, head = cue_curves(rest, who.look, envelope, rng)
    for name, curve in script.cues.items():
        low = -1.2 if name.startswith("gaze") else 0.0
        column = CUES.index(name)
        cues[:, column] = np.clip(cues[:, column] + curve, low, 1.2)
    return cues, head


def sound_of(script: Scene, who: Person, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Synthesise the sound, as `corpora.demo.voice.speak` with a loudness, tremor and breath that change.

    Returns:
        Samples in [-1, 1], `[N]`, and the envelope of the voice in [0, 1], `[N]`.
    """
    from scipy.signal import lfilter, sosfilt

    num_samples = round(script.seconds * SAMPLE_RATE)
    time = np.arange(num_samples) / SAMPLE_RATE
    frames = np.arange(script.num_frames) / FPS
    loudness, tremor, breath = (
        np.interp(time, frames, curve) for curve in (script.loudness, script.tremor, script.breath)
    )
    envelope, accents = np.zeros(num_samples), np.zeros(num_samples)
    weights = np.zeros((len(VOWELS), num_samples))
    for chunk in script.chunks:
        count = 1 if chunk.is_filler else sum(_syllables_of(word) for word in chunk.text.split())
        edges = np.linspace(chunk.start, chunk.end, count + 1) * SAMPLE_RATE
        for first, last in zip(edges[:-1].astype(int), edges[1:].astype(int), strict=True):
            last = min(first + int(0.94 * (last - first)), num_samples)
            if last - first < 2:
                continue
            vowel = FILLER if chunk.is_filler else int(rng.integers(0, FILLER))
            arc = np.sin(np.pi * np.linspace(0.0, 1.0, last - first)) ** (0.25 if chunk.is_filler else 0.7)
            envelope[first:last] = arc * (0.9 if chunk.is_filler else rng.uniform(0.75, 1.0))
            accents[first:last] = 0.0 if chunk.is_filler else rng.normal(0.0, 1.0)
            weights[vowel, first:last] = 1.0
    voiced = envelope > 0.2
    contour = smooth(accents, 0.03) + 0.8 * (0.5 - time / script.seconds)
    contour = (contour - contour[voiced].mean()) * 1.3 / max(float(contour[voiced].std()), 0.25)
    wobble = tremor * (1.1 * np.sin(2.0 * np.pi * 6.3 * time) + 0.5 * slow_noise(time, 25.0, rng))
    pitch = who.pitch * 2.0 ** ((contour + wobble + 0.08 * slow_noise(time, 30.0, rng)) / 12.0)
    noise = rng.normal(0.0, 1.0, num_samples)
    dullness = 0.985 - 0.3 * 0.45
    source = lfilter([1.0 - dullness], [1.0, -dullness], pulses(np.clip(pitch, 60.0, 600.0)) + 0.2 * breath * noise)
    spoken = np.zeros(num_samples)
    for vowel, weight in enumerate(weights):
        if weight.any():
            spoken += smooth(weight, 0.012) * sosfilt(resonances(vowel, round(who.tract, 2)), source)
    spoken *= envelope * (1.0 + 0.5 * tremor * slow_noise(time, 9.0, rng)).clip(0.2, 2.0)
    level = float(np.sqrt(np.mean(spoken[voiced] ** 2)))
    spoken *= 10.0 ** ((who.loudness + loudness) / 20.0) / max(level, 1e-9)
    air = 10.0 ** (-44.0 / 20.0) * breath * lfilter([1.0, -0.9], [1.0], rng.normal(0.0, 1.0, num_samples))
    room = 10.0 ** (-62.0 / 20.0) * lfilter([0.3], [1.0, -0.7], rng.normal(0.0, 1.0, num_samples))
    return np.tanh(spoken + air + room).astype(np.float32), np.clip(envelope, 0.0, 1.0).astype(np.float32)
