"""What happens in a clip of the demo corpora, and the labels that follow from it.

Labels are computed from what is then drawn, voiced and written, each modality carrying its own part, plus a little
noise. A person's looks and voice are nuisances: no label depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpora.demo import text as demo_text
from corpora.demo.face import FaceScript, Look
from corpora.demo.voice import VoiceScript
from mmpsr.tasks import EMOTION, PERSONALITY

__all__ = ["Performance", "Person", "ambivalence", "emotion", "person", "personality"]

EMOTIONS = tuple(name for name in EMOTION.classes if name != EMOTION.neutral)
PRESENT = 0.36
"""Mean expression over face, voice and words from which an emotion is present."""

_FACES: Mapping[str, Mapping[str, float]] = {
    "Anger": {"brow_lower": 1.0, "lip_press": 0.5, "smile": -0.3, "eye_close": 0.1},
    "Disgust": {"nose_wrinkle": 1.0, "eye_close": 0.35, "smile": -0.2},
    "Fear": {"brow_raise": 0.55, "eye_close": -0.6, "yaw": 0.5, "smile": -0.2},
    "Happiness": {"smile": 1.1},
    "Sadness": {"smile": -0.8, "pitch": 0.8, "eye_close": 0.35, "gaze_y": 0.6},
    "Surprise": {"mouth_open": 0.8, "brow_raise": 0.8},
}
_VOICES: Mapping[str, Mapping[str, float]] = {
    "Anger": {"loudness": 9.0, "effort": 0.45, "pitch": -1.0},
    "Disgust": {"pitch": -5.0, "effort": -0.1, "breath": 0.25},
    "Fear": {"tremor": 0.9, "pitch": 3.0, "rate": 1.2},
    "Happiness": {"pitch_range": 1.8, "pitch": 2.0, "loudness": 2.0},
    "Sadness": {"loudness": -8.0, "effort": -0.3, "rate": -1.5, "pauses": 0.15},
    "Surprise": {"pitch": 6.0, "pitch_range": 1.2, "loudness": 2.0},
}
"""Change of the voice at full expression; `pitch` in semitones, the rest in the units of `VoiceScript`."""


@dataclass(frozen=True)
class Person:
    """Who is seen and heard in a group of clips."""

    look: Look
    pitch: float
    """Resting pitch, Hz."""
    loudness: float
    """Resting loudness, decibels below full scale."""
    tract: float
    """Factor of the formants."""
    blink_rate: float
    """Resting blinks per second."""
    manner: Mapping[str, float]
    """Standing inclinations, standard normal: the part of personality that the clips of a person share."""


@dataclass(frozen=True)
class Performance:
    """One clip: what is shown, heard and said, and its labels by table column."""

    face: FaceScript
    voice: VoiceScript
    text: str
    labels: Mapping[str, float | str]


MANNERS = ("smile", "away", "fidget", "blink", "loudness", "rate", "pauses", "unsteady", "melody")


def person(rng: np.random.Generator) -> Person:
    """Draw a person."""
    light, warmth, green = rng.normal(0.0, 1.0, 3)
    gains = np.clip(0.97 + 0.07 * light + np.array([0.05 * warmth, 0.02 * green, -0.05 * warmth]), 0.7, 1.2)
    shape = {
        "smile": -0.35 + rng.uniform(-0.12, 0.12), "lip_press": 0.15, "jaw": rng.uniform(-1.0, 1.0),
        "length": rng.uniform(-1.0, 1.0), "yaw": rng.uniform(-0.3, 0.3), "pitch": rng.uniform(-0.2, 0.2),
    }  # fmt: skip
    semitones = rng.uniform(-2.5, 2.5)
    return Person(
        look=Look(
            mirrored=bool(rng.random() < 0.5),
            gains=(float(gains[0]), float(gains[1]), float(gains[2])),
            gamma=float(rng.uniform(0.8, 1.25)),
            scale=float(rng.uniform(0.93, 1.06)),
            roll=float(rng.uniform(-5.0, 5.0)),
            shift=(float(rng.uniform(-7.0, 7.0)), float(rng.uniform(-4.0, 6.0))),
            shape=shape,
        ),
        pitch=float(165.0 * 2.0 ** (semitones / 12.0)),
        loudness=float(-22.0 + rng.uniform(-1.5, 1.5)),
        tract=float(1.0 + 0.03 * semitones + rng.uniform(-0.05, 0.05)),
        blink_rate=float(rng.uniform(0.15, 0.5)),
        manner=dict(zip(MANNERS, rng.normal(0.0, 1.0, len(MANNERS)), strict=True)),
    )


def emotion(who: Person, rng: np.random.Generator, single: bool = False) -> Performance:
    """Act out a mood with face, voice and words; each shows only part of it, and sometimes something else.

    Args:
        who: the person.
        rng: source of everything else.
        single: one label, as in MELD, instead of graded labels of several emotions, as in MOSEI.

    Returns:
        The clip; its labels are the columns of MOSEI's flat table, or MELD's `Emotion` and `Sentiment`.
    """
    mood = _single_mood(rng) if single else rng.random(6) < np.array([0.26, 0.25, 0.25, 0.36, 0.28, 0.27])
    felt = mood * rng.uniform(0.7, 1.0, 6)
    shown = felt * rng.uniform(0.6, 1.15, 6) * (rng.random(6) < 0.85)
    voiced = felt * rng.uniform(0.6, 1.15, 6) * (rng.random(6) < 0.85)
    shown, voiced = (part + (rng.random(6) < 0.06) * rng.uniform(0.4, 0.9, 6) for part in (shown, voiced))
    chance = np.concatenate([[0.25], felt + 0.04])
    themes = rng.choice(7, size=2, p=chance / chance.sum(), replace=False)
    said = np.isin(np.arange(1, 7), themes).astype(float)
    text = " ".join(
        demo_text.sentence(demo_text.EMOTION_SENTENCES[("Neutral", *EMOTIONS)[theme]], rng) for theme in themes
    )
    strength = (shown + voiced + said) / 3.0 + rng.normal(0.0, 0.03, 6)
    face = FaceScript(
        cues=_blend(_FACES, shown),
        blink_rate=who.blink_rate,
        nod=0.1 * rng.random(),
        fidget=0.1 + 0.25 * shown[EMOTIONS.index("Fear")],
    )
    labels = _meld_labels(strength) if single else _mosei_labels(strength)
    return Performance(face, _voice(who, _blend(_VOICES, voiced), rng), text, labels)


def personality(who: Person, rng: np.random.Generator) -> Performance:
    """Show a manner with face, voice and words; the five traits are weighted sums of it."""
    z = {name: np.sqrt(0.25) * who.manner[name] + np.sqrt(0.75) * rng.normal() for name in MANNERS}
    level = {theme: int(rng.integers(-1, 2)) for theme in demo_text.TRAIT_SENTENCES}
    curious, organised, kind = (level[theme] * np.sqrt(1.5) for theme in ("curious", "organised", "kind"))
    sums = {
        "openness": 0.7 * curious - 0.45 * z["away"] + 0.45 * z["melody"],
        "conscientiousness": 0.7 * organised - 0.55 * z["pauses"] - 0.35 * z["fidget"],
        "extraversion": 0.6 * z["loudness"] + 0.5 * z["smile"] + 0.4 * z["rate"] + 0.3 * kind,
        "agreeableness": 0.7 * kind + 0.6 * z["smile"] - 0.3 * z["loudness"],
        "non-neuroticism": -0.6 * z["unsteady"] - 0.4 * z["blink"] - 0.5 * z["fidget"] + 0.35 * organised,
    }
    labels: dict[str, float | str] = {}
    for name in PERSONALITY.classes:
        labels[name] = round(float(np.clip(0.5 + 0.15 * (sums[name] + rng.normal(0.0, 0.2)), 0.0, 1.0)), 4)
    face = FaceScript(
        cues={"smile": 0.15 + 0.5 * z["smile"], "eye_close": float(np.clip(0.15 + 0.22 * z["blink"], -0.4, 0.6))},
        blink_rate=0.7 * float(np.exp(0.7 * z["blink"])),
        gaze_away=float(np.clip(0.4 + 0.3 * z["away"], 0.0, 1.0)),
        fidget=float(np.clip(0.35 + 0.3 * z["fidget"], 0.0, 1.2)),
    )
    change = {
        "loudness": 4.0 * z["loudness"], "rate": 1.1 * z["rate"], "pauses": 0.13 + 0.13 * z["pauses"],
        "tremor": 0.4 + 0.35 * z["unsteady"], "pitch_range": 0.6 + 0.9 * z["melody"],
    }  # fmt: skip
    return Performance(face, _voice(who, change, rng), demo_text.traits(level, rng), labels)


def ambivalence(who: Person, rng: np.random.Generator) -> Performance:
    """Commit to a change or reject it in words, and agree or disagree with the face; hesitate in voice and words.

    Ambivalent is who shows the opposite of what they say (a conflict that neither side has alone), and who hesitates.
    """
    words = int(rng.choice([-1, 1]))
    shown = float(rng.choice([-1, 1]) * rng.uniform(0.6, 1.0))
    hedging = int(rng.integers(0, 3))
    hesitant = rng.normal()
    score = -1.0 * words * shown + 1.7 * (hedging - 1) * np.sqrt(1.5) + 1.7 * hesitant + rng.normal(0.0, 0.15)
    agrees, differs = max(shown, 0.0), max(-shown, 0.0)
    cues = {
        "smile": 0.9 * shown, "brow_raise": 0.3 * agrees, "brow_lower": 0.5 * differs,
        "lip_press": 0.3 + 0.3 * hesitant, "eye_close": float(np.clip(0.1 + 0.2 * hesitant, -0.3, 0.5)),
    }  # fmt: skip
    face = FaceScript(
        cues=cues,
        blink_rate=who.blink_rate,
        gaze_away=0.1 + 0.5 * differs + 0.15 * rng.random(),
        shake=1.0 * differs,
        nod=1.0 * agrees,
        fidget=0.15,
    )
    change = {
        "pauses": float(np.clip(0.12 + 0.12 * hesitant, 0.0, 0.45)), "rate": -0.7 * hesitant,
        "loudness": -1.5 * hesitant, "pitch_range": -0.4 * hesitant,
    }  # fmt: skip
    voice = _voice(who, change, rng, fillers=int(np.clip(round(0.8 + 0.9 * hesitant), 0, 2)))
    return Performance(face, voice, demo_text.commitment(words, hedging, rng), {"label": int(score > 0.0)})


def _single_mood(rng: np.random.Generator) -> NDArray[np.float64]:
    mood = np.zeros(6)
    if rng.random() > 0.38:
        mood[rng.choice(6, p=[0.21, 0.18, 0.14, 0.14, 0.21, 0.12])] = 1.0
    return mood


def _blend(table: Mapping[str, Mapping[str, float]], amounts: NDArray[np.float64]) -> dict[str, float]:
    """Sum up the table's rows times the amounts of the emotions."""
    total: dict[str, float] = {}
    for name, amount in zip(EMOTIONS, amounts, strict=True):
        for key, weight in table[name].items():
            total[key] = total.get(key, 0.0) + weight * float(amount)
    return total


