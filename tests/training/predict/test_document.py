"""Finished rows on disk, and the document made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from encoders.config import TranscriberConfig
from mmpsr.calibration.conformal import ConformalFit
from tests.support.predicted_run import write_run, write_video
from training.predict.document import FinishedRows, document_of, keys_of
from training.predict.inputs import Defect, Recording
from training.predict.predictor import Predictor
from training.predict.transcripts import Transcript
from training.predict.windows import clips_of
from training.runs.origin import CorpusOrigin, Origin
from training.runs.trained import TrainedModel


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return TrainedModel.read(write_run(tmp_path_factory.mktemp("runs") / "small"))


def test_rows_come_back_and_a_torn_one_is_dropped(tmp_path: Path, trained: TrainedModel) -> None:
    rows = FinishedRows(tmp_path, trained, 0.5)
    rows.add(["a", "b"], [{"clip": {"x": 1.5}}, {"defect": {"reason": "é"}}])
    with rows.path.open("ab") as file:
        file.write(b'{"key": "c", "clip": {"x"')
    again = FinishedRows(tmp_path, trained, 0.5)
    assert again.rows == {"a": {"clip": {"x": 1.5}}, "b": {"defect": {"reason": "é"}}}
    again.add(["c"], [{"clip": {"x": 2.5}}])
    assert FinishedRows(tmp_path, trained, 0.5).rows["c"] == {"clip": {"x": 2.5}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        again.add(["d"], [{"clip": {"x": float("nan")}}])


def test_another_model_or_confidence_has_rows_of_its_own(tmp_path: Path, trained: TrainedModel) -> None:
    FinishedRows(tmp_path / "rows", trained, 0.5).add(["a"], [{}])
    assert not FinishedRows(tmp_path / "rows", trained, 0.6).rows
    assert not FinishedRows(tmp_path / "rows", trained, 0.5, explained=True).rows
    assert not FinishedRows(tmp_path / "rows", trained, 0.5, coverage=0.8).rows
    other = TrainedModel.read(write_run(tmp_path / "run", model={"hidden_width": 8, "head_width": 16, "num_heads": 2}))
    assert not FinishedRows(tmp_path / "rows", other, 0.5).rows
    assert FinishedRows(tmp_path / "rows", trained, 0.5).rows


def test_another_copy_of_a_writer_has_rows_of_its_own(tmp_path: Path, trained: TrainedModel) -> None:
    def rows(**weights: str) -> FinishedRows:
        features = trained.features.model_copy(
            update={"transcriber": TranscriberConfig(model="my/whisper"), "weights": {"my/whisper": weights["of"]}}
        )
        return FinishedRows(tmp_path, replace(trained, features=features), 0.5)

    rows(of="a").add(["a"], [{}])
    assert rows(of="a").rows
    assert not rows(of="b").rows


def test_keys_change_with_the_texts_and_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    variants = [
        Recording("a", path), Recording("b", path), Recording("a", path, transcript=Transcript("x")),
        Recording("a", path, no_transcript="why"), Recording("a", path, description="x"), Recording("a", path, 1.0),
    ]  # fmt: skip
    assert len({keys_of(clips_of([each]))[0] for each in variants}) == len(variants)
    assert keys_of(clips_of(variants[:1])) == keys_of(clips_of(variants[:1]))


def test_the_document_and_its_schema(tmp_path: Path, trained: TrainedModel) -> None:
    path = write_video(tmp_path / "a.mkv", seconds=2)
    clips = clips_of([Recording("a", path), Recording("b", tmp_path / "b.mkv")], 1.0)
    with Predictor(trained) as predictor:
        results = predictor.predict(clips)
    real = list(zip(clips["recording"], clips["start"], clips["end"], strict=True))
    rows = FinishedRows.of(results, [(n, None if s != s else s, None if e != e else e) for n, s, e in real])
    document = document_of(
        rows, [Defect("list.csv, row 2", "", None, None, "path is empty")], trained, name="small", confidence=0.5,
        window=1.0, hop=1.0, notes=["a note"],
    )  # fmt: skip
    assert json.loads(json.dumps(document, allow_nan=False)) is not None
    assert list(document) == [
        "about", "schema", "model", "tasks", "confidence", "confidence_means", "novelty", "novelty_means",
        "novelty_dev", "coverage", "coverage_means", "interaction_means", "window", "hop",
        "recordings", "defects", "notes",
    ]  # fmt: skip
    assert document["schema"] == 1  # keys were added only
    assert list(document["model"]) == ["name", "modalities", "encoders", "origin"]
    assert document["about"].endswith("small: what it was trained on is not stored. No test figures are stored.")
    assert "of several labels, that of the least sure one" in document["confidence_means"]
    assert document["tasks"]["ambivalence"] == {
        "kind": "single_label", "classes": ["absent", "present"], "calibrated": True, "calibration_error": None,
        "calibration": "Calibrated probabilities (temperature 0.5, calibration error not stored, 9 dev clips)",
        "zero_shot": False, "thresholds": None,
        "coverage": {
            "level": 0.9, "stored": False, "promised": False, "groups": {}, "too_few": {},
            "sentence": "90 % is not promised: no dev groups are stored that sets could be made from",
        },
    }  # fmt: skip
    assert set(document["tasks"]["emotion"]["thresholds"].values()) == {0.5}  # sigmoids without fitted thresholds
    assert document["tasks"]["personality"]["calibrated"] is False
    demo = replace(trained, origin=Origin("demo/1", (CorpusOrigin("mosei", False, True, 9),)))
    options = {"name": "small", "confidence": 0.5, "window": None, "hop": None, "notes": []}
    other = document_of([], [], demo, **options)  # type: ignore[arg-type]
    fits = {"ambivalence": {"mosei": (ConformalFit(num_groups=7, num_clips=35),)}}
    with_groups = replace(demo, calibration=demo.calibration.model_copy(update={"conformal": fits}))
    told = document_of([], [], with_groups, **options)["tasks"]["ambivalence"]["coverage"]  # type: ignore[arg-type]
    assert told["sentence"] == (
        "90 % is not promised: too few dev groups (generated clips 1 has 7, 9 are needed), so nothing is ruled out"
    )
    assert other["about"].startswith(
        "Trained on generated clips and tells nothing about people: model small (run demo/1)"
    )
    assert other["model"]["origin"]["generated"] is True
    assert other["model"]["origin"]["corpora"] == [
        {"name": "mosei", "zero_shot": False, "generated": True, "num_trained": 9}
    ]
    one, two = document["recordings"]
    assert (one["id"], len(one["clips"]), one["defects"]) == ("a", 2, [])
    assert [each["start"] for each in one["clips"]] == [0.0, 1.0]
    assert list(one["clips"][0]) == [
        "start", "end", "tasks", "absent", "text", "text_source", "language", "narrative", "notes", "faces",
        "novelty",
    ]  # fmt: skip
    assert list(one["clips"][0]["tasks"]["emotion"]) == [
        "kind",
        "values",
        "decided",
        "confidence",
        "abstained",
        "intervals",
        "reason",
        "rests_on",
        "prediction_set",
        "label_sets",
    ]
    assert (two["id"], two["clips"], len(two["defects"])) == ("b", [], 1)
    assert [each["id"] for each in document["defects"]] == ["list.csv, row 2", "b"]
