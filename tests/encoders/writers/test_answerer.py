"""Answers of tiny models loaded from disk: greedy tokens, likelihoods read by hand, batches, fingerprints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders.catalogue.checkpoint import Checkpoint
from encoders.errors import Failure
from encoders.media.clip import ClipMedia
from encoders.store.text_store import Written
from encoders.writers.answerer import Answerer, AnswerLikelihoods, Question
from encoders.writers.base import write_batch
from encoders.writers.chat import ChatWriter, messages
from tests.support.media_files import grey, number_of, write_media
from tests.support.tiny_writers import tiny_internvl, tiny_qwen, tiny_video_llava

MODEL = "LanguageBind/Video-LLaVA-7B-hf"
QUESTION = Question("They say: {transcript}\n\nAmbivalent or not?", "Ambivalent or not?")
ANSWERS = ("Non-Ambivalent", "Ambivalent")
MAKERS = {"video_llava": tiny_video_llava, "qwen": tiny_qwen, "internvl": tiny_internvl}


@pytest.fixture(scope="module", params=list(MAKERS))
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """An answerer and the likelihoods of two answers, of one checkpoint that is loaded once."""
    folder = MAKERS[request.param](tmp_path_factory.mktemp(request.param))
    checkpoint = Checkpoint("zero_shot", MODEL, weights=str(folder))
    answerer = Answerer(QUESTION, checkpoint, num_frames=3)
    answerer.load()
    likelihoods = AnswerLikelihoods(QUESTION, checkpoint, num_frames=3, answers=ANSWERS)
    answerer.is_loaded = True
    likelihoods.borrow(answerer)
    assert likelihoods.is_loaded
    return answerer, likelihoods


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[ClipMedia]:
    """Three clips of other shapes, the last with two frames, and other transcripts."""
    folder, generator = tmp_path_factory.mktemp("media"), np.random.default_rng(0)
    made = []
    for number, (length, text) in enumerate([(6, "Maybe {so}."), (7, None), (2, "No, or well, yes, I mean no.")]):
        frames = list(generator.integers(0, 256, (length, 32, 48 - 8 * number, 3), dtype=np.uint8))
        media = write_media(folder / f"{number}.mkv", frames)
        made.append(ClipMedia(corpus="x", clip_id=str(number), media=media, text=text))
    return made


def plain_logits(writer: ChatWriter, asked: Any, tokens: Sequence[int]) -> torch.Tensor:
    """The model read by hand for one clip, without padding or cache: logits before each token, and after the last."""
    from PIL import Image

    processor = writer._processor
    chat = processor.apply_chat_template(
        messages(len(asked.frames), asked.prompt, writer._sees_video), tokenize=False, add_generation_prompt=True
    )
    seen: dict[str, Any] = {"images": [Image.fromarray(frame) for frame in asked.frames]}
    if writer._sees_video:
        seen = {"videos": [np.stack(asked.frames)]}
    inputs = dict(processor(text=[chat], return_tensors="pt", **seen, **writer._options))
    more = torch.tensor([list(tokens)], dtype=torch.long)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], more], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(more)], dim=1)
    with torch.inference_mode():
        logits: torch.Tensor = writer._model(**inputs, use_cache=False).logits[0, -len(tokens) - 1 :]
    return logits.double()


@pytest.mark.slow
def test_answers_are_the_likeliest_tokens_one_by_one(models: tuple[Any, Any], clips: list[ClipMedia]) -> None:
    answerer, _ = models
    asked = answerer.prepare(clips[0])
    tokens: list[int] = []
    for _ in range(answerer.max_new_tokens):
        tokens.append(int(plain_logits(answerer, asked, tokens)[-1].argmax()))  # no penalty of what was said before
        if tokens[-1] in answerer._ends:
            break
    assert len(tokens) <= 8
    assert answerer.write([asked]) == [Written(answerer.text_of(tokens)[0])]


@pytest.mark.slow
def test_likelihoods_are_sums_over_the_tokens_of_an_answer(models: tuple[Any, Any], clips: list[ClipMedia]) -> None:
    _, likelihoods = models
    prepared = [likelihoods.prepare(clip) for clip in clips]
    found = [json.loads(each.text) for each in likelihoods.write(prepared)]
    for asked, values in zip(prepared, found, strict=True):
        for answer, value in zip(ANSWERS, values, strict=True):
            tokens = likelihoods._processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
            logs = plain_logits(likelihoods, asked, tokens).log_softmax(dim=1)
            expected = sum(float(logs[place, token]) for place, token in enumerate(tokens))
            assert value == pytest.approx(expected, abs=1e-3)  # float32, and padding on the left
    assert len({tuple(values) for values in found}) == 3


@pytest.mark.slow
def test_an_answer_does_not_depend_on_the_batch(models: tuple[Any, Any], clips: list[ClipMedia]) -> None:
    answerer, _ = models
    prepared = [answerer.prepare(clip) for clip in clips]
    together = answerer.write(prepared)
    assert together == [answerer.write([asked])[0] for asked in prepared]
    assert len({each.text for each in together}) == 3


@pytest.mark.slow
def test_a_prompt_that_is_too_long_is_a_failure_of_its_clip_alone(
    models: tuple[Any, Any], clips: list[ClipMedia]
) -> None:
    answerer, _ = models
    fitting = answerer.prepare(clips[0])
    first, second = write_batch(answerer, [fitting, fitting._replace(prompt="well " * 1000)])
    assert isinstance(first, Written)
    assert isinstance(second, Failure)
    assert "prompt and frames are" in second.reason
    assert "shorten the prompt" in second.reason


def made(question: Question = QUESTION, **options: Any) -> Answerer:
    return Answerer(question, Checkpoint("zero_shot", MODEL, "a" * 40), **options)


def test_frames_are_evenly_spaced_and_the_last_is_repeated(tmp_path: Path) -> None:
    answerer = made()
    long = ClipMedia(media=write_media(tmp_path / "a.mkv", [grey(number) for number in range(24)]))
    short = ClipMedia(media=write_media(tmp_path / "b.mkv", [grey(number) for number in range(3)]), text=" Well. ")
    asked = answerer.prepare(long)
    assert [number_of(frame) for frame in asked.frames] == [1, 4, 7, 10, 13, 16, 19, 22]  # the middles of eighths
    assert asked.prompt == "Ambivalent or not?"
    asked = answerer.prepare(short)
    assert [number_of(frame) for frame in asked.frames] == [0, 1, 2, 2, 2, 2, 2, 2]
    assert asked.prompt == "They say: Well.\n\nAmbivalent or not?"


def test_what_decides_an_answer_names_it() -> None:
    first = made().spec
    assert first.key.startswith("answer-LanguageBind_Video-LLaVA-7B-hf-")
    assert first == made(batch_size=2, dtype="float16").spec
    for other in (
        made(Question(QUESTION.text, "Or not?")),
        made(Question("Or not?", "Or not?")),
        made(num_frames=4),
        made(max_new_tokens=9),
        Answerer(QUESTION, Checkpoint("zero_shot", MODEL, "b" * 40)),
        Answerer(QUESTION, Checkpoint("zero_shot", "other/model", "a" * 40)),
        AnswerLikelihoods(QUESTION, made().checkpoint, answers=ANSWERS),
    ):
        assert other.spec.fingerprint != first.fingerprint
    likelihoods = [AnswerLikelihoods(QUESTION, made().checkpoint, answers=each) for each in (ANSWERS, ANSWERS[::-1])]
    assert len({each.spec.fingerprint for each in likelihoods}) == 2


def test_a_transcript_counts_where_the_question_holds_it() -> None:
    clip = {"media": None, "start": 0.0, "end": 1.0, "text": "Well.", "description": None}
    other = {**clip, "text": "Well, no."}
    assert made().source(clip) != made().source(other)
    assert made().source(clip) == made().source({**clip, "text": " Well. "})
    assert made().source(clip) != made().source({**clip, "end": 2.0})
    silent = made(Question("Or not?", "Or not?"))
    assert silent.source(clip) == silent.source(other)
