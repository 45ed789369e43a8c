"""The files of a bundle, read so that nothing in them can run: names, JSON and weights.

A bundle is `model.safetensors`, `bundle.json` and `README.md` in one folder, and mostly
`novelty.safetensors`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mmpsr.errors import UserError
from training.scoring.novelty import NOVELTY

__all__ = [
    "CARD",
    "CONTENT",
    "ESTIMATOR",
    "FILES",
    "OPTIONAL",
    "WEIGHTS",
    "BundleError",
    "new_folder",
    "read_content",
    "read_file",
    "require_free",
    "require_name",
    "require_no_pickle",
    "to_tensors",
    "weights_bytes",
]

WEIGHTS, CONTENT, CARD = "model.safetensors", "bundle.json", "README.md"
FILES = (WEIGHTS, CONTENT, CARD)
"""Of every bundle."""
ESTIMATOR = "estimator.json"
"""Of an estimator of one task: its class, the columns of X, and what its outputs are called."""
OPTIONAL = (NOVELTY, ESTIMATOR)
"""Of bundles that have them."""
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill")


class BundleError(UserError):
    """A bundle that cannot or must not be used; the message says what was found, where, and what to do."""


def require_no_pickle(folder: Path) -> None:
    """Refuse a folder that holds a file of a kind that is unpickled when loaded, however deep.

    Raises:
        BundleError: there is no such folder, or such a file is in it.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder} is no folder; a bundle is a folder with {', '.join(FILES)}")
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            if name.lower().endswith(PICKLED):
                raise BundleError(
                    f"{Path(place) / name} is a pickled file, which can run code when it is loaded; a bundle's weights "
                    f"are {WEIGHTS} alone: remove it, or get the bundle from a source that you trust"
                )


def require_name(place: str, name: str) -> None:
    """Refuse a file name in a bundle that leaves its folder, or that belongs to a pickled file.

    Args:
        place: where the name stands, for messages.
        name: as it stands there.

    Raises:
        BundleError: it does.
    """
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    is_absolute = PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor) or name.startswith("~")
    if is_absolute or ".." in parts:
        raise BundleError(f"{place}: {name!r} leads out of the bundle's folder; a bundle has its own files only")
    if name.lower().endswith(PICKLED):
        raise BundleError(
            f"{place}: {name!r} is a pickled file, which can run code when it is loaded; weights are {WEIGHTS}"
        )


def read_file(folder: Path, name: str) -> bytes:
    """Read a file of the bundle.

    A symbolic link must end in the folder itself; of a download in the hub's cache (`snapshots/<commit>`), in the
    `blobs` of the same repository.

    Raises:
        BundleError: it is missing, no file, or a link that leads elsewhere.
    """
    path, home = folder / name, folder.resolve()
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    target = path.resolve()
    if not any(target.is_relative_to(place) for place in homes):
        raise BundleError(f"{path} is a symbolic link to {target}, which leads out of the bundle's folder")
    if not target.is_file():
        raise BundleError(f"{folder} has no file {name}; a bundle has {', '.join(FILES)}")
    return target.read_bytes()


def read_content(folder: Path) -> dict[str, Any]:
    """Read `bundle.json` as plain values.

    Raises:
        BundleError: it is missing, or no JSON object of finite numbers.
    """

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no number")

    try:
        tree = json.loads(read_file(folder, CONTENT), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder / CONTENT} cannot be read: {error}") from None
    if not isinstance(tree, dict):
        raise BundleError(f"{folder / CONTENT} holds {type(tree).__name__}, expected an object")
    return tree


def weights_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Make tensors the content of a safetensors file."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def to_tensors(data: bytes, source: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Args:
        data: its content.
        source: where it lies, for messages.

    Raises:
        BundleError: it is no safetensors file, or a number in it is not finite.
    """
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise BundleError(f"{source} is not a safetensors file ({error}); no other form of weights is read") from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise BundleError(f"{source}: {name} holds NaN or infinity, so that predictions would; train once more")
    return tensors


def require_free(folder: Path, force: bool) -> None:
    """Refuse a place that a bundle must not be written to.

    Args:
        folder: to be written; an empty one may be there.
        force: whether a bundle that is there may be replaced.

    Raises:
        BundleError: something is there that must not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is a file; name a folder for the bundle")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if foreign := sorted(names - {*FILES, *OPTIONAL}):
        raise BundleError(f"{folder} holds {foreign[0]!r}, which is no bundle's; name a new folder")
    if names and not force:
        raise BundleError(f"{folder} is a bundle already; name a new folder, or replace it with --force (force=True)")


@contextmanager
def new_folder(folder: Path, force: bool) -> Iterator[Path]:
    """Make a folder to write into, which is named `folder` once all is written, and vanishes where an error comes.

    Args:
        folder: to be written; see `require_free`, also for what is raised.
        force: whether a bundle that is there may be replaced.
    """
    require_free(folder, force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (folder.with_name(f".{folder.name}.{kind}.{os.getpid()}") for kind in ("new", "old"))
    temporary.mkdir()
    try:
        yield temporary
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
