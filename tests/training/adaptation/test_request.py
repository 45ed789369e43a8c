"""`mmpsr adapt` from a finished run to its files, without the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from accelerate import Accelerator
from rich.console import Console

from corpora.clips import CorpusError
from corpora.demo.layouts import BahVideo, bah_path, write_bah
from mmpsr.config import ConfigError, validate
from tests.support import fresh_run
from tests.support.media_files import grey, write_media
from tests.support.tiny_images import write_resnet
from training.adaptation import request as module
from training.adaptation.request import AdaptationRequest, answer
from training.adaptation.tables import tables
from training.config import RunConfig
from training.pipeline import run_training
from training.runs.directory import RunError

PEOPLE = {"train": 4, "dev": 2, "test": 3}
NUM_CLIPS = 20
QUICK = (
    "width=8", "source.num_epochs=2", "with_source.num_epochs=1", "subject.num_epochs=1", "source_free.num_epochs=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run on a table of people's clips; vectors are read in this process."""
    path = tmp_path_factory.mktemp("adapt")
    with fresh_run.quickly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "extract_features", lambda clips, *_: (clips, pd.DataFrame(), pd.DataFrame()))
        yield path


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    splits = {split: number * NUM_CLIPS for split, number in PEOPLE.items()}
    table = fresh_run.rows("own", splits)
    table["who"] = [f"{row.part}{row.Index % NUM_CLIPS % PEOPLE[row.part]}" for row in table.itertuples()]
    table["sure"] = np.where(table["mood"].eq(0), "absent", "present")
    fresh_run.write(folder, "own", table)
    tree = fresh_run.config(folder).model_dump(mode="json")
    source = {"group": "who", "group_kind": "participant", "labels": {"ambivalence": {"column": "sure"}}}
    tree["corpora"]["sources"]["own"] = fresh_run.source("own", **source, metrics={"ambivalence": ["macro_f1"]})
    tree["tasks"] = {"active": ["ambivalence"]}
    settings = validate(RunConfig, tree, "test")
    return run_training(settings, "own", False, Accelerator(cpu=True), Console(file=io.StringIO()))


def ask(run: Path, *settings: str, **changes: Any) -> dict[str, Any]:
    request = {"corpus": "own", "methods": ("source", "shot"), "settings": (*QUICK, *settings), **changes}
    return answer(AdaptationRequest(run, **request), Console(file=io.StringIO()))


def test_figures_of_a_run(run: Path) -> None:
    found = ask(run, "protocol.seeds=[0,1]", methods=("source", "mmd", "subject", "shot", "nrc", "oracle"))
    assert (found["task"], found["by"], found["form"]) == ("ambivalence", "participant", "features")
    assert found["encoders"].keys() == {"audio"}  # the run has no video
    assert len(found["participants"]) == 6 * 3 * 2
    folder = Path(found["folder"])
    assert folder.parent == run / "adaptation" / "own"
    assert json.loads((folder / "adaptation.json").read_text()) == found
    assert len(pd.read_csv(folder / "adaptation.csv")) == 36
    console = Console(width=200, record=True, file=io.StringIO())
    for table in tables(found):
        console.print(table, highlight=False)
    text = console.export_text()
    assert "own, ambivalence: 3 test participants, 2 seed(s)" in text
    assert "oracle (reads labels)" in text
    mean = next(r["mean"] for r in found["methods"] if (r["method"], r["figure"]) == ("shot", "average_f1"))
    assert f"{mean:.2f} ±" in next(line for line in text.splitlines() if "shot" in line)
    assert "the encoder stays as it is" in text


