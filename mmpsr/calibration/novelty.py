"""Novelty: how unlike the training clips a recording is, by modality (out-of-distribution detection).

Probabilities say nothing of it: a model is as sure of what it has never seen the like of. Here the distance of a clip's
vector from the training clips is compared with the distances of the dev clips; test clips have no part in it.

Shape suffixes: N clips, D width of a modality's vectors, R directions, K dev clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FEW_DEV",
    "NOTABLE",
    "NOVELTY_MEANS",
    "ClipNovelty",
    "Novelty",
    "NoveltyFit",
    "is_novel",
    "novelty_sentences",
]

Array = NDArray[np.float64]

NUM_DIRECTIONS = 128
"""Directions whose variance is kept; all others share their mean variance."""
MOST_CLIPS = 2048
"""Training clips that a covariance is fitted to; of more, as many evenly spaced ones."""
NOTABLE = 0.95
"""Novelty from which on a recording is said to be unlike the training clips."""
NOVELTY_MEANS = (
    "Novelty is the share of the model's dev clips whose distance from the training clips is less out of line than "
    "this recording's, by modality; from 0.95 on it is said in words, and 1 is more out of line than all of them"
)
"""What the number says, for whoever reads predictions."""
FEW_DEV = 19
"""Dev clips, below which a clip like them is further out of line than all of them more than once in 20 times."""

_PARTS = ("mean", "directions", "variances", "rest", "dev")
_TIE = 1e-9  # of logarithms of distances, which depend on the batch in their last digits


@dataclass(frozen=True)
class ClipNovelty:
    """How unlike the training clips one modality of a clip is.

    Attributes:
        distance: from the mean of the training clips, see `NoveltyFit`.
        ratio: distance by the median distance of the dev clips, 1 is usual.
        percentile: the novelty, share in [0, 1] of the dev clips that are less out of line; 1 is more than all.
        num_less: how many these are.
        num_dev: dev clips with the modality.
    """

    distance: float
    ratio: float
    percentile: float
    num_less: int
    num_dev: int

    def to_dict(self) -> dict[str, Any]:
        """Make JSON values."""
        return asdict(self)

    def sentence(self, modality: str) -> str:
        """Say it in words.

        Example:
            >>> ClipNovelty(3.0, 2.5, 1.0, 56, 56).sentence("audio").partition(": ")[2]
            '2.5 times as far from their mean as usual, more out of line than all 56 dev clips'
            >>> ClipNovelty(0.4, 0.5, 0.96, 96, 100).sentence("text").partition(": ")[0]
            'text is unlike the training clips'
        """
        of = f"all {self.num_dev}" if self.num_less == self.num_dev else f"{self.num_less} of {self.num_dev}"
        near = " (as longer or more even ones are)" if self.ratio < 1 else ""
        words = (
            f"{modality} is unlike the training clips: {self.ratio:.2g} times as far from their mean as usual{near}, "
            f"more out of line than {of} dev clips"
        )
        few = f" (so few that one in {self.num_dev + 1} clips like them is)" if self.num_dev < FEW_DEV else ""
        return words + few


@dataclass(frozen=True)
class NoveltyFit:
    """How far the vectors of one modality lie from the training clips, and how far dev clips do.

    The distance is Mahalanobis' in the shrunk covariance of the training clips, per dimension:

        d(z)^2 = (z - m)' C^-1 (z - m) / D,    C = (1 - a) S + a tr(S)/D I

    of standardised vectors z, with S the covariance of the training clips and a Ledoit and Wolf's shrinkage, which
    keeps C sound where there are fewer clips than dimensions. C is kept by its `NUM_DIRECTIONS` leading directions;
    the others share their mean variance. No training clip can be read from it. In many dimensions clips lie on a
    shell around their mean: one within it is as unlike them as one outside, for example a text ten times as long,
    whose mean over time is steadier. A clip is therefore the more out of line, the more its distance differs from the
    median of the dev clips, and its novelty is the share of the dev clips that are less so:

        u(z) = |ln d(z) - median_dev ln d|,    novelty(z) = #{k in dev: u_k < u(z)} / K

    Attributes:
        mean: m, `[D]`.
        directions: eigenvectors of C, orthonormal `[R, D]`.
        variances: their eigenvalues, `[R]`, above 0.
        rest: mean eigenvalue of all other directions, above 0.
        dev: distances of the dev clips, `[K]`, rising, K >= 1.

    References:
        Lee et al.: A simple unified framework for detecting out-of-distribution samples and adversarial attacks,
        NeurIPS 2018. Ledoit and Wolf: A well-conditioned estimator for large-dimensional covariance matrices, Journal
        of Multivariate Analysis 88, 2004. Nalisnick et al.: Detecting out-of-distribution inputs to deep generative
        models using typicality, 2019, arXiv:1906.02994.

    Example:
        >>> train = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> fit = NoveltyFit.of(train, train[:2])
        >>> found = fit.judge(np.array([[3.0, 0.0], [1.0, 0.0]]))     # C = I / 2: sqrt(9 / 0.5 / 2), and 1
        >>> [(round(clip.distance, 3), round(clip.ratio, 3), clip.num_less) for clip in found]
        [(3.0, 3.0, 2), (1.0, 1.0, 0)]
    """

    mean: Array
    directions: Array
    variances: Array
    rest: float
    dev: Array

    @classmethod
    def of(cls, train_ND: Array, dev_KD: Array) -> NoveltyFit | None:
        """Fit to training clips, and measure dev clips; None with fewer than two of those or none of these.

        Args:
            train_ND: standardised vectors of training clips.
            dev_KD: likewise of dev clips, of the same corpora.
        """
        from sklearn.covariance import ledoit_wolf_shrinkage

        num_clips, width = train_ND.shape
        if num_clips < 2 or not len(dev_KD) or not width:
            return None
        if num_clips > MOST_CLIPS:
            train_ND = train_ND[np.linspace(0, num_clips - 1, MOST_CLIPS).round().astype(int)]
        mean = train_ND.mean(axis=0)
        centred = train_ND - mean
        scale = float((centred**2).sum()) / len(centred) / width  # tr(S) / D
        if not scale > 0.0:
            return None
        shrinkage = float(ledoit_wolf_shrinkage(centred, assume_centered=True)) if width > 1 else 0.0
        values, vectors = _principal(centred)
        variances = (1 - shrinkage) * values + shrinkage * scale
        num_rest = width - len(variances)
        rest = (width * scale - float(variances.sum())) / num_rest if num_rest else scale
        floor = 1e-6 * scale
        kept = [np.asarray(part, dtype=np.float32) for part in (mean, vectors, np.maximum(variances, floor))]
        mean, vectors, variances = (part.astype(np.float64) for part in kept)  # as they are stored
        fit = cls(mean, vectors, variances, float(np.float32(max(rest, floor))), np.zeros(0))
        return replace(fit, dev=np.sort(fit.distances(dev_KD)))

    def distances(self, vectors_ND: Array) -> Array:
        """Measure how far vectors lie from the training clips, `[N]`, at least 0."""
        centred = vectors_ND - self.mean
        along = centred @ self.directions.T
        outside = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        squares = (along**2 / self.variances).sum(axis=1) + outside / self.rest
        return np.asarray(np.sqrt(squares / len(self.mean)))

    def judge(self, vectors_ND: Array) -> list[ClipNovelty]:
        """Compare clips with the dev clips."""
        distances = self.distances(vectors_ND)
        usual = float(np.median(_logarithms(self.dev)))
        dev = np.sort(np.abs(_logarithms(self.dev) - usual))
        less = np.searchsorted(dev, np.abs(_logarithms(distances) - usual) - _TIE, side="left")
        ratios = np.exp(_logarithms(distances) - usual)
        return [
            ClipNovelty(float(distance), float(ratio), int(number) / len(dev), int(number), len(dev))
            for distance, ratio, number in zip(distances, ratios, less, strict=True)
        ]


@dataclass(frozen=True)
class Novelty:
    """Fits by modality; those that it does not know are not judged.

    Example:
        >>> fit = NoveltyFit.of(np.eye(3), np.ones((2, 3)))
        >>> stored = Novelty({"text": fit}).to_arrays()
        >>> Novelty.from_arrays(stored).fits["text"].distances(np.zeros((1, 3))).shape
        (1,)
    """

    fits: Mapping[str, NoveltyFit] = field(default_factory=dict)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give arrays to be stored, by `<modality>.<part>`: float32, distances of dev clips float64."""
        return {
            f"{modality}.{part}": np.asarray(getattr(fit, part), dtype=np.float64 if part == "dev" else np.float32)
            for modality, fit in self.fits.items()
            for part in _PARTS
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], widths: Mapping[str, int] | None = None) -> Novelty:
        """Read what `to_arrays` gave.

        Args:
            arrays: by name.
            widths: D of each modality; a fit of another width is refused.

        Raises:
            ValueError: an array is missing, unknown, of another shape, not finite or not in its range.
        """
        fits = {}
        named = dict.fromkeys(name.rpartition(".")[0] for name in arrays)
        modalities = [*(name for name in widths or () if name in named), *(n for n in named if n not in (widths or ()))]
        for name, array in arrays.items():
            if name.rpartition(".")[2] not in _PARTS:
                raise ValueError(f"{name} is no part of a novelty fit, which are {', '.join(_PARTS)}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds NaN or infinity")
        for modality in modalities:
            missing = [part for part in _PARTS if f"{modality}.{part}" not in arrays]
            if missing:
                raise ValueError(f"{modality}.{missing[0]} is missing")
            mean, directions, variances, rest, dev = (
                np.asarray(arrays[f"{modality}.{part}"], dtype=np.float64) for part in _PARTS
            )
            width = mean.size if widths is None else widths.get(modality, -1)
            shapes = {"mean": mean.shape, "directions": directions.shape, "variances": variances.shape}
            if mean.shape != (width,) or directions.shape != (variances.size, width) or variances.ndim != 1:
                raise ValueError(f"{modality}: shapes {shapes} are not of vectors {width} wide")
            if rest.shape != () or dev.ndim != 1 or not dev.size or (np.diff(dev) < 0).any() or dev[0] < 0:
                raise ValueError(f"{modality}: rest is one number and dev at least one distance, rising")
            if rest <= 0 or (variances <= 0).any():
                raise ValueError(f"{modality}: variances are above 0")
            fits[modality] = NoveltyFit(mean, directions, variances, float(rest), dev)
        return cls(fits)


