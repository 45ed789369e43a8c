from __future__ import annotations

import json
from pathlib import Path

from mmpsr.config import find_config, load_config
from training.config import RunConfig
from training.runs.directory import RunDirectory, stored_settings


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
