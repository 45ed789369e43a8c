"""All that `mmpsr evaluate` tells: the leakage guard first, figures, subsets, correlations; and figures over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from accelerate import Accelerator
from rich.console import Console

from corpora.registry import CorporaConfig
from mmpsr.calibration.conformal import COVERAGE, HIGHEST, LOWEST, is_level
from mmpsr.config import ConfigError, nearest, validate
from mmpsr.metrics.seeds import seed_summary
from mmpsr.metrics.sums import metric_limits
from training.config import RunConfig
from training.data.joined import JoinedCorpora
from training.evaluation.breakdowns import adapted_rows, aggregated_rows, evaluate_subsets
from training.evaluation.correlations import correlations
from training.evaluation.coverage import coverage_of
from training.evaluation.cross_corpus import join_clips, load_corpora, predict_fresh, read_clips
from training.evaluation.figures import (
    column_values,
    correct_rows,
    evaluate_run,
    finite,
    linear_parts,
    of_clips,
    split_parts,
)
from training.evaluation.leakage import finding, guard, refuse_trained_clips
from training.runs.directory import RunError, comparable, read_json
from training.runs.identities import identities, read_identities, same_clips
from training.runs.stored import RunPredictions, TaskSplit
from training.runs.trained import TrainedModel
from training.scoring.rows import AdaptedRow, Estimate, MetricRow, NotAdapted, SeedRow

__all__ = ["EvaluationOptions", "blank_findings", "evaluate", "over_seeds", "require_seeds"]


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate, and what to tell.

    Attributes:
        split: by default test, and dev of corpora without labelled test clips.
        by: column of the clip table by whose values figures are told apart.
        aggregate: column whose values name what clips are averaged to.
        config: TOML file of other corpora; None for the run's own.
        settings: `section.key=value` over it.
        corpora: only these; empty for all.
        subsets: whether to evaluate every subset of the modalities.
        adapt: whether to fit predictions of corpora that were not trained on to their clips, too.
        allow_trained: whether clips that the model was trained on may be evaluated.
        coverage: chance with which sets and intervals shall hold the truth, from 0.5 to 0.99.
    """

    split: str | None = None
    by: str | None = None
    aggregate: str | None = None
    config: Path | None = None
    settings: Sequence[str] = ()
    corpora: Sequence[str] = ()
    subsets: bool = False
    adapt: bool = False
    allow_trained: bool = False
    coverage: float = COVERAGE


def evaluate(path: Path, options: EvaluationOptions) -> dict[str, Any]:
    """Evaluate a run.

    Args:
        path: its folder.
        options: see there.

    Returns:
        `run`, `config`, `leakage` (see `training.evaluation.leakage.guard`), what `evaluate_run` gives, `aggregated`
        (figures of the wholes, see `training.evaluation.breakdowns`), `subsets`, `adapted` (see
        `training.evaluation.breakdowns`), `correlations` and, where the run stores what it takes, `coverage` (see
        `training.evaluation.coverage`).

    Raises:
        RunError: the run cannot be read, its features are others, or its model was trained on the clips.
        ConfigError: the configuration or the coverage cannot be used.
        CorpusError: nor a corpus of it.
    """
    if not is_level(options.coverage):
        raise ConfigError(f"--coverage is a chance from {LOWEST:g} to {HIGHEST:g}, found {options.coverage:g}")
    of_run = read_identities(path)
    clips, findings = of_run, list[dict[str, Any]]()
    if options.config is not None:
        run, subsets, clips, findings = _fresh(path, options, of_run)
    else:
        if options.settings:
            raise ConfigError("--set changes the file of --config, which is not given")
        run = _of_corpora(RunPredictions.read(path), options.corpora)
        subsets = _subsets_of_own(path, run, options) if options.subsets else []
    parts = split_parts(run, options.split)
    found = evaluate_run(run, options.split, options.by)
    leakage = guard(parts, clips, of_run)
    leakage["findings"] = [*findings, *blank_findings(parts), *leakage["findings"]]
    config = None if options.config is None else str(options.config)
    coverage = {"coverage": coverage_of(run, parts, options.coverage, of_run)} if run.calibration.conformal else {}
    return {
        "run": str(path), "config": config, "leakage": leakage, **found, "whole": options.aggregate,
        "aggregated": [] if options.aggregate is None else _aggregated(run, parts, options.aggregate),
        "subsets": subsets,
        "adapted": _adapted(run, parts, path, options) if options.adapt else [],
        "correlations": list(correlations(run, dict.fromkeys((part.corpus, part.split) for part in parts))),
        **coverage,
    }  # fmt: skip


def blank_findings(parts: Sequence[TaskSplit]) -> Iterator[dict[str, Any]]:
    """Find clips of which the model sees nothing, per corpus, split and task."""
    for part in parts:
        blank = ~part.clips.filter(regex="^present[.]").any(axis=1)
        if blank.any():
            where = f"{part.split} clips of {part.corpus} with a label of {part.task}"
            yield finding(
                "blank", "warning", part.clips, blank,
                f"{int(blank.sum()):,} of {len(blank):,} {where} have no modality at all: what is predicted of them is "
                "blind",
            )  # fmt: skip


def _adapted(
    run: RunPredictions, parts: Sequence[TaskSplit], path: Path, options: EvaluationOptions
) -> list[AdaptedRow | NotAdapted]:
    own = validate(RunConfig, read_json(path, "config.json"), str(path / "config.json")).corpora.trained()
    rows = list(adapted_rows(parts, linear_parts(run, options.split), own))
    adapted = iter(correct_rows([row for row in rows if isinstance(row, AdaptedRow)]))
    return [next(adapted) if isinstance(row, AdaptedRow) else row for row in rows]


