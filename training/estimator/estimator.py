"""The fusion model for who brings vectors only: fit, predict and score, in the manner of scikit-learn.

Example:
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> sound, words = rng.normal(size=(80, 6)), rng.normal(size=(80, 8))
    >>> table = pd.DataFrame({"clip_id": [f"clip{i}" for i in range(80)],
    ...                       "said": np.where(words[:, 0] > 0, "present", "absent")})
    >>> estimator = MultiTaskEstimator(labels={"ambivalence": "said"}, config={"training": {"num_epochs": 2}})
    >>> features = {"audio": sound, "text": words}
    >>> estimator.fit({"mine": table}, {"mine": features}).predict_proba(features)["ambivalence"].shape
    (80, 2)
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from corpora.clips import CorpusError, Split
from mmpsr.config import nearest
from mmpsr.probabilities import decide_classes, decide_present
from mmpsr.tasks import TaskSpec
from training.bundle.bundle import read_bundle, save_bundle
from training.bundle.collect import collect_bundle, vector_widths
from training.config import RunConfig
from training.data.joined import JoinedCorpora, require_metrics, training_errors
from training.estimator.inputs import (
    OWN_SECTIONS,
    Features,
    Labels,
    clip_table,
    corpora_configuration,
    index_of,
    join_clips,
    modalities_of,
    run_configuration,
    vectors_of,
)
from training.fit.baseline import LinearBaseline
from training.fit.loop import train
from training.pipeline import finish_run
from training.runs.directory import RunDirectory
from training.runs.trained import TrainedModel
from training.scoring.scores import evaluate_rows, predict

__all__ = ["MultiTaskEstimator"]

FRACTIONS: Mapping[Split, float] = {"train": 0.8, "dev": 0.2}


class MultiTaskEstimator(BaseEstimator):
    """One model of several tasks, trained on vectors of several corpora at once by the loop that trains runs.

    Args:
        tasks: names of the tasks; left out, those that the tables have labels of.
        config: sections of a run's configuration (`model`, `training`, `tasks` ...), over `RECOMMENDED`.
        labels: columns of a task's labels where they are not named `<task>.<class>`: by class, or one column with the
            class of each clip.
        directory: folder to keep the run in; left out, nothing is kept but the model.
        verbose: print how training goes.

    Attributes:
        trained_: the fitted model, its tasks and calibration.
        bundle_: what `save` writes besides weights, with the figures of dev and test.
    """

    def __init__(
        self,
        tasks: Sequence[str] | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        labels: Labels | None = None,
        directory: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.tasks = tasks
        self.config = config
        self.labels = labels
        self.directory = directory
        self.verbose = verbose

    def fit(self, tables: Mapping[str, pd.DataFrame], features: Mapping[str, Features]) -> MultiTaskEstimator:
        """Train, choose weights and calibration on dev, and evaluate.

        Args:
            tables: by corpus a row per clip: `clip_id`, perhaps `split` (train, dev, test; without it groups are dealt
                out 80 : 20 to train and dev by a hash), `group` (clips that no split may separate), and labels: one-hot
                for single-label tasks, else numbers in [0, 1]; blank where unknown.
            features: by corpus and modality vectors `[n, D]` in the order of the table (a DataFrame may have clip ids
                as its index instead), rows of NaN where a clip lacks the modality.

        Raises:
            ConfigError: a setting or a task is not known.
            CorpusError: a table lacks what training needs, for example every label of a task.
            ValueError: vectors are of an unknown modality or corpus, or of a wrong shape.
        """
        modalities = modalities_of(features)
        config = run_configuration(tables, modalities, self.tasks, self.config or {}, self.labels or {})
        tasks = config.tasks.resolve()
        require_metrics(config.corpora, tasks)
        joined = join_clips(self._clips(tables, tasks), features, tasks, modalities)
        _require_trainable(joined, config)
        with _own_randomness(), tempfile.TemporaryDirectory() as temporary:
            folder = str(temporary if self.directory is None else self.directory)
            config = config.model_copy(update={"output": config.output.model_copy(update={"directory": folder})})
            accelerator = Accelerator(mixed_precision=config.training.mixed_precision)
            run = RunDirectory.create(config, "vectors")
            run.write_json("features.json", dict.fromkeys(modalities, "vectors"))
            joined = joined.to(accelerator.device)
            baseline = LinearBaseline(joined, tasks, config.corpora)
            say = print if self.verbose else _silent
            model = train(config, joined, tasks, accelerator, run, say, baseline)
            finish_run(config, model, joined, tasks, run, baseline)
            self.trained_ = TrainedModel.read(run.path)
            self.bundle_ = collect_bundle(run.path, self.trained_)
        return self

    def predict(self, features: Features) -> dict[str, pd.DataFrame]:
        """By task a row per clip and a column per class or trait: 1 where it is decided, else 0; scores of regression.

        Args:
            features: vectors by modality, rows of NaN where absent; modalities may be left out.
        """
        decided = {}
        for task, found in self._predicted(features).items():
            spec, values = self.trained_.tasks[task], found.to_numpy(dtype=np.float64)
            thresholds = self.trained_.calibration.thresholds(task)
            if spec.kind == "regression":
                decided[task] = found
            elif spec.kind == "multi_label":
                present = decide_present(values, spec, thresholds)
                decided[task] = pd.DataFrame(present.astype(np.int64), found.index, found.columns)
            else:
                one_hot = np.eye(spec.num_outputs, dtype=np.int64)[decide_classes(values, thresholds)]
                decided[task] = pd.DataFrame(one_hot, found.index, found.columns)
        return decided

    def predict_proba(self, features: Features) -> dict[str, pd.DataFrame]:
        """Calibrated probabilities by task, a row per clip and a column per class; regressions have none.

        Args:
            features: as in `predict`.
        """
        tasks = self._fitted().tasks
        return {task: found for task, found in self._predicted(features).items() if tasks[task].kind != "regression"}

    def evaluate(self, tables: Mapping[str, pd.DataFrame], features: Mapping[str, Features]) -> pd.DataFrame:
        """Metrics by corpus, split and task, in percent, higher is better.

        Args:
            tables: as in `fit`; without a column `split` all clips are test.
            features: as in `fit`.

        Returns:
            Columns `corpus, split, task, metric, value, num_clips`.

        Raises:
            CorpusError: no clip has a label.
        """
        trained = self._fitted()
        tasks, modalities = trained.tasks, trained.modalities
        modalities_of(features)
        joined = join_clips(self._clips(tables, tasks, "test"), features, tasks, modalities, vector_widths(trained))
        corpora = corpora_configuration(tables)
        rows = torch.arange(len(joined.clips))
        predicted = predict(trained.model, joined, rows)
        figures = evaluate_rows(predicted, joined, rows, tasks, corpora, trained.calibration)
        if not figures:
            raise CorpusError(f"no clip of {', '.join(tables)} has a label for {', '.join(tasks)}")
        return pd.DataFrame(figures)

    def score(self, tables: Mapping[str, pd.DataFrame], features: Mapping[str, Features]) -> float:
        """The mean over tasks of the mean of each task's metrics, in percent; see `evaluate`."""
        return float(self.evaluate(tables, features).groupby("task")["value"].mean().mean())

    def save(self, folder: str | Path, force: bool = False) -> None:
        """Write a bundle; its encoders are called `vectors`.

        Args:
            folder: appears whole or not at all.
            force: whether a bundle that is there is replaced.

        Raises:
            BundleError: the folder cannot be written.
        """
        trained = self._fitted()
        save_bundle(trained.model.state_dict(), self.bundle_, Path(folder), force)

    @classmethod
    def load(cls, folder: str | Path) -> MultiTaskEstimator:
        """Read a bundle, of an estimator or of a run; vectors must be made as those were that it was trained on.

        Raises:
            BundleError: see `training.bundle.bundle.read_bundle`.
        """
        trained = read_bundle(Path(folder))
        sections = trained.config.model_dump(mode="json", exclude={*OWN_SECTIONS, "data"})
        estimator = cls(list(trained.tasks), sections)
        estimator.trained_, estimator.bundle_ = trained, trained.bundle
        return estimator

    def _fitted(self) -> TrainedModel:
        check_is_fitted(self, "trained_")
        return cast(TrainedModel, self.trained_)

    def _clips(
        self, tables: Mapping[str, pd.DataFrame], tasks: Mapping[str, TaskSpec], split: Split | None = None
    ) -> dict[str, pd.DataFrame]:
        if not tables:
            raise CorpusError("tables are empty; give a table by the name of its corpus")
        labels = self.labels or {}
        for task, source in labels.items():
            columns = [source] if isinstance(source, str) else list(source.values())
            known = {str(column) for table in tables.values() for column in table}
            for column in columns:
                if column not in known:
                    raise CorpusError(f"labels[{task!r}]: no table has a column {column!r}; {nearest(column, known)}")
        fractions = FRACTIONS if split is None else {split: 1.0}
        return {name: clip_table(name, table, tasks, labels, fractions) for name, table in tables.items()}

    def _predicted(self, features: Features) -> dict[str, pd.DataFrame]:
        """Calibrated probabilities or scores by task."""
        trained = self._fitted()
        for name in features:
            if name not in trained.modalities:
                raise ValueError(f"features: the model knows no {name!r}; {nearest(name, trained.modalities)}")
        if not features:
            raise ValueError(f"features are empty; give vectors of {', '.join(trained.modalities)}")
        index = index_of(features)
        widths = vector_widths(trained)
        presence = np.zeros((len(index), len(widths)), dtype=bool)
        vectors = {name: np.zeros((len(index), width), dtype=np.float32) for name, width in widths.items()}
        for column, name in enumerate(widths):
            if name in features:
                values = features[name]
                values = values.to_numpy() if isinstance(values, pd.DataFrame) else values
                place = f"features[{name!r}]"
                presence[:, column], vectors[name] = vectors_of(values, place, index.tolist(), widths[name])
        joined = JoinedCorpora(
            pd.DataFrame(index=range(len(index))),
            {name: torch.from_numpy(values) for name, values in vectors.items()},
            torch.from_numpy(presence),
            {},
        )
        found = trained.predict(joined, torch.arange(len(index)))
        return {task: pd.DataFrame(values, index, list(trained.tasks[task].classes)) for task, values in found.items()}


def _require_trainable(joined: JoinedCorpora, config: RunConfig) -> None:
    labeled: dict[str, NDArray[np.bool_]] = {
        task: torch.isfinite(values).any(dim=1).numpy() for task, values in joined.labels.items()
    }
    for reason in training_errors(joined.clips, labeled, config.corpora):
        raise CorpusError(reason)
    present = joined.presence[joined.rows(config.corpora.trained(), "train")].any(dim=0)
    for name, found in zip(joined.features, present.tolist(), strict=True):
        if not found:
            raise CorpusError(f"no training clip has a {name} vector: all its rows are NaN; leave {name} out")


def _silent(message: str) -> None:
    pass


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Training sets seeds; the program's own random numbers go on as if it had not."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  what set_seed sets
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
