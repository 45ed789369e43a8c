from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from corpora.clips import CorpusError
from mmpsr.adaptation.base import Source
from mmpsr.adaptation.build import METHODS, create_method
from mmpsr.adaptation.source import fit_source
from mmpsr.config import validate
from tests.support import shifted
from training.adaptation import personalize as module
from training.adaptation.config import PersonalizationConfig
from training.adaptation.figures import comparisons
from training.adaptation.material import Material
from training.adaptation.personalize import Work, adapt_person, personalize
from training.adaptation.splitting import cut

QUICK = {
    "width": 8,
    "source": {"num_epochs": 2},
    "with_source": {"num_epochs": 2},
    "subject": {"num_epochs": 1},
    "source_free": {"num_epochs": 2},
}


def config(**sections: Any) -> PersonalizationConfig:
    return validate(PersonalizationConfig, {**QUICK, **sections}, "test")


@pytest.fixture(scope="module")
def people() -> Material:
    return shifted.material(0, num_train=3, num_dev=1, num_test=2, angle=0.4, translation=1.0)


def test_every_method_on_every_participant(people: Material, tmp_path: Path) -> None:
    told: list[tuple[int, int, Work]] = []
    found = personalize(people, config(), tuple(METHODS), tmp_path, lambda *what: told.append(what))
    rows = found["participants"]
    assert [(row["method"], row["participant"]) for row in rows] == [
        (method, person) for method in METHODS for person in ("test0", "test1")
    ]
    assert [done for done, _, _ in told] == list(range(12))
    assert {total for _, total, _ in told} == {12}
    for row in rows:
        assert row["num_train"] + row["num_val"] + row["num_test"] == 7 * 60
        assert row["split_by"] == "video"
        assert row["epoch"] == (0 if row["method"] == "source" else 2)
        assert 0 < row["average_f1"] < 100
    of_person = [row["num_test"] for row in rows if row["participant"] == "test0"]
    assert len(set(of_person)) == 1  # all are judged on the same rows
    assert len({row["average_precision"] for row in rows}) > 6
    assert {row["method"] for row in found["comparisons"]} == set(METHODS) - {"source"}
    assert found["skipped"] == []


def test_what_is_done_is_not_done_again(people: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = personalize(people, config(), ("source", "shot"), tmp_path / "whole")
    judged: list[Work] = []
    judge = module.judge_person

    def stops(person: Material, settings: Any, work: Work, network: Any, source: Source) -> dict[str, Any]:
        if len(judged) == 3:
            raise KeyboardInterrupt
        judged.append(work)
        return judge(person, settings, work, network, source)

    monkeypatch.setattr(module, "judge_person", stops)
    with pytest.raises(KeyboardInterrupt):
        personalize(people, config(), ("source", "shot"), tmp_path / "stopped")
    judged[:2] = []  # one more may be judged than is left
    monkeypatch.setattr(module, "fit_source", lambda *_: pytest.fail("the source network was kept"))
    again = personalize(people, config(), ("source", "shot"), tmp_path / "stopped")
    assert len(judged) == 2
    assert again["participants"] == whole["participants"]
    assert again["methods"] == whole["methods"]
    monkeypatch.setattr(module, "judge_person", lambda *_: pytest.fail("all was done"))
    personalize(people, config(), ("source", "shot"), tmp_path / "stopped")
    # settings of another method change nothing of what is kept; those that it reads do
    personalize(people, config(nrc={"num_neighbors": 5}), ("source", "shot"), tmp_path / "stopped")
    with pytest.raises(pytest.fail.Exception, match="all was done"):
        personalize(people, config(shot={"pseudo_weight": 0.1}), ("source", "shot"), tmp_path / "stopped")


def permuted(people: Material, rows: np.ndarray) -> Material:
    """The labels of some rows dealt out anew."""
    labels = people.labels.copy()
    labels[rows] = np.random.default_rng(0).permutation(labels[rows])
    return Material(**{**people.__dict__, "labels": labels})


@pytest.mark.parametrize("method", METHODS)
def test_target_labels_change_nothing_but_the_oracle(people: Material, method: str) -> None:
    settings = config()
    train = np.flatnonzero(people.splits == "train")
    source = Source(people.features[train], torch.from_numpy(people.labels[train]), torch.arange(len(train)) // 420)
    network = fit_source(source, settings, 0)
    person = people.take(np.flatnonzero(people.participants == "test0"))
    parts = cut(person, settings.protocol, 0)

    def present(of: Material) -> np.ndarray:
        return adapt_person(of, parts, create_method(method, settings), network, source, settings, 0)[0]

    plain = present(person)
    for rows in (parts.train, parts.val, parts.test):
        is_same = np.array_equal(plain, present(permuted(person, rows)))
        assert is_same != (method == "oracle" and rows is parts.train)


def test_the_labelled_choice_takes_the_best_epoch_of_the_validation_part(
    people: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.1, 0.5, 0.5, 0.2, float("nan"), float("nan"), float("nan"), float("nan")])
    settings = config(source_free={"num_epochs": 4}, protocol={"select": "labelled"})
    personalize(people, settings, ("source",), tmp_path)  # which makes the source network
    monkeypatch.setattr(module, "_average_precision", lambda *_: next(values))
    rows = personalize(people, settings, ("shot",), tmp_path)["participants"]
    assert [row["epoch"] for row in rows] == [3, 4]  # the later of equals; the last where none can be told


def test_who_is_left_out_is_named(people: Material, tmp_path: Path) -> None:
    labels = people.labels.copy()
    labels[np.flatnonzero(people.participants == "test0")[9:]] = 0
    labels[np.flatnonzero(people.participants == "test1")] = 1
    few = Material(**{**people.__dict__, "labels": labels})
    positives = int(labels[people.participants == "test0"].sum())
    with pytest.raises(CorpusError, match=f"none of the 2 test participants can be adapted to; test0: {positives} of"):
        personalize(few, config(), ("source",), tmp_path)
    labels[np.flatnonzero(people.participants == "test1")[::2]] = 0
    found = personalize(few, config(), ("source",), tmp_path)
    assert [row["participant"] for row in found["participants"]] == ["test1"]
    reason = f"{positives} of 420 rows are of the second class, fewer than 10"
    assert found["skipped"] == [{"participant": "test0", "reason": reason}]


def test_what_a_reader_should_know(people: Material, tmp_path: Path) -> None:
    one_video = people.participants == "test0"
    videos = np.where(one_video, "only", people.videos)
    splits = np.where(people.splits == "dev", "train", people.splits)
    participants = np.where(people.participants == "train0", "test1", people.participants)
    rows = np.flatnonzero(~one_video | (np.arange(len(people)) % 3 == 0))
    material = Material(**{**people.__dict__, "videos": videos, "splits": splits, "participants": participants})
    found = personalize(material.take(rows), config(), ("source",), tmp_path)
    assert found["notes"] == [
        "1 participant(s) have too few videos and are cut by segment (test0)",
        "1 of 2 test participants are in train, too: the source network knows them",
        "there is no dev split, so that the source network's last epoch is kept",
    ]


def test_splits_that_are_missing(people: Material, tmp_path: Path) -> None:
    for split, reason in (("train", "to fit the source network to"), ("test", "to adapt to")):
        rows = np.flatnonzero(people.splits != split)
        with pytest.raises(CorpusError, match=f"no labelled clip of split '{split}' {reason}; found "):
            personalize(people.take(rows), config(), ("source",), tmp_path)


def test_names_of_participants_are_no_paths(people: Material, tmp_path: Path) -> None:
    names = np.where(people.participants == "test0", "../a/b", people.participants)
    found = personalize(Material(**{**people.__dict__, "participants": names}), config(), ("source",), tmp_path)
    files = sorted(Path(found["folder"]).rglob("*.json"))
    assert [file.name for file in files] == ["0-..%2Fa%2Fb.json", "0-test1.json"]
    assert json.loads(files[0].read_text())["participant"] == "../a/b"


def test_a_handful_of_clips_is_enough_to_run(tmp_path: Path) -> None:
    """Three clips to learn from, five of dev, three of a test participant: the smallest demo."""
    labels = np.array([0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0])
    splits = np.repeat(["train", "dev", "test"], [3, 5, 3])
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32))
    names = np.arange(11).astype(str)
    few = Material(features, labels, splits, splits, names, np.zeros(11))
    settings = validate(PersonalizationConfig, {"protocol": {"fewest_positives": 1}, "width": 8}, "test")
    found = personalize(few, settings, tuple(METHODS), tmp_path)
    assert [(row["num_train"], row["num_val"], row["num_test"]) for row in found["participants"]] == [(2, 0, 1)] * 6
    assert {row["difference"]["low"] for row in found["comparisons"] if row["difference"]} == {None}
    assert any("cut by segment (test)" in note for note in found["notes"])


