from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mmpsr.config import find_config, load_config
from mmpsr.errors import UserError
from training.config import RunConfig
from training.runs.directory import RunDirectory, RunError, read_tensors, stored_settings


def test_a_run_of_before_a_setting_came_is_found(tmp_path: Path) -> None:
    config = load_config(RunConfig, find_config("demo"), [f"output.directory={tmp_path}"])
    run = RunDirectory.create(config, "run")
    path = run.path / "config.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    del stored["training"]["calibration"]
    path.write_text(json.dumps(stored), encoding="utf-8")
    found = RunDirectory.find(config, "run")
    assert found is not None
    assert found.path == run.path
    assert stored_settings(run.path) == config.model_dump(mode="json")


def test_files_that_are_cut_off_are_named(tmp_path: Path) -> None:
    config = load_config(RunConfig, find_config("demo"), [f"output.directory={tmp_path}"])
    run = RunDirectory.create(config, "run")
    for name in ("config.json", "versions.json"):
        path = run.path / name
        path.write_bytes(path.read_bytes()[:-2])
        with pytest.raises(RunError, match=rf"{name} cannot be read \("):
            run.read_json(name)
    with pytest.raises(RunError, match=r"config\.json cannot be read"):
        RunDirectory.find(config, "run")
    weights = run.path / "best.safetensors"
    with pytest.raises(RunError, match=r"best\.safetensors is missing"):
        read_tensors(weights)
    save_file({"a": np.ones(8, np.float32)}, weights)
    for length in (0, 4, 20, weights.stat().st_size - 1):
        (run.path / "cut.safetensors").write_bytes(weights.read_bytes()[:length])
        with pytest.raises(RunError, match=r"cut\.safetensors cannot be read \(.*\); the file is damaged or cut off"):
            read_tensors(run.path / "cut.safetensors")


def test_rewinding_drops_a_torn_last_line_and_no_other(tmp_path: Path) -> None:
    run, path = RunDirectory(tmp_path), tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1, "dev": NaN}\n{"epoch": 2}\n{"epoch": 3}\n{"epo')
    run.rewind(2)
    assert path.read_text() == '{"epoch": 1, "dev": NaN}\n{"epoch": 2}\n'
    path.write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: is no whole record, it begins '\{\"epo'"):
        run.rewind(3)
    assert path.read_text() == '{"epoch": 1}\n{"epo\n{"epoch": 3}\n'
