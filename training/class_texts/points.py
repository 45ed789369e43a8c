"""The points of the classes of a run's tasks in the space of its text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from encoders.config import FeaturesConfig
from mmpsr.prototypes.points import default_wordings, embed_prototypes
from mmpsr.tasks import TaskSpec
from training.class_texts.embedding import embed_texts

__all__ = ["class_points"]


def class_points(
    features: FeaturesConfig, modalities: Sequence[str], tasks: Mapping[str, TaskSpec]
) -> dict[str, dict[str, Tensor]]:
    """Embed the texts of the tasks that have some, for text, and for behavior where it is embedded by the same encoder.

    Args:
        features: encoders.
        modalities: of the model.
        tasks: some of them with `texts`.

    Returns:
        By task and modality `[P, C, W]`; a task without texts is left out, and all of them are without such a modality,
        and where the vectors of text were made elsewhere, so that no encoder is there that could embed texts.

    Raises:
        ConfigError: a text has nothing that the encoder reads.
        ExtractionError: the encoder cannot be loaded.
    """
    encoder = features.encoders.get("text")
    if encoder is None or encoder in features.precomputed or encoder == "vectors":
        return {}
    compared = [name for name in ("text", "behavior") if name in modalities and features.encoders.get(name) == encoder]
    points: dict[str, dict[str, Tensor]] = {}
    for task, spec in tasks.items():
        if spec.texts is None or not compared:
            continue
        points[task] = {
            name: torch.from_numpy(
                embed_prototypes(
                    spec.texts, spec.classes, default_wordings(name),
                    lambda texts: embed_texts(texts, features), spec.kind == "regression",
                )
            )
            for name in compared
        }  # fmt: skip
    return points
