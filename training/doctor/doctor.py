"""Is training with this configuration going to be right? What a run would read, examined before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from corpora.checks.dev_choice import weak_dev
from corpora.checks.findings import (
    Case,
    Finding,
    between_corpora,
    between_splits,
    check_corpus,
    file_sizes,
    known_rows,
    without_texts,
)
from corpora.checks.statistics import CorpusFigures, corpus_figures
from corpora.clips import ClipTable, CorpusError, Severity, concatenate, label_columns
from corpora.registry import Source, prepare, scan_corpora
from encoders.errors import ExtractionError
from encoders.extraction.read import encoder_specs
from mmpsr.config import ConfigError
from mmpsr.tasks import BUILTIN_TASKS, TaskSpec
from training.config import InTimeConfig, RunConfig
from training.data.material import missing_material, without_modalities
from training.data.selection import active_features, require_metrics, training_errors, used_clips
from training.data.timelines import timeline_errors

__all__ = ["CorpusReport", "Diagnosis", "examine"]


@dataclass(frozen=True)
class CorpusReport:
    """What is known of one corpus; `figures` is None where it cannot be read."""

    adapter: str
    trained: bool
    figures: CorpusFigures | None


@dataclass(frozen=True)
class Diagnosis:
    """Result of `examine`.

    Attributes:
        config: the configuration's name.
        tasks: label columns of the active tasks.
        corpora: by name, in the configuration's order.
        findings: what is wrong, corpus by corpus, then of the run.
        inspected: clips whose media were looked at; None where they were not.
    """

    config: str
    tasks: dict[str, list[str]]
    corpora: dict[str, CorpusReport]
    findings: list[Finding] = field(default_factory=list)
    inspected: int | None = None

    def count(self, severity: Severity) -> int:
        """Count the places at which something of this severity was found."""
        return sum(finding.count for finding in self.findings if finding.severity == severity)

    @property
    def exit_status(self) -> int:
        """1 where training would be wrong, else 0."""
        return 1 if self.count("error") else 0

    @property
    def verdict(self) -> tuple[str, str]:
        """A sentence on the errors and one on the warnings."""
        errors, warnings = self.count("error"), self.count("warning")
        return (
            f"{_number(errors, 'error')}: training would be wrong; mend them first." if errors else
            "No errors: training can begin.",
            f"{_number(warnings, 'warning')}: training goes without what they name, or its figures say less."
            if warnings else "No warnings.",
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Make everything what JSON can hold."""
        return {
            "config": self.config,
            "tasks": self.tasks,
            "corpora": {name: asdict(report) for name, report in self.corpora.items()},
            "findings": [
                {
                    "corpus": finding.corpus, "kind": finding.kind, "severity": finding.severity,
                    "count": finding.count, "message": finding.message, "cases": [asdict(c) for c in finding.cases],
                }
                for finding in self.findings
            ],
            "media_inspected": self.inspected,
            "verdict": {
                "trainable": not self.exit_status, "errors": self.count("error"), "warnings": self.count("warning"),
                "notes": self.count("note"), "sentences": list(self.verdict),
            },
        }  # fmt: skip


def examine(config: RunConfig | InTimeConfig, name: str, with_media: bool) -> Diagnosis:
    """Read all corpora as training would, and tell what is there, what is missing and what is wrong.

    Args:
        config: the resolved configuration.
        name: what to call it in the report.
        with_media: also open every media file (by `features.executor`, progress on stderr).

    Raises:
        ConfigError: an active task is declared nowhere.
        CorpusError: the demo corpora cannot be built.
        ExecutorError: nobody answers at `features.executor`.
        ExtractionError: media cannot be looked at.
    """
    tasks = config.tasks.resolve()
    prepare(config.corpora)
    scanned = scan_corpora(config.corpora, tasks)
    tables = {corpus: table for corpus, table in scanned.items() if isinstance(table, ClipTable)}
    used = {corpus: used_clips(table.clips, config.corpora) for corpus, table in tables.items()}
    known = {**BUILTIN_TASKS, **tasks}
    reports: dict[str, CorpusReport] = {}
    findings: list[Finding] = []
    for corpus, source in config.corpora.sources.items():
        table, figures = scanned[corpus], None
        if isinstance(table, CorpusError):
            findings.append(_plain("unreadable_corpus", without_texts(str(table)), corpus))
        else:
            source = _of_release(source, table.clips)
            annotated = {task: known[task] for task in source.label_tasks()}
            sizes = file_sizes(table.clips)
            figures = corpus_figures(source, table.clips, annotated, tasks, sizes, table.timelines)
            findings += check_corpus(corpus, source, table, used[corpus], annotated, {} if with_media else sizes)
            findings += between_splits(corpus, source, used[corpus])
            if not source.zero_shot:
                findings += weak_dev(corpus, used[corpus], tasks)
        reports[corpus] = CorpusReport(source.adapter, not source.zero_shot, figures)
    findings += between_corpora(used, config.corpora.trained())
    findings += _settings(config, tasks)
    findings += _training(config, tasks, used)
    if isinstance(config, InTimeConfig) and tables.keys() == scanned.keys() != set():
        findings += _timelines(config, tables)
    inspected = None
    if with_media and used:
        from encoders.maintenance.inspection import MEDIA_KINDS, inspect_media

        clips, features = pd.concat(list(used.values()), ignore_index=True), config.features
        problems = inspect_media(clips, features.num_workers, True, features.executor)
        inspected = int(problems.attrs["num_inspected"])
        findings += _media(problems, MEDIA_KINDS)
    order = {corpus: place for place, corpus in enumerate(config.corpora.sources)}
    findings.sort(key=lambda finding: order.get(finding.corpus or "", len(order)))
    columns = {task: label_columns(task, spec) for task, spec in tasks.items()}
    return Diagnosis(name, columns, reports, findings, inspected)


