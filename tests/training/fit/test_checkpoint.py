"""Weights on disk and what is said of those that are not; see `test_hub` and `test_description` for loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from encoders.catalogue.checkpoint import Checkpoint, weights_digest
from encoders.errors import ExtractionError
from mmpsr.config import ConfigError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_digest_is_of_names_and_contents_wherever_they_lie(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("{}")
        (tmp_path / folder / "model.safetensors").write_bytes(bytes(3_000_000))
    digest = weights_digest(tmp_path / "a")
    assert len(digest) == 12
    assert weights_digest(tmp_path / "b") == digest
    changed = bytearray(3_000_000)
    changed[-1] = 1  # the last block is looked at
    (tmp_path / "b" / "model.safetensors").write_bytes(changed)
    assert weights_digest(tmp_path / "b") != digest
    (tmp_path / "a" / "config.json").write_text("[]")
    assert weights_digest(tmp_path / "a") != digest
    before = weights_digest(tmp_path / "a")
    (tmp_path / "a" / "config.json").rename(tmp_path / "a" / "config2.json")  # still before model.safetensors
    assert weights_digest(tmp_path / "a") != before


def test_a_digest_of_a_file_does_not_depend_on_its_name(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    assert weights_digest(first) == weights_digest(second)
    second.write_bytes(b"Weights")
    assert weights_digest(first) != weights_digest(second)


def test_identity_is_the_revision_or_the_contents(tmp_path: Path) -> None:
    assert Checkpoint("s", "x/y").identity == "x/y main"
    assert Checkpoint("s", "x/y", COMMIT).identity == f"x/y {COMMIT}"
    with pytest.raises(
        ConfigError, match=r'features\.weights\."x/y": .* is not a folder with a model; it must hold conf'
    ):
        _ = Checkpoint("s", "x/y", weights=str(tmp_path)).identity
    (tmp_path / "config.json").write_text("{}")
    assert Checkpoint("s", "x/y", weights=str(tmp_path)).identity == f"local {weights_digest(tmp_path)}"


@pytest.mark.parametrize("error", [OSError, ValueError, KeyError, RuntimeError])
def test_what_cannot_be_had_says_how_to_get_it(error: type[Exception]) -> None:
    asked: list[Any] = []

    def get(**where: Any) -> None:
        asked.append(where["revision"])
        raise error("no such thing\nand more")

    def message(checkpoint: Checkpoint) -> str:
        with pytest.raises(ExtractionError) as raised:
            checkpoint.fetch(get)
        return str(raised.value)

    text = message(Checkpoint("features.describer", "x/y", COMMIT, download_mb=12))
    assert text.startswith("features.describer: x/y (about 12 MB) is not in the local cache and cannot be fetched: ")
    assert f"{error.__name__}: " in text
    assert "and more" not in text or error is KeyError  # the first line; a key is shown as written
    assert f"run `hf download x/y --revision {COMMIT}` where there is a network" in text
    assert 'features.weights = { "x/y" = "path" }' in text
    assert "run `hf download x/y` where" in message(Checkpoint("s", "x/y"))
    elsewhere = Checkpoint("s", "x/y", address="https://a.b/c.pt", home="mine")
    assert "To work offline, download https://a.b/c.pt where" in message(elsewhere)
    assert 'features.weights = { "mine" = "path" }' in message(elsewhere)
    local = message(Checkpoint("s", "x/y", COMMIT, weights="copy"))
    assert local.startswith(f's: features.weights."x/y" names copy, which cannot be loaded: {error.__name__}')
    assert asked == [COMMIT, "main", "main", "main", "main"]  # a local copy has no revision


def test_code_runs_where_it_is_trusted_and_cannot_change() -> None:
    assert Checkpoint("s", "x/y", COMMIT, is_trusted=True).why_no_code() is None
    assert Checkpoint("s", "x/y", None, "copy", is_trusted=True).why_no_code() is None
    ask = "runs code that comes with its weights; to allow that, read the code and set "
    ask += 'features.trust_remote_code = ["x/y"]'
    assert Checkpoint("s", "x/y", None, "copy").why_no_code() == ask
    assert Checkpoint("s", "x/y", COMMIT).why_no_code() == f"{ask} (revision {COMMIT} is used)"
    assert Checkpoint("s", "x/y").why_no_code() == f"{ask}, and pin the commit that you read with s.revision"
    loose = str(Checkpoint("s", "x/y", "main", is_trusted=True).why_no_code())
    assert loose.endswith("only run at a pinned commit; set s.revision to its 40 hexadecimal digits (found main)")
