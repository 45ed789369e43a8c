"""Encoder `cue-narrative`: measured behaviour, put into words, embedded as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.cues.body import body_events, body_settings, body_track
from encoders.cues.events import CueEvent, spacing
from encoders.cues.face import BLINK_SPACING, FaceSeries, eye_events, face_events, face_series
from encoders.cues.head import SWING_SPACING, head_events, hidden_events, posture_events
from encoders.cues.narration import WORDING, Narrative, narrate
from encoders.cues.voice import filler_events, voice_events
from encoders.device import DeviceEncoder, Prepared, one_thread
from encoders.errors import EncodingError, MissingModality
from encoders.face.landmarks import NUM_FRAMES, face_settings, face_track
from encoders.media.audio import AUDIO_READING
from encoders.media.clip import ClipMedia
from encoders.models.egemaps import RATE
from encoders.models.minilm import TokenEmbedder, shared_embedder
from mmpsr.files import sha256_of

__all__ = ["CueNarrative", "clip_begin", "measure_events", "narrative_of", "seen_events"]


class CueNarrative(DeviceEncoder):
    """Words the cues of a clip's face, body and voice, and embeds the paragraph with MiniLM, 384 wide.

    The landmarks are those of `face-mesh`, computed once per clip. A clip without usable audio is described by what is
    seen alone. The paragraph with its seconds is left in `clip.notes["cue-narrative"]`; the embedding is of the same
    paragraph without them, because a text encoder makes little of numbers. Workers write
    paragraphs; the launched process embeds them, each by itself and always on the CPU, so that none depends on others.

    Args:
        modality: `behavior`.
        num_frames: frames per clip, uniformly spaced.
    """

    id: ClassVar[str] = "cue-narrative"
    on_device: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = (
        "av",
        "cv2",
        "encoders.face.solutions",
        "scipy.fft",
        "scipy.ndimage",
        "scipy.spatial",
    )
    version: ClassVar[int] = 2  # raised whenever the same landmarks or samples would give other events or other words

    def __init__(self, modality: str = "behavior", *, num_frames: int = NUM_FRAMES) -> None:
        super().__init__(modality)
        self.num_frames = num_frames

    def settings(self) -> Mapping[str, object]:
        """List settings of the face, of the body, of the wording and of the text embedding."""
        return {
            "face": face_settings(self.num_frames), "body": body_settings(), "cues": list(WORDING), "audio_rate": RATE,
            "audio": dict(AUDIO_READING),
            "text": dict(TokenEmbedder.settings()),
        }  # fmt: skip

    def source(self, clip: Mapping[str, Any]) -> str:
        """Hash what behavior is made from, and when words were said where that is known."""
        source, words = super().source(clip), clip.get("words")
        return sha256_of(f"{source} {words}")[:12] if isinstance(words, str) else source

    @property
    def width(self) -> int:
        """Width of a token embedding."""
        return TokenEmbedder.width

    def load(self) -> None:
        """Load MiniLM."""
        shared_embedder()

    def prepare(self, clip: ClipMedia) -> Prepared:
        """Write a clip's paragraph; a clip without any face is an `EncodingError`."""
        narrative = narrative_of(clip, self.num_frames)
        letters = np.frombuffer(narrative.untimed.encode(), np.uint8)
        return Prepared({"letters": letters}, len(letters), narrative.text)

    def embed(self, inputs: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        """Embed paragraphs, `[num_tokens, 384]` each."""
        texts = [prepared.arrays["letters"].tobytes().decode() for prepared in inputs]
        with one_thread():
            return [embeddings for text in texts for embeddings in shared_embedder().embed([text])]


def narrative_of(clip: ClipMedia, num_frames: int = NUM_FRAMES) -> Narrative:
    """Tell what was measured of one clip, sentence by sentence with the events that each was made from.

    Args:
        clip: with frames; sound and transcript are used where there are any.
        num_frames: frames, uniformly spaced.

    Raises:
        MissingModality: the clip has no media file.
        EncodingError: the video cannot be read, or no frame shows a face.
    """
    events, seconds, heard, limits = measure_events(clip, num_frames)
    return narrate(events, seconds, heard, limits)


def measure_events(clip: ClipMedia, num_frames: int = NUM_FRAMES) -> tuple[list[CueEvent], float, bool, str]:
    """Every event of a clip, its length in seconds, whether it was heard, and what its frames cannot show."""
    track = face_track(clip, num_frames)
    begin = clip_begin(clip, track.seconds[0])
    series = face_series(track, begin)
    body = body_track(clip, num_frames)
    events = [*seen_events(series), *hidden_events(track, begin), *body_events(track, body, begin)]
    try:
        samples = clip.waveform(RATE)
    except (EncodingError, MissingModality):
        samples = None  # `egemaps` reports it as the failure of the audio modality
    step = spacing(track.seconds)
    seconds = float(track.seconds[-1] - begin) + (step / 2 if np.isfinite(step) else 0.0)
    if samples is not None:
        events += voice_events(samples, RATE)
        seconds = max(seconds, len(samples) / RATE)
    events += filler_events(clip.text, seconds, clip.words)
    return events, seconds, samples is not None, _limits(spacing(series.seconds))


def seen_events(series: FaceSeries) -> list[CueEvent]:
    """Find all events of face, eyes, head and posture, in that order."""
    head = head_events(series)
    swings = any(event.cue in ("nod", "shake", "head_up_down", "head_side_to_side") for event in head)
    return [*face_events(series), *eye_events(series), *head, *posture_events(series, swings)]


def clip_begin(clip: ClipMedia, first: float) -> float:
    """Tell the second of the file at which a clip begins whose first frame is at `first`, which may be a fallback's."""
    starts = [start or 0.0 for _, start, _ in clip.videos]
    return max((start for start in starts if start <= first + 0.1), default=min(starts, default=0.0))


def _limits(step: float) -> str:
    """Tell what frames this far apart cannot show."""
    if not np.isfinite(step):
        return "A single frame shows the face: no movement can be told."
    needed = {"blinks": BLINK_SPACING, "nods and shakes": SWING_SPACING}
    unseen = [word for word, longest in needed.items() if step > longest]
    return f"Frames {step:.2f} s apart are too few to tell {' or '.join(unseen)}." if unseen else ""
