"""Subtitles and plain texts as transcripts: what is said when."""

from __future__ import annotations

import re
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
    # the word time at 2 s divides the first cue
    assert found.cues == (Cue(1.0, 2.0, "Well,"), Cue(2.0, 3.0, "I do not know."), Cue(10803.5, 10804.0, "Yes."))


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


ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.000 --> 00:00:02.500 align:start position:0%
\x20
hello<00:00:00.500><c> there</c><00:00:01.000><c> friends</c>

00:00:02.500 --> 00:00:02.510 align:start position:0%
hello there friends
\x20

00:00:02.510 --> 00:00:05.000 align:start position:0%
hello there friends
we<00:00:02.800><c> are</c><00:00:03.000><c> here</c>

00:00:05.000 --> 00:00:05.010 align:start position:0%
we are here
\x20

00:00:05.010 --> 00:00:07.000 align:start position:0%
we are here
no

00:00:07.000 --> 00:00:09.000 align:start position:0%
no
no
"""


def as_subrip(webvtt: str) -> str:
    """What converters make of it: the tags go, the lines stay."""
    plain = re.sub(r"<[^>]*>| align:start position:0%", "", webvtt)
    cues = [block for block in re.sub(r"(\d)\.(\d)", r"\1,\2", plain).split("\n\n") if "-->" in block]
    return "".join(f"{number}\n{cue}\n\n" for number, cue in enumerate(cues, start=1))


def test_roll_up_captions_say_each_word_once_at_its_time(tmp_path: Path) -> None:
    found = read_transcript(write(tmp_path, "a.vtt", ROLLING))
    assert found.text == "hello there friends we are here no no"  # the second "no" is said again
    assert found.cues == (
        Cue(0.0, 0.5, "hello"), Cue(0.5, 1.0, "there"), Cue(1.0, 2.5, "friends"), Cue(2.51, 2.8, "we"),
        Cue(2.8, 3.0, "are"), Cue(3.0, 5.0, "here"), Cue(5.01, 7.0, "no"), Cue(7.0, 9.0, "no"),
    )  # fmt: skip
    assert found.note == f"{tmp_path / 'a.vtt'}: captions that show lines again; each word is taken once"


def test_subtitles_made_from_roll_up_captions_say_each_line_once(tmp_path: Path) -> None:
    found = read_transcript(write(tmp_path, "a.srt", as_subrip(ROLLING)))
    assert found.cues == (
        Cue(0.0, 2.5, "hello there friends"), Cue(2.51, 5.0, "we are here"), Cue(5.01, 7.0, "no"), Cue(7.0, 9.0, "no")
    )  # fmt: skip
    assert found.note is not None


def srt(*texts: str) -> str:
    return "".join(f"{n}\n00:00:{n:02d},000 --> 00:00:{n + 1:02d},000\n{text}\n\n" for n, text in enumerate(texts))


def test_captions_that_grow_word_by_word_say_each_word_once(tmp_path: Path) -> None:
    found = read_transcript(
        write(tmp_path, "a.srt", srt("we", "we are", "we are here", "we are here\nand", "here\nand now"))
    )
    assert found.text == "we are here and here and now"  # "here" is no whole line of the cue before
    found = read_transcript(write(tmp_path, "a.srt", srt("a b", "a b\nc d", "c d\ne f", "e f\ng h")))
    assert found.text == "a b c d e f g h"


@pytest.mark.parametrize("texts", [
    ("No.", "No.", "No.", "No."),  # said four times
    ("No.", "No.", "No. I said no.", "Yes."),
    ("I see.", "I see.\nWell.", "So what?", "Nothing.", "Really nothing."),
])  # fmt: skip
def test_what_is_said_again_stays(tmp_path: Path, texts: tuple[str, ...]) -> None:
    found = read_transcript(write(tmp_path, "a.srt", srt(*texts)))
    assert found.text == " ".join(texts).replace("\n", " ")
    assert found.note is None


def test_no_line_of_a_cue_is_lost(tmp_path: Path) -> None:
    text = srt("Well,\n\nI do\u2028not", "1984", "know.")
    assert read_transcript(write(tmp_path, "a.srt", text)).text == "Well, I do not 1984 know."


def test_lines_are_shown_again_whatever_their_case_and_punctuation(tmp_path: Path) -> None:
    found = read_transcript(write(tmp_path, "a.srt", srt("so I said", "So I said, that", "So I said: that is all.")))
    assert found.text == "so I said that is all."


def test_after_a_pause_lines_without_times_are_shown_again_above_timed_ones(tmp_path: Path) -> None:
    later = ROLLING.replace("00:00:05.010 --> 00:00:07.000", "00:00:06.010 --> 00:00:07.000").replace(
        "we are here\nno", "we are here\nno<00:00:06.500><c> way</c>"
    )
    assert read_transcript(write(tmp_path, "a.vtt", later)).text == "hello there friends we are here no way no no"


CHINESE = """WEBVTT

