"""A search as its file says and its workers know it, the clips that it sees, and the objective of its trials."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from accelerate import Accelerator
from rich.console import Console

from corpora.clips import CorpusError
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError, find_config, read_toml, resolve
from training.config import RunConfig
from training.data.few_labels import hidden_key
from training.data.joined import JoinedCorpora
from training.data.load import load_run_data
from training.fit.loop import DivergedError, train
from training.published_config import is_published, translate
from training.runs.directory import RunDirectory
from tuning.search import trials
from tuning.search.space import Dimension, Label, SearchConfig, apply, effective

__all__ = [
    "HaltedError",
    "Objective",
    "Search",
    "SurplusTrial",
    "configured",
    "labels_of",
    "load_joined",
    "load_search",
    "require_tries",
]

Load = Callable[[RunConfig, Accelerator, Console], JoinedCorpora]
Report = Callable[[int, float, bool], None]


class SurplusTrial(Exception):  # noqa: N818  how a trial ends, not an error
    """Another trial stands for this one's slot."""


class HaltedError(Exception):
    """What is wrong with no configuration but with the machine, so that the other trials would meet it, too."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def load_search(
    path: Path, settings: Iterable[str] = (), base: Path | None = None
) -> tuple[SearchConfig, RunConfig, list[str]]:
    """Load a search and the configuration that it starts from.

    Args:
        path: TOML file with a `[search]` section.
        settings: `section.key=value` over the file, `search.key=value` included.
        base: configuration to start from in place of `search.base`.

    Returns:
        The search, the configuration, and what to tell about settings that were not carried over.

    Raises:
        ConfigError: a file is missing or not TOML, there is no `[search]` section, or a key or value is wrong.
    """
    path, base = find_config(path), None if base is None else find_config(base)
    tree = read_toml(path)
    if not isinstance(tree.get("search"), dict):
        raise ConfigError(f"{path}: there is no [search] section; configs/searches/ holds files that have one")
    settings = list(settings)
    own = [setting.removeprefix("search.") for setting in settings if setting.startswith("search.")]
    search = resolve(SearchConfig, tree.pop("search"), own, f"{path}: search")
    if base is None and search.base is not None:
        base = path.parent / search.base
    notes: list[str] = []
    if base is not None:
        start = read_toml(base)
        if is_published(start):
            start, notes = translate(start, base)
            notes = [f"{base} has the published form; of its settings these are not carried over:", *notes]
        tree = _over(start, tree)
    rest = [setting for setting in settings if not setting.startswith("search.")]
    source = str(path) if base is None else f"{path} over {base}"
    return search, resolve(RunConfig, tree, rest, source), notes


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables, the second's values counting."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _over(merged[key], value) if both else value
    return merged


def load_joined(config: RunConfig, accelerator: Accelerator, console: Console) -> JoinedCorpora:
    """Load train and dev clips of the corpora that are trained on; test clips are left out before anything reads them.

    Returns:
        The clips with their vectors, on the accelerator's device.

    Raises:
        ConfigError: see `training.data.load.load_run_data`.
        CorpusError: see there.
    """
    return load_run_data(config, accelerator, console, ("train", "dev"), config.corpora.trained()).joined


@dataclass(frozen=True)
class Search:
    """Everything that a worker needs.

    Attributes:
        config: the search.
        base: the run's configuration that it starts from.
        name: of the search.
        source: its file, for messages.
        load: gives the clips of a configuration; has to be importable by name for several workers.
    """

    config: SearchConfig
    base: RunConfig
    name: str
    source: str
    load: Load

    @property
    def folder(self) -> Path:
        """Where its results go."""
        return Path(self.base.output.directory) / "searches" / self.name

    def open_study(self, say: Callable[[str], None] = warnings.warn) -> optuna.Study:
        """Open the trials so far; see `tuning.search.trials.open_study`."""
        config = self.config
        # how many trials, and what keeps them alive, may change between commands
        own = config.model_dump(mode="json", include={"method", "seeds", "seed", "space", "stages", "min_epochs"})
        contents = {f"search.{key}": value for key, value in own.items()}
        contents |= {key: value for key, value in effective(self.base).items() if key != "output"}
        del contents["features"]["executor"]
        return trials.open_study(config.storage, self.name, self.folder, config.heartbeat, contents, say)


class TrialDirectory(RunDirectory):
    """A run directory that hands every epoch's dev figure on.

    Args:
        path: the folder.
        report: takes the number of finished epochs and the dev figure.
    """

    def __init__(self, path: Path, report: Callable[[int, float], None]) -> None:
        super().__init__(path)
        self.report = report

    def log(self, record: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl` and report it."""
        super().log(record)
        self.report(record["epoch"], record["dev_figure"])


