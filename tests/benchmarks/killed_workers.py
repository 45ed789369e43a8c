"""Extraction, a study and a search on a Dask cluster of two processes that are killed at random, beside this process.

    uv run python tests/benchmarks/killed_workers.py [--kills 20] [--seed 0]

Four in ten kills come during extraction of 300 clips that take a tenth of a second, three in ten each during a study of
six cells and a search of eight trials. What comes out is held against the same work without a cluster: vectors, cells
and trials are equal, nothing is there twice, and nothing is half-written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))


def measure(name: str, kills: int, cluster: Any, seed: int, pause: tuple[float, float], work: Callable[[], str]) -> int:
    """Do work on the cluster while its workers are killed, and say what became of it."""
    from tests.support.executors import killed_at_random

    began = time.perf_counter()
    with killed_at_random(cluster, kills, pause, seed) as killed:
        outcome = work()
    seconds = time.perf_counter() - began
    print(f"{name:10s} {len(killed):2d} of {kills} kills in {seconds:4.0f} s: {outcome}", flush=True)
    return len(killed)


def main() -> None:
    """Print a line for each kind of work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import pyarrow.parquet as pq
    import torch

    from encoders.extraction.extract import extract
    from encoders.extraction.read import read_vectors
    from tests.support import fake_encoders, searched
    from tests.support.executors import two_processes
    from tests.tuning.search.test_workers import outcomes, silent
    from tests.tuning.study.test_executor_cluster import on
    from tests.tuning.study.test_fill import figures, quiet, write, write_inputs
    from tuning.search.workers import run_search
    from tuning.study.config import load_study
    from tuning.study.fill import run_study

    torch.set_num_threads(1)
    few = round(0.3 * asked.kills)
    with tempfile.TemporaryDirectory() as name, two_processes(allowed_failures=asked.kills) as (executor, cluster):
        folder = Path(name)
        os.chdir(folder)
        clips = fake_encoders.table(["sleep 0.1"] * 300)

        def extraction() -> str:
            config = fake_encoders.features(folder / "store", executor=executor)
            summary = extract(clips, config, show_progress=False)
            parts = [pq.read_table(path)["clip_id"].to_pylist() for path in folder.glob("store/fake/text/*/part-*")]
            times = Counter(clip for part in parts for clip in part)
            wanted = [fake_encoders.expected("sleep 0.1", number) for number in range(len(clips))]
            equal = read_vectors(clips, config)["text"][1].tolist() == wanted
            count = summary.counts["fake", "text"]
            return (
                f"{count.done} clips done, {count.failed} failed, {max(times.values())} times at most; equal: {equal}"
            )

        num_killed = measure("extraction", asked.kills - 2 * few, cluster, asked.seed, (0.5, 2.0), extraction)

        write_inputs(folder)
        write(Path("study.toml").read_text(encoding="utf-8").replace('compare_to = "full"\n', ""))
        epochs = ["training.num_epochs=20", "training.patience=20"]
        alone = load_study("study.toml", [*epochs, "output.directory=own"])
        run_study(alone, 1, quiet())
        own = figures(alone)

        def cells() -> str:
            study = load_study("study.toml", [*epochs, f"features.executor={json.dumps(executor)}"])
            table = run_study(study, 1, quiet())
            return f"{len(study.cells)} cells, {len(table.missing)} missing; equal: {figures(study) == own}"

        num_killed += measure("study", few, cluster, asked.seed, (2.0, 7.0), cells)

        space = {"training.lr": {"low": 1e-4, "high": 1e-2}}
        settings: dict[str, Any] = {"method": "random", "num_trials": 8, "space": space, "stack": False}
        longer = {"training": {"num_epochs": 20, "patience": 20}}
        there = on(executor, searched.search(folder / "there", longer, **settings))
        wanted = outcomes(run_search(searched.search(folder / "alone", longer, **settings), 1, silent))

        def trials() -> str:
            found = outcomes(run_search(there, 1, silent))
            return f"{len(found)} trials; equal: {found == wanted}"

        measure("search", asked.kills - num_killed, cluster, asked.seed, (3.0, 9.0), trials)


if __name__ == "__main__":
    main()
