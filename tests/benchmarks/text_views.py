"""What views of transcripts and descriptions say of emotion and personality, alone and together, without a network.

    uv run python tests/benchmarks/text_views.py FOLDER fiv2 text=minilm text=minilm,text=stylometry behavior=minilm

FOLDER holds the tables of `configs/text_tables.toml`. An argument is a set of views, `modality=encoder` with commas
between. All labelled clips are dealt into five folds by video; each fold is predicted by linear models of the others,
standardised by them, whose penalty three inner folds by video chose: MOSEI's seven emotions (intensity above 0) by
class-balanced logistic regressions, First Impressions' traits by ridges. Of several views the logits are averaged, the
ridges stacked by their inner folds; traits are spread as in training. Printed are the mean over emotions of macro-F1
and of UAR, or over traits of correlation and CCC, and the difference from the first set with its corrected 95 %
interval over the folds.

References:
    Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import t as student
from sklearn.metrics import f1_score, recall_score

from encoders.base import pool
from encoders.creation import create_encoder
from encoders.media.clip import ClipMedia

Array = NDArray[np.float64]
LABELS = {
    "mosei": ["Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral"],
    "fiv2": ["openness", "conscientiousness", "extraversion", "agreeableness", "non-neuroticism"],
}
GROUPS = {"mosei": r"^(.+)_[0-9.-]+_[0-9.-]+$", "fiv2": r"^(.+)[.][^.]+$"}
PENALTIES = {"mosei": (0.03, 0.1, 0.3, 1.0), "fiv2": (30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)}


def deal(groups: Array, num_folds: int, seed: int) -> NDArray[np.int64]:
    """Deal groups into folds: the fold of each clip."""
    names, index = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return np.argsort(order)[index] % num_folds


def logits(train: Array, targets: Array, others: Array, corpus: str) -> Array:
    """Fit for each penalty and predict others: `[penalties, clips, outputs]`."""
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-8
    train, others = (train - mean) / std, (others - mean) / std
    if corpus == "fiv2":
        values, vectors = np.linalg.eigh(train.T @ train)
        projected = vectors.T @ (train.T @ (targets - targets.mean(axis=0)))
        weights = [vectors @ (projected / (np.maximum(values, 0) + each)[:, None]) for each in PENALTIES[corpus]]
        return np.stack([others @ each + targets.mean(axis=0) for each in weights])
    shape = train.shape[1] + 1, targets.shape[1]
    shares = np.maximum(targets.sum(axis=0), 1), np.maximum((1 - targets).sum(axis=0), 1)
    counts = np.where(targets > 0, 0.5 / shares[0], 0.5 / shares[1])
    result, flat = np.zeros((len(PENALTIES[corpus]), len(others), shape[1])), np.zeros(np.prod(shape))
    for place in reversed(range(len(PENALTIES[corpus]))):
        penalty = PENALTIES[corpus][place]

        def loss(flat: Array, penalty: float = penalty) -> tuple[float, Array]:
            weights = flat.reshape(shape)
            z = train @ weights[:-1] + weights[-1]
            gradient = counts * (1 / (1 + np.exp(-np.clip(z, -40, 40))) - targets)
            value = (counts * (np.logaddexp(0, z) - targets * z)).sum() + penalty / 2 * (weights[:-1] ** 2).sum()
            slope = np.vstack([train.T @ gradient + penalty * weights[:-1], gradient.sum(axis=0)])
            return float(value), slope.ravel()

        flat = minimize(loss, flat, jac=True, method="L-BFGS-B", options={"maxiter": 60, "gtol": 2e-4}).x
        weights = flat.reshape(shape)
        result[place] = others @ weights[:-1] + weights[-1]
    return result


def scores(corpus: str, targets: Array, values: Array) -> tuple[float, float]:
    """Compute macro-F1 and UAR, or correlation and CCC, in percent."""
    each = []
    for true, found in zip(targets.T, values.T, strict=True):
        if corpus == "mosei":
            each.append([measure(true, found > 0, average="macro") for measure in (f1_score, recall_score)])
        else:
            covariance = np.cov(true, found, ddof=0)
            distance = (true.mean() - found.mean()) ** 2
            each.append([
                covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1] + 1e-20),
                2 * covariance[0, 1] / (np.trace(covariance) + distance),
            ])  # fmt: skip
    first, second = 100 * np.mean(each, axis=0)
    return float(first), float(second)


def cross(corpus: str, vectors: Array, targets: Array, groups: Array) -> list[tuple[Array, Array]]:
    """Predict each fold by the others: of each fold, what inner folds gave of its training clips, and of its own."""
    folds, result = deal(groups, 5, 0), []
    for fold in range(5):
        train = folds != fold
        inner = deal(groups[train], 3, fold + 1)
        within = np.zeros((len(PENALTIES[corpus]), int(train.sum()), targets.shape[1]))
        for part in range(3):
            rows = inner != part
            within[:, ~rows] = logits(vectors[train][rows], targets[train][rows], vectors[train][~rows], corpus)
        columns = range(targets.shape[1])
        if corpus == "mosei":
            best = [int(np.argmax([sum(scores(corpus, targets[train], each)) for each in within]))] * len(columns)
        else:
            best = [
                int(np.argmax([scores(corpus, targets[train][:, [j]], each[:, [j]])[0] for each in within]))
                for j in columns
            ]
        own = logits(vectors[train], targets[train], vectors[~train], corpus)
        result.append((within[best, :, columns].T, own[best, :, columns].T))
    return result


def together(corpus: str, views: Sequence[list[tuple[Array, Array]]], targets: Array, groups: Array) -> Array:
    """Score views together in each fold: `[5, 2]`."""
    folds, result = deal(groups, 5, 0), []
    for fold in range(5):
        train = folds != fold
        own = np.stack([view[fold][1] for view in views])
        values = own.mean(axis=0)
        if corpus == "fiv2":
            for j, trait in enumerate(targets[train].T):
                within = np.stack([view[fold][0][:, j] for view in views], axis=1)
                centred, moments = within - within.mean(axis=0), np.eye(len(views))
                if len(views) > 1:
                    gram = centred.T @ centred
                    moments = gram + 0.01 * np.trace(gram) / len(views) * np.eye(len(views))
                weights = np.linalg.solve(moments, centred.T @ (trait - trait.mean()) if len(views) > 1 else [1.0])
                found = (own[:, :, j].T - within.mean(axis=0)) @ weights
                values[:, j] = trait.mean() + found * trait.std() / (centred @ weights).std()
        result.append(scores(corpus, targets[~train], values))
    return np.array(result)


def main(folder: str, corpus: str, sets: Sequence[str]) -> None:
    """Embed, fit and print."""
    table = pd.concat([pd.read_csv(f"{folder}/{corpus}_{split}.csv") for split in ("train", "dev")], ignore_index=True)
    groups = table["video_name"].str.extract(GROUPS[corpus])[0].to_numpy(dtype=str)
    targets = table[LABELS[corpus]].to_numpy(dtype=np.float64)
    if corpus == "mosei":
        targets = (targets > 0).astype(np.float64)
    clips = [ClipMedia(text=str(a), description=str(b)) for a, b in zip(table["text"], table["text_llm"], strict=True)]

    @cache
    def predicted(view: str) -> list[tuple[Array, Array]]:
        modality, _, name = view.partition("=")
        encoder = create_encoder(name, modality)
        encoder.load()
        vectors = np.stack([pool(np.asarray(rows), encoder.pooling) for rows in encoder.encode(clips)])
        return cross(corpus, vectors.astype(np.float64), targets, groups)

    base: Array | None = None
    for names in sets:
        found = together(corpus, [predicted(view) for view in names.split(",")], targets, groups)
        base = found if base is None else base
        difference = found - base
        half = student.ppf(0.975, 4) * difference.std(axis=0, ddof=1) * np.sqrt(1 / 5 + 1 / 4)
        told = (f"{a:+.1f} [{a - h:.1f}, {a + h:.1f}]" for a, h in zip(difference.mean(axis=0), half, strict=True))
        print(f"{names}: {' / '.join(f'{value:.1f}' for value in found.mean(axis=0))}; {' / '.join(told)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
