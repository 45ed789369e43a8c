"""What `mmpsr predict` and `mmpsr evaluate` do with runs of models in time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from logging import Logger
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from encoders.store.progress import ClipProgress
from training.in_time.cards import write_cards_in_time
from training.in_time.figures import results_of, results_over_seeds
from training.in_time.recordings import InTimePredictor, InTimeResult, document_in_time, frame_table
from training.in_time.tables import result_table
from training.predict.inputs import Defect, InputError, Inputs
from training.predict.output import PATIENCE, content_of, leave
from training.predict.windows import clips_of
from training.runs.directory import RunError, comparable, is_run_in_time, stored_settings
from training.timeline.clock import clock

__all__ = ["evaluate_command", "predict_command"]


def predict_command(
    model: Path,
    read: Inputs,
    output: Path | None,
    format_: str | None,
    cards: Path | None,
    refused: Sequence[str],
    remarks: Logger,
    wanted: bool = True,
) -> int:
    """Predict recordings over time; exit status 1 where none could be predicted.

    Args:
        model: the run.
        read: recordings that were found, and what could not be used.
        output: file to write; what encoders gave is kept beside it, so that a repeated command goes on.
        format_: json, csv or parquet; the last two hold a row for each frame, and for each recording without any.
        cards: folder for one page a recording.
        refused: options that were given and that a model in time does not take.
        remarks: of what is done, lost and noted.
        wanted: tell how far it is, and print predictions that a file has, too.

    Raises:
        InputError: such an option was given.
        RunError: the run is not finished, or its encoders are not those installed here.
    """
    if refused:
        raise InputError(
            f"{model} is a run of a model in time, which predicts every frame; leave out {', '.join(refused)}"
        )
    clips = clips_of(read.recordings)
    results: list[InTimeResult] = []
    defects: list[Defect] = [*read.defects]
    notes = dict.fromkeys(read.notes)
    place = tempfile.TemporaryDirectory(prefix="mmpsr-") if output is None else nullcontext(f"{output}.work")
    predictor = InTimePredictor.from_run(model)
    with predictor, place as work, _progress(len(clips), wanted, remarks) as report:
        for number in range(len(clips)):
            made = predictor.predict(clips.iloc[[number]].reset_index(drop=True), Path(work) / "features")
            results += made.results
            defects += made.defects
            notes |= dict.fromkeys(made.notes)
            report.update(len(clips) - number - 1, len(defects), set())
    document = document_in_time(results, defects, predictor.trained, name=model.name, notes=list(notes))
    content = content_of(document, format_, lambda: frame_table(document["recordings"], document["defects"]))
    if output is None and format_ is not None:
        typer.echo(content, nl=False)
    elif wanted or output is None:
        typer.echo(document["about"])
        typer.echo(f"{document['probabilities_mean']}.")
        for recording in document["recordings"]:
            for line in _lines(recording, document):
                typer.echo(line)
    leave(
        remarks, [f"{defect.id}: no prediction: {defect.reason}" for defect in defects], notes,
        (len(results), len(defects)), output, content, cards, partial(write_cards_in_time, document),
    )  # fmt: skip
    return 0 if results else 1


def _progress(num_recordings: int, wanted: bool, remarks: Logger) -> ClipProgress:
    return ClipProgress(
        num_recordings, wanted, "predictions", "without", "recordings", PATIENCE, at_once=True, tell=remarks.info
    )


def evaluate_command(
    runs: Sequence[Path], split: str | None, as_json: bool, refused: Sequence[str], console: Console
) -> None:
    """Print the figures of runs in time: of one with intervals over groups, of several over their seeds.

    Args:
        runs: finished runs; several differ in the seed.
        split: dev or test; test where left out, and dev of corpora without it.
        as_json: print the rows of all splits as JSON instead.
        refused: options that were given and that a model in time does not take.
        console: where tables go.

    Raises:
        RunError: such an option was given, runs differ in more than the seed or not in it, or one is not finished.
    """
    if refused:
        raise RunError(f"{runs[0]} is a run of a model in time; leave out {', '.join(refused)}")
    if split not in (None, "dev", "test"):
        raise RunError(f"--split: a run of a model in time has figures of dev and test, none of {split!r}")
    for path in runs:
        if not is_run_in_time(path):
            raise RunError(f"{path} is no run of a model in time, as {runs[0]} is; give runs of one configuration")
    configs = [comparable(stored_settings(path)) for path in runs]
    for path, config in zip(runs[1:], configs[1:], strict=True):
        others = (config.keys() | configs[0].keys()) - {"training.seed"}
        changed = sorted(name for name in others if config.get(name) != configs[0].get(name))
        if changed:
            raise RunError(f"{path} differs from {runs[0]} in {', '.join(changed)}; only the seed may differ")
    seeds = [config.get("training.seed") for config in configs]
    for number, seed in enumerate(seeds):
        if (first := seeds.index(seed)) != number:
            raise RunError(
                f"{runs[number]} has the seed of {runs[first]}, {seed}; means over seeds need runs of different ones"
            )
    results = [results_of(path) for path in runs]
    rows = results[0] if len(runs) == 1 else results_over_seeds(results)
    if as_json:
        typer.echo(json.dumps({"runs": [str(path) for path in runs], "figures": rows}, indent=2, allow_nan=False))
        return
    console.print(result_table(rows, (split or "test",), len(runs)))


def _lines(recording: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Put a recording into words, for a terminal."""
    task = document["task"]
    lines = [
        recording["id"],
        f"  {task['name']}: {recording['decided']} ({task['looked_for']} {recording['probability']:.2f}); "
        f"{len(recording['probabilities'])} frames, {len(recording['segments'])} segment(s) found",
    ]
    for segment in recording["segments"]:
        cues = " ".join(cue["text"] for cue in segment["cues"])
        lines.append(
            f"    {clock(segment['start'])}-{clock(segment['end'])}  {segment['probability']:.2f}"
            + (f"  {cues}" if cues else "")
        )
    lines += [f"  {name} absent: {reason}" for name, reason in recording["absent"].items()]
    return [*lines, *(f"  {name}: {note}" for name, note in recording["notes"].items())]
