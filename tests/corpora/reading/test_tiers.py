"""Tiers of ELAN and Praat: the same annotation in every form of file, times worked out by hand, hostile files."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpora.clips import CorpusError
from corpora.reading import tiers as reading
from corpora.reading.tiers import Interval, Tier, read_tiers

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "AH"
        xmin = 0
        xmax = 3.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.75
            text = ""
        intervals [2]:
            xmin = 0.75
            xmax = 2
            text = "says ""maybe"" 3 times"
        intervals [3]:
            xmin = 2
            xmax = 3.5
            text = "  "
    item [2]:
        class = "TextTier"
        name = "clicks é"
        xmin = 0
        xmax = 3.5
        points: size = 1
        points [1]:
            number = 1.25e0
            mark = "x"
"""
SHORT = """File type = "ooTextFile"
"TextGrid"

0
3.5
<exists>
2
"IntervalTier"
"AH"
0
3.5
3
0
0.75
""
0.75
2
"says ""maybe"" 3 times"
2
3.5
"  "
"TextTier"
"clicks é"
0
3.5
1
1.25
"x"
"""
GRID = {
    "AH": [Interval(0.0, 0.75, ""), Interval(0.75, 2.0, 'says "maybe" 3 times'), Interval(2.0, 3.5, "")],
    "clicks é": [Interval(1.25, 1.25, "x")],
}


def eaf(body: str, slots: str = "", header: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0">\n'
        f'<HEADER TIME_UNITS="milliseconds">{header}</HEADER>\n<TIME_ORDER>{slots}</TIME_ORDER>\n{body}\n'
        "</ANNOTATION_DOCUMENT>\n"
    )


def slots(*times: int | None) -> str:
    """Time slots ts0, ts1 and so on; None for one without a time."""
    values = ("" if time is None else f' TIME_VALUE="{time}"' for time in times)
    return "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{number}"{value}/>' for number, value in enumerate(values))


def aligned(name: str, first: int, last: int, text: str = "") -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" TIME_SLOT_REF1="ts{first}" '
        f'TIME_SLOT_REF2="ts{last}"><ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>'
    )


def referring(name: str, parent: str, text: str = "", previous: str = "") -> str:
    before = f' PREVIOUS_ANNOTATION="{previous}"' if previous else ""
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{parent}"{before}>'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )


def tier(name: str, *annotations: str) -> str:
    return f'<TIER TIER_ID="{name}" LINGUISTIC_TYPE_REF="any">{"".join(annotations)}</TIER>'


def read(folder: Path, content: str | bytes, name: str = "a.eaf") -> dict[str, Tier]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_tiers(path, name)


def intervals(tiers: dict[str, Tier]) -> dict[str, list[Interval]]:
    return {name: tier.intervals for name, tier in tiers.items()}


# --- Praat


