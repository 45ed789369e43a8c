"""The fused pass against the model as it stands, layer by layer: predictions, losses, weights and every gradient."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from mmpsr.balancing.base import BalancingConfig
from mmpsr.balancing.build import create_balancer
from mmpsr.batch import Batch
from mmpsr.models.base import FusionModel
from mmpsr.models.build import create_model
from mmpsr.models.conflict_aware import ConflictAwareConfig
from mmpsr.models.fused import FusedMCDM, fits
from mmpsr.models.mcdm import MCDM, ModelConfig
from mmpsr.objective.objective import Objective, ObjectiveConfig
from mmpsr.objective.pseudo_labels import SemiSupervisionConfig
from mmpsr.tasks import BUILTIN_TASKS, TaskSpec
from training.fit.checkpoint import save_tensors
from training.fit.step import training_step

WIDTHS = {"text": 9, "audio": 7, "video": 5}
PATHS = {"emotion": "trained", "personality": "fixed"}


def made(tasks: dict[str, TaskSpec] | None = None, **settings: Any) -> MCDM:
    torch.manual_seed(0)
    config = ModelConfig(**{"hidden_width": 16, "head_width": 12, "num_heads": 4, "dropout": 0.3, **settings})
    model = MCDM(WIDTHS, tasks or BUILTIN_TASKS, config).double()
    with torch.no_grad():
        for parameter in model.parameters():  # also what starts at zero, or alike in all places
            parameter += 0.2 * torch.randn_like(parameter)
    return model.train()


def clips(num_clips: int) -> Batch:
    """Clips with any set of modalities, one of them with none, of which each is labelled for one task or none."""
    generator = torch.Generator().manual_seed(1)
    owner = torch.randint(0, len(BUILTIN_TASKS) + 1, (num_clips, 1), generator=generator)
    labels = {
        task: torch.where(owner == index, torch.rand(num_clips, spec.num_outputs, generator=generator), torch.nan)
        for index, (task, spec) in enumerate(BUILTIN_TASKS.items())
    }
    presence = torch.rand(num_clips, len(WIDTHS), generator=generator) < 0.7
    presence[0] = False
    features = {name: torch.randn(num_clips, width, generator=generator).double() for name, width in WIDTHS.items()}
    return Batch(features, presence, labels)


def stepped(
    model: FusionModel, is_fused: bool, num_clips: int, method: str = "gradnorm", semi: dict[str, Any] | None = None
) -> tuple[Any, dict[str, torch.Tensor | None]]:
    objective = Objective(model.tasks, ObjectiveConfig(), {}, SemiSupervisionConfig(**(semi or {}))).double()
    balancer = create_balancer(objective.keys, BalancingConfig(method=method)).double()
    torch.manual_seed(5)
    result = training_step(
        model, objective, balancer, clips(num_clips), Accelerator(cpu=True), step=1, hide_rate=0.2,
        fused=FusedMCDM([model]) if is_fused and isinstance(model, MCDM) else None,
    )  # fmt: skip
    return result, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("settings", "num_clips", "method", "semi"),
    [
        ({}, 13, "gradnorm", {}),
        ({"guide_temperature": True, "predictor_norm": "none", "linear_path": PATHS}, 13, "gradnorm", {}),
        ({"guide_bank": False, "dropout": 0.0}, 13, "equal", {}),
        ({"num_heads": 1, "graph_dropout": 0.0}, 13, "uncertainty", {}),
        ({"linear_path": PATHS}, 13, "gradnorm", {"method": "consistency"}),
        ({}, 13, "gradnorm", {"method": "none"}),
        ({}, 190, "gradnorm", {}),  # products of two clips for one layer after the other, scores by matrix products
    ],
    ids=["published", "demo", "no-guides", "one-head", "two-views", "supervised", "many-clips"],
)
def test_gradients_are_those_of_the_layers(
    settings: dict[str, Any], num_clips: int, method: str, semi: dict[str, Any]
) -> None:
    model = made(**settings)
    found, expected = (stepped(copy.deepcopy(model), is_fused, num_clips, method, semi) for is_fused in (True, False))
    for name in ("losses", "counts", "weights"):
        torch.testing.assert_close(getattr(found[0], name), getattr(expected[0], name), rtol=1e-6, atol=1e-9)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert (found[1][name] is None) == (gradient is None), name
        if gradient is not None:
            torch.testing.assert_close(
                found[1][name], gradient, rtol=1e-5, atol=1e-9, msg=lambda text, n=name: n + text
            )
    assert sum(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in expected[1].values()) > 40


def test_a_task_with_one_output_and_a_single_task_are_fused() -> None:
    score = BUILTIN_TASKS["personality"].model_copy(update={"classes": ("warmth",)})
    for tasks in ({"warmth": score}, {"warmth": score, "other": score}):
        model = made(tasks)
        assert fits(model)
        batch, fused = clips(5), FusedMCDM([model])
        torch.manual_seed(2)
        expected = model(batch)
        torch.manual_seed(2)
        found = fused(batch).predictions
        torch.testing.assert_close(found.scores["warmth"], expected.scores["warmth"])


@pytest.mark.parametrize(
    "settings",
    [
        {"graph": "gat"}, {"graph_options": {"activation": "groupsort"}}, {"graph_options": {"form": "lie"}},
        {"attention": "mta"}, {"task_projectors": False}, {"conflict_features": True}, {"text_head": True},
        {"own_trunks": ("emotion",)},
    ],
    ids=str,
)  # fmt: skip
def test_other_layers_are_left_alone(settings: dict[str, Any]) -> None:
    assert fits(made())
    assert not fits(made(**settings))


def test_other_models_and_unlike_towers_are_left_alone() -> None:
    assert not fits(create_model(ConflictAwareConfig(hidden_width=8), WIDTHS, BUILTIN_TASKS, {}))
    score = BUILTIN_TASKS["personality"].model_copy(update={"classes": ("warmth",)})
    assert not fits(made({**BUILTIN_TASKS, "warmth": score}))  # its predictor has no norm, and others have one
    spread = BUILTIN_TASKS["personality"].model_copy(update={"loss": "gaussian_nll"})
    assert not fits(made({"emotion": BUILTIN_TASKS["emotion"], "personality": spread}))


def test_weights_that_something_else_moves_or_loads_are_followed(tmp_path: Path) -> None:
    model, other = made(), made()
    fused, batch = FusedMCDM([model]), clips(5)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter *= 1.5
    save_tensors(dict(other.state_dict()), tmp_path / "other.safetensors")
    model.load_state_dict(load_file(tmp_path / "other.safetensors"))
    torch.manual_seed(2)
    expected = other(batch)
    for parameter in (None, *model.parameters()):
        if parameter is not None:
            parameter.data = parameter.data.clone()  # as `Module.to` does
    torch.manual_seed(2)
    found = fused(batch).predictions
    torch.testing.assert_close(found.logits["emotion"], expected.logits["emotion"])
    save_tensors(dict(model.state_dict()), tmp_path / "model.safetensors")  # weights that share memory
    stored = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(stored[name], values) for name, values in other.state_dict().items())
