"""Clips in; vectors, sequences and values in time in the feature store out; killed and started again it continues.

`extract` may be called by any number of processes at once on one store (every process of `accelerate launch`, or
runs that know nothing of each other): claims share the work, and each returns when everything its table needs is
there. `read_vectors`, `read_sequences` and `read_timed` then align what is stored with a clip table.

A clip's vector and its sequence are made in one pass of the encoder and are settled separately: turning sequences on
later makes only them. What keeps a clip from having a vector keeps it from having a sequence, and is recorded once.
Values in time are settled for themselves, whatever became of the vector.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import pandas as pd

from encoders.config import FeaturesConfig
from encoders.device import DeviceEncoder
from encoders.errors import Failure
from encoders.extraction.device_batches import Embedder
from encoders.extraction.encode import Encoded
from encoders.extraction.jobs import Job, Outcome, Result, encode_beside, encode_job
from encoders.extraction.read import clip_records, make_encoders, sequence_specs, timed_source, timed_specs
from encoders.extraction.workers import WarmEncoders, modules_of, start_engine
from encoders.spec import EncoderSpec, SequenceSpec, TimedSpec
from encoders.store.claims import Claims, Item
from encoders.store.index import Entry
from encoders.store.progress import ClipProgress, ExtractionSummary
from encoders.store.queue import Settled, WorkQueue
from encoders.store.sequence_store import SequenceStore
from encoders.store.timed_store import TimedStore
from encoders.workers import Threads, Workers, files_of
from mmpsr.executors.base import LOCAL

__all__ = ["extract"]

_POLL_SECONDS = 0.2
_MOST_BESIDE = 8
"""Most chunks whose texts wait for the thread that encodes them beside the workers."""
_MANY_TEXTS = 500
"""Clips of which nothing but texts is wanted, above which worker processes are worth their start."""
_CHUNK_OF_PICTURES = 2
"""Most clips of a chunk of which a picture for every frame goes to a device encoder: 100 MB a clip of half a minute."""


def extract(
    clips: pd.DataFrame, config: FeaturesConfig, *, show_progress: bool = True, warm: WarmEncoders | None = None
) -> ExtractionSummary:
    """Make the vectors, sequences and values in time of a clip table that the store does not hold yet.

    Failed and absent clips are in the store's ledger and count as settled; failed ones are tried again with
    `config.retry_failed`, and any clip whose media or text changed. Ctrl-C keeps what is complete.

    Args:
        clips: clip table of any number of corpora (`corpora.clips`).
        config: encoders, store, number of workers, clips per chunk.
        show_progress: show a progress bar (on a terminal) or lines, soon one a minute (elsewhere).
        warm: encoders of the same configuration that are loaded already.

    Returns:
        Counts by corpus and modality, the ledger of these clips, and where the time went.

    Raises:
        ConfigError: there is no such device.
        ExecutorError: nobody answers at `config.executor`.
        ExtractionError: an encoder cannot be loaded, the device failed, or clips in a row killed their workers;
            what is complete is kept.
    """
    began = time.perf_counter()
    work = _Work(clips, config, warm)
    if work.refresh():
        engine = start_engine(config.executor, config.num_workers, work.modules) if warm is None else warm.engine
        with (
            Claims(config.store) as claims,
            engine if warm is None else nullcontext(),
            Workers(engine, encode_job) as workers,
            Threads("texts") as thread,
            Workers(thread, encode_beside) as beside,
            Embedder(work.device_encoders, config.model_copy(update={"chunk_size": work.chunk_size})) as embedder,
        ):
            _run(work, claims, workers, beside, embedder, ClipProgress(len(work.pending), show_progress))
            work.summary.embed_seconds, work.summary.waited = embedder.embed_seconds, embedder.waited
    return work.summarise(time.perf_counter() - began)


def _only(claimed: Mapping[int, Mapping[str, Item]], is_wanted: Callable[[str], bool]) -> dict[int, dict[str, Item]]:
    """Select items of a chunk by subject; rows without any are left out."""
    chosen = {row: {name: item for name, item in items.items() if is_wanted(name)} for row, items in claimed.items()}
    return {row: items for row, items in chosen.items() if items}


def _run(
    work: _Work,
    claims: Claims,
    workers: Workers[Job, Result],
    beside: Workers[Job, Result],
    embedder: Embedder,
    progress: ClipProgress,
) -> None:
    """Claim, submit, embed and store until nothing is pending, here or with other processes."""
    with progress:
        try:
            waits_for: set[str] = set()
            asked = -_POLL_SECONDS
            while True:
                work.num_workers = embedder.num_workers = workers.engine.num_workers
                while (
                    len(workers.jobs) < workers.limit
                    and len(beside.jobs) < _MOST_BESIDE
                    and embedder.has_room(workers.jobs.values())
                    and time.monotonic() - asked >= _POLL_SECONDS
                ):
                    waits_for = set()
                    claimed = work.claim(claims, waits_for)
                    if not claimed:
                        asked = time.monotonic()
                    for job in work.texts_of(claimed):
                        beside.submit(job)
                    for job in work.pieces_of(claimed):
                        workers.submit(job)
                in_flight = [*workers.in_flight, *beside.in_flight, *embedder.jobs]
                clips = {(job.corpus, clip["clip_id"]) for job in in_flight for clip in job.clips}
                num_left = len(work.pending) + len(clips)
                progress.update(num_left, work.num_failed, set() if in_flight else waits_for)
                if in_flight:
                    others: list[Future[Any]] = [*beside.jobs, *embedder.runs]
                    for job, result in chain(workers.completed(1.0, others=others), beside.completed(0.0)):
                        work.receive(job, result, claims, embedder)
                    for job, name, outcome in embedder.completed():
                        work.finish(job, name, outcome, claims)
                elif work.pending:
                    time.sleep(_POLL_SECONDS)
                else:
                    return
        except BaseException:  # Ctrl-C and errors alike keep what is complete
            for job, result in chain(workers.completed(0.0, quiet=True), beside.completed(0.0, quiet=True)):
                work.receive(job, result, claims)
            for job, name, outcome in embedder.stop():
                work.finish(job, name, outcome, claims)
            raise


class _Work(WorkQueue):
    """Which vectors and sequences a clip table still needs."""

    def __init__(self, clips: pd.DataFrame, config: FeaturesConfig, warm: WarmEncoders | None = None) -> None:
        self.config = config
        self.store = SequenceStore(config.store)
        encoders = make_encoders(config) if warm is None else warm.encoders
        self.encoders = {name: encoder.spec for name, encoder in encoders.items()}
        self.timed_store = TimedStore(config.store)
        self.sequences = sequence_specs(config, self.encoders)
        timed = timed_specs(config, encoders)
        self.timed = {spec.subject: spec for spec in timed.values()}
        specs = (spec for name in encoders for spec in (self.encoders[name], self.sequences.get(name), timed.get(name)))
        records = clip_records(clips, config)
        super().__init__(
            self.store,
            records,
            {spec.subject: spec for spec in specs if spec is not None},
            {name: [encoder.source(record) for record in records] for name, encoder in encoders.items()}
            | {
                spec.subject: [timed_source(encoders[name], record) for record in records]
                for name, spec in timed.items()
            },
            range(len(records)),
            config.retry_failed,
        )
        self.summary = ExtractionSummary()
        self.tried: set[tuple[str, str]] = set()
        users = {**encoders, **{spec.subject: encoders[name] for name, spec in timed.items()}}
        self.device_encoders = {name: encoder for name, encoder in users.items() if isinstance(encoder, DeviceEncoder)}
        self._made = encoders
        self._is_warm = warm is not None
        self.num_workers = config.num_workers
        self._beside: set[str] = set()
        self.modules: list[str] = []

    def refresh(self) -> bool:
        """Look into the store, forget clips and device encoders without work, and say whether any clip is left."""
        missing = self.find_missing()
        needed = {name if name in self.timed else self.specs[name].modality for name in missing}
        self.device_encoders = {name: self.device_encoders[name] for name in self.device_encoders if name in needed}
        beside = {name for name in missing - set(self.timed) if self._made[self.specs[name].modality].beside}
        if self._is_warm or (beside == missing and len(self.pending) > _MANY_TEXTS):
            beside = set()
        self._beside = beside
        self.modules = modules_of(self._made[self.specs[name].modality] for name in sorted(missing - beside))
        return bool(self.pending)

    @property
    def chunk_size(self) -> int:
        """Clips of a chunk."""
        every_picture = any(
            name in self.timed and encoder.timed_form == "pictures" for name, encoder in self.device_encoders.items()
        )
        return min(self.config.chunk_size, _CHUNK_OF_PICTURES) if every_picture else self.config.chunk_size

    def claim(self, claims: Claims, waits_for: set[str]) -> dict[int, dict[str, Item]]:
        """Claim the next chunk that nobody holds; `waits_for` gets the processes that hold others."""
        return self.claim_rows(claims, self.chunk_size, waits_for)

    def texts_of(self, claimed: Mapping[int, Mapping[str, Item]]) -> Iterator[Job]:
        """Give the job of what is encoded beside the workers of a chunk, if there is any: all its texts together."""
        if texts := _only(claimed, lambda name: name in self._beside):
            yield self._job(texts)

    def pieces_of(self, claimed: Mapping[int, Mapping[str, Item]]) -> Iterator[Job]:
        """Give the workers' jobs of a chunk: one, towards the end several, so that all workers end together.

        What light encoders of text make of a clip depends, in the last bit, on the texts that they are given with it;
        so a chunk with such texts is one job.
        """
        left = _only(claimed, lambda name: name not in self._beside)
        num_left = len(left) + len(self.pending)
        together = any(self._is_light_text(name) for items in left.values() for name in items)
        whole = together or self._is_warm or self.num_workers == 1
        while left:
            size = len(left) if whole else math.ceil(num_left / (2 * self.num_workers))
            piece = dict(islice(left.items(), size))
            left = {row: items for row, items in left.items() if row not in piece}
            num_left -= len(piece)
            yield self._job(piece)

    def _is_light_text(self, name: str) -> bool:
        encoder = self._made[self.specs[name].modality]
        return encoder.modality == "text" and name not in self.timed and not isinstance(encoder, DeviceEncoder)

    def _job(self, claimed: Mapping[int, Mapping[str, Item]]) -> Job:
        wanted: dict[str, dict[int, Item]] = {}
        for place, items in enumerate(claimed.values()):
            for name, item in items.items():
                wanted.setdefault(name, {})[place] = item
        clips = [dict(self.records[row]) for row in claimed]
        vectors = {name: wanted[name] for name in self.encoders if name in wanted}
        sequences = {name: wanted[spec.subject] for name, spec in self.sequences.items() if spec.subject in wanted}
        timed = {name: wanted[name] for name in self.timed if name in wanted}
        needed = {*vectors, *sequences, *(self.timed[name].modality for name in timed)}
        encoders = {
            name: (self.config.encoders[name], spec.fingerprint)
            for name, spec in self.encoders.items()
            if name in needed
        }
        seen = () if self.config.executor == LOCAL else files_of(clips)
        return Job(clips[0]["corpus"], clips, vectors, encoders, self.config, sequences, timed, seen)

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
        if name in self.timed:
            self._write(job.corpus, self.timed[name], job.timed[name], {**outcome.failures, **outcome.made})
            claims.drop(job.timed[name].values())
            self.summary.write_seconds += time.perf_counter() - began
            return
        vectors, sequences = job.wanted.get(name, {}), job.sequences.get(name, {})
        figures = outcome.figures
        results: dict[int, Any] = {row: replace(why, figures=figures.get(row)) for row, why in outcome.failures.items()}
        made = {row: (each, note) for row, (each, note) in outcome.made.items() if isinstance(each, Encoded)}
        results |= {row: (encoded.vector, note, figures.get(row)) for row, (encoded, note) in made.items()}
        self._write(job.corpus, self.encoders[name], vectors, results)
        if sequences:
            results = {row: why for row, why in outcome.failures.items() if row not in vectors}  # the others' as above
            for row, (encoded, note) in made.items():
                is_failed = isinstance(encoded.sequence, Failure)
                results[row] = encoded.sequence if is_failed else (encoded.sequence, note)
            self._write(job.corpus, self.sequences[name], sequences, results)
        claims.drop([*vectors.values(), *sequences.values()])
        self.summary.write_seconds += time.perf_counter() - began

    def _write(self, corpus: str, spec: EncoderSpec, wanted: Mapping[int, Item], results: Mapping[int, Any]) -> None:
        """Store what is wanted, by clip position: vectors or sequences with their notes, and failures."""
        write: Any = self.store.write_sequences if isinstance(spec, SequenceSpec) else self.store.write
        write = self.timed_store.write_timed if isinstance(spec, TimedSpec) else write
        self.settle(
            corpus,
            spec.subject,
            [(wanted[row], result) for row, result in results.items() if row in wanted],
            lambda ids, sources, values: write(corpus, spec, ids, sources, *zip(*values, strict=True)),
        )

    def summarise(self, seconds: float) -> ExtractionSummary:
        """Count over the whole table as the store now has it."""
        self.summary.seconds, self.summary.num_clips = seconds, len(self.tried)
        self.add_to(self.summary)
        return self.summary

    def entry(self, row: int, subject: str, settled: Settled) -> Entry | None:
        """Look up what is known of a clip; of its sequence, where nothing else is, why the clip has no vector."""
        entry, modality = super().entry(row, subject, settled), self.specs[subject].modality
        if entry is None and subject in (spec.subject for spec in self.sequences.values()):
            entry = super().entry(row, modality, settled)
            return entry if entry is not None and entry.status != "done" else None
        return entry
