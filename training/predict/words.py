"""What `mmpsr predict` prints: whose predictions these are, clips one by one, and recordings of windows in sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmpsr.calibration.novelty import novelty_sentences
from training.report.card_explanation import explain_task
from training.report.cards import seen_faces, set_sentence
from training.timeline.clock import clock
from training.timeline.windows import key_moments, shared_sentences, task_sentences

__all__ = ["clip_lines", "head_lines", "summary_lines", "title_of"]


def title_of(row: Mapping[str, Any]) -> str:
    """Name a clip or a defect, with its times where it has any."""
    if row["start"] is None and row["end"] is None:
        return str(row["id"])
    return f"{row['id']} {clock(row['start'] or 0.0)}-{clock(row['end']) or 'end'}"


def head_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Say whose predictions these are, how sure they can be, and which of them are calibrated."""
    yield document["about"]
    classified = {name: task for name, task in document["tasks"].items() if task["kind"] != "regression"}
    if classified:
        yield f"{document['confidence_means']}."
    for name, task in document["tasks"].items():
        if name not in classified and not task["zero_shot"]:
            continue
        yield f"{name}: {task['calibration']}."
    promises: dict[str, list[str]] = {}  # tasks of which the same is said
    for name, task in document["tasks"].items():
        promises.setdefault(task["coverage"]["sentence"], []).append(name)
    for sentence, names in promises.items():
        yield f"Sets and intervals of {', '.join(names)}: {sentence}."
    if any(task["coverage"]["stored"] for task in document["tasks"].values()):
        yield f"{document['coverage_means']}."
    if any("explanation" in clip for recording in document["recordings"] for clip in recording["clips"]):
        yield f"{document['interaction_means']}."
    if document["novelty_dev"]:
        counts = ", ".join(f"{name} {number}" for name, number in document["novelty_dev"].items())
        yield f"{document['novelty_means']}. Dev clips: {counts}."


def clip_lines(clip: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """Put a clip into words, for a terminal."""
    yield title_of(clip)
    level = document["coverage"]
    for sentence in novelty_sentences(clip["novelty"]):
        yield f"  {sentence}"
    width = max(map(len, [*document["tasks"], *clip["absent"], "novelty"])) + 2
    for task, result in clip["tasks"].items():
        yield _verdict(task, result, width)
        if (states := set_sentence(result, level)) is not None:
            yield f"  {'':<{width}}{states}"
        for sentence in result.get("rests_on", ()):
            yield f"  {'':<{width}}{sentence}"
        if "explanation" in clip:
            yield from (f"  {'':<{width}}{line}" for line in _why(task, clip))
    for modality, reason in clip["absent"].items():
        yield f"  {modality:<{width}}absent: {reason}"
    if clip["novelty"]:
        shares = ", ".join(f"{modality} {unlike['percentile']:.2f}" for modality, unlike in clip["novelty"].items())
        yield f"  {'novelty':<{width}}{shares}"
    for modalities, sentence in seen_faces(clip):
        yield f"  {'':<{width}}{modalities}: {sentence}"
    noted: dict[str, list[str]] = {}  # modalities of one file share what is said of it
    for modality, note in clip["notes"].items():
        for line in note.splitlines():
            noted.setdefault(line, []).append(modality)
    for line, names in noted.items():
        yield f"  {', '.join(names):<{width}}{'' if len(', '.join(names)) < width else ' '}note: {line}"


def summary_lines(recording: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """Put the windows of a recording into words, for a terminal.

    Args:
        recording: of the document, with several clips.
        document: the whole.
    """
    clips, tasks = recording["clips"], document["tasks"]
    shared = shared_sentences(clips)
    size = "" if document["window"] is None else f" of {document['window']:g} s"
    size += "" if document["hop"] == document["window"] else f", {document['hop']:g} s apart"
    yield f"{recording['id']}: {len(clips)} windows{size}, {clock(clips[0]['start'])}-{clock(clips[-1]['end'])}"
    width = max(map(len, [*tasks, *(name for name, _ in shared), "key moments"])) + 2
    moments = [f"{clock(moment.seconds)} {moment.text}" for moment in key_moments(tasks, clips)]
    groups = [(task, task_sentences(task, spec, clips)) for task, spec in tasks.items()]
    groups += [("key moments", moments)] if moments else []
    for name, sentences in [*groups, *((name, [sentence]) for name, sentence in shared)]:
        for number, sentence in enumerate(sentences):
            yield f"  {'' if number else name:<{width}}{sentence}"


def _verdict(task: str, result: Mapping[str, Any], width: int) -> str:
    """Say what is predicted for a task."""
    if result["kind"] == "regression":
        parts = []
        for name, value in result["values"].items():
            ends = result["intervals"].get(name)
            parts.append(f"{name} {value:.2f}" + ("" if ends is None else f" [{ends[0]:.2f}, {ends[1]:.2f}]"))
        verdict = f"not to be used ({result['reason']}): " if result["abstained"] else ""
        return f"  {task:<{width}}{verdict}{', '.join(parts)}"
    ranked = sorted(result["values"].items(), key=lambda pair: -pair[1])[:4]
    values = ", ".join(f"{name} {value:.2f}" for name, value in ranked)
    if result["abstained"]:
        verdict = f"no decision ({result['reason']})"
    else:
        verdict = f"{' + '.join(result['decided']) or 'none of the classes'} ({result['confidence']:.1%} sure)"
    return f"  {task:<{width}}{verdict}: {values}"


def _why(task: str, clip: Mapping[str, Any]) -> Iterator[str]:
    """Say what the modalities add to the class or trait that a card shows first, and what pairs of them add."""
    why = explain_task(task, [clip])
    chart = why.charts[0]
    parts = ", ".join(f"{row.modality} {row.shown}" for row in chart.rows if not row.absent)
    yield f"why {chart.name}: {chart.baseline} without any modality, {parts} {chart.unit}"
    if why.interactions:
        yield "together: " + ", ".join(f"{pair} {cells[0]}" for pair, cells in why.interactions) + f" {chart.unit}"
