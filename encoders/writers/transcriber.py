"""Transcripts by Whisper, with language and the seconds of each word.

Sound longer than the model hears at once (30 s) is cut into windows that follow one another without overlap, each at
the quietest moment of its last third; so a clip's transcript depends on nothing but its own sound. The first windows
of all clips of a batch are transcribed together, then their second windows, and so on.

Shapes: B clips in a batch, N tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.catalogue.checkpoint import Checkpoint
from encoders.config import TranscriberConfig
from encoders.errors import ExtractionError, Failure
from encoders.media.audio import AUDIO_READING
from encoders.media.clip import ClipMedia
from encoders.store.text_store import Word, Written
from encoders.writers.base import TextWriter
from encoders.writers.word_times import align, group_words
from mmpsr.config import ConfigError, nearest

__all__ = ["RATE", "Transcriber", "split_windows"]

RATE = 16_000
"""Samples per second that Whisper hears."""
NO_SPEECH = 0.6
"""Above this probability of no speech a window is silent, if the model also doubts what it wrote."""
DOUBT = -1.0
"""Mean log probability of a window's tokens below which the model doubts them."""

_QUIET_SECONDS = 0.2


def split_windows(samples: NDArray[np.float32], longest: int) -> list[tuple[int, int]]:
    """Spans of samples `(start, stop)` that cover the sound, each at most `longest` and none below a third of it.

    A sound that fits is one window; else each window ends in the quietest 0.2 s of its last third.

    Example:
        >>> sound = np.ones(50, dtype=np.float32)
        >>> sound[25] = 0.0
        >>> split_windows(sound, 30), split_windows(sound[:30], 30)
        ([(0, 25), (25, 50)], [(0, 30)])
    """
    span = max(1, min(round(_QUIET_SECONDS * RATE), longest // 30))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    spans: list[tuple[int, int]] = []
    start = 0
    while len(samples) - start > longest:
        low, high = start + 2 * longest // 3, min(start + longest, len(samples) - longest // 3)
        moments = np.arange(low, high + 1)
        loudness = energy[np.minimum(moments + (span + 1) // 2, len(samples))] - energy[moments - span // 2]
        stop = int(moments[loudness.argmin()])
        spans.append((start, stop))
        start = stop
    return [*spans, (start, len(samples))]


@dataclass
class _Heard:
    """A clip being transcribed: its windows, and what was written so far."""

    features: list[NDArray[np.float32]]
    spans: list[tuple[int, int]]
    language: int | None = None
    texts: list[str] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)


class Transcriber(TextWriter):
    """Whisper, greedy: at each step the likeliest token.

    Words get times where the checkpoint names the attention heads that follow the speech (those of OpenAI do). A
    window counts as silent by the model's own rule: a probability of no speech above 0.6, and a mean log probability
    of its tokens below -1. A clip of which all windows are silent has no transcript.

    Args:
        config: which model, which language.
        checkpoint: where its weights are.
        device: where it runs.
        dtype: its precision.

    References:
        Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, ICML 2023, arXiv:2212.04356.
    """

    kind: ClassVar[str] = "transcript"
    column: ClassVar[str] = "text"
    modality: ClassVar[str] = "audio"

    def __init__(
        self, config: TranscriberConfig, checkpoint: Checkpoint, device: str = "cpu", dtype: str = "float32"
    ) -> None:
        super().__init__(checkpoint, config.batch_size, config.overwrite, device, dtype)
        self.language = config.language

    def settings(self) -> Mapping[str, object]:
        """Weights, language, and how silence is told."""
        return {
            "weights": self.checkpoint.identity, "language": self.language, "windows": "quietest moment, no overlap",
            "no_speech": NO_SPEECH, "doubt": DOUBT, "audio": dict(AUDIO_READING),
        }  # fmt: skip

    def load(self) -> None:
        """Load model and processor.

        Raises:
            ExtractionError: they are not here and cannot be fetched, or are not Whisper's.
            ConfigError: the model does not know the language.
        """
        from transformers import WhisperForConditionalGeneration

        self.load_reader()
        model = self.checkpoint.open_model(WhisperForConditionalGeneration, self.dtype)
        self._model = model.to(self.device)
        settings = model.generation_config
        is_multilingual = getattr(settings, "is_multilingual", True)
        names = getattr(settings, "lang_to_id", None) if is_multilingual else {}
        no_timestamps = getattr(settings, "no_timestamps_token_id", None)
        if names is None or no_timestamps is None:
            raise ExtractionError(
                f"{self.checkpoint.user}: generation_config.json of {self.checkpoint.model} lacks "
                f"{'lang_to_id' if names is None else 'no_timestamps_token_id'}; it is not that of a Whisper model"
            )
        self._languages: dict[int, str] = {token: name[2:-2] for name, token in names.items()}
        self._start: int = settings.decoder_start_token_id
        self._no_timestamps: int = no_timestamps
        self._end: int = model.config.eos_token_id
        known = list(self._languages.values()) or ["en"]
        if self.language is not None and self.language not in known:
            raise ConfigError(
                f"features.transcriber.language: {self.checkpoint.model} does not know {self.language!r}; "
                f"{nearest(self.language, known)}"
            )

    def load_reader(self) -> None:
        """Load the processor."""
        from transformers import WhisperProcessor

        self._processor = self.checkpoint.open(WhisperProcessor)

    def prepare(self, clip: ClipMedia) -> _Heard:
        """Log-mel features of the clip's windows."""
        samples = clip.audio(RATE)
        extractor = self._processor.feature_extractor
        spans = split_windows(samples, extractor.n_samples)
        features = extractor([samples[start:stop] for start, stop in spans], sampling_rate=RATE, return_tensors="np")
        return _Heard(list(features["input_features"]), spans)

    def write(self, prepared: Sequence[_Heard]) -> list[Written | Failure]:
        """Transcribe clips, window by window."""
        import torch

        clips = [_Heard(clip.features, clip.spans) for clip in prepared]  # a repeated call starts anew
        with torch.inference_mode():
            for number in range(max(len(clip.spans) for clip in clips)):
                self._hear([clip for clip in clips if number < len(clip.spans)], number)
        return [self._result(clip) for clip in clips]

    def _result(self, clip: _Heard) -> Written | Failure:
        text = " ".join(text for text in clip.texts if text)
        if not text:
            return Failure("absent", "no speech recognised")
        return Written(text, self._name(clip.language), clip.words if self._heads else None)

    def _name(self, language: int | None) -> str | None:
        return "en" if language is None else self._languages[language]

    @property
    def _heads(self) -> list[list[int]]:
        """Layer and head of the attention that follows the speech."""
        return getattr(self._model.generation_config, "alignment_heads", None) or []

    def _hear(self, clips: Sequence[_Heard], number: int) -> None:
        """Transcribe one window of each clip."""
        import torch

        features = torch.from_numpy(np.stack([clip.features[number] for clip in clips]))
        sound = self._model.get_encoder()(features.to(self.device, getattr(torch, self.dtype)))
        start = torch.full((len(clips), 1), self._start, device=self.device)
        first = self._model(encoder_outputs=sound, decoder_input_ids=start, use_cache=False).logits[:, -1].float()
        silence = first.softmax(dim=-1)[:, self._no_timestamps - 1].tolist()
        asked: dict[str, Any] = {}
        if self._languages:
            spoken = list(self._languages)
            for clip, found in zip(clips, first[:, spoken].argmax(dim=-1).tolist(), strict=True):
                if clip.language is None:
                    clip.language = spoken[found]
                if self.language is not None:
                    clip.language = spoken[list(self._languages.values()).index(self.language)]
            asked = {"language": [f"<|{self._name(clip.language)}|>" for clip in clips], "task": "transcribe"}
        written = self._model.generate(
            encoder_outputs=sound, do_sample=False, num_beams=1, return_timestamps=False, **asked
        )
        tokens = [[token for token in row if token < self._end] for row in written.tolist()]
        doubts, attention = self._review(sound, [clip.language for clip in clips], tokens)
        decode = self._processor.tokenizer.decode
        for index, (clip, ids) in enumerate(zip(clips, tokens, strict=True)):
            if not ids or (silence[index] > NO_SPEECH and doubts[index] < DOUBT):
                continue
            clip.texts.append(decode(ids).strip())
            if self._heads:
                begin, end = (place / RATE for place in clip.spans[number])
                clip.words += self._words(ids, attention[index], self._name(clip.language), begin, end)

    def _review(
        self, sound: Any, languages: Sequence[int | None], tokens: Sequence[list[int]]
    ) -> tuple[list[float], list[NDArray[np.float32]]]:
        """Read what was written once more: mean log probability of each row, and where each token looks `[H, N+1, F]`.

        A row's result does not depend on the others, which generation's own attention would (it runs on past the end
        of shorter rows).
        """
        import torch

        task = self._model.generation_config.task_to_id["transcribe"] if self._languages else None
        heads = [
            [self._start, *([] if language is None else [language, task]), self._no_timestamps]
            for language in languages
        ]
        rows = [head + ids for head, ids in zip(heads, tokens, strict=True)]
        longest = max(len(row) for row in rows)
        padded = torch.tensor([row + [self._end] * (longest - len(row)) for row in rows], device=self.device)
        attends = self._model.config._attn_implementation
        self._model.set_attn_implementation("eager")  # the others do not tell their weights
        try:
            read = self._model(
                encoder_outputs=sound, decoder_input_ids=padded, use_cache=False, output_attentions=bool(self._heads)
            )
        finally:
            self._model.set_attn_implementation(attends)
        doubts, attention = [], []
        for index, (head, ids) in enumerate(zip(heads, tokens, strict=True)):
            span = slice(len(head) - 1, len(head) + len(ids))
            chosen = torch.tensor([*ids, self._end], device=self.device)
            logits = read.logits[index, span].float().log_softmax(dim=-1)
            doubts.append(float(logits.gather(1, chosen[:, None]).mean()))
            if self._heads:
                looks = [read.cross_attentions[layer][index, place, span] for layer, place in self._heads]
                attention.append(torch.stack(looks).float().cpu().numpy())
        return doubts, attention

    def _words(
        self, tokens: list[int], attention: NDArray[np.float32], language: str | None, begin: float, end: float
    ) -> list[Word]:
        """Words of a window with their seconds, from the beginning of the clip."""
        num_frames = attention.shape[-1]
        step = self._processor.feature_extractor.n_samples / RATE / num_frames
        used = max(1, min(num_frames, int(np.ceil((end - begin) / step))))
        first = align(attention[..., :used])
        seconds = (begin + first * step).round(2).tolist()
        decode = self._processor.tokenizer.decode
        return [(word, seconds[start], seconds[stop]) for word, start, stop in group_words(tokens, decode, language)]
