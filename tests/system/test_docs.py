"""The guides in `docs/`: every command is run on a small demo, every configuration read, every link followed.

Commands that need what is not here are marked `sh` with a reason; their options and settings are still held against
the real command line.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from accelerate import Accelerator

from corpora.demo.build import build_demo
from encoders.extraction.extract import extract
from encoders.extraction.workers import WarmEncoders
from mmpsr.config import load_config, validate
from mmpsr.tasks import task_of_texts
from tests.support.guides import FOLDER, GUIDES, REPOSITORY, Block, blocks, commands, script
from training.config import RunConfig
from training.data.load import load_clips
from training.published_config import load_any_config
from training.zero_shot.config import ZeroShotRunConfig
from tuning.console import app
from tuning.search.objective import load_search
from tuning.study.config import load_study

REASONS = {
    "installs": r"pip|uv|source|git",
    "needs the corpora": r".* corpora\.root=\S+.*",
    "needs a hub": r"mmpsr predict [\w-]+/[\w-]+ .*|mmpsr extract .*features\.(encoders|describer|transcriber).*",
    "needs PostgreSQL": r"createdb .*|.* search\.storage=postgresql\S*.*",
    "needs several machines": r".* --machine_rank.*|.* corpora\.root=/shared/.*|dask \w+ .*|.* --executor dask://.*",
    "needs SLURM": r"sbatch .*",
    "runs until stopped": r"mmpsr app .*|tensorboard .*",
    "takes an hour": r"mmpsr (study|tune|transfer) .*|accelerate launch tuning/run\.py .*",
    "trains for minutes": r"accelerate launch .*(training|encoders)/run\.py.*|mmpsr (train|doctor) .*",
    "needs a run of yours": r"mmpsr \w+ (.* )?(RUN\w*|my-model)\b.*",
    "needs a quiet machine": r"uv run python tests/benchmarks/\w+\.py.*",
}
"""Why a command is not run -> what such a command looks like."""

FOLDERS = ("training", "encoders", "tuning")
"""That `accelerate launch` is given files of."""


def every(*languages: str) -> list[Block]:
    return [block for guide in GUIDES for block in blocks(guide, *languages)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a demo of 15 clips a corpus, their features, and a run."""
    folder = tmp_path_factory.mktemp("demo")
    build_demo(folder / "data" / "demo", clips_per_corpus=15, num_workers=1)
    settings = [f"corpora.root={folder / 'data' / 'demo'}", f"features.store={folder / 'data' / 'features'}"]
    settings.append("corpora.sources.meld.zero_shot=false")  # so that its train clips are extracted, too
    config = load_config(RunConfig, REPOSITORY / "configs" / "demo.toml", settings)
    with WarmEncoders(config.features) as warm:  # in this process, which is quicker for so few
        clips = load_clips(config, config.tasks.resolve(), Accelerator(cpu=True)).clips
        extract(clips, config.features, show_progress=False, warm=warm)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """With the commands of `warm_commands` before all others."""
    folder = tmp_path_factory.mktemp("commands")
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    arguments = [sys.executable, str(REPOSITORY / "tests/support/warm_commands.py"), str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=variables) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        places = [str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]
        yield {**variables, "PATH": os.pathsep.join(places)}
        server.kill()


@pytest.fixture(scope="module")
def trained(base: Path, environment: dict[str, str]) -> Path:
    """`base`, with a run in it."""
    arguments = ["mmpsr", "train", "--config", "configs/demo.toml", "--set", "training.num_epochs=3"]
    place = workplace(base)
    subprocess.run(arguments, cwd=place, env=environment, check=True, capture_output=True)
    (place / "runs").rename(base / "runs")
    return base


