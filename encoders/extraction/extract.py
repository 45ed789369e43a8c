"""Clips in, vectors and sequences in the feature store out; killed and started again it continues.

`extract` may be called by any number of processes at once on one store (every process of `accelerate launch`, or
runs that know nothing of each other): claims share the work, and each returns when everything its table needs is
there. `read_vectors` and `read_sequences` then align what is stored with a clip table.

A clip's vector and its sequence are made in one pass of the encoder and are settled separately: turning sequences on
later makes only them. What keeps a clip from having a vector keeps it from having a sequence, and is recorded once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from encoders.config import FeaturesConfig
from encoders.device import DeviceEncoder
from encoders.errors import Failure
from encoders.extraction.device_batches import Embedder
from encoders.extraction.jobs import Job, Outcome, Result
from encoders.extraction.read import clip_records, make_encoders, sequence_specs
from encoders.extraction.warm import WarmEncoders
from encoders.extraction.workers import Workers
from encoders.spec import EncoderSpec, SequenceSpec
from encoders.store.claims import Claims, Item
from encoders.store.parts import clean, utc_now
from encoders.store.progress import Count, ExtractionSummary, Reporter
from encoders.store.sequence_store import SequenceStore
from encoders.store.vector_store import Entry

__all__ = ["extract"]

_POLL_SECONDS = 0.2


def extract(
    clips: pd.DataFrame, config: FeaturesConfig, *, show_progress: bool = True, warm: WarmEncoders | None = None
) -> ExtractionSummary:
    """Make the vectors and sequences of a clip table that the store does not hold yet.

    Failed and absent clips are in the store's ledger and count as settled; failed ones are tried again with
    `config.retry_failed`, and any clip whose media or text changed. Ctrl-C keeps what is complete.

    Args:
        clips: clip table of any number of corpora (`corpora.clips`).
        config: encoders, store, number of workers, clips per chunk.
        show_progress: show a progress bar (on a terminal) or a line every minute (elsewhere).
        warm: encoders of the same configuration that are loaded already.

    Returns:
        Counts by corpus and modality, the ledger of these clips, and where the time went.

    Raises:
        ConfigError: there is no such device.
        ExtractionError: an encoder cannot be loaded, the device failed, or a worker process died; what is complete is
            kept.
    """
    began = time.perf_counter()
    work = _Work(clips, config, warm)
    if work.refresh():
        with (
            Claims(config.store) as claims,
            Embedder(work.device_encoders, config) as embedder,
            Workers(config.num_workers, None if warm is None else warm.executor) as workers,
        ):
            _run(work, claims, workers, embedder, Reporter(len(work.pending), show_progress))
            work.summary.embed_seconds, work.summary.waited = embedder.embed_seconds, embedder.waited
    return work.summarise(time.perf_counter() - began)


def _run(work: _Work, claims: Claims, workers: Workers, embedder: Embedder, report: Reporter) -> None:
    """Claim, submit, embed and store until nothing is pending, here or with other processes."""
    with report:
        try:
            waits_for: set[str] = set()
            asked = -_POLL_SECONDS
            while True:
                while (
                    len(workers.jobs) < workers.limit
                    and embedder.has_room(workers.jobs.values())
                    and time.monotonic() - asked >= _POLL_SECONDS
                ):
                    waits_for = set()
                    job = work.claim(claims, waits_for)
                    if job is None:
                        asked = time.monotonic()
                    else:
                        workers.submit(job)
                in_flight = [*workers.jobs.values(), *embedder.jobs]
                num_left = len(work.pending) + sum(len(job.clips) for job in in_flight)
                report.update(num_left, work.num_failed, set() if in_flight else waits_for)
                if in_flight:
                    for job, result in workers.completed(timeout=1.0, others=embedder.runs):
                        work.receive(job, result, claims, embedder)
                    for job, name, outcome in embedder.completed():
                        work.finish(job, name, outcome, claims)
                elif work.pending:
                    time.sleep(_POLL_SECONDS)
                else:
                    return
        except BaseException:  # Ctrl-C and errors alike keep what is complete
            for job, result in workers.completed(timeout=0.0, quiet=True):
                work.receive(job, result, claims)
            for job, name, outcome in embedder.stop():
                work.finish(job, name, outcome, claims)
            raise


class _Work:
    """Which vectors and sequences a clip table still needs."""

    def __init__(self, clips: pd.DataFrame, config: FeaturesConfig, warm: WarmEncoders | None = None) -> None:
        self.config = config
        self.store = SequenceStore(config.store)
        encoders = make_encoders(config) if warm is None else warm.encoders
        self.encoders = {name: EncoderSpec.of(encoder) for name, encoder in encoders.items()}
        self.sequences = sequence_specs(config, self.encoders)
        specs = (spec for name in encoders for spec in (self.encoders[name], self.sequences.get(name)))
        self.specs = {spec.subject: spec for spec in specs if spec is not None}
        self.records = clip_records(clips, config)
        self.sources = {name: [encoder.source(record) for record in self.records] for name, encoder in encoders.items()}
        self.corpora = list(dict.fromkeys(record["corpus"] for record in self.records))
        self.pending: deque[int] = deque(range(len(self.records)))
        self.began = utc_now()
        self.num_failed = 0
        self.summary = ExtractionSummary()
        self.tried: set[tuple[str, str]] = set()
        self.made: set[Item] = set()
        self.device_encoders = {name: each for name, each in encoders.items() if isinstance(each, DeviceEncoder)}
        self.folders = {
            (corpus, name): self.store.folder(corpus, spec).relative_to(self.store.root).as_posix()
            for corpus in self.corpora
            for name, spec in self.specs.items()
        }
        for folder in self.folders.values():
            clean(self.store.root / folder)

    def refresh(self) -> bool:
        """Look into the store, forget clips and device encoders without work, and say whether any clip is left."""
        settled = self._settled()
        missing = {row: names for row in self.pending if (names := self._missing(row, settled))}
        self.pending = deque(missing)
        needed = {self.specs[name].modality for names in missing.values() for name in names}
        self.device_encoders = {name: self.device_encoders[name] for name in self.device_encoders if name in needed}
        return bool(self.pending)

    def claim(self, claims: Claims, waits_for: set[str]) -> Job | None:
        """The next chunk that nobody holds, claimed; `waits_for` gets the processes that hold others."""
        if not self.pending:
            return None
        with claims.exclusive:
            taken = claims.others()  # before the look into the store, see encoders.store.claims
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
            vectors = {name: wanted[name] for name in self.encoders if name in wanted}
            sequences = {name: wanted[spec.subject] for name, spec in self.sequences.items() if spec.subject in wanted}
            encoders = {
                name: (self.config.encoders[name], spec.fingerprint)
                for name, spec in self.encoders.items()
                if name in vectors or name in sequences
            }
            job = Job(clips[0]["corpus"], clips, vectors, encoders, self.config, sequences)
            claims.add(job.items)
        return job

    def receive(self, job: Job, result: Result, claims: Claims, embedder: Embedder | None = None) -> None:
        """Write what a worker finished of a chunk, hand the rest to the embedder, or give it up."""
        self.summary.prepare_seconds += result.seconds
        self.summary.media_seconds += result.media_seconds
        self.tried.update((job.corpus, clip["clip_id"]) for clip in job.clips)
        for name, outcome in result.outcomes.items():
            if outcome.prepared and embedder is not None:
                embedder.add(job, name, outcome)
            else:
                self.finish(job, name, outcome, claims)

    def finish(self, job: Job, name: str, outcome: Outcome, claims: Claims) -> None:
        """Write what became of a chunk by one encoder, then drop its claim."""
        began = time.perf_counter()
        vectors, sequences = job.wanted.get(name, {}), job.sequences.get(name, {})
        notes, failures = dict(zip(outcome.rows, outcome.notes, strict=True)), dict(outcome.failures)
        made: dict[int, Any] = dict(zip(outcome.rows, outcome.vectors, strict=True))
        self._write(job.corpus, self.encoders[name], vectors, failures | made, notes)
        if sequences:
            made = dict(zip(outcome.rows, outcome.sequences, strict=True))
            told = {row: why for row, why in failures.items() if row not in vectors}  # the others' with the vector
            self._write(job.corpus, self.sequences[name], sequences, told | made, notes)
        claims.drop([*vectors.values(), *sequences.values()])
        self.summary.write_seconds += time.perf_counter() - began

    def _write(
        self,
        corpus: str,
        spec: EncoderSpec,
        wanted: Mapping[int, Item],
        results: Mapping[int, Any],
        notes: Mapping[int, str | None],
    ) -> None:
        """Store vectors or sequences and failures, by clip position, of those that are wanted."""
        failed = {row: why for row, why in results.items() if row in wanted and isinstance(why, Failure)}
        rows = [row for row in results if row in wanted and row not in failed]
        items = [wanted[row] for row in rows]
        ids, sources = [item.clip_id for item in items], [item.source for item in items]
        values, kept = [results[row] for row in rows], [notes[row] for row in rows]
        if isinstance(spec, SequenceSpec):
            self.store.write_sequences(corpus, spec, ids, sources, values, kept)
        elif rows:
            self.store.write(corpus, spec, ids, sources, np.stack(values), kept)
        self.made.update(items)
        ledger = [(wanted[row].clip_id, wanted[row].source, why.status, why.reason) for row, why in failed.items()]
        self.store.write_failures(corpus, spec, ledger)
        self.num_failed += sum(why.status == "failed" for why in failed.values())

    def summarise(self, seconds: float) -> ExtractionSummary:
        """Counts over the whole table as the store now has it."""
        summary = self.summary
        summary.seconds, summary.num_clips = seconds, len(self.tried)
        settled = self._settled()
        ledgers = []
        for corpus in self.corpora:
            rows = [row for row, record in enumerate(self.records) if record["corpus"] == corpus]
            for name, spec in self.specs.items():
                count = summary.counts.setdefault((corpus, name), Count())
                items = [self._item(row, name) for row in rows]
                for row, item in zip(rows, items, strict=True):
                    entry = self._entry(row, name, settled)
                    # none: another process has only now made the vector whose lack had settled the sequence, too
                    status = "failed" if entry is None else entry.status
                    kind = "reused" if status == "done" and item not in self.made else status
                    setattr(count, kind, getattr(count, kind) + 1)
                if count.failed or count.absent:
                    ledgers.append(self.store.ledger(corpus, spec, [(item.clip_id, item.source) for item in items]))
        if ledgers:
            summary.ledger = pd.concat(ledgers, ignore_index=True)
        return summary

    def _settled(self) -> dict[str, Mapping[tuple[str, str], Entry]]:
        return {folder: self.store.done(corpus, self.specs[name]) for (corpus, name), folder in self.folders.items()}

    def _item(self, row: int, name: str) -> Item:
        record = self.records[row]
        folder, modality = self.folders[record["corpus"], name], self.specs[name].modality
        return Item(folder, record["clip_id"], self.sources[modality][row])

    def _entry(self, row: int, name: str, settled: Mapping[str, Mapping[tuple[str, str], Entry]]) -> Entry | None:
        """What is known of a clip; of its sequence, where nothing else is, why the clip has no vector."""
        item = self._item(row, name)
        entry = settled[item.folder].get((item.clip_id, item.source))
        modality = self.specs[name].modality
        if entry is None and name != modality:
            entry = self._entry(row, modality, settled)
            return entry if entry is not None and entry.status != "done" else None
        return entry

    def _missing(self, row: int, settled: Mapping[str, Mapping[tuple[str, str], Entry]]) -> dict[str, Item]:
        """What a clip still needs, by subject. A retried failure is settled once its row is newer than this run."""
        missing = {}
        for name in self.specs:
            item, entry = self._item(row, name), self._entry(row, name, settled)
            retry = self.config.retry_failed and entry is not None and entry.status == "failed"
            if entry is None or (retry and entry.time < self.began):
                missing[name] = item
        return missing
