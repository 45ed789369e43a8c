"""What a shell offers after Tab: runs, configurations that ship or lie here, and settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["complete_configs", "complete_inputs", "complete_runs", "complete_settings"]

RUNS = "runs"
"""Folder in which runs lie where a configuration does not say otherwise."""


def complete_runs(incomplete: str) -> list[str]:
    """Offer folders of runs, finished runs and bundles: below `runs`, and below what is written already."""
    written = Path(incomplete)
    base = written if incomplete.endswith("/") else written.parent
    folders = {path for pattern in ("*", "*/*") for path in (*Path(RUNS).glob(pattern), *base.glob(pattern))}
    return sorted(path.as_posix() for path in folders if path.as_posix().startswith(incomplete) and _is_of_runs(path))


def complete_configs(incomplete: str) -> list[str]:
    """Offer the names of configurations that ship, and TOML files and folders here."""
    from mmpsr.config import shipped_configs

    written = Path(incomplete)
    base = written if incomplete.endswith("/") else written.parent
    return sorted(name for name in {*shipped_configs(), *_files(base)} if name.startswith(incomplete))


def complete_inputs(incomplete: str) -> list[str]:
    """Offer what `complete_runs` does, and files and folders here."""
    written = Path(incomplete)
    base = written if incomplete.endswith("/") else written.parent
    hidden = incomplete.rpartition("/")[2].startswith(".")
    here = (path for path in base.glob("*") if hidden or not path.name.startswith("."))
    names = {f"{path.as_posix()}/" if path.is_dir() else path.as_posix() for path in here}
    runs = complete_runs(incomplete)
    return sorted({*runs, *(name for name in names if name.startswith(incomplete) and name.rstrip("/") not in runs)})


def complete_settings(incomplete: str) -> list[str]:
    """Offer paths of settings of a run, up to the equals sign."""
    from training.config import RunConfig
    from training.drafting.settings import settings_of

    places = (setting.place for setting in settings_of(RunConfig) if "<" not in setting.place)
    return sorted({f"{place}=" for place in places if place.startswith(incomplete)})


def _is_of_runs(path: Path) -> bool:
    return (path / "results.json").exists() or (path / "bundle.json").exists() or any(path.glob("*/results.json"))


def _files(base: Path) -> Iterator[str]:
    """Yield TOML files, and folders, with the slash that goes on."""
    for path in base.glob("*"):
        if path.suffix == ".toml" and path.name != "pyproject.toml":
            yield path.as_posix()
        elif path.is_dir() and not path.name.startswith((".", "_")):
            yield f"{path.as_posix()}/"
