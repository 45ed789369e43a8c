"""The command `mmpsr app`: a page on this machine that analyses videos."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import typer

from corpora.clips import CorpusError
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError
from training.app_analysis import Limits
from training.app_server import AddressError, serve
from training.bundle_files import BundleError
from training.inputs import InputError
from training.messages import error_console, print_error
from training.predict_command import open_predictor
from training.stored_predictions import RunError

__all__ = ["app_command"]


def app_command(model: str, port: int, max_seconds: float, max_megabytes: float) -> int:
    """Serve the page until it is stopped.

    Args:
        model: folder of a finished run or of a bundle, or a bundle's id on the hub.
        port: of 127.0.0.1; 0 for any that is free.
        max_seconds: that a video may last.
        max_megabytes: that a file may have.

    Returns:
        Exit status: 0 after it was stopped, 2 where it could not be begun.
    """
    errors = error_console()
    try:
        if find_spec("gradio") is None:
            raise InputError('the page needs Gradio, which is not installed: pip install "mmpsr[app]"')
        if max_seconds <= 0 or max_megabytes <= 0:
            raise InputError(f"limits are above 0, found {max_seconds:g} seconds and {max_megabytes:g} megabytes")
        with open_predictor(model) as predictor:
            serve(predictor, Path(model).name, Limits(max_seconds, max_megabytes), port, _say)
    except KeyboardInterrupt:
        errors.print("stopped; what was uploaded is removed")
    except (AddressError, BundleError, ConfigError, CorpusError, ExtractionError, InputError, RunError) as error:
        print_error(error)
        return 2
    return 0


def _say(address: str) -> None:
    typer.echo(f"{address} (this machine only; stop with Ctrl-C)")
    sys.stdout.flush()
