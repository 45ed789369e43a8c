"""Fixtures that tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

TABLE_RUN = """
[corpora]
root = "."
[corpora.sources.mine]
adapter = "table"
files = "mine.csv"
id = "id"
text = "text"
split = "split"
labels.ambivalence = { column = "label" }
[features]
store = "store"
encoders = { text = "minilm", video = "face-mesh" }
[data]
modalities = ["text"]
[tasks]
active = ["ambivalence"]
"""


@pytest.fixture(scope="module")
def few_resamples() -> Iterator[None]:
    """Intervals are made of few resamples: `pytestmark = pytest.mark.usefixtures("few_resamples")`."""
    from tests.support import stored_run  # which imports much

    with stored_run.few_resamples():
        yield


@pytest.fixture
def table_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, now the working one, with `run.toml`: texts of a table `mine.csv`, labelled for ambivalence."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(TABLE_RUN, encoding="utf-8")
    return tmp_path
