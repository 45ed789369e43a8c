from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from corpora.clips import ClipTable, CorpusError, conform
from corpora.timeline import Segment, Timeline
from encoders.timed import TimedSequences
from mmpsr.config import ConfigError
from mmpsr.tasks import BUILTIN_TASKS, EMOTION
from tests.support.media_files import write_media
from training.adaptation.material import VideoFrames, chosen_modalities, of_clips, of_timed, of_videos
from training.data.joined import JoinedCorpora

AMBIVALENCE = BUILTIN_TASKS["ambivalence"]
FRAMES = (
    ("v1/frame-10", "p1", "v1", 1), ("v1/frame-2", "p1", "v1", 0), ("v1/frame-11", "p1", "v1", 0),
    ("v2/frame-0", "p2", "v2", 0), ("v2/frame-1", "p2", "v2", None), ("v2/frame-2", "p2", "v2", 1),
)  # fmt: skip
"""Clip id, participant, video, label."""


def joined(**changes: Any) -> JoinedCorpora:
    """Six frames of two people, of which the last has no video vector."""
    clips = pd.DataFrame(FRAMES, columns=["clip_id", "group", "raw.video", "label"])
    clips = conform(clips.assign(corpus="bah", split="test", group_kind="participant", **changes))
    label = clips.pop("label").astype("float64")
    clips["ambivalence.absent"], clips["ambivalence.present"] = 1 - label, label
    features = {"audio": torch.arange(6.0).unsqueeze(1), "video": torch.arange(12.0).view(6, 2)}
    presence = torch.ones(6, 2, dtype=torch.bool)
    presence[5, 1] = False
    labels = torch.from_numpy(clips[["ambivalence.absent", "ambivalence.present"]].to_numpy(np.float32))
    return JoinedCorpora(clips, features, presence, {"ambivalence": labels})


def test_frames_with_a_vector_and_a_label_in_their_places() -> None:
    found = of_clips(joined(), "bah", "ambivalence", AMBIVALENCE, "participant", ["video", "audio"])
    assert found.features.tolist() == [[0, 1, 0], [2, 3, 1], [4, 5, 2], [6, 7, 3]]
    assert found.labels.tolist() == [1, 0, 0, 0]
    assert found.participants.tolist() == ["p1", "p1", "p1", "p2"]
    assert found.videos.tolist() == ["v1", "v1", "v1", "v2"]
    np.testing.assert_allclose(found.seconds, np.array([10, 2, 11, 0]) / 24)
    assert found.notes == (
        "1 clips have no vector and are left out",
        "1 clips with a vector have no label and are left out",
        "frames are placed in time by their number, at 24 frames a second",
    )
    # in order of time: 2 absent, 10 present, 11 absent, each a segment of its own; the other video another
    assert len(set(found.segments().tolist())) == 4
    places = found.places()
    assert places is not None
    assert places.near(torch.tensor([0]), 0.1).tolist() == [[True, False, True, False]]


def test_spans_of_one_file_are_of_one_video() -> None:
    clips = joined(media="a.mp4", start=[0.0, 4.0, 2.0, np.nan, 0.0, 1.0])
    clips.clips = clips.clips.drop(columns="raw.video").assign(clip_id=list("abcdef"))
    found = of_clips(clips, "bah", "ambivalence", AMBIVALENCE, "participant", ["audio"])
    assert found.videos.tolist() == ["a.mp4", "a.mp4", "a.mp4", "d", "a.mp4"]  # a clip without a span is a video
    assert found.seconds.tolist() == [0.0, 4.0, 2.0, 0.0, 1.0]


def test_whom_a_clip_shows() -> None:
    clips = joined(speaker=["s1", "s2", None, "s1", "s1", "s1"])
    found = of_clips(clips, "bah", "ambivalence", AMBIVALENCE, "speaker", ["video"])
    assert found.participants.tolist() == ["s1", "s2", "s1"]
    assert "1 clips say no speaker and are left out" in found.notes
    with pytest.raises(ConfigError, match="--by: no column of the clip table is named 'speakr'; did you mean 'sp"):
        of_clips(clips, "bah", "ambivalence", AMBIVALENCE, "speakr", ["video"])
    clips.clips["group_kind"] = "dialogue"
    with pytest.raises(ConfigError, match=r"clips of 'bah' are grouped by dialogue; name the column .* --by speaker"):
        of_clips(clips, "bah", "ambivalence", AMBIVALENCE, "participant", ["video"])


