"""Linear models of single views, fused late: each view by itself, weighed on clips that it was not fitted to.

A view is a modality, or all of them together. It has a penalty of its own, since views of different widths want
penalties that differ by a factor of ten. Penalties and weights are chosen on predictions of training clips by models
that were fitted without those clips' groups; dev and test clips choose nothing. The weighted sum of linear models is a
linear model again, so that what comes out is one map of all columns.

Shape suffixes: N clips, D columns, V views, P penalties, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from scipy.special import expit, log_softmax, softmax

from mmpsr.decisions import Array
from mmpsr.tasks import TaskSpec
from training.linear.regressions import Decomposed, LinearMaps, fit_logistic, fit_ridge

__all__ = ["ALL", "NUM_FOLDS", "PENALTIES", "ViewModels", "Weighed", "class_weights", "deal_folds", "weigh_views"]

ALL = "all"
"""The view of all columns."""
NUM_FOLDS = 5
PENALTIES = (10.0, 30.0, 100.0, 300.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0, 32_000.0)
CONSTANT = 10.0
"""Largest intercept, in logits: what a class that all training clips have comes to; minus it where none has."""

LEAST_SCALE = 1e-12  # deviation of scores that say anything


@dataclass(frozen=True)
class Weighed:
    """Views with their weights.

    Attributes:
        shares: by view `[V]`, none below 0.
        bias: `[C]`.
        out_of_fold: `[N, C]`, logits or scores of the training clips by models that were fitted without their groups.
    """

    shares: Array
    bias: Array
    out_of_fold: Array


def deal_folds(groups: Sequence[str] | NDArray[np.object_], num_folds: int = NUM_FOLDS) -> NDArray[np.int64]:
    """Deal clips to folds by group, the largest group first to the fold with the fewest clips, `[N]`.

    With fewer groups than folds there are as many folds as groups; of a single group every clip is dealt by itself.
    """
    names, group_N, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    if len(names) == 1:
        return np.arange(len(group_N)) % min(num_folds, len(group_N))
    counts, fold_of = np.zeros(min(num_folds, len(names)), dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold_of[group] = np.argmin(counts)
        counts[fold_of[group]] += sizes[group]
    return fold_of[group_N]


class ViewModels:
    """Linear models of a task, one for each view, and what they say of clips that they were not fitted to.

    Args:
        inputs_ND: standardised columns of labelled training clips, zero where a modality is absent.
        targets_NC: 0 and 1, for a single label with one 1 a row; scores of a regression, NaN where unknown.
        groups: clips of one group are always fitted together.
        views: columns of each; the view of all is added where there are several.
        spec: the task.
        given: views that are not fitted, by name: logits, or a score's distance, `[N, C]`.

    Attributes:
        names: of all views, the given ones last.
        penalties: of the fitted ones.
        by_penalty: of the last fitted view, that of all columns, `[P, N, C]`.
        scores: out of fold, without intercepts, `[V, N, C]`.
        folds: of the clips, `[N]`.
    """

    def __init__(
        self,
        inputs_ND: NDArray[np.floating],
        targets_NC: Array,
        groups: Sequence[str] | NDArray[np.object_],
        views: Mapping[str, slice],
        spec: TaskSpec,
        given: Mapping[str, Array] | None = None,
    ) -> None:
        self._inputs, self._targets, self._spec = inputs_ND, targets_NC, spec
        self._places = dict(views)
        if len(self._places) > 1:
            self._places[ALL] = slice(0, inputs_ND.shape[1])
        self.names = [*self._places, *(given or {})]
        self.penalties: dict[str, float] = {}
        self._balanced = class_weights(targets_NC, spec)
        self.folds, scores = deal_folds(groups), []
        for view, place in self._places.items():
            self.by_penalty = _out_of_fold(inputs_ND[:, place], targets_NC, self.folds, spec)
            losses = [weigh_views(each[None], targets_NC, self._balanced, spec)[2] for each in self.by_penalty]
            best = int(np.argmin(losses))
            scores.append(self.by_penalty[best])
            self.penalties[view] = PENALTIES[best]
        self.scores = np.stack([*scores, *(given or {}).values()])

    def weigh(self, exponent: float = 1.0) -> Weighed:
        """Weigh the views.

        Args:
            exponent: on the classes' weights, which decides how readily a rare class is predicted.
        """
        shares_V, bias_C, _ = weigh_views(self.scores, self._targets, self._balanced**exponent, self._spec)
        return Weighed(shares_V, bias_C, np.einsum("v,vnc->nc", shares_V, self.scores) + bias_C)

    def raise_given(self, weighed: Weighed, floor: float, exponent: float = 1.0) -> Weighed:
        """Let the given views together say at least so much as the fitted ones, and fit scale and intercepts anew.

        Args:
            weighed: the views; what it is already enough for is returned as it is.
            floor: least deviation over clips of what the given views add, as a share of what the fitted ones add.
            exponent: as of `weigh`.
        """
        num_fitted, shares_V = len(self._places), weighed.shares.copy()
        if not shares_V[num_fitted:].any():
            shares_V[num_fitted:] = 1.0
        fitted_NC = np.einsum("v,vnc->nc", shares_V[:num_fitted], self.scores[:num_fitted])
        given_NC = np.einsum("v,vnc->nc", shares_V[num_fitted:], self.scores[num_fitted:])
        least, found = (float((each - each.mean(axis=0)).std()) for each in (fitted_NC, given_NC))
        if found >= floor * least or found <= LEAST_SCALE:
            return weighed
        shares_V[num_fitted:] *= floor * least / found
        sums_NC = np.einsum("v,vnc->nc", shares_V, self.scores)
        (scale,), bias_C, _ = weigh_views(sums_NC[None], self._targets, self._balanced**exponent, self._spec)
        return Weighed(scale * shares_V, bias_C, scale * sums_NC + bias_C)

    def fit(self, weighed: Weighed) -> tuple[Array, Array]:
        """Fit every view that counts to all clips, and add them up: a map `[C, D]` and intercepts `[C]`.

        The given views are not in it.
        """
        weight_CD = np.zeros((self._targets.shape[1], self._inputs.shape[1]))
        bias_C = weighed.bias
        for (view, place), share in zip(self._places.items(), weighed.shares, strict=False):
            if share > 0:
                inputs_Nd, penalties = self._inputs[:, place], (self.penalties[view],)
                fitted, center_d = _fit(inputs_Nd, self._targets, self._balanced, penalties, self._spec)
                part_Cd = share * fitted.weights[0].numpy()
                weight_CD[:, place] += part_Cd
                bias_C = bias_C - part_Cd @ center_d
        return weight_CD, bias_C


def weigh_views(scores_VNC: Array, targets_NC: Array, weights_NC: Array, spec: TaskSpec) -> tuple[Array, Array, float]:
    """Weigh views, no weight below zero and the same for all outputs, with a free intercept for each output.

        argmin over a >= 0, b of sum_n weight_n loss(sum_v a_v s_vn + b, y_n)

    Args:
        scores_VNC: of models that did not see the clips.
        targets_NC: as of `ViewModels`.
        weights_NC: of each clip's loss.
        spec: squared errors for regression, cross-entropies else.

    Returns:
        Weights `[V]`, 0 of a view that says the same of all clips; intercepts `[C]`; and the loss there.
    """
    num_views, _, num_outputs = scores_VNC.shape
    if spec.kind == "regression":
        known_NC = np.isfinite(targets_NC)
        count_C = np.maximum(known_NC.sum(axis=0), 1)
        mean_C = np.where(known_NC, targets_NC, 0.0).sum(axis=0) / count_C
        means_VC = np.where(known_NC, scores_VNC, 0.0).sum(axis=1) / count_C
        columns = (scores_VNC - means_VC[:, None])[:, known_NC].T
        shares_V, residual = nnls(columns, (targets_NC - mean_C)[known_NC])
        return shares_V, mean_C - shares_V @ means_VC, float(residual**2)
    scales_V = scores_VNC.std(axis=1).max(axis=1)  # scores of heavy penalties are small, and so are their slopes
    scales_V = np.where(scales_V > LEAST_SCALE, scales_V, np.inf)
    scaled_VNC = scores_VNC / scales_V[:, None, None]
    total, exclusive = weights_NC.sum(), _is_exclusive(spec)

    def objective(parameters: Array) -> tuple[float, Array]:
        logits_NC = np.einsum("v,vnc->nc", parameters[:num_views], scaled_VNC) + parameters[num_views:]
        if exclusive:
            loss = -(weights_NC * targets_NC * log_softmax(logits_NC, axis=1)).sum()
            slopes_NC = weights_NC * (softmax(logits_NC, axis=1) - targets_NC)
        else:
            loss = (weights_NC * np.logaddexp(0.0, (1 - 2 * targets_NC) * logits_NC)).sum()
            slopes_NC = weights_NC * (expit(logits_NC) - targets_NC)
        slopes = [np.einsum("vnc,nc->v", scaled_VNC, slopes_NC), slopes_NC.sum(axis=0)]
        return loss / total, np.concatenate(slopes) / total

    start = np.concatenate([np.full(num_views, 1 / num_views), np.zeros(num_outputs)])
    limits = [(0.0, None)] * num_views + [(-CONSTANT, CONSTANT)] * num_outputs
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=limits)
    return found.x[:num_views] / scales_V, found.x[num_views:], float(found.fun)


def _is_exclusive(spec: TaskSpec) -> bool:
    return spec.kind == "single_label"


def class_weights(targets_NC: Array, spec: TaskSpec) -> Array:
    """Weigh clips by inverse frequency, `[N, C]`: of present and absent for each output, or of the one class."""
    if spec.kind == "regression":
        return np.ones_like(targets_NC)
    present_C, num_clips = targets_NC.sum(axis=0), len(targets_NC)
    if _is_exclusive(spec):
        weights_C = num_clips / (np.count_nonzero(present_C) * np.maximum(present_C, 1))
        return np.broadcast_to((targets_NC * weights_C).sum(axis=1, keepdims=True), targets_NC.shape)
    of_present_C, of_absent_C = (num_clips / (2 * np.maximum(n, 1)) for n in (present_C, num_clips - present_C))
    return cast(Array, np.where(targets_NC > 0, of_present_C, of_absent_C))


def _out_of_fold(
    inputs_ND: NDArray[np.floating], targets_NC: Array, folds_N: NDArray[np.int64], spec: TaskSpec
) -> Array:
    """Predict every clip by models fitted without its fold, without intercepts, `[P, N, C]`; zeros of a sole clip."""
    scores_PNC = np.zeros((len(PENALTIES), *targets_NC.shape))
    for fold in np.unique(folds_N):
        out = folds_N == fold
        if out.all():
            break
        seen_NC = targets_NC[~out]
        fitted, center_D = _fit(inputs_ND[~out], seen_NC, class_weights(seen_NC, spec), PENALTIES, spec, 1e-3)
        moved = torch.from_numpy(inputs_ND[out] - center_D).to(fitted.weights.dtype)
        scores_PNC[:, out] = torch.einsum("nd,pcd->pnc", moved, fitted.weights).numpy()
    return scores_PNC


def _fit(
    inputs_ND: NDArray[np.floating],
    targets_NC: Array,
    weights_NC: Array,
    penalties: Sequence[float],
    spec: TaskSpec,
    tolerance: float = 1e-5,
) -> tuple[LinearMaps, Array]:
    """Fit maps of centred columns; give the centre, too."""
    penalties_P = torch.tensor(penalties, dtype=torch.float64)
    if spec.kind != "regression":
        center_D = inputs_ND.mean(axis=0, dtype=np.float64)
        columns = Decomposed.of(torch.from_numpy(inputs_ND - center_D))
        targets, weights = torch.from_numpy(targets_NC), torch.from_numpy(np.ascontiguousarray(weights_NC))
        return fit_logistic(columns, targets, weights, penalties_P, _is_exclusive(spec), tolerance), center_D
    known_NC = np.isfinite(targets_NC)
    center_D = inputs_ND[known_NC.any(axis=1)].mean(axis=0, dtype=np.float64)
    maps = torch.zeros(len(penalties), targets_NC.shape[1], inputs_ND.shape[1], dtype=torch.float64)
    biases = torch.zeros(len(penalties), targets_NC.shape[1], dtype=torch.float64)
    for pattern in np.unique(known_NC, axis=1).T:
        if not pattern.any():
            continue
        outputs = np.flatnonzero((known_NC == pattern[:, None]).all(axis=0))
        inputs_nD = inputs_ND[pattern] - inputs_ND[pattern].mean(axis=0, dtype=np.float64)
        targets_nC = torch.from_numpy(targets_NC[np.ix_(pattern, outputs)])
        fitted = fit_ridge(Decomposed.of(torch.from_numpy(inputs_nD)), targets_nC, penalties_P)
        maps[:, outputs], biases[:, outputs] = fitted.weights, fitted.biases
    return LinearMaps(maps, biases), center_D
