"""Files that appear whole or not at all, and sums of contents."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from mmpsr.errors import UserError
from mmpsr.files import TEMPORARY, json_lines, read_json_lines, replacing, sha256_of, write_json, write_whole


def test_the_sum_is_that_of_the_standard() -> None:
    assert sha256_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert sha256_of(b"") == hashlib.sha256().hexdigest()


def test_text_bytes_and_files_of_the_same_content_have_the_same_sum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("ä".encode())
    assert sha256_of("ä") == sha256_of(b"\xc3\xa4") == sha256_of(tmp_path / "a")


def test_text_bytes_and_functions_are_written_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in ("ä\r\n", "ä\r\n".encode(), lambda file: file.write_bytes("ä\r\n".encode())):
        path.unlink(missing_ok=True)
        write_whole(path, content)
        assert path.read_bytes() == b"\xc3\xa4\r\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_json_is_indented_and_ends_with_its_line(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": [\n    1\n  ]\n}\n'
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1]}


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with replacing(path) as new:
        new.write_text("half")
        assert path.read_text() == "old"
        assert new.parent == tmp_path
        assert new.name.startswith(TEMPORARY)
    assert path.read_text() == "half"


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fails(file: Path) -> None:
        file.write_text("half")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write_whole(path, fails)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("durable", [True, False])
def test_content_is_on_the_disk_before_the_name_is_given(
    durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("flush"), fsync(file))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("rename"), replace(*paths))[1])
    write_whole(tmp_path / "a", "text", durable=durable)
    assert steps == ["flush", "rename"][not durable :]


LOG = b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'


def test_a_log_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for size in range(len(LOG) + 1):
        records, whole = json_lines(LOG[:size], path)
        # a line of nine bytes counts from its closing brace on
        assert [record["a"] for record in records] == [1, 2, 3][: (size + 1) // 9]
        assert whole == (size if size % 9 in (0, 8) else 9 * (size // 9))
    assert json_lines(LOG + b"\0" * 40, path) == ([{"a": 1}, {"a": 2}, {"a": 3}], len(LOG))
    assert json_lines(b"\n" + LOG + b"\n", path)[1] == len(LOG) + 2
    path.write_bytes(LOG[:-3])
    with pytest.warns(UserWarning, match=r"log\.jsonl: its last line is not whole and is left out"):
        assert read_json_lines(path) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("line", [b'{"a"', b"4", b'{"a": 1}{"a": 2}', b"\0\0{", b"\xff"])
def test_a_log_that_is_damaged_elsewhere_names_the_line(line: bytes) -> None:
    with pytest.raises(UserError, match=r"log\.jsonl, line 4: is no whole record, it begins "):
        json_lines(LOG + line + b"\n" + LOG, Path("log.jsonl"))
