"""What a card draws of an explanation: which classes, bars and their signs, means over windows, what is not there."""

from __future__ import annotations

from typing import Any

import pytest

from training.report.card_explanation import explain_task


def clip(
    anger: float = 0.6,
    decided: tuple[str, ...] = ("Anger",),
    audio: bool = True,
    kind: str = "single_label",
    **others: Any,
) -> dict[str, Any]:
    """A clip of video (always +0.10), audio (the rest, if there) and text (never) on a baseline of 0.3."""
    added = {"video": 0.1, "audio": anger - 0.4 if audio else 0.0, "text": 0.0}
    why = {
        "prediction": {"Calm": 1 - anger, "Anger": anger}, "baseline": {"Calm": 0.7, "Anger": 0.3},
        "shapley": {name: {"Calm": -value, "Anger": value} for name, value in added.items()},
        "conflicts": [{"first": "video", "second": "audio", "value": 0.5}] if audio else [],
        "attention": {"video": 0.25, "audio": 0.75, "text": 0.0},
        "guides": [{"name": "Anger", "cosine": 0.5}, {"name": "Calm", "cosine": -0.25}], "notes": [], **others,
    }  # fmt: skip
    result = {"kind": kind, "values": why["prediction"], "decided": list(decided), "abstained": not decided}
    present = ["video", "audio"] if audio else ["video"]
    return {"tasks": {"mood": result}, "explanation": {"present": present, "tasks": {"mood": why}}}


def test_bars_of_one_clip_by_hand() -> None:
    found = explain_task("mood", [clip(anger=0.8)])
    (chart,) = found.charts
    assert (chart.name, chart.baseline, chart.prediction, chart.unit) == (
        "Anger",
        "30.0 %",
        "80.0 %",
        "percentage points",
    )
    assert [(row.modality, row.shown, row.raises, row.absent) for row in chart.rows] == [
        ("video", "+10.0", True, False), ("audio", "+40.0", True, False), ("text", "0.0", True, True),
    ]  # fmt: skip
    # the largest, 0.4, reaches from the middle to the end; 0.1 is a quarter of that
    assert [(row.left, row.width) for row in chart.rows] == [
        pytest.approx(each) for each in ((50, 12.5), (50, 50), (50, 0))
    ]
    assert found.table == {
        "Calm": ["70.0 %", "-10.0", "-40.0", "0.0", "20.0 %"], "Anger": ["30.0 %", "+10.0", "+40.0", "0.0", "80.0 %"],
    }  # fmt: skip
    assert [(each.name, each.shown, each.width) for each in found.conflicts] == [("video – audio", "50.0 %", 50.0)]
    assert found.mean_conflict == "50.0 %"
    assert found.attention is not None
    assert [(each.name, each.shown) for each in found.attention] == [
        ("video", "25 %"),
        ("audio", "75 %"),
        ("text", "0 %"),
    ]
    assert found.prototypes == (("Anger", "+0.50"), ("Calm", "-0.25"))


def test_what_lowers_is_left_of_the_middle_and_small_bars_look_small() -> None:
    (chart,) = explain_task("mood", [clip(anger=0.39, decided=("Anger",))]).charts
    # audio takes 0.01 away of an axis of 0.1, as video gives
    assert (chart.rows[1].shown, chart.rows[1].raises) == ("-1.0", False)
    assert (chart.rows[1].left, chart.rows[1].width) == pytest.approx((45.0, 5.0))
    calm = clip(anger=0.31, audio=False)
    calm["explanation"]["tasks"]["mood"]["shapley"]["video"]["Anger"] = 0.01  # a fifth of 5 points, the least axis
    assert explain_task("mood", [calm]).charts[0].rows[0].width == pytest.approx(10.0)


def test_which_classes_have_a_chart() -> None:
    def names(*clips: dict[str, Any]) -> list[str]:
        return [chart.name for chart in explain_task("mood", clips).charts]

    assert names(clip(0.4, decided=("Anger",))) == ["Anger"]  # decided by a threshold, not the likeliest
    assert names(clip(0.4, decided=())) == ["Calm"]
    assert names(clip(0.6, decided=("Calm", "Anger"))) == ["Anger", "Calm"]
    assert names(clip(0.4, decided=("Anger",)), clip(0.45, decided=("Anger",))) == ["Calm"]  # of the means
    farthest = clip(0.35, decided=(), kind="regression")
    farthest["explanation"]["tasks"]["mood"]["prediction"]["Calm"] = 0.2
    assert names(farthest) == ["Calm"]


def test_means_over_windows_add_up() -> None:
    found = explain_task("mood", [clip(0.6), clip(0.4, audio=False)])
    (chart,) = found.charts
    # (0.1 + 0.1)/2 of video and (0.2 + 0)/2 of audio: 0.3 + 0.1 + 0.1 = (0.6 + 0.4)/2
    assert found.table["Anger"] == ["30.0 %", "+10.0", "+10.0", "0.0", "50.0 %"]
    assert [row.absent for row in chart.rows] == [False, False, True]
    assert found.mean_conflict == "50.0 %"  # of the one window that has both


def test_interactions_are_of_the_classes_with_a_chart_and_the_largest_comes_first() -> None:
    assert explain_task("mood", [clip()]).interactions is None  # of a document from before they were stored

    def pairs(audio: float, text: float) -> list[dict[str, Any]]:
        values = {"audio": audio, "text": text}
        return [
            {"first": "video", "second": name, "values": {"Calm": -value, "Anger": value}}
            for name, value in values.items()
        ]

    found = explain_task("mood", [clip(interactions=pairs(0.02, -0.05))])
    assert found.interactions == (("video + text", ("-5.0",)), ("video + audio", ("+2.0",)))
    both = explain_task("mood", [clip(decided=("Calm", "Anger"), interactions=pairs(0.02, -0.05))])
    assert both.interactions == (("video + text", ("-5.0", "+5.0")), ("video + audio", ("+2.0", "-2.0")))
    windows = [clip(interactions=pairs(0.02, -0.05)), clip(interactions=pairs(0.06, 0.0)[:1])]
    # the likeliest by the means is Anger: (0.02 + 0.06)/2 where both have audio, -0.05 where one has text
    assert explain_task("mood", windows).interactions == (("video + text", ("-5.0",)), ("video + audio", ("+4.0",)))


def test_what_is_not_there() -> None:
    found = explain_task("mood", [clip(audio=False, attention=None, guides=None, notes=["no attention: why"])])
    assert (found.conflicts, found.mean_conflict, found.attention, found.prototypes) == ((), None, None, None)
    assert found.notes == ("no attention: why",)


def test_scores_have_three_decimals() -> None:
    found = explain_task("mood", [clip(0.3996, decided=(), kind="regression")])
    (chart,) = found.charts
    assert (chart.baseline, chart.unit) == ("0.300", "score points")
    assert [row.shown for row in chart.rows] == ["+0.100", "0.000", "0.000"]  # -0.0004 rounds to nothing
    assert found.mean_conflict == "0.500"
