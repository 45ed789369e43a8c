"""The demo's corpus in time, `bah_frames`: BAH's layout, hesitation at known seconds of some of a person's videos.

It lies beside the other demo corpora and shares no file with them. What is shown, voiced and said follows from the
spells of `spells`, and so do the labels of every frame. One video has no face and one no sound; `broken.csv` lists
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from corpora.clips import SPLITS, CorpusError, Split
from corpora.demo import face as demo_face
from corpora.demo import script as demo_script
from corpora.demo import spells as demo_spells
from corpora.demo.build import MARKER, is_built, run_all, write_broken
from corpora.demo.clip import encode
from corpora.demo.layouts import BahVideo, bah_path, write_bah
from corpora.demo.voice import SAMPLE_RATE
from mmpsr.files import replacing, write_whole

__all__ = ["FOLDER", "PARTICIPANTS", "FrameVideo", "build_demo_frames", "plan_frames"]

VERSION = 1
"""Raised whenever the same seed would give other files."""
FOLDER = "bah_frames"
"""Folder and name of the corpus."""
PARTICIPANTS: Mapping[Split, int] = {"train": 12, "dev": 4, "test": 6}
VIDEOS_EACH = 5
SECONDS = (8.0, 10.0)

_FIRST: Mapping[Split, int] = {"train": 0, "dev": 600, "test": 800}
_BROKEN = {("train", 0, 3): "no_face", ("train", 0, 4): "silent"}
_CUES = {
    "audio": "pauses, breath", "body": None, "facial": "brows, lips, eyes aside", "inconsistencies": None,
    "language": "um",
}  # fmt: skip


@dataclass(frozen=True)
class FrameVideo:
    """One video that is to be written."""

    split: Split
    """train, dev or test."""
    participant: int
    """Counted from 0 within the split."""
    position: int
    """Video of the participant, counted from 0: the question that it answers."""
    seed: int = 0
    """Seed of the corpus."""
    seconds: tuple[float, float] = SECONDS
    """Shortest and longest length."""

    @property
    def number(self) -> str:
        """Number of the participant, as the corpus itself gives it."""
        return str(95_000 + _FIRST[self.split] + self.participant)

    @property
    def broken(self) -> str:
        """What is broken, `no_face` or `silent`, or an empty text."""
        return _BROKEN.get((self.split, self.participant, self.position), "")

    @property
    def media(self) -> PurePosixPath:
        """Path of the video relative to the corpus' folder."""
        return bah_path(self._bare())

    def script(self) -> tuple[demo_script.Person, demo_spells.Scene]:
        """Draw who is in the video and what happens when: of five videos of a person two or three have a spell."""
        rng = self._rng(0)
        who = demo_script.person(rng)
        num_present = 2 + int(rng.random() < 0.25)
        is_present = bool(rng.permutation(VIDEOS_EACH)[self.position] < num_present)
        return who, demo_spells.scene(who, is_present, self.seconds, self._rng(1))

    def as_bah(self) -> BahVideo:
        """Make it a video of BAH, with what is said of it."""
        script = self.script()[1]
        half = 0.5 / demo_face.FPS  # a time within the last frame
        return replace(
            self._bare(),
            label=int(bool(script.spells)),
            text=script.text,
            chunks=[("english", f" {chunk.text}", chunk.start, chunk.end) for chunk in script.chunks],
            segments=[
                (round(first / demo_face.FPS, 3), round(last / demo_face.FPS + half, 3))
                for first, last in script.spells
            ],
            frame_segments=script.spells,
            cues=[_CUES] * len(script.spells),
            num_frames=script.num_frames,
        )

    def _bare(self) -> BahVideo:
        return BahVideo(
            participant=self.number,
            question=self.position + 1,
            split=self.split,
            label=0,
            text="",
            recorded=f"2024-05-01 11-{self.position:02d}-00",
            frame_rate=float(demo_face.FPS),
        )

    def _rng(self, purpose: int) -> np.random.Generator:
        """Seed random numbers of the person (0), the script (1) or the recording (2)."""
        video = 0 if purpose == 0 else self.position
        return np.random.default_rng([self.seed, 95, _FIRST[self.split] + self.participant, purpose, video])


