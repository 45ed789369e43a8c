"""Cards: what a page says of a clip and of windows, that nothing in a text can act, and that nothing is fetched."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.support import report_in_browser
from tests.support.accessible import grave, set_view
from tests.support.measured import measured
from training.report.cards import render_card, set_sentence, write_cards

TASKS = {
    "emotion": {"kind": "multi_label", "classes": ["Neutral", "Anger"]},
    "personality": {"kind": "regression", "classes": ["openness", "extraversion"]},
}
DOCUMENT = {"tasks": TASKS, "model": {"name": "small", "modalities": ["video", "text"]}, "confidence": 0.8}
VOID = {"meta", "br"}


def clip(start: float | None = None, end: float | None = None, anger: float = 0.9, **others: Any) -> dict[str, Any]:
    emotion = {
        "kind": "multi_label", "values": {"Neutral": 0.1, "Anger": anger}, "decided": ["Anger"], "confidence": anger,
        "abstained": anger < 0.8, "intervals": {},
    }  # fmt: skip
    personality = {
        "kind": "regression", "values": {"openness": 0.25, "extraversion": 0.5}, "decided": [], "confidence": None,
        "abstained": False, "intervals": {"openness": [0.2, 0.3], "extraversion": [0.1, 0.9]},
    }  # fmt: skip
    return {
        "start": start, "end": end, "tasks": {"emotion": emotion, "personality": personality}, "absent": {},
        "text": None, "text_source": None, "language": None, "narrative": [], "notes": {}, **others,
    }  # fmt: skip


def recording(
    *clips: dict[str, Any], name: str = "talk.mp4", defects: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    return {"id": name, "path": name, "clips": list(clips), "defects": defects or []}


class Page(HTMLParser):
    """The text of a page, and whether its tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


def page_of(*clips: dict[str, Any], **options: Any) -> Page:
    found = Page(render_card(recording(*clips, **options), DOCUMENT))
    assert found.open == []
    return found


def test_one_clip() -> None:
    page = page_of(
        clip(
            absent={"video": "no face found"}, text="Well, no.", text_source="written", language="en",
            narrative=[{"text": "At 0.2-1.8 s the brows rise.", "spans": [[0.2, 1.8]]}], notes={"audio": "from b.wav"},
        )
    )  # fmt: skip
    assert "the whole recording · model small of video, text" in page.text
    assert "Anger · 90.0 % sure" in page.text
    assert "video is absent: no face found" in page.text
    assert "Well, no. Written by a speech model, language en." in page.text
    assert "At 0.2-1.8 s the brows rise." in page.text
    assert "audio: from b.wav" in page.text
    widths = [tag["style"] for name, tag in page.tags if name in ("i", "u") and tag.get("style")]
    assert widths == [
        "width:10.0%",
        "width:90.0%",
        "width:25.0%",
        "left:20.0%;width:10.0%",
        "width:50.0%",
        "left:10.0%;width:80.0%",
    ]
    assert [tag["class"] for _, tag in page.tags if "bar" in (tag.get("class") or "")] == [
        "bar",
        "bar decided",
        "bar score",
        "bar score",
    ]


def test_a_card_begins_with_what_the_model_is() -> None:
    told = {name: {**task, "calibration": f"<{name}> numbers"} for name, task in TASKS.items()}
    document = {**DOCUMENT, "tasks": told, "about": "Trained on <generated> clips.", "confidence_means": "How sure: x"}
    page = Page(render_card(recording(clip()), document))
    assert page.text.startswith("talk.mp4 · mmpsr Trained on <generated> clips. talk.mp4")
    assert "90.0 % sure How sure: x." in page.text
    assert "<emotion> numbers ." not in page.text
    assert "<emotion> numbers." in page.text
    assert "<personality> numbers; whiskers hold the true value" in page.text
    assert "alibrated probabilities" not in page.text
    windows = Page(render_card(recording(clip(0.0, 2.0), clip(2.0, 4.0)), document))
    assert "Table of the 2 windows How sure: x." in windows.text


