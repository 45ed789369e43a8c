"""Text tables: every line is a row or stands in a quoted cell, or an error names the row."""

from __future__ import annotations

import csv
import io

import pytest

from mmpsr.delimited import TableError, decode_table, read_text_table, separator_of, text_lines

SETTINGS = ("quoting = true", "quoting = false")


def unquoted(**texts: str) -> str:
    """Sixty rows `id, text, label` between tabs, written without quoting; `r11` replaces the text of row 11."""
    lines = [f"c{row}\t{texts.get(f'r{row}', f'text {row}')}\t0" for row in range(2, 62)]
    return "\n".join(["id\ttext\tlabel", *lines, ""])


def error(text: str, **options: object) -> str:
    with pytest.raises(TableError) as raised:
        read_text_table(text, **options)  # type: ignore[arg-type]
    return str(raised.value)


@pytest.mark.parametrize("texts", [
    {"r11": '"I never said', "r41": '"Nor did I'},  # neither closes
    {"r11": '"I never said'},  # nothing closes it
    {"r11": '"I never said', "r41": 'that."'},  # a quotation over several rows: well formed, thirty rows in one cell
    {"r11": '"No," he said', "r41": "x"},
])  # fmt: skip
def test_marks_that_quote_nothing_are_an_error_or_content(texts: dict[str, str]) -> None:
    message = error(unquoted(**texts), usual="\t", settings=SETTINGS)
    assert message.startswith("row 11 (line")
    assert "column 'text'" in message
    assert "set quoting = false" in message
    table = read_text_table(unquoted(**texts), "\t", quoting=False)
    assert len(table.rows) == 60
    assert table.rows[9][1] == texts["r11"]
    assert (table.faults, table.notes) == ([], [])


def test_a_cell_that_could_be_rows_is_what_the_setting_says() -> None:
    text = unquoted(r11='"I never said', r41='that."')
    assert "lines 11 to 41" in error(text, usual="\t", settings=SETTINGS)
    assert error(text, usual="\t", settings=SETTINGS).endswith(
        "a quotation mark begins 'I never said' ... and that could be one cell of 31 lines, or 31 rows written without "
        "quoting; set quoting = false if the marks are content, quoting = true if they quote"
    )
    assert "write a cell that holds a mark in marks" in error(text, usual="\t")
    assert len(read_text_table(text, "\t", quoting=True).rows) == 30


@pytest.mark.parametrize(
    "cell", ["two\nlines", "two\r\nlines, with\ra comma", 'said "no"\n\nand left', "a,b\nc,d\n", '"', "", " x "]
)
def test_what_a_writer_quotes_reads_back(cell: str) -> None:
    for separator in ",;\t|":
        file = io.StringIO(newline="")
        csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(
            [["id", "text"], ["1", cell], ["2", "x"]]
        )
        table = read_text_table(file.getvalue())
        assert table.rows == [["1", cell], ["2", "x"]]
        assert table.separator == separator


def test_marks_that_join_cells_of_a_line_are_an_error() -> None:
    text = 'id,text,label\n1,"yes,no"\n'
    assert "could be 2 cells, or the 3 of the head written without quoting" in error(text)
    assert read_text_table(text, quoting=False).rows == [["1", '"yes', 'no"']]
    assert read_text_table(text, quoting=True).rows == [["1", "yes,no", ""]]


def test_lines_of_a_cell_that_cannot_be_rows_are_one_cell() -> None:
    table = read_text_table('id,text,label\n1,"Well,\nI do not know, perhaps\nyes",0\n2,x,1\n')
    assert table.rows == [["1", "Well,\nI do not know, perhaps\nyes", "0"], ["2", "x", "1"]]
    assert table.numbers == [2, 3]


def test_cells_beyond_the_head_and_broken_rows_are_faults() -> None:
    table = read_text_table("path,text\ntalk.mp4,I am sure, or not, honestly\na.mp4,yes\nworld\nb.mp4,no,,\n")
    assert table.rows == [["a.mp4", "yes"], ["b.mp4", "no"]]  # empty cells beyond the head hold nothing
    (first, beyond), (second, one) = table.faults
    assert (first, second) == (2, 4)
    assert beyond.startswith("has 4 cells, the head has 2; beyond it stands 'or not' ... (a cell that holds a comma is")
    (unquoted,) = read_text_table("path,text\na,I am sure, or not\n", quoting=False).faults
    assert unquoted[1].endswith("beyond it stands 'or not' ... (without quoting no cell can hold a comma)")
    assert one.startswith("has 1 of 2 cells and begins 'world' ... (a text with a line break is written in quotation")


def test_cells_that_a_row_lacks_are_empty_and_said() -> None:
    table = read_text_table("id,text,label\n1,hello\nworld,1\n2,x,1\n")
    assert table.rows == [["1", "hello", ""], ["world", "1", ""], ["2", "x", "1"]]
    reason = "has 2 of 3 cells; the others are empty, unless they are in the next row"
    assert table.short == [(2, reason), (3, reason)]


@pytest.mark.parametrize(("text", "separator"), [
    ("id;text\na;I am sure, or not\n", ";"),
    ("id;score;mean, all\na;0,5;1\n", ";"),
    ("id|text\na|x, y\n", "|"),
    ("id\ttext\na\tx\n", "\t"),
    ('"id, all";text\na;x\n', ";"),
    ("id,a|b|c\nx,1\n", ","),
    ("sep=;\nid;text\na;x\n", ";"),
    ("id\na;b\n", ","),
])  # fmt: skip
def test_separators_are_told_from_the_head_and_the_rows(text: str, separator: str) -> None:
    assert read_text_table(text).separator == separator


def test_a_separator_that_surprises_is_noted_and_two_are_an_error() -> None:
    assert read_text_table("id;text\na;x\n").notes == [(1, "its cells are separated by semicolon, as its head says")]
    assert read_text_table("id;text\na;x\n", separator=";").notes == []
    assert read_text_table("id\ttext\na\tx\n", usual="\t").notes == []
    assert "could be separated by comma or semicolon" in error("id;text, all\na;x, y\n")
    assert read_text_table("id;text, all\na;x, y\n", separator=",").head == ["id;text", " all"]


def test_rows_are_numbered_as_a_spreadsheet_shows_them() -> None:
    table = read_text_table('\nid,text\n\na,"x\ny"\nid,text\nb,z,1\n')
    assert table.numbers == [4]
    assert table.notes == [(5, "repeats the head; left out")]
    assert [row for row, _ in table.faults] == [6]


def test_only_line_ends_end_lines() -> None:
    assert text_lines("a\x0bb\x85c\u2028d\x1ce\n\rf") == ["a\x0bb\x85c\u2028d\x1ce\n", "\r", "f"]
    assert read_text_table("id,text\ra,x\u2028y\rb,z").rows == [["a", "x\u2028y"], ["b", "z"]]
    assert "it is empty" in error(" \n\n")
    assert read_text_table('""\na\n').head == [""]  # a head without a name is no row


def test_marks_of_byte_order_are_no_content() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert decode_table("id\nä\n".encode(encoding)) == "id\nä\n"
    assert decode_table(b"\xef\xbb\xbfid", "utf-8") == "id"
    with pytest.raises(UnicodeDecodeError):
        decode_table(b"\xe9")


def test_separators_have_names() -> None:
    assert [separator_of(name) for name in ("tab", r"\t", "Pipe", ";")] == ["\t", "\t", "|", ";"]
    with pytest.raises(ValueError, match=r"one character, comma, semicolon, tab, pipe or \\t, found ', '"):
        separator_of(", ")
