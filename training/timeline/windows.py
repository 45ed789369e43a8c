"""What a task's predictions do over the windows of a recording, in words and as moments worth a look.

Windows are clips of the document of `mmpsr predict`, in time; a task is its entry among the document's `tasks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.visibility import FaceFigures
from mmpsr.calibration.novelty import novelty_sentences
from training.timeline.clock import clock

__all__ = ["Moment", "decided_in", "key_moments", "open_in", "shared_sentences", "smooth", "span_of", "task_sentences"]

Clips = Sequence[Mapping[str, Any]]
FEW = 8
"""Windows from which on curves are smoothed."""
_SMOOTHED = 60  # a Gaussian's deviation is at least this part of the recording
_MOST = 0.9  # share of windows from which on something is there throughout
_STEADY = 0.1  # difference of scores that is worth a moment
_MOST_MOMENTS = 8


@dataclass(frozen=True)
class Moment:
    """A moment worth a look.

    Attributes:
        seconds: into the file.
        text: what is so there.
        height: how much it stands out, in probabilities or scores.
    """

    seconds: float
    text: str
    height: float = 0.0


def _middles(clips: Clips) -> NDArray[np.float64]:
    return np.array([(clip["start"] + clip["end"]) / 2 for clip in clips])


def _values(clips: Clips, task: str, name: str) -> NDArray[np.float64]:
    return np.array([clip["tasks"][task]["values"][name] for clip in clips])


def decided_in(clips: Clips, task: str, name: str) -> NDArray[np.bool_]:
    """Mark the windows in which a class is decided for; none where the decision is not to be used."""
    results = [clip["tasks"][task] for clip in clips]
    return np.array([name in result["decided"] and not result["abstained"] for result in results], np.bool_)


def open_in(clips: Clips, task: str, name: str) -> NDArray[np.bool_] | None:
    """Mark the windows whose sets rule a class neither in nor out; None where the model has no sets."""
    results = [clip["tasks"][task] for clip in clips]
    if all(result.get("label_sets") for result in results):
        return np.array([len(result["label_sets"][name]) > 1 for result in results], np.bool_)
    sets = [result.get("prediction_set") for result in results]
    if any(each is None for each in sets):
        return None
    return np.array([name in each and len(each) > 1 for each in sets if each is not None], np.bool_)


def span_of(clips: Clips) -> float:
    """Give the deviation in seconds of the Gaussian that smooths: a hop, or a 60th of a long recording; 0 for few."""
    if len(clips) < FEW:
        return 0.0
    middles = _middles(clips)
    return max(float(np.median(np.diff(middles))), float(middles[-1] - middles[0]) / _SMOOTHED)


def smooth(
    places: NDArray[np.float64], values: NDArray[np.float64], at: NDArray[np.float64], span: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Smooth values by a Gaussian, and find between what the middle 80 % of the values around lie.

        mean(t) = sum_i w_i(t) y_i / sum_i w_i(t),   w_i(t) = exp(-(t - t_i)^2 / (2 span^2)) up to 3 spans away

    Args:
        places: `[W]`, rising.
        values: `[W]`.
        at: `[G]`, where to smooth.
        span: deviation of the Gaussian; 0 takes the nearest value as it is.

    Returns:
        Means, and the 10th and the 90th percentile of the same weights, `[G]` each.
    """
    rows = []
    for place in at:
        first, last = np.searchsorted(places, [place - 3 * span, place + 3 * span])
        nearest = int(np.abs(places - place).argmin())
        piece = slice(min(first, nearest), max(last, nearest + 1))
        near = values[piece]
        weights = np.exp(-0.5 * ((places[piece] - place) / span) ** 2) if span else np.ones(len(near))
        weights /= weights.sum()
        order = near.argsort()
        sums = weights[order].cumsum()
        low, high = (near[order][min(int(np.searchsorted(sums, share)), len(near) - 1)] for share in (0.1, 0.9))
        rows.append((float(near @ weights), low, high))
    means, lows, highs = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return means, lows, highs


