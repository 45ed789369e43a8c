"""Figures of class texts: worked out by hand, and the same whatever the labels are."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmpsr.config import ConfigError
from tests.support.worded import MOODS, without_workers, write_corpus, write_mood
from training.evaluation import figures
from training.evaluation.zero_shot import USUAL, ZeroShotOptions, evaluate_zero_shot
from training.scoring.tables import tables


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_workers(monkeypatch)
    monkeypatch.setattr(figures, "NUM_RESAMPLES", 50)


def test_figures_are_those_of_the_nearest_texts(tmp_path: Path) -> None:
    mood = write_mood(tmp_path)
    file = write_corpus(tmp_path, texts=mood)
    document = evaluate_zero_shot(ZeroShotOptions(file))
    (row,) = document["figures"]  # of the task with texts alone
    # a good, b bad, c good (though bad), d as good since "joy calm" is a phrase of good, e good by what is seen,
    # f nothing at all, which goes to the first class: recall of good 3/3, of bad 1/3
    assert (row.corpus, row.task, row.metric, row.num_clips, row.num_groups) == ("own", "mood", "uar", 6, 3)
    assert row.model.value == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert row.chance is not None
    (blank,) = document["leakage"]["findings"]
    assert blank["message"].startswith("1 of 6 test clips of own with a label of mood have no modality at all")
    again = evaluate_zero_shot(ZeroShotOptions(write_corpus(tmp_path), task_texts=(mood,)))
    assert again["figures"] == document["figures"]


def test_nothing_is_fitted_to_the_labels(tmp_path: Path) -> None:
    mood = write_mood(tmp_path)
    first = evaluate_zero_shot(ZeroShotOptions(write_corpus(tmp_path), task_texts=(mood,)))
    others = tuple({"good": "bad", "bad": "good"}[each] for each in MOODS)
    second = evaluate_zero_shot(ZeroShotOptions(write_corpus(tmp_path, others), task_texts=(mood,)))
    counts, turned = (document["confusion"][0]["counts"] for document in (first, second))
    assert counts == [[3, 0], [2, 1]]
    assert turned == counts[::-1]  # the same decisions


def test_each_wording_alone(tmp_path: Path) -> None:
    options = ZeroShotOptions(write_corpus(tmp_path), task_texts=(write_mood(tmp_path),), each_wording=True)
    document = evaluate_zero_shot(options)
    rows = {row["wordings"]: row for row in document["wordings"]}
    assert list(rows) == ["names", "templates", "phrases", "behaviors", USUAL]  # it has no definitions
    assert list(rows["phrases"]["compared"]) == ["text"]
    assert list(rows["behaviors"]["compared"]) == ["behavior"]
    # behaviours: a and e good, b bad, c, d and f blind, so good: as the usual ones
    assert rows["behaviors"]["value"] == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert rows[USUAL]["value"] == document["figures"][0].model.value
    lines = [str(part) for part in tables(document)]
    assert lines[1].startswith("mood: Zero-shot by the texts of ")
    assert "none is chosen" in lines[2]


def test_what_cannot_be_evaluated(tmp_path: Path) -> None:
    file = write_corpus(tmp_path)
    with pytest.raises(
        ConfigError, match="none of the active tasks mood, other has texts; name some with --task-texts"
    ):
        evaluate_zero_shot(ZeroShotOptions(file))
    with pytest.raises(ConfigError, match="--corpus: no corpus is named 'mine'"):
        evaluate_zero_shot(ZeroShotOptions(file, task_texts=(write_mood(tmp_path),), corpora=("mine",)))
