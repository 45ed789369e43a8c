"""Progress of a run: how far losses conflict, looked at now and then without a trace, and the monitored figure."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from mmpsr.balancing.build import create_balancer
from mmpsr.config import ConfigError
from mmpsr.models.mcdm import MCDM
from mmpsr.objective.objective import Objective
from tests.support import joined as small
from training.fit.loop import build_model
from training.fit.progress import monitor, require_monitor
from training.fit.state import Totals
from training.fit.step import CONFLICT_STEPS, training_step
from training.fit.views import StepResult
from training.scoring.scores import MetricValue, dev_mean, evaluate_rows

SPECS = {"specs": {"emotion": {"threshold": 0.5}, "ambivalence": {"threshold": 0.5}}}


def step(
    number: int, batch_size: int = 34, **sections: dict[str, object]
) -> tuple[StepResult, dict[str, torch.Tensor]]:
    """One step of a model in evaluation mode, and all gradients."""
    config, clips = small.config(tasks=SPECS, **sections), small.joined()
    tasks = config.tasks.resolve()
    model = build_model(config, clips, tasks).eval()
    objective = Objective(tasks, config.objective, clips.labels, config.semi_supervision)
    balancer = create_balancer(objective.keys, config.balancing)
    batch = clips.batch(torch.arange(0, 170, 5)[:batch_size])
    result = training_step(model, objective, balancer, batch, Accelerator(cpu=True), step=number)
    return result, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("method", "one_pass"), [("equal", True), ("gradnorm", True), ("gradnorm", False), ("mgda", True)]
)
def test_cosines_are_those_of_separate_gradients(method: str, one_pass: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if method == "mgda":
        pytest.importorskip("torchjd")
    monkeypatch.setattr(MCDM, "one_pass", one_pass)
    found, _ = step(0, balancing={"method": method})
    config, clips = small.config(tasks=SPECS), small.joined()
    tasks = config.tasks.resolve()
    model = build_model(config, clips, tasks).eval()
    batch = clips.batch(torch.arange(0, 170, 5))
    objective = Objective(tasks, config.objective, clips.labels, config.semi_supervision)
    gradients = []
    for term in objective(model(batch), batch).values():
        model.zero_grad()
        term.mean().backward(retain_graph=True)
        zeros = (torch.zeros_like(p) if p.grad is None else p.grad for p in model.shared_parameters())
        gradients.append(torch.cat([each.flatten() for each in zeros]))
    unit = torch.stack([each / each.norm() for each in gradients])  # NaN for a loss that no clip counted for
    assert int(unit[:, 0].isfinite().sum()) >= 4
    assert found.cosines is not None
    torch.testing.assert_close(found.cosines, unit @ unit.T, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("method", ["equal", "gradnorm"])
def test_looking_changes_no_gradient_and_happens_now_and_then(method: str) -> None:
    looked, ours = step(CONFLICT_STEPS, balancing={"method": method})
    unseen, theirs = step(CONFLICT_STEPS + 1, balancing={"method": method})
    assert looked.cosines is not None
    assert unseen.cosines is None
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert torch.equal(gradient, theirs[name]), name


def test_a_loss_without_rows_has_no_cosine_and_one_loss_no_conflict() -> None:
    result, _ = step(0, batch_size=2, semi_supervision={"method": "none"})  # the first clips are MOSEI's
    assert result.cosines is not None
    assert result.counts[0].bool().tolist() == [True, False, False]
    assert result.cosines[0, 0] == pytest.approx(1.0)
    assert result.cosines[1:].isnan().all()
    assert result.cosines[:, 1:].isnan().all()


def test_means_over_the_steps_in_which_a_pair_was_seen() -> None:
    tasks = {name: spec for name, spec in small.tasks().items() if name != "personality"}
    totals = Totals(1, tasks)
    keys = [("supervised", task) for task in tasks]
    assert totals.conflicts(keys) == {}
    for cosine in (0.5, math.nan, -0.1):  # the mean of 0.5 and -0.1 is 0.2
        matrix = torch.tensor([[1.0, cosine], [cosine, 1.0]])
        totals.add(StepResult(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2), {}, {}, matrix))
    totals.add(StepResult(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2), {}, {}))
    assert totals.conflicts(keys) == {"supervised/emotion": {"supervised/ambivalence": pytest.approx(0.2)}}
    totals.clear()
    assert totals.conflicts(keys) == {}


FIGURES = [
    MetricValue("mosei", "dev", "emotion", "multilabel_macro_f1", 60.0, 9),
    MetricValue("mosei", "dev", "emotion", "multilabel_weighted_accuracy", 50.0, 9),
    MetricValue("other", "dev", "emotion", "macro_f1", 10.0, 9),
    MetricValue("fiv2", "dev", "personality", "mean_accuracy", 90.0, 9),
    MetricValue("fiv2", "dev", "personality", "mean_ccc", math.nan, 9),
    MetricValue("meld", "dev", "emotion", "macro_f1", 99.0, 9),
    MetricValue("mosei", "test", "emotion", "multilabel_macro_f1", 99.0, 9),
]
TRAINED = ("mosei", "other", "fiv2", "bah")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", (40.0 + 90.0) / 2),
        ("emotion", (60.0 + 50.0 + 10.0) / 3),
        ("personality", 90.0),
        ("mosei/emotion/multilabel_weighted_accuracy", 50.0),
        ("other/emotion/macro_f1", 10.0),
    ],
)
def test_figures_by_name(name: str, expected: float) -> None:
    assert monitor(FIGURES, TRAINED, name) == pytest.approx(expected)
    assert monitor(FIGURES[::-1], TRAINED, name) == pytest.approx(expected)


def test_the_mean_is_the_dev_mean() -> None:
    assert monitor(FIGURES, TRAINED, "mean") == dev_mean(FIGURES, TRAINED)


def test_a_figure_that_is_no_number_stays_none() -> None:
    assert math.isnan(monitor(FIGURES, TRAINED, "fiv2/personality/mean_ccc"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("emotoin", "did you mean 'emotion'"),
        ("maen", "did you mean 'mean'"),
        ("mosei/emotion/multilabel_macro_f", "did you mean 'mosei/emotion/multilabel_macro_f1'"),
        ("loss", "known names are emotion, fiv2/personality/mean_accuracy, .* mean, mosei/emotion/"),
    ],
)
def test_a_wrong_name_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"training\.monitor: no dev figure .* is named '{name}'; {hint}"):
        monitor(FIGURES, TRAINED, name)


@pytest.mark.parametrize("name", ["meld/emotion/macro_f1", "ambivalence"])
def test_zero_shot_corpora_and_tasks_without_dev_labels_choose_nothing(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        monitor(FIGURES, TRAINED, name)


def test_names_are_checked_before_training() -> None:
    config, joined, tasks = small.config(), small.joined(), small.tasks()
    rows = joined.rows(config.corpora.trained(), "dev")
    predicted = {task: np.full((len(rows), spec.num_outputs), 0.5) for task, spec in tasks.items()}
    figures = evaluate_rows(predicted, joined, rows, tasks, config.corpora)
    names = {figure.task for figure in figures} | {f"{x.corpus}/{x.task}/{x.metric}" for x in figures}
    assert len(names) == 3 + 2 * 3
    for name in ("mean", *names):
        require_monitor(name, joined, rows, tasks, config.corpora)
    with pytest.raises(ConfigError, match="did you mean 'bah/ambivalence/uar'"):
        require_monitor("bah/ambivalence/uaar", joined, rows, tasks, config.corpora)
    joined.labels["ambivalence"][torch.as_tensor(rows)] = math.nan
    with pytest.raises(ConfigError, match="'ambivalence'"):
        require_monitor("ambivalence", joined, rows, tasks, config.corpora)
