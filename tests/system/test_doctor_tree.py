"""The doctor finds 25 kinds of defects exactly where they are planted in a tree, and nothing in a clean one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from corpora.bah.corpus import BahCorpus
from corpora.fiv2.corpus import FirstImpressionsCorpus
from corpora.meld.corpus import MeldCorpus
from corpora.mosei.corpus import MoseiCorpus
from encoders.maintenance.inspection import MEDIA_KINDS
from mmpsr.config import load_config
from tests.support.doctor_tree import COUNTS, Media, build
from training.config import RunConfig
from training.doctor import doctor
from training.doctor.doctor import Diagnosis, examine

PLANTED = (
    # number, corpus, kind, severity, clip, where (its end), reason (part)
    (1, "bah", "bad_label", "error", "90102_Question_3_2024-03-01_10-00-00_Video", "train.txt, row 3", "neither 0"),
    (2, "bah", "consent_denied", "warning", "90103_Question_4_2024-03-01_10-00-00_Video", "train", "denied"),
    (3, "bah", "shared_group", "error", "90100_Question_2_2024-03-01_10-00-00_Video", "test", "'90100' is also in"),
    (4, "bah", "missing_media", "warning", "90104_Question_5_2024-03-01_10-00-00_Video", "train.txt, row 5", "no file"),
    (5, "bah", "disagreement", "warning", "90105_Question_6_2024-03-01_10-00-00_Video", "train.txt, row 6",
     "bah-video.csv has another label"),
    (6, "mosei", "missing_text", "warning", "mVid01-AbCd_0", "", "no transcript"),
    (7, "mosei", "mended", "note", "mVid03-AbCd_0", "", "it is cut from 0 s"),
    (8, "mosei", "unusable_row", "warning", None, "", "'strayVideo1' is in no fold"),
    (9, "mosei", "black", "warning", "mVid02-AbCd_0", "", "frames are black"),
    (10, "fiv2", "shared_text", "warning", "fIv2tube005.000", "test", "as 'fIv2tube000.001' in train"),
    (11, "fiv2", "unreadable", "warning", "fIv2tube001.000", "", "fIv2tube001.000.mp4"),
    (12, "fiv2", "no_audio", "warning", "fIv2tube001.001", "", "no sound stream"),
    (13, "fiv2", "no_face", "warning", "fIv2tube002.000", "", "no face found"),
    (14, "fiv2", "count_differs", "warning", None, "train", "7 of 6 published clips"),
    (15, "meld", "duplicate_id", "error", "train_dia0_utt1", "train_sent_emo.csv, row 4", "occurs already in"),
    (16, "meld", "silent", "warning", "train_dia1_utt1", "", "no sample of"),
    (17, "meld", "span_disagrees", "warning", "train_dia2_utt0", "", "the annotation says 2.00 s"),
    (18, "meld", "bad_span", "warning", "train_dia2_utt1", "train_sent_emo.csv, row 8", "longer than 40 s"),
    (19, "meld", "missing_annotation", "warning", None, "dia99_utt0.mp4", "that no row of"),
    (20, "table", "repeated_media", "warning", "row1", "train", "as clip 'row0' (train)"),
    (21, "table", "unknown_split", "error", None, "labels.csv, row 16, column 'part'", "'trian'; did you mean 'train'"),
    (22, "table", "span_outside", "warning", "row4", "", "runs from 0.5 s to 20 s"),
    (23, "table", "too_short", "warning", "row5", "", "lasts 0.20 s"),
    (24, "table", "shared_name", "warning", "row12", "test", "group 'fIv2tube001' is also in train of 'fiv2'"),
    (25, "table", "constant_label", "warning", None, "train", "emotion.Fear is absent in all 8 clips"),
)  # fmt: skip


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    return Media.write(tmp_path_factory.mktemp("media"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to build a tree; what its clean corpora hold counts as published."""
    for adapter, name in (
        (BahCorpus, "bah"), (FirstImpressionsCorpus, "fiv2"), (MeldCorpus, "meld"), (MoseiCorpus, "mosei"),
    ):  # fmt: skip
        monkeypatch.setattr(adapter, "published_counts", lambda self, name=name: COUNTS[name])
    monkeypatch.setattr(doctor, "weak_dev", lambda *_: [])  # all of these trees are too small for it
    monkeypatch.chdir(tmp_path)
    return tmp_path


