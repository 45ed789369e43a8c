"""What a reader of a run's report must know before believing a figure, found by rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from corpora.checks.findings import Finding
from corpora.clips import DEFECT_KINDS
from mmpsr.calibration.calibration import Calibration
from training.config import RunConfig
from training.report.page import Level, Warning_
from training.report.training import best_epoch
from training.runs.origin import sources_of
from training.scoring.rows import Difference, MetricRow
from training.scoring.tables import few_groups, metric_name

__all__ = ["run_warnings"]

WIDE = 10.0
"""Percentage points from end to end of an interval."""


def run_warnings(
    config: RunConfig,
    figures: Sequence[MetricRow],
    findings: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    calibration: Calibration,
    defects: pd.DataFrame,
    ledger: pd.DataFrame,
    choice: Sequence[Finding] = (),
) -> list[Warning_]:
    """Find all warnings about a run.

    Args:
        config: its configuration.
        figures: with intervals, of `training.evaluation.evaluate.evaluate`.
        findings: of its leakage guard.
        data: see `training.scoring.counts`.
        records: of `metrics.jsonl`.
        calibration: the model's.
        defects: `defects.csv`.
        ledger: `ledger.csv`.
        choice: of `corpora.checks.dev_choice.weak_dev`, of the trained corpora.
    """
    return [
        *_generated(config, data),
        *_leaks(findings),
        *_diverged(records),
        *_beside_linear(figures),
        *_sizes(figures),
        *_selection(config, figures, records),
        *(Warning_("caution", f"{finding.corpus}: {finding.sentence}.") for finding in choice),
        *_calibrated(config, calibration),
        *_inputs(data, defects, ledger),
    ]


def _generated(config: RunConfig, data: Mapping[str, Any]) -> Iterator[Warning_]:
    stored = {"generated": [], **data}  # of a run before, its configuration alone decides
    names = [corpus.name for corpus in sources_of(config.corpora, stored) if corpus.generated]
    if names:
        yield Warning_(
            "serious", f"A program made the clips of {_some(names)}: their figures tell nothing about people."
        )


def _leaks(findings: Sequence[Mapping[str, Any]]) -> Iterator[Warning_]:
    for finding in findings:
        if finding["kind"] == "unchecked":
            yield Warning_("note", f"{finding['message'][:1].upper()}{finding['message'][1:]}.")
        elif finding["kind"] != "chosen_by":  # said of dev by `_selection`
            yield Warning_("serious", f"{finding['message']}; the figures may be of what is known.")


def _diverged(records: Sequence[Mapping[str, Any]]) -> Iterator[Warning_]:
    wrong = [
        record["epoch"]
        for record in records
        if not np.isfinite([record["dev_figure"], *(term["loss"] for term in record["terms"].values())]).all()
    ]
    if wrong:
        epochs = _some(map(str, wrong))
        yield Warning_("serious", f"Training diverged: the loss or dev figure of epoch {epochs} is no finite number.")


def _beside_linear(figures: Sequence[MetricRow]) -> Iterator[Warning_]:
    over = [(row, row.over_linear, row.over_linear.value or 0.0) for row in figures if row.over_linear is not None]
    levels: tuple[tuple[Level, bool, str], ...] = (("serious", True, "clearly below"), ("caution", False, "below"))
    for level, clear, how in levels:
        names = [
            f"{_name(row)} ({value:+.2f})"
            for row, difference, value in over
            if value < 0 and _is_clear(difference) is clear
        ]
        if names:
            yield Warning_(level, f"The model is {how} the linear baseline on the same features: {_some(names)}.")
    if over and not any(_is_clear(difference) and value > 0 for _, difference, value in over):
        text = "No figure is clearly above the linear baseline's (p below 0.05, corrected over all figures)."
        yield Warning_("caution", text)


def _is_clear(difference: Difference) -> bool:
    return difference.corrected_p is not None and difference.corrected_p < 0.05


def _sizes(figures: Sequence[MetricRow]) -> Iterator[Warning_]:
    if (text := few_groups((row.corpus, row.task, row.num_groups) for row in figures)) is not None:
        yield Warning_("caution", text)
    wide = [
        f"{_name(row)} ({row.model.high - row.model.low:.0f})"
        for row in figures
        if row.model.low is not None and row.model.high is not None and row.model.high - row.model.low > WIDE
    ]
    if wide:
        yield Warning_("caution", f"Intervals wider than {WIDE:.0f} percentage points: {_some(wide)}.")
    none = [_name(row) for row in figures if row.model.low is None]
    if none:
        yield Warning_("caution", f"No interval can be given: {_some(none)}.")


def _selection(
    config: RunConfig, figures: Sequence[MetricRow], records: Sequence[Mapping[str, Any]]
) -> Iterator[Warning_]:
    on_dev = dict.fromkeys(row.corpus for row in figures if row.split == "dev")
    trained = [name for name in on_dev if name in config.corpora.trained()]
    if trained:
        text = f"{_some(trained)}: there is no labelled test clip, and dev, which is shown, also chose the weights."
        yield Warning_("serious", text)
    if records and best_epoch(records) == records[-1]["epoch"] == config.training.num_epochs:
        yield Warning_("caution", "The last epoch was the best: training may have ended too early.")
    shown = {row.corpus for row in figures}
    zero_shot = [name for name in config.corpora.sources if name in shown and name not in config.corpora.trained()]
    if zero_shot:
        yield Warning_("note", f"Zero-shot, never trained on: {_some(zero_shot)}.")


def _calibrated(config: RunConfig, calibration: Calibration) -> Iterator[Warning_]:
    if config.training.calibration == "none":
        yield Warning_("caution", "Nothing was calibrated: probabilities may be far too sure.")
        return
    notes = [f"{task}: {note}" for task, fitted in calibration.tasks.items() for note in fitted.notes]
    if notes:
        yield Warning_("note", f"Calibration was fitted in part. {_some(notes, '; ')}.")


def _inputs(data: Mapping[str, Any], defects: pd.DataFrame, ledger: pd.DataFrame) -> Iterator[Warning_]:
    severity = defects["kind"].map(DEFECT_KINDS)
    bad = defects.loc[severity.isin(["error", "warning"]), "kind"].value_counts()
    if len(bad):
        kinds = _some(f"{n} {kind}" for kind, n in sorted(bad.to_dict().items()))
        yield Warning_("note", f"The corpora have defects: {kinds}; see the last section.")
    failed = ledger.loc[ledger["status"].eq("failed"), "modality"].value_counts()
    if len(failed):
        kinds = _some(f"{n} {modality}" for modality, n in sorted(failed.to_dict().items()))
        yield Warning_("note", f"Vectors that could not be made: {kinds}; these clips go without the modality.")
    unlabeled = [f"{row['corpus']} {row['split']}" for row in data["clips"] if not _has_labels(data, row)]
    if unlabeled:
        yield Warning_("note", f"Without any label: {_some(unlabeled)}.")


def _has_labels(data: Mapping[str, Any], clips: Mapping[str, Any]) -> bool:
    return any((row["corpus"], row["split"]) == (clips["corpus"], clips["split"]) for row in data["labels"])


def _name(row: MetricRow) -> str:
    return f"{row.corpus} {row.task} {metric_name(row.metric)}"


def _some(names: Any, separator: str = ", ", most: int = 8) -> str:
    shown = list(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return separator.join(shown[:most]) + more
