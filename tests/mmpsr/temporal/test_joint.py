"""MT and JMT against an independent computation, and what the lost transposition of the released code does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.temporal import TemporalConfig
from mmpsr.temporal.joint import JMT, MT, Attend, EncoderLayer

WIDTHS = {"video": 5, "audio": 4}
LENGTHS = (9, 6)
MASK = torch.arange(9) < torch.tensor(LENGTHS).unsqueeze(1)


def create(kind: str, widths: dict[str, int] = WIDTHS, **settings: Any) -> MT | JMT:
    torch.manual_seed(0)
    channels = {"video": [6, 8], "audio": [3], "text": [4]}
    config = TemporalConfig.model_validate(
        {"kind": kind, "width": 8, "channels": {name: channels[name] for name in widths}, **settings}
    )
    model = (JMT if kind.startswith("jmt") else MT)(widths, 2, config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():  # biases that start at zero
                parameter.normal_()
    return model


def features(widths: dict[str, int] = WIDTHS, seed: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(2, 9, width, generator=generator, dtype=torch.float64) for name, width in widths.items()}


def attend(layer: Attend, queries: Tensor, keys: Tensor) -> Tensor:
    """One head, on [Q, H] and [K, H]."""
    part = layer.attention
    weights, biases = part.in_proj_weight.chunk(3), part.in_proj_bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((queries, keys, keys), weights, biases, strict=True))
    scores = (q @ k.T / q.shape[1] ** 0.5).exp()
    mixed = scores @ v / scores.sum(dim=1, keepdim=True)
    return mixed @ part.out_proj.weight.T + part.out_proj.bias


def encode(layer: EncoderLayer, values: Tensor) -> Tensor:
    def norm(x: Tensor, module: nn.LayerNorm) -> Tensor:
        return functional.layer_norm(x, (x.shape[1],), module.weight, module.bias)

    values = norm(values + attend(layer.attention, values, values), layer.attention_norm)
    up, _, down = layer.hidden
    hidden = (values @ up.weight.T + up.bias).clamp(min=0)
    return norm(values + hidden @ down.weight.T + down.bias, layer.hidden_norm)


def tokens(model: MT | JMT, values: dict[str, Tensor], clip: int, pairs: list[tuple[str, str]]) -> Tensor:
    """Outputs of the cross-attentions of one clip, [S, T, H], from its own frames alone."""
    length = LENGTHS[clip]
    alone = {name: each[clip : clip + 1, :length] for name, each in values.items()}
    mask = torch.ones(1, length, dtype=torch.bool)
    encoded = model.branches(alone, dict.fromkeys(alone, mask))
    streams = {name: each[0] for name, each in encoded.items()}
    for name, layer in model.maps.items():
        streams[name] = streams[name] @ layer.weight.T + layer.bias
    if model.has_joint:
        joined = torch.cat([streams[name] for name in model.order], dim=1)
        streams["joint"] = joined @ model.joint.weight.T + model.joint.bias
    streams = {name: encode(model.encoders[name], stream) for name, stream in streams.items()}
    return torch.stack(
        [
            attend(layer, streams[query], streams[key])
            for (query, key), layer in zip(pairs, model.crossings, strict=True)
        ]
    )


def head(model: MT | JMT, last: Tensor) -> Tensor:
    return model.head(last.unsqueeze(0), torch.ones(1, len(last), dtype=torch.bool))[0]


PAIRS = [("video", "audio"), ("audio", "video")]
JOINT_PAIRS = [*PAIRS, ("joint", "video"), ("video", "joint"), ("joint", "audio"), ("audio", "joint")]
ALL_PAIRS = [
    ("video", "audio"), ("audio", "video"), ("video", "text"), ("text", "video"), ("audio", "text"), ("text", "audio"),
]  # fmt: skip
ALL_JOINT_PAIRS = [*ALL_PAIRS, *JOINT_PAIRS[2:], ("joint", "text"), ("text", "joint")]


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "pairs"),
    [("mt", PAIRS), ("jmt", JOINT_PAIRS), ("mt_extended", ALL_PAIRS), ("jmt_extended", ALL_JOINT_PAIRS)],
)
def test_is_its_formula_on_one_clip_and_one_frame_at_a_time(kind: str, pairs: list[tuple[str, str]]) -> None:
    widths = {**WIDTHS, "text": 3} if "extended" in kind else WIDTHS
    model, values = create(kind, widths), features(widths)
    found = model(values, MASK)
    assert model.pairs == pairs
    for clip, length in enumerate(LENGTHS):
        crossed = tokens(model, values, clip, pairs)
        last = [
            attend(model.token_attention, encoded, encoded)[-1]
            for encoded in (encode(model.token_encoder, crossed[:, frame]) for frame in range(length))
        ]
        torch.testing.assert_close(found[clip, :length], head(model, torch.stack(last)))


@torch.no_grad()
@pytest.mark.parametrize(("kind", "pairs"), [("mt", PAIRS), ("jmt", JOINT_PAIRS)])
def test_the_released_form_attends_over_all_frames_of_the_batch(kind: str, pairs: list[tuple[str, str]]) -> None:
    model, values = create(kind, form="released"), features()
    crossed = torch.cat([tokens(model, values, clip, pairs) for clip in range(2)], dim=1)
    slots = [encode(model.token_encoder, slot) for slot in crossed]  # each slot: all frames of all clips
    last = attend(model.token_attention, slots[-1], slots[-1])
    torch.testing.assert_close(model(values, MASK)[MASK], head(model, last))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["mt", "jmt"])
@pytest.mark.parametrize(("form", "is_alone"), [("paper", True), ("released", False)])
def test_clips_change_each_other_in_the_released_form_alone(kind: str, form: str, is_alone: bool) -> None:
    model, values = create(kind, form=form), features()
    changed = {name: torch.cat([each[:1], each[1:] + 1]) for name, each in values.items()}
    before, after = model(values, MASK)[0], model(changed, MASK)[0]
    assert torch.allclose(before, after, rtol=0, atol=1e-12) == is_alone


@pytest.mark.parametrize(
    ("kind", "dead"),
    [
        ("jmt", [f"crossings.{index}" for index in range(5)] + ["encoders.video"]),
        ("mt", ["crossings.0", "joint"]),
    ],
)
def test_what_the_released_form_never_trains(kind: str, dead: list[str]) -> None:
    model = create(kind, form="released").train()
    model(features(), MASK).square().sum().backward()
    idle = {name for name, part in model.named_parameters() if part.grad is None or not part.grad.any()}
    assert sorted({".".join(name.split(".")[: 1 if "joint" in name else 2]) for name in idle}) == sorted(dead)
    expected = {name for name, _ in model.named_parameters() if name.startswith(tuple(f"{each}." for each in dead))}
    assert idle == expected


@pytest.mark.parametrize("kind", ["mt", "jmt"])
def test_absent_modalities_in_the_released_form(kind: str) -> None:
    values, logits = features(), []
    for filler in (0.0, 1e6):
        model = create(kind, form="released")
        values["audio"][1] = filler
        logits.append(model(values, MASK, torch.tensor([[True, True], [True, False]])))
        logits[-1].square().sum().backward()
        assert all(part.grad.isfinite().all() for part in model.parameters() if part.grad is not None)
    assert logits[0].isfinite().all()
    assert torch.equal(logits[0], logits[1])


@torch.no_grad()
@pytest.mark.parametrize("kind", ["mt", "jmt"])
def test_video_and_audio_have_their_roles_in_any_order(kind: str) -> None:
    model, turned = create(kind), create(kind, {"audio": 4, "video": 5})
    assert turned.modalities == ("audio", "video")
    assert turned.order == model.order == ("video", "audio")
    turned.load_state_dict(model.state_dict())
    assert torch.equal(model(features(), MASK), turned(features(), MASK))


@torch.no_grad()
def test_an_encoder_layer_is_torchs() -> None:
    torchs = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True).double().eval()
    own = EncoderLayer(8, 2).double().eval()
    own.attention.attention.load_state_dict(torchs.self_attn.state_dict())
    for mine, theirs in (
        (own.hidden[0], torchs.linear1), (own.hidden[2], torchs.linear2), (own.attention_norm, torchs.norm1),
        (own.hidden_norm, torchs.norm2),
    ):  # fmt: skip
        mine.load_state_dict(theirs.state_dict())
    values = torch.randn(2, 9, 8, dtype=torch.float64)
    expected = torchs(values, src_key_padding_mask=~MASK)
    torch.testing.assert_close(own(values, MASK)[MASK], expected[MASK])
    assert own(values, torch.zeros_like(MASK)).isfinite().all()
