"""The report of a run: one HTML file of everything that its folder holds."""

from __future__ import annotations

from pathlib import Path

from corpora.checks.dev_choice import weak_dev
from corpora.clips import DEFECT_COLUMNS
from mmpsr.files import write_whole
from training.evaluation.evaluate import EvaluationOptions, evaluate
from training.fit.cost import COST
from training.report.inputs import data_section, defects_section, read_csv, settings_section
from training.report.page import Page, render
from training.report.performance import (
    adapted_table,
    calibration_section,
    classes_section,
    confusion_section,
    coverage_section,
    figures_section,
)
from training.report.subgroups import correlations_section, leakage_section, subgroups_section, subsets_section
from training.report.training import cost_section, read_metrics, training_section
from training.report.warnings import run_warnings
from training.runs.directory import RunError, read_json
from training.runs.stored import RunPredictions
from training.scoring.counts import summarize

__all__ = ["run_page", "write_report"]

LEDGER_COLUMNS = ("corpus", "clip_id", "modality", "encoder", "status", "reason", "time")


def run_page(path: Path, column: str | None = None, subsets: bool = False) -> Page:
    """Make the report of a finished run.

    Args:
        path: its folder.
        column: of the clip table, by whose values figures are told apart, or None.
        subsets: whether to evaluate every subset of the modalities, for which features are read again.

    Raises:
        RunError: the run is not finished, a file of it cannot be read, or there is no such column.
        ConfigError: its configuration is not one of this version.
    """
    run = RunPredictions.read(path)
    document = evaluate(path, EvaluationOptions(by=column, subsets=subsets, adapt=True))
    results = read_json(path, "results.json")
    is_complete = (path / "data.json").exists()
    data = read_json(path, "data.json") if is_complete else summarize(run.table, run.tasks)
    manifest = read_json(path, "manifest.json") if (path / "manifest.json").exists() else {}
    cost = read_json(path, COST) if (path / COST).exists() else {}
    records = read_metrics(path / "metrics.jsonl")
    defects, ledger = (
        read_csv(path / name, columns)
        for name, columns in (("defects.csv", DEFECT_COLUMNS), ("ledger.csv", LEDGER_COLUMNS))
    )
    figures, config = document["figures"], run.config
    zero_shot = [name for name in config.corpora.sources if name not in config.corpora.trained()]
    facts = [
        ("run", path.resolve().name),
        ("model", config.model.kind),
        ("tasks", ", ".join(run.tasks)),
        ("corpora", ", ".join(config.corpora.sources)),
        ("modalities", ", ".join(config.data.modalities)),
        ("seed", str(config.training.seed)),
    ]
    sections = [
        figures_section(figures, results, zero_shot, adapted_table(document["adapted"])),
        classes_section(document["classes"], zero_shot),
        confusion_section(document["confusion"], zero_shot),
        calibration_section(document["calibration"], zero_shot),
        coverage_section(document.get("coverage"), zero_shot),
        leakage_section(document["leakage"]["effects"], zero_shot),
        subgroups_section(document, zero_shot),
        subsets_section(document["subsets"], zero_shot),
        correlations_section(document["correlations"]),
        training_section(records, config.training.monitor),
        data_section(config, data, is_complete),
        cost_section(records, cost),
        settings_section(config, manifest, read_json(path, "features.json")),
        defects_section(defects, ledger),
    ]
    choice = [
        finding
        for corpus in config.corpora.trained()
        for finding in weak_dev(corpus, run.table[run.table["corpus"].eq(corpus)], run.tasks)
    ]
    warnings = run_warnings(
        config, figures, document["leakage"]["findings"], data, records, run.calibration, defects, ledger, choice
    )
    return Page("Training run", path.resolve().parent.name, facts, warnings, sections)


def write_report(page: Page, output: Path) -> None:
    """Write a page whole, and make its folder.

    Raises:
        RunError: it cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, render(page))
    except OSError as error:
        raise RunError(f"{output} cannot be written ({error}); name another file with -o") from None
