from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from encoders.face.crops import follow


def box(x: float, y: float = 50, side: float = 20) -> list[float]:
    """A face by its centre."""
    return [x - side / 2, y - side / 2, side, side]


def frame(*faces: list[float]) -> NDArray[np.float64]:
    return np.array(faces, dtype=np.float64).reshape(-1, 4)


def test_no_face_in_any_frame() -> None:
    assert follow([]) == []
    assert follow([frame(), frame()]) == [None, None]


def test_the_person_has_the_largest_area_in_sum_not_the_largest_face() -> None:
    # areas: the left one 4 x 400 = 1600; the right one is there once, 30 x 30 = 900
    boxes = [frame(box(0)), frame(box(200, side=30), box(1)), frame(box(2)), frame(box(3))]
    assert follow(boxes) == [0, 1, 0, 0]
    # there twice it has 1800
    boxes[2] = frame(box(2), box(201, side=30))
    assert follow(boxes) == [None, 0, 1, None]


def test_two_who_cross_keep_their_tracks_whatever_their_order() -> None:
    left, right = [0, 15, 30, 45, 60, 75], [75, 60, 45, 30, 15, 0]  # they meet between the frames 2 and 3
    person = [frame(box(a, side=22), box(b)) for a, b in zip(left, right, strict=True)]
    assert follow(person) == [0] * 6
    other_order = [found[::-1] if index % 2 else found for index, found in enumerate(person)]
    assert follow(other_order) == [0, 1, 0, 1, 0, 1]


def test_a_track_waits_while_its_face_is_hidden() -> None:
    # at 10 a frame, hidden at 30: expected at 40; the other face stands at 70 all the time, smaller
    boxes = [frame(box(x, side=22), box(70, y=90, side=18)) for x in (0, 10, 20)]
    boxes += [frame(box(70, y=90, side=18)), frame(box(70, y=90, side=18), box(40, side=22))]
    assert follow(boxes) == [0, 0, 0, None, 1]


def test_a_face_is_expected_where_its_velocity_takes_it_through_frames_without_it() -> None:
    # 25 a frame, more than a side; hidden at 75 and 100; 30 from where it is expected would be too far
    boxes = [frame() if x in (75, 100) else frame(box(x)) for x in range(0, 175, 25)]
    assert follow(boxes) == [0, 0, 0, None, None, 0, 0]


def test_of_two_equally_near_the_one_of_the_same_size_continues_a_track() -> None:
    # sides 20 and 30 at 0 and 30, then at 16 and 14. Kept: 16 / 20 + 16 / 30 = 1.33; swapped: 2 x 14 / 30 = 0.93 by
    # distance, 0.93 + 2 log(30 / 20) = 1.74 with the change of size
    assert follow([frame(box(0), box(30, side=30)), frame(box(14, side=30), box(16))]) == [1, 0]


def test_a_face_far_away_or_of_another_size_is_another_person() -> None:
    # one and a half sides (of 20 pixels) from where it is expected still fits, 31 pixels do not
    assert follow([frame(box(0)), frame(box(30)), frame()]) == [0, 0, None]
    assert follow([frame(box(0)), frame(box(31, side=19)), frame()]) == [0, None, None]
    # twice the side fits, more does not: the larger one has more area
    assert follow([frame(box(0, side=10)), frame(box(0, side=20))]) == [0, 0]
    assert follow([frame(box(0, side=10)), frame(box(0, side=21))]) == [None, 0]


def test_the_sum_of_distances_decides_not_each_face_alone() -> None:
    # two at 0 and 18; then at 12 and 29: both nearest to the one at 18, yet 12 + 11 beats 6 + 29
    assert follow([frame(box(0), box(18, side=21)), frame(box(12), box(29))]) == [1, 1]
    assert follow([frame(box(0, side=21), box(18)), frame(box(29), box(12))]) == [0, 1]
