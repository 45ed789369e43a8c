from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from encoders.config import FeaturesConfig
from mmpsr.config import ConfigError
from mmpsr.prototypes.texts import TaskTexts, read_task_texts
from mmpsr.tasks import AMBIVALENCE, TaskSpec
from tests.support.worded import ENCODER, worded_features, write_mood
from training.class_texts.zero_shot import parse_wordings, read_zero_shot, with_text_encoder, wordings_of
from training.data.joined import JoinedCorpora


def test_wordings_are_those_that_there_are_and_that_fit_the_modality() -> None:
    shipped = read_task_texts("emotion")
    assert wordings_of(shipped, "text", None) == ("templates", "definitions", "phrases")
    assert wordings_of(shipped, "behavior", None) == ("templates", "definitions", "behaviors")
    assert wordings_of(shipped, "text", ("names", "behaviors")) == ("names",)
    assert wordings_of(shipped, "behavior", ("phrases",)) == ()
    names = TaskTexts.model_validate({"texts": {"a": {"name": "a"}, "b": {"name": "b"}}})
    assert wordings_of(names, "text", None) == ("names",)  # nothing else is there
    assert wordings_of(names, "text", ("phrases",)) == ()
    some = TaskTexts.model_validate({"texts": {"a": {"name": "a", "phrases": ["A!"]}, "b": {"name": "b"}}})
    with pytest.raises(ConfigError, match=r"mine: \[texts.b\] has no phrases, which other classes have"):
        wordings_of(some, "text", None, "mine")
    assert parse_wordings(None) is None
    assert parse_wordings("phrases, names") == ("names", "phrases")
    with pytest.raises(ConfigError, match="--wordings: no wording is named 'phases'; did you mean 'phrases'"):
        parse_wordings("phases")


def test_a_clip_rests_on_the_texts_nearest_to_it(tmp_path: Path) -> None:
    found = read_zero_shot([write_mood(tmp_path)], worded_features())
    assert found.wordings == {"mood": {"text": ("templates", "phrases"), "behavior": ("templates", "behaviors")}}
    text = torch.zeros(3, 10)
    text[0, 1], text[1, 0], text[1, 2] = 1.0, 0.5, 0.5  # "grief"; "joy calm"
    behavior = torch.zeros(3, 10)
    behavior[1, 4] = 1.0  # "tears"
    presence = torch.tensor([[True, False], [True, True], [False, False]])
    joined = JoinedCorpora(pd.DataFrame(index=range(3)), {"text": text, "behavior": behavior}, presence, {})
    grief, calm, nothing = found.rests_on(joined)
    assert nothing == {"mood": ()}
    (said,) = grief["mood"]
    assert said.startswith(
        "What is said is nearest to “Grief” (templates of bad, 1.00), “grief” (phrases of bad, 1.00)"
    )
    said, described = calm["mood"]
    assert said.startswith(
        "What is said is nearest to “joy calm” (phrases of good, 1.00), “Joy” (templates of good, 0."
    )
    assert described.startswith("What is described is nearest to “tears” (behaviors of bad, 1.00), ")


def test_words_say_what_the_numbers_are(tmp_path: Path) -> None:
    file = write_mood(tmp_path)
    found = read_zero_shot([file], worded_features(), wordings=("names", "behaviors"))
    assert found.statement("mood") == (
        f"Zero-shot by the texts of {file}, no label used: similarities made into probabilities by a softmax at "
        "temperature 0.1, not calibrated (what is said with names; described behaviour with names, behaviors; "
        f"{ENCODER})"
    )
    assert f"how near words are to texts of what the classes of mood ({file}) mean. How good that" in found.about


def test_names_of_tasks_and_declarations(tmp_path: Path) -> None:
    file, features = write_mood(tmp_path), worded_features()
    assert list(read_zero_shot([file], features, taken=("mood",)).sources) == ["zero-shot-mood"]
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match=r"--task-texts: two tasks are named 'mood'"):
        read_zero_shot([file, write_mood(tmp_path / "other")], features)
    mood: dict[str, Any] = {
        "kind": "multi_label",
        "classes": ("bad", "good"),
        "loss": "binary_cross_entropy",
        "metrics": (),
    }
    declared = TaskSpec(**{**mood, "texts": file})
    found = read_zero_shot(["mood"], features, declared={"mood": declared})  # its own texts, by its name
    assert found.model.tasks["mood"] == declared
    found = read_zero_shot([file], features, declared={"mood": TaskSpec(**mood)})  # a file's, in the task's order
    assert found.model.tasks["mood"] == declared
    assert "a sigmoid of each class" in found.statement("mood")
    with pytest.raises(ConfigError, match="no text of 'absent', 'present'"):
        read_zero_shot([file], features, declared={"mood": AMBIVALENCE})
    with pytest.raises(ConfigError, match=r"mood.toml has no text of definitions; choose other --wordings"):
        read_zero_shot([file], features, wordings=("definitions",))


def test_one_encoder_reads_both_where_it_can() -> None:
    features = worded_features(encoders={"video": "face-mesh", "text": ENCODER})
    both = ("text", "behavior")
    assert with_text_encoder(features, None, both).encoders == {"text": ENCODER, "behavior": ENCODER}
    assert with_text_encoder(features, None, ("video", "text")).encoders == {"text": ENCODER}
    assert with_text_encoder(features, "minilm-context", both).encoders == {"text": "minilm-context"}
    with pytest.raises(ConfigError, match="did you mean 'minilm'"):
        with_text_encoder(features, "minilmm", both)
    with pytest.raises(ConfigError, match="none is text"):
        with_text_encoder(features, None, ("behavior",))


def test_a_wording_that_there_is_not_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="wordings: none is named 'name'; did you mean 'names'"):
        read_zero_shot(["emotion"], FeaturesConfig(), wordings=["name"])  # type: ignore[list-item]
