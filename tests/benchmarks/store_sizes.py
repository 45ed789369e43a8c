"""What a feature store costs as it grows: writing, its index, claims, reading and compaction, in seconds and memory.

    uv run python tests/benchmarks/store_sizes.py --clips 10000 100000 1000000 --folder /tmp

Synthetic vectors of 64 numbers by one encoder, in parts of 16 clips as extraction writes them. Every step is done by a
process of its own, whose memory is that which it takes at most beyond what it has once everything is imported. A claim
is asked for by two queues in turn, which stand for two processes, each of which finds what the other has stored
since: the first 20 chunks of a corpus of which nothing is stored, and the last 20 of one of which all else is. The
folder is removed afterwards.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from rich.console import Console
from rich.table import Table

from encoders.maintenance.compaction import compact
from encoders.spec import EncoderSpec
from encoders.store.claims import Claims
from encoders.store.queue import WorkQueue, records_of
from encoders.store.vector_store import FeatureStore

SPEC = EncoderSpec("synthetic", 1, "video", 64, {}, "0" * 12, "none")
CHUNK, TURNS = 16, 20
_POOL = np.random.default_rng(0).normal(size=(1024, 64)).astype(np.float32)


def keys(begin: int, end: int) -> tuple[list[str], list[str]]:
    """Ids and sources of some clips."""
    clips = range(begin, end)
    return [f"video{clip // 8:07}_{clip % 8}" for clip in clips], [f"{clip:012x}" for clip in clips]


def vectors(ids: list[str]) -> np.ndarray:
    return _POOL[[hash_of(name) for name in ids]]


def hash_of(name: str) -> int:
    return (int(name[5:12]) * 8 + int(name[13:])) % len(_POOL)


def write(root: str, num_clips: int) -> dict[str, float]:
    """Write all clips but those whose chunks are claimed later."""
    store = FeatureStore(root)
    for begin in range(0, num_clips - TURNS * CHUNK, CHUNK):
        ids, sources = keys(begin, min(begin + CHUNK, num_clips - TURNS * CHUNK))
        store.write("corpus", SPEC, ids, sources, vectors(ids))
    return {}


def index(root: str, num_clips: int) -> dict[str, float]:
    assert len(FeatureStore(root).done("corpus", SPEC)) >= num_clips - TURNS * CHUNK
    return {}


def queue(root: str, num_clips: int) -> WorkQueue:
    ids, sources = keys(0, num_clips)
    table = pd.DataFrame({"corpus": "corpus", "clip_id": ids}, dtype="string")
    records = records_of(table, ["corpus", "clip_id"])
    return WorkQueue(FeatureStore(root), records, {"video": SPEC}, {"video": sources}, range(num_clips), False)


def claim(root: str, num_clips: int) -> dict[str, float]:
    """Claim and store the next chunks, two queues in turn; median of seconds that a claim takes."""
    began = time.perf_counter()
    queues = [queue(root, num_clips) for _ in range(2)]
    for work in queues:
        work.find_missing()
    opened, seconds = time.perf_counter() - began, []
    with Claims(root) as one, Claims(root) as other:
        for turn in range(TURNS):
            work, claims = queues[turn % 2], (one, other)[turn % 2]
            began = time.perf_counter()
            claimed = work.claim_rows(claims, CHUNK, set())
            seconds.append(time.perf_counter() - began)
            assert len(claimed) == CHUNK
            items = [items["video"] for items in claimed.values()]
            store = FeatureStore(root)

            def save(ids: list[str], sources: list[str], values: list[np.ndarray], store: FeatureStore = store) -> None:
                store.write("corpus", SPEC, ids, sources, np.stack(values))

            work.settle("corpus", "video", [(item, vectors([item.clip_id])[0]) for item in items], save)
            claims.drop(items)
    return {"claim": statistics.median(seconds[2:]), "queues": opened / 2}


def read(root: str, num_clips: int) -> dict[str, float]:
    ids, sources = keys(0, num_clips)
    began = time.perf_counter()
    present, stored = FeatureStore(root).read("corpus", SPEC, ids, sources)
    seconds = time.perf_counter() - began
    assert present.all()
    assert all(np.array_equal(stored[row], _POOL[row % len(_POOL)]) for row in range(0, num_clips, 997))
    return {"seconds": seconds}


def compaction(root: str, num_clips: int) -> dict[str, float]:
    list(compact(Path(root)))
    return {}


def measured(target: Callable[..., dict[str, float]], root: str, num_clips: int) -> dict[str, float]:
    """Run a step in a process of its own: its figures, seconds, and megabytes beyond those of the imports."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_measure, args=(there, target, root, num_clips))
    process.start()
    there.close()
    try:
        result: dict[str, float] = here.recv()
    except EOFError:
        raise SystemExit(f"{target.__name__} of {num_clips:,} clips failed") from None
    process.join()
    return result


def _measure(pipe: Connection, target: Callable[..., dict[str, float]], root: str, num_clips: int) -> None:
    process, samples, ended = psutil.Process(), [], threading.Event()
    before = process.memory_info().rss

    def sample() -> None:
        while not ended.wait(0.02):
            samples.append(process.memory_info().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    began = time.perf_counter()
    figures = target(root, num_clips)
    seconds = time.perf_counter() - began
    ended.set()
    thread.join()
    peak = max([*samples, process.memory_info().rss])
    pipe.send({"seconds": seconds, "megabytes": (peak - before) / 1e6, **figures})


def rows_of(num_clips: int, folder: str | None) -> dict[str, Any]:
    """Measure all steps for one number of clips."""
    told: dict[str, Any] = {}

    def tell(name: str, target: Callable[..., dict[str, float]], root: str) -> dict[str, float]:
        figures = measured(target, root, num_clips)
        told[name] = f"{figures['seconds']:.2f} s, {figures['megabytes']:.0f} MB"
        return figures

    with tempfile.TemporaryDirectory(dir=folder) as first, tempfile.TemporaryDirectory(dir=folder) as root:
        start = measured(claim, first, num_clips)
        tell("writing", write, root)
        tell("index, opened", index, root)
        end = measured(claim, root, num_clips)
        told["claim of the first chunk"] = f"{1e3 * start['claim']:.2f} ms"
        told["claim of the last chunk"] = f"{1e3 * end['claim']:.2f} ms"
        told["two queues with their index"] = f"{2 * end['queues']:.2f} s, {end['megabytes']:.0f} MB"
        tell("all vectors, read", read, root)
        told["parts"] = f"{len(list(Path(root).rglob('part-*'))):,}"
        tell("compaction", compaction, root)
        told["parts after it"] = f"{len(list(Path(root).rglob('part-*'))):,}"
        tell("index after it, opened", index, root)
        tell("all vectors after it, read", read, root)
    return told


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000], help="numbers of clips")
    parser.add_argument("--folder", default=None, help="where the stores are made and removed")
    given = parser.parse_args()
    columns = {num_clips: rows_of(num_clips, given.folder) for num_clips in given.clips}
    table = Table("", *(f"{num_clips:,} clips" for num_clips in columns))
    for name in next(iter(columns.values())):
        table.add_row(name, *(told[name] for told in columns.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
