"""The corpora of a run: `[corpora]` and `[corpora.sources.<name>]` -> one clip table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from corpora.bah.corpus import BahCorpus
from corpora.clips import ClipTable, CorpusError, concatenate
from corpora.fiv2.corpus import FirstImpressionsCorpus
from corpora.meld.corpus import MeldCorpus
from corpora.mosei.corpus import MoseiCorpus
from corpora.table import TableCorpus
from mmpsr.config import Config, nearest
from mmpsr.tasks import BUILTIN_TASKS, TaskSpec

__all__ = ["CorporaConfig", "Source", "prepare", "read_corpora", "scan_corpora"]

Source = Annotated[
    TableCorpus | BahCorpus | FirstImpressionsCorpus | MeldCorpus | MoseiCorpus, Field(discriminator="adapter")
]
"""A corpus entry of any kind; a new adapter is added here."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class CorporaConfig(Config):
    """Which corpora there are, and where."""

    root: str = "data/demo"
    """Folder that all corpora lie below, relative to the working directory."""
    build: Literal["none", "demo"] = "none"
    """`demo` builds the demo corpora under `root` where they are missing."""
    sources: dict[Name, Source] = Field(default_factory=dict)
    """Corpora by name; names become folders of the feature store."""

    def trained(self) -> tuple[str, ...]:
        """Names of the corpora that may be trained on: all but the zero-shot ones."""
        return tuple(name for name, source in self.sources.items() if not source.zero_shot)

    def metrics(self, corpus: str, task: str, spec: TaskSpec) -> tuple[str, ...]:
        """Names of the metrics to report for a task on a corpus: the corpus' own, else the task's."""
        return self.sources[corpus].metrics.get(task, spec.metrics)


def prepare(config: CorporaConfig) -> None:
    """Build the demo corpora where the configuration asks for them and they are missing or half built.

    A complete demo of any size is left as it is. Several processes may call this: one builds, the others wait.
    """
    if config.build == "none":
        return
    from corpora.demo.build import MARKER, build_demo  # drawing and speaking need libraries that reading does not

    marker = Path(config.root) / MARKER
    if not (marker.is_file() and json.loads(marker.read_text(encoding="utf-8"))["complete"]):
        build_demo(Path(config.root))


def read_corpora(config: CorporaConfig, tasks: Mapping[str, TaskSpec]) -> ClipTable:
    """Read and check every corpus of a configuration.

    Args:
        config: the corpora.
        tasks: active tasks by name. Labels of built-in tasks that are not active are kept; columns of active tasks
            that no corpus labels are unknown (NaN).

    Returns:
        Clips of all corpora in the configuration's order, and everything that could not be used.

    Raises:
        CorpusError: there is no corpus, one names a task that does not exist, or one cannot be read.
    """
    known = {**BUILTIN_TASKS, **tasks}
    tables = []
    for name, source in config.sources.items():
        _require_tasks(name, source, known)
        tables.append(source.read(name, Path(config.root), known))
    return concatenate(tables).validate(tasks)


def scan_corpora(config: CorporaConfig, tasks: Mapping[str, TaskSpec]) -> dict[str, ClipTable | CorpusError]:
    """Read every corpus for itself, to examine it: wrong cells and rows stay defects, and errors stop no other corpus.

    Args:
        config: the corpora.
        tasks: active tasks by name.

    Returns:
        By corpus its clips and everything that could not be used, or why it cannot be read.
    """
    known = {**BUILTIN_TASKS, **tasks}
    found: dict[str, ClipTable | CorpusError] = {}
    for name, source in config.sources.items():
        try:
            _require_tasks(name, source, known)
            table = source.scan(name, Path(config.root), known)
            found[name] = table.validate({**{task: known[task] for task in source.label_tasks()}, **tasks})
        except CorpusError as error:
            found[name] = error
    return found


def _require_tasks(name: str, source: Source, known: Mapping[str, TaskSpec]) -> None:
    for field, named in (("labels", source.label_tasks()), ("metrics", tuple(source.metrics))):
        for task in named:
            if task not in known:
                raise CorpusError(f"corpora.sources.{name}.{field}: no task is named {task!r}; {nearest(task, known)}")
