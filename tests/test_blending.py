"""The network's share beside a linear path is chosen on dev and costs no dev metric."""

from pathlib import Path

import joined as small
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from mmpsr.model import MCDM
from training import blending
from training.baseline import LinearBaseline
from training.blending import SHARES, choose_shares
from training.config import RunConfig
from training.evaluation import evaluate_rows, predict
from training.loop import build_model, train
from training.run_directory import RunDirectory

PATHS = {"emotion": "fixed", "personality": "fixed"}
MODEL = {"hidden_width": 16, "head_width": 16, "num_heads": 2, "guide_bank": False, "linear_path": PATHS}


def setting() -> tuple[RunConfig, small.JoinedCorpora, MCDM, LinearBaseline]:
    config, clips = small.config(model=MODEL), small.joined()
    baseline = LinearBaseline(clips, small.tasks(), config.corpora)
    return config, clips, build_model(config, clips, small.tasks(), baseline), baseline


def test_a_harmful_network_gets_no_share_and_only_named_tasks_are_touched() -> None:
    config, clips, model, baseline = setting()
    for task in small.tasks():
        torch.nn.init.normal_(model.towers[task].head[3].weight, std=50.0)
    assert choose_shares(model, clips, config) == {"emotion": 0.0, "personality": 0.0}
    assert float(model.towers["ambivalence"].share) == 1.0
    rows = clips.rows(["fiv2"], "test")
    np.testing.assert_allclose(
        predict(model, clips, rows)["personality"], baseline.predict(rows)["personality"], atol=1e-5
    )


def test_a_helpful_network_keeps_its_whole_share() -> None:
    config, clips, model, _ = setting()
    weight, bias = (parameter.detach() for parameter in model.linear_paths["personality"].parameters())
    model.set_linear_path("personality", weight / 2, bias / 2 + 0.5)

    # The tower stands for a network that knows the other half of the ridge's prediction.
    def helpful(nodes: torch.Tensor, context: torch.Tensor, mask: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        del nodes, context, mask
        return (0.5 + model.towers["personality"].share * offset + offset).clamp(0, 1)

    model.towers["personality"].forward = helpful  # type: ignore[method-assign]
    assert choose_shares(model, clips, config)["personality"] == 1.0


def test_no_dev_metric_falls_below_the_linear_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    config, clips, model, _ = setting()
    generator = torch.Generator().manual_seed(3)
    head = model.towers["personality"].head[3]
    head.weight.data = 0.3 * torch.randn(head.weight.shape, generator=generator)
    shares = choose_shares(model, clips, config)
    rows = clips.rows(["fiv2"], "dev")

    def metrics(share: float) -> np.ndarray:
        model.towers["personality"].share.fill_(share)
        figures = evaluate_rows(predict(model, clips, rows), clips, rows, small.tasks(), config.corpora)
        return np.array([figure.value for figure in figures if figure.task == "personality"])

    assert (metrics(shares["personality"]) >= metrics(0.0)).all()
    allowed = [share for share in SHARES if (metrics(share) >= metrics(0.0)).all()]
    assert metrics(shares["personality"]).mean() == max(metrics(share).mean() for share in allowed)
    # Test labels have no say.
    test = clips.rows(["fiv2"], "test")
    clips.labels["personality"][test] = 1 - clips.labels["personality"][test]
    assert choose_shares(model, clips, config) == shares
    assert blending.SHARES[0] == 0.0


def test_the_best_weights_hold_the_chosen_share(tmp_path: Path) -> None:
    config = small.config(model=MODEL, training={"num_epochs": 2})
    said: list[str] = []
    model = train(config, small.joined(), small.tasks(), Accelerator(cpu=True), RunDirectory(tmp_path), said.append)
    stored = load_file(tmp_path / "best.safetensors")
    for task in PATHS:
        assert float(stored[f"towers.{task}.share"]) == float(model.towers[task].share)
    assert any("share beside the linear path: emotion" in line for line in said)
