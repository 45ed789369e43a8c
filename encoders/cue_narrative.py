"""Encoder `cue-narrative`: measured behaviour, put into words, embedded as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from encoders.cues import CUE_NAMES, measure_cues
from encoders.egemaps import RATE
from encoders.encoder import Absent, Encoder, EncodingError
from encoders.faces import NUM_FRAMES, face_settings, face_track
from encoders.media import ClipMedia
from encoders.minilm import TokenEmbedder, shared_embedder
from encoders.narration import Voice, measure_voice, narrate

__all__ = ["CueNarrative", "narrate"]

_WORDING = 1  # raised whenever the same cues would be worded differently


class CueNarrative(Encoder):
    """Words the cues of a clip's face and the pauses of its voice, and embeds the paragraph with MiniLM, 384 wide.

    The landmarks are those of `face-mesh`, computed once per clip. A clip without usable audio is described by its
    face alone. The paragraph is left in `clip.notes["cue-narrative"]`. Hands at the face are not told: seeing them
    takes another model.

    Args:
        modality: `behavior`.
        num_frames: frames per clip, uniformly spaced.
    """

    id: ClassVar[str] = "cue-narrative"

    def __init__(self, modality: str = "behavior", *, num_frames: int = NUM_FRAMES) -> None:
        super().__init__(modality)
        self.num_frames = num_frames

    @property
    def width(self) -> int:
        """Width of a token embedding."""
        return TokenEmbedder.width

    def load(self) -> None:
        """Load the text weights, shared with `minilm`."""
        shared_embedder()

    def settings(self) -> Mapping[str, object]:
        """Settings of the face, of the wording and of the text embedding."""
        return {
            "face": face_settings(self.num_frames), "cues": list(CUE_NAMES), "audio_rate": RATE, "wording": _WORDING,
            "text": dict(TokenEmbedder.settings()),
        }  # fmt: skip

    def encode(self, clips: Sequence[ClipMedia]) -> list[NDArray[np.float32] | EncodingError | Absent]:
        """Embed clips, `[num_tokens, 384]` each; a clip without any face is an `EncodingError`."""
        reasons: dict[int, EncodingError | Absent] = {}
        texts: dict[int, str] = {}
        for index, clip in enumerate(clips):
            try:
                texts[index] = clip.notes[self.id] = self.describe(clip)
            except (EncodingError, Absent) as reason:
                reasons[index] = reason
        embeddings = dict(zip(texts, shared_embedder().embed(list(texts.values())), strict=True))
        return [embeddings[index] if index in embeddings else reasons[index] for index in range(len(clips))]

    def describe(self, clip: ClipMedia) -> str:
        """The paragraph about one clip.

        Raises:
            Absent: the clip has no media file.
            EncodingError: the video cannot be read, or no frame shows a face.
        """
        track = face_track(clip, self.num_frames)
        return narrate(measure_cues(track), track.seconds, _pauses(clip))


def _pauses(clip: ClipMedia) -> Voice | None:
    try:
        return measure_voice(clip.waveform(RATE), RATE)
    except (EncodingError, Absent):
        return None  # `egemaps` reports it as the failure of the audio modality
