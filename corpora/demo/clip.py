"""One clip of the demo corpora: who and what is in it, what is broken, and its video file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from corpora.clips import SPLITS, CorpusError, Split
from corpora.demo import face as demo_face
from corpora.demo import script as demo_script
from corpora.demo import voice as demo_voice
from corpora.demo.layouts import BahVideo, FirstImpressionsClip, bah_path, fiv2_path, meld_path, mosei_path
from mmpsr.files import replacing

__all__ = ["BROKEN_KINDS", "CLIPS_PER_GROUP", "CORPORA", "SCENE_SECONDS", "ClipPlan", "encode", "plan", "write_clip"]

CORPORA = ("mosei", "fiv2", "bah", "meld")
CLIPS_PER_GROUP = 5
SCENE_SECONDS = 4.0
"""From the start of one clip of a group to that of the next."""

BROKEN_KINDS: Mapping[str, str] = {
    "no_face": "an empty wall instead of a face",
    "truncated": "the second half of the file is cut off; it cannot be opened",
    "no_audio": "the file has no audio stream",
    "silent": "the audio stream holds nothing but zeros",
    "no_text": "the transcript is empty",
}
_BROKEN_AT: Mapping[tuple[int, int], str] = {
    (0, 3): "no_face", (0, 4): "truncated", (1, 3): "no_audio", (1, 4): "silent", (2, 4): "no_text",
}  # fmt: skip
"""(group, clip within the group) of train and of test, counted from 0 -> what is broken there."""

_FIRST_GROUP: Mapping[Split, int] = {"train": 0, "dev": 600, "test": 800}
_FIV2_FOLDER_SIZE = 80  # clips


@dataclass(frozen=True)
class ClipPlan:
    """One clip that is to be written."""

    corpus: str
    """One of `CORPORA`."""
    split: Split
    """train, dev or test."""
    group: int
    """Participant, video or dialogue, counted from 0 within the split."""
    position: int
    """Clip of the group, counted from 0."""
    seed: int = 0
    """Seed of the whole demo."""

    @property
    def broken(self) -> str:
        """What is broken, one of `BROKEN_KINDS`, or an empty text."""
        return "" if self.split == "dev" else _BROKEN_AT.get((self.group, self.position), "")

    @property
    def group_id(self) -> str:
        """Name of the participant, video or dialogue, as the corpus itself calls it."""
        if self.corpus == "meld":
            return str(self.group)
        number = _FIRST_GROUP[self.split] + self.group
        return {"mosei": f"video{number:03d}", "fiv2": f"speaker{number:03d}", "bah": str(90_000 + number)}[self.corpus]

    @property
    def clip_id(self) -> str:
        """Id of the clip, as the corpus' adapter gives it."""
        if self.corpus == "meld":
            return f"{self.split}_dia{self.group}_utt{self.position}"
        if self.corpus == "mosei":
            return f"{self.group_id}_{self.position}"
        return self.media.stem

    @property
    def media(self) -> PurePosixPath:
        """Path of the video relative to the corpus' folder."""
        if self.corpus == "meld":
            return meld_path(self.split, self.group, self.position)
        if self.corpus == "mosei":
            return mosei_path(self.group_id, self.position)
        return bah_path(self.as_bah()) if self.corpus == "bah" else fiv2_path(self.as_fiv2())

    @property
    def start(self) -> float:
        """Seconds into the video or episode that the clip would be cut from."""
        return self.position * SCENE_SECONDS + 1.0

    def as_bah(self) -> BahVideo:
        """Make it a video of BAH, without what happens in it; each answers another question."""
        return BahVideo(
            participant=self.group_id,
            question=self.position + 1,
            split=self.split,
            label=0,
            text="",
            recorded=f"2024-03-01 10-{self.position:02d}-00",
            host="-DESKTOP-0D3M0" if self.position == CLIPS_PER_GROUP - 1 else "",
            frame_rate=float(demo_face.FPS),
        )

    def as_fiv2(self) -> FirstImpressionsClip:
        """Make it a clip of First Impressions V2, without what happens in it; all show the same woman."""
        folder = (self.group * CLIPS_PER_GROUP + self.position) // _FIV2_FOLDER_SIZE + 1
        clip_id = f"{self.group_id}.{self.position:03d}"
        return FirstImpressionsClip(self.split, clip_id, {}, "", ethnicity=2, gender=2, part=folder)

    def perform(self) -> tuple[demo_script.Person, demo_script.Performance]:
        """Draw who is in the clip and what happens in it."""
        who = demo_script.person(self._rng(0))
        rng = self._rng(1)
        if self.corpus == "fiv2":
            return who, demo_script.personality(who, rng)
        if self.corpus == "bah":
            return who, demo_script.ambivalence(who, rng)
        return who, demo_script.emotion(who, rng, single=self.corpus == "meld")

    def _rng(self, purpose: int) -> np.random.Generator:
        """Seed random numbers of the group (0), the performance (1) or the recording (2)."""
        group = _FIRST_GROUP[self.split] + self.group
        clip = 0 if purpose == 0 else self.position
        return np.random.default_rng([self.seed, CORPORA.index(self.corpus), group, purpose, clip])


