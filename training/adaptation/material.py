"""What is adapted and judged: a vector, a label and a place in time for each frame or clip of a corpus.

It comes from joined clips (`of_clips`), of which at BAH's level `frame` each is a frame, or from clips whose frames
were stored in time (`of_timed`, and `of_videos` for arrays of one's own).

N rows, D width of a row's vector, T frames of a video.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from corpora.clips import ClipTable, CorpusError, label_columns
from encoders.timed import NONE, TimedSequences
from mmpsr.adaptation.base import Places
from mmpsr.adaptation.pictures import Pictures
from mmpsr.config import ConfigError, nearest
from mmpsr.tasks import TaskSpec
from training.data.joined import JoinedCorpora
from training.data.timelines import grid_labels

__all__ = ["Material", "VideoFrames", "chosen_modalities", "of_clips", "of_timed", "of_videos"]

FRAME_RATE = 24
"""Frames per second of BAH's videos, by which single pictures are placed in time."""
_FRAME = re.compile(r".*/frame-(\d+)")


@dataclass(frozen=True)
class Material:
    """Rows of a corpus with a vector and a label.

    Attributes:
        features: float32 `[N, D]`, or pictures.
        labels: int64 `[N]`, 1 for the task's second class.
        participants: str `[N]`, whom each row shows.
        splits: str `[N]`, `train`, `dev` or `test`.
        videos: str `[N]`, video of each row.
        seconds: float64 `[N]`, of each row in its video; NaN where unknown.
        mirrored: likewise, of the mirrored pictures; None where there are none.
        notes: what was left out, and what a reader should know.
    """

    features: Tensor | Pictures
    labels: NDArray[np.int64]
    participants: NDArray[np.str_]
    splits: NDArray[np.str_]
    videos: NDArray[np.str_]
    seconds: NDArray[np.float64]
    mirrored: Tensor | Pictures | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Material:
        """Take some of the rows, in this order; pictures are not read."""
        index = torch.from_numpy(rows)
        return replace(
            self,
            features=_taken(self.features, index),
            mirrored=None if self.mirrored is None else _taken(self.mirrored, index),
            **{name: getattr(self, name)[rows] for name in ("labels", "participants", "splits", "videos", "seconds")},
        )

    def segments(self) -> NDArray[np.int64]:
        """Number spans of one label, `[N]`: rows of a video that follow each other in time."""
        order = np.lexsort((np.arange(len(self)), np.nan_to_num(self.seconds, nan=np.inf), self.videos))
        videos, labels = self.videos[order], self.labels[order]
        begins = np.ones(len(self), dtype=bool)
        begins[1:] = (videos[1:] != videos[:-1]) | (labels[1:] != labels[:-1])
        numbers = np.empty(len(self), dtype=np.int64)
        numbers[order] = np.cumsum(begins) - 1
        return numbers

    def places(self) -> Places | None:
        """Say where the rows are in time; None where that is unknown of any."""
        if not np.isfinite(self.seconds).all():
            return None
        numbers = np.unique(self.videos, return_inverse=True)[1].astype(np.int64)
        device = self.features.device
        return Places(torch.from_numpy(numbers).to(device), torch.from_numpy(self.seconds).to(device))

    def sha256(self) -> str:
        """Sum up all rows."""
        digest = hashlib.sha256()
        if isinstance(self.features, Pictures):  # and mirrored are the same ones
            for part in self.features.contents():
                digest.update(part)
        else:
            for each in (self.features, self.mirrored):
                if isinstance(each, Tensor):
                    digest.update(np.ascontiguousarray(each.cpu().numpy()).data)
        digest.update(self.labels.tobytes() + self.seconds.tobytes())
        for names in (self.participants, self.splits, self.videos):
            digest.update("\0".join(names.tolist()).encode())
        return digest.hexdigest()


def _taken(features: Tensor | Pictures, rows: Tensor) -> Tensor | Pictures:
    return features.take(rows) if isinstance(features, Pictures) else features[rows]