def test_settings_of_the_corpora_and_of_the_methods(run: Path, tmp_path: Path) -> None:
    found = ask(run, "corpora.sources.own.group=film", "protocol.fewest_positives=1", by="speaker", output=tmp_path)
    assert {row["participant"] for row in found["participants"]} == {"test0", "test1", "test2"}
    assert Path(found["folder"]).parent == tmp_path / "own"
    with pytest.raises(ConfigError, match=r"shot.pseudo is not a setting; did you mean 'pseudo_weight'"):
        ask(run, "shot.pseudo=1")
    with pytest.raises(ConfigError, match=r"corpora.sources.own.grup is not a setting; did you mean 'group'"):
        ask(run, "corpora.sources.own.grup=film")
    with pytest.raises(RunError, match="but the run was trained on"):
        ask(run, "features.encoders.text=minilm")


def test_other_corpora_of_a_file(run: Path, folder: Path) -> None:
    other = folder / "other.toml"
    other.write_text(
        f"""
[corpora]
root = "{folder}"
[corpora.sources.again]
adapter = "table"
files = "own.csv"
id = "id"
text = "said"
group = "who"
group_kind = "participant"
split = "part"
labels.ambivalence = {{ column = "sure" }}
"""
    )
    found = ask(run, corpus="again", config=other)
    assert found["corpus"] == "again"
    assert found["participants"] == ask(run)["participants"]


def test_the_view_of_mirrored_clips(run: Path) -> None:
    source = (
        'corpora.sources.mirror={adapter="table",files="own.csv",id="id",text="said",group="who",split="part",'
        'labels={ambivalence={column="sure"}}}'
    )
    found = ask(run, source, "protocol.mirrored=mirror", methods=("source", "subject"))
    assert found["settings"]["protocol"]["mirrored"] == "mirror"
    with pytest.raises(ConfigError, match=r"protocol.mirrored: no corpus is named 'mirrored'; did you mean 'mirror'"):
        ask(run, source, "protocol.mirrored=mirrored")


def test_what_is_not_there(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--corpus: no corpus is named 'bah'; "):
        ask(run, corpus="bah")
    with pytest.raises(ConfigError, match="no method of adaptation is named 'shto'; did you mean 'shot'"):
        ask(run, methods=("source", "shto"))
    with pytest.raises(ConfigError, match="--task: the run has no task 'ambivalent'; did you mean 'ambivalence'"):
        ask(run, task="ambivalent")
    with pytest.raises(RunError, match="is no run directory"):
        ask(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"protocol.modalities: the run has no modality 'video'"):
        ask(run, 'protocol.modalities=["video"]')


def test_frames_need_features_and_labels_in_time(run: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"needs features in time of audio; add `--set 'features.timed=\[\"audio\"\]'`"
    ):
        ask(run, "protocol.rows=frames")
    with pytest.raises(ConfigError, match=r"protocol.mirrored is of clips, but protocol.rows is 'frames'"):
        ask(run, "protocol.rows=frames", "protocol.mirrored=own")


def test_a_corpus_without_labels_of_a_task_of_two_classes(run: Path) -> None:
    with pytest.raises(CorpusError, match=r"task of two classes \(ambivalence\), and corpus 'own' has no label of one"):
        ask(run, "corpora.sources.own.labels={}")


@pytest.fixture(scope="module")
def pictured(folder: Path) -> Path:
    """BAH's layout with face pictures, lighter while ambivalence is present; the file that names it."""
    videos = [
        BahVideo(f"9{index}{person}", question, split, 1, "", segments=[(0.25, 0.5)], num_frames=16)
        for index, (split, number) in enumerate(PEOPLE.items())
        for person in range(number)
        for question in range(1, 6)
    ]
    tree = folder / "bah"
    generator = np.random.default_rng(0)
    for video in videos:
        media = tree / bah_path(video)
        media.parent.mkdir(parents=True, exist_ok=True)
        write_media(media, [grey(index, 16) for index in range(video.num_frames)], fps=24)
        faces = tree / "cropped-aligned-faces" / bah_path(video)
        faces.mkdir(parents=True)
        for index in range(video.num_frames):
            level = 150 if 6 <= index <= 12 else 90
            picture = (level + 20 * generator.normal(size=(32, 32, 3))).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(faces / f"frame-{index}.jpg"), picture)
    write_bah(tree, videos, {video.participant: {} for video in videos})
    file = folder / "bah.toml"
    file.write_text(
        f"""
[corpora]
root = "{folder}"
[corpora.sources.bah]
adapter = "bah"
path = "bah"
timelines = true
[features.faces]
source = "shipped"
[features.weights]
"microsoft/resnet-50" = "{write_resnet(folder / "resnet")}"
"""
    )
    return file


