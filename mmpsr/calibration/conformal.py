"""Conformal prediction of grouped clips: sets of classes and intervals of scores that hold the truth as often as asked.

Clips of one participant, video or dialogue are alike, so N dev clips are not N independent ones. Quantiles of their
scores are therefore taken over groups, by corpus, and kept with the calibration; test clips have no part in it.

Shape suffixes: N clips, C classes or traits, F guarantees (1 of a single-label task, else C).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mmpsr.config import Config
from mmpsr.decisions import Array, default_thresholds
from mmpsr.metrics.definitions import labeled_rows
from mmpsr.tasks import TaskSpec

__all__ = [
    "COVERAGE", "COVERAGE_MEANS", "HIGHEST", "LABEL_STATES", "LOWEST", "ConformalFit", "Conformals", "Promise",
    "class_sets", "conformal_scores", "covered", "fit_conformal", "groups_needed", "is_level", "label_sets",
    "no_promise", "promise", "score_intervals", "set_sizes",
]  # fmt: skip

COVERAGE = 0.9
"""Level that is asked where no other is."""
LOWEST, HIGHEST = 0.5, 0.99
"""Levels that can be asked."""
COVERAGE_MEANS = (
    "A set or an interval holds the truth with at least the chance asked for a clip drawn from a new group "
    "(participant, video or dialogue), if that group is exchangeable with the dev groups of the same corpus; it is a "
    "chance over groups, not within each, of each label or trait by itself, not of all at once, and does not count "
    "that weights and temperature were chosen on these groups, too"
)
"""What users are told that a promised coverage is, and under which condition."""
LABEL_STATES = ("absent", "present")
"""What the set of a label of a multi-label task holds."""

_PERCENT = range(round(100 * LOWEST), round(100 * HIGHEST) + 1)  # levels whose quantiles are kept
_TIE = 1e-9


class ConformalFit(Config):
    """Hierarchical conformal quantiles of the scores of one corpus' dev clips, for one guarantee.

    With K dev groups of N_k clips and scores s_ki, which are the higher the worse the truth fits the prediction,

        q(L) = inf {q: sum_k sum_i 1 / ((K + 1) N_k) [s_ki <= q] >= L}

    which is infinite where L > K / (K + 1): the mass that is left, 1 / (K + 1), is the new group's. The set of all
    values with s <= q(L) holds the truth of a clip drawn from a new group with a chance of at least L, if the K + 1
    groups are exchangeable; clips within a group may resemble each other as they like. Each group counts the same,
    however many clips it has. Pooling all clips has no such guarantee.

    Attributes:
        num_groups: K, of labelled dev clips.
        num_clips: these clips.
        quantiles: q of the levels 0.50, 0.51 ... that K suffices for, rising.
        num_alone: how many of the groups are a clip that no group is known of.
        num_seen: dev groups that were left out, since they have clips in training, too: no new group is like them.

    References:
        Lee, Barber, Willett: Distribution-free inference with hierarchical data. arXiv:2306.06342, 2023.
        Dunn, Wasserman, Ramdas: Distribution-free prediction sets for two-layer hierarchical models. Journal of the
        American Statistical Association 118, 2023.

    Example:
        >>> fit = ConformalFit.of(np.array([0.1, 0.2, 0.3, 0.4]), np.array(["a", "b", "c", "c"]))
        >>> fit.quantile(0.5), fit.quantile(0.6), fit.quantile(0.9)  # masses 1/4, 1/4, 1/8, 1/8, and 1/4 of the new one
        (0.2, 0.3, inf)
    """

    num_groups: int = Field(ge=0)
    num_clips: int = Field(ge=0)
    quantiles: tuple[float, ...] = Field(default=(), max_length=len(_PERCENT))
    num_alone: int = Field(default=0, ge=0)
    num_seen: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _rising(self) -> ConformalFit:
        if not np.isfinite(self.quantiles).all() or (np.diff(self.quantiles) < 0).any():
            raise ValueError("quantiles are finite and rise with the level")
        return self

    @classmethod
    def of(cls, scores_N: Array, groups_N: NDArray) -> ConformalFit:
        """Fit to the finite scores of dev clips; without any, every quantile is infinite."""
        is_known = np.isfinite(scores_N)
        scores, groups = scores_N[is_known], np.asarray(groups_N)[is_known]
        if not len(scores):
            return cls(num_groups=0, num_clips=0)
        _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
        order = np.argsort(scores, kind="stable")
        masses = np.cumsum((1.0 / ((len(counts) + 1) * counts[codes]))[order])
        levels = np.array([percent / 100 for percent in _PERCENT])
        places = np.searchsorted(masses, levels - _TIE, side="left")
        quantiles = scores[order][places[places < len(scores)]]
        return cls(num_groups=len(counts), num_clips=len(scores), quantiles=tuple(quantiles.tolist()))

    def quantile(self, level: float) -> float:
        """Give q of a level, of the next higher one that is kept; infinity where there are too few groups for it."""
        place = math.ceil(100 * level - _TIE) - _PERCENT.start
        return self.quantiles[place] if place < len(self.quantiles) else math.inf


Conformals = Mapping[str, Mapping[str, tuple[ConformalFit, ...]]]
"""Fits by task and by corpus, F each, in the order of the classes or traits."""


@dataclass(frozen=True)
class Promise:
    """What is promised of one task's sets or intervals at a level.

    Attributes:
        level: asked.
        reaches: q by guarantee, `[F]`; infinite where sets hold everything.
        groups: by corpus that it is promised for, its dev groups; none of a corpus that the model does not know.
        short: by corpus with too few for the level, its dev groups.
        stored: whether there are any fits.
        alone: by corpus, how many of its dev groups are clips that no group is known of, if any.
        seen: by corpus, dev groups that do not count, since training has clips of them, if any.
    """

    level: float
    reaches: Array
    groups: Mapping[str, int]
    short: Mapping[str, int]
    stored: bool = True
    alone: Mapping[str, int] = field(default_factory=dict)
    seen: Mapping[str, int] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """Say for which groups the level is promised, or why it is not.

        Example:
            >>> Promise(0.9, np.array([np.inf]), {}, {"bah": 7}).sentence
            '90 % is not promised: too few dev groups (bah has 7, 9 are needed), so nothing is ruled out'
            >>> Promise(0.8, np.array([0.4]), {"bah": 7}, {}).sentence
            '80 % is promised for new groups like the dev groups of bah (7)'
        """
        asked = f"{100 * self.level:g} %"
        if not self.stored:
            return f"{asked} is not promised: no dev groups are stored that sets could be made from"
        few = ", ".join(f"{corpus} has {number}{self._limits(corpus)}" for corpus, number in self.short.items())
        few = f"too few dev groups ({few}, {groups_needed(self.level)} are needed)"
        if not self.groups:
            return f"{asked} is not promised: {few}, so nothing is ruled out"
        known = ", ".join(f"{corpus} ({number}{self._limits(corpus)})" for corpus, number in self.groups.items())
        words = f"{asked} is promised for new groups like the dev groups of {known}"
        return f"{words}, and for no other corpus: {few}" if self.short else words

    def _limits(self, corpus: str) -> str:
        """Say which of a corpus' dev groups are none, and which more do not count."""
        alone, seen = self.alone.get(corpus), self.seen.get(corpus)
        words = f", of which {alone} are clips without a group, as if each were of another person" if alone else ""
        return words + (f", and {seen} that do not count, since training has clips of them" if seen else "")

    def with_names(self, names: Mapping[str, str]) -> Promise:
        """Call corpora by other names; those that have none keep theirs."""

        def renamed(own: Mapping[str, int]) -> dict[str, int]:
            return {names.get(corpus, corpus): number for corpus, number in own.items()}

        return replace(
            self, groups=renamed(self.groups), short=renamed(self.short), alone=renamed(self.alone),
            seen=renamed(self.seen),
        )  # fmt: skip

    def to_dict(self) -> dict[str, object]:
        """Give JSON values."""
        groups = {"groups": dict(self.groups), "too_few": dict(self.short)}
        facts = {"level": self.level, "stored": self.stored, "promised": bool(self.groups)}
        return {**facts, **groups, "sentence": self.sentence}


