"""The newest finished run below a folder of runs, so that `runs/demo` can stand for it."""

from __future__ import annotations

import re
from pathlib import Path

from mmpsr.errors import UserError

__all__ = ["newest_run"]


def newest_run(folder: str | Path) -> Path:
    """Find the run that a folder means: the newest finished one in it, or the folder itself where it holds no runs.

    Args:
        folder: of a run, of the runs of one configuration (`runs/demo`), or of anything else.

    Raises:
        UserError: it holds runs, and none of them is finished.
    """
    folder = Path(folder)
    if not folder.is_dir() or any((folder / file).exists() for file in ("config.json", "bundle.json", "manifest.json")):
        return folder
    runs = sorted((path.parent for path in folder.glob("*/config.json")), key=_order)
    finished = [path for path in runs if (path / "results.json").exists()]
    if runs and not finished:
        raise UserError(
            f"{folder} holds {len(runs)} run{'s' * (len(runs) != 1)} and none of them is finished (the newest is "
            f"{runs[-1]}); go on with the command that began it and --resume"
        )
    return finished[-1] if finished else folder


def _order(path: Path) -> list[int | str]:
    """Put times in their order, then the numbers of runs that began in one second."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
