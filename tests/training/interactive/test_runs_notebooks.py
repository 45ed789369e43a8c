"""The notebooks of `docs/`: committed without outputs, with links that lead somewhere, run from an empty folder."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[3] / "docs" / "notebooks"
SHOWN = {
    "predict_and_explain": ("<td>Anger (", "there is no recording nowhere.mp4", "<th>behavior</th>", "not predicted"),
    "own_corpus": ("mmpsr train --config talks.toml", "<th>95 %</th>", "<td>new-2</td>"),
    "own_task_zero_shot": ("<th>boredom</th>", "of 6 right", "the usual ones together"),
}
"""Notebook -> parts of what it shows."""


def test_notebooks_are_committed_without_outputs_and_linked() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SHOWN)
    index = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    for name in SHOWN:
        book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        nbformat.validate(book)
        for cell in book.cells:
            assert not cell.get("outputs"), f"{name}: clear the outputs"
            assert cell.get("execution_count") is None, f"{name}: clear the outputs"
            for link in re.findall(r"\]\((?!https?:)([^)#]+)", cell.source):
                assert (FOLDER / link).exists(), f"{name}: {link}"
        assert f"notebooks/{name}.ipynb" in index


@pytest.mark.slow  # some 5 s each
@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    shown = "\n".join(str(output.get("text") or output.get("data")) for output in outputs)
    for part in SHOWN[name]:
        assert part in shown, f"{name} does not show {part!r}"
