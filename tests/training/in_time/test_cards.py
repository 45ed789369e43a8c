"""The drawing of a recording over time: however long it is, it has a bounded number of parts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from training.in_time.cards import MOST_LISTED, MOST_POINTS, render_card_in_time

DOCUMENT = {
    "about": "a model", "model": {"name": "1", "kind": "lfan", "modalities": ["video"]},
    "task": {"name": "ambivalence", "looked_for": "present"}, "probabilities_mean": "probabilities",
    "segment_rule": {"threshold": 0.6, "gap": 0.5, "shortest": 0.0},
}  # fmt: skip


def recording(num_frames: int, every: int) -> dict[str, Any]:
    """At 10 frames a second from second 5 on; every so manieth frame is a segment."""
    found = range(0, num_frames, every)
    segments = [
        {"start": 5 + frame / 10, "end": 5 + (frame + 1) / 10, "probability": 0.9, "cues": []} for frame in found
    ]
    return {
        "id": "talk", "start": 5.0, "rate": 10.0, "segments": segments, "decided": "present", "probability": 0.9,
        "probabilities": [0.9 if frame % every == 0 else 0.1 for frame in range(num_frames)],
        "absent": {}, "notes": {"video": "2 frames are missing"}, "text": None, "narrative": [],
    }  # fmt: skip


def test_a_long_recording_is_drawn_with_few_parts_and_says_so() -> None:
    page = render_card_in_time(recording(20_000, 2), DOCUMENT)
    points = page.split('<polyline points="')[1].split('"')[0].split()
    # of every ceil(20000 / 1280) = 16 frames one
    assert len(points) == 1250 <= MOST_POINTS
    assert "Of every 16 frames the curve shows the one with the highest probability." in page
    assert {point.split(",")[1] for point in points} == {"15.0"}  # 150 * (1 - 0.9)
    spans = re.findall(r"<title>(.*?)</title></rect>", page)
    assert spans == ["0:05 to 33:24.9, 10000 segments"]  # a frame is 0.032 units wide
    assert page.count("<tr><td") == MOST_LISTED
    assert "And 9700 more, which the JSON document lists." in page


@pytest.mark.parametrize("num_frames", [100, MOST_POINTS])
def test_a_short_one_is_drawn_whole(num_frames: int) -> None:
    page = render_card_in_time(recording(num_frames, 10), DOCUMENT)
    assert len(page.split('<polyline points="')[1].split('"')[0].split()) == num_frames
    assert page.count("</title></rect>") == num_frames / 10
    assert "Of every" not in page
    assert "<h2>To be noted</h2>" in page
    assert "2 frames are missing" in page


def test_segments_stand_where_they_are() -> None:
    page = render_card_in_time(recording(100, 50), DOCUMENT)
    # frames 0 and 50 of 100 over 640 units, a frame is 6.4
    assert re.findall(r'x="([\d.]+)" y="0" width="([\d.]+)"', page) == [("0.0", "6.4"), ("320.0", "6.4")]
    assert "<title>0:10 to 0:10.1, 90.0 %</title>" in page
    assert '<line class="limit" x1="0" x2="640" y1="60.0" y2="60.0"/>' in page  # 150 * (1 - 0.6)
    assert "Consecutive frames with a probability above 0.6; those up to 0.5 s apart are one." in page


@pytest.mark.parametrize(
    ("narrative", "said"),
    [
        ([], "not told, as too few frames show a face"),
        ([{"text": "A smile.", "spans": []}], "nothing that the cues name"),
    ],
)
def test_a_segment_without_cues_says_whether_any_were_looked_for(narrative: list[object], said: str) -> None:
    page = render_card_in_time({**recording(100, 50), "narrative": narrative}, DOCUMENT)
    assert page.count(f'<span class="soft">{said}</span>') == 2
