"""Clips in, vectors in the feature store out; killed and started again it continues.

`extract` may be called by any number of processes at once on one store (every process of `accelerate launch`, or
runs that know nothing of each other): claims share the work, and each returns when everything its table needs is
there. `read_vectors` then aligns the vectors with a clip table.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from encoders.claims import Claims, Item
from encoders.encoder import MODALITIES, FeaturesConfig
from encoders.encoding import ExtractionError, make_encoder
from encoders.identity import EncoderSpec, source_of
from encoders.reporting import Count, ExtractionSummary, Reporter
from encoders.store import FeatureStore, StoreError, clean, utc_now
from encoders.workers import Job, Outcome, Workers
from mmpsr.config import ConfigError, nearest

__all__ = ["ExtractionError", "ExtractionSummary", "encoder_specs", "extract", "read_vectors"]

_POLL_SECONDS = 0.2
_COLUMNS = ("corpus", "clip_id", "media", "start", "end", "language", "text", "description")


def encoder_specs(config: FeaturesConfig) -> dict[str, EncoderSpec]:
    """Specification of each modality's encoder, in the order of `MODALITIES`; no weights are loaded.

    Raises:
        ConfigError: a modality is not known.
    """
    for modality in config.encoders:
        if modality not in MODALITIES:
            raise ConfigError(f"features.encoders: no modality is named {modality!r}; {nearest(modality, MODALITIES)}")
    names = [name for name in MODALITIES if name in config.encoders]
    return {name: EncoderSpec.of(make_encoder(config.encoders[name], name)) for name in names}


def read_vectors(
    clips: pd.DataFrame, config: FeaturesConfig
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.float32]]]:
    """Vectors of a clip table, row by row.

    Args:
        clips: clip table of any number of corpora.
        config: encoders and store that the vectors were extracted with.

    Returns:
        By modality: presence `[n]` and vectors `[n, 2 * width]`, zeros where absent.
    """
    store = FeatureStore(config.store)
    rows_by_corpus = {str(name): rows for name, rows in clips.groupby("corpus", sort=False).indices.items()}
    records = _records(clips)
    result = {}
    for modality, spec in encoder_specs(config).items():
        present = np.zeros(len(clips), dtype=np.bool_)
        vectors = np.zeros((len(clips), spec.vector_width), dtype=np.float32)
        for corpus, rows in rows_by_corpus.items():
            ids = [records[row]["clip_id"] for row in rows]
            sources = [source_of(records[row], modality) for row in rows]
            present[rows], vectors[rows] = store.read(corpus, spec, ids, sources)
        result[modality] = present, vectors
    return result


def extract(clips: pd.DataFrame, config: FeaturesConfig, *, show_progress: bool = True) -> ExtractionSummary:
    """Make the vectors of a clip table that the store does not hold yet.

    Failed and absent clips are in the store's ledger and count as settled; failed ones are tried again with
    `config.retry_failed`, and any clip whose media or text changed. Ctrl-C keeps what is complete.

    Args:
        clips: clip table of any number of corpora (`corpora.clips`).
        config: encoders, store, number of workers, clips per chunk.
        show_progress: show a progress bar (on a terminal) or a line every minute (elsewhere).

    Returns:
        Counts by corpus and modality, the ledger of these clips, and the time it took.

    Raises:
        ExtractionError: an encoder cannot be loaded, or a worker process died; what is complete is kept.
    """
    began = time.perf_counter()
    work = _Work(clips, config)
    if work.refresh():
        with Claims(config.store) as claims, Workers(config.num_workers) as workers:
            _run(work, claims, workers, Reporter(len(work.pending), show_progress))
    return work.summarise(time.perf_counter() - began)


def _run(work: _Work, claims: Claims, workers: Workers, report: Reporter) -> None:
    """Claim, submit and store until nothing is pending, here or with other processes."""
    with report:
        try:
            while True:
                waits_for: set[str] = set()
                while len(workers.jobs) < workers.limit:
                    job = work.claim(claims, waits_for)
                    if job is None:
                        break
                    workers.submit(job)
                num_left = len(work.pending) + workers.num_clips
                report.update(num_left, work.num_failed, set() if workers.jobs else waits_for)
                if workers.jobs:
                    for job, outcomes in workers.completed(timeout=1.0):
                        work.finish(job, outcomes, claims)
                elif work.pending:
                    time.sleep(_POLL_SECONDS)
                else:
                    return
        except BaseException:  # Ctrl-C and errors alike keep what is complete
            for job, outcomes in workers.completed(timeout=0.0, quiet=True):
                work.finish(job, outcomes, claims)
            raise


class _Work:
    """Which vectors a clip table still needs."""

    def __init__(self, clips: pd.DataFrame, config: FeaturesConfig) -> None:
        self.config = config
        self.store = FeatureStore(config.store)
        self.specs = encoder_specs(config)
        self.records = _records(clips)
        self.sources = {name: [source_of(record, name) for record in self.records] for name in self.specs}
        self.corpora = list(dict.fromkeys(record["corpus"] for record in self.records))
        self.pending: deque[int] = deque(range(len(self.records)))
        self.began = utc_now()
        self.num_failed = 0
        self.tried: set[tuple[str, str]] = set()
        self.made: set[Item] = set()
        self.folders = {
            (corpus, name): self.store.folder(corpus, spec).relative_to(self.store.root).as_posix()
            for corpus in self.corpora
            for name, spec in self.specs.items()
        }
        for folder in self.folders.values():
            clean(self.store.root / folder)

    def refresh(self) -> bool:
        """Look into the store, forget clips that need nothing, and say whether any are left."""
        settled = self._settled()
        self.pending = deque(row for row in self.pending if self._missing(row, settled))
        return bool(self.pending)

    def claim(self, claims: Claims, waits_for: set[str]) -> Job | None:
        """The next chunk that nobody holds, claimed; `waits_for` gets the processes that hold others."""
        if not self.pending:
            return None
        with claims.exclusive:
            taken = claims.others()  # before the look into the store, see encoders.claims
            settled, held = self._settled(), claims.held
            rows: list[int] = []
            passed: list[int] = []
            wanted: dict[str, dict[int, Item]] = {}
            while self.pending and len(rows) < self.config.chunk_size:
                row = self.pending.popleft()
                if rows and self.records[row]["corpus"] != self.records[rows[0]]["corpus"]:
                    passed.append(row)
                    break
                missing = self._missing(row, settled)
                free = {name: item for name, item in missing.items() if item not in taken and item not in held}
                if len(free) < len(missing):
                    passed.append(row)
                    waits_for.update(taken[item] for item in missing.values() if item in taken)
                for name, item in free.items():
                    wanted.setdefault(name, {})[len(rows)] = item
                if free:
                    rows.append(row)
            self.pending.extendleft(reversed(passed))
            if not rows:
                return None
            clips = [self.records[row] for row in rows]
            encoders = {name: (self.config.encoders[name], self.specs[name].fingerprint) for name in wanted}
            job = Job(clips[0]["corpus"], clips, wanted, encoders)
            claims.add(job.items)
        return job

    def finish(self, job: Job, outcomes: Mapping[str, Outcome], claims: Claims) -> None:
        """Write what a worker made of a chunk, then drop its claim."""
        for name, outcome in outcomes.items():
            spec, items = self.specs[name], job.wanted[name]
            made = [items[row] for row in outcome.rows]
            if made:
                ids, sources = [item.clip_id for item in made], [item.source for item in made]
                self.store.write(job.corpus, spec, ids, sources, np.stack(outcome.vectors), outcome.notes)
                self.made.update(made)
            failures = [
                (items[row].clip_id, items[row].source, why.status, why.reason) for row, why in outcome.failures
            ]
            self.store.write_failures(job.corpus, spec, failures)
            self.num_failed += sum(why.status == "failed" for _, why in outcome.failures)
        self.tried.update((item.folder.partition("/")[0], item.clip_id) for item in job.items)
        claims.drop(job.items)

    def summarise(self, seconds: float) -> ExtractionSummary:
        """Counts over the whole table as the store now has it."""
        summary = ExtractionSummary(seconds=seconds, num_clips=len(self.tried))
        settled = self._settled()
        ledgers = []
        for corpus in self.corpora:
            rows = [row for row, record in enumerate(self.records) if record["corpus"] == corpus]
            for name, spec in self.specs.items():
                count = summary.counts.setdefault((corpus, name), Count())
                items = [self._item(row, name) for row in rows]
                for item in items:
                    status = settled[item.folder][item.clip_id, item.source].status
                    kind = "reused" if status == "done" and item not in self.made else status
                    setattr(count, kind, getattr(count, kind) + 1)
                if count.failed or count.absent:
                    ledgers.append(self.store.ledger(corpus, spec, [(item.clip_id, item.source) for item in items]))
        if ledgers:
            summary.ledger = pd.concat(ledgers, ignore_index=True)
        return summary

    def _settled(self) -> dict[str, Mapping[tuple[str, str], Any]]:
        return {folder: self.store.done(corpus, self.specs[name]) for (corpus, name), folder in self.folders.items()}

    def _item(self, row: int, name: str) -> Item:
        record = self.records[row]
        return Item(self.folders[record["corpus"], name], record["clip_id"], self.sources[name][row])

    def _missing(self, row: int, settled: Mapping[str, Mapping[tuple[str, str], Any]]) -> dict[str, Item]:
        """What a clip still needs, by modality. A retried failure is settled once its row is newer than this run."""
        missing = {}
        for name in self.specs:
            item = self._item(row, name)
            entry = settled[item.folder].get((item.clip_id, item.source))
            retry = self.config.retry_failed and entry is not None and entry.status == "failed"
            if entry is None or (retry and entry.time < self.began):
                missing[name] = item
        return missing


def _records(clips: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the clip table as plain dictionaries, `None` where missing; columns the table lacks are missing."""
    repeated = clips[clips.duplicated(["corpus", "clip_id"])]
    if len(repeated):
        corpus, clip_id = repeated[["corpus", "clip_id"]].iloc[0]
        raise StoreError(f"clip {clip_id!r} of corpus {corpus!r} occurs twice; ids must be unique within a corpus")
    columns = clips.reindex(columns=list(_COLUMNS)).astype(object)
    return cast(list[dict[str, Any]], columns.where(columns.notna(), None).to_dict("records"))
