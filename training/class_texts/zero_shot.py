"""Zero-shot tasks: read, embedded, and put into words - what they rest on, and for each clip on which texts.

Shape suffixes: N clips, T texts, W width of a text encoder's space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from encoders.config import FeaturesConfig
from encoders.extraction.read import encoder_specs
from mmpsr.config import ConfigError, nearest
from mmpsr.prototypes.points import default_wordings, embed_prototypes
from mmpsr.prototypes.texts import WORDINGS, Meaning, TaskTexts, Wording
from mmpsr.tasks import TaskSpec, task_name, task_of_texts
from training.class_texts.embedding import embed_texts, text_features
from training.class_texts.model import TEMPERATURE, NearestTexts
from training.data.joined import JoinedCorpora

__all__ = ["NO_WORDS", "Sources", "ZeroShot", "parse_wordings", "read_zero_shot", "with_text_encoder", "wordings_of"]

NO_WORDS = "nothing is said and no behaviour described that class texts could be compared with"
"""Why nothing is predicted of a clip."""
NUM_NEAREST = 2
"""Texts that are named of a clip and modality."""
_BEFORE = {"text": "What is said is nearest to", "behavior": "What is described is nearest to"}
_NEVER = {"text": "behaviors", "behavior": "phrases"}
_PREFIX = "zero-shot-"
_LOW = ".opposite"

Sources = Sequence[str]
"""Names of texts that ship, or TOML files."""


@dataclass(frozen=True)
class _Texts:
    """All texts that a modality is compared with: whose and which, their vectors `[T, W]`, the middle `[W]`."""

    places: tuple[tuple[str, Wording, str], ...]
    vectors: NDArray[np.float64]
    middle: NDArray[np.float64]

    def nearest(self, vectors_NW: NDArray[np.floating]) -> list[str]:
        """Name the texts nearest to each vector, with their cosines as `similarities` sees them."""
        cosines_NT = _unit(_unit(vectors_NW) - self.middle) @ _unit(self.vectors - self.middle).T
        told = []
        for cosines_T in cosines_NT:
            order = np.argsort(-cosines_T, kind="stable")[:NUM_NEAREST].tolist()
            parts = [(*self.places[index], float(cosines_T[index])) for index in order]
            told.append(", ".join(f"“{text}” ({kind} of {name}, {cosine:.2f})" for name, kind, text, cosine in parts))
        return told


@dataclass(frozen=True)
class ZeroShot:
    """Tasks that are predicted by class texts.

    Attributes:
        model: predicts them.
        sources: by task, the name or file of its texts.
        wordings: by task and modality, the wordings that are compared.
        encoder: id of the text encoder.
    """

    model: NearestTexts
    sources: Mapping[str, str]
    wordings: Mapping[str, Mapping[str, tuple[Wording, ...]]]
    encoder: str
    _texts: Mapping[tuple[str, str], _Texts] = field(repr=False)

    @property
    def about(self) -> str:
        """The line that stands over predictions without a trained model."""
        named = (task if task == source else f"{task} ({source})" for task, source in self.sources.items())
        tasks = " and ".join(named)
        return (
            f"No label and no training: zero-shot, by how near words are to texts of what the classes of {tasks} mean. "
            "How good that is, is not known until it is evaluated on labelled clips (mmpsr evaluate --zero-shot)."
        )

    def statement(self, task: str) -> str:
        """Say what a task's numbers are, and what they rest on."""
        spec = self.model.tasks[task]
        compared = "; ".join(
            f"{_WORDS[modality]} with {', '.join(kinds)}" for modality, kinds in self.wordings[task].items()
        )
        numbers = {
            "single_label": "similarities made into probabilities by a softmax",
            "multi_label": "similarities made into probabilities by a sigmoid of each class",
            "regression": "differences of similarities to both poles made into scores by a sigmoid",
        }[spec.kind]
        if spec.kind == "multi_label" and not spec.is_binary:
            numbers = "similarities made into probabilities by a softmax"
        return (
            f"Zero-shot by the texts of {self.sources[task]}, no label used: {numbers} at temperature {TEMPERATURE:g}, "
            f"not calibrated ({compared}; {self.encoder})"
        )

    def rests_on(self, joined: JoinedCorpora) -> list[dict[str, tuple[str, ...]]]:
        """Name by clip and task the texts that are nearest to it, a sentence a modality; none without any."""
        told: list[dict[str, tuple[str, ...]]] = [{task: () for task in self.sources} for _ in joined.clips.index]
        names = list(joined.features)
        for (task, modality), texts in self._texts.items():
            present = joined.presence[:, names.index(modality)].cpu().numpy()
            vectors = joined.features[modality].cpu().numpy()[present][:, : len(texts.middle)]
            for row, nearest_texts in zip(np.flatnonzero(present), texts.nearest(vectors), strict=True):
                told[row][task] += (f"{_BEFORE[modality]} {nearest_texts}",)
        return told


_WORDS = {"text": "what is said", "behavior": "described behaviour"}


def with_text_encoder(features: FeaturesConfig, encoder: str | None, modalities: Sequence[str]) -> FeaturesConfig:
    """Let one encoder read what is said, and described behaviour where it can: texts of one space.

    Args:
        features: store, device, weights, writers.
        encoder: id; None for that of `features`.
        modalities: of which both are left out that are not among them.

    Raises:
        ConfigError: neither is text among the modalities, or there is no such encoder.
    """
    chosen = encoder or features.encoders.get("text", FeaturesConfig().encoders["text"])
    encoders = {name: chosen for name in ("text", "behavior") if name in modalities}
    changed = features.model_copy(update={"encoders": encoders, "sequences": {}, "timed": ()})
    text_features(changed)
    encoder_specs(changed.model_copy(update={"encoders": {"text": chosen}}))
    try:
        encoder_specs(changed)
    except ConfigError:  # it reads no descriptions
        return changed.model_copy(update={"encoders": {"text": chosen}})
    return changed


