"""Results of clips: decisions, confidences, intervals, sentences with seconds, and the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from encoders.visibility import FaceFigures
from mmpsr.calibration.calibration import Calibration, TaskCalibration
from mmpsr.calibration.conformal import ConformalFit
from mmpsr.calibration.novelty import ClipNovelty
from mmpsr.explanation.explain import Explanation, PairConflict, PairInteraction, TaskExplanation
from mmpsr.tasks import BUILTIN_TASKS
from training.data.joined import JoinedCorpora
from training.predict.inputs import Defect
from training.predict.results import ClipResult, Results, Sentence, abstain_novel, frame_of, judge, sentences_of

EMOTION = BUILTIN_TASKS["emotion"].model_copy(update={"loss": "binary_cross_entropy", "classes": ("Neutral", "Anger")})
PERSONALITY = BUILTIN_TASKS["personality"].model_copy(update={"classes": ("openness", "extraversion")})
TASKS = {"emotion": EMOTION, "personality": PERSONALITY, "ambivalence": BUILTIN_TASKS["ambivalence"]}
CALIBRATION = Calibration(
    tasks={
        "personality": TaskCalibration(form="score", num_clips=5, deviations=(0.1, None)),
        "ambivalence": TaskCalibration(form="softmax", num_clips=5, thresholds=(0.75, 0.25)),
    }
)
PREDICTED = {
    "emotion": np.array([[0.9, 0.3], [0.2, 0.4]]),
    "personality": np.array([[0.5, 0.6], [0.95, 0.1]]),
    "ambivalence": np.array([[0.7, 0.3], [0.8, 0.2]]),
}


def test_decisions_confidences_and_abstention() -> None:
    one, two = judge(PREDICTED, TASKS, CALIBRATION, confidence=0.75)
    assert one["emotion"].values == {"Neutral": 0.9, "Anger": 0.3}
    assert one["emotion"].decided == ("Neutral",)
    assert one["emotion"].confidence == 0.9  # of the one that is decided for, not of those that are absent
    assert not one["emotion"].abstained
    assert two["emotion"].decided == ()
    assert two["emotion"].confidence == pytest.approx(1 - 0.4)  # the likeliest is absent
    assert two["emotion"].abstained
    # by the thresholds (0.75, 0.25): 0.7/0.75 < 0.3/0.25, so present, of which it is 30 % sure
    assert (one["ambivalence"].decided, one["ambivalence"].confidence) == (("present",), 0.3)
    assert one["ambivalence"].abstained
    assert (two["ambivalence"].decided, two["ambivalence"].abstained) == (("absent",), False)


def test_intervals_where_the_deviation_is_known() -> None:
    one, two = (each["personality"] for each in judge(PREDICTED, TASKS, CALIBRATION, confidence=1.0))
    # 90 % of a normal distribution lie within 1.6449 deviations
    assert one.intervals == {"openness": pytest.approx((0.5 - 0.16449, 0.5 + 0.16449), abs=1e-5)}
    assert two.intervals == {"openness": pytest.approx((0.95 - 0.16449, 1.0), abs=1e-5)}
    assert (one.decided, one.confidence, one.abstained) == ((), None, False)
    assert judge(PREDICTED, TASKS, Calibration(), 0.0)[0]["personality"].intervals == {}


def test_no_clips() -> None:
    empty = {task: values[:0] for task, values in PREDICTED.items()}
    assert judge(empty, TASKS, CALIBRATION, 0.5) == []


def conformal(**quantiles: tuple[float, ...]) -> Calibration:
    """Quantiles of one corpus, `own`, with four groups: for levels of 50 to 80 %, the same for all of them."""
    fits = {
        task: {"own": tuple(ConformalFit(num_groups=4, num_clips=8, quantiles=(q,) * 31) for q in values)}
        for task, values in quantiles.items()
    }
    return CALIBRATION.model_copy(update={"conformal": fits})


def test_sets_and_intervals_hold_what_is_not_ruled_out() -> None:
    calibration = conformal(emotion=(0.1, 0.65), personality=(0.2, 0.03), ambivalence=(0.75,))
    one, two = judge(PREDICTED, TASKS, calibration, 0.0, coverage=0.8)
    # present where 1 - p <= q, absent where p <= q: 0.9 is present, 0.3 absent, and present only up to q = 0.7
    assert one["emotion"].label_sets == {"Neutral": ("present",), "Anger": ("absent",)}
    assert two["emotion"].label_sets == {"Neutral": ("absent",), "Anger": ("absent", "present")}
    assert one["ambivalence"].prediction_set == ("absent", "present")  # 1 - 0.3 <= 0.75
    assert two["ambivalence"].prediction_set == ("absent",)
    assert one["personality"].intervals == {"openness": (0.3, 0.7), "extraversion": pytest.approx((0.57, 0.63))}
    assert two["personality"].intervals["openness"] == (0.75, 1.0)  # within the scale
    assert one["personality"].prediction_set is None
    clips = [ClipResult(name, None, None, None, row, {}) for name, row in zip("ab", (one, two), strict=True)]
    frame = frame_of([clip.to_dict() for clip in clips], [])
    assert frame["ambivalence.set"].tolist() == ["absent+present", "absent"]
    assert frame["emotion.Anger.set"].tolist() == ["absent", "absent+present"]
    assert "ambivalence.present.set" not in frame


def test_with_too_few_groups_nothing_is_ruled_out() -> None:
    calibration = conformal(emotion=(0.1, 0.1), personality=(0.2, 0.2), ambivalence=(0.1,))
    one, _ = judge(PREDICTED, TASKS, calibration, 0.0, coverage=0.9)
    assert set(one["emotion"].label_sets.values()) == {("absent", "present")}
    assert set(one["personality"].intervals.values()) == {(0.0, 1.0)}
    assert one["ambivalence"].prediction_set == ("absent", "present")


def test_without_stored_quantiles_there_are_no_sets_and_intervals_are_of_residuals() -> None:
    one, _ = judge(PREDICTED, TASKS, CALIBRATION, 0.0)
    assert (one["emotion"].label_sets, one["ambivalence"].prediction_set) == ({}, None)
    assert one["personality"].intervals["openness"] == pytest.approx((0.5 - 0.164485, 0.5 + 0.164485), abs=1e-6)
    wide, _ = judge(PREDICTED, TASKS, CALIBRATION, 0.0, coverage=0.95)
    assert wide["personality"].intervals["openness"] == pytest.approx((0.5 - 0.195996, 0.5 + 0.195996), abs=1e-6)
    assert not [name for name in frame_of([ClipResult("a", None, None, None, one, {}).to_dict()], []) if "set" in name]


def test_sentences_and_their_seconds() -> None:
    text = (
        "At 0.2, 1.2-1.3 and 10.8-12.1 s the lips part, often. The gaze stays on the camera. "
        "At 0.1-0.4 and 2.0 s and 3 more times the person blinks often. Frames 0.83 s apart are too few to tell blinks."
    )
    assert sentences_of(text) == (
        Sentence("At 0.2, 1.2-1.3 and 10.8-12.1 s the lips part, often.", ((0.2, 0.2), (1.2, 1.3), (10.8, 12.1))),
        Sentence("The gaze stays on the camera."),
        Sentence("At 0.1-0.4 and 2.0 s and 3 more times the person blinks often.", ((0.1, 0.4), (2.0, 2.0))),
        Sentence("Frames 0.83 s apart are too few to tell blinks."),
    )


def test_the_table_has_a_row_for_everything() -> None:
    tasks = judge(PREDICTED, TASKS, CALIBRATION, 0.5)
    clips = [
        ClipResult(
            "a", "a.mp4", None, None, tasks[0], {}, "hi", "given", "en", (Sentence("Smiles."), Sentence("Nods."))
        ),
        ClipResult("a", "a.mp4", 2.0, 4.0, tasks[1], {"audio": "no sound"}),
    ]
    defects = [Defect("b", "b.mp4", None, None, "file is empty (0 bytes)")._asdict()]
    frame = frame_of([clip.to_dict() for clip in clips], defects)
    assert frame["id"].tolist() == ["a", "a", "b"]
    assert frame["emotion.Anger"].tolist()[:2] == [0.3, 0.4]
    assert frame["emotion.decided"].tolist()[:2] == ["Neutral", ""]
    assert frame["personality.openness.high"][1] == 1.0
    assert "personality.extraversion.low" not in frame
    assert frame["absent.audio"][1] == "no sound"
    assert pd.isna(frame["absent.audio"][0])
    assert frame["narrative"][0] == "Smiles. Nods."
    assert frame["defect"].isna().tolist() == [True, True, False]
    assert pd.isna(frame["emotion.Anger"][2])
    assert list(frame.columns[-5:]) == ["absent.audio", "text", "text_source", "language", "narrative"]
    assert len(frame_of([], defects)) == 1
    assert list(frame_of([], []).columns[:2]) == ["id", "path"]


def test_columns_of_explanations() -> None:
    def why(*conflicts: float) -> Explanation:
        of_task = TaskExplanation(
            {"absent": 0.2, "present": 0.8}, {"absent": 0.5, "present": 0.5},
            {"text": {"absent": -0.3, "present": 0.3}, "audio": {"absent": 0.0, "present": 0.0}}, {},
            tuple(PairConflict("text", "audio", value) for value in conflicts), None, None, (),
            tuple(PairInteraction("text", "audio", {"absent": -0.1, "present": 0.1}) for _ in conflicts[:1]),
        )  # fmt: skip
        return Explanation(("text", "audio"), ("text",), {"ambivalence": of_task})

    rows = judge(PREDICTED, TASKS, CALIBRATION, 0.5)
    clips = [ClipResult(name, None, None, None, row, {}) for name, row in zip("ab", rows, strict=True)]
    results = Results(clips, [], TASKS, JoinedCorpora(pd.DataFrame(), {}, torch.ones(0, 0), {}), {})
    frame = results.to_frame([why(0.2, 0.6), why()])
    new = ["shapley.ambivalence.absent.text", "shapley.ambivalence.absent.audio", "shapley.ambivalence.present.text",
           "shapley.ambivalence.present.audio", "conflict.ambivalence"]  # fmt: skip
    assert [name for name in frame if name.startswith(("shapley", "conflict"))] == new
    assert frame[new[:4]].to_numpy().tolist() == [[-0.3, 0.0, 0.3, 0.0]] * 2
    assert frame["interaction.ambivalence.present.text+audio"][0] == 0.1
    assert pd.isna(frame["interaction.ambivalence.present.text+audio"][1])
    assert frame["conflict.ambivalence"][0] == pytest.approx(0.4)  # (0.2 + 0.6)/2
    assert pd.isna(frame["conflict.ambivalence"][1])
    assert not set(new) & set(results.to_frame())
    assert "explanation" not in results.to_dicts()[0]
    with pytest.raises(ValueError, match="shorter"):
        results.to_frame([why()])


def test_a_novel_clip_is_not_decided_and_keeps_its_values() -> None:
    rows = judge(PREDICTED, TASKS, CALIBRATION, confidence=0.75)
    novelty = {"audio": ClipNovelty(3.0, 2.5, 1.0, 56, 56), "text": ClipNovelty(1.0, 1.0, 0.5, 28, 56)}
    assert abstain_novel(rows[0], novelty, None) == rows[0]
    assert abstain_novel(rows[0], {"text": novelty["text"]}, 0.9) == rows[0]
    found = abstain_novel(rows[0], novelty, 0.99)
    assert all(found[task].abstained for task in TASKS)
    assert {task: found[task].values for task in TASKS} == {task: rows[0][task].values for task in TASKS}
    assert found["personality"].intervals == rows[0]["personality"].intervals
    assert found["emotion"].reason == "novelty of audio 1.00, 0.99 asked"
    assert found["ambivalence"].reason == "30.0% sure, 75.0% asked; novelty of audio 1.00, 0.99 asked"
    assert (rows[0]["emotion"].reason, rows[0]["ambivalence"].reason) == (None, "30.0% sure, 75.0% asked")


def test_novelty_and_faces_are_columns() -> None:
    rows = judge(PREDICTED, TASKS, CALIBRATION, 0.5)
    novelty = {"audio": ClipNovelty(3.0, 2.5, 1.0, 56, 56)}
    faces = {"video": FaceFigures(12, 3, 1, 20.5, 41.0, False)}
    clips = [
        ClipResult("a", None, None, None, abstain_novel(rows[0], novelty, 1.0), {}, faces=faces, novelty=novelty),
        ClipResult("b", None, None, None, rows[1], {"video": "dark"}),
    ]
    table = frame_of([clip.to_dict() for clip in clips], []).set_index("id")
    assert table.loc["a", ["novelty.audio", "novelty.audio.ratio"]].tolist() == [1.0, 2.5]
    assert table.loc["a", ["faces.video.num_frames", "faces.video.num_with_face"]].tolist() == [12, 3]
    assert table.loc["a", "personality.reason"] == "novelty of audio 1.00, 1.00 asked"
    assert table["personality.abstained"].tolist() == [True, False]
    assert table.loc["b", "novelty.audio":"faces.video.is_turned"].isna().all()  # type: ignore[misc]
    names = [str(name) for name in table]
    assert names.index("novelty.audio") < names.index("faces.video.num_frames") < names.index("absent.video")
