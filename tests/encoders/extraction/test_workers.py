"""Encoders that stay loaded: one instance for many extractions, told apart by what they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from encoders.errors import ExtractionError
from encoders.extraction import jobs
from encoders.extraction.extract import extract
from encoders.extraction.read import read_vectors
from encoders.extraction.workers import WarmEncoders, start_engine
from tests.support.fake_encoders import Attentive, Obedient, features, table


class Counted(Obedient):
    """Obedient; how often it was loaded is counted, and a setting that its fingerprint covers may be changed."""

    id = "counted"
    num_loaded = 0
    factor = 1.0

    def settings(self) -> dict[str, object]:
        return {"factor": type(self).factor}

    def load(self) -> None:
        super().load()
        Counted.num_loaded += 1


class CountedAttentive(Attentive):
    id = "counted-attentive"
    num_loaded = 0

    def load(self) -> None:
        super().load()
        CountedAttentive.num_loaded += 1


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_loaded", {})
    monkeypatch.setattr(Counted, "num_loaded", 0)
    monkeypatch.setattr(CountedAttentive, "num_loaded", 0)


def test_encoders_are_loaded_once_for_many_extractions(tmp_path: Path) -> None:
    encoders = {
        "text": "tests.encoders.extraction.test_workers:Counted",
        "behavior": "tests.encoders.extraction.test_workers:CountedAttentive",
    }
    config = features(tmp_path, encoders=encoders)
    with WarmEncoders(config) as warm:
        for text in ("one", "three", "seven"):
            elsewhere = config.model_copy(update={"store": str(tmp_path / text)})
            summary = extract(table([text]), elsewhere, show_progress=False, warm=warm)
            assert summary.counts["fake", "text"].done == summary.counts["fake", "behavior"].done == 1
            # mean of [x, 2x] is 1.5x, their deviation 0.5x, of the length of the text
            assert read_vectors(table([text]), elsewhere)["text"][1][0, [0, 2]].tolist() == [
                1.5 * len(text),
                0.5 * len(text),
            ]
    assert (Counted.num_loaded, CountedAttentive.num_loaded) == (1, 1)


def test_another_setting_is_another_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = features(tmp_path, encoders={"text": "tests.encoders.extraction.test_workers:Counted"})
    with WarmEncoders(config) as warm:
        extract(table(["one"]), config, show_progress=False, warm=warm)
    monkeypatch.setattr(Counted, "factor", 2.0)
    with WarmEncoders(config) as warm:
        extract(table(["one"]), config, show_progress=False, warm=warm)
    assert Counted.num_loaded == 2


def test_a_failure_of_all_leaves_the_encoders_usable(tmp_path: Path) -> None:
    config = features(tmp_path, encoders={"text": "tests.encoders.extraction.test_workers:Counted"}, chunk_size=1)
    with WarmEncoders(config) as warm:
        with pytest.raises(ExtractionError, match="needs a library"):
            extract(table(["library", *["sleep 0.05"] * 9]), config, show_progress=False, warm=warm)
        assert extract(table(["x"]), config, show_progress=False, warm=warm).counts["fake", "text"].done == 1


@pytest.mark.slow
def test_processes_outlive_an_extraction(tmp_path: Path) -> None:
    config = features(tmp_path)
    with WarmEncoders(config, num_processes=1) as warm:
        extract(table(["one"]), config, show_progress=False, warm=warm)
        (process,) = warm.engine.pool._processes.values()  # type: ignore[attr-defined]
        extract(table(["three"]), config, show_progress=False, warm=warm)
        assert list(warm.engine.pool._processes.values()) == [process]  # type: ignore[attr-defined]
        assert process.is_alive()
    assert not process.is_alive()


def test_a_worker_of_elsewhere_starts_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's may have none, and an executor's may all be waiting."""
    monkeypatch.setattr("mmpsr.executors.base._is_away", True)
    with start_engine("nowhere:nothing", 4) as engine:
        assert engine.submit(os.getpid).result() == os.getpid()