def is_level(level: float) -> bool:
    """Tell whether a level can be asked."""
    return LOWEST <= level <= HIGHEST


def groups_needed(level: float) -> int:
    """Count the dev groups that a level takes at least: K / (K + 1) >= L.

    Example:
        >>> groups_needed(0.5), groups_needed(0.9), groups_needed(0.95)
        (1, 9, 19)
    """
    return math.ceil(level / (1 - level) - _TIE)


def conformal_scores(predicted_NC: Array, targets_NC: Array, spec: TaskSpec) -> Array:
    """Score how ill the truth fits the prediction, `[N, F]`; NaN where it is not known.

        single label: 1 - p_y,   regression: |y - s|
        several labels: 1 - g(p_c) where c is present, g(p_c) where absent,   g(p) = p (1 - t) / (p (1 - t) + t (1 - p))

    with t the default threshold of `mmpsr.decisions`, so that g is 1/2 where a class is as well present as absent.

    Args:
        predicted_NC: calibrated probabilities, or scores.
        targets_NC: NaN where unknown.
        spec: the task.

    References:
        Sadinle, Lei, Wasserman: Least ambiguous set-valued classifiers with bounded error levels. Journal of the
        American Statistical Association 114, 2019.
    """
    known_N = labeled_rows(targets_NC, spec)
    if spec.kind == "regression":
        return np.asarray(np.abs(targets_NC - predicted_NC))
    if spec.kind == "multi_label":
        evidence_NC = _evidence(predicted_NC, spec)
        scores_NC = np.where(targets_NC > 0, 1 - evidence_NC, evidence_NC)
        return np.where(known_N[:, None], scores_NC, np.nan)
    classes_N = np.where(known_N[:, None], targets_NC, 0.0).argmax(axis=1)
    scores_N = 1 - predicted_NC[np.arange(len(predicted_NC)), classes_N]
    return np.where(known_N, scores_N, np.nan)[:, None]


