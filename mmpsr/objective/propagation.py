"""Label propagation: labels spread over nearest neighbours among the training clips, as a source of pseudo-labels.

Shape suffixes: N clips, Q queries, D width of their vectors, C outputs of a task, J right-hand sides.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from mmpsr.objective.supervised import trained_targets
from mmpsr.probabilities import has_one_class
from mmpsr.tasks import TaskSpec

__all__ = ["affinities", "induce", "propagate"]

EXPONENT = 3.0
"""Of cosine similarities, so that near neighbours count more than far ones."""
TOLERANCE = 1e-8  # of the residual, relative
MOST_STEPS = 500
BLOCK = 2048  # rows of similarities at a time
NOTHING = 1e-9  # of the mass of labels, below which a clip is reached by none


def _neighbors(queries_QD: Tensor, keys_ND: Tensor, num_neighbors: int, same: bool) -> tuple[Tensor, Tensor]:
    """Find each query's nearest keys by cosine, itself left out where both are the same: indices, weights `[Q, k]`."""
    queries_QD, keys_ND = (functional.normalize(vectors.float(), dim=1) for vectors in (queries_QD, keys_ND))
    num_neighbors = min(num_neighbors, len(keys_ND) - same)
    indices, weights = [], []
    for start in range(0, len(queries_QD), BLOCK):
        similar = queries_QD[start : start + BLOCK] @ keys_ND.T
        if same:
            similar.diagonal(start).fill_(-2.0)
        top = similar.topk(num_neighbors, dim=1)
        indices.append(top.indices)
        weights.append(top.values.clamp(min=0.0) ** EXPONENT)
    return torch.cat(indices), torch.cat(weights)


def affinities(vectors_ND: Tensor, num_neighbors: int) -> sparse.csr_array:
    """Weigh the edges of a graph of nearest neighbours, `[N, N]`, symmetric.

        a_ij = max(cos(v_i, v_j), 0)^3 where j is among the k nearest of i, else 0;   W = A + A^T

    Args:
        vectors_ND: of the clips.
        num_neighbors: k.
    """
    indices, weights = _neighbors(vectors_ND, vectors_ND, num_neighbors, same=True)
    num_clips, width = indices.shape
    places = width * np.arange(num_clips + 1)
    values = weights.flatten().double().cpu().numpy()
    directed = sparse.csr_array((values, indices.flatten().cpu().numpy(), places), shape=(num_clips, num_clips))
    return sparse.csr_array(directed + directed.T)


def propagate(
    affinities_NN: sparse.csr_array,
    labels_NC: Tensor,
    spec: TaskSpec,
    alpha: float,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Spread known labels over a graph, and give every clip the mean of what reaches it.

        S = D^(-1/2) W D^(-1/2),   F = (1 - alpha) (I - alpha S)^(-1) K Y,   M likewise of K,   F / M

    with W the affinities, D their sums by clip, Y the labels as the supervised loss trains them (`trained_targets`, or
    scores) and K 1 where one is known, else 0. Of a task with one class per clip this is scikit-learn's
    `LabelSpreading` with these affinities; independent classes and scores become means of labels weighted by what
    reaches the clip. With class weights w a label counts as w times itself, so that of classes that are rare and
    weighted the probabilities are those that the supervised loss trains, too: w_c Y_c in place of K Y, and in place of
    K the sum over all classes, or over both sides of an independent one.

    Args:
        affinities_NN: of `affinities`.
        labels_NC: NaN where unknown; rows of a classification count where all are known, scores one by one.
        spec: the task.
        alpha: in (0, 1), how far labels spread; also a known label gives way to its neighbours' by this share.
        class_weights: `[2, C]` of `balanced_weights`.

    Returns:
        Probabilities or scores `[N, C]`, NaN where no label reaches a clip.

    References:
        Zhou et al.: Learning with local and global consistency. NeurIPS 2003. Iscen et al.: Label propagation for deep
        semi-supervised learning. CVPR 2019 (over a network's features, anew in every epoch).

    Example:
        >>> from mmpsr.tasks import AMBIVALENCE
        >>> chain = sparse.csr_array(np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]))
        >>> labels = torch.tensor([[1.0, 0.0], [torch.nan, torch.nan], [0.0, 1.0]])
        >>> propagate(chain, labels, AMBIVALENCE, 0.5)[1]  # as near to the one as to the other
        tensor([0.5000, 0.5000])
    """
    known_NC = torch.isfinite(labels_NC)
    targets_NC = torch.where(known_NC, labels_NC, 0.0)
    if spec.kind != "regression":
        known_NC = known_NC.all(dim=1, keepdim=True).expand_as(known_NC)
        targets_NC = trained_targets(targets_NC, spec)
    absent, present = (1.0, 1.0) if class_weights is None else class_weights
    labels, mass_NC = present * targets_NC * known_NC, known_NC.to(targets_NC.dtype)
    if has_one_class(spec):
        mass_NC = labels.sum(dim=1, keepdim=True).expand_as(labels)
    elif spec.kind != "regression":
        mass_NC = labels + absent * (1 - targets_NC) * known_NC
    sources = torch.cat([labels, mass_NC], dim=1).double().cpu().numpy()
    sums = affinities_NN.sum(axis=1)
    scale = np.divide(1.0, np.sqrt(sums), out=np.zeros_like(sums), where=sums > 0)
    normalized = sparse.csr_array(affinities_NN * scale[:, None] * scale[None, :])
    spread, mass = np.split((1 - alpha) * _solve(normalized, sources, alpha), 2, axis=1)
    means = np.divide(spread, mass, out=np.full_like(spread, np.nan), where=mass > NOTHING)
    return torch.from_numpy(means.clip(0.0, 1.0)).to(labels_NC)


def _solve(normalized_NN: sparse.csr_array, sources_NJ: NDArray, alpha: float) -> NDArray:
    """Solve (I - alpha S) x = b for every column by conjugate gradients; where b is 0 all around, x is 0."""
    found, residual = np.zeros_like(sources_NJ), sources_NJ.copy()
    direction, squares = residual.copy(), (residual**2).sum(axis=0)
    limits = squares * TOLERANCE**2
    for _ in range(MOST_STEPS):
        if (squares <= limits).all():
            break
        image = direction - alpha * (normalized_NN @ direction)
        curvature = (direction * image).sum(axis=0)
        step = np.divide(squares, curvature, out=np.zeros_like(squares), where=curvature > 0)
        found += step * direction
        residual -= step * image
        before, squares = squares, (residual**2).sum(axis=0)
        direction = residual + np.divide(squares, before, out=np.zeros_like(squares), where=before > 0) * direction
    return found


def induce(queries_QD: Tensor, vectors_ND: Tensor, values_NC: Tensor, num_neighbors: int) -> Tensor:
    """Give clips outside the graph the mean of their nearest neighbours' propagated values, `[Q, C]`.

        f(q) = sum_j a_qj f_j / sum_j a_qj,   over the k nearest clips of the graph that have any

    Args:
        queries_QD: vectors of the clips.
        vectors_ND: of the clips of the graph.
        values_NC: what `propagate` gave these.
        num_neighbors: k.

    References:
        Delalleau, Bengio, Le Roux: Efficient non-parametric function induction in semi-supervised learning. AISTATS
        2005.
    """
    indices, weights = _neighbors(queries_QD, vectors_ND, num_neighbors, same=False)
    near_QkC = values_NC[indices]
    weights_QkC = weights.unsqueeze(-1) * torch.isfinite(near_QkC)
    return (weights_QkC * torch.nan_to_num(near_QkC)).sum(dim=1) / weights_QkC.sum(dim=1)