def test_what_is_measured_over_time_is_drawn() -> None:
    table = measured(loudness=[-30.0, -20.0, -30.0, -20.0], event_pause=[0.0, 1.0, 1.0, 0.0])
    page = Page(render_card(recording(clip()), DOCUMENT, table))
    assert page.open == []
    assert "Measured over time" in page.text
    assert "loudness , dB ■ the voice pauses" in page.text
    assert "Not measured: mouth corners, mouth open," in page.text
    assert [tag["data-end"] for _, tag in page.tags if tag.get("class") == "seek"] == ["2.0"]
    for table in (None, measured(1).assign(failure=["gone"])):
        assert "Measured over time" not in render_card(recording(clip()), DOCUMENT, table)


def test_sets_are_shown_with_what_is_promised_of_them() -> None:
    promise = {"stored": True, "promised": True, "sentence": "80 % is promised for new groups like those of <a> (9)"}
    told = {name: {**task, "coverage": promise} for name, task in TASKS.items()}
    document = {**DOCUMENT, "tasks": told, "coverage": 0.8, "coverage_means": "A set holds the truth"}
    one = clip()
    one["tasks"]["emotion"]["label_sets"] = {"Neutral": ["absent"], "Anger": ["absent", "present"]}
    page = Page(render_card(recording(one), document))
    assert "80 % by label: absent Neutral; open Anger." in page.text
    assert "Sets: 80 % is promised for new groups like those of <a> (9)." in page.text
    assert "Intervals: 80 % is promised for new groups like those of <a> (9)." in page.text
    assert "Sets and intervals A set holds the truth." in page.text
    assert "whiskers" not in page.text
    told["personality"]["coverage"] = {"stored": False, "promised": False, "sentence": "80 % is not promised"}
    page = Page(render_card(recording(one), document))
    assert "Intervals: 80 % is not promised; whiskers are by the model's errors on dev, as if these" in page.text
    assert "Sets" not in page_of(clip()).text  # of a document from before


def test_a_set_in_words() -> None:
    values = {"calm": 0.6, "angry": 0.4}
    assert set_sentence({"values": values, "prediction_set": ["calm"]}, 0.9) == "90 % set: calm"
    every = {"values": values, "prediction_set": ["calm", "angry"]}
    assert set_sentence(every, 0.95) == "95 % set: calm, angry (every class)"
    assert set_sentence({"values": values, "prediction_set": None, "label_sets": {}}, 0.9) is None
    assert set_sentence(every, None) is None


def test_a_document_that_does_not_say_what_is_calibrated_claims_nothing() -> None:
    page = page_of(clip())
    assert "alibrated" not in page.text
    assert "Probabilities." in page.text
    assert "of several labels, that of the least sure one." in page.text


def test_no_decision_where_the_model_is_less_sure_than_asked() -> None:
    page = page_of(clip(0.0, 83.5, anger=0.7))
    assert "0:00 to 1:23.5" in page.text
    assert "No decision: 70.0 % sure, 80.0 % were asked for" in page.text
    assert not any("decided" in (tag.get("class") or "") for _, tag in page.tags)


def test_windows_have_a_timeline() -> None:
    page = page_of(
        clip(0.0, 10.0, anger=0.9), clip(10.0, 20.0, anger=0.5, text="no"),
        defects=[{"start": 20.0, "end": 30.0, "reason": "no frame"}],
    )  # fmt: skip
    assert "2 windows from 0:00 to 0:20" in page.text
    assert "No decision in 1 of 2 windows: less than 80.0 % sure" in page.text
    # middles at 5 and 15 of 20 s, on 220 units; 0.9 and 0.5 of 56 units, from the top
    assert [tag["points"] for name, tag in page.tags if name == "polyline"][1] == "55.0,5.6 165.0,28.0"
    assert "0:00 0:10 0:20" in page.text
    assert "Anger in 50 % of the windows, 0:00-0:10" in page.text
    assert "no decision in 1 of 2 windows" in page.text
    assert "Mean over the windows: Neutral 0.10 Anger 0.70" in page.text
    assert "0:00–0:10" in page.text
    assert "no decision 50.0 %" in page.text
    assert "0:20–0:30: no frame" in page.text


