"""Text encoders from a hub: token embeddings of a clip's transcript or of its described behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import Pooling
from encoders.device import Prepared
from encoders.errors import EncodingError, ExtractionError, MissingModality
from encoders.media.clip import ClipMedia
from encoders.models.hub import HubEncoder, batches, padded

__all__ = ["BATCH_TOKENS", "SOURCES", "ClapText", "ClipText", "JinaText", "TextModel", "has_vocabulary", "text_of"]

BATCH_TOKENS = 8192
"""Most tokens in one forward pass, padding included."""
SOURCES: Mapping[str, tuple[str, str]] = {"text": ("text", "transcript"), "behavior": ("description", "description")}
"""By modality, the attribute of a clip that is read, and what it is called."""
_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "clap_text_model")
"""Kinds of model whose first position is the one after the padding token's number."""


def text_of(clip: ClipMedia, modality: str) -> str:
    """Return the text that stands for a modality of a clip.

    Raises:
        MissingModality: there is none, or it is blank.
    """
    attribute, noun = SOURCES[modality]
    text: str | None = getattr(clip, attribute)
    if text is None or not text.strip():
        raise MissingModality(f"no {noun}" if text is None else f"empty {noun}")
    return text


def has_vocabulary(tokenizer: Any) -> bool:
    """Tell whether a tokenizer has more than special tokens; of missing files transformers makes one that has not."""
    return len(tokenizer) > len(set(tokenizer.all_special_tokens))


class TextModel(HubEncoder):
    """Token embeddings of BERT, RoBERTa, XLM-RoBERTa, DistilRoBERTa or BGE: the last hidden state.

    Special tokens are left out. A text longer than the model can read is cut, and a note says so.

    Args:
        entry: of the catalogue.
        modality: `text` reads the transcript, `behavior` the description.
        weights: local copy of the weights, or None.
    """

    def preprocessing(self) -> Mapping[str, object]:
        """Tell which text is read, and what of it is kept."""
        return {"source": SOURCES[self.modality][0], "layer": "last", "special_tokens": False, "cut": "model's limit"}

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Prepare token ids `input_ids` `[N]`, and which of them are the text's own, `own` `[N]`."""
        text, (tokenizer, limit) = text_of(clip, self.modality), self._tokenizer
        read = tokenizer(text, return_special_tokens_mask=True, verbose=False)
        ids, own = np.asarray(read["input_ids"]), np.asarray(read["special_tokens_mask"]) == 0
        noun, note = SOURCES[self.modality][1], None
        if len(ids) > limit:
            num_tokens = int(own.sum())
            read = tokenizer(text, truncation=True, max_length=limit, return_special_tokens_mask=True)
            ids, own = np.asarray(read["input_ids"]), np.asarray(read["special_tokens_mask"]) == 0
            note = f"the {noun} has {num_tokens} tokens; the first {int(own.sum())} were read"
        if not own.any():
            raise EncodingError(f"the {noun} has no tokens")
        return Prepared({"input_ids": ids.astype(np.int64), "own": own}, len(ids), note)

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        """Compute embeddings of each text's own tokens, `[num_tokens, width]`.

        Texts are sorted by length, padded and masked; what else is in a batch changes a result by rounding only
        (1e-5 in float32; relative to the largest value 1e-2 in float16, 1e-1 in bfloat16).
        """
        import torch

        results: list[NDArray[np.float32]] = [np.zeros((0, self.width), dtype=np.float32)] * len(inputs)
        for batch in batches([text.length for text in inputs], BATCH_TOKENS):
            ids, mask = padded([inputs[index].arrays["input_ids"] for index in batch])
            with torch.inference_mode():
                output = self._model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device))
                hidden = output.last_hidden_state.float().cpu().numpy()
            for row, index in enumerate(batch):
                results[index] = hidden[row, : inputs[index].length][inputs[index].arrays["own"]]
        return results

    @cached_property
    def _tokenizer(self) -> tuple[Any, int]:
        """The tokenizer, and the most tokens that the model reads, special ones included."""
        from transformers import AutoConfig, AutoTokenizer

        config = self.checkpoint.open(AutoConfig)
        config = getattr(config, "text_config", config)
        before = config.pad_token_id + 1 if config.model_type in _AFTER_PADDING else 0
        tokenizer = self.checkpoint.open(AutoTokenizer)
        if not has_vocabulary(tokenizer):
            raise ExtractionError(
                f"{self.checkpoint.user}: {self.checkpoint.weights or self.entry.home} holds no vocabulary; the "
                "tokenizer's files (tokenizer.json; vocab.txt; or vocab.json and merges.txt) belong beside the weights"
            )
        return tokenizer, min(tokenizer.model_max_length, config.max_position_embeddings - before)


class ClipText(TextModel):
    """Token embeddings of CLIP's text tower before its projection: the last hidden state after the final norm.

    Each token has seen only those before it. CLIP reads at most 77 tokens, two of them special.

    References:
        Radford et al., Learning transferable visual models from natural language supervision, 2021, arXiv:2103.00020.
    """

    architecture, part = "CLIPModel", "text_model"
    config_width: ClassVar[tuple[str, ...]] = ("text_config", "hidden_size")


class ClapText(TextModel):
    """Token embeddings of CLAP's text branch (RoBERTa) before its projection.

    References:
        Wu et al., Large-scale contrastive language-audio pretraining, ICASSP 2023, arXiv:2211.06687.
    """

    architecture, part = "ClapModel", "text_model"
    config_width: ClassVar[tuple[str, ...]] = ("text_config", "hidden_size")


class JinaText(HubEncoder):
    """Sentence embeddings of Jina v3 or v4, one per text, by the `encode` that comes with the weights.

    Loading runs the repository's own code at the pinned revision; `create_encoder` makes this class only where
    `features.trust_remote_code` allows it. There is one embedding per text, so a clip's vector is that embedding.
    """

    pooling: Pooling = "none"

    def preprocessing(self) -> Mapping[str, object]:
        """Tell which text is read, and for which task."""
        return {"source": SOURCES[self.modality][0], "task": "text-matching", **_JINA_CODE.get(self.entry.id, {})}

    def build(self) -> Any:
        """Make the model, of a class that comes with it."""
        from transformers import AutoModel

        return self.checkpoint.open(AutoModel, trust_remote_code=True, **_JINA_CODE.get(self.entry.id, {}))

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Prepare the text as UTF-8 bytes; the model tokenizes it itself."""
        text = text_of(clip, self.modality)
        return Prepared({"text": np.frombuffer(text.encode(), dtype=np.uint8)}, len(text))

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        """Compute the embedding of each text, `[1, width]`; one by one, as padding is left to the repository's code."""
        import torch

        encode = getattr(self._model, "encode_text", None) or self._model.encode
        results: list[NDArray[np.float32]] = []
        for text in inputs:
            (vector,) = encode([text.arrays["text"].tobytes().decode()], task="text-matching")
            results.append(torch.as_tensor(vector).float().cpu().numpy().reshape(1, -1))
        return results


_JINA_CODE: Mapping[str, Mapping[str, str]] = {
    "jinaai/jina-embeddings-v3": {"code_revision": "2b6bc3f30750b3a9648fe9b63448c09920efe9be"},
}
"""Where a repository's code lies in another repository, the revision of that one."""
