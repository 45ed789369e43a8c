"""What must hold for every model in time: padding, other clips, the order of keys and absent modalities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mmpsr.temporal import TemporalConfig, TemporalModel, create_temporal

WIDTHS = {"video": 5, "audio": 4, "text": 3, "behavior": 2}
CASES = [
    ("frame", 1), ("frame", 3), ("tcn", 1), ("tcn", 2), ("lfan", 1), ("lfan", 2), ("lfan", 3), ("lfan", 4), ("can", 1),
    ("can", 2), ("can", 3), ("can", 4), ("mt", 2), ("jmt", 2), ("mt_extended", 3), ("jmt_extended", 2),
    ("jmt_extended", 4),
]  # fmt: skip
CAUSAL = [case for case in CASES if "mt" not in case[0]]
LENGTHS = torch.tensor([11, 30, 5, 1])
MASK = torch.arange(30) < LENGTHS.unsqueeze(1)


def create(kind: str, num_modalities: int = 2, **settings: Any) -> TemporalModel:
    """A small model, in evaluation, whose normalisation has seen something."""
    names = list(WIDTHS)[:num_modalities]
    if kind != "frame":
        settings = {"channels": {name: [6, 4 + index] for index, name in enumerate(names)}, **settings}
    if kind not in ("frame", "tcn"):
        settings = {"width": 8, **settings}
    torch.manual_seed(0)
    model = create_temporal(
        TemporalConfig.model_validate({"kind": kind, **settings}), {name: WIDTHS[name] for name in names}, 2
    )
    with torch.no_grad():
        model(features(model, seed=9), MASK)
    return model.double().eval()


def features(model: TemporalModel, seed: int = 0, double: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    return {
        name: torch.randn(4, 30, WIDTHS[name], generator=generator, dtype=torch.float64).to(dtype)
        for name in model.modalities
    }


@torch.no_grad()
@pytest.mark.parametrize(("kind", "number"), CASES)
def test_a_clip_is_the_same_alone_and_in_a_padded_batch(kind: str, number: int) -> None:
    model = create(kind, number)
    values = features(model, double=True)
    padded = {name: torch.where(MASK.unsqueeze(-1), each, float("nan")) for name, each in values.items()}
    found = model(padded, MASK)
    assert found.shape == (4, 30, 2)
    assert not found[~MASK].any()
    for clip, length in enumerate(LENGTHS.tolist()):
        alone = {name: each[clip : clip + 1, :length] for name, each in values.items()}
        expected = model(alone, torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(found[clip, :length], expected[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_padding_changes_nothing_in_training(kind: str, number: int) -> None:
    gradients, logits = [], []
    for extra, filler in ((0, 0.0), (7, 50.0)):
        model = create(kind, number, dropout=0.0).train()
        mask = torch.nn.functional.pad(MASK, (0, extra))
        values = {
            name: torch.where(mask.unsqueeze(-1), torch.nn.functional.pad(each, (0, 0, 0, extra)), filler)
            for name, each in features(model, double=True).items()
        }
        found = model(values, mask)
        found[mask].square().sum().backward()
        logits.append(found[:, :30])
        gradients.append([part.grad for part in model.parameters() if part.grad is not None])
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-8, atol=1e-8)
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-7, atol=1e-7)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "number"), [case for case in CASES if case[1] > 1])
def test_modalities_are_known_by_name(kind: str, number: int) -> None:
    model = create(kind, number)
    values = features(model, double=True)
    turned = dict(reversed(values.items()))
    assert torch.equal(model(values, MASK), model(turned, MASK))


@torch.no_grad()
@pytest.mark.parametrize(("kind", "number"), CAUSAL)
def test_a_later_frame_changes_nothing_before_it(kind: str, number: int) -> None:
    model = create(kind, number)
    values, changed = features(model, double=True), features(model, double=True)
    for each in changed.values():
        each[1, 12] += 4
    before, after = model(values, MASK)[1], model(changed, MASK)[1]
    assert torch.equal(before[:12], after[:12])
    last = 12 + model.receptive_field
    assert (before[12:last] != after[12:last]).any(dim=1).all()
    assert torch.equal(before[last:], after[last:])
    assert model.receptive_field == (1 if kind == "frame" else 25)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "number"), [case for case in CASES if case not in CAUSAL])
def test_attention_over_time_runs_both_ways(kind: str, number: int) -> None:
    model = create(kind, number)
    values, changed = features(model, double=True), features(model, double=True)
    changed["audio"][1, 29] += 4
    assert (model(values, MASK)[1] != model(changed, MASK)[1]).any(dim=1).all()
    assert model.receptive_field is None


@torch.no_grad()
@pytest.mark.parametrize(("kind", "number"), CASES)
def test_an_absent_modality_never_matters(kind: str, number: int) -> None:
    model = create(kind, number)
    values = features(model, double=True)
    presence = torch.ones(4, number, dtype=torch.bool)
    presence[0, -1], presence[1, 0], presence[2] = False, False, False
    found = model(values, MASK, presence)
    other = {}
    for index, name in enumerate(model.modalities):
        other[name] = torch.where(presence[:, index].view(4, 1, 1), values[name], float("nan"))
    assert torch.equal(found, model(other, MASK, presence))
    assert found.isfinite().all()
    plain = model(values, MASK)
    assert torch.equal(found[3], plain[3])
    assert (found[0, 0] != plain[0, 0]).any()


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_clips_without_a_modality_or_of_zeros_are_trained_on(kind: str, number: int) -> None:
    for is_told in (False, True):
        model = create(kind, number).train()
        values = features(model, double=True)
        values[model.modalities[-1]][:2] = 0.0
        presence = torch.ones(4, number, dtype=torch.bool)
        presence[:2, -1] = False
        found = model(values, MASK, presence if is_told else None)
        found.square().sum().backward()
        assert found.isfinite().all()
        assert all(part.grad.isfinite().all() for part in model.parameters() if part.grad is not None)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["tcn", "lfan", "can", "mt", "jmt"])
def test_absent_modalities_stay_out_of_the_statistics(kind: str) -> None:
    means = []
    for filler in (0.0, 100.0):
        model = create(kind).train()
        values = features(model, double=True)
        values["audio"][1] = filler
        presence = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
        model(values, MASK, presence)
        means.append(model.branches.norms["audio"].running_mean.clone())
    assert torch.equal(means[0], means[1])


@torch.no_grad()
def test_features_are_standardised() -> None:
    model = create("lfan")
    values = features(model, double=True)
    expected = model(values, MASK)
    for standardizer in model.standardizers.values():
        standardizer.mean.fill_(3.0)
        standardizer.std.fill_(2.0)
    torch.testing.assert_close(model({name: each * 2 + 3 for name, each in values.items()}, MASK), expected)


def test_no_parameter_is_dead() -> None:
    for kind, number in CASES:
        if (kind, number) == ("lfan", 1):  # a modality that is alone attends to itself, whatever q and k are
            continue
        model = create(kind, number).train()
        model(features(model, double=True), MASK).square().sum().backward()
        dead = [name for name, part in model.named_parameters() if part.grad is None or not part.grad.any()]
        assert dead == []


def test_what_is_refused() -> None:
    model = create("lfan")
    values = features(model, double=True)
    with pytest.raises(ValueError, match=r"takes modalities \['video', 'audio'\], found \['audio', 'text'\]"):
        model({"text": values["video"], "audio": values["audio"]}, MASK)
    with pytest.raises(ValueError, match=r"features of 'audio' are \[4, 29, 4\], expected \[4, 30, 4\]"):
        model({**values, "audio": values["audio"][:, 1:]}, MASK)
    with pytest.raises(ValueError, match=r"presence is \[4, 1\], expected \[4, 2\]"):
        model(values, MASK, torch.ones(4, 1, dtype=torch.bool))
