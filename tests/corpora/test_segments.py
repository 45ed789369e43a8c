"""Labels in time of table corpora: tables of segments, folders of annotation files, and what is wrong with them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from corpora.clips import ClipTable, CorpusError
from corpora.table import TableCorpus
from corpora.timeline import Segment, Timeline
from mmpsr.tasks import BUILTIN_TASKS, TaskSpec
from tests.corpora.reading.test_tiers import LONG, aligned, eaf, slots, tier

CLIPS = "name,hesitant,feeling\na,yes,joy\nb,no,none\nc,,\n"
HESITANT = {"column": "hesitant", "values": {"yes": "present", "no": "absent"}}
FEELING = {"column": "feeling", "values": {"joy": "glad", "none": "calm"}}
MOOD = TaskSpec(kind="single_label", classes=("calm", "sad", "glad"), loss="cross_entropy", metrics=("macro_f1",))
TASKS = {**BUILTIN_TASKS, "mood": MOOD}


def scan(root: Path, segments: str | None = None, /, **settings: Any) -> ClipTable:
    (root / "t.csv").write_text(CLIPS, encoding="utf-8")
    if segments is not None:
        (root / "segments.csv").write_text(segments, encoding="utf-8")
    values = {
        "adapter": "table", "files": {"train": "t.csv"}, "id": "name", "labels": {"ambivalence": HESITANT},
        "timeline": "segments.csv", **settings,
    }  # fmt: skip
    table = TableCorpus.model_validate(values).scan("toy", root, TASKS)
    return table.validate(TASKS)


def of(table: ClipTable, clip: str, task: str = "ambivalence") -> Timeline:
    return table.timelines["toy", clip][task]


def notes(table: ClipTable, *without: str) -> list[tuple[str, str, str]]:
    rows = table.defects[~table.defects["kind"].isin(["missing_annotation", *without])]
    return list(rows[["kind", "where", "reason"]].itertuples(index=False, name=None))


ONE = "clip,start,end,label\na,1,2.5,present\n"


def test_segments_become_timelines(tmp_path: Path) -> None:
    table = scan(tmp_path, ONE + "a,4,5,1\na,6,7,no\na,8,9,\na,10,11,NA\nb,,,\n")
    assert of(table, "a") == Timeline(
        None, (Segment(1.0, 2.5, 1), Segment(4.0, 5.0, 1), Segment(6.0, 7.0, 0), Segment(10.0, 11.0, -1))
    )
    # two frames per second: 1, 1.5 and 2 s are present, so are 4 and 4.5; unknown are 10 and 10.5
    assert of(table, "a").labels(24, Fraction(2)).tolist() == (
        [0, 0, 1, 1, 1, 0, 0, 0, 1, 1] + [0] * 10 + [-1, -1, 0, 0]
    )
    assert of(table, "b") == Timeline(None)
    assert notes(table) == []
    assert table.clips["ambivalence.present"].isna().tolist() == [False, False, True]


def test_clips_without_segments(tmp_path: Path) -> None:
    """Of an absent clip all is absent; what is said of no other is unknown."""
    table = scan(tmp_path, "clip,start,end,label\nc,1,2,present\n")
    assert set(table.timelines) == {("toy", "b"), ("toy", "c")}
    assert of(table, "b") == Timeline(None)
    assert table.defects[["kind", "where", "reason"]].to_dict("records") == [
        {
            "kind": "missing_annotation",
            "where": "t.csv, row 2",
            "reason": "segments.csv has nothing of this clip; it has no labels in time",
        }
    ]


def test_clock_times_and_decimal_commas(tmp_path: Path) -> None:
    table = scan(tmp_path, "clip;start;end;label\na;0:01;1:02:03,5;Present\n")
    assert of(table, "a").segments == (Segment(1.0, 3723.5, 1),)
    assert {kind for kind, *_ in notes(table)} == {"mended"}


def test_what_is_wrong_is_noted_with_its_row(tmp_path: Path) -> None:
    rows = [
        "a,1,2,present", "z,1,2,present", "z,3,4,present", "a,3,3,present", "a,5,4,present", "a,,6,present",
        "a,soon,7,present", "a,7,8,perhaps", "a,-1,0.5,present", ",1,2,present", "a,1.5,3,absent", "a,20,NA,present",
    ]  # fmt: skip
    table = scan(tmp_path, "\n".join(["clip,start,end,label", *rows]) + "\n")
    assert of(table, "a").segments == (
        Segment(0.0, 0.5, 1), Segment(1.0, 2.0, 1), Segment(1.5, 3.0, 0), Segment(7.0, 8.0, -1)
    )  # fmt: skip
    assert of(table, "a").outside == -1, "where the segments lie that are not used is unknown"
    assert sorted(notes(table)) == sorted([
        ("unusable_row", "segments.csv, row 3, column 'clip'", "no clip is named 'z' (2 segments); known names are a, "
         "b, c"),
        ("bad_span", "segments.csv, row 5", "the segment runs from 3 s to 3 s; it is not used, as it must end after it "
         "begins"),
        ("bad_span", "segments.csv, row 6", "the segment runs from 5 s to 4 s; it is not used, as it must end after it "
         "begins"),
        ("bad_span", "segments.csv, row 7", "the segment has no known start; it is not used"),
        ("bad_number", "segments.csv, row 8, column 'start'", "'soon' is not a number; correct the cell"),
        ("bad_label", "segments.csv, row 9, column 'label'", "unknown label 'perhaps'; known names are 0, 1, absent, "
         "no, present, yes"),
        ("mended", "segments.csv, row 10", "start -1 s lies before the file's beginning; taken as 0"),
        ("unusable_row", "segments.csv, row 11, column 'clip'", "a segment of no clip; the row is not used"),
        ("disagreement", "segments.csv, row 12", "is labelled otherwise than segments.csv, row 2 from 1.5 to 2 s; the "
         "label there is unknown"),
        ("bad_span", "segments.csv, row 13", "the segment has no known end; it is not used"),
    ])  # fmt: skip


def test_a_clip_whose_label_says_otherwise_keeps_it(tmp_path: Path) -> None:
    table = scan(tmp_path, "clip,start,end,label\na,1,2,absent\nb,1,2,present\n")
    assert notes(table) == [
        ("disagreement", "t.csv, row 2", "is labelled 'present', but no segment is; the clip's label stays"),
        (
            "disagreement",
            "t.csv, row 3",
            "is labelled 'absent', but has segments labelled 'present'; the clip's label stays",
        ),
    ]
    assert table.clips["ambivalence.present"].tolist()[:2] == [1.0, 0.0]


def test_overlaps_of_one_label_are_no_contradiction(tmp_path: Path) -> None:
    assert notes(scan(tmp_path, ONE + "a,2,3,present\na,2.2,2.4,1\n")) == []


def test_the_task_its_words_and_what_is_outside(tmp_path: Path) -> None:
    labels = {"ambivalence": HESITANT, "mood": FEELING}
    settings = {"labels": labels, "timeline_task": "mood", "timeline_outside": "unknown"}
    table = scan(tmp_path, "clip,start,end,label\na,1,2,joy\na,3,4,sad\n", **settings)
    assert of(table, "a", "mood") == Timeline(None, (Segment(1.0, 2.0, 2), Segment(3.0, 4.0, 1)), -1)
    assert set(table.timelines) == {("toy", "a")}, "b is labelled, but nothing says that all of it is so"
    words = {"labels": {}, "timeline_task": "ambivalence", "timeline_values": {"AH": "present"}}
    bare = scan(tmp_path, "clip,start,end,label\na,1,2,AH\n", timeline_outside="present", **words)
    assert of(bare, "a") == Timeline(None, (Segment(1.0, 2.0, 1),), 1)
    assert TableCorpus.model_validate(
        {"adapter": "table", "files": "t.csv", "id": "name", "timeline": "s.csv", "timeline_task": "ambivalence"}
    ).label_tasks() == ("ambivalence",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": {}}, "its labels are of one single-label task, and 0 stand under `labels`; set `timeline_task`"),
        ({"timeline_task": "personality"}, "timeline_task: 'personality' is a regression task"),
        ({"timeline_outside": "presnt"}, "unknown class 'presnt'; did you mean 'present'?"),
        ({"timeline_values": {"x": "maybe"}}, "corpora.sources.toy.timeline: unknown class 'maybe'"),
        ({"tier": "AH"}, "tier is for a folder of .eaf or .textgrid files, but segments.csv is none"),
        ({"timeline": "gone.csv"}, "there is no file"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError) as caught:
        scan(tmp_path, ONE, **settings)
    assert message in str(caught.value)


def test_settings_without_labels_in_time_and_tables_of_other_clips(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="`tier` is about labels in time; set `timeline` to where they are"):
        scan(tmp_path, timeline=None, tier="AH")
    with pytest.raises(CorpusError, match="nothing in it is of a clip of corpus 'toy', whose clips are named like 'a'"):
        scan(tmp_path, "clip,start,end,label\nx,1,2,present\n")
    with pytest.raises(CorpusError, match="has no column 'label'"):
        scan(tmp_path, "clip,start,end\na,1,2\n")


def test_segments_of_splits_that_are_not_read_are_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("name,hesitant\nz,yes\n", encoding="utf-8")
    segments = ONE + "z,1,2,present\n"
    files = {"train": "t.csv", "dev": "u.csv"}
    assert set(scan(tmp_path, segments, files=files).timelines) == {("toy", clip) for clip in "abz"}
    one = scan(tmp_path, segments, files=files, splits=["train"])
    assert set(one.timelines) == {("toy", clip) for clip in "ab"}
    assert notes(one) == []
    assert len(scan(tmp_path, ONE, timeline=None).timelines) == 0


# --- folders of annotation files


def test_a_folder_of_annotation_files(tmp_path: Path) -> None:
    folder = tmp_path / "elan"
    (folder / "second").mkdir(parents=True)
    (folder / "a.eaf").write_text(
        eaf(tier("AH", aligned("x", 0, 1, "present"), aligned("y", 2, 3)), slots(1000, 2500, 3000, 4000))
    )
    (folder / "second" / "c.TextGrid").write_text(LONG.replace('says ""maybe"" 3 times', "yes"), encoding="utf-16")
    (folder / "d.eaf").write_text(eaf(""))
    (folder / "notes.txt").write_text("no annotation")
    table = scan(tmp_path, timeline="elan", tier="AH")
    assert of(table, "a") == Timeline(None, (Segment(1.0, 2.5, 1),))
    assert of(table, "c") == Timeline(None, (Segment(0.75, 2.0, 1),))
    assert of(table, "b") == Timeline(None)
    assert notes(table) == [("unusable_row", "elan/d.eaf", "no clip is named 'd'; known names are a, b, c")]


def test_files_are_named_as_clips_that_are_named_as_their_media(tmp_path: Path) -> None:
    folder = tmp_path / "elan"
    folder.mkdir()
    (folder / "a.eaf").write_text(eaf(tier("AH", aligned("x", 0, 1, "1")), slots(0, 500)))
    (tmp_path / "t.csv").write_text("")
    values = {
        "adapter": "table", "files": {"train": "u.csv"}, "id": "name", "timeline": "elan",
        "labels": {"ambivalence": HESITANT},
    }  # fmt: skip
    (tmp_path / "u.csv").write_text("name,hesitant\nvideos/a.mp4,yes\n")
    table = TableCorpus.model_validate(values).scan("toy", tmp_path, BUILTIN_TASKS)
    assert of(table, "videos/a.mp4") == Timeline(None, (Segment(0.0, 0.5, 1),)), "the only tier needs no name"


def test_what_is_wrong_with_annotation_files(tmp_path: Path) -> None:
    folder = tmp_path / "elan"
    folder.mkdir()
    (folder / "a.eaf").write_text(
        eaf(tier("AH", aligned("x", 0, 1, "maybe"), aligned("y", 0, 9, "1"), aligned("z", 1, 0, "1")), slots(0, 500))
    )
    (folder / "b.eaf").write_text("<a>")
    (folder / "b.TextGrid").write_text(LONG)
    (folder / "c.TextGrid").write_text(LONG.replace('"AH"', '"other"'))
    table = scan(tmp_path, timeline="elan", tier="AH")
    assert set(table.timelines) == {("toy", "a"), ("toy", "b")}
    assert of(table, "a") == Timeline(None, (Segment(0.0, 0.5, -1),), -1)
    assert sorted(notes(table)) == [
        ("bad_label", "elan/a.eaf, tier 'AH', interval 1, column 'label'",
         "unknown label 'maybe'; known names are 0, 1, absent, no, present, yes"),
        ("bad_label", "elan/b.TextGrid, tier 'AH', interval 2, column 'label'",
         "unknown label 'says \"maybe\" 3 times'; known names are 0, 1, absent, no, present, yes"),
        ("bad_span", "elan/a.eaf, tier 'AH', annotation y",
         "neither its time slots nor those around them have a time; it is not used"),
        ("bad_span", "elan/a.eaf, tier 'AH', interval 2",
         "the segment runs from 0.5 s to 0 s; it is not used, as it must end after it begins"),
        ("disagreement", "t.csv, row 2", "is labelled 'present', but no segment is; the clip's label stays"),
        ("ignored", "elan/b.eaf", "could be of clip 'b' as well as elan/b.TextGrid, which is used"),
    ]  # fmt: skip
    missing = table.defects[table.defects["kind"].eq("missing_annotation")]
    assert missing["reason"].tolist() == [
        "has no tier 'AH'; tiers are other, clicks é; the clip has no labels in time",
        "elan has nothing of this clip; it has no labels in time",
    ]
    (folder / "b.TextGrid").unlink()
    damaged = notes(scan(tmp_path, timeline="elan", tier="AH"))
    reason = "line 1: expected ELAN's <ANNOTATION_DOCUMENT>, found <a>; this annotation is not used"
    assert ("unusable_row", "elan/b.eaf", reason) in damaged


def test_a_tier_that_no_file_has(tmp_path: Path) -> None:
    folder = tmp_path / "grids"
    folder.mkdir()
    (folder / "a.TextGrid").write_text(LONG)
    with pytest.raises(CorpusError, match="no file of grids has intervals in a tier 'AHH'; did you mean 'AH'"):
        scan(tmp_path, timeline="grids", tier="AHH")
    with pytest.raises(CorpusError, match="tier: grids has several tiers; set it to one of AH, clicks é"):
        scan(tmp_path, timeline="grids")
    with pytest.raises(CorpusError, match="no file of grids has intervals in a tier 'clicks é'"):
        scan(tmp_path, timeline="grids", tier="clicks é")
