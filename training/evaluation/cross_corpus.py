"""A finished run's model on clips that it predicts anew: of other corpora, or of its own with less to see.

The features must be those of the run: the same encoders, by their fingerprints.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.console import Console

from corpora.clips import label_columns
from corpora.registry import CorporaConfig, prepare, read_corpora
from encoders.config import FeaturesConfig
from mmpsr.calibration.calibration import Calibration
from mmpsr.config import ConfigError, nearest, read_toml, resolve
from mmpsr.decisions import default_thresholds, only_neutral
from mmpsr.tasks import TaskSpec
from training.config import RunConfig
from training.data.joined import JoinedCorpora, gather
from training.data.load import extract_features
from training.data.selection import active_features, require_metrics
from training.published_config import is_published, load_run_config
from training.runs.directory import RunError
from training.runs.stored import RunPredictions, System, TaskSplit, add_predictions
from training.runs.trained import TrainedModel, feature_keys
from training.scoring.novelty import novelty_columns
from training.scoring.scores import predict, prediction_table

__all__ = ["NewPredictions", "join_clips", "load_corpora", "predict_fresh", "read_clips", "require_fingerprints"]


@dataclass(frozen=True)
class NewPredictions(RunPredictions):
    """A run's predictions of clips that it did not store; without a linear baseline, which is not kept."""

    def _part(
        self, clips: pd.DataFrame, corpus: str, split: str, task: str, spec: TaskSpec, system: System
    ) -> TaskSplit | None:
        """As of a stored run; of several labels, those that the corpus is not annotated for are left out."""
        columns = label_columns(task, spec)
        labels = clips[columns].to_numpy(dtype=np.float64)
        known = _annotated(labels, spec)
        if known.all() or not known.any():
            return super()._part(clips, corpus, split, task, spec, system)
        absent = {column: 0.0 for column, here in zip(columns, known, strict=True) if not here}
        part = super()._part(clips.assign(**absent), corpus, split, task, spec, system)
        return None if part is None else _with_classes(part, known)


def load_corpora(
    run: TrainedModel, path: Path, settings: Sequence[str], reads_vectors: bool = True
) -> tuple[RunConfig, list[str]]:
    """Load corpora that a file declares; whatever else it does not say is as the run has it.

    Args:
        run: the model.
        path: TOML file of our form or the published one.
        settings: `section.key=value` over it.
        reads_vectors: whether its encoders must be those of the run.

    Returns:
        The configuration, and what to tell about settings that are not carried over.

    Raises:
        ConfigError: the file, a setting or a metric is not as it should be.
        RunError: its encoders are not those of the run.
    """
    tree = read_toml(path)
    if is_published(tree):
        config, notes = load_run_config(path, settings)
    else:
        own = run.config.model_dump(mode="json", exclude={"corpora"})
        config, notes = resolve(RunConfig, {**own, **tree}, settings, str(path)), []
    require_metrics(config.corpora, run.tasks)
    if reads_vectors:
        require_fingerprints(run, active_features(config.features, run.modalities), str(path))
    return config, notes


def require_fingerprints(run: TrainedModel, features: FeaturesConfig, source: str) -> None:
    """Refuse features that are not those that the model was trained on.

    Raises:
        RunError: an encoder, or how its vectors are made, is another; what differs is named.
    """
    keys = feature_keys(features)
    for name, expected in run.fingerprints.items():
        if keys.get(name) != expected:
            raise RunError(
                f"{source}: {name} is {keys.get(name, 'not there')}, but the run was trained on {expected} (encoder "
                "and fingerprint); a model can only be evaluated on the features that it was trained on: leave out "
                "[features], or set it as the run's config.json has it"
            )


def read_clips(
    run: TrainedModel,
    config: RunConfig,
    corpora: Sequence[str],
    split: str | None,
    console: Console,
    declared: Mapping[str, TaskSpec] | None = None,
) -> pd.DataFrame:
    """Read clips to evaluate.

    Args:
        run: the model.
        config: corpora.
        corpora: names of those that are read; empty for all.
        split: the split, or None for test, and dev of corpora without labelled test clips.
        console: where messages go.
        declared: tasks that the corpora may label besides the model's.

    Raises:
        ConfigError: there is no such corpus.
        RunError: there is no labelled clip.
        CorpusError: see `corpora.registry.read_corpora`.
    """
    sources = config.corpora.sources
    for name in corpora:
        if name not in sources:
            raise ConfigError(f"--corpus: no corpus is named {name!r}; {nearest(name, sources)}")
    named = {name: source for name, source in sources.items() if name in (corpora or sources)}
    wanted = config.corpora.model_copy(update={"sources": named})
    prepare(wanted)
    table = read_corpora(wanted, {**(declared or {}), **run.tasks})
    for corpus, count in table.defects["corpus"].value_counts().items():
        console.print(f"{corpus}: {count} rows have defects; `mmpsr doctor` lists them", highlight=False)
    return _choose(table.clips, run, split)


