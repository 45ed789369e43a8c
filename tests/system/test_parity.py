"""What serves is what was evaluated: raw demo files give a run's stored predictions, from its bundle alone, elsewhere.

The demo and its features are those of the repository's own `data/` folder, made here where they are missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import hub_mixin
from typer.testing import CliRunner

from corpora.clips import label_columns
from corpora.registry import read_corpora
from encoders.media import frames
from mmpsr.config import load_config
from mmpsr.tasks import BUILTIN_TASKS
from training.config import RunConfig
from training.predict.predictor import Predictor
from tuning.console import app

ROOT = Path(__file__).parents[2]
DEMO, FEATURES = ROOT / "data" / "demo", ROOT / "data" / "features"
COLUMNS = [f"predicted.{column}" for task, spec in BUILTIN_TASKS.items() for column in label_columns(task, spec)]
CLIPS = 2  # of each corpus, besides the broken ones
TOLERANCE = 1e-5
SERVE = """
import sys
import pandas as pd
from training.predict.predictor import Predictor
with Predictor.from_pretrained(sys.argv[1]) as predictor:
    results = predictor.predict(pd.read_parquet(sys.argv[2]))
found = results.to_frame().drop(columns=["id"]).join(results.joined.clips[["corpus", "clip_id"]])
found.to_parquet(sys.argv[3])
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    settings = [
        f"corpora.root={DEMO}", f"features.store={FEATURES}", f"output.directory={folder}", "training.num_epochs=1",
    ]  # fmt: skip
    sets = [part for setting in settings for part in ("--set", setting)]
    done = CliRunner().invoke(app, ["train", *sets], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return next(folder.glob("demo/*"))


@pytest.fixture(scope="module")
def clips(run: Path) -> pd.DataFrame:
    """Test clips of every corpus, the broken ones among them, with media named by absolute paths."""
    config = load_config(RunConfig, ROOT / "configs" / "demo.toml", [f"corpora.root={DEMO}"])
    table = read_corpora(config.corpora, BUILTIN_TASKS).clips
    test = table[table["split"].eq("test")]
    broken = pd.read_csv(DEMO / "broken.csv")[["corpus", "clip_id"]].astype("string")
    chosen = [test.groupby("corpus").head(CLIPS), test.merge(broken, on=["corpus", "clip_id"])]
    return pd.concat(chosen).drop_duplicates(["corpus", "clip_id"]).reset_index(drop=True)


def stored(run: Path, keys: pd.DataFrame) -> pd.DataFrame:
    table = pd.read_parquet(run / "predictions.parquet").set_index(["corpus", "clip_id"])
    return table.loc[pd.MultiIndex.from_frame(keys[["corpus", "clip_id"]])]


def test_a_bundle_in_another_folder_gives_the_stored_predictions(
    run: Path, clips: pd.DataFrame, tmp_path: Path
) -> None:
    Predictor.from_run(run).save_pretrained(tmp_path / "bundle")
    clips.to_parquet(tmp_path / "clips.parquet")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVE, "bundle", "clips.parquet", "found.parquet"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = pd.read_parquet(tmp_path / "found.parquet")
    expected = stored(run, found)
    assert set(found["corpus"]) == {"mosei", "fiv2", "bah", "meld"}
    assert len(found) == len(clips) > 4 * CLIPS
    for name in ("video", "audio", "text", "behavior"):
        assert found[f"absent.{name}"].isna().to_numpy().tolist() == expected[f"present.{name}"].tolist()
    values = found[[name.removeprefix("predicted.") for name in COLUMNS]].to_numpy()
    np.testing.assert_allclose(values, expected[COLUMNS].to_numpy(), atol=TOLERANCE)
    assert values.std(axis=0).min() > 100 * TOLERANCE


def test_another_constant_of_preprocessing_is_noticed(
    run: Path, clips: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = clips.groupby("corpus").head(1)
    with Predictor.from_run(run) as predictor:
        expected = stored(run, some)[COLUMNS].to_numpy()
        same = np.concatenate([*predictor.predict(some).predicted.values()], axis=1)
        np.testing.assert_allclose(same, expected, atol=TOLERANCE)
        monkeypatch.setattr(frames, "LONGEST_SIDE", 96)
        other = np.concatenate([*predictor.predict(some).predicted.values()], axis=1)
    assert np.abs(other - expected).max() > 100 * TOLERANCE


def test_a_bundle_is_saved_again_and_pushed_as_it_is(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: dict[str, bytes] = {}

    class Hub:
        def __init__(self, **_: object) -> None: ...

        def create_repo(self, repo_id: str, **_: object) -> SimpleNamespace:
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, folder_path: Path, **_: object) -> str:
            uploaded.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
            return "done"

    Predictor.from_run(run).save_pretrained(tmp_path / "first")
    predictor = Predictor.from_pretrained(tmp_path / "first")
    predictor.save_pretrained(tmp_path / "second")
    monkeypatch.setattr(hub_mixin, "HfApi", Hub)
    predictor.push_to_hub("someone/something")
    first = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert set(first) == {"model.safetensors", "novelty.safetensors", "bundle.json", "README.md"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()} == uploaded == first
