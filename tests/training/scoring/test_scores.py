"""Predictions, figures per corpus, the dev mean, chance, and the linear baseline."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from tests.support import joined as small
from training.fit.loop import build_model
from training.linear.baseline import RIDGE_PENALTIES, LinearBaseline
from training.scoring.scores import MetricValue, dev_mean, deviations, embed, evaluate_rows, predict, prediction_table


def perfect(clips: small.JoinedCorpora, rows: torch.Tensor) -> dict[str, np.ndarray]:
    """The labels themselves as predictions (any row where unknown)."""
    return {task: np.nan_to_num(labels[rows].double().numpy()) for task, labels in clips.labels.items()}


def test_figures_are_per_corpus_split_and_annotated_task() -> None:
    clips, config = small.joined(), small.config()
    rows = clips.rows(list(small.SIZES), "test")
    figures = evaluate_rows(perfect(clips, rows), clips, rows, small.tasks(), config.corpora)
    found = {(figure.corpus, figure.task, figure.metric): figure for figure in figures}
    assert {key[:2] for key in found} == set(small.TASK_OF.items())
    assert {figure.split for figure in figures} == {"test"}
    assert found["meld", "emotion", "weighted_f1"].num_clips == 6  # 30 clips, every fifth
    assert all(figure.value == pytest.approx(100.0) for figure in figures if figure.corpus != "mosei")


def test_dev_mean_weighs_tasks_alike_and_ignores_other_splits_and_zero_shot_corpora() -> None:
    figures = [
        MetricValue("a", "dev", "emotion", "x", 10.0, 5),
        MetricValue("a", "dev", "emotion", "y", 30.0, 5),
        MetricValue("b", "dev", "personality", "x", 60.0, 5),
        MetricValue("b", "test", "personality", "x", 0.0, 5),
        MetricValue("z", "dev", "emotion", "x", 99.0, 5),
    ]
    assert dev_mean(figures, ("a", "b")) == pytest.approx((20.0 + 60.0) / 2)


def test_predictions_do_not_depend_on_the_batch_and_leave_the_mode() -> None:
    clips = small.joined()
    model = build_model(small.config(), clips, small.tasks()).train()
    rows = torch.arange(0, 170, 3)
    whole, pieces = predict(model, clips, rows), predict(model, clips, rows, batch_size=7)
    assert model.training
    for task, values in whole.items():
        np.testing.assert_allclose(pieces[task], values, atol=1e-6)
        assert values.shape == (len(rows), small.tasks()[task].num_outputs)
        assert ((values >= 0) & (values <= 1)).all()
    np.testing.assert_allclose(whole["emotion"].sum(axis=1), 1.0, atol=1e-6)


def test_prediction_table_holds_labels_predictions_and_presence_row_by_row() -> None:
    clips = small.joined()
    rows = clips.rows(["bah"], "test")
    model = build_model(small.config(), clips, small.tasks())
    predicted = predict(model, clips, rows)
    table = prediction_table(clips, small.tasks(), rows, predicted)
    assert table["clip_id"].tolist() == [f"clip{row}" for row in rows.tolist()]
    np.testing.assert_array_equal(table["present.audio"], clips.presence[rows, 1].numpy())
    np.testing.assert_allclose(table["predicted.ambivalence.present"], predicted["ambivalence"][:, 1], rtol=1e-6)
    np.testing.assert_array_equal(table["ambivalence.present"], clips.labels["ambivalence"][rows, 1].numpy())
    assert table["personality.openness"].isna().all()


def test_without_rows_and_predictions_the_table_holds_every_clip_and_its_labels() -> None:
    clips = small.joined()
    table = prediction_table(clips, small.tasks())
    assert table["clip_id"].tolist() == clips.clips["clip_id"].tolist()
    assert not [name for name in table if str(name).startswith("predicted.")]
    np.testing.assert_array_equal(table["personality.openness"], clips.labels["personality"][:, 0].numpy())


def fitted() -> tuple[small.JoinedCorpora, LinearBaseline]:
    clips = small.joined()
    return clips, LinearBaseline(clips, small.tasks(), small.config().corpora)


def inputs_of(clips: small.JoinedCorpora, corpora: list[str]) -> np.ndarray:
    """Features by hand: about the training clips' mean, over the corpora's training deviation, zero where absent."""
    own = clips.rows(corpora, "train").numpy()
    train = clips.rows(["mosei", "fiv2", "bah"], "train").numpy()
    columns = []
    for index, name in enumerate(clips.features):
        values, present = clips.features[name].numpy().astype(np.float64), clips.presence[:, index].numpy()
        mean, deviation = values[train][present[train]].mean(axis=0), values[own][present[own]].std(axis=0)
        columns.append(np.where(present[:, None], (values - mean) / deviation, 0.0))
    return np.concatenate(columns, axis=1)


def test_baseline_is_ridge_and_balanced_logistic_regression_on_standardised_train_clips() -> None:
    clips, baseline = fitted()
    inputs, rows = inputs_of(clips, ["fiv2"]), clips.rows(["fiv2", "bah", "mosei"], "test")
    found = baseline.predict(rows)
    train = clips.rows(["fiv2"], "train").numpy()
    ridge = Ridge(alpha=baseline.penalties["personality"]).fit(
        inputs[train], clips.labels["personality"].numpy()[train]
    )
    np.testing.assert_allclose(found["personality"], ridge.predict(inputs[rows.numpy()]).clip(0, 1), atol=1e-4)
    inputs, train = inputs_of(clips, ["mosei", "fiv2", "bah"]), clips.rows(["bah"], "train").numpy()
    target = clips.labels["ambivalence"].numpy()[train].argmax(axis=1)
    logistic = LogisticRegression(C=1 / baseline.penalties["ambivalence"], class_weight="balanced", max_iter=300)
    expected = logistic.fit(inputs[train], target).predict_proba(inputs[rows.numpy()])
    np.testing.assert_allclose(found["ambivalence"], expected, atol=1e-3)
    assert found["emotion"].shape == (len(rows), 7)


def test_how_widely_other_corpora_vary_changes_no_regression() -> None:
    clips, rows = small.joined(), small.joined().rows(["fiv2"], "test")
    clips.features["audio"][:], clips.presence[:, 1] = 0.0, False
    before = LinearBaseline(clips, small.tasks(), small.config().corpora)
    clips.features["text"][clips.rows(["mosei"], "train")] *= 20.0
    after = LinearBaseline(clips, small.tasks(), small.config().corpora)
    np.testing.assert_allclose(after.predict(rows)["personality"], before.predict(rows)["personality"], atol=1e-5)
    assert after.predict(rows)["personality"].std() > 0.01


def test_baseline_chooses_the_penalty_that_is_best_on_dev() -> None:
    clips, baseline = fitted()
    config, dev = small.config(), clips.rows(["mosei", "fiv2", "bah"], "dev")
    values = {}
    for penalty in RIDGE_PENALTIES:
        models = baseline._fit("personality", clips.rows(["fiv2"], "train"), penalty)
        predicted = {"personality": baseline._predict(models, "personality", dev)}
        figures = evaluate_rows(predicted, clips, dev, {"personality": small.tasks()["personality"]}, config.corpora)
        values[penalty] = np.mean([figure.value for figure in figures])
    assert baseline.penalties["personality"] == max(values, key=lambda penalty: values[penalty])


def test_test_labels_change_nothing_of_the_baseline() -> None:
    clips, baseline = fitted()
    rows = clips.rows(list(small.SIZES), "test")
    for labels in clips.labels.values():
        labels[rows] = labels[rows].flip(0)
    other = LinearBaseline(clips, small.tasks(), small.config().corpora)
    assert other.penalties == baseline.penalties
    for task, values in baseline.predict(rows).items():
        np.testing.assert_array_equal(other.predict(rows)[task], values)


@pytest.mark.parametrize("kind", ["fixed", "trained"])
def test_a_model_with_a_linear_path_starts_as_the_baseline(kind: str) -> None:
    clips, baseline = fitted()
    model_section = {
        "hidden_width": 16,
        "head_width": 16,
        "num_heads": 2,
        "linear_path": dict.fromkeys(small.tasks(), kind),
        "guide_bank": False,
    }
    config = small.config(model=model_section, tasks={"specs": {"emotion": {"loss": "binary_cross_entropy"}}})
    model = build_model(config, clips, config.tasks.resolve(), baseline)
    rows = clips.rows(["mosei", "fiv2", "bah"], "test")
    linear = baseline.predict(rows)
    for task, values in predict(model, clips, rows).items():
        np.testing.assert_allclose(values, linear[task], atol=1e-4)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("linear_paths") for name in trained) == (kind == "trained")


def test_a_class_without_an_example_keeps_a_constant() -> None:
    clips = small.joined()
    train = clips.rows(["mosei"], "train")
    clips.labels["emotion"][train, 3] = 0.0
    clips.labels["ambivalence"][clips.rows(["bah"], "train")] = torch.tensor([1.0, 0.0])
    baseline = LinearBaseline(clips, small.tasks(), small.config().corpora)
    rows = clips.rows(["mosei", "bah"], "test")
    found = baseline.predict(rows)
    assert (found["emotion"][:, 3] == 0).all()
    assert (found["ambivalence"] == [1.0, 0.0]).all()
    weight, bias = baseline.coefficients("ambivalence")
    assert not weight.any()
    assert bias.tolist() == [10.0, -10.0]


@torch.no_grad()
def test_deviations_are_those_of_the_variance_head_and_other_losses_have_none() -> None:
    clips = small.joined()
    rows = torch.tensor([7, 3, 60, 61, 62])
    plain = build_model(small.config(), clips, small.tasks())
    assert deviations(plain, clips, rows) == {}
    config = small.config(tasks={"specs": {"personality": {"loss": "laplace_nll"}}})
    model = build_model(config, clips, config.tasks.resolve()).train()
    torch.nn.init.normal_(model.towers["personality"].variance_head.weight, std=0.5)
    found = deviations(model, clips, rows, batch_size=2)
    assert model.training
    expected = model.eval()(clips.batch(rows)).log_deviations["personality"].exp()
    assert list(found) == ["personality"]
    np.testing.assert_allclose(found["personality"], expected.numpy(), rtol=1e-5)
    assert expected.std() > 0.001


@torch.no_grad()
def test_embeddings_are_those_of_the_model_in_evaluation_mode() -> None:
    clips = small.joined()
    rows = torch.tensor([7, 3, 60, 61, 62])
    model = build_model(small.config(), clips, small.tasks()).train()
    fused, inputs = (embed(model, clips, rows, space, batch_size=2) for space in ("fused", "inputs"))
    assert model.training
    shared = model.eval().encode(clips.batch(rows))
    torch.testing.assert_close(fused, model.fused(shared), rtol=1e-5, atol=1e-6)
    assert torch.equal(inputs, shared.inputs)
