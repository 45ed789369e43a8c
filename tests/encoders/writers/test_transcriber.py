"""Transcripts by a tiny Whisper loaded from disk: against plain generation, alone and in batches, with words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from encoders.catalogue.checkpoint import Checkpoint
from encoders.config import FeaturesConfig, TranscriberConfig
from encoders.errors import EncodingError, ExtractionError, Failure
from encoders.media.clip import ClipMedia
from encoders.store.text_store import TextStore, Written
from encoders.writers import transcriber as transcription
from encoders.writers.build import text_writers
from encoders.writers.fill import fill_texts
from encoders.writers.transcriber import RATE, Transcriber, split_windows
from encoders.writers.word_times import align, group_words
from mmpsr.config import ConfigError
from tests.support.media_files import write_media
from tests.support.tiny_writers import tiny_whisper

MODEL = "openai/whisper-large-v3-turbo"
SECONDS = (1.0, 2.0, 0.6, 5.5, 1.5, 3.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("whisper"))


def made(folder: Path, dtype: str = "float32", **changes: object) -> Transcriber:
    config = TranscriberConfig.model_validate(changes)
    transcriber = Transcriber(config, Checkpoint("features.transcriber", MODEL, weights=str(folder)), dtype=dtype)
    transcriber.load()
    return transcriber


@pytest.fixture(scope="module")
def whisper(folder: Path) -> Transcriber:
    return made(folder)


def sound(seconds: float, number: int = 0) -> NDArray[np.float32]:
    """Noise whose loudness swings and a tone, different for each number."""
    generator = np.random.default_rng(number)
    moments = np.arange(round(seconds * RATE))
    samples = 0.1 * number * generator.normal(size=len(moments)) * np.sin(moments * 0.0003 * (number + 1))
    samples += np.sin(moments * 0.02 * (number + 1) ** 2)
    return (samples / np.abs(samples).max()).astype(np.float32)


def clip_of(samples: NDArray[np.float32], path: Path) -> ClipMedia:
    return ClipMedia(media=write_media(path, samples=samples))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[ClipMedia]:
    root = tmp_path_factory.mktemp("sounds")
    return [clip_of(sound(seconds, number), root / f"{number}.mkv") for number, seconds in enumerate(SECONDS)]


def test_text_is_that_of_plain_generation(whisper: Transcriber, clips: Sequence[ClipMedia], folder: Path) -> None:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    model = WhisperForConditionalGeneration.from_pretrained(folder)
    processor = WhisperProcessor.from_pretrained(folder)
    texts = []
    for clip in (clips[0], clips[2], clips[4]):
        inputs = processor(clip.audio(RATE), sampling_rate=RATE, return_tensors="pt")
        tokens = model.generate(inputs["input_features"], do_sample=False, task="transcribe")
        texts.append(processor.batch_decode(tokens, skip_special_tokens=True)[0].strip())
    written = whisper.write([whisper.prepare(clip) for clip in (clips[0], clips[2], clips[4])])
    assert [each.text for each in written if isinstance(each, Written)] == texts
    assert len(set(texts)) == 3


def test_text_language_and_words_do_not_depend_on_the_batch(whisper: Transcriber, clips: Sequence[ClipMedia]) -> None:
    prepared = [whisper.prepare(clip) for clip in clips]
    together = whisper.write(prepared)
    assert together == [whisper.write([each])[0] for each in prepared]
    assert together[::-1] == whisper.write(prepared[::-1])
    assert len({each.language for each in together if isinstance(each, Written)}) > 1


def test_half_precision_runs(folder: Path, clips: Sequence[ClipMedia]) -> None:
    half = made(folder, "bfloat16")
    assert next(half._model.parameters()).dtype == torch.bfloat16
    assert all(isinstance(each, Written) for each in half.write([half.prepare(clip) for clip in clips]))


def test_words_follow_one_another_within_the_clip(whisper: Transcriber, clips: Sequence[ClipMedia]) -> None:
    for clip, seconds, written in zip(clips, SECONDS, whisper.write([whisper.prepare(c) for c in clips]), strict=True):
        assert isinstance(written, Written)
        assert written.words is not None
        assert " ".join(word for word, _, _ in written.words).split() == written.text.split(), clip
        times = [moment for _, *span in written.words for moment in span]
        assert times == sorted(times)
        assert 0.0 <= times[0] <= times[-1] <= seconds + 0.01
        assert all(end > start for _, start, end in written.words if len(written.words) > 1)


def test_seconds_of_words_are_those_of_the_sound_without_its_padding(whisper: Transcriber) -> None:
    tokens = whisper._processor.tokenizer.encode(" a b", add_special_tokens=False)  # 4 bytes
    attention = np.zeros((1, 5, 100), dtype=np.float32)  # frames of 0.02 s; the sound ends after 50 of them
    for token in range(5):
        attention[0, token, 10 * token : 10 * token + 10] = 1.0
    attention[0, 0, 60:] = 5.0
    words = whisper._words(tokens, attention, "en", 3.0, 4.0)
    assert words == [("a", 3.0, pytest.approx(3.4)), ("b", pytest.approx(3.4), pytest.approx(3.8))]


def test_long_sound_is_heard_window_by_window(whisper: Transcriber, clips: Sequence[ClipMedia], tmp_path: Path) -> None:
    whole = sound(5.5, 3)
    spans = split_windows(whole, 2 * RATE)
    assert len(spans) >= 3
    (written,) = whisper.write([whisper.prepare(clips[3])])
    assert isinstance(written, Written)
    model, extractor = whisper._model, whisper._processor.feature_extractor
    language = f"<|{written.language}|>"  # the first window decides
    texts = []
    for start, stop in spans:
        inputs = extractor(clips[3].audio(RATE)[start:stop], sampling_rate=RATE, return_tensors="pt")["input_features"]
        tokens = model.generate(inputs, do_sample=False, task="transcribe", language=language)
        texts.append(whisper._processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip())
    assert written.text == " ".join(texts)
    starts = [start for _, start, _ in written.words or []]
    for begin, end in spans:  # each window's words lie in it
        assert any(begin / RATE - 0.01 <= start <= end / RATE + 0.01 for start in starts)


def test_language_detected_by_the_first_window(whisper: Transcriber, clips: Sequence[ClipMedia], folder: Path) -> None:
    for clip in clips[:3]:
        (written,) = whisper.write([whisper.prepare(clip)])
        features = torch.from_numpy(whisper.prepare(clip).features[0])[None]
        token = int(whisper._model.detect_language(features)[0])
        assert isinstance(written, Written)
        assert f"<|{written.language}|>" == whisper._processor.tokenizer.convert_ids_to_tokens(token)


def test_fixed_language(whisper: Transcriber, clips: Sequence[ClipMedia], folder: Path) -> None:
    german = made(folder, language="de")
    assert german.spec.fingerprint != whisper.spec.fingerprint
    for clip in clips[:3]:
        (written,) = german.write([german.prepare(clip)])
        features = torch.from_numpy(german.prepare(clip).features[0])[None]
        tokens = german._model.generate(features, do_sample=False, task="transcribe", language="de")
        assert isinstance(written, Written)
        assert written.language == "de"
        assert written.text == german._processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()
    with pytest.raises(ConfigError, match=f"language: {MODEL} does not know 'dee'; did you mean 'de'"):
        made(folder, language="dee")


def test_silent_windows_are_left_out(
    whisper: Transcriber, clips: Sequence[ClipMedia], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = [whisper.prepare(clip) for clip in (clips[0], clips[2], clips[4])]
    silence, doubts = zip(*(_judgement(whisper, each.features[0]) for each in prepared), strict=True)
    assert len(set(silence)) == 3
    full = whisper.write(prepared)

    def silent(no_speech: float, doubt: float) -> list[bool]:
        monkeypatch.setattr(transcription, "NO_SPEECH", no_speech)
        monkeypatch.setattr(transcription, "DOUBT", doubt)
        written = whisper.write(prepared)
        assert all(
            new in (old, Failure("absent", "no speech recognised")) for old, new in zip(full, written, strict=True)
        )
        return [isinstance(each, Failure) for each in written]

    middle = float(np.mean(sorted(silence)[:2]))
    assert silent(middle, 1.0) == [each > middle for each in silence]  # everything is doubted
    middle = float(np.mean(sorted(doubts)[:2]))
    assert silent(-1.0, middle) == [each < middle for each in doubts]  # everything sounds silent
    assert silent(1.0, 1.0) == [False] * 3


def _judgement(whisper: Transcriber, features: NDArray[np.float32]) -> tuple[float, float]:
    """Probability of no speech, and mean log probability of the tokens as the loss of the model tells it."""
    model, tokenizer = whisper._model, whisper._processor.tokenizer
    inputs = torch.from_numpy(features)[None]
    settings = model.generation_config
    start = torch.tensor([[settings.decoder_start_token_id]])
    first = model(inputs, decoder_input_ids=start).logits[0, -1].softmax(-1)
    tokens = [token for token in model.generate(inputs, do_sample=False, task="transcribe")[0].tolist() if token < 256]
    language = int(model.detect_language(inputs)[0])
    head = [
        settings.decoder_start_token_id,
        language,
        settings.task_to_id["transcribe"],
        settings.no_timestamps_token_id,
    ]
    read = torch.tensor([head + tokens])
    labels = torch.tensor([[-100] * (len(head) - 1) + tokens + [tokenizer.eos_token_id]])
    loss = model(inputs, decoder_input_ids=read, labels=labels).loss
    return float(first[tokenizer.convert_tokens_to_ids("<|nospeech|>")]), -float(loss)


def test_a_repeated_call_starts_anew(whisper: Transcriber, clips: Sequence[ClipMedia]) -> None:
    prepared = [whisper.prepare(clip) for clip in clips[:2]]
    assert whisper.write(prepared) == whisper.write(prepared)
    assert whisper._model.config._attn_implementation == "sdpa"  # the faster one, also after words were placed


def test_without_alignment_heads_there_are_no_word_times(
    tmp_path: Path, clips: Sequence[ClipMedia], whisper: Transcriber
) -> None:
    plain = made(tiny_whisper(tmp_path, with_heads=False))
    (with_words,), (without,) = (each.write([each.prepare(clips[0])]) for each in (whisper, plain))
    assert isinstance(without, Written)
    assert isinstance(with_words, Written)
    assert without.words is None
    assert (without.text, without.language) == (with_words.text, with_words.language)


def test_english_only(tmp_path: Path, clips: Sequence[ClipMedia]) -> None:
    english = made(tiny_whisper(tmp_path, is_multilingual=False))
    (written,) = english.write([english.prepare(clips[0])])
    assert isinstance(written, Written)
    assert written.language == "en"
    assert written.words
    features = torch.from_numpy(english.prepare(clips[0]).features[0])[None]
    tokens = english._model.generate(features, do_sample=False)
    assert written.text == english._processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()
    with pytest.raises(ConfigError, match="does not know 'de'; known names are en"):
        made(tmp_path, language="de")


def test_a_checkpoint_that_is_not_whispers(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((folder / "generation_config.json").read_text())
    del settings["lang_to_id"]
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(ExtractionError, match=r"generation_config\.json of .* lacks lang_to_id"):
        made(tmp_path)


def test_digital_silence_fails_before_the_model(whisper: Transcriber, tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match="audio is silent"):
        whisper.prepare(clip_of(np.zeros(RATE, dtype=np.float32), tmp_path / "silent.mkv"))


def test_through_the_store(folder: Path, clips: Sequence[ClipMedia], whisper: Transcriber, tmp_path: Path) -> None:
    features = FeaturesConfig.model_validate(
        {"store": str(tmp_path), "transcriber": {"batch_size": 2}, "weights": {MODEL: str(folder)}}
    )
    rows: list[dict[str, Any]] = [
        {"corpus": "x", "clip_id": str(i), "media": str(clip.media)} for i, clip in enumerate(clips)
    ]
    rows += [
        {"corpus": "x", "clip_id": "none"},
        {"corpus": "x", "clip_id": "gone", "media": str(tmp_path / "gone.mkv")},
    ]
    table = pd.DataFrame(rows)
    filled, summary = fill_texts(table, features, show_progress=False)
    expected = whisper.write([whisper.prepare(clip) for clip in clips])
    texts = [each.text for each in expected if isinstance(each, Written)]
    assert filled["text"].tolist() == [*texts, pd.NA, pd.NA]
    assert filled["language"].tolist()[:6] == [each.language for each in expected if isinstance(each, Written)]
    ledger = summary.ledger.set_index("clip_id")
    assert ledger.loc["none", ["status", "reason"]].tolist() == ["absent", "no media file"]
    assert ledger.loc["gone", "status"] == "failed"
    kept = TextStore(tmp_path).read_texts("x", whisper.spec)
    assert {clip_id: text for (clip_id, _), text in kept.items()} == {str(i): each for i, each in enumerate(expected)}


def test_missing_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("encoders.catalogue.checkpoint.is_offline", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ExtractionError) as error:
        text_writers(FeaturesConfig(transcriber=TranscriberConfig()))[0].load()
    for part in ("features.transcriber: openai/whisper-large-v3-turbo (about 1620 MB) is not in the local cache",
                 "HF_HUB_OFFLINE", "hf download", f'features.weights = {{ "{MODEL}" = "path" }}'):  # fmt: skip
        assert part in str(error.value)


def test_windows_end_at_the_quietest_moment() -> None:
    samples = np.ones(10 * RATE, dtype=np.float32)
    moments = np.arange(round(2.5 * RATE), 4 * RATE)
    samples[moments] = np.abs(moments / RATE - 3.5)  # quietest of 2.67 to 4 s at 3.5
    samples[round(6.9 * RATE) : round(7.1 * RATE)] = 0.0  # of 3.5 + 2.67 to 3.5 + 4: at 7.0
    spans = split_windows(samples, 4 * RATE)
    span = 4 * RATE // 30 / RATE  # the moment is shorter for short windows, 0.13 s here
    assert [stop for _, stop in spans] == sorted(stop for _, stop in spans)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(samples)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert spans[0][1] / RATE == pytest.approx(3.5, abs=0.001)
    assert 6.9 + span / 2 - 0.001 <= spans[1][1] / RATE <= 7.1 - span / 2 + 0.001


@pytest.mark.parametrize("size", [1, 29, 30, 31, 32, 39, 40, 41, 59, 60, 61, 89, 90, 91, 1000])
def test_windows_cover_the_sound_and_none_is_tiny(size: int) -> None:
    spans = split_windows(np.random.default_rng(size).normal(size=size).astype(np.float32), 30)
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    lengths = [stop - start for start, stop in spans]
    assert max(lengths) <= 30
    assert len(spans) == 1 or min(lengths) >= 10


def test_align_against_all_paths() -> None:
    generator = np.random.default_rng(1)
    for shape in [(1, 2, 4), (2, 3, 5), (1, 4, 3), (1, 1, 5), (1, 5, 5), (1, 4, 4)] * 12:
        weights = generator.random(shape)
        assert align(weights).tolist() == _cheapest(weights), shape


def test_align_passes_over_frames_that_no_token_prefers() -> None:
    weights = np.repeat(np.eye(3), 10, axis=1)
    assert align(np.concatenate([weights, np.zeros((3, 9))], axis=1)[None]).tolist() == [0, 10, 20]


def _cheapest(weights: NDArray[np.float64]) -> list[int]:
    """First frames of the tokens on the best of all monotone paths, tried one by one."""
    from scipy.signal import medfilt

    spread = weights.std(axis=1, keepdims=True)
    standard = (weights - weights.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    padded = np.pad(standard, ((0, 0), (0, 0), (6, 6)), mode="symmetric")
    smooth = np.stack([[medfilt(row, 7)[6:-6] for row in head] for head in padded]).mean(axis=0)
    num_tokens, num_frames = smooth.shape
    paths: list[list[tuple[int, int]]] = [[(0, 0)]]
    best: tuple[float, list[tuple[int, int]]] = (-np.inf, [])
    while paths:
        path = paths.pop()
        token, frame = path[-1]
        if (token, frame) == (num_tokens - 1, num_frames - 1):
            best = max(best, (sum(float(smooth[place]) for place in path), path))
        for place in ((token + 1, frame), (token, frame + 1), (token + 1, frame + 1)):
            if place[0] < num_tokens and place[1] < num_frames:
                paths.append([*path, place])
    return [min(frame for token, frame in best[1] if token == each) for each in range(num_tokens)]


@pytest.mark.parametrize(
    ("pieces", "language", "words"),
    [
        ([" So", " may", "be", ".", ' "', "No", '"'], "en", [("So", 0, 1), ("maybe.", 1, 4), ('"No"', 4, 7)]),
        (["So", " it"], None, [("So", 0, 1), ("it", 1, 2)]),
        (["我", "不", "知道", "。"], "zh", [("我", 0, 1), ("不", 1, 2), ("知道。", 2, 4)]),
        (["我", "不"], "en", [("我不", 0, 2)]),
        ([" ", " no"], "en", [("no", 1, 2)]),
        ([], "en", []),
    ],
)  # fmt: skip
def test_words_of_tokens(pieces: list[str], language: str | None, words: list[tuple[str, int, int]]) -> None:
    tokens = list(range(len(pieces)))
    assert group_words(tokens, lambda ids: "".join(pieces[each] for each in ids), language) == words


def test_bytes_of_one_character_stay_together() -> None:
    raw = " é 不".encode()  # 1 + 2 + 1 + 3 bytes
    tokens = list(range(len(raw)))
    found = group_words(tokens, lambda ids: bytes(raw[each] for each in ids).decode(errors="replace"), "zh")
    assert found == [("é", 1, 3), ("不", 4, 7)]
