"""How commands tell what went wrong: one sentence on stderr, whole lines where no terminal breaks them."""

from __future__ import annotations

import sys

from rich.console import Console

__all__ = ["error_console", "print_error"]


def error_console() -> Console:
    """A console on stderr."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 1000)


def print_error(error: Exception) -> None:
    """Print `error: <its message>`."""
    error_console().print(f"error: {error}", style="bold red", highlight=False, markup=False)
