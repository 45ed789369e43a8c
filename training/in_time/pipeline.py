"""From a configuration to a finished run of a model in time: corpora, features, training, evaluation, table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from accelerate import Accelerator
from rich.console import Console

from corpora.clips import ClipTable, CorpusError
from corpora.registry import generated_corpora
from encoders.extraction.read import make_encoders, read_timed, timed_specs
from mmpsr.config import ConfigError
from training.config import InTimeConfig
from training.data.load import extract_features, load_clips
from training.data.timelines import timeline_errors, without_frames
from training.fit.callbacks import Callback, Callbacks
from training.fit.cost import CostMeter
from training.fit.live import watching
from training.in_time.baseline import FrameBaseline
from training.in_time.data import FrameData, gather_frames
from training.in_time.figures import prediction_table, results_of
from training.in_time.fit import frame_probabilities, train_in_time
from training.in_time.tables import result_table
from training.in_time.trained import features_in_time
from training.pipeline import say_clips
from training.runs.accelerator import start_trackers
from training.runs.directory import RunDirectory
from training.runs.verify import write_manifest

__all__ = ["load_frames", "run_in_time"]


class RunTables(NamedTuple):
    """What a corpus or an extraction could not use.

    Attributes:
        defects: rows that a corpus could not use.
        ledger: clips without features in time, and why.
    """

    defects: pd.DataFrame
    ledger: pd.DataFrame


def run_in_time(
    config: InTimeConfig,
    name: str,
    resume: bool,
    accelerator: Accelerator,
    console: Console,
    callbacks: Sequence[Callback] = (),
    live: bool = False,
) -> Path:
    """Run a configuration of a model in time to its table.

    Args:
        config: the resolved configuration.
        name: folder of its runs below `output.directory`.
        resume: continue the newest run of the same configuration.
        accelerator: device and precision.
        console: where messages go.
        callbacks: told of epochs and checkpoints, after those that `output.callbacks` names.
        live: show where training stands, in place of messages about epochs, see `training.fit.live`.

    Returns:
        The run directory.

    Raises:
        CallbackError: a callback has failed; it is named.
        ConfigError: several processes, or a callback that cannot be made.
        CorpusError: the corpora hold nothing to learn.
    """

    def say(message: str) -> None:
        console.print(message, highlight=False)

    if accelerator.num_processes > 1:
        raise ConfigError(
            f"a model in time trains in one process, and {accelerator.num_processes} were launched; launch with "
            "--num_processes 1"
        )
    Callbacks.of(config.output.callbacks, callbacks)
    run = RunDirectory.find(config, name) if resume else None
    if run is not None and run.finished:
        say(f"run directory {run.path} is finished")
        console.print(result_table(run.read_json("results.json")))
        return run.path
    data, tables = load_frames(config, accelerator, console)
    run = run or RunDirectory.create(config, name)
    say(f"run directory {run.path}")
    trained = config.corpora.trained()
    train, dev = (data.rows(trained, split) for split in ("train", "dev"))
    train, dev = train[data.labelled[train]], dev[data.labelled[dev]]
    data.fit_scales(train)
    features = features_in_time(config)
    specs = timed_specs(features, make_encoders(features))
    run.write_json("features.json", {name: specs[name].key for name in config.data.modalities})
    counts = data.clips.groupby(["corpus", "split"], sort=False).size().rename("num_clips").reset_index()
    run.write_json("data.json", {
        "clips": counts.to_dict("records"),
        "generated": list(generated_corpora(config.corpora, data.clips)),
    })  # fmt: skip
    tables.defects.to_csv(run.path / "defects.csv", index=False)
    tables.ledger.to_csv(run.path / "ledger.csv", index=False)
    start_trackers(accelerator, config, run.path)
    try:
        meter = CostMeter(run, accelerator.device)
        with watching(console, live) as watch:
            model = train_in_time(config, data, accelerator, run, say, callbacks, watch)
        meter.write(model)
        baseline = FrameBaseline(data, train, dev)
        run.write_json("baseline.json", {"penalty": baseline.penalty, "step": baseline.step})
        rows = [row for split in ("dev", "test") for row in data.rows(list(config.corpora.sources), split)]
        predicted = frame_probabilities(model, data, rows, config)
        predictions = prediction_table(data, rows, predicted, baseline.probabilities(rows))
        predictions.to_parquet(run.path / "predictions.parquet", index=False)
        run.write_json("results.json", results_of(run.path))
        write_manifest(run)
    finally:
        accelerator.end_training()
    console.print(result_table(run.read_json("results.json")))
    console.print(f"run directory {run.path}", highlight=False)
    return run.path


def load_frames(config: InTimeConfig, accelerator: Accelerator, console: Console) -> tuple[FrameData, RunTables]:
    """Read the corpora, extract the features in time that the store lacks, and lay labels beside them.

    Raises:
        CorpusError: no clip of train or dev has labelled frames of both classes, or a modality has no frames at all.
    """
    (task,) = config.tasks.active
    tasks, features = config.tasks.resolve(), features_in_time(config)
    table = load_clips(config, tasks, accelerator)
    say_clips(table, config, lambda line: console.print(line, highlight=False))
    for reason in timeline_errors(table, config.corpora.trained(), task, tasks[task].classes):
        raise CorpusError(reason)  # before anything is extracted
    clips, ledger, _ = extract_features(table.clips, features, accelerator, console)
    data = gather_frames(
        ClipTable(clips, table.defects, table.timelines), read_timed(clips, features), task, tasks[task],
        config.data.modalities, features.timed_rate is not None,
    )  # fmt: skip
    if num_without := int((data.lengths == 0).sum()):
        console.print(
            f"clips without frames in any modality, which are in no figure: {num_without} of {len(data.lengths)}; "
            "ledger.csv of the run directory says why",
            highlight=False,
        )
    _require_learnable(data, config, task, tasks[task].classes)
    return data, RunTables(table.defects, ledger)


def _require_learnable(data: FrameData, config: InTimeConfig, task: str, classes: tuple[str, ...]) -> None:
    trained = config.corpora.trained()
    for split in ("train", "dev"):
        rows = data.rows(trained, split)
        for label, name in enumerate(classes):
            if not any((data.labels[row] == label).any() for row in rows):
                raise CorpusError(without_frames(split, trained, name, task))
    for name, sequences in data.features.items():
        if not sequences.present[data.rows(trained, "train")].any():
            raise CorpusError(
                f"no training clip has {name} in time; take {name} out of data.modalities, or look into the ledger of "
                "the feature store for the reasons"
            )
