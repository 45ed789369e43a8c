"""Encoder `egemaps`: the acoustic descriptors of the Geneva minimalistic set, every 10 ms."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
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
_BUFFERS = ("bufferMode", "bufferModeRb", "bufferModeRbLag")
_INCLUDED = re.compile(r"\\\{([\w./]+)\}")
_SECTION = re.compile(r"^\[(\w+):(c\w+)\]\s*\n(.*?)(?=^\[|\Z)", re.MULTILINE | re.DOTALL)
_BUFFER = re.compile(r"\\\{\\cm\[(bufferMode\w*)[^\]]*\]\}")


@contextmanager
def _started() -> Iterator[Any]:
    """Start an openSMILE that takes samples at `RATE` and gives eGeMAPSv02's low-level descriptors.

    `opensmile.Smile` does the same, computes what functionals need as well, and puts each row into a table of pandas:
    a fifth of the time.
    """
    import opensmile
    from opensmile.core import lib

    smile, folder = lib.OpenSMILE(), Path(lib.root) / opensmile.config.CONFIG_ROOT
    path = folder / (opensmile.FeatureSet.eGeMAPSv02.value + opensmile.config.CONFIG_EXT)
    buffers = {f"{name}Conf": folder / "shared" / f"{name[0].upper()}{name[1:]}.conf.inc" for name in _BUFFERS}
    options = {
        **buffers,
        "source": folder / opensmile.config.EXTERNAL_INPUT_CONFIG,
        "sink": folder / opensmile.config.EXTERNAL_OUTPUT_SINGLE_CONFIG,
        "sinkLevel": opensmile.FeatureLevel.LowLevelDescriptors.value,
        "sampleRate": RATE,
        "nBits": 16,
    }
    try:
        with TemporaryDirectory() as place:
            written = Path(place) / path.name
            written.write_text(_descriptors_only(path), encoding="utf-8")
            smile.initialize(str(written), options)
        yield smile
    finally:
        smile.free()


@lru_cache(maxsize=1)
def _descriptors_only(path: Path) -> str:
    """Rewrite an openSMILE configuration without the components that its level of descriptors does not need.

    A component is a section `[name:type]` that names the levels which it reads and the one that it writes.
    """
    text = _INCLUDED.sub(lambda found: (path.parent / found[1]).read_text(encoding="utf-8"), path.read_text("utf-8"))
    sections = {name: (kind, body) for name, kind, body in _SECTION.findall(text) if kind != "cComponentManager"}
    makers = {level: name for name, (_, body) in sections.items() for level in _levels(body, "writer")}
    wanted, needed = ["lld"], {"wave"}
    while wanted:
        level = wanted.pop()
        if level not in needed:
            needed.add(level)
            if level not in makers:
                raise ValueError(f"{path}: nothing writes the level {level!r}; its layout is another than expected")
            wanted += _levels(sections[makers[level]][1], "reader")
    kept = {name: section for name, section in sections.items() if name in {makers.get(level) for level in needed}}
    instances = "".join(f"instance[{name}].type={kind}\n" for name, (kind, _) in kept.items())
    bodies = "".join(f"[{name}:{kind}]\n{body}" for name, (kind, body) in kept.items())
    return (
        "[componentInstances:cComponentManager]\ninstance[dataMemory].type=cDataMemory\n"
        f"\\{{\\cm[source{{?}}:where samples come from]}}\n[componentInstances:cComponentManager]\n{instances}"
        + _BUFFER.sub(lambda found: f"\\{{\\cm[{found[1]}{{?}}:how frames are kept]}}", bodies)
        + "\n\\{\\cm[sink{?}:where descriptors go]}\n"
    )


def _levels(body: str, kind: str) -> list[str]:
    """List the levels that a component reads or writes."""
    lines = re.findall(rf"^\s*\w*{kind}\d?\.dmLevel\s*=(.*)$", body, re.MULTILINE | re.IGNORECASE)
    return [level.strip() for line in lines for level in line.split(";")]


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
