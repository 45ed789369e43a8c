"""Device encoders at work in the launched process: prepared clips wait, a thread embeds them in batches.

The thread takes its next batch when it begins it: the clip that waits longest, and of the same encoder those nearest
to it in length. So the device is never idle while a clip waits, and no clip waits for ever. What waits is bounded, in
clips and in bytes: a chunk goes to the workers only when what it may bring fits.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from encoders.config import FeaturesConfig
from encoders.device import DeviceEncoder, Prepared, choose_device
from encoders.errors import ExtractionError, Failure
from encoders.extraction.encode import Encoded, check_results, load_encoder
from encoders.extraction.in_time import check_timed
from encoders.extraction.jobs import Job, Outcome
from encoders.timed import Timed

__all__ = ["MOST_BYTES", "Embedder"]

MOST_BYTES = 1 << 29
"""Most bytes of prepared clips at a time; those still with the workers count with the mean of their encoder."""
_NO_MEMORY = ("can't allocate memory", "STATUS_ALLOC_FAILED")
"""What errors of other types than torch's own say when memory is lacking."""


@dataclass(frozen=True)
class _Clip:
    """A prepared clip, and the outcome that its vector belongs to."""

    job: Job
    modality: str
    outcome: Outcome
    row: int
    prepared: Prepared


