"""The command `mmpsr` with its subcommands; what one needs is imported when it is called."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from mmpsr.extras import require_extra
from training.commands.common import (
    DEMO,
    Commands,
    ConfigOption,
    ResumeOption,
    RetryFailedOption,
    SetOption,
    error_console,
    print_error,
)

__all__ = ["app", "launched"]

app = typer.Typer(
    name="mmpsr", cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

MediaOption = Annotated[bool, typer.Option("--media", help="Also open every media file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def launched(command: Callable[..., None]) -> None:
    """Run one command as a program of its own, as `accelerate launch` does."""
    program = typer.Typer(cls=Commands, add_completion=False, pretty_exceptions_enable=False)
    program.command()(command)
    program()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("mmpsr"))
        raise typer.Exit


@app.callback()
def _mmpsr(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """One model of emotion, personality and ambivalence/hesitancy, trained on several corpora at once."""


@app.command()
def train(config: ConfigOption = DEMO, set_: SetOption = None, resume: ResumeOption = False) -> None:
    """Train on several corpora at once, evaluate, and print a table."""
    from training.commands.train import train_command

    train_command(config, set_, resume)


@app.command()
def extract(config: ConfigOption = DEMO, set_: SetOption = None, retry_failed: RetryFailedOption = False) -> None:
    """Extract features alone; a killed or repeated command does only what is left."""
    from training.commands.train import extract_command

    extract_command(config, set_, retry_failed)


@app.command()
def doctor(
    config: ConfigOption = DEMO, set_: SetOption = None, media: MediaOption = False, as_json: JsonOption = False
) -> None:
    """Examine what a run would read; exit status 1 where training would be wrong."""
    if media:
        require_extra("media")
    errors = error_console()
    try:
        status = _examine(config, set_ or [], media, as_json, errors)
    except KeyboardInterrupt:
        errors.print("stopped; nothing was changed, and the same command begins again")
        status = 130
    raise typer.Exit(status)


@app.command()
def features(
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file that says what is used; without it that is not told.")
    ] = None,
    set_: SetOption = None,
    store: Annotated[Path | None, typer.Option("--store", help="Folder of the store, in place of the file's.")] = None,
    as_json: JsonOption = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove other fingerprints of the configuration's corpora and encoders.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """List what the feature store holds; exit status 1 where files are damaged or vectors not finite."""
    from training.commands.features import features_command

    try:
        status = features_command(config, set_ or [], store, as_json, prune, yes)
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True).print("stopped; the same command begins again")
        status = 130
    raise typer.Exit(status)


@app.command()
def encoders(
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file whose local weights and trusted code count.")
    ] = None,
    set_: SetOption = None,
    modality: Annotated[str | None, typer.Option("--modality", help="Only those that describe it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the encoders and writers of texts that a configuration can name, and say which can run here."""
    from training.commands.encoders import encoders_command

    raise typer.Exit(encoders_command(config, set_ or [], modality, as_json))


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="Split; test where left out, and dev of corpora without a test split.")
]