@dataclass(frozen=True)
class VideoFrames:
    """Frames of one video with their labels, as a store of features in time and an annotation give them.

    Attributes:
        video: its name.
        participant: whom it shows.
        split: `train`, `dev` or `test`.
        values: vectors `[T, D]`, any floating type.
        labels: `[T]`, 1 present, 0 absent, -1 unknown.
        rate: frames per second.
        start: second of frame 0.
        usable: bool `[T]`, frames whose vector was measured or repeated; None for all.
        mirrored: vectors of the mirrored pictures, if there are any.
    """

    video: str
    participant: str
    split: str
    values: NDArray[np.floating]
    labels: NDArray[np.int8]
    rate: Fraction
    start: float = 0.0
    usable: NDArray[np.bool_] | None = None
    mirrored: NDArray[np.floating] | None = None


def of_videos(videos: Iterable[VideoFrames], step: int = 1) -> Material:
    """Make rows of the frames of videos.

    Args:
        videos: one at a time, so that a mapped store is read once.
        step: every how manieth frame is taken, beginning with the first.

    Raises:
        CorpusError: a video has not as many labels as frames, or no frame has both a vector and a label.
    """
    values, mirrored, labels, names, seconds = [], [], [], [], []
    num_bare = num_unknown = 0
    for each in videos:
        length = len(each.values)
        if len(each.labels) != length:
            raise CorpusError(f"video {each.video!r} has {length} frames and {len(each.labels)} labels")
        frames = np.arange(0, length, step)
        usable = np.ones(length, dtype=bool) if each.usable is None else each.usable
        num_bare += int((~usable[frames]).sum())
        num_unknown += int((usable[frames] & (each.labels[frames] < 0)).sum())
        frames = frames[usable[frames] & (each.labels[frames] >= 0)]
        values.append(np.asarray(each.values[frames], dtype=np.float32))
        if each.mirrored is not None:
            mirrored.append(np.asarray(each.mirrored[frames], dtype=np.float32))
        labels.append(each.labels[frames].astype(np.int64))
        names += [(each.participant, each.split, each.video)] * len(frames)
        seconds.append(each.start + frames / float(each.rate))
    if not names:
        raise CorpusError("no frame of these videos has both a vector and a label")
    participants, splits, video_names = (np.array(part) for part in zip(*names, strict=True))
    has_mirrored = sum(map(len, mirrored)) == len(names)
    return Material(
        torch.from_numpy(np.concatenate(values)), np.concatenate(labels), participants, splits, video_names,
        np.concatenate(seconds).astype(np.float64),
        torch.from_numpy(np.concatenate(mirrored)) if has_mirrored else None,
        tuple(_left_out("frames", num_bare, num_unknown)),
    )  # fmt: skip


