"""A search as its file says and its workers know it, the clips that it sees, and the objective of its trials."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from accelerate import Accelerator
from optuna.trial import BaseTrial, TrialState
from rich.console import Console

from corpora.clips import CorpusError
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError, find_config, read_toml, resolve
from mmpsr.errors import Interrupted
from training.config import RunConfig
from training.data.few_labels import hidden_key
from training.data.joined import JoinedCorpora
from training.data.load import load_run_data
from training.fit.live import Show, showing
from training.fit.loop import Course, DivergedError, train
from training.published_config import is_published, translate
from training.runs.directory import RunDirectory
from training.stacked.grouping import may_differ, most_together, reason_alone, stack_key
from training.stacked.loop import train_stacked
from tuning.search import trials
from tuning.search.space import Dimension, Label, SearchConfig, Slot, apply, effective

__all__ = ["HaltedError", "Judged", "Objective", "Search", "configured", "load_joined", "load_search"]

Load = Callable[[RunConfig, Accelerator, Console], JoinedCorpora]

MOST_NAMED = 5
"""Trials that a line on their training names."""


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


@dataclass
class Judged:
    """A trial that is being judged.

    Attributes:
        trial: as it was asked for, or what stands for it where the storage is not to be seen.
        deaths: how often its worker was killed.
        configs: of its seeds, in their order.
        figures: by seed, the best dev figure of its epochs.
        state: in which it ended; None while it is judged.
    """

    trial: BaseTrial
    deaths: int
    configs: Sequence[RunConfig] = ()
    figures: dict[int, float] = field(default_factory=dict)
    state: TrialState | None = None

    @property
    def figure(self) -> float | None:
        """The mean over seeds; None where it is not complete."""
        return float(np.mean([*self.figures.values()])) if self.state == TrialState.COMPLETE else None

    def fail(self, error: Exception) -> None:
        """End it for a reason of its configuration's."""
        self.trial.set_user_attr("reason", " ".join(str(error).split()))
        self.state = TrialState.FAIL


@dataclass
class _Try:
    """A seed of a trial, and the dev figures of its epochs; those of the first seed are reported."""

    judged: Judged
    config: RunConfig
    is_reported: bool
    best: float = -np.inf

    def report(self, epoch: int, figure: float) -> None:
        """Take an epoch's figure.

        Raises:
            TrialPruned: the trial is one of the worse ones.
        """
        self.best = np.fmax(self.best, figure)
        if self.is_reported:
            self.judged.trial.report(figure, epoch)
            if epoch < self.config.training.num_epochs and self.judged.trial.should_prune():
                raise optuna.TrialPruned

    def end(self, error: Exception | None = None) -> None:
        """Note how it ended; the trial is complete with its last seed."""
        judged = self.judged
        if isinstance(error, optuna.TrialPruned):
            judged.state = TrialState.PRUNED
        elif error is not None:
            judged.fail(error)
        elif judged.state is None:
            judged.figures[self.config.training.seed] = float(self.best)
            if len(judged.figures) == len(judged.configs):
                ordered = [judged.figures[config.training.seed] for config in judged.configs]
                judged.trial.set_user_attr("figures", ordered)
                judged.state = TrialState.COMPLETE


