"""The command `mmpsr export`: a trained model as one file that runs without this project."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from mmpsr.config import ConfigError
from mmpsr.export import PRESENCE, ExportError, export_onnx, export_torch
from training.bundle import read_bundle
from training.bundle_files import CONTENT, BundleError
from training.messages import print_error
from training.stored_predictions import RunError
from training.trained import TrainedModel

__all__ = ["Format", "export_command"]

Format = Literal["onnx", "torch"]
SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch"}


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
