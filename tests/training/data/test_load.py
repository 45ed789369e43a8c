"""What is read for a run."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from mmpsr.config import validate
from training.config import RunConfig
from training.data.load import load_clips


def test_clips_that_a_run_uses_keep_their_labels_in_time(tmp_path: Path) -> None:
    """The train split of a zero-shot corpus is not used, nor are its labels in time."""
    (tmp_path / "t.csv").write_text("name,label,part\na,1,train\nb,0,test\n", encoding="utf-8")
    (tmp_path / "s.csv").write_text("clip,start,end,label\na,1,2,1\nb,0,1,0\n", encoding="utf-8")
    source = {
        "adapter": "table", "files": "t.csv", "id": "name", "split": "part", "timeline": "s.csv",
        "labels": {"ambivalence": {"column": "label", "values": {"0": "absent", "1": "present"}}},
    }  # fmt: skip
    sources = {"mine": source, "other": {**source, "zero_shot": True}}
    config = validate(RunConfig, {"corpora": {"root": str(tmp_path), "sources": sources}}, str(tmp_path))
    table = load_clips(config, config.tasks.resolve(), Accelerator(cpu=True))
    assert list(table.timelines) == [("mine", "a"), ("mine", "b"), ("other", "b")]
    assert set(table.timelines) == set(zip(table.clips["corpus"], table.clips["clip_id"], strict=True))