def test_what_cannot_be_adapted() -> None:
    with pytest.raises(ConfigError, match="a single-label task of two classes, but 'emotion' is multi_label with 7"):
        of_clips(joined(), "bah", "emotion", EMOTION, "participant", ["video"])
    blank = joined()
    blank.presence[:] = False
    with pytest.raises(
        CorpusError, match=r"none of its 6 clips has a vector of video \(0 do\), a label .* \(5\) and a"
    ):
        of_clips(blank, "bah", "ambivalence", AMBIVALENCE, "participant", ["video"])
    assert chosen_modalities(["audio", "video"], ()) == ("video",)
    assert chosen_modalities(["text", "audio"], ()) == ("text",)
    with pytest.raises(ConfigError, match=r"protocol.modalities: the run has no modality 'vido'; did you mean 'video'"):
        chosen_modalities(["audio", "video"], ["vido"])


def test_mirrored_clips_are_found_by_their_ids() -> None:
    own = joined()
    order = [3, 0, 1, 2, 4, 5]
    other = own.select(torch.tensor(order))
    other.clips["corpus"] = "mirror"
    both = JoinedCorpora(
        pd.concat([own.clips, other.clips], ignore_index=True),
        {name: torch.cat([part, -other.features[name]]) for name, part in own.features.items()},
        torch.cat([own.presence, other.presence]),
        {},
    )
    found = of_clips(both, "bah", "ambivalence", AMBIVALENCE, "participant", ["video"], "mirror")
    assert found.mirrored is not None
    assert found.mirrored.tolist() == (-found.features).tolist()
    both.presence[7] = False
    with pytest.raises(
        CorpusError, match="1 clips of corpus 'mirror' have no vector of video, the first 'v1/frame-10'"
    ):
        of_clips(both, "bah", "ambivalence", AMBIVALENCE, "participant", ["video"], "mirror")
    both.clips.loc[7, "clip_id"] = "another"
    with pytest.raises(CorpusError, match="1 of 4 clips are not in corpus 'mirror', the first 'v1/frame-10'"):
        of_clips(both, "bah", "ambivalence", AMBIVALENCE, "participant", ["video"], "mirror")


def video(name: str = "v", **changes: Any) -> VideoFrames:
    values = np.arange(10, dtype=np.float16).reshape(5, 2)
    labels = np.array([0, 1, -1, 1, 0], dtype=np.int8)
    return VideoFrames(**{
        "video": name, "participant": "p", "split": "test", "values": values, "labels": labels, "rate": Fraction(5),
        "start": 1.0, **changes,
    })  # fmt: skip


def test_frames_of_a_store_in_time() -> None:
    usable = np.array([True, True, True, False, True])
    found = of_videos([video(usable=usable), video("w", mirrored=np.ones((5, 2)))], step=1)
    assert found.features.dtype == torch.float32
    assert found.features[:3].tolist() == [[0, 1], [2, 3], [8, 9]]
    assert found.labels.tolist() == [0, 1, 0, 0, 1, 1, 0]
    np.testing.assert_allclose(found.seconds[:3], [1.0, 1.2, 1.8])
    assert found.videos.tolist() == ["v"] * 3 + ["w"] * 4
    assert found.mirrored is None  # not of all
    assert found.notes[0] == "1 frames have no vector and are left out"
    assert of_videos([video()], step=3).labels.tolist() == [0, 1]
    mirrored = of_videos([video(mirrored=np.ones((5, 2)))]).mirrored
    assert mirrored is not None
    assert mirrored.tolist() == [[1.0, 1.0]] * 4
    with pytest.raises(CorpusError, match="video 'v' has 5 frames and 2 labels"):
        of_videos([video(labels=np.zeros(2, dtype=np.int8))])
    with pytest.raises(CorpusError, match="no frame of these videos has both"):
        of_videos([video(labels=np.full(5, -1, dtype=np.int8))])


