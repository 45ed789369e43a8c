"""The command `mmpsr`: the subcommands of `training.commands.console`, and those of many runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmpsr.extras import require_extra
from training.commands.common import (
    DEMO,
    ConfigOption,
    ExecutorOption,
    JsonOption,
    SetOption,
    announce,
    error_console,
    guarded,
    out_console,
    print_error,
    run_of,
    with_executor,
)
from training.commands.console import app
from training.drafting.completion import complete_configs, complete_inputs

if TYPE_CHECKING:
    from training.drafting.settings import Setting

__all__ = ["listed_settings", "report", "settings", "study", "transfer", "trunks", "tune"]

SEARCH = Path("searches/demo")
StudyBaseOption = Annotated[
    Path | None, typer.Option("--base", help="Configuration to start from, in place of the study's own.")
]


@app.command()
@guarded("stopped; finished trials are kept, and the same command continues", out_console)
def tune(
    config: Annotated[
        Path,
        typer.Option(
            "--config",
            autocompletion=complete_configs,
            help="TOML file with a search section, or the name of one that ships; the demo's where left out.",
        ),
    ] = SEARCH,
    set_: SetOption = None,
    base: Annotated[
        Path | None, typer.Option("--base", help="Configuration to start from, in place of the file's search.base.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes on this machine; as many as were launched, or 1."),
    ] = None,
    executor: ExecutorOption = None,
) -> None:
    """Search over the fields of a configuration by dev figures; a killed or repeated command continues."""
    require_extra("tune")
    if int(os.environ.get("RANK", "0")) > 0:
        return  # the first of several launched processes starts the workers
    announce(f"reading {config}")
    from training.fit.live import PAUSE, LiveLines
    from training.launch import requested_processes
    from tuning.search.objective import Search, load_joined, load_search
    from tuning.search.results import search_table, write_results
    from tuning.search.workers import run_search

    console = out_console()

    def say(message: str) -> None:
        console.print(message, highlight=False, markup=False)

    section, start, notes = load_search(config, with_executor(set_, executor), base)
    for note in notes:
        say(note)
    search = Search(section, start, start.output.name or config.stem, str(config), load_joined)
    launched = max(int(os.environ.get("WORLD_SIZE", "1")), requested_processes())
    with LiveLines(console, pause=PAUSE) as lines:
        optuna_study = run_search(search, workers or launched, say, lines.show)
    console.print(search_table(optuna_study))
    say(f"best configuration {write_results(search, optuna_study)}")


@app.command()
@guarded("stopped; what is complete is kept, and the same command continues", out_console)
def study(
    path: Annotated[Path, typer.Argument(help="TOML file of the study.", autocompletion=complete_configs)],
    set_: SetOption = None,
    base: StudyBaseOption = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes, one thread each.")] = 1,
    seeds: Annotated[str | None, typer.Option("--seeds", help="In place of the file's, as 0,1,2.")] = None,
    executor: ExecutorOption = None,
) -> int:
    """Fill the table of a study, of which only missing cells are computed, and print it."""
    announce(f"reading {path}")
    from mmpsr.config import ConfigError
    from tuning.study.config import load_study
    from tuning.study.fill import run_study
    from tuning.study.rendering import to_console

    try:
        numbers = None if seeds is None else [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--seeds {seeds!r}: expected whole numbers, as 0,1,2") from None
    console, errors = out_console(), error_console()
    try:
        loaded = load_study(path, with_executor(set_, executor), numbers, base)
    except ConfigError as error:
        for line in str(error).splitlines():  # one of each row
            print_error(line)
        return 2
    table = run_study(loaded, workers, console)
    for part in to_console(table):
        console.print(part, highlight=False, markup=not isinstance(part, str))
    for warning in table.warnings:
        errors.print(f"warning: {warning}", highlight=False, markup=False)
    console.print(f"tables in {loaded.folder}: table.md, table.tex, table.csv", highlight=False, markup=False)
    return 1 if table.missing else 0


@app.command()
@guarded()
def report(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_STUDY",
            help="Folder of a finished run or of a study, or a study's TOML file.",
            autocompletion=complete_inputs,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="report.html in the folder where left out.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Column of a run's clip table by whose values to tell figures apart.")
    ] = None,
    subsets: Annotated[
        bool, typer.Option("--subsets", help="Also evaluate a run's model on every subset of its modalities.")
    ] = False,
) -> None:
    """Write a run's or a study's report: one HTML file that needs no network."""
    require_extra("report")
    path = path if (path / "table.csv").exists() else run_of(path)
    announce(f"reading {path}")
    from training.report.run import write_report
    from tuning.study.report import report_page

    page, folder = report_page(path, by, subsets)
    file = output or folder / "report.html"
    write_report(page, file)
    size = file.stat().st_size / 1e6
    out_console(1000).print(f"report {file} ({size:.1f} MB)", highlight=False, markup=False)


@app.command()
@guarded()
def transfer(
    paths: Annotated[list[Path], typer.Argument(help="A study's TOML file, or folders of runs.")],
    set_: SetOption = None,
    base: StudyBaseOption = None,
    split: Annotated[str | None, typer.Option("--split", help="dev or test; test where left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether tasks that are trained jointly help or hurt each other, and how far their gradients conflict."""
    announce(f"reading {' '.join(map(str, paths))}")
    from tuning.study.config import load_study
    from tuning.transfer.analysis import find_runs, study_runs, transfer_report, transfer_tables

    runs: list[Path] = []
    for path in paths:
        is_study = path.suffix == ".toml"
        runs += study_runs(load_study(path, set_ or [], None, base)) if is_study else find_runs(path)
    document = transfer_report(runs, split)
    if as_json:
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
        return
    console = out_console(140)
    for table in transfer_tables(document):
        console.print(table, highlight=False, markup=False)


