"""Values in time of one clip by all encoders asked for: the frames pass once, then each puts itself on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from encoders.base import Encoder, Watcher
from encoders.config import FeaturesConfig
from encoders.device import DeviceEncoder, Prepared
from encoders.errors import EncodingError, ExtractionError, Failure, MissingModality
from encoders.extraction.encode import lacks_library
from encoders.face.landmarks import count_of, is_turned
from encoders.media.clip import ClipMedia
from encoders.media.every_frame import See
from encoders.timed import Timed

__all__ = ["check_timed", "encode_in_time"]

InTime = tuple[Timed | Prepared | Failure, str | None]
"""What becomes of a clip: its values, what a device encoder has yet to embed, or why there is neither; and a note."""


def encode_in_time(encoders: Mapping[str, Encoder], clip: ClipMedia, features: FeaturesConfig) -> dict[str, InTime]:
    """Encode one clip in time.

    The file is decoded once for all of them: frames are shown as they pass, and those that vectors are made of are kept
    with the clip. Only a clip that stands on its head is decoded again, turned.

    Args:
        encoders: loaded (device encoders without weights), by modality.
        clip: with media.
        features: how many frames a second, and how words are placed.

    Returns:
        By modality.

    Raises:
        ExtractionError: an encoder needs a library that is not installed.
    """
    watchers, failures = _watch(encoders, clip, features.timed_rate)
    made: dict[str, InTime] = {}
    for name, encoder in encoders.items():
        result = failures[name] if name in failures else _encode(encoder, clip, watchers.get(name), features)
        note = clip.take_note(f"{encoder.id} in time")
        made[name] = (replace(result, note=note) if isinstance(result, Prepared) else result), note
    return made


def _watch(
    encoders: Mapping[str, Encoder], clip: ClipMedia, rate: float | None
) -> tuple[dict[str, Watcher], dict[str, Failure]]:
    """Show every frame to the encoders of pictures; returns what they kept, or why there are no frames for them."""
    watchers: dict[str, Watcher] = {}
    failures: dict[str, Failure] = {}
    turned: set[str] = set()

    def make() -> list[See]:
        watchers.clear()
        for name, encoder in encoders.items():
            if encoder.timed_form == "pictures" and (watcher := encoder.watcher(clip)) is not None:
                watchers[name] = watcher
        return [_see(watcher, name in turned) for name, watcher in watchers.items()]

    pictures = [name for name, encoder in encoders.items() if encoder.timed_form == "pictures"]
    if not pictures:
        return watchers, failures
    try:
        make()
        sampled = {count_of(clip, *watcher.sampling) for watcher in watchers.values()}
        clip.show_frames(rate, make, sampled)
        turned.update(name for name, watcher in watchers.items() if is_turned(clip, *watcher.sampling))
        if turned:
            clip.show_frames(rate, make, ())
    except ExtractionError:
        raise
    except ImportError as error:
        raise lacks_library(encoders[pictures[0]], error) from error
    except Exception as error:
        failures = dict.fromkeys(pictures, Failure.of(error))
    return watchers, failures


def _see(watcher: Watcher, is_turned: bool) -> See:
    if not is_turned:
        return watcher.see

    def see(frame: NDArray[np.uint8]) -> None:
        watcher.see(np.ascontiguousarray(frame[::-1, ::-1]))

    return see


def _encode(
    encoder: Encoder, clip: ClipMedia, watcher: Watcher | None, features: FeaturesConfig
) -> Timed | Prepared | Failure:
    spread_words = features.timed_text == "spread"
    try:
        grid = clip.grid(features.timed_rate)
        if isinstance(encoder, DeviceEncoder):
            prepared = encoder.prepare_timed(clip, grid, watcher, spread_words)
            if prepared.note is not None:
                clip.notes[f"{encoder.id} in time"] = prepared.note
            return prepared
        return check_timed(encoder, encoder.encode_timed(clip, grid, watcher, spread_words), grid.length)
    except ExtractionError:
        raise
    except ImportError as error:
        raise lacks_library(encoder, error) from error
    except (EncodingError, MissingModality) as reason:
        return Failure.of(reason)
    except Exception as error:
        return Failure("failed", f"{type(error).__name__}: {error}")


def check_timed(encoder: Encoder, timed: Timed, length: int) -> Timed | Failure:
    """Return values in time where they are sound, else why they are not."""
    shape = (length, encoder.width)
    if timed.values.shape != shape or timed.state.shape != shape[:1]:
        return Failure("failed", f"the encoder returned shape {timed.values.shape} in time, expected {shape}")
    if not np.isfinite(timed.values).all():
        return Failure("failed", f"{'NaN' if np.isnan(timed.values).any() else 'infinity'} in the values in time")
    return timed