def is_novel(novelty: Mapping[str, ClipNovelty], asked: float) -> list[str]:
    """List the modalities of a clip whose novelty is at least the one asked for.

    Args:
        novelty: by modality.
        asked: share of dev clips in [0, 1]; 1 is further out of line than all of them.
    """
    return [modality for modality, clip in novelty.items() if clip.percentile >= asked]


def novelty_sentences(novelty: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which modalities of a clip are unlike the training clips: their novelty is at least `NOTABLE`.

    Args:
        novelty: by modality, as `ClipNovelty.to_dict` gives it.
    """
    clips = {modality: ClipNovelty(**values) for modality, values in novelty.items()}
    return [clips[modality].sentence(modality) for modality in is_novel(clips, NOTABLE)]


def _logarithms(distances: Array) -> Array:
    return np.asarray(np.log(np.maximum(distances, 1e-12)))


def _principal(centred_ND: Array) -> tuple[Array, Array]:
    """Find leading eigenvalues, falling, and eigenvectors `[R, D]` of the covariance of centred rows."""
    num_clips, width = centred_ND.shape
    if num_clips < width:
        values, vectors = np.linalg.eigh(centred_ND @ centred_ND.T / num_clips)
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = min(NUM_DIRECTIONS, int((values > 1e-10 * values[0]).sum()))
        directions = centred_ND.T @ vectors[:, :kept] / np.sqrt(num_clips * values[:kept])
        return values[:kept], np.ascontiguousarray(directions.T)
    values, vectors = np.linalg.eigh(centred_ND.T @ centred_ND / num_clips)
    kept = min(NUM_DIRECTIONS, width)
    return np.maximum(values[::-1][:kept], 0.0), np.ascontiguousarray(vectors[:, ::-1][:, :kept].T)
