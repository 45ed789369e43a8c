"""Finished predictions on disk, row by row, and the document that they become.

Rows are lines of JSON beside the output: a line that a kill cut off is dropped, every other is never made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mmpsr.calibration.conformal import COVERAGE, COVERAGE_MEANS
from mmpsr.calibration.novelty import NOVELTY_MEANS
from mmpsr.calibration.reliability import CONFIDENCE
from mmpsr.decisions import default_thresholds
from mmpsr.explanation.explain import Explanation
from mmpsr.explanation.shapley import INTERACTION_MEANS
from mmpsr.files import json_lines, sha256_of
from training.predict.inputs import Defect
from training.predict.results import Results
from training.runs.trained import TrainedModel

__all__ = ["SCHEMA", "FinishedRows", "document_of", "keys_of", "thresholds_of"]

SCHEMA = 1
"""Raised when a field of the document changes its name or meaning."""


def keys_of(clips: pd.DataFrame) -> list[str]:
    """Sum up what tells rows of a clip table apart: file, change time and span (in `clip_id`), and all texts."""
    columns = clips[["clip_id", "recording", "text", "description", "no_transcript"]].astype(object)
    rows = columns.where(columns.notna(), None).itertuples(index=False)
    return [sha256_of(json.dumps(list(row)))[:16] for row in rows]


class FinishedRows:
    """Rows that are finished, in a file that is only ever added to.

    Args:
        folder: made where it is not there.
        trained: the model; rows of another one are in another file.
        confidence: the confidence asked for, likewise.
        explained: whether rows say why, likewise.
        novelty: the novelty asked for, likewise.
        coverage: the coverage asked for, likewise.
    """

    def __init__(
        self, folder: Path, trained: TrainedModel, confidence: float, explained: bool = False,
        novelty: float | None = None, coverage: float = COVERAGE,
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        identity = _identity(trained, confidence, novelty, coverage)
        self.path = folder / f"rows-{identity}{'-explained' if explained else ''}.jsonl"
        self.rows: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            content = self.path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            rows, size = json_lines(whole, self.path)
            if size < len(content):
                os.truncate(self.path, size)
            self.rows = {row.pop("key"): row for row in rows}

    def add(self, keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows in one write, and see them on the disk."""
        lines = [json.dumps({"key": key, **row}, allow_nan=False) for key, row in zip(keys, rows, strict=True)]
        with self.path.open("ab") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
        self.rows |= {key: dict(row) for key, row in zip(keys, rows, strict=True)}

    @staticmethod
    def of(
        results: Results,
        order: Iterable[tuple[str, float | None, float | None]],
        explanations: Sequence[Explanation] | None = None,
    ) -> list[dict[str, Any]]:
        """Make rows of results, one for each `(id, start, end)`; explanations are in the order of the clips."""
        rows = {(clip["id"], clip["start"], clip["end"]): {"clip": clip} for clip in results.to_dicts(explanations)}
        rows |= {(each.id, each.start, each.end): {"defect": each._asdict()} for each in results.defects}
        return [rows[place] for place in order]


