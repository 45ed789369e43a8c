"""Form `network`: rows that are pictures, their encoder, and every method on people whose light differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from corpora.clips import ClipTable, CorpusError, conform
from encoders.config import FeaturesConfig
from mmpsr.adaptation.build import METHODS, create_method
from mmpsr.config import ConfigError, validate
from mmpsr.tasks import AMBIVALENCE
from tests.support import pictured
from tests.support.tiny_images import write_resnet
from training.adaptation import personalize as module
from training.adaptation.config import PersonalizationConfig
from training.adaptation.figures import comparisons
from training.adaptation.material import Material
from training.adaptation.personalize import Work, adapt_person, personalize
from training.adaptation.pictures import image_encoder, material_of_pictures
from training.adaptation.splitting import cut

QUICK: dict[str, Any] = {
    "form": "network",
    "width": 8,
    "source": {"num_epochs": 1},
    "with_source": {"num_epochs": 1, "lr": 0.01, "batch_size": 16},
    "subject": {"num_epochs": 1},
    "source_free": {"num_epochs": 1, "lr": 0.1, "batch_size": 16},
}


def config(**sections: Any) -> PersonalizationConfig:
    return validate(PersonalizationConfig, {**QUICK, **sections}, "test")


@pytest.fixture(scope="module")
def people() -> Material:
    return pictured.material(0, num_train=2, num_dev=1, num_test=2, shift=40.0, contrast=4.0)


@pytest.mark.parametrize("head", ["bottleneck", "perceptron"])
def test_what_is_done_is_not_done_again(
    people: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    settings, backbone = config(network={"head": head}), pictured.backbone()
    whole = personalize(people, settings, tuple(METHODS), tmp_path / "whole", backbone=backbone)
    judged: list[Work] = []
    judge = module.judge_person

    def stops(person: Material, settings: Any, work: Work, *rest: Any) -> dict[str, Any]:
        if len(judged) == 5:
            raise KeyboardInterrupt
        judged.append(work)
        return judge(person, settings, work, *rest)

    monkeypatch.setattr(module, "judge_person", stops)
    with pytest.raises(KeyboardInterrupt):
        personalize(people, settings, tuple(METHODS), tmp_path / "stopped", backbone=backbone)
    monkeypatch.setattr(module, "judge_person", judge)
    monkeypatch.setattr(module, "fit_source", lambda *_: pytest.fail("the source network was kept"))
    torch.manual_seed(5)  # whatever was drawn before changes nothing
    again = personalize(people, settings, tuple(METHODS), tmp_path / "stopped", backbone=backbone)
    assert again["participants"] == whole["participants"]
    assert len({row["average_precision"] for row in whole["participants"]}) > 6


def test_the_encoder_and_its_settings_are_part_of_what_is_kept(people: Material, tmp_path: Path) -> None:
    def folder(backbone_key: str | None = "tiny", **sections: Any) -> str:
        backbone = pictured.backbone()
        backbone = None if backbone_key is None else type(backbone)(backbone.make, backbone.width, backbone_key)
        return module._key(config(**sections), (), people, backbone)

    changed = [folder(), folder("other"), folder(network={"flip": 0.0}), folder(None)]
    assert len(set(changed)) == 4
    assert folder(None) == folder(None, form="features", network={"flip": 0.0})  # of no matter upon vectors


@pytest.mark.parametrize("method", METHODS)
def test_target_labels_change_nothing_but_the_oracle(people: Material, method: str) -> None:
    settings = config()
    network = pictured.backbone().network(settings, torch.device("cpu")).eval()
    source = module._source(people, np.flatnonzero(people.splits == "train"))
    person = people.take(np.flatnonzero(people.participants == "test0"))
    parts = cut(person, settings.protocol, 0)

    def present(of: Material) -> np.ndarray:
        return adapt_person(of, parts, create_method(method, settings), network, source, settings, 0)[0]

    plain = present(person)
    for rows in (parts.train, parts.test):
        labels = person.labels.copy()
        labels[rows] = 1 - labels[rows]
        is_same = np.array_equal(plain, present(Material(**{**person.__dict__, "labels": labels})))
        assert is_same != (method == "oracle" and rows is parts.train)


def encoders(**names: str) -> FeaturesConfig:
    return FeaturesConfig(encoders=names)


def test_encoders_without_a_network_for_pictures() -> None:
    with pytest.raises(ConfigError, match=r"'face-mesh' \(video\) has no network that pictures go into; name one such"):
        image_encoder("video", encoders(video="face-mesh"))
    with pytest.raises(ConfigError, match=r"'MCG-NJU/videomae-base' \(video\) sees a clip as a whole"):
        image_encoder("video", encoders(video="MCG-NJU/videomae-base"))


def test_pictures_that_are_not_at_hand(tmp_path: Path) -> None:
    features = FeaturesConfig(
        encoders={"video": "microsoft/resnet-50"}, weights={"microsoft/resnet-50": str(write_resnet(tmp_path / "net"))}
    )
    encoder = image_encoder("video", features)
    row = {"corpus": "own", "split": "test", "clip_id": "a", "group": "p", "group_kind": "participant"}

    def ask(media: str, rows: str = "clips") -> None:
        table = ClipTable(conform(pd.DataFrame([{**row, "media": str(tmp_path / media)}])))
        settings = config(protocol={"rows": rows})
        material_of_pictures(
            table, "own", encoder, features, settings, "ambivalence", AMBIVALENCE, "participant", tmp_path / "kept",
            torch.device("cpu"), lambda *_: None,
        )  # fmt: skip

    with pytest.raises(ConfigError, match=r"but clip 'a' of corpus 'own' is a \.mp4 file; take its frames"):
        ask("a.mp4")
    for media, rows in (("a.jpg", "clips"), ("a.mp4", "frames")):
        with pytest.raises(CorpusError, match=r"none of the 1 clips of corpus 'own' gives a picture; the first: .*a\."):
            ask(media, rows)


def over_people(folder: Path, shift: float, contrast: float, **settings: Any) -> dict[str, dict[str, Any]]:
    """AVGF1's difference from source only over 8 people, by method."""
    learned = config(source={"num_epochs": 8}, source_free={"num_epochs": 8, "lr": 0.03},
                     with_source={"num_epochs": 8, "lr": 0.003}, subject={"num_epochs": 2}, **settings)  # fmt: skip
    found = personalize(
        pictured.material(0, num_test=8, shift=shift, contrast=contrast), learned, tuple(METHODS)[:5], folder,
        backbone=pictured.backbone(),
    )  # fmt: skip
    table = comparisons(pd.DataFrame(found["participants"]))
    return {row["method"]: row["difference"] for row in table if row["figure"] == "average_f1"}


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["target", "source"])
def test_a_light_of_their_own_is_made_good(tmp_path: Path, statistics: str) -> None:
    """Also without BatchNorm's averages: the encoder learns to see it."""
    found = over_people(tmp_path, 20.0, 14.0, statistics=statistics)
    assert found.keys() == {"mmd", "subject", "shot", "nrc"}
    assert all(difference["low"] > 0.0 and difference["value"] > 10.0 for difference in found.values()), found


@pytest.mark.slow
def test_without_a_light_of_their_own_none_gains(tmp_path: Path) -> None:
    found = over_people(tmp_path, 0.0, 5.0)
    assert all(difference["low"] <= 0.0 and abs(difference["value"]) < 5.0 for difference in found.values()), found
