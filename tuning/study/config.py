"""A study: named rows of settings over one base configuration, and seeds.

```toml
base = "../demo.toml"                  # relative to this file
seeds = [0, 1, 2]
compare_to = "full"                    # optional: differences from this row, paired by seed
folds = 5                              # optional: cross-validation; then as many seeds of each fold, as 0 to 4

[settings]                             # optional: of every row
"training.num_epochs" = 40

[columns]                              # optional: corpora, splits, tasks and metrics; left out, all test figures
metrics = ["macro_f1"]

[[rows]]
name = "full"

[[rows]]
name = "graph attention"
settings = { "model.graph" = "gat" }   # or ["model.graph=gat"], as on the command line

[[rows]]
name = "without sound, emotion alone"
without = ["audio"]                    # modalities, tasks or corpora; a corpus is then tested without being trained on
only = ["emotion"]
published = "12"                       # optional: the row of the table named by `published` that was printed for it
```

In a table of settings a table changes only the keys that it has, and an empty one empties; in a list, as on the command
line, a value replaces what was there. A row whose `without` or `only` names what the configuration does not have is
left out, and the table says why. So is one that comes to the same as a row above it on another base than its own.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mmpsr.config import Config, ConfigError, find_config, nearest, read_toml, validate
from mmpsr.files import sha256_of
from mmpsr.metrics.definitions import METRICS
from training.config import RunConfig
from training.data.few_labels import hidden_key
from training.data.selection import active_features
from training.runs.directory import RunDirectory, comparable, stored_settings
from tuning.study.published import PublishedTables, read_published
from tuning.study.rows import InapplicableError, RowConfig, Settings, resolve_row

__all__ = ["Cell", "ColumnsConfig", "Study", "StudyConfig", "load_study"]


class ColumnsConfig(Config):
    """Which figures are columns; what is left out is not restricted."""

    corpora: tuple[str, ...] = ()
    """Corpora."""
    splits: tuple[Literal["dev", "test"], ...] = ()
    """Splits; left out, test, and dev of corpora without test."""
    tasks: tuple[str, ...] = ()
    """Tasks."""
    metrics: tuple[str, ...] = ()
    """Names of metrics."""
    cost: bool = False
    """Whether parameters, seconds and memory of training are columns, too; see `training.fit.cost`."""


class StudyConfig(Config):
    """A table to be filled."""

    base: str
    """Configuration that all rows start from, relative to the study's file."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds that each row is trained with."""
    folds: int | None = Field(default=None, ge=3)
    """Cross-validation over groups: with seed s every corpus that is trained on is split anew, whatever its splits,
    and fold s modulo `folds` is its test, one more fold's worth of the other groups its dev."""
    stack: bool = True
    """Train runs of one shape together, as far as they can be: seeds, folds, and rows that differ in dropout, rates or
    weights of losses. A figure is then that of the run alone to 1e-5. Columns of costs are of runs alone."""
    settings: Settings = Field(default_factory=dict)
    """What all rows change, before their own settings."""
    rows: tuple[RowConfig, ...] = Field(min_length=1)
    """Rows in the table's order."""
    columns: ColumnsConfig = Field(default_factory=ColumnsConfig)
    """Which figures are columns."""
    compare_to: str | None = None
    """Row that all others are compared with, seed by seed."""
    published: str | tuple[str, ...] = ()
    """Printed tables whose figures stand beside the rows that name a row of theirs: names of those that ship in
    `configs/published/`, or CSV files relative to the study's file; see `tuning.study.published`."""
    published_columns: dict[str, str] = Field(default_factory=dict)
    """Head of a printed column -> the figure that it is, as corpus/task/metric; left out, the one of that title."""

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds) or min(seeds, default=0) < 0:
            raise ValueError("seeds are different numbers from 0 on")
        return seeds

    @model_validator(mode="after")
    def _folds_alike(self) -> StudyConfig:
        counts = Counter(seed % self.folds for seed in self.seeds) if self.folds else Counter()
        if self.folds and (len(counts) < self.folds or len(set(counts.values())) > 1):
            raise ValueError(
                f"seed s is fold s modulo {self.folds}, and seeds {list(self.seeds)} do not give every fold as often; "
                f"take seeds 0 to {self.folds - 1}, or to {2 * self.folds - 1}"
            )
        return self


