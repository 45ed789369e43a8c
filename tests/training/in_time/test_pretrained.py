"""A model in time that is handed on: what goes along, what does not, and what is refused on the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.in_time_run import write_run_in_time
from training.bundle.files import BundleError
from training.in_time.pretrained import FILES
from training.in_time.recordings import InTimePredictor
from training.runs.directory import is_run_in_time

FIGURE = {"corpus": "own", "split": "test", "task": "ambivalence", "level": "frame", "metric": "average_precision",
          "num_clips": 4, "model": 81.0, "linear": 70.0, "chance": 50.0}  # fmt: skip


def changed(folder: Path, name: str, **values: Any) -> None:
    tree = json.loads((folder / name).read_text(encoding="utf-8"))
    for place, value in values.items():
        *above, last = place.split("__")
        inner = tree
        for key in above:
            inner = inner[key]
        inner[last] = value
    (folder / name).write_text(json.dumps(tree), encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose configuration names places on a machine."""
    folder = write_run_in_time(tmp_path / "runs" / "in_time")
    secret = str(tmp_path / "secret")
    changed(folder, "config.json", corpora__root=secret, features__store=secret, output__directory=secret)
    counts = [{"corpus": "own", "split": "train", "num_clips": 36}]
    data = {"clips": counts, "generated": [], "other": secret}
    (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps([FIGURE]), encoding="utf-8")
    return folder


def test_there_and_back_without_a_place_on_a_machine(run: Path, tmp_path: Path) -> None:
    first = InTimePredictor.from_run(run)
    first.save_pretrained(tmp_path / "saved")
    first.save_pretrained(tmp_path / "saved")  # again, as it does
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == sorted(FILES)
    for path in (tmp_path / "saved").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path
    again = InTimePredictor.from_pretrained(tmp_path / "saved", allow_custom_encoders=True)
    for name, value in first.trained.model.state_dict().items():
        assert torch.equal(again.trained.model.state_dict()[name], value)
    for part in ("task", "spec", "fingerprints"):
        assert getattr(again.trained, part) == getattr(first.trained, part)
    assert again.trained.config.data == first.trained.config.data
    assert again.trained.features.encoders == first.trained.features.encoders
    line = "trained on 36 clips of own. Test: ambivalence (own) "
    assert line in again.trained.about("saved")
    assert line in (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert is_run_in_time(tmp_path / "saved")  # so that commands take it
    again.save_pretrained(tmp_path / "handed on")
    assert (tmp_path / "handed on" / "best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "is 'tests.support.in_time_run:GreyInTime', a class whose module would run"),
        ({"features__trust_remote_code": ["them/model"]}, "config.features.trust_remote_code asks to run code"),
        ({"features__weights": {"audio": "/etc/passwd"}}, "config.features.weights: '/etc/passwd' leads out of"),
        ({"output": {"directory": "/"}}, "config.output is not part of a bundle"),
    ],
)
def test_what_asks_for_code_or_files_is_refused(
    run: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    InTimePredictor.from_run(run).save_pretrained(tmp_path / "saved")
    changed(tmp_path / "saved", "config.json", **values)
    with pytest.raises(BundleError, match=message):
        InTimePredictor.from_pretrained(tmp_path / "saved")


def test_pickles_and_links_that_lead_elsewhere_are_refused(run: Path, tmp_path: Path) -> None:
    InTimePredictor.from_run(run).save_pretrained(tmp_path / "saved")
    pickled = tmp_path / "saved" / "weights.pt"
    pickled.touch()
    with pytest.raises(BundleError, match=r"weights\.pt is a pickled file"):
        InTimePredictor.from_pretrained(tmp_path / "saved")
    pickled.unlink()
    (tmp_path / "saved" / "results.json").unlink()
    (tmp_path / "saved" / "results.json").symlink_to(run / "results.json")
    with pytest.raises(BundleError, match="which leads out of the bundle's folder"):
        InTimePredictor.from_pretrained(tmp_path / "saved")
