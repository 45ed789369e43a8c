"""How fast the embedded encoders make vectors, where the time goes, and what seeking saves.

    uv run python tests/benchmarks/extraction_speed.py --clips 20 --seconds 10 --height 480 --workers 2

Stages are timed in this process, clip by clip; the real `extract` then runs with worker processes. Processor time is
told besides wall time, since other programs slow only the latter.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from stage_timer import Stages
from talking_clips import clip_table, write_clip

from encoders.catalogue.entry import EMBEDDED
from encoders.config import FeaturesConfig
from encoders.creation import CATALOGUE
from encoders.extraction.encode import encode_both, load_encoder, make_encoder
from encoders.extraction.extract import extract
from encoders.face import landmarks as faces
from encoders.media import clip as media
from encoders.media import frames
from encoders.media.decoding import opened, stream_of
from encoders.store.vector_store import FeatureStore

LEAST = 10.0
"""Times real time that extraction is required to run at on two cores."""
_FRAMES = "BENCHMARK_FRAMES"  # tells worker processes how many frames a clip encoders read
_NUM_FILES = 4  # further clips are the same files again


def use_frames(num_frames: int) -> None:
    """Let every embedded encoder that reads frames read this many of a clip, whatever its default."""
    for entry in CATALOGUE.values():
        for modality in entry.modalities if entry.family == EMBEDDED else ():
            module, _, name = entry.factory_of(modality).partition(":")
            defaults = getattr(importlib.import_module(module), name).__init__.__kwdefaults__
            if defaults and "num_frames" in defaults:
                defaults["num_frames"] = num_frames


if _FRAMES in os.environ:  # a worker process, which imports this module before it makes its encoders
    use_frames(int(os.environ[_FRAMES]))


def time_stages(clips: pd.DataFrame, features: FeaturesConfig) -> tuple[float, Stages]:
    """Encode clips one after the other in this process.

    Returns:
        Seconds of processor time that loading takes, the first clip included, and those of the stages after it.
    """
    began, stages = time.process_time(), Stages()
    encoders = {name: make_encoder(each, name, features) for name, each in features.encoders.items()}
    for encoder in encoders.values():
        load_encoder(encoder, encoder.fingerprint())
    rows = [media.ClipMedia.from_row(row) for row in clips.to_dict("records")]
    for encoder in encoders.values():
        encode_both(encoder, rows[:1], None)
    rows[0].release()
    loading = time.process_time() - began

    from encoders.models.minilm import TokenEmbedder

    stages.patch("open", av, "open")
    stages.patch("decode video", media, "read_frames")
    stages.patch("find faces", faces, "faces_of")
    stages.patch("decode audio", media, "read_audio")
    stages.patch("embed text", TokenEmbedder, "embed")
    vectors: dict[str, list[Any]] = {name: [] for name in encoders}
    for row in rows:
        for name, encoder in encoders.items():
            encoded = stages.timed(f"{encoder.id}: all else", encode_both)(encoder, [row], None)
            vectors[name] += [result.vector for result in encoded]
        row.release()
    store = FeatureStore(features.store)
    write = stages.timed("store", store.write)
    for name, encoder in encoders.items():
        ids = clips["clip_id"].tolist()
        write("stages", encoder.spec, ids, ids, np.stack(vectors[name]), [None] * len(ids))
    return loading, stages


def time_extraction(clips: pd.DataFrame, features: FeaturesConfig) -> tuple[float, float]:
    """Wall seconds and processor seconds, those of the workers and their start included, of the real thing."""
    began, before = time.perf_counter(), os.times()
    summary = extract(clips, features, show_progress=False)
    wall = time.perf_counter() - began
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # processor time is told of what has ended
    after = os.times()
    for (_, modality), count in summary.counts.items():
        if count.done != len(clips):
            raise SystemExit(f"{count.done} of {len(clips)} clips have a vector for {modality}: {summary.ledger}")
    return wall, sum(after[:4]) - sum(before[:4])


def read_through(path: Path, num_frames: int) -> tuple[NDArray[np.uint8], int]:
    """The frames that `read_frames` gives, and how many were decoded: every frame of the file."""
    with opened(path) as container:
        stream = stream_of(container, path, "video")
        length = float(stream.duration * stream.time_base)
        moments = (np.arange(num_frames) + 0.5) * length / num_frames
        images: list[NDArray[np.uint8]] = []
        num_decoded, last = 0, None
        for frame in container.decode(stream):
            while len(images) < num_frames and last is not None and frame.time > moments[len(images)] + 1e-4:
                images.append(frames.image_of(last, stream))
            last, num_decoded = frame, num_decoded + 1
        images += [frames.image_of(last, stream)] * (num_frames - len(images))
    return np.stack(images), num_decoded


def read_seeking(path: Path, num_frames: int) -> tuple[NDArray[np.uint8], int]:
    """The frames that encoders are given, and how many were decoded for them."""
    readers = []

    class Counted(frames._FrameReader):
        def __init__(self, *arguments: Any) -> None:
            readers.append(self)
            super().__init__(*arguments)

    with mock.patch.object(frames, "_FrameReader", Counted):
        images = frames.read_frames(path, None, None, num_frames)[0]
    return images, sum(reader.num_decoded for reader in readers)


def least_seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """Processor seconds of the quickest of several calls."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        seconds.append(time.process_time() - began)
    return min(seconds)


