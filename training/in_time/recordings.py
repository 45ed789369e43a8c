"""Recordings in; for each the probability over time, the segments found, what was seen, heard and said then.

The document has the fields of `training.predict.document.document_of` where they mean the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from corpora.clips import ClipTable, conform
from encoders.config import FeaturesConfig
from encoders.cues.encoder import narrative_of
from encoders.errors import EncodingError, MissingModality
from encoders.extraction.extract import extract
from encoders.extraction.read import clip_records, make_encoders, read_timed, timed_source, timed_specs
from encoders.extraction.workers import WarmEncoders
from encoders.media.clip import ClipMedia
from encoders.store.timed_store import TimedStore
from encoders.timed import NONE
from encoders.writers.base import TextWriter
from mmpsr.config import base_of
from mmpsr.metrics.in_time import video_score
from mmpsr.metrics.segments import find_segments, to_seconds
from training.bundle.hub import Pretrained, bundle_folder
from training.in_time.data import FrameData, gather_frames
from training.in_time.figures import clip_window, segment_rule
from training.in_time.fit import frame_probabilities
from training.in_time.pretrained import FILES, read_folder, write_folder
from training.in_time.trained import InTimeModel
from training.predict.clips import PredictionTable
from training.predict.inputs import Defect
from training.predict.results import Sentence, sentences_of
from training.predict.warm import KeepsLoaded
from training.runs.newest import newest_run

__all__ = [
    "FoundSegment",
    "InTimePredictor",
    "InTimeResult",
    "InTimeResults",
    "document_in_time",
    "frame_table",
    "predict_in_time",
]

SCHEMA = 1
"""Raised when a field of the document changes its name or meaning."""
DIGITS = 4
FRAME_COLUMNS = ("id", "path", "frame", "seconds", "probability", "segment", "defect")


@dataclass(frozen=True)
class FoundSegment:
    """A span in which the class is found.

    Attributes:
        start: seconds of the recording.
        end: seconds of the recording.
        probability: mean over its frames.
        cues: sentences of the behaviour narrative that name a second of it, counted as `start` is.
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
        absent: by modality that is not there, or has nothing at any frame, why.
        text: transcript, or None.
        text_source: `given`, `written` by a model, or None.
        narrative: described behaviour, in seconds of the recording; empty where no face was found.
        notes: by modality, what its encoder had to say, such as frames that are missing.
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
    text_source: str | None = None
    narrative: tuple[Sentence, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Make JSON values."""
        return asdict(self)


class InTimeResults(NamedTuple):
    """What becomes of recordings.

    Attributes:
        results: of those that have anything at any frame.
        defects: of the others, and why.
        notes: sentences on what could not be done.
    """

    results: list[InTimeResult]
    defects: list[Defect]
    notes: tuple[str, ...] = ()


class InTimePredictor(KeepsLoaded, Pretrained):
    """A model in time that takes recordings; encoders and writers of texts are loaded when first needed, and stay.

    Predictions of several threads take turns. A context manager, which lets go of them; so does `close`.

    Args:
        trained: the model.
    """

    def __init__(self, trained: InTimeModel) -> None:
        super().__init__()
        self.trained = trained
        self._folder: Path | None = None

    @classmethod
    def from_run(cls, path: str | Path) -> InTimePredictor:
        """Open the model of a finished run, or of the newest finished one of a folder of runs.

        Raises:
            RunError: there is no finished run, or its encoders are not those installed here.
        """
        run = newest_run(path)
        trained = InTimeModel.read(run)
        trained.check_encoders()
        predictor = cls(trained)
        predictor._folder = run
        return predictor

    @classmethod
    def _from_pretrained(cls, model_id: str, *, allow_custom_encoders: bool = False, **options: Any) -> InTimePredictor:
        """Open a folder that `save_pretrained` wrote, see `training.in_time.pretrained.read_folder`."""
        folder = bundle_folder(model_id, FILES, **options)
        trained = read_folder(folder, allow_custom_encoders)
        trained.check_encoders()
        predictor = cls(trained)
        predictor._folder = folder
        return predictor

    def _save_pretrained(self, save_directory: Path) -> None:
        if self._folder is None:
            raise ValueError("only a predictor that was read from a run or a folder can be saved")
        write_folder(self._folder, save_directory)

    def predict(
        self,
        clips: pd.DataFrame,
        store: Path,
        *,
        with_cues: bool = True,
        on_stage: Callable[[str], None] = lambda _: None,
    ) -> InTimeResults:
        """Predict every frame of recordings; args as of `predict_in_time`."""
        with self._lock, self._encoders(self.trained.features) as warm:
            return predict_in_time(
                self.trained, clips, store, with_cues=with_cues, warm=warm, writers=self._writers, on_stage=on_stage
            )


def predict_in_time(
    trained: InTimeModel,
    clips: pd.DataFrame,
    store: Path,
    *,
    with_cues: bool = True,
    warm: WarmEncoders | None = None,
    writers: MutableMapping[str, TextWriter] | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> InTimeResults:
    """Predict every frame of recordings.

    Args:
        trained: the model.
        clips: clip table of whole recordings, see `training.predict.windows.clips_of`.
        store: feature store to keep what encoders give in.
        with_cues: also tell what is seen and heard in each segment, which looks at more of the recording.
        warm: encoders of the model that are loaded already.
        writers: models that write texts, by section of the configuration; those made are added.
        on_stage: told each stage as it begins: `texts`, `features`, `prediction`, `cues`.

    Returns:
        A result for each recording that has anything at any frame, and a defect for each that has nothing.
    """
    features = trained.features.model_copy(update={"store": str(store)})
    on_stage("texts")
    table = PredictionTable(conform(clips)).with_texts(features, {} if writers is None else writers)
    clips = table.clips
    on_stage("features")
    ledger = extract(clips, features, show_progress=False, warm=warm).ledger
    on_stage("prediction")
    data = gather_frames(
        ClipTable(clips), read_timed(clips, features), trained.task, trained.spec, trained.model.modalities
    )
    data.scales.update(trained.scales)
    records = clip_records(clips, features)
    remarks = _remarks(clips, records, features, data, ledger)
    results, defects = [], []
    names = clips["recording" if "recording" in clips else "clip_id"].tolist()
    for number, (row, (why, notes)) in enumerate(zip(records, remarks, strict=True)):
        place = (names[number], row["media"] or "")
        rate = data.rates[number]
        if rate is None or why.keys() == set(trained.model.modalities):
            defects.append(Defect(*place, row["start"], row["end"], "; ".join(dict.fromkeys(why.values()))))
            continue
        on_stage("prediction")
        (probs,) = frame_probabilities(trained.model, data, [number], trained.config)
        present = next(sequences for sequences in data.features.values() if sequences.present[number])
        if with_cues:
            on_stage("cues")
        narrative = _narrative(row) if with_cues else ()
        source = clips["text_source"].iloc[number]
        text = (row["text"], None if pd.isna(source) else str(source))
        start = float(present.starts[number])
        results.append(_result(trained, place, probs, float(rate), start, why, text, narrative, notes))
    return InTimeResults(results, defects, table.notes)


def _remarks(
    clips: pd.DataFrame,
    records: Sequence[Mapping[str, Any]],
    features: FeaturesConfig,
    data: FrameData,
    ledger: pd.DataFrame,
) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Say of each clip which modalities are not there, or have nothing at any frame, and why; and what is noted."""
    known: dict[tuple[str, str], dict[str, str]] = {}
    for lost in ledger.to_dict("records"):
        modality = str(lost["modality"]).split(" ")[0]  # of its vector, or of what is kept in time
        known.setdefault((lost["corpus"], lost["clip_id"]), {}).setdefault(modality, lost["reason"])
    store, encoders = TimedStore(features.store), make_encoders(features)
    specs, corpora = timed_specs(features, encoders), {row["corpus"] for row in records}
    kept = {(corpus, name): store.notes(corpus, specs[name]) for corpus in corpora for name in data.features}
    transcripts = clips["no_transcript"].tolist() if "no_transcript" in clips else [None] * len(clips)
    found: list[tuple[dict[str, str], dict[str, str]]] = []
    for number, row in enumerate(records):
        reasons = known.get((row["corpus"], row["clip_id"]), {})
        if not row["text"] and not pd.isna(transcripts[number]):
            reasons.update({name: str(transcripts[number]) for name in reasons if base_of(name) == "text"})
        why, notes = {}, {}
        for name, sequences in data.features.items():
            note = kept[row["corpus"], name].get((row["clip_id"], timed_source(encoders[name], row)))
            if not sequences.present[number]:
                why[name] = reasons.get(name, "not there")
            elif (sequences.state(number) == NONE).all():
                why[name] = reasons.get(name) or note or "nothing at any frame"
            elif note:
                notes[name] = "; ".join(note.splitlines())
        found.append((why, notes))
    return found


def _narrative(row: Mapping[str, Any]) -> tuple[Sentence, ...]:
    """Tell what is seen and heard, in seconds of the recording; nothing where no face is found."""
    clip = ClipMedia.from_row(row)
    try:
        return sentences_of(narrative_of(clip).text, row["start"] or 0.0)
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
    text: tuple[str | None, str | None],
    narrative: Sequence[Sentence],
    notes: dict[str, str],
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
        trained.spec.classes[int(whole > 0.5)], absent, *text, tuple(narrative),
        notes,
    )  # fmt: skip


