"""Encoder `egemaps`: the acoustic descriptors of the Geneva minimalistic set, every 10 ms."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import ClassVar

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
        import opensmile

        self._smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02,
            feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
        )
        self.feature_names = tuple(self._smile.feature_names)
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "Segment too short": said below, with the clip's length
            table = self._smile.process_signal(samples, RATE)
        rows = table.to_numpy(dtype=np.float32)
        if rows.shape[1] != self.width:
            raise EncodingError(f"openSMILE gave {rows.shape[1]} descriptors, expected {self.width}")
        if not np.isfinite(rows).all():
            milliseconds = 1000 * len(samples) / RATE
            if len(rows) > 1:
                raise EncodingError(f"{clip.media}: openSMILE gave descriptors that are not finite")
            raise EncodingError(f"{clip.media}: {milliseconds:.0f} ms of audio, too short for eGeMAPS (at least 60 ms)")
        return rows