def compare_reading(folder: Path, lengths: list[float], height: int, num_frames: int) -> Table:
    """Frames read by seeking against frames read by decoding the whole file."""
    columns = ("clip", "key frame every", "frames", "decoded", "seeking", "reading through", "times as fast")
    table = Table(*columns, title=f"{num_frames} frames of a clip, processor seconds per clip")
    for seconds in lengths:
        for key_frame_every in (250, 60):
            path = folder / f"{seconds:g}-{key_frame_every}.mp4"
            write_clip(path, seconds, height, key_frame_every=key_frame_every)
            sought, num_decoded = read_seeking(path, num_frames)
            through, num_in_all = read_through(path, num_frames)
            if not np.array_equal(sought, through):
                raise SystemExit(f"{path}: seeking gives other frames than reading through")
            seek = least_seconds(lambda: frames.read_frames(path, None, None, num_frames))  # noqa: B023
            whole = least_seconds(lambda: read_through(path, num_frames))  # noqa: B023
            cells = [f"{seconds:g} s", f"{key_frame_every} frames", str(num_in_all), str(num_decoded)]
            table.add_row(*cells, f"{seek:.3f}", f"{whole:.3f}", f"{whole / seek:.2f}")
    return table


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=20, help="clips that are extracted")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a clip lasts")
    parser.add_argument("--height", type=int, default=480, help="of the frames in pixels; they are 16:9")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--frames", type=int, default=30, help="frames read of a clip")
    parser.add_argument(
        "--lengths", type=float, nargs="+", default=[10.0, 60.0], help="clips read in both ways, seconds"
    )
    given = parser.parse_args()
    os.environ[_FRAMES] = str(given.frames)
    use_frames(given.frames)
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{number}.mp4" for number in range(min(_NUM_FILES, given.clips))]
        for number, path in enumerate(files):
            write_clip(path, given.seconds, given.height, near=number % 2 == 0)
        clips = clip_table(files, given.seconds, given.clips)
        length = given.seconds * given.clips
        wall, processor = time_extraction(clips, FeaturesConfig(store=str(folder / "a"), num_workers=given.workers))
        features = FeaturesConfig(store=str(folder / "b"))
        loading, stages = time_stages(clips, features)

        title = f"{given.clips} clips of {given.seconds:g} s, {given.height} lines, {given.frames} frames a clip"
        table = Table("stage", "ms per second of media", "share", title=title)
        whole = sum(stages.seconds.values())
        for stage, seconds in sorted(stages.seconds.items(), key=lambda item: -item[1]):
            table.add_row(stage, f"{1000 * seconds / length:.2f}", f"{seconds / whole:.0%}")
        table.add_row("in all", f"{1000 * whole / length:.2f}", "100%", style="bold")
        console.print(table)
        print("encoders:", ", ".join(f"{each} ({modality})" for modality, each in features.encoders.items()))
        allowed, used = 1000 * given.workers / LEAST, 1000 * whole / length
        print(
            f"without start-up, by processor time: {1000 * given.workers / used:.1f} times real time on "
            f"{given.workers} cores ({LEAST:g} times allows {allowed:.0f} ms per second of media, "
            f"{allowed - used:.0f} are left)"
        )
        print(
            f"extract with {given.workers} workers and their start: {wall:.1f} s wall, {length / wall:.1f} times real "
            f"time; {processor:.1f} s processor, {length * given.workers / processor:.1f} times (start-up takes about "
            f"{loading:.1f} s of processor time per worker)"
        )
        console.print(compare_reading(folder, given.lengths, given.height, given.frames))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
