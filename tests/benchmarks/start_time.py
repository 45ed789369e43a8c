"""How long commands take that have little to do, beside those of another checkout: imports, and what they must do.

    uv run python tests/benchmarks/start_time.py --before ../mmpsr-before --repeats 5 --work /tmp/start

Each command runs in a process of its own, in turns with that of the other checkout, and the quickest turn counts:
other programs only slow them. A first turn, which does not count, warms the files. Each checkout has demo corpora and a
run of its own, which it trains, since fingerprints of encoders may differ; `--work` keeps them for the next call.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "predict": ("predict", "run", "clip.mp4"),
    "doctor": ("doctor",),
    "verify": ("verify", "run"),
    "compare": ("compare", "run", "again"),
    "features": ("features",),
    "help": ("--help",),
}
TARGETS: Mapping[str, tuple[float, float]] = {
    "predict": (0.55, 0.5), "doctor": (0.3, 0.3), "verify": (0.3, 0.3), "compare": (0.3, 0.3),
}  # fmt: skip
"""Command -> share of the processor time and of the wall time before that it may take."""


@dataclass(frozen=True)
class Turn:
    """One run of a command, in seconds.

    Attributes:
        processor: user and system time, of processes that it started, too.
        wall: from start to end.
        first_line: from start to the first line on either stream.
    """

    processor: float
    wall: float
    first_line: float


def take_turn(tree: Path, arguments: Sequence[str], folder: Path) -> Turn:
    """Run a command of a checkout in a folder; a process that fails ends the benchmark."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "tuning.console", *arguments]
    before, began = os.times(), time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        first_line = time.perf_counter() - began
        rest = process.stdout.read()
    wall, after = time.perf_counter() - began, os.times()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} in {tree} ended with {process.returncode}:\n{line}{rest}")
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Turn(processor, wall, first_line)


def quickest(turns: Iterable[Turn]) -> Turn:
    """Give the least of each figure, over turns that other programs disturbed more or less."""
    columns = zip(*((turn.processor, turn.wall, turn.first_line) for turn in turns), strict=True)
    return Turn(*map(min, columns))


def measure(trees: Mapping[Path, Path], arguments: Sequence[str], repeats: int) -> list[Turn]:
    """Run a command of each checkout in its folder, in turns."""
    rounds = [[take_turn(tree, arguments, folder) for folder, tree in trees.items()] for _ in range(repeats + 1)]
    return [quickest(turns) for turns in zip(*rounds[1:], strict=True)]


def cells(name: str, now: Turn, before: Turn | None) -> list[str]:
    """Lay out a command's row: before, now, their ratio and the most that it may be, of both times."""
    row = [name]
    for index, time_of in enumerate(("processor", "wall")):
        value = getattr(now, time_of)
        if before is None:
            row += ["", f"{value:.2f}", "", ""]
            continue
        ratio, most = value / getattr(before, time_of), TARGETS.get(name, ())
        target = f"{most[index]:.2f}{'' if ratio <= most[index] else ' missed'}" if most else ""
        row += [f"{getattr(before, time_of):.2f}", f"{value:.2f}", f"{ratio:.2f}", target]
    return [*row, f"{now.first_line:.2f}"]


def prepare(folder: Path, tree: Path) -> None:
    """Make the demo corpora with a run, its copy and a clip with its transcript, as far as they are missing."""
    if not (folder / "run").is_dir():
        settings = ("training.num_epochs=2", "output.trackers=[]", "output.name=start")
        take_turn(tree, ["train", *(part for setting in settings for part in ("--set", setting))], folder)
        (run,) = (folder / "runs" / "start").iterdir()
        run.rename(folder / "run")
    if not (folder / "again").is_dir():
        shutil.copytree(folder / "run", folder / "again")
    if not (folder / "clip.txt").is_file():
        from talking_clips import clip_table, write_clip

        write_clip(folder / "clip.mp4", 10.0, 480)
        text = str(clip_table([folder / "clip.mp4"], 10.0)["text"].iloc[0])
        (folder / "clip.txt").write_text(text, encoding="utf-8")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="another checkout, whose commands are measured, too")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each command that count")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="which are measured")
    parser.add_argument("--work", type=Path, help="folder that keeps the run and the clip; a temporary one if left out")
    given = parser.parse_args()
    table = Table(
        "command", *("before", "now", "ratio", "target") * 2, "first line",
        title="seconds: processor time, then wall time, then until the first line",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        trees = {} if given.before is None else {work / "before": given.before.resolve()}
        trees[work / "now"] = ROOT
        for folder, tree in trees.items():
            folder.mkdir(parents=True, exist_ok=True)
            if {*given.commands} - {"help"}:
                prepare(folder, tree)
        for name in given.commands:
            *before, now = measure(trees, COMMANDS[name], given.repeats)
            table.add_row(*cells(name, now, before[0] if before else None))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
