"""Norms, inner products and weighted sums of gradients from one pass, against one backward pass for each loss."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mmpsr.balancing import loss_gradients as gradients
from mmpsr.balancing.build import create_balancer
from mmpsr.balancing.config import BalancingConfig
from mmpsr.balancing.loss_gradients import Use, form_gradients, gramian, squared_norms, uses
from mmpsr.batch import Batch
from mmpsr.layers.recorded import LayerNorm, Linear, Tape, per_clip
from mmpsr.models.config import ModelConfig
from mmpsr.models.mcdm import MCDM
from mmpsr.objective.config import ObjectiveConfig
from mmpsr.objective.objective import Objective
from mmpsr.tasks import BUILTIN_TASKS
from training.fit.step import shared_gradients, training_step

WIDTHS = {"text": 9, "audio": 7, "video": 5}


class Small(nn.Module):
    """Every kind of use: a layer called twice, rows within clips, a norm, a vector, no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Linear(4, 6)
        self.norm = LayerNorm(6)
        self.twice = Linear(6, 6, bias=False)
        self.scale = nn.Parameter(torch.rand(6))

    def forward(self, inputs_BRI: Tensor) -> Tensor:
        hidden = self.norm(self.first(inputs_BRI))
        hidden = self.twice(torch.tanh(self.twice(hidden)))
        return hidden * per_clip(self.scale, len(hidden)).unsqueeze(1)


def small_uses(
    num_clips: int, num_rows: int, num_tasks: int = 2
) -> tuple[Small, list[Use], Tensor, list[list[Tensor]]]:
    """Recorded uses for random losses, their masks, and by task and branch the gradients that autograd gives."""
    torch.manual_seed(0)
    model = Small().double()
    inputs = torch.randn(num_clips, num_rows, 4, dtype=torch.float64)
    targets = torch.randn(num_tasks, num_clips, dtype=torch.float64)
    with Tape() as tape:
        outputs = model(inputs)
    by_task = [
        torch.autograd.grad(
            (outputs.square().mean(dim=(1, 2)) * target).sum(), [r.outputs for r in tape.records], retain_graph=True
        )
        for target in targets
    ]
    labeled = torch.rand(num_tasks, num_clips) < 0.5
    masks = torch.stack([labeled, ~labeled], dim=1)
    parameters = list(model.parameters())
    expected = [
        [
            torch.cat(
                [
                    gradient.flatten()
                    for gradient in torch.autograd.grad(
                        (outputs.square().mean(dim=(1, 2)) * target * masks[task, branch]).sum(),
                        parameters,
                        retain_graph=True,
                    )
                ]
            )
            for branch in range(2)
        ]
        for task, target in enumerate(targets)
    ]
    return model, uses(tape.records, by_task), masks, expected


