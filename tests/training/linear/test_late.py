"""The linear baseline of late fusion: what it rests on, and that a model's linear path is the same map."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from corpora.clips import label_columns
from mmpsr.layers.prototype_bank import PrototypeBank
from mmpsr.models.base import FusionModel
from mmpsr.models.build import restore_model
from mmpsr.models.config import ConflictAwareConfig, ModelConfig
from mmpsr.tasks import TaskSpec
from tests.support import joined as small
from tests.support.stored_run import finish
from training.bundle.bundle import read_bundle, write_bundle
from training.config import RunConfig
from training.fit.loop import build_model
from training.linear import late
from training.linear.baseline import LinearBaseline
from training.linear.fusion import ALL, ViewModels, Weighed
from training.linear.late import EXPONENTS, LateBaseline, create_baseline, fitted_bank
from training.runs.directory import read_json
from training.runs.trained import TrainedModel
from training.runs.verify import verify_run
from training.scoring.scores import predict

TASKS: dict[str, TaskSpec] = {
    name: spec.model_copy(update={"loss": "binary_cross_entropy"}) if spec.kind == "multi_label" else spec
    for name, spec in small.tasks().items()
}
PATHS: dict[str, Any] = dict.fromkeys(TASKS, "fixed")
TINY: dict[str, Any] = {"hidden_width": 8, "head_width": 8, "num_heads": 2, "linear_path": PATHS}
MODELS = {
    "mcdm": ModelConfig(**TINY, graph="none", attention="none", guide_bank=False),
    "conflict_aware": ConflictAwareConfig(hidden_width=4, head_width=4, linear_path=PATHS),
}


def points() -> dict[str, dict[str, torch.Tensor]]:
    """Of all tasks, in the first six columns of text, or of both modalities."""
    generator = torch.Generator().manual_seed(5)
    made = {
        task: torch.randn(2 if spec.kind == "regression" else 1, spec.num_outputs, 6, generator=generator)
        for task, spec in TASKS.items()
    }
    return {
        task: {name: made[task] for name in (("text", "audio") if task == "ambivalence" else ("text",))}
        for task in made
    }


def config(kind: str = "mcdm", fusion: str = "late") -> RunConfig:
    return small.config(linear={"fusion": fusion}).model_copy(update={"model": MODELS[kind]})


def clips() -> small.JoinedCorpora:
    """Some without text, too; three clips a group."""
    joined = small.joined()
    without = torch.arange(len(joined.clips)) % 11 == 3
    joined.presence[without, 0] = False
    joined.features["text"][without] = 0.0
    joined.clips["group"] = [f"group{row // 15}" for row in range(len(joined.clips))]
    return joined


def bank_of(joined: small.JoinedCorpora) -> PrototypeBank:
    bank = PrototypeBank(points())
    bank.fit(joined.features, joined.presence, joined.rows(config().corpora.trained(), "train"))
    return bank


def baseline_of(joined: small.JoinedCorpora, with_bank: bool = True) -> LateBaseline:
    return LateBaseline(joined, TASKS, config(), bank_of(joined) if with_bank else None)


@pytest.fixture(scope="module")
def joined() -> small.JoinedCorpora:
    return clips()


@pytest.fixture(scope="module")
def baseline(joined: small.JoinedCorpora) -> LateBaseline:
    return baseline_of(joined)


def every(joined: small.JoinedCorpora) -> torch.Tensor:
    return torch.arange(len(joined.clips))


def with_presence(joined: small.JoinedCorpora, presence: tuple[bool, ...]) -> small.JoinedCorpora:
    """The same clips, all of which have these modalities of those that they have."""
    has = joined.presence & torch.tensor(presence)
    features = {
        name: torch.where(has[:, index, None], values, 0.0)
        for index, (name, values) in enumerate(joined.features.items())
    }
    return small.JoinedCorpora(joined.clips, features, has, joined.labels)


def model_of(kind: str, joined: small.JoinedCorpora, baseline: LateBaseline) -> FusionModel:
    """A model whose network adds nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.fit.loop.class_points", lambda *_: points())
        model = build_model(config(kind), joined, TASKS, baseline)
    for tower in model.towers.values():
        tower.share.fill_(0.0)
    return model.eval()


