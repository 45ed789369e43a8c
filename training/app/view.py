"""What the page shows, as HTML: progress, one analysis, two side by side. Nothing in it acts or is fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Environment

from mmpsr.calibration.conformal import COVERAGE_MEANS
from mmpsr.calibration.novelty import NOVELTY_MEANS, novelty_sentences
from mmpsr.calibration.reliability import CONFIDENCE
from mmpsr.explanation.explain import TaskExplanation
from mmpsr.explanation.shapley import INTERACTION_MEANS
from training.app.analysis import STAGES, Analysis
from training.predict.results import TaskResult
from training.report.cards import page_environment, seen_faces, set_sentence
from training.timeline.panels import panels
from training.timeline.strips import strip_chart
from training.timeline.windows import key_moments, span_of, task_sentences

__all__ = ["Step", "compare_view", "result_view", "status_view", "steps_of"]

SMALLEST_RANGE = 0.1
"""Of an attribution chart's axis, so that contributions near nothing look so."""


@dataclass(frozen=True)
class Step:
    """A line of an attribution chart: where its bar begins and ends in percent of the axis, and what it adds."""

    name: str
    left: float
    width: float
    value: float
    kind: str


def steps_of(explained: TaskExplanation, name: str, present: Sequence[str]) -> tuple[list[Step], float, float]:
    """Step from the baseline to the prediction of a class, modality by modality, and find the ends of the axis.

    Args:
        explained: explanation of a task.
        name: class or trait.
        present: modalities that add something.
    """
    places = [explained.baseline[name]]
    for modality in present:
        places.append(places[-1] + explained.shapley[modality][name])
    low, high = min(places), max(places)
    spare = max(SMALLEST_RANGE - (high - low), 0.1 * (high - low)) / 2
    low, high = max(low - spare, 0.0), min(high + spare, 1.0)

    def at(value: float) -> float:
        return 100 * (value - low) / (high - low)

    steps = [Step("without any", at(places[0]), 0.0, places[0], "end")]
    for modality, before, after in zip(present, places, places[1:], strict=False):
        kind = "more" if after >= before else "less"
        steps.append(Step(modality, at(min(before, after)), at(max(before, after)) - at(min(before, after)),
                          after - before, kind))  # fmt: skip
    steps.append(Step("prediction", at(places[-1]), 0.0, places[-1], "end"))
    return steps, low, high


def result_view(analysis: Analysis) -> str:
    """Write one video's results."""
    whole, windows, explanation = analysis.clips[0], analysis.clips[1:], analysis.explanation
    shown = [clip.to_dict() for clip in windows]
    specs = {
        task: {"kind": result.kind, "classes": tuple(result.values), "thresholds": analysis.thresholds.get(task)}
        for task, result in whole.tasks.items()
    }
    tasks = []
    for task, result in sorted(whole.tasks.items(), key=lambda item: item[1].kind == "regression"):  # fills two columns
        explained = explanation.tasks[task]
        charts = [(name, *steps_of(explained, name, explanation.present)) for name in _by_interest(result, explained)]
        tasks.append(
            {
                "name": task,
                "found": result,
                "set": set_sentence(vars(result), analysis.wishes.coverage),
                "promise": analysis.promises[task],
                "pairs": _pairs(explained, charts[0][0]),
                "why": explained,
                "charts": charts,
                "panels": panels(task, specs[task], shown) if windows else [],
                "sentences": task_sentences(task, specs[task], shown) if windows else [],
            }
        )
    return _environment().get_template("app_result.html").render(
        analysis=analysis, whole=whole, windows=windows, tasks=tasks, explanation=explanation,
        confidence_means=CONFIDENCE, novelty_means=NOVELTY_MEANS, coverage_means=COVERAGE_MEANS,
        interaction_means=INTERACTION_MEANS,
        measures=None if analysis.measures is None else strip_chart(analysis.measures),
        moments=key_moments(specs, shown) if windows else [], span=span_of(shown) if windows else 0.0,
        coverage=f"{100 * analysis.wishes.coverage:g} %",
    )  # fmt: skip


def compare_view(first: Analysis, second: Analysis) -> str:
    """Write two videos' results side by side."""
    return (
        _environment().get_template("app_compare.html").render(first=first, second=second, confidence_means=CONFIDENCE)
    )


def status_view(
    stages: Mapping[str, float | None],
    progress: str = "",
    error: str = "",
    name: str = "",
    titles: Mapping[str, str] = STAGES,
) -> str:
    """Write how far an analysis is, or why there is none.

    Args:
        stages: those begun, with their seconds, or None of the one that goes on.
        progress: how far that one is.
        error: sentence that ended it.
        name: of the video.
        titles: what stages are called, in their order.
    """
    return _environment().get_template("app_status.html").render(
        stages=stages, titles=titles, progress=progress, error=error.removeprefix(f"{name}: "), name=name
    )  # fmt: skip


def _by_interest(result: TaskResult, explained: TaskExplanation) -> list[str]:
    """Sort classes by falling probability, or traits by how far the clip moves them."""
    if result.kind == "regression":
        return sorted(result.values, key=lambda name: -abs(explained.prediction[name] - explained.baseline[name]))
    return sorted(result.values, key=lambda name: -result.values[name])


def _pairs(explained: TaskExplanation, name: str) -> list[tuple[str, float]]:
    """List the interactions of modalities on a class or trait, the largest first."""
    pairs = [(f"{pair.first} and {pair.second}", pair.values[name]) for pair in explained.interactions]
    return sorted(pairs, key=lambda pair: -abs(pair[1]))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return page_environment(
        signed=_signed,
        seen_faces=lambda clip: seen_faces(clip.to_dict()),
        novel=lambda clip: novelty_sentences(clip.to_dict()["novelty"]),
    )


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