def class_sets(probabilities_NC: Array, reach: float) -> NDArray[np.bool_]:
    """Take the classes with 1 - p <= q, and always the likeliest, so that no set is empty; bool `[N, C]`."""
    sets_NC = 1 - probabilities_NC <= reach + _TIE
    sets_NC[np.arange(len(sets_NC)), probabilities_NC.argmax(axis=1)] = True
    return sets_NC


def label_sets(probabilities_NC: Array, spec: TaskSpec, reaches_C: Array) -> NDArray[np.bool_]:
    """Take of each label what is not ruled out, never nothing, bool `[N, C, 2]`: `absent`, then `present`."""
    evidence_NC = _evidence(probabilities_NC, spec)
    scores_NC2 = np.stack([evidence_NC, 1 - evidence_NC], axis=2)
    is_likelier = scores_NC2 <= scores_NC2.min(axis=2, keepdims=True)
    return (scores_NC2 <= reaches_C[:, None] + _TIE) | is_likelier


def score_intervals(scores_NC: Array, reaches_C: Array) -> tuple[Array, Array]:
    """Reach q to both sides of scores, within the scale [0, 1], which the truth never leaves."""
    return (scores_NC - reaches_C).clip(0.0, 1.0), (scores_NC + reaches_C).clip(0.0, 1.0)


def covered(predicted_NC: Array, targets_NC: Array, spec: TaskSpec, reaches_F: Array) -> Array:
    """Tell whether the sets or intervals of clips hold the truth, `[N, F]` of 0 and 1; NaN where it is not known."""
    scores_NF = conformal_scores(predicted_NC, targets_NC, spec)
    holds_NF = scores_NF <= np.asarray(reaches_F) + _TIE
    if spec.kind == "multi_label":
        holds_NF |= scores_NF <= 0.5  # the likelier of both is never ruled out
    elif spec.kind == "single_label":
        holds_NF |= scores_NF <= 1 - predicted_NC.max(axis=1, keepdims=True)
    return np.where(np.isfinite(scores_NF), holds_NF.astype(np.float64), np.nan)


def set_sizes(predicted_NC: Array, spec: TaskSpec, reaches_F: Array) -> Array:
    """Measure sets in classes, of labels in states (1 or 2), or the width of intervals, `[N, F]`."""
    if spec.kind == "regression":
        low_NC, high_NC = score_intervals(predicted_NC, reaches_F)
        return high_NC - low_NC
    if spec.kind == "multi_label":
        return label_sets(predicted_NC, spec, reaches_F).sum(axis=2).astype(np.float64)
    return class_sets(predicted_NC, float(reaches_F[0])).sum(axis=1, keepdims=True).astype(np.float64)


