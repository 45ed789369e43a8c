"""Seconds to train several runs of the demo's configuration, stacked and one by one, beside those of one run.

    uv run python tests/benchmarks/many_runs.py [--runs 5 20] [--epochs 3] [--config demo] [--set section.key=value]
        [--before CHECKOUT]

Runs differ in their seed, and train for as many epochs, on clips that are loaded before (and extracted where they are
not yet). One run alone is the measure, and with `--before` one run alone of a checkout of this repository at another
commit too, which trains in turn with this one. Beside it: all runs in one stack, in two processes of half a stack each,
and in two processes one run after another. Every process has one thread. Processor seconds tell more than those of the
clock where other work shares the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGETS = {5: 1.8, 20: 5.0}


def work(connection: Connection, root: Path, config: str, settings: Sequence[str], epochs: int) -> None:
    """Train what is asked for, until nothing more is: seeds, and whether they are stacked."""
    os.chdir(root)
    sys.path.insert(0, str(root))
    import torch
    from rich.console import Console

    from mmpsr.config import load_config
    from training.config import RunConfig
    from training.data.load import load_run_data
    from training.fit.loop import train
    from training.linear.late import create_baseline
    from training.runs.accelerator import create_accelerator
    from training.runs.directory import RunDirectory

    torch.set_num_threads(1)
    base = load_config(RunConfig, config, [*settings, f"training.num_epochs={epochs}"])
    base = base.model_copy(update={"output": base.output.model_copy(update={"trackers": ()})})
    accelerator = create_accelerator(base, with_trackers=False)
    data = load_run_data(base, accelerator, Console(quiet=True))
    tasks, baseline = base.tasks.resolve(), create_baseline(base, data.joined, base.tasks.resolve())
    connection.send("ready")
    while (asked := connection.recv()) is not None:
        seeds, stacked = asked
        started, processor = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            arguments = []
            for seed in seeds:
                own = base.model_copy(update={"training": base.training.model_copy(update={"seed": seed})})
                (Path(folder) / str(seed)).mkdir()
                run = RunDirectory(Path(folder) / str(seed))
                arguments.append((own, data.joined, tasks, accelerator, run, lambda message: None, baseline))
            if stacked:  # which a checkout of before may not know
                from training.fit.loop import Course
                from training.stacked.loop import train_stacked

                begin = [lambda own=own: Course.begin(*own) for own in arguments]
                for _, course in train_stacked(begin):
                    course.finish()
            else:
                for own in arguments:
                    train(*own)
        connection.send((time.perf_counter() - started, time.process_time() - processor))


def measure(workers: Sequence[Connection], shares: Sequence[Sequence[int]], stacked: bool) -> tuple[float, float]:
    """Time shares of seeds, one a worker: seconds of the clock, and of all processors."""
    used = list(zip(workers, shares, strict=False))
    for worker, seeds in used:
        worker.send((list(seeds), stacked))
    taken = [worker.recv() for worker, _ in used]
    return max(wall for wall, _ in taken), sum(processor for _, processor in taken)


def main() -> None:
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--config", default="demo")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--before", type=Path, help="a checkout at another commit")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    context, processes = get_context("spawn"), []

    def start(root: Path) -> Connection:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, root, asked.config, asked.settings, asked.epochs))
        process.start()
        theirs.close()
        ours.recv()  # one after the other: the first may extract
        measure([ours], [[0]], False)  # the first steps of a process are slower
        processes.append(process)
        return ours

    workers = [start(ROOT), start(ROOT)]
    for worker in workers:
        measure([worker], [[0, 1]], True)
    before = [start(asked.before.resolve())] if asked.before else []
    ones = {"one run alone": measure(workers, [[0]], False)}
    if before:
        ones["one run alone before"] = measure(before, [[0]], False)
    for name, (wall, processor) in ones.items():
        print(f"{name:30s} {wall:7.1f} s {processor:7.1f} s of processors")
    for number in asked.runs:
        seeds, halves = range(number), (range(0, number, 2), range(1, number, 2))
        for name, shares, stacked in (
            (f"{number} runs, one stack", [seeds], True),
            (f"{number} runs, two half stacks", halves, True),
            (f"{number} runs, two processes", halves, False),
        ):
            one = measure(workers, [[0]], False)
            own, own_processor = measure(workers, shares, stacked)
            beside = f" and {own / measure(before, [[0]], False)[0]:.2f} times one before" if before else ""
            target = f"; target {TARGETS[number]:g}" if number in TARGETS else ""
            print(
                f"{name:30s} {own:7.1f} s {own_processor:7.1f} s of processors: {own / one[0]:5.2f} times one run "
                f"({own_processor / one[1]:.2f} of its processors' seconds){beside}{target}",
                flush=True,
            )
    for worker, process in zip([*workers, *before], processes, strict=True):
        worker.send(None)
        process.join()


if __name__ == "__main__":
    main()
