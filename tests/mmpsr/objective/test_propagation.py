"""Label propagation, against scikit-learn and by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.semi_supervised import LabelSpreading
from torch.nn import functional

from mmpsr.objective import propagation
from mmpsr.objective.propagation import affinities, induce, propagate
from mmpsr.objective.supervised import balanced_weights
from mmpsr.tasks import AMBIVALENCE, EMOTION, PERSONALITY, TaskSpec

NAN = float("nan")
THREE = TaskSpec(kind="single_label", classes=("a", "b", "c"), loss="cross_entropy", metrics=())
BINARY = EMOTION.model_copy(update={"loss": "binary_cross_entropy"})
TRAIT = PERSONALITY.model_copy(update={"classes": ("openness",)})
CHAIN = sparse.csr_array(np.array([[0.0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]))


def clips(num_clips: int = 60, width: int = 8) -> torch.Tensor:
    return torch.randn(num_clips, width, generator=torch.Generator().manual_seed(0))


def test_affinities_are_cosines_to_the_nearest_cubed_and_symmetric(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clips()
    similar = cosine_similarity(vectors.numpy())
    np.fill_diagonal(similar, -2.0)
    expected = np.zeros_like(similar)
    for row, order in enumerate(np.argsort(-similar, axis=1)[:, :5]):
        expected[row, order] = similar[row, order].clip(min=0) ** 3
    found = affinities(vectors, 5)
    np.testing.assert_allclose(found.toarray(), expected + expected.T, atol=1e-5)
    monkeypatch.setattr(propagation, "BLOCK", 7)
    np.testing.assert_allclose(affinities(vectors, 5).toarray(), found.toarray(), atol=1e-6)
    assert affinities(vectors[:1], 5).toarray().tolist() == [[0.0]]
    assert (affinities(vectors[:3], 5).toarray() > 0).sum() <= 6  # two neighbours are all there are


@pytest.mark.parametrize("alpha", [0.2, 0.9])
def test_one_class_per_clip_is_scikit_learns_label_spreading(alpha: float) -> None:
    graph = affinities(clips(), 8)
    classes = np.arange(60) % 3
    classes[15:] = -1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reference = LabelSpreading(kernel=lambda left, right: graph.toarray(), alpha=alpha, max_iter=10_000, tol=1e-12)
        reference.fit(np.zeros((60, 1)), classes)
    labels = torch.full((60, 3), NAN)
    labels[:15] = functional.one_hot(torch.from_numpy(classes[:15]), 3).float()
    found = propagate(graph, labels, THREE, alpha)
    np.testing.assert_allclose(found.numpy(), reference.label_distributions_, atol=1e-6)


def test_scores_are_means_by_what_reaches_a_clip_by_hand() -> None:
    # Degrees 1, 2, 1: S has 1 / sqrt 2 between neighbours. With alpha = 0.5, x = (I - S / 2)^(-1) b; by symmetry, of
    # b = (1, 0, 0): a = 1 / (2 sqrt 2) = 0.353553, middle m = a (x0 + x2), x0 = 1 + a m, x2 = a m:
    # m = a (1 + 2 a m) = 0.353553 / (1 - 0.25) = 0.471405, x2 = 1 / 6, x0 = 7 / 6; of b = (0, 0, 1) the mirror image.
    # Labels 0.2 and 0.8 at the ends: ends (0.2 * 7 + 0.8) / 8 = 0.275 and 0.725, middle 0.5; the last clip is alone.
    labels = torch.tensor([[0.2], [NAN], [0.8], [NAN]])
    found = propagate(CHAIN, labels, TRAIT, 0.5)
    torch.testing.assert_close(found[:3], torch.tensor([[0.275], [0.5], [0.725]]))
    assert found[3].isnan().all()


def test_independent_classes_spread_one_by_one() -> None:
    labels = torch.tensor([[0.3, 0.0] + [0.0] * 5, [NAN] * 7, [0.9, 0.9] + [0.0] * 5, [NAN] * 7])
    found = propagate(CHAIN, labels, BINARY, 0.5)
    # Present above 0: class 0 in both, class 1 in the second alone: 1 / 8, 1 / 2, 7 / 8 as above.
    torch.testing.assert_close(found[:3, 0], torch.ones(3))
    torch.testing.assert_close(found[:3, 1], torch.tensor([0.125, 0.5, 0.875]))
    assert not found[:3, 2:].any()


@pytest.mark.parametrize("spec", [AMBIVALENCE, BINARY])
def test_class_weights_count_labels_as_the_loss_does(spec: TaskSpec) -> None:
    # Two absent clips and a present one around an unknown one: 1 / 3 as counted, 1 / 2 as weighted.
    star = sparse.csr_array(np.array([[0.0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 0]]))
    labels = torch.zeros(4, spec.num_outputs)
    labels[2, 1] = 1.0
    labels[:2, 0] = 1.0
    labels[3] = NAN
    assert propagate(star, labels, spec, 0.5)[3, 1].item() == pytest.approx(1 / 3)
    weights = balanced_weights(labels, spec)
    assert propagate(star, labels, spec, 0.5, weights)[3, 1].item() == pytest.approx(1 / 2)


def test_the_order_of_clips_does_not_matter() -> None:
    vectors, order = clips(), torch.randperm(60, generator=torch.Generator().manual_seed(1))
    labels = torch.where(torch.arange(60)[:, None] < 12, clips(60, 5).sigmoid(), NAN)
    straight = propagate(affinities(vectors, 6), labels, PERSONALITY, 0.9)
    mixed = propagate(affinities(vectors[order], 6), labels[order], PERSONALITY, 0.9)
    torch.testing.assert_close(mixed, straight[order], equal_nan=True)


def test_clips_outside_take_the_mean_of_their_neighbours() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [3.0, 4.0]])
    values = torch.tensor([[0.2], [0.8], [0.5], [NAN]])
    # Cosines 0.6, 0.8, -0.6 and 1: of the three nearest the one without a value does not count:
    # (0.216 * 0.2 + 0.512 * 0.8) / (0.216 + 0.512) = 0.621978; nothing near (-3, -4) but the third clip: 0.5.
    found = induce(torch.tensor([[6.0, 8.0], [-3.0, -4.0]]), vectors, values, 3)
    torch.testing.assert_close(found, torch.tensor([[0.621978], [0.5]]), atol=1e-5, rtol=0)