@pytest.mark.parametrize("kind", MODELS)
def test_the_linear_path_predicts_as_the_baseline(
    kind: str, joined: small.JoinedCorpora, baseline: LateBaseline
) -> None:
    model = model_of(kind, joined, baseline)
    patterns = {tuple(row) for row in joined.presence.tolist()}
    assert patterns == {(True, True), (True, False), (False, True), (False, False)}
    predicted, expected = predict(model, joined, every(joined)), baseline.predict(every(joined))
    for task in TASKS:
        np.testing.assert_allclose(predicted[task], expected[task], atol=1e-4)
        assert expected[task].std(axis=0).max() > 0.01


@pytest.mark.parametrize("kind", MODELS)
def test_a_restored_model_predicts_the_same(kind: str, joined: small.JoinedCorpora, baseline: LateBaseline) -> None:
    model = model_of(kind, joined, baseline)
    stored = dict(sorted(model.state_dict().items()))  # as a file has them
    restored = restore_model(config(kind).model, ["text", "audio"], TASKS, stored)
    assert restored.sees_absence
    assert restored.num_inputs == model.num_inputs == 12 + 8 + 7 + 5 + 2 * 2 + 2
    before, after = (predict(each, joined, every(joined)) for each in (model, restored))
    for task in TASKS:
        np.testing.assert_array_equal(after[task], before[task])
    if kind == "mcdm":
        concatenated = build_model(config(fusion="concatenated"), joined, TASKS)
        assert concatenated.prototypes is None
        assert concatenated.num_inputs == 12 + 8
        again = restore_model(config().model, ["text", "audio"], TASKS, dict(concatenated.state_dict()))
        assert not again.sees_absence


