"""`from mmpsr import ...`: imported when asked for, whatever lies in the working folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import mmpsr

ROOT = Path(__file__).parents[3]


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_importing_mmpsr_imports_no_other_package(tmp_path: Path) -> None:
    code = "import sys, mmpsr; print([name for name in ('torch', 'training', 'pydantic') if name in sys.modules])"
    assert python(tmp_path, code).stdout == "[]\n"


def test_a_training_py_in_the_working_folder_does_not_hide_ours_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text("raise SystemExit('theirs')", encoding="utf-8")
    code = (
        "import mmpsr, multiprocessing; mmpsr._take_own('training'); import training.launch; print(training.__file__);"
        "context = multiprocessing.get_context('forkserver'); context.set_forkserver_preload(['training.launch']);"
        "process = context.Process(target=exec, args=('import training; print(training.__file__, flush=True)',));"
        "process.start(); process.join()"
    )
    result = python(tmp_path, code)
    assert [Path(line) for line in result.stdout.split()] == [ROOT / "training" / "__init__.py"] * 2, result.stderr
    assert f"{tmp_path / 'training.py'} has the name of a package of mmpsr" in result.stderr


def test_what_is_imported_already_under_such_a_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ModuleType("training")
    theirs.__file__ = "elsewhere/training.py"
    monkeypatch.setitem(sys.modules, "training", theirs)
    monkeypatch.delitem(vars(mmpsr), "train", raising=False)
    with pytest.raises(ImportError, match=r"elsewhere/training\.py is imported as 'training' and hides the package"):
        mmpsr.train  # noqa: B018


def test_the_names_are_those_of_the_rooms_and_others_are_not_known() -> None:
    from training.predict.predictor import Predictor

    assert mmpsr.Predictor is Predictor
    assert {*mmpsr.__all__} <= {*dir(mmpsr)}
    stub = (ROOT / "mmpsr" / "__init__.pyi").read_text(encoding="utf-8")
    for name, home in mmpsr._HOMES.items():  # type: ignore[attr-defined]
        assert f"from {home} import {name} as {name}\n" in stub
    with pytest.raises(AttributeError, match="module 'mmpsr' has no attribute 'Predicter'"):
        mmpsr.Predicter  # type: ignore[attr-defined]  # noqa: B018