@pytest.mark.parametrize("text", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_textgrid_in_every_form(tmp_path: Path, text: str, encoding: str, newline: str) -> None:
    tiers = read(tmp_path, text.replace("\n", newline).encode(encoding), "a.TextGrid")
    assert intervals(tiers) == GRID
    assert [tier.is_points for tier in tiers.values()] == [False, True]


def test_big_endian_and_comments(tmp_path: Path) -> None:
    wide = b"\xfe\xff" + SHORT.replace("0.75\n2\n", '0.75 ! from "here"\n2\n').encode("utf-16-be")
    assert intervals(read(tmp_path, wide, "a.TextGrid")) == GRID


def test_a_textgrid_without_tiers(tmp_path: Path) -> None:
    assert read(tmp_path, LONG[: LONG.index("<exists>")] + "<absent>\n", "a.TextGrid") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ooBinaryFile\x08TextGrid", "a.TextGrid is a binary file of Praat; save it there as text"),
        ("Grüße".encode("latin-1"), "a.TextGrid is neither UTF-8 nor UTF-16 at byte 2; save it in Praat as UTF-8"),
        ("hello", "line 1: expected the kind of file in quotation marks, found the end of the file"),
        (LONG.replace("TextGrid", "Sound"), "a.TextGrid is no TextGrid: it begins"),
        (LONG.replace("xmax = 0.75", "xmax = --undefined--"), "line 18: expected a number, the end of interval 1 of"),
        (LONG[: LONG.index("mark")], "line 35: expected the text of interval 1 of tier 'clicks é' in quotation marks"),
        (LONG.replace("intervals: size = 3", "intervals: size = 2.5"), "line 14: 2.5 cannot be the number of"),
        (LONG.replace("intervals: size = 3", "intervals: size = 4"), "expected a number, the start of interval 4"),
        (LONG.replace("clicks é", "AH"), "line 29: there are two tiers 'AH'; rename one"),
        (LONG.replace('"TextTier"', '"Spectrum"'), "tier 'clicks é' is of class 'Spectrum'"),
        (LONG.replace("xmax = 0.75", "xmax = 1e999"), "is no finite number"),
    ],
)
def test_a_damaged_textgrid(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read(tmp_path, content, "a.TextGrid")
    assert message in str(caught.value)


# --- ELAN


def test_annotations_between_time_slots(tmp_path: Path) -> None:
    body = tier("AH", aligned("a1", 0, 2, " present "), aligned("a2", 3, 4)) + tier(
        "other", aligned("b1", 1, 2, "x &amp; y")
    )
    tiers = read(tmp_path, eaf(body, slots(780, 1000, 1590, 2000, 2500)))
    assert intervals(tiers) == {
        "AH": [Interval(0.78, 1.59, "present"), Interval(2.0, 2.5, "")],
        "other": [Interval(1.0, 1.59, "x & y")],
    }
    assert not tiers["AH"].faults


def test_slots_without_a_time_are_spread_along_the_chain_of_their_tier(tmp_path: Path) -> None:
    # a1, a2, a3 divide 1 to 4 s at two slots without a time: 1, 2, 3, 4; ts2 of another tier lies in between
    body = tier("parts", aligned("a1", 0, 1, "a"), aligned("a2", 1, 3, "b"), aligned("a3", 3, 4, "c"))
    body += tier("whole", aligned("w", 0, 4, "w"), aligned("v", 2, 4, "v"))
    tiers = read(tmp_path, eaf(body, slots(1000, None, 1100, None, 4000)))
    assert tiers["parts"].intervals == [Interval(1, 2, "a"), Interval(2, 3, "b"), Interval(3, 4, "c")]
    assert tiers["whole"].intervals == [Interval(1, 4, "w"), Interval(1.1, 4, "v")]


def test_annotations_that_refer_to_others_have_their_times(tmp_path: Path) -> None:
    # r1 is all of a1; s1, s2, s3 divide a2 (2 to 5 s) by their order, not that of the file; t is all of s2
    body = tier("base", aligned("a1", 0, 1), aligned("a2", 2, 3))
    body += tier("whole", referring("r1", "a1", "all"))
    body += tier("third", referring("t", "s2", "deep"))
    body += tier(
        "parts", referring("s2", "a2", "two", "s1"), referring("s1", "a2", "one"), referring("s3", "a2", "three", "s2")
    )
    tiers = read(tmp_path, eaf(body, slots(0, 1500, 2000, 5000)))
    assert tiers["whole"].intervals == [Interval(0, 1.5, "all")]
    assert sorted(tiers["parts"].intervals) == [Interval(2, 3, "one"), Interval(3, 4, "two"), Interval(4, 5, "three")]
    assert tiers["third"].intervals == [Interval(3, 4, "deep")]


def test_what_has_no_time_is_a_fault_of_its_own(tmp_path: Path) -> None:
    body = tier("AH", aligned("a1", 0, 1, "x"), aligned("a2", 1, 2, "y"), aligned("a3", 0, 9, "z"))
    body += tier("refs", referring("r1", "a2"), referring("r2", "r3"), referring("r3", "r2"), referring("r4", "gone"))
    tiers = read(tmp_path, eaf(body, slots(None, 1000, 2000)))
    assert tiers["AH"].intervals == [Interval(1.0, 2.0, "y")]
    assert list(tiers["AH"].faults) == ["a1", "a3"]
    assert tiers["AH"].faults["a1"] == "neither its time slots nor those around them have a time"
    assert tiers["refs"].intervals == [Interval(1.0, 2.0, "")]
    assert tiers["refs"].faults["r4"] == "it refers to 'gone', which has no time"
    assert set(tiers["refs"].faults) == {"r2", "r3", "r4"}


def test_a_circle_of_slots_ends(tmp_path: Path) -> None:
    tiers = read(tmp_path, eaf(tier("AH", aligned("a", 0, 1), aligned("b", 1, 0)), slots(None, None)))
    assert set(tiers["AH"].faults) == {"a", "b"}


BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">'
    + "".join(f'<!ENTITY l{n} "{(f"&l{n - 1};" if n else "&lol;") * 10}">' for n in range(9))
    + "]><ANNOTATION_DOCUMENT>&l8;</ANNOTATION_DOCUMENT>"
)
FOREIGN = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><ANNOTATION_DOCUMENT>&e;</ANNOTATION_DOCUMENT>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BILLION_LAUGHS, "line 1: a document type, which can define entities, has no place in an annotation"),
        (FOREIGN, "line 1: a document type"),
        ("<ANNOTATION_DOCUMENT>&e;</ANNOTATION_DOCUMENT>", "line 1: no XML (undefined entity)"),
        ("<html></html>", "line 1: expected ELAN's <ANNOTATION_DOCUMENT>, found <html>"),
        ("no xml", "line 1: no XML (syntax error)"),
        ("", "no XML (no element found)"),
        (eaf("<TIER>"), "line 6: no XML (mismatched tag)"),
        (eaf(tier("AH") + tier("AH")), "line 5: there are two tiers 'AH'; rename one"),
        (
            eaf(tier("A", aligned("a", 0, 1)) + tier("B", aligned("a", 0, 1)), slots(0, 1)),
            "'a' is in no tier, or occurs",
        ),
        (eaf(tier("A", aligned("a", 0, 1), aligned("a", 0, 1))), "annotation 'a' is in no tier, or occurs twice"),
        (eaf(aligned("a", 0, 1)), "annotation 'a' is in no tier, or occurs twice"),
        (eaf("", '<TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="1.5s"/>'), "TIME_VALUE '1.5s' is no number of milliseconds"),
        (eaf("").replace("milliseconds", "PAL-frames"), "times in 'PAL-frames'; save the file with a newer ELAN"),
        (
            eaf("", header='<MEDIA_DESCRIPTOR MEDIA_URL="a.mp4" TIME_ORIGIN="1200"/>'),
            "its times begin 1200 ms into the media; set the media's offset to 0 in ELAN",
        ),
    ],
)
def test_a_damaged_or_hostile_eaf(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)


def test_files_that_are_too_large_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGEST", 100)
    with pytest.raises(CorpusError, match=r"a.TextGrid has 1,0.. bytes; an annotation has at most 100"):
        read(tmp_path, LONG.ljust(1050), "a.TextGrid")
    with pytest.raises(CorpusError, match=r"b.eaf cannot be read: No such file"):
        read_tiers(tmp_path / "b.eaf", "b.eaf")
