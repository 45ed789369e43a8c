"""The model card: what the hub reads, and the figures, limits and terms that a reader must find."""

from __future__ import annotations

import re
from typing import Any

import pytest
from huggingface_hub import ModelCard

from mmpsr.calibration.calibration import Calibration, TaskCalibration
from mmpsr.calibration.conformal import ConformalFit
from tests.support.bundled import small_bundle
from training.bundle.bundle import read_bundle
from training.bundle.collect import LICENCES
from training.bundle.format import Bundle, Interval, TrainingSummary
from training.bundle.model_card import model_card


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(small_bundle(tmp_path_factory)).bundle


def change(bundle: Bundle, **fields: object) -> str:
    return model_card(bundle.model_copy(update=fields))


def test_the_hub_reads_its_front_matter(bundle: Bundle) -> None:
    data: Any = ModelCard(model_card(bundle)).data
    assert (data.library_name, data.license, data.license_name) == ("mmpsr", "other", "see-the-corpora")
    assert {"emotion", "personality", "ambivalence", "text", "audio"} <= set(data.tags)
    assert len(data.eval_results) == len(bundle.figures)
    for result, figure in zip(data.eval_results, bundle.figures, strict=True):
        assert (result.dataset_name, result.dataset_split) == (figure.corpus, figure.split)
        assert result.metric_value == pytest.approx(figure.value, abs=0.005)


def test_figures_stand_beside_linear_and_chance(bundle: Bundle) -> None:
    figure = bundle.figures[0].model_copy(
        update={
            "value": 61.26, "low": 50.04, "high": 70.0, "linear": Interval(value=60.0, low=49.0, high=69.0),
            "over_linear": Interval(value=1.26, low=0.4, high=2.5), "chance": 33.333,
        }
    )  # fmt: skip
    text = change(bundle, figures=(figure,))
    row = (
        "| mosei | test | emotion | mMF1 | 12 | 12 | 61.3 [50.0, 70.0] | 60.0 [49.0, 69.0] | +1.3 [+0.4, +2.5] | 33.3 |"
    )
    assert row.split("|")[7:] == next(line for line in text.splitlines() if "61.3 [" in line).split("|")[7:]
    assert "Nothing shows that the model is better" not in text
    unproven = figure.model_copy(update={"over_linear": Interval(value=1.26, low=-0.1, high=2.5)})
    assert "better than the linear baseline on: mosei emotion mMF1." in change(bundle, figures=(unproven,))
    undefined = figure.model_copy(update={"value": None, "linear": None, "over_linear": None, "chance": None})
    text = change(bundle, figures=(undefined,))
    assert "| - | - | - | - |" in text
    assert "stored no linear baseline" in text
    assert "the run evaluated no labelled clip" in change(bundle, figures=())


def test_says_what_is_not_known(bundle: Bundle) -> None:
    text = model_card(bundle)
    assert "| text | `minilm` | 12 | `letters-0` | not installed where the bundle was written |" in text
    assert "Never trained on: meld;" in text
    assert "Fewer than 30 groups, so that even the intervals are uncertain: " in text
    assert "epochs, best on dev" not in text
    summary = TrainingSummary(num_epochs=7, best_epoch=3, dev_figure=61.5, num_parameters=12345)
    assert "- 7 epochs, best on dev was 3 (61.50 %)" in change(bundle, training=summary)
    assert "- 12,345 parameters" in change(bundle, training=summary)


def test_terms_and_consent(bundle: Bundle) -> None:
    assert LICENCES["meld"] in model_card(bundle)
    assert "BAH's participants" not in model_card(bundle)
    corpora = {"bah": bundle.corpora["bah"].model_copy(update={"adapter": "bah"})}
    assert "BAH's participants" in change(bundle, corpora=corpora)
    demo = change(bundle, corpora=corpora, is_demo=True)
    assert "BAH's participants" not in demo
    assert "say nothing about\npeople" in demo
    assert ModelCard(demo).data.to_dict()["license"] == "apache-2.0"


