"""A finished run's model gives its stored predictions again, and says what it cannot be read from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from corpora.clips import label_columns
from mmpsr.batch import Batch
from mmpsr.models.build import create_model, restore_model
from mmpsr.models.config import ConflictAwareConfig
from tests.support import joined as small
from tests.support.predicted_run import write_run
from tests.support.stored_run import finish
from training.runs.directory import RunError
from training.runs.trained import TrainedModel


def test_gives_the_stored_predictions(tmp_path: Path) -> None:
    path = finish(tmp_path, model={"linear_path": {"emotion": "trained"}})
    config = json.loads((path / "config.json").read_text())
    config["features"]["executor"] = "dask://node7:8786"  # which nobody who predicts need have
    (path / "config.json").write_text(json.dumps(config))
    trained, clips = TrainedModel.read(path), small.joined()
    assert (trained.features.executor, trained.config.features.executor) == ("local", "local")
    stored = pd.read_parquet(path / "predictions.parquet").set_index("clip_id")
    rows = torch.arange(len(clips.clips))
    predicted = trained.predict(clips, rows)
    assert trained.modalities == ("text", "audio")
    for task, spec in trained.tasks.items():
        columns = [f"predicted.{column}" for column in label_columns(task, spec)]
        found = pd.DataFrame(predicted[task], index=clips.clips["clip_id"], columns=columns).loc[stored.index]
        np.testing.assert_allclose(found, stored[columns], atol=1e-6)
        assert found.std().min() > 1e-3  # not constants


def test_restores_a_model_over_sequences() -> None:
    widths, config = {"text": 4, "audio": 3}, ConflictAwareConfig(hidden_width=8)
    model = create_model(config, widths, small.tasks(), {"audio": 2}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    names = dict(sorted(model.state_dict().items()))  # as a file has them
    restored = restore_model(config, ["text", "audio"], small.tasks(), names)
    values, mask = torch.randn(5, 6, 2), torch.rand(5, 6) < 0.7
    features = {"text": torch.randn(5, 4), "audio": torch.randn(5, 3)}
    batch = Batch(features, torch.ones(5, 2, dtype=torch.bool), {}, torch.arange(5), {"audio": (values, mask)})
    for task in small.tasks():
        assert torch.equal(restored(batch).of(task), model(batch).of(task))
        assert restored(batch).of(task).std() > 0


@pytest.mark.slow
def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    path = finish(tmp_path)
    weights = load_file(path / "best.safetensors")
    config, tasks = small.config(), small.tasks()
    with pytest.raises(ValueError, match=r"of a model of \['audio', 'text'\], not of \['text', 'video'\]"):
        restore_model(config.model, ["video", "text"], tasks, weights)
    weights.pop("standardizers.text.std")
    save_file(weights, path / "best.safetensors")
    with pytest.raises(RunError, match=r"best\.safetensors: the weights do not fit .*standardizers\.text\.std"):
        TrainedModel.read(path)
    (path / "best.safetensors").unlink()
    with pytest.raises(RunError, match=r"has no best\.safetensors"):
        TrainedModel.read(path)
    with pytest.raises(RunError, match="is no run directory"):
        TrainedModel.read(path / "nothing")


def test_weights_that_are_cut_off_are_named_once(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run") / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError) as raised:
        TrainedModel.read(path.parent)
    assert str(raised.value).startswith(f"{path} cannot be read (")
    assert str(raised.value).count(str(path)) == 1
