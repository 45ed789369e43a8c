"""Figures of answers: constant predictors of BAH, what counts how often, the marked prompt, likelihoods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from corpora.registry import CorporaConfig
from mmpsr.config import validate
from mmpsr.tasks import AMBIVALENCE
from training.zero_shot.figures import evaluate_answers

pytestmark = pytest.mark.usefixtures("few_resamples")

CORPORA = validate(CorporaConfig, {"sources": {"bah": {"adapter": "bah", "path": "bah"}}}, "corpora")
ABSENT, PRESENT = "ambivalence.absent", "ambivalence.present"


def table(counts: Any, split: Any = "test", **columns: Any) -> pd.DataFrame:
    """Answers to rows that have these numbers of absent and present."""
    counts = np.asarray(counts)
    frame = pd.DataFrame({"corpus": "bah", "split": split, "clip_id": [f"c{row}" for row in range(len(counts))]})
    frame = frame.assign(group=[f"g{row % 5}" for row in range(len(counts))], **{ABSENT: counts[:, 0]})
    return frame.assign(**{PRESENT: counts[:, 1]}, **{name.replace("_", "."): each for name, each in columns.items()})


def evaluate(answered: pd.DataFrame, *prompts: str) -> tuple[dict[tuple[str, ...], Any], dict[str, Any]]:
    document = evaluate_answers(answered, "ambivalence", AMBIVALENCE, prompts, CORPORA)
    return {(row["split"], row["system"], row["metric"]): row for row in document["figures"]}, document


def test_constant_predictors_of_the_test_videos() -> None:
    """525 videos, 318 positive: F1 of always absent is 2*207 / (2*207 + 318), the mean half of it."""
    found, _ = evaluate(table([[1, 0]] * 207 + [[0, 1]] * 318))
    absent, present = found["test", "all absent", "macro_f1"], found["test", "all present", "macro_f1"]
    assert absent["value"] == pytest.approx(100 * 207 / 732)
    assert round(absent["value"], 3) == 28.279
    assert round(present["value"], 3) == 37.722
    assert found["test", "all absent", "negative_f1"]["value"] == pytest.approx(100 * 414 / 732)
    assert found["test", "all absent", "positive_f1"]["value"] == 0.0
    assert (absent["num"], absent["num_groups"]) == (525, 5)
    assert absent["low"] <= absent["value"] <= absent["high"]


def test_constant_predictors_of_the_test_frames() -> None:
    """335,110 frames of which 65,756 are positive, in a few chunks: counts stand for frames."""
    negative = 335_110 - 65_756
    found, _ = evaluate(table([[negative // 2, 0], [negative - negative // 2, 65_756 // 3], [0, 65_756 - 65_756 // 3]]))
    assert round(found["test", "all absent", "macro_f1"]["value"], 3) == 44.561
    assert round(found["test", "all absent", "weighted_f1"]["value"], 3) == 71.634
    assert round(found["test", "all present", "macro_f1"]["value"], 3) == 16.403
    assert found["test", "all present", "macro_f1"]["num"] == 335_110


def test_an_answer_counts_for_each_frame_of_its_chunk() -> None:
    answers = ["present", None, "absent", "present"]
    found, document = evaluate(table([[3, 5], [8, 0], [6, 2], [0, 1]], class_a=answers), "a")
    actual, decided = [0] * 3 + [1] * 5 + [0] * 6 + [1] * 2 + [1], [1] * 8 + [0] * 8 + [1]
    assert found["test", "a", "macro_f1"]["num"] == 17  # the chunk without an answer is not among them
    for metric, average in (("macro_f1", "macro"), ("weighted_f1", "weighted")):
        expected = 100 * sk.f1_score(actual, decided, average=average)
        assert found["test", "a", metric]["value"] == pytest.approx(expected)
    assert found["test", "all absent", "macro_f1"]["num"] == 25
    assert ("test", "a", "average_precision") not in found  # answers are hard
    assert document["chosen"] is None


def test_likelihoods_have_an_average_precision() -> None:
    labels = [1, 0, 1, 0, 0, 1, 0, 0, 1, 0]
    p = np.array([0.9, 0.2, 0.8, 0.3, 0.1, 0.7, 0.65, 0.05, 0.4, 0.35])
    answered = table(np.eye(2, dtype=int)[labels], class_a=["absent"] * 10)
    answered = answered.assign(**{"likelihood.a.absent": 1 - p, "likelihood.a.present": p})
    found, _ = evaluate(answered, "a")
    assert found["test", "a likelihood", "bah_average_precision"]["value"] == pytest.approx(81.875)
    expected = 100 * sk.average_precision_score(labels, p)
    assert found["test", "a likelihood", "average_precision"]["value"] == pytest.approx(expected)
    assert found["test", "a likelihood", "positive_f1"]["value"] == pytest.approx(100 * 6 / 8)  # TP 3, FP 1, FN 1
    assert found["test", "a", "positive_f1"]["value"] == 0.0


def test_only_dev_chooses_a_prompt() -> None:
    counts = np.eye(2, dtype=int)[[0, 1, 0, 1]]
    right, wrong = ["absent", "present"], ["present", "absent"]
    splits = ["dev", "dev", "test", "test"]
    _, document = evaluate(table(counts, splits, class_a=wrong + right, class_b=right + wrong), "a", "b")
    assert document["chosen"] == {"prompt": "b", "split": "dev", "metric": "macro_f1", "value": 100.0}
    _, document = evaluate(table(counts, class_a=wrong + right, class_b=right * 2), "a", "b")
    assert document["chosen"] is None  # test alone
    _, document = evaluate(table(counts, "dev", class_a=right * 2, class_b=right * 2), "a", "b")
    assert document["chosen"]["prompt"] == "a"  # the first of equals
    _, document = evaluate(table(counts, splits, class_a=[None, None, *right], class_b=wrong * 2), "a", "b")
    assert document["chosen"]["prompt"] == "b"  # without an answer on dev there is no figure
