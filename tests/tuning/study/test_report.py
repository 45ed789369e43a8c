"""`mmpsr report` of a study: its table, ranks, differences and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmpsr.config import ConfigError
from tests.support import report_in_browser
from tests.training.report.test_page import Outline
from training.report.page import render
from training.runs.directory import RunError
from tuning.console import app
from tuning.study import report as study_report
from tuning.study.rendering import to_csv
from tuning.study.report import read_stored_table, study_page
from tuning.study.table import Column, StudyTable

HOSTILE = "w/o <script>graph</script>"
MF1 = Column("bah", "test", "ambivalence", "macro_f1")
UAR = Column("bah", "test", "ambivalence", "uar")
VALUES: dict[str, dict[Column, dict[int, float]]] = {
    "full": {MF1: {0: 70.0, 1: 72.0, 2: 71.0}, UAR: {0: 60.0, 1: 60.0, 2: 63.0}},
    HOSTILE: {MF1: {0: 68.0, 1: 70.0, 2: 69.5}, UAR: {0: 61.0, 1: 61.0, 2: 61.0}},
}
LINEAR = {MF1: 65.0, UAR: 75.0}


def write(folder: Path, values: dict[str, Any] = VALUES, missing: dict[str, dict[int, str]] | None = None) -> Path:
    """A study's folder as `mmpsr study` leaves it."""
    missing = missing or {}
    cost = {"full": {"num_parameters": [4000.0, 5000.0], "seconds_per_epoch": []}}
    table = StudyTable([MF1, UAR], values, LINEAR, "full", missing, 3, cost=cost)
    (folder / "table.csv").write_text(to_csv(table, "full"), encoding="utf-8")
    (folder / "table.json").write_text(table.to_json(), encoding="utf-8")
    cells = {}
    for place, row in enumerate(values):
        for seed in (0, 1, 2):
            cell = {"folder": f"row{place}/{seed}", "configuration": "abc"}
            if seed in missing.get(row, {}):
                cell["missing"] = missing[row][seed]
            cells[f"{row}/{seed}"] = cell
    manifest = {
        "study": "table<1>", "command": ["mmpsr", "study", "a.toml"], "versions": {"torch": "9"}, "seeds": [0, 1, 2],
        "files": {"a.toml": "f" * 64}, "tables": {"table.csv": "e" * 64}, "cells": cells, "compare_to": "full",
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def stored(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "table.json").read_text())  # type: ignore[no-any-return]


def change(folder: Path, **values: Any) -> None:
    """Change values of a study's stored table."""
    (folder / "table.json").write_text(json.dumps({**stored(folder), **values}))


def lines(folder: Path, section: str) -> list[list[str]]:
    """Cells of the tables of a section."""
    [found] = [each for each in study_page(folder).sections if each.name == section]
    tables = [block for block in found.blocks if block.kind == "table"]
    return [[f"{cell.text} {cell.note}".strip() for cell in row] for table in tables for row in table.cells]  # type: ignore[union-attr]


def warned(folder: Path) -> list[str]:
    return [f"{warning.level}: {warning.text}" for warning in study_page(folder).warnings]


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path)
    table = read_stored_table(tmp_path)
    assert (table.columns, table.values, table.linear) == ([MF1, UAR], VALUES, LINEAR)


def test_means_and_differences(tmp_path: Path) -> None:
    first, second, linear = lines(write(tmp_path), "table")
    # mean 71, sd 1; t(0.975, 2) = 4.3027, half width 4.3027 / sqrt(3) = 2.48
    assert first[:2] == ["full", "71.00 ± 1.00\n[68.52, 73.48]"]
    # full is first in MF1; in UAR both have 61 and share ranks 1 and 2: (1 + 1.5) / 2 and (2 + 1.5) / 2
    assert (first[3:], second[3:]) == (["1.25", "3"], ["1.75", "3"])
    assert linear == ["linear baseline", "65.00 one value", "75.00 one value", "-", "-"]
    # paired by seed: -2, -2, -1.5; mean -1.83, sd 0.2887, half width 0.72
    [difference] = lines(tmp_path, "differences")
    assert difference[:2] == [HOSTILE, "-1.83 ± 0.29\n[-2.55, -1.12]"]


