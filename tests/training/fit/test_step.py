"""The training step: exact for any number of processes, exact balancing, hidden modalities."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from mmpsr.balancing.base import Balancer
from mmpsr.balancing.build import create_balancer
from mmpsr.batch import Batch
from mmpsr.config import ConfigError
from mmpsr.models.fused import FusedMCDM, FusedPass
from mmpsr.models.mcdm import MCDM
from mmpsr.objective.objective import Objective
from tests.support import joined as small
from tests.support.step_script import CASES, take_steps
from training.fit.loop import build_model
from training.fit.state import TrainState
from training.fit.step import CONFLICT_STEPS, shared_gradients, training_step
from training.fit.views import hide_modalities


@pytest.mark.slow
def test_two_processes_give_the_gradients_and_weights_of_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.support.step_script", str(tmp_path)], cwd=Path(__file__).parents[3],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for case in CASES:
        two = load_file(tmp_path / f"{case}.safetensors")
        one = take_steps(Accelerator(cpu=True), case)
        assert one.keys() == two.keys()
        for name, value in one.items():
            torch.testing.assert_close(
                two[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, name=name, case=case: f"{case} {name}: {text}"
            )
        assert torch.equal(one["counts"][0] > 0, torch.tensor([True, True, True]))
        if case not in ("equal", "gradnorm-none"):
            assert not torch.equal(one["weights"], load_file(tmp_path / "equal.safetensors")["weights"]) or case in (
                "fixed", "dwa",
            )  # fmt: skip


def small_step(**sections: dict[str, object]) -> tuple[MCDM, Objective, Balancer, Batch]:
    """A model in evaluation mode, its objective and balancer, and a batch of all corpora."""
    config, clips = small.config(**sections), small.joined()
    tasks = config.tasks.resolve()
    model = build_model(config, clips, tasks).eval()
    objective = Objective(tasks, config.objective, clips.labels, config.semi_supervision)
    balancer = create_balancer(objective.keys, config.balancing)
    return model, objective, balancer, clips.batch(torch.arange(0, 170, 5))


def test_shared_gradients_are_those_of_separate_backward_passes() -> None:
    model, objective, _, batch = small_step()
    losses = torch.stack([term.mean() for term in objective(model(batch), batch).values()])
    found = shared_gradients(losses, model.shared_parameters(), Accelerator(cpu=True))
    for index in range(len(losses)):
        model.zero_grad()
        [term.mean() for term in objective(model(batch), batch).values()][index].backward()
        expected = torch.cat([p.grad.flatten() for p in model.shared_parameters() if p.grad is not None])
        torch.testing.assert_close(found[index], expected, rtol=1e-5, atol=1e-8)
    assert float(found[:3].norm(dim=1).min()) > 0


SPECS = {"specs": {"emotion": {"threshold": 0.5}, "ambivalence": {"threshold": 0.5}}}


@pytest.mark.parametrize("method", ["equal", "gradnorm", "mgda"])
@pytest.mark.parametrize("one_pass", [True, False])
def test_the_gradient_is_that_of_the_weighted_sum(method: str, one_pass: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    balancing = {"method": method, "pseudo_weight": 0.25}
    model, objective, balancer, batch = small_step(balancing=balancing, tasks=SPECS)
    monkeypatch.setattr(MCDM, "one_pass", one_pass)
    result = training_step(model, objective, balancer, batch, Accelerator(cpu=True))
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    shared = set(map(id, model.shared_parameters()))
    towers = result.weights if method != "mgda" else torch.tensor([[1.0] * 3, [0.25] * 3])
    for weights, is_shared in ((result.weights, True), (towers, False)):
        model.zero_grad()
        means = torch.stack([term.mean() for term in objective(model(batch), batch).values()])
        (weights.flatten() * means).sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and (id(parameter) in shared) == is_shared:
                torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-7)
    assert (method == "equal") == torch.equal(result.weights, torch.tensor([[1.0] * 3, [0.25] * 3]))


@pytest.mark.parametrize("one_pass", [True, False])
def test_the_strong_view_learns_from_the_weak_one(one_pass: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Supervised losses on the clips as they are, pseudo-label losses on the same clips with fewer modalities."""
    semi = {"method": "consistency", "regression": "none"}
    model, objective, balancer, batch = small_step(semi_supervision=semi, tasks=SPECS, balancing={"pseudo_weight": 1.0})
    monkeypatch.setattr(MCDM, "one_pass", one_pass)
    assert objective.semi_supervision is not None
    strong = batch.with_presence(batch.presence & torch.tensor([True, False]))
    monkeypatch.setattr(objective.semi_supervision, "strong_view", lambda batch: strong)
    result = training_step(model, objective, balancer, batch, Accelerator(cpu=True))
    found = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    terms = objective.terms(model(batch), batch, strong=model(strong))
    means = torch.stack([terms.losses[key].mean() for key in objective.keys])
    torch.testing.assert_close(result.losses.flatten(), means.detach())
    assert float(result.counts[1, 2]) > 0
    (result.weights.flatten() * means).sum().backward()
    for left, right in zip(found, model.parameters(), strict=True):
        expected = torch.zeros_like(right) if right.grad is None else right.grad
        torch.testing.assert_close(torch.zeros_like(right) if left is None else left, expected, rtol=1e-5, atol=1e-7)


