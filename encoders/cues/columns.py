"""Columns of `mmpsr measure`: what is measured of a recording over time, with units.

The header of its tables, the list that the command prints, and the page of the documents are all made from `COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from encoders.cues.narration import WORDING, Wording
from encoders.face.measures import CUES

__all__ = ["COLUMNS", "EVENT", "PARTS", "Column", "Part", "columns_of"]

Part = Literal["row", "face", "body", "voice", "events"]
PARTS: Mapping[Part, str] = {
    "row": "Which moment a row is of",
    "face": "Face, gaze and head, empty in frames without a face",
    "body": "Hands and shoulders, empty but in the frames in which `cue-narrative` looks for them",
    "voice": "Voice, empty without sound",
    "events": "Events, as the behaviour description names them: 1 while it lasts, else 0; empty where nothing tells",
}
"""Group of columns -> its heading."""
EVENT = "event."
"""What the names of events begin with in the head of a table."""


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: in its head.
        unit: of its values.
        meaning: a sentence's worth.
        part: group that it belongs to.
    """

    name: str
    unit: str
    meaning: str
    part: Part


_UNITS: Mapping[str, str] = {
    "eye_open_left": "eye widths", "eye_open_right": "eye widths", "blink": "0 or 1", "lip_thickness": "mouth widths",
    "gaze_x": "half eye widths", "gaze_y": "half eye widths", "yaw": "radians", "pitch": "radians", "roll": "radians",
    "speed": "IOD/s", "approach": "1/s",
}  # fmt: skip
"""Of the cues of `encoders.face.measures`; all others are in inter-ocular distances (IOD)."""


def _clause(wording: Wording) -> str:
    """Word a cue without how far it goes, or as it is told when it goes clearly."""
    clause = wording.clause.split(",")[0]
    return clause.replace(" {how}", "" if wording.grades == Wording.grades else f" {wording.grades[1]}")


_ROW = (
    Column("recording", "text", "id of the recording", "row"),
    Column("frame", "count", "number of the frame, from 0 on; of a second, its number", "row"),
    Column("time", "s", "second of the file at which the frame is shown, or the second begins", "row"),
    Column("num_frames", "count", "frames that the row is of: 1, or those of the second", "row"),
    Column("found", "0 or 1", "1 where the frame shows a face, 0 where it does not; empty without pictures", "row"),
    Column("heard", "0 or 1", "1 where the recording has sound that can be used", "row"),
)
_FACE = (
    *(
        Column(f"head_{name}" if name in ("yaw", "pitch", "roll") else name, _UNITS.get(name, "IOD"), meaning, "face")
        for name, meaning in CUES.items()
        if name != "found"
    ),
    Column("corner_rise", "IOD", "`mouth_corner_height` less a quarter of how far the mouth opens beyond 0.15", "face"),
    Column("corner_difference", "IOD", "height of the left mouth corner over the right one", "face"),
    Column("closeness", "log", "natural logarithm of the face's size, from the recording's median", "face"),
    Column("gaze_aside", "degrees", "head and eyes together; above 0 towards the image's right", "face"),
    Column("gaze_down", "degrees", "head and eyes together; above 0 downwards", "face"),
)
_BODY = (
    Column("hand_at_face", "0 to 1", "largest share of a hand's landmarks that lie at the face; 0 without one", "body"),
    Column("shoulders_raised", "IOD", "how much nearer to the eyes than their median", "body"),
    Column("shoulders_uneven", "degrees", "how far their line leaves its median", "body"),
)
_VOICE = (
    Column("loudness", "dB", "10 log10 of the mean square of the samples, full scale 1", "voice"),
    Column("voice", "0 to 1", "share of 10 ms windows at most 25 dB below the recording's loud parts", "voice"),
    Column("voiced", "0 to 1", "share of 10 ms windows with a pitch", "voice"),
    Column("pitch", "Hz", "median of the voiced windows, 65 to 420; empty without any", "voice"),
)
_EVENTS = tuple(Column(f"{EVENT}{cue}", "0 or 1", _clause(wording), "events") for cue, wording in WORDING.items())
COLUMNS: Mapping[str, Column] = {
    column.name: column
    for column in (
        *_ROW, *_FACE, *_BODY, *_VOICE, *_EVENTS,
        Column("failure", "text", "why nothing could be measured; the recording then has this one row", "row"),
    )
}  # fmt: skip
"""By name, in the order of the table."""


def columns_of(part: Part) -> tuple[str, ...]:
    """Name the columns of a group, in order."""
    return tuple(name for name, column in COLUMNS.items() if column.part == part)
