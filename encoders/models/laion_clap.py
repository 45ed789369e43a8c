"""CLAP through the library of its authors, laion-clap, from their own checkpoint.

The library fetches the tokenizers of `bert-base-uncased`, `roberta-base` and `facebook/bart-base` when it is imported,
and the weights of `roberta-base` when its model is made; it is imported only where weights are loaded.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.catalogue.checkpoint import is_offline
from encoders.device import Prepared
from encoders.errors import ExtractionError
from encoders.media.clip import ClipMedia
from encoders.models.audio import AudioEncoder
from encoders.models.text import TextModel, has_vocabulary
from encoders.models.windowed_audio import BATCH_WINDOWS, CLAP_SETTINGS, same_crops

__all__ = ["LaionClapAudio", "LaionClapText"]

_ROBERTA = "roberta-base"
_MAX_TOKENS = 77
_SECONDS = 10
"""Of sound in a window."""
_STEPS_REPEATED = 32
"""The library repeats each of the 32 steps of time this often."""


def import_laion_clap(encoder_id: str) -> ModuleType:
    """Import laion-clap, and take its folder off the path again, where its `training` and `evaluate` would hide others.

    Raises:
        ExtractionError: what it fetches is not here and cannot be fetched.
    """
    path = list(sys.path)
    try:
        return importlib.import_module("laion_clap")
    except (OSError, ValueError, TypeError) as error:
        raise ExtractionError(_missing(encoder_id, error)) from error
    finally:
        sys.path[:] = path


def create_clap(encoder_id: str, weights: Path) -> Any:
    """Make the fused CLAP with a checkpoint's weights, which are read as tensors and plain numbers only.

    Raises:
        ExtractionError: the library's tokenizers or text weights are not here, or the checkpoint does not fit.
    """
    import torch

    library = import_laion_clap(encoder_id)
    try:
        module = library.CLAP_Module(enable_fusion=True, device="cpu")
    except (OSError, ValueError) as error:
        raise ExtractionError(_missing(encoder_id, error)) from error
    numbers = [np.core.multiarray.scalar, np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]  # type: ignore[attr-defined]
    with torch.serialization.safe_globals(numbers):
        checkpoint = torch.load(weights, map_location="cpu", weights_only=True)
    state = {key.removeprefix("module."): value for key, value in checkpoint.get("state_dict", checkpoint).items()}
    state.pop("text_branch.embeddings.position_ids", None)  # computed, no longer kept
    try:
        module.model.load_state_dict(state)
    except RuntimeError as error:
        raise ExtractionError(f"encoder {encoder_id!r}: {weights} does not fit laion-clap: {error}") from error
    return module


def _missing(encoder_id: str, error: Exception) -> str:
    state = "HF_HUB_OFFLINE is set" if is_offline() else "the hub cannot be reached"
    return (
        f"encoder {encoder_id!r}: laion-clap reads the tokenizers of bert-base-uncased, roberta-base and "
        f"facebook/bart-base and the weights of roberta-base (about 500 MB) from the hub; they are not all in the "
        f"local cache and {state}. Run `hf download` for the three where there is a network and bring the cache along "
        f"(HF_HOME). {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    )


class LaionClapAudio(AudioEncoder):
    """The audio branch before its projection, averaged over frequency, 32 steps of time a clip.

    The same sound as for `laion/clap-htsat-fused`: repeated to fill 10 s, or fused where longer; samples are rounded
    to 16 bits first, as the library does. From the same weights the two give the same pooled embedding up to 10 s
    (1e-4); beyond, they squeeze the whole sound into 10 s differently (here with antialiasing) and differ.

    Args:
        entry: of the catalogue.
        modality: `audio`.
        weights: local checkpoint file, or None.
    """

    config_width = None
    shortest = 1

    def preprocessing(self) -> Mapping[str, object]:
        """List rate, loudness, and how long sound is fused."""
        return {**super().preprocessing(), **CLAP_SETTINGS}

    def build(self) -> Any:
        """Make the audio branch."""
        module = create_clap(self.id, self.weights_path())
        branch = module.model.audio_branch
        branch.spectrogram_settings = module.model_cfg["audio_cfg"]
        return branch

    def model_width(self, model: Any) -> int:
        """Tell the channels after the last stage."""
        return int(model.num_features)

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Prepare samples of 16 bits, `waveform` `[N]`; the library that makes spectrograms comes with the weights."""
        samples = np.clip(self.samples(clip), -1.0, 1.0)
        return Prepared({"waveform": (samples * 32767).astype(np.int16)}, len(samples))

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        """Steps of each clip, `[32, 768]`; the batch changes them by rounding only (1e-4 in float32)."""
        import torch

        results: list[NDArray[np.float32]] = []
        dtype = getattr(torch, self.dtype)
        for first in range(0, len(inputs), BATCH_WINDOWS):
            made = [self._spectrograms(clip.arrays["waveform"]) for clip in inputs[first : first + BATCH_WINDOWS]]
            batch = {
                "mel_fusion": torch.stack([clip_inputs["mel_fusion"] for clip_inputs in made]).to(self.device, dtype),
                "longer": torch.stack([clip_inputs["longer"] for clip_inputs in made]),
            }
            with torch.inference_mode():
                steps = self._model(batch, device=self.device)["fine_grained_embedding"][:, ::_STEPS_REPEATED]
            results.extend(steps.float().cpu().numpy())
        return results

    def _spectrograms(self, waveform: NDArray[np.int16]) -> Mapping[str, Any]:
        import torch

        settings = self._model.spectrogram_settings
        samples, longest = torch.from_numpy((waveform / 32767.0).astype(np.float32)), _SECONDS * self.rate
        if len(samples) < longest:
            samples = samples.repeat(longest // len(samples))
            samples = torch.nn.functional.pad(samples, (0, longest - len(samples)))
        mel, window = log_mel(samples, settings), longest // settings["hop_size"] + 1
        longer = len(mel) > window
        if not longer:
            return {"mel_fusion": torch.stack([mel] * 4), "longer": torch.tensor([False])}
        thirds = np.array_split(np.arange(len(mel) - window + 1), 3)
        with same_crops():
            first = [int(np.random.choice(third)) if len(third) else 0 for third in thirds]  # noqa: NPY002
        whole = torch.nn.functional.interpolate(
            mel[None, None], size=(window, mel.shape[1]), mode="bilinear", antialias=True
        )[0, 0]
        crops = [mel[begin : begin + window] for begin in first]
        return {"mel_fusion": torch.stack([whole, *crops]), "longer": torch.tensor([True])}


def log_mel(samples: Any, settings: Mapping[str, Any]) -> Any:
    """Compute the log-mel spectrogram `[T, mel_bins]` in decibels (power, above 1e-10) of a tensor of samples `[N]`.

    The library leaves this to torchaudio, which it does not ask for: Hann windows, reflected at both ends, filters on
    the HTK scale without normalisation.

    Args:
        samples: in [-1, 1].
        settings: the library's `audio_cfg`: `sample_rate`, `window_size`, `hop_size`, `mel_bins`, `fmin`, `fmax`.
    """
    import torch
    from transformers.audio_utils import mel_filter_bank

    size = settings["window_size"]
    spectrum = torch.stft(samples, size, settings["hop_size"], window=torch.hann_window(size), return_complex=True)
    filters = mel_filter_bank(
        size // 2 + 1, settings["mel_bins"], settings["fmin"], settings["fmax"], settings["sample_rate"],
        norm=None, mel_scale="htk",
    )  # fmt: skip
    power = spectrum.abs().square().T @ torch.from_numpy(filters).float()
    return 10 * power.clamp(min=1e-10).log10()


class LaionClapText(TextModel):
    """Token embeddings of the text branch (RoBERTa) before its projection, in windows of the library's 77 tokens.

    Args:
        entry: of the catalogue.
        modality: `text` reads the transcript, `behavior` the description.
        weights: local checkpoint file, or None.
    """

    config_width = None
    timed_layers: ClassVar[int] = 1

    def preprocessing(self) -> Mapping[str, object]:
        """Tell which text is read, and in windows of how many tokens."""
        return {**super().preprocessing(), "max_tokens": _MAX_TOKENS, "tokenizer": _ROBERTA}

    def build(self) -> Any:
        """Make the text branch."""
        return create_clap(self.id, self.weights_path()).model.text_branch

    @cached_property
    def _tokenizer(self) -> tuple[Any, int]:
        from transformers import RobertaTokenizer

        try:
            tokenizer = RobertaTokenizer.from_pretrained(_ROBERTA, local_files_only=is_offline())
        except (OSError, ValueError, TypeError) as error:
            raise ExtractionError(_missing(self.id, error)) from error
        if not has_vocabulary(tokenizer):
            raise ExtractionError(_missing(self.id, FileNotFoundError("roberta-base has no vocabulary")))
        return tokenizer, _MAX_TOKENS
