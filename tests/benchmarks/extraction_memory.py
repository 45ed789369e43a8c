"""How much memory extraction takes at most, and whether that grows with the number of clips.

    uv run python tests/benchmarks/extraction_memory.py --clips 200 2000

Every number of clips is extracted by a process of its own with its workers, and the server that these are forked from
(beside it runs the resource tracker of multiprocessing). Memory is sampled twice a second over all
of them: proportional set size where the system tells it (shared pages counted once), resident set size elsewhere.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from talking_clips import clip_table, write_clip

from encoders.config import FeaturesConfig
from encoders.extraction.extract import extract

MEBIBYTE = 2**20


def used(process: psutil.Process) -> float:
    """Mebibytes of one process; 0 once it has ended."""
    try:
        if psutil.LINUX:
            return float(process.memory_full_info().pss) / MEBIBYTE
        return float(process.memory_info().rss) / MEBIBYTE
    except psutil.Error:
        return 0.0


def run(folder: Path, files: list[Path], seconds: float, num_clips: int, num_workers: int) -> None:
    """Extract; the process that is measured."""
    features = FeaturesConfig(store=str(folder / f"store{num_clips}"), num_workers=num_workers)
    summary = extract(clip_table(files, seconds, num_clips), features, show_progress=False)
    assert all(count.done == num_clips for count in summary.counts.values()), summary.counts


def measure(folder: Path, files: list[Path], seconds: float, num_clips: int, num_workers: int) -> list[list[float]]:
    """Samples in mebibytes, the extracting process first, then those that it started in the order of their start."""
    arguments = folder, files, seconds, num_clips, num_workers
    process = multiprocessing.get_context("spawn").Process(target=run, args=arguments)
    process.start()
    samples = []
    while process.is_alive():
        try:
            parent = psutil.Process(process.pid)
            family = [parent, *sorted(parent.children(recursive=True), key=lambda child: child.create_time())]
        except psutil.Error:
            break
        samples.append([used(member) for member in family])
        process.join(0.5)
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"the extraction of {num_clips} clips ended with exit code {process.exitcode}")
    return samples


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[200, 2000], help="numbers of clips to compare")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a clip lasts")
    parser.add_argument("--height", type=int, default=120, help="of the frames in pixels")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    given = parser.parse_args()
    table = Table("clips", "seconds", "peak MiB", "parent", "tracker, server, workers", "growth")
    with tempfile.TemporaryDirectory() as name:
        folder, first = Path(name), None
        files = [folder / f"{number}.mp4" for number in range(8)]
        for number, path in enumerate(files):
            write_clip(path, given.seconds + number / 10, given.height)
        for num_clips in given.clips:
            began = time.perf_counter()
            samples = measure(folder, files, given.seconds, num_clips, given.workers)
            seconds = time.perf_counter() - began
            peak = max(samples, key=sum)
            first = sum(peak) if first is None else first
            workers = " ".join(f"{each:.0f}" for each in peak[1:])
            growth = f"{sum(peak) / first - 1:+.1%}"
            table.add_row(str(num_clips), f"{seconds:.0f}", f"{sum(peak):.0f}", f"{peak[0]:.0f}", workers, growth)
    Console().print(table)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
