"""What the feature store holds, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from encoders.maintenance.inventory import FolderReport
from encoders.maintenance.pruning import Leftover

__all__ = ["features_tables", "prune_table"]

_USES: Mapping[bool | None, str] = {True: "in use", False: "not used by this configuration", None: ""}
_COUNTS = ("done", "failed", "absent", "superseded")


def features_tables(root: Path, reports: Sequence[FolderReport], leftovers: Sequence[Leftover]) -> Group:
    """A table per corpus, what is wrong, and a last line with the sum."""
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
    told = f"{root}: {len(reports):,} folders, {size}; {verdict}"
    parts.append(Text(told, style="bold red" if unsound else "bold green"))
    return Group(*parts)


def _corpus(reports: Iterable[FolderReport]) -> Table:
    table = Table("modality", "encoder", *_COUNTS, "width", "mean ± std", "size", box=box.SIMPLE_HEAD, expand=True)
    for column in table.columns[2:]:
        column.justify = "right"
    for report in reports:
        encoder = Text(report.encoder, overflow="fold")
        days = " to ".join(dict.fromkeys(time[:10] for time in (report.oldest, report.newest) if time))
        about = ", ".join(part for part in (report.fingerprint, _sequences(report), days) if part)
        for line in (about, _USES[report.in_use]):
            encoder.append(f"\n{line}" if line else "", style="dim")
        table.add_row(
            report.modality, encoder, *(f"{getattr(report, name):,}" for name in _COUNTS),
            "-" if report.width is None else f"{report.width:,}",
            "-" if report.mean is None else f"{report.mean:.3g} ± {report.std:.3g}", decimal(report.num_bytes),
        )  # fmt: skip
    return table


def _sequences(report: FolderReport) -> str:
    """How long the sequences of a folder are, or nothing."""
    if report.cap is None:
        return ""
    longest = "" if report.longest is None else f" (longest {report.longest:,})"
    return f"sequences of at most {report.cap:,}{longest}"


def _findings(report: FolderReport) -> Iterator[tuple[str, str]]:
    """What is wrong or odd with a folder, and how to show it."""
    for damage in report.damaged:
        name = damage.file.rpartition("/")[2]
        then = "extraction writes it anew" if name == "encoder.json" else "its clips are extracted again"
        yield f"{name} cannot be read ({damage.reason}); delete it and {then}", "bold red"
    held, constant = "vectors", "hold one value throughout"
    if report.cap is not None:
        held, constant = "sequences", "do not change over time"
    if report.not_finite:
        yield f"{report.not_finite:,} {held} hold NaN or infinity", "bold red"
    if report.constant_vectors:
        yield f"{report.constant_vectors:,} {held} {constant}", "yellow"
    if report.constant_columns:
        yield f"{report.constant_columns:,} of {report.width:,} columns are the same in all {held}", "yellow"


def prune_table(folders: Sequence[FolderReport], leftovers: Sequence[Leftover]) -> Table:
    """What would be removed, with sizes."""
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
