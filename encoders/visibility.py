"""What a clip's pictures show of faces, in figures: how often one was found, how many, how small.

They are measured where faces are looked for, lie in the feature store beside the vector (or beside the reason why
there is none), and are read by predictions, runs and `mmpsr features`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

__all__ = ["MIN_FACE_SHARE", "FaceFigures", "FaceSummary", "summarize_faces"]

MIN_FACE_SHARE = 0.25
"""Frames that must show a face: of 12, three, the fewest that tell a mean and a deviation over time."""


@dataclass(frozen=True)
class FaceFigures:
    """What was found of faces in the frames of one clip that were looked at.

    Pixels are those of the frames as they are read, whose longer side is at most 1280. Of several faces in a frame
    only those count for `smallest_eyes` and `smallest_side` that the encoder takes.

    Attributes:
        num_frames: frames looked at.
        num_with_face: those that show a face.
        most_faces: faces in the frame with most of them.
        smallest_eyes: pixels between the eyes of the smallest face taken; None where no landmarks were found.
        smallest_side: pixels of the shorter side of the box around the smallest face taken; None without any.
        is_turned: whether the frames were turned by half a circle, since faces stood on their heads.

    Example:
        >>> FaceFigures(12, 10, 2, 84.2, 160.0, False).sentence
        'a face in 10 of 12 frames looked at, up to 2 in one; the smallest 84 px between the eyes'
        >>> FaceFigures(12, 0, 0, None, None, True).sentence
        'a face in 0 of 12 frames looked at; upside down, so that the frames were turned'
    """

    num_frames: int
    num_with_face: int
    most_faces: int
    smallest_eyes: float | None
    smallest_side: float | None
    is_turned: bool

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> FaceFigures | None:
        """Read what `to_dict` made; None where it is not of faces."""
        names = cls.__dataclass_fields__
        return cls(**{name: values[name] for name in names}) if names.keys() <= values.keys() else None

    def to_dict(self) -> dict[str, Any]:
        """Make JSON values."""
        return asdict(self)

    @property
    def share(self) -> float:
        """Share of the frames looked at that show a face, in [0, 1]."""
        return self.num_with_face / self.num_frames if self.num_frames else 0.0

    @property
    def sentence(self) -> str:
        """The figures in words."""
        words = f"a face in {self.num_with_face} of {self.num_frames} frames looked at"
        if self.most_faces > 1:
            words += f", up to {self.most_faces} in one"
        if self.smallest_eyes is not None:
            words += f"; the smallest {self.smallest_eyes:.0f} px between the eyes"
        elif self.smallest_side is not None:
            words += f"; the smallest {self.smallest_side:.0f} px wide or high"
        return words + ("; upside down, so that the frames were turned" if self.is_turned else "")


@dataclass(frozen=True)
class FaceSummary:
    """What many clips show of faces.

    Attributes:
        num_clips: clips whose figures are known.
        median_share: median over clips of the share of frames with a face.
        num_below: clips with a face in fewer frames than `MIN_FACE_SHARE` of them.
        num_several: clips with several faces in a frame.
        num_turned: clips upside down.
        median_eyes: median over clips of the pixels between the eyes of the smallest face; None where none is known.
        median_side: likewise of the shorter side of the smallest face's box.
    """

    num_clips: int
    median_share: float
    num_below: int
    num_several: int
    num_turned: int
    median_eyes: float | None
    median_side: float | None

    @property
    def sentence(self) -> str:
        """The summary in words."""
        words = f"a face in {100 * self.median_share:.0f} % of the frames (median of {self.num_clips:,} clips)"
        size, of = (self.median_eyes, "between the eyes") if self.median_eyes else (self.median_side, "wide or high")
        words += "" if size is None else f", the smallest {size:.0f} px {of}"
        counts = ((self.num_below, "in too few frames"), (self.num_several, "several"), (self.num_turned, "turned"))
        return words + "".join(f"; {number:,} {what}" for number, what in counts if number)


def summarize_faces(figures: Iterable[FaceFigures]) -> FaceSummary | None:
    """Sum up the figures of clips; None where there are none.

    Example:
        >>> clips = [FaceFigures(8, number, 1, 10.0 * number, None, False) for number in (1, 6, 8)]
        >>> summarize_faces(clips).sentence
        'a face in 75 % of the frames (median of 3 clips), the smallest 60 px between the eyes; 1 in too few frames'
    """
    clips = list(figures)
    if not clips:
        return None
    eyes = [clip.smallest_eyes for clip in clips if clip.smallest_eyes is not None]
    sides = [clip.smallest_side for clip in clips if clip.smallest_side is not None]
    return FaceSummary(
        len(clips),
        float(median(clip.share for clip in clips)),
        sum(clip.share < MIN_FACE_SHARE for clip in clips),
        sum(clip.most_faces > 1 for clip in clips),
        sum(clip.is_turned for clip in clips),
        float(median(eyes)) if eyes else None,
        float(median(sides)) if sides else None,
    )
