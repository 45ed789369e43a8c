"""From a configuration to a finished run: corpora, features, training, evaluation, table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from corpora.checks.dev_choice import weak_dev
from corpora.clips import SPLITS, ClipTable
from corpora.registry import generated_corpora
from corpora.splitting import dealing
from mmpsr.calibration.calibration import Calibration
from mmpsr.calibration.conformal import ConformalFit, fit_conformal
from mmpsr.calibration.fitting import fit_calibration
from mmpsr.files import write_whole
from mmpsr.models.base import FusionModel
from mmpsr.tasks import TaskSpec
from training.config import InTimeConfig, RunConfig
from training.data.joined import JoinedCorpora
from training.data.load import RunData, load_run_data
from training.data.selection import active_features
from training.fit.callbacks import Callback, Callbacks
from training.fit.cost import CostMeter
from training.fit.live import Watch, watching
from training.fit.loop import Course, train
from training.linear.baseline import LinearBaseline
from training.linear.late import create_baseline
from training.runs.accelerator import start_trackers
from training.runs.directory import RunDirectory
from training.runs.identities import shared, write_identities
from training.runs.stored import RunPredictions, add_predictions, groups_of
from training.runs.trained import feature_keys
from training.runs.verify import write_manifest
from training.scoring.counts import summarize
from training.scoring.novelty import NOVELTY, clip_novelty, fit_novelty, novelty_bytes, novelty_columns
from training.scoring.scores import deviations, predict, prediction_table
from training.scoring.tables import result_table
from training.stacked.loop import train_stacked

__all__ = ["JoinedRun", "run_training", "say_clips", "train_joined", "train_joined_together"]


def run_training(
    config: RunConfig,
    name: str,
    resume: bool,
    accelerator: Accelerator,
    console: Console,
    callbacks: Sequence[Callback] = (),
    live: bool = False,
) -> Path:
    """Run a configuration to its table.

    Args:
        config: the resolved configuration.
        name: folder of its runs below `output.directory`.
        resume: continue the newest run of the same configuration.
        accelerator: device, precision and processes.
        console: where messages go (only the main process speaks).
        callbacks: told of epochs and checkpoints, after those that `output.callbacks` names.
        live: show where training stands, in place of messages about epochs, see `training.fit.live`.

    Returns:
        The run directory.

    Raises:
        CallbackError: a callback has failed; it is named.
        ConfigError: a callback cannot be made, which is found before anything is read.
    """
    Callbacks.of(config.output.callbacks, callbacks)

    def say(message: str) -> None:
        if accelerator.is_main_process:
            console.print(message, highlight=False)

    directory = RunDirectory.find(config, name) if resume else None
    if resume and directory is None:
        say(f"there is no run of {name!r} to resume yet; starting one")
    if directory is not None and directory.finished:
        say(f"{directory.path} is finished")
        if accelerator.is_main_process and not (directory.path / "manifest.json").exists():
            write_manifest(directory)  # the run was killed before it could be written
        _print_results(directory, config, accelerator, console)
        return directory.path
    data = load_run_data(config, accelerator, console, show_clips=lambda table: say_clips(table, config, say))
    if accelerator.is_main_process and directory is None:
        directory = RunDirectory.create(config, name)
    run = RunDirectory(Path(broadcast_object_list([str(directory.path) if directory else None])[0]))
    say(f"run directory {run.path}")
    baseline = create_baseline(config, data.joined, config.tasks.resolve())
    with watching(console, live and accelerator.is_main_process) as watch:
        train_joined(config, data, baseline, accelerator, run, say, callbacks, watch)
    _print_results(run, config, accelerator, console)
    return run.path


def train_joined(
    config: RunConfig,
    data: RunData,
    baseline: LinearBaseline,
    accelerator: Accelerator,
    run: RunDirectory,
    say: Callable[[str], None],
    callbacks: Sequence[Callback] = (),
    watch: Watch | None = None,
) -> None:
    """Note what a run is made from, train, and evaluate, once clips and vectors are joined.

    Args:
        config: the resolved configuration.
        data: clips, vectors and what is missing of them.
        baseline: fitted on them.
        accelerator: device, precision and processes.
        run: its folder, with configuration and versions in it.
        say: takes progress messages.
        callbacks: told of epochs and checkpoints, after those that `output.callbacks` names.
        watch: told where training stands, in place of messages about epochs.
    """
    tasks = config.tasks.resolve()
    try:
        _note_inputs(config, data, accelerator, run)
        start_trackers(accelerator, config, run.path)
        meter = CostMeter(run, accelerator.device)
        model = train(config, data.joined, tasks, accelerator, run, say, baseline, callbacks, watch)
        if accelerator.is_main_process:
            meter.write(model)
            finish_run(config, model, data.joined, tasks, run, baseline)
    finally:
        accelerator.end_training()


@dataclass(frozen=True)
class JoinedRun:
    """A run whose clips and vectors are joined; the arguments of `train_joined`, in one process."""

    config: RunConfig
    data: RunData
    baseline: LinearBaseline
    accelerator: Accelerator
    run: RunDirectory
    say: Callable[[str], None]

    def begin(self) -> Course:
        """Begin or continue its training."""
        tasks = self.config.tasks.resolve()
        return Course.begin(self.config, self.data.joined, tasks, self.accelerator, self.run, self.say, self.baseline)


def train_joined_together(
    runs: Sequence[JoinedRun], watch: Watch | None = None
) -> Iterator[tuple[int, Exception | None]]:
    """Do what `train_joined` does for several runs at once, which `training.stacked.grouping` has put together.

    Args:
        runs: with an accelerator of their own each.
        watch: told where they stand.

    Yields:
        Number of a run whose results are written, and None; or why they could not be.

    Raises:
        NotStackableError: they cannot be trained as one; each can be trained alone.
        Interrupted: SIGINT or SIGTERM came and checkpoints were written.
    """
    try:
        for each in runs:
            _note_inputs(each.config, each.data, each.accelerator, each.run)
            start_trackers(each.accelerator, each.config, each.run.path)
        meters = [CostMeter(each.run, each.accelerator.device) for each in runs]
        for index, course in train_stacked([each.begin for each in runs], watch=watch):
            own, error = runs[index], None
            try:
                model = course.finish()
                meters[index].write(model, num_together=len(runs))
                finish_run(own.config, model, own.data.joined, course.tasks, own.run, own.baseline)
            except Exception as problem:
                error = problem
            yield index, error
    finally:
        for each in runs:
            each.accelerator.end_training()


def _note_inputs(config: RunConfig, data: RunData, accelerator: Accelerator, run: RunDirectory) -> None:
    """Write what a run is made from."""
    if not accelerator.is_main_process:
        return
    features = active_features(config.features, config.data.modalities)
    run.write_json("features.json", feature_keys(features))
    write_identities(run, data.joined, config.corpora)
    data.defects.to_csv(run.path / "defects.csv", index=False)
    data.ledger.to_csv(run.path / "ledger.csv", index=False)
    if len(data.figures):
        data.figures.to_csv(run.path / "faces.csv", index=False)


def finish_run(
    config: RunConfig,
    model: FusionModel,
    joined: JoinedCorpora,
    tasks: Mapping[str, TaskSpec],
    run: RunDirectory,
    baseline: LinearBaseline,
) -> None:
    """Evaluate once on test, with the best dev weights, beside the linear baseline and chance.

    Model and baseline are calibrated on the dev clips of trained corpora, with which novelty is compared, too; of the
    model also the quantiles by groups of them that sets and intervals are made from.
    Predictions are written once, and `results.json` is made from what was written, by the code that `mmpsr verify`
    makes it again with.
    """
    dev = joined.rows(config.corpora.trained(), "dev")
    of_dev = predict(model, joined, dev)
    calibration = _calibration(config, of_dev, joined, dev, tasks)
    linear_calibration = _calibration(config, baseline.predict(dev), joined, dev, baseline.tasks)
    calibration = calibration.model_copy(
        update={"conformal": _conformal(config, calibration, of_dev, joined, dev, tasks)}
    )
    run.write_json("calibration.json", calibration.to_dict())
    novelty = fit_novelty(model, joined, joined.rows(config.corpora.trained(), "train"), dev)
    if novelty.fits:
        write_whole(run.path / NOVELTY, novelty_bytes(novelty))
    run.write_json("baseline.json", {**baseline.choices(), "calibration": linear_calibration.to_dict()})
    data = summarize(prediction_table(joined, tasks), tasks)
    run.write_json("data.json", {**data, "generated": list(generated_corpora(config.corpora, joined.clips))})
    uncertain = {task: spec for task, spec in tasks.items() if spec.is_heteroscedastic}
    tables = []
    for split in ("dev", "test"):
        rows = joined.rows(list(config.corpora.sources), split)
        if not len(rows):
            continue
        predicted = predict(model, joined, rows)
        table = prediction_table(joined, tasks, rows, calibration.apply_all(predicted))
        table = add_predictions(table, "uncalibrated", predicted, tasks)
        table = add_predictions(table, "linear", baseline.predict(rows), tasks)
        if uncertain:
            table = add_predictions(table, "deviation", deviations(model, joined, rows), uncertain)
        percentiles = novelty_columns(clip_novelty(novelty, model, joined, rows), tuple(novelty.fits))
        tables.append(pd.concat([table, percentiles], axis=1))
    pd.concat(tables).to_parquet(run.path / "predictions.parquet", index=False)
    run.write_json("results.json", RunPredictions.read(run.path).results())
    write_manifest(run)


def _calibration(
    config: RunConfig,
    predicted: Mapping[str, NDArray[np.float64]],
    joined: JoinedCorpora,
    dev: Tensor,
    tasks: Mapping[str, TaskSpec],
) -> Calibration:
    """Fit what the configuration asks for of temperatures and thresholds to dev clips."""
    if config.training.calibration == "none":
        return Calibration()
    calibration = fit_calibration(predicted, _targets(joined, dev, tasks), tasks)
    return calibration.without_thresholds() if config.training.calibration == "temperature" else calibration


def _conformal(
    config: RunConfig,
    calibration: Calibration,
    predicted: Mapping[str, NDArray[np.float64]],
    joined: JoinedCorpora,
    dev: Tensor,
    tasks: Mapping[str, TaskSpec],
) -> dict[str, dict[str, tuple[ConformalFit, ...]]]:
    """Fit conformal quantiles to dev clips, by group and corpus, of what is predicted once calibrated."""
    clips = joined.clips.iloc[dev.cpu().numpy()]
    train = joined.clips.iloc[joined.rows(config.corpora.trained(), "train").cpu().numpy()]
    seen = shared("group", clips, train).to_numpy(bool)
    alone = (clips["group"].isna() | clips["group_kind"].eq("clip").fillna(False)).to_numpy(bool)
    return fit_conformal(
        calibration.apply_all(predicted), _targets(joined, dev, tasks), groups_of(clips),
        clips["corpus"].to_numpy(str), tasks, seen, alone,
    )  # fmt: skip


def _targets(joined: JoinedCorpora, rows: Tensor, tasks: Mapping[str, TaskSpec]) -> dict[str, NDArray[np.float64]]:
    return {task: joined.labels[task][rows].double().cpu().numpy() for task in tasks}


def say_clips(table: ClipTable, config: RunConfig | InTimeConfig, say: Callable[[str], None]) -> None:
    """Tell of each corpus how many clips it gives, how they were dealt, and what its dev clips cannot choose."""
    for corpus in config.corpora.sources:
        clips = table.clips[table.clips["corpus"].eq(corpus)]
        splits = ", ".join(f"{clips['split'].eq(split).sum()} {split}" for split in SPLITS)
        role = "zero-shot" if corpus not in config.corpora.trained() else "trained on"
        say(f"{corpus} ({role}): {splits}")
        if config.corpora.sources[corpus].splits_anew:
            say(f"{corpus}: dealt {dealing(clips['group'], clips['split'])}")
        for finding in weak_dev(corpus, clips, config.tasks.resolve()) if role == "trained on" else ():
            say(f"warning: {corpus}: {finding.sentence}")
    if len(table.defects):
        say(f"{len(table.defects)} rows have defects; the run directory's defects.csv lists them")


def _print_results(run: RunDirectory, config: RunConfig, accelerator: Accelerator, console: Console) -> None:
    if not accelerator.is_main_process:
        return
    zero_shot = [name for name in config.corpora.sources if name not in config.corpora.trained()]
    results = run.read_json("results.json")
    tested = {row["corpus"] for row in results if row["split"] == "test"}
    shown = [row for row in results if row["split"] == "test" or row["corpus"] not in tested]
    console.print(result_table(shown, zero_shot))
    console.print(f"run directory {run.path}", highlight=False)
