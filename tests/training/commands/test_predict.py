"""The command `mmpsr predict`: what it prints and writes, broken files, and what a kill costs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from tests.support import predicted_run
from tests.support.predicted_run import write_run, write_video
from training.commands import predict as predict_command
from training.predict.predictor import Predictor
from tuning.console import app

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    predicted_run.ENCODED.clear()
    return tmp_path


def predict(run: Path, *arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["predict", str(run), *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def folder_of(place: Path, num_good: int) -> Path:
    """Good files, and five that are broken in five ways."""
    folder = place / "clips"
    folder.mkdir()
    shared = [write_video(place / f"{number}.mkv", seconds=1, first=5 * number + 5) for number in range(3)]
    for number in range(num_good):
        shutil.copyfile(shared[number % 3], folder / f"good{number:02d}.mkv")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is no video\n" * 99, encoding="utf-8")
    (folder / "truncated.mkv").write_bytes(shared[0].read_bytes()[:300])
    (folder / "dangling.mp4").symlink_to("nowhere.mp4")
    (folder / "wordless.wav").write_bytes(
        b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00" + bytes(16) + b"data\x00\x00\x00\x00"
    )
    return folder


def test_a_folder_with_broken_files_finishes_with_reasons(
    run: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_command, "FEW", 100)
    result = predict(run, folder_of(place, 45), "-o", "out.json", "--cards", "cards")
    document = json.loads(Path("out.json").read_text(encoding="utf-8"))
    done = [each["id"] for each in document["recordings"] if each["clips"]]
    assert done == [f"good{number:02d}.mkv" for number in range(45)]
    reasons = {each["id"]: each["reason"] for each in document["defects"]}
    assert set(reasons) == {"empty.mp4", "text.mp4", "truncated.mkv", "dangling.mp4", "wordless.wav"}
    assert "file is empty (0 bytes)" in reasons["empty.mp4"]
    assert "cannot be opened as media" in reasons["text.mp4"]
    assert "file does not exist" in reasons["dangling.mp4"]
    assert "45 predicted, 5 without a prediction" in result.stderr
    assert "... and 25 more in out.json" in result.stdout
    assert len(list(Path("cards").iterdir())) == 45
    before = len(predicted_run.ENCODED)
    predict(run, place / "clips", "-o", "out.json")
    assert len(predicted_run.ENCODED) == before


@pytest.mark.slow
def test_what_was_finished_before_an_interruption_is_not_repeated(
    run: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_command, "BATCH", 3)
    monkeypatch.setattr(predict_command, "TOLD", 1000.0)
    folder = folder_of(place, 6)
    own, calls = Predictor.predict, []

    def interrupted(self: Predictor, *arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return own(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "predict", interrupted)
    result = predict(run, folder, "-o", "out.csv", status=130)
    assert "stopped; what is finished is kept, and the same command goes on" in " ".join(result.stderr.split())
    assert not Path("out.csv").exists()
    assert len(predicted_run.ENCODED) == 4  # the first, and three together
    predict(run, folder, "-o", "out.csv")
    assert len(predicted_run.ENCODED) == 11
    assert len(set(predicted_run.ENCODED)) == 11
    whole = pd.read_csv("out.csv")
    predict(run, folder, "-o", "fresh.csv")
    pd.testing.assert_frame_equal(pd.read_csv("fresh.csv"), whole)
    predict(run, folder, "-o", "out.csv", "--confidence", "0.9")  # other rows of the same vectors
    assert len(predicted_run.ENCODED) == 22

    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("rows were there already")

    monkeypatch.setattr(Predictor, "predict", unwanted)
    predict(run, folder, "-o", "out.csv", "--confidence", "0.9")


def test_it_prints_tasks_absences_and_abstains(run: Path, place: Path) -> None:
    write_video(place / "a.mkv", loud=False)
    out = predict(run, "a.mkv", "--text", "Well, no.", "--confidence", "1").stdout
    about, means, *calibrations, out = out.split("\n", 5)
    assert about.endswith("small: what it was trained on is not stored. No test figures are stored.")
    assert means == "How sure: the probability of what is decided; of several labels, that of the least sure one."
    assert calibrations == [
        "emotion: Calibrated probabilities (temperature 2, calibration error not stored, 9 dev clips).",
        "ambivalence: Calibrated probabilities (temperature 0.5, calibration error not stored, 9 dev clips).",
        "Sets and intervals of emotion, personality, ambivalence: 90 % is not promised: no dev groups are stored that "
        "sets could be made from.",
    ]
    assert out.startswith("a.mkv\n  emotion      no decision (")
    assert " asked): " in out
    assert "  personality  openness 0." in out
    assert "  audio        absent: a.mkv: no audio stream (found: video)" in out
    assert "  video        note: 8 frames\n" in out
    assert "text" not in out
    wordless = predict(run, "a.mkv")
    assert "without a transcript: 1 of 1; give one with --text" in wordless.stderr
    decided = wordless.stdout
    assert "no decision" not in decided
    assert "% sure): " in decided
    assert "  text         absent: no transcript" in decided
    assert list(place.iterdir()) == [place / "a.mkv"]


def test_a_csv_file_with_spans_and_a_bad_row(run: Path, place: Path) -> None:
    write_video(place / "a.mkv", seconds=4)
    Path("list.csv").write_text("path,text,start,end\na.mkv,one,0,2\na.mkv,two,2,4\na.mkv,,x,\n", encoding="utf-8")
    result = predict(run, "list.csv", "--format", "json")
    document = json.loads(result.stdout)
    assert [(each["id"], each["clips"][0]["text"]) for each in document["recordings"]] == [
        ("a.mkv 0-2 s", "one"), ("a.mkv 2-4 s", "two"),
    ]  # fmt: skip
    assert "list.csv, row 4: start 'x' is not a number; correct the cell" in result.stderr
    assert result.stdout.startswith('{\n  "about": "Model ')
    predict(run, "list.csv", "-o", "list.out.csv")
    assert pd.read_csv("list.out.csv")["about"].tolist() == [document["about"]] * 3


def test_windows_of_a_long_recording(run: Path, place: Path) -> None:
    write_video(place / "a.mkv", seconds=6)
    Path("a.srt").write_text("00:00:02,500 --> 00:00:03,000\nhere\n", encoding="utf-8")
    cut = ("a.mkv", "--window", "2", "--hop", "1", "-o", "a.parquet")
    told = predict(run, *cut, "--cards", "cards", "--measures").stdout
    assert "\na.mkv: 5 windows of 2 s, 1 s apart, 0:00-0:06\n  emotion      " in told
    assert "\n  text         absent in 3 of 5 windows: the transcript has no words in this span\n" in told
    assert " on average, " in told
    assert "a.mkv 0:01-0:03" not in told
    table = predict(run, *cut, "--table").stdout
    assert "\na.mkv 0:01-0:03\n" in table
    assert "windows" not in table
    frame = pd.read_parquet("a.parquet")
    assert frame["start"].tolist()[:4] == [0.0, 1.0, 2.0, 3.0]
    assert [text for text in frame["text"] if isinstance(text, str)] == ["here"] * 2  # 1-3 s and 2-4 s
    card = Path("cards/a.mkv.html").read_text(encoding="utf-8")
    assert "<polyline" in card
    assert "Measured over time" in card


def test_how_far_it_is_and_a_log_in_the_folder_of_the_work(run: Path, place: Path) -> None:
    write_video(place / "a.mkv", seconds=2)
    Path("b.mp4").write_bytes(b"")
    cut = ("a.mkv", "b.mp4", "--window", "1", "-o", "out.csv")
    said = predict(run, *cut).stderr
    assert "making features of the first of 3 windows\n" in said
    assert re.search(r"predictions: 1 of 3 windows, \S+ windows/s, [01] without, less than \d+:\d\d left\n", said)
    assert "after" not in said  # a detail
    log = Path("out.csv.work/predict.log").read_text(encoding="utf-8")
    for line in said.splitlines():
        assert f" {line}\n" in log
    assert re.search(r"DEBUG   3 of 3 windows after \d+\.\d s: inputs \d", log)
    assert "DEBUG   video by grey-" in log
    quiet = predict(run, *cut, "-q")
    assert quiet.stdout == ""
    assert quiet.stderr == "b.mp4: no prediction: b.mp4: file is empty (0 bytes); no transcript\n"
    verbose = predict(run, *cut, "-v", "--confidence", "0.5").stderr
    assert "window 1; confidence 0.5; coverage 0.9\n" in verbose
    assert predict(run, *cut[:-2], "-q").stdout.startswith("Model ")  # which no file has


def test_explained_rows_add_up_and_others_say_nothing_of_it(run: Path, place: Path) -> None:
    write_video(place / "a.mkv", seconds=2)
    write_video(place / "b.mkv", seconds=2, loud=False, first=60)
    plain = predict(run, "a.mkv", "b.mkv", "-o", "out.json", "--cards", "cards").stdout
    assert "why" not in plain
    assert "explanation" not in Path("out.json").read_text(encoding="utf-8")
    assert "What each modality adds" not in Path("cards/a.mkv.html").read_text(encoding="utf-8")
    told = predict(
        run, "a.mkv", "b.mkv", "-o", "out.json", "--explain", "--cards", "cards"
    ).stdout  # not the rows there
    assert len(predicted_run.ENCODED) == 2  # the vectors, however
    assert re.search(r"why [a-z-]+: 0\.\d{3} without any modality, video [+-]0\.\d{3}, audio [+-]0\.\d{3} score", told)
    document = json.loads(Path("out.json").read_text(encoding="utf-8"))
    predict(run, "a.mkv", "b.mkv", "-o", "out.csv", "--explain")
    frame = pd.read_csv("out.csv").set_index("id")
    for recording in document["recordings"]:
        (clip,), row = recording["clips"], frame.loc[recording["id"]]
        for task, why in clip["explanation"]["tasks"].items():
            for name, value in clip["tasks"][task]["values"].items():
                added = [why["shapley"][modality][name] for modality in ("video", "audio", "text")]
                assert sum(added) == pytest.approx(why["prediction"][name] - why["baseline"][name], abs=1e-6)
                assert why["prediction"][name] == pytest.approx(value, abs=1e-6)
                assert added[2] == 0.0  # no transcript
                assert added[1] != 0.0 or recording["id"] == "b.mkv"  # no sound
                columns = [f"shapley.{task}.{name}.{modality}" for modality in ("video", "audio", "text")]
                assert row[columns].tolist() == pytest.approx(added, abs=1e-9)
    assert frame.loc["a.mkv", "conflict.emotion"] > 0
    assert pd.isna(frame.loc["b.mkv", "conflict.emotion"])  # pictures alone
    for name in ("a.mkv", "b.mkv"):
        assert "What each modality adds" in Path(f"cards/{name}.html").read_text(encoding="utf-8")
    assert predict(run, "a.mkv", "b.mkv", "-o", "out.json").stdout == plain
    assert "explanation" not in Path("out.json").read_text(encoding="utf-8")


def test_sets_intervals_and_interactions_are_told_with_what_they_promise(run: Path, place: Path) -> None:
    shutil.copytree(run, place / "groups")
    calibration = json.loads((run / "calibration.json").read_text(encoding="utf-8"))
    four = {"num_groups": 4, "num_clips": 8, "quantiles": [0.25] * 31}  # for levels up to 80 %
    calibration["conformal"] = {"personality": {"fiv2": [four] * 5}, "ambivalence": {"bah": [four]}}
    (place / "groups" / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
    write_video(place / "a.mkv", seconds=2)
    given = ("a.mkv", "--text", "Well, no.", "--explain")
    told = predict(place / "groups", *given, "--coverage", "0.8", "-o", "out.json").stdout
    assert "Sets and intervals of ambivalence: 80 % is promised for new groups like the dev groups of bah (4)." in told
    assert "Sets and intervals of emotion: 80 % is not promised: no dev groups are stored" in told
    assert "exchangeable with the dev groups of the same corpus" in told
    document = json.loads(Path("out.json").read_text(encoding="utf-8"))
    (clip,) = document["recordings"][0]["clips"]
    score, found = clip["tasks"]["personality"], clip["tasks"]["ambivalence"]
    for name, value in score["values"].items():
        assert score["intervals"][name] == pytest.approx([max(value - 0.25, 0.0), min(value + 0.25, 1.0)])
    kept = [name for name, value in found["values"].items() if value >= 0.75]
    assert found["prediction_set"] == (kept or [max(found["values"], key=found["values"].get)])
    assert f"80 % set: {', '.join(found['prediction_set'])}" in told
    assert clip["tasks"]["emotion"]["label_sets"] == {}
    promise = document["tasks"]["ambivalence"]["coverage"]
    assert (document["coverage"], promise["promised"], promise["groups"]) == (0.8, True, {"bah": 4})
    assert "above 0 they add more together than each by itself" in document["interaction_means"]
    pairs = clip["explanation"]["tasks"]["ambivalence"]["interactions"]
    assert [(pair["first"], pair["second"]) for pair in pairs] == [
        ("video", "audio"), ("video", "text"), ("audio", "text"),
    ]  # fmt: skip
    assert re.search(r"together: (audio|video) \+ (audio|text) [+-]", told)
    predict(place / "groups", *given, "-o", "out.csv")  # at 90 %, for which four groups are too few
    row = pd.read_csv("out.csv").iloc[0]
    assert row["ambivalence.set"] == "absent+present"
    assert (row["personality.openness.low"], row["personality.openness.high"]) == (0.0, 1.0)
    assert row["interaction.ambivalence.present.video+text"] == pytest.approx(pairs[1]["values"]["present"], abs=1e-9)


def test_none_that_can_be_predicted(run: Path, place: Path) -> None:
    Path("a.mp4").write_bytes(b"")
    result = predict(run, "a.mp4", "b.mp4", "--format", "csv", status=1)
    assert result.stdout.splitlines()[0].startswith("id,path,start,end,defect")
    assert "a.mp4: no prediction: a.mp4: file is empty (0 bytes); no transcript" in result.stderr
    assert "0 predicted, 2 without a prediction" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "error: nothing is no folder; name a finished run or a bundle"),
        (["."], "error: . has no config.json: name the folder of a finished run"),
        ([__file__], "is a file, no model; before the recordings, name a finished run or a bundle"),
        (["RUN", "a.mkv", "--coverage", "80"], "error: --coverage is a chance from 0.5 to 0.99, found 80"),
        (["RUN", "--confidence", "80"], "error: --confidence is a probability between 0 and 1, found 80"),
        (["RUN", "--novelty", "80"], "error: --novelty is a share of dev clips between 0 and 1, found 80"),
        (["RUN", "--novelty", "0.9"], "error: the model's run or bundle does not store how unlike its training clips"),
        (
            ["RUN", "-o", "out.txt"],
            "error: out.txt ends in none of .json, .csv, .parquet; name one of them or give --format",
        ),
        (["RUN", "-o", "."], "error: . is a folder; name a file"),
        (["RUN", "-q", "-v"], "error: --quiet and --verbose are opposites; leave one out"),
        (["RUN", "--measures"], "error: --measures are drawn in the cards; name their folder with --cards"),
        (["RUN", "--format", "parquet"], "error: Parquet is not for reading on a terminal; name a file with -o"),
        (["RUN", "--hop", "2"], "error: a hop needs the length of windows"),
        (["RUN", "b.mkv", "--text", "x"], "error: 1 text(s) for 2 recordings; give one for each"),
    ],
)
def test_what_cannot_be_begun(run: Path, place: Path, arguments: list[str], message: str) -> None:
    model, *others = (str(run) if each == "RUN" else each for each in arguments)
    result = CliRunner().invoke(app, ["predict", model, "a.mkv", *others])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_and_restarted_it_repeats_nothing(run: Path, place: Path) -> None:
    folder = folder_of(place, 45)
    command = [sys.executable, "-m", "tuning.console", "predict", str(run), str(folder), "-o", "out.csv"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in place.glob("out.csv.work/rows-*.jsonl")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in place.glob("out.csv.work/features/**/*.parquet")}
    assert kept
    assert not Path("out.csv").exists()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=150)
    assert "45 predicted, 5 without a prediction" in done.stderr
    assert len(pd.read_csv("out.csv")) == 50
    parts = list(place.glob("out.csv.work/features/**/part-*.parquet"))
    assert (
        kept.items()
        <= {path: path.stat().st_mtime_ns for path in place.glob("out.csv.work/features/**/*.parquet")}.items()
    )
    keys = pd.concat([pd.read_parquet(path, columns=["clip_id"]).assign(folder=path.parent) for path in parts])
    assert not keys.duplicated().any()
