"""Sections of a run's report about training: curves, weights of tasks, pseudo-labels, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpsr.files import read_json_lines
from training.report.charts import Line, heat, legend, lines
from training.report.page import Block, Card, Cards, Chart, Charts, Section, Text
from training.scoring.tables import metric_name

__all__ = ["best_epoch", "cost_section", "read_metrics", "training_section"]

Records = Sequence[Mapping[str, Any]]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the records of `metrics.jsonl`, none where there is no such file."""
    if not path.exists():
        return []
    return read_json_lines(path)


def best_epoch(records: Records) -> int | None:
    """Find the first epoch with the highest dev figure, whose weights are the run's; None where none is a number."""
    finite = [record for record in records if np.isfinite(record["dev_figure"])]
    return max(finite, key=lambda record: record["dev_figure"])["epoch"] if finite else None


def training_section(records: Records, monitored: str) -> Section:
    """Show dev figures, losses, weights of tasks and shares of pseudo-labels by epoch.

    Args:
        records: of `metrics.jsonl`.
        monitored: the dev figure that epochs are chosen by.
    """
    if not records:
        return Section("training", "Training", [])
    best = best_epoch(records)
    choice = "no epoch was chosen" if best is None else f"the dotted line is the chosen epoch {best}"
    charts = [
        _chart(
            f"Dev figure: {monitored}", {"dev figure": [record["dev_figure"] for record in records]}, records, "%",
            f"What epochs are chosen by; {choice}. Still rising at its end: train longer.", best,
        )
    ]  # fmt: skip
    by_task: dict[str, dict[str, list[float]]] = {}
    for name in dict.fromkeys(name for record in records for name in record["dev"]):
        corpus, task, metric = name.split("/")
        by_task.setdefault(task, {})[f"{corpus} {metric_name(metric)}"] = _series(records, 1, "dev", name)
    for task, series in by_task.items():
        caption = f"Every figure of {task} on dev; {choice}. Tasks whose best epochs lie far apart compete."
        charts.append(_chart(f"Dev figures of {task}", series, records, "%", caption, best))
    blocks: list[Block] = [Charts(charts)]
    terms = dict.fromkeys(tuple(name.split("/")) for record in records for name in record["terms"])
    charts = []
    for field, title, unit, caption in (
        ("loss", "Losses", "mean loss per step", "Before weighting. One that rises while dev falls is overfitting."),
        (
            "weight",
            "Weights",
            "weight in the sum",
            "How much each task counts in the loss. One near 0 is hardly trained on.",
        ),
    ):
        for branch in dict.fromkeys(branch for branch, _ in terms):
            tasks = [task for other, task in terms if other == branch]
            series = {task: _series(records, 1, "terms", f"{branch}/{task}", field) for task in tasks}
            charts.append(_chart(f"{title}, {branch} branch", series, records, unit, caption))
    blocks.append(Charts(charts))
    pseudo = _pseudo_labels(records)
    if pseudo:
        blocks += [Text("Pseudo-labels: what the model says of clips that nobody labelled for a task."), Charts(pseudo)]
    conflicts = _conflicts(records)
    if conflicts:
        blocks += [Text("Gradients of two losses on the layers that they share."), Charts(conflicts)]
    return Section("training", "Training", blocks)


def _pseudo_labels(records: Records) -> list[Chart]:
    charts = []
    tasks = list(dict.fromkeys(task for record in records for task in record.get("accepted", {})))
    for task in tasks:
        names = dict.fromkeys(name for record in records for name in record.get("accepted", {}).get(task, {}))
        shares = {name: _series(records, 100, "accepted", task, name) for name in names}
        caption = "Share of candidates that are accepted, by epoch. Classes near 0 are learnt from labels alone."
        title = f"Accepted pseudo-labels of {task}"
        charts.append(_chart(title, shares, records, "% of candidates", caption, is_share=True))
    accuracies = {task: _series(records, 100, "pseudo_label_quality", task, "accuracy") for task in tasks}
    accuracies = {task: values for task, values in accuracies.items() if np.isfinite(values).any()}
    if accuracies:
        caption = (
            "Share of accepted pseudo-labels that would be right, on labelled dev clips. "
            "Falling: the model confirms its errors."
        )
        title = "Accuracy of accepted pseudo-labels"
        charts.append(_chart(title, accuracies, records, "% on dev", caption, is_share=True))
    return charts