def document_of(
    rows: Iterable[Mapping[str, Any]],
    defects: Iterable[Defect],
    trained: TrainedModel,
    *,
    name: str,
    confidence: float,
    novelty: float | None = None,
    coverage: float = COVERAGE,
    window: float | None,
    hop: float | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Make the whole JSON values: `recordings`, each with its `clips` in time, is the timeline of long ones.

    `about` says what the model was trained on and how good it is, `confidence_means` and `novelty_means` what
    confidences and novelties are, `novelty_dev` of how many dev clips by modality; `coverage` is the chance with which
    sets and intervals shall hold the truth, `coverage_means` under which condition they do, and the `coverage` of a
    task whether and for which groups that is promised; `interaction_means` what interactions of explained clips are;
    its `thresholds` from which probability on a class of several labels is decided for;
    the `calibration` of a task says whether its probabilities are calibrated, `zero_shot` whether it is predicted by
    class texts, which `rests_on` of a clip's result then names. A clip that was explained has an `explanation`, see
    `mmpsr.explanation.explain`.

    Args:
        rows: of `FinishedRows`, in the order of the inputs.
        defects: of inputs that never became a row.
        trained: the model.
        name: of its run or bundle.
        confidence: asked for.
        novelty: asked for, or None.
        coverage: asked for.
        window: seconds of windows, or None.
        hop: seconds from window to window, or None.
        notes: sentences on what could not be done.
    """
    recordings: dict[str, dict[str, Any]] = {}
    without = [defect._asdict() for defect in defects]
    for row in rows:
        fields = row.get("clip") or row["defect"]
        blank = {"id": fields["id"], "path": fields["path"], "clips": [], "defects": []}
        recording = recordings.setdefault(fields["id"], blank)
        values = {name: value for name, value in fields.items() if name not in ("id", "path")}
        if "clip" in row:
            recording["clips"].append(values)
        else:
            recording["defects"].append(values)
            without.append(fields)
    calibration = trained.calibration
    return {
        "about": trained.about(name),
        "schema": SCHEMA,
        "model": {
            "name": name,
            "modalities": list(trained.modalities),
            "encoders": dict(trained.fingerprints),
            "origin": None if trained.origin is None else trained.origin.to_dict(),
        },
        "tasks": {
            task: {
                "kind": spec.kind,
                "classes": list(spec.classes),
                "calibration": trained.statement(task),
                "calibrated": calibration.is_calibrated(task),
                "calibration_error": calibration.error(task),
                "thresholds": thresholds_of(trained, task),
                "coverage": trained.promise(task, coverage).to_dict(),
                "zero_shot": trained.zero_shot is not None and task in trained.zero_shot.sources,
            }
            for task, spec in trained.tasks.items()
        },
        "confidence": confidence,
        "confidence_means": CONFIDENCE,
        "novelty": novelty,
        "novelty_means": NOVELTY_MEANS,
        "novelty_dev": {modality: len(fit.dev) for modality, fit in trained.novelty.fits.items()},
        "coverage": coverage,
        "coverage_means": COVERAGE_MEANS,
        "interaction_means": INTERACTION_MEANS,
        "window": window,
        "hop": hop,
        "recordings": list(recordings.values()),
        "defects": without,
        "notes": list(notes),
    }


def thresholds_of(trained: TrainedModel, task: str) -> dict[str, float] | None:
    """Give by class of several labels the probability from which on it is decided for; None of other tasks."""
    spec = trained.tasks[task]
    if spec.kind != "multi_label":
        return None
    limits = trained.calibration.thresholds(task)
    return dict(zip(spec.classes, (default_thresholds(spec) if limits is None else limits).tolist(), strict=True))


def _identity(trained: TrainedModel, confidence: float, novelty: float | None, coverage: float) -> str:
    """Sum up all that decides what rows say of a clip, in twelve hexadecimal digits."""
    sums = hashlib.sha256()
    for name, tensor in sorted(trained.model.state_dict().items()):
        sums.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    for name, array in sorted(trained.novelty.to_arrays().items()):
        sums.update(name.encode() + array.tobytes())
    features = trained.features
    writers = [
        writer and {**writer.model_dump(), "weights": features.weights.get(writer.model)}
        for writer in (features.transcriber, features.describer)
    ]
    parts = [
        trained.calibration.to_dict(), dict(trained.fingerprints), list(trained.tasks), confidence, writers, SCHEMA,
        CONFIDENCE, novelty, NOVELTY_MEANS, coverage, COVERAGE_MEANS, INTERACTION_MEANS,
    ]  # fmt: skip
    if trained.zero_shot is not None:
        parts.append([trained.statement(task) for task in trained.zero_shot.sources])
    sums.update(json.dumps(parts, sort_keys=True).encode())
    return sums.hexdigest()[:12]
