from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from mmpsr.adaptation.base import AdaptationConfig, LabeledTarget, Source, SourceFreeConfig, WithSourceConfig
from mmpsr.adaptation.build import METHODS, create_method
from mmpsr.adaptation.loops import begin_training, set_rate, sgd, take_step
from mmpsr.adaptation.pictures import NetworkConfig, PictureNetwork, Pictures, augment
from mmpsr.adaptation.source import fit_source
from mmpsr.config import validate
from tests.support.pictured import Tiny

HEADS: tuple[Literal["bottleneck", "perceptron"], ...] = ("bottleneck", "perceptron")


def network(head: Literal["bottleneck", "perceptron"] = "bottleneck") -> PictureNetwork:
    torch.manual_seed(0)
    return PictureNetwork(Tiny(), Tiny.WIDTH, NetworkConfig(head=head), bottleneck=4)


def pictures(num: int, side: int = 8) -> Pictures:
    pixels = np.random.default_rng(0).integers(0, 256, (num, 3, side, side), dtype=np.uint8)
    return Pictures(pixels, torch.arange(num))


def test_moved_pictures_repeat_their_edge_and_some_are_mirrored() -> None:
    ramp = torch.arange(4).repeat(50, 1, 4, 1)  # each row 0 1 2 3
    torch.manual_seed(0)
    rows = {tuple(row) for picture in augment(ramp, shift=0.25, flip=0.0) for row in picture[0].tolist()}
    assert rows == {(0, 0, 1, 2), (0, 1, 2, 3), (1, 2, 3, 3)}  # a quarter of 4 pixels: one to either side, or none
    down = {tuple(picture[0, :, 0].tolist()) for picture in augment(ramp.mT, shift=0.25, flip=0.0)}
    assert down == rows
    assert torch.equal(augment(ramp, 0.0, 1.0), ramp.flip(3))
    mirrored = augment(ramp, 0.0, 0.5)[:, 0, 0, 0] == 3
    assert 10 < int(mirrored.sum()) < 40


def test_pictures_are_read_when_they_are_asked_for() -> None:
    rows = pictures(5)
    read: list[list[int]] = []

    class Watched(np.ndarray):
        def __getitem__(self, key: np.ndarray) -> np.ndarray:
            read.append(key.tolist())
            return np.asarray(self).__getitem__(key)

    watched = Pictures(rows.pixels.view(Watched), torch.tensor([4, 4, 0, 2]))
    taken = watched.take(torch.tensor([1, 3])).mirrored()
    assert read == []
    assert torch.equal(taken[torch.tensor([1])], torch.from_numpy(rows.pixels[[2]]).flip(3))
    assert [len(part) for part in watched.split(3)] == [3, 1]
    assert read == [[2], [4, 4, 0], [2]]
    assert b"".join(watched.contents()) == rows.pixels[[4, 4, 0, 2]].tobytes()


def test_the_heads() -> None:
    """512 x 1024 + 1024 + 1024 x 2 + 2, upon the encoder's own output; 768 x 256 + 256 + 2 x 256, and 516."""
    perceptron = PictureNetwork(nn.Flatten(), 512, NetworkConfig(head="perceptron"))
    assert sum(each.numel() for each in perceptron.parameters()) == 527_362
    rows = torch.arange(1024.0).view(2, 512, 1, 1)
    assert torch.equal(perceptron.eval().embed(rows), rows.flatten(1))
    assert sum(each.numel() for each in PictureNetwork(nn.Flatten(), 768, NetworkConfig()).parameters()) == 197_892


@pytest.mark.parametrize("head", HEADS)
def test_the_encoder_learns_at_a_tenth_of_the_rate_of_its_head(head: Literal["bottleneck", "perceptron"]) -> None:
    adapted = network(head)
    reads_source, source_free = (
        sgd(adapted, WithSourceConfig(lr=2e-4), nesterov=False),
        sgd(adapted, SourceFreeConfig(lr=1e-4), nesterov=True),
    )
    for optimizer, rates in ((reads_source, [2e-4, 2e-3]), (source_free, [1e-5, 1e-4])):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(rates)
        encoder, heads = (set(map(id, group["params"])) for group in optimizer.param_groups)
        assert encoder == set(map(id, adapted.backbone.parameters()))
        assert encoder | heads == set(map(id, adapted.parameters()))
        assert not encoder & heads
    set_rate(reads_source, 0.5)
    assert [group["lr"] for group in reads_source.param_groups] == [0.5, 5.0]


def test_a_step_by_hand() -> None:
    """Without momentum and decay a parameter moves by factor x rate x gradient."""
    adapted = network().train()
    plain = SourceFreeConfig(lr=0.1, momentum=0.0, weight_decay=0.0)
    before = [each.detach().clone() for each in (adapted.backbone.layer.weight, adapted.classifier.bias)]
    take_step(sgd(adapted, plain, nesterov=True), adapted(pictures(8)[torch.arange(8)]).square().sum())
    for parameter, old, factor in zip(
        (adapted.backbone.layer.weight, adapted.classifier.bias), before, (0.1, 1.0), strict=True
    ):
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) > 0
        torch.testing.assert_close(parameter.detach(), old - factor * 0.1 * parameter.grad)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "source"])
@pytest.mark.parametrize("statistics", ["source", "target"])
def test_every_method_trains_the_encoder(method: str, statistics: str) -> None:
    settings = validate(
        AdaptationConfig,
        {"with_source": {"num_epochs": 1, "lr": 0.01, "batch_size": 8}, "source_free": {"num_epochs": 1, "lr": 0.1},
         "statistics": statistics},
        "test",
    )  # fmt: skip
    adapted, rows, labels = network(), pictures(16), torch.arange(16) % 2
    before = {name: value.clone() for name, value in adapted.state_dict().items()}
    source, target = Source(rows, labels, labels), LabeledTarget(rows, rows.mirrored(), labels=labels)
    create_method(method, settings).adapt(adapted, target, source, torch.Generator().manual_seed(0), lambda _: None)
    after = adapted.state_dict()
    assert not torch.equal(after["backbone.layer.weight"], before["backbone.layer.weight"])
    assert torch.equal(after["backbone.norm.running_mean"], before["backbone.norm.running_mean"]) == (
        statistics == "source"
    )
    frozen = torch.equal(after["classifier.bias"], before["classifier.bias"])
    assert frozen == (method == "shot")


def test_training_pictures_are_changed_and_others_are_not() -> None:
    adapted, rows = network(), pictures(8)
    begin_training(adapted, AdaptationConfig(statistics="source"))
    everything = rows[torch.arange(8)]
    assert not torch.allclose(adapted.embed(everything), adapted.embed(everything))
    embedded, probabilities = adapted.outputs(rows, batch_size=3)
    assert adapted.training
    adapted.eval()
    torch.testing.assert_close(adapted.embed(everything), embedded)
    torch.testing.assert_close(adapted(everything).softmax(dim=1), probabilities)


def test_vectors_only_have_a_network_of_their_own() -> None:
    rows = pictures(4)
    with pytest.raises(TypeError, match="give fit_source one by create"):
        fit_source(Source(rows, torch.arange(4) % 2, torch.zeros(4)), AdaptationConfig(), 0)
