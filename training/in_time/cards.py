"""What a model in time finds, drawn: the curve, the segments found; and an HTML page a recording, with their cues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from training.report.cards import page_environment, write_pages
from training.timeline.clock import clock

__all__ = ["MOST_LISTED", "MOST_POINTS", "render_card_in_time", "render_in_time", "write_cards_in_time"]

WIDTH, HEIGHT = 640, 150
"""Units of the drawing."""
MOST_POINTS = 1_280
"""Of the curve; of more frames every k-th is drawn, and in each k frames the one with the highest probability. Segments
that are less than such a step apart are drawn as one."""
MOST_LISTED = 300
"""Segments in a page's table; the JSON document has all."""


def write_cards_in_time(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a page for every recording, see `training.report.cards.write_pages`."""
    return write_pages(
        {recording["id"]: render_card_in_time(recording, document) for recording in document["recordings"]}, folder
    )


def render_card_in_time(recording: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Render the page of one recording of `training.in_time.recordings.document_in_time`."""
    return render_in_time("card", recording, document)


def render_in_time(template: str, recording: Mapping[str, Any], document: Mapping[str, Any], **others: Any) -> str:
    """Render a template of `templates/in_time` with a recording and its drawing.

    Args:
        template: its name.
        recording: of the document's recordings.
        document: the whole, for task and model.
        others: what it needs besides.
    """
    return (
        _environment()
        .get_template(f"in_time/{template}.html")
        .render(recording=recording, document=document, drawing=_drawing(recording), **others)
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return page_environment()


def _drawing(recording: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out curve, segments and moments in units of the drawing; however long the recording is, not too many."""
    probs, start = recording["probabilities"], recording["start"]
    seconds, step = len(probs) / recording["rate"], max(1, -(-len(probs) // MOST_POINTS))
    moments = [(share * WIDTH, clock(round(start + share * seconds, 1))) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return {
        "width": WIDTH, "height": HEIGHT, "points": _points(probs, step), "step": step, "moments": moments,
        "start": start, "end": start + seconds, "spans": _spans(recording["segments"], start, WIDTH / seconds),
        "most_listed": MOST_LISTED,
    }  # fmt: skip


def _points(probs: Sequence[float], step: int) -> str:
    across = WIDTH / len(probs)
    pieces = [
        max(range(first, min(first + step, len(probs))), key=probs.__getitem__) for first in range(0, len(probs), step)
    ]
    return " ".join(f"{(place + 0.5) * across:.1f},{HEIGHT * (1 - probs[place]):.1f}" for place in pieces)


def _spans(segments: Sequence[Mapping[str, Any]], start: float, across: float) -> list[dict[str, Any]]:
    """Join segments that the drawing cannot tell apart; `across` is its units a second."""
    drawn: list[list[Mapping[str, Any]]] = []
    for segment in segments:
        if drawn and (segment["start"] - drawn[-1][-1]["end"]) * across < WIDTH / MOST_POINTS - 1e-6:
            drawn[-1].append(segment)
        else:
            drawn.append([segment])
    return [
        {
            "start": each[0]["start"],
            "x": (each[0]["start"] - start) * across,
            "width": (each[-1]["end"] - each[0]["start"]) * across,
            "title": f"{clock(each[0]['start'])} to {clock(each[-1]['end'])}, "
            + (f"{100 * each[0]['probability']:.1f} %" if len(each) == 1 else f"{len(each)} segments"),
        }
        for each in drawn
    ]
