"""Journals of trials that lost their end, or are damaged elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from mmpsr.config import ConfigError
from tuning.search.trials import open_study


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of three complete trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = opened(tmp_path / "trials.journal")
    for number in range(3):
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        study.tell(trial, float(number))
    return tmp_path / "trials.journal"


def opened(path: Path, say: Callable[[str], None] = pytest.fail) -> optuna.Study:
    return open_study(str(path), "search", path.parent / "out", 60, {"search.seed": 0}, say)


def test_a_journal_without_its_end_is_mended_to_its_last_whole_line(journal: Path) -> None:
    content = journal.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1  # where the last line begins
    for size in (last + 1, last + 40, len(content) - 2, len(content) - 1):
        journal.write_bytes(content[:size])
        said: list[str] = []
        study = opened(journal, said.append)
        assert said == [
            f"{journal}: its last line was not whole; {size - last} bytes are cut off, all lines before it stay"
        ]
        states = [trial.state for trial in study.trials]
        assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
        study.tell(2, 2.0)  # and can be written to
        assert [trial.state for trial in opened(journal).trials] == [TrialState.COMPLETE] * 3


def test_zeros_at_the_end_of_a_journal_are_cut_off(journal: Path) -> None:
    content = journal.read_bytes()
    journal.write_bytes(content + b"\0" * 512)
    said: list[str] = []
    assert len(opened(journal, said.append).trials) == 3
    assert len(said) == 1
    assert journal.read_bytes().startswith(content + b"{")  # opening it adds a line


def test_a_whole_journal_stays_as_it_is(journal: Path) -> None:
    content = journal.read_bytes()
    opened(journal)
    assert journal.read_bytes().startswith(content)


@pytest.mark.parametrize("line", [b'{"op_code":4,"wor', b"4", b"{}"])
def test_a_journal_that_is_damaged_elsewhere_is_one_error(journal: Path, line: bytes) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], line + b"\n", *lines[2:]]))
    with pytest.raises(ConfigError, match=r"search\.storage: .*trials\.journal, (line|record) 3: is no"):
        opened(journal)
