"""The commands `mmpsr evaluate`, `compare` and `verify`: figures of runs, their differences, and whether they hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from training.commands.common import (
    EncoderOption,
    JsonOption,
    RunArgument,
    SetOption,
    SplitOption,
    TaskTextsOption,
    announce,
    guarded,
    out_console,
    run_of,
    without_collection,
)
from training.drafting.completion import complete_configs, complete_runs

if TYPE_CHECKING:
    from rich.table import Table

    from training.evaluation.evaluate import EvaluationOptions

__all__ = ["compare", "evaluate", "verify"]

WIDTH = 140


@guarded("stopped; vectors made so far are kept, and the same command begins again")
def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...",
            help="Folder of a finished run; several that differ in the seed; none with --zero-shot or --task-texts.",
            autocompletion=complete_runs,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="TOML file of other corpora, which the model predicts now.",
            autocompletion=complete_configs,
        ),
    ] = None,
    zero_shot: Annotated[
        bool,
        typer.Option(
            "--zero-shot", help="Without a run: by texts of what the classes of the configuration's tasks mean."
        ),
    ] = False,
    task_texts: TaskTextsOption = None,
    encoder: EncoderOption = None,
    wordings: Annotated[
        str | None,
        typer.Option("--wordings", help="Of class texts, in place of the usual ones; joined by commas."),
    ] = None,
    all_wordings: Annotated[
        bool, typer.Option("--all-wordings", help="Each wording of class texts alone, and the usual ones together.")
    ] = False,
    set_: SetOption = None,
    corpus: Annotated[list[str] | None, typer.Option("--corpus", help="Only this corpus; repeatable.")] = None,
    split: SplitOption = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Column of the clip table by whose values to tell figures apart.")
    ] = None,
    aggregate: Annotated[
        str | None, typer.Option("--aggregate", help="Column that names what clips are averaged to, as a video.")
    ] = None,
    subsets: Annotated[bool, typer.Option("--subsets", help="Also with every subset of the modalities.")] = False,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt", help="Also fitted to the clips of corpora that were not trained on, without their labels."
        ),
    ] = False,
    allow_trained: Annotated[
        bool, typer.Option("--allow-trained", help="Evaluate clips that the model was trained on all the same.")
    ] = False,
    coverage: Annotated[
        float, typer.Option("--coverage", help="How often sets and intervals shall hold the truth (0.5-0.99).")
    ] = 0.9,
    as_json: JsonOption = False,
) -> None:
    """Print figures with intervals: of a run's own predictions, or of other corpora, never seen, with --config."""
    runs = [run_of(run) for run in runs or ()]
    announce(f"reading {' '.join(map(str, runs)) or config or 'what is asked for'}")
    from mmpsr.calibration.conformal import COVERAGE
    from mmpsr.config import ConfigError
    from training.evaluation import evaluate as evaluation
    from training.in_time.command import evaluate_command
    from training.runs.directory import is_run_in_time
    from training.scoring.rows import plain
    from training.scoring.tables import seed_tables, tables

    of_texts = {"--encoder": encoder, "--wordings": wordings, "--all-wordings": all_wordings}
    if zero_shot or task_texts:
        of_runs = {
            "--aggregate": aggregate,
            "--subsets": subsets,
            "--adapt": adapt,
            "--allow-trained": allow_trained,
            "--coverage": coverage != COVERAGE,
        }
        _require_no_run(runs, config, [name for name, value in of_runs.items() if value])
        assert config is not None
        document = _evaluate_texts(
            config, set_ or (), task_texts or (), encoder, wordings, all_wordings, corpus or (), split, by
        )
        if as_json:
            typer.echo(json.dumps(plain(document), indent=2, allow_nan=False))
            return
        console = out_console(WIDTH)
        for table in tables(document):
            console.print(table, highlight=False)
        return
    if named := [name for name, value in of_texts.items() if value]:
        raise ConfigError(f"{named[0]} is of class texts; give --zero-shot or --task-texts, or leave it out")
    if not runs:
        raise ConfigError("there is nothing to evaluate; name a finished run, or give --zero-shot, which needs none")
    if is_run_in_time(runs[0]):
        others = {
            "--config": config, "--set": set_, "--corpus": corpus, "--by": by, "--aggregate": aggregate,
            "--subsets": subsets, "--adapt": adapt, "--allow-trained": allow_trained,
            "--coverage": coverage != COVERAGE,
        }  # fmt: skip
        refused = [name for name, value in others.items() if value]
        return evaluate_command(runs, split, as_json, refused, out_console(WIDTH))
    options = evaluation.EvaluationOptions(
        split, by, aggregate, config, tuple(set_ or ()), tuple(corpus or ()), subsets, adapt, allow_trained, coverage
    )
    with redirect_stdout(sys.stderr):  # whatever reading says, stdout is for the figures
        document = evaluation.evaluate(runs[0], options) if len(runs) == 1 else _evaluate_several(runs, options)
    if as_json:
        typer.echo(json.dumps(plain(document), indent=2, allow_nan=False))
        return
    console = out_console(WIDTH)
    for table in tables(document) if len(runs) == 1 else seed_tables(document):
        console.print(table, highlight=False)


def _require_no_run(runs: Sequence[Path], config: Path | None, refused: Sequence[str]) -> None:
    """Refuse what class texts have not."""
    from mmpsr.config import ConfigError

    if runs:
        raise ConfigError(
            f"{runs[0]}: class texts are evaluated without a run; leave it out, or leave --zero-shot and --task-texts "
            "out to evaluate it"
        )
    if config is None:
        raise ConfigError("name the corpora to evaluate class texts on with --config")
    if refused:
        raise ConfigError(f"{refused[0]} is of a run's figures; leave it out")


