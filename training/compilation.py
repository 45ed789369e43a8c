"""A model whose forward and backward pass are compiled."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable

import torch

from mmpsr.batch import Batch, Predictions
from mmpsr.config import ConfigError
from mmpsr.models.base import FusionModel

__all__ = ["compile_model"]

COMPILERS = {"darwin": "clang++", "win32": "cl"}


def compile_model(model: FusionModel) -> Callable[[Batch], Predictions]:
    """The model as one compiled function of a batch, with the same parameters and state.

    It is compiled when it is first called, and again when batches of another size come. Dropout draws other numbers
    than uncompiled.

    Raises:
        ConfigError: on a CPU without a C++ compiler.
    """
    if next(model.parameters()).device.type == "cpu":
        name = os.environ.get("CXX") or COMPILERS.get(sys.platform, "g++")
        if shutil.which(name) is None:
            raise ConfigError(
                f"training.compile needs a C++ compiler on a CPU, and there is no {name!r} here; install one, "
                "name it by the environment variable CXX, or leave training.compile out"
            )
    return torch.compile(model)
