"""First configurations: what tables of many kinds are told to be, and that what is written is read again."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest

from corpora.clips import CorpusError
from corpora.registry import scan_corpora
from mmpsr.config import validate
from training.config import RunConfig
from training.drafting.columns import Choices
from training.drafting.draft import Draft, draft_of, table_of_recordings
from training.drafting.recordings import Recordings, splits_of_files

SAID = ("I am glad to see you.", "That is not fair at all.", "Well, perhaps I will.")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, columns: Mapping[str, Sequence[object]], num: int = 24) -> Path:
    """A table whose columns are repeated until it has `num` rows, and a sentence in each."""
    rows = {key: [values[row % len(values)] for row in range(num)] for key, values in columns.items()}
    said = [f"{SAID[row % 3]} {row}" for row in range(num)]
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"id": [f"c{row}" for row in range(num)], "said": said, **rows}).to_csv(name, index=False)
    return Path(name)


def read(draft: Draft) -> RunConfig:
    return validate(RunConfig, tomllib.loads(draft.toml("mmpsr init", Path("a.toml"))), "a.toml")


def source_of(draft: Draft) -> dict[str, object]:
    tree = tomllib.loads(draft.toml("mmpsr init", Path("a.toml")))
    return dict(tree["corpora"]["sources"][draft.name])


def test_words_for_emotions_are_the_task_that_ships_and_each_line_says_how_it_was_told() -> None:
    draft = draft_of(
        write("talks.csv", {"feeling": ["joy", "sad", "angry"], "person": [f"p{n}" for n in range(6)]}), Choices()
    )
    config = read(draft)
    assert config.tasks.active == ("emotion",)
    assert source_of(draft)["labels"] == {
        "emotion": {"column": "feeling", "values": {"joy": "Happiness", "sad": "Sadness", "angry": "Anger"}}
    }
    text = draft.toml("mmpsr init talks.csv", Path("talks.toml"))
    assert re.search(r'^group = "person" +# its name, and 6 values in 24 rows$', text, re.M)
    assert re.search(r'^id = "id" +# its name, and no cell occurs twice$', text, re.M)
    assert "a hash of their names deals the groups: " in text
    tables = scan_corpora(config.corpora, config.tasks.resolve())
    clips = tables["talks"].clips  # type: ignore[union-attr]
    assert clips["emotion.Happiness"].sum() == 8.0  # a third of 24
    assert set(clips["split"]) == {"train", "dev", "test"}
    assert clips.groupby("group")["split"].nunique().eq(1).all()


def test_a_word_that_is_no_such_emotion_makes_a_task_of_its_own_and_says_so() -> None:
    draft = draft_of(write("a.csv", {"emotion": ["happy", "bored"]}), Choices())
    assert read(draft).tasks.resolve()["own_emotion"].classes == ("bored", "happy")
    assert any("'bored' in column 'emotion' is none of the emotions" in note for note in draft.notes)


def test_columns_named_like_traits_are_one_task_and_the_scale_is_said() -> None:
    grades = {name: [1, 3, 5, 2] for name in ("Openness", "Extraversion", "Agreeableness", "Neuroticism")}
    draft = draft_of(write("a.csv", grades), Choices())
    labels = source_of(draft)["labels"]
    names = {"openness": "Openness", "extraversion": "Extraversion", "agreeableness": "Agreeableness"}
    assert labels == {"personality": {"columns": names, "scale": [1, 5]}}
    notes = " ".join(draft.notes)
    assert "numbers run from 1 to 5, so that the scale is taken to be 1 to 5" in notes
    assert "'Neuroticism' is not read: the trait here is non-neuroticism" in notes
    assert "could be labels as well" not in notes


@pytest.mark.parametrize(
    ("column", "cells", "labels", "kind"),
    [
        ("hesitates", ["yes", "no"], {"column": "hesitates", "values": {"yes": "present", "no": "absent"}}, None),
        ("valence", ["1.5", "2.5", "6.9", "1.1"], {"columns": ["valence"], "scale": [1, 7]}, "regression"),
        ("rating", ["0.2", "0.9", "1", "0"], {"columns": ["rating"]}, "regression"),
        ("class", ["0", "1", "2"], {"column": "class"}, "single_label"),
        ("label", ["a|b", "a", "b|c"], {"column": "label", "separator": "|"}, "multi_label"),
    ],
)
def test_the_kind_of_a_task_follows_from_name_and_cells(
    column: str, cells: list[str], labels: object, kind: str
) -> None:
    num = 24 if kind != "multi_label" else 60
    if kind == "multi_label":  # more sets of classes than classes that a column may have
        random.seed(0)
        cells = ["|".join(sorted(random.sample("abcdef", random.randint(1, 4)))) for _ in range(num)]
    draft = draft_of(write("a.csv", {column: cells}, num), Choices())
    (task,) = draft.tasks
    assert source_of(draft)["labels"] == {task.name: labels}
    assert (task.spec or {}).get("kind") == kind
    read(draft).tasks.resolve()


@pytest.mark.parametrize(
    ("cells", "classes", "separator"),
    [
        (["happy, sad", "sad", "happy", "bored"], ["bored", "happy", "sad"], ","),  # few sets, each often
        (["tired; calm", "calm", "tired; calm; glad", "glad"], ["calm", "glad", "tired"], ";"),
        (["well, sort of", "yes", "no"], ["no", "well, sort of", "yes"], None),  # a class with a comma in its name
        (["calm, glad", "calm", "other"], ["calm", "calm, glad", "other"], None),
    ],
)
def test_a_cell_with_words_of_other_cells_is_several_classes(
    cells: list[str], classes: list[str], separator: str | None
) -> None:
    draft = draft_of(write("a.csv", {"mood": cells}, 24), Choices())
    (task,) = draft.tasks
    assert task.spec is not None
    assert task.spec["classes"] == classes
    assert task.labels.get("separator") == separator
    read(draft).tasks.resolve()


def test_cells_that_say_nothing_are_no_classes() -> None:
    draft = draft_of(write("a.csv", {"label": ["left", "right", "?", "", "nan"]}), Choices())
    assert source_of(draft)["missing"] == ["nan", "NaN", "NA", "?"]
    config = read(draft)
    table = scan_corpora(config.corpora, config.tasks.resolve())["a"]
    assert table.clips["label.left"].notna().sum() == 10  # type: ignore[union-attr]  # 5 and 5 of 24 rows
    assert "bad_label" not in set(table.defects["kind"])  # type: ignore[union-attr]


def test_what_counts_clips_is_an_id_and_no_label() -> None:
    write("a.csv", {"label": ["a", "b"], "Utterance_ID": ["0", "1", "2"]})
    pd.read_csv("a.csv").rename(columns={"id": "Sr No."}).replace({"Sr No.": "c"}, "", regex=True).to_csv(
        "a.csv", index=False
    )
    draft = draft_of(Path("a.csv"), Choices())
    assert draft.columns.value("id") == "Sr No."
    assert not draft.others


def test_what_people_are_is_no_label_but_said() -> None:
    draft = draft_of(write("a.csv", {"gender": ["m", "f"], "answer": ["left", "right"]}), Choices())
    assert [task.columns for task in draft.tasks] == [("answer",)]
    notes = " ".join(draft.notes)
    assert "'answer' is taken as labels since no other can be" in notes
    assert "column 'gender' could be labels as well (its cells are 2 words) and is not taken" in notes


def test_what_is_not_clear_is_asked_and_an_answer_is_taken() -> None:
    path = write("a.csv", {"colour": ["red", "blue"], "shape": ["flat", "round"]})
    with pytest.raises(
        CorpusError,
        match=r"colour \(2 values, such as 'red'\); shape .*; say which by .* --label colour",
    ):
        draft_of(path, Choices())
    assert [task.name for task in draft_of(path, Choices(labels=("shape",))).tasks] == ["shape"]
    with pytest.raises(CorpusError, match="--label: the table has no column 'shapes'; did you mean 'shape'"):
        draft_of(path, Choices(labels=("shapes",)))
    with pytest.raises(
        CorpusError, match=r"no column looks like labels\. Read as something else: id = id, text = said"
    ):
        draft_of(write("b.csv", {}), Choices())
    with pytest.raises(CorpusError, match="--label: column 'same' has 1 value, such as 'x', from which no classes"):
        draft_of(write("c.csv", {"same": ["x"]}), Choices(labels=("same",)))


def test_ids_may_be_two_columns_and_without_any_it_is_asked() -> None:
    rows = [(d, u, f"{SAID[u % 3]} now", "ab"[u % 2]) for d in range(4) for u in range(5)]
    pd.DataFrame(rows, columns=["dialogue_id", "utterance_id", "text", "label"]).to_csv("a.csv", index=False)
    draft = draft_of(Path("a.csv"), Choices())
    assert (draft.columns.value("id"), draft.columns.value("group_kind")) == (
        "{dialogue_id}-{utterance_id}",
        "dialogue",
    )
    pd.DataFrame([("x", SAID[0], "a")] * 4, columns=["name", "text", "label"]).to_csv("b.csv", index=False)
    rows = r"b\.csv, row 2, b\.csv, row 3, b\.csv, row 4 and 1 more"
    with pytest.raises(CorpusError, match=rf"no column tells .* \(in 'name' 'x' occurs more than once: {rows}\).*--id"):
        draft_of(Path("b.csv"), Choices())


def test_names_of_other_languages_keep_their_letters_and_no_two_tasks_share_a_name() -> None:
    draft = draft_of(
        write("etude.csv", {"Sujet": list("abcdef"), "Émotion": ["joie", "colère"], "心": [1, 2, 4], "压": [1, 3, 7]}),
        Choices(labels=("Émotion", "心", "压")),
    )
    assert read(draft).tasks.active == ("own_emotion", "own_task", "own_task_2")
    assert (source_of(draft)["group"], source_of(draft)["group_kind"]) == ("Sujet", "participant")


@pytest.mark.parametrize("name", ["ID", "VP", "Versuchsperson", "Subject No.", "participant_code"])
def test_people_are_told_by_many_names(name: str) -> None:
    assert source_of(draft_of(write("a.csv", {name: list("abcdef"), "rating": [1, 2]}), Choices()))["group"] == name


def test_a_table_of_windows_is_read_and_its_letters_are_shown() -> None:
    rows = "".join(f"c{row};{('colère', 'joie')[row % 2]};ça va bien {row}\n" for row in range(12))
    Path("etude.csv").write_bytes(f"nom;émotion;dit\n{rows}".encode("cp1252"))
    draft = draft_of(Path("etude.csv"), Choices(id="nom"))
    assert source_of(draft)["encoding"] == "cp1252"
    assert "# its bytes are not UTF-8; so read, it says émotion" in draft.toml("mmpsr init", Path("a.toml"))
    assert read(draft).tasks.resolve()["own_emotion"].classes == ("colère", "joie")


def test_numbers_that_surveys_write_for_nothing_are_no_ends_of_a_scale() -> None:
    columns: dict[str, Sequence[object]] = {"rating": [1, 2, 7, -99], "score": [10, 40, 88, 99]}
    draft = draft_of(write("a.csv", columns), Choices(labels=("rating", "score")))
    labels, missing = source_of(draft)["labels"], source_of(draft)["missing"]
    assert labels == {  # 99 is 59 above 40, not 3 * (40 - 10); -99 lies 100 below 1
        "rating": {"columns": ["rating"], "scale": [1, 7]}, "score": {"columns": ["score"], "scale": [0, 100]}
    }  # fmt: skip
    assert missing == ["nan", "NaN", "NA", "-99"]
    assert any("-99 in column 'rating' lies far outside the other numbers (1 to 7)" in note for note in draft.notes)
    columns = {"rating": [1, 2, 7, 99], "score": [10, 40, 88, 99]}
    with pytest.raises(CorpusError, match=r"99 in column 'rating' .* but in column 'score' it is a number like others"):
        draft_of(write("a.csv", columns), Choices(labels=("rating", "score")))


def test_paths_of_another_computer_are_named_with_what_to_leave() -> None:
    Path("films").mkdir()
    for row in range(6):
        Path(f"films/t{row}.mp4").touch()
    paths = [rf"C:\study\t{row}.mp4" for row in range(6)]
    with pytest.raises(CorpusError, match=r"such as C:.*t0\.mp4; 6 of 6 are here .* films/t0\.mp4: leave the names"):
        draft_of(write("a.csv", {"video": paths, "rating": [1, 2]}, num=6), Choices())


def test_tables_of_splits_are_one_corpus_and_a_missing_split_is_said() -> None:
    for split in ("train", "test"):
        write(f"mine/{split}_labels.csv", {"label": ["a", "b"]})
        frame = pd.read_csv(f"mine/{split}_labels.csv")
        frame.assign(id=split + frame["id"]).to_csv(f"mine/{split}_labels.csv", index=False)
    draft = draft_of(Path("mine"), Choices())
    assert draft.files == {"test": "test_labels.csv", "train": "train_labels.csv"}
    assert any(note.startswith("no clip is in the split dev, by which epochs are chosen") for note in draft.notes)
    assert read(draft).corpora.root == "mine"
    write("mine/people.csv", {"label": ["a", "b"]})
    with pytest.raises(CorpusError, match=r"mine holds 3 tables .*say which has a row for each clip: mmpsr init mine"):
        draft_of(Path("mine"), Choices())
    assert splits_of_files(["train.csv", "trainers.csv"]) is None


def test_recordings_are_found_where_a_column_names_them() -> None:
    files = [f"media/{group}/{clip}.wav" for group in "ab" for clip in range(6)]
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    table = pd.DataFrame({"clip": [Path(file).stem for file in files], "session": [file[6] for file in files]})
    table.assign(key=range(12), label=["x", "y"] * 6).to_csv("a.csv", index=False)
    draft = draft_of(Path("a.csv"), Choices())
    assert draft.columns.value("media") == "media/{session}/{clip}"
    assert list(draft.modalities) == ["audio"]  # no pictures
    assert "no column holds what is said" in " ".join(draft.absent.values())
    config = read(draft)
    clips = scan_corpora(config.corpora, config.tasks.resolve())["a"].clips  # type: ignore[union-attr]
    assert clips["media"].notna().all()
    for file in files:
        Path(file).unlink()
    with pytest.raises(CorpusError, match="names no recording that is there, and no column holds what is said"):
        draft_of(Path("a.csv"), Choices())


def test_folders_of_recordings_become_columns() -> None:
    def table(*files: str) -> dict[str, list[str]]:
        frame, _ = table_of_recordings(Recordings(Path("talks"), files))
        return {str(name): frame[name].tolist() for name in frame}

    assert table("a.mp4", "b.mp4") == {"file": ["talks/a.mp4", "talks/b.mp4"], "label": ["", ""]}
    assert table("train/sad/a.mp4", "val/happy/b.mp4") == {
        "file": ["talks/train/sad/a.mp4", "talks/val/happy/b.mp4"],
        "split": ["train", "val"],
        "folder": ["sad", "happy"],
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.xlsx", "is a spreadsheet, which is not read; save its sheet as CSV"),
        ("a.pdf", "is no table; name a CSV, TSV, Parquet or JSON lines file, or a folder"),
        ("nowhere", "there is no file or folder nowhere"),
        ("empty", "empty holds neither a table nor a recording"),
        ("db", 'db is a database in audformat, .* adapter = "audformat" and path = "db" reads it'),
    ],
)
def test_what_is_no_table_is_said(name: str, reason: str) -> None:
    Path("empty").mkdir()
    Path("a.xlsx").touch()
    Path("a.pdf").touch()
    Path("db").mkdir()
    Path("db/db.yaml").touch()
    with pytest.raises(CorpusError, match=reason):
        draft_of(Path(name), Choices())