def test_the_encoder_itself_is_adapted(run: Path, pictured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "extract_features", lambda *_: pytest.fail("no vector is asked for"))
    network = (
        "form=network", "network.encoder=microsoft/resnet-50", "protocol.rows=frames", "protocol.frame_step=2",
        "source.num_epochs=10", "source.batch_size=16",
    )  # fmt: skip
    found = ask(run, *network, corpus="bah", config=pictured, methods=("source", "subject", "shot", "oracle"))
    assert (found["form"], found["task"]) == ("network", "ambivalence")
    assert found["encoders"]["video"].startswith("microsoft_resnet-50-")
    assert len(found["participants"]) == 4 * 3
    assert {row["num_train"] + row["num_val"] + row["num_test"] for row in found["participants"]} == {5 * 8}
    assert next(row["mean"] for row in found["methods"] if row["method"] == "source") > 80.0  # the light is plain
    console = Console(width=200, record=True, file=io.StringIO())
    for table in tables(found):
        console.print(table, highlight=False)
    assert "with a bottleneck upon it (form network)" in console.export_text()
    monkeypatch.setattr("encoders.extraction.pictures.encode_in_time", lambda *_: pytest.fail("pictures are kept"))
    assert ask(run, *network, corpus="bah", config=pictured)["folder"] == found["folder"]


@pytest.mark.slow
def test_clips_that_are_pictures(run: Path, pictured: Path) -> None:
    """BAH at level `frame`, whose faces are looked for in the pictures; these have none and are seen whole."""
    settings = (
        "form=network", "network.encoder=microsoft/resnet-50", "corpora.sources.bah.level=frame",
        "corpora.sources.bah.timelines=false", "corpora.sources.bah.frame_step=8", "protocol.fewest_positives=1",
        "network.head=perceptron",
    )  # fmt: skip
    found = ask(run, *settings, corpus="bah", config=pictured)
    assert len(found["participants"]) == 2 * 3
    assert {row["num_train"] + row["num_val"] + row["num_test"] for row in found["participants"]} == {5 * 2}
    assert "frames are placed in time by their number, at 24 frames a second" in found["notes"]


def test_what_form_network_cannot_do(run: Path, pictured: Path) -> None:
    def fails(error: type[Exception], reason: str, *settings: str) -> None:
        with pytest.raises(error, match=reason):
            ask(run, "form=network", *settings, corpus="bah", config=pictured)

    resnet = "network.encoder=microsoft/resnet-50"
    fails(ConfigError, r"'face-mesh' \(video\) has no network that pictures go into")  # the encoder of the file
    fails(ConfigError, "the run has no encoder of smell; name one", 'protocol.modalities=["smell"]')
    fails(ConfigError, "no encoder is named 'microsoft/resnet-5'", "network.encoder=microsoft/resnet-5")
    fails(ConfigError, "adapts to single pictures, but clip .* is a .mp4 file", resnet)
    fails(ConfigError, "form 'network' mirrors the pictures itself, leave it out", resnet, "protocol.mirrored=bah")
    fails(ConfigError, "adapts one encoder; protocol.modalities", resnet, 'protocol.modalities=["video","behavior"]')
    rates = "protocol.rows=frames", "features.timed_rate=2"
    fails(CorpusError, "none of the 45 clips .* leave out features.timed_rate", resnet, *rates)