def fit_conformal(
    predicted: Mapping[str, Array], targets: Mapping[str, Array], groups_N: NDArray, corpora_N: NDArray,
    tasks: Mapping[str, TaskSpec], seen_N: NDArray[np.bool_] | None = None, alone_N: NDArray[np.bool_] | None = None,
) -> dict[str, dict[str, tuple[ConformalFit, ...]]]:  # fmt: skip
    """Fit every task's guarantees to each corpus' labelled dev clips.

    Args:
        predicted: per task `[N, C]`, calibrated.
        targets: per task `[N, C]`, NaN where unknown.
        groups_N: each clip's group.
        corpora_N: its corpus.
        tasks: specifications.
        seen_N: whether training has clips of its group; these are left out, and counted. None is of no clip.
        alone_N: whether no group is known of it, so that it is its own. None is of no clip.

    Returns:
        Fits by task and by corpus that has a labelled clip of it.
    """
    seen_N = np.zeros(len(groups_N), bool) if seen_N is None else seen_N
    alone_N = np.zeros(len(groups_N), bool) if alone_N is None else alone_N
    fits: dict[str, dict[str, tuple[ConformalFit, ...]]] = {}
    for task, spec in tasks.items():
        scores_NF = conformal_scores(predicted[task], targets[task], spec)
        fits[task] = {}
        for corpus in dict.fromkeys(corpora_N.tolist()):
            rows = corpora_N == corpus
            if np.isfinite(scores_NF[rows]).any():
                of_corpus = (
                    _fit_unseen(column, groups_N[rows], seen_N[rows], alone_N[rows]) for column in scores_NF[rows].T
                )
                fits[task][corpus] = tuple(of_corpus)
    return fits


def _fit_unseen(scores_N: Array, groups_N: NDArray, seen_N: NDArray, alone_N: NDArray) -> ConformalFit:
    is_known = np.isfinite(scores_N)
    counts = {
        name: len(np.unique(groups_N[is_known & rows_N]))
        for name, rows_N in (("num_seen", seen_N), ("num_alone", alone_N & ~seen_N))
    }
    return ConformalFit.of(np.where(seen_N, np.nan, scores_N), groups_N).model_copy(update=counts)


def promise(fits: Conformals, task: str, spec: TaskSpec, level: float, corpora: Iterable[str] | None = None) -> Promise:
    """Tell what is promised of a task: for new groups of any of some corpora, the widest of their quantiles.

    Corpora with too few groups for the level promise nothing and widen nothing, unless there is no other.

    Args:
        fits: of the model.
        task: its name.
        spec: the task.
        level: asked, from 0.5 to 0.99.
        corpora: for which; None for all that it was fitted on.
    """
    of_task = fits.get(task, {})
    chosen = {corpus: of_task[corpus] for corpus in (of_task if corpora is None else corpora) if corpus in of_task}
    if not chosen:
        return no_promise(spec, level)
    quantiles = {corpus: np.array([fit.quantile(level) for fit in of_corpus]) for corpus, of_corpus in chosen.items()}
    known = {corpus for corpus, values in quantiles.items() if np.isfinite(values).any()}
    reaches_F = np.max([quantiles[corpus] for corpus in known or quantiles], axis=0)  # infinite for want of one trait
    most = {corpus: max(of_corpus, key=lambda fit: fit.num_groups) for corpus, of_corpus in chosen.items()}
    groups = {corpus: fit.num_groups for corpus, fit in most.items() if corpus in known}
    short = {corpus: fit.num_groups for corpus, fit in most.items() if corpus not in known}
    alone, seen = (
        {corpus: number for corpus, fit in most.items() if (number := getattr(fit, name))}
        for name in ("num_alone", "num_seen")
    )
    return Promise(level, reaches_F, groups, short, alone=alone, seen=seen)


def no_promise(spec: TaskSpec, level: float) -> Promise:
    """Tell that nothing is promised, because nothing was fitted."""
    num_guarantees = 1 if spec.kind == "single_label" else spec.num_outputs
    return Promise(level, np.full(num_guarantees, np.inf), {}, {}, stored=False)


def _evidence(probabilities_NC: Array, spec: TaskSpec) -> Array:
    """Move probabilities so that the default threshold comes to 1/2, g of `conformal_scores`."""
    thresholds_C = default_thresholds(spec)
    present_NC, absent_NC = probabilities_NC * (1 - thresholds_C), (1 - probabilities_NC) * thresholds_C
    return np.asarray(present_NC / (present_NC + absent_NC))
