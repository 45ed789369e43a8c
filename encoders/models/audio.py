"""Sound encoders from a hub: what they share, and those that hear any length: wav2vec 2.0 and HuBERT.

All hear the clip's mono sound divided by its peak. Those that see windows of one size are in `windowed_audio`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, groupby
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import TimedForm, Watcher
from encoders.device import Prepared
from encoders.errors import EncodingError, NothingThere
from encoders.media.audio import AUDIO_READING
from encoders.media.clip import ClipMedia
from encoders.models.hub import HubEncoder, batches, padded
from encoders.timed import Grid, Timed, nearest_elements

__all__ = ["BATCH_SECONDS", "AudioEncoder", "ElementsInTime", "Wav2Vec", "split"]

BATCH_SECONDS = 240
"""Most seconds of sound in one forward pass of a model that takes any length, padding included."""


def split(samples: NDArray[np.float32], most: int) -> list[NDArray[np.float32]]:
    """Cut samples into the fewest equal parts (to a sample) that are at most so long.

    Example:
        >>> [len(part) for part in split(np.zeros(10, np.float32), 4)]
        [4, 3, 3]
    """
    return np.array_split(samples, -(-len(samples) // most))


class AudioEncoder(HubEncoder):
    """A sound encoder with a feature extractor of transformers.

    Args:
        entry: of the catalogue, with the rate.
        modality: `audio`.
        weights: local copy of the weights, or None.
    """

    shortest: ClassVar[int] = 400
    """Samples that the first frame needs."""

    @property
    def rate(self) -> int:
        """Samples per second that the model hears."""
        if self.entry.rate is None:
            raise ValueError(f"the catalogue gives {self.id!r} no rate")
        return self.entry.rate

    def preprocessing(self) -> Mapping[str, object]:
        """List rate and loudness."""
        return {"rate": self.rate, "loudness": "peak", **AUDIO_READING}

    def samples(self, clip: ClipMedia) -> NDArray[np.float32]:
        """Read the clip's sound; raises `MissingModality` or `EncodingError`, the latter also where it is too short."""
        samples = clip.audio(self.rate)
        if len(samples) < self.shortest:
            milliseconds, least = (1000 * number / self.rate for number in (len(samples), self.shortest))
            raise EncodingError(f"{milliseconds:.0f} ms of audio, too short for {self.id} (at least {least:.0f} ms)")
        return samples

    @cached_property
    def extractor(self) -> Any:
        """The model's own feature extractor."""
        from transformers import AutoFeatureExtractor

        return self.processor(AutoFeatureExtractor)

    def extract(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Tell what the feature extractor makes of samples, `[1, ...]`."""
        features = self.extractor(samples, sampling_rate=self.rate, return_tensors="np")
        return np.asarray(features[self.extractor.model_input_names[0]], dtype=np.float32)


class ElementsInTime(AudioEncoder):
    """A sound encoder whose elements each stand for a span of the sound, one after the other."""

    timed_form: TimedForm | None = "sound"

    @abstractmethod
    def longest_part(self) -> int:
        """Tell the samples beyond which sound is cut into equal parts."""

    @abstractmethod
    def element_samples(self) -> int:
        """Tell the samples from one element to the next."""

    def timed_settings(self) -> Mapping[str, object]:
        """Tell which element stands at a frame."""
        return {"elements": "whose span holds the frame's moment"}

    def prepare_timed(
        self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False
    ) -> Prepared:
        """Prepare the sound as for the vector; a clip without sound has no arrays."""
        try:
            return replace(self.prepare(clip), grid=grid)
        except NothingThere as reason:
            return Prepared({}, 0, f"nothing at any frame: {reason}", grid)

    def embed_timed(self, inputs: Sequence[Prepared], grids: Sequence[Grid]) -> list[Timed]:
        """Compute elements, and take for each frame the one whose span holds its moment."""
        heard = [clip for clip in inputs if clip.arrays]
        embedded = iter(self.embed(heard) if heard else ())
        return [
            self._on_grid(next(embedded), clip.length, grid) if clip.arrays else Timed.nothing(grid, self.width)
            for clip, grid in zip(inputs, grids, strict=True)
        ]

    def _on_grid(self, elements: NDArray[np.float32], num_samples: int, grid: Grid) -> Timed:
        parts = np.array_split(np.arange(num_samples), -(-num_samples // self.longest_part()))
        hop, left = self.element_samples(), len(elements)
        begins: list[NDArray[np.int64]] = []
        for index, part in enumerate(parts):  # all parts are equally long, to a sample, and have as many elements
            count = -(-left // (len(parts) - index))
            begins.append(part[0] + hop * np.arange(count))
            left -= count
        rows, state = nearest_elements(np.concatenate(begins) / self.rate, grid, hop / self.rate)
        return Timed.on(grid, elements[rows], state)


class Wav2Vec(ElementsInTime):
    """wav2vec 2.0 and HuBERT: the last hidden state, 50 frames a second.

    Samples are shifted and scaled to mean 0 and variance 1 over the clip, where the model was trained so. Sound longer
    than a minute is cut into equal parts. Models whose first layer normalises over time (`feat_extract_norm =
    "group"`) were trained without a mask and hear padding, so only sound of equal length shares a batch; the others
    are masked, which is exact.

    References:
        Baevski et al., wav2vec 2.0, NeurIPS 2020, arXiv:2006.11477.
        Hsu et al., HuBERT, 2021, arXiv:2106.07447.
    """

    longest: ClassVar[int] = 60

    def preprocessing(self) -> Mapping[str, object]:
        """List rate, loudness, and where long sound is cut."""
        return {**super().preprocessing(), "layer": "last", "longest": self.longest}

    def build(self) -> Any:
        """Make the model without its heads."""
        from transformers import AutoConfig, HubertModel, Wav2Vec2Model

        kind = self.checkpoint.open(AutoConfig).model_type
        return self.checkpoint.open_model(HubertModel if kind == "hubert" else Wav2Vec2Model)

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Prepare normalised samples `waveform` `[N]`."""
        (waveform,) = self.extract(self.samples(clip))
        return Prepared({"waveform": waveform}, len(waveform))

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        """Compute frames of each clip, `[T, width]`; the batch changes them by rounding only (1e-4 in float32)."""
        parts_by_clip = [split(clip.arrays["waveform"], self.longest * self.rate) for clip in inputs]
        parts = list(chain.from_iterable(parts_by_clip))
        made: dict[int, NDArray[np.float32]] = {}
        is_masked = self._model.config.feat_extract_norm == "layer"
        lengths = [len(part) for part in parts]
        for batch in batches(lengths, BATCH_SECONDS * self.rate):
            groups = [batch] if is_masked else [list(group) for _, group in groupby(batch, lambda i: lengths[i])]
            for group in groups:
                made.update(zip(group, self._forward([parts[index] for index in group]), strict=True))
        frames = (made[index] for index in range(len(parts)))
        return [np.concatenate([next(frames) for _ in own]) for own in parts_by_clip]

    def longest_part(self) -> int:
        """A minute."""
        return self.longest * self.rate

    def element_samples(self) -> int:
        """The strides of all layers, one after the other."""
        return int(np.prod(self._model.config.conv_stride))

    def _forward(self, parts: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        import torch

        values, mask = padded(parts)
        values = values.to(device=self.device, dtype=self._model.dtype)
        with torch.inference_mode():
            output = self._model(values, attention_mask=mask.to(self.device))
            hidden = output.last_hidden_state.float().cpu().numpy()
        config = self._model.config
        counts = np.array([len(part) for part in parts])
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            counts = (counts - kernel) // stride + 1
        return [hidden[row, :count] for row, count in enumerate(counts)]