def test_the_teacher_sees_all_modalities() -> None:
    semi = {"method": "mean_teacher", "regression": "none"}
    model, objective, balancer, batch = small_step(semi_supervision=semi, tasks=SPECS)
    teacher, _, _, _ = small_step()
    torch.manual_seed(0)
    hidden = hide_modalities(batch, 0.6)
    torch.manual_seed(0)
    result = training_step(
        model, objective, balancer, batch, Accelerator(cpu=True), hide_rate=0.6, teacher=teacher
    )  # fmt: skip
    assert not torch.equal(hidden.presence, batch.presence)
    with torch.no_grad():
        terms = objective.terms(model(hidden), hidden, teacher=teacher(batch))
    means = torch.stack([terms.losses[key].mean() for key in objective.keys])
    torch.testing.assert_close(result.losses.flatten(), means)


def test_the_ramp_scales_the_pseudo_branch_after_balancing() -> None:
    semi = {"method": "paper", "ramp": "linear", "ramp_steps": 4}
    model, objective, balancer, batch = small_step(semi_supervision=semi, tasks=SPECS)
    seen = [training_step(model, objective, balancer, batch, Accelerator(cpu=True)).weights for _ in range(5)]
    assert [float(each[1].sum()) for each in seen] == pytest.approx([0.3 * share for share in (0.25, 0.5, 0.75, 1, 1)])
    assert [float(each[0].sum()) for each in seen] == pytest.approx([3.0] * 5)


@pytest.mark.parametrize(
    ("balancing", "step", "precision", "is_taken"),
    [
        ({}, 1, "no", True),
        ({}, CONFLICT_STEPS, "no", False),  # looks at inner products of gradients
        ({"method": "mgda"}, 1, "no", False),
        ({"cost": "last_layer"}, 1, "no", False),
        ({}, 1, "bf16", False),
    ],
)
def test_the_fused_pass_is_taken_where_it_gives_all_that_a_step_needs(
    balancing: dict[str, object], step: int, precision: str, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, objective, balancer, batch = small_step(balancing=balancing)
    fused, passes = FusedMCDM([model]), []
    monkeypatch.setattr(FusedMCDM, "__call__", lambda self, rows: passes.append(rows) or FusedPass(self, rows))
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "mixed_precision", property(lambda self: precision))
    for is_trained in (False, True):
        training_step(model.train(is_trained), objective, balancer, batch, accelerator, step=step, fused=fused)
    assert len(passes) == is_taken
    assert all(parameter.grad is not None for parameter in model.shared_parameters())


def test_a_run_is_fused_where_it_can_be_unless_it_asks_for_something_else() -> None:
    clips, losses = small.joined(), []
    for is_fused in (False, True):
        config = small.config(training={"fused": is_fused})
        model = build_model(config, clips, config.tasks.resolve()).train()
        state = TrainState.create(model, config, clips, 10)
        assert isinstance(state.fused, FusedMCDM) == is_fused
        batch = clips.batch(torch.arange(40))
        torch.manual_seed(0)
        found = training_step(
            model, state.objective, state.balancer, batch, Accelerator(cpu=True), step=1, fused=state.fused
        )  # fmt: skip
        losses.append(found.losses)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    for other, is_fused in (
        ({"training": {}}, True),
        ({"model": {"graph": "gat"}}, False),
        ({"training": {"mixed_precision": "bf16"}}, False),
    ):
        config = small.config(**other)
        state = TrainState.create(build_model(config, clips, config.tasks.resolve()), config, clips, 10)
        assert (state.fused is not None) == is_fused, other
    config = small.config(training={"fused": True}, model={"graph": "gat"})
    with pytest.raises(ConfigError, match=r"training\.fused takes steps of the published layers alone"):
        TrainState.create(build_model(config, clips, config.tasks.resolve()), config, clips, 10)
    with pytest.raises(ConfigError, match=r"training\.fused takes steps at full precision that are not compiled"):
        small.config(training={"fused": True, "mixed_precision": "bf16"})