00:00:00.000 --> 00:00:02.000
我不<00:00:01.000><c>知道</c>

00:00:02.000 --> 00:00:02.010
我不知道

00:00:02.010 --> 00:00:04.000
我不知道
好吧<00:00:03.000><c>算了</c>
"""


def test_languages_without_blanks_say_each_sign_once(tmp_path: Path) -> None:
    found = read_transcript(write(tmp_path, "a.vtt", CHINESE))
    assert [(cue.start, cue.end, cue.text) for cue in found.cues] == [
        (0.0, 1.0, "我不"), (1.0, 2.0, "知道"), (2.01, 3.0, "好吧"), (3.0, 4.0, "算了")
    ]  # fmt: skip
    # four signs in 4 s: a window of the first half holds two
    whole = read_transcript(write(tmp_path, "b.srt", srt("x").replace("00:00:01,000\nx", "00:00:04,000\n我不知道")))
    assert (whole.between(0.0, 2.0), whole.between(2.0, 4.0)) == ("我不", "知道")
    assert whole.between(0.0, 4.0) == whole.text == "我不知道"


def test_syllables_with_times_are_one_word(tmp_path: Path) -> None:
    line = "un<00:00:00.200>believ<00:00:00.400>able you<00:00:00.600> know"
    found = read_transcript(write(tmp_path, "a.vtt", f"WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{line}\n"))
    assert found.cues == (Cue(0.0, 0.4, "unbelievable"), Cue(0.4, 0.6, "you"), Cue(0.6, 1.0, "know"))


@pytest.mark.parametrize("times", [
    "00:00:01:000 --> 00:00:02:000", "00:00:01,000 -> 00:00:02,000", "00:00:01,000 → 00:00:02,000",
    "00:00:01,000 --> 00:00:02;000",
])  # fmt: skip
def test_a_line_of_times_that_is_written_otherwise_is_no_text(tmp_path: Path, times: str) -> None:
    with pytest.raises(TranscriptError, match=rf"a\.srt, line 6: '{times}' is written otherwise than 00:00:01,000 -->"):
        read_transcript(write(tmp_path, "a.srt", srt("Well.") + f"2\n{times}\nNo.\n"))


def test_times_without_decimals_and_with_many_are_read(tmp_path: Path) -> None:
    text = "1\n00:00:00 --> 00:00:01\na\n\n2\n00:00:01.123456 --> 0:02\nb\n"
    assert read_transcript(write(tmp_path, "a.srt", text)).cues == (Cue(0.0, 1.0, "a"), Cue(1.123456, 2.0, "b"))


@pytest.mark.parametrize(("written", "said"), [
    ("3 < 5 and 7 > 2 <laughs>", "3 < 5 and 7 > 2 <laughs>"),  # no tags
    ("well<br>no<BR/>yes", "well no yes"),
    (r"{\an8}well\Nno", "well no"),
    ('<font color="#fff"><i>un</i>sure</font> <v.loud Mary>I</v>', "unsure I"),
])  # fmt: skip
def test_tags_go_and_words_stay(tmp_path: Path, written: str, said: str) -> None:
    assert read_transcript(write(tmp_path, "a.srt", srt(written))).text == said


def test_numbers_of_cues_are_no_text(tmp_path: Path) -> None:
    text = (
        "1\n00:00:00,000 --> 00:00:01,000\n42\n2\n00:00:01,000 --> 00:00:02,000\n43\n\n3\n0:00:02,0 --> 0:00:03,0\nno\n"
    )
    assert read_transcript(write(tmp_path, "a.srt", text)).text == "42 43 no"


def test_cues_stand_in_the_order_of_their_times(tmp_path: Path) -> None:
    text = "00:00:05,000 --> 00:00:06,000\nlater\n\n00:00:00,000 --> 00:00:01,000\nfirst\n"
    assert read_transcript(write(tmp_path, "a.srt", text)).text == "first later"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_marks_of_byte_order_are_believed(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.srt").write_bytes(srt("Grüße").encode(encoding))
    assert read_transcript(tmp_path / "a.srt").text == "Grüße"


def test_a_cue_that_stands_twice_is_said_once(tmp_path: Path) -> None:
    text = srt("I see.", "Well.", "I see.") + srt("<i>I see.</i>", "Well.")  # at 0, 1, 2 and again at 0, 1 s
    found = read_transcript(write(tmp_path, "a.srt", text))
    assert found.text == "I see. Well. I see."
    assert found.note is not None
