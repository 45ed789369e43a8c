"""What a model's answer says: a class, whatever stands around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

__all__ = ["AnswerReader", "Reading"]

_JOINT = r"[\s\-_\u2010-\u2015]*"  # hyphens, blanks or nothing between the words of an answer
_LETTER = r"[^\W_]"


class Reading(NamedTuple):
    """Number of a class, and how it was read: `read`, `several` (the answer names more than one) or `unread` (none)."""

    label: int
    how: Literal["read", "several", "unread"]


class AnswerReader:
    """Reads answers as classes, case folded.

    Everything in an answer that fits any class is found, the longest first, and what lies within something longer is
    not counted: `non-ambivalent` is not `ambivalent`. One class is the answer; of several the one that stands first in
    the task's order, for `absent` and `present` the absence; without any it is the first class, and unread.

    Args:
        answers: of each class; whole words, with hyphens, blanks or nothing between them.
        patterns: of each class, regular expressions in place of its answer; empty for the answer.

    Example:
        >>> reader = AnswerReader(("non-ambivalent", "ambivalent"), ((), ()))
        >>> reader.read("The emotion is: NonAmbivalent.").label, reader.read("Ambivalent").label
        (0, 1)
    """

    def __init__(self, answers: Sequence[str], patterns: Sequence[Sequence[str]]) -> None:
        self._patterns = [
            (label, re.compile(pattern, re.IGNORECASE))
            for label, (answer, own) in enumerate(zip(answers, patterns, strict=True))
            for pattern in (own or (_words(answer),))
        ]

    def read(self, answer: str) -> Reading:
        """Read one answer."""
        folded = answer.casefold()
        found = sorted(
            (match.start() - match.end(), match.start(), label)
            for label, pattern in self._patterns
            for match in pattern.finditer(folded)
            if match.group()
        )
        taken: list[tuple[int, int]] = []
        labels = set()
        for negative_length, start, label in found:
            end = start - negative_length
            if all(end <= first or start >= last for first, last in taken):
                taken.append((start, end))
                labels.add(label)
        if not labels:
            return Reading(0, "unread")
        return Reading(min(labels), "read" if len(labels) == 1 else "several")


def _words(answer: str) -> str:
    """Write the pattern of an answer's words, between what is no letter or digit."""
    words = [re.escape(word) for word in re.split(r"[\s\-_\u2010-\u2015]+", answer.casefold()) if word]
    return rf"(?<!{_LETTER}){_JOINT.join(words)}(?!{_LETTER})"