def test_key_moments_lead_to_the_recording(tmp_path: Path) -> None:
    (tmp_path / "a b.mp4").touch()
    windows = recording(clip(0.0, 10.0, anger=0.9), clip(10.0, 20.0, anger=0.5), name="talk")
    document = {**DOCUMENT, "recordings": [{**windows, "path": str(tmp_path / "a b.mp4")}]}
    page = Page(write_cards(document, tmp_path / "cards")[0].read_text(encoding="utf-8"))
    assert "Key moments 0:00 Anger 0.90" in page.text
    links = [tag["href"] for name, tag in page.tags if name == "a"]
    assert links == ["../a%20b.mp4#t=0.0", "../a%20b.mp4"]
    gone = Page(render_card(windows, DOCUMENT))
    assert "Key moments 0:00 Anger 0.90" in gone.text
    assert not [tag for name, tag in gone.tags if name in ("a", "button")]


def explained(**options: Any) -> dict[str, Any]:
    """A clip whose tasks are video's alone, with what it adds in one of them as `options` say."""

    def why(first: str, second: str, value: float, **others: Any) -> dict[str, Any]:
        return {
            "prediction": {first: 0.1, second: value}, "baseline": {first: 0.1, second: 0.5},
            "shapley": {"video": {first: 0.0, second: value - 0.5}, "text": {first: 0.0, second: 0.0}},
            "conflicts": [], "attention": None, "guides": None, "notes": ["no attention: switched off"], **others,
        }  # fmt: skip

    tasks = {"emotion": why("Neutral", "Anger", 0.9, **options), "personality": why("openness", "extraversion", 0.45)}
    return clip(explanation={"modalities": ["video", "text"], "present": ["video"], "tasks": tasks})


def test_why() -> None:
    page = page_of(
        explained(
            attention={"video": 1.0, "text": 0.0}, guides=[{"name": "Anger", "cosine": 0.831}], notes=[],
            conflicts=[{"first": "video", "second": "text", "value": 0.25}],
            interactions=[{"first": "video", "second": "text", "values": {"Neutral": 0.0, "Anger": -0.031}}],
        )
    )  # fmt: skip
    assert "Interactions of two modalities modalities Anger video + text -3.1" in page.text
    assert "Anger : 50.0 % without any modality, 90.0 % with those that are there" in page.text
    assert "video +40.0 text (absent) 0.0 In percentage points: the prediction without" in page.text
    assert "extraversion : 0.500 without any modality, 0.450 with those that are there" in page.text
    assert "video -0.050 text (absent) 0.000 In score points on the scale from 0 to 1: the prediction" in page.text
    assert (
        "class without any video text predicted Neutral 10.0 % 0.0 0.0 10.0 % Anger 50.0 % +40.0 0.0 90.0 %"
        in page.text
    )
    assert "video – text 25.0 % 25.0 % on average Attention video 100 % text 0 %" in page.text
    assert "Nearest prototypes: Anger +0.83" in page.text
    assert "None: it takes two modalities. no attention: switched off" in page.text  # of personality
    bars = {tag["class"]: tag["style"] for name, tag in page.tags if name == "i" and tag.get("class")}
    assert bars["down"] == "left:0.0%;width:50.0%"  # -0.05 on an axis of 0.05
    assert page.text.count("Reading what each modality adds") == 1


def test_without_an_explanation_nothing_of_it_is_there() -> None:
    page = render_card(recording(clip()), DOCUMENT)
    why = explained(attention={"video": 1.0}, guides=[{"name": "Anger", "cosine": 0.5}])
    assert "Interactions" not in Page(render_card(recording(why), DOCUMENT)).text  # of a document from before
    for word in ("What each modality adds", "signed", "Conflict", "Attention", "rototype", "Reading"):
        assert word not in page
        assert word in render_card(recording(why), DOCUMENT)


def test_windows_are_explained_by_their_means() -> None:
    one, two = (explained() | {"start": start, "end": start + 5.0} for start in (0.0, 5.0))
    two["explanation"]["tasks"]["emotion"]["shapley"]["video"]["Anger"] = 0.2
    page = page_of(one, two)
    assert "Means over the windows, in percentage points" in page.text
    assert "video +30.0" in page.text  # (40 + 20)/2