@pytest.fixture(scope="module")
def one_source() -> Iterator[None]:
    """Fits the source network once for all tests below, whose people of train and dev are the same."""
    fitted: dict[tuple[bytes, str, int], Any] = {}

    def fit(source: Source, settings: PersonalizationConfig, seed: int, score: Any, create: Any) -> Any:
        key = (source.features.numpy().tobytes(), settings.source.model_dump_json(), seed)
        if key not in fitted:
            fitted[key] = fit_source(source, settings, seed, score, create)
        return fitted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit_source", fit)
        yield


def over_people(folder: Path, settings: dict[str, Any], **changes: float) -> dict[str, dict[str, Any]]:
    """AVGF1's difference from source only over 8 people, by method; no oracle."""
    material = shifted.material(0, **changes)  # type: ignore[arg-type]
    found = personalize(material, validate(PersonalizationConfig, settings, "test"), tuple(METHODS)[:5], folder)
    table = comparisons(pd.DataFrame(found["participants"]))
    return {row["method"]: row["difference"] for row in table if row["figure"] == "average_f1"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("one_source")
def test_a_shift_of_peoples_features_is_made_good(tmp_path: Path) -> None:
    found = over_people(tmp_path, {}, angle=0.4, translation=1.0)
    assert found.keys() == {"mmd", "subject", "shot", "nrc"}
    assert all(difference["low"] > 0.0 and difference["value"] > 5.0 for difference in found.values()), found


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("one_source")
def test_the_losses_alone_gain_too(tmp_path: Path) -> None:
    """Most of the gain is of BatchNorm's averages; what remains without them is smaller, and there."""
    found = over_people(tmp_path, {"statistics": "source"}, angle=0.4, translation=1.0)
    assert all(0.0 < found[method]["value"] < 6.0 for method in ("subject", "shot", "nrc")), found


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("one_source")
def test_without_a_shift_none_gains(tmp_path: Path) -> None:
    found = over_people(tmp_path, {})
    assert all(difference["low"] < 0.0 < difference["high"] for difference in found.values()), found


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("one_source")
def test_people_who_show_a_class_more_rarely_lose_by_it(tmp_path: Path) -> None:
    """All methods push towards both classes alike, by their losses or by BatchNorm's averages."""
    found = over_people(tmp_path, {}, test_share=1 / 6)
    assert all(difference["high"] < 0.0 for difference in found.values()), found
