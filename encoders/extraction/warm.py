"""Encoders that stay loaded from one extraction to the next, for prediction of one clip at a time and for long lists.

An extraction of its own starts worker processes, which import libraries and load weights: seconds that one clip is not
worth. What is kept here answers at once.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

from encoders.config import FeaturesConfig
from encoders.extraction.jobs import start_worker
from encoders.extraction.read import make_encoders
from encoders.extraction.workers import end_workers

__all__ = ["WarmEncoders"]


class WarmEncoders:
    """Encoders of one configuration; a context manager, which ends what it started.

    Args:
        config: which encoders.
        num_processes: worker processes; with 0, one thread of this process does all the work, so that extractions of
            several threads take turns.

    Raises:
        ConfigError: a modality or an encoder is not known.
        ExtractionError: an encoder cannot be imported.
    """

    def __init__(self, config: FeaturesConfig, num_processes: int = 0) -> None:
        self.encoders = make_encoders(config)
        self.executor: Executor
        if num_processes:
            context = multiprocessing.get_context("spawn")
            self.executor = ProcessPoolExecutor(num_processes, context, initializer=start_worker)
        else:
            self.executor = ThreadPoolExecutor(1, "encode")

    def __enter__(self) -> WarmEncoders:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(at_once=kind is not None)

    def close(self, at_once: bool = False) -> None:
        """End processes or thread; with `at_once` processes stop in the midst of their work."""
        if isinstance(self.executor, ProcessPoolExecutor):
            end_workers(self.executor, at_once)
        else:
            self.executor.shutdown(wait=not at_once, cancel_futures=True)
