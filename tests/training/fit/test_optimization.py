from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR

from mmpsr.config import ConfigError, load_config
from training.config import OptimizationConfig
from training.fit.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from training.fit.optimization import Adam, AdamW, Lion, Schedule, build_optimizer, clip_gradients

OPTIMIZERS = ("adam", "adamw", "lion", "sgd", "rmsprop")
SCHEDULES = ("none", "plateau", "cosine", "onecycle", "linear")


class Angles(nn.Module):
    """A layer with a learning rate of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.learning_rates = {"theta": 0.01}
        self.theta = nn.Parameter(torch.ones(3))
        self.linear = nn.Linear(3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs * self.theta)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), Angles(), nn.Linear(3, 2))


def names(model: nn.Module, optimizer: Optimizer) -> list[list[str]]:
    known = {parameter: name for name, parameter in model.named_parameters()}
    return [[known[parameter] for parameter in group["params"]] for group in optimizer.param_groups]


def weight_with(optimizer: str, **values: Any) -> tuple[nn.Module, Optimizer]:
    """One number, 1, and an optimizer of it."""
    model = nn.ParameterDict({"weight": nn.Parameter(torch.ones(1, dtype=torch.float64))})
    return model, build_optimizer(model, OptimizationConfig(optimizer=optimizer, **values))


def steps_by(optimizer: str, gradients: list[float], **values: Any) -> list[float]:
    """The number's values over steps with these gradients."""
    model, found = weight_with(optimizer, **values)
    weight, seen = next(model.parameters()), []
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        found.step()
        seen.append(weight.item())
    return seen


def test_parameters_with_their_own_learning_rate_form_a_group_without_weight_decay() -> None:
    model = network()
    model[0].bias.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizationConfig(lr=1e-3, weight_decay=0.1))
    expected = [["0.weight", "1.linear.weight", "1.linear.bias", "2.weight", "2.bias"], ["1.theta"]]
    assert names(model, optimizer) == expected
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(1e-3, 0.1), (0.01, 0.0)]


def test_equal_rates_of_several_layers_share_a_group() -> None:
    model = nn.Sequential(Angles(), Angles(), Angles())
    model[1].learning_rates = {"theta": 0.5}
    model[2].theta.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizationConfig())
    assert names(model, optimizer)[1:] == [["0.theta"], ["1.theta"]]
    model[1].learning_rates = {"theta": 0.01}
    assert names(model, build_optimizer(model, OptimizationConfig()))[1:] == [["0.theta", "1.theta"]]


def test_without_layers_of_their_own_there_is_one_group_of_everything() -> None:
    model = nn.Linear(3, 2)
    assert names(model, build_optimizer(model, OptimizationConfig())) == [["weight", "bias"]]


def test_a_rate_of_a_parameter_that_is_not_there_is_an_error() -> None:
    model = Angles()
    model.learning_rates = {"tehta": 0.01}
    with pytest.raises(AttributeError, match="tehta"):
        build_optimizer(model, OptimizationConfig())


@pytest.mark.parametrize(("optimizer", "fused"), [("adam", True), ("adamw", True), ("sgd", True), ("rmsprop", None)])
def test_steps_are_fused_where_torch_offers_it(optimizer: str, fused: bool | None) -> None:
    found = build_optimizer(network(), OptimizationConfig(optimizer=optimizer))
    assert type(found).__name__.lower() == optimizer
    assert [group.get("fused") for group in found.param_groups] == [fused, fused]


@pytest.mark.parametrize(("kind", "reference"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
def test_adam_is_torchs(kind: type[Adam], reference: type[torch.optim.Adam]) -> None:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2))
    second = copy.deepcopy(first)
    found, expected = (
        make([{"params": [*model[0].parameters()]}, {"params": [*model[1].parameters()], "lr": 0.01}], **settings)
        for model, make, settings in (
            (first, kind, {"lr": 0.1, "weight_decay": 0.1}),
            (second, reference, {"lr": 0.1, "weight_decay": 0.1, "fused": True}),
        )
    )
    for number in range(8):
        for own, other in zip(first.parameters(), second.parameters(), strict=True):
            own.grad = torch.randn_like(own)
            other.grad = own.grad.clone()
        if number == 3:  # a parameter that no loss reaches in this step
            first[0].weight.grad = second[0].weight.grad = None
        if number == 5:
            found.load_state_dict(copy.deepcopy(found.state_dict()))
        if number == 6:
            for optimizer in (found, expected):
                optimizer.param_groups[1]["lr"] = 0.05
        found.step()
        expected.step()
        for own, other in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(own, other)
    assert str(found.state_dict()) == str(expected.state_dict())


