"""What is said when: the words of a transcript on the frames of a clip.

Times are those of words (column `words`), else those of phrases (`raw.chunks`), whose words are spread evenly over
them. Where there are neither, tokens are spread evenly over the clip, which a note tells.

Shapes: N tokens, G groups of tokens (words), T frames, D width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from encoders.media.clip import ClipMedia
from encoders.timed import MEASURED, NONE, Grid, spread, word_at

__all__ = ["Placed", "Spoken", "place_tokens", "spoken_words", "values_at"]


@dataclass(frozen=True)
class Spoken:
    """Words of a clip.

    Attributes:
        text: in which they stand.
        places: by word, its first character in the text and the one after its last.
        times: by word, seconds from the clip's beginning at which it starts and ends; None where that is not known,
            or does not matter.
        notes: sentences on how the times came about.
    """

    text: str
    places: Sequence[tuple[int, int]] = ()
    times: Sequence[tuple[float, float]] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Placed:
    """Tokens on frames.

    Attributes:
        groups: int64 `[N]`, the group of each token: its word, or itself; -1 of tokens that stand nowhere.
        rows: int64 `[T]`, the group at each frame; -1 where there is none.
        note: what was left out, and how times came about; None where there is nothing to say.
    """

    groups: NDArray[np.int64]
    rows: NDArray[np.int64]
    note: str | None


def spoken_words(clip: ClipMedia, text: str, grid: Grid, evenly: bool) -> Spoken:
    """Tell which words of a clip are spoken when.

    Args:
        clip: with `words`, or with phrases in the column `raw.chunks` of its row.
        text: its transcript.
        grid: its frames.
        evenly: whether times do not matter.
    """
    if evenly:
        return Spoken(text)
    if clip.words:
        return _in_text(text, list(clip.words), [])
    chunks = clip.row.get("raw.chunks")
    words, notes = _words_of_chunks(json.loads(chunks), clip, grid) if isinstance(chunks, str) else ([], [])
    if words:
        return _in_text(text, words, [*notes, "times of phrases only: their words are spread evenly over them"])
    return Spoken(text, notes=[*notes, "no times of words: its tokens are spread evenly over the clip"])


def _words_of_chunks(
    chunks: Sequence[dict[str, object]], clip: ClipMedia, grid: Grid
) -> tuple[list[tuple[str, float, float]], list[str]]:
    """Spread the words of each phrase evenly over it; times of phrases count from the beginning of the file."""
    begin = clip.start or 0.0
    until = grid.lead + float(grid.length / grid.rate)
    words: list[tuple[str, float, float]] = []
    num_without = 0
    for index, chunk in enumerate(chunks):
        said = str(chunk.get("text") or "").split()
        start, end = (_number(chunk.get(name)) for name in ("start", "end"))
        if not said:
            continue
        if start is None:
            num_without += 1
            continue
        start -= begin
        later = (_number(other.get("start")) for other in chunks[index + 1 :])
        following = next((each - begin for each in later if each is not None and each - begin > start), until)
        stop = following if end is None else end - begin
        edges = np.linspace(start, max(stop, start), len(said) + 1).tolist()
        words += [(word, *edges[place : place + 2]) for place, word in enumerate(said)]
    notes = [f"{num_without} of {len(chunks)} phrases have no time and stand nowhere"] if num_without else []
    return words, notes


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else None


def _in_text(text: str, words: Sequence[tuple[str, float, float]], notes: list[str]) -> Spoken:
    """Find timed words in a transcript; where one is not there, the words themselves are the text."""
    places: list[tuple[int, int]] = []
    reached = 0
    for word, _, _ in words:
        found = text.find(word, reached)
        if found < 0:
            text = " ".join(word for word, _, _ in words)
            ends = np.cumsum([len(word) + 1 for word, _, _ in words]) - 1
            places = [(int(end) - len(word), int(end)) for end, (word, _, _) in zip(ends, words, strict=True)]
            notes.append("the timed words are read in place of the transcript, which has others")
            break
        places.append((found, found + len(word)))
        reached = found + len(word)
    return Spoken(text, places, [(start, end) for _, start, end in words], notes)


def place_tokens(offsets: NDArray[np.int64], spoken: Spoken, grid: Grid) -> Placed:
    """Put the tokens of a text on frames.

    A word is at all frames with `start <= t_i < end`, the first of several, and its tokens belong together; between
    words there is nothing. Without times the N tokens follow one another in blocks of `T // N` frames, the first
    `T mod N` a frame longer.

    Args:
        offsets: `[N, 2]`, first character of each token and the one after its last; N is at least 1.
        spoken: the text.
        grid: frames of the clip.
    """
    notes = list(spoken.notes)
    if spoken.times is None:
        num_left = len(offsets) - grid.length
        if num_left > 0:
            notes.append(f"{num_left} of {len(offsets)} tokens are left out: there are only {grid.length} frames")
        groups = np.arange(len(offsets))
        return Placed(groups, spread(len(offsets), grid.length), "; ".join(notes) or None)
    begins, ends = np.array(spoken.places, dtype=np.int64).reshape(-1, 2).T
    # of a token that reaches over two words, the word in which it begins
    groups = np.searchsorted(ends, offsets[:, 0], side="right")
    inside = groups < len(ends)
    groups = np.where(inside & (begins[np.minimum(groups, len(ends) - 1)] < offsets[:, 1]), groups, -1)
    rows = word_at(spoken.times, grid)
    has_tokens = np.isin(np.arange(len(ends)), groups)
    num_mute = int((~has_tokens).sum())
    if num_mute:
        notes.append(f"{num_mute} of {len(ends)} words have no token and stand nowhere")
        rows = np.where((rows >= 0) & has_tokens[np.maximum(rows, 0)], rows, -1)
    num_brief = len(ends) - num_mute - len(np.unique(rows[rows >= 0]))
    if num_brief:
        notes.append(f"{num_brief} of {len(ends)} words are spoken at no frame of the clip")
    return Placed(groups, rows, "; ".join(notes) or None)


def values_at(
    embeddings: NDArray[np.floating], groups: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Average the tokens of each group and put them on frames.

    Args:
        embeddings: `[N, D]`.
        groups: `[N]`, as in `Placed`.
        rows: `[T]`, as in `Placed`.

    Returns:
        Values `[T, D]`, zeros where there is no group, and states `[T]`.

    Example:
        >>> values, state = values_at(np.array([[2.0], [4.0], [5.0]]), np.array([0, 0, 1]), np.array([-1, 0, 1]))
        >>> values.tolist(), state.tolist()
        ([[0.0], [3.0], [5.0]], [0, 2, 2])
    """
    number = int(max(groups.max(initial=-1), rows.max(initial=-1))) + 1
    sums = np.zeros((number + 1, embeddings.shape[1]))  # the last is what stands nowhere
    np.add.at(sums, groups, embeddings)
    counts = np.bincount(groups[groups >= 0], minlength=number + 1)
    means = sums / np.maximum(counts, 1)[:, None]
    means[-1] = 0.0
    return means[rows], np.where(rows >= 0, MEASURED, NONE).astype(np.int8)
