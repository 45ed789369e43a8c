"""Worker processes of an extraction: what they are given, what they do, and what happens when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from encoders.claims import Item
from encoders.encoder import Encoder
from encoders.encoding import ExtractionError, Failure, Vector, encode_clips, make_encoder
from encoders.identity import EncoderSpec

if TYPE_CHECKING:
    from encoders.media import ClipMedia

__all__ = ["Job", "Outcome", "Workers"]


@dataclass(frozen=True)
class Job:
    """A chunk of clips of one corpus.

    Attributes:
        corpus: name of the corpus.
        clips: rows of the clip table.
        wanted: by modality, what to make by clip position.
        encoders: encoder id and expected fingerprint by modality.
    """

    corpus: str
    clips: list[dict[str, Any]]
    wanted: dict[str, dict[int, Item]]
    encoders: dict[str, tuple[str, str]]

    @property
    def items(self) -> list[Item]:
        """All that is to be made, as claimed."""
        return [item for items in self.wanted.values() for item in items.values()]


@dataclass
class Outcome:
    """What became of a job's clips for one modality; `rows` are clip positions of the vectors."""

    rows: list[int] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    notes: list[str | None] = field(default_factory=list)
    failures: list[tuple[int, Failure]] = field(default_factory=list)


@dataclass
class Workers:
    """Worker processes, started with the first chunk, and the chunks that they have."""

    num_workers: int
    jobs: dict[Future[dict[str, Outcome]], Job] = field(default_factory=dict)
    pool: ProcessPoolExecutor | None = None

    @property
    def limit(self) -> int:
        """Most chunks in flight: one per worker, and one ready for each so that none waits."""
        return 2 * self.num_workers

    @property
    def num_clips(self) -> int:
        """Clips in flight."""
        return sum(len(job.clips) for job in self.jobs.values())

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.pool is None:
            return
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:  # a worker may be in the middle of minutes of work that nobody wants any more
            for process in processes:
                process.terminate()

    def submit(self, job: Job) -> None:
        """Hand a chunk to the workers."""
        if self.pool is None:
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(self.num_workers, context, initializer=start_worker)
        try:
            future = self.pool.submit(encode_job, job)
        except BrokenProcessPool:  # it broke since the last look; `completed` names the clips
            future = Future()
            future.set_exception(BrokenProcessPool())
        self.jobs[future] = job

    def completed(self, timeout: float, quiet: bool = False) -> Iterator[tuple[Job, dict[str, Outcome]]]:
        """Chunks whose result has come, each handed out once; `quiet` passes over those that went wrong.

        Raises:
            ExtractionError: a worker died, or cannot work.
        """
        finished = wait(self.jobs, timeout, FIRST_COMPLETED).done
        for future in [future for future in self.jobs if future in finished]:
            error = future.exception()
            if error is None:
                yield self.jobs.pop(future), future.result()
            elif isinstance(error, BrokenProcessPool) and not quiet:
                raise ExtractionError(self._obituary()) from error
            elif not quiet:
                raise error

    def _obituary(self) -> str:
        broken = [job for future, job in self.jobs.items() if not future.done() or future.exception() is not None]
        at_work = broken[: self.num_workers]  # jobs start in the order of submission
        suspects = [f"{job.corpus}/{clip['clip_id']}" for job in at_work for clip in job.clips]
        return (
            f"a worker process died while it encoded one of these clips: "
            f"{', '.join(suspects)}. Out of memory is the usual cause (fewer features.num_workers, smaller "
            "features.chunk_size); a damaged media file is another. Everything complete is kept and the same command "
            "continues; with features.num_workers=1 and features.chunk_size=1 this message names the one clip"
        )


# What follows runs in the worker processes.

_loaded: dict[tuple[str, str], Encoder] = {}


def start_worker() -> None:
    """Prepare a worker: Ctrl-C is the parent's to handle, one thread per worker, and no life after the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def encode_job(job: Job) -> dict[str, Outcome]:
    """Run every encoder that a job asks for; a clip's encoders share its decoded frames and sound."""
    from encoders.media import ClipMedia

    encoders = {modality: _encoder(*job.encoders[modality], modality) for modality in job.wanted}
    media: dict[int, ClipMedia] = {}
    broken: dict[int, Failure] = {}
    for row in sorted({row for items in job.wanted.values() for row in items}):
        try:
            media[row] = ClipMedia.from_row(job.clips[row])
        except Exception as error:
            broken[row] = Failure("failed", f"{type(error).__name__}: {error}")
    outcomes = {modality: Outcome() for modality in job.wanted}
    for modality, items in job.wanted.items():
        encoder, outcome = encoders[modality], outcomes[modality]
        outcome.failures = [(row, broken[row]) for row in items if row in broken]
        usable = [row for row in items if row in media]
        for row, result in zip(usable, encode_clips(encoder, [media[row] for row in usable]), strict=True):
            if isinstance(result, Failure):
                outcome.failures.append((row, result))
            else:
                outcome.rows.append(row)
                outcome.vectors.append(result)
                outcome.notes.append(media[row].notes.get(encoder.id))
    return outcomes


def _encoder(encoder_id: str, fingerprint: str, modality: str) -> Encoder:
    """The worker's own encoder, constructed and loaded once."""
    if (encoder_id, modality) not in _loaded:
        try:
            encoder = make_encoder(encoder_id, modality)
            encoder.load()
        except ExtractionError:
            raise
        except Exception as error:  # raised as text: foreign exceptions may not survive pickling
            raise ExtractionError(
                f"encoder {encoder_id!r} ({modality}) cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        found = EncoderSpec.of(encoder).fingerprint
        if found != fingerprint:
            raise ExtractionError(
                f"encoder {encoder_id!r} ({modality}) has fingerprint {found} once loaded and {fingerprint} before; "
                "its width and settings must be known to the constructor"
            )
        _limit_threads()
        _loaded[encoder_id, modality] = encoder
    return _loaded[encoder_id, modality]


def _limit_threads() -> None:
    for module, function in (("torch", "set_num_threads"), ("cv2", "setNumThreads")):
        if module in sys.modules:  # not imported only to be told
            getattr(sys.modules[module], function)(1)
