"""The commands of the guide beside a scheduler and workers of their own, as a user starts them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support.guides import REPOSITORY, blocks, commands
from tests.support.predicted_run import ENCODERS, write_run, write_video
from tuning.console import app

BASE = """
[corpora]
root = "."
[corpora.sources.own]
adapter = "table"
files = "clips.csv"
id = "id"
split = "split"
media = "media"
labels.ambivalence = { column = "label" }
[features]
store = "features"
encoders = %s
[data]
modalities = ["video", "audio"]
[tasks]
active = ["ambivalence"]
[model]
hidden_width = 8
head_width = 8
num_heads = 2
[training]
num_epochs = 1
"""
STUDY = 'base = "base.toml"\nseeds = [0, 1]\nstack = false\n[[rows]]\nname = "full"\n'
SEARCH = '[search]\nbase = "base.toml"\nnum_trials = 2\n[search.space]\ntraining.lr = [1e-3, 1e-2]\n'


def write_inputs(folder: Path) -> None:
    """Ten recordings, and files of the guide's names."""
    rows = []
    for number in range(10):
        write_video(folder / f"{number}.mp4", first=10 * (number % 2), seconds=1.0)
        split = ("train", "train", "train", "dev", "test")[number // 2]
        rows.append((number, split, f"{number}.mp4", ("absent", "present")[number % 2]))
    pd.DataFrame(rows, columns=["id", "split", "media", "label"]).to_csv(folder / "clips.csv", index=False)
    pd.DataFrame({"path": [row[2] for row in rows]}).to_csv(folder / "interviews.csv", index=False)
    named = ", ".join(f'{name} = "{ENCODERS[name]}"' for name in ("video", "audio"))
    for name, text in {"base": BASE % f"{{ {named} }}", "study": STUDY, "search": SEARCH}.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    write_run(folder / "RUN", features={"encoders": ENCODERS})


@contextmanager
def serving(started: list[list[str]]) -> Iterator[None]:
    """Keep commands of Dask going."""
    dask = [sys.executable, "-m", "dask"]
    processes = [subprocess.Popen([*dask, *words[1:]], stderr=subprocess.DEVNULL) for words in started]
    try:
        yield
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(60)


@pytest.mark.slow
def test_the_commands_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, but for the address, the number of workers and the files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    write_inputs(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = {
        "10.0.0.1": "127.0.0.1", "8786": port, "--nworkers 8": "--nworkers 2", "configs/default.toml": "base.toml",
        "studies/table1": "study.toml", "searches/demo": "search.toml",
    }  # fmt: skip
    (block,) = [block for block in blocks("many_machines.md", "sh") if "dask scheduler" in block.text]
    text = block.text
    for theirs, own in here.items():
        assert theirs in text
        text = text.replace(theirs, own)
    written = commands(replace(block, text=text))
    asked = [words for words in written if words[0] == "mmpsr"]
    with serving([words for words in written if words[0] == "dask"]):
        for words in asked:
            done = CliRunner().invoke(app, words[1:])
            assert done.exit_code == 0, (words, done.output, done.stderr)
    assert [words[1] for words in asked] == ["extract", "doctor", "study", "tune", "predict"]
    assert len(list(Path("runs/study").glob("*/*/results.json"))) == 2
    assert Path("runs/searches/search/best.toml").exists()
    assert len(pd.read_csv("out.csv")) == 10
    features = json.loads(next(Path("runs/study").glob("*/*/features.json")).read_text(encoding="utf-8"))
    assert set(features) == {"video", "audio"}
