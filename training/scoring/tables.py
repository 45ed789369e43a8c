"""Tables of figures for the terminal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.table import Table

from mmpsr.calibration.novelty import NOTABLE
from training.scoring.rows import AdaptedRow, Estimate, MetricRow, NotAdapted, SeedRow

__all__ = [
    "SHORT_NAMES",
    "between",
    "few_groups",
    "metric_name",
    "number",
    "result_table",
    "seed_tables",
    "table_of",
    "tables",
]

SHORT_NAMES: Mapping[str, str] = {
    "multilabel_macro_f1": "mMF1",
    "multilabel_weighted_accuracy": "mWACC",
    "multilabel_weighted_f1": "mWF1",
    "macro_f1": "MF1",
    "weighted_f1": "WF1",
    "uar": "UAR",
    "positive_f1": "F1+",
    "negative_f1": "F1-",
    "average_precision": "AP",
    "bah_average_precision": "AP (BAH)",
    "frame_iou": "IoU of segments",
    "segment_f1_10": "F1@10 of segments",
    "segment_f1_50": "F1@50 of segments",
    "mean_accuracy": "mACC",
    "mean_ccc": "mCCC",
}
"""Metric name -> the literature's abbreviation."""
PLACE = ("corpus", "split", "task")
NOT_ZERO_SHOT = (
    "Not zero-shot: one class per clip, its logits standardised over these clips and weighted by the classes' shares "
    "that these clips make most likely; no label was read"
)
BY_SUBSET = "By the modalities that the model sees"
NO_COVERAGE = (
    "Coverage: no set or interval is promised to hold the truth, since the run was calibrated before what they are "
    "made from was stored; train again to have it"
)
NUM_PAIRS = 8  # correlations that are shown of each corpus
FEW_GROUPS = 30
MOST_NAMED = 8  # of places with few groups


def result_table(results: Sequence[Mapping[str, Any]], zero_shot: Sequence[str]) -> Table:
    """Lay out one row per corpus, split, task and metric.

    Args:
        results: rows of `results.json` with `corpus, split, task, metric, num_clips, model, linear, chance`.
        zero_shot: corpora that were never trained on.
    """
    table = table_of((*PLACE, "metric"), ("clips", "model", "linear", "chance"))
    table.title, table.title_justify = "Results in percent, higher is better; best dev weights", "left"
    previous = None
    for row in results:
        key = (row["corpus"], row["split"], row["task"])
        if previous is not None and key[0] != previous[0]:
            table.add_section()
        corpus = f"{row['corpus']} (zero-shot)" if row["corpus"] in zero_shot else row["corpus"]
        shown = (corpus, row["split"], row["task"]) if key != previous else ("", "", "")
        previous = key
        table.add_row(
            *shown, metric_name(row["metric"]), str(row["num_clips"]), f"[bold]{number(row['model'])}[/bold]",
            number(row["linear"]), number(row["chance"]),
        )  # fmt: skip
    return table


def number(value: float | None, sign: bool = False) -> str:
    """Write a percentage with two digits, or a dash for one that is undefined."""
    return "-" if value is None or math.isnan(value) else f"{value:{'+' if sign else ''}.2f}"


def between(estimate: Estimate, sign: bool = False) -> str:
    """Write the ends of an interval, or nothing."""
    return "" if estimate.low is None else f"[{number(estimate.low, sign)}, {number(estimate.high, sign)}]"


def metric_name(metric: str) -> str:
    """Abbreviate a metric as the literature does."""
    return SHORT_NAMES.get(metric, metric)


def tables(document: Mapping[str, Any]) -> Iterator[Table | str]:
    """Lay out what is printed of one run, the leakage guard's findings first."""
    return map(_compact, _of_run(document))