def parse_wordings(asked: str | None) -> tuple[Wording, ...] | None:
    """Read wordings, joined by commas.

    Raises:
        ConfigError: one is not known.
    """
    if asked is None:
        return None
    names = [name.strip() for name in asked.split(",")]
    for name in names:
        if name not in WORDINGS:
            raise ConfigError(f"--wordings: no wording is named {name!r}; {nearest(name, WORDINGS)}")
    return tuple(kind for kind in WORDINGS if kind in names)


def wordings_of(
    texts: TaskTexts, modality: str, asked: Sequence[Wording] | None, place: str = "texts"
) -> tuple[Wording, ...]:
    """Choose the wordings that a modality is compared with: those asked for, else the usual ones, that there are.

    Spoken phrases are compared with what is said alone, described behaviour with descriptions alone. Texts of none of
    the usual wordings are compared by their names.

    Raises:
        ConfigError: a class lacks a wording that others have.
    """
    chosen = default_wordings(modality) if asked is None else tuple(asked)
    found = []
    for kind in chosen:
        by_pole = {name: bool(meaning.wording(kind, texts.templates)) for name, meaning in _poles(texts)}
        if kind == _NEVER[modality] or not any(by_pole.values()):
            continue
        if lacking := [name for name, has_any in by_pole.items() if not has_any]:
            raise ConfigError(f"{place}: [texts.{lacking[0]}] has no {kind}, which other classes have; give it some")
        found.append(kind)
    return tuple(found) if found or asked is not None else ("names",)


def _poles(texts: TaskTexts) -> list[tuple[str, Meaning]]:
    high: list[tuple[str, Meaning]] = list(texts.texts.items())
    low = [(f"{name}{_LOW}", each.opposite) for name, each in texts.texts.items() if each.opposite is not None]
    return high + low


def read_zero_shot(
    sources: Sequence[str],
    features: FeaturesConfig,
    *,
    declared: Mapping[str, TaskSpec] | None = None,
    taken: Sequence[str] = (),
    wordings: Sequence[Wording] | None = None,
    place: str = "--task-texts",
) -> ZeroShot:
    """Read tasks of texts alone and embed their texts.

    Args:
        sources: names of texts that ship or files; or names of `declared` tasks with texts of their own.
        features: encoders; behaviour is compared where it has the text's encoder.
        declared: tasks of a configuration, by name.
        taken: names of tasks that a trained model has; one of these is called `zero-shot-<name>`.
        wordings: in place of the usual ones.
        place: what names the sources, for errors.

    Raises:
        ConfigError: texts, or a wording, cannot be used.
        ExtractionError: the encoder cannot be loaded.
    """
    for kind in () if wordings is None else wordings:
        if kind not in WORDINGS:
            raise ConfigError(f"wordings: none is named {kind!r}; {nearest(kind, WORDINGS)}")
    encoder = text_features(features).encoders["text"]
    modalities = [name for name in ("text", "behavior") if features.encoders.get(name) == encoder]
    width = encoder_specs(text_features(features))["text"]
    embed = partial(embed_texts, features=features)
    tasks: dict[str, TaskSpec] = {}
    named: dict[str, str] = {}
    used: dict[str, dict[str, tuple[Wording, ...]]] = {}
    prototypes: dict[str, dict[str, NDArray[np.float32]]] = {}
    every: dict[tuple[str, str], _Texts] = {}
    for source in sources:
        name, spec = _declared(source, declared or {}, place)
        name = f"{_PREFIX}{name}" if name in taken else name
        if name in tasks:
            raise ConfigError(f"{place}: two tasks are named {name!r}, of {named[name]} and {source}; name each once")
        texts = spec.texts
        assert texts is not None
        is_regression = spec.kind == "regression"
        tasks[name], named[name], used[name], prototypes[name] = spec, source, {}, {}
        for modality in modalities:
            kinds = wordings_of(texts, modality, wordings, f"{place}: {source}")
            if not kinds:
                continue
            points = embed_prototypes(texts, spec.classes, kinds, embed, is_regression)
            used[name][modality], prototypes[name][modality] = kinds, points
            places = tuple(
                (_pole_name(pole), kind, text)
                for pole, meaning in _poles(texts)
                for kind in kinds
                for text in meaning.wording(kind, texts.templates)
            )
            vectors = _unit(embed([text for _, _, text in places]))
            every[name, modality] = _Texts(places, vectors, points.astype(np.float64).mean(axis=(0, 1)))
        if not used[name]:
            raise ConfigError(f"{place}: {source} has no text of {', '.join(wordings or ())}; choose other --wordings")
    widths = dict.fromkeys(modalities, width.vector_width)
    return ZeroShot(NearestTexts(widths, prototypes, tasks), named, used, encoder, every)


def _pole_name(pole: str) -> str:
    return f"low {pole.removesuffix(_LOW)}" if pole.endswith(_LOW) else pole


def _declared(source: str, declared: Mapping[str, TaskSpec], place: str) -> tuple[str, TaskSpec]:
    """Declare a task: texts of a configuration's own under its name, else those that are named."""
    name = task_name(source)
    spec = declared.get(name)
    if source == name and spec is not None and spec.texts is not None:
        return name, spec
    return name, task_of_texts(source, place, spec)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    return np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
