"""Vision-language models in conversation: loading, frames and prompts put into the model's own chat form, greedy texts.

Shapes: B clips, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.catalogue.checkpoint import Checkpoint
from encoders.errors import EncodingError, ExtractionError
from encoders.media.clip import ClipMedia
from encoders.writers.base import TextWriter

__all__ = ["LONGEST_SIDE", "ChatWriter", "Frames", "messages"]

LONGEST_SIDE = 448
"""Frames whose longer side exceeds this many pixels are scaled down to it before the model's own preprocessing."""

Frames = list[NDArray[np.uint8]]
"""Pictures `[H, W, 3]` of a clip, in order of time."""

_VIDEO_MODELS = ("video_llava",)
"""Types of models that were taught videos: the frames of a clip go in as one video, not as pictures one by one."""


def messages(num_frames: int, prompt: str, as_video: bool = False) -> list[dict[str, Any]]:
    """Tell what a model is asked, as its chat template wants it: the frames in order, then the prompt.

    Args:
        num_frames: pictures of the clip.
        prompt: what is asked.
        as_video: the pictures are one video.

    Example:
        >>> [part["type"] for part in messages(2, "Describe the person.")[0]["content"]]
        ['image', 'image', 'text']
    """
    pictures: list[dict[str, Any]] = [{"type": "video"}] if as_video else [{"type": "image"} for _ in range(num_frames)]
    return [{"role": "user", "content": [*pictures, {"type": "text", "text": prompt}]}]


class ChatWriter(TextWriter):
    """A vision-language model of transformers that has a chat template, given frames of clips and a prompt each.

    Frames go in as pictures (Qwen2.5-VL, InternVL), or as one video where the model was taught videos (Video-LLaVA).
    Checkpoints that transformers itself does not know run code of their own, see `features.trust_remote_code`; they
    must have a processor with a chat template that takes pictures.

    Args:
        checkpoint: where the weights are.
        batch_size: clips given to `write` at once.
        num_frames: uniformly spaced frames that the model sees of a clip.
        device: where the model runs.
        dtype: its precision.
    """

    modality: ClassVar[str] = "video"

    def __init__(
        self, checkpoint: Checkpoint, batch_size: int, num_frames: int, device: str = "cpu", dtype: str = "float32"
    ) -> None:
        super().__init__(checkpoint, batch_size, device=device, dtype=dtype)
        self.num_frames = num_frames

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
        self._sees_video = getattr(model.config, "model_type", None) in _VIDEO_MODELS
        ends = getattr(model.generation_config, "eos_token_id", None) or self._processor.tokenizer.eos_token_id
        self._ends: list[int] = ends if isinstance(ends, list) else [ends]

    def borrow(self, other: ChatWriter) -> None:
        """Use the model and processor that another writer of the same checkpoint has loaded."""
        self._processor, self._model, self._options = other._processor, other._model, other._options
        self._sees_video, self._ends, self.is_loaded = other._sees_video, other._ends, other.is_loaded

    def frames(self, clip: ClipMedia) -> Frames:
        """Read the frames of a clip, at most `LONGEST_SIDE` long."""
        import cv2

        frames, _ = clip.frames(self.num_frames)
        height, width = frames.shape[1:3]
        scale = LONGEST_SIDE / max(height, width)
        if scale >= 1.0:
            return list(frames)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for frame in frames]

    def inputs(self, frames: Sequence[Frames], prompts: Sequence[str]) -> Any:
        """Put frames and prompts of B clips into the model's chat form, padded on the left to L tokens.

        Raises:
            EncodingError: a prompt with its frames is longer than what the model can read.
        """
        import torch
        from PIL import Image

        chats = [
            self._processor.apply_chat_template(
                messages(len(pictures), prompt, self._sees_video), tokenize=False, add_generation_prompt=True
            )
            for pictures, prompt in zip(frames, prompts, strict=True)
        ]
        seen: dict[str, Any] = {"images": [Image.fromarray(picture) for pictures in frames for picture in pictures]}
        if self._sees_video:
            seen = {"videos": [np.stack(pictures) for pictures in frames]}
        inputs = self._processor(text=chats, padding=True, return_tensors="pt", **seen, **self._options)
        length = int(inputs["attention_mask"].sum(dim=1).max())
        most = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if most is not None and length >= most:
            raise EncodingError(
                f"prompt and frames are {length:,} tokens, and {self.checkpoint.model} reads at most {most:,} with its "
                "answer; shorten the prompt, or show fewer frames"
            )
        return inputs.to(self.device, getattr(torch, self.dtype))  # whole numbers stay whole

    def generate(self, inputs: Any, max_new_tokens: int, **options: Any) -> list[list[int]]:
        """Write the likeliest next token until the end of an answer; tokens of each clip, with what follows its end.

        Args:
            inputs: of `inputs`.
            max_new_tokens: after which an answer is cut off.
            options: of generation, over the model's own.
        """
        import torch

        with torch.inference_mode():
            answer = self._model.generate(
                **inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, temperature=None, top_p=None,
                top_k=None, **options,
            )  # fmt: skip
        asked = inputs["input_ids"]
        if answer.shape[1] >= asked.shape[1] and torch.equal(answer[:, : asked.shape[1]], asked):
            answer = answer[:, asked.shape[1] :]  # some models repeat what they were asked
        return answer.tolist()  # type: ignore[no-any-return]

    def text_of(self, tokens: Sequence[int]) -> tuple[str, bool]:
        """Read tokens up to the end of the answer, in one line; and tell whether there was an end."""
        stops = [place for place, token in enumerate(tokens) if token in self._ends]
        kept = list(tokens[: stops[0]] if stops else tokens)
        return " ".join(self._processor.tokenizer.decode(kept, skip_special_tokens=True).split()), bool(stops)
