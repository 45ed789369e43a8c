from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from encoders.spec import EncoderSpec
from encoders.store.timed_store import TimedStore
from encoders.timed import (
    MEASURED,
    NONE,
    REPEATED,
    Grid,
    Timed,
    TimedSequences,
    hold_last,
    nearest_elements,
    spread,
    timed_statistics,
    within_frames,
    word_at,
)


def stored(root: Path, *clips: NDArray[np.float16]) -> TimedSequences:
    spec = EncoderSpec("fake", 1, "video", clips[0].shape[1], {}, "0123456789ab").in_time(None, {})
    timed = [
        Timed(values, Fraction(24), 0.0, np.where(values.any(axis=1), MEASURED, NONE).astype(np.int8))
        for values in clips
    ]
    ids = [str(index) for index in range(len(clips))]
    store = TimedStore(root)
    for first in range(0, len(ids), 2):  # several parts
        several = slice(first, first + 2)
        store.write_timed("a", spec, ids[several], ids[several], timed[several])
    return store.open_timed("a", spec, [*ids, "none"], [*ids, "none"])


def test_windows_begin_where_the_reference_has_them() -> None:
    assert Grid(7, Fraction(24)).hundredths().tolist() == [0, 4, 8, 12, 17, 21, 25]
    late = Grid(2401, Fraction(24000, 1001)).hundredths()
    assert late[-1] == round(100 * 2400 * 1001 / 24000) == 10010
    assert Grid(2, Fraction(25), 3.0, 0.02).hundredths().tolist() == [2, 6]


def test_a_grid_counts_from_the_clip_and_from_the_media() -> None:
    grid = Grid(3, Fraction(25), start=2.04, lead=0.03)
    np.testing.assert_allclose(grid.seconds, [0.03, 0.07, 0.11])
    shown = Grid(5, Fraction(50), pictures=np.array([0, 0, 1, 1, 2]))
    assert shown.of_pictures(np.array([7, 8, 9])).tolist() == [7, 7, 8, 8, 9]
    np.testing.assert_allclose(shown.picture_seconds, [0.0, 0.04, 0.08])


def test_nothing_stands_before_what_is_found_first() -> None:
    rows, state = hold_last(np.array([False, False, True, False, False, True]))
    assert rows.tolist() == [0, 0, 2, 2, 2, 5]
    assert state.tolist() == [NONE, NONE, MEASURED, REPEATED, REPEATED, MEASURED]
    assert hold_last(np.zeros(3, bool))[1].tolist() == [NONE] * 3


def test_a_frame_averages_what_begins_within_it() -> None:
    # 24 frames a second: borders at 0, 4.17, 8.33, 12.5 hundredths, so frames 0, 1, 2 have rows 0-4, 5-8, 9-12
    rows = np.arange(13.0)[:, None]
    values, state = within_frames(rows, 0.01, Grid(4, Fraction(24)))
    assert values[:, 0].tolist() == [2.0, 6.5, 10.5, 12.0]  # of the fourth, which begins at 12.5, the last again
    assert state.tolist() == [MEASURED] * 3 + [REPEATED]
    # elements rarer than frames: the nearest, and none is counted twice
    values, state = within_frames(np.array([[1.0], [2.0]]), 0.5, Grid(4, Fraction(4)))
    assert values[:, 0].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert within_frames(rows, 0.01, Grid(2, Fraction(24), lead=0.05))[0][0, 0] == 7.0  # 5 to 9.17: rows 5 to 9


def test_elements_stand_for_their_span() -> None:
    rows, state = nearest_elements(np.array([0.02, 0.12, 0.22]), Grid(8, Fraction(25)), 0.1)
    # frames at 0, 4, 8, 12, 16, 20, 24, 28 hundredths; what comes before the first element is nearest to it
    assert rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert state.tolist() == [MEASURED] * 8
    assert nearest_elements(np.array([0.0]), Grid(3, Fraction(10)), 0.1)[1].tolist() == [MEASURED, REPEATED, REPEATED]


def test_the_first_word_wins_and_pauses_are_empty() -> None:
    # 24 frames a second; a word from 1/24 up to but not at 3/24
    assert word_at([(1 / 24, 3 / 24)], Grid(5, Fraction(24))).tolist() == [-1, 0, 0, -1, -1]
    assert word_at([(0.0, 0.3), (0.1, 0.4)], Grid(5, Fraction(10))).tolist() == [0, 0, 0, 1, -1]
    assert word_at([(0.01, 0.03)], Grid(3, Fraction(10))).tolist() == [-1, -1, -1]  # between two frames


def test_blocks_are_even_and_the_first_are_longer() -> None:
    assert np.bincount(spread(3, 11)).tolist() == [4, 4, 3]  # 11 = 3 * 3 + 2
    assert np.bincount(spread(5, 642)).tolist() == [129, 129, 128, 128, 128]
    assert spread(4, 4).tolist() == [0, 1, 2, 3]
    assert spread(9, 4).tolist() == [0, 1, 2, 3]


def test_values_are_zero_where_there_is_nothing() -> None:
    grid = Grid(2, Fraction(24), 1.5)
    timed = Timed.on(grid, np.array([[np.nan, 1.0], [2.0, 3.0]]), np.array([NONE, MEASURED], dtype=np.int8))
    assert timed.values.tolist() == [[0.0, 0.0], [2.0, 3.0]]
    assert (timed.rate, timed.start) == (Fraction(24), 1.5)
    with pytest.raises(ValueError, match="3 rows and 2 states for 2 frames"):
        Timed.on(grid, np.zeros((3, 2)), np.zeros(2, dtype=np.int8))
    with pytest.raises(OverflowError, match="reach 70000, and float16 ends at 65504"):
        Timed.on(grid, np.full((2, 2), 7e4), np.full(2, MEASURED, dtype=np.int8))


def test_statistics_are_those_of_the_frames_put_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [(1000 + rng.normal(size=(length, 3))).astype(np.float16) for length in (5000, 1, 30, 9000)]
    clips[2][10:] = 0
    clips = [clip * np.array([1, 1, 0], dtype=np.float16) + np.array([0, 0, 3], dtype=np.float16) for clip in clips]
    clips[2][10:] = 0
    sequences = stored(tmp_path, *clips)
    mean, std = timed_statistics(sequences, [0, 1, 2, 4])  # 3 is not of training, 4 has nothing
    together = np.concatenate(clips[:3]).astype(np.float64)
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, together.std(axis=0, ddof=1), rtol=1e-9)
    mean, std = timed_statistics(sequences, [0, 1, 2], with_none=False)
    spoken = together[together.any(axis=1)]
    assert len(spoken) == 5011
    np.testing.assert_allclose(mean, spoken.mean(axis=0), rtol=1e-12)
    assert std[2] == 1e-6  # the same at all frames
    nothing = timed_statistics(sequences, [4])
    assert [each.tolist() for each in nothing] == [[0.0] * 3, [1.0] * 3]


def test_files_are_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encoders.timed._MOST_MAPS", 2)
    clips = [np.full((3, 2), index + 1, dtype=np.float16) for index in range(8)]
    sequences = stored(tmp_path, *clips)
    for index in (0, 2, 4, 6, 0, 7):
        assert sequences.frames(index, 1, 2).tolist() == [[index + 1.0] * 2]
        assert len(sequences._maps) <= 2