def test_a_demo_claims_no_corpus(bundle: Bundle) -> None:
    demo = change(bundle, is_demo=True)
    first = next(line for line in demo.split("---\n", 2)[2].splitlines() if line and not line.startswith("#"))
    assert first.startswith("Trained on generated clips and tells nothing about people: model small/")
    for name in ("mosei", "fiv2", "bah", "meld", "MELD", "CMU", "ChaLearn", "BAH"):
        assert not re.search(rf"\b{name}\b", demo), name
    assert "| generated clips 1 | trained on (36 clips) | 12 dev, 12 test |" in demo
    assert "Never trained on: generated clips 4;" in demo
    assert ModelCard(demo).data.eval_results is None
    corpora = {
        name: corpus.model_copy(update={"generated": name == "mosei"}) for name, corpus in bundle.corpora.items()
    }
    both = change(bundle, corpora=corpora)
    assert not re.search(r"\bmosei\b", both)
    assert LICENCES["meld"] in both
    results: Any = ModelCard(both).data.eval_results
    assert {result.dataset_name for result in results} == {"fiv2", "bah", "meld"}


def test_it_begins_with_clips_and_figures(bundle: Bundle) -> None:
    text = model_card(bundle)
    start = bundle.name.split("/")[-1]
    assert (
        f"\nModel small/{start}, trained on 90 clips (mosei 36, fiv2 30, bah 24). Test: emotion (mosei) mMF1 " in text
    )


def test_calibrated_is_said_where_it_was(bundle: Bundle) -> None:
    text = change(bundle, calibration=Calibration())
    assert "uncalibrated probabilities" in text
    assert "No probability is calibrated" in text
    assert not re.search(r"(?<!un)calibrated prob", text)
    assert "calibrated on dev clips" not in text
    fitted = TaskCalibration(form="softmax", num_clips=9, temperature=2.0, errors=(0.2, 0.1))
    text = change(bundle, calibration=Calibration(tasks={"ambivalence": fitted}))
    assert "| calibrated probabilities (temperature 2, calibration error 10.0%, 9 dev clips) |" in text
    assert "Probabilities of ambivalence are calibrated on dev clips" in text


def test_what_is_promised_is_said_by_task(bundle: Bundle) -> None:
    fit = ConformalFit(num_groups=9, num_clips=18, quantiles=(0.3,) * 41)
    fits = {**bundle.calibration.conformal, "ambivalence": {"bah": (fit,)}}
    calibration = bundle.calibration.model_copy(update={"conformal": fits})
    text = change(bundle, calibration=calibration)
    assert "- Sets and intervals of emotion: 90 % is not promised: too few dev groups (mosei has 0, and 6 that" in text
    assert (
        "- Sets and intervals of ambivalence: 90 % is promised for new groups like the dev groups of bah (9)." in text
    )
    assert "if that group is exchangeable with the dev groups of the same corpus" in text
    demo = change(bundle, is_demo=True, calibration=calibration)
    assert "90 % is promised for new groups like the dev groups of generated clips 3 (9)" in demo
    before = change(bundle, calibration=bundle.calibration.model_copy(update={"conformal": {}}))
    assert "- No set or interval is promised to hold the truth." in before
    assert "is promised for new groups" not in before


def test_how_to_use_it_depends_on_what_it_sees(bundle: Bundle) -> None:
    assert 'Predictor.from_pretrained("this/folder' in model_card(bundle)
    assert ModelCard(model_card(bundle)).data.to_dict()["pipeline_tag"] == "video-classification"
    text = bundle.encoders["text"]
    vectors = change(bundle, encoders={**bundle.encoders, "text": text.model_copy(update={"origin": "vectors"})})
    assert "MultiTaskEstimator.load" in vectors
    assert ModelCard(vectors).data.to_dict()["pipeline_tag"] == "tabular-classification"
    assert "Predictor" not in vectors
    own = change(bundle, encoders={**bundle.encoders, "text": text.model_copy(update={"origin": "own"})})
    assert "allow_custom_encoders=True" in own
    assert "allow_custom_encoders" not in model_card(bundle)


def test_nothing_of_the_template_is_left(bundle: Bundle) -> None:
    text = model_card(bundle)
    assert not {"{{", "}}", "{%", "nan"} & set(text.split())
    assert "None," not in text
    assert "None |" not in text
    assert text.endswith(".\n")
    assert "\n\n\n" not in text
