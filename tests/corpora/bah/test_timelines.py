"""Labels in time of BAH's videos: from each source, by number, and what is noted where sources differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from corpora.bah.corpus import BahCorpus
from corpora.clips import ClipTable
from corpora.demo.layouts import BahVideo, bah_path, write_bah
from corpora.reading.untrusted import read_yaml
from mmpsr.tasks import AMBIVALENCE
from tests.support.bah_tree import FRENCH, MARKED, PARTICIPANTS, PLAIN, PRIVATE, TESTED, change

ANNOTATION = "video_annotation_transcript.yaml"
TRAIN = "split-frames/train.txt"
TASKS = {"ambivalence": AMBIVALENCE}
# MARKED has 4 frames per second and is present from 1 to 2.5 s and from 4 to 5.25 s: frames 4 to 10 and 16 to 21 of 24
IN_TIME = [0] * 4 + [1] * 7 + [0] * 5 + [1] * 6 + [0] * 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five videos of which one is of a private test; `bah/` below the root `tmp_path`."""
    write_bah(tmp_path / "bah", (PLAIN, MARKED, FRENCH, TESTED, PRIVATE), PARTICIPANTS)
    return tmp_path / "bah"


def scan(folder: Path, **settings: Any) -> ClipTable:
    corpus = BahCorpus.model_validate({"adapter": "bah", "path": "bah", "timelines": True, **settings})
    return corpus.scan("bah", folder.parent, TASKS).validate(TASKS)


def labels(table: ClipTable, video: BahVideo, length: int | None = None) -> list[int]:
    timeline = table.timelines["bah", bah_path(video).stem]["ambivalence"]
    return timeline.labels(video.num_frames if length is None else length, Fraction(4)).tolist()


def notes(table: ClipTable, *kinds: str) -> list[tuple[str, str, str]]:
    rows = table.defects[table.defects["kind"].isin(kinds or ["disagreement", "bad_label", "bad_span"])]
    return list(rows[["kind", "where", "reason"]].itertuples(index=False, name=None))


def annotate(folder: Path, edit: Callable[[dict[str, Any]], object], video: BahVideo = MARKED) -> None:
    """Change what the annotation says of a video."""
    path = folder / ANNOTATION
    said = json.loads(json.dumps(read_yaml(path, path.name)))
    edit(said[str(bah_path(video))])
    path.write_text(yaml.dump(said, Dumper=yaml.CDumper, default_flow_style=False), encoding="utf-8")


def without_lists(folder: Path) -> None:
    for file in (folder / "split-frames").iterdir():
        file.unlink()


def test_frames_of_the_lists(folder: Path) -> None:
    table = scan(folder)
    assert labels(table, MARKED) == IN_TIME
    assert labels(table, PLAIN) == [0] * 6
    assert labels(table, FRENCH) == [1] * 7 + [0] * 5  # 0 to 1.5 s: frames 0 to 6
    assert labels(table, MARKED, 26) == [*IN_TIME, -1, -1], "no line says what comes after the last"
    assert ("bah", bah_path(PRIVATE).stem) not in table.timelines, "its labels are placeholders"
    assert len(table.timelines) == 4
    assert notes(table) == []


def test_the_sources_agree_on_an_intact_corpus_and_are_the_same(folder: Path) -> None:
    from_lists = scan(folder)
    without_lists(folder)
    from_annotation = scan(folder)
    assert from_annotation.timelines == from_lists.timelines
    annotate(folder, lambda said: said.pop("frame_annotation"))
    from_spans = scan(folder)
    assert labels(from_spans, MARKED) == IN_TIME
    assert labels(from_spans, MARKED, 26) == [*IN_TIME, 0, 0], "what no segment holds is absent"
    assert notes(from_annotation) == notes(from_spans) == []


def test_lines_are_told_by_number_in_whatever_order_they_stand(folder: Path) -> None:
    lines = (folder / TRAIN).read_text(encoding="utf-8").splitlines()
    (folder / TRAIN).write_text("\n".join(sorted(lines, key=lambda line: line[::-1])) + "\n", encoding="utf-8")
    table = scan(folder)
    assert labels(table, MARKED) == IN_TIME
    assert labels(table, PLAIN) == [0] * 6
    assert notes(table) == []


