from __future__ import annotations

import hashlib
import re
import tomllib
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from corpora.clips import CorpusError
from corpora.splitting import SplitSettings, dealing_advice, resplit

CLIPS = pd.DataFrame(
    {
        "clip_id": [f"c{number}" for number in range(12)],
        "group": ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e", "f", "f"],
        "speaker": ["Ann", "Bob", "Ann", "Ann", "Cy", "Cy", pd.NA, pd.NA, "Bob", "Di", "Di", "Di"],
        "raw.session": ["1"] * 4 + ["2"] * 4 + ["3"] * 4,
    },
    dtype="string",
)
MANY = pd.DataFrame({"group": [f"g{number % 500}" for number in range(1500)]}, dtype="string")


def split(clips: pd.DataFrame, name: str = "toy", **settings: Any) -> pd.Series:
    return resplit(name, clips, SplitSettings.model_validate(settings))


def chance(text: str) -> float:
    """First 16 hexadecimal digits of the SHA-256, as a part of 1."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 16**16


def test_named_groups_are_held_out() -> None:
    found = split(CLIPS, hold_out={"test": ["b", "f"], "dev": ["d"]})
    assert found.tolist() == ["train"] * 2 + ["test"] * 2 + ["train"] * 2 + ["dev"] * 2 + ["train"] * 2 + ["test"] * 2
    assert found.dtype == "string"
    assert split(CLIPS, hold_out={"test": ["b"], "dev": []}).tolist() == ["train"] * 2 + ["test"] * 2 + ["train"] * 8


def test_speakers_are_held_out_and_those_unknown_are_not() -> None:
    found = split(CLIPS, hold_out={"column": "speaker", "test": ["Ann"], "dev": ["Di"]})
    assert found.tolist() == [
        "test", "train", "test", "test", "train", "train", "train", "train", "train", "dev", "dev", "dev",
    ]  # fmt: skip


def test_what_the_corpus_says_is_held_out() -> None:
    found = split(CLIPS, hold_out={"column": "raw.session", "test": ["3"], "dev": ["1"]})
    assert found.tolist() == ["dev"] * 4 + ["train"] * 4 + ["test"] * 4


def test_dev_is_a_share_of_the_remaining_groups() -> None:
    found = split(MANY, hold_out={"test": ["g7", "g8"], "dev": 0.3})
    for group, of_group in zip(MANY["group"], found, strict=True):
        expected = "dev" if chance(f"toy/dev/{group}") < 0.3 else "train"
        assert of_group == ("test" if group in ("g7", "g8") else expected)
    assert 0.25 < found.eq("dev").mean() < 0.35
    tenth = split(MANY, hold_out={"test": ["g7", "g8"]})
    assert 0.06 < tenth.eq("dev").mean() < 0.14
    assert set(MANY["group"][tenth == "dev"]) < set(MANY["group"][found == "dev"])


def test_dev_is_a_share_of_the_remaining_speakers() -> None:
    found = split(CLIPS, hold_out={"column": "speaker", "test": ["Ann"], "dev": 0.5})
    # clips without a speaker, 6 and 7, are drawn by their group
    drawn = {value: "dev" if chance(f"toy/dev/{value}") < 0.5 else "train" for value in ("Bob", "Cy", "Di", "d")}
    assert set(drawn.values()) == {"dev", "train"}
    expected = [{"Ann": "test", **drawn}["d" if pd.isna(speaker) else speaker] for speaker in CLIPS["speaker"]]
    assert found.tolist() == expected


def test_every_group_is_test_in_exactly_one_fold() -> None:
    folds = [split(MANY, fold={"of": 5, "number": number}) for number in range(5)]
    tested = pd.concat([found.eq("test") for found in folds], axis=1).sum(axis=1)
    assert tested.eq(1).all()
    for number, found in enumerate(folds):
        assert found.groupby(MANY["group"]).nunique().eq(1).all()
        assert 0.14 < found.eq("test").mean() < 0.26
        assert 0.06 < found[found != "test"].eq("dev").mean() < 0.14
        of_test = set(MANY["group"][found == "test"])
        assert of_test == {f"g{n}" for n in range(500) if int(5 * chance(f"toy/fold/g{n}")) == number}
    more = split(MANY, fold={"of": 5, "number": 0, "dev": 0.5})
    assert 0.4 < more[more != "test"].eq("dev").mean() < 0.6


def test_fractions_may_be_named_in_any_order() -> None:
    found = split(MANY, fractions={"train": 0.6, "dev": 0.1, "test": 0.3})
    assert split(MANY, fractions={"test": 0.3, "dev": 0.1, "train": 0.6}).tolist() == found.tolist()
    assert 0.5 < found.eq("train").mean() < 0.7
    assert 0.2 < found.eq("test").mean() < 0.4


@pytest.mark.parametrize(
    "settings",
    [
        {"fractions": {"train": 0.7, "dev": 0.1, "test": 0.2}},
        {"hold_out": {"test": ["g1"], "dev": 0.2}},
        {"fold": {"of": 3, "number": 2}},
    ],
)
def test_neither_order_nor_other_clips_move_a_group(settings: dict[str, Any]) -> None:
    found = split(MANY, **settings)
    shuffled = MANY.sample(frac=1.0, random_state=3)
    assert split(shuffled, **settings).sort_index().tolist() == found.tolist()
    added = pd.concat([pd.DataFrame({"group": ["new", "g0"]}, dtype="string"), MANY], ignore_index=True)
    assert split(added, **settings)[2:].tolist() == found.tolist()
    assert split(MANY[:700], **settings).tolist() == found[:700].tolist()
    assert split(MANY, "another", **settings).tolist() != found.tolist()


def test_a_clip_without_group_stays_without_split() -> None:
    clips = pd.DataFrame({"group": pd.array([*[f"g{n}" for n in range(40)], pd.NA], dtype="string")})
    for settings in ({"fractions": {"train": 1.0}}, {"fold": {"of": 2, "number": 0}}, {"hold_out": {"test": ["g1"]}}):
        found = split(clips, **settings)
        assert found.isna().tolist() == [False] * 40 + [True]


def failure(**settings: Any) -> str:
    with pytest.raises(CorpusError) as error:
        split(CLIPS, **settings)
    return str(error.value)


def test_what_is_held_out_must_be_there() -> None:
    message = failure(hold_out={"column": "raw.sesion", "test": ["1"]})
    assert message.startswith("corpora.sources.toy.hold_out.column: the clip table has no column 'raw.sesion'; did you")
    known = "known names are Ann, Bob, Cy, Di"
    for settings in ({"test": ["Ann", "Egon"]}, {"test": ["Ann"], "dev": ["Egon"]}):
        message = failure(hold_out={"column": "speaker", **settings})
        assert message == f"corpora.sources.toy.hold_out: no clip has 'Egon' in 'speaker'; {known}"


def test_an_empty_fold_is_an_error() -> None:
    taken = {int(50 * chance(f"toy/fold/{group}")) for group in "abcdef"}
    empty = next(number for number in range(50) if number not in taken)
    assert failure(fold={"of": 50, "number": empty}) == (
        f"corpora.sources.toy.fold: none of the 6 groups fell into fold {empty} of 50; a study with folds = 4 "
        "tests every group once, or set corpora.sources.toy.fold = { of = 4, number = 0, dev = 0.3333 }"
    )


def test_splits_anew() -> None:
    assert not SplitSettings().splits_anew
    for settings in ({"fractions": {"train": 1.0}}, {"fold": {"of": 2, "number": 0}}, {"hold_out": {"test": ["a"]}}):
        assert SplitSettings.model_validate(settings).splits_anew


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fractions": {"train": 0.5, "dev": 0.4}}, "fractions must sum to 1, they sum to 0.9"),
        ({"fractions": {"train": 1.0, "dev": 0.0}}, "greater than 0"),
        ({"fractions": {"rest": 1.0}}, "'train', 'dev' or 'test'"),
        ({"fractions": {"train": 1.0}, "fold": {"of": 2, "number": 0}}, "fractions and fold each say what the splits"),
        ({"hold_out": {"test": ["a"]}, "fold": {"of": 2, "number": 0}}, "hold_out and fold each say what the splits"),
        ({"hold_out": {"test": []}}, "at least 1 item"),
        ({"hold_out": {"test": ["a", "b"], "dev": ["c", "b"]}}, "'b' is held out as dev and as test"),
        ({"hold_out": {"test": ["a"], "dev": 1.5}}, "less than or equal to 1"),
        ({"fold": {"of": 1, "number": 0}}, "greater than or equal to 2"),
        ({"fold": {"of": 3, "number": -1}}, "greater than or equal to 0"),
        ({"fold": {"of": 3, "number": 3}}, "fold number 3 does not exist; 3 folds count from 0"),
        ({"fold": {"of": 3, "number": 0, "dev": 0.0}}, "greater than 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        SplitSettings.model_validate(settings)
    assert message in str(error.value)


FEW = pd.DataFrame({"group": [f"p{number // 3}" for number in range(21)]}, dtype="string")  # 7 groups of 3 clips


@pytest.mark.parametrize("name", ["mine", "toy", "study", "lab"])
@pytest.mark.parametrize("num_groups", range(3, 11))
def test_shares_and_folds_that_are_proposed_work(name: str, num_groups: int) -> None:
    groups = pd.Series([f"p{number // 2}" for number in range(2 * num_groups)], dtype="string")
    clips = pd.DataFrame({"group": groups})
    asked = SplitSettings.model_validate({"fractions": {"train": 0.5, "dev": 0.25, "test": 0.25}})
    advice = dealing_advice(name, groups, resplit(name, clips, asked), asked)
    shares = re.search(
        rf"corpora\.sources\.{name}\.fractions = ({{.*?}}) deals these groups (\d+) train, (\d+) dev", advice
    )
    assert shares is not None
    splits = split(clips, name, **tomllib.loads(f"fractions = {shares[1]}"))
    counts = groups.groupby(splits.to_numpy()).nunique()
    assert counts.reindex(["train", "dev"]).tolist() == [int(shares[2]), int(shares[3])]
    assert counts.min() >= 1
    assert len(counts) == 3
    folds = re.search(r"a study with folds = (\d+)", advice)
    if folds is None:
        example = re.search(rf"corpora\.sources\.{name}\.hold_out = ({{.*?}})$", advice)
        assert example is not None
        assert split(clips, name, **tomllib.loads(f"hold_out = {example[1]}")).nunique() == 3
    for number in range(0 if folds is None else int(folds[1])):  # as `tuning.study` makes them
        assert folds is not None
        dealt = split(clips, name, fold={"of": int(folds[1]), "number": number, "dev": 1 / (int(folds[1]) - 1)})
        assert dealt.nunique() == 3


def test_the_dealing_of_few_groups_is_described() -> None:
    asked = SplitSettings.model_validate({"fractions": {"train": 0.5, "dev": 0.25, "test": 0.25}})
    advice = dealing_advice("mine", FEW["group"], resplit("mine", FEW, asked), asked)
    # chances of mine/p1, 5, 6, 3, 0, 4, 2: .055 .081 .169 | .176 .361 | .406 .580; bounds .17 and .38
    assert advice.startswith(
        "dealt 7 groups: train 6 groups (18 clips), dev 1 group (3 clips), test 0 groups (0 clips); "
        "corpora.sources.mine.fractions = { train = 0.17, dev = 0.21, test = 0.62 } deals these groups 3 train, 2 dev, "
        "2 test; a study with folds = 4 tests every group once"
    )


def test_fewer_groups_than_splits_need_more_groups() -> None:
    groups = pd.Series(["a", "b", "b"], dtype="string")
    asked = SplitSettings.model_validate({"fold": {"of": 2, "number": 0}})
    advice = dealing_advice("toy", groups, pd.Series(["test", "train", "train"]), asked)
    assert advice == (
        "dealt 2 groups: train 1 group (2 clips), dev 0 groups (0 clips), test 1 group (1 clip); 3 splits need 3 "
        "groups or more: name participants under corpora.sources.toy.group, or add clips"
    )
