"""How long corpora of full size take to index, beside a loop of Python, and how much memory.

Each is read in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from corpora.demo.layouts import (
    FirstImpressionsClip,
    MeldUtterance,
    MoseiSegment,
    fiv2_path,
    meld_path,
    mosei_path,
    write_fiv2,
    write_meld,
    write_mosei,
)
from mmpsr.tasks import PERSONALITY
from tests.support.mosei_tree import full_path, sound_path

pytestmark = pytest.mark.slow
NUM_CLIPS = 25_000
MOST_TIMES = 4.0
"""The time of twenty million additions: 5 s where they take 1.3 s."""
MEBIBYTES = 500.0
TRAITS = ("interview", "neuroticism", *(name for name in PERSONALITY.classes if name != "non-neuroticism"))

READ = r"""
import json, os, re, sys, time
from pathlib import Path
import corpora.reading.paths
from corpora.registry import CorporaConfig, read_corpora
from mmpsr.tasks import BUILTIN_TASKS
walked, scandir = [], os.scandir
def counted(folder):
    walked.append(os.fspath(folder))
    return scandir(folder)
corpora.reading.paths.os.scandir = counted
config = CorporaConfig.model_validate(json.loads(sys.argv[1]))
began, total = time.process_time(), 0
for number in range(5_000_000):
    total += number
reference = 4 * (time.process_time() - began)
began = time.process_time()  # other tests may run beside
table = read_corpora(config, BUILTIN_TASKS)
times = (time.process_time() - began) / reference
status = Path("/proc/self/status").read_text()  # getrusage counts the process that started this one
peak = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024
most = max(walked.count(folder) for folder in set(walked)) if walked else 0
print(json.dumps([len(table.clips), int(table.clips["media"].notna().sum()), times, peak, most]))
"""


def touch(folder: Path, paths: list[PurePosixPath]) -> None:
    for parent in {folder / path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    for path in paths:
        (folder / path).write_bytes(b"0")


def mosei(folder: Path) -> dict[str, object]:
    """Eight segments of each video, segmented and full videos, and the sound."""
    split = ("train", "train", "train", "dev", "test")
    fear = {"fear": 1.0}
    segments = [
        MoseiSegment(f"vid{video:05d}", clip, 7.6 * clip, 7.6 * clip + 8, f"words {clip}", 1.0, fear, split[video % 5])
        for video in range(NUM_CLIPS // 8)
        for clip in range(8)
    ]
    write_mosei(folder, segments)
    touch(folder, [mosei_path(segment.video, segment.clip) for segment in segments])
    videos = {segment.video for segment in segments}
    touch(folder, [place(video) for video in videos for place in (full_path, sound_path)])
    return {"adapter": "mosei"}


def fiv2(folder: Path) -> dict[str, object]:
    scores = dict.fromkeys(TRAITS, 0.5)
    split = ("train", "train", "train", "dev", "test")
    clips = [
        FirstImpressionsClip(split[row % 5], f"-yt{row // 3:06d}.{row % 3:03d}", scores, f"words {row}", 2, 1, row % 75)
        for row in range(NUM_CLIPS)
    ]
    write_fiv2(folder, clips)
    touch(folder, [fiv2_path(clip) for clip in clips])
    return {"adapter": "fiv2"}


def meld(folder: Path) -> dict[str, object]:
    split = ("train", "train", "train", "dev", "test")
    said = ("words", "Ada", "joy", "positive")
    utterances = [
        MeldUtterance(split[row // 10 % 5], row // 10, row % 10, *said, row, row + 2.0) for row in range(NUM_CLIPS)
    ]
    write_meld(folder, utterances)
    touch(folder, [meld_path(one.split, one.dialogue, one.utterance) for one in utterances])
    return {"adapter": "meld"}


def table(folder: Path) -> dict[str, object]:
    rows = [f"clip{row},words {row},{row % 5},1,0.{row % 10}" for row in range(NUM_CLIPS)]
    folder.mkdir()
    (folder / "t.csv").write_text("name,text,fold,joy,fear\n" + "\n".join(rows) + "\n", encoding="utf-8")
    touch(folder, [PurePosixPath("videos", f"clip{row}.mp4") for row in range(NUM_CLIPS)])
    return {
        "adapter": "table", "files": "t.csv", "id": "name", "text": "text", "media": "videos/{name}.mp4",
        "split": {"column": "fold", "values": {"0": "train", "1": "train", "2": "train", "3": "dev", "4": "test"}},
        "labels": {"emotion": {"Happiness": "joy", "Fear": "fear"}},
    }  # fmt: skip


def read(config: dict[str, object]) -> list[float]:
    """What `READ` prints of a configuration's corpora."""
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(config)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    numbers: list[float] = json.loads(done.stdout)
    return numbers


@pytest.mark.parametrize("write", [mosei, fiv2, meld, table])
def test_25000_clips_are_indexed_in_seconds(tmp_path: Path, write: object) -> None:
    assert callable(write)
    source = write(tmp_path / "corpus")
    config = {"root": str(tmp_path), "sources": {"one": {**source, "path": "corpus"}}}
    runs = [read(config)]
    if runs[0][2] >= MOST_TIMES:  # the better of two, since other work on the machine only slows
        runs.append(read(config))
    print(write.__name__, runs)
    clips, with_media, times, peak, most = min(runs, key=lambda run: run[2])
    assert (clips, with_media) == (NUM_CLIPS, NUM_CLIPS)
    assert most <= 1, "a folder is listed more than once"
    assert times < MOST_TIMES
    assert peak < MEBIBYTES
