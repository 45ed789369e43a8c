"""The leakage guard: a leak of each kind is planted, and it says which, how much and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mmpsr.config import ConfigError
from tests.support import fresh_run
from training.config import require_choice_on_dev
from training.evaluation.evaluate import EvaluationOptions
from training.evaluation.evaluate import evaluate as evaluation
from training.evaluation.leakage import refuse_trained_clips
from training.runs.directory import RunError
from training.runs.identities import FILE, read_identities, same_clips, shared
from training.runs.stored import RunPredictions
from training.scoring.rows import plain


def evaluate(path: Path, options: EvaluationOptions) -> dict[str, Any]:
    """The document as `--json` prints it."""
    return plain(evaluation(path, options))


OWN = {"train": 30, "dev": 16, "test": 20}
LONG = "nine words are said here by everybody every time"


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with fresh_run.quickly():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run whose test has 4 clips of a training group, 3 of a speaker, 2 equal texts and 1 equal sound and text."""
    folder = tmp_path_factory.mktemp("leaks")
    own = fresh_run.rows("own", OWN)
    test = own.index[own["part"].eq("test")]
    own["mood"] = own.index % 3
    own.loc[test[:4], "film"] = own["film"].iloc[0]
    own.loc[test[4:7], "who"] = own["who"].iloc[1]
    own.loc[[own.index[2], *test[7:9]], "said"] = [LONG, LONG.upper(), LONG.replace(" ", "  ")]
    own.at[test[9], "sound"], own.at[test[9], "said"] = own["sound"].iloc[3], own["said"].iloc[3]
    fresh_run.write(folder, "own", own)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return fresh_run.train(folder)


@pytest.fixture(scope="module")
def leakage(run: Path) -> dict[str, Any]:
    return evaluate(run, EvaluationOptions())["leakage"]


def test_every_kind_is_named_with_its_number(leakage: dict[str, Any]) -> None:
    assert leakage["checked"]
    found = {each["kind"]: (each["num_seen"], each["num_clips"], each["severity"]) for each in leakage["findings"]}
    assert found == {
        "group": (4, 20, "warning"), "speaker": (3, 20, "warning"), "text": (2, 20, "warning"),
        "vectors": (1, 20, "warning"),
    }  # fmt: skip
    said = leakage["findings"][0]["message"]
    assert said == "4 of 20 test clips of own share a group (participant, video or dialogue) with training"
    assert leakage["findings"][0]["examples"] == ["owntest0", "owntest1", "owntest2"]


def test_what_a_leak_is_worth(run: Path, leakage: dict[str, Any]) -> None:
    part = next(part for part in RunPredictions.read(run).parts() if part.split == "test")
    rest = part.take(~part.clips["clip_id"].isin([f"owntest{index}" for index in range(4)]).to_numpy(dtype=bool))
    rows = {row["metric"]: row for row in leakage["effects"] if row["kind"] == "group"}
    assert rows.keys() == {"macro_f1", "uar"}
    for metric, row in rows.items():
        assert (row["num_clips"], row["unseen"]["num_clips"]) == (20, 16)
        assert row["value"] == pytest.approx(part.figures()[metric])
        assert row["unseen"]["value"] == pytest.approx(rest.figures()[metric])
        assert row["unseen"]["low"] <= row["unseen"]["value"] <= row["unseen"]["high"]


def test_dev_chose_the_model(run: Path) -> None:
    findings = evaluate(run, EvaluationOptions(split="dev"))["leakage"]["findings"]
    assert [each["kind"] for each in findings] == ["chosen_by"]
    assert findings[0]["message"] == "dev of own chose the model's epoch and calibration: its figures are no test"


def other(folder: Path, name: str, table: pd.DataFrame, **changes: Any) -> Path:
    """A corpus whose test is these clips."""
    fresh_run.write(folder, name, table.assign(part="test"))
    source = fresh_run.source(name, **changes)
    lines = ["[corpora]", f'root = "{folder}"', f"[corpora.sources.{name}]"]
    lines += [f'{key} = "{value}"' for key, value in source.items() if isinstance(value, str)]
    path = folder / f"{name}.toml"
    path.write_text("\n".join([*lines, 'labels.emotion = { column = "mood" }']), encoding="utf-8")
    return path


@pytest.mark.parametrize(("part", "said"), [
    ("train", "3 of 3 test clips of other are known to the run: the model was trained on them"),
    ("dev", "3 of 3 test clips of other are known to the run: the model's epoch and calibration were chosen by them"),
])  # fmt: skip
def test_clips_that_made_the_model_are_refused(folder: Path, run: Path, part: str, said: str) -> None:
    own = pd.read_csv(folder / "own.csv")
    own = own[own["part"].eq(part)].iloc[4:7]
    renamed = pd.DataFrame({
        "id": [f"other{index}" for index in range(3)], "film": "elsewhere", "who": "somebody", "said": own["said"],
        "mood": [0, 1, 2], "sound": fresh_run.rows("own", OWN).set_index("id").loc[own["id"], "sound"].to_numpy(),
    })  # fmt: skip
    path = other(folder, "other", renamed)
    with pytest.raises(RunError, match=said + r" \(for example other0, other1, other2\)"):
        evaluate(run, EvaluationOptions(config=path))
    findings = evaluate(run, EvaluationOptions(config=path, allow_trained=True))["leakage"]["findings"]
    assert (findings[0]["severity"], findings[0]["message"], findings[0]["num_seen"]) == ("error", said, 3)