@pytest.mark.parametrize(("num_clips", "num_rows"), [(3, 1), (4, 3), (60, 2)], ids=["gram", "gram-rows", "direct"])
def test_norms_are_those_of_single_losses(num_clips: int, num_rows: int) -> None:
    _, layers, masks, expected = small_uses(num_clips, num_rows)
    found = squared_norms(layers, masks)
    wanted = torch.tensor([[float(each.square().sum()) for each in row] for row in expected], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    assert float(wanted.min()) > 0


@pytest.mark.parametrize("least", [2, 3, 4])
def test_norms_by_halves_are_the_same(monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    """Seven clips of two rows: halves of 3 and 4, of which the second may be halved again."""
    torch.manual_seed(0)
    inputs, gradient = torch.randn(7, 2, 40).double(), torch.randn(3, 7, 2, 30).double()
    masks = torch.rand(3, 2, 7) < 0.6
    sums = torch.einsum("tkb,tbro,bri->tkoi", masks.double(), gradient, inputs)
    biases = torch.einsum("tkb,tbro->tko", masks.double(), gradient)
    sizes = []
    inner = gradients._cross_products

    def counted(*pair: Any) -> torch.Tensor:
        sizes.append(tuple(len(each[0]) for each in pair))
        return inner(*pair)

    monkeypatch.setattr(gradients, "LEAST_HALF", least)
    monkeypatch.setattr(gradients, "_cross_products", counted)
    layer = Linear(40, 30)
    found = squared_norms([Use("linear", (layer.weight, layer.bias), inputs, gradient)], masks)
    wanted = sums.square().sum(dim=(2, 3)) + biases.square().sum(dim=2)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    two = [(2, 2), (2, 2), (2, 2)]
    assert sizes == {2: [(3, 3), *two, (3, 4)], 3: [(3, 3), (4, 4), (3, 4)], 4: [(7, 7)]}[least]


def test_what_norms_have_formed_is_not_formed_again() -> None:
    model, layers, masks, expected = small_uses(60, 2)
    weights, formed = torch.tensor([[0.5, 2.0], [3.0, 0.25]], dtype=torch.float64), {}
    squared_norms(layers, masks, formed=formed)
    assert formed
    assert all(layers[index].kind == "linear" for index in formed)
    form_gradients(layers, (weights.unsqueeze(2) * masks).sum(dim=1), weights, formed)
    wanted = sum(weights[task, branch] * expected[task][branch] for task in range(2) for branch in range(2))
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    for parameter in model.parameters():
        parameter.grad = None
    form_gradients(layers, masks[:, 0] * 0.0, weights * 2, formed)  # the rest is weighed by clip, these by loss
    index, products = next(iter(formed.items()))
    doubled = torch.einsum("tk,tkoi->oi", weights * 2, products)
    torch.testing.assert_close(layers[index].parameters[0].grad, doubled)


def test_inner_products_are_those_of_single_losses() -> None:
    _, layers, masks, expected = small_uses(5, 3)
    flat = torch.stack([each for row in expected for each in row])
    torch.testing.assert_close(gramian(layers, masks), flat @ flat.T, rtol=1e-12, atol=1e-14)


def test_formed_gradients_are_the_weighted_sum_and_add_up() -> None:
    model, layers, masks, expected = small_uses(5, 3)
    weights = torch.tensor([[0.5, 2.0], [3.0, 0.25]], dtype=torch.float64)
    wanted = sum(weights[task, branch] * expected[task][branch] for task in range(2) for branch in range(2))
    for times in (1, 2):
        form_gradients(layers, (weights.unsqueeze(2) * masks).sum(dim=1))
        found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        torch.testing.assert_close(found, times * wanted, rtol=1e-12, atol=1e-14)


def test_frozen_parameters_get_no_gradient() -> None:
    layer = Linear(2, 2)
    layer.bias.requires_grad_(False)
    with Tape() as tape:
        output = layer(torch.ones(1, 2))
    form_gradients(uses(tape.records, [[torch.ones_like(output)]]), torch.ones(1, 1))
    assert layer.bias.grad is None
    assert torch.equal(layer.weight.grad, torch.ones(2, 2))


def batch_of(num_clips: int, dtype: torch.dtype, tasks: Sequence[str]) -> Batch:
    """Random clips with missing modalities, each labelled for one of the tasks or for none."""
    features = {name: torch.randn(num_clips, width, dtype=dtype) for name, width in WIDTHS.items()}
    presence = torch.rand(num_clips, len(WIDTHS)) < 0.7
    presence[:, 0] |= ~presence.any(dim=1)
    owner = torch.randint(0, len(tasks) + 1, (num_clips,))
    labels = {}
    for task, spec in BUILTIN_TASKS.items():
        values = torch.rand(num_clips, spec.num_outputs, dtype=dtype)
        if spec.kind == "regression":
            values[:, 1:][torch.rand(num_clips, spec.num_outputs - 1) < 0.3] = torch.nan  # a label in part
        mine = owner == tasks.index(task) if task in tasks else torch.zeros(num_clips, dtype=torch.bool)
        labels[task] = torch.where(mine[:, None], values, torch.nan)
    return Batch(features, presence, labels)


def twins(dtype: torch.dtype, method: str = "gradnorm", **model: object) -> list[tuple[MCDM, Objective, nn.Module]]:
    torch.manual_seed(1)
    config = ModelConfig(hidden_width=8, head_width=8, num_heads=2, **model)
    tasks = {name: spec.model_copy(update={"threshold": 0.5}) for name, spec in BUILTIN_TASKS.items()}
    first = MCDM(WIDTHS, tasks, config).to(dtype)
    objective = Objective(tasks, ObjectiveConfig(), {})
    balancing = BalancingConfig(method=method, rate_supervised=0.05, rate_pseudo=0.05)
    balancer = create_balancer(objective.keys, balancing).to(dtype)
    return [(copy.deepcopy(first), objective, copy.deepcopy(balancer)) for _ in range(2)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_one_pass_equals_one_backward_pass_per_loss(
    dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty steps with missing labels, missing modalities and empty branches, each model on its own gradients."""
    both = twins(dtype, guide_temperature=True, linear_path={"emotion": "trained"})
    accelerator = Accelerator(cpu=True)
    empty = 0
    for step in range(50):
        tasks = list(BUILTIN_TASKS)[: step % 4]  # of none to all tasks
        batch = batch_of(1 if step == 7 else 12, dtype, tasks)
        results = []
        for one_pass, (model, objective, balancer) in zip((True, False), both, strict=True):
            monkeypatch.setattr(MCDM, "one_pass", one_pass)
            torch.manual_seed(step)
            model.train().zero_grad()
            results.append(training_step(model, objective, balancer, batch, accelerator))
        empty += int((results[0].counts == 0).any(dim=1).sum())
        left, right = results
        torch.testing.assert_close(left.weights, right.weights, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(left.losses, right.losses, rtol=tolerance, atol=tolerance)
        for (name, one), other in zip(both[0][0].named_parameters(), both[1][0].parameters(), strict=True):
            expected = torch.zeros_like(other) if other.grad is None else other.grad
            torch.testing.assert_close(one.grad, expected, rtol=tolerance, atol=tolerance, msg=f"step {step}: {name}")
        with torch.no_grad():
            for model, _, _ in both:
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.05 * parameter.grad
    assert empty > 50
    assert not torch.allclose(both[0][2].weights[0], torch.ones(3, dtype=dtype), atol=0.05)


def test_norms_of_the_last_layer_alone() -> None:
    [(model, objective, balancer), _] = twins(torch.float64)
    balancer.last_layer = True
    seen: list[Tensor] = []
    update = balancer.update
    balancer.update = lambda losses, present, found: seen.append(found) or update(losses, present, found)
    batch, accelerator = batch_of(12, torch.float64, list(BUILTIN_TASKS)), Accelerator(cpu=True)
    model.eval()
    weights = training_step(model, objective, balancer, batch, accelerator).weights
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    losses = torch.stack([term.mean() for term in objective(model(batch), batch).values()])
    wanted = shared_gradients(losses, list(model.graph.parameters()), accelerator).norm(dim=1)
    torch.testing.assert_close(seen[0].flatten(), wanted, rtol=1e-10, atol=1e-12)
    (weights.flatten() * losses).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-10, atol=1e-12)


def test_every_few_steps() -> None:
    config = BalancingConfig(cost="every_k", every=3)
    balancer = create_balancer([("supervised", "a"), ("supervised", "b")], config)
    assert [balancer.needs(step) for step in range(4)] == ["norms", "nothing", "nothing", "norms"]
    before = balancer.weights.clone()
    losses, present = torch.tensor([[1.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool)
    assert torch.equal(balancer.update(losses, present), before)
    assert not torch.equal(balancer.update(losses, present, torch.tensor([[1.0, 5.0]])), before)


def test_every_parameter_is_recorded() -> None:
    """A parameter used past the recording layers would silently get no gradient."""
    for graph in ("gat", "ucgnn"):
        [(model, objective, balancer), _] = twins(torch.float32, graph=graph, guide_temperature=True)
        training_step(
            model, objective, balancer, batch_of(12, torch.float32, list(BUILTIN_TASKS)), Accelerator(cpu=True)
        )
        missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert missing == []
