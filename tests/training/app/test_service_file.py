"""The file with everything: what is in it, and what is not."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.support.analysed import analysed, small_predictor, without_faces
from tests.support.measured import measured
from training.app.analysis import Wishes
from training.app.service import write_zip


def test_json_csv_and_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_faces(monkeypatch)
    predictor = small_predictor(tmp_path)
    found = analysed(predictor, tmp_path / "secret", seconds=4, wishes=Wishes("Well, no.", window=2.0, confidence=0.9))
    path = write_zip(found, predictor.trained, "small", tmp_path)
    assert path.name == "talk-mmpsr.zip"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    assert sorted(files) == ["talk-timeline.html", "talk.csv", "talk.html", "talk.json"]
    assert not any("secret" in content or "image/jpeg" in content for content in files.values())
    document = json.loads(files["talk.json"])
    clips = document["recordings"][0]["clips"]
    assert [(clip["start"], clip["end"]) for clip in clips] == [(None, None), (0.0, 2.0), (2.0, 4.0)]
    assert (document["confidence"], document["window"], document["model"]["name"]) == (0.9, 2.0, "small")
    values = clips[0]["tasks"]["emotion"]["values"]
    assert document["explanation"]["tasks"]["emotion"]["prediction"] == pytest.approx(values, abs=1e-5)
    table = pd.read_csv(io.StringIO(files["talk.csv"]))
    assert table["about"].unique().tolist() == [predictor.trained.about("small")]
    assert "/run): what it was trained on is not stored." in files["talk.html"]
    assert table["emotion.Neutral"].tolist() == pytest.approx(
        [c["tasks"]["emotion"]["values"]["Neutral"] for c in clips]
    )
    assert "the whole recording" in files["talk.html"]
    assert "<polyline" not in files["talk.html"]
    assert "2 windows from 0:00 to 0:04" in files["talk-timeline.html"]
    alone = write_zip(analysed(predictor, tmp_path / "b", "b.mkv"), predictor.trained, "small", tmp_path)
    assert sorted(zipfile.ZipFile(alone).namelist()) == ["b.csv", "b.html", "b.json"]
    with path.open("rb") as on_its_way:  # to a browser
        with_measures = write_zip(replace(found, measures=measured(4)), predictor.trained, "small", tmp_path)
        assert sorted(zipfile.ZipFile(on_its_way).namelist()) == sorted(files)
    assert with_measures == path
    assert "talk-measures.csv" in zipfile.ZipFile(with_measures).namelist()
