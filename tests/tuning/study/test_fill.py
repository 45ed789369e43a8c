"""Studies: cells computed once, tables of their results, and errors with their rows' names."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import scipy.stats
from filelock import FileLock
from rich.console import Console
from typer.testing import CliRunner

import training.fit.loop
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError
from mmpsr.errors import Interrupted
from mmpsr.metrics.seeds import seed_summary
from training import pipeline
from training.fit.live import Stand
from training.report.page import render
from training.runs.stored import RunPredictions
from tuning.console import app
from tuning.study import workers as study_workers
from tuning.study.config import Study, load_study
from tuning.study.fill import run_study
from tuning.study.report import read_stored_table, study_page
from tuning.study.table import LINEAR, Column, StudyTable
from tuning.study.workers import Stopped

BASE = """
[corpora]
root = "."
[corpora.sources.mine]
adapter = "table"
files = "mine.csv"
id = "id"
split = "split"
labels.ambivalence = { column = "label" }
[features]
store = "features"
encoders = { text = "words", audio = "sound" }
precomputed = { words = { path = "words.npz" }, sound = { path = "sound.npz" } }
num_workers = 1
[data]
modalities = ["text", "audio"]
[tasks]
active = ["ambivalence"]
[model]
hidden_width = 8
head_width = 8
num_heads = 2
[balancing]
method = "equal"
[semi_supervision]
method = "none"
[training]
num_epochs = 2
batch_size = 16
lr = 1e-3
"""
STUDY = """
base = "base.toml"
seeds = [0, 1]
compare_to = "full"
stack = false
[[rows]]
name = "full"
[[rows]]
name = "w/o graph"
settings = { "model.graph" = "none" }
[[rows]]
name = "text only"
settings = ['data.modalities=["text"]']
"""
GRAPH = '"model.graph" = "none"'
MF1, UAR = (Column("mine", "test", "ambivalence", metric) for metric in ("macro_f1", "uar"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a corpus of 60 clips, vectors of two modalities, a base configuration and a study."""
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    return tmp_path


def write_inputs(folder: Path) -> None:
    generator = np.random.default_rng(0)
    names = [f"clip{i}" for i in range(60)]
    words = generator.normal(size=(60, 4)).astype(np.float32)
    labels = np.where(words[:, 0] + generator.normal(size=60) > 0, "present", "absent")
    split = np.array(["train", "train", "train", "dev", "test"])[np.arange(60) % 5]
    pd.DataFrame({"id": names, "split": split, "label": labels}).to_csv(folder / "mine.csv", index=False)
    np.savez(folder / "words.npz", **dict(zip(names, words, strict=True)))
    np.savez(folder / "sound.npz", **dict(zip(names, generator.normal(size=(60, 3)).astype(np.float32), strict=True)))
    (folder / "base.toml").write_text(BASE, encoding="utf-8")
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")


def command() -> int:
    """The exit status of `mmpsr study study.toml`, whose output is printed."""
    done = CliRunner().invoke(app, ["study", "study.toml"], catch_exceptions=False)
    print(done.stdout)
    print(done.stderr, file=sys.stderr)
    return done.exit_code


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def write(text: str) -> None:
    Path("study.toml").write_text(text, encoding="utf-8")


def result(mf1: object, uar: object, linear: object = 50.0, split: str = "test") -> list[dict[str, object]]:
    """What `results.json` of a cell holds."""
    return [
        {"corpus": "mine", "split": split, "task": "ambivalence", "metric": metric, "model": model, "linear": linear}
        for metric, model in (("macro_f1", mf1), ("uar", uar))
    ]


def counted(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[tuple[str, ...]]]:
    """Runs that are trained from now on, and the modalities of data that are made ready for them, in order."""
    trained: list[str] = []
    prepared: list[tuple[str, ...]] = []
    real, real_prepare = pipeline.train, study_workers.prepare

    def train(config: Any, joined: Any, tasks: Any, accelerator: Any, run: Any, *rest: Any) -> Any:
        trained.append(run.path.relative_to("runs/study").as_posix())
        return real(config, joined, tasks, accelerator, run, *rest)

    def prepare(config: Any, accelerator: Any) -> Any:
        prepared.append(config.data.modalities)
        return real_prepare(config, accelerator)

    monkeypatch.setattr(pipeline, "train", train)
    monkeypatch.setattr(study_workers, "prepare", prepare)
    return trained, prepared


def faked(monkeypatch: pytest.MonkeyPatch, results: Callable[[str, int], Any]) -> list[str]:
    """Cells that take their results from a function of row folder and seed, in place of training."""
    trained: list[str] = []

    def compute(self: object, config: Any, data_key: str, run: Any, watch: Any) -> None:
        row = run.path.parent.name
        trained.append(f"{row}/{run.path.name}")
        found = results(row, config.training.seed)
        run.write_json("inputs.json", {"clips": "abc"})
        (run.path / "predictions.parquet").write_bytes(b"")
        run.write_json("results.json", found)

    monkeypatch.setattr(study_workers.CellRunner, "_compute", compute)
    monkeypatch.setattr(study_workers.CellRunner, "_together", lambda self, cells, folders, clock: cells)
    return trained


