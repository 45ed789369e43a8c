import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from mmpsr.adaptation.base import AdaptationConfig, Source, Target
from mmpsr.adaptation.build import create_method
from mmpsr.adaptation.mmd import mmd
from mmpsr.adaptation.network import FeatureNetwork

SOURCE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
TARGET = torch.tensor([[2.0, 2.0], [3.0, 2.0]])


def reference(source: np.ndarray, target: np.ndarray) -> float:
    """The definition, pair by pair."""
    joint = np.concatenate([source, target])
    num = len(joint)
    width = cdist(joint, joint, "sqeuclidean").sum() / (num * num - num) / 4

    def kernel(one: np.ndarray, other: np.ndarray) -> float:
        squared = cdist(one, other, "sqeuclidean")
        return float(np.mean(sum(np.exp(-squared / (2**i * width)) for i in range(5))))

    return kernel(source, source) + kernel(target, target) - 2 * kernel(source, target)


def test_known_value() -> None:
    assert float(mmd(SOURCE, TARGET)) == pytest.approx(5.496058, abs=1e-5)
    assert reference(SOURCE.numpy(), TARGET.numpy()) == pytest.approx(5.496058, abs=2e-6)


def test_alike_samples_have_none() -> None:
    assert float(mmd(SOURCE, SOURCE)) == pytest.approx(0.0, abs=1e-6)
    assert float(mmd(SOURCE, SOURCE[[2, 0, 1]])) == pytest.approx(0.0, abs=1e-6)


def test_equal_rows_are_no_division_by_zero() -> None:
    same = torch.ones(3, 2, requires_grad=True)
    value = mmd(same, torch.ones(2, 2))
    value.backward()
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(same.grad).all()  # type: ignore[union-attr]


def test_against_the_definition_in_many_dimensions() -> None:
    generator = np.random.default_rng(0)
    source, target = generator.normal(size=(20, 64)), generator.normal(size=(13, 64)) + 0.3
    found = mmd(torch.from_numpy(source), torch.from_numpy(target))
    assert float(found) == pytest.approx(reference(source, target), rel=1e-9)
    assert float(mmd(torch.from_numpy(target), torch.from_numpy(source))) == pytest.approx(float(found), rel=1e-9)


def test_the_gradient_draws_the_samples_together() -> None:
    source, target = SOURCE.clone().requires_grad_(), TARGET.clone().requires_grad_()
    mmd(source, target).backward()
    assert source.grad is not None
    assert target.grad is not None
    assert target.grad.norm() > 0.1
    apart = TARGET.mean(dim=0) - SOURCE.mean(dim=0)
    assert (target.grad.sum(dim=0) * apart).sum() > 0  # a step against it lessens the distance
    assert (source.grad.sum(dim=0) * apart).sum() < 0


def network_and_rows() -> tuple[FeatureNetwork, Source, Target]:
    torch.manual_seed(0)
    source = Source(torch.randn(40, 6), torch.arange(40) % 2, torch.arange(40) // 10)
    return FeatureNetwork(6, bottleneck=5), source, Target(torch.randn(30, 6) + 2.0)


def test_the_discrepancy_falls_and_detached_it_trains_nothing() -> None:
    found = {}
    for name, weight, detached in (("paper", 1.0, False), ("released", 1.0, True), ("none", 0.0, False)):
        network, source, target = network_and_rows()
        training = {"lr": 0.02, "mmd_weight": weight, "detached": detached}
        config = AdaptationConfig.model_validate({"with_source": training, "width": 5})
        create_method("mmd", config).adapt(network, target, source, torch.Generator().manual_seed(0), lambda _: None)
        value = mmd(network.embed(source.features), network.embed(target.features))
        found[name] = (float(value.detach()), network)
    assert found["paper"][0] < 0.7 * found["none"][0]
    states = [found[name][1].state_dict() for name in ("released", "none")]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_source_rows_are_needed() -> None:
    network, _, target = network_and_rows()
    method = create_method("mmd", AdaptationConfig())
    with pytest.raises(TypeError, match="reads source rows"):
        method.adapt(network, target, None, torch.Generator(), lambda _: None)
