"""Views of a batch, and the compiled model: it gives the steps of the model itself where it may stand in for it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from mmpsr.balancing.build import create_balancer
from mmpsr.batch import Batch, Predictions
from mmpsr.config import ConfigError
from mmpsr.objective.objective import Objective
from tests.support import joined as small
from training.fit.loop import build_model, train
from training.fit.step import CONFLICT_STEPS, training_step
from training.fit.views import compile_model, hide_modalities
from training.runs.directory import RunDirectory


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


def test_a_modality_is_hidden_with_its_views() -> None:
    torch.manual_seed(0)
    present = torch.ones(4000, 4, dtype=torch.bool)
    present[::2, 1] = False
    names = ("text", "text.lexica", "audio", "behavior.lexica")
    hidden = hide_modalities(Batch({name: torch.zeros(4000, 1) for name in names}, present), 0.5).presence
    torch.testing.assert_close(hidden[1::2, 0], hidden[1::2, 1])
    assert not hidden[::2, 1].any()
    # text and audio each stay with 0.5, or because all three fell: 0.5 + 0.5^3 = 0.625
    assert hidden.float().mean(dim=0)[[0, 2, 3]].tolist() == pytest.approx([0.625] * 3, abs=0.03)
    assert not torch.equal(hidden[:, 0], hidden[:, 2])


@pytest.mark.parametrize(
    ("balancing", "steps"),
    [
        ({"method": "equal"}, {1, 2, 3}),
        ({"method": "gradnorm"}, set()),
        ({"method": "gradnorm", "cost": "every_k", "every": 3}, {1, 2}),
    ],
)
def test_it_stands_in_where_no_gradient_is_looked_at(balancing: dict[str, object], steps: set[int]) -> None:
    config, clips = small.config(balancing=balancing), small.joined()
    tasks = config.tasks.resolve()
    model = build_model(config, clips, tasks)
    objective = Objective(tasks, config.objective, clips.labels, config.semi_supervision)
    balancer = create_balancer(objective.keys, config.balancing)
    batch, taken = clips.batch(torch.arange(40)), set()

    for step in (0, 1, 2, 3, CONFLICT_STEPS):

        def compiled(rows: Batch, step: int = step) -> Predictions:
            taken.add(step)
            return model(rows)

        training_step(model, objective, balancer, batch, Accelerator(cpu=True), step=step, compiled=compiled)
    assert taken == steps


@pytest.mark.parametrize(
    ("balancing", "allowed"),
    [
        ({"method": "dwa"}, True),
        ({"method": "gradnorm", "cost": "every_k"}, True),
        ({"method": "gradnorm", "cost": "last_layer"}, False),
        ({"method": "imtl_g", "cost": "every_k"}, False),
    ],
)
def test_only_where_some_step_can_use_it(balancing: dict[str, object], allowed: bool) -> None:
    if allowed:
        assert small.config(balancing=balancing, training={"compile": True}).training.compile
        return
    with pytest.raises(ConfigError, match=r"does nothing where every step looks .* choose equal, fixed"):
        small.config(balancing=balancing, training={"compile": True})


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clips, config = small.joined(), small.config()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="needs a C\\+\\+ compiler on a CPU, and there is no 'no-such-compiler' here"):
        compile_model(build_model(config, clips, config.tasks.resolve()))


SMALLEST = {"graph": "none", "attention": "none", "guide_bank": False, "task_projectors": False}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "backend"), [({}, "eager"), (SMALLEST, "inductor")], ids=["default", "smallest"])
def test_a_run_ends_with_the_weights_of_an_uncompiled_one(
    model: dict[str, object], backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one graph, over whole and last batches of an epoch, with a strong view; no dropout, whose numbers differ.

    The default model's graph runs as it was traced, since its C++ takes minutes to compile; the smallest one's is C++.
    """
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    semi = {"method": "consistency", "regression": "agreement"}
    settings = {"num_epochs": 2, "modality_dropout": 0.3, "batch_size": 16, "optimizer": "sgd", "lr": 0.1}
    tasks = {"ambivalence": small.tasks()["ambivalence"]}
    found = []
    for compile_it in (False, True):
        counters.clear()
        config = small.config(
            training={**settings, "compile": compile_it},
            semi_supervision=semi,
            balancing={"method": "equal"},
            model={"dropout": 0.0, "graph_dropout": 0.0, **model},
        )
        run = RunDirectory(tmp_path / str(compile_it))
        run.path.mkdir()
        train(config, small.joined(), tasks, Accelerator(cpu=True), run, lambda message: None)
        found.append(load_file(run.best))
        assert not counters["graph_break"]
        assert bool(counters["stats"]["unique_graphs"]) == compile_it
    for name, value in found[0].items():
        torch.testing.assert_close(
            found[1][name], value, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
