"""A finished run of a model in time, ready to predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from encoders.config import FeaturesConfig
from encoders.extraction.read import make_encoders, timed_specs
from mmpsr.config import validate
from mmpsr.layers.standardizer import Standardizer
from mmpsr.tasks import TaskSpec
from mmpsr.temporal.base import TemporalModel
from mmpsr.temporal.build import restore_temporal
from training.config import InTimeConfig
from training.data.selection import active_features
from training.in_time.data import Scale
from training.runs.directory import RunError, read_json, read_tensors
from training.runs.origin import Origin, run_origin

__all__ = [
    "InTimeModel",
    "features_in_time",
]


def features_in_time(config: InTimeConfig) -> FeaturesConfig:
    """Keep the encoders of the modalities in use, and keep what they give in time.

    Raises:
        ConfigError: a modality has no encoder.
    """
    features = active_features(config.features, config.data.modalities)
    return features.model_copy(update={"timed": config.data.modalities})


@dataclass(frozen=True)
class InTimeModel:
    """What is needed to predict as the run's own evaluation did.

    Attributes:
        model: best dev weights, evaluation mode.
        task: name of the one task.
        spec: its classes.
        features: encoders of the model's modalities, in time.
        config: the run's resolved configuration.
        fingerprints: of encoders, as the run wrote them, by modality.
        origin: corpora and main figures of the run.
    """

    model: TemporalModel
    task: str
    spec: TaskSpec
    features: FeaturesConfig
    config: InTimeConfig
    fingerprints: Mapping[str, str]
    origin: Origin

    @classmethod
    def read(cls, path: Path) -> InTimeModel:
        """Load a run, on the CPU.

        Raises:
            RunError: there is no finished run, or its weights are not those of its configuration.
        """
        config = validate(InTimeConfig, read_json(path, "config.json"), str(path / "config.json"))
        weights, (task,) = path / "best.safetensors", config.tasks.active
        if not weights.exists():
            raise RunError(f"{path} has no best.safetensors, the weights; is the run finished?")
        spec = config.tasks.resolve()[task]
        try:
            model = restore_temporal(config.model, config.data.modalities, spec.num_outputs, read_tensors(weights))
        except ValueError as error:
            raise RunError(f"{weights}: {error}") from error
        return cls(
            model, task, spec, features_in_time(config), config, read_json(path, "features.json"),
            run_origin(path, config.corpora),
        )  # fmt: skip

    @property
    def scales(self) -> dict[str, Scale]:
        """Statistics of each modality over the training frames, as the weights hold them."""
        fitted = {name: cast(Standardizer, self.model.standardizers[name]) for name in self.model.modalities}
        return {name: Scale(each.mean.numpy(), each.std.numpy()) for name, each in fitted.items()}

    def check_encoders(self) -> None:
        """Refuse a model whose features the encoders that are installed would make differently.

        Raises:
            RunError: an encoder has another fingerprint than the one that made the features that it was trained on.
            ConfigError: there is no such encoder.
            ExtractionError: it cannot be imported.
        """
        for modality, spec in timed_specs(self.features, make_encoders(self.features)).items():
            stored = self.fingerprints.get(modality)
            if spec.key != stored:
                raise RunError(
                    f"{modality}: the model was trained on features of {stored}, the encoder installed here makes "
                    f"those of {spec.key}; predictions would be wrong. Install mmpsr with the packages of the run "
                    "(its versions.json), or train again"
                )

    def about(self, name: str) -> str:
        """Write the line that stands over predictions; `name` opened the model."""
        return self.origin.line(name)
