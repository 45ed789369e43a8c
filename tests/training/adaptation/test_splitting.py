from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike

from mmpsr.config import ConfigError, validate
from training.adaptation.config import ProtocolConfig
from training.adaptation.material import Material
from training.adaptation.splitting import Parts, cut, seed_of


def person(labels: ArrayLike, videos: ArrayLike | None = None) -> Material:
    labels = np.asarray(labels, dtype=np.int64)
    videos = np.zeros(len(labels)) if videos is None else np.asarray(videos)
    names, seconds = np.full(len(labels), "p"), np.arange(len(labels)) / 24
    return Material(
        torch.zeros(len(labels), 1), labels, names, np.full(len(labels), "test"), videos.astype(str), seconds
    )


def sizes(parts: Parts) -> list[int]:
    return [len(parts.train), len(parts.val), len(parts.test)]


def test_single_frames_of_each_class_are_cut_seven_one_two() -> None:
    who = person([0] * 100 + [1] * 50)
    parts = cut(who, ProtocolConfig(split_by="frame"), 0)
    assert sizes(parts) == [105, 15, 30]
    assert [int(who.labels[of].sum()) for of in (parts.train, parts.val, parts.test)] == [35, 5, 10]
    together = np.concatenate([parts.train, parts.val, parts.test])
    assert sorted(together.tolist()) == list(range(150))
    assert (parts.split_by, parts.note) == ("frame", "")


def test_equal_draws_as_many_absent_frames_as_present_ones() -> None:
    who = person([0] * 100 + [1] * 50)
    parts = cut(who, ProtocolConfig(split_by="frame", classes="equal"), 0)
    assert sizes(parts) == [70, 10, 20]
    assert [int(who.labels[of].sum()) for of in (parts.train, parts.val, parts.test)] == [35, 5, 10]
    few = cut(person([0] * 20 + [1] * 50), ProtocolConfig(split_by="frame", classes="equal"), 0)
    assert sum(sizes(few)) == 70  # with fewer absent ones there are nothing to draw


def test_videos_stay_together() -> None:
    videos = np.repeat(np.arange(7), 40)
    labels = ((np.arange(280) % 40) < 10) & (videos < 5)  # five videos with a present segment
    who = person(labels, videos)
    for seed in range(20):
        parts = cut(who, ProtocolConfig(), seed)
        assert parts.split_by == "video"
        of_parts = [set(who.videos[of].tolist()) for of in (parts.train, parts.val, parts.test)]
        assert not of_parts[0] & of_parts[1] | of_parts[0] & of_parts[2] | of_parts[1] & of_parts[2]
        assert all(who.labels[of].any() for of in (parts.train, parts.test))
        assert len(of_parts[0]) in (4, 5)


def test_too_few_videos_fall_back_to_segments_and_say_so() -> None:
    labels = np.tile(np.repeat([0, 1], 10), 10)
    who = person(labels, np.repeat([0, 1], 100))
    parts = cut(person(labels, np.zeros(200)), ProtocolConfig(), 0)
    assert (parts.split_by, parts.note) == ("segment", "1 video(s), 1 with the second class: cut by segment")
    parts = cut(who, ProtocolConfig(split_by="segment"), 3)
    assert parts.note == ""
    segments = who.segments()
    assert len(set(segments.tolist())) == 20
    assert not set(segments[parts.train].tolist()) & set(segments[parts.test].tolist())
    assert sizes(parts) == [140, 20, 40]


def test_seeds_cut_differently_and_names_make_seeds() -> None:
    who = person([0, 1] * 50)
    cuts = [cut(who, ProtocolConfig(split_by="frame"), seed).test.tolist() for seed in (0, 0, 1)]
    assert cuts[0] == cuts[1] != cuts[2]
    assert len({seed_of(seed, *names) for seed in (0, 1) for names in (("a",), ("b",), ("a", "b"), ())}) == 8


@pytest.mark.parametrize("fractions", [[0.7, 0.1, 0.1], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.9, -0.1, 0.2]])
def test_shares_that_cannot_be(fractions: list[float]) -> None:
    with pytest.raises(ConfigError, match="fractions: expected three shares with sum 1, the first and the last above"):
        validate(ProtocolConfig, {"fractions": fractions}, "test")
