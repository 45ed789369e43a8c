"""How well novelty tells recordings of a corpus that a model was not trained on from dev clips, and how often it errs.

    uv run python tests/benchmarks/novelty.py RUN

Of each modality, one of the run's trained corpora is left out in turn: the fit is to the train split of the others, its
dev clips are theirs, and the dev and test clips of the one left out are the other recordings; test clips of those that
were kept are no others. Printed are AUROC against the dev clips and the share from 0.95 on, by the distance alone and
as novelty uses it, both ways from the usual distance. Vectors are read from the store that the run's configuration
names.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from corpora.registry import read_corpora
from mmpsr.calibration.novelty import NOTABLE, NoveltyFit
from training.data.joined import gather
from training.data.selection import used_clips
from training.runs.trained import TrainedModel

Array = NDArray[np.float64]


def standardized(train: Array, *others: Array) -> list[Array]:
    """Standardise vectors by those of training, constant columns by 1."""
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 1e-6 * np.maximum(np.abs(train).mean(axis=0), 1e-6), std, 1.0)
    return [(vectors - mean) / std for vectors in (train, *others)]


def measure(train: Array, dev: Array, other: Array) -> list[tuple[float, float]]:
    """Compute AUROC, and the share from `NOTABLE` on: by distance, and by its deviation from the usual."""
    train, dev, other = standardized(train, dev, other)
    fit = NoveltyFit.of(train, dev)
    assert fit is not None
    found = []
    logarithms = [np.log(fit.distances(vectors)) for vectors in (dev, other)]
    usual = float(np.median(logarithms[0]))
    for of_dev, of_other in (logarithms, [np.abs(values - usual) for values in logarithms]):
        labels = np.repeat([0, 1], [len(dev), len(other)])
        share = float((np.searchsorted(np.sort(of_dev), of_other) / len(of_dev) >= NOTABLE).mean())
        found.append((float(roc_auc_score(labels, np.concatenate([of_dev, of_other]))), share))
    return found


def main() -> None:
    """Print a row per modality and corpus left out, and the means."""
    trained = TrainedModel.read(Path(sys.argv[1]))
    config = trained.config
    clips = used_clips(read_corpora(config.corpora, trained.tasks).clips, config.corpora)
    joined = gather(clips, trained.features, trained.tasks, config.model.reads_sequences)
    table = Table("modality", "left out", "recordings", "AUROC, distance", "AUROC, novelty", "from 0.95", "novelty")
    sums: dict[str, list[list[tuple[float, float]]]] = {"left out": [], "kept, test": []}
    corpus, split = joined.clips["corpus"], joined.clips["split"]
    for index, (modality, tensor) in enumerate(joined.features.items()):
        vectors, present = tensor.double().numpy(), joined.presence[:, index].numpy()
        for out in config.corpora.trained():
            kept = present & (corpus.isin(config.corpora.trained()) & corpus.ne(out)).to_numpy(dtype=bool)
            is_out = present & (corpus.eq(out) & split.isin(["dev", "test"])).to_numpy(dtype=bool)
            train, dev, test = (
                vectors[kept & split.eq(name).to_numpy(dtype=bool)] for name in ("train", "dev", "test")
            )
            for name, other in (("left out", vectors[is_out]), ("kept, test", test)):
                found = measure(train, dev, other)
                sums[name].append(found)
                (one, first), (two, second) = found
                table.add_row(modality, out, name, f"{one:.2f}", f"{two:.2f}", f"{first:.0%}", f"{second:.0%}")
    for name, rows in sums.items():
        (one, first), (two, second) = np.mean(rows, axis=0)
        table.add_row("mean", "", name, f"{one:.2f}", f"{two:.2f}", f"{first:.0%}", f"{second:.0%}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