def join_clips(
    run: TrainedModel, features: FeaturesConfig, clips: pd.DataFrame, accelerator: Accelerator, console: Console
) -> JoinedCorpora:
    """Make the vectors that the store lacks, and join them to the clips.

    Args:
        run: the model.
        features: encoders, those of the run, and the store.
        clips: of `read_clips`.
        accelerator: processes, and the device of what is returned.
        console: where messages go.
    """
    features = active_features(features, run.modalities)
    clips, *_ = extract_features(clips, features, accelerator, console)
    return gather(clips, features, run.tasks, run.config.model.reads_sequences).to(accelerator.device)


def predict_fresh(
    run: TrainedModel, path: Path, joined: JoinedCorpora, corpora: CorporaConfig, calibrated_on: Collection[str] = ()
) -> NewPredictions:
    """Predict clips.

    Args:
        run: the model.
        path: its folder.
        joined: clips on the model's device.
        corpora: which metrics each corpus reports.
        calibrated_on: corpora whose dev clips the calibration was fitted on; these are not calibrated.
    """
    rows = torch.arange(len(joined.clips), device=joined.presence.device)
    predicted = predict(run.model, joined, rows)
    table = prediction_table(joined, run.tasks, rows, run.calibration.apply_all(predicted))
    table = add_predictions(table, "uncalibrated", predicted, run.tasks)
    novelty = novelty_columns(run.judge_novelty(joined, rows), tuple(run.novelty.fits))
    table = pd.concat([table, novelty], axis=1)
    sources = {
        name: source.model_copy(update={"zero_shot": name not in calibrated_on})
        for name, source in corpora.sources.items()
    }
    config = run.config.model_copy(update={"corpora": corpora.model_copy(update={"sources": sources})})
    return NewPredictions(path, config, run.tasks, table, run.calibration, Calibration())


def _choose(clips: pd.DataFrame, run: TrainedModel, split: str | None) -> pd.DataFrame:
    """Choose clips of the split; by default test, and dev of corpora without a labelled test clip."""
    columns = [column for task, spec in run.tasks.items() for column in label_columns(task, spec)]
    labeled = clips[columns].notna().any(axis=1)
    tested = clips.loc[labeled & clips["split"].eq("test"), "corpus"].unique()
    wanted = clips["split"].eq(split or "test")
    if split is None:
        wanted |= clips["split"].eq("dev") & ~clips["corpus"].isin(tested)
    if not (wanted & labeled).any():
        counts = (clips["split"] + " of " + clips["corpus"])[labeled].value_counts(sort=False)
        counted = ", ".join(f"{number} {place}" for place, number in counts.to_dict().items())
        where = f"split {split!r}" if split else "test or dev"
        raise RunError(
            f"no clip of {where} has a label of {', '.join(run.tasks)}; labelled are "
            f"{counted or 'none: map labels with corpora.sources.<name>.labels.<task>'}; choose with --split"
        )
    return clips[wanted].reset_index(drop=True)


def _annotated(labels_NC: NDArray[np.float64], spec: TaskSpec) -> NDArray[np.bool_]:
    """Mark classes of a task of several labels that any clip is annotated for; of other tasks all.

    Where some are not, nor is neutral, the absence of all others, unless every annotated clip says so.
    """
    if spec.kind != "multi_label":
        return np.ones(spec.num_outputs, dtype=bool)
    there = np.isfinite(labels_NC)
    known = there.any(axis=0)
    if spec.neutral is not None and not known.all():
        known[spec.classes.index(spec.neutral)] &= there[there.any(axis=1), spec.classes.index(spec.neutral)].all()
    return known


def _with_classes(part: TaskSplit, known: NDArray[np.bool_]) -> TaskSplit:
    """Keep the known classes of a part alone, each of them decided as among all."""
    spec = part.spec
    thresholds = default_thresholds(spec) if part.thresholds is None else part.thresholds
    classes = tuple(name for name, here in zip(spec.classes, known, strict=True) if here)
    others = np.array([name != spec.neutral for name in classes])
    predicted = part.predicted[:, known].copy()
    predicted[np.ix_(only_neutral(part.predicted, spec), others)] = 0.0  # below every threshold
    neutral = spec.neutral if spec.neutral in classes else None
    fewer = spec.model_copy(update={"classes": classes, "neutral": neutral, "loss": "binary_cross_entropy"})
    return replace(part, spec=fewer, targets=part.targets[:, known], predicted=predicted, thresholds=thresholds[known])
