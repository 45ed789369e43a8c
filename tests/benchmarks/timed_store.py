"""Writes values in time as large as BAH's and reads them in windows: how long it takes, and how much memory.

    uv run python tests/benchmarks/timed_store.py --frames 916618 --folder /tmp

1,427 videos of together 916,618 frames, 512 + 128 + 768 values each: 2.58 GB in float16. Written by one process, read
by another, which tells its own largest resident memory. The folder is removed afterwards.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.spec import EncoderSpec, TimedSpec
from encoders.store.timed_store import TimedStore
from encoders.timed import MEASURED, Timed, TimedSequences, timed_statistics

WIDTHS = {"video": 512, "audio": 128, "text": 768}
NUM_CLIPS, CHUNK, WINDOW = 1427, 16, 300
_POOL = 4096  # random rows that clips are cut from, since drawing a billion numbers is not what is measured


def spec_of(modality: str) -> TimedSpec:
    return EncoderSpec("random", 1, modality, WIDTHS[modality], {}, "0" * 12).in_time(None, {})


def lengths_of(num_frames: int) -> NDArray[np.int64]:
    """Lengths from 72 to 2,304 frames (3 to 96 s at 24 per second) of a given sum."""
    drawn = np.random.default_rng(0).gamma(3.0, size=NUM_CLIPS)
    lengths = np.clip(drawn / drawn.sum() * num_frames, 72, 2304).astype(np.int64)
    lengths[: num_frames - lengths.sum()] += 1
    rest = int(num_frames - lengths.sum())
    lengths[int(lengths.argmin())] += rest
    return lengths


def peak() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"


def write(root: str, num_frames: int) -> None:
    began, store, lengths = time.monotonic(), TimedStore(root), lengths_of(num_frames)
    rng = np.random.default_rng(1)
    for modality, width in WIDTHS.items():
        pool = rng.normal(size=(_POOL, width)).astype(np.float16)
        for first in range(0, NUM_CLIPS, CHUNK):
            ids = [str(clip) for clip in range(first, min(first + CHUNK, NUM_CLIPS))]
            clips = [
                Timed(
                    pool[(int(clip) * 7 + np.arange(lengths[int(clip)])) % _POOL], Fraction(24), 0.0,
                    np.full(lengths[int(clip)], MEASURED, dtype=np.int8),
                )
                for clip in ids
            ]  # fmt: skip
            store.write_timed("bah", spec_of(modality), ids, ids, clips)
    size = sum(path.stat().st_size for path in Path(root).rglob("*.npy"))
    print(f"written: {int(lengths.sum()):,} frames, {size / 1e9:.2f} GB, {time.monotonic() - began:.1f} s, {peak()}")


def opened(root: str) -> dict[str, TimedSequences]:
    ids = [str(clip) for clip in range(NUM_CLIPS)]
    return {modality: TimedStore(root).open_timed("bah", spec_of(modality), ids, ids) for modality in WIDTHS}


def read(root: str) -> None:
    print(f"imported: {peak()}")
    began, sequences = time.monotonic(), opened(root)
    print(f"opened: {time.monotonic() - began:.2f} s, {peak()}")
    began, num_windows = time.monotonic(), 0
    order = np.random.default_rng(2).permutation(NUM_CLIPS)
    for clip in order:
        length = int(sequences["video"].lengths[clip])
        for begin in range(0, length, WINDOW):
            for timed in sequences.values():
                timed.frames(int(clip), begin, min(begin + WINDOW, length))
            num_windows += 1
    seconds = time.monotonic() - began
    each = 1e3 * seconds / num_windows
    print(f"read: {num_windows:,} windows of all modalities, {seconds:.1f} s ({each:.2f} ms each), {peak()}")
    began = time.monotonic()
    for modality, timed in sequences.items():
        mean, std = timed_statistics(timed, range(NUM_CLIPS))
        print(
            f"statistics: {modality} {mean.mean():.4f} +- {std.mean():.4f}, {time.monotonic() - began:.1f} s, {peak()}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=916_618)
    parser.add_argument("--folder", default=None)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=given.folder) as root:
        for target, arguments in ((write, (root, given.frames)), (read, (root,))):
            process = context.Process(target=target, args=arguments)
            process.start()
            process.join()


if __name__ == "__main__":
    main()
