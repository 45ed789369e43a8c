"""A finished run's model, ready to predict: weights, tasks, encoders and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.config import FeaturesConfig
from encoders.extraction.read import encoder_specs, sequence_specs
from mmpsr.calibration.calibration import Calibration
from mmpsr.calibration.conformal import Promise
from mmpsr.calibration.novelty import ClipNovelty, Novelty
from mmpsr.config import validate
from mmpsr.executors.base import LOCAL
from mmpsr.models.base import FusionModel
from mmpsr.models.build import restore_model
from mmpsr.tasks import TasksConfig, TaskSpec
from training.class_texts.model import NearestTexts, TrainedAndNearest
from training.class_texts.zero_shot import ZeroShot
from training.config import DataConfig, RunConfig
from training.data.joined import JoinedCorpora
from training.data.selection import active_features
from training.runs.directory import RunError, read_json, read_tensors
from training.runs.origin import GENERATED, Origin, run_origin
from training.scoring.novelty import NOVELTY, clip_novelty, parse_novelty
from training.scoring.scores import predict

__all__ = ["TrainedModel", "feature_keys"]


def feature_keys(features: FeaturesConfig) -> dict[str, str]:
    """Name encoder and fingerprint by modality, then those of sequences by their subject."""
    specs = encoder_specs(features)
    sequences = {spec.subject: spec for spec in sequence_specs(features, specs).values()}
    return {name: spec.key for name, spec in (*specs.items(), *sequences.items())}


@dataclass(frozen=True)
class TrainedModel:
    """What is needed to predict as the run's own evaluation did.

    Attributes:
        model: best dev weights, evaluation mode.
        tasks: specifications by task name.
        features: encoders of the model's modalities, in its order.
        calibration: fitted on dev, applied to every prediction.
        config: the run's resolved configuration.
        fingerprints: of encoders, as the run wrote them, by modality, then those of sequences by their subject.
        origin: corpora and main figures of the run; None where they are not known.
        novelty: fitted on train and dev; without any modality where the run or bundle was written before it was stored.
        zero_shot: tasks that are predicted by class texts: all of them, or some beside the trained ones.
    """

    model: FusionModel
    tasks: dict[str, TaskSpec]
    features: FeaturesConfig
    calibration: Calibration
    config: RunConfig
    fingerprints: Mapping[str, str]
    origin: Origin | None = field(default=None, kw_only=True)
    novelty: Novelty = field(default_factory=Novelty, kw_only=True)
    zero_shot: ZeroShot | None = field(default=None, kw_only=True)

    @classmethod
    def read(cls, path: Path, device: torch.device | str = "cpu") -> TrainedModel:
        """Load a run; what is extracted for it is extracted here, wherever its own clips were.

        Args:
            path: run directory.
            device: of the model.

        Raises:
            RunError: there is no finished run, or its weights are not those of its configuration.
        """
        config = validate(RunConfig, read_json(path, "config.json"), str(path / "config.json"))
        here = config.features.model_copy(update={"executor": LOCAL})
        config = config.model_copy(update={"features": here})
        calibration = Calibration.from_dict(read_json(path, "calibration.json"), str(path / "calibration.json"))
        weights, tasks = path / "best.safetensors", config.tasks.resolve()
        if not weights.exists():
            raise RunError(f"{path} has no best.safetensors, the weights; is it a run directory?")
        fingerprints = read_json(path, "features.json")
        modalities = [name for name in fingerprints if name in config.data.modalities]  # in the order of the model
        state = read_tensors(weights)
        try:
            model = restore_model(config.model, modalities, tasks, state)
        except ValueError as error:
            raise RunError(f"{weights}: {error}") from error
        file, novelty = path / NOVELTY, Novelty()
        try:
            if file.exists():
                novelty = parse_novelty(file.read_bytes(), model, file)
        except ValueError as error:
            raise RunError(f"{error}; remove the file to predict without novelty") from error
        return cls(
            model.to(device),
            tasks,
            active_features(config.features, modalities),
            calibration,
            config,
            fingerprints,
            origin=run_origin(path, config.corpora),
            novelty=novelty,
        )

    @classmethod
    def of_texts(
        cls, zero_shot: ZeroShot, config: RunConfig | None = None, features: FeaturesConfig | None = None
    ) -> TrainedModel:
        """Make class texts a model of their own, which nothing was trained for.

        Args:
            zero_shot: the tasks.
            config: of corpora, where they are to be evaluated; else of nothing.
            features: encoders of the modalities that are compared; those of the configuration where left out.
        """
        config, tasks = config or RunConfig(), zero_shot.model.tasks
        features = active_features(features or config.features, zero_shot.model.modalities)
        specs = {name: spec.model_dump(mode="json") for name, spec in tasks.items()}
        changes = {
            "features": features, "data": DataConfig(modalities=zero_shot.model.modalities),
            "tasks": TasksConfig(active=tuple(tasks), specs=specs),
        }  # fmt: skip
        resolved = RunConfig(**{**dict(config), **changes})
        return cls(
            zero_shot.model, dict(tasks), features, Calibration(), resolved, feature_keys(features), zero_shot=zero_shot
        )

    def with_texts(self, zero_shot: ZeroShot) -> TrainedModel:
        """Predict tasks by class texts beside one's own, from the same vectors."""
        model = TrainedAndNearest(self.model, zero_shot.model)
        return replace(self, model=model.to(_device(self.model)), tasks=dict(model.tasks), zero_shot=zero_shot)

    @property
    def is_untrained(self) -> bool:
        """Whether all its tasks are predicted by class texts."""
        return isinstance(self.model, NearestTexts)

    def statement(self, task: str) -> str:
        """Say what the numbers of a task are, see `mmpsr.calibration.calibration.Calibration.statement`."""
        if self.zero_shot is not None and task in self.zero_shot.sources:
            return self.zero_shot.statement(task)
        return self.calibration.statement(task, self.tasks[task])

    def promise(self, task: str, level: float) -> Promise:
        """Tell what is promised of a task's sets or intervals, see `mmpsr.calibration.conformal.promise`.

        Corpora that a program made have no name that a real one has.
        """
        corpora = [] if self.origin is None else [corpus for corpus in self.origin.corpora if corpus.generated]
        names = {corpus.name: f"{GENERATED} {number}" for number, corpus in enumerate(corpora, start=1)}
        return self.calibration.promise(task, self.tasks[task], level).with_names(names)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The model's modalities, in its order."""
        return self.model.modalities

    def about(self, name: str) -> str:
        """Write the line that stands over predictions, see `training.runs.origin.Origin`; `name` opened the model."""
        if self.zero_shot is not None and self.is_untrained:
            return self.zero_shot.about
        return (self.origin or Origin(name)).line(name)

    def predict(self, joined: JoinedCorpora, rows: torch.Tensor) -> dict[str, NDArray[np.float64]]:
        """Predict calibrated probabilities or scores, per task `[n, C]`; see `training.scoring.scores.predict`."""
        return self.calibration.apply_all(predict(self.model, joined, rows))

    def judge_novelty(self, joined: JoinedCorpora, rows: torch.Tensor) -> list[dict[str, ClipNovelty]]:
        """Tell how unlike the training clips each clip's modalities are; see `training.scoring.novelty`."""
        return clip_novelty(self.novelty, self.model, joined, rows)


def _device(model: FusionModel) -> torch.device:
    return next(model.buffers()).device
