"""Recordings in; for each the probability over time, the segments found, what was seen, heard and said then.

The document has the fields of `training.predict.document.document_of` where they mean the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.clips import ClipTable, conform
from encoders.cues.encoder import narrative_of
from encoders.errors import EncodingError, MissingModality
from encoders.extraction.extract import extract
from encoders.extraction.read import clip_records, read_timed
from encoders.media.clip import ClipMedia
from mmpsr.metrics.in_time import video_score
from mmpsr.metrics.segments import find_segments, to_seconds
from training.in_time.data import gather_frames
from training.in_time.figures import clip_window, segment_rule
from training.in_time.fit import frame_probabilities
from training.in_time.trained import InTimeModel
from training.predict.inputs import Defect
from training.predict.results import Sentence, sentences_of

__all__ = ["FoundSegment", "InTimeResult", "document_in_time", "frame_table", "predict_in_time"]

SCHEMA = 1
"""Raised when a field of the document changes its name or meaning."""
DIGITS = 4


@dataclass(frozen=True)
class FoundSegment:
    """A span in which the class is found.

    Attributes:
        start: seconds of the recording.
        end: seconds of the recording.
        probability: mean over its frames.
        cues: sentences of the behaviour narrative that name a second of it.
    """

    start: float
    end: float
    probability: float
    cues: tuple[Sentence, ...] = ()


@dataclass(frozen=True)
class InTimeResult:
    """What is predicted of one recording.

    Attributes:
        id: of the recording.
        path: of its file.
        rate: frames per second.
        start: second of the first frame.
        probabilities: of the looked-for class by frame, `[T]`.
        segments: spans found, in order of time.
        probability: of the recording as a whole: the highest mean over consecutive frames.
        decided: the class that this decides for.
        absent: by modality that is not there, why.
        text: transcript, or None.
        narrative: described behaviour; empty where no face was found.
    """

    id: str
    path: str
    rate: float
    start: float
    probabilities: tuple[float, ...]
    segments: tuple[FoundSegment, ...]
    probability: float
    decided: str
    absent: dict[str, str]
    text: str | None = None
    narrative: tuple[Sentence, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Make JSON values."""
        return asdict(self)


def predict_in_time(
    trained: InTimeModel,
    clips: pd.DataFrame,
    store: Path,
    *,
    with_cues: bool = True,
) -> tuple[list[InTimeResult], list[Defect]]:
    """Predict every frame of recordings.

    Args:
        trained: the model.
        clips: clip table of whole recordings, see `training.predict.windows.clips_of`.
        store: feature store to keep what encoders give in.
        with_cues: also tell what is seen and heard in each segment, which looks at more of the recording.

    Returns:
        A result for each recording that has any modality in time, and a defect for each that has none.
    """
    features = trained.features.model_copy(update={"store": str(store)})
    clips = conform(clips)
    ledger = extract(clips, features, show_progress=False).ledger
    data = gather_frames(
        ClipTable(clips), read_timed(clips, features), trained.task, trained.spec, trained.model.modalities
    )
    data.scales.update(trained.scales)
    reasons: dict[str, dict[str, str]] = {}
    for row in ledger.to_dict("records"):
        modality = str(row["modality"]).split(" ")[0].removesuffix("-frames")
        reasons.setdefault(row["clip_id"], {}).setdefault(modality, row["reason"])
    results, defects = [], []
    records: list[dict[str, Any]] = clip_records(clips, features)
    names = clips["recording" if "recording" in clips else "clip_id"].tolist()
    for number, row in enumerate(records):
        why = {
            name: reasons.get(row["clip_id"], {}).get(name, "not there")
            for name in trained.model.modalities
            if not data.features[name].present[number]
        }
        place = (names[number], row["media"] or "")
        rate = data.rates[number]
        if rate is None:
            sentences = list(dict.fromkeys(why.values())) or ["none of the model's modalities is there"]
            defects.append(Defect(*place, row["start"], row["end"], "; ".join(sentences)))
            continue
        (probs,) = frame_probabilities(trained.model, data, [number], trained.config)
        present = next(name for name in trained.model.modalities if data.features[name].present[number])
        start = float(data.features[present].starts[number])
        narrative = _narrative(row) if with_cues else ()
        results.append(_result(trained, place, probs, float(rate), start, why, row["text"], narrative))
    return results, defects


