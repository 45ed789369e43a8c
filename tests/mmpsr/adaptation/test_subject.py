import pytest
import torch

from mmpsr.adaptation.base import AdaptationConfig, Source, SubjectConfig, Target
from mmpsr.adaptation.mmd import mmd
from mmpsr.adaptation.network import FeatureNetwork
from mmpsr.adaptation.subject import REFUSED, SubjectBased, acceptance_threshold, accepted_labels, accepted_term

SURE, UNSURE, OTHER = [0.04, 0.96], [0.10, 0.90], [0.97, 0.03]


def test_thresholds_fall_by_two_hundredths_at_every_renewal() -> None:
    found = [acceptance_threshold(SubjectConfig(), epoch) for epoch in range(10)]
    assert found == pytest.approx([0.95] * 4 + [0.93] * 4 + [0.91] * 2)


def test_labels_of_two_views() -> None:
    first = torch.tensor([SURE, SURE, SURE, UNSURE])
    second = torch.tensor([SURE, UNSURE, OTHER, [0.0, 1.0]])
    # means of the largest: 0.96 accepted; 0.93 refused; 0.965, but of two classes; 0.95 is not above 0.95
    assert accepted_labels(first, second, 0.95).tolist() == [1, REFUSED, REFUSED, REFUSED]
    assert accepted_labels(first, second, 0.93 - 1e-6).tolist() == [1, 1, REFUSED, 1]
    # without agreement the surer view's class is taken, 0.97 of the other class
    assert accepted_labels(first, second, 0.95, must_agree=False).tolist() == [1, REFUSED, 0, REFUSED]


def test_labels_of_one_view() -> None:
    first = torch.tensor([SURE, UNSURE, OTHER])
    assert accepted_labels(first, None, 0.95).tolist() == [1, REFUSED, 0]


def test_the_term_is_the_mean_over_accepted_rows_and_nothing_without_any() -> None:
    logits = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 2.0]], requires_grad=True)
    term = accepted_term(logits, torch.tensor([0, REFUSED, 0]))
    expected = (torch.log(torch.tensor(2.0)) + torch.log1p(torch.exp(torch.tensor(2.0)))) / 2
    torch.testing.assert_close(term, expected)
    term.backward()
    assert logits.grad is not None
    assert logits.grad[1].tolist() == [0.0, 0.0]
    assert float(accepted_term(logits, torch.full((3,), REFUSED))) == 0.0


def source_of_people(seed: int = 0) -> Source:
    """Four people of whom each is moved by as much as the classes are apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(160) % 2
    people = torch.arange(160) // 40
    moved = torch.randn(4, 6, generator=generator)[people] * 2
    features = torch.randn(160, 6, generator=generator) + moved + labels.unsqueeze(1)
    return Source(features, labels, people)


def between_people(network: FeatureNetwork, source: Source) -> float:
    embedded = network.eval().embed(source.features)
    parts = [embedded[source.subjects == person] for person in range(4)]
    return sum(float(mmd(one, other)) for index, one in enumerate(parts) for other in parts[:index])


def test_the_first_stage_aligns_people() -> None:
    found = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        network, source = FeatureNetwork(6, bottleneck=5), source_of_people()
        training = {"with_source": {"lr": 0.02, "batch_size": 16, "mmd_weight": weight}, "subject": {"num_epochs": 20}}
        SubjectBased(AdaptationConfig.model_validate(training)).prepare(network, source, torch.Generator())
        found[weight] = between_people(network, source)
    assert found[1.0] < 0.8 * found[0.0]


def test_a_single_person_is_aligned_with_nobody() -> None:
    network, source = FeatureNetwork(6, bottleneck=5), source_of_people()
    alone = Source(source.features, source.labels, torch.zeros_like(source.subjects))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    SubjectBased(AdaptationConfig()).prepare(network, alone, torch.Generator())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def labels_at(target: Target, **changes: float | bool) -> list[list[int]]:
    """Pseudo-labels at epochs 0, 1 and 4 of a network whose logits are the first two columns."""
    network = FeatureNetwork(2, bottleneck=2)
    with torch.no_grad():
        network.bottleneck[0].weight.copy_(torch.eye(2))  # type: ignore[union-attr, operator]
        network.bottleneck[0].bias.zero_()  # type: ignore[union-attr, operator]
        network.classifier.weight = torch.eye(2)
        network.classifier.bias.zero_()
    method = SubjectBased(AdaptationConfig.model_validate({"subject": changes}))
    found = []
    for epoch in (0, 1, 4):
        method.begin_epoch(network, target, epoch, torch.Generator().manual_seed(0))
        found.append(method.labels.tolist())
    return found


def test_pseudo_labels_are_renewed_over_all_rows() -> None:
    # sigmoid(3.5) = 0.971, sigmoid(2.8) = 0.943: refused at 0.95, accepted at 0.93 four epochs later
    rows = torch.tensor([[3.5, 0.0], [0.0, 2.8]])
    assert labels_at(Target(rows)) == [[0, REFUSED], [0, REFUSED], [0, 1]]
    # with the mirrored picture, whose other class is sure, the first is refused
    assert labels_at(Target(rows, mirrored=rows.flip(1))) == [[REFUSED, REFUSED]] * 3
    assert labels_at(Target(rows, mirrored=rows)) == labels_at(Target(rows))


def test_noise_makes_a_second_view_only_where_it_is_asked_for() -> None:
    rows = torch.tensor([[3.5, 0.0], [0.0, 2.8]]).repeat(50, 1)
    plain, noisy = labels_at(Target(rows))[0], labels_at(Target(rows), view_noise=2.0)[0]
    assert plain == [0, REFUSED] * 50
    assert noisy != plain
    assert labels_at(Target(rows, mirrored=rows), view_noise=2.0)[0] == plain  # a mirrored picture comes before it
