"""Encoder `vggish`: the convolutional network of AudioSet's embeddings, from the weights that torchvggish published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.device import Prepared
from encoders.errors import EncodingError
from encoders.media.clip import ClipMedia
from encoders.models.windowed_audio import WindowedAudioEncoder

__all__ = ["NUM_FRAMES", "VGGish"]

NUM_FRAMES = 96
"""Spectrogram frames of one embedding, 10 ms apart."""
_WINDOW, _HOP, _FFT, _NUM_MEL = 400, 160, 512, 64
_CHANNELS: Sequence[int | None] = (64, None, 128, None, 256, 256, None, 512, 512, None)
"""Output channels of 3x3 convolutions; None halves height and width."""
_DENSE = (4096, 4096, 128)
"""Outputs of the dense layers."""


class VGGish(WindowedAudioEncoder):
    """VGGish: one embedding for every full 0.96 s, 128 wide, after the last rectifier, not whitened, not quantised.

    The spectrogram is `log(mel + 0.01)` of magnitudes, 64 bands from 125 to 7500 Hz, windows of 25 ms. A clip shorter
    than one embedding is continued with silence.

    Args:
        entry: of the catalogue.
        modality: `audio`.
        weights: local file with the state of the network, or None.

    References:
        Hershey et al., CNN architectures for large-scale audio classification, ICASSP 2017, arXiv:1609.09430.
    """

    config_width = None

    def preprocessing(self) -> Mapping[str, object]:
        """List rate, loudness, and what is left out of AudioSet's own embeddings."""
        return {**super().preprocessing(), "whitened": False, "short": "silence"}

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
        num_windows = len(spectrogram) // NUM_FRAMES
        windows = spectrogram[: num_windows * NUM_FRAMES].reshape(num_windows, 1, NUM_FRAMES, _NUM_MEL)
        return Prepared({"windows": windows, "counts": np.ones(num_windows, dtype=np.int64)}, len(samples), note)

    def frames(self, windows: Any) -> Any:
        """Compute one embedding a window, `[B, 1, 128]`; the dense layers take channels last."""
        maps = self._model["features"](windows)
        return self._model["embeddings"](maps.permute(0, 2, 3, 1).flatten(1)).unsqueeze(1)


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
