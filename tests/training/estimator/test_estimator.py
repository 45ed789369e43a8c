"""The estimator: what it learns from vectors, what it predicts, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.metrics import f1_score
from sklearn.utils import Tags
from sklearn.utils.estimator_checks import check_estimator

from corpora.clips import CorpusError
from mmpsr.calibration.calibration import Calibration, TaskCalibration
from mmpsr.config import ConfigError
from training.bundle.bundle import check_encoders, read_bundle
from training.bundle.files import BundleError
from training.data.joined import JoinedCorpora
from training.estimator.estimator import MultiTaskEstimator
from training.runs.directory import read_json
from training.scoring.scores import predict

QUICK = {
    "model": {"hidden_width": 16, "head_width": 16, "num_heads": 2},
    "training": {"num_epochs": 3},
    "linear": {"fusion": "concatenated"},  # late fusion finds that the sound says nothing, and leaves it out
}
TRAITS = ["openness", "conscientiousness", "extraversion", "agreeableness", "non-neuroticism"]
NUM = 120


def toy(seed: int = 0) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, Any]]]:
    """Two corpora whose labels are linear in the text; a quarter of the sound is missing, and all of it in `second`."""
    generator = np.random.default_rng(seed)
    words, sound = generator.normal(size=(2, NUM, 10)), generator.normal(size=(NUM, 6))
    sound[generator.random(NUM) < 0.25] = np.nan
    split = np.array(["train", "train", "train", "dev", "test"])[np.arange(NUM) % 5]
    ids = [f"clip{row}" for row in range(NUM)]
    first = pd.DataFrame({"clip_id": ids, "split": split, "said": np.where(words[0, :, 0] > 0, "present", "absent")})
    scores = 1 / (1 + np.exp(-words[1] @ generator.normal(size=(10, 5)) / 3))
    second = pd.DataFrame(scores, columns=[f"personality.{name}" for name in TRAITS])
    second.insert(0, "clip_id", ids)
    second.insert(1, "split", split)
    return {"first": first, "second": second}, {
        "first": {"audio": sound, "text": words[0]},
        "second": {"text": words[1]},
    }


def estimator(**changes: Any) -> MultiTaskEstimator:
    return MultiTaskEstimator(**{"config": QUICK, "labels": {"ambivalence": "said"}, **changes})


@pytest.fixture(scope="module")
def fitted() -> MultiTaskEstimator:
    return estimator().fit(*toy())


def test_beats_chance_on_separable_vectors(fitted: MultiTaskEstimator) -> None:
    tables, features = toy()
    test = tables["first"]["split"].eq("test").to_numpy()
    decided = fitted.predict({name: values[test] for name, values in features["first"].items()})["ambivalence"]
    assert decided.sum(axis=1).eq(1).all()
    actual = tables["first"].loc[test, "said"].eq("present")
    assert f1_score(actual, decided["present"], average="macro") > 0.85  # chance is 0.5
    scores = fitted.predict({"text": features["second"]["text"][test]})["personality"].to_numpy()
    actual_scores = tables["second"].loc[test].iloc[:, 2:].to_numpy()
    assert np.corrcoef(scores[:, 0], actual_scores[:, 0])[0, 1] > 0.8


def test_labels_can_be_hidden() -> None:
    """Of 120 clips three of five are in train."""
    with pytest.raises(ConfigError, match=r"data.num_labeled.ambivalence = 73, and 72 training clips have a label"):
        estimator(config={**QUICK, "data": {"num_labeled": {"ambivalence": 73}}}).fit(*toy())


def test_gives_the_models_own_predictions(fitted: MultiTaskEstimator) -> None:
    _, features = toy()
    given, present = features["first"], ~np.isnan(features["first"]["audio"]).all(axis=1)
    joined = JoinedCorpora(
        pd.DataFrame(index=range(NUM)),
        {name: torch.from_numpy(np.nan_to_num(given[name]).astype(np.float32)) for name in ("audio", "text")},
        torch.from_numpy(np.stack([present, np.ones(NUM, dtype=bool)], axis=1)),
        {},
    )
    own = predict(fitted.trained_.model, joined, torch.arange(NUM))
    expected = fitted.trained_.calibration.apply("ambivalence", own["ambivalence"])
    np.testing.assert_allclose(fitted.predict_proba(given)["ambivalence"], expected, atol=1e-7)
    np.testing.assert_allclose(fitted.predict(given)["personality"], own["personality"], atol=1e-7)
    assert set(fitted.predict_proba(given)) == {"ambivalence"}  # scores are no probabilities


def test_calibration_is_applied_to_probabilities_and_decisions(fitted: MultiTaskEstimator) -> None:
    _, features = toy()
    doubtful, given = copy.copy(fitted), features["first"]
    found = TaskCalibration(form="softmax", num_clips=9, temperature=2.0, thresholds=(0.02, 0.98))
    doubtful.trained_ = replace(fitted.trained_, calibration=Calibration(tasks={"ambivalence": found}))
    plain = copy.copy(fitted)
    plain.trained_ = replace(fitted.trained_, calibration=Calibration())
    roots = np.sqrt(plain.predict_proba(given)["ambivalence"].to_numpy())  # logits halved: p_c ** 0.5, normalised
    expected = roots / roots.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(doubtful.predict_proba(given)["ambivalence"], expected, atol=1e-6)
    decided = doubtful.predict(given)["ambivalence"]["present"]
    np.testing.assert_array_equal(decided, expected[:, 1] > 0.98)
    assert 0 < decided.sum() < plain.predict(given)["ambivalence"]["present"].sum()


def test_what_stands_beside_an_absent_modality_does_not_matter(fitted: MultiTaskEstimator) -> None:
    _, features = toy()
    words, sound = features["first"]["text"], np.full((NUM, 6), np.nan)
    left_out = fitted.predict_proba({"text": words})["ambivalence"]
    pd.testing.assert_frame_equal(fitted.predict_proba({"audio": sound, "text": words})["ambivalence"], left_out)
    sound[3] = 5.0
    with_one = fitted.predict_proba({"audio": sound, "text": words})["ambivalence"]
    assert not np.allclose(with_one.loc[3], left_out.loc[3])
    pd.testing.assert_frame_equal(with_one.drop(index=3), left_out.drop(index=3), atol=1e-6)


def test_rows_keep_their_names(fitted: MultiTaskEstimator) -> None:
    _, features = toy()
    names = pd.Index([f"row{row}" for row in range(NUM)])
    framed = {name: pd.DataFrame(values, names) for name, values in features["first"].items()}
    plain, named = fitted.predict_proba(features["first"]), fitted.predict_proba(framed)
    assert named["ambivalence"].index.equals(names)
    assert list(named["ambivalence"]) == ["absent", "present"]
    np.testing.assert_array_equal(named["ambivalence"], plain["ambivalence"])
    with pytest.raises(ValueError, match=r"features\['text'\] and features\['audio'\] have other rows"):
        fitted.predict({**framed, "text": framed["text"].iloc[::-1]})


def test_evaluates_as_the_run_did(fitted: MultiTaskEstimator) -> None:
    figures = fitted.evaluate(*toy()).query("split == 'test'").set_index(["corpus", "task", "metric"])
    stored = {(each.corpus, each.task, each.metric): each for each in fitted.bundle_.figures}
    assert set(figures.index) == set(stored)
    for key, row in figures.iterrows():
        assert stored[key].value == pytest.approx(row["value"])  # type: ignore[index]
        assert stored[key].num_clips == row["num_clips"] == NUM // 5  # type: ignore[index]
    tables, features = toy(1)
    only = fitted.evaluate({"new": tables["first"].drop(columns="split")}, {"new": features["first"]})
    assert only["split"].unique().tolist() == ["test"]
    assert only["num_clips"].unique().tolist() == [NUM]
    both = fitted.evaluate(*toy()).groupby("task")["value"].mean()
    assert fitted.score(*toy()) == pytest.approx(both.mean())


def test_follows_the_conventions(fitted: MultiTaskEstimator) -> None:
    plain = estimator()
    assert plain.get_params()["labels"] == {"ambivalence": "said"}
    assert plain.set_params(tasks=["ambivalence"]).tasks == ["ambivalence"]
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params()
    for call in (copied.predict, copied.predict_proba, copied.save):
        with pytest.raises(NotFittedError):
            call({})
    tables, features = toy()
    assert pickle.loads(pickle.dumps(fitted)).score(tables, features) == fitted.score(tables, features)


def test_the_same_seed_gives_the_same_model(fitted: MultiTaskEstimator) -> None:
    _, features = toy()
    again = estimator().fit(*toy()).predict_proba(features["first"])["ambivalence"]
    pd.testing.assert_frame_equal(again, fitted.predict_proba(features["first"])["ambivalence"])


def test_keeps_the_run_where_asked_and_the_programs_random_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random.seed(71), np.random.seed(72), torch.manual_seed(73)  # noqa: NPY002
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    config = {**QUICK, "training": {"num_epochs": 1}}
    estimator(tasks=["ambivalence"], config=config, directory=tmp_path, verbose=True).fit(*toy())
    (run,) = (tmp_path / "vectors").iterdir()
    assert (run / "results.json").exists()
    assert "epoch   1  dev mean" in capsys.readouterr().out
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_bundle_there_and_back(fitted: MultiTaskEstimator, tmp_path: Path) -> None:
    tables, features = toy()
    fitted.save(tmp_path / "bundle")
    with pytest.raises(BundleError, match="is a bundle already"):
        fitted.save(tmp_path / "bundle")
    fitted.save_pretrained(tmp_path / "bundle")  # which writes over
    loaded = MultiTaskEstimator.from_pretrained(tmp_path / "bundle")
    assert loaded.tasks == ["personality", "ambivalence"]
    for task, expected in fitted.predict(features["first"]).items():
        pd.testing.assert_frame_equal(loaded.predict(features["first"])[task], expected)
    assert loaded.set_params(labels={"ambivalence": "said"}).score(tables, features) == fitted.score(tables, features)
    trained = read_bundle(tmp_path / "bundle")
    assert trained.fingerprints == {"audio": "vectors", "text": "vectors"}
    with pytest.raises(BundleError, match="audio: the model was trained on vectors called 'vectors' that were made el"):
        check_encoders(trained)
    assert "MultiTaskEstimator.load" in (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    loaded.set_params(config={**dict(loaded.config or {}), "training": {"num_epochs": 1}}).fit(
        tables, features
    )  # and trains on


@pytest.mark.slow
def test_linear_models_may_be_fused_late(tmp_path: Path) -> None:
    """Class texts are no view of vectors that are given, and a corpus may lack a modality altogether."""
    config = {**QUICK, "linear": {"fusion": "late"}, "tasks": {"specs": {"ambivalence": {"texts": "ambivalence"}}}}
    late = estimator(config=config, directory=tmp_path).fit(*toy())
    (path,) = (tmp_path / "vectors").iterdir()
    shares = read_json(path, "baseline.json")["shares"]
    assert list(shares["ambivalence"]) == ["audio", "text", "all"]
    assert shares["personality"]["audio"] == 0.0  # no clip of `second` has sound
    tables, features = toy()
    test = tables["first"]["split"].eq("test").to_numpy()
    decided = late.predict({name: values[test] for name, values in features["first"].items()})["ambivalence"]
    actual = tables["first"].loc[test, "said"].eq("present")
    assert f1_score(actual, decided["present"], average="macro") > 0.85
    late.save(tmp_path / "bundle")
    again = MultiTaskEstimator.load(tmp_path / "bundle")
    given = features["first"]
    pd.testing.assert_frame_equal(again.predict_proba(given)["ambivalence"], late.predict_proba(given)["ambivalence"])


def test_without_splits_groups_are_dealt_out() -> None:
    tables, features = toy()
    table = tables["first"].drop(columns="split").assign(group=[f"person{row // 4}" for row in range(NUM)])
    found = estimator(config={**QUICK, "training": {"num_epochs": 1}}).fit(
        {"first": table}, {"first": features["first"]}
    )
    assert found.bundle_.corpora["first"].num_clips.keys() == {"dev"}
    assert list(found.trained_.tasks) == ["ambivalence"]


def refused(error: type[Exception], message: str, edit: Any) -> None:
    tables, features = toy()
    tables, features = copy.deepcopy(tables), copy.deepcopy(features)
    found = edit(tables, features) or estimator()
    with pytest.raises(error, match=message):
        found.fit(tables, features)


def test_refuses_what_cannot_be_trained_on() -> None:
    def no_labels(tables: Any, features: Any) -> None:
        tables["first"]["said"] = None

    refused(CorpusError, "no train clip of first, second has a label for task 'ambivalence'", no_labels)

    def no_table(tables: Any, features: Any) -> MultiTaskEstimator:
        tables["first"] = tables["first"].drop(columns="said")
        return estimator(tasks=["ambivalence"])

    refused(CorpusError, r"labels\['ambivalence'\]: no table has a column 'said'", no_table)

    def no_dev(tables: Any, features: Any) -> None:
        tables["first"]["split"] = "train"

    refused(CorpusError, "corpus 'first' has no clip in split 'dev'", no_dev)

    def no_sound(tables: Any, features: Any) -> None:
        features["first"]["audio"][:] = np.nan

    refused(CorpusError, "no training clip has a audio vector: all its rows are NaN; leave audio out", no_sound)
    refused(ValueError, "no modality is named 'smell'", lambda _, features: features["first"].update(smell=1))
    refused(ConfigError, "config.corpora follows from what fit is given", lambda *_: estimator(config={"corpora": {}}))
    refused(
        ConfigError, "learning_rate is not a setting", lambda *_: estimator(config={"training": {"learning_rate": 1}})
    )


def test_refuses_vectors_that_do_not_fit(fitted: MultiTaskEstimator) -> None:
    for given, message in (
        ({"text": np.zeros((4, 9))}, r"features\['text'\]: shape \[4, 9\], expected \[4, 10\]"),
        ({"text": np.zeros((4, 10)), "audio": np.zeros((3, 6))}, r"shape \[4, 10\], expected \[3, 10\]|\[3, 6\], exp"),
        ({"video": np.zeros((4, 9))}, "the model knows no 'video'; known names are audio, text"),
        ({}, "features are empty; give vectors of audio, text"),
        ({"text": np.zeros(10)}, r"shape \[10\], expected \[10, 10\]"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.predict(given)


def test_dev_that_cannot_choose_is_warned_of() -> None:
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"clip_id": [f"clip{number}" for number in range(24)],
                          "split": ["train"] * 20 + ["dev"] * 4, "said": ["absent", "present"] * 12})  # fmt: skip
    estimator = MultiTaskEstimator(labels={"ambivalence": "said"}, config={"training": {"num_epochs": 1}})
    with pytest.warns(UserWarning, match=r"mine: dev cannot choose: .*task 'ambivalence': 4 labelled dev clips"):
        estimator.fit({"mine": table}, {"mine": {"text": generator.normal(size=(24, 6))}})


class _OfArrays(MultiTaskEstimator):
    """As if it took arrays, so that every check is tried."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