def test_warnings(tmp_path: Path) -> None:
    assert warned(write(tmp_path)) == ["caution: No row reaches the linear baseline: bah UAR."]
    change(tmp_path, warnings=["other clips"], num_seeds=2)
    assert warned(tmp_path)[:2] == [
        "serious: other clips",
        "caution: Fewer than 3 seeds: whether rows differ cannot be told from chance in training.",
    ]


def test_what_rows_cost_is_no_figure(tmp_path: Path) -> None:
    assert lines(write(tmp_path), "cost") == [["full", "4,500", "-", "-", "-"]]


def test_rows_that_do_not_apply_are_told(tmp_path: Path) -> None:
    write(tmp_path)
    change(
        tmp_path, inapplicable={"fusion": "one modality"}, values={**stored(tmp_path)["values"], "fusion": [None, None]}
    )
    assert "note: Row 'fusion' does not apply: one modality." in warned(tmp_path)
    assert [row for row, *_ in lines(tmp_path, "table")] == ["full", HOSTILE, "linear baseline"]


def test_missing_cells(tmp_path: Path) -> None:
    values = {**VALUES, HOSTILE: {}}
    missing = {HOSTILE: {seed: "out of memory" for seed in (0, 1, 2)}}
    write(tmp_path, values, missing)
    assert warned(tmp_path)[0].startswith(f"serious: 3 of the cells are missing. {HOSTILE}, seed 0: out of memory; ")
    assert lines(tmp_path, "table")[1] == [HOSTILE, "-", "-", "-", "0"]
    html = render(study_page(tmp_path))
    assert "3 of 6" in html
    assert 'id="ranks"' not in html  # one row has no rank


def test_ranks_have_a_critical_difference_where_no_cell_is_missing(tmp_path: Path) -> None:
    html = render(study_page(write(tmp_path)))
    assert "critical difference" in html
    assert "not told apart</li>" in html
    assert "Friedman's test does not say that rows differ" in html.replace("&#39;", "'")
    values = {**VALUES, HOSTILE: {MF1: VALUES[HOSTILE][MF1]}}
    html = render(study_page(write(tmp_path, values)))
    assert "No critical difference is drawn" in html
    assert "not told apart</li>" not in html


def test_hostile_names_are_text(tmp_path: Path) -> None:
    outline = Outline(render(study_page(write(tmp_path))))
    assert not outline.named("script")
    assert HOSTILE in outline.text
    assert "table<1>" in outline.text


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(path: Path | str, *options: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, ["report", str(path), *options], catch_exceptions=False)
        assert result.exit_code == status
        return result.stderr

    folder = write(tmp_path)
    report(folder)
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert html == render(study_page(folder))
    for options in (["--by", "language"], ["--subsets"]):
        assert "which a study's table does not have; name one of its runs" in report(folder, *options, status=2)

    class Loaded:
        def __init__(self, path: Path) -> None:
            if path.name != "study.toml":
                raise ConfigError(f"{path}: there is no such configuration file")
            self.folder = folder

    monkeypatch.setattr(study_report, "load_study", Loaded)
    report("study.toml", "-o", str(tmp_path / "b.html"))
    assert (tmp_path / "b.html").read_text(encoding="utf-8") == html
    assert "other.toml: there is no such configuration file" in report("other.toml", status=2)


def test_a_study_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no manifest.json, so the study has no table yet; `mmpsr study` writes it"):
        study_page(tmp_path)
    write(tmp_path)
    (tmp_path / "table.json").write_text("{}")
    with pytest.raises(RunError, match=r"table.json cannot be read .*; `mmpsr study` writes it"):
        study_page(tmp_path)
    (tmp_path / "table.json").unlink()
    with pytest.raises(RunError, match=r"no table.json, .*; `mmpsr study CONFIG` run again writes it without"):
        study_page(tmp_path)


browser = report_in_browser.browser


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", report_in_browser.SIZES)
def test_it_is_legible(browser: Any, tmp_path: Path, size: str, theme: str) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(study_page(write(tmp_path))), encoding="utf-8")
    report_in_browser.require_legible(browser, page, size, theme)
