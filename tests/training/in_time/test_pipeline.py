"""A run of a model in time from videos and their segments to its figures, and back from its folder."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from rich.console import Console

from corpora.clips import CorpusError
from mmpsr.config import ConfigError, validate
from tests.support.in_time_run import ENCODERS, without_narrative
from tests.support.predicted_run import write_video
from training.config import InTimeConfig, RunConfig
from training.doctor.doctor import examine
from training.in_time.figures import verify_in_time
from training.in_time.pipeline import run_in_time
from training.in_time.recordings import InTimePredictor
from training.predict.inputs import Recording
from training.predict.windows import clips_of

SPLITS = {"train": 4, "dev": 2, "test": 2}
SECONDS = 4


def settings(folder: Path, **sections: Any) -> InTimeConfig:
    source = {
        "adapter": "table", "files": "clips.csv", "id": "clip", "split": "split", "media": "{clip}.mkv",
        "group": "who", "timeline": "segments.csv",
        "labels": {"ambivalence": {"column": "hesitant", "values": {"no": "absent", "yes": "present"}}},
    }  # fmt: skip
    tree: dict[str, Any] = {
        "corpora": {"root": str(folder), "sources": {"own": source}},
        "features": {"store": str(folder / "store"), "encoders": ENCODERS, "num_workers": 1},
        "data": {"modalities": ["audio", "video"]},
        "model": {"kind": "frame"},
        "training": {"num_epochs": 30, "lr": 0.1, "batch_size": 2},
        "output": {"directory": str(folder / "runs")},
    }
    return validate(InTimeConfig, {**tree, **sections}, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos whose last two seconds, which are the loudest, are marked in every second one; one has no file."""
    place = tmp_path_factory.mktemp("corpus")
    clips, segments = ["clip,split,who,hesitant"], ["clip,start,end,label"]
    for number, split in enumerate(split for split, count in SPLITS.items() for _ in range(count)):
        is_marked = number % 2 == 0
        write_video(place / f"c{number}.mkv", SECONDS if is_marked else 2)
        clips.append(f"c{number},{split},p{number},{'yes' if is_marked else 'no'}")
        segments.append(f"c{number},2,4,present" if is_marked else f"c{number},,,")
    clips.append("gone,test,p9,yes")
    (place / "clips.csv").write_text("\n".join([*clips, ""]))
    (place / "segments.csv").write_text("\n".join([*segments, "gone,0,1,present", ""]))
    return place


@pytest.fixture(scope="module")
def finished(folder: Path) -> tuple[Path, str]:
    said = io.StringIO()
    run = run_in_time(settings(folder), "own", False, Accelerator(cpu=True), Console(file=said, width=400))
    return run, said.getvalue()


@pytest.mark.slow
def test_a_run_learns_what_can_be_heard_and_its_figures_follow_from_its_predictions(finished: tuple[Path, str]) -> None:
    run, said = finished
    assert verify_in_time(run) == []
    rows = {(row["split"], row["level"], row["metric"]): row for row in json.loads((run / "results.json").read_text())}
    frames = rows["test", "frame", "positive_f1"]
    assert (frames["num_clips"], frames["num_frames"]) == (2, 5 * (4 + 2))
    assert frames["model"] == frames["linear"] == 100.0
    # 10 of 30 frames are present: 2 * 10 / (2 * 10 + 20)
    assert frames["present"] == frames["chance"] == pytest.approx(50.0)
    assert rows["test", "clip", "positive_f1"]["num_clips"] == 2
    assert "clips without frames in any modality, which are in no figure: 1 of 9; ledger.csv" in said
    assert "gone" in (run / "ledger.csv").read_text()


@pytest.mark.slow
def test_its_folder_predicts_and_says_what_it_was_trained_on(
    finished: tuple[Path, str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_narrative(monkeypatch)
    run, _ = finished
    with InTimePredictor.from_run(run) as predictor:
        (result,) = predictor.predict(clips_of([Recording("c6", folder / "c6.mkv")]), tmp_path).results
        about = predictor.trained.about(run.name)
    assert [(segment.start, segment.end) for segment in result.segments] == [(2.0, 4.0)]
    assert about.startswith(f"Model own/{run.name}, trained on 4 clips of own. Test: ambivalence (own) ")
    again = run_in_time(settings(folder), "own", True, Accelerator(cpu=True), Console(file=io.StringIO()))
    assert again == run


def test_what_cannot_be_begun(folder: Path) -> None:
    tasks = {"active": ["emotion"], "specs": {}}
    with pytest.raises(ConfigError, match="'emotion' is a multi_label task of 7 classes; a model in time tells"):
        run_in_time(settings(folder, tasks=tasks), "own", False, Accelerator(cpu=True), Console(file=io.StringIO()))
    with pytest.raises(ConfigError, match="jmt is defined of video and audio, found"):
        settings(folder, data={"modalities": ["audio", "text"]}, model={"kind": "jmt"})
    with pytest.raises(ConfigError, match=r"^test: model.kind: 'lfen' is not known; did you mean 'lfan'\?$"):
        validate(RunConfig, {"model": {"kind": "lfen", "width": 3}, "data": {"window": 9}}, "test")


def test_labels_of_clips_alone_are_too_few_before_anything_is_extracted(folder: Path) -> None:
    own = settings(folder)
    source = own.corpora.sources["own"].model_copy(update={"timeline": None})
    config = own.model_copy(update={"corpora": own.corpora.model_copy(update={"sources": {"own": source}})})
    said = io.StringIO()
    with pytest.raises(CorpusError, match=r"^no train clip of own has a frame that is labelled 'absent' for task"):
        run_in_time(config, "own", False, Accelerator(cpu=True), Console(file=said, width=400))
    assert "features:" not in said.getvalue()
    assert "warning: own: dev cannot choose" in said.getvalue()
    findings = examine(config, "test", False).findings
    found = [finding.message.partition(" for task")[0] for finding in findings if finding.kind == "untrainable"]
    assert found == [
        f"no {split} clip of own has a frame that is labelled '{name}'"
        for split in ("train", "dev")
        for name in ("absent", "present")
    ]
    assert [finding.kind for finding in examine(own, "test", False).findings if finding.severity == "error"] == []