def _evaluate_texts(
    config: Path, settings: Sequence[str], task_texts: Sequence[str], encoder: str | None, wordings: str | None,
    all_wordings: bool, corpora: Sequence[str], split: str | None, by: str | None,
) -> dict[str, Any]:  # fmt: skip
    from training.class_texts.zero_shot import parse_wordings
    from training.evaluation.zero_shot import ZeroShotOptions, evaluate_zero_shot

    options = ZeroShotOptions(
        config, settings, task_texts, encoder, parse_wordings(wordings), all_wordings, corpora, split, by
    )
    with redirect_stdout(sys.stderr):  # whatever reading says, stdout is for the figures
        return evaluate_zero_shot(options)


def _evaluate_several(paths: Sequence[Path], options: EvaluationOptions) -> dict[str, Any]:
    """Evaluate runs of one configuration with different seeds.

    Returns:
        `runs`, `seeds`, `over_seeds`, `adapted_over_seeds` and `subsets_over_seeds` (see
        `training.evaluation.evaluate.over_seeds`), and `evaluations`, the document of each run.

    Raises:
        RunError: the configurations differ in more than the seed, and as `training.evaluation.evaluate.evaluate`.
    """
    from training.evaluation.evaluate import evaluate, over_seeds, require_seeds
    from training.runs.stored import RunPredictions

    seeds = require_seeds([RunPredictions.read(path) for path in paths])
    evaluations = [evaluate(path, options) for path in paths]
    return {
        "runs": [str(path) for path in paths],
        "seeds": seeds,
        "over_seeds": over_seeds(evaluations),
        "adapted_over_seeds": over_seeds(evaluations, "adapted"),
        "subsets_over_seeds": over_seeds(evaluations, "subsets"),
        "evaluations": evaluations,
    }


@guarded()
@without_collection()
def compare(
    first: Annotated[
        Path, typer.Argument(metavar="RUN_A", help="Folder of a finished run.", autocompletion=complete_runs)
    ],
    second: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_B", help="Folder of another; positive is better than A.", autocompletion=complete_runs
        ),
    ],
    split: SplitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs on the clips that both evaluated, corrected for many comparisons."""
    first, second = run_of(first), run_of(second)
    announce(f"reading {first} and {second}")
    from training.evaluation.compare import compare_runs
    from training.runs.stored import RunPredictions

    comparison = compare_runs(RunPredictions.read(first), RunPredictions.read(second), split)
    if as_json:
        typer.echo(json.dumps({"first": str(first), "second": str(second), **comparison}, indent=2, allow_nan=False))
        return
    console = out_console(WIDTH)
    console.print(f"first: {first}\nsecond: {second}", highlight=False, markup=False)
    for table in _tables(comparison):
        console.print(table, highlight=False)


def _tables(comparison: Mapping[str, Any]) -> Iterator[Table | str]:
    from training.scoring.rows import Estimate
    from training.scoring.tables import between, few_groups, metric_name, number, table_of

    yield "Second - first on common clips, percentage points"
    figures = ("clips", "groups", "first", "second", "difference", "95 % interval", "p", "corrected p")
    table = table_of(("corpus", "split", "task", "metric"), figures)
    for row in comparison["figures"]:
        difference = Estimate(**row["difference"])
        table.add_row(
            row["corpus"], row["split"], row["task"], metric_name(row["metric"]), str(row["num_clips"]),
            str(row["num_groups"]), number(row["first"]), number(row["second"]), number(difference.value, True),
            between(difference, True).replace("[", r"\["), _p(row["p"]), _p(row["corrected_p"]),
        )  # fmt: skip
    yield table
    places = [(row["corpus"], row["task"], row["num_groups"]) for row in comparison["figures"]]
    if (note := few_groups(places)) is not None:
        yield note
    yield "Clips taken as independent"
    table = table_of(("corpus", "split", "task", "test"), ("p", "corrected p"))
    for row in comparison["clips"]:
        test = row["test"]
        if test == "McNemar":
            test += f" (right: {row['only_first']} first only, {row['only_second']} second only)"
        table.add_row(row["corpus"], row["split"], row["task"], test, _p(row["p"]), _p(row["corrected_p"]))
    yield table
    fewer = {
        (row["corpus"], row["task"])
        for row in comparison["figures"]
        if row["num_clips"] < max(row["num_first"], row["num_second"])
    }
    for corpus, task in sorted(fewer):
        yield f"{corpus}, {task}: some clips were evaluated by one run only and are left out"
    yield "p corrected over the rows of its table (Holm); a difference counts where it is below 0.05."


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


@guarded()
@without_collection()
def verify(run: RunArgument, as_json: JsonOption = False) -> int:
    """Check a run's files and make its figures again; exit status 1 where anything is not what it was."""
    run = run_of(run)
    announce(f"reading {run}")
    from training.in_time.figures import verify_in_time
    from training.runs.directory import is_run_in_time
    from training.runs.verify import verify_run

    problems = verify_in_time(run) if is_run_in_time(run) else verify_run(run)
    if as_json:
        typer.echo(json.dumps({"run": str(run), "problems": problems}, indent=2))
        return 1 if problems else 0
    for problem in problems:
        typer.echo(problem)
    typer.echo(
        f"{run}: {len(problems)} thing(s) are not what they should be"
        if problems
        else f"{run}: every file is unchanged and every figure follows from the stored predictions"
    )
    return 1 if problems else 0
