from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import stats

from mmpsr.calibration.calibration import Calibration, TaskCalibration, logits_of, with_temperature
from mmpsr.config import ConfigError
from mmpsr.tasks import AMBIVALENCE, PERSONALITY

LOGITS = np.random.default_rng(0).normal(scale=4, size=(50, 5))


def one(task: str = "task", **values: object) -> Calibration:
    values = {"form": "softmax", "num_clips": 9, **values}
    return Calibration(tasks={task: TaskCalibration(**values)})  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.3, 0.9, 2.5, 10.0])
def test_probabilities_become_those_of_divided_logits(temperature: float) -> None:
    logits = torch.from_numpy(LOGITS)
    found = one(temperature=temperature).apply("task", logits.softmax(dim=1).numpy())
    assert found == pytest.approx((logits / temperature).softmax(dim=1).numpy())
    found = one(temperature=temperature, form="sigmoid").apply("task", logits.sigmoid().numpy())
    assert found == pytest.approx((logits / temperature).sigmoid().numpy())


def test_a_temperature_by_hand() -> None:
    # T = 2 takes roots: 0.8 and 0.2 are as 2 to 1. Odds of 9 become 3.
    assert one(temperature=2.0).apply("task", np.array([[0.8, 0.2]])) == pytest.approx(np.array([[2 / 3, 1 / 3]]))
    found = one(temperature=2.0, form="sigmoid").apply("task", np.array([[0.9, 0.1, 0.5]]))
    assert found == pytest.approx(np.array([[0.75, 0.25, 0.5]]))


def test_what_is_not_calibrated_stays_bit_for_bit() -> None:
    values = LOGITS.copy()
    for calibration in (Calibration(), one("other", temperature=3.0), one(), one(form="score", deviations=(0.1,) * 5)):
        assert np.array_equal(calibration.apply("task", values), LOGITS)
        assert calibration.thresholds("task") is None
    found = one(temperature=2.0).apply_all({"task": np.array([[0.8, 0.2]]), "other": values})
    assert found["task"] == pytest.approx(np.array([[2 / 3, 1 / 3]]))
    assert np.array_equal(found["other"], LOGITS)


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_certainty_and_numbers_that_are_none(form: str) -> None:
    calibration = one(temperature=2.0, form=form)
    sure = calibration.apply("task", np.array([[1.0, 0.0, 0.0]]))
    assert np.isfinite(sure).all()
    # Logits lie within 12 ln 10 of each other: 0 counts as 1e-12, whose root is 1e-6.
    assert sure == pytest.approx(np.array([[1.0, 1e-6, 1e-6]]), rel=1e-5)
    found = calibration.apply("task", np.array([[0.8, 0.1, 0.1], [0.5, np.nan, 0.5]]))
    assert np.array_equal(found[0], calibration.apply("task", np.array([[0.8, 0.1, 0.1]]))[0])
    assert np.isnan(found[1, 1])
    assert np.isfinite(found[0]).all()
    assert calibration.apply("task", np.zeros((0, 3))).shape == (0, 3)


def test_temperatures_keep_the_order_of_classes() -> None:
    probabilities = torch.from_numpy(LOGITS).softmax(dim=1).numpy()
    for temperature in (0.2, 5.0):
        found = with_temperature(probabilities, "softmax", temperature)
        assert np.array_equal(found.argsort(axis=1), probabilities.argsort(axis=1))
        assert found.sum(axis=1) == pytest.approx(np.ones(50))
        # a higher temperature is less sure
        assert (np.sign(found.max(axis=1) - probabilities.max(axis=1)) == np.sign(1 - temperature)).all()


def test_logits_of_probabilities() -> None:
    differences = logits_of(torch.from_numpy(LOGITS).softmax(dim=1).numpy(), "softmax") - LOGITS
    assert differences == pytest.approx(np.repeat(differences[:, :1], 5, axis=1))
    assert logits_of(torch.from_numpy(LOGITS).sigmoid().numpy(), "sigmoid") == pytest.approx(LOGITS)


def test_thresholds_are_arrays() -> None:
    found = one(thresholds=(0.7, 0.3)).thresholds("task")
    assert found is not None
    assert found.tolist() == [0.7, 0.3]


def test_coverages_of_earlier_versions_are_passed_over() -> None:
    point = {"coverage": 0.5, "confidence": 0.8, "accuracy": 0.95}
    stored = {"tasks": {"task": {"form": "softmax", "num_clips": 9, "temperature": 2.0, "points": [point]}}}
    assert Calibration.from_dict(stored) == one(temperature=2.0)
    assert Calibration.model_validate(stored) == one(temperature=2.0)
    assert "points" not in Calibration.from_dict(stored).to_dict()["tasks"]["task"]
    assert stored["tasks"]["task"]["points"] == [point]
    stored["tasks"]["task"]["pionts"] = []
    with pytest.raises(ConfigError, match="pionts"):
        Calibration.from_dict(stored)