def workplace(base: Path) -> Path:
    """What a reader has: files, data and a run; always in the same place, since clips are known by theirs."""
    folder = base / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in FOLDERS:
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / "data").symlink_to(base / "data")
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    if (base / "runs").exists():
        shutil.copytree(base / "runs", folder / "runs")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_works(guide: str, trained: Path, environment: dict[str, str]) -> None:
    place = workplace(trained)
    done = subprocess.run(
        ["bash", "-c", script(guide, place)], cwd=place, env=environment, check=False, text=True, timeout=270,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"docs/{guide}: a command failed:\n{done.stdout[-6000:]}"
    for block in blocks(guide, "text"):
        missing = sorted(set(words(block.text)) - set(words(done.stdout)))
        assert not missing, f"{block}: {missing} was never printed:\n{done.stdout[-6000:]}"


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]{3,}", text)


def read_file(path: Path) -> None:
    """Read a whole configuration as the command that takes it would."""
    tree = tomllib.loads(path.read_text())
    if "search" in tree:
        load_search(path)
    elif "rows" in tree:
        load_study(path)
    elif "texts" in tree:
        task_of_texts(str(path))
    elif "zero_shot" in tree:
        load_config(ZeroShotRunConfig, path)
    else:
        load_any_config(path, ())


@pytest.mark.parametrize("block", every("toml"), ids=str)
def test_every_configuration_is_valid(block: Block, tmp_path: Path) -> None:
    if block.name is None:
        validate(RunConfig, tomllib.loads(block.text), str(block))
        return
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    (tmp_path / block.name).write_text(block.text)
    read_file(tmp_path / block.name)


@pytest.mark.parametrize("block", every("sh"), ids=str)
def test_commands_that_are_not_run_are_possible(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert block.reason in REASONS, f"{block}: write one of {list(REASONS)} behind sh, or run it as bash"
    named = {each.name for each in blocks(block.guide, "toml")}
    for found in commands(block):
        line = " ".join(found)
        fits = re.fullmatch(REASONS[block.reason], found[0] if block.reason == "installs" else line)
        assert fits, f"{block}: {line!r} does not look like it {block.reason}: run it as bash"
        if found[0] == "accelerate":
            file = next(word for word in found if word.endswith("run.py"))
            found = ["mmpsr", {"training": "train", "encoders": "extract", "tuning": "tune"}[Path(file).parent.name],
                     *found[found.index(file) + 1 :]]  # fmt: skip
        if found[0] == "mmpsr":
            require_possible(found[1:], named)


def require_possible(arguments: list[str], named: set[str | None]) -> None:
    """Hold a command against the command line, and the settings in it against the configuration."""
    group: Any = typer.main.get_command(app)
    command = group.commands[arguments[0]]
    options = command.make_context(arguments[0], list(arguments[1:])).params
    settings = options.get("set_") or ()
    file = options.get("config") if arguments[0] != "study" else options["path"]
    if file is None or str(file) in named:
        return
    if arguments[0] == "study":
        load_study(file, settings, None, options["base"])
    elif arguments[0] == "zero-shot":
        load_config(ZeroShotRunConfig, file, settings)
    elif arguments[0] == "tune":
        load_search(file, settings, options["base"])
    else:
        load_any_config(file, settings)


def test_the_index_names_every_guide_and_every_link_leads_somewhere() -> None:
    for path in FOLDER.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
            assert target.startswith("https://") or (FOLDER / target).exists(), f"docs/{path.name}: no {target}"
    index = set(re.findall(r"\((\w+\.md)\)", (FOLDER / "README.md").read_text()))
    assert index == set(GUIDES)


def test_blocks_are_of_known_kinds() -> None:
    for block in every():
        assert block.language in ("bash", "sh", "toml", "python", "text", "mermaid", ""), (
            f"{block}: unknown {block.language!r}"
        )
        assert bool(block.reason) == (block.language == "sh"), f"{block}: a reason stands beside sh alone"


def test_files_that_are_named_exist() -> None:
    named = re.compile(r"\b(?:configs|tests|training|tuning|encoders)/[\w/]+\.\w+")
    for path in FOLDER.glob("*.md"):
        for file in named.findall(path.read_text()):
            assert (REPOSITORY / file).exists(), f"docs/{path.name}: there is no {file}"
