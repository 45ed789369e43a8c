"""A trained model whose encoders find their weights on this machine: what no bundle says, because it is told here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from encoders.catalogue.entry import EMBEDDED
from encoders.config import FeaturesConfig
from encoders.creation import CATALOGUE
from mmpsr.config import ConfigError, nearest, validate
from training.runs.trained import TrainedModel

__all__ = ["hint_at_local_weights", "with_local_weights"]

Model = TypeVar("Model", bound=TrainedModel)


def with_local_weights(trained: Model, weights: Mapping[str, str | Path], trust_remote_code: Collection[str]) -> Model:
    """The model with local copies of encoders' weights, and leave for code that comes with some.

    Fingerprints are those of the weights' content, so `training.bundle.bundle.check_encoders` refuses others.

    Args:
        trained: the model.
        weights: folder or file by encoder, or by the repository of its weights; the same for models that write texts.
        trust_remote_code: encoders whose own code may run.

    Raises:
        ConfigError: the model uses nothing of a name, or runs no code that would need leave.
    """
    features = trained.features
    homes = _homes(features)
    for option, names in (("weights", weights), ("trust_remote_code", trust_remote_code)):
        for name in names:
            if name not in homes:
                what = nearest(name, homes) if homes else "it uses none that are not part of an installed package"
                raise ConfigError(f"{option}: the model uses no pretrained weights named {name!r}; {what}")
    changes = {
        "weights": features.weights | {homes[name]: str(place) for name, place in weights.items()},
        "trust_remote_code": (*features.trust_remote_code, *(homes[name] for name in trust_remote_code)),
    }
    return replace(trained, features=validate(FeaturesConfig, features.model_dump() | changes, "local weights"))


def hint_at_local_weights(features: FeaturesConfig) -> str:
    """A sentence for who cannot use a model's encoders; nothing where all of them come with an installed package."""
    if not _homes(features):
        return ""
    return (
        ". A local copy of weights is named by `weights` (mmpsr predict --weights ENCODER=FOLDER), an encoder whose "
        "own code may run by `trust_remote_code` (--trust-remote-code ENCODER)"
    )


def _homes(features: FeaturesConfig) -> dict[str, str]:
    """What `features.weights` calls the weights in use, by encoder and by that name itself."""
    homes: dict[str, str] = {}
    for encoder in features.encoders.values():
        entry = CATALOGUE.get(encoder)
        if entry is not None and entry.family != EMBEDDED:
            homes |= {entry.id: entry.home, entry.home: entry.home}
    writers = features.transcriber, features.describer
    return homes | {writer.model: writer.model for writer in writers if writer is not None}
