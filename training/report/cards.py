"""One HTML page a recording: what was predicted, how sure, why, over time, what was absent, what was said and seen.

A page holds everything itself, asks no host for anything and runs no script. It shows no picture of the person.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from encoders.visibility import FaceFigures
from mmpsr.calibration.novelty import NOVELTY_MEANS, novelty_sentences
from mmpsr.calibration.reliability import CONFIDENCE
from mmpsr.explanation.shapley import INTERACTION_MEANS
from mmpsr.files import write_whole
from training.report.card_explanation import explain_task
from training.timeline.clock import clock
from training.timeline.panels import panels
from training.timeline.strips import short, strip_chart
from training.timeline.windows import key_moments, shared_sentences, span_of, task_sentences

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

__all__ = ["page_environment", "render_card", "seen_faces", "set_sentence", "write_cards", "write_pages"]

_OF_OLD = {True: "Scores from 0 to 1", False: "Probabilities"}
"""What numbers are called in documents that do not say whether they are calibrated."""
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class _Bar:
    """A class or trait with its probability or score, whether it is decided for, and the ends of its interval."""

    name: str
    value: float
    decided: bool
    low: float | None
    high: float | None


def write_cards(
    document: Mapping[str, Any], folder: Path, measures: Mapping[str, pd.DataFrame] | None = None
) -> list[Path]:
    """Write a page for every recording with a prediction; names are those of the recordings, made safe.

    Args:
        document: of `training.predict.document.document_of`.
        folder: made where it is not there.
        measures: by recording what is measured of it over time, to be drawn.

    Returns:
        The files.
    """
    with_clips = (recording for recording in document["recordings"] if recording["clips"])
    drawn = measures or {}
    pages = {
        each["id"]: render_card(each, document, drawn.get(each["id"]), _link(each["path"], folder))
        for each in with_clips
    }
    return write_pages(pages, folder)


def _link(path: str | None, folder: Path) -> str:
    """Give the address of a recording seen from a folder of pages; none of one that is not there."""
    if path is None or not Path(path).exists():
        return ""
    try:
        return quote(Path(os.path.relpath(path, folder)).as_posix())
    except ValueError:  # another drive
        return Path(path).absolute().as_uri()


def write_pages(pages: Mapping[str, str], folder: Path) -> list[Path]:
    """Write pages named after recordings, with names that are safe and differ in more than case.

    Args:
        pages: content by the recording's id.
        folder: made where it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for title, page in pages.items():
        stem = _UNSAFE.sub("_", title).strip("._") or "recording"
        taken, number, name = {path.name.lower() for path in files}, 2, f"{stem}.html"
        while name.lower() in taken:
            name, number = f"{stem}-{number}.html", number + 1
        write_whole(folder / name, page)
        files.append(folder / name)
    return files


