"""The command line: one clear error for each mistake, and configurations that load."""

from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from corpora.clips import CorpusError
from encoders.config import FeaturesConfig
from mmpsr.config import ConfigError, load_config
from tests.support import joined as small
from training.commands.train import extract, train
from training.config import RunConfig
from training.data.joined import require_trainable
from training.data.selection import active_features
from training.launch import requested_processes
from training.published_config import load_any_config

REPOSITORY = Path(__file__).parents[3]
CONFIGS = sorted(path for path in (REPOSITORY / "configs").glob("*.toml") if path.stem != "zero_shot")

HEADER = "id,text,split,happy,sad"
ROWS = ["a,good,train,1,0", "b,bad,dev,0,1", "c,fine,test,1,0"]
CLASSES = dict.fromkeys(("Anger", "Disgust", "Fear", "Surprise"), "happy") | {"Happiness": "happy", "Sadness": "sad"}


@pytest.fixture
def emotion_run(table_run: Path) -> None:
    """The working folder's `run.toml` is of emotion, in a column for each class."""
    path = table_run / "run.toml"
    labels = "".join(f'labels.emotion.{name} = "{column}"\n' for name, column in CLASSES.items())
    text = path.read_text(encoding="utf-8").replace('labels.ambivalence = { column = "label" }\n', labels)
    path.write_text(text.replace("ambivalence", "emotion"), encoding="utf-8")


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_shipped_configuration_loads_and_resolves(path: Path) -> None:
    config, _ = load_any_config(path)
    tasks = config.tasks.resolve()
    assert tasks
    assert config.corpora.trained()
    assert set(active_features(config.features, config.data.modalities).encoders) == set(config.data.modalities)


def run(*arguments: str, rows: list[str] = ROWS, header: str = HEADER) -> str:
    """What a failing command prints as its error."""
    Path("mine.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, ["--config", "run.toml", *arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_a_mistyped_key_names_the_right_one(emotion_run: None) -> None:
    assert "training.lrr is not a setting; did you mean 'lr'?" in run("--set", "training.lrr=1")


def test_an_unknown_task_names_the_right_one(emotion_run: None) -> None:
    found = run("--set", 'tasks.active=["emotoin"]')
    assert "no task is named 'emotoin'; did you mean 'emotion'?" in found


def test_a_missing_column_is_named_with_its_file(emotion_run: None) -> None:
    found = run(header="id,text,split,happpy,sad")
    assert "mine.csv" in found
    assert "'happy'" in found
    assert "did you mean 'happpy'?" in found


def test_a_label_out_of_range_is_named_with_its_row(emotion_run: None) -> None:
    found = run(rows=["a,good,train,1,0", "b,bad,dev,0,7"])
    assert "mine.csv, row 3" in found
    assert "7" in found
    assert "'sad'" in found or "sad" in found


def test_an_empty_split_is_named_with_its_corpus(emotion_run: None) -> None:
    found = run("--set", 'corpora.sources.mine.splits=["train", "dev"]', rows=[ROWS[0], ROWS[2]])
    assert "corpus 'mine' has no clip in split 'dev'" in found


def test_an_unknown_metric_names_the_right_one(emotion_run: None) -> None:
    found = run("--set", 'corpora.sources.mine.metrics.emotion=["macro_f"]')
    assert "no metric is named 'macro_f'; did you mean 'macro_f1'?" in found


def test_a_modality_without_an_encoder_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"names 'audio', which has no encoder; add features\.encoders\.audio"):
        active_features(FeaturesConfig(encoders={"text": "minilm"}), ["text", "audio"])


def test_an_unknown_modality_names_the_right_one() -> None:
    with pytest.raises(ConfigError, match="no modality is named 'behaviour'; did you mean 'behavior'"):
        load_config(RunConfig, None, ['data.modalities=["behaviour"]'])


