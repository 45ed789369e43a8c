"""A diagnosis as tables for people: per corpus its splits, labels and findings, and at the end the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from corpora.checks.findings import Finding
from corpora.checks.statistics import ClassFigures, CorpusFigures, LabelFigures, TimeFigures
from corpora.clips import SPLITS
from training.doctor.doctor import Diagnosis

__all__ = ["render"]

_EXAMPLES = 3
_STYLES: Mapping[str, str] = {"error": "bold red", "warning": "yellow", "note": "dim"}
_SPLIT_COLUMNS: Mapping[str, str] = {
    "clips": "clips", "published": "published", "groups": "groups", "speakers": "speakers", "seconds": "seconds",
    "media": "media", "audio_media": "sound", "fallback_media": "fallback", "faces": "faces", "text": "text",
    "description": "described",
}  # fmt: skip


def render(diagnosis: Diagnosis) -> Group:
    """Lay out all tables of a diagnosis, for `rich.print`."""
    parts: list[RenderableType] = []
    columns = _columns([report.figures for report in diagnosis.corpora.values() if report.figures is not None])
    for name, report in diagnosis.corpora.items():
        role = "trained on" if report.trained else "zero-shot"
        parts.append(Text(f"\n{name} ({report.adapter}, {role})", style="bold"))
        if report.figures is not None:
            parts += _figures(report.figures, columns)
        parts += _findings(finding for finding in diagnosis.findings if finding.corpus == name)
    parts.append(Text(f"\n{diagnosis.config}", style="bold"))
    for task, columns in diagnosis.tasks.items():
        parts.append(Text(f"task {task}: {', '.join(columns)}"))
    if diagnosis.inspected is not None:
        parts.append(Text(f"media of {diagnosis.inspected:,} clips inspected"))
    parts += _findings(finding for finding in diagnosis.findings if finding.corpus is None)
    errors, warnings = diagnosis.verdict
    parts.append(Text(errors, style="bold red" if diagnosis.exit_status else "bold green"))
    parts.append(Text(warnings, style="yellow" if diagnosis.count("warning") else "green"))
    return Group(*parts)


def _columns(figures: Sequence[CorpusFigures]) -> list[str]:
    """List the columns of the tables of splits that are not empty or zero throughout, in all corpora."""
    rows = [row for corpus in figures for row in corpus.splits.values()]
    return [name for name in _SPLIT_COLUMNS if name == "clips" or any(getattr(row, name) for row in rows)]


def _figures(figures: CorpusFigures, columns: Sequence[str]) -> Iterator[RenderableType]:
    yield Text(f"{figures.num_files:,} media files, {_bytes(figures.num_bytes)}")
    yield Text(f"releases: {_counts(figures.releases)}; languages: {_counts(figures.languages)}")
    for use, consent in figures.consent.items():
        if consent.clips["yes"] or consent.clips["no"]:
            answers = (f"{answer} {number:,} ({consent.groups[answer]:,})" for answer, number in consent.clips.items())
            yield Text(f"consent to use in {use}, clips (groups): {', '.join(answers)}")
    if figures.unannotated:
        yield Text(f"not annotated for: {', '.join(figures.unannotated)}")
    if not figures.splits:
        yield Text(f"no clip in {', '.join(SPLITS)}", style="bold red")
        return
    splits = Table("split", *(_SPLIT_COLUMNS[name] for name in columns))
    for column in splits.columns[1:]:
        column.justify = "right"
    for split, row in figures.splits.items():
        numbers = (getattr(row, column) for column in columns)
        splits.add_row(split, *("-" if number is None else f"{number:,.6g}" for number in numbers))
    yield splits
    if figures.labels:
        yield _labels(figures.labels)
    for task, by_split in figures.in_time.items():
        parts = "; ".join(f"{split} {_in_time(row)}" for split, row in by_split.items())
        yield Text(f"labels of {task} in time: {parts}")


def _in_time(row: TimeFigures) -> str:
    """Say how much is labelled in time in one split."""
    said = [f"{row.clips:,} clips"]
    if total := sum(row.frames.values()):
        shares = (f"{name} {100.0 * number / total:.2f} %" for name, number in row.frames.items() if number)
        said.append(f"{total:,} frames ({', '.join(shares)})")
    if row.segments:
        each = [f"{name} {number:,} of {row.seconds[name]:,.6g} s" for name, number in row.segments.items() if number]
        said.append(f"segments: {', '.join(each) or 'none'}")
    return ", ".join(said)


def _labels(labels: Mapping[str, Mapping[str, LabelFigures]]) -> Table:
    splits = [split for split in SPLITS if any(split in by_split for by_split in labels.values())]
    table = Table("task", "class", *splits, title="present of labeled, share; min / mean / max", title_justify="left")
    for task, by_split in labels.items():
        labeled: dict[str, str] = dict.fromkeys(splits, "")
        for split, figures in by_split.items():
            imbalance = "" if figures.imbalance is None else f", imbalance {figures.imbalance:.3g}"
            labeled[split] = f"{figures.labeled:,} labeled{imbalance}"
        table.add_row(task, "" if by_split else "no clip", *labeled.values())
        for name in dict.fromkeys(name for figures in by_split.values() for name in figures.classes):
            cells = (_class(by_split[split].classes[name]) if split in by_split else "" for split in splits)
            table.add_row("", Text(name), *cells)
    return table


def _class(figures: ClassFigures) -> str:
    if not figures.labeled:
        return "-"
    shown = f"{figures.labeled:,}" if figures.positive is None else (
        f"{figures.positive:,} of {figures.labeled:,}, {figures.share:.1%}"
    )  # fmt: skip
    return f"{shown}; {figures.min:.3g} / {figures.mean:.3g} / {figures.max:.3g}"


def _findings(findings: Iterable[Finding]) -> list[RenderableType]:
    table = Table("severity", "kind", "count", "what, and the first examples")
    for finding in findings:
        what = Text(finding.message)
        for case in finding.cases[:_EXAMPLES]:
            example = ": ".join(part for part in (case.clip, case.where, case.reason) if part)
            what.append(f"\n{example}", style="dim")
        if len(finding.cases) > _EXAMPLES:
            what.append(f"\nand {len(finding.cases) - _EXAMPLES:,} more; --json lists all", style="dim")
        table.add_row(Text(finding.severity, style=_STYLES[finding.severity]), finding.kind, f"{finding.count:,}", what)
    return [table] if table.rows else []


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _bytes(number: float) -> str:
    """Write bytes as people read them.

    Example:
        >>> _bytes(1_234_567)
        '1.2 MB'
    """
    units = ["B", "kB", "MB", "GB"]
    while number >= 1000.0 and len(units) > 1:
        number /= 1000.0
        del units[0]
    return f"{number:.0f} B" if units[0] == "B" else f"{number:,.1f} {units[0]}"
