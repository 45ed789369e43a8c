"""Points of a text encoder's space that stand for classes, and how near a clip is to them.

Shape suffixes: N clips, C classes or traits, P poles (1, or for regression high and low), W width of the space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mmpsr.config import ConfigError
from mmpsr.prototypes.texts import Meaning, TaskTexts, Wording

__all__ = ["Embed", "default_wordings", "embed_prototypes", "similarities"]

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Maps n texts to their vectors `[n, W]`."""


def default_wordings(modality: str) -> tuple[Wording, ...]:
    """List the wordings that a modality is compared with: described behaviour with behaviour, speech with phrases."""
    return ("templates", "definitions", "behaviors" if modality == "behavior" else "phrases")


def embed_prototypes(
    texts: TaskTexts, classes: Sequence[str], wordings: Sequence[Wording], embed: Embed, regression: bool = False
) -> NDArray[np.float32]:
    """Embed the texts of classes, and average them to a point for each class, or for each pole of a trait.

        g = mean over wordings of unit(mean over texts of unit(embedding))

    so that a wording counts once, however many texts it has. Wordings that no class has are left out.

    Args:
        texts: of the task.
        classes: in the order of the task's outputs.
        wordings: which texts are used.
        embed: the text encoder.
        regression: whether outputs are traits with two poles.

    Returns:
        `[P, C, W]`; P is 2 for regression, the high pole first.

    Raises:
        ConfigError: a class has no text of a wording that others have, a trait has no opposite, or no text is left.
    """
    poles: list[tuple[str, Meaning | None]] = [(name, texts.texts[name]) for name in classes]
    if regression:
        poles += [(f"{name}.opposite", texts.texts[name].opposite) for name in classes]
    worded: list[list[tuple[str, ...]]] = []
    for name, meaning in poles:
        if meaning is None:
            raise ConfigError(f"[texts.{name}] is missing: a regression's outputs need the texts of both poles")
        worded.append([meaning.wording(kind, texts.templates) for kind in wordings])
    used = [index for index in range(len(wordings)) if any(of_pole[index] for of_pole in worded)]
    if not used:
        raise ConfigError(f"there is no text of {', '.join(wordings)}; give every class some")
    for (name, _), of_pole in zip(poles, worded, strict=True):
        for index in used:
            if not of_pole[index]:
                raise ConfigError(f"[texts.{name}] has no {wordings[index]}, which other classes have; give it some")
    groups = [of_pole[index] for of_pole in worded for index in used]
    vectors = _unit(np.asarray(embed([text for group in groups for text in group]), dtype=np.float64))
    ends = np.cumsum([len(group) for group in groups])[:-1]
    centroids = np.stack([_unit(part.mean(axis=0)) for part in np.split(vectors, ends)])
    points = centroids.reshape(len(poles), len(used), -1).mean(axis=1)
    return points.reshape(2 if regression else 1, len(classes), -1).astype(np.float32)


def similarities(vectors_NW: NDArray[np.floating], prototypes_PCW: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute how near vectors are to the classes, seen from the middle of all prototypes; for traits high minus low.

        s_c = cos(unit(x) - m, g_c - m),   m = mean of all g;   s_t = s_high - s_low

    Seen from zero all texts lie in one direction, and what they have in common would be most of every cosine.

    Returns:
        `[N, C]`, within [-1, 1], for traits within [-2, 2]; zeros for a vector of zeros.
    """
    prototypes = np.asarray(prototypes_PCW, dtype=np.float64)
    vectors = np.asarray(vectors_NW, dtype=np.float64)
    middle = prototypes.mean(axis=(0, 1))
    seen = _unit(_unit(vectors) - middle) @ np.moveaxis(_unit(prototypes - middle), -1, -2)
    return (seen[0] if len(seen) == 1 else seen[0] - seen[1]) * (vectors != 0).any(axis=1, keepdims=True)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
