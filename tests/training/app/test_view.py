"""What the page shows: charts in numbers, abstention, absence, escaping."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mmpsr.calibration.conformal import ConformalFit
from mmpsr.explanation.explain import TaskExplanation
from tests.support.analysed import analysed, small_predictor, without_faces
from tests.support.measured import measured
from training.app.analysis import Analysis, Wishes, decide
from training.app.view import compare_view, result_view, status_view, steps_of
from training.predict.predictor import Predictor

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return small_predictor(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def analysis(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    with pytest.MonkeyPatch.context() as patch:
        without_faces(patch)
        return analysed(predictor, tmp_path_factory.mktemp("video"), f"{EVIL[1:7]}.mkv", 4.0, Wishes(EVIL, window=2.0))


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_steps_lead_from_the_baseline_to_the_prediction() -> None:
    shapley = {"video": {"a": 0.3}, "audio": {"a": -0.1}, "text": {"a": 0.0}}
    found = TaskExplanation({"a": 0.6}, {"a": 0.4}, shapley, {}, (), None, None, ())
    steps, low, high = steps_of(found, "a", ("video", "audio"))
    # places 0.4, 0.7, 0.6: an axis from 0.4 - 0.015 to 0.7 + 0.015, 0.33 wide
    assert (low, high) == pytest.approx((0.385, 0.715))
    assert [(step.name, step.kind) for step in steps] == [
        ("without any", "end"), ("video", "more"), ("audio", "less"), ("prediction", "end"),
    ]  # fmt: skip
    assert [step.left for step in steps] == pytest.approx([100 * x / 0.33 for x in (0.015, 0.015, 0.215, 0.215)])
    assert [step.width for step in steps] == pytest.approx([0, 100 * 0.3 / 0.33, 100 * 0.1 / 0.33, 0])
    assert [step.value for step in steps] == pytest.approx([0.4, 0.3, -0.1, 0.6])


def test_contributions_near_nothing_look_so() -> None:
    found = TaskExplanation({"a": 0.502}, {"a": 0.5}, {"video": {"a": 0.002}}, {}, (), None, None, ())
    steps, low, high = steps_of(found, "a", ("video",))
    assert high - low == pytest.approx(0.1)
    assert steps[1].width == pytest.approx(2.0)  # 0.002 / 0.1
    edge = TaskExplanation({"a": 1.0}, {"a": 0.999}, {"video": {"a": 0.001}}, {}, (), None, None, ())
    assert steps_of(edge, "a", ("video",))[2] == 1.0


def test_a_result_tells_all_and_nothing_in_it_acts(analysis: Analysis) -> None:
    page = result_view(analysis)
    text = text_of(page)
    assert "2 windows of 2 s" in text
    begin, end = analysis.clips[1].start, analysis.clips[-1].end
    assert f'aria-valuemin="{begin:.1f}" aria-valuemax="{end:.1f}"' in page  # arrow keys move where a click would
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert not re.search(r"https?:|url\((?!#)|@import", page)
    for modality in ("video", "audio", "text"):
        assert f'<li class="there"><b>{modality}</b>' in page
    assert page.count("<svg") == sum(len(result.values) for result in analysis.clips[0].tasks.values())
    for task, found in analysis.clips[0].tasks.items():
        for name, value in found.values.items():
            assert re.search(rf"<b>{name}</b>\s*<div class=\"track\"><i style=\"width:{100 * value:.1f}%", page), task
    low, high = analysis.clips[0].tasks["personality"].intervals["openness"]
    assert f"left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%" in page
    assert "no face found" in text


def test_sets_and_interactions_are_told_with_what_they_mean(analysis: Analysis, predictor: Predictor) -> None:
    page = text_of(result_view(analysis))
    assert "Sets: 90 % is not promised: no dev groups are stored that sets could be made from." in page
    assert "whiskers are by the model's errors on dev" in page
    assert "exchangeable" not in page
    name = max(analysis.clips[0].tasks["ambivalence"].values.items(), key=lambda item: item[1])[0]
    pairs = {(p.first, p.second): p.values[name] for p in analysis.explanation.tasks["ambivalence"].interactions}
    (one, other), value = max(pairs.items(), key=lambda item: abs(item[1]))
    assert f"Interactions on {name}: {one} and {other} {value:+.2f}".replace("-", "−") in page
    assert page.count("below 0 they add less, because they say the same") == 1
    fits = {"ambivalence": {"bah": (ConformalFit(num_groups=9, num_clips=9, quantiles=(1.0,) * 41),)}}
    trained = predictor.trained
    calibration = trained.calibration.model_copy(update={"conformal": fits})
    own = Predictor(replace(trained, calibration=calibration))
    promises = {**analysis.promises, "ambivalence": own.trained.promise("ambivalence", 0.9)}
    page = text_of(result_view(replace(decide(analysis, own, 0.0), promises=promises)))
    assert "90 % set: absent, present (every class)." in page
    assert "Sets: 90 % is promised for new groups like the dev groups of bah (9)." in page
    assert "exchangeable with the dev groups of the same corpus" in page


def test_below_the_confidence_asked_there_is_no_decision(analysis: Analysis, predictor: Predictor) -> None:
    assert "No decision" not in result_view(decide(analysis, predictor, 0.0))
    page = text_of(result_view(decide(analysis, predictor, 1.0)))
    sure = analysis.clips[0].tasks["ambivalence"].confidence
    assert sure is not None
    assert f"No decision {100 * sure:.1f} % sure, 100.0 % asked for" in page
    assert "no decision in 2 of 2 windows" in page


def test_what_was_absent_has_its_reason(analysis: Analysis) -> None:
    without = replace(analysis.clips[0], absent={"audio": "no audio stream"}, text=None)
    explanation = replace(analysis.explanation, present=("video", "text"))
    page = text_of(result_view(replace(analysis, clips=(without,), explanation=explanation)))
    assert "audio is absent no audio stream" in page
    assert "windows" not in page


def test_windows_are_panels_and_key_moments_that_can_be_clicked(analysis: Analysis) -> None:
    values = {"absent": 0.2, "present": 0.8}
    task = replace(analysis.clips[2].tasks["ambivalence"], values=values, decided=("present",), confidence=0.8)
    other = replace(task, values={"absent": 0.9, "present": 0.1}, decided=("absent",), confidence=0.9)
    whole, first, second = analysis.clips
    clips = (
        whole, replace(first, tasks={**first.tasks, "ambivalence": other}),
        replace(second, tasks={**second.tasks, "ambivalence": task}),
    )  # fmt: skip
    page = result_view(replace(analysis, clips=clips))
    text = text_of(page)
    assert "absent in 50 % of the windows, 0:00-0:02" in text
    assert "present in 50 % of the windows, 0:02-0:04" in text
    assert re.search(r'data-seconds="2\.0"[^>]*>0:02</button> [^<]*ambivalence present 0\.80', page)
    assert page.count('<g class="seek" data-start="0.0" data-end="4.0">') == page.count('<figure class="panel')
    assert 'aria-label="present over time, probability 0.45 on average"' in page


def test_what_is_measured_is_a_strip_that_can_be_clicked(analysis: Analysis) -> None:
    assert "Measured over time" not in result_view(analysis)  # nothing was
    whole = replace(analysis, clips=analysis.clips[:1])
    page = result_view(replace(whole, measures=measured(loudness=[-30.0, -20.0, -30.0, -20.0])))
    assert page.count('<g class="seek" data-start="0.0" data-end="2.0">') == 1
    assert page.count('class="ground"') == page.count('class="playhead"') == 1
    assert "loudness, dB" in text_of(page).replace(" ,", ",")


def test_two_side_by_side(analysis: Analysis) -> None:
    values = {"absent": 0.25, "present": 0.75}
    task = replace(analysis.clips[0].tasks["ambivalence"], values={"absent": 0.5, "present": 0.5})
    other = replace(task, values=values, decided=("present",), confidence=0.75)
    first = replace(analysis, name="a.mp4", clips=(replace(analysis.clips[0], tasks={"ambivalence": task}),))
    second = replace(analysis, name="b.mp4", clips=(replace(analysis.clips[0], tasks={"ambivalence": other}),))
    page = compare_view(first, second)
    text = text_of(page)
    assert "present 75.0 % sure" in text
    assert "absent 0.50 0.25 −0.25 present 0.50 0.75 +0.25" in text
    assert '<i class="c2" style="width:75.0%">' in page
    assert "<script" not in page


def test_progress_and_errors() -> None:
    page = status_view({"inputs": 0.14, "features": None}, "0 of 3")
    assert text_of(page) == "The file 0.1 s Features of what is seen, heard and said: 0 of 3"
    assert page.count("wheel") == 1
    failed = status_view({"inputs": None}, error=f"a.mp4: {EVIL}", name="a.mp4")
    assert "No result for a.mp4" in text_of(failed)
    assert f"<p>{EVIL.replace('<', '&lt;').replace('>', '&gt;')}</p>" in failed
    assert "wheel" not in failed
    assert 'role="alert"' in failed
