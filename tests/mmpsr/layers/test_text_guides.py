"""Guide banks of texts: similarities against the reference in numpy and by hand, and what they must not read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmpsr.layers.prototype_bank import stored_points
from mmpsr.layers.text_guides import TextGuides
from mmpsr.prototypes.points import similarities

ALL = torch.tensor([[True, True, True], [True, True, False], [False, True, True], [False, True, False]])
"""Clips with words and behaviour, with either, and with neither."""


def random_vectors() -> dict[str, Tensor]:
    """Vectors of three modalities, of which the first two numbers past the space of 6 are no mean over tokens."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(4, 8, generator=generator) for name in ("text", "audio", "behavior")}


def random_points(poles: int, classes: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(poles, classes, 6, generator=generator) for name in ("text", "behavior")}


@pytest.mark.parametrize("poles", [1, 2])
@pytest.mark.parametrize("trained", [True, False])
def test_start_is_the_mean_of_the_reference_over_present_modalities(poles: int, trained: bool) -> None:
    vectors, points = random_vectors(), random_points(poles)
    wanted = {
        name: torch.from_numpy(similarities(vectors[name][:, :6].numpy(), points[name].numpy())) for name in points
    }
    found = TextGuides(points, trained)(vectors, ALL)
    torch.testing.assert_close(found[0], (wanted["text"][0] + wanted["behavior"][0]).float() / 2)
    torch.testing.assert_close(found[1], wanted["text"][1].float())
    torch.testing.assert_close(found[2], wanted["behavior"][2].float())
    assert not found[3].any()
    assert found[:3].abs().min() > 0


def test_points_that_have_moved() -> None:
    # The texts lie at (1, 0) and (0, 1), half a unit from their middle in each direction: the scale is 0.5. The first
    # moves by 2 * 0.5 to (2, 0), the middle to (1, 0.5), from where the clip, unit (1, 0), is seen as (0, -0.5).
    # The first guide is seen as (1, -0.5), the other as (-1, 0.5): cosines of +-0.25 / (0.5 sqrt(1.25)) = 0.447214.
    guides = TextGuides({"text": torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])}, trained=True)
    words, there = {"text": torch.tensor([[3.0, 0.0]])}, torch.ones(1, 1, dtype=torch.bool)
    torch.testing.assert_close(guides(words, there), torch.tensor([[1.0, -1.0]]))
    guides["text"].offsets.data[0, 0, 0] = 2.0
    torch.testing.assert_close(guides(words, there), torch.tensor([[0.447214, -0.447214]]), atol=1e-6, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(guides(words, there), torch.tensor([[0.447214, -0.447214]]), atol=1e-6, rtol=0)


def test_only_what_is_trained_is_a_parameter() -> None:
    tied, trained = TextGuides(random_points(1), trained=False), TextGuides(random_points(1), trained=True)
    assert list(tied.parameters()) == []
    assert [name for name, _ in trained.named_parameters()] == ["text.offsets", "behavior.offsets"]
    trained(random_vectors(), ALL).square().sum().backward()
    assert all(each.grad.abs().max() > 0 for each in trained.parameters())


def test_reads_neither_absent_vectors_nor_lengths_nor_what_is_not_the_mean() -> None:
    vectors, guides = random_vectors(), TextGuides(random_points(2), trained=True)
    plain = guides(vectors, ALL)
    plain.square().sum().backward()
    gradients = [each.grad.clone() for each in guides.parameters()]
    guides.zero_grad()
    for index, name in enumerate(vectors):
        vectors[name] = vectors[name] * 7.0
        vectors[name][:, 6:] = 99.0
        vectors[name][~ALL[:, index]] = torch.nan
    vectors["audio"][:] = torch.nan
    found = guides(vectors, ALL)
    torch.testing.assert_close(found, plain)
    found.square().sum().backward()
    for each, gradient in zip(guides.parameters(), gradients, strict=True):
        torch.testing.assert_close(each.grad, gradient)


def test_points_are_found_among_a_model_s_weights() -> None:
    weights = {
        "towers.emotion.text_guides.text.points": torch.ones(1),
        "towers.emotion.text_guides.text.offsets": torch.ones(2),
        "towers.emotion.share": torch.ones(3),
        "prototypes.emotion.behavior.points": torch.ones(4),
        "prototypes.emotion.behavior.means": torch.ones(5),
    }
    assert stored_points(weights) == {"emotion": {"behavior": weights["prototypes.emotion.behavior.points"]}}
    found = stored_points(weights, "towers.", ".text_guides.")
    assert found == {"emotion": {"text": weights["towers.emotion.text_guides.text.points"]}}
