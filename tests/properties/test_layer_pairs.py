"""Every graph layer with every attention layer, inside the model."""

import itertools
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from mmpsr.balancing.build import create_balancer
from mmpsr.balancing.config import BalancingConfig
from mmpsr.batch import Batch
from mmpsr.models.config import ModelConfig
from mmpsr.models.mcdm import MCDM
from mmpsr.objective.config import ObjectiveConfig, SemiSupervisionConfig
from mmpsr.objective.objective import Objective
from mmpsr.tasks import BUILTIN_TASKS
from tests.mmpsr.balancing.test_loss_gradients import WIDTHS, batch_of
from training.fit.step import training_step

GRAPHS = ("gat", "ucgnn", "edgnn", "hgnn", "ncgnn")
ATTENTIONS = ("mha", "mta", "crossmpt", "bica", "fa")
PAIRS = list(itertools.product(GRAPHS, ATTENTIONS))
EVERY_LAYER = list(zip(GRAPHS, ATTENTIONS, strict=True))
TRAINED_PAIRS = [pair if pair in EVERY_LAYER else pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS]
LOW = {name: spec.model_copy(update={"threshold": 0.5}) for name, spec in BUILTIN_TASKS.items()}


def create(widths: dict[str, int], **switches: Any) -> MCDM:
    torch.manual_seed(0)
    return MCDM(widths, LOW, ModelConfig(hidden_width=8, head_width=8, num_heads=2, **switches)).double()


def outputs(model: MCDM, batch: Batch) -> torch.Tensor:
    predictions = model(batch)
    return torch.cat([predictions.of(task) for task in model.tasks], dim=1)


@pytest.mark.parametrize(("graph", "attention"), PAIRS)
@torch.no_grad()
def test_absent_modalities_and_other_clips_change_nothing(graph: str, attention: str) -> None:
    model = create(WIDTHS, graph=graph, attention=attention).eval()
    torch.manual_seed(1)
    batch = batch_of(12, torch.float64, list(BUILTIN_TASKS))
    found = outputs(model, batch)
    garbage = {
        name: torch.where(batch.presence[:, index : index + 1], values, 1e3)
        for index, (name, values) in enumerate(batch.features.items())
    }
    torch.testing.assert_close(outputs(model, Batch(garbage, batch.presence)), found, rtol=1e-9, atol=1e-9)
    for clip in range(12):
        alone = Batch({name: each[clip : clip + 1] for name, each in batch.features.items()}, batch.presence[[clip]])
        torch.testing.assert_close(outputs(model, alone)[0], found[clip], rtol=1e-9, atol=1e-9)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(("graph", "attention"), PAIRS)
def test_one_pass_gives_every_parameter_the_gradient_of_separate_passes(
    graph: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create(WIDTHS, graph=graph, attention=attention).train()
    assert model.one_pass
    objective = Objective(LOW, ObjectiveConfig(), {})
    torch.manual_seed(1)
    batch, found = batch_of(12, torch.float64, list(BUILTIN_TASKS)), []
    for one_pass in (True, False):
        balancer = create_balancer(objective.keys, BalancingConfig(rate_supervised=0.1, rate_pseudo=0.1)).double()
        monkeypatch.setattr(MCDM, "one_pass", one_pass)
        model.zero_grad()
        torch.manual_seed(2)
        result = training_step(model, objective, balancer, batch, Accelerator(cpu=True))
        found.append((result.weights, {name: parameter.grad for name, parameter in model.named_parameters()}))
    (weights, one), (expected_weights, separate) = found
    torch.testing.assert_close(weights, expected_weights, rtol=1e-10, atol=1e-12)
    for name, gradient in one.items():
        assert gradient is not None, name
        expected = torch.zeros_like(gradient) if separate[name] is None else separate[name]
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-11, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize(("graph", "attention"), TRAINED_PAIRS)
def test_it_learns_with_one_modality_and_with_all(graph: str, attention: str) -> None:
    """Twenty steps on one batch bring the loss down, whatever a clip has."""
    for widths in (WIDTHS, {"text": WIDTHS["text"]}):
        model = create(widths, graph=graph, attention=attention).float().train()
        objective = Objective(LOW, ObjectiveConfig(), {}, pseudo_labels=SemiSupervisionConfig(method="none"))
        balancer = create_balancer(objective.keys, BalancingConfig())
        torch.manual_seed(1)
        batch = batch_of(24, torch.float32, list(BUILTIN_TASKS))
        features = {name: batch.features[name] for name in widths}
        batch = Batch(features, batch.presence[:, : len(widths)] | (len(widths) == 1), batch.labels)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            losses.append(float(training_step(model, objective, balancer, batch, Accelerator(cpu=True)).losses.sum()))
            optimizer.step()
            model.constrain()
        assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


LAYERS = {  # parameters at H = 512, 8 heads, four modalities
    "mha": 1_050_624, "crossmpt": 3_153_408, "bica": 1_573_888, "fa": 1_052_680,
}  # fmt: skip


def test_parameters_at_the_published_widths() -> None:
    widths = {"video": 1024, "audio": 1536, "text": 1536, "behavior": 1536}

    def count(**switches: Any) -> int:
        model = MCDM(widths, BUILTIN_TASKS, ModelConfig(hidden_width=512, head_width=512, **switches))
        return sum(parameter.numel() for parameter in model.parameters())

    for attention, size in LAYERS.items():
        assert count(attention=attention) == 9_753_998 + 3 * (size - LAYERS["mha"]), attention
    ucgnn = 512 * 512 + 512
    # GAT H^2 + 2 H; EDGNN three linear maps with biases and 4 * 3 / 2 angles; HGNN two linear maps.
    sizes = {"gat": 512 * 512 + 2 * 512, "edgnn": 3 * (512 * 512 + 512) + 6}
    for graph, size in sizes.items():
        assert count(graph=graph) == 9_753_998 + 4 * (size - ucgnn), graph
