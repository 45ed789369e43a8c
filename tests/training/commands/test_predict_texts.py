"""`mmpsr predict --task-texts`: without a run and beside one, and what it says that it rests on."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from encoders.config import TranscriberConfig
from tests.support.predicted_run import write_run, write_video
from tests.support.worded import ENCODER, write_mood
from training.commands.predict import _open
from tuning.console import app

WORDED = ("--encoder", ENCODER)


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_mood(tmp_path)


def predict(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def test_a_sentence_without_a_run() -> None:
    result = predict("--text", "grief", "--task-texts", "mood.toml", *WORDED)
    said = " ".join(result.stdout.split())
    assert said.startswith("No label and no training: zero-shot, by how near words are to texts of what the classes of")
    assert "mood: Zero-shot by the texts of mood.toml, no label used: similarities made into probabilities" in said
    assert "at temperature 0.1, not calibrated (what is said with templates, phrases; described behaviour with" in said
    assert "text mood bad (100.0% sure): bad 1.00, good 0.00" in said
    assert "What is said is nearest to “Grief” (templates of bad, 1.00), “grief” (phrases of bad, 1.00)" in said
    assert "1 predicted, 0 without a prediction" in result.stderr


def test_a_table_gives_the_usual_documents_and_clips_without_words_are_not_predicted() -> None:
    for name in ("a", "b", "c"):
        Path(f"{name}.mp4").touch()
    rows = {"path": ["a.mp4", "b.mp4", "c.mp4"], "text": ["joy", "", ""], "description": ["tears", "tears", ""]}
    pd.DataFrame(rows).to_csv("clips.csv", index=False)
    predict("clips.csv", "--task-texts", "mood.toml", *WORDED, "-o", "out.json", "--cards", "cards")
    document = json.loads(Path("out.json").read_text(encoding="utf-8"))
    both, seen, nothing = document["recordings"]
    assert document["tasks"]["mood"]["zero_shot"] is True
    assert document["tasks"]["mood"]["calibrated"] is False
    result = both["clips"][0]["tasks"]["mood"]
    # of what is said all for good, of what is seen all for bad, alike but for how near the texts of each lie together
    assert [each.split(" is nearest to ")[0] for each in result["rests_on"]] == ["What is said", "What is described"]
    assert seen["clips"][0]["tasks"]["mood"]["decided"] == ["bad"]
    assert seen["clips"][0]["absent"]["text"]
    reason = "nothing is said and no behaviour described that class texts could be compared with; "
    assert nothing["defects"][0]["reason"].startswith(reason)
    assert "What is described is nearest to “tears”" in Path("cards/b.mp4.html").read_text(encoding="utf-8")
    predict("clips.csv", "--task-texts", "mood.toml", *WORDED, "-o", "out.csv")
    table = pd.read_csv("out.csv")
    assert table["mood.decided"].tolist()[1] == "bad"
    assert (
        table["mood.rests_on"]
        .tolist()[1]
        .startswith("What is described is nearest to “tears” (behaviors of bad, 1.00)")
    )
    assert table["defect"].notna().tolist() == [False, False, True]
    predict("c.mp4", "--task-texts", "mood.toml", *WORDED, status=1)


def test_a_table_of_words_needs_no_recordings() -> None:
    pd.DataFrame({"text": ["joy", "grief", "joy"], "id": ["a", "b", "a"]}).to_csv("said.csv", index=False)
    predict("said.csv", "--task-texts", "mood.toml", *WORDED, "-o", "out.json")
    recordings = json.loads(Path("out.json").read_text(encoding="utf-8"))["recordings"]
    assert [each["path"] for each in recordings] == ["", "", ""]
    assert [each["id"] for each in recordings] == ["said.csv, row 2", "b", "said.csv, row 4"]
    assert [each["clips"][0]["tasks"]["mood"]["decided"] for each in recordings] == [["good"], ["bad"], ["good"]]
    write_run(Path("run"), features={"encoders": {"text": ENCODER}}, data={"modalities": ["text"]})
    result = predict("run", "said.csv", "--task-texts", "mood.toml", status=2)  # ids alone are no places of recordings
    assert "said.csv: has no column 'path'" in " ".join(result.stderr.split())


def test_beside_a_run_nothing_else_changes(tmp_path: Path) -> None:
    write_run(tmp_path / "run", features={"encoders": {"text": ENCODER}}, data={"modalities": ["text"]})
    alone = json.loads(predict("run", "--text", "joy", "--format", "json").stdout)
    arguments = ("run", "--text", "joy", "--task-texts", "mood.toml", "--format", "json")
    both = json.loads(predict(*arguments, "--explain").stdout)
    tasks = both["recordings"][0]["clips"][0]["tasks"]
    assert tasks.pop("mood")["decided"] == ["good"]
    assert tasks == alone["recordings"][0]["clips"][0]["tasks"]
    assert both["about"] == alone["about"]
    explained = both["recordings"][0]["clips"][0]["explanation"]["tasks"]
    assert explained["mood"]["shapley"]["text"]["good"] == pytest.approx(0.5, abs=1e-4)  # from even to sure
    assert explained["emotion"]["attention"] is not None  # as without class texts
    shipped = predict("run", "--text", "joy", "--task-texts", "personality", status=2)
    assert "cannot be embedded: no known word" in " ".join(shipped.stderr.split())


def test_a_clip_without_words_has_no_decision_beside_a_run(tmp_path: Path) -> None:
    encoders = {"video": "tests.support.predicted_run:Grey", "text": ENCODER}
    write_run(tmp_path / "run", features={"encoders": encoders}, data={"modalities": ["video", "text"]})
    video = write_video(tmp_path / "a.mkv")
    predict("run", video, "--task-texts", "mood.toml", "-o", "out.json")
    (recording,) = json.loads(Path("out.json").read_text(encoding="utf-8"))["recordings"]
    mood = recording["clips"][0]["tasks"]["mood"]
    assert (mood["abstained"], mood["rests_on"]) == (True, [])
    assert mood["reason"].startswith("nothing is said and no behaviour described")
    assert not recording["clips"][0]["tasks"]["emotion"]["abstained"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: there is no model; name a finished run or a bundle, or give --task-texts, which needs none"),
        (["run"], "error: there is nothing to predict; name files, folders, globs or tables, or give --text"),
        (["--task-texts", "mood.toml"], "error: there is nothing to predict"),
        (["--text", "joy", "--task-texts", "moot"], "error: --task-texts: 'moot' is neither a file nor one of the"),
        (["run", "--text", "joy", "--task-texts", "mood.toml", *WORDED], "error: --encoder is of class texts without"),
        (["run", "--text", "joy", "--task-texts", "mood.toml"], "of video none is text; name a run with features."),
    ],
)
def test_what_cannot_be_begun(tmp_path: Path, arguments: list[str], message: str) -> None:
    grey = {"video": "tests.support.predicted_run:Grey"}
    write_run(tmp_path / "run", features={"encoders": grey}, data={"modalities": ["video"]})
    result = predict(*arguments, status=2)
    assert message in " ".join(result.stderr.split())


def test_without_a_run_a_speech_model_can_be_asked_for() -> None:
    with _open(None, ["mood.toml"], ENCODER, True) as predictor:
        assert predictor.features.transcriber == TranscriberConfig()
    with _open(None, ["mood.toml"], ENCODER, False) as predictor:
        assert predictor.features.transcriber is None
