from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from corpora.clips import CorpusError
from corpora.registry import CorporaConfig, generated_corpora, prepare, read_corpora
from mmpsr.config import Config, ConfigError, load_config
from mmpsr.tasks import AMBIVALENCE, BUILTIN_TASKS, EMOTION, TaskSpec

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "text"
EMOTIONS = list(EMOTION.classes)


class Run(Config):
    corpora: CorporaConfig = CorporaConfig()
    """The corpora."""


def source(**changes: Any) -> dict[str, Any]:
    return {"adapter": "table", "files": {"train": "t.csv"}, "id": "name", **changes}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text("name,label\na,present\nb,absent\n", encoding="utf-8")
    return tmp_path


def config(root: Path, **sources: dict[str, Any]) -> CorporaConfig:
    return CorporaConfig.model_validate({"root": str(root), "sources": sources})


def test_sources_are_joined_in_order(root: Path) -> None:
    labelled = source(labels={"ambivalence": {"column": "label"}})
    table = read_corpora(config(root, one=source(), two=labelled), {"emotion": EMOTION})
    clips = table.clips
    assert clips[["corpus", "clip_id"]].to_numpy().tolist() == [["one", "a"], ["one", "b"], ["two", "a"], ["two", "b"]]
    # labels of a task that is not active are kept, columns of active tasks exist
    np.testing.assert_array_equal(clips["ambivalence.present"], [np.nan, np.nan, 1, 0])
    assert clips["emotion.Anger"].isna().all()
    assert "personality.openness" not in clips


def test_defects_of_all_sources_are_kept(root: Path) -> None:
    absent = source(media="{name}.mp4")
    table = read_corpora(config(root, one=absent, two=absent), BUILTIN_TASKS)
    assert table.defects["corpus"].tolist() == ["one", "two"]


def test_active_tasks_win_over_built_in_ones_and_labels_are_checked(root: Path) -> None:
    yes_no = AMBIVALENCE.model_copy(update={"classes": ("no", "yes")})
    values = {"present": "yes", "absent": "no"}
    sources = {"one": source(labels={"ambivalence": {"column": "label", "values": values}})}
    clips = read_corpora(config(root, **sources), {"ambivalence": yes_no}).clips
    assert clips["ambivalence.yes"].tolist() == [1.0, 0.0]
    (root / "t.csv").write_text("name,absent,present\na,1,1\n", encoding="utf-8")
    sources = {"one": source(labels={"ambivalence": ["absent", "present"]})}
    with pytest.raises(CorpusError, match=r"t\.csv, row 2: the task takes one class, found absent = 1, present = 1"):
        read_corpora(config(root, **sources), BUILTIN_TASKS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"emotoin": EMOTIONS}}, r"one\.labels: no task is named 'emotoin'; did you mean 'emotion'"),
        ({"labels": {"stres": ["a"]}}, r"one\.labels: no task is named 'stres'; did you mean 'stress'"),
        ({"metrics": {"emotoin": ["uar"]}}, r"one\.metrics: no task is named 'emotoin'; did you mean 'emotion'"),
    ],
)
def test_unknown_tasks_are_errors(root: Path, changes: dict[str, Any], message: str) -> None:
    stress = TaskSpec(kind="regression", classes=("stress",), loss="mae", metrics=())
    with pytest.raises(CorpusError, match=message):
        read_corpora(config(root, one=source(**changes)), {"stress": stress})


def test_no_sources_is_an_error() -> None:
    with pytest.raises(CorpusError, match=r"declare at least one under \[corpora\.sources\]"):
        read_corpora(CorporaConfig(), BUILTIN_TASKS)


