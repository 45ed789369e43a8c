"""What commands share: options, consoles, and how each of them ends; importing this imports nothing heavy."""

from __future__ import annotations

import functools
import gc
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from rich.console import Console

from mmpsr.errors import Interrupted, UserError
from mmpsr.extras import sentence_of
from training.drafting.completion import complete_configs, complete_runs, complete_settings
from training.runs.newest import newest_run

__all__ = [
    "DEMO",
    "ConfigOption",
    "EncoderOption",
    "ExecutorOption",
    "JsonOption",
    "Remarks",
    "ResumeOption",
    "RetryFailedOption",
    "RunArgument",
    "SetOption",
    "SplitOption",
    "TaskTextsOption",
    "TranscribeOption",
    "announce",
    "error_console",
    "guarded",
    "launched",
    "out_console",
    "print_error",
    "run_of",
    "with_executor",
    "without_collection",
]

P = ParamSpec("P")

DEMO = Path("demo")
ConfigOption = Annotated[
    Path, typer.Option("--config", help="TOML file; the demo where left out.", autocompletion=complete_configs)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="section.key=value over the file, for example training.lr=3e-4.", autocompletion=complete_settings
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the newest run of this configuration.")]
RetryFailedOption = Annotated[bool, typer.Option("--retry-failed", help="Try clips again that failed before.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
ExecutorOption = Annotated[
    str | None,
    typer.Option(
        "--executor", metavar="NAME", help="In place of features.executor: local, dask://host:port or module:factory."
    ),
]
RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="Folder of a finished run, or of runs: the newest.", autocompletion=complete_runs
    ),
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="Split; test where left out, and dev of corpora without a test split.")
]

TaskTextsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--task-texts",
        metavar="NAME_OR_FILE",
        help="Zero-shot by what classes mean in words: emotion, personality, ambivalence or a TOML file; repeatable.",
    ),
]
EncoderOption = Annotated[
    str | None, typer.Option("--encoder", help="Text encoder of class texts without a run; else the file's, or MiniLM.")
]
TranscribeOption = Annotated[
    bool, typer.Option("--transcribe", help="Let a speech model write what is said where nobody gives it.")
]
WeightsOption = Annotated[
    list[str] | None,
    typer.Option("--weights", metavar="ENCODER=FOLDER", help="Local copy of an encoder's weights; repeatable."),
]


def out_console(width: int = 120) -> Console:
    """Open a console on stdout, as wide as the terminal, or `width` where stdout is none."""
    return Console(width=None if sys.stdout.isatty() else width)


def error_console() -> Console:
    """Open a console on stderr, whose lines are cut by a terminal alone."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 1000)


def announce(line: str) -> None:
    """Say on stderr what is begun, before libraries are imported for it; of launched processes the first says so.

    Args:
        line: what is read, and from where.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    error_console().print(line, style="dim", highlight=False, markup=False)


def run_of(folder: Path, say: Callable[[str], object] = announce) -> Path:
    """Find the run that a folder means, and say which where it is not the folder itself; see `newest_run`.

    Args:
        folder: as it was named.
        say: takes the sentence.

    Raises:
        UserError: it holds runs, and none of them is finished.
    """
    run = newest_run(folder)
    if run != folder:
        say(f"{folder}: its newest finished run, {run}")
    return run


class Remarks(logging.Logger):
    """What a command says on stderr beside its output, by how much is wanted; a log file has all of it.

    Args:
        quiet: warnings alone, which tell what was lost.
        verbose: details, too.

    Attributes:
        console: where it is said.
        is_quiet: as asked for.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__("mmpsr", logging.DEBUG)
        self.console, self.is_quiet = error_console(), quiet
        shown = _OnConsole(self.console)
        shown.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
        self.addHandler(shown)
        self._before = MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
        self.addHandler(self._before)

    @contextmanager
    def kept_in(self, path: Path) -> Iterator[None]:
        """Append to a file what was said before and what is said within, and how it ended."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        self._before.setTarget(file)
        self._before.flush()
        self.removeHandler(self._before)
        self.addHandler(file)
        try:
            yield
        except BaseException as error:
            is_ordinary = isinstance(error, (UserError, KeyboardInterrupt))
            self.debug("ended by %s: %s", type(error).__name__, error, exc_info=not is_ordinary)
            raise
        finally:
            self.removeHandler(file)
            file.close()


class _OnConsole(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else "dim" if record.levelno < logging.INFO else None
        self.console.print(record.getMessage(), style=style, highlight=False, markup=False)


def with_executor(settings: list[str] | None, executor: str | None) -> list[str]:
    """Add what `--executor` says to the settings."""
    return [*(settings or []), *([] if executor is None else [f"features.executor={json.dumps(executor)}"])]


def print_error(message: Exception | str) -> None:
    """Print `error: <message>` on stderr."""
    error_console().print(f"error: {message}", style="bold red", highlight=False, markup=False)


@contextmanager
def without_collection() -> Iterator[None]:
    """Look for no reference cycles, which takes a tenth of the time of imports and finds hardly any there."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def guarded(
    stopped: str = "stopped; the same command begins again", console: Callable[[], Console] = error_console
) -> Callable[[Callable[P, int | None]], Callable[P, None]]:
    """Make commands end as programs do: with one sentence and an exit status, whatever happens in them.

    ```
    returned     its status, 0 where it returns None
    UserError    error: <its message>, 2; so does an optional package that is missing, with the extra that brings it
    Interrupted  <its message>, or `stopped` where it has none, 130; so does Ctrl-C
    ```

    Args:
        stopped: what to say after Ctrl-C: what is kept, and what the same command does.
        console: where to say it.
    """

    def guard(command: Callable[P, int | None]) -> Callable[P, None]:
        @functools.wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                status = command(*args, **kwargs)
            except UserError as error:
                print_error(error)
                status = 2
            except ModuleNotFoundError as error:
                sentence = sentence_of(error.name or "")
                if sentence is None:
                    raise
                print_error(sentence)
                status = 2
            except (Interrupted, KeyboardInterrupt, typer.Abort) as error:
                console().print(str(error) or stopped, highlight=False, markup=False)
                status = 130
            if status:
                raise typer.Exit(status)

        return run

    return guard


def launched(command: Callable[..., None]) -> None:
    """Run one command as a program of its own, as `accelerate launch` does."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(command)
    program()