def _of_run(document: Mapping[str, Any]) -> Iterator[Table | str]:
    yield from _leakage(document["leakage"])
    for task, statement in document.get("zero_shot", {}).items():
        yield f"{task}: {statement}"
    if "wordings" in document:
        yield "Each wording alone, and the usual ones together: none is chosen; percent, higher is better"
        yield _wordings(document["wordings"])
        yield _resampled(document)
        return
    yield from _figures(document)
    yield "By class or trait (what metrics are the mean of)"
    yield _rows(document["classes"], "class")
    if document["presence"]:
        yield "By the modalities that clips have"
        yield _rows(document["presence"], "modalities")
    if document.get("novelty"):
        yield f"By novelty: any modality more out of line than {NOTABLE:.0%} of the dev clips, or none"
        yield _rows(document["novelty"], "clips are")
    if document["subsets"]:
        yield f"{BY_SUBSET}; without: clips that have none of them, which are left out"
        yield _rows(document["subsets"], "modalities", with_without=True)
    if document["adapted"]:
        yield from _adapted(document["adapted"])
    if document["by"]:
        yield f"By {document['column']}"
        yield _rows(document["by"], "value")
    if document["aggregated"]:
        yield f"Of clips averaged to one by {document['whole']}"
        yield _rows([replace(row, part=str(row.num_wholes)) for row in document["aggregated"]], "wholes")
    if document["calibration"]:
        yield "Expected calibration error in percent, lower is better"
        yield _calibration(document["calibration"])
    if "coverage" in document:
        yield from _coverage(document["coverage"])
    elif not document.get("zero_shot"):
        yield NO_COVERAGE
    for row in document["confusion"]:
        yield f"{row['corpus']} {row['split']}, {row['task']}: clips by actual (rows) and decided (columns) class"
        yield _confusion(row)
    together = _correlations(document["correlations"])
    if together.rows:
        of_each = f"Spearman's correlation over clips, {NUM_PAIRS} of each"
        yield f"Outputs of different tasks that go together most ({of_each})"
        yield together
    yield _resampled(document)


def few_groups(places: Iterable[tuple[str, str, int]]) -> str | None:
    """Say of which corpora and tasks intervals and p come from few groups; None where of none.

    Args:
        places: corpus, task and number of groups of each figure.
    """
    few = dict.fromkeys(f"{corpus} {task} ({number})" for corpus, task, number in places if number < FEW_GROUPS)
    if not few:
        return None
    names = ", ".join(list(few)[:MOST_NAMED]) + (f" and {len(few) - MOST_NAMED} more" if len(few) > MOST_NAMED else "")
    return f"Fewer than {FEW_GROUPS} groups: {names}. Intervals and p from so few are unsure themselves."


def _resampled(document: Mapping[str, Any]) -> str:
    return (
        "Square brackets: 95 % intervals, groups (participants, videos or dialogues) resampled "
        f"{document['num_resamples']} times; none where there are fewer than two groups."
    )