def _of_release(source: Source, clips: pd.DataFrame) -> Source:
    """Give a corpus' entry the release that its clips are of, where it does not say so itself."""
    releases = clips["release"].dropna().unique()
    if source.release is not None or len(releases) != 1:
        return source
    return source.model_copy(update={"release": str(releases[0])})


def _plain(kind: str, message: str, corpus: str | None = None) -> Finding:
    return Finding(corpus, kind, "error", message, ())


def _settings(config: RunConfig | InTimeConfig, tasks: Mapping[str, TaskSpec]) -> Iterator[Finding]:
    """Find metrics and encoders that the configuration names and that cannot work."""
    try:
        require_metrics(config.corpora, tasks)
    except ConfigError as error:
        yield _plain("bad_setting", str(error))
    for modality in config.data.modalities:
        try:
            features = active_features(config.features, [modality])
            in_time = {"timed": (modality,)} if isinstance(config, InTimeConfig) else {}
            encoder_specs(features.model_copy(update=in_time))
        except (ConfigError, ExtractionError) as error:
            yield _plain("bad_setting", str(error))


def _training(
    config: RunConfig | InTimeConfig, tasks: Mapping[str, TaskSpec], used: Mapping[str, pd.DataFrame]
) -> Iterator[Finding]:
    """Say why the clips that were read cannot be trained on; what an unreadable corpus may bring is left open."""
    sources = config.corpora.sources
    missing = [sources[name] for name in config.corpora.trained() if name not in used]
    if not sources:
        try:
            concatenate([])
        except CorpusError as error:
            yield _plain("untrainable", str(error))
    corpora = config.corpora.model_copy(update={"sources": {name: sources[name] for name in used}})
    if not used or (missing and not corpora.trained()):
        return
    clips = pd.concat(list(used.values()), ignore_index=True)
    open_tasks = {task for source in missing for task in source.label_tasks()}
    labeled = {task: known_rows(clips, task, spec).to_numpy(dtype=bool) for task, spec in tasks.items()}
    for reason in training_errors(clips, labeled, corpora, open_tasks):
        yield _plain("untrainable", reason)
    train = clips[clips["corpus"].isin(corpora.trained()) & clips["split"].eq("train")]
    absent = {} if missing else dict(missing_material(train, config))
    for reason in absent.values():
        yield _plain("untrainable", f"{reason}; {without_modalities(config.data.modalities, absent)}")


def _timelines(config: InTimeConfig, scanned: Mapping[str, ClipTable]) -> Iterator[Finding]:
    """Say which classes no frame of the clips that were read can have."""
    (task,) = config.tasks.active
    clips = pd.concat([table.clips for table in scanned.values()], ignore_index=True)
    timelines = {clip: own for table in scanned.values() for clip, own in table.timelines.items()}
    classes = config.tasks.resolve()[task].classes
    for reason in timeline_errors(ClipTable(clips, timelines=timelines), config.corpora.trained(), task, classes):
        yield _plain("untrainable", reason)


def _media(problems: pd.DataFrame, meanings: Mapping[str, str]) -> Iterator[Finding]:
    for (corpus, kind), rows in problems.groupby(["corpus", "kind"], sort=False):
        cases = tuple(Case(clip, None, reason) for clip, reason in rows[["clip_id", "reason"]].itertuples(index=False))
        yield Finding(str(corpus), str(kind), "warning", f"{meanings[str(kind)]}; other modalities stay", cases)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
