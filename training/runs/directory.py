"""The folder of one run, and what commands say where it is not one."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mmpsr.config import Config, ConfigError, flat
from mmpsr.errors import UserError
from mmpsr.files import json_lines, write_json, write_whole
from training.config import InTimeConfig, RunConfig, is_in_time

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MissingRunError",
    "RunDirectory",
    "RunError",
    "comparable",
    "is_run_in_time",
    "read_json",
    "read_tensors",
    "stored_settings",
]

PACKAGES = ("mmpsr", "accelerate", "av", "mediapipe", "numpy", "opensmile", "pandas", "torch", "transformers")


class RunError(UserError):
    """A run directory that cannot be read; the message says what was found, where, and what to do."""


class MissingRunError(RunError, FileNotFoundError):
    """A run directory, or a file of one, that is not there."""


def read_json(path: Path, name: str) -> Any:
    """Read a JSON file of a run directory.

    Raises:
        MissingRunError: it is missing.
        RunError: it is no JSON.
    """
    try:
        return json.loads((path / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "is no run directory" if not path.is_dir() else f"has no {name}: name the folder of a finished run"
        raise MissingRunError(f"{path} {what}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path / name} cannot be read ({error})") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file of a run directory.

    Raises:
        RunError: it is missing, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise RunError(f"{path} is missing; is it of a run directory?") from None
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read ({error}); the file is damaged or cut off") from None


class RunDirectory:
    """One run's folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.best = path / "best.safetensors"

    @classmethod
    def create(cls, config: RunConfig | InTimeConfig, name: str) -> RunDirectory:
        """Make a new folder, named after the time, and note configuration and versions in it."""
        parent = Path(config.output.directory) / name
        parent.mkdir(parents=True, exist_ok=True)
        stamp, number = datetime.now().strftime("%Y%m%d-%H%M%S"), 1
        while True:
            path = parent / (stamp if number == 1 else f"{stamp}-{number}")
            try:
                path.mkdir()
                break
            except FileExistsError:
                number += 1
        run = cls(path)
        run.write_json("versions.json", {"python": platform.python_version(), **package_versions()})
        run.write_json("config.json", config.model_dump(mode="json"))
        return run

    @classmethod
    def find(cls, config: RunConfig | InTimeConfig, name: str) -> RunDirectory | None:
        """Find the newest run of this configuration, or None where there is no run at all.

        Raises:
            ConfigError: there are runs, but of other configurations only; what differs is named.
        """
        parent = Path(config.output.directory) / name
        folders = sorted((path for path in parent.glob("*") if (path / "config.json").exists()), reverse=True)
        if not folders:
            return None
        wanted = comparable(config.model_dump(mode="json"))
        for path in folders:
            if comparable(stored_settings(path)) == wanted:
                return cls(path)
        latest = comparable(stored_settings(folders[0]))
        changed = sorted(key for key in wanted.keys() | latest.keys() if wanted.get(key) != latest.get(key))
        raise ConfigError(
            f"--resume: no run under {parent} has this configuration; the newest, {folders[0].name}, differs in "
            f"{', '.join(changed)}; repeat its settings, or start anew without --resume"
        )

    @property
    def finished(self) -> bool:
        """Whether the final evaluation is written."""
        return (self.path / "results.json").exists()

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file whole."""
        write_json(self.path / name, value)

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run; raises as the function `read_json`."""
        return read_json(self.path, name)

    def log(self, record: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def rewind(self, num_epochs: int) -> None:
        """Keep the lines of `metrics.jsonl` of the first epochs; a last one that was left half-written goes too.

        Raises:
            UserError: a line before the last is no record; file and line are named.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        records, _ = json_lines(path.read_bytes(), path)
        write_whole(path, "".join(json.dumps(record) + "\n" for record in records if record["epoch"] <= num_epochs))


def stored_settings(path: Path) -> dict[str, Any]:
    """Read a run's configuration; settings that have come since it was written count as their defaults.

    Raises:
        FileNotFoundError: the folder holds none.
        RunError: it is no JSON.
    """
    if not (path / "config.json").exists():
        raise FileNotFoundError(path / "config.json")
    stored: dict[str, Any] = read_json(path, "config.json")
    model: type[Config] = InTimeConfig if is_in_time(stored) else RunConfig
    try:
        return model.model_validate(stored).model_dump(mode="json")
    except ValidationError:  # of a version that knows other settings
        return stored


def comparable(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Name the settings that decide a run's result; who extracts and where runs lie does not."""
    others = ("features.num_workers", "features.executor", "features.chunk_size", "features.retry_failed")
    return {name: value for name, value in flat(tree).items() if name not in others and not name.startswith("output.")}


def package_versions() -> dict[str, str]:
    """Say which packages are installed, by name."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def is_run_in_time(path: str | Path) -> bool:
    """Tell whether a folder is a run of a model in time."""
    folder = Path(path)
    return (folder / "config.json").is_file() and is_in_time(read_json(folder, "config.json"))