def _wordings(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = table_of((*PLACE, "metric", "wordings", "of"), ("clips", "value", "", "chance"))
    places: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        places.setdefault((*(row[name] for name in PLACE), row["metric"]), []).append(row)
    for (*place, metric), of_place in places.items():
        for row in of_place:
            shown = (*place, metric_name(metric)) if row is of_place[0] else ("",) * 4
            table.add_row(
                *shown, row["wordings"], ", ".join(row["compared"]), str(row["num_clips"]), number(row["value"]),
                _quoted(Estimate(row["value"], row["low"], row["high"])), number(row["chance"]),
            )  # fmt: skip
        table.add_section()
    return table


def seed_tables(document: Mapping[str, Any]) -> Iterator[Table | str]:
    """Lay out what is printed of several runs that differ in their seed."""
    return map(_compact, _of_seeds(document))


def _of_seeds(document: Mapping[str, Any]) -> Iterator[Table | str]:
    for run, evaluation in zip(document["runs"], document["evaluations"], strict=True):
        for line in _leakage(evaluation["leakage"]):
            yield f"{run}: {line}" if isinstance(line, str) else line
    yield f"Mean and standard deviation over {len(document['seeds'])} seeds, in percent, higher is better"
    yield _over_seeds(document["over_seeds"], document["seeds"])
    if document["adapted_over_seeds"]:
        yield f"{NOT_ZERO_SHOT}; mean and standard deviation over seeds"
        yield _over_seeds(document["adapted_over_seeds"], document["seeds"])
    if document["subsets_over_seeds"]:
        yield f"{BY_SUBSET}, of clips that have any of them; mean and standard deviation over seeds"
        yield from _subsets_over_seeds(document["subsets_over_seeds"])
    yield (
        "Square brackets: 95 % t intervals of the mean over seeds, which hold training's chance; what other clips "
        "would change, the intervals of a single run say."
    )


def _over_seeds(rows: Sequence[SeedRow], seeds: Sequence[int]) -> Table:
    titles = ("clips", "mean", "deviation", "", "least", "most", *(f"seed {seed}" for seed in seeds))
    table = table_of((*PLACE, "metric"), titles)
    for row in rows:
        table.add_row(
            *_place(row), str(row.num_clips), f"[bold]{number(row.model.value)}[/bold]", number(row.deviation),
            _quoted(row.model), number(row.least), number(row.most), *map(number, row.values),
        )  # fmt: skip
    return table


def _subsets_over_seeds(rows: Sequence[SeedRow]) -> Iterator[Table]:
    """Lay out a table per corpus and task: figures by subset (rows) and metric (columns)."""
    for place, of_place in itertools.groupby(rows, key=lambda row: row.place):
        cells = {(row.part, row.metric): row for row in of_place}
        metrics = list(dict.fromkeys(metric for _, metric in cells))
        table = table_of((" ".join(place),), ("clips", *map(metric_name, metrics)))
        for subset in dict.fromkeys(subset for subset, _ in cells):
            of_subset = [cells[subset, metric] for metric in metrics]
            means = [f"{number(row.model.value)} ± {number(row.deviation)}" for row in of_subset]
            table.add_row(subset, str(of_subset[0].num_clips), *means)
        yield table


def _compact(part: Table | str) -> Table | str:
    """Leave out columns of intervals of which there is none."""
    if isinstance(part, Table):
        part.columns = [column for column in part.columns if column.header or any(column.cells)]
    return part


def _leakage(leakage: Mapping[str, Any]) -> Iterator[Table | str]:
    for finding in leakage["findings"]:
        style = "bold white on red" if finding["severity"] == "error" else "bold yellow"
        word = "LEAKAGE" if finding["severity"] == "error" else "warning"
        yield f"[{style}]{word}[/{style}] ({finding['kind']}): {finding['message']}"
    if leakage["effects"]:
        yield "What that is worth: figures of all clips, and of those that share nothing of the kind with training"
        table = table_of(("shared", *PLACE, "metric"), ("clips", "all", "", "unseen clips", "unseen", ""))
        for effect in leakage["effects"]:
            cells = ["0", "-", ""] if effect.unseen is None else _counted(effect.unseen)
            table.add_row(effect.kind, *_place(effect.row), *_counted(effect.row), *cells)
        yield table
    if leakage["checked"] and not leakage["findings"]:
        yield "Leakage guard: these clips share no group, speaker, file, transcript or vector with training clips"


def table_of(left: Sequence[str], right: Sequence[str]) -> Table:
    """Make an empty table of columns of words and columns of numbers."""
    table = Table()
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _figures(document: Mapping[str, Any]) -> Iterator[Table | str]:
    rows = document["figures"]
    has_linear = any(row.linear is not None for row in rows)
    yield "Figures in percent, higher is better" + (
        ""
        if has_linear or document.get("zero_shot")
        else "; the linear baseline is not stored, so that it has none on these clips"
    )
    baseline = ("linear", "") if has_linear else ()
    table = table_of((*PLACE, "metric"), ("clips", "groups", "model", "", *baseline, "chance"))
    over = table_of((*PLACE, "metric"), ("model - linear", "", "p", "corrected p"))
    for row in rows:
        linear = [number(row.linear.value), _quoted(row.linear)] if row.linear is not None else []
        if row.over_linear is not None:
            ps = ["-" if p is None else f"{p:.3f}" for p in (row.over_linear.p, row.over_linear.corrected_p)]
            over.add_row(*_place(row), number(row.over_linear.value, True), _quoted(row.over_linear, True), *ps)
        counts = [str(row.num_clips), str(row.num_groups)]
        table.add_row(*_place(row), *counts, _bold(row.model), _quoted(row.model), *linear, number(row.chance))
    yield table
    if has_linear:
        yield "Model - linear baseline, percentage points; corrected p over all rows (Holm)"
        yield over
    if (note := few_groups((row.corpus, row.task, row.num_groups) for row in rows)) is not None:
        yield note


def _adapted(rows: Sequence[AdaptedRow | NotAdapted]) -> Iterator[Table | str]:
    """Lay out figures after label-shift adaptation, and the shares of classes that it estimated."""
    adapted = [row for row in rows if isinstance(row, AdaptedRow)]
    yield NOT_ZERO_SHOT
    has_linear = any(row.linear is not None for row in adapted)
    table = table_of((*PLACE, "metric"), ("clips", "zero-shot", "fitted", "", *(["linear, fitted", ""] * has_linear)))
    for row in adapted:
        linear = [number(row.linear.value), _quoted(row.linear)] if row.linear is not None else []
        values = [number(row.before), _bold(row.model), _quoted(row.model)]
        table.add_row(*_place(row), str(row.num_clips), *values, *linear)
    yield table
    for (corpus, split, task), shares in {row.place: row.shares for row in adapted}.items():
        yield f"{corpus} {split}, {task}: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    for other in rows:
        if isinstance(other, NotAdapted):
            yield f"{other.corpus} {other.split}, {other.task} is not fitted: {other.reason}"


def _rows(rows: Sequence[MetricRow], title: str, with_without: bool = False) -> Table:
    """Lay out rows by part, under its title; how many clips are left out where this is asked for."""
    titles = ("clips", *(["without"] * with_without), "model", "")
    table = table_of((*PLACE, "metric", title), titles)
    previous = None
    for row in rows:
        place = _place(row) if row.key != previous else ("", "", "", "")
        previous = row.key
        counts = [str(row.num_clips), *([str(row.num_without)] * with_without)]
        table.add_row(*place, row.part, *counts, number(row.model.value), _quoted(row.model))
    return table


def _place(row: MetricRow) -> tuple[str, str, str, str]:
    return row.corpus, row.split, row.task, metric_name(row.metric)


def _counted(row: MetricRow) -> list[str]:
    return [str(row.num_clips), number(row.model.value), _quoted(row.model)]


def _bold(estimate: Estimate) -> str:
    return f"[bold]{number(estimate.value)}[/bold]"


def _quoted(estimate: Estimate, sign: bool = False) -> str:
    return between(estimate, sign).replace("[", r"\[")  # not a style of rich


def _calibration(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = table_of(PLACE, ("error",))
    for row in rows:
        table.add_row(row["corpus"], row["split"], row["task"], number(100 * row["error"]))
    return table


def _coverage(coverage: Mapping[str, Any]) -> Iterator[Table | str]:
    """Lay out how often sets and intervals held the truth, and for whom that is promised."""
    yield (
        f"Coverage of sets and intervals that were asked to hold the truth {100 * coverage['level']:g} % of the time: "
        "every group counts the same; size in classes, of a label in absent and present, of a score in width"
    )
    table = table_of((*PLACE, "of"), ("clips", "groups", "asked", "promised", "observed", "", "mean size"))
    previous, sentences = None, dict[tuple[str, ...], str]()
    for row in coverage["rows"]:
        place = tuple(row[name] for name in PLACE)
        sentences[place] = row["sentence"]
        if row["value"] is not None:
            table.add_row(
                *(place if place != previous else ("",) * 3), row["part"], str(row["num_clips"]),
                str(row["num_groups"]), f"{100 * coverage['level']:g}", "yes" if row["promised"] else "no",
                f"[bold]{number(row['value'])}[/bold]", _quoted(Estimate(row["value"], row["low"], row["high"])),
                f"{row['size']:.2f} of {row['of']}",
            )  # fmt: skip
            previous = place
    if table.rows:
        yield table
    for (corpus, split, task), sentence in sentences.items():
        yield f"{corpus} {split}, {task}: {sentence}"
    yield f"{coverage['means']}."


def _confusion(confusion: Mapping[str, Any]) -> Table:
    table = table_of(("",), confusion["classes"])
    for name, counts in zip(confusion["classes"], confusion["counts"], strict=True):
        table.add_row(name, *map(str, counts))
    return table


def _correlations(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out the strongest of each corpus between outputs of different tasks."""
    table = table_of(("corpus", "split", "one", "other"), ("clips", "correlation", ""))
    for clips in rows:
        outputs, matrices = clips["outputs"], clips["spearman"]
        pairs = [
            (row, column)
            for row, column in itertools.combinations(range(len(outputs)), 2)
            if outputs[row].split(".")[0] != outputs[column].split(".")[0]
            and matrices["value"][row][column] is not None
        ]
        pairs.sort(key=lambda pair: -abs(matrices["value"][pair[0]][pair[1]]))
        for row, column in pairs[:NUM_PAIRS]:
            value, low, high = (matrices[name][row][column] for name in ("value", "low", "high"))
            shown = "" if low is None else rf"\[{low:+.2f}, {high:+.2f}]"
            place = (clips["corpus"], clips["split"], outputs[row], outputs[column])
            table.add_row(*place, str(clips["num_clips"]), f"{value:+.2f}", shown)
    return table