def task_sentences(task: str, spec: Mapping[str, Any], clips: Clips) -> list[str]:
    """Say how often and when each class is decided for, or how far each trait goes.

    Args:
        task: its name.
        spec: its `kind`, `classes` and, of several labels, `thresholds`.
        clips: windows of a recording.

    Returns:
        A sentence for each class that is there, most frequent first, or each trait, most changing first.
    """
    num_abstained = sum(clip["tasks"][task]["abstained"] for clip in clips)
    if spec["kind"] == "regression":
        ranked_traits = sorted(_trait_sentences(task, spec, clips), key=lambda pair: -pair[0])
        unused = [f"not to be used in {num_abstained} of {len(clips)} windows"] if num_abstained else []
        return [*(sentence for _, sentence in ranked_traits), *unused]
    found = {name: decided_in(clips, task, name) for name in spec["classes"]}
    thresholds = spec.get("thresholds") or {}
    sentences = []
    for name in sorted(found, key=lambda name: -int(found[name].sum())):
        if found[name].any():
            above = f" above {thresholds[name]:.2g}" if name in thresholds else ""
            sentences.append(f"{name}{above} in {_share(found[name])} of the windows{_where(found[name], clips)}")
    absent = [name for name, windows in found.items() if not windows.any()]
    if absent and len(absent) < len(found):
        sentences.append(f"never {', '.join(absent)}")
    if num_abstained:
        sentences.append(f"no decision in {num_abstained} of {len(clips)} windows")
    elif len(absent) == len(found):
        sentences.append("none of the classes in any window")
    unsure = {name: windows for name in found if (windows := open_in(clips, task, name)) is not None and windows.any()}
    if unsure:
        ranked = sorted(unsure, key=lambda name: -int(unsure[name].sum()))
        shares = ", ".join(f"{name} in {_share(unsure[name])}" for name in ranked)
        sentences.append(f"sets rule neither in nor out {shares} of the windows")
    return sentences


def _share(windows: NDArray[np.bool_]) -> str:
    share = 100 * windows.mean()
    return "all" if share == 100 else "less than 1 %" if share < 1 else f"{min(share, 99):.0f} %"


def _where(windows: NDArray[np.bool_], clips: Clips) -> str:
    """Say when, by the stretch that has the most windows of a kind beyond those not of it."""
    if windows.all():
        return ""
    if windows.mean() >= _MOST:
        return ", throughout"
    first, last = densest(windows)
    span = f"{clock(clips[first]['start'])}-{clock(clips[last]['end'])}"
    inside = windows[first : last + 1].sum()
    if inside == windows.sum():
        return f", {span}"
    return f", mostly {span}" if 2 * inside >= windows.sum() else f", here and there, most in {span}"


def densest(windows: NDArray[np.bool_]) -> tuple[int, int]:
    """Find the stretch that has the most true windows beyond half of it, or beyond the share of all if that is more.

        argmax_{a <= b} sum_{i = a..b} (x_i - max(1/2, mean x)),   by Kadane's algorithm

    Args:
        windows: `[W]`, some of them true.

    Returns:
        The first and the last of the earliest such stretch.

    Example:
        >>> densest(np.array([True, False, False, True, True, False, True]))
        (3, 4)
    """
    usual = max(0.5, float(windows.mean()))
    best, ends, total, begin = 0.0, (0, 0), 0.0, 0
    for place, there in enumerate(windows):
        if total <= 1e-9:
            total, begin = 0.0, place
        total += there - usual
        if total > best + 1e-9:
            best, ends = total, (begin, place)
    return ends


def _trait_sentences(task: str, spec: Mapping[str, Any], clips: Clips) -> Iterator[tuple[float, str]]:
    """Say how far each trait goes, with the difference between its ends."""
    middles, span = _middles(clips), span_of(clips)
    for name in spec["classes"]:
        values = _values(clips, task, name)
        curve, _, _ = smooth(middles, values, middles, span)
        low, high = int(curve.argmin()), int(curve.argmax())
        change = float(curve[high] - curve[low])
        is_long = middles[-1] - middles[0] >= 60.0
        about = [clock(round(middles[place]) if is_long else middles[place]) for place in (low, high)]
        ends = f"from {curve[low]:.2f} about {about[0]} to {curve[high]:.2f} about {about[1]}"
        yield change, f"{name} {values.mean():.2f} on average, {ends if change >= 0.005 else 'always'}"


