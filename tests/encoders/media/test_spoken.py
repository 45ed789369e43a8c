from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

from encoders.media.clip import ClipMedia
from encoders.media.spoken import Spoken, place_tokens, spoken_words
from encoders.timed import Grid

GRID = Grid(40, Fraction(10))
"""Four seconds."""


def chunk(start: float | None, end: float | None, text: str) -> dict[str, object]:
    return {"start": start, "end": end, "language": "english", "text": text}


def with_chunks(*chunks: dict[str, object], **given: float) -> ClipMedia:
    return ClipMedia(row={"raw.chunks": json.dumps(chunks)}, **given)


def test_words_are_found_in_the_transcript() -> None:
    words = [("I", 0.0, 0.2), ("could,", 0.3, 0.6), ("I", 0.7, 0.8)]
    spoken = spoken_words(ClipMedia(words=words), "I said I could, I think", GRID, False)
    assert spoken.text == "I said I could, I think"
    assert spoken.places == [(0, 1), (9, 15), (16, 17)]
    assert spoken.times == [(0.0, 0.2), (0.3, 0.6), (0.7, 0.8)]
    assert spoken.notes == []
    other = spoken_words(ClipMedia(words=words), "something else", GRID, False)
    assert other.text == "I could, I"
    assert [other.text[begin:end] for begin, end in other.places] == ["I", "could,", "I"]
    assert other.notes == ["the timed words are read in place of the transcript, which has others"]


def test_words_of_a_phrase_are_spread_over_it() -> None:
    clip = with_chunks(chunk(0.5, 1.1, " Well, I could"), chunk(2.0, None, "maybe not"), chunk(3.0, 3.5, "no"))
    spoken = spoken_words(clip, "Well, I could maybe not no", GRID, False)
    assert spoken.times is not None
    np.testing.assert_allclose(
        spoken.times, [(0.5, 0.7), (0.7, 0.9), (0.9, 1.1), (2.0, 2.5), (2.5, 3.0), (3.0, 3.5)]
    )  # the second ends where the next begins
    assert spoken.notes == ["times of phrases only: their words are spread evenly over them"]


def test_phrases_count_from_the_beginning_of_the_file() -> None:
    clip = with_chunks(chunk(None, 1.0, "lost"), chunk(11.0, None, "to the end"), start=10.0)
    spoken = spoken_words(clip, "lost to the end", GRID, False)
    assert spoken.times is not None
    np.testing.assert_allclose(spoken.times, [(1.0, 2.0), (2.0, 3.0), (3.0, 4.0)])
    assert spoken.notes[0] == "1 of 2 phrases have no time and stand nowhere"


def test_where_there_are_no_times_tokens_are_spread() -> None:
    for clip in (ClipMedia(), with_chunks(chunk(None, None, "one two"))):
        spoken = spoken_words(clip, "one two", GRID, False)
        assert spoken.times is None
        assert spoken.notes[-1] == "no times of words: its tokens are spread evenly over the clip"
    asked = spoken_words(ClipMedia(words=[("one", 0.0, 1.0)]), "one two", GRID, True)
    assert (asked.times, asked.notes) == (None, [])


def test_tokens_go_with_the_word_in_which_they_begin() -> None:
    #            0123456789
    spoken = Spoken("ab cdef, g", [(0, 2), (3, 8), (9, 10)], [(0.0, 0.2), (0.2, 0.4), (0.4, 0.45)])
    offsets = np.array([(0, 2), (3, 5), (5, 7), (7, 8), (8, 9), (9, 10)])
    placed = place_tokens(offsets, spoken, Grid(6, Fraction(10)))
    assert placed.groups.tolist() == [0, 1, 1, 1, -1, 2]  # the blank belongs to none
    assert placed.rows.tolist() == [0, 0, 1, 1, 2, -1]
    assert placed.note is None
    late = Grid(4, Fraction(10), lead=0.25)
    assert place_tokens(offsets, spoken, late).rows.tolist() == [1, 1, -1, -1]
    assert place_tokens(offsets, spoken, late).note == "2 of 3 words are spoken at no frame of the clip"


def test_a_word_without_tokens_stands_nowhere() -> None:
    spoken = Spoken("a \u200b b", [(0, 1), (2, 3), (4, 5)], [(0.0, 0.1), (0.1, 0.2), (0.2, 0.3)])
    placed = place_tokens(np.array([(0, 1), (4, 5)]), spoken, Grid(3, Fraction(10)))
    assert placed.rows.tolist() == [0, -1, 2]
    assert placed.note == "1 of 3 words have no token and stand nowhere"


@pytest.mark.parametrize(
    ("num_tokens", "num_frames", "rows", "note"),
    [
        (2, 5, [0, 0, 0, 1, 1], None),
        (4, 3, [0, 1, 2], "1 of 4 tokens are left out: there are only 3 frames"),
    ],
)
def test_spread_tokens(num_tokens: int, num_frames: int, rows: list[int], note: str | None) -> None:
    offsets = np.stack([np.arange(num_tokens), np.arange(num_tokens) + 1], axis=1)
    placed = place_tokens(offsets, Spoken("x" * num_tokens), Grid(num_frames, Fraction(24)))
    assert (placed.rows.tolist(), placed.note) == (rows, note)
