"""What is installed: declared imports, pinned versions without an index, and what the wheel holds."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from mmpsr.extras import EXTRAS, extra_of
from mmpsr.prototypes.texts import SHIPPED

ROOT = Path(__file__).parents[2]
PACKAGES = ("mmpsr", "corpora", "encoders", "training", "tuning")
PROJECT: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

NEEDS: Mapping[str, tuple[str, ...]] = {
    "mmpsr/": ("balancing", "graphs", "onnx"),
    "mmpsr/executors/": ("dask",),
    "corpora/": ("corpora", "datasets"),
    "corpora/demo": ("corpora", "media"),
    "encoders/": ("media", "lexica", "hub"),
    "training/": (),
    "training/app": ("app", "media"),
    "training/report": ("report",),
    "tuning/": ("tune",),
}
"""Beginning of a file's path -> extras whose packages it may import, by the longest that fits; always within a function
where the file is not of a room that needs them, see `test_extras`."""


def core_modules() -> set[str]:
    """Top-level modules of the packages that are always installed."""
    names = {normal(re.match(r"[\w.-]+", entry)[0]) for entry in PROJECT["project"]["dependencies"]}  # type: ignore[index]
    owners = metadata.packages_distributions()
    return {module for module, packages in owners.items() if names & {normal(package) for package in packages}}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(source: str) -> set[str]:
    tops: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            tops |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            tops.add(str(node.module).split(".")[0])
    return tops - set(sys.stdlib_module_names) - set(PACKAGES)


def undeclared(file: str, source: str, core: set[str]) -> list[str]:
    """Packages that a file imports although neither the core nor an extra of its folder declares them."""
    place = max((start for start in NEEDS if file.startswith(start)), key=len)
    allowed = core | {module for extra in NEEDS[place] for module in EXTRAS[extra]}
    return [
        f"{file} imports {module}, which {extra_of(module) or 'nothing'} declares"
        for module in sorted(imported(source) - allowed)
    ]


def test_every_import_is_declared() -> None:
    core, wrong = core_modules(), []
    assert {"torch", "sklearn", "huggingface_hub", "typer"} <= core
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            wrong += undeclared(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"), core)
    assert wrong == []


@pytest.mark.parametrize(
    ("file", "source", "wrong"),
    [
        ("mmpsr/a.py", "import matplotlib", "which report declares"),
        ("corpora/a.py", "def f():\n    from av import open", "which media declares"),
        ("encoders/a.py", "import torchaudio", "which nothing declares"),
        ("training/a.py", "import gradio.themes", "which app declares"),
    ],
)
def test_an_undeclared_import_is_found(file: str, source: str, wrong: str) -> None:
    assert undeclared(file, source, {"torch"})[0].endswith(wrong)
    assert undeclared(file, "import torch.nn, json\nfrom mmpsr import batch", {"torch"}) == []


def test_pins_are_written_once_and_name_no_index() -> None:
    pins = PROJECT["tool"]["uv"].get("constraint-dependencies")
    if pins is None and not (ROOT / "constraints.txt").exists():
        pytest.skip("the newest of everything is tried, as by .ci/fresh")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == pins
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;/]+( ; .+)?", pin) for pin in pins)
    assert "://" not in "".join(lines)
    names = {pin.split("==")[0] for pin in pins}
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    required = {normal(re.match(r"[\w.-]+", entry)[0]) for group in groups for entry in group} - {"mmpsr"}  # type: ignore[index]
    assert required <= names


def test_what_is_installed_here_is_within_what_is_declared() -> None:
    from packaging.requirements import Requirement

    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    for requirement in (Requirement(entry) for group in groups for entry in group):
        if requirement.name != "mmpsr" and (requirement.marker is None or requirement.marker.evaluate()):
            assert metadata.version(requirement.name) in requirement.specifier, requirement


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout."""
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    return zipfile.ZipFile(next(builder.build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])))


def test_the_wheel_ships_the_five_packages(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert len(tops) == len(PACKAGES) + 1
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert {name for name in names if name.endswith(".py")} == {path.relative_to(ROOT).as_posix() for path in files}


def test_the_wheel_holds_packages_configurations_and_types(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*") if path.is_file()}
    assert {f"mmpsr/{name}" for name in configs} <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    texts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mmpsr" / "prototypes" / "shipped").iterdir()}
    assert {Path(name).stem for name in texts} == set(SHIPPED)
    assert texts <= names
    information = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert "Requires-Python: <3.14,>=3.11" in information
    for extra in EXTRAS:
        assert f"Provides-Extra: {extra}\n" in information


def test_the_schema_is_that_of_the_models() -> None:
    from training.config import InTimeConfig, RunConfig
    from training.zero_shot.config import ZeroShotRunConfig
    from tuning.study.config import StudyConfig

    models = {"run": RunConfig, "in_time": InTimeConfig, "study": StudyConfig, "zero_shot": ZeroShotRunConfig}
    for name, model in models.items():
        path = ROOT / "configs" / "schemas" / f"{name}.json"
        made = json.dumps(model.model_json_schema(), indent=1) + "\n"
        assert path.read_text(encoding="utf-8") == made, f"write the new schema: {path}"
    for path in sorted((ROOT / "configs").rglob("*.toml")):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        if path.parent.name != "searches":
            assert first.startswith("#:schema "), path
            assert (path.parent / first.removeprefix("#:schema ")).is_file(), path
