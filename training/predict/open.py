"""The predictor of a run directory, a bundle's folder, or a bundle's id on the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.bundle.files import CONTENT
from training.predict.inputs import InputError
from training.predict.predictor import Predictor

__all__ = ["open_predictor"]


def open_predictor(
    model: str,
    num_processes: int = 0,
    weights: Mapping[str, str] | None = None,
    trust_remote_code: Sequence[str] = (),
    allow_custom_encoders: bool = False,
) -> Predictor:
    """The predictor of a run directory, a bundle's folder, or a bundle's id on the hub.

    Args:
        model: folder or id.
        num_processes: see `Predictor`.
        weights: folders of local weights by encoder.
        trust_remote_code: encoders whose own code may run.
        allow_custom_encoders: import a bundle's encoders that are classes of one's own; a run's always are.

    Raises:
        InputError: there is no such folder, and it cannot be an id.
    """
    path = Path(model)
    own: dict[str, Any] = {"weights": weights, "trust_remote_code": trust_remote_code}
    if path.is_dir() and not (path / CONTENT).exists():
        return Predictor.from_run(path, num_processes, **own)
    if path.is_dir() or (model.count("/") == 1 and not model.startswith((".", "/", "~"))):
        own["allow_custom_encoders"] = allow_custom_encoders
        return Predictor.from_pretrained(model, num_processes=num_processes, **own)
    raise InputError(f"{model} is no folder; name a finished run or a bundle")
