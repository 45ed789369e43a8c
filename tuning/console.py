"""The command `mmpsr`: the subcommands of `training.commands.console`, `tune`, `study` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmpsr.extras import require_extra
from training.commands.common import SetOption
from training.commands.console import app
from tuning.options import SEARCH, BaseOption, SearchOption, StudyBaseOption, WorkersOption

__all__ = []


@app.command()
def tune(
    config: SearchOption = SEARCH,
    set_: SetOption = None,
    base: BaseOption = None,
    workers: WorkersOption = None,
) -> None:
    """Search over the fields of a configuration by dev figures; a killed or repeated command continues."""
    require_extra("tune")
    from tuning.search.command import tune_command

    tune_command(config, set_, base, workers)


@app.command()
def study(
    path: Annotated[Path, typer.Argument(help="TOML file of the study.")],
    set_: SetOption = None,
    base: StudyBaseOption = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes, one thread each.")] = 1,
    seeds: Annotated[str | None, typer.Option("--seeds", help="In place of the file's, as 0,1,2.")] = None,
) -> None:
    """Fill the table of a study; only missing cells are computed."""
    from tuning.study.command import study_command

    chosen = None
    if seeds is not None:
        try:
            chosen = [int(seed) for seed in seeds.split(",")]
        except ValueError:
            raise typer.BadParameter(f"--seeds {seeds!r}: expected whole numbers, as 0,1,2") from None
    raise typer.Exit(study_command(path, set_ or [], workers, chosen, base))


@app.command()
def report(
    path: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_STUDY", help="Folder of a finished run or of a study, or a study's TOML file."),
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
    from tuning.study.report import any_report_command

    raise typer.Exit(any_report_command(path, output, by, subsets))


@app.command()
def transfer(
    paths: Annotated[list[Path], typer.Argument(help="A study's TOML file, or folders of runs.")],
    set_: SetOption = None,
    base: StudyBaseOption = None,
    split: Annotated[str | None, typer.Option("--split", help="dev or test; test where left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Say whether tasks that are trained jointly help or hurt each other, and how far their gradients conflict."""
    from tuning.transfer.command import transfer_command

    raise typer.Exit(transfer_command(paths, set_ or [], base, split, as_json))


if __name__ == "__main__":
    app()