NEED_NO_ARRAYS = {
    "check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr",
    "check_no_attributes_set_in_init", "check_estimators_unfitted", "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order", "check_parameters_default_constructible", "check_get_params_invariance", "check_set_params",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_passes_the_checks_of_scikit_learn_that_need_no_arrays_and_says_in_the_others_what_it_wants() -> None:
    with pytest.warns(SkipTestWarning, match="Can't test estimator MultiTaskEstimator which requires input  of type"):
        assert all(check["status"] != "failed" for check in check_estimator(MultiTaskEstimator(), on_fail=None))
    checks = check_estimator(_OfArrays(), on_fail=None)
    assert {check["check_name"] for check in checks if check["status"] == "passed"} >= NEED_NO_ARRAYS
    for check in checks:
        if check["status"] == "failed":
            error: BaseException | None = check["exception"]
            while error is not None and "fit takes tables, {corpus: DataFrame" not in str(error):
                error = error.__cause__ or error.__context__
            assert error is not None, check


def test_says_in_one_sentence_what_fit_and_predict_take(fitted: MultiTaskEstimator) -> None:
    X = np.zeros((4, 3))
    message = (
        "MultiTaskEstimator.fit takes tables, {corpus: DataFrame with a row per clip}, and features, {corpus: "
        "{modality: array [n, D]}}, and found ndarray [4, 3] and list; FusionClassifier and FusionRegressor of "
        "training.estimator take X and y"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        estimator().fit(X, [0, 1, 0, 1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"MultiTaskEstimator.evaluate takes tables.*found ndarray \[4, 3\] and None"):
        fitted.score(X, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"predict takes vectors by modality, .* and found ndarray \[4, 3\]"):
        fitted.predict(X)  # type: ignore[arg-type]
