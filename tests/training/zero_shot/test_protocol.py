"""From a configuration to files of results: what is asked, counted, read, kept, and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from corpora.clips import CorpusError
from encoders.errors import Failure
from encoders.media.clip import ClipMedia
from encoders.store.text_store import Written
from encoders.writers.answerer import Answerer, AnswerLikelihoods
from mmpsr.config import ConfigError, validate
from tests.support.media_files import grey, write_media
from tests.support.tiny_writers import tiny_video_llava
from training.zero_shot import protocol
from training.zero_shot.config import ZeroShotRunConfig

pytestmark = pytest.mark.usefixtures("few_resamples")

CLIPS = """file,person,part,said,hesitant,mood
a,p1,dev,"I could {not}, maybe.",yes,low
b,p1,dev,,no,high
c,p2,test,Yes.,no,high
d,p3,test,"Well, ambivalent.",yes,middle
e,p3,test,  ,yes,low
f,p4,test,Unlabelled.,,
g,p4,train,Maybe.,yes,low
broken,p5,test,Maybe not.,no,middle
"""


class Heard:
    """What the models that stand in were asked, and how often they were loaded."""

    prompts: ClassVar[list[str]] = []
    loaded: ClassVar[int] = 0


class SeesNothing(Answerer):
    """Says ambivalent where a transcript of `maybe` is in the prompt, nothing that can be read without a transcript."""

    def load(self) -> None:
        Heard.loaded += 1
        self._processor = self._model = self._options = self._sees_video = self._ends = None

    def frames(self, clip: ClipMedia) -> list[Any]:
        if clip.clip_id == "broken":
            raise ValueError("its frames are gone")
        return [np.zeros((2, 2, 3), np.uint8)]

    def write(self, prepared: Sequence[Any]) -> list[Written | Failure]:
        Heard.prompts += [each.prompt for each in prepared]
        spoken = ["maybe" in each.prompt.split("\n\n")[0] for each in prepared]
        known = ["\n\n" in each.prompt and "word for word" in each.prompt for each in prepared]
        answers = {(True, True): "Ambivalent.", (False, True): "It is Non-Ambivalent"}
        return [Written(answers.get(each, "Hm.")) for each in zip(spoken, known, strict=True)]


class FindsLikely(AnswerLikelihoods):
    """Finds the second of two answers three times as likely, in the dark."""

    frames = SeesNothing.frames  # type: ignore[assignment]

    def write(self, prepared: Sequence[Any]) -> list[Written | Failure]:
        return [Written(json.dumps([-1000.0, -1000.0 + float(np.log(3.0))])) for _ in prepared]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[Heard]:
    monkeypatch.setattr(protocol, "Answerer", SeesNothing)
    monkeypatch.setattr(protocol, "AnswerLikelihoods", FindsLikely)
    Heard.prompts, Heard.loaded = [], 0
    return Heard


def config(folder: Path, clips: str = CLIPS, **zero_shot: Any) -> ZeroShotRunConfig:
    (folder / "clips.csv").write_text(clips)
    source = {
        "adapter": "table", "files": "clips.csv", "id": "file", "split": "part", "text": "said", "group": "person",
        "labels": {
            "ambivalence": {"column": "hesitant", "values": {"no": "absent", "yes": "present"}},
            "mood": {"column": "mood", "values": {name: name for name in ("low", "middle", "high")}},
        },
    }  # fmt: skip
    mood = {"kind": "single_label", "classes": ["low", "middle", "high"], "loss": "cross_entropy",
            "metrics": ["macro_f1", "uar"]}  # fmt: skip
    values = {
        "corpora": {"root": str(folder), "sources": {"mine": source}}, "features": {"store": str(folder / "store")},
        "tasks": {"specs": {"mood": mood}}, "output": {"directory": str(folder / "runs")}, "zero_shot": zero_shot,
    }  # fmt: skip
    return validate(ZeroShotRunConfig, values, "mine.toml")


def test_what_is_asked_read_and_counted(stand_in: type[Heard], tmp_path: Path) -> None:
    settings = config(tmp_path, ask=["bah-simple", "bah-transcript-2"], splits=["dev", "test"], batch_size=2)
    found = protocol.run_zero_shot(settings, "mine")
    assert stand_in.loaded == 1  # one model for all prompts
    table = found.table.set_index("clip_id")
    assert [*table.index] == ["a", "b", "c", "d", "e", "broken"]  # labelled clips of the two splits
    assert table["class.bah-transcript-2"].tolist() == ["present", "absent", "absent", "absent", "absent", pd.NA]
    assert table["read.bah-transcript-2"].tolist() == ["read", "unread", "read", "read", "unread", pd.NA]
    assert table.loc["broken", "reason.bah-simple"] == "ValueError: its frames are gone"
    assert table.loc["a", "reason.bah-simple"] == ""
    assert sum("I could {not}, maybe." in prompt for prompt in stand_in.prompts) == 1
    counts = {(row["prompt"], row["split"]): row for row in found.document["counts"]}
    assert counts["bah-transcript-2", "test"] == {
        "prompt": "bah-transcript-2", "corpus": "mine", "split": "test", "num_clips": 4, "num_questions": 4,
        "num_unread": 1, "num_several": 0, "num_without_transcript": 1, "num_failed": 1, "num_failed_clips": 1,
    }  # fmt: skip
    assert counts["bah-transcript-2", "dev"]["num_without_transcript"] == 1
    assert counts["bah-simple", "test"]["num_without_transcript"] == 0  # it asks for none
    assert counts["bah-simple", "test"]["num_unread"] == 3
    values = {(row["split"], row["system"], row["metric"]): row for row in found.document["figures"]}
    assert values["dev", "bah-transcript-2", "macro_f1"]["value"] == 100.0  # a present, b absent
    assert values["test", "bah-transcript-2", "macro_f1"]["value"] == pytest.approx(25.0)  # F1 of absent 2 / (2 + 2)
    assert values["test", "all present", "positive_f1"]["value"] == pytest.approx(200 / 3)  # 2 of 4
    assert values["test", "all present", "positive_f1"]["num"] == 4
    assert values["test", "bah-simple", "uar"]["num"] == 3
    assert found.document["chosen"]["prompt"] == "bah-transcript-2"


def test_answers_are_kept_and_results_follow_from_the_table(stand_in: type[Heard], tmp_path: Path) -> None:
    settings = config(tmp_path, ask=["bah-simple", "bah-transcript-1"])
    found = protocol.run_zero_shot(settings, "mine")
    number = len(stand_in.prompts)
    again = protocol.run_zero_shot(settings, "mine")
    assert again.folder == found.folder == tmp_path / "runs" / "mine" / found.folder.name
    assert (len(stand_in.prompts), stand_in.loaded) == (number, 1)
    assert again.document == found.document == json.loads((found.folder / "results.json").read_text())
    assert found.document["chosen"] is None  # test chooses nothing
    stored = pd.read_parquet(found.folder / "predictions.parquet")
    pd.testing.assert_frame_equal(stored, found.table, check_dtype=False)
    assert {path.name for path in found.folder.iterdir()} == {
        "config.json", "predictions.parquet", "results.json", "defects.csv",
    }  # fmt: skip
    assert json.loads((found.folder / "config.json").read_text()) == settings.model_dump(mode="json")
    more = protocol.run_zero_shot(config(tmp_path, ask=["bah-simple", "bah-definition-1"]), "mine")
    assert more.folder != found.folder
    assert len(stand_in.prompts) == number + 3  # the new prompt alone


def test_probabilities_are_the_softmax_of_likelihoods(stand_in: type[Heard], tmp_path: Path) -> None:
    found = protocol.run_zero_shot(config(tmp_path, ask=["bah-simple"], likelihood=True), "mine")
    shares = found.table[["likelihood.bah-simple.absent", "likelihood.bah-simple.present"]].to_numpy()
    assert shares[:3] == pytest.approx(np.tile([0.25, 0.75], (3, 1)))
    assert np.isnan(shares[3]).all()  # the broken one
    assert stand_in.loaded == 1
    values = {(row["system"], row["metric"]): row["value"] for row in found.document["figures"]}
    assert values["bah-simple likelihood", "positive_f1"] == pytest.approx(80.0)  # always present: 2 of 3
    assert values["bah-simple likelihood", "average_precision"] == pytest.approx(200 / 3)
    assert ("bah-simple", "average_precision") not in values


def test_any_single_label_task(stand_in: type[Heard], tmp_path: Path) -> None:
    found = protocol.run_zero_shot(config(tmp_path, task="mood", splits=["dev"]), "mine")
    assert [prompt["prompt"] for prompt in found.document["prompts"]] == ["simple", "transcript"]
    assert any("As to mood, which of these fits best: low, middle or high?" in prompt for prompt in stand_in.prompts)
    systems = dict.fromkeys(row["system"] for row in found.document["figures"])
    assert [*systems] == ["simple", "transcript", "all low", "all middle", "all high"]
    assert {row["metric"] for row in found.document["figures"]} == {"macro_f1", "weighted_f1", "uar"}


def test_what_cannot_be_is_told(stand_in: type[Heard], tmp_path: Path) -> None:
    for message, settings in {
        "zero_shot.task: no task is named 'ambivalance'; did you mean 'ambivalence'": {"task": "ambivalance"},
        "'personality' is regression": {"task": "personality"},
        "no prompt 'simple'": {"ask": ["simple"]},
    }.items():
        with pytest.raises(ConfigError, match=message):
            protocol.run_zero_shot(config(tmp_path, **settings), "mine")
    with pytest.raises(ConfigError, match="--corpus: there is no corpus 'main'; did you mean 'mine'"):
        protocol.run_zero_shot(config(tmp_path), "mine", corpora=["main"])
    with pytest.raises(CorpusError, match="no clip of these splits has labels of 'ambivalence' in time"):
        protocol.run_zero_shot(config(tmp_path, window=8), "mine")
    only_train = "\n".join(line for line in CLIPS.splitlines() if ",test," not in line) + "\n"
    with pytest.raises(CorpusError, match="no corpus has clips of test"):
        protocol.run_zero_shot(config(tmp_path, only_train), "mine")
    unlabelled = CLIPS.splitlines()[0] + "\nf,p4,test,Unlabelled.,,\n"
    with pytest.raises(CorpusError, match="no clip of these splits has a label of 'ambivalence'"):
        protocol.run_zero_shot(config(tmp_path, unlabelled), "mine")
    assert stand_in.prompts == []


@pytest.mark.slow
def test_a_model_on_disk_answers_about_recordings(tmp_path: Path) -> None:
    """The whole path with a tiny Video-LLaVA: media, frames, chat, answer, likelihoods, figures."""
    model = tiny_video_llava(tmp_path / "model")
    generator = np.random.default_rng(0)
    for name in "abcde":
        noise = list(generator.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8))
        write_media(tmp_path / f"{name}.mkv", [*noise, grey(3)])
    settings = config(tmp_path, likelihood=True, splits=["dev", "test"])
    values = settings.model_dump(mode="json")
    values["corpora"]["sources"]["mine"]["media"] = "{file}.mkv"
    values["features"]["weights"] = {settings.zero_shot.model: str(model)}
    settings = validate(ZeroShotRunConfig, values, "mine.toml")
    found = protocol.run_zero_shot(settings, "mine")
    answered = found.table["clip_id"].ne("broken")
    for prompt in ("bah-simple", "bah-transcript-2"):
        assert found.table.loc[answered, f"answer.{prompt}"].notna().all()
        assert found.table.loc[answered, f"likelihood.{prompt}.present"].between(0, 1).all()
        assert found.table.loc[answered, f"log_likelihood.{prompt}.present"].nunique() == 5
    assert found.table.loc[~answered, "reason.bah-simple"].eq("no media file").all()
    assert protocol.run_zero_shot(settings, "mine").document == found.document
