"""Chunks of clips that are encoded together, in a worker process or in a thread of the launched one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from encoders.base import Encoder
from encoders.config import FeaturesConfig
from encoders.device import DeviceEncoder, Prepared, one_thread
from encoders.errors import EncodingError, ExtractionError, Failure
from encoders.extraction.encode import Encoded, encode_both, lacks_library, load_encoder, make_encoder, reason_of
from encoders.extraction.in_time import encode_in_time
from encoders.media.clip import ClipMedia
from encoders.media.decoding import length_of
from encoders.spec import IN_TIME
from encoders.store.claims import Item
from encoders.timed import Timed
from encoders.workers import DIED, require_files
from mmpsr.config import ConfigError, base_of
from mmpsr.executors.base import ONE_THREAD, works_away

__all__ = [
    "Job",
    "Outcome",
    "Result",
    "encode_beside",
    "encode_job",
    "prepare_clip",
    "start_worker",
]

_loaded: dict[tuple[str, str, str], Encoder] = {}


@dataclass(frozen=True)
class Job:
    """A chunk of clips of one corpus.

    Attributes:
        corpus: name of the corpus.
        clips: rows of the clip table.
        wanted: by modality, vectors to make by clip position.
        encoders: encoder id and expected fingerprint by modality.
        features: what encoders are made from besides, and how long sequences may be.
        sequences: by modality, sequences to make by clip position.
        timed: by what it is called (`video in time`), values in time to make by clip position.
        seen: files that the launched process sees; a machine that does not is no clip's fault.
    """

    corpus: str
    clips: list[dict[str, Any]]
    wanted: dict[str, dict[int, Item]]
    encoders: dict[str, tuple[str, str]]
    features: FeaturesConfig
    sequences: dict[str, dict[int, Item]] = field(default_factory=dict)
    timed: dict[str, dict[int, Item]] = field(default_factory=dict)
    seen: Sequence[str] = ()

    @property
    def items(self) -> list[Item]:
        """All that is to be made, as claimed."""
        kinds = (self.wanted, self.sequences, self.timed)
        return [item for kind in kinds for items in kind.values() for item in items.values()]

    @property
    def names(self) -> list[str]:
        """Its clips, for messages."""
        return [f"{self.corpus}/{clip['clip_id']}" for clip in self.clips]

    @property
    def culprits(self) -> list[str]:
        """Name its encoders, which may kill a worker, too."""
        return [f"encoder {encoder_id!r} ({name})" for name, (encoder_id, _) in self.encoders.items()]

    def dead(self) -> Result:
        """Make the result where nothing came of it but the death of its worker."""
        why = Failure("failed", DIED)
        names = [*dict.fromkeys([*self.wanted, *self.sequences]), *self.timed]
        return Result({name: Outcome(failures=dict.fromkeys(self.rows(name), why)) for name in names}, 0.0, 0.0)

    def parts(self) -> list[Job]:
        """Split into jobs of one clip; one of a single clip into jobs of one encoder; one of both stays as it is."""
        if len(self.clips) > 1:
            return [self._part([place], self.encoders) for place in range(len(self.clips))]
        return [self._part([0], {name: encoder}) for name, encoder in self.encoders.items()]

    def _part(self, places: Sequence[int], encoders: Mapping[str, tuple[str, str]]) -> Job:
        kinds = [
            {
                name: own
                for name, items in kind.items()
                if name.removesuffix(IN_TIME) in encoders
                if (own := {new: items[old] for new, old in enumerate(places) if old in items})
            }
            for kind in (self.wanted, self.sequences, self.timed)
        ]
        wanted, sequences, timed = kinds
        needed = {name.removesuffix(IN_TIME) for kind in kinds for name in kind}
        return replace(
            self,
            clips=[self.clips[place] for place in places],
            wanted=wanted,
            sequences=sequences,
            timed=timed,
            encoders={name: encoder for name, encoder in encoders.items() if name in needed},
        )

    def rows(self, name: str) -> list[int]:
        """Clip positions that the encoder of a modality takes: for a vector, a sequence or both; or for values in time.

        Args:
            name: a modality, or what its values in time are called.
        """
        return sorted({*self.wanted.get(name, ()), *self.sequences.get(name, ()), *self.timed.get(name, ())})


@dataclass
class Outcome:
    """What became of a job's clips for one modality, or for its values in time.

    Attributes:
        made: by clip position, vector and sequence, or values in time, and their note.
        failures: by clip position, why there is nothing.
        prepared: by clip position, what a device encoder has yet to embed.
        figures: by clip position, what was measured of its media, also of those without a vector.
    """

    made: dict[int, tuple[Encoded | Timed, str | None]] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    prepared: dict[int, Prepared] = field(default_factory=dict)
    figures: dict[int, dict[str, Any]] = field(default_factory=dict)

    def settle(self, row: int, result: Encoded | Timed | Failure, note: str | None) -> None:
        """Enter what was made of a clip with its note, or its failure."""
        if isinstance(result, Failure):
            self.failures[row] = result
        else:
            self.made[row] = result, note


@dataclass
class Result:
    """What a worker hands back of a job.

    Attributes:
        outcomes: by modality, and by what its values in time are called.
        seconds: time that it took.
        media_seconds: how long the clips last of which more than the text was wanted, as far as known.
    """

    outcomes: dict[str, Outcome]
    seconds: float
    media_seconds: float


def start_worker(environment: Mapping[str, str]) -> None:
    """Prepare a worker: Ctrl-C is the parent's to handle, one thread per worker, and no life after the parent's.

    Args:
        environment: the parent's; a worker that was forked elsewhere has an older one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update({**environment, **ONE_THREAD})
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def encode_job(job: Job) -> Result:
    """Run every encoder that a job asks for.

    Light encoders of text take all clips at once. The others take clip by clip, which share its decoded frames and
    sound; so one clip at a time is held in memory. What is in time comes first: all frames pass then, and those that
    vectors are made of are kept.

    Raises:
        ExtractionError: an encoder cannot be loaded or needs a library, or this machine does not see the media.
    """
    require_files(job.seen)
    encoders = {name: _encoder(*job.encoders[name], name, job.features) for name in job.encoders}
    outcomes = {name: Outcome() for name in (*job.encoders, *job.timed)}
    rows = {name: job.rows(name) for name in outcomes}
    in_time = {name: encoders[name.removesuffix(IN_TIME)] for name in job.timed}
    reads_media = {*job.timed, *(name for name, encoder in encoders.items() if not encoder.beside)}
    clips = [ClipMedia.from_row(clip) for clip in job.clips]
    began, media_seconds = time.monotonic(), 0.0
    for name in [name for name in encoders if base_of(name) == "text"]:
        if isinstance(encoders[name], DeviceEncoder):
            continue
        encoder, cap = encoders.pop(name), job.features.sequences.get(name)
        results = encode_both(encoder, [clips[row] for row in rows[name]], cap)
        for row, result in zip(rows[name], results, strict=True):
            outcomes[name].settle(row, result, clips[row].take_note(encoder.id))
    for row, clip in enumerate(clips):
        wanted = {name: encoder for name, encoder in in_time.items() if row in rows[name]}
        for name, (timed, note) in (encode_in_time(wanted, clip, job.features) if wanted else {}).items():
            if isinstance(timed, Prepared):
                outcomes[name].prepared[row] = timed
            else:
                outcomes[name].settle(row, timed, note)
        for name, encoder in encoders.items():
            if row in rows[name]:
                _encode(encoder, clip, row, outcomes[name], job.features.sequences.get(name))
        if any(row in rows[name] for name in reads_media if base_of(name) != "text"):
            media_seconds += _seconds(job.clips[row])
        clip.release()
    return Result(outcomes, time.monotonic() - began, media_seconds)


