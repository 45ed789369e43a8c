"""Optional packages: each command says in one sentence which extra it lacks, in a process where imports are blocked."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from mmpsr import extras
from mmpsr.extras import EXTRAS, MissingExtraError, extra_of, require_extra, sentence_of
from tests.support.hidden_modules import without_modules

ROOT = Path(__file__).parents[2]
ROOMS = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for package in ("mmpsr", "training")
    for path in (ROOT / package).rglob("__init__.py")
    if "on_demand(__name__" in path.read_text(encoding="utf-8")
)
# imported by huggingface_hub and accelerate, which the core has
ALSO_CORE = {"yaml"}


def without(extra_modules: set[str], program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program where modules cannot be imported."""
    text = without_modules(extra_modules) + program
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HF_HUB_OFFLINE": "1", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", text], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


ALL = {module for modules in EXTRAS.values() for module in modules} - ALSO_CORE
LINES = {
    "tune": ("optuna", "tune"),
    "predict nothing nothing": ("av", "media"),
    "app nothing": ("fastapi", "app"),
    "report nothing": ("matplotlib", "report"),
    "train": ("tensorboard", "track"),
    "train --set output.trackers=[]": ("av", "media"),
    "extract": ("av", "media"),
    "doctor": ("av", "media"),
    "doctor --media": ("av", "media"),
    "study studies/table1": ("tensorboard", "track"),
}
"""Commands, each with the module that it lacks first and the extra that brings it."""
PROGRAM = f"""
import importlib, pathlib
root = pathlib.Path({str(ROOT)!r})
needs_an_extra = []
for package in ("mmpsr", "corpora", "encoders", "training", "tuning"):
    for path in sorted((root / package).rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            from mmpsr.extras import extra_of
            needs_an_extra.append(f"{{module}} {{extra_of(error.name)}}")
print("\\n".join(needs_an_extra))
print("commands")
from tuning.console import app
for line in {[line.split() for line in LINES]!r}:
    try: app(line)
    except SystemExit as end: print(end.code)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("extras")


@pytest.fixture(scope="module")
def done(place: Path) -> subprocess.CompletedProcess[str]:
    """Every module imported, then every command called, in one process without any extra."""
    return without(ALL, PROGRAM, place)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_every_command_says_which_extra_it_lacks(done: subprocess.CompletedProcess[str], place: Path) -> None:
    statuses = done.stdout.partition("commands\n")[2]
    assert statuses.split() == ["2"] * len(LINES), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    for error, (module, extra) in zip(errors, LINES.values(), strict=True):
        assert f"{module} is not installed" in error
        assert error.endswith(f'in the repository: pip install ".[{extra}]"')
    assert not (place / "runs" / "table1" / "table.md").exists()  # a study is not begun


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_the_core_imports_and_fits_without_any_extra(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    found = {tuple(line.split()) for line in done.stdout.partition("commands\n")[0].splitlines()}
    rooms = {"report", "app", "search", "tune"}  # whole capabilities; nothing below them may need an extra at import
    wrong = {(module, extra) for module, extra in found if not rooms & set(re.split(r"[._]", module)) - {""}}
    allowed = {
        ("tuning." + name, "tune") for name in ("command", "plans", "results", "settings", "space", "trials", "run")
    }
    allowed.add(("encoders.face.solutions", "media"))  # it is there to be imported in MediaPipe's place
    assert wrong - allowed == set()


def test_the_sentence_and_its_extra() -> None:
    assert sentence_of("optuna.storages") == (
        'optuna is not installed; the extra "tune", with which configurations are searched, brings it, '
        'in the repository: pip install ".[tune]"'
    )
    assert sentence_of("nobody_has_this") is None
    assert extra_of("cv2.data") == "media"


def test_an_extra_is_required_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "EXTRAS", {"report": ("json", "no_such_module"), "tune": ("json",)})
    require_extra("tune")
    with pytest.raises(MissingExtraError, match=r"no_such_module is not installed; .* pip install \"\.\[report\]\""):
        require_extra("report")


def test_what_a_python_cannot_have_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "LAST_PYTHON", {"mediapipe": (3, 10)})
    monkeypatch.setattr(extras, "EXTRAS", {"media": ("json", "mediapipe")})
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "mediapipe" else object())
    require_extra("media")
    assert sentence_of("mediapipe") == (
        "mediapipe is not installed, and cannot be on this Python; use Python 3.11 to 3.10"
    )


def test_the_table_is_that_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    owners = metadata.packages_distributions()
    declared = project["optional-dependencies"]
    assert set(declared) == {*EXTRAS, "all"}
    for extra, modules in EXTRAS.items():
        packages = {name_of(requirement) for requirement in declared[extra]} - {"mmpsr"}
        found = {normal(owner) for module in modules for owner in owners.get(module, ())}
        assert found <= packages | {"opencv-python", "opencv-python-headless"}, extra  # other wheels of cv2
        assert packages - found <= {"opencv-contrib-python"}, extra


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return normal(match[0])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_room_imports_what_it_hands_out_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "a_room"
    room.mkdir()
    face = 'from mmpsr.extras import on_demand\n__all__ = ["light", "heavy"]\n'
    (room / "__init__.py").write_text(face + '__getattr__ = on_demand(__name__, "low", "high")\n')
    (room / "low.py").write_text("light = 1\nhidden = 2\n")
    (room / "high.py").write_text("from a_room.low import light\nheavy = light + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import a_room

    assert not {"a_room.low", "a_room.high"} & set(sys.modules)
    assert a_room.light == 1
    assert "a_room.high" not in sys.modules
    assert a_room.heavy == 2
    for name in ("hidden", "nothing"):
        with pytest.raises(AttributeError, match=f"module 'a_room' has no attribute '{name}'"):
            getattr(a_room, name)
    from a_room import high  # a module, which is no name of the face

    assert high.heavy == 2


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_a_face_can_be_had(room: str) -> None:
    face = importlib.import_module(room)
    for name in face.__all__:
        assert getattr(face, name) is not None
