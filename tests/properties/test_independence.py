"""Each clip stands alone in the fusion model, and each loss reaches the weights it should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mmpsr.batch import Batch
from mmpsr.models.mcdm import MCDM, Projector
from mmpsr.objective.config import ObjectiveConfig
from mmpsr.objective.objective import Objective
from mmpsr.tasks import BUILTIN_TASKS
from tests.mmpsr.models.test_mcdm import MASKS, PATHS, SWITCHES, WIDTHS, create, features, joined, label

CLIPS = [0, 1, 5, 11, 15]


@pytest.mark.parametrize("switches", SWITCHES, ids=label)
@torch.no_grad()
def test_a_prediction_does_not_depend_on_other_clips_nor_on_absent_features(switches: dict[str, Any]) -> None:
    model, inputs = create(**switches), features()
    plain = joined(model(Batch(inputs, MASKS)))
    assert torch.isfinite(plain).all()
    neighbours = ~torch.isin(torch.arange(16), torch.tensor(CLIPS))
    for fill in (1e30, float("inf"), float("nan")):
        filled = {
            name: torch.where(MASKS[:, index, None], vectors, fill)
            for index, (name, vectors) in enumerate(inputs.items())
        }
        assert torch.equal(joined(model(Batch(filled, MASKS))), plain)
    for seed, presence in ((1, torch.zeros_like(MASKS)), (2, torch.ones_like(MASKS)), (3, ~MASKS)):
        others = features(seed=seed)
        changed = {name: torch.where(neighbours[:, None], others[name], inputs[name]) for name in inputs}
        found = joined(model(Batch(changed, torch.where(neighbours[:, None], presence, MASKS))))
        assert torch.equal(found[CLIPS], plain[CLIPS])
    for clip in range(16):
        alone = Batch({name: vectors[clip : clip + 1] for name, vectors in inputs.items()}, MASKS[clip : clip + 1])
        torch.testing.assert_close(joined(model(alone)), plain[clip : clip + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("switches", SWITCHES[:-2], ids=label)
@torch.no_grad()
def test_the_order_of_modalities_and_absent_ones_change_nothing(switches: dict[str, Any]) -> None:
    model, inputs = create(**switches), features()
    plain = joined(model(Batch(inputs, MASKS)))
    names = ["behavior", "video", "text", "audio"]
    order = [list(WIDTHS).index(name) for name in names]
    permuted = create({name: WIDTHS[name] for name in names}, **switches)
    permuted.load_state_dict(model.state_dict())
    found = joined(permuted(Batch({name: inputs[name] for name in names}, MASKS[:, order])))
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)
    wider = create({**WIDTHS, "gaze": 2}, **switches)
    wider.load_state_dict(model.state_dict(), strict=False)
    padded = Batch({**inputs, "gaze": torch.ones(16, 2)}, torch.nn.functional.pad(MASKS, (0, 1)))
    torch.testing.assert_close(joined(wider(padded)), plain, rtol=0, atol=1e-5)


@torch.no_grad()
def test_present_modalities_matter() -> None:
    model, inputs = create(), features()
    plain = joined(model(Batch(inputs, MASKS)))
    for index, name in enumerate(WIDTHS):
        changed = joined(model(Batch({**inputs, name: inputs[name] + 1}, MASKS)))
        assert torch.equal((changed != plain).any(dim=1), MASKS[:, index])


def gradients(model: MCDM, task: str, pseudo: bool) -> dict[str, Tensor]:
    """Gradients of one term of the objective, by parameter."""
    labels = {name: torch.full((16, spec.num_outputs), torch.nan) for name, spec in BUILTIN_TASKS.items()}
    if not pseudo:
        generator = torch.Generator().manual_seed(3)
        labels[task] = torch.rand(labels[task].shape, generator=generator)
    inputs = {name: vectors.double() for name, vectors in features().items()}
    batch = Batch(inputs, MASKS, labels)
    specs = {name: spec.model_copy(update={"threshold": 0.5}) for name, spec in BUILTIN_TASKS.items()}
    terms = Objective(specs, ObjectiveConfig(), {})(model(batch), batch)
    loss = terms["pseudo" if pseudo else "supervised", task].mean()
    assert loss > 0
    for other in set(BUILTIN_TASKS) - {task} if not pseudo else set():
        assert terms["supervised", other].mean() == 0
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
    return dict(zip(trained, found, strict=True))


@pytest.mark.parametrize("switches", SWITCHES, ids=label)
@pytest.mark.parametrize("pseudo", [False, True], ids=["supervised", "pseudo"])
def test_every_task_reaches_the_shared_weights_and_its_own(switches: dict[str, Any], pseudo: bool) -> None:
    model = create(**switches).train().double()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, Projector):
            # A ReLU of one or two units may be dead at the start.
            module[0].bias.data.fill_(1.0)
            module[3].down.bias.data.fill_(1.0)
    for tower in model.towers.values():
        # Confident enough for pseudo-labels on all rows.
        tower.head[3].bias.data[0] = 8.0
    shared = {id(parameter) for parameter in model.shared_parameters()}
    parameters = dict(model.named_parameters())
    # Task nodes that attend to nothing never meet the shared graph layer.
    idle = switches.get("attention") == "none" and switches["task_projectors"]
    for task in BUILTIN_TASKS:
        found = gradients(model, task, pseudo)
        assert any(name.startswith("linear_paths.") for name in found) == (
            switches.get("linear_path") == PATHS["trained"]["linear_path"]
        )
        for name, gradient in found.items():
            assert torch.isfinite(gradient).all(), name
            own = name.startswith((f"towers.{task}.", f"linear_paths.{task}."))
            reached = (id(parameters[name]) in shared or own) and not (idle and name.startswith("graph."))
            assert bool(gradient.any()) == reached, f"{name} from {task}"


@pytest.mark.parametrize("switches", SWITCHES, ids=label)
def test_clips_without_any_modality_give_finite_gradients(switches: dict[str, Any]) -> None:
    model = create(**switches)
    predictions = model(Batch(features(), torch.zeros_like(MASKS)))
    joined(predictions).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    for name, parameter in model.projectors.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name
