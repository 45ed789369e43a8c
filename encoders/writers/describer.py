"""Descriptions of behaviour by a vision-language model that sees a few frames of a clip."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from encoders.catalogue.checkpoint import Checkpoint
from encoders.config import DescriberConfig
from encoders.errors import Failure
from encoders.media.clip import ClipMedia
from encoders.store.text_store import Written
from encoders.writers.chat import LONGEST_SIDE, ChatWriter, Frames

__all__ = ["Describer", "whole_sentences"]

_SENTENCE_END = re.compile(r"""[.!?。！？…]+["'”’)\]]*(?=\s|$)|[。！？]""")


def whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence; all of it where there is none.

    Example:
        >>> whole_sentences("She smiles. Her gaze drops, then")
        'She smiles.'
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text


class Describer(ChatWriter):
    """A vision-language model that describes clips, greedy: Qwen2.5-VL, InternVL, Eagle2, Video-LLaVA and others.

    Args:
        config: which model, which prompt, how many frames.
        checkpoint: where its weights are.
        device: where it runs.
        dtype: its precision.

    References:
        Bai et al. 2025, Qwen2.5-VL, arXiv:2502.13923. Chen et al. 2024, InternVL 2.5, arXiv:2412.05271.
        Li et al. 2025, Eagle 2, arXiv:2501.14818. Lin et al. 2024, Video-LLaVA, arXiv:2311.10122.
    """

    kind: ClassVar[str] = "description"
    column: ClassVar[str] = "description"

    def __init__(
        self, config: DescriberConfig, checkpoint: Checkpoint, device: str = "cpu", dtype: str = "float32"
    ) -> None:
        super().__init__(checkpoint, config.batch_size, config.num_frames, device, dtype)
        self.config = config

    def settings(self) -> Mapping[str, object]:
        """List weights, prompt, frames, and length of the answer."""
        return {
            "weights": self.checkpoint.identity, "prompt": self.config.wording, "num_frames": self.config.num_frames,
            "longest_side": LONGEST_SIDE, "max_new_tokens": self.config.max_new_tokens,
        }  # fmt: skip

    def prepare(self, clip: ClipMedia) -> Frames:
        """Prepare the frames."""
        return self.frames(clip)

    def write(self, prepared: Sequence[Frames]) -> list[Written | Failure]:
        """Describe clips in one generation, padded on the left."""
        inputs = self.inputs(prepared, [self.config.wording] * len(prepared))
        return [self._result(tokens) for tokens in self.generate(inputs, self.config.max_new_tokens)]

    def _result(self, tokens: list[int]) -> Written | Failure:
        text, has_ended = self.text_of(tokens)
        if not has_ended:
            text = whole_sentences(text)
        return Written(text) if text else Failure("failed", "the model wrote nothing")
