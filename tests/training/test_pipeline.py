"""What happens to clips before training: texts are written first, then vectors are made of them."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from accelerate import Accelerator
from rich.console import Console

from encoders.config import FeaturesConfig, TranscriberConfig
from encoders.extraction.read import read_vectors
from encoders.writers import fill as text_filling
from tests.support import fake_writers
from training.data.load import extract_features


def test_texts_are_written_before_vectors_are_made_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_filling, "text_writers", lambda *_: [fake_writers.FakeWriter(tmp_path / "log")])
    clips = fake_writers.table(["said", "unsaid", "mute"], text=["given words", pd.NA, pd.NA])
    encoders = {"text": "tests.support.fake_writers:Letters"}
    features = FeaturesConfig(store=str(tmp_path / "store"), encoders=encoders, num_workers=1)
    accelerator, said = Accelerator(cpu=True), io.StringIO()

    plain, ledger = extract_features(clips, features, accelerator, Console(file=said))
    assert plain is clips
    assert not (tmp_path / "log").exists()
    assert ledger["clip_id"].tolist() == ["unsaid", "mute"]

    transcribed = features.model_copy(update={"transcriber": TranscriberConfig()})
    filled, ledger = extract_features(clips, transcribed, accelerator, Console(file=said))
    assert filled["text"].fillna("-").tolist() == ["given words", "words of unsaid", "-"]
    present, vectors = read_vectors(filled, features)["text"]
    assert vectors[:, 0].tolist() == [11.0, 15.0, 0.0]  # letters of "given words" and "words of unsaid"
    assert present.tolist() == [True, True, False]
    reasons = dict(zip(ledger["modality"] + " of " + ledger["clip_id"], ledger["reason"], strict=True))
    assert set(ledger["clip_id"]) == {"mute"}
    assert "no speech recognised" in reasons.values()
