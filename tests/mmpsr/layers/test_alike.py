"""Stacks of alike layers against the layers one by one, and their gradients against autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmpsr.layers.alike import AlikeLinears, AlikeNorms, AlikeVectors, laid_together


def padded(parts: list[Tensor], width: int) -> Tensor:
    return torch.stack([nn.functional.pad(part, (0, width - part.shape[-1])) for part in parts])


@pytest.mark.parametrize(
    ("widths", "bias"), [([(4, 3)] * 2, True), ([(4, 3), (2, 5), (1, 1)], True), ([(4, 3)], False)]
)
def test_linear_layers_and_their_gradients(widths: list[tuple[int, int]], bias: bool) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(width_in, width_out, bias=bias).double() for width_in, width_out in widths]
    stack = AlikeLinears(layers)
    inputs = [torch.randn(6, width_in, dtype=torch.float64) for width_in, _ in widths]
    expected = [layer(part) for layer, part in zip(layers, inputs, strict=True)]
    most_in, most_out = (max(sizes) for sizes in zip(*widths, strict=True))
    torch.testing.assert_close(stack(padded(inputs, most_in)), padded(expected, most_out))
    weights = [torch.randn_like(part) for part in expected]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    by_hand = torch.autograd.grad(
        sum((part * weight).sum() for part, weight in zip(expected, weights, strict=True)), parameters
    )
    for times in (1, 2):  # gradients add up
        stack.form(padded(inputs, most_in), padded(weights, most_out))
        for parameter, gradient in zip(parameters, by_hand, strict=True):
            torch.testing.assert_close(parameter.grad, times * gradient)


@pytest.mark.parametrize("widths", [[5, 5], [5, 2, 3]])
def test_norms_and_their_gradients(widths: list[int]) -> None:
    torch.manual_seed(0)
    layers = [nn.LayerNorm(width).double() for width in widths]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    with torch.no_grad():
        for parameter in parameters:
            parameter += torch.randn_like(parameter)
    stack = AlikeNorms(layers)
    inputs = [torch.randn(6, width, dtype=torch.float64, requires_grad=True) for width in widths]
    expected = [layer(part) for layer, part in zip(layers, inputs, strict=True)]
    normal = stack.normalize(padded(inputs, max(widths)))
    found = stack.scale(normal)
    torch.testing.assert_close(found, padded(expected, max(widths)))
    weights = padded([torch.randn_like(part) for part in expected], max(widths))
    by_hand = torch.autograd.grad((padded(expected, max(widths)) * weights).sum(), [*parameters, *inputs])
    stack.form(normal.detach(), weights)
    own = torch.autograd.grad((found * weights).sum(), inputs)
    for gradient, reference in zip([*(p.grad for p in parameters), *own], by_hand, strict=True):
        torch.testing.assert_close(gradient, reference)


def test_frozen_parameters_get_no_gradient_and_shared_memory_is_followed() -> None:
    vectors = [nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([3.0, 4.0]), requires_grad=False)]
    stack = AlikeVectors(vectors)
    with torch.no_grad():
        vectors[1].mul_(2.0)
    assert stack.values.tolist() == [[1.0, 2.0], [6.0, 8.0]]  # the same memory
    vectors[0].data = torch.tensor([7.0, 7.0])
    stack.refresh()
    assert stack.values.tolist() == [[7.0, 7.0], [6.0, 8.0]]
    stack.form(torch.ones(2, 2))
    assert vectors[0].grad is not None
    assert vectors[1].grad is None


def test_shapes_that_differ_cannot_be_laid_together() -> None:
    with pytest.raises(RuntimeError, match="equal size"):
        laid_together([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))])
