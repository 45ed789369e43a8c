"""Sound encoders from a hub that see windows of one size: AST, Whisper's encoder, and CLAP's audio branch.

Longer sound is cut into equal windows that fit, and what stands for padding is left out of the result.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.device import Prepared
from encoders.media.clip import ClipMedia
from encoders.models.audio import AudioEncoder, ElementsInTime, split

__all__ = ["AST", "BATCH_WINDOWS", "CLAP_SETTINGS", "ClapAudio", "Whisper", "WindowedAudioEncoder", "same_crops"]

BATCH_WINDOWS = 16
"""Most windows in one forward pass."""
CLAP_SETTINGS: Mapping[str, object] = {
    "projected": False, "longer": "fusion", "crops": "fixed", "shorter": "repeat",
}  # fmt: skip
"""What CLAP makes of sound through either library."""


@contextmanager
def same_crops() -> Iterator[None]:
    """Make numpy's global random numbers always the same within; after, they go on as if nothing had happened."""
    state = np.random.get_state()  # noqa: NPY002  what the libraries draw from
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


class WindowedAudioEncoder(AudioEncoder):
    """A sound encoder that sees windows of one size; subclasses make the windows and run the model on a batch."""

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        """Compute frames of each clip, `[T, width]`: of all its windows, those that are sound and not padding.

        Windows have one size, so a batch needs no padding; it changes results by rounding only (1e-4 in float32).
        """
        import torch

        windows = [window for clip in inputs for window in clip.arrays["windows"]]
        made: list[NDArray[np.float32]] = []
        for first in range(0, len(windows), BATCH_WINDOWS):
            batch = torch.from_numpy(np.stack(windows[first : first + BATCH_WINDOWS]))
            batch = batch.to(device=self.device, dtype=getattr(torch, self.dtype))
            with torch.inference_mode():
                made.extend(self.frames(batch).float().cpu().numpy())
        rows = iter(made)
        return [np.concatenate([next(rows)[:count] for count in clip.arrays["counts"]]) for clip in inputs]

    @abstractmethod
    def frames(self, windows: Any) -> Any:
        """Compute embeddings `[B, T, width]` of windows `[B, ...]`, both tensors."""


class AST(WindowedAudioEncoder, ElementsInTime):
    """Audio spectrogram transformer: the last hidden state's patches averaged over frequency, a row each 100 ms.

    A window holds 10.24 s. Rows whose patch begins in the padding are left out.

    References:
        Gong et al., AST: audio spectrogram transformer, Interspeech 2021, arXiv:2104.01778.
    """

    architecture = "ASTModel"

    def preprocessing(self) -> Mapping[str, object]:
        """List rate, loudness, and what is averaged."""
        return {**super().preprocessing(), "layer": "last", "patches": "mean over frequency"}

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Prepare spectrograms `windows` `[n, frames, mel]`, and the rows of each that are sound, `counts` `[n]`."""
        samples = self.samples(clip)
        config, hop = self._config, self.rate // 100
        parts = split(samples, self.extractor.max_length * hop)
        windows = np.concatenate([self.extract(part) for part in parts])
        counts = [(len(part) - self.shortest) // hop // config.time_stride + 1 for part in parts]  # or all there are
        return Prepared({"windows": windows, "counts": np.array(counts)}, len(samples))

    def frames(self, windows: Any) -> Any:
        """Compute patches averaged over frequency; they are ordered by frequency, then time."""
        config = self._model.config
        num_rows = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        patches = self._model(windows).last_hidden_state[:, 2:]
        return patches.unflatten(1, (num_rows, -1)).mean(dim=1)

    def longest_part(self) -> int:
        """The samples of a window."""
        return int(self.extractor.max_length) * (self.rate // 100)

    def element_samples(self) -> int:
        """The samples between patches."""
        return int(self._config.time_stride) * (self.rate // 100)

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return self.checkpoint.open(AutoConfig)


class Whisper(WindowedAudioEncoder, ElementsInTime):
    """Encoder of Whisper: its last hidden state, 50 frames a second, without those that stand for padding.

    A window holds 30 s.

    References:
        Radford et al., Robust speech recognition via large-scale weak supervision, 2022, arXiv:2212.04356.
    """

    architecture, part = "WhisperModel", "encoder"
    config_width: ClassVar[tuple[str, ...]] = ("d_model",)

    def preprocessing(self) -> Mapping[str, object]:
        """List rate, loudness, and the layer."""
        return {**super().preprocessing(), "layer": "last of the encoder", "padding": "left out"}

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Prepare spectrograms `windows` `[n, mel, frames]`, and the frames of each that are sound, `counts` `[n]`."""
        samples = self.samples(clip)
        parts = split(samples, self.extractor.n_samples)
        windows = np.concatenate([self.extract(part) for part in parts])
        counts = [-(-len(part) // (2 * self.extractor.hop_length)) for part in parts]  # the encoder halves the frames
        return Prepared({"windows": windows, "counts": np.array(counts)}, len(samples))

    def frames(self, windows: Any) -> Any:
        """Compute the encoder's last hidden state."""
        return self._model(windows).last_hidden_state

    def longest_part(self) -> int:
        """The samples of a window."""
        return int(self.extractor.n_samples)

    def element_samples(self) -> int:
        """Two frames of the spectrogram, which the encoder halves."""
        return 2 * int(self.extractor.hop_length)


class ClapAudio(WindowedAudioEncoder):
    """CLAP's audio branch (HTS-AT with feature fusion) before its projection, averaged over frequency.

    One window per clip whatever its length, as in the publication. Up to 10 s: the sound repeated to fill 10 s, no
    fusion. Longer: the whole sound squeezed into 10 s, fused with three stretches of 10 s from its beginning, middle
    and end; where they lie depends on the length alone. The mean over a clip's rows is CLAP's own pooled embedding.

    References:
        Wu et al., Large-scale contrastive language-audio pretraining, ICASSP 2023, arXiv:2211.06687.
    """

    architecture, part = "ClapModel", "audio_model"
    config_width: ClassVar[tuple[str, ...]] = ("audio_config", "hidden_size")
    shortest: ClassVar[int] = 1

    def preprocessing(self) -> Mapping[str, object]:
        """List rate, loudness, and how long sound is fused."""
        return {**super().preprocessing(), **CLAP_SETTINGS}

    def model_width(self, model: Any) -> int:
        """Tell the channels after the last stage."""
        return int(model.audio_encoder.num_features)

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Make four spectrograms `windows` `[1, 4, frames, mel]`; they differ where sound is longer than a window."""
        samples = self.samples(clip)
        with same_crops():
            windows = self.extract(samples)
        counts = np.full(1, np.iinfo(np.int64).max)  # all rows
        return Prepared({"windows": windows, "counts": counts}, len(samples))

    def frames(self, windows: Any) -> Any:
        """Compute the last hidden state `[B, width, frequency, time]`, averaged over frequency; time goes first."""
        is_longer = (windows[:, :1] != windows[:, 1:]).flatten(1).any(dim=1)
        output = self._model(input_features=windows, is_longer=is_longer)
        return output.last_hidden_state.mean(dim=2).transpose(1, 2)
