"""Results of clips that a model predicts: values, decisions, and why modalities or whole clips are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from training.data import JoinedCorpora
from training.inputs import Defect
from training.prediction_data import take
from training.results import ClipResult, Results, judge, sentences_of
from training.trained import TrainedModel

__all__ = ["results_of"]

_NARRATOR = "cue-narrative"


def results_of(
    trained: TrainedModel,
    joined: JoinedCorpora,
    absent: Sequence[Mapping[str, str]],
    notes: Sequence[Mapping[str, str]],
    confidence: float,
) -> Results:
    """Predict clips that have anything, and put each together with why the rest of it is not there.

    Args:
        trained: the model.
        joined: clips and their vectors, on the CPU.
        absent: by clip and modality why it is not there; others are passed over.
        notes: by clip and modality what encoders left beside the vectors.
        confidence: in [0, 1], below which a decision is not to be used.

    Returns:
        A result per clip that has a modality, a defect per clip that has none.
    """
    there = joined.presence.any(dim=1)
    device = next(trained.model.parameters()).device
    some = take(joined, torch.nonzero(there).flatten()).to(device)
    predicted = {task: np.zeros((0, spec.num_outputs)) for task, spec in trained.tasks.items()}
    if len(some.clips):
        predicted = trained.predict(some, torch.arange(len(some.clips), device=device))
    judged = iter(judge(predicted, trained.tasks, trained.calibration, confidence))
    columns = joined.clips.astype(object)
    rows = columns.where(columns.notna(), None).to_dict("records")
    clips, defects = [], []
    for row, has_any, reasons, said in zip(rows, there.tolist(), absent, notes, strict=True):
        place = (row.get("recording") or row["clip_id"], row["media"] or "", row["start"], row["end"])
        if not has_any:
            told = list(dict.fromkeys(reasons.values())) or ["none of the model's modalities is there"]
            defects.append(Defect(*place, "; ".join(told)))
            continue
        narrated, others = "", said.get("behavior", "")
        if trained.features.encoders.get("behavior") == _NARRATOR:
            narrated, _, others = others.partition("\n")
        seen = sentences_of(narrated) if narrated else ()
        why = {name: reason for name, reason in reasons.items() if name in joined.features}
        kept = {name: note for name, note in {**said, "behavior": others}.items() if note}
        text = (row["text"], row.get("text_source"), row["language"])
        clips.append(ClipResult(*place, next(judged), why, *text, seen, kept))
    return Results(clips, defects, trained.tasks, some, predicted)
