"""What other installed packages add: a package made on the spot offers an encoder and a corpus."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmpsr.plugins import load_plugins

ROOT = Path(__file__).parents[2]
PACKAGE = '''
from typing import Literal

from corpora.source import CorpusSource
from encoders.catalogue.entry import CatalogueEntry


class Iemocap(CorpusSource):
    """A corpus of somebody else."""

    adapter: Literal["iemocap"]

    def label_tasks(self): return ("emotion",)
    def collect(self, name, root, tasks, defects): raise NotImplementedError


OPENFACE = CatalogueEntry(
    id="openface", modalities=("video",), width=3, factory="theirs:Nobody", description="d", citation="c", licence="MIT"
)
TAKEN = CatalogueEntry(
    id="minilm", modalities=("text",), width=3, factory="theirs:Nobody", description="d", citation="c", licence="MIT"
)
NEITHER = 3
'''
POINTS = """[mmpsr.corpora]
iemocap = theirs:Iemocap
number = theirs:NEITHER
[mmpsr.encoders]
openface = theirs:OPENFACE
taken = theirs:TAKEN
broken = nowhere_at_all:ENTRY
"""
PROGRAM = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from corpora.registry import CorporaConfig
    from encoders.creation import CATALOGUE
from mmpsr.config import ConfigError, validate
config = validate(CorporaConfig, {"sources": {"mine": {"adapter": "iemocap", "zero_shot": True}}}, "test")
print(type(config.sources["mine"]).__name__, CATALOGUE["openface"].width, CATALOGUE["minilm"].width)
try:
    validate(CorporaConfig, {"sources": {"mine": {"adapter": "iemocp"}}}, "test")
except ConfigError as error:
    print(error)
print(*sorted(str(each.message) for each in caught if "mmpsr." in str(each.message)), sep="\\n")
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages that holds one."""
    (tmp_path / "theirs.py").write_text(PACKAGE)
    information = tmp_path / "theirs-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(POINTS)
    return tmp_path


@pytest.mark.slow
def test_a_package_adds_a_corpus_and_an_encoder(site: Path) -> None:
    environment = {"PYTHONPATH": f"{ROOT}:{site}", "PATH": "", "HOME": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=site, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Iemocap 3 384",
        "test: sources.mine.adapter: 'iemocp' is not known; did you mean 'iemocap'?",
        "mmpsr.corpora: 'number' of the package theirs is left out: theirs:NEITHER is no CorpusSource",
        "mmpsr.encoders: 'broken' of the package theirs is left out: ModuleNotFoundError: No module named "
        "'nowhere_at_all'",
        "mmpsr.encoders: there is an encoder 'minilm' already; the other is left out",
    ]


def test_a_group_that_nobody_offers_is_empty() -> None:
    assert load_plugins("mmpsr.nothing", int) == {}