def test_steps_by_hand() -> None:
    # sgd, momentum 0.5, decay 0.2, lr 0.1: g + 0.2 w = 1.2, m = 1.2, w = 1 - 0.12 = 0.88;
    #   then -1 + 0.176 = -0.824, m = 0.6 - 0.824 = -0.224, w = 0.9024.
    assert steps_by("sgd", [1.0, -1.0], lr=0.1, weight_decay=0.2, momentum=0.5) == pytest.approx([0.88, 0.9024])
    # without momentum: w = 0.88, then 0.88 - 0.1 (-0.824) = 0.9624.
    assert steps_by("sgd", [1.0, -1.0], lr=0.1, weight_decay=0.2, momentum=0.0) == pytest.approx([0.88, 0.9624])
    # The first step of Adam is lr times the sign: of g + decay w = -0.5 + 1 for adam; of g, after w <- 0.9, for adamw.
    assert steps_by("adam", [-0.5], lr=0.1, weight_decay=1.0) == pytest.approx([0.9])
    assert steps_by("adamw", [-0.5], lr=0.1, weight_decay=1.0) == pytest.approx([1.0])
    # rmsprop: the mean square is 0.01 g^2, so the first step is lr g / (0.1 |g|) = 10 lr.
    assert steps_by("rmsprop", [0.5], lr=0.01, weight_decay=0.0) == pytest.approx([0.9])


def test_lion_by_hand() -> None:
    # lr 0.1, decay 0.5. Step 1: c = 0.1 * 0.5 > 0, w = 1 * 0.95 - 0.1 = 0.85, m = 0.01 * 0.5 = 0.005.
    # Step 2: c = 0.9 * 0.005 + 0.1 * (-0.01) = 0.0035 > 0 against the gradient, w = 0.85 * 0.95 - 0.1 = 0.7075,
    #   m = 0.99 * 0.005 - 0.01 * 0.01 = 0.00485.
    # Step 3: c = 0.9 * 0.00485 - 0.1 * 0.05 = -0.000635 < 0, w = 0.7075 * 0.95 + 0.1 = 0.772125.
    found = steps_by("lion", [0.5, -0.01, -0.05], lr=0.1, weight_decay=0.5)
    assert found == pytest.approx([0.85, 0.7075, 0.772125])


def test_lion_is_its_definition_in_every_parameter() -> None:
    model = network()
    expected = {name: parameter.detach().double() for name, parameter in model.named_parameters()}
    momenta = {name: torch.zeros_like(value) for name, value in expected.items()}
    optimizer = build_optimizer(model, OptimizationConfig(optimizer="lion", lr=3e-3, weight_decay=0.1))
    for step in range(20):
        generator = torch.Generator().manual_seed(step)
        for name, parameter in model.named_parameters():
            # the last layer has no gradient every third step, and then stays, decay included
            parameter.grad = None
            if name.startswith("2.") and step % 3 == 0:
                continue
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            gradient, is_angle = parameter.grad.double(), name == "1.theta"
            lr, decay = (0.01, 0.0) if is_angle else (3e-3, 0.1)
            update = torch.sign(0.9 * momenta[name] + 0.1 * gradient)
            expected[name] = expected[name] - lr * (update + decay * expected[name])
            momenta[name] = 0.99 * momenta[name] + 0.01 * gradient
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=0, atol=1e-5)


def test_lion_calls_a_closure() -> None:
    model = nn.Linear(2, 1)
    optimizer = Lion(model.parameters(), lr=0.1)

    def closure() -> float:
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
        return loss.item()

    before = model.weight.detach().clone()
    assert optimizer.step(closure) == pytest.approx(float(before.sum() + model.bias.detach() + 0.1))
    torch.testing.assert_close(model.weight.detach(), before - 0.1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_parameter_may_get_its_first_gradient_late(optimizer: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    found = build_optimizer(model, OptimizationConfig(optimizer=optimizer, lr=0.1))
    before = model[1].weight.detach().clone()
    model[0](torch.ones(1, 2)).sum().backward()
    found.step()
    assert torch.equal(model[1].weight.detach(), before)
    model(torch.ones(1, 2)).sum().backward()
    found.step()
    assert not torch.equal(model[1].weight.detach(), before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_descends(optimizer: str) -> None:
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    targets = inputs @ torch.tensor([[1.0, -1.0], [0.5, 0.0], [0.0, 2.0], [1.0, 1.0]])
    model = network()
    found = build_optimizer(model, OptimizationConfig(optimizer=optimizer, lr=0.01))
    losses = []
    for _ in range(150):
        loss = (model(inputs) - targets).square().mean()
        losses.append(loss.item())
        found.zero_grad()
        loss.backward()
        found.step()
    assert losses[-1] < 0.1 * losses[0]


def rates(schedule: str, num_steps: int, num_taken: int, lr: float = 0.2, **values: Any) -> list[float]:
    """Learning rates of the steps from the first on."""
    settings = OptimizationConfig(optimizer="sgd", lr=lr, scheduler=schedule, **values)
    optimizer = build_optimizer(nn.Linear(2, 1), settings)
    found = Schedule(optimizer, settings, num_steps)
    seen = []
    for _ in range(num_taken):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        found.step()
    return seen


def test_schedules_by_hand() -> None:
    assert rates("none", 4, 4) == [0.2] * 4
    # s = 0 ... 4 of 4: cos(pi s / 4) = 1, 0.7071, 0, -0.7071, -1; (1 + cos)/2 times 0.2, down to 0.02.
    halves = [1.0, 0.8535534, 0.5, 0.1464466, 0.0]
    assert rates("cosine", 4, 5, final_fraction=0.1) == pytest.approx([0.02 + 0.18 * x for x in halves])
    assert rates("linear", 4, 5) == pytest.approx([0.2, 0.15, 0.1, 0.05, 0.0])
    assert rates("linear", 4, 5, final_fraction=0.5) == pytest.approx([0.2, 0.175, 0.15, 0.125, 0.1])
    # Three steps of warm-up: a quarter, a half, three quarters; then two steps down.
    assert rates("linear", 5, 6, warmup_steps=3) == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.1, 0.0])
    assert rates("cosine", 5, 6, warmup_steps=3) == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.1, 0.0])


