"""Text encoders from a hub: token embeddings of a clip's transcript or of its described behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import Pooling, TimedForm, Watcher
from encoders.catalogue.entry import CatalogueEntry
from encoders.device import Prepared
from encoders.errors import EncodingError, ExtractionError, MissingModality
from encoders.media.clip import ClipMedia
from encoders.media.spoken import place_tokens, spoken_words, values_at
from encoders.models.hub import HubEncoder, batches, padded
from encoders.timed import Grid, Timed

__all__ = [
    "BATCH_TOKENS",
    "SOURCES",
    "ClapText",
    "ClipText",
    "JinaText",
    "TextModel",
    "has_vocabulary",
    "join_windows",
    "text_of",
    "token_windows",
]

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


def token_windows(num_tokens: int, most: int) -> list[tuple[slice, slice]]:
    """Cut a text of any length into windows in which it is read whole, and choose the tokens taken from each.

    Windows of `most` tokens overlap by a quarter; the tokens of an overlap come from the window in which they lie
    further from the cut. Every token is taken once, in order.

    Args:
        num_tokens: of the text, without special ones.
        most: tokens that the model can read at once, without special ones.

    Returns:
        Slices of the text: the window, and what is taken from it.

    Example:
        >>> token_windows(10, 8)
        [(slice(0, 8, None), slice(0, 5, None)), (slice(2, 10, None), slice(5, 10, None))]
        >>> token_windows(8, 8)
        [(slice(0, 8, None), slice(0, 8, None))]
    """
    if num_tokens <= most:
        return [(slice(0, num_tokens), slice(0, num_tokens))]
    hop = max(1, most - most // 4)
    starts = [*range(0, num_tokens - most, hop), num_tokens - most]
    cuts = [0, *((start + before + most) // 2 for before, start in pairwise(starts)), num_tokens]
    return [
        (slice(start, start + most), slice(first, last))
        for start, (first, last) in zip(starts, pairwise(cuts), strict=True)
    ]


def join_windows(taken: Sequence[NDArray[np.float32]], counts: Sequence[int]) -> list[NDArray[np.float32]]:
    """Put together what was taken from the windows of each text.

    Args:
        taken: embeddings `[n, width]` of every window of every text, in order.
        counts: windows of each text.
    """
    ends = np.cumsum(counts)
    return [np.concatenate(taken[end - count : end]) for end, count in zip(ends, counts, strict=True)]


class TextModel(HubEncoder):
    """Token embeddings of BERT, RoBERTa, XLM-RoBERTa, DistilRoBERTa or BGE: the last hidden state.

    Special tokens are left out. A text longer than the model can read is read in windows, see `token_windows`. In time
    a token is the sum of its last four hidden states, and a word the mean of its tokens.

    Args:
        entry: of the catalogue.
        modality: `text` reads the transcript, `behavior` the description.
        weights: local copy of the weights, or None.
    """

    timed_layers: ClassVar[int] = 4
    """Hidden states, from the last on, that are added up in time; 1 is the last as for vectors."""

    def __init__(self, entry: CatalogueEntry, modality: str, weights: str | None = None) -> None:
        super().__init__(entry, modality, weights)
        self.timed_form: TimedForm | None = "words" if modality == "text" else None

    def preprocessing(self) -> Mapping[str, object]:
        """Tell which text is read, and what of it is kept."""
        return {"source": SOURCES[self.modality][0], "layer": "last", "special_tokens": False, "windows": "a quarter"}

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Prepare token ids `input_ids` `[W, N]` of the text's windows, and which are taken, `own` `[W, N]`."""
        return self._prepared(text_of(clip, self.modality))

    def timed_settings(self) -> Mapping[str, object]:
        """Tell what a token and a word are."""
        return {"layers": self.timed_layers, "words": "mean of tokens"}

    def prepare_timed(
        self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False
    ) -> Prepared:
        """Prepare token ids as `prepare`, the word of each token `groups` `[N]` and of each frame `rows` `[T]`."""
        spoken = spoken_words(clip, text_of(clip, self.modality), grid, spread_words)
        prepared = self._prepared(spoken.text)
        tokenizer, _ = self._tokenizer
        if not tokenizer.is_fast:
            raise EncodingError(f"the tokenizer of {self.id} does not tell which characters its tokens are")
        read = tokenizer(spoken.text, return_special_tokens_mask=True, return_offsets_mapping=True, verbose=False)
        own = np.asarray(read["special_tokens_mask"]) == 0
        placed = place_tokens(np.asarray(read["offset_mapping"], dtype=np.int64).reshape(-1, 2)[own], spoken, grid)
        arrays = {**prepared.arrays, "groups": placed.groups, "rows": placed.rows}
        return Prepared(arrays, prepared.length, placed.note, grid)

    def embed_timed(self, inputs: Sequence[Prepared], grids: Sequence[Grid]) -> list[Timed]:
        """Compute the words of each text and put them on frames."""
        embedded = self._tokens(inputs, self.timed_layers)
        return [
            Timed.on(grid, *values_at(tokens, clip.arrays["groups"], clip.arrays["rows"]))
            for tokens, clip, grid in zip(embedded, inputs, grids, strict=True)
        ]

    def _prepared(self, text: str) -> Prepared:
        tokenizer, limit = self._tokenizer
        read = tokenizer(text, return_special_tokens_mask=True, verbose=False)
        ids, own = np.asarray(read["input_ids"]), np.asarray(read["special_tokens_mask"]) == 0
        if not own.any():
            raise EncodingError(f"the {SOURCES[self.modality][1]} has no tokens")
        first, last = int(own.argmax()), len(own) - int(own[::-1].argmax())  # special tokens stand before and behind
        most = limit - (len(ids) - (last - first))
        if most < 1:
            raise EncodingError(f"{self.id} reads {limit} tokens at once, all of them special ones")
        windows, taken = [], []
        for window, part in token_windows(last - first, most):
            windows.append(np.concatenate([ids[:first], ids[first:last][window], ids[last:]]))
            inside = np.arange(window.start, window.stop)
            kept = own[first:last][window] & (inside >= part.start) & (inside < part.stop)
            taken.append(np.concatenate([np.zeros(first, bool), kept, np.zeros(len(ids) - last, bool)]))
        arrays = {"input_ids": np.stack(windows).astype(np.int64), "own": np.stack(taken)}
        return Prepared(arrays, len(windows[0]))

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        """Compute embeddings of each text's own tokens, `[num_tokens, width]`.

        Texts are sorted by length, padded and masked; what else is in a batch changes a result by rounding only
        (1e-5 in float32; relative to the largest value 1e-2 in float16, 1e-1 in bfloat16).
        """
        return self._tokens(inputs, 1)

    def _tokens(self, inputs: Sequence[Prepared], layers: int) -> list[NDArray[np.float32]]:
        """Compute each text's own tokens, the sum of the last hidden states."""
        import torch

        windows = [window for text in inputs for window in text.arrays["input_ids"]]
        taken = [own for text in inputs for own in text.arrays["own"]]
        embedded: list[NDArray[np.float32]] = [np.zeros((0, self.width), dtype=np.float32)] * len(windows)
        for batch in batches([len(window) for window in windows], BATCH_TOKENS):
            ids, mask = padded([windows[index] for index in batch])
            with torch.inference_mode():
                given = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
                if layers == 1:
                    output = self._model(**given).last_hidden_state
                else:
                    output = sum(self._model(**given, output_hidden_states=True).hidden_states[-layers:])
                hidden = output.float().cpu().numpy()
            for row, index in enumerate(batch):
                embedded[index] = hidden[row, : len(windows[index])][taken[index]]
        return join_windows(embedded, [len(text.arrays["input_ids"]) for text in inputs])

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
    timed_layers: ClassVar[int] = 1
    config_width: ClassVar[tuple[str, ...]] = ("text_config", "hidden_size")


