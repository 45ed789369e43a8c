"""The doctor: what it examines, what it says, and when training may begin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from corpora.clips import CorpusError
from encoders.maintenance import inspection
from mmpsr.config import ConfigError, load_config
from tests.support.media_files import tone, write_media
from training.config import RunConfig
from training.doctor import doctor
from training.doctor.doctor import Diagnosis, examine
from training.doctor.report import render

SOURCE = """
[corpora.sources.{name}]
adapter = "table"
files = "{name}.csv"
id = "id"
text = "text"
split = "split"
group = "group"
media = "media"
language = "en"
labels.ambivalence = {{ column = "label" }}
"""
REST = """
[features]
encoders = { text = "minilm" }
num_workers = 3
[data]
modalities = ["text"]
[tasks]
active = ["ambivalence"]
"""


def rows(name: str) -> list[dict[str, str]]:
    return [
        {
            "id": f"{name}{number}", "text": f"clip {number} of {name} tells of something else than all the others do",
            "split": split, "group": f"g{number}", "media": "", "label": ("absent", "present")[number % 2],
        }
        for number, split in enumerate(["train"] * 4 + ["dev"] * 2 + ["test"] * 2)
    ]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "weak_dev", lambda *_: [])  # two clips of dev are too few for it, and enough here
    write(one=rows("one"), two=rows("two"))
    return tmp_path


def write(**tables: list[dict[str, str]]) -> None:
    text = '[corpora]\nroot = "."\n' + "".join(SOURCE.format(name=name) for name in tables) + REST
    Path("run.toml").write_text(text, encoding="utf-8")
    for name, table in tables.items():
        pd.DataFrame(table).to_csv(f"{name}.csv", index=False)


def diagnose(*settings: str, with_media: bool = False) -> Diagnosis:
    return examine(load_config(RunConfig, "run.toml", settings), "run.toml", with_media)


def told(found: Diagnosis) -> list[tuple[str | None, str, str]]:
    return [(finding.corpus, finding.kind, finding.message) for finding in found.findings]


def shown(found: Diagnosis, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(render(found))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_nothing_is_found_where_all_is_well(place: Path) -> None:
    found = diagnose()
    assert found.findings == []
    assert found.exit_status == 0
    assert found.verdict == ("No errors: training can begin.", "No warnings.")
    assert found.tasks == {"ambivalence": ["ambivalence.absent", "ambivalence.present"]}
    assert [(name, report.adapter, report.trained) for name, report in found.corpora.items()] == [
        ("one", "table", True), ("two", "table", True),
    ]  # fmt: skip
    figures = found.corpora["two"].figures
    assert figures is not None
    assert {split: row.clips for split, row in figures.splits.items()} == {"train": 4, "dev": 2, "test": 2}


def test_a_corpus_that_cannot_be_read_hides_no_other(place: Path) -> None:
    Path("one.csv").unlink()
    two = rows("two")
    two[1] |= {"label": "perhaps"}
    two[7] |= {"group": "g0"}
    pd.DataFrame(two).to_csv("two.csv", index=False)
    found = diagnose()
    (name, kind, message), *others = told(found)
    assert (name, kind) == ("one", "unreadable_corpus")
    assert f"there is no file {place / 'one.csv'}" in message
    assert [(corpus, kind) for corpus, kind, _ in others] == [("two", "bad_label"), ("two", "shared_group")]
    assert found.corpora["one"].figures is None
    assert found.corpora["two"].figures is not None
    assert found.exit_status == 1
    assert found.verdict[0] == "3 errors: training would be wrong; mend them first."


def test_what_an_unreadable_corpus_may_bring_is_not_missed(place: Path) -> None:
    Path("one.csv").unlink()
    labels = "corpora.sources.two.labels={}"
    assert [kind for _, kind, _ in told(diagnose(labels))] == ["unreadable_corpus"]
    # a task that no corpus is annotated for is missed nevertheless, and so is a split of the corpus that was read
    pd.DataFrame(rows("two")[:4]).to_csv("two.csv", index=False)
    found = told(diagnose('tasks.active=["ambivalence","emotion"]'))
    assert [kind for _, kind, _ in found] == ["unreadable_corpus", "untrainable", "untrainable", "untrainable"]
    assert "corpus 'two' has no clip in split 'dev'" in found[1][2]
    assert "no train clip of two has a label for task 'emotion'" in found[2][2]
    # nor are corpora that are only evaluated on called too few to train on
    zero_shot = told(diagnose("corpora.sources.two.zero_shot=true"))
    assert [kind for _, kind, _ in zero_shot] == ["unreadable_corpus"]
    Path("two.csv").unlink()
    assert [kind for _, kind, _ in told(diagnose())] == ["unreadable_corpus", "unreadable_corpus"]


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (['data.modalities=["text","audio"]'], "bad_setting", "names 'audio', which has no encoder"),
        (["features.encoders.text=minilmm"], "bad_setting", "no encoder is named 'minilmm'; did you mean 'minilm'?"),
        (['corpora.sources.one.metrics.ambivalence=["uarr"]'], "bad_setting", "no metric is named 'uarr'"),
        (["corpora.sources.one.labels.ambivalnce=['label']"], "unreadable_corpus", "no task is named 'ambivalnce'"),
        (
            ['corpora.sources.one.splits=["train"]'],
            "untrainable",
            "corpus 'one' has no clip in split 'dev' (found {'train': 4})",
        ),
        (
            ["corpora.sources.one.zero_shot=true", "corpora.sources.two.zero_shot=true"],
            "untrainable",
            "every corpus is zero_shot",
        ),
        (["corpora.sources={}"], "untrainable", "no corpus was given"),
        (
            ["features.encoders.video=face-mesh", 'data.modalities=["text","video"]'],
            "untrainable",
            "no training clip has what video is made from (media, fallback_media, faces); mend that, or train "
            """without: --set 'data.modalities=["text"]'""",
        ),
    ],
)
def test_settings_that_cannot_work(place: Path, settings: Sequence[str], kind: str, message: str) -> None:
    found = diagnose(*settings)
    assert [finding.kind for finding in found.findings] == [kind]
    assert message in found.findings[0].message
    assert found.findings[0].severity == "error"
    assert found.exit_status == 1
    assert found.verdict[0] == "1 error: training would be wrong; mend them first."


def test_every_setting_that_cannot_work_is_told(place: Path) -> None:
    found = diagnose('data.modalities=["video","text","audio"]', 'tasks.active=["ambivalence","emotion"]')
    kinds = [finding.kind for finding in found.findings]
    assert kinds == ["bad_setting", "bad_setting", "untrainable", "untrainable"]
    assert "'video'" in found.findings[0].message
    assert "'audio'" in found.findings[1].message


def test_an_encoder_of_ones_own_knows_what_it_needs(place: Path) -> None:
    settings = ["features.encoders.video=fake_encoders:FrameMeans", 'data.modalities=["text","video"]']
    assert not any("made from" in message for _, _, message in told(diagnose(*settings)))


def test_an_undeclared_task_is_an_error_of_the_configuration(place: Path) -> None:
    with pytest.raises(ConfigError, match="no task is named 'ambivalance'; did you mean 'ambivalence'"):
        diagnose('tasks.active=["ambivalance"]')


def test_corpora_are_compared_with_each_other(place: Path) -> None:
    two = rows("two")
    two[6] |= {"text": rows("one")[0]["text"]}
    two[0] |= {"group": "Video-abc-1"}
    write(one=[*rows("one")[:7], {**rows("one")[7], "group": "Video-abc-1"}], two=two)
    found = diagnose()
    assert [(finding.corpus, finding.kind, finding.severity) for finding in found.findings] == [
        ("one", "shared_name", "warning"), ("two", "shared_text", "warning"),
    ]  # fmt: skip
    assert found.exit_status == 0
    assert found.verdict == (
        "No errors: training can begin.",
        "2 warnings: training goes without what they name, or its figures say less.",
    )


def test_the_unused_train_split_of_a_zero_shot_corpus_harms_nobody(place: Path) -> None:
    two = rows("two")
    two[7] |= {"group": "g0"}
    write(one=rows("one"), two=two)
    assert [kind for _, kind, _ in told(diagnose())] == ["shared_group"]
    found = diagnose("corpora.sources.two.zero_shot=true")
    assert found.findings == []
    assert not found.corpora["two"].trained
    figures = found.corpora["two"].figures
    assert figures is not None
    assert figures.splits["train"].clips == 4  # it is there all the same
    assert "two (table, zero-shot)" in shown(found)


def test_media_are_inspected_when_asked_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], int, bool, str]] = []

    def inspect(clips: pd.DataFrame, num_workers: int, show_progress: bool, executor: str) -> pd.DataFrame:
        calls.append((clips["clip_id"].tolist(), num_workers, show_progress, executor))
        findings = [("two", "two5", "no_face", "x.mp4: no face"), ("one", "one0", "black", "y.mp4: black"),
                    ("two", "two6", "no_face", "z.mp4: no face")]  # fmt: skip
        found = pd.DataFrame(findings, columns=["corpus", "clip_id", "kind", "reason"], dtype="string")
        found.attrs["num_inspected"] = 11
        return found

    monkeypatch.setattr(inspection, "inspect_media", inspect)
    media = Path("media.mp4")
    media.touch()
    table = [row | ({"media": media.name} if row["id"] in ("one0", "two0") else {}) for row in rows("one")]
    write(one=table, two=rows("two"))
    assert told(diagnose()) == [("one", "empty_media", "empty files")]
    assert calls == []
    found = diagnose("corpora.sources.two.zero_shot=true", with_media=True)
    clips = [f"one{number}" for number in range(8)] + [f"two{number}" for number in range(4, 8)]
    assert calls == [(clips, 3, True, "local")]
    assert told(found) == [
        ("one", "black", f"{inspection.MEDIA_KINDS['black']}; other modalities stay"),
        ("two", "no_face", f"{inspection.MEDIA_KINDS['no_face']}; other modalities stay"),
    ]
    assert [(case.clip, case.reason) for case in found.findings[1].cases] == [
        ("two5", "x.mp4: no face"), ("two6", "z.mp4: no face"),
    ]  # fmt: skip
    assert (found.count("warning"), found.exit_status, found.inspected) == (3, 0, 11)
    assert "media of 11 clips inspected" in shown(found)


def test_corpora_are_built_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(config: object) -> None:
        write(one=rows("one"), two=rows("two"))

    Path("one.csv").rename("gone.csv")
    monkeypatch.setattr(doctor, "prepare", build)
    assert diagnose().findings == []

    def refuse(config: object) -> None:
        raise CorpusError("it is no demo")

    monkeypatch.setattr(doctor, "prepare", refuse)
    with pytest.raises(CorpusError, match="it is no demo"):
        diagnose()


def keys(value: Any) -> Any:
    """Keys of nested objects; of a list, those of its first element."""
    if isinstance(value, dict):
        return {key: keys(inner) for key, inner in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value and isinstance(value[0], dict) else None


def test_the_keys_of_the_json_document(place: Path) -> None:
    two = rows("two")
    two[7] |= {"group": "g0"}
    write(one=rows("one"), two=two)
    Path("one.csv").unlink()
    document = json.loads(json.dumps(diagnose().to_json(), allow_nan=False))
    class_keys = dict.fromkeys(("labeled", "min", "mean", "max", "positive", "share"))
    label_keys = {"labeled": None, "imbalance": None, "classes": {"absent": class_keys, "present": class_keys}}
    split_keys = dict.fromkeys(
        ("clips", "published", "groups", "speakers", "seconds", "media", "audio_media", "fallback_media", "faces",
         "text", "description")
    )  # fmt: skip
    answers = dict.fromkeys(("yes", "no", "unknown"))
    finding = dict.fromkeys(("corpus", "kind", "severity", "count", "message"))
    splits = ("train", "dev", "test")
    assert keys(document["corpora"].pop("one")) == {"adapter": None, "trained": None, "figures": None}
    assert keys(document["findings"][1:]) == [{**finding, "cases": [dict.fromkeys(("clip", "where", "reason"))]}]
    document["findings"] = document["findings"][:1]
    assert keys(document) == {
        "config": None,
        "tasks": {"ambivalence": None},
        "corpora": {
            "two": {
                "adapter": None,
                "trained": None,
                "figures": {
                    "splits": dict.fromkeys(splits, split_keys),
                    "num_files": None,
                    "num_bytes": None,
                    "releases": {"unknown": None},
                    "languages": {"en": None},
                    "labels": {"ambivalence": dict.fromkeys(splits, label_keys)},
                    "unannotated": None,
                    "consent": {use: {"clips": answers, "groups": answers} for use in ("challenges", "publications")},
                    "in_time": {},
                },
            }
        },
        "findings": [{**finding, "cases": None}],
        "media_inspected": None,
        "verdict": dict.fromkeys(("trainable", "errors", "warnings", "notes", "sentences")),
    }
    assert document["verdict"] == {
        "trainable": False, "errors": 2, "warnings": 0, "notes": 0,
        "sentences": ["2 errors: training would be wrong; mend them first.", "No warnings."],
    }  # fmt: skip


def test_the_tables_show_the_figures_and_the_findings(place: Path) -> None:
    two = [{**row, "group": "g0"} if row["split"] == "test" else row for row in rows("two")]
    extra = [{**rows("two")[0], "id": f"more{number}", "label": f"odd[{number}]", "text": ""} for number in range(5)]
    write(one=rows("one"), two=[*two, *extra])
    text = shown(diagnose())
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert ["train", "9", "4", "4"] in lines
    assert ["ambivalence", "", "4 labeled, imbalance 1", "2 labeled, imbalance 1", "2 labeled, imbalance 1"] in lines
    halves = ["2 of 4, 50.0%; 0 / 0.5 / 1", *["1 of 2, 50.0%; 0 / 0.5 / 1"] * 2]
    assert ["", "absent", *halves] in lines
    assert ["error", "bad_label", "5", "noted while the corpus was read"] in lines
    assert "unknown label 'odd[0]'" in text
    assert "odd[2]" in text
    assert "odd[3]" not in text
    assert "and 2 more; --json lists all" in text
    assert "2 of 2 test clips share a group with train" in " ".join(text.replace("│", " ").split())
    assert "0 media files, 0 B" in text
    assert "releases: unknown 13; languages: en 13" in text
    assert "7 errors: training would be wrong; mend them first." in text
    assert text.rstrip().endswith("No warnings.")


def test_consent_and_tasks_without_labels_are_shown(place: Path) -> None:
    found = diagnose('tasks.active=["ambivalence","emotion"]')
    assert "not annotated for: emotion" in shown(found)
    assert "consent" not in shown(found)
    figures = found.corpora["one"].figures
    assert figures is not None
    figures.consent["challenges"].clips.update(yes=1200, no=3)
    figures.consent["challenges"].groups.update(yes=40, no=2)
    assert "consent to use in challenges, clips (groups): yes 1,200 (40), no 3 (2), unknown 8 (8)" in shown(found)


def test_no_transcript_is_printed(place: Path) -> None:
    one, two = rows("one"), rows("two")
    two[6] |= {"text": one[0]["text"]}
    two[7] |= {"text": two[0]["text"]}
    write(one=one, two=two)
    # a column of transcripts taken for labels
    settings = 'corpora.sources.two.labels.emotion={column="text"}'
    found = diagnose(settings)
    assert {finding.kind for finding in found.findings} >= {"bad_label", "shared_text"}
    assert "tells of something" not in json.dumps(found.to_json())
    assert "tells of something" not in shown(found, width=1000)
    assert "of one" not in json.dumps(found.to_json())


def test_why_a_corpus_cannot_be_read_carries_no_transcript(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = CorpusError("one.csv, row 2: 'and then we went home' is no time")
    monkeypatch.setattr(doctor, "scan_corpora", lambda *_: {"one": error, "two": error})
    assert told(diagnose())[0] == ("one", "unreadable_corpus", "one.csv, row 2: '...' (5 words) is no time")


EMPTY = {"id": "", "text": "", "split": "", "group": "", "media": "", "label": ""}


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"split": "somewhere"}, {"unknown_split", "untrainable"}),  # no split, so no clip
        ({"label": ""}, {"unlabeled_split", "untrainable"}),
        ({"label": "absent"}, {"constant_label"}),  # one class
        ({"id": ""}, {"unusable_row", "untrainable"}),
        (None, {"untrainable"}),  # no row
    ],
)
def test_there_is_a_report_over_nothing(place: Path, changes: dict[str, str] | None, kinds: set[str]) -> None:
    table = [] if changes is None else [row | changes for row in rows("one")]
    write(one=table)
    if changes is None:
        Path("one.csv").write_text(",".join(EMPTY) + "\n", encoding="utf-8")
    found = diagnose(with_media=True)
    assert kinds <= {kind for _, kind, _ in told(found)}
    assert "ambivalence" in shown(found)
    assert json.loads(json.dumps(found.to_json()))["findings"]


def test_names_of_splits_in_any_case_are_no_fault(place: Path) -> None:
    names = {"train": "Train", "dev": "Val", "test": "TEST"}
    write(one=[row | {"split": names[row["split"]]} for row in rows("one")])
    found = diagnose()
    assert found.exit_status == 0
    figures = found.corpora["one"].figures
    assert figures is not None
    assert {split: row.clips for split, row in figures.splits.items()} == {"train": 4, "dev": 2, "test": 2}
    assert "splits are read: 'Train' as train, 'Val' as dev, 'TEST' as test" in shown(found, 300)


def test_a_separator_that_the_head_tells_is_named(place: Path) -> None:
    pd.DataFrame(rows("one")).to_csv("one.csv", index=False, sep=";")
    assert "its cells are separated by semicolon, as its head says" in shown(diagnose(), 300)


def test_columns_that_mean_nothing_in_any_corpus_are_left_out(place: Path) -> None:
    head = shown(diagnose()).splitlines()
    assert [[cell.strip() for cell in line.split("┃")[1:-1]] for line in head if "groups" in line] == [
        ["split", "clips", "groups", "text"]
    ] * 2
    settings = "corpora.sources.two.speaker=group"  # of one corpus: a column of both
    text = shown(diagnose(settings))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│ train" in line]
    assert rows == [["train", "4", "4", "0", "4"], ["train", "4", "4", "4", "4"]]


def test_a_corpus_of_unknown_splits_is_shown_with_its_findings(place: Path) -> None:
    table = [{**row, "split": f"part {number}"} for number, row in enumerate(rows("one"))]
    write(one=table)
    diagnosis = diagnose()
    text = shown(diagnosis)
    assert "no clip in train, dev, test" in text
    assert "unknown_split" in text
    assert diagnosis.exit_status == 1
    json.dumps(diagnosis.to_json(), allow_nan=False)


def test_corpora_without_rows_labels_or_some_splits_are_shown(place: Path) -> None:
    write(one=rows("one"), two=[row for row in rows("two") if row["split"] == "test"])
    assert "two (table, zero-shot)" in shown(diagnose("corpora.sources.two.zero_shot=true"))
    unlabeled = [{**row, "label": ""} for row in rows("one")]
    write(one=unlabeled)
    assert "no train clip of one has a label" in " ".join(shown(diagnose(), 300).split())
    one_class = [{**row, "label": "absent"} for row in rows("one")]
    write(one=one_class)
    assert "is absent in all 4 clips" in shown(diagnose())
    pd.DataFrame(rows("one")[:0]).reindex(columns=list(rows("one")[0])).to_csv("one.csv", index=False)
    assert diagnose().exit_status == 1
    shown(diagnose())


def test_a_dev_split_that_cannot_choose_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(place)
    diagnosis = diagnose("corpora.sources.two.zero_shot=true")
    [finding] = diagnosis.findings
    assert (finding.corpus, finding.kind, finding.severity) == ("one", "weak_dev", "warning")
    assert [case.reason for case in finding.cases] == [
        "task 'ambivalence': 2 labelled dev clips (fewer than 10); fewer than 5 dev clips with a class: absent 1, "
        "present 1"
    ]
    assert diagnosis.exit_status == 0


def test_training_files_without_sound_are_an_error_before_extraction(place: Path) -> None:
    pytest.importorskip("av")
    video = write_media(place / "mute.mp4", [np.zeros((32, 32, 3), np.uint8)] * 5, None, fps=5)
    sound = write_media(place / "sound.wav", None, tone(220.0, 0.5))
    table = [{**row, "media": str(video if row["split"] == "train" else sound)} for row in rows("one")]
    write(one=table)
    settings = ["features.encoders.audio=egemaps", 'data.modalities=["text","audio"]']
    [finding] = [finding for finding in diagnose(*settings).findings if finding.severity == "error"]
    assert finding.message == (
        f"the one file of the training clips has no audio: {video}: no audio stream (found: video); mend that, or "
        """train without: --set 'data.modalities=["text"]'"""
    )
    table[1] |= {"media": str(sound)}
    write(one=table)
    assert not diagnose(*settings).exit_status


def test_a_fold_without_dev_names_what_works(place: Path) -> None:
    text = Path("run.toml").read_text(encoding="utf-8")
    Path("run.toml").write_text(text.replace('split = "split"', "fold = { of = 2, number = 0, dev = 1e-9 }", 1))
    reasons = [finding.message for finding in diagnose().findings if finding.kind == "untrainable"]
    assert len(reasons) == 1
    assert reasons[0].startswith("corpus 'one' has no clip in split 'dev' (found {")
    assert "; dealt 8 groups: train " in reasons[0]
    assert ", dev 0 groups (0 clips), test " in reasons[0]
    assert "in place of fold deals these groups" in reasons[0]
    assert reasons[0].endswith("or set zero_shot = true to only evaluate on it")
