"""Windows in words: shares, stretches, moments and smoothing, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.windows import DOUBT, EMOTION, TRAITS, window, with_sadness
from training.timeline.windows import (
    decided_in,
    densest,
    key_moments,
    open_in,
    shared_sentences,
    smooth,
    span_of,
    task_sentences,
)


def test_how_often_and_when_a_class_is_there() -> None:
    clips = with_sadness(0.1, 0.1, 0.1, 0.9, 0.8, 0.1, 0.7, 0.1, 0.1, 0.1)
    # 3 of 10; 2 of the 3 lie in windows 3 and 4, from 30 to 50 s, and 3 of 4 in windows 3 to 6: 3 - 4/2 = 1 as 2 - 2/2
    assert task_sentences("emotion", EMOTION, clips) == [
        "Neutral above 0.5 in all of the windows",
        "Sadness above 0.25 in 30 % of the windows, mostly 0:30-0:50",
        "never Anger",
    ]
    together = task_sentences("emotion", EMOTION, with_sadness(0.1, 0.9, 0.9, 0.1))
    assert "Sadness above 0.25 in 50 % of the windows, 0:10-0:30" in together
    scattered = task_sentences("emotion", EMOTION, with_sadness(0.9, 0.1, 0.1, 0.9, 0.1, 0.1, 0.9))
    assert "Sadness above 0.25 in 43 % of the windows, here and there, most in 0:00-0:10" in scattered
    always = task_sentences("emotion", EMOTION, with_sadness(*[0.9] * 19, 0.1))
    assert "Sadness above 0.25 in 95 % of the windows, throughout" in always
    seldom = task_sentences("emotion", EMOTION, with_sadness(*[0.1] * 200, 0.9))
    assert any(sentence.startswith("Sadness above 0.25 in less than 1 % of the windows, ") for sentence in seldom)


def test_no_decision_is_none_of_the_classes() -> None:
    clips = [window(number, "doubt", absent=0.6, present=0.4) for number in range(4)]
    assert task_sentences("doubt", DOUBT, clips) == ["absent in all of the windows", "never present"]
    for clip in clips[:3]:
        clip["tasks"]["doubt"]["abstained"] = True
    assert decided_in(clips, "doubt", "absent").tolist() == [False] * 3 + [True]
    assert task_sentences("doubt", DOUBT, clips) == [
        "absent in 25 % of the windows, 0:30-0:40", "never present", "no decision in 3 of 4 windows",
    ]  # fmt: skip
    nothing = [window(number, Anger=0.1, Sadness=0.1, Neutral=0.1) for number in range(2)]
    assert task_sentences("emotion", EMOTION, nothing) == ["none of the classes in any window"]


def test_what_sets_leave_open() -> None:
    clips = [window(number, "doubt", absent=0.6, present=0.4) for number in range(4)]
    assert open_in(clips, "doubt", "present") is None
    for clip, states in zip(clips, (["absent"], ["absent", "present"], ["absent"], ["absent"]), strict=True):
        clip["tasks"]["doubt"]["prediction_set"] = states
    assert task_sentences("doubt", DOUBT, clips)[-1] == (
        "sets rule neither in nor out absent in 25 %, present in 25 % of the windows"
    )
    labels = with_sadness(0.4)
    labels[0]["tasks"]["emotion"]["label_sets"] = {
        "Anger": ["absent"], "Sadness": ["absent", "present"], "Neutral": ["present"],
    }  # fmt: skip
    found = open_in(labels, "emotion", "Sadness")
    assert found is not None
    assert found.tolist() == [True]


@pytest.mark.parametrize(
    ("windows", "ends"),
    [
        ([0, 0, 1, 0], (2, 2)),
        ([1, 0, 0, 1, 1, 0, 1], (3, 4)),  # of 4/7: 2 (1 - 4/7) = 6/7, with the next two 6/7 - 4/7 + 3/7
        ([1, 0, 1, 0, 0, 0, 0, 1], (0, 0)),  # 1/2, and 1/2 again with the next two
        ([1, 1, 0, 1, 1, 0, 0, 0, 0, 0], (0, 4)),  # 4/2 - 1/2
    ],
)
def test_the_densest_stretch(windows: list[int], ends: tuple[int, int]) -> None:
    assert densest(np.array(windows, np.bool_)) == ends


def test_traits_from_lowest_to_highest() -> None:
    clips = [window(0, "traits", openness=0.5, extraversion=0.2), window(1, "traits", openness=0.5, extraversion=0.6)]
    assert span_of(clips) == 0.0
    clips[0]["tasks"]["traits"]["abstained"] = True
    assert task_sentences("traits", TRAITS, clips) == [
        "extraversion 0.40 on average, from 0.20 about 0:05 to 0.60 about 0:15",
        "openness 0.50 on average, always",
        "not to be used in 1 of 2 windows",
    ]


def test_moments_are_peaks_of_what_comes_and_goes() -> None:
    clips = with_sadness(0.1, 0.6, 0.9, 0.1)
    for clip, score in zip(clips, (0.2, 0.3, 0.5, 0.4), strict=True):
        clip["tasks"]["traits"] = {
            "values": {"openness": 0.5, "extraversion": score}, "decided": [], "abstained": False, "intervals": {},
        }  # fmt: skip
    moments = key_moments({"emotion": EMOTION, "traits": TRAITS}, clips)
    assert [(moment.seconds, moment.text) for moment in moments] == [
        (0.0, "extraversion lowest, 0.20"), (20.0, "Sadness 0.90, extraversion highest, 0.50"),
    ]  # fmt: skip
    assert moments[1].height == pytest.approx(0.9 - (0.1 + 0.6 + 0.9 + 0.1) / 4)
    assert key_moments({"emotion": EMOTION}, with_sadness(0.9, 0.8)) == []  # always there


def test_smoothing_is_a_gaussian_with_a_band() -> None:
    places, values = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 0.0])
    means, lows, highs = smooth(places, values, np.array([1.0]), 1.0)
    assert means[0] == pytest.approx(1 / (1 + 2 * np.exp(-0.5)))  # weights exp(-1/2), 1, exp(-1/2)
    assert (lows[0], highs[0]) == (0.0, 1.0)
    rough, _, _ = smooth(places, values, places, 0.0)
    assert rough.tolist() == values.tolist()
    constant, low, high = smooth(np.arange(50.0), np.full(50, 0.3), np.linspace(0, 49, 9), 2.0)
    np.testing.assert_allclose([constant, low, high], 0.3)
    shifted, _, _ = smooth(places + 7, values + 0.5, np.array([8.0]), 1.0)
    assert shifted[0] == pytest.approx(means[0] + 0.5)


def test_the_span_is_a_hop_or_a_part_of_a_long_recording() -> None:
    assert span_of(with_sadness(*[0.1] * 10)) == 10.0
    assert span_of(with_sadness(*[0.1] * 121)) == pytest.approx(20.0)  # 1200 s / 60


def test_what_is_shared_is_counted_once() -> None:
    clips = with_sadness(0.1, 0.1, 0.1)
    for clip, reason in zip(clips, ("no transcript", "no transcript", "no words"), strict=True):
        clip["absent"] = {"text": reason}
    figures = {
        "num_frames": 12, "num_with_face": 10, "most_faces": 1, "smallest_eyes": 80.0, "smallest_side": 90.0,
        "is_turned": False,
    }  # fmt: skip
    clips[0]["faces"], clips[1]["faces"] = {"video": figures}, {"video": {**figures, "smallest_eyes": 60.0}}
    unlike = {"distance": 3.0, "ratio": 2.5, "percentile": 1.0, "num_less": 56, "num_dev": 56}
    clips[2]["novelty"] = {"audio": unlike, "video": {**unlike, "percentile": 0.5}}
    assert shared_sentences(clips) == [
        ("text", "absent in all 3 windows: no transcript, and 1 other reason(s)"),
        ("novelty", "unlike the training clips: audio in 1 of 3 windows"),
        ("faces", "video: a face in 20 of 24 frames looked at; the smallest 60 px between the eyes"),
    ]