@app.command()
def evaluate(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folder of a finished run; several that differ in the seed.")
    ],
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file of other corpora, which the model predicts now.")
    ] = None,
    set_: SetOption = None,
    corpus: Annotated[list[str] | None, typer.Option("--corpus", help="Only this corpus; repeatable.")] = None,
    split: SplitOption = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Column of the clip table by whose values to tell figures apart.")
    ] = None,
    aggregate: Annotated[
        str | None, typer.Option("--aggregate", help="Column that names what clips are averaged to, as a video.")
    ] = None,
    subsets: Annotated[bool, typer.Option("--subsets", help="Also with every subset of the modalities.")] = False,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt", help="Also fitted to the clips of corpora that were not trained on, without their labels."
        ),
    ] = False,
    allow_trained: Annotated[
        bool, typer.Option("--allow-trained", help="Evaluate clips that the model was trained on all the same.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print figures with intervals: of a run's own predictions, or of other corpora, never seen, with --config."""
    from training.commands.evaluate import evaluate_command
    from training.evaluation.evaluate import EvaluationOptions

    options = EvaluationOptions(
        split, by, aggregate, config, tuple(set_ or ()), tuple(corpus or ()), subsets, adapt, allow_trained
    )
    try:
        status = evaluate_command(runs, options, as_json)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; vectors made so far are kept, and the same command begins again")
        status = 130
    raise typer.Exit(status)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of a finished run.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Folder of another; positive is better than A.")],
    split: SplitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs on the clips that both evaluated, corrected for many comparisons."""
    from training.commands.evaluate import compare_command

    raise typer.Exit(compare_command(first, second, split, as_json))


@app.command()
def verify(run: RunArgument, as_json: JsonOption = False) -> None:
    """Check a run's files and make its figures again; exit status 1 where anything is not what it was."""
    from training.commands.evaluate import verify_command

    raise typer.Exit(verify_command(run, as_json))


@app.command()
def bundle(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the bundle.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
) -> None:
    """Put a run's model, its figures and a model card into a folder that predicts anywhere; see if it does."""
    from training.commands.bundle import bundle_command

    raise typer.Exit(bundle_command(run, output, force))


@app.command()
def predict(
    model: Annotated[str, typer.Argument(metavar="RUN_OR_BUNDLE", help="Finished run, bundle, or a bundle's hub id.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUTS...", help="Files, folders, globs or CSV files.")],
    text: Annotated[str | None, typer.Option("--text", help="What is said in the one recording.")] = None,
    transcripts: Annotated[
        Path | None, typer.Option("--transcripts", help="Folder of .srt, .vtt or .txt files named like the recordings.")
    ] = None,
    window: Annotated[float | None, typer.Option("--window", help="Cut recordings into windows of S seconds.")] = None,
    hop: Annotated[
        float | None, typer.Option("--hop", help="Seconds from window to window; else the window's.")
    ] = None,
    confidence: Annotated[
        float, typer.Option("--confidence", help="Decide only where at least this sure (0-1).")
    ] = 0.0,
    format_: Annotated[
        Literal["json", "csv", "parquet"] | None, typer.Option("--format", help="Else the output's suffix says it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; a repeated command goes on.")
    ] = None,
    cards: Annotated[Path | None, typer.Option("--cards", help="Folder for one HTML page a recording.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Also say what each modality adds.")] = False,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", metavar="ENCODER=FOLDER", help="Local copy of an encoder's weights; repeatable."),
    ] = None,
    trust_remote_code: Annotated[
        list[str] | None,
        typer.Option("--trust-remote-code", metavar="ENCODER", help="Let its weights' own code run; repeatable."),
    ] = None,
    allow_custom_encoders: Annotated[
        bool,
        typer.Option("--allow-custom-encoders", help="Import a bundle's encoders that are classes of one's own."),
    ] = False,
) -> None:
    """Predict all tasks for recordings; exit status 1 where none could be predicted."""
    require_extra("media")
    from training.commands.predict import predict_command

    try:
        status = predict_command(
            model, inputs, text=text, transcripts=transcripts, window=window, hop=hop, confidence=confidence,
            format_=format_, output=output, cards=cards, explain=explain, weights=weights or (),
            trust_remote_code=trust_remote_code or (), allow_custom_encoders=allow_custom_encoders,
        )  # fmt: skip
    except KeyboardInterrupt:
        kept = "; what is finished is kept, and the same command goes on" if output is not None else ""
        Console(stderr=True).print(f"stopped{kept}")
        status = 130
    raise typer.Exit(status)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_BUNDLE", help="Folder of a finished run or of a bundle.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write, .onnx or .pt2.")],
    format_: Annotated[
        Literal["onnx", "torch"] | None, typer.Option("--format", help="Else the output's suffix says it.")
    ] = None,
) -> None:
    """Write a model as ONNX or as a program of torch.export, from vectors to probabilities, and run it."""
    from training.commands.bundle import export_command

    raise typer.Exit(export_command(source, output, format_))


@app.command("app")
def serve_app(
    model: Annotated[str, typer.Argument(metavar="RUN_OR_BUNDLE", help="Finished run, bundle, or a bundle's hub id.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of 127.0.0.1; 0 is any that is free.")] = 7860,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Longest video that is taken.")] = 120.0,
    max_megabytes: Annotated[float, typer.Option("--max-megabytes", help="Largest file that is taken.")] = 200.0,
) -> None:
    """Open a page, for this machine only, that analyses videos and says why."""
    for extra in ("app", "media", "report"):
        require_extra(extra)
    from training.commands.predict import app_command

    raise typer.Exit(app_command(model, port, max_seconds, max_megabytes))


def _examine(config: Path, settings: list[str], media: bool, as_json: bool, errors: Console) -> int:
    """Examine and print; returns the exit status."""
    from corpora.clips import CorpusError
    from encoders.errors import ExtractionError
    from mmpsr.config import ConfigError
    from training.doctor.doctor import examine
    from training.doctor.report import render
    from training.published_config import load_run_config

    try:
        with redirect_stdout(sys.stderr):  # whatever reading says, stdout is for the report
            resolved, notes = load_run_config(config, settings)
            diagnosis = examine(resolved, str(config), media)
    except (ConfigError, CorpusError, ExtractionError) as error:
        print_error(error)
        return 2
    for note in notes:
        errors.print(note, highlight=False, markup=False)
    if as_json:
        typer.echo(json.dumps(diagnosis.to_json(), indent=2, allow_nan=False))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(render(diagnosis), highlight=False)
    return diagnosis.exit_status


if __name__ == "__main__":
    app()
