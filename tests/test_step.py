"""The training step: exact for any number of processes, exact balancing, hidden modalities."""

import subprocess
import sys
from pathlib import Path

import joined as small
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from step_script import take_steps

from mmpsr.balancing import create_balancer
from mmpsr.objective import Objective
from training.loop import build_model
from training.step import gradient_norms, hide_modalities, training_step


@pytest.mark.slow
def test_two_processes_give_the_gradients_and_weights_of_one(tmp_path: Path) -> None:
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(folder / "step_script.py"), str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for method in ("equal", "gradnorm"):
        two = load_file(tmp_path / f"{method}-2.safetensors")
        one = take_steps(Accelerator(cpu=True), method)
        assert one.keys() == two.keys()
        for name, value in one.items():
            torch.testing.assert_close(
                two[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
            )
        assert torch.equal(one["counts"][0] > 0, torch.tensor([True, True, True]))


def test_gradient_norms_are_those_of_separate_backward_passes() -> None:
    config, clips = small.config(), small.joined()
    model = build_model(config, clips, small.tasks()).eval()
    objective = Objective(small.tasks(), config.objective, clips.labels)
    batch = clips.batch(torch.arange(0, 170, 5))
    losses = torch.stack([term.mean() for term in objective(model(batch), batch).values()])
    norms = gradient_norms(losses, model.shared_parameters(), Accelerator(cpu=True))
    for index in range(len(losses)):
        model.zero_grad()
        [term.mean() for term in objective(model(batch), batch).values()][index].backward()
        squares = [float((p.grad**2).sum()) for p in model.shared_parameters() if p.grad is not None]
        assert float(norms[index]) == pytest.approx(sum(squares) ** 0.5, rel=1e-5, abs=1e-9)
    assert float(norms[:3].min()) > 0


def test_the_gradient_is_that_of_the_weighted_sum() -> None:
    config, clips = small.config(balancing={"method": "equal", "pseudo_weight": 0.25}), small.joined()
    model = build_model(config, clips, small.tasks()).eval()
    objective = Objective(small.tasks(), config.objective, clips.labels)
    batch = clips.batch(torch.arange(0, 170, 5))
    training_step(model, objective, create_balancer(objective.keys, config.balancing), batch, Accelerator(cpu=True))
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    terms = objective(model(batch), batch)
    sum(term.mean() * (1.0 if branch == "supervised" else 0.25) for (branch, _), term in terms.items()).backward()
    expected = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(found) == len(expected)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-7)


def test_hidden_modalities_leave_at_least_one_and_hide_at_the_rate() -> None:
    torch.manual_seed(0)
    clips = small.joined()
    batch = clips.batch(torch.arange(170).repeat(50))
    hidden = hide_modalities(batch, 0.4)
    assert hidden.presence.any(dim=1).all()
    assert not (hidden.presence & ~batch.presence).any()
    both = batch.presence.all(dim=1)
    # Of two present modalities both stay with 0.6^2, or because both fell (0.4^2): 0.36 + 0.16 = 0.52.
    assert float(hidden.presence[both].all(dim=1).float().mean()) == pytest.approx(0.52, abs=0.02)
    assert hide_modalities(batch, 0.0) is batch
