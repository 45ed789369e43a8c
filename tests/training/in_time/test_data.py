"""Features and labels in time, laid side by side and cut into windows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from corpora.clips import ClipTable, CorpusError, conform
from corpora.timeline import Timeline
from encoders.timed import MEASURED, NONE, REPEATED
from mmpsr.tasks import AMBIVALENCE
from tests.support.in_time import RATE, planted, sequences_of
from tests.support.media_files import write_media
from training.data.timelines import media_rate_of
from training.in_time.data import Scale, Window, gather_frames


def test_labels_and_features_share_frames(tmp_path: Path) -> None:
    table, data = planted(tmp_path)
    assert data.lengths.tolist() == [60] * 24
    assert set(data.rates) == {RATE}
    spell = np.flatnonzero(data.labels[0] == 1)  # from 1 s to 3 s at 10 frames a second
    assert (spell[0], spell[-1]) == (10, 29)
    assert data.clip_labels.tolist() == [1, 0] * 12
    assert data.rows(["own"], "dev").tolist() == list(range(12, 18))
    assert len(table.clips) == 24


def test_a_clip_without_a_timeline_has_unknown_labels_and_keeps_its_own(tmp_path: Path) -> None:
    table, data = planted(tmp_path)
    timelines = {key: own for key, own in table.timelines.items() if key[1] != "clip00"}
    again = gather_frames(
        type(table)(table.clips, table.defects, timelines),
        data.features,
        "ambivalence",
        AMBIVALENCE,
        list(data.features),
    )
    assert set(again.labels[0].tolist()) == {-1}
    assert again.clip_labels[0] == 1
    assert again.labelled.tolist() == [False] + [True] * 23


def test_windows_hold_every_frame_and_batches_are_padded(tmp_path: Path) -> None:
    _, data = planted(tmp_path)
    data.scales.update(
        {name: Scale(np.zeros(width, np.float32), np.ones(width, np.float32)) for name, width in data.widths.items()}
    )
    windows = data.windows([0, 23], 50, 40)
    assert windows == [Window(0, 0, 50), Window(0, 10, 60), Window(23, 0, 50), Window(23, 10, 60)]
    features, mask, presence = data.batch([Window(0, 0, 50), Window(23, 55, 60)])
    assert mask.sum(dim=1).tolist() == [50, 5]
    assert presence.tolist() == [[True, True, True], [True, False, True]]
    expected = data.features["video"].frames(23, 55, 60).astype(np.float32)
    torch.testing.assert_close(features["video"][1, :5], torch.from_numpy(expected))
    assert not features["video"][1, 5:].any()
    targets = data.targets([Window(0, 8, 12), Window(0, 0, 2)])
    assert targets.tolist() == [[0, 0, 1, 1], [0, 0, -1, -1]]


def test_frames_without_a_measurement_are_at_the_training_mean(tmp_path: Path) -> None:
    table, _ = planted(tmp_path)
    values = np.zeros((60, 1))
    values[10:, 0] = np.where(np.arange(50) % 2, 3.0, 5.0)  # mean 4, deviation 1 but for n - 1
    state = np.where(np.arange(60) < 10, NONE, np.where(np.arange(60) < 20, REPEATED, MEASURED))
    one = sequences_of(tmp_path, "one", [values] * 24, [state] * 24)
    alone = gather_frames(table, {"video": one}, "ambivalence", AMBIVALENCE, ["video"])
    alone.fit_scales(np.array([0, 1]))
    scale = alone.scales["video"]
    assert scale.mean[0] == pytest.approx(4.0)
    assert scale.std[0] == pytest.approx((100 / 99) ** 0.5)
    frames = alone.frames("video", Window(5, 8, 12))
    assert frames[:, 0].tolist() == [4.0, 4.0, 5.0, 3.0]


def test_a_constant_component_is_not_blown_up(tmp_path: Path) -> None:
    table, _ = planted(tmp_path)
    one = sequences_of(tmp_path, "one", [np.full((60, 1), 2.0)] * 24)
    alone = gather_frames(table, {"video": one}, "ambivalence", AMBIVALENCE, ["video"])
    alone.fit_scales(np.array([0, 1]))
    assert alone.scales["video"].std.tolist() == [1.0]


def test_modalities_on_two_grids_are_refused(tmp_path: Path) -> None:
    table, data = planted(tmp_path)
    other = sequences_of(tmp_path, "other", [np.zeros((61, 1))] * 24)
    with pytest.raises(
        CorpusError, match="clip 'clip00' of 'own': audio has 61 frames at 10 a second from 0 s, another "
    ):
        gather_frames(
            table, {"video": data.features["video"], "audio": other}, "ambivalence", AMBIVALENCE, ["video", "audio"]
        )
    assert Fraction(10) == RATE


def test_labels_of_frames_count_the_frames_of_the_file(tmp_path: Path) -> None:
    """A file of 20 frames at 20 a second, whose features are kept at 10: frame i of these is frame 2 i of the file."""
    media = tmp_path / "clip.mp4"
    write_media(media, list(np.zeros((20, 32, 32, 3), np.uint8)), fps=20)
    row = {"corpus": "own", "split": "train", "clip_id": "a", "media": str(media), "group": "p"}
    clips = conform(pd.DataFrame([row])).assign(**{"ambivalence.absent": 0.0, "ambivalence.present": 1.0})
    frames = np.zeros(20, np.int8)
    frames[10:14] = 1
    table = ClipTable(clips, timelines={("own", "a"): {"ambivalence": Timeline(frames, outside=-1)}})
    video = sequences_of(tmp_path, "video", [np.zeros((10, 1))])
    data = gather_frames(table, {"video": video}, "ambivalence", AMBIVALENCE, ["video"], is_resampled=True)
    assert data.labels[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0]
    assert media_rate_of(media) == 20
