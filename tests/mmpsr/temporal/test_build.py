"""Models in time from their configuration: published sizes, settings that are refused, and back from weights."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError

from mmpsr.config import ConfigError
from mmpsr.temporal import TemporalConfig, create_temporal, restore_temporal
from mmpsr.temporal.tcn import Branches

WIDTHS = {"video": 512, "audio": 128, "text": 768}
TABLE = {
    "video": (2_229_378, 2_446_466), "audio": (143_586, 498_370), "text": (2_622_594, 2_675_330),
    "video audio": (2_374_946, 3_010_242), "video text": (4_853_762, 5_187_202), "audio text": (2_767_970, 3_239_106),
    "video audio text": (5_001_378, 5_816_514),
}  # fmt: skip


def count(modalities: str, **settings: Any) -> int:
    config = TemporalConfig.model_validate(settings)
    with torch.device("meta"):
        model = create_temporal(config, {name: WIDTHS[name] for name in modalities.split()}, 2)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("modalities", TABLE)
def test_parameters_of_lfan_and_can_are_the_published_ones(modalities: str) -> None:
    lfan, can = TABLE[modalities]
    assert count(modalities, kind="lfan") == lfan
    assert count(modalities, kind="can", form="released") == can
    unused = len(modalities.split()) * 128 * 128 + 128
    assert count(modalities, kind="can") == can - unused
    assert modalities != "video audio text" or (unused, can - unused) == (49_280, 5_767_234)


def test_parameters_of_mt_and_jmt_are_the_published_ones() -> None:
    assert count("video audio", kind="jmt") == count("video audio", kind="jmt", form="released") == 3_738_818
    assert count("video audio", kind="mt", form="released") == 3_375_042
    assert count("video audio", kind="mt") == 3_342_146
    assert count("video audio", kind="mt_extended") == 3_342_146
    assert count("video audio", kind="jmt_extended") == 3_738_818
    # text besides: its TCN and normalisation, the joint layer's 128 x 128 weights, its encoder, 6 attentions more
    assert count("video audio text", kind="jmt_extended") == 3_738_818 + 2_608_768 + 16_384 + 99_584 + 6 * 66_048
    assert count("video audio text", kind="mt_extended") == 3_342_146 + 2_608_768 + 99_584 + 4 * 66_048
    # the public code carries text along, whose TCN and normalisation train nothing
    with torch.device("meta"):
        branches = Branches({"text": 768}, {"text": (256, 256, 128, 128)}, 5, 0.2)
    idle = sum(parameter.numel() for parameter in branches.parameters())
    assert (3_738_818 + idle, 3_375_042 + idle) == (6_347_586, 5_983_810)


def test_parameters_of_the_fusion_alone() -> None:
    def numel(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    for kind, form, expected in (("jmt", "paper", 901_888), ("mt", "released", 538_112)):
        config = TemporalConfig.model_validate({"kind": kind, "form": form})
        with torch.device("meta"):
            model = create_temporal(config, {"video": 512, "audio": 128}, 2)
        assert numel(model) - numel(model.branches) - numel(model.head) == expected
        assert {numel(layer) for layer in (*model.encoders.values(), model.token_encoder)} == {99_584}
        assert {numel(layer) for layer in (*model.crossings, model.token_attention)} == {66_048}


def test_parameters_of_the_plainest() -> None:
    assert count("video", kind="frame") == 512 * 2 + 2
    assert count("video", kind="tcn") == 2_215_296 + 256 + 128 * 2 + 2


@pytest.mark.parametrize(
    ("modalities", "kind", "found"),
    [
        ("video audio text", "jmt", "['video', 'audio', 'text']; take these two, or jmt_extended"),
        ("video", "mt", "mt is defined of video and audio, found ['video']"),
        ("audio text", "mt", "take these two, or mt_extended, which takes any modalities"),
        ("text", "jmt_extended", "jmt_extended joins at least two modalities, found ['text']"),
    ],
)
def test_modalities_that_a_kind_is_not_defined_for(modalities: str, kind: str, found: str) -> None:
    with pytest.raises(ConfigError) as error:
        count(modalities, kind=kind)
    assert found in str(error.value)


def test_a_modality_that_bears_the_name_of_the_joint_representation() -> None:
    with pytest.raises(ConfigError, match="makes a representation named 'joint'"):
        create_temporal(TemporalConfig(kind="jmt_extended"), {"joint": 3, "audio": 4}, 2)


def test_channels_of_an_unknown_modality() -> None:
    config = TemporalConfig(channels={"vidoe": (8,)})
    with pytest.raises(ConfigError, match=r"channels are given of 'vidoe', .* modalities \['video'\]"):
        create_temporal(config, {"video": 4}, 2)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"kind": "can", "num_heads": 2}, "kind 'can' has no num_heads"),
        ({"kind": "frame", "channels": {"video": [4]}}, "kind 'frame' has no channels"),
        ({"kind": "tcn", "width": 4}, "kind 'tcn' has no width"),
        ({"kind": "lfan", "num_heads": 3}, "3 heads do not divide the width 32"),
        ({"kind": "mt_extended", "form": "released"}, "no code of 'mt_extended' was released"),
        ({"channels": {"video": []}}, "at least 1 item"),
        ({"kind": "lstm"}, "'lfan'"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(ValidationError) as error:
        TemporalConfig.model_validate(settings)
    assert found in str(error.value)


def test_nothing_to_model() -> None:
    with pytest.raises(ValueError, match=r"found \[\] and 2 classes"):
        create_temporal(TemporalConfig(), {}, 2)


def test_defaults_are_those_of_the_kind() -> None:
    assert TemporalConfig(kind="can").channels_of({"video": 1, "audio": 1, "behavior": 1}) == {
        "video": (256, 256, 128, 128, 128), "audio": (128, 128, 64, 64), "behavior": (256, 256, 128, 128),
    }  # fmt: skip
    assert TemporalConfig(channels={"audio": (5,)}).channels_of({"video": 1, "audio": 1}) == {
        "video": (256, 256, 128, 128), "audio": (5,),
    }  # fmt: skip
    found = {kind: TemporalConfig.model_validate({"kind": kind}) for kind in ("tcn", "lfan", "can", "mt", "jmt")}
    assert {kind: config.rate for kind, config in found.items()} == {
        "tcn": 0.1, "lfan": 0.1, "can": 0.2, "mt": 0.2, "jmt": 0.2,
    }  # fmt: skip
    assert (found["lfan"].fusion_width, found["lfan"].heads) == (32, 2)
    assert (found["jmt"].fusion_width, found["jmt"].heads) == (128, 1)
    assert TemporalConfig(dropout=0.0).rate == 0.0


def test_a_model_comes_back_from_its_weights() -> None:
    config = TemporalConfig(channels={"video": (4,), "audio": (3,)}, width=4)
    model = create_temporal(config, {"video": 5, "audio": 6}, 2).eval()
    model.standardizers["audio"].fit(torch.randn(20, 6) + 3, torch.ones(20, dtype=torch.bool))
    restored = restore_temporal(config, ("video", "audio"), 2, model.state_dict())
    features, mask = {"audio": torch.randn(1, 8, 6), "video": torch.randn(1, 8, 5)}, torch.ones(1, 8, dtype=torch.bool)
    assert torch.equal(restored(features, mask), model(features, mask))
    assert not restored.training
    with pytest.raises(ValueError, match=r"of a model of \['audio', 'video'\], not of \['text'\]"):
        restore_temporal(config, ("text",), 2, model.state_dict())
    with pytest.raises(ValueError, match="do not fit the configuration"):
        restore_temporal(TemporalConfig(kind="frame"), ("video", "audio"), 2, model.state_dict())


@pytest.mark.parametrize("kind", get_args(TemporalConfig.model_fields["kind"].annotation))
def test_a_configuration_is_read_again_as_it_was_written(kind: str) -> None:
    config = TemporalConfig.model_validate({"kind": kind})
    assert TemporalConfig.model_validate(config.model_dump(mode="json")) == config