def figures(study: Study) -> dict[tuple[str, int], list[dict[str, Any]]]:
    return {(cell.row, cell.seed): json.loads((cell.path / "results.json").read_text()) for cell in study.cells}


@pytest.mark.slow
def test_a_study_fills_its_table_and_computes_no_cell_twice(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, prepared = counted(monkeypatch)
    study = load_study("study.toml")
    table = run_study(study, 1, quiet())
    assert prepared == [("text", "audio"), ("text",)]  # corpora are joined once for all rows that share them
    everything = ["full/0", "full/1", "w-o-graph/0", "w-o-graph/1", "text-only/0", "text-only/1"]
    assert trained == everything
    assert not table.missing
    assert table.columns == [MF1, UAR]
    assert StudyTable.from_json((study.folder / "table.json").read_text()) == table
    found = figures(study)
    for row in study.rows:
        seeds = [next(r["model"] for r in found[row, seed] if r["split"] == "test") for seed in (0, 1)]
        assert table.estimates(MF1)[row].mean == pytest.approx(sum(seeds) / 2)
    run = Path("runs/study/full/0")
    names = ("config.json", "versions.json", "features.json", "metrics.jsonl", "best.safetensors", "ledger.csv")
    assert all((run / name).is_file() for name in (*names, "predictions.parquet", "calibration.json", "defects.csv"))
    manifest = json.loads(Path("runs/study/manifest.json").read_text())
    assert (
        manifest["cells"]["full/0"]["inputs"]["features.text"]
        == (manifest["cells"]["text only/1"]["inputs"]["features.text"])
    )

    trained.clear()
    run_study(load_study("study.toml"), 1, quiet())
    assert trained == []

    write(STUDY.replace('"model.graph" = "none"', '"model.graph" = "gat"'))  # the row keeps its name
    kept = (Path("runs/study/full/0/results.json").stat().st_mtime_ns, found["w/o graph", 0])
    run_study(load_study("study.toml"), 1, quiet())
    assert trained == ["w-o-graph/0", "w-o-graph/1"]
    assert Path("runs/study/full/0/results.json").stat().st_mtime_ns == kept[0]
    assert json.loads(Path("runs/study/w-o-graph/0.replaced-1/results.json").read_text()) == kept[1]
    assert json.loads(Path("runs/study/w-o-graph/0/config.json").read_text())["model"]["graph"] == "gat"


STACKED = (
    STUDY.replace("stack = false\n", "")
    + """
[[rows]]
name = "slower"
settings = { "training.lr" = 1e-4, "model.dropout" = 0.5 }
[[rows]]
name = "walks"
settings = { "model.graph" = "ncgnn" }
"""
)


@pytest.mark.parametrize(("workers", "sizes"), [(1, [4, 2, 2, 1, 1]), (5, [2, 2, 2, 2, 1, 1])])
def test_cells_of_one_shape_are_put_together(place: Path, workers: int, sizes: list[int]) -> None:
    write(STACKED)
    groups = study_workers.put_together(load_study("study.toml").cells, workers)
    assert sorted(map(len, groups), reverse=True) == sizes
    assert [[(cell.row, cell.seed) for cell in group] for group in groups if group[0].row == "walks"] == [
        [("walks", 0)], [("walks", 1)],
    ]  # fmt: skip


@pytest.mark.slow
def test_a_stack_fills_the_table_that_its_runs_fill_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that differ in rates are one stack over all seeds; one that cannot be stacked is trained alone, and said."""
    trained, _ = counted(monkeypatch)
    write(STACKED)
    study, console = load_study("study.toml"), quiet()
    monkeypatch.setattr("tuning.study.fill.PAUSE", 0.0)
    table = run_study(study, 1, console)
    assert "full, slower, seeds 0, 1: epoch 1 of" in console.file.getvalue()  # type: ignore[attr-defined]
    assert not table.missing
    assert trained == ["walks/0", "walks/1"]
    assert "runs of 'walks' are trained one by one: model.graph = ncgnn is not stacked" in console.file.getvalue()  # type: ignore[attr-defined]
    assert json.loads(Path("runs/study/full/0/cost.json").read_text())["num_together"] == 4
    together = {cell.path: pd.read_parquet(cell.path / "predictions.parquet") for cell in study.cells}
    write(STACKED.replace('compare_to = "full"', 'compare_to = "full"\nstack = false'))
    shutil.rmtree("runs")
    run_study(load_study("study.toml"), 1, quiet())
    assert len(trained) == 2 + 10
    for path, predictions in together.items():
        pd.testing.assert_frame_equal(predictions, pd.read_parquet(path / "predictions.parquet"), rtol=0, atol=1e-5)


def test_a_cell_of_another_process_is_left_for_last(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is let go undone, and another is done by whoever has it."""
    Path("runs/study/full").mkdir(parents=True)
    locks = [FileLock(f"runs/study/full/.{seed}.lock") for seed in (0, 1)]
    for lock in locks:
        lock.acquire()

    def results(row: str, seed: int) -> object:
        if (row, seed) == ("text-only", 1):
            folder = Path("runs/study/full/1")
            folder.mkdir()
            cell = next(cell for cell in load_study("study.toml").cells if cell.path == folder)
            (folder / "config.json").write_text(json.dumps(cell.config.model_dump(mode="json")))
            (folder / "inputs.json").write_text(json.dumps({"clips": "abc"}))
            (folder / "predictions.parquet").touch()
            (folder / "results.json").write_text(json.dumps(result(70.0, 70.0)))
        return result(60.0, 60.0)

    monkeypatch.setattr(study_workers.time, "sleep", lambda seconds: locks[0].release())
    trained, console = faked(monkeypatch, results), quiet()
    table = run_study(load_study("study.toml"), 1, console)
    assert trained == ["w-o-graph/0", "w-o-graph/1", "text-only/0", "text-only/1", "full/0"]
    assert table.estimates(MF1)["full"].mean == 65.0
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "full, seed 1: done by another process" in told
    assert "waiting for cells that other processes have (1), and for what they leave undone" in told


def test_two_commands_share_the_cells_of_a_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twelve cells that take equally long each does about six, and both end with the whole table."""

    def slowly(row: str, seed: int) -> object:
        time.sleep(0.1)
        return result(60.0, 70.0)

    def fill(name: str) -> None:
        with open(name, "w", encoding="utf-8") as file:
            table = run_study(load_study("study.toml", [], [0, 1, 2, 3]), 1, Console(file=file, width=200))
        assert not table.missing

    faked(monkeypatch, slowly)
    monkeypatch.setattr(study_workers, "POLL", 0.05)
    forking = multiprocessing.get_context("fork")
    commands = [forking.Process(target=fill, args=(f"{number}.txt",)) for number in (0, 1)]
    for command in commands:
        command.start()
    for command in commands:
        command.join(60)
    assert [command.exitcode for command in commands] == [0, 0]
    shares = [Path(f"{number}.txt").read_text().count(": done (") for number in (0, 1)]
    assert sum(shares) == 12
    assert min(shares) >= 4


@pytest.mark.slow
def test_an_interrupted_cell_continues_from_its_checkpoint(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["training.checkpoint_steps=1"]
    study = load_study("study.toml", settings, [0])
    run_study(study, 1, quiet())
    whole = figures(study)
    shutil.rmtree("runs")
    real, taken = training.fit.loop.training_step, 0

    def interrupted(*arguments: Any, **named: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == 7:  # 36 train clips are 3 batches of at most 16, so this is the first step of the second cell
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **named)

    monkeypatch.setattr(training.fit.loop, "training_step", interrupted)
    with pytest.raises(Stopped):
        run_study(study, 1, quiet())
    assert taken == 7
    assert "- Row 'w/o graph', seed 0: not computed yet" in Path("runs/study/table.md").read_text()
    assert "**" in Path("runs/study/table.md").read_text()  # what is done is there already
    run_study(study, 1, quiet())
    assert taken == 3 * 2 * 3  # cells x epochs x batches: no step was taken twice
    assert figures(study) == whole


def test_a_failing_cell_is_told_and_stops_no_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def results(row: str, seed: int) -> Any:
        if (row, seed) == ("w-o-graph", 1) and broken:
            raise RuntimeError("out of\nmemory")
        return result(60.0, 70.0)

    broken = True
    write(STUDY.replace('compare_to = "full"', 'compare_to = "w/o graph"'))
    trained = faked(monkeypatch, results)
    assert command() == 1
    assert len(trained) == 6
    text = Path("runs/study/table.md").read_text()
    assert "- Row 'w/o graph', seed 1: RuntimeError: out of memory" in text
    assert "| w/o graph | **60.00** | **70.00** | 2.00 | 1 |" in text
    assert "| full | +0.00 | +0.00 |" in text  # of the seed that both have
    assert "out of\nmemory" in Path("runs/study/w-o-graph/1/failure.txt").read_text()
    assert json.loads(Path("runs/study/manifest.json").read_text())["cells"]["w/o graph/1"]["missing"] == (
        "RuntimeError: out of memory"
    )
    broken = False
    assert command() == 0
    assert trained[6:] == ["w-o-graph/1"]
    assert not Path("runs/study/w-o-graph/1/failure.txt").exists()


def test_values_intervals_best_and_differences_by_hand(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"full": (50.0, 52.0), "w-o-graph": (53.0, 57.0), "text-only": (40.0, math.nan)}
    faked(monkeypatch, lambda row, seed: result(values[row][seed], 50.0, linear=54.0))
    study = load_study("study.toml")
    table = run_study(study, 1, quiet())
    # Two values a and b: mean (a + b) / 2, sd |a - b| / sqrt 2, half of the interval 12.7062 sd / sqrt 2, by hand:
    # full 51, 1.41, 12.71; without graph 55, 2.83, 25.41. The differences are 3 and 5: 4, 1.41, 12.71.
    # Ranks by MF1 are 2, 1, 3, by UAR all (1 + 2 + 3) / 3: means 2, 1.5, 2.5.
    text = Path("runs/study/table.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == "| row | mine MF1 | mine UAR | rank | n |"
    assert lines[2] == "| full | 51.00 ± 1.41 [38.29, 63.71] | 50.00 ± 0.00 [50.00, 50.00] | 2.00 | 2 |"
    assert lines[3] == "| w/o graph | **55.00** ± 2.83 [29.59, 80.41] | 50.00 ± 0.00 [50.00, 50.00] | 1.50 | 2 |"
    assert lines[4] == "| text only | 40.00 (n = 1) | 50.00 ± 0.00 [50.00, 50.00] | 2.50 | 2 |"
    assert lines[5] == "| linear baseline | 54.00 | **54.00** | - | - |"
    assert "The linear baseline is that of row 'full'" in text
    assert "| w/o graph | +4.00 [-8.71, 16.71] | +0.00 [0.00, 0.00] |" in lines
    assert "| text only | -10.00 | +0.00 [0.00, 0.00] |" in lines  # seed 0 alone: 40 - 50
    latex = Path("runs/study/table.tex").read_text()
    assert r"w/o graph & \textbf{55.00} $\pm$ 2.83 {\scriptsize [29.59, 80.41]} & 50.00" in latex
    assert latex.count(r"\\") == 5
    lines = Path("runs/study/table.csv").read_text().splitlines()
    rows = {(row["row"], row["metric"]): row for row in csv.DictReader(lines)}
    cell = rows["w/o graph", "macro_f1"]
    assert (cell["n"], cell["mean"], cell["best"], cell["difference_mean"]) == ("2", "55.0", "1", "4.0")
    assert float(cell["sd"]) == pytest.approx(8**0.5)
    assert (rows["full", "macro_f1"]["difference_mean"], rows[LINEAR, "macro_f1"]["sd"]) == ("", "")
    assert table.best(MF1) == {"w/o graph"}
    assert table.best(UAR) == {LINEAR}


def test_intervals_stay_within_percent_and_the_command_prints_the_table(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"full": (98.0, 100.0), "w-o-graph": (3.0, 0.0), "text-only": (50.0, 40.0)}
    faked(monkeypatch, lambda row, seed: result(values[row][seed], 60.0))
    assert command() == 0
    # full: mean 99, sd sqrt 2; without graph minus full: -95 and -100
    text = Path("runs/study/table.md").read_text()
    assert "**99.00** ± 1.41 [86.29, 100.00]" in text
    assert "1.50 ± 2.12 [0.00, 20.56]" in text
    assert "-97.50 [-100.00, -65.73]" in text
    out = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    [row] = [line for line in out if line.startswith("│ w/o graph")]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "w/o graph",
        "1.50 ± 2.12",
        "60.00 ± 0.00",
        "2.50",
        "2",
    ]
    # ranks 1, 3, 2 and three times 2: means 1.5, 2.5, 2; CD = 3.314 / sqrt 2 * sqrt(3 * 4 / (6 * 2)) = 2.34
    assert any("differ by less than 2.34 are not told apart" in line for line in out)
    assert any("'full', 'text only', 'w/o graph'." in line for line in out)


def test_the_interval_is_scipys() -> None:
    values = [61.2, 58.9, 63.3, 60.0]
    expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert seed_summary(values).low == pytest.approx(expected.low)
    assert seed_summary(values).high == pytest.approx(expected.high)
    assert seed_summary([]).num_seeds == 0
    assert math.isnan(seed_summary([1.0]).deviation)


def test_the_interval_of_folds_is_wider() -> None:
    """Of 1, 2 and 3 the deviation is 1; t(0.975, 2) = 4.3027, and sqrt(1/3 + 1/3) = 0.8165: half of it is 3.5132."""
    found = seed_summary([1.0, 2.0, 3.0], 1 / 3)
    assert (found.mean, found.deviation) == (2.0, 1.0)
    assert (found.low, found.high) == pytest.approx((2.0 - 3.5132, 2.0 + 3.5132), abs=1e-4)


FOLDS = STUDY.replace("seeds = [0, 1]", "seeds = [0, 1, 2, 3, 4, 5]\nfolds = 3")


@pytest.mark.slow
def test_folds_test_every_clip_once(place: Path) -> None:
    """Of a table with a file per split, whose files no longer say what is train."""
    whole = pd.read_csv(place / "mine.csv", dtype=str).drop(columns="split")
    whole[:40].to_csv(place / "one.csv", index=False)
    whole[40:].to_csv(place / "two.csv", index=False)
    files = 'files = { train = "one.csv", dev = "two.csv" }'
    base = BASE.replace('files = "mine.csv"', files).replace('split = "split"\n', "")
    (place / "base.toml").write_text(base, encoding="utf-8")
    (place / "study.toml").write_text(FOLDS.replace("[0, 1, 2, 3, 4, 5]", "[0, 1, 2]"), encoding="utf-8")
    study = load_study("study.toml", ["training.num_epochs=1"])
    table = run_study(study, 1, quiet())
    tested, developed = [], []
    for cell in study.cells:
        if cell.row == "full":
            clips = pd.read_parquet(cell.path / "predictions.parquet").set_index("clip_id")["split"]
            assert RunPredictions.read(cell.path).config == cell.config
            tested += clips.index[clips.eq("test")].tolist()
            developed.append(set(clips.index[clips.eq("dev")]))
    assert sorted(tested) == sorted(f"clip{i}" for i in range(60))
    assert all(developed)
    assert table.overlap == 1.0
    values = [json.loads((cell.path / "results.json").read_text()) for cell in study.cells if cell.row == "full"]
    linear = [next(row["linear"] for row in rows if row["split"] == "test") for rows in values]
    assert len(set(linear)) > 1
    assert table.linear[MF1] == pytest.approx(np.mean(linear))
    over = [
        row["model"] - row["linear"]
        for rows in values
        for row in rows
        if (row["split"], row["metric"]) == ("test", "macro_f1")
    ]
    found = table.difference("full", LINEAR, MF1)
    assert (found.num_seeds, found.mean) == (3, pytest.approx(np.mean(over)))
    text = (study.folder / "table.md").read_text()
    assert (
        f"| full | {found.mean:+.2f} [{found.low:.2f}, {found.high:.2f}]" in text[text.index("from linear baseline") :]
    )
    stored = read_stored_table(study.folder)
    assert (stored.linear_by_seed, stored.folds) == (table.linear_by_seed, 3)
    assert "more than 'linear baseline', paired by seed" in html.unescape(render(study_page(study.folder)))
    assert "each of them one of 3 folds of the groups" in text
    assert json.loads((study.folder / "manifest.json").read_text())["folds"] == 3


@pytest.mark.slow
def test_rows_of_other_linear_models_have_baselines_of_their_own(place: Path) -> None:
    rows = """
base = "base.toml"
seeds = [0]
[[rows]]
name = "concatenated"
[[rows]]
name = "late"
settings = { "linear.fusion" = "late" }
"""
    (place / "base.toml").write_text(BASE.replace("[model]", '[model]\nlinear_path = { ambivalence = "fixed" }'))
    (place / "study.toml").write_text(rows, encoding="utf-8")
    study = load_study("study.toml")
    table = run_study(study, 1, quiet())
    assert not table.missing
    plain, late = (study.folder / name / "0" for name in ("concatenated", "late"))
    chosen = [json.loads((path / "baseline.json").read_text()) for path in (plain, late)]
    assert "shares" not in chosen[0]
    assert set(chosen[1]["shares"]["ambivalence"]) == {"text", "audio", "all"}
    columns = ["linear.ambivalence.absent", "linear.ambivalence.present"]
    predicted = [pd.read_parquet(path / "predictions.parquet")[columns] for path in (plain, late)]
    assert not np.allclose(*predicted)
    note = "of row 'concatenated': other features, tasks or linear models give another"
    assert note in (study.folder / "table.md").read_text(encoding="utf-8")


def test_linear_models_are_part_of_what_cells_share(place: Path) -> None:
    texts = ["tasks.specs.ambivalence.texts=ambivalence"]
    (place / "study.toml").write_text('base = "base.toml"\nseeds = [0]\n[[rows]]\nname = "full"\n', encoding="utf-8")
    late = ["linear.fusion=late"]
    keys = [load_study("study.toml", more).cells[0].data_key for more in ([], texts, late, [*late, *texts])]
    assert keys[0] == keys[1]  # class texts make no difference to a model of all features
    assert len(set(keys)) == 3


def test_folds_are_seeds_and_leave_zero_shot_corpora_alone(place: Path) -> None:
    other = '[corpora.sources.other]\nadapter = "meld"\nzero_shot = true\n[features]'
    (place / "base.toml").write_text(BASE.replace("[features]", other), encoding="utf-8")
    (place / "study.toml").write_text(FOLDS, encoding="utf-8")
    cells = [cell for cell in load_study("study.toml").cells if cell.row == "full"]
    found = [cell.config.corpora.sources["mine"].fold for cell in cells]
    assert [(fold.of, fold.number, fold.dev) for fold in found if fold] == [(3, k, 0.5) for k in (0, 1, 2, 0, 1, 2)]
    assert all(cell.config.corpora.sources["other"].fold is None for cell in cells)
    assert len({cell.data_key for cell in cells}) == 3
    assert len({cell.digest for cell in cells}) == 6


def test_folds_of_a_corpus_that_cannot_be_split_anew_are_an_error(place: Path) -> None:
    (place / "base.toml").write_text(
        BASE.replace("[features]", "shares = { train = 0.5 }\n[features]"), encoding="utf-8"
    )
    (place / "study.toml").write_text(FOLDS, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"folds = 3: corpora\.sources\.mine: `shares` are of the corpus' own splits"):
        load_study("study.toml")


def test_cells_of_the_same_clips_are_computed_together(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "study.toml").write_text(FOLDS.replace("[0, 1, 2, 3, 4, 5]", "[0, 1, 2]"), encoding="utf-8")
    study = load_study("study.toml")
    keys: list[str] = []
    monkeypatch.setattr("tuning.study.fill.compute", lambda todo, *_, **__: keys.extend(cell.data_key for cell in todo))
    run_study(study, 1, quiet())
    changes = sum(one != two for one, two in itertools.pairwise(keys))
    assert (len(keys), changes) == (9, len(set(keys)) - 1)


def test_columns_are_chosen_and_dev_stands_in_for_test(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch, lambda *_: [*result(1.0, 2.0), *result(3.0, 4.0, split="dev")])
    assert run_study(load_study("study.toml"), 1, quiet()).columns == [MF1, UAR]
    for columns, expected in (
        ('metrics = ["uar"]', ["mine UAR"]),
        ('splits = ["dev"]', ["mine MF1 (dev)", "mine UAR (dev)"]),
        ('splits = ["dev", "test"]\nmetrics = ["uar"]', ["mine UAR", "mine UAR (dev)"]),
    ):
        write(f"{STUDY}\n[columns]\n{columns}\n")
        assert [column.title for column in run_study(load_study("study.toml"), 1, quiet()).columns] == expected
    shutil.rmtree("runs")
    faked(monkeypatch, lambda *_: result(3.0, 4.0, split="dev"))
    write(STUDY)
    assert [column.title for column in run_study(load_study("study.toml"), 1, quiet()).columns] == [
        "mine MF1 (dev)", "mine UAR (dev)",
    ]  # fmt: skip


def test_costs_are_columns_where_asked_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch, lambda *_: result(1.0, 2.0))
    write(f"{STUDY}\n[columns]\ncost = true\n")
    study = load_study("study.toml")
    run_study(study, 1, quiet())
    for cell, seconds in zip(study.cells[:2], (1.0, 2.0), strict=True):  # of the row "full"; others are of old cells
        cost = {"num_parameters": 12345, "seconds_per_epoch": seconds, "seconds_per_step": None}
        (cell.path / "cost.json").write_text(json.dumps(cost))
    run_study(study, 1, quiet())
    lines = Path("runs/study/table.md").read_text().splitlines()
    assert lines[4].endswith("| rank | n | parameters | s per epoch | s per step | peak MB |")
    assert lines[6].endswith("| 2 | 12,345 | 1.5 | - | - |")
    assert lines[7].endswith("| 2 | - | - | - | - |")
    assert "full,,,cost,seconds_per_epoch,2,1.5," in Path("runs/study/table.csv").read_text()
    assert r"lrrrrrrrr}" in Path("runs/study/table.tex").read_text()


def test_rows_that_do_not_apply_are_told_and_are_no_failure(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(monkeypatch, lambda *_: result(1.0, 2.0))
    write(STUDY + '[[rows]]\nname = "without video"\nwithout = ["video"]\n')
    assert command() == 0
    assert "row 'without video' does not apply: there is no modality" in capsys.readouterr().out
    text = Path("runs/study/table.md").read_text()
    assert "| without video | - | - | - | - |" in text
    assert "- Row 'without video' does not apply: there is no modality, task or corpus video" in text
    assert "video" in json.loads(Path("runs/study/manifest.json").read_text())["inapplicable"]["without video"]


def test_what_cannot_be_prepared_is_tried_once_for_all_seeds(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def prepare(config: Any, accelerator: Any) -> Any:
        tried.append(config.data.modalities)
        raise ExtractionError("its weights (605 MB) cannot be had")

    monkeypatch.setattr(study_workers, "prepare", prepare)
    assert command() == 1
    assert tried == [("text", "audio"), ("text",)]
    text = Path("runs/study/table.md").read_text()
    assert "- Row 'text only', seed 0, 1: ExtractionError: its weights (605 MB) cannot be had" in text


def test_cells_from_other_data_are_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch, lambda *_: result(1.0, 2.0))
    study = load_study("study.toml")
    assert run_study(study, 1, quiet()).warnings == []
    Path("runs/study/w-o-graph/1/inputs.json").write_text('{"clips": "xyz"}')
    (warning,) = run_study(study, 1, quiet()).warnings
    assert "row 'w/o graph', seed 1, was computed from other clips" in warning
    assert warning in Path("runs/study/table.md").read_text()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (GRAPH, '"model.grph" = "none"', r"row 'w/o graph': model.*grph is not a setting; did you mean 'graph'"),
        (GRAPH, '"model.graph" = "gcn"', r"row 'w/o graph': model\.graph"),
        (GRAPH, '"training.seed" = 3', r"row 'w/o graph': training\.seed is not .* list its seeds"),
        (GRAPH, '"output.directory" = "x"', r"row 'w/o graph': output\.directory cannot differ"),
        (GRAPH, '"model.num_heads" = 3', r"row 'w/o graph': model: the number of heads .3. must divide"),
        (GRAPH, '"tasks.active" = ["emotoin"]', r"row 'w/o graph': .*did you mean 'emotion'"),
        (GRAPH, '"features.encoders" = {}', r"row 'w/o graph': .*names 'text', which has no encoder"),
        (GRAPH, '"model.num_heads.kind" = 1', r"row 'w/o graph': model\.num_heads\.kind: .*is a value, not a section"),
        (GRAPH, '"model.graph" = "ucgnn"', r"rows 'full' and 'w/o graph' are the same configuration"),
        (GRAPH, '"corpora.sources.mine.zero_shot" = true', r"row 'w/o graph': every corpus is zero_shot"),
        ("""['data.modalities=["text"]']""", "['model.graph']", r"row 'text only': --set 'model\.graph': expected"),
        ('name = "w/o graph"', 'name = "Full"', r"row 'Full' has the folder 'full' of row 'full'"),
        ('name = "w/o graph"', 'name = "±"', r"row '±' has no letter or digit"),
        ('name = "w/o graph"', 'nam = "w/o graph"', r"rows\.1\.nam is not a setting"),
        ('compare_to = "full"', 'compare_to = "fill"', r"compare_to: no row is named 'fill'; did you mean 'full'"),
        ("seeds = [0, 1]", "seeds = [0, 0]", r"seeds: seeds are different numbers"),
        ("seeds = [0, 1]", "seeds = [0, 1]\nfolds = 3", r"do not give every fold as often; take seeds 0 to 2, or to 5"),
        ("base.toml", "bas.toml", r"bas\.toml: there is no such configuration file"),
        ("[[rows]]", "[columns]\nmetrics = ['macrof1']\n[[rows]]", r"columns\.metrics: .*did you mean 'macro_f1'"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_computed(place: Path, before: str, after: str, message: str) -> None:
    assert before in STUDY
    write(STUDY.replace(before, after, 1))
    with pytest.raises(ConfigError, match=message):
        load_study("study.toml")


def test_all_wrong_rows_are_named_at_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(STUDY.replace('"none"', '"gcn"').replace('data.modalities=["text"]', "training.lr=-1"))
    assert command() == 2
    error = capsys.readouterr().err
    assert "row 'w/o graph'" in error
    assert "row 'text only': training.lr" in error
    assert not Path("runs").exists()


def test_tables_of_settings_change_and_lists_replace(place: Path) -> None:
    write(
        """
        base = "base.toml"
        [settings]
        training = { num_epochs = 7 }
        [[rows]]
        name = "table"
        settings = { model = { graph = "gat" }, "tasks.specs.ambivalence" = { threshold = 0.6 } }
        [[rows]]
        name = "emptied"
        settings = { "balancing" = {} }
        [[rows]]
        name = "list"
        settings = ["model={graph='gat'}", "training.num_epochs=9"]
        """
    )
    study = load_study("study.toml", ["training.batch_size=8"])
    table, emptied, listed = (next(cell.config for cell in study.cells if cell.row == row) for row in study.rows)
    assert (table.model.graph, table.model.hidden_width, table.training.num_epochs) == ("gat", 8, 7)  # type: ignore[union-attr]
    assert table.tasks.resolve()["ambivalence"].threshold == 0.6
    assert (emptied.balancing.method, table.balancing.method) == ("gradnorm", "equal")
    assert (listed.model.hidden_width, listed.training.num_epochs) == (256, 9)  # type: ignore[union-attr]
    assert {cell.config.training.batch_size for cell in study.cells} == {8}
    assert sorted({cell.seed for cell in study.cells}) == [0, 1, 2]


def test_settings_that_do_not_change_a_result_leave_cells_done(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = faked(monkeypatch, lambda *_: result(1.0, 2.0))
    run_study(load_study("study.toml"), 1, quiet())
    run_study(load_study("study.toml", ["features.num_workers=2"], [1]), 1, quiet())
    assert len(trained) == 6
    run_study(load_study("study.toml", ["training.lr=0.1"], [1]), 1, quiet())
    assert len(trained) == 9


def test_an_interruption_is_no_failure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def results(row: str, seed: int) -> Any:
        raise Interrupted("stopped")

    faked(monkeypatch, results)
    assert command() == 130
    assert "seed 0, 1: not computed yet" in Path("runs/study/table.md").read_text()


@pytest.mark.slow
def test_two_workers_give_what_one_gives(place: Path) -> None:
    study = load_study("study.toml")
    run_study(study, 1, quiet())
    one, text = figures(study), Path("runs/study/table.csv").read_text()
    shutil.rmtree("runs")
    run_study(study, 2, quiet())
    assert figures(study) == one
    assert Path("runs/study/table.csv").read_text() == text


ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": str(Path(__file__).parents[3])}
RUN = """
import multiprocessing, sys
forking = multiprocessing.get_context("fork")
multiprocessing.get_context = lambda method=None: forking
import torch._dynamo
import tuning.study.workers
from tuning.console import app
app(sys.argv[1:])
"""
"""The command, whose workers have imported what they need before they start; the test above spawns them as it does."""


def two_rows(num_epochs: int) -> str:
    """A row of so many epochs, and a short one."""
    full = f'"training.num_epochs" = {num_epochs}, "training.patience" = {num_epochs}'
    named = STUDY.rpartition("[[rows]]")[0].replace('name = "full"', f'name = "full"\nsettings = {{ {full} }}')
    return named.replace(GRAPH, f'{GRAPH}, "training.num_epochs" = 2')


def arguments(num_workers: int) -> list[str]:
    return ["study", "study.toml", "--workers", str(num_workers), "--seeds", "0,1"]


def started(num_epochs: int) -> subprocess.Popen[str]:
    """The study of a number of epochs by two workers in a process of its own, which has begun to train, or goes on."""
    Path("go.py").write_text(RUN, encoding="utf-8")
    write(two_rows(num_epochs))
    before = num_logged()
    command = [sys.executable, "go.py", *arguments(2)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while num_logged() < before + 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    return process


def num_logged() -> int:
    """Epochs of the first row that have been logged."""
    return sum(len(path.read_text().splitlines()) for path in Path("runs").glob("study/full/*/metrics.jsonl"))


@pytest.mark.slow
def test_a_killed_worker_costs_its_cell_alone(place: Path) -> None:
    process = started(15)
    workers = [each for each in psutil.Process(process.pid).children() if "go.py" in each.cmdline()]
    assert len(workers) == 2
    workers[0].kill()
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 1, out
    text = Path("runs/study/table.md").read_text()
    assert text.count("its process ended with exit code -9; the same command continues it") == 1
    assert len(list(Path("runs").glob("study/*/*/results.json"))) == 3


def killed_by_seed_1(connection: Any, parent: int) -> None:
    """Tells of all cells that they are done, unless a stack holds seed 1."""
    while True:
        cells = connection.recv()
        connection.send(study_workers._Shown(study_workers.name_of(cells), Stand(0.5, 9)))
        if any(cell.seed == 1 for cell in cells):
            os._exit(7)
        connection.send(study_workers._Shown(study_workers.name_of(cells), None))
        for cell in cells:
            connection.send((cell.path, None, 0.5))


def test_a_cell_that_kills_its_worker_costs_no_other_of_its_stack(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(STUDY.replace("stack = false", "stack = true").replace("seeds = [0, 1]", "seeds = [0, 1, 2]"))
    cells = [cell for cell in load_study("study.toml").cells if cell.row == "full"]
    told: list[tuple[int, str | None]] = []
    monkeypatch.setattr(study_workers, "get_context", lambda _: multiprocessing.get_context("fork"))
    monkeypatch.setattr(study_workers, "_work", killed_by_seed_1)
    monkeypatch.setattr(study_workers, "PATIENCE", 0.0)
    shown: list[tuple[str, float | None]] = []

    def show(name: str, stand: Stand | None) -> None:
        shown.append((name, None if stand is None else stand.epoch))

    study_workers._share([cells], 1, lambda cell, reason, _: told.append((cell.seed, reason)), show)
    reason = "its process ended with exit code 7; the same command continues it"
    assert told == [(0, None), (1, reason), (2, None)]
    together = "full, seeds 0, 1, 2"
    names = [together, "full, seed 0", "full, seed 1", "full, seed 2"]  # a line goes with its worker
    assert shown == [(name, epoch) for name in names for epoch in (0.5, None)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_processes_lose_at_most_a_checkpoint(place: Path) -> None:
    """The command is killed in training; its workers notice, and the same command goes on where they stopped."""
    logs: list[tuple[Path, str]] = []
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = started(80)
        process.send_signal(number)
        out, _ = process.communicate(timeout=90)
        assert process.returncode == status, out
        for seed in (0, 1):  # which a worker holds until it has noticed
            FileLock(f"runs/study/full/.{seed}.lock", timeout=60).acquire().lock.release()
        stopped = [(path, path.read_text()) for path in Path("runs").glob("study/full/*/metrics.jsonl")]
        assert stopped
        logs += stopped
        assert not list(Path("runs").glob("study/*/*/results.json"))
    write(two_rows(80).replace('"w/o graph"', '"other name"'))  # rows that have not begun may be renamed
    done = CliRunner().invoke(app, arguments(1), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for path, log in logs:
        assert path.read_text().startswith(log)
        assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == list(range(1, 81))
    assert not list(Path("runs").glob("study/*/*.replaced-*"))


def test_cells_that_are_trained_together_are_named_by_rows_and_seeds(place: Path) -> None:
    write(STUDY.replace("seeds = [0, 1]", "seeds = [0, 1, 2, 3, 4]"))
    cells = load_study("study.toml").cells
    assert study_workers.name_of(cells[:1]) == "full, seed 0"
    assert study_workers.name_of(cells) == "full, w/o graph, text only, seeds 0, 1, 2 and 2 more"