class ClapText(TextModel):
    """Token embeddings of CLAP's text branch (RoBERTa) before its projection.

    References:
        Wu et al., Large-scale contrastive language-audio pretraining, ICASSP 2023, arXiv:2211.06687.
    """

    architecture, part = "ClapModel", "text_model"
    timed_layers: ClassVar[int] = 1
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
        """Compute the embedding of each text, `[1, width]`; one by one, as padding is left to the repository's code.

        A text of more words than the model reads is embedded in parts, averaged by their words.
        """
        import torch

        encode = getattr(self._model, "encode_text", None) or self._model.encode
        results: list[NDArray[np.float32]] = []
        for text in inputs:
            whole = text.arrays["text"].tobytes().decode()
            words = whole.split()
            parts = np.array_split(np.arange(len(words)), -(-len(words) // _JINA_WORDS))
            texts = [" ".join(words[index] for index in part) for part in parts] if len(parts) > 1 else [whole]
            vectors = [torch.as_tensor(encode([part], task="text-matching")[0]).float().cpu().numpy() for part in texts]
            weights = [len(part) for part in parts]
            results.append(np.average(vectors, axis=0, weights=weights).astype(np.float32).reshape(1, -1))
        return results


_JINA_WORDS = 3000
"""Words given to Jina at once: of at most 2.7 tokens each, they are within the 8,192 tokens that it reads."""
_JINA_CODE: Mapping[str, Mapping[str, str]] = {
    "jinaai/jina-embeddings-v3": {"code_revision": "2b6bc3f30750b3a9648fe9b63448c09920efe9be"},
}
"""Where a repository's code lies in another repository, the revision of that one."""
