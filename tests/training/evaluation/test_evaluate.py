"""`evaluate` and what it is made of, on a run that is trained here and corpora that it has not seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from corpora.clips import label_columns
from mmpsr.batch import Batch
from mmpsr.config import ConfigError
from mmpsr.metrics.definitions import evaluate as metrics_of
from mmpsr.probabilities import probabilities
from tests.support import fresh_run
from tests.support import joined as small
from training.commands.console import app
from training.evaluation.breakdowns import masked, modality_subsets
from training.evaluation.evaluate import EvaluationOptions
from training.evaluation.evaluate import evaluate as evaluation
from training.runs.directory import RunError
from training.runs.stored import RunPredictions
from training.runs.trained import TrainedModel
from training.scoring.rows import plain


def evaluate(path: Path, options: EvaluationOptions) -> dict[str, Any]:
    """The document as `--json` prints it."""
    return plain(evaluation(path, options))


OWN = {"train": 30, "dev": 16, "test": 12}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with fresh_run.quickly():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh")
    own = fresh_run.rows("own", OWN)
    own.loc[own.index[-3:], "sound"] = None  # the last three of test are silent, the last says nothing either
    own.loc[own.index[-1], "said"] = None
    fresh_run.write(folder, "own", own)
    fresh_run.write(folder, "new", fresh_run.rows("new", {"train": 6, "test": 20}, seed=1))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return fresh_run.train(folder)


def corpora(folder: Path, **sources: dict[str, Any]) -> Path:
    """A TOML file of corpora alone."""
    lines = ["[corpora]", f"root = {json.dumps(str(folder))}"]
    for name, source in sources.items():
        lines += [f"[corpora.sources.{name}]"]
        lines += [f"{key} = {_inline(value)}" for key, value in source.items()]
    path = folder / f"{'-'.join(sources)}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def values(document: dict[str, Any], corpus: str) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in document["figures"] if row["corpus"] == corpus}


def test_the_runs_own_corpora_predicted_anew_give_its_results(folder: Path, run: Path) -> None:
    path = corpora(folder, own=fresh_run.source("own"))
    for split in ("dev", "test"):  # dev without the calibration that was fitted on it
        results = [row for row in json.loads((run / "results.json").read_text()) if row["split"] == split]
        document = evaluate(run, EvaluationOptions(split=split, config=path))
        for row, expected in zip(document["figures"], results, strict=True):
            assert row["value"] == pytest.approx(expected["model"], abs=1e-6)
            assert row["chance"] == pytest.approx(expected["chance"], abs=1e-6)
            assert "linear" not in row
        errors = [row["error"] for row in evaluate(run, EvaluationOptions(split=split))["calibration"]]
        assert [row["error"] for row in document["calibration"]] == pytest.approx(errors)


def test_a_corpus_whose_labels_are_mapped(folder: Path, run: Path) -> None:
    labels = {
        "emotion": {"column": "mood", "values": {"Anger": "Anger", "Happiness": "Surprise", "Neutral": "Neutral"}}
    }
    path = corpora(folder, mapped=fresh_run.source("new", labels=labels))
    document = evaluate(run, EvaluationOptions(config=path))
    assert document["config"] == str(path)
    confusion = document["confusion"][0]
    actual = dict(zip(confusion["classes"], np.sum(confusion["counts"], axis=1), strict=True))
    moods = pd.read_csv(folder / "new.csv").query("part == 'test'")["mood"].value_counts()
    assert actual["Surprise"] == moods["Happiness"]
    assert actual["Happiness"] == actual["Fear"] == 0  # classes that the corpus lacks are absent
    assert document["leakage"] == {"checked": True, "findings": [], "effects": []}
    assert values(document, "mapped").keys() == {"macro_f1", "uar"}


def test_classes_that_are_not_annotated_are_left_out(folder: Path, run: Path) -> None:
    labels = {"emotion": {"Anger": "angry", "Happiness": "happy"}}
    metrics = ("multilabel_macro_f1", "multilabel_weighted_accuracy")
    some = fresh_run.source("new", labels=labels, metrics={"emotion": list(metrics)})
    whole = fresh_run.source("new", metrics={"emotion": list(metrics)})
    document = evaluate(run, EvaluationOptions(config=corpora(folder, some=some, whole=whole)))
    by_class = {
        name: {row["metric"] + row["class"]: row["value"] for row in document["classes"] if row["corpus"] == name}
        for name in ("some", "whole")
    }
    assert set(by_class["some"]) == {metric + name for metric in metrics for name in ("Anger", "Happiness")}
    assert by_class["some"].items() <= by_class["whole"].items()  # each is decided as among all
    mean = np.mean([by_class["some"][metrics[0] + name] for name in ("Anger", "Happiness")])
    assert values(document, "some")[metrics[0]] == pytest.approx(mean)


def test_other_features_are_refused(folder: Path, run: Path) -> None:
    path = corpora(folder, new=fresh_run.source("new"))
    with pytest.raises(RunError, match=r"new\.toml: text is minilm-\w+, but the run was trained on letters-\w+ "):
        evaluate(run, EvaluationOptions(config=path, settings=['features.encoders.text="minilm"']))


def test_what_cannot_be_evaluated(folder: Path, run: Path) -> None:
    path = corpora(folder, new=fresh_run.source("new"))
    with pytest.raises(RunError, match=r"no clip of split 'dev' has a label of emotion; labelled are .*6 train of new"):
        evaluate(run, EvaluationOptions(split="dev", config=path))
    with pytest.raises(ConfigError, match="--corpus: no corpus is named 'knew'; did you mean 'new'"):
        evaluate(run, EvaluationOptions(config=path, corpora=("knew",)))
    with pytest.raises(ConfigError, match="--corpus: the run has no corpus 'owm'; did you mean 'own'"):
        evaluate(run, EvaluationOptions(corpora=("owm",)))
    with pytest.raises(ConfigError, match="--set changes the file of --config"):
        evaluate(run, EvaluationOptions(settings=("training.lr=1",)))
    assert values(evaluate(run, EvaluationOptions(split="train", config=path)), "new")


def test_some_corpora_of_several(folder: Path, run: Path) -> None:
    path = corpora(folder, new=fresh_run.source("new"), again=fresh_run.source("new"))
    document = evaluate(run, EvaluationOptions(config=path, corpora=("again",)))
    assert {row["corpus"] for row in document["figures"]} == {"again"}
    assert {row["corpus"] for row in evaluate(run, EvaluationOptions(corpora=("own",)))["figures"]} == {"own"}


def test_subsets(run: Path) -> None:
    rows = evaluate(run, EvaluationOptions(subsets=True))["subsets"]
    figures = {row["metric"]: row for row in evaluate(run, EvaluationOptions())["figures"]}
    by_place = {(row["modalities"], row["metric"]): row for row in rows}
    assert len(rows) == len(by_place) == 6  # three subsets of two modalities, two metrics
    for metric, figure in figures.items():  # all modalities, but for the clip that has none
        assert by_place["audio+text", metric]["num_clips"] == figure["num_clips"] - 1 == 11
    counts = {name: (by_place[name, "uar"]["num_clips"], by_place[name, "uar"]["num_without"]) for name, _ in by_place}
    assert counts == {"audio+text": (11, 1), "audio": (9, 3), "text": (11, 1)}  # three are silent, one wordless


def test_subsets_over_seeds(folder: Path, run: Path) -> None:
    paths = [str(run), str(fresh_run.train(folder, seed=1))]
    command = ["evaluate", *paths, "--subsets"]
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    rows = {(row["modalities"], row["metric"]): row for row in document["subsets_over_seeds"]}
    assert len(rows) == len(document["subsets_over_seeds"]) == 6
    for index, found in enumerate(document["evaluations"]):
        for row in found["subsets"]:
            assert rows[row["modalities"], row["metric"]]["values"][index] == row["value"]
    lines = CliRunner().invoke(app, command).stdout.splitlines()
    title = next(line for line in lines if "own test emotion" in line)
    assert [cell.strip() for cell in title.split("┃")[1:-1]] == ["own test emotion", "clips", "MF1", "UAR"]
    shown = [line for line in lines[lines.index(title) :] if line.startswith("│")]
    assert [line.split("│")[1].strip() for line in shown] == ["audio+text", "audio", "text"]
    row = rows["audio", "uar"]
    mean, deviation = np.mean(row["values"]), np.std(row["values"], ddof=1)
    assert shown[1].split("│")[2].strip() == str(row["num_clips"]) == "9"
    assert shown[1].split("│")[4].strip() == f"{mean:.2f} ± {deviation:.2f}"


def test_clips_without_anything_are_named(run: Path) -> None:
    finding = next(
        each for each in evaluate(run, EvaluationOptions())["leakage"]["findings"] if each["kind"] == "blank"
    )
    assert finding["message"].startswith("1 of 12 test clips of own with a label of emotion have no modality at all")
    assert (finding["num_seen"], finding["examples"]) == (1, ["owntest11"])


def test_a_subset_is_what_the_model_says_of_clips_without_the_rest(run: Path) -> None:
    found = next(
        row for row in evaluate(run, EvaluationOptions(subsets=True))["subsets"]
        if (row["modalities"], row["metric"]) == ("audio", "macro_f1")
    )  # fmt: skip
    trained, stored = TrainedModel.read(run), RunPredictions.read(run)
    root = Path(trained.config.corpora.root)
    ids = pd.read_csv(root / "own.csv").query("part == 'test'")["id"].iloc[:9]
    sounds = torch.tensor(np.stack([np.load(root / f"sounds/{each}.npy") for each in ids]))
    presence = torch.tensor([[True, False]]).expand(9, 2)
    with torch.no_grad():
        predicted = trained.model(Batch({"audio": sounds, "text": torch.full((9, 1), 99.0)}, presence)).of("emotion")
    spec = stored.tasks["emotion"]
    given = trained.calibration.apply("emotion", probabilities(predicted, spec).double().numpy())
    targets = stored.table.set_index("clip_id").loc[ids, label_columns("emotion", spec)].to_numpy(float)
    expected = metrics_of(targets, given, spec, ("macro_f1",), trained.calibration.thresholds("emotion"))
    assert found["value"] == pytest.approx(expected["macro_f1"], abs=1e-4)


def test_there_are_fifteen_subsets_of_four() -> None:
    found = modality_subsets(("video", "audio", "text", "behavior"))
    assert len(found) == len({frozenset(each) for each in found}) == 15
    assert found[0] == ("video", "audio", "text", "behavior")


def test_masks_never_add_what_a_clip_lacks() -> None:
    clips = small.joined()
    audio = masked(clips, ("audio",)).presence
    assert not audio[:, 0].any()
    assert torch.equal(audio[:, 1], clips.presence[:, 1])


def test_frames_are_averaged_to_videos(run: Path) -> None:
    document = evaluate(run, EvaluationOptions(split="dev", aggregate="group"))
    assert document["whole"] == "group"
    row = next(row for row in document["aggregated"] if row["metric"] == "uar")
    num_groups = RunPredictions.read(run).table.query("split == 'dev'")["group"].nunique()
    assert (row["num_clips"], row["num_wholes"]) == (16, num_groups)
