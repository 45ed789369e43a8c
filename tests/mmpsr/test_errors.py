"""The base of errors: everything that a user can mend derives from it, in every package."""

from __future__ import annotations

import importlib

import pytest

from mmpsr.errors import Interrupted, UserError


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("mmpsr.config", "ConfigError"),
        ("mmpsr.export", "ExportError"),
        ("mmpsr.extras", "MissingExtraError"),
        ("mmpsr.unpickling", "PickleError"),
        ("corpora.clips", "CorpusError"),
        ("encoders.errors", "ExtractionError"),
        ("encoders.errors", "StoreError"),
        ("training.bundle.files", "BundleError"),
        ("training.fit.checkpoint", "CheckpointError"),
        ("training.fit.loop", "DivergedError"),
        ("training.predict.inputs", "InputError"),
        ("training.predict.transcripts", "TranscriptError"),
        ("training.runs.directory", "RunError"),
        ("tuning.search.workers", "SearchError"),
        ("tuning.study.rows", "InapplicableError"),
    ],
)
def test_every_error_of_the_users_is_one(module: str, name: str) -> None:
    assert issubclass(getattr(importlib.import_module(module), name), UserError)


def test_a_wish_is_no_error() -> None:
    assert not issubclass(Interrupted, UserError)
    assert issubclass(UserError, ValueError)
