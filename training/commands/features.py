"""The command `mmpsr features`: what lies in a feature store, what of it nobody needs, and fewer parts of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from training.commands.common import JsonOption, SetOption, error_console, guarded, out_console
from training.drafting.completion import complete_configs

if TYPE_CHECKING:
    import pandas as pd

    from encoders.maintenance.compaction import CompactionReport
    from encoders.maintenance.inventory import FolderReport, Usage
    from encoders.maintenance.pruning import Leftover

__all__ = ["features"]

_USES: Mapping[bool | None, str] = {True: "in use", False: "not used by this configuration", None: ""}
_COUNTS = ("done", "failed", "absent", "superseded")


@guarded()
def features(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="TOML file that says what is used; without it that is not told.",
            autocompletion=complete_configs,
        ),
    ] = None,
    set_: SetOption = None,
    store: Annotated[Path | None, typer.Option("--store", help="Folder of the store, in place of the file's.")] = None,
    as_json: JsonOption = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove other fingerprints of the configuration's corpora and encoders.")
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Put many small parts together into few, beside all that read and write.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove, or put together, without asking.")] = False,
) -> int:
    """List what the feature store holds; exit status 1 where files are damaged or vectors not finite."""
    from encoders.maintenance.inventory import take_inventory
    from encoders.maintenance.pruning import find_leftovers, prunable
    from mmpsr.config import ConfigError

    if config is None and (prune or set_):
        raise ConfigError(f"{'--prune' if prune else '--set'} needs --config: what is used is what a file says")
    if prune and compact:
        raise ConfigError("--prune and --compact: give one at a time; what is removed need not be compacted")
    errors = error_console()
    if compact:
        with redirect_stdout(sys.stderr):
            root = _find_store(config, set_ or [], store)
        compacted = _compact(root, yes, errors, None if as_json else out_console())
        if as_json:
            typer.echo(json.dumps({"store": str(root), "compacted": compacted}, indent=2))
        return 0
    with redirect_stdout(sys.stderr):  # whatever reading says, stdout is for the list
        root, usage, notes = _read_config(config, set_ or [], store)
        reports, leftovers = list(take_inventory(root, usage)), find_leftovers(root)
    for note in notes:
        errors.print(note, highlight=False, markup=False)
    document: dict[str, Any] = {
        "store": str(root), "config": None if config is None else str(config),
        "folders": [asdict(report) for report in reports],
        "leftovers": [asdict(leftover) for leftover in leftovers],
        "num_bytes": sum(report.num_bytes for report in reports), "removed": [], "kept": {},
    }  # fmt: skip
    if not as_json:
        out_console().print(_tables(root, reports, leftovers), highlight=False)
    if prune and usage is not None:
        document |= _prune(root, prunable(root, reports, usage), leftovers, yes, errors)
    if as_json:
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    return 0 if all(report.is_sound for report in reports if report.folder not in document["removed"]) else 1


def _find_store(config: Path | None, settings: list[str], store: Path | None) -> Path:
    """Find the store of a file, or the one given; corpora are not read."""
    if store is not None or config is None:
        return _read_config(None, [], store)[0]
    from training.published_config import load_any_config

    return Path(load_any_config(config, settings)[0].features.store)


def _compact(root: Path, yes: bool, errors: Console, out: Console | None) -> list[dict[str, Any]]:
    """Tell what would be put together, ask, do it folder by folder, and say what was done; returns the same."""
    from encoders.maintenance.compaction import compact, find_compactable

    plans = find_compactable(root)
    if not plans:
        errors.print(f"{root}: nothing to compact", highlight=False, markup=False, soft_wrap=True)
        return []
    errors.print(f"to be compacted: {_put_together(plans)}", highlight=False, markup=False, soft_wrap=True)
    if not yes and not typer.confirm("Compact them?", err=True):
        errors.print("nothing was compacted")
        return []
    reports = []
    for report in compact(root):
        for name, reason in report.left.items():
            text = f"left {report.folder}{f'/{name}' if name else ''}: {reason}"
            errors.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)
        reports.append(report)
    if out is not None:
        out.print(f"{root}: compacted {_put_together(reports)}", highlight=False, markup=False, soft_wrap=True)
    return [asdict(report) for report in reports]


def _put_together(reports: Sequence[CompactionReport]) -> str:
    """Sum up in words.

    Example:
        >>> from encoders.maintenance.compaction import CompactionReport
        >>> _put_together([CompactionReport("meld/text/lexica-0123456789ab", 625, 1, 3_400_000)])
        '1 folder, 625 parts into 1, 3.4 MB copied'
    """
    before, after = (sum(getattr(report, name) for report in reports) for name in ("parts_before", "parts_after"))
    folders = f"{len(reports):,} folder{'s' if len(reports) > 1 else ''}"
    num_bytes = decimal(sum(report.num_bytes for report in reports))
    return f"{folders}, {before:,} parts into {after:,}, {num_bytes} copied"


def _read_config(config: Path | None, settings: list[str], store: Path | None) -> tuple[Path, Usage | None, list[str]]:
    """Find the store, what of it is used, and what to tell: settings not read, corpora that cannot be."""
    from encoders.config import FeaturesConfig
    from mmpsr.config import ConfigError

    if store is not None and not store.is_dir():
        raise ConfigError(f"--store: there is no folder {store}")
    if config is None:
        return store or Path(FeaturesConfig().store), None, []
    from corpora.checks.findings import without_texts  # what only a configuration needs
    from corpora.clips import ClipTable
    from corpora.registry import scan_corpora
    from encoders.maintenance.inventory import usage_of
    from training.config import InTimeConfig
    from training.published_config import load_any_config

    run, notes = load_any_config(config, settings)
    encoders = {name: run.features.encoders[name] for name in run.data.modalities if name in run.features.encoders}
    root = store or Path(run.features.store)
    features = run.features.model_copy(update={"store": str(root), "encoders": encoders})
    if isinstance(run, InTimeConfig):
        features = features.model_copy(update={"timed": list(encoders)})
    tables: dict[str, pd.DataFrame | None] = {}
    for corpus, table in scan_corpora(run.corpora, run.tasks.resolve()).items():
        tables[corpus] = table.clips if isinstance(table, ClipTable) else None
        if not isinstance(table, ClipTable):
            notes.append(f"corpus {corpus!r} cannot be read, so any of its clips counts: {without_texts(str(table))}")
    return root, usage_of(features, tables), notes


def _prune(
    root: Path, folders: list[FolderReport], leftovers: list[Leftover], yes: bool, errors: Console
) -> dict[str, Any]:
    """Show what would be removed, ask, and remove; returns what was done."""
    nothing: dict[str, Any] = {"removed": [], "kept": {}}
    if not folders and not leftovers:
        errors.print("nothing to remove")
        return nothing
    errors.print(_prune_table(folders, leftovers), highlight=False)
    if not yes and not typer.confirm("Remove them?", err=True):
        errors.print("nothing was removed")
        return nothing
    from encoders.maintenance.pruning import remove

    removed, kept = remove(root, [report.folder for report in folders], [leftover.path for leftover in leftovers])
    for folder, reason in kept.items():
        errors.print(f"kept {folder}: {reason}", style="yellow", highlight=False, markup=False)
    errors.print(f"removed {len(removed)} of {len(folders) + len(leftovers)}", highlight=False)
    return {"removed": removed, "kept": kept}


def _tables(root: Path, reports: Sequence[FolderReport], leftovers: Sequence[Leftover]) -> Group:
    """Lay out a table per corpus, what is wrong, and a last line with the sum."""
    parts: list[RenderableType] = []
    for corpus in dict.fromkeys(report.corpus for report in reports):
        parts.append(Text(f"\n{corpus}", style="bold"))
        parts.append(_corpus(report for report in reports if report.corpus == corpus))
    wrong = Table("folder", "found", box=box.SIMPLE_HEAD)
    for report in reports:
        for what, style in _findings(report):
            wrong.add_row(Text(report.folder, overflow="fold"), Text(what, style=style))
    if wrong.rows:
        parts.append(wrong)
    if leftovers:
        size = decimal(sum(leftover.num_bytes for leftover in leftovers))
        parts.append(Text(f"{len(leftovers):,} leftovers of killed processes, {size}"))
    if not reports:
        parts.append(Text(f"{root}: holds nothing"))
        return Group(*parts)
    unsound = sum(not report.is_sound for report in reports)
    size = decimal(sum(report.num_bytes for report in reports))
    verdict = f"{unsound:,} of them cannot be trusted" if unsound else "all can be read and are finite"
    summary = f"{root}: {len(reports):,} folders, {size}; {verdict}"
    parts.append(Text(summary, style="bold red" if unsound else "bold green"))
    return Group(*parts)


def _corpus(reports: Iterable[FolderReport]) -> Table:
    table = Table("modality", "encoder", *_COUNTS, "width", "mean ± std", "size", box=box.SIMPLE_HEAD, expand=True)
    for column in table.columns[2:]:
        column.justify = "right"
    for report in reports:
        encoder = Text(report.encoder, overflow="fold")
        days = " to ".join(dict.fromkeys(time[:10] for time in (report.oldest, report.newest) if time))
        about = ", ".join(part for part in (report.fingerprint, _sequences(report), days) if part)
        for line in (about, _USES[report.in_use], "" if report.faces is None else report.faces.sentence):
            encoder.append(f"\n{line}" if line else "", style="dim")
        table.add_row(
            report.modality, encoder, *(f"{getattr(report, name):,}" for name in _COUNTS),
            "-" if report.width is None else f"{report.width:,}",
            "-" if report.mean is None else f"{report.mean:.3g} ± {report.std:.3g}", decimal(report.num_bytes),
        )  # fmt: skip
    return table


def _sequences(report: FolderReport) -> str:
    """Say how long the sequences of a folder are, or how many frames are in time, or nothing."""
    if report.rate is not None:
        rate = "each file's own rate" if report.rate == "own" else f"{report.rate} a second"
        frames = f"{report.num_frames or 0:,} frames in time, {rate}"
        missing = [
            f"{number:,} {word}"
            for number, word in ((report.num_repeated, "repeated"), (report.num_none, "without any"))
            if number
        ]
        return frames + (f" ({', '.join(missing)})" if missing else "")
    if report.cap is None:
        return ""
    longest = "" if report.longest is None else f" (longest {report.longest:,})"
    return f"sequences of at most {report.cap:,}{longest}"


def _findings(report: FolderReport) -> Iterator[tuple[str, str]]:
    """Yield what is wrong or odd with a folder, and how to show it."""
    for damage in report.damaged:
        name = damage.file.rpartition("/")[2]
        then = "extraction writes it anew" if name == "encoder.json" else "its clips are extracted again"
        yield f"{name} cannot be read ({damage.reason}); delete it and {then}", "bold red"
    held, constant = "vectors", "hold one value throughout"
    if report.cap is not None or report.rate is not None:
        held, constant = "sequences" if report.rate is None else "clips in time", "do not change over time"
    if report.not_finite:
        yield f"{report.not_finite:,} {held} hold NaN or infinity", "bold red"
    if report.constant_vectors:
        yield f"{report.constant_vectors:,} {held} {constant}", "yellow"
    if report.constant_columns:
        yield f"{report.constant_columns:,} of {report.width:,} columns are the same in all {held}", "yellow"


def _prune_table(folders: Sequence[FolderReport], leftovers: Sequence[Leftover]) -> Table:
    """List what would be removed, with sizes."""
    table = Table("to be removed", "holds", "size", box=box.SIMPLE_HEAD)
    for report in folders:
        holds = f"{report.done:,} clips, not used by this configuration"
        table.add_row(Text(report.folder, overflow="fold"), holds, decimal(report.num_bytes))
    for leftover in leftovers:
        path = Text(leftover.path, overflow="fold")
        table.add_row(path, "leftover of a killed process", decimal(leftover.num_bytes))
    total = sum(report.num_bytes for report in folders) + sum(leftover.num_bytes for leftover in leftovers)
    table.add_row("", "", decimal(total), style="bold")
    return table
