"""The corpora of a run: `[corpora]` and `[corpora.sources.<name>]` -> one clip table."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Union, get_args

import pandas as pd
from pydantic import Field, StringConstraints

from corpora.audformat.corpus import AudformatCorpus
from corpora.bah.corpus import BahCorpus
from corpora.clips import ClipTable, CorpusError, concatenate
from corpora.fiv2.corpus import FirstImpressionsCorpus
from corpora.meld.corpus import MeldCorpus
from corpora.mosei.corpus import MoseiCorpus
from corpora.source import CorpusSource
from corpora.table import TableCorpus
from mmpsr.config import Config, nearest
from mmpsr.extras import require_extra
from mmpsr.plugins import load_plugins
from mmpsr.tasks import BUILTIN_TASKS, TaskSpec

__all__ = [
    "CorporaConfig", "Source", "adapter_of", "adapters", "generated_corpora", "prepare", "read_corpora", "scan_corpora",
]  # fmt: skip


def adapters() -> dict[str, type[CorpusSource]]:
    """List classes that a corpus entry can be, by what `adapter` says: those that ship and those of other packages.

    A plug-in is a subclass of `CorpusSource` with a field `adapter: Literal["<its name>"]`.
    """
    known: dict[str, type[CorpusSource]] = {str(adapter_of(source)): source for source in _SHIPPED}
    for point, source in load_plugins("mmpsr.corpora", CorpusSource).items():
        name = adapter_of(source)
        if name is None or name in known:
            reason = "has no field adapter of one name" if name is None else f"is named {name!r} like another"
            warnings.warn(f"mmpsr.corpora: {point!r} is left out: its class {reason}", stacklevel=2)
        else:
            known[name] = source
    return known


def adapter_of(source: type[CorpusSource]) -> str | None:
    """Read the name by which a configuration chooses a class; None where it has none, or several."""
    field = source.model_fields.get("adapter")
    names = () if field is None else get_args(field.annotation)
    return names[0] if len(names) == 1 and isinstance(names[0], str) else None


_SHIPPED = (TableCorpus, AudformatCorpus, BahCorpus, FirstImpressionsCorpus, MeldCorpus, MoseiCorpus)
Source = CorpusSource
"""A corpus entry of any kind; a new adapter is added to `_SHIPPED`, or by an entry point."""
if not TYPE_CHECKING:  # a union that is known when it runs
    Source = Annotated[Union[tuple(adapters().values())], Field(discriminator="adapter")]  # noqa: UP007
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class CorporaConfig(Config):
    """Which corpora there are, and where."""

    root: str = "data/demo"
    """Folder that all corpora lie below, relative to the working directory."""
    build: Literal["none", "demo", "demo-frames", "demo-frames-faces"] = "none"
    """`demo` builds the four demo corpora under `root` where they are missing, `demo-frames` the one in time,
    `demo-frames-faces` that with a face picture for every frame."""
    sources: dict[Name, Source] = Field(default_factory=dict)
    """Corpora by name; names become folders of the feature store."""

    def trained(self) -> tuple[str, ...]:
        """List names of the corpora that may be trained on: all but the zero-shot ones."""
        return tuple(name for name, source in self.sources.items() if not source.zero_shot)

    def metrics(self, corpus: str, task: str, spec: TaskSpec) -> tuple[str, ...]:
        """List names of the metrics to report for a task on a corpus: the corpus' own, else the task's."""
        return self.sources[corpus].metrics.get(task, spec.metrics)


def prepare(config: CorporaConfig) -> None:
    """Build the demo corpora where the configuration asks for them and they are missing or half built.

    A complete demo of any size is left as it is. Several processes may call this: one builds, the others wait.

    Raises:
        MissingExtraError: what draws, speaks and writes media is not installed.
        CorpusError: face pictures are asked for, and the demo was built without.
    """
    if config.build == "none":
        return
    from corpora.demo.build import MARKER, build_demo  # drawing and speaking need libraries that reading does not
    from corpora.demo.frames import FOLDER, build_demo_frames

    in_time, faces = config.build != "demo", config.build == "demo-frames-faces"
    marker = Path(config.root) / (FOLDER if in_time else ".") / MARKER
    stored = json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else {"complete": False}
    if stored["complete"] and (stored.get("faces") or not faces):
        return
    for extra in ("media", "corpora"):
        require_extra(extra)
    if in_time:
        build_demo_frames(Path(config.root), faces=faces)
    else:
        build_demo(Path(config.root))


def generated_corpora(config: CorporaConfig, clips: pd.DataFrame | None = None) -> tuple[str, ...]:
    """List corpora whose clips `build_demo` made: all media of a corpus, or its tables, lie below a demo's marker file.

    Where the media are known they decide, so that a table of one's own over generated clips is found, and a table
    beside them over other clips is not.

    Args:
        config: the corpora.
        clips: clip table; None where it is not known, and paths of the configuration are looked at.
    """
    folders: dict[str, set[Path]] = {}
    for name, source in config.sources.items():
        places = {place for place in _places(Path(config.root), source) if place.exists()}
        if clips is not None and "media" in clips:
            media = clips.loc[clips["corpus"].eq(name), "media"].dropna().unique()
            places = {Path(str(path)).parent for path in media} or places
        folders[name] = {place.resolve() for place in places}
    above = {place: {place, *place.parents} for places in folders.values() for place in places}
    marked = {folder for folder in set().union(*above.values()) if _has_marker(folder)}
    return tuple(name for name, places in folders.items() if places and all(above[place] & marked for place in places))


def _places(root: Path, source: CorpusSource) -> list[Path]:
    """List what a corpus is read from: the files of a table, else its folder."""
    if isinstance(source, TableCorpus):
        files = [source.files] if isinstance(source.files, str) else source.files.values()
        return [root / source.path / file for file in files]
    return [root / source.path]


def _has_marker(folder: Path) -> bool:
    """Tell whether a folder holds the file that `build_demo` writes."""
    from corpora.demo.build import MARKER

    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(marker, dict) and {"version", "seed", "clips_per_corpus"} <= marker.keys()


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
    tables: dict[str, ClipTable | CorpusError] = {}
    for name, source in config.sources.items():
        try:
            _require_tasks(name, source, known)
            table = source.scan(name, Path(config.root), known)
            tables[name] = table.validate({**{task: known[task] for task in source.label_tasks()}, **tasks})
        except CorpusError as error:
            tables[name] = error
    return tables


def _require_tasks(name: str, source: Source, known: Mapping[str, TaskSpec]) -> None:
    for field, named in (("labels", source.label_tasks()), ("metrics", tuple(source.metrics))):
        for task in named:
            if task not in known:
                raise CorpusError(f"corpora.sources.{name}.{field}: no task is named {task!r}; {nearest(task, known)}")
