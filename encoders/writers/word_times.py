"""When the words of a transcript were said, from where a speech model looks while it writes them.

Shapes: H attention heads, N tokens, F frames of sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

__all__ = ["align", "group_words"]

_MEDIAN_FRAMES = 7
_UNSPACED = ("zh", "ja", "th", "lo", "my", "yue")
"""Languages written without spaces between words: each character stands for itself."""


def align(attention_HNF: NDArray[np.floating]) -> NDArray[np.int64]:
    """Find the first frame of each token on the cheapest monotone path through all tokens and frames.

    Each head's weights are standardised over tokens and smoothed over frames (median of 7), then averaged. The path
    goes from the first token and frame to the last of both, by steps of one token, one frame or one of each, and
    gathers as much weight as it can (dynamic time warping).

    Args:
        attention_HNF: attention weights `[H, N, F]`, not negative.

    Returns:
        `[N]`, rising, the first 0.

    Example:
        >>> weights = np.repeat(np.eye(3), 10, axis=1)[None]
        >>> align(weights).tolist()
        [0, 10, 20]

    References:
        Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, ICML 2023, arXiv:2212.04356.
    """
    weights = np.asarray(attention_HNF, dtype=np.float64)
    spread = weights.std(axis=1, keepdims=True)
    weights = (weights - weights.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    cost_NF = -median_filter(weights, size=(1, 1, _MEDIAN_FRAMES), mode="reflect").mean(axis=0)
    num_tokens, num_frames = cost_NF.shape
    total_NF = np.empty_like(cost_NF)
    total_NF[0] = np.cumsum(cost_NF[0])
    for token in range(1, num_tokens):
        # total[j] = cost[j] + min(above[j], above[j - 1], total[j - 1]), solved for the whole row by running sums
        above = total_NF[token - 1]
        entry = np.minimum(above, np.concatenate([[np.inf], above[:-1]]))
        running = np.cumsum(cost_NF[token])
        total_NF[token] = running + np.minimum.accumulate(entry - running + cost_NF[token])
    first = np.zeros(num_tokens, dtype=np.int64)
    token, frame = num_tokens - 1, num_frames - 1
    while token > 0:
        left = total_NF[token, frame - 1] if frame else np.inf
        corner = total_NF[token - 1, frame - 1] if frame else np.inf
        above = total_NF[token - 1, frame]
        if left < min(corner, above):
            frame -= 1
            continue
        first[token] = frame
        token, frame = token - 1, frame - (corner <= above)
    return first


def group_words(
    tokens: Sequence[int], decode: Callable[[list[int]], str], language: str | None
) -> list[tuple[str, int, int]]:
    """List the words of a token sequence: `(word, first token, token after the last)`.

    A word begins with a space; in languages written without spaces each character is a word. Bytes of one character
    stay together, and punctuation stays with the word before it.

    Args:
        tokens: of a text, without special ones.
        decode: tokens to text, leading spaces kept.
        language: ISO 639-1 code, or None.

    Example:
        >>> pieces = {1: " May", 2: "be", 3: ",", 4: " no"}
        >>> group_words([1, 2, 3, 4], lambda ids: "".join(pieces[each] for each in ids), "en")
        [('Maybe,', 0, 3), ('no', 3, 4)]
    """
    words: list[tuple[str, int, int]] = []
    first = 0
    for after in range(1, len(tokens) + 1):
        piece = decode(list(tokens[first:after]))
        if piece.endswith("\ufffd") and after < len(tokens):
            continue  # a character whose bytes are not complete
        begins = piece.startswith(" ") or (language in _UNSPACED and any(sign.isalnum() for sign in piece))
        if begins or not words:
            words.append((piece, first, after))
        else:
            words[-1] = (words[-1][0] + piece, words[-1][1], after)
        first = after
    return [(word.strip(), start, stop) for word, start, stop in words if word.strip()]