def test_a_video_that_the_lists_lack_is_noted(folder: Path) -> None:
    (folder / "split-frames/val.txt").unlink()
    table = scan(folder)
    assert labels(table, FRENCH) == [1] * 7 + [0] * 5
    reason = "the lists of frames do not have it; its labels in time are those of its annotation"
    assert notes(table, "missing_annotation") == [("missing_annotation", "bah/split/val.txt, row 1", reason)]


def test_an_annotation_without_spans_contradicts_nothing(folder: Path) -> None:
    annotate(folder, lambda said: said.pop("fr_detailed_ah"))
    annotate(folder, lambda said: said.pop("frame_annotation"))
    table = scan(folder)
    assert labels(table, MARKED) == IN_TIME
    assert notes(table) == []


def test_the_last_frame_of_a_segment_belongs_to_it(folder: Path) -> None:
    without_lists(folder)
    annotate(folder, lambda said: said.update(fr_detailed_ah=[[3, 3], [5, 6]], frame_annotation=[]))
    assert labels(scan(folder), MARKED, 9) == [0, 0, 0, 1, 0, 1, 1, 0, 0]


def test_the_label_of_the_video_is_its_own(folder: Path) -> None:
    change(folder / TRAIN, f"{bah_path(PLAIN)}/frame-2.jpg,0", f"{bah_path(PLAIN)}/frame-2.jpg,1")
    lines = (folder / TRAIN).read_text(encoding="utf-8").splitlines()
    lines = [line[:-1] + "0" if str(bah_path(MARKED)) in line else line for line in lines]
    (folder / TRAIN).write_text("\n".join(lines), encoding="utf-8")
    annotate(folder, lambda said: said.update(frame_annotation=[], fr_detailed_ah=[]))
    table = scan(folder)
    assert labels(table, MARKED) == [0] * 24
    assert labels(table, PLAIN) == [0, 0, 1, 0, 0, 0]
    present = table.clips.set_index("clip_id")["ambivalence.present"]
    assert present[[bah_path(MARKED).stem, bah_path(PLAIN).stem]].tolist() == [1.0, 0.0]
    plain, marked = "bah/split/train.txt, row 1", "bah/split/train.txt, row 2"
    first = "labels 1 of 6 frames otherwise than the list of frames, which is used; the first is frame-2"
    assert notes(table) == [
        ("disagreement", plain, f"frame_annotation {first}"),
        ("disagreement", plain, f"fr_detailed_ah {first}"),
        (
            "disagreement",
            plain,
            "is labelled absent, but 1 of its frames are present; the video's label stays",
        ),
        ("disagreement", marked, "is labelled present, but none of its frames is; the video's label stays"),
    ]


def test_a_present_video_without_any_segment_is_noted_and_has_no_labels_in_time(folder: Path) -> None:
    without_lists(folder)
    for video in (MARKED, PLAIN):
        annotate(folder, lambda said: said.update(frame_annotation=[], fr_detailed_ah=[], time_detailed_ah=[]), video)
    table = scan(folder)
    assert ("bah", bah_path(MARKED).stem) not in table.timelines
    assert labels(table, PLAIN, 3) == [0, 0, 0], "nothing is present in a video that is absent"
    reason = "no list of frames, frame_annotation or fr_detailed_ah says when; it has no labels in time"
    assert notes(table, "missing_annotation") == [("missing_annotation", "bah/split/train.txt, row 2", reason)]


def test_where_sources_differ_the_list_is_used(folder: Path) -> None:
    annotate(folder, lambda said: said["frame_annotation"].pop())
    annotate(folder, lambda said: said.update(fr_detailed_ah=[[4, 10], [16, 25]]))
    table = scan(folder)
    assert labels(table, MARKED) == IN_TIME
    place = "bah/split/train.txt, row 2"
    assert notes(table) == [
        ("disagreement", place, "fr_detailed_ah ends with frame 25, but the list of frames with frame 23"),
        ("disagreement", place, "frame_annotation has 23 frames, the list of frames 24, which is used"),
        (
            "disagreement",
            place,
            "fr_detailed_ah labels 2 of 24 frames otherwise than the list of frames, which is used; the first is "
            "frame-22",
        ),
    ]