def test_abstaining() -> None:
    probabilities = np.array([[0.7, 0.3], [0.2, 0.8], [0.31, 0.69], [np.nan, np.nan]])
    assert one().abstain("task", probabilities, AMBIVALENCE, 0.7).tolist() == [False, False, True, True]
    # from 0.25 on, the first is decided present with 0.3
    calibration = one(thresholds=(0.75, 0.25))
    assert calibration.abstain("task", probabilities, AMBIVALENCE, 0.69).tolist() == [True, False, False, True]


def test_intervals_by_hand() -> None:
    # 90 % of a normal lie within 1.645 deviations.
    calibration = one(form="score", deviations=(0.1, None))
    low, high = calibration.interval("task", np.array([[0.5, 0.5], [0.95, 0.2]]))
    reach = 0.1 * stats.norm.ppf(0.95)
    assert low == pytest.approx(np.array([[0.5 - reach, 0.0], [0.95 - reach, 0.0]]))
    assert high == pytest.approx(np.array([[0.5 + reach, 1.0], [1.0, 1.0]]))
    low, high = Calibration().interval("task", np.array([[0.3]]))
    assert (low.item(), high.item()) == (0.0, 1.0)


def test_it_travels_as_json() -> None:
    calibration = Calibration(
        tasks={
            "emotion": TaskCalibration(
                form="sigmoid",
                num_clips=12,
                temperature=1.2345678901234567,
                thresholds=(0.1, 1 / 3),
                losses=(0.6, 0.5),
                errors=(0.2, 0.1),
                notes=("Fear is rare",),
            ),
            "personality": TaskCalibration(form="score", num_clips=3, deviations=(0.1, None)),
        }
    )
    text = json.dumps(calibration.to_dict(), allow_nan=False)
    assert Calibration.from_dict(json.loads(text)) == calibration
    with pytest.raises(ConfigError, match=r"calibration\.json: tasks\.emotion\.temprature is not a setting; .*temp"):
        Calibration.from_dict(
            {"tasks": {"emotion": {"form": "softmax", "num_clips": 1, "temprature": 2}}}, "calibration.json"
        )
    with pytest.raises(ConfigError, match=r"tasks\.emotion\.temperature.* greater than 0"):
        Calibration.from_dict({"tasks": {"emotion": {"form": "softmax", "num_clips": 1, "temperature": -1.0}}})


def test_calibrated_is_said_only_where_a_temperature_was_fitted() -> None:
    errors = {"losses": (0.6, 0.5), "errors": (0.2, 0.123)}
    texts = {
        "Uncalibrated probabilities": Calibration(),
        "Uncalibrated probabilities ": one("ambivalence", num_clips=0),
        "Calibrated probabilities (temperature 2.5, calibration error 12.3%, 9 dev clips)": one(
            "ambivalence", temperature=2.5, **errors
        ),
        "Calibrated probabilities (temperature 2.5, calibration error not stored, 9 dev clips)": one(
            "ambivalence", temperature=2.5
        ),
        "Uncalibrated probabilities (calibration error 12.3%, 9 dev clips)": one(
            "ambivalence", thresholds=(0.5, 0.5), **errors
        ),
        "Uncalibrated probabilities (calibration error 12.3%, 9 dev clips); thresholds fitted on dev": one(
            "ambivalence", thresholds=(0.6, 0.4), **errors
        ),
    }
    for text, calibration in texts.items():
        assert calibration.statement("ambivalence", AMBIVALENCE) == text.strip()
        assert calibration.is_calibrated("ambivalence") == text.startswith("Calibrated")
    assert one("personality", form="score").statement("personality", PERSONALITY) == "Scores from 0 to 1"
    assert one("ambivalence", **errors).error("ambivalence") == 0.123
    assert Calibration().error("ambivalence") is None


def test_lines() -> None:
    calibration = Calibration(
        tasks={
            "emotion": TaskCalibration(
                form="sigmoid", num_clips=12, temperature=1.25, losses=(0.61, 0.5), errors=(0.123, 0.1), notes=("so",)
            ),
            "personality": TaskCalibration(form="score", num_clips=3, deviations=(0.1,) * PERSONALITY.num_outputs),
        }
    )
    assert calibration.lines() == [
        "emotion: 12 dev clips, temperature 1.25, negative log-likelihood 0.6100 -> 0.5000, "
        "calibration error 12.3% -> 10.0%",
        "emotion: so",
        "personality: 3 dev clips",
    ]
