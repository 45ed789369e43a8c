"""What happens to clips before training: texts are written first, then vectors are made of them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from rich.console import Console

from corpora.clips import ClipTable, CorpusError, label_columns
from encoders.config import FeaturesConfig, TranscriberConfig
from encoders.extraction.read import read_vectors
from encoders.writers import fill as text_filling
from tests.support import fake_writers
from tests.support import joined as small
from training import pipeline
from training.data import joined, load
from training.data.load import extract_features


def test_texts_are_written_before_vectors_are_made_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_filling, "text_writers", lambda *_: [fake_writers.FakeWriter(tmp_path / "log")])
    clips = fake_writers.table(["said", "unsaid", "mute"], text=["given words", pd.NA, pd.NA])
    encoders = {"text": "tests.support.fake_writers:Letters"}
    features = FeaturesConfig(store=str(tmp_path / "store"), encoders=encoders, num_workers=1)
    accelerator, said = Accelerator(cpu=True), io.StringIO()

    plain, ledger, _ = extract_features(clips, features, accelerator, Console(file=said))
    assert plain is clips
    assert not (tmp_path / "log").exists()
    assert ledger["clip_id"].tolist() == ["unsaid", "mute"]

    transcribed = features.model_copy(update={"transcriber": TranscriberConfig()})
    filled, ledger, _ = extract_features(clips, transcribed, accelerator, Console(file=said))
    assert filled["text"].fillna("-").tolist() == ["given words", "words of unsaid", "-"]
    present, vectors = read_vectors(filled, features)["text"]
    assert vectors[:, 0].tolist() == [11.0, 15.0, 0.0]  # letters of "given words" and "words of unsaid"
    assert present.tolist() == [True, True, False]
    reasons = dict(zip(ledger["modality"] + " of " + ledger["clip_id"], ledger["reason"], strict=True))
    assert set(ledger["clip_id"]) == {"mute"}
    assert "no speech recognised" in reasons.values()


def test_data_of_some_splits_and_corpora_alone_is_extracted(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, seen = small.joined(), list[pd.DataFrame]()

    def extracted(clips: pd.DataFrame, *_: object) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        seen.append(clips)
        return clips, pd.DataFrame({"reason": ["no sound"]}), pd.DataFrame()

    monkeypatch.setattr(load, "load_clips", lambda *_: ClipTable(whole.clips, pd.DataFrame({"row": [3]})))
    monkeypatch.setattr(load, "extract_features", extracted)
    monkeypatch.setattr(load, "join", lambda *_: whole)
    monkeypatch.setattr(load, "missing_material", lambda *_: ())
    config, accelerator = small.config(), Accelerator(cpu=True)
    shown: list[int] = []
    data = load.load_run_data(config, accelerator, show_clips=lambda table: shown.append(len(table.clips)))
    assert shown == [len(whole.clips)] == [len(seen[0])]
    assert (data.defects["row"].tolist(), data.ledger["reason"].tolist()) == ([3], ["no sound"])
    load.load_run_data(config, accelerator, splits=("train", "dev"), corpora=("bah",))
    assert set(seen[1]["split"]) == {"train", "dev"}
    assert set(seen[1]["corpus"]) == {"bah"}
    few = load.load_run_data(small.config(data={"num_labeled": {"emotion": 5}}), accelerator).joined
    train = few.rows(["mosei", "fiv2", "bah"], "train")
    assert torch.isfinite(few.labels["emotion"][train]).any(dim=1).sum() == 5


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


def test_a_modality_that_no_training_clip_can_have_is_refused_before_extraction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips = small.joined().clips
    clips["text"] = "said"

    def extracted(*_: object) -> None:
        raise AssertionError("extraction began")

    monkeypatch.setattr(load, "load_clips", lambda *_: ClipTable(clips, pd.DataFrame()))
    monkeypatch.setattr(load, "extract_features", extracted)
    with pytest.raises(CorpusError) as error:
        load.load_run_data(small.config(), Accelerator(cpu=True))
    assert str(error.value) == (
        "no training clip has what audio is made from (audio_media, media, fallback_media); mend that, or train "
        """without: --set 'data.modalities=["text"]'"""
    )


def test_a_modality_without_vectors_is_refused_with_the_ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = small.joined()
    whole.presence[:, 1] = False
    ledger = pd.DataFrame({"clip_id": ["clip0"], "reason": ["digital silence"]})
    monkeypatch.setattr(load, "load_clips", lambda *_: ClipTable(whole.clips, pd.DataFrame()))
    monkeypatch.setattr(load, "missing_material", lambda *_: ())
    monkeypatch.setattr(load, "extract_features", lambda clips, *_: (clips, ledger, pd.DataFrame()))
    monkeypatch.setattr(joined, "gather", lambda *_: whole)
    config = small.config(output={"directory": str(tmp_path / "runs")})
    with pytest.raises(CorpusError) as error:
        load.load_run_data(config, Accelerator(cpu=True))
    path = tmp_path / "runs" / "ledger.csv"
    assert f"none of the 90 training clips has a vector of audio ({path} says why)" in str(error.value)
    assert """--set 'data.modalities=["text"]'""" in str(error.value)
    assert pd.read_csv(path)["reason"].tolist() == ["digital silence"]


def test_what_is_read_is_told_with_the_dealing_and_with_dev_that_cannot_choose() -> None:
    clips = small.joined().clips
    for task, spec in small.tasks().items():
        clips[label_columns(task, spec)] = float("nan")
    bah = clips["corpus"].eq("bah")
    clips.loc[bah, label_columns("ambivalence", small.tasks()["ambivalence"])] = [0.0, 1.0]
    config = small.config()
    source = config.corpora.sources["bah"].model_copy(update={"fractions": {"train": 0.6, "dev": 0.2, "test": 0.2}})
    sources = {"bah": source, "meld": config.corpora.sources["meld"]}  # of which no clip is used
    config = config.model_copy(update={"corpora": config.corpora.model_copy(update={"sources": sources})})
    said: list[str] = []
    pipeline.say_clips(ClipTable(clips[bah], pd.DataFrame()), config, said.append)
    counts = "train 24 groups (24 clips), dev 8 groups (8 clips), test 8 groups (8 clips)"
    assert said == [
        "bah (trained on): 24 train, 8 dev, 8 test",
        f"bah: dealt 40 groups: {counts}",
        "warning: bah: dev cannot choose: what is best there (epoch, thresholds, calibration, settings) is chance; "
        "give dev more groups, or test every group in turn (folds of a study): task 'ambivalence': 8 labelled dev "
        "clips (fewer than 10); one class only (present)",
        "meld (zero-shot): 0 train, 0 dev, 0 test",
    ]
