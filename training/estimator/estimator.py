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
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from corpora.checks.dev_choice import weak_dev
from corpora.clips import CorpusError, Split
from mmpsr.config import nearest
from mmpsr.decisions import decide_classes, decide_present
from mmpsr.tasks import TaskSpec
from training.bundle.bundle import read_bundle, save_bundle
from training.bundle.collect import collect_bundle, vector_widths
from training.bundle.hub import Pretrained, bundle_folder
from training.data.few_labels import keep_labels
from training.data.joined import JoinedCorpora, require_trainable
from training.data.selection import require_metrics
from training.estimator import inputs
from training.estimator.inputs import Features, Labels
from training.fit.callbacks import Callback
from training.fit.loop import train
from training.linear.late import create_baseline
from training.pipeline import finish_run
from training.runs.directory import RunDirectory
from training.runs.trained import TrainedModel
from training.scoring.scores import evaluate_rows, predict

__all__ = ["MultiTaskEstimator", "own_randomness"]

FRACTIONS: Mapping[Split, float] = {"train": 0.8, "dev": 0.2}


class MultiTaskEstimator(Pretrained, BaseEstimator):
    """One model of several tasks, trained on vectors of several corpora at once by the loop that trains runs.

    Args:
        tasks: names of the tasks; left out, those that the tables have labels of.
        config: sections of a run's configuration (`model`, `training`, `tasks` ...), over `RECOMMENDED`.
        labels: columns of a task's labels where they are not named `<task>.<class>`: by class, or one column with the
            class of each clip.
        directory: folder to keep the run in; left out, nothing is kept but the model.
        verbose: print how training goes.
        callbacks: told of epochs and checkpoints, see `training.fit.callbacks`.

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
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.tasks = tasks
        self.config = config
        self.labels = labels
        self.directory = directory
        self.verbose = verbose
        self.callbacks = callbacks

    def __sklearn_tags__(self) -> Tags:
        """Say that `fit` takes mappings, by which `check_estimator` tests what needs no array alone."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.dict = False, True
        tags.input_tags.allow_nan = True
        return tags

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
            TypeError: tables or features are no mappings, as of X and y.
            ValueError: vectors are of an unknown modality or corpus, or of a wrong shape.
        """
        inputs.require_mappings("fit", tables, features)
        modalities = inputs.modalities_of(features)
        config = inputs.run_configuration(tables, modalities, self.tasks, self.config or {}, self.labels or {})
        tasks = config.tasks.resolve()
        require_metrics(config.corpora, tasks)
        joined = inputs.join_clips(self._clips(tables, tasks), features, tasks, modalities)
        joined = keep_labels(joined, config)
        mend = "no training clip has a {0} vector: all its rows are NaN; leave {0} out"
        require_trainable(joined, config.corpora, mend=mend)
        for name in config.corpora.trained():
            for finding in weak_dev(name, joined.clips[joined.clips["corpus"].eq(name)], tasks):
                warnings.warn(f"{name}: {finding.sentence}", stacklevel=2)
        with own_randomness(), tempfile.TemporaryDirectory() as temporary:
            folder = str(temporary if self.directory is None else self.directory)
            config = config.model_copy(update={"output": config.output.model_copy(update={"directory": folder})})
            accelerator = Accelerator(mixed_precision=config.training.mixed_precision)
            run = RunDirectory.create(config, "vectors")
            run.write_json("features.json", dict.fromkeys(modalities, "vectors"))
            joined = joined.to(accelerator.device)
            baseline = create_baseline(config, joined, tasks)
            say = print if self.verbose else lambda message: None
            model = train(config, joined, tasks, accelerator, run, say, baseline, self.callbacks)
            finish_run(config, model, joined, tasks, run, baseline)
            self.trained_ = TrainedModel.read(run.path)
            self.bundle_ = collect_bundle(run.path, self.trained_)
        return self

    def predict(self, features: Features) -> dict[str, pd.DataFrame]:
        """Decide by task, a row per clip and a column per class: 1 where it is decided, else 0; scores of regression.

        Args:
            features: vectors by modality, rows of NaN where absent; modalities may be left out.
        """
        decided = {}
        for task, predicted in self._predicted(features).items():
            spec, values = self.trained_.tasks[task], predicted.to_numpy(dtype=np.float64)
            thresholds = self.trained_.calibration.thresholds(task)
            if spec.kind == "regression":
                decided[task] = predicted
                continue
            if spec.kind == "multi_label":
                decisions = decide_present(values, spec, thresholds).astype(np.int64)
            else:
                decisions = np.eye(spec.num_outputs, dtype=np.int64)[decide_classes(values, thresholds)]
            decided[task] = pd.DataFrame(decisions, predicted.index, predicted.columns)
        return decided

    def predict_proba(self, features: Features) -> dict[str, pd.DataFrame]:
        """Predict calibrated probabilities by task, a row per clip and a column per class; regressions have none.

        Args:
            features: as in `predict`.
        """
        tasks = self._fitted().tasks
        predicted = self._predicted(features)
        return {task: probs for task, probs in predicted.items() if tasks[task].kind != "regression"}

    def evaluate(self, tables: Mapping[str, pd.DataFrame], features: Mapping[str, Features]) -> pd.DataFrame:
        """Compute metrics by corpus, split and task, in percent, higher is better.

        Args:
            tables: as in `fit`; without a column `split` all clips are test.
            features: as in `fit`.

        Returns:
            Columns `corpus, split, task, metric, value, num_clips`.

        Raises:
            CorpusError: no clip has a label.
        """
        trained = self._fitted()
        inputs.require_mappings("evaluate", tables, features)
        tasks, modalities = trained.tasks, trained.modalities
        inputs.modalities_of(features)
        joined = inputs.join_clips(
            self._clips(tables, tasks, "test"), features, tasks, modalities, vector_widths(trained)
        )
        corpora = inputs.corpora_configuration(tables)
        rows = torch.arange(len(joined.clips))
        predicted = predict(trained.model, joined, rows)
        figures = evaluate_rows(predicted, joined, rows, tasks, corpora, trained.calibration)
        if not figures:
            raise CorpusError(f"no clip of {', '.join(tables)} has a label for {', '.join(tasks)}")
        return pd.DataFrame(figures)

    def score(self, tables: Mapping[str, pd.DataFrame], features: Mapping[str, Features]) -> float:
        """Average each task's metrics, then tasks, in percent; see `evaluate`."""
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
        save_bundle(trained.model.state_dict(), self.bundle_, Path(folder), force, trained.novelty)

    @classmethod
    def load(cls, folder: str | Path) -> MultiTaskEstimator:
        """Read a bundle, of an estimator or of a run; vectors must be made as those were that it was trained on.

        Raises:
            BundleError: see `training.bundle.bundle.read_bundle`.
        """
        trained = read_bundle(Path(folder))
        sections = trained.config.model_dump(mode="json", exclude={*inputs.OWN_SECTIONS, "data"})
        estimator = cls(list(trained.tasks), sections)
        estimator.trained_, estimator.bundle_ = trained, trained.bundle
        return estimator

    @classmethod
    def _from_pretrained(cls, model_id: str, **options: Any) -> MultiTaskEstimator:
        return cls.load(bundle_folder(model_id, **options))

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory, force=True)

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
        return {name: inputs.clip_table(name, table, tasks, labels, fractions) for name, table in tables.items()}

    def _predicted(self, features: Features) -> dict[str, pd.DataFrame]:
        """Predict calibrated probabilities or scores by task."""
        trained = self._fitted()
        if not isinstance(features, Mapping):
            raise TypeError(
                f"predict takes vectors by modality, {{modality: array [n, D]}}, and found {inputs.kind_of(features)}"
            )
        for name in features:
            if name not in trained.modalities:
                raise ValueError(f"features: the model knows no {name!r}; {nearest(name, trained.modalities)}")
        if not features:
            raise ValueError(f"features are empty; give vectors of {', '.join(trained.modalities)}")
        index, presence, vectors = inputs.index_of(features), [], {}
        for name, width in vector_widths(trained).items():
            values = features.get(name, np.full((len(index), width), np.nan))
            values = values.to_numpy() if isinstance(values, pd.DataFrame) else values
            present, array = inputs.vectors_of(values, f"features[{name!r}]", index.tolist(), width)
            presence.append(torch.from_numpy(present))
            vectors[name] = torch.from_numpy(array)
        joined = JoinedCorpora(pd.DataFrame(index=range(len(index))), vectors, torch.stack(presence, dim=1), {})
        predicted = trained.predict(joined, torch.arange(len(index)))
        return {
            task: pd.DataFrame(probs, index, list(trained.tasks[task].classes)) for task, probs in predicted.items()
        }


@contextmanager
def own_randomness() -> Iterator[None]:
    """Let the program's own random numbers go on as if training had set no seeds."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  what set_seed sets
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