class Embedder:
    """Device encoders of this process by modality, and the clips that wait for them; a context manager.

    Args:
        encoders: constructed; those without weights are loaded. What is in time has names of its own.
        config: device, precision, clips per batch, and what bounds the clips in flight.

    Raises:
        ConfigError: there is no such device.
        ExtractionError: an encoder cannot be loaded.
    """

    def __init__(self, encoders: Mapping[str, DeviceEncoder], config: FeaturesConfig) -> None:
        self.num_workers = config.num_workers
        self.num_clips = 0
        self.num_bytes = 0
        self.embed_seconds = 0.0
        self.runs: set[Future[list[tuple[_Clip, Encoded | Timed | Failure]]]] = set()
        self._encoders, self._batch_size, self._chunk_size = encoders, config.batch_size, config.chunk_size
        self._caps = config.sequences
        self._open: dict[int, tuple[Job, str, Outcome]] = {}
        self._waiting: list[_Clip] = []
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self._seen_bytes: Counter[str] = Counter()
        self._too_large: dict[str, int] = {}
        self._on_device = [encoder for encoder in encoders.values() if encoder.on_device]
        chosen = choose_device(config) if self._on_device else None
        for encoder in encoders.values():
            if not encoder.is_loaded:
                if encoder.on_device and chosen is not None:
                    encoder.device, encoder.dtype = chosen
                load_encoder(encoder, encoder.fingerprint())
                encoder.is_loaded = True
        self._thread = ThreadPoolExecutor(1, "embed")
        self._began = time.monotonic()

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    @property
    def most_clips(self) -> int:
        """Most clips that wait or are with the workers, of which there may be more or fewer by and by."""
        return len(self._encoders) * (4 * self._batch_size + 2 * self.num_workers * self._chunk_size)

    @property
    def jobs(self) -> list[Job]:
        """Chunks with clips that are not embedded yet."""
        return list({id(job): job for job, _, _ in self._open.values()}.values())

    @property
    def waited(self) -> float | None:
        """Share of the time since the weights were loaded that the device waited; None where nothing follows it."""
        seconds = time.monotonic() - self._began
        return max(0.0, 1.0 - self.embed_seconds / seconds) if self._on_device and seconds else None

    def has_room(self, in_flight: Collection[Job]) -> bool:
        """Tell whether what one more chunk may bring fits beside what is here and what the workers have."""
        coming = {name: self._chunk_size for name in self._encoders}
        for job in in_flight:
            for name in self._encoders:
                coming[name] += len(job.rows(name))
        num_bytes = sum(coming[name] * self._seen_bytes[name] / self._seen[name] for name in self._seen)
        fits = self.num_clips + sum(coming.values()) <= self.most_clips and self.num_bytes + num_bytes <= MOST_BYTES
        return fits or not (self.num_clips or in_flight)

    def add(self, job: Job, modality: str, outcome: Outcome) -> None:
        """Let the prepared clips of an outcome wait for their embedding."""
        clips = [_Clip(job, modality, outcome, row, prepared) for row, prepared in outcome.prepared.items()]
        outcome.prepared = {}
        self._open[id(outcome)] = job, modality, outcome
        num_bytes = sum(clip.prepared.num_bytes for clip in clips)
        self.num_clips += len(clips)
        self.num_bytes += num_bytes
        self._seen[modality] += len(clips)
        self._seen_bytes[modality] += num_bytes
        with self._lock:
            self._waiting += clips
        self._start()

    def completed(self) -> Iterator[tuple[Job, str, Outcome]]:
        """Outcomes whose last clip has been embedded, each handed out once."""
        for run in [run for run in self.runs if run.done()]:
            self.runs.remove(run)
            self._start()
            yield from self._settle(run.result())

    def stop(self) -> Iterator[tuple[Job, str, Outcome]]:
        """End after the batch at work, and hand out all outcomes, as far as they have come."""
        self._thread.shutdown(cancel_futures=True)
        for run in self.runs:
            if not run.cancelled() and run.exception() is None:
                yield from self._settle(run.result())
        yield from self._open.values()

    def _start(self) -> None:
        """Keep one batch at work, and the thread in hand of a next."""
        while self._waiting and len(self.runs) < 2:
            self.runs.add(self._thread.submit(self._embed_next))

    def _settle(self, results: Sequence[tuple[_Clip, Encoded | Timed | Failure]]) -> Iterator[tuple[Job, str, Outcome]]:
        for clip, result in results:
            self.num_clips -= 1
            self.num_bytes -= clip.prepared.num_bytes
            clip.outcome.settle(clip.row, result, clip.prepared.note)
            num_settled = len(clip.outcome.made) + len(clip.outcome.failures)
            if num_settled == len(clip.job.rows(clip.modality)):
                yield self._open.pop(id(clip.outcome))

    # What follows runs in the thread.

    def _embed_next(self) -> list[tuple[_Clip, Encoded | Timed | Failure]]:
        with self._lock:
            if not self._waiting:
                return []
            first = self._waiting[0]
            same = [clip for clip in self._waiting if clip.modality == first.modality]
            same.sort(key=lambda clip: abs(clip.prepared.length - first.prepared.length))  # stable: oldest first
            batch = sorted(same[: self._batch_size], key=lambda clip: clip.prepared.length)
            taken = set(map(id, batch))
            self._waiting = [clip for clip in self._waiting if id(clip) not in taken]
        began = time.monotonic()
        results = self._embed(first.modality, [clip.prepared for clip in batch])
        self.embed_seconds += time.monotonic() - began
        return list(zip(batch, results, strict=True))

    def _embed(self, name: str, inputs: Sequence[Prepared]) -> list[Encoded | Timed | Failure]:
        """Embed a batch: halved where the device's memory is too small, clip by clip where it fails."""
        import torch

        encoder, size = self._encoders[name], len(inputs) * max(prepared.length for prepared in inputs)
        if len(inputs) > 1 and name in self._too_large and size >= self._too_large[name]:
            middle = len(inputs) // 2
            return self._embed(name, inputs[:middle]) + self._embed(name, inputs[middle:])
        try:
            grids = [prepared.grid for prepared in inputs if prepared.grid is not None]
            if grids:
                timed = encoder.embed_timed(inputs, grids)
                return [check_timed(encoder, each, grid.length) for each, grid in zip(timed, grids, strict=True)]
            return [*check_results(encoder, encoder.embed(inputs), len(inputs), self._caps.get(name))]
        except ExtractionError:
            raise
        except ImportError as error:
            raise ExtractionError(f"encoder {encoder.id!r} ({name}) needs a library: {error}") from error
        except torch.AcceleratorError as error:  # the device answers to nothing any more
            raise ExtractionError(
                f"encoder {encoder.id!r} ({name}): {encoder.device} failed ({error}); everything complete is kept and "
                "the same command continues"
            ) from error
        except Exception as error:
            short = isinstance(error, (torch.OutOfMemoryError, MemoryError))
            short = short or any(words in str(error) for words in _NO_MEMORY)
            if len(inputs) == 1:
                return [Failure("failed", f"{type(error).__name__}: {error}")]
        if not short:
            return [result for prepared in inputs for result in self._embed(name, [prepared])]
        torch.cuda.empty_cache()  # here, where the error no longer holds what the failed pass had made
        self._too_large[name] = size
        return self._embed(name, inputs)
