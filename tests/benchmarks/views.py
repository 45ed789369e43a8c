r"""What each view of the texts tells by a linear model, alone, side by side and late, by cross-validation over groups.

    uv run python tests/benchmarks/views.py configs/text_tables.toml corpora.root=<folder of the tables> \
        'features.encoders={text="minilm", "text.lexica"="lexica", behavior="minilm", "behavior.lexica"="lexica"}' \
        'data.modalities=["text","text.lexica","behavior","behavior.lexica"]'

All clips of a corpus that have a task's labels, whatever their split, in five folds of whole groups. Of several labels:
one class-balanced logistic regression each, macro F1 and UAR of present against absent, averaged over the labels; of
scores: one ridge regression each, their correlation and CCC after the predictions are spread to the labels' deviation.
Penalties are chosen within the training folds, by three folds of groups; late is the mean of the log-odds of one model
for each encoder, of scores their best positive combination within the training folds.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmpsr.config import load_config
from mmpsr.tasks import TaskSpec
from training.config import RunConfig
from training.data.joined import gather
from training.data.load import extract_features, load_clips
from training.data.selection import active_features

Array = NDArray[np.float64]
STRENGTHS, PENALTIES = (1e-3, 1e-2, 1e-1), (1.0, 10.0, 100.0, 1_000.0, 10_000.0)


def folds(groups: Array, number: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Yield training and test rows, groups dealt out at random."""
    known = np.array(sorted(set(groups)))
    np.random.default_rng(seed).shuffle(known)
    part = {group: index % number for index, group in enumerate(known)}
    places = np.array([part[group] for group in groups])
    for fold in range(number):
        yield np.flatnonzero(places != fold), np.flatnonzero(places == fold)


def logistic(strength: float) -> Any:
    """Class-balanced logistic regression of standardised columns."""
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
    return make_pipeline(StandardScaler(), model)


def macro_f1(present: Array, decided: Array) -> float:
    """Macro F1 of present against absent."""
    return float(f1_score(present, decided, labels=[0, 1], average="macro", zero_division=0))


def log_odds(inputs: Array, present: Array, groups: Array, others: Array) -> Array:
    """Fit with the strength that is best within the training rows, and predict others."""

    def inner(strength: float) -> float:
        parts = list(folds(groups, 3, 1))
        found = [(test, logistic(strength).fit(inputs[train], present[train])) for train, test in parts]
        return float(np.mean([macro_f1(present[test], model.predict(inputs[test])) for test, model in found]))

    return np.asarray(logistic(max(STRENGTHS, key=inner)).fit(inputs, present).decision_function(others))


def ridge(inputs: Array, score: Array, groups: Array, others: Array) -> tuple[Array, Array]:
    """Fit likewise; predictions of others, and of the training rows by models that did not see them."""
    unseen: dict[float, Array] = {}
    for penalty in PENALTIES:
        unseen[penalty] = np.empty(len(score))
        for train, test in folds(groups, 3, 1):
            model = make_pipeline(StandardScaler(), Ridge(penalty)).fit(inputs[train], score[train])
            unseen[penalty][test] = model.predict(inputs[test])
    best = max(PENALTIES, key=lambda penalty: float(np.corrcoef(unseen[penalty], score)[0, 1]))
    return make_pipeline(StandardScaler(), Ridge(best)).fit(inputs, score).predict(others), unseen[best]


def of_labels(views: Sequence[Array], present: Array, groups: Array, train: Array, test: Array) -> tuple[float, float]:
    """Macro F1 and UAR of one label."""
    fitted = [log_odds(view[train], present[train], groups[train], view[test]) for view in views]
    decided = np.mean(fitted, axis=0) > 0
    return macro_f1(present[test], decided), float(recall_score(present[test], decided, average="macro"))


def of_scores(views: Sequence[Array], score: Array, groups: Array, train: Array, test: Array) -> tuple[float, float]:
    """Correlation and CCC of one score."""
    fitted = [ridge(view[train], score[train], groups[train], view[test]) for view in views]
    predicted, unseen = (np.stack(each, axis=1) for each in zip(*fitted, strict=True))
    joint = Ridge(1e-3, positive=True).fit(unseen, score[train])
    mean, spread = score[train].mean(), score[train].std() / joint.predict(unseen).std()
    found, true = mean + spread * (joint.predict(predicted) - mean), score[test]
    correlation = float(np.corrcoef(true, found)[0, 1])
    return correlation, float(2 * correlation * true.std() * found.std()
                              / (true.var() + found.var() + (true.mean() - found.mean()) ** 2))  # fmt: skip


def measure(views: Sequence[Array], labels: Array, groups: Array, spec: TaskSpec) -> Array:
    """Both figures of each fold, in percent: `[5, 2]`."""
    rows = []
    for train, test in folds(groups, 5, 0):
        if spec.kind == "regression":
            each = [of_scores(views, score, groups, train, test) for score in labels.T]
        else:
            each = [of_labels(views, present, groups, train, test) for present in (labels > 0).astype(int).T]
        rows.append(100 * np.mean(each, axis=0))
    return np.array(rows)


def main() -> None:
    """Print a row for each task and set of views: mean and deviation over the folds."""
    config = load_config(RunConfig, sys.argv[1], sys.argv[2:])
    tasks, features = config.tasks.resolve(), active_features(config.features, config.data.modalities)
    accelerator = Accelerator(cpu=True)
    clips = load_clips(config, tasks, accelerator).clips
    clips, _, _ = extract_features(clips, features, accelerator, Console(file=io.StringIO()))
    joined = gather(clips, features, tasks)
    vectors = {name: np.asarray(values, dtype=np.float64) for name, values in joined.features.items()}
    by_encoder: dict[str, list[str]] = {}
    for name in vectors:
        by_encoder.setdefault(features.encoders[name], []).append(name)
    sets: dict[str, list[list[str]]] = {name: [[name]] for name in vectors}
    sets |= {f"{encoder}: {' and '.join(names)}": [names] for encoder, names in by_encoder.items() if len(names) > 1}
    if len(by_encoder) > 1:
        sets |= {"all side by side": [list(vectors)], "one model an encoder, late": list(by_encoder.values())}
    table = Table("corpus", "task", "views", "macro F1, or correlation", "UAR, or CCC")
    for corpus in config.corpora.trained():
        for task, spec in tasks.items():
            labels = joined.labels[task].numpy()
            rows = np.flatnonzero(clips["corpus"].eq(corpus).to_numpy() & np.isfinite(labels).all(axis=1))
            groups = clips["group"].to_numpy(dtype=str)[rows]
            for name, parts in sets.items() if len(rows) else ():
                views = [np.concatenate([vectors[each][rows] for each in names], axis=1) for names in parts]
                found = measure(views, labels[rows], groups, spec)
                cells = [
                    f"{mean:.1f} ± {std:.1f}" for mean, std in zip(found.mean(0), found.std(0, ddof=1), strict=True)
                ]
                table.add_row(corpus, task, name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