def _narrative(row: Mapping[str, Any]) -> tuple[Sentence, ...]:
    """Tell what is seen and heard; nothing where no face is found."""
    clip = ClipMedia.from_row(row)
    try:
        return sentences_of(narrative_of(clip).text)
    except (EncodingError, MissingModality):
        return ()
    finally:
        clip.release()


def _result(
    trained: InTimeModel,
    place: tuple[str, str],
    probs: NDArray[np.float32],
    rate: float,
    start: float,
    absent: dict[str, str],
    text: str | None,
    narrative: Sequence[Sentence],
) -> InTimeResult:
    settings = trained.config.data
    spans = find_segments(probs, rate, segment_rule(settings))
    segments = []
    for (begin, end), (first, last) in zip(spans, to_seconds(spans, rate, start), strict=True):
        cues = tuple(
            sentence
            for sentence in narrative
            if any(first <= until and since < last for since, until in sentence.spans)
        )
        segments.append(FoundSegment(first, last, float(probs[begin:end].mean()), cues))
    whole = video_score(probs, clip_window(settings.clip_seconds, rate))
    return InTimeResult(
        *place, rate, start, tuple(np.round(probs.astype(np.float64), DIGITS).tolist()), tuple(segments), whole,
        trained.spec.classes[int(whole > 0.5)], absent, text, tuple(narrative),
    )  # fmt: skip


def frame_table(results: Iterable[InTimeResult | Mapping[str, Any]]) -> pd.DataFrame:
    """Make a row for each frame: `id, path, frame, seconds, probability, segment`.

    `segment` numbers the segments of the recording from 1; it is missing outside them.
    """
    parts = []
    for result in results:
        row = result.to_dict() if isinstance(result, InTimeResult) else result
        probs = np.array(row["probabilities"])
        frames = np.arange(len(probs))
        seconds = row["start"] + frames / row["rate"]
        segment = pd.array([pd.NA] * len(probs), dtype="Int64")
        for number, found in enumerate(row["segments"], start=1):
            segment[(seconds >= found["start"] - 1e-9) & (seconds < found["end"] - 1e-9)] = number
        parts.append(pd.DataFrame({
            "id": row["id"], "path": row["path"], "frame": frames, "seconds": np.round(seconds, 6),
            "probability": probs, "segment": segment,
        }))  # fmt: skip
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["id", "path", "frame", "seconds", "probability", "segment"])
    )


def document_in_time(
    results: Sequence[InTimeResult], defects: Iterable[Defect], trained: InTimeModel, *, name: str, notes: Sequence[str]
) -> dict[str, Any]:
    """Make the whole JSON values: `recordings`, each with its probabilities over time and its segments."""
    return {
        "about": trained.about(name),
        "schema": SCHEMA,
        "model": {
            "name": name,
            "kind": trained.config.model.kind,
            "modalities": list(trained.model.modalities),
            "encoders": dict(trained.fingerprints),
            "origin": trained.origin.to_dict(),
        },
        "task": {"name": trained.task, "classes": list(trained.spec.classes), "looked_for": trained.spec.classes[-1]},
        "probabilities_mean": (
            f"Probabilities of {trained.spec.classes[-1]} for each frame, not calibrated; a recording's is the highest "
            f"mean over {trained.config.data.clip_seconds:g} s"
        ),
        "recordings": [result.to_dict() for result in results],
        "defects": [defect._asdict() for defect in defects],
        "notes": list(notes),
    }
