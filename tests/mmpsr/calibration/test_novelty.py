from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from mmpsr.calibration import novelty as module
from mmpsr.calibration.novelty import ClipNovelty, Novelty, NoveltyFit, is_novel, novelty_sentences

LINE = NoveltyFit(np.zeros(1), np.ones((1, 1)), np.ones(1), 1.0, np.array([1.0, 2.0, 4.0]))
"""Of one dimension, in which a clip's distance is its absolute value; dev clips at 1, 2 and 4, the median is 2."""


def clips(num_clips: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_clips, width)) * np.linspace(0.2, 3.0, width)


def test_distances_by_hand() -> None:
    train = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    fit = NoveltyFit.of(train, np.array([[1.0, 0.0]]))
    assert fit is not None
    # S = I / 2, which shrinks to itself: d^2 = |z|^2 / (1/2) / 2 = |z|^2
    np.testing.assert_allclose(fit.distances(np.array([[3.0, 4.0], [0.0, 0.0], [-1.0, 0.0]])), [5.0, 0.0, 1.0])
    assert fit.dev.tolist() == pytest.approx([1.0])


@pytest.mark.parametrize(("num_clips", "width"), [(40, 20), (20, 40), (12, 100)])
def test_distances_are_those_of_an_independent_reference(num_clips: int, width: int) -> None:
    train, other = clips(num_clips, width), clips(7, width, 1)
    fit = NoveltyFit.of(train, other)
    assert fit is not None
    expected = np.sqrt(LedoitWolf().fit(train).mahalanobis(other) / width)
    np.testing.assert_allclose(fit.distances(other), expected, rtol=1e-5)
    np.testing.assert_allclose(fit.dev, np.sort(expected), rtol=1e-5)


def test_directions_that_are_not_kept_share_their_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    train, other = clips(60, 30), clips(9, 30, 1)
    whole = LedoitWolf().fit(train)
    values, vectors = np.linalg.eigh(whole.covariance_)
    values[:26] = values[:26].mean()
    inverse = (vectors / values) @ vectors.T
    centred = other - train.mean(axis=0)
    monkeypatch.setattr(module, "NUM_DIRECTIONS", 4)
    fit = NoveltyFit.of(train, other)
    assert fit is not None
    assert fit.directions.shape == (4, 30)
    np.testing.assert_allclose(fit.distances(other) ** 2 * 30, ((centred @ inverse) * centred).sum(axis=1), rtol=1e-5)


def test_distances_stay_when_the_space_is_turned_or_clips_change_places() -> None:
    train, dev, other = clips(50, 12), clips(10, 12, 1), clips(5, 12, 2)
    turn = np.linalg.qr(clips(12, 12, 3))[0]
    one, two = NoveltyFit.of(train, dev), NoveltyFit.of(train[::-1] @ turn, dev @ turn)
    assert one is not None
    assert two is not None
    np.testing.assert_allclose(one.distances(other), two.distances(other @ turn), rtol=1e-4)
    np.testing.assert_allclose(one.distances(other)[2:3], one.distances(other[2:3]), rtol=1e-12)


def test_of_many_clips_evenly_spaced_ones_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    train, dev = clips(101, 5), clips(3, 5, 1)
    monkeypatch.setattr(module, "MOST_CLIPS", 51)
    few, same = NoveltyFit.of(train, dev), NoveltyFit.of(train[::2], dev)
    assert few is not None
    assert same is not None
    np.testing.assert_array_equal(few.dev, same.dev)


def test_novelty_is_the_share_of_dev_clips_that_are_less_out_of_line() -> None:
    found = LINE.judge(np.array([[8.0], [2.0], [3.0], [-0.4], [4.0], [1.0]]))
    # of the dev clips |ln d - ln 2| is ln 2, 0 and ln 2; of these clips ln 4, 0, ln 1.5, ln 5, ln 2 and ln 2
    assert [clip.num_less for clip in found] == [3, 0, 1, 3, 1, 1]
    assert [clip.percentile for clip in found] == pytest.approx([1.0, 0.0, 1 / 3, 1.0, 1 / 3, 1 / 3])
    assert [clip.ratio for clip in found] == pytest.approx([4.0, 1.0, 1.5, 0.2, 2.0, 0.5])
    assert [clip.num_dev for clip in found] == [3] * 6
    assert LINE.judge(np.zeros((1, 1)))[0].num_less == 3  # at the very mean, where no clip is
    assert LINE.judge(np.zeros((0, 1))) == []