@app.command()
@guarded("stopped; finished trainings are kept, and the same command continues", out_console)
def trunks(config: ConfigOption = DEMO, set_: SetOption = None) -> None:
    """Ask out of fold, on training clips alone, which tasks are better off with a trunk of their own."""
    announce(f"reading {config}")
    from accelerate import Accelerator

    from training.data.load import load_run_data
    from training.fit.live import PAUSE, LiveLines
    from training.published_config import load_run_config
    from tuning.transfer.trunks import compare_trunks, own_trunks, trunk_table

    console = out_console(140)

    def say(message: str) -> None:
        console.print(message, highlight=False, markup=False)

    resolved, notes = load_run_config(config, set_ or ())
    for note in notes:
        say(note)
    tasks, joined = resolved.tasks.resolve(), load_run_data(resolved, Accelerator(cpu=True)).joined
    log = Path(resolved.output.directory) / (resolved.output.name or config.stem) / "trunks.jsonl"
    with LiveLines(console, pause=PAUSE) as lines:
        choices = compare_trunks(resolved, joined, tasks, log, say, lines.show)
    console.print(trunk_table(choices), highlight=False, markup=False)
    say(f"model.own_trunks = {json.dumps(own_trunks(choices))}, by the trainings in {log}")


def listed_settings() -> dict[str, list[Setting]]:
    """List the settings of every kind of file; of all but runs only what a run has not, or not so."""
    from training.config import InTimeConfig, RunConfig
    from training.drafting.settings import settings_of
    from training.zero_shot.config import ZeroShotRunConfig
    from tuning.search.space import SearchConfig
    from tuning.study.config import StudyConfig

    of_runs = settings_of(RunConfig)
    others = {
        "a run of a model in time": settings_of(InTimeConfig),
        "zero-shot questions to a language model": settings_of(ZeroShotRunConfig),
        "a search": settings_of(SearchConfig, "search."),
        "a study": settings_of(StudyConfig),
    }
    known = set(of_runs)
    return {"a run": of_runs} | {kind: [each for each in own if each not in known] for kind, own in others.items()}


@app.command()
@guarded()
def settings(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a setting's path, a pattern with stars, or a word of its meaning.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List all that a configuration can say: settings with types, defaults and meanings."""
    announce("reading settings" if pattern is None else f"looking for settings with {pattern}")
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from mmpsr.config import ConfigError, nearest
    from training.drafting.settings import matching

    listed = listed_settings()
    chosen = {
        kind: found for kind, own in listed.items() if (found := own if pattern is None else matching(own, pattern))
    }
    if not chosen:
        parts = {part for own in listed.values() for each in own for part in each.place.split(".") if part[0] != "<"}
        raise ConfigError(f"no setting has {pattern!r} in its path or meaning; {nearest(str(pattern), parts)}")
    if as_json:
        document = {kind: [asdict(each) for each in found] for kind, found in chosen.items()}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    console = out_console(140)
    for kind, found in chosen.items():
        table = Table("setting", "type", "default", "meaning", title=f"Settings of {kind}", title_justify="left")
        table.columns[0].overflow = "fold"
        for each in found:
            table.add_row(*map(Text, (each.place, each.type, each.default, each.sentence)))
        console.print(table)


if __name__ == "__main__":
    app()