def test_nothing_acts_and_nothing_is_fetched() -> None:
    evil = "<script>alert(1)</script>"
    page = render_card(
        recording(
            clip(text=evil, absent={"video": evil}, narrative=[{"text": evil, "spans": []}]), name=f'{evil}".mp4'
        ),
        DOCUMENT,
    )
    found = Page(page)
    assert found.text.count(evil) == 5  # title, heading, absence, transcript, narrative
    names = {name for name, _ in found.tags}
    assert not names & {"script", "link", "img", "iframe"}
    assert not re.search(r"https?:|url\(|@import|\bsrc=", page)


def test_files_have_safe_names_of_their_own(tmp_path: Path) -> None:
    names = ["../a b.mp4", "..", "x/y.mp4", "x_y.mp4", "X_y.mp4"]
    found = {**DOCUMENT, "recordings": [recording(clip(), name=name) for name in names] + [recording(name="empty")]}
    files = write_cards(found, tmp_path / "cards")
    assert [path.name for path in files] == [
        "a_b.mp4.html",
        "recording.html",
        "x_y.mp4.html",
        "x_y.mp4-2.html",
        "X_y.mp4-3.html",
    ]
    assert sorted(path.name for path in (tmp_path / "cards").iterdir()) == sorted(path.name for path in files)


UNLIKE = {"distance": 3.0, "ratio": 2.5, "percentile": 1.0, "num_less": 56, "num_dev": 56}
USUAL = {"distance": 1.0, "ratio": 1.1, "percentile": 0.5, "num_less": 28, "num_dev": 56}
FACES = {
    "num_frames": 12, "num_with_face": 10, "most_faces": 1, "smallest_eyes": 84.2, "smallest_side": 160.0,
    "is_turned": False,
}  # fmt: skip


def test_a_clip_unlike_the_training_clips_is_said_to_be_so() -> None:
    said = page_of(clip(novelty={"audio": UNLIKE, "text": USUAL})).text
    words = "audio is unlike the training clips: 2.5 times as far from their mean as usual, more out of line than all"
    assert said.index(words) < said.index("emotion")  # above all that is predicted
    assert "text is unlike" not in said
    assert "Novelty: audio 1.00 (2.50 times as far from the training clips as usual, 56 dev clips); text 0.50" in said
    assert "unlike" not in page_of(clip(novelty={"text": USUAL})).text.replace("unlike training", "")
    assert "Novelty" not in page_of(clip()).text  # a document of before


def test_abstention_by_novelty_has_its_reason_and_hides_nothing() -> None:
    abstained = clip(novelty={"audio": UNLIKE})
    for result in abstained["tasks"].values():
        result |= {"abstained": True, "reason": "novelty of audio 1.00, 0.99 asked"}
    said = page_of(abstained).text
    assert "No decision: novelty of audio 1.00, 0.99 asked" in said
    assert "Not to be used: novelty of audio 1.00, 0.99 asked" in said  # the scores of the regression
    assert "Anger 0.90" in said
    assert "openness 0.25" in said


def test_windows_unlike_the_training_clips_are_counted() -> None:
    windows = [clip(0.0, 4.0, novelty={"audio": UNLIKE}), clip(4.0, 8.0, novelty={"audio": USUAL})]
    assert "1 of 2 windows are unlike the training clips" in page_of(*windows).text


def test_what_the_picture_shows_of_faces_is_said_once() -> None:
    said = page_of(clip(faces={"video": FACES, "behavior": FACES})).text
    assert said.count("a face in 10 of 12 frames looked at; the smallest 84 px between the eyes") == 1
    assert "video, behavior: a face" in said
    assert "a face in" not in page_of(clip()).text
    windows = [clip(0.0, 4.0, faces={"video": FACES}), clip(4.0, 8.0)]
    assert "video: a face in 10 of 12 frames" in page_of(*windows).text


browser = report_in_browser.browser


@pytest.mark.slow
def test_keyboards_and_screen_readers_have_all_of_it(browser: Any, tmp_path: Path) -> None:
    windows = recording(clip(0.0, 10.0, anger=0.9), clip(10.0, 20.0, anger=0.5), name="talk")
    cards = write_cards(
        {**DOCUMENT, "recordings": [windows, recording(clip(0.0, 10.0, anger=0.9))]}, tmp_path / "cards"
    )
    for card in cards:
        for width, theme in itertools.product((360, 1280), ("light", "dark")):
            set_view(browser, width, theme)
            browser.get(card.as_uri())
            assert grave(browser) == [], (card.name, width, theme)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
