"""The published configuration and its tables, read as they are; all names and words are invented."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from corpora.clips import CorpusError, label_columns
from corpora.registry import read_corpora
from mmpsr.config import ConfigError
from mmpsr.tasks import AMBIVALENCE, EMOTION, PERSONALITY
from training.commands.train import train
from training.config import RunConfig
from training.published_config import is_published, load_run_config

OTHERS = ("bah_frames", "zero_shot")  # of models in time, and of language models
CONFIGS = sorted(path for path in (Path(__file__).parents[2] / "configs").glob("*.toml") if path.stem not in OTHERS)
PATHS = """
csv_path = "{base_dir}/{split}_full_with_description.csv"
video_dir = "{base_dir}/video/{split}/"
audio_dir = "{base_dir}/audio/{split}/"
"""
DATASETS = "".join(
    f'[datasets.{name}]\nbase_dir = "{folder}"\n{PATHS}'
    for name, folder in (("cmu_mosei", "MOSEI"), ("fiv2", "FIv2/"), ("bah", "BAH"))
)
SETTINGS = """
[general]
use_telegram = true
[dataloader]
num_workers = 0
shuffle = true
prepare_only = false
text_description_column = "seen"
[train.general]
random_seed = 7
subset_size = 0
batch_size = 24
num_epochs = 60
max_patience = 12
search_type = "greedy"
early_stop_on = "test"
device = "cuda"
save_feature_path = "./features/"
[train.model]
model_name = "MultiModalFusionModel_v2"
per_activation = "sigmoid"
hidden_dim = 512
num_transformer_heads = 4
out_features = 128
dropout = 0.15
[train.losses]
weight_emotion = 1.0
weight_ah = 2
emotion_loss_type = "BCE"
pers_loss_type = "mse"
flag_emo_weight = false
ssl_confidence_threshold_emo_ah = 0.6
ssl_confidence_threshold_pt = 0.55
alpha_sup = 1.25
alpha_ssl = 1.5
w_lr_sup = 0.01
w_lr_ssl = 0.006
lambda_ssl = 0.3
w_floor = 0.01
[train.optimizer]
optimizer = "adamw"
lr = 3e-4
weight_decay = 0.02
momentum = 0.9
[train.scheduler]
scheduler_type = "cosine"
[embeddings]
average_features = "mean_std"
audio_extractor = "off"
text_extractor = "some/encoder"
[ablation]
use_graph = false
use_attention = false
use_guidebank = false
use_task_projectors = false
disabled_modalities = ["face"]
active_tasks = ["ah", "emotion"]
"""
ROWS = {
    "MOSEI": (
        "video_name,text,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other,seen",
        {
            "train": ['v_1_-0.5_2.25,"so, well",0.25,0.75,0,0,0,0,0,0,a smile', "v_1_3.0_4.0,b,1,0,0,0,0,0,0,0,"],
            "dev": ["w_0_1.5,c,0,0,0,1,0,0,0,0,still"],
        },
    ),
    "FIv2": (
        "video_name,text,openness,conscientiousness,extraversion,agreeableness,non-neuroticism,seen",
        {
            split: [f"-x{split}.y.00{row},d,0.1,0.2,0.3,0.4,0.5,e" for row in (0, 1)]
            for split in ("train", "dev", "test")
        },
    ),
    "BAH": (
        "video_name,text,absence_full,presence_full,seen",
        {
            "train": ["90_Question_3_2020-01-01 10-00_Video,f,0,1,g", "90_Question_4_2020-01-01,f,1,0,g"],
            "dev": ["other,h,1.0,0.0,i"],
        },
    ),
}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    for folder, (header, rows) in ROWS.items():
        for split, lines in rows.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            path = tmp_path / folder / f"{split}_full_with_description.csv"
            path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    for file in ("MOSEI/video/train/v_1_3.0_4.0.mp4", "MOSEI/audio/train/v_1_3.0_4.0.wav", "BAH/video/dev/other.MOV"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    return write(tmp_path, DATASETS + SETTINGS)


def write(folder: Path, text: str) -> Path:
    (folder / "config.toml").write_text(text, encoding="utf-8")
    return folder / "config.toml"


def test_its_tables_become_clips(published: Path) -> None:
    config, _ = load_run_config(published)
    table = read_corpora(config.corpora, {"emotion": EMOTION, "personality": PERSONALITY, "ambivalence": AMBIVALENCE})
    clips = table.clips.set_index(["corpus", "clip_id"])
    assert clips.groupby(["corpus", "split"], sort=False).size().to_dict() == {
        ("cmu_mosei", "train"): 2, ("cmu_mosei", "dev"): 1, ("fiv2", "train"): 2, ("fiv2", "dev"): 2,
        ("fiv2", "test"): 2, ("bah", "train"): 2, ("bah", "dev"): 1,
    }  # fmt: skip
    first, second = clips.loc[("cmu_mosei", "v_1_-0.5_2.25")], clips.loc[("cmu_mosei", "v_1_3.0_4.0")]
    assert (first["text"], first["description"], first["language"]) == ("so, well", "a smile", "en")
    assert first[label_columns("emotion", EMOTION)].tolist() == [0.25, 0.75, 0, 0, 0, 0, 0]
    assert first["group"] == second["group"] == "v_1"
    assert clips.loc[("cmu_mosei", "w_0_1.5"), "group"] == "w"
    root = published.parent
    assert second["media"] == str(root / "MOSEI/video/train/v_1_3.0_4.0.mp4")
    assert second["audio_media"] == str(root / "MOSEI/audio/train/v_1_3.0_4.0.wav")
    assert second[["description"]].isna().all()
    assert first[["media", "audio_media"]].isna().all()
    trait = clips.loc[("fiv2", "-xdev.y.001")]
    assert trait[label_columns("personality", PERSONALITY)].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert (trait["group"], trait["group_kind"]) == ("-xdev.y", "video")
    bah = clips.loc["bah"]
    assert bah["group"].tolist() == ["90", "90", "other"]
    assert set(bah["group_kind"]) == {"participant"}
    np.testing.assert_array_equal(bah[label_columns("ambivalence", AMBIVALENCE)], [[0, 1], [1, 0], [1, 0]])
    assert bah["language"].isna().all()
    assert bah["media"].tolist()[2] == str(root / "BAH/video/dev/other.MOV")


def test_settings_with_a_counterpart_are_carried_over(published: Path) -> None:
    config, _ = load_run_config(published)
    training, model, balancing = config.training, config.model, config.balancing
    assert (training.seed, training.batch_size, training.num_epochs, training.patience) == (7, 24, 60, 12)
    assert (training.optimizer, training.lr, training.weight_decay) == ("adamw", 3e-4, 0.02)
    assert training.scheduler == "none"
    assert (model.hidden_width, model.head_width, model.num_heads, model.dropout) == (512, 128, 4, 0.15)
    assert (model.graph, model.attention, model.guide_bank, model.task_projectors) == ("none", "none", False, False)
    assert (balancing.alpha_supervised, balancing.alpha_pseudo) == (1.25, 1.5)
    assert (balancing.rate_supervised, balancing.rate_pseudo) == (0.01, 0.006)
    assert (balancing.pseudo_weight, balancing.weight_floor) == (0.3, 0.01)
    assert config.data.modalities == ("text", "behavior")  # face is disabled, audio has no extractor
    tasks = config.tasks.resolve()
    assert list(tasks) == ["emotion", "ambivalence"]
    assert (tasks["emotion"].loss, tasks["emotion"].threshold) == ("binary_cross_entropy", 0.6)
    assert tasks["ambivalence"].threshold == 0.6
    assert config.tasks.specs["personality"] == {"loss": "mse", "threshold": 0.55}


def test_settings_without_a_counterpart_are_told_once_with_the_reason(published: Path) -> None:
    _, notes = load_run_config(published)
    assert notes[0] == f"{published} has the published form; of its settings these are not carried over:"
    assert sorted(notes[1:]) == sorted(
        f"  {note}"
        for note in (
            "general.use_telegram = True",
            "dataloader.num_workers = 0: features.num_workers counts the processes that encode",
            "train.general.search_type = 'greedy': one run is trained, with the values of this file",
            "train.general.early_stop_on = 'test': test never chooses; dev is used",
            "train.general.device = 'cuda': accelerate launch chooses the device",
            "train.general.save_feature_path = './features/': features.store is the folder of the features",
            "train.model.model_name = 'MultiModalFusionModel_v2': there is one model, that of the paper",
            "train.losses.weight_ah = 2",
            "train.optimizer.momentum = 0.9",
            "train.scheduler.scheduler_type = 'cosine': not available; training.scheduler stays as it is",
            "embeddings.text_extractor = 'some/encoder': the published encoders are not available; features.encoders "
            "names those that are used",
        )
    )


def test_what_means_the_same_is_not_told(published: Path) -> None:
    text = DATASETS + "[train.general]\nearly_stop_on = 'dev'\nsearch_type = 'none'\n[ablation]\nuse_graph = true\n"
    config, notes = load_run_config(write(published.parent, text), ["training.lr=0.5"])
    assert notes == []
    assert config.training.lr == 0.5
    assert config.model.graph == "ucgnn"
    assert config.tasks.active == ("emotion", "personality", "ambivalence")
    assert config.data.modalities == ("video", "audio", "text", "behavior")


def test_fractions_and_other_keys_of_a_corpus(published: Path) -> None:
    entry = '[datasets.fiv2]\nbase_dir = "FIv2"\n' + PATHS + "train_fraction = 0.5\ndev_fraction = 1.0\n"
    text = entry + 'test_fraction = 0.0\nwav_dir = "w"\n[dataloader]\ntext_description_column = "seen"\n'
    config, notes = load_run_config(write(published.parent, text))
    source = config.corpora.sources["fiv2"]
    assert source.shares == {"train": 0.5}  # type: ignore[union-attr]
    assert list(source.files) == ["train", "dev"]  # type: ignore[union-attr]
    assert notes[1:] == ["  datasets.fiv2.wav_dir = 'w'"]
    assert config.tasks.active == ("personality",)


@pytest.mark.parametrize("base", ["absent", r"E:\\CMU\\MOSEI", "brace{split"])
def test_tables_that_are_nowhere_are_the_usual_error(tmp_path: Path, base: str) -> None:
    config, _ = load_run_config(write(tmp_path, f'[datasets.fiv2]\nbase_dir = "{base}"\n{PATHS}'))
    with pytest.raises(CorpusError, match=r"there is no file .*train_full_with_description\.csv"):
        read_corpora(config.corpora, {"personality": PERSONALITY})


def test_absolute_paths_and_braces_are_kept(published: Path, tmp_path: Path) -> None:
    folder = published.parent / "a{b}"
    (published.parent / "FIv2").rename(folder)
    text = f'[datasets.fiv2]\nbase_dir = "{folder}"\n{PATHS}[dataloader]\ntext_description_column = "seen"\n'
    (folder / "video/train").mkdir(parents=True)
    (folder / "video/train/-xtrain.y.000.avi").touch()
    config, _ = load_run_config(write(tmp_path, text))
    clips = read_corpora(config.corpora, {"personality": PERSONALITY}).clips
    assert clips["media"].dropna().tolist() == [str(folder / "video/train/-xtrain.y.000.avi")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[datasets.fiv]\n", "datasets.fiv: no published corpus is named 'fiv'; did you mean 'fiv2'?"),
        ("[datasets]\nfiv2 = 1\n", "datasets.fiv2 is a value, not a section"),
        ('[datasets.fiv2]\nbase_dir = "a"\n', "datasets.fiv2.csv_path is missing"),
        ('[datasets.fiv2]\nbase_dir = 3\ncsv_path = "a"\n', "datasets.fiv2.base_dir: expected text, found 3"),
        (DATASETS + "[train.model]\nhidden_dim = 1\n", "in our words: model.hidden_width: Input should be greater"),
        (DATASETS + "train_fraction = 7\n", "in our words: corpora.sources.bah.shares.train: Input should be less"),
        (
            DATASETS + "[ablation]\nactive_tasks = ['ha']\n",
            "ablation.active_tasks: 'ha' is not known; known names",
        ),
        (DATASETS + "[ablation]\ndisabled_modalities = 3\n", "ablation.disabled_modalities: 3 is not known"),
        (DATASETS + "[ablation]\ndisabled_modalities = [[]]\n", "ablation.disabled_modalities: [] is not known"),
        (DATASETS + "[train]\nmodel = 3\nlosses = []\n", ""),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    if not message:  # a section that is a value is told like any other
        assert load_run_config(path)[1][1:] == ["  train.model = 3", "  train.losses = []"]
        return
    with pytest.raises(ConfigError) as error:
        load_run_config(path)
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_our_own_configurations_load_as_before(path: Path) -> None:
    tree: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    assert not is_published(tree)
    assert load_run_config(path, ["training.seed=3"]) == (
        RunConfig.model_validate({**tree, "training": {**tree.get("training", {}), "seed": 3}}),
        [],
    )


def test_the_command_line_takes_it_and_tells(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(published.parent)
    monkeypatch.setattr("training.pipeline.run_training", lambda config, *rest, **_: print(config.corpora.root))
    alone = SimpleNamespace(is_main_process=True)
    monkeypatch.setattr("training.runs.accelerator.create_accelerator", lambda *given: alone)
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, ["--config", "config.toml"])
    assert result.exit_code == 0, result.output
    assert "config.toml has the published form" in result.output
    assert "early_stop_on = 'test': test never chooses; dev is used" in result.output
    assert result.output.splitlines()[-1] == "."  # no machine's path
