"""The command `mmpsr bundle`: a finished run's model in a folder that can be handed on."""

from __future__ import annotations

from pathlib import Path

import typer

from mmpsr.config import ConfigError
from training.bundle import BundledModel, check_encoders, read_bundle, write_bundle
from training.bundle_check import repeat_predictions
from training.bundle_files import FILES, BundleError
from training.messages import print_error
from training.stored_predictions import RunError

__all__ = ["bundle_command"]

TOLERANCE = 1e-5  # of a probability or score, of predictions made again


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
