"""What a model is given to predict, and what becomes of it: clip tables made whole, vectors, results, notes.

Shapes: N clips, M modalities, D_m width of a modality's vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from corpora.clips import ClipTable, conform, label_columns
from encoders.config import FeaturesConfig
from encoders.device import choose_device
from encoders.errors import ExtractionError
from encoders.extraction.read import clip_records, make_encoders
from encoders.store.vector_store import FeatureStore
from encoders.visibility import FaceFigures
from encoders.writers import fill
from encoders.writers.base import TextWriter
from encoders.writers.build import text_writers
from mmpsr.calibration.conformal import COVERAGE
from mmpsr.calibration.novelty import ClipNovelty
from mmpsr.config import ConfigError, base_of, nearest
from mmpsr.layers.standardizer import Standardizer
from training.class_texts.zero_shot import NO_WORDS
from training.data.joined import JoinedCorpora, gather
from training.data.ragged import Ragged
from training.predict.inputs import Defect
from training.predict.results import ClipResult, Results, abstain_novel, judge, resting_on, sentences_of
from training.predict.windows import CORPUS
from training.runs.trained import TrainedModel

__all__ = ["PredictionTable", "VectorTable", "joined_vectors", "results_of"]

_WRITERS = {"transcriber": "transcripts", "describer": "descriptions"}
_NARRATOR = "cue-narrative"


@dataclass(frozen=True)
class VectorTable:
    """Clips with their vectors, as a model takes them, and why some are not there.

    Attributes:
        joined: clips and their vectors, on the CPU.
        absent: by clip and modality why it is not there; modalities that the model does not take are passed over.
        remarks: by clip and modality what encoders left beside the vectors.
        faces: by clip and modality what the pictures show of faces, also where there is no vector.
        notes: sentences on what could not be done for any clip.
    """

    joined: JoinedCorpora
    absent: Sequence[Mapping[str, str]]
    remarks: Sequence[Mapping[str, str]]
    faces: Sequence[Mapping[str, FaceFigures]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PredictionTable:
    """A whole clip table that is to be predicted: read, completed with texts, joined with vectors.

    Attributes:
        clips: clip table without labels.
        notes: sentences on what could not be done for any clip.
    """

    clips: pd.DataFrame
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, clips: pd.DataFrame, trained: TrainedModel) -> PredictionTable:
        """Complete a clip table that may lack what prediction does not need; labels are left out.

        Raises:
            CorpusError: a clip has no id or one that is there twice, or a span that cannot be.
        """
        clips = conform(clips)
        for column, value in (("corpus", CORPUS), ("split", "test"), ("group", clips["clip_id"])):
            clips[column] = clips[column].fillna(value)
        labels = [name for task, spec in trained.tasks.items() for name in label_columns(task, spec)]
        return cls(ClipTable(clips.drop(columns=labels, errors="ignore")).validate(trained.tasks).clips)

    def with_texts(self, features: FeaturesConfig, writers: MutableMapping[str, TextWriter]) -> PredictionTable:
        """Add the texts that the configured models write, and a note for a model that cannot be used.

        Args:
            features: models and store.
            writers: by section of the configuration those made before, which stay loaded; others are added.
        """
        notes = []
        given = self.clips["text"]
        clips = self.clips.assign(text_source=given.notna().map({True: "given", False: None}))
        for name, what in _WRITERS.items():
            if getattr(features, name) is None:
                continue
            device, dtype = choose_device(features)
            try:
                if name not in writers:
                    alone = features.model_copy(update={other: None for other in _WRITERS if other != name})
                    (writers[name],) = text_writers(alone, device, dtype)
                clips = fill.fill_texts(clips, features, show_progress=False, writers=[writers[name]]).clips
            except (ExtractionError, ConfigError) as error:
                notes.append(f"no {what} are written: {error}")
        written = clips["text"].notna() & ~clips["text"].eq(given).fillna(False)
        clips.loc[written, "text_source"] = "written"
        return PredictionTable(clips, (*self.notes, *notes))

    def with_vectors(self, features: FeaturesConfig, trained: TrainedModel, ledger: pd.DataFrame) -> VectorTable:
        """Join the vectors that an extraction left in the store; empty sequences stand where no clip has one.

        Args:
            features: encoders and store.
            trained: the model.
            ledger: of the extraction.
        """
        joined = gather(self.clips, features, trained.tasks, trained.config.model.reads_sequences)
        lengths = torch.zeros(len(self.clips), dtype=torch.int64)
        for name, standardizer in getattr(trained.model, "sequence_standardizers", {}).items():
            blank = torch.zeros(1, len(standardizer.mean), dtype=torch.float16)
            joined.sequences.setdefault(name, Ragged(blank, lengths, lengths, 1))
        return VectorTable(joined, self._absences(ledger), *self._left_beside(features), self.notes)

    def _absences(self, ledger: pd.DataFrame) -> list[dict[str, str]]:
        """List by clip and modality why it is not there, of the ledger and of the column `no_transcript`."""
        reasons_by_clip: dict[tuple[str, str], dict[str, str]] = {}
        for row in ledger.to_dict("records"):
            reasons_by_clip.setdefault((row["corpus"], row["clip_id"]), {})[row["modality"]] = row["reason"]
        clips = self.clips
        absent = [reasons_by_clip.get(key, {}) for key in zip(clips["corpus"], clips["clip_id"], strict=True)]
        if "no_transcript" in clips:
            for reasons, why, text in zip(absent, clips["no_transcript"], clips["text"], strict=True):
                if pd.isna(text) and pd.notna(why):
                    reasons.update({name: str(why) for name in reasons if base_of(name) == "text"})
        return absent

    def _left_beside(self, features: FeaturesConfig) -> tuple[list[dict[str, str]], list[dict[str, FaceFigures]]]:
        """List by clip and modality what encoders left beside the vectors: remarks, and figures of faces."""
        store, records = FeatureStore(features.store), clip_records(self.clips, features)
        remarks: list[dict[str, str]] = [{} for _ in records]
        faces: list[dict[str, FaceFigures]] = [{} for _ in records]
        for modality, encoder in make_encoders(features).items():
            spec, corpora = encoder.spec, {record["corpus"] for record in records}
            notes = {corpus: store.notes(corpus, spec) for corpus in corpora}
            figures = {corpus: store.figures(corpus, spec) for corpus in corpora}
            for row, record in enumerate(records):
                corpus, key = record["corpus"], (record["clip_id"], encoder.source(record))
                if (remark := notes[corpus].get(key)) is not None:
                    remarks[row][modality] = remark
                if (seen := FaceFigures.of(figures[corpus].get(key, {}))) is not None:
                    faces[row][modality] = seen
        return remarks, faces


def joined_vectors(
    trained: TrainedModel, vectors: Mapping[str, ArrayLike], presence: Mapping[str, ArrayLike]
) -> VectorTable:
    """Join vectors as the model takes them; clips are numbered from 0.

    Args:
        trained: the model.
        vectors: by modality `[N, D_m]`.
        presence: by modality bool `[N]`; of the others, rows without NaN and infinity are present.

    Raises:
        ValueError: a modality or a width is not the model's, numbers of rows differ, or a present row is not finite;
            or the model reads sequences.
    """
    model = trained.model
    if getattr(model, "sequence_standardizers", {}):
        raise ValueError("the model reads sequences, which vectors cannot replace; predict from recordings")
    arrays = {name: np.asarray(values, dtype=np.float32) for name, values in vectors.items()}
    for name in [*arrays, *presence]:
        if name not in model.modalities:
            raise ValueError(f"the model takes no {name!r}; {nearest(name, model.modalities)}")
    num_clips = len(next(iter(arrays.values()), ()))
    features, there = {}, []
    for name in model.modalities:
        shape = (num_clips, len(cast(Standardizer, model.standardizers[name]).mean))
        array = arrays.get(name, np.full(shape, np.nan, dtype=np.float32))
        if array.shape != shape:
            raise ValueError(f"{name} has shape {list(array.shape)}, expected {list(shape)} as in training")
        finite = np.isfinite(array).all(axis=1)
        present = np.asarray(presence.get(name, finite), dtype=bool)
        if present.shape != (num_clips,):
            raise ValueError(f"presence of {name} has shape {list(present.shape)}, expected [{num_clips}]")
        if (present & ~finite).any():
            raise ValueError(f"{name}: row {int((present & ~finite).argmax())} is said to be present but is not finite")
        features[name] = torch.from_numpy(np.where(present[:, None], array, np.float32(0.0)))
        there.append(torch.from_numpy(present))
    clips = PredictionTable.of(pd.DataFrame({"clip_id": [str(number) for number in range(num_clips)]}), trained).clips
    labels = {task: torch.full((num_clips, spec.num_outputs), torch.nan) for task, spec in trained.tasks.items()}
    joined = JoinedCorpora(clips, features, torch.stack(there, dim=1), labels)
    absent = [
        {name: "not given" for name, is_there in zip(features, row, strict=True) if not is_there}
        for row in joined.presence.tolist()
    ]
    return VectorTable(joined, absent, [{}] * len(absent), [{}] * len(absent))


def results_of(
    trained: TrainedModel, table: VectorTable, confidence: float, novelty: float | None = None,
    coverage: float = COVERAGE,
) -> Results:  # fmt: skip
    """Predict clips that have anything, and put each together with why the rest of it is not there.

    Args:
        trained: the model.
        table: clips and their vectors.
        confidence: in [0, 1], below which a decision is not to be used.
        novelty: in [0, 1], from which on nothing is decided; None decides however novel a clip is.
        coverage: in [0.5, 0.99], chance with which sets and intervals shall hold the truth.

    Returns:
        A result per clip that has a modality, a defect per clip that has none.
    """
    joined = table.joined
    there = joined.presence.any(dim=1)
    device = next(trained.model.buffers()).device
    some = joined.select(torch.nonzero(there).flatten()).to(device)
    predicted = {task: np.zeros((0, spec.num_outputs)) for task, spec in trained.tasks.items()}
    unlike: list[dict[str, ClipNovelty]] = []
    if len(some.clips):
        numbers = torch.arange(len(some.clips), device=device)
        predicted, unlike = trained.predict(some, numbers), trained.judge_novelty(some, numbers)
    rows_of_tasks = judge(predicted, trained.tasks, trained.calibration, confidence, coverage)
    if trained.zero_shot is not None:
        told = trained.zero_shot.rests_on(some)
        rows_of_tasks = [resting_on(row, each) for row, each in zip(rows_of_tasks, told, strict=True)]
    judged = iter([(abstain_novel(row, new, novelty), new) for row, new in zip(rows_of_tasks, unlike, strict=True)])
    columns = joined.clips.astype(object)
    rows = columns.where(columns.notna(), None).to_dict("records")
    clips, defects = [], []
    narrator = next((name for name, encoder in trained.features.encoders.items() if encoder == _NARRATOR), "")
    left = zip(rows, there.tolist(), table.absent, table.remarks, table.faces, strict=True)
    for row, has_any, reasons, remarks, faces in left:
        place = (row.get("recording") or row["clip_id"], row["media"] or "", row["start"], row["end"])
        if not has_any:
            sentences = list(dict.fromkeys(reasons.values())) or ["none of the model's modalities is there"]
            sentences = [NO_WORDS, *sentences] if trained.is_untrained else sentences
            defects.append(Defect(*place, "; ".join(sentences)))
            continue
        narrated, others = "", remarks.get(narrator, "")
        if narrator:
            narrated, _, others = others.partition("\n")
        seen = sentences_of(narrated) if narrated else ()
        why = {name: reason for name, reason in reasons.items() if name in joined.features}
        kept = {name: note for name, note in {**remarks, narrator: others}.items() if note}
        text = (row["text"], row.get("text_source"), row["language"])
        tasks, new = next(judged)
        clips.append(ClipResult(*place, tasks, why, *text, seen, kept, dict(faces), new))
    return Results(clips, defects, trained.tasks, some, predicted, table.notes)