def plan(corpus: str, num_clips: int, seed: int = 0) -> list[ClipPlan]:
    """Plan the clips of one corpus: groups of five, split 60/20/20 (MELD: nearly all in test).

    Args:
        corpus: one of `CORPORA`.
        num_clips: how many, at least 15, a multiple of 5.
        seed: seed of the whole demo.

    Raises:
        CorpusError: the corpus is unknown, or there are too few clips for a group in each split.
    """
    if corpus not in CORPORA:
        raise CorpusError(f"no demo corpus is named {corpus!r}; they are {', '.join(CORPORA)}")
    if num_clips < 15 or num_clips % CLIPS_PER_GROUP:
        raise CorpusError(
            f"demo corpus {corpus!r} was to have {num_clips} clips; ask for at least 15 and a multiple of "
            f"{CLIPS_PER_GROUP}, the clips of a group"
        )
    num_groups = num_clips // CLIPS_PER_GROUP
    small = max(1, round(num_groups * 0.2))
    sizes = {"train": num_groups - 2 * small, "dev": small, "test": small}
    if corpus == "meld":
        few = 3 if num_groups >= 9 else 1
        sizes = {"train": few, "dev": 1, "test": num_groups - few - 1}
    return [
        ClipPlan(corpus, split, group, position, seed)
        for split in SPLITS
        for group in range(sizes[split])
        for position in range(CLIPS_PER_GROUP)
    ]


def write_clip(root: Path, clip: ClipPlan) -> None:
    """Draw, voice and encode one clip as `<root>/<corpus>/<media>`; it appears there only when it is whole."""
    who, performance = clip.perform()
    rng = clip._rng(2)
    sound, envelope = demo_voice.speak(performance.voice, rng)
    num_frames = round(len(sound) / demo_voice.SAMPLE_RATE * demo_face.FPS)
    at = (np.arange(num_frames) / demo_face.FPS * demo_voice.SAMPLE_RATE).astype(int)
    cues, head = demo_face.cue_curves(performance.face, who.look, envelope[at], rng)
    frames = demo_face.render(cues, head, who.look, rng)
    if clip.broken == "no_face":
        frames = demo_face.render_wall(num_frames, who.look, rng)
    heard: NDArray[np.float32] | None = sound
    if clip.broken == "silent":
        heard = np.zeros_like(sound)
    elif clip.broken == "no_audio":
        heard = None
    with replacing(root / clip.corpus / clip.media) as file:
        encode(file, frames, heard)
        if clip.broken == "truncated":
            os.truncate(file, file.stat().st_size // 2)


def encode(path: Path, frames: Iterator[NDArray[np.uint8]], sound: NDArray[np.float32] | None) -> None:
    """Write an mp4 file: H.264 (or MPEG-4 where there is no encoder for it) and mono AAC."""
    import av

    h264 = "libx264" in av.codecs_available
    options = {"preset": "ultrafast", "crf": "27"} if h264 else {"qscale": "5"}
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264" if h264 else "mpeg4", rate=demo_face.FPS, options=options)
        video.width = video.height = demo_face.SIZE
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio = None
        if sound is not None:
            audio = container.add_stream("aac", rate=demo_voice.SAMPLE_RATE, layout="mono")
            audio.bit_rate = 48_000
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            samples.sample_rate = demo_voice.SAMPLE_RATE
            container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
