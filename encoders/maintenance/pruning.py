"""Removing from a feature store what a configuration does not use."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from encoders.maintenance.inventory import FolderReport, Usage
from encoders.store.claims import Claims
from encoders.store.parts import COMPACTED, STALE_SECONDS
from encoders.store.text_store import CORRECTIONS
from encoders.store.timed_store import part_of
from mmpsr.files import TEMPORARY

__all__ = ["Leftover", "find_leftovers", "prunable", "remove"]

_PATTERNS = (
    f".claims/{TEMPORARY}*",
    f"*/*/{TEMPORARY}*",
    f"*/*/[!.]*/{TEMPORARY}*",
    f"*/*/[!.]*/{COMPACTED}/{TEMPORARY}*",
    "*/*/[!.]*/frames-*.npy",
)


@dataclass(frozen=True)
class Leftover:
    """What a killed process left, below the store's root.

    A temporary file, a folder about to be removed, or rows of values in time that no part names.
    """

    path: str
    num_bytes: int


def find_leftovers(root: Path) -> list[Leftover]:
    """List what killed processes left in a store, in the order of paths."""
    leftovers = []
    for pattern in _PATTERNS:
        for path in root.glob(pattern):
            if path.suffix == ".npy" and part_of(path).exists():
                continue
            try:
                state = path.lstat()
                if path.is_dir() and not path.is_symlink():
                    num_bytes = sum(file.lstat().st_size for file in path.rglob("*"))
                elif time.time() - state.st_mtime > STALE_SECONDS:
                    num_bytes = state.st_size
                else:
                    continue
            except FileNotFoundError:  # its writer has just finished
                continue
            leftovers.append(Leftover(path.relative_to(root).as_posix(), num_bytes))
    return sorted(leftovers, key=lambda leftover: leftover.path)


def prunable(root: Path, reports: Iterable[FolderReport], usage: Usage) -> list[FolderReport]:
    """List folders of the configuration's corpora and encoders that it does not use.

    They have another fingerprint, or hold sequences or values in time that it does not use.

    Those of other corpora and other encoders stay, as do folders with a file of corrections (a person's work), linked
    ones, and those whose `encoder.json` cannot be read, since nobody knows whose they are.
    """
    used = {(*folder.split("/")[:2], encoder) for folder, encoder in usage.folders.items()}
    return [
        report
        for report in reports
        if report.folder not in usage.folders
        and (report.corpus, report.modality, report.encoder) in used
        and not (root / report.folder / CORRECTIONS).exists()
        and not (root / report.folder).is_symlink()
    ]


def remove(root: Path, folders: Iterable[str], leftovers: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Remove folders and leftovers, each path below the store's root.

    While any other process adds to the store no folder is removed: the process may use a folder that it works on no
    more. A folder is renamed before it is emptied, so that it is there whole or not at all.

    Returns:
        What was removed, and what was kept with the reason.
    """
    removed: list[str] = []
    kept: dict[str, str] = {}
    doomed: list[Path] = []
    with Claims(root) as claims:
        with claims.exclusive:
            at_work = sorted(set(claims.others().values()))
            for folder in folders:
                if at_work:
                    kept[folder] = f"{', '.join(at_work)} works on the store"
                    continue
                path = root / folder
                doomed.append(path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}"))
                path.rename(doomed[-1])
                removed.append(folder)
        for path in doomed:
            shutil.rmtree(path)
    for name in leftovers:
        path = root / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        removed.append(name)
    return removed, kept