with_and_without_media = pytest.mark.parametrize(
    "with_media", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["without media", "with media"]
)


def diagnose(with_media: bool) -> Diagnosis:
    return examine(load_config(RunConfig, "run.toml"), "run.toml", with_media)


@with_and_without_media
def test_a_clean_tree_has_no_finding(root: Path, media: Media, with_media: bool) -> None:
    build(root, media, planted=False)
    found = diagnose(with_media)
    assert found.findings == []
    assert found.exit_status == 0
    assert found.inspected == (sum(sum(counts.values()) for counts in COUNTS.values()) if with_media else None)
    for name, report in found.corpora.items():
        assert report.figures is not None
        splits = report.figures.splits
        assert {split: row.clips for split, row in splits.items()} == COUNTS[name]
        assert all(row.media == row.text == row.clips for row in splits.values())


@with_and_without_media
def test_25_kinds_of_defects_are_found_where_they_are_planted(root: Path, media: Media, with_media: bool) -> None:
    assert [number for number, *_ in PLANTED] == list(range(1, 26))
    assert len({kind for _, _, kind, *_ in PLANTED}) == 25
    build(root, media, planted=True)
    found = diagnose(with_media)
    expected = [row for row in PLANTED if with_media or row[2] not in MEDIA_KINDS]
    assert len(expected) == (25 if with_media else 17)
    by_kind = Counter((finding.corpus, finding.kind, finding.severity) for finding in found.findings)
    assert by_kind == Counter((corpus, kind, severity) for _, corpus, kind, severity, *_ in expected)
    cases = {finding.kind: finding.cases for finding in found.findings}
    for number, _, kind, _, clip, where, reason in expected:
        assert len(cases[kind]) == 1, cases[kind]
        (case,) = cases[kind]
        assert case.clip == clip, number
        assert (case.where or "").endswith(where), (number, case.where)
        assert reason in case.reason, (number, case.reason)
    assert found.exit_status == 1
    assert found.verdict[0] == "4 errors: training would be wrong; mend them first."
    assert found.verdict[1].startswith(f"{20 if with_media else 12} warnings: ")
    assert "red lamps" not in json.dumps(found.to_json())


def test_each_corpus_is_compared_with_its_published_counts(media: Media, tmp_path: Path) -> None:
    build(tmp_path, media, planted=False)
    config = load_config(RunConfig, tmp_path / "run.toml", [f"corpora.root='{tmp_path}'"])
    findings = [
        finding
        for finding in examine(config, "run.toml", False).findings
        if finding.severity == "warning" and finding.kind != "weak_dev"
    ]
    assert {finding.kind for finding in findings} == {"count_differs"}
    found = {(str(finding.corpus), str(case.where)): case.reason for finding in findings for case in finding.cases}
    assert found == {
        # BAH's release is told by its files
        ("bah", "train"): "6 of 778 published clips", ("bah", "dev"): "2 of 124 published clips",
        ("bah", "test"): "4 of 525 published clips",
        ("mosei", "train"): "8 of 16,327 published clips", ("mosei", "dev"): "2 of 1,871 published clips",
        ("mosei", "test"): "4 of 4,662 published clips",
        ("fiv2", "train"): "6 of 6,000 published clips", ("fiv2", "dev"): "2 of 2,000 published clips",
        ("fiv2", "test"): "4 of 2,000 published clips",
        ("meld", "train"): "8 of 9,989 published clips", ("meld", "dev"): "2 of 1,109 published clips",
        ("meld", "test"): "4 of 2,610 published clips",
    }  # fmt: skip
