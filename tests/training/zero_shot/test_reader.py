"""Answers read as classes."""

from __future__ import annotations

import pytest

from mmpsr.tasks import AMBIVALENCE
from training.zero_shot.config import ZeroShotConfig
from training.zero_shot.prompts import prompts_to_ask
from training.zero_shot.reader import AnswerReader, Reading

BAH = prompts_to_ask("ambivalence", AMBIVALENCE, ZeroShotConfig())[0].reader
MOODS = AnswerReader(("sad", "happy", "very happy", "don't know"), ((), (), (), ()))


@pytest.mark.parametrize(
    ("answer", "label", "how"),
    [
        ("Non-Ambivalent", 0, "read"),
        ("NON AMBIVALENT.", 0, "read"),
        ("nonambivalent", 0, "read"),
        ("non\u2011ambivalent", 0, "read"),
        ("The emotion is non - ambivalent", 0, "read"),
        ("Ambivalent", 1, "read"),
        ("**AMBIVALENT**", 1, "read"),
        ("_Ambivalent_", 1, "read"),
        ("The person is ambivalent.", 1, "read"),
        ("Ambivalent, not Non-Ambivalent", 0, "several"),  # the negative wins wherever it stands
        ("ambivalence", 0, "unread"),
        ("Happy", 0, "unread"),
        ("Non", 0, "unread"),
    ],
)
def test_ambivalence_is_read_negative_first(answer: str, label: int, how: str) -> None:
    assert BAH.read(answer) == (label, how)


@pytest.mark.parametrize(
    ("answer", "label", "how"),
    [
        ("Happy.", 1, "read"),
        ("VERY  HAPPY", 2, "read"),  # the longest, which holds a shorter one
        ("very-happy", 2, "read"),
        ("Unhappy", 0, "unread"),  # words are whole
        ("sadness", 0, "unread"),
        ("happy or very happy", 1, "several"),  # the first of the task's order, of several
        ("happy, or sad", 0, "several"),
        ("I don't know", 3, "read"),
        ("", 0, "unread"),
    ],
)
def test_classes_are_whole_words_the_longest_first(answer: str, label: int, how: str) -> None:
    assert MOODS.read(answer) == (label, how)


def test_case_is_folded() -> None:
    assert AnswerReader(("klein", "groß"), ((), ())).read("GROSS") == Reading(1, "read")


def test_patterns_are_read_in_place_of_an_answer() -> None:
    reader = AnswerReader(("no", "yes"), ((r"\bno(pe)?\b",), (r"\b[A-Z]ES\b", r"\bsure\b")))
    assert [reader.read(text).label for text in ("nope", "know", "yes", "Sure!")] == [0, 0, 1, 1]
    assert reader.read("know") == Reading(0, "unread")
