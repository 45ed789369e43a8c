"""`mmpsr encoders`: what it prints, and what a configuration changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from typer.testing import CliRunner

from encoders import creation
from encoders.catalogue import checkpoint
from encoders.creation import CATALOGUE, WRITERS
from tests.support import tiny_checkpoints as tiny
from training.commands.console import app

BERT, JINA, EAGLE = "google-bert/bert-base-uncased", "jinaai/jina-embeddings-v3", "nvidia/Eagle2-2B"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def run(*arguments: str, status: int = 0) -> tuple[str, str]:
    """What is printed, blanks as one, on stdout and on stderr."""
    result = CliRunner().invoke(app, ["encoders", *arguments])
    assert result.exit_code == status, result.output
    return " ".join(result.stdout.split()), " ".join(result.stderr.split())


def listed(*arguments: str) -> dict[str, Any]:
    """Entries of the document by id."""
    document = json.loads(run(*arguments, "--json")[0])
    return {entry["id"]: entry for entry in (*document["encoders"], *document["writers"])}


@pytest.fixture
def configured(table_run: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(table_run / "cache"))
    return "--config", "run.toml"


def test_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "is_cached", lambda entry: entry.id == "microsoft/resnet-50")
    monkeypatch.setattr(
        creation, "can_run", lambda entry, features: "not installed: x" if entry.id == "vggish" else None
    )
    document = json.loads(run("--json")[0])
    assert [entry["id"] for entry in document["encoders"]] == list(CATALOGUE)
    assert [entry["id"] for entry in document["writers"]] == list(WRITERS)
    by_id = listed()
    resnet = CATALOGUE["microsoft/resnet-50"]
    assert by_id["microsoft/resnet-50"] == {
        "id": "microsoft/resnet-50", "modalities": ["video"], "width": 2048, "family": "image backbone",
        "description": resnet.description, "pooling": "mean and standard deviation over frames", "rate": None,
        "image_size": 224, "home": "microsoft/resnet-50", "revision": resnet.revision, "remote_code": False,
        "licence": "Apache-2.0", "citation": "He et al. 2016, arXiv:1512.03385", "can_run": True, "reason": None,
        "weights": "cached", "download_mb": 103,
    }  # fmt: skip
    assert (by_id["vggish"]["can_run"], by_id["vggish"]["reason"]) == (False, "not installed: x")
    assert by_id["vggish"]["weights"] == "to download"
    assert (by_id["egemaps"]["weights"], by_id["egemaps"]["home"]) == ("installed", None)
    whisper = WRITERS["openai/whisper-large-v3-turbo"]
    assert by_id[whisper.id] == {
        "id": whisper.id, "section": "features.transcriber", "reads": "audio", "writes": "transcript",
        "family": "Whisper", "description": whisper.description, "home": whisper.id, "revision": whisper.revision,
        "remote_code": False, "licence": "MIT", "citation": "Radford et al. 2022, arXiv:2212.04356", "can_run": True,
        "reason": None, "weights": "to download", "download_mb": 1620,
    }  # fmt: skip


def test_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = ("microsoft/resnet-50", "facebook/dinov2-large")
    monkeypatch.setattr(checkpoint, "is_cached", lambda entry: entry.id in cached)
    monkeypatch.setattr(
        creation,
        "can_run",
        lambda entry, features: "not installed: x" if entry.id == "facebook/dinov2-large" else None,
    )
    out, _ = run("--modality", "video")
    number = sum("video" in entry.modalities for entry in CATALOGUE.values())
    assert "face-mesh video 58 embedded yes, needs no" in out
    assert "microsoft/resnet-50 video 2,048 image backbone yes, weights in the" in out
    assert "facebook/dinov2-large video 1,024 image backbone no: not installed: x" in out
    assert "google/vit-base-patch16-224 video 768 image backbone yes, downloads" in out
    assert "Kartynnik et al. 2019, arXiv:1907.06724" in out
    assert "egemaps" not in out
    assert "writer of texts" not in out  # which no encoder of video reads
    assert out.endswith(f"{number - 1} of {number} can run here, 2 of them without a download")
    out, _ = run("--modality", "text")
    assert "openai/whisper-large-v3-turbo audio transcript Whisper yes, downloads" in out
    assert "features.transcriber" in out
    assert "Eagle2" not in out
    assert "nvidia/Eagle2-2B video description vision-language" in run("--modality", "behavior")[0]


def test_a_modality_that_is_none() -> None:
    assert run("--modality", "vidio", status=2) == ("", "error: no modality is named 'vidio'; did you mean 'video'?")


def test_what_a_configuration_changes(configured: tuple[str, str], tmp_path: Path) -> None:
    before = listed(*configured)
    offline = "its weights (about 440 MB) are not in the local cache, and HF_HUB_OFFLINE is set"
    assert (before[BERT]["reason"], before[BERT]["weights"]) == (offline, "to download")
    assert before["minilm"]["can_run"]
    assert "to allow that, read the code and set features.trust_remote_code" in before[EAGLE]["reason"]
    bert = tiny.write_text_model(tmp_path / "bert", "bert")
    after = listed(*configured, "--set", f'features.weights={{"{BERT}" = "{bert}"}}')
    assert (after[BERT]["can_run"], after[BERT]["weights"]) == (True, "local copy")
    assert after["BAAI/bge-large-en"]["weights"] == "to download"
    wrong = listed(*configured, "--set", f'features.weights={{"{BERT}" = "nowhere"}}')
    assert f'features.weights."{BERT}": nowhere is not a folder with the weights' in wrong[BERT]["reason"]


def test_trusted_code_of_writers_must_be_pinned(configured: tuple[str, str], tmp_path: Path) -> None:
    described = "--set", f'features.describer={{ model = "{EAGLE}" }}'
    trusted = "--set", f'features.trust_remote_code=["{EAGLE}"]'
    reason = listed(*configured, *described, *trusted)[EAGLE]["reason"]
    assert reason == (
        f"features.describer: {EAGLE} runs code that comes with its weights, which is only run at a pinned commit; set "
        "features.describer.revision to its 40 hexadecimal digits (found main)"
    )
    pinned = "--set", f'features.describer={{ model = "{EAGLE}", revision = "{COMMIT}" }}'
    reason = listed(*configured, *pinned, *trusted)[EAGLE]["reason"]
    assert reason == "its weights (about 4430 MB) are not in the local cache, and HF_HUB_OFFLINE is set"


def test_a_foreign_repository_needs_a_converted_copy(configured: tuple[str, str], tmp_path: Path) -> None:
    name = "OpenGVLab/InternVL2_5-4B"
    assert listed(*configured)[name]["reason"] == (
        f"features.describer: the repository {name} is not laid out for transformers; convert it and name the copy: "
        f'features.weights = {{ "{name}" = "path" }}'
    )
    (tmp_path / "converted").mkdir()
    (tmp_path / "converted" / "config.json").write_text("{}")
    described = "--set", f'features.describer={{ model = "{name}" }}'
    entry = listed(*configured, *described, "--set", f'features.weights={{ "{name}" = "converted" }}')[name]
    assert (entry["can_run"], entry["weights"]) == (True, "local copy")


def test_settings_need_a_file_and_a_wrong_one_is_told(configured: tuple[str, str]) -> None:
    assert run("--set", "seed=1", status=2)[1] == "error: --set needs --config: the settings change what a file says"
    assert "there is no such configuration file" in run("--config", "none.toml", status=2)[1]
