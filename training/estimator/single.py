"""The fusion model of one task as scikit-learn knows classifiers and regressors: `fit(X, y)`, `predict(X)`.

They pass all of `sklearn.utils.estimator_checks`, so that pipelines, searches and cross-validation take them.

Example:
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 9))
    >>> y = np.where(X[:, 0] > 0, "present", "absent")
    >>> quick = {"training": {"num_epochs": 2}}
    >>> FusionClassifier({"audio": 4, "text": 5}, config=quick).fit(X, y).predict_proba(X).shape
    (60, 2)
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from corpora.clips import label_columns
from mmpsr.files import write_json
from mmpsr.tasks import TaskSpec
from training.bundle.files import ESTIMATOR, BundleError, read_file
from training.bundle.hub import Pretrained, bundle_folder
from training.data.joined import JoinedCorpora
from training.estimator.estimator import MultiTaskEstimator

__all__ = ["FusionClassifier", "FusionRegressor"]

TASK, CORPUS = "target", "data"


class _SingleTask(Pretrained, BaseEstimator):
    """What classifier and regressor share: vectors side by side in X, and dev rows that are drawn from them."""

    estimator_: MultiTaskEstimator
    n_features_in_: int
    feature_names_in_: NDArray[Any]

    def __init__(
        self,
        modalities: Mapping[str, int] | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        dev_fraction: float = 0.2,
        random_state: int = 0,
    ) -> None:
        self.modalities = modalities
        self.config = config
        self.dev_fraction = dev_fraction
        self.random_state = random_state

    def _train(
        self, X: NDArray[np.float64], targets: NDArray[np.float64], strata: NDArray[np.int64], spec: TaskSpec
    ) -> None:
        """Fit the model of one task.

        Args:
            X: `[n, D]`.
            targets: `[n, C]`.
            strata: `[n]`, of which each has its share in dev.
            spec: the task.
        """
        if not 0.0 < self.dev_fraction < 1.0:
            raise ValueError(f"dev_fraction is {self.dev_fraction}; it must lie between 0 and 1")
        if len(X) < 2:
            raise ValueError(f"X has {len(X)} sample; training and choosing the best epoch take two at the least")
        table = pd.DataFrame(targets, columns=label_columns(TASK, spec))
        table.insert(0, "clip_id", np.arange(len(X)).astype(str))
        table["split"] = np.where(_dev_rows(strata, self.dev_fraction, self.random_state), "dev", "train")
        config = {name: dict(section) for name, section in (self.config or {}).items()}
        config["tasks"] = {"specs": {TASK: spec.model_dump(mode="json")}}
        config["training"] = {"seed": self.random_state, **config.get("training", {})}
        estimator = MultiTaskEstimator([TASK], config)
        self.estimator_ = estimator.fit({CORPUS: table}, {CORPUS: self._split(X)})

    def save(self, folder: str | Path, force: bool = False) -> None:
        """Write a bundle with `estimator.json`, which says what columns and outputs are.

        Args:
            folder: of the bundle.
            force: whether one that is there is replaced.

        Raises:
            BundleError: the folder cannot be written.
        """
        check_is_fitted(self)
        self.estimator_.save(folder, force)
        columns = getattr(self, "feature_names_in_", None)
        widths = {name: len(part[0]) for name, part in self._split(np.zeros((1, self.n_features_in_))).items()}
        own = {"class": type(self).__name__, "modalities": widths, "outputs": self._outputs()}
        write_json(Path(folder) / ESTIMATOR, own | ({} if columns is None else {"columns": columns.tolist()}))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BundleError: see `training.bundle.bundle.read_bundle`; also where the bundle is not of this class.
        """
        path = Path(folder) / ESTIMATOR
        if not path.is_file():
            raise BundleError(f"{folder} has no {ESTIMATOR}, so it was not saved by {cls.__name__}; "
                              "MultiTaskEstimator.load takes every bundle")  # fmt: skip
        estimator = MultiTaskEstimator.load(folder)
        try:
            own = json.loads(read_file(Path(folder), ESTIMATOR))
            kind, widths, outputs = own["class"], own["modalities"], own["outputs"]
            if kind == cls.__name__:
                loaded = cls(widths, {key: value for key, value in (estimator.config or {}).items() if key != "tasks"})
                loaded.estimator_, loaded.n_features_in_ = estimator, sum(widths.values())
                loaded._set_outputs(outputs)
                if "columns" in own:
                    loaded.feature_names_in_ = np.array(own["columns"], dtype=object)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(
                f"{path} is not what {cls.__name__}.save writes ({type(error).__name__}: {error})"
            ) from None
        if kind != cls.__name__:
            raise BundleError(f"{path} is of a {kind}; load it by {kind}.load")
        return loaded

    def _outputs(self) -> list[Any]:
        raise NotImplementedError

    def _set_outputs(self, outputs: list[Any]) -> None:
        raise NotImplementedError

    @classmethod
    def _from_pretrained(cls, model_id: str, **options: Any) -> Self:
        return cls.load(bundle_folder(model_id, **options))

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory, force=True)

    def _split(self, X: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Take X apart, by modality."""
        widths = self.modalities or {"behavior": X.shape[1]}
        if sum(widths.values()) != X.shape[1] or min(widths.values()) < 1:
            shown = " + ".join(f"{name} {width}" for name, width in widths.items())
            raise ValueError(f"modalities: {shown} is not the number of columns of X, {X.shape[1]}")
        ends = np.cumsum(list(widths.values()))
        return {name: X[:, end - widths[name] : end] for name, end in zip(widths, ends, strict=True)}

    def _predicted(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict `[n, C]` with double precision, so that a row's result does not depend on how many rows are given."""
        check_is_fitted(self)
        parts = self._split(validate_data(self, X, reset=False, dtype=np.float64))
        trained = self.estimator_.trained_
        rows = torch.arange(len(next(iter(parts.values()))))
        joined = JoinedCorpora(
            pd.DataFrame(index=range(len(rows))),
            {name: torch.from_numpy(np.ascontiguousarray(parts[name])) for name in trained.modalities},
            torch.ones(len(rows), len(parts), dtype=torch.bool),
            {},
        )
        exact = copy.deepcopy(trained.model).double()
        return replace(trained, model=exact).predict(joined, rows)[TASK]


class FusionClassifier(ClassifierMixin, _SingleTask):
    """A classifier of one label by the fusion model.

    Args:
        modalities: widths by modality of the vectors that stand side by side in X, in their order; left out, all of X
            is one vector.
        config: sections of a run's configuration (`model`, `training` ...), as of `MultiTaskEstimator`.
        dev_fraction: share of each class's rows by which epoch and calibration are chosen, between 0 and 1.
        random_state: seed of that choice and of training.

    Attributes:
        classes_: `[C]`, sorted.
        estimator_: the fitted `MultiTaskEstimator`, whose task is `target`.
    """

    classes_: NDArray[Any]

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train.

        Args:
            X: `[n, D]`, finite.
            y: `[n]`, a label each, of two classes or more.

        Raises:
            ValueError: X or y are not as said, or `modalities` are not X's.
        """
        vectors, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(column_or_1d(labels, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {str(self.classes_[0])!r}; a classifier takes two at the least")
        spec = TaskSpec(kind="single_label", classes=tuple(map(str, self.classes_)), loss="cross_entropy",
                        metrics=("uar", "macro_f1"))  # fmt: skip
        self._train(vectors, np.eye(len(self.classes_))[codes], codes, spec)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the most probable class `[n]` of vectors `[n, D]`."""
        probs = self.predict_proba(X)
        return self.classes_[probs.argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict calibrated probabilities `[n, C]` of vectors `[n, D]`, in the order of `classes_`."""
        return self._predicted(X)

    def _outputs(self) -> list[Any]:
        return self.classes_.tolist()

    def _set_outputs(self, outputs: list[Any]) -> None:
        self.classes_ = np.array(outputs)


class FusionRegressor(RegressorMixin, _SingleTask):
    """A regressor of one number by the fusion model, which predicts nothing outside the range of what it was fitted on.

    Args:
        modalities: see `FusionClassifier`.
        config: see `FusionClassifier`.
        dev_fraction: share of the rows by which the epoch is chosen, between 0 and 1.
        random_state: seed of that choice and of training.

    Attributes:
        range_: lowest and highest target.
        estimator_: the fitted `MultiTaskEstimator`, whose task is `target`, from 0 (lowest) to 1.
    """

    range_: tuple[float, float]

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train.

        Args:
            X: `[n, D]`, finite.
            y: `[n]`, finite numbers.

        Raises:
            ValueError: X or y are not as said, or `modalities` are not X's.
        """
        vectors, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        targets = column_or_1d(targets, warn=True, dtype=np.float64)
        low, high = float(targets.min()), float(targets.max())
        self.range_ = low, high
        spec = TaskSpec(kind="regression", classes=("y",), loss="mae", metrics=("mean_accuracy", "mean_ccc"))
        scaled = (targets - low) / (high - low) if high > low else np.full(len(targets), 0.5)
        self._train(vectors, scaled[:, None], np.zeros(len(targets), dtype=np.int64), spec)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict numbers `[n]` of vectors `[n, D]`."""
        scores = self._predicted(X)[:, 0]
        low, high = self.range_
        return low + (high - low) * scores

    def _outputs(self) -> list[Any]:
        return list(self.range_)

    def _set_outputs(self, outputs: list[Any]) -> None:
        low, high = outputs
        self.range_ = float(low), float(high)


def _dev_rows(strata: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Draw dev rows of each stratum, none that would empty it for training, and one at the least in all.

    Example:
        >>> _dev_rows(np.array([0, 0, 0, 0, 1]), 0.5, 0).sum()
        2
    """
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(strata), dtype=bool)
    shuffled = [generator.permutation(np.flatnonzero(strata == stratum)) for stratum in np.unique(strata)]
    for rows in shuffled:
        chosen[rows[: min(round(len(rows) * fraction), len(rows) - 1)]] = True
    if not chosen.any():
        chosen[max(shuffled, key=len)[0]] = True
    return chosen