def page_environment(**filters: Callable[..., Any]) -> Environment:
    """Make what renders the pages of recordings, with filters of numbers and moments and some of one's own."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("training"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "clock": clock, "percent": lambda value: f"{100 * value:.1f}", "short": short,
        "seconds": lambda value: f"{value:.2g}", **filters,
    }  # fmt: skip
    return environment


def render_card(
    recording: Mapping[str, Any], document: Mapping[str, Any], measures: pd.DataFrame | None = None, link: str = ""
) -> str:
    """Render the page of one recording.

    Args:
        recording: of the document's recordings, with at least one clip.
        document: the whole, for tasks and model.
        measures: of it over time, rows of `mmpsr measure`.
        link: address of the recording seen from the page, which key moments lead to.
    """
    environment = page_environment(seen_faces=seen_faces, novel=lambda clip: novelty_sentences(clip.get("novelty", {})))
    clips = recording["clips"]
    tasks = [
        {
            "name": name,
            "kind": spec["kind"],
            "coverage": spec.get("coverage"),
            "set": set_sentence(clips[0]["tasks"][name], document.get("coverage")) if len(clips) == 1 else None,
            "numbers": spec.get("calibration") or _OF_OLD[spec["kind"] == "regression"],
            "bars": _bars(name, clips),
            "single": clips[0]["tasks"][name] if len(clips) == 1 else None,
            "panels": panels(name, spec, clips) if len(clips) > 1 else [],
            "sentences": task_sentences(name, spec, clips) if len(clips) > 1 else [],
            "why": explain_task(name, clips) if "explanation" in clips[0] else None,
            "num_abstained": sum(clip["tasks"][name]["abstained"] for clip in clips),
            "reason": _reason(clips[0]["tasks"][name], document),
        }
        for name, spec in document["tasks"].items()
    ]
    return environment.get_template("predict_card.html").render(
        recording=recording,
        clips=clips,
        tasks=tasks,
        document=document,
        moments=key_moments(document["tasks"], clips) if len(clips) > 1 else [],
        shared=shared_sentences(clips) if len(clips) > 1 else [],
        span=span_of(clips) if len(clips) > 1 else 0.0,
        link=link,
        about=document.get("about"),
        confidence_means=document.get("confidence_means", CONFIDENCE),
        coverage_means=document.get("coverage_means"),
        interaction_means=INTERACTION_MEANS,
        novelty_means=NOVELTY_MEANS,
        novelty_dev=document.get("novelty_dev", {}),
        measures=None if measures is None else strip_chart(measures),
        num_novel=sum(bool(novelty_sentences(clip.get("novelty", {}))) for clip in clips),
    )


def _reason(result: Mapping[str, Any], document: Mapping[str, Any]) -> str | None:
    """Say why there is no decision; older documents have the numbers alone."""
    if not result["abstained"]:
        return None
    told = f"{100 * (result['confidence'] or 0.0):.1f} % sure, {100 * document['confidence']:.1f} % were asked for"
    return result.get("reason") or told


def seen_faces(clip: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say what a clip's pictures show of faces: modalities joined by commas, and what all of them saw.

    Args:
        clip: of the document; of an older one it says nothing of faces.
    """
    modalities: dict[str, list[str]] = {}
    for modality, values in clip.get("faces", {}).items():
        if (figures := FaceFigures.of(values)) is not None:
            modalities.setdefault(figures.sentence, []).append(modality)
    return [(", ".join(names), sentence) for sentence, names in modalities.items()]


def set_sentence(result: Mapping[str, Any], level: float | None) -> str | None:
    """Say which classes are not ruled out, of several labels which are present, absent or open.

    Args:
        result: of a document's clip, for one task.
        level: chance asked for, None in documents from before there were sets.

    Returns:
        None where the result has no set.

    Example:
        >>> set_sentence({"prediction_set": ("absent",), "label_sets": {}}, 0.9)
        '90 % set: absent'
        >>> states = {"Anger": ("present",), "Fear": ("absent", "present"), "Joy": ("absent", "present")}
        >>> set_sentence({"prediction_set": None, "label_sets": states}, 0.8)
        '80 % by label: present Anger; open Fear, Joy'
    """
    if level is None:
        return None
    if result.get("prediction_set") is not None:
        classes = result["prediction_set"]
        every = " (every class)" if len(classes) == len(result.get("values", ())) else ""
        return f"{100 * level:g} % set: {', '.join(classes)}{every}"
    states = {name: "open" if len(held) > 1 else held[0] for name, held in result.get("label_sets", {}).items()}
    parts = []
    for state in ("present", "absent", "open"):
        names = [name for name, own in states.items() if own == state]
        if names:
            parts.append(f"{state} {', '.join(names)}")
    return f"{100 * level:g} % by label: {'; '.join(parts)}" if parts else None


def _bars(task: str, clips: Sequence[Mapping[str, Any]]) -> list[_Bar]:
    """Take values of the one clip, or the means over windows."""
    results = [clip["tasks"][task] for clip in clips]
    is_decided = len(results) == 1 and not results[0]["abstained"]
    bars = []
    for name in results[0]["values"]:
        low, high = results[0]["intervals"].get(name, (None, None)) if len(results) == 1 else (None, None)
        value = math.fsum(result["values"][name] for result in results) / len(results)
        bars.append(_Bar(name, value, is_decided and name in results[0]["decided"], low, high))
    return bars