@dataclass(frozen=True)
class Cell:
    """One run of a study: a row with a seed.

    Attributes:
        row: the row's name.
        seed: also `config.training.seed`.
        config: resolved.
        path: folder of the run.
    """

    row: str
    seed: int
    config: RunConfig
    path: Path

    @property
    def digest(self) -> str:
        """Hash of the configuration."""
        return configuration_hash(self.config.model_dump(mode="json"))

    @property
    def is_done(self) -> bool:
        """Whether the folder holds the results of this configuration."""
        return RunDirectory(self.path).finished and self.stored_digest == self.digest

    @property
    def stored_digest(self) -> str | None:
        """Hash of the configuration that the folder holds, None where it has none.

        Settings that have come since it was written count as their defaults.
        """
        try:
            return configuration_hash(stored_settings(self.path))
        except FileNotFoundError:
            return None

    @property
    def data_key(self) -> str:
        """What the clips, their vectors and the linear baseline depend on, as text."""
        config = self.config
        features = active_features(config.features, config.data.modalities)
        unread = {"loss", "threshold", "presence_floor"}
        if config.linear.fusion == "concatenated":
            unread.add("texts")
        tasks = {name: spec.model_dump(exclude=unread) for name, spec in config.tasks.resolve().items()}
        sections = [config.corpora, features, config.linear]
        parts = [section.model_dump(mode="json") for section in sections]
        return json.dumps([*parts, tasks, config.model.reads_sequences, *hidden_key(config)])


@dataclass(frozen=True)
class Study:
    """A study whose rows are all valid.

    Attributes:
        name: the file's name without suffix.
        path: the file.
        folder: where runs and tables are.
        base: the base configuration's file.
        config: as written, with the seeds in use.
        cells: row by row, seed by seed.
        inapplicable: rows that make no sense on this base, and why.
        published: printed tables, None where the study names none.
    """

    name: str
    path: Path
    folder: Path
    base: Path
    config: StudyConfig
    cells: tuple[Cell, ...]
    inapplicable: Mapping[str, str]
    published: PublishedTables | None = None

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows."""
        return tuple(row.name for row in self.config.rows)


def configuration_hash(tree: dict[str, Any]) -> str:
    """Sum up what decides a run's result in a resolved configuration, as `config.json` holds it."""
    return sha256_of(json.dumps(comparable(tree), sort_keys=True))[:16]


def load_study(
    path: str | Path, settings: Sequence[str] = (), seeds: Sequence[int] | None = None, base: Path | None = None
) -> Study:
    """Read a study and resolve every row.

    Args:
        path: TOML file.
        settings: `section.key=value` over all rows.
        seeds: in place of the file's.
        base: configuration to start from in place of the file's.

    Raises:
        ConfigError: the file, a column or a row is wrong; all wrong rows are named at once.
    """
    path, base = find_config(path), None if base is None else find_config(base)
    tree = read_toml(path)
    config = validate(StudyConfig, tree if seeds is None else {**tree, "seeds": tuple(seeds)}, str(path))
    folders = _folders(path, config)
    name = path.stem if base is None else f"{path.stem}-{base.stem}"
    file = base or path.parent / config.base
    start = read_toml(file)
    if config.compare_to is not None and config.compare_to not in folders:
        raise ConfigError(f"{path}: compare_to: no row is named {config.compare_to!r}; "
                          f"{nearest(config.compare_to, folders)}")  # fmt: skip
    resolved: dict[str, RunConfig] = {}
    inapplicable: dict[str, str] = {}
    errors: list[str] = []
    for row in config.rows:
        source = f"{path}: row {row.name!r}"
        try:
            resolved[row.name] = resolve_row(start, config.settings, row, settings, source)
        except InapplicableError as error:
            inapplicable[row.name] = str(error)
        except ConfigError as error:
            message = str(error)
            errors.append(message if message.startswith(source) else f"{source}: {message}")
    if errors:
        raise ConfigError("\n".join(errors))
    first_rows: dict[str, str] = {}
    for row_name, row_config in list(resolved.items()):
        other = first_rows.setdefault(configuration_hash(row_config.model_dump(mode="json")), row_name)
        if other == row_name:
            continue
        if base is None:
            raise ConfigError(
                f"{path}: rows {other!r} and {row_name!r} are the same configuration; take one out, or mend the "
                "settings that were to tell them apart"
            )
        del resolved[row_name]
        inapplicable[row_name] = f"on {base.name} it is the same configuration as row {other!r}"
    for row_name in inapplicable:
        if row_name == config.compare_to or not resolved:
            raise ConfigError(f"{path}: row {row_name!r} cannot be left out: {inapplicable[row_name]}")
    _require_columns(path, config.columns, resolved)
    published = _published(path, config)
    folder = Path(next(iter(resolved.values())).output.directory) / name
    cells = [
        Cell(name, seed, _with_seed(row_config, seed, config.folds), folder / folders[name] / str(seed))
        for name, row_config in resolved.items()
        for seed in config.seeds
    ]
    return Study(name, path, folder, file, config, tuple(cells), inapplicable, published)


