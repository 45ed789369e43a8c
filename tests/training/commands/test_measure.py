"""The command `mmpsr measure`: tables, what could not be measured, statuses, and what a repeated command does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from encoders.cues.columns import COLUMNS
from encoders.cues.measurement import Measured, measure_clip
from encoders.media.clip import ClipMedia
from tests.support.media_files import grey, tone, write_media
from training.predict import measures
from tuning.console import app


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two recordings of a quarter of a second without faces, one of them without sound."""
    monkeypatch.chdir(tmp_path)
    frames = [grey(number, 64) for number in range(3)]
    write_media(tmp_path / "a.mkv", frames, tone(200.0, 0.25), fps=12)
    write_media(tmp_path / "b.mkv", frames, fps=12)
    return tmp_path


def measure(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["measure", *arguments])
    assert result.exit_code == status, result.output
    return result


def test_what_cannot_be_measured_is_a_row_a_sentence_and_a_status(place: Path) -> None:
    Path("text.mp4").write_text("no video " * 99, encoding="utf-8")
    said = measure("a.mkv", "text.mp4", "b.mkv", "-o", "out/cues.csv", status=1).stderr
    assert "text.mp4: not measured: text.mp4: cannot be opened as media" in " ".join(said.split())
    assert "out/cues.csv: 6 rows, one for each frame; 2 measured, 1 not" in said
    assert "b.mkv: no sound: " in said
    assert "a.mkv: no face in any of 3 frames" in said
    table = pd.read_csv("out/cues.csv")
    assert list(table) == list(COLUMNS)
    assert table["recording"].tolist() == ["a.mkv"] * 3 + ["text.mp4"] + ["b.mkv"] * 3
    assert table["failure"].notna().tolist() == [False] * 3 + [True] + [False] * 3
    assert table["found"].tolist()[:3] == [0.0] * 3
    assert table["heard"].dropna().tolist() == [1.0] * 3 + [0.0] * 3
    assert table.loc[3].drop(["recording", "failure"]).isna().all()
    own = measure_clip(ClipMedia(media=place / "a.mkv")).values
    for name in ("loudness", "pitch", "voice", "event.pause"):
        np.testing.assert_allclose(table.loc[:2, name], own[name], rtol=1e-6)
    np.testing.assert_allclose(table.loc[:2, "time"], [0.0, 1 / 12, 1 / 6], atol=1e-6)


def test_a_repeated_command_measures_what_is_left_and_tries_failures_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure("a.mkv", "c.mkv", "-o", "cues.csv", status=1)
    before = pd.read_csv("cues.csv")
    measured: list[str] = []

    def counted(clip: ClipMedia, *arguments: object) -> Measured:
        measured.append(clip.media.name if clip.media else "")
        return measure_clip(clip, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(measures, "measure_clip", counted)
    (place / "b.mkv").rename("c.mkv")
    measure("a.mkv", "c.mkv", "-o", "cues.csv")
    assert measured == ["c.mkv"]
    after = pd.read_csv("cues.csv")
    pd.testing.assert_frame_equal(after[:3], before[:3], check_dtype=False)
    measure("a.mkv", "-o", "cues.csv", "--rate", "4")  # another question
    assert measured == ["c.mkv", "a.mkv"]


def test_parquet_by_second_of_a_part_has_seconds_of_the_file(place: Path) -> None:
    write_media(place / "long.mkv", [grey(number, 64) for number in range(8)], tone(200.0, 4.0), fps=2)
    Path("parts.csv").write_text("path,start,end,id\nlong.mkv,1,3.5,part\n", encoding="utf-8")
    measure("parts.csv", "-o", "seconds.parquet", "--by", "second")
    table = pd.read_parquet("seconds.parquet")
    assert table["recording"].tolist() == ["part"] * 3
    assert table["time"].tolist() == [1.0, 2.0, 3.0]
    assert table["num_frames"].tolist() == [2, 2, 1]
    assert table["frame"].dtype == "Int64"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.mkv"], "there is no output; name a file that ends in .csv or .parquet with -o"),
        (["a.mkv", "-o", "cues.txt"], "cues.txt ends in neither; name a file that ends in .csv or .parquet with -o"),
        (["a.mkv", "-o", "c.csv", "--rate", "0"], "--rate is frames per second, above 0 up to 1000, found 0"),
        (["a.mkv", "-o", "c.csv", "--rate", "5", "--as-encoded"], "leave --rate out"),
        (["-o", "c.csv"], "there is nothing to measure; name files, folders, globs or tables"),
    ],
)
def test_what_cannot_be_asked_is_said(place: Path, arguments: list[str], says: str) -> None:
    assert says in " ".join(measure(*arguments, status=2).stderr.split())


def test_columns_are_listed_with_their_units(place: Path) -> None:
    lines = measure("--columns").stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == sorted(
        COLUMNS, key=lambda name: [*dict.fromkeys(each.part for each in COLUMNS.values())].index(COLUMNS[name].part)
    )
    assert any(line.split()[:3] == ["loudness", "dB", "10"] for line in lines)
