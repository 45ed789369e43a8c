"""Cue events put into words: a short paragraph per clip that a person can check against the video.

The words follow the vocabulary in which annotators describe ambivalence and hesitancy: face, eyes, head and body,
voice, and inconsistency between them. Every sentence is made from events and names their seconds. How far a cue goes
is told in graded words (slightly, clearly, strongly), how long it lasts as well (briefly, at times, often, throughout).

References:
    González-González et al., BAH dataset for ambivalence/hesitancy recognition in videos, 2025, arXiv:2505.19328.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from encoders.cues.events import CueEvent

__all__ = ["WORDING", "Narrative", "Sentence", "Wording", "narrate"]

TaskSplit = Literal["face", "eyes", "head", "voice", "mixed"]


@dataclass(frozen=True)
class Wording:
    """How events of one cue are told.

    Attributes:
        part: of the paragraph.
        clause: what happens; `{how}` is replaced by the strongest event's grade.
        counted: told by how often it happens instead of by how much of the time.
        grades: words for 1, 2 and 3 degrees.
    """

    part: TaskSplit
    clause: str
    counted: bool = False
    grades: tuple[str, str, str] = ("slightly", "clearly", "strongly")


_PAUSES = ("short", "long", "very long")
WORDING: Mapping[str, Wording] = {
    "smile": Wording("face", "the person smiles {how}"),
    "smile_one_sided": Wording("face", "the smile is one-sided"),
    "corners_down": Wording("face", "the corners of the mouth turn down {how}"),
    "brows_raised": Wording("face", "the brows rise {how}"),
    "brows_drawn": Wording("face", "a frown draws the brows together {how}"),
    "brows_lowered": Wording("face", "a frown lowers the brows {how}"),
    "lips_pressed": Wording("face", "the lips press together {how}"),
    "lips_pursed": Wording("face", "the lips purse {how}"),
    "lips_parted": Wording("face", "the lips part"),
    "mouth_open": Wording("face", "the mouth opens {how}"),
    "eyes_wide": Wording("face", "the eyes widen {how}"),
    "squint": Wording("face", "the eyes narrow {how}"),
    "gaze_away": Wording("eyes", "the gaze goes {how}", grades=("slightly away", "away", "far away")),
    "gaze_down": Wording("eyes", "the gaze drops {how}"),
    "gaze_up": Wording("eyes", "the gaze rises {how}"),
    "gaze_back": Wording("eyes", "the gaze comes back", counted=True),
    "blink": Wording("eyes", "the person blinks", counted=True),
    "eyes_closed": Wording("eyes", "the eyes are closed", counted=True),
    "eyes_stay_closed": Wording("eyes", "the eyes stay closed"),
    "nod": Wording("head", "the person nods {how}"),
    "shake": Wording("head", "the person shakes the head {how}"),
    "head_up_down": Wording("head", "the head moves up and down"),
    "head_side_to_side": Wording("head", "the head moves from side to side"),
    "head_turned": Wording("head", "the head turns aside {how}"),
    "head_lowered": Wording("head", "the head lowers {how}"),
    "head_raised": Wording("head", "the head rises {how}"),
    "head_tilted": Wording("head", "the head tilts {how}"),
    "face_hidden": Wording("head", "the face is out of sight"),
    "hand_at_face": Wording("head", "a hand is at the face"),
    "lean_forward": Wording("head", "the person leans forward {how}"),
    "lean_back": Wording("head", "the person leans back {how}"),
    "posture_shift": Wording("head", "the person shifts posture", counted=True),
    "restless": Wording("head", "the person moves {how}", grades=("a little", "restlessly", "very restlessly")),
    "shoulders_raised": Wording("head", "the shoulders rise {how}"),
    "shoulders_uneven": Wording("head", "the shoulders tilt {how}"),
    "pause": Wording("voice", "the voice pauses, the longest pause is {how}", counted=True, grades=_PAUSES),
    "filled_pause": Wording("voice", "the voice holds a steady vowel, as in a filler", counted=True),
    "filler": Wording("voice", "fillers are said"),
    "louder": Wording("voice", "the voice gets {how} louder"),
    "quieter": Wording("voice", "the voice gets {how} quieter"),
    "higher": Wording("voice", "the pitch rises {how}"),
    "lower": Wording("voice", "the pitch falls {how}"),
}
"""Cue -> how it is told, in the order of telling."""

_OTHERWISE: Mapping[TaskSplit, str] = {
    "face": "The face stays neutral.",
    "eyes": "The gaze stays on the camera.",
    "head": "Head and posture stay still.",
    "voice": "The voice flows without pauses.",
}
_GAZE = frozenset({"gaze_away", "gaze_down", "gaze_up", "gaze_back"})
_FROWN = ("brows_drawn", "brows_lowered")
_CLEAR = 2.0  # degrees of a smile that can contradict something
_MIXED: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]] = (
    ("a smile while the gaze turns away", ("smile",), ("gaze_away", "gaze_down", "gaze_up")),
    ("a smile with a shake of the head", ("smile",), ("shake",)),
    ("a smile with a frown", ("smile",), _FROWN),
    ("nodding and shaking of the head", ("nod",), ("shake",)),
    ("pressed lips under raised brows", ("lips_pressed",), ("brows_raised",)),
    ("a smile with a hand at the face", ("smile",), ("hand_at_face",)),
)
"""What contradicts each other when both are there at the same time."""
_MOST_SPANS = 4  # named in a sentence; the longest


@dataclass(frozen=True)
class Sentence:
    """One sentence and what it was made from.

    Attributes:
        text: as it is read, with seconds.
        untimed: the same without seconds, as it is embedded.
        events: all of them, in time; none where the sentence says that nothing was measured.
    """

    text: str
    untimed: str
    events: tuple[CueEvent, ...]


@dataclass(frozen=True)
class Narrative:
    """A clip's paragraph.

    Attributes:
        sentences: in the order of telling.
        limits: what the spacing of the frames cannot show, or an empty text.
    """

    sentences: tuple[Sentence, ...]
    limits: str = ""

    @property
    def events(self) -> tuple[CueEvent, ...]:
        """Every event that is told, once, in time."""
        events = dict.fromkeys(event for sentence in self.sentences for event in sentence.events)
        return tuple(sorted(events, key=lambda event: (event.start, event.end, event.cue)))

    @property
    def text(self) -> str:
        """The paragraph with seconds and limits."""
        return " ".join([sentence.text for sentence in self.sentences] + [self.limits] * bool(self.limits))

    @property
    def untimed(self) -> str:
        """The paragraph without seconds and limits, which a text encoder reads."""
        return " ".join(sentence.untimed for sentence in self.sentences)


def narrate(events: Iterable[CueEvent], seconds: float, heard: bool = True, limits: str = "") -> Narrative:
    """Word events: one sentence per cue, then one per contradiction.

    Args:
        events: in any order.
        seconds: length of the clip, against which a cue lasts briefly or throughout.
        heard: whether the clip has usable sound; without, nothing is said of the voice.
        limits: kept as they are.

    Example:
        >>> rise = CueEvent("brows_raised", 1.2, 1.8, 0.33, "IOD", 2.1, 0.2)
        >>> print(narrate([rise], seconds=10.0, heard=False).text)
        At 1.2-1.8 s the brows rise clearly, briefly. The gaze stays on the camera. Head and posture stay still.
    """
    seconds = max(seconds, 1e-3)  # of a single frame
    by_cue: dict[str, list[CueEvent]] = {}
    for event in sorted(events, key=lambda event: (event.start, event.end, event.cue)):
        by_cue.setdefault(event.cue, []).append(event)
    sentences: list[Sentence] = []
    for part, otherwise in _OTHERWISE.items():
        if part == "voice" and not heard:
            continue
        cues = {cue: by_cue[cue] for cue, wording in WORDING.items() if wording.part == part and cue in by_cue}
        still = not cues or (part == "eyes" and not _GAZE & cues.keys()) or (part == "voice" and "pause" not in cues)
        if still:
            sentences.append(Sentence(otherwise, otherwise, ()))
        sentences += [_told(_clause(cue, group, seconds), _spans(group), group) for cue, group in cues.items()]
    if not heard and "filler" in by_cue:
        fillers = by_cue["filler"]
        sentences.append(_told(_clause("filler", fillers, seconds), _spans(fillers), fillers))
    return Narrative(tuple(sentences + _mixed(by_cue, seconds)), limits)


def _told(clause: str, spans: list[tuple[float, float]], events: Sequence[CueEvent]) -> Sentence:
    return Sentence(f"At {_seconds(spans)} {clause}.", f"{clause[0].upper()}{clause[1:]}.", tuple(events))


def _spans(events: Iterable[CueEvent]) -> list[tuple[float, float]]:
    return [(event.start, event.end) for event in events]


def _clause(cue: str, events: Sequence[CueEvent], seconds: float) -> str:
    """Tell what happens, how far, and how often or how long."""
    wording = WORDING[cue]
    degree = max(event.degree for event in events)
    clause = wording.clause.format(how=wording.grades[0 if degree < 2.0 else 1 if degree < 3.0 else 2])
    if cue == "blink" and len(events) > 2:
        return f"{clause} {_blinking(len(events), seconds)}"
    if cue == "filler":
        number = round(sum(event.value for event in events))
        return f"{clause} {_times(number)}"
    if not wording.counted:
        shown = sum(event.end - event.start + min(event.resolution, seconds) for event in events)
        return f"{clause}, {_lasting(shown / seconds)}"
    head, comma, tail = clause.partition(",")
    return f"{head} {_times(len(events))}{comma}{tail}"


def _times(number: int) -> str:
    return "once" if number == 1 else "twice" if number == 2 else "several times"


def _blinking(number: int, seconds: float) -> str:
    """Word how often: people blink 10 to 30 times a minute, most at rest 17 and in talk 26 times."""
    rate = 60.0 * number / seconds
    return "very often" if rate > 45.0 else "often" if rate > 30.0 else "several times"


def _lasting(share: float) -> str:
    return "briefly" if share <= 0.15 else "at times" if share <= 0.4 else "often" if share <= 0.75 else "throughout"


def _seconds(spans: Sequence[tuple[float, float]]) -> str:
    """Tell the longest spans in time, to a tenth of a second, and how many more there are."""
    longest = sorted(spans, key=lambda span: (span[0] - span[1], span))[:_MOST_SPANS]
    named = [f"{a:.1f}" if f"{a:.1f}" == f"{b:.1f}" else f"{a:.1f}-{b:.1f}" for a, b in sorted(longest)]
    named = list(dict.fromkeys(named))
    more = len(spans) - len(longest)
    if more:
        return f"{', '.join(named)} s and {more} more {'time' if more == 1 else 'times'}"
    return f"{', '.join(named[:-1])} and {named[-1]} s" if len(named) > 1 else f"{named[0]} s"


def _mixed(by_cue: Mapping[str, Sequence[CueEvent]], seconds: float) -> list[Sentence]:
    """Find cues that contradict each other for a tenth of the clip or more, or for a moment where one is a gesture."""
    sentences = []
    for clause, ones, others in _MIXED:
        shared: dict[tuple[float, float], tuple[CueEvent, CueEvent]] = {}
        for one in (event for cue in ones for event in by_cue.get(cue, ())):
            for other in (event for cue in others for event in by_cue.get(cue, ())):
                first, last = max(one.start, other.start), min(one.end, other.end)
                if first <= last and (one.cue != "smile" or one.degree >= _CLEAR):
                    shared[first, last] = one, other
        resolution = max((event.resolution for pair in shared.values() for event in pair), default=0.0)
        lasting = sum(last - first + resolution for first, last in shared)
        if shared and (lasting >= 0.1 * seconds or {"nod", "shake"} & {*ones, *others}):
            both = dict.fromkeys(event for pair in shared.values() for event in pair)
            events = sorted(both, key=lambda event: (event.start, event.end, event.cue))
            sentences.append(_told(f"there are mixed signs, {clause}", sorted(shared), events))
    return sentences
