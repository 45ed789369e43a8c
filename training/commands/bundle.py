"""The commands `mmpsr bundle` and `mmpsr export`: a run's model for others, and for runtimes without this project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from training.commands.common import RunArgument, announce, guarded, run_of
from training.drafting.completion import complete_runs

if TYPE_CHECKING:
    from training.bundle.bundle import BundledModel

__all__ = ["bundle", "export"]

TOLERANCE = 1e-5  # of a probability or score, of predictions made again
Format = Literal["onnx", "torch"]
SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch"}


@guarded()
def bundle(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the bundle.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
) -> int:
    """Put a run's model, its figures and a model card into a folder that predicts anywhere; see if it does."""
    run = run_of(run)
    announce(f"reading {run}")
    from training.bundle.bundle import read_bundle, repeat_predictions, write_bundle

    write_bundle(run, output, force)
    trained = read_bundle(output, allow_custom_encoders=True)  # the run's own
    _print_files(trained)
    repeated = repeat_predictions(trained, run)
    if not repeated.num_clips:
        typer.echo(f"Read back. The run's predictions were not made again: {repeated.reason}")
        return 0
    agrees = repeated.difference <= TOLERANCE
    typer.echo(
        f"Read back. {repeated.num_clips} of the run's {repeated.num_stored} stored clips predicted again from their "
        f"features: the largest difference is {repeated.difference:.1e}"
        + ("." if agrees else f", more than {TOLERANCE:g}; do not hand this bundle on.")
    )
    if agrees:
        announce(f"next: mmpsr predict {output} RECORDING --cards cards")
    return 0 if agrees else 1


def _print_files(trained: BundledModel) -> None:
    from training.bundle.bundle import check_encoders
    from training.bundle.files import FILES, OPTIONAL, BundleError

    names = [*FILES, *(name for name in OPTIONAL if name in trained.bundle.sha256)]
    sizes = {name: (trained.folder / name).stat().st_size for name in names}
    typer.echo(f"{trained.folder}: {sum(sizes.values()) / 1e6:.2f} MB")
    for name, size in sizes.items():
        typer.echo(f"  {name:19} {size:>12,} bytes")
    typer.echo(f"  tasks {', '.join(trained.tasks)}; modalities {', '.join(trained.modalities)}")
    try:
        check_encoders(trained)
        typer.echo("  its encoders are those installed here")
    except BundleError as error:
        typer.echo(f"  from media it cannot predict here: {error}")


@guarded()
def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_BUNDLE", help="Folder of a finished run or of a bundle.", autocompletion=complete_runs
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write, .onnx or .pt2.")],
    format_: Annotated[Format | None, typer.Option("--format", help="Else the output's suffix says it.")] = None,
) -> None:
    """Write a model as ONNX or as a program of torch.export, from vectors to probabilities, and run it."""
    source = run_of(source)
    announce(f"reading {source}")
    from mmpsr.export import PRESENCE, ExportError, export_onnx, export_torch
    from training.bundle.bundle import read_bundle
    from training.bundle.collect import vector_widths
    from training.bundle.files import CONTENT
    from training.runs.trained import TrainedModel

    if format_ is None and output.suffix not in SUFFIXES:
        raise ExportError(f"{output} ends in none of {', '.join(SUFFIXES)}; name one of them or give --format")
    write = export_onnx if (format_ or SUFFIXES[output.suffix]) == "onnx" else export_torch
    try:
        trained = read_bundle(source) if (source / CONTENT).exists() else TrainedModel.read(source)
        difference = write(trained.model, output, trained.calibration, trained.fingerprints)
    except OSError as error:
        raise ExportError(str(error)) from error
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.2f} MB")
    widths = vector_widths(trained)
    inputs = [f"{name} [B, {width}]" for name, width in widths.items()]
    typer.echo(f"  takes {', '.join(inputs)} float32, {PRESENCE} [B, {len(widths)}] bool, in this order")
    outputs = [f"{task} [B, {spec.num_outputs}]" for task, spec in trained.tasks.items()]
    typer.echo(f"  gives {', '.join(outputs)}: probabilities or scores, for any number of clips B")
    for task, spec in trained.tasks.items():
        typer.echo(f"  {task}: {trained.calibration.statement(task, spec)}")
    typer.echo(f"  run on every subset of modalities: at most {difference:.1e} from the model itself")