def configured(base: RunConfig, space: Sequence[Dimension], labels: Mapping[str, Label], source: str) -> RunConfig:
    """Put the labels' values into their fields; dimensions without a label stay as they are.

    Raises:
        ConfigError: the values do not fit together.
    """
    values = [
        (dimension.fields, dimension.value(labels[dimension.name])) for dimension in space if dimension.name in labels
    ]
    return apply(base, {field: value for fields, value in values for field in fields}, source)


class Objective:
    """The mean over seeds of the best dev figure that a trial's configuration reaches.

    The first seed's epochs are reported; a trial that is pruned trains no other seed. Clips are loaded once for as long
    as trials train on the same ones.

    Args:
        search: the search.
        space: its dimensions.
        accelerator: device and precision.
        console: where loading speaks.
    """

    FAILURES = (ConfigError, CorpusError, DivergedError, torch.OutOfMemoryError, ValueError)
    """What a configuration can be at fault for; a model whose parts do not fit is a plain ValueError."""

    def __init__(self, search: Search, space: Sequence[Dimension], accelerator: Accelerator, console: Console) -> None:
        self.search, self.space, self.accelerator, self.console = search, space, accelerator, console
        self._loaded: tuple[str, JoinedCorpora] | None = None
        self._worker = trials.worker_name()

    def joined(self, config: RunConfig) -> JoinedCorpora:
        """Load the clips that the configuration trains on.

        Raises:
            RuntimeError: test clips are among them.
        """
        key = _data_key(config)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # two at once might not fit
            joined = self.search.load(config, self.accelerator, self.console)
            if joined.clips["split"].eq("test").any():
                raise RuntimeError("test clips were loaded for a search, which never reads them")
            self._loaded = key, joined
        return self._loaded[1]

    def __call__(self, trial: optuna.Trial) -> float:
        """Train and judge a trial's configuration."""
        if trials.is_surplus(trial.number, trial.study.get_trials(deepcopy=False)):
            raise SurplusTrial
        trial.set_user_attr("worker", self._worker)
        labels = labels_of(trial, self.space)

        def report(epoch: int, figure: float, is_last: bool) -> None:
            trial.report(figure, epoch)
            if not is_last and trial.should_prune():
                raise optuna.TrialPruned

        try:
            require_tries(trial, self.search)
            figures = self.figures(trial.number, labels, report)
        except ExtractionError as error:
            raise HaltedError(error) from error
        except self.FAILURES as error:
            trial.set_user_attr("reason", " ".join(str(error).split()))
            raise
        trial.set_user_attr("figures", figures)
        return float(np.mean(figures))

    def figures(self, number: int, labels: Mapping[str, Label], report: Report) -> list[float]:
        """Train a trial's configuration with every seed.

        Args:
            number: of the trial.
            labels: its values, by dimension.
            report: takes the first seed's epochs, from 1, their dev figures, and whether it is the last epoch.

        Returns:
            The best dev figure of each seed.
        """
        seeds = self.search.config.seeds
        return [self._train(number, labels, seed, report if i == 0 else None) for i, seed in enumerate(seeds)]

    def _train(self, number: int, labels: Mapping[str, Label], seed: int, report: Report | None) -> float:
        config = configured(self.search.base, self.space, labels, f"trial {number}")
        config = apply(config, {"training.seed": seed}, "search.seeds")
        joined = self.joined(config)
        best = -np.inf

        def see(epoch: int, figure: float) -> None:
            nonlocal best
            best = np.fmax(best, figure)
            if report is not None:
                report(epoch, figure, epoch >= config.training.num_epochs)

        folder = self.search.folder / "running" / f"{number}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)  # of a worker that died
        folder.mkdir(parents=True)
        try:
            tasks = config.tasks.resolve()
            train(config, joined, tasks, self.accelerator, TrialDirectory(folder, see), lambda message: None)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return float(best)


def labels_of(trial: optuna.Trial, space: Sequence[Dimension]) -> dict[str, Label]:
    """Choose a trial's values, of those dimensions that it does not leave at the start."""
    fixed = trial.user_attrs["fixed"]
    return {dimension.name: dimension.suggest(trial) for dimension in space if fixed is None or dimension.name in fixed}


def require_tries(trial: optuna.Trial, search: Search) -> None:
    """See that a trial has not killed too many workers.

    Raises:
        ConfigError: it has.
    """
    frozen = trial.study.get_trials(deepcopy=False)[trial.number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        deaths = len(optuna.storages.RetryHeartbeatStaleTrialCallback.retry_history(frozen))
    if deaths > search.config.num_retries:
        raise ConfigError(f"its worker was killed {deaths} times")


def _data_key(config: RunConfig) -> str:
    """Name the tensors that a configuration trains on: equal names, equal tensors."""
    tasks = {name: [spec.kind, *spec.classes] for name, spec in config.tasks.resolve().items()}
    sections = [config.corpora.model_dump_json(), config.features.model_dump_json()]
    return repr((sections, config.data.modalities, tasks, config.model.reads_sequences, *hidden_key(config)))
