"""Checks and figures of clip tables: each finds what is planted, and nothing in a clean table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.checks.findings import (
    Case,
    Finding,
    between_corpora,
    between_splits,
    check_corpus,
    file_sizes,
    text_keys,
    without_texts,
)
from corpora.checks.statistics import ClassFigures, ConsentFigures, SplitFigures, corpus_figures
from corpora.table import TableCorpus
from mmpsr.tasks import AMBIVALENCE, EMOTION, PERSONALITY, TaskSpec
from tests.support.clip_tables import table_of

LONG = "we packed the blue tent before the rain began"  # 9 words
TRAITS = [f"personality.{name}" for name in PERSONALITY.classes]


class Counted(TableCorpus):
    """A table with published counts."""

    def published_counts(self) -> dict[str, int]:
        return {"train": 4, "dev": 2, "test": 2}


class Overlapping(TableCorpus):
    """A table whose official splits are known to share groups."""

    groups_overlap = True


def source(kind: type[TableCorpus] = Counted, **changes: Any) -> TableCorpus:
    values = {"adapter": "table", "files": "t.csv", "id": "id", "split": "split", **changes}
    return kind.model_validate(values)


def anew(kind: type[TableCorpus] = Counted) -> TableCorpus:
    return source(kind, split=None, fractions={"train": 0.5, "dev": 0.5})


def clean(corpus: str = "mine", prefix: str = "Clip") -> list[dict[str, Any]]:
    """Four clips of train, two of dev and two of test, with labels of all kinds that vary."""
    return [
        {
            "corpus": corpus, "split": split, "clip_id": f"{prefix}-number-{number}", "group": f"{prefix}Group{number}",
            "group_kind": "video", "text": f"in {corpus} speaker {number} said nothing that others said in {split}",
            "speaker": f"s{number % 2}", "language": "en", "media": f"media/{prefix}-{number}.mp4", "start": 1.0,
            "end": 3.5, "consent_challenges": True, "consent_publications": number % 2 == 0,
            "ambivalence.absent": float(number % 2), "ambivalence.present": 1.0 - number % 2,
            **{f"emotion.{name}": float((number + place) % 3 == 0) for place, name in enumerate(EMOTION.classes)},
            **dict.fromkeys(TRAITS, 0.1 * number),
        }
        for number, split in enumerate(["train"] * 4 + ["dev"] * 2 + ["test"] * 2)
    ]  # fmt: skip


TASKS: dict[str, TaskSpec] = {"ambivalence": AMBIVALENCE, "emotion": EMOTION, "personality": PERSONALITY}


def check(rows: list[dict[str, Any]], of: TableCorpus | None = None, defects: Any = (), **sizes: int) -> list[Finding]:
    table = table_of(rows, defects)
    of = of or source()
    found = check_corpus(
        "mine", of, table, table.clips, TASKS, {path.replace("_", "."): n for path, n in sizes.items()}
    )
    return [*found, *between_splits("mine", of, table.clips)]


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, [finding.kind for finding in found]
    return found[0]


def told(finding: Finding) -> tuple[str, str, list[tuple[str | None, str | None, str]]]:
    return finding.kind, finding.severity, [(case.clip, case.where, case.reason) for case in finding.cases]


def test_nothing_is_found_in_a_clean_table() -> None:
    assert check(clean()) == []
    tables = {name: table_of(clean(name, name.title())).clips for name in ("one", "two")}
    assert list(between_corpora(tables, ("one", "two"))) == []


def test_defects_are_gathered_by_kind_in_the_order_of_the_kinds() -> None:
    defects = [
        ("mine", "a", "mended", "t.csv, row 2", "put right"),
        ("mine", None, "bad_label", "t.csv, row 3", "no class"),
        ("mine", "b", "mended", "t.csv, row 4", "put right too"),
    ]
    label, mended = check(clean(), defects=defects)
    assert told(label) == ("bad_label", "error", [(None, "t.csv, row 3", "no class")])
    reasons = [("a", "t.csv, row 2", "put right"), ("b", "t.csv, row 4", "put right too")]
    assert told(mended) == ("mended", "note", reasons)
    assert (label.corpus, label.count, mended.count) == ("mine", 1, 2)


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("unknown label 'sad'; did you mean 'Sadness'?", "unknown label 'sad'; did you mean 'Sadness'?"),
        ("'and then we left it' is not a number", "'...' (5 words) is not a number"),
        ('"he isn\'t here any more" is not a number', "'...' (5 words) is not a number"),
        (r"""'he isn\'t "here" any more' is no label""", "'...' (5 words) is no label"),
        ("set the corpus' path or its files, see 'x'", "set the corpus' path or its files, see 'x'"),
        ("'1_Question_2 10-11_Video.mp4' is missing", "'1_Question_2 10-11_Video.mp4' is missing"),
    ],
)
def test_reasons_carry_no_transcript(reason: str, shown: str) -> None:
    assert without_texts(reason) == shown
    finding = only(check(clean(), defects=[("mine", None, "bad_label", "t.csv", reason)]))
    assert finding.cases[0].reason == shown


def test_counts_are_compared_with_the_published_ones() -> None:
    finding = only(check(clean()[1:]))
    assert told(finding) == ("count_differs", "warning", [(None, "train", "3 of 4 published clips")])
    assert finding.message == "other numbers of clips than were published"
    extra = {**clean()[-1], "clip_id": "more", "media": "other.mp4", "text": "short", "group": "alone"}
    cases = [(None, "train", "3 of 4 published clips"), (None, "test", "3 of 2 published clips")]
    assert told(only(check([*clean(), extra][1:])))[2] == cases
    # only splits that are asked for
    cases = [(None, "dev", "0 of 2 published clips"), (None, "test", "0 of 2 published clips")]
    assert told(check(clean()[1:4], source(splits=["test", "dev"]))[0])[2] == cases[::-1]
    assert check(clean(), source(TableCorpus, splits=["test"])) == []
    # of splits made anew only the total can be compared
    assert [finding.kind for finding in check(clean(), anew())] == ["few_groups"]
    counts, dealt = check(clean()[1:], anew())
    assert told(counts)[2] == [(None, "all splits", "7 of 8 published clips")]
    assert [finding.kind for finding in check(clean()[1:], anew().model_copy(update={"splits": ("train",)}))] == [
        "few_groups"
    ]
    # seven of eight clips, each with a group of its own
    assert dealt.message == (
        "dealt 7 groups: train 3 groups (3 clips), dev 2 groups (2 clips), test 2 groups (2 clips); with so few, the "
        "shares are rough"
    )
    assert (dealt.severity, dealt.cases[1]) == (
        "note", Case(None, "dev", "groups (clips): ClipGroup4 (1), ClipGroup5 (1)")
    )  # fmt: skip
    assert check(clean()[1:], source(TableCorpus)) == []


def test_classes_that_cannot_be_learned() -> None:
    rows = clean()
    for row in rows[:4]:
        row |= {"emotion.Fear": 0.0, "emotion.Anger": 0.2, "ambivalence.absent": 1.0, "ambivalence.present": 0.0}
        row |= {"personality.openness": 0.25}
    ambivalence, emotion, personality = check(rows)
    assert {found.kind for found in (ambivalence, emotion, personality)} == {"constant_label"}
    assert {found.severity for found in (ambivalence, emotion, personality)} == {"warning"}
    assert [case.reason for case in ambivalence.cases] == [
        "ambivalence.absent is present in all 4 clips", "ambivalence.present is absent in all 4 clips",
    ]  # fmt: skip
    assert emotion.message == "2 of 7 classes of task 'emotion' cannot be learned from train"
    assert [case.reason for case in emotion.cases] == [
        "emotion.Anger is present in all 4 clips", "emotion.Fear is absent in all 4 clips",
    ]  # fmt: skip
    assert told(personality)[2] == [(None, "train", "personality.openness is 0.25 for all 4 clips")]
    # other splits may be as they are, and a class that is not annotated is not constant
    rows = clean()
    for row in rows[4:]:
        row |= {"emotion.Fear": 0.0}
    for row in rows[:4]:
        row |= {"emotion.Surprise": np.nan}
    assert check(rows) == []


def test_a_split_without_labels() -> None:
    rows = clean()
    rows[6] |= {"ambivalence.absent": np.nan, "ambivalence.present": np.nan}
    assert check(rows) == []
    rows[7] |= {"ambivalence.absent": np.nan, "ambivalence.present": np.nan}
    finding = only(check(rows))
    reason = "none of 2 test clips has a label of task 'ambivalence'"
    assert told(finding) == ("unlabeled_split", "warning", [(None, "test", reason)])
    # labels that the corpus withholds are no surprise
    withheld = [("mine", row["clip_id"], "unlabeled", "test.txt", "withheld") for row in rows[6:]]
    notes = check(rows, defects=withheld)
    assert [(found.kind, found.severity) for found in notes] == [("unlabeled", "note"), ("unlabeled_split", "note")]
    assert check(rows, defects=withheld[:1])[1].severity == "warning"


def test_empty_files() -> None:
    rows = [{**row, "audio_media": "a.wav"} if row["split"] == "dev" else row for row in clean()]
    rows[0] |= {"fallback_media": "c.wav"}
    finding = only(check(rows, a_wav=0, b_wav=0, c_wav=1))
    reason = "the file is empty (0 bytes)"
    cases = [("Clip-number-4", "a.wav", reason), ("Clip-number-5", "a.wav", reason)]
    assert told(finding) == ("empty_media", "warning", cases)


def test_clips_of_one_file_that_are_the_same() -> None:
    rows = clean()
    rows[1] |= {"media": rows[0]["media"]}
    rows[6] |= {"media": rows[0]["media"]}
    finding = only(check(rows))
    reason = "the same file and span as clip 'Clip-number-0' (train)"
    cases = [("Clip-number-1", "train", reason), ("Clip-number-6", "test", reason)]
    assert told(finding) == ("repeated_media", "warning", cases)
    # a span that is not given is the whole file
    for row in rows[:2]:
        row |= {"start": np.nan, "end": np.nan}
    rows[6] |= {"media": "own.mp4"}
    assert only(check(rows)).kind == "repeated_media"
    rows[1] |= {"start": 0.0, "end": np.nan}
    assert only(check(rows)).kind == "repeated_media"
    for row in rows[:2]:
        row |= {"text": LONG}
    assert only(check(rows)).kind == "repeated_media"


def test_clips_of_one_file_that_say_the_same() -> None:
    rows = clean()
    rows[1] |= {"media": rows[0]["media"], "start": 5.0, "end": 8.0, "text": LONG.upper()}
    rows[0] |= {"text": LONG.replace(" ", "  ")}
    finding = only(check(rows))
    reason = "the same file and transcript as clip 'Clip-number-0' (train)"
    assert told(finding) == ("repeated_text", "warning", [("Clip-number-1", "train", reason)])
    for row in rows[:2]:
        row |= {"text": " ".join(LONG.split()[:7])}
    assert check(rows) == []


def test_clips_of_one_file_that_overlap() -> None:
    rows = clean()
    file = rows[0]["media"]
    rows[1] |= {"media": file, "start": 3.5, "end": 20.0}  # begins where the first ends
    assert check(rows) == []
    rows[2] |= {"media": file, "start": 19.0, "end": 19.5}
    finding = only(check(rows))
    reason = "begins before the end of an earlier clip of the same file"
    assert told(finding) == ("overlapping_spans", "note", [("Clip-number-2", "train", reason)])
    rows[2] |= {"start": 30.0, "end": 31.0}
    rows[6] |= {"media": file, "start": 30.5, "end": np.nan}
    finding = only(check(rows))
    reason += " in another split"
    assert told(finding) == ("overlapping_spans", "warning", [("Clip-number-6", "test", reason)])
    # a test clip overlaps one of train although a later test clip lies between
    rows[6] |= {"start": 18.0, "end": 19.0}
    rows[7] |= {"media": file, "start": 19.5, "end": 20.5}
    assert [case.clip for case in only(check(rows)).cases] == ["Clip-number-6", "Clip-number-7"]


def test_denied_consent() -> None:
    rows = clean()
    rows[0] |= {"consent_challenges": False}
    rows[1] |= {"consent_challenges": False, "group": rows[0]["group"]}
    rows[2] |= {"consent_challenges": None}
    finding = only(check(rows))
    assert finding.message == "in use, though use in challenges is denied (groups: 1)"
    reason = "use in challenges is denied"
    cases = [("Clip-number-0", "train", reason), ("Clip-number-1", "train", reason)]
    assert told(finding) == ("consent_denied", "warning", cases)


def test_groups_in_several_splits() -> None:
    rows = clean()
    rows[6] |= {"group": rows[0]["group"]}
    rows[7] |= {"group": rows[4]["group"]}
    finding = only(check(rows))
    cases = [
        ("Clip-number-6", "test", "group 'ClipGroup0' is also in train"),
        ("Clip-number-7", "test", "group 'ClipGroup4' is also in dev"),
    ]
    assert told(finding) == ("shared_group", "error", cases)
    assert finding.message.startswith(
        "1 of 2 test clips share a group with train, 1 of 2 test clips share a group with dev; "
        "2 groups are in several splits: figures"
    )
    assert "corpora.sources.mine.fractions = { train = 0.6, dev = 0.2, test = 0.2 } splits by group" in finding.message
    known = only(check(rows, source(Overlapping)))
    assert (known.kind, known.severity) == ("shared_group", "warning")
    assert "the official splits are known for that" in known.message
    assert "known for that" not in finding.message
    assert [finding.kind for finding in check(rows, anew())] == ["few_groups"]


def test_transcripts_in_several_splits() -> None:
    rows = clean()
    rows[1] |= {"text": LONG}
    rows[2] |= {"text": LONG}
    rows[4] |= {"text": f" {LONG.title()}"}
    finding = only(check(rows))
    reason = "the same transcript of at least 8 words as 'Clip-number-1' in train"
    assert told(finding) == ("shared_text", "warning", [("Clip-number-4", "dev", reason)])
    assert finding.message == ("1 of 2 dev clips share the same transcript of at least 8 words with train")
    assert LONG not in str(finding).casefold()
    for row in rows[1:5]:
        row |= {"text": "seven words are too few to tell"}
    assert check(rows) == []
    for row in rows[1:5]:
        row |= {"text": None}
    assert check(rows) == []


def test_words_are_counted_whatever_stands_between_them() -> None:
    texts = pd.DataFrame({"text": ["a b c d e f g", " A\tb  c d e f g\nH ", None, ""]})
    assert text_keys(texts).isna().tolist() == [True, False, True, True]
    assert text_keys(texts)[1] == "a b c d e f g h"


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("clip_id", "Clip-number-0", "id 'Clip-number-0' is also in train of 'mine'"),
        ("group", "ClipGroup3", "group 'ClipGroup3' is also in train of 'mine'"),
        ("group", "Clip-number-0", "group 'Clip-number-0' is also in train of 'mine'"),
        ("media", "elsewhere/ClipGroup3.wav", "file name 'ClipGroup3' is also in train of 'mine'"),
        ("media", "media/Clip-0.mp4", "file 'media/Clip-0.mp4' is also in train of 'mine'"),
        ("clip_id", "film_10234", "id 'film_10234' is also in train of 'mine'"),
    ],
)
def test_names_shared_between_corpora(column: str, value: str, reason: str) -> None:
    mine, other = clean(), clean("other", "Other")
    mine[2] |= {"group": "film_10234"}
    mine[7] |= {"group": "film_10234"}  # within a corpus it is another finding
    other[5] |= {column: value}
    used = {"mine": table_of(mine).clips, "other": table_of(other).clips}
    finding = only(list(between_corpora(used, ("mine", "other"))))
    assert told(finding) == ("shared_name", "warning", [(other[5]["clip_id"], "dev", reason)])
    assert finding.corpus == "other"
    assert finding.message == ("1 of 4 dev and test clips share an id, a group or a file's name with train of 'mine'")
    # a corpus that is not trained on has no train
    assert list(between_corpora(used, ("other",))) == []
    assert list(between_corpora({"other": used["other"]}, ("mine", "other"))) == []


@pytest.mark.parametrize("name", ["s1", "speaker_12", "Ses01", "video_0001"])
def test_names_that_recur_by_chance(name: str) -> None:
    mine, other = clean(), clean("other", "Other")
    mine[0] |= {"group": name}
    other[5] |= {"group": name}
    used = {"mine": table_of(mine).clips, "other": table_of(other).clips}
    assert list(between_corpora(used, ("mine", "other"))) == []


def test_transcripts_shared_between_corpora() -> None:
    mine, other = clean(), clean("other", "Other")
    mine[0] |= {"text": LONG}
    other[7] |= {"text": LONG}
    other[3] |= {"text": LONG}  # train of both may be alike
    mine[1] |= {"text": "too short"}
    other[6] |= {"text": "too short"}
    used = {"mine": table_of(mine).clips, "other": table_of(other[4:]).clips}
    finding = only(list(between_corpora(used, ("mine", "other"))))
    reason = "the same transcript of at least 8 words as a clip in train of 'mine'"
    assert told(finding) == ("shared_text", "warning", [("Other-number-7", "test", reason)])


def test_sizes_of_files_that_exist(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"12345")
    (tmp_path / "b.wav").write_bytes(b"123")
    rows = clean()
    rows[0] |= {"media": str(tmp_path / "a.mp4"), "audio_media": str(tmp_path / "b.wav")}
    rows[1] |= {"fallback_media": str(tmp_path / "a.mp4")}
    sizes = file_sizes(table_of(rows).clips)
    assert sizes == {str(tmp_path / "a.mp4"): 5, str(tmp_path / "b.wav"): 3}


def test_figures() -> None:
    rows = clean()
    rows[0] |= {"text": None, "release": "2026", "description": "frowns", "faces": "faces/0", "start": np.nan}
    rows[1] |= {"group": rows[0]["group"], "end": np.nan, "language": "fr", "consent_challenges": None}
    rows[2] |= {"audio_media": "sound.wav", "fallback_media": "full.mp4", "speaker": None, "consent_challenges": False}
    rows[3] |= {f"emotion.{name}": np.nan for name in EMOTION.classes}
    clips = table_of(rows).clips
    clips["raw.annotated_seconds"] = pd.Series(["9", "1.25", *["9"] * 6], dtype="string")
    sizes = {"media/Clip-0.mp4": 10, "sound.wav": 5, "full.mp4": 7}
    annotated = {"ambivalence": AMBIVALENCE, "emotion": EMOTION}
    figures = corpus_figures(source(), clips, annotated, TASKS, sizes)
    # spans of train: 3.5 s (from the beginning), 1.25 s as annotated, 2.5 s, 2.5 s
    assert figures.splits["train"] == SplitFigures(
        clips=4, published=4, groups=3, speakers=2, seconds=9.75, media=1, audio_media=1, fallback_media=1, faces=1,
        text=3, description=1,
    )  # fmt: skip
    assert (figures.num_files, figures.num_bytes) == (3, 22)
    assert figures.releases == {"unknown": 7, "2026": 1}
    assert figures.languages == {"en": 7, "fr": 1}
    assert figures.unannotated == ["personality"]
    assert figures.consent == {
        "challenges": ConsentFigures({"yes": 6, "no": 1, "unknown": 1}, {"yes": 6, "no": 1, "unknown": 1}),
        "publications": ConsentFigures({"yes": 4, "no": 4, "unknown": 0}, {"yes": 4, "no": 4, "unknown": 0}),
    }
    emotion = figures.labels["emotion"]["train"]
    # Neutral of clips 0, 1, 2: 1, 0, 0; Fear (place 3): 1, 0, 0; place 1: 0, 0, 1; place 2: 0, 1, 0
    assert emotion.labeled == 3
    assert emotion.classes["Neutral"] == ClassFigures(3, 0.0, 0.333333, 1.0, 1, 0.333333)
    assert emotion.imbalance == 1.0
    none = corpus_figures(source(), clips, {"emotion": EMOTION}, {"emotion": EMOTION}, {})
    assert none.splits["train"].media == 0
    assert none.unannotated == []


def test_figures_of_numbers_and_of_what_is_unknown() -> None:
    rows = clean()
    for row in rows:
        row |= {"end": np.nan, "personality.openness": np.nan}
    rows[3] |= {"ambivalence.absent": 0.0, "ambivalence.present": 1.0}
    figures = corpus_figures(anew(), table_of(rows).clips, TASKS, {}, {})
    train = figures.splits["train"]
    assert (train.seconds, train.published) == (None, None)
    traits = figures.labels["personality"]["train"]
    assert traits.classes["openness"] == ClassFigures(0, None, None, None, None, None)
    assert traits.classes["extraversion"] == ClassFigures(4, 0.0, 0.15, 0.3, None, None)  # 0, 0.1, 0.2, 0.3
    assert traits.imbalance is None
    assert (traits.labeled, figures.unannotated) == (4, [])
    ambivalence = figures.labels["ambivalence"]["train"]  # present in clips 0, 2, 3
    assert ambivalence.imbalance == 3.0
    assert ambivalence.classes["present"] == ClassFigures(4, 0.0, 0.75, 1.0, 3, 0.75)


def test_a_soft_label_counts_from_one_half_only_where_a_clip_has_one_class() -> None:
    rows = [row | {"emotion.Anger": 0.3} for row in clean()]
    figures = corpus_figures(source(), table_of(rows).clips, TASKS, TASKS, {})
    assert figures.labels["emotion"]["train"].classes["Anger"].positive == 4
    rows = [row | {"ambivalence.absent": 0.3, "ambivalence.present": 0.7} for row in clean()]
    classes = corpus_figures(source(), table_of(rows).clips, TASKS, TASKS, {}).labels["ambivalence"]["dev"]
    assert (classes.classes["absent"].positive, classes.classes["present"].positive) == (0, 2)


def test_a_finding_without_cases_counts_once() -> None:
    assert Finding(None, "bad_setting", "error", "no").count == 1
    assert Finding(None, "bad_label", "error", "no", (Case("a", None, "x"), Case("b", None, "x"))).count == 2