def of_timed(
    table: ClipTable,
    timed: Mapping[str, TimedSequences],
    corpus: str,
    task: str,
    spec: TaskSpec,
    by: str,
    step: int = 1,
    is_resampled: bool = False,
) -> Material:
    """Make rows of the frames of a corpus' clips, from a store of features in time and labels in time.

    A frame is used where every modality has something there; without a label it is left out and counted.

    Args:
        table: clips, row i of which is clip i of `timed`, with timelines.
        timed: by modality.
        corpus: whose clips.
        task: of the timelines; a single-label task of two classes.
        spec: the task.
        by: see `of_clips`.
        step: every how manieth frame is taken.
        is_resampled: whether the features have another rate than their files.

    Raises:
        ConfigError: the task is of another kind, or there is no such column.
        CorpusError: no clip has labels in time, or no frame has both features and a label.
    """
    _require_two_classes(task, spec)
    own = table.clips[table.clips["corpus"].eq(corpus)]
    participants = _participants(own, corpus, by)
    timelines = {row: table.timelines.get((corpus, str(own.at[row, "clip_id"])), {}).get(task) for row in own.index}
    if not any(timelines.values()):
        raise CorpusError(
            f"no clip of corpus {corpus!r} has labels of {task} in time; BAH reads them with "
            f"`--set corpora.sources.{corpus}.timelines=true`"
        )

    def videos() -> Iterator[VideoFrames]:
        for row, timeline in timelines.items():
            rates = [sequences.rates[row] for sequences in timed.values()]
            if timeline is None or pd.isna(participants[row]) or any(rate is None for rate in rates):
                continue
            first = next(iter(timed.values()))
            rate, start = first.rates[row], float(first.starts[row])
            assert rate is not None  # of every modality
            usable = np.stack([sequences.state(row) != NONE for sequences in timed.values()]).all(axis=0)
            values = np.concatenate([sequences.frames(row) for sequences in timed.values()], axis=1)
            labels = grid_labels(timeline, first, row, own.loc[row], is_resampled)
            who, split, video = (
                str(value) for value in (participants[row], own.at[row, "split"], own.at[row, "clip_id"])
            )
            yield VideoFrames(video, who, split, values, labels, rate, start, usable)

    found = of_videos(videos(), step)
    used = set(found.videos.tolist())
    unused = sum(str(own.at[row, "clip_id"]) not in used for row in own.index)
    notes = (f"{unused:,} of {len(own):,} clips give no frame with features, a label and a {by}",) if unused else ()
    return replace(found, notes=(*notes, *found.notes))


