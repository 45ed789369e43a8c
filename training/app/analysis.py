"""One video analysed for the page: predictions of the whole and of windows, why, and key frames with the face found."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from encoders.errors import EncodingError, MissingModality
from encoders.face.landmarks import face_frames, largest_face
from encoders.media.clip import ClipMedia
from mmpsr.calibration.conformal import COVERAGE, Promise
from mmpsr.errors import UserError
from mmpsr.explanation.explain import Explanation
from training.predict.document import thresholds_of
from training.predict.inputs import Defect, Recording
from training.predict.measures import SHOWN_RATE, measure_row
from training.predict.predictor import Predictor, StageClock
from training.predict.results import ClipResult, Results, judge, resting_on
from training.predict.transcripts import Cue, Transcript, read_transcript
from training.predict.windows import TEXT_ALONE, clip_of_text, clips_of, length_of

__all__ = [
    "STAGES",
    "Analysis",
    "AppError",
    "Limits",
    "Wishes",
    "analyse",
    "analyse_text",
    "checked_length",
    "decide",
    "key_frames",
    "transcript_of",
    "without_folders",
]

STAGES = {
    "waiting": "Its turn",
    "inputs": "The file",
    "texts": "What is said",
    "features": "Features of what is seen, heard and said",
    "prediction": "Prediction",
    "windows": "Windows over time",
    "explanation": "What speaks for it",
    "frames": "Key frames",
    "measures": "Face, gaze, head and voice over time",
}
"""What happens, in this order, and how the page calls it."""

NUM_FRAMES = 6
LONGEST = 320  # pixels of a key frame's longer side
SLACK = 0.5  # seconds that a video may be longer than a number of windows before it has another
TOGETHER = 4  # windows predicted at a time, between which progress is told
TOLD_FRAMES = 50  # measured, between which progress is told


class AppError(UserError):
    """Something that the user can mend; the message is shown on the page."""


@dataclass(frozen=True)
class Limits:
    """What a video may be.

    Attributes:
        seconds: it may last.
        megabytes: of its file, 2^20 bytes each.
    """

    seconds: float = 120.0
    megabytes: float = 200.0


@dataclass(frozen=True)
class Wishes:
    """What is asked for beside the video.

    Attributes:
        text: what is said, as typed.
        transcript: file of what is said.
        window: seconds of the timeline's windows.
        confidence: in [0, 1], below which there is no decision.
        coverage: in [0.5, 0.99], chance with which sets and intervals shall hold the truth.
    """

    text: str = ""
    transcript: Path | None = None
    window: float = 10.0
    confidence: float = 0.0
    coverage: float = COVERAGE


@dataclass(frozen=True)
class KeyFrame:
    """A picture of the video.

    Attributes:
        seconds: into the video.
        picture: JPEG as a data address.
        face: left, top, width and height of the face found, in percent of the picture, or None.
    """

    seconds: float
    picture: str
    face: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Analysis:
    """All that the page shows of a video.

    Attributes:
        name: of its file.
        length: in seconds.
        clips: results of the whole, then of windows where it is longer than one.
        predicted: by task `[1 + W, C]`, calibrated, of `clips`.
        defects: windows without a prediction.
        explanation: of the whole.
        frames: of the whole, in time.
        no_frames: why there are none.
        cues: parts of the transcript with their seconds, where those are given.
        notes: sentences on what could not be done.
        wishes: as asked for.
        seconds: that each stage took.
        numbers: by task whether its probabilities are calibrated.
        promises: by task what is promised of its sets or intervals.
        measures: rows of `mmpsr measure`, eight a second; None where nothing could be measured.
        thresholds: by task of several labels, see `training.predict.document.thresholds_of`.
    """

    name: str
    length: float
    clips: tuple[ClipResult, ...]
    predicted: Mapping[str, NDArray[np.float64]]
    defects: tuple[Defect, ...]
    explanation: Explanation
    frames: tuple[KeyFrame, ...]
    no_frames: str | None
    cues: tuple[Cue, ...]
    notes: tuple[str, ...]
    wishes: Wishes
    seconds: Mapping[str, float]
    numbers: Mapping[str, str]
    promises: Mapping[str, Promise]
    measures: pd.DataFrame | None = None
    thresholds: Mapping[str, Mapping[str, float] | None] = field(default_factory=dict)


def analyse(
    predictor: Predictor,
    path: Path,
    wishes: Wishes,
    limits: Limits,
    store: Path,
    on_stage: Callable[[str, str], None] = lambda *_: None,
) -> Analysis:
    """Predict a video and its windows, explain, take key frames, and measure face, gaze, head and voice over time.

    Args:
        predictor: kept warm from one video to the next.
        path: of the video.
        wishes: what is asked for.
        limits: on length and size.
        store: folder for vectors, so that the same video with other words is quick.
        on_stage: told each stage of `STAGES` as it begins, and how far it is.

    Raises:
        AppError: the video cannot be opened, is too large or too long, or nothing of it can be used.
        TranscriptError: the transcript cannot be read.
    """
    clock = StageClock(on_stage)
    clock.enter("inputs", "")
    length = checked_length(path, limits)
    transcript = transcript_of(wishes)
    recording = Recording(path.name, path, transcript=transcript)

    def predict(table: pd.DataFrame, told: Callable[[str], None] | None = None) -> Results:
        return predictor.predict(
            table, confidence=wishes.confidence, coverage=wishes.coverage, store=store, on_stage=told
        )

    whole = predict(clips_of([recording]), lambda stage: clock.enter(stage, "") if stage != "inputs" else None)
    if not len(whole):
        raise AppError(f"Nothing of {path.name} can be used: {without_folders(whole.defects[0].reason, path)}")
    parts = [whole]
    if length > wishes.window + SLACK:
        rest = length % wishes.window  # a window that begins hardly later than the one before would say the same
        windows = clips_of([replace(recording, end=length - rest if rest < SLACK else None)], wishes.window)
        for first in range(0, len(windows), TOGETHER):
            clock.enter("windows", f"{first} of {len(windows)}")
            parts.append(predict(windows.iloc[first : first + TOGETHER]))
    clock.enter("explanation", "")
    explanation = predictor.explain(whole)[0]
    clock.enter("frames", "")
    frames, no_frames = key_frames(path)
    measures, _ = measure_row(
        clips_of([recording]).iloc[0], rate=SHOWN_RATE, on_frame=_Frames(clock, round(length * SHOWN_RATE))
    )
    clips = (clip for part in parts for clip in part.clips)
    defects = (defect for part in parts for defect in part.defects)
    return Analysis(
        path.name, length, tuple(_without_folder(clip, path) for clip in clips),
        {task: np.concatenate([part.predicted[task] for part in parts]) for task in predictor.trained.tasks},
        tuple(d._replace(path=path.name, reason=without_folders(d.reason, path)) for d in defects), explanation,
        frames, no_frames, () if transcript is None else transcript.cues,
        tuple(dict.fromkeys(note for part in parts for note in part.notes)), wishes, clock.leave(),
        _numbers(predictor), _promises(predictor, wishes),
        measures if measures["failure"].isna().all() else None,
        {task: thresholds_of(predictor.trained, task) for task in predictor.trained.tasks},
    )  # fmt: skip


def analyse_text(
    predictor: Predictor, wishes: Wishes, store: Path, on_stage: Callable[[str, str], None] = lambda *_: None
) -> Analysis:
    """Predict what is said without a video, and explain.

    Args:
        predictor: that reads text.
        wishes: with words, as typed or in a file.
        store: folder for vectors.
        on_stage: told each stage of `STAGES` as it begins, and how far it is.

    Raises:
        AppError: there are no words, or nothing of them can be used.
        TranscriptError: the transcript cannot be read.
    """
    clock = StageClock(on_stage)
    clock.enter("inputs", "")
    transcript = transcript_of(wishes)
    if transcript is None:
        raise AppError("Nothing is said; type it, or give a file")
    whole = predictor.predict(
        clip_of_text(transcript.text), confidence=wishes.confidence, coverage=wishes.coverage, store=store,
        on_stage=lambda stage: clock.enter(stage, "") if stage != "inputs" else None,
    )  # fmt: skip
    if not len(whole):
        raise AppError(f"Nothing of the text can be used: {whole.defects[0].reason}")
    clock.enter("explanation", "")
    explanation = predictor.explain(whole)[0]
    return Analysis(
        TEXT_ALONE, 0.0, tuple(whole.clips), whole.predicted, (), explanation, (), "There is no video.", (),
        whole.notes, wishes, clock.leave(), _numbers(predictor), _promises(predictor, wishes),
    )  # fmt: skip


class _Frames:
    """Tells how many frames were measured."""

    def __init__(self, clock: StageClock, num_frames: int) -> None:
        self.clock, self.num_frames, self.seen = clock, num_frames, 0
        clock.enter("measures", "")

    def __call__(self) -> None:
        self.seen += 1
        if self.seen % TOLD_FRAMES == 0:
            self.clock.enter("measures", f"{self.seen} of {self.num_frames} frames")


def _numbers(predictor: Predictor) -> dict[str, str]:
    return {task: predictor.trained.statement(task) for task in predictor.trained.tasks}


def _promises(predictor: Predictor, wishes: Wishes) -> dict[str, Promise]:
    return {task: predictor.trained.promise(task, wishes.coverage) for task in predictor.trained.tasks}


def _without_folder(clip: ClipResult, path: Path) -> ClipResult:
    absent, notes = (
        {name: without_folders(text, path) for name, text in texts.items()} for texts in (clip.absent, clip.notes)
    )
    return replace(clip, path=path.name, absent=absent, notes=notes)


def without_folders(text: str, *paths: Path | str | None) -> str:
    """Put names of files in place of paths."""
    for path in paths:
        if path is not None:
            name = Path(path).name
            text = text.replace(str(Path(path).resolve()), name).replace(str(path), name)
    return text


def checked_length(path: Path, limits: Limits, elsewhere: str = "mmpsr predict --window") -> float:
    """Measure the seconds that a video lasts.

    Args:
        path: of the video.
        limits: on length and size.
        elsewhere: command that takes longer ones.

    Raises:
        AppError: it is too large or too long, or cannot be opened.
    """
    size = path.stat().st_size / 2**20
    if size > limits.megabytes:
        raise AppError(f"{path.name} has {size:.1f} MB; this page takes up to {limits.megabytes:g} MB")
    try:
        length = length_of(path)
    except EncodingError as error:
        raise AppError(f"{error}. It may be damaged, unfinished or no video; try another file") from None
    if length > limits.seconds:
        raise AppError(
            f"{path.name} lasts {length:.0f} seconds; this page takes up to {limits.seconds:g}. Cut it, start the "
            f"page with a larger --max-seconds, or use `{elsewhere}`"
        )
    return length


def transcript_of(wishes: Wishes) -> Transcript | None:
    """Read what is said, as typed or from a file.

    Raises:
        AppError: there are both, or the file holds no words.
        TranscriptError: the file cannot be read.
    """
    if wishes.text.strip() and wishes.transcript is not None:
        raise AppError("There are two transcripts, a text and a file; take one of them out")
    if wishes.transcript is None:
        return Transcript(" ".join(wishes.text.split())) if wishes.text.strip() else None
    transcript = read_transcript(wishes.transcript)
    if not transcript.text:
        raise AppError(f"{wishes.transcript.name} holds no words")
    return transcript


def key_frames(path: Path) -> tuple[tuple[KeyFrame, ...], str | None]:
    """Take pictures at uniformly spaced moments with the face found in each, or say why there are none."""
    try:
        pictures, moments = face_frames(ClipMedia(media=path), NUM_FRAMES, follows_length=False)
    except (MissingModality, EncodingError) as reason:
        return (), without_folders(str(reason), path)
    frames = zip(pictures, moments.tolist(), strict=True)
    return tuple(KeyFrame(moment, _data_address(picture), _face_box(picture)) for picture, moment in frames), None


def _face_box(picture: NDArray[np.uint8]) -> tuple[float, float, float, float] | None:
    """Frame the largest face: left, top, width and height in percent."""
    landmarks = largest_face(picture)
    if landmarks is None:
        return None
    height, width = picture.shape[:2]
    points = landmarks[:, :2] / (width, height)
    low, high = points.min(axis=0).clip(0, 1), points.max(axis=0).clip(0, 1)
    left, top, across, down = (100 * np.concatenate([low, high - low])).tolist()
    return left, top, across, down


def _data_address(pixels: NDArray[np.uint8]) -> str:
    picture, content = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((LONGEST, LONGEST))
    picture.save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def decide(analysis: Analysis, predictor: Predictor, confidence: float) -> Analysis:
    """Ask another confidence of an analysis; nothing is computed again but the decisions."""
    trained, coverage = predictor.trained, analysis.wishes.coverage
    rows = judge(analysis.predicted, trained.tasks, trained.calibration, confidence, coverage)
    near = () if predictor.trained.zero_shot is None else tuple(predictor.trained.zero_shot.sources)
    clips = tuple(
        replace(clip, tasks=resting_on(row, {task: clip.tasks[task].rests_on for task in near}))
        for clip, row in zip(analysis.clips, rows, strict=True)
    )
    return replace(analysis, clips=clips, wishes=replace(analysis.wishes, confidence=confidence))