@pytest.mark.parametrize("command", [train, extract])
def test_a_missing_file_says_so(command: object) -> None:
    app = typer.Typer()
    app.command()(command)  # type: ignore[arg-type]
    result = CliRunner().invoke(app, ["--config", "nowhere.toml"])
    assert result.exit_code == 2
    assert "nowhere.toml: there is no such configuration file" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("accelerate launch training/run.py", 1),
        ("accelerate launch --cpu --num_processes 3 training/run.py", 3),
        ("accelerate launch --num-processes=2 --cpu training/run.py", 2),
        ("accelerate launch --num_processes 2 training/run.py", 1),
        ("bash --cpu --num_processes 2", 1),
        ("accelerate launch --config_file configs/accelerate/cpu.yaml training/run.py", 1),
        ("accelerate launch --config_file=configs/accelerate/cpu.yaml --num_processes 2 training/run.py", 2),
        ("accelerate launch --config-file configs/accelerate/slurm.yaml training/run.py", 1),
        ("accelerate launch training/run.py --cpu --num_processes 2", 1),
    ],
)
def test_processes_asked_of_the_launcher(command: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert requested_processes(command.split()) == expected


def test_corpora_that_cannot_be_trained_on_are_refused() -> None:
    clips, corpora = small.joined(), small.config().corpora
    require_trainable(clips, corpora)
    for column, value, message in (
        ("split", "train", "corpus 'mosei' has no clip in split 'dev'.*zero_shot = true"),
        ("split", "test", "corpus 'mosei' has no clip in split 'train'"),
    ):
        broken = small.joined()
        broken.clips.loc[broken.clips["corpus"].eq("mosei"), column] = value
        with pytest.raises(CorpusError, match=message):
            require_trainable(broken, corpora)
    unlabeled = small.joined()
    unlabeled.labels["emotion"][:] = float("nan")
    with pytest.raises(CorpusError, match=r"no train clip of .* has a label for task 'emotion'"):
        require_trainable(unlabeled, corpora)
    mute = small.joined()
    mute.presence[:, 1] = False
    with pytest.raises(CorpusError) as error:
        require_trainable(mute, corpora, ledger="runs/ledger.csv")
    assert str(error.value) == (
        "none of the 90 training clips has a vector of audio (runs/ledger.csv says why); mend that, or train without: "
        """--set 'data.modalities=["text"]'"""
    )
    everything = corpora.model_copy(
        update={
            "sources": {name: source.model_copy(update={"zero_shot": True}) for name, source in corpora.sources.items()}
        }
    )
    with pytest.raises(CorpusError, match="every corpus is zero_shot"):
        require_trainable(clips, everything)


def test_a_corpus_without_labels_needs_no_dev_split() -> None:
    corpora = small.config().corpora
    clips = small.joined()
    extra = clips.clips["corpus"].eq("fiv2").to_numpy(dtype=bool)
    clips.labels["personality"] = clips.labels["emotion"][:, :5].clone()  # labelled elsewhere
    clips.clips.loc[extra, "split"] = "train"
    require_trainable(clips, corpora)
    clips.labels["personality"][int(extra.argmax()), 2] = 0.5  # partly labelled
    with pytest.raises(CorpusError, match="corpus 'fiv2' has no clip in split 'dev'"):
        require_trainable(clips, corpora)
    clips = small.joined()
    clips.labels["personality"] = clips.labels["emotion"][:, :5].clone()
    clips.clips.loc[extra, "split"] = "test"
    with pytest.raises(CorpusError, match="corpus 'fiv2' has no clip in split 'train'"):
        require_trainable(clips, corpora)


def test_rows_and_batches_are_cut_as_asked() -> None:
    clips = small.joined()
    rows = clips.rows(["fiv2"], "dev")
    assert pd.Series(clips.clips.iloc[rows.numpy()]["corpus"]).unique().tolist() == ["fiv2"]
    batch = clips.batch(rows)
    assert len(batch) == 10
    assert batch.labeled("personality").all()
    assert not batch.labeled("emotion").any()


def test_the_end_of_training_says_what_comes_next(emotion_run: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from training import pipeline

    monkeypatch.setattr(pipeline, "run_training", lambda *_, **__: Path("runs/run/1"))
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, ["--config", "run.toml"])
    assert result.exit_code == 0, result.output
    assert (
        "next: mmpsr evaluate runs/run/1, mmpsr report runs/run/1, mmpsr predict runs/run/1 RECORDING" in result.stderr
    )
    assert "mmpsr bundle runs/run/1 -o FOLDER" in result.stderr
    assert "next:" not in result.stdout
