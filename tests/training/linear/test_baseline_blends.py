"""The network's share beside a linear path is chosen on dev and costs no dev metric."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from mmpsr.batch import Batch, Predictions
from mmpsr.models.base import Outputs
from mmpsr.models.mcdm import MCDM
from tests.support import joined as small
from training.config import RunConfig
from training.fit.loop import build_model, train
from training.linear.baseline import SHARES, SPREADS, TOLERANCE, Blend, LinearBaseline, choose_blends
from training.runs.directory import RunDirectory
from training.scoring.scores import evaluate_rows, predict

PATHS = {"emotion": "fixed", "personality": "fixed"}
MODEL = {"hidden_width": 16, "head_width": 16, "num_heads": 2, "guide_bank": False, "linear_path": PATHS}


@pytest.fixture(autouse=True)
def _few_dev_clips_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.linear.baseline.LEAST_DEV_CLIPS", 1)


def setting() -> tuple[RunConfig, small.JoinedCorpora, MCDM, LinearBaseline]:
    config, clips = small.config(model=MODEL), small.joined()
    baseline = LinearBaseline(clips, small.tasks(), config.corpora)
    return config, clips, build_model(config, clips, small.tasks(), baseline), baseline


def test_a_harmful_network_gets_no_share_and_only_named_tasks_are_touched() -> None:
    config, clips, model, baseline = setting()
    for task in small.tasks():
        torch.nn.init.normal_(model.towers[task].head[3].weight, std=50.0)
    chosen = choose_blends(model, clips, config, baseline)
    assert {task: blend.share for task, blend in chosen.items()} == {"emotion": 0.0, "personality": 0.0}
    assert chosen["emotion"].spread == 1.0
    assert float(model.towers["ambivalence"].share) == 1.0
    rows = clips.rows(["fiv2"], "test")
    model.towers["personality"].spread.fill_(1.0)
    weight, bias = baseline.path("personality")
    expected = (baseline._inputs[rows.numpy()] @ weight.T + bias).clip(0, 1)
    np.testing.assert_allclose(predict(model, clips, rows)["personality"], expected, atol=1e-5)


def test_a_helpful_network_keeps_its_whole_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.linear.baseline.LEAST_DEV_CLIPS", 1000)
    config, clips, model, baseline = setting()
    weight, bias = map(torch.from_numpy, baseline.coefficients("personality"))
    model.set_linear_path("personality", weight / 2, (bias - 0.5) / 2 + 0.5)

    # The tower stands for a network that knows the other half of the ridge's prediction.
    def helpful(*inputs: object) -> Outputs:
        offset = inputs[3]
        assert isinstance(offset, torch.Tensor)
        return Outputs(model.towers["personality"].beside(0.5 + offset, offset))

    model.towers["personality"].forward = helpful  # type: ignore[method-assign]
    assert choose_blends(model, clips, config, baseline)["personality"].share == 1.0


@pytest.mark.slow
def test_no_dev_metric_falls_below_the_linear_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    config, clips, model, baseline = setting()
    generator = torch.Generator().manual_seed(3)
    head = model.towers["personality"].head[3]
    head.weight.data = 0.3 * torch.randn(head.weight.shape, generator=generator)
    chosen = choose_blends(model, clips, config, baseline)
    rows = clips.rows(["fiv2"], "dev")

    def metrics(share: float, spread: float) -> np.ndarray:
        model.towers["personality"].share.fill_(share)
        model.towers["personality"].spread.fill_(spread)
        figures = evaluate_rows(predict(model, clips, rows), clips, rows, small.tasks(), config.corpora)
        return np.array([figure.value for figure in figures if figure.task == "personality"])

    found = {Blend(*pair): metrics(*pair) for pair in itertools.product(SHARES, SPREADS)}
    linear = baseline.dev_metrics("personality")
    allowed = [blend for blend, values in found.items() if (values >= linear - TOLERANCE).all()]
    assert chosen["personality"] in allowed
    assert found[chosen["personality"]].mean() == max(found[blend].mean() for blend in allowed)
    # Test labels have no say.
    test = clips.rows(["fiv2"], "test")
    clips.labels["personality"][test] = 1 - clips.labels["personality"][test]
    assert choose_blends(model, clips, config, baseline) == chosen
    assert SHARES[0] == 0.0


@pytest.mark.slow
def test_the_best_weights_hold_the_chosen_share(tmp_path: Path) -> None:
    config = small.config(model=MODEL, training={"num_epochs": 2})
    said: list[str] = []
    model = train(config, small.joined(), small.tasks(), Accelerator(cpu=True), RunDirectory(tmp_path), said.append)
    stored = load_file(tmp_path / "best.safetensors")
    for task in PATHS:
        assert float(stored[f"towers.{task}.share"]) == float(model.towers[task].share)
    assert float(stored["towers.personality.spread"]) == float(model.towers["personality"].spread)
    assert any("share beside the linear path: emotion" in line for line in said)


def test_spread_stretches_scores_about_the_training_mean() -> None:
    _, clips, model, _ = setting()
    tower, rows = model.towers["personality"], clips.rows(["fiv2"], "test")
    tower.share.fill_(0.0)
    before = predict(model, clips, rows)["personality"]
    tower.spread.fill_(1.4)
    after = predict(model, clips, rows)["personality"]
    train = clips.labels["personality"][clips.rows(["mosei", "fiv2", "bah"], "train")]
    mean = train[torch.isfinite(train).all(dim=1)].mean(dim=0).numpy()
    np.testing.assert_allclose(tower.center.numpy(), mean, atol=1e-6)
    np.testing.assert_allclose(
        after, (tower.center + 1.4 * (torch.tensor(before) - tower.center)).clamp(0, 1), atol=1e-6
    )


def test_a_ridge_that_shrinks_is_spread_out() -> None:
    """Predictions at 70 % of the labels' distance from the mean: spread by 1.4 both metrics rise."""
    config, clips, model, baseline = setting()
    for task in small.tasks():
        torch.nn.init.zeros_(model.towers[task].head[3].weight)
        torch.nn.init.zeros_(model.towers[task].head[3].bias)
    tower = model.towers["personality"]
    labels = clips.labels["personality"]

    def shrunk(batch: Batch) -> Predictions:
        truth = torch.nan_to_num(labels[batch.rows], nan=0.5)
        scores = tower.beside(torch.full_like(truth, 0.5), tower.center - 0.5 + (truth - tower.center) / 1.4)
        return Predictions(
            {"emotion": torch.zeros(len(batch), 7), "ambivalence": torch.zeros(len(batch), 2)}, {"personality": scores}
        )

    model.forward = shrunk  # type: ignore[method-assign]
    assert choose_blends(model, clips, config, baseline)["personality"].spread == 1.4