def encode_beside(job: Job) -> Result:
    """Run a job in a thread of the launched process."""
    with one_thread():
        return encode_job(job)


def _encode(encoder: Encoder, clip: ClipMedia, row: int, outcome: Outcome, cap: int | None) -> None:
    """Encode one clip, or prepare it for the device."""
    result = prepare_clip(encoder, clip) if isinstance(encoder, DeviceEncoder) else encode_both(encoder, [clip], cap)[0]
    note, figures = clip.take_note(encoder.id), clip.take_figures()
    if figures is not None:
        outcome.figures[row] = figures
    if isinstance(result, Prepared):
        outcome.prepared[row] = replace(result, note=note)
    else:
        outcome.settle(row, result, note)


def prepare_clip(encoder: DeviceEncoder, clip: ClipMedia) -> Prepared | Failure:
    """Prepare a clip for the device, or say why it cannot be."""
    try:
        return encoder.prepare_with_note(clip)
    except ExtractionError:
        raise
    except ImportError as error:
        raise lacks_library(encoder, error) from error
    except Exception as error:
        return Failure.of(error)


def _seconds(clip: Mapping[str, Any]) -> float:
    """Tell how long a clip lasts: by its span, or as the first file says that can be opened; 0 where nothing tells."""
    for kind in ("", "audio_", "fallback_"):
        media, start, end = (clip[f"{kind}{name}"] for name in ("media", "start", "end"))
        if media is None:
            continue
        if end is None:
            try:
                end = length_of(Path(media))
            except (EncodingError, OSError):
                continue
        return max(0.0, float(end) - float(start or 0.0))
    return 0.0


def _encoder(encoder_id: str, fingerprint: str, modality: str, features: FeaturesConfig) -> Encoder:
    """Make the worker's own encoder, constructed once; the weights of device encoders are not loaded here."""
    key = encoder_id, modality, fingerprint
    if key not in _loaded:
        try:
            encoder = make_encoder(encoder_id, modality, features)
        except (ExtractionError, ConfigError):
            raise
        except Exception as error:  # raised as text: foreign exceptions may not survive pickling
            raise ExtractionError(f"encoder {encoder_id!r} ({modality}) cannot be made: {reason_of(error)}") from error
        if not isinstance(encoder, DeviceEncoder):
            load_encoder(encoder, fingerprint)
        if multiprocessing.parent_process() is not None or works_away():
            for module, function in (("torch", "set_num_threads"), ("cv2", "setNumThreads")):
                if module in sys.modules:  # not imported only to be told
                    getattr(sys.modules[module], function)(1)
        _loaded[key] = encoder
    return _loaded[key]
