"""Coverage of a run's sets and intervals: made from dev alone, measured by group, promised only where it can be."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmpsr.calibration.conformal import ConformalFit
from mmpsr.config import ConfigError
from tests.support import stored_run
from training.evaluation.coverage import coverage_of
from training.evaluation.evaluate import EvaluationOptions, evaluate
from training.evaluation.figures import split_parts
from training.report.performance import coverage_section
from training.runs.stored import RunPredictions
from training.scoring.tables import NO_COVERAGE, tables

pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunPredictions:
    """Dev groups, of two clips each: 6 of MOSEI, 5 of First Impressions, 4 of BAH; MELD is not trained on."""
    return RunPredictions.read(stored_run.finish(tmp_path_factory.mktemp("runs"), apart=True))


def rows_of(run: RunPredictions, level: float, split: str | None = None) -> list[dict[str, Any]]:
    return coverage_of(run, split_parts(run, split), level)["rows"]


def test_quantiles_are_of_calibrated_dev_clips_by_group_and_corpus(run: RunPredictions) -> None:
    fits = run.calibration.conformal
    assert {task: list(by_corpus) for task, by_corpus in fits.items()} == {
        "emotion": ["mosei"], "personality": ["fiv2"], "ambivalence": ["bah"],
    }  # fmt: skip
    dev = run.table[run.table["corpus"].eq("bah") & run.table["split"].eq("dev")]
    columns = ["ambivalence.absent", "ambivalence.present"]
    uncalibrated = dev[[f"uncalibrated.{name}" for name in columns]].to_numpy()
    probs, truths = run.calibration.apply("ambivalence", uncalibrated), dev[columns].to_numpy().argmax(axis=1)
    expected = ConformalFit.of(1 - probs[np.arange(len(dev)), truths], dev["group"].to_numpy(str))
    (found,) = fits["ambivalence"]["bah"]
    assert (found.num_groups, found.num_clips) == (4, 8)
    assert found.quantiles == pytest.approx(expected.quantiles, abs=1e-9)


def test_observed_coverage_worked_out_by_group(run: RunPredictions) -> None:
    row = next(row for row in rows_of(run, 0.75) if row["part"] == "openness")
    part = next(part for part in split_parts(run, None) if part.corpus == "fiv2")
    fit = run.calibration.conformal["personality"]["fiv2"][0]
    held = np.abs(part.targets[:, 0] - part.predicted[:, 0]) <= fit.quantile(0.75)
    shares = [held[part.groups == group].mean() for group in np.unique(part.groups)]
    assert row["value"] == pytest.approx(100 * np.mean(shares))
    assert row["low"] <= row["value"] <= row["high"] <= 100
    assert (row["num_clips"], row["num_groups"], row["promised"], row["of"]) == (10, 5, True, 1)
    assert row["sentence"] == "75 % is promised for new groups like the dev groups of fiv2 (5)"
    assert 0 < row["size"] < 1


def test_groups_count_the_same_whatever_their_clips(run: RunPredictions) -> None:
    part = next(part for part in split_parts(run, None) if part.corpus == "bah")
    first = part.groups == part.groups[0]
    more = part.take(np.concatenate([np.flatnonzero(~first), np.repeat(np.flatnonzero(first), 5)]))
    one, many = (coverage_of(run, [each], 0.6)["rows"][0] for each in (part, more))
    assert many["num_clips"] == one["num_clips"] + 4 * first.sum()
    assert (many["value"], many["size"]) == (pytest.approx(one["value"]), pytest.approx(one["size"]))


def test_too_few_groups_rule_nothing_out_and_say_so(run: RunPredictions) -> None:
    rows = [row for row in rows_of(run, 0.9) if row["corpus"] != "meld"]
    assert len(rows) == 7 + 5 + 1
    assert all(row["value"] == 100.0 and row["size"] == row["of"] and not row["promised"] for row in rows)
    assert {row["sentence"] for row in rows if row["corpus"] == "bah"} == {
        "90 % is not promised: too few dev groups (bah has 4, 9 are needed), so nothing is ruled out"
    }
    assert {row["of"] for row in rows} == {1, 2}


def test_nothing_is_promised_of_other_corpora_nor_told_of_the_clips_it_is_made_from(run: RunPredictions) -> None:
    other = [row for row in rows_of(run, 0.75) if row["corpus"] == "meld"]
    assert len(other) == 7
    assert not any(row["promised"] for row in other)
    assert all(row["value"] is not None for row in other)
    assert other[0]["sentence"] == "75 % is not promised: meld has no dev groups in the calibration"
    own = [row for row in rows_of(run, 0.75, "dev") if row["corpus"] == "bah"]
    assert [(row["value"], row["promised"], row["sentence"]) for row in own] == [
        (None, False, "these are the clips that the sets are made from")
    ]
    part = next(part for part in split_parts(run, None) if part.corpus == "mosei")
    fewer = replace(part, spec=part.spec.model_copy(update={"classes": part.spec.classes[:6]}))
    (row,) = coverage_of(run, [fewer], 0.75)["rows"]
    assert (row["value"], row["sentence"]) == (None, "mosei is annotated for some of the labels only")


def test_groups_that_training_has_promise_nothing_and_measure_nothing(run: RunPredictions, tmp_path: Path) -> None:
    mixed = RunPredictions.read(stored_run.finish(tmp_path))  # ten clips of a group are in all splits
    rows = [row for row in rows_of(mixed, 0.5) if row["corpus"] == "bah"]
    assert {(row["promised"], row["sentence"]) for row in rows} == {
        (
            False,
            "50 % is not promised: too few dev groups (bah has 0, and 4 that do not count, since training has clips of "
            "them, 1 are needed), so nothing is ruled out",
        )
    }
    part = next(part for part in split_parts(run, None) if part.corpus == "bah")
    known = part.clips.assign(use="trained")
    first = known[part.groups == part.groups[0]]
    (some,) = coverage_of(run, [part], 0.6, first)["rows"]
    (unseen,) = coverage_of(run, [part.take(part.groups != part.groups[0])], 0.6)["rows"]
    assert some["sentence"].endswith(
        f"{len(first)} of {len(known)} clips are left out, since train or dev has clips of their groups"
    )
    assert some == {**unseen, "sentence": some["sentence"]}
    (none,) = coverage_of(run, [part], 0.6, known)["rows"]
    assert (none["value"], none["promised"]) == (None, False)
    assert coverage_of(run, [part], 0.6, known.assign(use="none")) == coverage_of(run, [part], 0.6)


def test_a_run_of_before_says_that_it_has_none(run: RunPredictions) -> None:
    old = replace(run, calibration=run.calibration.model_copy(update={"conformal": {}}))
    rows = rows_of(old, 0.9)
    assert {(row["value"], row["promised"]) for row in rows} == {(None, False)}
    document = evaluate(run.path, EvaluationOptions())
    without = {name: value for name, value in document.items() if name != "coverage"}
    assert NO_COVERAGE in list(tables(without))
    assert NO_COVERAGE not in list(tables(document))
    assert coverage_section(None, ()).blocks == []


def test_the_report_shows_what_was_asked_and_observed(run: RunPredictions) -> None:
    table, *told = coverage_section(coverage_of(run, split_parts(run, None), 0.75), ["meld"]).blocks
    assert [row[1] for row in table.rows if "bah" in row[0]] == ["all classes"]  # type: ignore[union-attr]
    assert len(table.rows) == 7 + 5 + 1 + 7  # type: ignore[union-attr]
    assert any("75 % is promised for new groups like the dev groups of bah (4)." in block.text for block in told)  # type: ignore[union-attr]


@pytest.mark.parametrize("level", [0.4, 1.0, math.nan])
def test_what_cannot_be_asked(run: RunPredictions, level: float) -> None:
    with pytest.raises(ConfigError, match=r"--coverage is a chance from 0\.5 to 0\.99, found"):
        evaluate(Path(run.path), EvaluationOptions(coverage=level))
