"""Prompts: what the five of BAH are built of, transcripts put in as they are, prompts of one's own and of any task."""

from __future__ import annotations

from typing import Any

import pytest

from encoders.writers.answerer import TRANSCRIPT
from mmpsr.config import ConfigError, validate
from mmpsr.tasks import AMBIVALENCE, EMOTION, TaskSpec
from training.zero_shot.config import PromptConfig, ZeroShotConfig, ZeroShotRunConfig
from training.zero_shot.prompts import BAH_PROMPTS, known_prompts, prompts_to_ask

MOOD = TaskSpec(
    kind="single_label", classes=("calm", "very_tense", "other"), loss="cross_entropy", metrics=("macro_f1",)
)


def asked(task: str = "ambivalence", spec: TaskSpec = AMBIVALENCE, **settings: Any) -> dict[str, Any]:
    config = validate(ZeroShotConfig, settings, "zero_shot")
    return {prompt.name: prompt for prompt in prompts_to_ask(task, spec, config)}


def test_the_five_are_built_of_three_pieces() -> None:
    paragraphs = {name: prompt.text.split("\n\n") for name, prompt in BAH_PROMPTS.items()}
    (question,) = paragraphs["bah-simple"]
    first, second = paragraphs["bah-definition-1"][0], paragraphs["bah-definition-2"][0]
    spoken = paragraphs["bah-transcript-1"][0]
    assert paragraphs == {
        "bah-simple": [question],
        "bah-definition-1": [first, question],
        "bah-definition-2": [second, question],
        "bah-transcript-1": [spoken, first, question],
        "bah-transcript-2": [spoken, second, question],
    }
    assert first != second
    assert spoken.endswith(TRANSCRIPT)
    assert "Non-Ambivalent or Ambivalent" in question
    assert [*asked()] == [*BAH_PROMPTS]
    assert asked()["bah-simple"].answers == ("Non-Ambivalent", "Ambivalent")


def test_a_transcript_goes_in_as_it_is() -> None:
    prompt = asked()["bah-transcript-1"].question
    spoken = "  I {might}, {} or {transcript} \\1 %s { \n"
    assert spoken.strip() in prompt.of(spoken)
    assert prompt.of(spoken).endswith(prompt.without_transcript)
    for absent in (None, "", "  \n"):
        assert prompt.of(absent) == asked()["bah-definition-1"].question.text  # the prompt without T
    assert asked()["bah-simple"].question.of("spoken") == BAH_PROMPTS["bah-simple"].text
    assert [name for name, each in asked().items() if each.question.reads_transcript] == [
        "bah-transcript-1",
        "bah-transcript-2",
    ]


def test_prompts_of_ones_own() -> None:
    mine = {
        "text": "Says: {transcript}\n\nDoubt, {yes} or {no}?", "answers": {"absent": "no", "present": "yes"},
        "patterns": {"present": ["yes", "of course"]},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"text holds \{yes\}; only \{transcript\} is filled in"):
        asked(prompts={"mine": mine})
    mine["text"] = "Says: {transcript}\n\nDoubt, { yes } or {}?"
    (prompt,) = asked(prompts={"mine": mine}).values()  # one's own alone, where nothing else is asked for
    assert prompt.question.of("so") == "Says: so\n\nDoubt, { yes } or {}?"
    assert prompt.question.of(None) == "Doubt, { yes } or {}?"
    assert [prompt.reader.read(text).label for text in ("Of course", "No.", "YES")] == [1, 0, 1]
    assert [*asked(prompts={"mine": mine}, ask=["bah-simple", "mine", "mine"])] == ["bah-simple", "mine"]
    whole = PromptConfig(text="Says {transcript}. Doubt?", without_transcript="Doubt?")
    assert whole.bare == "Doubt?"


def test_any_task_has_prompts() -> None:
    known = known_prompts("mood_now", MOOD, {})
    assert [*known] == ["simple", "transcript"]
    assert known["simple"].text == known["transcript"].bare
    prompt = asked("mood_now", MOOD)["transcript"]
    assert "As to mood now" in prompt.question.text
    assert "calm, very tense or other?" in prompt.question.text
    assert prompt.answers == ("calm", "very tense", "other")
    assert prompt.reader.read("Very-tense!").label == 1
    assert [*known_prompts("ambivalence", MOOD, {})] == ["simple", "transcript"]  # other classes


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"text": "Says {transcript}?"}, "nothing is left to ask a clip without one; put the transcript into"),
        ({"text": "Says {transcrpit}?"}, "text holds {transcrpit}; .*did you mean 'transcript'"),
        ({"text": "A?", "without_transcript": "{transcript}"}, "without_transcript holds {transcript}"),
        ({"text": "A?", "patterns": {"absent": ["("]}}, r"patterns.absent: '\(' is no regular expression"),
        ({"text": "A?", "patterns": {"absent": ["x*"]}}, "fits every answer"),
        ({"text": "A?", "answers": {"absnt": "no"}}, "has no class 'absnt'; did you mean 'absent'"),
        ({"text": "A?", "patterns": {"here": ["no"]}}, "has no class 'here'"),
        ({"text": "A?", "answers": {"absent": "No", "present": "no"}}, "two classes have the same answer"),
        ({"text": "A?", "answers": {"absent": " "}}, "an answer is blank"),
    ],
)
def test_a_wrong_prompt_is_told(prompt: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        asked(prompts={"mine": prompt})


def test_wrong_names_are_told() -> None:
    with pytest.raises(ConfigError, match="'ambivalence' has no prompt 'bah-simpel'; did you mean 'bah-simple'"):
        asked(ask=["bah-simpel"])
    with pytest.raises(ConfigError, match="'emotion' is multi-label with 7 outputs"):
        asked("emotion", EMOTION)
    with pytest.raises(ConfigError, match="'my prompt' cannot name a prompt"):
        asked(prompts={"my prompt": {"text": "A?"}})
    with pytest.raises(ConfigError, match="no split is named 'tset'; did you mean 'test'"):
        asked(splits=["tset"])
    with pytest.raises(ConfigError, match=r"features\.weights: no model is named 'x/y'"):
        validate(ZeroShotRunConfig, {"features": {"weights": {"x/y": "folder"}}}, "mine.toml")
    own = {"features": {"weights": {"x/y": "folder"}}, "zero_shot": {"model": "x/y"}}
    assert validate(ZeroShotRunConfig, own, "mine.toml").features.weights == {"x/y": "folder"}