def test_the_runs_own_training_split_is_refused_before_anything_is_extracted(
    folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.evaluation.evaluate.join_clips", lambda *_: pytest.fail("extracted"))
    path = folder / "same.toml"
    path.write_text(other(folder, "own2", fresh_run.rows("x", {"test": 2})).read_text().replace("own2", "own"))
    with pytest.raises(RunError, match="30 of 30 train clips of own are known to the run"):
        evaluate(run, EvaluationOptions(config=path, split="train"))


def test_a_run_that_cannot_say(run: Path) -> None:
    document = evaluate(run, EvaluationOptions())
    (run / FILE).rename(run / "hidden")
    try:
        without = evaluate(run, EvaluationOptions())
        assert not without["leakage"]["checked"]
        assert "nobody can say what these clips share" in without["leakage"]["findings"][0]["message"]
        assert without["figures"] == document["figures"]
        (run / FILE).write_text("no table")
        with pytest.raises(RunError, match=r"identities\.parquet cannot be read"):
            evaluate(run, EvaluationOptions())
    finally:
        (run / "hidden").rename(run / FILE)


def test_no_transcript_is_stored(run: Path) -> None:
    stored = read_identities(run)
    assert stored is not None
    assert stored["use"].value_counts().to_dict() == {"trained": 30, "none": 20, "chosen_by": 16}
    assert stored["text"].dropna().str.fullmatch("[0-9a-f]{16}").all()
    assert b"everybody" not in (run / FILE).read_bytes()


def clips(**columns: Any) -> pd.DataFrame:
    blank = dict.fromkeys(("group", "speaker", "media", "start", "end", "text", "vector.video", "vector.text"))
    table = pd.DataFrame({"corpus": "one", "split": "train", "clip_id": "a", **blank, **columns}, index=[0])
    return table.astype({name: "string" for name in table if name not in ("start", "end")})


@pytest.mark.parametrize(("mine", "theirs", "same"), [
    ({}, {}, True),  # the same id
    ({}, {"corpus": "two"}, False),
    ({"media": "/x/a.mp4"}, {"media": "/y/a.mp4"}, True),  # moved
    ({"media": "/x/a.mp4"}, {"media": "/x/b.mp4"}, False),  # the id means another clip
    ({"text": "f00"}, {"text": "ba7"}, False),
    ({"clip_id": "b", "media": "/x/a.mp4"}, {"media": "/x/a.mp4"}, True),
    ({"clip_id": "b", "media": "/x/a.mp4", "start": 3.0}, {"media": "/x/a.mp4", "start": 4.0}, False),
    ({"clip_id": "b", "media": "/x/a.mp4"}, {"media": "/y/a.mp4"}, False),  # a name that recurs by chance
    ({"clip_id": "b", "media": "/x/s12345_7.mp4"}, {"media": "/y/s12345_7.mp4"}, True),
    ({"clip_id": "b", "vector.video": "1", "vector.text": "2"}, {"vector.video": "1", "vector.text": "2"}, True),
    ({"clip_id": "b", "vector.video": "1", "vector.text": "2"}, {"vector.video": "1", "vector.text": "3"}, False),
    ({"clip_id": "b", "vector.text": "2"}, {"vector.text": "2"}, False),  # "Yes." is said often
    ({"clip_id": "b", "vector.text": "2", "text": "f00"}, {"vector.text": "2", "text": "f00"}, True),
])  # fmt: skip
def test_which_clips_are_the_same(mine: dict[str, Any], theirs: dict[str, Any], same: bool) -> None:
    assert same_clips(clips(**mine), clips(**theirs)).tolist() == [same]


@pytest.mark.parametrize(("kind", "mine", "theirs", "same"), [
    ("group", {"group": "1"}, {"group": "1"}, True),
    ("group", {"group": "1"}, {"group": "1", "corpus": "two"}, False),  # recurs by chance
    ("group", {"group": "dQw4w9WgXcQ"}, {"group": "dQw4w9WgXcQ", "corpus": "two"}, True),
    ("group", {}, {}, False),  # none is not the same
    ("speaker", {"speaker": "Ann"}, {"speaker": "Ann"}, True),
    ("media", {"media": "/x/a.mp4", "start": 1.0}, {"media": "/x/a.mp4", "start": 9.0}, True),
    ("media", {"media": "/x/a.mp4"}, {"media": "/y/a.mp4"}, False),
    ("text", {"text": "f00"}, {"text": "f00"}, True),
    ("vectors", {"vector.video": "1"}, {"vector.video": "1"}, True),
    ("vectors", {"vector.video": "1"}, {"vector.video": "2"}, False),
])  # fmt: skip
def test_what_is_shared(kind: str, mine: dict[str, Any], theirs: dict[str, Any], same: bool) -> None:
    assert shared(kind, clips(clip_id="b", **mine), clips(**theirs)).tolist() == [same]


def test_only_the_split_that_is_evaluated_counts() -> None:
    of_run = clips().assign(use="chosen_by")
    assert refuse_trained_clips(clips(split="dev"), of_run, False) == []  # dev may be looked at, without calibration
    with pytest.raises(RunError, match="chosen by them"):
        refuse_trained_clips(clips(split="test"), of_run, False)


@pytest.mark.parametrize("name", ["own/test/emotion/macro_f1", "test", "test/own/emotion/uar", "own.Test.uar"])
def test_choosing_by_test_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="names a figure of test: a model that is chosen by test has no test left"):
        require_choice_on_dev(name)
    require_choice_on_dev("latest/emotion/uar")


def test_training_refuses_it_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = fresh_run.config(tmp_path)
    monitored = settings.model_copy(
        update={"training": settings.training.model_copy(update={"monitor": "own/test/uar"})}
    )
    monkeypatch.setattr(fresh_run, "config", lambda *_: monitored)
    with pytest.raises(ConfigError, match="names a figure of test"):
        fresh_run.train(tmp_path)
