"""Seconds to train several runs of the demo's configuration, stacked and one by one, beside those of one run.

    uv run python tests/benchmarks/many_runs.py [--runs 5 20] [--epochs 3] [--config demo] [--set section.key=value]

Runs differ in their seed, and train for as many epochs, on clips that are loaded before (and extracted where they are
not yet). One run alone is the measure. Beside it: all runs in one stack, in two processes of half a stack each, and in
two processes one run after another. Every process has one thread. Processor seconds tell more than those of the clock
where other work shares the machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

TARGETS = {5: 1.8, 20: 5.0}


def work(connection: Connection, config: str, settings: Sequence[str], epochs: int) -> None:
    """Train what is asked for, until nothing more is: seeds, and whether they are stacked."""
    import torch
    from rich.console import Console

    from mmpsr.config import load_config
    from training.config import RunConfig
    from training.data.load import load_run_data
    from training.fit.loop import Course, train
    from training.linear.late import create_baseline
    from training.runs.accelerator import create_accelerator
    from training.runs.directory import RunDirectory
    from training.stacked.loop import train_stacked

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
            if stacked:
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
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    context, workers, processes = get_context("spawn"), [], []
    for _ in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, asked.config, asked.settings, asked.epochs))
        process.start()
        theirs.close()
        ours.recv()  # one after the other: the first may extract
        workers.append(ours)
        processes.append(process)
    for worker in workers:  # the first steps of a process are slower
        measure([worker], [[0]], False)
        measure([worker], [[0, 1]], True)
    wall, processor = measure(workers, [[0]], False)
    print(f"{'one run alone':34s} {wall:7.1f} s {processor:7.1f} s of processors")
    for number in asked.runs:
        seeds, halves = range(number), (range(0, number, 2), range(1, number, 2))
        for name, shares, stacked in (
            (f"{number} runs, one stack", [seeds], True),
            (f"{number} runs, two half stacks", halves, True),
            (f"{number} runs, two processes", halves, False),
        ):
            again = measure(workers, [[0]], False)
            own, own_processor = measure(workers, shares, stacked)
            target = f", target {TARGETS[number]:g}" if number in TARGETS else ""
            print(
                f"{name:34s} {own:7.1f} s {own_processor:7.1f} s of processors: {own / again[0]:5.2f} times one run "
                f"({own_processor / again[1]:.2f} of its processors' seconds{target})",
                flush=True,
            )
    for worker, process in zip(workers, processes, strict=True):
        worker.send(None)
        process.join()


if __name__ == "__main__":
    main()