def test_the_sum_tells_materials_apart() -> None:
    first = of_videos([video()])
    assert first.sha256() == of_videos([video()]).sha256()
    others = [video("w"), video(participant="q"), video(split="dev"), video(start=2.0), video(values=np.ones((5, 2)))]
    sums = {of_videos([each]).sha256() for each in [*others, video(mirrored=np.ones((5, 2)))]}
    assert len({first.sha256(), *sums}) == 7


def test_rows_without_a_time_have_no_places() -> None:
    found = of_videos([video(start=float("nan"))])
    assert found.places() is None


def timed(path: Path, values: list[list[float]], states: list[list[int]], rate: int = 2) -> TimedSequences:
    """Sequences of width 1, of which clips without frames have nothing."""
    lengths = np.array([len(each) for each in values], dtype=np.int64)
    np.save(path, np.concatenate([np.array(each, np.float16).reshape(-1, 1) for each in values]))
    present = lengths > 0
    return TimedSequences(
        1, [path], np.where(present, 0, -1), np.cumsum(lengths) - lengths, lengths,
        [Fraction(rate) if each else None for each in present], np.zeros(len(values)),
        [np.array(each, np.int8).tobytes() for each in states],
    )  # fmt: skip


def test_frames_of_clips_with_features_and_labels_in_time(tmp_path: Path) -> None:
    clips = joined().clips.iloc[:4].assign(clip_id=["a", "b", "c", "d"]).reset_index(drop=True)
    spells = Timeline(None, (Segment(0.5, 1.0, 1),))
    timelines = {("bah", name): {"ambivalence": spells} for name in "abd"}  # c has none
    sequences = {
        "audio": timed(tmp_path / "a.npy", [[1, 2, 3, 4], [5, 6], [7], []], [[2, 2, 2, 0], [1, 1], [2], []]),
        "video": timed(tmp_path / "v.npy", [[9, 8, 7, 6], [5, 4], [3], []], [[0, 2, 2, 2], [2, 2], [2], []]),
    }
    arguments = ("bah", "ambivalence", AMBIVALENCE, "participant")
    found = of_timed(ClipTable(clips, timelines=timelines), sequences, *arguments)
    # of a, the first frame has no picture and the last no sound; its second, at 0.5 s, is present; so is b's second
    assert found.features.tolist() == [[2, 8], [3, 7], [5, 5], [6, 4]]
    assert found.labels.tolist() == [1, 0, 0, 1]
    assert found.seconds.tolist() == [0.5, 1.0, 0.0, 0.5]
    assert found.videos.tolist() == ["a", "a", "b", "b"]
    assert found.participants.tolist() == ["p1"] * 4
    assert found.notes == (
        "2 of 4 clips give no frame with features, a label and a participant",
        "2 frames have no vector and are left out",
    )
    with pytest.raises(
        CorpusError, match=r"no clip of corpus 'bah' has labels of ambivalence in time; .*timelines=true"
    ):
        of_timed(ClipTable(clips), sequences, *arguments)


def test_labels_of_frames_count_the_frames_of_the_file(tmp_path: Path) -> None:
    """A file of 8 frames at 4 a second, whose features are kept at 2: frame i of these is frame 2 i of the file."""
    media = tmp_path / "clip.mp4"
    write_media(media, list(np.zeros((8, 32, 32, 3), np.uint8)), fps=4)
    row = {"corpus": "bah", "clip_id": "a", "split": "test", "group": "p1", "group_kind": "participant"}
    clips = conform(pd.DataFrame([{**row, "media": str(media)}]))
    frames = np.array([0, 0, 1, 1, 0, 0, 0, 0], dtype=np.int8)
    table = ClipTable(clips, timelines={("bah", "a"): {"ambivalence": Timeline(frames, outside=-1)}})
    sequences = {"audio": timed(tmp_path / "a.npy", [[0, 1, 2, 3]], [[2, 2, 2, 2]])}
    arguments = (table, sequences, "bah", "ambivalence", AMBIVALENCE, "participant")
    assert of_timed(*arguments, is_resampled=True).labels.tolist() == [0, 1, 0, 0]
    assert of_timed(*arguments).labels.tolist() == [0, 0, 1, 1]  # were the file's frames at the features' rate
