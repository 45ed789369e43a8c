"""What fusion models share: second heads, exact gradients from one pass, whole runs of either kind."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from mmpsr.balancing.build import create_balancer
from mmpsr.balancing.config import BalancingConfig
from mmpsr.batch import Batch, Predictions
from mmpsr.config import ConfigError, validate
from mmpsr.layers.nodes import mean_conflict
from mmpsr.models.base import FusionModel
from mmpsr.models.build import create_model
from mmpsr.models.config import ConflictAwareConfig, ModelConfig
from mmpsr.models.conflict_aware import ConflictAware
from mmpsr.models.mcdm import MCDM
from mmpsr.objective.config import ObjectiveConfig, SemiSupervisionConfig
from mmpsr.objective.objective import Objective
from mmpsr.objective.supervised import supervised_loss
from mmpsr.probabilities import probabilities
from mmpsr.prototypes.points import similarities
from mmpsr.tasks import BUILTIN_TASKS
from tests.support import joined as small
from tests.support import sequenced
from tests.support.interrupted import kill_at, require_same_weights
from training.config import RunConfig
from training.fit.loop import build_model, train
from training.fit.step import training_step
from training.runs.directory import RunDirectory
from training.scoring.scores import predict

BOTH = {"conflict_features": True, "text_head": True}
GUIDES = {
    "emotion": {"text": torch.randn(1, 7, 3, generator=torch.Generator().manual_seed(0))},
    "personality": {"text": torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))},
}
PATH = {"linear_path": {"emotion": "trained", "personality": "trained"}}


def create_mcdm(**options: Any) -> MCDM:
    torch.manual_seed(0)
    config = ModelConfig(**{"hidden_width": 8, "head_width": 7, "num_heads": 2, **options})
    model = MCDM(sequenced.WIDTHS, BUILTIN_TASKS, config, guide_points=None if config.guides == "learned" else GUIDES)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def labeled(batch: Batch, step: int = 0) -> Batch:
    """Each clip labelled for one task or none; with fewer tasks at some steps."""
    owner = torch.randint(0, 4, (len(batch),))
    labels = {}
    for index, (task, spec) in enumerate(BUILTIN_TASKS.items()):
        mine = (owner == index) & (index < (step + 3) % 4 or step == 0)
        labels[task] = torch.where(mine[:, None], torch.rand(len(batch), spec.num_outputs), torch.nan)
    return replace(batch, labels=labels)


def random_batch(num_clips: int, step: int = 0) -> Batch:
    masks = torch.rand(num_clips, 3) < 0.7
    masks[:, 0] |= ~masks.any(dim=1)
    return labeled(sequenced.batch_of(masks, seed=step), step)


def as_type(batch: Batch, dtype: torch.dtype) -> Batch:
    return replace(
        batch,
        features={name: each.to(dtype) for name, each in batch.features.items()},
        labels={name: each.to(dtype) for name, each in batch.labels.items()},
        sequences={name: (values.to(dtype), mask) for name, (values, mask) in batch.sequences.items()},
    )


MODELS: dict[str, FusionModel] = {
    "sequences": sequenced.create(),
    "vectors": sequenced.create(sequences=False),
    "no guide": sequenced.create(guide="none"),
    "windows and paths": sequenced.create(window={"video": 2, "text": 3}, guide="audio", **PATH),
    "mcdm": create_mcdm(**BOTH),
    "mcdm with paths": create_mcdm(**BOTH, **PATH, graph="gat", attention="none", guide_temperature=True),
    "mcdm, conflict": create_mcdm(conflict_features=True, graph="none"),
    "mcdm, text": create_mcdm(text_head=True, task_projectors=False),
    "mcdm, own trunk": create_mcdm(own_trunks=("personality",), text_head=True, **PATH),
    "mcdm, texts as guides": create_mcdm(guides="texts", guide_temperature=True),
    "mcdm, tied guides": create_mcdm(guides="tied", guide_temperature=True, graph="none", attention="none"),
}


# ----------------------------------------------------------------------------------------------------- one pass or many


def step_of(model: FusionModel, batch: Batch, method: str, **balancing: Any) -> tuple[dict[str, Tensor], Tensor]:
    """Gradients by parameter, and weights, after one training step."""
    tasks = {name: spec.model_copy(update={"threshold": 0.5}) for name, spec in BUILTIN_TASKS.items()}
    objective = Objective(tasks, ObjectiveConfig(auxiliary_weight=0.3), {})
    balancer = create_balancer(objective.keys, BalancingConfig(method=method, **balancing), model.own_trunks)
    balancer = balancer.to(next(model.parameters()).dtype)
    torch.manual_seed(3)
    weights = training_step(model.train(), objective, balancer, batch, Accelerator(cpu=True)).weights
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    return {name: torch.zeros_like(e) if e.grad is None else e.grad for name, e in trained.items()}, weights


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_one_pass_equals_one_backward_pass_per_loss(
    name: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases: list[dict[str, Any]] = [
        {"method": "gradnorm"},
        {"method": "mgda"},
        {"method": "gradnorm", "cost": "last_layer"},
    ]
    for step in range(6):
        batch, case = as_type(random_batch(1 if step == 5 else 11, step), dtype), cases[step % 3]
        found = []
        for one_pass in (True, False):
            monkeypatch.setattr(FusionModel, "one_pass", one_pass)
            found.append(step_of(copy.deepcopy(MODELS[name]).to(dtype), batch, **case))
        (left, left_weights), (right, right_weights) = found
        torch.testing.assert_close(left_weights, right_weights, rtol=tolerance, atol=tolerance)
        for parameter, gradient in left.items():
            torch.testing.assert_close(
                gradient, right[parameter], rtol=tolerance, atol=tolerance, msg=lambda m, p=parameter: f"{p}: {m}"
            )


@pytest.mark.parametrize("name", ["sequences", "windows and paths", "mcdm"])
def test_mixed_precision(name: str) -> None:
    batch, found = random_batch(40), []
    for precision in ("no", "bf16"):
        accelerator = Accelerator(cpu=True, mixed_precision=precision)
        model = copy.deepcopy(MODELS[name]).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        objective = Objective(BUILTIN_TASKS, ObjectiveConfig(), {})
        balancer = create_balancer(objective.keys, BalancingConfig(method="gradnorm"))
        torch.manual_seed(3)
        losses = training_step(model, objective, balancer, batch, accelerator).losses
        assert losses.dtype == torch.float32
        assert all(each.grad.dtype == torch.float32 for each in model.parameters())
        found.append(losses[0])
        AcceleratorState._reset_state(reset_partial_state=True)
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_parameter_is_recorded(name: str) -> None:
    """A parameter used past the recording layers would silently get no gradient."""
    model = copy.deepcopy(MODELS[name])
    assert model.one_pass
    gradients, _ = step_of(model, random_batch(60), "gradnorm")
    idle = {each for each in gradients if ".key_value.bias" in each}  # cancels in part
    assert [each for each, gradient in gradients.items() if not gradient.any() and each not in idle] == []
    shared, own = set(map(id, model.shared_parameters())), set(map(id, model.task_parameters()))
    assert not shared & own
    assert shared | own == {id(each) for each in model.parameters() if each.requires_grad}


# ----------------------------------------------------------------------------------------------------- auxiliary losses


def test_supervised_losses_mix_both_heads_where_there_is_a_second() -> None:
    torch.manual_seed(0)
    spec = BUILTIN_TASKS["ambivalence"]
    main, other = torch.randn(2, 4, 2)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [torch.nan, torch.nan]])
    rows = torch.tensor([True, False, True, True])
    predictions = Predictions({"ambivalence": main}, {}, {"ambivalence": other}, rows)
    batch = Batch({"text": torch.zeros(4, 1)}, torch.ones(4, 1, dtype=torch.bool), {"ambivalence": labels})
    for smoothing in (0.0, 0.1):
        config = ObjectiveConfig(auxiliary_weight=0.25, label_smoothing=smoothing)
        objective = Objective({"ambivalence": spec}, config, {})
        found = objective(predictions, batch)["supervised", "ambivalence"]

        def of(logits: Tensor, clip: int, smoothing: float = smoothing) -> Tensor:
            return supervised_loss(logits[clip : clip + 1], labels[clip : clip + 1], spec, None, smoothing).total

        # Clips 0 and 2 have both heads, clip 1 the main one, clip 3 no label.
        expected = 0.75 * (of(main, 0) + of(main, 2)) + 0.25 * (of(other, 0) + of(other, 2)) + of(main, 1)
        torch.testing.assert_close(found.total, expected)
        assert int(found.count) == 3
    pseudo = objective(predictions, batch)["pseudo", "ambivalence"]
    alone = Objective({"ambivalence": spec}, config, {})(Predictions({"ambivalence": main}, {}), batch)
    torch.testing.assert_close(pseudo.total, alone["pseudo", "ambivalence"].total)


def test_scores_mix_element_by_element() -> None:
    spec = BUILTIN_TASKS["personality"]
    labels = torch.tensor([[0.5, torch.nan, 0.0, 0.0, 0.0]])
    predictions = Predictions(
        {}, {"personality": torch.full((1, 5), 0.4)}, {"personality": torch.full((1, 5), 0.9)}, torch.tensor([True])
    )
    batch = Batch({"text": torch.zeros(1, 1)}, torch.ones(1, 1, dtype=torch.bool), {"personality": labels})
    objective = Objective(
        {"personality": spec}, ObjectiveConfig(auxiliary_weight=0.25), {}, SemiSupervisionConfig(method="none")
    )
    found = objective(predictions, batch)["supervised", "personality"]
    # 0.75 (0.1 + 3 * 0.4) + 0.25 (0.4 + 3 * 0.9) = 0.975 + 0.775 over four known elements
    torch.testing.assert_close(found.mean(), torch.tensor(1.75 / 4))


def test_slices_keep_second_heads() -> None:
    predictions = Predictions(
        {"a": torch.arange(4.0)[:, None]}, {}, {"a": -torch.arange(4.0)[:, None]}, torch.eye(4)[2] > 0
    )
    part = predictions.slice(1, 3)
    assert part.auxiliary["a"].flatten().tolist() == [-1.0, -2.0]
    assert part.auxiliary_rows is not None
    assert part.auxiliary_rows.tolist() == [False, True]
    assert Predictions({"a": torch.zeros(2, 1)}, {}).slice(0, 1).auxiliary_rows is None


# -------------------------------------------------------------------------------------------------- the options of MCDM


@torch.no_grad()
def test_conflict_features_of_mcdm_by_the_formula() -> None:
    model, batch = create_mcdm(conflict_features=True, guide_bank=False), random_batch(20)
    shared = model.encode(batch)
    nodes, context = shared.ends
    for task, spec in BUILTIN_TASKS.items():
        tower = model.towers[task]
        queries = tower.graph(tower.projector(tower.predictor(nodes)), batch.presence)
        attended = tower.attention(queries, context, batch.presence)
        mask = batch.presence.unsqueeze(-1)
        pooled = (attended * mask).sum(dim=1) / mask.sum(dim=1)
        weight, split = tower.head[0].weight, pooled.shape[1]
        conflict = mean_conflict(context, batch.presence) @ tower.conflict.weight.T
        hidden = pooled @ weight[:, :split].T + conflict @ weight[:, split:].T + tower.head[0].bias
        expected = tower.head[3](hidden.relu())
        expected = expected.sigmoid() if spec.kind == "regression" else expected
        torch.testing.assert_close(model(batch).of(task), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_text_head_of_mcdm_sees_the_text_alone_and_is_blended_in() -> None:
    model, batch = create_mcdm(text_head=True, text_share=0.7, dropout=0.0, graph_dropout=0.0), random_batch(30)
    blended = model(batch)
    assert not blended.auxiliary
    trained = model.train()(batch)
    assert trained.auxiliary_rows is not None
    has_text = batch.presence[:, 2]
    assert torch.equal(trained.auxiliary_rows, has_text)
    node = model.projectors["text"](model.standardizers["text"](batch.features["text"], has_text))
    for task, spec in BUILTIN_TASKS.items():
        expected = model.towers[task].text_head(node)
        expected = expected.sigmoid() if spec.kind == "regression" else expected
        torch.testing.assert_close(trained.auxiliary[task], expected)
        main, second = probabilities(trained.of(task), spec), probabilities(expected, spec)
        mixed = torch.where(has_text[:, None], 0.7 * second + 0.3 * main, main)
        torch.testing.assert_close(probabilities(blended.of(task), spec), mixed, rtol=1e-4, atol=1e-6)
    others = replace(batch, features={**batch.features, "video": batch.features["video"] + 1})
    assert torch.equal(model(others).auxiliary["emotion"], trained.auxiliary["emotion"])


@pytest.mark.parametrize("options", [BOTH, {**BOTH, **PATH}], ids=["plain", "paths"])
@torch.no_grad()
def test_options_of_mcdm_keep_clips_apart(options: dict[str, Any]) -> None:
    model, batch = create_mcdm(**options), random_batch(24)
    plain = torch.cat([model(batch).of(task) for task in BUILTIN_TASKS], dim=1)
    for fill in (1e30, float("nan")):
        features = {
            name: torch.where(batch.presence[:, index, None], each, fill)
            for index, (name, each) in enumerate(batch.features.items())
        }
        found = model(replace(batch, features=features))
        assert torch.equal(torch.cat([found.of(task) for task in BUILTIN_TASKS], dim=1), plain)
    for clip in range(6):
        features = {name: each[clip : clip + 1] for name, each in batch.features.items()}
        found = model(Batch(features, batch.presence[clip : clip + 1]))
        alone = torch.cat([found.of(task) for task in BUILTIN_TASKS], dim=1)
        torch.testing.assert_close(alone, plain[clip : clip + 1], rtol=0, atol=1e-5)


def test_options_of_mcdm_are_counted_and_off_by_default() -> None:
    def count(**options: Any) -> int:
        return sum(each.numel() for each in create_mcdm(**options).parameters())

    h, k = 8, 7
    outputs = [spec.num_outputs for spec in BUILTIN_TASKS.values()]
    assert count() == count(conflict_features=False, text_head=False)
    assert count(conflict_features=True) - count() == 3 * (h * h + h * k)
    assert count(text_head=True) - count() == sum(h * k + k + k * c + c for c in outputs)
    with pytest.raises(ConfigError, match=r"guide is 'text', which is not among the modalities \['audio'\]"):
        MCDM({"audio": 3}, BUILTIN_TASKS, ModelConfig(hidden_width=8, text_head=True))


@torch.no_grad()
def test_share_zero_is_the_linear_path_alone() -> None:
    for name in ("windows and paths", "mcdm with paths"):
        model, batch = copy.deepcopy(MODELS[name]), random_batch(10)
        model.towers["emotion"].share.fill_(0.0)
        inputs = torch.cat(list(model.standardize(batch).values()), dim=1)
        expected = model.linear_paths["emotion"](inputs).softmax(dim=1)
        torch.testing.assert_close(model(batch).logits["emotion"].softmax(dim=1), expected)


# ----------------------------------------------------------------------------------------------------------- whole runs


@pytest.mark.parametrize("kind", ["mcdm", "conflict_aware"])
def test_linear_paths_see_prototypes_and_absences_where_there_are_some(kind: str) -> None:
    path = {"emotion": "fixed"}
    options: dict[str, Any] = {"hidden_width": 8, "head_width": 7, "linear_path": path}
    config = ModelConfig(**options, num_heads=2) if kind == "mcdm" else ConflictAwareConfig(**options, guide="none")
    widths, points = {"audio": 3, "text": 4}, {"emotion": {"text": torch.randn(1, 7, 4)}}
    plain = create_model(config, widths, BUILTIN_TASKS)
    model = create_model(config, widths, BUILTIN_TASKS, points=points, sees_absence=True).eval()
    assert (plain.num_inputs, model.num_inputs) == (7, 7 + 7 + 2)
    assert not any(name.startswith("prototypes") for name in plain.state_dict())
    presence = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    batch = Batch({name: torch.randn(4, width) for name, width in widths.items()}, presence)
    assert torch.equal(plain.encode(batch).inputs, torch.cat(list(plain.standardize(batch).values()), dim=1))
    inputs = model.encode(batch).inputs
    assert torch.equal(inputs[:, :7], torch.cat(list(model.standardize(batch).values()), dim=1))
    near = torch.from_numpy(similarities(batch.features["text"].numpy(), points["emotion"]["text"].numpy()))
    torch.testing.assert_close(inputs[:, 7:14].double(), torch.where(presence[:, 1:], 10 * near, 0), atol=1e-5, rtol=0)
    assert inputs[:, 14:].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    # each column has its weight
    weight = torch.arange(16.0).repeat(7, 1)
    before = model(batch).logits["emotion"]
    model.set_linear_path("emotion", weight, torch.zeros(7))
    torch.testing.assert_close(model(batch).logits["emotion"] - before, inputs @ weight.T, atol=1e-3, rtol=1e-4)


def test_kinds_of_models() -> None:
    config = small.config(model={"kind": "mcdm", "text_head": True})
    assert isinstance(build_model(config, small.joined(), small.tasks()), MCDM)
    assert isinstance(small.config().model, ModelConfig)
    found = validate(RunConfig, {"model": {"kind": "conflict_aware", "guide_share": 0.5}}, "test").model
    assert found == ConflictAwareConfig(guide_share=0.5)
    with pytest.raises(ConfigError, match=r"model\.kind: 'conflict' is not known; did you mean 'conflict_aware'"):
        validate(RunConfig, {"model": {"kind": "conflict"}}, "test")
    with pytest.raises(ConfigError, match=r"model\.guide_shares is not a setting; did you mean 'guide_share'"):
        validate(RunConfig, {"model": {"kind": "conflict_aware", "guide_shares": 0.5}}, "test")
    with pytest.raises(ConfigError, match=r"model\.num_headz is not a setting; did you mean 'num_heads'"):
        validate(RunConfig, {"model": {"num_headz": 2}}, "test")
    with pytest.raises(ConfigError, match=r"model\.linear_path: no task is named 'emotoin'"):
        validate(RunConfig, {"model": {"kind": "conflict_aware", "linear_path": {"emotoin": "fixed"}}}, "test")
    with pytest.raises(ConfigError, match=r"model\.own_trunks: no task is named 'emotoin'"):
        validate(RunConfig, {"model": {"own_trunks": ["emotoin"]}}, "test")


def run_config(model: dict[str, object], **training: object) -> RunConfig:
    """`small.config` with another kind of model."""
    plain = small.config(training={"num_epochs": 2, "modality_dropout": 0.3, **training}).model_dump(mode="json")
    return validate(RunConfig, {**plain, "model": model}, "test")


RUNS: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "sequences": ({**sequenced.MODEL, "window": {"text": 3}, "num_windows": 2}, ("text", "audio")),
    "vectors": (dict(sequenced.MODEL, linear_path={"emotion": "fixed"}), ()),
    "mcdm": ({"hidden_width": 8, "head_width": 8, "num_heads": 2, **BOTH}, ("text",)),
}


@pytest.mark.parametrize("name", list(RUNS))
def test_a_killed_run_continues_exactly(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, modalities = RUNS[name]
    config = run_config(model, checkpoint_steps=2)
    clips = sequenced.joined(modalities)

    def run_once(folder: str) -> FusionModel:
        run = RunDirectory(tmp_path / folder)
        run.path.mkdir(exist_ok=True)
        return train(config, clips, small.tasks(), Accelerator(cpu=True), run, lambda message: None)

    whole = run_once("whole")
    assert isinstance(whole, ConflictAware if name != "mcdm" else MCDM)
    kill_at(monkeypatch, {4, 10})
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_once("killed")
        torch.manual_seed(99)
    run_once("killed")
    require_same_weights(tmp_path / "whole", tmp_path / "killed")
    rows = clips.rows(["mosei"], "test")
    predicted = predict(whole, clips, rows)
    assert predicted["emotion"].sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_standardizers_of_sequences_are_fitted_to_training_elements() -> None:
    clips = sequenced.joined()
    config = run_config(sequenced.MODEL)
    model = build_model(config, clips, small.tasks())
    assert isinstance(model, ConflictAware)
    ragged = clips.sequences["text"]
    rows = clips.rows(config.corpora.trained(), "train")
    values = torch.cat([ragged.values[ragged.starts[row] : ragged.starts[row] + ragged.lengths[row]] for row in rows])
    torch.testing.assert_close(model.sequence_standardizers["text"].mean, values.float().mean(dim=0))
    torch.testing.assert_close(model.sequence_standardizers["text"].std, values.float().std(dim=0, unbiased=False))


def test_learns_what_only_sequences_tell(tmp_path: Path) -> None:
    """The label is the sign of one element among noise, marked by another column; a mean over time hides it."""
    clips = sequenced.joined(())
    generator = torch.Generator().manual_seed(0)
    lengths = [6] * len(clips.clips)
    sequences = sequenced.ragged(lengths, 2)
    values = torch.randn(len(lengths), 6, 2, generator=generator)
    values[:, :, 1] = 0.0
    marked = torch.randint(0, 6, (len(lengths),), generator=generator)
    every = torch.arange(len(lengths))
    values[every, marked, 1] = 3.0
    sign = (values[every, marked, 0] > 0).float()
    sequences.values[:] = values.view(-1, 2).half().numpy()
    clips.sequences["text"] = sequenced.Ragged.of(sequences)
    for task in ("emotion", "personality"):
        clips.labels[task][:] = torch.nan
    clips.labels["ambivalence"] = torch.stack([1 - sign, sign], dim=1)
    tasks = {"ambivalence": BUILTIN_TASKS["ambivalence"]}
    config = validate(
        RunConfig,
        {
            **small.config().model_dump(mode="json"),
            "model": {"kind": "conflict_aware", "hidden_width": 8, "head_width": 8, "dropout": 0.0},
            "tasks": {"active": ["ambivalence"]},
            "training": {"num_epochs": 30, "batch_size": 16, "lr": 1e-2, "patience": 30},
            "balancing": {"method": "equal"},
            "semi_supervision": {"method": "none"},
        },
        "test",
    )
    model = train(config, clips, tasks, Accelerator(cpu=True), RunDirectory(tmp_path), lambda message: None)
    rows = clips.rows(["mosei", "fiv2", "bah"], "test")
    found = predict(model, clips, rows)["ambivalence"].argmax(axis=1) == sign[rows].numpy()
    assert found.mean() > 0.85  # 30 clips; chance is 0.5