def test_what_is_wrong_with_the_lines_is_noted(folder: Path) -> None:
    path = bah_path(MARKED)
    change(folder / TRAIN, f"{path}/frame-5.jpg,1", f"{path}/frame-5.jpg,yes")
    change(folder / TRAIN, f"{path}/frame-1.jpg,0\n", "")
    with (folder / TRAIN).open("a", encoding="utf-8") as lines:
        lines.write(f"{path}/frame-4.jpg,0\n{path}/frame-123456789012345678901234567890.jpg,1\n")
    table = scan(folder)
    expected = IN_TIME.copy()
    expected[5] = expected[1] = -1
    assert labels(table, MARKED) == expected
    place = "bah/split-frames/train.txt, row 7"  # after the six of PLAIN
    assert notes(table, "unusable_row", "bad_label", "disagreement", "missing_label") == [
        ("unusable_row", place, "no video has a frame 123456789012345678901234567890; it is not used"),
        (
            "bad_label",
            place,
            "the labels of 1 frames are neither 0 (absent) nor 1 (present), the first: 'yes' of frame-5",
        ),
        (
            "disagreement",
            place,
            "1 frames are labelled twice and otherwise, the first is frame-4; what stands first is used",
        ),
        ("missing_label", place, "1 of frames 0 to 23 are missing, the first is frame-1; their labels are unknown"),
    ]


@pytest.mark.parametrize("span", [[5, 4], [-1, 4], [1.5, 4], [3], "all", [True, 4], [0, 10**9], [float("nan"), 4]])
def test_spans_that_cannot_be_are_not_used(folder: Path, span: object) -> None:
    without_lists(folder)
    annotate(folder, lambda said: said.update(frame_annotation=[], fr_detailed_ah=[span, [2, 3]]))
    table = scan(folder)
    assert labels(table, MARKED, 5) == [-1, -1, 1, 1, -1], "where the other span lies is unknown"
    ((kind, where, reason),) = notes(table)
    assert (kind, where[-16:]) == ("bad_span", "fr_detailed_ah 0")
    assert reason.endswith("is no [first frame, last frame] with the first one first; it is not used")


def test_spans_that_are_no_list_are_noted(folder: Path) -> None:
    without_lists(folder)
    for video in (MARKED, PLAIN):
        annotate(folder, lambda said: said.update(frame_annotation=[], fr_detailed_ah="4 to 10"), video)
    table = scan(folder)
    assert ("bah", bah_path(MARKED).stem) not in table.timelines
    assert labels(table, PLAIN, 2) == [-1, -1]
    assert [reason for _, _, reason in notes(table)] == ["expected a list of segments, found '4 to 10'"] * 2


def test_they_are_read_only_where_they_are_asked_for_and_of_whole_videos(folder: Path) -> None:
    table = scan(folder, timelines=False)
    assert table.timelines == {}
    assert "timelines" not in table.clips
    with pytest.raises(ValidationError, match="`timelines` are of whole videos, but level is 'segment'"):
        scan(folder, level="segment")


def test_other_splits_are_not_read(folder: Path) -> None:
    table = scan(folder, splits=["dev"])
    assert set(table.timelines) == {("bah", bah_path(FRENCH).stem)}
    anew = scan(folder, fractions={"train": 0.5, "test": 0.5})
    assert len(anew.timelines) == 4


def test_a_hundred_frames_come_in_the_order_of_numbers(tmp_path: Path) -> None:
    """Names in alphabetical order would put frame 10 before frame 2."""
    video = replace(PLAIN, label=1, num_frames=101, segments=[(2.0, 2.5), (25.0, 25.0)])
    write_bah(tmp_path / "bah", [video], PARTICIPANTS)
    (tmp_path / "bah" / TRAIN).write_text(
        "".join(sorted((tmp_path / "bah" / TRAIN).read_text(encoding="utf-8").splitlines(keepends=True)))
    )
    assert np.flatnonzero(labels(scan(tmp_path / "bah"), video)).tolist() == [8, 9, 10, 100]
