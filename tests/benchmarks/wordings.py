"""What each wording of the class texts that ship is worth on labelled texts: a study of wordings, none of them chosen.

    uv run python tests/benchmarks/wordings.py configs/text_tables.toml corpora.root=<folder of the tables>

Of dev clips, by corpus and wording: one class a clip (macro F1, weighted F1 and UAR of the nearest class), several
(mean AUC over the classes but the neutral one, which needs no decision; and mMF1 where a class is present whose
similarity is above 0, nearer to its texts than the middle of all is), scores (mean Pearson correlation over traits, and
CCC of the scores as they are). What is said and what is described alone, and both. No label is looked at but by the
figures. Of the usual wordings also how far probabilities are from how often they are right: the expected calibration
error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from mmpsr.calibration.reliability import calibration_pairs, reliability_curve
from mmpsr.config import ConfigError
from mmpsr.prototypes.texts import WORDINGS, Wording
from mmpsr.tasks import TaskSpec
from training.class_texts.zero_shot import read_zero_shot, with_text_encoder
from training.data.joined import JoinedCorpora
from training.evaluation.cross_corpus import join_clips, predict_fresh, read_clips
from training.published_config import load_run_config
from training.runs.stored import TaskSplit
from training.runs.trained import TrainedModel

TASKS = ("emotion", "personality")
COMBINED = "default"
PARTS = {"said": ("text",), "described": ("behavior",), "both": ("text", "behavior")}
Array = NDArray[np.float64]


def mean_auc(targets: Array, predicted: Array, spec: TaskSpec) -> float:
    """Average AUC over the classes that are present in some clips and absent in others, but the neutral one."""
    classes = [index for index, name in enumerate(spec.classes) if name != spec.neutral]
    present = targets > 0
    values = [
        roc_auc_score(present[:, index], predicted[:, index])
        for index in classes
        if 0 < present[:, index].sum() < len(present)
    ]
    return 100 * float(np.mean(values))


def mean_correlation(targets: Array, predicted: Array) -> float:
    """Average Pearson's correlation over traits, in percent."""
    pairs = zip(targets.T, predicted.T, strict=True)
    return 100 * float(np.mean([np.corrcoef(target, score)[0, 1] for target, score in pairs]))


def figures(part: TaskSplit) -> dict[str, float]:
    """Compute the corpus' metrics and those that need no decision."""
    found = part.figures()
    if part.spec.kind == "regression":
        return {"correlation": mean_correlation(part.targets, part.predicted), **found}
    return {"AUC": mean_auc(part.targets, part.predicted, part.spec), **found}


def parts_of(model: TrainedModel, joined: JoinedCorpora, seen: tuple[str, ...]) -> Iterator[TaskSplit]:
    """Predict the clips that have any of what is seen, by these modalities alone."""
    columns = [list(joined.features).index(name) for name in model.modalities]
    presence = joined.presence[:, columns].clone()
    for index, name in enumerate(model.modalities):
        presence[:, index] &= name in seen
    kept = {name: joined.features[name] for name in model.modalities}
    own = JoinedCorpora(joined.clips, kept, presence, joined.labels)
    for part in predict_fresh(model, Path("class texts"), own, model.config.corpora).parts():
        if part.split == "dev" and part.clips[[f"present.{name}" for name in seen]].all(axis=None):
            yield part


def main() -> None:
    """Print a row per corpus, wording and what is compared."""
    console, accelerator = Console(width=150), Accelerator(cpu=True)
    config, _ = load_run_config(sys.argv[1], sys.argv[2:])
    declared = config.tasks.resolve()
    tasks = [name for name in TASKS if name in declared]
    features = with_text_encoder(config.features, None, ("text", "behavior"))

    def model_of(kinds: tuple[Wording, ...] | None, task: str) -> TrainedModel:
        return TrainedModel.of_texts(
            read_zero_shot([task], features, declared=declared, wordings=kinds), config, features
        )

    whole = TrainedModel.of_texts(read_zero_shot(tasks, features, declared=declared), config, features)
    clips = read_clips(whole, whole.config, (), "dev", Console(stderr=True), declared)
    joined = join_clips(whole, features, clips, accelerator, Console(stderr=True))
    table = Table("corpus", "clips", "wordings", "compared", "figures")
    choices: list[tuple[Wording, ...] | None] = [*((kind,) for kind in WORDINGS), None]
    for task in tasks:
        for kinds in choices:
            try:
                model = model_of(kinds, task)
            except ConfigError:
                continue
            assert model.zero_shot is not None
            compared = model.zero_shot.wordings[task]
            for label, seen in PARTS.items():
                if not set(seen) <= set(compared):
                    continue
                for part in parts_of(model, joined, seen):
                    shown = "  ".join(f"{name} {value:.1f}" for name, value in figures(part).items())
                    name = COMBINED if kinds is None else kinds[0]
                    table.add_row(part.corpus, str(len(part.clips)), name, label, shown)
                    if kinds is None and part.spec.kind != "regression":
                        pairs = calibration_pairs(part.predicted, part.targets, part.spec)
                        error = 100 * reliability_curve(*pairs, bins="mass").error
                        table.add_row("", "", "", "", f"calibration error {error:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