def frame_table(
    results: Iterable[InTimeResult | Mapping[str, Any]], defects: Iterable[Mapping[str, Any]] = ()
) -> pd.DataFrame:
    """Make a row for each frame, and one for each recording without any: `FRAME_COLUMNS`.

    `segment` numbers the segments of the recording from 1; it is missing outside them. `defect` says why a recording
    has no frames.

    Args:
        results: of recordings, or their JSON values.
        defects: with the fields of `Defect`.
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
            "id": row["id"], "path": row["path"], "frame": pd.array(frames, dtype="Int64"),
            "seconds": np.round(seconds, 6), "probability": probs, "segment": segment,
            "defect": pd.array([None] * len(probs), dtype="string"),
        }))  # fmt: skip
    lost = [{"id": each["id"], "path": each["path"], "defect": each["reason"]} for each in defects]
    if lost:
        empty = pd.DataFrame(lost).reindex(columns=list(FRAME_COLUMNS))
        numbers = {"frame": "Int64", "seconds": "float64", "probability": "float64", "segment": "Int64"}
        parts.append(empty.astype({**numbers, "defect": "string"}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(FRAME_COLUMNS))


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
        "segment_rule": asdict(segment_rule(trained.config.data)),
        "recordings": [result.to_dict() for result in results],
        "defects": [defect._asdict() for defect in defects],
        "notes": list(notes),
    }
