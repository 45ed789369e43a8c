"""The commands `mmpsr bundle` and `mmpsr export`: a run's model for others, and for runtimes without this project."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from mmpsr.config import ConfigError
from mmpsr.export import PRESENCE, ExportError, export_onnx, export_torch
from training.bundle.bundle import BundledModel, check_encoders, read_bundle, write_bundle
from training.bundle.check import repeat_predictions
from training.bundle.files import CONTENT, FILES, BundleError
from training.commands.common import print_error
from training.runs.directory import RunError
from training.runs.trained import TrainedModel

__all__ = ["Format", "bundle_command", "export_command"]

TOLERANCE = 1e-5  # of a probability or score, of predictions made again
Format = Literal["onnx", "torch"]
SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch"}


def bundle_command(run: Path, folder: Path, force: bool) -> int:
    """Write a bundle, read it back, and predict the run's stored clips with it.

    Args:
        run: run directory.
        folder: of the bundle.
        force: whether a bundle that is there is replaced.

    Returns:
        Exit status: 1 where the bundle predicts otherwise than the run did, 2 where none could be written.
    """
    try:
        write_bundle(run, folder, force)
        trained = read_bundle(folder, allow_custom_encoders=True)  # the run's own
    except (BundleError, RunError, ConfigError) as error:
        print_error(error)
        return 2
    _print_files(trained)
    return _verify(trained, run)


def _print_files(trained: BundledModel) -> None:
    sizes = {name: (trained.folder / name).stat().st_size for name in FILES}
    typer.echo(f"{trained.folder}: {sum(sizes.values()) / 1e6:.2f} MB")
    for name, size in sizes.items():
        typer.echo(f"  {name:18} {size:>12,} bytes")
    typer.echo(f"  tasks {', '.join(trained.tasks)}; modalities {', '.join(trained.modalities)}")
    try:
        check_encoders(trained)
        typer.echo("  its encoders are those installed here")
    except BundleError as error:
        typer.echo(f"  from media it cannot predict here: {error}")


def _verify(trained: BundledModel, run: Path) -> int:
    found = repeat_predictions(trained, run)
    if not found.num_clips:
        typer.echo(f"Read back. The run's predictions were not made again: {found.reason}")
        return 0
    agrees = found.difference <= TOLERANCE
    typer.echo(
        f"Read back. {found.num_clips} of the run's {found.num_stored} stored clips predicted again from their "
        f"features: the largest difference is {found.difference:.1e}"
        + ("." if agrees else f", more than {TOLERANCE:g}; do not hand this bundle on.")
    )
    return 0 if agrees else 1


def export_command(source: Path, output: Path, format_: Format | None) -> int:
    """Write, run what was written, and say what it takes and gives.

    Args:
        source: folder of a finished run or of a bundle.
        output: file to write.
        format_: left out, the output's suffix says it.

    Returns:
        Exit status: 2 where nothing could be written.
    """
    try:
        chosen = format_ or _format(output)
        trained = read_bundle(source) if (source / CONTENT).exists() else TrainedModel.read(source)
        write = export_onnx if chosen == "onnx" else export_torch
        difference = write(trained.model, output, trained.calibration, trained.fingerprints)
    except (BundleError, RunError, ConfigError, ExportError, OSError) as error:
        print_error(error)
        return 2
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.2f} MB")
    widths = {name: len(trained.model.standardizers[name].mean) for name in trained.modalities}  # type: ignore[arg-type]
    inputs = [f"{name} [B, {width}]" for name, width in widths.items()]
    typer.echo(f"  takes {', '.join(inputs)} float32, {PRESENCE} [B, {len(widths)}] bool, in this order")
    outputs = [f"{task} [B, {spec.num_outputs}]" for task, spec in trained.tasks.items()]
    typer.echo(f"  gives {', '.join(outputs)}: calibrated probabilities or scores, for any number of clips B")
    typer.echo(f"  run on every subset of modalities: at most {difference:.1e} from the model itself")
    return 0


def _format(output: Path) -> Format:
    if output.suffix not in SUFFIXES:
        raise ExportError(f"{output} ends in none of {', '.join(SUFFIXES)}; name one of them or give --format")
    return SUFFIXES[output.suffix]
