"""Answers of a vision-language model to one question about each clip, and how likely it finds given answers.

Shapes: B clips, L tokens, N tokens of an answer, V words of the vocabulary.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from encoders.catalogue.checkpoint import Checkpoint
from encoders.errors import Failure
from encoders.media.clip import ClipMedia
from encoders.spec import source_of
from encoders.store.text_store import Written
from encoders.writers.chat import LONGEST_SIDE, ChatWriter, Frames
from mmpsr.files import sha256_of

__all__ = ["NUM_FRAMES", "TRANSCRIPT", "AnswerLikelihoods", "Answerer", "Question"]

TRANSCRIPT = "{transcript}"
"""What stands in a question where a clip's transcript goes."""
NUM_FRAMES = 8
"""Frames of a clip that a model is shown with a question."""


@dataclass(frozen=True)
class Question:
    """What is asked of every clip.

    Attributes:
        text: the prompt, with `TRANSCRIPT` where the transcript goes, if anywhere.
        without_transcript: what a clip without transcript is asked; the prompt itself where it holds no transcript.
    """

    text: str
    without_transcript: str

    @property
    def reads_transcript(self) -> bool:
        """Whether the prompt holds the transcript."""
        return TRANSCRIPT in self.text

    def of(self, transcript: str | None) -> str:
        """Write out the prompt of one clip; the transcript goes in as it is, whatever signs it holds.

        Example:
            >>> Question("They say: {transcript}. Happy?", "Happy?").of(" so {transcript} {} ")
            'They say: so {transcript} {}. Happy?'
        """
        spoken = (transcript or "").strip()
        return self.text.replace(TRANSCRIPT, spoken) if spoken else self.without_transcript


class _Asked(NamedTuple):
    frames: Frames
    prompt: str


class _Questioned(ChatWriter):
    """A model that is asked a question about clips.

    Args:
        question: what is asked.
        checkpoint: where the weights are.
        batch_size: clips asked about at once, and the most that a kill can cost.
        num_frames: evenly spaced frames of a clip; of a clip with fewer the last is repeated.
        device: where the model runs.
        dtype: its precision.
    """

    column: ClassVar[str] = "answer"

    def __init__(
        self,
        question: Question,
        checkpoint: Checkpoint,
        batch_size: int = 8,
        num_frames: int = NUM_FRAMES,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        super().__init__(checkpoint, batch_size, num_frames, device, dtype)
        self.question = question

    def settings(self) -> Mapping[str, object]:
        """List weights, prompts and frames."""
        return {
            "weights": self.checkpoint.identity, "prompt": self.question.text,
            "without_transcript": self.question.without_transcript, "num_frames": self.num_frames,
            "longest_side": LONGEST_SIDE,
        }  # fmt: skip

    def source(self, clip: Mapping[str, Any]) -> str:
        """Compute twelve hexadecimal digits over what is seen, and over the transcript where the question holds it."""
        parts = [source_of(clip, "video")]
        if self.question.reads_transcript:
            parts.append((clip["text"] or "").strip())
        return sha256_of(json.dumps(parts))[:12]

    def prepare(self, clip: ClipMedia) -> _Asked:
        """Prepare frames and prompt of a clip."""
        frames = self.frames(clip)
        frames += [frames[-1]] * (self.num_frames - len(frames))
        return _Asked(frames, self.question.of(clip.text))

    def _inputs(self, prepared: Sequence[_Asked]) -> Any:
        return self.inputs([asked.frames for asked in prepared], [asked.prompt for asked in prepared])


class Answerer(_Questioned):
    """Writes what a model answers, greedy and without its own penalties, in at most `max_new_tokens` tokens.

    Args:
        max_new_tokens: of an answer.

    References:
        Lin et al. 2024, Video-LLaVA, arXiv:2311.10122. Bai et al. 2025, Qwen2.5-VL, arXiv:2502.13923.
    """

    kind: ClassVar[str] = "answer"

    def __init__(self, *args: Any, max_new_tokens: int = 8, **options: Any) -> None:
        super().__init__(*args, **options)
        self.max_new_tokens = max_new_tokens

    def settings(self) -> Mapping[str, object]:
        """List weights, prompts, frames, and length of the answer."""
        return {**super().settings(), "max_new_tokens": self.max_new_tokens}

    def write(self, prepared: Sequence[_Asked]) -> list[Written | Failure]:
        """Answer about clips in one generation, padded on the left."""
        tokens = self.generate(self._inputs(prepared), self.max_new_tokens, repetition_penalty=1.0)
        texts = [self.text_of(each)[0] for each in tokens]
        return [Written(text) if text else Failure("failed", "the model wrote nothing") for text in texts]


class AnswerLikelihoods(_Questioned):
    """Writes how likely a model finds each of several answers: log-likelihoods, as a JSON list in their order.

        log p(answer | frames, prompt) = sum_n log softmax(logits_{n-1})[token_n]

    over the N tokens of the answer as the model's tokenizer cuts it, without a sign for its end.

    Args:
        answers: at least two, none of them blank.
    """

    kind: ClassVar[str] = "likelihood"

    def __init__(self, *args: Any, answers: Sequence[str], **options: Any) -> None:
        super().__init__(*args, **options)
        self.answers = tuple(answers)

    def settings(self) -> Mapping[str, object]:
        """List weights, prompts, frames, and answers."""
        return {**super().settings(), "answers": list(self.answers)}

    def write(self, prepared: Sequence[_Asked]) -> list[Written | Failure]:
        """Read each answer behind the prompts of clips, one pass an answer."""
        inputs = self._inputs(prepared)
        tokenizer = self._processor.tokenizer
        values = [self._log_likelihoods(inputs, tokenizer(text, add_special_tokens=False)["input_ids"])
                  for text in self.answers]  # fmt: skip
        return [Written(json.dumps(row)) for row in zip(*values, strict=True)]

    def _log_likelihoods(self, inputs: Any, tokens: Sequence[int]) -> list[float]:
        """Compute the log-likelihood of an answer of N tokens for each clip."""
        import torch

        asked = inputs["input_ids"]
        answer_BN = torch.tensor(tokens, device=asked.device).expand(len(asked), -1)
        read = {
            name: torch.cat([value, torch.zeros_like(answer_BN, dtype=value.dtype)], dim=1)  # plain text
            if value.shape == asked.shape
            else value
            for name, value in inputs.items()
        }
        read["input_ids"] = torch.cat([asked, answer_BN], dim=1)
        read["attention_mask"][:, -len(tokens) :] = 1
        number = len(tokens)
        is_selective = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        with torch.inference_mode():
            found = self._model(**read, use_cache=False, **({"logits_to_keep": number + 1} if is_selective else {}))
            logits_BNV = found.logits[:, -number - 1 : -1].float().log_softmax(dim=-1)
        chosen_BN = logits_BNV.gather(2, answer_BN[..., None])[..., 0]
        return chosen_BN.double().sum(dim=1).tolist()  # type: ignore[no-any-return]
