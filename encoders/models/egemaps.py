"""Encoder `egemaps`: the acoustic descriptors of the Geneva minimalistic set, every 10 ms."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import Embeddings, Encoder, TimedForm, Watcher, read_each
from encoders.errors import EncodingError, NothingThere
from encoders.media.audio import AUDIO_READING
from encoders.media.clip import ClipMedia
from encoders.timed import Grid, Timed, within_frames

__all__ = ["HOP", "NUM_DESCRIPTORS", "RATE", "EGeMAPS"]

RATE = 16_000
"""Samples per second that the descriptors are measured at."""
HOP = 0.01
"""Seconds between rows of descriptors."""
NUM_DESCRIPTORS = 25
"""Descriptors of eGeMAPSv02, low level."""
_LARGEST = 1.0 - 2.0**-15
"""Sample of 16 bits; what lies beyond, as lossy formats give, openSMILE wraps around to the other sign."""


class EGeMAPS(Encoder):
    """openSMILE's eGeMAPSv02 low-level descriptors: loudness, spectrum, pitch, jitter, shimmer, formants; 25 wide.

    The samples are used as loud as they are in the file, not divided by their peak as for encoders from a hub:
    loudness is one of the descriptors, and after normalisation it would say how peaked a clip is instead of how loud.

    Args:
        modality: `audio`.

    References:
        Eyben et al., The Geneva minimalistic acoustic parameter set (GeMAPS) for voice research and affective
        computing, IEEE Transactions on Affective Computing 7(2), 2016, doi:10.1109/TAFFC.2015.2457417.
        Eyben, Wöllmer, Schuller, openSMILE, ACM Multimedia 2010, doi:10.1145/1873951.1874246.
    """

    id: ClassVar[str] = "egemaps"
    libraries: ClassVar[tuple[str, ...]] = ("av", "opensmile")
    timed_form: TimedForm | None = "sound"

    def __init__(self, modality: str = "audio") -> None:
        super().__init__(modality)
        self.feature_names: tuple[str, ...] = ()
        """Names of the descriptors as openSMILE orders them, once loaded."""

    @property
    def width(self) -> int:
        """Number of descriptors; `load` checks that the library has as many."""
        return NUM_DESCRIPTORS

    def load(self) -> None:
        """Start openSMILE.

        Raises:
            ValueError: the installed library's feature set has another width.
        """
        with _started() as smile:
            numbers = range(smile.external_sink_get_num_elements(_SINK))
            self.feature_names = tuple(smile.external_sink_get_element_name(_SINK, number) for number in numbers)
        if len(self.feature_names) != NUM_DESCRIPTORS:
            raise ValueError(f"openSMILE's eGeMAPSv02 has {len(self.feature_names)} descriptors, not {NUM_DESCRIPTORS}")

    def settings(self) -> Mapping[str, object]:
        """List feature set, level, rate and the absence of normalisation."""
        return {
            "set": "eGeMAPSv02", "clipped": _LARGEST,
            "level": "LowLevelDescriptors", "rate": RATE, "loudness": "as is", **AUDIO_READING,
        }  # fmt: skip

    def encode(self, clips: Sequence[ClipMedia]) -> list[Embeddings]:
        """Embed clips, `[T, 25]` each with a row every 10 ms.

        A clip without audio, a silent one, or one too short for one descriptor frame (60 ms) is an `EncodingError`.
        """
        return list(read_each(clips, self._descriptors))

    def timed_settings(self) -> Mapping[str, object]:
        """Tell which rows of descriptors belong to a frame."""
        return {"rows": "mean over the frame"}

    def encode_timed(self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False) -> Timed:
        """Give the mean of the descriptors that begin within each frame; of a clip without sound, nothing.

        Low-level descriptors and not functionals of a second: these would say of every frame what its neighbours
        sound like, and models in time learn how far to look.
        """
        try:
            rows = self._descriptors(clip)
        except NothingThere as reason:
            clip.notes[f"{self.id} in time"] = f"nothing at any frame: {reason}"
            return Timed.nothing(grid, self.width)
        return Timed.on(grid, *within_frames(rows, HOP, grid))

    def _descriptors(self, clip: ClipMedia) -> NDArray[np.float32]:
        samples = np.clip(clip.waveform(RATE), -1.0, _LARGEST)
        rows = _measure((samples * 32_768).astype(np.int16))
        if not len(rows):
            milliseconds = 1000 * len(samples) / RATE
            raise EncodingError(f"{clip.media}: {milliseconds:.0f} ms of audio, too short for eGeMAPS (at least 60 ms)")
        if not np.isfinite(rows).all():
            raise EncodingError(f"{clip.media}: openSMILE gave descriptors that are not finite")
        return rows


_SOURCE, _SINK = "extsource", "extsink"


@contextmanager
def _started() -> Iterator[Any]:
    """Start an openSMILE that takes samples at `RATE` and gives eGeMAPSv02's low-level descriptors.

    `opensmile.Smile` does the same and puts each row into a table of pandas, which costs a tenth of the measuring.
    """
    import opensmile
    from opensmile.core import lib

    smile, folder = lib.OpenSMILE(), Path(lib.root) / opensmile.config.CONFIG_ROOT
    options = {
        "source": folder / opensmile.config.EXTERNAL_INPUT_CONFIG,
        "sink": folder / opensmile.config.EXTERNAL_OUTPUT_SINGLE_CONFIG,
        "sinkLevel": opensmile.FeatureLevel.LowLevelDescriptors.value,
        "bufferModeRbConf": folder / "shared" / "BufferModeRb.conf.inc",
        "frameModeFunctionalsConf": folder / "shared" / "FrameModeFunctionals.conf.inc",
        "sampleRate": RATE,
        "nBits": 16,
    }
    try:
        smile.initialize(str(folder / (opensmile.FeatureSet.eGeMAPSv02.value + opensmile.config.CONFIG_EXT)), options)
        yield smile
    finally:
        smile.free()


def _measure(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Measure the descriptors of samples, `[T, 25]`; T is 0 where they are too short."""
    from opensmile.core import lib

    rows = bytearray()

    def keep(values: Any, number: int, _: object) -> int:
        rows.extend(ctypes.string_at(values, 4 * number))
        return 1

    callback = lib.ExternalSinkCallback(keep)
    with _started() as smile:
        lib.smileapi.smile_extsink_set_data_callback(smile._smileobj, _SINK.encode(), callback, None)
        smile.external_audio_source_write_data(_SOURCE, samples.tobytes())
        smile.external_audio_source_set_eoi(_SOURCE)
        smile.run()
    return np.frombuffer(bytes(rows), np.float32).reshape(-1, NUM_DESCRIPTORS)
