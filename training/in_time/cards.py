"""One HTML page a recording for a model in time: the curve, the segments found, and the cues of their seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from training.report.cards import clock, write_pages

__all__ = ["render_card_in_time", "write_cards_in_time"]

WIDTH, HEIGHT = 640, 150
"""Units of the drawing."""
MOST_POINTS = 1_280
"""Of the curve; of more frames every k-th is drawn, and in each k frames the one with the highest probability."""


def write_cards_in_time(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a page for every recording, see `training.report.cards.write_pages`."""
    return write_pages(
        {recording["id"]: render_card_in_time(recording, document) for recording in document["recordings"]}, folder
    )


def render_card_in_time(recording: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Render the page of one recording of `training.in_time.recordings.document_in_time`."""
    environment = Environment(
        loader=PackageLoader("training"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"clock": clock, "percent": lambda value: f"{100 * value:.1f}"}
    probs, start = recording["probabilities"], recording["start"]
    seconds = len(probs) / recording["rate"]
    across = WIDTH / seconds
    spans = [
        {
            "x": f"{(segment['start'] - start) * across:.1f}",
            "width": f"{(segment['end'] - segment['start']) * across:.1f}",
            "title": f"{clock(segment['start'])} to {clock(segment['end'])}, {100 * segment['probability']:.1f} %",
        }
        for segment in recording["segments"]
    ]
    moments = [(share * WIDTH, clock(round(start + share * seconds, 1))) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return environment.get_template("predict_in_time.html").render(
        recording=recording, document=document, spans=spans, points=_points(probs), moments=moments, width=WIDTH,
        height=HEIGHT,
    )  # fmt: skip


def _points(probs: list[float]) -> str:
    step = max(1, -(-len(probs) // MOST_POINTS))
    across = WIDTH / len(probs)
    pieces = [
        max(range(first, min(first + step, len(probs))), key=probs.__getitem__) for first in range(0, len(probs), step)
    ]
    return " ".join(f"{(place + 0.5) * across:.1f},{HEIGHT * (1 - probs[place]):.1f}" for place in pieces)
