"""What clips lack is told before extraction."""

from __future__ import annotations

import pandas as pd

from mmpsr.config import validate
from training.config import RunConfig
from training.data.material import missing_material


def test_a_view_needs_what_its_modality_is_made_from() -> None:
    names = ["text", "text.lexica", "behavior.lexica"]
    encoders = {"text": "minilm", "text.lexica": "lexica", "behavior.lexica": "lexica"}
    config = validate(RunConfig, {"features": {"encoders": encoders}, "data": {"modalities": names}}, "test")
    train = pd.DataFrame({name: [None] for name in ("media", "fallback_media", "audio_media", "faces", "text")})
    train["description"] = ["A smile."]
    assert dict(missing_material(train, config)) == {
        name: f"no training clip has what {name} is made from (text)" for name in ("text", "text.lexica")
    }
