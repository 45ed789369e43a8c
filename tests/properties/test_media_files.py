"""Files as they lie on real disks: whatever is wrong with one, extraction goes on and says what it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from corpora.demo.clip import plan, write_clip
from encoders.config import FeaturesConfig
from encoders.extraction.extract import extract
from encoders.extraction.read import read_vectors
from tests.support.media_files import grey, tone, write_media

pytestmark = pytest.mark.slow
ENCODERS = {"video": "face-mesh", "audio": "egemaps", "behavior": "cue-narrative"}


def write_surround(path: Path) -> None:
    """A grey video with six channels of sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="5.1")
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(grey(number, 64), format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(np.tile(tone(220, 1.0), (6, 1)), "fltp", "5.1")
        block.sample_rate, block.pts = 16_000, 0
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def zeroed(content: bytes, box: bytes, offset: int) -> bytes:
    """The file with four bytes behind each box of a kind set to zero: its time scale or frame durations."""
    patched, at = bytearray(content), content.find(box)
    assert at > 0
    while at > 0:
        patched[at + offset : at + offset + 4] = bytes(4)
        at = content.find(box, at + 1)
    return bytes(patched)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files by what is wrong with them; `good` is a clip with a face and a voice."""
    root = tmp_path_factory.mktemp("fuzzed")
    clip = plan("fiv2", 15)[0]
    good = root / clip.corpus / clip.media
    good.parent.mkdir(parents=True)
    write_clip(root, clip)
    content = good.read_bytes()
    rng = np.random.default_rng(0)
    written = {
        "empty.mp4": b"",
        "garbage.mp4": rng.bytes(20_000),
        "text.mp4": b"an error page instead of a video\n" * 50,
        "no-time-scale.mp4": zeroed(content, b"mdhd", 16),
        "no-frame-rate.mp4": zeroed(content, b"stts", 16),
    }
    for part in (1, 3, 10, 30, 50, 80, 95, 99):
        written[f"cut-at-{part}.mp4"] = content[: len(content) * part // 100]
    for seed in range(10):
        damaged = np.frombuffer(content, np.uint8).copy()
        places = rng.integers(0, len(damaged), 200 if seed % 2 else 20)
        damaged[places] = rng.integers(0, 256, len(places))
        written[f"flipped-{seed}.mp4"] = damaged.tobytes()
    for name, part in written.items():
        (root / name).write_bytes(part)
    for name in ("good.mp4", "named-sound.wav", "named-avi.avi", "no-suffix"):
        shutil.copy(good, root / name)
    write_media(root / "one-frame.mkv", [grey(3, 64)], tone(200, 1.0))
    write_media(root / "no-audio.mkv", [grey(number, 64) for number in range(25)])
    write_media(root / "only-audio.mkv", samples=tone(200, 1.0))
    write_surround(root / "surround.mkv")
    portrait = np.zeros((3840, 2160, 3), np.uint8)
    portrait[::7] = 200
    write_media(root / "portrait.mkv", [portrait, portrait], tone(200, 1.0))
    return {path.name: path for path in sorted(root.iterdir()) if path.is_file()}


def test_no_file_stops_a_run(files: dict[str, Path], tmp_path: Path) -> None:
    clips = pd.DataFrame({"corpus": "toy", "clip_id": list(files), "media": [str(path) for path in files.values()]})
    features = FeaturesConfig(store=str(tmp_path / "store"), encoders=ENCODERS, chunk_size=4, num_workers=1)
    summary = extract(clips, features, show_progress=False)
    reasons = {(row.modality, row.clip_id): row.reason for row in summary.ledger.itertuples()}
    assert all(reason.strip() for reason in reasons.values())
    present = {name: dict(zip(files, has, strict=True)) for name, (has, _) in read_vectors(clips, features).items()}
    for name in files:
        for modality in ENCODERS:
            assert present[modality][name] != ((modality, name) in reasons), "a vector or a reason, and not both"

    for name in ("good.mp4", "named-sound.wav", "named-avi.avi", "no-suffix"):
        assert all(present[modality][name] for modality in ENCODERS), name
    for name in ("empty.mp4", "garbage.mp4", "text.mp4", "cut-at-1.mp4", "cut-at-50.mp4"):
        assert not any(present[modality][name] for modality in ENCODERS), name
    for name in ("one-frame.mkv", "surround.mkv", "portrait.mkv", "only-audio.mkv"):
        assert present["audio"][name], name
        assert not present["video"][name], name
    assert "no face" in reasons["video", "surround.mkv"]
    assert "no audio stream" in reasons["audio", "no-audio.mkv"]
    assert "no video stream" in reasons["video", "only-audio.mkv"]
    vectors = read_vectors(clips, features)
    rows = [list(files).index(name) for name in ("good.mp4", "named-sound.wav")]
    for _, values in vectors.values():
        np.testing.assert_array_equal(values[rows[0]], values[rows[1]])