def test_no_dev_clip_is_more_out_of_line_than_all() -> None:
    train, dev = clips(30, 200), clips(25, 200, 1)
    fit = NoveltyFit.of(train, dev)
    assert fit is not None
    ranks = sorted(clip.num_less for clip in fit.judge(dev))
    assert ranks[-1] == 24
    assert ranks[0] == 0


def test_without_clips_there_is_no_fit() -> None:
    assert NoveltyFit.of(clips(1, 3), clips(2, 3)) is None
    assert NoveltyFit.of(clips(5, 3), clips(0, 3)) is None
    assert NoveltyFit.of(np.ones((5, 3)), clips(2, 3)) is None  # all training clips are one


def test_a_column_that_never_changed_in_training_and_does_now_is_seen() -> None:
    train = clips(40, 6)
    train[:, 0] = 0.0
    fit = NoveltyFit.of(train, train[:20])
    assert fit is not None
    changed = train[:1].copy()
    changed[0, 0] = 50.0
    assert fit.judge(changed)[0].percentile == 1.0


def test_it_is_said_in_words_from_where_it_is_notable() -> None:
    far, near = ClipNovelty(3.0, 2.5, 1.0, 56, 56), ClipNovelty(0.3, 0.25, 0.96, 96, 100)
    usual, few = ClipNovelty(1.0, 1.1, 0.94, 94, 100), ClipNovelty(9.0, 9.0, 1.0, 5, 5)
    told = novelty_sentences({"a": far.to_dict(), "b": near.to_dict(), "c": usual.to_dict(), "d": few.to_dict()})
    assert told == [
        "a is unlike the training clips: 2.5 times as far from their mean as usual, more out of line than all 56 dev "
        "clips",
        "b is unlike the training clips: 0.25 times as far from their mean as usual (as longer or more even ones are), "
        "more out of line than 96 of 100 dev clips",
        "d is unlike the training clips: 9 times as far from their mean as usual, more out of line than all 5 dev "
        "clips (so few that one in 6 clips like them is)",
    ]
    assert is_novel({"a": far, "b": near, "c": usual}, 0.94) == ["a", "b", "c"]
    assert is_novel({"a": far, "b": near, "c": usual}, 1.0) == ["a"]
    assert novelty_sentences({}) == []


def test_what_is_stored_is_read_again() -> None:
    fit = NoveltyFit.of(clips(30, 8), clips(6, 8, 1))
    assert fit is not None
    read = Novelty.from_arrays(Novelty({"audio": fit}).to_arrays(), {"audio": 8}).fits["audio"]
    other = clips(5, 8, 2)
    np.testing.assert_array_equal(read.distances(other), fit.distances(other))
    assert read.judge(other) == fit.judge(other)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("text.rest", np.float32(0.0), "text: variances are above 0"),
        ("text.mean", np.zeros(3, np.float32), r"text: shapes .* are not of vectors 2 wide"),
        ("text.dev", np.array([2.0, 1.0]), "dev at least one distance, rising"),
        ("text.dev", np.array([np.nan]), "text.dev holds NaN or infinity"),
        ("text.more", np.zeros(1), "text.more is no part of a novelty fit"),
        ("text.mean", None, "text.mean is missing"),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: np.ndarray | None, message: str) -> None:
    fit = NoveltyFit(np.zeros(2), np.eye(2), np.ones(2), 1.0, np.array([1.0, 2.0]))
    arrays = Novelty({"text": fit}).to_arrays()
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    with pytest.raises(ValueError, match=message):
        Novelty.from_arrays(arrays, {"text": 2})
    with pytest.raises(ValueError, match="are not of vectors -1 wide"):
        Novelty.from_arrays(Novelty({"text": fit}).to_arrays(), {"audio": 2})