def chosen_modalities(known: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Choose the modalities whose vectors are joined; by default video, else the first.

    Raises:
        ConfigError: one is not known.
    """
    for name in wanted:
        if name not in known:
            raise ConfigError(f"protocol.modalities: the run has no modality {name!r}; {nearest(name, known)}")
    return tuple(wanted) or (("video",) if "video" in known else (known[0],))


def of_clips(
    joined: JoinedCorpora,
    corpus: str,
    task: str,
    spec: TaskSpec,
    by: str,
    modalities: Sequence[str],
    mirrored: str | None = None,
) -> Material:
    """Make rows of the joined clips of a corpus.

    Args:
        joined: clips of all splits.
        corpus: whose clips.
        task: labels; a single-label task of two classes.
        spec: the task.
        by: `participant`, the group of clips that are grouped so, or a column of the clip table.
        modalities: whose vectors are put side by side.
        mirrored: corpus of the mirrored clips.

    Raises:
        ConfigError: the task is of another kind, or there is no such column.
        CorpusError: no clip has a vector and a label, or mirrored clips are missing.
    """
    _require_two_classes(task, spec)
    clips = joined.clips
    own = clips["corpus"].eq(corpus).to_numpy(dtype=bool)
    participants = _participants(clips[own], corpus, by)
    columns = [list(joined.features).index(name) for name in modalities]
    has_vector = joined.presence[:, columns].all(dim=1).cpu().numpy()
    targets = clips[label_columns(task, spec)].to_numpy(dtype=np.float64)
    has_label = np.isfinite(targets).all(axis=1)
    has_person = np.zeros(len(clips), dtype=bool)
    has_person[own] = participants.notna().to_numpy(dtype=bool)
    kept = np.flatnonzero(own & has_vector & has_label & has_person)
    if not len(kept):
        raise CorpusError(
            f"corpus {corpus!r}: none of its {own.sum():,} clips has a vector of {' and '.join(modalities)} "
            f"({(own & has_vector).sum():,} do), a label of {task} ({(own & has_label).sum():,}) and a {by} "
            f"({has_person.sum():,}); `mmpsr doctor` says why"
        )
    chosen = clips.iloc[kept]
    notes = [*_left_out("clips", int((own & ~has_vector).sum()), int((own & has_vector & ~has_label).sum()))]
    if without := int((own & has_vector & has_label & ~has_person).sum()):
        notes.append(f"{without:,} clips say no {by} and are left out")
    if clips.loc[own, "clip_id"].str.contains("/frame-").fillna(False).any():
        notes.append(f"frames are placed in time by their number, at {FRAME_RATE} frames a second")
    features = torch.cat([joined.features[name][torch.from_numpy(kept)] for name in modalities], dim=1)
    return Material(
        features, targets[kept].argmax(axis=1).astype(np.int64), participants.loc[chosen.index].to_numpy(str),
        chosen["split"].to_numpy(str), _videos(chosen).to_numpy(str), _seconds(chosen),
        None if mirrored is None else _mirrored(joined, chosen, mirrored, modalities), tuple(notes),
    )  # fmt: skip


def _require_two_classes(task: str, spec: TaskSpec) -> None:
    if spec.kind != "single_label" or spec.num_outputs != 2:
        raise ConfigError(
            f"adaptation takes a single-label task of two classes, but {task!r} is {spec.kind} with {spec.num_outputs}"
        )


def _left_out(what: str, num_bare: int, num_unknown: int) -> Iterable[str]:
    if num_bare:
        yield f"{num_bare:,} {what} have no vector and are left out"
    if num_unknown:
        yield f"{num_unknown:,} {what} with a vector have no label and are left out"


def _participants(clips: pd.DataFrame, corpus: str, by: str) -> pd.Series:
    if by == "participant":
        kinds = clips["group_kind"].dropna().unique().tolist()
        if kinds != ["participant"]:
            found = f"are grouped by {' and '.join(kinds)}" if kinds else "do not say what their groups are"
            raise ConfigError(
                f"--by participant: clips of {corpus!r} {found}; name the column that says whom a clip shows, such as "
                "--by speaker, or --by group to take the groups as people"
            )
        return clips["group"]
    if by not in clips:
        raise ConfigError(f"--by: no column of the clip table is named {by!r}; {nearest(by, map(str, clips))}")
    return clips[by].astype("string")


def _videos(clips: pd.DataFrame) -> pd.Series:
    """Name each clip's video: what the corpus says, the media that it is a span of, or itself."""
    videos = clips["clip_id"].astype("string")
    spans = clips["start"].notna() | clips["end"].notna()
    videos = clips["media"].astype("string").where(spans).fillna(videos)
    return clips["raw.video"].astype("string").fillna(videos) if "raw.video" in clips else videos


def _seconds(clips: pd.DataFrame) -> NDArray[np.float64]:
    """Place clips in their videos: by their start, or by the number of their frame."""
    numbers = clips["clip_id"].astype("string").str.extract(_FRAME, expand=False).astype("float64")
    whole = clips["start"].astype("float64").fillna(0.0)
    return (numbers / FRAME_RATE).fillna(whole).to_numpy(np.float64, copy=True)


def _mirrored(joined: JoinedCorpora, chosen: pd.DataFrame, corpus: str, modalities: Sequence[str]) -> Tensor:
    others = joined.clips[joined.clips["corpus"].eq(corpus)]
    rows = pd.Series(others.index, index=others["clip_id"])
    missing = chosen.loc[~chosen["clip_id"].isin(rows.index), "clip_id"]
    if len(missing):
        raise CorpusError(
            f"protocol.mirrored: {len(missing):,} of {len(chosen):,} clips are not in corpus {corpus!r}, the first "
            f"{missing.iloc[0]!r}; it must have the same clip ids"
        )
    index = torch.from_numpy(rows[chosen["clip_id"]].to_numpy(np.int64, copy=True))
    columns = [list(joined.features).index(name) for name in modalities]
    absent = ~joined.presence[index][:, columns].all(dim=1)
    if absent.any():
        first = chosen["clip_id"].iloc[int(absent.nonzero()[0])]
        raise CorpusError(
            f"protocol.mirrored: {int(absent.sum()):,} clips of corpus {corpus!r} have no vector of "
            f"{' and '.join(modalities)}, the first {first!r}"
        )
    return torch.cat([joined.features[name][index] for name in modalities], dim=1)
