"""What `bundle.json` may hold: what asks for code or for files elsewhere is refused, and so is what is not known."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundled import small_bundle
from training.bundle.files import BundleError
from training.bundle.format import FEATURES, RECENT, SECTIONS, parse_bundle
from training.config import RunConfig


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads((small_bundle(tmp_path_factory) / "bundle.json").read_text(encoding="utf-8"))


def features(tree: dict[str, Any]) -> dict[str, Any]:
    return tree["config"]["features"]


def test_is_the_same_when_written_again(content: dict[str, Any]) -> None:
    bundle = parse_bundle(content, "there")
    assert bundle.model_dump(mode="json") == content
    assert set(content["config"]) == set(SECTIONS)
    assert set(content["config"]["features"]) == set(FEATURES) - set(RECENT)


def test_recent_settings_are_held_where_they_are_not_the_usual(content: dict[str, Any]) -> None:
    tree = copy.deepcopy(content)
    features(tree).update(vggish={"hop": 0.48}, timed=["text"], timed_rate=12.0)
    written = parse_bundle(tree, "there").model_dump(mode="json")
    given = {name: written["config"]["features"].get(name) for name in RECENT}
    assert given == {
        "vggish": {"hop": 0.48, "last_rectifier": None}, "timed": ["text"], "timed_rate": 12.0, "timed_text": None,
    }  # fmt: skip
    assert parse_bundle(written, "there").config.features.vggish.hop == 0.48


def test_every_section_is_carried_or_of_the_machine() -> None:
    assert set(RunConfig.model_fields) - set(SECTIONS) == {"corpora", "output"}
    machine = {"store", "precomputed", "num_workers", "executor", "chunk_size", "device", "batch_size", "weights",
               "trust_remote_code", "retry_failed"}  # fmt: skip
    assert set(type(RunConfig().features).model_fields) - set(FEATURES) == machine


REFUSED: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (
        lambda tree: tree.update(format_version=2),
        r"format_version is 2, this version of mmpsr reads 1; install .*mm",
    ),
    (lambda tree: tree.update(format_version=True), "format_version is True"),
    (lambda tree: tree.pop("format_version"), "format_version is None"),
    (lambda tree: features(tree).update(trust_remote_code=["a/b"]), "trust_remote_code asks to run code"),
    (lambda tree: features(tree).update(trust_remote_code=[]), "trust_remote_code asks to run code"),
    (lambda tree: tree.update(auto_map={"AutoModel": "x.Y"}), "auto_map asks to run code"),
    (
        lambda tree: tree["config"]["tasks"]["specs"]["emotion"].update(trust_remote_code=True),
        "tasks.specs.emotion.trust_remote_code asks to run code",
    ),
    (
        lambda tree: features(tree).update(weights={"a/b": "../../other"}),
        r"config\.features\.weights: '\.\./\.\./other' leads out of the bundle's folder",
    ),
    (
        lambda tree: features(tree).update(precomputed={"mine": {"path": "/data/{clip_id}.npy"}}),
        r"config\.features\.precomputed: '/data/\{clip_id\}\.npy' leads out of the bundle's folder",
    ),
    (
        lambda tree: features(tree).update(precomputed={"mine": {"path": "all.pkl", "field": "audio"}}),
        r"config\.features\.precomputed: 'all\.pkl' is a pickled file",
    ),
    (
        lambda tree: features(tree).update(weights={"a/b": "within"}),
        r"config\.features\.weights is not part of a bundle: a bundle names no file but its own",
    ),
    (lambda tree: features(tree).update(store="/store"), r"config\.features\.store: '/store' leads out"),
    (lambda tree: features(tree).update(num_workers=3), r"config\.features\.num_workers is not part of a bundle"),
    (lambda tree: tree["config"].update(corpora={}), r"config\.corpora is not part of a bundle"),
    (lambda tree: tree["config"]["model"].update(hiden_width=3), "hiden_width is not a setting; did you mean 'hidden"),
    (lambda tree: tree.update(run_me="x"), "run_me is not a setting"),
    (lambda tree: tree["sha256"].update({"../x": "0"}), r"sha256: '\.\./x' leads out of the bundle's folder"),
    (lambda tree: tree["sha256"].update({"/x": "0"}), "sha256: '/x' leads out of the bundle's folder"),
    (lambda tree: tree["sha256"].update({"model.bin": "0"}), r"sha256: 'model\.bin' is a pickled file"),
    (lambda tree: tree["sha256"].update({"other.safetensors": "0"}), "sha256"),
    (
        lambda tree: tree["sha256"].pop("README.md"),
        r"sums of \['model\.safetensors', 'novelty\.safetensors'\], expected",
    ),
    (
        lambda tree: features(tree)["encoders"].update(text="os:system"),
        r"config\.features\.encoders\.text is 'os:system', a class whose module would run here",
    ),
    (
        lambda tree: features(tree).update(describer={"model": "../evil"}),
        r"config\.features\.describer\.model: '\.\./evil' leads out",
    ),
    (
        lambda tree: features(tree).update(transcriber={"model": "./evil/model/deep"}),
        r"config\.features\.transcriber\.model: './evil/model/deep' is no repository of the hub",
    ),
    (lambda tree: tree["modalities"].append("video"), r"encoders are of \['audio', 'text'\], modalities are"),
    (lambda tree: features(tree)["encoders"].pop("text"), r"config\.features\.encoders are of \['audio'\]"),
    (lambda tree: tree["config"]["tasks"]["active"].append("unheard"), "no task is named 'unheard'"),
    (lambda tree: tree.pop("calibration"), "calibration is missing"),
    (
        lambda tree: tree["calibration"]["tasks"]["ambivalence"].update(thresholds=[0.5]),
        "calibration of ambivalence has 1 numbers, expected 2",
    ),
    (
        lambda tree: tree["calibration"]["conformal"]["ambivalence"].update(bah=[]),
        "conformal quantiles of ambivalence on bah are of 0 classes or traits, expected 1",
    ),
    (
        lambda tree: tree["calibration"]["conformal"]["ambivalence"]["bah"][0].update(quantiles=[0.5, 0.4]),
        "quantiles are finite and rise with the level",
    ),
    (lambda tree: tree.update(config=3), "config"),
    (lambda tree: tree.update(sha256=[]), "sha256"),
]


@pytest.mark.parametrize(("edit", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_refused(edit: Callable[[dict[str, Any]], object], message: str, content: dict[str, Any]) -> None:
    tree = copy.deepcopy(content)
    edit(tree)
    with pytest.raises(BundleError, match=message) as found:
        parse_bundle(tree, "there/bundle.json")
    assert "there/bundle.json" in str(found.value) or "tasks.active" in str(found.value)


def test_an_encoder_of_ones_own_has_to_be_allowed(content: dict[str, Any]) -> None:
    tree = copy.deepcopy(content)
    features(tree)["encoders"]["text"] = "no.such.package:Class"
    bundle = parse_bundle(tree, "there", allow_custom_encoders=True)
    assert bundle.config.features.encoders["text"] == "no.such.package:Class"  # and was not imported


def test_writers_from_the_hub_are_fine(content: dict[str, Any]) -> None:
    tree = copy.deepcopy(content)
    features(tree)["transcriber"] = {"model": "openai/whisper-tiny"}
    assert parse_bundle(tree, "there").config.features.transcriber.model == "openai/whisper-tiny"  # type: ignore[union-attr]


def test_modalities_have_an_order(content: dict[str, Any], tmp_path: Path) -> None:
    assert parse_bundle({**content, "modalities": ["audio", "text"]}, "there").modalities == ("audio", "text")
    with pytest.raises(BundleError, match="modalities"):
        parse_bundle({**content, "modalities": ["audio", "text", "text"]}, "there")
