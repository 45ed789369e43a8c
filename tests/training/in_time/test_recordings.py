"""Recordings over time: segments with the cues of their seconds, the table of frames, the card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmpsr.tasks import AMBIVALENCE
from mmpsr.temporal.build import create_temporal
from tests.support.in_time import WIDTHS
from tests.training.in_time.test_fit import config
from training.in_time.cards import render_card_in_time, write_cards_in_time
from training.in_time.command import _lines
from training.in_time.recordings import InTimeResult, _result, document_in_time, frame_table
from training.in_time.trained import InTimeModel, features_in_time
from training.predict.inputs import Defect
from training.predict.results import Sentence
from training.runs.origin import CorpusOrigin, Origin

PROBS = np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.1, 0.1, 0.6], dtype=np.float32)


@pytest.fixture
def trained(tmp_path: Path) -> InTimeModel:
    settings = config(tmp_path)
    model = create_temporal(settings.model, WIDTHS, 2).eval()
    origin = Origin("in_time/1", (CorpusOrigin("own", False, False, 12),))
    features = settings.features.model_copy(
        update={"encoders": {"video": "face-mesh", "audio": "egemaps", "text": "minilm"}}
    )
    return InTimeModel(model, "ambivalence", AMBIVALENCE, features, settings, {}, origin)


def result(trained: InTimeModel) -> InTimeResult:
    narrative = (
        Sentence("At 3.0-3.5 s the brows rise.", ((3.0, 3.5),)),
        Sentence("At 1.0 s the gaze drops.", ((1.0, 1.0),)),
        Sentence("The voice is quiet."),
    )
    return _result(
        trained, ("talk", "talk.mp4"), PROBS, 2.0, 2.0, {"text": "no transcript"}, (None, None), narrative, {}
    )


def test_segments_are_in_seconds_of_the_file_with_what_was_seen_then(trained: InTimeModel) -> None:
    found = result(trained)
    # frames 2, 3, 4 and 7 at 2 frames a second, the first of them at 2 s
    assert [(segment.start, segment.end) for segment in found.segments] == [(3.0, 4.5), (5.5, 6.0)]
    assert found.segments[0].probability == pytest.approx(0.8)
    assert [cue.text for cue in found.segments[0].cues] == ["At 3.0-3.5 s the brows rise."]
    assert found.segments[1].cues == ()
    # a second is two frames: the highest mean is that of 0.9 and 0.8
    assert found.probability == pytest.approx(0.85)
    assert found.decided == "present"


def test_a_row_for_each_frame(trained: InTimeModel) -> None:
    table = frame_table([result(trained)])
    assert table["seconds"].tolist() == [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5]
    assert table["probability"].tolist() == pytest.approx(PROBS.tolist(), abs=1e-4)
    assert table["segment"].fillna(0).tolist() == [0, 0, 1, 1, 1, 0, 0, 2]
    assert frame_table([]).columns.tolist() == table.columns.tolist()


def test_the_document_and_the_card_say_what_was_found(trained: InTimeModel, tmp_path: Path) -> None:
    defect = Defect("other", "other.mp4", None, None, "no face found")
    document = document_in_time([result(trained)], [defect], trained, name="1", notes=["a note"])
    assert json.loads(json.dumps(document, allow_nan=False))["defects"][0]["reason"] == "no face found"
    assert document["about"].startswith("Model in_time/1, trained on 12 clips of own.")
    assert document["task"] == {"name": "ambivalence", "classes": ["absent", "present"], "looked_for": "present"}
    page = render_card_in_time(document["recordings"][0], document)
    assert page.count('class="span"') == 2
    assert "0:03" in page
    assert "0:04.5" in page
    assert "At 3.0-3.5 s the brows rise." in page
    assert "<b>text</b>: no transcript" in page
    points = page.split('<polyline points="')[1].split('"')[0].split()
    assert len(points) == 8
    assert points[2] == "200.0,15.0"  # frame 2 of 8 over 640 units: 2.5 * 80; 150 * (1 - 0.9)
    assert [path.name for path in write_cards_in_time(document, tmp_path / "cards")] == ["talk.html"]


def test_on_a_terminal(trained: InTimeModel) -> None:
    document = document_in_time([result(trained)], [], trained, name="1", notes=[])
    lines = _lines(document["recordings"][0], document)
    assert lines == [
        "talk",
        "  ambivalence: present (present 0.85); 8 frames, 2 segment(s) found",
        "    0:03-0:04.5  0.80  At 3.0-3.5 s the brows rise.",
        "    0:05.5-0:06  0.60",
        "  text absent: no transcript",
    ]


def test_encoders_are_asked_for_what_they_give_in_time(trained: InTimeModel) -> None:
    settings = trained.config.model_copy(update={"features": trained.features})
    features = features_in_time(settings)
    assert features.timed == ("video", "audio", "text")
    assert list(features.encoders) == ["video", "audio", "text"]