def _voice(who: Person, change: Mapping[str, float], rng: np.random.Generator, fillers: int = 0) -> VoiceScript:
    return VoiceScript(
        seconds=float(np.round(rng.uniform(2.0, 2.5), 2)),
        pitch=who.pitch * 2.0 ** (change.get("pitch", 0.0) / 12.0),
        pitch_range=max(0.3, 1.3 + change.get("pitch_range", 0.0)),
        loudness=min(who.loudness + change.get("loudness", 0.0) + rng.normal(0.0, 0.4), -7.0),
        rate=float(np.clip(4.5 + change.get("rate", 0.0) + rng.normal(0.0, 0.2), 2.0, 8.0)),
        pauses=float(np.clip(0.1 + change.get("pauses", 0.0), 0.0, 0.6)),
        fillers=fillers,
        tremor=float(np.clip(change.get("tremor", 0.0), 0.0, 1.3)),
        breath=0.03 + change.get("breath", 0.0),
        effort=float(np.clip(0.45 + change.get("effort", 0.0), 0.0, 1.0)),
        tract=who.tract,
    )


def _mosei_labels(strength: NDArray[np.float64]) -> dict[str, float | str]:
    raw = np.where(strength >= PRESENT, strength, 0.0)
    shares = raw / raw.sum() if raw.any() else raw
    labels = dict(zip(EMOTIONS, np.round(shares, 4).tolist(), strict=True))
    labels["Neutral"] = 0.0 if raw.any() else 1.0
    return {name: labels[name] for name in EMOTION.classes}


def _meld_labels(strength: NDArray[np.float64]) -> dict[str, float | str]:
    best = int(np.argmax(strength))
    name = EMOTIONS[best] if strength[best] >= PRESENT else "Neutral"
    feeling = {"Happiness": "positive", "Neutral": "neutral"}.get(name, "negative")
    if name == "Surprise":
        feeling = "positive" if strength[EMOTIONS.index("Happiness")] > 0.1 else "negative"
    return {"Emotion": {"Happiness": "joy"}.get(name, name.lower()), "Sentiment": feeling}
