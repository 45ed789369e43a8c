from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest

from encoders.cues.events import CueEvent
from encoders.cues.narration import WORDING, Narrative, Sentence, narrate

STILL = "The face stays neutral. The gaze stays on the camera. Head and posture stay still."


def event(cue: str, start: float, end: float | None = None, degree: float = 1.0, value: float = 1.0) -> CueEvent:
    return CueEvent(cue, start, start if end is None else end, value, "IOD", degree, 0.1)


def told(*events: CueEvent, seconds: float = 10.0, heard: bool = False) -> Narrative:
    return narrate(events, seconds, heard)


def sentence(*events: CueEvent, seconds: float = 10.0) -> Sentence:
    (found,) = [each for each in told(*events, seconds=seconds).sentences if each.events]
    return found


def named_seconds(text: str) -> set[float]:
    return {float(number) for number in re.findall(r"\d+\.\d", text)}


def test_nothing_happens() -> None:
    assert told().text == told().untimed == STILL
    assert told(heard=True).text == f"{STILL} The voice flows without pauses."
    assert told().events == ()
    assert narrate([], 3.0, heard=False, limits="Too few.").text == f"{STILL} Too few."
    assert narrate([], 3.0, heard=False, limits="Too few.").untimed == STILL


def test_a_sentence_names_its_seconds() -> None:
    found = sentence(event("brows_raised", 1.2, 1.8))
    assert found.text == "At 1.2-1.8 s the brows rise slightly, briefly."
    assert found.untimed == "The brows rise slightly, briefly."
    assert found.events == (event("brows_raised", 1.2, 1.8),)


@pytest.mark.parametrize(("degree", "word"), [(1.0, "slightly"), (2.0, "clearly"), (3.5, "strongly")])
def test_how_much_is_graded(degree: float, word: str) -> None:
    weaker = event("smile", 1.0, 1.2)
    assert f"smiles {word}," in sentence(weaker, event("smile", 4.0, 4.3, degree=degree)).text


@pytest.mark.parametrize(
    ("last", "word"),
    [(1.4, "briefly"), (4.9, "at times"), (8.4, "often"), (8.5, "throughout")],  # (last - 1 + 0.1) of 10 s
)
def test_how_long_is_graded(last: float, word: str) -> None:
    assert sentence(event("smile", 1.0, last)).untimed == f"The person smiles slightly, {word}."


@pytest.mark.parametrize(
    ("count", "seconds", "words"),
    [(1, 10.0, "once"), (2, 10.0, "twice"), (3, 10.0, "several times"), (3, 5.5, "often"), (3, 3.5, "very often")],
)
def test_blinks_are_counted_and_rated(count: int, seconds: float, words: str) -> None:
    # 3 in 10 s are 18 a minute, as at rest; in 5.5 s 32.7, in 3.5 s 51.4
    blinks = [event("blink", 0.5 + number) for number in range(count)]
    assert sentence(*blinks, seconds=seconds).untimed == f"The person blinks {words}."


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ([(1.0, 1.0)], "At 1.0 s"),
        ([(1.0, 1.04)], "At 1.0 s"),
        ([(1.0, 2.0), (3.0, 3.0)], "At 1.0-2.0 and 3.0 s"),
        ([(1.0, 2.0), (3.0, 3.0), (4.0, 5.5)], "At 1.0-2.0, 3.0 and 4.0-5.5 s"),
        ([(0.0, 0.1), (1.0, 2.0), (3.0, 3.2), (4.0, 5.5), (6.0, 7.0)],
         "At 1.0-2.0, 3.0-3.2, 4.0-5.5, 6.0-7.0 s and 1 more time"),
    ],
)  # fmt: skip
def test_the_longest_spans_are_named_in_time(spans: list[tuple[float, float]], words: str) -> None:
    assert sentence(*(event("smile", *span) for span in reversed(spans))).text.startswith(f"{words} the person")


@pytest.mark.parametrize(("longest", "words"), [(0.3, "short"), (0.6, "long"), (1.0, "very long")])
def test_pauses_are_counted_and_the_longest_graded(longest: float, words: str) -> None:
    pauses = [event("pause", 1.0, 1.3, degree=0.3 / 0.25), event("pause", 2.0, 2.0 + longest, degree=longest / 0.25)]
    narrative = told(*pauses, heard=True)
    assert narrative.untimed.endswith(f"The voice pauses twice, the longest pause is {words}.")
    assert "without pauses" not in narrative.text


def test_fillers_of_the_transcript_are_told_with_and_without_sound() -> None:
    filler = event("filler", 0.0, 10.0, value=2.0)
    assert told(filler).untimed == f"{STILL} Fillers are said twice."
    assert told(filler, heard=True).untimed == f"{STILL} The voice flows without pauses. Fillers are said twice."


def test_every_cue_has_its_own_words() -> None:
    found = [told(event(cue, 1.0, 2.0), heard=True).sentences for cue in WORDING]
    words = {each.untimed for sentences in found for each in sentences if each.events}
    assert len(words) == len(WORDING)
    assert all(re.fullmatch(r"[A-Z][a-z, -]+\.", each) for each in words)


def test_the_gaze_stays_unless_it_goes() -> None:
    assert "The gaze stays on the camera. At 1.0 s the person blinks once." in told(event("blink", 1.0)).text
    assert "stays on the camera" not in told(event("gaze_down", 1.0)).text


def test_mixed_signs_need_the_same_moment() -> None:
    smile, away = event("smile", 1.0, 3.0, degree=2.5), event("gaze_away", 2.0, 4.0)
    mixed = told(smile, away).sentences[-1]
    assert mixed.text == "At 2.0-3.0 s there are mixed signs, a smile while the gaze turns away."
    assert mixed.events == (smile, away)
    assert "mixed" not in told(smile, event("gaze_away", 3.1, 5.0)).text
    assert "mixed" not in told(event("smile", 1.0, 3.0, degree=1.5), away).text  # a slight smile
    assert "mixed" not in told(smile, event("gaze_away", 2.0, 2.5)).text  # 0.6 of 10 s
    assert "a smile with a shake of the head" in told(smile, event("shake", 2.0, 2.5)).text  # a gesture is short


MANY: Mapping[str, list[CueEvent]] = {
    f"seed {seed}": [
        event(str(cue), float(start), float(start + length), float(degree))
        for cue, start, length, degree in zip(
            rng.choice(list(WORDING), 30), rng.uniform(0, 9, 30).round(2), rng.exponential(0.5, 30).round(2),
            rng.uniform(1, 4, 30), strict=True,
        )
    ]
    for seed, rng in ((seed, np.random.default_rng(seed)) for seed in range(5))
}  # fmt: skip


@pytest.mark.parametrize("events", MANY.values(), ids=MANY.keys())
def test_every_second_of_a_sentence_is_that_of_one_of_its_events(events: list[CueEvent]) -> None:
    narrative = told(*events, heard=True)
    for each in narrative.sentences:
        assert named_seconds(each.text) <= {float(f"{second:.1f}") for e in each.events for second in (e.start, e.end)}
        assert bool(named_seconds(each.text)) == bool(each.events)
        assert not re.search(r"\d", each.untimed)
    assert set(narrative.events) == set(events)  # nothing measured is left untold


def test_the_order_of_events_does_not_matter() -> None:
    events = MANY["seed 0"]
    assert told(*events) == told(*reversed(events))
