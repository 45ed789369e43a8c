from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mmpsr.config import ConfigError
from mmpsr.errors import Interrupted
from mmpsr.models.conflict_aware import ConflictAwareConfig
from tests.support import joined as small
from training.fit.live import Stand
from tuning.console import app
from tuning.transfer import trunks as module
from tuning.transfer.trunks import choose_trunk, compare_trunks, own_trunks, trunk_folds

JOINT, OWN = np.array([10.0, 20.0, 30.0]), np.array([11.0, 22.0, 33.0])
# Differences of 1, 2 and 3: mean 2, deviation 1, standard error 1 / sqrt(3); turned around it hurts.


def test_a_trunk_of_its_own_is_chosen_where_it_helps_by_more_than_its_error() -> None:
    found = choose_trunk(JOINT, OWN)
    assert (found.difference, found.standard_error) == (pytest.approx(2.0), pytest.approx(0.57735))
    assert found.is_own
    assert not choose_trunk(OWN, JOINT).is_own
    assert not choose_trunk(JOINT, JOINT + np.array([3.0, -2.0, -0.5])).is_own


def test_one_task_keeps_the_shared_trunk() -> None:
    gains, loses = choose_trunk(JOINT, OWN), choose_trunk(OWN, JOINT)
    assert own_trunks({"a": loses, "b": gains, "c": loses}) == ["b"]
    assert own_trunks({"a": gains, "b": gains}) == ["a"]


@pytest.mark.slow
def test_trunks_are_compared_on_training_clips_alone_and_what_is_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = small.joined()
    config, tasks = small.config(training={"num_epochs": 1}), small.tasks()
    del tasks["ambivalence"]
    told, stands = list[str](), list[tuple[str, Stand | None]]()
    log = tmp_path / "new" / "trunks.jsonl"
    found = compare_trunks(config, clips, tasks, log, told.append, lambda *shown: stands.append(shown))
    assert [name for name, stand in stands if stand is None] == [line.partition(":")[0] for line in told]
    assert {name for name, stand in stands if stand is not None and stand.epoch == 1} == set(dict(stands))
    assert [line.partition(":")[0] for line in told[:3]] == [
        "fold 1 of 5, joint", "fold 1 of 5, emotion apart", "fold 1 of 5, personality apart",
    ]  # fmt: skip
    assert told[-1].endswith("15 of 15 trainings are done")
    assert all((each.joint != each.own).any() for each in found.values())
    unused = clips.rows(["mosei", "fiv2", "bah", "meld"], "dev").tolist() + clips.rows(["fiv2"], "test").tolist()
    for task in tasks:
        clips.labels[task][unused] = 0.0
    clips.features["text"][unused] = 100.0
    lines = (tmp_path / "new" / "trunks.jsonl").read_text().splitlines()
    (tmp_path / "stopped.jsonl").write_text("\n".join(lines[:13]) + "\n" + lines[13][:9])  # killed while it wrote
    told.clear()
    with pytest.warns(UserWarning, match=r"stopped\.jsonl: its last line is not whole"):
        again = compare_trunks(config, clips, tasks, tmp_path / "stopped.jsonl", told.append)
    assert len(told) == 2
    for task in tasks:
        np.testing.assert_array_equal(again[task].joint, found[task].joint)
        np.testing.assert_array_equal(again[task].own, found[task].own)
    monkeypatch.setattr(module, "_held_out", lambda *_: pytest.fail("all was done"))
    compare_trunks(config, clips, tasks, tmp_path / "stopped.jsonl", told.append)
    other = config.model_copy(update={"training": config.training.model_copy(update={"lr": 0.5})})
    with pytest.raises(pytest.fail.Exception, match="all was done"):
        compare_trunks(other, clips, tasks, tmp_path / "stopped.jsonl", told.append)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_held_out", lambda *_: dict.fromkeys(tasks, 50.0))
        compare_trunks(other, clips, tasks, tmp_path / "stopped.jsonl", told.append)
    compare_trunks(config, clips, tasks, tmp_path / "stopped.jsonl", told.append)  # whose trainings are still there
    folds = trunk_folds(clips)
    for _, places in clips.clips.groupby("corpus").indices.items():
        assert np.bincount(folds[places]).min() >= len(places) // 5


def test_what_has_no_trunk_to_share_is_said(tmp_path: Path) -> None:
    config, clips, tasks = small.config(), small.joined(), small.tasks()
    aware = config.model_copy(update={"model": ConflictAwareConfig()})
    with pytest.raises(
        ConfigError, match=r'those of model\.kind = "mcdm", and this configuration has \'conflict_aware\''
    ):
        compare_trunks(aware, clips, tasks, tmp_path / "log", print)
    with pytest.raises(ConfigError, match=r"tasks\.active has only emotion, give more"):
        compare_trunks(config, clips, {"emotion": tasks["emotion"]}, tmp_path / "log", print)


def test_too_few_groups_are_told_of_before_anything_is_trained(tmp_path: Path) -> None:
    clips = small.joined()
    rows = clips.rows(["fiv2"], "train").tolist()
    clips.clips.loc[clips.clips.index[rows], "group"] = [f"speaker {number % 3}" for number in range(len(rows))]
    with pytest.raises(
        ConfigError,
        match=rf"fiv2: its {len(rows)} training clips with labels of personality are of 3 groups, which fill 3 of 5",
    ):
        compare_trunks(small.config(), clips, small.tasks(), tmp_path / "log", print)
    assert not (tmp_path / "log").exists()


def test_a_stop_says_what_is_kept_and_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(config: Any, *_: Any) -> dict[str, float]:
        if config.model.own_trunks:
            raise Interrupted("stopped after step 3; repeat the command with --resume to continue")
        return dict.fromkeys(small.tasks(), 50.0)

    monkeypatch.setattr(module, "_held_out", stopped)
    with pytest.raises(Interrupted, match=r"^stopped; 1 trainings are kept in .*log: repeat the command to continue$"):
        compare_trunks(small.config(), small.joined(), small.tasks(), tmp_path / "log", lambda line: None)
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_the_command_prints_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Data:
        joined = small.joined()

    def compared(config: Any, clips: Any, tasks: Any, log: Path, say: Any, show: Any) -> Any:
        say(f"asked of {', '.join(tasks)}")
        return {task: choose_trunk(JOINT, OWN if task == "emotion" else JOINT) for task in tasks}

    monkeypatch.setattr("training.data.load.load_run_data", lambda *_: Data)
    monkeypatch.setattr(module, "compare_trunks", compared)
    done = CliRunner().invoke(app, ["trunks", "--set", f"output.directory={tmp_path}"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "asked of emotion, personality, ambivalence" in text
    assert "emotion │ 20.00 │ 22.00 │ +2.00 ± 0.58 │ 3 of 3 │ own" in text.replace("3 of 5", "3 of 3")
    assert f"model.own_trunks = {json.dumps(['emotion'])}" in text
