"""Printed figures as data, and beside a study's own: differences and ranks worked out by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from encoders.creation import CATALOGUE
from mmpsr.config import ConfigError, read_toml
from mmpsr.metrics.ranking import friedman_ranks
from tests.tuning.study.test_fill import faked, result, write_inputs
from training.report.page import render
from tuning.study.config import StudyConfig, load_study
from tuning.study.fill import run_study
from tuning.study.published import PublishedTables, read_published
from tuning.study.rendering import beside_cell
from tuning.study.report import study_page
from tuning.study.table import Column, StudyTable

CONFIGS = Path(__file__).parents[3] / "configs"
FOLDER = CONFIGS / "published"
RANKS = [
    13.25, 8.38, 6.94, 8.25, 5.25, 3.19, 6.38, 7.25, 14.12, 6.00, 13.88, 7.88, 12.00, 8.44, 8.25, 7.75, 6.50
]  # fmt: skip
MF1, UAR = (Column("mine", "test", "ambivalence", metric) for metric in ("macro_f1", "uar"))


def cells(name: str) -> NDArray[np.float64]:
    """The figures of a table that ships, NaN where absent."""
    tables = read_published([name], FOLDER)
    rows = tables.rows[name].values()
    return np.array([[row.figures.get(head, np.nan) for head in tables.heads] for row in rows])


def printed_ranks(name: str) -> list[float]:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8") as file:
        return [float(line["printed rank"]) for line in csv.DictReader(file)]


def test_ranks_of_the_published_table_follow_from_its_figures() -> None:
    figures = cells("table01")
    assert figures.shape == (17, 8)
    np.testing.assert_allclose(friedman_ranks(figures), RANKS, atol=0.0051)  # rounded to two digits


@pytest.mark.parametrize(
    "name", ["table04", "table05", "table09", "table10", "table11", "table12", "table13", "table14"]
)
def test_ranks_of_other_tables_are_those_that_were_printed(name: str) -> None:
    np.testing.assert_allclose(friedman_ranks(cells(name)), printed_ranks(name), atol=0.1)


def test_ranks_that_were_printed_otherwise_than_they_follow() -> None:
    # 40 frames: ranks 3, 3, 4, 4, 10 and 10 of its six figures, 34 / 6 = 5.67
    differences = friedman_ranks(cells("table07")) - printed_ranks("table07")
    np.testing.assert_allclose(differences, [0, 0, 2, 0, 0, 0, 0, 0, 0, 0], atol=0.0051)
    assert friedman_ranks(cells("table07"))[2] == pytest.approx(34 / 6)


def test_all_tables_that_ship_have_titles_and_encoders_that_exist() -> None:
    with (FOLDER / "tables.csv").open(encoding="utf-8") as file:
        titles = {line["table"]: line["title"] for line in csv.DictReader(file)}
    assert {path.stem for path in FOLDER.glob("*.csv")} == {"tables", *titles}
    for name, title in titles.items():
        tables = read_published([name], FOLDER)
        assert tables.title == title
        for row in tables.rows[name].values():
            assert all(modality in CATALOGUE[encoder].modalities for modality, encoder in row.encoders.items())
            assert all(0 <= value <= 100 for value in row.figures.values())


def test_figures_are_those_that_were_printed() -> None:
    table = read_published(["table01"], FOLDER)
    full = table.find("6")
    assert full.figures == {
        "MOSEI mMF1": 63.14, "MOSEI mWACC": 63.61, "FIv2 mACC": 91.93, "FIv2 mCCC": 71.98,
        "BAH MF1": 71.70, "BAH UAR": 71.42, "MELD MF1": 35.04, "MELD WF1": 44.08,
    }  # fmt: skip
    assert (full.split, full.encoders["text"]) == ("test", "michellejieli/emotion_text_classifier")
    assert "FIv2 mACC" not in table.find("16").figures
    assert "audio" not in table.find("12").encoders
    [row] = read_published(["conflict_aware"], FOLDER).joined(["5 all three"])
    assert (row.split, row.figures) == ("dev", {"BAH MF1": 74.6, "BAH F1+": 77.7, "BAH F1-": 71.6})


def test_rows_of_studies_name_rows_that_were_printed_with_their_encoder() -> None:
    named = {}
    for path in sorted((CONFIGS / "studies").glob("*.toml")):
        config = StudyConfig.model_validate(read_toml(path))
        if not config.published:
            continue
        tables = read_published([config.published] if isinstance(config.published, str) else config.published, FOLDER)
        named[path.stem] = sum(bool(tables.joined(row.published_rows)) for row in config.rows)
        varied = {"encoders_video": "video", "encoders_audio": "audio", "encoders_text": "text"}.get(path.stem)
        for row in config.rows if varied else ():
            for printed in tables.joined(row.published_rows):
                assert row.settings == {f"features.encoders.{varied}": printed.encoders[str(varied)]}
    assert named == {
        "table1": 17, "table2": 6, "prompts": 2, "describers": 3, "encoders_video": 8, "encoders_audio": 6,
        "encoders_text": 8, "encoders_behavior": 12, "layers": 9, "conflict_aware": 8,
    }  # fmt: skip


def mine(rows: str, folder: Path) -> PublishedTables:
    (folder / "printed.csv").write_text(rows, encoding="utf-8")
    return read_published(["printed.csv"], folder)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "expected the heads row and one for each figure"),
        ("row,configuration\n1,a\n", "expected the heads row and one for each figure"),
        ("row,A F1,A F1\n1,2,3\n", "every one once"),
        ("row,A F1\n1\n", "line 2: 1 cells below 2 heads"),
        ("row,A F1\n1,50\n1,60\n", "line 3: each row needs a name of its own; found '1'"),
        ("row,A F1\n1,0.6-0.7\n", "line 2, A F1: expected a figure in percent, or nothing; found '0.6-0.7'"),
        ("row,A F1\n1,nan\n", "found 'nan'"),
        ("row,A F1\n1,700\n", "found '700'"),
        ("row,split,A F1\n1,validation,7\n", "line 2: split is dev or test; found 'validation'"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(text: str, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        mine(text, tmp_path)
    assert wrong in str(error.value)
    assert "printed.csv" in str(error.value)


def test_wrong_names_are_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"named 'table1'; did you mean 'table14'\?|named 'table1'; did you mean"):
        read_published(["table1"], tmp_path)
    with pytest.raises(ConfigError, match=r"none.csv cannot be read"):
        read_published(["none.csv"], tmp_path)
    two = read_published(["table13", "table14"], tmp_path)
    assert two.title == "SCD-MMPSR, Table 13; SCD-MMPSR, Table 14"
    assert two.find("table14:4").figures["FIv2 mCCC"] == 70.14
    with pytest.raises(ConfigError, match=r"'4' names no table; write table:row, as in 'table13:1'"):
        two.find("4")
    with pytest.raises(ConfigError, match=r"table14 has no row '6'; known names are 1, 2, 3, 4, 5"):
        two.find("table14:6")
    assert len(two.joined(["table13:1", "table14:1"])) == 2  # the same figures in both
    with pytest.raises(
        ConfigError, match=r"'table13:1' and 'table14:4' have different figures of MOSEI mMF1 on test, 61.5 and 62.43"
    ):
        two.joined(["table13:1", "table14:4"])


PRINTED = """row,text,MINE MF1,MINE UAR,MINE AP
A,words,60,61,50
B,letters,70,64,51
C,words,65,,52
"""
STUDY = """
base = "base.toml"
seeds = [0, 1]
published = "printed.csv"
[[rows]]
name = "full"
published = "A"
[[rows]]
name = "w/o graph"
settings = { "model.graph" = "none" }
published = "B"
[[rows]]
name = "gat"
settings = { "model.graph" = "gat" }
published = "C"
[[rows]]
name = "mta"
settings = { "model.attention" = "mta" }
"""
OWN = {"full": (50.0, 55.0), "w-o-graph": (40.0, 57.0), "gat": (45.0, 56.0), "mta": (90.0, 90.0)}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], StudyTable]:
    """Fills a study whose rows have the figures of `OWN`, one point more with seed 1."""
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    (tmp_path / "printed.csv").write_text(PRINTED, encoding="utf-8")
    faked(monkeypatch, lambda row, seed: result(*(value + seed for value in OWN[row])))

    def fill(text: str) -> StudyTable:
        (tmp_path / "study.toml").write_text(text, encoding="utf-8")
        return run_study(load_study("study.toml"), 1, Console(file=io.StringIO()))

    return fill


def test_printed_figures_stand_beside_the_rows(study: Callable[[str], StudyTable]) -> None:
    table = study(STUDY)
    columns, rows = table.beside()
    assert columns == [MF1, UAR]
    assert list(rows) == ["full", "w/o graph", "gat"]
    assert rows["full"].own.tolist() == [50.5, 55.5]
    assert rows["full"].printed.tolist() == [60.0, 61.0]
    # own MF1: 50.5, 40.5, 45.5, ranks 1, 3, 2; UAR of the two that were printed: 55.5, 57.5, ranks 2, 1
    assert [each.own_rank for each in rows.values()] == [1.5, 2.0, 2.0]
    # printed MF1: 60, 70, 65, ranks 3, 1, 2; UAR 61, 64, ranks 2, 1
    assert [each.printed_rank for each in rows.values()] == [2.5, 1.0, 2.0]
    assert table.published is not None
    assert table.published.title == "printed.csv"
    assert table.published.notes == [
        "The printed figures are of other features or data, so that a difference says nothing of the method: mine, "
        "read as table, in place of MINE; text by words in place of letters (1 of 3 rows)",
        "Printed, but no figure of this table: MINE AP",
        "Nothing was printed for 'mta'",
    ]


def test_rows_whose_printed_figures_have_other_titles_are_told_apart(study: Callable[[str], StudyTable]) -> None:
    Path("printed.csv").write_text(PRINTED.replace("MINE", "YOURS"), encoding="utf-8")
    published = study(STUDY).published
    assert published is not None
    assert published.notes == [
        "Printed, but no figure of this table: YOURS MF1, YOURS UAR, YOURS AP",
        "Nothing that was printed for 'full', 'w/o graph', 'gat' has the title of a figure of this table; "
        "`published_columns` of the study says which is which, as corpus/task/metric",
        "Nothing was printed for 'mta'",
    ]


def test_all_formats_have_the_printed_figures_and_the_differences(study: Callable[[str], StudyTable]) -> None:
    table = study(STUDY)
    folder = Path("runs/study")
    markdown = (folder / "table.md").read_text()
    beside = markdown.partition("## Beside the printed figures: printed.csv\n")[2].splitlines()
    # 50.5 - 60 = -9.5, 55.5 - 61 = -5.5
    assert "| row | mine MF1 | mine UAR | rank | printed rank |" in beside
    assert "| full | 50.50, 60.00 (-9.50) | 55.50, 61.00 (-5.50) | 1.50 | 2.50 |" in beside
    assert "| gat | 45.50, 65.00 (-19.50) | 56.50, - | 2.00 | 2.00 |" in beside
    assert any("of other features or data" in line for line in beside)
    # ranks 1.5, 2, 2 and 2.5, 1, 2: ranked 1, 2.5, 2.5 and 3, 1, 2; covariance of deviations
    # (-1 * 1 + 0.5 * -1 + 0.5 * 0) / sqrt(1.5 * 2) = -1.5 / 1.732 = -0.87
    assert "- Rank correlation (Spearman) of the two orders: -0.87 over 3 rows" in beside
    latex = (folder / "table.tex").read_text()
    assert r"full & 50.50, 60.00 (-9.50) & 55.50, 61.00 (-5.50) & 1.50 & 2.50 \\" in latex
    assert "% The printed figures are of other features or data" in latex
    assert latex.count(r"\begin{tabular}") == 2
    lines = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    found = {(line["row"], line["metric"]): (line["printed"], line["own_minus_printed"]) for line in lines}
    assert found["w/o graph", "macro_f1"] == ("70.0", "-29.5")
    assert found["gat", "uar"] == found["mta", "uar"] == found["linear baseline", "uar"] == ("", "")
    stored = json.loads((folder / "table.json").read_text())["published"]
    assert stored["values"]["gat"] == [65.0, None]
    assert stored["differences"]["gat"] == [-19.5, None]
    assert stored["ranks"] == {"full": [1.5, 2.5], "w/o graph": [2.0, 1.0], "gat": [2.0, 2.0]}
    assert StudyTable.from_json((folder / "table.json").read_text()) == table
    page = render(study_page(folder))
    assert "Printed figures" in page
    assert "60.00 (-9.50)" in page
    assert "Printed: printed.csv." in page


def test_a_printed_column_may_be_named(study: Callable[[str], StudyTable]) -> None:
    named = '[published_columns]\n"MINE AP" = "mine/ambivalence/uar"\n"MINE UAR" = "other/ambivalence/uar"\n'
    columns, rows = study(STUDY.replace("[[rows]]", named + "[[rows]]", 1)).beside()
    assert columns == [MF1, UAR]
    assert [each.printed[1] for each in rows.values()] == [50.0, 51.0, 52.0]


def test_without_printed_figures_nothing_is_said_of_them(study: Callable[[str], StudyTable]) -> None:
    plain = "\n".join(line for line in STUDY.splitlines() if not line.startswith("published"))
    assert study(plain).published is None
    for name in ("table.md", "table.tex", "table.csv"):
        assert "printed" not in Path("runs/study", name).read_text()
    assert not [each for each in study_page(Path("runs/study")).sections if each.name == "published" and each.blocks]


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ('published = "printed.csv"', "", "row 'full' has published = 'A', and the study names no printed table"),
        ('published = "B"', 'published = "D"', "row 'w/o graph': published: printed.csv has no row 'D'"),
        ('"printed.csv"', '"table99"', "no printed table that ships is named 'table99'"),
        ("seeds", 'published_columns = { "MINE MF" = "a/b/uar" }\nseeds', "headed 'MINE MF'; did you mean 'MINE MF1'"),
        ("seeds", 'published_columns = { "MINE MF1" = "uar" }\nseeds', "expected corpus/task/metric"),
        ("seeds", 'published_columns = { "MINE MF1" = "a/b/uax" }\nseeds', "did you mean 'uar'"),
    ],
)
def test_what_a_study_names_must_be_printed(old: str, new: str, wrong: str, study: Callable[[str], StudyTable]) -> None:
    with pytest.raises(ConfigError) as error:
        study(STUDY.replace(old, new, 1))
    assert wrong in str(error.value)


def test_a_row_swaps_encoders_that_the_base_has(study: Callable[[str], StudyTable]) -> None:
    swap = 'swap.text = { words = "sound", nothing = "lost" }\nswap.video = { words = "lost" }\n'
    study(STUDY.replace('name = "full"\n', 'name = "full"\n' + swap))
    configs = {cell.row: cell.config for cell in load_study("study.toml").cells}
    assert configs["full"].features.encoders == {"text": "sound", "audio": "sound"}
    assert configs["gat"].features.encoders == {"text": "words", "audio": "sound"}


def test_a_cell_without_a_number() -> None:
    assert beside_cell(float("nan"), float("nan")) == "-"
    assert beside_cell(float("nan"), 60.0) == "-, 60.00"
    assert beside_cell(60.5, 60.0) == "60.50, 60.00 (+0.50)"
