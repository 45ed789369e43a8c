from __future__ import annotations

import math

import joined as small
import numpy as np
import pytest
import torch

from mmpsr.config import ConfigError
from training.fit.progress import monitor, require_monitor
from training.scoring.scores import Figure, dev_mean, evaluate_rows

FIGURES = [
    Figure("mosei", "dev", "emotion", "multilabel_macro_f1", 60.0, 9),
    Figure("mosei", "dev", "emotion", "multilabel_weighted_accuracy", 50.0, 9),
    Figure("other", "dev", "emotion", "macro_f1", 10.0, 9),
    Figure("fiv2", "dev", "personality", "mean_accuracy", 90.0, 9),
    Figure("fiv2", "dev", "personality", "mean_ccc", math.nan, 9),
    Figure("meld", "dev", "emotion", "macro_f1", 99.0, 9),
    Figure("mosei", "test", "emotion", "multilabel_macro_f1", 99.0, 9),
]
TRAINED = ("mosei", "other", "fiv2", "bah")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", (40.0 + 90.0) / 2),
        ("emotion", (60.0 + 50.0 + 10.0) / 3),
        ("personality", 90.0),
        ("mosei/emotion/multilabel_weighted_accuracy", 50.0),
        ("other/emotion/macro_f1", 10.0),
    ],
)
def test_figures_by_name(name: str, expected: float) -> None:
    assert monitor(FIGURES, TRAINED, name) == pytest.approx(expected)
    assert monitor(FIGURES[::-1], TRAINED, name) == pytest.approx(expected)


def test_the_mean_is_the_dev_mean() -> None:
    assert monitor(FIGURES, TRAINED, "mean") == dev_mean(FIGURES, TRAINED)


def test_a_figure_that_is_no_number_stays_none() -> None:
    assert math.isnan(monitor(FIGURES, TRAINED, "fiv2/personality/mean_ccc"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("emotoin", "did you mean 'emotion'"),
        ("maen", "did you mean 'mean'"),
        ("mosei/emotion/multilabel_macro_f", "did you mean 'mosei/emotion/multilabel_macro_f1'"),
        ("loss", "known names are emotion, fiv2/personality/mean_accuracy, .* mean, mosei/emotion/"),
    ],
)
def test_a_wrong_name_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"training\.monitor: no dev figure .* is named '{name}'; {hint}"):
        monitor(FIGURES, TRAINED, name)


@pytest.mark.parametrize("name", ["meld/emotion/macro_f1", "ambivalence"])
def test_zero_shot_corpora_and_tasks_without_dev_labels_choose_nothing(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        monitor(FIGURES, TRAINED, name)


def test_names_are_checked_before_training() -> None:
    config, joined, tasks = small.config(), small.joined(), small.tasks()
    rows = joined.rows(config.corpora.trained(), "dev")
    predicted = {task: np.full((len(rows), spec.num_outputs), 0.5) for task, spec in tasks.items()}
    figures = evaluate_rows(predicted, joined, rows, tasks, config.corpora)
    names = {figure.task for figure in figures} | {f"{x.corpus}/{x.task}/{x.metric}" for x in figures}
    assert len(names) == 3 + 2 * 3
    for name in ("mean", *names):
        require_monitor(name, joined, rows, tasks, config.corpora)
    with pytest.raises(ConfigError, match="did you mean 'bah/ambivalence/uar'"):
        require_monitor("bah/ambivalence/uaar", joined, rows, tasks, config.corpora)
    joined.labels["ambivalence"][torch.as_tensor(rows)] = math.nan
    with pytest.raises(ConfigError, match="'ambivalence'"):
        require_monitor("ambivalence", joined, rows, tasks, config.corpora)
