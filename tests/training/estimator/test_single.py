"""The classifier and the regressor of one task: scikit-learn's own checks, and what they add to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from training.bundle.files import BundleError
from training.estimator.single import FusionClassifier, FusionRegressor

TINY = {
    "model": {"hidden_width": 8, "head_width": 8, "num_heads": 1},
    "training": {"num_epochs": 1, "batch_size": 256},
    "linear": {"fusion": "concatenated"},
}
NUM = 60


def vectors() -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(NUM, 5))
    return X, X[:, 0] + 0.1 * X[:, 3]


@pytest.mark.slow
@parametrize_with_checks([FusionClassifier(config=TINY), FusionRegressor(config=TINY)])
def test_passes_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.filterwarnings("ignore:data. dev cannot choose")
def test_columns_of_modalities_stand_side_by_side() -> None:
    """`text` stands first in X, and `audio` in the model."""
    X, score = vectors()
    labels = np.where(score > 0, 3, 7)
    classifier = FusionClassifier({"text": 3, "audio": 2}, TINY).fit(X, labels)
    assert classifier.classes_.tolist() == [3, 7]
    assert classifier.estimator_.trained_.modalities == ("audio", "text")
    of_both = classifier.estimator_.predict_proba({"audio": X[:, 3:], "text": X[:, :3]})["target"]
    np.testing.assert_allclose(classifier.predict_proba(X), of_both, atol=1e-6)
    assert (classifier.predict(X) == labels).mean() > 0.8
    table = classifier.estimator_.bundle_.corpora["data"].num_clips
    assert table["dev"] == round(0.2 * (labels == 3).sum()) + round(0.2 * (labels == 7).sum())
    with pytest.raises(ValueError, match="modalities: text 3 \\+ audio 1 is not the number of columns of X, 5"):
        FusionClassifier({"text": 3, "audio": 1}, TINY).fit(X, labels)


@pytest.mark.filterwarnings("ignore:data. dev cannot choose")
def test_a_row_alone_is_predicted_as_among_others() -> None:
    X, score = vectors()
    regressor = FusionRegressor(config=TINY).fit(X, 50 + 10 * score)
    together = regressor.predict(X)
    np.testing.assert_allclose(together[:3], [regressor.predict(row[None])[0] for row in X[:3]], rtol=1e-12)
    assert regressor.range_ == (pytest.approx((50 + 10 * score).min()), pytest.approx((50 + 10 * score).max()))
    far = regressor.predict(1000 * X)
    assert far.min() >= regressor.range_[0]
    assert far.max() <= regressor.range_[1]


@pytest.mark.filterwarnings("ignore:data. dev cannot choose")
def test_saved_and_read_it_predicts_the_same(tmp_path: Path) -> None:
    X, score = vectors()
    frame = pd.DataFrame(X, columns=list("abcde"))
    classifier = FusionClassifier({"text": 3, "audio": 2}, TINY).fit(frame, np.where(score > 0, 3, 7))
    classifier.save_pretrained(tmp_path / "classifier")
    classifier.save_pretrained(tmp_path / "classifier")  # again, as it does
    again = FusionClassifier.from_pretrained(tmp_path / "classifier")
    assert again.modalities == {"text": 3, "audio": 2}
    assert again.classes_.tolist() == [3, 7]
    assert again.feature_names_in_.tolist() == list("abcde")
    np.testing.assert_array_equal(again.predict_proba(frame), classifier.predict_proba(frame))
    with pytest.raises(ValueError, match="feature names"):
        again.predict(frame[list("edcba")])
    with pytest.raises(
        BundleError, match=r"estimator\.json is of a FusionClassifier; load it by FusionClassifier\.load"
    ):
        FusionRegressor.load(tmp_path / "classifier")
    with pytest.raises(BundleError, match=r"absent is no folder, and no id of a bundle"):
        FusionClassifier.from_pretrained(tmp_path / "absent")
    again.fit(frame, np.where(score > 0, "yes", "no"))  # with the settings that it was saved with
    regressor = FusionRegressor(config=TINY).fit(X, score)
    regressor.save(tmp_path / "regressor")
    np.testing.assert_array_equal(FusionRegressor.load(tmp_path / "regressor").predict(X), regressor.predict(X))
    (tmp_path / "regressor" / "estimator.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError, match=r"json is not what FusionRegressor\.save writes \(KeyError: 'class'\)"):
        FusionRegressor.load(tmp_path / "regressor")
    (tmp_path / "regressor" / "estimator.json").unlink()
    with pytest.raises(
        BundleError, match=r"has no estimator\.json, so it was not saved by FusionRegressor; MultiTaskEst"
    ):
        FusionRegressor.load(tmp_path / "regressor")


@pytest.mark.filterwarnings("ignore:data. dev cannot choose")
def test_cross_validation_takes_it() -> None:
    X, score = vectors()
    assert cross_val_score(FusionRegressor(config=TINY), X, score, cv=2).mean() > 0.3  # R^2; the mean has 0


def test_says_what_it_cannot_fit() -> None:
    X, _ = vectors()
    with pytest.raises(ValueError, match="y has one class only, 'yes'; a classifier takes two at the least"):
        FusionClassifier(config=TINY).fit(X, ["yes"] * NUM)
    with pytest.raises(ValueError, match="dev_fraction is 1; it must lie between 0 and 1"):
        FusionRegressor(config=TINY, dev_fraction=1).fit(X, X[:, 0])