class Objective:
    """The mean over seeds of the best dev figure that a trial's configuration reaches.

    Trials of one shape, and seeds of a trial, are trained together. The first seed's epochs are reported; a trial that
    is pruned trains no other seed. Clips are loaded once for as long as trials train on the same ones.

    Args:
        search: the search.
        space: its dimensions.
        accelerator: device and precision.
        console: where loading speaks.
        show: told where trainings stand, by name; None of one that is over.
    """

    FAILURES = (ConfigError, CorpusError, DivergedError, torch.OutOfMemoryError, ValueError)
    """What a configuration can be at fault for; a model whose parts do not fit is a plain ValueError."""

    def __init__(
        self,
        search: Search,
        space: Sequence[Dimension],
        accelerator: Accelerator,
        console: Console,
        show: Show = lambda name, stand: None,
    ) -> None:
        self.search, self.space, self.accelerator, self.console, self.show = search, space, accelerator, console, show
        self._loaded: tuple[str, JoinedCorpora] | None = None

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

    @property
    def most(self) -> int:
        """How many trials one worker may judge at once; 1 where none could be trained together."""
        if not self.search.config.stack or reason_alone(self.search.base) is not None:
            return 1
        return max(1, most_together() // (1 if self._ends_early else len(self.search.config.seeds)))

    def alike(self, slots: Sequence[Slot]) -> list[Slot]:
        """Select the slots that can be trained with the first; where a sampler chooses, all of them or it alone."""
        if slots[0][1] is None:
            are_alike = all(may_differ(name) for dimension in self.space for name in dimension.fields)
            return list(slots if are_alike else slots[:1])
        keys = []
        for name, labels in slots:
            try:
                keys.append(_key(configured(self.search.base, self.space, labels or {}, name)))
            except ConfigError:  # which its trial tells
                keys.append(name)
        return [slot for slot, key in zip(slots, keys, strict=True) if key == keys[0]]

    def judge(self, asked: Sequence[optuna.Trial]) -> Iterator[Judged]:
        """Train and judge the configurations of trials; yields each when it has ended.

        Raises:
            HaltedError: an encoder cannot run.
        """
        yield from self.judge_begun([self.begin(trial) for trial in asked])

    def judge_begun(self, batch: Sequence[Judged]) -> Iterator[Judged]:
        """Train and judge what `begin` has begun, here or elsewhere; see `judge`."""
        yield from (judged for judged in batch if judged.state is not None)
        alive = [judged for judged in batch if judged.state is None]
        first = 1 if self._ends_early else None
        for seeds in (slice(0, first), slice(first or len(self.search.config.seeds), None)):
            tries = [
                _Try(judged, config, is_reported=config is judged.configs[0])
                for judged in alive
                if judged.state is None
                for config in judged.configs[seeds]
            ]
            for group in self._groups(tries):
                self._train(group)
                over = [judged for judged in alive if judged.state is not None]
                alive = [judged for judged in alive if judged.state is None]
                yield from over

    @property
    def _ends_early(self) -> bool:
        return self.search.config.method == "hyperband"

    def begin(self, trial: optuna.Trial) -> Judged:
        """Take the trial's labels, unless it has ended before it began."""
        known = trial.study.get_trials(deepcopy=False)
        deaths = trials.deaths(known[trial.number])
        if trials.is_surplus(trial.number, known):
            return Judged(trial, deaths, state=TrialState.FAIL)
        fixed = trial.user_attrs["fixed"]
        labels = {
            dimension.name: dimension.suggest(trial)
            for dimension in self.space
            if fixed is None or dimension.name in fixed
        }
        judged = Judged(trial, deaths)
        try:
            if deaths > self.search.config.num_retries:
                raise ConfigError(f"its worker was killed {deaths} times")
            config = configured(self.search.base, self.space, labels, f"trial {trial.number}")
            seeds = self.search.config.seeds
            judged.configs = [apply(config, {"training.seed": seed}, "search.seeds") for seed in seeds]
        except self.FAILURES as error:
            judged.fail(error)
        return judged

    def _groups(self, tries: Sequence[_Try]) -> list[list[_Try]]:
        """Put together what can be one stack; a trial that has killed a worker is trained alone."""
        alike: dict[str, list[_Try]] = {}
        for index, one in enumerate(tries):
            is_alone = self.most == 1 or reason_alone(one.config) is not None or one.judged.deaths > 0
            alike.setdefault(str(index) if is_alone else _key(one.config), []).append(one)
        most = most_together()
        return [members[start : start + most] for members in alike.values() for start in range(0, len(members), most)]

    def _train(self, group: Sequence[_Try]) -> None:
        """Train tries together, or one after another where they cannot be, or one of them fails."""
        left = list(group)
        if len(left) > 1:
            try:
                self._train_together(left)
            except (Interrupted, HaltedError):
                raise
            except Exception:  # of one of them or of all: which, they say alone
                self.console.print("trials are trained one by one: together they cannot be", style="yellow")
        for one in left:
            if one.judged.state is not None:
                continue
            one.best = -np.inf
            with self._folder(one) as folder, showing(self.show, _name_of([one])) as watch:
                try:
                    joined, tasks = self._load(one.config), one.config.tasks.resolve()
                    run = TrialDirectory(folder, one.report)
                    train(one.config, joined, tasks, self.accelerator, run, lambda message: None, watch=watch)
                except (optuna.TrialPruned, *self.FAILURES) as error:
                    one.end(error)
                else:
                    one.end()

    def _train_together(self, left: list[_Try]) -> None:
        """Train tries as one stack, and take out those that have ended."""
        joined = self._load(left[0].config)
        with ExitStack() as folders, showing(self.show, _name_of(left)) as watch:

            def begin(one: _Try) -> Course:
                run = TrialDirectory(folders.enter_context(self._folder(one)), one.report)
                tasks = one.config.tasks.resolve()
                return Course.begin(one.config, joined, tasks, self.accelerator, run, lambda message: None)

            tries = list(left)

            def leaves(index: int, error: Exception) -> bool:
                if not isinstance(error, (optuna.TrialPruned, *self.FAILURES)):
                    return False
                tries[index].end(error)
                left.remove(tries[index])
                return True

            for index, course in train_stacked([partial(begin, one) for one in tries], leaves, watch=watch):
                try:
                    course.require_figure()
                except DivergedError as error:
                    tries[index].end(error)
                else:
                    tries[index].end()
                left.remove(tries[index])

    def _load(self, config: RunConfig) -> JoinedCorpora:
        try:
            return self.joined(config)
        except ExtractionError as error:
            raise HaltedError(error) from error

    @contextmanager
    def _folder(self, one: _Try) -> Iterator[Path]:
        """Make a folder to train in, which is removed afterwards."""
        name = f"{one.judged.trial.number}-{one.config.training.seed}"
        folder = self.search.folder / "running" / name
        shutil.rmtree(folder, ignore_errors=True)  # of a worker that died
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _name_of(tries: Sequence[_Try]) -> str:
    """Name tries that are trained together by their trials."""
    numbers = list(dict.fromkeys(one.judged.trial.number for one in tries))
    more = f" and {len(numbers) - MOST_NAMED} more" if len(numbers) > MOST_NAMED else ""
    return f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:MOST_NAMED]))}{more}"


def _key(config: RunConfig) -> str:
    """Name what tries of one stack have in common."""
    return stack_key(config) + _data_key(config)


def _data_key(config: RunConfig) -> str:
    """Name the tensors that a configuration trains on: equal names, equal tensors."""
    tasks = {name: [spec.kind, *spec.classes] for name, spec in config.tasks.resolve().items()}
    sections = [config.corpora.model_dump_json(), config.features.model_dump_json()]
    return repr((sections, config.data.modalities, tasks, config.model.reads_sequences, *hidden_key(config)))
