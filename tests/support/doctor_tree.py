"""A tree of the four corpora in their official layouts and a table, clean or with 25 kinds of defects planted in it.

Ids, names and words are invented. Media are copies of a few tiny files.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from corpora.clips import SPLITS, Split
from corpora.demo.layouts import (
    BahVideo,
    FirstImpressionsClip,
    MeldUtterance,
    MoseiSegment,
    bah_path,
    fiv2_path,
    meld_path,
    mosei_path,
    write_bah,
    write_csd,
    write_fiv2,
    write_folds,
    write_meld,
    write_transcripts,
)
from mmpsr.tasks import EMOTION
from tests.support.media_files import tone, write_media
from tests.support.mosei_tree import full_path, sound_path

COUNTS = {
    "bah": {"train": 6, "dev": 2, "test": 4},
    "mosei": {"train": 8, "dev": 2, "test": 4},
    "fiv2": {"train": 6, "dev": 2, "test": 4},
    "meld": {"train": 8, "dev": 2, "test": 4},
    "table": {"train": 8, "dev": 2, "test": 4},
}
"""Clips of the clean tree, by corpus and split."""
CONFIG = """
[corpora]
root = "."
[corpora.sources.bah]
adapter = "bah"
path = "bah"
[corpora.sources.mosei]
adapter = "mosei"
path = "mosei"
[corpora.sources.fiv2]
adapter = "fiv2"
path = "fiv2"
[corpora.sources.meld]
adapter = "meld"
path = "meld"
[corpora.sources.table]
adapter = "table"
path = "table"
files = "labels.csv"
id = "name"
text = "words"
media = "file"
start = "from"
end = "to"
group = "video"
speaker = "who"
language = "en"
split = "part"
labels.emotion = ["{classes}"]
""".replace("{classes}", '", "'.join(EMOTION.classes))

_MELD_EMOTIONS = ("neutral", "anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")
_MOSEI_EMOTIONS = ("happiness", "sadness", "anger", "disgust", "surprise", "fear")
_TRAITS = ("extraversion", "neuroticism", "agreeableness", "conscientiousness", "interview", "openness")
_SECONDS, _LONG_SECONDS = 2.0, 8.0


@dataclass(frozen=True)
class Media:
    """Tiny files to copy: one without fault, one for each fault, and longer ones."""

    good: Path
    long: Path
    sound: Path
    black: Path
    faceless: Path
    mute: Path
    silent: Path
    truncated: Path

    @classmethod
    def write(cls, folder: Path) -> Media:
        """Write them."""
        from skimage.data import astronaut

        face = np.ascontiguousarray(astronaut()[:256, 96:352])
        wall = np.full_like(face, 120)
        wall[64:] = 150
        frames, sound = round(10 * _SECONDS), tone(220.0, _SECONDS)
        long_sound = tone(220.0, _LONG_SECONDS)

        def video(name: str, image: np.ndarray, samples: np.ndarray | None, num_frames: int = frames) -> Path:
            path = folder / f"{name}.mp4"
            return write_media(path, [image] * num_frames, samples, fps=10, key_frame_every=10, audio_codec="aac")

        good = video("good", face, sound)
        truncated = folder / "truncated.mp4"
        truncated.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
        return cls(
            good=good,
            long=video("long", face, long_sound, round(10 * _LONG_SECONDS)),
            sound=write_media(folder / "sound.wav", None, long_sound),
            black=video("black", np.zeros_like(face), sound),
            faceless=video("faceless", wall, sound),
            mute=video("mute", face, None),
            silent=video("silent", face, np.zeros_like(sound)),
            truncated=truncated,
        )


def _each(corpus: str) -> Iterable[tuple[int, Split, int]]:
    """Number of the clip in the corpus, its split, its number in the split."""
    number = 0
    for split in SPLITS:
        for position in range(COUNTS[corpus][split]):
            yield number, split, position
            number += 1


def _text(corpus: str, number: int) -> str:
    return f"In {corpus} someone counted {number} red lamps along the northern harbour wall."


def _copy(media: Path, folder: Path, path: PurePosixPath) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(media, folder / path)


def build(root: Path, media: Media, planted: bool) -> None:
    """Write the tree below `root`, with or without the defects."""
    (root / "run.toml").write_text(CONFIG, encoding="utf-8")
    for write in (_write_bah, _write_mosei, _write_fiv2, _write_meld, _write_table):
        write(root / write.__name__.removeprefix("_write_"), media, planted)


def _write_bah(folder: Path, media: Media, planted: bool) -> None:
    videos = [
        BahVideo(
            participant=f"{90100 + number}", question=1 + number % 7, split=split, label=position % 2,
            text=_text("bah", number), chunks=[("en", _text("bah", number), 0.0, 1.5)],
        )
        for number, split, position in _each("bah")
    ]  # fmt: skip
    consents = {video.participant: {"Use in challenges": "Yes", "Use in publications": "Yes"} for video in videos}
    if planted:
        videos[2] = replace(videos[2], label=2)  # bad_label
        consents["90103"]["Use in challenges"] = "No"  # consent_denied
        videos[8] = replace(videos[8], participant="90100")  # shared_group
    write_bah(folder, videos, consents)
    for video in videos:
        _copy(media.good, folder, bah_path(video))
    if planted:
        (folder / bah_path(videos[4])).unlink()  # missing_media
        table = folder / "bah-video.csv"  # disagreement
        line = f"{bah_path(videos[5])},"
        table.write_text(table.read_text(encoding="utf-8").replace(f"{line}1", f"{line}0"), encoding="utf-8")


def _write_mosei(folder: Path, media: Media, planted: bool) -> None:
    segments = []
    for number, split, position in _each("mosei"):
        first = number % 2 * _SECONDS
        emotions = {} if position == 0 else {_MOSEI_EMOTIONS[(position - 1) % 6]: 1.0}
        segments.append(
            MoseiSegment(f"mVid{number // 2:02d}-AbCd", number % 2, first, first + _SECONDS, _text("mosei", number),
                         (number % 3) - 1.0, emotions, split)
        )  # fmt: skip
    stray = replace(segments[0], video="strayVideo1", clip=0, text=_text("mosei", 99))
    if planted:
        segments[2] = replace(segments[2], text="")  # missing_text
        segments[6] = replace(segments[6], start=-0.25)  # mended
    write_csd(folder, [*segments, stray] if planted else segments)  # unusable_row
    write_transcripts(folder, [*segments, stray] if planted else segments)
    write_folds(folder, segments)
    for segment in segments:
        black = planted and segment is segments[4]
        _copy(media.black if black else media.good, folder, mosei_path(segment.video, segment.clip))
        _copy(media.long, folder, full_path(segment.video))
        _copy(media.sound, folder, sound_path(segment.video))


def _write_fiv2(folder: Path, media: Media, planted: bool) -> None:
    clips = [
        FirstImpressionsClip(
            split, f"fIv2tube{number // 2:03d}.{number % 2:03d}",
            {trait: (number + place) % 7 / 7 for place, trait in enumerate(_TRAITS)}, _text("fiv2", number), 2, 1,
        )
        for number, split, _ in _each("fiv2")
    ]  # fmt: skip
    files = [media.good] * len(clips)
    if planted:
        clips[10] = replace(clips[10], text=clips[1].text)  # shared_text
        files[2], files[3], files[4] = media.truncated, media.mute, media.faceless  # unreadable, no_audio, no_face
        clips.append(replace(clips[0], clip_id="fIv2tube000.002", text=_text("fiv2", 99)))  # count_differs
        files.append(media.good)
    write_fiv2(folder, clips)
    for clip, file in zip(clips, files, strict=True):
        _copy(file, folder, fiv2_path(clip))


def _write_meld(folder: Path, media: Media, planted: bool) -> None:
    said = [
        MeldUtterance(split, position // 2, position % 2, _text("meld", number), f"Speaker {number % 3}",
                      _MELD_EMOTIONS[position], "neutral", 10.0 * number, 10.0 * number + _SECONDS)
        for number, split, position in _each("meld")
    ]  # fmt: skip
    rows, files = list(said), [media.good] * len(said)
    if planted:
        rows[5] = replace(rows[5], end=rows[5].start + 304.9)  # bad_span
        rows.insert(2, rows[1])  # duplicate_id
        files[3], files[4] = media.silent, media.long  # silent, span_disagrees
        _copy(media.good, folder, meld_path("test", 99, 0))  # missing_annotation
    write_meld(folder, rows)
    for utterance, file in zip(said, files, strict=True):
        _copy(file, folder, meld_path(utterance.split, utterance.dialogue, utterance.utterance))


def _write_table(folder: Path, media: Media, planted: bool) -> None:
    rows = [
        {
            "name": f"row{number}", "words": _text("table", number), "file": f"videos/row{number}.mp4", "from": "",
            "to": "", "video": f"film{number // 2}", "who": f"s{number % 3}", "part": split,
            **{name: int(position % 7 == place) for place, name in enumerate(EMOTION.classes)},
        }
        for number, split, position in _each("table")
    ]  # fmt: skip
    for row in rows:
        _copy(media.good, folder, PurePosixPath(str(row["file"])))
    if planted:
        rows[1] |= {"file": rows[0]["file"]}  # repeated_media
        rows.append({**rows[13], "name": "row14", "words": "something else", "part": "trian"})  # unknown_split
        rows[4] |= {"from": "0.5", "to": "20"}  # span_outside
        rows[5] |= {"from": "1.0", "to": "1.2"}  # too_short
        rows[12] |= {"video": "fIv2tube001"}  # shared_name
        rows[3] |= {"Fear": 0, "Anger": 1}  # constant_label
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
