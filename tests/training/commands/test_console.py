"""The command `mmpsr`: subcommands, exit statuses, and what goes to stdout."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from encoders.errors import ExtractionError
from encoders.maintenance import inspection, inventory
from mmpsr.config import ConfigError
from mmpsr.errors import Interrupted
from tests.properties.test_stored_before import STORED
from tests.support.starting import after_first_line, run_in_turn
from training import pipeline
from training import published_config as published
from training.data import load
from training.doctor import doctor
from training.runs import accelerator
from tuning.console import app

ROWS = ["a,one,train,present", "b,two,train,absent", "c,three,dev,present", "d,four,test,absent"]


@pytest.fixture
def place(table_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(doctor, "weak_dev", lambda *_: [])  # one clip of dev is too few for it, and enough here
    write(*ROWS)
    return table_run


def write(*rows: str) -> None:
    Path("mine.csv").write_text("\n".join(["id,text,split,label", *rows]) + "\n", encoding="utf-8")


def run(*arguments: str, status: int = 0) -> tuple[str, str]:
    """What `mmpsr doctor --config run.toml` with these arguments writes: stdout, and stderr after its first line."""
    result = CliRunner().invoke(app, ["doctor", "--config", "run.toml", *arguments])
    assert result.exit_code == status, result.output
    return result.stdout, after_first_line(result.stderr)


def test_tables_and_status_of_a_sound_configuration(place: Path) -> None:
    out, err = run()
    assert "mine (table, trained on)" in out
    assert out.endswith("No errors: training can begin.\nNo warnings.\n")
    assert err == ""


def test_warnings_do_not_stop_training(place: Path) -> None:
    write(*ROWS, ",no id,train,absent")
    out, _ = run()
    assert "1 warning: training goes without" in out


def test_errors_do(place: Path) -> None:
    write(*ROWS, "a,again,train,absent")
    out, _ = run(status=1)
    assert "duplicate_id" in out
    assert "1 error: training would be wrong" in out


def test_json_is_one_document(place: Path) -> None:
    write(*ROWS, "a,again,train,absent")
    out, err = run("--json", status=1)
    document = json.loads(out)
    assert [finding["kind"] for finding in document["findings"]] == ["duplicate_id"]
    assert document["config"] == "run.toml"
    assert err == ""
    assert json.loads(run("--json", "--set", 'corpora.sources.mine.splits=["test"]', status=1)[0])["verdict"]["errors"]


def test_what_is_printed_on_the_way_does_not_disturb_the_document(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = doctor.prepare

    def loud(config: object) -> None:
        print("building")
        prepare(config)  # type: ignore[arg-type]

    monkeypatch.setattr(doctor, "prepare", loud)
    out, err = run("--json")
    assert json.loads(out)["verdict"]["trainable"]
    assert err == "building"


def test_notes_on_the_configuration_do_not_either(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = published.load_any_config
    monkeypatch.setattr(published, "load_any_config", lambda *given: (load(*given)[0], ["[a] is not read", "b"]))
    out, err = run("--json")
    assert json.loads(out)["verdict"]["trainable"]
    assert err == "[a] is not read b"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("training.lrr=1", "error: run.toml: training.lrr is not a setting; did you mean 'lr'?"),
        ('tasks.active=["ambivalance"]', "error: tasks.active: no task is named 'ambivalance'; did you mean"),
    ],
)
def test_a_configuration_that_cannot_be_used(place: Path, settings: str, message: str) -> None:
    out, err = run("--json", "--set", settings, status=2)
    assert out == ""
    assert err.startswith(message)


def test_a_configuration_that_is_not_there(place: Path) -> None:
    Path("run.toml").unlink()
    assert "run.toml: there is no such configuration file" in run(status=2)[1]


def test_media_that_cannot_be_looked_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ExtractionError("no library for that")

    monkeypatch.setattr(inspection, "inspect_media", fail)
    run()
    assert run("--media", status=2)[1] == "error: no library for that"


def test_ctrl_c_ends_with_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspection, "inspect_media", stop)
    out, err = run("--media", "--json", status=130)
    assert out == ""
    assert err == "stopped; nothing was changed, and the same command begins again"


@pytest.mark.parametrize(
    ("name", "arguments", "called"),
    [
        ("train", ["--resume", "--set", "a.b=1"], ("run.toml", ["a.b=1"], True)),
        ("train", [], ("run.toml", [], False)),
        ("extract", ["--set", "a.b=1", "--set", "c.d=2"], ("run.toml", ["a.b=1", "c.d=2"], False)),
        ("extract", ["--retry-failed"], ("run.toml", [], True)),
    ],
)
def test_training_and_extraction_get_their_options(
    name: str, arguments: list[str], called: tuple[object, ...], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    done: list[object] = []
    resolved = published.load_any_config(Path("run.toml"))[0]
    monkeypatch.setattr(published, "load_any_config", lambda *given: read.extend(given) or (resolved, ["[a] ignored"]))
    monkeypatch.setattr(accelerator, "create_accelerator", lambda *_: SimpleNamespace(is_main_process=True))
    monkeypatch.setattr(pipeline, "run_training", lambda config, name, resume, *_, **__: done.append(resume))
    monkeypatch.setattr(load, "load_clips", lambda *_: SimpleNamespace(clips=None))
    monkeypatch.setattr(load, "extract_features", lambda _, features, *rest: done.append(features.retry_failed))
    result = CliRunner().invoke(app, [name, "--config", "run.toml", *arguments], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (0, "[a] ignored\n")
    assert (str(read[0]), list(read[1]), *done) == called  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            KeyboardInterrupt(),
            "stopped; what is complete is kept, and the same command continues (training with --resume)",
        ),
        (Interrupted("stopped after step 3; and so on"), "stopped after step 3; and so on"),
    ],
)
def test_training_that_is_stopped_says_so_on_stdout(
    error: BaseException, sentence: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "run_training", stop)
    monkeypatch.setattr(accelerator, "create_accelerator", lambda *_: SimpleNamespace(is_main_process=True))
    result = CliRunner().invoke(app, ["train", "--config", "run.toml"])
    assert (result.exit_code, result.stdout, result.stderr) == (130, f"{sentence}\n", "reading run.toml\n")


def test_an_error_of_training_keeps_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train", "extract"):
        result = CliRunner().invoke(app, [name, "--config", "nowhere.toml"])
        assert result.exit_code == 2
        assert "nowhere.toml: there is no such configuration file" in " ".join(result.output.split())


def test_the_subcommands_and_the_version() -> None:
    assert {found.name or found.callback.__name__ for found in app.registered_commands} == {  # type: ignore[union-attr]
        "train", "extract", "doctor", "features", "encoders", "evaluate", "compare", "verify", "bundle", "predict",
        "export", "app", "adapt", "zero-shot", "measure",
        "tune", "study", "transfer", "trunks", "report", "init", "settings",
    }  # fmt: skip
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output.strip()) == (0, importlib.metadata.version("mmpsr"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("doctor", {"--config", "--set", "--media", "--json", "--executor"}),
        (
            "evaluate",
            {
                "runs",
                "--config",
                "--zero-shot",
                "--task-texts",
                "--encoder",
                "--wordings",
                "--all-wordings",
                "--set",
                "--corpus",
                "--split",
                "--by",
                "--aggregate",
                "--subsets",
                "--adapt",
                "--allow-trained",
                "--coverage",
                "--json",
            },
        ),
        ("compare", {"first", "second", "--split", "--json"}),
        ("verify", {"run", "--json"}),
        ("study", {"path", "--set", "--base", "--workers", "--seeds", "--executor"}),
        ("transfer", {"paths", "--set", "--base", "--split", "--json"}),
        (
            "predict",
            {
                "names",
                "--text",
                "--task-texts",
                "--encoder",
                "--transcribe",
                "--transcripts",
                "--separator",
                "--quoting",
                "--window",
                "--hop",
                "--confidence",
                "--novelty",
                "--coverage",
                "--format",
                "--output",
                "-o",
                "--cards",
                "--explain",
                "--executor",
                "--measures",
                "--table",
                "--quiet",
                "-q",
                "--verbose",
                "-v",
                "--weights",
                "--trust-remote-code",
                "--allow-custom-encoders",
            },
        ),
        ("report", {"path", "--output", "-o", "--by", "--subsets"}),
        ("bundle", {"run", "--output", "-o", "--force"}),
        ("export", {"source", "--output", "-o", "--format"}),
        (
            "app",
            {
                "model",
                "--task-texts",
                "--encoder",
                "--transcribe",
                "--weights",
                "--port",
                "--max-seconds",
                "--max-megabytes",
            },
        ),
        ("features", {"--config", "--set", "--store", "--json", "--prune", "--compact", "--yes"}),
        ("encoders", {"--config", "--set", "--modality", "--json"}),
    ],
)
def test_the_options(name: str, options: set[str]) -> None:
    found = typer.main.get_command(app).commands[name].params  # type: ignore[attr-defined]
    assert {option for parameter in found for option in parameter.opts} == options


@pytest.mark.parametrize("name", ["features", "encoders"])
def test_listing_hands_its_settings_on(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def refuse(*given: object) -> None:
        calls.append(given)
        raise ConfigError("no")

    monkeypatch.setattr(published, "load_any_config", refuse)
    result = CliRunner().invoke(app, [name, "--config", "a.toml", "--set", "a.b=1", "--set", "c.d=2"])
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "error: no\n")
    assert calls == [(Path("a.toml"), ["a.b=1", "c.d=2"])]


def test_ctrl_c_stops_listing_and_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (KeyboardInterrupt, typer.Abort):

        def stop(*_: object, error: type[BaseException] = error) -> int:
            raise error

        monkeypatch.setattr(inventory, "take_inventory", stop)
        result = CliRunner().invoke(app, ["features"])
        assert (result.exit_code, result.stdout) == (130, "")
        assert result.stderr == "stopped; the same command begins again\n"


def test_as_a_module_it_starts_without_the_heavy_libraries() -> None:
    program = (
        "import sys, runpy; sys.argv = ['mmpsr', '--version']\n"
        "try: runpy.run_module('training.commands.console', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'accelerate', 'pandas'} & set(sys.modules)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, importlib.metadata.version("mmpsr")), done.stderr


def test_commands_that_read_import_no_heavy_library(tmp_path: Path) -> None:
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    run = "runs/run/before"
    commands = (
        ["--help"], ["verify", run], ["compare", run, run], ["encoders", "--json"],
        ["features", "--store", "store"], ["doctor", "--config", "run.toml"], ["predict", "nowhere"],
        ["measure", "--columns"], ["measure", "nowhere.mp4"],
    )  # fmt: skip
    ended = run_in_turn(commands, tmp_path)
    for command, (_, said, imported) in zip(commands, ended, strict=True):
        assert imported == [], (command, said)
    assert [status for status, _, _ in ended] == [0, 0, 0, 0, 0, 1, 2, 0, 2]
    assert "every figure follows from the stored predictions" in ended[1][1]
    assert "percentage points" in ended[2][1]
    assert "own (table, trained on)" in ended[5][1]


@pytest.mark.parametrize(
    ("used", "frozen"), [("training.drafting.settings", True), ("torch.utils._python_dispatch", False)]
)
def test_a_command_ends_quickly_and_without_complaints_of_libraries(used: str, frozen: bool) -> None:
    """Parts of torch say that they were left where nobody looks for cycles at the end."""
    lines = ["import atexit, gc", "atexit.register(lambda: print(gc.get_freeze_count() > 1000))"]
    code = "\n".join([*lines, "import training.commands.console", f"import {used}"])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == (f"{frozen}\n", "")
