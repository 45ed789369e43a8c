"""Further views of a modality: a run with them from texts to predictions, in a bundle, exported, and left out."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from accelerate import Accelerator
from rich.console import Console

from encoders.extraction.read import encoder_specs
from mmpsr.config import ConfigError, load_config
from mmpsr.export import export_onnx
from training.bundle.collect import vector_widths
from training.config import RunConfig
from training.data.selection import active_features
from training.evaluation.evaluate import EvaluationOptions, evaluate
from training.pipeline import run_training
from training.predict.predictor import Predictor
from training.runs.trained import TrainedModel
from training.runs.verify import verify_run

MODALITIES = ("text", "text.lexica", "behavior.lexica")
ENCODERS = """[features.encoders]
text = "tests.support.fake_encoders:Obedient"
behavior = "tests.support.fake_encoders:Obedient"
"text.lexica" = "lexica"
"behavior.lexica" = "lexica"
"""
SAID = ("I really love it!", "That is not good at all.", "Well.", "Is it a bad day? I am sad.", "3 ...", "")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    number = np.arange(48)
    table = pd.DataFrame({"id": [f"clip{each}" for each in number], "group": number // 2})
    table["part"] = np.array(["train", "train", "dev", "test"])[number // 2 % 4]
    table["said"] = np.array(SAID)[number % 6]
    table["seen"] = np.array(["A broad smile.", "An angry frown!", ""])[number % 3]
    table["mood"] = np.array(["Happiness", "Anger", "Neutral"])[number % 3]
    table.to_csv(folder / "own.csv", index=False)
    (folder / "views.toml").write_text(
        f"""
[corpora]
root = "{folder}"
[corpora.sources.own]
adapter = "table"
files = "own.csv"
id = "id"
text = "said"
description = "seen"
group = "group"
split = "part"
labels.emotion.column = "mood"
[data]
modalities = {json.dumps(MODALITIES[::-1])}
[tasks]
active = ["emotion"]
[model]
hidden_width = 8
head_width = 8
num_heads = 2
linear_path = {{ emotion = "trained" }}
[training]
num_epochs = 2
modality_dropout = 0.3
[features]
store = "{folder}/store"
num_workers = 1
{ENCODERS}
[output]
directory = "{folder}/runs"
""",
        encoding="utf-8",
    )
    config = load_config(RunConfig, folder / "views.toml")
    return run_training(config, "views", False, Accelerator(cpu=True), Console(file=io.StringIO()))


def clips(run: Path) -> pd.DataFrame:
    table = pd.read_csv(run.parents[2] / "own.csv", keep_default_na=False).astype("string")
    table = table[table["part"].eq("test")].rename(columns={"id": "clip_id", "said": "text", "seen": "description"})
    return table[["clip_id", "text", "description"]].assign(media=pd.NA).replace("", pd.NA).reset_index(drop=True)


@pytest.mark.slow
def test_from_texts_to_predictions(run: Path, tmp_path: Path) -> None:
    trained = TrainedModel.read(run)
    assert trained.modalities == MODALITIES  # a base first, then its views, whatever order they were asked for in
    assert verify_run(run) == []
    stored = pd.read_parquet(run / "predictions.parquet").set_index("clip_id")
    wanted = clips(run)
    stored = stored.loc[wanted["clip_id"]]
    present = stored[[f"present.{name}" for name in MODALITIES]].to_numpy()
    words = wanted["text"].fillna("").str.contains("[a-z]").to_numpy()
    np.testing.assert_array_equal(present[:, 1], words)  # "3 ..." has letters for one encoder, no words for the other
    np.testing.assert_array_equal(present[:, 2], wanted["description"].notna())
    columns = [name for name in stored if name.startswith("predicted.")]
    expected = stored[columns].to_numpy()

    with Predictor.from_run(run) as predictor:
        results = predictor.predict(wanted)
        explanations = predictor.explain(results)
    found = results.predicted["emotion"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    frame = results.to_frame()
    assert {f"novelty.{name}" for name in MODALITIES} <= set(frame)
    silent = next(clip for clip, text in zip(results.clips, wanted["text"], strict=True) if pd.isna(text))
    assert silent.absent["text.lexica"] == "no transcript"
    assert all(list(each.tasks["emotion"].shapley) == list(MODALITIES) for each in explanations)
    added = [each.tasks["emotion"].shapley["text.lexica"] for each in explanations]
    assert any(abs(value) > 1e-6 for why in added for value in why.values())

    Predictor.from_run(run).save_pretrained(tmp_path / "bundle")
    with Predictor.from_pretrained(tmp_path / "bundle", allow_custom_encoders=True) as predictor:
        assert predictor.modalities == MODALITIES
        np.testing.assert_allclose(predictor.predict(wanted).predicted["emotion"], expected, atol=1e-5)


@pytest.mark.slow
def test_exported_with_a_view(run: Path, tmp_path: Path) -> None:
    trained = TrainedModel.read(run)
    assert export_onnx(trained.model, tmp_path / "model.onnx", trained.calibration, trained.fingerprints) < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    inputs = {each.name: each.shape[1] for each in session.get_inputs()}
    assert inputs == {**vector_widths(trained), "presence": 3}
    description = json.loads(session.get_modelmeta().custom_metadata_map["mmpsr"])
    assert list(description["modalities"]) == list(MODALITIES)


@pytest.mark.slow
def test_a_base_is_left_out_with_its_views(run: Path) -> None:
    rows = evaluate(run, EvaluationOptions(subsets=True))["subsets"]
    found = {row.part for row in rows}
    # of behavior the model has a view alone, which stands for itself
    assert found == {
        "text+text.lexica+behavior.lexica", "text+text.lexica", "text+behavior.lexica", "text", "behavior.lexica",
    }  # fmt: skip


@pytest.mark.slow
def test_vectors_of_a_view_lie_with_those_of_its_modality(run: Path) -> None:
    config = load_config(RunConfig, run.parents[2] / "views.toml")
    specs = encoder_specs(active_features(config.features, MODALITIES))
    store = run.parents[2] / "store" / "own"
    assert {path.parent.name for path in store.glob("*/*/")} == {"text", "behavior"}
    alone = encoder_specs(config.features.model_copy(update={"encoders": {"text": "lexica"}}))["text"]
    assert (alone.key, alone.base) == (specs["text.lexica"].key, "text")
    assert (store / "text" / alone.key).is_dir()
    about = json.loads((store / "text" / alone.key / "encoder.json").read_text())
    assert about["modality"] == "text"
    with pytest.raises(ConfigError, match=r"'text' and 'text.again' are both 'lexica', the same vectors twice"):
        encoder_specs(config.features.model_copy(update={"encoders": {"text": "lexica", "text.again": "lexica"}}))