def plan_frames(
    participants: Mapping[Split, int] = PARTICIPANTS, seed: int = 0, seconds: tuple[float, float] = SECONDS
) -> list[FrameVideo]:
    """Plan the videos: five of each participant of each split."""
    return [
        FrameVideo(split, participant, position, seed, seconds)
        for split in SPLITS
        for participant in range(participants.get(split, 0))
        for position in range(VIDEOS_EACH)
    ]


def build_demo_frames(
    root: Path,
    seed: int = 0,
    participants: Mapping[Split, int] = PARTICIPANTS,
    *,
    seconds: tuple[float, float] = SECONDS,
    faces: bool = False,
    num_workers: int | None = None,
) -> None:
    """Write the corpus as `<root>/bah_frames`, unless it is there already; a build that was killed is completed.

    Args:
        root: folder below which it lies, that of the other demo corpora or another; created if needed.
        seed: another seed gives other people, words and spells.
        participants: participants of each split, five videos each; default `PARTICIPANTS`.
        seconds: shortest and longest length of a video, at least 5 s.
        faces: write a cropped and aligned face, 256 x 256, for every frame as well; of the video without a face the
            whole frames, at their own size.
        num_workers: processes that write videos; default one per processor. 1 writes in this process.

    Raises:
        CorpusError: the folder holds something else, or was built with other settings.
    """
    from filelock import FileLock

    folder = Path(root).absolute() / FOLDER
    if seconds[0] < 5.0 or seconds[1] < seconds[0]:
        raise CorpusError(f"videos of {seconds[0]:g} to {seconds[1]:g} s; the shortest has at least 5 s for its spells")
    videos = plan_frames(participants, seed, seconds)
    settings = {
        "version": VERSION, "seed": seed, "clips_per_corpus": {FOLDER: len(videos)},
        "participants": dict(participants), "seconds": list(seconds), "faces": faces,
    }  # fmt: skip
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{FOLDER}.lock")):
        if _is_complete(folder, settings):
            return
        folder.mkdir(exist_ok=True)
        write_whole(folder / MARKER, json.dumps({**settings, "complete": False}))
        missing = [video for video in videos if not (folder / video.media).exists()]
        run_all(partial(_write_video, folder, faces=faces), missing, f"Writing {FOLDER}", num_workers)
        said = [video.as_bah() for video in videos]
        people = {
            video.number: {
                "age": 20 + int(video.number) % 50, "gender": "female", "student": int(video.number) % 3 == 0,
                "use in challenges": True, "use in publications": int(video.number) % 4 != 3,
            }
            for video in videos
        }  # fmt: skip
        write_bah(folder, said, people)
        write_broken(folder, [
            (FOLDER, video.media.stem, video.split, video.broken, f"{FOLDER}/{video.media}") for video in videos
        ])  # fmt: skip
        write_whole(folder / MARKER, json.dumps({**settings, "complete": True}))


def _is_complete(folder: Path, settings: Mapping[str, object]) -> bool:
    """Tell whether exactly this corpus is there; False where it has to be built or completed."""
    marker = folder / MARKER
    if not marker.exists():
        if folder.exists() and any(folder.iterdir()):
            raise CorpusError(f"{folder} holds something, but no {MARKER}: it is no demo; choose another folder")
        return False
    return is_built(marker, settings, "corpus")


def _write_video(folder: Path, video: FrameVideo, faces: bool) -> None:
    """Draw, voice and encode one video; it appears in its place only when it, and its faces, are whole."""
    import cv2

    who, script = video.script()
    rng = video._rng(2)
    sound, envelope = demo_spells.sound_of(script, who, rng)
    at = (np.arange(script.num_frames) / demo_face.FPS * SAMPLE_RATE).astype(int)
    cues, head = demo_spells.face_of(script, who, envelope[at], rng)
    drawn = demo_face.render(cues, head, who.look, rng)
    if video.broken == "no_face":
        drawn = demo_face.render_wall(script.num_frames, who.look, rng)
    frames = list(drawn)
    (folder / video.media).parent.mkdir(parents=True, exist_ok=True)
    if faces:
        pictures = folder / "cropped-aligned-faces" / video.media
        pictures.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(frames):
            is_face = video.broken != "no_face"
            picture = demo_face.aligned_face(frame, who.look, head[number]) if is_face else frame
            _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
            (pictures / f"frame-{number}.jpg").write_bytes(data.tobytes())
    with replacing(folder / video.media) as file:
        encode(file, iter(frames), np.zeros_like(sound) if video.broken == "silent" else sound)
