"""Variance heads: where there is one, what it says, and that nothing else changes with it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from mmpsr.balancing.build import create_balancer
from mmpsr.balancing.config import BalancingConfig
from mmpsr.export import Predicting
from mmpsr.layers.nodes import masked_mean
from mmpsr.models.base import FusionModel
from mmpsr.models.config import ConflictAwareConfig, ModelConfig
from mmpsr.models.conflict_aware import ConflictAware
from mmpsr.models.mcdm import MCDM
from mmpsr.objective.config import ObjectiveConfig
from mmpsr.objective.objective import Objective
from mmpsr.tasks import BUILTIN_TASKS
from tests.mmpsr.models.test_base import random_batch
from tests.support import sequenced
from training.fit.step import training_step

PLAIN = {"hidden_width": 8, "head_width": 7}
GAUSSIAN = BUILTIN_TASKS["personality"].model_copy(update={"loss": "gaussian_nll"})
TASKS = {**BUILTIN_TASKS, "personality": GAUSSIAN}


def mcdm(tasks: Any = TASKS, **options: Any) -> MCDM:
    torch.manual_seed(0)
    return MCDM(sequenced.WIDTHS, tasks, ModelConfig(num_heads=2, **PLAIN, **options)).eval()


def conflict(tasks: Any = TASKS, **options: Any) -> ConflictAware:
    torch.manual_seed(0)
    config = ConflictAwareConfig(**PLAIN, **options)
    return ConflictAware(sequenced.WIDTHS, tasks, config, sequenced.SEQUENCE_WIDTHS).eval()


MAKERS = {"mcdm": mcdm, "mcdm, two heads": lambda **_: mcdm(text_head=True, conflict_features=True), "aware": conflict}
each_model = pytest.mark.parametrize("name", list(MAKERS))


def stirred(model: FusionModel) -> FusionModel:
    """Variance heads that no longer are zero."""
    torch.nn.init.normal_(model.towers["personality"].variance_head.weight, std=0.5)
    return model


@each_model
@torch.no_grad()
def test_scores_of_a_likelihood_have_a_deviation_from_one_tenth_on(name: str) -> None:
    model, batch = MAKERS[name](), random_batch(9)
    found = model(batch)
    assert list(found.log_deviations) == ["personality"]
    torch.testing.assert_close(found.log_deviations["personality"], torch.full((9, 5), math.log(0.1)))
    other = stirred(model)(batch)
    assert other.log_deviations["personality"].std() > 0.01
    assert torch.equal(other.scores["personality"], found.scores["personality"])
    parts = [other.slice(0, 4), other.slice(4, 9)]
    whole = torch.cat([part.log_deviations["personality"] for part in parts])
    assert torch.equal(whole, other.log_deviations["personality"])


@torch.no_grad()
def test_the_deviation_is_a_linear_map_of_what_the_head_sees() -> None:
    model, batch = stirred(mcdm(task_projectors=False, attention="none", guide_bank=False)), random_batch(6)
    shared, tower = model.encode(batch), model.towers["personality"]
    pooled = masked_mean(tower.attention(shared.ends[1], shared.ends[1], batch.presence), batch.presence)
    outputs = pooled @ tower.variance_head.weight.T + tower.variance_head.bias
    expected = (1 - torch.sigmoid(outputs)) * math.log(0.01)
    torch.testing.assert_close(model(batch).log_deviations["personality"], expected)


def test_other_losses_have_no_variance_head() -> None:
    for make in (mcdm, conflict):
        plain, likely = make(BUILTIN_TASKS), make()
        more = set(likely.state_dict()) - set(plain.state_dict())
        assert more == {f"towers.personality.variance_head.{part}" for part in ("weight", "bias")}
        assert set(plain.state_dict()) <= set(likely.state_dict())
        assert not plain(random_batch(3)).log_deviations


@torch.no_grad()
def test_windows_give_their_mean_deviation() -> None:
    model, batch = stirred(conflict(window={"video": 2}, num_windows=3)), random_batch(7)
    views = [model.encode(batch, place) for place in model.places]
    expected = torch.stack([model.predict("personality", view).log_deviations for view in views]).mean(dim=0)
    torch.testing.assert_close(model(batch).log_deviations["personality"], expected)
    assert len(model.places) == 3


@each_model
@pytest.mark.parametrize("method", ["gradnorm", "mgda"])
def test_one_pass_trains_variance_heads_as_one_pass_per_loss_does(
    name: str, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, found = random_batch(30), []
    for one_pass in (True, False):
        model = stirred(MAKERS[name]()).train()
        monkeypatch.setattr(type(model), "one_pass", one_pass)
        objective = Objective(TASKS, ObjectiveConfig(nll_beta=0.5), {})
        balancer = create_balancer(objective.keys, BalancingConfig(method=method))
        torch.manual_seed(3)
        result = training_step(model, objective, balancer, batch, Accelerator(cpu=True))
        assert float(result.losses.min()) >= 0.0
        gradients = {each: part.grad for each, part in model.named_parameters() if part.grad is not None}
        assert gradients["towers.personality.variance_head.weight"].any()
        found.append((result.weights, gradients))
    (weights, left), (other_weights, right) = found
    torch.testing.assert_close(weights, other_weights, rtol=1e-4, atol=1e-5)
    for each in left.keys() | right.keys():
        torch.testing.assert_close(
            left[each], right[each], rtol=1e-4, atol=1e-5, msg=lambda text, each=each: each + text
        )


@torch.no_grad()
def test_what_is_exported_are_the_scores() -> None:
    model, batch = stirred(mcdm()), random_batch(8)
    found = Predicting(model)(*batch.features.values(), batch.presence)
    torch.testing.assert_close(found[list(TASKS).index("personality")], model(batch).scores["personality"])
    assert len(found) == len(TASKS)


@torch.no_grad()
def test_one_vector_per_clip_of_what_all_tasks_see() -> None:
    batch = random_batch(5)
    for model, width in ((mcdm(), 8), (conflict(), 8 * 6)):  # three modalities and their three differences
        shared = model.encode(batch)
        found = model.fused(shared)
        assert found.shape == (5, width)
        expected = shared.ends[0] if isinstance(model, ConflictAware) else masked_mean(shared.ends[1], batch.presence)
        assert torch.equal(found, expected)
