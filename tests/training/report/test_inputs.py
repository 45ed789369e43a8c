"""What a report tells of a run's inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support import joined as small
from training.report.inputs import command_line, data_section, defects_section, read_csv, settings_section
from training.report.page import Charts, Section, Table, Text

PLACE = {"corpus": "mosei", "split": "train"}
DATA: dict[str, Any] = {
    "clips": [
        {**PLACE, "num_clips": 1200, "num_groups": 40, "present": {"text": 900, "audio": 1200}},
        {"corpus": "meld", "split": "test", "num_clips": 10, "num_groups": 2, "present": {"text": 10}},
    ],
    "labels": [
        {**PLACE, "task": "emotion", "num_clips": 1000, "classes": {"<b>": 250, "Joy": 1000}},
        {**PLACE, "task": "personality", "num_clips": 2, "histograms": {"openness": [1, 1]}},
    ],
}


def tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["training/run.py", "--set", "a.b=[1, 2]"], "accelerate launch training/run.py --set 'a.b=[1, 2]'"),
        (["/some/where/bin/mmpsr", "train"], "mmpsr train"),
    ],
)
def test_command_line(arguments: list[str], line: str) -> None:
    assert command_line(arguments) == line


def test_settings_that_differ_and_no_other() -> None:
    manifest = {"command": ["mmpsr", "train"], "versions": {"torch": "9"}}
    section = settings_section(small.config(output={"directory": "somewhere"}), manifest, {"text": "letters-0"})
    changed, encoders, versions = tables(section)
    settings = dict(changed.rows)  # type: ignore[arg-type]
    assert settings["training.num_epochs"] == "4"
    assert settings["corpora.sources.meld.zero_shot"] == "true"
    assert "training.monitor" not in settings
    assert not any(str(key).startswith("output") for key in settings)
    assert changed.folded == f"{len(settings)} settings that differ from defaults"
    assert (encoders.rows, versions.rows) == ([("text", "letters-0")], [("torch", "9")])
    assert Text("mmpsr train", typed=True) in section.blocks


def test_without_a_manifest_nothing_is_repeated() -> None:
    assert not [block for block in settings_section(small.config(), {}, {}).blocks if isinstance(block, Text)]


def test_data() -> None:
    section = data_section(small.config(), DATA, True)
    [table] = tables(section)
    assert table.head[-2:] == ["text", "audio"]
    shown = [[cell.text for cell in row] for row in table.cells]
    assert shown == [
        ["mosei", "train", "trained on", "1000 emotion, 2 personality", "1,200", "40", "75 %", "100 %"],
        ["meld", "test", "zero-shot", "none", "10", "2", "100 %", "0 %"],
    ]
    assert "data.json" not in table.caption
    assert "data.json" in tables(data_section(small.config(), DATA, False))[0].caption


def test_distributions() -> None:
    [charts] = [block for block in data_section(small.config(), DATA, True).blocks if isinstance(block, Charts)]
    classes, traits = charts.charts
    assert "1,000 train" in classes.caption
    assert "&lt;b&gt;" in classes.svg
    assert classes.legend == [("c1", "train")]
    assert ">openness<" in traits.svg


def test_defects_and_failures_are_counted_by_corpus_and_nothing_of_them_is_quoted() -> None:
    defects = pd.DataFrame(
        {"corpus": ["b", "a", "a"], "kind": ["bad_label", "mended", "mended"], "reason": ["said"] * 3}
    )
    ledger = pd.DataFrame(
        {"corpus": ["a"], "modality": ["text"], "encoder": ["x"], "status": ["failed"], "reason": ["said"]}
    )
    section = defects_section(defects, ledger)
    first, second = tables(section)
    assert (first.head, first.rows) == (
        ["kind and severity", "a", "b"], [["bad_label (error)", "-", "1"], ["mended (note)", "2", "-"]]
    )  # fmt: skip
    assert second.rows == [["text, x: failed", "1"]]
    assert "said" not in repr(section)


def test_no_defect_is_told_too() -> None:
    empty = read_csv(Path("nowhere.csv"), ("corpus", "kind"))
    [block] = defects_section(empty, empty).blocks
    assert isinstance(block, Text)