def of_torch(create: Any, num_steps: int) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.2, momentum=0.9)
    scheduler, seen = create(optimizer), []
    for _ in range(num_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_schedules_are_torchs() -> None:
    cosine = of_torch(lambda optimizer: CosineAnnealingLR(optimizer, 50, eta_min=0.002), 50)
    assert rates("cosine", 50, 50, final_fraction=0.01) == pytest.approx(cosine)
    linear = of_torch(lambda optimizer: LinearLR(optimizer, 1.0, 0.25, 50), 50)
    assert rates("linear", 50, 50, final_fraction=0.25) == pytest.approx(linear)
    onecycle = of_torch(lambda optimizer: OneCycleLR(optimizer, 0.2, total_steps=50), 50)
    assert rates("onecycle", 50, 50) == onecycle
    assert max(onecycle) == pytest.approx(0.2)
    assert onecycle[-1] == pytest.approx(0.2 / 250_000)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "onecycle", "none"])
def test_all_groups_follow_in_proportion(schedule: str) -> None:
    settings = OptimizationConfig(lr=1e-3, scheduler=schedule)
    optimizer = build_optimizer(network(), settings)
    found = Schedule(optimizer, settings, 20)
    for _ in range(20):
        shared, angles = (group["lr"] for group in optimizer.param_groups)
        assert angles == pytest.approx(10 * shared)
        optimizer.step()
        found.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_onecycle_moves_a_momentum_that_is_in_use(optimizer: str) -> None:
    settings = OptimizationConfig(optimizer=optimizer, scheduler="onecycle")
    found = build_optimizer(network(), settings)
    schedule = Schedule(found, settings, 11)
    seen = []
    for _ in range(11):
        group = found.param_groups[0]
        seen.append(group["betas"][0] if "betas" in group else group["momentum"])
        found.step()
        schedule.step()
    if optimizer == "rmsprop":
        assert set(seen) == {0}
    else:
        # the learning rate is highest after 0.3 * 11 - 1 = 2.3 steps
        assert (seen[0], seen[-1]) == pytest.approx((0.95, 0.95))
        assert min(seen) == pytest.approx(0.85, abs=5e-3)


def test_plateau_halves_at_the_third_epoch_without_a_better_figure() -> None:
    settings = OptimizationConfig(lr=8e-7, scheduler="plateau")
    optimizer = build_optimizer(network(), settings)
    schedule, seen = Schedule(optimizer, settings, 100), []
    # Best 50; 50, NaN and 49 are no better: halved at the third. 51 is; then three more, and again.
    for value in (50.0, 50.0, math.nan, 49.0, 51.0, 50.0, 50.0, 50.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        schedule.step()
        schedule.epoch_ended(value)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([8e-7] * 3 + [4e-7] * 4 + [2e-7] * 3 + [1e-7] * 4, rel=1e-3)
    # the angles' rate is halved with it, and once more, being far above 1e-7
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.01 / 16)


def test_epochs_move_only_plateau() -> None:
    settings = OptimizationConfig(scheduler="cosine")
    optimizer = build_optimizer(network(), settings)
    schedule = Schedule(optimizer, settings, 10)
    for _ in range(5):
        schedule.epoch_ended(1.0)
    assert optimizer.param_groups[0]["lr"] == 1e-4