def _series(records: Records, factor: float, *keys: str) -> list[float]:
    """Take a number of every record times a factor, NaN where a record has none."""
    values = []
    for record in records:
        value: Any = record
        for key in keys:
            value = value.get(key, {})
        values.append(float("nan") if value == {} else factor * value)
    return values


def _conflicts(records: Records) -> list[Chart]:
    """Draw cosines between losses' gradients: their mean over epochs, and the supervised branch's by epoch."""
    pairs: dict[tuple[str, str], list[float]] = {}
    for first, second in dict.fromkeys(
        (first, second)
        for record in records
        for first, cosines in record.get("gradient_cosines", {}).items()
        for second in cosines
    ):
        pairs[first, second] = _series(records, 1, "gradient_cosines", first, second)
    if not pairs:
        return []
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    means = {pair: float(np.nanmean(values)) for pair, values in pairs.items()}
    shades = [[means.get((row, column), means.get((column, row), float("nan"))) for column in names] for row in names]
    texts = [[f"{value:.2f}" if np.isfinite(value) else "" for value in line] for line in shades]
    shown = [f"{task}, {branch[:3]}." for branch, task in (name.split("/") for name in names)]
    caption = (
        "Mean cosine over epochs: blue where tasks pull together, orange where they pull apart (negative transfer)."
    )
    charts = [Chart("Gradient conflict", heat(shades, texts, shown, shown, "", "", "conflict"), caption)]
    supervised = {
        " and ".join(name.split("/")[1] for name in pair): values
        for pair, values in pairs.items()
        if all(name.startswith("supervised/") for name in pair)
    }
    if supervised:
        caption = "By epoch, between supervised losses. Below 0: a step for one task undoes the other's."
        charts.append(_chart("Cosines of supervised gradients", supervised, records, "cosine", caption))
    return charts


def _chart(
    title: str, series: Mapping[str, Sequence[float]], records: Records, unit: str, caption: str,
    mark: float | None = None, is_share: bool = False,
) -> Chart:  # fmt: skip
    name = "training-" + "".join(letter if letter.isalnum() else "-" for letter in title)
    epochs = [record["epoch"] for record in records]
    svg = lines({key: Line(epochs, values) for key, values in series.items()}, "epoch", unit, name, mark, is_share)
    return Chart(title, svg, caption, legend(series) if len(series) > 1 else ())


def cost_section(records: Records, cost: Mapping[str, Any]) -> Section:
    """Show what the model and its training cost.

    Args:
        records: of `metrics.jsonl`.
        cost: `cost.json`, see `training.fit.cost`; empty where there is none.
    """
    cards = []
    if cost:
        threads = f" with {cost['num_threads']} threads" if cost["device"] == "cpu" else ""
        cards.append(Card("Parameters", f"{cost['num_parameters']:,}", notes=["trainable"]))
        for name, title, note in (
            ("seconds_per_epoch", "Seconds an epoch", f"on {cost['device']}{threads}, dev figures included"),
            ("peak_megabytes", "Peak memory, MB", "of the device's tensors, or of the whole process on a CPU"),
        ):
            if cost[name] is not None:
                cards.append(
                    Card(title, f"{cost[name]:,.2f}" if cost[name] < 100 else f"{cost[name]:,.0f}", notes=[note])
                )
    if records:
        best = best_epoch(records)
        choice = "none was chosen" if best is None else f"weights are of epoch {best}"
        cards.append(Card("Epochs", str(len(records)), notes=[f"{records[-1]['step']:,} optimizer steps", choice]))
    return Section("cost", "Cost", [Cards(cards)] if cards else [])
