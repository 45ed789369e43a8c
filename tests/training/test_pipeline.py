"""What happens to clips before training: texts are written first, then vectors are made of them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pandas as pd
import pytest
from accelerate import Accelerator
from rich.console import Console

from corpora.clips import ClipTable
from encoders.config import FeaturesConfig, TranscriberConfig
from encoders.extraction.read import read_vectors
from encoders.writers import fill as text_filling
from tests.support import fake_writers
from tests.support import joined as small
from training.data import load
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


def test_data_of_some_splits_and_corpora_alone_is_extracted(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, seen = small.joined(), list[pd.DataFrame]()

    def extracted(clips: pd.DataFrame, *_: object) -> tuple[pd.DataFrame, pd.DataFrame]:
        seen.append(clips)
        return clips, pd.DataFrame({"reason": ["no sound"]})

    monkeypatch.setattr(load, "load_clips", lambda *_: ClipTable(whole.clips, pd.DataFrame({"row": [3]})))
    monkeypatch.setattr(load, "extract_features", extracted)
    monkeypatch.setattr(load, "join", lambda *_: whole)
    config, accelerator = small.config(), Accelerator(cpu=True)
    shown: list[int] = []
    data = load.load_run_data(config, accelerator, show_clips=lambda table: shown.append(len(table.clips)))
    assert shown == [len(whole.clips)] == [len(seen[0])]
    assert (data.defects["row"].tolist(), data.ledger["reason"].tolist()) == ([3], ["no sound"])
    load.load_run_data(config, accelerator, splits=("train", "dev"), corpora=("bah",))
    assert set(seen[1]["split"]) == {"train", "dev"}
    assert set(seen[1]["corpus"]) == {"bah"}


def test_hashes_change_with_what_they_are_of_alone() -> None:
    joined, changed = small.joined(), small.joined()
    changed.features["audio"][0, 0] += 1.0
    one, other = (load.RunData(each, pd.DataFrame(), pd.DataFrame()).hashes for each in (joined, changed))
    assert one.keys() == {"clips", "features.text", "features.audio", *(f"labels.{task}" for task in small.tasks())}
    assert {name for name in one if one[name] != other[name]} == {"features.audio"}
    assert (
        one["features.text"]
        == hashlib.sha256(
            joined.features["text"].numpy().tobytes() + joined.presence[:, 0].numpy().tobytes()
        ).hexdigest()
    )