def test_the_path_of_a_regression_is_best_once_spread_out() -> None:
    _, clips, _, baseline = setting()
    rows = clips.rows(["mosei", "fiv2", "bah"], "dev")
    weight, bias = baseline.path("personality")
    inputs = baseline._inputs[rows.numpy()]
    floor, found = baseline.dev_metrics("personality"), []
    for spread in SPREADS:
        scores = (bias + spread * (inputs @ weight.T)).clip(0, 1)
        found.append(baseline._metrics("personality", scores.astype(np.float64), rows))
    reached = [values.mean() for values in found if (values >= floor - TOLERANCE).all()]
    assert max(reached) >= floor.mean()
    plain = baseline.coefficients("personality")[0]
    assert np.linalg.norm(weight) <= np.linalg.norm(plain) + 1e-6  # a heavier penalty, or the same
    np.testing.assert_array_equal(baseline.path("emotion")[0], baseline.coefficients("emotion")[0])


def test_few_dev_clips_spread_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, clips, _, baseline = setting()
    num_dev = int(torch.isfinite(clips.labels["personality"][clips.rows(["fiv2"], "dev")]).all(dim=1).sum())
    monkeypatch.setattr("training.linear.baseline.LEAST_DEV_CLIPS", num_dev)
    assert baseline.spreads("personality") == SPREADS
    assert baseline.spreads("emotion") == (1.0,)
    monkeypatch.setattr("training.linear.baseline.LEAST_DEV_CLIPS", num_dev + 1)
    assert baseline.spreads("personality") == (1.0,)
    np.testing.assert_array_equal(baseline.path("personality")[0], baseline.coefficients("personality")[0])
