"""Configuration of `mmpsr zero-shot`: corpora, model, prompts, and where the results go."""

from __future__ import annotations

import re
from typing import TypeVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from corpora.registry import CorporaConfig
from encoders.catalogue.entries import ENTRIES
from encoders.catalogue.entry import EMBEDDED
from encoders.config import FeaturesConfig
from encoders.writers.answerer import NUM_FRAMES, TRANSCRIPT
from mmpsr.config import Config, nearest
from mmpsr.tasks import TasksConfig

__all__ = ["PromptConfig", "ZeroShotConfig", "ZeroShotFeatures", "ZeroShotRunConfig"]

_Names = TypeVar("_Names", dict[str, str], tuple[str, ...])
_FIELD = re.compile(r"\{(\w+)\}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class PromptConfig(Config):
    """One prompt, and how its answers are read as classes of a single-label task."""

    text: str = Field(min_length=1)
    """What the model is asked; `{transcript}` is where a clip's transcript goes, and no other name stands in braces."""
    without_transcript: str | None = None
    """What a clip without transcript is asked; left out, `text` without the paragraphs that hold `{transcript}`."""
    answers: dict[str, str] = Field(default_factory=dict)
    """By class, the answer that stands for it, read as whole words; left out, the class' name."""
    patterns: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By class, regular expressions that are read in place of its answer, whatever the case."""

    @property
    def bare(self) -> str:
        """What a clip without transcript is asked."""
        if self.without_transcript is not None:
            return self.without_transcript
        paragraphs = re.split(r"\n\s*\n", self.text)
        return "\n\n".join(paragraph for paragraph in paragraphs if TRANSCRIPT not in paragraph).strip()

    @model_validator(mode="after")
    def _check(self) -> PromptConfig:
        for name, text in (("text", self.text), ("without_transcript", self.without_transcript or "")):
            for field in _FIELD.findall(text):
                if f"{{{field}}}" != TRANSCRIPT or name != "text":
                    raise ValueError(
                        f"{name} holds {{{field}}}; only {TRANSCRIPT} is filled in, and only in text"
                        + (f" ({nearest(field, [TRANSCRIPT.strip('{}')])})" if name == "text" else "")
                    )
        if not self.bare:
            raise ValueError(
                f"every paragraph of text holds {TRANSCRIPT}, so that nothing is left to ask a clip without one; put "
                "the transcript into a paragraph of its own (a blank line between), or give without_transcript"
            )
        for name, patterns in self.patterns.items():
            for pattern in patterns:
                try:
                    matches_nothing = re.compile(pattern).match("") is not None
                except re.error as error:
                    raise ValueError(f"patterns.{name}: {pattern!r} is no regular expression ({error})") from None
                if matches_nothing:
                    raise ValueError(f"patterns.{name}: {pattern!r} fits every answer, also an empty one")
        return self


class ZeroShotConfig(Config):
    """What a model is asked of each clip, and of which."""

    model: str = "LanguageBind/Video-LLaVA-7B-hf"
    """Id on the hub of a vision-language model with a chat template; `features.weights` may name a local copy of it."""
    revision: str | None = None
    """Commit of its repository; left out, the catalogue's or the newest. A model that runs its own code needs one."""
    task: str = "ambivalence"
    """The single-label task that answers are read for."""
    ask: tuple[str, ...] = ()
    """Prompts that are asked; left out, your own where there are any, else all that the task has."""
    prompts: dict[str, PromptConfig] = Field(default_factory=dict)
    """Prompts of your own by name, see `docs/zero_shot.md`."""
    splits: tuple[str, ...] = ("test",)
    """Splits whose clips are asked about; with `dev` among them, the prompt that is best there is marked."""
    window: int | None = Field(default=None, ge=1)
    """Frames that one answer holds for, without overlap; left out, a clip gets one answer."""
    likelihood: bool = False
    """Also compare how likely the model finds the answer of each class, which gives probabilities."""
    num_frames: int = Field(default=NUM_FRAMES, ge=1)
    """Evenly spaced frames that the model sees with each question; fewer are continued with the last."""
    max_new_tokens: int = Field(default=8, ge=1)
    """Most tokens of an answer."""
    batch_size: int = Field(default=8, ge=1)
    """Questions asked at once, and the most that a kill can cost."""

    @field_validator("prompts")
    @classmethod
    def _check_names(cls, prompts: dict[str, PromptConfig]) -> dict[str, PromptConfig]:
        for name in prompts:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot name a prompt; use letters, digits, dots, dashes and underscores, and start with "
                    "a letter or a digit"
                )
        return prompts

    @field_validator("splits")
    @classmethod
    def _check_splits(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        for split in splits:
            if split not in ("train", "dev", "test"):
                raise ValueError(f"no split is named {split!r}; {nearest(split, ('train', 'dev', 'test'))}")
        if not splits:
            raise ValueError("is empty; name train, dev or test")
        return tuple(dict.fromkeys(splits))


class ZeroShotFeatures(FeaturesConfig):
    """Store of the answers, device and threads, and what writes transcripts where clips have none."""

    @field_validator("weights", "trust_remote_code")
    @classmethod
    def _check_repositories(cls, names: _Names, info: ValidationInfo) -> _Names:
        return names  # the model that is asked is known to the whole configuration alone


class ZeroShotOutput(Config):
    """Where results are written."""

    directory: str = "runs"
    """Folder of all results, relative to the working directory."""
    name: str | None = None
    """Folder of this configuration's results below it; the configuration file's name where left out."""


class ZeroShotRunConfig(Config):
    """Everything that asking a model needs."""

    corpora: CorporaConfig = Field(default_factory=CorporaConfig)
    """Corpora and where they are."""
    features: ZeroShotFeatures = Field(default_factory=ZeroShotFeatures)
    """The store of the answers, the device, and a transcriber; encoders are not used."""
    tasks: TasksConfig = Field(default_factory=TasksConfig)
    """Declarations of tasks of your own."""
    zero_shot: ZeroShotConfig = Field(default_factory=ZeroShotConfig)
    """Model and prompts."""
    output: ZeroShotOutput = Field(default_factory=ZeroShotOutput)
    """Where results are written."""

    @model_validator(mode="after")
    def _known_repositories(self) -> ZeroShotRunConfig:
        known = {entry.home for entry in ENTRIES if entry.family != EMBEDDED} | {self.zero_shot.model}
        if self.features.transcriber is not None:
            known.add(self.features.transcriber.model)
        for field in ("weights", "trust_remote_code"):
            for name in getattr(self.features, field):
                if name not in known:
                    raise ValueError(f"features.{field}: no model is named {name!r}; {nearest(name, known)}")
        return self