def key_moments(tasks: Mapping[str, Mapping[str, Any]], clips: Clips) -> list[Moment]:
    """Find moments worth a look: where classes that come and go are likeliest, and traits highest and lowest.

    Args:
        tasks: specifications by task, see `task_sentences`.
        clips: windows of a recording.

    Returns:
        In time, at most eight, those that stand out most from the mean of their class or trait.
    """
    moments = []
    for task, spec in tasks.items():
        for name in spec["classes"]:
            values = _values(clips, task, name)
            if spec["kind"] == "regression":
                middles = _middles(clips)
                curve, _, _ = smooth(middles, values, middles, span_of(clips))
                low, high = int(curve.argmin()), int(curve.argmax())
                if curve[high] - curve[low] >= _STEADY:
                    for place, word in ((low, "lowest"), (high, "highest")):
                        height = abs(float(curve[place] - values.mean()))
                        moments.append(Moment(clips[place]["start"], f"{name} {word}, {curve[place]:.2f}", height))
                continue
            windows = decided_in(clips, task, name)
            if windows.any() and windows.mean() < _MOST:
                place = int(np.where(windows, values, -1.0).argmax())
                height = float(values[place] - values.mean())
                text = f"{task} {name}" if spec["kind"] == "single_label" else name  # which has classes like `absent`
                moments.append(Moment(clips[place]["start"], f"{text} {values[place]:.2f}", height))
    chosen = sorted(moments, key=lambda moment: -moment.height)[:_MOST_MOMENTS]
    together: dict[float, list[Moment]] = {}
    for moment in chosen:
        together.setdefault(moment.seconds, []).append(moment)
    return [
        Moment(seconds, ", ".join(moment.text for moment in group), group[0].height)
        for seconds, group in sorted(together.items())
    ]


def shared_sentences(clips: Clips) -> list[tuple[str, str]]:
    """Say over all windows what was absent, unlike the training clips, and seen of faces: headings and sentences."""
    sentences = []
    absent: dict[str, Counter[str]] = {}
    for clip in clips:
        for modality, reason in clip["absent"].items():
            absent.setdefault(modality, Counter())[reason] += 1
    for modality, reasons in absent.items():
        (reason, _), *others = reasons.most_common()
        more = f", and {len(others)} other reason(s)" if others else ""
        sentences.append((modality, f"absent {_of(reasons.total(), clips)}: {reason}{more}"))
    unlike = Counter(
        modality
        for clip in clips
        for modality, novelty in clip.get("novelty", {}).items()
        if novelty_sentences({modality: novelty})
    )
    if unlike:
        counts = ", ".join(f"{modality} {_of(count, clips)}" for modality, count in unlike.items())
        sentences.append(("novelty", f"unlike the training clips: {counts}"))
    faces: dict[str, list[FaceFigures]] = {}
    for clip in clips:
        for modality, values in clip.get("faces", {}).items():
            if (figures := FaceFigures.of(values)) is not None:
                faces.setdefault(modality, []).append(figures)
    words: dict[str, list[str]] = {}
    for modality, each in faces.items():
        words.setdefault(_total(each).sentence, []).append(modality)
    return [*sentences, *(("faces", f"{', '.join(names)}: {sentence}") for sentence, names in words.items())]


def _of(count: int, clips: Clips) -> str:
    return f"in all {count} windows" if count == len(clips) else f"in {count} of {len(clips)} windows"


def _total(figures: Sequence[FaceFigures]) -> FaceFigures:
    eyes = [each.smallest_eyes for each in figures if each.smallest_eyes is not None]
    sides = [each.smallest_side for each in figures if each.smallest_side is not None]
    return FaceFigures(
        sum(each.num_frames for each in figures), sum(each.num_with_face for each in figures),
        max(each.most_faces for each in figures), min(eyes, default=None), min(sides, default=None),
        any(each.is_turned for each in figures),
    )  # fmt: skip
