"""Subtitles and plain texts as transcripts: what is said when."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.predict.transcripts import Cue, Transcript, TranscriptError, read_transcript

SRT = """1
00:00:01,000 --> 00:00:03,000
Well, <i>I do</i>
not know.

2
01:00:03,500 --> 01:00:04,000
{\\an8}Tom &amp; I.

"""
VTT = """WEBVTT - made by hand

STYLE
::cue { color: red }

NOTE nobody says this

intro
00:01.000 --> 00:03.000 align:start
<v Ann>Well, <00:00:02.000><c>I do</c> not know.

03:00:03.500 --> 03:00:04.000
Yes.
"""


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_subrip(tmp_path: Path) -> None:
    found = read_transcript(write(tmp_path, "a.srt", "\ufeff" + SRT.replace("\n", "\r\n")))
    assert found.text == "Well, I do not know. Tom & I."
    assert found.cues == (Cue(1.0, 3.0, "Well, I do not know."), Cue(3603.5, 3604.0, "Tom & I."))


def test_webvtt(tmp_path: Path) -> None:
    found = read_transcript(write(tmp_path, "a.vtt", VTT))
    assert found.cues == (Cue(1.0, 3.0, "Well, I do not know."), Cue(10803.5, 10804.0, "Yes."))


def test_plain_text_has_no_seconds(tmp_path: Path) -> None:
    found = read_transcript(write(tmp_path, "a.txt", "Well,\n  I do\tnot know.\n"))
    assert found == Transcript("Well, I do not know.")
    assert found.between(0.0, 100.0) == ""


@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.txt"])
def test_an_empty_file_says_nothing(tmp_path: Path, name: str) -> None:
    assert read_transcript(write(tmp_path, name, "WEBVTT\n" if name == "a.vtt" else "\n")).text == ""


def test_words_belong_to_the_window_that_holds_their_middle() -> None:
    # four words in 2 s, half a second each: their middles are at 1.25, 1.75, 2.25 and 2.75 s
    found = Transcript("a b c d e", (Cue(1.0, 3.0, "a b c d"), Cue(3.0, 4.0, "e")))
    assert found.between(0.0, 2.25) == "a b"
    assert found.between(2.25, 3.4) == "c d"
    assert found.between(2.75, 3.6) == "d e"
    assert " ".join(found.between(start, start + 0.7) for start in (0.0, 0.7, 1.4, 2.1, 2.8, 3.5)).split() == list(
        "abcde"
    )


def test_errors_name_the_file_and_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match=r"a\.srt: has no line of times such as 00:00:01,000 -->"):
        read_transcript(write(tmp_path, "a.srt", "Well, I do not know."))
    with pytest.raises(TranscriptError, match=r"b\.srt: a cue ends before it begins: '00:00:03,000 --> 00:00:01,000'"):
        read_transcript(write(tmp_path, "b.srt", "00:00:03,000 --> 00:00:01,000\nNo.\n"))
    (tmp_path / "c.txt").write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(TranscriptError, match=r"c\.txt: is not UTF-8; save it as UTF-8"):
        read_transcript(tmp_path / "c.txt")
    (tmp_path / "d.txt").mkdir()
    with pytest.raises(TranscriptError, match=r"d\.txt: cannot be read \(Is a directory\)"):
        read_transcript(tmp_path / "d.txt")
