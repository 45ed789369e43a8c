"""What a prediction gives: typed results of clips, and the same as JSON values and as a table.

Shape suffixes: N clips, C classes or traits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import compress
from typing import Any

import pandas as pd
import torch
from numpy.typing import NDArray

from encoders.visibility import FaceFigures
from mmpsr.batch import Batch
from mmpsr.calibration.calibration import Calibration
from mmpsr.calibration.conformal import COVERAGE, LABEL_STATES, class_sets, label_sets, score_intervals
from mmpsr.calibration.novelty import ClipNovelty, is_novel
from mmpsr.calibration.reliability import confidences
from mmpsr.decisions import decide_classes, decide_present
from mmpsr.explanation.explain import Explanation
from mmpsr.tasks import TaskSpec
from training.class_texts.zero_shot import NO_WORDS
from training.data.joined import JoinedCorpora
from training.predict.inputs import Defect
from training.scoring.shown import ShownAsTable

__all__ = [
    "ClipResult", "Results", "Sentence", "TaskResult", "abstain_novel", "frame_of", "judge", "resting_on",
    "sentences_of",
]  # fmt: skip

_BREAK = re.compile(r"(?<=\.) (?=[A-Z])")
_SECONDS = re.compile(r"At (?P<spans>[\d., and-]+) s\b")
_SPAN = re.compile(r"(\d+\.\d)(?:-(\d+\.\d))?")
_NUMBER = re.compile(r"\d+\.\d")


@dataclass(frozen=True)
class Sentence:
    """A sentence of the behaviour narrative, and the seconds from the clip's beginning that it names."""

    text: str
    spans: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class TaskResult:
    """What is predicted of one clip for one task.

    Attributes:
        kind: `single_label`, `multi_label` or `regression`.
        values: calibrated probability of each class, or score in [0, 1] of each trait.
        decided: the classes decided for; none of a regression, and none where no class of several is present.
        confidence: how sure the decision is, in [0, 1]; None for a regression.
        abstained: the decision, or the scores of a regression, are not to be used: the confidence is below the one
            asked for, or the novelty not.
        reason: why so, or None.
        rests_on: of a task predicted by class texts, which of them are nearest, a sentence a modality.
        intervals: by trait, the range that holds the true value with the chance asked for: conformal, or from the
            residuals on dev of a model that was calibrated before quantiles for that were stored.
        prediction_set: of a single-label task, the classes of which one is true with the chance asked for; None where
            nothing is stored to make it from.
        label_sets: of a multi-label task, by label what is not ruled out: `absent`, `present` or both.
    """

    kind: str
    values: dict[str, float]
    decided: tuple[str, ...] = ()
    confidence: float | None = None
    abstained: bool = False
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    reason: str | None = None
    rests_on: tuple[str, ...] = ()
    prediction_set: tuple[str, ...] | None = None
    label_sets: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipResult:
    """What is predicted of one clip.

    Attributes:
        id: of the recording, or of the clip in its corpus.
        path: of the media file, or None.
        start: seconds into the file at which the clip starts; None is its beginning.
        end: seconds into the file at which it ends; None is its end.
        tasks: by task.
        absent: by modality that is not there, why.
        text: transcript, or None.
        text_source: `given`, `written` by a model, or None.
        language: of the transcript, where known.
        narrative: described behaviour.
        notes: by modality, what its encoder had to say, such as a file that was passed over.
        faces: by modality that looks for faces, what its frames show of them, also where it is absent.
        novelty: by modality that is there, how unlike the training clips it is.
    """

    id: str
    path: str | None
    start: float | None
    end: float | None
    tasks: dict[str, TaskResult]
    absent: dict[str, str]
    text: str | None = None
    text_source: str | None = None
    language: str | None = None
    narrative: tuple[Sentence, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    faces: dict[str, FaceFigures] = field(default_factory=dict)
    novelty: dict[str, ClipNovelty] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Make JSON values."""
        return asdict(self)


@dataclass(frozen=True, repr=False)
class Results(ShownAsTable):
    """Predictions of clips, in the order of the inputs, and what gave none.

    Attributes:
        clips: clips with a prediction.
        defects: clips without, and why.
        tasks: specifications by task.
        joined: row i holds the vectors of `clips[i]`, as the model saw them.
        predicted: by task float64 `[N, C]`, calibrated; row i is of `clips[i]`.
        notes: sentences on what could not be done for any clip.
        seconds: how long each stage took.

    Example:
        >>> results = Results([], [], {}, JoinedCorpora(pd.DataFrame(), {}, torch.ones(0, 0), {}), {})
        >>> len(results), results.to_frame().empty
        (0, True)
    """

    clips: list[ClipResult]
    defects: list[Defect]
    tasks: Mapping[str, TaskSpec]
    joined: JoinedCorpora
    predicted: Mapping[str, NDArray]
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Any:
        return iter(self.clips)

    def __getitem__(self, index: int) -> ClipResult:
        return self.clips[index]

    @property
    def batch(self) -> Batch:
        """All clips as the model takes them, row i is `clips[i]`."""
        return self.joined.batch(torch.arange(len(self.clips), device=self.joined.presence.device))

    def to_table(self) -> pd.DataFrame:
        """Make the table that is shown: a row a recording, a column a task; `to_frame` has every number."""
        rows = []
        for clip in self.clips:
            name = clip.id if clip.start is None else f"{clip.id} {clip.start:g}-{clip.end:g} s"
            rows.append({"recording": name, **{task: _in_short(result) for task, result in clip.tasks.items()}})
        rows += [{"recording": each.id, "not predicted": each.reason} for each in self.defects]
        return pd.DataFrame(rows, columns=None if rows else ["recording"]).fillna("")

    def to_dicts(self, explanations: Sequence[Explanation] | None = None) -> list[dict[str, Any]]:
        """Make clips JSON values, each with its `explanation` where these are given, in the order of the clips."""
        clips = [clip.to_dict() for clip in self.clips]
        if explanations is not None:
            for clip, explanation in zip(clips, explanations, strict=True):
                clip["explanation"] = explanation.to_dict()
        return clips

    def to_frame(self, explanations: Sequence[Explanation] | None = None) -> pd.DataFrame:
        """Make one row per clip and per defect, see `frame_of`; explanations are in the order of the clips."""
        return frame_of(self.to_dicts(explanations), [each._asdict() for each in self.defects])


def _in_short(result: TaskResult) -> str:
    """Say what is decided and how sure that is, or give the scores."""
    if result.kind == "regression":
        said = ", ".join(f"{name} {value:.2f}" for name, value in result.values.items())
    else:
        said = f"{' + '.join(result.decided) or 'none of the classes'} ({result.confidence or 0.0:.0%} sure)"
    return f"not to be used ({result.reason}): {said}" if result.abstained else said


def judge(
    predicted: Mapping[str, NDArray], tasks: Mapping[str, TaskSpec], calibration: Calibration, confidence: float,
    coverage: float = COVERAGE,
) -> list[dict[str, TaskResult]]:  # fmt: skip
    """Judge clips: decisions, confidences, sets and intervals.

    Args:
        predicted: by task float64 `[N, C]`, calibrated.
        tasks: specifications of the same tasks.
        calibration: its thresholds, deviations and conformal quantiles.
        confidence: in [0, 1], below which a decision is not to be used.
        coverage: in [0.5, 0.99], chance with which sets and intervals shall hold the truth.

    Returns:
        Per clip its results by task.
    """
    rows: list[dict[str, TaskResult]] = [{} for _ in range(len(next(iter(predicted.values()), ())))]
    for task, values_NC in predicted.items():
        spec, limits = tasks[task], calibration.thresholds(task)
        if spec.kind == "regression":
            intervals_N = _intervals(task, values_NC, spec, calibration, coverage)
            for row, each in enumerate(rows):
                each[task] = TaskResult(spec.kind, _named(spec, values_NC[row]), intervals=intervals_N[row])
            continue
        decided: list[tuple[str, ...]]
        if spec.kind == "single_label":
            decided = [(spec.classes[number],) for number in decide_classes(values_NC, limits)]
        else:
            present_NC = decide_present(values_NC, spec, limits)
            decided = [
                tuple(name for name, there in zip(spec.classes, row, strict=True) if there) for row in present_NC
            ]
        confidences_N = confidences(values_NC, spec, limits)
        abstains_N = calibration.abstain(task, values_NC, spec, confidence)
        sets_N = _sets(task, values_NC, spec, calibration, coverage)
        for row, each in enumerate(rows):
            sure = float(confidences_N[row])
            why = f"{sure:.1%} sure, {confidence:.1%} asked" if abstains_N[row] else None
            each[task] = TaskResult(
                spec.kind, _named(spec, values_NC[row]), decided[row], sure, bool(abstains_N[row]), reason=why,
                **sets_N[row],
            )  # fmt: skip
    return rows


def _intervals(
    task: str, scores_NC: NDArray, spec: TaskSpec, calibration: Calibration, coverage: float
) -> list[dict[str, tuple[float, float]]]:
    """Make each clip's intervals by trait; without conformal quantiles those of traits with known residuals."""
    promised = calibration.promise(task, spec, coverage)
    if promised.stored:
        known: Sequence[float | None] = [0.0] * spec.num_outputs
        lows_NC, highs_NC = score_intervals(scores_NC, promised.reaches)
    else:
        fitted = calibration.tasks.get(task)
        known = (fitted.deviations if fitted is not None else None) or [None] * spec.num_outputs
        lows_NC, highs_NC = calibration.interval(task, scores_NC, coverage)
    return [
        {
            name: (low, high)
            for name, value, low, high in zip(spec.classes, known, lows, highs, strict=True)
            if value is not None
        }
        for lows, highs in zip(lows_NC.tolist(), highs_NC.tolist(), strict=True)
    ]


def _sets(
    task: str, probabilities_NC: NDArray, spec: TaskSpec, calibration: Calibration, coverage: float
) -> list[dict[str, Any]]:
    """Make each clip's `prediction_set` or `label_sets`; neither without conformal quantiles."""
    promised = calibration.promise(task, spec, coverage)
    if not promised.stored:
        return [{} for _ in probabilities_NC]
    if spec.kind == "single_label":
        sets_NC = class_sets(probabilities_NC, float(promised.reaches[0])).tolist()
        return [{"prediction_set": tuple(compress(spec.classes, row))} for row in sets_NC]
    sets_NC2 = label_sets(probabilities_NC, spec, promised.reaches).tolist()
    return [
        {
            "label_sets": {
                name: tuple(compress(LABEL_STATES, states)) for name, states in zip(spec.classes, row, strict=True)
            }
        }
        for row in sets_NC2
    ]


def abstain_novel(
    results: Mapping[str, TaskResult], novelty: Mapping[str, ClipNovelty], asked: float | None
) -> dict[str, TaskResult]:
    """Abstain from all tasks of a clip one of whose modalities is at least as novel as asked; values stay.

    Args:
        results: of a clip, by task.
        novelty: of the same, by modality.
        asked: novelty in [0, 1], or None for never.
    """
    modalities = [] if asked is None else is_novel(novelty, asked)
    if not modalities:
        return dict(results)
    why = "; ".join(f"novelty of {name} {novelty[name].percentile:.2f}, {asked:.2f} asked" for name in modalities)
    return {
        task: replace(result, abstained=True, reason="; ".join(filter(None, (result.reason, why))))
        for task, result in results.items()
    }


def resting_on(results: Mapping[str, TaskResult], told: Mapping[str, tuple[str, ...]]) -> dict[str, TaskResult]:
    """Say what predictions by class texts rest on; those that rest on nothing are not to be used.

    Args:
        results: of a clip, by task.
        told: by task that is predicted by class texts, sentences on what is nearest, none without any words.
    """
    changed = dict(results)
    for task, sentences in told.items():
        result = replace(results[task], rests_on=sentences)
        changed[task] = result if sentences else replace(result, abstained=True, reason=NO_WORDS)
    return changed


def _named(spec: TaskSpec, values_C: NDArray) -> dict[str, float]:
    return dict(zip(spec.classes, values_C.tolist(), strict=True))


def sentences_of(narrative: str, begin: float = 0.0) -> tuple[Sentence, ...]:
    """Split a narrative into sentences, as the encoder `cue-narrative` words it, with the seconds that they name.

    Args:
        narrative: of a clip, in seconds from its beginning.
        begin: seconds into the recording at which the clip begins, which are added to those that are named.

    Example:
        >>> [each.spans for each in sentences_of("At 0.2 and 1.2-1.8 s the brows rise. The gaze stays.")]
        [((0.2, 0.2), (1.2, 1.8)), ()]
    """
    sentences = []
    for text in _BREAK.split(narrative):
        mention = _SECONDS.match(text)
        if mention is not None and begin:
            later = _NUMBER.sub(lambda found: f"{float(found[0]) + begin:.1f}", mention[0])
            text = later + text[mention.end() :]
            mention = _SECONDS.match(text)
        spans = [] if mention is None else _SPAN.findall(mention["spans"])
        sentences.append(Sentence(text, tuple((float(start), float(end or start)) for start, end in spans)))
    return tuple(sentences)


def frame_of(clips: Sequence[Mapping[str, Any]], defects: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make clips and defects a table: a row each, clips first.

    Columns: `id, path, start, end, defect`; per task `<task>.<class>`, and `<task>.decided` (classes joined by `+`) and
    `<task>.confidence`, or per trait `<task>.<trait>.low` and `.high`; `<task>.set` (classes of which one is true with
    the chance asked for, joined by `+`) or, of several labels, `<task>.<class>.set` (`absent`, `present` or
    `absent+present`); `<task>.abstained` and `<task>.reason`, and
    `<task>.rests_on` of tasks predicted by class texts; per modality `novelty.<modality>` and `.ratio` (see
    `mmpsr.calibration.novelty.ClipNovelty`), `faces.<modality>.<figure>` (see `encoders.visibility.FaceFigures`), and
    `absent.<modality>`, why it is not there; `text`, `text_source`, `language`, `narrative`. Of explained clips also
    `shapley.<task>.<class>.<modality>` and, of pairs that are there, `interaction.<task>.<class>.<first>+<second>`, in
    the unit of `<task>.<class>`, and `conflict.<task>`, the mean over pairs of modalities, none with fewer than two.

    Args:
        clips: of `Results.to_dicts`.
        defects: with the fields of `Defect`.
    """
    rows: list[dict[str, Any]] = []
    for clip in clips:
        row = {**{name: clip[name] for name in ("id", "path", "start", "end")}, "defect": None}
        for task, found in clip["tasks"].items():
            row |= {f"{task}.{name}": value for name, value in found["values"].items()}
            for name, (low, high) in found["intervals"].items():
                row |= {f"{task}.{name}.low": low, f"{task}.{name}.high": high}
            if found["kind"] != "regression":
                row[f"{task}.decided"] = "+".join(found["decided"])
                row[f"{task}.confidence"] = found["confidence"]
            if found.get("prediction_set") is not None:
                row[f"{task}.set"] = "+".join(found["prediction_set"])
            row |= {f"{task}.{name}.set": "+".join(states) for name, states in found.get("label_sets", {}).items()}
            row |= {f"{task}.abstained": found["abstained"], f"{task}.reason": found.get("reason")}
            if found.get("rests_on"):
                row[f"{task}.rests_on"] = "; ".join(found["rests_on"])
        for task, why in clip.get("explanation", {"tasks": {}})["tasks"].items():
            for name in why["prediction"]:
                row |= {f"shapley.{task}.{name}.{modality}": each[name] for modality, each in why["shapley"].items()}
            for pair in why.get("interactions", ()):
                names = f"{pair['first']}+{pair['second']}"
                row |= {f"interaction.{task}.{name}.{names}": value for name, value in pair["values"].items()}
            between = [pair["value"] for pair in why["conflicts"]]
            row[f"conflict.{task}"] = sum(between) / len(between) if between else None
        for modality, unlike in clip.get("novelty", {}).items():
            row |= {f"novelty.{modality}": unlike["percentile"], f"novelty.{modality}.ratio": unlike["ratio"]}
        for modality, seen in clip.get("faces", {}).items():
            row |= {f"faces.{modality}.{name}": value for name, value in seen.items()}
        row |= {f"absent.{modality}": reason for modality, reason in clip["absent"].items()}
        row |= {name: clip[name] for name in ("text", "text_source", "language")}
        row["narrative"] = " ".join(sentence["text"] for sentence in clip["narrative"]) or None
        rows.append(row)
    for each in defects:
        rows.append({**{name: each[name] for name in ("id", "path", "start", "end")}, "defect": each["reason"]})
    frame = pd.DataFrame(rows, columns=None if rows else ["id", "path", "start", "end", "defect"])
    last = [name for kind in ("novelty.", "faces.", "absent.") for name in frame if str(name).startswith(kind)]
    last += [name for name in ("text", "text_source", "language", "narrative") if name in frame]
    return frame[[name for name in frame if name not in last] + last]