def _folders(path: Path, config: StudyConfig) -> dict[str, str]:
    """Name the folder of each row: its name in small letters, with all that is no letter, digit or dot as dashes."""
    folders: dict[str, str] = {}
    for row in config.rows:
        folder = re.sub(r"[^a-z0-9.]+", "-", row.name.lower()).strip("-.")
        taken = [name for name, other in folders.items() if other == folder]
        if not folder or taken:
            why = f"has the folder {folder!r} of row {taken[0]!r}" if taken else "has no letter or digit"
            raise ConfigError(f"{path}: row {row.name!r} {why}; name it differently")
        folders[row.name] = folder
    return folders


def _published(path: Path, config: StudyConfig) -> PublishedTables | None:
    """Read the printed tables, and see that every row and column that the study names is there."""
    names = (config.published,) if isinstance(config.published, str) else config.published
    if not names:
        for row in config.rows:
            if row.published_rows:
                raise ConfigError(f"{path}: row {row.name!r} has published = {row.published!r}, and the study names no "
                                  'printed table; add published = "table01", for example')  # fmt: skip
        return None
    tables = read_published(names, path.parent)
    for row in config.rows:
        try:
            tables.joined(row.published_rows)
        except ConfigError as error:
            raise ConfigError(f"{path}: row {row.name!r}: {error}") from None
    for head, figure in config.published_columns.items():
        if head not in tables.heads:
            raise ConfigError(f"{path}: published_columns: no printed column is headed {head!r}; "
                              f"{nearest(head, tables.heads)}")  # fmt: skip
        _, _, metric = [*figure.split("/"), "", ""][:3]
        if figure.count("/") != 2 or metric not in METRICS:
            raise ConfigError(f"{path}: published_columns: expected corpus/task/metric, as in "
                              f"bah/ambivalence/macro_f1; found {figure!r}; {nearest(metric, METRICS)}")  # fmt: skip
    return tables


def _with_seed(config: RunConfig, seed: int, folds: int | None) -> RunConfig:
    seeded = config.model_copy(update={"training": config.training.model_copy(update={"seed": seed})})
    if folds is None:
        return seeded
    fold = {"of": folds, "number": seed % folds, "dev": 1 / (folds - 1)}
    tree = seeded.model_dump(mode="json")
    for name in config.corpora.trained():
        tree["corpora"]["sources"][name] |= {"fold": fold, "fractions": None, "hold_out": None}
    return validate(RunConfig, tree, f"folds = {folds}")


def _require_columns(path: Path, columns: ColumnsConfig, resolved: Mapping[str, RunConfig]) -> None:
    known = {
        "corpora": {name for config in resolved.values() for name in config.corpora.sources},
        "tasks": {name for config in resolved.values() for name in config.tasks.active},
        "metrics": set(METRICS),
    }
    for kind, names in (("corpora", columns.corpora), ("tasks", columns.tasks), ("metrics", columns.metrics)):
        for name in names:
            if name not in known[kind]:
                raise ConfigError(f"{path}: columns.{kind}: nothing is named {name!r}; {nearest(name, known[kind])}")
