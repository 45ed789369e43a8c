import sys

import pytest
import torch
from torch import Tensor

from mmpsr.balancing.base import Balancer
from mmpsr.balancing.build import create_balancer
from mmpsr.balancing.config import BalancingConfig
from mmpsr.balancing.gradient_based import METHODS
from mmpsr.config import ConfigError

KEYS = [(branch, task) for branch in ("supervised", "pseudo") for task in ("a", "b")]
ALL = torch.ones(2, 2, dtype=torch.bool)


def create(method: str, pseudo_weight: float = 0.5) -> Balancer:
    return create_balancer(KEYS, BalancingConfig(method=method, pseudo_weight=pseudo_weight))


def products(seed: int = 0) -> Tensor:
    gradients = torch.randn(4, 30, generator=torch.Generator().manual_seed(seed))
    return gradients @ gradients.T


@pytest.mark.parametrize("method", METHODS)
def test_combined_gradient_is_that_of_the_librarys_aggregator(method: str) -> None:
    """On the gradients themselves, scaled by 1 and lambda, up to the length, which we set to the number of losses."""
    from torchjd import aggregation

    aggregator = {
        "pcgrad": aggregation.PCGrad,
        "cagrad": lambda: aggregation.CAGrad(c=0.5),
        "aligned_mtl": aggregation.AlignedMTL,
        "imtl_g": aggregation.IMTLG,
        "mgda": aggregation.MGDA,
        "upgrad": aggregation.UPGrad,
    }[method]()
    gradients = torch.randn(4, 30, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    gradients[1] -= 1.5 * gradients[0]  # a conflict
    balancer = create(method)
    weights = balancer.update(torch.ones(2, 2), ALL, gradients @ gradients.T)
    found = weights.flatten().double() @ gradients
    torch.manual_seed(1)  # the order of pcgrad at the first step
    scaled = torch.tensor([1.0, 1.0, 0.5, 0.5], dtype=torch.float64).unsqueeze(1) * gradients
    wanted = aggregator(scaled / scaled.norm(dim=1).square().mean().sqrt())
    cosine = torch.nn.functional.cosine_similarity(found, wanted, dim=0)
    assert float(cosine) == pytest.approx(1.0, abs=1e-4)
    base = torch.tensor([1.0, 1.0, 0.5, 0.5])
    assert float((weights.flatten() / base).sum()) == pytest.approx(4.0, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_absent_losses_keep_plain_weights_and_do_not_matter(method: str) -> None:
    present = torch.tensor([[True, True], [True, False]])
    gramian = products()
    gramian[3] = gramian[:, 3] = 0.0
    one = create(method).update(torch.ones(2, 2), present, gramian).clone()
    assert float(one[1, 1]) == 0.5
    gramian[3, 3] = 7.0
    torch.testing.assert_close(create(method).update(torch.ones(2, 2), present, gramian), one)
    alone = create(method).update(torch.ones(2, 2), torch.tensor([[True, False], [False, False]]), products())
    assert alone.tolist() == [[1.0, 1.0], [0.5, 0.5]]


def test_orders_are_the_same_in_all_processes() -> None:
    first, second = create("pcgrad"), create("pcgrad")
    for step in range(4):
        torch.manual_seed(10 + step)
        one = first.update(torch.ones(2, 2), ALL, products(step)).clone()
        before = torch.random.get_rng_state()
        torch.manual_seed(99)
        assert torch.equal(one, second.update(torch.ones(2, 2), ALL, products(step)))
        torch.random.set_rng_state(before)


def test_the_random_numbers_of_training_are_left_alone() -> None:
    torch.manual_seed(0)
    create("pcgrad").update(torch.ones(2, 2), ALL, products())
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


def test_plain_weights_for_single_tasks() -> None:
    balancer = create("mgda")
    balancer.update(torch.ones(2, 2), ALL, products())
    assert balancer.tower_weights.tolist() == [[1.0, 1.0], [0.5, 0.5]]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ConfigError, match=r"balancing.method = 'upgrad' needs a library.*\.\[balancing\]"):
        create("upgrad")
