"""Whatever is in a table: it reads back the same from every kind of file, and no file breaks the adapter."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from corpora.clips import ClipTable, CorpusError, Defects
from corpora.reading.cells import read_cells
from corpora.table import TableCorpus
from mmpsr.tasks import BUILTIN_TASKS

SOURCE = {
    "adapter": "table", "id": "id", "text": "text", "start": "start", "end": "end", "split": "split", "speaker": "text",
    "labels": {
        "personality": {"columns": {"openness": "o", "extraversion": "x"}, "scale": [-1, 1]},
        "ambivalence": {"column": "ah", "values": {"0": "absent", "1": "present"}},
        "emotion": {"column": "states", "separator": "|"},
    },
    "missing": ["-9"], "keep": ["text"],
}  # fmt: skip
EMOTIONS = BUILTIN_TASKS["emotion"].classes


def quick(max_examples: int) -> settings:
    """The same examples every time, without the search for smaller ones; others where `NUM_EXAMPLES` says how many."""
    phases, others = [Phase.explicit, Phase.generate], int(os.environ.get("NUM_EXAMPLES", "0"))
    return settings(
        max_examples=others or max_examples, deadline=None, derandomize=not others, database=None, phases=phases
    )


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=12)
ids = texts.filter(str.strip)
numbers = st.sampled_from(["", "-9", "-9.0", "0", "-1", "0.25", "1.0"])
rows = st.fixed_dictionaries(
    {
        "id": ids,
        "text": texts,
        "start": st.sampled_from(["", "0", "1.5", "-2", "-9"]),
        "end": st.sampled_from(["", "1.5", "60", "7e1"]),
        "split": st.sampled_from(["train", "dev", "test"]),
        "o": numbers,
        "x": numbers,
        "ah": st.sampled_from(["", "0", "1", "1.0", "-9"]),
        "states": st.lists(st.sampled_from(EMOTIONS), unique=True).map("|".join),
    }
)
tables = st.lists(rows, min_size=1, max_size=6, unique_by=lambda row: row["id"])


def write(folder: Path, kind: str, table: Sequence[Mapping[str, str]]) -> str:
    frame = pd.DataFrame(table)
    path = folder / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(list(table)), path)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in table), encoding="utf-8")
    else:
        separator = "\t" if kind == "tsv" else ","
        frame.to_csv(path, index=False, sep=separator, encoding="utf-8", quoting=csv.QUOTE_ALL)
    return path.name


def scan(folder: Path, file: str, **changes: Any) -> ClipTable:
    source = TableCorpus.model_validate({**SOURCE, "files": file, **changes})
    table = source.scan("toy", folder, BUILTIN_TASKS)
    table.validate(BUILTIN_TASKS)
    return table


def number(cell: str) -> float:
    return float("nan") if cell in ("", "-9", "-9.0") else float(cell)


@quick(40)
@given(tables)
def test_cells_read_back_the_same_from_every_kind_of_file(table: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for kind in ("csv", "tsv", "parquet", "jsonl"):
            found = read_cells(Path(name) / write(Path(name), kind, table), Path(name)).frame
            assert found.to_dict("records") == table


@quick(6)
@given(tables)
def test_a_table_reads_back_the_same_from_every_kind_of_file(table: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        found = {kind: scan(Path(name), write(Path(name), kind, table)) for kind in ("csv", "tsv", "parquet", "jsonl")}
    clips = found["csv"].clips
    for other in found.values():
        pd.testing.assert_frame_equal(other.clips, clips)
    assert not found["csv"].defects["kind"].isin(["bad_label", "bad_number", "duplicate_id", "unknown_split"]).any()
    assert clips["clip_id"].tolist() == [row["id"] for row in table]
    assert clips["split"].tolist() == [row["split"] for row in table]
    assert clips["text"].fillna("").tolist() == [row["text"] if row["text"].strip() else "" for row in table]
    assert clips["raw.text"].tolist() == [row["text"] for row in table]
    starts = [max(number(row["start"]), 0.0) if row["start"] not in ("", "-9") else float("nan") for row in table]
    np.testing.assert_array_equal(clips["start"], starts)
    np.testing.assert_array_equal(clips["end"], [number(row["end"]) for row in table])
    np.testing.assert_array_equal(clips["personality.openness"], [(number(row["o"]) + 1) / 2 for row in table])
    np.testing.assert_array_equal(clips["personality.extraversion"], [(number(row["x"]) + 1) / 2 for row in table])
    np.testing.assert_array_equal(clips["ambivalence.present"], [number(row["ah"]) for row in table])
    for emotion in EMOTIONS:
        expected = [float(emotion in row["states"].split("|")) if row["states"] else float("nan") for row in table]
        np.testing.assert_array_equal(clips[f"emotion.{emotion}"], expected)


def survives(content: bytes, kind: str, **changes: Any) -> None:
    """Reading works or raises a `CorpusError` that names the file."""
    with tempfile.TemporaryDirectory() as name:
        file = f"content.{kind}"
        (Path(name) / file).write_bytes(content)
        try:
            scan(Path(name), file, **changes)
        except CorpusError as error:
            told = str(error)
        else:
            told = file
    assert file in told


kinds = st.sampled_from(["csv", "tsv", "txt", "jsonl", "ndjson", "parquet"])
HEADER = b"id,text,start,end,split,o,x,ah,states\n"


@quick(50)
@given(st.binary(max_size=200), kinds, st.sampled_from(["utf-8-sig", "latin-1", "utf-16"]))
def test_any_bytes_are_a_table_or_an_error_with_the_file(content: bytes, kind: str, encoding: str) -> None:
    survives(content, kind, encoding=encoding)


@quick(20)
@given(st.text(max_size=120), st.booleans())
def test_any_text_is_a_table_or_an_error_with_the_file(text: str, with_header: bool) -> None:
    content = text.encode("utf-8", errors="surrogatepass")
    survives(HEADER + content if with_header else content, "csv")


cells = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), st.sampled_from(["train", "0", "9" * 400]),
)  # fmt: skip
NAMES = ["id", "text", "start", "end", "split", "o", "x", "ah", "states"]


@quick(50)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, cells)), max_size=4), st.text(max_size=6))
def test_any_json_lines_are_a_table_or_an_error_with_the_file(lines: list[dict[str, Any]], end: str) -> None:
    content = "\n".join([*(json.dumps(line) for line in lines), end])
    survives(content.encode("utf-8", errors="surrogatepass"), "jsonl")


def parquet() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), "parquet", [dict.fromkeys(NAMES, "1") | {"id": str(row), "split": "dev"} for row in range(9)])
        return (Path(name) / "t.parquet").read_bytes()


PARQUET = parquet()


@quick(50)
@given(st.integers(0, len(PARQUET)), st.integers(0, len(PARQUET) - 1), st.integers(0, 255))
def test_a_damaged_parquet_file_is_a_table_or_an_error_with_the_file(length: int, place: int, byte: int) -> None:
    survives(PARQUET[:length], "parquet")
    survives(PARQUET[:place] + bytes([byte]) + PARQUET[place + 1 :], "parquet")


def test_other_damage_names_the_file() -> None:
    survives(b"[" * 100_000, "jsonl")
    survives(b'{"id": ' + b"9" * 5000 + b"}", "jsonl")
    survives(b'{"id": "\\ud800", "split": "train"}', "jsonl")
    survives(b"id,id\n1,2\n", "csv")
    survives(HEADER + b"a" * 300_000, "csv")


@quick(20)
@given(tables, st.data())
def test_a_wrong_cell_is_told_with_file_row_and_column(table: list[dict[str, str]], data: st.DataObject) -> None:
    column, kind = data.draw(
        st.sampled_from([("start", "bad_number"), ("o", "bad_label"), ("ah", "bad_label"), ("states", "bad_label"),
                         ("split", "unknown_split")])
    )  # fmt: skip
    row = data.draw(st.integers(0, len(table) - 1))
    table = [dict(line) for line in table]
    table[row][column] = "wrong?"
    with tempfile.TemporaryDirectory() as name:
        found = scan(Path(name), write(Path(name), "csv", table)).defects
    told = found[found["kind"].eq(kind)]
    assert told["where"].tolist() == [f"t.csv, row {row + 2}, column {column!r}"]
    assert "'wrong?'" in told["reason"].iloc[0]


pieces = st.text(st.sampled_from('ab "",;|\t\n\ré'), max_size=8)


@st.composite
def written(draw: st.DrawFn) -> tuple[int, list[list[str]], dict[str, Any], bytes]:
    """Columns of a table, its rows (one may lack cells or have too many), how it is written, and the file."""
    width = draw(st.integers(1, 4))
    quoted = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]))
    how = {"separator": draw(st.sampled_from(",;|\t")), "end": draw(st.sampled_from(["\r\n", "\n", "\r"]))}
    breaks = "\r\n" + how["separator"] if quoted == csv.QUOTE_NONE else ""
    cell = pieces.map(lambda text: "".join(sign for sign in text if sign not in breaks))
    rows = draw(st.lists(st.lists(cell, min_size=width, max_size=width), max_size=6))
    if rows and draw(st.booleans()):
        row = draw(st.integers(0, len(rows) - 1))
        ends = st.sampled_from([["more"], [""], ["a", "b"]])
        rows[row] = draw(st.one_of(st.just(rows[row][:-1]), ends.map(lambda end: [*rows[row], *end])))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    lines = [[f"c{column}" for column in range(width)], *rows]
    if quoted == csv.QUOTE_NONE:
        text = how["end"].join(how["separator"].join(line) for line in lines)
    else:
        file = io.StringIO(newline="")
        csv.writer(file, delimiter=how["separator"], quoting=quoted, lineterminator="\r\n").writerows(lines)
        text = file.getvalue()
    how |= {"encoding": encoding, "quoted": quoted != csv.QUOTE_NONE}
    return width, rows, how, text.encode(encoding)


def outcome(folder: Path, content: bytes, how: Mapping[str, Any], **settings: Any) -> tuple[list[list[str]], set[int]]:
    """Rows that are read, and numbers of those that are refused; 0 is the whole file, whose error names a row."""
    (folder / "t.csv").write_bytes(content)
    defects, encoding = Defects("toy"), "latin-1" if how["encoding"] == "latin-1" else "utf-8-sig"
    try:
        found = read_cells(folder / "t.csv", folder, encoding=encoding, defects=defects, **settings)
    except CorpusError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert re.search(r"t\.csv: row \d+ \(lines? \d+", message), message
        return [], {0}
    bad = {int(where.rpartition(" ")[2]) for _, _, kind, where, _ in defects.rows if kind == "bad_row"}
    return found.frame.to_numpy().tolist(), bad


def is_blank(row: Sequence[str]) -> bool:
    return not any(row) if len(row) > 1 else not "".join(row).strip()


def without_marks(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    plain = [[cell.replace('"', "") for cell in row] for row in rows]
    return [row for row in plain if any(row)]


@quick(100)
@given(written())
def test_a_written_table_is_read_whole_or_an_error_names_the_row(
    case: tuple[int, list[list[str]], dict[str, Any], bytes],
) -> None:
    width, rows, how, content = case
    misfits = {number for number, row in enumerate(rows, start=2) if len(row) != width}
    with tempfile.TemporaryDirectory() as name:
        for settings in ({}, {"quoting": how["quoted"]}):
            if width == 1 or "quoting" in settings:  # a head of one column tells no separator
                settings = {**settings, "separator": how["separator"]}
            found, bad = outcome(Path(name), content, how, **settings)
            if bad == {0}:
                assert "quoting" not in settings  # what is said how it was written is always read
                continue
            if misfits and not how["quoted"] and "quoting" not in settings:
                continue  # marks may make up for the cells that a row lacks or has too many
            assert bad <= misfits
            assert {number for number in misfits if any(map(str.strip, rows[number - 2][width:]))} <= bad
            kept = [row for number, row in enumerate(rows, start=2) if number not in bad and not is_blank(row)]
            expected = [[*row, *[""] * width][:width] for row in kept]
            if how["quoted"] or "quoting" in settings:
                assert found == expected
            else:
                assert without_marks(found) == without_marks(expected)