def test_trained_corpora_and_metrics(root: Path) -> None:
    corpora = config(
        root, one=source(), two=source(zero_shot=True, metrics={"emotion": ["uar"]}), m={"adapter": "meld"}
    )
    assert corpora.trained() == ("one", "m")
    assert corpora.metrics("two", "emotion", EMOTION) == ("uar",)
    assert corpora.metrics("two", "ambivalence", AMBIVALENCE) == AMBIVALENCE.metrics
    assert corpora.metrics("one", "emotion", EMOTION) == EMOTION.metrics
    assert corpora.metrics("m", "emotion", EMOTION) == ("macro_f1", "weighted_f1", "uar")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["corpora.sources.x.adapter=tabel"], "corpora.sources.x.adapter: 'tabel' is not known; did you mean 'table'?"),
        (
            ["corpora.sources.x.path='.'"],
            "corpora.sources.x.adapter is missing; known names are audformat, bah, fiv2, meld, mosei, table",
        ),
        (
            ["corpora.sources.x={adapter='table', id='a', files={dev='b'}, txt='c'}"],
            "corpora.sources.x.txt is not a setting; did you mean 'text'?",
        ),
        (["corpora.sources.x={adapter='meld', txt='c'}"], "corpora.sources.x.txt is not a setting; known names are"),
        (["corpora.sources.'a/b'={adapter='meld'}"], "corpora.sources.a/b: String should match pattern"),
        (
            ["corpora.build=dmeo"],
            "corpora.build: Input should be 'none', 'demo', 'demo-frames' or 'demo-frames-faces' (found 'dmeo')",
        ),
        (
            ["corpora.sources.x={adapter='table', id='a', files={dev='b'}, labels={emotion={colum='c', scale=[0,1]}}}"],
            "corpora.sources.x.labels.emotion.colum is not a setting; did you mean 'column'?",
        ),
    ],
)
def test_configuration_errors_read_well(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(Run, None, settings)
    assert str(error.value).startswith(f"configuration: {message}")


def test_prepare_builds_the_demo_only_where_it_is_asked_for_and_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []
    importlib.import_module("corpora.demo.frames")  # before the stand-in, of which it wants more
    demo = ModuleType("corpora.demo.build")
    demo.build_demo, demo.MARKER = built.append, "demo.json"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "corpora.demo.build", demo)
    root = tmp_path / "demo"
    values: dict[str, Any] = {"root": str(root), "sources": {"m": {"adapter": "meld", "path": "meld"}}}
    prepare(CorporaConfig.model_validate(values))
    assert built == []
    values["build"] = "demo"
    prepare(CorporaConfig.model_validate(values))
    assert built == [root]
    (root / "meld").mkdir(parents=True)
    (root / "demo.json").write_text('{"complete": false}', encoding="utf-8")
    prepare(CorporaConfig.model_validate(values))
    assert built == [root, root]
    (root / "demo.json").write_text('{"complete": true}', encoding="utf-8")
    prepare(CorporaConfig.model_validate(values))
    assert built == [root, root]


def test_generated_corpora_are_known_by_the_marker_above_their_media(tmp_path: Path) -> None:
    demo, own = tmp_path / "demo", tmp_path / "own"
    for folder in (demo / "meld" / "clips", own / "clips"):
        folder.mkdir(parents=True)
    for folder in (demo, own):
        (folder / "labels.csv").touch()
    marker = {"version": 3, "seed": 0, "clips_per_corpus": {"meld": 15}, "shuffle_labels": False, "complete": True}
    (demo / "demo.json").write_text(json.dumps(marker), encoding="utf-8")
    (own / "demo.json").write_text('{"scenes": 3}', encoding="utf-8")  # a file of that name, but of another kind
    table = {"adapter": "table", "files": "labels.csv", "id": "id"}
    sources = {
        "official": {"adapter": "meld", "path": "demo/meld"}, "mine": {**table, "path": "own"},
        "copied": {**table, "path": "own"}, "beside": {**table, "path": "demo"},
        "memory": {**table, "path": "demo", "files": "in memory"},  # as tables that no file holds are declared
    }  # fmt: skip
    values = config(tmp_path, **sources)
    # `build` is not set: what lies on the disk says it
    assert generated_corpora(values) == ("official", "beside")
    media = {
        "official": demo / "meld" / "clips", "mine": own / "clips", "copied": demo / "meld" / "clips",
        "beside": own / "clips",
    }  # fmt: skip
    clips = pd.DataFrame([(name, str(folder / "a.mp4")) for name, folder in media.items()], columns=["corpus", "media"])
    assert generated_corpora(values, clips) == ("official", "copied")
    mixed = pd.concat([clips, clips.assign(media=str(own / "clips" / "b.mp4"))])
    assert generated_corpora(values, mixed) == ()
    assert generated_corpora(values, clips.assign(media=None)) == ("official", "beside")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not here")
def test_real_tables() -> None:
    columns = {"adapter": "table", "id": "video_name", "text": "text", "description": "text_llm"}
    sources = {
        "mosei": columns | {
            "files": {"train": "mosei_train.csv", "dev": "mosei_dev.csv"},
            "group": {"column": "video_name", "pattern": "^(.+)_[0-9.]+_[0-9.]+$"},
            "labels": {"emotion": EMOTIONS},
        },
        "fiv2": columns | {
            "files": {"train": "fiv2_train.csv", "dev": "fiv2_dev.csv"},
            "group": {"column": "video_name", "pattern": r"^(.+)\.[^.]*$"},
            "labels": {"personality": list(BUILTIN_TASKS["personality"].classes)},
        },
        "meld": {"adapter": "meld"},
    }  # fmt: skip
    table = read_corpora(config(REAL, **sources), BUILTIN_TASKS)
    assert table.clips.groupby(["corpus", "split"]).size().to_dict() == {
        ("mosei", "train"): 1174, ("mosei", "dev"): 226, ("fiv2", "train"): 1612, ("fiv2", "dev"): 388,
        ("meld", "train"): 9989, ("meld", "dev"): 1109,
    }  # fmt: skip
    groups = table.clips.groupby("corpus")["group"].nunique()
    assert groups["meld"] == 1038 + 114
    assert table.clips.groupby(["corpus", "group"])["split"].nunique().max() == 1
    assert table.clips["text"].notna().all()
    notes = table.defects["reason"].tolist()  # 41.04 s is the published files' one span above 40 s
    assert [note.split(";")[0] for note in notes] == ["StartTime to EndTime is longer than 40 s"]