@pytest.mark.slow
def test_a_run_is_verified_and_its_bundle_predicts_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("training.fit.loop", "training.linear.late"):
        monkeypatch.setattr(f"{place}.class_points", lambda *_: points())
    paths = {"linear_path": {"emotion": "trained", "personality": "fixed"}}
    runs = {
        fusion: finish(tmp_path / fusion, model=paths, linear={"fusion": fusion}) for fusion in ("late", "concatenated")
    }
    monkeypatch.undo()  # nothing is embedded to read weights
    assert verify_run(runs["late"]) == []
    chosen = read_json(runs["late"], "baseline.json")
    assert list(chosen) == ["penalties", "shares", "factors", "calibration"]
    assert list(chosen["shares"]["emotion"]) == ["text", "audio", ALL, "text prototypes"]
    assert list(read_json(runs["concatenated"], "baseline.json")) == ["penalties", "calibration"]
    figures = {name: [row["linear"] for row in read_json(run, "results.json")] for name, run in runs.items()}
    assert len(figures["late"]) == len(figures["concatenated"])
    assert figures["late"] != figures["concatenated"]
    write_bundle(runs["late"], tmp_path / "bundle")
    joined = small.joined()
    bundled, run = read_bundle(tmp_path / "bundle"), TrainedModel.read(runs["late"])
    stored = pd.read_parquet(runs["late"] / "predictions.parquet").set_index("clip_id")
    for task, spec in small.tasks().items():
        predicted = bundled.predict(joined, every(joined))[task]
        np.testing.assert_array_equal(predicted, run.predict(joined, every(joined))[task])
        columns = [f"predicted.{column}" for column in label_columns(task, spec)]
        found = pd.DataFrame(predicted, index=joined.clips["clip_id"], columns=columns).loc[stored.index]
        np.testing.assert_allclose(found, stored[columns], atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_an_absent_modality_counts_as_the_mean_of_labelled_clips(task: str, baseline: LateBaseline) -> None:
    joined = clips()
    train = joined.rows(config().corpora.trained(), "train")
    labeled = train[torch.isfinite(joined.labels[task][train]).all(dim=1)]
    model = model_of("mcdm", joined, baseline)
    path, inputs = model.linear_paths[task], {}
    for name, has in (("whole", (True, True)), ("none", (True, False)), ("no text", (False, True))):
        batch = with_presence(joined, has).batch(every(joined))
        inputs[name] = model.linear_inputs(model.standardize(batch), batch)
    names = ["text"] * 12 + ["audio"] * 8
    names += [name for of in points().values() for name, each in of.items() for _ in range(each.shape[1])]
    for column, (left_out, name) in enumerate((("no text", "text"), ("none", "audio"))):
        of_it = torch.tensor([each == name for each in names] + [False, False])
        present = labeled[joined.presence[labeled, column]]
        filled = inputs["whole"].clone()
        filled[:, of_it] = inputs["whole"][present][:, of_it].mean(dim=0)
        has_both = joined.presence.all(dim=1)
        filled[:, -2:] = 0.0
        with torch.no_grad():
            torch.testing.assert_close(path(filled)[has_both], path(inputs[left_out])[has_both], atol=1e-4, rtol=1e-4)


def test_dev_and_test_choose_nothing(baseline: LateBaseline) -> None:
    """Neither their labels nor their vectors."""
    joined = clips()
    others = torch.from_numpy(~joined.clips["split"].eq("train").to_numpy(dtype=bool))
    joined.features["text"][others] += 5.0
    for task, spec in TASKS.items():
        values = joined.labels[task]
        known = others & torch.isfinite(values).all(dim=1)
        values[known] = 1 - values[known] if spec.kind == "regression" else values[known].roll(1, dims=1)
    changed = baseline_of(joined)
    for task in TASKS:
        for mine, theirs in zip(changed.path(task), baseline.path(task), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert changed.choices() == baseline.choices()


def test_labels_of_training_choose(baseline: LateBaseline) -> None:
    joined = clips()
    train = joined.rows(config().corpora.trained(), "train")
    for task in TASKS:
        joined.labels[task][train] = joined.labels[task][train].flip(1)
    changed = baseline_of(joined)
    assert all(not np.allclose(changed.path(task)[0], baseline.path(task)[0]) for task in TASKS)


def test_choices_are_told_by_task_and_view(baseline: LateBaseline) -> None:
    choices = baseline.choices()
    assert choices["shares"].keys() == choices["factors"].keys() == TASKS.keys()
    assert list(choices["shares"]["emotion"]) == ["text", "audio", ALL, "text prototypes"]
    assert list(choices["shares"]["ambivalence"])[3:] == ["audio prototypes", "text prototypes"]
    assert list(choices["penalties"]["emotion"]) == ["text", "audio", ALL]
    assert choices["factors"]["emotion"] in EXPONENTS
    assert all(baseline.spreads(task) == (1.0,) for task in TASKS)  # nothing is left to be spread on dev


def test_prototypes_that_tell_the_classes_count() -> None:
    """Text is nearest to the point of its class, and nothing else tells it from the rest."""
    joined = clips()
    of_bah = torch.from_numpy(joined.clips["corpus"].eq("bah").to_numpy(dtype=bool))
    generator = torch.Generator().manual_seed(7)
    near = torch.randn(2, 6, generator=generator)
    labels = joined.labels["ambivalence"][of_bah].argmax(dim=1)
    joined.features["text"][of_bah, :6] = near[labels] + 0.1 * torch.randn(int(of_bah.sum()), 6, generator=generator)
    joined.presence[of_bah, 0] = True
    bank = PrototypeBank({"ambivalence": {"text": near[None]}})
    bank.fit(joined.features, joined.presence, joined.rows(["bah"], "train"))
    found = LateBaseline(joined, {name: TASKS[name] for name in ("ambivalence", "emotion")}, config(), bank)
    assert found.shares["ambivalence"]["text prototypes"] > 0
    test = joined.rows(["bah"], "test")
    truth = joined.labels["ambivalence"][test].argmax(dim=1).tolist()
    assert found.predict(test)["ambivalence"].argmax(axis=1).tolist() == truth
    assert "text prototypes" not in found.shares["emotion"]  # its task has no texts


def sharing(text_share: float | str) -> RunConfig:
    settings = config()
    return settings.model_copy(update={"linear": settings.linear.model_copy(update={"text_share": text_share})})


def test_class_texts_say_as_much_as_costs_less_than_a_standard_error(
    joined: small.JoinedCorpora, baseline: LateBaseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = sharing("one_standard_error")
    seen: list[float] = []
    real = ViewModels.raise_given

    def raising(models: ViewModels, weighed: Weighed, floor: float, exponent: float) -> Weighed:
        seen.append(floor)
        return real(models, weighed, floor, exponent)

    monkeypatch.setattr(ViewModels, "raise_given", raising)
    found = LateBaseline(joined, TASKS, settings, bank_of(joined))
    assert seen[0] == 1.0  # the highest that is allowed
    assert len(seen) <= 20  # of two tasks of classes, not of the regression
    for task in ("emotion", "ambivalence"):
        texts = [
            sum(share for name, share in each.shares[task].items() if "prototypes" in name)
            / sum(share for name, share in each.shares[task].items() if "prototypes" not in name)
            for each in (baseline, found)
        ]
        assert texts[1] > texts[0]
    assert found.shares["personality"] == baseline.shares["personality"]
    monkeypatch.setattr(late, "TEXT_FLOORS", (1e9,))  # which costs everything that is fitted
    kept = LateBaseline(joined, TASKS, settings, bank_of(joined))
    assert kept.shares["emotion"] == baseline.shares["emotion"]
    seen.clear()
    LateBaseline(joined, TASKS, sharing(0.25), bank_of(joined))
    assert seen == [0.25, 0.25]  # of two tasks of classes, as it is set


def test_a_modality_that_no_labelled_clip_has_counts_nothing() -> None:
    joined = clips()
    of_bah = torch.from_numpy(joined.clips["corpus"].eq("bah").to_numpy(dtype=bool))
    joined.presence[of_bah, 1] = False
    joined.features["audio"][of_bah] = 0.0
    found = baseline_of(joined)
    assert found.shares["ambivalence"]["audio"] == 0
    weight, _ = found.path("ambivalence")
    assert not weight[:, 12:20].any()
    assert not weight[:, -1].any()
    model = model_of("mcdm", joined, found)
    for presence in itertools.product([True, False], repeat=2):
        changed = with_presence(joined, presence)
        before = with_presence(joined, (presence[0], False))
        one, two = (predict(model, each, every(joined))["ambivalence"] for each in (changed, before))
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_one_labelled_clip_of_each_task_gives_finite_predictions() -> None:
    joined = clips()
    train = joined.rows(config().corpora.trained(), "train")
    for task in TASKS:
        known = train[torch.isfinite(joined.labels[task][train]).all(dim=1)]
        joined.labels[task][known[1:]] = torch.nan
    found = baseline_of(joined, with_bank=False).predict(every(joined))
    assert all(np.isfinite(values).all() for values in found.values())


def test_scores_are_spread_about_the_mean_in_the_map(
    joined: small.JoinedCorpora, baseline: LateBaseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late, "SPREADS", (1.0,))
    plain = baseline_of(joined)
    factor, center = baseline.factors["personality"], baseline.center("personality")
    assert plain.factors["personality"] == 1.0
    stretched = center + factor * (plain.path("personality")[1] - center)
    np.testing.assert_allclose(baseline.path("personality")[0], factor * plain.path("personality")[0], rtol=1e-5)
    np.testing.assert_allclose(baseline.path("personality")[1], stretched, rtol=1e-5)
    assert factor > 1.0


def test_the_setting_chooses(
    joined: small.JoinedCorpora, baseline: LateBaseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = create_baseline(config(fusion="concatenated"), joined, TASKS)
    assert type(plain) is LinearBaseline
    assert RunConfig.model_fields["linear"].get_default(call_default_factory=True).fusion == "concatenated"
    assert plain.choices().keys() == {"penalties"}
    assert fitted_bank(config(), joined, TASKS) is None  # no task has texts
    monkeypatch.setattr(late, "class_points", lambda *_: points())
    found = create_baseline(config(), joined, TASKS)
    assert isinstance(found, LateBaseline)
    assert "text prototypes" in found.shares["emotion"]
    for mine, theirs in zip(found.path("emotion"), baseline.path("emotion"), strict=True):
        np.testing.assert_array_equal(mine, theirs)
