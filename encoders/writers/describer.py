"""Descriptions of behaviour by a vision-language model that sees a few frames of a clip."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.catalogue.checkpoint import Checkpoint
from encoders.config import DescriberConfig
from encoders.errors import ExtractionError, Failure
from encoders.media.clip import ClipMedia
from encoders.store.text_store import Written
from encoders.writers.base import TextWriter

__all__ = ["LONGEST_SIDE", "Describer", "messages", "whole_sentences"]

LONGEST_SIDE = 448
"""Frames whose longer side exceeds this many pixels are scaled down to it before the model's own preprocessing."""

_SENTENCE_END = re.compile(r"""[.!?。！？…]+["'”’)\]]*(?=\s|$)|[。！？]""")


def messages(num_frames: int, prompt: str) -> list[dict[str, Any]]:
    """Tell what a model is asked, as its chat template wants it: the frames in order, then the prompt.

    Example:
        >>> [part["type"] for part in messages(2, "Describe the person.")[0]["content"]]
        ['image', 'image', 'text']
    """
    pictures: list[dict[str, Any]] = [{"type": "image"} for _ in range(num_frames)]
    return [{"role": "user", "content": [*pictures, {"type": "text", "text": prompt}]}]


def whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence; all of it where there is none.

    Example:
        >>> whole_sentences("She smiles. Her gaze drops, then")
        'She smiles.'
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text


class Describer(TextWriter):
    """A vision-language model of transformers (Qwen2.5-VL, InternVL, and others with a chat template), greedy.

    The frames go in as pictures, in order of time. Checkpoints that transformers itself does not know (Eagle2, and
    InternVL2.5 as first published) run code of their own, see `features.trust_remote_code`; they must have a
    processor with a chat template that takes pictures.

    Args:
        config: which model, which prompt, how many frames.
        checkpoint: where its weights are.
        device: where it runs.
        dtype: its precision.

    References:
        Bai et al. 2025, Qwen2.5-VL, arXiv:2502.13923. Chen et al. 2024, InternVL 2.5, arXiv:2412.05271.
        Li et al. 2025, Eagle 2, arXiv:2501.14818.
    """

    kind: ClassVar[str] = "description"
    column: ClassVar[str] = "description"
    modality: ClassVar[str] = "video"

    def __init__(
        self, config: DescriberConfig, checkpoint: Checkpoint, device: str = "cpu", dtype: str = "float32"
    ) -> None:
        super().__init__(checkpoint, config.batch_size, device=device, dtype=dtype)
        self.config = config

    def settings(self) -> Mapping[str, object]:
        """List weights, prompt, frames, and length of the answer."""
        return {
            "weights": self.checkpoint.identity, "prompt": self.config.wording, "num_frames": self.config.num_frames,
            "longest_side": LONGEST_SIDE, "max_new_tokens": self.config.max_new_tokens,
        }  # fmt: skip

    def load(self) -> None:
        """Load model and processor.

        Raises:
            ExtractionError: they are not here and cannot be fetched, or the processor does not take a chat.
            ConfigError: the model needs code of its own that is not allowed or not pinned.
        """
        import transformers

        code = self.checkpoint.code()
        options: dict[str, Any] = {}
        if code:
            options = {"trust_remote_code": True}
            if self.checkpoint.weights is None:
                options["code_revision"] = self.checkpoint.revision
        names = ("AutoModelForImageTextToText", "AutoModelForCausalLM", "AutoModel")
        name = next((name for name in names if name in code), names[0])
        self._processor = self.checkpoint.open(transformers.AutoProcessor, **options)
        if getattr(self._processor, "chat_template", None) is None or not hasattr(self._processor, "image_processor"):
            raise ExtractionError(
                f"{self.checkpoint.user}: {self.checkpoint.model} has no processor with a chat template that takes "
                "pictures; choose a checkpoint made for transformers (those of InternVL end in -hf)"
            )
        self._processor.tokenizer.padding_side = "left"
        tiled = hasattr(self._processor.image_processor, "crop_to_patches")
        self._options: dict[str, Any] = {"crop_to_patches": False} if tiled else {}  # one picture, not a dozen tiles
        model = self.checkpoint.open_model(getattr(transformers, name), self.dtype, **options)
        self._model = model.to(self.device)
        ends = getattr(model.generation_config, "eos_token_id", None) or self._processor.tokenizer.eos_token_id
        self._ends: list[int] = ends if isinstance(ends, list) else [ends]

    def prepare(self, clip: ClipMedia) -> list[NDArray[np.uint8]]:
        """Prepare the frames, at most `LONGEST_SIDE` long."""
        import cv2

        frames, _ = clip.frames(self.config.num_frames)
        height, width = frames.shape[1:3]
        scale = LONGEST_SIDE / max(height, width)
        if scale >= 1.0:
            return list(frames)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for frame in frames]

    def write(self, prepared: Sequence[list[NDArray[np.uint8]]]) -> list[Written | Failure]:
        """Describe clips in one generation, padded on the left."""
        import torch
        from PIL import Image

        chats = [
            self._processor.apply_chat_template(
                messages(len(frames), self.config.wording), tokenize=False, add_generation_prompt=True
            )
            for frames in prepared
        ]
        pictures = [Image.fromarray(frame) for frames in prepared for frame in frames]
        inputs = self._processor(text=chats, images=pictures, padding=True, return_tensors="pt", **self._options)
        inputs = inputs.to(self.device, getattr(torch, self.dtype))  # whole numbers stay whole
        with torch.inference_mode():
            answer = self._model.generate(
                **inputs, max_new_tokens=self.config.max_new_tokens, do_sample=False, num_beams=1, temperature=None,
                top_p=None, top_k=None,
            )  # fmt: skip
        asked = inputs["input_ids"]
        if answer.shape[1] >= asked.shape[1] and torch.equal(answer[:, : asked.shape[1]], asked):
            answer = answer[:, asked.shape[1] :]  # some models repeat what they were asked
        return [self._result(tokens) for tokens in answer.tolist()]

    def _result(self, tokens: list[int]) -> Written | Failure:
        stops = [place for place, token in enumerate(tokens) if token in self._ends]
        kept = tokens[: stops[0]] if stops else tokens
        text = " ".join(self._processor.tokenizer.decode(kept, skip_special_tokens=True).split())
        if not stops:
            text = whole_sentences(text)
        return Written(text) if text else Failure("failed", "the model wrote nothing")