def _aggregated(run: RunPredictions, parts: Sequence[TaskSplit], column: str) -> list[MetricRow]:
    wholes = column_values(run, column, "--aggregate")
    return [row for part in parts for row in aggregated_rows(part, of_clips(part, wholes))]


def _fresh(
    path: Path, options: EvaluationOptions, of_run: pd.DataFrame | None
) -> tuple[RunPredictions, list[MetricRow], pd.DataFrame, list[dict[str, Any]]]:
    """Predict other corpora: predictions, figures by subset, the clips' identities, and what the guard let pass."""
    assert options.config is not None
    console, accelerator = Console(stderr=True), Accelerator()
    trained = TrainedModel.read(path, accelerator.device)
    config, notes = load_corpora(trained, options.config, options.settings)
    for note in notes:
        console.print(note, highlight=False, markup=False)
    table = read_clips(trained, config, options.corpora, options.split, console)
    refuse_trained_clips(identities(table), of_run, options.allow_trained)  # before hours of extraction
    joined = join_clips(trained, config.features, table, accelerator, console)
    clips = identities(joined.clips, joined)
    findings = refuse_trained_clips(clips, of_run, options.allow_trained)
    calibrated_on: set[str] = set()
    if of_run is not None:
        chosen_by = clips["split"].eq("dev") & same_clips(clips, of_run[of_run["use"].eq("chosen_by")])
        calibrated_on = set(clips.loc[chosen_by, "corpus"])
    run = predict_fresh(trained, path, joined, config.corpora, calibrated_on)
    rows = _subsets(trained, path, joined, config.corpora, run) if options.subsets else []
    return run, rows, clips, findings


def _subsets_of_own(path: Path, run: RunPredictions, options: EvaluationOptions) -> list[MetricRow]:
    """Evaluate subsets on the run's own clips, whose vectors are read again."""
    accelerator = Accelerator()
    trained = TrainedModel.read(path, accelerator.device)
    console = Console(stderr=True)
    table = read_clips(trained, run.config, (), options.split, console)
    joined = join_clips(trained, trained.config.features, table, accelerator, console)
    return _subsets(trained, path, joined, run.config.corpora, run)


def _subsets(
    trained: TrainedModel, path: Path, joined: JoinedCorpora, corpora: CorporaConfig, run: RunPredictions
) -> list[MetricRow]:
    rows = list(evaluate_subsets(trained, path, joined, corpora, run))
    order = list(dict.fromkeys(row.key for row in rows))
    return sorted(rows, key=lambda row: order.index(row.key))


def _of_corpora(run: RunPredictions, names: Sequence[str]) -> RunPredictions:
    """Keep the predictions of some corpora alone."""
    sources = run.config.corpora.sources
    for name in names:
        if name not in sources:
            raise ConfigError(f"--corpus: the run has no corpus {name!r}; {nearest(name, sources)}")
    chosen = {name: source for name, source in sources.items() if name in (names or sources)}
    corpora = run.config.corpora.model_copy(update={"sources": chosen})
    table = run.table[run.table["corpus"].isin(list(chosen))].reset_index(drop=True)
    return replace(run, config=run.config.model_copy(update={"corpora": corpora}), table=table)


def require_seeds(runs: Sequence[RunPredictions]) -> list[int]:
    """Read the seeds of runs.

    Raises:
        RunError: the configurations differ in more, or two seeds are the same.
    """
    settings = [comparable(run.config.model_dump(mode="json")) for run in runs]
    seeds = [int(flat.pop("training.seed")) for flat in settings]
    first = settings[0]
    for run, flat in zip(runs, settings, strict=True):
        differing = [key for key in dict.fromkeys([*first, *flat]) if first.get(key) != flat.get(key)]
        if differing:
            key = differing[0]
            raise RunError(
                f"{run.path} has {key} = {flat.get(key)!r}, {runs[0].path} has {first.get(key)!r} ({len(differing)} "
                "setting(s) differ besides the seed): a mean over seeds is of runs of one configuration; "
                "`mmpsr compare` tells two configurations apart"
            )
    for index, seed in enumerate(seeds):
        if seed in seeds[:index]:
            same = runs[seeds.index(seed)].path
            raise RunError(f"{same} and {runs[index].path} both have seed {seed}; name one run per seed")
    return seeds


def over_seeds(
    documents: Sequence[Mapping[str, Any]], name: Literal["figures", "adapted", "subsets"] = "figures"
) -> list[SeedRow]:
    """Gather each figure over runs.

    Args:
        documents: of `training.evaluation.evaluate.evaluate`, one per seed, of the same clips.
        name: which figures of the documents.
    """
    tables = [
        {(row.key, row.part): row for row in document[name] if isinstance(row, MetricRow)} for document in documents
    ]
    rows = []
    for place in dict.fromkeys(place for table in tables for place in table):
        found = [table.get(place) for table in tables]
        first = next(row for row in found if row is not None)
        values = [None if row is None else row.model.value for row in found]
        known = [value for value in values if value is not None]
        summary = seed_summary(known, limits=metric_limits(first.metric))
        row = SeedRow(
            *first.key, first.num_clips, first.num_groups,
            Estimate(finite(summary.mean), finite(summary.low), finite(summary.high)), part=first.part, values=values,
            deviation=finite(summary.deviation), least=min(known, default=None), most=max(known, default=None),
            num_seeds=summary.num_seeds,
        )  # fmt: skip
        rows.append(row)
    return rows
