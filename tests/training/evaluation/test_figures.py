"""A run's figures: the same as its results, with intervals by group, by class, by modality and by column."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from corpora.clips import ClipTable
from mmpsr.metrics.bootstrap import bootstrap
from mmpsr.metrics.definitions import METRICS
from mmpsr.metrics.paired_tests import holm
from tests.support import joined as small
from tests.support import stored_run
from training.evaluation import figures as detailed_evaluation
from training.evaluation.figures import decided_classes, split_parts
from training.evaluation.figures import evaluate_run as evaluation
from training.runs.directory import RunError
from training.runs.stored import RunPredictions
from training.scoring.rows import plain


def evaluate_run(run: RunPredictions, split: str | None, column: str | None) -> dict[str, Any]:
    """The document as `--json` prints it."""
    return plain(evaluation(run, split, column))


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detailed_evaluation, "NUM_RESAMPLES", 200)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunPredictions:
    return RunPredictions.read(stored_run.finish(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def document(run: RunPredictions) -> dict[str, Any]:
    return evaluate_run(run, None, None)


def test_figures_are_those_of_the_results(run: RunPredictions, document: dict[str, Any]) -> None:
    chosen = {(part.corpus, part.split) for part in split_parts(run, None)}
    assert chosen == {("mosei", "test"), ("fiv2", "test"), ("bah", "test"), ("meld", "dev")}  # MELD has no test clips
    results = [row for row in run.results() if (row["corpus"], row["split"]) in chosen]
    assert len(results) == len(document["figures"])
    for row, expected in zip(document["figures"], results, strict=True):
        assert (row["metric"], row["num_clips"]) == (expected["metric"], expected["num_clips"])
        assert row["value"] == pytest.approx(expected["model"], abs=1e-9)
        assert row["linear"]["value"] == pytest.approx(expected["linear"], abs=1e-9)
        assert row["over_linear"]["value"] == pytest.approx(expected["model"] - expected["linear"], abs=1e-9)
    over = [row["over_linear"] for row in document["figures"]]
    assert [row["corrected_p"] for row in over] == pytest.approx(holm([row["p"] for row in over]))


def test_intervals_are_of_groups(run: RunPredictions, document: dict[str, Any]) -> None:
    part = next(part for part in split_parts(run, None) if part.corpus == "fiv2")
    row = next(row for row in document["figures"] if row["metric"] == "mean_ccc")
    assert (row["num_clips"], row["num_groups"]) == (10, 5)  # every fifth of 50 clips, ten of which share a group
    interval = bootstrap(part.statistic("mean_ccc"), 5, 200).interval(limits=(-100, 100))
    assert (row["low"], row["high"]) == (interval.low, interval.high)


def test_intervals_stay_within_what_metrics_can_be(document: dict[str, Any]) -> None:
    rows = [row for row in (*document["figures"], *document["classes"]) if row["low"] is not None]
    assert all((-100 if row["metric"] == "mean_ccc" else 0) <= row["low"] <= row["high"] <= 100 for row in rows)
    assert any(row["low"] < 0 for row in rows)
    assert any(row["high"] == 100 > row["value"] for row in rows)  # taking the bias off leads beyond it


def test_classes_are_what_metrics_are_the_mean_of(run: RunPredictions, document: dict[str, Any]) -> None:
    for figure in document["figures"]:
        place = {name: figure[name] for name in ("corpus", "split", "task", "metric")}
        values = [row["value"] for row in document["classes"] if place.items() <= row.items()]
        if figure["metric"] == "weighted_f1":
            assert not values
        else:
            assert np.mean([each for each in values if each is not None]) == pytest.approx(figure["value"])
    part = next(part for part in split_parts(run, None) if part.corpus == "fiv2")
    row = next(row for row in document["classes"] if (row["class"], row["metric"]) == ("extraversion", "mean_ccc"))
    column = part.spec.classes.index("extraversion")
    alone = METRICS["mean_ccc"](part.targets[:, [column]], part.predicted[:, [column]], part.spec)
    assert row["value"] == pytest.approx(alone)
    assert row["num_clips"] == 10


def test_confusion_and_calibration_are_of_classification(run: RunPredictions, document: dict[str, Any]) -> None:
    assert [row["corpus"] for row in document["confusion"]] == ["mosei", "bah", "meld"]
    assert [row["corpus"] for row in document["calibration"]] == ["mosei", "bah", "meld"]
    part = next(part for part in split_parts(run, None) if part.corpus == "bah")
    counts = np.array(document["confusion"][1]["counts"])
    actual, decided = part.targets.argmax(axis=1), decided_classes(part)
    for row in range(2):
        for column in range(2):
            assert counts[row, column] == ((actual == row) & (decided == column)).sum()
    found = document["calibration"][1]
    assert sum(each["count"] for each in found["bins"]) == len(part.clips)
    gaps = sum(each["count"] * abs(each["observed"] - each["predicted"]) for each in found["bins"])
    assert found["error"] == pytest.approx(gaps / len(part.clips))


def test_clips_are_told_apart_by_the_modalities_they_have(run: RunPredictions, document: dict[str, Any]) -> None:
    rows = [row for row in document["presence"] if row["corpus"] == "mosei"]
    assert {row["modalities"] for row in rows} == {"text+audio", "text"}
    part = next(part for part in split_parts(run, None) if part.corpus == "mosei")
    some = part.take(~part.clips["present.audio"].to_numpy(dtype=bool))
    for row in (row for row in rows if row["modalities"] == "text"):
        assert row["value"] == pytest.approx(some.figures()[row["metric"]])
        assert row["num_clips"] == len(some.clips)


def test_a_column_of_the_predictions(run: RunPredictions) -> None:
    rows = [row for row in evaluate_run(run, "test", "group")["by"] if row["metric"] == "mean_accuracy"]
    assert len(rows) == 5
    assert all(row["num_clips"] == 2 and row["low"] is None for row in rows)  # one group has no interval


def test_a_column_of_the_corpora(run: RunPredictions, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = small.joined().clips.iloc[::-1].reset_index(drop=True)  # in another order
    number = clips["clip_id"].str.removeprefix("clip").astype(int)
    clips["raw.age"] = ["old" if value % 3 else None for value in number]
    monkeypatch.setattr(detailed_evaluation, "read_corpora", lambda *_: ClipTable(clips))
    rows = evaluate_run(run, "test", "raw.age")["by"]
    by_age = {row["value_of_column"]: row for row in rows if row["metric"] == "mean_accuracy"}
    part = next(part for part in split_parts(run, "test") if part.corpus == "fiv2")
    is_old = part.clips["clip_id"].str.removeprefix("clip").astype(int).mod(3).gt(0).to_numpy(dtype=bool)
    for age, chosen in (("old", is_old), ("(missing)", ~is_old)):
        assert by_age[age]["num_clips"] == chosen.sum()
        assert by_age[age]["value"] == pytest.approx(part.take(chosen).figures()["mean_accuracy"])
    with pytest.raises(RunError, match=r"--by: no column is named 'raw.ages'; did you mean 'raw.age'"):
        evaluate_run(run, "test", "raw.ages")


def test_a_column_of_corpora_that_are_gone(run: RunPredictions) -> None:
    with pytest.raises(RunError, match=r"no column 'speaker', and the corpora that may cannot be read \("):
        evaluate_run(run, "test", "speaker")


def test_a_split_without_labelled_clips(run: RunPredictions) -> None:
    with pytest.raises(RunError, match="no labelled clip of split 'train' was evaluated; known names are dev, test"):
        evaluate_run(run, "train", None)


def test_figures_by_novelty_are_those_of_the_clips_alone(run: RunPredictions) -> None:
    names = [name for name in run.table if str(name).startswith("novelty.")]
    assert sorted(names) == ["novelty.audio", "novelty.text"]
    table = run.table.copy()
    table["novelty.audio"] = [0.95 if row % 3 == 0 else 0.94 for row in range(len(table))]
    table["novelty.text"] = np.nan  # of a clip without the modality
    changed = replace(run, table=table)
    rows = [row for row in evaluate_run(changed, None, None)["novelty"] if row["corpus"] == "mosei"]
    [part] = [part for part in split_parts(changed, None) if part.corpus == "mosei"]
    unlike = part.clips["novelty.audio"].ge(0.95).to_numpy()
    for name, mask in (("unlike training", unlike), ("like training", ~unlike)):
        expected = part.take(mask).figures()
        found = {row["metric"]: row for row in rows if row["novelty"] == name}
        assert {metric: row["value"] for metric, row in found.items()} == pytest.approx(expected)
        assert {row["num_clips"] for row in found.values()} == {int(mask.sum())}
    before = replace(run, table=run.table.drop(columns=names))
    assert "novelty" not in evaluate_run(before, None, None)
