"""Prompts that ship, and those that are made from the names of a task's classes.

The prompts `bah-*` follow the five of the BAH paper in what they are built of: a question Q, one of two definitions D1
and D2, and the transcript T. Their wordings are this project's own, so a figure always names its prompt.

    bah-simple = Q                bah-definition-1 = D1 Q       bah-definition-2 = D2 Q
    bah-transcript-1 = T D1 Q     bah-transcript-2 = T D2 Q

References:
    González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for digital behavioural
    change. ICLR 2026, arXiv:2505.19328.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from encoders.writers.answerer import TRANSCRIPT, Question
from mmpsr.config import ConfigError, nearest
from mmpsr.tasks import TaskSpec
from training.zero_shot.config import PromptConfig, ZeroShotConfig
from training.zero_shot.reader import AnswerReader

__all__ = ["BAH_PROMPTS", "Prompt", "known_prompts", "prompts_to_ask"]

_QUESTION = (
    "Which name fits the emotion of the person in this video: Non-Ambivalent or Ambivalent? Reply with one word, one "
    "of these two names."
)
_CONFLICT = (
    "To be ambivalent is to be torn by one thing: to hold, at one moment, feelings or opinions about it that are at "
    "odds with each other."
)
_CHANGE = (
    "We speak of ambivalence and hesitancy where someone is for a change and against it at once: a part of them wishes "
    "it, and another part does not."
)
_SPOKEN = f"What the person says in the video, word for word: {TRANSCRIPT}"
_BAH_CLASSES = ("absent", "present")


def _bah(*pieces: str) -> PromptConfig:
    return PromptConfig(
        text="\n\n".join(pieces),
        answers={"absent": "Non-Ambivalent", "present": "Ambivalent"},
        patterns={"absent": (r"non[\s\-\u2010-\u2015]*ambivalent",), "present": ("ambivalent",)},
    )


BAH_PROMPTS: Mapping[str, PromptConfig] = {
    "bah-simple": _bah(_QUESTION),
    "bah-definition-1": _bah(_CONFLICT, _QUESTION),
    "bah-definition-2": _bah(_CHANGE, _QUESTION),
    "bah-transcript-1": _bah(_SPOKEN, _CONFLICT, _QUESTION),
    "bah-transcript-2": _bah(_SPOKEN, _CHANGE, _QUESTION),
}
"""Name -> prompt of the task `ambivalence` with the classes `absent` and `present`."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is asked and read.

    Attributes:
        name: in the configuration.
        question: what is asked.
        answers: of each class, in the task's order.
        reader: of what the model writes.
    """

    name: str
    question: Question
    answers: tuple[str, ...]
    reader: AnswerReader


def known_prompts(task: str, spec: TaskSpec, own: Mapping[str, PromptConfig]) -> dict[str, PromptConfig]:
    """List all prompts of a task: those that ship or are made from its classes, and a user's own, which win."""
    if task == "ambivalence" and spec.classes == _BAH_CLASSES:
        return {**BAH_PROMPTS, **own}
    return {**_made_from_classes(task, spec), **own}


def _made_from_classes(task: str, spec: TaskSpec) -> dict[str, PromptConfig]:
    names = [_readable(name) for name in spec.classes]
    listed = f"{', '.join(names[:-1])} or {names[-1]}"
    question = (
        f"Look at the person in this video. As to {_readable(task)}, which of these fits best: {listed}? Reply with "
        "one of these names alone."
    )
    return {
        "simple": PromptConfig(text=question),
        "transcript": PromptConfig(text=f"{_SPOKEN}\n\n{question}"),
    }


def _readable(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def prompts_to_ask(task: str, spec: TaskSpec, config: ZeroShotConfig) -> list[Prompt]:
    """Choose the prompts that are asked.

    Raises:
        ConfigError: the task has not one label a clip, a prompt does not exist, or names another class than the task.
    """
    if spec.kind != "single_label" or spec.num_outputs < 2:
        raise ConfigError(
            f"zero_shot.task: {task!r} is {spec.kind.replace('_', '-')} with {spec.num_outputs} outputs; answers are "
            "read as one of several classes, which needs a single-label task"
        )
    known = known_prompts(task, spec, config.prompts)
    names = config.ask or tuple(config.prompts) or tuple(known)
    for name in names:
        if name not in known:
            raise ConfigError(f"zero_shot.ask: task {task!r} has no prompt {name!r}; {nearest(name, known)}")
    return [_prompt(name, known[name], spec) for name in dict.fromkeys(names)]


def _prompt(name: str, config: PromptConfig, spec: TaskSpec) -> Prompt:
    for field, given in (("answers", config.answers), ("patterns", config.patterns)):
        for label in given:
            if label not in spec.classes:
                raise ConfigError(
                    f"zero_shot.prompts.{name}.{field}: the task has no class {label!r}; {nearest(label, spec.classes)}"
                )
    answers = tuple(config.answers.get(label, _readable(label)) for label in spec.classes)
    for place, answer in enumerate(answers):
        if not answer.strip() or answer.casefold() in (other.casefold() for other in answers[:place]):
            reason = "two classes have the same answer" if answer.strip() else "an answer is blank"
            raise ConfigError(f"zero_shot.prompts.{name}.answers: {reason} ({answer!r}); it cannot tell them apart")
    patterns = tuple(config.patterns.get(label, ()) for label in spec.classes)
    return Prompt(name, Question(config.text, config.bare), answers, AnswerReader(answers, patterns))
