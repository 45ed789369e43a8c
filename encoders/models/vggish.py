"""Encoder `vggish`: the convolutional network of AudioSet's embeddings, from the weights that torchvggish published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.base import TimedForm, Watcher
from encoders.catalogue.entry import CatalogueEntry
from encoders.config import VGGishConfig
from encoders.device import Prepared
from encoders.errors import EncodingError, NothingThere
from encoders.media.clip import ClipMedia
from encoders.models.windowed_audio import WindowedAudioEncoder
from encoders.timed import MEASURED, REPEATED, Grid, Timed

__all__ = ["BATCH_TIMED", "NUM_FRAMES", "VGGish"]

NUM_FRAMES = 96
"""Spectrogram frames of one embedding, 10 ms apart."""
BATCH_TIMED = 64
"""Most windows in one forward pass for values in time, of which there are as many as frames."""
_WINDOW, _HOP, _FFT, _NUM_MEL = 400, 160, 512, 64
_CHANNELS: Sequence[int | None] = (64, None, 128, None, 256, 256, None, 512, 512, None)
"""Output channels of 3x3 convolutions; None halves height and width."""
_DENSE = (4096, 4096, 128)
"""Outputs of the dense layers."""


class VGGish(WindowedAudioEncoder):
    """VGGish: one embedding for every full 0.96 s, 128 wide, after the last rectifier, not whitened, not quantised.

    The spectrogram is `log(mel + 0.01)` of magnitudes, 64 bands from 125 to 7500 Hz, windows of 25 ms. A clip shorter
    than one embedding is continued with silence.

    In time there is an embedding for every frame, of the 96 spectrogram frames from `round(100 i / rate)` on, before
    the last rectifier: it looks 0.96 s ahead. The sound is continued for a second with its last sample; frames beyond
    repeat the last embedding.

    Args:
        entry: of the catalogue.
        modality: `audio`.
        weights: local file with the state of the network, or None.
        settings: seconds between embeddings, and the last rectifier.

    References:
        Hershey et al., CNN architectures for large-scale audio classification, ICASSP 2017, arXiv:1609.09430.
    """

    config_width = None
    timed_form: TimedForm | None = "sound"

    def __init__(
        self, entry: CatalogueEntry, modality: str, weights: str | None = None, *, vggish: VGGishConfig | None = None
    ) -> None:
        super().__init__(entry, modality, weights)
        self._options = vggish or VGGishConfig()

    def preprocessing(self) -> Mapping[str, object]:
        """List rate, loudness, what is left out of AudioSet's own embeddings, and settings that are not the usual."""
        options = self._options
        hop = {} if options.hop == NUM_FRAMES / 100 else {"hop": options.hop}
        rectifier = {} if options.last_rectifier is not False else {"last_rectifier": False}
        return {**super().preprocessing(), "whitened": False, "short": "silence", **hop, **rectifier}

    def timed_settings(self) -> Mapping[str, object]:
        """Tell where windows begin, what the sound ends with, and whether the last rectifier is there."""
        return {
            "windows": "from the frame on", "tail": "1 s of the last sample, then repeated",
            "last_rectifier": self._options.last_rectifier is True,
        }  # fmt: skip

    def build(self) -> Any:
        """Make the network, with weights read as tensors only."""
        import torch

        state = torch.load(self.weights_path(), map_location="cpu", weights_only=True)
        model = network()
        model.load_state_dict(state)
        return model

    def model_width(self, model: Any) -> int:
        """Tell the outputs of the last layer."""
        return int(model["embeddings"][-2].out_features)

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Prepare spectrograms `windows` `[n, 1, 96, 64]`; each gives one embedding."""
        samples = self.samples(clip)
        least = (NUM_FRAMES - 1) * _HOP + _WINDOW
        note = None
        if len(samples) < least:
            note = f"{1000 * len(samples) / self.rate:.0f} ms of audio, continued with silence to {least // 16} ms"
            samples = np.pad(samples, (0, least - len(samples)))
        spectrogram = log_mel(samples, self.rate)
        starts = np.arange(0, len(spectrogram) - NUM_FRAMES + 1, round(100 * self._options.hop))
        windows = _windows(spectrogram, starts)
        num_windows = len(windows)
        return Prepared({"windows": windows, "counts": np.ones(num_windows, dtype=np.int64)}, len(samples), note)

    def frames(self, windows: Any) -> Any:
        """Compute one embedding a window, `[B, 1, 128]`."""
        return self._embedded(windows, self._options.last_rectifier is not False).unsqueeze(1)

    def _embedded(self, windows: Any, last_rectifier: bool) -> Any:
        """Compute embeddings `[B, 128]`; the dense layers take channels last."""
        maps = self._model["features"](windows)
        dense = self._model["embeddings"]
        return (dense if last_rectifier else dense[:-1])(maps.permute(0, 2, 3, 1).flatten(1))

    def prepare_timed(
        self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False
    ) -> Prepared:
        """Prepare the spectrogram `[F, 64]`, where the window of each frame begins, and states; nothing of no sound."""
        try:
            samples = self.samples(clip)
        except NothingThere as reason:
            return Prepared({}, 0, f"nothing at any frame: {reason}", grid)
        spectrogram = log_mel(np.pad(samples, (0, self.rate), mode="edge"), self.rate)
        starts = np.minimum(grid.hundredths(), len(spectrogram) - NUM_FRAMES)
        state = np.where(grid.seconds < len(samples) / self.rate, MEASURED, REPEATED).astype(np.int8)
        return Prepared({"spectrogram": spectrogram, "starts": starts, "state": state}, grid.length, None, grid)

    def embed_timed(self, inputs: Sequence[Prepared], grids: Sequence[Grid]) -> list[Timed]:
        """Compute the embedding of every frame."""
        return [self._in_time(clip, grid) for clip, grid in zip(inputs, grids, strict=True)]

    def _in_time(self, clip: Prepared, grid: Grid) -> Timed:
        import torch

        if not clip.arrays:
            return Timed.nothing(grid, self.width)
        starts, rows = np.unique(clip.arrays["starts"], return_inverse=True)
        made = []
        for first in range(0, len(starts), BATCH_TIMED):
            windows = _windows(clip.arrays["spectrogram"], starts[first : first + BATCH_TIMED])
            batch = torch.from_numpy(windows).to(device=self.device, dtype=getattr(torch, self.dtype))
            with torch.inference_mode():
                made.append(self._embedded(batch, self._options.last_rectifier is True).float().cpu().numpy())
        return Timed.on(grid, np.concatenate(made)[rows], clip.arrays["state"])


def _windows(spectrogram: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cut windows `[n, 1, 96, 64]` that begin at some frames of a spectrogram."""
    return spectrogram[starts[:, None] + np.arange(NUM_FRAMES)][:, None]


def network() -> Any:
    """Make VGGish without weights, its layers named as in the published state."""
    from torch import nn

    features: list[nn.Module] = []
    channels = 1
    for width in _CHANNELS:
        if width is None:
            features.append(nn.MaxPool2d(2))
        else:
            features += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    dense: list[nn.Module] = []
    inputs = channels * (NUM_FRAMES // 16) * (_NUM_MEL // 16)
    for width in _DENSE:
        dense += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.ModuleDict({"features": nn.Sequential(*features), "embeddings": nn.Sequential(*dense)})


def log_mel(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Compute the log mel spectrogram `[T, 64]`: frames of 25 ms each 10 ms, none of them beyond the sound's ends."""
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    if rate != 16_000:
        raise EncodingError(f"VGGish hears 16000 samples per second, not {rate}")
    filters = mel_filter_bank(
        1 + _FFT // 2, _NUM_MEL, 125.0, 7500.0, rate, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    mel = spectrogram(
        samples, window_function(_WINDOW, "hann"), _WINDOW, _HOP, fft_length=_FFT, power=1.0, center=False,
        mel_filters=filters, mel_floor=0.0,
    )  # fmt: skip
    return np.log(mel.T + 0.01).astype(np.float32)