def test_a_warm_up_as_long_as_the_run_is_an_error() -> None:
    settings = OptimizationConfig(scheduler="linear", warmup_steps=10)
    with pytest.raises(ConfigError, match=r"warmup_steps = 10, but the whole run has 10 steps"):
        Schedule(build_optimizer(network(), settings), settings, 10)
    Schedule(build_optimizer(network(), settings), settings, 11)


@pytest.mark.parametrize(("name", "value"), [("warmup_steps", 5), ("final_fraction", 0.1)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_settings_that_a_schedule_would_ignore_are_errors(name: str, value: float, schedule: str) -> None:
    settings = (f"scheduler={schedule}", f"{name}={value}")
    if schedule in ("cosine", "linear"):
        assert getattr(load_config(OptimizationConfig, settings=settings), name) == value
    else:
        with pytest.raises(ConfigError, match=rf"{name} = {value} is read by .* cosine and linear .* '{schedule}'"):
            load_config(OptimizationConfig, settings=settings)


def train(
    model: nn.Module, optimizer: Optimizer, schedule: Schedule, steps: range, settings: OptimizationConfig
) -> None:
    """Steps with gradients that depend on the step alone, in epochs of five."""
    for step in steps:
        optimizer.zero_grad()
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        (model(inputs) - inputs[:, :2]).square().mean().backward()
        clip_gradients(model, settings)
        optimizer.step()
        schedule.step()
        if step % 5 == 4:
            schedule.epoch_ended(-float(step > 10))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_checkpoint_within_an_epoch_continues_bit_for_bit(optimizer: str, schedule: str, tmp_path: Path) -> None:
    warmup = {"warmup_steps": 6} if schedule in ("cosine", "linear") else {}
    settings = OptimizationConfig(optimizer=optimizer, scheduler=schedule, lr=1e-2, max_gradient_norm=0.5, **warmup)
    accelerator = Accelerator(cpu=True)

    def start() -> tuple[nn.Module, Optimizer, Schedule]:
        model = network()
        found = build_optimizer(model, settings)
        return model, found, Schedule(found, settings, 30)

    whole = start()
    train(*whole, range(30), settings)
    first = start()
    train(*first, range(13), settings)
    save_checkpoint(tmp_path, 13, {"model": first[0]}, first[1], {"schedule": first[2].state_dict()}, accelerator)
    model, found, scheduler = start()
    path = latest_checkpoint(tmp_path)
    assert path is not None
    state = load_checkpoint(path, {"model": model}, found, accelerator)
    scheduler.load_state_dict(state["schedule"])
    train(model, found, scheduler, range(13, 30), settings)
    for name, value in whole[0].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    # through JSON once, since the resumed groups hold lists where the others hold tuples
    finals = [json.loads(json.dumps(pair[1].state_dict()["param_groups"])) for pair in (whole, (model, found))]
    assert finals[0] == finals[1]
    assert json.dumps(scheduler.state_dict()) == json.dumps(whole[2].state_dict())


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def test_gradients_are_clipped_by_their_joint_norm() -> None:
    model = nn.Linear(2, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    # norm 5: to norm 1, a fifth of each; the norm before is returned.
    norm = clip_gradients(model, OptimizationConfig(max_gradient_norm=1.0))
    assert norm is not None
    assert norm.item() == pytest.approx(5.0)
    torch.testing.assert_close(gradients(model), torch.tensor([0.6, 0.0, 0.8]))
    # now 1, which is below 2: nothing changes.
    norm = clip_gradients(model, OptimizationConfig(max_gradient_norm=2.0))
    assert norm is not None
    assert norm.item() == pytest.approx(1.0)
    torch.testing.assert_close(gradients(model), torch.tensor([0.6, 0.0, 0.8]))
    before = gradients(model)
    assert clip_gradients(model, OptimizationConfig()) is None
    assert torch.equal(gradients(model), before)


def test_parameters_without_a_gradient_are_passed_over() -> None:
    model = nn.Linear(2, 1)
    model.bias.grad = torch.tensor([4.0])
    clip_gradients(model, OptimizationConfig(max_gradient_norm=1.0))
    assert model.weight.grad is None
    torch.testing.assert_close(model.bias.grad, torch.tensor([1.0]))


def test_clipping_and_lion_wait_for_nothing() -> None:
    settings = OptimizationConfig(optimizer="lion", max_gradient_norm=1.0)
    with FakeTensorMode() as mode:  # tensors without values: reading one is an error
        model = network()
        optimizer = build_optimizer(model, settings)
        model(torch.randn(8, 4)).sum().backward()
        norm = clip_gradients(model, settings)
        optimizer.step()
        optimizer.step()
        assert norm is not None
        with pytest.raises(Exception, match=r"item|data-dependent|_local_scalar"):
            norm.item()
    assert mode is not None
